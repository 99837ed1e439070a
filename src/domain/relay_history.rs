//! What one relay used in the quarter hours and days that were. Pure.

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use planner::units::MilliWattHours;
use serde::{Deserialize, Serialize};

use super::energy_series::EnergySeries;

/// Seconds of a quarter hour.
pub const QUARTER_S: i64 = 900;
/// Days whose quarter hours are kept.
pub const QUARTER_DAYS_MAX: u16 = 35;
/// Days that are kept: three years.
pub const DAYS_MAX: u16 = 3 * 366;
/// Quarter hours that are kept, an hour more for a day on which the clocks go back.
const QUARTERS: usize = QUARTER_DAYS_MAX as usize * 96 + 4;
/// What was used between two readings is of the quarter hour of the second one, if it is no older than this.
const CONTINUOUS: SignedDuration = SignedDuration::from_secs(QUARTER_S);
/// A clock that leaps further may be wrong for a moment.
const LEAP: SignedDuration = SignedDuration::from_hours(24);
/// So long it has to go on as it does before its time counts.
const SETTLING: SignedDuration = SignedDuration::from_mins(10);
/// 2025-01-01: a clock that shows less was never set.
const EARLIEST: Timestamp = Timestamp::constant(1_735_689_600, 0);

/// The history of one relay, from readings of a total that only grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayHistory {
    /// The last reading.
    pub(super) at: Timestamp,
    total: MilliWattHours,
    quarters: EnergySeries,
    days: EnergySeries,
    /// When the clock counts again after a leap.
    #[serde(skip)]
    settles: Option<Timestamp>,
}

impl RelayHistory {
    /// Begins with a reading.
    pub(super) fn new(total: MilliWattHours, at: Timestamp) -> Self {
        Self {
            at,
            total,
            quarters: EnergySeries::default(),
            days: EnergySeries::default(),
            settles: None,
        }
    }

    /// Takes a reading. Without one shortly before it, or where the total fell because it was lost, its quarter hour stays
    /// a gap; the day has all that was used on it. Nothing counts while the clock was not set, and for a while after a leap.
    pub(super) fn read(&mut self, total: MilliWattHours, at: Timestamp, zone: &TimeZone) {
        let used = total.since(self.total);
        let passed = at.duration_since(self.at);
        if passed.abs() > LEAP {
            self.settles = at.checked_add(SETTLING).ok();
        }
        self.settles = self.settles.filter(|settles| at < *settles);
        let counts = at >= EARLIEST && self.settles.is_none() && passed >= SignedDuration::ZERO;
        let (before, now) = (day_of(self.at, zone), day_of(at, zone));
        if let Some(used) = used.filter(|_| counts) {
            let is_continuous = passed <= CONTINUOUS;
            if is_continuous {
                self.quarters.add(quarter_of(at), used, QUARTERS);
            }
            if is_continuous || before == now {
                self.days.add(now, used, DAYS_MAX.into());
            }
        }
        self.at = at;
        self.total = total;
    }

    /// What was used in a quarter hour, by its number since 1970.
    pub(super) fn quarter(&self, number: i64) -> Option<MilliWattHours> {
        self.quarters.of(number)
    }

    /// What was used on a day.
    pub(super) fn day(&self, date: Date) -> Option<MilliWattHours> {
        self.days.of(number_of(date))
    }
}

/// The number of the quarter hour of an instant, since 1970.
pub(super) fn quarter_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(QUARTER_S)
}

fn day_of(at: Timestamp, zone: &TimeZone) -> i64 {
    number_of(zone.to_datetime(at).date())
}

fn number_of(date: Date) -> i64 {
    date.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn mwh(value: u64) -> MilliWattHours {
        MilliWattHours::new(value)
    }

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn readings_become_quarter_hours_and_days_of_the_zone() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let mut history = RelayHistory::new(mwh(1000), at("2026-11-29T22:50:00Z"));
        for (time, total) in [
            ("2026-11-29T22:55:00Z", 1010),
            ("2026-11-29T22:59:00Z", 1030),
            // In Berlin another day.
            ("2026-11-29T23:01:00Z", 1031),
        ] {
            history.read(mwh(total), at(time), &zone);
        }
        let quarter = |time: &str| history.quarter(quarter_of(at(time)));
        assert_eq!(quarter("2026-11-29T22:45:00Z"), Some(mwh(30)));
        assert_eq!(quarter("2026-11-29T23:00:00Z"), Some(mwh(1)));
        assert_eq!(quarter("2026-11-29T23:15:00Z"), None);
        assert_eq!(history.day(date("2026-11-29")), Some(mwh(30)));
        assert_eq!(history.day(date("2026-11-30")), Some(mwh(1)));
    }

    #[test]
    fn a_pause_or_a_lost_total_is_a_gap_and_no_jump() {
        let zone = TimeZone::UTC;
        let mut history = RelayHistory::new(mwh(0), at("2026-11-29T08:00:00Z"));
        // The bridge was away for hours: the day has it, no quarter hour.
        history.read(mwh(5000), at("2026-11-29T12:00:00Z"), &zone);
        assert_eq!(history.quarter(quarter_of(at("2026-11-29T12:00:00Z"))), None);
        assert_eq!(history.day(date("2026-11-29")), Some(mwh(5000)));
        // Away over midnight: what was used is of neither day.
        history.read(mwh(9000), at("2026-11-30T12:00:00Z"), &zone);
        assert_eq!(history.day(date("2026-11-30")), None);
        // The totals were lost.
        history.read(mwh(10), at("2026-11-30T12:01:00Z"), &zone);
        assert_eq!(history.day(date("2026-11-30")), None);
        history.read(mwh(12), at("2026-11-30T12:02:00Z"), &zone);
        assert_eq!(history.day(date("2026-11-30")), Some(mwh(2)));
        // The clock was set back.
        history.read(mwh(20), at("2026-11-30T11:00:00Z"), &zone);
        history.read(mwh(21), at("2026-11-30T11:01:00Z"), &zone);
        assert_eq!(history.day(date("2026-11-30")), Some(mwh(3)));
    }

    #[test]
    fn a_clock_that_is_wrong_for_a_moment_loses_nothing() {
        let zone = TimeZone::UTC;
        let mut history = RelayHistory::new(mwh(0), at("2026-11-29T08:00:00Z"));
        history.read(mwh(5), at("2026-11-29T08:01:00Z"), &zone);
        for (time, total) in [
            ("2070-01-01T00:00:00Z", 10),
            ("2070-01-01T00:05:00Z", 20),
            ("1970-01-01T00:00:00Z", 30),
            ("1970-01-01T10:00:00Z", 40),
            ("2026-11-29T08:10:00Z", 50),
            ("2026-11-29T08:19:00Z", 60),
            ("2026-11-29T08:20:00Z", 61),
            ("2026-11-29T08:21:00Z", 63),
        ] {
            history.read(mwh(total), at(time), &zone);
        }
        let quarter = |time: &str| history.quarter(quarter_of(at(time)));
        assert_eq!(quarter("2026-11-29T08:00:00Z"), Some(mwh(5)));
        assert_eq!(quarter("2026-11-29T08:15:00Z"), Some(mwh(3)));
        assert_eq!(history.day(date("2026-11-29")), Some(mwh(8)));
    }

    #[test]
    fn a_date_that_never_was_does_not_end_the_history() {
        let zone = TimeZone::UTC;
        let mut history = RelayHistory::new(mwh(0), at("2070-01-01T00:00:00Z"));
        history.read(mwh(5), at("2070-01-01T00:01:00Z"), &zone);
        for (time, total) in [
            ("2026-11-29T08:00:00Z", 10),
            ("2026-11-29T08:10:00Z", 11),
            ("2026-11-29T08:11:00Z", 13),
        ] {
            history.read(mwh(total), at(time), &zone);
        }
        assert_eq!(
            history.quarter(quarter_of(at("2026-11-29T08:00:00Z"))),
            Some(mwh(3))
        );
        assert_eq!(history.day(date("2026-11-29")), Some(mwh(3)));
    }
}
