//! What each outlet has run, and whether it may go on: counted from the device's own on-time, kept across
//! restarts.
//!
//! Time that is not known to be off counts as on. The daily limit counts civil days; a run over midnight is
//! split there.

#[cfg(test)]
mod property;
mod run_time;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

pub use run_time::RunTime;
pub(super) use run_time::{midnight, next_midnight};

use crate::{
    Now, OutletPath, Power, Steady,
    limits::{Limit, Limits},
    period::Period,
};

/// A report about one outlet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The relay.
    pub power: Power,
    /// How long it has been on, by the device's count; `None` where the device does not report it.
    pub on_time: Option<SignedDuration>,
    /// When the answer arrived.
    pub at: Now,
}

/// The accounts of all outlets. Serialises to what a restart needs, in UTC instants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Safety(BTreeMap<OutletPath, RunTime>);

impl Safety {
    /// Takes a report of a device.
    pub fn observe(&mut self, outlet: &OutletPath, report: Report, zone: &TimeZone) {
        self.0.entry(outlet.clone()).or_default().observe(report, zone);
    }

    /// Lets time pass for an outlet: ends a cooldown that is over, and records the trip when a limit is
    /// reached. A trip is returned once.
    pub fn advance(
        &mut self,
        outlet: &OutletPath,
        limits: &Limits,
        now: Now,
        zone: &TimeZone,
    ) -> Option<Trip> {
        self.0
            .entry(outlet.clone())
            .or_default()
            .advance(limits, now, zone)
    }

    /// What is known of an outlet; nothing when it was never seen.
    pub fn run_time(&self, outlet: &OutletPath) -> RunTime {
        self.0.get(outlet).copied().unwrap_or_default()
    }

    /// Puts a run time that is known into the collection.
    pub fn insert(&mut self, outlet: OutletPath, run_time: RunTime) {
        self.0.insert(outlet, run_time);
    }

    /// Without the runs that go on: how long a thermostat heats is not known in advance.
    #[must_use]
    pub fn without_runs(&self) -> Self {
        let mut idle = self.clone();
        idle.0.retain(|_, run_time| run_time.on_since().is_none());
        idle
    }

    /// The outlets that have an account.
    pub fn outlets(&self) -> impl Iterator<Item = &OutletPath> {
        self.0.keys()
    }

    /// Forgets outlets that are not configured any more.
    pub fn retain(&mut self, keep: impl Fn(&OutletPath) -> bool) {
        self.0.retain(|outlet, _| keep(outlet));
    }
}

/// What keeps an outlet off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It ran as long as it may without a pause.
    MaxOn,
    /// It ran as long as it may in one day.
    MaxOnPerDay,
    /// It ran into a limit not long ago.
    Cooldown,
    /// It was switched off not long ago.
    MinOff,
    /// Its group used the energy of the day.
    Budget,
    /// Its group draws as much as it may.
    PowerLimit,
    /// The thermometer of its group has no value that counts.
    Thermometer,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MaxOn => "max_on",
            Self::MaxOnPerDay => "max_on_per_day",
            Self::Cooldown => "cooldown",
            Self::MinOff => "min_off",
            Self::Budget => "daily_budget",
            Self::PowerLimit => "power_limit",
            Self::Thermometer => "thermometer",
        })
    }
}

/// A limit was reached: the outlet must go off, and stay off for the cooldown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// When it was noticed.
    pub at: Steady,
    /// [`Cause::MaxOn`] or [`Cause::MaxOnPerDay`].
    pub cause: Cause,
    /// How long it stays off, from the confirmed OFF on; `None` is no longer than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Period>,
}

/// A limit that will be reached if nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Steady,
    /// Which.
    pub cause: Cause,
}

/// Why an outlet must be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// What keeps it off.
    pub cause: Cause,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None` until the device confirms that it is off, or until others draw less.
    pub until: Option<Timestamp>,
}

/// What the limits decide about an outlet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may be on; when it is, the limit it reaches next.
    Free(Option<Due>),
    /// It must be off.
    Blocked(Block),
}

/// An ON that the limits do not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("refused by {cause}")]
pub struct Refusal {
    /// The limit.
    pub cause: Cause,
    /// When an ON becomes possible; `None` while the outlet that tripped is not confirmed off, and while others draw
    /// too much.
    pub possible_at: Option<Timestamp>,
}
