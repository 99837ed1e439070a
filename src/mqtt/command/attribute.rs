//! What `set` and `set/<attribute>` can say.

use super::{
    COUNTDOWN_KEY, Change, REBOOT,
    error::{PayloadError, Shown},
    fields::Scalar,
};

/// An attribute that `set/<attribute>` sets. A new one gets its name here and its words in
/// [`Attribute::change_of`].
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
            known: format!(
                "{}, {COUNTDOWN_KEY}, {REBOOT}",
                Self::ALL.map(Self::name).join(", ")
            ),
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

    pub(super) fn change_of(self, value: &Scalar) -> Option<Change> {
        match (self, value) {
            (Self::State, value) => change_of(value),
            (Self::Mode, Scalar::Text(text)) => mode_of_word(text),
            (Self::Mode, _) => None,
        }
    }
}

/// Whether a value says on or off.
pub(super) fn on_or_off(value: &Scalar) -> Option<bool> {
    match change_of(value)? {
        Change::On { .. } => Some(true),
        Change::Off { .. } => Some(false),
        Change::Toggle | Change::Auto | Change::CountDown(_) => None,
    }
}

fn change_of(value: &Scalar) -> Option<Change> {
    match value {
        Scalar::Text(text) => change_of_word(text.trim()),
        Scalar::Bool(on) => Some(change_into(*on)),
        Scalar::Number(number) => match number.as_u64()? {
            0 => Some(change_into(false)),
            1 => Some(change_into(true)),
            _ => None,
        },
        Scalar::Null | Scalar::Array | Scalar::Object => None,
    }
}

fn change_of_word(word: &str) -> Option<Change> {
    match word.to_ascii_lowercase().as_str() {
        "on" | "1" | "true" => Some(change_into(true)),
        "off" | "0" | "false" => Some(change_into(false)),
        "toggle" => Some(Change::Toggle),
        "auto" => Some(Change::Auto),
        _ => None,
    }
}

fn mode_of_word(word: &str) -> Option<Change> {
    match word.trim().to_ascii_lowercase().as_str() {
        "auto" => Some(Change::Auto),
        "on" => Some(change_into(true)),
        "off" => Some(change_into(false)),
        _ => None,
    }
}

fn change_into(on: bool) -> Change {
    if on {
        Change::On { on_time: None }
    } else {
        Change::Off { off_time: None }
    }
}
