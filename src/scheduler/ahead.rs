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

use super::name_map::NameMap;

/// What comes next for a group. A look ahead costs more than everything else that a command to one of its members brings
/// about, so it is taken again only of what changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Ahead {
    /// `None` before the first look.
    outlook: Option<Outlook>,
    /// Of each member, in the order of the group, with what it follows from.
    members: Vec<(Prospect, MemberOutlook)>,
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
    limits: Limits,
    thermostat: Option<ThermostatPlan>,
}

impl Ahead {
    /// What comes next if nothing else happens; `None` before the first look.
    pub(super) fn outlook(&self) -> Option<&Outlook> {
        self.outlook.as_ref()
    }

    /// Works it out, as far as it is not as before. `plans` has each member, or it is too early.
    pub(super) fn look(
        &mut self,
        group: &Group,
        plans: &NameMap<OutletPath, OutletPlan>,
        inputs: &Inputs<'_>,
    ) {
        let prospect = |path: &OutletPath| Some(Prospect::new(path, plans.get(path)?, inputs));
        let each: Option<Vec<Prospect>> = group.outlets.iter().map(prospect).collect();
        let Some(each) = each else { return };
        let prospects = Prospects {
            memory: inputs.memory.clone(),
            values: values(group, inputs),
            vacation: inputs.vacation,
            weather: inputs.readings.weather().map(|weather| weather.answered().steady),
        };
        if self.prospects.as_ref() != Some(&prospects) {
            self.members.clear();
        }
        let is_over = |outlook: &MemberOutlook| outlook.first().is_some_and(|(at, _)| at <= inputs.now.wall);
        let known = |(position, prospect): (usize, &Prospect)| {
            let (known, outlook) = self.members.get(position)?;
            (known == prospect && !is_over(outlook)).then_some(outlook)
        };
        let known: Vec<Option<&MemberOutlook>> = each.iter().enumerate().map(known).collect();
        if known.iter().all(Option::is_some) && self.outlook.is_some() {
            return;
        }
        let found: Vec<MemberOutlook> = if group.is_each_member_by_itself() {
            let found = known.into_iter().zip(group.outlets.chunks(1));
            let found = found.map(|(known, outlet)| match known {
                Some(outlook) => vec![outlook.clone()],
                None => MemberOutlook::of(inputs, group, outlet),
            });
            found.flatten().collect()
        } else {
            MemberOutlook::of(inputs, group, &group.outlets)
        };
        self.outlook = Some(Outlook::of(&group.outlets, &found));
        self.members = each.into_iter().zip(found).collect();
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
            limits: plan.limits,
            thermostat: plan.thermostat,
        }
    }
}
