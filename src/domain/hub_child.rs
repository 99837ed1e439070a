//! A sensor or thermostat that connects to a hub.

use std::{collections::BTreeMap, fmt};

use planner::{DeviceId, DeviceValue, OutletKey, Steady, sensor::SensorValue};
use serde::Serialize;

use super::{devices::DeviceTarget, report::Availability};

/// A sensor or thermostat that connects to a hub.
#[derive(Debug, Clone, PartialEq)]
pub struct HubChild {
    /// Its own id, stable over changes of its name.
    pub id: String,
    /// Its topic level: configured, else made of its name in the app.
    pub key: OutletKey,
    /// Configured name, else the nickname in the app.
    pub name: Option<String>,
    /// `T315`, `KE100`...
    pub model: Option<String>,
    /// Firmware version.
    pub firmware: Option<String>,
    /// Hardware version.
    pub hardware: Option<String>,
    /// Whether the hub reaches it.
    pub availability: Availability,
    /// What it reported at least once; `None` is unknown, and so is everything while the hub does not reach it.
    pub values: BTreeMap<DeviceValue, Option<SensorValue>>,
    /// What only a thermostat has.
    pub thermostat: Option<Thermostat>,
    /// Whether it is a button, whose presses are events.
    pub is_button: bool,
}

impl HubChild {
    /// What a thermostat is set to, °C.
    pub fn target(&self) -> Option<f64> {
        match self.values.get(&DeviceValue::TargetTemperature)? {
            Some(SensorValue::Number(celsius)) => Some(*celsius),
            _ => None,
        }
    }
}

/// What a thermostat does, as Home Assistant and zigbee2mqtt name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemMode {
    /// It keeps its target temperature.
    Heat,
    /// It only protects against frost.
    Off,
}

impl SystemMode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Heat, Self::Off];

    /// The mode of a thermostat that is on or not.
    pub fn of(is_on: bool) -> Self {
        if is_on { Self::Heat } else { Self::Off }
    }

    /// As in topics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heat => "heat",
            Self::Off => "off",
        }
    }
}

/// A target temperature in tenths of a degree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetTemperature(i16);

impl TargetTemperature {
    /// From 0 to 50 °C; `None` for anything else.
    pub fn of_celsius(celsius: f64) -> Option<Self> {
        let possible = (0.0..=50.0).contains(&celsius);
        // Within the range it fits.
        #[allow(clippy::cast_possible_truncation)]
        possible.then(|| Self((celsius * 10.0).round() as i16))
    }

    /// In °C.
    pub fn celsius(self) -> f64 {
        f64::from(self.0) / 10.0
    }
}

/// What a command changes on a thermostat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThermostatChange {
    /// The new target; it does not turn the thermostat on.
    pub target: Option<TargetTemperature>,
    /// On or off.
    pub mode: Option<SystemMode>,
}

impl ThermostatChange {
    /// Whether an older change that was not carried out yet would be undone by this one.
    pub fn replaces(self, older: Self) -> bool {
        (older.target.is_none() || self.target.is_some()) && (older.mode.is_none() || self.mode.is_some())
    }
}

impl fmt::Display for ThermostatChange {
    /// As in the log: `21.5 °C, heat`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target.map(|target| format!("{} °C", target.celsius()));
        let mode = self.mode.map(|mode| mode.as_str().to_owned());
        let parts: Vec<String> = target.into_iter().chain(mode).collect();
        f.write_str(&parts.join(", "))
    }
}

/// The settings of a thermostat that are no values of sensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thermostat {
    /// Whether it keeps its target temperature; else it only protects against frost. `None` while it is offline.
    pub is_on: Option<bool>,
    /// Whether it heats now.
    pub is_heating: Option<bool>,
    /// The lowest target, °C.
    pub min: f64,
    /// The highest target, °C.
    pub max: f64,
}

impl Thermostat {
    /// What it does now; `None` while that is not known.
    pub fn action(&self) -> Option<ThermostatAction> {
        match (self.is_on, self.is_heating) {
            (Some(false), _) => Some(ThermostatAction::Off),
            (_, Some(true)) => Some(ThermostatAction::Heating),
            (_, Some(false)) => Some(ThermostatAction::Idle),
            (_, None) => None,
        }
    }
}

/// What a thermostat does now, as Home Assistant names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ThermostatAction {
    /// It is off.
    Off,
    /// It heats.
    Heating,
    /// It is warm enough.
    Idle,
}

/// One reading of what is connected to a hub, whether anything changed or not: a value counts from its reading.
#[derive(Debug, Clone, PartialEq)]
pub struct HubReading {
    /// The hub.
    pub device: DeviceId,
    /// Which device its worker has the id for.
    pub target: DeviceTarget,
    /// When it was read.
    pub at: Steady,
    /// Each value that is known.
    pub values: BTreeMap<(OutletKey, DeviceValue), SensorValue>,
}
