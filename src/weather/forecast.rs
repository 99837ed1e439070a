//! What a provider answered, whoever it is.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use planner::{
    WeatherValue,
    weather::{WeatherHour, hour_of},
};

use super::{met_norway, nws, open_meteo};
use crate::domain::weather_provider::WeatherProvider;

/// Hours that are taken of an answer at most: two weeks. What is far away is left out later.
const HOURS_MAX: usize = 14 * 24;

/// A forecast as its provider made it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Forecast {
    /// When it was made; `None` where the provider does not say.
    pub(super) issued: Option<Timestamp>,
    /// By the start of each hour.
    pub(super) hours: BTreeMap<Timestamp, WeatherHour>,
}

/// Why an answer is no forecast.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadForecast {
    /// Not the JSON of this provider. The text names a line and a column.
    #[error("it is not the JSON of this provider: {0}")]
    Json(String),
    /// A value in a unit that is not known.
    #[error("{value} is in {unit:?}, which is not a unit of it")]
    Unit {
        /// Which value.
        value: WeatherValue,
        /// Its unit.
        unit: String,
    },
    /// Nothing of the hour that now is.
    #[error("it has no values of the present hour, that of {0}, unless the clock of this machine is wrong")]
    NoHours(Timestamp),
}

impl Forecast {
    /// Reads the answer of a provider that came at this time, by its clock.
    ///
    /// # Errors
    /// It is no forecast of the hours from now on.
    pub(super) fn read(provider: WeatherProvider, body: &[u8], at: Timestamp) -> Result<Self, BadForecast> {
        let forecast = match provider {
            WeatherProvider::OpenMeteo => open_meteo::read(body),
            WeatherProvider::MetNorway => met_norway::read(body),
            WeatherProvider::Nws => nws::read(body),
        }?;
        let hour = hour_of(at);
        if forecast.hours.contains_key(&hour) {
            Ok(forecast)
        } else {
            Err(BadForecast::NoHours(hour))
        }
    }

    /// Takes a value of an hour, if weather can have it.
    pub(super) fn take(&mut self, at: Timestamp, value: WeatherValue, number: Option<f64>) {
        let Some(number) = number.and_then(|number| value.plausible(number)) else {
            return;
        };
        let at = hour_of(at);
        if self.hours.len() < HOURS_MAX || self.hours.contains_key(&at) {
            self.hours.entry(at).or_default().insert(value, number);
        }
    }
}

impl From<serde_json::Error> for BadForecast {
    fn from(error: serde_json::Error) -> Self {
        // Its text may quote what was sent.
        let (line, column) = (error.line(), error.column());
        Self::Json(format!("line {line}, column {column}"))
    }
}

/// An instant that is moved by hours; `None` outside of the calendar.
pub(super) fn hours_after(at: Timestamp, hours: i64) -> Option<Timestamp> {
    at.checked_add(SignedDuration::from_hours(hours)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use test_inputs::{damaged, json};

    use super::*;
    use crate::weather::samples;

    const KEYS: [&str; 7] = [
        "hourly",
        "time",
        "properties",
        "timeseries",
        "values",
        "validTime",
        "snowfall",
    ];
    const AT: &str = "2026-11-30T06:20:00Z";

    fn read(provider: WeatherProvider, body: &[u8]) -> Result<Forecast, BadForecast> {
        Forecast::read(provider, body, AT.parse().unwrap())
    }

    #[test]
    fn the_three_providers_say_the_same() {
        let read = |provider| read(provider, samples::answer(provider).as_bytes()).unwrap();
        let [open_meteo, met_norway, nws] = WeatherProvider::ALL.map(read);
        let first: Timestamp = "2026-11-30T06:00:00Z".parse().unwrap();
        for index in 0..12 {
            let at = hours_after(first, index).unwrap();
            let expected = samples::hour(index);
            assert_eq!(open_meteo.hours[&at], expected, "open-meteo, hour {index}");
            assert_eq!(met_norway.hours[&at], expected, "met-norway, hour {index}");
            assert_eq!(nws.hours[&at], expected, "nws, hour {index}");
        }
        let issued: Timestamp = "2026-11-30T05:12:00Z".parse().unwrap();
        assert_eq!(open_meteo.issued, None);
        assert_eq!((met_norway.issued, nws.issued), (Some(issued), Some(issued)));
    }

    #[test]
    fn what_is_no_forecast_is_refused() {
        for provider in WeatherProvider::ALL {
            for body in [
                "",
                "<html>503</html>",
                "null",
                "[]",
                "{}",
                "{\"error\":true}",
                "1e999",
            ] {
                assert!(read(provider, body.as_bytes()).is_err(), "{provider} {body}");
            }
            let deep = "[".repeat(100_000);
            assert!(read(provider, deep.as_bytes()).is_err(), "{provider}");
            // Another provider's answer.
            for other in WeatherProvider::ALL
                .into_iter()
                .filter(|other| *other != provider)
            {
                assert!(
                    read(provider, samples::answer(other).as_bytes()).is_err(),
                    "{provider} {other}"
                );
            }
            // The same hours, a decade away.
            let old = samples::answer(provider);
            let at = "2036-11-30T06:20:00Z".parse().unwrap();
            let found = Forecast::read(provider, old.as_bytes(), at);
            assert_eq!(found, Err(BadForecast::NoHours(hour_of(at))), "{provider}");
        }
    }

    #[test]
    fn another_unit_is_refused() {
        for (provider, unit, other) in [
            (WeatherProvider::OpenMeteo, "\"cm\"", "\"inch\""),
            (WeatherProvider::MetNorway, "\"celsius\"", "\"kelvin\""),
            (WeatherProvider::Nws, "wmoUnit:percent", "wmoUnit:permille"),
        ] {
            let body = samples::answer(provider).replacen(unit, other, 1);
            let found = read(provider, body.as_bytes());
            assert!(
                matches!(found, Err(BadForecast::Unit { .. })),
                "{provider}: {found:?}"
            );
        }
    }

    fn answers() -> impl Strategy<Value = Vec<u8>> {
        let known = WeatherProvider::ALL.map(|provider| samples::answer(provider).into_bytes());
        prop_oneof![
            prop::sample::select(known.to_vec()).prop_flat_map(damaged),
            json(&KEYS).prop_map(|json| json.to_string().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..200),
        ]
    }

    proptest! {
        #[test]
        fn damaged_answers_are_read_without_a_panic(body in answers()) {
            for provider in WeatherProvider::ALL {
                if let Ok(forecast) = read(provider, &body) {
                    prop_assert!(forecast.hours.len() <= HOURS_MAX);
                    let mut numbers = forecast.hours.values().flat_map(BTreeMap::values);
                    prop_assert!(numbers.all(|number| number.is_finite()));
                }
            }
        }
    }
}
