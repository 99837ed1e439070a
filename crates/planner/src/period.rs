//! Lengths of real time, and the arithmetic of instants that never fails.

use std::{fmt, str::FromStr};

use jiff::{
    SignedDuration, Timestamp,
    fmt::friendly::{Designator, SpanPrinter},
};
use serde::{Deserialize, Serialize};

/// A length of real time: more than zero, at most 366 days. Reads and prints as `2h`, `1h 30m`, `45s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(SignedDuration);

/// Why a text or a length is no [`Period`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// Not a duration at all.
    #[error("{0:?} is not a duration; write it like 90s, 30m, 2h or 1h 30m")]
    Syntax(String),
    /// Zero or negative.
    #[error("must be longer than zero")]
    NotPositive,
    /// More than [`Period::LONGEST`].
    #[error("is longer than 366 days")]
    TooLong,
}

impl Period {
    /// The longest period: 366 days.
    pub const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

    /// A length of time.
    ///
    /// # Errors
    /// Zero, negative, or longer than [`Period::LONGEST`].
    pub fn new(length: SignedDuration) -> Result<Self, PeriodError> {
        if length <= SignedDuration::ZERO {
            Err(PeriodError::NotPositive)
        } else if length > Self::LONGEST {
            Err(PeriodError::TooLong)
        } else {
            Ok(Self(length))
        }
    }

    /// Whole hours, for the constants of this crate.
    pub(crate) const fn hours(hours: u16) -> Self {
        assert!(hours > 0 && hours <= 366 * 24);
        Self(SignedDuration::from_hours(hours as i64))
    }

    /// Whole minutes, for the constants of this crate.
    pub(crate) const fn minutes(minutes: u16) -> Self {
        assert!(minutes > 0);
        Self(SignedDuration::from_mins(minutes as i64))
    }

    /// Whole seconds, for the constants of this crate.
    pub(crate) const fn seconds(seconds: u16) -> Self {
        assert!(seconds > 0);
        Self(SignedDuration::from_secs(seconds as i64))
    }

    /// The length.
    pub const fn length(self) -> SignedDuration {
        self.0
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let length = text
            .trim()
            .parse::<SignedDuration>()
            .map_err(|_| PeriodError::Syntax(text.to_owned()))?;
        Self::new(length)
    }
}

impl TryFrom<String> for Period {
    type Error = PeriodError;

    fn try_from(text: String) -> Result<Self, PeriodError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printer = SpanPrinter::new().designator(Designator::Compact);
        f.write_str(&printer.duration_to_string(&self.0))
    }
}

/// The instant `length` after `start`; the last there is when the calendar ends before.
pub fn after(start: Timestamp, length: SignedDuration) -> Timestamp {
    start.checked_add(length).unwrap_or(Timestamp::MAX)
}

/// The time from `start` to `end`; zero when `end` is earlier, as after a clock was set back.
pub fn elapsed(start: Timestamp, end: Timestamp) -> SignedDuration {
    end.duration_since(start).max(SignedDuration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_read_as_people_write_them() {
        let cases = [
            ("90s", 90),
            ("30m", 1800),
            ("2h", 7200),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            (" 24h ", 86400),
            ("PT2H", 7200),
        ];
        for (text, seconds) in cases {
            assert_eq!(
                text.parse::<Period>().unwrap().length(),
                SignedDuration::from_secs(seconds),
                "{text}"
            );
        }
    }

    #[test]
    fn an_invalid_period_is_refused_with_a_reason() {
        for text in ["", "2", "h", "2 apples", "inf"] {
            assert_eq!(
                text.parse::<Period>(),
                Err(PeriodError::Syntax(text.to_owned())),
                "{text}"
            );
        }
        assert_eq!("0s".parse::<Period>(), Err(PeriodError::NotPositive));
        assert_eq!("-2h".parse::<Period>(), Err(PeriodError::NotPositive));
        assert_eq!("8785h".parse::<Period>(), Err(PeriodError::TooLong));
        assert!("8784h".parse::<Period>().is_ok());
    }

    #[test]
    fn periods_print_short_and_read_back() {
        for text in ["1s", "45s", "30m", "2h", "1h 30m", "26h 1m 5s", "250ms"] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.to_string(), text);
            assert_eq!(
                serde_json::from_str::<Period>(&serde_json::to_string(&period).unwrap()).unwrap(),
                period
            );
        }
    }
}
