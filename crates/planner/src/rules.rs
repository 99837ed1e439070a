//! Groups, schedules and limits as they were validated: rules are data.

use std::{fmt, str::FromStr};

use super::{
    ScheduleId,
    condition::Condition,
    days::Days,
    location::Location,
    period::{Period, PeriodError},
    sensor::SensorSpec,
    window::Window,
};
use crate::energy_limits::EnergyRules;
use crate::{DeviceId, GroupId, OutletPath};

/// Everything the planner decides by that a person wrote down.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Where, and in which time zone.
    pub location: Location,
    /// The sensors that conditions name, each id once.
    pub sensors: Vec<SensorSpec>,
    /// The groups, in the order of the file. An outlet is in one group at most.
    pub groups: Vec<Group>,
}

impl Rules {
    /// A group by its name.
    pub fn group(&self, id: &GroupId) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == *id)
    }

    /// The group an outlet belongs to.
    pub fn group_of(&self, outlet: &OutletPath) -> Option<&Group> {
        self.groups.iter().find(|group| group.outlets.contains(outlet))
    }

    /// What is wrong with the group that names a device as one outlet, though it has several.
    pub fn strip_as_outlet(&self, device: &DeviceId, outlets: usize) -> Option<String> {
        // Asked for each report of each plug too, so that must not walk all groups.
        if outlets <= 1 {
            return None;
        }
        let group = self.group_of(&OutletPath::device(device.clone()))?;
        let names: Vec<String> = (1..=outlets)
            .map(|position| format!("{device}/{position}"))
            .collect();
        Some(format!(
            "{device} is a strip, and group {} has it as one outlet; name its outlets instead: {}",
            group.id,
            names.join(", ")
        ))
    }
}

/// Outlets that are switched together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name in topics.
    pub id: GroupId,
    /// What people call it.
    pub name: String,
    /// Its members: a plug, or an outlet of a strip.
    pub outlets: Vec<OutletPath>,
    /// Its schedules, in the order of the file. Without any the group is manual: the planner never switches
    /// it.
    pub schedules: Vec<Schedule>,
    /// The limits of every member, also while no schedule is active.
    pub limits: Limits,
    /// What it does about the energy that its members use.
    pub energy: EnergyRules,
    /// How long an override until the next edge lasts when no edge of the coming week can end it, as with an
    /// all-day schedule.
    pub override_default: Period,
    /// The pause between switching on two members; `None` switches all at once. Off is never late.
    pub stagger: Option<Period>,
    /// Whether its schedules run while nobody is at home.
    pub in_vacation: InVacation,
    /// What to do about a change that the bridge did not make.
    pub on_external_change: OnExternalChange,
    /// What to do when an outlet is reachable again.
    pub on_reconnect: OnReconnect,
    /// Whether plugs hold its OFF edges themselves.
    pub sync_off_to_device: SyncOffToDevice,
    /// How many members may be on at once.
    pub interlock: Interlock,
}

impl Group {
    /// [`Group::override_default`] unless said otherwise: 3 h.
    pub const OVERRIDE_DEFAULT: Period = Period::hours(3);

    /// Whether it has schedules, and so commands to it are overrides.
    pub fn is_scheduled(&self) -> bool {
        !self.schedules.is_empty()
    }
}

/// What vacation does to a group's schedules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InVacation {
    /// They turn nothing on.
    #[default]
    Rest,
    /// They run as ever (`run_in_vacation = true`).
    Run,
}

/// Whether plugs switch off at the OFF edges of a group by rules of their own, even if the bridge is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SyncOffToDevice {
    /// They hold nothing.
    #[default]
    No,
    /// Those that can do (`sync_off_to_device = true`).
    Yes,
}

/// What to do when an outlet changed without us: its button, the app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnExternalChange {
    /// Treat it as an override.
    #[default]
    Override,
    /// Switch it back.
    Enforce,
    /// Leave it as it is until the next edge.
    Ignore,
}

/// What to do when an outlet is reachable again after its power or its link was gone, whatever it was found as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnReconnect {
    /// Switch it to what it should be.
    #[default]
    Reconcile,
    /// Leave it as it is until the next edge.
    Keep,
    /// Switch it off, and leave it off until the next edge that turns it on.
    Off,
}

/// How many members of a group may be on at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interlock {
    /// All of them.
    #[default]
    Free,
    /// One at most (`interlock = true`): the newest goes on once the others are confirmed off. Such a group has no
    /// schedules, which would turn on all of it.
    OneOn,
}

/// When a group is on, and under which conditions and limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its name, unique in the group.
    pub id: ScheduleId,
    /// A disabled schedule is never active; its group stays scheduled.
    pub enabled: bool,
    /// Which of several active schedules wins.
    pub priority: Priority,
    /// The weekdays its windows start on.
    pub days: Days,
    /// The part of those days.
    pub window: Window,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Where it differs from the group's limits while it wins.
    pub limits: LimitChanges,
    /// What to do about a window that was open already when the bridge started.
    pub catch_up: CatchUp,
}

/// Which of several active schedules wins; among equals the first in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Gives way to the others.
    Low,
    /// Unless said otherwise.
    #[default]
    Normal,
    /// Wins.
    Critical,
}

/// What a schedule does about the time before the bridge started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// Switch to what should be now.
    #[default]
    Apply,
    /// Leave the outlets as they are until the next edge.
    Skip,
}

/// A limit of time, or none. Reads a [`Period`] or `none`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Limit {
    /// Not limited.
    #[default]
    None,
    /// Limited to this.
    Of(Period),
}

impl FromStr for Limit {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        if text.trim().eq_ignore_ascii_case("none") {
            Ok(Self::None)
        } else {
            text.parse().map(Self::Of)
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Of(period) => fmt::Display::fmt(period, f),
        }
    }
}

/// What keeps an outlet from running too long, whatever switched it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest it runs without a pause.
    pub max_on: Limit,
    /// How long it stays off after it ran into a limit.
    pub cooldown: Limit,
    /// How long it stays off after each OFF, as compressors need.
    pub min_off: Limit,
    /// The longest it runs in one civil day (midnight to midnight in [`Location::zone`]).
    pub max_on_per_day: Limit,
}

impl Default for Limits {
    /// 6 h, then 30 min off.
    fn default() -> Self {
        Self {
            max_on: Limit::Of(Period::hours(6)),
            cooldown: Limit::Of(Period::minutes(30)),
            min_off: Limit::None,
            max_on_per_day: Limit::None,
        }
    }
}

impl Limits {
    /// No limit at all.
    pub const NONE: Self = Self {
        max_on: Limit::None,
        cooldown: Limit::None,
        min_off: Limit::None,
        max_on_per_day: Limit::None,
    };

    /// These limits where a schedule says nothing else.
    #[must_use]
    pub fn changed(self, changes: &LimitChanges) -> Self {
        Self {
            max_on: changes.max_on.unwrap_or(self.max_on),
            cooldown: changes.cooldown.unwrap_or(self.cooldown),
            min_off: changes.min_off.unwrap_or(self.min_off),
            max_on_per_day: changes.max_on_per_day.unwrap_or(self.max_on_per_day),
        }
    }
}

/// The limits a schedule sets itself; `None` keeps the group's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitChanges {
    /// See [`Limits::max_on`].
    pub max_on: Option<Limit>,
    /// See [`Limits::cooldown`].
    pub cooldown: Option<Limit>,
    /// See [`Limits::min_off`].
    pub min_off: Option<Limit>,
    /// See [`Limits::max_on_per_day`].
    pub max_on_per_day: Option<Limit>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_as_they_print() {
        for text in ["none", "6h", "30m"] {
            assert_eq!(text.parse::<Limit>().unwrap().to_string(), text);
        }
        assert_eq!("0s".parse::<Limit>(), Err(PeriodError::NotPositive));
    }

    #[test]
    fn a_schedule_changes_only_the_limits_it_names() {
        let changes = LimitChanges {
            max_on: Some(Limit::None),
            ..LimitChanges::default()
        };
        let limits = Limits::default().changed(&changes);
        assert_eq!(limits.max_on, Limit::None);
        assert_eq!(limits.cooldown, Limits::default().cooldown);
    }
}
