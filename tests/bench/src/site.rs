//! A broker, a bridge on it, and clients that see what comes of it.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use crate::{
    bridge::{Bridge, settings},
    broker::Broker,
    client::Client,
};

pub struct Site {
    pub broker: Broker,
    pub client: Client,
    /// As Home Assistant, from before the bridge started.
    pub home: Client,
    pub bridge: Bridge,
}

impl Site {
    /// Starts a bridge on these devices and further settings, and waits until all devices are online.
    pub async fn open(binary: &Path, devices: &[SocketAddr], more: &str) -> Self {
        Self::open_with(binary, devices, more, "auto").await
    }

    /// The same with the client that serves the devices.
    pub async fn open_with(binary: &Path, devices: &[SocketAddr], more: &str, served: &str) -> Self {
        Self::open_on(Broker::start().await, binary, devices, more, served).await
    }

    /// The same on this broker.
    pub async fn open_on(
        broker: Broker,
        binary: &Path,
        devices: &[SocketAddr],
        more: &str,
        served: &str,
    ) -> Self {
        let mut client = Client::connect(broker.address);
        client.subscribe("tapo2mqtt/+/availability").await;
        let mut home = Client::connect(broker.address);
        home.subscribe("homeassistant/#").await;
        let bridge = Bridge::start(binary, &settings(broker.address, devices, more, served));
        client.wait_online(devices.len()).await;
        client.subscribe("tapo2mqtt/+").await;
        client.until_quiet(Duration::from_millis(100)).await;
        Self {
            broker,
            client,
            home,
            bridge,
        }
    }
}

impl Client {
    /// Waits until so many devices said that they are online.
    pub async fn wait_online(&mut self, count: usize) {
        let mut online = BTreeSet::new();
        while online.len() < count {
            let message = self.next().await;
            if message.topic.ends_with("/availability") && message.says("online") {
                online.insert(message.topic);
            }
        }
    }

    /// Sends a command to a device.
    pub async fn command(&self, device: usize, payload: impl Into<Vec<u8>>) {
        self.publish(&format!("tapo2mqtt/d{device}/set"), payload).await;
    }
}
