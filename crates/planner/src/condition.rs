//! Conditions: what must be true of sensors for a schedule to be active.

use std::fmt;

use super::{SensorId, period::Period};

/// One of the things that must all hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What is compared with what.
    pub test: Test,
    /// Once the answer changed, it stays at least this long.
    pub dwell: Option<Period>,
    /// The answer while a sensor is stale or has no value yet.
    pub when_unknown: WhenUnknown,
}

/// A question to sensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// A number against a limit, in the sensor's unit.
    Number {
        /// The sensor.
        sensor: SensorId,
        /// Which side holds.
        bound: Bound,
        /// The limit; it holds at the limit itself.
        limit: f64,
        /// How far past the limit a condition that holds goes on holding; zero or more.
        hysteresis: f64,
    },
    /// A boolean.
    Is {
        /// The sensor.
        sensor: SensorId,
        /// The values that satisfy it.
        value: bool,
    },
    /// Ice that is hard to see: cold, close to the dew point, humid.
    BlackIce(BlackIce),
}

/// Which side of a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The limit or less.
    AtMost,
    /// The limit or more.
    AtLeast,
}

/// The answer while nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenUnknown {
    /// Does not hold.
    #[default]
    Off,
    /// Holds.
    On,
    /// The schedule goes on doing what it did.
    Hold,
}

/// Three sensors and their thresholds, each inclusive.
#[derive(Debug, Clone, PartialEq)]
pub struct BlackIce {
    /// The temperature of the air or the ground; its sensor's unit is a temperature.
    pub temperature: SensorId,
    /// The dew point; its sensor's unit is a temperature, not necessarily on the same scale.
    pub dew_point: SensorId,
    /// The relative humidity in percent.
    pub humidity: SensorId,
    /// Where ice begins to be possible.
    pub thresholds: IceThresholds,
}

/// When [`BlackIce`] is possible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IceThresholds {
    /// At most this temperature, in °C.
    pub temperature_at_most: f64,
    /// At most this far above the dew point, in kelvin.
    pub spread_at_most: f64,
    /// At least this relative humidity, in percent.
    pub humidity_at_least: f64,
    /// How far past its limit a temperature or the spread may be while ice was possible before, in kelvin.
    pub hysteresis: f64,
    /// The same for the humidity, in percentage points.
    pub humidity_hysteresis: f64,
}

impl Default for IceThresholds {
    fn default() -> Self {
        Self {
            temperature_at_most: 2.2,
            spread_at_most: 2.2,
            humidity_at_least: 80.0,
            hysteresis: 0.0,
            humidity_hysteresis: 0.0,
        }
    }
}

impl Test {
    /// The sensors it uses.
    pub fn sensors(&self) -> Vec<&SensorId> {
        match self {
            Self::Number { sensor, .. } | Self::Is { sensor, .. } => vec![sensor],
            Self::BlackIce(ice) => vec![&ice.temperature, &ice.dew_point, &ice.humidity],
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
        })
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number {
                sensor, bound, limit, ..
            } => {
                write!(f, "{sensor} {bound} {limit}")
            }
            Self::Is { sensor, value } => write!(f, "{sensor} is {value}"),
            Self::BlackIce(_) => f.write_str("black ice"),
        }
    }
}
