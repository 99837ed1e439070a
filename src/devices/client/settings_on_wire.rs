//! The settings of devices in the JSON of devices. Pure.
//!
//! Sources: python-kasa's fixtures and modules; the writing of `default_states`: `HubitatActive`.

use serde_json::{Value, json};

use super::readings::{line_of, text};
use crate::domain::device_settings::{LatestFirmware, OutletSettings, PowerOnBehavior, SettingChange};

/// What is read with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::devices) enum SettingRequest {
    /// Whether the LED lights.
    Led,
    /// Auto-off and its delay.
    AutoOff,
    /// Power protection and its threshold.
    PowerProtection,
    /// The largest threshold.
    MaxPower,
    /// All values of the outlet, the power-on behavior among them, which each reading of the relay takes.
    Info,
}

impl SettingRequest {
    /// Its method on the wire.
    pub(in crate::devices) fn method(self) -> &'static str {
        match self {
            Self::Led => "get_led_info",
            Self::AutoOff => "get_auto_off_config",
            Self::PowerProtection => "get_protection_power",
            Self::MaxPower => "get_max_power",
            Self::Info => "get_device_info",
        }
    }

    /// What has the setting of a change.
    pub(in crate::devices) fn of(change: SettingChange) -> Self {
        match change {
            SettingChange::Led(_) => Self::Led,
            SettingChange::AutoOff(_) | SettingChange::AutoOffDelay(_) => Self::AutoOff,
            SettingChange::PowerProtection(_) | SettingChange::PowerProtectionThreshold(_) => {
                Self::PowerProtection
            }
            SettingChange::PowerOnBehavior(_) | SettingChange::Brightness(_) => Self::Info,
        }
    }

    /// Takes the answer. A value that it lacks is unknown.
    pub(in crate::devices) fn apply(self, answer: &Value, settings: &mut OutletSettings) {
        match self {
            Self::AutoOff => {
                settings.auto_off = flag(answer, "enable");
                settings.auto_off_delay = number(answer, "delay_min");
            }
            Self::PowerProtection => {
                settings.power_protection = flag(answer, protection_flag(answer));
                settings.power_protection_threshold = number(answer, "protection_power");
            }
            Self::MaxPower => settings.max_power = number(answer, "max_power"),
            Self::Led | Self::Info => {}
        }
    }
}

/// Whether the LED lights: always, or by day.
pub(in crate::devices) fn led(answer: &Value) -> Option<bool> {
    text(answer, "led_rule").map(|rule| rule != NEVER)
}

/// What the relay is after a power failure, in `get_device_info`.
pub(in crate::devices) fn power_on_behavior(info: &Value) -> Option<PowerOnBehavior> {
    let states = info.get("default_states")?;
    let rule = text(states, RE_POWER).or_else(|| text(states, "type"))?;
    match rule.as_str() {
        "last_states" => Some(PowerOnBehavior::Previous),
        "always_on" => Some(PowerOnBehavior::On),
        "always_off" => Some(PowerOnBehavior::Off),
        "custom" => states.pointer("/state/on").and_then(Value::as_bool).map(|on| {
            if on {
                PowerOnBehavior::On
            } else {
                PowerOnBehavior::Off
            }
        }),
        _ => None,
    }
}

/// The newest firmware, in `get_latest_fw`.
pub(in crate::devices) fn latest_firmware(answer: &Value) -> Option<LatestFirmware> {
    let note = answer.get("release_note").and_then(Value::as_str);
    Some(LatestFirmware {
        version: text(answer, "fw_ver")?,
        // Longer ones are refused by Home Assistant.
        note: note.and_then(|note| line_of(&note.replace("\\n", " ").replace('\n', " "), NOTE_MAX)),
    })
}

/// The method and the parameters of a change, by what the device has now: it takes a setting as a whole.
pub(super) fn changed(change: SettingChange, current: &Value) -> Option<(&'static str, Value)> {
    let set = |method, key: &str, value: Value| {
        let mut whole = current.clone();
        whole.as_object_mut()?.insert(key.to_owned(), value);
        Some((method, whole))
    };
    match change {
        SettingChange::Led(true) => {
            let rule = text(current, LED_RULE)?;
            let rule = if rule == NEVER { "always" } else { &rule };
            set("set_led_info", LED_RULE, json!(rule))
        }
        SettingChange::Led(false) => set("set_led_info", LED_RULE, json!(NEVER)),
        SettingChange::AutoOff(enabled) => set("set_auto_off_config", "enable", json!(enabled)),
        SettingChange::AutoOffDelay(minutes) => set("set_auto_off_config", "delay_min", json!(minutes)),
        SettingChange::PowerProtection(enabled) => {
            set(SET_PROTECTION, protection_flag(current), json!(enabled))
        }
        SettingChange::PowerProtectionThreshold(watts) => {
            set(SET_PROTECTION, "protection_power", json!(watts))
        }
        SettingChange::PowerOnBehavior(behavior) => {
            let states = default_states(current.get("default_states")?, behavior);
            Some(("set_device_info", json!({ "default_states": states })))
        }
        SettingChange::Brightness(percent) => Some(("set_device_info", json!({ "brightness": percent }))),
    }
}

/// Wall switches have rules of their own.
fn default_states(current: &Value, behavior: PowerOnBehavior) -> Value {
    let (rule, state) = match behavior {
        PowerOnBehavior::On => ("always_on", Some(true)),
        PowerOnBehavior::Off => ("always_off", Some(false)),
        PowerOnBehavior::Previous => ("last_states", None),
    };
    match state {
        _ if current.get(RE_POWER).is_some() => json!({ RE_POWER: rule }),
        Some(on) => json!({ "type": "custom", "state": { "on": on } }),
        None => json!({ "type": rule }),
    }
}

/// The flag has another name on P316M.
fn protection_flag(answer: &Value) -> &'static str {
    let other = "protection_enabled";
    if answer.get(other).is_some() {
        other
    } else {
        "enabled"
    }
}

fn flag(answer: &Value, key: &str) -> Option<bool> {
    answer.get(key)?.as_bool()
}

fn number(answer: &Value, key: &str) -> Option<u32> {
    u32::try_from(answer.get(key)?.as_u64()?).ok()
}

const LED_RULE: &str = "led_rule";
const NEVER: &str = "never";
const RE_POWER: &str = "re_power_type";
const SET_PROTECTION: &str = "set_protection_power";
/// What Home Assistant takes as the summary of a release, in characters.
const NOTE_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(change: SettingChange, current: &Value) -> (&'static str, Value) {
        changed(change, current).unwrap()
    }

    #[test]
    fn a_setting_is_sent_as_a_whole_with_its_own_names() {
        let led = json!({ "led_rule": "never", "led_status": false, "night_mode": { "start_time": 1140 } });
        let lit = json!({ "led_rule": "always", "led_status": false, "night_mode": { "start_time": 1140 } });
        assert_eq!(after(SettingChange::Led(true), &led), ("set_led_info", lit));
        let night = json!({ "led_rule": "night_mode" });
        assert_eq!(after(SettingChange::Led(true), &night).1, night, "it lights");
        assert_eq!(
            after(SettingChange::Led(false), &night).1,
            json!({ "led_rule": "never" })
        );

        let auto_off = json!({ "enable": false, "delay_min": 120 });
        let expected = json!({ "enable": false, "delay_min": 30 });
        assert_eq!(after(SettingChange::AutoOffDelay(30), &auto_off).1, expected);
        for flag in ["enabled", "protection_enabled"] {
            let current = json!({ flag: false, "protection_power": 800 });
            let expected = json!({ flag: true, "protection_power": 800 });
            assert_eq!(after(SettingChange::PowerProtection(true), &current).1, expected);
            let mut settings = OutletSettings::default();
            SettingRequest::PowerProtection.apply(&expected, &mut settings);
            assert!(SettingChange::PowerProtection(true).is_in(&settings));
            assert!(SettingChange::PowerProtectionThreshold(800).is_in(&settings));
        }
        assert_eq!(changed(SettingChange::AutoOff(true), &Value::Null), None);
    }

    #[test]
    fn each_power_on_behavior_is_read_as_it_is_written() {
        for shape in [
            json!({ "type": "last_states" }),
            json!({ "re_power_type": "always_off", "type": "last_states" }),
        ] {
            for (_, behavior) in PowerOnBehavior::ALL {
                let info = json!({ "default_states": shape });
                let (method, written) = after(SettingChange::PowerOnBehavior(behavior), &info);
                assert_eq!(method, "set_device_info");
                assert_eq!(power_on_behavior(&written), Some(behavior), "{written}");
            }
        }
        for odd in [
            json!({}),
            json!({ "type": "custom", "state": null }),
            json!({ "type": "novel" }),
            json!(1),
        ] {
            assert_eq!(power_on_behavior(&json!({ "default_states": odd })), None);
        }
    }

    #[test]
    fn odd_answers_are_unknown_settings() {
        let mut settings = OutletSettings {
            auto_off: Some(true),
            auto_off_delay: Some(1),
            ..OutletSettings::default()
        };
        SettingRequest::AutoOff.apply(&json!({ "enable": 1, "delay_min": -1 }), &mut settings);
        assert_eq!(settings, OutletSettings::default());
        assert_eq!(led(&json!({ "led_rule": 1 })), None);
        assert_eq!(latest_firmware(&json!({ "fw_ver": "" })), None);
        let noted = json!({ "fw_ver": "1.5", "release_note": "A\\nB\nC".to_owned() + &"x".repeat(500) });
        let note = latest_firmware(&noted).unwrap().note.unwrap();
        assert!(note.starts_with("A B C") && note.chars().count() == NOTE_MAX);
    }
}
