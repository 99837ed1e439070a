//! Device classes: what a value means. Each brings the unit and the statistics that belong to it, so a
//! pair that Home Assistant rejects cannot be written. Only classes that are needed are listed.

use serde::Serialize;

/// What a sensor measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SensorClass {
    /// Electric power in W.
    Power,
    /// Electric energy in kWh, counted up; it may fall back to 0 at the start of a day or a month.
    Energy,
    /// Voltage in V.
    Voltage,
    /// Current in A.
    Current,
    /// Strength of the radio signal in dBm.
    SignalStrength,
    /// Temperature in °C.
    Temperature,
    /// Relative humidity in %.
    Humidity,
    /// The charge of a battery in %.
    Battery,
    /// An instant, sent as RFC 3339 with an offset.
    Timestamp,
}

impl SensorClass {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Energy => "energy",
            Self::Voltage => "voltage",
            Self::Current => "current",
            Self::SignalStrength => "signal_strength",
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Battery => "battery",
            Self::Timestamp => "timestamp",
        }
    }

    pub(crate) fn unit(self) -> Option<&'static str> {
        match self {
            Self::Power => Some("W"),
            Self::Energy => Some("kWh"),
            Self::Voltage => Some("V"),
            Self::Current => Some("A"),
            Self::SignalStrength => Some("dBm"),
            Self::Temperature => Some("°C"),
            Self::Humidity | Self::Battery => Some("%"),
            Self::Timestamp => None,
        }
    }

    pub(crate) fn state_class(self) -> Option<StateClass> {
        match self {
            Self::Energy => Some(StateClass::TotalIncreasing),
            Self::Timestamp => None,
            _ => Some(StateClass::Measurement),
        }
    }

    /// The name that Home Assistant gives in English when none is sent.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Power => "Power",
            Self::Energy => "Energy",
            Self::Voltage => "Voltage",
            Self::Current => "Current",
            Self::SignalStrength => "Signal strength",
            Self::Temperature => "Temperature",
            Self::Humidity => "Humidity",
            Self::Battery => "Battery",
            Self::Timestamp => "Timestamp",
        }
    }
}

/// How Home Assistant keeps statistics of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StateClass {
    Measurement,
    TotalIncreasing,
}

/// What a number sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberClass {
    /// A length of time in min.
    Minutes,
    /// Electric power in W.
    Power,
}

impl NumberClass {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Minutes => "duration",
            Self::Power => "power",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Minutes => "min",
            Self::Power => "W",
        }
    }
}

/// What a switch switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SwitchClass {
    /// A power outlet.
    Outlet,
    /// Any other switch.
    Switch,
}

/// What being on means for a binary sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BinarySensorClass {
    /// On is connected.
    Connectivity,
    /// On is a problem.
    Problem,
    /// On is a battery to replace.
    Battery,
    /// On is an open door.
    Door,
    /// On is wet.
    Moisture,
    /// On is something that moves.
    Motion,
}

impl BinarySensorClass {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Connectivity => "Connectivity",
            Self::Problem => "Problem",
            Self::Battery => "Battery",
            Self::Door => "Door",
            Self::Moisture => "Moisture",
            Self::Motion => "Motion",
        }
    }
}

/// What pressing a button does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ButtonClass {
    /// The device restarts.
    Restart,
}

impl ButtonClass {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Restart => "Restart",
        }
    }
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventClass {
    /// A remote or built-in button was used.
    Button,
}
