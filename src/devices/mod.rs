//! The device owner and its workers: one per physical device, one request in flight each.
//!
//! No device handle leaves this module. What goes in are intents, what comes out are answers and
//! [`DeviceEvent`].

mod backoff;
mod countdown;
pub mod energy;
mod exchange;
mod fault;
#[cfg(test)]
mod fuzz;
mod mailbox;
mod meter;
mod metrics;
mod opening;
mod owner;
mod queue;
mod readings;
mod report_thresholds;
mod reports;
mod rules;
mod search;
mod session;
mod state;
mod switch_target;
mod unconfirmed;
mod worker;

use std::{net::IpAddr, sync::Arc, time::Duration};

pub use metrics::{Circuit, DeviceHealth, MetricsRegistry};
pub use opening::{Seen, look};
pub use owner::{DeviceMsg, DeviceOwner, DeviceSet};
pub use report_thresholds::ReportThresholds;
pub use search::{Discovered, discover};
pub use session::Credentials;

use crate::domain::report::{DeviceReport, Event, Metered};
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
pub struct PollingConfig {
    /// Between two reads of the relays. Plugs polled harder than every 5 s were seen to reboot.
    pub poll: Duration,
    /// Between two reads of slow values: a strip's Wi-Fi signal, and the meter of one outlet.
    pub slow_poll: Duration,
    /// Which changes of energy values are told.
    pub telling: ReportThresholds,
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
pub(crate) struct WorkerSettings {
    pub(crate) config: Arc<DeviceConfig>,
    pub(crate) tempo: Arc<PollingConfig>,
}

/// What a worker tells everybody.
#[derive(Debug, Clone)]
pub enum DeviceEvent {
    /// A device changed; this is all of it.
    DeviceReport(Arc<DeviceReport>),
    /// Something happened.
    Event(Event),
    /// A meter was read.
    Metered(Metered),
}
