//! What the bridge says of its own condition.

use std::time::Duration;

use serde_json::{Value, json};
use tapo_simulator::{Fault, FaultKind, Profile, Simulator};

use crate::{
    bridge::{Running, Setup, dead_address},
    mosquitto::Mosquitto,
};

async fn health(bridge: &Running) -> Value {
    let transaction = format!("{:016x}", rand::random::<u64>());
    let request = json!({ "transaction": transaction }).to_string();
    bridge.publish("bridge/request/health", request).await;
    let answer = bridge
        .expect("bridge/response/health", |answer| {
            answer["transaction"] == transaction
        })
        .await;
    answer["data"].clone()
}

/// The issues that name something.
fn issues(health: &Value, about: &str) -> Vec<String> {
    let issues = health["issues"].as_array().unwrap().iter();
    issues
        .filter_map(Value::as_str)
        .filter(|issue| issue.contains(about))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn health_tells_of_every_task_queue_and_device() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = Setup::new().device("plug", plug.address());
    let bridge = setup.device("dead", dead_address().await).start().await;
    bridge.available("plug").await;
    bridge
        .expect("dead", |state| state["status"] == "unreachable")
        .await;
    let transactions = ["a", "b", "c"];
    for transaction in transactions {
        bridge
            .set("plug", transaction, json!({ "state": "TOGGLE" }))
            .await;
    }
    // A lost session costs a log-in, and nobody notices.
    plug.faults().set(Fault::SessionLifetime {
        lifetime: Duration::ZERO,
    });
    bridge.publish("plug/get", "").await;
    plug.wait_requests("handshake1", 2, crate::probe::PATIENCE)
        .await
        .unwrap();
    plug.faults().clear(FaultKind::SessionLifetime);
    bridge.set("plug", "d", json!({ "state": "ON" })).await;

    let health = health(&bridge).await;
    for task in [
        "mqtt event loop",
        "mqtt driver",
        "device owner",
        "state writer",
        "device plug",
        "device dead",
    ] {
        let told = &health["tasks"][task];
        assert_eq!(
            (
                &told["state"],
                &told["running"],
                &told["restarts"],
                &told["failed"]
            ),
            (&json!("running"), &json!(1), &json!(0), &json!(0)),
            "{task}: {health:#}"
        );
    }
    let (plug, dead) = (&health["devices"]["plug"], &health["devices"]["dead"]);
    assert_eq!((&plug["circuit"], &plug["queued"]), (&json!("closed"), &json!(0)));
    let rtt = |key: &str| plug[key].as_f64().unwrap();
    assert!(rtt("rtt_p50_ms") <= rtt("rtt_p95_ms") && rtt("rtt_p95_ms") <= rtt("rtt_max_ms"));
    assert!(plug["logins"].as_u64().unwrap() >= 2, "{plug}");
    assert!(plug["failures"]["session_lost"].as_u64().unwrap() >= 1, "{plug}");
    assert!(plug["last_seen"].is_string(), "{plug}");
    assert_eq!(
        (&dead["circuit"], &dead["last_seen"]),
        (&json!("open"), &Value::Null)
    );
    assert!(dead["failures"]["refused"].as_u64().unwrap() >= 1, "{dead}");
    assert_eq!(health["queues"]["commands"], 0);
    assert_eq!(issues(&health, "dead"), ["dead cannot be reached (never seen)"]);
    assert_eq!(issues(&health, "plug"), [""; 0]);
    assert_eq!(bridge.retained("bridge/health").await["queues"]["commands"], 0);
}

#[tokio::test]
async fn a_denied_subscription_is_an_issue() {
    let denied = "tapo2mqtt/+/set";
    let broker = Mosquitto::builder().deny_subscription(denied).start().await;
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start_on(broker).await;
    let health = health(&bridge).await;
    assert_eq!(
        issues(&health, "denies"),
        ["the broker denies 1 subscriptions; check its access rules"]
    );
}
