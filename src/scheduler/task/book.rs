//! What decides: rules, overrides, accounts, sensors, timers; and the plan made of them.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{
    kept::{PersistedScheduler, Remembered},
    layers::{self, Changes},
    timer::Timer,
};
use crate::domain::off_rules::OurRules;
use planner::{
    GroupId, OutletPath, Power, ScheduleId,
    activity::{Conditions, ScheduleMemory},
    energy_limits::EnergyLimits,
    interlock::InterlockOwners,
    overrides::{OverrideState, Overrides},
    plan::{Inputs, Memory, Plan, Vacation, plan, plan_group},
    readings::Readings,
    rules::{Group, Rules},
    safety::Safety,
};

type Memories = BTreeMap<(GroupId, ScheduleId), (Timestamp, ScheduleMemory)>;

/// Everything a decision depends on but the outlets themselves.
#[derive(Debug)]
pub(super) struct Book {
    /// As people wrote them down.
    settings: Arc<Rules>,
    /// With what was changed over MQTT.
    pub(super) rules: Arc<Rules>,
    pub(super) changes: Changes,
    pub(super) overrides: Overrides,
    pub(super) vacation: Vacation,
    pub(super) safety: Safety,
    pub(super) rations: EnergyLimits,
    pub(super) readings: Readings,
    pub(super) memory: Memory,
    memories: Memories,
    pub(super) timers: BTreeMap<OutletPath, Timer>,
    /// The schedule rules on plugs that are ours.
    pub(super) mirrored: BTreeMap<OutletPath, OurRules>,
    /// Who holds the interlocks.
    pub(super) holders: InterlockOwners,
    pub(super) booted_at: Timestamp,
    /// Since when all sensors are listened to.
    pub(super) listening_since: Timestamp,
    pub(super) plan: Plan,
}

/// Who switches an outlet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keeping<'a> {
    /// A group it belongs to.
    Member,
    /// A group has the whole device.
    Part(&'a Group),
    /// Nobody.
    Free,
}

impl Book {
    pub(super) fn open(settings: Arc<Rules>, kept: PersistedScheduler, now: Timestamp) -> Self {
        let changes = layers::fitting(&settings, kept.schedule_changes.clone());
        let rules = Arc::new(layers::apply(&settings, &changes));
        let kept = kept.for_rules(&rules);
        let rations = EnergyLimits::recall(kept.energy, &rules);
        let mut book = Self {
            settings,
            rules,
            changes,
            overrides: kept.overrides,
            vacation: kept.vacation,
            safety: kept.safety,
            rations,
            readings: Readings::default(),
            memory: Memory::default(),
            memories: Memories::new(),
            timers: kept.timers,
            mirrored: kept.mirrored,
            holders: InterlockOwners::default(),
            booted_at: now,
            listening_since: now,
            plan: Plan::default(),
        };
        for remembered in kept.memory {
            book.recall(remembered, now);
        }
        book
    }

    /// What a schedule remembered counts only while the same window is open.
    fn recall(&mut self, remembered: Remembered, now: Timestamp) {
        let Remembered {
            group,
            schedule,
            at,
            memory,
        } = remembered;
        let found = self
            .rules
            .group(&group)
            .and_then(|group| group.schedules.iter().find(|known| known.id == schedule));
        let Some(found) = found else { return };
        let edge = found.calendar(&self.rules.location).next_edge(at);
        if edge.is_none_or(|edge| edge > now) {
            self.memory
                .recall(group.clone(), schedule.clone(), memory.clone());
            self.memories.insert((group, schedule), (at, memory));
        }
    }

    pub(super) fn inputs<'a>(
        &'a self,
        observed: &'a BTreeMap<OutletPath, Power>,
        now: Timestamp,
    ) -> Inputs<'a> {
        Inputs {
            rules: &self.rules,
            overrides: &self.overrides,
            vacation: self.vacation,
            safety: &self.safety,
            rations: &self.rations,
            readings: &self.readings,
            memory: &self.memory,
            observed,
            holders: &self.holders,
            conditions: Conditions::Asked,
            booted_at: self.booted_at,
            listening_since: self.listening_since,
            now,
        }
    }

    /// Asks the planner.
    pub(super) fn replan(&mut self, observed: &BTreeMap<OutletPath, Power>, now: Timestamp) {
        self.plan = plan(&self.inputs(observed, now));
        self.memory = self.plan.memory.clone();
        for (key, memory) in self.memory.iter() {
            let known = self.memories.get(key);
            if known.is_none_or(|(_, known)| known != memory) {
                self.memories.insert(key.clone(), (now, memory.clone()));
            }
        }
    }

    /// What schedules remember, for the next start.
    pub(super) fn remembered(&self) -> Vec<Remembered> {
        let each = self.memories.iter().filter(|((group, schedule), _)| {
            let group = self.rules.group(group);
            group.is_some_and(|group| group.schedules.iter().any(|known| known.id == *schedule))
        });
        each.map(|((group, schedule), (at, memory))| Remembered {
            group: group.clone(),
            schedule: schedule.clone(),
            at: *at,
            memory: memory.clone(),
        })
        .collect()
    }

    /// Takes changed schedules into force.
    pub(super) fn relayer(&mut self, changes: Changes) {
        self.rules = Arc::new(layers::apply(&self.settings, &changes));
        self.changes = changes;
    }

    /// Takes changed settings into force; what was changed over MQTT stays on top of them.
    pub(super) fn resettle(&mut self, settings: Arc<Rules>) {
        let changes = layers::fitting(&settings, std::mem::take(&mut self.changes));
        self.settings = settings;
        self.relayer(changes);
    }

    pub(super) fn forget(&mut self, group: &GroupId, schedule: &ScheduleId) {
        self.memory.forget(group, schedule);
        self.memories.remove(&(group.clone(), schedule.clone()));
    }

    pub(super) fn settings(&self) -> &Rules {
        &self.settings
    }

    /// Who switches an outlet, or a device.
    pub(super) fn keeping(&self, path: &OutletPath) -> Keeping<'_> {
        if self.rules.group_of(path).is_some() {
            return Keeping::Member;
        }
        let whole = OutletPath::device(path.device.clone());
        match self.rules.group_of(&whole) {
            Some(group) => Keeping::Part(group),
            None => Keeping::Free,
        }
    }

    /// The group of an outlet, if it has schedules.
    pub(super) fn scheduled(&self, path: &OutletPath) -> Option<&Group> {
        self.rules.group_of(path).filter(|group| group.is_scheduled())
    }

    /// When the override ends that turns an outlet on, if the schedules turn it off then.
    fn override_off(&self, path: &OutletPath) -> Option<Timestamp> {
        let group = self.scheduled(path)?;
        let found = self
            .overrides
            .get(path)
            .filter(|found| found.stance() == OverrideState::On)?;
        let end = found.end(group, &self.rules.location)?;
        let nothing_known = BTreeMap::new();
        let then = self.inputs(&nothing_known, end);
        let (_, members) = plan_group(&then, group, &mut Memory::default());
        let (_, plan) = members.into_iter().find(|(member, _)| member == path)?;
        (plan.desired == Some(Power::Off)).then_some(end)
    }

    /// When the run of an outlet that is on, or goes on now, has to end: by a limit, its timer or its override.
    pub(super) fn runs_until(&self, path: &OutletPath, now: Timestamp) -> Option<Timestamp> {
        let zone = &self.rules.location.zone;
        let limit = self.plan.outlets.get(path).and_then(|plan| {
            let account = self.safety.account(path);
            account.runs_until(&plan.limits, now, zone)
        });
        let timer = self.timers.get(path).and_then(Timer::off_at);
        let ends = [limit.map(|due| due.at), timer, self.override_off(path)];
        ends.into_iter().flatten().min()
    }
}
