//! Two bridges with one base topic.

use serde_json::Value;
use tapo_simulator::{Profile, Simulator};

use crate::{bridge::Setup, log::Log, mosquitto::Mosquitto};

#[tokio::test]
async fn a_second_bridge_is_noticed_and_survived() {
    let log = Log::capture();
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let broker = Mosquitto::start().await;
    let first = Setup::new().device("plug", plug.address()).start_on(broker).await;
    first.available("plug").await;
    // It does not have the plug, so it clears its topics.
    let second = Setup::new().client_id("second");
    let mut second = second.start_on(first.broker.clone()).await;
    let has_issue = |health: &Value| {
        health["issues"]
            .to_string()
            .contains("another bridge uses the base topic")
    };
    while !first.events_of("bridge/health").iter().any(has_issue) {
        first.publish("bridge/request/health", "").await;
        first.probe.catch_up().await;
    }
    let warned = |line: &String| line.contains("WARN") && line.contains("another bridge");
    // Each of them says so once.
    assert!((1..=2).contains(&log.lines().into_iter().filter(warned).count()));

    first.probe.forget();
    second.stop().await;
    let offline = |state: &Value| state["state"] == "offline";
    first.expect("bridge/state", offline).await;
    first
        .expect("bridge/state", |state| state["state"] == "online")
        .await;
    first.expect("plug", Value::is_object).await;
    assert_eq!(first.retained("bridge/state").await["state"], "online");
    assert_eq!(first.retained("plug/availability").await["state"], "online");
}
