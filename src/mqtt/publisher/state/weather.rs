//! The forecast as it is published.

use jiff::Timestamp;
use planner::WeatherValue;
use serde::Serialize;

use crate::domain::{
    weather_provider::WeatherProvider,
    weather_status::{HourStatus, WeatherStatus},
};

/// The content of `bridge/weather`.
#[derive(Debug, Serialize)]
pub(in crate::mqtt) struct WeatherState<'a> {
    provider: &'static str,
    attribution: &'static str,
    issued: Option<Timestamp>,
    temperature: Option<f64>,
    precipitation: Option<f64>,
    snowfall: Option<f64>,
    dew_point: Option<f64>,
    humidity: Option<f64>,
    wind_speed: Option<f64>,
    hours: &'a [HourStatus],
}

impl<'a> WeatherState<'a> {
    /// Of what a provider forecasts.
    pub(in crate::mqtt) fn of(provider: WeatherProvider, status: &'a WeatherStatus) -> Self {
        let now = |value| status.now.get(&value).copied();
        Self {
            provider: provider.as_str(),
            attribution: provider.attribution(),
            issued: status.issued,
            temperature: now(WeatherValue::Temperature),
            precipitation: now(WeatherValue::Precipitation),
            snowfall: now(WeatherValue::Snowfall),
            dew_point: now(WeatherValue::DewPoint),
            humidity: now(WeatherValue::Humidity),
            wind_speed: now(WeatherValue::WindSpeed),
            hours: &status.hours,
        }
    }
}
