//! The last events and the last lines of the log, by request.

use serde_json::{Value, json};
use tapo_simulator::DEFAULT_PASSWORD;

use crate::{
    bridge::parsed,
    mosquitto::Mosquitto,
    probe::Probe,
    process::{self, Home},
};

async fn ask(probe: &Probe, request: &str, payload: Value) -> Value {
    let topic = format!("tapo2mqtt/bridge/request/{request}");
    probe.publish(&topic, payload.to_string()).await;
    let topic = format!("tapo2mqtt/bridge/response/{request}");
    parsed(&probe.expect(&topic, |_| true).await)
}

#[tokio::test]
async fn the_last_events_and_log_lines_are_returned() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/bridge/#").await;
    let home = Home::new(&process::settings(broker.address(), &[]));
    let _bridge = home.start();
    let online = |payload: &str| parsed(payload)["state"] == "online";
    probe.expect("tapo2mqtt/bridge/state", online).await;
    for enabled in [true, false] {
        ask(&probe, "vacation", json!({ "enabled": enabled })).await;
        probe.forget();
    }
    let response = ask(&probe, "events", json!({ "transaction": "t1" })).await;
    let data = &response["data"];
    let of = |at: usize| (&data["events"][at]["type"], &data["events"][at]["message"]);
    assert_eq!(
        of(0),
        (&json!("vacation"), &json!("vacation ended: schedules run"))
    );
    assert_eq!(of(1).1, "vacation began: schedules are suspended");
    assert_eq!((&data["page"], &data["pages"]), (&json!(1), &json!(1)));

    let response = ask(&probe, "log", json!({})).await;
    let lines = response["data"]["lines"].as_array().unwrap();
    let has = |words: &str| lines.iter().any(|line| line.as_str().unwrap().contains(words));
    assert!(has("INFO") && has("connected"), "{lines:?}");
    assert!(!response.to_string().contains(DEFAULT_PASSWORD), "{lines:?}");
    probe.forget();
    let response = ask(&probe, "log", json!({ "lines": 1 })).await;
    assert_eq!(response["data"]["lines"].as_array().unwrap().len(), 1);
}
