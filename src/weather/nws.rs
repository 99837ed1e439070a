//! The National Weather Service of the United States: <https://www.weather.gov/documentation/services-web-api>.
//!
//! It has forecasts for squares of a grid, so it is asked twice: once for the square of the place, then for its forecast.

use jiff::{SignedDuration, Span, Timestamp};
use planner::{WeatherValue, location::Coordinates};
use reqwest::Url;
use serde::Deserialize;

use super::{
    forecast::{BadForecast, Forecast, hours_after},
    place::Place,
};

/// The longest time that one value is for, in hours.
const INTERVAL_MAX: i64 = 8 * 24;

/// The path of what says which square a place is in.
pub(super) fn points_path(place: Coordinates) -> String {
    let Place { latitude, longitude } = place.into();
    format!("/points/{latitude},{longitude}")
}

#[derive(Deserialize)]
struct Points {
    properties: PointsProperties,
}

#[derive(Deserialize)]
struct PointsProperties {
    #[serde(rename = "forecastGridData")]
    forecast_grid_data: String,
}

/// Reads where the forecast of the square is: on the server that was asked, and nowhere else.
///
/// # Errors
/// It is no such answer.
pub(super) fn read_points(body: &[u8], server: &Url) -> Result<Url, BadForecast> {
    let Points { properties } = serde_json::from_slice(body)?;
    on_server(&properties.forecast_grid_data, server)
        .ok_or_else(|| BadForecast::Json("its forecast is on another server".to_owned()))
}

/// An address, if it is on this server.
pub(super) fn on_server(address: &str, server: &Url) -> Option<Url> {
    let address: Url = address.parse().ok()?;
    (address.origin() == server.origin()).then_some(address)
}

#[derive(Deserialize)]
struct GridAnswer {
    properties: GridProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GridProperties {
    update_time: Timestamp,
    temperature: GridLayer,
    dewpoint: Option<GridLayer>,
    relative_humidity: Option<GridLayer>,
    wind_speed: Option<GridLayer>,
    quantitative_precipitation: Option<GridLayer>,
    snowfall_amount: Option<GridLayer>,
}

/// The values of one kind.
#[derive(Deserialize)]
struct GridLayer {
    #[serde(default)]
    uom: String,
    values: Vec<Interval>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interval {
    /// A start and a length, such as `2026-11-30T06:00:00+00:00/PT2H`.
    valid_time: String,
    value: Option<f64>,
}

impl Interval {
    /// Its start, and its hours.
    fn hours(&self) -> Option<(Timestamp, i64)> {
        let (start, length) = self.valid_time.split_once('/')?;
        let start: Timestamp = start.parse().ok()?;
        let length: Span = length.parse().ok()?;
        let days_of_24_hours = SignedDuration::try_from(length.days(0)).ok()?;
        let hours = days_of_24_hours.as_hours() + 24 * i64::from(length.get_days());
        (1..=INTERVAL_MAX).contains(&hours).then_some((start, hours))
    }
}

/// Reads an answer.
///
/// # Errors
/// It is none of this provider, or in units that it does not have.
pub(super) fn read(body: &[u8]) -> Result<Forecast, BadForecast> {
    let GridAnswer { properties } = serde_json::from_slice(body)?;
    let mut forecast = Forecast {
        issued: Some(properties.update_time),
        ..Forecast::default()
    };
    for (value, layer) in [
        (WeatherValue::Temperature, Some(properties.temperature)),
        (WeatherValue::DewPoint, properties.dewpoint),
        (WeatherValue::Humidity, properties.relative_humidity),
        (WeatherValue::WindSpeed, properties.wind_speed),
        (WeatherValue::Precipitation, properties.quantitative_precipitation),
        (WeatherValue::Snowfall, properties.snowfall_amount),
    ] {
        if let Some(layer) = layer.filter(|layer| !layer.values.is_empty()) {
            take(&mut forecast, value, &layer)?;
        }
    }
    Ok(forecast)
}

fn take(forecast: &mut Forecast, value: WeatherValue, layer: &GridLayer) -> Result<(), BadForecast> {
    let unit = layer.uom.rsplit(':').next().unwrap_or_default();
    let convert: fn(f64) -> f64 = match (value, unit) {
        (WeatherValue::Temperature | WeatherValue::DewPoint, "degC")
        | (WeatherValue::Precipitation, "mm")
        | (WeatherValue::Humidity, "percent")
        | (WeatherValue::WindSpeed, "km_h-1") => |number| number,
        (WeatherValue::Temperature | WeatherValue::DewPoint, "degF") => |number| (number - 32.0) / 1.8,
        (WeatherValue::Snowfall, "mm") => |number| number / 10.0,
        (WeatherValue::WindSpeed, "m_s-1") => |number| number * 3.6,
        _ => {
            let unit = unit.to_owned();
            return Err(BadForecast::Unit { value, unit });
        }
    };
    for interval in &layer.values {
        let (Some((start, hours)), Some(number)) = (interval.hours(), interval.value) else {
            continue;
        };
        let parts = if value.adds_up() {
            f64::from(i32::try_from(hours).unwrap_or(1))
        } else {
            1.0
        };
        for hour in 0..hours {
            if let Some(at) = hours_after(start, hour) {
                forecast.take(at, value, Some(convert(number) / parts));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_hours() {
        let hours = |valid_time: &str| {
            let interval = Interval {
                valid_time: valid_time.to_owned(),
                value: None,
            };
            interval.hours().map(|(at, hours)| (at.to_string(), hours))
        };
        let found = |hours| Some(("2026-11-30T06:00:00Z".to_owned(), hours));
        assert_eq!(hours("2026-11-30T06:00:00+00:00/PT1H"), found(1));
        assert_eq!(hours("2026-11-30T01:00:00-05:00/P1DT6H"), found(30));
        assert_eq!(hours("2026-11-30T06:00:00+00:00/P7D"), found(168));
        for bad in [
            "2026-11-30T06:00:00+00:00",
            "2026-11-30T06:00:00+00:00/",
            "2026-11-30T06:00:00+00:00/PT0H",
            "2026-11-30T06:00:00+00:00/P1Y",
            "2026-11-30T06:00:00+00:00/-PT3H",
            "2026-11-30T06:00:00+00:00/P99999D",
            "tomorrow/PT1H",
        ] {
            assert_eq!(hours(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_forecast_is_on_the_same_server() {
        let server: Url = "https://api.weather.gov".parse().unwrap();
        let body = |url: &str| format!("{{\"properties\":{{\"forecastGridData\":\"{url}\"}}}}");
        let grid = "https://api.weather.gov/gridpoints/OKX/33,35";
        let found = read_points(body(grid).as_bytes(), &server).unwrap();
        assert_eq!(found.as_str(), grid);
        for bad in [
            "https://example.com/gridpoints/OKX/33,35",
            "http://api.weather.gov/x",
            "/gridpoints",
        ] {
            assert!(read_points(body(bad).as_bytes(), &server).is_err(), "{bad}");
        }
    }
}
