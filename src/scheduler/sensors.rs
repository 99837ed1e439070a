//! What sensors publish, and when they become stale.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::RoundMode;
use planner::{
    Now, SensorId, Steady,
    activity::BOOT_GRACE,
    readings::{Arrival, Known, Readings},
    rules::Rules,
    sensor::{SensorSource, SensorSpec, SensorTopic, SensorValue},
    weather::Weather,
};
use tracing::{debug, warn};

use super::status::to_the_second;
use crate::domain::{hub_child::HubReading, sensor_status::SensorStatus, weather_status::WeatherStatus};

/// The reason of a value that cannot be one, whatever it is.
const IMPLAUSIBLE: &str = "implausible";

/// The values of all sensors.
#[derive(Debug, Default)]
pub struct Sensors {
    readings: Readings,
    /// The last value of each sensor.
    values: BTreeMap<SensorId, SensorValue>,
    /// Why the last payload of a sensor had no value.
    errors: BTreeMap<SensorId, String>,
    stale: BTreeSet<SensorId>,
    /// What was published last.
    published: Option<Arc<[SensorStatus]>>,
    /// What was published last of the forecast.
    published_weather: Option<Arc<WeatherStatus>>,
}

/// A sensor that conditions use became stale, or has a value again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SensorChange {
    /// No value that counts.
    Stale(SensorId),
    /// It has a value again.
    Back(SensorId),
}

impl SensorChange {
    /// Which sensor.
    pub fn sensor(&self) -> &SensorId {
        match self {
            Self::Stale(id) | Self::Back(id) => id,
        }
    }
}

/// What a payload was for the sensors on its topic.
#[derive(Debug, Default)]
pub struct Received {
    /// Those whose value is another one now.
    pub changed: Vec<SensorId>,
    /// Whether there was any value.
    pub any: bool,
}

impl Sensors {
    /// What the planner goes by.
    pub fn readings(&self) -> &Readings {
        &self.readings
    }

    /// Reads a payload with each sensor on its topic.
    pub fn read(
        &mut self,
        rules: &Rules,
        topic: &str,
        payload: &[u8],
        arrival: Arrival,
        now: Now,
    ) -> Received {
        let mut received = Received::default();
        for (spec, source) in on_topic(rules, topic) {
            match source.decode(payload) {
                Ok(value) => {
                    // After a reconnect the broker sends again what it keeps. The same value is not a new one.
                    if arrival == Arrival::Live || self.values.get(&spec.id) != Some(&value) {
                        self.take(rules, spec, value, (now.steady, arrival), now, &mut received);
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    self.refuse(spec, error.clone(), &error);
                }
            }
        }
        received
    }

    /// Takes a value that was read at an instant.
    pub fn take(
        &mut self,
        rules: &Rules,
        spec: &SensorSpec,
        value: SensorValue,
        (at, arrival): (Steady, Arrival),
        now: Now,
        received: &mut Received,
    ) {
        debug!(sensor = %spec.id, %value, "sensor value");
        if !spec.is_plausible(value) {
            self.readings.record(spec, value, at, arrival);
            return self.refuse(
                spec,
                IMPLAUSIBLE.to_owned(),
                &format!("{value} {} is not plausible", spec.unit),
            );
        }
        if spec.room(value).is_none() && is_thermometer(rules, spec) {
            let why = format!("{value} {} is not plausible in a room", spec.unit);
            self.refuse(spec, IMPLAUSIBLE.to_owned(), &why);
        } else {
            self.errors.remove(&spec.id);
        }
        let known = self.values.insert(spec.id.clone(), value);
        let counted = matches!(self.readings.of(spec, now), Known::Value(..))
            && (arrival == Arrival::Retained
                || spec.room(value).is_none()
                || matches!(self.readings.of_room(spec, now), Known::Value(..)));
        self.readings.record(spec, value, at, arrival);
        received.any = true;
        if known != Some(value) || !counted {
            received.changed.push(spec.id.clone());
        }
    }

    /// It sent something without a value that counts. It is logged once, until there is another reason.
    fn refuse(&mut self, spec: &SensorSpec, reason: String, why: &str) {
        let before = self.errors.insert(spec.id.clone(), reason);
        if before.as_ref() != self.errors.get(&spec.id) {
            warn!(sensor = %spec.id, source = %spec.source, why, "no value from this sensor; its last value counts until it is stale");
        }
    }

    /// What is known of a sensor. As a thermometer of a thermostat it is stale if it shows what no room has.
    fn known(&self, rules: &Rules, spec: &SensorSpec, now: Now) -> Known {
        let known = self.readings.of(spec, now);
        match (known, self.readings.of_room(spec, now)) {
            (Known::Value(value, _), room @ (Known::Stale(_) | Known::Never))
                if spec.room(value).is_none() && is_thermometer(rules, spec) =>
            {
                room
            }
            _ => known,
        }
    }

    /// Takes a forecast.
    pub fn set_weather(&mut self, weather: Arc<Weather>) {
        self.readings.set_weather(weather);
    }

    /// Forgets the sensors that the settings changed or removed.
    pub fn reload(&mut self, before: &Rules, now: &Rules) {
        for spec in before.sensors.iter().filter(|spec| !now.sensors.contains(spec)) {
            self.readings.forget(&spec.id);
            self.values.remove(&spec.id);
            self.errors.remove(&spec.id);
            self.stale.remove(&spec.id);
        }
    }

    /// Finds the sensors that became stale or have a value again, of those that conditions use; and when to look again.
    pub fn watch(
        &mut self,
        rules: &Rules,
        asked: &BTreeSet<SensorId>,
        listening_since: Steady,
        now: Now,
    ) -> (Vec<SensorChange>, Option<Steady>) {
        let grace = listening_since.after(BOOT_GRACE);
        let (mut changes, mut wake): (Vec<SensorChange>, Option<Steady>) = (Vec::new(), None);
        let mut wake_at = |at: Steady| wake = Some(wake.map_or(at, |wake: Steady| wake.min(at)));
        for spec in &rules.sensors {
            let known = self.known(rules, spec, now);
            if let Some(change) = self.readings.next_change(spec, now) {
                wake_at(change);
            }
            if let Known::Value(_, until) = self.readings.of_room(spec, now) {
                wake_at(until);
            }
            if !asked.contains(&spec.id) {
                continue;
            }
            let stale = match known {
                Known::Value(..) => false,
                Known::Never if now.steady < grace => {
                    wake_at(grace);
                    continue;
                }
                Known::Stale(_) | Known::Never => true,
            };
            if stale && self.stale.insert(spec.id.clone()) {
                changes.push(SensorChange::Stale(spec.id.clone()));
            } else if !stale && self.stale.remove(&spec.id) {
                changes.push(SensorChange::Back(spec.id.clone()));
            }
        }
        if let Some(weather) = self.readings.weather() {
            wake = wake.into_iter().chain(weather.next_hour(now)).min();
        }
        (changes, wake)
    }

    /// What to publish of the forecast; `None` without one, or if it is what was published last.
    pub fn take_changed_weather(&mut self, now: Now) -> Option<Arc<WeatherStatus>> {
        let status = Arc::new(WeatherStatus::of(self.readings.weather()?, now));
        if self.published_weather.as_ref() == Some(&status) {
            return None;
        }
        self.published_weather = Some(status.clone());
        Some(status)
    }

    /// What to publish of the sensors; `None` if it is what was published last.
    pub fn take_changed(&mut self, rules: &Rules, now: Now) -> Option<Arc<[SensorStatus]>> {
        let statuses: Arc<[SensorStatus]> = rules
            .sensors
            .iter()
            .map(|spec| self.status(rules, spec, now))
            .collect();
        let is_same = |last: &Arc<[SensorStatus]>| {
            last.len() == statuses.len()
                && last
                    .iter()
                    .zip(&*statuses)
                    .all(|(last, new)| last.nearly_equals(new))
        };
        if self.published.as_ref().is_some_and(is_same) {
            return None;
        }
        self.published = Some(statuses.clone());
        Some(statuses)
    }

    fn status(&self, rules: &Rules, spec: &SensorSpec, now: Now) -> SensorStatus {
        let known = self.known(rules, spec, now);
        let measured_at = |stale_from| now.wall_at(stale_from) - spec.stale_after.length();
        let (value, at) = match (spec.weather(), known) {
            (None, Known::Value(_, from) | Known::Stale(from)) => {
                (self.values.get(&spec.id).copied(), Some(measured_at(from)))
            }
            // The value of an hour means nothing in another one.
            (Some(_), Known::Value(value, _)) => (
                Some(value),
                self.readings.weather().map(|weather| weather.issued()),
            ),
            (Some(_), Known::Stale(_)) => (None, self.readings.weather().map(|weather| weather.issued())),
            (_, Known::Never) => (None, None),
        };
        SensorStatus {
            id: spec.id.clone(),
            source: spec.source.to_string(),
            unit: spec.unit.to_string(),
            value,
            at: at.map(|at| to_the_second(at, RoundMode::Floor)),
            stale: !matches!(known, Known::Value(..)),
        }
    }
}

/// Whether a thermostat goes by a sensor.
fn is_thermometer(rules: &Rules, spec: &SensorSpec) -> bool {
    let mut thermostats = rules.groups.iter().filter_map(|group| group.thermostat.as_ref());
    thermostats.any(|thermostat| thermostat.sensor == spec.id)
}

/// The sensors on a topic.
pub(super) fn on_topic<'a>(
    rules: &'a Rules,
    topic: &'a str,
) -> impl Iterator<Item = (&'a SensorSpec, &'a SensorTopic)> {
    let sources = rules
        .sensors
        .iter()
        .filter_map(|spec| Some((spec, spec.topic()?)));
    sources.filter(move |(_, source)| source.topic == topic)
}

/// The sensors that read the forecast.
pub(super) fn of_weather(rules: &Rules) -> impl Iterator<Item = &SensorSpec> {
    rules.sensors.iter().filter(|spec| spec.weather().is_some())
}

/// The sensors of which a hub was read, with their values. A child that is offline has none.
pub(super) fn of_hub<'a>(rules: &'a Rules, reading: &HubReading) -> Vec<(&'a SensorSpec, SensorValue)> {
    let value = |spec: &'a SensorSpec| match &spec.source {
        SensorSource::Device(child, value) if child.device == reading.device => {
            let key = child.outlet.clone()?;
            Some((spec, *reading.values.get(&(key, *value))?))
        }
        SensorSource::Device(..) | SensorSource::Topic(_) | SensorSource::Weather(_) => None,
    };
    rules.sensors.iter().filter_map(value).collect()
}

/// Where the value of a sensor comes from, for an event.
pub(super) fn source_of(rules: &Rules, sensor: &SensorId) -> String {
    let spec = rules.sensors.iter().find(|spec: &&SensorSpec| spec.id == *sensor);
    spec.map_or_else(String::new, |spec| spec.source.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Sources, load_or},
        system::{clock::Clock, log_text::logged},
    };

    /// What is logged of these payloads of a thermometer, a condition's and a thermostat's.
    fn warnings(payloads: &[&str]) -> Vec<String> {
        let text = "[[sensor]]\nid = 'boiler'\ntopic = 'boiler'\nunit = '°C'\n\
                    [[sensor]]\nid = 'room'\ntopic = 'room'\nunit = '°C'\nstale_after = '10m'\n\
                    [[device]]\nid = 'heater'\naddress = '192.168.1.5'\n\
                    [tapo]\nusername = 'you@home.org'\npassword = 'secret'\n\
                    [[group]]\nid = 'room'\noutlets = ['heater']\n[group.thermostat]\nsensor = 'room'\ntarget = 20\n";
        let rules = load_or(&Sources::default(), text).unwrap().rules;
        let (mut sensors, now) = (Sensors::default(), Clock::system().read());
        let log = logged(|| {
            for topic in ["boiler", "room"] {
                for payload in payloads {
                    sensors.read(&rules, topic, payload.as_bytes(), Arrival::Live, now);
                }
            }
        });
        let warnings = log.lines().filter(|line| line.contains("WARN"));
        warnings.map(str::to_owned).collect()
    }

    #[test]
    fn a_value_that_cannot_be_one_is_logged_once() {
        for broken in [["true", "false"], ["-127", "-126.9"]] {
            let lines = warnings(&[&["20"], &broken[..]].concat());
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(
                lines[0].contains("sensor=boiler") && lines[1].contains("sensor=room"),
                "{lines:?}"
            );
        }
        for of_no_room in ["500", "85"] {
            let lines = warnings(&["20", of_no_room, of_no_room]);
            assert_eq!(lines.len(), 1, "{lines:?}");
            let expected = format!("{of_no_room} °C is not plausible in a room");
            assert!(
                lines[0].contains("sensor=room") && lines[0].contains(&expected),
                "{lines:?}"
            );
        }
        assert_eq!(warnings(&["20", "85", "20", "85"]).len(), 2, "it is broken again");
    }
}
