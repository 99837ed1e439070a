//! Open-Meteo: <https://open-meteo.com/en/docs>.

use jiff::Timestamp;
use planner::{WeatherValue, location::Coordinates};
use serde::Deserialize;

use super::{
    forecast::{BadForecast, Forecast, hours_after},
    place::Place,
};

/// The path and the query of the forecast of a place.
pub(super) fn path(place: Coordinates) -> String {
    let Place { latitude, longitude } = place.into();
    let variables = WeatherValue::ALL.map(variable).join(",");
    format!(
        "/v1/forecast?latitude={latitude}&longitude={longitude}&hourly={variables}&forecast_days=4&timeformat=unixtime\
         &timezone=GMT&wind_speed_unit=kmh"
    )
}

fn variable(value: WeatherValue) -> &'static str {
    match value {
        WeatherValue::Temperature => "temperature_2m",
        WeatherValue::Precipitation => "precipitation",
        WeatherValue::Snowfall => "snowfall",
        WeatherValue::DewPoint => "dew_point_2m",
        WeatherValue::Humidity => "relative_humidity_2m",
        WeatherValue::WindSpeed => "wind_speed_10m",
    }
}

#[derive(Deserialize)]
struct OpenMeteoAnswer {
    hourly_units: Columns<String>,
    hourly: Hourly,
}

#[derive(Deserialize)]
struct Hourly {
    time: Vec<i64>,
    #[serde(flatten)]
    columns: Columns<Vec<Option<f64>>>,
}

#[derive(Deserialize)]
struct Columns<T> {
    temperature_2m: Option<T>,
    precipitation: Option<T>,
    snowfall: Option<T>,
    dew_point_2m: Option<T>,
    relative_humidity_2m: Option<T>,
    wind_speed_10m: Option<T>,
}

impl<T> Columns<T> {
    fn of(&self, value: WeatherValue) -> Option<&T> {
        match value {
            WeatherValue::Temperature => self.temperature_2m.as_ref(),
            WeatherValue::Precipitation => self.precipitation.as_ref(),
            WeatherValue::Snowfall => self.snowfall.as_ref(),
            WeatherValue::DewPoint => self.dew_point_2m.as_ref(),
            WeatherValue::Humidity => self.relative_humidity_2m.as_ref(),
            WeatherValue::WindSpeed => self.wind_speed_10m.as_ref(),
        }
    }
}

/// Reads an answer.
///
/// # Errors
/// It is none of this provider, or in other units than were asked for.
pub(super) fn read(body: &[u8]) -> Result<Forecast, BadForecast> {
    let answer: OpenMeteoAnswer = serde_json::from_slice(body)?;
    let mut forecast = Forecast::default();
    for value in WeatherValue::ALL {
        let Some(numbers) = answer.hourly.columns.of(value) else {
            continue;
        };
        let unit = answer.hourly_units.of(value).cloned().unwrap_or_default();
        if unit != value.unit() {
            return Err(BadForecast::Unit { value, unit });
        }
        for (time, number) in answer.hourly.time.iter().zip(numbers) {
            // An amount is that of the hour before.
            let back = if value.adds_up() { -1 } else { 0 };
            let at = Timestamp::from_second(*time).ok();
            if let Some(at) = at.and_then(|at| hours_after(at, back)) {
                forecast.take(at, value, *number);
            }
        }
    }
    Ok(forecast)
}
