use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    domain::{command::Action, device_command::Switch, scheduling::RequestError},
    mqtt::{
        decode::{CommandPayload, Validity},
        inbox::OpenCount,
        reply_to::ReplyTo,
    },
};

fn outlet(path: &str) -> Target {
    Target::Outlet(path.parse().unwrap())
}

fn group() -> Target {
    Target::Group("driveway".parse().unwrap())
}

fn named(name: &str) -> Transaction {
    Transaction::Text(name.to_owned())
}

fn context(target: Target, transaction: Option<Transaction>) -> CommandContext {
    CommandContext {
        number: 1,
        target,
        payload: CommandPayload {
            action: Action::Switch(Switch::To(Power::On)),
            lifetime: None,
            brightness: None,
            validity: Validity::default(),
        },
        transaction,
        reply_to: ReplyTo::Broker,
        received: Instant::now(),
        _open: OpenCount::default().open(),
    }
}

fn outcome(outlets: &[(&str, Power)]) -> CommandOutcome {
    let outlet = |(path, power): &(&str, Power)| (path.parse().unwrap(), Some(*power));
    CommandOutcome {
        result: Ok(Applied {
            outlets: outlets.iter().map(outlet).collect(),
            attempts: 1,
        }),
        members: Vec::new(),
        note: None,
    }
}

fn member(path: &str, power: Power) -> MemberResult {
    (path.parse().unwrap(), outcome(&[(path, power)]).result)
}

fn parsed(response: &str) -> Value {
    serde_json::from_str(response).unwrap()
}

#[test]
fn a_success_has_the_confirmed_state_and_the_latency() {
    let context = context(outlet("heater"), Some(named("t1")));
    let later = context.received + Duration::from_millis(42);
    let response = of_command(&context, &outcome(&[("heater", Power::On)]), |_| None, later);
    let expected =
        json!({"status": "ok", "state": "ON", "transaction": "t1", "latency_ms": 42, "attempts": 1});
    assert_eq!(parsed(&response), expected);
}

#[test]
fn a_note_says_what_the_state_does_not() {
    let context = context(outlet("heater"), None);
    let noted = CommandOutcome {
        note: Some("heater becomes ON".to_owned()),
        ..outcome(&[("heater", Power::Off)])
    };
    let response = parsed(&of_command(&context, &noted, |_| None, context.received));
    assert_eq!(
        (&response["state"], &response["note"]),
        (&json!("OFF"), &json!("heater becomes ON"))
    );
}

#[test]
fn a_failure_has_the_state_that_is_known() {
    let context = context(outlet("heater"), None);
    let failed = CommandOutcome {
        result: Err(CommandError::superseded()),
        members: Vec::new(),
        note: None,
    };
    let response = of_command(&context, &failed, |_| Some(Power::Off), context.received);
    let response = parsed(&response);
    assert_eq!(
        (&response["status"], &response["state"]),
        (&json!("error"), &json!("OFF"))
    );
    assert_eq!(
        (&response["error"]["code"], &response["error"]["origin"]),
        (&json!("superseded"), &json!("bridge"))
    );
}

#[test]
fn a_strip_has_the_state_of_each_outlet() {
    let context = context(outlet("mats"), Some(named("t")));
    let applied = outcome(&[("mats/left", Power::On), ("mats/2", Power::Off)]);
    let response = of_command(&context, &applied, |_| None, context.received);
    assert_eq!(parsed(&response)["outlets"], json!({"left": "ON", "2": "OFF"}));
}

#[test]
fn outlets_that_newer_commands_replaced_are_not_listed() {
    let context = context(outlet("mats"), Some(named("t")));
    let response = of_command(
        &context,
        &outcome(&[("mats/2", Power::On)]),
        |_| None,
        context.received,
    );
    assert_eq!(parsed(&response)["outlets"], json!({"2": "ON"}));
}

#[test]
fn a_group_has_the_result_of_each_member() {
    let context = context(group(), None);
    let failed = CommandError::bridge(ErrorCode::NoAnswer, "silent");
    let members = vec![
        member("mats/1", Power::Off),
        ("lamp".parse().unwrap(), Err(failed)),
    ];
    let outcome = CommandOutcome::of_members(members);
    let confirmed = |target: &Target| (*target == outlet("lamp")).then_some(Power::On);
    let response = of_command(&context, &outcome, confirmed, context.received);
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
}

#[test]
fn members_on_two_strips_are_not_shown_as_outlets_of_one() {
    let context = context(group(), Some(named("t")));
    let outcome = CommandOutcome::of_members(vec![member("a/1", Power::On), member("b/1", Power::Off)]);
    let response = parsed(&of_command(&context, &outcome, |_| None, context.received));
    assert_eq!(
        (&response["state"], response.get("outlets")),
        (&json!("ON"), None)
    );
    assert_eq!(
        response["members"]["b/1"],
        json!({"status": "ok", "state": "OFF"})
    );
}

fn of_named(name: &str, transaction: Option<&Transaction>, result: &RequestResult) -> String {
    of_request(
        &ResponseTopic::Request(name.parse().unwrap()),
        transaction,
        result,
    )
}

#[test]
fn a_request_has_data_or_an_error() {
    let response = of_named("plan", Some(&named("p")), &Ok(json!([1])));
    assert_eq!(
        parsed(&response),
        json!({"status": "ok", "data": [1], "transaction": "p"})
    );
    let response = of_named("plan", None, &Err(RequestError::Busy));
    let error = json!({"code": "busy", "message": RequestError::Busy.to_string()});
    assert_eq!(
        parsed(&response),
        json!({"status": "error", "data": null, "error": error})
    );
}

#[test]
fn a_schedule_that_is_switched_responds_like_a_command() {
    let schedule = |transaction: Option<Transaction>, result| {
        let topic = ResponseTopic::Group("driveway".parse().unwrap());
        parsed(&of_request(&topic, transaction.as_ref(), &result))
    };
    assert_eq!(schedule(None, Ok(Value::Null))["status"], "ok");
    assert_eq!(schedule(Some(named("t")), Ok(Value::Null))["transaction"], "t");
    let response = schedule(None, Err(RequestError::ShuttingDown));
    assert_eq!(response["error"]["code"], "shutting_down");
}

#[test]
fn a_response_that_is_too_large_suggests_a_smaller_request() {
    let of = |bytes: usize| of_named("plan", Some(&named("p")), &Ok(Value::String("x".repeat(bytes))));
    let overhead = of(0).len();
    assert_eq!(of(RESPONSE_MAX - overhead).len(), RESPONSE_MAX);
    let response = parsed(&of(RESPONSE_MAX - overhead + 1));
    assert_eq!(response["error"]["code"], "too_large");
    assert_eq!(response["transaction"], "p");
    let message = response["error"]["message"].as_str().unwrap();
    assert!(message.contains("fewer days"), "{message}");
}
