//! `[group.thermostat]`: how a group heats a room.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    group::ValidationContext,
    parse,
    reader::{Expected, Leaf, Read, Table},
    register::Found,
    sensor::{Need, sensor_id},
};
use planner::{
    SensorId,
    sensor::{Scale, Temperature, Unit},
    setpoint::Setpoint,
    thermostat::{DutyError, Lease, Thermostat, WhenSilent},
};

/// What frost protection may be set to, °C: more is a target.
const FROST: RangeInclusive<f64> = 0.0..=15.0;
/// In degrees of the sensor.
const HYSTERESIS: RangeInclusive<f64> = 0.1..=5.0;

/// Reads a thermostat; a group may have none.
pub(super) fn read(table: &mut Table<'_>, surroundings: ValidationContext<'_>) -> Read<Option<Thermostat>> {
    if !table.has("thermostat") {
        return Ok(None);
    }
    table
        .section("thermostat", |table| thermostat(table, surroundings))
        .map(Some)
}

fn thermostat(table: &mut Table<'_>, surroundings: ValidationContext<'_>) -> Read<Thermostat> {
    let sensor = table.required("sensor", sensor_id(surroundings.sensors, Need::Thermometer));
    let scale = sensor.as_ref().ok().and_then(|id| scale_of(id, surroundings));
    let target = table.required("target", degrees(scale, Thermostat::TARGETS));
    let hysteresis = table.optional("hysteresis", parse::number(HYSTERESIS));
    let longest = Duration::from_secs(Lease::LONGEST.as_secs().unsigned_abs());
    let pause = || parse::period(Duration::from_secs(1)..=longest);
    let min_on = table.optional("min_on", pause());
    let min_off = table.optional("min_off", pause());
    let setback = table.optional("setback", degrees(scale, Thermostat::TARGETS));
    let frost = table.optional("frost", degrees(scale, FROST));
    let when_unknown = table.optional("when_unknown", when_unknown);
    let (sensor, target, setback, frost) = (sensor?, target?, setback?, frost?);
    if !surroundings.timed.contains(&sensor) && scale.is_some() {
        let expected = "a sensor with stale_after: after this time without a value the outlets are off";
        return Err(table.problem("sensor", expected));
    }
    if setback.is_some_and(|setback| setback.is_above(target)) {
        return Err(table.problem(
            "setback",
            format!("a temperature that is not above the target {target}"),
        ));
    }
    let scale = scale.unwrap_or(Scale::Celsius);
    let default = Setpoint::new(scale.degrees(Temperature::from_celsius(Thermostat::FROST)), scale);
    let frost = frost.unwrap_or(default);
    if let Some(least) = setback.or(Some(target)).filter(|least| frost.is_above(*least)) {
        return Err(table.problem("frost", format!("a temperature that is not above {least}")));
    }
    Ok(Thermostat {
        sensor,
        target,
        hysteresis: hysteresis?.map_or(Thermostat::HYSTERESIS, |degrees| scale.kelvin(degrees)),
        min_on: min_on?.unwrap_or(Thermostat::PAUSE),
        min_off: min_off?.unwrap_or(Thermostat::PAUSE),
        setback,
        frost,
        when_unknown: when_unknown?.unwrap_or_default(),
    })
}

/// The target of a schedule, which only a group with a thermostat has.
pub(super) fn target(table: &mut Table<'_>, thermostat: Read<Option<&Thermostat>>) -> Read<Option<Setpoint>> {
    let scale = match thermostat {
        Ok(Some(thermostat)) => Some(thermostat.target.scale()),
        Ok(None) if table.has("target") => {
            return Err(table.problem("target", "no target: the group has no [group.thermostat]"));
        }
        Ok(None) | Err(_) => None,
    };
    let target = table.optional("target", degrees(scale, Thermostat::TARGETS))?;
    let setback = thermostat
        .ok()
        .flatten()
        .and_then(|thermostat| thermostat.setback);
    match (target, setback) {
        (Some(target), Some(setback)) if setback.is_above(target) => {
            let expected = format!("a temperature that is not below the setback {setback}");
            Err(table.problem("target", expected))
        }
        (target, _) => Ok(target),
    }
}

/// `None` for a sensor with mistakes of its own.
fn scale_of(sensor: &SensorId, surroundings: ValidationContext<'_>) -> Option<Scale> {
    match surroundings.sensors.find(sensor.as_str()) {
        Found::Sound(spec) => match spec.unit {
            Unit::Temperature(scale) => Some(scale),
            Unit::Percent | Unit::Other(_) => None,
        },
        Found::Broken | Found::Nothing => None,
    }
}

/// Parses a temperature on the scale of the sensor; the range is in °C.
fn degrees(
    scale: Option<Scale>,
    range: RangeInclusive<f64>,
) -> impl Fn(&Leaf<'_>) -> Result<Setpoint, Expected> {
    move |leaf| {
        let found = leaf.number();
        let Some(scale) = scale else {
            // The mistake of its sensor is reported.
            let found = found.map(|degrees| Setpoint::new(degrees, Scale::Celsius));
            return found.ok_or_else(|| "a number of degrees".to_owned());
        };
        let setpoint = found.map(|degrees| Setpoint::new(degrees, scale));
        let allowed = |setpoint: &Setpoint| range.contains(&setpoint.temperature().celsius());
        setpoint.filter(allowed).ok_or_else(|| {
            let [from, to] = [range.start(), range.end()]
                .map(|celsius| scale.degrees(Temperature::from_celsius(*celsius)));
            format!("a number of degrees, {from} to {to} {scale} as the sensor has")
        })
    }
}

fn when_unknown(leaf: &Leaf<'_>) -> Result<WhenSilent, Expected> {
    let text = parse::text(leaf)?;
    text.parse().map_err(|expected: DutyError| expected.to_string())
}
