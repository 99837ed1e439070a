//! What a person wants of a thermostat instead of its schedules.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::setpoint::Setpoint;

/// What a thermostat holds while an override is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// A target that was set by hand.
    Target(Setpoint),
    /// The same by the mode `heat`.
    Heat(Setpoint),
    /// A target for a while, above the one before.
    Boost(Setpoint),
    /// The setback, or nothing but frost protection.
    Away,
    /// Nothing but frost protection.
    Off,
}

/// As in `override/list`.
impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => write!(f, "target {target}"),
            Self::Heat(target) => write!(f, "mode heat, target {target}"),
            Self::Boost(target) => write!(f, "boost to {target}"),
            Self::Away => f.write_str("away"),
            Self::Off => f.write_str("mode off"),
        }
    }
}

/// The mode of a thermostat, as zigbee2mqtt and Home Assistant name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ThermostatMode {
    /// Schedules decide.
    Auto,
    /// It holds a target, whatever schedules say.
    Heat,
    /// It does nothing but protect against frost.
    Off,
}

impl ThermostatMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Heat, Self::Off];

    /// As in topics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Heat => "heat",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for ThermostatMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A preset of a thermostat, as Home Assistant names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// None of them.
    None,
    /// The room is not used.
    Away,
    /// Warmer for a while.
    Boost,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Away, Self::Boost];

    /// As in topics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Away => "away",
            Self::Boost => "boost",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
