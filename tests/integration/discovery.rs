//! What the bridge publishes about devices by itself: discovery, availability and external changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tapo_simulator::{Profile, Simulator};
use tapo2mqtt::app::bridge::ShutdownReason;

use crate::{
    bridge::{Setup, fast_clocks, parsed},
    mosquitto::Mosquitto,
    process::dead_address,
};

/// The keys of a message that a template reads: `value_json.key` or `value_json['key']`.
fn keys_of(template: &str) -> Vec<String> {
    let reads = template.split("value_json").skip(1);
    let key = |read: &str| {
        let name = read.trim_start_matches(['.', '[', '\'', '"']);
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
        name[..end.unwrap_or(name.len())].to_owned()
    };
    reads.map(key).collect()
}

/// Every topic and key that templates in a discovery payload read, at any depth.
fn reads(payload: &Value, found: &mut BTreeSet<(String, String)>) {
    match payload {
        Value::Array(items) => items.iter().for_each(|item| reads(item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                reads(value, found);
                let (Some(kind), Some(template)) = (name.strip_suffix("_template"), value.as_str()) else {
                    continue;
                };
                if kind == "command" {
                    continue;
                }
                let names = match kind {
                    "value" => ["state_topic".to_owned(), "topic".to_owned()],
                    kind => [format!("{kind}_topic"), format!("{kind}_topic")],
                };
                let topic = names.iter().find_map(|name| fields.get(name)?.as_str());
                let topic = topic.unwrap_or_else(|| panic!("{name} reads no topic: {payload}"));
                found.extend(keys_of(template).into_iter().map(|key| (topic.to_owned(), key)));
            }
        }
        _ => {}
    }
}

#[test]
fn keys_are_found_in_both_notations() {
    let template = "{{ value_json.state if value_json['on_since'] is none else value_json.rssi | int }}";
    assert_eq!(keys_of(template), ["state", "on_since", "rssi"]);
}

#[tokio::test]
async fn every_key_that_home_assistant_reads_is_there() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let strip = Simulator::strip(Profile::P304M).start().await.unwrap();
    let setup = Setup::new().device("plug", plug.address());
    let rules = r#"
        [location]
        timezone = "Europe/Berlin"
        [[group]]
        id = "garden"
        outlets = ["plug", "strip/2"]
        schedule = [{ id = "week-end", days = ["sat", "sun"], start = "06:00", end = "08:00" }]
    "#;
    let bridge = setup.device("strip", strip.address()).rules(rules).start().await;
    bridge.available("plug").await;
    bridge.available("strip").await;
    bridge.expect("group/garden", |_| true).await;
    let configs = ["plug", "strip"].map(|id| format!("homeassistant/device/tapo2mqtt_{id}/config"));
    for config in &configs {
        let is_complete = |payload: &str| payload.contains("_switch\"");
        bridge.probe.expect(config, is_complete).await;
    }
    bridge.barrier().await;
    for (config, longest) in configs.iter().zip([9_000, 30_000]) {
        let announced = bridge.probe.payloads(config);
        let sizes: Vec<_> = announced.iter().map(String::len).collect();
        assert_eq!(sizes.len(), 1, "{config} once: {sizes:?}");
        assert!(sizes[0] < longest, "{config}: {sizes:?}");
    }

    let discovered = bridge.broker.retained_under("homeassistant/#").await;
    assert_eq!(discovered.len(), 4, "{:?}", discovered.keys());
    let mut states: BTreeMap<_, _> = bridge.broker.retained_under("tapo2mqtt/#").await;
    let event = bridge.expect("bridge/event", |_| true).await;
    states.insert("tapo2mqtt/bridge/event".to_owned(), event.to_string());
    for (config, payload) in &discovered {
        let mut read = BTreeSet::new();
        reads(&parsed(payload), &mut read);
        assert!(read.len() >= 3, "{config} reads only {read:?}");
        for (topic, key) in read {
            let state = states
                .get(&topic)
                .unwrap_or_else(|| panic!("{config} reads {topic}"));
            assert!(
                parsed(state).get(&key).is_some(),
                "{config} reads {key} of {topic}: {state}"
            );
        }
    }
}

#[tokio::test]
async fn a_press_on_the_button_is_reported() {
    let strip = Simulator::strip(Profile::P300).start().await.unwrap();
    let bridge = Setup::new().device("strip", strip.address()).start().await;
    bridge.available("strip").await;
    bridge.expect("strip/2", |state| state["state"].is_string()).await;
    strip.press(2).unwrap();
    let now = if strip.relay(2) { "ON" } else { "OFF" };
    bridge.expect("strip/2", |state| state["state"] == now).await;
    let event = bridge
        .expect("bridge/event", |event| event["type"] == "external_change")
        .await;
    assert_eq!(
        (&event["device"], &event["outlet"]),
        (&json!("strip"), &json!("2"))
    );
}

#[tokio::test]
async fn a_device_is_known_by_its_nickname_and_its_own_id() {
    let plug = Simulator::plug(Profile::P110)
        .nickname("Küche")
        .start()
        .await
        .unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    let devices = bridge
        .expect("bridge/devices", |devices| devices[0]["nickname"].is_string())
        .await;
    assert_eq!(devices[0]["nickname"], "Küche");
    assert_eq!(devices[0]["device_id"], plug.device_id());
    assert_eq!(devices[0]["hardware"], "1.0");
}

#[tokio::test]
async fn a_device_goes_and_comes_back() {
    let _fast = fast_clocks();
    let plug = Simulator::plug(Profile::P110).seed(7).start().await.unwrap();
    let address = plug.address();
    let bridge = Setup::new().device("plug", address).start().await;
    bridge.available("plug").await;

    bridge.probe.forget();
    plug.stop().await;
    bridge
        .expect("plug/availability", |state| state["state"] == "offline")
        .await;
    bridge
        .expect("bridge/event", |event| event["type"] == "device_offline")
        .await;

    bridge.probe.forget();
    let plug = Simulator::plug(Profile::P110)
        .seed(7)
        .address(address)
        .start()
        .await
        .unwrap();
    bridge.available("plug").await;
    let answer = bridge.set("plug", "t", json!({ "state": "TOGGLE" })).await;
    assert_eq!(answer["status"], "ok");
    assert_eq!(plug.counters().relay_changes.len(), 1);
}

#[tokio::test]
async fn topics_of_a_device_removed_between_runs_are_cleared() {
    let _fast = fast_clocks();
    let strip = Simulator::strip(Profile::P300).start().await.unwrap();
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = Setup::new().device("old", strip.address());
    let mut first = setup.device("plug", plug.address()).start().await;
    first.available("old").await;
    first.available("plug").await;
    // It is announced once all of its values were read.
    let announcement = "homeassistant/device/tapo2mqtt_old/config";
    first.probe.expect(announcement, |json| !json.is_empty()).await;
    first.barrier().await;
    assert_eq!(first.stop().await, ShutdownReason::Stopped);
    let is_old = |topic: &String| {
        topic
            .split('/')
            .any(|level| level == "old" || level.ends_with("_old"))
    };
    let mut left = first.broker.retained_under("#").await;
    left.retain(|topic, _| is_old(topic));
    assert!(
        left.len() >= 6,
        "discovery, availability, the strip and its outlets: {left:?}"
    );

    let second = Setup::new()
        .device("plug", plug.address())
        .start_on(first.broker.clone())
        .await;
    for topic in left.keys() {
        second.probe.expect(topic, str::is_empty).await;
    }
    second.available("plug").await;
    let mut left = second.broker.retained_under("#").await;
    left.retain(|topic, _| is_old(topic));
    assert_eq!(left, BTreeMap::new());
}

#[tokio::test]
async fn the_old_topic_of_a_renamed_outlet_is_cleared() {
    let _fast = fast_clocks();
    let strip = Simulator::strip(Profile::P300);
    let strip = strip.latency(Duration::from_millis(200)).start().await.unwrap();
    let broker = Mosquitto::start().await;
    let earlier = broker.probe().await;
    let devices = json!([{ "id": "strip", "outlets": [{ "key": "1" }, { "key": "left" }] }]);
    for (topic, payload) in [
        ("tapo2mqtt/bridge/devices", devices.to_string()),
        ("tapo2mqtt/strip/left", json!({ "state": "ON" }).to_string()),
    ] {
        earlier.publish_retained(topic, payload).await;
    }
    let setup = Setup::new().device("strip", strip.address());
    let bridge = setup.start_on(broker).await;
    bridge.probe.expect("tapo2mqtt/strip/left", str::is_empty).await;
    bridge.expect("strip/1", |state| state["state"] == "OFF").await;
}

/// Home Assistant removes an entity that is left out, and creates it when it is announced again.
#[tokio::test]
async fn a_restart_changes_no_announcement() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let strip = Simulator::strip(Profile::P304M).start().await.unwrap();
    let setup = || {
        let setup = Setup::new().device("plug", plug.address());
        setup.device("strip", strip.address())
    };
    let config = |id: &str| format!("homeassistant/device/tapo2mqtt_{id}/config");
    let has = |payload: &str, key: &str| payload.contains(&format!("_{key}\""));
    let mut first = setup().start().await;
    for (id, last) in [("plug", "device_schedules"), ("strip", "voltage")] {
        first
            .probe
            .expect(&config(id), |payload| has(payload, last))
            .await;
    }
    first.barrier().await;
    assert_eq!(first.stop().await, ShutdownReason::Stopped);
    let before = first.broker.retained_under("homeassistant/#").await;

    // Without the state file, which knows what meters measure.
    let second = setup().start_on(first.broker.clone()).await;
    for (id, outlet) in [("plug", "plug"), ("strip", "strip/1")] {
        second.available(id).await;
        second.expect(outlet, |state| state["voltage"].is_number()).await;
    }
    second.barrier().await;
    for seen in second.probe.history() {
        let announced = before.get(&seen.topic);
        assert!(
            announced.is_none_or(|announced| *announced == seen.text()),
            "{seen:?} instead of {announced:?}"
        );
    }
}

/// The broker holds `online` from the earlier run, which stopped first: it is replaced by what is known now, mostly `offline`.
#[tokio::test]
async fn a_device_is_shown_as_it_is_before_the_bridge_is_online() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = || Setup::new().device("plug", plug.address());
    let mut first = setup().start().await;
    first.available("plug").await;
    first.barrier().await;
    assert_eq!(first.stop().await, ShutdownReason::Stopped);
    let second = setup().start_on(first.broker.clone()).await;
    second.available("plug").await;
    let history = second.probe.history();
    let mut is_online = false;
    for seen in history.iter().filter(|seen| !seen.retain) {
        match seen.topic.as_str() {
            "tapo2mqtt/plug/availability" => return assert!(!is_online, "{history:?}"),
            "tapo2mqtt/bridge/state" => is_online |= parsed(&seen.text())["state"] == "online",
            _ => {}
        }
    }
    panic!("{history:?}");
}

#[tokio::test]
async fn a_device_never_reached_has_a_page() {
    let _fast = fast_clocks();
    let address = dead_address();
    let bridge = Setup::new().device("plug", address).start().await;
    let config = "homeassistant/device/tapo2mqtt_plug/config";
    let announced = bridge.probe.expect(config, |payload| !payload.is_empty()).await;
    let components = parsed(&announced)["components"].clone();
    let error = &components["tapo2mqtt_plug_error"];
    assert_eq!(error["availability"].as_array().unwrap().len(), 1, "{error}");
    assert!(components.get("tapo2mqtt_plug_switch").is_none());
    let state = bridge
        .expect("plug", |state| state["status"] == "unreachable")
        .await;
    assert!(state["error"]["message"].is_string(), "{state}");
}

/// Home Assistant logs an error for each entity whose state becomes empty.
#[tokio::test]
async fn discovery_goes_before_the_states() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let other = Simulator::plug(Profile::P110).seed(2).start().await.unwrap();
    let setup = |devices: &[(&str, SocketAddr)]| {
        let add = |setup: Setup, (id, address): &(&str, SocketAddr)| setup.device(id, *address);
        devices.iter().fold(Setup::new(), add)
    };
    let both = [("plug", plug.address()), ("other", other.address())];
    let bridge = setup(&both).start().await;
    bridge.available("plug").await;
    bridge.available("other").await;
    let config = "homeassistant/device/tapo2mqtt_plug/config";
    bridge.probe.expect(config, |payload| !payload.is_empty()).await;
    bridge.probe.forget();
    let answer = bridge.reload(&setup(&both[1..])).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    bridge.probe.expect(config, str::is_empty).await;
    let seen = Instant::now();
    bridge.probe.expect("tapo2mqtt/plug", str::is_empty).await;
    assert!(
        seen.elapsed() >= Duration::from_millis(1500),
        "{:?}",
        seen.elapsed()
    );
    bridge
        .expect("bridge/devices", |list| list[0]["id"] == "other")
        .await;
}

#[tokio::test]
async fn a_device_deleted_in_home_assistant_stays_deleted() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    bridge.barrier().await;
    let discovered = bridge.broker.retained_under("homeassistant/#").await;
    let config = discovered.keys().find(|topic| topic.contains("plug"));
    let config = config.expect("the plug is announced").clone();

    bridge.probe.publish_retained(&config, "").await;
    bridge
        .expect("bridge/event", |event| event["type"] == "discovery_removed")
        .await;
    bridge.probe.forget();
    // Neither a change nor a request that concerns others brings it back.
    bridge.set("plug", "t", json!({ "state": "TOGGLE" })).await;
    bridge.barrier().await;
    assert_eq!(bridge.broker.retained(&config).await, None);

    bridge
        .publish("bridge/request/homeassistant/rediscover", "")
        .await;
    bridge.probe.expect(&config, |payload| !payload.is_empty()).await;
    assert_eq!(
        bridge.broker.retained(&config).await,
        discovered.get(&config).cloned()
    );
}
