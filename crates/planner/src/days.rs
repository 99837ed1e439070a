//! The days of the week a schedule starts on.

use std::{fmt, str::FromStr};

use jiff::civil::Weekday;

/// At least one day of the week. Reads `mon`, `monday`, `1` (ISO: Monday is 1), and lists with commas or
/// spaces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Days(u8);

/// Why a text is no set of days.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DaysError {
    /// A schedule that never runs is disabled, not left without days.
    #[error("is empty; name at least one day, or leave it out for every day")]
    Empty,
    /// Neither a name nor a number.
    #[error("{0:?} is not a day; use mon, tue, wed, thu, fri, sat, sun or 1 (Monday) to 7")]
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

impl Days {
    /// Every day of the week.
    pub const ALL: Self = Self(0b111_1111);

    /// The listed days; a day may be listed twice.
    ///
    /// # Errors
    /// An empty list.
    pub fn new(days: impl IntoIterator<Item = Weekday>) -> Result<Self, DaysError> {
        let bits = days.into_iter().fold(0, |bits, day| bits | bit(day));
        if bits == 0 {
            Err(DaysError::Empty)
        } else {
            Ok(Self(bits))
        }
    }

    /// Days from one text each, as settings list them.
    ///
    /// # Errors
    /// An empty list, or a text that is no day.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, DaysError> {
        let days: Vec<Weekday> = names.into_iter().map(weekday).collect::<Result<_, _>>()?;
        Self::new(days)
    }

    /// Whether the day is listed.
    pub fn contains(self, day: Weekday) -> bool {
        self.0 & bit(day) != 0
    }

    /// The short names of the days, as [`Days::from_names`] reads them.
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(short).collect()
    }

    /// The days, Monday first.
    pub fn iter(self) -> impl Iterator<Item = Weekday> {
        WEEK.into_iter().filter(move |day| self.contains(*day))
    }
}

impl Default for Days {
    fn default() -> Self {
        Self::ALL
    }
}

fn bit(day: Weekday) -> u8 {
    1 << day.to_monday_zero_offset()
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
        for (position, day) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{}", short(day))?;
        }
        Ok(())
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
        assert_eq!(Days::default().iter().count(), 7);
    }

    #[test]
    fn an_empty_list_and_unknown_days_are_errors() {
        assert_eq!("".parse::<Days>(), Err(DaysError::Empty));
        assert_eq!(Days::from_names([]), Err(DaysError::Empty));
        for bad in ["0", "8", "mo", "weekend"] {
            assert_eq!(bad.parse::<Days>(), Err(DaysError::Unknown(bad.to_owned())));
        }
    }
}
