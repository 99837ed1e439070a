//! What goes wrong with devices, and the results of their commands and of those to others.

mod identity_mismatch;
mod isolation;
mod matrix;
mod not_a_device;
mod rows;
mod single;

use serde_json::{Value, json};
use tapo_simulator::DeviceHandle;
use tapo2mqtt::devices::look;
use tokio::time::Duration;

use crate::bridge::{Running, device_config};

/// The payload word of a relay.
fn word(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

/// The code of an answer; "ok" for a good one.
fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or("ok")
}

/// Another program logs in to the device. It may lose its session again before it has read everything.
async fn log_in_elsewhere(device: &DeviceHandle) {
    let other = device_config("other", device.address());
    let _stolen_back = look(&other, Duration::from_secs(3)).await;
}

/// Sends a `set` without waiting for its answer.
async fn send(bridge: &Running, path: &str, transaction: &str, on: bool, ttl: f64) {
    let payload = json!({ "state": word(on), "transaction": transaction, "ttl": ttl });
    bridge.publish(&format!("{path}/set"), payload.to_string()).await;
}

/// How many answers a transaction got.
fn answers_to(bridge: &Running, path: &str, transaction: &str) -> usize {
    let answers = bridge.answers(path);
    answers
        .iter()
        .filter(|answer| answer["transaction"] == transaction)
        .count()
}

/// Milliseconds, for tables.
fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}
