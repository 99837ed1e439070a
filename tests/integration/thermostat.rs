//! Thermostats of groups: the lease on the device, topics and the entity of Home Assistant.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tapo_simulator::{Cause, Fault, Profile, RunningDevice, Scope, Simulator, Stage};

use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    mosquitto::Mosquitto,
    probe::{PATIENCE, Probe},
    process::{self, Home},
};

const THERMOMETER: &str = "home/room";

/// A plug `heater` in the group `room`, which heats to 20 °C by a value that counts for so long.
fn rules(stale_after: &str) -> String {
    format!(
        r#"
        [[sensor]]
        id = "room"
        topic = "{THERMOMETER}"
        unit = "°C"
        stale_after = "{stale_after}"

        [[group]]
        id = "room"
        outlets = ["heater"]

        [group.thermostat]
        sensor = "room"
        target = 20
        min_on = "1s"
        min_off = "1s"
        "#
    )
}

async fn plug() -> RunningDevice {
    Simulator::plug(Profile::P110).start().await.unwrap()
}

/// The thermometer reports until the relay is on: the last value is less than a second old then.
async fn heat(probe: &Probe, device: &RunningDevice) {
    for _ in 0..PATIENCE.as_secs() {
        probe.publish(THERMOMETER, "15").await;
        if device.wait_relay(1, true, Duration::from_secs(1)).await.is_ok() {
            return;
        }
    }
    panic!("it does not heat");
}

#[tokio::test]
async fn a_killed_bridge_leaves_a_heater_that_ends_with_its_lease() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    let device = plug().await;
    let settings = process::settings(broker.address(), &[("heater", device.address())]);
    let bridge = Home::new(&(settings + &rules("10m")));
    let bridge = bridge.start();
    heat(&probe, &device).await;
    bridge.kill().await;
    ends_with_its_lease(&device).await;
}

#[tokio::test]
async fn a_heater_without_wifi_ends_with_its_lease() {
    let _fast = fast_clocks();
    let device = plug().await;
    let setup = Setup::new().rules(&rules("10m"));
    let bridge = setup.device("heater", device.address()).start().await;
    heat(&bridge.probe, &device).await;
    let (stage, scope) = (Stage::BeforeApplying, Scope::all());
    device.faults().set(Fault::Hang { stage, scope });
    ends_with_its_lease(&device).await;
}

async fn ends_with_its_lease(device: &RunningDevice) {
    device.advance(Duration::from_mins(9));
    assert!(device.relay(1), "a minute is left, less what this test takes");
    device.advance(Duration::from_secs(65));
    device.wait_relay(1, false, PATIENCE).await.unwrap();
    let last = device.counters().relay_changes.pop().unwrap();
    assert_eq!(last.cause, Cause::Countdown);
}

#[tokio::test]
async fn without_a_broker_or_a_thermometer_a_heater_goes_off() {
    join_all(["broker", "thermometer"].map(async |dies| {
        let device = plug().await;
        let mut broker = Mosquitto::start().await;
        let probe = broker.probe().await;
        let settings = process::settings(broker.address(), &[("heater", device.address())]);
        let home = Home::new(&(settings + &rules("5s")));
        let _bridge = home.start();
        heat(&probe, &device).await;
        if dies == "broker" {
            broker.kill();
        }
        device.wait_relay(1, false, PATIENCE).await.unwrap();
    }))
    .await;
}

async fn heated() -> (RunningDevice, Running) {
    let device = plug().await;
    let setup = Setup::new().rules(&rules("10m"));
    let bridge = setup.device("heater", device.address()).start().await;
    heat(&bridge.probe, &device).await;
    (device, bridge)
}

/// Waits for a state of the group that has these values.
async fn group(bridge: &Running, values: Value) -> Value {
    let values = values.as_object().unwrap().clone();
    let holds = |state: &Value| values.iter().all(|(key, value)| state[key] == *value);
    bridge.expect("group/room", holds).await
}

#[tokio::test]
async fn a_target_a_mode_and_a_preset_are_set_by_topic() {
    let _fast = fast_clocks();
    let (device, bridge) = heated().await;
    let heats = json!({
        "target": 20.0, "temperature": 15.0, "temperature_unit": "°C", "system_mode": "auto", "preset": "none",
        "action": "heating", "reachable": "online",
    });
    group(&bridge, heats).await;
    let answer = bridge
        .set("group/room", "t1", json!({"target": 12.5, "for": "1h"}))
        .await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let state = group(
        &bridge,
        json!({"target": 12.5, "source": "override", "action": "idle"}),
    )
    .await;
    assert!(state["override_until"].is_string(), "{state}");
    device.wait_relay(1, false, PATIENCE).await.unwrap();
    bridge.publish("group/room/set/system_mode", "off").await;
    group(
        &bridge,
        json!({"target": null, "system_mode": "off", "action": "off"}),
    )
    .await;
    bridge.publish("group/room/set/preset", "boost").await;
    group(
        &bridge,
        json!({"target": 22.0, "system_mode": "auto", "preset": "boost", "action": "heating"}),
    )
    .await;
    bridge.publish("group/room/set/system_mode", "heat").await;
    group(
        &bridge,
        json!({"target": 20.0, "system_mode": "heat", "preset": "none", "override_until": null}),
    )
    .await;
    bridge.publish("group/room/set/target", "21").await;
    group(&bridge, json!({"target": 21.0, "system_mode": "heat"})).await;
    bridge.publish("group/room/set/system_mode", "auto").await;
    group(
        &bridge,
        json!({"target": 20.0, "system_mode": "auto", "source": "schedule"}),
    )
    .await;
    for (fields, code, text) in [
        (
            json!({"target": 40}),
            "bad_command",
            "expected a target from 5 to 35 °C, not 40 °C",
        ),
        (json!({"target": "warm"}), "invalid_value", "a number of degrees"),
        (
            json!({"preset": "boost", "target": 20}),
            "conflicting_keys",
            "preset",
        ),
        (
            json!({"system_mode": "cool"}),
            "invalid_value",
            "auto, heat or off",
        ),
    ] {
        let answer = bridge
            .set("group/room", &fields.to_string(), fields.clone())
            .await;
        assert_eq!(answer["error"]["code"], code, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(text), "{message}");
    }
}

#[tokio::test]
async fn home_assistant_is_shown_a_climate_per_thermostat() {
    let _fast = fast_clocks();
    let (device, bridge) = heated().await;
    let announces = |payload: &str| parsed(payload)["device"]["model"] == "Group";
    let seen = bridge
        .probe
        .expect_below("homeassistant/device/", announces)
        .await;
    let seen = parsed(&seen);
    let components = seen["components"].as_object().unwrap();
    let (_, climate) = components
        .iter()
        .find(|(id, _)| id.ends_with("_climate"))
        .unwrap();
    for (key, value) in [
        ("platform", json!("climate")),
        ("modes", json!(["auto", "heat", "off"])),
        ("preset_modes", json!(["away", "boost"])),
        (
            "temperature_command_topic",
            json!("tapo2mqtt/group/room/set/target"),
        ),
        (
            "mode_command_topic",
            json!("tapo2mqtt/group/room/set/system_mode"),
        ),
        (
            "preset_mode_command_topic",
            json!("tapo2mqtt/group/room/set/preset"),
        ),
        ("preset_mode_state_topic", json!("tapo2mqtt/group/room")),
        ("temperature_unit", json!("C")),
        ("min_temp", json!(5.0)),
        ("max_temp", json!(35.0)),
    ] {
        assert_eq!(climate[key], value, "{key} of {climate}");
    }
    let topics: Vec<&Value> = climate["availability"]
        .as_array()
        .unwrap()
        .iter()
        .map(|source| &source["topic"])
        .collect();
    assert_eq!(topics, ["tapo2mqtt/bridge/state", "tapo2mqtt/group/room"]);
    let (stage, scope) = (Stage::BeforeApplying, Scope::all());
    device.faults().set(Fault::Hang { stage, scope });
    group(&bridge, json!({"reachable": "offline"})).await;
}
