//! The end of a timer or an override.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Now, Steady};

/// When something ends: after a length of real time, or at a time of day that a person named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    /// On the steady clock: a wall clock that is set changes nothing.
    Steady(Steady),
    /// On the wall clock: it comes earlier or later when that is set.
    Wall(Timestamp),
}

impl Deadline {
    /// On the steady clock, as far as is known now.
    pub fn steady(self, now: Now) -> Steady {
        match self {
            Self::Steady(at) => at,
            Self::Wall(at) => now.steady_at(at),
        }
    }

    /// What the wall clock shows then, as far as is known now.
    pub fn wall(self, now: Now) -> Timestamp {
        match self {
            Self::Steady(at) => now.wall_at(at),
            Self::Wall(at) => at,
        }
    }

    /// Whether it is over.
    pub fn is_over(self, now: Now) -> bool {
        match self {
            Self::Steady(at) => at <= now.steady,
            Self::Wall(at) => at <= now.wall,
        }
    }
}
