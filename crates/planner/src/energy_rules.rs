//! What a group does about energy: the settings as they were validated.

use crate::{
    period::Period,
    units::{MilliWattHours, MilliWatts},
};

/// What a group does about the energy that its members use; `None` does not hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EnergyRules {
    /// What all members together may use in one civil day. After that they are off until midnight.
    pub daily_budget: Option<MilliWattHours>,
    /// What all members together may draw.
    pub power_limit: Option<PowerLimit>,
    /// When a member's load has finished.
    pub finished: Option<Finished>,
    /// When a member's load is on standby, and is switched off.
    pub standby: Option<Standby>,
}

impl EnergyRules {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What all members together may draw. The last in the group's list that is on goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerLimit {
    /// The most.
    pub max: MilliWatts,
    /// A member comes back if the sum with it is at most this. Not above [`PowerLimit::max`].
    pub resume_below: MilliWatts,
    /// How long a member is off at least.
    pub min_off: Period,
}

impl PowerLimit {
    /// [`PowerLimit::min_off`] unless set otherwise: 1 min.
    pub const MIN_OFF: Period = Period::minutes(1);

    /// [`PowerLimit::resume_below`] unless set otherwise: nine tenths.
    pub const fn default_resume_below(power: MilliWatts) -> MilliWatts {
        power.percent(90)
    }
}

/// A load that drew [`Finished::below`] or more, and then less for some time, has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Less than this is quiet.
    pub below: MilliWatts,
    /// For how long it has to be quiet.
    pub length: Period,
    /// What happens then.
    pub then: IfFinished,
}

/// What happens when a load has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfFinished {
    /// It is reported.
    Report,
    /// It is reported, and the outlet is switched off.
    Off,
}

/// A load that draws little for some time is switched off, whatever it drew before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standby {
    /// Less than this is standby.
    pub below: MilliWatts,
    /// For how long.
    pub length: Period,
}
