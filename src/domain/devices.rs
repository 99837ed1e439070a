//! Messages between the device owner and the other tasks, and the settings of devices.

use std::{sync::Arc, time::Duration};

use planner::{DeviceId, OutletKey, OutletPath, Steady};
use tokio::sync::mpsc;

use super::{
    device_command::DeviceCommand,
    hub_child::HubReading,
    network_device::NetworkDevice,
    off_rules::WantedOffRules,
    report::{DeviceReport, Event, Metered},
    report_thresholds::ReportThresholds,
    search_area::SearchArea,
};
use crate::system::Secret;

/// Commands that may wait for one device. Equal targets replace each other, so only reads and toggles of a device that
/// does not answer can fill it.
pub const QUEUE_CAPACITY: usize = 64;

/// The account a device is registered to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The account's e-mail address, case-sensitive.
    pub username: String,
    /// The account's password.
    pub password: Secret,
}

/// Which client serves a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientChoice {
    /// By what the device is and has to do.
    #[default]
    Auto,
    /// The `tapo` crate.
    Tapo,
    /// Our own.
    Own,
}

/// One device as its worker needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The topic and the key of everything.
    pub id: DeviceId,
    /// `host` or `host:port`.
    pub address: String,
    /// The MAC of the device that is meant, lower case with colons; `None` is the one that answered first.
    pub mac: Option<String>,
    /// Overrides the nickname on the device.
    pub name: Option<String>,
    /// What it is reached with.
    pub client: ClientChoice,
    /// Whether the settings that the device keeps itself are read and can be changed, which only our own client does.
    pub device_settings: bool,
    /// The account the device is registered to; `None` in setup mode: no requests are sent.
    pub credentials: Option<Credentials>,
    /// Names for outlets of a strip; others go by their position.
    pub outlets: Vec<OutletConfig>,
    /// Names for what is connected to a hub; others go by their names in the app.
    pub children: Vec<ChildConfig>,
}

impl DeviceConfig {
    /// A device about which the settings say no more than its id and its address.
    pub fn new(id: DeviceId, address: String) -> Self {
        Self {
            id,
            address,
            mac: None,
            name: None,
            client: ClientChoice::default(),
            device_settings: false,
            credentials: None,
            outlets: Vec::new(),
            children: Vec::new(),
        }
    }

    /// Which device is meant. One with a MAC is the same at each address.
    pub fn target(&self) -> DeviceTarget {
        DeviceTarget {
            address: self
                .mac
                .as_ref()
                .map_or_else(|| self.address.clone(), |_| String::new()),
            mac: self.mac.clone(),
        }
    }

    /// Whether other settings of this id mean another device.
    pub fn means_another(&self, before: &Self) -> bool {
        self.target() != before.target()
    }
}

/// The device that settings mean by an id. Other settings of the same id may mean another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceTarget {
    /// [`DeviceConfig::address`]; empty with a MAC.
    pub address: String,
    /// [`DeviceConfig::mac`].
    pub mac: Option<String>,
}

/// The configured names of one outlet of a strip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutletConfig {
    /// 1..n as printed on the strip.
    pub position: u8,
    /// Its topic level.
    pub key: OutletKey,
    /// Overrides the nickname on the device.
    pub name: Option<String>,
}

/// The configured names of a sensor or thermostat that connects to a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildConfig {
    /// Its topic level.
    pub key: OutletKey,
    /// Which one; `None` is the one whose name in the app makes this key.
    pub device_id: Option<String>,
    /// Overrides the nickname on the device.
    pub name: Option<String>,
}

/// The intervals and limits of requests to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollingConfig {
    /// Between two reads of the relays. Plugs that are polled more often than every 5 s were seen to reboot.
    pub poll: Duration,
    /// Between two reads of slow values: a strip's Wi-Fi signal, and the meter of one outlet.
    pub slow_poll: Duration,
    /// Which changes of energy values are reported.
    pub telling: ReportThresholds,
    /// For one request. Devices answer in 20 to 300 ms on a healthy network.
    pub request: Duration,
    /// The longest wait between probes of a device that does not answer.
    pub probe_longest: Duration,
    /// The longest wait after a refused login.
    pub refused_longest: Duration,
    /// The wait after a device locked itself.
    pub locked: Duration,
}

/// How new devices are searched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeriodicSearch {
    /// From one search to the next; `None` searches only for lost devices.
    pub interval: Option<Duration>,
    /// What a found device is logged in to with, to read its name.
    pub account: Option<Credentials>,
}

/// The settings of a worker. They can change while it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSettings {
    /// The device.
    pub config: Arc<DeviceConfig>,
    /// Its intervals and limits.
    pub polling: Arc<PollingConfig>,
}

/// What a worker sends to the event loop and to the scheduler.
#[derive(Debug)]
pub enum DeviceEvent {
    /// A device changed; this is its complete state.
    Report(Arc<DeviceReport>),
    /// Something happened.
    Event(Event),
    /// A meter was read.
    Metered(Metered),
    /// A hub was read. Sent to the scheduler only.
    HubRead(HubReading),
    /// A command that would switch on, or toggle, and that waited while the device could not be reached. The device is
    /// connected and its first report was sent. The receiver decides again and sends the command, with the same
    /// deadline and reply, or replies itself. Sent to the scheduler only.
    Recheck(DeviceCommand),
    /// Devices that answered a search. Sent to the event loop only.
    Found(Vec<NetworkDevice>),
}

/// The receivers of [`DeviceEvent`]s. A worker waits while a channel is full.
#[derive(Debug, Clone)]
pub struct EventSenders {
    /// The MQTT event loop.
    pub mqtt: mpsc::Sender<DeviceEvent>,
    /// The scheduler.
    pub scheduler: mpsc::Sender<DeviceEvent>,
}

/// The inbox of the device owner.
#[derive(Debug)]
pub enum DeviceMsg {
    /// A command to one device.
    Command(DeviceCommand),
    /// The outlet must be off by then, even without the bridge; `None` is no end. The end is in force until the next one,
    /// or until a command that switches the outlet on brings its own. The worker makes the device's countdown follow.
    OffBy(OutletPath, Option<Steady>),
    /// Reply `superseded` to every waiting command that would switch the outlet on, or toggle it. For a whole strip: its
    /// outlets too.
    Withdraw(OutletPath),
    /// The bridge is online at the broker, or there is none to wait for: devices are connected faster.
    BridgeOnline,
    /// Connect to all devices again. Each device has a limit of logins, and connects later if it is reached.
    Rescan,
    /// The wanted OFF rules of the bridge on an outlet. They are written between commands; reports contain the result.
    OffRules(OutletPath, Arc<WantedOffRules>),
    /// The settings changed: devices are added, removed and changed. An unchanged device is not affected.
    Reload(DeviceSet),
}

/// The configured devices.
#[derive(Debug, Clone)]
pub struct DeviceSet {
    /// Every configured device.
    pub devices: Vec<DeviceConfig>,
    /// Their intervals and limits.
    pub polling: PollingConfig,
    /// Where devices are searched: lost ones, and new ones.
    pub area: SearchArea,
    /// How new ones are searched.
    pub search: PeriodicSearch,
}
