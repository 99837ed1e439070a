//! Devices whose addresses change, and addresses with another device.

use std::{net::IpAddr, time::Duration};

use serde_json::{Value, json};
use tapo_simulator::{Profile, RunningDevice, Simulator};
use tokio::time::Instant;

use super::{answers_to, code, ms, send};
use crate::{
    bridge::{Running, Setup, fast_clocks},
    cut::Cut,
    probe::PATIENCE,
    process::own_address,
};

async fn plug_at(ip: IpAddr, port: u16) -> RunningDevice {
    let plug = Simulator::plug(Profile::P110).address((ip, port).into());
    plug.discovery(true).start().await.unwrap()
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
    let _fast = fast_clocks();
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

/// Two plugs at two addresses, and their bridge.
struct Pair {
    addresses: [IpAddr; 2],
    plugs: [RunningDevice; 2],
    setup: Setup,
    bridge: Running,
}

impl Pair {
    async fn start() -> Self {
        let addresses = [own_address(), own_address()].map(IpAddr::from);
        let plugs = [seeded(1, addresses[0]).await, seeded(2, addresses[1]).await];
        let setup = Setup::new()
            .device("a", plugs[0].address())
            .device("b", plugs[1].address())
            .search(&addresses);
        let bridge = setup.clone().start().await;
        bridge.available("a").await;
        bridge.available("b").await;
        Self {
            addresses,
            plugs,
            setup,
            bridge,
        }
    }

    /// As a DHCP server may let them after a power cut.
    async fn swap(self) -> Self {
        for plug in self.plugs {
            plug.stop().await;
        }
        let plugs = [
            seeded(1, self.addresses[1]).await,
            seeded(2, self.addresses[0]).await,
        ];
        Self { plugs, ..self }
    }

    /// Toggles `a`. Only the plug that it was from the beginning is switched.
    async fn assert_themselves(&self, bridge: &Running) {
        let answer = bridge.set("a", "t", json!({ "state": "TOGGLE", "ttl": 9 })).await;
        assert_eq!(code(&answer), "ok", "{answer}");
        let changes = |plug: &RunningDevice| plug.counters().relay_changes.len();
        assert_eq!([changes(&self.plugs[0]), changes(&self.plugs[1])], [1, 0]);
    }
}

#[tokio::test]
async fn two_plugs_that_swap_their_addresses_are_still_themselves() {
    let _fast = fast_clocks();
    let pair = Pair::start().await.swap().await;
    pair.assert_themselves(&pair.bridge).await;
}

#[tokio::test]
async fn plugs_that_swap_while_the_bridge_is_down_are_known() {
    let mut pair = Pair::start().await;
    pair.bridge.stop().await;
    let pair = pair.swap().await;
    let again = pair.setup.clone().after(&pair.bridge);
    let again = again.start_on(pair.bridge.broker.clone()).await;
    pair.assert_themselves(&again).await;
}

#[tokio::test]
async fn a_plug_that_replaced_another_while_down_is_not_switched() {
    let mut pair = Pair::start().await;
    pair.bridge.stop().await;
    let [a, b] = pair.plugs;
    a.stop().await;
    let new = seeded(3, pair.addresses[0]).await;
    let schedule =
        "[[group]]\nid = \"g\"\noutlets = [\"a\"]\n[[group.schedule]]\nid = \"s\"\nall_day = true\n";
    let setup = pair.setup.rules(schedule);
    let again = setup.clone().after(&pair.bridge);
    let again = again.start_on(pair.bridge.broker.clone()).await;
    again
        .expect("a", |state| state["error"]["code"] == "wrong_device")
        .await;
    assert_eq!(new.counters().relay_changes.len(), 0);

    // The message names what to do.
    let mac = format!("mac = \"{}\"", new.mac());
    let settings = setup.toml(again.broker.address());
    let replaced = settings.replacen("id = \"a\"\n", &format!("id = \"a\"\n{mac}\n"), 1);
    assert_ne!(settings, replaced);
    again.reload_text(&replaced).await;
    again.available("a").await;
    new.wait_relay(1, true, PATIENCE).await.unwrap();
    drop(b);
}

#[tokio::test]
async fn one_plug_under_two_addresses_is_served_once() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let other_address = Cut::in_front_of(plug.address());
    let setup = Setup::new().device("a", plug.address());
    let bridge = setup.clone().start().await;
    bridge.available("a").await;
    bridge.reload(&setup.device("b", other_address.address())).await;
    let state = bridge
        .expect("b", |state| state["error"]["code"] == "wrong_device")
        .await;
    let message = state["error"]["message"].as_str().unwrap();
    assert!(message.contains("the same device as a"), "{message}");
    let logins = plug.counters().requests_of("handshake1");
    let answer = bridge.set("b", "t", json!({ "state": "TOGGLE" })).await;
    assert_eq!(code(&answer), "wrong_device", "{answer}");
    let answer = bridge.set("a", "t", json!({ "state": "TOGGLE" })).await;
    assert_eq!(code(&answer), "ok", "{answer}");
    assert!(plug.counters().requests_of("handshake1") <= logins + 1);
}

async fn seeded(seed: u64, ip: IpAddr) -> RunningDevice {
    Simulator::plug(Profile::P110)
        .seed(seed)
        .address((ip, 8080).into())
        .discovery(true)
        .reboot_time(Duration::ZERO)
        .start()
        .await
        .unwrap()
}
