//! The values inside a command.

use std::{ops::RangeInclusive, time::Duration};

use jiff::{SignedDuration, Timestamp, civil};
use serde::Serialize;
use serde_json::Number;

use super::{
    error::{PayloadError, Shown},
    fields::{Fields, Scalar},
};

/// Longest text of a transaction, in bytes.
pub const TRANSACTION_MAX: usize = 128;

/// Chosen by whoever sends a command, and returned with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Transaction {
    /// 1 to [`TRANSACTION_MAX`] bytes.
    Text(String),
    /// Any number, returned as it came.
    Number(Number),
}

impl TryFrom<Scalar> for Transaction {
    type Error = &'static str;

    fn try_from(value: Scalar) -> Result<Self, &'static str> {
        match value {
            Scalar::Text(text) if (1..=TRANSACTION_MAX).contains(&text.len()) => Ok(Self::Text(text)),
            Scalar::Number(number) => Ok(Self::Number(number)),
            _ => Err("a number or a text of 1 to 128 bytes"),
        }
    }
}

/// A point in time as a person writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// An instant.
    Instant(Timestamp),
    /// The next time that the clock on the wall shows this.
    TimeOfDay(civil::Time),
}

/// The length of time that a key may have.
pub(super) struct DurationKey {
    pub(super) key: &'static str,
    pub(super) range: RangeInclusive<Duration>,
    /// The range in words.
    pub(super) expected: &'static str,
}

impl DurationKey {
    /// Takes the key: a number of seconds, or a text like `1h30m`.
    pub(super) fn take(&self, fields: &mut Fields) -> Result<Option<Duration>, PayloadError> {
        fields.take(self.key).map(|value| self.read(&value)).transpose()
    }

    /// Reads a value of the key.
    pub(super) fn read(&self, value: &Scalar) -> Result<Duration, PayloadError> {
        let (key, expected, shown) = (self.key, self.expected, value.shown());
        let span = match value {
            Scalar::Number(number) => number.as_f64().map(Span::from_seconds),
            Scalar::Text(text) => Span::parse(text),
            _ => None,
        };
        match span {
            None => Err(PayloadError::InvalidValue { key, expected, shown }),
            Some(Span::Length(length)) if self.range.contains(&length) && self.counts(length) => Ok(length),
            Some(_) => Err(PayloadError::OutOfRange { key, expected, shown }),
        }
    }
}

impl DurationKey {
    /// Nothing is counted in less than a second, except for what is no count at all.
    fn counts(&self, length: Duration) -> bool {
        self.range.start() != &Duration::ZERO || length.is_zero() || length >= Duration::from_secs(1)
    }
}

/// A length of time as it was written.
enum Span {
    Length(Duration),
    /// Negative, or longer than can be counted.
    Beyond,
}

impl Span {
    fn from_seconds(seconds: f64) -> Self {
        Duration::try_from_secs_f64(seconds).map_or(Self::Beyond, Self::Length)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(length) = text.parse::<SignedDuration>() {
            return Some(Duration::try_from(length).map_or(Self::Beyond, Self::Length));
        }
        let seconds: f64 = text.parse().ok()?;
        seconds.is_finite().then(|| Self::from_seconds(seconds))
    }
}

/// Takes a point in time.
pub(super) fn take_until(fields: &mut Fields, key: &'static str) -> Result<Option<Until>, PayloadError> {
    let expected = "an RFC 3339 time with an offset, or HH:MM";
    let Some(text) = fields.take_text(key, expected)? else {
        return Ok(None);
    };
    let trimmed = text.trim();
    let until = match trimmed.parse() {
        Ok(instant) => Until::Instant(instant),
        Err(_) => Until::TimeOfDay(civil::Time::strptime("%H:%M", trimmed).map_err(|_| {
            PayloadError::InvalidValue {
                key,
                expected,
                shown: Shown::text(&text),
            }
        })?),
    };
    Ok(Some(until))
}
