//! The coming switch times, computed on a copy of what the scheduler knows: a month of short schedules takes longer than
//! a command may wait.

use std::{collections::BTreeMap, sync::Arc};

use jiff::SignedDuration;
use planner::{
    GroupId, Now, Steady,
    forecast::{PlannedChange, forecast},
    period::after,
    plan::Vacation,
    readings::Readings,
    rules::Rules,
};
use serde_json::{Value, json};

use super::{
    groups::{GroupState, Members, Site},
    state::{State, rfc3339},
};
use crate::domain::scheduling::RequestError;

/// Changes on one page of the answer.
const PER_PAGE: usize = 500;
/// Changes of one group that are computed at most.
const MOST_CHANGES: usize = 20_000;

/// What a plan is computed from.
#[derive(Debug)]
pub struct PlanRequest {
    rules: Arc<Rules>,
    groups: Vec<(GroupId, Members, GroupState)>,
    vacation: Vacation,
    readings: Readings,
    started: Steady,
    listening_since: Steady,
    now: Now,
    days: u8,
    page: u32,
}

impl PlanRequest {
    /// Copies what the plan of one group, or of all, depends on.
    ///
    /// # Errors
    /// There is no such group.
    pub fn new(
        state: &State,
        group: Option<&GroupId>,
        days: u8,
        page: u32,
        now: Now,
    ) -> Result<Self, RequestError> {
        let rules = state.rules.in_force().clone();
        let wanted: Vec<_> = match group {
            Some(id) => vec![
                rules
                    .group(id)
                    .ok_or_else(|| RequestError::UnknownGroup(id.clone()))?,
            ],
            None => rules.groups.iter().collect(),
        };
        let copy = |group: &&planner::rules::Group| {
            let known = state.groups.get(&group.id)?;
            Some((group.id.clone(), state.members(group), known.for_forecast()))
        };
        Ok(Self {
            groups: wanted.iter().filter_map(copy).collect(),
            rules: rules.clone(),
            vacation: state.vacation,
            readings: state.sensors.readings().clone(),
            started: state.started,
            listening_since: state.listening_since,
            now,
            days: days.clamp(1, 31),
            page: page.max(1),
        })
    }

    /// Computes the answer. It may take seconds.
    pub fn compute(&self) -> Value {
        let until = after(
            self.now.wall,
            SignedDuration::from_hours(24 * i64::from(self.days)),
        );
        let site = Site {
            rules: &self.rules,
            vacation: self.vacation,
            readings: &self.readings,
            started: self.started,
            listening_since: self.listening_since,
            now: self.now,
        };
        let mut all: Vec<(&GroupId, PlannedChange)> = Vec::new();
        let mut truncated = false;
        for (id, members, state) in &self.groups {
            let mut changes = forecast(&members.inputs(site, state), id, until);
            truncated |= changes.len() > MOST_CHANGES;
            changes.truncate(MOST_CHANGES);
            all.extend(changes.into_iter().map(|change| (id, change)));
        }
        let pages = all.len().div_ceil(PER_PAGE).max(1);
        let first = usize::try_from(self.page - 1)
            .unwrap_or(usize::MAX)
            .saturating_mul(PER_PAGE);
        let mut groups: BTreeMap<&GroupId, Vec<Value>> = BTreeMap::new();
        for (id, change) in all.iter().skip(first).take(PER_PAGE) {
            groups.entry(id).or_default().push(self.show(change));
        }
        let of_group = |(id, _, _): &(GroupId, Members, GroupState)| {
            let changes = groups.get(id).cloned().unwrap_or_default();
            json!({"group": id, "changes": changes})
        };
        let groups: Vec<Value> = self.groups.iter().map(of_group).collect();
        json!({
            "until": rfc3339(until, &self.rules.location.zone),
            "page": self.page,
            "pages": pages,
            "truncated": truncated,
            "groups": groups,
        })
    }

    fn show(&self, change: &PlannedChange) -> Value {
        json!({
            "at": rfc3339(change.at, &self.rules.location.zone),
            "outlets": change.outlets,
            "state": change.power,
            "source": change.source,
            "rule": change.rule.as_ref().map(ToString::to_string),
            "reason": change.reason,
        })
    }
}
