//! The last values of the sensors, and whether they still count.

use std::collections::BTreeMap;

use super::{
    SensorId, Steady,
    sensor::{SensorSpec, SensorValue},
};

/// The last value of each sensor since the bridge started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readings(BTreeMap<SensorId, SensorReading>);

/// A value, and when it arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
struct SensorReading {
    value: SensorValue,
    at: Steady,
}

/// What is known of a sensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known {
    /// A value, until it is stale.
    Value(SensorValue, Steady),
    /// Its last value is too old, since that instant.
    Stale(Steady),
    /// No value since the bridge started.
    Never,
}

impl Readings {
    /// Takes a value that arrived.
    pub fn record(&mut self, sensor: SensorId, value: SensorValue, at: Steady) {
        self.0.insert(sensor, SensorReading { value, at });
    }

    /// A sensor is another one now, or none: its value means nothing any more.
    pub fn forget(&mut self, sensor: &SensorId) {
        self.0.remove(sensor);
    }

    /// What is known of a sensor at an instant. A value is stale from `stale_after` on.
    pub fn of(&self, sensor: &SensorSpec, now: Steady) -> Known {
        let Some(reading) = self.0.get(&sensor.id) else {
            return Known::Never;
        };
        let stale = reading.at.after(sensor.stale_after.length());
        if now < stale {
            Known::Value(reading.value, stale)
        } else {
            Known::Stale(stale)
        }
    }

    /// These readings as they would be if every value that is fresh now were confirmed until then.
    pub(super) fn kept(&self, sensors: &[SensorSpec], now: Steady, until: Steady) -> Self {
        let fresh = |sensor: &SensorSpec| match self.of(sensor, now) {
            Known::Value(value, _) => Some((sensor.id.clone(), SensorReading { value, at: until })),
            Known::Stale(_) | Known::Never => None,
        };
        let mut kept = self.clone();
        kept.0.extend(sensors.iter().filter_map(fresh));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::{SensorSource, SensorTopic};

    #[test]
    fn rule_10_a_value_is_stale_from_its_age_on() {
        let sensor = SensorSpec {
            id: "outdoor".parse().unwrap(),
            source: SensorSource::Topic(SensorTopic {
                topic: "weather/outdoor".to_owned(),
                pointer: None,
            }),
            unit: "°C".into(),
            stale_after: "30m".parse().unwrap(),
        };
        let at = |text: &str| Steady::at(text.parse().unwrap());
        let mut readings = Readings::default();
        assert_eq!(readings.of(&sensor, at("2024-01-01T06:00:00Z")), Known::Never);
        let value = SensorValue::Number(1.0);
        readings.record(sensor.id.clone(), value, at("2024-01-01T06:00:00Z"));
        let stale = at("2024-01-01T06:30:00Z");
        let fresh = Known::Value(value, stale);
        assert_eq!(readings.of(&sensor, at("2024-01-01T06:29:59Z")), fresh);
        assert_eq!(readings.of(&sensor, stale), Known::Stale(stale));
    }
}
