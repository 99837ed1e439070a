//! What the device owner says about a device: confirmed values, never guesses.

use std::{collections::BTreeSet, fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{command_error::ErrorCode, off_rules::Mirrored};
use planner::{
    DeviceId, GroupId, OutletKey, Power, Steady,
    units::{MilliAmps, MilliVolts, MilliWattHours, MilliWatts},
};

/// Everything known about one physical device. A worker sends a whole one on every change, so a
/// receiver that misses one has lost nothing once the next arrives.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceReport {
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
    pub trouble: Option<DeviceError>,
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
    /// The device counts wrong passwords and locked itself, or would soon; asking again keeps it locked.
    LockedOut,
}

impl Phase {
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
pub struct DeviceError {
    /// The stable word.
    pub code: ErrorCode,
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
    /// The same moment on the steady clock, which a change of the wall clock does not move.
    pub on_at: Option<Steady>,
    /// The last OFF: when it was first read, or the start of a run that shows that the relay was open before. It stays
    /// while the outlet is on.
    pub off_seen_at: Option<Steady>,
    /// What made the last change of the relay that was read.
    pub changed_by: ChangedBy,
    /// What its protections say.
    pub condition: Condition,
    /// What its meter says.
    pub energy: Energy,
    /// What it was seen to tell at least once. Nothing is taken from it while the bridge runs.
    pub features: BTreeSet<Feature>,
    /// The device's own countdown.
    pub countdown: Countdown,
    /// The schedule rules that the device follows by itself.
    pub rules: DeviceRules,
}

/// What a plug follows by itself, and by which clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceRules {
    /// All rules; `None` until they were read, and where there are none to be had.
    pub list: Option<Arc<[DeviceRule]>>,
    /// What became of those that we want there; `None` until that was tried.
    pub mirrored: Option<Arc<Mirrored>>,
    /// Its own clock.
    pub clock: DeviceClock,
}

/// What is known of a plug's own clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeviceClock {
    /// Not read yet.
    #[default]
    Unread,
    /// The plug does not tell it: it has no meter, whose readings carry the time.
    Untold,
    /// It was never set, or shows another time than the bridge's.
    Wrong,
    /// It shows what the bridge's does.
    InStep {
        /// The IANA name of the zone it is in.
        zone: String,
    },
}

/// A schedule rule that a plug holds: of the app, of somebody else, or of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// The plug's own name for it.
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

/// When on a day a rule fires, by the device's own clock and its own idea of the sun.
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
    /// As our own schedules spell it: `22:05`, `sunset-00:30`.
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

/// What an outlet's protections and its auto-off setting say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Against heat.
    pub overheat: Option<Protection>,
    /// Against a load above the limit that its user set, or the outlet's own.
    pub overload: Option<Protection>,
    /// Against a current above the outlet's own limit.
    pub overcurrent: Option<Protection>,
    /// What the protection of a charging device says, in the device's word: `normal`, `finished`...
    pub charging: Option<String>,
    /// Whether the auto-off setting runs, in the device's word: `on`, `off`...
    pub auto_off: Option<String>,
    /// When the auto-off setting switches off; `None` while it does not run.
    pub auto_off_at: Option<Timestamp>,
}

/// What one protection says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// The device's own word. Firmware may have words that nobody has seen.
    pub word: String,
    /// Whether it is one that switched off, where the word is known.
    pub tripped: Option<bool>,
}

/// What an outlet's meter says. A change that is too small to be told is not in here yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Energy {
    /// Drawn now.
    pub power: Option<MilliWatts>,
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

/// One reading of one outlet's meter, whether it is worth telling or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metered {
    /// Which device.
    pub device: DeviceId,
    /// Which outlet of it; `None` on a plug.
    pub outlet: Option<OutletKey>,
    /// Drawn now; `None` if the meter did not say.
    pub power: Option<MilliWatts>,
    /// [`Energy::total`]; `None` if the meter did not say.
    pub total: Option<MilliWattHours>,
}

/// What an outlet may tell, and others do not.
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
    /// Something else: the button, the app, a schedule on the device.
    External,
}

/// The countdown that a plug runs by itself. It has one; a strip has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Countdown {
    /// Not read yet.
    #[default]
    Unknown,
    /// The device has none.
    Unsupported,
    /// None runs.
    Idle,
    /// Ours runs: the device switches itself off then.
    Armed {
        /// When; kept while the device's count of seconds does not move it by more than it is coarse.
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
    /// Whether one runs, whoever started it.
    pub fn runs(&self) -> bool {
        matches!(self, Self::Armed { .. } | Self::External { .. })
    }

    /// Whether one of ours runs.
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
    /// A protection of the device says something else than before: it tripped, or was reset.
    Protection,
    /// Somebody published a retained command; it was refused.
    RetainedCommand,
    /// A device was deleted in Home Assistant.
    DiscoveryRemoved,
    /// A schedule turned a group on.
    ScheduleOn,
    /// The last active schedule of a group ended.
    ScheduleOff,
    /// Somebody wants something else than the schedules for a while.
    OverrideSet,
    /// An override ended, by itself or by `AUTO`.
    OverrideEnded,
    /// An outlet reached a limit and is switched off.
    SafetyTrip,
    /// An outlet is switched off because another of its group is on, and at most one may be.
    Interlock,
    /// An ON was refused because of a limit.
    RefusedBySafety,
    /// A sensor that conditions ask has been silent for too long.
    SensorStale,
    /// A silent sensor speaks again.
    SensorBack,
    /// An outlet has not been what it should be for a minute.
    StateMismatch,
    /// A plug does not hold the OFF edges that it should.
    DeviceScheduleFailed,
    /// Vacation began or ended.
    Vacation,
    /// A load that ran draws nothing much any more.
    LoadFinished,
    /// An outlet is switched off because its load is on standby.
    StandbyOff,
    /// What an outlet draws is not known, and a rule needs it.
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
