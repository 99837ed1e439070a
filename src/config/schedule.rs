//! `[[group.schedule]]`: when a group is on.

use std::time::Duration;

use super::{
    condition,
    group::ValidationContext,
    limits::limit_changes,
    parse,
    reader::{Expected, Leaf, Read, Table},
    thermostat,
};
use planner::{
    ScheduleId,
    days::{DayKind, Days, DaysError},
    edge::{Clamps, ClockTime, Edge, EdgeError, EdgeTime},
    location::Location,
    rules::{CatchUp, Priority, Schedule},
    thermostat::Thermostat,
    window::Window,
};

/// Reads one schedule; `taken` are the ids of its siblings.
pub(super) fn read(
    table: &mut Table<'_>,
    surroundings: ValidationContext<'_>,
    thermostat: Read<Option<&Thermostat>>,
    taken: &mut Vec<(ScheduleId, String)>,
) -> Read<Schedule> {
    let id: Read<ScheduleId> = table.required("id", parse::slug);
    let enabled = table.optional("enabled", parse::boolean);
    let priorities = [
        ("critical", Priority::Critical),
        ("normal", Priority::Normal),
        ("low", Priority::Low),
    ];
    let priority = table.optional("priority", parse::word(&priorities));
    let days = days(table, surroundings.location);
    let window = window(table, surroundings.location);
    let conditions = table.list("when", |table| condition::read(table, surroundings.sensors));
    let limits = table.section("safety", limit_changes);
    let catch_ups = [("apply", CatchUp::Apply), ("skip", CatchUp::Skip)];
    let catch_up = table.optional("catch_up", parse::word(&catch_ups));
    let editable = table.optional("editable", parse::boolean);
    let target = thermostat::target(table, thermostat);
    let id = id?;
    if let Some((_, owner)) = taken.iter().find(|(other, _)| *other == id) {
        return Err(table.duplicate("id", owner));
    }
    taken.push((id.clone(), table.place()));
    let catch_up = catch_up?.unwrap_or_default();
    if catch_up == CatchUp::Skip && matches!(thermostat, Ok(Some(_))) {
        let expected = "\"apply\" in a group with [group.thermostat], which leaves nothing as it is";
        return Err(table.problem("catch_up", expected));
    }
    Ok(Schedule {
        id,
        enabled: enabled?.unwrap_or(true),
        priority: priority?.unwrap_or_default(),
        days: days?,
        window: window?,
        conditions: conditions?,
        limits: limits?,
        catch_up,
        editable: editable?.unwrap_or(false),
        target: target?,
    })
}

fn days(table: &mut Table<'_>, location: Option<&Location>) -> Read<Days> {
    let day = |leaf: &Leaf<'_>| {
        let name = leaf.text().map(str::to_owned);
        let name = name.or_else(|| leaf.integer().map(|number| number.to_string()));
        let name = name.filter(|name| Days::from_names([name.as_str()]).is_ok());
        name.ok_or_else(|| {
            "one of mon, tue, wed, thu, fri, sat, sun, workday, holiday, weekend or 1 (Monday) to 7"
                .to_owned()
        })
    };
    let Some(names) = table.values("days", day)? else {
        return Ok(Days::ALL);
    };
    let days = Days::from_names(names.iter().map(String::as_str)).map_err(|error| match error {
        DaysError::Empty => table.problem("days", "at least one day; leave it out for every day"),
        DaysError::Unknown(_) => table.problem("days", "days of the week"),
    })?;
    if days.lists(DayKind::Holiday) && location.is_some_and(|location| !location.holidays.has_source()) {
        let expected = "a file, url or sensor in [calendar] that says which days are holidays";
        return Err(table.problem("days", expected));
    }
    Ok(days)
}

/// The keys that make one edge of a window.
struct EdgeKeys {
    time: &'static str,
    not_before: &'static str,
    not_after: &'static str,
    fallback: &'static str,
}

const START: EdgeKeys = EdgeKeys {
    time: "start",
    not_before: "start_not_before",
    not_after: "start_not_after",
    fallback: "fallback_start",
};

const END: EdgeKeys = EdgeKeys {
    time: "end",
    not_before: "end_not_before",
    not_after: "end_not_after",
    fallback: "fallback_end",
};

fn window(table: &mut Table<'_>, location: Option<&Location>) -> Read<Window> {
    let all_day = table.optional("all_day", parse::boolean);
    let start = edge(table, &START, location);
    let end = edge(table, &END, location);
    let range = Duration::from_secs(1)..=Duration::from_hours(24);
    let length = table.optional("for", parse::period(range));
    let window = match (all_day?.unwrap_or(false), start?, end?, length?) {
        (true, None, None, None) => Ok(Window::ALL_DAY),
        (true, ..) => return Err(table.problem("all_day", "either all_day, or start with end or for")),
        (false, Some(start), Some(end), None) => Window::between(start, end),
        (false, Some(start), None, Some(length)) => Window::lasting(start, length),
        (false, Some(_), Some(_), Some(_)) => return Err(table.problem("for", "either end or for, not both")),
        (false, Some(_), None, None) => {
            return Err(table.problem("end", "an end such as \"08:00\", or for = \"2h\" instead"));
        }
        (false, None, ..) => {
            let expected = "a start such as \"06:00\" or \"sunset-00:30\", or all_day = true instead";
            return Err(table.problem("start", expected));
        }
    };
    window.map_err(|error| table.invalid("start", format!("invalid time window: {error}")))
}

fn edge(table: &mut Table<'_>, keys: &EdgeKeys, location: Option<&Location>) -> Read<Option<Edge>> {
    let time = table.optional(keys.time, edge_time);
    let not_before = table.optional(keys.not_before, clock_time);
    let not_after = table.optional(keys.not_after, clock_time);
    let fallback = table.optional(keys.fallback, clock_time);
    let clamps = Clamps {
        not_before: not_before?,
        not_after: not_after?,
    };
    let (time, fallback) = (time?, fallback?);
    let Some(time) = time else {
        if let Some(key) = [keys.not_before, keys.not_after, keys.fallback]
            .into_iter()
            .find(|key| table.has(key))
        {
            return Err(table.problem(
                key,
                format!("{} = \"sunrise\" or \"sunset\" beside it", keys.time),
            ));
        }
        return Ok(None);
    };
    let edge = Edge::new(time, clamps, fallback).map_err(|error| match error {
        EdgeError::FallbackMissing(event) => table.problem(
            keys.fallback,
            format!("a time such as \"08:00\" for days without {event}"),
        ),
        EdgeError::ClampOrder { .. } => table.problem(
            keys.not_before,
            format!("a time that is not after {}", keys.not_after),
        ),
        EdgeError::ClampOnClock => {
            let extras = format!("{}, {} and {}", keys.not_before, keys.not_after, keys.fallback);
            table.problem(
                keys.time,
                format!("sunrise or sunset: {extras} go with the sun only"),
            )
        }
        EdgeError::Syntax(_) | EdgeError::Clock(_) | EdgeError::Offset(_) | EdgeError::Jitter(_) => {
            table.problem(keys.time, EDGE_EXPECTED)
        }
    })?;
    if edge.needs_sun() && location.is_some_and(|location| location.coordinates.is_none()) {
        let expected = "latitude and longitude in [location], or a clock time: the sun needs a place";
        return Err(table.problem(keys.time, expected));
    }
    Ok(Some(edge))
}

const EDGE_EXPECTED: &str = "a time (\"06:30\", \"24:00\"), or \"sunrise\" or \"sunset\" with an offset of at most three \
                             hours (\"sunset-00:30\"); each may stray by up to three hours (\"sunset±20m\")";

fn edge_time(leaf: &Leaf<'_>) -> Result<EdgeTime, Expected> {
    let time = leaf.text().and_then(|text| without_seconds(text).parse().ok());
    time.ok_or_else(|| EDGE_EXPECTED.to_owned())
}

fn clock_time(leaf: &Leaf<'_>) -> Result<ClockTime, Expected> {
    let time = leaf.text().and_then(|text| without_seconds(text).parse().ok());
    time.ok_or_else(|| "a time from \"00:00\" to \"24:00\"".to_owned())
}

/// A TOML time without quotes has seconds: `06:30:00`.
fn without_seconds(text: &str) -> &str {
    match text.strip_suffix(":00") {
        Some(time) if text.len() == "06:30:00".len() => time,
        _ => text,
    }
}
