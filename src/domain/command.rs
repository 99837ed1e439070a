//! A command of a user: made once, in decode, and carried to its end with its [`Reply`].

use std::{fmt, time::Duration};

use jiff::SignedDuration;
use planner::{GroupId, OutletPath, overrides::Lifetime};
use tokio::time::Instant;

use super::{
    device_command::Switch, device_settings::SettingChange, heating::HeatingChange,
    hub_child::ThermostatChange, reply::Reply,
};

/// A command to a device, an outlet or a group.
#[derive(Debug)]
pub struct Command {
    /// What it is for.
    pub target: Target,
    /// What to do.
    pub action: Action,
    /// How long it overrides the schedules; `None` is the default of the group. Only with [`Action::Switch`] and
    /// [`Action::Heat`].
    pub lifetime: Option<Lifetime>,
    /// How bright a lamp is when it goes on, in percent. Only with an action that switches one outlet on.
    pub brightness: Option<u8>,
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
    /// Ends a countdown, also one that was started on the device.
    CancelCountdown,
    /// Back to the schedules: the override ends.
    Auto,
    /// Read the device and publish its state.
    Read,
    /// Restart the computer of the device. Only for a whole device.
    Reboot,
    /// Change a setting that the device keeps.
    ChangeSetting(SettingChange),
    /// Set a thermostat of a hub.
    Thermostat(ThermostatChange),
    /// Set the thermostat of a group.
    Heat(HeatingChange),
}

impl Target {
    /// The outlet or device; `None` for a group.
    pub fn outlet(&self) -> Option<&OutletPath> {
        match self {
            Self::Outlet(path) => Some(path),
            Self::Group(_) => None,
        }
    }

    /// The group; `None` for an outlet or device.
    pub fn group(&self) -> Option<&GroupId> {
        match self {
            Self::Group(group) => Some(group),
            Self::Outlet(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outlet(path) => write!(f, "{path}"),
            Self::Group(group) => write!(f, "group/{group}"),
        }
    }
}

/// As in the log: `ON`, `ON for 5m`, `read`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Lengths of commands are at most a day, so the conversion does not fail.
        let length = |length: Duration| SignedDuration::try_from(length).unwrap_or_default();
        match self {
            Self::Switch(Switch::To(power)) => write!(f, "{power}"),
            Self::Switch(Switch::Toggle) => f.write_str("TOGGLE"),
            Self::OnFor(time) => write!(f, "ON for {:#}", length(*time)),
            Self::OffFor(time) => write!(f, "OFF for {:#}", length(*time)),
            Self::CountDown(time) => write!(f, "countdown {:#}", length(*time)),
            Self::CancelCountdown => f.write_str("countdown 0"),
            Self::Auto => f.write_str("AUTO"),
            Self::Read => f.write_str("read"),
            Self::Reboot => f.write_str("reboot"),
            Self::ChangeSetting(change) => write!(f, "{change}"),
            Self::Thermostat(change) => write!(f, "{change}"),
            Self::Heat(change) => write!(f, "{change}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use planner::Power;

    use super::*;

    #[test]
    fn a_command_in_the_log_is_readable() {
        let minutes = Duration::from_mins(90);
        for (action, text) in [
            (Action::Switch(Switch::To(Power::On)), "ON"),
            (Action::Switch(Switch::Toggle), "TOGGLE"),
            (Action::OnFor(minutes), "ON for 1h 30m"),
            (Action::CountDown(Duration::from_secs(5)), "countdown 5s"),
            (Action::Auto, "AUTO"),
        ] {
            assert_eq!(action.to_string(), text);
        }
        let group = Target::Group("driveway".parse().unwrap());
        assert_eq!(group.to_string(), "group/driveway");
    }
}
