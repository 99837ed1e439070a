//! Who makes forecasts.

use std::fmt;

/// A provider of forecasts that needs no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeatherProvider {
    /// <https://open-meteo.com>, the whole world.
    OpenMeteo,
    /// <https://api.met.no>, the whole world.
    MetNorway,
    /// <https://api.weather.gov>, the United States.
    Nws,
}

impl WeatherProvider {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OpenMeteo, Self::MetNorway, Self::Nws];

    /// As in the settings, and as it is published.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenMeteo => "open-meteo",
            Self::MetNorway => "met-norway",
            Self::Nws => "nws",
        }
    }

    /// Where it is.
    pub const fn server(self) -> &'static str {
        match self {
            Self::OpenMeteo => "https://api.open-meteo.com",
            Self::MetNorway => "https://api.met.no",
            Self::Nws => "https://api.weather.gov",
        }
    }

    /// What its terms of use ask to be shown.
    pub const fn attribution(self) -> &'static str {
        match self {
            Self::OpenMeteo => "Weather data by Open-Meteo.com (CC BY 4.0)",
            Self::MetNorway => "Data from MET Norway (CC BY 4.0)",
            Self::Nws => "Data from the National Weather Service (weather.gov)",
        }
    }
}

impl fmt::Display for WeatherProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
