use serde_json::{Value, json};

use super::*;
use crate::domain::reply::CommandResult;

const SWITCH: CommandKind = CommandKind::Switch;

fn outlet(path: &str) -> Target {
    Target::Outlet(path.parse().unwrap())
}

fn named(name: &str) -> Transaction {
    Transaction::Text(name.to_owned())
}

fn done(outlets: &[(Option<&str>, Power)]) -> Applied {
    let outlet = |(key, power): &(Option<&str>, Power)| {
        let path = OutletPath {
            device: "mats".parse().unwrap(),
            outlet: key.map(|key| key.parse().unwrap()),
        };
        (path, Some(*power))
    };
    Applied {
        outlets: outlets.iter().map(outlet).collect(),
        attempts: 1,
    }
}

fn carried(desk: &mut Desk, path: &str, transaction: Option<Transaction>, now: Instant) -> PendingId {
    match desk.admit(outlet(path), SWITCH, transaction, now) {
        Admitted::Carry(id) => id,
        other => panic!("{other:?}"),
    }
}

fn answer(id: PendingId, outcome: CommandResult) -> Answered {
    Answered {
        id,
        outcome,
        members: Vec::new(),
    }
}

fn parsed(response: &Response) -> Value {
    serde_json::from_str(&response.json).unwrap()
}

#[test]
fn a_success_is_answered_only_if_a_transaction_asks_for_it() {
    let (mut desk, now) = (Desk::default(), Instant::now());
    let id = carried(&mut desk, "heater", None, now);
    let response = desk
        .answer(answer(id, Ok(done(&[(None, Power::On)]))), |_| None, now)
        .unwrap();
    assert!(!response.wanted);
    let id = carried(&mut desk, "heater", Some(named("t1")), now);
    let later = now + Duration::from_millis(42);
    let response = desk
        .answer(answer(id, Ok(done(&[(None, Power::On)]))), |_| None, later)
        .unwrap();
    assert!(response.wanted);
    let expected =
        json!({"status": "ok", "state": "ON", "transaction": "t1", "latency_ms": 42, "attempts": 1});
    assert_eq!(parsed(&response), expected);
}

#[test]
fn a_failure_is_always_answered_with_what_is_known() {
    let (mut desk, now) = (Desk::default(), Instant::now());
    let id = carried(&mut desk, "heater", None, now);
    let outcome = Err(CommandError::superseded());
    let response = desk
        .answer(answer(id, outcome), |_| Some(Power::Off), now)
        .unwrap();
    assert!(response.wanted && response.failed);
    let answer = parsed(&response);
    assert_eq!(
        (&answer["status"], &answer["state"]),
        (&json!("error"), &json!("OFF"))
    );
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["origin"]),
        (&json!("superseded"), &json!("bridge"))
    );
}

#[test]
fn a_strip_answers_for_each_outlet() {
    let (mut desk, now) = (Desk::default(), Instant::now());
    let id = carried(&mut desk, "mats", Some(named("t")), now);
    let outcome = Ok(done(&[(Some("left"), Power::On), (Some("2"), Power::Off)]));
    let response = desk.answer(answer(id, outcome), |_| None, now).unwrap();
    assert_eq!(parsed(&response)["outlets"], json!({"left": "ON", "2": "OFF"}));
}

#[test]
fn a_repeated_transaction_is_not_carried_out_twice() {
    let (mut desk, now) = (Desk::default(), Instant::now());
    let path = || outlet("heater");
    let id = carried(&mut desk, "heater", Some(named("t")), now);
    assert_eq!(
        desk.admit(path(), SWITCH, Some(named("t")), now),
        Admitted::UnderWay
    );
    let response = desk
        .answer(answer(id, Ok(done(&[(None, Power::On)]))), |_| None, now)
        .unwrap();
    assert_eq!(
        desk.admit(path(), SWITCH, Some(named("t")), now),
        Admitted::Repeat(response.json)
    );
    let other = desk.admit(outlet("lamp"), SWITCH, Some(named("t")), now);
    assert!(
        matches!(other, Admitted::Carry(_)),
        "another outlet is another command"
    );
    let after = now + TRANSACTION_MEMORY;
    assert!(matches!(
        desk.admit(path(), SWITCH, Some(named("t")), after),
        Admitted::Carry(_)
    ));
}

#[test]
fn nobody_is_answered_twice_and_everybody_once() {
    let (mut desk, now) = (Desk::default(), Instant::now());
    let id = carried(&mut desk, "heater", None, now);
    let mut answers = desk.abandon();
    assert_eq!(answers.len(), 1);
    assert!(desk.answer(answers.pop().unwrap(), |_| None, now).is_some());
    assert!(desk.answer(answer(id, Ok(done(&[]))), |_| None, now).is_none());
    assert_eq!(desk.len(), 0);
}

#[test]
fn a_group_is_read_member_by_member_and_answers_once() {
    let (mut desk, now) = (Desk::default(), Instant::now());
    let group = Target::Group("driveway".parse().unwrap());
    let Admitted::Carry(id) = desk.admit(group.clone(), CommandKind::Read, None, now) else {
        panic!("a new command is carried out");
    };
    let parts = desk.split(id, ["mats/1".parse().unwrap(), "lamp".parse().unwrap()]);
    let part = |part: usize, outcome| answer(parts[part].1, outcome);
    let first = part(1, Err(CommandError::bridge(ErrorCode::NoAnswer, "silent")));
    assert!(desk.answer(first, |_| None, now).is_none());
    let last = part(0, Ok(done(&[(Some("1"), Power::Off)])));
    let confirmed = |target: &Target| (*target == outlet("lamp")).then_some(Power::On);
    let response = desk.answer(last, confirmed, now).unwrap();
    assert_eq!((&response.target, response.errand), (&group, CommandKind::Read));
    let expected = json!({
        "status": "error", "state": null, "latency_ms": 0, "attempts": 0,
        "error": {"code": "no_answer", "message": "lamp: silent", "origin": "device"},
        "members": {
            "lamp": {
                "status": "error", "state": "ON",
                "error": {"code": "no_answer", "message": "silent", "origin": "device"}
            },
            "mats/1": {"status": "ok", "state": "OFF"},
        },
    });
    assert_eq!(parsed(&response), expected);
    assert_eq!(desk.len(), 0);
}

#[test]
fn members_of_a_group_on_two_strips_do_not_pose_as_outlets_of_one() {
    let (mut desk, now) = (Desk::default(), Instant::now());
    let group = Target::Group("driveway".parse().unwrap());
    let Admitted::Carry(id) = desk.admit(group, SWITCH, Some(named("t")), now) else {
        panic!("a new command is carried out");
    };
    let member = |path: &str, power| {
        let path: OutletPath = path.parse().unwrap();
        let outlets = vec![(path.clone(), Some(power))];
        (path, Ok(Applied { outlets, attempts: 1 }))
    };
    let members = vec![member("a/1", Power::On), member("b/1", Power::Off)];
    let response = desk
        .answer(Answered::together(id, members), |_| None, now)
        .unwrap();
    let answer = parsed(&response);
    assert_eq!((&answer["state"], answer.get("outlets")), (&json!("ON"), None));
    assert_eq!(answer["members"]["b/1"], json!({"status": "ok", "state": "OFF"}));
}
