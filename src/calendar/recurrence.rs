//! How a holiday repeats: each year on its date, or on such a day of the week of a month.

use std::str::FromStr;

use jiff::civil::{Date, Weekday};

use super::ics::weekday;

/// No calendar is read further.
const LAST_YEAR: i16 = 2100;

/// An `RRULE` of holidays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recurrence {
    interval: i16,
    /// So many occurrences.
    count: Option<usize>,
    /// The last day that one may be on.
    until: Option<Date>,
    month: Option<i8>,
    day: Option<i8>,
    /// The fourth Thursday, the last (-1) Monday.
    weekday: Option<(i8, Weekday)>,
}

impl FromStr for Recurrence {
    /// What is supported.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const YEARLY: &str = "a holiday repeats FREQ=YEARLY, with INTERVAL, COUNT, UNTIL, and one BYMONTH, BYMONTHDAY or \
                              BYDAY such as 4TH";
        let mut rule = Self {
            interval: 1,
            count: None,
            until: None,
            month: None,
            day: None,
            weekday: None,
        };
        let mut is_yearly = false;
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or(YEARLY)?;
            match key.to_ascii_uppercase().as_str() {
                "FREQ" => is_yearly = value.eq_ignore_ascii_case("YEARLY"),
                "INTERVAL" => rule.interval = number(value, 1..=100).ok_or(YEARLY)?,
                "COUNT" => rule.count = Some(value.parse().map_err(|_| YEARLY)?),
                "UNTIL" => rule.until = Some(date_of(value).ok_or(YEARLY)?),
                "BYMONTH" => rule.month = Some(number(value, 1..=12).ok_or(YEARLY)?),
                "BYMONTHDAY" => rule.day = Some(number(value, 1..=31).ok_or(YEARLY)?),
                "BYDAY" => rule.weekday = Some(nth(value).ok_or(YEARLY)?),
                // Where a week begins matters for weeks only.
                "WKST" => {}
                _ => return Err(YEARLY),
            }
        }
        // A day of the week without a month counts from the beginning of the year.
        let is_clear = rule.weekday.is_none() || (rule.month.is_some() && rule.day.is_none());
        if is_yearly && is_clear {
            Ok(rule)
        } else {
            Err(YEARLY)
        }
    }
}

impl Recurrence {
    /// The dates from the first on.
    pub(super) fn dates(&self, start: Date) -> impl Iterator<Item = Date> {
        let step = usize::try_from(self.interval).unwrap_or(1);
        let years = (start.year()..=LAST_YEAR).step_by(step);
        let dates = years.filter_map(move |year| self.in_year(start, year));
        let until = self.until.unwrap_or(Date::MAX);
        dates
            .filter(move |date| *date >= start)
            .take(self.count.unwrap_or(usize::MAX))
            .take_while(move |date| *date <= until)
    }

    /// `None`: that year has no such date.
    fn in_year(&self, start: Date, year: i16) -> Option<Date> {
        let month = self.month.unwrap_or(start.month());
        match self.weekday {
            Some((nth, day)) => Date::new(year, month, 1)
                .ok()?
                .nth_weekday_of_month(nth, day)
                .ok(),
            None => Date::new(year, month, self.day.unwrap_or(start.day())).ok(),
        }
    }
}

fn number<T: FromStr + PartialOrd>(text: &str, range: std::ops::RangeInclusive<T>) -> Option<T> {
    let number = text.trim().parse().ok()?;
    range.contains(&number).then_some(number)
}

/// The date of `20261231` or `20261231T235959Z`.
fn date_of(text: &str) -> Option<Date> {
    let digits = text.get(..8)?;
    let part = |range| digits.get(range);
    Date::new(
        part(0..4)?.parse().ok()?,
        part(4..6)?.parse().ok()?,
        part(6..8)?.parse().ok()?,
    )
    .ok()
}

/// `4TH`, `-1MO`.
fn nth(text: &str) -> Option<(i8, Weekday)> {
    let text = text.trim().to_ascii_uppercase();
    let (number, day) = text.split_at_checked(text.len().checked_sub(2)?)?;
    let number: i8 = number.strip_prefix('+').unwrap_or(number).parse().ok()?;
    let is_one = (1..=5).contains(&number) || (-5..=-1).contains(&number);
    is_one.then_some(number).zip(weekday(day))
}
