//! The two clocks. They are never mixed: lengths are measured on the steady clock, what people mean by a time of day
//! is on the wall clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A point on the steady clock: the time since the machine started, to the nanosecond. It is never set, and it goes on
/// while the machine is suspended (`CLOCK_BOOTTIME` on Linux).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Steady(SignedDuration);

impl Steady {
    /// Later than everything that is compared with it.
    pub const MAX: Self = Self(SignedDuration::MAX);

    /// So long after the machine started.
    pub fn since_boot(length: SignedDuration) -> Self {
        Self(length)
    }

    /// How long after the start of the machine it is. A point before the start is negative.
    pub fn as_duration(self) -> SignedDuration {
        self.0
    }

    /// The point this much later.
    #[must_use]
    pub fn after(self, length: SignedDuration) -> Self {
        Self(self.0.saturating_add(length))
    }

    /// The point this much earlier.
    #[must_use]
    pub fn before(self, length: SignedDuration) -> Self {
        Self(self.0.saturating_sub(length))
    }

    /// How long it is from `earlier` to here; negative if `earlier` is later.
    pub fn since(self, earlier: Self) -> SignedDuration {
        self.0.saturating_sub(earlier.0)
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
        let ahead = at.since(self.steady);
        self.wall.saturating_add(ahead).unwrap_or(if ahead.is_negative() {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }

    /// The steady point at which the wall clock shows `at`, if it is not set meanwhile.
    pub fn steady_at(&self, at: Timestamp) -> Steady {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_are_converted_at_one_moment() {
        let now = Now {
            wall: "2024-06-21T08:00:00Z".parse().unwrap(),
            steady: Steady::since_boot(SignedDuration::from_secs(100)),
        };
        let later = now.steady.after(SignedDuration::from_mins(5));
        let shown: Timestamp = "2024-06-21T08:05:00Z".parse().unwrap();
        assert_eq!(now.wall_at(later), shown);
        assert_eq!(now.steady_at(shown), later);
        assert_eq!(now.steady.until(later), Duration::from_mins(5));
        assert_eq!(later.until(now.steady), Duration::ZERO);
        assert_eq!(now.wall_at(Steady::MAX), Timestamp::MAX);
        assert_eq!(now.moved_to(shown).steady, later);
    }
}
