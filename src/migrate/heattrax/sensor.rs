//! The sensors that stand for HeatTrax's weather service.

use crate::migrate::Draft;

/// Where all of them are published.
const TOPIC: &str = "weather/outdoor";

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

    /// Its key in the payload, an example of it, and its unit.
    fn payload(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Self::Temperature => ("temperature_f", "30.2", Some("°F")),
            Self::Precipitation => ("precipitation", "true", None),
            Self::DewPoint => ("dew_point_f", "28.4", Some("°F")),
            Self::Humidity => ("humidity", "93", Some("%")),
        }
    }

    fn write(self, draft: &mut Draft) {
        let (key, _, unit) = self.payload();
        draft.section("[[sensor]]");
        draft.key("id", self.id());
        draft.key("topic", TOPIC);
        draft.key("pointer", format!("/{key}"));
        if let Some(unit) = unit {
            draft.key("unit", unit);
        }
    }
}

/// Writes sensors, and says how they get their values.
pub(super) fn write_all(sensors: impl Iterator<Item = Sensor>, draft: &mut Draft) {
    let mut example = Vec::new();
    for sensor in sensors {
        sensor.write(draft);
        let (key, value, _) = sensor.payload();
        example.push(format!("\"{key}\": {value}"));
    }
    if !example.is_empty() {
        draft.change(format!(
            "The weather is not fetched from the internet. Let Home Assistant or Node-RED publish it to {TOPIC}, as \
             {{{}}}. Until then, and when it is older than 30 minutes, schedules with conditions are off, as HeatTrax \
             had it while its weather service was offline.",
            example.join(", ")
        ));
    }
}
