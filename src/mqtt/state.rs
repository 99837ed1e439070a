//! State topics: what a report says, as JSON. Pure.
//!
//! Every key is always present; null is unknown. A missing key costs a warning per message in Home
//! Assistant. Nothing here changes while nothing happens.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    energy::{MilliAmps, MilliVolts, MilliWattHours, MilliWatts},
    model::{OutletPath, Power},
    report::{Availability, Condition, Energy, Kind, Outlet, Phase, Protection, Report},
};

/// The state topics of one device, in the order in which they are published.
pub(super) fn states(report: &Report) -> Vec<(OutletPath, String)> {
    let device = OutletPath::device(report.id.clone());
    let Some(identity) = &report.identity else {
        // Not known yet whether it is a plug or a strip. Home Assistant may remember either from an earlier
        // run, so every key that it could read is there.
        let unknown = PlugState {
            outlet: OutletState::default(),
            device: DeviceState::of(report),
        };
        return vec![(device, json(&unknown))];
    };
    if let (Kind::Plug, [outlet]) = (identity.kind, report.outlets.as_slice()) {
        let plug = PlugState {
            outlet: OutletState::of(outlet),
            device: DeviceState::of(report),
        };
        return vec![(device, json(&plug))];
    }
    let strip = StripState {
        state: any_on(&report.outlets),
        device: DeviceState::of(report),
    };
    let outlets = report.outlets.iter().filter_map(|outlet| {
        let path = OutletPath::outlet(report.id.clone(), outlet.key.clone()?);
        Some((path, json(&OutletState::of(outlet))))
    });
    outlets.chain([(device, json(&strip))]).collect()
}

/// `{"state":"online"}`: the form that zigbee2mqtt uses too.
pub(super) fn availability(availability: Availability) -> String {
    json(&AvailabilityState { state: availability })
}

#[derive(Serialize)]
struct AvailabilityState {
    state: Availability,
}

#[derive(Serialize)]
struct PlugState<'a> {
    #[serde(flatten)]
    outlet: OutletState,
    #[serde(flatten)]
    device: DeviceState<'a>,
}

#[derive(Serialize)]
struct StripState<'a> {
    state: Option<Power>,
    #[serde(flatten)]
    device: DeviceState<'a>,
}

#[derive(Serialize, Default)]
struct OutletState {
    state: Option<Power>,
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
struct DeviceState<'a> {
    rssi: Option<i64>,
    firmware: Option<&'a str>,
    /// No request of the `tapo` crate tells it.
    firmware_latest: Option<&'a str>,
    status: Phase,
    reason: Option<&'a str>,
}

impl OutletState {
    fn of(outlet: &Outlet) -> Self {
        Self {
            state: outlet.power,
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

/// The words of all protections that say anything but `normal`, so that one nobody has seen is seen.
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
            power: energy.power.map(MilliWatts::watts),
            voltage: energy.voltage.map(MilliVolts::volts),
            current: energy.current.map(MilliAmps::amps),
            energy_today: energy.today.map(MilliWattHours::kilowatt_hours),
            energy_month: energy.month.map(MilliWattHours::kilowatt_hours),
            energy_total: energy.total.map(MilliWattHours::kilowatt_hours),
        }
    }
}

impl<'a> DeviceState<'a> {
    fn of(report: &'a Report) -> Self {
        let reason = report.trouble.as_ref().map(|trouble| trouble.message.as_str());
        let identity = report.identity.as_deref();
        Self {
            rssi: report.rssi,
            firmware: identity.and_then(|identity| identity.firmware.as_deref()),
            firmware_latest: None,
            status: report.phase,
            reason,
        }
    }
}

/// A strip is on if any of its outlets is.
pub(super) fn any_on(outlets: &[Outlet]) -> Option<Power> {
    outlets.iter().filter_map(|outlet| outlet.power).max()
}

/// Serialises what cannot fail: structs with named fields and no maps.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        energy::WattHours,
        report::{Countdown, Feature, Identity},
    };

    fn said(word: &str, tripped: Option<bool>) -> Protection {
        Protection {
            word: word.to_owned(),
            tripped,
        }
    }

    fn energy() -> Energy {
        Energy {
            power: Some(MilliWatts::new(234_838)),
            voltage: Some(MilliVolts::new(240_695)),
            current: None,
            today: Some(WattHours::new(46).into()),
            month: Some(MilliWattHours::ZERO),
            total: Some(MilliWattHours::new(8_725_929)),
        }
    }

    pub(in crate::mqtt) fn report(kind: Kind, outlets: &[(Option<&str>, Option<Power>)]) -> Report {
        let outlet = |(index, (key, power)): (usize, &(Option<&str>, Option<Power>))| Outlet {
            key: key.map(|key| key.parse().unwrap()),
            position: u8::try_from(index + 1).unwrap(),
            name: Some(format!("Mat {}", index + 1)),
            power: *power,
            on_since: None,
            condition: Condition {
                overheat: Some(said("normal", Some(false))),
                overload: Some(said("novel", None)),
                ..Condition::default()
            },
            energy: energy(),
            features: [
                Feature::Overheat,
                Feature::Overload,
                Feature::AutoOff,
                Feature::Voltage,
            ]
            .into(),
            countdown: Countdown::Unknown,
        };
        Report {
            id: "mats".parse().unwrap(),
            name: Some("Mats".to_owned()),
            address: "192.0.2.7".to_owned(),
            phase: Phase::Ready,
            availability: Availability::Online,
            trouble: None,
            identity: Some(Arc::new(Identity {
                device_id: "8022".to_owned(),
                model: "P304M".to_owned(),
                firmware: Some("1.4.2 Build 260513".to_owned()),
                hardware: Some("1.0".to_owned()),
                mac: Some("aa:bb:cc:00:11:22".to_owned()),
                nickname: None,
                kind,
                meters_energy: true,
            })),
            rssi: Some(-51),
            outlets: outlets.iter().enumerate().map(outlet).collect(),
        }
    }

    fn parsed(report: &Report) -> Vec<(String, Value)> {
        let parse =
            |(path, text): (OutletPath, String)| (path.to_string(), serde_json::from_str(&text).unwrap());
        states(report).into_iter().map(parse).collect()
    }

    #[test]
    fn a_plug_has_one_topic_with_everything() {
        let states = parsed(&report(Kind::Plug, &[(None, Some(Power::On))]));
        let expected = json!({
            "state": "ON", "on_since": null,
            "overheated": false, "overloaded": null, "overcurrent": null, "protection": "novel",
            "charging": null, "auto_off": null, "auto_off_at": null,
            "power": 234.8, "voltage": 240.7, "current": null,
            "energy_today": 0.046, "energy_month": 0.0, "energy_total": 8.726,
            "rssi": -51, "firmware": "1.4.2 Build 260513", "firmware_latest": null,
            "status": "ready", "reason": null
        });
        assert_eq!(states, [("mats".to_owned(), expected)]);
    }

    #[test]
    fn a_strip_has_a_topic_per_outlet_and_is_on_if_any_is() {
        let states = parsed(&report(
            Kind::Strip,
            &[(Some("left"), Some(Power::Off)), (Some("2"), None)],
        ));
        let paths: Vec<_> = states.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["mats/left", "mats/2", "mats"]);
        assert_eq!(
            (&states[1].1["state"], &states[2].1["state"]),
            (&Value::Null, &json!("OFF"))
        );
    }

    #[test]
    fn a_device_that_was_never_reached_has_every_key_too() {
        let mut report = report(Kind::Plug, &[]);
        report.identity = None;
        report.phase = Phase::Connecting;
        let states = parsed(&report);
        let expected = json!({
            "state": null, "on_since": null,
            "overheated": null, "overloaded": null, "overcurrent": null, "protection": null,
            "charging": null, "auto_off": null, "auto_off_at": null,
            "power": null, "voltage": null, "current": null,
            "energy_today": null, "energy_month": null, "energy_total": null,
            "rssi": -51, "firmware": null, "firmware_latest": null, "status": "connecting", "reason": null
        });
        assert_eq!(states, [("mats".to_owned(), expected)]);
    }
}
