//! A command to one device: one outlet, or all outlets of a strip. The scheduler makes it, the device's worker carries
//! it out.

use jiff::Timestamp;
use planner::{OutletPath, Power};
use serde::Serialize;
use tokio::time::Instant;

use super::reply::Reply;

/// How a relay shall change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Close or open the relay.
    To(Power),
    /// The opposite of what it is; resolved once, by the device owner.
    Toggle,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceAction {
    /// Switch, read back, answer with what the device says.
    Switch(Switch),
    /// Do no more than what [`DeviceCommand::guard`] says.
    Guard,
    /// Read through the device, now.
    Read,
    /// Restart the device's own computer. Its relays keep their state on most models.
    Reboot,
}

/// What to do about the device's own countdown to OFF, which switches a plug off even if the bridge or the
/// network is gone. A device that has none goes without; its [`Countdown`](crate::domain::report::Countdown) says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Guard {
    /// Leave it as it is.
    #[default]
    Leave,
    /// Arm it, before the relay closes.
    Arm {
        /// When the device shall switch off. It counts whole seconds, from 1 s to 24 h; a later instant is
        /// armed as 24 h.
        off_at: Instant,
        /// When the countdown that we armed earlier ends. One that ends then is replaced; any other is
        /// somebody else's, and left alone.
        ours: Option<Timestamp>,
    },
    /// Clear it, if it is ours.
    Disarm {
        /// When the countdown that we armed ends.
        ours: Timestamp,
    },
    /// Clear one that somebody else started, because a person asked for that.
    Cancel {
        /// What it switches to.
        to: Power,
        /// When it ends. One that ends at another time is yet another's, and left alone.
        ends: Timestamp,
    },
}

/// Who asks. Safety goes before everybody else in a device's queue.
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

/// One thing asked of one outlet (or of every outlet of a strip). It ends in exactly one answer.
#[derive(Debug)]
pub struct DeviceCommand {
    /// Which outlet.
    pub path: OutletPath,
    /// What to do with it.
    pub action: DeviceAction,
    /// What to do about the device's own countdown along with it.
    pub guard: Guard,
    /// Who asks.
    pub source: Source,
    /// Not carried out after this instant; answered [`ErrorCode::Expired`] instead.
    pub deadline: Instant,
    /// Where the answer goes.
    pub reply: Reply,
}
