//! A command to one device: one outlet, or all outlets of a strip. The scheduler makes it, the device's worker carries
//! it out.

use std::time::Duration;

use jiff::SignedDuration;
use planner::{OutletPath, Power, Steady};
use serde::Serialize;
use tokio::time::Instant;

use super::{device_settings::SettingChange, hub_child::ThermostatChange, reply::Reply};

/// The wanted state of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Close or open the relay.
    To(Power),
    /// The opposite of the current state; resolved once, by the worker.
    Toggle,
}

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceAction {
    /// Switch, read back, reply with the state that the device reports.
    Switch(Switch),
    /// Arm the countdown of the device for the end that `run` names, where the outlet is on.
    CountDown,
    /// Clear the countdown that runs on the device, also an external one: a user requests it.
    CancelCountdown,
    /// Read the device now.
    Read,
    /// Restart the device. Its relays keep their state on most models.
    Reboot,
    /// Change a setting that the device keeps, read it back.
    ChangeSetting(SettingChange),
    /// Set a thermostat of a hub, read back.
    Thermostat(ThermostatChange),
}

impl DeviceAction {
    /// Whether it closes the relay, or may close it.
    pub fn may_switch_on(self) -> bool {
        matches!(self, Self::Switch(Switch::To(Power::On) | Switch::Toggle))
    }
}

/// How long an outlet that a command switches on may stay on. The device's worker arms the device's own countdown for
/// the earlier end before it closes the relay, and keeps it armed from then on. The default is without a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunLimit {
    /// The end of a timer or of an override.
    pub off_by: Option<Steady>,
    /// Counts from the moment the relay closes.
    pub max_on: Option<Duration>,
}

impl RunLimit {
    /// When an outlet must be off whose relay closed at `closed_at`; `None` without a limit.
    pub fn end(self, closed_at: Steady) -> Option<Steady> {
        let of_run = self.max_on.map(|length| {
            let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
            closed_at.after(length)
        });
        self.off_by.into_iter().chain(of_run).min()
    }
}

/// The source of a command. Safety goes before all others in the queue of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A message on a command topic.
    Mqtt,
    /// The planner, by clock, sun or sensor.
    Schedule,
    /// A limit was reached.
    Safety,
}

/// A command to one outlet, or to all outlets of a strip. It gets exactly one reply.
#[derive(Debug)]
pub struct DeviceCommand {
    /// Which outlet.
    pub path: OutletPath,
    /// The action.
    pub action: DeviceAction,
    /// How long the outlet may stay on, if the command switches it on or starts a countdown; by when it must be off all the
    /// same, if the command cancels a countdown.
    pub run: RunLimit,
    /// The source.
    pub source: Source,
    /// Not carried out after this instant; the reply is [`ErrorCode::Expired`](super::command_error::ErrorCode::Expired)
    /// instead.
    pub deadline: Instant,
    /// The reply.
    pub reply: Reply,
    /// Its place among the commands of its device. `None` in a new command; the device's worker sets it. A command that
    /// is sent again after [`Recheck`](super::devices::DeviceEvent::Recheck) keeps it, so that it replaces no newer one.
    pub turn: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_end_counts() {
        let at = |seconds| Steady::at(jiff::Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds));
        let limit = |off_by: Option<i64>, max_on: Option<u64>| RunLimit {
            off_by: off_by.map(at),
            max_on: max_on.map(Duration::from_secs),
        };
        assert_eq!(limit(None, None).end(at(100)), None);
        assert_eq!(limit(Some(150), None).end(at(100)), Some(at(150)));
        assert_eq!(limit(None, Some(20)).end(at(100)), Some(at(120)));
        assert_eq!(limit(Some(150), Some(20)).end(at(100)), Some(at(120)));
        assert_eq!(limit(Some(110), Some(20)).end(at(100)), Some(at(110)));
    }
}
