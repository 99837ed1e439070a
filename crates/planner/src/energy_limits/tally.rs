//! What one outlet used in one civil day.

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::{
    Now, Steady,
    safety::midnight,
    units::{MicroJoules, MilliWattHours, MilliWatts},
};

/// The growth of an outlet's total since midnight. Between two readings the last known load goes on; the next reading
/// of the total takes the place of what was guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// The start of the day.
    day: Timestamp,
    /// Used on it, up to the last reading of the total.
    used: MilliWattHours,
    /// What the total was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<MilliWattHours>,
    /// When that was.
    at: Steady,
    #[serde(skip)]
    guess: Guess,
}

/// What was used since the last reading of the total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Guess {
    energy: MicroJoules,
    until: Option<Steady>,
}

impl Tally {
    /// From now on.
    pub(super) fn new(now: Now, zone: &TimeZone) -> Self {
        Self {
            day: midnight(now.wall, zone),
            used: MilliWattHours::ZERO,
            total: None,
            at: now.steady,
            guess: Guess::default(),
        }
    }

    /// Lets time pass: the load was drawn until now. A new day starts from nothing.
    pub(super) fn pass(&mut self, load: MilliWatts, now: Now, zone: &TimeZone) {
        let start = midnight(now.wall, zone);
        if start > self.day {
            self.used = MilliWattHours::ZERO;
            self.guess.energy = MicroJoules::ZERO;
            self.guess.until = self.guess.until.map(|until| until.max(now.steady_at(start)));
        }
        // Set back over midnight, it counts on.
        self.day = start;
        self.guess.energy = self.guess.energy.plus(self.since(load, now));
        self.guess.until = Some(now.steady);
    }

    fn since(&self, load: MilliWatts, now: Now) -> MicroJoules {
        let until = self.guess.until.unwrap_or(now.steady);
        MicroJoules::drawn(load, now.steady.elapsed_since(until))
    }

    /// Takes the total, after [`Tally::pass`]. Of what was used since a reading on an earlier day, the part after
    /// midnight counts.
    pub(super) fn read(&mut self, total: MilliWattHours, now: Now) {
        let more = match self.total.map(|before| total.since(before)) {
            Some(Some(grown)) => grown.share(
                now.steady.elapsed_since(self.at.max(now.steady_at(self.day))),
                now.steady.elapsed_since(self.at),
            ),
            // The first of all, or its count started over.
            Some(None) | None => self.guess.energy.into(),
        };
        self.used = self.used.plus(more);
        self.total = Some(total);
        self.at = now.steady;
        self.guess.energy = MicroJoules::ZERO;
    }

    /// Used on its day, with what the load drew since it was looked at.
    pub(super) fn estimate(&self, load: MilliWatts, now: Now) -> MilliWattHours {
        self.used
            .plus(self.guess.energy.plus(self.since(load, now)).into())
    }

    /// Used on its day, as far as the meter measured it: it never falls but at midnight.
    pub(super) fn measured(&self) -> MilliWattHours {
        match self.total {
            Some(_) => self.used,
            None => self.used.plus(self.guess.energy.into()),
        }
    }

    /// What is kept: a guess is lost, unless it is all there is.
    pub(super) fn kept(&self) -> Self {
        Self {
            used: self.measured(),
            guess: Guess::default(),
            ..*self
        }
    }

    /// Whether it differs so much from what was persisted that it is worth writing.
    pub(super) fn outgrew(&self, kept: &Self, step: MilliWattHours) -> bool {
        let measured = self.measured();
        self.day != kept.day
            || self.total.is_some() != kept.total.is_some()
            || measured < kept.used
            || measured.less(kept.used) >= step
    }
}
