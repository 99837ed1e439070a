//! The reports about a device: confirmed values, never guesses.

use std::{collections::BTreeSet, fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{
    button_action::ButtonAction,
    command_error::ErrorCode,
    device_settings::{LatestFirmware, OutletSettings},
    devices::DeviceTarget,
    hub_child::HubChild,
    off_rules::OffRulesStatus,
};
use planner::{
    DeviceId, GroupId, OutletKey, Power, Steady,
    units::{MilliAmps, MilliVolts, MilliWattHours, MilliWatts, NetMilliWatts},
};

/// The complete state of one physical device. A worker sends it on every change, so a receiver that
/// misses one is up to date with the next.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceReport {
    /// The configured id.
    pub id: DeviceId,
    /// Which device its worker has the id for: after a reload that may not be the one that the settings mean.
    pub target: DeviceTarget,
    /// Configured name, else the nickname in the app.
    pub name: Option<String>,
    /// Its current address: as configured, or as discovery found it.
    pub address: String,
    /// The phase of its worker.
    pub phase: Phase,
    /// Whether the device counts as reachable; debounced.
    pub availability: Availability,
    /// The last failure; `None` after a success.
    pub error: Option<DeviceError>,
    /// What the device is; `None` until it was first reached.
    pub identity: Option<Arc<Identity>>,
    /// Whether everything was read once that shows which values the device has: its features are known then.
    pub is_complete: bool,
    /// Wi-Fi signal in dBm.
    pub rssi: Option<i64>,
    /// What reaches it; `None` until a login.
    pub serving: Option<Serving>,
    /// Whether its LED lights.
    pub led: Option<bool>,
    /// The newest firmware that it knows.
    pub latest_firmware: Option<Arc<LatestFirmware>>,
    /// The outlets: exactly one with no key on a plug, in position order on a strip, none on a hub.
    pub outlets: Vec<Outlet>,
    /// What is connected to a hub.
    pub children: Vec<HubChild>,
}

impl DeviceReport {
    /// Whether what shows its values is still being read, and nothing keeps the bridge from it.
    pub fn is_being_read(&self) -> bool {
        !self.is_complete && matches!(self.phase, Phase::Connecting | Phase::Ready | Phase::Degraded)
    }
}

/// What a device is reached with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    /// The client, by its name in the settings: `tapo` or `own`.
    pub client: &'static str,
    /// What the session goes over: `klap`, `tpap`, `aes` or `xor`; `None` where it is not known.
    pub transport: Option<&'static str>,
}

/// The phases of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No account is configured: no requests are sent.
    SetupMode,
    /// Logging in for the first time.
    Connecting,
    /// Everything works.
    Ready,
    /// The last exchange failed; one active retry decides.
    Degraded,
    /// No answer; probed with back-off, and at once when a command arrives.
    Unreachable,
    /// The device refuses the login. Time alone does not remove the cause.
    Forbidden,
    /// The device counts wrong passwords and locked itself, or would soon; another login keeps it locked.
    LockedOut,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::SetupMode,
        Self::Connecting,
        Self::Ready,
        Self::Degraded,
        Self::Unreachable,
        Self::Forbidden,
        Self::LockedOut,
    ];

    /// Whether a device in this phase counts as reachable.
    pub fn availability(self) -> Availability {
        match self {
            Self::Ready | Self::Degraded => Availability::Online,
            Self::SetupMode | Self::Connecting | Self::Unreachable | Self::Forbidden | Self::LockedOut => {
                Availability::Offline
            }
        }
    }
}

impl fmt::Display for Phase {
    /// As in `status`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
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

/// The failure of a device, as text for the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceError {
    /// The stable code.
    pub code: ErrorCode,
    /// The problem and what to do.
    pub message: String,
}

/// The identity that a device reports.
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
    /// One plug, a strip of outlets, or a hub.
    pub kind: Kind,
    /// Whether the component list names `energy_monitoring`.
    pub meters_energy: bool,
    /// What a device with one relay is.
    pub role: DeviceRole,
}

/// What a device is, by the type that it names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceRole {
    /// A plug or a strip.
    #[default]
    Outlet,
    /// It is built into a wall.
    WallSwitch,
    /// A bulb or a light strip.
    Light,
}

/// The shapes of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One relay; the device is the outlet.
    Plug,
    /// Several children, one relay each.
    Strip,
    /// Sensors and thermostats that connect to it, and no relay.
    Hub,
}

/// One relay.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outlet {
    /// Its topic level on a strip; `None` on a plug.
    pub key: Option<OutletKey>,
    /// 1..n from the device; 1 on a plug.
    pub position: u8,
    /// Configured name, else the nickname in the app. A plug's outlet has the plug's name.
    pub name: Option<String>,
    /// The relay, as the device last confirmed it.
    pub power: Option<Power>,
    /// When the relay closed, to the second; `None` while it is open or if the device does not report it.
    pub on_since: Option<Timestamp>,
    /// The same moment on the steady clock, which a change of the wall clock does not move.
    pub on_at: Option<Steady>,
    /// The last OFF: when it was first read, or the start of a run that shows that the relay was open before. It stays
    /// while the outlet is on.
    pub off_seen_at: Option<Steady>,
    /// What made the last change of the relay that was read.
    pub changed_by: ChangedBy,
    /// The states of its protections.
    pub condition: Condition,
    /// The values of its meter.
    pub energy: Energy,
    /// The settings that the device keeps for it.
    pub settings: OutletSettings,
    /// What it reported at least once. No feature is removed while the bridge runs.
    pub features: BTreeSet<Feature>,
    /// The device's own countdown.
    pub countdown: Countdown,
    /// The schedule rules on the device.
    pub rules: DeviceRules,
}

/// The schedule rules on an outlet, and the clock of its device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceRules {
    /// All rules; `None` until they were read, and for a device that does not return them.
    pub list: Option<Arc<[DeviceRule]>>,
    /// The result for the rules that the bridge wants there; `None` before the first attempt.
    pub off_rules: Option<Arc<OffRulesStatus>>,
    /// Its clock.
    pub clock: DeviceClock,
}

/// The clock of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeviceClock {
    /// Not read yet.
    #[default]
    Unread,
    /// It is not reported: only meters and our own client read it.
    Unreported,
    /// It was never set, or differs from that of the bridge.
    Wrong,
    /// It agrees with that of the bridge.
    InStep {
        /// The IANA name of the zone it is in.
        zone: String,
    },
}

/// A schedule rule on an outlet: of the app, of another program, or of the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// The id that the device gave it.
    pub id: String,
    /// Whether it fires.
    pub enabled: bool,
    /// When on a day.
    pub time: RuleTime,
    /// On which days; `None` is once.
    pub days: Option<Weekdays>,
    /// What it switches to.
    pub to: Power,
}

/// When on a day a rule fires, by the clock of the device and its own sun times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleTime {
    /// At a minute of the day, 0 to 1439.
    Clock {
        /// Since midnight.
        minute: u16,
    },
    /// Before or after sunrise.
    Sunrise {
        /// After it; before, where negative.
        minutes: i16,
    },
    /// Before or after sunset.
    Sunset {
        /// After it; before, where negative.
        minutes: i16,
    },
}

impl fmt::Display for RuleTime {
    /// As in schedules of the bridge: `22:05`, `sunset-00:30`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sun, minutes) = match *self {
            Self::Clock { minute } => return write!(f, "{:02}:{:02}", minute / 60, minute % 60),
            Self::Sunrise { minutes } => ("sunrise", minutes),
            Self::Sunset { minutes } => ("sunset", minutes),
        };
        f.write_str(sun)?;
        if minutes == 0 {
            return Ok(());
        }
        let (sign, offset) = (if minutes < 0 { '-' } else { '+' }, minutes.unsigned_abs());
        write!(f, "{sign}{:02}:{:02}", offset / 60, offset % 60)
    }
}

/// Days of the week as devices write them: bit 0 is Sunday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weekdays(u8);

impl Weekdays {
    const NAMES: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

    /// Other bits than the lowest seven mean nothing.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 0x7f)
    }

    /// The lowest seven bits.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Their short names, Sunday first.
    pub fn names(self) -> Vec<&'static str> {
        let named = Self::NAMES.iter().enumerate();
        named
            .filter(|(day, _)| self.0 & (1 << day) != 0)
            .map(|(_, name)| *name)
            .collect()
    }
}

/// The states of the protections and of the auto-off setting of an outlet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Against heat.
    pub overheat: Option<Protection>,
    /// Against a load above the limit that its user set, or the outlet's own.
    pub overload: Option<Protection>,
    /// Against a current above the outlet's own limit.
    pub overcurrent: Option<Protection>,
    /// The state of the protection of a charging device, as reported: `normal`, `finished`...
    pub charging: Option<String>,
    /// Whether the auto-off setting runs, as reported: `on`, `off`...
    pub auto_off: Option<String>,
    /// When the auto-off setting switches off; `None` while it does not run.
    pub auto_off_at: Option<Timestamp>,
}

impl Condition {
    /// Whether a protection has switched off.
    pub fn has_tripped(&self) -> bool {
        let protections = [&self.overheat, &self.overload, &self.overcurrent];
        let mut tripped = protections.into_iter().flatten();
        tripped.any(|protection| protection.tripped == Some(true))
    }
}

/// The state of one protection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// As the device reports it. Firmware may report unknown values.
    pub word: String,
    /// Whether it is one that switched off, where the word is known.
    pub tripped: Option<bool>,
}

/// The values of the meter of an outlet. A change that is too small to be reported is not included yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Energy {
    /// Drawn now, or fed in.
    pub power: Option<NetMilliWatts>,
    /// The mains voltage.
    pub voltage: Option<MilliVolts>,
    /// Drawn now.
    pub current: Option<MilliAmps>,
    /// Used since midnight on the device's clock.
    pub today: Option<MilliWattHours>,
    /// Used in this month on the device's clock.
    pub month: Option<MilliWattHours>,
    /// Used since the bridge first read the outlet. It only grows.
    pub total: Option<MilliWattHours>,
}

/// One reading of the meter of one outlet, however small the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metered {
    /// Which device.
    pub device: DeviceId,
    /// Which outlet of it; `None` on a plug.
    pub outlet: Option<OutletKey>,
    /// Drawn now; `None` if the reading lacks it.
    pub power: Option<MilliWatts>,
    /// [`Energy::total`]; `None` if the reading lacks it.
    pub total: Option<MilliWattHours>,
}

/// Values that not every outlet reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// [`Condition::overheat`].
    Overheat,
    /// [`Condition::overload`].
    Overload,
    /// [`Condition::overcurrent`].
    Overcurrent,
    /// [`Condition::charging`].
    Charging,
    /// [`Condition::auto_off`].
    AutoOff,
    /// [`Energy::voltage`] and [`Energy::current`].
    Voltage,
    /// [`Outlet::countdown`].
    Countdown,
    /// [`DeviceRules::list`].
    Rules,
    /// [`OutletSettings::auto_off`].
    AutoOffSetting,
    /// [`OutletSettings::power_protection`].
    PowerProtection,
    /// [`OutletSettings::power_on_behavior`], where it can be set.
    PowerOnBehavior,
    /// [`OutletSettings::brightness`].
    Brightness,
}

/// What changed a relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChangedBy {
    /// No change was read yet.
    #[default]
    Unknown,
    /// A command of the bridge.
    Command,
    /// The countdown on the device that the bridge armed.
    Countdown,
    /// An OFF rule on the device that the bridge wrote.
    OffRule,
    /// A protection of the device switched off: its overload, its heat.
    Protection,
    /// The auto-off setting of the device switched off.
    AutoOff,
    /// Something else: the button, the app, a schedule on the device.
    External,
}

/// The countdown that an outlet runs by itself. It has one at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Countdown {
    /// Not read yet.
    #[default]
    Unknown,
    /// The device has none.
    Unsupported,
    /// None runs.
    Idle,
    /// That of the bridge runs: the device switches itself off then.
    Armed {
        /// When. It stays while readings agree within the resolution of the device.
        ends: Timestamp,
    },
    /// One runs that the bridge did not start: the app did, for example. It is not changed.
    External {
        /// To what the device switches itself.
        to: Power,
        /// When; as for [`Countdown::Armed`].
        ends: Timestamp,
    },
    /// The device refused to arm it.
    Failed,
}

impl Countdown {
    /// Whether one runs, also an external one.
    pub fn runs(&self) -> bool {
        matches!(self, Self::Armed { .. } | Self::External { .. })
    }

    /// Whether that of the bridge runs.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Armed { .. })
    }
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
    /// Which group.
    pub group: Option<GroupId>,
    /// What the relay is now, for [`EventKind::ExternalChange`].
    pub state: Option<Power>,
    /// What a button was used for, for [`EventKind::Button`].
    pub action: Option<ButtonAction>,
    /// As text.
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
    /// A relay changed externally: button, app or device schedule.
    ExternalChange,
    /// A button at a hub was pressed or turned.
    Button,
    /// A device was found under another address.
    AddressChanged,
    /// A protection of the device changed: it tripped, or was reset.
    Protection,
    /// A command failed. One event for each outlet of several that failed.
    CommandFailed,
    /// A retained command was published; it was refused.
    RetainedCommand,
    /// A device was deleted in Home Assistant.
    DiscoveryRemoved,
    /// A schedule turned a group on.
    ScheduleOn,
    /// The last active schedule of a group ended.
    ScheduleOff,
    /// A command overrides the schedules for a while.
    OverrideSet,
    /// An override ended, by itself or by `AUTO`.
    OverrideEnded,
    /// An outlet reached a limit and is switched off.
    SafetyTrip,
    /// An outlet is switched off because another of its group is on, and at most one may be.
    Interlock,
    /// An ON was refused because of a limit.
    RefusedBySafety,
    /// A sensor of a condition sent no value for too long.
    SensorStale,
    /// A stale sensor sent a value again.
    SensorBack,
    /// An outlet was not in its wanted state for a minute.
    StateMismatch,
    /// A plug lacks OFF rules that it should have.
    DeviceScheduleFailed,
    /// Vacation began or ended.
    Vacation,
    /// A load that ran draws almost no power any more.
    LoadFinished,
    /// An outlet is switched off because its load is on standby.
    StandbyOff,
    /// The power of an outlet is not known, and a rule needs it.
    MeterSilent,
    /// It is known again.
    MeterBack,
}

impl fmt::Display for EventKind {
    /// As in `type`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
