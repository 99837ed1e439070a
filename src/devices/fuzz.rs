//! No answer of a device makes the worker panic.

use jiff::{SignedDuration, Timestamp};
use planner::{Now, Steady};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    client::components::Components,
    client::discovery::Discovered,
    client::readings::{DeviceReading, OutletReading, TEXT_MAX},
};
use crate::devices::state::DeviceState;
use crate::domain::devices::DeviceConfig;
use crate::domain::report::Kind;
use test_inputs;

const KEYS: &[&str] = &[
    "device_id",
    "model",
    "fw_ver",
    "hw_ver",
    "mac",
    "nickname",
    "rssi",
    "device_on",
    "on_time",
    "position",
    "category",
    "overheat_status",
    "overheated",
    "power_protection_status",
    "child_device_list",
    "sum",
    "start_index",
    "result",
    "device_model",
    "mgt_encrypt_schm",
    "http_port",
    "encrypt_type",
];

fn device() -> Value {
    json!({
        "device_id": "8022", "model": "P110", "fw_ver": "1.4.0 Build 1", "hw_ver": "1.0", "mac": "AA-BB-CC-00-11-22",
        "nickname": "SGVhdGVy", "rssi": -51, "device_on": true, "on_time": 90, "position": 1,
        "overheat_status": "normal", "power_protection_status": "normal"
    })
}

/// The values of a device with some of them replaced, or any JSON.
fn readings() -> impl Strategy<Value = Value> {
    let replaced = prop::collection::vec((prop::sample::select(KEYS), test_inputs::json(KEYS)), 0..4);
    let nearly = replaced.prop_map(|replaced| {
        let mut device = device();
        for (key, value) in replaced {
            device[key] = value;
        }
        device
    });
    prop_oneof![nearly, test_inputs::json(KEYS)]
}

proptest! {
    #[test]
    fn any_reading_is_taken_without_a_panic(
        devices in prop::collection::vec(readings(), 1..4),
        children in prop::collection::vec(readings(), 0..5),
        components in prop::collection::vec(".{0,8}", 0..3),
        second in any::<i32>(),
    ) {
        let config = DeviceConfig::new("strip".parse().unwrap(), "127.0.0.1".to_owned());
        let mut known = DeviceState::default();
        let now = Now {
            wall: Timestamp::from_second(i64::from(second)).unwrap(),
            steady: Steady::at(jiff::Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second.into())),
        };
        let list = OutletReading::children(&json!({ "child_device_list": children }));
        for device in &devices {
            known.components = Components::new(&components);
            known.identify(&config, Kind::Strip, &DeviceReading::of(device), None);
            known.apply_reading(&config, Kind::Plug, &[OutletReading::of(device)], now);
            known.apply_reading(&config, Kind::Strip, &list, now);
            known.apply_reading(&config, Kind::Strip, &OutletReading::children(device), now);
            known.apply_child_reading(&config, "8022", &OutletReading::of(device), now);
        }
        let nickname = known.identity.as_ref().and_then(|identity| identity.nickname.clone());
        let names = known.outlets.iter().filter_map(|known| known.outlet.name.clone());
        for name in names.chain(nickname) {
            prop_assert!(name.chars().count() <= TEXT_MAX && !name.contains(char::is_control), "{name:?}");
        }
    }

    #[test]
    fn any_discovery_answer_is_taken_without_a_panic(message in test_inputs::json(KEYS)) {
        let found = Discovered::of([127, 0, 0, 1].into(), &message);
        prop_assert!(found.address().starts_with("127.0.0.1"));
    }
}
