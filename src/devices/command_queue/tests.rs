use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::domain::{device_command::RunLimit, reply::CommandOutcome, reply::Reply};

struct Desk {
    queue: Queue,
    view: View,
    answers: UnboundedSender<(u64, CommandOutcome)>,
    inbox: UnboundedReceiver<(u64, CommandOutcome)>,
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

    fn intent(&mut self, path: &str, action: DeviceAction) -> DeviceCommand {
        self.next += 1;
        DeviceCommand {
            path: path.parse().unwrap(),
            action,
            run: RunLimit::default(),
            source: Source::Mqtt,
            deadline: self.now + Duration::from_secs(10),
            reply: {
                let (id, answers) = (self.next, self.answers.clone());
                Reply::new(move |outcome| answers.send((id, outcome)).unwrap())
            },
            turn: None,
        }
    }

    fn push(&mut self, path: &str, action: DeviceAction) {
        let intent = self.intent(path, action);
        self.queue.push(intent, &self.view, self.now);
    }

    fn popped(&mut self) -> Vec<(String, DeviceAction)> {
        std::iter::from_fn(|| self.queue.pop())
            .map(|intent| {
                let what = (intent.path.to_string(), intent.action);
                intent
                    .reply
                    .send(Err(CommandError::bridge(ErrorCode::Busy, "popped")));
                what
            })
            .collect()
    }

    fn answered(&mut self) -> Vec<(u64, ErrorCode)> {
        std::iter::from_fn(|| self.inbox.try_recv().ok())
            .map(|(id, outcome)| (id, outcome.result.unwrap_err().code))
            .collect()
    }
}

const ON: DeviceAction = DeviceAction::Switch(Switch::To(Power::On));
const OFF: DeviceAction = DeviceAction::Switch(Switch::To(Power::Off));
const TOGGLE: DeviceAction = DeviceAction::Switch(Switch::Toggle);

#[test]
fn the_latest_command_of_an_outlet_wins_and_the_others_are_answered() {
    let mut desk = Desk::new();
    for action in [ON, OFF, ON] {
        desk.push("strip/1", action);
    }
    desk.push("strip/2", ON);
    assert_eq!(
        desk.answered(),
        [(1, ErrorCode::Superseded), (2, ErrorCode::Superseded)]
    );
    assert_eq!(desk.popped(), [("strip/1".into(), ON), ("strip/2".into(), ON)]);
}

#[test]
fn a_whole_strip_replaces_its_outlets_but_not_the_other_way_round() {
    let mut desk = Desk::new();
    desk.push("strip/1", ON);
    desk.push("strip", OFF);
    desk.push("strip/2", ON);
    assert_eq!(desk.answered(), [(1, ErrorCode::Superseded)]);
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
fn a_countdown_is_canceled_once_and_in_its_turn() {
    let mut desk = Desk::new();
    desk.push("plug", DeviceAction::CancelCountdown);
    desk.push("plug", DeviceAction::CancelCountdown);
    desk.push("plug", OFF);
    assert_eq!(desk.answered(), [(1, ErrorCode::Superseded)]);
    assert_eq!(
        desk.popped(),
        [
            ("plug".into(), DeviceAction::CancelCountdown),
            ("plug".into(), OFF)
        ]
    );
}

#[test]
fn what_would_switch_on_is_withdrawn() {
    let mut desk = Desk::new();
    for (path, action) in [
        ("strip/1", ON),
        ("strip/2", TOGGLE),
        ("strip/3", OFF),
        ("strip/4", ON),
    ] {
        desk.push(path, action);
    }
    desk.queue.withdraw(&"strip/4".parse().unwrap());
    assert_eq!(desk.answered(), [(4, ErrorCode::Superseded)]);
    desk.queue.withdraw(&"strip".parse().unwrap());
    assert_eq!(
        desk.answered(),
        [(1, ErrorCode::Superseded), (2, ErrorCode::Superseded)]
    );
    assert_eq!(desk.popped(), [("strip/3".into(), OFF)]);
}

#[test]
fn what_is_withdrawn_in_flight_is_not_put_back() {
    let mut desk = Desk::new();
    desk.push("plug", ON);
    let in_flight = desk.queue.pop().unwrap();
    desk.queue.withdraw(&"plug".parse().unwrap());
    desk.queue.put_back(in_flight, 1, desk.now);
    assert_eq!(desk.answered(), [(1, ErrorCode::Superseded)]);

    desk.push("plug", ON);
    let in_flight = desk.queue.pop().unwrap();
    desk.queue.put_back(in_flight, 1, desk.now);
    assert_eq!(
        desk.popped(),
        [("plug".into(), ON)],
        "an earlier withdrawal is over"
    );
}

#[test]
fn what_would_switch_on_is_handed_back_in_order() {
    let mut desk = Desk::new();
    desk.push("strip/1", ON);
    desk.push("strip/2", OFF);
    desk.push("strip/3", TOGGLE);
    let handed_back = desk.queue.take_switch_ons();
    let paths: Vec<String> = handed_back
        .iter()
        .map(|command| command.path.to_string())
        .collect();
    assert_eq!(paths, ["strip/1", "strip/3"]);
    assert_eq!(desk.popped(), [("strip/2".into(), OFF)]);
}

#[test]
fn a_command_that_comes_back_replaces_no_newer_one() {
    let mut desk = Desk::new();
    let come_back = |desk: &mut Desk, commands: Vec<DeviceCommand>| {
        for command in commands {
            desk.queue.push(command, &desk.view, desk.now);
        }
    };
    // A newer one waits.
    desk.push("strip", ON);
    desk.push("strip/1", OFF);
    let handed_back = desk.queue.take_switch_ons();
    come_back(&mut desk, handed_back);
    assert_eq!(desk.popped(), [("strip".into(), ON), ("strip/1".into(), OFF)]);

    // A newer one was carried out for a part of it.
    desk.push("strip", ON);
    let handed_back = desk.queue.take_switch_ons();
    desk.push("strip/1", OFF);
    assert_eq!(desk.popped(), [("strip/1".into(), OFF)]);
    come_back(&mut desk, handed_back);
    let strip = desk.queue.pop().unwrap();
    let (one, two): (OutletKey, OutletKey) = ("1".parse().unwrap(), "2".parse().unwrap());
    let turn = strip.turn.unwrap();
    assert!(desk.queue.overtakes(Some(&one), turn));
    assert!(!desk.queue.overtakes(Some(&two), turn));
    desk.answered();

    // A newer one was carried out for all of it.
    desk.push("plug", ON);
    let handed_back = desk.queue.take_switch_ons();
    desk.push("plug", OFF);
    assert_eq!(desk.popped(), [("plug".into(), OFF)]);
    come_back(&mut desk, handed_back);
    assert_eq!(desk.popped(), []);
    let answered = desk.answered();
    assert!(
        answered.iter().any(|(_, code)| *code == ErrorCode::Superseded),
        "{answered:?}"
    );
}

#[test]
fn time_runs_out_per_command() {
    let mut desk = Desk::new();
    desk.push("plug", DeviceAction::Read);
    let mut patient = desk.intent("plug", ON);
    patient.deadline += Duration::from_mins(1);
    desk.queue.push(patient, &desk.view, desk.now);
    assert_eq!(
        desk.queue.next_deadline(),
        Some(desk.now + Duration::from_secs(10))
    );
    desk.queue.expire(desk.now + Duration::from_secs(10), |waited| {
        CommandError::expired(waited, "test")
    });
    assert_eq!(desk.answered(), [(1, ErrorCode::Expired)]);
    assert_eq!(desk.queue.len(), 1);
}

#[test]
fn a_command_put_back_yields_to_a_newer_one() {
    let mut desk = Desk::new();
    desk.push("strip/1", ON);
    let first = desk.queue.pop().unwrap();
    desk.push("strip", OFF);
    desk.queue.put_back(first, 1, desk.now);
    assert_eq!(desk.answered(), [(1, ErrorCode::Superseded)]);
    let whole = desk.queue.pop().unwrap();
    desk.push("strip/1", ON);
    desk.queue.put_back(whole, 1, desk.now);
    assert_eq!(desk.popped(), [("strip".into(), OFF), ("strip/1".into(), ON)]);
}

#[test]
fn a_full_queue_says_so() {
    let mut desk = Desk::new();
    for _ in 0..=QUEUE_CAPACITY {
        desk.push("plug", DeviceAction::Read);
    }
    assert_eq!(desk.answered(), [(QUEUE_CAPACITY as u64 + 1, ErrorCode::Busy)]);
    assert_eq!(desk.queue.take_reads().len(), QUEUE_CAPACITY);
    assert!(desk.queue.is_empty());
}

#[test]
fn a_full_queue_makes_room_for_what_is_urgent() {
    let mut desk = Desk::new();
    for _ in 0..QUEUE_CAPACITY {
        desk.push("plug", DeviceAction::Read);
    }
    desk.push("plug", ON);
    desk.push("plug", OFF);
    let safety = DeviceCommand {
        source: Source::Safety,
        ..desk.intent("plug/1", ON)
    };
    desk.queue.push(safety, &desk.view, desk.now);
    let busy = |id| (id, ErrorCode::Busy);
    let capacity = QUEUE_CAPACITY as u64;
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
    let turn = desk.queue.pop().unwrap().turn.unwrap();
    desk.push("strip/1", OFF);
    desk.push("strip/2", TOGGLE);
    desk.push("strip/3", DeviceAction::Read);
    let overtaken = ["1", "2", "3"].map(|n| desk.queue.overtakes(Some(&key(n)), turn));
    // A TOGGLE depends on what is in flight.
    assert_eq!(overtaken, [true, false, false]);
    desk.push("strip", OFF);
    assert!(desk.queue.overtakes(Some(&key("3")), turn));
}

#[test]
fn nothing_is_dropped_without_an_answer() {
    let mut desk = Desk::new();
    desk.push("plug", ON);
    drop(std::mem::take(&mut desk.queue));
    assert_eq!(desk.answered(), [(1, ErrorCode::ShuttingDown)]);
}
