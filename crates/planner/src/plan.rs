//! What every outlet should be now, why, and when that changes next.
//!
//! One pure function of what is given: nothing is remembered between two calls but what the caller hands back
//! ([`Memory`]). Precedence: safety > override > vacation > schedule.

mod decide;
mod group;
mod heat;
mod layer;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod property;
mod reason;
#[cfg(test)]
mod tests;
mod thermostat_plan;

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use decide::DesiredPower;
pub(crate) use group::same;
pub use layer::Layer;
pub use reason::Reason;
pub use thermostat_plan::ThermostatPlan;

use super::{
    ScheduleId, SensorId,
    activity::{Activity, Conditions, ScheduleMemory, State, View, met},
    evaluate::Sensors,
    interlock::InterlockOwners,
    overrides::Overrides,
    readings::Readings,
    rules::{Group, InVacation, Limits, Rules},
    safety::{Cause, Safety},
};
use crate::energy_limits::EnergyLimits;
use crate::{GroupId, Now, OutletPath, Power, Steady};

/// Everything a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What people wrote down.
    pub rules: &'a Rules,
    /// What they want instead for a while.
    pub overrides: &'a Overrides,
    /// Whether they are away.
    pub vacation: Vacation,
    /// What the outlets have run.
    pub safety: &'a Safety,
    /// What they use, where rules limit that.
    pub energy_limits: &'a EnergyLimits,
    /// The values of the sensors.
    pub readings: &'a Readings,
    /// [`Plan::memory`] of the last call; empty at start.
    pub memory: &'a Memory,
    /// What the outlets are, as their devices confirmed last. Missing is unknown.
    pub observed: &'a BTreeMap<OutletPath, Power>,
    /// Who holds the interlocks.
    pub holders: &'a InterlockOwners,
    /// Whether conditions are asked.
    pub conditions: Conditions,
    /// Whether the reasons are needed.
    pub reasons: Reasons,
    /// When the bridge started.
    pub booted_at: Steady,
    /// Since when all sensors are listened to: the start, or the reload that brought the newest of them.
    pub listening_since: Steady,
    /// The moment to plan for.
    pub now: Now,
}

impl<'a> Inputs<'a> {
    fn sensors(&self) -> Sensors<'a> {
        Sensors {
            specs: &self.rules.sensors,
            readings: self.readings,
            now: self.now,
        }
    }

    /// What the schedules of a group are looked at with.
    pub(crate) fn view<'v>(&self, group: &'v Group) -> View<'v>
    where
        'a: 'v,
    {
        let is_on = |outlet: &OutletPath| self.observed.get(outlet) == Some(&Power::On);
        View {
            group: &group.id,
            location: &self.rules.location,
            sensors: self.sensors(),
            conditions: self.conditions,
            listening_since: self.listening_since,
            running: group.outlets.iter().any(is_on),
        }
    }
}

/// Whether the reasons are written, which is half of the cost of a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reasons {
    /// Yes.
    #[default]
    Included,
    /// No: reasons may be empty.
    Omitted,
}

/// Whether vacation is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vacation {
    /// Schedules run.
    #[default]
    Off,
    /// Schedules rest, but in groups that run in vacation.
    Since(Timestamp),
}

impl Vacation {
    /// Whether the schedules of a group rest now.
    pub fn suspends(self, group: &Group) -> bool {
        matches!(self, Self::Since(_)) && group.in_vacation == InVacation::Rest
    }
}

/// What schedules remember between two calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory(BTreeMap<(GroupId, ScheduleId), ScheduleMemory>);

impl Memory {
    /// Forgets a schedule that was changed: the results of its conditions do not apply to the new ones.
    pub fn forget(&mut self, group: &GroupId, schedule: &ScheduleId) {
        self.0.remove(&(group.clone(), schedule.clone()));
    }

    /// Takes back what a schedule remembered before a restart.
    pub fn recall(&mut self, group: GroupId, schedule: ScheduleId, memory: ScheduleMemory) {
        self.0.insert((group, schedule), memory);
    }

    /// Whether each condition of a group that uses one of these sensors has surely the same result as before, so that
    /// their values change no more than the texts of its plan.
    pub fn is_settled(&self, group: &Group, of: &[SensorId], sensors: Sensors<'_>) -> bool {
        let mut enabled = group.schedules.iter().filter(|schedule| schedule.enabled);
        enabled.all(|schedule| {
            let key = (group.id.clone(), schedule.id.clone());
            let memory = self.0.get(&key);
            memory.is_some_and(|memory| memory.is_settled(schedule, of, sensors))
        })
    }

    /// What each schedule remembers.
    pub fn iter(&self) -> impl Iterator<Item = (&(GroupId, ScheduleId), &ScheduleMemory)> {
        self.0.iter()
    }

    pub(crate) fn of(&self, group: &GroupId, schedule: &ScheduleId) -> ScheduleMemory {
        let key = (group.clone(), schedule.clone());
        self.0.get(&key).cloned().unwrap_or_default()
    }
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Each outlet that is in a group.
    pub outlets: BTreeMap<OutletPath, OutletPlan>,
    /// The groups, in the order of the rules.
    pub groups: Vec<GroupPlan>,
    /// When to plan again if nothing happens before; after now. `None`: time alone changes nothing.
    pub wake: Option<Timestamp>,
    /// What to hand in next time.
    pub memory: Memory,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The device: it is left as it is.
    Device,
    /// No rule: a group without schedules is switched by hand.
    Manual,
    /// The schedules.
    Schedule,
    /// Vacation is on.
    Vacation,
    /// An override is in force.
    Override,
    /// A limit.
    Safety,
}

/// Which rule decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// A schedule, by its id.
    Schedule(ScheduleId),
    /// A limit.
    Limit(Cause),
    /// At most one of the group may be on, and it is another.
    Interlock,
    /// The frost protection of a thermostat.
    Frost,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule(id) => fmt::Display::fmt(id, f),
            Self::Limit(cause) => fmt::Display::fmt(cause, f),
            Self::Interlock => f.write_str("interlock"),
            Self::Frost => f.write_str("frost"),
        }
    }
}

/// What one outlet should be.
#[derive(Debug, Clone, PartialEq)]
pub struct OutletPlan {
    /// Its group.
    pub group: GroupId,
    /// What it should be; `None`: not controlled.
    pub desired: Option<Power>,
    /// What it should be if no limit held.
    pub wanted: Option<Power>,
    /// Whether no rule decides, so that the outlet stays in the state it has.
    pub keeps_state: bool,
    /// What decided.
    pub source: Source,
    /// Which rule of it.
    pub rule: Option<Rule>,
    /// For people.
    pub reason: Reason,
    /// Everything that says what it should be, the strongest first; empty where reasons are omitted.
    pub why: Vec<Layer>,
    /// Since when it is so, where that is known.
    pub since: Option<Timestamp>,
    /// When it may change without anything else happening; after now. When it does is in
    /// [`Outlook`](crate::forecast::Outlook).
    pub wake: Option<Timestamp>,
    /// When the override in force ends by itself.
    pub override_until: Option<Timestamp>,
    /// Until when a trip keeps it off.
    pub cooldown_until: Option<Timestamp>,
    /// The limits in force: those of the winner, else the group's.
    pub limits: Limits,
    /// What its thermostat has to do; `None` in a group without one.
    pub thermostat: Option<ThermostatPlan>,
}

/// What a group as a whole is and should be.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPlan {
    /// Its name.
    pub id: GroupId,
    /// On when a member is; off when all are; `None` when that is not known.
    pub state: Option<Power>,
    /// What all members should be; `None` when they differ or are not controlled.
    pub expected: Option<Power>,
    /// Whether it follows its schedules.
    pub mode: Mode,
    /// What decided for the member with the strongest source.
    pub source: Source,
    /// Which rule of it.
    pub rule: Option<Rule>,
    /// For people.
    pub reason: Reason,
    /// Everything that says what that member should be, the strongest first.
    pub why: Vec<Layer>,
    /// The schedule that turns it on, whatever overrides it.
    pub winner: Option<ScheduleId>,
    /// When to plan again if nothing happens before; after now.
    pub wake: Option<Timestamp>,
    /// When the first override of a member ends by itself.
    pub override_until: Option<Timestamp>,
    /// When the last member has cooled down.
    pub cooldown_until: Option<Timestamp>,
    /// Whether a trip keeps a member off.
    pub safety: SafetyState,
    /// The limits in force.
    pub limits: Limits,
    /// What the thermostat of that member has to do; `None` in a group without one.
    pub thermostat: Option<ThermostatPlan>,
}

/// Whether a limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SafetyState {
    /// No.
    Clear,
    /// A member has to go off, or cools down.
    Tripped,
}

/// What a person chose for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Not the same override for all members: schedules, or a mixture.
    Auto,
    /// All members are overridden to on.
    On,
    /// All members are overridden to off.
    Off,
}

/// What a schedule does now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleStatus {
    /// Whether it turns its group on, unless an override or a limit decides.
    pub active: bool,
    /// Whether each of its conditions is met; `None`: not known.
    pub met: Vec<Option<bool>>,
}

/// What each schedule of a group does now, in their order.
pub fn schedule_statuses(inputs: &Inputs<'_>, group: &Group) -> Vec<ScheduleStatus> {
    let suspended = inputs.vacation.suspends(group);
    let status = |state: State<'_>| ScheduleStatus {
        active: state.activity == Activity::Active && !suspended,
        met: met(
            state.schedule,
            &inputs.memory.of(&group.id, &state.schedule.id),
            inputs.view(group),
        ),
    };
    let level = group::ScheduleWinner::of(inputs, group);
    level.states.into_iter().map(status).collect()
}

/// Plans all groups.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let mut memory = Memory::default();
    let mut outlets = BTreeMap::new();
    let mut groups = Vec::with_capacity(inputs.rules.groups.len());
    for group in &inputs.rules.groups {
        let (summary, members) = plan_group(inputs, group, &mut memory, |_| None);
        groups.push(summary);
        outlets.extend(members);
    }
    let wake = groups.iter().filter_map(|group| group.wake).min();
    Plan {
        outlets,
        groups,
        wake,
        memory,
    }
}

/// Plans one group; adds what its schedules remember to `memory`. Returns the plans of the members of which none is `known`:
/// one that surely is as before.
pub fn plan_group<'k>(
    inputs: &Inputs<'_>,
    group: &Group,
    memory: &mut Memory,
    known: impl Fn(&OutletPath) -> Option<&'k OutletPlan>,
) -> (GroupPlan, Vec<(OutletPath, OutletPlan)>) {
    let level = winner(inputs, group, memory);
    let known: Vec<Option<&OutletPlan>> = group.outlets.iter().map(known).collect();
    let mut planned = Vec::new();
    let mut override_states = Vec::with_capacity(group.outlets.len());
    for (outlet, known) in group.outlets.iter().zip(&known) {
        let in_force = decide::in_force(inputs, group, outlet);
        override_states.push(in_force.map(|(found, _)| found.state()));
        if known.is_none() {
            let plan = decide::decide(inputs, group, &level, outlet, in_force);
            planned.push((outlet.clone(), plan));
        }
    }
    let mut new = planned.iter().map(|(_, plan)| plan);
    let plans = known.into_iter().filter_map(|known| known.or_else(|| new.next()));
    let members: Vec<(&OutletPath, &OutletPlan)> = group.outlets.iter().zip(plans).collect();
    let summary = group::summary(inputs, group, &level, &members, &override_states);
    (summary, planned)
}

/// Plans some members of a group, without a summary of it; adds what its schedules remember to `memory`.
pub(crate) fn plan_outlets(
    inputs: &Inputs<'_>,
    group: &Group,
    outlets: &[OutletPath],
    memory: &mut Memory,
) -> Vec<(OutletPath, OutletPlan)> {
    let level = winner(inputs, group, memory);
    let plan = |outlet: &OutletPath| {
        let in_force = decide::in_force(inputs, group, outlet);
        let plan = decide::decide(inputs, group, &level, outlet, in_force);
        (outlet.clone(), plan)
    };
    outlets.iter().map(plan).collect()
}

fn winner<'a>(inputs: &Inputs<'_>, group: &'a Group, memory: &mut Memory) -> group::ScheduleWinner<'a> {
    let level = group::ScheduleWinner::of(inputs, group);
    for state in &level.states {
        let key = (group.id.clone(), state.schedule.id.clone());
        memory.0.insert(key, state.memory.clone());
    }
    level
}
