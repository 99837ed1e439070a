//! How long a command may be carried out.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    fields::Fields,
    payload_error::{PayloadError, Shown},
    time_with_offset::TimeWithOffset,
    value::DurationKey,
};

/// How long a command without `ttl` may take to reach its device.
const DEFAULT_TTL: Duration = Duration::from_secs(10);

const TTL: DurationKey = DurationKey {
    key: "ttl",
    range: Duration::from_millis(100)..=Duration::from_hours(1),
    expected: "0.1 to 3600 seconds, or a text like 90s",
};

/// How long a command may be carried out. `ttl` begins when the command arrives; a broker may have kept it until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// How long the command may take to reach its device: 0.1 s to 1 h.
    pub ttl: Duration,
    /// The time after which it is not carried out.
    pub expires: Option<Timestamp>,
}

impl Default for Validity {
    fn default() -> Self {
        Self {
            ttl: DEFAULT_TTL,
            expires: None,
        }
    }
}

impl Validity {
    /// Takes the keys `ttl` and `expires`.
    pub(super) fn take(fields: &mut Fields) -> Result<Self, PayloadError> {
        let ttl = TTL.take(fields)?.unwrap_or(DEFAULT_TTL);
        let (key, expected) = ("expires", TimeWithOffset::EXPECTED);
        let expires = fields.take_text(key, expected)?;
        let expires = expires.map(|text| match TimeWithOffset::parse(text.trim()) {
            Some(TimeWithOffset::At(time)) => Ok(time),
            Some(TimeWithOffset::Beyond) => Ok(Timestamp::MAX),
            None => {
                let shown = Shown::text(&text);
                Err(PayloadError::InvalidValue { key, expected, shown })
            }
        });
        Ok(Self {
            ttl,
            expires: expires.transpose()?,
        })
    }

    /// Until when a command may be carried out that was received at this instant and at this time.
    ///
    /// # Errors
    /// The time at which it had expired by then.
    pub fn deadline(self, received: Instant, now: Timestamp) -> Result<Instant, Timestamp> {
        let left = match self.expires {
            None => self.ttl,
            Some(expires) if expires <= now => return Err(expires),
            Some(expires) => self
                .ttl
                .min(expires.duration_since(now).try_into().unwrap_or(Duration::ZERO)),
        };
        Ok(received + left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_first_is_the_deadline() {
        let received = Instant::now();
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let left = |expires| {
            let validity = Validity {
                ttl: Duration::from_secs(10),
                expires,
            };
            let deadline = validity.deadline(received, at(0));
            deadline.map(|deadline| (deadline - received).as_secs())
        };
        assert_eq!(left(None), Ok(10));
        assert_eq!(left(Some(at(60))), Ok(10));
        assert_eq!(left(Some(at(3))), Ok(3));
        assert_eq!(left(Some(at(0))), Err(at(0)));
        assert_eq!(left(Some(at(-60))), Err(at(-60)));
        assert_eq!(left(Some(Timestamp::MAX)), Ok(10));
        assert_eq!(left(Some(Timestamp::MIN)), Err(Timestamp::MIN));
    }
}
