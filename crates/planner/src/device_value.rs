//! What the sensors that connect to a hub measure.

use std::fmt;

use serde::{Serialize, Serializer};

/// A value of a sensor or thermostat that connects to a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceValue {
    /// °C.
    Temperature,
    /// Relative humidity, %.
    Humidity,
    /// Which temperature a thermostat is set to, °C.
    TargetTemperature,
    /// Whether something moves.
    Motion,
    /// Whether a door or window is open.
    Open,
    /// Whether there is water.
    WaterLeak,
    /// The charge of the battery, %.
    Battery,
    /// Whether the battery is to be replaced.
    BatteryLow,
    /// The signal to the hub, dBm.
    Rssi,
}

impl DeviceValue {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Temperature,
        Self::Humidity,
        Self::TargetTemperature,
        Self::Motion,
        Self::Open,
        Self::WaterLeak,
        Self::Battery,
        Self::BatteryLow,
        Self::Rssi,
    ];

    /// Its name, as in settings and in the published state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::TargetTemperature => "target_temperature",
            Self::Motion => "motion",
            Self::Open => "open",
            Self::WaterLeak => "water_leak",
            Self::Battery => "battery",
            Self::BatteryLow => "battery_low",
            Self::Rssi => "rssi",
        }
    }
}

impl fmt::Display for DeviceValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for DeviceValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
