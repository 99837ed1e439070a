//! Where a device can be reached: discovery, reboots, moves, and the end.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use serde_json::Value;
use tapo::{ApiClient, DiscoveryRawResult, StreamExt as _};
use tapo_simulator::{Fault, Profile, Protocol, RunningDevice, Simulator};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

use crate::support::{SOON, client, kind, plug};

/// An address that no other test of this or of another process has.
fn own_address() -> SocketAddr {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let last = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    SocketAddr::from((Ipv4Addr::new(127, high | 0x40, low, last), 0))
}

/// The first answer from the device at an address.
async fn discover(ip: IpAddr) -> Option<Value> {
    let mut answers = ApiClient::discover_devices_raw(ip.to_string(), 1).await.unwrap();
    let answer: DiscoveryRawResult = timeout(SOON, answers.next()).await.unwrap()?.unwrap();
    Some(answer.message)
}

async fn start(profile: Profile) -> RunningDevice {
    let device = Simulator::device(profile).address(own_address()).discovery(true);
    device.start().await.unwrap()
}

async fn is_refused(device: &RunningDevice) -> bool {
    tokio::net::TcpStream::connect(device.address()).await.is_err()
}

#[tokio::test]
async fn discovery_contains_model_address_and_protocol() {
    for protocol in [Protocol::Klap, Protocol::Tpap] {
        let device = Simulator::plug(Profile::P110)
            .address(own_address())
            .discovery(true)
            .protocol(protocol)
            .start()
            .await
            .unwrap();
        let found = discover(device.address().ip()).await.unwrap();
        let result = &found["result"];
        assert_eq!(result["device_model"], "P110(UK)");
        assert_eq!(result["mac"], device.mac());
        assert_eq!(result["ip"], device.address().ip().to_string());
        let scheme = &result["mgt_encrypt_schm"];
        assert_eq!(scheme["http_port"], device.address().port());
        assert_eq!(scheme["encrypt_type"], protocol.to_string().to_uppercase());
        assert_eq!(result.get("tpap").is_some(), protocol == Protocol::Tpap);
        assert!(device.counters().probes >= 1);
    }
}

#[tokio::test]
async fn the_crate_logs_in_to_what_it_discovers() {
    let device = start(Profile::P110).await;
    let mut found = client()
        .discover_devices(device.address().ip().to_string(), 2)
        .await
        .unwrap();
    match timeout(SOON, found.next()).await.unwrap().unwrap().unwrap() {
        tapo::DiscoveryResult::PlugEnergyMonitoring { handler, .. } => handler.on().await.unwrap(),
        other => panic!("{other:?}"),
    }
    assert!(device.relay(1));
}

#[tokio::test]
async fn the_port_opens_only_for_a_query() {
    let device = Simulator::plug(Profile::P110)
        .address(own_address())
        .discovery(true)
        .fault(Fault::PortClosedUntilProbed)
        .start()
        .await
        .unwrap();
    assert!(is_refused(&device).await);
    discover(device.address().ip()).await.unwrap();
    let handler = plug(&device).await.unwrap();
    handler.on().await.unwrap();

    device.reboot(Duration::ZERO).await.unwrap();
    assert!(is_refused(&device).await, "closed again after a reboot");
    device.faults().clear_all();
    until_open(&device).await;
}

#[tokio::test]
async fn a_reboot_closes_everything_for_a_while() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let mut handler = plug(&device).await.unwrap();
    handler.on().await.unwrap();
    handler
        .set_timer(Duration::from_mins(10), tapo::responses::PowerState::Off)
        .await
        .unwrap();

    let (start, away) = (Instant::now(), Duration::from_millis(150));
    device.reboot(away).await.unwrap();
    assert!(is_refused(&device).await);
    handler.off().await.unwrap_err();
    until_open(&device).await;
    assert!(start.elapsed() >= away);

    assert!(device.relay(1), "the relay keeps its state");
    assert_eq!(kind(&handler.off().await.unwrap_err()), "SESSION_TIMEOUT");
    handler.refresh_session().await.unwrap();
    assert!(handler.get_timer().await.unwrap().is_none());
}

/// A process that is forked at that moment holds the listener until it starts its program.
#[tokio::test]
async fn a_port_that_is_held_elsewhere_is_opened_later() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let away = Duration::from_millis(50);
    device.reboot(away).await.unwrap();
    let held = TcpListener::bind(device.address()).await.unwrap();
    timeout(2 * away, held.accept()).await.unwrap_err();
    drop(held);
    until_open(&device).await;
    plug(&device).await.unwrap().on().await.unwrap();
}

#[tokio::test]
async fn a_client_can_reboot_the_device() {
    let device = Simulator::plug(Profile::P110)
        .reboot_time(Duration::from_millis(50))
        .start()
        .await
        .unwrap();
    let handler = plug(&device).await.unwrap();
    // The reply to a reboot at once may be lost in it.
    let _ = handler.device_reboot(0).await;
    // Whether the next request still meets the old session is a race; that the session ends is not.
    let ended = async { while handler.get_device_info_json().await.is_ok() {} };
    timeout(SOON, ended).await.unwrap();
    until_open(&device).await;
    plug(&device).await.unwrap();
}

#[tokio::test]
async fn a_device_moves_and_takes_discovery_along() {
    let device = start(Profile::P110).await;
    let old = device.address();
    plug(&device).await.unwrap().on().await.unwrap();
    let new = device.move_to(own_address()).await.unwrap();
    assert_ne!(old, new);
    assert_eq!(device.address(), new);
    assert!(tokio::net::TcpStream::connect(old).await.is_err());
    assert!(discover(old.ip()).await.is_none());
    let found = discover(new.ip()).await.unwrap();
    assert_eq!(found["result"]["mgt_encrypt_schm"]["http_port"], new.port());
    plug(&device).await.unwrap().off().await.unwrap();
    // Away for ever.
    device.reboot(Duration::MAX).await.unwrap();
    assert!(is_refused(&device).await);
}

#[tokio::test]
async fn a_device_that_stops_leaves_nothing_behind() {
    let device = start(Profile::P304M).await;
    let address = device.address();
    let _handler = plug(&device).await.unwrap();
    let handle = device.handle();
    assert_eq!(handle.counters().open_connections, 1);
    device.stop().await;
    assert_eq!(handle.counters().open_connections, 0);
    // The same address, port and all, can be taken again at once.
    let again = Simulator::strip(Profile::P304M)
        .address(address)
        .discovery(true)
        .start()
        .await
        .unwrap();
    assert_eq!(again.address(), address);

    drop(again);
    let gone = async { while tokio::net::TcpStream::connect(address).await.is_ok() {} };
    timeout(SOON, gone).await.unwrap();
}

async fn until_open(device: &RunningDevice) {
    let open = async { while is_refused(device).await {} };
    timeout(SOON, open).await.unwrap();
}
