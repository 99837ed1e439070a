//! One member of a group as the energy rules see it.

use crate::{Power, Steady};

/// One member of a group as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its relay.
    pub relay: Relay,
    /// Whether its device answers.
    pub reach: MeterVisibility,
    /// Whether it would be on if no limit forbade it. `None` in a group without schedules, where nothing decides that.
    pub wanted: Option<Power>,
    /// When the timed ON ends that it has.
    pub timer: Option<Steady>,
}

/// What is known of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// No report yet.
    Unknown,
    /// Confirmed.
    Off,
    /// Off, and being switched on.
    Coming,
    /// Confirmed, as far as the device was in reach.
    On,
}

/// Whether a device answers, and can measure energy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeterVisibility {
    /// It does not answer.
    Away,
    /// It answers.
    Metered,
    /// It answers, and has no meter.
    Unmetered,
}
