//! What a forecast says of an hour.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the values of an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeatherValue {
    /// Of the air, in °C, at the start of the hour.
    Temperature,
    /// Rain and melted snow in the hour, in mm.
    Precipitation,
    /// Fresh snow in the hour, in cm.
    Snowfall,
    /// In °C, at the start of the hour.
    DewPoint,
    /// Relative, in percent, at the start of the hour.
    Humidity,
    /// In km/h, at the start of the hour.
    WindSpeed,
}

impl WeatherValue {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Temperature,
        Self::Precipitation,
        Self::Snowfall,
        Self::DewPoint,
        Self::Humidity,
        Self::WindSpeed,
    ];

    /// As in the settings, and the key in what is published.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Precipitation => "precipitation",
            Self::Snowfall => "snowfall",
            Self::DewPoint => "dew_point",
            Self::Humidity => "humidity",
            Self::WindSpeed => "wind_speed",
        }
    }

    /// What its numbers mean.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Temperature | Self::DewPoint => "°C",
            Self::Precipitation => "mm",
            Self::Snowfall => "cm",
            Self::Humidity => "%",
            Self::WindSpeed => "km/h",
        }
    }

    /// Whether it is an amount, so that the amounts of several hours add up.
    pub const fn adds_up(self) -> bool {
        matches!(self, Self::Precipitation | Self::Snowfall)
    }

    /// A number of this value to the hundredth; `None` where no weather has it, so that it is a mistake.
    pub fn plausible(self, number: f64) -> Option<f64> {
        let range = match self {
            Self::Temperature | Self::DewPoint => -100.0..=70.0,
            Self::Precipitation | Self::Snowfall | Self::WindSpeed => 0.0..=500.0,
            // Models go a little beyond what is possible.
            Self::Humidity => 0.0..=105.0,
        };
        let ceiling = if self == Self::Humidity { 100.0 } else { f64::MAX };
        range
            .contains(&number)
            .then(|| (number.min(ceiling) * 100.0).round() / 100.0)
    }
}

impl fmt::Display for WeatherValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_that_weather_has_are_taken() {
        for (value, number, taken) in [
            (WeatherValue::Temperature, -39.996, Some(-40.0)),
            (WeatherValue::Temperature, 9999.0, None),
            (WeatherValue::Snowfall, -0.1, None),
            (WeatherValue::Humidity, 101.0, Some(100.0)),
            (WeatherValue::Humidity, 106.0, None),
            (WeatherValue::WindSpeed, f64::NAN, None),
            (WeatherValue::Precipitation, f64::INFINITY, None),
        ] {
            assert_eq!(value.plausible(number), taken, "{value} {number}");
        }
    }
}
