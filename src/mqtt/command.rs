//! The payload codec: bytes from the wire to typed commands, or to an error that says what was expected.

mod attribute;
mod countdown;
mod error;
mod fields;
mod value;

use std::time::Duration;

use attribute::{Attribute, on_or_off};
use countdown::{COUNTDOWN, count_down, read_countdown};
pub use error::{PayloadError, Shown};
pub use fields::{Fields, Scalar};
use value::{DurationKey, take_until};
pub use value::{TRANSACTION_MAX, Transaction, Until};

use super::topics::Verb;

/// Largest payload that is looked at, in bytes.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// How long a command may take to reach its device unless it says otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);

const DAY: Duration = Duration::from_hours(24);

const ON_TIME: DurationKey = DurationKey {
    key: "on_time",
    range: Duration::from_secs(1)..=DAY,
    expected: "1 to 86400 seconds, or a text like 1h30m",
};

const OFF_TIME: DurationKey = DurationKey {
    key: "off_time",
    range: Duration::from_secs(1)..=DAY,
    expected: "1 to 86400 seconds, or a text like 1h30m",
};

const FOR: DurationKey = DurationKey {
    key: "for",
    range: Duration::from_nanos(1)..=DAY,
    expected: "more than 0 and at most 86400 seconds, or a text like 1h30m",
};

const TTL: DurationKey = DurationKey {
    key: "ttl",
    range: Duration::from_millis(100)..=Duration::from_hours(1),
    expected: "0.1 to 3600 seconds, or a text like 90s",
};

/// What a payload turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded<T> {
    /// An empty payload, which is how retained messages are cleared. It is not answered.
    Ignored,
    /// A command.
    Accepted {
        /// The command.
        command: T,
        /// To be returned with the answer.
        transaction: Option<Transaction>,
    },
    /// No command; the sender is told why.
    Refused {
        /// Why.
        error: PayloadError,
        /// To be returned with the answer, if it could be read.
        transaction: Option<Transaction>,
    },
}

/// A command to a device, an outlet or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Switch.
    Set(SetCommand),
    /// Read the device and publish what it says.
    Get,
    /// Restart the device's own computer.
    Reboot {
        /// How long the command may take to reach its device: 0.1 s to 1 h.
        ttl: Duration,
    },
}

/// A command to switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetCommand {
    /// Into what.
    pub change: Change,
    /// How long it overrides the schedule; `None` is the default of whatever is switched.
    pub lifetime: Option<Lifetime>,
    /// How long the command may take to reach its device: 0.1 s to 1 h.
    pub ttl: Duration,
}

/// Into what to switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// On.
    On {
        /// Off again after this long: 1 s to 24 h.
        on_time: Option<Duration>,
    },
    /// Off.
    Off {
        /// On again after this long: 1 s to 24 h.
        off_time: Option<Duration>,
    },
    /// Into the other state, whatever the device is in when the command reaches it.
    Toggle,
    /// Back to the schedules.
    Auto,
    /// What is on goes off after this long, 1 s to 24 h; 0 ends a countdown.
    CountDown(Duration),
}

/// How long an override holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// A length of time: more than 0, at most 24 h.
    For(Duration),
    /// Up to a point in time.
    Until(Until),
    /// Up to the next edge of a schedule that contradicts it.
    UntilNextSchedule,
    /// Until it is taken back.
    Hold,
}

/// The attribute that counts down, and its key in a `set`.
pub(super) const COUNTDOWN_KEY: &str = "countdown";

/// The attribute that restarts a device.
pub(super) const REBOOT: &str = "reboot";

/// Reads the payload of a command to a device, an outlet or a group. An empty payload is ignored, except
/// for [`Verb::Get`], which needs none.
pub fn decode(verb: &Verb, payload: &[u8]) -> Decoded<Command> {
    if payload.is_empty() && *verb != Verb::Get {
        return Decoded::Ignored;
    }
    decode_body(payload, |body| match verb {
        Verb::Get => read_get(body).map(|()| Command::Get),
        Verb::Set => read_set(body, Attribute::State).map(Command::Set),
        Verb::SetAttribute(name) if name == REBOOT => read_reboot(body),
        Verb::SetAttribute(name) if name == COUNTDOWN_KEY => read_countdown(body).map(Command::Set),
        Verb::SetAttribute(name) => read_set(body, Attribute::find(name)?).map(Command::Set),
    })
}

/// Reads the payload of a command that enables or disables a schedule. An empty payload is ignored.
pub fn decode_switch(payload: &[u8]) -> Decoded<bool> {
    if payload.is_empty() {
        return Decoded::Ignored;
    }
    decode_body(payload, |body| match body {
        Body::Plain(text) => {
            on_or_off(&Scalar::Text(text.to_owned())).ok_or_else(|| PayloadError::InvalidPayload {
                expected: "ON, OFF, 1, 0, true, false or a JSON object with the key enabled",
                shown: Shown::text(text),
            })
        }
        Body::Object(mut fields) => {
            let (key, expected) = ("enabled", "ON, OFF, 1, 0, true or false");
            let enabled = fields.take(key);
            fields.finish()?;
            let enabled = enabled.ok_or(PayloadError::MissingKey { key, expected })?;
            on_or_off(&enabled).ok_or_else(|| PayloadError::InvalidValue {
                key,
                expected,
                shown: enabled.shown(),
            })
        }
    })
}

/// Reads the payload of a request to the bridge: nothing, or a JSON object. `read` takes the keys that
/// the request knows; all others but `transaction` are refused. The result is never
/// [`Decoded::Ignored`].
pub fn decode_request<T>(
    payload: &[u8],
    read: impl FnOnce(&mut Fields) -> Result<T, PayloadError>,
) -> Decoded<T> {
    decode_body(payload, |body| {
        let mut fields = object_or_nothing(body, "an empty payload or a JSON object")?;
        let request = read(&mut fields)?;
        fields.finish()?;
        Ok(request)
    })
}

/// A payload that is text.
enum Body<'a> {
    /// Anything but an object, without the whitespace around it.
    Plain(&'a str),
    Object(Fields),
}

fn decode_body<T>(payload: &[u8], read: impl FnOnce(Body<'_>) -> Result<T, PayloadError>) -> Decoded<T> {
    let (body, transaction) = open(payload);
    match body.and_then(read) {
        Ok(command) => Decoded::Accepted { command, transaction },
        Err(error) => Decoded::Refused { error, transaction },
    }
}

/// Opens a payload. The transaction is looked for even in one that is refused.
fn open(payload: &[u8]) -> (Result<Body<'_>, PayloadError>, Option<Transaction>) {
    let is_object = payload.trim_ascii_start().starts_with(b"{");
    let object = is_object.then(|| Fields::read(payload));
    let transaction = object.as_ref().and_then(|(fields, _)| fields.transaction());
    (open_checked(payload, object), transaction)
}

fn open_checked(
    payload: &[u8],
    object: Option<(Fields, Result<(), serde_json::Error>)>,
) -> Result<Body<'_>, PayloadError> {
    if payload.len() > PAYLOAD_MAX {
        return Err(PayloadError::TooLarge { bytes: payload.len() });
    }
    let text = std::str::from_utf8(payload).map_err(|_| PayloadError::NotUtf8 {
        shown: Shown::bytes(payload),
    })?;
    let Some((fields, read)) = object else {
        return Ok(Body::Plain(text.trim()));
    };
    read.map_err(|error| PayloadError::InvalidJson {
        shown: Shown::text(text),
        reason: error.to_string(),
    })?;
    fields.check_duplicates()?;
    Ok(Body::Object(fields))
}

fn object_or_nothing(body: Body<'_>, expected: &'static str) -> Result<Fields, PayloadError> {
    match body {
        Body::Object(fields) => Ok(fields),
        Body::Plain("") => Ok(Fields::default()),
        Body::Plain(text) => Err(PayloadError::InvalidPayload {
            expected,
            shown: Shown::text(text),
        }),
    }
}

/// `get` means the same with `{"state":""}`, which is how users of zigbee2mqtt ask.
fn read_get(body: Body<'_>) -> Result<(), PayloadError> {
    let mut fields = object_or_nothing(body, "an empty payload or a JSON object")?;
    let expected = "an empty text";
    match fields.take_text("state", expected)? {
        Some(text) if !text.is_empty() => Err(PayloadError::InvalidValue {
            key: "state",
            expected,
            shown: Shown::text(&text),
        }),
        _ => fields.finish(),
    }
}

/// `{}`, as a button of Home Assistant sends, or a word that means it: a stray ON or 0 restarts nothing.
fn read_reboot(body: Body<'_>) -> Result<Command, PayloadError> {
    let mut fields = match body {
        Body::Object(fields) => fields,
        Body::Plain(text) if ["press", REBOOT].contains(&text.to_ascii_lowercase().as_str()) => {
            return Ok(Command::Reboot { ttl: DEFAULT_TTL });
        }
        Body::Plain(text) => {
            return Err(PayloadError::InvalidPayload {
                expected: "PRESS or a JSON object",
                shown: Shown::text(text),
            });
        }
    };
    let ttl = TTL.take(&mut fields)?.unwrap_or(DEFAULT_TTL);
    fields.finish()?;
    Ok(Command::Reboot { ttl })
}

fn read_set(body: Body<'_>, attribute: Attribute) -> Result<SetCommand, PayloadError> {
    let mut fields = match body {
        Body::Plain(text) => return read_plain_set(text, attribute),
        Body::Object(fields) => fields,
    };
    let (key, expected) = (attribute.name(), attribute.expected());
    let value = fields.take(key);
    let on_time = ON_TIME.take(&mut fields)?;
    let off_time = OFF_TIME.take(&mut fields)?;
    let countdown = match attribute {
        Attribute::State => COUNTDOWN.take(&mut fields)?,
        Attribute::Mode => None,
    };
    let lifetime = take_lifetime(&mut fields)?;
    let ttl = TTL.take(&mut fields)?.unwrap_or(DEFAULT_TTL);
    fields.finish()?;
    if let Some(length) = countdown {
        let alone = value.is_none() && on_time.is_none() && off_time.is_none();
        if !alone || lifetime.is_some() {
            return Err(conflict(COUNTDOWN_KEY, "a state, a time or a lifetime"));
        }
        return Ok(count_down(length, ttl));
    }
    let value = value.ok_or(PayloadError::MissingKey { key, expected })?;
    let change = attribute
        .change_of(&value)
        .ok_or_else(|| PayloadError::InvalidValue {
            key,
            expected,
            shown: value.shown(),
        })?;
    let change = match (change, on_time, off_time) {
        (Change::On { .. }, on_time, None) => Change::On { on_time },
        (Change::Off { .. }, None, off_time) => Change::Off { off_time },
        (change, None, None) => change,
        (_, Some(_), _) => return Err(conflict("on_time", "a state other than ON")),
        (_, None, Some(_)) => return Err(conflict("off_time", "a state other than OFF")),
    };
    if change == Change::Auto && lifetime.is_some() {
        return Err(conflict("a lifetime", "the state AUTO"));
    }
    Ok(SetCommand {
        change,
        lifetime,
        ttl,
    })
}

/// A bare word, or a JSON text, number or boolean.
fn read_plain_set(text: &str, attribute: Attribute) -> Result<SetCommand, PayloadError> {
    let from_json = || {
        let value: Scalar = serde_json::from_str(text).ok()?;
        attribute.change_of(&value)
    };
    let change = attribute
        .change_of(&Scalar::Text(text.to_owned()))
        .or_else(from_json);
    let change = change.ok_or_else(|| PayloadError::InvalidPayload {
        expected: attribute.expected_payload(),
        shown: Shown::text(text),
    })?;
    Ok(SetCommand {
        change,
        lifetime: None,
        ttl: DEFAULT_TTL,
    })
}

fn take_lifetime(fields: &mut Fields) -> Result<Option<Lifetime>, PayloadError> {
    let length = FOR.take(fields)?;
    let until = take_until(fields, "until")?;
    let named = take_override(fields)?;
    match (length, until, named) {
        (None, None, named) => Ok(named),
        (Some(length), None, None) => Ok(Some(Lifetime::For(length))),
        (None, Some(until), None) => Ok(Some(Lifetime::Until(until))),
        (Some(_), Some(_), _) => Err(conflict("for", "until")),
        (Some(_), None, Some(_)) => Err(conflict("for", "override")),
        (None, Some(_), Some(_)) => Err(conflict("until", "override")),
    }
}

fn take_override(fields: &mut Fields) -> Result<Option<Lifetime>, PayloadError> {
    let (key, expected) = ("override", "until_next_schedule or hold");
    let Some(text) = fields.take_text(key, expected)? else {
        return Ok(None);
    };
    match text.trim().to_ascii_lowercase().as_str() {
        "until_next_schedule" => Ok(Some(Lifetime::UntilNextSchedule)),
        "hold" => Ok(Some(Lifetime::Hold)),
        _ => Err(PayloadError::InvalidValue {
            key,
            expected,
            shown: Shown::text(&text),
        }),
    }
}

fn conflict(key: &'static str, other: &'static str) -> PayloadError {
    PayloadError::ConflictingKeys { key, other }
}

#[cfg(test)]
mod tests;
