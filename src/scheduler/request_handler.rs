//! Answers requests: lists, changes of schedules, overrides, vacation.

use planner::{
    GroupId, Now, OutletPath, ScheduleId,
    overrides::Override,
    plan::Vacation,
    rules::{Group, Limits, Schedule},
};
use serde_json::{Value, json};
use tracing::info;

use super::{
    Effect,
    effective_rules::{LONGEST_DEFINITION, MOST_EDITS, is_short},
    persisted::PersistedChange,
    plan_request::PlanRequest,
    reload::Reload,
    schedule_edits::{self, ScheduleEdit},
    state::{State, rfc3339},
};
use crate::domain::{
    command::Target,
    request_reply::RequestReply,
    scheduling::{Request, RequestError, ScheduleProposal},
};

/// The result of a request.
type Answer = Result<Value, RequestError>;

/// Answers requests, at a moment.
pub(super) struct RequestHandler<'a> {
    state: &'a mut State,
    now: Now,
}

impl<'a> RequestHandler<'a> {
    /// At a moment.
    pub(super) fn new(state: &'a mut State, now: Now) -> Self {
        Self { state, now }
    }

    /// Answers a request.
    pub(super) fn handle(mut self, request: Request, reply: RequestReply) {
        let answer = match request {
            Request::Schedules(group) => self.list_schedules(group.as_ref()),
            Request::SetSchedule { group, schedule } => {
                self.change_schedule(&group, ScheduleProposal::Set(schedule))
            }
            Request::RemoveSchedule { group, schedule } => {
                self.change_schedule(&group, ScheduleProposal::Removed(schedule))
            }
            Request::EnableSchedule {
                group,
                schedule,
                enabled,
            } => self.enable_schedule(&group, &schedule, enabled),
            Request::ResetSchedules(group) => self.reset_schedules(group.as_ref()),
            Request::ResetSchedule { group, schedule } => self.reset_schedule(&group, &schedule),
            Request::Overrides => Ok(self.list_overrides()),
            Request::ClearOverrides(target) => self.clear_overrides(target),
            Request::Vacation(wanted) => Ok(self.vacation(wanted)),
            Request::Plan {
                group,
                days,
                page,
                draft,
            } => {
                return match self.plan(group.as_ref(), draft, days, page) {
                    Ok(plan) => self.state.push(Effect::Plan(Box::new(plan), reply)),
                    Err(error) => reply.send(Err(error)),
                };
            }
        };
        reply.send(answer);
    }

    fn group(&self, id: &GroupId) -> Result<&Group, RequestError> {
        let group = self.state.rules.in_force().group(id);
        group.ok_or_else(|| RequestError::UnknownGroup(id.clone()))
    }

    fn list_schedules(&self, group: Option<&GroupId>) -> Answer {
        let rules = self.state.rules.in_force();
        let groups = match group {
            Some(id) => vec![self.group(id)?],
            None => rules.groups.iter().collect(),
        };
        let edits = self.state.rules.edits();
        let show = |group: &&Group| {
            let statuses = self.state.schedule_statuses(group, self.now);
            let schedules: Vec<Value> = group
                .schedules
                .iter()
                .zip(&statuses)
                .map(|(schedule, status)| {
                    let origin = schedule_edits::origin(edits, &group.id, &schedule.id);
                    let in_settings = self.of_settings(&group.id, &schedule.id).is_some();
                    schedule_edits::shown(schedule, origin, in_settings, status)
                })
                .collect();
            let removed: Vec<&ScheduleId> = edits
                .get(&group.id)
                .into_iter()
                .flatten()
                .filter(|(_, edit)| **edit == ScheduleEdit::Removed)
                .map(|(id, _)| id)
                .collect();
            let Limits {
                max_on,
                cooldown,
                min_off,
                max_on_per_day,
            } = group.limits;
            let limits = json!({
                "max_on": max_on.to_string(),
                "cooldown": cooldown.to_string(),
                "min_off": min_off.to_string(),
                "max_on_per_day": max_on_per_day.to_string(),
            });
            json!({"group": group.id, "limits": limits, "schedules": schedules, "removed": removed})
        };
        let groups: Vec<Value> = groups.iter().map(show).collect();
        Ok(json!({ "groups": groups }))
    }

    // ---- schedules

    /// What a change of a schedule is on top of the settings: `None` if it is as in the settings.
    fn check(
        &self,
        group: &GroupId,
        draft: ScheduleProposal,
    ) -> Result<(ScheduleId, Option<ScheduleEdit>), RequestError> {
        let definition = match draft {
            ScheduleProposal::Set(definition) => definition,
            ScheduleProposal::Removed(schedule) => {
                self.existing(group, &schedule)?;
                let in_settings = self.of_settings(group, &schedule).is_some();
                return Ok((schedule, in_settings.then_some(ScheduleEdit::Removed)));
            }
        };
        let of = self.group(group)?;
        schedule_edits::takes_schedules(of).map_err(RequestError::Invalid)?;
        if !is_short(&definition) {
            let message = format!("the definition is longer than {LONGEST_DEFINITION} bytes");
            return Err(RequestError::Invalid(message));
        }
        let schedule = schedule_edits::parse(self.state.rules.settings(), of, &definition)
            .map_err(|problems| RequestError::Invalid(schedule_edits::one_line(&problems)))?;
        if self.of_settings(group, &schedule.id) == Some(&schedule) {
            return Ok((schedule.id, None));
        }
        if self.state.rules.other_edits(group, &schedule.id) >= MOST_EDITS {
            return Err(RequestError::TooMany {
                group: group.clone(),
                most: MOST_EDITS,
            });
        }
        Ok((schedule.id, Some(ScheduleEdit::Set(definition))))
    }

    fn change_schedule(&mut self, group: &GroupId, change: ScheduleProposal) -> Answer {
        let (schedule, edit) = self.check(group, change)?;
        self.edit(group, &schedule, edit);
        Ok(json!({"group": group, "schedule": schedule}))
    }

    fn reset_schedule(&mut self, group: &GroupId, schedule: &ScheduleId) -> Answer {
        let edits = self.state.rules.edits().get(group);
        if edits.is_none_or(|edits| !edits.contains_key(schedule)) {
            self.existing(group, schedule)?;
        }
        self.edit(group, schedule, None);
        self.list_schedules(Some(group))
    }

    fn plan(
        &self,
        group: Option<&GroupId>,
        draft: Option<ScheduleProposal>,
        days: u8,
        page: u32,
    ) -> Result<PlanRequest, RequestError> {
        let draft = match (group, draft) {
            (Some(group), Some(draft)) => Some(self.check(group, draft)?),
            _ => None,
        };
        PlanRequest::new(self.state, group, draft, days, page, self.now)
    }

    fn enable_schedule(&mut self, group: &GroupId, schedule: &ScheduleId, enabled: bool) -> Answer {
        self.existing(group, schedule)?;
        let edits = self.state.rules.edits().get(group);
        let set = match edits.and_then(|edits| edits.get(schedule)) {
            Some(ScheduleEdit::Set(definition)) => Some(definition.clone()),
            _ => None,
        };
        let edit = if let Some(mut definition) = set {
            if let Value::Object(entries) = &mut definition {
                entries.insert("enabled".to_owned(), enabled.into());
            }
            Some(ScheduleEdit::Set(definition))
        } else {
            let known = self.of_settings(group, schedule);
            let same = known.is_some_and(|known| known.enabled == enabled);
            (!same).then_some(ScheduleEdit::Enabled(enabled))
        };
        self.edit(group, schedule, edit);
        Ok(json!({"group": group, "schedule": schedule, "enabled": enabled}))
    }

    fn reset_schedules(&mut self, group: Option<&GroupId>) -> Answer {
        if let Some(group) = group {
            self.group(group)?;
        }
        let before = self.state.rules.reset(group, &self.state.relays);
        self.persist_edits();
        if let Some(before) = before {
            let group = group.map(ToString::to_string);
            info!(group, "schedules are as in the settings again, by a request");
            Reload::new(self.state, self.now).rules_changed(&before);
        }
        self.list_schedules(group)
    }

    /// `None` goes back to the settings.
    fn edit(&mut self, group: &GroupId, schedule: &ScheduleId, edit: Option<ScheduleEdit>) {
        let what = match &edit {
            Some(ScheduleEdit::Set(_)) => "set",
            Some(ScheduleEdit::Removed) => "removed",
            Some(ScheduleEdit::Enabled(true)) => "enabled",
            Some(ScheduleEdit::Enabled(false)) => "disabled",
            None => "as in the settings again",
        };
        let before = self.state.rules.edit(group, schedule, edit, &self.state.relays);
        self.persist_edits();
        if let Some(before) = before {
            info!(%group, %schedule, "schedule {what}, by a request");
            Reload::new(self.state, self.now).rules_changed(&before);
        }
    }

    fn persist_edits(&mut self) {
        let edits = self.state.rules.edits().clone();
        self.state.persist(PersistedChange::Edits(edits));
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

    fn of_settings(&self, group: &GroupId, schedule: &ScheduleId) -> Option<&Schedule> {
        let group = self.state.rules.settings().group(group)?;
        group.schedules.iter().find(|known| known.id == *schedule)
    }

    // ---- overrides and vacation

    fn list_overrides(&self) -> Value {
        let rules = self.state.rules.in_force();
        let zone = &rules.location.zone;
        let show = |path: &OutletPath, found: Override| {
            let group = self.state.rules.group_of(path)?;
            let until = found.end(group, &rules.location, self.now);
            Some(json!({
                "outlet": path,
                "group": group.id,
                "state": found.state().power(),
                "thermostat": found.state().hold().map(|hold| hold.to_string()),
                "since": rfc3339(found.set_at(), zone),
                "until": until.map(|until| rfc3339(until, zone)),
                "by": found.origin(),
            }))
        };
        let members = rules.groups.iter().flat_map(|group| &group.outlets);
        let overridden = members.filter_map(|path| Some((path, self.state.outlet(path)?.overridden?)));
        let overrides: Vec<Value> = overridden.filter_map(|(path, found)| show(path, found)).collect();
        json!({ "overrides": overrides })
    }

    fn clear_overrides(&mut self, target: Option<Target>) -> Answer {
        let rules = self.state.rules.in_force().clone();
        let members = || rules.groups.iter().flat_map(|group| &group.outlets).cloned();
        let paths: Vec<OutletPath> = match target {
            None => members().collect(),
            Some(Target::Group(id)) => self.group(&id)?.outlets.clone(),
            Some(Target::Outlet(path)) => {
                if self.state.relay(&path).is_none()
                    && !self
                        .state
                        .relays
                        .configured()
                        .any(|device| *device == path.device)
                {
                    return Err(RequestError::UnknownDevice(path.device));
                }
                members()
                    .filter(|found| *found == path || (path.outlet.is_none() && found.device == path.device))
                    .collect()
            }
        };
        let cleared = self.state.clear_overrides(&paths, "by a request", self.now);
        Ok(json!({ "cleared": cleared }))
    }

    fn vacation(&mut self, wanted: Option<bool>) -> Value {
        match (wanted, self.state.vacation) {
            (Some(true), Vacation::Off) => self.state.set_vacation(Vacation::Since(self.now.wall), self.now),
            (Some(false), Vacation::Since(_)) => self.state.set_vacation(Vacation::Off, self.now),
            _ => {}
        }
        match self.state.vacation {
            Vacation::Off => json!({"vacation": false}),
            Vacation::Since(since) => json!({"vacation": true, "since": self.state.show(Some(since))}),
        }
    }
}
