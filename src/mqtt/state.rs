//! State topics: what a report says, as JSON. Pure.
//!
//! Every key is always present; null is unknown. A missing key costs a warning per message in Home
//! Assistant. Nothing here changes while nothing happens.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    model::{OutletPath, Power},
    report::{Availability, Kind, Outlet, Phase, Report},
};

/// The state topics of one device, in the order in which they are published.
pub(super) fn states(report: &Report) -> Vec<(OutletPath, String)> {
    let device = OutletPath::device(report.id.clone());
    let Some(identity) = &report.identity else {
        // Not known yet whether it is a plug or a strip. Home Assistant may remember either from an earlier
        // run, so every key that it could read is there.
        let unknown = PlugState {
            outlet: OutletState::UNKNOWN,
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

#[derive(Serialize)]
struct OutletState {
    state: Option<Power>,
    on_since: Option<Timestamp>,
    overheated: Option<bool>,
    overloaded: Option<bool>,
}

#[derive(Serialize)]
struct DeviceState<'a> {
    rssi: Option<i64>,
    status: Phase,
    reason: Option<&'a str>,
}

impl OutletState {
    const UNKNOWN: Self = Self {
        state: None,
        on_since: None,
        overheated: None,
        overloaded: None,
    };

    fn of(outlet: &Outlet) -> Self {
        Self {
            state: outlet.power,
            on_since: outlet.on_since,
            overheated: outlet.overheated,
            overloaded: outlet.overloaded,
        }
    }
}

impl<'a> DeviceState<'a> {
    fn of(report: &'a Report) -> Self {
        let reason = report.trouble.as_ref().map(|trouble| trouble.message.as_str());
        Self {
            rssi: report.rssi,
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
    use crate::report::{Identity, Protections};

    pub(in crate::mqtt) fn report(kind: Kind, outlets: &[(Option<&str>, Option<Power>)]) -> Report {
        let outlet = |(index, (key, power)): (usize, &(Option<&str>, Option<Power>))| Outlet {
            key: key.map(|key| key.parse().unwrap()),
            position: u8::try_from(index + 1).unwrap(),
            name: Some(format!("Mat {}", index + 1)),
            power: *power,
            on_since: None,
            overheated: Some(false),
            overloaded: None,
            protections: Protections {
                heat: true,
                load: false,
            },
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
            "state": "ON", "on_since": null, "overheated": false, "overloaded": null,
            "rssi": -51, "status": "ready", "reason": null
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
            "state": null, "on_since": null, "overheated": null, "overloaded": null,
            "rssi": -51, "status": "connecting", "reason": null
        });
        assert_eq!(states, [("mats".to_owned(), expected)]);
    }
}
