//! The same weather as each provider answers it, in the form that its documentation describes.

use planner::{WeatherValue, weather::WeatherHour};
use serde_json::{Value, json};

use crate::domain::weather_provider::WeatherProvider;

/// 12 hours from 2026-11-30 06:00 UTC on; it snows in the sixth.
pub(super) fn answer(provider: WeatherProvider) -> String {
    match provider {
        WeatherProvider::OpenMeteo => open_meteo(),
        WeatherProvider::MetNorway => met_norway(),
        WeatherProvider::Nws => nws(),
    }
    .to_string()
}

/// What an hour has.
pub(super) fn hour(index: i64) -> WeatherHour {
    let snows = index == 5;
    [
        (WeatherValue::Temperature, if snows { -1.5 } else { 0.5 }),
        (WeatherValue::Precipitation, if snows { 2.0 } else { 0.0 }),
        (WeatherValue::Snowfall, if snows { 1.4 } else { 0.0 }),
        (WeatherValue::DewPoint, -2.0),
        (WeatherValue::Humidity, 88.0),
        (WeatherValue::WindSpeed, 18.0),
    ]
    .into()
}

fn all(value: WeatherValue) -> Vec<f64> {
    (0..12).map(|index| hour(index)[&value]).collect()
}

fn open_meteo() -> Value {
    // 06:00 to 18:00. Amounts are of the hour before, so the first is of one that is over.
    const START: i64 = 1_796_018_400;
    let instant = |value| {
        let mut column: Vec<Option<f64>> = all(value).into_iter().map(Some).collect();
        column.push(None);
        column
    };
    let amount = |value| {
        let mut column = vec![9.9];
        column.extend(all(value));
        column
    };
    json!({
        "latitude": 52.52, "longitude": 13.42, "generationtime_ms": 0.08, "utc_offset_seconds": 0,
        "timezone": "GMT", "timezone_abbreviation": "GMT", "elevation": 38.0,
        "hourly_units": {
            "time": "unixtime", "temperature_2m": "°C", "precipitation": "mm", "snowfall": "cm",
            "dew_point_2m": "°C", "relative_humidity_2m": "%", "wind_speed_10m": "km/h"
        },
        "hourly": {
            "time": (0..13).map(|index| START + 3600 * index).collect::<Vec<i64>>(),
            "temperature_2m": instant(WeatherValue::Temperature),
            "precipitation": amount(WeatherValue::Precipitation),
            "snowfall": amount(WeatherValue::Snowfall),
            "dew_point_2m": instant(WeatherValue::DewPoint),
            "relative_humidity_2m": instant(WeatherValue::Humidity),
            "wind_speed_10m": instant(WeatherValue::WindSpeed),
        }
    })
}

fn met_norway() -> Value {
    let entry = |index: i64| {
        let hour = hour(index);
        let snows = hour[&WeatherValue::Snowfall] > 0.0;
        json!({
            "time": format!("2026-11-30T{:02}:00:00Z", index + 6),
            "data": {
                "instant": {"details": {
                    "air_pressure_at_sea_level": 1008.3, "air_temperature": hour[&WeatherValue::Temperature],
                    "cloud_area_fraction": 99.2, "dew_point_temperature": hour[&WeatherValue::DewPoint],
                    "relative_humidity": hour[&WeatherValue::Humidity], "wind_from_direction": 228.2, "wind_speed": 5.0
                }},
                "next_12_hours": {"summary": {"symbol_code": "snow"}, "details": {}},
                "next_1_hours": {
                    "summary": {"symbol_code": if snows { "snow" } else { "cloudy" }},
                    "details": {"precipitation_amount": hour[&WeatherValue::Precipitation]}
                }
            }
        })
    };
    let mut entries: Vec<Value> = (0..12).map(entry).collect();
    entries.push(json!({
        "time": "2026-11-30T18:00:00Z",
        "data": {"instant": {"details": {"air_temperature": 9.0}}, "next_6_hours": {"details": {"precipitation_amount": 3.0}}}
    }));
    json!({
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [13.41, 52.52, 38]},
        "properties": {
            "meta": {
                "updated_at": "2026-11-30T05:12:00Z",
                "units": {
                    "air_pressure_at_sea_level": "hPa", "air_temperature": "celsius", "cloud_area_fraction": "%",
                    "dew_point_temperature": "celsius", "precipitation_amount": "mm", "relative_humidity": "%",
                    "wind_from_direction": "degrees", "wind_speed": "m/s"
                }
            },
            "timeseries": entries
        }
    })
}

fn nws() -> Value {
    let layer = |uom: &str, values: &[(&str, f64)]| {
        let values = values
            .iter()
            .map(|(time, value)| json!({"validTime": time, "value": value}));
        json!({"uom": uom, "values": values.collect::<Vec<_>>()})
    };
    let all = "2026-11-30T06:00:00+00:00/PT12H";
    let hours = |before: f64, snows: f64, after: f64| {
        [
            ("2026-11-30T06:00:00+00:00/PT5H", before),
            ("2026-11-30T11:00:00+00:00/PT1H", snows),
            ("2026-11-30T12:00:00+00:00/PT6H", after),
        ]
    };
    json!({
        "id": "https://api.weather.gov/gridpoints/OKX/33,35",
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[[-74.0, 40.7], [-74.0, 40.8]]]},
        "properties": {
            "@id": "https://api.weather.gov/gridpoints/OKX/33,35", "@type": "wx:Gridpoint",
            "updateTime": "2026-11-30T05:12:00+00:00", "validTimes": "2026-11-29T23:00:00+00:00/P7DT14H",
            "elevation": {"unitCode": "wmoUnit:m", "value": 6.1},
            "temperature": layer("wmoUnit:degC", &hours(0.5, -1.5, 0.5)),
            "dewpoint": layer("wmoUnit:degC", &[(all, -2.0)]),
            "relativeHumidity": layer("wmoUnit:percent", &[(all, 88.0)]),
            "windSpeed": layer("wmoUnit:km_h-1", &[(all, 18.0)]),
            "weather": {"values": [{"validTime": all, "value": [{"coverage": null, "weather": null}]}]},
            "quantitativePrecipitation": layer("wmoUnit:mm", &hours(0.0, 2.0, 0.0)),
            "snowfallAmount": layer("wmoUnit:mm", &hours(0.0, 14.0, 0.0)),
        }
    })
}
