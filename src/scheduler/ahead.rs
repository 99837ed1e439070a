//! What comes next for a group.

use jiff::Timestamp;
use planner::{
    OutletPath, Power, Steady,
    forecast::{MemberOutlook, Outlook},
    overrides::Override,
    plan::{Inputs, Memory, OutletPlan, Rule, Source, ThermostatPlan, Vacation},
    readings::Known,
    rules::{Group, Limits},
    safety::RunTime,
    sensor::SensorValue,
};

use super::{dirty::LookScope, name_map::NameMap};

/// What comes next for a group. A look ahead costs more than everything else that a command to one of its members brings
/// about, so it is taken again only of what changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Ahead {
    /// `None` before the first look.
    outlook: Option<Outlook>,
    /// Of each member, in the order of the group.
    members: Vec<MemberOutlook>,
    /// What each of them follows from.
    followed: Vec<Prospect>,
    /// What it follows from for all members.
    prospects: Option<Prospects>,
}

/// What the outlooks of all members of a group follow from.
#[derive(Debug, Clone, PartialEq)]
struct Prospects {
    /// Conditions also of schedules that are not active now.
    memory: Memory,
    /// What its sensors say now: a condition may go by it later only, and then goes by no value that is stale.
    values: Vec<Option<SensorValue>>,
    vacation: Vacation,
    /// Which forecast there is.
    weather: Option<Steady>,
}

/// What the outlook of one member follows from: what it is, has run and is overridden to, and its plan without the texts.
#[derive(Debug, Clone, PartialEq)]
struct Prospect {
    observed: Option<Power>,
    run_time: RunTime,
    overridden: Option<Override>,
    desired: Option<Power>,
    wanted: Option<Power>,
    keeps_state: bool,
    source: Source,
    rule: Option<Rule>,
    wake: Option<Timestamp>,
    override_until: Option<Timestamp>,
    cooldown_until: Option<Timestamp>,
    /// Whether an energy rule keeps it off, though it is off anyway.
    is_held: bool,
    limits: Limits,
    thermostat: Option<ThermostatPlan>,
}

impl Ahead {
    /// What comes next if nothing else happens; `None` before the first look.
    pub(super) fn outlook(&self) -> Option<&Outlook> {
        self.outlook.as_ref()
    }

    /// Works it out, as far as it is not as before. `plans` has each member, or it is too early. Members that `scope` does
    /// not have are as before.
    pub(super) fn look(
        &mut self,
        group: &Group,
        plans: &NameMap<OutletPath, OutletPlan>,
        scope: &LookScope,
        inputs: &Inputs<'_>,
    ) {
        let prospects = Prospects {
            memory: inputs.memory.clone(),
            values: values(group, inputs),
            vacation: inputs.vacation,
            weather: inputs.readings.weather().map(|weather| weather.answered().steady),
        };
        if self.prospects.as_ref() != Some(&prospects) {
            self.followed.clear();
        }
        let is_over = |outlook: &MemberOutlook| outlook.first().is_some_and(|(at, _)| at <= inputs.now.wall);
        let mut changed = Vec::new();
        for (position, path) in group.outlets.iter().enumerate() {
            let known = self.followed.get(position).zip(self.members.get(position));
            let known = known.filter(|(_, outlook)| !is_over(outlook));
            if known.is_some() && !scope.has(path) {
                continue;
            }
            let Some(plan) = plans.get(path) else { return };
            let prospect = Prospect::new(path, plan, inputs);
            if known.is_none_or(|(known, _)| *known != prospect) {
                changed.push((position, path, prospect));
            }
        }
        if changed.is_empty() && self.outlook.is_some() {
            return;
        }
        if group.is_each_member_by_itself() {
            self.members
                .resize_with(group.outlets.len(), MemberOutlook::default);
            for (position, path, _) in &changed {
                let found = MemberOutlook::of(inputs, group, std::slice::from_ref(*path)).pop();
                if let (Some(slot), Some(found)) = (self.members.get_mut(*position), found) {
                    *slot = found;
                }
            }
        } else {
            self.members = MemberOutlook::of(inputs, group, &group.outlets);
        }
        for (position, _, prospect) in changed {
            match self.followed.get_mut(position) {
                Some(slot) => *slot = prospect,
                None => self.followed.push(prospect),
            }
        }
        self.outlook = Some(Outlook::of(&group.outlets, &self.members));
        self.prospects = Some(prospects);
    }
}

/// What the sensors of a group say, in the order of the rules.
fn values(group: &Group, inputs: &Inputs<'_>) -> Vec<Option<SensorValue>> {
    let asked = group.sensors();
    let specs = inputs
        .rules
        .sensors
        .iter()
        .filter(|spec| asked.contains(&spec.id));
    let value = |spec| match inputs.readings.of(spec, inputs.now) {
        Known::Value(value, _) => Some(value),
        Known::Stale(_) | Known::Never => None,
    };
    specs.map(value).collect()
}

impl Prospect {
    fn new(path: &OutletPath, plan: &OutletPlan, inputs: &Inputs<'_>) -> Self {
        Self {
            observed: inputs.observed.get(path).copied(),
            run_time: inputs.safety.run_time(path),
            overridden: inputs.overrides.get(path).copied(),
            desired: plan.desired,
            wanted: plan.wanted,
            keeps_state: plan.keeps_state,
            source: plan.source,
            rule: plan.rule.clone(),
            wake: plan.wake,
            override_until: plan.override_until,
            cooldown_until: plan.cooldown_until,
            is_held: inputs.energy_limits.hold(path, inputs.now.wall).is_some(),
            limits: plan.limits,
            thermostat: plan.thermostat,
        }
    }
}
