//! Schedules that were changed over MQTT, on top of those of the settings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

use crate::config::{Problems, parse_schedule};
use planner::{
    GroupId, ScheduleId,
    rules::{Group, Interlock, Rules, Schedule},
};

/// What was changed, by group and schedule.
pub type ScheduleEdits = BTreeMap<GroupId, BTreeMap<ScheduleId, ScheduleEdit>>;

/// One schedule that is not as in the settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleEdit {
    /// Added or replaced, in the form of a `[[group.schedule]]`.
    Set(Value),
    /// Taken out.
    Removed,
    /// As in the settings, but for this.
    Enabled(bool),
}

/// Where a schedule in force comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EditOrigin {
    /// The settings.
    Settings,
    /// The settings, but enabled or disabled by a request.
    Switched,
    /// A request.
    Request,
}

pub fn origin(changes: &ScheduleEdits, group: &GroupId, schedule: &ScheduleId) -> EditOrigin {
    match changes.get(group).and_then(|changes| changes.get(schedule)) {
        None | Some(ScheduleEdit::Removed) => EditOrigin::Settings,
        Some(ScheduleEdit::Enabled(_)) => EditOrigin::Switched,
        Some(ScheduleEdit::Set(_)) => EditOrigin::Request,
    }
}

/// Reads a schedule as a request or the state file has it.
pub fn parse(rules: &Rules, form: &Value) -> Result<Schedule, Problems> {
    parse_schedule(form, &rules.sensors, &rules.location)
}

/// Whether a group can have schedules; else why not.
pub fn takes_schedules(group: &Group) -> Result<(), String> {
    match group.interlock {
        Interlock::Free => Ok(()),
        Interlock::OneOn => Err(format!(
            "group {} is interlocked; a schedule would turn on all of it",
            group.id
        )),
    }
}

/// Leaves out changes that fit the settings no longer; says so, once each.
pub fn fitting(settings: &Rules, changes: ScheduleEdits) -> ScheduleEdits {
    let mut fitting = ScheduleEdits::new();
    for (group, of_group) in changes {
        let Some(known) = settings.group(&group) else {
            warn!(%group, "not configured any more; its changed schedules are dropped");
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
            let read = parse(settings, form).map_err(|problems| one_line(&problems));
            match read.and_then(|_| takes_schedules(group)) {
                Ok(()) => return true,
                Err(why) => why,
            }
        }
        ScheduleEdit::Removed | ScheduleEdit::Enabled(_) => {
            if group.schedules.iter().any(|known| known.id == *schedule) {
                return true;
            }
            "the settings have it no longer".to_owned()
        }
    };
    warn!(group = %group.id, %schedule, %why, "a changed schedule is dropped");
    false
}

/// The rules in force.
pub fn apply(settings: &Rules, changes: &ScheduleEdits) -> Rules {
    let mut rules = settings.clone();
    for group in &mut rules.groups {
        let Some(changes) = changes.get(&group.id) else {
            continue;
        };
        apply_to(settings, group, changes);
    }
    rules
}

fn apply_to(settings: &Rules, group: &mut Group, changes: &BTreeMap<ScheduleId, ScheduleEdit>) {
    for (id, change) in changes {
        let position = group.schedules.iter().position(|schedule| schedule.id == *id);
        match (change, position) {
            (ScheduleEdit::Removed, Some(at)) => {
                group.schedules.remove(at);
            }
            (ScheduleEdit::Enabled(enabled), Some(at)) => {
                if let Some(schedule) = group.schedules.get_mut(at) {
                    schedule.enabled = *enabled;
                }
            }
            (ScheduleEdit::Removed | ScheduleEdit::Enabled(_), None) => {}
            (ScheduleEdit::Set(form), position) => {
                let Ok(schedule) = parse(settings, form) else {
                    continue;
                };
                match position.and_then(|at| group.schedules.get_mut(at)) {
                    Some(slot) => *slot = schedule,
                    None => group.schedules.push(schedule),
                }
            }
        }
    }
}

/// Every problem in one text.
pub fn one_line(problems: &Problems) -> String {
    let each: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
    each.join("; ")
}

/// A schedule for people: its parts as the settings write them.
pub fn shown(schedule: &Schedule, origin: EditOrigin, form: Option<&Value>) -> Value {
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
        "from": from,
        "form": form,
    })
}
