//! What survives a restart.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EnergyLimits, Tally, load::Load};
use crate::{
    Steady,
    rules::{Group, Rules},
    units::{MilliWattHours, MilliWatts},
    {GroupId, OutletPath},
};

/// The rations' part of the state file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PersistedEnergy {
    /// What outlets used today.
    tallies: BTreeMap<OutletPath, Tally>,
    /// Budgets that are used.
    spent: BTreeMap<GroupId, BudgetExhausted>,
    /// What a ceiling switched off.
    shed: BTreeMap<OutletPath, Shed>,
    /// Whose load runs.
    running: BTreeSet<OutletPath>,
}

impl PersistedEnergy {
    /// What of it is about one group.
    #[must_use]
    pub fn only(&self, group: &Group) -> Self {
        let member = |outlet: &OutletPath| group.outlets.contains(outlet);
        let mut of_group = self.clone();
        of_group.tallies.retain(|outlet, _| member(outlet));
        of_group.shed.retain(|outlet, _| member(outlet));
        of_group.running.retain(member);
        of_group.spent.retain(|id, _| *id == group.id);
        of_group
    }
}

/// A budget that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetExhausted {
    /// The start of the day it was for.
    pub day: Timestamp,
    /// When that was noticed.
    pub since: Timestamp,
    /// How much it was: another one is not used yet.
    pub budget: MilliWattHours,
}

/// A member that the ceiling switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shed {
    /// When.
    pub(super) since: Steady,
    /// What it drew.
    pub(super) drew: MilliWatts,
    /// What all drew.
    pub(super) all_drew: MilliWatts,
    /// How far it is on its way back.
    pub(super) stage: Stage,
    pub(super) back: Back,
}

/// How far a member that was shed is on its way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// It must be off.
    Waits,
    /// It may be on since then, and is not yet.
    Returns(Steady),
}

/// Who switches on what was shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Back {
    /// The planner, if it still wants it.
    Planned,
    /// It was on without a schedule, so it goes on again.
    Resumes,
    /// The same, but only until its timed ON ends.
    ResumesUntil(Steady),
    /// Nobody: somebody wants it off.
    Dismissed,
}

impl Shed {
    pub(super) fn resumes(&self) -> bool {
        matches!(self.back, Back::Resumes | Back::ResumesUntil(_))
    }

    pub(super) fn dismiss(&mut self) {
        if self.resumes() {
            self.back = Back::Dismissed;
        }
    }
}

impl EnergyLimits {
    /// Goes on with what was kept, as far as rules ask for it.
    pub fn recall(kept: PersistedEnergy, rules: &Rules) -> Self {
        let PersistedEnergy {
            mut tallies,
            spent,
            shed,
            running,
        } = kept;
        let outlets: BTreeSet<OutletPath> = tallies
            .keys()
            .chain(&running)
            .chain(shed.keys())
            .cloned()
            .collect();
        let load = |outlet: OutletPath| {
            let mut load = Load::recall(tallies.remove(&outlet), running.contains(&outlet));
            if let Some(shed) = shed.get(&outlet) {
                load.remember(shed.drew, shed.since);
            }
            (outlet, load)
        };
        let mut rations = Self {
            loads: outlets.into_iter().map(load).collect(),
            spent,
            shed,
            ..Self::default()
        };
        rations.retain(rules);
        rations
    }

    /// What is to be kept now. It changes with the hundredth part of a budget, not with each reading.
    pub fn kept(&self) -> PersistedEnergy {
        let tallies = self
            .loads
            .iter()
            .filter_map(|(outlet, load)| Some((outlet.clone(), load.checkpoint?)));
        let running = self.loads.iter().filter(|(_, load)| load.running);
        PersistedEnergy {
            tallies: tallies.collect(),
            spent: self.spent.clone(),
            shed: self.shed.clone(),
            running: running.map(|(outlet, _)| outlet.clone()).collect(),
        }
    }
}
