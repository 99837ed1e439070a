//! Requests to old Kasa devices, whose JSON (IOT) is another one. The answers are those that newer devices give to the
//! same request, so that nothing else has to know the difference.
//!
//! Sources: python-kasa 0.12 (`kasa/iot`) and its fixtures.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use tplink::{Client, Error, ErrorCode};

use super::{
    readings::{TEXT_MAX, line_of},
    rule_on_wire::with_id,
    session::{DeviceRequest, MeterRequest, READ_BACK},
    settings_on_wire::SettingRequest,
};
use crate::domain::{device_settings::SettingChange, off_rules::WeeklyOff};
use planner::Power;

/// The system information, from which most is read.
pub(super) async fn sysinfo(client: &mut Client) -> Result<Value, Error> {
    client.call_iot("system", "get_sysinfo", Value::Null, None).await
}

/// The names of what the device can do, as newer ones have them.
pub(super) fn components(sysinfo: &Value) -> Vec<String> {
    let is_strip = children(sysinfo).next().is_some();
    let features = text(sysinfo, "feature").unwrap_or_default();
    let has = |feature| features.split(':').any(|known| known == feature);
    let listed = [
        ("control_child", is_strip),
        ("countdown", has("TIM")),
        ("schedule", has("TIM")),
        ("energy_monitoring", has("ENE")),
        ("led", sysinfo.get("led_off").is_some()),
        ("brightness", sysinfo.get("brightness").is_some()),
    ];
    let present = listed.into_iter().filter(|(_, is_present)| *is_present);
    present.map(|(name, _)| name.to_owned()).collect()
}

/// Sends one request and returns what a newer device would.
pub(super) async fn send(client: &mut Client, request: DeviceRequest<'_>) -> Result<Value, Error> {
    match request {
        DeviceRequest::Info => Ok(info(&sysinfo(client).await?)),
        DeviceRequest::Children => Ok(child_list(&sysinfo(client).await?)),
        DeviceRequest::Child(id) => {
            let list = child_list(&sysinfo(client).await?);
            let children = list.get("child_device_list").and_then(Value::as_array);
            let mut children = children.into_iter().flatten();
            let child = children.find(|child| text(child, "device_id") == Some(id));
            child.cloned().ok_or(Error::UnknownRequest(NO_ARGUMENT))
        }
        DeviceRequest::Switch(child, power) => {
            let state = json!({ "state": u8::from(power == Power::On) });
            done(client.call_iot("system", "set_relay_state", state, child).await)
        }
        DeviceRequest::Meter(reading, child) => meter(client, reading, child).await,
        DeviceRequest::GetSetting(SettingRequest::Led, None) => {
            let is_off = sysinfo(client).await?.get("led_off").and_then(Value::as_u64);
            let is_off = is_off.ok_or(Error::UnknownRequest(ErrorCode::UNKNOWN_METHOD))?;
            Ok(json!({ "led_rule": if is_off == 1 { "never" } else { "always" } }))
        }
        DeviceRequest::SetSetting(SettingChange::Led(lights), None) => {
            let off = json!({ "off": u8::from(!lights) });
            done(client.call_iot("system", "set_led_off", off, None).await)
        }
        DeviceRequest::SetSetting(SettingChange::Brightness(percent), None) => {
            let brightness = json!({ "brightness": percent });
            let set = client.call_iot("smartlife.iot.dimmer", "set_brightness", brightness, None);
            done(set.await)
        }
        DeviceRequest::ChildComponents(start) => {
            let sysinfo = sysinfo(client).await?;
            Ok(child_components(&sysinfo, start))
        }
        DeviceRequest::GetSetting(..)
        | DeviceRequest::SetSetting(..)
        | DeviceRequest::SetThermostat(..)
        | DeviceRequest::TriggerLogs(_)
        | DeviceRequest::LatestFirmware
        | DeviceRequest::GetClock => Err(Error::UnknownRequest(ErrorCode::UNKNOWN_METHOD)),
        DeviceRequest::Reboot => {
            let reboot = json!({ "delay": 1 });
            done(client.call_iot("system", "reboot", reboot, None).await)
        }
        DeviceRequest::GetTimer(child) => timer(client, child).await,
        DeviceRequest::SetTimer(child, length, _) => {
            set_timer(client, child, length.as_secs()).await?;
            Ok(json!({ (READ_BACK): timer(client, child).await? }))
        }
        DeviceRequest::ClearTimer(child) => done(
            client
                .call_iot("count_down", "delete_all_rules", Value::Null, child)
                .await,
        ),
        DeviceRequest::GetRules(child) => {
            let rules = client
                .call_iot("schedule", "get_rules", Value::Null, child)
                .await?;
            let rules = listed(&rules).filter_map(|rule| rule_of(rule, are_enabled(&rules)));
            Ok(rules.take(RULES_MAX).collect())
        }
        // They do not say it. A full one refuses.
        DeviceRequest::GetRoom(_) => Ok(RULES_MAX.into()),
        DeviceRequest::AddRule(child, rule) => {
            enable_rules(client, child).await?;
            let added = client.call_iot("schedule", "add_rule", weekly(rule), child).await;
            let added = added.map_err(|error| table_full(error, ErrorCode::SCHEDULE_FULL))?;
            let id = text(&added, "id").filter(|id| id.len() <= TEXT_MAX);
            Ok(id.map_or(Value::Null, |id| json!({ "id": id })))
        }
        DeviceRequest::EditRule(child, id, rule) => {
            let rule = with_id(weekly(rule), id);
            done(client.call_iot("schedule", "edit_rule", rule, child).await)
        }
        DeviceRequest::RemoveRule(child, id) => {
            let rule = json!({ "id": id });
            done(client.call_iot("schedule", "delete_rule", rule, child).await)
        }
    }
}

const NO_ARGUMENT: ErrorCode = ErrorCode(-3);
const TABLE_FULL: ErrorCode = ErrorCode(-10);
/// More than the app lets a user add.
const RULES_MAX: usize = 32;
/// What the rules and countdowns of the bridge are called in the app.
const RULE_NAME: &str = "tapo2mqtt";

fn done(answer: Result<Value, Error>) -> Result<Value, Error> {
    answer.map(|_| Value::Null)
}

/// The values of the device itself; on a plug the outlet's too.
fn info(sysinfo: &Value) -> Value {
    let first = |names: &[&str]| names.iter().find_map(|name| text(sysinfo, name));
    let mut info = outlet(sysinfo, "relay_state");
    let device = json!({
        "device_id": text(sysinfo, "deviceId"),
        "model": text(sysinfo, "model").and_then(|model| model.split('(').next()),
        "fw_ver": text(sysinfo, "sw_ver"),
        "hw_ver": text(sysinfo, "hw_ver"),
        "mac": first(&["mac", "mic_mac", "ethernet_mac"]),
        "rssi": sysinfo.get("rssi"),
        "type": if is_wall_switch(sysinfo) { Some("SMART.KASASWITCH") } else { first(&["type", "mic_type"]) },
        "brightness": sysinfo.get("brightness"),
    });
    if let Value::Object(device) = device {
        info.extend(device.into_iter().filter(|(_, value)| !value.is_null()));
    }
    Value::Object(info)
}

/// Plugs and wall switches call themselves the same; the description tells them apart. A dimmer is built into a wall unless it
/// says that it is plugged in.
fn is_wall_switch(sysinfo: &Value) -> bool {
    let description = text(sysinfo, "dev_name").unwrap_or_default().to_ascii_lowercase();
    let has = |word: &str| description.contains(word);
    sysinfo.get("relay_state").is_some()
        && (has("light switch") || has("dimmer"))
        && !(has("plug-in") || has("outdoor"))
}

/// The name, the relay and how long it is on: of a plug, or of one child of a strip.
fn outlet(values: &Value, relay: &str) -> Map<String, Value> {
    let alias = text(values, "alias").and_then(|alias| line_of(alias, TEXT_MAX));
    let is_on = values.get(relay).and_then(Value::as_u64).map(|state| state == 1);
    let members = [
        // Names are not encoded here; as they are, some would decode to something else.
        ("nickname", alias.map(|alias| STANDARD.encode(alias).into())),
        ("device_on", is_on.map(Value::Bool)),
        ("on_time", values.get("on_time").cloned()),
    ];
    let present = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    present.collect()
}

fn child_list(sysinfo: &Value) -> Value {
    let device = text(sysinfo, "deviceId").unwrap_or_default();
    let children = children(sysinfo).filter_map(|child| {
        let id = child_id(device, text(child, "id")?);
        let mut values = outlet(child, "state");
        values.insert("position".to_owned(), position(&id).into());
        values.insert("device_id".to_owned(), id.into());
        Some(Value::Object(values))
    });
    json!({ "child_device_list": children.collect::<Vec<_>>() })
}

/// As newer strips list what each child can do: all can do the same.
fn child_components(sysinfo: &Value, start: usize) -> Value {
    let names = components(sysinfo)
        .into_iter()
        .filter(|name| !["control_child", "led"].contains(&name.as_str()));
    let names: Vec<_> = names.map(|name| json!({ "id": name, "ver_code": 1 })).collect();
    let device = text(sysinfo, "deviceId").unwrap_or_default();
    let ids = children(sysinfo).filter_map(|child| Some(child_id(device, text(child, "id")?)));
    let entries = ids
        .skip(start)
        .map(|id| json!({ "device_id": id, "component_list": names }));
    json!({ "child_component_list": entries.collect::<Vec<_>>() })
}

fn children(sysinfo: &Value) -> impl Iterator<Item = &Value> {
    let children = sysinfo.get("children").and_then(Value::as_array);
    children.into_iter().flatten()
}

/// The whole id, which requests need: some firmware lists only its last two characters.
fn child_id(device: &str, listed: &str) -> String {
    if listed.len() == CHILD_NUMBER {
        format!("{device}{listed}")
    } else {
        listed.to_owned()
    }
}

/// The characters of a child's id that are its number.
const CHILD_NUMBER: usize = 2;

/// Ids count from 0, positions from 1.
fn position(child_id: &str) -> Option<u8> {
    let number = child_id.get(child_id.len().checked_sub(CHILD_NUMBER)?..)?;
    u8::from_str_radix(number, 16).ok()?.checked_add(1)
}

async fn meter(client: &mut Client, reading: MeterRequest, child: Option<&str>) -> Result<Value, Error> {
    match reading {
        MeterRequest::Live => {
            let values = client
                .call_iot("emeter", "get_realtime", Value::Null, child)
                .await?;
            Ok(live(&values))
        }
        MeterRequest::Usage => {
            let (time, day) = today(client, child).await?;
            let year = json!({ "year": time.get("year") });
            let months = client.call_iot("emeter", "get_monthstat", year, child).await?;
            Ok(json!({
                "local_time": local_time(&time),
                "today_energy": day,
                "month_energy": energy_of(&months, "month_list", &time, &["year", "month"]),
            }))
        }
        MeterRequest::Day => {
            let (_, day) = today(client, child).await?;
            Ok(json!({ "today_energy": day }))
        }
        // It is among the live values.
        MeterRequest::Power => Err(Error::UnknownRequest(ErrorCode::UNKNOWN_METHOD)),
    }
}

/// The time of the device, and the energy of its day.
async fn today(client: &mut Client, child: Option<&str>) -> Result<(Value, Option<u64>), Error> {
    let time = client.call_iot("time", "get_time", Value::Null, None).await?;
    let month = json!({ "year": time.get("year"), "month": time.get("month") });
    let days = client.call_iot("emeter", "get_daystat", month, child).await?;
    let date = json!({ "year": time.get("year"), "month": time.get("month"), "day": time.get("mday") });
    let day = energy_of(&days, "day_list", &date, &["year", "month", "day"]);
    Ok((time, day))
}

/// The live values in the units of today. Old hardware has volts, amperes, watts and kilowatt-hours, with fractions.
fn live(values: &Value) -> Value {
    let milli = |new: &str, old: &str| values.get(new).cloned().or_else(|| thousand(values.get(old)?));
    // A counter in whole Wh is as good as one in mWh that grows in steps of 1000.
    let total = milli("total_wh", "total").and_then(|total| thousand(&total));
    json!({
        "voltage_mv": milli("voltage_mv", "voltage"),
        "current_ma": milli("current_ma", "current"),
        "power_mw": milli("power_mw", "power"),
        "energy_mwh": total,
    })
}

/// A thousand times this, as a whole number.
fn thousand(value: &Value) -> Option<Value> {
    if let Some(whole) = value.as_i64() {
        return whole.checked_mul(1000).map(Value::from);
    }
    let rounded = (value.as_f64()? * 1000.0).round();
    // The text of a float without a fraction is that of an integer.
    format!("{rounded:.0}").parse::<i64>().ok().map(Value::from)
}

/// The Wh of the entry whose date is this one. A list without it has used nothing yet.
fn energy_of(answer: &Value, list: &str, date: &Value, members: &[&str]) -> Option<u64> {
    let entries = answer.get(list)?.as_array()?;
    let is_now = |entry: &&Value| {
        members
            .iter()
            .all(|member| entry.get(*member) == date.get(*member))
    };
    let Some(entry) = entries.iter().rev().find(is_now) else {
        return Some(0);
    };
    let watt_hours = entry.get("energy_wh").cloned();
    watt_hours.or_else(|| thousand(entry.get("energy")?))?.as_u64()
}

fn local_time(time: &Value) -> Option<String> {
    let part = |name: &str| time.get(name).and_then(Value::as_u64);
    let (year, month, day) = (part("year")?, part("month")?, part("mday")?);
    let (hour, minute, second) = (part("hour")?, part("min")?, part("sec")?);
    Some(format!(
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
    ))
}

fn listed(rules: &Value) -> impl Iterator<Item = &Value> {
    let rules = rules.get("rule_list").and_then(Value::as_array);
    rules.into_iter().flatten()
}

/// One that is over stays in the list, disabled.
fn timer_of(rule: &Value) -> Value {
    let seconds = |name: &str| rule.get(name).and_then(Value::as_u64).unwrap_or_default();
    let runs = rule.get("enable").and_then(Value::as_u64) == Some(1);
    json!({
        "on": rule.get("act").and_then(Value::as_u64) == Some(1),
        "length_s": seconds("delay"),
        "remaining_s": if runs { seconds("remain") } else { 0 },
    })
}

async fn timer(client: &mut Client, child: Option<&str>) -> Result<Value, Error> {
    let rules = client
        .call_iot("count_down", "get_rules", Value::Null, child)
        .await?;
    Ok(listed(&rules).next().map_or(Value::Null, timer_of))
}

/// A countdown that is there is changed in place: at no moment is the outlet without one.
async fn set_timer(client: &mut Client, child: Option<&str>, seconds: u64) -> Result<(), Error> {
    let new = json!({ "enable": 1, "delay": seconds, "act": 0, "name": RULE_NAME });
    let rules = client
        .call_iot("count_down", "get_rules", Value::Null, child)
        .await?;
    let conflict = |error| table_full(error, ErrorCode::COUNTDOWN_CONFLICT);
    if let Some(id) = listed(&rules).find_map(|rule| text(rule, "id")) {
        let edited = client
            .call_iot("count_down", "edit_rule", with_id(new, id), child)
            .await;
        return edited.map(drop).map_err(conflict);
    }
    let added = client
        .call_iot("count_down", "add_rule", new, child)
        .await
        .map_err(conflict)?;
    match (child, text(&added, "id")) {
        (Some(child), Some(id)) => check_owner(client, child, id).await,
        (Some(_), None) => Err(Error::Unreadable("its countdown has no id")),
        (None, _) => Ok(()),
    }
}

/// Some firmware of strips takes every countdown for that of the device, and would switch off another outlet. Then another
/// outlet lists it too.
async fn check_owner(client: &mut Client, child: &str, id: &str) -> Result<(), Error> {
    let Some(other) = neighbour(child) else {
        return Ok(());
    };
    let rules = client
        .call_iot("count_down", "get_rules", Value::Null, Some(&other))
        .await;
    match rules {
        Ok(rules) if !listed(&rules).any(|rule| text(rule, "id") == Some(id)) => return Ok(()),
        Ok(_) | Err(Error::UnknownRequest(_) | Error::Device(_)) => {}
        Err(error) => return Err(error),
    }
    let rule = json!({ "id": id });
    client
        .call_iot("count_down", "delete_rule", rule, Some(child))
        .await?;
    Err(Error::UnknownRequest(ErrorCode::UNKNOWN_METHOD))
}

/// Another outlet of the strip: the first, or the second of the first.
fn neighbour(child: &str) -> Option<String> {
    let (device, number) = child.split_at_checked(child.len().checked_sub(CHILD_NUMBER)?)?;
    Some(format!("{device}{}", if number == "00" { "01" } else { "00" }))
}

/// A full table, with the code that newer devices have for it.
fn table_full(error: Error, code: ErrorCode) -> Error {
    match error {
        Error::Device(TABLE_FULL) => Error::Device(code),
        error => error,
    }
}

/// Rules have one setting that enables them all. It is not changed if that would enable others too.
async fn enable_rules(client: &mut Client, child: Option<&str>) -> Result<(), Error> {
    let rules = client
        .call_iot("schedule", "get_rules", Value::Null, child)
        .await?;
    if are_enabled(&rules) {
        return Ok(());
    }
    if listed(&rules).any(|rule| text(rule, "name") != Some(RULE_NAME)) {
        return Err(Error::Device(ErrorCode::SCHEDULE));
    }
    let enable = json!({ "enable": 1 });
    client
        .call_iot("schedule", "set_overall_enable", enable, child)
        .await
        .map(drop)
}

fn are_enabled(rules: &Value) -> bool {
    rules.get("enable").and_then(Value::as_u64) != Some(0)
}

/// An OFF at a minute of some days of the week.
fn weekly(rule: WeeklyOff) -> Value {
    let days = (0..DAYS).map(|day| rule.days.bits() >> day & 1);
    json!({
        "name": RULE_NAME, "enable": 1, "repeat": 1, "wday": days.collect::<Vec<_>>(), "stime_opt": 0,
        "smin": rule.minute, "soffset": 0, "sact": 0, "etime_opt": -1, "emin": 0, "eoffset": 0, "eact": -1,
        "year": 0, "month": 0, "day": 0, "force": 0, "latitude": 0, "longitude": 0,
    })
}

const DAYS: usize = 7;

/// The rule as [`DeviceRequest::GetRules`] returns it; none of a kind that is not known.
fn rule_of(wire: &Value, is_enabled: bool) -> Option<Value> {
    let number = |name: &str| wire.get(name).and_then(Value::as_i64);
    let sun = |event: &str| json!({ (event): { "offset_minutes": number("soffset").unwrap_or_default() } });
    let time = match number("stime_opt")? {
        0 => {
            let minute = number("smin").filter(|minute| (0..24 * 60).contains(minute))?;
            json!({ "clock": { "hour": minute / 60, "minute": minute % 60 } })
        }
        1 => sun("sunrise"),
        2 => sun("sunset"),
        _ => return None,
    };
    let days = wire.get("wday").and_then(Value::as_array)?;
    let bits = (0..DAYS).zip(days).filter(|(_, day)| day.as_u64() == Some(1));
    let bits = bits.fold(0_u8, |bits, (day, _)| bits | 1 << day);
    let to = match number("sact")? {
        0 => "off",
        1 => "on",
        _ => return None,
    };
    Some(json!({
        "id": text(wire, "id").filter(|id| id.len() <= TEXT_MAX)?,
        "enabled": is_enabled && number("enable")? == 1,
        "time": time,
        "days": (number("repeat")? == 1).then_some(bits),
        "desired_state": to,
    }))
}

fn text<'a>(values: &'a Value, name: &str) -> Option<&'a str> {
    values.get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        devices::client::readings::{DeviceReading, OutletReading, has_outlets, kind},
        domain::report::{DeviceRole, Kind, Weekdays},
    };

    /// HS110(EU) 1.0, firmware 1.2.5.
    fn plug() -> Value {
        json!({
            "active_mode": "schedule", "alias": "Lamp2026", "dev_name": "Wi-Fi Smart Plug With Energy Monitoring",
            "deviceId": "8006E5A1", "err_code": 0, "feature": "TIM:ENE", "hw_ver": "1.0", "led_off": 1,
            "mac": "50:C7:BF:00:11:22", "model": "HS110(EU)", "on_time": 6_023_162, "relay_state": 1, "rssi": -71,
            "sw_ver": "1.2.5 Build 171213 Rel.101523", "type": "IOT.SMARTPLUGSWITCH", "updating": 0
        })
    }

    /// HS300(US) 1.0, firmware 1.0.10; a KP303(UK) lists ids of two characters.
    fn strip(ids: [&str; 2]) -> Value {
        let child = |id: &str, state| json!({"alias": "Mat", "id": id, "next_action": {"type": -1}, "on_time": -32_407, "state": state});
        json!({
            "alias": "Strip", "child_num": 2, "children": [child(ids[0], 0), child(ids[1], 1)], "deviceId": "8006E5A1",
            "feature": "TIM", "hw_ver": "1.0", "mac": "50:C7:BF:00:11:22", "mic_type": "IOT.SMARTPLUGSWITCH",
            "model": "HS300(US)", "sw_ver": "1.0.10 Build 190103 Rel.163517"
        })
    }

    #[test]
    fn a_plug_is_read_as_a_newer_one() {
        let info = info(&plug());
        let device = DeviceReading::of(&info);
        assert_eq!(
            (device.model.as_deref(), device.mac.as_deref()),
            (Some("HS110"), Some("50:c7:bf:00:11:22"))
        );
        assert_eq!(
            (device.device_id.as_deref(), device.rssi),
            (Some("8006E5A1"), Some(-71))
        );
        // It would be other characters if it were taken for base64.
        assert_eq!(device.nickname.as_deref(), Some("Lamp2026"));
        let outlet = OutletReading::of(&info);
        assert_eq!((outlet.power, outlet.on_time), (Some(Power::On), Some(6_023_162)));
        assert!(has_outlets(&info, None));
        let components = components(&plug());
        assert_eq!(components, ["countdown", "schedule", "energy_monitoring", "led"]);
        assert_eq!(kind(&info, Some(&components)), Kind::Plug);
    }

    #[test]
    fn the_outlets_of_a_strip_have_whole_ids() {
        for ids in [["8006E5A100", "8006E5A101"], ["00", "01"]] {
            let strip = strip(ids);
            assert_eq!(kind(&info(&strip), Some(&components(&strip))), Kind::Strip);
            let list = child_list(&strip);
            assert!(has_outlets(&info(&strip), Some(&list)));
            let outlets = OutletReading::children(&list);
            let read: Vec<_> = outlets
                .iter()
                .map(|outlet| {
                    (
                        outlet.child_id.as_deref(),
                        outlet.position,
                        outlet.power,
                        outlet.on_time,
                    )
                })
                .collect();
            assert_eq!(
                read,
                [
                    (Some("8006E5A100"), Some(1), Some(Power::Off), None),
                    (Some("8006E5A101"), Some(2), Some(Power::On), None)
                ]
            );
        }
    }

    #[test]
    fn each_outlet_of_a_strip_can_do_the_same() {
        let list = child_components(&strip(["00", "01"]), 0);
        let expected = ["countdown", "schedule"].map(|name| json!({ "id": name, "ver_code": 1 }));
        assert_eq!(list["child_component_list"][1]["device_id"], "8006E5A101");
        assert_eq!(list["child_component_list"][1]["component_list"], json!(expected));
        assert_eq!(
            child_components(&strip(["00", "01"]), 2),
            json!({ "child_component_list": [] })
        );
        assert_eq!(neighbour("8006E5A100").as_deref(), Some("8006E5A101"));
        assert_eq!(neighbour("8006E5A105").as_deref(), Some("8006E5A100"));
        assert_eq!(neighbour("0"), None);
    }

    /// The descriptions are those of python-kasa's fixtures.
    #[test]
    fn a_wall_switch_is_told_from_a_plug_by_its_description() {
        let of = |description: &str| {
            let mut sysinfo = plug();
            sysinfo["dev_name"] = description.into();
            DeviceReading::of(&info(&sysinfo)).role
        };
        for description in [
            "Smart Wi-Fi Light Switch",
            "Smart Wi-Fi 3-Way Light Switch",
            "Smart Light Switch with PIR",
            "Smart Wi-Fi Dimmer",
            "Wi-Fi Smart Dimmer with sensor",
        ] {
            assert_eq!(of(description), DeviceRole::WallSwitch, "{description}");
        }
        for description in [
            "",
            "Smart Wi-Fi Plug Lite",
            "Wi-Fi Smart Plug With Energy Monitoring",
            "Kasa Smart Wi-Fi Outdoor Plug-In Dimmer",
        ] {
            assert_eq!(of(description), DeviceRole::Outlet, "{description}");
        }
    }

    #[test]
    fn a_dimmer_has_its_brightness() {
        let mut dimmer = plug();
        dimmer["brightness"] = 25.into();
        assert_eq!(OutletReading::of(&info(&dimmer)).brightness, Some(25));
        assert!(components(&dimmer).contains(&"brightness".to_owned()));
        assert!(!components(&plug()).contains(&"brightness".to_owned()));
    }

    #[test]
    fn a_bulb_has_no_outlet() {
        let bulb = json!({ "deviceId": "8012", "mic_type": "IOT.SMARTBULB", "light_state": { "on_off": 1 } });
        assert!(!has_outlets(&info(&bulb), None));
    }

    #[test]
    fn both_styles_of_units_are_read() {
        let old = json!({"current": 0.014_937, "power": 0.928_511, "total": 55.139, "voltage": 231.067_823});
        let new = json!({"current_ma": 15, "power_mw": 929, "total_wh": 55_139, "voltage_mv": 231_068, "slot_id": 0});
        let expected =
            json!({"current_ma": 15, "power_mw": 929, "energy_mwh": 55_139_000, "voltage_mv": 231_068});
        assert_eq!(live(&old), expected);
        assert_eq!(live(&new), expected);
        let feeding = live(&json!({ "power": -19.2, "voltage": 230 }));
        assert_eq!(
            (
                &feeding["power_mw"],
                &feeding["voltage_mv"],
                &feeding["current_ma"]
            ),
            (&json!(-19_200), &json!(230_000), &Value::Null)
        );
    }

    #[test]
    fn the_energy_is_that_of_the_day() {
        let time = json!({"year": 2026, "month": 11, "mday": 30, "hour": 8, "min": 5, "sec": 9});
        assert_eq!(local_time(&time).as_deref(), Some("2026-11-30 08:05:09"));
        let date = json!({ "year": 2026, "month": 11, "day": 30 });
        let members = ["year", "month", "day"];
        let energy = |days: Value| energy_of(&days, "day_list", &date, &members);
        let new = json!({"day_list": [
            {"year": 2026, "month": 11, "day": 30, "energy_wh": 46}, {"year": 2026, "month": 10, "day": 30, "energy_wh": 7}
        ]});
        assert_eq!(energy(new), Some(46));
        assert_eq!(
            energy(json!({"day_list": [{"year": 2026, "month": 11, "day": 30, "energy": 0.046}]})),
            Some(46)
        );
        assert_eq!(energy(json!({ "day_list": [] })), Some(0));
        assert_eq!(energy(json!({})), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let off = WeeklyOff {
            minute: 22 * 60 + 5,
            days: Weekdays::from_bits(0b100_0001),
        };
        let mut wire = with_id(weekly(off), "9A");
        assert_eq!(wire["wday"], json!([1, 0, 0, 0, 0, 0, 1]));
        let mut rule = json!({ "id": "9A", "enabled": true, "days": 0b100_0001, "desired_state": "off",
            "time": { "clock": { "hour": 22, "minute": 5 } } });
        assert_eq!(rule_of(&wire, true), Some(rule.clone()));
        rule["enabled"] = false.into();
        assert_eq!(rule_of(&wire, false), Some(rule.clone()));
        (wire["stime_opt"], wire["soffset"], wire["repeat"]) = (2.into(), (-30).into(), 0.into());
        (rule["time"], rule["days"]) = (json!({ "sunset": { "offset_minutes": -30 } }), Value::Null);
        assert_eq!(rule_of(&wire, false), Some(rule));
        for (member, unknown) in [("stime_opt", json!(7)), ("sact", json!(-1)), ("smin", json!(-5))] {
            let mut other = with_id(weekly(off), "9A");
            other[member] = unknown;
            assert_eq!(rule_of(&other, true), None);
        }
    }

    #[test]
    fn a_countdown_that_is_over_has_nothing_left() {
        let rule = json!({"act": 0, "delay": 300, "enable": 1, "id": "7C", "name": "timer", "remain": 120});
        assert_eq!(
            timer_of(&rule),
            json!({ "on": false, "length_s": 300, "remaining_s": 120 })
        );
        let over = json!({"act": 1, "delay": 300, "enable": 0, "id": "7C", "name": "timer", "remain": 120});
        assert_eq!(
            timer_of(&over),
            json!({ "on": true, "length_s": 300, "remaining_s": 0 })
        );
    }

    proptest! {
        #[test]
        fn no_json_panics(text in r#"[\[\]{}":,a-z0-9_ .-]{0,60}"#, number in any::<f64>(), id in ".{0,4}") {
            let value = serde_json::from_str(&text)
                .unwrap_or_else(|_| json!({"power": number, "id": id, "rule_list": number, "deviceId": id}));
            let (_, _, _) = (info(&value), live(&value), timer_of(&value));
            let _ = child_list(&json!({ "deviceId": id, "children": [value.clone(), { "id": id }] }));
            let _ = (rule_of(&value, true), local_time(&value), components(&value));
        }
    }
}
