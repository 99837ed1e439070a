//! `docs/devices.md`: which entities each simulated model has, and where their values come from, as the running
//! bridge publishes them. `TAPO2MQTT_REGENERATE=1` rewrites the file.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf};

use serde_json::Value;
use tapo::ApiClient;
use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, DeviceHandle, Profile, Simulator};

use crate::bridge::{Running, Setup, parsed};

const INTRODUCTION: &str = "# Devices

The entities of each model in Home Assistant, and the source of their values. A test writes these tables from a running
bridge with simulated devices, whose fields come from public dumps. Other models and firmware versions get the entities
for the values that they report: the bridge does not depend on model names.

## Models

What a device speaks depends on its firmware and, for newer one, on *Third-Party Compatibility* in the app. The bridge finds
out. `tapo2mqtt discover` shows it, and which clients can serve the device: the `tapo` library, or the client of the bridge
(`client` in the [settings](settings.md)). None of these was tried on hardware.

| models | they speak | client |
|---|---|---|
| P100, P105, P110, P110M, P115, P116M, P125M, P135, TP10, TP15, EP25, KP125M; strips P210M, P300, P304M, P306, P316M, TP25, EP40M; switches such as S505, HS200 with firmware 5.26 | KLAP, from about firmware 1.2 on | tapo, own |
| the same with firmware from about 1.4.4 on, while Third-Party Compatibility is off | TPAP | tapo, own |
| the same with firmware before about 1.2 | AES | own |
| dimmers S500D, S505D, S515D, KS225, HS220 with firmware 3.26; bulbs and light strips L510, L530, L535, L630, L900, L920, L930 | KLAP, or AES with older firmware | own |
| HS100, HS103, HS105, HS107, HS110, HS200, HS210, KP100, KP105, KP115, KP125, KP200, KP303, KP400, KP401, HS300, EP10, EP25 (first hardware), EP40, KS200, KS200M; dimmers HS220, KS220, KS220M, KS230, ES20M, KP405 | XOR on port 9999; with newer firmware KLAP | own |

Works with limits:

- Some HS110 end their session after each request over KLAP. The bridge then logs in for each request.
- Old Kasa devices report no protections and no auto-off. XOR has no login: whoever reaches port 9999 controls the device.
- A device that was set up without an account is reached over KLAP with the public credentials of such devices.

Not supported, and refused in words: bulbs and light strips with the old Kasa protocol (KL110, KL130, LB100...), cameras,
vacuums, chimes, and TPAP with a login that is not that of the account.

The bridge logs in to a device without an outlet once an hour, to see whether that has changed.

## Entities

A wall switch is a `switch` of the class switch. A bulb and a dimmer are a `light` with brightness; color, color temperature,
effects and gradual changes are left to the Tapo app. Fan controls, such as in the KS240, are not supported.

LED, Auto off enabled, Auto off delay, Power protection, Power protection threshold and Power-on behavior are settings that
the device keeps itself. They are there with [`device_settings`](settings.md), which has the client of the bridge serve the
device. Firmware is there whenever that client does; the bridge installs nothing, the Tapo app does.

The bridge publishes discovery for a device when it has read all of its values once; before that, a new device has only
Status, Error and Command failed, which need no device. An entity is left out if its value was never reported; meters,
countdowns and schedules on the device, if the component list of the outlet does not name them. The state JSON of every device has all keys; values that the device does not report are null.
";

const HUB: &str = "
## Hubs H100 and KH100

A hub has the entities Command failed, Error, Firmware, Restart, Signal strength and Status. It has no outlets: commands
that switch it are refused. Its alarm and its chime are not supported, and neither are the hubs H200 and H500, which speak the
protocol of cameras. Everything that is connected to the hub is read with one request per poll, for each ten of them one.

Each sensor or thermostat is a device of its own in Home Assistant, connected via the hub. It is unavailable while the hub
does not reach it. A press or a turn of an S200 button is an event (`button` in [bridge/event](topics.md)), and Action in Home
Assistant. The hub is asked for it at each poll, so it comes up to five seconds late by the default settings; what happened
while the bridge was not connected is not reported. Switches that connect to a hub (S210, S220) are not switched.
";

/// What a device answers to the requests behind the values.
struct Answers {
    /// One outlet's fields.
    outlet: Value,
    /// Which request `outlet` is of.
    of: &'static str,
    live: bool,
    power_in_usage: bool,
    /// The relay of an old Kasa device.
    old_relay: Option<&'static str>,
}

impl Answers {
    async fn of(device: &DeviceHandle) -> Self {
        if device.profile().is_iot() {
            let is_strip = device.profile().is_strip();
            return Self {
                outlet: Value::Null,
                of: "get_sysinfo",
                live: true,
                power_in_usage: false,
                old_relay: Some(if is_strip {
                    "`state` in `children`"
                } else {
                    "`relay_state`"
                }),
            };
        }
        let client = ApiClient::new(DEFAULT_USERNAME, DEFAULT_PASSWORD);
        let address = device.address().to_string();
        if !device.profile().is_strip() {
            let plug = client.p110(address).await.unwrap();
            let usage = plug.get_energy_usage().await;
            return Self {
                outlet: plug.get_device_info_json().await.unwrap(),
                of: "get_device_info",
                live: plug.get_energy_meter_data().await.is_ok(),
                power_in_usage: usage.is_ok_and(|usage| usage.current_power.is_some()),
                old_relay: None,
            };
        }
        let strip = client.p304(address).await.unwrap();
        let child = strip.plug_unchecked(device.child_ids()[0].clone());
        let usage = child.get_energy_usage().await;
        Self {
            outlet: child.get_device_info_json().await.unwrap(),
            of: "get_child_device_list",
            live: child.get_energy_meter_data().await.is_ok(),
            power_in_usage: usage.is_ok_and(|usage| usage.current_power.is_some()),
            old_relay: None,
        }
    }

    /// The field of an outlet that is there.
    fn field(&self, candidates: &[&str]) -> String {
        let there = candidates.iter().find(|field| self.outlet.get(field).is_some());
        let field = there.unwrap_or_else(|| panic!("none of {candidates:?} in {}", self.outlet));
        format!("`{field}` of {}", self.of)
    }

    /// Where a value of an old Kasa device comes from, if it is another place.
    fn old_source(&self, key: &str) -> Option<String> {
        let relay = self.old_relay?;
        let source = match key {
            "switch" => return Some(format!("{relay} of get_sysinfo")),
            "light" => return Some(format!("{relay} of get_sysinfo and its `brightness`")),
            "on_since" => "`on_time` of get_sysinfo",
            "power" | "voltage" | "current" => "emeter get_realtime",
            "energy_today" => "emeter get_daystat",
            "energy_month" => "emeter get_monthstat",
            "energy_total" => "added up by the bridge from get_realtime and get_monthstat",
            "device_timer_until" | "device_timer_to" => {
                "count_down get_rules, where the bridge did not start it"
            }
            "device_schedules" => "the enabled ones of schedule get_rules",
            "rssi" => "`rssi` of get_sysinfo",
            "led" => "`led_off` of get_sysinfo",
            "reboot" => "sends system reboot",
            _ => return None,
        };
        Some(source.to_owned())
    }

    /// Where a value comes from.
    fn source(&self, key: &str) -> String {
        if let Some(source) = self.old_source(key) {
            return source;
        }
        match key {
            "light" if self.outlet.get("brightness").is_some() => self.field(&["device_on"]) + " and its `brightness`",
            "switch" | "light" => self.field(&["device_on"]),
            "on_since" if self.outlet.get("on_time").is_none() => "this model does not report it".to_owned(),
            "on_since" => self.field(&["on_time"]),
            "overheated" => self.field(&["overheated", "overheat_status"]),
            "overloaded" => self.field(&["power_protection_status"]),
            "overcurrent" => self.field(&["overcurrent_status"]),
            "charging" => self.field(&["charging_status"]),
            "auto_off" => self.field(&["auto_off_status"]),
            "auto_off_at" => self.field(&["auto_off_remain_time"]),
            "protection" => "the values of all protections".to_owned(),
            "protection_event" => "a protection that changed its value".to_owned(),
            "switched" => "a relay that was changed externally".to_owned(),
            "power" if self.live => "`power_mw` of get_emeter_data".to_owned(),
            "power" if self.power_in_usage => "`current_power` (mW) of get_energy_usage".to_owned(),
            "power" => "`current_power` (W) of get_current_power".to_owned(),
            "voltage" => "`voltage_mv` of get_emeter_data".to_owned(),
            "current" => "`current_ma` of get_emeter_data".to_owned(),
            "energy_today" => "`today_energy` of get_energy_usage".to_owned(),
            "energy_month" => "`month_energy` of get_energy_usage".to_owned(),
            "energy_total" if self.live => {
                "added up by the bridge from `energy_mwh` of get_emeter_data and `month_energy` of get_energy_usage"
                    .to_owned()
            }
            "energy_total" => "added up by the bridge from `month_energy` of get_energy_usage".to_owned(),
            "countdown" => "the timer that switches it off; sets it".to_owned(),
            "timer_until" => "the timer of the bridge".to_owned(),
            "device_timer_until" | "device_timer_to" => {
                "get_countdown_rules, where the bridge did not start it".to_owned()
            }
            "device_schedules" => "the enabled ones of get_schedule_rules".to_owned(),
            "rssi" if self.of == "get_child_device_list" && self.outlet.get("parent_device_id").is_some() => {
                self.field(&["rssi"])
            }
            "rssi" => "`rssi` of get_device_info".to_owned(),
            "status" | "error" => "the bridge".to_owned(),
            "command_failed" => "a command that failed".to_owned(),
            "temperature" => self.field(&["current_temp"]),
            "humidity" => self.field(&["current_humidity"]),
            "action" => "the presses in get_trigger_logs".to_owned(),
            "motion" => self.field(&["detected"]),
            "open" => self.field(&["open"]),
            "water_leak" => self.field(&["water_leak_status"]),
            "battery" => self.field(&["battery_percentage"]),
            "battery_low" => self.field(&["at_low_battery"]),
            "climate" => {
                "`current_temp`, `target_temp`, `frost_protection_on` and `trv_states` of get_child_device_list".to_owned()
            }
            "reboot" => "sends device_reboot".to_owned(),
            "led" => "get_led_info; sets it".to_owned(),
            "update" => "`fw_ver` and `release_note` of get_latest_fw".to_owned(),
            "auto_off_enabled" => "`enable` of get_auto_off_config; sets it".to_owned(),
            "auto_off_delay" => "`delay_min` of get_auto_off_config; sets it".to_owned(),
            "power_protection" => "get_protection_power; sets it".to_owned(),
            "power_protection_threshold" => "`protection_power` of get_protection_power; sets it".to_owned(),
            "power_on_behavior" => self.field(&["default_states"]) + "; sets it",
            other => panic!("{other} has no source in this table"),
        }
    }
}

/// The name that Home Assistant shows.
fn name(component: &Value) -> String {
    match component.get("name") {
        Some(Value::String(name)) => name.clone(),
        Some(_) => "(the device's name)".to_owned(),
        None => {
            let class = component["device_class"].as_str().unwrap();
            let mut words = class.replace('_', " ");
            words[..1].make_ascii_uppercase();
            words
        }
    }
}

fn row(key: &str, component: &Value, below: &str, answers: &Answers) -> String {
    let shown = name(component);
    let shown = shown.strip_prefix(below).map_or(shown.as_str(), str::trim_start);
    let shown = if shown.is_empty() {
        "(the outlet's name)"
    } else {
        shown
    };
    let enabled = if component["enabled_by_default"] == false {
        "off"
    } else {
        "on"
    };
    let platform = component["platform"].as_str().unwrap();
    format!(
        "| {shown} | {platform} | {enabled} | `{key}` | {} |\n",
        answers.source(key)
    )
}

const HEAD: &str = "| Entity | Platform | By default | Key | Value |\n|---|---|---|---|---|\n";

async fn tables(bridge: &Running, id: &str, device: &DeviceHandle) -> String {
    let answers = Answers::of(device).await;
    let config = bridge
        .broker
        .retained(&format!("homeassistant/device/tapo2mqtt_{id}/config"))
        .await;
    let config = parsed(&config.unwrap());
    let components = config["components"].as_object().unwrap();
    let (mut own, mut outlet) = (String::new(), String::new());
    let below = format!("tapo2mqtt_{id}_");
    for (unique, component) in components {
        let key = unique.strip_prefix(&below).unwrap();
        match key.strip_prefix("o1_") {
            Some(key) => outlet.push_str(&row(key, component, "Outlet 1", &answers)),
            None if key.starts_with('o') && key[1..2].parse::<u8>().is_ok() => {}
            None => own.push_str(&row(key, component, "", &answers)),
        }
    }
    let profile = device.profile();
    let firmware = config["device"]["sw_version"].as_str().unwrap();
    let version = firmware.split(' ').next().unwrap();
    let model = config["device"]["model_id"].as_str().unwrap();
    let mut text = format!("\n## {model}, firmware {version}\n");
    if profile.is_strip() {
        let count = profile.outlets();
        write!(
            text,
            "\nThe strip:\n\n{HEAD}{own}\nEach of its {count} outlets:\n\n{HEAD}{outlet}"
        )
        .unwrap();
    } else {
        write!(text, "\n{HEAD}{own}").unwrap();
    }
    text
}

/// A hub and one of each model that connects to it.
async fn hub_tables(bridge: &Running, hub: &DeviceHandle) -> String {
    let mut text = String::from(HUB);
    let configs = bridge
        .broker
        .retained_under("homeassistant/device/+/config")
        .await;
    let config = configs.values().map(|config| parsed(config));
    let configs: Vec<Value> = config.collect();
    for child in hub.children() {
        let announces = |config: &&Value| config["device"]["serial_number"] == child["device_id"];
        let config = configs.iter().find(announces).unwrap();
        let answers = Answers {
            outlet: child.clone(),
            of: "get_child_device_list",
            live: false,
            power_in_usage: false,
            old_relay: None,
        };
        let rows = config["components"].as_object().unwrap().iter();
        let rows = rows.map(|(unique, component)| {
            let key = unique
                .split_once(&child["device_id"].as_str().unwrap().to_lowercase())
                .unwrap()
                .1;
            row(&key[1..], component, "", &answers)
        });
        let model = child["model"].as_str().unwrap();
        write!(text, "\n{model}:\n\n{HEAD}{}", rows.collect::<String>()).unwrap();
    }
    text
}

#[tokio::test]
async fn the_tables_of_devices_are_up_to_date() {
    let mut devices = BTreeMap::new();
    let mut setup = Setup::new();
    for profile in Profile::ALL {
        let id = profile.to_string().to_lowercase();
        let device = Simulator::device(profile).start().await.unwrap();
        setup = setup.device(&id, device.address());
        devices.insert(id, device);
    }
    let hub = Simulator::hub(Profile::H100).start().await.unwrap();
    let setup = setup.device("hub", hub.address());
    let bridge = setup.device_settings().start().await;
    let mut text = INTRODUCTION.to_owned();
    for (id, device) in &devices {
        bridge.available(id).await;
        let config = format!("homeassistant/device/tapo2mqtt_{id}/config");
        let complete = |payload: &str| payload.contains("_switch\"") || payload.contains("_light\"");
        bridge.probe.expect(&config, complete).await;
        text.push_str(&tables(&bridge, id, device).await);
    }
    for child in hub.children() {
        let name = child["model"].as_str().unwrap().to_lowercase();
        bridge.available(&format!("hub/{name}")).await;
    }
    bridge.barrier().await;
    text.push_str(&hub_tables(&bridge, &hub).await);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/devices.md");
    if env::var_os("TAPO2MQTT_REGENERATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, written,
        "docs/devices.md; TAPO2MQTT_REGENERATE=1 rewrites it when the change is meant"
    );
}
