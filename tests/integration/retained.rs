//! What stays on the broker: topics of devices and outlets that are gone, and those of another bridge.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tapo_simulator::{Profile, RunningDevice, Simulator};
use tapo2mqtt::app::bridge::ShutdownReason;

use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    mosquitto::Mosquitto,
    process::{Home, account, dead_address, device, mqtt},
};

async fn strip() -> RunningDevice {
    Simulator::strip(Profile::P300).start().await.unwrap()
}

async fn plug() -> RunningDevice {
    Simulator::plug(Profile::P110).start().await.unwrap()
}

fn setup(devices: &[(&str, SocketAddr)]) -> Setup {
    let add = |setup: Setup, (id, address): &(&str, SocketAddr)| setup.device(id, *address);
    devices.iter().fold(Setup::new(), add)
}

/// The topics below a filter that hold a message.
async fn held(bridge: &Running, filter: &str) -> BTreeMap<String, String> {
    bridge.broker.retained_under(filter).await
}

/// A bridge that published the outlets of a strip and stopped.
async fn after_a_run_with_a_strip(bystander: SocketAddr) -> Running {
    let strip = strip().await;
    let devices = [("strip", strip.address()), ("plug", bystander)];
    let mut bridge = setup(&devices).start().await;
    bridge.available("strip").await;
    bridge
        .expect("bridge/devices", |list| {
            list[1]["outlets"]
                .as_array()
                .is_some_and(|outlets| outlets.len() == 3)
        })
        .await;
    assert_eq!(
        held(&bridge, "tapo2mqtt/strip/+").await.len(),
        4,
        "outlets, availability"
    );
    assert_eq!(bridge.stop().await, ShutdownReason::Stopped);
    bridge
}

/// Starts a bridge that does not reach the strip, and waits until it knows that.
async fn unreachable_strip(broker: &Running, bystander: SocketAddr) -> Running {
    let devices = [("strip", dead_address()), ("plug", bystander)];
    let bridge = setup(&devices).start_on(broker.broker.clone()).await;
    bridge
        .expect("bridge/devices", |list| list[1]["status"] == "unreachable")
        .await;
    bridge
}

#[tokio::test]
async fn the_outlets_of_a_strip_never_reached_are_cleared() {
    let _fast = fast_clocks();
    let plug = plug().await;
    let first = after_a_run_with_a_strip(plug.address()).await;
    let mut second = unreachable_strip(&first, plug.address()).await;
    let outlet = second.expect("strip/1", |state| state["state"].is_null()).await;
    assert_eq!(outlet["power"], Value::Null, "what it is now is not known");
    assert_eq!(second.stop().await, ShutdownReason::Stopped);
    assert_eq!(held(&second, "tapo2mqtt/strip/+").await.len(), 4);

    let third = setup(&[("plug", plug.address())])
        .start_on(second.broker.clone())
        .await;
    third.available("plug").await;
    third
        .probe
        .expect("tapo2mqtt/strip/availability", str::is_empty)
        .await;
    third.barrier().await;
    assert_eq!(held(&third, "tapo2mqtt/strip/#").await, BTreeMap::new());
}

#[tokio::test]
async fn a_reload_without_an_unreached_strip_clears_its_outlets() {
    let _fast = fast_clocks();
    let plug = plug().await;
    let first = after_a_run_with_a_strip(plug.address()).await;
    let second = unreachable_strip(&first, plug.address()).await;
    let answer = second.reload(&setup(&[("plug", plug.address())])).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    second
        .probe
        .expect("tapo2mqtt/strip/availability", str::is_empty)
        .await;
    second.barrier().await;
    assert_eq!(held(&second, "tapo2mqtt/strip/#").await, BTreeMap::new());
}

#[tokio::test]
async fn two_bridges_with_the_same_device_id_share_no_discovery() {
    let (ours, theirs) = (plug().await, plug().await);
    let mut house = setup(&[("plug", ours.address())]).start().await;
    let other = dead_address();
    let garden = setup(&[("plug", theirs.address()), ("other", other)]).base_topic("garden");
    let mut garden = garden.start_on(house.broker.clone()).await;
    house.available("plug").await;
    garden.available("plug").await;
    let config = "homeassistant/device/tapo2mqtt_plug/config";
    let garden_config = "homeassistant/device/tapo2mqtt-device-garden-plug/config";
    let state_topic = |payload: &str, node: &str| {
        parsed(payload)["components"][format!("{node}_switch")]["state_topic"].clone()
    };
    let is_complete = |payload: &str| payload.contains("_switch\"");
    let announced = house.probe.expect(config, is_complete).await;
    assert_eq!(state_topic(&announced, "tapo2mqtt_plug"), "tapo2mqtt/plug");
    let theirs_announced = garden.probe.expect(garden_config, is_complete).await;
    assert_eq!(
        state_topic(&theirs_announced, "tapo2mqtt-device-garden-plug"),
        "garden/plug"
    );

    let without = setup(&[("other", other)]).base_topic("garden");
    let answer = garden.reload(&without).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    garden.probe.expect(garden_config, str::is_empty).await;
    house.barrier().await;
    let events = house.probe.payloads("tapo2mqtt/bridge/event");
    assert!(
        !events.iter().any(|event| event.contains("discovery_removed")),
        "{events:?}"
    );
    let still = house.broker.retained(config).await.unwrap_or_default();
    assert_eq!(state_topic(&still, "tapo2mqtt_plug"), "tapo2mqtt/plug");

    // The next run announces it too.
    assert_eq!(house.stop().await, ShutdownReason::Stopped);
    house.probe.forget();
    let again = setup(&[("plug", ours.address())])
        .start_on(house.broker.clone())
        .await;
    again.available("plug").await;
    again.probe.expect(config, |payload| !payload.is_empty()).await;
    assert_eq!(garden.stop().await, ShutdownReason::Stopped);
}

#[tokio::test]
async fn a_discovery_topic_of_another_program_is_used_when_free() {
    let plug = plug().await;
    let broker = Mosquitto::start().await;
    let config = "homeassistant/device/tapo2mqtt_plug/config";
    let foreign = json!({
        "device": {"name": "Plug", "identifiers": ["plug"]},
        "origin": {"name": "another program"},
        "components": {},
    });
    let other = broker.probe().await;
    other.publish_retained(config, foreign.to_string()).await;
    let bridge = setup(&[("plug", plug.address())]).start_on(broker).await;
    bridge.available("plug").await;
    bridge.barrier().await;
    assert_eq!(bridge.broker.retained(config).await, Some(foreign.to_string()));
    other.publish_retained(config, "").await;
    bridge
        .probe
        .expect(config, |payload| payload.contains("tapo2mqtt/plug"))
        .await;
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// Tries `names` and waits until the bridge took them all in.
async fn flood(probe: &crate::probe::Probe, names: std::ops::Range<u32>) {
    let patience = Duration::from_mins(2);
    for number in names {
        // As long as a name can be: what is kept of it is seen.
        let name = format!("no-{number:0>61}");
        let payload = format!(r#"{{"state":"ON","transaction":"t{number}"}}"#);
        match number % 4 {
            0 => probe.send(&format!("tapo2mqtt/{name}/set"), payload).await,
            1 => probe.send(&format!("tapo2mqtt/{name}/get"), "").await,
            2 => probe.send(&format!("tapo2mqtt/no/set/{number}"), "ON").await,
            _ => {
                probe.send(&format!("tapo2mqtt/group/{name}/set"), payload).await;
            }
        }
        if number % 500 == 0 {
            let mark = format!("mark-{number}");
            let health = json!({ "transaction": mark }).to_string();
            probe.publish("tapo2mqtt/bridge/request/health", health).await;
            probe
                .expect_within(patience, "tapo2mqtt/bridge/response/health", |answer| {
                    parsed(answer)["transaction"] == mark.as_str()
                })
                .await;
            probe.forget();
        }
    }
}

#[tokio::test]
async fn however_many_names_are_tried_nothing_is_kept_of_them() {
    let broker = Mosquitto::start().await;
    let dead = dead_address();
    let log = "[log]\nlevel = \"error\"\n";
    let home = Home::new(&(mqtt(broker.address()) + log + &account("u", "p") + &device("plug", dead)));
    let bridge = home.start();
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/bridge/#").await;
    probe
        .expect("tapo2mqtt/bridge/state", |state| state.contains("online"))
        .await;
    // What all queues on the way hold at once.
    flood(&probe, 0..20_001).await;
    let before = resident(bridge.pid);
    flood(&probe, 20_001..60_001).await;
    let grown = resident(bridge.pid).saturating_sub(before);
    assert!(grown <= 1024, "{grown} KiB more after 40,000 names");
    bridge.stop().await.in_order();
}
