//! At most one outlet of a group is on: one breaks before the other makes, over the wire.

use std::time::Duration;

use serde_json::json;
use tapo_simulator::{Fault, Latency, Scope, Stage};
use tokio::time::Instant;

use crate::{
    bridge::fast_clocks,
    groups::{Site, noon},
    mosquitto::Mosquitto,
    probe::PATIENCE,
};

const RULES: &str = r#"
    [[group]]
    id = "driveway"
    outlets = ["mats/1", "lamp"]
    interlock = true
"#;

async fn site() -> Site {
    let clock = noon();
    Site::ruled(&clock, Mosquitto::start().await, RULES).await
}

#[tokio::test]
async fn a_newer_on_waits_until_the_other_is_off() {
    let site = site().await;
    let on = json!({"state": "ON"});
    assert_eq!(site.bridge.set("lamp", "one", on.clone()).await["status"], "ok");
    let latency = Latency::fixed(Duration::from_millis(300));
    site.lamp.faults().set(Fault::Latency { latency });
    let answer = site.bridge.set("mats/1", "two", on.clone()).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let off = site.lamp.counters().relay_changes.last().cloned().unwrap();
    let on_again = site.mats.counters().relay_changes.last().cloned().unwrap();
    assert!(
        !off.on && on_again.on && off.at < on_again.at,
        "{off:?} {on_again:?}"
    );
    let event = |event: &serde_json::Value| event["type"] == "interlock" && event["device"] == "lamp";
    site.bridge.expect("bridge/event", event).await;

    site.lamp.faults().clear_all();
    site.lamp.press(1).unwrap();
    site.mats.wait_relay(1, false, PATIENCE).await.unwrap();
    site.group(|group| group["state"] == "ON" && group["safety"] == "clear")
        .await;

    let both = site.bridge.set("group/driveway", "three", on).await;
    assert_eq!(both["error"]["code"], "bad_command", "{both}");
}

#[tokio::test]
async fn an_outlet_that_cannot_be_switched_off_blocks_the_other() {
    let _fast = fast_clocks();
    let site = site().await;
    let answer = site.bridge.set("lamp", "one", json!({"state": "ON"})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    site.lamp.faults().set(Fault::Drop {
        stage: Stage::BeforeApplying,
        scope: Scope::all(),
    });
    let asked = Instant::now();
    let answer = site
        .bridge
        .set("mats/1", "two", json!({"state": "ON", "ttl": 2}))
        .await;
    assert_eq!(answer["error"]["code"], "refused_by_safety", "{answer}");
    assert!(
        answer["error"]["message"].as_str().unwrap().contains("lamp"),
        "{answer}"
    );
    assert!(asked.elapsed() >= Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(site.relays(), (false, true));
}
