//! The JSON of old Kasa devices: modules with methods in them, each with its own error code.

use serde_json::{Map, Value, json};

use crate::{
    Cause, FaultKind, Profile,
    core::Core,
    energy::{VOLTAGE_MV, civil_time, whole},
    methods::into_map,
    network::Command,
    outlet::{Moment, Outlet},
    profile::OutletFields,
    reply::Refusal,
};

/// What a method answers: its values, or an error code.
type Values = Result<Map<String, Value>, Refusal>;

const NO_METHOD: Refusal = Refusal(-2);
const BAD_ARGUMENT: Refusal = Refusal(-3);
const TABLE_FULL: Refusal = Refusal(-10);

/// The modules of all devices.
const MODULES: [&str; 5] = ["system", "count_down", "schedule", "time", "antitheft"];

/// The methods of a request, each behind its module.
pub(crate) fn methods_of(request: &Value) -> Vec<String> {
    let modules = request.as_object().into_iter().flatten();
    let methods = modules
        .filter(|(module, _)| *module != "context")
        .flat_map(|(module, methods)| {
            let methods = methods.as_object().into_iter().flat_map(Map::keys);
            methods.map(move |method| format!("{module}.{method}"))
        });
    methods.collect()
}

/// The reply to a request: the values of each method in its module.
pub(crate) fn answer(core: &Core, request: &Value) -> Map<String, Value> {
    let child = request.pointer("/context/child_ids/0").and_then(Value::as_str);
    let mut reply = Map::new();
    for (module, methods) in request.as_object().into_iter().flatten() {
        if module == "context" {
            continue;
        }
        let known = MODULES.contains(&module.as_str())
            || module == "emeter" && core.spec.meter.is_some()
            || module == "smartlife.iot.dimmer" && dims(core);
        let Some(methods) = methods.as_object().filter(|_| known) else {
            reply.insert(
                module.clone(),
                json!({ "err_code": -1, "err_msg": "module not support" }),
            );
            continue;
        };
        let mut answers = Map::new();
        for (method, params) in methods {
            // Without an object as its parameter, this method is left out of the answer (KP303(UK) 1.0.6).
            let is_skipped = core.spec.iot.is_some_and(|iot| iot.short_ids) && method == "get_sysinfo";
            if !(params.is_null() && is_skipped) {
                let values = perform(core, child, module, method, params);
                answers.insert(method.clone(), with_code(values));
            }
        }
        reply.insert(module.clone(), Value::Object(answers));
    }
    reply
}

fn dims(core: &Core) -> bool {
    core.spec.outlet_fields.contains(&OutletFields::Brightness)
}

fn with_code(values: Values) -> Value {
    match values {
        Ok(mut values) => {
            values.insert("err_code".to_owned(), json!(0));
            Value::Object(values)
        }
        Err(Refusal(code)) => json!({ "err_code": code, "err_msg": "refused" }),
    }
}

fn perform(core: &Core, child: Option<&str>, module: &str, method: &str, params: &Value) -> Values {
    match (module, method) {
        ("system", "get_sysinfo") => return Ok(sysinfo(core)),
        ("system", "reboot") => {
            let delay = params.get("delay").and_then(Value::as_u64).ok_or(BAD_ARGUMENT)?;
            // A network that has gone is a device that is stopping: there is nothing left to restart.
            let _ = core.commands.send(Command::Reboot {
                after: std::time::Duration::from_secs(delay.min(3600)),
                lasting: core.reboot_time,
                without_power: false,
                down: None,
            });
            return Ok(Map::new());
        }
        ("system", "set_led_off") => {
            let off = params.get("off").and_then(Value::as_u64).ok_or(BAD_ARGUMENT)?;
            core.with_state(|state, _| state.settings.insert("led_off".to_owned(), json!(off.min(1))));
            return Ok(Map::new());
        }
        ("time", "get_time") => return Ok(time(core)),
        ("time", "get_timezone") => return Ok(into_map(json!({ "index": 0 }))),
        ("antitheft", "get_rules") => {
            return Ok(into_map(json!({ "enable": 1, "rule_list": [], "version": 2 })));
        }
        ("schedule", "get_next_action") => return Ok(into_map(json!({ "type": -1 }))),
        _ => {}
    }
    let is_ignored = module == "count_down" && core.faults.is_set(FaultKind::OutletIgnored);
    let child = child.filter(|_| !is_ignored);
    let is_short = core.spec.iot.is_some_and(|iot| iot.short_ids);
    core.with_state(|state, now| {
        let mut outlets = state.outlets.iter();
        let addressed = match child {
            // As it is listed, or whole: clients do either.
            Some(id) => outlets.find(|outlet| {
                let whole = outlet.child_id.as_deref().unwrap_or_default();
                whole == id || is_short && whole.get(core.identity.device_id.len()..) == Some(id)
            }),
            // Without a child, a strip is switched as a whole; all else is that of its first outlet.
            None => outlets.next(),
        };
        let position = addressed.map(|outlet| outlet.position).ok_or(BAD_ARGUMENT)?;
        if (module, method) == ("system", "set_relay_state") {
            let on = match params.get("state").and_then(Value::as_u64) {
                Some(state @ (0 | 1)) => state == 1,
                _ => return Err(BAD_ARGUMENT),
            };
            let all = if child.is_some() {
                position..=position
            } else {
                1..=core.profile.outlets()
            };
            for position in all {
                state.switch(position, on, Cause::Request, now);
            }
            return Ok(Map::new());
        }
        let outlet = state.outlet(position).ok_or(BAD_ARGUMENT)?;
        match (module, method) {
            ("system", "set_dev_alias") => {
                let alias = params.get("alias").and_then(Value::as_str).ok_or(BAD_ARGUMENT)?;
                alias.clone_into(&mut outlet.nickname);
                Ok(Map::new())
            }
            ("smartlife.iot.dimmer", "set_brightness") => {
                let percent = params.get("brightness").and_then(Value::as_u64);
                let percent = percent.filter(|percent| (1..=100).contains(percent));
                outlet.brightness = u8::try_from(percent.ok_or(BAD_ARGUMENT)?).map_err(|_| BAD_ARGUMENT)?;
                Ok(Map::new())
            }
            ("emeter", "get_realtime") => Ok(realtime(outlet, core.profile)),
            ("emeter", "get_daystat") => Ok(day(outlet, now)),
            ("emeter", "get_monthstat") => Ok(month(outlet, now)),
            ("count_down", _) => countdown(outlet, method, params, now),
            ("schedule", _) => schedule(outlet, method, params, now),
            _ => Err(NO_METHOD),
        }
    })
}

/// An old device, or the model that the old line has in the place of a new one.
fn model(profile: Profile) -> &'static str {
    if profile.is_iot() {
        return profile.spec().device_model;
    }
    match (profile.is_strip(), profile.has_energy()) {
        (false, false) => "HS100(UK)",
        (false, true) => "HS110(UK)",
        (true, false) => "KP303(UK)",
        (true, true) => "HS300(US)",
    }
}

fn sysinfo(core: &Core) -> Map<String, Value> {
    let features = if core.profile.has_energy() {
        "TIM:ENE"
    } else {
        "TIM"
    };
    let mut info = into_map(json!({
        "active_mode": "none",
        "deviceId": core.identity.device_id,
        "dev_name": core.spec.iot.map_or("Wi-Fi Smart Plug", |iot| iot.description),
        "feature": features,
        "fwId": "00000000000000000000000000000000",
        "hwId": core.identity.hw_id,
        "hw_ver": core.spec.hw_ver,
        "mac": core.identity.mac().replace('-', ":"),
        "mic_type": "IOT.SMARTPLUGSWITCH",
        "model": model(core.profile),
        "oemId": core.identity.oem_id,
        "rssi": -51,
        "sw_ver": core.spec.fw_ver,
        "updating": 0,
    }));
    core.read(|state, now| {
        info.insert("alias".to_owned(), json!(state.nickname));
        let led_off = state.settings.get("led_off").cloned().unwrap_or(json!(0));
        info.insert("led_off".to_owned(), led_off);
        let common = |outlet: &Outlet| {
            into_map(json!({
                "alias": outlet.nickname,
                "next_action": { "type": -1 },
                "on_time": outlet.on_time(now.device).as_secs(),
            }))
        };
        if core.spec.is_strip() {
            let children = state.outlets.iter().map(|outlet| {
                let mut child = common(outlet);
                let id = outlet.child_id.as_deref().unwrap_or_default();
                let is_short = core.spec.iot.is_some_and(|iot| iot.short_ids);
                let hidden = if is_short {
                    core.identity.device_id.len()
                } else {
                    0
                };
                child.insert("id".to_owned(), json!(id.get(hidden..)));
                child.insert("state".to_owned(), json!(u8::from(outlet.is_on())));
                child
            });
            info.insert("child_num".to_owned(), json!(core.profile.outlets()));
            info.insert("children".to_owned(), json!(children.collect::<Vec<_>>()));
        } else if let Some(outlet) = state.outlet(1) {
            info.extend(common(outlet));
            info.insert("relay_state".to_owned(), json!(u8::from(outlet.is_on())));
            if dims(core) {
                info.insert("brightness".to_owned(), json!(outlet.brightness));
            }
        }
    });
    info
}

fn time(core: &Core) -> Map<String, Value> {
    let now = civil_time(core.clock.now());
    into_map(json!({
        "year": now.year(), "month": now.month(), "mday": now.day(),
        "hour": now.hour(), "min": now.minute(), "sec": now.second(),
    }))
}

fn realtime(outlet: &Outlet, profile: Profile) -> Map<String, Value> {
    let milliwatts = outlet.power() * 1000.0;
    let (milliamps, watt_hours) = (milliwatts * 1000.0 / f64::from(VOLTAGE_MV), outlet.drawn / 1000.0);
    if profile.spec().iot.is_some_and(|iot| iot.whole_units) {
        return into_map(json!({
            "current": milliamps / 1000.0,
            "power": milliwatts / 1000.0,
            "total": watt_hours / 1000.0,
            "voltage": f64::from(VOLTAGE_MV) / 1000.0,
        }));
    }
    into_map(json!({
        "current_ma": whole(milliamps),
        "power_mw": whole(milliwatts),
        "total_wh": whole(watt_hours),
        "voltage_mv": VOLTAGE_MV,
    }))
}

fn day(outlet: &Outlet, now: Moment) -> Map<String, Value> {
    let (date, usage) = (civil_time(now.device), outlet.ledger.today(now.device));
    into_map(json!({ "day_list": [{
        "year": date.year(), "month": date.month(), "day": date.day(), "energy_wh": usage.watt_hours(),
    }] }))
}

fn month(outlet: &Outlet, now: Moment) -> Map<String, Value> {
    let (date, usage) = (civil_time(now.device), outlet.ledger.month(now.device));
    into_map(json!({ "month_list": [{
        "year": date.year(), "month": date.month(), "energy_wh": usage.watt_hours(),
    }] }))
}

/// The countdown of the outlet, which has one slot here too, under the names of this protocol.
fn countdown(outlet: &mut Outlet, method: &str, params: &Value, now: Moment) -> Values {
    let mut call = |method: &str, params: Value| match outlet.rules.answer(method, &params, now.device) {
        Some(Ok(values)) => Ok(values.unwrap_or_default()),
        Some(Err(Refusal::COUNTDOWN_CONFLICT)) => Err(TABLE_FULL),
        _ => Err(BAD_ARGUMENT),
    };
    let number = |name: &str| params.get(name).and_then(Value::as_u64).ok_or(BAD_ARGUMENT);
    let rule = || {
        Ok(json!({
            "id": params.get("id"), "enable": number("enable")? == 1, "delay": number("delay")?,
            "desired_states": { "on": number("act")? == 1 },
        }))
    };
    match method {
        "get_rules" => {
            let list = call("get_countdown_rules", Value::Null)?;
            let rules = list
                .get("rule_list")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let rules: Vec<_> = rules.map(old_rule).collect();
            Ok(into_map(json!({ "rule_list": rules })))
        }
        "add_rule" => Ok(into_map(call("add_countdown_rule", rule()?)?)),
        "edit_rule" => call("edit_countdown_rule", rule()?).map(into_map),
        "delete_rule" => {
            let id = params.get("id").ok_or(BAD_ARGUMENT)?;
            call("remove_countdown_rules", json!({ "rule_list": [{ "id": id }] })).map(into_map)
        }
        "delete_all_rules" => call("remove_countdown_rules", json!({ "remove_all": true })).map(into_map),
        _ => Err(NO_METHOD),
    }
}

fn old_rule(rule: &Value) -> Value {
    let on = rule.pointer("/desired_states/on") == Some(&json!(true));
    let enabled = rule.get("enable") == Some(&json!(true));
    json!({
        "act": u8::from(on), "delay": rule.get("delay"), "enable": u8::from(enabled), "id": rule.get("id"),
        "name": "timer", "remain": rule.get("remain"),
    })
}

/// The schedule rules of the outlet, under the names of this protocol.
fn schedule(outlet: &mut Outlet, method: &str, params: &Value, now: Moment) -> Values {
    let mut call = |method: &str, params: Value| match outlet.rules.answer(method, &params, now.device) {
        Some(Ok(values)) => Ok(values.unwrap_or_default()),
        Some(Err(Refusal::SCHEDULE_FULL)) => Err(TABLE_FULL),
        _ => Err(BAD_ARGUMENT),
    };
    match method {
        "get_rules" => {
            let (mut rules, mut sum) = (Vec::new(), 1);
            while rules.len() < sum {
                let page = call("get_schedule_rules", json!({ "start_index": rules.len() }))?;
                sum = page.get("sum").and_then(Value::as_u64).map_or(0, whole_length);
                let list = page.get("rule_list").and_then(Value::as_array);
                rules.extend(list.into_iter().flatten().filter_map(|rule| {
                    rule.get("old").cloned().map(|old| {
                        let enabled = rule.get("enable") == Some(&json!(true));
                        let mut old = into_map(old);
                        old.insert("enable".to_owned(), json!(u8::from(enabled)));
                        old.insert("id".to_owned(), json!(rule.get("id")));
                        old
                    })
                }));
            }
            Ok(into_map(json!({ "enable": 1, "rule_list": rules, "version": 2 })))
        }
        "add_rule" => Ok(into_map(call("add_schedule_rule", new_rule(params)?)?)),
        "edit_rule" => call("edit_schedule_rule", new_rule(params)?).map(into_map),
        "delete_rule" => {
            let id = params.get("id").ok_or(BAD_ARGUMENT)?;
            call("remove_schedule_rules", json!({ "rule_list": [{ "id": id }] })).map(into_map)
        }
        "delete_all_rules" => call("remove_schedule_rules", json!({ "remove_all": true })).map(into_map),
        "set_overall_enable" if params.get("enable").is_some() => Ok(Map::new()),
        _ => Err(NO_METHOD),
    }
}

fn whole_length(sum: u64) -> usize {
    usize::try_from(sum).unwrap_or_default()
}

/// The rule under the names of newer devices, with itself in it.
fn new_rule(params: &Value) -> Result<Value, Refusal> {
    let number = |name: &str| params.get(name).and_then(Value::as_i64).ok_or(BAD_ARGUMENT);
    let trigger = match number("stime_opt")? {
        0 => "normal",
        1 => "sunrise",
        2 => "sunset",
        _ => return Err(BAD_ARGUMENT),
    };
    let days = params.get("wday").and_then(Value::as_array).ok_or(BAD_ARGUMENT)?;
    let days = days.iter().take(7).enumerate();
    let days = days.fold(0, |bits, (day, on)| bits | u8::from(*on == json!(1)) << day);
    let on = match number("sact")? {
        action @ (0 | 1) => action == 1,
        _ => return Err(BAD_ARGUMENT),
    };
    Ok(json!({
        "id": params.get("id"), "enable": number("enable")? == 1,
        "mode": if number("repeat")? == 1 { "repeat" } else { "once" },
        "s_type": trigger, "s_min": number("smin")?, "time_offset": params.get("soffset").unwrap_or(&json!(0)),
        "week_day": days, "desired_states": { "on": on }, "old": params,
    }))
}
