//! What groups do about the energy that their members use: a budget for the day, a limit of the power of all members
//! together, loads that have finished or are on standby. Pure: readings and time come in as arguments.
//!
//! A meter is polled. Between two readings a member counts with the power of the last one; one that is out of reach
//! goes on counting while it may be on; one that is off counts as nothing. Unknown power is never taken for little.

mod block;
mod budget;
mod event;
mod limited_group;
mod load;
mod loads;
mod member;
mod persisted;
#[cfg(test)]
mod property;
mod reading;
mod shed;
mod shed_members;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, tz::TimeZone};

pub use block::{BlockReason, EnergyBlock};
pub use event::EnergyEvent;
pub use load::LoadIdle;
pub use loads::Usage;
pub use member::{Member, MeterVisibility, Relay};
pub use persisted::PersistedEnergy;
pub use reading::Reading;

pub use crate::energy_rules::{EnergyRules, Finished, IfFinished, PowerLimit, Standby};

use budget::{BudgetState, ExhaustedBudgets};
use limited_group::LimitedGroup;
use load::Load;
use loads::Loads;
use shed::Shed;
use shed_members::ShedMembers;
use tally::Tally;

use crate::{
    Now, OutletPath, Steady,
    rules::{Group, Rules},
    safety::{Cause, Refusal},
};

/// What is known of the energy of groups that have rules about it, and what follows from it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EnergyLimits {
    loads: Loads,
    exhausted: ExhaustedBudgets,
    shed: ShedMembers,
    blocks: BTreeMap<OutletPath, EnergyBlock>,
    /// When time alone may change any of it.
    wake: Option<Steady>,
}

impl EnergyLimits {
    /// Restores what was stored, as far as rules need it.
    pub fn recall(stored: PersistedEnergy, rules: &Rules) -> Self {
        let PersistedEnergy {
            mut tallies,
            spent: exhausted,
            shed,
            running,
        } = stored;
        let outlets: BTreeSet<OutletPath> = tallies
            .keys()
            .chain(&running)
            .chain(shed.iter().map(|(outlet, _)| outlet))
            .cloned()
            .collect();
        let load = |outlet: OutletPath| {
            let mut load = Load::recall(tallies.remove(&outlet), running.contains(&outlet));
            if let Some(shed) = shed.get(&outlet) {
                load.remember(shed.drew, shed.since);
            }
            (outlet, load)
        };
        let mut limits = Self {
            loads: outlets.into_iter().map(load).collect(),
            exhausted,
            shed,
            ..Self::default()
        };
        limits.retain(rules);
        limits
    }

    /// What has to be stored now. It changes in steps, not with each reading.
    pub fn kept(&self) -> PersistedEnergy {
        PersistedEnergy {
            tallies: self.loads.checkpoints(),
            spent: self.exhausted.clone(),
            shed: self.shed.clone(),
            running: self.loads.running(),
        }
    }

    /// Takes a reading of a member; returns which of the two quiet states its load reached, at most once each per run.
    pub fn read(
        &mut self,
        group: &Group,
        outlet: &OutletPath,
        reading: Reading,
        now: Now,
        zone: &TimeZone,
    ) -> Vec<LoadIdle> {
        self.loads.entry(outlet).read(&group.energy, reading, now, zone)
    }

    /// Looks at a group: lets time pass, and decides which members must not be on. Returns what has to be reported.
    pub fn look(
        &mut self,
        group: &Group,
        members: &[(OutletPath, Member)],
        now: Now,
        zone: &TimeZone,
    ) -> Vec<EnergyEvent> {
        let mut events = Vec::new();
        for (outlet, member) in members {
            let load = self.loads.entry(outlet);
            load.observe(&group.energy, *member, now, zone);
            events.extend(load.sight(outlet));
        }
        let before: Vec<Option<EnergyBlock>> = members
            .iter()
            .map(|(outlet, _)| self.blocks.remove(outlet))
            .collect();
        let is_exhausted = self.apply_budget(group, now, zone, &mut events);
        match group.energy.power_limit {
            // All are off, whatever they drew.
            Some(_) if is_exhausted => {}
            Some(limit) => {
                let group = LimitedGroup {
                    limit,
                    group,
                    members,
                    loads: &self.loads,
                    now,
                };
                let decision = self.shed.decide(&group, &before);
                events.extend(decision.events);
                self.blocks.extend(decision.blocks);
                self.wake_at(decision.wake);
            }
            None => self.shed.retain(|outlet| !group.outlets.contains(outlet)),
        }
        for ((outlet, _), before) in members.iter().zip(before) {
            if let (Some(block), Some(before)) = (self.blocks.get_mut(outlet), before) {
                block.continues(&before);
            }
        }
        events
    }

    /// Blocks all members of a group while its budget is used; returns whether it is.
    fn apply_budget(
        &mut self,
        group: &Group,
        now: Now,
        zone: &TimeZone,
        events: &mut Vec<EnergyEvent>,
    ) -> bool {
        let Some(budget) = group.energy.daily_budget else {
            return false;
        };
        match self.exhausted.check(budget, group, &self.loads, now, zone) {
            BudgetState::Left(at) => {
                self.wake_at(at);
                false
            }
            BudgetState::Exhausted { block, event } => {
                for outlet in &group.outlets {
                    self.blocks.insert(outlet.clone(), block);
                    if event.is_some() {
                        self.dismiss(outlet);
                    }
                }
                events.extend(event);
                true
            }
        }
    }

    /// Begins a round of [`EnergyLimits::look`] at all groups: the time of the next round is determined again.
    pub fn begin(&mut self) {
        self.wake = None;
    }

    /// The blocks, and the members without schedules that go on again, as the planner needs them.
    pub fn decided(&self) -> (BTreeMap<OutletPath, EnergyBlock>, Vec<OutletPath>) {
        let resuming = self.shed.iter().filter(|(_, shed)| shed.resumes());
        (
            self.blocks.clone(),
            resuming.map(|(outlet, _)| outlet.clone()).collect(),
        )
    }

    /// When to look again if nothing happens before.
    pub fn wake(&self) -> Option<Steady> {
        self.wake
    }

    fn wake_at(&mut self, at: Option<Steady>) {
        self.wake = self.wake.into_iter().chain(at).min();
    }

    /// Why an outlet must not be on.
    pub fn hold(&self, outlet: &OutletPath, now: Timestamp) -> Option<&EnergyBlock> {
        let block = self.blocks.get(outlet)?;
        let until = block.block.until;
        until.is_none_or(|until| now < until).then_some(block)
    }

    /// Whether an outlet without schedules was on when it was shed, and goes on when it may.
    pub fn resumes(&self, outlet: &OutletPath) -> bool {
        self.shed.get(outlet).is_some_and(Shed::resumes)
    }

    /// Whether an outlet is off only until the others draw less.
    pub fn is_shed(&self, outlet: &OutletPath) -> bool {
        self.shed.get(outlet).is_some()
    }

    /// An outlet was switched off: if it was shed, it does not go on again by itself.
    pub fn dismiss(&mut self, outlet: &OutletPath) {
        self.shed.dismiss(outlet);
    }

    /// Whether an outlet may be switched on while the others are as they are now.
    ///
    /// # Errors
    /// What refuses it, and when it becomes possible, where that is known.
    pub fn allow_on(
        &self,
        group: &Group,
        members: &[(OutletPath, Member)],
        outlet: &OutletPath,
        now: Now,
    ) -> Result<(), Refusal> {
        if let Some(block) = self.hold(outlet, now.wall) {
            return Err(block.refusal());
        }
        let Some(limit) = group.energy.power_limit else {
            return Ok(());
        };
        let group = LimitedGroup {
            limit,
            group,
            members,
            loads: &self.loads,
            now,
        };
        if self.shed.has_room_for(&group, outlet) {
            Ok(())
        } else {
            Err(Refusal {
                cause: Cause::PowerLimit,
                possible_at: None,
            })
        }
    }

    /// What a group draws and used.
    pub fn usage(&self, group: &Group) -> Usage {
        self.loads.usage(group)
    }

    /// The members of a group that the power limit keeps off, in their order.
    pub fn kept_off(&self, group: &Group) -> Vec<OutletPath> {
        let is_kept_off = |outlet: &&OutletPath| {
            let block = self.blocks.get(*outlet);
            block.is_some_and(|block| block.block.cause == Cause::PowerLimit)
        };
        group.outlets.iter().filter(is_kept_off).cloned().collect()
    }

    /// As it will be, as far as that can be known: what a power limit keeps off goes on
    /// again as soon as its pause is over.
    #[must_use]
    pub fn foreseen(&self) -> Self {
        let mut foreseen = self.clone();
        for block in foreseen.blocks.values_mut() {
            block.block.until = Some(block.block.until.unwrap_or(block.earliest));
        }
        foreseen
    }

    /// A member has another name.
    pub fn rename(&mut self, from: &OutletPath, to: &OutletPath) {
        self.loads.rename(from, to);
        self.shed.rename(from, to);
        if let Some(block) = self.blocks.remove(from) {
            self.blocks.insert(to.clone(), block);
        }
    }

    /// Takes over what is known of outlets that another group had.
    pub fn adopt(&mut self, other: &mut Self, outlets: &[OutletPath]) {
        self.loads.adopt(&mut other.loads, outlets);
    }

    /// Removes what no rule needs any more.
    pub fn retain(&mut self, rules: &Rules) {
        let groups = || rules.groups.iter().filter(|group| !group.energy.is_empty());
        let outlets: BTreeSet<&OutletPath> = groups().flat_map(|group| &group.outlets).collect();
        self.loads.retain(|outlet| outlets.contains(outlet));
        self.shed.retain(|outlet| outlets.contains(outlet));
        self.blocks.retain(|outlet, _| outlets.contains(outlet));
        self.exhausted
            .retain(|id| groups().any(|group| group.id == *id && group.energy.daily_budget.is_some()));
    }
}
