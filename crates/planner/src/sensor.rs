//! Sensors: where their values come from, their unit, and reading a value from a payload.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{DeviceValue, OutletPath, SensorId, WeatherSensor, WeatherValue, period::Period};

/// The largest payload that is looked into, in bytes. A weather report has a few hundred.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// A value that conditions refer to.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorSpec {
    /// Its name in conditions.
    pub id: SensorId,
    /// Where its value comes from.
    pub source: SensorSource,
    /// What its numbers mean. Limits of its conditions are in the same unit.
    pub unit: Unit,
    /// A value this old is unknown. A forecast is as old as its issue.
    pub stale_after: Period,
}

impl SensorSpec {
    /// How long a value counts unless set otherwise: 30 min.
    pub const DEFAULT_STALE_AFTER: Period = Period::minutes(30);
    /// How long a forecast counts unless set otherwise: 24 h.
    pub const DEFAULT_STALE_FORECAST: Period = Period::hours(24);

    /// The topic that it is read from; `None` where it has none.
    pub fn topic(&self) -> Option<&SensorTopic> {
        match &self.source {
            SensorSource::Topic(topic) => Some(topic),
            SensorSource::Device(..) | SensorSource::Weather(_) => None,
        }
    }

    /// What no thermometer at all shows unless it is broken, outside of this, °C: a DS18B20 without its wire shows -127, other
    /// programs the largest number that they have. A boiler or a stove is inside.
    const OF_THERMOMETERS: std::ops::RangeInclusive<f64> = -100.0..=2000.0;

    /// Whether a value can be one. What has a unit is a number; only of a temperature is known which it can be.
    pub fn is_plausible(&self, value: SensorValue) -> bool {
        match (value, &self.unit) {
            (SensorValue::Boolean(_), Unit::Temperature(_) | Unit::Percent) => false,
            (SensorValue::Number(degrees), Unit::Temperature(scale)) => {
                Self::OF_THERMOMETERS.contains(&scale.temperature(degrees).celsius())
            }
            _ => true,
        }
    }

    /// What no thermometer of a room shows unless it is broken: outside of this, °C.
    const OF_ROOMS: std::ops::RangeInclusive<f64> = -40.0..=60.0;

    /// The temperature of a room that a value means; `None` for one that no room has.
    pub fn room(&self, value: SensorValue) -> Option<(Temperature, Scale)> {
        let (SensorValue::Number(degrees), Unit::Temperature(scale)) = (value, &self.unit) else {
            return None;
        };
        let room = scale.temperature(degrees);
        Self::OF_ROOMS.contains(&room.celsius()).then_some((room, *scale))
    }

    /// What it reads from the forecast; `None` where it does not.
    pub fn weather(&self) -> Option<&WeatherSensor> {
        match &self.source {
            SensorSource::Weather(weather) => Some(weather),
            SensorSource::Topic(_) | SensorSource::Device(..) => None,
        }
    }
}

/// Where the value of a sensor comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum SensorSource {
    /// A message on an MQTT topic.
    Topic(SensorTopic),
    /// A value of what is connected to a hub.
    Device(OutletPath, DeviceValue),
    /// A value of the forecast.
    Weather(WeatherSensor),
}

impl fmt::Display for SensorSource {
    /// As in `no value of ... that counts`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => f.write_str(&topic.topic),
            Self::Device(child, value) => write!(f, "{child} {value}"),
            Self::Weather(weather) => weather.fmt(f),
        }
    }
}

/// A value on an MQTT topic.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorTopic {
    /// The topic, exactly; no wildcards.
    pub topic: String,
    /// Where in a JSON payload the value is; `None` reads the whole payload as one value.
    pub pointer: Option<Pointer>,
}

impl SensorTopic {
    /// Reads a payload.
    ///
    /// # Errors
    /// A payload with no number and no boolean where this sensor has its value.
    pub fn decode(&self, payload: &[u8]) -> Result<SensorValue, DecodeError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(DecodeError::TooLarge(payload.len()));
        }
        let text = std::str::from_utf8(payload).map_err(|_| DecodeError::NotUtf8)?;
        match &self.pointer {
            None => plain(text),
            Some(pointer) => {
                let document: Value = serde_json::from_str(text).map_err(|_| DecodeError::NotJson)?;
                let value = document
                    .pointer(pointer.as_str())
                    .ok_or_else(|| DecodeError::Missing(pointer.clone()))?;
                member(value)
            }
        }
    }
}

/// A value of a sensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SensorValue {
    /// A finite number, in the sensor's unit.
    Number(f64),
    /// Yes or no.
    Boolean(bool),
}

impl SensorValue {
    /// Yes or no; 1 and 0 are that too, any other number is not.
    pub fn boolean(self) -> Option<bool> {
        match self {
            Self::Boolean(boolean) => Some(boolean),
            Self::Number(1.0) => Some(true),
            Self::Number(0.0) => Some(false),
            Self::Number(_) => None,
        }
    }
}

impl fmt::Display for SensorValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Sums of binary fractions print 17 digits; a reason needs none of them.
            Self::Number(number) => write!(f, "{}", (number * 100.0).round() / 100.0),
            Self::Boolean(true) => f.write_str("true"),
            Self::Boolean(false) => f.write_str("false"),
        }
    }
}

impl Serialize for SensorValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_f64(*number),
            Self::Boolean(boolean) => serializer.serialize_bool(*boolean),
        }
    }
}

/// Why a payload has no value. The sensor keeps its last one until that is stale.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than [`PAYLOAD_MAX`] bytes.
    #[error("payload of {0} bytes is larger than {PAYLOAD_MAX}")]
    TooLarge(usize),
    /// Bytes that are no text.
    #[error("payload is not UTF-8")]
    NotUtf8,
    /// A pointer needs a document.
    #[error("payload is not JSON")]
    NotJson,
    /// Nothing is where the pointer points.
    #[error("payload has nothing at {0}")]
    Missing(Pointer),
    /// `null`, a list, an object, or a text that is neither a number nor a boolean.
    #[error("value is neither a number nor a boolean")]
    NotAValue,
    /// Infinite, or not a number.
    #[error("value is not a finite number")]
    NotFinite,
}

fn member(value: &Value) -> Result<SensorValue, DecodeError> {
    match value {
        Value::Bool(boolean) => Ok(SensorValue::Boolean(*boolean)),
        Value::Number(number) => number.as_f64().ok_or(DecodeError::NotFinite).and_then(finite),
        Value::String(text) => plain(text),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(DecodeError::NotAValue),
    }
}

fn plain(text: &str) -> Result<SensorValue, DecodeError> {
    let text = text.trim();
    // A string of JSON is the value in quotes.
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let text = quoted.map_or(text, str::trim);
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" => return Ok(SensorValue::Boolean(true)),
        "false" | "off" => return Ok(SensorValue::Boolean(false)),
        _ => {}
    }
    let number: f64 = text.parse().map_err(|_| DecodeError::NotAValue)?;
    finite(number)
}

fn finite(number: f64) -> Result<SensorValue, DecodeError> {
    if number.is_finite() {
        Ok(SensorValue::Number(number))
    } else {
        Err(DecodeError::NotFinite)
    }
}

/// A JSON pointer (RFC 6901): empty for the whole document, or `/key/0/key` with `~0` for `~` and `~1` for
/// `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(String);

/// Why a text is no JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// Every level starts with a slash.
    #[error("{0:?} does not start with a slash; write it like /temperature")]
    NoSlash(String),
    /// `~` escapes, and only itself and the slash.
    #[error("{0:?} has a ~ that is neither ~0 nor ~1")]
    Escape(String),
}

impl Pointer {
    /// The pointer as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err(PointerError::NoSlash(text.to_owned()));
        }
        let escaped = |rest: &str| rest.starts_with(['0', '1']);
        if !text.split('~').skip(1).all(escaped) {
            return Err(PointerError::Escape(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "the top level"
        } else {
            &self.0
        })
    }
}

/// The unit of a sensor's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// A temperature.
    Temperature(Scale),
    /// A share of a hundred, as relative humidity.
    Percent,
    /// Anything else, for people to read; empty for a plain number.
    Other(String),
}

/// A temperature scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// °C
    Celsius,
    /// °F
    Fahrenheit,
}

impl Scale {
    /// A reading on this scale as a temperature.
    pub fn temperature(self, reading: f64) -> Temperature {
        match self {
            Self::Celsius => Temperature::from_celsius(reading),
            Self::Fahrenheit => Temperature::from_celsius((reading - 32.0) / 1.8),
        }
    }

    /// A temperature on this scale, to a tenth of a degree.
    pub fn degrees(self, temperature: Temperature) -> f64 {
        let degrees = match self {
            Self::Celsius => temperature.celsius(),
            Self::Fahrenheit => temperature.celsius() * 1.8 + 32.0,
        };
        (degrees * 10.0).round() / 10.0
    }

    /// How many kelvin a difference on this scale is.
    pub fn kelvin(self, difference: f64) -> f64 {
        match self {
            Self::Celsius => difference,
            Self::Fahrenheit => difference / 1.8,
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Celsius => "°C",
            Self::Fahrenheit => "°F",
        })
    }
}

impl From<&str> for Unit {
    fn from(text: &str) -> Self {
        let text = text.trim();
        match text.to_lowercase().as_str() {
            "°c" | "c" | "℃" | "celsius" | "degc" => Self::Temperature(Scale::Celsius),
            "°f" | "f" | "℉" | "fahrenheit" | "degf" => Self::Temperature(Scale::Fahrenheit),
            "%" => Self::Percent,
            _ => Self::Other(text.to_owned()),
        }
    }
}

impl From<DeviceValue> for Unit {
    /// What the numbers of a value mean; nothing for yes or no.
    fn from(value: DeviceValue) -> Self {
        match value {
            DeviceValue::Temperature | DeviceValue::TargetTemperature => Self::Temperature(Scale::Celsius),
            DeviceValue::Humidity | DeviceValue::Battery => Self::Percent,
            DeviceValue::Rssi => Self::Other("dBm".to_owned()),
            DeviceValue::Motion | DeviceValue::Open | DeviceValue::WaterLeak | DeviceValue::BatteryLow => {
                Self::Other(String::new())
            }
        }
    }
}

impl From<WeatherValue> for Unit {
    fn from(value: WeatherValue) -> Self {
        value.unit().into()
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Temperature(scale) => return scale.fmt(f),
            Self::Percent => "%",
            Self::Other(unit) => unit,
        })
    }
}

/// A temperature, whatever scale it was read on.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Temperature {
    celsius: f64,
}

impl Temperature {
    /// From degrees Celsius.
    pub const fn from_celsius(celsius: f64) -> Self {
        Self { celsius }
    }

    /// In degrees Celsius.
    pub const fn celsius(self) -> f64 {
        self.celsius
    }

    /// How far it is above another one, in kelvin.
    pub fn kelvin_above(self, other: Self) -> f64 {
        self.celsius - other.celsius
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use test_inputs::{damaged, json};

    fn sensor(pointer: Option<&str>) -> SensorTopic {
        SensorTopic {
            topic: "weather/outdoor".to_owned(),
            pointer: pointer.map(|text| text.parse().unwrap()),
        }
    }

    #[test]
    fn a_plain_payload_is_a_number_or_a_boolean() {
        let plain = sensor(None);
        for (payload, number) in [
            ("21.5", 21.5),
            (" -3\n", -3.0),
            ("0", 0.0),
            ("1e2", 100.0),
            ("\"21.5\"\n", 21.5),
        ] {
            assert_eq!(
                plain.decode(payload.as_bytes()),
                Ok(SensorValue::Number(number)),
                "{payload}"
            );
        }
        for (payload, boolean) in [("true", true), ("FALSE", false), ("ON", true), ("off", false)] {
            assert_eq!(
                plain.decode(payload.as_bytes()),
                Ok(SensorValue::Boolean(boolean)),
                "{payload}"
            );
        }
    }

    #[test]
    fn what_has_a_unit_is_a_number_and_a_temperature_one_of_some() {
        let plausible = |unit: &str, value| {
            let spec = SensorSpec {
                id: "boiler".parse().unwrap(),
                source: SensorSource::Topic(sensor(None)),
                unit: unit.into(),
                stale_after: SensorSpec::DEFAULT_STALE_AFTER,
            };
            spec.is_plausible(value)
        };
        let is_number = |unit: &str| !plausible(unit, SensorValue::Boolean(true));
        assert_eq!(
            ["°C", "°F", "%", "", "lx"].map(is_number),
            [true, true, true, false, false]
        );
        let plausible = |unit: &str, value| plausible(unit, SensorValue::Number(value));
        for value in [-127.0, -100.1, 2000.1, 32767.0, -3276.8] {
            assert!(!plausible("°C", value), "{value}");
            assert!(["", "W", "%", "lx"].iter().all(|unit| plausible(unit, value)));
        }
        for value in [-80.0, 0.0, 85.0, 300.0, 1200.0] {
            assert!(plausible("°C", value) && plausible("°F", value), "{value}");
        }
        assert!(!plausible("°F", -196.6));
        // However the unit is written.
        assert!(!plausible("Celsius", -127.0) && !plausible("degF", -196.6));
    }

    #[test]
    fn a_pointer_follows_rfc_6901() {
        let document = br#"{"a":{"b":[1,{"c/d":2,"e~f":true}]},"":3,"text":"-1.5"}"#;
        let cases = [
            ("/a/b/0", SensorValue::Number(1.0)),
            ("/a/b/1/c~1d", SensorValue::Number(2.0)),
            ("/a/b/1/e~0f", SensorValue::Boolean(true)),
            ("/", SensorValue::Number(3.0)),
            ("/text", SensorValue::Number(-1.5)),
        ];
        for (pointer, value) in cases {
            assert_eq!(sensor(Some(pointer)).decode(document), Ok(value), "{pointer}");
        }
        assert_eq!(sensor(Some("")).decode(b"7"), Ok(SensorValue::Number(7.0)));
        for missing in ["/b", "/a/b/2", "/a/b/00", "/a/b/-", "/a/x/y"] {
            let pointer: Pointer = missing.parse().unwrap();
            assert_eq!(
                sensor(Some(missing)).decode(document),
                Err(DecodeError::Missing(pointer)),
                "{missing}"
            );
        }
    }

    #[test]
    fn an_invalid_pointer_is_refused_with_a_reason() {
        assert_eq!(
            "temperature".parse::<Pointer>(),
            Err(PointerError::NoSlash("temperature".to_owned()))
        );
        for bad in ["/a~", "/a~2", "/~~0"] {
            assert_eq!(
                bad.parse::<Pointer>(),
                Err(PointerError::Escape(bad.to_owned())),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let plain = sensor(None);
        for payload in ["NaN", "inf", "-Infinity", "1e999"] {
            assert_eq!(
                plain.decode(payload.as_bytes()),
                Err(DecodeError::NotFinite),
                "{payload}"
            );
        }
        for payload in ["", "warm", "1,5", "0x10", "21 C"] {
            assert_eq!(
                plain.decode(payload.as_bytes()),
                Err(DecodeError::NotAValue),
                "{payload}"
            );
        }
        assert_eq!(plain.decode(&[0xff, 0xfe]), Err(DecodeError::NotUtf8));
        let huge = vec![b' '; PAYLOAD_MAX + 1];
        assert_eq!(plain.decode(&huge), Err(DecodeError::TooLarge(PAYLOAD_MAX + 1)));
        let nested = sensor(Some("/t"));
        assert_eq!(nested.decode(b"{"), Err(DecodeError::NotJson));
        assert_eq!(nested.decode(&b"[".repeat(50_000)), Err(DecodeError::NotJson));
        for payload in [r#"{"t":null}"#, r#"{"t":[1]}"#, r#"{"t":{}}"#] {
            assert_eq!(
                nested.decode(payload.as_bytes()),
                Err(DecodeError::NotAValue),
                "{payload}"
            );
        }
        assert_eq!(nested.decode(br#"{"t":"NaN"}"#), Err(DecodeError::NotFinite));
    }

    #[test]
    fn scales_convert() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(Scale::Fahrenheit.temperature(32.0).celsius(), 0.0));
        assert!(close(Scale::Fahrenheit.temperature(-40.0).celsius(), -40.0));
        assert!(close(Scale::Celsius.temperature(21.5).celsius(), 21.5));
        assert_eq!(Unit::from("°F"), Unit::Temperature(Scale::Fahrenheit));
        assert_eq!(Unit::from("hPa").to_string(), "hPa");
    }

    proptest! {
        #[test]
        fn any_payload_is_read_without_a_panic(
            payload in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..100),
                ".{0,20}".prop_map(String::into_bytes),
                any::<f64>().prop_map(|number| number.to_string().into_bytes()),
                json(&["temperature", "0", ""]).prop_map(|json| json.to_string().into_bytes()),
                damaged(br#"{"temperature":[21.5,{"":"on"}],"0":true}"#.to_vec()),
            ],
            pointer in prop_oneof!["(/(temperature|0|~0|~1)?){0,3}", ".{0,8}"],
        ) {
            let pointers = [None, pointer.parse::<Pointer>().is_ok().then_some(pointer.as_str())];
            for pointer in pointers {
                if let Ok(SensorValue::Number(number)) = sensor(pointer).decode(&payload) {
                    prop_assert!(number.is_finite());
                }
            }
        }
    }
}
