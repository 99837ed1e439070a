//! What the scheduler keeps over a restart: UTC instants, entries by name.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{book::Book, layers::Changes, timer::Timer};
use crate::domain::off_rules::OurRules;
use planner::{
    GroupId, OutletPath, ScheduleId, activity::ScheduleMemory, energy_limits::PersistedEnergy,
    overrides::Overrides, plan::Vacation, rules::Rules, safety::Safety,
};

/// The scheduler's part of the state file. A part that is missing is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PersistedScheduler {
    /// What people want instead of the schedules.
    pub overrides: Overrides,
    /// Whether nobody is at home.
    pub vacation: Vacation,
    /// What the outlets have run.
    pub safety: Safety,
    /// What they used, where rules ask for that.
    pub energy: PersistedEnergy,
    /// Timed ONs, timed OFFs and countdowns.
    pub timers: BTreeMap<OutletPath, Timer>,
    /// The schedule rules on plugs that are ours.
    pub mirrored: BTreeMap<OutletPath, OurRules>,
    /// Schedules changed over MQTT.
    pub schedule_changes: Changes,
    /// What schedules remember of their sensors.
    pub memory: Vec<Remembered>,
}

/// What one schedule remembered, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Its group.
    pub group: GroupId,
    /// The schedule.
    pub schedule: ScheduleId,
    /// When it became so.
    pub at: Timestamp,
    /// What it remembered.
    pub memory: ScheduleMemory,
}

impl PersistedScheduler {
    /// Leaves out what the settings do not have any more; says so, once each.
    pub(super) fn for_rules(mut self, rules: &Rules) -> Self {
        let known = |outlet: &OutletPath| rules.group_of(outlet).is_some();
        let gone: Vec<OutletPath> = self
            .overrides
            .iter()
            .map(|(outlet, _)| outlet)
            .chain(self.safety.outlets())
            .filter(|outlet| !known(outlet))
            .cloned()
            .collect();
        for outlet in gone {
            warn!(%outlet, "in no group any more; what was kept about it is dropped");
            self.overrides.clear(&outlet);
        }
        self.safety.retain(known);
        self
    }

    /// What is to be kept now. An override or a timer that no device confirmed yet is not: a command that failed must
    /// not come back with the next start.
    pub(super) fn of(book: &Book, settled: (Overrides, BTreeMap<OutletPath, Timer>)) -> Self {
        let (overrides, timers) = settled;
        Self {
            overrides,
            vacation: book.vacation,
            safety: book.safety.clone(),
            energy: book.rations.kept(),
            timers,
            mirrored: book.mirrored.clone(),
            schedule_changes: book.changes.clone(),
            memory: book.remembered(),
        }
    }
}
