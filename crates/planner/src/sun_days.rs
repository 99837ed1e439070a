//! The dates on which the sun makes a window empty, or longer than half a day.

use std::fmt;

use jiff::{SignedDuration, civil::Date};
use serde::{Serialize, Serializer};

use super::occurrence::Calendar;

/// A window that is longer than this on some dates may surprise.
const LONG: SignedDuration = SignedDuration::from_hours(12);

/// What the sun does to a window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SunDays {
    /// There is no window: its end would be before its start.
    pub empty: Vec<DateRange>,
    /// It lasts longer than 12 h.
    pub long: Vec<DateRange>,
}

/// Days of a schedule in a row. Serialized as both dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateRange {
    /// The first day.
    pub first: Date,
    /// The last day; the same for a single one.
    pub last: Date,
}

impl SunDays {
    /// Looks at so many dates. Empty for a window that does not depend on the sun.
    pub fn of(calendar: &Calendar<'_>, from: Date, days: usize) -> Self {
        let mut found = Self::default();
        let (Some(start), Some(end)) = (calendar.window.start(), calendar.window.end()) else {
            return found;
        };
        if !start.needs_sun() && !end.needs_sun() {
            return found;
        }
        let dates = from.series(jiff::Span::new().days(1)).take(days);
        let mut previous = None;
        for date in dates.filter(|date| {
            calendar
                .days
                .matched(*date, &calendar.location.holidays)
                .is_some()
        }) {
            match calendar.on(date) {
                None => add(&mut found.empty, previous, date),
                Some(it) if it.end.duration_since(it.start) > LONG => add(&mut found.long, previous, date),
                Some(_) => {}
            }
            previous = Some(date);
        }
        found
    }

    /// Whether the sun does nothing to it.
    pub fn is_none(&self) -> bool {
        self.empty.is_empty() && self.long.is_empty()
    }
}

/// Lengthens the last range, if the day of the schedule before this one is in it.
fn add(ranges: &mut Vec<DateRange>, previous: Option<Date>, date: Date) {
    match ranges.last_mut() {
        Some(range) if Some(range.last) == previous => range.last = date,
        _ => ranges.push(DateRange {
            first: date,
            last: date,
        }),
    }
}

/// As a person reads it.
impl fmt::Display for SunDays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ranges: &[DateRange]| {
            let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            texts.join(", ")
        };
        let mut separator = "";
        if !self.empty.is_empty() {
            write!(
                f,
                "no window on {}, when the sun puts its end before its start",
                list(&self.empty)
            )?;
            separator = "; ";
        }
        if !self.long.is_empty() {
            write!(f, "{separator}longer than 12 h on {}", list(&self.long))?;
        }
        Ok(())
    }
}

impl fmt::Display for DateRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, " to {}", self.last)?;
        }
        Ok(())
    }
}

impl Serialize for DateRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.first, self.last].serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::{
        days::Days,
        edge::{Clamps, ClockTime, Edge},
        holidays::Holidays,
        location::{Coordinates, Location},
        window::Window,
    };

    fn in_berlin(start: &str, end: &str, days: Days) -> SunDays {
        let edge = |text: &str| {
            let fallback = text.starts_with("sun").then_some(ClockTime::MIDNIGHT);
            Edge::new(text.parse().unwrap(), Clamps::default(), fallback).unwrap()
        };
        let calendar = Calendar {
            days,
            window: &Window::between(edge(start), edge(end)).unwrap(),
            location: &Location {
                coordinates: Some(Coordinates::new(52.52, 13.405).unwrap()),
                zone: TimeZone::get("Europe/Berlin").unwrap(),
                holidays: Holidays::default(),
            },
            seed: None,
        };
        SunDays::of(&calendar, Date::constant(2027, 1, 1), 365)
    }

    #[test]
    fn empty_and_long_windows_have_their_dates() {
        let found = in_berlin("05:30", "sunrise", Days::ALL);
        assert_eq!(
            found.to_string(),
            "no window on 2027-05-04 to 2027-08-03, when the sun puts its end before its start"
        );
        assert_eq!(
            serde_json::to_value(&found).unwrap(),
            serde_json::json!({"empty": [["2027-05-04", "2027-08-03"]], "long": []})
        );
        assert_eq!(
            in_berlin("sunset", "sunrise", Days::ALL).to_string(),
            "longer than 12 h on 2027-01-01 to 2027-03-17, 2027-09-26 to 2027-12-31"
        );
        // A weekend in between does not end a range.
        let found = in_berlin("05:30", "sunrise", "mon,tue,wed,thu,fri".parse().unwrap());
        assert_eq!(found.empty.len(), 1, "{found}");
        for (start, end) in [("06:00", "20:00"), ("sunset", "23:00")] {
            assert!(in_berlin(start, end, Days::ALL).is_none(), "{start} to {end}");
        }
    }
}
