//! How commands end: a device confirmed or failed, a limit refused, something newer replaced them.

use planner::{
    Now, OutletPath, Power,
    safety::{Cause, Refusal},
};
use tracing::info;

use super::{
    commands::{Before, PendingMember, SentSwitch, SwitchId, may_be_done},
    fail_safe::SentEnd,
    outlets::{OutletState, Purpose},
    relays::RelayId,
    retry::Retry,
    state::State,
    timers::{Timer, TimerKind},
    tracked::Tracked,
};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    reply::{Applied, CommandResult},
    report::EventKind,
};

/// Ends commands, at a moment.
pub(super) struct Completion<'a> {
    state: &'a mut State,
    now: Now,
}

impl<'a> Completion<'a> {
    /// At a moment.
    pub(super) fn new(state: &'a mut State, now: Now) -> Self {
        Self { state, now }
    }

    /// A switch of ours ended.
    pub(super) fn on_switch_result(&mut self, id: SwitchId, result: CommandResult) {
        let Some(SentSwitch { relay, member }) = self.state.commands.take_switch(id) else {
            return;
        };
        let now = self.now;
        let Some(outlet) = self.state.outlets.get_mut(&relay) else {
            if let Some(member) = member {
                self.complete_unnamed(member, result);
            }
            return;
        };
        let path = outlet.path.clone();
        let flight = outlet.in_flight.filter(|flight| flight.id == id);
        if let Some(flight) = flight {
            outlet.in_flight = None;
            if let Err(error) = &result {
                outlet.off_by = SentEnd::Uncertain;
                if may_be_done(error) {
                    outlet.doubt = flight.power;
                }
            }
        }
        let reconciles = flight.map(|flight| flight.purpose);
        if let Some(Purpose::Reconcile(urgency)) = reconciles {
            match &result {
                Ok(_) => outlet.retry.succeeded(now.steady),
                Err(error) => {
                    // One line per change, not one per attempt.
                    if outlet.retry.is_first() {
                        info!(outlet = %path, code = %error.code, reason = %error.message, "not switched; it is tried again");
                    }
                    outlet.retry.failed(urgency, now.steady);
                }
            }
        }
        if let Some(member) = member {
            let retry = outlet.retry;
            self.complete(member, &relay, result);
            if let (Some(Purpose::Reconcile(_)), Some(outlet)) =
                (reconciles, self.state.outlets.get_mut(&relay))
            {
                outlet.retry = retry;
            }
        }
        self.state.mark(&path);
    }

    /// A member has its result whose relay is not known.
    pub(super) fn complete_unnamed(&mut self, member: PendingMember, result: CommandResult) {
        if let Some(command) = self.state.commands.complete(member, result) {
            command.reply();
        }
    }

    /// A member for which its device need not be asked.
    pub(super) fn complete_unasked(&mut self, member: PendingMember, path: &OutletPath) {
        let power = self.state.outlet(path).and_then(OutletState::observed);
        let result = Ok(Applied::unasked(path, power));
        match self.state.relay(path).cloned() {
            Some(relay) => self.complete(member, &relay, result),
            None => self.complete_unnamed(member, result),
        }
    }

    /// One member of a command has its result.
    pub(super) fn complete(&mut self, member: PendingMember, relay: &RelayId, result: CommandResult) {
        if let Some(outlet) = self.state.outlets.get_mut(relay) {
            if outlet.pending == Some(member) {
                outlet.pending = None;
            }
            match &result {
                Ok(_) => outlet.retry = Retry::default(),
                Err(error) => restore_timer(outlet, member, error, self.now),
            }
            let path = outlet.path.clone();
            self.state.mark(&path);
        }
        if result.is_ok() {
            self.confirm(member);
        }
        let Some(command) = self.state.commands.complete(member, result) else {
            return;
        };
        // What no device confirmed is taken back.
        let confirmed = command.confirmed;
        let mut paths = Vec::new();
        for relay in &command.changed {
            let outlet = self.state.outlets.get_mut(relay);
            let ended = |outlet: &&mut Tracked<OutletState>| {
                outlet.undo.is_some_and(|undo| undo.command == member.command)
            };
            let Some(outlet) = outlet.filter(ended) else {
                continue;
            };
            if let (Some(undo), false) = (outlet.undo.take(), confirmed)
                && let Before::Was(before) = undo.overridden
            {
                outlet.overridden = before;
            }
            paths.push(outlet.path.clone());
        }
        for path in paths {
            self.state.mark(&path);
        }
        command.reply();
    }

    /// A device confirmed a command: what it changed stays.
    fn confirm(&mut self, member: PendingMember) {
        let Some(command) = self.state.commands.confirm(member.command) else {
            return;
        };
        let announced = command.announcement.take();
        let (group, path) = (command.group.clone(), command.single().cloned());
        // Now it is written, also for members that have no result yet.
        for relay in command.changed.clone() {
            self.state.mark_relay(&relay);
        }
        let Some(message) = announced else { return };
        self.state
            .event_of(EventKind::OverrideSet, path.as_ref(), group, message, self.now);
    }

    /// A limit refuses a member.
    pub(super) fn refuse_for_limit(&mut self, member: PendingMember, relay: &RelayId, refusal: Refusal) {
        let Some(path) = self.path(relay) else { return };
        let when = match refusal.possible_at {
            Some(at) => format!("possible again at {}", self.state.show(Some(at))),
            None if refusal.cause == Cause::PowerLimit => "possible when the others draw less".to_owned(),
            None if refusal.cause == Cause::Thermometer => "possible when it has a value".to_owned(),
            None => "possible some time after it is confirmed off".to_owned(),
        };
        self.refuse(
            member,
            relay,
            format!("{path} may not be on now: {refusal}; {when}"),
        );
    }

    /// A member may not be switched.
    pub(super) fn refuse(&mut self, member: PendingMember, relay: &RelayId, message: String) {
        let Some(path) = self.path(relay) else { return };
        self.state
            .event(EventKind::RefusedBySafety, Some(&path), message.clone(), self.now);
        let error = CommandError::bridge(ErrorCode::RefusedBySafety, message);
        self.complete(member, relay, Err(error));
    }

    /// Something newer decides over an outlet: a member that waits for its turn is not carried out.
    pub(super) fn withdraw_waiting(&mut self, path: &OutletPath) {
        let Some(relay) = self.state.relay(path).cloned() else {
            return;
        };
        let Some(waiting) = self.state.commands.take_waiting(&relay) else {
            return;
        };
        let rules = self.state.rules.in_force().clone();
        if let Some(group) = self.state.rules.group_in(&rules, path)
            && let Some(state) = self.state.groups.get_mut(&group.id)
        {
            state.turns.give_back(group, waiting.at);
        }
        self.complete(waiting.member, &relay, Err(CommandError::superseded()));
    }

    /// The same, also for a switch to ON that waits for its device.
    pub(super) fn withdraw(&mut self, path: &OutletPath) {
        self.withdraw_waiting(path);
        let goes_on = self.state.outlet(path).and_then(|outlet| outlet.in_flight?.power) == Some(Power::On);
        if goes_on {
            self.state.withdraw_from_device(path);
        }
    }

    fn path(&self, relay: &RelayId) -> Option<OutletPath> {
        self.state.outlets.get(relay).map(|outlet| outlet.path.clone())
    }
}

/// A command that failed leaves the timer that was there before. One that may have switched on ends OFF all the same, at the
/// earlier end of both: in doubt OFF. Nothing is switched on later by a command that failed. A countdown switches nothing
/// on, and its device goes back to the end before.
fn restore_timer(outlet: &mut OutletState, member: PendingMember, error: &CommandError, now: Now) {
    let Some(undo) = outlet.undo.filter(|undo| undo.command == member.command) else {
        return;
    };
    let failed = std::mem::replace(&mut outlet.timer, undo.timer);
    let may_have_begun = |timer: &Timer| timer.to == Power::Off && timer.kind == TimerKind::Timed;
    let Some(failed) = failed.filter(|timer| may_have_begun(timer) && may_be_done(error)) else {
        return;
    };
    let ends_before =
        |timer: Timer| timer.to == Power::Off && timer.ends.steady(now) <= failed.ends.steady(now);
    if !undo.timer.is_some_and(ends_before) {
        outlet.timer = Some(Timer::countdown(now, failed.ends));
    }
}
