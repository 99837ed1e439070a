//! The attribute that counts down.

use std::time::Duration;

use super::{
    Body, COUNTDOWN_KEY, Change, DAY, DEFAULT_TTL, SetCommand, TTL, error::PayloadError, fields::Scalar,
    value::DurationKey,
};

/// Whole seconds are what plugs count; 0 is none.
pub(super) const COUNTDOWN: DurationKey = DurationKey {
    key: COUNTDOWN_KEY,
    range: Duration::ZERO..=DAY,
    expected: "0, or 1 to 86400 seconds, or a text like 1h30m",
};

/// A length of time, alone or in an object.
pub(super) fn read_countdown(body: Body<'_>) -> Result<SetCommand, PayloadError> {
    let mut fields = match body {
        Body::Object(fields) => fields,
        Body::Plain(text) => {
            let value = Scalar::Text(text.trim_matches('"').to_owned());
            return Ok(count_down(COUNTDOWN.read(&value)?, DEFAULT_TTL));
        }
    };
    let length = COUNTDOWN.take(&mut fields)?;
    let ttl = TTL.take(&mut fields)?.unwrap_or(DEFAULT_TTL);
    fields.finish()?;
    let length = length.ok_or(PayloadError::MissingKey {
        key: COUNTDOWN_KEY,
        expected: COUNTDOWN.expected,
    })?;
    Ok(count_down(length, ttl))
}

pub(super) fn count_down(length: Duration, ttl: Duration) -> SetCommand {
    SetCommand {
        change: Change::CountDown(length),
        lifetime: None,
        ttl,
    }
}
