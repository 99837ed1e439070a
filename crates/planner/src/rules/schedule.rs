//! One schedule of a group.

use crate::{
    GroupId, ScheduleId, condition::Condition, days::Days, jitter::JitterSeed, limits::LimitChanges,
    location::Location, occurrence::Calendar, setpoint::Setpoint, window::Window,
};

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
    /// Whether its times can be changed in Home Assistant.
    pub editable: bool,
    /// What the thermostat of its group holds while it wins; `None` is the target of the thermostat.
    pub target: Option<Setpoint>,
}

impl Schedule {
    /// Its occurrences in a group at a place.
    pub fn calendar<'a>(&'a self, group: &GroupId, location: &'a Location) -> Calendar<'a> {
        Calendar {
            days: self.days,
            window: &self.window,
            location,
            // Most windows have exact edges, and are asked for often.
            seed: self.window.has_jitter().then(|| JitterSeed::of(group, &self.id)),
        }
    }
}

/// Which of several active schedules wins; among equals the first in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Gives way to the others.
    Low,
    /// Unless set otherwise.
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
