//! Devices that the bridge finds by itself.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use tapo_simulator::{Profile, RunningDevice, Simulator};

use crate::bridge::{Running, Setup};

/// Addresses that nobody else has. No broadcast is heard there.
struct Site {
    first: [u8; 4],
}

impl Site {
    fn new() -> Self {
        let first = [
            127,
            rand::random_range(61..=120),
            rand::random(),
            16 * rand::random_range(0..16),
        ];
        Self { first }
    }

    fn ip(&self, number: u8) -> Ipv4Addr {
        let [a, b, c, d] = self.first;
        Ipv4Addr::new(a, b, c, d + number)
    }

    async fn plug(&self, number: u8, nickname: &str) -> RunningDevice {
        plug(number.into(), self.ip(number), nickname).await
    }

    fn setup(&self, add: &str) -> Setup {
        let network = self.ip(0);
        Setup::new().discovery(format!(
            "[discovery]\nnetworks = [\"{network}/28\"]\nadd = \"{add}\"\ninterval = \"10s\"\n"
        ))
    }
}

async fn plug(seed: u64, ip: Ipv4Addr, nickname: &str) -> RunningDevice {
    Simulator::plug(Profile::P110)
        .seed(seed)
        .nickname(nickname)
        .address((ip, 0).into())
        .discovery(true)
        .start()
        .await
        .unwrap()
}

/// As the bridge writes it.
fn mac(plug: &RunningDevice) -> String {
    plug.mac().to_lowercase().replace('-', ":")
}

/// Sends a request about devices and returns its response.
async fn request(bridge: &Running, name: &str, mut fields: Value) -> Value {
    let transaction = format!("{:016x}", rand::random::<u64>());
    fields["transaction"] = json!(transaction);
    bridge
        .publish(&format!("bridge/request/device/{name}"), fields.to_string())
        .await;
    bridge
        .expect(&format!("bridge/response/device/{name}"), |answer| {
            answer["transaction"] == transaction
        })
        .await
}

/// The entry of a device in `device/list`.
async fn listed(bridge: &Running, mac: &str) -> Value {
    let list = request(bridge, "list", json!({})).await;
    let devices = list["data"].as_array().unwrap();
    let device = devices.iter().find(|device| device["mac"] == mac);
    device.cloned().unwrap_or_default()
}

async fn found(bridge: &Running, plug: &RunningDevice, nickname: &str) -> Value {
    let is_it = |device: &Value| device["mac"] == mac(plug) && device["nickname"] == nickname;
    bridge
        .expect("bridge/found", |found| {
            found.as_array().is_some_and(|found| found.iter().any(is_it))
        })
        .await
}

async fn assert_switches(bridge: &Running, id: &str, plug: &RunningDevice) {
    let wanted = !plug.relay(1);
    let state = if wanted { "ON" } else { "OFF" };
    let answer = bridge
        .set(id, &format!("t-{id}"), json!({ "state": state }))
        .await;
    assert_eq!(
        (answer["status"].as_str(), plug.relay(1)),
        (Some("ok"), wanted),
        "{answer}"
    );
}

#[tokio::test]
async fn without_settings_all_devices_are_there_in_seconds() {
    let site = Site::new();
    let names = ["Einfahrt Süd", "Lamp", "Heater"];
    let mut plugs = Vec::new();
    for (number, name) in (1..).zip(names) {
        plugs.push(site.plug(number, name).await);
    }
    let bridge = site.setup("all").start().await;
    for (id, plug) in ["einfahrt-sued", "lamp", "heater"].iter().zip(&plugs) {
        bridge.available(id).await;
        assert_switches(&bridge, id, plug).await;
        assert_eq!(listed(&bridge, &mac(plug)).await["status"], "added");
    }
    assert_eq!(bridge.retained("bridge/found").await, json!([]));
}

#[tokio::test]
async fn a_found_device_is_added_on_request_and_by_button() {
    let site = Site::new();
    let plugs = [site.plug(1, "Lamp").await, site.plug(2, "Heater").await];
    let bridge = site.setup("ask").start().await;
    found(&bridge, &plugs[0], "Lamp").await;
    found(&bridge, &plugs[1], "Heater").await;
    let answer = request(&bridge, "add", json!({ "device": mac(&plugs[0]), "id": "desk" })).await;
    assert_eq!(
        (&answer["data"]["id"], &answer["data"]["status"]),
        (&json!("desk"), &json!("added"))
    );
    bridge.available("desk").await;
    assert_switches(&bridge, "desk", &plugs[0]).await;

    let config = "homeassistant/device/tapo2mqtt-bridge/config";
    let key = format!("tapo2mqtt-bridge_add_{}", mac(&plugs[1]).replace(':', ""));
    let discovery = bridge
        .probe
        .expect(config, |payload| payload.contains("Add Heater"))
        .await;
    let discovery = crate::bridge::parsed(&discovery);
    let button = &discovery["components"][&key];
    let topic = button["command_topic"].as_str().unwrap();
    bridge
        .probe
        .publish(topic, button["payload_press"].as_str().unwrap())
        .await;
    bridge.available("heater").await;
    let gone =
        |payload: &str| crate::bridge::parsed(payload)["components"][&key] == json!({ "platform": "button" });
    bridge.probe.expect(config, gone).await;
    assert_eq!(bridge.retained("bridge/found").await, json!([]));
}
