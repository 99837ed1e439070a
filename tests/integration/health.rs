//! The health that the bridge publishes.

use std::{fs, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tapo_simulator::{Fault, FaultKind, Profile, Simulator};
use tokio::time::timeout;

use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    log::Log,
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::{STATE_FILE, dead_address},
};

const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub async fn health(bridge: &Running) -> Value {
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
pub fn issues(health: &Value, about: &str) -> Vec<String> {
    let issues = health["issues"].as_array().unwrap().iter();
    issues
        .filter_map(Value::as_str)
        .filter(|issue| issue.contains(about))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn health_contains_every_task_queue_and_device() {
    let _fast = fast_clocks();
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = Setup::new().device("plug", plug.address());
    let bridge = setup.device("dead", dead_address()).start().await;
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
    // A lost session costs a login, and nothing else.
    plug.faults().set(Fault::SessionLifetime {
        lifetime: Duration::ZERO,
    });
    bridge.publish("plug/get", "").await;
    plug.wait_requests("handshake1", 2, PATIENCE).await.unwrap();
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
        let shown = &health["tasks"][task];
        assert_eq!(
            (
                &shown["state"],
                &shown["running"],
                &shown["restarts"],
                &shown["failed"]
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

/// Asks until the issues are as expected.
async fn issues_become(bridge: &Running, about: &str, expected: impl Fn(&[String]) -> bool) -> Vec<String> {
    let asked = async {
        loop {
            let found = issues(&health(bridge).await, about);
            if expected(&found) {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    timeout(PATIENCE, asked)
        .await
        .expect("the issues stay as they are")
}

#[tokio::test]
async fn a_state_file_that_cannot_be_written_is_an_issue() {
    let _fast = fast_clocks();
    let log = Log::capture();
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let file = directory.path().join(STATE_FILE);
    // It stands where the file is written first, and stops even root.
    let obstacle = directory.path().join(format!("{STATE_FILE}.new"));
    fs::create_dir(&obstacle).unwrap();
    let mut bridge = Setup::new().directory(directory.clone()).start().await;
    assert_eq!(issues(&health(&bridge).await, "state file"), [""; 0]);

    bridge
        .publish("bridge/request/vacation", r#"{"enabled":true}"#)
        .await;
    let issues = issues_become(&bridge, "state file", |issues| !issues.is_empty()).await;
    assert_eq!(issues.len(), 1, "{issues:?}");
    assert!(issues[0].contains(&file.display().to_string()), "{issues:?}");
    assert!(issues[0].contains("Is a directory"), "{issues:?}");
    assert!(issues[0].contains("check that"), "{issues:?}");
    assert!(!file.exists());

    fs::remove_dir(&obstacle).unwrap();
    issues_become(&bridge, "state file", <[String]>::is_empty).await;
    let written = parsed(&fs::read_to_string(&file).unwrap());
    assert!(written["scheduler"]["vacation"].is_object(), "{written}");
    bridge.stop().await;
    let lines = log.lines();
    let about = |level: &str, text: &str| {
        let about = |line: &&String| line.contains(level) && line.contains(text);
        lines.iter().filter(about).count()
    };
    assert_eq!(about("ERROR", "cannot be written"), 1, "{lines:?}");
    assert_eq!(
        about("INFO", "the state file can be written again"),
        1,
        "{lines:?}"
    );
}
