//! The two clocks. They are never mixed: lengths are measured on the steady clock, what people mean by a time of day
//! is on the wall clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A point on the steady clock. It reads like a time of day, but this clock is never set: it goes on at the pace of real
/// time, also while the machine is suspended, and goes on where it was after a restart of the bridge. Only distances
/// between two points mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Steady(Timestamp);

impl Steady {
    /// Later than everything that is compared with it.
    pub const MAX: Self = Self(Timestamp::MAX);

    /// The point at which the steady clock reads `reading`.
    pub const fn at(reading: Timestamp) -> Self {
        Self(reading)
    }

    /// What the steady clock reads at this point.
    pub const fn reading(self) -> Timestamp {
        self.0
    }

    /// The point this much later; the end of the calendar if it ends before.
    #[must_use]
    pub fn after(self, length: SignedDuration) -> Self {
        Self(shifted(self.0, length))
    }

    /// The point this much earlier.
    #[must_use]
    pub fn before(self, length: SignedDuration) -> Self {
        Self(shifted(self.0, -length))
    }

    /// How long it is from `earlier` to here; negative if `earlier` is later.
    pub fn since(self, earlier: Self) -> SignedDuration {
        self.0.duration_since(earlier.0)
    }

    /// How long it is from `earlier` to here; zero if `earlier` is later.
    pub fn elapsed_since(self, earlier: Self) -> SignedDuration {
        self.since(earlier).max(SignedDuration::ZERO)
    }

    /// How long it is from here to `later`; zero if it is over.
    pub fn until(self, later: Self) -> Duration {
        Duration::try_from(later.since(self)).unwrap_or(Duration::ZERO)
    }
}

/// One moment on both clocks, taken once where an event enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time of day. It may be set, forward and back.
    pub wall: Timestamp,
    /// The clock for lengths.
    pub steady: Steady,
}

impl Now {
    /// What the wall clock shows at a steady point, if it is not set meanwhile. For display only.
    pub fn wall_at(&self, at: Steady) -> Timestamp {
        if at == Steady::MAX {
            return Timestamp::MAX;
        }
        shifted(self.wall, at.since(self.steady))
    }

    /// The steady point at which the wall clock shows `at`, if it is not set meanwhile.
    pub fn steady_at(&self, at: Timestamp) -> Steady {
        if at == Timestamp::MAX {
            return Steady::MAX;
        }
        self.steady.after(at.duration_since(self.wall))
    }

    /// The moment at which the wall clock shows `at`, if it is not set meanwhile.
    #[must_use]
    pub fn moved_to(&self, at: Timestamp) -> Self {
        Self {
            wall: at,
            steady: self.steady_at(at),
        }
    }

    /// How far the wall clock is ahead of the steady clock. It changes when the wall clock is set.
    pub fn offset(&self) -> SignedDuration {
        self.wall.duration_since(self.steady.0)
    }
}

fn shifted(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(if by.is_negative() {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_are_converted_at_one_moment() {
        let now = Now {
            wall: "2024-06-21T08:00:00Z".parse().unwrap(),
            steady: Steady::at("2024-06-21T09:30:00Z".parse().unwrap()),
        };
        let later = now.steady.after(SignedDuration::from_mins(5));
        let shown: Timestamp = "2024-06-21T08:05:00Z".parse().unwrap();
        assert_eq!(now.wall_at(later), shown);
        assert_eq!(now.steady_at(shown), later);
        assert_eq!(now.steady.until(later), Duration::from_mins(5));
        assert_eq!(later.until(now.steady), Duration::ZERO);
        assert_eq!(now.wall_at(Steady::MAX), Timestamp::MAX);
        assert_eq!(now.steady_at(Timestamp::MAX), Steady::MAX);
        assert_eq!(now.moved_to(shown).steady, later);
        assert_eq!(now.offset(), SignedDuration::from_mins(-90));
    }
}
