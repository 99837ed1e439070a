//! The thermostat of a group: what a command changes on it, and what is published of it.

use std::fmt;

use planner::{
    Power,
    overrides::OverrideState,
    plan::{GroupPlan, ThermostatPlan},
    sensor::{Scale, Temperature},
    setpoint::Setpoint,
    thermostat::{Preset, ThermostatMode},
};
use serde::{Serialize, Serializer};

use super::hub_child::ThermostatAction;

/// A temperature in tenths of a degree, on the scale of a thermometer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenths(i32);

impl Tenths {
    /// From degrees; `None` for what no thermometer shows.
    pub fn of(degrees: f64) -> Option<Self> {
        let possible = (-1000.0..=1000.0).contains(&degrees);
        // Within the range it fits.
        #[allow(clippy::cast_possible_truncation)]
        possible.then(|| Self((degrees * 10.0).round() as i32))
    }

    /// In degrees.
    pub fn degrees(self) -> f64 {
        f64::from(self.0) / 10.0
    }
}

impl Serialize for Tenths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.degrees())
    }
}

/// What a command changes on the thermostat of a group. A preset goes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeatingChange {
    /// Another target, on the scale of the thermometer.
    Target(Tenths),
    /// Another mode; `heat` may have a target.
    Mode(ThermostatMode, Option<Tenths>),
    /// Another preset.
    Preset(Preset),
}

impl fmt::Display for HeatingChange {
    /// As in the log: `target 21.5`, `heat 21.5`, `boost`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => write!(f, "target {}", target.degrees()),
            Self::Mode(mode, None) => write!(f, "mode {mode}"),
            Self::Mode(mode, Some(target)) => write!(f, "mode {mode}, target {}", target.degrees()),
            Self::Preset(preset) => write!(f, "preset {preset}"),
        }
    }
}

/// What is published of the thermostat of a group: keys of its state JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HeatingStatus {
    /// What it holds; `null` while it only protects against frost, or an override switches its outlets.
    pub target: Option<Tenths>,
    /// What the thermometer shows; `null` while that is not known.
    pub temperature: Option<Tenths>,
    /// The scale of both.
    #[serde(serialize_with = "as_text")]
    pub temperature_unit: Scale,
    /// Whether schedules decide.
    pub system_mode: ThermostatMode,
    /// Whether it is set to an absence, or to heat more for a while.
    pub preset: Preset,
    /// What it does now; `null` while that is not known.
    pub action: Option<ThermostatAction>,
    /// `online` while an outlet of it can be reached.
    #[serde(serialize_with = "as_word")]
    pub reachable: bool,
}

impl HeatingStatus {
    /// Before anything is known.
    pub fn unknown(scale: Scale) -> Self {
        Self {
            target: None,
            temperature: None,
            temperature_unit: scale,
            system_mode: ThermostatMode::Auto,
            preset: Preset::None,
            action: None,
            reachable: false,
        }
    }

    /// By the plan of a group. `scale` is that of its thermometer.
    pub fn of(plan: &GroupPlan, thermostat: ThermostatPlan, scale: Scale, reachable: bool) -> Self {
        let target = thermostat.target().map(|target: Setpoint| target.on(scale));
        let room = thermostat
            .room
            .map(|(room, _): (Temperature, Scale)| scale.degrees(room));
        let overridden = thermostat.overridden;
        let mode = overridden.map_or(ThermostatMode::Auto, OverrideState::thermostat_mode);
        Self {
            target: target.and_then(Tenths::of),
            temperature: room.and_then(Tenths::of),
            temperature_unit: scale,
            system_mode: mode,
            preset: overridden.map_or(Preset::None, OverrideState::preset),
            action: match (plan.state, mode) {
                (Some(Power::On), _) => Some(ThermostatAction::Heating),
                (Some(Power::Off), ThermostatMode::Off) => Some(ThermostatAction::Off),
                (Some(Power::Off), _) => Some(ThermostatAction::Idle),
                (None, _) => None,
            },
            reachable,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn as_text<S: Serializer>(scale: &Scale, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(scale)
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn as_word<S: Serializer>(reachable: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *reachable { "online" } else { "offline" })
}
