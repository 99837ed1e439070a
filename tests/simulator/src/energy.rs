//! What an outlet's meter has counted, by the hour.

use std::{collections::BTreeMap, time::Duration};

use jiff::{Timestamp, civil, tz::TimeZone};
use serde_json::{Value, json};

use crate::clock::{after, between};

/// The voltage of every simulated outlet, in mV.
pub(crate) const VOLTAGE_MV: u32 = 230_000;
const HOUR: i64 = 3600;
/// Hours are forgotten after this many.
const HOURS_KEPT: usize = 24 * 400;

/// Energy and running time of each hour. The device lives in UTC.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    hours: BTreeMap<i64, Hour>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Hour {
    milliwatt_hours: f64,
    running: Duration,
}

/// A sum over some hours.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) milliwatt_hours: f64,
    pub(crate) running: Duration,
}

impl Usage {
    pub(crate) fn watt_hours(self) -> u64 {
        whole(self.milliwatt_hours / 1000.0)
    }

    pub(crate) fn minutes(self) -> u64 {
        self.running.as_secs() / 60
    }
}

impl Ledger {
    /// Books a load that ran from `start` to `end`.
    pub(crate) fn book(&mut self, start: Timestamp, end: Timestamp, watts: f64) {
        let mut from = start;
        while from < end {
            let hour = from.as_second().div_euclid(HOUR);
            let next_hour = Timestamp::from_second((hour + 1) * HOUR).unwrap_or(end);
            let until = next_hour.min(end);
            let running = between(from, until);
            let entry = self.hours.entry(hour).or_default();
            entry.milliwatt_hours += watts * 1000.0 * running.as_secs_f64() / 3600.0;
            entry.running += running;
            from = until;
        }
        while self.hours.len() > HOURS_KEPT {
            self.hours.pop_first();
        }
    }

    /// Adds energy that was counted before the device started.
    pub(crate) fn add(&mut self, moment: Timestamp, watt_hours: f64) {
        let hour = moment.as_second().div_euclid(HOUR);
        self.hours.entry(hour).or_default().milliwatt_hours += watt_hours * 1000.0;
    }

    pub(crate) fn today(&self, now: Timestamp) -> Usage {
        self.since(midnight(now))
    }

    pub(crate) fn month(&self, now: Timestamp) -> Usage {
        let first = civil_time(now).date().first_of_month();
        self.since(start_of(first))
    }

    /// The last `days` days, today among them.
    pub(crate) fn past_days(&self, now: Timestamp, days: u32) -> Usage {
        let start = midnight(now).as_second() - i64::from(days - 1) * 24 * HOUR;
        self.since(Timestamp::from_second(start).unwrap_or(now))
    }

    fn since(&self, start: Timestamp) -> Usage {
        self.between(start, Timestamp::MAX)
    }

    fn between(&self, start: Timestamp, end: Timestamp) -> Usage {
        let (start, end) = (
            start.as_second().div_euclid(HOUR),
            end.as_second().div_euclid(HOUR),
        );
        if start >= end {
            return Usage::default();
        }
        self.hours
            .range(start..end)
            .fold(Usage::default(), |sum, (_, hour)| Usage {
                milliwatt_hours: sum.milliwatt_hours + hour.milliwatt_hours,
                running: sum.running + hour.running,
            })
    }

    /// The answer of `get_energy_data`: watt-hours per hour (60), day (1440) or month (43200), none for
    /// other intervals. Days come for the quarter and months for the year of the start.
    pub(crate) fn history(&self, now: Timestamp, start: i64, end: i64, interval: u64) -> Option<Value> {
        let first = Timestamp::from_second(start).ok()?;
        let day = civil_time(first).date();
        let edges = match interval {
            60 => {
                let hours = (end.checked_sub(start)? / HOUR + 1).clamp(1, 24 * 8);
                let edge = |n: i64| Timestamp::from_second(start.saturating_add(n * HOUR)).ok();
                (0..=hours).map(edge).collect::<Option<Vec<_>>>()?
            }
            1440 => {
                let month = (day.month() - 1) / 3 * 3 + 1;
                let first = civil::Date::new(day.year(), month, 1).ok()?;
                let last = first.checked_add(jiff::Span::new().months(3)).ok()?;
                dates(first, last, jiff::Span::new().days(1))?
            }
            43_200 => {
                let first = day.first_of_year();
                let last = first.checked_add(jiff::Span::new().years(1)).ok()?;
                dates(first, last, jiff::Span::new().months(1))?
            }
            _ => return None,
        };
        let data: Vec<u64> = edges
            .iter()
            .zip(edges.iter().skip(1))
            .map(|(from, to)| self.between(*from, *to).watt_hours())
            .collect();
        Some(json!({
            "local_time": local_time(now),
            "data": data,
            "start_timestamp": edges.first()?.as_second(),
            "end_timestamp": edges.last()?.as_second() - 1,
            "interval": interval,
        }))
    }

    /// The answer of `get_power_data`: mean watts per 5 or 60 minutes, none for other intervals.
    pub(crate) fn power_history(&self, start: i64, end: i64, interval: u64) -> Option<Value> {
        let step = match interval {
            5 => 300,
            60 => HOUR,
            _ => return None,
        };
        let count = (end.checked_sub(start)? / step).clamp(1, 144);
        let mean = |n: i64| {
            let hour = start.saturating_add(n * step).div_euclid(HOUR);
            let milliwatt_hours = self.hours.get(&hour).map_or(0.0, |hour| hour.milliwatt_hours);
            whole(milliwatt_hours / 1000.0)
        };
        let data: Vec<u64> = (0..count).map(mean).collect();
        Some(json!({
            "data": data,
            "start_timestamp": start,
            "end_timestamp": start.saturating_add(count * step),
            "interval": interval,
        }))
    }
}

fn dates(first: civil::Date, last: civil::Date, step: jiff::Span) -> Option<Vec<Timestamp>> {
    let mut edges = vec![start_of(first)];
    let mut date = first;
    while date < last {
        date = date.checked_add(step).ok()?;
        edges.push(start_of(date));
    }
    Some(edges)
}

/// The date and time on the device's wall.
pub(crate) fn civil_time(moment: Timestamp) -> civil::DateTime {
    TimeZone::UTC.to_datetime(moment)
}

/// As the device writes it.
pub(crate) fn local_time(moment: Timestamp) -> String {
    civil_time(moment).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

pub(crate) fn midnight(moment: Timestamp) -> Timestamp {
    start_of(civil_time(moment).date())
}

pub(crate) fn start_of(date: civil::Date) -> Timestamp {
    TimeZone::UTC
        .to_timestamp(date.to_datetime(civil::Time::midnight()))
        .unwrap_or(Timestamp::MAX)
}

/// `minute` minutes into a date.
pub(crate) fn minute_of(date: civil::Date, minute: u64) -> Timestamp {
    after(start_of(date), Duration::from_secs(minute * 60))
}

/// The nearest whole number that is not negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Saturates, which is what is wanted.
pub(crate) fn whole(value: f64) -> u64 {
    value.round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_load_is_booked_to_the_hours_and_the_days_it_ran() {
        let mut ledger = Ledger::default();
        ledger.book(at("2026-11-20T23:30:00Z"), at("2026-11-21T01:30:00Z"), 100.0);
        let now = at("2026-11-21T02:00:00Z");
        assert_eq!(ledger.today(now).watt_hours(), 150);
        assert_eq!(ledger.today(now).minutes(), 90);
        assert_eq!(ledger.month(now).watt_hours(), 200);
        assert_eq!(ledger.past_days(now, 7).watt_hours(), 200);
        assert_eq!(ledger.today(at("2026-12-01T00:00:00Z")).watt_hours(), 0);
        assert_eq!(ledger.month(at("2026-12-01T00:00:00Z")).watt_hours(), 0);
    }

    #[test]
    fn the_history_comes_by_hour_day_and_month() {
        let mut ledger = Ledger::default();
        ledger.book(at("2026-11-20T23:30:00Z"), at("2026-11-21T01:30:00Z"), 100.0);
        let now = at("2026-11-21T02:00:00Z");
        let (start, end) = (
            at("2026-11-21T00:00:00Z").as_second(),
            at("2026-11-21T23:59:59Z").as_second(),
        );

        let hours = ledger.history(now, start, end, 60).unwrap();
        assert_eq!(hours["data"].as_array().unwrap().len(), 24);
        assert_eq!((&hours["data"][0], &hours["data"][1]), (&json!(100), &json!(50)));
        let days = ledger.history(now, start, start, 1440).unwrap();
        assert_eq!(days["data"].as_array().unwrap().len(), 92);
        assert_eq!((&days["data"][50], &days["data"][51]), (&json!(50), &json!(150)));
        let months = ledger.history(now, start, start, 43_200).unwrap();
        assert_eq!(
            (months["data"].as_array().unwrap().len(), &months["data"][10]),
            (12, &json!(200))
        );
        assert_eq!(ledger.history(now, start, end, 7), None);
        assert_eq!(ledger.history(now, i64::MAX, i64::MIN, 60), None);
    }
}
