//! The coming switch times of a group, from the planner itself: it plans again at each instant it names,
//! and the outlets are switched at once.
//!
//! Assumed: the weather is as forecast, other sensors keep the values they have now (so of a thermostat its targets are
//! foreseen, and what it does at the temperature of now, and no limit of time), those without a fresh one stay unknown (or all conditions
//! hold, [`Conditions::TakenToHold`](super::activity::Conditions)); no override is set and no button
//! is pressed; every device answers; what a power limit keeps off comes back after its `min_off`, and no budget is exceeded. An
//! outlet without a report is assumed to be in its expected state at the beginning.

use std::{collections::BTreeMap, ops::ControlFlow};

use jiff::{SignedDuration, Timestamp};

use super::{
    period::after,
    rules::Group,
    safety::{Report, Safety},
};
use crate::plan::{Inputs, Memory, OutletPlan, Reason, Reasons, Rule, Source, plan_group, same};
use crate::thermostat::Goal;
use crate::{GroupId, OutletPath, Power};

/// More instants than a year has edges of a few schedules: the end for limits of seconds.
const STEPS: usize = 20_000;

/// Some outlets of a group will be switched, or its thermostat will have something else to do.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedChange {
    /// When.
    pub at: Timestamp,
    /// Which members, in the order of the group.
    pub outlets: Vec<OutletPath>,
    /// To what.
    pub power: Power,
    /// What a thermostat has to do from then on, if one decides.
    pub goal: Option<Goal>,
    /// What will decide.
    pub source: Source,
    /// Which rule of it.
    pub rule: Option<Rule>,
    /// For people.
    pub reason: Reason,
}

/// Every change of a group after `inputs.now`, or due now, and before `until`, in order. Empty for a group
/// that is not there.
pub fn forecast(inputs: &Inputs<'_>, group: &GroupId, until: Timestamp) -> Vec<PlannedChange> {
    let Some(group) = inputs.rules.group(group) else {
        return Vec::new();
    };
    walk(inputs, group, until, STEPS, |_, _| ControlFlow::Continue(()))
}

/// What a group will be, if nothing else happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// When the expected state of each member changes, and to what; a member is missing whose state stays.
    pub members: BTreeMap<OutletPath, (Timestamp, Option<Power>)>,
    /// The first of them, and what all members should be then; `None` if they differ.
    ///
    /// Members that went on one after the other reach a limit one after the other: people see one change.
    pub first: Option<(Timestamp, Option<Power>)>,
}

impl Outlook {
    /// How far it reaches: any set of days recurs within.
    const AHEAD: SignedDuration = SignedDuration::from_hours(8 * 24);
    /// Instants that are looked at.
    const STEPS: usize = 500;
    /// Changes of the members within this time are one.
    const TOGETHER: SignedDuration = SignedDuration::from_mins(1);

    /// Looks ahead from `inputs.now`, under the same assumptions as [`forecast`].
    pub fn of(inputs: &Inputs<'_>, group: &Group) -> Self {
        let inputs = Inputs {
            reasons: Reasons::Omitted,
            ..*inputs
        };
        let (now, until) = (inputs.now.wall, after(inputs.now.wall, Self::AHEAD));
        let mut outlook = Self::default();
        let mut expected: BTreeMap<OutletPath, Option<Power>> = BTreeMap::new();
        walk(&inputs, group, until, Self::STEPS, |at, plans| {
            for (outlet, plan) in plans {
                let before = expected.get(outlet);
                if at <= now || before.is_none() {
                    expected.insert(outlet.clone(), plan.desired);
                } else if before != Some(&plan.desired) {
                    let change = (at, plan.desired);
                    outlook.members.entry(outlet.clone()).or_insert(change);
                }
            }
            outlook.note_group(at, plans)
        });
        outlook
    }

    fn note_group(&mut self, at: Timestamp, plans: &[(OutletPath, OutletPlan)]) -> ControlFlow<()> {
        let Some(first) = self.members.values().map(|(at, _)| *at).min() else {
            return ControlFlow::Continue(());
        };
        let (first, state) = self.first.get_or_insert((first, None));
        let together = at.duration_since(*first) <= Self::TOGETHER;
        if together && state.is_none() {
            *state = same(plans.iter().map(|(_, plan)| plan.desired)).flatten();
        }
        let settled = state.is_some() || !together;
        if settled && self.members.len() == plans.len() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Goes from one instant that the planner names to the next, and switches the outlets at once. Returns what is switched.
/// `look` is shown the plan of each instant, and may end the walk.
fn walk(
    inputs: &Inputs<'_>,
    group: &Group,
    until: Timestamp,
    steps: usize,
    mut look: impl FnMut(Timestamp, &[(OutletPath, OutletPlan)]) -> ControlFlow<()>,
) -> Vec<PlannedChange> {
    let readings = inputs
        .readings
        .kept(&inputs.rules.sensors, inputs.now, inputs.now.steady_at(until));
    let energy_limits = inputs.energy_limits.foreseen();
    let mut future = Future {
        safety: match group.thermostat {
            Some(_) => inputs.safety.without_runs(),
            None => inputs.safety.clone(),
        },
        observed: inputs.observed.clone(),
        memory: inputs.memory.clone(),
        goals: BTreeMap::new(),
        changes: Vec::new(),
    };
    let mut now = inputs.now;
    for _ in 0..steps {
        let at = Inputs {
            readings: &readings,
            energy_limits: &energy_limits,
            now,
            ..*inputs
        };
        let plans = future.plan(&at, group);
        let ends = look(now.wall, &plans).is_break();
        future.obey(&at, plans);
        match future.next(&at, group) {
            Some(next) if next < until && !ends => now = inputs.now.moved_to(next),
            _ => break,
        }
    }
    future.changes
}

/// The world as it will be.
struct Future {
    safety: Safety,
    observed: BTreeMap<OutletPath, Power>,
    memory: Memory,
    goals: BTreeMap<OutletPath, Option<Goal>>,
    changes: Vec<PlannedChange>,
}

impl Future {
    /// Switches as the planner decides.
    fn obey(&mut self, at: &Inputs<'_>, plans: Vec<(OutletPath, OutletPlan)>) {
        let zone = &at.rules.location.zone;
        for (outlet, plan) in plans {
            self.safety.advance(&outlet, &plan.limits, at.now, zone);
            let Some(power) = plan.desired else {
                continue;
            };
            let before = self.observed.insert(outlet.clone(), power);
            let goal = plan.thermostat.and_then(|thermostat| thermostat.goal);
            let goal_before = self.goals.insert(outlet.clone(), goal);
            let has_other_goal = goal_before.is_some_and(|before| before != goal);
            if before == Some(power) {
                if has_other_goal {
                    self.note(at.now.wall, outlet, power, plan);
                }
                continue;
            }
            if plan.thermostat.is_none() {
                let report = Report {
                    power,
                    on_time: None,
                    at: at.now,
                };
                self.safety.observe(&outlet, report, zone);
            }
            if before.is_some() {
                self.note(at.now.wall, outlet, power, plan);
            }
        }
    }

    /// When to plan again, after the outlets were switched: at once when the outlets going off
    /// made room for something else.
    fn next(&mut self, at: &Inputs<'_>, group: &Group) -> Option<Timestamp> {
        let plans = self.plan(at, group);
        let differs = |(outlet, plan): &(OutletPath, OutletPlan)| {
            plan.desired.is_some() && plan.desired != self.observed.get(outlet).copied()
        };
        if plans.iter().any(differs) {
            return Some(at.now.wall);
        }
        plans.iter().filter_map(|(_, plan)| plan.wake).min()
    }

    fn plan(&mut self, at: &Inputs<'_>, group: &Group) -> Vec<(OutletPath, OutletPlan)> {
        let inputs = Inputs {
            safety: &self.safety,
            observed: &self.observed,
            memory: &self.memory,
            ..*at
        };
        let mut memory = Memory::default();
        let (_, members) = plan_group(&inputs, group, &mut memory);
        self.memory = memory;
        members
    }

    /// Members that change together are one change.
    fn note(&mut self, at: Timestamp, outlet: OutletPath, power: Power, plan: OutletPlan) {
        let change = PlannedChange {
            at,
            outlets: Vec::new(),
            power,
            goal: plan.thermostat.and_then(|thermostat| thermostat.goal),
            source: plan.source,
            rule: plan.rule,
            reason: plan.reason,
        };
        let same = |known: &&mut PlannedChange| {
            (known.at, known.power, known.goal, known.source, &known.rule)
                == (change.at, change.power, change.goal, change.source, &change.rule)
        };
        match self
            .changes
            .iter_mut()
            .rev()
            .take_while(|known| known.at == at)
            .find(same)
        {
            Some(known) => known.outlets.push(outlet),
            None => self.changes.push(PlannedChange {
                outlets: vec![outlet],
                ..change
            }),
        }
    }
}
