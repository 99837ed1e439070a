//! How long a relay may stay on without another reading.

use jiff::SignedDuration;

use crate::{Steady, period::Period};

/// Until when a relay may stay on if no other reading comes. The device gets it as the time at which it must be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// When no reading counts any more.
    ends: Steady,
    /// How long the device is lent at once; zero for what no reading renews.
    length: SignedDuration,
}

impl Lease {
    /// No device runs longer than this without the bridge: 15 min.
    pub const LONGEST: SignedDuration = SignedDuration::from_mins(15);

    /// By a reading that counts until then.
    pub fn of_reading(stale_at: Steady, stale_after: Period) -> Self {
        Self {
            ends: stale_at,
            length: stale_after.length().min(Self::LONGEST),
        }
    }

    /// Until then, whatever comes.
    pub fn until(ends: Steady) -> Self {
        Self {
            ends,
            length: SignedDuration::ZERO,
        }
    }

    /// When it ends, whatever a device is lent.
    pub fn ends(self) -> Steady {
        self.ends
    }

    /// When a device that is lent it now must be off.
    pub fn off_by(self, now: Steady) -> Steady {
        self.ends.min(now.after(Self::LONGEST))
    }

    /// When a device that must be off at `off_by` should be lent more: when a third is gone, so that a thermometer that
    /// reports each second costs no request each second. `None`: never.
    pub fn renewal(self, off_by: Steady) -> Option<Steady> {
        let two_thirds = self.length * 2 / 3;
        (!self.length.is_zero()).then(|| off_by.before(two_thirds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Steady {
        Steady::at(jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_lease_ends_with_its_reading_and_within_15_min() {
        let short = Lease::of_reading(at(300), "5m".parse().unwrap());
        assert_eq!(short.off_by(at(0)), at(300));
        assert_eq!(short.renewal(at(300)), Some(at(100)));
        let long = Lease::of_reading(at(3600), "1h".parse().unwrap());
        assert_eq!(long.off_by(at(0)), at(900));
        assert_eq!(long.off_by(at(3000)), at(3600));
        assert_eq!(long.renewal(at(900)), Some(at(300)));
        assert_eq!(Lease::until(at(60)).off_by(at(0)), at(60));
        assert_eq!(Lease::until(at(60)).renewal(at(60)), None);
    }
}
