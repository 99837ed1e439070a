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
fn a_whole_strip_replaces_its_outlets_but_not_the_other_way_round() {
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
fn a_toggle_is_resolved_against_the_state_after_pending_commands() {
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
fn a_toggle_of_an_unknown_state_waits_unresolved_and_is_not_lost() {
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
fn a_pending_command_overtakes_the_one_in_flight_outlet_by_outlet() {
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
