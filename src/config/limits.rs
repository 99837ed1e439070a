//! `[group.safety]` and `[group.schedule.safety]`: how long an outlet may run.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    parse,
    reader::{Expected, Leaf, Read, Table},
};
use planner::rules::{Limit, LimitChanges, Limits};

const DAY: Duration = Duration::from_hours(24);
/// As long as the scheduler counts.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// Reads a group's limits over the defaults.
pub(super) fn limits(table: &mut Table<'_>) -> Read<Limits> {
    Ok(Limits::default().changed(&limit_changes(table)?))
}

/// Reads the limits that a schedule changes.
pub(super) fn limit_changes(table: &mut Table<'_>) -> Read<LimitChanges> {
    let from = Duration::from_secs(1);
    let max_on = table.optional("max_on", limit(from..=LONGEST));
    let cooldown = table.optional("cooldown", limit(from..=LONGEST));
    let min_off = table.optional("min_off", limit(from..=LONGEST));
    let max_on_per_day = table.optional("max_on_per_day", limit(from..=DAY));
    Ok(LimitChanges {
        max_on: max_on?,
        cooldown: cooldown?,
        min_off: min_off?,
        max_on_per_day: max_on_per_day?,
    })
}

fn limit(range: RangeInclusive<Duration>) -> impl Fn(&Leaf<'_>) -> Result<Limit, Expected> {
    let period = parse::period(range);
    move |leaf| match leaf.text() {
        Some("none") => Ok(Limit::None),
        _ => period(leaf)
            .map(Limit::Of)
            .map_err(|expected| format!("\"none\", or {expected}")),
    }
}
