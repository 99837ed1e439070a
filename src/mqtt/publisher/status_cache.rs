//! The last status of each outlet and group. Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::state::json;
use crate::domain::{
    heating::HeatingStatus,
    scheduling::{EnergyStatus, GroupStatus, OutletStatus},
};
use planner::{
    DeviceId, GroupId, OutletPath, ScheduleId,
    edge::Edge,
    plan::Vacation,
    rules::{Group, Rules, Schedule},
};

/// The rules, and the status of outlets and groups, as the scheduler sent them last.
#[derive(Debug)]
pub struct StatusCache {
    rules: Arc<Rules>,
    /// Whether the rules are from the scheduler. Until then they are those of the settings, without what was
    /// changed over MQTT.
    from_scheduler: bool,
    groups: BTreeMap<GroupId, Arc<GroupStatus>>,
    outlets: BTreeMap<OutletPath, Arc<OutletStatus>>,
    pub(super) vacation: Option<Vacation>,
    /// What is wrong with members of groups that their devices do not have.
    pub(super) missing: BTreeMap<DeviceId, String>,
}

impl StatusCache {
    /// Starts with the rules of the settings.
    pub fn new(settings: Arc<Rules>) -> Self {
        Self {
            rules: settings,
            from_scheduler: false,
            groups: BTreeMap::new(),
            outlets: BTreeMap::new(),
            vacation: None,
            missing: BTreeMap::new(),
        }
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// The groups that can be announced: none before the scheduler sent which schedules they have.
    pub(crate) fn announceable(&self) -> Vec<Group> {
        if self.from_scheduler {
            self.rules.groups.clone()
        } else {
            Vec::new()
        }
    }

    /// Replaces the rules; returns the groups that are gone.
    pub(crate) fn replace_rules(&mut self, rules: Arc<Rules>) -> Vec<GroupId> {
        let before = std::mem::replace(&mut self.rules, rules);
        self.from_scheduler = true;
        let ids = before.groups.iter().map(|group| group.id.clone());
        let gone: Vec<GroupId> = ids.filter(|id| self.rules.group(id).is_none()).collect();
        self.groups.retain(|id, _| self.rules.group(id).is_some());
        gone
    }

    /// Replaces the status of an outlet.
    pub(crate) fn set_outlet(&mut self, path: OutletPath, status: Arc<OutletStatus>) {
        self.outlets.insert(path, status);
    }

    /// Replaces the status of a group.
    pub(crate) fn set_group(&mut self, group: GroupId, status: Arc<GroupStatus>) {
        self.groups.insert(group, status);
    }

    /// The status of an outlet.
    pub(crate) fn outlet(&self, path: &OutletPath) -> &OutletStatus {
        const MANUAL: &OutletStatus = &OutletStatus::MANUAL;
        self.outlets.get(path).map_or(MANUAL, Arc::as_ref)
    }

    /// Forgets the outlets of a device that is not configured any more.
    pub(crate) fn remove_device(&mut self, device: &DeviceId) {
        self.outlets.retain(|path, _| path.device != *device);
    }

    /// The outlets of a strip that are members of groups.
    pub(crate) fn members_of(&self, strip: &DeviceId) -> impl Iterator<Item = OutletPath> {
        let members = self.rules.groups.iter().flat_map(|group| &group.outlets);
        members
            .filter(move |path| path.device == *strip && path.outlet.is_some())
            .cloned()
    }

    /// A group's state; `None` before the scheduler sent it. It has every schedule that Home Assistant may know, and
    /// its energy, whether the rules came first or the status.
    pub(crate) fn group_state(&self, group: &GroupId) -> Option<String> {
        let mut status = GroupStatus::clone(self.groups.get(group)?);
        let rules = self.rules.group(group)?;
        if !rules.energy.is_empty() {
            status
                .energy
                .get_or_insert_with(|| EnergyStatus::unknown(&rules.energy));
        }
        status.thermostat = rules.thermostat.as_ref().map(|thermostat| {
            let known = status.thermostat;
            known.unwrap_or_else(|| HeatingStatus::unknown(thermostat.target.scale()))
        });
        for schedule in &rules.schedules {
            let enabled = status.schedules.entry(schedule.id.clone());
            enabled.or_insert(schedule.enabled);
        }
        let editable = rules.schedules.iter().filter(|schedule| schedule.editable);
        Some(json(&GroupPayload {
            status: &status,
            schedule_times: editable
                .map(|schedule| (&schedule.id, ScheduleTimes::of(schedule)))
                .collect(),
        }))
    }

    /// `bridge/groups`.
    pub(crate) fn list(&self) -> String {
        let entries: Vec<_> = self.rules.groups.iter().map(GroupEntry::of).collect();
        json(&entries)
    }
}

#[derive(Serialize)]
struct GroupPayload<'a> {
    #[serde(flatten)]
    status: &'a GroupStatus,
    /// Of the schedules that can be edited.
    schedule_times: BTreeMap<&'a ScheduleId, ScheduleTimes>,
}

/// When the windows of a schedule start and end, as in its definition.
#[derive(Serialize)]
struct ScheduleTimes {
    start: Option<String>,
    end: Option<String>,
}

impl ScheduleTimes {
    fn of(schedule: &Schedule) -> Self {
        let time = |edge: Option<Edge>| edge.map(|edge| edge.time().to_string());
        Self {
            start: time(schedule.window.start()),
            end: time(schedule.window.end()),
        }
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
