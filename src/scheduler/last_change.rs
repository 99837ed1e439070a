//! What changed a relay last, for people.

use std::fmt;

use jiff::Timestamp;
use planner::Power;

/// A change of a relay that the bridge saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastChange {
    /// When it was seen.
    pub at: Timestamp,
    /// To what.
    pub to: Power,
    /// What made it.
    pub cause: ChangeCause,
}

impl fmt::Display for LastChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.to, self.cause)
    }
}

/// What made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeCause {
    /// A command.
    Command,
    /// The schedules of its group, or an override of them.
    Schedule,
    /// A timer.
    Timer,
    /// A limit.
    Limit,
    /// Another outlet of the group is on, and only one may be.
    Interlock,
    /// What its group wants after a return, or when its load is done.
    Group,
    /// The countdown on the device that the bridge armed.
    Countdown,
    /// An OFF time that the device keeps for the bridge.
    OffRule,
    /// A protection of the device.
    Protection,
    /// The auto-off setting of the device.
    AutoOff,
    /// Something else.
    External,
}

impl fmt::Display for ChangeCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "command",
            Self::Schedule => "schedule",
            Self::Timer => "timer",
            Self::Limit => "limit",
            Self::Interlock => "interlock",
            Self::Group => "settings of the group",
            Self::Countdown => "countdown of the device",
            Self::OffRule => "OFF time on the device",
            Self::Protection => "protection of the device",
            Self::AutoOff => "auto-off of the device",
            Self::External => "button or app",
        })
    }
}
