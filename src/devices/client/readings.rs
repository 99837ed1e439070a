//! The JSON of devices, read leniently: a missing field, a field of another type or an unknown value
//! affects no other value.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::settings_on_wire::power_on_behavior;
use crate::domain::{
    device_settings::PowerOnBehavior,
    mac::mac,
    report::{DeviceRole, Kind, Protection},
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
    pub(in crate::devices) role: DeviceRole,
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
    pub(in crate::devices) power_on: Option<PowerOnBehavior>,
    /// Percent.
    pub(in crate::devices) brightness: Option<u8>,
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
            role: role(info),
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
            charging: text(info, "charging_status"),
            auto_off: text(info, "auto_off_status"),
            auto_off_in: info.get("auto_off_remain_time").and_then(Value::as_u64),
            power_on: power_on_behavior(info),
            brightness: info
                .get("brightness")
                .and_then(Value::as_u64)
                .and_then(|percent| u8::try_from(percent).ok())
                .filter(|percent| (1..=100).contains(percent)),
        }
    }

    /// The outlets of a strip, in the order of their positions. Children that are no outlets (the
    /// night light of a P306) are skipped; a child without a position comes after those with one. No two outlets have one
    /// position, and none is beyond the largest.
    pub(in crate::devices) fn children(list: &Value) -> Vec<Self> {
        let mut outlets: Vec<Self> = children(list)
            .filter(|child| is_outlet(child))
            .map(Self::of)
            .filter(|outlet| outlet.child_id.is_some())
            .collect();
        for outlet in &mut outlets {
            outlet.position = outlet
                .position
                .filter(|position| (1..=POSITION_MAX).contains(position));
        }
        outlets.sort_by_key(|outlet| (outlet.position.is_none(), outlet.position));
        outlets.truncate(POSITION_MAX.into());
        for (nth, outlet) in (1..).zip(&mut outlets) {
            outlet.position.get_or_insert(nth);
        }
        outlets.sort_by_key(|outlet| outlet.position);
        outlets.dedup_by_key(|outlet| outlet.position);
        outlets
    }
}

/// Whether a device has a relay that the bridge can switch: a chime or a fan switch has none. What it answers now may
/// be incomplete, so that a device that calls itself a plug is one.
pub(in crate::devices) fn has_outlets(info: &Value, list: Option<&Value>) -> bool {
    let named_plug = info
        .get("type")
        .and_then(Value::as_str)
        .is_none_or(|name| name.contains("PLUG"));
    match list {
        None => named_plug || info.get("device_on").is_some(),
        Some(list) => children(list).any(is_outlet) || named_plug && children(list).next().is_none(),
    }
}

pub(super) fn children(list: &Value) -> impl Iterator<Item = &Value> {
    let children = list.get("child_device_list").and_then(Value::as_array);
    children.into_iter().flatten()
}

/// By the type that a device names: `SMART.KASASWITCH`, `SMART.TAPOBULB`...
fn role(info: &Value) -> DeviceRole {
    let name = text(info, "type").unwrap_or_default();
    if name.contains("BULB") {
        DeviceRole::Light
    } else if name.contains("SWITCH") && !name.contains("PLUG") {
        DeviceRole::WallSwitch
    } else {
        DeviceRole::Outlet
    }
}

/// What a device is, from what it says of itself and not from its model's name. Without a component list, a device that has
/// a relay is a plug.
pub(in crate::devices) fn kind(info: &Value, components: Option<&[String]>) -> Kind {
    let named = info.get("type").and_then(Value::as_str);
    let is_strip = components.map_or_else(
        || info.get("device_on").is_none(),
        |components| components.iter().any(|id| id == "control_child"),
    );
    match named {
        Some(named) if named.ends_with("HUB") => Kind::Hub,
        _ if is_strip => Kind::Strip,
        _ => Kind::Plug,
    }
}

/// A child that has a relay, by its category: an answer may leave `device_on` out. That alone would also match a light:
/// the night light of a P306 is a `plug.powerstrip.sub-bulb`, the dimmer of a KS240 a `kasa.switch.outlet.sub-dimmer`.
fn is_outlet(child: &Value) -> bool {
    let category = child.get("category").and_then(Value::as_str);
    let kind = category.and_then(|category| category.rsplit('.').next());
    kind.map_or_else(|| child.get("device_on").is_some(), |kind| kind.contains("plug"))
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
    let word = text(info, key)?;
    let known = word == tripped || well.contains(&word.as_str());
    let tripped = known.then(|| word == tripped);
    Some(Protection { word, tripped })
}

/// The names of what a device or a child can do.
pub(in crate::devices) fn component_ids(answer: &Value) -> Vec<String> {
    let list = answer.get("component_list").and_then(Value::as_array);
    let ids = list
        .into_iter()
        .flatten()
        .filter_map(|component| component.get("id")?.as_str());
    ids.filter(|id| id.len() <= TEXT_MAX).map(str::to_owned).collect()
}

pub(super) fn text(info: &Value, key: &str) -> Option<String> {
    info.get(key).and_then(Value::as_str).and_then(line)
}

/// Names are base64 on the wire. One that is not stays as it is.
pub(super) fn nickname(info: &Value) -> Option<String> {
    let raw = info.get("nickname").and_then(Value::as_str)?;
    let decoded = STANDARD
        .decode(raw)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    line(decoded.as_deref().unwrap_or(raw))
}

/// A text of a device, whatever it is: one line of a length that can be shown, published and kept. `None` if it is empty.
pub(in crate::devices) fn line(text: &str) -> Option<String> {
    line_of(text, TEXT_MAX)
}

/// The same with at most so many characters.
pub(in crate::devices) fn line_of(text: &str, longest: usize) -> Option<String> {
    let line: String = text.chars().filter(|c| !c.is_control()).take(longest).collect();
    Some(line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// Longer texts are cut. The longest that a device needs are its ids, of 42 characters.
pub(in crate::devices) const TEXT_MAX: usize = 64;

/// More outlets than any strip has.
const POSITION_MAX: u8 = 32;

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
            {"device_id": "p306", "position": 5, "device_on": true, "category": "plug.powerstrip.sub-bulb"},
            {"device_id": "ks240", "position": 5, "device_on": true, "category": "kasa.switch.outlet.sub-dimmer"},
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
        assert_eq!(name(&STANDARD.encode("x".repeat(200))).unwrap().len(), TEXT_MAX);
    }

    #[test]
    fn every_text_is_one_short_line() {
        let long = json!("\u{1b}[31m\n".to_owned() + &"x".repeat(1_000_000));
        let mut info = plug();
        for value in info
            .as_object_mut()
            .unwrap()
            .values_mut()
            .filter(|value| value.is_string())
        {
            value.clone_from(&long);
        }
        info["region"] = long;
        let shown = format!("{:?} {:?}", DeviceReading::of(&info), OutletReading::of(&info));
        assert!(
            shown.len() < 3000 && !shown.contains("\\u{1b}") && !shown.contains("\\n"),
            "{} characters",
            shown.len()
        );
    }

    #[test]
    fn a_strip_has_32_outlets_at_most_each_with_a_position() {
        let child = |id: usize, position: Value| json!({"device_id": format!("c{id}"), "position": position, "device_on": true});
        let positions = |children: Vec<Value>| -> Vec<u8> {
            let outlets = OutletReading::children(&json!({ "child_device_list": children }));
            outlets.into_iter().filter_map(|outlet| outlet.position).collect()
        };
        let numbered = (1..=2000).map(|id| child(id, json!(id))).collect();
        assert_eq!(positions(numbered), (1..=32).collect::<Vec<u8>>());
        let unnumbered = (1..=2000).map(|id| child(id, json!(null))).collect();
        assert_eq!(positions(unnumbered), (1..=32).collect::<Vec<u8>>());
        let mixed = [json!(2), json!(2), json!(0), json!(300), json!(1)];
        let mixed = mixed.into_iter().enumerate();
        assert_eq!(
            positions(mixed.map(|(id, position)| child(id, position)).collect()),
            [1, 2, 4, 5]
        );
    }

    #[test]
    fn a_device_without_a_relay_has_no_outlets() {
        let device = |kind: &str| json!({"type": kind, "device_id": "8022"});
        let list = |children: Value| json!({ "child_device_list": children });
        let sensors = list(json!([{"device_id": "c1", "category": "subg.trigger.contact-sensor"}]));
        let fan = list(json!([
            {"device_id": "c1", "device_on": true, "category": "kasa.switch.outlet.sub-fan"},
            {"device_id": "c2", "device_on": true, "category": "kasa.switch.outlet.sub-dimmer"},
        ]));
        let mats =
            list(json!([{"device_id": "c1", "device_on": true, "category": "plug.powerstrip.sub-plug"}]));
        let none = list(json!([]));
        assert!(!has_outlets(&device("SMART.TAPODOORBELL"), Some(&sensors)));
        assert!(!has_outlets(&device("SMART.KASASWITCH"), Some(&fan)));
        assert!(!has_outlets(&device("SMART.TAPOCHIME"), None));
        // What is left out of one answer may be in the next.
        let unread = list(json!([{"device_id": "c1", "category": "plug.powerstrip.sub-plug"}]));
        assert!(has_outlets(&device("SMART.TAPOPLUG"), Some(&unread)));
        assert_eq!(OutletReading::children(&unread).len(), 1);
        assert!(has_outlets(&device("SMART.TAPOPLUG"), Some(&none)));
        assert!(has_outlets(&device("SMART.TAPOPLUG"), None));
        assert!(has_outlets(&device("SMART.TAPOPLUG"), Some(&mats)));
        assert!(has_outlets(
            &json!({"type": "SMART.KASASWITCH", "device_on": true}),
            None
        ));
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
