//! Which days are holidays and weekends at a place.

use std::{collections::BTreeMap, sync::Arc};

use jiff::civil::{Date, Weekday};

use super::SensorId;

/// Days that a sensor was heard on and that are kept: today, and those whose windows may still be open.
const HEARD: usize = 4;

/// What is known of holidays, and which days are the weekend. A day that nothing is known about is no holiday: it counts by
/// its day of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holidays {
    weekend: Vec<Weekday>,
    /// Those of a calendar, with their names; `None` without a calendar.
    dates: Option<Arc<HolidayDates>>,
    /// A sensor that says on each day whether it is a workday.
    sensor: Option<(SensorId, WorkdaysHeard)>,
}

/// The holidays of a calendar, with their names.
pub type HolidayDates = BTreeMap<Date, Arc<str>>;

/// What a sensor said on the last days: whether each was a workday.
pub type WorkdaysHeard = BTreeMap<Date, bool>;

/// A holiday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holiday<'a>(Option<&'a str>);

impl<'a> Holiday<'a> {
    /// What it is called, where that is known.
    pub fn name(self) -> Option<&'a str> {
        self.0
    }
}

impl Default for Holidays {
    fn default() -> Self {
        Self {
            weekend: Self::WEEKEND.to_vec(),
            dates: None,
            sensor: None,
        }
    }
}

impl Holidays {
    /// The weekend unless set otherwise.
    pub const WEEKEND: [Weekday; 2] = [Weekday::Saturday, Weekday::Sunday];

    /// With another weekend.
    #[must_use]
    pub fn with_weekend(self, weekend: Vec<Weekday>) -> Self {
        Self { weekend, ..self }
    }

    /// With the holidays of a calendar.
    #[must_use]
    pub fn with_dates(self, dates: Arc<HolidayDates>) -> Self {
        Self {
            dates: Some(dates),
            ..self
        }
    }

    /// With a sensor that is true on workdays, and what it said. On a day on which it was heard it goes before the calendar.
    #[must_use]
    pub fn with_sensor(self, sensor: SensorId, heard: WorkdaysHeard) -> Self {
        Self {
            sensor: Some((sensor, heard)),
            ..self
        }
    }

    /// The sensor that says what today is.
    pub fn sensor(&self) -> Option<&SensorId> {
        self.sensor.as_ref().map(|(sensor, _)| sensor)
    }

    /// Whether there is a calendar.
    pub fn has_dates(&self) -> bool {
        self.dates.is_some()
    }

    /// Whether anything says which days are holidays.
    pub fn has_source(&self) -> bool {
        self.dates.is_some() || self.sensor.is_some()
    }

    /// Whether a date is at the weekend.
    pub fn is_weekend(&self, date: Date) -> bool {
        self.weekend.contains(&date.weekday())
    }

    /// The holiday on a date. A sensor that is false at the weekend says nothing more.
    pub fn on(&self, date: Date) -> Option<Holiday<'_>> {
        let name = self.dates.as_ref().and_then(|dates| dates.get(&date));
        let name = name.map(|name| &**name);
        let is_holiday = match self.heard(date) {
            Some(workday) if !self.is_weekend(date) => !workday,
            _ => name.is_some(),
        };
        is_holiday.then(|| Holiday(name.filter(|name| !name.is_empty())))
    }

    /// Whether it is known if a date is a holiday: the calendar has one on it or later, or the sensor was heard on it.
    pub fn covers(&self, date: Date) -> bool {
        let last = self.dates.as_ref().and_then(|dates| dates.last_key_value());
        let in_calendar = last.is_some_and(|(last, _)| date <= *last);
        in_calendar || self.heard(date).is_some() || !self.has_source()
    }

    fn heard(&self, date: Date) -> Option<bool> {
        self.sensor.as_ref()?.1.get(&date).copied()
    }
}

/// Adds what a sensor says on a day, and forgets days whose windows are over. Returns whether that is new.
pub fn hear(heard: &mut WorkdaysHeard, date: Date, workday: bool) -> bool {
    let is_new = heard.insert(date, workday) != Some(workday);
    while heard.len() > HEARD {
        heard.pop_first();
    }
    is_new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sensor(heard: WorkdaysHeard) -> Holidays {
        Holidays::default().with_sensor("workday".parse().unwrap(), heard)
    }

    #[test]
    fn a_sensor_says_what_the_days_are_on_which_it_was_heard() {
        // A Friday and a Saturday.
        let (friday, saturday) = (Date::constant(2026, 12, 25), Date::constant(2026, 12, 26));
        let holidays = sensor([(friday, false), (saturday, false)].into());
        assert_eq!(holidays.on(friday), Some(Holiday(None)));
        assert_eq!(holidays.on(saturday), None, "it is the weekend");
        assert!(holidays.covers(saturday));
        let monday = Date::constant(2026, 12, 28);
        assert_eq!(holidays.on(monday), None);
        assert!(!holidays.covers(monday));
        assert_eq!(sensor([(friday, true)].into()).on(friday), None);
    }

    #[test]
    fn a_sensor_goes_before_the_calendar_on_its_days() {
        let (friday, monday) = (Date::constant(2026, 12, 25), Date::constant(2026, 12, 28));
        let dates = [(friday, "Christmas Day".into()), (monday, "Boxing Day".into())];
        let calendar = Holidays::default().with_dates(Arc::new(dates.into()));
        let sensor = |workday| {
            let heard = [(friday, workday)].into();
            calendar.clone().with_sensor("workday".parse().unwrap(), heard)
        };
        assert_eq!(sensor(true).on(friday), None);
        assert_eq!(sensor(false).on(friday), Some(Holiday(Some("Christmas Day"))));
        assert_eq!(sensor(true).on(monday), Some(Holiday(Some("Boxing Day"))));
    }

    #[test]
    fn the_last_days_are_kept_and_the_last_value_of_a_day_counts() {
        let mut heard = WorkdaysHeard::new();
        let date = |day| Date::constant(2026, 12, day);
        for day in 1..=10 {
            assert!(hear(&mut heard, date(day), true));
        }
        assert!(!hear(&mut heard, date(10), true));
        assert!(hear(&mut heard, date(10), false));
        assert_eq!(heard.len(), HEARD);
        assert_eq!(heard.last_key_value(), Some((&date(10), &false)));
    }

    #[test]
    fn another_weekend_moves_the_workdays() {
        let days = vec![Weekday::Friday, Weekday::Saturday];
        let holidays = Holidays::default().with_weekend(days);
        assert!(holidays.is_weekend(Date::constant(2026, 12, 25)));
        assert!(!holidays.is_weekend(Date::constant(2026, 12, 27)));
        assert!(holidays.covers(Date::constant(2026, 12, 27)) && !holidays.has_source());
    }
}
