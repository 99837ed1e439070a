//! Devices that our own client serves: sessions, logins and values.

use std::time::Duration;

use serde_json::{Value, json};
use tapo_simulator::{Damage, Fault, Profile, Protocol, RunningDevice, Scope, Simulator};

use crate::{
    bridge::{Running, Setup},
    process::own_address,
};

/// A plug that says in its answer to discovery which form of the password it takes.
async fn plug(protocol: Protocol) -> RunningDevice {
    let plug = Simulator::plug(Profile::P110Old).protocol(protocol);
    let plug = plug.address((own_address(), 0).into()).discovery(true);
    plug.start().await.unwrap()
}

async fn is_online(bridge: &Running) {
    bridge.available("plug").await;
    let state = bridge.expect("plug", |state| state["power"].is_number()).await;
    assert!(state["energy_today"].is_number(), "{state}");
}

#[tokio::test]
async fn a_wrong_password_is_one_attempt_over_aes() {
    for protocol in [Protocol::Aes, Protocol::AesV1] {
        for client in ["auto", "own"] {
            let plug = plug(protocol).await;
            let setup = Setup::new().device("plug", plug.address());
            let wrong = setup.client(client).password("not the password").start().await;
            wrong.expect("plug", |state| state["status"] == "forbidden").await;
            let answer = wrong.set("plug", "t", json!({ "state": "ON" })).await;
            assert_eq!(answer["error"]["code"], "wrong_credentials", "{answer}");
            let counters = plug.counters();
            assert_eq!((counters.failed_logins, counters.logins), (1, 0), "{client}");
        }
    }
}

#[tokio::test]
async fn a_session_that_ends_is_one_new_login_of_our_client() {
    for (client, protocol) in [
        ("auto", Protocol::Aes),
        ("own", Protocol::Klap),
        ("own", Protocol::Tpap),
    ] {
        let plug = plug(protocol).await;
        let setup = Setup::new().device("plug", plug.address()).client(client);
        let mut bridge = setup.start().await;
        is_online(&bridge).await;
        assert_eq!(plug.counters().logins, 1, "{client} over {protocol:?}");
        plug.reboot(Duration::ZERO).await.unwrap();
        let answer = bridge.set("plug", "t", json!({ "state": "TOGGLE" })).await;
        assert_eq!(answer["status"], "ok", "{answer}");
        bridge.stop().await;
        let counters = plug.counters();
        assert_eq!(counters.logins, 2, "{client} over {protocol:?}");
        assert_eq!((counters.failed_logins, counters.sequence_violations), (0, 0));
        assert_eq!(counters.max_in_flight, 1, "one session at a time");
    }
}

const NAMED: &str = "[[device.outlet]]\nposition = 1\nid = \"left\"\n";

/// A group without schedules that bounds how long its outlets are on.
fn limit(outlet: &str) -> String {
    format!("[[group]]\nid = \"limited\"\noutlets = [\"{outlet}\"]\n[group.safety]\nmax_on = \"1h\"\n")
}

#[tokio::test]
async fn the_first_contact_costs_no_needless_login() {
    let plug = Simulator::plug(Profile::P110);
    let strip = || Simulator::strip(Profile::P304M);
    for (device, path, rules, expected, with_a_limit) in [
        (plug, "it", String::new(), 1, 1),
        (Simulator::plug(Profile::P110), "it", limit("it"), 1, 2),
        (strip(), "it/1", String::new(), 2, 2),
        (strip(), "it/left", NAMED.to_owned(), 1, 1),
        (strip(), "it/left", NAMED.to_owned() + &limit("it/left"), 1, 1),
    ] {
        let device = device.start().await.unwrap();
        let setup = Setup::new().device("it", device.address()).rules(&rules);
        let mut bridge = setup.start().await;
        bridge.expect(path, |state| state["state"] == "OFF").await;
        assert_eq!(device.counters().logins, expected, "{rules}");
        let answer = bridge.set(path, "t", json!({ "state": "ON" })).await;
        assert_eq!(answer["status"], "ok", "{answer}");
        bridge.stop().await;
        let counters = device.counters();
        assert_eq!(counters.logins, with_a_limit, "{rules}");
        assert_eq!((counters.sequence_violations, counters.max_in_flight), (0, 1));
    }
}

#[tokio::test]
async fn the_crate_takes_over_where_our_client_cannot_read() {
    let strip = Simulator::strip(Profile::P304M).start().await.unwrap();
    let setup = Setup::new().device("mats", strip.address()).rules(NAMED);
    let bridge = setup.start().await;
    let served_by = async |client: &str| {
        let is = |devices: &Value| devices[0]["client"] == client && devices[0]["status"] == "ready";
        bridge.expect("bridge/devices", is).await;
    };
    served_by("own").await;
    let scope = Scope::method("get_child_device_list").times(3);
    strip.faults().set(Fault::Malformed {
        damage: Damage::NotJson,
        scope,
    });
    served_by("tapo").await;
    let answer = bridge.set("mats/left", "t", json!({ "state": "ON" })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert!(strip.relay(1));
}

#[tokio::test]
async fn the_crate_takes_over_where_our_client_cannot_log_in() {
    let strip = Simulator::strip(Profile::P304M).start().await.unwrap();
    let scope = Scope::method("handshake1").times(1);
    strip.faults().set(Fault::HttpStatus { status: 404, scope });
    let setup = Setup::new().device("mats", strip.address()).rules(NAMED);
    let bridge = setup.start().await;
    bridge.expect("mats/left", |state| state["state"] == "OFF").await;
    let answer = bridge.set("mats/left", "t", json!({ "state": "ON" })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert!(strip.relay(1));
    assert_eq!(strip.counters().logins, 1, "of the crate");
}
