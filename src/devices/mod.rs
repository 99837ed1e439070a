//! The device owner and its workers: one per physical device, one request in flight each.
//!
//! No device handle leaves this module. What goes in are intents, what comes out are answers and
//! [`News`].

mod answers;
mod backoff;
pub mod energy;
mod exchange;
mod fault;
#[cfg(test)]
mod fuzz;
mod guard;
mod known;
mod mailbox;
mod meter;
mod opening;
mod owner;
mod queue;
mod readings;
mod rules;
mod search;
mod session;
mod stats;
mod tell;
mod telling;
mod unsettled;
mod worker;

use std::{net::IpAddr, sync::Arc, time::Duration};

pub use opening::{Seen, look};
pub use owner::{Order, Owner, Roster};
pub use search::{Discovered, discover};
pub use session::Credentials;
pub use stats::{Breaker, DeviceHealth, HealthBoard};
pub use telling::Telling;

use crate::domain::report::{Event, Metered, Report};
use planner::{DeviceId, OutletKey};

/// One device as its worker needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The topic and the key of everything.
    pub id: DeviceId,
    /// `host` or `host:port`.
    pub address: String,
    /// Overrides the nickname on the device.
    pub name: Option<String>,
    /// The account the device is registered to; `None` in setup mode: the device is left alone.
    pub credentials: Option<Credentials>,
    /// Names for outlets of a strip; others go by their position.
    pub outlets: Vec<OutletConfig>,
}

/// What the user calls one outlet of a strip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutletConfig {
    /// 1..n as printed on the strip.
    pub position: u8,
    /// Its topic level.
    pub key: OutletKey,
    /// Overrides the nickname on the device.
    pub name: Option<String>,
}

/// How often a device is asked, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tempo {
    /// Between two reads of the relays. Plugs polled harder than every 5 s were seen to reboot.
    pub poll: Duration,
    /// Between two reads of slow values: a strip's Wi-Fi signal, and the meter of one outlet.
    pub slow_poll: Duration,
    /// Which changes of energy values are told.
    pub telling: Telling,
    /// For one request. Devices answer in 20 to 300 ms on a healthy network.
    pub request: Duration,
    /// The longest wait between probes of a device that does not answer.
    pub probe_longest: Duration,
    /// The longest wait after a refused login.
    pub refused_longest: Duration,
    /// The wait after a device locked itself.
    pub locked: Duration,
    /// Where to ask for a device whose address stays dead, or is another device's: broadcast or single addresses.
    pub search: Vec<IpAddr>,
}

/// What a worker works by. Settings can change while it runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Orders {
    pub(crate) config: Arc<DeviceConfig>,
    pub(crate) tempo: Arc<Tempo>,
}

/// What a worker tells everybody.
#[derive(Debug, Clone)]
pub enum News {
    /// A device changed; this is all of it.
    Report(Arc<Report>),
    /// Something happened.
    Event(Event),
    /// A meter was read.
    Metered(Metered),
}
