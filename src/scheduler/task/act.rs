//! Makes outlets what they should be.

use std::time::Duration;

use tokio::{
    sync::mpsc::{UnboundedSender, error::TrySendError},
    time::Instant,
};
use tracing::info;

use super::{
    Look, Scheduler, Wake,
    errand::{Deferred, Flying, Purpose, SwitchDone, SwitchId},
    outlet::{Differs, Flight, Retry, SAME_COUNTDOWN, Told, Urgency},
};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceAction, DeviceCommand, RunLimit, Source, Switch},
    devices::DeviceMsg,
    reply::Reply,
    report::EventKind,
};
use planner::{OutletPath, Power, period::after, plan, safety::Trip};

/// How long a switch of ours waits for its device before it is asked anew.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an outlet may differ from what it should be before that is a problem.
pub(super) const TOLERATED: Duration = Duration::from_mins(1);

/// What an outlet shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aim {
    pub(super) power: Power,
    pub(super) urgency: Urgency,
    pub(super) source: Source,
}

fn reply_to(id: SwitchId, answers: UnboundedSender<SwitchDone>) -> Reply {
    Reply::new(move |outcome| {
        let outcome = outcome.result;
        let _stopped = answers.send(SwitchDone { id, outcome });
    })
}

impl Scheduler {
    /// What an outlet shall be; `None` is hands off.
    pub(super) fn aim(&self, path: &OutletPath, look: Look) -> Option<Aim> {
        if let Some(aim) = self.timer_aim(path, look) {
            return Some(aim);
        }
        let plan = self.book.plan.outlets.get(path)?;
        let (urgency, source) = match plan.source {
            plan::Source::Safety => (Urgency::Limit, Source::Safety),
            _ => (Urgency::Schedule, Source::Schedule),
        };
        Some(Aim {
            power: plan.desired?,
            urgency,
            source,
        })
    }

    /// Commands each outlet that is not what it should be, unless that is under way.
    pub(super) fn reconcile(&mut self, look: Look, wake: &mut Wake) {
        let paths: Vec<OutletPath> = self.live.keys().cloned().collect();
        for path in paths {
            let aim = self.aim(&path, look);
            let waits_for_return = aim.is_some_and(|aim| self.waits_for_return(&path, aim));
            let Some(live) = self.live.get_mut(&path) else {
                continue;
            };
            let Some(aim) = aim.filter(|aim| live.power != Some(aim.power)) else {
                live.differs = None;
                live.retry = Retry::default();
                continue;
            };
            let since = live
                .differs
                .get_or_insert(Differs {
                    since: look.instant,
                    told: Told::Not,
                })
                .since;
            if look.instant < since + TOLERATED {
                wake.by(since + TOLERATED);
            }
            // One that was never heard of is not switched blindly: it may have run for hours.
            let known = live.power.is_some();
            let waits_for_errand = live.errand.is_some() && aim.urgency == Urgency::Schedule;
            let under_way = live.flight.and_then(|flight| flight.power) == Some(aim.power);
            if !known || waits_for_errand || waits_for_return || under_way {
                continue;
            }
            if live.retry.aim != Some(aim.power) {
                live.retry = Retry::for_aim(aim.power);
            }
            if let Some(at) = live.retry.not_before.filter(|at| *at > look.instant) {
                wake.by(at);
                continue;
            }
            if aim.urgency == Urgency::Schedule
                && aim.power == Power::On
                && let Some(at) = self.claim_slot(&path, look.instant)
            {
                wake.by(at);
                continue;
            }
            self.switch(&path, aim, look);
        }
    }

    fn switch(&mut self, path: &OutletPath, aim: Aim, look: Look) {
        // One line per change, not one per attempt.
        let first = self.live.get(path).is_some_and(|live| live.retry.is_first());
        if first {
            let reason = self.book.plan.outlets.get(path).map(|plan| &plan.reason);
            info!(outlet = %path, state = %aim.power, reason = reason.map(ToString::to_string), "switching");
            self.tell_interlocked(path, look);
        }
        let run = self.run_limit(path, aim.power, look);
        self.send(
            path,
            DeviceAction::Switch(Switch::To(aim.power)),
            run,
            aim.source,
            look.instant + PATIENCE,
            Purpose::Reconcile(aim.urgency),
        );
    }

    /// Members of a group are switched on one after the other. Takes the turn if it has come, else says when it will.
    pub(super) fn claim_slot(&mut self, path: &OutletPath, now: Instant) -> Option<Instant> {
        let group = self.book.rules.group_of(path)?;
        let pause = group.stagger?;
        let slot = self.desk.slots.entry(group.id.clone()).or_insert(now);
        if *slot > now {
            return Some(*slot);
        }
        *slot = now + Duration::try_from(pause.length()).unwrap_or(Duration::ZERO);
        None
    }

    /// Takes the next turn of a group; `None` is now.
    pub(super) fn take_slot(&mut self, path: &OutletPath, now: Instant) -> Option<Instant> {
        let group = self.book.rules.group_of(path)?;
        let pause = Duration::try_from(group.stagger?.length()).unwrap_or(Duration::ZERO);
        let slot = self.desk.slots.entry(group.id.clone()).or_insert(now);
        let turn = (*slot).max(now);
        *slot = turn + pause;
        (turn > now).then_some(turn)
    }

    /// A turn that nobody takes. Those behind it keep theirs.
    pub(super) fn give_back_slot(&mut self, deferred: &Deferred) {
        let Some(group) = self.book.rules.group_of(&deferred.path) else {
            return;
        };
        let Some(pause) = group.stagger else { return };
        let after_it = deferred.at + Duration::try_from(pause.length()).unwrap_or(Duration::ZERO);
        if let Some(slot) = self.desk.slots.get_mut(&group.id)
            && *slot == after_it
        {
            *slot = deferred.at;
        }
    }

    /// Hands an intent of ours to the device owner, which never makes us wait.
    pub(super) fn send(
        &mut self,
        path: &OutletPath,
        action: DeviceAction,
        run: RunLimit,
        source: Source,
        deadline: Instant,
        purpose: Purpose,
    ) {
        let id = self.desk.ticket_id();
        let power = match action {
            DeviceAction::Switch(Switch::To(power)) => Some(power),
            _ => None,
        };
        if !matches!(action, DeviceAction::Read) {
            self.live.entry(path.clone()).or_default().flight = Some(Flight { reply: id, power });
        }
        let flying = Flying {
            path: path.clone(),
            power,
            purpose,
        };
        self.desk.flying.insert(id, flying);
        self.order(DeviceCommand {
            path: path.clone(),
            action,
            run,
            source,
            deadline,
            reply: reply_to(id, self.answers.clone()),
            turn: None,
        });
    }

    /// An owner that is gone drops the intent, and its reply answers.
    pub(super) fn order(&self, intent: DeviceCommand) {
        if let Err(TrySendError::Full(DeviceMsg::Command(intent))) =
            self.orders.try_send(DeviceMsg::Command(intent))
        {
            let busy = CommandError::bridge(ErrorCode::Busy, "too many commands at once");
            intent.reply.send(Err(busy));
        }
    }

    /// Lets time pass in the accounts; says whether a limit was reached.
    pub(super) fn trip(&mut self, look: Look) -> bool {
        let zone = self.book.rules.location.zone.clone();
        let mut trips = Vec::new();
        for (path, plan) in &self.book.plan.outlets {
            if let Some(trip) = self.book.safety.advance(path, &plan.limits, look.now, &zone) {
                trips.push((path.clone(), trip));
            }
        }
        for (path, trip) in &trips {
            self.tell_trip(path, *trip, look);
        }
        !trips.is_empty()
    }

    fn tell_trip(&mut self, path: &OutletPath, trip: Trip, look: Look) {
        let cooldown = trip
            .cooldown
            .map_or_else(String::new, |cooldown| format!(", then stays off for {cooldown}"));
        let message = format!("{path} reached {}: it is switched off{cooldown}", trip.cause);
        let group = self.book.rules.group_of(path).map(|group| group.id.clone());
        self.tell_event(EventKind::SafetyTrip, Some(path), group, message, look);
    }

    /// Our countdown switched a plug off. Where that is a limit, it was reached: a plug that counts a little too fast
    /// does not save it the cooldown.
    pub(super) fn trip_early(&mut self, path: &OutletPath, look: Look) {
        let Some(plan) = self.book.plan.outlets.get(path) else {
            return;
        };
        let zone = self.book.rules.location.zone.clone();
        let due = self
            .book
            .safety
            .account(path)
            .runs_until(&plan.limits, look.now, &zone);
        let Some(due) = due.filter(|due| due.at <= after(look.now, SAME_COUNTDOWN)) else {
            return;
        };
        let at = due.at.max(look.now);
        if let Some(trip) = self.book.safety.advance(path, &plan.limits, at, &zone) {
            self.tell_trip(path, trip, look);
        }
    }

    /// Takes out the overrides that are over.
    pub(super) fn end_overrides(&mut self, look: Look) {
        let rules = self.book.rules.clone();
        let ended = self.book.overrides.expire(&rules, look.now);
        let ended: Vec<OutletPath> = ended.into_iter().map(|(path, _)| path).collect();
        self.tell_overrides_ended(&ended, "by itself", look);
    }
}
