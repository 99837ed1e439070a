//! How far an edge strays from its time, another way each day, so that a house looks inhabited.

use std::fmt;

use jiff::{SignedDuration, civil::Date};

use super::{GroupId, ScheduleId, period::Period};

/// An edge is at most this much earlier or later than its time. Whole minutes; zero is exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Jitter(u16);

impl Jitter {
    /// None: each day at the same time.
    pub const NONE: Self = Self(0);
    /// The largest jitter.
    pub const LARGEST: SignedDuration = SignedDuration::from_hours(3);

    /// A jitter of whole minutes, [`Jitter::LARGEST`] at most.
    pub fn new(size: Period) -> Option<Self> {
        let seconds = size.length().as_secs();
        let is_whole = seconds % 60 == 0 && size.length().subsec_nanos() == 0;
        let fits = is_whole && size.length() <= Self::LARGEST;
        fits.then(|| u16::try_from(seconds / 60).ok().map(Self)).flatten()
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// How much later an edge is on a date; negative is earlier. All values are equally likely, and the same date has
    /// always the same one.
    pub(super) fn on(self, date: Date, side: Side, seed: JitterSeed) -> SignedDuration {
        if self.is_none() {
            return SignedDuration::ZERO;
        }
        let values = 2 * u64::from(self.0) + 1;
        let hash = seed.with(&[side as u8]).with(date.to_string().as_bytes()).mixed();
        // The high half of the product: every value of a hash counts, not its last bits alone.
        let value = (u128::from(hash) * u128::from(values)) >> 64;
        let minutes = i64::try_from(value).unwrap_or_default() - i64::from(self.0);
        SignedDuration::from_mins(minutes)
    }
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 60, self.0 % 60) {
            (0, 0) => Ok(()),
            (0, minutes) => write!(f, "±{minutes}m"),
            (hours, 0) => write!(f, "±{hours}h"),
            (hours, minutes) => write!(f, "±{hours}h{minutes}m"),
        }
    }
}

/// Which edge of a window: both stray, each in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Start,
    End,
}

/// What makes a schedule stray another way than the others. Kept over restarts and updates: the algorithm (FNV-1a, then
/// the finalizer of splitmix64) is part of what `plan` promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JitterSeed(u64);

impl JitterSeed {
    /// That of a schedule of a group.
    pub fn of(group: &GroupId, schedule: &ScheduleId) -> Self {
        let empty = Self(0xcbf2_9ce4_8422_2325);
        let group = empty.with(group.as_str().as_bytes());
        group.with(b"/").with(schedule.as_str().as_bytes())
    }

    fn with(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    fn mixed(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn minutes(group: &str, schedule: &str, side: Side) -> Vec<i64> {
        let seed = JitterSeed::of(&group.parse().unwrap(), &schedule.parse().unwrap());
        let dates = Date::constant(2026, 1, 1).series(jiff::Span::new().days(1));
        let dates = dates.take(3650);
        dates
            .map(|date| Jitter(20).on(date, side, seed).as_mins())
            .collect()
    }

    #[test]
    fn the_same_date_strays_the_same_way_in_every_version() {
        let first = minutes("porch", "evening", Side::Start);
        assert_eq!(first[..8], FIRST);
    }

    const FIRST: [i64; 8] = [19, 4, -3, -4, 0, -2, -5, 20];

    #[test]
    fn every_minute_is_as_likely_and_schedules_differ() {
        let all = minutes("porch", "evening", Side::Start);
        let values: BTreeSet<i64> = all.iter().copied().collect();
        assert_eq!(values, (-20..=20).collect());
        for value in values {
            let times = all.iter().filter(|one| **one == value).count();
            assert!(
                (45..=135).contains(&times),
                "{value}: {times} of 3650, 89 expected"
            );
        }
        for (group, schedule, side) in [
            ("porch", "evening", Side::End),
            ("porch", "morning", Side::Start),
            ("hall", "evening", Side::Start),
        ] {
            let other = minutes(group, schedule, side);
            let same = all.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < 180, "{group}/{schedule}: {same} of 3650 days are the same");
        }
    }

    #[test]
    fn a_jitter_has_whole_minutes_up_to_three_hours() {
        let jitter = |text: &str| Jitter::new(text.parse().unwrap());
        for (text, shown) in [("20m", "±20m"), ("1h", "±1h"), ("90m", "±1h30m"), ("3h", "±3h")] {
            assert_eq!(jitter(text).unwrap().to_string(), shown);
        }
        for text in ["30s", "90s", "181m", "1m 500ms"] {
            assert_eq!(jitter(text), None, "{text}");
        }
        assert_eq!(Jitter::NONE.to_string(), "");
    }
}
