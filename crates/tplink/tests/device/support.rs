//! How the tests talk to a device.

use std::time::Duration;

use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, Profile, Protocol, RunningDevice, Simulator};
use tplink::{Client, Credentials, Endpoint, Limits, Transport};

/// Every way to speak SMART.
pub(crate) const SMART: [(Protocol, Transport); 4] = [
    (Protocol::Klap, Transport::Klap),
    (Protocol::Tpap, Transport::Tpap),
    (Protocol::Aes, Transport::Aes),
    (Protocol::AesV1, Transport::Aes),
];

/// Every way to speak to an old Kasa device.
pub(crate) const IOT: [(Protocol, Transport); 2] = [
    (Protocol::KlapV1, Transport::Klap),
    (Protocol::Xor, Transport::Xor),
];

/// Long enough for anything that happens at all.
pub(crate) const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    request: Duration::from_secs(10),
};

/// Too short for a device that hangs.
pub(crate) const SHORT: Limits = Limits {
    request: Duration::from_millis(300),
    ..LIMITS
};

pub(crate) fn account() -> Credentials {
    Credentials::new(DEFAULT_USERNAME, DEFAULT_PASSWORD)
}

pub(crate) async fn start(profile: Profile, protocol: Protocol) -> RunningDevice {
    Simulator::device(profile)
        .protocol(protocol)
        .start()
        .await
        .unwrap()
}

/// A client of the device's own account, which knows what discovery announces.
pub(crate) fn client(device: &RunningDevice) -> Client {
    let mut client = client_of(device, Some(account()), LIMITS);
    client.set_login_version((device.protocol() == Protocol::Aes).then_some(2));
    client
}

pub(crate) fn client_of(device: &RunningDevice, account: Option<Credentials>, limits: Limits) -> Client {
    let port = device.address().port();
    let endpoint = Endpoint::new("127.0.0.1")
        .with_http_port(port)
        .with_xor_port(port);
    Client::new(endpoint, account, limits)
}

pub(crate) async fn logged_in(device: &RunningDevice) -> Client {
    let mut client = client(device);
    client.login(None).await.unwrap();
    client
}

/// Everything went over one connection, one request at a time and in order.
pub(crate) fn assert_one_connection(device: &RunningDevice) {
    let counters = device.counters();
    assert_eq!(
        (
            counters.connections,
            counters.max_in_flight,
            counters.sequence_violations
        ),
        (1, 1, 0),
        "{}",
        device.protocol()
    );
}
