//! The decision for one outlet: safety > override > vacation > schedule.

use std::iter;

use jiff::Timestamp;

use super::{
    Inputs, Layer, OutletPlan, Reason, Reasons, Rule, Source, Vacation, group::ScheduleWinner, heat::Heating,
    reason,
};
use crate::{
    activity::Activity,
    energy_limits::EnergyBlock,
    overrides::Override,
    rules::{CatchUp, Group, InVacation},
    safety::{Block, Verdict},
    thermostat::Goal,
    {OutletPath, Power, Steady},
};

/// What one layer wants.
pub(super) struct DesiredPower {
    pub(super) desired: Option<Power>,
    pub(super) source: Source,
    pub(super) rule: Option<Rule>,
    pub(super) reason: Reason,
    pub(super) since: Option<Timestamp>,
    pub(super) keeps_state: bool,
    /// What a thermostat has to do by it.
    pub(super) goal: Option<Goal>,
    /// When time alone changes what a thermostat makes of it.
    pub(super) changes_at: Option<Steady>,
}

impl DesiredPower {
    /// `None` for what is switched by hand: it wants nothing.
    fn layer(&self, decides: bool) -> Option<Layer> {
        let wants_nothing = self.source == Source::Manual && self.desired.is_none();
        (!wants_nothing).then(|| Layer {
            source: self.source,
            state: self.desired,
            rule: self.rule.clone(),
            reason: self.reason.clone(),
            decides,
        })
    }
}

/// An override in force, and when it ends.
pub(super) type InForce = Option<(Override, Option<Timestamp>)>;

/// The override of an outlet; a manual group has none.
pub(super) fn in_force(inputs: &Inputs<'_>, group: &Group, outlet: &OutletPath) -> InForce {
    if group.is_scheduled() {
        inputs
            .overrides
            .active(outlet, group, &inputs.rules.location, inputs.now)
    } else {
        None
    }
}

pub(super) fn decide(
    inputs: &Inputs<'_>,
    group: &Group,
    level: &ScheduleWinner<'_>,
    outlet: &OutletPath,
    in_force: InForce,
) -> OutletPlan {
    let observed = inputs.observed.get(outlet).copied();
    let run_time = inputs.safety.run_time(outlet);
    let zone = &inputs.rules.location.zone;
    let verdict = run_time.verdict(&level.limits, inputs.now, zone);
    let hold = inputs.energy_limits.hold(outlet, inputs.now.wall);
    let heating = Heating::of(inputs, group, outlet, run_time);
    let (without_limits, below) = match &heating {
        Some(heating) => heating.layers(inputs, group, level, in_force),
        None => without_limits(inputs, group, level, in_force, observed, outlet),
    };
    let thermostat = heating
        .as_ref()
        .map(|heating| heating.plan(inputs, in_force, &without_limits));
    let (wanted, keeps_state) = (without_limits.desired, without_limits.keeps_state);
    let limited = limits_matter(&without_limits, observed);
    let refused = heating.as_ref().and_then(|heating| heating.refused(inputs));
    let limit = match (verdict, hold) {
        (Verdict::Free(_), Some(hold)) => Some(held(inputs, hold)),
        (Verdict::Blocked(block), Some(hold)) if hold.outlasts(&block) => Some(held(inputs, hold)),
        (Verdict::Blocked(block), _) => Some(blocked(inputs, level, block)),
        (Verdict::Free(_), None) if refused.is_some() => refused,
        // One that changes nothing is not named: who holds it changes with each command to another member.
        (Verdict::Free(_), None) if limited => {
            let holder = inputs.holders.of(&group.id);
            holder.filter(|holder| *holder != outlet).map(interlocked)
        }
        (Verdict::Free(_), None) => None,
    };
    let limit_until = match verdict {
        Verdict::Free(due) => due.map(|due| inputs.now.wall_at(due.at)),
        Verdict::Blocked(block) => block.until,
    };
    let why = match inputs.reasons {
        Reasons::Included => layers(limit.as_ref(), limited, &without_limits, &below),
        Reasons::Omitted => Vec::new(),
    };
    let decision = limit.filter(|_| limited).unwrap_or(without_limits);
    let held_until = hold.and_then(|hold| hold.block.until);
    let override_until = in_force.and_then(|(_, end)| end);
    let heats_until = thermostat.as_ref().and_then(|thermostat| thermostat.wake);
    let cooldown_until = run_time.cooldown_until(inputs.now.steady);
    let cooldown_until = cooldown_until.map(|end| inputs.now.wall_at(end));
    let changes = [
        level.wake,
        override_until,
        limit_until,
        cooldown_until,
        held_until,
        heats_until,
    ];
    let wake = changes
        .into_iter()
        .flatten()
        .filter(|at| *at > inputs.now.wall)
        .min();
    OutletPlan {
        group: group.id.clone(),
        desired: decision.desired,
        wanted,
        keeps_state,
        source: decision.source,
        rule: decision.rule,
        reason: decision.reason,
        why,
        since: decision.since,
        wake,
        override_until,
        cooldown_until: cooldown_until.max(held_until),
        limits: level.limits,
        thermostat,
    }
}

/// All that is in force, the strongest first.
fn layers(
    limit: Option<&DesiredPower>,
    limited: bool,
    without_limits: &DesiredPower,
    below: &[DesiredPower],
) -> Vec<Layer> {
    let limits = limit.and_then(|limit| limit.layer(limited));
    let wanted = without_limits.layer(limit.is_none() || !limited);
    let below = below.iter().filter_map(|each| each.layer(false));
    limits.into_iter().chain(wanted).chain(below).collect()
}

/// A limit decides when it makes a difference. An outlet that is to be off anyway is off for its own reason.
fn limits_matter(without_limits: &DesiredPower, observed: Option<Power>) -> bool {
    match without_limits.desired {
        Some(Power::On) => true,
        Some(Power::Off) => false,
        None => observed != Some(Power::Off),
    }
}

fn blocked(inputs: &Inputs<'_>, level: &ScheduleWinner<'_>, block: Block) -> DesiredPower {
    DesiredPower {
        desired: Some(Power::Off),
        source: Source::Safety,
        rule: Some(Rule::Limit(block.cause)),
        reason: reason::blocked(inputs, &level.limits, block),
        since: Some(block.since),
        keeps_state: false,
        goal: None,
        changes_at: None,
    }
}

fn held(inputs: &Inputs<'_>, hold: &EnergyBlock) -> DesiredPower {
    DesiredPower {
        desired: Some(Power::Off),
        source: Source::Safety,
        rule: Some(Rule::Limit(hold.block.cause)),
        reason: reason::held(inputs, hold),
        since: Some(hold.block.since),
        keeps_state: false,
        goal: None,
        changes_at: None,
    }
}

fn interlocked(holder: &OutletPath) -> DesiredPower {
    DesiredPower {
        desired: Some(Power::Off),
        source: Source::Safety,
        rule: Some(Rule::Interlock),
        reason: Reason::new(format!("interlock: {holder} was switched on later")),
        since: None,
        keeps_state: false,
        goal: None,
        changes_at: None,
    }
}

/// What decides without the limits, and what would decide without that, where reasons are asked for.
fn without_limits(
    inputs: &Inputs<'_>,
    group: &Group,
    level: &ScheduleWinner<'_>,
    in_force: InForce,
    observed: Option<Power>,
    outlet: &OutletPath,
) -> (DesiredPower, Vec<DesiredPower>) {
    if !group.is_scheduled() {
        return (by_hand(inputs, outlet), Vec::new());
    }
    let vacation = || on_vacation(inputs, group, level);
    let skipped = || {
        let reason = "state unchanged since the bridge started, until the next schedule change";
        let skips = level.catch_up == CatchUp::Skip;
        skips.then(|| unchanged(Reason::new(reason), inputs.now.wall_at(inputs.booted_at)))
    };
    let mut stronger = in_force
        .map(|(found, end)| overridden(inputs, found, end))
        .into_iter()
        .chain(iter::once_with(vacation).flatten())
        .chain(iter::once_with(skipped).flatten());
    let schedules = || scheduled(inputs, level, observed);
    match (stronger.next(), inputs.reasons) {
        (None, _) => (schedules(), Vec::new()),
        (Some(strongest), Reasons::Omitted) => (strongest, Vec::new()),
        (Some(strongest), Reasons::Included) => {
            (strongest, stronger.chain(iter::once_with(schedules)).collect())
        }
    }
}

/// Without schedules.
fn by_hand(inputs: &Inputs<'_>, outlet: &OutletPath) -> DesiredPower {
    if inputs.energy_limits.resumes(outlet) {
        return DesiredPower {
            desired: Some(Power::On),
            source: Source::Manual,
            rule: None,
            reason: Reason::new("back on: below the power limit again"),
            since: None,
            keeps_state: false,
            goal: None,
            changes_at: None,
        };
    }
    DesiredPower {
        desired: None,
        source: Source::Manual,
        rule: None,
        reason: Reason::new("no schedules, manual control"),
        since: None,
        keeps_state: false,
        goal: None,
        changes_at: None,
    }
}

fn on_vacation(inputs: &Inputs<'_>, group: &Group, level: &ScheduleWinner<'_>) -> Option<DesiredPower> {
    let Vacation::Since(since) = inputs.vacation else {
        return None;
    };
    let rests = group.in_vacation == InVacation::Rest && level.activity != Activity::Inactive;
    rests.then(|| DesiredPower {
        desired: Some(Power::Off),
        source: Source::Vacation,
        rule: rule(level),
        reason: reason::vacation(level),
        since: Some(since),
        keeps_state: false,
        goal: None,
        changes_at: None,
    })
}

pub(super) fn overridden(inputs: &Inputs<'_>, found: Override, end: Option<Timestamp>) -> DesiredPower {
    let reason = reason::overridden(inputs, found, end);
    let Some(desired) = found.state().power() else {
        return unchanged(reason, found.set_at());
    };
    DesiredPower {
        desired: Some(desired),
        source: Source::Override,
        rule: None,
        reason,
        since: Some(found.set_at()),
        keeps_state: false,
        goal: None,
        changes_at: None,
    }
}

fn unchanged(reason: Reason, since: Timestamp) -> DesiredPower {
    DesiredPower {
        desired: None,
        source: Source::Device,
        rule: None,
        reason,
        since: Some(since),
        keeps_state: true,
        goal: None,
        changes_at: None,
    }
}

fn scheduled(inputs: &Inputs<'_>, level: &ScheduleWinner<'_>, observed: Option<Power>) -> DesiredPower {
    let desired = match level.activity {
        Activity::Active => Some(Power::On),
        Activity::Inactive => Some(Power::Off),
        // It stays what it is; what that is may not be known either.
        Activity::Undecided => observed,
    };
    let opened = level.winner().and_then(|state| state.occurrence);
    DesiredPower {
        desired,
        source: Source::Schedule,
        rule: rule(level),
        reason: level.reason(inputs),
        since: opened.map(|window| window.start),
        keeps_state: level.activity == Activity::Undecided,
        goal: None,
        changes_at: None,
    }
}

pub(super) fn rule(level: &ScheduleWinner<'_>) -> Option<Rule> {
    level
        .winner()
        .map(|state| Rule::Schedule(state.schedule.id.clone()))
}
