//! The sensors that stand for HeatTrax's weather service: the forecast of ours, or topics where there is none.

use crate::migrate::{Draft, source::Node};

/// Where all of them are published without a forecast.
const TOPIC: &str = "weather/outdoor";
/// HeatTrax's own default.
const LEAD_MINUTES: f64 = 60.0;
/// Our longest time ahead.
const LEAD_MINUTES_MAX: f64 = 24.0 * 60.0;

/// Where the values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WeatherSource {
    /// The forecast, whose values are metric; precipitation within so many hours counts.
    Forecast { lead_hours: u32 },
    /// Messages in HeatTrax's own units.
    Topics,
    /// Nothing: it was off.
    Off,
}

impl WeatherSource {
    /// What a file asks for. Writes `[weather]`.
    pub(super) fn of(root: &Node<'_>, draft: &mut Draft) -> Self {
        let api = root.get("weather_api");
        if api.flag("enabled") == Some(false) {
            return Self::Off;
        }
        let location = root.get("location");
        let has_degrees = |key, most: f64| location.number(key, -most..=most).is_some();
        if !has_degrees("latitude", 90.0) || !has_degrees("longitude", 180.0) {
            draft.change("The file names no place, so no forecast can be asked for.");
            return Self::Topics;
        }
        let provider = api.text("provider").unwrap_or_else(|| "open-meteo".to_owned());
        if provider.to_lowercase() != "open-meteo" {
            draft.change(format!(
                "The weather came from {provider:?}; now it comes from Open-Meteo, which needs no key."
            ));
        }
        draft.section("[weather]");
        draft.key("provider", "open-meteo");
        let lead = root
            .get("thresholds")
            .number("lead_time_minutes", 0.0..=LEAD_MINUTES_MAX);
        // At most 24.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let lead_hours = (lead.unwrap_or(LEAD_MINUTES) / 60.0).ceil() as u32;
        Self::Forecast { lead_hours }
    }
}

/// One value of the weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sensor {
    Temperature,
    Precipitation,
    DewPoint,
    Humidity,
}

impl Sensor {
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Temperature => "outdoor",
            Self::Precipitation => "precipitation",
            Self::DewPoint => "dew-point",
            Self::Humidity => "humidity",
        }
    }

    /// Its value in the forecast.
    fn forecast(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Precipitation => "precipitation",
            Self::DewPoint => "dew_point",
            Self::Humidity => "humidity",
        }
    }

    /// Its key in the payload, an example of it, and its unit.
    fn payload(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Self::Temperature => ("temperature_f", "30.2", Some("°F")),
            Self::Precipitation => ("precipitation", "true", None),
            Self::DewPoint => ("dew_point_f", "28.4", Some("°F")),
            Self::Humidity => ("humidity", "93", Some("%")),
        }
    }

    fn write(self, source: WeatherSource, draft: &mut Draft) {
        draft.section("[[sensor]]");
        draft.key("id", self.id());
        if let WeatherSource::Forecast { lead_hours } = source {
            draft.key("weather", self.forecast());
            if self == Self::Precipitation && lead_hours > 0 {
                draft.key("within", format!("{lead_hours}h"));
                draft.key("as", "sum");
            }
            return;
        }
        let (key, _, unit) = self.payload();
        draft.key("topic", TOPIC);
        draft.key("pointer", format!("/{key}"));
        if let Some(unit) = unit {
            draft.key("unit", unit);
        }
    }
}

/// Writes sensors, and says how they get their values.
pub(super) fn write_all(sensors: impl Iterator<Item = Sensor>, source: WeatherSource, draft: &mut Draft) {
    let mut example = Vec::new();
    for sensor in sensors {
        sensor.write(source, draft);
        let (key, value, _) = sensor.payload();
        example.push(format!("\"{key}\": {value}"));
    }
    if example.is_empty() {
        return;
    }
    draft.change(match source {
        WeatherSource::Forecast { .. } => "The weather is a forecast in whole hours. Precipitation counts from 0.1 mm on, in the \
                                           hour that now is and in those that start within the lead time; black ice is looked \
                                           for in the hour that now is. A forecast that is older than a day counts no more: \
                                           schedules with conditions are off then, as HeatTrax had it while its weather service \
                                           was offline."
            .to_owned(),
        WeatherSource::Topics | WeatherSource::Off => format!(
            "The weather is not fetched from the internet. Let Home Assistant or Node-RED publish it to {TOPIC}, as {{{}}}. \
             Until then, and when it is older than 30 minutes, schedules with conditions are off, as HeatTrax had it while its \
             weather service was offline.",
            example.join(", ")
        ),
    });
}
