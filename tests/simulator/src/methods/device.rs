//! The methods of a device as a whole.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{common_info, into_map, outlet};
use crate::{
    Fault, FaultKind,
    core::Core,
    network::Command,
    profile::Component,
    reply::{Answer, Refusal},
};

/// Children come in pages of this many.
pub(super) const PAGE: usize = 10;

/// None if the method is not one of a device as a whole.
pub(super) fn answer(core: &Core, method: &str, params: &Value) -> Option<Answer> {
    let strip = core.spec.is_strip();
    Some(match method {
        "component_nego" => Ok(Some(components(core.spec.components))),
        "get_device_info" => Ok(Some(info(core))),
        "set_device_info" if strip => rename(core, params),
        "get_device_time" => Ok(Some(time(core))),
        "set_device_time" => Ok(None),
        "get_connect_cloud_state" => Ok(Some(json!({ "status": 0 }))),
        "get_latest_fw" => Ok(Some(latest_firmware(core))),
        "get_fw_download_state" => Ok(Some(json!({
            "auto_upgrade": false, "download_progress": 0, "reboot_time": 5, "status": 0, "upgrade_time": 5,
        }))),
        "get_matter_setup_info" if core.spec.has_component("matter") => Ok(Some(json!({
            "setup_code": "00000000000", "setup_payload": "00:000000000000000000000",
        }))),
        "get_homekit_info" if core.spec.has_component("homekit") => Ok(Some(json!({
            "mfi_setup_code": "000-00-000", "mfi_setup_id": "0000",
            "mfi_token_token": "", "mfi_token_uuid": "00000000-0000-0000-0000-000000000000",
        }))),
        "device_reboot" => reboot(core, params),
        "get_child_device_list" if strip => Ok(Some(children(
            core,
            params,
            "child_device_list",
            outlet::child_info,
        ))),
        "get_child_device_component_list" if strip => Ok(Some(children(
            core,
            params,
            "child_component_list",
            child_components,
        ))),
        _ => return setting(core, method, params),
    })
}

/// `get_led_info` and its like: what was set is read back.
fn setting(core: &Core, method: &str, params: &Value) -> Option<Answer> {
    let (reads, name) = match (method.strip_prefix("get_"), method.strip_prefix("set_")) {
        (Some(name), _) => (true, name),
        (_, Some(name)) => (false, name),
        _ => return None,
    };
    core.with_state(|state, _| {
        let value = state.settings.get_mut(name)?;
        if reads {
            return Some(Ok(Some(value.clone())));
        }
        let (Value::Object(value), Value::Object(changes)) = (value, params) else {
            return Some(Err(Refusal::PARAMS));
        };
        value.extend(changes.clone());
        if let Some(rule) = value.get("led_rule").cloned() {
            value.insert("led_status".to_owned(), json!(rule != "never"));
        }
        Some(Ok(None))
    })
}

fn info(core: &Core) -> Value {
    let address = core.address();
    let mut info = common_info(core);
    info.extend(into_map(json!({
        "avatar": if core.spec.is_strip() { "" } else { "plug" },
        "device_id": core.identity.device_id,
        "ip": address.ip().to_string(),
        "lang": "en_US",
        "mac": core.identity.mac(),
        "rssi": -51,
        "signal_level": 2,
        "specs": "",
        "ssid": STANDARD.encode("Simulated Wi-Fi"),
        "time_diff": 0,
    })));
    if core.spec.is_strip() || core.spec.is_hub() {
        let nickname = core.read(|state, _| state.nickname.clone());
        info.insert("nickname".to_owned(), json!(STANDARD.encode(nickname)));
    } else {
        info.extend(outlet::own_info(core, 1));
    }
    Value::Object(info)
}

fn rename(core: &Core, params: &Value) -> Answer {
    let nickname = outlet::nickname_in(params)?.ok_or(Refusal::PARAMS)?;
    core.with_state(|state, _| state.nickname = nickname);
    Ok(None)
}

fn time(core: &Core) -> Value {
    json!({ "region": "UTC", "time_diff": 0, "timestamp": core.clock.now().as_second() })
}

fn latest_firmware(core: &Core) -> Value {
    let newer = core.read(|state, _| state.newer_firmware.clone());
    let (version, note) = newer.unwrap_or_else(|| (core.spec.fw_ver.to_owned(), String::new()));
    json!({
        "fw_size": 0,
        "fw_ver": version,
        "hw_id": "",
        "need_to_upgrade": version != core.spec.fw_ver,
        "oem_id": "",
        "release_date": "",
        "release_note": note,
        "type": 0,
    })
}

fn reboot(core: &Core, params: &Value) -> Answer {
    let delay = match params.get("delay") {
        None | Some(Value::Null) => 0,
        Some(delay) => delay.as_u64().ok_or(Refusal::PARAMS)?,
    };
    // A network that has gone is a device that is stopping: there is nothing left to restart.
    let _ = core.commands.send(Command::Reboot {
        after: Duration::from_secs(delay.min(3600)),
        lasting: core.reboot_time,
        without_power: false,
        down: None,
    });
    Ok(None)
}

pub(super) fn components(components: &[&[Component]]) -> Value {
    let list: Vec<Value> = components
        .iter()
        .copied()
        .flatten()
        .map(|(id, version)| json!({ "id": id, "ver_code": version }))
        .collect();
    json!({ "component_list": list })
}

fn child_components(core: &Core, position: u8) -> Option<Map<String, Value>> {
    let mut entry = into_map(components(core.spec.child_components));
    entry.insert(
        "device_id".to_owned(),
        json!(core.identity.child_id(core.spec, position)?),
    );
    Some(entry)
}

/// Its entry in the list of children and in that of their components.
fn night_light(core: &Core) -> Map<String, Value> {
    let position = core.profile.outlets() + 1;
    let mut entry = common_info(core);
    entry.extend(into_map(components(&[&[("device", 2), ("brightness", 1)]])));
    entry.extend(into_map(json!({
        "avatar": "bedside_lamp_1",
        "brightness": 100,
        "category": "plug.powerstrip.sub-bulb",
        "default_states": { "brightness": { "type": "last_states", "value": 100 }, "re_power_type": "last_states" },
        "device_id": format!("{}{:02X}", core.identity.device_id, position - 1),
        "device_on": true,
        "nickname": STANDARD.encode("Night light"),
        "on_time": 7169,
        "original_device_id": core.identity.device_id,
        "position": position,
        "slot_number": position,
        "type": "SMART.TAPOBULB",
    })));
    entry
}

/// One page of the children, in the order in which this model lists them.
fn children(
    core: &Core,
    params: &Value,
    list: &str,
    entry: impl Fn(&Core, u8) -> Option<Map<String, Value>>,
) -> Value {
    let listing = match core.faults.get(FaultKind::Children) {
        Some(Fault::Children { positions }) => positions,
        _ => core.spec.listing.to_vec(),
    };
    let start = params.get("start_index").and_then(Value::as_u64).unwrap_or(0);
    let skip = usize::try_from(start).unwrap_or(usize::MAX);
    let outlets = listing.iter().filter_map(|position| entry(core, *position));
    let light = core.spec.night_light.then(|| night_light(core));
    let all: Vec<_> = outlets.chain(light).collect();
    let page: Vec<_> = all.iter().skip(skip).take(PAGE).collect();
    json!({ list: page, "start_index": start, "sum": all.len() })
}
