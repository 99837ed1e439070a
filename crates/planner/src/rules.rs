//! Groups and schedules as they were validated: rules are data.

mod schedule;

pub use crate::limits::{Limit, LimitChanges, Limits};
pub use schedule::{CatchUp, Priority, Schedule};

use std::collections::BTreeSet;

use crate::{
    GroupId, OutletPath, SensorId, energy_rules::EnergyRules, known_edges::KnownEdges, location::Location,
    period::Period, sensor::SensorSpec, thermostat::Thermostat,
};

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
    /// The shortest time between two closings of one outlet, where the second is not a command's.
    pub min_cycle: Period,
    /// Whether its schedules run during vacation.
    pub in_vacation: InVacation,
    /// What to do about a change that the bridge did not make.
    pub on_external_change: OnExternalChange,
    /// What to do when an outlet is reachable again.
    pub on_reconnect: OnReconnect,
    /// Whether plugs hold its OFF edges themselves.
    pub sync_off_to_device: SyncOffToDevice,
    /// How many members may be on at once.
    pub interlock: Interlock,
    /// What makes targets of its schedules, if it heats a room.
    pub thermostat: Option<Thermostat>,
    /// Edges of its windows that were found before.
    pub edges: KnownEdges,
}

impl Group {
    /// [`Group::override_default`] unless set otherwise: 3 h.
    pub const OVERRIDE_DEFAULT: Period = Period::hours(3);

    /// [`Group::min_cycle`] unless set otherwise: 5 s.
    pub const MIN_CYCLE: Period = Period::seconds(5);

    /// Whether schedules or a thermostat switch it, and so commands to it are overrides.
    pub fn is_scheduled(&self) -> bool {
        !self.schedules.is_empty() || self.thermostat.is_some()
    }

    /// Whether what comes for one member does not depend on the others: no interlock and no meter of them all, no thermostat,
    /// and no condition, whose result is taken from what runs as long as none is known.
    pub fn is_each_member_by_itself(&self) -> bool {
        let mut schedules = self.schedules.iter();
        self.interlock != Interlock::OneOn
            && self.energy.is_empty()
            && self.thermostat.is_none()
            && schedules.all(|schedule| schedule.conditions.is_empty())
    }

    /// Every sensor that decides about it.
    pub fn sensors(&self) -> BTreeSet<&SensorId> {
        let conditions = self.schedules.iter().flat_map(|schedule| &schedule.conditions);
        let of_conditions = conditions.flat_map(|condition| condition.test.sensors());
        let thermometer = self.thermostat.as_ref().map(|thermostat| &thermostat.sensor);
        of_conditions.chain(thermometer).collect()
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
