//! What groups do about the energy that their members use: a budget for the day, a ceiling over all of them, loads
//! that have finished or are on standby. Pure: readings and time come in as arguments.
//!
//! A meter is read now and then. Between two readings a member draws what it drew last; one that is out of reach goes
//! on drawing it while it may be on; one that is off draws nothing. What is not known is never taken for little.

mod budget;
mod ceiling;
mod kept;
mod load;
#[cfg(test)]
mod property;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, tz::TimeZone};

pub use kept::{BudgetExhausted, PersistedEnergy, Shed};
pub use load::LoadIdle;
pub use tally::Tally;

pub use crate::energy_rules::{EnergyRules, Finished, IfFinished, PowerLimit, Standby};

use load::Load;

use super::{
    rules::{Group, Rules},
    safety::{Block, Cause, Refusal},
};
use crate::{
    Now, Steady,
    units::{MilliWattHours, MilliWatts},
    {GroupId, OutletPath, Power},
};

/// What a meter said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Drawn now; `None` where the meter did not tell.
    pub power: Option<MilliWatts>,
    /// Used since the bridge first read it; it only grows.
    pub total: Option<MilliWattHours>,
}

/// One member of a group as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its relay.
    pub relay: Relay,
    /// Whether its device answers.
    pub reach: MeterVisibility,
    /// Whether it would be on, did no limit forbid it. `None`: nobody says, in a group without schedules.
    pub wanted: Option<Power>,
    /// When the timed ON ends that it has.
    pub timer: Option<Steady>,
}

/// What is known of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// Never heard of.
    Unknown,
    /// Confirmed.
    Off,
    /// Off, and being switched on.
    Coming,
    /// Confirmed, as far as the device was in reach.
    On,
}

/// Whether a device answers, and could tell energy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeterVisibility {
    /// It does not answer.
    Away,
    /// It answers.
    Metered,
    /// It answers, and has no meter.
    Unmetered,
}

/// Why an outlet must not be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnergyBlock {
    /// Which rule, since when, until when.
    pub block: Block,
    /// The numbers.
    pub why: BlockReason,
    /// Not before this, whatever the others draw.
    pub earliest: Timestamp,
}

/// The numbers behind a [`EnergyBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockReason {
    /// The group used so much.
    BudgetExhausted(MilliWattHours),
    /// All members together drew more than they may.
    Over {
        /// What they drew.
        drew: MilliWatts,
        /// What they may draw.
        ceiling: MilliWatts,
    },
    /// It would be too much together with the others.
    NoRoom {
        /// What it drew when it was on.
        needs: MilliWatts,
        /// What all may draw.
        ceiling: MilliWatts,
    },
}

impl EnergyBlock {
    /// What is held for the same reason as before is held since then.
    fn go_on(&mut self, before: &Self) {
        if let (BlockReason::NoRoom { .. }, BlockReason::NoRoom { .. }) = (self.why, before.why) {
            self.block.since = before.block.since;
            self.earliest = before.earliest;
        }
    }

    /// Whether it holds for longer than a block.
    pub fn outlasts(&self, block: &Block) -> bool {
        let end = |block: &Block| block.until.unwrap_or(Timestamp::MAX);
        end(&self.block) > end(block)
    }

    fn refusal(&self) -> Refusal {
        Refusal {
            cause: self.block.cause,
            possible_at: self.block.until,
        }
    }
}

/// Something that has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnergyEvent {
    /// A group used its budget.
    BudgetExhausted {
        /// What it used.
        budget: MilliWattHours,
        /// Until when it is off.
        until: Timestamp,
    },
    /// A member has to go off, so that the others stay below the ceiling.
    Shed {
        /// Which.
        outlet: OutletPath,
        /// What all drew.
        drew: MilliWatts,
        /// What they may draw.
        ceiling: MilliWatts,
    },
    /// A member that was shed may be on again.
    Returns(OutletPath),
    /// What a member draws is not known, though its group needs it.
    Blind(OutletPath),
    /// It is known again.
    Sees(OutletPath),
}

/// What a group's energy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Drawn now by all members together; `None` before the first reading.
    pub power: Option<MilliWatts>,
    /// Used today by all members together, as far as meters told.
    pub today: MilliWattHours,
}

/// What is known of the energy of groups that have rules about it, and what follows from it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EnergyLimits {
    loads: BTreeMap<OutletPath, Load>,
    spent: BTreeMap<GroupId, BudgetExhausted>,
    shed: BTreeMap<OutletPath, Shed>,
    holds: BTreeMap<OutletPath, EnergyBlock>,
    /// When time alone may change any of it.
    wake: Option<Steady>,
}

impl EnergyLimits {
    /// Takes a reading of a member; returns what of the two quiet ends it reached, at most once each per run.
    pub fn read(
        &mut self,
        group: &Group,
        outlet: &OutletPath,
        reading: Reading,
        now: Now,
        zone: &TimeZone,
    ) -> Vec<LoadIdle> {
        let load = self.loads.entry(outlet.clone()).or_default();
        load.read(&group.energy, reading, now, zone)
    }

    /// Looks at a group: lets time pass, and decides who must not be on. Returns what has to be told.
    pub fn look(
        &mut self,
        group: &Group,
        members: &[(OutletPath, Member)],
        now: Now,
        zone: &TimeZone,
    ) -> Vec<EnergyEvent> {
        let mut happened = Vec::new();
        for (outlet, member) in members {
            let load = self.loads.entry(outlet.clone()).or_default();
            load.observe(*member, now, zone);
            happened.extend(load.sight(outlet));
        }
        let before: Vec<Option<EnergyBlock>> = members
            .iter()
            .map(|(outlet, _)| self.holds.remove(outlet))
            .collect();
        let spent = match group.energy.daily_budget {
            Some(budget) => self.spend(budget, group, now, zone, &mut happened),
            None => None,
        };
        match (group.energy.power_limit, spent) {
            (Some(ceiling), None) => happened.extend(self.cap(&ceiling, group, members, &before, now)),
            // All are off, whatever they drew.
            (Some(_), Some(_)) => {}
            (None, _) => self.shed.retain(|outlet, _| !group.outlets.contains(outlet)),
        }
        for ((outlet, _), before) in members.iter().zip(before) {
            if let (Some(hold), Some(before)) = (self.holds.get_mut(outlet), before) {
                hold.go_on(&before);
            }
        }
        happened
    }

    /// Before a round of [`EnergyLimits::look`]: when to look again is found anew.
    pub fn begin(&mut self) {
        self.wake = None;
    }

    /// What the planner goes by.
    pub fn decided(&self) -> (BTreeMap<OutletPath, EnergyBlock>, Vec<OutletPath>) {
        let resuming = self.shed.iter().filter(|(_, shed)| shed.resumes());
        (
            self.holds.clone(),
            resuming.map(|(outlet, _)| outlet.clone()).collect(),
        )
    }

    /// When to look again if nothing happens before.
    pub fn wake(&self) -> Option<Steady> {
        self.wake
    }

    fn wake_at(&mut self, at: Steady) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Why an outlet must not be on.
    pub fn hold(&self, outlet: &OutletPath, now: Timestamp) -> Option<&EnergyBlock> {
        let hold = self.holds.get(outlet)?;
        hold.block.until.is_none_or(|until| now < until).then_some(hold)
    }

    /// Whether an outlet without schedules was on when it was shed, and goes on when it may.
    pub fn resumes(&self, outlet: &OutletPath) -> bool {
        self.shed.get(outlet).is_some_and(Shed::resumes)
    }

    /// Whether an outlet is off only until the others draw less.
    pub fn is_shed(&self, outlet: &OutletPath) -> bool {
        self.shed.contains_key(outlet)
    }

    /// Somebody wants an outlet off that was shed: it does not come back by itself.
    pub fn dismiss(&mut self, outlet: &OutletPath) {
        if let Some(shed) = self.shed.get_mut(outlet) {
            shed.dismiss();
        }
    }

    /// Whether an outlet may be switched on, where the others are what they are.
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
        if let Some(hold) = self.hold(outlet, now.wall) {
            return Err(hold.refusal());
        }
        let Some(ceiling) = group.energy.power_limit else {
            return Ok(());
        };
        if self.fits(&ceiling, group, members, outlet, now) {
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
        let loads = || group.outlets.iter().filter_map(|outlet| self.loads.get(outlet));
        Usage {
            power: loads().filter_map(Load::shown).reduce(MilliWatts::plus),
            today: loads()
                .map(Load::measured)
                .fold(MilliWattHours::ZERO, MilliWattHours::plus),
        }
    }

    /// The members of a group that the ceiling keeps off, in their order.
    pub fn kept_off(&self, group: &Group) -> Vec<OutletPath> {
        let held = |outlet: &&OutletPath| {
            let hold = self.holds.get(*outlet);
            hold.is_some_and(|hold| hold.block.cause == Cause::PowerLimit)
        };
        group.outlets.iter().filter(held).cloned().collect()
    }

    /// As it will be, as far as that can be known: what a ceiling keeps off returns as soon as its pause is over.
    #[must_use]
    pub fn foreseen(&self) -> Self {
        let mut foreseen = self.clone();
        for hold in foreseen.holds.values_mut() {
            hold.block.until = Some(hold.block.until.unwrap_or(hold.earliest));
        }
        foreseen
    }

    /// A member is called something else.
    pub fn rename(&mut self, from: &OutletPath, to: &OutletPath) {
        if let Some(load) = self.loads.remove(from) {
            self.loads.insert(to.clone(), load);
        }
        if let Some(shed) = self.shed.remove(from) {
            self.shed.insert(to.clone(), shed);
        }
        if let Some(hold) = self.holds.remove(from) {
            self.holds.insert(to.clone(), hold);
        }
    }

    /// Takes over what is known of outlets that another group had.
    pub fn adopt(&mut self, other: &mut Self, outlets: &[OutletPath]) {
        for outlet in outlets {
            if let Some(load) = other.loads.remove(outlet) {
                self.loads.entry(outlet.clone()).or_insert(load);
            }
        }
    }

    /// Forgets what no rule asks for any more.
    pub fn retain(&mut self, rules: &Rules) {
        let groups = || rules.groups.iter().filter(|group| !group.energy.is_empty());
        let outlets: BTreeSet<&OutletPath> = groups().flat_map(|group| &group.outlets).collect();
        self.loads.retain(|outlet, _| outlets.contains(outlet));
        self.shed.retain(|outlet, _| outlets.contains(outlet));
        self.holds.retain(|outlet, _| outlets.contains(outlet));
        self.spent
            .retain(|id, _| groups().any(|group| group.id == *id && group.energy.daily_budget.is_some()));
    }
}
