//! The same tests for each client and each protocol that it speaks.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tapo_simulator::{Profile, Protocol, RunningDevice, Simulator};

use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    process::own_address,
};

/// A device on a protocol, by an id.
struct Case {
    id: String,
    /// Of its first outlet.
    path: String,
    device: RunningDevice,
}

const BOTH: [(Profile, Protocol); 3] = [
    (Profile::P110Old, Protocol::Klap),
    (Profile::P304M, Protocol::Klap),
    (Profile::P110, Protocol::Tpap),
];
/// What the crate does not speak.
const OURS: [(Profile, Protocol); 9] = [
    (Profile::P110Old, Protocol::Aes),
    (Profile::P100, Protocol::AesV1),
    (Profile::P300, Protocol::Aes),
    (Profile::HS110, Protocol::Xor),
    (Profile::HS300, Protocol::Xor),
    (Profile::HS100, Protocol::KlapV1),
    (Profile::KP303, Protocol::KlapV1),
    (Profile::KP115, Protocol::Klap),
    (Profile::HS300, Protocol::Klap),
];

/// What a client speaks.
fn protocols(client: &str) -> Vec<(Profile, Protocol)> {
    let ours = OURS.into_iter().filter(|_| client != "tapo");
    BOTH.into_iter().chain(ours).collect()
}

async fn cases(client: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for (profile, protocol) in protocols(client) {
        let id = format!("{profile}-{protocol}").to_lowercase();
        let path = if profile.is_strip() {
            format!("{id}/1")
        } else {
            id.clone()
        };
        let device = Simulator::device(profile).protocol(protocol);
        // With discovery, devices say which form of the password they take.
        let device = device.address((own_address(), 0).into()).discovery(true);
        let device = device.start().await.unwrap();
        cases.push(Case { id, path, device });
    }
    cases
}

fn setup(cases: &[Case], client: &'static str) -> Setup {
    let setup = Setup::new().client(client);
    cases
        .iter()
        .fold(setup, |setup, case| setup.device(&case.id, case.device.address()))
}

/// Runs a test with each client at the same time.
async fn with_each_client(test: impl AsyncFn(&'static str)) {
    tokio::join!(test("auto"), test("tapo"), test("own"));
}

/// Its entry in `bridge/devices`.
async fn shows_what_serves(bridge: &Running, case: &Case, client: &str) {
    let of_both = BOTH.contains(&(case.device.profile(), case.device.protocol()));
    let client = match client {
        "auto" if of_both && !case.device.profile().is_strip() => "tapo",
        "auto" => "own",
        client => client,
    };
    let transport = match case.device.protocol() {
        Protocol::Klap | Protocol::KlapV1 => "klap",
        Protocol::Tpap => "tpap",
        Protocol::Aes | Protocol::AesV1 => "aes",
        Protocol::Xor => "xor",
    };
    let serves = |devices: &Value| {
        let mut devices = devices.as_array().into_iter().flatten();
        let entry = devices.find(|entry| entry["id"] == case.id.as_str());
        entry.is_some_and(|entry| entry["client"] == client && entry["transport"] == transport)
    };
    bridge.expect("bridge/devices", serves).await;
}

async fn switch(bridge: &Running, case: &Case, to: &str, transaction: &str) {
    let answer = bridge.set(&case.path, transaction, json!({ "state": to })).await;
    assert_eq!(answer["status"], "ok", "{}: {answer}", case.id);
    assert_eq!(case.device.relay(1), to == "ON", "{}", case.id);
}

async fn switches_and_reads(bridge: &Running, case: &Case, client: &str) {
    bridge.available(&case.id).await;
    shows_what_serves(bridge, case, client).await;
    switch(bridge, case, "ON", "on").await;
    if case.device.profile().has_energy() {
        let metered = |state: &Value| state["power"] == 60.0 && state["energy_today"].is_number();
        bridge.expect(&case.path, metered).await;
    }
    switch(bridge, case, "OFF", "off").await;
    shows_last(bridge, case, "OFF").await;
    case.device.press(1).unwrap();
    shows_last(bridge, case, "ON").await;
    // Its sessions are gone.
    case.device.reboot(Duration::ZERO).await.unwrap();
    switch(bridge, case, "OFF", "again").await;
}

/// Waits until the state that was published last is this.
async fn shows_last(bridge: &Running, case: &Case, state: &str) {
    let topic = format!("tapo2mqtt/{}", case.path);
    let shows = |payload: &str| parsed(payload)["state"] == state;
    bridge.probe.expect_last(&topic, shows).await;
}

#[tokio::test]
async fn each_client_switches_and_reads_over_each_protocol() {
    with_each_client(async |client| {
        let cases = cases(client).await;
        let mut bridge = setup(&cases, client).start().await;
        join_all(cases.iter().map(|case| switches_and_reads(&bridge, case, client))).await;
        bridge.stop().await;
        for case in &cases {
            let counters = case.device.counters();
            assert_eq!(
                (counters.sequence_violations, counters.failed_logins),
                (0, 0),
                "{}",
                case.id
            );
            assert_eq!(counters.max_in_flight, 1, "{}", case.id);
            // One; one that finds a strip; one after the restart; one over.
            assert!(
                counters.logins <= 4,
                "{client}, {}: {} logins",
                case.id,
                counters.logins
            );
        }
    })
    .await;
}

#[tokio::test]
async fn each_client_finds_a_device_that_was_unplugged() {
    let _fast = fast_clocks();
    with_each_client(async |client| {
        let cases = cases(client).await;
        let bridge = setup(&cases, client).request_timeout("500ms").start().await;
        for case in &cases {
            bridge.available(&case.id).await;
            case.device.reboot(Duration::from_secs(3)).await.unwrap();
        }
        for case in &cases {
            let offline = |state: &Value| state["state"] == "offline";
            bridge.expect(&format!("{}/availability", case.id), offline).await;
        }
        for case in &cases {
            switch(&bridge, case, "ON", "back").await;
        }
    })
    .await;
}

#[tokio::test]
async fn each_client_reboots_a_device() {
    with_each_client(async |client| {
        let cases = cases(client).await;
        let bridge = setup(&cases, client).start().await;
        join_all(cases.iter().map(|case| reboots(&bridge, case))).await;
    })
    .await;
}

async fn reboots(bridge: &Running, case: &Case) {
    bridge.available(&case.id).await;
    let reboot = json!({ "transaction": "r" }).to_string();
    bridge.publish(&format!("{}/set/reboot", case.id), reboot).await;
    let answer = bridge.answer(&case.id, "r").await;
    assert_eq!(answer["status"], "ok", "{}: {answer}", case.id);
    let counters = case.device.counters();
    let sent = counters.requests_of("device_reboot") + counters.requests_of("system.reboot");
    assert_eq!(sent, 1, "{}", case.id);
}

#[tokio::test]
async fn each_client_sends_a_wrong_password_once() {
    with_each_client(async |client| {
        let mut cases = cases(client).await;
        cases.retain(|case| case.device.protocol() != Protocol::Xor);
        let setup = setup(&cases, client).password("not the password");
        let mut bridge = setup.start().await;
        for case in &cases {
            let refuses = |state: &Value| {
                ["forbidden", "locked_out"]
                    .iter()
                    .any(|status| state["status"] == *status)
            };
            bridge.expect(&case.id, refuses).await;
            let answer = bridge.set(&case.path, "t", json!({ "state": "ON" })).await;
            assert_eq!(
                answer["error"]["code"], "wrong_credentials",
                "{}: {answer}",
                case.id
            );
        }
        bridge.stop().await;
        for case in &cases {
            let counters = case.device.counters();
            let sent = u64::from(
                case.device.protocol() != Protocol::Klap && case.device.protocol() != Protocol::KlapV1,
            );
            assert_eq!(
                (counters.failed_logins, counters.logins),
                (sent, 0),
                "{client}, {}",
                case.id
            );
        }
    })
    .await;
}
