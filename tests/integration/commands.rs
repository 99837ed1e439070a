//! Commands over MQTT, from the broker to the relay and back.

use std::time::Duration;

use serde_json::{Value, json};
use tapo_simulator::{DeviceHandle, Fault, Latency, Profile, Protocol, Scope, Simulator, Stage};
use tapo2mqtt::app::bridge::ShutdownReason;

use crate::{
    bridge::{Running, Setup, fast_clocks},
    log::Log,
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::dead_address,
};

fn word(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

fn relays(device: &DeviceHandle) -> Vec<bool> {
    (1..=device.profile().outlets())
        .map(|position| device.relay(position))
        .collect()
}

/// Who changed since the last reset, and into what.
fn changes(device: &DeviceHandle) -> Vec<(u8, bool)> {
    let changes = device.counters().relay_changes;
    changes
        .iter()
        .map(|change| (change.position, change.on))
        .collect()
}

/// The codes of errors; "ok" for the rest.
fn codes(answers: &[Value]) -> Vec<&str> {
    answers.iter().map(code_of).collect()
}

fn code_of(answer: &Value) -> &str {
    if answer["status"] == "ok" {
        return "ok";
    }
    answer["error"]["code"].as_str().expect("an error has a code")
}

/// The topic of one outlet: a plug is its only one.
fn path_of(profile: Profile, position: u8) -> String {
    if profile.is_strip() {
        format!("device/{position}")
    } else {
        "device".to_owned()
    }
}

async fn every_way_to_switch(profile: Profile, protocol: Protocol) {
    every_way_to_switch_with("auto", profile, protocol).await;
}

async fn every_way_to_switch_with(client: &'static str, profile: Profile, protocol: Protocol) {
    let device = Simulator::device(profile)
        .protocol(protocol)
        .start()
        .await
        .unwrap();
    let setup = Setup::new().device("device", device.address()).client(client);
    // A device with old firmware refuses the form of the password that is tried first.
    let bridge = setup.section("[retry]\nrefused = \"1s\"").start().await;
    bridge.available("device").await;
    for position in 1..=profile.outlets() {
        every_way_to_switch_an_outlet(&bridge, &device, position).await;
    }
    if profile.is_strip() {
        the_whole_strip(&bridge, &device).await;
    }
    assert_eq!(device.counters().sequence_violations, 0, "{profile}");
}

async fn every_way_to_switch_an_outlet(bridge: &Running, device: &DeviceHandle, position: u8) {
    let path = path_of(device.profile(), position);
    let (before, index) = (relays(device), usize::from(position) - 1);
    let wanted = !before[index];
    let known_before = changes(device).len();
    bridge.probe.forget();

    // A bare word is not answered when all went well.
    bridge.publish(&format!("{path}/set"), word(wanted)).await;
    bridge.expect(&path, |state| state["state"] == word(wanted)).await;
    let mut expected = before.clone();
    expected[index] = wanted;
    assert_eq!(relays(device), expected, "{path}");
    assert_eq!(bridge.retained(&path).await["state"], word(wanted), "{path}");
    assert_eq!(bridge.answers(&path), Vec::<Value>::new());

    // JSON with a transaction is.
    let back = format!("back-{position}");
    let answer = bridge.set(&path, &back, json!({ "state": word(!wanted) })).await;
    assert_eq!(
        (&answer["status"], &answer["state"]),
        (&json!("ok"), &json!(word(!wanted)))
    );
    assert_eq!(relays(device), before, "{path}");

    // A repeated transaction is answered again and not carried out again.
    let toggle = format!("toggle-{position}");
    let answer = bridge.set(&path, &toggle, json!({ "state": "TOGGLE" })).await;
    assert_eq!(
        (&answer["status"], &answer["state"]),
        (&json!("ok"), &json!(word(wanted)))
    );
    bridge.set(&path, &toggle, json!({ "state": "TOGGLE" })).await;
    bridge.barrier().await;
    let answers_seen: Vec<_> = bridge.answers(&path);
    let repeated = answers_seen
        .iter()
        .filter(|answer| answer["transaction"] == toggle.as_str());
    assert_eq!(repeated.count(), 2, "{answers_seen:?}");
    assert_eq!(relays(device), expected, "{path}");
    let moved = changes(device).split_off(known_before);
    assert_eq!(
        moved,
        [(position, wanted), (position, !wanted), (position, wanted)]
    );
    bridge.expect(&path, |state| state["state"] == word(wanted)).await;
}

async fn the_whole_strip(bridge: &Running, device: &DeviceHandle) {
    for (on, transaction) in [(true, "all-on"), (false, "all-off")] {
        bridge.probe.forget();
        let answer = bridge
            .set("device", transaction, json!({ "state": word(on) }))
            .await;
        assert_eq!(
            (&answer["status"], &answer["state"]),
            (&json!("ok"), &json!(word(on)))
        );
        assert!(relays(device).iter().all(|relay| *relay == on));
        bridge.probe.catch_up().await;
        assert_eq!(bridge.retained("device").await["state"], word(on));
        for position in 1..=device.profile().outlets() {
            let path = path_of(device.profile(), position);
            assert_eq!(bridge.retained(&path).await["state"], word(on), "{path}");
        }
    }
}

#[tokio::test]
async fn a_p100_is_switched() {
    every_way_to_switch(Profile::P100, Protocol::Klap).await;
}

#[tokio::test]
async fn a_p110_is_switched() {
    every_way_to_switch(Profile::P110, Protocol::Klap).await;
}

#[tokio::test]
async fn a_p110_on_old_firmware_is_switched() {
    every_way_to_switch(Profile::P110Old, Protocol::Klap).await;
}

#[tokio::test]
async fn a_p300_is_switched() {
    every_way_to_switch(Profile::P300, Protocol::Klap).await;
}

#[tokio::test]
async fn a_p304m_is_switched() {
    every_way_to_switch(Profile::P304M, Protocol::Klap).await;
}

/// It lists its outlets the wrong way round.
#[tokio::test]
async fn an_ep40m_is_switched() {
    every_way_to_switch(Profile::EP40M, Protocol::Klap).await;
}

#[tokio::test]
async fn a_p110_is_switched_over_tpap() {
    every_way_to_switch(Profile::P110, Protocol::Tpap).await;
}

#[tokio::test]
async fn a_p304m_is_switched_over_tpap() {
    every_way_to_switch(Profile::P304M, Protocol::Tpap).await;
}

/// The `tapo` crate cannot log in to these.
#[tokio::test]
async fn plugs_with_the_aes_login_are_switched() {
    let _fast = fast_clocks();
    tokio::join!(
        every_way_to_switch(Profile::P110Old, Protocol::Aes),
        every_way_to_switch(Profile::P100, Protocol::AesV1),
        every_way_to_switch_with("own", Profile::P110Old, Protocol::Aes)
    );
}

#[tokio::test]
async fn a_strip_with_the_aes_login_is_switched() {
    let _fast = fast_clocks();
    every_way_to_switch(Profile::P300, Protocol::Aes).await;
}

#[tokio::test]
async fn our_client_switches_plugs_of_today() {
    tokio::join!(
        every_way_to_switch_with("own", Profile::P110, Protocol::Klap),
        every_way_to_switch_with("own", Profile::P110, Protocol::Tpap)
    );
}

#[tokio::test]
async fn our_client_switches_a_strip_of_today() {
    every_way_to_switch_with("own", Profile::P304M, Protocol::Klap).await;
}

#[tokio::test]
async fn a_command_that_cannot_be_carried_out_is_answered_once() {
    let strip = Simulator::strip(Profile::P300).start().await.unwrap();
    let setup = Setup::new().device("strip", strip.address());
    let bridge = setup.device("dead", dead_address()).start().await;
    bridge.available("strip").await;
    let cases = [
        ("dead", "not_ready"),
        ("nobody", "unknown_device"),
        ("nobody/1", "unknown_device"),
        ("strip/9", "unknown_outlet"),
    ];
    for (path, code) in cases {
        let answer = bridge.set(path, "t", json!({ "state": "ON", "ttl": 0.5 })).await;
        assert_eq!(
            (&answer["status"], &answer["error"]["code"]),
            (&json!("error"), &json!(code)),
            "{path}"
        );
    }
    bridge.barrier().await;
    for (path, code) in cases {
        assert_eq!(codes(&bridge.answers(path)), [code], "{path}");
    }
    assert_eq!(changes(&strip), []);
}

#[tokio::test]
async fn commands_to_a_busy_device_are_superseded_by_the_last() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    let latency = Latency::fixed(Duration::from_millis(400));
    plug.faults().set(Fault::Latency { latency });
    let commands_sent = [("t1", "ON"), ("t2", "OFF"), ("t3", "ON"), ("t4", "OFF")];
    for (transaction, state) in commands_sent {
        let payload = json!({ "state": state, "transaction": transaction });
        bridge.publish("plug/set", payload.to_string()).await;
    }
    for (transaction, _) in commands_sent {
        bridge.answer("plug", transaction).await;
    }
    bridge.barrier().await;
    let answers = bridge.answers("plug");
    assert_eq!(answers.len(), commands_sent.len(), "{answers:?}");
    // Whichever of the first three was under way already was carried out.
    let superseded = codes(&answers).into_iter().filter(|code| *code == "superseded");
    assert!((2..=3).contains(&superseded.count()), "{answers:?}");
    assert_eq!(bridge.answer("plug", "t4").await["status"], "ok");
    assert!(!plug.relay(1));
    assert_eq!(bridge.retained("plug").await["state"], "OFF");
}

#[tokio::test]
async fn a_command_to_a_device_that_hangs_ends_with_its_time_to_live() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = Setup::new().device("plug", plug.address());
    let bridge = setup.request_timeout("500ms").start().await;
    bridge.available("plug").await;
    let before = plug.relay(1);
    let (stage, scope) = (Stage::BeforeApplying, Scope::all());
    plug.faults().set(Fault::Hang { stage, scope });
    let wanted = json!({ "state": word(!before), "ttl": 0.5 });
    let answer = bridge.set("plug", "late", wanted).await;
    let code = answer["error"]["code"].as_str().unwrap();
    assert!(["expired", "no_answer"].contains(&code), "{answer}");

    // It is not carried out later: reads of the device come after it.
    plug.faults().clear_all();
    let read = json!({ "transaction": "read" });
    bridge.publish("plug/get", read.to_string()).await;
    assert_eq!(bridge.answer("plug", "read").await["status"], "ok");
    bridge.barrier().await;
    assert_eq!(bridge.answers("plug").len(), 2);
    assert_eq!(plug.relay(1), before);
    assert_eq!(changes(&plug), []);
}

#[tokio::test]
async fn a_command_that_expired_on_its_way_is_not_carried_out() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    let on = |expires: &str| json!({"state": "ON", "expires": expires});
    let late = bridge.set("plug", "late", on("2001-01-01T00:00:00Z")).await;
    assert_eq!(
        (code_of(&late), &late["attempts"]),
        ("expired", &json!(0)),
        "{late}"
    );
    assert!(!plug.relay(1));
    assert_eq!(late["error"]["origin"], "bridge", "{late}");
    let message = late["error"]["message"].as_str().unwrap();
    assert!(message.contains("2001-01-01T00:00:00Z"), "{message}");
    for (transaction, never) in [("1", "2999-01-01T01:00:00+01:00"), ("2", "9999-12-31T23:59:59Z")] {
        let early = bridge.set("plug", transaction, on(never)).await;
        assert_eq!(code_of(&early), "ok", "{early}");
    }
    assert!(plug.relay(1));
}

#[tokio::test]
async fn a_command_that_may_have_been_done_is_not_called_expired() {
    let _fast = fast_clocks();
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    // The switch is applied, and the device does not answer any more.
    let (stage, scope) = (Stage::AfterApplying, Scope::all());
    plug.faults().set(Fault::Drop { stage, scope });
    let answer = bridge.set("plug", "t", json!({ "state": "ON", "ttl": 2 })).await;
    assert!(plug.relay(1), "{answer}");
    assert_eq!(answer["error"]["code"], "no_answer", "{answer}");
    assert!(answer["attempts"].as_u64().unwrap() > 0, "{answer}");
}

#[tokio::test]
async fn a_timeout_reply_contains_the_number_of_attempts() {
    let _fast = fast_clocks();
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    // It switches, reads back as if it had not, and is silent when it is asked once more.
    let values = [("device_on".to_owned(), json!(false))].into();
    plug.faults().set(Fault::FieldValues { values });
    let latency = Duration::from_millis(250).into();
    plug.faults().set(Fault::Latency { latency });
    let wanted = json!({ "state": "ON", "ttl": 2, "transaction": "t" });
    bridge.publish("plug/set", wanted.to_string()).await;
    plug.wait_relay(1, true, PATIENCE).await.unwrap();
    let (stage, scope) = (Stage::BeforeApplying, Scope::method("set_device_info"));
    plug.faults().set(Fault::Hang { stage, scope });
    let answer = bridge.answer("plug", "t").await;
    assert_eq!(answer["error"]["code"], "no_answer", "{answer}");
    assert_eq!(answer["attempts"], 2, "{answer}");
}

#[tokio::test]
async fn commands_that_wait_at_the_stop_are_answered_once() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let mut bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    let (stage, scope) = (Stage::BeforeApplying, Scope::all());
    plug.faults().set(Fault::Hang { stage, scope });
    for (transaction, state) in [("t1", "ON"), ("t2", "OFF")] {
        let payload = json!({ "state": state, "transaction": transaction });
        bridge.publish("plug/set", payload.to_string()).await;
    }
    bridge.barrier().await;
    assert_eq!(bridge.stop().await, ShutdownReason::Stopped);
    let answers = bridge.answers("plug");
    let mut transactions: Vec<_> = answers
        .iter()
        .map(|answer| answer["transaction"].as_str())
        .collect();
    transactions.sort_unstable();
    assert_eq!(transactions, [Some("t1"), Some("t2")]);
    assert!(codes(&answers).contains(&"shutting_down"), "{answers:?}");
    assert_eq!(bridge.retained("bridge/state").await["state"], "offline");
}

#[tokio::test]
async fn without_credentials_a_command_is_answered_with_setup_mode() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = Setup::new().device("plug", plug.address()).without_credentials();
    let bridge = setup.start().await;
    let answer = bridge.set("plug", "t", json!({ "state": "ON" })).await;
    assert_eq!(answer["error"]["code"], "setup_mode");
    bridge.barrier().await;
    assert_eq!(bridge.answers("plug").len(), 1);
    assert_eq!(bridge.retained("bridge/info").await["setup_mode"], true);
    assert_eq!(changes(&plug), []);
}

/// What is sent below the base topic, and the code of its answer; `None` where there must be none.
fn malformed() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    let long = vec![b'x'; 100_000];
    let mut long_json = br#"{"state":"ON","for":""#.to_vec();
    long_json.extend_from_slice(&long);
    long_json.extend_from_slice(br#""}"#);
    let texts: [(&str, &str, Option<&str>); 33] = [
        ("plug/set", "", None),
        ("plug/set/state", "", None),
        ("plug/set", "maybe", Some("invalid_payload")),
        ("plug/set", " ", Some("invalid_payload")),
        ("plug/set", "2", Some("invalid_payload")),
        ("plug/set", "-1", Some("invalid_payload")),
        ("plug/set", "1e999", Some("invalid_payload")),
        ("plug/set", "null", Some("invalid_payload")),
        ("plug/set", "[\"ON\"]", Some("invalid_payload")),
        ("plug/set", "ON OFF", Some("invalid_payload")),
        ("plug/set", "ON\0", Some("invalid_payload")),
        ("plug/set", "{", Some("invalid_json")),
        ("plug/set", "{\"state\":\"ON\"", Some("invalid_json")),
        ("plug/set", "{\"state\":\"ON\"} x", Some("invalid_json")),
        ("plug/set", "{}", Some("missing_key")),
        ("plug/set", r#"{"color":5,"state":"ON"}"#, Some("unknown_key")),
        (
            "plug/set",
            r#"{"state":"ON","state":"OFF"}"#,
            Some("duplicate_key"),
        ),
        ("plug/set", r#"{"state":"perhaps"}"#, Some("invalid_value")),
        ("plug/set", r#"{"state":null}"#, Some("invalid_value")),
        ("plug/set", r#"{"state":{"on":true}}"#, Some("invalid_value")),
        ("plug/set", r#"{"state":["ON"]}"#, Some("invalid_value")),
        ("plug/set", r#"{"state":7}"#, Some("invalid_value")),
        ("plug/set", r#"{"state":"ON","ttl":0}"#, Some("out_of_range")),
        (
            "plug/set",
            r#"{"state":"ON","ttl":"soon"}"#,
            Some("invalid_value"),
        ),
        ("plug/set", r#"{"state":"ON","ttl":1e308}"#, Some("out_of_range")),
        (
            "plug/set",
            r#"{"state":"OFF","on_time":5}"#,
            Some("conflicting_keys"),
        ),
        (
            "plug/set",
            r#"{"state":"ON","on_time":true}"#,
            Some("invalid_value"),
        ),
        (
            "plug/set",
            r#"{"state":"ON","transaction":{"a":1}}"#,
            Some("invalid_value"),
        ),
        ("plug/set/color", "5", Some("unknown_attribute")),
        ("plug/set/STATE", "ON", Some("unknown_attribute")),
        ("plug/set/state", "{\"state\":", Some("invalid_json")),
        ("plug/get", "now", Some("invalid_payload")),
        ("plug/get", r#"{"state":"ON"}"#, Some("invalid_value")),
    ];
    let bytes: [(&str, &[u8], Option<&str>); 5] = [
        ("plug/set", b"\xff\xfe", Some("not_utf8")),
        ("plug/set", b"{\"state\":\"\xc3\x28\"}", Some("not_utf8")),
        ("plug/set", &long, Some("too_large")),
        ("plug/set", &long_json, Some("too_large")),
        ("plug/get", &long, Some("too_large")),
    ];
    let odd = [
        "PLUG/set",
        "pl ug/set",
        "/set",
        "//set",
        "plug//set",
        "bridge/set",
        "plug/1/2/set",
        "ü/set",
    ];
    let texts = texts.map(|(topic, payload, code)| (topic, payload.as_bytes().to_vec(), code));
    let bytes = bytes.map(|(topic, payload, code)| (topic, payload.to_vec(), code));
    let odd = odd.map(|topic| (topic, b"ON".to_vec(), None));
    texts.into_iter().chain(bytes).chain(odd).collect()
}

#[tokio::test]
async fn malformed_commands_are_refused_and_harm_nothing() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    for (topic, payload, code) in malformed() {
        bridge.probe.forget();
        let shown = String::from_utf8_lossy(&payload[..payload.len().min(60)]).into_owned();
        bridge.publish(topic, payload).await;
        bridge.barrier().await;
        let answers = bridge.answers("plug");
        let Some(code) = code else {
            assert_eq!(answers, Vec::<Value>::new(), "{topic} {shown}");
            continue;
        };
        let answers_seen = codes(&answers);
        assert!(answers_seen == [code], "{topic} {shown}: {answers:?}");
        assert!(answers[0].to_string().len() < 1000, "{topic} {shown}");
    }
    assert_eq!(changes(&plug), []);
    let wanted = !plug.relay(1);
    let answer = bridge.set("plug", "good", json!({ "state": word(wanted) })).await;
    assert_eq!(answer["status"], "ok");
    assert_eq!(plug.relay(1), wanted);
}

#[tokio::test]
async fn a_retained_command_is_refused() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let broker = Mosquitto::start().await;
    let wanted = !plug.relay(1);
    broker
        .probe()
        .await
        .publish_retained("tapo2mqtt/plug/set", word(wanted))
        .await;
    let bridge = Setup::new().device("plug", plug.address()).start_on(broker).await;
    bridge.available("plug").await;
    let answer = bridge.expect("plug/response", |_| true).await;
    assert_eq!(answer["error"]["code"], "retained_command");
    bridge
        .expect("bridge/event", |event| event["type"] == "retained_command")
        .await;
    assert_eq!(changes(&plug), []);
    let answer = bridge.set("plug", "good", json!({ "state": word(wanted) })).await;
    assert_eq!(answer["status"], "ok");
}

#[tokio::test]
async fn a_topic_that_names_nothing_is_answered_with_the_ids() {
    let log = Log::capture();
    let strip = Simulator::strip(Profile::P300).start().await.unwrap();
    let group = "[[group]]\nid = \"driveway\"\noutlets = [\"mats/1\"]\n";
    let setup = Setup::new().device("mats", strip.address()).rules(group);
    let bridge = setup.start().await;
    bridge.available("mats").await;
    let (devices, groups) = ("known devices are mats", "known groups are driveway");
    let cases = [
        ("Living Room/set", "Living Room", "unknown_device", devices),
        ("nobody/set", "nobody", "unknown_device", devices),
        ("Mats/1/set", "Mats/1", "unknown_device", devices),
        (
            "mats/One/set/state",
            "mats/One",
            "unknown_outlet",
            "known outlets are 1, 2, 3",
        ),
        ("group/Driveway/set", "group/Driveway", "unknown_group", groups),
        ("group/heat/get", "group/heat", "unknown_group", groups),
        (
            "group/driveway/set/schedule/Morning",
            "group/driveway",
            "unknown_schedule",
            "there are no schedules",
        ),
    ];
    for (topic, path, code, known) in cases {
        bridge.probe.forget();
        let payload = json!({ "state": "ON", "transaction": topic });
        bridge.publish(topic, payload.to_string()).await;
        let answer = bridge.answer(path, topic).await;
        assert_eq!(answer["error"]["code"], code, "{topic}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(known), "{topic}: {message}");
        let event = bridge.expect("bridge/event", |_| true).await;
        assert_eq!(event["type"], "command_failed", "{topic}");
        let lines = log.lines();
        let warned = lines.iter().filter(|line| line.contains(message));
        assert_eq!(warned.count(), 1, "{topic}: {lines:?}");
    }
    bridge.publish("bridge/request/Plan", "").await;
    let answer = bridge.expect("bridge/response/Plan", |_| true).await;
    assert_eq!(answer["error"]["code"], "unknown_request");
    assert_eq!(changes(&strip), []);
}

#[tokio::test]
async fn a_command_has_one_log_line_and_a_failure_one_event() {
    let log = Log::capture();
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let group = "[[group]]\nid = \"all\"\noutlets = [\"plug\", \"dead\"]\n";
    let setup = Setup::new()
        .device("plug", plug.address())
        .device("dead", dead_address());
    let bridge = setup.rules(group).start().await;
    bridge.available("plug").await;
    let lines = |transaction: &str| {
        let mine = format!("transaction=\"{transaction}\"");
        let lines = log.lines().into_iter().filter(|line| line.contains(&mine));
        lines.collect::<Vec<_>>()
    };

    bridge.set("plug", "good", json!({ "state": "ON" })).await;
    let done = lines("good");
    assert_eq!(done.len(), 1, "{done:?}");
    for part in [
        "INFO",
        "command done",
        "path=plug",
        "action=ON",
        "state=\"ON\"",
        "source=\"mqtt\"",
        "latency_ms=",
    ] {
        assert!(done[0].contains(part), "{done:?} lacks {part}");
    }
    assert_eq!(bridge.events("command_failed"), Vec::<Value>::new());

    bridge.set("all", "bad", json!({ "state": "ON" })).await;
    let answer = bridge
        .set("group/all", "half", json!({ "state": "OFF", "ttl": 0.5 }))
        .await;
    assert_eq!(answer["error"]["code"], "not_ready");
    let failed = lines("half");
    assert_eq!(failed.len(), 1, "{failed:?}");
    for part in [
        "WARN",
        "path=group/all",
        "code=\"not_ready\"",
        "command failed: dead: ",
    ] {
        assert!(failed[0].contains(part), "{failed:?} lacks {part}");
    }
    let event = bridge
        .expect("bridge/event", |event| {
            event["device"] == "dead" && event["type"] == "command_failed"
        })
        .await;
    assert_eq!((&event["group"], &event["outlet"]), (&json!("all"), &Value::Null));
    let message = event["message"].as_str().unwrap();
    assert!(
        message.starts_with("dead: OFF failed: ") && message.ends_with("(not_ready)"),
        "{message}"
    );
    bridge.barrier().await;
    // That of the device "all", which does not exist, and that of the member that failed.
    assert_eq!(bridge.events("command_failed").len(), 2);
}

#[tokio::test]
async fn an_off_after_an_on_is_not_taken_for_a_repetition() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    for (transaction, state) in [("a", "ON"), ("b", "OFF"), ("a", "ON"), ("b", "OFF")] {
        bridge.probe.forget();
        let answer = bridge.set("plug", transaction, json!({ "state": state })).await;
        assert_eq!(answer["state"], state);
        assert_eq!(plug.relay(1), state == "ON", "{transaction}");
    }
    let is = |wanted: &'static str| move |state: &str| crate::bridge::parsed(state)["state"] == wanted;
    bridge.probe.expect_last("tapo2mqtt/plug", is("OFF")).await;
    // Nor is one after the button switched it on.
    plug.press(1).unwrap();
    bridge.probe.expect_last("tapo2mqtt/plug", is("ON")).await;
    bridge.probe.forget();
    bridge.set("plug", "b", json!({ "state": "OFF" })).await;
    assert!(!plug.relay(1));
}

#[tokio::test]
async fn a_name_from_the_app_leads_to_the_topic() {
    let plug = Simulator::plug(Profile::P110).nickname("Boiler");
    let plug = plug.start().await.unwrap();
    let strip = Simulator::strip(Profile::P304M).nickname("Mats");
    let strip = strip.outlet_nicknames(["Left mat", "Right mat", "Steps", "Lamp"]);
    let strip = strip.start().await.unwrap();
    let named = "[[device.outlet]]\nposition = 2\nid = \"right\"\nname = \"East mat\"\n";
    let setup = Setup::new()
        .device("heater", plug.address())
        .device("mats", strip.address());
    let bridge = setup.rules(named).start().await;
    for device in ["heater", "mats"] {
        bridge.available(device).await;
    }
    let cases = [
        ("Boiler", "heater", Value::Null),
        ("mats", "mats", Value::Null),
        (" left MAT", "mats/1", json!(1)),
        ("East mat", "mats/right", json!(2)),
    ];
    for (name, path, position) in cases {
        let payload = json!({ "name": name, "transaction": name });
        bridge
            .publish("bridge/request/identify", payload.to_string())
            .await;
        let answered = |answer: &Value| answer["transaction"] == name;
        let answer = bridge.expect("bridge/response/identify", answered).await;
        let found = answer["data"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{answer}");
        assert_eq!(
            (&found[0]["path"], &found[0]["position"]),
            (&json!(path), &position)
        );
    }
    bridge.probe.forget();
    bridge.publish("bridge/request/identify", "").await;
    let all = bridge.expect("bridge/response/identify", |_| true).await;
    assert_eq!(all["data"].as_array().unwrap().len(), 6, "{all}");
}

#[tokio::test]
async fn requests_and_groups_that_make_no_sense_are_answered() {
    let bridge = Setup::new().start().await;
    let cases = [
        (
            "bridge/request/log_level",
            r#"{"level":"loud"}"#,
            "bridge/response/log_level",
            "invalid_value",
        ),
        (
            "bridge/request/rescan",
            "now",
            "bridge/response/rescan",
            "invalid_payload",
        ),
        (
            "bridge/request/identify",
            r#"{"name":"Nobody"}"#,
            "bridge/response/identify",
            "unknown_name",
        ),
        (
            "bridge/request/dance",
            "",
            "bridge/response/dance",
            "unknown_request",
        ),
        (
            "bridge/request/homeassistant/rediscover",
            r#"{"device":"nobody"}"#,
            "bridge/response/homeassistant/rediscover",
            "unknown_device",
        ),
        ("group/heat/set", "ON", "group/heat/response", "unknown_group"),
    ];
    for (topic, payload, response, code) in cases {
        bridge.publish(topic, payload).await;
        let answer = bridge.expect(response, |_| true).await;
        assert_eq!(
            (&answer["status"], &answer["error"]["code"]),
            (&json!("error"), &json!(code)),
            "{topic}"
        );
    }
}
