//! What each outlet used in the quarter hours of the last 35 days and the days of the last three years, shared by the
//! workers that read the meters and the MQTT task that answers for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use planner::units::MilliWattHours;

pub use super::relay_history::{DAYS_MAX, QUARTER_DAYS_MAX, QUARTER_S};
use super::relay_history::{RelayHistory, quarter_of};
use crate::store::Section;

/// Relays that are kept. Of more, the one that was not read for the longest time goes.
const RELAYS_MAX: usize = 1000;
/// Between two writes of the file.
const SAVE: SignedDuration = SignedDuration::from_hours(1);

/// Histories as they are saved, by hardware id and position: the name of an outlet may change.
pub type KeptHistories = BTreeMap<String, RelayHistory>;

/// The histories. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct EnergyHistory {
    kept: Section<KeptHistories>,
    shared: Arc<Mutex<HistoryClock>>,
}

#[derive(Debug)]
struct HistoryClock {
    /// Whose days are kept.
    zone: TimeZone,
    saved_at: Option<Timestamp>,
}

impl Default for HistoryClock {
    fn default() -> Self {
        Self {
            zone: TimeZone::UTC,
            saved_at: None,
        }
    }
}

impl EnergyHistory {
    /// With what an earlier run kept.
    pub fn new(kept: Section<KeptHistories>, zone: TimeZone) -> Self {
        let saved_at = None;
        let shared = Arc::new(Mutex::new(HistoryClock { zone, saved_at }));
        Self { kept, shared }
    }

    /// The settings have another time zone. Days that were kept stay as they are.
    pub fn set_zone(&self, zone: TimeZone) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).zone = zone;
    }

    /// Whether anything was read.
    pub fn is_used(&self) -> bool {
        self.kept.change_count() > 0
    }

    /// Takes a reading of the total of an outlet. It is written to the file once an hour, and at the stop.
    pub fn read(&self, hardware: &str, position: u8, total: MilliWattHours, at: Timestamp) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let saved_at = shared.saved_at;
        let is_due = saved_at.is_none_or(|saved_at| at.duration_since(saved_at).abs() >= SAVE);
        if is_due {
            shared.saved_at = Some(at);
        }
        self.kept.update(|histories| {
            let key = key(hardware, position);
            match histories.get_mut(&key) {
                Some(history) => history.read(total, at, &shared.zone),
                None => begin(histories, key, RelayHistory::new(total, at)),
            }
            is_due
        });
    }

    /// What these relays used together in each quarter hour of some days, in mWh, and when the first one begins.
    pub fn quarters(
        &self,
        relays: &[(&str, u8)],
        first: Date,
        days: u16,
    ) -> (Timestamp, Vec<Option<MilliWattHours>>) {
        let from = self.midnight(first);
        let until = self.midnight(first.saturating_add(i64::from(days).days()));
        let slots = quarter_of(from)..quarter_of(until);
        let values = self.sums(relays, slots, RelayHistory::quarter);
        (from, values)
    }

    /// What these relays used together on each of some days.
    pub fn days(&self, relays: &[(&str, u8)], first: Date, days: u16) -> Vec<Option<MilliWattHours>> {
        let dates = (0..i64::from(days)).map(|day| first.saturating_add(day.days()));
        self.sums(relays, dates, RelayHistory::day)
    }

    fn sums<T: Copy>(
        &self,
        relays: &[(&str, u8)],
        slots: impl Iterator<Item = T>,
        of: impl Fn(&RelayHistory, T) -> Option<MilliWattHours>,
    ) -> Vec<Option<MilliWattHours>> {
        self.kept.read(|histories| {
            let keys = relays.iter().map(|(hardware, position)| key(hardware, *position));
            let histories: Vec<&RelayHistory> = keys.filter_map(|key| histories.get(&key)).collect();
            let sum = |slot| {
                histories
                    .iter()
                    .filter_map(|history| of(history, slot))
                    .reduce(MilliWattHours::plus)
            };
            slots.map(sum).collect()
        })
    }

    /// The day of an instant.
    pub fn date(&self, at: Timestamp) -> Date {
        self.zone().to_datetime(at).date()
    }

    fn midnight(&self, date: Date) -> Timestamp {
        let start = date.to_zoned_datetime(self.zone());
        start.map_or(Timestamp::UNIX_EPOCH, |start| start.timestamp())
    }

    fn zone(&self) -> TimeZone {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.zone.clone()
    }
}

fn begin(histories: &mut KeptHistories, key: String, history: RelayHistory) {
    if histories.len() >= RELAYS_MAX {
        let oldest = histories.iter().min_by_key(|(_, history)| history.at);
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            histories.remove(&oldest);
        }
    }
    histories.insert(key, history);
}

fn key(hardware: &str, position: u8) -> String {
    format!("{hardware}/{position}")
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

    #[test]
    fn outlets_add_up_and_a_day_has_its_real_length() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let history = EnergyHistory::new(Section::default(), zone);
        for (time, total) in [("2026-10-25T08:00:00Z", 0), ("2026-10-25T08:05:00Z", 7)] {
            history.read("8022", 1, mwh(total), at(time));
            history.read("8022", 2, mwh(2 * total), at(time));
        }
        let day = Date::constant(2026, 10, 25);
        let (from, quarters) = history.quarters(&[("8022", 1), ("8022", 2)], day, 1);
        // The clocks go back on this day.
        assert_eq!((from, quarters.len()), (at("2026-10-24T22:00:00Z"), 100));
        let used: Vec<_> = quarters.iter().flatten().copied().collect();
        assert_eq!(used, [mwh(21)]);
        let days = history.days(&[("8022", 1), ("other", 1)], Date::constant(2026, 10, 24), 2);
        assert_eq!(days, [None, Some(mwh(7))]);
    }

    #[test]
    fn it_is_written_once_an_hour_and_bounded() {
        let section: Section<KeptHistories> = Section::default();
        let history = EnergyHistory::new(section.clone(), TimeZone::UTC);
        let start = at("2026-10-25T08:00:00Z");
        for minute in 0..=120 {
            let now = start + SignedDuration::from_mins(minute);
            history.read("8022", 1, mwh(0), now);
        }
        assert_eq!(section.change_count(), 3);
        for number in 0..=RELAYS_MAX {
            history.read(
                &format!("other{number}"),
                1,
                mwh(0),
                start + SignedDuration::from_hours(3),
            );
        }
        assert_eq!(section.get().len(), RELAYS_MAX);
        assert!(
            !section.get().contains_key("8022/1"),
            "it was not read for the longest time"
        );
    }
}
