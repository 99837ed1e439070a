//! Schedules that were changed over MQTT, layered over those of the settings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

use crate::{
    config::{Problems, parse_schedule, schedule_definition},
    domain::one_line,
};
use planner::{
    GroupId, ScheduleId,
    plan::ScheduleStatus,
    rules::{Group, Interlock, Rules, Schedule},
};

/// ScheduleEdits by group and schedule.
pub(super) type ScheduleEdits = BTreeMap<GroupId, BTreeMap<ScheduleId, ScheduleEdit>>;

/// One schedule that differs from the settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleEdit {
    /// Added or replaced, in the form of a `[[group.schedule]]`.
    Set(Value),
    /// Removed.
    Removed,
    /// As in the settings, except for this.
    Enabled(bool),
}

/// Where a schedule in force comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScheduleOrigin {
    /// The settings.
    Settings,
    /// The settings; enabled or disabled by a request.
    Switched,
    /// `schedule/set`.
    Request,
}

/// Where a schedule in force comes from.
pub(super) fn origin(changes: &ScheduleEdits, group: &GroupId, schedule: &ScheduleId) -> ScheduleOrigin {
    match changes.get(group).and_then(|changes| changes.get(schedule)) {
        None | Some(ScheduleEdit::Removed) => ScheduleOrigin::Settings,
        Some(ScheduleEdit::Enabled(_)) => ScheduleOrigin::Switched,
        Some(ScheduleEdit::Set(_)) => ScheduleOrigin::Request,
    }
}

/// Reads a schedule of a group as a request or the state file has it.
pub(super) fn parse(rules: &Rules, group: &Group, form: &Value) -> Result<Schedule, Problems> {
    parse_schedule(form, &rules.sensors, &rules.location, group.thermostat.as_ref())
}

/// Whether a group can have schedules; the error explains why not.
pub(super) fn takes_schedules(group: &Group) -> Result<(), String> {
    match group.interlock {
        Interlock::Free => Ok(()),
        Interlock::OneOn => Err(format!(
            "group {} has an interlock; a schedule would switch on all its outlets",
            group.id
        )),
    }
}

/// Discards changes that no longer fit the settings, and logs each.
pub(super) fn fitting(settings: &Rules, changes: ScheduleEdits) -> ScheduleEdits {
    let mut fitting = ScheduleEdits::new();
    for (group, of_group) in changes {
        let Some(known) = settings.group(&group) else {
            warn!(%group, "group removed from the settings; its changed schedules are discarded");
            continue;
        };
        let of_group: BTreeMap<_, _> = of_group
            .into_iter()
            .filter(|(schedule, change)| fits(settings, known, schedule, change))
            .collect();
        if !of_group.is_empty() {
            fitting.insert(group, of_group);
        }
    }
    fitting
}

fn fits(settings: &Rules, group: &Group, schedule: &ScheduleId, change: &ScheduleEdit) -> bool {
    let why = match change {
        ScheduleEdit::Set(form) => {
            let read = parse(settings, group, form).map_err(|problems| one_line(&problems));
            match read.and_then(|_| takes_schedules(group)) {
                Ok(()) => return true,
                Err(why) => why,
            }
        }
        ScheduleEdit::Removed | ScheduleEdit::Enabled(_) => {
            if group.schedules.iter().any(|known| known.id == *schedule) {
                return true;
            }
            "removed from the settings".to_owned()
        }
    };
    warn!(group = %group.id, %schedule, %why, "changed schedule discarded");
    false
}

/// The rules in force.
pub(super) fn apply(settings: &Rules, changes: &ScheduleEdits) -> Rules {
    let mut rules = settings.clone();
    for group in &mut rules.groups {
        if let Some(changes) = changes.get(&group.id) {
            group.schedules = of_group(settings, group, changes);
        }
    }
    rules
}

/// The schedules of a group of the settings, with changes.
pub(super) fn of_group(
    settings: &Rules,
    group: &Group,
    changes: &BTreeMap<ScheduleId, ScheduleEdit>,
) -> Vec<Schedule> {
    let mut schedules = group.schedules.clone();
    for (id, change) in changes {
        let position = schedules.iter().position(|schedule| schedule.id == *id);
        match (change, position) {
            (ScheduleEdit::Removed, Some(at)) => {
                schedules.remove(at);
            }
            (ScheduleEdit::Enabled(enabled), Some(at)) => {
                if let Some(schedule) = schedules.get_mut(at) {
                    schedule.enabled = *enabled;
                }
            }
            (ScheduleEdit::Removed | ScheduleEdit::Enabled(_), None) => {}
            (ScheduleEdit::Set(form), position) => {
                let Ok(mut schedule) = parse(settings, group, form) else {
                    continue;
                };
                schedule.editable = true;
                match position.and_then(|at| schedules.get_mut(at)) {
                    Some(slot) => *slot = schedule,
                    None => schedules.push(schedule),
                }
            }
        }
    }
    schedules
}

/// The problems on one line.
pub(super) fn one_line(problems: &Problems) -> String {
    let each: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
    one_line::one_line(&each)
}

/// A schedule as `schedule/list` answers it: its parts as text, what it does now, and its definition, which
/// `schedule/set` takes.
pub(super) fn shown(
    schedule: &Schedule,
    origin: ScheduleOrigin,
    in_settings: bool,
    status: &ScheduleStatus,
) -> Value {
    let conditions: Vec<String> = schedule
        .conditions
        .iter()
        .map(|condition| condition.test.to_string())
        .collect();
    json!({
        "id": schedule.id,
        "enabled": schedule.enabled,
        "days": schedule.days.to_string(),
        "window": schedule.window.to_string(),
        "when": conditions,
        "origin": origin,
        "in_settings": in_settings,
        "active": status.active,
        "met": status.met,
        "definition": schedule_definition(schedule),
    })
}
