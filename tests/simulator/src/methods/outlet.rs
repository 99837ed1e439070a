//! The methods of one outlet: of a plug, or of a child of a strip.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{common_info, device::components, into_map};
use crate::{
    Cause,
    clock::between,
    core::Core,
    default_state::DefaultState,
    energy::{VOLTAGE_MV, local_time, whole},
    outlet::{AutoOff, Moment, Outlet, Protection},
    profile::{Meter, OutletFields},
    reply::{Answer, Refusal},
};

/// Whether the method is refused while the device's clock was never set.
pub(super) fn needs_clock(method: &str) -> bool {
    matches!(
        method,
        "get_energy_usage" | "get_energy_data" | "get_power_data" | "get_device_usage" | "get_next_event"
    )
}

/// None if the method is not one of an outlet of this model.
pub(super) fn answer(core: &Core, position: u8, method: &str, params: &Value) -> Option<Answer> {
    match method {
        "component_nego" => return Some(Ok(Some(components(core.spec.child_components)))),
        "get_device_info" => return child_info(core, position).map(|info| Ok(Some(Value::Object(info)))),
        "set_device_info" => return Some(set_info(core, position, params)),
        "get_connect_cloud_state" => return Some(Ok(Some(json!({ "status": 0 })))),
        _ => {}
    }
    core.with_state(|state, now| {
        let outlet = state.outlet(position)?;
        metered(core, outlet, method, params, now)
            .or_else(|| guarded(core, outlet, method, params))
            .or_else(|| outlet.rules.answer(method, params, now.device))
    })
}

/// What a child's `get_device_info` and its entry in the list have; none if there is no such child.
pub(super) fn child_info(core: &Core, position: u8) -> Option<Map<String, Value>> {
    let child_id = core.identity.child_id(core.spec, position)?;
    let mut info = common_info(core);
    info.extend(into_map(json!({
        "avatar": "plug",
        "bind_count": 1,
        "category": "plug.powerstrip.sub-plug",
        "device_id": child_id,
        "mac": core.identity.bare_mac(),
        "original_device_id": core.identity.device_id,
        "position": position,
        "slot_number": core.profile.outlets(),
        "status_follow_edge": true,
    })));
    let own = own_info(core, position);
    if own.is_empty() {
        return None;
    }
    info.extend(own);
    Some(info)
}

/// The fields of the state of an outlet; empty if there is no such outlet.
pub(super) fn own_info(core: &Core, position: u8) -> Map<String, Value> {
    core.read(|state, now| {
        state
            .outlet(position)
            .map(|outlet| own_fields(core, outlet, now))
            .unwrap_or_default()
    })
}

fn own_fields(core: &Core, outlet: &Outlet, now: Moment) -> Map<String, Value> {
    let mut info = into_map(json!({
        "default_states": outlet.default_state.shown(core.spec.default_state_object),
        "device_on": outlet.is_on(),
        "nickname": STANDARD.encode(&outlet.nickname),
        "on_time": outlet.on_time(now.device).as_secs(),
    }));
    let overloaded = if outlet.overloaded { "overloaded" } else { "normal" };
    for fields in core.spec.outlet_fields {
        info.extend(into_map(match fields {
            OutletFields::AutoOff => auto_off_fields(outlet, now),
            OutletFields::Brightness => json!({ "brightness": outlet.brightness }),
            OutletFields::Charging => json!({ "charging_status": "normal" }),
            OutletFields::Overcurrent => json!({ "overcurrent_status": "normal" }),
            OutletFields::OverheatedFlag => json!({ "overheated": false }),
            OutletFields::OverheatStatus => json!({ "overheat_status": "normal" }),
            OutletFields::PowerProtection => json!({ "power_protection_status": overloaded }),
            OutletFields::Usb => json!({ "is_usb": false }),
            OutletFields::OnOff => json!({ "on_off": u8::from(outlet.is_on()) }),
        }));
    }
    if core.spec.device_type.contains("BULB") {
        info.remove("on_time");
    }
    info
}

fn auto_off_fields(outlet: &Outlet, now: Moment) -> Value {
    match outlet.auto_off_due() {
        Some(due) => json!({
            "auto_off_status": "on",
            "auto_off_remain_time": between(now.device, due).as_secs(),
        }),
        None => json!({ "auto_off_status": "off", "auto_off_remain_time": 0 }),
    }
}

/// Everything is checked before anything is changed.
fn set_info(core: &Core, position: u8, params: &Value) -> Answer {
    let params_are_known = params
        .as_object()
        .is_some_and(|params| !params.is_empty() && params.keys().all(|name| is_settable(name)));
    if !params_are_known {
        return Err(Refusal::PARAMS);
    }
    let on = match params.get("device_on") {
        None => None,
        Some(on) => Some(on.as_bool().ok_or(Refusal::PARAMS)?),
    };
    let nickname = nickname_in(params)?;
    let default_state = params.get("default_states").map(DefaultState::read).transpose()?;
    let brightness = brightness_in(core, params)?;
    core.with_state(|state, now| {
        if let Some(outlet) = state.outlet(position) {
            outlet.brightness = brightness.unwrap_or(outlet.brightness);
            outlet.nickname = nickname.unwrap_or_else(|| outlet.nickname.clone());
            outlet.default_state = default_state.unwrap_or(outlet.default_state);
        }
        if let Some(on) = on {
            state.switch(position, on, Cause::Request, now);
        }
    });
    Ok(None)
}

fn brightness_in(core: &Core, params: &Value) -> Result<Option<u8>, Refusal> {
    let Some(brightness) = params.get("brightness") else {
        return Ok(None);
    };
    let percent = brightness.as_u64().and_then(|percent| u8::try_from(percent).ok());
    let percent = percent.filter(|percent| (1..=100).contains(percent));
    match percent.filter(|_| core.spec.outlet_has_component("brightness")) {
        Some(percent) => Ok(Some(percent)),
        None => Err(Refusal::PARAMS),
    }
}

fn is_settable(name: &str) -> bool {
    matches!(
        name,
        "device_on" | "nickname" | "avatar" | "latitude" | "longitude" | "default_states" | "brightness"
    )
}

/// The nickname in the parameters, which is base64.
pub(super) fn nickname_in(params: &Value) -> Result<Option<String>, Refusal> {
    let Some(nickname) = params.get("nickname") else {
        return Ok(None);
    };
    let bytes = nickname
        .as_str()
        .and_then(|nickname| STANDARD.decode(nickname).ok());
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Some).ok_or(Refusal::PARAMS)
}

/// The methods about time used, power and energy.
fn metered(core: &Core, outlet: &Outlet, method: &str, params: &Value, now: Moment) -> Option<Answer> {
    if method == "get_device_usage" {
        return Some(Ok(Some(usage(core.spec.meter, outlet, now))));
    }
    let meter = core.spec.meter?;
    let ledger = &outlet.ledger;
    let number = |name: &str| params.get(name).and_then(Value::as_i64);
    let period = || {
        Some((
            number("start_timestamp")?,
            number("end_timestamp")?,
            number("interval")?,
        ))
    };
    Some(match method {
        "get_current_power" => Ok(Some(json!({ "current_power": whole(outlet.power()) }))),
        "get_emeter_data" if meter.emeter => Ok(Some(emeter(meter, outlet))),
        // The calibration of the meter chip.
        "get_emeter_vgain_igain" if meter.emeter => Ok(Some(json!({ "igain": 11_000, "vgain": 125_000 }))),
        "get_energy_usage" => Ok(Some(energy_usage(meter, outlet, now))),
        "get_energy_data" => period()
            .and_then(|(start, end, interval)| {
                ledger.history(now.device, start, end, u64::try_from(interval).ok()?)
            })
            .map(Some)
            .ok_or(Refusal::PARAMS),
        "get_power_data" => period()
            .and_then(|(start, end, interval)| {
                ledger.power_history(start, end, u64::try_from(interval).ok()?)
            })
            .map(Some)
            .ok_or(Refusal::PARAMS),
        _ => return None,
    })
}

fn emeter(meter: Meter, outlet: &Outlet) -> Value {
    let milliwatts = outlet.power() * 1000.0;
    let mut data = into_map(json!({
        "current_ma": whole(milliwatts * 1000.0 / f64::from(VOLTAGE_MV)),
        "energy_wh": whole(outlet.since_restart / 1000.0),
        "power_mw": whole(milliwatts),
        "voltage_mv": VOLTAGE_MV,
    }));
    if meter.milliwatt_hours {
        data.insert("energy_mwh".to_owned(), json!(whole(outlet.since_restart)));
    }
    Value::Object(data)
}

fn energy_usage(meter: Meter, outlet: &Outlet, now: Moment) -> Value {
    let (today, month) = (outlet.ledger.today(now.device), outlet.ledger.month(now.device));
    let mut usage = into_map(json!({
        "electricity_charge": [0, 0, 0],
        "local_time": local_time(now.device),
        "month_energy": month.watt_hours(),
        "month_runtime": month.minutes(),
        "today_energy": today.watt_hours(),
        "today_runtime": today.minutes(),
    }));
    if meter.power_in_usage {
        usage.insert("current_power".to_owned(), json!(whole(outlet.power() * 1000.0)));
    }
    if meter.milliwatt_hours {
        usage.insert("month_energy_mwh".to_owned(), json!(whole(month.milliwatt_hours)));
        usage.insert("today_energy_mwh".to_owned(), json!(whole(today.milliwatt_hours)));
    }
    Value::Object(usage)
}

/// Minutes used and, with a meter, watt-hours used and saved, by period.
fn usage(meter: Option<Meter>, outlet: &Outlet, now: Moment) -> Value {
    let days = |days: u32| outlet.ledger.past_days(now.device, days);
    let (today, week, month) = (days(1), days(7), days(30));
    let time = json!({ "today": today.minutes(), "past7": week.minutes(), "past30": month.minutes() });
    let Some(meter) = meter else {
        return json!({ "time_usage": time });
    };
    let mut power = into_map(json!({
        "today": today.watt_hours(), "past7": week.watt_hours(), "past30": month.watt_hours(),
    }));
    let mut saved = into_map(json!({ "today": 0, "past7": 0, "past30": 0 }));
    if meter.milliwatt_hours {
        for (name, period) in [("today_mwh", today), ("past7_mwh", week), ("past30_mwh", month)] {
            power.insert(name.to_owned(), json!(whole(period.milliwatt_hours)));
            saved.insert(name.to_owned(), json!(0));
        }
    }
    json!({ "time_usage": time, "power_usage": power, "saved_power": saved })
}

/// The settings that switch an outlet off by themselves.
fn guarded(core: &Core, outlet: &mut Outlet, method: &str, params: &Value) -> Option<Answer> {
    let flag = |name: &str| params.get(name).and_then(Value::as_bool).ok_or(Refusal::PARAMS);
    let number = |name: &str| {
        let number = params
            .get(name)
            .and_then(Value::as_u64)
            .and_then(|number| u32::try_from(number).ok());
        number.ok_or(Refusal::PARAMS)
    };
    if core.spec.outlet_has_component("auto_off") {
        match method {
            "get_auto_off_config" => {
                let AutoOff { enabled, delay_min } = outlet.auto_off;
                return Some(Ok(Some(json!({ "enable": enabled, "delay_min": delay_min }))));
            }
            "set_auto_off_config" => {
                let setting = flag("enable").and_then(|enabled| {
                    let delay_min = number("delay_min")?;
                    Ok(AutoOff { enabled, delay_min })
                });
                return Some(setting.map(|setting| {
                    outlet.auto_off = setting;
                    None
                }));
            }
            _ => {}
        }
    }
    if !core.spec.outlet_has_component("power_protection") {
        return None;
    }
    Some(match method {
        "get_max_power" => Ok(Some(json!({ "max_power": whole(outlet.max_watts) }))),
        "get_protection_power" => {
            let Protection { enabled, watts } = outlet.protection;
            Ok(Some(
                json!({ core.spec.protection_flag: enabled, "protection_power": watts }),
            ))
        }
        "set_protection_power" => flag(core.spec.protection_flag).and_then(|enabled| {
            let watts = number("protection_power")?;
            if f64::from(watts) > outlet.max_watts {
                return Err(Refusal::PARAMS);
            }
            outlet.protection = Protection { enabled, watts };
            Ok(None)
        }),
        _ => return None,
    })
}
