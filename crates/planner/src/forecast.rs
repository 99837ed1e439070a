//! The coming switch times of a group, from the planner itself: it plans again at each instant it names,
//! and the outlets are switched at once.
//!
//! Assumed: the weather is as forecast, other sensors keep the values they have now (so of a thermostat its targets are
//! foreseen, and what it does at the temperature of now, and no limit of time), those without a fresh one stay unknown (or all conditions
//! hold, [`Conditions::TakenToHold`](super::activity::Conditions)); no override is set and no button
//! is pressed; every device answers; no budget is exceeded. What a power limit keeps off comes back after its `min_off` in
//! [`forecast`], and stays off in [`Outlook`], which announces nothing that waits for others. An outlet without a report is
//! assumed to be in its expected state at the beginning.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    overrides::{Lifetime, Origin, Override, Overrides},
    period::after,
    rules::Group,
    safety::{Report, Safety, Verdict},
};
use crate::plan::{Inputs, Memory, OutletPlan, Reason, Reasons, Rule, Source, plan_outlets, same};
use crate::thermostat::Goal;
use crate::{GroupId, Now, OutletPath, Power};

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

/// When outlets are switched by a timer, and to what.
pub type Timers = BTreeMap<OutletPath, (Timestamp, Power)>;

/// Every change of a group after `inputs.now`, or due now, and before `until`, in order. Empty for a group
/// that is not there.
pub fn forecast(
    inputs: &Inputs<'_>,
    group: &GroupId,
    timers: &Timers,
    until: Timestamp,
) -> Vec<PlannedChange> {
    let Some(group) = inputs.rules.group(group) else {
        return Vec::new();
    };
    let inputs = Inputs {
        energy_limits: &inputs.energy_limits.foreseen(),
        ..*inputs
    };
    let mut future = Future::new(&inputs, group, &group.outlets);
    future.timers.clone_from(timers);
    future.walk(&inputs, group, until, STEPS, |_, _, _| ControlFlow::Continue(()));
    future.changes
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
    /// Changes of the members within this time are one.
    const TOGETHER: SignedDuration = SignedDuration::from_mins(1);

    /// Of all members of a group.
    pub fn of(outlets: &[OutletPath], members: &[MemberOutlook]) -> Self {
        let first = members.iter().filter_map(|member| Some(member.first()?.0)).min();
        let change = |(path, member): (&OutletPath, &MemberOutlook)| Some((path.clone(), member.first()?));
        Self {
            members: outlets.iter().zip(members).filter_map(change).collect(),
            first: first.map(|first| (first, Self::state_from(first, members))),
        }
    }

    /// What all members are as soon as they are the same, from their first change on.
    fn state_from(first: Timestamp, members: &[MemberOutlook]) -> Option<Power> {
        let changes = members.iter().flat_map(|member| &member.changes);
        let instants: BTreeSet<Timestamp> = changes
            .map(|(at, _)| *at)
            .filter(|at| at.duration_since(first) <= Self::TOGETHER)
            .collect();
        let state_at = |at| same(members.iter().map(|member| member.at(at))).flatten();
        instants.into_iter().find_map(state_at)
    }
}

/// What a member of a group will be, if nothing else happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberOutlook {
    /// What it should be now.
    expected: Option<Power>,
    /// How that changes: the first time, and what follows within [`Outlook::TOGETHER`].
    changes: Vec<(Timestamp, Option<Power>)>,
}

impl MemberOutlook {
    /// How far it reaches: any set of days recurs within.
    const AHEAD: SignedDuration = SignedDuration::from_hours(8 * 24);
    /// Instants that are looked at.
    const STEPS: usize = 500;

    /// Looks ahead from `inputs.now`, under the same assumptions as [`forecast`], for some members of a group: all of them,
    /// unless [`Group::is_each_member_by_itself`].
    pub fn of(inputs: &Inputs<'_>, group: &Group, outlets: &[OutletPath]) -> Vec<Self> {
        let inputs = Inputs {
            reasons: Reasons::Omitted,
            ..*inputs
        };
        let (now, until) = (inputs.now.wall, after(inputs.now.wall, Self::AHEAD));
        let mut found = vec![Self::default(); outlets.len()];
        let look = |at, plans: &[(OutletPath, OutletPlan)], next: Option<Timestamp>| {
            for (member, (_, plan)) in found.iter_mut().zip(plans) {
                if at <= now {
                    member.expected = plan.desired;
                } else {
                    member.note(at, plan.desired);
                }
            }
            let firsts = found.iter().map(|member| member.first().map(|(at, _)| at));
            let (Some(Some(first)), Some(next)) = (firsts.min(), next) else {
                return ControlFlow::Continue(());
            };
            if next.duration_since(first) > Outlook::TOGETHER {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        Future::new(&inputs, group, outlets).walk(&inputs, group, until, Self::STEPS, look);
        found
    }

    fn note(&mut self, at: Timestamp, desired: Option<Power>) {
        let Some((first, _)) = self.first() else {
            if desired != self.expected {
                self.changes.push((at, desired));
            }
            return;
        };
        let last = self.changes.last().and_then(|(_, last)| *last);
        // One that no rule decides about any more stays as it is.
        let is_other = desired.is_some() && desired != last;
        if is_other && at.duration_since(first) <= Outlook::TOGETHER {
            self.changes.push((at, desired));
        }
    }

    /// The first change, and to what.
    pub fn first(&self) -> Option<(Timestamp, Option<Power>)> {
        self.changes.first().copied()
    }

    /// What it should be at an instant: of two changes at once the first counts.
    fn at(&self, at: Timestamp) -> Option<Power> {
        let then = self.changes.iter().find(|(change, _)| *change == at);
        let before = || self.changes.iter().rfind(|(change, _)| *change < at);
        then.or_else(before)
            .map_or(self.expected, |(_, desired)| *desired)
    }
}

fn first_wake(plans: &[(OutletPath, OutletPlan)]) -> Option<Timestamp> {
    plans.iter().filter_map(|(_, plan)| plan.wake).min()
}

/// What came of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obeyed {
    /// Everything was as planned, so that the plan holds.
    Nothing,
    /// An outlet was switched, or reached a limit.
    Something,
}

/// The world as it will be.
struct Future<'a> {
    outlets: &'a [OutletPath],
    overrides: Cow<'a, Overrides>,
    timers: Timers,
    safety: Safety,
    observed: BTreeMap<OutletPath, Power>,
    memory: Memory,
    goals: BTreeMap<OutletPath, Option<Goal>>,
    changes: Vec<PlannedChange>,
}

impl<'a> Future<'a> {
    fn new(inputs: &Inputs<'a>, group: &Group, outlets: &'a [OutletPath]) -> Self {
        Self {
            outlets,
            overrides: Cow::Borrowed(inputs.overrides),
            timers: Timers::new(),
            safety: match group.thermostat {
                Some(_) => inputs.safety.without_runs(),
                None => inputs.safety.clone(),
            },
            observed: inputs.observed.clone(),
            memory: inputs.memory.clone(),
            goals: BTreeMap::new(),
            changes: Vec::new(),
        }
    }

    /// Goes from one instant that the planner names to the next, and switches the outlets at once. `look` is shown the plan of
    /// each instant and the next instant, and may end the walk.
    fn walk(
        &mut self,
        inputs: &Inputs<'_>,
        group: &Group,
        until: Timestamp,
        steps: usize,
        mut look: impl FnMut(Timestamp, &[(OutletPath, OutletPlan)], Option<Timestamp>) -> ControlFlow<()>,
    ) {
        let readings = inputs
            .readings
            .kept(&inputs.rules.sensors, inputs.now, inputs.now.steady_at(until));
        let mut now = inputs.now;
        for _ in 0..steps {
            let at = Inputs {
                readings: &readings,
                now,
                ..*inputs
            };
            if group.is_scheduled() {
                self.end_countdowns(now);
            }
            let plans = self.plan(&at, group);
            let next = match self.obey(&at, &plans) {
                Obeyed::Nothing => first_wake(&plans),
                Obeyed::Something => self.next(&at, group),
            };
            let timers = self.timers.values().map(|(ends, _)| *ends);
            let next = next
                .into_iter()
                .chain(timers.filter(|ends| *ends > now.wall))
                .min();
            let next = next.filter(|next| *next < until);
            let ends = look(now.wall, &plans, next).is_break();
            match next {
                Some(next) if !ends => now = inputs.now.moved_to(next),
                _ => break,
            }
        }
    }

    /// Under schedules a countdown that ended means OFF until they turn the outlet on the next time.
    fn end_countdowns(&mut self, now: Now) {
        let Self {
            timers, overrides, ..
        } = self;
        timers.retain(|outlet, (ends, to)| {
            let is_over = *ends <= now.wall;
            if is_over
                && *to == Power::Off
                && let Ok(off) =
                    Override::new((*to).into(), Lifetime::UntilNextSchedule, Origin::Command, now)
            {
                overrides.to_mut().set(outlet.clone(), off);
            }
            !is_over
        });
    }

    /// What a timer that is over makes of an outlet that no rule switches. One that switches on waits for its limits.
    fn by_timer(&self, at: &Inputs<'_>, outlet: &OutletPath, plan: &OutletPlan) -> Option<OutletPlan> {
        let (_, to) = self.timers.get(outlet).filter(|(ends, _)| *ends <= at.now.wall)?;
        let is_free = || {
            let run_time = self.safety.run_time(outlet);
            let verdict = run_time.verdict(&plan.limits, at.now, &at.rules.location.zone);
            let held = at.energy_limits.hold(outlet, at.now.wall).is_some();
            matches!(verdict, Verdict::Free(_)) && !held
        };
        let switches = plan.desired.is_none() && (*to == Power::Off || is_free());
        switches.then(|| OutletPlan {
            desired: Some(*to),
            reason: Reason::new(format!("timed {} ended", to.toggled())),
            ..plan.clone()
        })
    }

    /// Switches as the planner decides.
    fn obey(&mut self, at: &Inputs<'_>, plans: &[(OutletPath, OutletPlan)]) -> Obeyed {
        let zone = &at.rules.location.zone;
        let mut obeyed = Obeyed::Nothing;
        for (outlet, plan) in plans {
            let run_time = self.safety.run_time(outlet);
            self.safety.advance(outlet, &plan.limits, at.now, zone);
            if self.safety.run_time(outlet) != run_time {
                obeyed = Obeyed::Something;
            }
            let by_timer = self.by_timer(at, outlet, plan);
            let plan = by_timer.as_ref().unwrap_or(plan);
            let Some(power) = plan.desired else {
                continue;
            };
            let before = self.observed.insert(outlet.clone(), power);
            // What is in the state that its timer switches to needs it no more.
            if self.timers.get(outlet).is_some_and(|(_, to)| *to == power) {
                self.timers.remove(outlet);
            }
            let goal = plan.thermostat.and_then(|thermostat| thermostat.goal);
            let goal_before = self.goals.insert(outlet.clone(), goal);
            let has_other_goal = goal_before.is_some_and(|before| before != goal);
            if before == Some(power) {
                if has_other_goal {
                    self.note(at.now.wall, outlet, power, plan);
                }
                continue;
            }
            obeyed = Obeyed::Something;
            if plan.thermostat.is_none() {
                let report = Report {
                    power,
                    on_time: None,
                    at: at.now,
                };
                self.safety.observe(outlet, report, zone);
            }
            if before.is_some() {
                self.note(at.now.wall, outlet, power, plan);
            }
        }
        obeyed
    }

    /// When to plan again, after outlets were switched: at once when the outlets going off
    /// made room for something else.
    fn next(&mut self, at: &Inputs<'_>, group: &Group) -> Option<Timestamp> {
        let plans = self.plan(at, group);
        let differs = |(outlet, plan): &(OutletPath, OutletPlan)| {
            plan.desired.is_some() && plan.desired != self.observed.get(outlet).copied()
        };
        if plans.iter().any(differs) {
            return Some(at.now.wall);
        }
        first_wake(&plans)
    }

    fn plan(&mut self, at: &Inputs<'_>, group: &Group) -> Vec<(OutletPath, OutletPlan)> {
        let inputs = Inputs {
            overrides: &self.overrides,
            safety: &self.safety,
            observed: &self.observed,
            memory: &self.memory,
            ..*at
        };
        let mut memory = Memory::default();
        let plans = plan_outlets(&inputs, group, self.outlets, &mut memory);
        self.memory = memory;
        plans
    }

    /// Members that change together are one change.
    fn note(&mut self, at: Timestamp, outlet: &OutletPath, power: Power, plan: &OutletPlan) {
        let change = PlannedChange {
            at,
            outlets: Vec::new(),
            power,
            goal: plan.thermostat.and_then(|thermostat| thermostat.goal),
            source: plan.source,
            rule: plan.rule.clone(),
            reason: plan.reason.clone(),
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
            Some(known) => known.outlets.push(outlet.clone()),
            None => self.changes.push(PlannedChange {
                outlets: vec![outlet.clone()],
                ..change
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        overrides::{Lifetime, Origin, Override, OverrideState},
        period::Period,
        rules::{Limit, Limits},
        testing::{Site, group, moment, outlet, schedule},
    };

    /// None so short that one member takes all the steps of a look at both.
    fn limit() -> impl Strategy<Value = Limit> {
        let length = prop::sample::select(vec![3_600, 7_200, 40_000]);
        let limit =
            length.prop_map(|seconds| Limit::Of(Period::new(SignedDuration::from_secs(seconds)).unwrap()));
        prop_oneof![Just(Limit::None), limit]
    }

    fn limits() -> impl Strategy<Value = Limits> {
        (limit(), limit(), limit()).prop_map(|(max_on, cooldown, daily)| Limits {
            max_on,
            cooldown,
            max_on_per_day: daily,
            ..Limits::NONE
        })
    }

    /// Whether a member is known to be on or off, since how many seconds, and what overrides it. Nothing that leaves it as it is:
    /// that no rule decides any more after a limit is seen at the next instant that anything is planned for.
    type Member = (Option<Power>, i64, Option<(OverrideState, Lifetime)>);

    fn member() -> impl Strategy<Value = Member> {
        let power = prop::sample::select(vec![None, Some(Power::On), Some(Power::Off)]);
        let state = prop::sample::select(vec![OverrideState::On, OverrideState::Off]);
        let length = prop::sample::select(vec![30, 70, 3_600, 50_000]);
        let lifetime = prop_oneof![
            Just(Lifetime::UntilNextSchedule),
            Just(Lifetime::Hold),
            length
                .prop_map(|seconds| Lifetime::For(Period::new(SignedDuration::from_secs(seconds)).unwrap())),
        ];
        (
            power,
            prop::sample::select(vec![0, 10, 1_000]),
            prop::option::of((state, lifetime)),
        )
    }

    proptest! {
        #[test]
        fn a_member_by_itself_goes_on_as_beside_the_others(
            limits in limits(),
            members in prop::array::uniform2(member()),
            hour in 0_i8..24,
            resting in any::<bool>(),
        ) {
            let schedules = vec![schedule("cold", "05:00", "11:00"), schedule("day", "08:00", "20:00")];
            let mut site = Site::new(group(schedules), "America/New_York");
            site.rules.groups[0].limits = limits;
            site.at(&format!("2024-03-09T{hour:02}:30"));
            if resting {
                site.vacation = crate::plan::Vacation::Since(site.now);
            }
            let now = site.now;
            for (number, (power, since, overridden)) in (1..).zip(members) {
                let outlet = outlet(number);
                site.now = now - SignedDuration::from_secs(since);
                if let Some(power) = power {
                    site.reports(&outlet, power);
                }
                if let Some((state, lifetime)) = overridden {
                    let new = Override::new(state, lifetime, Origin::Command, moment(site.now)).unwrap();
                    site.overrides.set(outlet, new);
                }
            }
            site.now = now;
            let outlets = &site.group().outlets;
            prop_assert!(site.group().is_each_member_by_itself());
            let alone = outlets.chunks(1);
            let alone = alone.flat_map(|outlet| MemberOutlook::of(&site.inputs(), site.group(), outlet));
            let alone: Vec<MemberOutlook> = alone.collect();
            prop_assert_eq!(Outlook::of(outlets, &alone), site.outlook());
        }
    }
}
