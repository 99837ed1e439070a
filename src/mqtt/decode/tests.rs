use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::{
    device_settings::{PowerOnBehavior, SettingChange},
    heating::{HeatingChange, Tenths},
};
use planner::{
    period::Period,
    thermostat::{Preset, ThermostatMode},
};

/// 12:00.
const NOON: &str = "2026-11-21T12:00:00Z";

fn read(verb: &Verb, payload: &[u8]) -> Decoded<CommandPayload> {
    read_for("heater", verb, payload)
}

fn read_for(path: &str, verb: &Verb, payload: &[u8]) -> Decoded<CommandPayload> {
    let context = DecodeContext {
        zone: &TimeZone::UTC,
        now: NOON.parse().unwrap(),
    };
    decode(&Target::Outlet(path.parse().unwrap()), verb, payload, context)
}

fn set(payload: impl AsRef<[u8]>) -> Decoded<CommandPayload> {
    read(&Verb::Set, payload.as_ref())
}

fn attribute(name: &str, payload: &[u8]) -> Decoded<CommandPayload> {
    read(&Verb::SetAttribute(name.to_owned()), payload)
}

fn accepted<T: std::fmt::Debug>(decoded: Decoded<T>) -> (T, Option<Transaction>) {
    match decoded {
        Decoded::Accepted { command, transaction } => (command, transaction),
        other => panic!("not accepted: {other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(decoded: Decoded<T>) -> (PayloadError, Option<Transaction>) {
    match decoded {
        Decoded::Refused { error, transaction } => (error, transaction),
        other => panic!("not refused: {other:?}"),
    }
}

fn set_command(payload: &str) -> CommandPayload {
    accepted(set(payload)).0
}

fn named(transaction: &str) -> Option<Transaction> {
    Transaction::try_from(Scalar::Text(transaction.to_owned())).ok()
}

const ON: Action = Action::Switch(Switch::To(Power::On));
const OFF: Action = Action::Switch(Switch::To(Power::Off));
const TOGGLE: Action = Action::Switch(Switch::Toggle);

#[test]
fn every_spelling_of_a_state_is_read() {
    let cases = [
        (
            ON,
            &[
                "ON",
                "on",
                "On",
                "1",
                "true",
                "TRUE",
                "True",
                " ON\r\n",
                "\tON",
                r#""on""#,
                r#"" ON ""#,
                r#""1""#,
            ][..],
        ),
        (
            OFF,
            &[
                "OFF",
                "off",
                "0",
                "false",
                "False",
                r#""OFF""#,
                r#""false""#,
                " 0 ",
            ],
        ),
        (TOGGLE, &["TOGGLE", "toggle", "Toggle\n", r#""TOGGLE""#]),
        (Action::Auto, &["AUTO", "auto", r#""Auto""#, " AUTO"]),
    ];
    for (change, spellings) in cases {
        for payload in spellings {
            let expected = CommandPayload::of(change, Validity::default());
            assert_eq!(set_command(payload), expected, "{payload:?}");
        }
    }
    for (state, change) in [
        ("true", ON),
        ("1", ON),
        (r#""on""#, ON),
        ("false", OFF),
        ("0", OFF),
    ] {
        let payload = format!(r#" {{"state": {state}}} "#);
        assert_eq!(set_command(&payload).action, change, "{payload}");
    }
}

#[test]
fn a_mode_is_auto_on_or_off() {
    let mode = |payload: &str| accepted(attribute("mode", payload.as_bytes())).0;
    for (payload, change) in [
        ("auto", Action::Auto),
        ("ON", ON),
        (" Off\n", OFF),
        (r#""auto""#, Action::Auto),
        (r#"{"mode":"off"}"#, OFF),
    ] {
        assert_eq!(mode(payload).action, change, "{payload:?}");
    }
    assert_eq!(
        mode(r#"{"mode":"on","override":"hold"}"#).lifetime,
        Some(Lifetime::Hold)
    );
    for (payload, code) in [
        ("toggle", "invalid_payload"),
        ("1", "invalid_payload"),
        ("true", "invalid_payload"),
        (r#"{"mode":true}"#, "invalid_value"),
        (r#"{"state":"ON"}"#, "unknown_key"),
        (r#"{"mode":"auto","for":60}"#, "conflicting_keys"),
    ] {
        let (error, _) = refused(attribute("mode", payload.as_bytes()));
        assert_eq!(error.code(), code, "{payload}: {error}");
    }
    let (error, _) = refused(attribute("mode", b"dim"));
    assert_eq!(
        error.to_string(),
        "expected auto, on, off or a JSON object with the key mode, got dim"
    );
}

#[test]
fn a_schedule_is_switched_on_and_off() {
    let switch = |payload: &str| decode_switch(payload.as_bytes());
    for (payload, enabled) in [
        ("ON", true),
        ("off", false),
        ("true", true),
        ("0", false),
        (r#"{"enabled":true}"#, true),
        (r#"{"enabled":"OFF"}"#, false),
    ] {
        assert_eq!(accepted(switch(payload)).0, enabled, "{payload}");
    }
    assert_eq!(switch(""), Decoded::Ignored);
    assert_eq!(
        accepted(switch(r#"{"enabled":1,"transaction":"x"}"#)).1,
        named("x")
    );
    for (payload, code) in [
        ("AUTO", "invalid_payload"),
        ("TOGGLE", "invalid_payload"),
        ("{}", "missing_key"),
        (r#"{"enabled":null}"#, "invalid_value"),
        (r#"{"enabled":"toggle"}"#, "invalid_value"),
        (r#"{"enabled":true,"state":"ON"}"#, "unknown_key"),
    ] {
        assert_eq!(refused(switch(payload)).0.code(), code, "{payload}");
    }
}

#[test]
fn the_whole_object_is_read() {
    let payload = r#"{"state":"ON","on_time":300,"for":"2h","ttl":2.5,"expires":"2026-11-30T23:00:00+01:00","transaction":"x"}"#;
    let (command, transaction) = accepted(set(payload));
    let expected = CommandPayload {
        action: Action::OnFor(Duration::from_mins(5)),
        lifetime: Some(Lifetime::For("2h".parse().unwrap())),
        brightness: None,
        validity: Validity {
            ttl: Duration::from_millis(2500),
            expires: Some("2026-11-30T22:00:00Z".parse().unwrap()),
        },
    };
    assert_eq!(command, expected);
    assert_eq!(transaction, named("x"));
    assert_eq!(attribute("state", payload.as_bytes()), set(payload));
}

#[test]
fn lengths_of_time_are_numbers_or_texts() {
    let cases = [
        (r#""2h""#, 7200.0),
        (r#""90s""#, 90.0),
        (r#""1h30m""#, 5400.0),
        (r#"" 1h 30m ""#, 5400.0),
        (r#""PT2H""#, 7200.0),
        (r#""90""#, 90.0),
        (r#""1.5""#, 1.5),
        ("90", 90.0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1", 1.0),
        ("86400", 86400.0),
        (r#""24h""#, 86400.0),
    ];
    for (value, seconds) in cases {
        let command = set_command(&format!(r#"{{"state":"ON","on_time":{value}}}"#));
        let on_time = Duration::from_secs_f64(seconds);
        assert_eq!(command.action, Action::OnFor(on_time), "{value}");
    }
}

#[test]
fn a_countdown_is_a_length_of_time_and_nothing_else() {
    let seconds = |seconds: f64| match Duration::from_secs_f64(seconds) {
        Duration::ZERO => Action::CancelCountdown,
        length => Action::CountDown(length),
    };
    for (payload, length) in [
        ("600", 600.0),
        ("600.0", 600.0),
        ("0", 0.0),
        (" 86400\n", 86400.0),
        ("10m", 600.0),
        (r#""1h30m""#, 5400.0),
        (r#"{"countdown":90}"#, 90.0),
        (r#"{"countdown":"24h","ttl":5,"transaction":1}"#, 86400.0),
    ] {
        let command = accepted(attribute("countdown", payload.as_bytes())).0;
        assert_eq!(command.action, seconds(length), "{payload}");
    }
    assert_eq!(set_command(r#"{"countdown":600}"#).action, seconds(600.0));
    for (payload, code) in [
        ("ON", "invalid_value"),
        ("-1", "out_of_range"),
        ("0.5", "out_of_range"),
        ("86401", "out_of_range"),
        ("{}", "missing_key"),
        (r#"{"countdown":null}"#, "invalid_value"),
        (r#"{"countdown":60,"state":"ON"}"#, "unknown_key"),
    ] {
        let (error, _) = refused(attribute("countdown", payload.as_bytes()));
        assert_eq!(error.code(), code, "{payload}: {error}");
    }
    for (payload, code) in [
        (r#"{"countdown":60,"state":"ON"}"#, "conflicting_keys"),
        (r#"{"countdown":60,"on_time":5}"#, "conflicting_keys"),
        (r#"{"countdown":60,"for":"1h"}"#, "conflicting_keys"),
    ] {
        let (error, _) = refused(set(payload));
        assert_eq!(error.code(), code, "{payload}: {error}");
    }
    let (error, _) = refused(attribute("mode", br#"{"countdown":60}"#));
    assert_eq!(error.code(), "unknown_key");
}

#[test]
fn on_time_and_off_time_go_with_their_state() {
    let minute = Duration::from_mins(1);
    assert_eq!(
        set_command(r#"{"state":"OFF","off_time":60}"#).action,
        Action::OffFor(minute)
    );
    for payload in [
        r#"{"state":"ON","off_time":60}"#,
        r#"{"state":"TOGGLE","off_time":60}"#,
        r#"{"state":"OFF","on_time":60}"#,
        r#"{"state":"OFF","on_time":60,"off_time":60}"#,
    ] {
        assert_eq!(refused(set(payload)).0.code(), "conflicting_keys", "{payload}");
    }
}

#[test]
fn every_lifetime_is_read() {
    let half = Period::new(jiff::SignedDuration::from_millis(500)).unwrap();
    let until = |at: &str| Lifetime::Until(at.parse().unwrap());
    let cases = [
        (r#""for":0.5"#, Lifetime::For(half)),
        (r#""override":"hold""#, Lifetime::Hold),
        (r#""override":"UNTIL_NEXT_SCHEDULE""#, Lifetime::UntilNextSchedule),
        (
            r#""until":"2026-11-21T18:00:00+01:00""#,
            until("2026-11-21T17:00:00Z"),
        ),
        (r#""until":"18:05""#, until("2026-11-21T18:05:00Z")),
        (r#""until":"00:00""#, until("2026-11-22T00:00:00Z")),
    ];
    for (key, lifetime) in cases {
        let command = set_command(&format!(r#"{{"state":"OFF",{key}}}"#));
        assert_eq!(command.lifetime, Some(lifetime), "{key}");
    }
}

#[test]
fn an_empty_payload_is_ignored_unless_it_asks_to_read() {
    assert_eq!(set(""), Decoded::Ignored);
    assert_eq!(attribute("state", b""), Decoded::Ignored);
    assert_eq!(attribute("nonsense", b""), Decoded::Ignored);
    let get = |payload: &str| accepted(read(&Verb::Get, payload.as_bytes()));
    let wanted = CommandPayload::of(Action::Read, Validity::default());
    assert_eq!(get(""), (wanted.clone(), None));
    assert_eq!(get(r#"{"state":""}"#), (wanted, None));
    assert_eq!(get(r#"{"transaction":7}"#).1, Some(Transaction::Number(7.into())));
}

/// Each with the code that programs see.
const MALFORMED: &[(&str, &str)] = &[
    // No known word.
    (" ", "invalid_payload"),
    ("\n", "invalid_payload"),
    ("ONN", "invalid_payload"),
    ("O N", "invalid_payload"),
    ("ON OFF", "invalid_payload"),
    ("ON\0", "invalid_payload"),
    ("\u{feff}ON", "invalid_payload"),
    ("yes", "invalid_payload"),
    ("null", "invalid_payload"),
    ("2", "invalid_payload"),
    ("-1", "invalid_payload"),
    ("1.0", "invalid_payload"),
    ("01", "invalid_payload"),
    ("NaN", "invalid_payload"),
    ("\"ON", "invalid_payload"),
    ("[\"ON\"]", "invalid_payload"),
    ("[]", "invalid_payload"),
    ("state=ON", "invalid_payload"),
    ("<script>", "invalid_payload"),
    // No JSON object.
    ("{", "invalid_json"),
    ("{}}", "invalid_json"),
    ("{state:ON}", "invalid_json"),
    ("{'state':'ON'}", "invalid_json"),
    ("{\"state\":\"ON\",}", "invalid_json"),
    ("{\"state\":\"ON\"} x", "invalid_json"),
    ("{\"state\":\"ON\"}{\"state\":\"OFF\"}", "invalid_json"),
    ("{\"state\":NaN}", "invalid_json"),
    ("{\"state\":\"ON\",\"ttl\":Infinity}", "invalid_json"),
    ("{\"state\":\"ON\",\"ttl\":1e999}", "invalid_json"),
    ("{\"state\":\"\\ud800\"}", "invalid_json"),
    ("{\"state\":\"ON\n\"}", "invalid_json"),
    // Keys.
    ("{}", "missing_key"),
    ("{\"ttl\":5}", "missing_key"),
    ("{\"state\":\"ON\",\"state\":\"OFF\"}", "duplicate_key"),
    ("{\"state\":\"ON\",\"expires\":\"22:00\"}", "invalid_value"),
    ("{\"state\":\"ON\",\"expires\":1700000000}", "invalid_value"),
    (
        "{\"state\":\"ON\",\"expires\":\"2026-11-21T18:00Z\"}",
        "invalid_value",
    ),
    ("{\"state\":\"ON\",\"ttl\":1,\"ttl\":1}", "duplicate_key"),
    ("{\"State\":\"ON\"}", "unknown_key"),
    ("{\"state\":\"ON\",\"color\":3}", "unknown_key"),
    ("{\"state\":\"ON\",\"\":1}", "unknown_key"),
    (
        "{\"state\":\"ON\",\"for\":1,\"until\":\"10:00\"}",
        "conflicting_keys",
    ),
    (
        "{\"state\":\"ON\",\"for\":1,\"override\":\"hold\"}",
        "conflicting_keys",
    ),
    (
        "{\"state\":\"ON\",\"until\":\"10:00\",\"override\":\"hold\"}",
        "conflicting_keys",
    ),
    ("{\"state\":\"OFF\",\"on_time\":5}", "conflicting_keys"),
    ("{\"state\":\"TOGGLE\",\"on_time\":5}", "conflicting_keys"),
    // Types.
    ("{\"state\":null}", "invalid_value"),
    ("{\"state\":2}", "invalid_value"),
    ("{\"state\":\"\"}", "invalid_value"),
    ("{\"state\":[\"ON\"]}", "invalid_value"),
    ("{\"state\":{\"state\":\"ON\"}}", "invalid_value"),
    ("{\"state\":\"ON\",\"on_time\":null}", "invalid_value"),
    ("{\"state\":\"ON\",\"on_time\":true}", "invalid_value"),
    ("{\"state\":\"ON\",\"on_time\":\"soon\"}", "invalid_value"),
    ("{\"state\":\"ON\",\"on_time\":\"NaN\"}", "invalid_value"),
    ("{\"state\":\"ON\",\"on_time\":\"inf\"}", "invalid_value"),
    ("{\"state\":\"ON\",\"on_time\":\"\"}", "invalid_value"),
    ("{\"state\":\"ON\",\"for\":{}}", "invalid_value"),
    ("{\"state\":\"ON\",\"until\":5}", "invalid_value"),
    ("{\"state\":\"ON\",\"until\":\"24:00\"}", "invalid_value"),
    (
        "{\"state\":\"ON\",\"until\":\"9999-12-31T00:00:00Z\"}",
        "out_of_range",
    ),
    ("{\"state\":\"ON\",\"until\":\"10:60\"}", "invalid_value"),
    ("{\"state\":\"ON\",\"until\":\"tomorrow\"}", "invalid_value"),
    ("{\"state\":\"ON\",\"until\":\"-1:00\"}", "invalid_value"),
    ("{\"state\":\"ON\",\"until\":\"10:00:00\"}", "invalid_value"),
    ("{\"state\":\"ON\",\"until\":\"10:00 pm\"}", "invalid_value"),
    (
        "{\"state\":\"ON\",\"until\":\"2026-11-21T18:00:00\"}",
        "invalid_value",
    ),
    ("{\"state\":\"ON\",\"override\":true}", "invalid_value"),
    ("{\"state\":\"ON\",\"override\":\"forever\"}", "invalid_value"),
    ("{\"state\":\"ON\",\"transaction\":null}", "invalid_value"),
    ("{\"state\":\"ON\",\"transaction\":\"\"}", "invalid_value"),
    ("{\"state\":\"ON\",\"transaction\":{}}", "invalid_value"),
    // Ranges.
    ("{\"state\":\"ON\",\"on_time\":0}", "out_of_range"),
    ("{\"state\":\"ON\",\"on_time\":0.9}", "out_of_range"),
    ("{\"state\":\"ON\",\"on_time\":-5}", "out_of_range"),
    ("{\"state\":\"ON\",\"on_time\":\"-5s\"}", "out_of_range"),
    ("{\"state\":\"ON\",\"on_time\":86400.5}", "out_of_range"),
    ("{\"state\":\"ON\",\"on_time\":1e300}", "out_of_range"),
    ("{\"state\":\"ON\",\"for\":0}", "out_of_range"),
    ("{\"state\":\"ON\",\"for\":\"25h\"}", "out_of_range"),
    ("{\"state\":\"ON\",\"ttl\":0.05}", "out_of_range"),
    ("{\"state\":\"ON\",\"ttl\":3601}", "out_of_range"),
];

#[test]
fn malformed_commands_have_a_code_and_a_message() {
    for (payload, code) in MALFORMED {
        let (error, _) = refused(set(payload));
        assert_eq!(error.code(), *code, "{payload:?}: {error}");
        let message = error.to_string();
        assert!(message.len() < 300, "{message}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn auto_with_a_length_is_refused() {
    let payload = br#"{"state":"AUTO","for":60}"#;
    let (error, _) = refused(read(&Verb::Set, payload));
    assert_eq!(error.code(), "conflicting_keys");
}

#[test]
fn messages_name_what_is_expected() {
    let message = |payload: &str| refused(set(payload)).0.to_string();
    assert_eq!(
        message("ein"),
        "expected ON, OFF, TOGGLE, AUTO, 1, 0, true, false or a JSON object with the key state, got ein"
    );
    assert_eq!(
        message(r#"{"state":"ON","dim":1}"#),
        "unknown key dim; known are state, on_time, off_time, countdown, brightness, for, until, override, ttl, expires, \
         transaction"
    );
    assert_eq!(
        message(r#"{"state":"ON","on_time":0}"#),
        "on_time: expected 1 to 86400 seconds, or a text like 1h30m, got 0"
    );
    let (error, _) = refused(attribute("color", b"red"));
    assert_eq!(error.code(), "unknown_attribute");
    assert_eq!(
        error.to_string(),
        "unknown attribute color; known are state, mode, countdown, reboot, target_temperature, system_mode, brightness, led, \
         auto_off, auto_off_delay, power_protection, power_protection_threshold, power_on_behavior"
    );
}

#[test]
fn a_setting_of_a_device_is_a_value_or_an_object() {
    for (name, payload, expected) in [
        ("led", "OFF", SettingChange::Led(false)),
        ("led", r#"{"led":true}"#, SettingChange::Led(true)),
        ("auto_off", "1", SettingChange::AutoOff(true)),
        ("auto_off_delay", "30.0", SettingChange::AutoOffDelay(30)),
        (
            "auto_off_delay",
            r#"{"auto_off_delay":1440}"#,
            SettingChange::AutoOffDelay(1440),
        ),
        ("power_protection", "on", SettingChange::PowerProtection(true)),
        (
            "power_protection_threshold",
            "800",
            SettingChange::PowerProtectionThreshold(800),
        ),
        (
            "power_on_behavior",
            r#""Previous""#,
            SettingChange::PowerOnBehavior(PowerOnBehavior::Previous),
        ),
    ] {
        let (command, _) = accepted(attribute(name, payload.as_bytes()));
        assert_eq!(
            command.action,
            Action::ChangeSetting(expected),
            "{name} {payload}"
        );
    }
    for (name, payload, code) in [
        ("led", "TOGGLE", "invalid_value"),
        ("auto_off_delay", "0", "invalid_value"),
        ("auto_off_delay", "1.5", "invalid_value"),
        ("auto_off_delay", "1441", "invalid_value"),
        ("power_on_behavior", "toggle", "invalid_value"),
        ("auto_off", r#"{"state":"ON"}"#, "unknown_key"),
        ("auto_off", "{}", "missing_key"),
    ] {
        assert_eq!(
            refused(attribute(name, payload.as_bytes())).0.code(),
            code,
            "{name} {payload}"
        );
    }
}

#[test]
fn brightness_goes_with_on_or_alone() {
    let (command, _) = accepted(set(r#"{"state":"ON","brightness":40}"#));
    assert_eq!((command.action, command.brightness), (ON, Some(40)));
    let (command, _) = accepted(set(r#"{"state":"ON","brightness":40,"on_time":60}"#));
    assert_eq!(command.brightness, Some(40));
    let dim = Action::ChangeSetting(SettingChange::Brightness(40));
    for decoded in [set(r#"{"brightness":40}"#), attribute("brightness", b"40")] {
        let (command, _) = accepted(decoded);
        assert_eq!((command.action, command.brightness), (dim, None));
    }
    for (payload, code) in [
        (r#"{"state":"OFF","brightness":40}"#, "conflicting_keys"),
        (r#"{"state":"TOGGLE","brightness":40}"#, "conflicting_keys"),
        (r#"{"countdown":60,"brightness":40}"#, "conflicting_keys"),
        (r#"{"state":"ON","brightness":0}"#, "invalid_value"),
        (r#"{"state":"ON","brightness":101}"#, "invalid_value"),
    ] {
        assert_eq!(refused(set(payload)).0.code(), code, "{payload}");
    }
    let group = Target::Group("lights".parse().unwrap());
    let context = DecodeContext {
        zone: &TimeZone::UTC,
        now: NOON.parse().unwrap(),
    };
    let decoded = decode(&group, &Verb::Set, br#"{"state":"ON","brightness":40}"#, context);
    assert_eq!(refused(decoded).0.code(), "unsupported");
}

#[test]
fn what_is_shown_is_cut_and_escaped() {
    assert_eq!(Shown::text("a\n\"b\"\u{7}").to_string(), r#"a\n"b"\u{7}"#);
    assert_eq!(Shown::text(&"x".repeat(60)).to_string(), "x".repeat(60));
    assert_eq!(
        Shown::text(&"x".repeat(61)).to_string(),
        format!("{}…", "x".repeat(59))
    );
    assert_eq!(Shown::bytes(b"\xff\xfeON").to_string(), r"\xff\xfeON");
    let long = Shown::text(&"\u{1}".repeat(1000)).to_string();
    assert_eq!(long.chars().count(), 60);
}

#[test]
fn large_and_undecodable_payloads_are_refused() {
    let mut payload = b"ON".to_vec();
    payload.resize(PAYLOAD_MAX, b' ');
    accepted(set(&payload));
    payload.push(b' ');
    assert_eq!(refused(set(&payload)).0.code(), "too_large");
    assert_eq!(refused(set([0xff, 0xfe, b'O', b'N'])).0.code(), "not_utf8");
    assert_eq!(refused(set([b'O', b'N', 0xc3])).0.code(), "not_utf8");
}

/// Deep JSON costs no stack, wherever it is.
#[test]
fn deep_payloads_are_refused() {
    let deep = "[".repeat(60_000);
    assert_eq!(refused(set(&deep)).0.code(), "invalid_payload");
    let half = 20_000;
    let nested = format!("{}{}", "[".repeat(half), "]".repeat(half));
    let (error, transaction) = refused(set(format!(r#"{{"state":{nested},"transaction":"x"}}"#)));
    assert_eq!(error.code(), "invalid_value");
    assert_eq!(transaction, named("x"));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let (error, _) = refused(set(format!(r#"{{"state":"ON","x":{objects}}}"#)));
    assert_eq!(error.code(), "unknown_key");
    assert_eq!(refused(set(objects)).0.code(), "unknown_key");
}

#[test]
fn the_transaction_is_recovered_from_what_is_refused() {
    let mut not_utf8 = br#"{"transaction":"x","state":""#.to_vec();
    not_utf8.extend([0xff, b'"', b'}']);
    let too_large = format!(r#"{{"transaction":"x","state":"{}"}}"#, "O".repeat(PAYLOAD_MAX));
    let payloads: [(&[u8], &str); 7] = [
        (br#"{"state":"UP","transaction":"x"}"#, "invalid_value"),
        (br#"{"state":"ON","up":1,"transaction":"x"}"#, "unknown_key"),
        (br#"{"transaction":"x","transaction":"y"}"#, "duplicate_key"),
        (br#"{"transaction":"x","state":"O"#, "invalid_json"),
        (br#"{"transaction":"x"}"#, "missing_key"),
        (&not_utf8, "not_utf8"),
        (too_large.as_bytes(), "too_large"),
    ];
    for (payload, code) in payloads {
        let (error, transaction) = refused(set(payload));
        assert_eq!((error.code(), transaction), (code, named("x")));
    }
    let (error, transaction) = refused(attribute("color", br#"{"transaction":"x"}"#));
    assert_eq!((error.code(), transaction), ("unknown_attribute", named("x")));
}

#[test]
fn a_transaction_is_a_short_text_or_a_number() {
    let with = |transaction: Value| json!({"state": "ON", "transaction": transaction}).to_string();
    let longest = "x".repeat(TRANSACTION_MAX);
    assert_eq!(accepted(set(with(json!(longest)))).1, named(&longest));
    for number in [json!(0), json!(-1), json!(1.5), json!(u64::MAX)] {
        let (_, transaction) = accepted(set(with(number.clone())));
        assert_eq!(serde_json::to_value(transaction).unwrap(), number);
    }
    let too_long = with(json!("x".repeat(TRANSACTION_MAX + 1)));
    let (error, transaction) = refused(set(too_long));
    assert_eq!((error.code(), transaction), ("invalid_value", None));
}

#[test]
fn requests_take_nothing_or_an_object() {
    let nothing = |payload: &str| decode_request(payload.as_bytes(), |_| Ok(()));
    for payload in ["", " ", "{}"] {
        assert_eq!(accepted(nothing(payload)), ((), None));
    }
    assert_eq!(accepted(nothing(r#"{"transaction":"x"}"#)).1, named("x"));
    assert_eq!(refused(nothing("now")).0.code(), "invalid_payload");
    assert_eq!(refused(nothing("[]")).0.code(), "invalid_payload");
    let (error, transaction) = refused(nothing(r#"{"force":true,"transaction":"x"}"#));
    assert_eq!(error.to_string(), "unknown key force; known are transaction");
    assert_eq!(transaction, named("x"));

    let read_level = |fields: &mut Fields| {
        let level = fields.take_text("level", "a log level")?;
        Ok((level, fields.take_bool("keep")?))
    };
    let level = |payload: &str| decode_request(payload.as_bytes(), read_level);
    let (request, _) = accepted(level(r#"{"level":"debug","keep":true}"#));
    assert_eq!(request, (Some("debug".to_owned()), Some(true)));
    let (error, _) = refused(level(r#"{"level":5}"#));
    assert_eq!(error.to_string(), "level: expected a log level, got 5");
    let (error, _) = refused(level(r#"{"keep":"yes"}"#));
    assert_eq!(error.to_string(), "keep: expected true or false, got yes");
}

#[test]
fn the_thermostat_of_a_group_takes_a_target_a_mode_or_a_preset() {
    let target = Target::Group("room".parse().unwrap());
    let context = DecodeContext {
        zone: &TimeZone::UTC,
        now: NOON.parse().unwrap(),
    };
    let attribute = |name: &str| Verb::SetAttribute(name.to_owned());
    let read = |verb: &Verb, payload: &str| decode(&target, verb, payload.as_bytes(), context);
    let tenths = |degrees| Tenths::of(degrees).unwrap();
    for (verb, payload, change) in [
        (attribute("target"), "21.5", HeatingChange::Target(tenths(21.5))),
        (
            attribute("target"),
            r#"{"target":21}"#,
            HeatingChange::Target(tenths(21.0)),
        ),
        (
            attribute("system_mode"),
            "HEAT",
            HeatingChange::Mode(ThermostatMode::Heat, None),
        ),
        (attribute("preset"), "away", HeatingChange::Preset(Preset::Away)),
        (Verb::Set, r#"{"target":21}"#, HeatingChange::Target(tenths(21.0))),
        (
            Verb::Set,
            r#"{"system_mode":"heat","target":22}"#,
            HeatingChange::Mode(ThermostatMode::Heat, Some(tenths(22.0))),
        ),
    ] {
        let (command, _) = accepted(read(&verb, payload));
        assert_eq!(command.action, Action::Heat(change), "{payload}");
    }
    let (command, _) = accepted(read(&Verb::Set, r#"{"preset":"boost","for":"2h"}"#));
    assert_eq!(command.lifetime, Some(Lifetime::For("2h".parse().unwrap())));
    for (verb, payload, code) in [
        (attribute("target"), "warm", "invalid_value"),
        (attribute("preset"), "eco", "invalid_value"),
        (attribute("preset"), "{}", "missing_key"),
        (
            Verb::Set,
            r#"{"system_mode":"off","target":22}"#,
            "conflicting_keys",
        ),
        (Verb::Set, r#"{"preset":"away","target":22}"#, "conflicting_keys"),
        (
            Verb::Set,
            r#"{"system_mode":"auto","for":"1h"}"#,
            "conflicting_keys",
        ),
        (Verb::Set, r#"{"target":22,"state":"ON"}"#, "unknown_key"),
    ] {
        assert_eq!(refused(read(&verb, payload)).0.code(), code, "{payload}");
    }
}

#[test]
fn get_takes_nothing_else() {
    let get = |payload: &str| refused(read(&Verb::Get, payload.as_bytes())).0;
    assert_eq!(get("now").code(), "invalid_payload");
    assert_eq!(get(r#"{"state":"ON"}"#).code(), "invalid_value");
    assert_eq!(get(r#"{"ttl":1}"#).code(), "unknown_key");
}

/// What a client would send for a command.
fn written(command: &CommandPayload, transaction: Option<&Transaction>) -> String {
    let mut object = serde_json::Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    match command.action {
        Action::Switch(Switch::To(power)) => put("state", json!(power.to_string())),
        Action::Switch(Switch::Toggle) => put("state", json!("TOGGLE")),
        Action::Auto => put("state", json!("AUTO")),
        Action::OnFor(length) => {
            put("state", json!("ON"));
            put("on_time", json!(length.as_secs_f64()))
        }
        Action::OffFor(length) => {
            put("state", json!("OFF"));
            put("off_time", json!(length.as_secs_f64()))
        }
        Action::CountDown(length) => put("countdown", json!(length.as_secs_f64())),
        Action::CancelCountdown => put("countdown", json!(0)),
        Action::Thermostat(change) => {
            if let Some(mode) = change.mode {
                put("system_mode", json!(mode.as_str()));
            }
            change
                .target
                .and_then(|target| put("target_temperature", json!(target.celsius())))
        }
        Action::Read | Action::Reboot | Action::ChangeSetting(_) | Action::Heat(_) => panic!("not set"),
    };
    match command.lifetime {
        None => None,
        Some(Lifetime::For(length)) => put("for", json!(format!("{}ms", length.length().as_millis()))),
        Some(Lifetime::Until(at)) => put("until", json!(at.to_string())),
        Some(Lifetime::UntilNextSchedule) => put("override", json!("until_next_schedule")),
        Some(Lifetime::Hold) => put("override", json!("hold")),
    };
    put("ttl", json!(command.validity.ttl.as_secs_f64()));
    if let Some(expires) = command.validity.expires {
        put("expires", json!(expires.to_string()));
    }
    if let Some(transaction) = transaction {
        put("transaction", serde_json::to_value(transaction).unwrap());
    }
    Value::Object(object).to_string()
}

fn commands() -> impl Strategy<Value = CommandPayload> {
    let millis = |range: std::ops::RangeInclusive<u64>| range.prop_map(Duration::from_millis);
    let length = || millis(1000..=86_400_000);
    let action = prop_oneof![
        Just(ON),
        Just(OFF),
        Just(TOGGLE),
        Just(Action::Auto),
        length().prop_map(Action::OnFor),
        length().prop_map(Action::OffFor),
        length().prop_map(Action::CountDown),
        Just(Action::CancelCountdown),
    ];
    let instant = (0_i64..4_000_000_000).prop_map(|at| jiff::Timestamp::from_second(at).unwrap());
    let period = (1_i64..=86_400_000).prop_map(jiff::SignedDuration::from_millis);
    let lifetime = proptest::option::of(prop_oneof![
        period.prop_map(|length| Lifetime::For(Period::new(length).unwrap())),
        instant.prop_map(Lifetime::Until),
        Just(Lifetime::UntilNextSchedule),
        Just(Lifetime::Hold),
    ]);
    let expires =
        proptest::option::of((0_i64..4_000_000_000).prop_map(|at| jiff::Timestamp::from_second(at).unwrap()));
    let validity = (millis(100..=3_600_000), expires).prop_map(|(ttl, expires)| Validity { ttl, expires });
    (action, lifetime, validity).prop_map(|(action, lifetime, validity)| {
        let alone = matches!(
            action,
            Action::Auto | Action::CountDown(_) | Action::CancelCountdown
        );
        CommandPayload {
            action,
            lifetime: lifetime.filter(|_| !alone),
            brightness: None,
            validity,
        }
    })
}

fn transactions() -> impl Strategy<Value = Option<Transaction>> {
    proptest::option::of(prop_oneof![
        ".{1,30}".prop_map(Transaction::Text),
        any::<i64>().prop_map(|number| Transaction::Number(number.into())),
    ])
}

/// Bytes that are close to a command.
fn nearly_commands() -> impl Strategy<Value = Vec<u8>> {
    let mutation = (any::<prop::sample::Index>(), any::<u8>(), 0..3_u8);
    let mutations = proptest::collection::vec(mutation, 0..4);
    (commands(), transactions(), mutations).prop_map(|(command, transaction, mutations)| {
        let mut bytes = written(&command, transaction.as_ref()).into_bytes();
        for (place, byte, kind) in mutations {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => bytes.truncate(place.max(1)),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn every_command_comes_back(command in commands(), transaction in transactions()) {
        let payload = written(&command, transaction.as_ref());
        let expected = Decoded::Accepted { command, transaction };
        prop_assert_eq!(read(&Verb::Set, payload.as_bytes()), expected);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        payload in prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), nearly_commands()],
        name in ".{0,10}",
    ) {
        for verb in [Verb::Set, Verb::Get, Verb::SetAttribute("mode".to_owned()), Verb::SetAttribute(name)] {
            if let Decoded::Refused { error, .. } = read(&verb, &payload) {
                prop_assert!(!error.to_string().contains(char::is_control));
            }
        }
        if let Decoded::Refused { error, .. } = decode_switch(&payload) {
            prop_assert!(!error.to_string().contains(char::is_control));
        }
        let _ = decode_request(&payload, |fields| fields.take_text("level", "a level"));
    }

    /// The limits hold whatever was written.
    #[test]
    fn accepted_values_are_in_range(seconds in any::<f64>(), key in prop::sample::select(vec!["on_time", "for", "ttl"])) {
        let payload = json!({"state": "ON", key: seconds}).to_string();
        if let Decoded::Accepted { command, .. } = set(payload) {
            let day = Duration::from_hours(24);
            if let Action::OnFor(on_time) = command.action {
                prop_assert!(on_time >= Duration::from_secs(1) && on_time <= day);
            }
            if let Some(Lifetime::For(length)) = command.lifetime {
                prop_assert!(length.length() <= Lifetime::LONGEST);
            }
            prop_assert!(command.validity.ttl >= Duration::from_millis(100) && command.validity.ttl <= Duration::from_hours(1));
        }
    }
}

#[test]
fn a_device_is_restarted_by_known_payloads_only() {
    let verb = || Verb::SetAttribute("reboot".to_owned());
    for payload in ["{}", "PRESS", "reboot", " Reboot "] {
        let command = accepted(read(&verb(), payload.as_bytes())).0;
        assert_eq!(
            command,
            CommandPayload::of(Action::Reboot, Validity::default()),
            "{payload}"
        );
    }
    let (command, transaction) = accepted(read(&verb(), br#"{"ttl": 3, "transaction": "a"}"#));
    let validity = Validity {
        ttl: Duration::from_secs(3),
        ..Validity::default()
    };
    assert_eq!(command, CommandPayload::of(Action::Reboot, validity));
    assert!(transaction.is_some());
    for payload in ["ON", "0", "true", r#"{"state": "ON"}"#, "[]"] {
        let decoded = read(&verb(), payload.as_bytes());
        assert!(
            matches!(decoded, Decoded::Refused { .. }),
            "{payload}: {decoded:?}"
        );
    }
    assert_eq!(read(&verb(), b""), Decoded::Ignored);
    let (error, _) = refused(read_for("mats/1", &verb(), b"PRESS"));
    assert_eq!(error.code(), "unsupported");
}
