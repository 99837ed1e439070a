//! What is published of the forecast.

use jiff::Timestamp;
use planner::{
    Now,
    weather::{Weather, WeatherHour, hour_of},
};
use serde::Serialize;

/// The forecast: the content of `bridge/weather`, but for who made it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WeatherStatus {
    /// When the provider made it; `None` where there is none that counts.
    pub issued: Option<Timestamp>,
    /// What the hour that now is has.
    pub now: WeatherHour,
    /// The hours after it.
    pub hours: Vec<HourStatus>,
}

/// One hour to come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HourStatus {
    /// Its start.
    pub at: Timestamp,
    /// What it has.
    #[serde(flatten)]
    pub values: WeatherHour,
}

impl WeatherStatus {
    /// Hours to come that are published.
    const HOURS: usize = 12;

    /// What counts of a forecast at a moment.
    pub fn of(weather: &Weather, now: Now) -> Self {
        let this = hour_of(now.wall);
        let mut status = Self::default();
        for (at, values) in weather.ahead(now).take(Self::HOURS + 1) {
            status.issued = Some(weather.issued());
            if at == this {
                status.now.clone_from(values);
            } else {
                let values = values.clone();
                status.hours.push(HourStatus { at, values });
            }
        }
        status
    }
}
