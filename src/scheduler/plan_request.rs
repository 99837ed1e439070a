//! The coming switch times and windows, computed on a copy of what the scheduler knows: a month of short schedules takes
//! longer than a command may wait. With a draft, of a group that has it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Span, Timestamp, civil::Date};
use planner::{
    GroupId, Now, OutletPath, ScheduleId, Steady,
    edge::SunEvent,
    forecast::{PlannedChange, Timers, forecast},
    period::after,
    plan::Vacation,
    readings::Readings,
    rules::{Group, Rules},
    schedule_warning::ScheduleWarning,
    setpoint::Setpoint,
    sun,
    windows::PlannedWindow,
};
use serde_json::{Value, json};

use super::{
    groups::{GroupState, Members, Site},
    schedule_edits::ScheduleEdit,
    state::{State, rfc3339},
};
use crate::domain::scheduling::RequestError;

/// Changes, and windows, on one page of the answer.
const PER_PAGE: usize = 500;
/// Changes of one group that are computed at most.
const MOST_CHANGES: usize = 20_000;

/// What a plan is computed from.
#[derive(Debug)]
pub struct PlanRequest {
    rules: Arc<Rules>,
    groups: Vec<PlannedGroup>,
    /// The group as it is, where `groups` is that with a draft.
    before: Option<(Arc<Rules>, PlannedGroup)>,
    /// The schedule that the draft adds or replaces.
    draft: Option<ScheduleId>,
    vacation: Vacation,
    readings: Readings,
    started: Steady,
    listening_since: Steady,
    now: Now,
    days: u8,
    page: u32,
}

/// A group, and what its plan depends on.
#[derive(Debug)]
struct PlannedGroup {
    id: GroupId,
    members: Members,
    timers: Timers,
    state: GroupState,
}

impl PlannedGroup {
    fn new(state: &State, group: &Group, now: Now) -> Option<Self> {
        let timer = |path: &OutletPath| {
            let timer = state.outlet(path)?.timer?;
            Some((path.clone(), (timer.ends.wall(now), timer.to)))
        };
        Some(Self {
            id: group.id.clone(),
            members: state.members(group),
            timers: group.outlets.iter().filter_map(timer).collect(),
            state: state.groups.get(&group.id)?.for_forecast(),
        })
    }
}

impl PlanRequest {
    /// Copies what the plan of one group, or of all, depends on. A draft is of one group: a schedule with its change, or
    /// `None` where it is as in the settings.
    ///
    /// # Errors
    /// There is no such group.
    pub fn new(
        state: &State,
        group: Option<&GroupId>,
        draft: Option<(ScheduleId, Option<ScheduleEdit>)>,
        days: u8,
        page: u32,
        now: Now,
    ) -> Result<Self, RequestError> {
        let rules = state.rules.in_force().clone();
        let wanted: Vec<&Group> = match group {
            Some(id) => vec![
                rules
                    .group(id)
                    .ok_or_else(|| RequestError::UnknownGroup(id.clone()))?,
            ],
            None => rules.groups.iter().collect(),
        };
        let groups = wanted
            .iter()
            .filter_map(|group| PlannedGroup::new(state, group, now))
            .collect();
        let mut request = Self {
            groups,
            rules: rules.clone(),
            before: None,
            draft: None,
            vacation: state.vacation,
            readings: state.sensors.readings().clone(),
            started: state.started,
            listening_since: state.listening_since,
            now,
            days: days.clamp(1, 31),
            page: page.max(1),
        };
        if let (Some(draft), [group]) = (draft, wanted.as_slice()) {
            request.take_draft(state, group, draft);
        }
        Ok(request)
    }

    /// Does to the copy what the change would do to the bridge.
    fn take_draft(
        &mut self,
        state: &State,
        before: &Group,
        (schedule, edit): (ScheduleId, Option<ScheduleEdit>),
    ) {
        let Some(group) = state.rules.drafted(&before.id, &schedule, edit) else {
            return;
        };
        let Some(mut drafted) = PlannedGroup::new(state, &group, self.now) else {
            return;
        };
        drafted.state.reload(before, &group, false);
        if group.is_scheduled() {
            for path in &group.outlets {
                if let Some(found) = state.outlet(path).and_then(|outlet| outlet.timed(self.now)) {
                    drafted.timers.remove(path);
                    drafted.members.hold(path.clone(), found);
                }
            }
        }
        self.draft = group
            .schedules
            .iter()
            .any(|known| known.id == schedule)
            .then_some(schedule);
        let rules = Arc::new(Rules {
            location: self.rules.location.clone(),
            sensors: self.rules.sensors.clone(),
            groups: vec![group],
        });
        let rules = std::mem::replace(&mut self.rules, rules);
        let groups = std::mem::replace(&mut self.groups, vec![drafted]);
        self.before = groups.into_iter().next().map(|group| (rules, group));
    }

    /// Computes the answer. It may take seconds.
    pub fn compute(&self) -> Value {
        let zone = &self.rules.location.zone;
        let until = after(
            self.now.wall,
            SignedDuration::from_hours(24 * i64::from(self.days)),
        );
        let today = zone.to_datetime(self.now.wall).date();
        let midnight = today
            .to_zoned_datetime(zone.clone())
            .map_or(self.now.wall, |day| day.timestamp());
        let mut changes: Vec<(&GroupId, PlannedChange)> = Vec::new();
        let mut windows: Vec<(&GroupId, PlannedWindow)> = Vec::new();
        let mut truncated = false;
        for group in &self.groups {
            let mut of_group = forecast(
                &group.members.inputs(self.site(&self.rules), &group.state),
                &group.id,
                &group.timers,
                until,
            );
            truncated |= of_group.len() > MOST_CHANGES;
            of_group.truncate(MOST_CHANGES);
            changes.extend(of_group.into_iter().map(|change| (&group.id, change)));
            if let Some(rules) = self.rules.group(&group.id) {
                let location = &self.rules.location;
                let of_group = PlannedWindow::of(rules, location, self.vacation, midnight, until);
                windows.extend(of_group.into_iter().map(|window| (&group.id, window)));
            }
        }
        let pages = changes.len().max(windows.len()).div_ceil(PER_PAGE).max(1);
        let changes = self.page(&changes, |change| self.show(change));
        let windows = self.page(&windows, |window| self.show_window(window));
        let of = |all: &BTreeMap<&GroupId, Vec<Value>>, id| all.get(id).cloned().unwrap_or_default();
        let groups = self.groups.iter().map(|PlannedGroup { id, .. }| {
            json!({"group": id, "changes": of(&changes, id), "windows": of(&windows, id)})
        });
        let mut answer = json!({
            "until": rfc3339(until, zone),
            "page": self.page,
            "pages": pages,
            "truncated": truncated,
            "sun": self.sun(today),
            "groups": groups.collect::<Vec<_>>(),
        });
        if let (Some((rules, before)), Some(group), Value::Object(keys)) =
            (&self.before, self.groups.first(), &mut answer)
        {
            keys.insert("warnings".to_owned(), json!(self.warnings(group)));
            let effect = self.effect(rules, before, group);
            keys.insert("effect".to_owned(), Value::Array(effect));
        }
        answer
    }

    /// What is on the page that was asked for.
    fn page<'a, T>(
        &self,
        all: &[(&'a GroupId, T)],
        show: impl Fn(&T) -> Value,
    ) -> BTreeMap<&'a GroupId, Vec<Value>> {
        let first = usize::try_from(self.page - 1)
            .unwrap_or(usize::MAX)
            .saturating_mul(PER_PAGE);
        let mut groups: BTreeMap<&GroupId, Vec<Value>> = BTreeMap::new();
        for (id, item) in all.iter().skip(first).take(PER_PAGE) {
            groups.entry(*id).or_default().push(show(item));
        }
        groups
    }

    fn site<'a>(&'a self, rules: &'a Rules) -> Site<'a> {
        Site {
            rules,
            vacation: self.vacation,
            readings: &self.readings,
            started: self.started,
            listening_since: self.listening_since,
            now: self.now,
        }
    }

    fn warnings(&self, group: &PlannedGroup) -> Vec<ScheduleWarning> {
        let rules = self.rules.group(&group.id);
        let drafted = rules.and_then(|rules| {
            let id = self.draft.as_ref()?;
            let schedule = rules.schedules.iter().find(|schedule| schedule.id == *id)?;
            // One that is disabled has no windows.
            schedule.enabled.then_some((rules, schedule))
        });
        let inputs = group.members.inputs(self.site(&self.rules), &group.state);
        drafted.map_or_else(Vec::new, |(rules, schedule)| {
            ScheduleWarning::find(&inputs, rules, schedule)
        })
    }

    /// What the draft switches at once, and what is not switched anyway.
    fn effect(&self, rules: &Rules, before: &PlannedGroup, group: &PlannedGroup) -> Vec<Value> {
        let due = |rules, group: &PlannedGroup| {
            let inputs = group.members.inputs(self.site(rules), &group.state);
            forecast(&inputs, &group.id, &group.timers, self.now.wall)
        };
        let anyway = due(rules, before);
        let mut changes = due(&self.rules, group);
        for change in &mut changes {
            let power = change.power;
            change.outlets.retain(|outlet| {
                let same = |other: &PlannedChange| other.power == power && other.outlets.contains(outlet);
                !anyway.iter().any(same)
            });
        }
        changes.retain(|change| !change.outlets.is_empty());
        changes.iter().map(|change| self.show(change)).collect()
    }

    /// Sunrise and sunset of each day, if it is known where.
    fn sun(&self, today: Date) -> Vec<Value> {
        let location = &self.rules.location;
        let Some(coordinates) = location.coordinates else {
            return Vec::new();
        };
        let days = today.series(Span::new().days(1)).take(usize::from(self.days));
        let show = |date: Date| {
            let event = |event| {
                let at = sun::event(event, date, coordinates, &location.zone);
                at.map(|at| rfc3339(at, &location.zone))
            };
            json!({"date": date, "sunrise": event(SunEvent::Sunrise), "sunset": event(SunEvent::Sunset)})
        };
        days.map(show).collect()
    }

    fn show_window(&self, window: &PlannedWindow) -> Value {
        let at = |at: Timestamp| rfc3339(at, &self.rules.location.zone);
        json!({
            "schedule": window.schedule,
            "from": at(window.from),
            "to": at(window.to),
            "conditional": window.conditional,
            "suspended": window.suspended,
        })
    }

    fn show(&self, change: &PlannedChange) -> Value {
        let mut shown = json!({
            "at": rfc3339(change.at, &self.rules.location.zone),
            "outlets": change.outlets,
            "state": change.power,
            "source": change.source,
            "rule": change.rule.as_ref().map(ToString::to_string),
            "reason": change.reason,
        });
        if let (Some(goal), Value::Object(keys)) = (change.goal, &mut shown) {
            keys.insert("target".to_owned(), json!(goal.target().map(Setpoint::degrees)));
        }
        shown
    }
}
