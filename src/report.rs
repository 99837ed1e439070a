//! What the device owner says about a device: confirmed values, never guesses.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    intent::Code,
    model::{DeviceId, OutletKey, Power},
};

/// Everything known about one physical device. A worker sends a whole one on every change, so a
/// receiver that misses one has lost nothing once the next arrives.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The configured id.
    pub id: DeviceId,
    /// Configured name, else the nickname in the app.
    pub name: Option<String>,
    /// Where it is reached now: as configured, or where discovery found it.
    pub address: String,
    /// Where the device's worker is in its life.
    pub phase: Phase,
    /// Whether the device counts as reachable; debounced.
    pub availability: Availability,
    /// Why it is not well; `None` while it is.
    pub trouble: Option<Trouble>,
    /// What the device is; `None` until it was first reached.
    pub identity: Option<Arc<Identity>>,
    /// Wi-Fi signal in dBm.
    pub rssi: Option<i64>,
    /// The outlets: exactly one with no key on a plug, in position order on a strip.
    pub outlets: Vec<Outlet>,
}

/// The states of a worker's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No account is configured: the device is left alone.
    SetupMode,
    /// Logging in for the first time.
    Connecting,
    /// Everything works.
    Ready,
    /// The last exchange failed; one active retry decides.
    Degraded,
    /// No answer; probed with back-off, and at once when a command arrives.
    Unreachable,
    /// The device refuses the login for a reason that time alone does not heal.
    Forbidden,
    /// The device locked itself; asking again keeps it locked.
    LockedOut,
}

/// Whether a device can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Reachable.
    Online,
    /// Not reachable: its state is unknown.
    Offline,
}

/// What is wrong with a device, for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The stable word.
    pub code: Code,
    /// What was seen and what to do.
    pub message: String,
}

/// What a device says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The device's own id, stable over address changes.
    pub device_id: String,
    /// `P110`, `P304M`, `EP40M`...
    pub model: String,
    /// Firmware version.
    pub firmware: Option<String>,
    /// Hardware version.
    pub hardware: Option<String>,
    /// Lower case with colons: `aa:bb:cc:dd:ee:ff`.
    pub mac: Option<String>,
    /// The name given in the app, decoded.
    pub nickname: Option<String>,
    /// One plug, or a strip of outlets.
    pub kind: Kind,
    /// Whether the component list names `energy_monitoring`.
    pub meters_energy: bool,
}

/// The two shapes of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One relay; the device is the outlet.
    Plug,
    /// Several children, one relay each.
    Strip,
}

/// One relay.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlet {
    /// Its topic level on a strip; `None` on a plug.
    pub key: Option<OutletKey>,
    /// 1..n from the device; 1 on a plug.
    pub position: u8,
    /// Configured name, else the nickname in the app. A plug's outlet has the plug's name.
    pub name: Option<String>,
    /// The relay, as the device last confirmed it.
    pub power: Option<Power>,
    /// When the relay closed, to the second; `None` while it is open or if the device does not say.
    pub on_since: Option<Timestamp>,
    /// The device's protection tripped because it was too hot.
    pub overheated: Option<bool>,
    /// The device's protection tripped because of the load.
    pub overloaded: Option<bool>,
    /// Which of these protections it has.
    pub protections: Protections,
}

/// The protections that an outlet told of at least once. Which ones that are depends on model and firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protections {
    /// `overheated` has had a value.
    pub heat: bool,
    /// `overloaded` has had a value.
    pub load: bool,
}

/// Something that happened, for `bridge/event` and the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What kind.
    pub kind: EventKind,
    /// Which device.
    pub device: Option<DeviceId>,
    /// Which outlet of it.
    pub outlet: Option<OutletKey>,
    /// In words.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// The kinds of event, as they stand in `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A device became reachable.
    DeviceOnline,
    /// A device became unreachable.
    DeviceOffline,
    /// A relay changed and it was not us: its button, the app, a rule on the device.
    ExternalChange,
    /// A device was found under another address.
    AddressChanged,
    /// A protection of the device tripped or was reset.
    Protection,
    /// Somebody published a retained command; it was refused.
    RetainedCommand,
    /// A device was deleted in Home Assistant.
    DiscoveryRemoved,
}
