//! Devices that the bridge finds by itself.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use tapo_simulator::{ChildModel, Profile, RunningDevice, Simulator};

use crate::bridge::{Running, Setup, fast_clocks};

/// Addresses that no other test has. No broadcast arrives there.
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
    let _fast = fast_clocks();
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
    let _fast = fast_clocks();
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
    let again = request(&bridge, "add", json!({ "device": mac(&plugs[0]) })).await;
    assert_eq!(again["data"]["id"], "desk", "{again}");
    let other = request(&bridge, "add", json!({ "device": "desk", "id": "table" })).await;
    let message = other["error"]["message"].as_str().unwrap();
    assert!(message.contains("device/rename"), "{message}");

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

/// All topics below the base topic that the broker keeps for an id.
async fn kept(bridge: &Running, id: &str) -> Vec<String> {
    let mut kept = Vec::new();
    for topic in [id.to_owned(), format!("{id}/availability")] {
        let payload = bridge.broker.retained(&format!("tapo2mqtt/{topic}")).await;
        kept.extend(payload.map(|_| topic));
    }
    kept
}

/// The discovery message of an added device.
fn config_topic(mac: &str) -> String {
    format!(
        "homeassistant/device/tapo2mqtt-mac-{}/config",
        mac.replace(':', "")
    )
}

#[tokio::test]
async fn a_renamed_device_keeps_its_entities_and_its_timer() {
    let _fast = fast_clocks();
    let site = Site::new();
    let lamp = site.plug(1, "Lamp").await;
    let bridge = site.setup("all").start().await;
    bridge.available("lamp").await;
    let config = config_topic(&mac(&lamp));
    let complete = |payload: &str| payload.contains("_switch\"");
    bridge.probe.expect(&config, complete).await;
    let timed = json!({ "state": "ON", "on_time": 600 });
    assert_eq!(bridge.set("lamp", "t", timed).await["status"], "ok");
    let runs = |state: &Value| state["timer_until"].is_string();
    let until = bridge.expect("lamp", runs).await["timer_until"].clone();
    let before = bridge.broker.retained(&config).await.unwrap();
    bridge.probe.forget();
    let renamed = json!({ "device": "lamp", "id": "desk", "name": "Desk lamp" });
    let answer = request(&bridge, "rename", renamed).await;
    assert_eq!(answer["data"]["id"], "desk", "{answer}");
    bridge.available("desk").await;
    let state = bridge.expect("desk", runs).await;
    assert_eq!(state["timer_until"], until);
    assert!(lamp.relay(1), "a rename switches nothing");
    let moved = |payload: &str| payload.contains("tapo2mqtt/desk") && complete(payload);
    bridge.probe.expect(&config, moved).await;
    bridge.probe.expect("tapo2mqtt/lamp", str::is_empty).await;
    let after = bridge.broker.retained(&config).await.unwrap();
    let keys = |payload: &str| {
        let components = crate::bridge::parsed(payload)["components"].clone();
        let components = components.as_object().unwrap().clone();
        components.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys(&before), keys(&after));
    assert!(
        after.contains("Desk lamp") && !after.contains("tapo2mqtt/lamp"),
        "{after}"
    );
    assert_eq!(kept(&bridge, "lamp").await, Vec::<String>::new());
    assert_switches(&bridge, "desk", &lamp).await;
}

#[tokio::test]
async fn a_new_plug_takes_over_the_id_and_the_entities() {
    let _fast = fast_clocks();
    let site = Site::new();
    let dead = site.plug(1, "Heater").await;
    let bridge = site.setup("ask").start().await;
    found(&bridge, &dead, "Heater").await;
    request(&bridge, "add", json!({ "device": mac(&dead) })).await;
    bridge.available("heater").await;
    let known = mac(&dead);
    let new = site.plug(2, "New").await;
    found(&bridge, &new, "New").await;
    let answer = bridge.set("heater", "on", json!({ "state": "ON" })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let answer = request(&bridge, "replace", json!({ "device": "heater", "by": mac(&new) })).await;
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("heater is ON"), "{answer}");
    bridge.probe.forget();
    dead.stop().await;
    bridge
        .expect("heater/availability", |availability| {
            availability["state"] == "offline"
        })
        .await;
    let answer = request(&bridge, "replace", json!({ "device": "heater", "by": mac(&new) })).await;
    assert_eq!(answer["data"]["id"], "heater", "{answer}");
    let is_new = |devices: &Value| devices[0]["id"] == "heater" && devices[0]["mac"] == mac(&new);
    bridge.expect("bridge/devices", is_new).await;
    assert_switches(&bridge, "heater", &new).await;
    let config = bridge.broker.retained(&config_topic(&known)).await;
    assert!(config.is_some_and(|config| config.contains("tapo2mqtt/heater")));
    assert_eq!(bridge.broker.retained(&config_topic(&mac(&new))).await, None);
}

#[tokio::test]
async fn what_was_removed_or_ignored_stays_so_over_a_restart() {
    let _fast = fast_clocks();
    let site = Site::new();
    let plugs = [site.plug(1, "Lamp").await, site.plug(2, "Heater").await];
    let setup = site.setup("all");
    let mut bridge = setup.clone().start().await;
    for id in ["lamp", "heater"] {
        bridge.available(id).await;
    }
    request(&bridge, "remove", json!({ "device": "lamp" })).await;
    request(&bridge, "ignore", json!({ "device": "heater" })).await;
    bridge.stop().await;
    let again = setup.after(&bridge).start_on(bridge.broker.clone()).await;
    found(&again, &plugs[0], "Lamp").await;
    assert_eq!(listed(&again, &mac(&plugs[0])).await["status"], "found");
    assert_eq!(listed(&again, &mac(&plugs[1])).await["status"], "ignored");
    assert_eq!(again.retained("bridge/devices").await, json!([]));
    assert_eq!(kept(&again, "lamp").await, Vec::<String>::new());
    // The id stays with the device.
    let answer = request(&again, "add", json!({ "device": mac(&plugs[0]) })).await;
    assert_eq!(answer["data"]["id"], "lamp", "{answer}");
    again.available("lamp").await;
}

#[tokio::test]
async fn an_added_device_is_found_where_it_moved() {
    let _fast = fast_clocks();
    let site = Site::new();
    let lamp = site.plug(1, "Lamp").await;
    let setup = site.setup("all");
    let mut bridge = setup.clone().start().await;
    bridge.available("lamp").await;
    lamp.move_to((site.ip(5), lamp.address().port()).into())
        .await
        .unwrap();
    let event = bridge
        .expect("bridge/event", |event| event["type"] == "address_changed")
        .await;
    assert_eq!(event["device"], "lamp");
    assert_switches(&bridge, "lamp", &lamp).await;
    // Also while the bridge is down, with another device at its address.
    bridge.stop().await;
    let port = lamp.address().port();
    lamp.move_to((site.ip(6), port).into()).await.unwrap();
    let other = Simulator::plug(Profile::P110).seed(7).nickname("Other");
    let other = other.address((site.ip(5), port).into()).discovery(true);
    let other = other.start().await.unwrap();
    let again = setup.after(&bridge).start_on(bridge.broker.clone()).await;
    again.available("other").await;
    assert_switches(&again, "lamp", &lamp).await;
    assert_eq!(other.counters().relay_changes.len(), 0);
}

#[tokio::test]
async fn settings_give_an_added_device_its_id() {
    let _fast = fast_clocks();
    let site = Site::new();
    let lamp = site.plug(1, "Lamp").await;
    let setup = site.setup("all");
    let bridge = setup.clone().start().await;
    bridge.available("lamp").await;
    let configured = setup.device("heater", lamp.address());
    let reloaded = bridge.reload(&configured).await;
    assert_eq!(reloaded["status"], "ok", "{reloaded}");
    bridge.available("heater").await;
    let entry = listed(&bridge, &mac(&lamp)).await;
    assert_eq!(
        (&entry["status"], &entry["id"]),
        (&json!("configured"), &json!("heater"))
    );
    assert_switches(&bridge, "heater", &lamp).await;
    // The file is changed by its owner.
    let other = site.plug(2, "Other").await;
    bridge.available("other").await;
    let new_mac = format!("set its mac to \"{}\" there", mac(&other));
    for (name, more, advice) in [
        ("rename", json!({ "id": "x" }), "change its id or name there"),
        ("remove", json!({}), "remove it there"),
        ("ignore", json!({}), "remove it there"),
        ("add", json!({}), "used already"),
        ("replace", json!({ "by": mac(&other) }), &new_mac),
    ] {
        let mut fields = more;
        fields["device"] = json!("heater");
        let answer = request(&bridge, name, fields).await;
        assert_eq!(answer["error"]["code"], "invalid_value", "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        let place = "heater is in the settings, device \"heater\" (line ";
        assert!(
            message.starts_with(place) && message.contains(".toml: ") && message.contains(advice),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_sensor_may_name_a_hub_that_was_added() {
    let _fast = fast_clocks();
    let site = Site::new();
    let hub = Simulator::hub(Profile::H100).children([(ChildModel::T315, "Hall")]);
    let hub = hub.nickname("Hub").address((site.ip(1), 0).into());
    let hub = hub.discovery(true).start().await.unwrap();
    let heater = site.plug(2, "Heater").await;
    let setup = site.setup("ask");
    let mut bridge = setup.clone().start().await;
    for (device, id) in [(&hub, "hub"), (&heater, "heater")] {
        let name = if id == "hub" { "Hub" } else { "Heater" };
        found(&bridge, device, name).await;
        request(&bridge, "add", json!({ "device": mac(device), "id": id })).await;
        bridge.available(id).await;
    }
    let heating = "[[sensor]]\nid = \"hall\"\ndevice = \"hub/hall\"\nvalue = \"temperature\"\n\
        [[group]]\nid = \"g\"\noutlets = [\"heater\"]\n[[group.schedule]]\nid = \"cold\"\nall_day = true\n\
        when = [{ sensor = \"hall\", at_most = 18 }]\n";
    let reloaded = bridge.reload(&setup.clone().rules(heating)).await;
    assert_eq!(reloaded["status"], "ok", "{reloaded}");
    let colder = |celsius: f64| {
        let fields = json!({ "current_temp": celsius });
        hub.set_child("Hall", serde_json::from_value(fields).unwrap())
            .unwrap();
    };
    bridge.expect("heater", |state| state["expected"] == "OFF").await;
    colder(15.0);
    heater.wait_relay(1, true, crate::probe::PATIENCE).await.unwrap();
    // By the id that it had, also after a restart.
    request(&bridge, "rename", json!({ "device": "hub", "id": "cellar" })).await;
    bridge.available("cellar").await;
    bridge.stop().await;
    let again = setup.clone().rules(heating).after(&bridge);
    let again = again.start_on(bridge.broker.clone()).await;
    again.available("cellar").await;
    colder(25.0);
    heater.wait_relay(1, false, crate::probe::PATIENCE).await.unwrap();
    let unknown = heating.replace("hub/hall", "bub/hall");
    let answer = again.reload(&setup.rules(&unknown)).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("device/add"), "{message}");
}

#[tokio::test]
async fn a_device_that_is_gone_for_a_day_is_not_offered() {
    let _fast = fast_clocks();
    let site = Site::new();
    let (gone, removed) = (site.plug(1, "Gone").await, site.plug(2, "Removed").await);
    let there = site.plug(3, "There").await;
    let setup = site.setup("ask");
    let mut bridge = setup.clone().start().await;
    for (plug, name) in [(&gone, "Gone"), (&removed, "Removed"), (&there, "There")] {
        found(&bridge, plug, name).await;
    }
    request(&bridge, "add", json!({ "device": mac(&removed) })).await;
    bridge.available("removed").await;
    request(&bridge, "remove", json!({ "device": "removed" })).await;
    bridge.stop().await;
    let macs = [mac(&gone), mac(&removed), mac(&there)];
    gone.stop().await;
    removed.stop().await;
    let file = bridge.state_file();
    let mut state: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    for mac in &macs {
        state["inventory"][mac]["seen"] = json!("2020-01-01T00:00:00Z");
    }
    std::fs::write(&file, state.to_string()).unwrap();
    let again = setup.after(&bridge).start_on(bridge.broker.clone()).await;
    // The first one answers again, the others do not.
    let only_there =
        |found: &Value| found.as_array().unwrap().len() == 1 && found[0]["mac"] == macs[2].as_str();
    again.expect("bridge/found", only_there).await;
    let button = |mac: &str| format!("tapo2mqtt-bridge_add_{}", mac.replace(':', ""));
    let one_button = |payload: &str| {
        let components = &crate::bridge::parsed(payload)["components"];
        let is_there = |mac: &String| components[button(mac)]["command_topic"].is_string();
        macs.iter().map(is_there).eq([false, false, true])
    };
    let config = "homeassistant/device/tapo2mqtt-bridge/config";
    again.probe.expect(config, one_button).await;
    // What a request said about a device is kept.
    let statuses = [
        listed(&again, &macs[0]).await["status"].clone(),
        listed(&again, &macs[1]).await["status"].clone(),
    ];
    assert_eq!(statuses, [Value::Null, json!("found")]);
}

#[tokio::test]
async fn a_group_may_name_an_added_device() {
    let _fast = fast_clocks();
    let site = Site::new();
    let lamp = site.plug(1, "Lamp").await;
    let setup = site.setup("ask");
    let mut bridge = setup.clone().start().await;
    found(&bridge, &lamp, "Lamp").await;
    request(&bridge, "add", json!({ "device": mac(&lamp) })).await;
    bridge.available("lamp").await;
    let group =
        "[[group]]\nid = \"g\"\noutlets = [\"lamp\"]\n[[group.schedule]]\nid = \"s\"\nall_day = true\n";
    let reloaded = bridge.reload(&setup.clone().rules(group)).await;
    assert_eq!(reloaded["status"], "ok", "{reloaded}");
    lamp.wait_relay(1, true, crate::probe::PATIENCE).await.unwrap();
    // By the id that it had, also after a restart.
    request(&bridge, "rename", json!({ "device": "lamp", "id": "desk" })).await;
    bridge
        .expect("bridge/groups", |groups| groups[0]["outlets"][0] == "desk")
        .await;
    bridge.stop().await;
    let again = setup.clone().rules(group).after(&bridge);
    let again = again.start_on(bridge.broker.clone()).await;
    again.available("desk").await;
    again
        .expect("desk", |state| {
            state["source"] == "schedule" && state["expected"] == "ON"
        })
        .await;
    // An id that no device has is a mistake.
    let unknown = group.replace("\"lamp\"", "\"lmap\"");
    let answer = again.reload(&setup.rules(&unknown)).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("\"lmap\"") && message.contains("device/add"),
        "{message}"
    );
}

#[tokio::test]
async fn a_damaged_entry_costs_no_other_device() {
    let _fast = fast_clocks();
    let site = Site::new();
    let plugs = [site.plug(1, "Lamp").await, site.plug(2, "Heater").await];
    let setup = site.setup("all");
    let mut bridge = setup.clone().start().await;
    for id in ["lamp", "heater"] {
        bridge.available(id).await;
    }
    request(&bridge, "rename", json!({ "device": "heater", "id": "oven" })).await;
    bridge.available("oven").await;
    bridge.stop().await;
    let file = bridge.state_file();
    let mut state: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    state["inventory"][mac(&plugs[0])] = json!({ "address": 7 });
    std::fs::write(&file, state.to_string()).unwrap();
    let again = setup.after(&bridge).start_on(bridge.broker.clone()).await;
    again.available("oven").await;
    // The other one is found again.
    again.available("lamp").await;
    let info = again.retained("bridge/info").await;
    assert!(
        info["start_checks"][0].as_str().unwrap().contains("inventory"),
        "{info}"
    );
}
