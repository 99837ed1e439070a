//! The attributes and values of `set` and `set/<attribute>`.

use planner::Power;

use super::{
    fields::Scalar,
    payload_error::{PayloadError, Shown},
    setting::Setting,
};
use crate::domain::{
    command::Action,
    device_command::Switch,
    topics::{COUNTDOWN, REBOOT, SYSTEM_MODE, TARGET_TEMPERATURE},
};

/// An attribute that `set/<attribute>` sets. A new one gets its name here and its words in
/// [`Attribute::action_of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    /// What `set` sets without naming it.
    State,
    /// What a person chooses: to leave it to the schedules, or not.
    Mode,
}

impl Attribute {
    const ALL: [Self; 2] = [Self::State, Self::Mode];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Mode => "mode",
        }
    }

    pub(super) fn find(name: &str) -> Result<Self, PayloadError> {
        let found = Self::ALL.into_iter().find(|attribute| attribute.name() == name);
        found.ok_or_else(|| PayloadError::UnknownAttribute {
            shown: Shown::text(name),
            known: {
                let names = Self::ALL.into_iter().map(Self::name);
                let names = names
                    .chain([COUNTDOWN, REBOOT, TARGET_TEMPERATURE, SYSTEM_MODE])
                    .chain(Setting::names());
                names.collect::<Vec<_>>().join(", ")
            },
        })
    }

    /// The values.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::State => "ON, OFF, TOGGLE, AUTO, 1, 0, true or false",
            Self::Mode => "auto, on or off",
        }
    }

    /// The payloads.
    pub(super) fn expected_payload(self) -> &'static str {
        match self {
            Self::State => "ON, OFF, TOGGLE, AUTO, 1, 0, true, false or a JSON object with the key state",
            Self::Mode => "auto, on, off or a JSON object with the key mode",
        }
    }

    pub(super) fn action_of(self, value: &Scalar) -> Option<Action> {
        match (self, value) {
            (Self::State, value) => action_of(value),
            (Self::Mode, Scalar::Text(text)) => mode_of_word(text),
            (Self::Mode, _) => None,
        }
    }
}

/// On or off, if the value is one of these.
pub(super) fn on_or_off(value: &Scalar) -> Option<bool> {
    match action_of(value)? {
        Action::Switch(Switch::To(power)) => Some(power.is_on()),
        _ => None,
    }
}

fn action_of(value: &Scalar) -> Option<Action> {
    match value {
        Scalar::Text(text) => action_of_word(text.trim()),
        Scalar::Bool(on) => Some(switch_to(*on)),
        Scalar::Number(number) => match number.as_u64()? {
            0 => Some(switch_to(false)),
            1 => Some(switch_to(true)),
            _ => None,
        },
        Scalar::Null | Scalar::Array | Scalar::Object => None,
    }
}

fn action_of_word(word: &str) -> Option<Action> {
    match word.to_ascii_lowercase().as_str() {
        "on" | "1" | "true" => Some(switch_to(true)),
        "off" | "0" | "false" => Some(switch_to(false)),
        "toggle" => Some(Action::Switch(Switch::Toggle)),
        "auto" => Some(Action::Auto),
        _ => None,
    }
}

fn mode_of_word(word: &str) -> Option<Action> {
    match word.trim().to_ascii_lowercase().as_str() {
        "auto" => Some(Action::Auto),
        "on" => Some(switch_to(true)),
        "off" => Some(switch_to(false)),
        _ => None,
    }
}

fn switch_to(on: bool) -> Action {
    Action::Switch(Switch::To(Power::from(on)))
}
