//! A bridge that knows several brokers, and bridges at several sites.

use std::sync::Arc;

use serde_json::{Value, json};
use tapo_simulator::{Profile, Simulator};

use crate::{
    bridge::{Setup, parsed},
    mosquitto::Mosquitto,
    probe::Probe,
};

/// A probe that sees everything of the bridge on this broker.
async fn watched(broker: &Mosquitto) -> Probe {
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    probe
}

/// The answer to an ON for the plug, and the answers to its transaction that were seen by then.
async fn switched_on(probe: &Probe, transaction: &str) -> usize {
    let command = json!({"state": "ON", "transaction": transaction});
    probe.publish("tapo2mqtt/plug/set", command.to_string()).await;
    let is_meant = |payload: &str| parsed(payload)["transaction"] == transaction;
    let answer = probe.expect("tapo2mqtt/plug/response", is_meant).await;
    assert_eq!(parsed(&answer)["status"], "ok", "{answer}");
    probe.catch_up().await;
    let answers = probe.payloads("tapo2mqtt/plug/response");
    answers.iter().filter(|payload| is_meant(payload)).count()
}

async fn connected_broker(probe: &Probe, transaction: &str) -> Value {
    let request = json!({"transaction": transaction});
    probe
        .publish("tapo2mqtt/bridge/request/health", request.to_string())
        .await;
    let response = |payload: &str| parsed(payload)["transaction"] == transaction;
    probe.expect("tapo2mqtt/bridge/response/health", response).await;
    let health = probe.retained("tapo2mqtt/bridge/health").await;
    parsed(&health["tapo2mqtt/bridge/health"])["mqtt"]["broker"].clone()
}

#[tokio::test]
async fn commands_and_states_follow_the_bridge_to_the_next_broker() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let (first, mut second) = (Mosquitto::start().await, Mosquitto::start().await);
    let setup = Setup::new().device("plug", plug.address());
    let mut bridge = setup.other_broker(second.address()).start_on(first).await;
    bridge.available("plug").await;
    assert_eq!(switched_on(&bridge.probe, "a").await, 1);
    assert_eq!(
        connected_broker(&bridge.probe, "health a").await,
        bridge.broker.address().to_string()
    );

    let probe = watched(&second).await;
    Arc::get_mut(&mut bridge.broker).unwrap().kill();
    let online = |payload: &str| parsed(payload)["state"] == "online";
    probe.expect("tapo2mqtt/bridge/state", online).await;
    probe.expect("tapo2mqtt/plug/availability", online).await;
    assert_eq!(switched_on(&probe, "b").await, 1);
    assert_eq!(
        connected_broker(&probe, "health b").await,
        second.address().to_string()
    );

    // Back to the first one only after a loss.
    Arc::get_mut(&mut bridge.broker).unwrap().restart().await;
    assert_eq!(switched_on(&probe, "c").await, 1);
    let back = watched(&bridge.broker).await;
    second.kill();
    back.expect("tapo2mqtt/bridge/state", online).await;
    assert_eq!(switched_on(&back, "d").await, 1);
}

#[tokio::test]
async fn bridges_at_two_sites_share_a_broker() {
    let broker = Arc::new(Mosquitto::start().await);
    let mut bridges = Vec::new();
    for (site, base_topic) in [("north", "tapo2mqtt-north"), ("south", "tapo2mqtt-south")] {
        let plug = Simulator::plug(Profile::P110).start().await.unwrap();
        let setup = Setup::new().device("plug", plug.address()).site(site, base_topic);
        let bridge = setup.start_on(broker.clone()).await;
        bridge.available("plug").await;
        let discovery = format!("homeassistant/device/tapo2mqtt-device-tapo2mqtt_{site}-plug/config");
        let switch = format!("tapo2mqtt-device-tapo2mqtt_{site}-plug_switch");
        let has_switch = |payload: &str| payload.contains(&switch);
        bridge.probe.expect(&discovery, has_switch).await;
        bridges.push((bridge, plug));
    }
    for (bridge, plug) in &bridges {
        let answer = bridge.set("plug", "on", json!({"state": "ON"})).await;
        assert_eq!(answer["status"], "ok", "{answer}");
        assert!(plug.relay(1));
    }
}
