//! Hubs: what is connected to them, published and announced.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use tapo_simulator::{ChildModel, Fault, Profile, Protocol, RunningDevice, Simulator};

use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::own_address,
};

async fn hub(children: &[(ChildModel, &str)]) -> RunningDevice {
    let hub = Simulator::hub(Profile::H100).children(children.iter().copied());
    hub.start().await.unwrap()
}

fn change(hub: &RunningDevice, child: &str, fields: Value) {
    let fields: Map<String, Value> = serde_json::from_value(fields).unwrap();
    hub.set_child(child, fields).unwrap();
}

/// Waits for a state of a child.
async fn child(bridge: &Running, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    bridge.expect(&format!("hub/{name}"), holds).await
}

/// The announcement of the device with a name.
async fn announced(bridge: &Running, name: &str) -> Value {
    let announces = |payload: &str| parsed(payload)["device"]["name"] == name;
    let filter = "homeassistant/device/";
    let seen = bridge.probe.expect_below(filter, announces).await;
    parsed(&seen)
}

fn entity<'a>(announcement: &'a Value, key: &str) -> &'a Value {
    let components = announcement["components"].as_object().unwrap();
    let mut found = components
        .iter()
        .filter(|(id, _)| id.ends_with(&format!("_{key}")));
    found
        .next()
        .unwrap_or_else(|| panic!("no {key} in {announcement}"))
        .1
}

#[tokio::test]
async fn each_sensor_of_a_hub_has_its_values() {
    let _fast = fast_clocks();
    join_all([
        (Profile::H100, Protocol::Klap),
        (Profile::KH100, Protocol::Klap),
        (Profile::H100, Protocol::Aes),
    ].map(async |(profile, protocol)| {
        let hub = Simulator::hub(profile).protocol(protocol).discovery(true);
        let hub = hub.address((own_address(), 0).into()).start().await.unwrap();
        let bridge = Setup::new().device("hub", hub.address()).start().await;
        let state = child(&bridge, "t315", |state| state["temperature"].is_number()).await;
        let expected = json!({
            "battery": 100.0, "battery_low": false, "firmware": "1.7.0 Build 230424 Rel.170332", "humidity": 62.0,
            "model": "T315", "rssi": -50.0, "temperature": 19.8,
        });
        assert_eq!(state, expected);
        for (name, key, value) in [
            ("t310", "temperature", json!(21.3)),
            ("t100", "motion", json!(false)),
            ("t110", "open", json!(false)),
            ("t300", "water_leak", json!(false)),
            ("ke100", "target_temperature", json!(21.0)),
            ("ke100", "action", json!("heating")),
        ] {
            child(&bridge, name, |state| state[key] == value).await;
            bridge.available(&format!("hub/{name}")).await;
        }
        let state = bridge.expect("hub", |state| state["status"] == "ready").await;
        assert!(state.get("state").is_none(), "a hub has no relay: {state}");
        change(
            &hub,
            "T315",
            json!({"temp_unit": "fahrenheit", "current_temp": 50.9}),
        );
        change(&hub, "T110", json!({"open": true}));
        child(&bridge, "t315", |state| state["temperature"] == 10.5).await;
        child(&bridge, "t110", |state| state["open"] == true).await;
        let counters = hub.counters();
        assert_eq!((counters.failed_logins, counters.sequence_violations), (0, 0));
    })).await;
}

#[tokio::test]
async fn each_sensor_of_a_hub_is_a_device_in_home_assistant() {
    let hub = hub(&[
        (ChildModel::T315, "Hall"),
        (ChildModel::T100, "Stairs"),
        (ChildModel::T110, "Door"),
        (ChildModel::T300, "Cellar"),
    ])
    .await;
    let bridge = Setup::new().device("hub", hub.address()).start().await;
    let hall = announced(&bridge, "Hall").await;
    assert_eq!(hall["device"]["via_device"], "tapo2mqtt_hub");
    assert_eq!(hall["device"]["model_id"], "T315");
    let temperature = entity(&hall, "temperature");
    for (key, value) in [
        ("platform", "sensor"),
        ("device_class", "temperature"),
        ("unit_of_measurement", "°C"),
        ("state_class", "measurement"),
        ("state_topic", "tapo2mqtt/hub/hall"),
    ] {
        assert_eq!(temperature[key], value);
    }
    assert_eq!(entity(&hall, "humidity")["unit_of_measurement"], "%");
    assert_eq!(entity(&hall, "battery")["device_class"], "battery");
    let topics: Vec<&str> = hall["availability"]
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| topic["topic"].as_str().unwrap())
        .collect();
    assert_eq!(
        topics,
        ["tapo2mqtt/bridge/state", "tapo2mqtt/hub/hall/availability"]
    );
    for (name, key, class) in [
        ("Stairs", "motion", "motion"),
        ("Door", "open", "door"),
        ("Cellar", "water_leak", "moisture"),
    ] {
        let announcement = announced(&bridge, name).await;
        let entity = entity(&announcement, key);
        assert_eq!(
            (&entity["platform"], &entity["device_class"]),
            (&json!("binary_sensor"), &json!(class))
        );
    }
}

#[tokio::test]
async fn a_sensor_that_is_offline_is_unavailable() {
    let _fast = fast_clocks();
    let mut hub = Some(hub(&[(ChildModel::T315, "Hall"), (ChildModel::T110, "Door")]).await);
    let running = hub.as_ref().unwrap();
    let bridge = Setup::new().device("hub", running.address()).start().await;
    bridge.available("hub/hall").await;
    change(running, "Hall", json!({"status": "offline"}));
    let is = |wanted: &'static str| move |state: &Value| state["state"] == wanted;
    bridge.expect("hub/hall/availability", is("offline")).await;
    // An old value is none.
    child(&bridge, "hall", |state| state["temperature"].is_null()).await;
    bridge.probe.forget();
    change(running, "Hall", json!({"status": "online"}));
    bridge.expect("hub/hall/availability", is("online")).await;
    child(&bridge, "hall", |state| state["temperature"] == 19.8).await;
    hub.take().unwrap().stop().await;
    for name in ["hall", "door"] {
        bridge
            .expect(&format!("hub/{name}/availability"), is("offline"))
            .await;
    }
}

#[tokio::test]
async fn thirteen_sensors_of_a_hub_are_all_there() {
    let names: Vec<String> = (1..=13).map(|number| format!("Room {number}")).collect();
    let children: Vec<_> = names
        .iter()
        .map(|name| (ChildModel::T310, name.as_str()))
        .collect();
    let hub = hub(&children).await;
    let bridge = Setup::new().device("hub", hub.address()).start().await;
    for number in 1..=13 {
        bridge.available(&format!("hub/room-{number}")).await;
    }
    let listed = |list: &Value| {
        list[0]["children"]
            .as_array()
            .is_some_and(|children| children.len() == 13)
    };
    let list = bridge.expect("bridge/devices", listed).await;
    assert_eq!(
        (&list[0]["kind"], &list[0]["outlets"]),
        (&json!("hub"), &json!([]))
    );
}

#[tokio::test]
async fn a_command_to_a_hub_is_refused_in_words() {
    let hub = hub(&[(ChildModel::T315, "Hall")]).await;
    let rules = "[[group]]\nid = \"mats\"\noutlets = [\"hub\"]";
    for rules in ["", rules] {
        let setup = Setup::new().device("hub", hub.address());
        let bridge = setup.rules(rules).start().await;
        bridge.available("hub/hall").await;
        for (path, command) in [
            ("hub", json!({"state": "ON"})),
            ("hub", json!({"state": "OFF"})),
            ("hub", json!({"state": "ON", "on_time": 60})),
            ("hub", json!({"countdown": 60})),
            ("hub/hall", json!({"state": "TOGGLE"})),
            ("hub/hall", json!({"state": "ON", "on_time": 60})),
            ("hub/attic", json!({"state": "ON"})),
        ] {
            let transaction = format!("{path} {command} {rules}");
            let answer = bridge.set(path, &transaction, command).await;
            assert_eq!(answer["error"]["code"], "unknown_outlet", "{answer}");
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(
                message.ends_with("hub is a hub, which has no outlets to switch"),
                "{message}"
            );
        }
        bridge.publish("hub/hall/get", r#"{"transaction": "read"}"#).await;
        assert_eq!(bridge.answer("hub/hall", "read").await["status"], "ok");
    }
}

/// The name in the app is the topic, unless the settings name the child.
#[tokio::test]
async fn a_renamed_or_removed_sensor_leaves_nothing_behind() {
    let _fast = fast_clocks();
    let broker = Mosquitto::start().await;
    let hub = hub(&[(ChildModel::T315, "Hall"), (ChildModel::T110, "Door")]).await;
    let setup = || Setup::new().device("hub", hub.address());
    let mut bridge = setup().start_on(broker).await;
    bridge.available("hub/hall").await;
    let before = announced(&bridge, "Hall").await;
    change(&hub, "Hall", json!({"nickname": "QmF0aA=="}));
    bridge.available("hub/bath").await;
    let after = announced(&bridge, "Bath").await;
    assert_eq!(
        before["components"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        after["components"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        "a new name is no new entity"
    );
    for topic in ["tapo2mqtt/hub/hall", "tapo2mqtt/hub/hall/availability"] {
        bridge.probe.expect(topic, str::is_empty).await;
    }
    bridge.stop().await;
    let broker = bridge.broker.clone();
    // The door was removed from the hub while no bridge ran.
    let id = hub.children()[1]["device_id"].as_str().unwrap().to_lowercase();
    hub.remove_child("Door").unwrap();
    let bridge = setup().start_on(broker).await;
    bridge.available("hub/bath").await;
    for topic in [
        "tapo2mqtt/hub/door".to_owned(),
        "tapo2mqtt/hub/door/availability".to_owned(),
        format!("homeassistant/device/tapo2mqtt-hub-hub-{id}/config"),
    ] {
        bridge.probe.expect(&topic, str::is_empty).await;
    }
}

#[tokio::test]
async fn a_hub_that_is_not_reached_keeps_what_was_announced() {
    let _fast = fast_clocks();
    let hub = hub(&[(ChildModel::T315, "Hall")]).await;
    let setup = || Setup::new().device("hub", hub.address());
    let mut bridge = setup().start().await;
    bridge.available("hub/hall").await;
    let announcement = announced(&bridge, "Hall").await;
    bridge.stop().await;
    hub.faults().set(Fault::Latency {
        latency: Duration::from_mins(1).into(),
    });
    let bridge = setup()
        .request_timeout("1s")
        .start_on(bridge.broker.clone())
        .await;
    bridge
        .expect("hub/hall/availability", |state| state["state"] == "offline")
        .await;
    bridge
        .expect("hub", |state| state["status"] == "unreachable")
        .await;
    bridge.barrier().await;
    let id = hub.children()[0]["device_id"].as_str().unwrap().to_lowercase();
    let topic = format!("homeassistant/device/tapo2mqtt-hub-hub-{id}/config");
    let kept = bridge.broker.retained(&topic).await.unwrap();
    assert_eq!(parsed(&kept), announcement);
}

#[tokio::test]
async fn a_thermostat_is_set_and_read_back() {
    for unit in ["celsius", "fahrenheit"] {
        let hub = hub(&[(ChildModel::KE100, "Bath"), (ChildModel::T315, "Hall")]).await;
        if unit == "fahrenheit" {
            let fields = json!({
                "temp_unit": unit, "current_temp": 66.6, "target_temp": 69.8, "min_control_temp": 41, "max_control_temp": 86,
            });
            change(&hub, "Bath", fields);
        }
        let bridge = Setup::new().device("hub", hub.address()).start().await;
        let state = child(&bridge, "bath", |state| state["target_temperature"].is_number()).await;
        assert_eq!(
            (
                &state["temperature"],
                &state["target_temperature"],
                &state["system_mode"]
            ),
            (&json!(19.2), &json!(21.0), &json!("heat"))
        );
        bridge.publish("hub/bath/set/target_temperature", "18.5").await;
        child(&bridge, "bath", |state| {
            state["target_temperature"] == 18.5 && state["action"] == "idle"
        })
        .await;
        bridge.publish("hub/bath/set/system_mode", "off").await;
        child(&bridge, "bath", |state| state["action"] == "off").await;
        let both = json!({"target_temperature": 22.5, "system_mode": "heat"});
        let answer = bridge.set("hub/bath", "both", both).await;
        assert_eq!(answer["status"], "ok", "{answer}");
        child(&bridge, "bath", |state| {
            state["target_temperature"] == 22.5 && state["action"] == "heating"
        })
        .await;
        let target = hub.children()[0]["target_temp"].clone();
        assert_eq!(
            target,
            if unit == "celsius" {
                json!(22.5)
            } else {
                json!(72.5)
            }
        );
        bridge.barrier().await;
        assert_eq!(
            bridge.answers("hub/bath").len(),
            1,
            "one answer to what asks for one"
        );
    }
}

#[tokio::test]
async fn what_a_thermostat_does_not_take_is_answered_in_words() {
    let _fast = fast_clocks();
    let hub = hub(&[(ChildModel::KE100, "Bath"), (ChildModel::T315, "Hall")]).await;
    let rules = "[[group]]\nid = \"mats\"\noutlets = [\"hub\"]";
    let bridge = Setup::new()
        .device("hub", hub.address())
        .rules(rules)
        .start()
        .await;
    bridge.available("hub/bath").await;
    for (path, command, code, text) in [
        (
            "hub/bath",
            json!({"target_temperature": 35}),
            "bad_command",
            "takes a target of 5 to 30",
        ),
        (
            "hub/bath",
            json!({"target_temperature": "warm"}),
            "invalid_value",
            "a number of °C",
        ),
        (
            "hub/bath",
            json!({"system_mode": "cool"}),
            "invalid_value",
            "heat or off",
        ),
        (
            "hub/hall",
            json!({"target_temperature": 20}),
            "bad_command",
            "hub/hall is no thermostat",
        ),
        (
            "hub",
            json!({"system_mode": "off"}),
            "bad_command",
            "hub is no thermostat",
        ),
        (
            "group/mats",
            json!({"system_mode": "off"}),
            "bad_command",
            "group mats has no [group.thermostat]",
        ),
    ] {
        let answer = bridge.set(path, &format!("{path} {command}"), command).await;
        assert_eq!(answer["error"]["code"], code, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(text), "{message}");
    }
    change(&hub, "Bath", json!({"status": "offline"}));
    bridge
        .expect("hub/bath/availability", |state| state["state"] == "offline")
        .await;
    let answer = bridge
        .set("hub/bath", "gone", json!({"target_temperature": 20}))
        .await;
    assert_eq!(answer["error"]["code"], "not_ready", "{answer}");
    assert_eq!(
        hub.counters().requests.get("set_device_info"),
        None,
        "nothing was sent"
    );
}

/// What it reports is what counts.
#[tokio::test]
async fn a_target_that_is_not_read_back_is_not_confirmed() {
    let hub = hub(&[(ChildModel::KE100, "Bath")]).await;
    let bridge = Setup::new().device("hub", hub.address()).start().await;
    bridge.available("hub/bath").await;
    hub.faults().set(Fault::FieldValues {
        values: [("target_temp".to_owned(), json!(16.0))].into(),
    });
    let answer = bridge
        .set("hub/bath", "t", json!({"target_temperature": 20}))
        .await;
    assert_eq!(answer["error"]["code"], "not_confirmed", "{answer}");
    child(&bridge, "bath", |state| state["target_temperature"] == 16.0).await;
}

const HEATING: &str = r#"
[[sensor]]
id = "hall"
device = "hub/hall"
value = "temperature"
stale_after = "4s"

[[group]]
id = "heating"
outlets = ["heater"]
min_cycle = "1s"
[[group.schedule]]
id = "cold"
all_day = true
when = [{ sensor = "hall", at_most = 18 }]
"#;

/// No broker is between the sensor and the schedule.
#[tokio::test]
async fn a_sensor_of_a_hub_decides_and_a_stale_one_is_off() {
    let _fast = fast_clocks();
    let hub = hub(&[(ChildModel::T315, "Hall"), (ChildModel::T110, "Door")]).await;
    let heater = Simulator::plug(Profile::P100).start().await.unwrap();
    let setup = Setup::new()
        .device("hub", hub.address())
        .device("heater", heater.address());
    let bridge = setup.rules(HEATING).start().await;
    let is_warm = |state: &Value| state["expected"] == "OFF";
    bridge.expect("heater", is_warm).await;
    change(&hub, "Hall", json!({"current_temp": 15.0}));
    heater.wait_relay(1, true, PATIENCE).await.unwrap();
    // A value that does not change counts from each reading: seven take longer than it counts.
    hub.reset_counters();
    hub.wait_requests("get_child_device_list", 7, PATIENCE)
        .await
        .unwrap();
    assert!(heater.relay(1) && bridge.events("sensor_stale").is_empty());
    change(&hub, "Hall", json!({"status": "offline"}));
    heater.wait_relay(1, false, PATIENCE).await.unwrap();
    let stale = bridge
        .expect("bridge/event", |event| event["type"] == "sensor_stale")
        .await;
    assert_eq!(
        stale["message"],
        "sensor hall is stale: no value of hub/hall temperature that counts"
    );
    change(&hub, "Hall", json!({"status": "online"}));
    heater.wait_relay(1, true, PATIENCE).await.unwrap();
    hub.stop().await;
    heater.wait_relay(1, false, PATIENCE).await.unwrap();
}

/// What was pressed before the bridge read the log is not reported: it may be of yesterday.
#[tokio::test]
async fn a_press_of_a_button_is_one_event() {
    let _fast = fast_clocks();
    let hub = hub(&[(ChildModel::S200B, "Bedside"), (ChildModel::T315, "Hall")]).await;
    hub.happens_at_child("Bedside", "singleClick").unwrap();
    let setup = || Setup::new().device("hub", hub.address());
    let mut bridge = setup().start().await;
    child(&bridge, "hall", |state| state["temperature"].is_number()).await;
    let announcement = announced(&bridge, "Bedside").await;
    let action = entity(&announcement, "action");
    assert_eq!(
        (
            &action["platform"],
            &action["device_class"],
            &action["event_types"]
        ),
        (
            &json!("event"),
            &json!("button"),
            &json!(["single", "double", "rotate"])
        )
    );
    hub.wait_requests("get_trigger_logs", 2, PATIENCE).await.unwrap();
    for (event, action) in [
        ("doubleClick", "double"),
        ("rotation", "rotate"),
        ("singleClick", "single"),
    ] {
        bridge.probe.forget();
        hub.happens_at_child("Bedside", event).unwrap();
        hub.happens_at_child("Hall", "tooWarm").unwrap();
        let is = |event: &Value| event["type"] == "button" && event["action"] == action;
        let event = bridge.expect("bridge/event", is).await;
        assert_eq!(
            (&event["device"], &event["outlet"]),
            (&json!("hub"), &json!("bedside"))
        );
        assert_eq!(event["message"], format!("Bedside: {action}"));
    }
    let reads = hub.counters().requests_of("get_trigger_logs");
    hub.wait_requests("get_trigger_logs", reads + 2, PATIENCE)
        .await
        .unwrap();
    bridge.barrier().await;
    assert_eq!(bridge.events("button").len(), 1, "each press is one event");
    bridge.stop().await;
    assert_eq!(hub.counters().max_in_flight, 1);
}
