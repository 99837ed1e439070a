//! Overrides: what is wanted instead of the schedules, and when that ends by itself.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    level::{next_change, next_closing, next_edge, next_opening},
    location::Location,
    period::Period,
    rules::{Group, Rules},
    thermostat::{Hold, Preset, ThermostatMode},
};
use crate::{Now, OutletPath, Power, Steady, deadline::Deadline};

/// The state that an override wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverrideState {
    /// On, within the limits.
    On,
    /// Off.
    Off,
    /// Whatever it is: it is not switched until the next edge (`on_external_change = ignore`).
    Leave,
    /// What the thermostat of its group makes of this instead of its targets.
    Thermostat(Hold),
}

impl From<Power> for OverrideState {
    fn from(power: Power) -> Self {
        match power {
            Power::On => Self::On,
            Power::Off => Self::Off,
        }
    }
}

impl OverrideState {
    /// The wanted state; `None` is whatever it is.
    pub fn power(self) -> Option<Power> {
        match self {
            Self::On => Some(Power::On),
            Self::Off => Some(Power::Off),
            Self::Leave | Self::Thermostat(_) => None,
        }
    }

    /// What a thermostat holds by it; `None` for what is no thermostat's.
    pub fn hold(self) -> Option<Hold> {
        match self {
            Self::Thermostat(hold) => Some(hold),
            Self::On | Self::Off | Self::Leave => None,
        }
    }

    /// The mode that a thermostat shows. An override of the outlets themselves is shown as what it comes to.
    pub fn thermostat_mode(self) -> ThermostatMode {
        match self {
            Self::On | Self::Thermostat(Hold::Heat(_)) => ThermostatMode::Heat,
            Self::Off | Self::Thermostat(Hold::Off) => ThermostatMode::Off,
            Self::Leave | Self::Thermostat(_) => ThermostatMode::Auto,
        }
    }

    /// The preset that a thermostat shows.
    pub fn preset(self) -> Preset {
        match self {
            Self::Thermostat(Hold::Away) => Preset::Away,
            Self::Thermostat(Hold::Boost(_)) => Preset::Boost,
            Self::On | Self::Off | Self::Leave | Self::Thermostat(_) => Preset::None,
        }
    }

    /// Whether it can only keep its outlet off.
    pub fn keeps_off(self) -> bool {
        match self {
            Self::Off | Self::Leave | Self::Thermostat(Hold::Off) => true,
            Self::On | Self::Thermostat(_) => false,
        }
    }
}

/// How long an override is asked to last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// Until the first edge after now that contradicts it.
    #[default]
    UntilNextSchedule,
    /// For a length of real time, at most [`Lifetime::LONGEST`].
    For(Period),
    /// Until an instant after now.
    Until(Timestamp),
    /// Until `AUTO`.
    Hold,
}

impl Lifetime {
    /// The longest `for`: 24 h.
    pub const LONGEST: SignedDuration = SignedDuration::from_hours(24);
}

/// Who set an override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A command to the bridge.
    Command,
    /// The button of the device, or the app.
    Device,
    /// A protection of the device, such as that against overload.
    Protection,
    /// The auto-off setting of the device.
    AutoOff,
    /// Its return after its power or its link was gone ([`OnReconnect`](super::rules::OnReconnect)).
    #[serde(alias = "come_back")]
    OnReconnect,
    /// Its load has finished ([`Finished`](crate::energy_limits::Finished)).
    Finished,
    /// Its load is on standby ([`Standby`](crate::energy_limits::Standby)).
    Standby,
}

/// One override of one outlet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// `stance` in the state file.
    #[serde(rename = "stance")]
    state: OverrideState,
    set_at: Timestamp,
    /// The same moment on the steady clock; not in state files of 0.1.0.
    #[serde(default)]
    since: Option<Steady>,
    ends: Ends,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ends {
    AtEdge,
    /// A person named a time of day.
    At(Timestamp),
    /// A person named a length.
    After(Steady),
    Never,
}

/// Why a lifetime is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// `for` is longer than a day.
    #[error("an override lasts at most 24h; use hold to keep it until AUTO")]
    TooLong,
    /// `until` is over.
    #[error("{0} is not in the future")]
    Past(Timestamp),
}

impl Override {
    /// An override from now on.
    ///
    /// # Errors
    /// `for` is longer than [`Lifetime::LONGEST`], or `until` is not after now.
    pub fn new(
        state: OverrideState,
        lifetime: Lifetime,
        origin: Origin,
        now: Now,
    ) -> Result<Self, OverrideError> {
        let ends = match lifetime {
            Lifetime::UntilNextSchedule => Ends::AtEdge,
            Lifetime::For(length) if length.length() > Lifetime::LONGEST => {
                return Err(OverrideError::TooLong);
            }
            Lifetime::For(length) => Ends::After(now.steady.after(length.length())),
            Lifetime::Until(instant) if instant <= now.wall => return Err(OverrideError::Past(instant)),
            Lifetime::Until(instant) => Ends::At(instant),
            Lifetime::Hold => Ends::Never,
        };
        Ok(Self {
            state,
            set_at: now.wall,
            since: Some(now.steady),
            ends,
            origin,
        })
    }

    /// An override from now on, until a deadline that a person named.
    pub fn until(state: OverrideState, ends: Deadline, origin: Origin, now: Now) -> Self {
        Self {
            state,
            set_at: now.wall,
            since: Some(now.steady),
            ends: match ends {
                Deadline::Wall(instant) => Ends::At(instant),
                Deadline::Steady(end) => Ends::After(end),
            },
            origin,
        }
    }

    /// The wanted state.
    pub fn state(&self) -> OverrideState {
        self.state
    }

    /// Whether it says something about a group. One that a thermostat holds means nothing without one, and one that leaves
    /// an outlet as it is means nothing to a thermostat, which leaves nothing as it is.
    pub fn applies_to(&self, group: &Group) -> bool {
        match self.state {
            OverrideState::On | OverrideState::Off => true,
            OverrideState::Leave => group.thermostat.is_none(),
            OverrideState::Thermostat(_) => group.thermostat.is_some(),
        }
    }

    /// This override with another state: it ends when this one would.
    #[must_use]
    pub fn with(self, state: OverrideState) -> Self {
        Self { state, ..self }
    }

    /// When it ends, if a person named a length or a time: the end that an outlet without schedules keeps as a timer.
    pub fn named_end(&self) -> Option<Deadline> {
        match self.ends {
            Ends::At(instant) => Some(Deadline::Wall(instant)),
            Ends::After(end) => Some(Deadline::Steady(end)),
            Ends::AtEdge | Ends::Never => None,
        }
    }

    /// When it was set.
    pub fn set_at(&self) -> Timestamp {
        self.set_at
    }

    /// Who set it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// When it ends by itself; `None` is at `AUTO` only.
    ///
    /// An edge is where the group's windows, all taken together, open or close: only enabled schedules count,
    /// their conditions do not. Without one in the coming week it lasts [`Group::override_default`].
    pub fn end(&self, group: &Group, location: &Location, now: Now) -> Option<Timestamp> {
        let edge = match (self.ends, self.state) {
            (Ends::Never, _) => return None,
            (Ends::At(instant), _) => return Some(instant),
            (Ends::After(end), _) => return Some(now.wall_at(end)),
            (Ends::AtEdge, OverrideState::On) => next_closing(group, location, self.set_at),
            (Ends::AtEdge, OverrideState::Off) => next_opening(group, location, self.set_at),
            (Ends::AtEdge, OverrideState::Leave) => next_change(group, location, self.set_at),
            (Ends::AtEdge, OverrideState::Thermostat(_)) => next_edge(group, location, self.set_at),
        };
        Some(edge.unwrap_or_else(|| {
            let since = self.since.unwrap_or_else(|| now.steady_at(self.set_at));
            now.wall_at(since.after(group.override_default.length()))
        }))
    }
}

/// The overrides of all outlets, one each. An override of a group is one of each member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overrides(BTreeMap<OutletPath, Override>);

impl Overrides {
    /// Sets the override of an outlet; a newer one replaces an older one.
    pub fn set(&mut self, outlet: OutletPath, new: Override) {
        self.0.insert(outlet, new);
    }

    /// The override of an outlet, whether it has ended or not.
    pub fn get(&self, outlet: &OutletPath) -> Option<&Override> {
        self.0.get(outlet)
    }

    /// `AUTO`: ends the override of an outlet.
    pub fn clear(&mut self, outlet: &OutletPath) -> Option<Override> {
        self.0.remove(outlet)
    }

    /// The override of an outlet that has not ended, and when it will.
    pub fn active(
        &self,
        outlet: &OutletPath,
        group: &Group,
        location: &Location,
        now: Now,
    ) -> Option<(Override, Option<Timestamp>)> {
        let found = *self.0.get(outlet)?;
        let end = found.end(group, location, now);
        let is_active = found.applies_to(group) && end.is_none_or(|end| now.wall < end);
        is_active.then_some((found, end))
    }

    /// Takes out what has ended, and what belongs to no scheduled group any more.
    pub fn expire(&mut self, rules: &Rules, now: Now) -> Vec<(OutletPath, Override)> {
        let ended = |outlet: &OutletPath| {
            let group = rules.group_of(outlet).filter(|group| group.is_scheduled());
            group.is_none_or(|group| self.active(outlet, group, &rules.location, now).is_none())
        };
        let ended: Vec<OutletPath> = self.0.keys().filter(|outlet| ended(outlet)).cloned().collect();
        let take = |outlet: OutletPath| self.0.remove(&outlet).map(|found| (outlet, found));
        ended.into_iter().filter_map(take).collect()
    }

    /// All of them, by outlet.
    pub fn iter(&self) -> impl Iterator<Item = (&OutletPath, &Override)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_in_state_files_of_0_1_0_are_read() {
        let origin: Origin = serde_json::from_str(r#""come_back""#).unwrap();
        assert_eq!(origin, Origin::OnReconnect);
    }
}
