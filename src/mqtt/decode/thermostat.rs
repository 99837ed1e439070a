//! Commands to a thermostat: `set/target_temperature`, `set/system_mode`, and a `set` with these keys.

use super::{
    CommandPayload, Text, Validity,
    fields::Scalar,
    payload_error::{PayloadError, Shown},
};
use crate::domain::{
    command::{Action, Target},
    hub_child::{SystemMode, TargetTemperature, ThermostatChange},
    topics::{SYSTEM_MODE, TARGET_TEMPERATURE},
};

/// What every thermostat takes. Its own limits are those that it reports.
const TARGET: &str = "a number of °C from 0 to 50";
const MODE: &str = "heat or off";

/// Whether an attribute of `set/<attribute>` is of a thermostat.
pub(super) fn is_attribute(name: &str) -> bool {
    [TARGET_TEMPERATURE, SYSTEM_MODE].contains(&name)
}

/// Whether a `set` is to a thermostat.
pub(super) fn is_meant(body: &Text<'_>) -> bool {
    match body {
        Text::Object(fields) => fields.has(TARGET_TEMPERATURE) || fields.has(SYSTEM_MODE),
        Text::Plain(_) => false,
    }
}

/// The value of one attribute alone, or an object with both.
pub(super) fn read(
    target: &Target,
    attribute: Option<&str>,
    body: Text<'_>,
) -> Result<CommandPayload, PayloadError> {
    if let Target::Group(_) = target {
        let message = "target_temperature is of a thermostat of a hub; a group has target".to_owned();
        return Err(PayloadError::Unsupported { message });
    }
    let mut fields = match body {
        Text::Object(fields) => fields,
        Text::Plain(text) => {
            let value = Scalar::Text(text.trim_matches('"').to_owned());
            let mut change = ThermostatChange::default();
            if attribute == Some(SYSTEM_MODE) {
                change.mode = Some(mode(&value)?);
            } else {
                change.target = Some(temperature(&value)?);
            }
            return Ok(CommandPayload::of(
                Action::Thermostat(change),
                Validity::default(),
            ));
        }
    };
    let change = ThermostatChange {
        target: fields.take_as(TARGET_TEMPERATURE, temperature)?,
        mode: fields.take_as(SYSTEM_MODE, mode)?,
    };
    let validity = Validity::take(&mut fields)?;
    fields.finish()?;
    if change == ThermostatChange::default() {
        let (key, expected) = match attribute {
            Some(SYSTEM_MODE) => (SYSTEM_MODE, MODE),
            _ => (TARGET_TEMPERATURE, TARGET),
        };
        return Err(PayloadError::MissingKey { key, expected });
    }
    Ok(CommandPayload::of(Action::Thermostat(change), validity))
}

fn temperature(value: &Scalar) -> Result<TargetTemperature, PayloadError> {
    value
        .number()
        .and_then(TargetTemperature::of_celsius)
        .ok_or_else(|| invalid(TARGET_TEMPERATURE, TARGET, value.shown()))
}

fn mode(value: &Scalar) -> Result<SystemMode, PayloadError> {
    let word = value.word();
    let found = SystemMode::ALL.into_iter().find(|mode| mode.as_str() == word);
    found.ok_or_else(|| invalid(SYSTEM_MODE, MODE, value.shown()))
}

fn invalid(key: &'static str, expected: &'static str, shown: Shown) -> PayloadError {
    PayloadError::InvalidValue { key, expected, shown }
}
