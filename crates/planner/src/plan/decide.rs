//! The decision for one outlet: safety > override > vacation > schedule.

use jiff::Timestamp;

use super::{Inputs, OutletPlan, Reason, Rule, Source, Vacation, group::ScheduleWinner, reason};
use crate::{
    activity::Activity,
    energy_limits::EnergyBlock,
    overrides::Override,
    rules::{CatchUp, Group, InVacation},
    safety::{Block, Verdict},
    {OutletPath, Power},
};

/// What would be without the limits.
struct DesiredPower {
    desired: Option<Power>,
    source: Source,
    rule: Option<Rule>,
    reason: Reason,
    since: Option<Timestamp>,
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
    let account = inputs.safety.account(outlet);
    let zone = &inputs.rules.location.zone;
    let verdict = account.verdict(&level.limits, inputs.now, zone);
    let hold = inputs.rations.hold(outlet, inputs.now);
    let wish = wish(inputs, group, level, in_force, observed, outlet);
    let wanted = wish.desired;
    let said = must_say(&wish, observed);
    let decision = match (verdict, hold) {
        (Verdict::Free(_), Some(hold)) if said => held(inputs, hold),
        (Verdict::Blocked(block), Some(hold)) if said && hold.outlasts(&block) => held(inputs, hold),
        (Verdict::Blocked(block), _) if said => blocked(inputs, level, block),
        _ => match inputs.holders.of(&group.id) {
            Some(holder) if holder != outlet && said => interlocked(holder),
            _ => wish,
        },
    };
    let limit = match verdict {
        Verdict::Free(due) => due.map(|due| due.at),
        Verdict::Blocked(block) => block.until,
    };
    let held_until = hold.and_then(|hold| hold.block.until);
    let override_until = in_force.and_then(|(_, end)| end);
    let changes = [level.wake, override_until, limit, held_until];
    let next_change = changes.into_iter().flatten().filter(|at| *at > inputs.now).min();
    OutletPlan {
        group: group.id.clone(),
        desired: decision.desired,
        wanted,
        source: decision.source,
        rule: decision.rule,
        reason: decision.reason,
        since: decision.since,
        next_change,
        override_until,
        cooldown_until: account.cooldown_until(inputs.now).max(held_until),
        limits: level.limits,
    }
}

/// A limit decides when it makes a difference. An outlet that is to be off anyway is off for its own reason.
fn must_say(wish: &DesiredPower, observed: Option<Power>) -> bool {
    match wish.desired {
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
    }
}

fn held(inputs: &Inputs<'_>, hold: &EnergyBlock) -> DesiredPower {
    DesiredPower {
        desired: Some(Power::Off),
        source: Source::Safety,
        rule: Some(Rule::Limit(hold.block.cause)),
        reason: reason::held(inputs, hold),
        since: Some(hold.block.since),
    }
}

fn interlocked(holder: &OutletPath) -> DesiredPower {
    DesiredPower {
        desired: Some(Power::Off),
        source: Source::Safety,
        rule: Some(Rule::Interlock),
        reason: Reason::new(format!("interlock: {holder} was switched on later")),
        since: None,
    }
}

fn wish(
    inputs: &Inputs<'_>,
    group: &Group,
    level: &ScheduleWinner<'_>,
    in_force: InForce,
    observed: Option<Power>,
    outlet: &OutletPath,
) -> DesiredPower {
    if !group.is_scheduled() && inputs.rations.resumes(outlet) {
        return DesiredPower {
            desired: Some(Power::On),
            source: Source::Manual,
            rule: None,
            reason: Reason::new("back on: below the power limit again"),
            since: None,
        };
    }
    if !group.is_scheduled() {
        return DesiredPower {
            desired: None,
            source: Source::Manual,
            rule: None,
            reason: Reason::new("no schedules, manual control"),
            since: None,
        };
    }
    if let Some((found, end)) = in_force {
        return overridden(inputs, found, end);
    }
    let rests = group.in_vacation == InVacation::Rest && level.activity != Activity::Inactive;
    if let Vacation::Since(since) = inputs.vacation
        && rests
    {
        return DesiredPower {
            desired: Some(Power::Off),
            source: Source::Vacation,
            rule: rule(level),
            reason: reason::vacation(level),
            since: Some(since),
        };
    }
    match level.catch_up {
        CatchUp::Skip => left_alone(
            Reason::new("state unchanged since the bridge started, until the next schedule change"),
            inputs.booted_at,
        ),
        CatchUp::Apply => scheduled(inputs, level, observed),
    }
}

fn overridden(inputs: &Inputs<'_>, found: Override, end: Option<Timestamp>) -> DesiredPower {
    let reason = reason::overridden(inputs, found, end);
    let Some(desired) = found.stance().power() else {
        return left_alone(reason, found.set_at());
    };
    DesiredPower {
        desired: Some(desired),
        source: Source::Override,
        rule: None,
        reason,
        since: Some(found.set_at()),
    }
}

fn left_alone(reason: Reason, since: Timestamp) -> DesiredPower {
    DesiredPower {
        desired: None,
        source: Source::Device,
        rule: None,
        reason,
        since: Some(since),
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
        reason: reason::scheduled(inputs, level),
        since: opened.map(|window| window.start),
    }
}

fn rule(level: &ScheduleWinner<'_>) -> Option<Rule> {
    level
        .winner()
        .map(|state| Rule::Schedule(state.schedule.id.clone()))
}
