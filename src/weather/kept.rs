//! The forecast in the state file, so that a restart without the network costs nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use planner::{
    Now, Steady, WeatherValue,
    weather::{Weather, WeatherHour},
};
use serde::{Deserialize, Serialize};

use super::requests::Requests;
use crate::system::clock::{AsOf, Clock};

/// A forecast that was made this long ago is of no use to any sensor.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(48);

/// What survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptWeather {
    /// Which provider and place it is of. Of another one nothing is used.
    of: String,
    pub(super) requests: Requests,
    pub(super) forecast: Option<KeptForecast>,
    /// What asks the provider for a newer one.
    pub(super) last_modified: Option<String>,
    /// Where the provider has the forecast, if that had to be asked.
    pub(super) forecast_url: Option<String>,
}

/// A forecast, in a form that takes few lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptForecast {
    issued: Timestamp,
    /// The clock of the provider when it answered.
    answered: Timestamp,
    /// The steady clock then.
    at: Steady,
    /// All clocks when it was written.
    as_of: AsOf,
    /// The values of each hour, in the order of [`WeatherValue::ALL`], with nothing for what is not known.
    hours: BTreeMap<Timestamp, String>,
}

impl KeptWeather {
    /// What is kept of this provider and place.
    pub(super) fn only_of(self, of: &str) -> Self {
        if self.of == of {
            return self;
        }
        Self {
            of: of.to_owned(),
            ..Self::default()
        }
    }
}

impl KeptForecast {
    pub(super) fn new(weather: &Weather, clock: &Clock) -> Self {
        let answered = weather.answered();
        Self {
            issued: weather.issued(),
            answered: answered.wall,
            at: answered.steady,
            as_of: clock.as_of(),
            hours: weather.hours().map(|(at, hour)| (at, line(hour))).collect(),
        }
    }

    /// The forecast; `None` if it is too old, or it is not known how old it is.
    pub(super) fn weather(&self, clock: &Clock) -> Option<Weather> {
        let now = clock.read();
        let age = now.wall.duration_since(self.issued);
        if age > KEPT_FOR || !clock.knows_time_since(&self.as_of) {
            return None;
        }
        let answered = Now {
            wall: self.answered,
            steady: self.at,
        };
        let hours = self.hours.iter().map(|(at, line)| (*at, hour(line)));
        Some(Weather::new(self.issued, answered, hours.collect()))
    }
}

fn line(hour: &WeatherHour) -> String {
    let number = |value| hour.get(&value).map_or_else(String::new, ToString::to_string);
    WeatherValue::ALL.map(number).join(" ")
}

fn hour(line: &str) -> WeatherHour {
    let numbers = WeatherValue::ALL.into_iter().zip(line.split(' '));
    let known = numbers.filter_map(|(value, number)| Some((value, value.plausible(number.parse().ok()?)?)));
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(at: &str) -> Clock {
        Clock::steered(at.parse().unwrap())
    }

    fn weather(clock: &Clock) -> Weather {
        let start: Timestamp = "2026-11-30T06:00:00Z".parse().unwrap();
        let hours = [
            (
                start,
                [(WeatherValue::Temperature, -1.25), (WeatherValue::Humidity, 90.0)].into(),
            ),
            (
                start + SignedDuration::from_hours(1),
                [(WeatherValue::Snowfall, 0.0)].into(),
            ),
        ];
        Weather::new(start, clock.read(), hours.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_forecast_is_the_same_after_a_restart() {
        let clock = clock("2026-11-30T06:10:00Z");
        let weather = weather(&clock);
        let kept = KeptForecast::new(&weather, &clock);
        let text = serde_json::to_string(&kept).unwrap();
        assert!(
            text.contains("\"-1.25   90 \"") || text.contains("-1.25"),
            "{text}"
        );
        let again: KeptForecast = serde_json::from_str(&text).unwrap();
        assert_eq!(again.weather(&clock), Some(weather));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_two_days_old_is_of_no_use() {
        let early = clock("2026-11-30T06:10:00Z");
        let kept = KeptForecast::new(&weather(&early), &early);
        assert!(kept.weather(&clock("2026-12-02T05:59:00Z")).is_some());
        assert!(kept.weather(&clock("2026-12-02T06:01:00Z")).is_none());
    }

    #[test]
    fn a_damaged_line_has_what_can_be_read() {
        let found = hour("1.5 x  -999");
        assert_eq!(found, [(WeatherValue::Temperature, 1.5)].into());
        assert_eq!(hour(""), WeatherHour::new());
    }

    #[test]
    fn another_place_has_nothing() {
        let kept = KeptWeather::default().only_of("nws 40.7,-74");
        let kept = KeptWeather {
            last_modified: Some("yesterday".to_owned()),
            ..kept
        };
        assert_eq!(kept.clone().only_of("nws 40.7,-74"), kept);
        assert_eq!(kept.only_of("nws 40.8,-74").last_modified, None);
    }
}
