//! MET Norway: <https://docs.api.met.no/doc/locationforecast/datamodel.html>.

use std::collections::BTreeMap;

use jiff::Timestamp;
use planner::{WeatherValue, location::Coordinates};
use serde::Deserialize;

use super::{
    forecast::{BadForecast, Forecast},
    place::Place,
};

/// How deep 1 mm of water is as snow, in cm, as other providers reckon.
const SNOW_PER_WATER: f64 = 0.7;
/// How much of sleet is snow.
const SNOW_IN_SLEET: f64 = 0.5;
const KMH_PER_MS: f64 = 3.6;

/// The path and the query of the forecast of a place. `compact` has no dew point.
pub(super) fn path(place: Coordinates) -> String {
    let Place { latitude, longitude } = place.into();
    format!("/weatherapi/locationforecast/2.0/complete?lat={latitude}&lon={longitude}")
}

#[derive(Deserialize)]
struct MetAnswer {
    properties: MetProperties,
}

#[derive(Deserialize)]
struct MetProperties {
    meta: Meta,
    timeseries: Vec<MetEntry>,
}

#[derive(Deserialize)]
struct Meta {
    updated_at: Timestamp,
    units: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct MetEntry {
    time: Timestamp,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    instant: Instant,
    /// Missing where only longer times are known.
    next_1_hours: Option<NextHour>,
}

#[derive(Deserialize)]
struct Instant {
    details: InstantDetails,
}

#[derive(Deserialize)]
struct InstantDetails {
    air_temperature: Option<f64>,
    dew_point_temperature: Option<f64>,
    relative_humidity: Option<f64>,
    wind_speed: Option<f64>,
}

#[derive(Deserialize)]
struct NextHour {
    summary: Option<Summary>,
    details: Option<NextHourDetails>,
}

#[derive(Deserialize)]
struct Summary {
    symbol_code: Option<String>,
}

#[derive(Deserialize)]
struct NextHourDetails {
    precipitation_amount: Option<f64>,
}

/// The units that are read.
const UNITS: [(WeatherValue, &str, &str); 5] = [
    (WeatherValue::Temperature, "air_temperature", "celsius"),
    (WeatherValue::DewPoint, "dew_point_temperature", "celsius"),
    (WeatherValue::Humidity, "relative_humidity", "%"),
    (WeatherValue::WindSpeed, "wind_speed", "m/s"),
    (WeatherValue::Precipitation, "precipitation_amount", "mm"),
];

/// Reads an answer.
///
/// # Errors
/// It is none of this provider, or in other units.
pub(super) fn read(body: &[u8]) -> Result<Forecast, BadForecast> {
    let MetAnswer { properties } = serde_json::from_slice(body)?;
    for (value, key, expected) in UNITS {
        if let Some(unit) = properties.meta.units.get(key).filter(|unit| *unit != expected) {
            let unit = unit.clone();
            return Err(BadForecast::Unit { value, unit });
        }
    }
    let mut forecast = Forecast {
        issued: Some(properties.meta.updated_at),
        ..Forecast::default()
    };
    for MetEntry { time, data } in properties.timeseries {
        // Days ahead, entries stand for six hours.
        let Some(next) = data.next_1_hours else {
            continue;
        };
        let now = data.instant.details;
        forecast.take(time, WeatherValue::Temperature, now.air_temperature);
        forecast.take(time, WeatherValue::DewPoint, now.dew_point_temperature);
        forecast.take(time, WeatherValue::Humidity, now.relative_humidity);
        let wind = now.wind_speed.map(|speed| speed * KMH_PER_MS);
        forecast.take(time, WeatherValue::WindSpeed, wind);
        let amount = next.details.and_then(|details| details.precipitation_amount);
        forecast.take(time, WeatherValue::Precipitation, amount);
        let symbol = next.summary.and_then(|summary| summary.symbol_code);
        forecast.take(time, WeatherValue::Snowfall, snowfall(amount, symbol.as_deref()));
    }
    Ok(forecast)
}

/// How deep the snow of an hour is, in cm. This provider says only how much water falls, and what it falls as.
fn snowfall(water: Option<f64>, symbol: Option<&str>) -> Option<f64> {
    let water = water?;
    if water == 0.0 {
        return Some(0.0);
    }
    let symbol = symbol?;
    // `lightssleetshowersandthunder` is one of them.
    let snow = if symbol.contains("sleet") {
        SNOW_IN_SLEET
    } else if symbol.contains("snow") {
        1.0
    } else {
        0.0
    };
    Some(water * snow * SNOW_PER_WATER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snow_is_what_falls_as_snow() {
        let depth = |water, symbol| snowfall(Some(water), symbol);
        assert_eq!(depth(2.0, Some("heavysnowshowers_night")), Some(1.4));
        assert_eq!(depth(2.0, Some("lightssnowshowersandthunder_day")), Some(1.4));
        assert_eq!(depth(2.0, Some("lightssleetshowersandthunder_day")), Some(0.7));
        assert_eq!(depth(2.0, Some("rain")), Some(0.0));
        assert_eq!(depth(0.0, None), Some(0.0));
        assert_eq!(depth(2.0, None), None);
        assert_eq!(snowfall(None, Some("snow")), None);
    }
}
