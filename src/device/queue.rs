//! Commands that wait for one device. Pure: time and state come in as arguments.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::{
    intent::{Action, Code, Failure, Guard, Intent, Source, Switch},
    model::{OutletKey, Power},
};

/// Commands that may wait for one device. Equal targets collapse, so only reads and toggles of a
/// device that does not answer can fill it.
pub(super) const CAPACITY: usize = 64;

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
    intent: Intent,
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
    pub(super) fn push(&mut self, mut intent: Intent, view: &View, now: Instant) {
        if let Action::Switch(Switch::Toggle) = intent.action
            && let Some(expected) = self.expected(&intent, view)
        {
            intent.action = Action::Switch(Switch::To(expected.toggled()));
        }
        if matches!(intent.action, Action::Switch(Switch::To(_)) | Action::Guard) {
            self.supersede(&intent);
        }
        let mut refused = None;
        if self.waiting.len() < CAPACITY {
            self.waiting.push_back(Waiting { intent, since: now });
        } else if let Some(yielding) = self.last_that_yields_to(&intent) {
            refused = self.waiting.remove(yielding).map(|waiting| waiting.intent);
            self.waiting.push_back(Waiting { intent, since: now });
        } else {
            refused = Some(intent);
        }
        if let Some(refused) = refused {
            let message = format!("{CAPACITY} commands wait for this device already");
            refused.ticket.answer(Err(Failure::bridge(Code::Busy, message)));
        }
    }

    /// Even a full queue takes what is urgent.
    fn last_that_yields_to(&self, newer: &Intent) -> Option<usize> {
        let yields = |waiting: &Waiting| !is_urgent(&waiting.intent);
        is_urgent(newer).then(|| self.waiting.iter().rposition(yields))?
    }

    /// Whether a newer command waits that decides over this outlet of the command in flight.
    pub(super) fn overtakes(&self, outlet: Option<&OutletKey>) -> bool {
        self.waiting.iter().any(|Waiting { intent, .. }| {
            let decides = matches!(intent.action, Action::Switch(Switch::To(_)));
            decides && (intent.path.outlet.is_none() || intent.path.outlet.as_ref() == outlet)
        })
    }

    /// Puts back an intent that could not be carried out yet, unless a newer one replaced it meanwhile.
    pub(super) fn put_back(&mut self, intent: Intent, attempts: u32, now: Instant) {
        let replaced = self
            .waiting
            .iter()
            .any(|newer| is_settled_by(&intent, &newer.intent));
        if replaced {
            let failure = Failure {
                attempts,
                ..Failure::superseded()
            };
            intent.ticket.answer(Err(failure));
        } else {
            self.waiting.push_front(Waiting { intent, since: now });
        }
    }

    /// The next intent to carry out: safety and OFF before the rest, but never past an earlier one
    /// that touches the same outlet.
    pub(super) fn pop(&mut self) -> Option<Intent> {
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
    pub(super) fn take_reads(&mut self) -> Vec<Intent> {
        let (reads, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| waiting.intent.action == Action::Read);
        self.waiting = rest;
        reads.into_iter().map(|waiting| waiting.intent).collect()
    }

    /// When the first time to live runs out.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.intent.deadline).min()
    }

    /// Answers the intents whose time ran out.
    pub(super) fn expire(&mut self, now: Instant, failure: impl Fn(std::time::Duration) -> Failure) {
        let (expired, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| waiting.intent.deadline <= now);
        self.waiting = rest;
        for Waiting { intent, since } in expired {
            intent.ticket.answer(Err(failure(now.duration_since(since))));
        }
    }

    /// Answers every waiting intent with one failure: waiting would not help.
    pub(super) fn refuse_all(&mut self, failure: &Failure) {
        for waiting in self.waiting.drain(..) {
            waiting.intent.ticket.answer(Err(failure.clone()));
        }
    }

    fn expected(&self, toggle: &Intent, view: &View) -> Option<Power> {
        let last = self
            .waiting
            .iter()
            .rev()
            .find(|earlier| overlap(&earlier.intent, toggle));
        match last.map(|last| (last.intent.action, last.intent.path == toggle.path)) {
            Some((Action::Switch(Switch::To(power)), true)) => Some(power),
            // An unresolved toggle, or a command for another set of outlets: decided when its turn comes.
            Some((Action::Switch(_), _)) => None,
            _ => view.expected(toggle.path.outlet.as_ref()),
        }
    }

    fn supersede(&mut self, newer: &Intent) {
        let (superseded, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| is_settled_by(&waiting.intent, newer));
        self.waiting = rest;
        for waiting in superseded {
            waiting.intent.ticket.answer(Err(Failure::superseded()));
        }
    }
}

/// Whether `newer` decides everything that `older` wanted to.
fn is_settled_by(older: &Intent, newer: &Intent) -> bool {
    let same_outlets = newer.path == older.path || newer.path.outlet.is_none();
    let decides = match (older.action, newer.action) {
        (Action::Switch(_), Action::Switch(Switch::To(_))) | (Action::Guard, Action::Guard) => true,
        // An outlet that goes off needs no countdown; one that goes on brings its own, or leaves the other.
        (Action::Guard, Action::Switch(Switch::To(power))) => {
            power == Power::Off || newer.guard != Guard::Leave
        }
        _ => false,
    };
    decides && same_outlets
}

fn is_urgent(intent: &Intent) -> bool {
    intent.source == Source::Safety || intent.action == Action::Switch(Switch::To(Power::Off))
}

fn overlap(a: &Intent, b: &Intent) -> bool {
    let both_switch = matches!((a.action, b.action), (Action::Switch(_), Action::Switch(_)));
    both_switch && touch(a, b)
}

/// Whether the order of the two matters: both change something about the same outlet.
fn touch(a: &Intent, b: &Intent) -> bool {
    let changes = |intent: &Intent| matches!(intent.action, Action::Switch(_) | Action::Guard);
    let same_outlets = a.path == b.path || a.path.outlet.is_none() || b.path.outlet.is_none();
    changes(a) && changes(b) && same_outlets
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::*;
    use crate::intent::{Answer, Ticket, TicketId};

    struct Desk {
        queue: Queue,
        view: View,
        answers: UnboundedSender<Answer>,
        inbox: UnboundedReceiver<Answer>,
        next: u64,
        now: Instant,
    }

    impl Desk {
        fn new() -> Self {
            let (answers, inbox) = unbounded_channel();
            Self {
                queue: Queue::default(),
                view: View::default(),
                answers,
                inbox,
                next: 0,
                now: Instant::now(),
            }
        }

        fn intent(&mut self, path: &str, action: Action) -> Intent {
            self.next += 1;
            Intent {
                path: path.parse().unwrap(),
                action,
                guard: Guard::Leave,
                source: Source::Mqtt,
                deadline: self.now + Duration::from_secs(10),
                ticket: Ticket::new(TicketId(self.next), self.answers.clone()),
            }
        }

        fn push(&mut self, path: &str, action: Action) {
            let intent = self.intent(path, action);
            self.queue.push(intent, &self.view, self.now);
        }

        fn popped(&mut self) -> Vec<(String, Action)> {
            std::iter::from_fn(|| self.queue.pop())
                .map(|intent| {
                    let what = (intent.path.to_string(), intent.action);
                    intent.ticket.answer(Err(Failure::bridge(Code::Busy, "popped")));
                    what
                })
                .collect()
        }

        fn answered(&mut self) -> Vec<(u64, Code)> {
            std::iter::from_fn(|| self.inbox.try_recv().ok())
                .map(|answer| (answer.id.0, answer.outcome.unwrap_err().code))
                .collect()
        }
    }

    const ON: Action = Action::Switch(Switch::To(Power::On));
    const OFF: Action = Action::Switch(Switch::To(Power::Off));
    const TOGGLE: Action = Action::Switch(Switch::Toggle);

    #[test]
    fn the_latest_command_of_an_outlet_wins_and_the_others_are_answered() {
        let mut desk = Desk::new();
        for action in [ON, OFF, ON] {
            desk.push("strip/1", action);
        }
        desk.push("strip/2", ON);
        assert_eq!(desk.answered(), [(1, Code::Superseded), (2, Code::Superseded)]);
        assert_eq!(desk.popped(), [("strip/1".into(), ON), ("strip/2".into(), ON)]);
    }

    #[test]
    fn a_whole_strip_replaces_its_outlets_but_not_the_other_way_round() {
        let mut desk = Desk::new();
        desk.push("strip/1", ON);
        desk.push("strip", OFF);
        desk.push("strip/2", ON);
        assert_eq!(desk.answered(), [(1, Code::Superseded)]);
        assert_eq!(desk.popped(), [("strip".into(), OFF), ("strip/2".into(), ON)]);
    }

    #[test]
    fn off_overtakes_only_commands_of_other_outlets() {
        let mut desk = Desk::new();
        desk.push("strip/1", ON);
        desk.push("strip/2", OFF);
        assert_eq!(desk.popped(), [("strip/2".into(), OFF), ("strip/1".into(), ON)]);
        desk.push("strip", ON);
        desk.push("strip/2", OFF);
        assert_eq!(desk.popped(), [("strip".into(), ON), ("strip/2".into(), OFF)]);
    }

    #[test]
    fn a_toggle_is_resolved_against_what_will_be() {
        let mut desk = Desk::new();
        desk.view.confirmed = vec![(None, Some(Power::Off))];
        desk.push("plug", TOGGLE);
        desk.push("plug", TOGGLE);
        assert_eq!(desk.popped(), [("plug".into(), OFF)], "two toggles are no change");
        desk.view.in_flight = Some((None, Power::On));
        desk.push("plug", TOGGLE);
        assert_eq!(desk.popped(), [("plug".into(), OFF)]);
    }

    #[test]
    fn a_toggle_of_an_unknown_state_waits_unresolved_and_is_not_lost() {
        let mut desk = Desk::new();
        desk.push("plug", TOGGLE);
        desk.push("plug", TOGGLE);
        assert_eq!(desk.popped(), [("plug".into(), TOGGLE), ("plug".into(), TOGGLE)]);
        desk.push("plug", TOGGLE);
        desk.push("plug", ON);
        assert_eq!(desk.popped(), [("plug".into(), ON)]);
    }

    #[test]
    fn a_strip_is_on_if_any_outlet_is() {
        let mut desk = Desk::new();
        let key = |n: &str| Some(n.parse().unwrap());
        desk.view.confirmed = vec![(key("1"), Some(Power::Off)), (key("2"), Some(Power::On))];
        desk.push("strip", TOGGLE);
        assert_eq!(desk.popped(), [("strip".into(), OFF)]);
    }

    #[test]
    fn a_countdown_is_not_armed_after_the_off_that_came_later() {
        let mut desk = Desk::new();
        desk.push("plug", Action::Guard);
        desk.push("plug", Action::Guard);
        desk.push("plug", ON);
        assert_eq!(desk.answered(), [(1, Code::Superseded)], "an ON leaves it");
        desk.push("plug", OFF);
        assert_eq!(desk.answered(), [(2, Code::Superseded), (3, Code::Superseded)]);
        desk.push("plug", Action::Guard);
        desk.push("plug", ON);
        assert_eq!(
            desk.popped(),
            [("plug".into(), Action::Guard), ("plug".into(), ON)],
            "an ON replaces the OFF and the countdown keeps its turn"
        );
    }

    #[test]
    fn time_runs_out_per_command() {
        let mut desk = Desk::new();
        desk.push("plug", Action::Read);
        let mut patient = desk.intent("plug", ON);
        patient.deadline += Duration::from_mins(1);
        desk.queue.push(patient, &desk.view, desk.now);
        assert_eq!(
            desk.queue.next_deadline(),
            Some(desk.now + Duration::from_secs(10))
        );
        desk.queue.expire(desk.now + Duration::from_secs(10), |waited| {
            Failure::expired(waited, "test")
        });
        assert_eq!(desk.answered(), [(1, Code::Expired)]);
        assert_eq!(desk.queue.len(), 1);
    }

    #[test]
    fn a_command_put_back_yields_to_a_newer_one() {
        let mut desk = Desk::new();
        desk.push("strip/1", ON);
        let first = desk.queue.pop().unwrap();
        desk.push("strip", OFF);
        desk.queue.put_back(first, 1, desk.now);
        assert_eq!(desk.answered(), [(1, Code::Superseded)]);
        let whole = desk.queue.pop().unwrap();
        desk.push("strip/1", ON);
        desk.queue.put_back(whole, 1, desk.now);
        assert_eq!(desk.popped(), [("strip".into(), OFF), ("strip/1".into(), ON)]);
    }

    #[test]
    fn a_full_queue_says_so() {
        let mut desk = Desk::new();
        for _ in 0..=CAPACITY {
            desk.push("plug", Action::Read);
        }
        assert_eq!(desk.answered(), [(CAPACITY as u64 + 1, Code::Busy)]);
        assert_eq!(desk.queue.take_reads().len(), CAPACITY);
        assert!(desk.queue.is_empty());
    }

    #[test]
    fn a_full_queue_makes_room_for_what_is_urgent() {
        let mut desk = Desk::new();
        for _ in 0..CAPACITY {
            desk.push("plug", Action::Read);
        }
        desk.push("plug", ON);
        desk.push("plug", OFF);
        let safety = Intent {
            source: Source::Safety,
            ..desk.intent("plug/1", ON)
        };
        desk.queue.push(safety, &desk.view, desk.now);
        let busy = |id| (id, Code::Busy);
        let capacity = CAPACITY as u64;
        assert_eq!(
            desk.answered(),
            [busy(capacity + 1), busy(capacity), busy(capacity - 1)]
        );
        assert_eq!(desk.popped()[0], ("plug".into(), OFF));
    }

    #[test]
    fn what_waits_overtakes_what_is_in_flight_outlet_by_outlet() {
        let mut desk = Desk::new();
        let key = |n: &str| n.parse::<OutletKey>().unwrap();
        desk.push("strip", ON);
        let _whole = desk.queue.pop().unwrap();
        desk.push("strip/1", OFF);
        desk.push("strip/2", TOGGLE);
        desk.push("strip/3", Action::Read);
        let overtaken = ["1", "2", "3"].map(|n| desk.queue.overtakes(Some(&key(n))));
        // A TOGGLE depends on what is in flight.
        assert_eq!(overtaken, [true, false, false]);
        desk.push("strip", OFF);
        assert!(desk.queue.overtakes(Some(&key("3"))));
    }

    #[test]
    fn nothing_is_dropped_without_an_answer() {
        let mut desk = Desk::new();
        desk.push("plug", ON);
        drop(std::mem::take(&mut desk.queue));
        assert_eq!(desk.answered(), [(1, Code::ShuttingDown)]);
    }
}
