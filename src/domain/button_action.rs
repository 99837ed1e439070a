//! What a button of a hub was used for.

use serde::Serialize;

/// What a button of a hub was used for, as it stands in `action` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ButtonAction {
    /// It was pressed once.
    Single,
    /// It was pressed twice.
    Double,
    /// It was turned.
    Rotate,
}

impl ButtonAction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Single, Self::Double, Self::Rotate];

    /// As in the event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Double => "double",
            Self::Rotate => "rotate",
        }
    }
}
