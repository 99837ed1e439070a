//! Devices that our own client serves: sessions, logins and values.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tapo_simulator::{Damage, Fault, FaultKind, Profile, Protocol, RunningDevice, Scope, Simulator};

use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    probe::PATIENCE,
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
    let _fast = fast_clocks();
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
    let _fast = fast_clocks();
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
    let _fast = fast_clocks();
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

#[tokio::test]
async fn the_crate_leaves_a_session_to_our_client_again() {
    let _fast = fast_clocks();
    let strip = Simulator::strip(Profile::P304M).start().await.unwrap();
    let setup = Setup::new().device("it", strip.address()).rules(&limit("it/1"));
    let bridge = setup.start().await;
    let answer = bridge.set("it/1", "t", json!({ "state": "ON" })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    bridge.expect("it/1", |state| state["failsafe"] == "armed").await;
    let handshakes = strip.counters().requests_of("handshake1");
    // Our client tries twice: as before, and from the beginning. Then the crate logs in, and then our client again.
    let scope = Scope::method("handshake1").times(2);
    strip.faults().set(Fault::HttpStatus { status: 404, scope });
    // Its session ends, and its port stays open.
    let lifetime = Duration::ZERO;
    strip.faults().set(Fault::SessionLifetime { lifetime });
    let login = |number| strip.wait_requests("handshake1", handshakes + number, PATIENCE);
    login(1).await.unwrap();
    strip.faults().clear(FaultKind::SessionLifetime);
    login(4).await.unwrap();
    let is_ours = |devices: &str| {
        let device = &parsed(devices)[0];
        device["client"] == "own" && device["status"] == "ready"
    };
    bridge
        .probe
        .expect_last("tapo2mqtt/bridge/devices", is_ours)
        .await;
}

/// Some HS110 do so. It is read and switched, and no request costs more than one login.
#[tokio::test]
async fn a_device_with_one_request_a_session_is_served() {
    let plug = Simulator::plug(Profile::HS110).protocol(Protocol::KlapV1);
    let plug = plug.fault(Fault::SingleRequest).start().await.unwrap();
    let mut bridge = Setup::new().device("plug", plug.address()).start().await;
    is_online(&bridge).await;
    for (transaction, state) in [("1", "ON"), ("2", "OFF"), ("3", "ON")] {
        let answer = bridge.set("plug", transaction, json!({ "state": state })).await;
        assert_eq!(answer["status"], "ok", "{answer}");
        assert_eq!(plug.relay(1), state == "ON");
    }
    bridge.stop().await;
    let counters = plug.counters();
    let of_logins = counters.requests_of("handshake1") + counters.requests_of("handshake2");
    let others = counters.http_requests - of_logins;
    assert!(
        counters.logins <= others,
        "{} logins for {others} requests",
        counters.logins
    );
    assert_eq!((counters.failed_logins, counters.sequence_violations), (0, 0));
    assert_eq!(counters.max_in_flight, 1, "one session at a time");
}

/// The crate logs in to it, and cannot read it.
#[tokio::test]
async fn an_old_device_over_klap_is_served_again_after_a_restart() {
    let _fast = fast_clocks();
    let plug = Simulator::plug(Profile::HS110).start().await.unwrap();
    let directory = Arc::new(tempfile::tempdir().unwrap());
    for (transaction, state) in [("1", "ON"), ("2", "OFF")] {
        let setup = Setup::new().directory(directory.clone());
        let mut bridge = setup.device("plug", plug.address()).start().await;
        is_online(&bridge).await;
        let answer = bridge.set("plug", transaction, json!({ "state": state })).await;
        assert_eq!(answer["status"], "ok", "{answer}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_device_without_an_outlet_is_refused_in_words() {
    let chime = Simulator::plug(Profile::P100).start().await.unwrap();
    let values = [("type", json!("SMART.TAPOCHIME")), ("model", json!("D100C"))];
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value));
    chime.faults().set(Fault::FieldValues {
        values: values.collect(),
    });
    chime.faults().set(Fault::MissingFields {
        fields: vec!["device_on".to_owned()],
    });
    let bridge = Setup::new().device("hall", chime.address()).start().await;
    let refused = |state: &Value| {
        state["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("D100C has no outlet"))
    };
    let state = bridge.expect("hall", refused).await;
    assert_eq!(
        (&state["error"]["code"], &state["status"]),
        (&json!("unsupported"), &json!("forbidden"))
    );
    let asked = chime.counters().http_requests;
    let answer = bridge.set("hall", "t", json!({ "state": "ON" })).await;
    assert_eq!(answer["error"]["code"], "unsupported", "{answer}");
    assert_eq!(
        chime.counters().http_requests,
        asked,
        "a command brings no other attempt"
    );
}

/// A camera answers the search, but has no web server where plugs have theirs.
#[tokio::test]
async fn a_camera_is_refused_in_words() {
    let camera = Simulator::plug(Profile::P100).address((own_address(), 0).into());
    let camera = camera.discovery(true).start().await.unwrap();
    let values = [
        ("device_type", json!("SMART.IPCAMERA")),
        ("device_model", json!("C210(EU)")),
    ];
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value));
    camera.faults().set(Fault::FieldValues {
        values: values.collect(),
    });
    let closed = std::net::SocketAddr::new(camera.address().ip(), 1);
    let bridge = Setup::new().device("door", closed).start().await;
    let refused = |state: &Value| {
        state["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("C210(EU) has no outlet"))
    };
    bridge.expect("door", refused).await;
}
