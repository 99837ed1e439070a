//! The energy that an outlet used in all: a total that only grows, from counters that do not. Pure.
//!
//! A device counts a month's energy, which starts over with each month and with a reset, in whole Wh. Newer
//! firmware also counts since the device last restarted, in mWh (tapo 0.12.2, `get_energy_meter_data`). Each is
//! held against what it showed when it last started over, so that rounding does not add up. What both miss, such as
//! the time between the last reading and a restart, is not guessed. With each of them the total is at least so
//! much; so the larger answer counts, if it is clearly larger.

use jiff::{Timestamp, civil};
use serde::{Deserialize, Serialize};

use planner::units::{MilliWattHours, MilliWatts, WattHours};

/// No outlet carries more: 16 A at 250 V.
const LARGEST_LOAD: MilliWatts = MilliWatts::from_watts(4000);
/// What a reading may show more than the largest load: counters are rounded, and clocks wander.
const SLACK: MilliWattHours = MilliWattHours::new(10_000);
/// How much further the month must be than the finer counter before it is believed: it is rounded to Wh.
const ROUNDING: MilliWattHours = MilliWattHours::new(2_000);

/// What a meter shows, as far as the total needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// The energy of the month so far, with the time on the device's own clock.
    pub month: Option<(civil::DateTime, WattHours)>,
    /// The energy since the device last restarted.
    pub since_restart: Option<MilliWattHours>,
}

/// One outlet's total and what is needed to go on with it, also after a restart of the bridge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnergyCounter {
    /// The device's own id of the outlet. Another device's counters are not held against this one's.
    meter: String,
    /// What the outlet used since it was first read.
    total: MilliWattHours,
    /// The last reading.
    at: Timestamp,
    #[serde(default)]
    month: Option<MonthMark>,
    #[serde(default)]
    since_restart: Option<Mark>,
}

/// What a counter showed when the total was so much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Mark {
    shown: MilliWattHours,
    total: MilliWattHours,
}

/// The mark of the month's counter, and the device's time of its last reading.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct MonthMark {
    #[serde(flatten)]
    mark: Mark,
    last: WattHours,
    seen: civil::DateTime,
}

impl EnergyCounter {
    /// An outlet that was never read. Its total starts at nothing.
    pub fn new(meter: impl Into<String>, now: Timestamp) -> Self {
        Self {
            meter: meter.into(),
            total: MilliWattHours::ZERO,
            at: now,
            month: None,
            since_restart: None,
        }
    }

    /// Whether the meter was ever seen to count since its restart, which it does along with measuring voltage and
    /// current.
    pub fn counts_since_restart(&self) -> bool {
        self.since_restart.is_some()
    }

    /// The meter does not count since its restart, whatever it did earlier.
    pub fn forget_since_restart(&mut self) {
        self.since_restart = None;
    }

    /// Takes a reading and returns the total.
    pub fn read(&mut self, meter: &str, shown: Counters, now: Timestamp) -> MilliWattHours {
        if self.meter != meter {
            meter.clone_into(&mut self.meter);
            self.month = None;
            self.since_restart = None;
        }
        let limit = self.limit(shown, now);
        let plausible = |total: &MilliWattHours| total.since(self.total).is_some_and(|more| more <= limit);
        let fine = self.by_restart(shown).filter(plausible);
        let coarse = self.by_month(shown).filter(plausible);
        let total = match (fine, coarse) {
            // A month that has just begun may still show the last one's energy; the finer counter is right.
            (Some(fine), Some(coarse))
                if coarse > fine.plus(ROUNDING) && (self.month_goes_on(shown) || !self.runs_on(shown)) =>
            {
                coarse
            }
            (Some(total), _) | (None, Some(total)) => total,
            (None, None) => self.total,
        };
        self.mark(shown, total);
        self.total = total;
        self.at = now;
        total
    }

    /// The most that can have been used since the last reading. Either clock may have been set meanwhile; the longer
    /// time counts.
    fn limit(&self, shown: Counters, now: Timestamp) -> MilliWattHours {
        let ours = now.duration_since(self.at).as_secs();
        let device = match (self.month, shown.month) {
            (Some(mark), Some((seen, _))) => seen.duration_since(mark.seen).as_secs(),
            _ => 0,
        };
        let seconds = u64::try_from(ours.max(device)).unwrap_or(0);
        MilliWattHours::drawn(LARGEST_LOAD, seconds).plus(SLACK)
    }

    /// Whether the counter since the restart did not start over.
    fn runs_on(&self, shown: Counters) -> bool {
        let counters = self.since_restart.zip(shown.since_restart);
        counters.is_some_and(|(mark, shown)| shown >= mark.shown)
    }

    /// Whether the month's counter did not start over.
    fn month_goes_on(&self, shown: Counters) -> bool {
        let months = self.month.zip(shown.month);
        months.is_some_and(|(mark, (seen, energy))| {
            month_of(mark.seen) == month_of(seen) && energy >= mark.last
        })
    }

    /// The total by the counter since the restart. One that went back started over.
    fn by_restart(&self, shown: Counters) -> Option<MilliWattHours> {
        let (mark, shown) = (self.since_restart?, shown.since_restart?);
        let total = match shown.since(mark.shown) {
            Some(more) => mark.total.plus(more),
            None => self.total.plus(shown),
        };
        Some(total.max(self.total))
    }

    /// The total by the month's counter. It starts over with a new month and after a reset; a month that is past
    /// gives no value.
    fn by_month(&self, shown: Counters) -> Option<MilliWattHours> {
        let (mark, (seen, energy)) = (self.month?, shown.month?);
        let energy = MilliWattHours::from(energy);
        let total = if self.month_goes_on(shown) {
            mark.mark.total.plus(energy.since(mark.mark.shown)?)
        } else if month_of(seen) >= month_of(mark.seen) {
            self.total.plus(energy)
        } else {
            return None;
        };
        Some(total.max(self.total))
    }

    /// Sets new marks where a counter started over, or where the total went on without it.
    fn mark(&mut self, shown: Counters, total: MilliWattHours) {
        if let Some(shown) = shown.since_restart {
            let on_track = |mark: &Mark| {
                shown
                    .since(mark.shown)
                    .is_some_and(|more| mark.total.plus(more) == total)
            };
            if !self.since_restart.as_ref().is_some_and(on_track) {
                self.since_restart = Some(Mark { shown, total });
            }
        }
        if let Some((seen, energy)) = shown.month {
            let shown = MilliWattHours::from(energy);
            let goes_on = self.month_goes_on(Counters {
                month: Some((seen, energy)),
                since_restart: None,
            });
            let on_track = |old: &MonthMark| {
                let total_with = |more| old.mark.total.plus(more);
                let more = shown.since(old.mark.shown);
                goes_on && more.is_some_and(|more| total_with(more).difference(total) <= ROUNDING)
            };
            let mark = match self.month.filter(on_track) {
                Some(old) => old.mark,
                None => Mark { shown, total },
            };
            self.month = Some(MonthMark {
                mark,
                last: energy,
                seen,
            });
        }
    }
}

fn month_of(time: civil::DateTime) -> (i16, i8) {
    (time.year(), time.month())
}

#[cfg(test)]
mod tests;
