//! The JSON of what connects to a hub, read as leniently as that of plugs.

use std::collections::BTreeMap;

use planner::{
    DeviceValue,
    sensor::{Scale, SensorValue},
};
use serde_json::Value;

use super::readings::{children, nickname, text};
use crate::domain::hub_child::Thermostat;

/// One entry of the list of a hub.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::devices) struct ChildReading {
    pub(in crate::devices) id: String,
    pub(in crate::devices) nickname: Option<String>,
    pub(in crate::devices) model: Option<String>,
    pub(in crate::devices) firmware: Option<String>,
    pub(in crate::devices) hardware: Option<String>,
    /// Whether the hub reaches it. What it measures is old otherwise, and left out here.
    pub(in crate::devices) is_online: bool,
    pub(in crate::devices) values: BTreeMap<DeviceValue, Option<SensorValue>>,
    pub(in crate::devices) thermostat: Option<Thermostat>,
    /// Whether its log has presses.
    pub(in crate::devices) is_button: bool,
    /// The scale of its temperatures on the wire.
    pub(in crate::devices) scale: Scale,
}

impl ChildReading {
    /// All entries of a list that have an id.
    pub(in crate::devices) fn list(list: &Value) -> Vec<Self> {
        children(list).filter_map(Self::of).take(CHILDREN_MAX).collect()
    }

    /// One entry, or the `get_device_info` of one child.
    pub(in crate::devices) fn of(info: &Value) -> Option<Self> {
        let scale = match info.get("temp_unit").and_then(Value::as_str) {
            Some("fahrenheit") => Scale::Fahrenheit,
            _ => Scale::Celsius,
        };
        let is_online = info.get("status").and_then(Value::as_str) == Some("online");
        let value = |value: DeviceValue| {
            let read = read(info, value, scale)?;
            Some((value, read.filter(|_| is_online)))
        };
        Some(Self {
            id: text(info, "device_id")?,
            nickname: nickname(info),
            model: text(info, "model"),
            firmware: text(info, "fw_ver"),
            hardware: text(info, "hw_ver"),
            is_online,
            values: DeviceValue::ALL.into_iter().filter_map(value).collect(),
            thermostat: thermostat(info, scale, is_online),
            is_button: text(info, "category").is_some_and(|category| category.ends_with(".button")),
            scale,
        })
    }
}

/// `None` if the device does not have this value, `Some(None)` if it does not know it.
#[allow(clippy::option_option)] // The three states that JSON has.
fn read(info: &Value, value: DeviceValue, scale: Scale) -> Option<Option<SensorValue>> {
    match value {
        DeviceValue::Temperature => info.get("current_temp").map(|raw| celsius(raw, scale)),
        DeviceValue::TargetTemperature => info.get("target_temp").map(|raw| celsius(raw, scale)),
        DeviceValue::Humidity => info.get("current_humidity").map(percent),
        DeviceValue::Battery => info.get("battery_percentage").map(percent),
        DeviceValue::Motion => info.get("detected").map(boolean),
        DeviceValue::Open => info.get("open").map(boolean),
        DeviceValue::WaterLeak => info.get("water_leak_status").map(|raw| match raw.as_str()? {
            "normal" | "water_dry" => Some(SensorValue::Boolean(false)),
            "water_leak" => Some(SensorValue::Boolean(true)),
            _ => None,
        }),
        DeviceValue::BatteryLow => {
            let raw = info.get("at_low_battery").or_else(|| info.get("is_low"));
            raw.map(boolean)
        }
        DeviceValue::Rssi => info.get("rssi").map(|raw| number(raw).map(SensorValue::Number)),
    }
}

/// A temperature to a tenth of a degree. `current_temp_exception` is not its validity: it is how far the value is outside
/// of the range that the user finds comfortable. A sensor without a value reports -1000.
fn celsius(raw: &Value, scale: Scale) -> Option<SensorValue> {
    let celsius = scale.temperature(number(raw)?).celsius();
    let tenths = (celsius * 10.0).round() / 10.0;
    POSSIBLE.contains(&tenths).then_some(SensorValue::Number(tenths))
}

fn percent(raw: &Value) -> Option<SensorValue> {
    let percent = number(raw)?;
    (0.0..=100.0)
        .contains(&percent)
        .then_some(SensorValue::Number(percent))
}

fn boolean(raw: &Value) -> Option<SensorValue> {
    raw.as_bool().map(SensorValue::Boolean)
}

fn number(raw: &Value) -> Option<f64> {
    raw.as_f64().filter(|number| number.is_finite())
}

/// A device with a target is a thermostat.
fn thermostat(info: &Value, scale: Scale, is_online: bool) -> Option<Thermostat> {
    info.get("target_temp")?;
    let limit = |key, otherwise| match info.get(key).and_then(|raw| celsius(raw, scale)) {
        Some(SensorValue::Number(celsius)) => celsius,
        _ => otherwise,
    };
    let frost = info.get("frost_protection_on").and_then(Value::as_bool);
    let states = info.get("trv_states").and_then(Value::as_array);
    let is_heating = states.map(|states| states.iter().any(|state| state == "heating"));
    Some(Thermostat {
        is_on: frost.map(|frost| !frost).filter(|_| is_online),
        is_heating: is_heating.filter(|_| is_online),
        min: limit("min_control_temp", LOWEST_TARGET),
        max: limit("max_control_temp", HIGHEST_TARGET),
    })
}

/// A hub takes 64.
const CHILDREN_MAX: usize = 64;
/// What a sensor in or around a house can measure, °C.
const POSSIBLE: std::ops::RangeInclusive<f64> = -60.0..=100.0;
/// The limits of a KE100, °C.
const LOWEST_TARGET: f64 = 5.0;
const HIGHEST_TARGET: f64 = 30.0;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn child(fields: Value) -> ChildReading {
        let mut info = json!({"device_id": "802E", "status": "online", "model": "T315", "nickname": "SGFsbA==", "rssi": -38});
        if let (Value::Object(info), Value::Object(fields)) = (&mut info, fields) {
            info.extend(fields);
        }
        ChildReading::of(&info).unwrap()
    }

    /// `-` if it does not have the value, `null` if it does not know it.
    fn value(fields: Value, value: DeviceValue) -> String {
        match child(fields).values.get(&value) {
            None => "-".to_owned(),
            Some(None) => "null".to_owned(),
            Some(Some(value)) => value.to_string(),
        }
    }

    #[test]
    fn temperatures_are_celsius_whatever_the_app_shows() {
        let temperature = |raw: Value, unit: &str| {
            let fields = json!({"current_temp": raw, "temp_unit": unit, "current_temp_exception": -8.2});
            value(fields, DeviceValue::Temperature)
        };
        assert_eq!(temperature(json!(21.3), "celsius"), "21.3");
        assert_eq!(temperature(json!(70.3), "fahrenheit"), "21.3");
        assert_eq!(temperature(json!(-4), "fahrenheit"), "-20");
        for none in [json!(-1000), json!(null), json!("warm")] {
            assert_eq!(temperature(none, "celsius"), "null");
        }
    }

    #[test]
    fn each_model_has_its_values() {
        for (fields, of, expected) in [
            (json!({"current_humidity": 62}), DeviceValue::Humidity, "62"),
            (json!({"current_humidity": 130}), DeviceValue::Humidity, "null"),
            (json!({"detected": true}), DeviceValue::Motion, "true"),
            (json!({"open": false}), DeviceValue::Open, "false"),
            (
                json!({"water_leak_status": "normal"}),
                DeviceValue::WaterLeak,
                "false",
            ),
            (
                json!({"water_leak_status": "water_dry"}),
                DeviceValue::WaterLeak,
                "false",
            ),
            (
                json!({"water_leak_status": "water_leak"}),
                DeviceValue::WaterLeak,
                "true",
            ),
            (
                json!({"water_leak_status": "novel"}),
                DeviceValue::WaterLeak,
                "null",
            ),
            (json!({"at_low_battery": true}), DeviceValue::BatteryLow, "true"),
            // A T310 does not report it.
            (json!({}), DeviceValue::Battery, "-"),
        ] {
            assert_eq!(value(fields.clone(), of), expected, "{fields}");
        }
        let thermostat = json!({
            "target_temp": 21.5, "frost_protection_on": false, "trv_states": ["heating"], "min_control_temp": 5,
            "max_control_temp": 30,
        });
        assert_eq!(value(thermostat.clone(), DeviceValue::TargetTemperature), "21.5");
        let read = child(thermostat).thermostat.unwrap();
        assert_eq!((read.is_on, read.is_heating), (Some(true), Some(true)));
        assert!((5.0..5.1).contains(&read.min) && (30.0..30.1).contains(&read.max));
    }

    #[test]
    fn what_is_offline_is_unknown() {
        let offline =
            child(json!({"status": "offline", "current_temp": 21.3, "target_temp": 20, "trv_states": []}));
        assert!(!offline.is_online && offline.values.values().all(Option::is_none));
        assert!(offline.values.contains_key(&DeviceValue::Temperature));
        assert_eq!(offline.thermostat.unwrap().is_heating, None);
    }

    #[test]
    fn an_entry_without_an_id_is_left_out() {
        let list = json!({"child_device_list": [{"model": "T315"}, {"device_id": "802E"}, 7, null]});
        assert_eq!(ChildReading::list(&list).len(), 1);
        assert_eq!(ChildReading::list(&json!([])), []);
    }
}
