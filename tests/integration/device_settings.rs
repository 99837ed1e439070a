//! Settings that devices keep themselves: what they do, and what the bridge makes of it.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tapo_simulator::{Cause, Profile, Simulator};
use tapo2mqtt::system::clock::Clock;

use crate::{bridge::Setup, probe::PATIENCE};

/// Off by the auto-off that was set in the app: the bridge names it, and a schedule does not undo it.
#[tokio::test]
#[allow(clippy::disallowed_methods)] // The simulated device starts at the time of day.
async fn an_off_by_the_auto_off_of_the_device_is_explained() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    device.set_auto_off(1, 30).unwrap();
    let clock = Clock::steered(jiff::Timestamp::now());
    let group =
        "[[group]]\nid = \"g\"\noutlets = [\"plug\"]\n[[group.schedule]]\nid = \"s\"\nall_day = true\n";
    let setup = Setup::new().device("plug", device.address()).rules(group);
    let bridge = setup.clock(&clock).start().await;
    bridge
        .expect("plug", |state| state["auto_off_at"].is_string())
        .await;
    device.advance(Duration::from_mins(31));
    clock.jump(SignedDuration::from_mins(31));
    let reason = |state: &Value| state["reason"].as_str().unwrap_or_default().to_owned();
    bridge
        .expect("plug", |state| {
            reason(state).contains("OFF (auto-off of the device at ")
        })
        .await;
    let event = bridge
        .expect("bridge/event", |event| event["type"] == "external_change")
        .await;
    let message = "Simulated P110 changed externally to OFF (auto-off of the device)";
    assert_eq!(
        (&event["message"], &event["state"]),
        (&json!(message), &json!("OFF"))
    );
    let polls = device.counters().requests_of("get_device_info");
    let later = device.wait_requests("get_device_info", polls + 3, PATIENCE);
    later.await.unwrap();
    let changes = device.counters().relay_changes;
    assert_eq!(changes.last().map(|change| change.cause), Some(Cause::AutoOff));
}
