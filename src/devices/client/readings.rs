//! The JSON of devices, read leniently: a missing field, a field of another type or an unknown value
//! affects no other value.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::domain::{
    mac::mac,
    report::{Kind, Protection},
};
use planner::Power;

/// The values of the device itself in `get_device_info`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::devices) struct DeviceReading {
    pub(in crate::devices) device_id: Option<String>,
    pub(in crate::devices) model: Option<String>,
    pub(in crate::devices) firmware: Option<String>,
    pub(in crate::devices) hardware: Option<String>,
    pub(in crate::devices) mac: Option<String>,
    pub(in crate::devices) nickname: Option<String>,
    /// dBm.
    pub(in crate::devices) rssi: Option<i64>,
    /// The IANA name of the zone of its clock.
    pub(in crate::devices) zone: Option<String>,
}

/// The values of one relay: in `get_device_info` of a plug, or in one entry of the list of a strip.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::devices) struct OutletReading {
    /// The child's own id; `None` on a plug.
    pub(in crate::devices) child_id: Option<String>,
    /// 1..n as printed on the strip; the list is not in this order.
    pub(in crate::devices) position: Option<u8>,
    pub(in crate::devices) nickname: Option<String>,
    pub(in crate::devices) power: Option<Power>,
    /// Seconds since the relay closed.
    pub(in crate::devices) on_time: Option<u64>,
    pub(in crate::devices) overheat: Option<Protection>,
    pub(in crate::devices) overload: Option<Protection>,
    pub(in crate::devices) overcurrent: Option<Protection>,
    pub(in crate::devices) charging: Option<String>,
    pub(in crate::devices) auto_off: Option<String>,
    /// Seconds until the auto-off setting switches off.
    pub(in crate::devices) auto_off_in: Option<u64>,
}

impl DeviceReading {
    pub(in crate::devices) fn of(info: &Value) -> Self {
        Self {
            device_id: text(info, "device_id"),
            model: text(info, "model"),
            firmware: text(info, "fw_ver"),
            hardware: text(info, "hw_ver"),
            mac: text(info, "mac").as_deref().and_then(mac),
            nickname: nickname(info),
            rssi: info.get("rssi").and_then(Value::as_i64),
            zone: text(info, "region"),
        }
    }
}

impl OutletReading {
    pub(in crate::devices) fn of(info: &Value) -> Self {
        Self {
            child_id: text(info, "device_id"),
            position: info
                .get("position")
                .and_then(Value::as_u64)
                .and_then(|p| u8::try_from(p).ok()),
            nickname: nickname(info),
            power: info.get("device_on").and_then(Value::as_bool).map(Power::from),
            on_time: info.get("on_time").and_then(Value::as_u64),
            overheat: overheat(info),
            overload: protection(info, "power_protection_status", "overloaded", &["normal"]),
            // `lifted` is in the tapo crate's list (0.12.2); no dump shows what it means.
            overcurrent: protection(info, "overcurrent_status", "overcurrent", &["normal"]),
            charging: word(info, "charging_status"),
            auto_off: word(info, "auto_off_status"),
            auto_off_in: info.get("auto_off_remain_time").and_then(Value::as_u64),
        }
    }

    /// The outlets of a strip, in the order of their positions. Children that are no outlets (the
    /// night light of a P306) are skipped; a child without a position comes after those with one.
    pub(in crate::devices) fn children(list: &Value) -> Vec<Self> {
        let children = list.get("child_device_list").and_then(Value::as_array);
        let mut outlets: Vec<Self> = children
            .into_iter()
            .flatten()
            .filter(|child| is_outlet(child))
            .map(Self::of)
            .filter(|outlet| outlet.child_id.is_some())
            .collect();
        outlets.sort_by_key(|outlet| (outlet.position.is_none(), outlet.position));
        outlets
    }
}

/// Which handler a device needs, from its component list and not from its model's name.
pub(in crate::devices) fn kind(components: &[String]) -> Kind {
    if components.iter().any(|id| id == "control_child") {
        Kind::Strip
    } else {
        Kind::Plug
    }
}

/// A child that has a relay. `device_on` alone would also match a light.
fn is_outlet(child: &Value) -> bool {
    let category = child.get("category").and_then(Value::as_str);
    child.get("device_on").is_some() && category.is_none_or(|category| category.contains("plug"))
}

/// Firmware before 1.3 has `overheated: bool`, later ones `overheat_status: "normal"`.
fn overheat(info: &Value) -> Option<Protection> {
    let old = info.get("overheated").and_then(Value::as_bool);
    let old = old.map(|tripped| Protection {
        word: if tripped { "overheated" } else { "normal" }.to_owned(),
        tripped: Some(tripped),
    });
    old.or_else(|| protection(info, "overheat_status", "overheated", &["normal", "cool_down"]))
}

/// A protection whose words are known in part.
fn protection(info: &Value, key: &str, tripped: &str, well: &[&str]) -> Option<Protection> {
    let word = word(info, key)?;
    let known = word == tripped || well.contains(&word.as_str());
    let tripped = known.then(|| word == tripped);
    Some(Protection { word, tripped })
}

/// A word of a device, whatever it is: one line of a length that can be shown.
fn word(info: &Value, key: &str) -> Option<String> {
    let word = text(info, key)?;
    Some(word.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect())
}

fn text(info: &Value, key: &str) -> Option<String> {
    info.get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// Names are base64 on the wire. One that is not stays as it is.
fn nickname(info: &Value) -> Option<String> {
    let raw = text(info, "nickname")?;
    let decoded = STANDARD
        .decode(&raw)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let name: String = decoded
        .unwrap_or(raw)
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_MAX)
        .collect();
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Longer names are cut: Home Assistant shows them in one line.
const NAME_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn plug() -> Value {
        json!({
            "device_id": "8022", "model": "P110", "fw_ver": "1.4.0 Build 1", "hw_ver": "1.0", "mac": "AA-BB-CC-00-11-22",
            "nickname": "SGVhdGVy", "rssi": -51, "device_on": true, "on_time": 90,
            "overheat_status": "normal", "power_protection_status": "normal", "overcurrent_status": "normal",
            "charging_status": "finished", "auto_off_status": "on", "auto_off_remain_time": 60
        })
    }

    #[test]
    fn a_plug_is_read() {
        let device = DeviceReading::of(&plug());
        assert_eq!(device.mac.as_deref(), Some("aa:bb:cc:00:11:22"));
        assert_eq!(
            (device.nickname.as_deref(), device.rssi),
            (Some("Heater"), Some(-51))
        );
        let outlet = OutletReading::of(&plug());
        assert_eq!((outlet.power, outlet.on_time), (Some(Power::On), Some(90)));
        for protection in [&outlet.overheat, &outlet.overload, &outlet.overcurrent] {
            assert_eq!(protection.as_ref().unwrap().tripped, Some(false));
        }
        assert_eq!(outlet.charging.as_deref(), Some("finished"));
        assert_eq!(
            (outlet.auto_off.as_deref(), outlet.auto_off_in),
            (Some("on"), Some(60))
        );
    }

    #[test]
    fn a_missing_or_mistyped_field_leaves_every_other_value() {
        let whole = plug();
        for key in whole.as_object().unwrap().keys() {
            for broken in [None, Some(json!(null)), Some(json!([1])), Some(json!({"a": 1}))] {
                let mut info = whole.clone();
                match broken {
                    None => drop(info.as_object_mut().unwrap().remove(key)),
                    Some(value) => info[key] = value,
                }
                let (device, outlet) = (DeviceReading::of(&info), OutletReading::of(&info));
                let displaced = usize::from(device.model.is_none())
                    + usize::from(device.firmware.is_none())
                    + usize::from(device.mac.is_none())
                    + usize::from(device.rssi.is_none())
                    + usize::from(device.nickname.is_none())
                    + usize::from(device.hardware.is_none())
                    + usize::from(outlet.power.is_none())
                    + usize::from(outlet.on_time.is_none())
                    + usize::from(outlet.overheat.is_none())
                    + usize::from(outlet.overload.is_none())
                    + usize::from(outlet.overcurrent.is_none())
                    + usize::from(outlet.charging.is_none())
                    + usize::from(outlet.auto_off.is_none())
                    + usize::from(outlet.auto_off_in.is_none())
                    + usize::from(device.device_id.is_none());
                assert_eq!(displaced, 1, "{key}");
            }
        }
    }

    #[test]
    fn old_firmware_has_overheated_and_unknown_words_pass_through() {
        let overheat = |info| OutletReading::of(&info).overheat.unwrap();
        assert_eq!(overheat(json!({"overheated": true})).tripped, Some(true));
        for (word, tripped) in [
            ("overheated", Some(true)),
            ("normal", Some(false)),
            ("cool_down", Some(false)),
            ("novel", None),
        ] {
            let protection = overheat(json!({ "overheat_status": word }));
            assert_eq!((protection.word.as_str(), protection.tripped), (word, tripped));
        }
        let overload = OutletReading::of(&json!({"power_protection_status": "novel"})).overload;
        assert_eq!(overload.unwrap().tripped, None);
    }

    #[test]
    fn children_are_ordered_by_position_and_lights_are_skipped() {
        let list = json!({"child_device_list": [
            {"device_id": "c2", "position": 2, "device_on": false, "category": "plug.powerstrip.sub-plug"},
            {"device_id": "c1", "position": 1, "device_on": true},
            {"device_id": "light", "position": 5, "device_on": true, "category": "light.nightlight"},
            {"device_id": "hub", "position": 6},
            {"position": 3, "device_on": true},
        ]});
        let ids: Vec<_> = OutletReading::children(&list)
            .into_iter()
            .filter_map(|o| o.child_id)
            .collect();
        assert_eq!(ids, ["c1", "c2"]);
    }

    #[test]
    fn names_are_decoded_cut_and_cleaned() {
        let name = |raw: &str| nickname(&json!({ "nickname": raw }));
        assert_eq!(name(&STANDARD.encode("Mat\u{7}te ")), Some("Matte".to_owned()));
        assert_eq!(name("not base64!"), Some("not base64!".to_owned()));
        assert_eq!(name(""), None);
        assert_eq!(name(&STANDARD.encode("x".repeat(200))).unwrap().len(), NAME_MAX);
    }

    proptest! {
        #[test]
        fn no_json_panics(text in r#"[\[\]{}":,a-z0-9_ .-]{0,60}"#, position in any::<i64>()) {
            let value = serde_json::from_str(&text).unwrap_or_else(|_| json!({"position": position, "device_on": 1}));
            DeviceReading::of(&value);
            OutletReading::of(&value);
            OutletReading::children(&json!({"child_device_list": [value.clone()]}));
            OutletReading::children(&value);
        }
    }
}
