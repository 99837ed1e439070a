//! The values inside a command.

use std::{fmt, ops::RangeInclusive, time::Duration};

use jiff::{SignedDuration, Timestamp, ToSpan as _, civil};
use planner::period::Period;
use serde::Serialize;
use serde_json::Number;

use super::{
    DecodeContext,
    fields::{Fields, Scalar},
    payload_error::{PayloadError, Shown},
    time_with_offset::TimeWithOffset,
};

/// Longest text of a transaction, in bytes.
pub const TRANSACTION_MAX: usize = 128;

/// Chosen by the sender of a command, and returned in its response.
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

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", text.escape_debug()),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
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

    /// Takes the key as a period.
    pub(super) fn take_period(&self, fields: &mut Fields) -> Result<Option<Period>, PayloadError> {
        let Some(value) = fields.take(self.key) else {
            return Ok(None);
        };
        let length = SignedDuration::try_from(self.read(&value)?);
        let period = length.ok().and_then(|length| Period::new(length).ok());
        period.map(Some).ok_or_else(|| PayloadError::OutOfRange {
            key: self.key,
            expected: self.expected,
            shown: value.shown(),
        })
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

    /// A range from 0 is one of whole seconds: 0 is none, and less than one second cannot be counted.
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

/// Takes a point in time. A time of day is the next one.
pub(super) fn take_until(
    fields: &mut Fields,
    key: &'static str,
    context: DecodeContext<'_>,
) -> Result<Option<Timestamp>, PayloadError> {
    let expected = "an RFC 3339 time with an offset, or HH:MM";
    let Some(text) = fields.take_text(key, expected)? else {
        return Ok(None);
    };
    let trimmed = text.trim();
    match TimeWithOffset::parse(trimmed) {
        Some(TimeWithOffset::At(instant)) => return Ok(Some(instant)),
        Some(TimeWithOffset::Beyond) => {
            return Err(PayloadError::OutOfRange {
                key,
                expected: "a time with an offset before 9999-12-30, or \"override\":\"hold\" for no end",
                shown: Shown::text(&text),
            });
        }
        None => {}
    }
    let Ok(time) = civil::Time::strptime("%H:%M", trimmed) else {
        let shown = Shown::text(&text);
        return Err(PayloadError::InvalidValue { key, expected, shown });
    };
    match next_time_of_day(time, context) {
        Some(instant) => Ok(Some(instant)),
        None => Err(PayloadError::OutOfRange {
            key,
            expected: "a time before the end of the calendar",
            shown: Shown::text(&text),
        }),
    }
}

/// The next instant at which a wall clock shows a time. One that the clock skips comes when it jumps; one that it
/// shows twice may come a second time today.
fn next_time_of_day(time: civil::Time, context: DecodeContext<'_>) -> Option<Timestamp> {
    let DecodeContext { zone, now } = context;
    let today = zone.to_datetime(now).date();
    let days = [Some(today), today.checked_add(1.day()).ok()];
    let instants = days.into_iter().flatten().flat_map(|day| {
        let shown = || zone.to_ambiguous_timestamp(day.to_datetime(time));
        [shown().compatible(), shown().later()]
    });
    instants.filter_map(Result::ok).find(|instant| *instant > now)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn next(zone: &str, time: &str, now: &str) -> String {
        let context = DecodeContext {
            zone: &TimeZone::get(zone).unwrap(),
            now: now.parse().unwrap(),
        };
        next_time_of_day(time.parse().unwrap(), context)
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_time_of_day_is_the_next_on_the_wall() {
        for (time, now, expected) in [
            ("18:00", "2026-11-21T16:59:59Z", "2026-11-21T17:00:00Z"),
            ("18:00", "2026-11-21T17:00:00Z", "2026-11-22T17:00:00Z"),
            ("00:00", "2026-11-21T22:59:00Z", "2026-11-21T23:00:00Z"),
            // The clock jumps from 02:00 to 03:00.
            ("02:30", "2026-03-28T23:30:00Z", "2026-03-29T01:30:00Z"),
            // The clock shows 02:30 twice.
            ("02:30", "2026-10-24T23:00:00Z", "2026-10-25T00:30:00Z"),
            ("02:30", "2026-10-25T00:45:00Z", "2026-10-25T01:30:00Z"),
            ("02:30", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"),
        ] {
            assert_eq!(next("Europe/Berlin", time, now), expected, "{time} after {now}");
        }
    }
}
