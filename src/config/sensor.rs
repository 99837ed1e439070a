//! `[[sensor]]`: values on MQTT topics, of what is connected to hubs, and of the forecast, that conditions refer to.

use std::{collections::BTreeSet, time::Duration};

use super::{
    added::AddedIds,
    device::Device,
    names::one_of,
    parse,
    reader::{Expected, Leaf, Read, Table},
    register::{Found, IdIndex},
    topic::topic,
};
use crate::domain::topics::Topics;
use planner::{
    Aggregate, DeviceValue, OutletKey, OutletPath, SensorId, WeatherSensor, WeatherSpan, WeatherValue,
    period::Period,
    sensor::{Pointer, SensorSource, SensorSpec, SensorTopic, Unit},
};

/// The longest time ahead of a sensor: all providers know the hours of more than a day.
const WITHIN_MAX: Duration = Duration::from_hours(24);
/// The words for how the values of several hours become one.
const AGGREGATES: [(&str, Aggregate); 4] = [
    (Aggregate::Sum.as_str(), Aggregate::Sum),
    (Aggregate::Max.as_str(), Aggregate::Max),
    (Aggregate::Min.as_str(), Aggregate::Min),
    (Aggregate::Mean.as_str(), Aggregate::Mean),
];

/// What the values of sensors can come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct SensorOrigins<'a> {
    /// The devices of the settings.
    pub(super) devices: &'a IdIndex<Device>,
    /// Those that were added.
    pub(super) added: &'a AddedIds,
    /// The topics of the bridge, where they could be read: no sensor publishes there.
    pub(super) ours: Option<&'a Topics>,
    /// Whether there is a broker. Without one there are no topics at all.
    pub(super) has_broker: bool,
    /// Whether there is a forecast.
    pub(super) weather: bool,
}

/// Reads all sensors, and returns which ids conditions can name, and which of them say how long a value counts.
pub(super) fn read_all(
    root: &mut Table<'_>,
    origins: SensorOrigins<'_>,
) -> (Read<Vec<SensorSpec>>, IdIndex<SensorSpec>, BTreeSet<SensorId>) {
    let mut register = IdIndex::new();
    let mut timed = BTreeSet::new();
    let mut taken = Vec::new();
    let sensors = root.list("sensor", |table| {
        let id = table
            .required("id", parse::slug)
            .and_then(|id| free_id(table, id, &mut taken));
        let sensor = read(table, id.clone(), origins);
        if let Ok(id) = id {
            if table.has("stale_after") {
                timed.insert(id.clone());
            }
            register.add(id.as_str(), sensor.clone().ok());
        }
        sensor
    });
    (sensors, register, timed)
}

fn free_id(table: &mut Table<'_>, id: SensorId, taken: &mut Vec<(SensorId, String)>) -> Read<SensorId> {
    if let Some((_, owner)) = taken.iter().find(|(other, _)| *other == id) {
        return Err(table.duplicate("id", owner));
    }
    taken.push((id.clone(), table.place()));
    Ok(id)
}

fn read(table: &mut Table<'_>, id: Read<SensorId>, origins: SensorOrigins<'_>) -> Read<SensorSpec> {
    if table.has("weather") {
        return read_weather(table, id, origins);
    }
    let device = table.optional("device", child(origins.devices, origins.added));
    let value = table.optional("value", value);
    let source = match (device?, value?) {
        (None, None) => read_topic(table, origins.ours, origins.has_broker),
        (Some(child), Some(value)) => read_device(table, child, value),
        (Some(_), None) => Err(table.problem("value", format!("one of {}", value_names().join(", ")))),
        (None, Some(_)) => {
            let expected = "the sensor of a hub that has this value, such as \"hub/hall\"";
            Err(table.problem("device", expected))
        }
    };
    let range = Duration::from_secs(1)..=Duration::from_hours(7 * 24);
    let stale_after = table.optional("stale_after", parse::period(range));
    let (source, unit) = source?;
    Ok(SensorSpec {
        id: id?,
        source,
        unit,
        stale_after: stale_after?.unwrap_or(SensorSpec::DEFAULT_STALE_AFTER),
    })
}

fn read_topic(table: &mut Table<'_>, ours: Option<&Topics>, has_broker: bool) -> Read<(SensorSource, Unit)> {
    let topic = table.optional("topic", topic);
    let pointer = table.optional("pointer", pointer);
    let unit = table.optional("unit", parse::text);
    let Some(topic) = topic? else {
        let expected = "a topic; or a device of a hub and one of its values; or a value of the weather";
        return Err(table.problem("topic", expected));
    };
    if !has_broker {
        let message =
            "a topic needs a broker, and mqtt.enabled is false: name a device of a hub, or remove the sensor";
        return Err(table.invalid("topic", message));
    }
    if ours.is_some_and(|ours| ours.claims(&topic)) {
        let expected = "a topic of another publisher: not below mqtt.base_topic, and none of Home Assistant's \
                        discovery";
        return Err(table.problem("topic", expected));
    }
    let source = SensorTopic {
        topic: topic.as_str().to_owned(),
        pointer: pointer?,
    };
    let unit = Unit::from(unit?.unwrap_or_default().as_str());
    Ok((SensorSource::Topic(source), unit))
}

/// A device says in which unit its values are.
fn read_device(table: &mut Table<'_>, child: OutletPath, value: DeviceValue) -> Read<(SensorSource, Unit)> {
    for key in ["topic", "pointer", "unit"] {
        if table.optional(key, parse::text)?.is_some() {
            return Err(table.problem(key, "a sensor with either a topic or a device"));
        }
    }
    Ok((SensorSource::Device(child, value), Unit::from(value)))
}

/// The forecast says in which unit its values are, and how old they are.
fn read_weather(table: &mut Table<'_>, id: Read<SensorId>, origins: SensorOrigins<'_>) -> Read<SensorSpec> {
    let values = WeatherValue::ALL.map(|value| (value.as_str(), value));
    let value = table.required("weather", parse::word(&values));
    let within = table.optional("within", whole_hours);
    let aggregate = table.optional("as", parse::word(&AGGREGATES));
    let range = Duration::from_hours(1)..=Duration::from_hours(48);
    let stale_after = table.optional("stale_after", parse::period(range));
    for key in ["topic", "pointer", "unit", "device", "value"] {
        if table.has(key) {
            return Err(table.problem(
                key,
                "a sensor with a topic, a device or a value of the weather, not several",
            ));
        }
    }
    if !origins.weather {
        return Err(table.problem("weather", "[weather] with a provider and a place in [location]"));
    }
    let (value, aggregate) = (value?, aggregate?);
    let span = match (within?, aggregate) {
        (None, None) => None,
        (Some(_), Some(Aggregate::Sum)) if !value.adds_up() => {
            return Err(table.problem(
                "as",
                "max, min or mean; only precipitation and snowfall have a sum",
            ));
        }
        (Some(within), Some(aggregate)) => Some(WeatherSpan { within, aggregate }),
        (Some(_), None) => return Err(table.problem("as", "one of sum, max, min, mean beside within")),
        (None, Some(_)) => return Err(table.problem("within", "the time of which as is, such as \"6h\"")),
    };
    Ok(SensorSpec {
        id: id?,
        source: SensorSource::Weather(WeatherSensor { value, span }),
        unit: Unit::from(value),
        stale_after: stale_after?.unwrap_or(SensorSpec::DEFAULT_STALE_FORECAST),
    })
}

/// Forecasts have whole hours.
fn whole_hours(leaf: &Leaf<'_>) -> Result<Period, Expected> {
    let period = parse::period(Duration::from_hours(1)..=WITHIN_MAX)(leaf)?;
    let whole = period.length().as_secs() % 3600 == 0 && period.length().subsec_nanos() == 0;
    if whole {
        Ok(period)
    } else {
        Err("whole hours, such as \"6h\"".to_owned())
    }
}

fn value(leaf: &Leaf<'_>) -> Result<DeviceValue, Expected> {
    let name = parse::text(leaf)?;
    let found = DeviceValue::ALL.into_iter().find(|value| value.as_str() == name);
    found.ok_or_else(|| one_of(&value_names(), &name))
}

fn value_names() -> Vec<&'static str> {
    DeviceValue::ALL.into_iter().map(DeviceValue::as_str).collect()
}

/// Parses `hub/child`, or the id of a `[[device.child]]` that only one hub has.
fn child<'a>(
    devices: &'a IdIndex<Device>,
    added: &'a AddedIds,
) -> impl Fn(&Leaf<'_>) -> Result<OutletPath, Expected> + 'a {
    move |leaf| {
        let text = parse::text(leaf)?;
        let Some((hub, key)) = text.split_once('/') else {
            return named_child(devices, &text);
        };
        let key = key.parse::<OutletKey>();
        let key = key.map_err(|why| format!("hub/sensor, such as \"hub/hall\": the sensor {why}"))?;
        match devices.find(hub) {
            // What it has is known when it answers.
            Found::Nothing if hub.parse().is_ok_and(|id| added.may_have(&id)) => hub_sensor(&text),
            Found::Nothing => Err(format!(
                "before the slash the id of a device added by bridge/request/device/add, or of a [[device]], {}",
                devices.one_of(hub)
            )),
            Found::Sound(device) if !device.outlets.is_empty() => {
                Err(format!("a sensor of a hub; {hub} has outlets, so it is no hub"))
            }
            Found::Sound(device) => Ok(OutletPath::outlet(device.id.clone(), key)),
            // Its own mistakes are reported.
            Found::Broken => hub_sensor(&text),
        }
    }
}

fn hub_sensor(text: &str) -> Result<OutletPath, Expected> {
    text.parse()
        .map_err(|_| "hub/sensor, such as \"hub/hall\"".to_owned())
}

fn named_child(devices: &IdIndex<Device>, name: &str) -> Result<OutletPath, Expected> {
    let children = devices.sound().flat_map(|device| {
        let children = device.children.iter();
        children.map(|child| OutletPath::outlet(device.id.clone(), child.key.clone()))
    });
    let found: Vec<OutletPath> = children
        .filter(|path| path.outlet.as_ref().is_some_and(|key| key.as_str() == name))
        .collect();
    match found.as_slice() {
        [path] => Ok(path.clone()),
        [] => Err("hub/sensor, such as \"hub/hall\", or the id of a [[device.child]]".to_owned()),
        several => {
            let paths: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(format!("one sensor; {name} can be {}", paths.join(" or ")))
        }
    }
}

fn pointer(leaf: &Leaf<'_>) -> Result<Pointer, Expected> {
    let pointer = leaf.text().and_then(|text| text.parse().ok());
    pointer.ok_or_else(|| "a JSON pointer (RFC 6901) such as \"/temperature\"".to_owned())
}

/// What a condition needs of a sensor's unit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need {
    Any,
    Temperature,
    Percent,
    /// A temperature that is measured: no forecast knows how warm a room is.
    Thermometer,
}

impl Need {
    fn met_by(self, sensor: &SensorSpec) -> bool {
        let unit = &sensor.unit;
        match self {
            Self::Any => true,
            Self::Temperature => matches!(unit, Unit::Temperature(_)),
            Self::Percent => *unit == Unit::Percent,
            Self::Thermometer => matches!(unit, Unit::Temperature(_)) && sensor.weather().is_none(),
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Any => "a sensor",
            Self::Temperature => "a sensor whose unit is \"°C\" or \"°F\"",
            Self::Percent => "a sensor whose unit is \"%\"",
            Self::Thermometer => "a sensor whose unit is \"°C\" or \"°F\", and no forecast",
        }
    }
}

/// Parses the id of a sensor that exists and has the unit.
pub(super) fn sensor_id(
    sensors: &IdIndex<SensorSpec>,
    need: Need,
) -> impl Fn(&Leaf<'_>) -> Result<SensorId, Expected> {
    move |leaf| {
        let known = |found: &str| format!("the id of a [[sensor]], {}", sensors.one_of(found));
        if leaf.text().is_none() {
            return Err(known(""));
        }
        let id: SensorId = parse::slug(leaf)?;
        match sensors.find(id.as_str()) {
            Found::Sound(sensor) if !need.met_by(sensor) => Err(need.in_words().to_owned()),
            Found::Sound(_) | Found::Broken => Ok(id),
            Found::Nothing => Err(known(id.as_str())),
        }
    }
}
