//! What is published of a sensor of the settings.

use jiff::Timestamp;
use planner::{SensorId, sensor::SensorValue};
use serde::Serialize;

/// A sensor with its value: an entry of `bridge/sensors`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SensorStatus {
    /// Its name in conditions.
    pub id: SensorId,
    /// Its topic, or the value of what is connected to a hub.
    pub source: String,
    /// The unit of a number; empty without one.
    pub unit: String,
    /// The last value; `None` before the first one.
    pub value: Option<SensorValue>,
    /// When the last value arrived.
    pub at: Option<Timestamp>,
    /// Whether it does not count: it is too old, or there is none.
    pub stale: bool,
}

impl SensorStatus {
    /// Whether nothing but the time of its value differs, and that by less than a minute.
    pub fn nearly_equals(&self, other: &Self) -> bool {
        let at = |status: &Self| status.at.map(Timestamp::as_second);
        let close = match (at(self), at(other)) {
            (Some(one), Some(other)) => one.abs_diff(other) < 60,
            (one, other) => one == other,
        };
        let timeless = |status: &Self| Self {
            at: None,
            ..status.clone()
        };
        close && timeless(self) == timeless(other)
    }
}
