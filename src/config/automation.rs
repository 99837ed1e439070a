//! `[group.energy]`: what a group does about the energy that its members use.

use std::time::Duration;

use super::{
    parse,
    reader::{Read, Table},
};
use planner::{
    energy_limits::{EnergyRules, Finished, IfFinished, PowerLimit, Standby},
    period::Period,
    units::{MilliWattHours, MilliWatts},
};

const DAY: Duration = Duration::from_hours(24);
/// Below a tenth of a watt, meters show nothing.
const LEAST: MilliWatts = MilliWatts::new(100);
/// As much as an outlet carries.
const LARGEST_LOAD: MilliWatts = MilliWatts::from_watts(4000);
/// More than the mains of a house.
const LARGEST_POWER_LIMIT: MilliWatts = MilliWatts::from_watts(100_000);
/// More than such a house uses in a day.
const LARGEST_BUDGET: MilliWattHours = MilliWattHours::new(2_000_000_000);
/// A watt hour, the least that many meters count.
const SMALLEST_BUDGET: MilliWattHours = MilliWattHours::new(1000);

/// Reads a group's rules; one that is left out does not hold.
pub(super) fn energy_rules(table: &mut Table<'_>) -> Read<EnergyRules> {
    let daily_budget = table.optional("daily_budget", parse::energy(SMALLEST_BUDGET..=LARGEST_BUDGET));
    let power_limit = part(table, "power_limit", power_limit);
    let finished = part(table, "finished", finished);
    let standby = part(table, "standby", standby);
    Ok(EnergyRules {
        daily_budget: daily_budget?,
        power_limit: power_limit?,
        finished: finished?,
        standby: standby?,
    })
}

/// A table that may be left out as a whole.
fn part<T>(
    table: &mut Table<'_>,
    key: &'static str,
    read: impl FnOnce(&mut Table<'_>) -> Read<T>,
) -> Read<Option<T>> {
    if table.has(key) {
        table.section(key, read).map(Some)
    } else {
        Ok(None)
    }
}

fn power_limit(table: &mut Table<'_>) -> Read<PowerLimit> {
    let max = table.required("max", parse::power(LEAST..=LARGEST_POWER_LIMIT));
    let resume_below = table.optional("resume_below", parse::power(LEAST..=LARGEST_POWER_LIMIT));
    let min_off = table.optional("min_off", parse::period(Duration::from_secs(1)..=DAY));
    let (max, resume_below, min_off) = (max?, resume_below?, min_off?);
    let resume_below = resume_below.unwrap_or(PowerLimit::default_resume_below(max));
    if resume_below > max {
        return Err(table.problem("resume_below", format!("at most max, {max}")));
    }
    Ok(PowerLimit {
        max,
        resume_below,
        min_off: min_off.unwrap_or(PowerLimit::MIN_OFF),
    })
}

fn below(table: &mut Table<'_>) -> Read<MilliWatts> {
    table.required("below", parse::power(LEAST..=LARGEST_LOAD))
}

fn length(table: &mut Table<'_>) -> Read<Period> {
    table.required("for", parse::period(Duration::from_secs(1)..=DAY))
}

fn finished(table: &mut Table<'_>) -> Read<Finished> {
    let (below, length) = (below(table), length(table));
    let off = table.optional("off", parse::boolean)?.unwrap_or(false);
    Ok(Finished {
        below: below?,
        length: length?,
        then: if off { IfFinished::Off } else { IfFinished::Report },
    })
}

fn standby(table: &mut Table<'_>) -> Read<Standby> {
    let (below, length) = (below(table), length(table));
    Ok(Standby {
        below: below?,
        length: length?,
    })
}
