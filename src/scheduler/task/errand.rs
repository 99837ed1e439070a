//! Commands that the scheduler carries out itself, outlet by outlet, and answers as one.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use tracing::debug;

use super::{
    Look, Scheduler, Wake,
    guard::again,
    mirror::Mirroring,
    outlet::{Live, Retry, Urgency},
    timer::Timer,
};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceAction, Source, Switch},
    reply::{CommandResult, MemberResult, Reply},
    report::EventKind,
};
use planner::{
    DeviceId, GroupId, OutletPath, Power,
    overrides::{Override, Overrides},
};

/// Tells the switches in flight apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SwitchId(pub(super) u64);

/// A switch came to its end.
#[derive(Debug)]
pub(super) struct SwitchDone {
    pub(super) id: SwitchId,
    pub(super) outcome: CommandResult,
}

/// Tells errands apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ErrandId(u64);

/// One command for one or several outlets.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) reply: Reply,
    pub(super) group: Option<GroupId>,
    pub(super) items: Vec<Item>,
    /// What the override it sets is called, if it sets one.
    pub(super) overriding: Option<String>,
    pub(super) standing: Standing,
}

/// Whether what it changed holds: that is so once a device confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Provisional,
    Stands,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) path: OutletPath,
    pub(super) outcome: Option<CommandResult>,
}

/// What an intent of ours is for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    Errand(ErrandId),
    Reconcile(Urgency),
    Guard,
    /// Reads a device again because the wall clock jumped.
    Reread(DeviceId),
}

/// An intent that is not answered yet.
#[derive(Debug, Clone)]
pub(super) struct Flying {
    pub(super) path: OutletPath,
    pub(super) power: Option<Power>,
    pub(super) purpose: Purpose,
}

/// A member whose turn has not come.
#[derive(Debug)]
pub(super) struct Deferred {
    pub(super) at: Instant,
    pub(super) errand: ErrandId,
    pub(super) path: OutletPath,
    pub(super) power: Power,
    pub(super) deadline: Instant,
}

/// What an outlet had before an errand that may fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Undo {
    pub(super) errand: ErrandId,
    pub(super) overridden: Before<Override>,
    pub(super) timer: Option<Timer>,
}

/// What there was before, if it was touched.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before<T> {
    Untouched,
    Was(Option<T>),
}

/// Errands and intents in flight.
#[derive(Debug, Default)]
pub(super) struct Desk {
    next: u64,
    pub(super) errands: BTreeMap<ErrandId, Errand>,
    pub(super) flying: BTreeMap<SwitchId, Flying>,
    pub(super) deferred: Vec<Deferred>,
    pub(super) undo: BTreeMap<OutletPath, Undo>,
    /// Outlets whose timed OFF is over and that may not be on yet, as was told.
    pub(super) held_back: BTreeSet<OutletPath>,
    /// What is wanted on plugs that hold OFF edges.
    pub(super) mirrors: BTreeMap<OutletPath, Mirroring>,
    /// When the next member of a group may be switched.
    pub(super) slots: BTreeMap<GroupId, Instant>,
}

impl Desk {
    /// What comes later has the greater number.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn errand_id(&mut self) -> ErrandId {
        ErrandId(self.number())
    }

    pub(super) fn ticket_id(&mut self) -> SwitchId {
        SwitchId(self.number())
    }

    /// The number of the newest command that is to turn an outlet on and has not been answered.
    pub(super) fn wanted_on(&self, path: &OutletPath) -> Option<u64> {
        let waits = self.deferred.iter().filter(|deferred| deferred.path == *path);
        let waits = waits.map(|deferred| (deferred.power, deferred.errand.0));
        let flies = self.flying.iter().filter(|(_, flying)| flying.path == *path);
        let flies = flies.filter_map(|(id, flying)| Some((flying.power?, id.0)));
        let (power, number) = waits.chain(flies).max_by_key(|(_, number)| *number)?;
        (power == Power::On).then_some(number)
    }

    fn stands(&self, errand: ErrandId) -> bool {
        self.errands
            .get(&errand)
            .is_some_and(|errand| errand.standing == Standing::Stands)
    }

    /// Overrides and timers without what no device confirmed. A new timer that can only switch off is kept all the
    /// same.
    pub(super) fn settled(
        &self,
        mut overrides: Overrides,
        mut timers: BTreeMap<OutletPath, Timer>,
    ) -> (Overrides, BTreeMap<OutletPath, Timer>) {
        for (path, undo) in &self.undo {
            if !self.stands(undo.errand) {
                restore(&mut overrides, path, undo.overridden);
                if timers.get(path).is_some_and(|timer| timer.to == Power::On) {
                    timers.remove(path);
                }
            }
            if let Some(timer) = undo.timer {
                timers.entry(path.clone()).or_insert(timer);
            }
        }
        (overrides, timers)
    }
}

fn restore(overrides: &mut Overrides, path: &OutletPath, before: Before<Override>) {
    match before {
        Before::Untouched => {}
        Before::Was(None) => {
            overrides.clear(path);
        }
        Before::Was(Some(before)) => overrides.set(path.clone(), before),
    }
}

/// One outlet that was not asked as a group answers for itself.
pub(super) fn answer(reply: Reply, members: Vec<MemberResult>, group: Option<&GroupId>) {
    match (members.as_slice(), group) {
        ([(_, outcome)], None) => reply.send(outcome.clone()),
        _ => reply.send_members(members),
    }
}

/// Whether the device may have done what it did not confirm.
fn may_be_done(failure: &CommandError) -> bool {
    failure.attempts > 0 || matches!(failure.code, ErrorCode::NoAnswer | ErrorCode::NotConfirmed)
}

impl Scheduler {
    /// Sends the members whose turn has come.
    pub(super) fn send_deferred(&mut self, look: Look, wake: &mut Wake) {
        let mut due = Vec::new();
        for deferred in std::mem::take(&mut self.desk.deferred) {
            if deferred.at > look.instant {
                wake.by(deferred.at);
                self.desk.deferred.push(deferred);
                continue;
            }
            match self.in_its_way(&deferred.path).cloned() {
                None => due.push(deferred),
                Some(_) if deferred.deadline > look.instant => {
                    wake.by(deferred.deadline);
                    self.desk.deferred.push(deferred);
                }
                Some(rival) => self.give_way(&deferred, &rival, look),
            }
        }
        for deferred in due {
            // A limit may have been reached while it waited.
            match self.allow(&deferred.path, deferred.power, look) {
                Ok(()) => self.send_member(&deferred, look),
                Err(refusal) => self.refuse(deferred.errand, &deferred.path, refusal, look),
            }
        }
    }

    pub(super) fn send_member(&mut self, deferred: &Deferred, look: Look) {
        let guard = self.guard_with(&deferred.path, deferred.power, look);
        self.send(
            &deferred.path,
            DeviceAction::Switch(Switch::To(deferred.power)),
            guard,
            Source::Mqtt,
            deferred.deadline,
            Purpose::Errand(deferred.errand),
        );
    }

    /// Takes what became of an intent.
    pub(super) fn take_answer(&mut self, answer: SwitchDone) {
        let Some(flying) = self.desk.flying.remove(&answer.id) else {
            return;
        };
        let look = Look::at(&self.clock);
        let path = &flying.path;
        match flying.purpose {
            Purpose::Reread(device) => self.reread(&device, look),
            Purpose::Errand(errand) => {
                self.land(path, flying.power, &answer);
                self.complete(errand, path, answer.outcome, look);
            }
            Purpose::Reconcile(urgency) => {
                let retry = &mut self.land(path, flying.power, &answer).retry;
                match &answer.outcome {
                    Ok(_) => retry.succeeded(look.instant),
                    Err(failure) => {
                        retry.failed(urgency, look.instant);
                        debug!(outlet = %path, code = %failure.code, reason = %failure.message, "not switched; it is tried again");
                    }
                }
            }
            Purpose::Guard => {
                let again = look.instant + again(&answer.outcome);
                self.land(path, flying.power, &answer).guard_after = Some(again);
            }
        }
    }

    /// An intent is not on its way any more. What it may have done half way is in doubt.
    fn land(&mut self, path: &OutletPath, power: Option<Power>, answer: &SwitchDone) -> &mut Live {
        let live = self.live.entry(path.clone()).or_default();
        if live.flight.is_some_and(|flight| flight.reply == answer.id) {
            live.flight = None;
        }
        if let Err(failure) = &answer.outcome
            && may_be_done(failure)
        {
            live.doubt = power;
        }
        live
    }

    /// Takes what became of one outlet of an errand.
    pub(super) fn complete(&mut self, id: ErrandId, path: &OutletPath, outcome: CommandResult, look: Look) {
        let live = self.live.entry(path.clone()).or_default();
        if live.errand == Some(id) {
            live.errand = None;
        }
        match &outcome {
            Ok(_) => {
                live.retry = Retry::default();
                self.stand(id, look);
            }
            Err(failure) => self.restore_timer(id, path, failure),
        }
        let Some(errand) = self.desk.errands.get_mut(&id) else {
            return;
        };
        if let Some(item) = errand.items.iter_mut().find(|item| item.path == *path) {
            item.outcome = Some(outcome);
        }
        if errand.items.iter().all(|item| item.outcome.is_some()) {
            self.finish(id);
        }
    }

    /// A device confirmed it: what the errand changed holds.
    fn stand(&mut self, id: ErrandId, look: Look) {
        let Some(errand) = self.desk.errands.get_mut(&id) else {
            return;
        };
        if errand.standing == Standing::Stands {
            return;
        }
        errand.standing = Standing::Stands;
        let Some(overriding) = errand.overriding.clone() else {
            return;
        };
        let group = errand.group.clone();
        let path = match errand.items.as_slice() {
            [item] => Some(item.path.clone()),
            _ => None,
        };
        self.tell_event(EventKind::OverrideSet, path.as_ref(), group, overriding, look);
    }

    /// A timer that surely failed leaves no timer behind; one that may have been done does.
    fn restore_timer(&mut self, id: ErrandId, path: &OutletPath, failure: &CommandError) {
        let Some(undo) = self.desk.undo.get(path).filter(|undo| undo.errand == id) else {
            return;
        };
        match (undo.timer, self.book.timers.contains_key(path)) {
            (Some(before), _) if !may_be_done(failure) => {
                self.book.timers.insert(path.clone(), before);
            }
            (Some(before), false) => {
                self.book.timers.insert(path.clone(), before);
            }
            (None, true) if !may_be_done(failure) => {
                self.book.timers.remove(path);
            }
            _ => {}
        }
    }

    /// All outlets answered: so does the errand. What none of them confirmed is withdrawn.
    fn finish(&mut self, id: ErrandId) {
        let Some(errand) = self.desk.errands.remove(&id) else {
            return;
        };
        for item in &errand.items {
            let Some(undo) = self.desk.undo.get(&item.path).copied() else {
                continue;
            };
            if undo.errand != id {
                continue;
            }
            if errand.standing == Standing::Provisional {
                restore(&mut self.book.overrides, &item.path, undo.overridden);
            }
            self.desk.undo.remove(&item.path);
        }
        let members = errand
            .items
            .into_iter()
            .filter_map(|item| Some((item.path, item.outcome?)))
            .collect();
        answer(errand.reply, members, errand.group.as_ref());
    }

    /// An override that no command made. A command that fails from now on restores what was before it no more.
    pub(super) fn override_by_itself(&mut self, path: &OutletPath, new: Override) {
        if let Some(undo) = self.desk.undo.get_mut(path) {
            undo.overridden = Before::Untouched;
        }
        self.book.overrides.set(path.clone(), new);
    }

    /// A newer command for an outlet: an older one whose turn has not come is not carried out.
    pub(super) fn supersede_deferred(&mut self, path: &OutletPath, look: Look) {
        let (replaced, rest) = std::mem::take(&mut self.desk.deferred)
            .into_iter()
            .partition::<Vec<_>, _>(|deferred| deferred.path == *path);
        self.desk.deferred = rest;
        for deferred in replaced.into_iter().rev() {
            self.give_back_slot(&deferred);
            self.complete(deferred.errand, path, Err(CommandError::superseded()), look);
        }
    }
}
