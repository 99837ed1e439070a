//! Devices whose addresses change, and addresses with another device.

use std::{net::IpAddr, time::Duration};

use serde_json::{Value, json};
use tapo_simulator::{Profile, RunningDevice, Simulator, SimulatorError};
use tokio::time::Instant;

use super::{answers_to, code, ms, send};
use crate::{
    bridge::{Running, Setup},
    probe::PATIENCE,
    process::own_address,
};

/// The port may be that of a plug that has just ended; the system takes a moment to free it.
async fn plug_at(ip: IpAddr, port: u16) -> RunningDevice {
    let builder = Simulator::plug(Profile::P110)
        .address((ip, port).into())
        .discovery(true);
    let give_up = Instant::now() + PATIENCE;
    loop {
        match builder.clone().start().await {
            Err(SimulatorError::Bind { .. }) if Instant::now() < give_up => tokio::task::yield_now().await,
            started => return started.unwrap(),
        }
    }
}

/// A plug that the bridge knows at an address, and where a search would find it. The next device at its address
/// belongs to the same account.
async fn known_plug() -> (RunningDevice, IpAddr, Running) {
    let (home, elsewhere) = (own_address(), IpAddr::from(own_address()));
    let plug = plug_at(home.into(), 0).await;
    let bridge = Setup::new()
        .device("plug", plug.address())
        .search(&[elsewhere])
        .section("[retry]\nunreachable = \"1s\"")
        .start()
        .await;
    bridge.available("plug").await;
    (plug, elsewhere, bridge)
}

#[tokio::test]
async fn a_device_with_another_identity_is_not_switched() {
    let (plug, elsewhere, bridge) = known_plug().await;
    let home = plug.address();
    plug.move_to((elsewhere, home.port()).into()).await.unwrap();
    let other = plug_at(home.ip(), home.port()).await;
    let moved = Instant::now();
    let wanted = !plug.relay(1);
    send(&bridge, "plug", "t", wanted, 9.0).await;
    let answer = bridge.answer("plug", "t").await;
    println!(
        "answered from the new address {} after the swap",
        ms(moved.elapsed())
    );
    assert_eq!((code(&answer), plug.relay(1)), ("ok", wanted));
    assert_eq!(other.counters().relay_changes.len(), 0);
    let event = bridge
        .expect("bridge/event", |event| event["type"] == "address_changed")
        .await;
    assert_eq!(event["device"], "plug");
    bridge.barrier().await;
    assert_eq!(answers_to(&bridge, "plug", "t"), 1);
}

#[tokio::test]
async fn an_identity_mismatch_without_alternative_is_reported() {
    let (plug, _, bridge) = known_plug().await;
    let home = plug.address();
    let model = plug.profile();
    plug.stop().await;
    let other = plug_at(home.ip(), home.port()).await;
    let before = other.relay(1);
    send(&bridge, "plug", "t", !before, 2.5).await;
    let answer = bridge.answer("plug", "t").await;
    // Whether the plug took the request that its end cut off is not known.
    assert!(["expired", "no_answer"].contains(&code(&answer)), "{answer}");
    let reported = |state: &Value| {
        let reason = state["error"]["message"].as_str().unwrap_or_default();
        state["status"] == "unreachable" && reason.contains("another device answers")
    };
    bridge.expect("plug", reported).await;
    assert_eq!(bridge.retained("bridge/last_error").await["code"], "wrong_device");
    assert_eq!((model, other.relay(1)), (Profile::P110, before));
    assert_eq!(other.counters().relay_changes.len(), 0);
    assert_eq!(bridge.retained("plug/availability").await["state"], "offline");
}

/// Two plugs that swap their addresses, as a DHCP server may let them after a power cut.
#[tokio::test]
async fn two_plugs_that_swap_their_addresses_are_still_themselves() {
    let addresses = [own_address(), own_address()].map(IpAddr::from);
    let port = 8080;
    let mut plugs = Vec::new();
    for (seed, ip) in [(1, addresses[0]), (2, addresses[1])] {
        plugs.push(swapped(seed, ip, port).await);
    }
    let bridge = Setup::new()
        .device("a", plugs[0].address())
        .device("b", plugs[1].address())
        .search(&addresses)
        .start()
        .await;
    bridge.available("a").await;
    bridge.available("b").await;
    for plug in plugs.drain(..) {
        plug.stop().await;
    }
    for (seed, ip) in [(1, addresses[1]), (2, addresses[0])] {
        plugs.push(swapped(seed, ip, port).await);
    }
    let swapped = Instant::now();
    let answer = bridge.set("a", "t", json!({ "state": "TOGGLE", "ttl": 9 })).await;
    println!(
        "switched at its new address {} after the swap",
        ms(swapped.elapsed())
    );
    assert_eq!(code(&answer), "ok", "{answer}");
    let changed: Vec<usize> = plugs
        .iter()
        .map(|plug| plug.counters().relay_changes.len())
        .collect();
    assert_eq!(changed, [1, 0]);
}

async fn swapped(seed: u64, ip: IpAddr, port: u16) -> RunningDevice {
    Simulator::plug(Profile::P110)
        .seed(seed)
        .address((ip, port).into())
        .discovery(true)
        .reboot_time(Duration::ZERO)
        .start()
        .await
        .unwrap()
}
