//! A schedule of HeatTrax as it is written as one of ours.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    edge::Edge,
    limits,
    sensor::{Sensor, WeatherSource},
};
use crate::migrate::{Draft, source::Node};

/// A schedule that is being written.
pub(super) struct ScheduleDraft {
    id: String,
    /// What a person calls it.
    name: String,
    enabled: bool,
    weather: WeatherSource,
    keys: Draft,
    /// What of it could not be converted. Without that it must not run.
    lost: Vec<String>,
    sensors: BTreeSet<Sensor>,
}

impl ScheduleDraft {
    pub(super) fn new(id: String, name: String, enabled: bool, weather: WeatherSource) -> Self {
        Self {
            id,
            name,
            enabled,
            weather,
            keys: Draft::default(),
            lost: Vec::new(),
            sensors: BTreeSet::new(),
        }
    }

    pub(super) fn priority(&mut self, priority: &str) {
        let priority = priority.to_lowercase();
        if ["critical", "normal", "low"].contains(&priority.as_str()) {
            self.keys.key("priority", priority);
        } else {
            let name = &self.name;
            self.keys.change(format!(
                "{name:?} has a priority that HeatTrax did not know either and took for normal."
            ));
        }
    }

    /// Its days, counted from 1.
    pub(super) fn days(&mut self, days: &[i64]) {
        if days.is_empty() {
            self.lost.push("its list of days is empty".to_owned());
        } else {
            self.keys.key("days", days.to_vec());
        }
    }

    pub(super) fn all_day(&mut self) {
        self.keys.key("all_day", true);
    }

    /// From one edge to the other; `None` is an edge that could not be read.
    pub(super) fn window(&mut self, start: Option<Edge>, end: Option<Edge>, some_days: bool) {
        let (start, end) = match (start, end) {
            (Some(Edge::After { .. }) | None, _) | (_, None) => {
                return self.no_window("its times are missing or could not be read");
            }
            (Some(start), Some(end)) if start == end => {
                return self.no_window("it starts and ends at the same time");
            }
            (Some(start), Some(end)) => (start, end),
        };
        start.write("start", &mut self.keys);
        end.write("end", &mut self.keys);
        let name = &self.name;
        let goes_past_midnight = match (&start, &end) {
            (_, Edge::After { .. }) => {
                self.keys
                    .change("A schedule with a duration ends after it, also past midnight.");
                true
            }
            (Edge::Clock(start), Edge::Clock(end)) => end <= start,
            _ => {
                self.keys.change(format!(
                    "{name:?} does not run on a day on which the sun puts its end before its start; HeatTrax then ran \
                     it for nearly a day. `check` lists these dates."
                ));
                true
            }
        };
        if some_days && goes_past_midnight {
            self.keys.change(format!(
                "If {name:?} goes past midnight, its days are those it starts on, and it then lasts to its end. HeatTrax \
                 looked at the day on both sides of midnight."
            ));
        }
    }

    /// Something that loads, and is harmless when it is only enabled.
    fn no_window(&mut self, why: &str) {
        self.keys.key("start", "00:00");
        self.keys.key("for", 1);
        self.lost.push(why.to_owned());
    }

    /// All of these must hold.
    pub(super) fn conditions(
        &mut self,
        at_most: Option<f64>,
        precipitation: Option<bool>,
        ice: Option<&Node<'_>>,
    ) {
        let mut when = Vec::new();
        if let Some(limit) = at_most {
            self.sensors.insert(Sensor::Temperature);
            let id = Sensor::Temperature.id();
            let limit = match self.weather {
                WeatherSource::Forecast { .. } => celsius(limit - 32.0),
                WeatherSource::Topics | WeatherSource::Off => limit,
            };
            when.push(format!("{{ sensor = \"{id}\", at_most = {} }}", json!(limit)));
        }
        if let Some(wanted) = precipitation {
            self.sensors.insert(Sensor::Precipitation);
            let id = Sensor::Precipitation.id();
            let test = match (self.weather, wanted) {
                (WeatherSource::Forecast { .. }, true) => "at_least = 0.1".to_owned(),
                (WeatherSource::Forecast { .. }, false) => "at_most = 0.0".to_owned(),
                (WeatherSource::Topics | WeatherSource::Off, _) => format!("is = {wanted}"),
            };
            when.push(format!("{{ sensor = \"{id}\", {test} }}"));
        }
        if let Some(detection) = ice {
            when.push(self.black_ice(detection));
        }
        if !when.is_empty() && self.weather == WeatherSource::Off {
            self.lost.push("the weather was off, so it never ran".to_owned());
        }
        if !when.is_empty() {
            self.keys.line(format!("when = [{}]", when.join(", ")));
        }
    }

    fn black_ice(&mut self, detection: &Node<'_>) -> String {
        if detection.flag("enabled") == Some(false) {
            self.lost
                .push("the detection of black ice was off, so it never ran".to_owned());
        }
        let temperature = detection.number("temperature_max_f", -58.0..=122.0);
        let spread = detection.number("dew_point_spread_f", 0.0..=90.0);
        let humidity = detection.number("humidity_min_percent", 0.0..=100.0);
        self.lose(detection.left_over());
        self.sensors
            .extend([Sensor::Temperature, Sensor::DewPoint, Sensor::Humidity]);
        format!(
            "{{ black_ice = {{ temperature = \"{}\", dew_point = \"{}\", humidity = \"{}\", temperature_at_most = {}, \
             spread_at_most = {}, humidity_at_least = {} }} }}",
            Sensor::Temperature.id(),
            Sensor::DewPoint.id(),
            Sensor::Humidity.id(),
            json!(celsius(temperature.unwrap_or(36.0) - 32.0)),
            json!(celsius(spread.unwrap_or(4.0))),
            json!(humidity.unwrap_or(80.0)),
        )
    }

    /// The limits that it changes.
    pub(super) fn limits(&mut self, safety: &Node<'_>) {
        let mut section = Draft::default();
        limits(safety, (None, None), &mut section);
        if !section.lines.is_empty() {
            self.keys.section("[group.schedule.safety]");
            self.keys.append(section);
        }
    }

    /// Values that belong to it and could not be read.
    pub(super) fn lose(&mut self, paths: Vec<String>) {
        let lost = paths
            .into_iter()
            .map(|path| format!("{path} could not be converted"));
        self.lost.extend(lost);
    }

    /// Writes it, disabled if anything of it is lost. Returns the sensors that it needs.
    pub(super) fn finish(self, group: &str, groups: &mut Draft) -> BTreeSet<Sensor> {
        groups.section("[[group.schedule]]");
        groups.key("id", self.id);
        if !self.lost.is_empty() {
            let name = self.name;
            for lost in &self.lost {
                groups.comment(&format!("Not converted: {lost}."));
            }
            groups.comment("Correct this schedule, then set enabled = true.");
            groups.loss(format!(
                "{name:?} of the group {group} is disabled: {}.",
                self.lost.join("; ")
            ));
        }
        groups.key("enabled", self.enabled && self.lost.is_empty());
        groups.append(self.keys);
        self.sensors
    }
}

/// HeatTrax's thresholds are in °F, ours in °C. Rounded up, so that its limit itself is still included.
fn celsius(degrees_above: f64) -> f64 {
    (degrees_above * 5.0 / 9.0 * 1000.0).ceil() / 1000.0
}
