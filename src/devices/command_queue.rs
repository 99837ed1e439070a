//! Commands that wait for one device. Pure: time and state come in as arguments.

use crate::domain::devices::QUEUE_CAPACITY;
use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceAction, DeviceCommand, Source, Switch},
};
use planner::{OutletKey, OutletPath, Power};

/// What the device's outlets are or are about to be, to resolve a TOGGLE once.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The confirmed state of each outlet.
    pub(super) confirmed: Vec<(Option<OutletKey>, Option<Power>)>,
    /// What is being switched right now.
    pub(super) in_flight: Option<(Option<OutletKey>, Power)>,
}

impl View {
    fn expected(&self, outlet: Option<&OutletKey>) -> Option<Power> {
        if let Some((target, power)) = &self.in_flight
            && target.as_ref().is_none_or(|target| Some(target) == outlet)
        {
            return Some(*power);
        }
        let of_target = self
            .confirmed
            .iter()
            .filter(|(key, _)| outlet.is_none() || key.as_ref() == outlet);
        // A whole strip is on if any of its outlets is.
        of_target.filter_map(|(_, power)| *power).max()
    }
}

/// The waiting commands of one device, in order, with two lanes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// What was withdrawn since the command in flight was taken.
    withdrawn: Vec<OutletPath>,
    /// The turn of the next new command.
    next_turn: u64,
    /// The turn of the newest switch of each outlet that was taken out to be carried out; `None` is a whole strip.
    newest_taken: BTreeMap<Option<OutletKey>, u64>,
}

#[derive(Debug)]
struct Waiting {
    intent: DeviceCommand,
    since: Instant,
}

impl Waiting {
    fn turn(&self) -> u64 {
        self.intent.turn.unwrap_or_default()
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes an intent. A switch replaces the waiting switches of the same outlet, which are answered
    /// `superseded`; a full queue answers `busy`.
    pub(super) fn push(&mut self, mut intent: DeviceCommand, view: &View, now: Instant) {
        let turn = self.take_turn(&mut intent);
        if self.is_replaced(&intent, turn) {
            return intent.reply.send(Err(CommandError::superseded()));
        }
        if let DeviceAction::Switch(Switch::Toggle) = intent.action
            && let Some(expected) = self.expected(&intent, view)
        {
            intent.action = DeviceAction::Switch(Switch::To(expected.toggled()));
        }
        if matches!(
            intent.action,
            DeviceAction::Switch(Switch::To(_)) | DeviceAction::CancelCountdown
        ) {
            self.supersede(&intent);
        }
        let mut refused = None;
        if self.waiting.len() < QUEUE_CAPACITY {
            self.insert(intent, turn, now);
        } else if let Some(yielding) = self.last_that_yields_to(&intent) {
            refused = self.waiting.remove(yielding).map(|waiting| waiting.intent);
            self.insert(intent, turn, now);
        } else {
            refused = Some(intent);
        }
        if let Some(refused) = refused {
            let message = format!("{QUEUE_CAPACITY} commands wait for this device already");
            refused
                .reply
                .send(Err(CommandError::bridge(ErrorCode::Busy, message)));
        }
    }

    /// A command that comes back keeps its turn.
    fn take_turn(&mut self, intent: &mut DeviceCommand) -> u64 {
        let next = &mut self.next_turn;
        *intent.turn.get_or_insert_with(|| {
            *next += 1;
            *next
        })
    }

    fn insert(&mut self, intent: DeviceCommand, turn: u64, now: Instant) {
        let newer = self.waiting.iter().position(|waiting| waiting.turn() > turn);
        let at = newer.unwrap_or(self.waiting.len());
        self.waiting.insert(at, Waiting { intent, since: now });
    }

    /// Whether a newer command decided everything that this one wants to.
    fn is_replaced(&self, intent: &DeviceCommand, turn: u64) -> bool {
        let switches = matches!(intent.action, DeviceAction::Switch(_));
        let waits = self
            .waiting
            .iter()
            .any(|newer| newer.turn() > turn && is_settled_by(intent, &newer.intent));
        waits || (switches && self.newest_taken(intent.path.outlet.as_ref()) > turn)
    }

    /// Commands may name outlets that do not exist, so what is kept has a bound.
    fn forget_oldest_taken(&mut self) {
        if self.newest_taken.len() > QUEUE_CAPACITY
            && let Some(oldest) = self.newest_taken.values().min().copied()
        {
            self.newest_taken.retain(|_, turn| *turn > oldest);
        }
    }

    fn newest_taken(&self, outlet: Option<&OutletKey>) -> u64 {
        let of = |outlet: Option<&OutletKey>| self.newest_taken.get(&outlet.cloned()).copied();
        of(None).max(of(outlet)).unwrap_or(0)
    }

    /// Even a full queue takes what is urgent.
    fn last_that_yields_to(&self, newer: &DeviceCommand) -> Option<usize> {
        let yields = |waiting: &Waiting| !is_urgent(&waiting.intent);
        is_urgent(newer).then(|| self.waiting.iter().rposition(yields))?
    }

    /// Whether a newer command waits, or was carried out, that decides over this outlet of the command in flight.
    pub(super) fn overtakes(&self, outlet: Option<&OutletKey>, turn: u64) -> bool {
        let waits = self.waiting.iter().any(|waiting| {
            let intent = &waiting.intent;
            let decides = matches!(intent.action, DeviceAction::Switch(Switch::To(_)));
            let same_outlet = intent.path.outlet.is_none() || intent.path.outlet.as_ref() == outlet;
            decides && same_outlet && waiting.turn() > turn
        });
        waits || self.newest_taken(outlet) > turn
    }

    /// Puts back an intent that could not be carried out yet, unless a newer one replaced it meanwhile.
    pub(super) fn put_back(&mut self, intent: DeviceCommand, attempts: u32, now: Instant) {
        let turn = intent.turn.unwrap_or_default();
        let replaced = self.is_replaced(&intent, turn);
        let withdrawn = self.withdrawn.iter().any(|path| is_withdrawn(&intent, path));
        if replaced || withdrawn {
            let failure = CommandError {
                attempts,
                ..CommandError::superseded()
            };
            intent.reply.send(Err(failure));
        } else {
            self.insert(intent, turn, now);
        }
    }

    /// The next intent to carry out: safety and OFF before the rest, but never past an earlier one
    /// that touches the same outlet.
    pub(super) fn pop(&mut self) -> Option<DeviceCommand> {
        self.withdrawn.clear();
        let urgent = (0..self.waiting.len()).find(|&at| {
            let Some(candidate) = self.waiting.get(at) else {
                return false;
            };
            let mut earlier = self.waiting.iter().take(at);
            is_urgent(&candidate.intent) && !earlier.any(|other| touch(&other.intent, &candidate.intent))
        });
        let taken = self.waiting.remove(urgent.unwrap_or(0))?;
        if let DeviceAction::Switch(_) = taken.intent.action {
            let turn = taken.turn();
            let newest = self
                .newest_taken
                .entry(taken.intent.path.outlet.clone())
                .or_default();
            *newest = turn.max(*newest);
            self.forget_oldest_taken();
        }
        Some(taken.intent)
    }

    /// Takes every waiting read: one read of the device answers them all.
    pub(super) fn take_reads(&mut self) -> Vec<DeviceCommand> {
        let (reads, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| waiting.intent.action == DeviceAction::Read);
        self.waiting = rest;
        reads.into_iter().map(|waiting| waiting.intent).collect()
    }

    /// When the first time to live runs out.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.intent.deadline).min()
    }

    /// Answers the intents whose time ran out.
    pub(super) fn expire(&mut self, now: Instant, failure: impl Fn(std::time::Duration) -> CommandError) {
        let (expired, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| waiting.intent.deadline <= now);
        self.waiting = rest;
        for Waiting { intent, since } in expired {
            intent.reply.send(Err(failure(now.duration_since(since))));
        }
    }

    /// Answers every waiting intent with one failure: waiting would not help.
    pub(super) fn refuse_all(&mut self, failure: &CommandError) {
        for waiting in self.waiting.drain(..) {
            waiting.intent.reply.send(Err(failure.clone()));
        }
    }

    /// Replies `superseded` to the commands that would switch an outlet on, or toggle it. One that is in flight is not
    /// put back any more.
    pub(super) fn withdraw(&mut self, path: &OutletPath) {
        self.withdrawn.push(path.clone());
        let (withdrawn, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| is_withdrawn(&waiting.intent, path));
        self.waiting = rest;
        for waiting in withdrawn {
            waiting.intent.reply.send(Err(CommandError::superseded()));
        }
    }

    /// Takes the commands that would switch on, or toggle, in their order.
    pub(super) fn take_switch_ons(&mut self) -> Vec<DeviceCommand> {
        let (switch_ons, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| waiting.intent.action.may_switch_on());
        self.waiting = rest;
        switch_ons.into_iter().map(|waiting| waiting.intent).collect()
    }

    fn expected(&self, toggle: &DeviceCommand, view: &View) -> Option<Power> {
        let turn = toggle.turn.unwrap_or(u64::MAX);
        let mut earlier = self.waiting.iter().rev().filter(|waiting| waiting.turn() < turn);
        let last = earlier.find(|earlier| overlap(&earlier.intent, toggle));
        match last.map(|last| (last.intent.action, last.intent.path == toggle.path)) {
            Some((DeviceAction::Switch(Switch::To(power)), true)) => Some(power),
            // An unresolved toggle, or a command for another set of outlets: decided when its turn comes.
            Some((DeviceAction::Switch(_), _)) => None,
            _ => view.expected(toggle.path.outlet.as_ref()),
        }
    }

    fn supersede(&mut self, newer: &DeviceCommand) {
        let (superseded, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| {
                waiting.intent.turn < newer.turn && is_settled_by(&waiting.intent, newer)
            });
        self.waiting = rest;
        for waiting in superseded {
            waiting.intent.reply.send(Err(CommandError::superseded()));
        }
    }
}

/// Whether `newer` decides everything that `older` wanted to.
fn is_settled_by(older: &DeviceCommand, newer: &DeviceCommand) -> bool {
    let same_outlets = newer.path == older.path || newer.path.outlet.is_none();
    let decides = matches!(
        (older.action, newer.action),
        (DeviceAction::Switch(_), DeviceAction::Switch(Switch::To(_)))
            | (DeviceAction::CancelCountdown, DeviceAction::CancelCountdown)
    );
    decides && same_outlets
}

/// Whether a command would switch on an outlet that was withdrawn; with a whole strip all its outlets are.
fn is_withdrawn(command: &DeviceCommand, path: &OutletPath) -> bool {
    command.action.may_switch_on() && (command.path == *path || path.outlet.is_none())
}

fn is_urgent(intent: &DeviceCommand) -> bool {
    intent.source == Source::Safety || intent.action == DeviceAction::Switch(Switch::To(Power::Off))
}

fn overlap(a: &DeviceCommand, b: &DeviceCommand) -> bool {
    let both_switch = matches!(
        (a.action, b.action),
        (DeviceAction::Switch(_), DeviceAction::Switch(_))
    );
    both_switch && touch(a, b)
}

/// Whether the order of the two matters: both change something about the same outlet.
fn touch(a: &DeviceCommand, b: &DeviceCommand) -> bool {
    let changes = |intent: &DeviceCommand| {
        matches!(
            intent.action,
            DeviceAction::Switch(_) | DeviceAction::CancelCountdown
        )
    };
    let same_outlets = a.path == b.path || a.path.outlet.is_none() || b.path.outlet.is_none();
    changes(a) && changes(b) && same_outlets
}

#[cfg(test)]
mod tests;
