//! Questions, and changes of what people wrote down.

use jiff::SignedDuration;
use serde_json::{Value, json};
use tracing::info;

use super::{
    Look, Scheduler,
    layers::{self, Changes, ScheduleChange},
    tell::rfc3339,
};
use crate::domain::{
    command::Target,
    request_reply::{RequestReply, RequestResult},
    scheduling::{Request, RequestError, SchedulerUpdate},
};
use planner::{
    GroupId, OutletPath, ScheduleId,
    forecast::{PlannedChange, forecast},
    overrides::Override,
    period::after,
    plan::Vacation,
    rules::Group,
};

impl Scheduler {
    pub(super) fn answer_request(&mut self, request: Request, reply: RequestReply, look: Look) {
        let result = match request {
            Request::Schedules(group) => self.list_schedules(group.as_ref()),
            Request::SetSchedule { group, schedule } => self.set_schedule(&group, schedule),
            Request::RemoveSchedule { group, schedule } => self.remove_schedule(&group, &schedule),
            Request::EnableSchedule {
                group,
                schedule,
                enabled,
            } => self.enable_schedule(&group, &schedule, enabled),
            Request::ResetSchedules(group) => self.reset_schedules(group.as_ref()),
            Request::Overrides => Ok(self.list_overrides()),
            Request::ClearOverrides(target) => self.clear(target, look),
            Request::Vacation(wanted) => Ok(self.vacation(wanted, look)),
            Request::Plan { group, days, .. } => self.forecast(group.as_ref(), days, look),
        };
        reply.send(result);
    }

    fn group(&self, id: &GroupId) -> Result<&Group, RequestError> {
        self.book
            .rules
            .group(id)
            .ok_or_else(|| RequestError::UnknownGroup(id.clone()))
    }

    /// One group, or all.
    fn groups(&self, id: Option<&GroupId>) -> Result<Vec<&Group>, RequestError> {
        match id {
            Some(id) => Ok(vec![self.group(id)?]),
            None => Ok(self.book.rules.groups.iter().collect()),
        }
    }

    fn list_schedules(&self, group: Option<&GroupId>) -> RequestResult {
        let changes = &self.book.changes;
        let show = |group: &&Group| {
            let of_group = changes.get(&group.id);
            let schedules: Vec<Value> = group
                .schedules
                .iter()
                .map(|schedule| layers::shown(schedule, layers::origin(changes, &group.id, &schedule.id)))
                .collect();
            let removed: Vec<&ScheduleId> = of_group
                .into_iter()
                .flatten()
                .filter(|(_, change)| **change == ScheduleChange::Removed)
                .map(|(id, _)| id)
                .collect();
            json!({"group": group.id, "schedules": schedules, "removed": removed})
        };
        let groups: Vec<Value> = self.groups(group)?.iter().map(show).collect();
        Ok(json!({ "groups": groups }))
    }

    fn set_schedule(&mut self, group: &GroupId, form: Value) -> RequestResult {
        layers::takes_schedules(self.group(group)?).map_err(RequestError::Invalid)?;
        let schedule = layers::parse(self.book.settings(), &form)
            .map_err(|problems| RequestError::Invalid(layers::one_line(&problems)))?;
        self.change_schedule(group, &schedule.id, Some(ScheduleChange::Set(form)));
        Ok(json!({"group": group, "schedule": schedule.id}))
    }

    fn remove_schedule(&mut self, group: &GroupId, schedule: &ScheduleId) -> RequestResult {
        self.existing(group, schedule)?;
        let change = self
            .in_settings(group, schedule)
            .then_some(ScheduleChange::Removed);
        self.change_schedule(group, schedule, change);
        Ok(json!({"group": group, "schedule": schedule}))
    }

    fn enable_schedule(&mut self, group: &GroupId, schedule: &ScheduleId, enabled: bool) -> RequestResult {
        self.existing(group, schedule)?;
        let of_group = self.book.changes.get(group);
        let set = match of_group.and_then(|changes| changes.get(schedule)) {
            Some(ScheduleChange::Set(form)) => Some(form.clone()),
            _ => None,
        };
        let change = if let Some(mut form) = set {
            if let Value::Object(entries) = &mut form {
                entries.insert("enabled".to_owned(), enabled.into());
            }
            Some(ScheduleChange::Set(form))
        } else {
            let settings = self.book.settings().group(group);
            let known = settings.and_then(|group| group.schedules.iter().find(|known| known.id == *schedule));
            let same = known.is_some_and(|known| known.enabled == enabled);
            (!same).then_some(ScheduleChange::Enabled(enabled))
        };
        self.change_schedule(group, schedule, change);
        Ok(json!({"group": group, "schedule": schedule, "enabled": enabled}))
    }

    fn existing(&self, group: &GroupId, schedule: &ScheduleId) -> Result<(), RequestError> {
        let known = &self.group(group)?.schedules;
        if known.iter().any(|known| known.id == *schedule) {
            return Ok(());
        }
        Err(RequestError::UnknownSchedule {
            group: group.clone(),
            schedule: schedule.clone(),
        })
    }

    fn in_settings(&self, group: &GroupId, schedule: &ScheduleId) -> bool {
        let settings = self.book.settings().group(group);
        settings.is_some_and(|group| group.schedules.iter().any(|known| known.id == *schedule))
    }

    /// `None` goes back to the settings.
    fn change_schedule(&mut self, group: &GroupId, schedule: &ScheduleId, change: Option<ScheduleChange>) {
        let mut changes = self.book.changes.clone();
        let of_group = changes.entry(group.clone()).or_default();
        match change {
            Some(change) => of_group.insert(schedule.clone(), change),
            None => of_group.remove(schedule),
        };
        if of_group.is_empty() {
            changes.remove(group);
        }
        self.relayer(changes);
    }

    fn reset_schedules(&mut self, group: Option<&GroupId>) -> RequestResult {
        let mut changes = self.book.changes.clone();
        match group {
            Some(group) => {
                self.group(group)?;
                changes.remove(group);
            }
            None => changes.clear(),
        }
        self.relayer(changes);
        self.list_schedules(group)
    }

    /// Takes changed schedules into force. What changed schedules remember says nothing about the new ones.
    fn relayer(&mut self, changes: Changes) {
        let before = self.book.rules.clone();
        self.book.relayer(changes);
        let rules = self.book.rules.clone();
        for (old, new) in before.groups.iter().zip(&rules.groups) {
            let gone = old
                .schedules
                .iter()
                .filter(|schedule| !new.schedules.contains(schedule));
            for schedule in gone {
                info!(group = %old.id, schedule = %schedule.id, "schedule changed by a request");
                self.book.forget(&old.id, &schedule.id);
            }
        }
        if before != rules {
            self.telling.say(SchedulerUpdate::Rules(rules));
        }
    }

    fn list_overrides(&self) -> Value {
        let rules = &self.book.rules;
        let show = |(path, found): (&OutletPath, &Override)| {
            let group = rules.group_of(path)?;
            let until = found.end(group, &rules.location);
            Some(json!({
                "outlet": path,
                "group": group.id,
                "state": found.stance().power(),
                "since": rfc3339(found.set_at(), &self.book),
                "until": until.map(|until| rfc3339(until, &self.book)),
                "by": found.origin(),
            }))
        };
        let overrides: Vec<Value> = self.book.overrides.iter().filter_map(show).collect();
        json!({ "overrides": overrides })
    }

    fn clear(&mut self, target: Option<Target>, look: Look) -> RequestResult {
        let paths: Vec<OutletPath> = match target {
            None => self.book.overrides.iter().map(|(path, _)| path.clone()).collect(),
            Some(Target::Group(id)) => self.group(&id)?.outlets.clone(),
            Some(Target::Outlet(path)) => {
                let of = |found: &OutletPath| {
                    *found == path || (path.outlet.is_none() && found.device == path.device)
                };
                let each = self.book.overrides.iter().map(|(found, _)| found);
                each.filter(|found| of(found)).cloned().collect()
            }
        };
        let cleared = self.clear_overrides(&paths, "by a request", look);
        Ok(json!({ "cleared": cleared }))
    }

    fn vacation(&mut self, wanted: Option<bool>, look: Look) -> Value {
        match (wanted, self.book.vacation) {
            (Some(true), Vacation::Off) => self.set_vacation(Vacation::Since(look.now), look),
            (Some(false), Vacation::Since(_)) => self.set_vacation(Vacation::Off, look),
            _ => {}
        }
        match self.book.vacation {
            Vacation::Off => json!({"vacation": false}),
            Vacation::Since(since) => json!({"vacation": true, "since": rfc3339(since, &self.book)}),
        }
    }

    fn forecast(&self, group: Option<&GroupId>, days: u8, look: Look) -> RequestResult {
        let until = after(
            look.now,
            SignedDuration::from_hours(24 * i64::from(days.clamp(1, 31))),
        );
        let observed = self.observed();
        let inputs = self.book.inputs(&observed, look.now);
        let show = |change: &PlannedChange| {
            json!({
                "at": rfc3339(change.at, &self.book),
                "outlets": change.outlets,
                "state": change.power,
                "source": change.source,
                "rule": change.rule.as_ref().map(ToString::to_string),
                "reason": change.reason,
            })
        };
        let plan = |group: &&Group| {
            let changes = forecast(&inputs, &group.id, until);
            json!({"group": group.id, "changes": changes.iter().map(show).collect::<Vec<_>>()})
        };
        let groups: Vec<Value> = self.groups(group)?.iter().map(plan).collect();
        Ok(json!({"until": rfc3339(until, &self.book), "groups": groups}))
    }
}
