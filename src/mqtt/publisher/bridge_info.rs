//! `bridge/info`, `bridge/devices`, `bridge/last_error` and `bridge/event` as JSON. Pure.

use std::{collections::BTreeMap, sync::Arc};

use ha_discovery::STATE_TEXT_MAX;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::retained_outlets::{OutletEntry, RetainedOutlets};
use crate::{
    domain::{
        button_action::ButtonAction,
        command_error::ErrorCode,
        report::{Availability, DeviceReport, Event, EventKind, Kind, Phase},
    },
    system::telemetry::Level,
};
use planner::{DeviceId, GroupId, OutletKey, Power, plan::Vacation, shortened};

/// What only a reload changes while the process runs.
#[derive(Debug, Clone)]
pub struct BridgeInfo {
    /// When the process started.
    pub started_at: Timestamp,
    /// Whether credentials are missing.
    pub setup_mode: bool,
    /// The findings of the start, such as a state file that was set aside.
    pub start_checks: Vec<String>,
    /// Why the settings that were read last are not used.
    pub settings_error: Option<String>,
    /// The settings without secrets.
    pub settings: Value,
}

#[derive(Serialize)]
pub(crate) struct InfoPayload<'a> {
    version: &'static str,
    started_at: Timestamp,
    setup_mode: bool,
    start_checks: &'a [String],
    log_level: Level,
    devices_online: usize,
    devices: usize,
    /// `null` until the scheduler has sent it.
    vacation: Option<bool>,
    vacation_since: Option<Timestamp>,
    /// Why the settings that were read last are not used; `null` if they are.
    settings_error: Option<&'a str>,
    settings: &'a Value,
}

impl<'a> InfoPayload<'a> {
    pub(crate) fn of(
        about: &'a BridgeInfo,
        reports: &BTreeMap<DeviceId, Arc<DeviceReport>>,
        configured: usize,
        vacation: Option<Vacation>,
        log_level: Level,
    ) -> Self {
        let online = |report: &&Arc<DeviceReport>| report.availability == Availability::Online;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started_at: about.started_at,
            setup_mode: about.setup_mode,
            start_checks: &about.start_checks,
            log_level,
            devices_online: reports.values().filter(online).count(),
            devices: configured,
            vacation: vacation.map(|vacation| vacation != Vacation::Off),
            vacation_since: match vacation {
                Some(Vacation::Since(instant)) => Some(instant),
                Some(Vacation::Off) | None => None,
            },
            settings_error: about.settings_error.as_deref(),
            settings: &about.settings,
        }
    }
}

/// One entry of `bridge/devices`.
#[derive(PartialEq, Serialize)]
pub(super) struct DeviceEntry<'a> {
    id: &'a DeviceId,
    name: Option<&'a str>,
    nickname: Option<&'a str>,
    device_id: Option<&'a str>,
    model: Option<&'a str>,
    hardware: Option<&'a str>,
    firmware: Option<&'a str>,
    mac: Option<&'a str>,
    address: Option<&'a str>,
    client: Option<&'static str>,
    transport: Option<&'static str>,
    kind: Option<Kind>,
    outlets: Vec<OutletEntry>,
    /// What is connected to a hub.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<OutletEntry>,
    features: Vec<&'static str>,
    availability: Availability,
    status: Phase,
    last_error: Option<&'a str>,
}

impl<'a> DeviceEntry<'a> {
    /// The outlets are those with a retained state, which may be more than the device reports yet.
    pub(super) fn of(
        report: &'a DeviceReport,
        retained: &RetainedOutlets,
        children: &RetainedOutlets,
    ) -> Self {
        let identity = report.identity.as_deref();
        let mut outlets: Vec<OutletEntry> = retained.of(&report.id).cloned().collect();
        outlets.sort_by_key(|outlet| outlet.position);
        Self {
            id: &report.id,
            name: report.name.as_deref(),
            nickname: identity.and_then(|identity| identity.nickname.as_deref()),
            device_id: identity.map(|identity| identity.device_id.as_str()),
            hardware: identity.and_then(|identity| identity.hardware.as_deref()),
            model: identity.map(|identity| identity.model.as_str()),
            firmware: identity.and_then(|identity| identity.firmware.as_deref()),
            mac: identity.and_then(|identity| identity.mac.as_deref()),
            address: Some(&report.address),
            client: report.serving.map(|serving| serving.client),
            transport: report.serving.and_then(|serving| serving.transport),
            kind: identity.map(|identity| identity.kind),
            outlets,
            children: children.of(&report.id).cloned().collect(),
            features: identity
                .filter(|identity| identity.meters_energy)
                .map(|_| "energy")
                .into_iter()
                .collect(),
            availability: report.availability,
            status: report.phase,
            last_error: report.error.as_ref().map(|error| error.message.as_str()),
        }
    }

    /// A device that has not reported in this run.
    pub(super) fn unknown(id: &'a DeviceId, retained: &RetainedOutlets, children: &RetainedOutlets) -> Self {
        Self {
            id,
            name: None,
            nickname: None,
            device_id: None,
            model: None,
            hardware: None,
            firmware: None,
            mac: None,
            address: None,
            client: None,
            transport: None,
            kind: None,
            outlets: retained.of(id).cloned().collect(),
            children: children.of(id).cloned().collect(),
            features: Vec::new(),
            availability: Availability::Offline,
            status: Phase::Connecting,
            last_error: None,
        }
    }
}

/// `bridge/last_error`: the newest error of a device or the settings, or a null message once there is none.
#[derive(Serialize, Default)]
pub(crate) struct LastError<'a> {
    code: Option<ErrorCode>,
    message: Option<String>,
    device: Option<&'a DeviceId>,
    at: Option<Timestamp>,
}

impl<'a> LastError<'a> {
    pub(crate) fn of(report: Option<&'a DeviceReport>, now: Timestamp) -> Self {
        let Some((report, error)) = report.and_then(|report| Some((report, report.error.as_ref()?))) else {
            return Self::default();
        };
        let name = report.name.as_deref().unwrap_or(report.id.as_str());
        let message = format!("{name}: {}", error.message);
        Self {
            code: Some(error.code),
            message: Some(shortened(message, STATE_TEXT_MAX)),
            device: Some(&report.id),
            at: Some(now),
        }
    }

    pub(crate) fn of_settings(why: &str, now: Timestamp) -> Self {
        Self {
            code: Some(ErrorCode::InvalidSettings),
            message: Some(shortened(why.to_owned(), STATE_TEXT_MAX)),
            device: None,
            at: Some(now),
        }
    }
}

/// `bridge/event`.
#[derive(Serialize)]
pub(crate) struct EventBody<'a> {
    #[serde(rename = "type")]
    kind: EventKind,
    device: Option<&'a DeviceId>,
    outlet: Option<&'a OutletKey>,
    group: Option<&'a GroupId>,
    /// What the relay is now, for `external_change`.
    state: Option<Power>,
    /// Only for `button`.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<ButtonAction>,
    message: &'a str,
    at: Timestamp,
}

impl<'a> EventBody<'a> {
    pub(crate) fn of(event: &'a Event) -> Self {
        Self {
            kind: event.kind,
            device: event.device.as_ref(),
            outlet: event.outlet.as_ref(),
            group: event.group.as_ref(),
            state: event.state,
            action: event.action,
            message: &event.message,
            at: event.at,
        }
    }
}
