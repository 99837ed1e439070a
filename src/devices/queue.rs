//! Commands that wait for one device. Pure: time and state come in as arguments.

use crate::domain::devices::QUEUE_CAPACITY;
use std::collections::VecDeque;

use tokio::time::Instant;

use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceAction, DeviceCommand, Guard, Source, Switch},
};
use planner::{OutletKey, Power};

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
}

#[derive(Debug)]
struct Waiting {
    intent: DeviceCommand,
    since: Instant,
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
        if let DeviceAction::Switch(Switch::Toggle) = intent.action
            && let Some(expected) = self.expected(&intent, view)
        {
            intent.action = DeviceAction::Switch(Switch::To(expected.toggled()));
        }
        if matches!(
            intent.action,
            DeviceAction::Switch(Switch::To(_)) | DeviceAction::Guard
        ) {
            self.supersede(&intent);
        }
        let mut refused = None;
        if self.waiting.len() < QUEUE_CAPACITY {
            self.waiting.push_back(Waiting { intent, since: now });
        } else if let Some(yielding) = self.last_that_yields_to(&intent) {
            refused = self.waiting.remove(yielding).map(|waiting| waiting.intent);
            self.waiting.push_back(Waiting { intent, since: now });
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

    /// Even a full queue takes what is urgent.
    fn last_that_yields_to(&self, newer: &DeviceCommand) -> Option<usize> {
        let yields = |waiting: &Waiting| !is_urgent(&waiting.intent);
        is_urgent(newer).then(|| self.waiting.iter().rposition(yields))?
    }

    /// Whether a newer command waits that decides over this outlet of the command in flight.
    pub(super) fn overtakes(&self, outlet: Option<&OutletKey>) -> bool {
        self.waiting.iter().any(|Waiting { intent, .. }| {
            let decides = matches!(intent.action, DeviceAction::Switch(Switch::To(_)));
            decides && (intent.path.outlet.is_none() || intent.path.outlet.as_ref() == outlet)
        })
    }

    /// Puts back an intent that could not be carried out yet, unless a newer one replaced it meanwhile.
    pub(super) fn put_back(&mut self, intent: DeviceCommand, attempts: u32, now: Instant) {
        let replaced = self
            .waiting
            .iter()
            .any(|newer| is_settled_by(&intent, &newer.intent));
        if replaced {
            let failure = CommandError {
                attempts,
                ..CommandError::superseded()
            };
            intent.reply.send(Err(failure));
        } else {
            self.waiting.push_front(Waiting { intent, since: now });
        }
    }

    /// The next intent to carry out: safety and OFF before the rest, but never past an earlier one
    /// that touches the same outlet.
    pub(super) fn pop(&mut self) -> Option<DeviceCommand> {
        let urgent = (0..self.waiting.len()).find(|&at| {
            let Some(candidate) = self.waiting.get(at) else {
                return false;
            };
            let mut earlier = self.waiting.iter().take(at);
            is_urgent(&candidate.intent) && !earlier.any(|other| touch(&other.intent, &candidate.intent))
        });
        self.waiting
            .remove(urgent.unwrap_or(0))
            .map(|waiting| waiting.intent)
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

    fn expected(&self, toggle: &DeviceCommand, view: &View) -> Option<Power> {
        let last = self
            .waiting
            .iter()
            .rev()
            .find(|earlier| overlap(&earlier.intent, toggle));
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
            .partition::<VecDeque<_>, _>(|waiting| is_settled_by(&waiting.intent, newer));
        self.waiting = rest;
        for waiting in superseded {
            waiting.intent.reply.send(Err(CommandError::superseded()));
        }
    }
}

/// Whether `newer` decides everything that `older` wanted to.
fn is_settled_by(older: &DeviceCommand, newer: &DeviceCommand) -> bool {
    let same_outlets = newer.path == older.path || newer.path.outlet.is_none();
    let decides = match (older.action, newer.action) {
        (DeviceAction::Switch(_), DeviceAction::Switch(Switch::To(_)))
        | (DeviceAction::Guard, DeviceAction::Guard) => true,
        // An outlet that goes off needs no countdown; one that goes on brings its own, or leaves the other.
        (DeviceAction::Guard, DeviceAction::Switch(Switch::To(power))) => {
            power == Power::Off || newer.guard != Guard::Leave
        }
        _ => false,
    };
    decides && same_outlets
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
    let changes =
        |intent: &DeviceCommand| matches!(intent.action, DeviceAction::Switch(_) | DeviceAction::Guard);
    let same_outlets = a.path == b.path || a.path.outlet.is_none() || b.path.outlet.is_none();
    changes(a) && changes(b) && same_outlets
}

#[cfg(test)]
mod tests;
