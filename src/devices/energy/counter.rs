//! The energy that an outlet used in all: a total that only grows, from counters that do not. Pure.
//!
//! A device counts a month's energy, which starts over with each month and with a reset, in whole Wh. Newer
//! firmware also counts since the device last restarted, in mWh (tapo 0.12.2, `get_energy_meter_data`). Each is
//! held against what it showed when it last started over, so that rounding does not add up. What both miss, such as
//! the time between the last reading and a restart, is not guessed. With each of them the total is at least so
//! much; so the larger answer counts, if it is clearly larger.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

use planner::units::{MilliWattHours, MilliWatts, WattHours};

/// No outlet carries more: 16 A at 250 V.
const LARGEST_LOAD: MilliWatts = MilliWatts::from_watts(4000);
/// What a reading may show more than the largest load: counters are rounded, and clocks drift.
const SLACK: MilliWattHours = MilliWattHours::new(10_000);
/// How far the clock of a device may be from that of the bridge, with the zone of either.
const NEAR: SignedDuration = SignedDuration::from_hours(48);
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

    /// The total, if it was counted by this meter.
    pub fn total_of(&self, meter: &str) -> Option<MilliWattHours> {
        (self.meter == meter).then_some(self.total)
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

    /// The most that can have been used since the last reading. Our clock may have stood still, as in a suspended machine,
    /// so that of the device counts too; but only near ours: after a power failure it may start over in the year 2000.
    fn limit(&self, shown: Counters, now: Timestamp) -> MilliWattHours {
        let ours = now.duration_since(self.at).as_secs();
        let device = match (self.month, shown.month) {
            (Some(mark), Some((seen, _))) if is_near(mark.seen, self.at) && is_near(seen, now) => {
                seen.duration_since(mark.seen).as_secs()
            }
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
            let goes_on = self.month_goes_on(shown);
            let shown = MilliWattHours::from(energy);
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

/// Whether the clock of a device, in whatever zone, may be right.
fn is_near(device: civil::DateTime, ours: Timestamp) -> bool {
    let ours = TimeZone::UTC.to_datetime(ours);
    device.duration_since(ours).abs() <= NEAR
}

fn month_of(time: civil::DateTime) -> (i16, i8) {
    (time.year(), time.month())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HALF_MINUTE: i64 = 30;

    /// A device with its two counters, and what was really used.
    struct Device {
        now: Timestamp,
        /// mWh.
        used: u64,
        month: u64,
        since_restart: u64,
        has_fine: bool,
    }

    impl Device {
        fn new(has_fine: bool) -> Self {
            Self {
                now: "2026-11-21T08:00:00Z".parse().unwrap(),
                used: 0,
                month: 123_456,
                since_restart: 77_000,
                has_fine,
            }
        }

        fn civil(&self) -> civil::DateTime {
            self.now.to_zoned_datetime(jiff::tz::TimeZone::UTC).datetime()
        }

        /// Draws so many watts for so long, by the hour. A month that begins within an hour counts all of it.
        fn run(&mut self, watts: u64, seconds: i64) {
            let mut left = seconds;
            while left > 0 {
                let step = left.min(3600);
                let before = month_of(self.civil());
                self.now += SignedDuration::from_secs(step);
                if month_of(self.civil()) != before {
                    self.month = 0;
                }
                let used = watts * 1000 * step.unsigned_abs() / 3600;
                self.used += used;
                self.month += used;
                self.since_restart += used;
                left -= step;
            }
        }

        fn restart(&mut self) {
            self.since_restart = 0;
        }

        fn reset(&mut self) {
            self.month = 0;
            self.since_restart = 0;
        }

        fn shown(&self) -> Counters {
            Counters {
                month: Some((self.civil(), WattHours::new((self.month + 500) / 1000))),
                since_restart: self.has_fine.then(|| MilliWattHours::new(self.since_restart)),
            }
        }

        fn read(&self, account: &mut EnergyCounter) -> u64 {
            mwh(account.read("8022", self.shown(), self.now))
        }
    }

    fn mwh(energy: MilliWattHours) -> u64 {
        serde_json::to_value(energy).unwrap().as_u64().unwrap()
    }

    fn account(device: &Device) -> EnergyCounter {
        let mut account = EnergyCounter::new("8022", device.now);
        assert_eq!(device.read(&mut account), 0, "what was used earlier is not ours");
        account
    }

    #[test]
    fn rounding_does_not_add_up() {
        for has_fine in [true, false] {
            let mut device = Device::new(has_fine);
            let mut account = account(&device);
            for _ in 0..2880 {
                device.run(7, HALF_MINUTE);
                device.read(&mut account);
            }
            let total = mwh(account.total);
            assert!(
                total.abs_diff(device.used) <= 1000,
                "{has_fine}: {total} of {}",
                device.used
            );
        }
    }

    #[test]
    fn what_ran_while_the_bridge_was_away_is_found_again() {
        let mut device = Device::new(true);
        let mut account = account(&device);
        device.run(1000, 3600);
        assert_eq!(device.read(&mut account), device.used);

        // Restarted meanwhile, and counted further than before: only the month knows.
        device.run(2000, 7200);
        device.restart();
        device.run(2000, 36_000);
        let total = device.read(&mut account);
        assert!(total.abs_diff(device.used) <= 2000, "{total} of {}", device.used);
    }

    #[test]
    fn a_new_month_a_restart_and_a_reset_take_nothing_away() {
        let mut device = Device::new(false);
        let mut account = account(&device);
        let mut before = 0;
        for hour in 0..24 * 20 {
            if hour == 100 {
                device.restart();
            }
            if hour == 200 {
                device.reset();
            }
            for _ in 0..120 {
                device.run(60, HALF_MINUTE);
                let total = device.read(&mut account);
                assert!(total >= before && total <= device.used + 1000);
                before = total;
            }
        }
        // Half a minute before the reset and before the month's end was not read.
        assert!(before + 3000 >= device.used, "{before} of {}", device.used);
    }

    #[test]
    fn a_counter_that_shows_nonsense_for_a_moment_is_no_spike() {
        for has_fine in [true, false] {
            let mut device = Device::new(has_fine);
            let mut account = account(&device);
            device.run(60, 3600);
            device.read(&mut account);
            let honest = (device.month, device.since_restart);
            for nonsense in [0, u64::MAX / 2, 3_000_000_000, 0] {
                device.month = nonsense;
                device.since_restart = nonsense;
                device.run(0, HALF_MINUTE);
                let total = device.read(&mut account);
                assert!(total <= 60_000 + 1000, "{nonsense}: {total}");
            }
            (device.month, device.since_restart) = honest;
            device.run(60, HALF_MINUTE);
            let total = device.read(&mut account);
            assert!((60_000..=62_000).contains(&total), "{total}");
        }
    }

    #[test]
    fn last_months_energy_is_not_counted_again_in_the_new_month() {
        let mut device = Device::new(true);
        device.now = "2026-11-30T23:59:50Z".parse().unwrap();
        device.month = 9000;
        let mut account = account(&device);
        device.now += SignedDuration::from_secs(15);
        assert_eq!(device.read(&mut account), 0);
        device.month = 0;
        device.run(60, 60);
        assert_eq!(device.read(&mut account), 1000);
    }

    #[test]
    fn a_clock_that_was_unset_or_set_back_costs_nothing() {
        let mut device = Device::new(true);
        let mut account = account(&device);
        // No month without a clock.
        for _ in 0..60 {
            device.run(600, 60);
            let shown = Counters {
                month: None,
                ..device.shown()
            };
            account.read("8022", shown, device.now);
        }
        assert_eq!(mwh(account.total), 600_000);
        // Our own clock stood still for a day while the device's went on.
        let stopped = device.now;
        device.read(&mut account);
        device.run(600, 86_400);
        let total = mwh(account.read("8022", device.shown(), stopped));
        assert!(total.abs_diff(device.used) <= 2000, "{total} of {}", device.used);
        // The device's clock went back by two months, whose counter it still has.
        let shown = Counters {
            month: Some(("2026-09-30T00:00:00".parse().unwrap(), WattHours::new(4000))),
            since_restart: None,
        };
        assert_eq!(mwh(account.read("8022", shown, device.now)), total);
    }

    #[test]
    fn a_clock_that_starts_over_for_a_reading_adds_no_month() {
        for has_fine in [true, false] {
            let mut device = Device::new(has_fine);
            device.month = 5_050_000;
            let mut account = account(&device);
            for reading in 0..10 {
                device.run(20, HALF_MINUTE);
                let since_2000 = civil::DateTime::constant(2000, 1, 1, 0, 0, 0, 0);
                let shown = Counters {
                    month: device.shown().month.map(|(seen, energy)| {
                        if reading == 5 {
                            (since_2000, WattHours::new(0))
                        } else {
                            (seen, energy)
                        }
                    }),
                    ..device.shown()
                };
                account.read("8022", shown, device.now);
            }
            let total = mwh(account.total);
            assert!(
                total <= device.used + 2000,
                "{has_fine}: {total} of {}",
                device.used
            );
        }
    }

    #[test]
    fn another_device_under_the_same_id_continues_the_total() {
        let mut device = Device::new(true);
        let mut account = account(&device);
        device.run(60, 3600);
        device.read(&mut account);
        device.since_restart = 900_000;
        device.month = 900_000;
        assert_eq!(mwh(account.read("new", device.shown(), device.now)), 60_000);
        device.run(60, 3600);
        assert_eq!(mwh(account.read("new", device.shown(), device.now)), 120_000);
    }

    #[test]
    fn it_survives_being_saved() {
        let mut device = Device::new(true);
        let mut account = account(&device);
        device.run(60, 3600);
        device.read(&mut account);
        let text = serde_json::to_string(&account).unwrap();
        assert_eq!(serde_json::from_str::<EnergyCounter>(&text).unwrap(), account);
    }

    proptest! {
        #[test]
        fn the_total_never_falls_and_never_exceeds_what_was_used(
            has_fine: bool,
            steps in prop::collection::vec((0_u8..8, 0_u64..3600, 1_i64..90_000), 1..60),
        ) {
            let mut device = Device::new(has_fine);
            let mut account = account(&device);
            let (mut before, mut starts) = (0, 1_u64);
            for (what, watts, seconds) in steps {
                let month = month_of(device.civil());
                device.run(watts, seconds);
                match what {
                    0 => device.restart(),
                    1 => device.reset(),
                    2 => continue,
                    3 => account = serde_json::from_str(&serde_json::to_string(&account).unwrap()).unwrap(),
                    _ => {}
                }
                starts += u64::from(what < 2 || month_of(device.civil()) != month);
                let total = device.read(&mut account);
                prop_assert!(total >= before);
                // Each counter that starts over may be rounded up once.
                prop_assert!(total <= device.used + 2000 * starts, "{} of {}", total, device.used);
                before = total;
            }
        }
    }
}
