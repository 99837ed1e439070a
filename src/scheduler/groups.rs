//! One group as the planner sees it: its plan, what its schedules and meters remember, who holds its interlock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use planner::{
    Now, OutletPath, Power, ScheduleId, SensorId, Steady,
    activity::{Conditions, ScheduleMemory},
    energy_limits::{EnergyLimits, PersistedEnergy},
    evaluate,
    forecast::Outlook,
    interlock::{InterlockClaim, InterlockOwners},
    overrides::{Override, Overrides},
    plan::{GroupPlan, Inputs, Memory, OutletPlan, Reasons, Rule, ThermostatPlan, Vacation, plan_group},
    readings::Readings,
    rules::{Group, Rules},
    safety::{Cause, Safety},
};
use serde::{Deserialize, Serialize};

use super::{
    ahead::Ahead, dirty::LookScope, name_map::NameMap, outlets::OutletState, silence::Silence, turns::Turns,
};

/// What is known of one group.
#[derive(Debug, Clone, Default)]
pub struct GroupState {
    plan: Option<GroupPlan>,
    members: NameMap<OutletPath, OutletPlan>,
    memory: Memory,
    /// What each schedule remembers, and since when.
    remembered: BTreeMap<ScheduleId, (Timestamp, ScheduleMemory)>,
    /// What its energy rules go by.
    pub energy: EnergyLimits,
    /// When a value of a sensor was last shown that changed no decision.
    pub values_shown: Option<Steady>,
    /// Whose turn it is to be switched on.
    pub turns: Turns,
    /// What comes next.
    ahead: Ahead,
    /// When to look at each member again.
    pub wakes: NameMap<OutletPath, Steady>,
    /// From when on a reading renews the lease of a member.
    pub renews_at: Option<Steady>,
    silence: Silence,
    /// Whether its schedules turned it on, when that was last reported.
    pub running: Option<bool>,
    /// The last entries in the state file.
    pub persisted: PersistedGroup,
}

/// A group in the state file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PersistedGroup {
    /// What its members used today, and who is off because of it.
    pub energy: PersistedEnergy,
    /// What its schedules remember of their sensors.
    pub memory: BTreeMap<ScheduleId, Remembered>,
}

/// What one schedule remembered, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// When it became so.
    pub at: Timestamp,
    /// What it remembered.
    pub memory: ScheduleMemory,
}

/// What all groups have in common.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The rules in force.
    pub rules: &'a Rules,
    /// Whether schedules are suspended.
    pub vacation: Vacation,
    /// What sensors published.
    pub readings: &'a Readings,
    /// When the bridge started.
    pub started: Steady,
    /// Since when all sensors are subscribed to.
    pub listening_since: Steady,
    /// The moment.
    pub now: Now,
}

/// The members of a group as the planner needs them: by name.
#[derive(Debug, Clone, Default)]
pub struct Members {
    overrides: Overrides,
    safety: Safety,
    observed: BTreeMap<OutletPath, Power>,
    owners: InterlockOwners,
}

impl Members {
    /// Collects the members. `claim` says why an outlet claims the interlock of its group, if it does.
    pub fn collect<'a>(
        group: &Group,
        outlets: impl Iterator<Item = (&'a OutletPath, &'a OutletState)>,
        claim: impl Fn(&OutletPath) -> Option<InterlockClaim>,
    ) -> Self {
        let mut members = Self::default();
        for (path, outlet) in outlets {
            if let Some(found) = outlet.overridden {
                members.overrides.set(path.clone(), found);
            }
            members.safety.insert(path.clone(), outlet.run_time);
            if let Some(power) = outlet.observed() {
                members.observed.insert(path.clone(), power);
            }
        }
        members.owners = InterlockOwners::find_in(Some(group), claim);
        members
    }

    /// With an override that a member does not have yet.
    pub fn hold(&mut self, path: OutletPath, found: Override) {
        self.overrides.set(path, found);
    }

    /// What the planner is given for a group.
    pub fn inputs<'a>(&'a self, site: Site<'a>, state: &'a GroupState) -> Inputs<'a> {
        Inputs {
            rules: site.rules,
            overrides: &self.overrides,
            vacation: site.vacation,
            safety: &self.safety,
            energy_limits: &state.energy,
            readings: site.readings,
            memory: &state.memory,
            observed: &self.observed,
            holders: &self.owners,
            conditions: Conditions::Asked,
            reasons: Reasons::Included,
            booted_at: site.started,
            listening_since: site.listening_since,
            now: site.now,
        }
    }
}

impl GroupState {
    /// Goes on with what an earlier run remembered, as far as it counts.
    pub fn restored(group: &Group, rules: &Rules, persisted: PersistedGroup, now: Now) -> Self {
        let mut state = Self {
            energy: EnergyLimits::recall(persisted.energy.clone(), rules),
            persisted,
            ..Self::default()
        };
        for (schedule, remembered) in state.persisted.memory.clone() {
            let Some(found) = group.schedules.iter().find(|known| known.id == schedule) else {
                continue;
            };
            // It counts only while the same window is open.
            let edge = found
                .calendar(&group.id, &rules.location)
                .next_edge(remembered.at);
            if edge.is_none_or(|edge| edge > now.wall) {
                state
                    .memory
                    .recall(group.id.clone(), schedule.clone(), remembered.memory.clone());
                state
                    .remembered
                    .insert(schedule, (remembered.at, remembered.memory));
            }
        }
        state
    }

    /// When to look at a member again.
    pub fn set_wake(&mut self, path: &OutletPath, wake: Option<Steady>) {
        match wake {
            Some(wake) => self.wakes.insert(path.clone(), wake),
            None => self.wakes.remove(path),
        };
    }

    /// Whether what is planned and expected holds for members that nothing happened to.
    pub fn holds_for_others(&self, group: &Group, now: Now) -> bool {
        let comes = |at: Option<Timestamp>| at.is_none_or(|at| at > now.wall);
        let next = self.outlook().map(|outlook| outlook.first.map(|(at, _)| at));
        group.is_each_member_by_itself()
            && self.plan.as_ref().is_some_and(|plan| comes(plan.wake))
            && next.is_some_and(comes)
    }

    /// Asks the planner, about the members that are looked at.
    pub fn replan(&mut self, group: &Group, scope: &LookScope, members: &Members, site: Site<'_>) {
        let mut memory = Memory::default();
        let known = |path: &OutletPath| self.members.get(path).filter(|_| !scope.has(path));
        let (plan, planned) = plan_group(&members.inputs(site, self), group, &mut memory, known);
        for ((_, schedule), new) in memory.iter() {
            let known = self.remembered.get(schedule);
            if known.is_none_or(|(_, known)| known != new) {
                self.remembered
                    .insert(schedule.clone(), (site.now.wall, new.clone()));
            }
        }
        self.memory = memory;
        self.plan = Some(plan);
        if *scope == LookScope::Whole {
            self.members.clear();
        }
        self.members.extend(planned);
    }

    /// Whether the values of these sensors change no more than the texts of its plan.
    pub fn is_settled(&self, group: &Group, of: &[SensorId], sensors: evaluate::Sensors<'_>) -> bool {
        self.memory.is_settled(group, of, sensors) && self.heats_as_before(group, of, sensors)
    }

    /// Whether the thermostat, if the group has one that goes by these sensors, wants the same as before.
    fn heats_as_before(&self, group: &Group, of: &[SensorId], sensors: evaluate::Sensors<'_>) -> bool {
        let thermostat = group.thermostat.as_ref();
        let Some(thermostat) = thermostat.filter(|thermostat| of.contains(&thermostat.sensor)) else {
            return true;
        };
        let Some(room) = thermostat.temperature(sensors) else {
            return false;
        };
        self.members.values().all(|plan| {
            let power = plan.desired.unwrap_or(Power::Off);
            let settled =
                |plan: ThermostatPlan| plan.lease.is_some() && plan.is_settled(thermostat, room, power);
            plan.thermostat.is_some_and(settled)
        })
    }

    /// The plan of the group; `None` before the first one.
    pub fn plan(&self) -> Option<&GroupPlan> {
        self.plan.as_ref()
    }

    /// Whether to report now that a member is off because its thermometer, which had a value or should have one by now,
    /// has none.
    pub fn falls_silent(&mut self, now: Steady) -> bool {
        let is_off =
            |plan: &OutletPlan| plan.rule == Some(Rule::Limit(Cause::Thermometer)) && plan.since.is_some();
        let has_value = |plan: &OutletPlan| plan.thermostat.is_some_and(|of| of.room.is_some());
        let mut members = self.members.values();
        let (has_value, is_off) = (members.clone().any(has_value), members.any(is_off));
        self.silence.begins(has_value, is_off, now)
    }

    /// The plan of a member.
    pub fn member(&self, path: &OutletPath) -> Option<&OutletPlan> {
        self.members.get(path)
    }

    /// What a member would be without its override.
    pub fn without_override(
        &self,
        group: &Group,
        path: &OutletPath,
        members: &Members,
        site: Site<'_>,
    ) -> Option<OutletPlan> {
        let mut members = members.clone();
        members.overrides.clear(path);
        let (_, plans) = plan_group(&members.inputs(site, self), group, &mut Memory::default(), |_| {
            None
        });
        plans
            .into_iter()
            .find(|(member, _)| member == path)
            .map(|(_, plan)| plan)
    }

    /// A copy to compute a plan from.
    #[must_use]
    pub fn for_forecast(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            energy: self.energy.clone(),
            ..Self::default()
        }
    }

    /// The rules changed: what changed schedules remember says nothing about the new ones.
    pub fn reload(&mut self, before: &Group, now: &Group, moved: bool) {
        for schedule in &before.schedules {
            if moved || !now.schedules.contains(schedule) {
                self.memory.forget(&before.id, &schedule.id);
                self.remembered.remove(&schedule.id);
            }
        }
        self.forget_outlook();
    }

    /// A member is called something else.
    pub fn rename(&mut self, from: &OutletPath, to: &OutletPath) {
        self.energy.rename(from, to);
    }

    /// What goes into the state file.
    pub fn to_persist(&self) -> PersistedGroup {
        let memory = self.remembered.iter().map(|(schedule, (at, memory))| {
            let remembered = Remembered {
                at: *at,
                memory: memory.clone(),
            };
            (schedule.clone(), remembered)
        });
        PersistedGroup {
            energy: self.energy.kept(),
            memory: memory.collect(),
        }
    }

    /// What comes next if nothing else happens; `None` before the first look.
    pub fn outlook(&self) -> Option<&Outlook> {
        self.ahead.outlook()
    }

    /// Times of the clock on the wall mean something else.
    pub fn forget_outlook(&mut self) {
        self.ahead = Ahead::default();
    }

    /// Works out what comes next.
    pub fn look_ahead(&mut self, group: &Group, scope: &LookScope, members: &Members, site: Site<'_>) {
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.look(group, &self.members, scope, &members.inputs(site, self));
        self.ahead = ahead;
    }
}
