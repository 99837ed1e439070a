//! Simulated devices in this process, so that the time of a relay and that of a message are of one clock.

use std::net::SocketAddr;

use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, Profile, RunningDevice, Simulator};
use tokio::time::Instant;

pub async fn devices(profile: Profile, count: usize) -> Vec<RunningDevice> {
    let mut devices = Vec::with_capacity(count);
    for _ in 0..count {
        devices.push(
            Simulator::device(profile)
                .start()
                .await
                .expect("a simulated device"),
        );
    }
    devices
}

pub fn addresses(devices: &[RunningDevice]) -> Vec<SocketAddr> {
    devices.iter().map(|device| device.address()).collect()
}

/// Addresses that refuse every connection.
pub fn dead(count: usize) -> Vec<SocketAddr> {
    let address = |number: usize| {
        let [.., high, low] = u32::try_from(number).unwrap_or_default().to_be_bytes();
        SocketAddr::from(([127, 200, high, low], 9))
    };
    (0..count).map(address).collect()
}

/// When the relay of a device moved last.
pub fn moved(device: &RunningDevice) -> Instant {
    let changes = device.counters().relay_changes;
    changes.last().expect("the relay moved").at
}

/// The `tapo` crate alone, logged in to a device.
pub async fn handler(device: &RunningDevice) -> tapo::PlugEnergyMonitoringHandler {
    let client = tapo::ApiClient::new(DEFAULT_USERNAME, DEFAULT_PASSWORD);
    client.p110(device.address().to_string()).await.expect("a login")
}
