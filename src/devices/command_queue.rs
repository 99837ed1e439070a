//! The pending commands of one device. Pure: time and state are arguments.

use crate::domain::devices::QUEUE_CAPACITY;
use std::collections::{BTreeMap, VecDeque, vec_deque};

use tokio::time::Instant;

use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceAction, DeviceCommand, Source, Switch},
};
use planner::{OutletKey, OutletPath, Power};

/// The state of the outlets and the switch in flight, to resolve a TOGGLE once.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The confirmed state of each outlet.
    pub(super) confirmed: Vec<(Option<OutletKey>, Option<Power>)>,
    /// The switch in flight.
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

/// The pending commands of one device, in order. Urgent ones go first.
#[derive(Debug, Default)]
pub(super) struct CommandQueue {
    pending: VecDeque<QueuedCommand>,
    /// The outlets that were withdrawn since the command in flight was taken.
    withdrawn: Vec<OutletPath>,
    /// The turn of the next new command.
    next_turn: u64,
    /// The turn of the newest switch of each outlet that was taken out to be carried out; `None` is a whole strip.
    newest_taken: BTreeMap<Option<OutletKey>, u64>,
}

#[derive(Debug)]
struct QueuedCommand {
    command: DeviceCommand,
    since: Instant,
}

impl QueuedCommand {
    fn turn(&self) -> u64 {
        self.command.turn.unwrap_or_default()
    }
}

impl CommandQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Takes a command. A switch replaces the pending switches of the same outlet, which reply
    /// `superseded`. A full queue replies `busy`.
    pub(super) fn push(&mut self, mut command: DeviceCommand, view: &View, now: Instant) {
        let turn = self.take_turn(&mut command);
        if self.is_replaced(&command, turn) {
            return command.reply.send(Err(CommandError::superseded()));
        }
        if let DeviceAction::Switch(Switch::Toggle) = command.action
            && let Some(expected) = self.expected(&command, view)
        {
            command.action = DeviceAction::Switch(Switch::To(expected.toggled()));
        }
        if matches!(
            command.action,
            DeviceAction::Switch(Switch::To(_))
                | DeviceAction::CountDown
                | DeviceAction::CancelCountdown
                | DeviceAction::Thermostat(_)
        ) {
            self.supersede_where(|older| older.turn < command.turn && is_settled_by(older, &command));
        }
        let mut refused = None;
        if self.pending.len() < QUEUE_CAPACITY {
            self.insert(command, turn, now);
        } else if let Some(yielding) = self.last_that_yields_to(&command) {
            refused = self.pending.remove(yielding).map(|pending| pending.command);
            self.insert(command, turn, now);
        } else {
            refused = Some(command);
        }
        if let Some(refused) = refused {
            let message = format!("{QUEUE_CAPACITY} commands are already pending for this device");
            refused
                .reply
                .send(Err(CommandError::bridge(ErrorCode::Busy, message)));
        }
    }

    /// A command that comes back keeps its turn.
    fn take_turn(&mut self, command: &mut DeviceCommand) -> u64 {
        let next = &mut self.next_turn;
        *command.turn.get_or_insert_with(|| {
            *next += 1;
            *next
        })
    }

    fn insert(&mut self, command: DeviceCommand, turn: u64, now: Instant) {
        let newer = self.pending.iter().position(|pending| pending.turn() > turn);
        let at = newer.unwrap_or(self.pending.len());
        self.pending.insert(at, QueuedCommand { command, since: now });
    }

    /// Whether a newer command decides over all outlets of this one.
    fn is_replaced(&self, command: &DeviceCommand, turn: u64) -> bool {
        let switches = matches!(command.action, DeviceAction::Switch(_));
        let waits = self
            .pending
            .iter()
            .any(|newer| newer.turn() > turn && is_settled_by(command, &newer.command));
        waits || (switches && self.newest_taken(command.path.outlet.as_ref()) > turn)
    }

    /// Commands may name outlets that do not exist, so the map has a limit.
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

    /// An urgent command replaces the last one that is not, if the queue is full.
    fn last_that_yields_to(&self, newer: &DeviceCommand) -> Option<usize> {
        let yields = |pending: &QueuedCommand| !is_urgent(&pending.command);
        is_urgent(newer).then(|| self.pending.iter().rposition(yields))?
    }

    /// Whether a newer command decides over this outlet of the command in flight. It is pending or was carried out.
    pub(super) fn overtakes(&self, outlet: Option<&OutletKey>, turn: u64) -> bool {
        let waits = self.pending.iter().any(|pending| {
            let command = &pending.command;
            let decides = matches!(command.action, DeviceAction::Switch(Switch::To(_)));
            let same_outlet = command.path.outlet.is_none() || command.path.outlet.as_ref() == outlet;
            decides && same_outlet && pending.turn() > turn
        });
        waits || self.newest_taken(outlet) > turn
    }

    /// Puts back a command that could not be carried out yet, unless a newer one replaced it meanwhile.
    pub(super) fn put_back(&mut self, command: DeviceCommand, attempts: u32, now: Instant) {
        let turn = command.turn.unwrap_or_default();
        let replaced = self.is_replaced(&command, turn);
        let withdrawn = self.withdrawn.iter().any(|path| is_withdrawn(&command, path));
        if replaced || withdrawn {
            let failure = CommandError {
                attempts,
                ..CommandError::superseded()
            };
            command.reply.send(Err(failure));
        } else {
            self.insert(command, turn, now);
        }
    }

    /// The next command to carry out: safety and OFF before the rest, but never past an earlier one
    /// that touches the same outlet.
    pub(super) fn pop(&mut self) -> Option<DeviceCommand> {
        self.withdrawn.clear();
        let urgent = (0..self.pending.len()).find(|&at| {
            let Some(candidate) = self.pending.get(at) else {
                return false;
            };
            let mut earlier = self.pending.iter().take(at);
            is_urgent(&candidate.command) && !earlier.any(|other| touch(&other.command, &candidate.command))
        });
        let taken = self.pending.remove(urgent.unwrap_or(0))?;
        if let DeviceAction::Switch(_) = taken.command.action {
            let turn = taken.turn();
            let newest = self
                .newest_taken
                .entry(taken.command.path.outlet.clone())
                .or_default();
            *newest = turn.max(*newest);
            self.forget_oldest_taken();
        }
        Some(taken.command)
    }

    /// The outlets of the pending commands to switch off, which are sent although no reading can confirm them.
    pub(super) fn send_offs_unread(&mut self) -> Vec<OutletPath> {
        let off = |pending: &&mut QueuedCommand| {
            pending.command.action == DeviceAction::Switch(Switch::To(Power::Off))
        };
        let sent = self.pending.iter_mut().filter(off).map(|pending| {
            pending.command.reply.may_be_done(1);
            pending.command.path.clone()
        });
        sent.collect()
    }

    /// Takes all pending read commands: one read of the device answers them.
    pub(super) fn take_reads(&mut self) -> Vec<DeviceCommand> {
        let reads = self.take_where(|command| command.action == DeviceAction::Read);
        reads.map(|pending| pending.command).collect()
    }

    /// When the first time to live ends.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.command.deadline).min()
    }

    /// Replies to the commands whose time to live ended.
    pub(super) fn expire(&mut self, now: Instant, failure: impl Fn(std::time::Duration) -> CommandError) {
        for QueuedCommand { command, since } in self.take_where(|command| command.deadline <= now) {
            command.reply.send(Err(failure(now.duration_since(since))));
        }
    }

    /// Replies to all pending commands with one error: waiting is useless.
    pub(super) fn refuse_all(&mut self, failure: &CommandError) {
        for pending in self.pending.drain(..) {
            pending.command.reply.send(Err(failure.clone()));
        }
    }

    /// Replies `superseded` to the commands that would switch an outlet on, or toggle it. One that is in flight is not
    /// put back any more.
    pub(super) fn withdraw(&mut self, path: &OutletPath) {
        self.withdrawn.push(path.clone());
        self.supersede_where(|command| is_withdrawn(command, path));
    }

    /// Takes the commands that would switch on, or toggle, in their order.
    pub(super) fn take_switch_ons(&mut self) -> Vec<DeviceCommand> {
        let switch_ons = self.take_where(|command| command.action.may_switch_on());
        switch_ons.map(|pending| pending.command).collect()
    }

    fn expected(&self, toggle: &DeviceCommand, view: &View) -> Option<Power> {
        let turn = toggle.turn.unwrap_or(u64::MAX);
        let mut earlier = self.pending.iter().rev().filter(|pending| pending.turn() < turn);
        let last = earlier.find(|earlier| overlap(&earlier.command, toggle));
        match last.map(|last| (last.command.action, last.command.path == toggle.path)) {
            Some((DeviceAction::Switch(Switch::To(power)), true)) => Some(power),
            // An unresolved toggle, or a command for another set of outlets: decided when its turn comes.
            Some((DeviceAction::Switch(_), _)) => None,
            _ => view.expected(toggle.path.outlet.as_ref()),
        }
    }

    fn supersede_where(&mut self, is_superseded: impl Fn(&DeviceCommand) -> bool) {
        for pending in self.take_where(is_superseded) {
            pending.command.reply.send(Err(CommandError::superseded()));
        }
    }

    fn take_where(
        &mut self,
        is_taken: impl Fn(&DeviceCommand) -> bool,
    ) -> vec_deque::IntoIter<QueuedCommand> {
        let pending = std::mem::take(&mut self.pending).into_iter();
        let (taken, rest) = pending.partition::<VecDeque<_>, _>(|pending| is_taken(&pending.command));
        self.pending = rest;
        taken.into_iter()
    }
}

/// Whether `newer` decides over all outlets of `older`.
fn is_settled_by(older: &DeviceCommand, newer: &DeviceCommand) -> bool {
    let same_outlets = newer.path == older.path || newer.path.outlet.is_none();
    let decides = matches!(
        (older.action, newer.action),
        (
            DeviceAction::Switch(_) | DeviceAction::CountDown,
            DeviceAction::Switch(Switch::To(_))
        ) | (
            DeviceAction::CountDown | DeviceAction::CancelCountdown,
            DeviceAction::CountDown | DeviceAction::CancelCountdown
        )
    ) || matches!(
        (older.action, newer.action),
        (DeviceAction::Thermostat(older), DeviceAction::Thermostat(newer)) if newer.replaces(older)
    );
    decides && same_outlets
}

/// Whether a command would switch on an outlet that was withdrawn; with a whole strip all its outlets are.
fn is_withdrawn(command: &DeviceCommand, path: &OutletPath) -> bool {
    command.action.may_switch_on() && (command.path == *path || path.outlet.is_none())
}

fn is_urgent(command: &DeviceCommand) -> bool {
    command.source == Source::Safety || command.action == DeviceAction::Switch(Switch::To(Power::Off))
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
    let changes = |command: &DeviceCommand| {
        matches!(
            command.action,
            DeviceAction::Switch(_)
                | DeviceAction::CountDown
                | DeviceAction::CancelCountdown
                | DeviceAction::Thermostat(_)
        )
    };
    let same_outlets = a.path == b.path || a.path.outlet.is_none() || b.path.outlet.is_none();
    changes(a) && changes(b) && same_outlets
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::*;
    use crate::domain::{device_command::RunLimit, reply::CommandOutcome, reply::Reply};

    struct Fixture {
        queue: CommandQueue,
        view: View,
        outcomes: UnboundedSender<(u64, CommandOutcome)>,
        inbox: UnboundedReceiver<(u64, CommandOutcome)>,
        next: u64,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let (outcomes, inbox) = unbounded_channel();
            Self {
                queue: CommandQueue::default(),
                view: View::default(),
                outcomes,
                inbox,
                next: 0,
                now: Instant::now(),
            }
        }

        fn command(&mut self, path: &str, action: DeviceAction) -> DeviceCommand {
            self.next += 1;
            DeviceCommand {
                path: path.parse().unwrap(),
                action,
                run: RunLimit::default(),
                source: Source::Mqtt,
                deadline: self.now + Duration::from_secs(10),
                reply: {
                    let (id, outcomes) = (self.next, self.outcomes.clone());
                    Reply::new(move |outcome| outcomes.send((id, outcome)).unwrap())
                },
                turn: None,
            }
        }

        fn push(&mut self, path: &str, action: DeviceAction) {
            let command = self.command(path, action);
            self.queue.push(command, &self.view, self.now);
        }

        fn popped(&mut self) -> Vec<(String, DeviceAction)> {
            std::iter::from_fn(|| self.queue.pop())
                .map(|command| {
                    let what = (command.path.to_string(), command.action);
                    command
                        .reply
                        .send(Err(CommandError::bridge(ErrorCode::Busy, "popped")));
                    what
                })
                .collect()
        }

        fn replies(&mut self) -> Vec<(u64, ErrorCode)> {
            std::iter::from_fn(|| self.inbox.try_recv().ok())
                .map(|(id, outcome)| (id, outcome.result.unwrap_err().code))
                .collect()
        }
    }

    const ON: DeviceAction = DeviceAction::Switch(Switch::To(Power::On));
    const OFF: DeviceAction = DeviceAction::Switch(Switch::To(Power::Off));
    const TOGGLE: DeviceAction = DeviceAction::Switch(Switch::Toggle);

    #[test]
    fn the_latest_command_of_an_outlet_replaces_the_others() {
        let mut fixture = Fixture::new();
        for action in [ON, OFF, ON] {
            fixture.push("strip/1", action);
        }
        fixture.push("strip/2", ON);
        assert_eq!(
            fixture.replies(),
            [(1, ErrorCode::Superseded), (2, ErrorCode::Superseded)]
        );
        assert_eq!(fixture.popped(), [("strip/1".into(), ON), ("strip/2".into(), ON)]);
    }

    #[test]
    fn a_strip_command_replaces_outlet_commands_but_not_vice_versa() {
        let mut fixture = Fixture::new();
        fixture.push("strip/1", ON);
        fixture.push("strip", OFF);
        fixture.push("strip/2", ON);
        assert_eq!(fixture.replies(), [(1, ErrorCode::Superseded)]);
        assert_eq!(fixture.popped(), [("strip".into(), OFF), ("strip/2".into(), ON)]);
    }

    #[test]
    fn off_overtakes_only_commands_of_other_outlets() {
        let mut fixture = Fixture::new();
        fixture.push("strip/1", ON);
        fixture.push("strip/2", OFF);
        assert_eq!(
            fixture.popped(),
            [("strip/2".into(), OFF), ("strip/1".into(), ON)]
        );
        fixture.push("strip", ON);
        fixture.push("strip/2", OFF);
        assert_eq!(fixture.popped(), [("strip".into(), ON), ("strip/2".into(), OFF)]);
    }

    #[test]
    fn a_toggle_is_resolved_from_the_state_after_pending_commands() {
        let mut fixture = Fixture::new();
        fixture.view.confirmed = vec![(None, Some(Power::Off))];
        fixture.push("plug", TOGGLE);
        fixture.push("plug", TOGGLE);
        assert_eq!(
            fixture.popped(),
            [("plug".into(), OFF)],
            "two toggles are no change"
        );
        fixture.view.in_flight = Some((None, Power::On));
        fixture.push("plug", TOGGLE);
        assert_eq!(fixture.popped(), [("plug".into(), OFF)]);
    }

    #[test]
    fn a_toggle_of_an_unknown_state_waits_and_is_not_lost() {
        let mut fixture = Fixture::new();
        fixture.push("plug", TOGGLE);
        fixture.push("plug", TOGGLE);
        assert_eq!(
            fixture.popped(),
            [("plug".into(), TOGGLE), ("plug".into(), TOGGLE)]
        );
        fixture.push("plug", TOGGLE);
        fixture.push("plug", ON);
        assert_eq!(fixture.popped(), [("plug".into(), ON)]);
    }

    #[test]
    fn a_strip_is_on_if_any_outlet_is() {
        let mut fixture = Fixture::new();
        let key = |n: &str| Some(n.parse().unwrap());
        fixture.view.confirmed = vec![(key("1"), Some(Power::Off)), (key("2"), Some(Power::On))];
        fixture.push("strip", TOGGLE);
        assert_eq!(fixture.popped(), [("strip".into(), OFF)]);
    }

    #[test]
    fn a_countdown_is_canceled_once_and_in_its_turn() {
        let mut fixture = Fixture::new();
        fixture.push("plug", DeviceAction::CancelCountdown);
        fixture.push("plug", DeviceAction::CancelCountdown);
        fixture.push("plug", OFF);
        assert_eq!(fixture.replies(), [(1, ErrorCode::Superseded)]);
        assert_eq!(
            fixture.popped(),
            [
                ("plug".into(), DeviceAction::CancelCountdown),
                ("plug".into(), OFF)
            ]
        );
    }

    #[test]
    fn switch_on_commands_are_withdrawn() {
        let mut fixture = Fixture::new();
        for (path, action) in [
            ("strip/1", ON),
            ("strip/2", TOGGLE),
            ("strip/3", OFF),
            ("strip/4", ON),
        ] {
            fixture.push(path, action);
        }
        fixture.queue.withdraw(&"strip/4".parse().unwrap());
        assert_eq!(fixture.replies(), [(4, ErrorCode::Superseded)]);
        fixture.queue.withdraw(&"strip".parse().unwrap());
        assert_eq!(
            fixture.replies(),
            [(1, ErrorCode::Superseded), (2, ErrorCode::Superseded)]
        );
        assert_eq!(fixture.popped(), [("strip/3".into(), OFF)]);
    }

    #[test]
    fn a_withdrawn_command_in_flight_is_not_put_back() {
        let mut fixture = Fixture::new();
        fixture.push("plug", ON);
        let in_flight = fixture.queue.pop().unwrap();
        fixture.queue.withdraw(&"plug".parse().unwrap());
        fixture.queue.put_back(in_flight, 1, fixture.now);
        assert_eq!(fixture.replies(), [(1, ErrorCode::Superseded)]);

        fixture.push("plug", ON);
        let in_flight = fixture.queue.pop().unwrap();
        fixture.queue.put_back(in_flight, 1, fixture.now);
        assert_eq!(
            fixture.popped(),
            [("plug".into(), ON)],
            "an earlier withdrawal is over"
        );
    }

    #[test]
    fn switch_on_commands_are_returned_in_order() {
        let mut fixture = Fixture::new();
        fixture.push("strip/1", ON);
        fixture.push("strip/2", OFF);
        fixture.push("strip/3", TOGGLE);
        let returned = fixture.queue.take_switch_ons();
        let paths: Vec<String> = returned.iter().map(|command| command.path.to_string()).collect();
        assert_eq!(paths, ["strip/1", "strip/3"]);
        assert_eq!(fixture.popped(), [("strip/2".into(), OFF)]);
    }

    #[test]
    fn a_command_that_is_pushed_again_replaces_no_newer_one() {
        let mut fixture = Fixture::new();
        let push_again = |fixture: &mut Fixture, commands: Vec<DeviceCommand>| {
            for command in commands {
                fixture.queue.push(command, &fixture.view, fixture.now);
            }
        };
        // A newer one waits.
        fixture.push("strip", ON);
        fixture.push("strip/1", OFF);
        let returned = fixture.queue.take_switch_ons();
        push_again(&mut fixture, returned);
        assert_eq!(fixture.popped(), [("strip".into(), ON), ("strip/1".into(), OFF)]);

        // A newer one was carried out for a part of it.
        fixture.push("strip", ON);
        let returned = fixture.queue.take_switch_ons();
        fixture.push("strip/1", OFF);
        assert_eq!(fixture.popped(), [("strip/1".into(), OFF)]);
        push_again(&mut fixture, returned);
        let strip = fixture.queue.pop().unwrap();
        let (one, two): (OutletKey, OutletKey) = ("1".parse().unwrap(), "2".parse().unwrap());
        let turn = strip.turn.unwrap();
        assert!(fixture.queue.overtakes(Some(&one), turn));
        assert!(!fixture.queue.overtakes(Some(&two), turn));
        fixture.replies();

        // A newer one was carried out for all of it.
        fixture.push("plug", ON);
        let returned = fixture.queue.take_switch_ons();
        fixture.push("plug", OFF);
        assert_eq!(fixture.popped(), [("plug".into(), OFF)]);
        push_again(&mut fixture, returned);
        assert_eq!(fixture.popped(), []);
        let replies = fixture.replies();
        assert!(
            replies.iter().any(|(_, code)| *code == ErrorCode::Superseded),
            "{replies:?}"
        );
    }

    #[test]
    fn each_command_expires_at_its_deadline() {
        let mut fixture = Fixture::new();
        fixture.push("plug", DeviceAction::Read);
        let mut patient = fixture.command("plug", ON);
        patient.deadline += Duration::from_mins(1);
        fixture.queue.push(patient, &fixture.view, fixture.now);
        assert_eq!(
            fixture.queue.next_deadline(),
            Some(fixture.now + Duration::from_secs(10))
        );
        fixture
            .queue
            .expire(fixture.now + Duration::from_secs(10), |waited| {
                CommandError::expired(waited, "test")
            });
        assert_eq!(fixture.replies(), [(1, ErrorCode::Expired)]);
        assert_eq!(fixture.queue.len(), 1);
    }

    #[test]
    fn a_command_put_back_does_not_replace_a_newer_one() {
        let mut fixture = Fixture::new();
        fixture.push("strip/1", ON);
        let first = fixture.queue.pop().unwrap();
        fixture.push("strip", OFF);
        fixture.queue.put_back(first, 1, fixture.now);
        assert_eq!(fixture.replies(), [(1, ErrorCode::Superseded)]);
        let whole = fixture.queue.pop().unwrap();
        fixture.push("strip/1", ON);
        fixture.queue.put_back(whole, 1, fixture.now);
        assert_eq!(fixture.popped(), [("strip".into(), OFF), ("strip/1".into(), ON)]);
    }

    #[test]
    fn a_full_queue_replies_busy() {
        let mut fixture = Fixture::new();
        for _ in 0..=QUEUE_CAPACITY {
            fixture.push("plug", DeviceAction::Read);
        }
        assert_eq!(fixture.replies(), [(QUEUE_CAPACITY as u64 + 1, ErrorCode::Busy)]);
        assert_eq!(fixture.queue.take_reads().len(), QUEUE_CAPACITY);
        assert!(fixture.queue.is_empty());
    }

    #[test]
    fn a_full_queue_takes_an_urgent_command() {
        let mut fixture = Fixture::new();
        for _ in 0..QUEUE_CAPACITY {
            fixture.push("plug", DeviceAction::Read);
        }
        fixture.push("plug", ON);
        fixture.push("plug", OFF);
        let safety = DeviceCommand {
            source: Source::Safety,
            ..fixture.command("plug/1", ON)
        };
        fixture.queue.push(safety, &fixture.view, fixture.now);
        let busy = |id| (id, ErrorCode::Busy);
        let capacity = QUEUE_CAPACITY as u64;
        assert_eq!(
            fixture.replies(),
            [busy(capacity + 1), busy(capacity), busy(capacity - 1)]
        );
        assert_eq!(fixture.popped()[0], ("plug".into(), OFF));
    }

    #[test]
    fn a_pending_command_replaces_the_one_in_flight_per_outlet() {
        let mut fixture = Fixture::new();
        let key = |n: &str| n.parse::<OutletKey>().unwrap();
        fixture.push("strip", ON);
        let turn = fixture.queue.pop().unwrap().turn.unwrap();
        fixture.push("strip/1", OFF);
        fixture.push("strip/2", TOGGLE);
        fixture.push("strip/3", DeviceAction::Read);
        let overtaken = ["1", "2", "3"].map(|n| fixture.queue.overtakes(Some(&key(n)), turn));
        // A TOGGLE depends on what is in flight.
        assert_eq!(overtaken, [true, false, false]);
        fixture.push("strip", OFF);
        assert!(fixture.queue.overtakes(Some(&key("3")), turn));
    }

    #[test]
    fn no_command_is_dropped_without_a_reply() {
        let mut fixture = Fixture::new();
        fixture.push("plug", ON);
        drop(std::mem::take(&mut fixture.queue));
        assert_eq!(fixture.replies(), [(1, ErrorCode::ShuttingDown)]);
    }
}
