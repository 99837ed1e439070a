//! The payloads of typical devices, compared with the files in `golden/`. `UPDATE_GOLDEN=1` rewrites them.

#![allow(clippy::unwrap_used)] // Also in the helpers here: a failure fails the test.

mod devices;

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use ha_discovery::{DevicePayload, Layout, Platform, Published, written_out};
use serde_json::{Value, json};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.json"))
}

fn assert_golden(name: &str, payload: &DevicePayload) {
    let actual = serde_json::to_string_pretty(payload).unwrap() + "\n";
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path(name), &actual).unwrap();
    }
    let expected = fs::read_to_string(path(name)).unwrap();
    // What is sent is shorter and means the same.
    let sent = payload.to_json();
    assert_eq!(
        written_out(serde_json::from_str(&sent).unwrap()),
        json!(payload),
        "{name}"
    );
    assert!(sent.len() < json!(payload).to_string().len() * 5 / 6, "{name}");
    assert_eq!(
        actual, expected,
        "{name}.json; UPDATE_GOLDEN=1 rewrites it when the change is meant"
    );
}

fn json_of(payload: &DevicePayload) -> Value {
    serde_json::to_value(payload).unwrap()
}

#[test]
fn plug_with_energy() {
    assert_golden("plug_with_energy", &devices::plug_with_energy());
}

#[test]
fn plug_without_energy() {
    assert_golden("plug_without_energy", &devices::plug());
}

#[test]
fn strip_flat() {
    assert_golden("strip_flat", &devices::strip(Layout::Flat));
}

#[test]
fn strip_as_child_devices() {
    assert_golden("strip_child_devices", &devices::strip(Layout::ChildDevices));
}

#[test]
fn bridge() {
    assert_golden("bridge", &devices::bridge());
}

#[test]
fn group() {
    assert_golden("group", &devices::group());
}

/// Both layouts must lead to the same entities, or a user who changes it loses history.
#[test]
fn both_layouts_announce_the_same_entities() {
    let flat = devices::strip(Layout::Flat);
    let nested = devices::strip(Layout::ChildDevices);
    assert_eq!(flat.announces(), nested.announces());
    assert_eq!(flat.reads(), nested.reads());
    let read_back = |payload: &DevicePayload| Published::parse(payload.to_json().as_bytes()).unwrap();
    assert_eq!(read_back(&flat), read_back(&nested));
    assert_eq!(read_back(&flat).components, flat.announces());
    assert_eq!(read_back(&flat).origin, "tapo2mqtt");
    assert_eq!(
        read_back(&flat).availability,
        ["tapo2mqtt/bridge/state", "tapo2mqtt/strip/availability"]
    );
}

#[test]
fn a_component_is_keyed_by_its_unique_id() {
    for payload in devices::all() {
        for component in components(&json_of(&payload)) {
            assert_eq!(component.0, component.1["unique_id"]);
        }
    }
}

/// A name left out is replaced by a name of the platform (`MQTT Switch`) unless a device class is there.
#[test]
fn a_name_is_left_out_only_beside_a_device_class() {
    for payload in devices::all() {
        for (key, component) in components(&json_of(&payload)) {
            let named = component.get("name").is_some();
            assert!(named || component.get("device_class").is_some(), "{key}");
        }
    }
}

#[test]
fn what_templates_read_is_known() {
    let reads: BTreeSet<_> = devices::plug()
        .reads()
        .into_iter()
        .map(|it| (it.topic, it.pointer))
        .collect();
    let expected = [
        ("tapo2mqtt/bridge/state", "state"),
        ("tapo2mqtt/heater", "error"),
        ("tapo2mqtt/heater", "on_since"),
        ("tapo2mqtt/heater", "overheated"),
        ("tapo2mqtt/heater", "rssi"),
        ("tapo2mqtt/heater", "state"),
        ("tapo2mqtt/heater", "status"),
        ("tapo2mqtt/heater/availability", "state"),
    ];
    let expected = expected.map(|(topic, key)| (topic.to_owned(), format!("/{key}")));
    assert_eq!(reads, BTreeSet::from(expected));
}

/// The keys that `reads` returns are all there are: the templates in the JSON name no other, except those of an object
/// that may be null.
#[test]
fn no_template_reads_a_key_in_secret() {
    for payload in devices::all() {
        let listed: BTreeSet<_> = payload
            .reads()
            .into_iter()
            .map(|it| it.pointer.trim_start_matches('/').replace('/', "."))
            .collect();
        let text = payload.to_json();
        let seen: BTreeSet<_> = text
            .split("value_json.")
            .skip(1)
            .map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
                rest[..end.unwrap_or(rest.len())].to_owned()
            })
            .filter(|key| key != "error.message")
            .collect();
        assert_eq!(listed, seen);
        assert!(!text.contains("value_json["));
    }
}

#[test]
fn vanished_components_are_sent_with_only_their_platform() {
    let announced = devices::plug_with_energy().announces();
    let mut payload = devices::plug();
    payload.remove_vanished(announced.clone());
    let json = json_of(&payload);
    assert_eq!(
        json["components"]["tapo2mqtt_heater_power"],
        json!({"platform": "sensor"})
    );
    assert!(
        json["components"]["tapo2mqtt_heater_switch"]
            .get("command_topic")
            .is_some()
    );
    let named: BTreeSet<_> = json["components"].as_object().unwrap().keys().cloned().collect();
    let expected: BTreeSet<_> = announced
        .into_keys()
        .chain(devices::plug().announces().into_keys())
        .collect();
    assert_eq!(named, expected);
}

/// Home Assistant rejects a payload in which a component id is at two places.
#[test]
fn a_component_that_came_back_is_not_removed() {
    let mut payload = devices::strip(Layout::ChildDevices);
    payload
        .removed
        .insert("tapo2mqtt_strip_o1_switch".to_owned(), Platform::Switch);
    assert_eq!(json_of(&payload), json_of(&devices::strip(Layout::ChildDevices)));
}

/// Home Assistant would make one device of two whose MAC addresses were exchanged.
#[test]
fn a_device_is_identified_by_its_node_alone() {
    for payload in devices::all() {
        let device = &json_of(&payload)["device"];
        assert_eq!(device["identifiers"], json!([payload.node.to_string()]));
        assert!(device.get("connections").is_none());
    }
}

/// The outlets of a strip that lost one: its entities are removed at the top, where any may be.
#[test]
fn a_vanished_outlet_is_removed_in_either_layout() {
    for layout in [Layout::Flat, Layout::ChildDevices] {
        let announced = devices::strip(layout).announces();
        let mut payload = devices::strip(layout);
        payload.children.remove(&2);
        payload.remove_vanished(announced);
        assert_eq!(
            json_of(&payload)["components"]["tapo2mqtt_strip_o2_switch"],
            json!({"platform": "switch"})
        );
    }
}

/// A device's name is not repeated in the names of its entities, nor an `object_id` sent.
#[test]
fn names_do_not_repeat_the_device() {
    for payload in devices::all() {
        let json = json_of(&payload);
        let device = json["device"]["name"].as_str().unwrap();
        for (key, component) in components(&json) {
            if let Some(name) = component["name"].as_str() {
                assert!(!name.contains(device), "{key}: {name}");
            }
            assert!(component.get("object_id").is_none());
        }
    }
}

fn components(payload: &Value) -> Vec<(String, Value)> {
    let nested = payload["child_devices"].as_array().into_iter().flatten();
    std::iter::once(payload)
        .chain(nested)
        .filter_map(|it| it["components"].as_object())
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
