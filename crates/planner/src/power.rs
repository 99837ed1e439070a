//! The state of a relay.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a relay is, or shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Power {
    /// The relay is open; nothing flows.
    Off,
    /// The relay is closed.
    On,
}

impl Power {
    /// The other one.
    #[must_use]
    pub fn toggled(self) -> Self {
        match self {
            Self::Off => Self::On,
            Self::On => Self::Off,
        }
    }

    /// `true` for [`Power::On`].
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

impl From<bool> for Power {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "ON" } else { "OFF" })
    }
}
