//! The sensors and thermostats of a hub.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::{SimulatorError, identity::Identity, profile::Component};

/// A model that connects to a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChildModel {
    /// Temperature and humidity, without the charge of its battery.
    T310,
    /// Temperature and humidity, with a display.
    T315,
    /// Motion.
    T100,
    /// Contact of a door or window.
    T110,
    /// Water leak.
    T300,
    /// A button: no values.
    S200B,
    /// A radiator thermostat.
    KE100,
}

impl ChildModel {
    /// Every model.
    pub const ALL: [Self; 7] = [
        Self::T310,
        Self::T315,
        Self::T100,
        Self::T110,
        Self::T300,
        Self::S200B,
        Self::KE100,
    ];

    fn category(self) -> &'static str {
        match self {
            Self::T310 | Self::T315 => "subg.trigger.temp-hmdt-sensor",
            Self::T100 => "subg.trigger.motion-sensor",
            Self::T110 => "subg.trigger.contact-sensor",
            Self::T300 => "subg.trigger.water-leak-sensor",
            Self::S200B => "subg.trigger.button",
            Self::KE100 => "subg.trv",
        }
    }

    /// The fields that others do not have.
    fn own_fields(self) -> Value {
        match self {
            Self::T310 => json!({
                "current_temp": 21.3, "current_temp_exception": 0, "current_humidity": 45,
                "current_humidity_exception": 0, "temp_unit": "celsius",
            }),
            Self::T315 => json!({
                "battery_percentage": 100, "current_temp": 19.8, "current_temp_exception": -0.2,
                "current_humidity": 62, "current_humidity_exception": 2, "temp_unit": "celsius",
            }),
            Self::T100 => json!({ "detected": false }),
            Self::T110 => json!({ "open": false }),
            Self::T300 => json!({
                "battery_percentage": 90, "in_alarm": false, "trigger_timestamp": 0,
                "water_leak_status": "normal",
            }),
            Self::S200B => json!({}),
            Self::KE100 => json!({
                "battery_percentage": 80, "child_protection": false, "current_temp": 19.2,
                "frost_protection_on": false, "location": "", "max_control_temp": 30, "min_control_temp": 5,
                "target_temp": 21.0, "temp_offset": 0, "temp_unit": "celsius", "trv_states": ["heating"],
            }),
        }
    }

    pub(crate) fn components(self) -> &'static [Component] {
        match self {
            Self::T310 | Self::T315 => &[
                ("device", 2),
                ("quick_setup", 3),
                ("trigger_log", 1),
                ("time", 1),
                ("firmware", 1),
                ("battery_detect", 1),
                ("temperature", 1),
                ("humidity", 1),
                ("temp_humidity_record", 1),
                ("report_mode", 1),
            ],
            Self::T100 | Self::T110 | Self::T300 | Self::S200B => &[
                ("device", 2),
                ("quick_setup", 3),
                ("trigger_log", 1),
                ("time", 1),
                ("firmware", 1),
                ("battery_detect", 1),
            ],
            Self::KE100 => &[
                ("device", 2),
                ("quick_setup", 3),
                ("time", 1),
                ("schedule", 2),
                ("frost_protection", 1),
                ("child_protection", 1),
                ("temperature", 1),
                ("temp_control", 1),
                ("firmware", 1),
                ("battery_detect", 1),
                ("temperature_correction", 1),
            ],
        }
    }
}

impl fmt::Display for ChildModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for ChildModel {
    type Err = SimulatorError;

    fn from_str(text: &str) -> Result<Self, SimulatorError> {
        Self::ALL
            .into_iter()
            .find(|model| model.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| SimulatorError::UnknownProfile(text.to_owned()))
    }
}

/// One child, as the hub lists it.
#[derive(Debug)]
pub(crate) struct HubChild {
    pub(crate) model: ChildModel,
    pub(crate) name: String,
    fields: Map<String, Value>,
    /// What happened, the oldest first.
    log: Vec<Value>,
}

impl HubChild {
    pub(crate) fn new(hub: &Identity, number: usize, model: ChildModel, name: String) -> Self {
        let mut fields = Map::new();
        let common = json!({
            "at_low_battery": false,
            "avatar": "",
            "bind_count": 1,
            "category": model.category(),
            "device_id": hub.hub_child_id(number),
            "fw_ver": "1.7.0 Build 230424 Rel.170332",
            "hw_id": hub.hw_id,
            "hw_ver": "1.0",
            "jamming_rssi": -115,
            "jamming_signal_level": 1,
            "mac": "F0A731000000",
            "model": model.to_string(),
            "nickname": STANDARD.encode(&name),
            "oem_id": hub.oem_id,
            "parent_device_id": hub.device_id,
            "region": "UTC",
            "rssi": -50,
            "signal_level": 3,
            "specs": "EU",
            "status": "online",
            "status_follow_edge": false,
            "type": if model == ChildModel::KE100 { "SMART.KASAENERGY" } else { "SMART.TAPOSENSOR" },
        });
        let mut all = vec![common, model.own_fields()];
        if model != ChildModel::KE100 {
            all.push(json!({ "lastOnboardingTimestamp": 1_706_990_901, "report_interval": 16 }));
        }
        for part in all {
            if let Value::Object(part) = part {
                fields.extend(part);
            }
        }
        Self {
            model,
            name,
            fields,
            log: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        self.fields
            .get("device_id")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(crate) fn info(&self) -> Map<String, Value> {
        self.fields.clone()
    }

    /// Changes what it measures, or anything else that it shows.
    pub(crate) fn change(&mut self, fields: Map<String, Value>) {
        self.fields.extend(fields);
    }

    /// Adds an entry to its log, such as `singleClick`. `id` is larger than that of each entry before.
    pub(crate) fn happened(&mut self, id: u64, timestamp: i64, event: &str) {
        let mut entry =
            json!({ "id": id, "eventId": format!("{id:032X}"), "timestamp": timestamp, "event": event });
        if let ("rotation", Value::Object(entry)) = (event, &mut entry) {
            entry.insert("params".to_owned(), json!({ "rotate_deg": 30 }));
        }
        self.log.push(entry);
    }

    pub(crate) fn has_log(&self) -> bool {
        self.model.components().contains(&("trigger_log", 1))
    }

    pub(crate) fn log(&self) -> &[Value] {
        &self.log
    }

    /// `get_trigger_logs`: so many entries from this one on back, or from the newest.
    pub(crate) fn trigger_logs(&self, params: &Value) -> Option<Value> {
        let size = usize::try_from(params.get("page_size")?.as_u64()?).ok()?;
        let start = params.get("start_id")?.as_u64()?;
        let id_of = |entry: &Value| entry.get("id").and_then(Value::as_u64).unwrap_or_default();
        let entries = self
            .log
            .iter()
            .rev()
            .filter(|entry| start == 0 || id_of(entry) <= start);
        let page: Vec<&Value> = entries.take(size).collect();
        let first = page.first().map_or(0, |entry| id_of(entry));
        Some(json!({ "logs": page, "start_id": first, "sum": self.log.len() }))
    }

    /// `set_device_info`: false if it does not take that.
    pub(crate) fn set_info(&mut self, params: &Value) -> bool {
        let Some(params) = params.as_object().filter(|params| !params.is_empty()) else {
            return false;
        };
        let limit = |name: &str| self.fields.get(name).and_then(Value::as_f64);
        let fits = |value: &Value| {
            let (Some(value), Some(min), Some(max)) = (
                value.as_f64(),
                limit("min_control_temp"),
                limit("max_control_temp"),
            ) else {
                return false;
            };
            (min..=max).contains(&value)
        };
        let known = params.iter().all(|(name, value)| match name.as_str() {
            "target_temp" => fits(value),
            "frost_protection_on" | "child_protection" => {
                value.is_boolean() && self.fields.contains_key(name.as_str())
            }
            "temp_unit" => value.is_string() && self.fields.contains_key("temp_unit"),
            "temp_offset" => value.is_i64() && self.fields.contains_key("temp_offset"),
            "nickname" => value.is_string(),
            _ => false,
        });
        if !known {
            return false;
        }
        self.fields.extend(params.clone());
        self.follow();
        true
    }

    /// A thermostat heats while it is colder than wanted.
    fn follow(&mut self) {
        if self.model != ChildModel::KE100 {
            return;
        }
        let number = |name: &str| self.fields.get(name).and_then(Value::as_f64).unwrap_or_default();
        let frost = self.fields.get("frost_protection_on") == Some(&json!(true));
        let heats = !frost && number("current_temp") < number("target_temp");
        let states = if heats { json!(["heating"]) } else { json!([]) };
        self.fields.insert("trv_states".to_owned(), states);
    }
}
