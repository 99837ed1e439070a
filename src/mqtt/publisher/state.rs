//! State topics: a report as JSON. Pure.
//!
//! Every key is always present; null is unknown. A missing key costs a warning per message in Home
//! Assistant. Nothing here changes while nothing happens.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

mod device_rules;
mod settings;
mod weather;

pub(in crate::mqtt) use self::weather::WeatherState;
use self::{
    device_rules::DeviceRulesState,
    settings::{DeviceSettingsState, OutletSettingsState, PlugSettingsState, UpdateState},
};
use super::status_cache::StatusCache;
use crate::domain::{
    device_settings::OutletSettings,
    hub_child::{HubChild, SystemMode, ThermostatAction},
    report::{Availability, Condition, DeviceError, DeviceReport, Energy, Kind, Outlet, Phase, Protection},
    scheduling::OutletStatus,
};
use planner::{
    DeviceValue, OutletKey, OutletPath, Power,
    sensor::SensorValue,
    units::{MilliAmps, MilliVolts, MilliWattHours, NetMilliWatts},
};

/// The state topics of one device, in the order in which they are published. `retained` are the outlets whose topics hold
/// a message: before the first login, when the outlets of a strip are not known, it becomes one without values.
pub fn states(
    report: &DeviceReport,
    statuses: &StatusCache,
    retained: &BTreeSet<OutletKey>,
) -> Vec<(OutletPath, String)> {
    let device = OutletPath::device(report.id.clone());
    let plug = |outlet, settings, rules| {
        let plug = PlugState {
            outlet,
            settings: PlugSettingsState::of(report, settings),
            rules,
            status: statuses.outlet(&device),
            device: DeviceValues::of(report),
        };
        (device.clone(), json(&plug))
    };
    let Some(identity) = &report.identity else {
        // Not known yet whether it is a plug or a strip. Home Assistant may remember either from an earlier
        // run, so every key that it could read is there.
        let members = statuses.members_of(&report.id);
        let retained = retained
            .iter()
            .map(|key| OutletPath::outlet(report.id.clone(), key.clone()));
        let paths: BTreeSet<OutletPath> = members.chain(retained).collect();
        let outlets = paths.into_iter().map(|path| {
            let state = StripOutletState {
                outlet: OutletValues::default(),
                settings: OutletSettingsState::default(),
                rules: DeviceRulesState::default(),
                status: statuses.outlet(&path),
            };
            let state = json(&state);
            (path, state)
        });
        return outlets
            .chain([plug(
                OutletValues::default(),
                OutletSettings::default(),
                DeviceRulesState::default(),
            )])
            .collect();
    };
    if let (Kind::Plug, [outlet]) = (identity.kind, report.outlets.as_slice()) {
        let rules = DeviceRulesState::of(outlet, statuses.outlet(&device));
        return vec![plug(OutletValues::of(outlet), outlet.settings, rules)];
    }
    if identity.kind == Kind::Hub {
        return hub_states(report);
    }
    let strip = StripState {
        state: any_on(&report.outlets),
        settings: DeviceSettingsState::of(report),
        device: DeviceValues::of(report),
    };
    let outlets = report.outlets.iter().filter_map(|outlet| {
        let path = OutletPath::outlet(report.id.clone(), outlet.key.clone()?);
        let status = statuses.outlet(&path);
        let state = StripOutletState {
            outlet: OutletValues::of(outlet),
            settings: OutletSettingsState::of(outlet.settings),
            rules: DeviceRulesState::of(outlet, status),
            status,
        };
        let state = json(&state);
        Some((path, state))
    });
    outlets.chain([(device.clone(), json(&strip))]).collect()
}

/// Those of a hub and of what is connected to it.
fn hub_states(report: &DeviceReport) -> Vec<(OutletPath, String)> {
    let children = report.children.iter().map(|child| {
        let path = OutletPath::outlet(report.id.clone(), child.key.clone());
        (path, json(&ChildState::of(child)))
    });
    let hub = (
        OutletPath::device(report.id.clone()),
        json(&DeviceValues::of(report)),
    );
    children.chain([hub]).collect()
}

/// Whether what is connected to a hub can be used.
pub(super) fn child_availability(report: &DeviceReport, child: &HubChild) -> Availability {
    match report.availability {
        Availability::Online => child.availability,
        Availability::Offline => Availability::Offline,
    }
}

/// `{"state":"online"}`: the form that zigbee2mqtt uses too.
pub(crate) fn availability(availability: Availability) -> String {
    json(&AvailabilityState { state: availability })
}

#[derive(Serialize)]
struct AvailabilityState {
    state: Availability,
}

#[derive(Serialize)]
struct PlugState<'a> {
    #[serde(flatten)]
    outlet: OutletValues,
    settings: PlugSettingsState,
    #[serde(flatten)]
    rules: DeviceRulesState,
    #[serde(flatten)]
    status: &'a OutletStatus,
    #[serde(flatten)]
    device: DeviceValues<'a>,
}

#[derive(Serialize)]
struct StripOutletState<'a> {
    #[serde(flatten)]
    outlet: OutletValues,
    settings: OutletSettingsState,
    #[serde(flatten)]
    rules: DeviceRulesState,
    #[serde(flatten)]
    status: &'a OutletStatus,
}

#[derive(Serialize)]
struct StripState<'a> {
    state: Option<Power>,
    settings: DeviceSettingsState,
    #[serde(flatten)]
    device: DeviceValues<'a>,
}

/// What a sensor or thermostat reported at least once. °C and %.
#[derive(Serialize)]
struct ChildState<'a> {
    #[serde(flatten)]
    values: &'a BTreeMap<DeviceValue, Option<SensorValue>>,
    #[serde(flatten)]
    thermostat: Option<ThermostatState>,
    model: Option<&'a str>,
    firmware: Option<&'a str>,
}

#[derive(Serialize)]
struct ThermostatState {
    system_mode: Option<SystemMode>,
    action: Option<ThermostatAction>,
}

#[derive(Serialize, Default)]
struct OutletValues {
    state: Option<Power>,
    brightness: Option<u8>,
    on_since: Option<Timestamp>,
    #[serde(flatten)]
    condition: ConditionState,
    #[serde(flatten)]
    energy: EnergyState,
}

#[derive(Serialize, Default)]
struct ConditionState {
    overheated: Option<bool>,
    overloaded: Option<bool>,
    overcurrent: Option<bool>,
    protection: Option<String>,
    charging: Option<String>,
    auto_off: Option<String>,
    auto_off_at: Option<Timestamp>,
}

/// W, V, A and kWh.
#[derive(Serialize, Default)]
struct EnergyState {
    power: Option<f64>,
    voltage: Option<f64>,
    current: Option<f64>,
    energy_today: Option<f64>,
    energy_month: Option<f64>,
    energy_total: Option<f64>,
}

#[derive(Serialize)]
struct DeviceValues<'a> {
    rssi: Option<i64>,
    firmware: Option<&'a str>,
    update: Option<UpdateState<'a>>,
    status: Phase,
    error: Option<&'a DeviceError>,
}

impl<'a> ChildState<'a> {
    fn of(child: &'a HubChild) -> Self {
        Self {
            values: &child.values,
            thermostat: child.thermostat.map(|thermostat| ThermostatState {
                system_mode: thermostat.is_on.map(SystemMode::of),
                action: thermostat.action(),
            }),
            model: child.model.as_deref(),
            firmware: child.firmware.as_deref(),
        }
    }
}

impl OutletValues {
    fn of(outlet: &Outlet) -> Self {
        Self {
            state: outlet.power,
            brightness: outlet.settings.brightness,
            on_since: outlet.on_since,
            condition: ConditionState::of(&outlet.condition),
            energy: EnergyState::of(&outlet.energy),
        }
    }
}

impl ConditionState {
    fn of(condition: &Condition) -> Self {
        let tripped = |protection: &Option<Protection>| protection.as_ref()?.tripped;
        Self {
            overheated: tripped(&condition.overheat),
            overloaded: tripped(&condition.overload),
            overcurrent: tripped(&condition.overcurrent),
            protection: protection(condition),
            charging: condition.charging.clone(),
            auto_off: condition.auto_off.clone(),
            auto_off_at: condition.auto_off_at,
        }
    }
}

/// The words of all protections that are not `normal`, so that an unknown one is shown.
fn protection(condition: &Condition) -> Option<String> {
    let protections = [&condition.overheat, &condition.overload, &condition.overcurrent];
    let words: Vec<&str> = protections
        .into_iter()
        .flatten()
        .map(|protection| protection.word.as_str())
        .collect();
    let odd: Vec<&str> = words.iter().copied().filter(|word| *word != NORMAL).collect();
    match (words.is_empty(), odd.is_empty()) {
        (true, _) => None,
        (false, true) => Some(NORMAL.to_owned()),
        (false, false) => Some(odd.join(", ")),
    }
}

const NORMAL: &str = "normal";

impl EnergyState {
    fn of(energy: &Energy) -> Self {
        Self {
            power: energy.power.map(NetMilliWatts::watts),
            voltage: energy.voltage.map(MilliVolts::volts),
            current: energy.current.map(MilliAmps::amps),
            energy_today: energy.today.map(MilliWattHours::kilowatt_hours),
            energy_month: energy.month.map(MilliWattHours::kilowatt_hours),
            energy_total: energy.total.map(MilliWattHours::kilowatt_hours),
        }
    }
}

impl<'a> DeviceValues<'a> {
    fn of(report: &'a DeviceReport) -> Self {
        let identity = report.identity.as_deref();
        Self {
            rssi: report.rssi,
            firmware: identity.and_then(|identity| identity.firmware.as_deref()),
            update: UpdateState::of(report),
            status: report.phase,
            error: report.error.as_ref(),
        }
    }
}

/// A strip is on if any of its outlets is.
pub(super) fn any_on(outlets: &[Outlet]) -> Option<Power> {
    outlets.iter().filter_map(|outlet| outlet.power).max()
}

/// Serialises what cannot fail: structs with named fields and no maps.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests;
