//! The schedules of a group combined, and the status of the group.

use std::cell::OnceCell;

use jiff::Timestamp;

use super::{GroupPlan, Inputs, Mode, OutletPlan, Reason, Rule, SafetyState, Source, ThermostatPlan, reason};
use crate::{
    activity::{Activity, State, look},
    overrides::OverrideState,
    rules::{CatchUp, Group, Limits},
    safety::Cause,
    {GroupId, OutletPath, Power, ScheduleId},
};

/// The schedules of a group at one instant.
pub(super) struct ScheduleWinner<'a> {
    /// Each schedule, in the order of the file.
    pub(super) states: Vec<State<'a>>,
    /// Whether the group is on.
    pub(super) activity: Activity,
    /// The schedule that makes it so.
    winner: Option<usize>,
    /// The limits in force.
    pub(super) limits: Limits,
    /// When time alone may change any of it.
    pub(super) wake: Option<Timestamp>,
    /// Whether the outlets are not controlled until the next edge.
    pub(super) catch_up: CatchUp,
    /// Why the schedules decide as they do, the same for all members; once it is asked for.
    reason: OnceCell<Reason>,
}

impl<'a> ScheduleWinner<'a> {
    pub(super) fn of(inputs: &Inputs<'_>, group: &'a Group) -> Self {
        let view = inputs.view(group);
        let states: Vec<State<'a>> = group
            .schedules
            .iter()
            .map(|schedule| look(schedule, &inputs.memory.of(&group.id, &schedule.id), view))
            .collect();
        let active = strongest(&states, Activity::Active);
        let undecided = strongest(&states, Activity::Undecided);
        let activity = match (active, undecided) {
            (Some(_), _) => Activity::Active,
            (None, Some(_)) => Activity::Undecided,
            (None, None) => Activity::Inactive,
        };
        let winner = active.or(undecided);
        let limits = winner
            .and_then(|position| states.get(position))
            .map_or(group.limits, |state| group.limits.changed(&state.schedule.limits));
        let wake = states.iter().filter_map(|state| state.wake).min();
        let catch_up = catch_up(inputs, &group.id, &states, winner);
        Self {
            states,
            activity,
            winner,
            limits,
            wake,
            catch_up,
            reason: OnceCell::new(),
        }
    }

    /// Why the schedules decide as they do.
    pub(super) fn reason(&self, inputs: &Inputs<'_>) -> Reason {
        self.reason
            .get_or_init(|| reason::scheduled(inputs, self))
            .clone()
    }

    /// The schedule that turns the group on, or would if its sensors had values.
    pub(super) fn winner(&self) -> Option<&State<'a>> {
        self.states.get(self.winner?)
    }
}

/// The position of the schedule with the highest priority, the first among equals.
fn strongest(states: &[State<'_>], activity: Activity) -> Option<usize> {
    let candidates = states
        .iter()
        .enumerate()
        .filter(|(_, state)| state.activity == activity);
    // The last of equal maxima is taken, so the order is turned round.
    let (position, _) = candidates
        .rev()
        .max_by_key(|(_, state)| state.schedule.priority)?;
    Some(position)
}

/// `skip` holds while no edge has passed since the start, when those that decide have it set: the winner, or
/// all when none is active.
fn catch_up(inputs: &Inputs<'_>, group: &GroupId, states: &[State<'_>], winner: Option<usize>) -> CatchUp {
    let mut enabled = states.iter().filter(|state| state.schedule.enabled).peekable();
    let skips = |state: &State<'_>| state.schedule.catch_up == CatchUp::Skip;
    let skips = match winner.and_then(|position| states.get(position)) {
        Some(state) => skips(state),
        None => enabled.peek().is_some() && enabled.all(skips),
    };
    if !skips {
        return CatchUp::Apply;
    }
    // It is about a window that was open at the start. Outside of windows nothing was missed.
    let start = inputs.now.wall_at(inputs.booted_at);
    let is_open = |state: &State<'_>| {
        let calendar = state.schedule.calendar(group, &inputs.rules.location);
        calendar.open_at(start).is_some()
    };
    if !states.iter().filter(|state| state.schedule.enabled).any(is_open) {
        return CatchUp::Apply;
    }
    let passed = states.iter().filter(|state| state.schedule.enabled).any(|state| {
        let calendar = state.schedule.calendar(group, &inputs.rules.location);
        calendar
            .next_edge(inputs.now.wall_at(inputs.booted_at))
            .is_some_and(|edge| edge <= inputs.now.wall)
    });
    if passed { CatchUp::Apply } else { CatchUp::Skip }
}

/// The group as a whole.
pub(super) fn summary(
    inputs: &Inputs<'_>,
    group: &Group,
    level: &ScheduleWinner<'_>,
    members: &[(&OutletPath, &OutletPlan)],
    override_states: &[Option<OverrideState>],
) -> GroupPlan {
    let plans = || members.iter().map(|(_, plan)| *plan);
    // The first among equals speaks for the group.
    let speaker = plans().rev().max_by_key(|plan| plan.source);
    GroupPlan {
        id: group.id.clone(),
        state: state(inputs, group),
        expected: same(plans().map(|plan| plan.desired)).flatten(),
        mode: mode(override_states),
        source: speaker.map_or(Source::Manual, |plan| plan.source),
        rule: speaker.and_then(|plan| plan.rule.clone()),
        reason: speaker.map_or_else(|| Reason::new("no outlets"), |plan| plan.reason.clone()),
        why: speaker.map_or_else(Vec::new, |plan| plan.why.clone()),
        winner: winner(level),
        wake: plans().filter_map(|plan| plan.wake).min(),
        override_until: plans().filter_map(|plan| plan.override_until).min(),
        cooldown_until: plans().filter_map(|plan| plan.cooldown_until).max(),
        safety: safety(inputs, members),
        limits: level.limits,
        thermostat: speaker
            .and_then(|plan| plan.thermostat)
            .map(ThermostatPlan::shown),
    }
}

/// A pause between two runs is no trip.
fn safety(inputs: &Inputs<'_>, members: &[(&OutletPath, &OutletPlan)]) -> SafetyState {
    let limited = |plan: &OutletPlan| match plan.rule {
        Some(Rule::Limit(cause)) => cause != Cause::MinOff,
        Some(Rule::Schedule(_) | Rule::Interlock | Rule::Frost) | None => false,
    };
    let tripped = |outlet: &OutletPath| {
        inputs.safety.run_time(outlet).is_tripped(inputs.now.steady)
            || inputs.energy_limits.hold(outlet, inputs.now.wall).is_some()
    };
    if members
        .iter()
        .any(|(outlet, plan)| limited(plan) || tripped(outlet))
    {
        SafetyState::Tripped
    } else {
        SafetyState::Clear
    }
}

fn winner(level: &ScheduleWinner<'_>) -> Option<ScheduleId> {
    let state = level.winner()?;
    (state.activity == Activity::Active).then(|| state.schedule.id.clone())
}

/// Unknown is never shown as off.
fn state(inputs: &Inputs<'_>, group: &Group) -> Option<Power> {
    let observed = || {
        group
            .outlets
            .iter()
            .map(|outlet| inputs.observed.get(outlet).copied())
    };
    if observed().any(|power| power == Some(Power::On)) {
        return Some(Power::On);
    }
    same(observed()).flatten()
}

/// All members have to agree.
fn mode(override_states: &[Option<OverrideState>]) -> Mode {
    match same(override_states.iter().copied()).flatten() {
        Some(OverrideState::On) => Mode::On,
        Some(OverrideState::Off) => Mode::Off,
        Some(OverrideState::Leave | OverrideState::Thermostat(_)) | None => Mode::Auto,
    }
}

/// What all items are, when they are the same.
pub(crate) fn same<T: PartialEq>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.all(|item| item == first).then_some(first)
}
