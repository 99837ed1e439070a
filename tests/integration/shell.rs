//! The scripts of `examples/shell`, against the bridge.

use std::{path::Path, process::Output};

use tapo_simulator::{Profile, Simulator};
use tokio::{process::Command, time::timeout};

use crate::{
    bridge::{Running, Setup, parsed},
    probe::PATIENCE,
};

async fn script(bridge: &Running, name: &str, arguments: &[&str]) -> Output {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shell");
    let broker = bridge.broker.address();
    let running = Command::new(scripts.join(name))
        .args(arguments)
        .env("MQTT_HOST", broker.ip().to_string())
        .env("MQTT_PORT", broker.port().to_string())
        .kill_on_drop(true)
        .output();
    timeout(PATIENCE, running).await.unwrap().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn the_shell_examples_work() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("demo-plug", plug.address()).start().await;
    bridge.available("demo-plug").await;

    let set = script(&bridge, "set", &["demo-plug", "ON"]).await;
    assert!(set.status.success(), "{set:?}");
    assert_eq!(parsed(&printed(&set))["state"], "ON");
    assert!(plug.relay(1));
    let set = script(&bridge, "set", &["demo-plug", r#"{"state":"OFF","ttl":5}"#]).await;
    assert_eq!(parsed(&printed(&set))["state"], "OFF");
    let refused = script(&bridge, "set", &["demo-plug", "MAYBE"]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");

    // Without what it needs, each says what that is.
    for name in ["set", "state", "request", "wait-for"] {
        let usage = script(&bridge, name, &[]).await;
        assert_eq!(usage.status.code(), Some(64), "{usage:?}");
        let text = String::from_utf8_lossy(&usage.stderr);
        assert!(text.starts_with(&format!("usage: {name} ")), "{usage:?}");
    }

    // Taken in before the state is asked for.
    bridge.barrier().await;
    let state = script(&bridge, "state", &["demo-plug"]).await;
    assert_eq!(parsed(&printed(&state))["state"], "OFF");
    let bridge_state = script(&bridge, "state", &["bridge"]).await;
    assert_eq!(parsed(&printed(&bridge_state))["state"], "online");
    let waited = script(&bridge, "wait-for", &["demo-plug", "OFF"]).await;
    assert!(waited.status.success(), "{waited:?}");

    let level = script(&bridge, "request", &["log_level", r#"{"level":"warn"}"#]).await;
    assert!(level.status.success(), "{level:?}");
    let health = script(&bridge, "request", &["health"]).await;
    assert!(
        parsed(&printed(&health))["data"]["uptime_s"].is_number(),
        "{health:?}"
    );
    let unknown = script(&bridge, "request", &["dance"]).await;
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");

    // `watch` ends after a few messages here, one of which is a state: it is retained, and so shown only when it changes.
    let watched = script(&bridge, "watch", &["-C", "5"]);
    let switched = async {
        loop {
            script(&bridge, "set", &["demo-plug", "TOGGLE"]).await;
        }
    };
    let watched = tokio::select! {
        watched = watched => watched,
        () = switched => unreachable!(),
    };
    assert!(printed(&watched).contains(" tapo2mqtt/demo-plug"), "{watched:?}");
}
