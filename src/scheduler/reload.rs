//! Other settings, or other schedules: what is promised about a relay goes on under the new rules.

use std::{collections::BTreeMap, sync::Arc};

use planner::{
    DeviceId, Now, OutletPath, Power,
    rules::{Group, Rules},
};
use tracing::warn;

use super::{groups::GroupState, persisted::PersistedChange, relays::RelayId, state::State};
use crate::domain::scheduling::{ConfiguredDevice, SchedulerUpdate};

/// Takes rules over, at a moment.
pub(super) struct Reload<'a> {
    state: &'a mut State,
    now: Now,
}

impl<'a> Reload<'a> {
    /// At a moment.
    pub(super) fn new(state: &'a mut State, now: Now) -> Self {
        Self { state, now }
    }

    /// Takes reloaded settings over.
    pub(super) fn reload(&mut self, rules: Arc<Rules>, devices: BTreeMap<DeviceId, ConfiguredDevice>) {
        let before: Vec<DeviceId> = self.state.relays.configured().cloned().collect();
        self.state.relays.configure(devices);
        let gone: Vec<DeviceId> = before
            .into_iter()
            .filter(|device| !self.state.relays.is_configured(device))
            .collect();
        let changed = self.state.rules.reload(rules, &self.state.relays);
        self.state.report_missing();
        for device in &gone {
            self.leave_out(device);
        }
        let present: Vec<DeviceId> = self.state.relays.configured().cloned().collect();
        for device in &present {
            self.state.name_outlets(device);
        }
        let known = self.state.relays.known().clone();
        self.state.persist(PersistedChange::Devices(known));
        if let Some(before) = changed {
            self.rules_changed(&before);
        }
    }

    /// A device that is not configured any more: its names are gone, its relays keep what is promised about them.
    fn leave_out(&mut self, device: &DeviceId) {
        let names: Vec<(OutletPath, RelayId)> = self
            .state
            .names
            .extract_if(|path, _| path.device == *device)
            .collect();
        for (path, relay) in names {
            let (publisher, effects) = self.state.publishing();
            publisher.forget(&path, effects);
            if let Some(outlet) = self.state.outlets.get_mut(&relay) {
                outlet.online = false;
                outlet.power = None;
            }
            self.state.mark_subject(super::deadlines::Subject::Outlet(relay));
        }
    }

    /// Other rules are in force.
    pub(super) fn rules_changed(&mut self, before: &Rules) {
        let now = self.state.rules.in_force().clone();
        self.state.sensors.reload(before, &now);
        if now.sensors.iter().any(|spec| !before.sensors.contains(spec)) {
            // A new sensor has the time that all have after a start.
            self.state.listening_since = self.now.steady;
        }
        self.change_groups(before, &now);
        let devices: std::collections::BTreeSet<DeviceId> = now
            .groups
            .iter()
            .flat_map(|group| &group.outlets)
            .map(|path| path.device.clone())
            .collect();
        for device in devices {
            self.state.name_outlets(&device);
        }
        self.report_freed(before);
        self.state.update(SchedulerUpdate::Rules(now));
        self.state.mark_all();
        // Those that left a group are looked at once more, to publish that.
        let members = before.groups.iter().flat_map(|group| &group.outlets);
        for path in members.cloned().collect::<Vec<_>>() {
            self.state.mark(&path);
        }
    }

    fn change_groups(&mut self, before: &Rules, now: &Rules) {
        // Other holidays change days, and nothing that conditions remember.
        let place = |rules: &Rules| (rules.location.coordinates, rules.location.zone.clone());
        let moved = place(before) != place(now);
        let mut groups = std::mem::take(&mut self.state.groups);
        for group in &now.groups {
            let mut state = groups.remove(&group.id).unwrap_or_default();
            if let Some(before) = before.group(&group.id) {
                state.reload(before, group, moved);
            }
            state.energy.retain(now);
            self.state.groups.insert(group.id.clone(), state);
        }
        // What an outlet used today goes with it to its new group.
        for (_, gone) in groups {
            self.hand_over_energy(*gone, now);
        }
        let known = |id: &planner::GroupId| now.group(id).is_some();
        let (publisher, _) = self.state.publishing();
        publisher.retain_groups(known);
        let ids = now.groups.iter().map(|group| group.id.clone()).collect();
        self.state.persist(PersistedChange::Groups(ids));
    }

    fn hand_over_energy(&mut self, mut gone: GroupState, now: &Rules) {
        for group in &now.groups {
            if let Some(state) = self.state.groups.get_mut(&group.id) {
                state.energy.adopt(&mut gone.energy, &group.outlets);
            }
        }
    }

    /// One line for each outlet that no limit applies to any more though it is on.
    fn report_freed(&mut self, before: &Rules) {
        let members = before.groups.iter().flat_map(|group: &Group| &group.outlets);
        for path in members {
            let outlet = self.state.outlet(path);
            let on = outlet.is_some_and(|outlet| outlet.power == Some(Power::On));
            if on && self.state.rules.group_of(path).is_none() {
                warn!(outlet = %path, "in no group any more while it is ON: no limit applies to it");
            }
        }
    }
}
