//! What the scheduler keeps over a restart: a section of the state file.

use std::collections::BTreeMap;

use jiff::Timestamp;
use planner::{
    DeviceId, GroupId, OutletPath, Power, ScheduleId, activity::ScheduleMemory, deadline::Deadline,
    energy_limits::PersistedEnergy, holidays::WorkdaysHeard, overrides::Override, plan::Vacation,
    rules::Rules, safety::RunTime,
};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    groups::{PersistedGroup, Remembered},
    outlets::PersistedRelay,
    relays::{KnownDevice, RelayId, Relays},
    schedule_edits::ScheduleEdits,
    timers::{Timer, TimerKind},
};
use crate::{domain::off_rules::OurRules, store::Stored};

/// The section. A part that is missing is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PersistedScheduler {
    /// What is promised about each relay.
    pub relays: BTreeMap<RelayId, Stored<PersistedRelay>>,
    /// Which hardware each configured device was.
    pub devices: BTreeMap<DeviceId, KnownDevice>,
    /// What groups remember.
    pub groups: BTreeMap<GroupId, PersistedGroup>,
    /// Whether vacation is on.
    pub vacation: Vacation,
    /// Schedules changed over MQTT.
    pub schedule_changes: ScheduleEdits,
    /// What the sensor of the calendar said on the last days.
    pub workdays: WorkdaysHeard,
    /// As version 0.1.0 wrote it.
    #[serde(flatten, skip_serializing)]
    v0_1: V0_1,
}

/// One change of the section.
#[derive(Debug, Clone, PartialEq)]
pub enum PersistedChange {
    /// A relay; `None` is forgotten.
    Relay(RelayId, Option<Box<PersistedRelay>>),
    /// All devices.
    Devices(BTreeMap<DeviceId, KnownDevice>),
    /// A group.
    Group(GroupId, PersistedGroup),
    /// The groups that there are; others are forgotten.
    Groups(Vec<GroupId>),
    /// Vacation.
    Vacation(Vacation),
    /// The schedules changed over MQTT.
    Edits(ScheduleEdits),
    /// What the sensor of the calendar said on the last days.
    Workdays(WorkdaysHeard),
    /// What version 0.1.0 wrote was taken over.
    Upgraded,
}

impl PersistedScheduler {
    /// Applies a change; returns whether it changed anything.
    pub fn apply(&mut self, change: PersistedChange) -> bool {
        match change {
            PersistedChange::Relay(relay, None) => self.relays.remove(&relay).is_some(),
            PersistedChange::Relay(relay, Some(new)) => {
                replace(self.relays.entry(relay).or_default(), (*new).into())
            }
            PersistedChange::Devices(devices) => replace(&mut self.devices, devices),
            PersistedChange::Group(id, new) => replace(self.groups.entry(id).or_default(), new),
            PersistedChange::Groups(known) => {
                let before = self.groups.len();
                self.groups.retain(|id, _| known.contains(id));
                before != self.groups.len()
            }
            PersistedChange::Vacation(vacation) => replace(&mut self.vacation, vacation),
            PersistedChange::Edits(edits) => replace(&mut self.schedule_changes, edits),
            PersistedChange::Workdays(heard) => replace(&mut self.workdays, heard),
            PersistedChange::Upgraded => replace(&mut self.v0_1, V0_1::default()),
        }
    }

    /// It is a backup that was taken over: nobody has seen since what its runs became.
    pub fn mark_from_backup(&mut self) {
        for relay in self.relays.values_mut() {
            relay.change(|relay| relay.run.mark_from_backup());
        }
    }

    /// What version 0.1.0 kept by name, under relays that are identified when their devices are reached.
    #[must_use]
    pub fn upgraded(mut self, settings: &Rules, relays: &Relays) -> Self {
        let old = std::mem::take(&mut self.v0_1);
        for (path, found) in old.overrides {
            self.set(relays, path, |relay| relay.overridden = Some(found));
        }
        for (path, run) in old.safety {
            self.set(relays, path, |relay| relay.run = run);
        }
        for (path, timer) in old.timers {
            self.set(relays, path, |relay| relay.timer = Some(timer.into()));
        }
        for (path, ours) in old.mirrored {
            self.set(relays, path, |relay| relay.off_rules = ours);
        }
        for remembered in old.memory {
            let group = self.groups.entry(remembered.group).or_default();
            let (at, memory) = (remembered.at, remembered.memory);
            group
                .memory
                .insert(remembered.schedule, Remembered { at, memory });
        }
        if old.energy != PersistedEnergy::default() {
            for group in settings.groups.iter().filter(|group| !group.energy.is_empty()) {
                let of_group = self.groups.entry(group.id.clone()).or_default();
                of_group.energy = old.energy.only(group);
            }
        }
        self
    }

    fn set(&mut self, relays: &Relays, path: OutletPath, change: impl FnOnce(&mut PersistedRelay)) {
        let Some(relay) = relays.resolve(&path) else {
            return warn!(outlet = %path, "not in the settings any more: what was kept about it is dropped");
        };
        let entry = self.relays.entry(relay).or_default();
        entry.change(|relay| {
            relay.name.get_or_insert(path);
            change(relay);
        });
    }
}

fn replace<T: PartialEq>(slot: &mut T, new: T) -> bool {
    let changed = *slot != new;
    *slot = new;
    changed
}

/// The section as version 0.1.0 wrote it: by name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct V0_1 {
    overrides: BTreeMap<OutletPath, Override>,
    safety: BTreeMap<OutletPath, RunTime>,
    timers: BTreeMap<OutletPath, TimerV0_1>,
    mirrored: BTreeMap<OutletPath, OurRules>,
    memory: Vec<RememberedV0_1>,
    energy: PersistedEnergy,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct TimerV0_1 {
    set_at: Timestamp,
    #[serde(alias = "off_at")]
    at: Timestamp,
    #[serde(default = "off")]
    to: Power,
}

fn off() -> Power {
    Power::Off
}

impl From<TimerV0_1> for Timer {
    fn from(old: TimerV0_1) -> Self {
        let seconds = old.at.duration_since(old.set_at).as_secs();
        Self {
            set_at: old.set_at,
            // It was kept on the wall clock.
            ends: Deadline::Wall(old.at),
            seconds: u32::try_from(seconds).unwrap_or_default(),
            to: old.to,
            kind: match old.to {
                Power::Off => TimerKind::Countdown,
                Power::On => TimerKind::Timed,
            },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct RememberedV0_1 {
    group: GroupId,
    schedule: ScheduleId,
    at: Timestamp,
    memory: ScheduleMemory,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::scheduling::ConfiguredDevice;
    use planner::testing::{Site, group};

    /// As version 0.1.0 wrote it.
    const OLD: &str = r#"{
        "overrides": {"mats/1": {"stance": "on", "set_at": "2024-06-21T08:00:00Z", "ends": "at_edge", "origin": "device"}},
        "vacation": {"since": "2024-06-21T08:00:00Z"},
        "safety": {"mats/1": {"on_since": "2024-06-21T08:00:00Z"}, "mats/left": {"on_since": "2024-06-21T08:00:00Z"}},
        "timers": {"lamp": {"set_at": "2024-06-21T08:00:00Z", "off_at": "2024-06-21T09:00:00Z"}},
        "armed": {"lamp": {"asked": "2024-06-21T09:00:00Z"}},
        "schedule_changes": {"driveway": {"noon": {"set": {"id": "noon", "start": "12:00", "for": "1h"}}, "old": "removed"}},
        "memory": [{"group": "driveway", "schedule": "noon", "at": "2024-06-21T08:00:00Z", "memory": {"was": "active"}}]
    }"#;

    #[test]
    fn what_0_1_0_kept_by_name_goes_on_under_relays() {
        let old: PersistedScheduler = serde_json::from_str(OLD).unwrap();
        let rules = Site::new(group(Vec::new()), "UTC").rules;
        // Named outlets have their positions, so none is taken for another before the strip is reached.
        let mats = ConfiguredDevice {
            outlets: [("left".parse().unwrap(), 2)].into(),
            ..ConfiguredDevice::default()
        };
        let configured = [
            ("mats".parse().unwrap(), mats),
            ("lamp".parse().unwrap(), ConfiguredDevice::default()),
        ];
        let new = old.upgraded(&rules, &Relays::new(configured.into(), BTreeMap::new()));
        let relay = |text: &str| &new.relays[&text.parse().unwrap()];
        assert!(relay("?mats/1").overridden.is_some() && relay("?mats/1").run.on_since().is_some());
        assert!(relay("?mats/2").overridden.is_none() && relay("?mats/2").run.on_since().is_some());
        let timer = relay("?lamp/1").timer.unwrap();
        assert_eq!((timer.to, timer.seconds), (Power::Off, 3600));
        assert!(matches!(new.vacation, Vacation::Since(_)));
        let driveway: GroupId = "driveway".parse().unwrap();
        assert_eq!(new.schedule_changes[&driveway].len(), 2);
        assert_eq!(new.groups[&driveway].memory.len(), 1);
        // Written again, it is in the new form and reads back.
        let text = serde_json::to_string(&new).unwrap();
        assert!(!text.contains("safety"), "{text}");
        assert_eq!(serde_json::from_str::<PersistedScheduler>(&text).unwrap(), new);
    }
}
