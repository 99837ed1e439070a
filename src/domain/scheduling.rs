//! Messages between the event loop and the scheduler, and the status of outlets and groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::domain::{
    command::{Command, Target},
    devices::DeviceTarget,
    heating::HeatingStatus,
    report::Event,
    request_reply::RequestReply,
    sensor_status::SensorStatus,
    weather_status::WeatherStatus,
};
use planner::{
    DeviceId, GroupId, OutletKey, OutletPath, Power,
    units::{MilliWattHours, MilliWatts},
};
use planner::{
    ScheduleId,
    energy_limits::{EnergyRules, Usage},
    holidays::HolidayDates,
    plan::{Layer, Mode, Reason, SafetyState, Source, Vacation},
    rules::Rules,
    weather::Weather,
};

/// Messages on their way to the scheduler, which never waits for a device.
const MESSAGES: usize = 256;
/// Updates on their way to the event loop. The scheduler keeps what does not fit.
const UPDATES: usize = 256;

/// The event loop's side of the scheduler's channels.
#[derive(Debug)]
pub struct SchedulerHandle {
    /// To the scheduler, with `try_send`: full is answered `busy`.
    pub messages: mpsc::Sender<SchedulerMsg>,
    /// From the scheduler.
    pub updates: mpsc::Receiver<SchedulerUpdate>,
}

/// The scheduler's side of them.
#[derive(Debug)]
pub struct SchedulerInbox {
    /// From the event loop.
    pub messages: mpsc::Receiver<SchedulerMsg>,
    /// To the event loop.
    pub updates: mpsc::Sender<SchedulerUpdate>,
}

/// The channels between the event loop and the scheduler.
pub fn channels() -> (SchedulerHandle, SchedulerInbox) {
    let (messages, messages_in) = mpsc::channel(MESSAGES);
    let (updates_out, updates) = mpsc::channel(UPDATES);
    let inbox = SchedulerInbox {
        messages: messages_in,
        updates: updates_out,
    };
    (SchedulerHandle { messages, updates }, inbox)
}

/// The inbox of the scheduler. The event loop sends and never waits.
#[derive(Debug)]
pub enum SchedulerMsg {
    /// A command. It ends in one reply.
    Command(Command),
    /// A message on a topic that sensors use.
    Sensor {
        /// The topic.
        topic: String,
        /// The payload.
        payload: Bytes,
        /// Whether the broker kept it: its age is unknown.
        retained: bool,
    },
    /// The calendar was read again: its holidays.
    Holidays(Arc<HolidayDates>),
    /// A forecast arrived. [`SchedulerUpdate::Weather`] follows.
    Weather(Arc<Weather>),
    /// The settings were reloaded. [`SchedulerUpdate::Rules`] follows if the rules changed.
    Reload(ReloadedRules),
    /// A query, or a change of schedules, overrides or vacation. It ends in one reply.
    Request {
        /// The request.
        request: Request,
        /// Where the result goes.
        reply: RequestReply,
    },
}

/// The rules and devices of reloaded settings.
#[derive(Debug)]
pub struct ReloadedRules {
    /// The rules, without what was changed over MQTT.
    pub rules: Arc<Rules>,
    /// Every configured device.
    pub devices: BTreeMap<DeviceId, ConfiguredDevice>,
}

/// One device as the scheduler needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfiguredDevice {
    /// Which device is meant.
    pub target: DeviceTarget,
    /// The names of its outlets.
    pub outlets: OutletNames,
}

/// The names of the outlets of one device, from the settings, with their positions. Others go by their position.
pub type OutletNames = BTreeMap<OutletKey, u8>;

/// A request to the scheduler.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// The schedules, of one group or of all: as they are in force, and where each comes from.
    Schedules(Option<GroupId>),
    /// Adds a schedule, or replaces the one of its `id`. In the form of a `[[group.schedule]]` of the settings.
    SetSchedule {
        /// The group.
        group: GroupId,
        /// The schedule.
        schedule: Value,
    },
    /// Removes a schedule.
    RemoveSchedule {
        /// The group.
        group: GroupId,
        /// The schedule.
        schedule: ScheduleId,
    },
    /// Enables or disables a schedule.
    EnableSchedule {
        /// The group.
        group: GroupId,
        /// The schedule.
        schedule: ScheduleId,
        /// Whether it runs from now on.
        enabled: bool,
    },
    /// Discards what was changed over MQTT, of one group or of all: the settings apply again.
    ResetSchedules(Option<GroupId>),
    /// The same for one schedule.
    ResetSchedule {
        /// The group.
        group: GroupId,
        /// The schedule.
        schedule: ScheduleId,
    },
    /// The overrides in force.
    Overrides,
    /// Ends overrides: of one outlet, one group, or all.
    ClearOverrides(Option<Target>),
    /// Turns vacation on or off; `None` reads it.
    Vacation(Option<bool>),
    /// The coming switch times, of one group or of all.
    Plan {
        /// The group.
        group: Option<GroupId>,
        /// How many days: 1 to 31.
        days: u8,
        /// Which page of the answer, from 1.
        page: u32,
        /// What is computed as if the group had it.
        draft: Option<ScheduleProposal>,
    },
}

/// A change of a schedule that is not made.
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleProposal {
    /// As [`Request::SetSchedule`] would make it.
    Set(Value),
    /// As [`Request::RemoveSchedule`] would.
    Removed(ScheduleId),
}

/// Why a request fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No such group is configured.
    #[error("no group {0} is configured")]
    UnknownGroup(GroupId),
    /// The group has no such schedule.
    #[error("group {group} has no schedule {schedule}")]
    UnknownSchedule {
        /// The group.
        group: GroupId,
        /// The schedule that the request names.
        schedule: ScheduleId,
    },
    /// No such device is configured.
    #[error("no device {0} is configured")]
    UnknownDevice(DeviceId),
    /// No device and no outlet has this name.
    #[error("no device or outlet is called {0}")]
    UnknownName(String),
    /// The value is not a valid schedule; every problem is named with its path.
    #[error("{0}")]
    Invalid(String),
    /// More changed schedules than one group may have.
    #[error("group {group} has {most} changed schedules already; remove some of them first")]
    TooMany {
        /// The group.
        group: GroupId,
        /// How many it may have.
        most: usize,
    },
    /// The settings have problems; all of them.
    #[error("{0}")]
    InvalidSettings(String),
    /// The state file cannot be read.
    #[error("{0}")]
    State(String),
    /// The file for maintainers cannot be made.
    #[error("{0}")]
    Diagnostics(String),
    /// No device accepted the account.
    #[error("{0}")]
    Account(String),
    /// The function is disabled.
    #[error("{0}")]
    Disabled(&'static str),
    /// Too many requests are in progress.
    #[error("too many requests at once; send it again")]
    Busy,
    /// The bridge is stopping.
    #[error("the bridge is shutting down")]
    ShuttingDown,
}

impl RequestError {
    /// The stable code in a response.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownGroup(_) => "unknown_group",
            Self::UnknownSchedule { .. } => "unknown_schedule",
            Self::UnknownDevice(_) => "unknown_device",
            Self::UnknownName(_) => "unknown_name",
            Self::Invalid(_) => "invalid_value",
            Self::TooMany { .. } => "too_many",
            Self::InvalidSettings(_) => "invalid_settings",
            Self::State(_) => "state_unreadable",
            Self::Diagnostics(_) => "diagnostics_failed",
            Self::Account(_) => "account_refused",
            Self::Disabled(_) => "disabled",
            Self::Busy => "busy",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

/// What the scheduler sends to the event loop.
#[derive(Debug)]
pub enum SchedulerUpdate {
    /// The rules in force. The first update, and again when they change.
    Rules(Arc<Rules>),
    /// What is wrong with the members of groups that their devices do not have, by device. On change only.
    Missing(BTreeMap<DeviceId, String>),
    /// The status of an outlet of a group, or with a timer or a countdown. On change only.
    Outlet(OutletPath, Arc<OutletStatus>),
    /// The status of a group. On change only.
    Group(GroupId, Arc<GroupStatus>),
    /// The sensors with their values. On change only.
    Sensors(Arc<[SensorStatus]>),
    /// What counts of the forecast now. On change only, and never without `[weather]`.
    Weather(Arc<WeatherStatus>),
    /// Whether vacation is on. The second update, and on change.
    Vacation(Vacation),
    /// Something happened.
    Event(Event),
}

/// What an outlet should be, and why: part of its state JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutletStatus {
    /// What it should be; `null`: not controlled.
    pub expected: Option<Power>,
    /// What decided.
    pub source: Source,
    /// The schedule or the limit that decided.
    pub rule: Option<String>,
    /// As text, at most 250 characters.
    pub reason: Option<Reason>,
    /// Everything that says what it should be, the strongest first; empty while it is switched by hand.
    pub why: Vec<Layer>,
    /// Since when it is so.
    pub since: Option<Timestamp>,
    /// When it changes if nothing else happens.
    pub next_change: Option<Timestamp>,
    /// To what it changes then.
    pub next_state: Option<Power>,
    /// When its limits switch it off at the latest.
    pub limit_at: Option<Timestamp>,
    /// When the override ends.
    pub override_until: Option<Timestamp>,
    /// Until when a limit keeps it off.
    pub cooldown_until: Option<Timestamp>,
    /// How long the timer that switches it off was set to, in seconds; 0 while none runs.
    pub countdown: u32,
    /// When its timer switches it.
    pub timer_until: Option<Timestamp>,
    /// To what its timer switches it.
    pub timer_to: Option<Power>,
    /// When an external countdown on the outlet switches it, started in the app for example.
    pub device_timer_until: Option<Timestamp>,
    /// To what that countdown switches it.
    pub device_timer_to: Option<Power>,
    /// Whether it has not been what it should be for a minute.
    pub mismatch: Option<bool>,
    /// Whether the plug switches itself off without us.
    pub failsafe: Option<FailSafeState>,
    /// The ids of the schedule rules on the outlet that are ours. They are published with the rules.
    #[serde(skip)]
    pub off_rules: BTreeSet<String>,
}

impl OutletStatus {
    /// An outlet that is in no group: switched by hand.
    pub const MANUAL: Self = Self {
        expected: None,
        source: Source::Manual,
        rule: None,
        reason: None,
        why: Vec::new(),
        since: None,
        next_change: None,
        next_state: None,
        limit_at: None,
        override_until: None,
        cooldown_until: None,
        countdown: 0,
        timer_until: None,
        timer_to: None,
        device_timer_until: None,
        device_timer_to: None,
        mismatch: None,
        failsafe: None,
        off_rules: BTreeSet::new(),
    };
}

/// Whether a plug that may not run for ever switches itself off without the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailSafeState {
    /// It is off, or runs without a limit.
    Idle,
    /// Its countdown runs.
    Armed,
    /// It has no countdown: only the bridge switches it off.
    Unsupported,
    /// Its countdown is in use externally.
    External,
    /// It refused.
    Failed,
}

/// What a group is and should be: its state JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// ON when a member is; OFF when all are; `null` when that is not known.
    pub state: Option<Power>,
    /// Whether it follows its schedules.
    pub mode: Mode,
    /// What all members should be; `null` when they differ or are not controlled.
    pub expected: Option<Power>,
    /// What decided.
    pub source: Source,
    /// The schedule or the limit that decided.
    pub rule: Option<String>,
    /// As text.
    pub reason: Reason,
    /// Everything that says what it should be, the strongest first, of the member with the strongest source.
    pub why: Vec<Layer>,
    /// When it changes if nothing else happens.
    pub next_change: Option<Timestamp>,
    /// To what it changes then.
    pub next_state: Option<Power>,
    /// When the first override of a member ends.
    pub override_until: Option<Timestamp>,
    /// When the last member has cooled down.
    pub cooldown_until: Option<Timestamp>,
    /// Whether a limit keeps a member off.
    pub safety: SafetyState,
    /// What it draws and used, where rules limit that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy: Option<EnergyStatus>,
    /// Whether each schedule is enabled.
    pub schedules: BTreeMap<ScheduleId, bool>,
    /// What its thermostat holds and does, if it has one.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub thermostat: Option<HeatingStatus>,
}

/// What a group draws and used. Rounded, so that it is not published again for each reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnergyStatus {
    /// Drawn now by all members together, in W; `null` before the first reading.
    #[serde(serialize_with = "watts")]
    pub power: Option<MilliWatts>,
    /// Used today by all members together, in kWh; `null` until each of them was read once.
    #[serde(serialize_with = "kilowatt_hours")]
    pub today: Option<MilliWattHours>,
    /// What they may use in a day, in kWh.
    #[serde(serialize_with = "kilowatt_hours")]
    pub daily_budget: Option<MilliWattHours>,
    /// What is left of it today, in kWh.
    #[serde(serialize_with = "kilowatt_hours")]
    pub daily_budget_remaining: Option<MilliWattHours>,
    /// What they may draw, in W.
    #[serde(serialize_with = "watts")]
    pub power_limit: Option<MilliWatts>,
    /// The members that it keeps off.
    pub shed: Vec<OutletPath>,
}

impl EnergyStatus {
    /// The readings of the meters of a group, with the limits of its rules.
    pub fn new(rules: &EnergyRules, usage: Usage, shed: Vec<OutletPath>) -> Self {
        let today = usage.today.map(MilliWattHours::in_tens);
        Self {
            power: usage.power.map(MilliWatts::whole),
            today,
            daily_budget: rules.daily_budget,
            daily_budget_remaining: rules
                .daily_budget
                .zip(today)
                .map(|(budget, today)| budget.less(today)),
            power_limit: rules.power_limit.map(|limit| limit.max),
            shed,
        }
    }

    /// Before anything is known.
    pub fn unknown(rules: &EnergyRules) -> Self {
        Self {
            power: None,
            today: None,
            daily_budget: rules.daily_budget,
            daily_budget_remaining: None,
            power_limit: rules.power_limit.map(|limit| limit.max),
            shed: Vec::new(),
        }
    }
}

#[allow(clippy::ref_option)] // As serde calls it.
fn watts<S: Serializer>(power: &Option<MilliWatts>, serializer: S) -> Result<S::Ok, S::Error> {
    power.map(MilliWatts::watts).serialize(serializer)
}

#[allow(clippy::ref_option)]
fn kilowatt_hours<S: Serializer>(energy: &Option<MilliWattHours>, serializer: S) -> Result<S::Ok, S::Error> {
    energy.map(MilliWattHours::kilowatt_hours).serialize(serializer)
}
