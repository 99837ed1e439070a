//! `default_states`: what the relay of an outlet is when the power comes back.

use serde_json::{Value, json};

use crate::reply::Refusal;

/// What the relay is after a power failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum DefaultState {
    /// What it was before.
    #[default]
    Last,
    /// On or off.
    Fixed(bool),
}

impl DefaultState {
    /// The setting in the parameters of `set_device_info`.
    pub(crate) fn read(value: &Value) -> Result<Self, Refusal> {
        match value.get("type").and_then(Value::as_str) {
            Some("last_states") => Ok(Self::Last),
            Some("custom") => {
                let on = value.pointer("/state/on").and_then(Value::as_bool);
                on.map(Self::Fixed).ok_or(Refusal::PARAMS)
            }
            _ => Err(Refusal::PARAMS),
        }
    }

    /// As `get_device_info` has it. Firmware before 1.4 has an empty `state` beside `last_states`.
    pub(crate) fn shown(self, has_empty_state: bool) -> Value {
        match self {
            Self::Last if has_empty_state => json!({ "type": "last_states", "state": {} }),
            Self::Last => json!({ "type": "last_states" }),
            Self::Fixed(on) => json!({ "type": "custom", "state": { "on": on } }),
        }
    }

    /// What the relay is after a power failure, by what it was before.
    pub(crate) fn after_power_loss(self, before: bool) -> bool {
        match self {
            Self::Last => before,
            Self::Fixed(on) => on,
        }
    }
}
