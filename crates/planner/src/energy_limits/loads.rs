//! The loads of all outlets that energy rules apply to.

use std::collections::{BTreeMap, BTreeSet};

use super::{Tally, load::Load};
use crate::{
    Now, OutletPath, Steady,
    rules::Group,
    units::{MilliWattHours, MilliWatts},
};

/// The power and the energy of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Drawn now by all members together, in mW; `None` before the first reading.
    pub power: Option<MilliWatts>,
    /// Used today by all members together, in mWh, as far as meters measured it and it is persisted; `None`
    /// until something is known of each of them.
    pub today: Option<MilliWattHours>,
}

/// What is known of the load of each outlet.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Loads(BTreeMap<OutletPath, Load>);

impl FromIterator<(OutletPath, Load)> for Loads {
    fn from_iter<I: IntoIterator<Item = (OutletPath, Load)>>(loads: I) -> Self {
        Self(loads.into_iter().collect())
    }
}

impl Loads {
    /// The load of an outlet, to update it; a new one if nothing was known of it.
    pub(super) fn entry(&mut self, outlet: &OutletPath) -> &mut Load {
        self.0.entry(outlet.clone()).or_default()
    }

    fn of<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Load> {
        group.outlets.iter().filter_map(|outlet| self.0.get(outlet))
    }

    /// What a group draws and used, for display.
    pub(super) fn usage(&self, group: &Group) -> Usage {
        Usage {
            power: self.of(group).filter_map(Load::shown).reduce(MilliWatts::plus),
            today: self.measured_today(group),
        }
    }

    /// A member of which nothing is known yet may have used something.
    fn measured_today(&self, group: &Group) -> Option<MilliWattHours> {
        let measured = |outlet| self.0.get(outlet).and_then(Load::measured);
        group
            .outlets
            .iter()
            .try_fold(MilliWattHours::ZERO, |sum, outlet| {
                Some(sum.plus(measured(outlet)?))
            })
    }

    /// What a group used today until now, in mWh, with an estimate since the last readings.
    pub(super) fn used_today(&self, group: &Group, now: Now) -> MilliWattHours {
        self.of(group)
            .map(|load| load.estimate(now))
            .fold(MilliWattHours::ZERO, MilliWattHours::plus)
    }

    /// What a group goes on drawing, in mW.
    pub(super) fn power(&self, group: &Group) -> MilliWatts {
        self.of(group)
            .map(Load::present)
            .fold(MilliWatts::ZERO, MilliWatts::plus)
    }

    /// What an outlet draws, or drew when it was last on, in mW; `None` if that is not known.
    pub(super) fn draw(&self, outlet: &OutletPath, now: Now) -> Option<MilliWatts> {
        self.0.get(outlet)?.draw(now)
    }

    /// Since when an outlet is on without a reading.
    pub(super) fn unread_since(&self, outlet: &OutletPath) -> Option<Steady> {
        self.0.get(outlet)?.unread_since
    }

    /// The tallies to be stored.
    pub(super) fn checkpoints(&self) -> BTreeMap<OutletPath, Tally> {
        let tallies = self.0.iter();
        tallies
            .filter_map(|(outlet, load)| Some((outlet.clone(), load.checkpoint?)))
            .collect()
    }

    /// The outlets whose load runs.
    pub(super) fn running(&self) -> BTreeSet<OutletPath> {
        let running = self.0.iter().filter(|(_, load)| load.running);
        running.map(|(outlet, _)| outlet.clone()).collect()
    }

    /// An outlet has another name.
    pub(super) fn rename(&mut self, from: &OutletPath, to: &OutletPath) {
        if let Some(load) = self.0.remove(from) {
            self.0.insert(to.clone(), load);
        }
    }

    /// Takes the loads of outlets from another collection, where they are not known here.
    pub(super) fn adopt(&mut self, other: &mut Self, outlets: &[OutletPath]) {
        for outlet in outlets {
            if let Some(load) = other.0.remove(outlet) {
                self.0.entry(outlet.clone()).or_insert(load);
            }
        }
    }

    /// Forgets the other outlets.
    pub(super) fn retain(&mut self, keep: impl Fn(&OutletPath) -> bool) {
        self.0.retain(|outlet, _| keep(outlet));
    }
}
