//! Settings that devices keep themselves: what they do, and what the bridge makes of it.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tapo_simulator::{Cause, Fault, FaultKind, Profile, Scope, Simulator, Stage};
use tapo2mqtt::system::clock::Clock;

use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    probe::PATIENCE,
};

/// Sends a setting with a transaction and waits for its answer.
async fn change(bridge: &Running, path: &str, name: &str, value: Value) -> Value {
    let transaction = format!("{name}-{value}");
    let payload = json!({ name: value, "transaction": transaction });
    bridge
        .publish(&format!("{path}/set/{name}"), payload.to_string())
        .await;
    bridge.answer(path, &transaction).await
}

/// The entities of a device, by key.
async fn entities(bridge: &Running, device: &str, key: &str) -> Value {
    let config = format!("homeassistant/device/tapo2mqtt_{device}/config");
    let complete = |payload: &str| payload.contains(key);
    parsed(&bridge.probe.expect(&config, complete).await)["components"].clone()
}

#[tokio::test]
async fn settings_of_a_plug_are_read_changed_and_read_back() {
    let _fast = fast_clocks();
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = Setup::new().device("plug", device.address()).device_settings();
    let bridge = setup.start().await;
    let state = bridge
        .expect("plug", |state| state["settings"]["led"].is_boolean())
        .await;
    let expected = json!({
        "led": true, "auto_off": false, "auto_off_delay": 120, "power_protection": false,
        "power_protection_threshold": 0, "power_on_behavior": "previous",
    });
    bridge.expect("plug", |state| state["settings"] == expected).await;
    assert_eq!(state["firmware"], "1.4.8 Build 260804 Rel.045837");

    for (name, value, shown) in [
        ("led", json!("OFF"), json!(false)),
        ("auto_off", json!(true), json!(true)),
        ("auto_off_delay", json!(30.0), json!(30)),
        ("power_protection_threshold", json!(800), json!(800)),
        ("power_protection", json!("ON"), json!(true)),
        ("power_on_behavior", json!("on"), json!("on")),
    ] {
        let answer = change(&bridge, "plug", name, value).await;
        assert_eq!(answer["status"], "ok", "{answer}");
        bridge
            .expect("plug", |state| state["settings"][name] == shown)
            .await;
        let warned = answer["note"]
            .as_str()
            .is_some_and(|note| note.contains("not for a heater"));
        assert_eq!(warned, name == "power_on_behavior", "{answer}");
    }
    bridge.publish("plug/set/led", "ON").await;
    bridge
        .expect("plug", |state| state["settings"]["led"] == true)
        .await;
    let answer = change(&bridge, "plug", "power_protection_threshold", json!(3400)).await;
    assert_eq!(answer["error"]["code"], "bad_command", "{answer}");

    // They act: the load is above the threshold, and the relay closes after a power failure.
    bridge.set("plug", "on", json!({ "state": "ON" })).await;
    device.set_watts(1, 900.0).unwrap();
    bridge.expect("plug", |state| state["overloaded"] == true).await;
    device.set_watts(1, 60.0).unwrap();
    device.cut_power(Duration::ZERO).await.unwrap();
    device.wait_relay(1, true, PATIENCE).await.unwrap();
    let changes = device.counters().relay_changes;
    assert_eq!(changes.last().map(|change| change.cause), Some(Cause::PowerLoss));
    let counters = device.counters();
    assert_eq!((counters.max_in_flight, counters.sequence_violations), (1, 0));
}

#[tokio::test]
async fn settings_of_a_strip_are_those_of_its_children() {
    let strip = Simulator::strip(Profile::P316M).start().await.unwrap();
    let plain = Simulator::strip(Profile::EP40M).start().await.unwrap();
    let setup = Setup::new()
        .device("strip", strip.address())
        .device("plain", plain.address());
    let bridge = setup.device_settings().start().await;
    let read = |state: &Value| state["settings"]["power_protection"] == false;
    bridge.expect("strip/6", read).await;
    let keys = entities(&bridge, "strip", "strip_o6_power_protection\"").await;
    for key in [
        "led",
        "update",
        "o1_auto_off_enabled",
        "o6_power_protection_threshold",
    ] {
        let entity = &keys[format!("tapo2mqtt_strip_{key}")];
        assert_eq!(
            entity["enabled_by_default"] == false,
            key.starts_with('o'),
            "{key}"
        );
    }
    assert_eq!(
        keys["tapo2mqtt_strip_o1_power_protection_threshold"]["max"],
        1644.0
    );
    let answer = change(&bridge, "strip/2", "power_protection", json!("ON")).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    bridge
        .expect("strip/2", |state| state["settings"]["power_protection"] == true)
        .await;
    let all = change(&bridge, "strip", "auto_off_delay", json!(45)).await;
    assert_eq!(all["status"], "ok", "{all}");
    for path in ["strip/1", "strip/6"] {
        bridge
            .expect(path, |state| state["settings"]["auto_off_delay"] == 45)
            .await;
    }
    assert_eq!(
        bridge.retained("strip/1").await["settings"]["power_protection"],
        false
    );

    let led = change(&bridge, "strip/1", "led", json!("OFF")).await;
    assert_eq!(led["error"]["code"], "unsupported", "{led}");
    assert_eq!(
        change(&bridge, "plain", "led", json!("OFF")).await["status"],
        "ok"
    );
    let keys = entities(&bridge, "plain", "plain_o2_power_on_behavior\"").await;
    assert!(
        keys.get("tapo2mqtt_plain_o1_auto_off_enabled").is_none(),
        "{keys}"
    );
    let none = change(&bridge, "plain/1", "auto_off", json!("ON")).await;
    assert_eq!(none["error"]["code"], "unsupported", "{none}");
    assert_eq!(plain.counters().requests_of("get_child_device_component_list"), 1);
}

#[tokio::test]
async fn settings_are_unchanged_unless_they_are_managed() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", device.address()).start().await;
    bridge.available("plug").await;
    let answer = change(&bridge, "plug", "led", json!("OFF")).await;
    assert_eq!(answer["error"]["code"], "unsupported", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("device_settings = true"), "{message}");
    assert_eq!(device.counters().requests_of("get_led_info"), 0);
}

#[tokio::test]
async fn a_setting_that_the_device_does_not_take_is_not_confirmed() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = Setup::new().device("plug", device.address()).device_settings();
    let bridge = setup.start().await;
    bridge
        .expect("plug", |state| state["settings"]["led"] == true)
        .await;
    let values = [("led_rule".to_owned(), json!("always"))].into();
    device.faults().set(Fault::FieldValues { values });
    let answer = change(&bridge, "plug", "led", json!("OFF")).await;
    assert_eq!(answer["error"]["code"], "not_confirmed", "{answer}");
    device.faults().clear(FaultKind::FieldValues);
    device.faults().set(Fault::Refuse {
        code: -1008,
        scope: Scope::method("set_auto_off_config"),
    });
    let answer = change(&bridge, "plug", "auto_off", json!("ON")).await;
    assert_eq!(answer["error"]["code"], "unsupported", "{answer}");
}

/// Some plugs hang at some of these requests. The device is announced without what it does not answer.
#[tokio::test]
async fn a_setting_without_an_answer_keeps_nothing_else_back() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    device.faults().set(Fault::Hang {
        stage: Stage::BeforeApplying,
        scope: Scope::method("get_auto_off_config"),
    });
    let setup = Setup::new().device("plug", device.address()).device_settings();
    let bridge = setup.request_timeout("1s").start().await;
    let answer = bridge.set("plug", "t", json!({ "state": "ON" })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    bridge
        .expect("plug", |state| state["settings"]["led"] == true)
        .await;
    device
        .wait_requests("get_auto_off_config", 1, PATIENCE)
        .await
        .unwrap();
    bridge.expect("plug", |state| state["status"] == "ready").await;
    assert_eq!(device.counters().requests_of("get_auto_off_config"), 1);
    assert_eq!(bridge.retained("plug/availability").await["state"], "online");
}

#[tokio::test]
async fn the_newest_firmware_that_a_device_knows_is_published() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    device.offer_firmware("1.5.0 Build 261101", "Bugs fixed.\nMore of them.");
    let setup = Setup::new().device("plug", device.address()).client("own");
    let bridge = setup.start().await;
    let state = bridge.expect("plug", |state| state["update"].is_object()).await;
    assert_eq!(
        state["update"],
        json!({
            "installed_version": "1.4.8 Build 260804 Rel.045837",
            "latest_version": "1.5.0 Build 261101",
            "release_summary": "Bugs fixed. More of them.",
        })
    );
    let keys = entities(&bridge, "plug", "plug_update\"").await;
    let update = &keys["tapo2mqtt_plug_update"];
    assert_eq!(
        (&update["platform"], &update["device_class"]),
        (&json!("update"), &json!("firmware"))
    );
    assert!(
        update.get("command_topic").is_none(),
        "the bridge installs nothing"
    );
    assert_eq!(device.counters().requests_of("get_latest_fw"), 1);
}

/// The clock of a plug without a meter is asked for, so that it can hold OFF times.
#[tokio::test]
async fn a_plug_without_a_meter_shows_its_clock_to_our_client() {
    let _fast = fast_clocks();
    let device = Simulator::plug(Profile::P100).start().await.unwrap();
    let group = "[[group]]\nid = \"g\"\noutlets = [\"plug\"]\nsync_off_to_device = true\n\
        [[group.schedule]]\nid = \"s\"\nstart = \"00:00\"\nend = \"23:30\"\n";
    let setup = Setup::new().device("plug", device.address()).rules(group);
    let bridge = setup.client("own").start().await;
    bridge
        .expect("plug", |state| state["device_schedules"][0]["ours"] == true)
        .await;
    assert_eq!(device.counters().requests_of("get_device_time"), 1);
}

/// Off by the auto-off that was set in the app: the bridge names it, and a schedule does not undo it.
#[tokio::test]
#[allow(clippy::disallowed_methods)] // The simulated device starts at the time of day.
async fn an_off_by_the_auto_off_of_the_device_is_explained() {
    let _fast = fast_clocks();
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    device.set_auto_off(1, 30).unwrap();
    let clock = Clock::steered(jiff::Timestamp::now());
    let group =
        "[[group]]\nid = \"g\"\noutlets = [\"plug\"]\n[[group.schedule]]\nid = \"s\"\nall_day = true\n";
    let setup = Setup::new().device("plug", device.address()).rules(group);
    let bridge = setup.clock(&clock).start().await;
    bridge
        .expect("plug", |state| state["auto_off_at"].is_string())
        .await;
    device.advance(Duration::from_mins(31));
    clock.jump(SignedDuration::from_mins(31));
    let reason = |state: &Value| state["reason"].as_str().unwrap_or_default().to_owned();
    bridge
        .expect("plug", |state| {
            reason(state).contains("OFF (auto-off of the device at ")
        })
        .await;
    let event = bridge
        .expect("bridge/event", |event| event["type"] == "external_change")
        .await;
    let message = "Simulated P110 changed externally to OFF (auto-off of the device)";
    assert_eq!(
        (&event["message"], &event["state"]),
        (&json!(message), &json!("OFF"))
    );
    let polls = device.counters().requests_of("get_device_info");
    let later = device.wait_requests("get_device_info", polls + 3, PATIENCE);
    later.await.unwrap();
    let changes = device.counters().relay_changes;
    assert_eq!(changes.last().map(|change| change.cause), Some(Cause::AutoOff));
}

#[tokio::test]
async fn bulbs_and_dimmers_are_lights_with_brightness() {
    let _fast = fast_clocks();
    for profile in [Profile::L510, Profile::S500D, Profile::HS220] {
        let lamp = Simulator::plug(profile).start().await.unwrap();
        let bridge = Setup::new().device("lamp", lamp.address()).start().await;
        bridge.expect("lamp", |state| state["brightness"] == 100).await;
        let keys = entities(&bridge, "lamp", "lamp_light\"").await;
        let light = &keys["tapo2mqtt_lamp_light"];
        assert_eq!(
            (&light["platform"], &light["schema"], &light["brightness_scale"]),
            (&json!("light"), &json!("json"), &json!(100))
        );
        assert!(keys.get("tapo2mqtt_lamp_switch").is_none());

        let answer = bridge
            .set("lamp", "on", json!({ "state": "ON", "brightness": 40 }))
            .await;
        assert_eq!(
            (&answer["status"], &answer["state"]),
            (&json!("ok"), &json!("ON")),
            "{answer}"
        );
        bridge
            .expect("lamp", |state| {
                state["state"] == "ON" && state["brightness"] == 40
            })
            .await;
        let answer = change(&bridge, "lamp", "brightness", json!(75)).await;
        assert_eq!(answer["status"], "ok", "{answer}");
        bridge.expect("lamp", |state| state["brightness"] == 75).await;
        bridge.set("lamp", "off", json!({ "state": "OFF" })).await;
        let answer = bridge.set("lamp", "dim", json!({ "brightness": 10 })).await;
        assert_eq!(answer["status"], "ok", "{answer}");
        bridge.expect("lamp", |state| state["brightness"] == 10).await;
        assert!(!lamp.relay(1), "brightness alone switches nothing on");
        let off = bridge
            .set("lamp", "odd", json!({ "state": "OFF", "brightness": 10 }))
            .await;
        assert_eq!(off["error"]["code"], "conflicting_keys", "{off}");
        let counters = lamp.counters();
        assert_eq!((counters.max_in_flight, counters.sequence_violations), (1, 0));
    }
}

#[tokio::test]
async fn a_wall_switch_is_one_and_has_no_brightness() {
    let _fast = fast_clocks();
    for profile in [Profile::KS205, Profile::HS200] {
        let switch = Simulator::plug(profile).start().await.unwrap();
        let bridge = Setup::new().device("hall", switch.address()).start().await;
        let keys = entities(&bridge, "hall", "hall_switch\"").await;
        let entity = &keys["tapo2mqtt_hall_switch"];
        assert_eq!(
            (&entity["device_class"], &entity["icon"]),
            (&json!("switch"), &json!("mdi:light-switch"))
        );
        let config = bridge
            .broker
            .retained("homeassistant/device/tapo2mqtt_hall/config")
            .await;
        assert_eq!(parsed(&config.unwrap())["device"]["model"], "Smart switch");
        let answer = bridge
            .set("hall", "dim", json!({ "state": "ON", "brightness": 40 }))
            .await;
        assert_eq!(answer["error"]["code"], "unsupported", "{answer}");
        assert!(!switch.relay(1), "it was refused as a whole");
        let answer = bridge.set("hall", "on", json!({ "state": "ON" })).await;
        assert_eq!(answer["status"], "ok", "{answer}");
    }
}

/// A limit holds for a lamp as for any outlet: the ON is refused, whatever its brightness.
#[tokio::test]
async fn a_lamp_obeys_its_limit() {
    let _fast = fast_clocks();
    let lamp = Simulator::plug(Profile::L510).start().await.unwrap();
    let group =
        "[[group]]\nid = \"g\"\noutlets = [\"lamp\"]\nsafety = { max_on = \"1s\", cooldown = \"1h\" }\n";
    let setup = Setup::new().device("lamp", lamp.address()).rules(group);
    let bridge = setup.start().await;
    bridge.available("lamp").await;
    let answer = bridge
        .set("lamp", "on", json!({ "state": "ON", "brightness": 40 }))
        .await;
    assert_eq!(answer["status"], "ok", "{answer}");
    lamp.wait_relay(1, false, PATIENCE).await.unwrap();
    bridge
        .expect("lamp", |state| state["cooldown_until"].is_string())
        .await;
    let answer = bridge
        .set("lamp", "again", json!({ "state": "ON", "brightness": 60 }))
        .await;
    assert_eq!(answer["error"]["code"], "refused_by_safety", "{answer}");
    assert!(!lamp.relay(1));
}
