//! `plan`: the coming switch times of every group, from the planner that runs in the bridge, offline.
//!
//! What only a running bridge knows is left out: sensors (conditions are taken to hold), overrides, timers, vacation,
//! and what was changed over MQTT.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use jiff::{SignedDuration, Span, Timestamp, tz::TimeZone};
use serde::Serialize;
use serde_json::{Value, json};

use super::{ExitError, load, output};
use crate::{
    cli::{PlanArgs, SettingsArgs},
    system::clock::Clock,
};
use planner::{
    GroupId, Now, OutletPath, Power, ScheduleId, Steady,
    activity::Conditions,
    energy_limits::EnergyLimits,
    forecast::{PlannedChange, Timers, forecast},
    interlock::InterlockOwners,
    overrides::Overrides,
    plan::{GroupPlan, Inputs, Memory, Reason, Reasons, Source, Vacation, plan as decide},
    readings::Readings,
    rules::{Group, Rules},
    safety::Safety,
    setpoint::Setpoint,
    sun_days::SunDays,
    thermostat::Goal,
};

/// Longer than a week, so that every schedule had an edge since: none waits for its first one (`catch_up`).
const RUNNING_FOR: SignedDuration = SignedDuration::from_hours(14 * 24);

const ASSUMED: &str = "Assumes all conditions are met. Overrides, timers, vacation, meter readings and changes made over MQTT are not known here.";

/// What is printed.
#[derive(Debug, Serialize)]
struct PlanOutlook {
    from: String,
    until: String,
    groups: Vec<GroupOutlook>,
}

#[derive(Debug, Serialize)]
struct GroupOutlook {
    group: GroupId,
    #[serde(skip)]
    name: String,
    /// What it should be at the beginning; `null`: not controlled, or by a thermostat, whose temperature is not known here.
    expected: Option<Power>,
    /// What its thermostat holds at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Value>,
    reason: Reason,
    changes: Vec<Line>,
    /// What the sun does to its schedules in this time, by schedule.
    sun: BTreeMap<ScheduleId, SunDays>,
}

#[derive(Debug, Serialize)]
struct Line {
    at: String,
    outlets: Vec<OutletPath>,
    /// `null` where a thermostat decides.
    state: Option<Power>,
    /// What a thermostat holds from then on, on the scale of its sensor; `null`: it only protects against frost.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Value>,
    source: Source,
    rule: Option<String>,
    reason: Reason,
}

pub(super) fn plan(args: &PlanArgs, settings: &SettingsArgs) -> Result<(), ExitError> {
    let rules = load(settings)?.rules;
    let from = args.at.unwrap_or_else(|| Clock::system().now());
    let outlook = look(&rules, from, args.days);
    let text = if args.json {
        serde_json::to_string_pretty(&outlook).map_err(std::io::Error::from)? + "\n"
    } else {
        let mut text = String::new();
        // A text has room for everything.
        let _infallible = write(&mut text, &outlook, &rules);
        text
    };
    output::print(&text)
}

fn look(rules: &Rules, from: Timestamp, days: u16) -> PlanOutlook {
    let zone = &rules.location.zone;
    let until = from
        .to_zoned_datetime(zone.clone())
        .checked_add(Span::new().days(days))
        .map_or(Timestamp::MAX, |end| end.timestamp());
    let (overrides, safety, energy_limits) =
        (Overrides::default(), Safety::default(), EnergyLimits::default());
    let (readings, holders) = (Readings::default(), InterlockOwners::default());
    let (memory, observed) = (Memory::default(), BTreeMap::new());
    let booted_at = from.saturating_sub(RUNNING_FOR).unwrap_or(Timestamp::MIN);
    let inputs = Inputs {
        rules,
        overrides: &overrides,
        vacation: Vacation::Off,
        safety: &safety,
        energy_limits: &energy_limits,
        readings: &readings,
        memory: &memory,
        observed: &observed,
        holders: &holders,
        conditions: Conditions::TakenToHold,
        reasons: Reasons::Included,
        booted_at: Steady::at(booted_at),
        listening_since: Steady::at(booted_at),
        now: Now {
            wall: from,
            steady: Steady::at(from),
        },
    };
    let beginning = decide(&inputs).groups;
    let groups = rules.groups.iter().zip(beginning);
    PlanOutlook {
        from: rfc3339(from, zone),
        until: rfc3339(until, zone),
        groups: groups
            .map(|(group, plan)| {
                let GroupPlan { expected, reason, .. } = plan;
                let changes = forecast(&inputs, &group.id, &Timers::new(), until);
                let goal = plan.thermostat.and_then(|thermostat| thermostat.goal);
                GroupOutlook {
                    group: group.id.clone(),
                    name: group.name.clone(),
                    expected: expected.filter(|_| goal.is_none()),
                    target: goal.map(target),
                    reason,
                    changes: changes.into_iter().map(|change| line(change, zone)).collect(),
                    sun: sun_days(group, rules, from, days),
                }
            })
            .collect(),
    }
}

fn sun_days(group: &Group, rules: &Rules, from: Timestamp, days: u16) -> BTreeMap<ScheduleId, SunDays> {
    let location = &rules.location;
    let first = location.zone.to_datetime(from).date();
    let enabled = group.schedules.iter().filter(|schedule| schedule.enabled);
    let found = enabled.map(|schedule| {
        let days = SunDays::of(&schedule.calendar(&group.id, location), first, days.into());
        (schedule.id.clone(), days)
    });
    found.filter(|(_, days)| !days.is_none()).collect()
}

fn line(change: PlannedChange, zone: &TimeZone) -> Line {
    Line {
        at: rfc3339(change.at, zone),
        outlets: change.outlets,
        state: Some(change.power).filter(|_| change.goal.is_none()),
        target: change.goal.map(target),
        source: change.source,
        rule: change.rule.map(|rule| rule.to_string()),
        reason: change.reason,
    }
}

fn target(goal: Goal) -> Value {
    json!(goal.target().map(Setpoint::degrees))
}

/// What is wanted, in one word: a state, or the target of a thermostat.
fn word(state: Option<Power>, target: Option<&Value>) -> String {
    match (state, target) {
        (_, Some(Value::Number(degrees))) => format!("{}°", degrees.as_f64().unwrap_or_default()),
        (_, Some(_)) => "frost".to_owned(),
        (Some(power), None) => power.to_string(),
        (None, None) => "-".to_owned(),
    }
}

/// To the second, with the offset of the place at that time.
fn rfc3339(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned_datetime(zone.clone())
        .strftime("%FT%T%:z")
        .to_string()
}

fn write(out: &mut String, outlook: &PlanOutlook, rules: &Rules) -> fmt::Result {
    let zone = &rules.location.zone;
    let name = zone.iana_name().unwrap_or("local time");
    writeln!(out, "{} to {} ({name})", outlook.from, outlook.until)?;
    writeln!(out, "{ASSUMED}")?;
    if outlook.groups.is_empty() {
        writeln!(out, "\nNo group is configured.")?;
    }
    for group in &outlook.groups {
        writeln!(out, "\n{} ({})", group.group, group.name)?;
        let beginning = word(group.expected, group.target.as_ref());
        let width = if group.target.is_some() { 5 } else { 3 };
        writeln!(out, "  {:<25}  {beginning:<width$}  {}", "now", group.reason)?;
        for (schedule, days) in &group.sun {
            writeln!(out, "  {:<25}  {:<width$}  {schedule}: {days}", "note", "")?;
        }
        let members = rules.group(&group.group).map_or(0, |group| group.outlets.len());
        for line in &group.changes {
            write!(
                out,
                "  {}  {:<width$}  {}",
                line.at,
                word(line.state, line.target.as_ref()),
                line.reason
            )?;
            // All of them, unless it names some.
            if line.outlets.len() < members {
                let outlets: Vec<String> = line.outlets.iter().map(ToString::to_string).collect();
                write!(out, "  [{}]", outlets.join(", "))?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}
