//! The settings that a device keeps itself, and its firmware, as JSON.

use serde::Serialize;

use crate::domain::{
    device_settings::{OutletSettings, PowerOnBehavior},
    report::DeviceReport,
};

/// `settings` of a plug.
#[derive(Serialize)]
pub(super) struct PlugSettingsState {
    #[serde(flatten)]
    device: DeviceSettingsState,
    #[serde(flatten)]
    outlet: OutletSettingsState,
}

/// `settings` of a strip.
#[derive(Serialize)]
pub(super) struct DeviceSettingsState {
    led: Option<bool>,
}

/// `settings` of an outlet of a strip.
#[derive(Serialize, Default)]
pub(super) struct OutletSettingsState {
    auto_off: Option<bool>,
    auto_off_delay: Option<u32>,
    power_protection: Option<bool>,
    power_protection_threshold: Option<u32>,
    power_on_behavior: Option<PowerOnBehavior>,
}

/// `update`, in the words of Home Assistant, which refuses null in it.
#[derive(Serialize)]
pub(super) struct UpdateState<'a> {
    installed_version: &'a str,
    latest_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    release_summary: Option<&'a str>,
}

impl PlugSettingsState {
    pub(super) fn of(report: &DeviceReport, settings: OutletSettings) -> Self {
        Self {
            device: DeviceSettingsState::of(report),
            outlet: OutletSettingsState::of(settings),
        }
    }
}

impl DeviceSettingsState {
    pub(super) fn of(report: &DeviceReport) -> Self {
        Self { led: report.led }
    }
}

impl OutletSettingsState {
    pub(super) fn of(settings: OutletSettings) -> Self {
        Self {
            auto_off: settings.auto_off,
            auto_off_delay: settings.auto_off_delay,
            power_protection: settings.power_protection,
            power_protection_threshold: settings.power_protection_threshold,
            power_on_behavior: settings.power_on_behavior,
        }
    }
}

impl<'a> UpdateState<'a> {
    /// `None` until both versions are known.
    pub(super) fn of(report: &'a DeviceReport) -> Option<Self> {
        let latest = report.latest_firmware.as_deref()?;
        Some(Self {
            installed_version: report.identity.as_deref()?.firmware.as_deref()?,
            latest_version: &latest.version,
            release_summary: latest.note.as_deref(),
        })
    }
}
