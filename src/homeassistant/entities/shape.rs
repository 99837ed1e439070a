//! The part of a report that its discovery payload depends on.

use std::collections::BTreeSet;

use crate::domain::{
    hub_child::HubChild,
    report::{DeviceReport, Feature, Identity, Outlet},
};
use planner::{DeviceId, DeviceValue, OutletKey};

/// Reports of the same shape have the same discovery payload. Values are no part of it.
#[derive(Debug, PartialEq)]
pub struct Shape<'a> {
    id: &'a DeviceId,
    name: Option<&'a str>,
    identity: Option<&'a Identity>,
    progress: ReadState,
    has_led: bool,
    has_firmware: bool,
    outlets: Vec<OutletShape<'a>>,
    children: Vec<ChildShape<'a>>,
}

/// How much of the device is known.
#[derive(Debug, PartialEq)]
enum ReadState {
    /// All that it has.
    Complete,
    /// It is being read.
    Underway,
    /// It cannot be read.
    Unreadable,
}

#[derive(Debug, PartialEq)]
struct OutletShape<'a> {
    key: Option<&'a OutletKey>,
    position: u8,
    name: Option<&'a str>,
    features: &'a BTreeSet<Feature>,
    max_power: Option<u32>,
}

#[derive(Debug, PartialEq)]
struct ChildShape<'a> {
    id: &'a str,
    key: &'a OutletKey,
    name: Option<&'a str>,
    model: Option<&'a str>,
    firmware: Option<&'a str>,
    hardware: Option<&'a str>,
    values: Vec<DeviceValue>,
    /// The limits of a thermostat.
    is_button: bool,
    limits: Option<(f64, f64)>,
}

// All name all fields, so that a new one has to be put on one side.
impl<'a> From<&'a DeviceReport> for Shape<'a> {
    fn from(report: &'a DeviceReport) -> Self {
        let DeviceReport {
            id,
            name,
            identity,
            is_complete,
            outlets,
            led,
            latest_firmware,
            children,
            target: _,
            address: _,
            serving: _,
            phase: _,
            availability: _,
            error: _,
            rssi: _,
        } = report;
        Self {
            id,
            name: name.as_deref(),
            identity: identity.as_deref(),
            progress: match (is_complete, report.is_being_read()) {
                (true, _) => ReadState::Complete,
                (false, true) => ReadState::Underway,
                (false, false) => ReadState::Unreadable,
            },
            has_led: led.is_some(),
            has_firmware: latest_firmware.is_some(),
            outlets: outlets.iter().map(OutletShape::from).collect(),
            children: children.iter().map(ChildShape::from).collect(),
        }
    }
}

impl<'a> From<&'a Outlet> for OutletShape<'a> {
    fn from(outlet: &'a Outlet) -> Self {
        let Outlet {
            key,
            position,
            name,
            features,
            settings,
            power: _,
            on_since: _,
            on_at: _,
            off_seen_at: _,
            changed_by: _,
            condition: _,
            energy: _,
            countdown: _,
            rules: _,
        } = outlet;
        Self {
            key: key.as_ref(),
            position: *position,
            name: name.as_deref(),
            features,
            max_power: settings.max_power,
        }
    }
}

impl<'a> From<&'a HubChild> for ChildShape<'a> {
    fn from(child: &'a HubChild) -> Self {
        let HubChild {
            id,
            key,
            name,
            model,
            firmware,
            hardware,
            values,
            thermostat,
            is_button,
            availability: _,
        } = child;
        Self {
            id,
            key,
            name: name.as_deref(),
            model: model.as_deref(),
            firmware: firmware.as_deref(),
            hardware: hardware.as_deref(),
            values: values.keys().copied().collect(),
            is_button: *is_button,
            limits: thermostat.map(|thermostat| (thermostat.min, thermostat.max)),
        }
    }
}
