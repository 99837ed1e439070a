//! `[[sensor]]`: values on MQTT topics, and of what is connected to hubs, that conditions refer to.

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
    DeviceValue, OutletKey, OutletPath, SensorId,
    sensor::{Pointer, SensorSource, SensorSpec, SensorTopic, Unit},
};

/// Reads all sensors, and returns which ids conditions can name, and which of them say how long a value counts.
///
/// `ours` are the topics of the bridge, where they could be read: no sensor publishes there. Without a broker there are no
/// topics at all.
pub(super) fn read_all(
    root: &mut Table<'_>,
    devices: &IdIndex<Device>,
    added: &AddedIds,
    ours: Option<&Topics>,
    has_broker: bool,
) -> (Read<Vec<SensorSpec>>, IdIndex<SensorSpec>, BTreeSet<SensorId>) {
    let mut register = IdIndex::new();
    let mut timed = BTreeSet::new();
    let mut taken = Vec::new();
    let sensors = root.list("sensor", |table| {
        let id = table
            .required("id", parse::slug)
            .and_then(|id| free_id(table, id, &mut taken));
        let sensor = read(table, id.clone(), child(devices, added), ours, has_broker);
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

fn read(
    table: &mut Table<'_>,
    id: Read<SensorId>,
    child: impl Fn(&Leaf<'_>) -> Result<OutletPath, Expected>,
    ours: Option<&Topics>,
    has_broker: bool,
) -> Read<SensorSpec> {
    let device = table.optional("device", child);
    let value = table.optional("value", value);
    let source = match (device?, value?) {
        (None, None) => read_topic(table, ours, has_broker),
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
        return Err(table.problem("topic", "a topic; or a device of a hub and one of its values"));
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
}

impl Need {
    fn met_by(self, unit: &Unit) -> bool {
        match self {
            Self::Any => true,
            Self::Temperature => matches!(unit, Unit::Temperature(_)),
            Self::Percent => *unit == Unit::Percent,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Any => "a sensor",
            Self::Temperature => "a sensor whose unit is \"°C\" or \"°F\"",
            Self::Percent => "a sensor whose unit is \"%\"",
        }
    }
}

/// Parses the id of a sensor that exists and has the unit.
pub(super) fn sensor_id(
    sensors: &IdIndex<SensorSpec>,
    need: Need,
) -> impl Fn(&Leaf<'_>) -> Result<SensorId, Expected> {
    move |leaf| {
        let id: SensorId = parse::slug(leaf)?;
        match sensors.find(id.as_str()) {
            Found::Sound(sensor) if !need.met_by(&sensor.unit) => Err(need.in_words().to_owned()),
            Found::Sound(_) | Found::Broken => Ok(id),
            Found::Nothing => Err(format!("the id of a [[sensor]], {}", sensors.one_of(id.as_str()))),
        }
    }
}
