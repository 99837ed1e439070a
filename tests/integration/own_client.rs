//! Devices that our own client serves: sessions, logins and values.

use std::time::Duration;

use serde_json::json;
use tapo_simulator::{Profile, Protocol, RunningDevice, Simulator};

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

/// Old Kasa devices are not served: their JSON is another.
#[tokio::test]
async fn an_old_kasa_device_is_refused_in_words() {
    let plug = plug(Protocol::KlapV1).await;
    let setup = Setup::new().device("plug", plug.address()).client("own");
    let bridge = setup.start().await;
    let state = bridge
        .expect("plug", |state| state["error"]["code"] == "unsupported_protocol")
        .await;
    let message = state["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("an older Kasa device"), "{message}");
}
