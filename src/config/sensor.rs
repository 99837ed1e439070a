//! `[[sensor]]`: values on MQTT topics that conditions refer to.

use std::time::Duration;

use super::{
    parse,
    reader::{Expected, Leaf, Read, Table},
    register::{Found, IdIndex},
    topic::topic,
};
use crate::domain::topics::Topics;
use planner::{
    SensorId,
    sensor::{Pointer, SensorSpec, Unit},
};

/// Reads all sensors, and returns which ids conditions can name.
///
/// `ours` are the topics of the bridge, where they could be read: no sensor publishes there.
pub(super) fn read_all(
    root: &mut Table<'_>,
    ours: Option<&Topics>,
) -> (Read<Vec<SensorSpec>>, IdIndex<SensorSpec>) {
    let mut register = IdIndex::new();
    let mut taken = Vec::new();
    let sensors = root.list("sensor", |table| {
        let id = table
            .required("id", parse::slug)
            .and_then(|id| free_id(table, id, &mut taken));
        let sensor = read(table, id.clone(), ours);
        if let Ok(id) = id {
            register.add(id.as_str(), sensor.clone().ok());
        }
        sensor
    });
    (sensors, register)
}

fn free_id(table: &mut Table<'_>, id: SensorId, taken: &mut Vec<(SensorId, String)>) -> Read<SensorId> {
    if let Some((_, owner)) = taken.iter().find(|(other, _)| *other == id) {
        return Err(table.duplicate("id", owner));
    }
    taken.push((id.clone(), table.place()));
    Ok(id)
}

fn read(table: &mut Table<'_>, id: Read<SensorId>, ours: Option<&Topics>) -> Read<SensorSpec> {
    let topic = table.required("topic", topic);
    let pointer = table.optional("pointer", pointer);
    let unit = table.optional("unit", parse::text);
    let range = Duration::from_secs(1)..=Duration::from_hours(7 * 24);
    let stale_after = table.optional("stale_after", parse::period(range));
    let topic = topic?;
    if ours.is_some_and(|ours| ours.claims(&topic)) {
        let expected = "a topic of another publisher: not below mqtt.base_topic, and none of Home Assistant's \
                        discovery";
        return Err(table.problem("topic", expected));
    }
    Ok(SensorSpec {
        id: id?,
        topic: topic.as_str().to_owned(),
        pointer: pointer?,
        unit: Unit::from(unit?.unwrap_or_default().as_str()),
        stale_after: stale_after?.unwrap_or(SensorSpec::DEFAULT_STALE_AFTER),
    })
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
