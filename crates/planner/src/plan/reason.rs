//! Decisions as text.

use std::{fmt, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Inputs, Reasons, group::ScheduleWinner};
use crate::{
    SensorId, Steady,
    activity::{Activity, Conditions, State},
    condition::{Condition, Test},
    days::{DayKind, DayMatch},
    energy_limits::{BlockReason, EnergyBlock},
    overrides::{Origin, Override, OverrideState},
    readings::Known,
    rules::{Limit, Limits},
    safety::{Block, Cause},
    sensor::SensorSpec,
    shortened,
    thermostat::{Demand, DemandReason, Hold, RoomReading, Thermostat, WhenSilent},
};

/// So much of the name of a holiday is shown.
const HOLIDAY_MAX: usize = 60;

/// Why, in one sentence of at most [`Reason::MAX`] characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Reason(Arc<str>);

impl Reason {
    /// The longest text a Home Assistant sensor takes.
    pub const MAX: usize = 250;

    /// Cuts a text that is too long.
    pub fn new(text: impl Into<String>) -> Self {
        Self(shortened(text.into(), Self::MAX).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An instant in local time: `07:30`, with its weekday in the coming week and else with its date.
fn wall(instant: Timestamp, inputs: &Inputs<'_>) -> String {
    let zone: &TimeZone = &inputs.rules.location.zone;
    let then = zone.to_datetime(instant);
    let today = zone.to_datetime(inputs.now.wall).date();
    let format = match then.date().duration_since(today).as_hours() / 24 {
        0 => "%H:%M",
        1..7 => "%a %H:%M",
        _ => "%a %-d %b %H:%M",
    };
    then.strftime(format).to_string()
}

pub(super) fn blocked(inputs: &Inputs<'_>, limits: &Limits, block: Block) -> Reason {
    if inputs.reasons == Reasons::Omitted {
        return Reason::new(String::new());
    }
    let limit = |limit: Limit, what: &str| format!("{what} {limit}");
    let what = match block.cause {
        Cause::MaxOn => limit(limits.max_on, "maximum on-time") + " reached",
        Cause::MaxOnPerDay => limit(limits.max_on_per_day, "maximum on-time per day") + " reached",
        Cause::Cooldown => "cooldown".to_owned(),
        Cause::MinOff => limit(limits.min_off, "minimum off-time"),
        // Accounts know nothing of energy: what holds for it has a reason of its own.
        Cause::Budget | Cause::PowerLimit | Cause::Thermometer => block.cause.to_string() + " reached",
    };
    Reason::new(match block.until {
        Some(until) => format!("{what}, off until {}", wall(until, inputs)),
        None => format!("{what}, then cooldown {}", limits.cooldown),
    })
}

pub(super) fn held(inputs: &Inputs<'_>, hold: &EnergyBlock) -> Reason {
    if inputs.reasons == Reasons::Omitted {
        return Reason::new(String::new());
    }
    let what = match hold.why {
        BlockReason::BudgetExhausted(budget) => format!("daily budget {budget} used"),
        BlockReason::Over { drew, ceiling } => format!("{drew} exceeds power limit {ceiling}"),
        BlockReason::NoRoom { needs, ceiling } => {
            format!("its {needs} would exceed power limit {ceiling}")
        }
    };
    Reason::new(match hold.block.until {
        Some(until) => format!("{what}, off until {}", wall(until, inputs)),
        None => format!("{what}, off until the others draw less"),
    })
}

pub(super) fn overridden(inputs: &Inputs<'_>, found: Override, end: Option<Timestamp>) -> Reason {
    if inputs.reasons == Reasons::Omitted {
        return Reason::new(String::new());
    }
    let state = match found.state() {
        OverrideState::On => "ON",
        OverrideState::Off => "OFF",
        OverrideState::Leave | OverrideState::Thermostat(_) => "state unchanged",
    };
    let (manual, origin) = match found.origin() {
        Origin::Command => ("manual ", "command"),
        Origin::Device => ("manual ", "button or app"),
        Origin::Protection => ("", "protection of the device"),
        Origin::AutoOff => ("", "auto-off of the device"),
        Origin::OnReconnect => ("", "reconnect"),
        Origin::Finished => ("", "load finished"),
        Origin::Standby => ("", "load on standby"),
    };
    let manual = found.state().power().map_or("", |_| manual);
    let set = wall(found.set_at(), inputs);
    let end = end.map_or_else(|| "AUTO".to_owned(), |end| wall(end, inputs));
    Reason::new(format!("{manual}{state} ({origin} at {set}), until {end}"))
}

/// What a person wants of a thermostat, without what is known of the room.
pub(super) fn held_by_hand(
    inputs: &Inputs<'_>,
    found: Override,
    hold: Hold,
    end: Option<Timestamp>,
) -> String {
    let set = wall(found.set_at(), inputs);
    let end = end.map_or_else(|| "AUTO".to_owned(), |end| wall(end, inputs));
    format!("manual {hold} (command at {set}), until {end}")
}

/// What a thermostat does for that.
pub(super) fn heating(
    inputs: &Inputs<'_>,
    thermostat: &Thermostat,
    why: &str,
    reading: RoomReading,
    demand: Demand,
) -> Reason {
    let at = |at: Steady| wall(inputs.now.wall_at(at), inputs);
    let does = match demand.why {
        DemandReason::Cold => ", heats".to_owned(),
        DemandReason::Warm => String::new(),
        DemandReason::Frost => format!(", frost protection below {}", thermostat.frost),
        DemandReason::MinOn(until) => format!(", on for at least {} until {}", thermostat.min_on, at(until)),
        DemandReason::MinOff(until) => {
            format!(", off for at least {} until {}", thermostat.min_off, at(until))
        }
        DemandReason::NoReading => match (reading, thermostat.when_unknown) {
            (RoomReading::Awaited(_), _) => format!("; waits for {}, state unchanged", thermostat.sensor),
            (RoomReading::Silent(since), WhenSilent::Duty(duty)) => {
                let silent = silent(inputs, thermostat, since);
                format!("; {silent}: on {duty} of the time")
            }
            _ => String::new(),
        },
    };
    let room = match reading.room() {
        Some((room, scale)) => format!("; {} {} {scale}", thermostat.sensor, scale.degrees(room)),
        None => String::new(),
    };
    Reason::new(format!("{why}{room}{does}"))
}

/// Why a thermostat is off that has no reading.
pub(super) fn no_reading(
    inputs: &Inputs<'_>,
    thermostat: &Thermostat,
    reading: RoomReading,
    until: Option<Steady>,
) -> Reason {
    if inputs.reasons == Reasons::Omitted {
        return Reason::new(String::new());
    }
    let at = |at: Steady| wall(inputs.now.wall_at(at), inputs);
    Reason::new(match (reading, until) {
        (RoomReading::Silent(since), until) => {
            let until = until.map_or_else(|| "it has a value".to_owned(), at);
            format!(
                "thermometer {}, off until {until}",
                silent(inputs, thermostat, since)
            )
        }
        _ => format!(
            "thermometer {} has no value yet, off until it has one",
            thermostat.sensor
        ),
    })
}

/// That a thermometer has no value, or one that no room has.
fn silent(inputs: &Inputs<'_>, thermostat: &Thermostat, since: Steady) -> String {
    let since = wall(inputs.now.wall_at(since), inputs);
    let sensor = &thermostat.sensor;
    let spec = spec(inputs, sensor);
    let shown = spec.and_then(|spec| inputs.sensors().readings.shown_by_broken(spec, inputs.now));
    match shown {
        Some(value) => {
            let (_, unit) = known(inputs, sensor);
            format!("{sensor} {value}{unit} is not plausible since {since}")
        }
        None => format!("{sensor} silent since {since}"),
    }
}

pub(super) fn vacation(level: &ScheduleWinner<'_>) -> Reason {
    Reason::new(match level.winner() {
        Some(state) => format!("{} suspended (vacation)", state.schedule.id),
        None => "vacation".to_owned(),
    })
}

pub(super) fn scheduled(inputs: &Inputs<'_>, level: &ScheduleWinner<'_>) -> Reason {
    if inputs.reasons == Reasons::Omitted {
        return Reason::new(String::new());
    }
    match level.winner() {
        Some(state) if level.activity == Activity::Active => active(inputs, state),
        Some(state) => undecided(inputs, state),
        None => inactive(inputs, level),
    }
}

fn active(inputs: &Inputs<'_>, state: &State<'_>) -> Reason {
    let schedule = state.schedule;
    let until = state.occurrence.map_or_else(String::new, |window| {
        format!(" until {}", wall(window.end, inputs))
    });
    let conditions: Vec<String> = schedule
        .conditions
        .iter()
        .map(|condition| describe(inputs, condition))
        .collect();
    let conditions = match (conditions.is_empty(), inputs.conditions) {
        (true, _) => String::new(),
        (false, Conditions::Asked) => format!(": {}", conditions.join(", ")),
        (false, Conditions::TakenToHold) => format!(", if {}", conditions.join(", ")),
    };
    let day = state.occurrence.map_or_else(String::new, |window| {
        let days = schedule
            .days
            .matched(window.date, &inputs.rules.location.holidays);
        days.and_then(in_words)
            .map_or_else(String::new, |day| format!(" ({day})"))
    });
    Reason::new(format!("schedule {}{until}{day}{conditions}", schedule.id))
}

/// What day it is for a schedule that asks for kinds of days.
fn in_words(day: DayMatch<'_>) -> Option<String> {
    Some(match day {
        DayMatch::Weekday => return None,
        DayMatch::Holiday(Some(name)) => format!("holiday: {}", shortened(name.to_owned(), HOLIDAY_MAX)),
        DayMatch::Holiday(None) => "holiday".to_owned(),
        DayMatch::Weekend => "weekend".to_owned(),
        DayMatch::Workday => "workday".to_owned(),
        DayMatch::AssumedWorkday => "workday by its weekday".to_owned(),
    })
}

/// A holiday today on which no schedule runs that runs on workdays.
fn day_off(inputs: &Inputs<'_>, level: &ScheduleWinner<'_>) -> Option<String> {
    let location = &inputs.rules.location;
    let today = location.zone.to_datetime(inputs.now.wall).date();
    let holiday = location.holidays.on(today)?;
    let of_workdays =
        |state: &State<'_>| state.schedule.enabled && state.schedule.days.lists(DayKind::Workday);
    if location.holidays.is_weekend(today) || !level.states.iter().any(of_workdays) {
        return None;
    }
    in_words(DayMatch::Holiday(holiday.name()))
}

fn undecided(inputs: &Inputs<'_>, state: &State<'_>) -> Reason {
    let unknown = state
        .decided_by
        .map(|condition| unknown_sensors(inputs, condition));
    let sensors = match unknown.unwrap_or_default().as_slice() {
        [one] => format!("sensor {one}"),
        several => format!("sensors {}", several.join(", ")),
    };
    Reason::new(format!(
        "{} waits for {sensors}; state unchanged",
        state.schedule.id
    ))
}

fn inactive(inputs: &Inputs<'_>, level: &ScheduleWinner<'_>) -> Reason {
    let refused = level
        .states
        .iter()
        .find_map(|state| Some((state, state.decided_by?)));
    if let Some((state, condition)) = refused {
        let text = format!(
            "{}: condition not met: {}",
            state.schedule.id,
            describe(inputs, condition)
        );
        return Reason::new(text);
    }
    let edge = |state: &State<'_>| Some((state.wake?, state.schedule.id.clone()));
    let next = level.states.iter().filter_map(edge).min_by_key(|(at, _)| *at);
    let today = day_off(inputs, level).map_or_else(String::new, |day| format!("{day}; "));
    Reason::new(match next {
        Some((at, id)) => format!("{today}next: {id}, {}", wall(at, inputs)),
        None => "no schedule enabled".to_owned(),
    })
}

/// The sensors of a condition that have no current value.
fn unknown_sensors(inputs: &Inputs<'_>, condition: &Condition) -> Vec<String> {
    let sensors = condition.test.sensors().into_iter();
    sensors
        .filter(|id| !matches!(known(inputs, id).0, Known::Value(..)))
        .map(ToString::to_string)
        .collect()
}

fn spec<'a>(inputs: &Inputs<'a>, id: &SensorId) -> Option<&'a SensorSpec> {
    inputs.rules.sensors.iter().find(|spec| spec.id == *id)
}

/// What is known of a sensor, and its unit with a space before it.
fn known(inputs: &Inputs<'_>, id: &SensorId) -> (Known, String) {
    let sensors = inputs.sensors();
    let Some(spec) = spec(inputs, id) else {
        return (Known::Never, String::new());
    };
    let unit = spec.unit.to_string();
    let unit = if unit.is_empty() { unit } else { format!(" {unit}") };
    (sensors.readings.of(spec, inputs.now), unit)
}

/// A sensor with its value: `outdoor 3.5 °C`. Only its name where conditions are assumed to be met.
fn sensor(inputs: &Inputs<'_>, id: &SensorId) -> String {
    if inputs.conditions == Conditions::TakenToHold {
        return id.to_string();
    }
    match known(inputs, id) {
        (Known::Value(value, _), unit) => format!("{id} {value}{unit}"),
        (Known::Stale(since), _) => format!("{id} (stale since {})", wall(inputs.now.wall_at(since), inputs)),
        (Known::Never, _) if spec(inputs, id).is_some_and(|spec| spec.weather().is_some()) => {
            format!("{id} (no forecast)")
        }
        (Known::Never, _) => format!("{id} (no value yet)"),
    }
}

/// A condition with the values of its sensors: `outdoor 3.5 °C <= 5 °C`.
fn describe(inputs: &Inputs<'_>, condition: &Condition) -> String {
    match &condition.test {
        Test::Number {
            sensor: id,
            bound,
            limit,
            ..
        } => format!("{} {bound} {limit}{}", sensor(inputs, id), known(inputs, id).1),
        Test::Is { sensor: id, value } => match sensor(inputs, id) {
            name if name == id.as_str() => format!("{id} is {value}"),
            shown => format!("{shown} is {value}"),
        },
        Test::BlackIce(_) if inputs.conditions == Conditions::TakenToHold => condition.test.to_string(),
        Test::BlackIce(_) => {
            let sensors = condition.test.sensors().into_iter();
            let values: Vec<String> = sensors.map(|id| sensor(inputs, id)).collect();
            format!("{} ({})", condition.test, values.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_13_a_reason_fits_a_sensor() {
        assert_eq!(Reason::new("short").as_str(), "short");
        let exact = "ü".repeat(Reason::MAX);
        assert_eq!(Reason::new(exact.clone()).as_str(), exact);
        let cut = Reason::new("ü".repeat(Reason::MAX + 1));
        assert_eq!(cut.as_str().chars().count(), Reason::MAX);
        assert!(cut.as_str().ends_with('…'));
    }
}
