//! The settings were read again: other rules, devices that are gone. What stays the same does not notice.

use std::{collections::BTreeSet, sync::Arc};

use tracing::info;

use super::{Look, Scheduler};
use crate::domain::{
    report::DeviceReport,
    scheduling::{ReloadedRules, SchedulerUpdate},
};
use planner::{
    DeviceId, OutletPath,
    rules::{Group, Rules},
    sensor::SensorSpec,
};

impl Scheduler {
    /// Takes other settings into force. What was changed over MQTT stays on top of them; what is known of outlets
    /// that stay in a group stays too.
    pub(super) fn reload(&mut self, rewritten: ReloadedRules, look: Look) {
        let ReloadedRules { rules, devices } = rewritten;
        let devices = devices.into_keys().collect();
        self.leave_out(&devices);
        let before = self.book.rules.clone();
        self.book.resettle(rules);
        let rules = self.book.rules.clone();
        if before == rules {
            return;
        }
        self.drop_outside(&rules);
        self.forget_schedules(&before, &rules);
        self.forget_sensors(&before, &rules, look);
        for path in rules.groups.iter().flat_map(|group| &group.outlets) {
            self.live.entry(path.clone()).or_default();
        }
        self.telling.resettle(&rules);
        self.telling.say(SchedulerUpdate::Rules(rules.clone()));
        self.hear_members_again(&before, &rules);
    }

    /// Devices that are configured no longer.
    fn leave_out(&mut self, configured: &BTreeSet<DeviceId>) {
        let known = self.live.keys().chain(self.book.timers.keys());
        let known = known.map(|path| &path.device).chain(self.devices.keys());
        self.removed.extend(known.cloned());
        self.removed.retain(|device| !configured.contains(device));
        let gone = &self.removed;
        // An intent in flight is answered by its worker's end, and needs none of this.
        self.live.retain(|path, _| !gone.contains(&path.device));
        self.book.timers.retain(|path, _| !gone.contains(&path.device));
        self.devices.retain(|device, _| !gone.contains(device));
        self.reports.retain(|device, _| !gone.contains(device));
    }

    /// What is kept of outlets that are in no group any more.
    fn drop_outside(&mut self, rules: &Rules) {
        let known = |outlet: &OutletPath| rules.group_of(outlet).is_some();
        let overridden = self.book.overrides.iter().map(|(outlet, _)| outlet);
        let gone: Vec<OutletPath> = overridden.filter(|outlet| !known(outlet)).cloned().collect();
        for outlet in gone {
            info!(%outlet, "in no group any more; its override is dropped");
            self.book.overrides.clear(&outlet);
        }
        self.book.safety.retain(known);
        self.book.rations.retain(rules);
    }

    /// What changed schedules remember says nothing about the new ones.
    fn forget_schedules(&mut self, before: &Rules, now: &Rules) {
        for group in &before.groups {
            for schedule in &group.schedules {
                let same = now
                    .group(&group.id)
                    .is_some_and(|group| group.schedules.contains(schedule));
                if !same || before.location != now.location {
                    self.book.forget(&group.id, &schedule.id);
                }
            }
        }
    }

    /// A sensor that is new has the time to speak that all have after a start.
    fn forget_sensors(&mut self, before: &Rules, now: &Rules, look: Look) {
        let gone = |spec: &&SensorSpec| !now.sensors.contains(spec);
        for spec in before.sensors.iter().filter(gone) {
            self.book.readings.forget(&spec.id);
            self.watch.forget(&spec.id);
        }
        if now.sensors.iter().any(|spec| !before.sensors.contains(spec)) {
            self.book.listening_since = look.now;
        }
    }

    /// Devices report on change only, so what those with a new member said last is heard once more: a limit counts
    /// from now on.
    fn hear_members_again(&mut self, before: &Rules, now: &Rules) {
        let members = now.groups.iter().flat_map(|group: &Group| &group.outlets);
        let new = members.filter(|path| before.group_of(path).is_none());
        let devices: BTreeSet<&DeviceId> = new.map(|path| &path.device).collect();
        let reports: Vec<Arc<DeviceReport>> = devices
            .into_iter()
            .filter_map(|device| self.reports.get(device).cloned())
            .collect();
        for report in reports {
            self.hear(&report);
        }
    }
}
