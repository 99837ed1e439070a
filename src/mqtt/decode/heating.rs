//! Commands to the thermostat of a group: `set/target`, `set/system_mode`, `set/preset`, and a `set` with these keys.

use planner::{
    overrides::Lifetime,
    thermostat::{Preset, ThermostatMode},
};

use super::{
    CommandPayload, DecodeContext, Text, Validity, conflict, fields::Scalar, payload_error::PayloadError,
    take_lifetime,
};
use crate::domain::{
    command::{Action, Target},
    heating::{HeatingChange, Tenths},
    topics::{PRESET, SYSTEM_MODE, TARGET},
};

const TARGET_EXPECTED: &str = "a number of degrees, on the scale of the thermometer";
const MODE_EXPECTED: &str = "auto, heat or off";
const PRESET_EXPECTED: &str = "none, away or boost";

/// Whether an attribute of `set/<attribute>` is of the thermostat of a group.
pub(super) fn is_attribute(target: &Target, name: &str) -> bool {
    target.group().is_some() && [TARGET, SYSTEM_MODE, PRESET].contains(&name)
}

/// Whether a `set` is to the thermostat of a group.
pub(super) fn is_meant(target: &Target, body: &Text<'_>) -> bool {
    match body {
        Text::Object(fields) if target.group().is_some() => {
            [TARGET, SYSTEM_MODE, PRESET].iter().any(|key| fields.has(key))
        }
        Text::Object(_) | Text::Plain(_) => false,
    }
}

/// The value of one attribute alone, or an object with a lifetime.
pub(super) fn read(
    attribute: Option<&str>,
    body: Text<'_>,
    context: DecodeContext<'_>,
) -> Result<CommandPayload, PayloadError> {
    let mut fields = match body {
        Text::Object(fields) => fields,
        Text::Plain(text) => {
            let value = Scalar::Text(text.trim_matches('"').to_owned());
            let change = match attribute {
                Some(SYSTEM_MODE) => HeatingChange::Mode(mode(&value)?, None),
                Some(PRESET) => HeatingChange::Preset(preset(&value)?),
                _ => HeatingChange::Target(degrees(&value)?),
            };
            return Ok(CommandPayload::of(Action::Heat(change), Validity::default()));
        }
    };
    let target = fields.take_as(TARGET, degrees)?;
    let mode = fields.take_as(SYSTEM_MODE, mode)?;
    let preset = fields.take_as(PRESET, preset)?;
    let lifetime = take_lifetime(&mut fields, context)?;
    let validity = Validity::take(&mut fields)?;
    fields.finish()?;
    let change = match (preset, mode, target) {
        (Some(_), None, Some(_)) => return Err(conflict(PRESET, TARGET)),
        (Some(_), Some(_), _) => return Err(conflict(PRESET, SYSTEM_MODE)),
        (Some(preset), None, None) => HeatingChange::Preset(preset),
        (None, Some(ThermostatMode::Auto | ThermostatMode::Off), Some(_)) => {
            return Err(conflict(TARGET, "a system_mode other than heat"));
        }
        (None, Some(mode), target) => HeatingChange::Mode(mode, target),
        (None, None, Some(target)) => HeatingChange::Target(target),
        (None, None, None) => return Err(missing(attribute)),
    };
    ends_nothing(change, lifetime)?;
    Ok(CommandPayload {
        lifetime,
        ..CommandPayload::of(Action::Heat(change), validity)
    })
}

fn missing(attribute: Option<&str>) -> PayloadError {
    let (key, expected) = match attribute {
        Some(SYSTEM_MODE) => (SYSTEM_MODE, MODE_EXPECTED),
        Some(PRESET) => (PRESET, PRESET_EXPECTED),
        _ => (TARGET, TARGET_EXPECTED),
    };
    PayloadError::MissingKey { key, expected }
}

/// What goes back to the schedules has no lifetime.
fn ends_nothing(change: HeatingChange, lifetime: Option<Lifetime>) -> Result<(), PayloadError> {
    let goes_back = matches!(
        change,
        HeatingChange::Mode(ThermostatMode::Auto, _) | HeatingChange::Preset(Preset::None)
    );
    if goes_back && lifetime.is_some() {
        return Err(conflict("a lifetime", "what goes back to the schedules"));
    }
    Ok(())
}

fn degrees(value: &Scalar) -> Result<Tenths, PayloadError> {
    value
        .number()
        .and_then(Tenths::of)
        .ok_or_else(|| PayloadError::InvalidValue {
            key: TARGET,
            expected: TARGET_EXPECTED,
            shown: value.shown(),
        })
}

fn mode(value: &Scalar) -> Result<ThermostatMode, PayloadError> {
    let word = value.word();
    let found = ThermostatMode::ALL.into_iter().find(|mode| mode.as_str() == word);
    found.ok_or_else(|| PayloadError::InvalidValue {
        key: SYSTEM_MODE,
        expected: MODE_EXPECTED,
        shown: value.shown(),
    })
}

fn preset(value: &Scalar) -> Result<Preset, PayloadError> {
    let word = value.word();
    let found = Preset::ALL.into_iter().find(|preset| preset.as_str() == word);
    found.ok_or_else(|| PayloadError::InvalidValue {
        key: PRESET,
        expected: PRESET_EXPECTED,
        shown: value.shown(),
    })
}
