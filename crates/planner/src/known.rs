//! What is known of a sensor at a moment.

use super::{Steady, sensor::SensorValue};

/// What is known of a sensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known {
    /// A value, until it is stale, or the forecast has another one.
    Value(SensorValue, Steady),
    /// Its last value is too old, since that instant.
    Stale(Steady),
    /// No value since the bridge started, or none in the forecast.
    Never,
}
