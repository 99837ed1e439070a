//! What the scheduler said last, as far as it is published. Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::state::json;
use crate::domain::scheduling::{EnergyStatus, GroupStatus, OutletStatus};
use planner::{
    DeviceId, GroupId, OutletPath, ScheduleId,
    plan::Vacation,
    rules::{Group, Rules},
};

/// Rules and standings, as the scheduler told them last.
#[derive(Debug)]
pub struct StatusCache {
    rules: Arc<Rules>,
    /// Whether the rules are the scheduler's own: until then they are those of the settings, without what was
    /// changed over MQTT.
    told: bool,
    groups: BTreeMap<GroupId, Arc<GroupStatus>>,
    outlets: BTreeMap<OutletPath, Arc<OutletStatus>>,
    pub(super) vacation: Option<Vacation>,
}

impl StatusCache {
    /// Before the first word: the rules of the settings.
    pub fn new(settings: Arc<Rules>) -> Self {
        Self {
            rules: settings,
            told: false,
            groups: BTreeMap::new(),
            outlets: BTreeMap::new(),
            vacation: None,
        }
    }

    /// The rules in force.
    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// The groups that can be announced: none before the scheduler said which schedules they have.
    pub(super) fn announceable(&self) -> Vec<Group> {
        if self.told {
            self.rules.groups.clone()
        } else {
            Vec::new()
        }
    }

    /// Takes in new rules; returns the groups that are gone.
    pub(super) fn replace_rules(&mut self, rules: Arc<Rules>) -> Vec<GroupId> {
        let before = std::mem::replace(&mut self.rules, rules);
        self.told = true;
        let ids = before.groups.iter().map(|group| group.id.clone());
        let gone: Vec<GroupId> = ids.filter(|id| self.rules.group(id).is_none()).collect();
        self.groups.retain(|id, _| self.rules.group(id).is_some());
        gone
    }

    /// An outlet stands so.
    pub(super) fn set_outlet(&mut self, path: OutletPath, status: Arc<OutletStatus>) {
        self.outlets.insert(path, status);
    }

    /// A group stands so.
    pub(super) fn set_group(&mut self, group: GroupId, status: Arc<GroupStatus>) {
        self.groups.insert(group, status);
    }

    /// How an outlet stands.
    pub(super) fn outlet(&self, path: &OutletPath) -> &OutletStatus {
        const MANUAL: &OutletStatus = &OutletStatus::MANUAL;
        self.outlets.get(path).map_or(MANUAL, Arc::as_ref)
    }

    /// The outlets of a strip that stand somehow.
    pub(super) fn outlets_of(&self, strip: &DeviceId) -> impl Iterator<Item = (&OutletPath, &OutletStatus)> {
        let all = self.outlets.iter().map(|(path, status)| (path, status.as_ref()));
        all.filter(move |(path, _)| path.device == *strip && path.outlet.is_some())
    }

    /// A group's state; `None` before the scheduler told it. Every schedule that Home Assistant may know is in
    /// it, and its energy, whether the rules came first or the standing.
    pub(super) fn group_state(&self, group: &GroupId) -> Option<String> {
        let mut status = GroupStatus::clone(self.groups.get(group)?);
        let rules = self.rules.group(group)?;
        if !rules.energy.is_empty() {
            status
                .energy
                .get_or_insert_with(|| EnergyStatus::unknown(&rules.energy));
        }
        for schedule in &rules.schedules {
            let enabled = status.schedules.entry(schedule.id.clone());
            enabled.or_insert(schedule.enabled);
        }
        Some(json(&status))
    }

    /// `bridge/groups`.
    pub(super) fn list(&self) -> String {
        let entries: Vec<_> = self.rules.groups.iter().map(GroupEntry::of).collect();
        json(&entries)
    }
}

#[derive(Serialize)]
struct GroupEntry<'a> {
    id: &'a GroupId,
    name: &'a str,
    outlets: &'a [OutletPath],
    schedules: Vec<&'a ScheduleId>,
}

impl<'a> GroupEntry<'a> {
    fn of(group: &'a Group) -> Self {
        Self {
            id: &group.id,
            name: &group.name,
            outlets: &group.outlets,
            schedules: group.schedules.iter().map(|schedule| &schedule.id).collect(),
        }
    }
}
