//! The payload codec: bytes from the wire to typed commands, or to an error with what is expected. Pure.

mod attribute;
mod fields;
mod heating;
mod payload_error;
mod setting;
mod thermostat;
mod time_with_offset;
mod validity;
mod value;

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use planner::{OutletPath, Power, overrides::Lifetime};
use tokio::time::Instant;

pub use fields::{Fields, Scalar};
pub use payload_error::{PayloadError, Shown};
pub use validity::Validity;
pub use value::{TRANSACTION_MAX, Transaction};

use crate::domain::{
    command::{Action, Command, Target},
    device_command::Switch,
    device_settings::{BRIGHTNESS, SettingChange},
    reply::Reply,
    topics::{COUNTDOWN, REBOOT, Verb},
};
use attribute::{Attribute, on_or_off};
use setting::Setting;
use value::{DurationKey, take_until};

/// Largest payload that is looked at, in bytes.
pub const PAYLOAD_MAX: usize = 64 * 1024;

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

/// Whole seconds are what plugs count; 0 is none.
const COUNTDOWN_LENGTH: DurationKey = DurationKey {
    key: COUNTDOWN,
    range: Duration::ZERO..=DAY,
    expected: "0, or 1 to 86400 seconds, or a text like 1h30m",
};

/// What the payload of a command depends on beside its bytes.
#[derive(Debug, Clone, Copy)]
pub struct DecodeContext<'a> {
    /// The time zone of times of day.
    pub zone: &'a TimeZone,
    /// The time of receipt.
    pub now: Timestamp,
}

/// The result of decoding a payload.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded<T> {
    /// An empty payload, which clears a retained message. It gets no response.
    Ignored,
    /// A command.
    Accepted {
        /// The command.
        command: T,
        /// Returned in the response.
        transaction: Option<Transaction>,
    },
    /// No command.
    Refused {
        /// Why.
        error: PayloadError,
        /// Returned in the response, if it can be read.
        transaction: Option<Transaction>,
    },
}

impl<T> Decoded<T> {
    /// The same, with an error that shows nothing of the payload: a secret may be anywhere in it.
    #[must_use]
    pub fn without_values(self) -> Self {
        match self {
            Self::Refused { error, transaction } => Self::Refused {
                error: error.without_values(),
                transaction,
            },
            read => read,
        }
    }

    /// The same with another command.
    pub fn map<U>(self, into: impl FnOnce(T) -> U) -> Decoded<U> {
        match self {
            Self::Ignored => Decoded::Ignored,
            Self::Accepted { command, transaction } => Decoded::Accepted {
                command: into(command),
                transaction,
            },
            Self::Refused { error, transaction } => Decoded::Refused { error, transaction },
        }
    }
}

/// The payload of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandPayload {
    /// What to do.
    pub action: Action,
    /// How long it overrides the schedules; `None` is the default of the group.
    pub lifetime: Option<Lifetime>,
    /// How bright a lamp is when it goes on, in percent.
    pub brightness: Option<u8>,
    /// How long it may be carried out.
    pub validity: Validity,
}

impl CommandPayload {
    /// A command without a lifetime.
    fn of(action: Action, validity: Validity) -> Self {
        Self {
            action,
            lifetime: None,
            brightness: None,
            validity,
        }
    }

    /// Whether it is another one sent again: with the same transaction both are one command. Who repeats a command gives it
    /// more time.
    pub fn repeats(&self, other: &Self) -> bool {
        let what = |payload: &Self| (payload.action, payload.lifetime, payload.brightness);
        what(self) == what(other)
    }

    /// The command, which is not carried out after this deadline.
    pub fn into_command(self, target: Target, deadline: Instant, reply: Reply) -> Command {
        Command {
            target,
            action: self.action,
            lifetime: self.lifetime,
            brightness: self.brightness,
            deadline,
            reply,
        }
    }
}

/// Reads the payload of a command to a device, an outlet or a group. An empty payload is ignored, except
/// for [`Verb::Get`], which needs none.
pub fn decode(
    target: &Target,
    verb: &Verb,
    payload: &[u8],
    context: DecodeContext<'_>,
) -> Decoded<CommandPayload> {
    if payload.is_empty() && *verb != Verb::Get {
        return Decoded::Ignored;
    }
    decode_body(payload, |body| match verb {
        Verb::Get => read_get(body).map(|()| CommandPayload::of(Action::Read, Validity::default())),
        Verb::Set if heating::is_meant(target, &body) => heating::read(None, body, context),
        Verb::Set if thermostat::is_meant(&body) => thermostat::read(target, None, body),
        Verb::Set => read_set(target, body, Attribute::State, context),
        Verb::SetAttribute(name) if name == REBOOT => read_reboot(target, body),
        Verb::SetAttribute(name) if name == COUNTDOWN => read_countdown(body),
        Verb::SetAttribute(name) if heating::is_attribute(target, name) => {
            heating::read(Some(name), body, context)
        }
        Verb::SetAttribute(name) if thermostat::is_attribute(name) => {
            thermostat::read(target, Some(name), body)
        }
        Verb::SetAttribute(name) => match Attribute::find(name) {
            Ok(attribute) => read_set(target, body, attribute, context),
            Err(unknown) => Setting::find(name).ok_or(unknown)?.read(target, body),
        },
    })
}

/// Reads the payload of a command that enables or disables a schedule. An empty payload is ignored.
pub fn decode_switch(payload: &[u8]) -> Decoded<bool> {
    if payload.is_empty() {
        return Decoded::Ignored;
    }
    decode_body(payload, |body| match body {
        Text::Plain(text) => {
            on_or_off(&Scalar::Text(text.to_owned())).ok_or_else(|| PayloadError::InvalidPayload {
                expected: "ON, OFF, 1, 0, true, false or a JSON object with the key enabled",
                shown: Shown::text(text),
            })
        }
        Text::Object(mut fields) => {
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

/// The transaction of a payload, if it has one that can be read.
pub fn transaction_of(payload: &[u8]) -> Option<Transaction> {
    open(payload).1
}

/// A payload that is UTF-8.
enum Text<'a> {
    /// Anything but an object, without the whitespace around it.
    Plain(&'a str),
    Object(Fields),
}

fn decode_body<T>(payload: &[u8], read: impl FnOnce(Text<'_>) -> Result<T, PayloadError>) -> Decoded<T> {
    let (body, transaction) = open(payload);
    match body.and_then(read) {
        Ok(command) => Decoded::Accepted { command, transaction },
        Err(error) => Decoded::Refused { error, transaction },
    }
}

/// Opens a payload. The transaction is looked for even in one that is refused.
fn open(payload: &[u8]) -> (Result<Text<'_>, PayloadError>, Option<Transaction>) {
    let is_object = payload.trim_ascii_start().starts_with(b"{");
    let object = is_object.then(|| Fields::read(payload));
    let transaction = object.as_ref().and_then(|(fields, _)| fields.transaction());
    (open_checked(payload, object), transaction)
}

fn open_checked(
    payload: &[u8],
    object: Option<(Fields, Result<(), serde_json::Error>)>,
) -> Result<Text<'_>, PayloadError> {
    if payload.len() > PAYLOAD_MAX {
        return Err(PayloadError::TooLarge { bytes: payload.len() });
    }
    let text = std::str::from_utf8(payload).map_err(|_| PayloadError::NotUtf8 {
        shown: Shown::bytes(payload),
    })?;
    let Some((fields, read)) = object else {
        return Ok(Text::Plain(text.trim()));
    };
    read.map_err(|error| PayloadError::InvalidJson {
        shown: Shown::text(text),
        reason: error.to_string(),
    })?;
    fields.check_duplicates()?;
    Ok(Text::Object(fields))
}

fn object_or_nothing(body: Text<'_>, expected: &'static str) -> Result<Fields, PayloadError> {
    match body {
        Text::Object(fields) => Ok(fields),
        Text::Plain("") => Ok(Fields::default()),
        Text::Plain(text) => Err(PayloadError::InvalidPayload {
            expected,
            shown: Shown::text(text),
        }),
    }
}

/// `get` means the same with `{"state":""}`, as users of zigbee2mqtt send it.
fn read_get(body: Text<'_>) -> Result<(), PayloadError> {
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

/// `{}`, as a button of Home Assistant sends, or a word that means it: a stray ON or 0 restarts nothing. Outlets of a
/// strip have no computer of their own, and a group has several.
fn read_reboot(target: &Target, body: Text<'_>) -> Result<CommandPayload, PayloadError> {
    match target {
        Target::Outlet(OutletPath { outlet: None, .. }) => {}
        Target::Outlet(path) => {
            let message = format!(
                "an outlet cannot be restarted alone: send this to {}/set/{REBOOT}",
                path.device
            );
            return Err(PayloadError::Unsupported { message });
        }
        Target::Group(_) => {
            let message = "a group cannot be restarted: send this to a device".to_owned();
            return Err(PayloadError::Unsupported { message });
        }
    }
    let mut fields = match body {
        Text::Object(fields) => fields,
        Text::Plain(text) if ["press", REBOOT].contains(&text.to_ascii_lowercase().as_str()) => {
            return Ok(CommandPayload::of(Action::Reboot, Validity::default()));
        }
        Text::Plain(text) => {
            return Err(PayloadError::InvalidPayload {
                expected: "PRESS or a JSON object",
                shown: Shown::text(text),
            });
        }
    };
    let validity = Validity::take(&mut fields)?;
    fields.finish()?;
    Ok(CommandPayload::of(Action::Reboot, validity))
}

/// A length of time, alone or in an object.
fn read_countdown(body: Text<'_>) -> Result<CommandPayload, PayloadError> {
    let mut fields = match body {
        Text::Object(fields) => fields,
        Text::Plain(text) => {
            let value = Scalar::Text(text.trim_matches('"').to_owned());
            return Ok(count_down(COUNTDOWN_LENGTH.read(&value)?, Validity::default()));
        }
    };
    let length = COUNTDOWN_LENGTH.take(&mut fields)?;
    let validity = Validity::take(&mut fields)?;
    fields.finish()?;
    let length = length.ok_or(PayloadError::MissingKey {
        key: COUNTDOWN,
        expected: COUNTDOWN_LENGTH.expected,
    })?;
    Ok(count_down(length, validity))
}

fn count_down(length: Duration, validity: Validity) -> CommandPayload {
    let action = if length.is_zero() {
        Action::CancelCountdown
    } else {
        Action::CountDown(length)
    };
    CommandPayload::of(action, validity)
}

fn read_set(
    target: &Target,
    body: Text<'_>,
    attribute: Attribute,
    context: DecodeContext<'_>,
) -> Result<CommandPayload, PayloadError> {
    let mut fields = match body {
        Text::Plain(text) => return read_plain_set(text, attribute),
        Text::Object(fields) => fields,
    };
    let (key, expected) = (attribute.name(), attribute.expected());
    let value = fields.take(key);
    let on_time = ON_TIME.take(&mut fields)?;
    let off_time = OFF_TIME.take(&mut fields)?;
    let countdown = match attribute {
        Attribute::State => COUNTDOWN_LENGTH.take(&mut fields)?,
        Attribute::Mode => None,
    };
    let brightness = match attribute {
        Attribute::State => setting::take_brightness(target, &mut fields)?,
        Attribute::Mode => None,
    };
    let lifetime = take_lifetime(&mut fields, context)?;
    let validity = Validity::take(&mut fields)?;
    fields.finish()?;
    if let (None, None, Some(percent)) = (&value, countdown, brightness) {
        let change = Action::ChangeSetting(SettingChange::Brightness(percent));
        return Ok(CommandPayload::of(change, validity));
    }
    if let Some(length) = countdown {
        let alone = value.is_none() && on_time.is_none() && off_time.is_none() && brightness.is_none();
        if !alone || lifetime.is_some() {
            return Err(conflict(COUNTDOWN, "a state, a time or a lifetime"));
        }
        return Ok(count_down(length, validity));
    }
    let value = value.ok_or(PayloadError::MissingKey { key, expected })?;
    let action = attribute
        .action_of(&value)
        .ok_or_else(|| PayloadError::InvalidValue {
            key,
            expected,
            shown: value.shown(),
        })?;
    let action = match (action, on_time, off_time) {
        (Action::Switch(Switch::To(Power::On)), Some(length), None) => Action::OnFor(length),
        (Action::Switch(Switch::To(Power::Off)), None, Some(length)) => Action::OffFor(length),
        (action, None, None) => action,
        (_, Some(_), _) => return Err(conflict("on_time", "a state other than ON")),
        (_, None, Some(_)) => return Err(conflict("off_time", "a state other than OFF")),
    };
    let goes_on = matches!(action, Action::Switch(Switch::To(Power::On)) | Action::OnFor(_));
    if brightness.is_some() && !goes_on {
        return Err(conflict(BRIGHTNESS, "a state other than ON"));
    }
    if action == Action::Auto && lifetime.is_some() {
        return Err(conflict("a lifetime", "the state AUTO"));
    }
    Ok(CommandPayload {
        action,
        lifetime,
        brightness,
        validity,
    })
}

/// A bare word, or a JSON text, number or boolean.
fn read_plain_set(text: &str, attribute: Attribute) -> Result<CommandPayload, PayloadError> {
    let from_json = || {
        let value: Scalar = serde_json::from_str(text).ok()?;
        attribute.action_of(&value)
    };
    let action = attribute
        .action_of(&Scalar::Text(text.to_owned()))
        .or_else(from_json);
    let action = action.ok_or_else(|| PayloadError::InvalidPayload {
        expected: attribute.expected_payload(),
        shown: Shown::text(text),
    })?;
    Ok(CommandPayload::of(action, Validity::default()))
}

fn take_lifetime(fields: &mut Fields, context: DecodeContext<'_>) -> Result<Option<Lifetime>, PayloadError> {
    let length = FOR.take_period(fields)?;
    let until = take_until(fields, "until", context)?;
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
