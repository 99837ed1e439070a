//! What is published of outlets and groups: on change only.

use std::sync::Arc;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit, tz::TimeZone};
use planner::{
    GroupId, Now, OutletPath, Power,
    plan::{GroupPlan, Layer, OutletPlan, Reason, Rule, Source},
    rules::Group,
    safety::Refusal,
};

use super::{
    Effect, fail_safe::CLOSE, name_map::NameMap, outlets::OutletState, state::rfc3339, timers::Timer,
};
use crate::domain::{
    heating::HeatingStatus,
    report::Countdown,
    scheduling::{EnergyStatus, FailSafeState, GroupStatus, OutletStatus, SchedulerUpdate},
};

/// What was published last.
#[derive(Debug, Default)]
pub struct StatusPublisher {
    outlets: NameMap<OutletPath, Arc<OutletStatus>>,
    groups: NameMap<GroupId, Arc<GroupStatus>>,
}

impl StatusPublisher {
    /// Publishes the status of an outlet; `None` once if it is switched by hand from now on.
    pub fn outlet(&mut self, path: &OutletPath, status: Option<OutletStatus>, effects: &mut Vec<Effect>) {
        let Some(status) = status else {
            return self.forget(path, effects);
        };
        if self.outlets.get(path).is_some_and(|last| **last == status) {
            return;
        }
        let status = Arc::new(status);
        self.outlets.insert(path.clone(), status.clone());
        effects.push(Effect::Update(SchedulerUpdate::Outlet(path.clone(), status)));
    }

    /// A name is not used any more, or its outlet is switched by hand.
    pub fn forget(&mut self, path: &OutletPath, effects: &mut Vec<Effect>) {
        if self.outlets.remove(path).is_some() {
            let manual = Arc::new(OutletStatus::MANUAL);
            effects.push(Effect::Update(SchedulerUpdate::Outlet(path.clone(), manual)));
        }
    }

    /// Publishes the status of a group.
    pub fn group(&mut self, id: &GroupId, status: GroupStatus, effects: &mut Vec<Effect>) {
        if self.groups.get(id).is_some_and(|last| **last == status) {
            return;
        }
        let status = Arc::new(status);
        self.groups.insert(id.clone(), status.clone());
        effects.push(Effect::Update(SchedulerUpdate::Group(id.clone(), status)));
    }

    /// The groups changed.
    pub fn retain_groups(&mut self, known: impl Fn(&GroupId) -> bool) {
        self.groups.retain(|id, _| known(id));
    }

    /// What was published of an outlet last.
    pub fn last_of(&self, path: &OutletPath) -> Option<&OutletStatus> {
        self.outlets.get(path).map(Arc::as_ref)
    }
}

/// What comes for an outlet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coming {
    /// When what it should be changes, and to what.
    pub(super) next: Option<(Timestamp, Option<Power>)>,
    /// When its limits switch it off at the latest.
    pub(super) limit_at: Option<Timestamp>,
    /// Whether it has to be off at a time.
    pub(super) is_bounded: bool,
}

/// The status of an outlet without its timer. `last` is what was published before.
pub(super) fn of_outlet(
    outlet: &OutletState,
    plan: Option<&OutletPlan>,
    coming: Coming,
    now: Now,
    last: Option<&OutletStatus>,
) -> OutletStatus {
    let (external_to, external_until) = match outlet.countdown {
        Countdown::External { to, ends } => (Some(to), Some(ends)),
        // What an earlier run armed for something that is gone: nothing else says that it ends.
        Countdown::Armed { ends } if outlet.is_left_armed() && !coming.is_bounded => {
            (Some(Power::Off), Some(ends))
        }
        _ => (None, None),
    };
    let changed = outlet.changed;
    let since = changed.map(|change| to_the_second(change.at, RoundMode::Floor));
    let reason = changed.map(|change| change.to_string());
    if plan.is_none() && !outlet.concerns_us() {
        return OutletStatus {
            reason: reason.map(Reason::new),
            since,
            ..OutletStatus::MANUAL
        };
    }
    let timer = outlet.timer.as_ref();
    let mut status = OutletStatus {
        mismatch: Some(outlet.is_mismatch(now.steady)),
        failsafe: fail_safe_state(outlet.countdown),
        countdown: timer
            .filter(|timer| timer.to == Power::Off)
            .map_or(0, |timer| timer.seconds),
        timer_until: timer.map(|timer| shown_ahead(timer.ends.wall(now))),
        timer_to: timer.map(|timer| timer.to),
        device_timer_until: external_until.map(shown_ahead),
        device_timer_to: external_to,
        off_rules: outlet.off_rules.ours().keys().cloned().collect(),
        reason: reason.clone().map(Reason::new),
        since,
        ..OutletStatus::MANUAL
    };
    let Some(plan) = plan else { return status };
    status.source = plan.source;
    status.rule = plan.rule.as_ref().map(ToString::to_string);
    status.reason = Some(match reason.filter(|_| plan.source == Source::Manual) {
        Some(change) => Reason::new(format!("{change}; {}", plan.reason)),
        None => plan.reason.clone(),
    });
    if let Some(planned) = plan.since {
        status.since = Some(to_the_second(planned, RoundMode::Floor));
    }
    status.why.clone_from(&plan.why);
    (status.next_change, status.next_state) = shown_next(coming.next);
    status.limit_at = coming.limit_at.map(|at| steadied(shown_ahead(at), last));
    status.override_until = plan.override_until.map(shown_ahead);
    status.cooldown_until = plan.cooldown_until.map(shown_ahead);
    if let (Some(Rule::Limit(_)), Some(last)) = (&plan.rule, last)
        && last.rule == status.rule
    {
        status.since = last.since;
    }
    status
}

/// What a timer adds. Safety goes before it, and schedules decide beside it.
pub(super) fn add_timer(
    status: &mut OutletStatus,
    timer: &Timer,
    scheduled: bool,
    allowed: Result<(), Refusal>,
    zone: &TimeZone,
    now: Now,
) {
    if status.source == Source::Safety {
        return;
    }
    let over = timer.is_over(now);
    let ends = timer.ends.wall(now);
    let change = Some((shown_ahead(ends), Some(timer.to))).filter(|_| !over);
    let planned = status.next_change.map(|at| (at, status.next_state));
    (status.next_change, status.next_state) =
        shown_next(change.into_iter().chain(planned).min_by_key(|(at, _)| *at));
    let end = rfc3339(ends, zone);
    let power = timer.until_then();
    if scheduled && !over {
        let planned = status
            .reason
            .take()
            .map_or_else(String::new, |reason| format!("; {reason}"));
        status.reason = Some(Reason::new(format!(
            "countdown to {} at {end}{planned}",
            timer.to
        )));
        return;
    }
    status.since = Some(to_the_second(timer.set_at, RoundMode::Floor));
    let reason = match &allowed {
        _ if !over => format!("timed {power} until {end}"),
        Ok(()) => format!("timed {power} ended {end}"),
        Err(refusal) => format!("timed {power} ended {end}, but {refusal}"),
    };
    let expected = match allowed {
        Ok(()) if over => timer.to,
        _ => power,
    };
    let reason = Reason::new(reason);
    status.reason = Some(reason.clone());
    status.why.retain(|layer| layer.source == Source::Safety);
    status.why.push(Layer {
        source: Source::Manual,
        state: Some(expected),
        rule: None,
        reason,
        decides: true,
    });
}

/// The status of a group. `next` is when it changes and what it is then; `timer` the same for the first timer of a member.
pub(super) fn of_group(
    group: &Group,
    plan: &GroupPlan,
    next: Option<(Timestamp, Option<Power>)>,
    timer: Option<(Timestamp, Option<Power>)>,
    energy: Option<EnergyStatus>,
    reachable: bool,
) -> GroupStatus {
    let first = timer.into_iter().chain(next).min_by_key(|(at, _)| *at);
    let (next_change, next_state) = shown_next(first);
    let schedules = group.schedules.iter();
    GroupStatus {
        state: plan.state,
        mode: plan.mode,
        expected: plan.expected,
        source: plan.source,
        rule: plan.rule.as_ref().map(ToString::to_string),
        reason: plan.reason.clone(),
        why: plan.why.clone(),
        next_change,
        next_state,
        override_until: plan.override_until.map(shown_ahead),
        cooldown_until: plan.cooldown_until.map(shown_ahead),
        safety: plan.safety,
        energy,
        schedules: schedules
            .map(|schedule| (schedule.id.clone(), schedule.enabled))
            .collect(),
        thermostat: group
            .thermostat
            .as_ref()
            .zip(plan.thermostat)
            .map(|(thermostat, of)| HeatingStatus::of(plan, of, thermostat.target.scale(), reachable)),
    }
}

/// The text of the event when the schedules of a group turn it on or off.
pub(super) fn schedule_message(plan: &GroupPlan, running: bool) -> String {
    let what = if running { "on" } else { "off" };
    match plan.source {
        Source::Schedule | Source::Vacation => {
            format!("schedules turn group {} {what}: {}", plan.id, plan.reason)
        }
        // They do not decide now.
        _ => format!("schedules want group {} {what}, but: {}", plan.id, plan.reason),
    }
}

fn fail_safe_state(countdown: Countdown) -> Option<FailSafeState> {
    match countdown {
        Countdown::Unknown => None,
        Countdown::Unsupported => Some(FailSafeState::Unsupported),
        Countdown::Idle => Some(FailSafeState::Idle),
        Countdown::Armed { .. } => Some(FailSafeState::Armed),
        Countdown::External { .. } => Some(FailSafeState::External),
        Countdown::Failed => Some(FailSafeState::Failed),
    }
}

fn shown_next(next: Option<(Timestamp, Option<Power>)>) -> (Option<Timestamp>, Option<Power>) {
    next.map_or((None, None), |(at, state)| (Some(shown_ahead(at)), state))
}

/// What was published before, while the difference is no more than that of the two clocks it is computed with.
fn steadied(limit_at: Timestamp, last: Option<&OutletStatus>) -> Timestamp {
    let close = |before: &Timestamp| before.duration_since(limit_at).abs() <= CLOSE;
    last.and_then(|last| last.limit_at)
        .filter(close)
        .unwrap_or(limit_at)
}

/// Without fractions of a second. What comes is not shown too early: at that second it has come.
fn shown_ahead(at: Timestamp) -> Timestamp {
    to_the_second(at, RoundMode::Ceil)
}

pub(super) fn to_the_second(at: Timestamp, mode: RoundMode) -> Timestamp {
    let second = TimestampRound::new().smallest(Unit::Second).mode(mode);
    at.round(second).unwrap_or(at)
}
