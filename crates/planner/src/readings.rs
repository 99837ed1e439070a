//! The last values of the sensors, and whether they still count.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Now, SensorId, Steady,
    sensor::{SensorSpec, SensorValue},
    weather::Weather,
};
pub use crate::known::Known;

/// How a value reached the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Published now.
    Live,
    /// The broker kept it: published at a time that is not known.
    Retained,
}

/// The last value of each sensor since the bridge started, and the forecast.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readings {
    values: BTreeMap<SensorId, SensorReading>,
    /// The last of those that were published while the bridge listened, and that a room can have.
    rooms: BTreeMap<SensorId, SensorReading>,
    /// What arrived after the last value, if no thermometer shows it unless it is broken.
    implausible: BTreeMap<SensorId, SensorReading>,
    weather: Option<Arc<Weather>>,
    /// The forecast is taken to be as old as it is at this instant.
    weather_as_of: Option<Steady>,
}

/// A value, and when it arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
struct SensorReading {
    value: SensorValue,
    at: Steady,
}

impl SensorReading {
    fn known(reading: Option<&Self>, sensor: &SensorSpec, now: Now) -> Known {
        let Some(Self { value, at }) = reading else {
            return Known::Never;
        };
        let stale = at.after(sensor.stale_after.length());
        if now.steady < stale {
            Known::Value(*value, stale)
        } else {
            Known::Stale(stale)
        }
    }
}

impl Readings {
    /// Takes a value that arrived. One that is not plausible is none: the one before counts until it is stale.
    pub fn record(&mut self, sensor: &SensorSpec, value: SensorValue, at: Steady, arrival: Arrival) {
        let reading = SensorReading { value, at };
        if !sensor.is_plausible(value) {
            self.implausible.insert(sensor.id.clone(), reading);
            return;
        }
        self.implausible.remove(&sensor.id);
        if arrival == Arrival::Live && sensor.room(value).is_some() {
            self.rooms.insert(sensor.id.clone(), reading);
        }
        self.values.insert(sensor.id.clone(), reading);
    }

    /// A sensor is another one now, or none: its value means nothing any more.
    pub fn forget(&mut self, sensor: &SensorId) {
        self.values.remove(sensor);
        self.rooms.remove(sensor);
        self.implausible.remove(sensor);
    }

    /// Takes a forecast that arrived.
    pub fn set_weather(&mut self, weather: Arc<Weather>) {
        self.weather = Some(weather);
    }

    /// The forecast.
    pub fn weather(&self) -> Option<&Arc<Weather>> {
        self.weather.as_ref()
    }

    /// What is known of a sensor at a moment. A value is stale from `stale_after` on.
    pub fn of(&self, sensor: &SensorSpec, now: Now) -> Known {
        if let Some(source) = sensor.weather() {
            let of_weather =
                |weather: &Arc<Weather>| weather.value(source, sensor.stale_after, now, self.weather_as_of);
            return self.weather.as_ref().map_or(Known::Never, of_weather);
        }
        SensorReading::known(self.values.get(&sensor.id), sensor, now)
    }

    /// The same for a thermostat: of what was published while the bridge listened, and that a room can have. What the broker
    /// kept may be of any age, and would count again after each start.
    pub fn of_room(&self, sensor: &SensorSpec, now: Now) -> Known {
        SensorReading::known(self.rooms.get(&sensor.id), sensor, now)
    }

    /// What a thermometer shows in place of a value that counts, if it is broken.
    pub fn shown_by_broken(&self, sensor: &SensorSpec, now: Now) -> Option<SensorValue> {
        let implausible = SensorReading::known(self.implausible.get(&sensor.id), sensor, now);
        match (implausible, self.of(sensor, now)) {
            (Known::Value(value, _), _) => Some(value),
            (_, Known::Value(value, _)) => sensor.room(value).is_none().then_some(value),
            _ => None,
        }
    }

    /// When time alone changes what is known of a sensor.
    pub fn next_change(&self, sensor: &SensorSpec, now: Now) -> Option<Steady> {
        match self.of(sensor, now) {
            Known::Value(_, until) => Some(until),
            Known::Stale(_) => None,
            // A forecast may know a later hour.
            Known::Never => {
                let at = self.weather.as_ref()?.next_change(sensor.weather()?, now);
                at.map(|at| now.steady_at(at))
            }
        }
    }

    /// These readings as they would be if every value that is fresh now were confirmed until then, and the forecast came
    /// true.
    pub(super) fn kept(&self, sensors: &[SensorSpec], now: Now, until: Steady) -> Self {
        let measured = || sensors.iter().filter(|sensor| sensor.weather().is_none());
        let confirmed = |sensor: &SensorSpec, known: Known| match known {
            Known::Value(value, _) => Some((sensor.id.clone(), SensorReading { value, at: until })),
            Known::Stale(_) | Known::Never => None,
        };
        let mut kept = self.clone();
        let values = measured().filter_map(|sensor| confirmed(sensor, self.of(sensor, now)));
        kept.values.extend(values);
        let rooms = measured().filter_map(|sensor| confirmed(sensor, self.of_room(sensor, now)));
        kept.rooms.extend(rooms);
        kept.weather_as_of = Some(now.steady);
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::{SensorSource, SensorTopic};

    /// A thermometer whose values count for half an hour.
    fn outdoor() -> SensorSpec {
        SensorSpec {
            id: "outdoor".parse().unwrap(),
            source: SensorSource::Topic(SensorTopic {
                topic: "weather/outdoor".to_owned(),
                pointer: None,
            }),
            unit: "°C".into(),
            stale_after: "30m".parse().unwrap(),
        }
    }

    #[test]
    fn an_implausible_value_is_none_and_does_not_count_longer() {
        let sensor = outdoor();
        let now = |text: &str| Now {
            wall: text.parse().unwrap(),
            steady: Steady::at(text.parse().unwrap()),
        };
        let mut readings = Readings::default();
        let record = |readings: &mut Readings, value, at| {
            let value = SensorValue::Number(value);
            readings.record(&sensor, value, now(at).steady, Arrival::Live);
        };
        record(&mut readings, 3.0, "2024-01-01T06:00:00Z");
        record(&mut readings, -127.0, "2024-01-01T06:20:00Z");
        let stale = now("2024-01-01T06:30:00Z");
        let fresh = Known::Value(SensorValue::Number(3.0), stale.steady);
        assert_eq!(readings.of(&sensor, now("2024-01-01T06:29:59Z")), fresh);
        assert_eq!(readings.of(&sensor, stale), Known::Stale(stale.steady));
        let broken = Some(SensorValue::Number(-127.0));
        assert_eq!(readings.shown_by_broken(&sensor, stale), broken);
        record(&mut readings, 4.0, "2024-01-01T06:30:00Z");
        assert_eq!(readings.shown_by_broken(&sensor, stale), None);
    }

    #[test]
    fn rule_10_a_value_is_stale_from_its_age_on() {
        let sensor = outdoor();
        let at = |text: &str| Steady::at(text.parse().unwrap());
        let now = |text: &str| Now {
            wall: text.parse().unwrap(),
            steady: at(text),
        };
        let mut readings = Readings::default();
        assert_eq!(readings.of(&sensor, now("2024-01-01T06:00:00Z")), Known::Never);
        let value = SensorValue::Number(1.0);
        readings.record(&sensor, value, at("2024-01-01T06:00:00Z"), Arrival::Live);
        let stale = at("2024-01-01T06:30:00Z");
        let fresh = Known::Value(value, stale);
        assert_eq!(readings.of(&sensor, now("2024-01-01T06:29:59Z")), fresh);
        assert_eq!(
            readings.of(&sensor, now("2024-01-01T06:30:00Z")),
            Known::Stale(stale)
        );
    }
}
