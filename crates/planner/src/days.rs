//! The days a schedule starts on: days of the week, and workdays, holidays, weekends.

use std::{fmt, str::FromStr};

use jiff::civil::{Date, Weekday};

use super::holidays::Holidays;

/// At least one day of the week or kind of day. Reads `mon`, `monday`, `1` (ISO: Monday is 1), `workday`, `holiday`,
/// `weekend`, and lists with commas or spaces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Days(u16);

/// A kind of day, which the calendar of the place knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayKind {
    /// Neither at the weekend nor a holiday.
    Workday,
    /// A holiday, also at the weekend.
    Holiday,
    /// A day of the weekend, also if it is a holiday.
    Weekend,
}

/// Why a date is one of the days of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayMatch<'a> {
    /// By its day of the week.
    Weekday,
    /// It is a holiday, with its name if it has one.
    Holiday(Option<&'a str>),
    /// It is at the weekend.
    Weekend,
    /// It is a workday.
    Workday,
    /// It is none of the weekend, and nothing says whether it is a holiday.
    AssumedWorkday,
}

/// Why a text is no set of days.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DaysError {
    /// A schedule that never runs is disabled, not left without days.
    #[error("is empty; name at least one day, or leave it out for every day")]
    Empty,
    /// Neither a name nor a number.
    #[error(
        "{0:?} is not a day; use mon, tue, wed, thu, fri, sat, sun, workday, holiday, weekend or 1 (Monday) to 7"
    )]
    Unknown(String),
}

const WEEK: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

const KINDS: [DayKind; 3] = [DayKind::Workday, DayKind::Holiday, DayKind::Weekend];

impl DayKind {
    /// As settings write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workday => "workday",
            Self::Holiday => "holiday",
            Self::Weekend => "weekend",
        }
    }
}

impl Days {
    /// Every day of the week.
    pub const ALL: Self = Self(0b111_1111);

    /// The listed days; a day may be listed twice.
    ///
    /// # Errors
    /// An empty list.
    pub fn new(days: impl IntoIterator<Item = Weekday>) -> Result<Self, DaysError> {
        Self::of_bits(days.into_iter().map(bit))
    }

    fn of_bits(days: impl IntoIterator<Item = u16>) -> Result<Self, DaysError> {
        match days.into_iter().fold(0, |bits, day| bits | day) {
            0 => Err(DaysError::Empty),
            bits => Ok(Self(bits)),
        }
    }

    /// Days from one text each, as settings list them.
    ///
    /// # Errors
    /// An empty list, or a text that is no day.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, DaysError> {
        let days: Vec<u16> = names.into_iter().map(named).collect::<Result<_, _>>()?;
        Self::of_bits(days)
    }

    /// A day of the week by its name.
    pub fn weekday(name: &str) -> Option<Weekday> {
        weekday(name).ok()
    }

    /// Why a date is one of the days; `None`: it is not.
    pub fn matched(self, date: Date, holidays: &Holidays) -> Option<DayMatch<'_>> {
        if self.0 & bit(date.weekday()) != 0 {
            return Some(DayMatch::Weekday);
        }
        if !self.has_kind() {
            return None;
        }
        let (weekend, holiday) = (holidays.is_weekend(date), holidays.on(date));
        match holiday {
            Some(holiday) if self.lists(DayKind::Holiday) => Some(DayMatch::Holiday(holiday.name())),
            _ if weekend => self.lists(DayKind::Weekend).then_some(DayMatch::Weekend),
            None if self.lists(DayKind::Workday) && holidays.covers(date) => Some(DayMatch::Workday),
            None if self.lists(DayKind::Workday) => Some(DayMatch::AssumedWorkday),
            _ => None,
        }
    }

    /// Whether a kind of day is listed.
    pub fn lists(self, kind: DayKind) -> bool {
        self.0 & kind_bit(kind) != 0
    }

    /// Whether any kind of day is listed, so that the calendar of the place counts.
    pub fn has_kind(self) -> bool {
        KINDS.into_iter().any(|kind| self.lists(kind))
    }

    /// The short names of the days and kinds, as [`Days::from_names`] reads them: Monday first, kinds last.
    pub fn names(self) -> Vec<&'static str> {
        let days = WEEK.into_iter().filter(|day| self.0 & bit(*day) != 0);
        let kinds = KINDS.into_iter().filter(|kind| self.lists(*kind));
        days.map(short).chain(kinds.map(DayKind::as_str)).collect()
    }
}

impl Default for Days {
    fn default() -> Self {
        Self::ALL
    }
}

fn bit(day: Weekday) -> u16 {
    1 << day.to_monday_zero_offset()
}

fn kind_bit(kind: DayKind) -> u16 {
    match kind {
        DayKind::Workday => 1 << 7,
        DayKind::Holiday => 1 << 8,
        DayKind::Weekend => 1 << 9,
    }
}

fn named(text: &str) -> Result<u16, DaysError> {
    let name = text.trim().to_ascii_lowercase();
    match KINDS.into_iter().find(|kind| kind.as_str() == name) {
        Some(kind) => Ok(kind_bit(kind)),
        None => weekday(text).map(bit),
    }
}

fn short(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "mon",
        Weekday::Tuesday => "tue",
        Weekday::Wednesday => "wed",
        Weekday::Thursday => "thu",
        Weekday::Friday => "fri",
        Weekday::Saturday => "sat",
        Weekday::Sunday => "sun",
    }
}

fn weekday(text: &str) -> Result<Weekday, DaysError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "mon" | "monday" => Ok(Weekday::Monday),
        "2" | "tue" | "tuesday" => Ok(Weekday::Tuesday),
        "3" | "wed" | "wednesday" => Ok(Weekday::Wednesday),
        "4" | "thu" | "thursday" => Ok(Weekday::Thursday),
        "5" | "fri" | "friday" => Ok(Weekday::Friday),
        "6" | "sat" | "saturday" => Ok(Weekday::Saturday),
        "7" | "sun" | "sunday" => Ok(Weekday::Sunday),
        _ => Err(DaysError::Unknown(text.to_owned())),
    }
}

impl FromStr for Days {
    type Err = DaysError;

    fn from_str(text: &str) -> Result<Self, DaysError> {
        let names = text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|name| !name.is_empty());
        Self::from_names(names)
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("every day");
        }
        f.write_str(&self.names().join(", "))
    }
}

impl fmt::Debug for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Days({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_names_or_iso_numbers() {
        let expected = Days::new([Weekday::Monday, Weekday::Friday]).unwrap();
        for text in ["mon, fri", "Monday friday", "1,5", "fri,mon,fri"] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!(Days::from_names(["7"]).unwrap().to_string(), "sun");
        assert_eq!(Days::default().names().len(), 7);
        let mixed: Days = "holiday, sat Workday".parse().unwrap();
        assert_eq!(mixed.names(), ["sat", "workday", "holiday"]);
        assert_eq!(mixed.to_string(), "sat, workday, holiday");
    }

    #[test]
    fn an_empty_list_and_unknown_days_are_errors() {
        assert_eq!("".parse::<Days>(), Err(DaysError::Empty));
        assert_eq!(Days::from_names([]), Err(DaysError::Empty));
        for bad in ["0", "8", "mo", "weekends"] {
            assert_eq!(bad.parse::<Days>(), Err(DaysError::Unknown(bad.to_owned())));
        }
    }

    #[test]
    fn kinds_of_days_follow_the_calendar() {
        // Christmas 2026 is a Friday, the 26th a Saturday.
        let calendar = [
            (Date::constant(2026, 12, 25), "Christmas Day".into()),
            (Date::constant(2026, 12, 26), "Boxing Day".into()),
        ];
        let holidays = Holidays::default().with_dates(std::sync::Arc::new(calendar.into()));
        let matched = |days: &str, day: i8| {
            let days: Days = days.parse().unwrap();
            let found = days.matched(Date::constant(2026, 12, day), &holidays);
            found.map(|found| format!("{found:?}"))
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(matched("workday", 24), is("Workday"));
        assert_eq!(matched("workday", 25), None);
        assert_eq!(
            matched("workday, holiday", 25),
            is("Holiday(Some(\"Christmas Day\"))")
        );
        assert_eq!(matched("workday, fri", 25), is("Weekday"));
        assert_eq!(matched("weekend", 25), None);
        assert_eq!(matched("weekend", 26), is("Weekend"));
        assert_eq!(matched("holiday", 26), is("Holiday(Some(\"Boxing Day\"))"));
        assert_eq!(matched("workday", 26), None);
        assert_eq!(matched("weekend, holiday", 27), is("Weekend"));
        // The calendar ends with Boxing Day.
        assert_eq!(matched("workday", 28), is("AssumedWorkday"));
        assert_eq!(matched("sat, sun", 28), None);
    }
}
