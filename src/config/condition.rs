//! `[[group.schedule.when]]`: what must be true of sensors.

use std::time::Duration;

use super::{
    parse,
    reader::{Read, Table},
    register::IdIndex,
    sensor::{Need, sensor_id},
};
use planner::{
    condition::{BlackIce, Bound, Condition, IceThresholds, Test, WhenUnknown},
    sensor::SensorSpec,
};

/// A hysteresis above this is a mistake in any unit that a condition may have.
const HYSTERESIS_MAX: f64 = 1000.0;

/// Reads one condition; `sensors` are those it may name.
pub(super) fn read(table: &mut Table<'_>, sensors: &IdIndex<SensorSpec>) -> Read<Condition> {
    let test = test(table, sensors);
    let range = Duration::from_secs(1)..=Duration::from_hours(24);
    let dwell = table.optional("dwell", parse::period(range));
    let words = [
        ("off", WhenUnknown::Off),
        ("on", WhenUnknown::On),
        ("hold", WhenUnknown::Hold),
    ];
    let when_unknown = table.optional("when_unknown", parse::word(&words));
    Ok(Condition {
        test: test?,
        dwell: dwell?,
        when_unknown: when_unknown?.unwrap_or_default(),
    })
}

fn test(table: &mut Table<'_>, sensors: &IdIndex<SensorSpec>) -> Read<Test> {
    let sensor = table.optional("sensor", sensor_id(sensors, Need::Any));
    let at_most = table.optional("at_most", parse::finite);
    let at_least = table.optional("at_least", parse::finite);
    let is = table.optional("is", parse::boolean);
    let hysteresis = table.optional("hysteresis", parse::number(0.0..=HYSTERESIS_MAX));
    if table.has("black_ice") {
        if let Some(key) = ["sensor", "at_most", "at_least", "is", "hysteresis"]
            .into_iter()
            .find(|key| table.has(key))
        {
            return Err(table.problem(
                key,
                "a condition of its own: black_ice has sensors and limits inside",
            ));
        }
        return table.section("black_ice", |ice| black_ice(ice, sensors));
    }
    let (at_most, at_least, is, hysteresis) = (at_most?, at_least?, is?, hysteresis?);
    let Some(sensor) = sensor? else {
        return Err(table.problem("sensor", "the id of a [[sensor]], or black_ice instead"));
    };
    let (bound, limit) = match (at_most, at_least, is) {
        (Some(limit), None, None) => (Bound::AtMost, limit),
        (None, Some(limit), None) => (Bound::AtLeast, limit),
        (None, None, Some(_)) if hysteresis.is_some() => {
            return Err(table.problem("hysteresis", "at_most or at_least beside it"));
        }
        (None, None, Some(value)) => return Ok(Test::Is { sensor, value }),
        (None, None, None) => return Err(table.problem("at_most", "one of at_most, at_least, is")),
        _ => {
            let key = if at_least.is_some() { "at_least" } else { "is" };
            return Err(table.problem(
                key,
                "only one of at_most, at_least, is; write a condition for each",
            ));
        }
    };
    Ok(Test::Number {
        sensor,
        bound,
        limit,
        hysteresis: hysteresis.unwrap_or(0.0),
    })
}

fn black_ice(table: &mut Table<'_>, sensors: &IdIndex<SensorSpec>) -> Read<Test> {
    let temperature = table.required("temperature", sensor_id(sensors, Need::Temperature));
    let dew_point = table.required("dew_point", sensor_id(sensors, Need::Temperature));
    let humidity = table.required("humidity", sensor_id(sensors, Need::Percent));
    let temperature_at_most = table.optional("temperature_at_most", parse::number(-50.0..=50.0));
    let spread_at_most = table.optional("spread_at_most", parse::number(0.0..=50.0));
    let humidity_at_least = table.optional("humidity_at_least", parse::number(0.0..=100.0));
    let hysteresis = table.optional("hysteresis", parse::number(0.0..=50.0));
    let humidity_hysteresis = table.optional("humidity_hysteresis", parse::number(0.0..=100.0));
    let default = IceThresholds::default();
    let thresholds = IceThresholds {
        temperature_at_most: temperature_at_most?.unwrap_or(default.temperature_at_most),
        spread_at_most: spread_at_most?.unwrap_or(default.spread_at_most),
        humidity_at_least: humidity_at_least?.unwrap_or(default.humidity_at_least),
        hysteresis: hysteresis?.unwrap_or(default.hysteresis),
        humidity_hysteresis: humidity_hysteresis?.unwrap_or(default.humidity_hysteresis),
    };
    Ok(Test::BlackIce(BlackIce {
        temperature: temperature?,
        dew_point: dew_point?,
        humidity: humidity?,
        thresholds,
    }))
}
