//! A command of a user: made once, in decode, and carried to its end with its [`Reply`].

use std::time::Duration;

use planner::{GroupId, OutletPath, overrides::Lifetime};
use tokio::time::Instant;

use super::{device_command::Switch, reply::Reply};

/// A command to a device, an outlet or a group.
#[derive(Debug)]
pub struct Command {
    /// What it is for.
    pub target: Target,
    /// What to do.
    pub action: Action,
    /// How long it overrides the schedules; `None` is the default of the group. Only with [`Action::Switch`].
    pub lifetime: Option<Lifetime>,
    /// Not carried out after this instant.
    pub deadline: Instant,
    /// Where the result goes.
    pub reply: Reply,
}

/// What a command is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A plug, one outlet of a strip, or a whole strip.
    Outlet(OutletPath),
    /// All members of a group.
    Group(GroupId),
}

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Switch. A toggled group goes off when any member is on.
    Switch(Switch),
    /// On, and off again after this long: 1 s to 24 h.
    OnFor(Duration),
    /// Off, and on again after this long, if limits allow it then: 1 s to 24 h.
    OffFor(Duration),
    /// Off after this long, 1 s to 24 h, for what is on.
    CountDown(Duration),
    /// Ends a countdown, whoever started it.
    CancelCountdown,
    /// Back to the schedules: the override ends.
    Auto,
    /// Read the device and publish its state.
    Read,
    /// Restart the computer of the device. Only for a whole device.
    Reboot,
}
