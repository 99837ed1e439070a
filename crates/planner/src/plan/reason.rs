//! Decisions in words.

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Inputs, group::ScheduleWinner};
use crate::{
    activity::{Activity, Conditions, State},
    condition::{Condition, Test},
    energy_limits::{BlockReason, EnergyBlock},
    overrides::{Origin, Override, OverrideState},
    readings::Known,
    rules::{Limit, Limits},
    safety::{Block, Cause},
};

/// Why, in one sentence of at most [`Reason::MAX`] characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Reason(String);

impl Reason {
    /// The longest text a Home Assistant sensor takes.
    pub const MAX: usize = 250;

    /// Cuts a text that is too long.
    pub fn new(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if let Some((cut, _)) = text.char_indices().nth(Self::MAX) {
            let room = text
                .char_indices()
                .nth(Self::MAX - 1)
                .map_or(cut, |(last, _)| last);
            text.truncate(room);
            text.push('…');
        }
        Self(text)
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

/// An instant as a clock on the wall shows it: `07:30`, with its date when that is not today's.
fn wall(instant: Timestamp, inputs: &Inputs<'_>) -> String {
    let zone: &TimeZone = &inputs.rules.location.zone;
    let then = zone.to_datetime(instant);
    let format = if then.date() == zone.to_datetime(inputs.now.wall).date() {
        "%H:%M"
    } else {
        "%a %-d %b %H:%M"
    };
    then.strftime(format).to_string()
}

pub(super) fn blocked(inputs: &Inputs<'_>, limits: &Limits, block: Block) -> Reason {
    let limit = |limit: Limit, what: &str| format!("{what} of {limit}");
    let what = match block.cause {
        Cause::MaxOn => limit(limits.max_on, "max_on") + " reached",
        Cause::MaxOnPerDay => limit(limits.max_on_per_day, "max_on_per_day") + " reached",
        Cause::Cooldown => "cooling down after a limit".to_owned(),
        Cause::MinOff => limit(limits.min_off, "min_off") + " since it went off",
        // Accounts know nothing of energy: what holds for it has a reason of its own.
        Cause::Budget | Cause::PowerLimit => block.cause.to_string() + " reached",
    };
    Reason::new(match block.until {
        Some(until) => format!("{what}; off until {}", wall(until, inputs)),
        None => format!("{what}; cooldown of {} once it is off", limits.cooldown),
    })
}

pub(super) fn held(inputs: &Inputs<'_>, hold: &EnergyBlock) -> Reason {
    let what = match hold.why {
        BlockReason::BudgetExhausted(budget) => format!("budget of {budget} used"),
        BlockReason::Over { drew, ceiling } => format!("{drew} over the ceiling of {ceiling}"),
        BlockReason::NoRoom { needs, ceiling } => {
            format!("its {needs} would go over the ceiling of {ceiling}")
        }
    };
    Reason::new(match hold.block.until {
        Some(until) => format!("{what}; off until {}", wall(until, inputs)),
        None => format!("{what}; waits until the others draw less"),
    })
}

pub(super) fn overridden(inputs: &Inputs<'_>, found: Override, end: Option<Timestamp>) -> Reason {
    let stance = match found.stance() {
        OverrideState::On => "override ON",
        OverrideState::Off => "override OFF",
        OverrideState::Leave => "left as it is",
    };
    let origin = match found.origin() {
        Origin::Command => "a command",
        Origin::Device => "its button or the app",
        Origin::OnReconnect => "its return",
        Origin::Finished => "its load, which has finished",
        Origin::Standby => "its load, which is on standby",
    };
    let set = wall(found.set_at(), inputs);
    let end = end.map_or_else(|| "AUTO".to_owned(), |end| wall(end, inputs));
    Reason::new(format!("{stance} until {end}, by {origin} at {set}"))
}

pub(super) fn vacation(level: &ScheduleWinner<'_>) -> Reason {
    Reason::new(match level.winner() {
        Some(state) => format!("vacation: {} rests", state.schedule.id),
        None => "vacation".to_owned(),
    })
}

pub(super) fn scheduled(inputs: &Inputs<'_>, level: &ScheduleWinner<'_>) -> Reason {
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
    Reason::new(format!(
        "{} is active{until} ({}){conditions}",
        schedule.id, schedule.window
    ))
}

fn undecided(inputs: &Inputs<'_>, state: &State<'_>) -> Reason {
    let waits = state
        .decided_by
        .map_or_else(String::new, |condition| describe(inputs, condition));
    Reason::new(format!("{} keeps what is: {waits}", state.schedule.id))
}

fn inactive(inputs: &Inputs<'_>, level: &ScheduleWinner<'_>) -> Reason {
    let refused = level
        .states
        .iter()
        .find_map(|state| Some((state, state.decided_by?)));
    if let Some((state, condition)) = refused {
        let text = format!(
            "{} is open, but not {}",
            state.schedule.id,
            describe(inputs, condition)
        );
        return Reason::new(text);
    }
    let edge = |state: &State<'_>| Some((state.wake?, state.schedule.id.clone()));
    let next = level.states.iter().filter_map(edge).min_by_key(|(at, _)| *at);
    Reason::new(match next {
        Some((at, id)) => format!("no schedule is active; {id} opens {}", wall(at, inputs)),
        None => "no schedule is enabled".to_owned(),
    })
}

/// A condition with what its sensors say: `outdoor at most 0 (-3.2 °C)`. Without that where nobody asks them.
fn describe(inputs: &Inputs<'_>, condition: &Condition) -> String {
    if inputs.conditions == Conditions::TakenToHold {
        return condition.test.to_string();
    }
    let sensors = inputs.sensors();
    let named = matches!(condition.test, Test::BlackIce(_));
    let says = condition.test.sensors().into_iter().map(|id| {
        let spec = sensors.specs.iter().find(|spec| spec.id == *id);
        let known = spec.map_or(Known::Never, |spec| sensors.readings.of(spec, inputs.now.steady));
        let unit = spec.map(|spec| spec.unit.to_string()).unwrap_or_default();
        let value = match known {
            Known::Value(value, _) => format!("{value} {unit}").trim_end().to_owned(),
            Known::Stale(since) => format!("silent, stale since {}", wall(inputs.now.wall_at(since), inputs)),
            Known::Never => "no value yet".to_owned(),
        };
        if named { format!("{id} {value}") } else { value }
    });
    let says: Vec<String> = says.collect();
    format!("{} ({})", condition.test, says.join(", "))
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
