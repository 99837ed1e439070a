//! One member that a power limit switched off.

use serde::{Deserialize, Serialize};

use super::Member;
use crate::{Power, Steady, units::MilliWatts};

/// A member that a power limit switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shed {
    /// When.
    pub(super) since: Steady,
    /// What it drew, in mW.
    pub(super) drew: MilliWatts,
    /// What all members drew, in mW.
    pub(super) all_drew: MilliWatts,
    /// Whether it may be on again.
    pub(super) stage: Stage,
    /// What switches it on again.
    pub(super) back: Back,
}

/// Whether a member that was shed may be on again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// It must be off.
    Waits,
    /// It may be on since then, and is not yet.
    Returns(Steady),
}

/// What switches on a member that was shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Back {
    /// The planner, if a schedule or an override still wants it on.
    Planned,
    /// It was on without a schedule, so it goes on again.
    Resumes,
    /// The same, but only until its timed ON ends.
    ResumesUntil(Steady),
    /// Nothing: it was switched off.
    Dismissed,
}

impl Shed {
    /// Whether it goes on again without a schedule.
    pub(super) fn resumes(&self) -> bool {
        matches!(self.back, Back::Resumes | Back::ResumesUntil(_))
    }

    /// It was switched off, and does not go on again without a schedule.
    pub(super) fn dismiss(&mut self) {
        if self.resumes() {
            self.back = Back::Dismissed;
        }
    }

    /// Whether the member would be on if the power limit did not forbid it.
    pub(super) fn is_wanted(&self, member: Member) -> bool {
        match self.back {
            Back::Planned => member.wanted == Some(Power::On),
            Back::Resumes | Back::ResumesUntil(_) => true,
            Back::Dismissed => false,
        }
    }
}
