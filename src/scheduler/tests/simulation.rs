//! A simulation of the other side of the scheduler's channels: outlets with relays, latency, outages, buttons and
//! countdowns, a device owner that queues as the real one does, and a client that sends commands.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        PersistedScheduler,
        task::{Parts, SchedulerTask},
        timers::Timer,
    },
    room::Room,
};
use crate::{
    domain::{
        command::{Action, Command, Target},
        command_error::{CommandError, ErrorCode},
        device_command::{DeviceAction, DeviceCommand, Source, Switch},
        devices::{DeviceEvent, DeviceMsg, DeviceTarget},
        off_rules::{OffRulesStatus, WantedOffRules, has_fired},
        reply::{Applied, CommandOutcome, CommandResult, Reply},
        report::{
            Availability, ChangedBy, Condition, Countdown, DeviceReport, DeviceRules, Energy, EventKind,
            Identity, Kind, Metered, Outlet, Phase,
        },
        request_reply::{RequestReply, RequestResult},
        scheduling::{
            self, ConfiguredDevice, GroupStatus, OutletNames, OutletStatus, ReloadedRules, Request,
            SchedulerMsg, SchedulerUpdate,
        },
        weather_status::WeatherStatus,
    },
    store::Section,
    system::{clock::Clock, tasks::Tasks},
};
use planner::{
    DeviceId, OutletPath, Power, Steady,
    holidays::HolidayDates,
    overrides::{Lifetime, Override},
    period::after,
    rules::Rules,
    safety::RunTime,
    units::{MilliWattHours, MilliWatts},
    weather::{Weather, WeatherHour},
};

/// Devices that are configured in each simulation, in a group or not.
const EXTRA: [&str; 2] = ["lamp", "spare"];
/// Between two polls of a worker.
pub(super) const POLL: Duration = Duration::from_secs(5);
/// Between two readings of a meter.
pub(super) const READING: Duration = Duration::from_secs(30);
/// How the id begins of a device that no settings have: it has no worker.
const UNCONFIGURED: &str = "unconfigured-";
/// After a relay changed, until its meter is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Whether a device counts down by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceCountdown {
    Unsupported,
    Idle,
    Until(Instant),
}

/// The meter of an outlet.
#[derive(Debug)]
pub(super) struct Gauge {
    /// What its load draws while it is on, in W.
    pub(super) watts: u64,
    /// Whether it answers.
    pub(super) silent: bool,
    /// mJ.
    used: u64,
    /// mJ since midnight in UTC.
    today: u64,
    counted: (Instant, Timestamp),
    due: Instant,
}

impl Gauge {
    fn count(&mut self, power: Power, clock: &Clock) {
        let now = (Instant::now(), clock.now());
        let millis = now.0.duration_since(self.counted.0).as_millis();
        let drawn = if power.is_on() {
            u64::try_from(millis).unwrap() * self.watts
        } else {
            0
        };
        let day = |at: Timestamp| at.as_second().div_euclid(86_400);
        if day(now.1) > day(self.counted.1) {
            self.today = 0;
        }
        self.used += drawn;
        self.today += drawn;
        self.counted = now;
    }
}

/// The last report of an outlet to the bridge.
#[derive(Debug)]
enum LastReport {
    Nothing,
    /// It is out of reach.
    Away,
    State(Box<Outlet>),
}

/// What switched a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SwitchedBy {
    /// A command of the bridge.
    Bridge,
    /// The countdown that the bridge armed.
    OurCountdown,
    /// A countdown that the app started.
    OtherCountdown,
    Button,
}

/// A relay opened or closed.
#[derive(Debug, Clone)]
pub(super) struct Flip {
    pub(super) at: Steady,
    pub(super) place: Place,
    pub(super) power: Power,
    pub(super) by: SwitchedBy,
}

/// Where a relay is: the hardware id of its device, and its position.
pub(super) type Place = (String, u8);

/// A configured device: its id, its hardware id, and the names of its outlets with their positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) id: String,
    pub(super) hardware: String,
    pub(super) names: Vec<(String, u8)>,
}

impl Device {
    pub(super) fn new(id: &str, hardware: &str, names: &[(&str, u8)]) -> Self {
        Self {
            id: id.to_owned(),
            hardware: hardware.to_owned(),
            names: names.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect(),
        }
    }

    fn names(&self) -> OutletNames {
        let names = self.names.iter();
        names.map(|(name, at)| (name.parse().unwrap(), *at)).collect()
    }

    /// What an outlet of it is called.
    pub(super) fn path(&self, position: Option<u8>) -> OutletPath {
        let device = self.id.parse().unwrap();
        let Some(position) = position else {
            return OutletPath::device(device);
        };
        let name = self.names.iter().find(|(_, at)| *at == position);
        let key = name.map_or_else(|| position.to_string(), |(name, _)| name.clone());
        OutletPath::outlet(device, key.parse().unwrap())
    }
}

/// The hardware id that a device of a simulation has.
pub(super) fn hardware(id: &str) -> String {
    format!("8022{}", id.to_uppercase())
}

fn configured(id: &DeviceId, address: &str, outlets: OutletNames) -> (DeviceId, ConfiguredDevice) {
    let target = target(address);
    (id.clone(), ConfiguredDevice { target, outlets })
}

/// In a simulation, the address of a device is the hardware id that it had there first.
fn target(address: &str) -> DeviceTarget {
    DeviceTarget {
        address: address.to_owned(),
        mac: None,
    }
}

fn unconfigured(hardware: &str) -> String {
    format!("{UNCONFIGURED}{}", hardware.to_lowercase())
}

/// An on-time that is not the real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnTime {
    /// Always 0.
    Stuck,
    /// It counts from here.
    Since(Instant),
    /// It starts over after so many seconds.
    Wraps(u64),
}

#[derive(Debug)]
pub(super) struct Relay {
    pub(super) on_since: Option<Instant>,
    pub(super) online: bool,
    pub(super) countdown: DeviceCountdown,
    /// The countdown that the worker armed; another one is external.
    armed_countdown: Option<DeviceCountdown>,
    /// When it must be off, as the scheduler sent it.
    off_by: Option<Steady>,
    /// Where it is, whatever it is called.
    pub(super) place: Place,
    /// The on-time that its device shows, if it is not the real one.
    pub(super) shown: Option<OnTime>,
    /// What made its last change.
    changed_by: ChangedBy,
    pub(super) latency: Duration,
    /// Answers that it did not, whatever it is asked.
    pub(super) stubborn: bool,
    /// What it holds and follows by itself.
    pub(super) rules: DeviceRules,
    pub(super) gauge: Option<Gauge>,
    last_report: LastReport,
    /// Since when the bridge can reach it, if it can.
    able_since: Option<Instant>,
    /// Whether a command of the bridge switched it on.
    switched_on_by_bridge: bool,
    /// The run, by its start, that the bridge knew long enough to arm the countdown.
    armed: Option<Instant>,
}

impl Relay {
    fn new(path: &OutletPath, countdown: DeviceCountdown) -> Self {
        let position = path.outlet.as_ref().and_then(|key| key.as_str().parse().ok());
        Self {
            place: (hardware(path.device.as_str()), position.unwrap_or(1)),
            shown: None,
            on_since: None,
            online: true,
            countdown,
            armed_countdown: None,
            off_by: None,
            changed_by: ChangedBy::Unknown,
            latency: Duration::from_millis(50),
            stubborn: false,
            rules: DeviceRules::default(),
            gauge: None,
            last_report: LastReport::Nothing,
            able_since: Some(Instant::now()),
            switched_on_by_bridge: false,
            armed: None,
        }
    }

    /// By then a worker has read it, and the bridge has answered.
    const NOTICED: Duration = Duration::from_secs(POLL.as_secs() + 2);

    /// What the bridge can do changes.
    fn reach(&mut self, able: bool, now: Instant) {
        let known = |since: Instant| since + Self::NOTICED <= now;
        match (self.able_since, able) {
            (None, true) => self.able_since = Some(now),
            (Some(since), false) => {
                self.able_since = None;
                self.armed = self.on_since.filter(|started| known(*started) && known(since));
            }
            _ => {}
        }
    }

    /// When it has to be off at the latest. Its run is counted in whole seconds of its own, so to 1 s; 1 s more is
    /// allowed, and the latency. Out of reach it can be switched only once it is back and was read, unless its own
    /// countdown was armed before: that is so one poll after it went on.
    fn latest(&self, max_on: Duration) -> Option<Instant> {
        let slack = Duration::from_millis(2100);
        let started = self.on_since?;
        let due = started + max_on;
        if self.countdown != DeviceCountdown::Unsupported && self.armed == Some(started) {
            return Some(due + slack);
        }
        let back = self.able_since? + Self::NOTICED;
        Some(due.max(back) + slack)
    }

    pub(super) fn power(&self) -> Power {
        Power::from(self.on_since.is_some())
    }

    /// How long its device says that it is on, in s.
    fn on_time(&self, since: Instant) -> i64 {
        let seconds = match self.shown {
            None => since.elapsed().as_secs(),
            Some(OnTime::Stuck) => 0,
            Some(OnTime::Since(restart)) => restart.max(since).elapsed().as_secs(),
            Some(OnTime::Wraps(after)) => since.elapsed().as_secs() % after,
        };
        i64::try_from(seconds).unwrap()
    }

    /// The worker makes the countdown of the device follow.
    fn arm(&mut self, clock: &Clock) {
        let ours = self.countdown == DeviceCountdown::Idle || self.armed_countdown == Some(self.countdown);
        if self.countdown == DeviceCountdown::Unsupported || !ours {
            return;
        }
        let wanted = self.off_by.filter(|_| self.on_since.is_some());
        self.countdown = match wanted {
            None => DeviceCountdown::Idle,
            Some(end) => {
                let left = clock.steady().until(end);
                let whole = Duration::from_secs(left.as_millis().div_ceil(1000).clamp(1, 86_400) as u64);
                match self.countdown {
                    // Close enough.
                    DeviceCountdown::Until(armed)
                        if (Instant::now() + whole)
                            .max(armed)
                            .duration_since((Instant::now() + whole).min(armed))
                            <= Duration::from_secs(2) =>
                    {
                        self.countdown
                    }
                    _ => DeviceCountdown::Until(Instant::now() + whole),
                }
            }
        };
        self.armed_countdown = Some(self.countdown).filter(|countdown| *countdown != DeviceCountdown::Idle);
    }

    /// Its clock is fast: the countdown that the worker armed ends then.
    pub(super) fn runs_fast(&mut self, end: Instant) {
        self.countdown = DeviceCountdown::Until(end);
        self.armed_countdown = Some(self.countdown);
    }

    /// Its countdown ends. Returns the change of the relay, if it was on.
    fn end_countdown(&mut self, at: Steady) -> Option<Flip> {
        let ours = self.armed_countdown == Some(self.countdown);
        let flip = self.on_since.map(|_| Flip {
            at,
            place: self.place.clone(),
            power: Power::Off,
            by: counted(ours),
        });
        self.countdown = DeviceCountdown::Idle;
        self.armed_countdown = None;
        let by = if ours {
            ChangedBy::Countdown
        } else {
            ChangedBy::External
        };
        self.flip(Power::Off, by);
        flip
    }

    fn flip(&mut self, power: Power, by: ChangedBy) {
        if self.power() != power {
            self.changed_by = by;
        }
        match power {
            Power::On => {
                self.on_since.get_or_insert_with(Instant::now);
            }
            Power::Off => {
                self.on_since = None;
                self.switched_on_by_bridge = false;
            }
        }
    }

    /// Whether its state, or that it is out of reach, was reported to the bridge.
    fn is_reported(&self) -> bool {
        !matches!(self.last_report, LastReport::Nothing)
    }

    fn reported(&self) -> Option<&Outlet> {
        match &self.last_report {
            LastReport::State(outlet) => Some(outlet),
            LastReport::Nothing | LastReport::Away => None,
        }
    }

    /// Whether the bridge has to know that it is on.
    fn known_on(&self, now: Instant) -> bool {
        let noticed = |since: Option<Instant>| since.is_some_and(|since| since + Self::NOTICED <= now);
        self.switched_on_by_bridge || (self.online && noticed(self.on_since) && noticed(self.able_since))
    }
}

struct Waiting {
    ready: Instant,
    intent: DeviceCommand,
    /// Whether it waited for a device out of reach.
    waited: bool,
}

/// The running scheduler.
struct Bridge {
    persisted: Section<PersistedScheduler>,
    device_messages: mpsc::Receiver<DeviceMsg>,
    events: mpsc::Sender<DeviceEvent>,
    messages: mpsc::Sender<SchedulerMsg>,
    updates: mpsc::Receiver<SchedulerUpdate>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[allow(clippy::struct_excessive_bools)] // Independent switches of tests.
pub(super) struct Simulation {
    pub(super) clock: Clock,
    rules: Arc<Rules>,
    devices: BTreeMap<DeviceId, ConfiguredDevice>,
    pub(super) relays: BTreeMap<OutletPath, Relay>,
    bridge: Bridge,
    tasks: Tasks,
    waiting: Vec<Waiting>,
    next_poll: Instant,
    /// Whether the polls to come would show what the last one did.
    still: bool,
    next_ticket: u64,
    /// The place of the last command among all that devices got; one that is sent again after a look keeps its own.
    last_turn: u64,
    answers: mpsc::UnboundedSender<(u64, CommandOutcome)>,
    answered: mpsc::UnboundedReceiver<(u64, CommandOutcome)>,
    pub(super) outcomes: BTreeMap<u64, CommandResult>,
    /// What replies contain beside the result.
    pub(super) notes: BTreeMap<u64, String>,
    pub(super) events: Vec<(EventKind, String)>,
    /// An outlet that its strip leaves out of its list.
    pub(super) left_out: Option<OutletPath>,
    /// Plugs cannot be written to: the rules they hold stay.
    pub(super) rules_are_stuck: bool,
    /// What was asked for as rules on plugs.
    pub(super) off_rules: Vec<WantedOffRules>,
    pub(super) outlets: BTreeMap<OutletPath, Arc<OutletStatus>>,
    pub(super) groups: BTreeMap<String, Arc<GroupStatus>>,
    pub(super) rules_sent: Vec<Arc<Rules>>,
    /// What was published of the forecast.
    pub(super) weather: Option<Arc<WeatherStatus>>,
    pub(super) missing: BTreeMap<DeviceId, String>,
    /// How often the status of a group was published.
    pub(super) group_updates: usize,
    /// How often a worker was sent an end without a switch.
    pub(super) ends_sent: usize,
    results: (
        mpsc::UnboundedSender<RequestResult>,
        mpsc::UnboundedReceiver<RequestResult>,
    ),
    /// Each time a relay was switched by a command: when, which, to what.
    pub(super) switched: Vec<(Timestamp, OutletPath, Power)>,
    /// When a ceiling switched an outlet off.
    pub(super) shed: Vec<(Timestamp, String)>,
    /// The ceiling in W that is watched, and since when nothing changed but more is drawn.
    pub(super) ceiling: Option<u64>,
    over_since: Option<Instant>,
    /// The budget in Wh that is watched.
    pub(super) budget: Option<u64>,
    /// The limit that is watched.
    pub(super) max_on: Option<Duration>,
    /// Whether it is watched that the bridge turns on one outlet at a time.
    pub(super) one_on: bool,
    /// What was broken of that.
    pub(super) violations: Vec<String>,
    /// Each change of a relay, whatever made it.
    pub(super) flips: Vec<Flip>,
    /// Each answer to a command, in the order of arrival.
    pub(super) answer_times: Vec<(u64, Instant)>,
    /// A planted fault: what schedules switch on is carried out later by this.
    pub(super) late_schedules: Duration,
    /// A planted fault: an ON that waited for its device is not decided again.
    pub(super) without_recheck: bool,
    /// The room that the outlets heat.
    pub(super) room: Option<Room>,
    /// The lease that is watched: how long an outlet may be on after a value of the thermometer.
    pub(super) lease: Option<Duration>,
    /// A planted fault: devices do not count down, whatever they are sent.
    pub(super) without_countdowns: bool,
}

fn start(
    rules: &Arc<Rules>,
    devices: &BTreeMap<DeviceId, ConfiguredDevice>,
    kept: PersistedScheduler,
    clock: &Clock,
    tasks: &Tasks,
) -> Bridge {
    let persisted = Section::default();
    persisted.set(kept);
    let (device_owner, device_messages) = mpsc::channel(256);
    let (events, events_in) = mpsc::channel(256);
    let (handle, inbox) = scheduling::channels();
    let scheduler = SchedulerTask::new(Parts {
        rules: rules.clone(),
        devices: devices.clone(),
        persisted: persisted.clone(),
        inbox,
        events: events_in,
        device_owner,
        clock: clock.clone(),
        tasks: tasks.clone(),
    });
    let stop = CancellationToken::new();
    let task = tasks.spawn("scheduler", scheduler.run(stop.clone()));
    Bridge {
        persisted,
        device_messages,
        events,
        messages: handle.messages,
        updates: handle.updates,
        stop,
        task,
    }
}

/// What the state file has, by name.
#[derive(Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) overrides: Vec<(OutletPath, Override)>,
    pub(super) timers: BTreeMap<OutletPath, Timer>,
    pub(super) runs: BTreeMap<OutletPath, RunTime>,
    pub(super) off_rules: Vec<OutletPath>,
    pub(super) saved: PersistedScheduler,
}

impl Simulation {
    /// A simulation at an instant, all outlets off and reachable, plugs with a countdown.
    pub(super) fn new(rules: Rules, now: Timestamp) -> Self {
        let paths = rules.groups.iter().flat_map(|group| group.outlets.clone());
        let paths: Vec<OutletPath> = paths.collect();
        Self::of(rules, now, &paths)
    }

    /// A simulation with these relays, whatever the rules have.
    pub(super) fn of(rules: Rules, now: Timestamp, paths: &[OutletPath]) -> Self {
        let clock = Clock::steered(now);
        let rules = Arc::new(rules);
        let tasks = Tasks::default();
        let members = rules.groups.iter().flat_map(|group| &group.outlets);
        let devices: BTreeMap<DeviceId, ConfiguredDevice> = members
            .chain(paths)
            .map(|path| path.device.clone())
            .chain(EXTRA.map(|id| id.parse().unwrap()))
            .map(|device| configured(&device, &hardware(device.as_str()), OutletNames::new()))
            .collect();
        let bridge = start(&rules, &devices, PersistedScheduler::default(), &clock, &tasks);
        let relay = |path: &OutletPath| {
            let countdown = if path.outlet.is_some() {
                DeviceCountdown::Unsupported
            } else {
                DeviceCountdown::Idle
            };
            Relay::new(path, countdown)
        };
        let (answers, answered) = mpsc::unbounded_channel();
        Self {
            clock,
            relays: paths.iter().map(|path| (path.clone(), relay(path))).collect(),
            rules,
            devices,
            bridge,
            tasks,
            waiting: Vec::new(),
            next_poll: Instant::now(),
            still: false,
            next_ticket: 0,
            last_turn: 0,
            answers,
            answered,
            outcomes: BTreeMap::new(),
            notes: BTreeMap::new(),
            events: Vec::new(),
            left_out: None,
            rules_are_stuck: false,
            off_rules: Vec::new(),
            outlets: BTreeMap::new(),
            groups: BTreeMap::new(),
            rules_sent: Vec::new(),
            weather: None,
            missing: BTreeMap::new(),
            group_updates: 0,
            ends_sent: 0,
            results: mpsc::unbounded_channel(),
            switched: Vec::new(),
            shed: Vec::new(),
            ceiling: None,
            over_since: None,
            budget: None,
            max_on: None,
            one_on: false,
            violations: Vec::new(),
            flips: Vec::new(),
            answer_times: Vec::new(),
            late_schedules: Duration::ZERO,
            without_recheck: false,
            room: None,
            lease: None,
            without_countdowns: false,
        }
    }

    /// One more outlet, in no group.
    pub(super) fn add(&mut self, path: &str, countdown: DeviceCountdown) {
        let path: OutletPath = path.parse().unwrap();
        let relay = Relay::new(&path, countdown);
        self.relays.insert(path, relay);
    }

    pub(super) fn relay(&mut self, path: &str) -> &mut Relay {
        self.relays.get_mut(&path.parse::<OutletPath>().unwrap()).unwrap()
    }

    pub(super) fn power(&self, path: &str) -> Power {
        self.relays[&path.parse::<OutletPath>().unwrap()].power()
    }

    pub(super) fn kept(&self) -> Kept {
        let saved = self.bridge.persisted.get();
        let relays = || {
            saved
                .relays
                .values()
                .filter_map(|relay| Some((relay.name.clone()?, relay)))
        };
        Kept {
            overrides: relays()
                .filter_map(|(path, relay)| Some((path, relay.overridden?)))
                .collect(),
            timers: relays()
                .filter_map(|(path, relay)| Some((path, relay.timer?)))
                .collect(),
            runs: relays()
                .filter(|(_, relay)| relay.run != RunTime::default())
                .map(|(path, relay)| (path, relay.run))
                .collect(),
            off_rules: relays()
                .filter(|(_, relay)| !relay.off_rules.is_empty())
                .map(|(path, _)| path)
                .collect(),
            saved,
        }
    }

    /// From now on the disk does not write, or has written everything.
    pub(super) fn disk_writes(&self, writes: bool) {
        self.bridge.persisted.set_written(writes);
    }

    /// The state file is edited.
    pub(super) fn keep(&self, kept: PersistedScheduler) {
        self.bridge.persisted.set(kept);
    }

    pub(super) fn standing(&self, path: &str) -> &OutletStatus {
        &self.outlets[&path.parse::<OutletPath>().unwrap()]
    }

    pub(super) fn group(&self) -> &GroupStatus {
        &self.groups["driveway"]
    }

    pub(super) fn count(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|(found, _)| *found == kind).count()
    }

    /// A meter for an outlet, and what its load draws from now on, in W.
    pub(super) fn draw(&mut self, path: &str, watts: u64) {
        let clock = self.clock.clone();
        self.over_since = None;
        let relay = self.relay(path);
        let power = relay.power();
        let now = Instant::now();
        let gauge = relay.gauge.get_or_insert(Gauge {
            watts,
            silent: false,
            used: 0,
            today: 0,
            counted: (now, clock.now()),
            due: now,
        });
        gauge.count(power, &clock);
        gauge.watts = watts;
    }

    /// Used since midnight by all outlets together, in Wh.
    pub(super) fn used_today(&self) -> u64 {
        let gauges = self.relays.values().filter_map(|relay| relay.gauge.as_ref());
        gauges.map(|gauge| gauge.today).sum::<u64>() / 3_600_000
    }

    /// Meters whose turn it is are read.
    async fn read_meters(&mut self, listening: bool) {
        let (now, clock) = (Instant::now(), self.clock.clone());
        let mut readings = Vec::new();
        for (path, relay) in &mut self.relays {
            let power = relay.power();
            let Some(gauge) = &mut relay.gauge else { continue };
            gauge.count(power, &clock);
            if gauge.due > now {
                continue;
            }
            gauge.due = now + READING;
            if !listening || !relay.online {
                continue;
            }
            let watts = if power.is_on() { gauge.watts } else { 0 };
            readings.push(Metered {
                device: path.device.clone(),
                outlet: path.outlet.clone(),
                power: (!gauge.silent).then_some(MilliWatts::from_watts(watts)),
                total: (!gauge.silent).then_some(MilliWattHours::new(gauge.used / 3600)),
            });
        }
        for reading in readings {
            self.bridge
                .events
                .send(DeviceEvent::Metered(reading))
                .await
                .unwrap();
        }
    }

    /// Notes a ceiling or a budget that does not hold. After a change, each meter is read once; what is out of reach
    /// cannot be switched off.
    fn watch_energy(&mut self, now: Instant, listening: bool) {
        if !listening || self.relays.values().any(|relay| !relay.online) {
            self.over_since = None;
            return;
        }
        let gauges = || {
            self.relays
                .values()
                .filter(|relay| relay.power().is_on())
                .filter_map(|relay| relay.gauge.as_ref())
        };
        let drawn: u64 = gauges().map(|gauge| gauge.watts).sum();
        if self.ceiling.is_some_and(|ceiling| drawn > ceiling) {
            let since = *self.over_since.get_or_insert(now);
            if now > since + READING + POLL + SETTLE {
                self.violations.push(format!(
                    "{drawn} W since {:?} at {}",
                    since.elapsed(),
                    self.clock.now()
                ));
            }
        } else {
            self.over_since = None;
        }
        let all: u64 = self
            .relays
            .values()
            .filter_map(|relay| Some(relay.gauge.as_ref()?.watts))
            .max()
            .unwrap_or(0);
        let worth =
            all * u64::try_from(self.relays.len()).unwrap() * (READING + POLL + SETTLE).as_secs() / 3600;
        let used = self.used_today();
        if self.budget.is_some_and(|budget| used > budget + worth + 1) {
            self.violations.push(format!("{used} Wh at {}", self.clock.now()));
        }
    }

    /// The button is pressed. The worker sees it with its next poll.
    pub(super) fn press(&mut self, path: &str) {
        let clock = self.clock.clone();
        self.over_since = None;
        let relay = self.relay(path);
        let power = relay.power();
        let flip = Flip {
            at: clock.steady(),
            place: relay.place.clone(),
            power: power.toggled(),
            by: SwitchedBy::Button,
        };
        if let Some(gauge) = &mut relay.gauge {
            gauge.count(power, &clock);
        }
        let off_rule = relay
            .rules
            .off_rules
            .as_ref()
            .is_some_and(|synced| has_fired(&synced.ours, &TimeZone::UTC, clock.now()));
        let by = if off_rule && power == Power::On {
            ChangedBy::OffRule
        } else {
            ChangedBy::External
        };
        relay.flip(power.toggled(), by);
        self.flips.push(flip);
    }

    /// The machine is suspended. Unlike [`Clock::suspend`] alone, devices live on: relays run, countdowns end.
    pub(super) fn suspend(&mut self, length: Duration) {
        let (now, steady) = (Instant::now(), self.clock.steady());
        for relay in self.relays.values_mut() {
            let ours = relay.armed_countdown == Some(relay.countdown);
            match relay.countdown {
                DeviceCountdown::Until(end) if end <= now + length => {
                    let ahead = SignedDuration::try_from(end.saturating_duration_since(now)).unwrap();
                    self.flips.extend(relay.end_countdown(steady.after(ahead)));
                }
                DeviceCountdown::Until(end) => {
                    relay.countdown = DeviceCountdown::Until(end - length);
                    relay.armed_countdown = ours.then_some(relay.countdown);
                }
                DeviceCountdown::Unsupported | DeviceCountdown::Idle => {}
            }
            relay.on_since = relay.on_since.map(|since| since - length);
        }
        self.clock.suspend(SignedDuration::try_from(length).unwrap());
    }

    pub(super) async fn publish(&mut self, topic: &str, payload: &str) {
        self.send_value(topic, payload, false).await;
    }

    /// The broker has this value of earlier.
    pub(super) async fn retain(&mut self, topic: &str, payload: &str) {
        self.send_value(topic, payload, true).await;
    }

    async fn send_value(&mut self, topic: &str, payload: &str, retained: bool) {
        let message = SchedulerMsg::Sensor {
            topic: topic.to_owned(),
            payload: payload.to_owned().into(),
            retained,
        };
        self.bridge.messages.send(message).await.unwrap();
        self.settle().await;
    }

    /// The calendar is read again.
    pub(super) async fn read_calendar(&mut self, dates: HolidayDates) {
        let message = SchedulerMsg::Holidays(Arc::new(dates));
        self.bridge.messages.send(message).await.unwrap();
        self.settle().await;
    }

    /// A provider answers now with a forecast that it made before.
    pub(super) async fn forecast(&mut self, age: SignedDuration, hours: BTreeMap<Timestamp, WeatherHour>) {
        let now = self.clock.read();
        let weather = Weather::new(now.wall - age, now, hours);
        let message = SchedulerMsg::Weather(Arc::new(weather));
        self.bridge.messages.send(message).await.unwrap();
        self.settle().await;
    }

    /// The settings are read again.
    pub(super) async fn reload(&mut self, rules: Rules, devices: &[&str]) {
        self.rules = Arc::new(rules);
        self.devices = devices
            .iter()
            .map(|id| {
                let id: DeviceId = id.parse().unwrap();
                let known = self.devices.get(&id).map(|device| device.target.address.clone());
                let address = known.unwrap_or_else(|| hardware(id.as_str()));
                configured(&id, &address, OutletNames::new())
            })
            .collect();
        self.send_settings().await;
        self.settle().await;
    }

    async fn send_settings(&mut self) {
        let message = SchedulerMsg::Reload(ReloadedRules {
            rules: self.rules.clone(),
            devices: self.devices.clone(),
        });
        self.bridge.messages.send(message).await.unwrap();
    }

    /// The settings are read again, and call relays by other names.
    pub(super) async fn reload_as(&mut self, rules: Rules, devices: &[Device]) {
        self.configure(rules, devices);
        self.send_settings().await;
        self.settle().await;
    }

    /// The same, and workers report under the names before, after the scheduler has the new settings.
    pub(super) async fn reload_before_workers(&mut self, rules: Rules, devices: &[Device]) {
        let message = SchedulerMsg::Reload(ReloadedRules {
            rules: Arc::new(rules.clone()),
            devices: self.configured(devices),
        });
        self.bridge.messages.send(message).await.unwrap();
        self.settle().await;
        for relay in self.relays.values_mut() {
            relay.last_report = LastReport::Nothing;
        }
        self.report_all().await;
        self.settle().await;
        self.configure(rules, devices);
        self.settle().await;
    }

    /// The same, and workers report under the new names before the scheduler takes the settings that it was sent.
    pub(super) async fn reload_after_workers(&mut self, rules: Rules, devices: &[Device]) {
        self.configure(rules, devices);
        self.send_settings().await;
        self.report_all().await;
        self.settle().await;
    }

    /// Other settings, for the next start. The hardware stays what and where it is.
    pub(super) fn configure(&mut self, rules: Rules, devices: &[Device]) {
        self.devices = self.configured(devices);
        self.rules = Arc::new(rules);
        let mut renamed = BTreeMap::new();
        for (path, mut relay) in std::mem::take(&mut self.relays) {
            let device = devices.iter().find(|device| device.hardware == relay.place.0);
            let position = path.outlet.is_some().then_some(relay.place.1);
            let new = match device {
                Some(device) => device.path(position),
                None => Device::new(&unconfigured(&relay.place.0), &relay.place.0, &[]).path(position),
            };
            if new.device != path.device {
                // Its worker is a new one.
                relay.off_by = None;
            }
            // A worker whose settings changed reports.
            relay.last_report = LastReport::Nothing;
            for waiting in &mut self.waiting {
                if waiting.intent.path == path {
                    renamed.insert(path.clone(), new.clone());
                }
            }
            self.relays.insert(new, relay);
        }
        for waiting in &mut self.waiting {
            if let Some(new) = renamed.get(&waiting.intent.path) {
                waiting.intent.path = new.clone();
            }
        }
        self.next_poll = Instant::now();
        self.still = false;
    }

    /// What the settings have of these devices. The address of an id is another where other hardware has it.
    fn configured(&self, devices: &[Device]) -> BTreeMap<DeviceId, ConfiguredDevice> {
        let configured = |device: &Device| {
            let id: DeviceId = device.id.parse().unwrap();
            let had = self.relays.iter().find(|(path, _)| path.device == id);
            let same = had.is_some_and(|(_, relay)| relay.place.0 == device.hardware);
            let known = self.devices.get(&id).filter(|_| same);
            let address = known.map_or(&device.hardware, |known| &known.target.address);
            configured(&id, address, device.names())
        };
        devices.iter().map(configured).collect()
    }

    /// How many commands wait for a device.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What a relay is called now.
    pub(super) fn name_of(&self, hardware: &str, position: u8) -> OutletPath {
        let found = self
            .relays
            .iter()
            .find(|(_, relay)| relay.place.0 == hardware && relay.place.1 == position);
        found.unwrap().0.clone()
    }

    /// A command; its outcome appears under the number.
    pub(super) async fn command(&mut self, target: &str, change: Action, lifetime: Option<Lifetime>) -> u64 {
        self.next_ticket += 1;
        let target = match target.strip_prefix("group/") {
            Some(group) => Target::Group(group.parse().unwrap()),
            None => Target::Outlet(target.parse().unwrap()),
        };
        let command = Command {
            target,
            action: change,
            lifetime,
            brightness: None,
            deadline: Instant::now() + Duration::from_secs(10),
            reply: {
                let (id, answers) = (self.next_ticket, self.answers.clone());
                Reply::new(move |outcome| {
                    let _ended = answers.send((id, outcome));
                })
            },
        };
        self.bridge
            .messages
            .send(SchedulerMsg::Command(command))
            .await
            .unwrap();
        self.settle().await;
        self.next_ticket
    }

    pub(super) async fn set(&mut self, target: &str, power: Power) -> u64 {
        self.command(target, Action::Switch(Switch::To(power)), None)
            .await
    }

    /// What a command that was given some time ago was answered.
    pub(super) fn code(&self, command: u64) -> Option<Result<(), ErrorCode>> {
        let outcome = self.outcomes.get(&command)?;
        Some(outcome.as_ref().map(|_| ()).map_err(|failure| failure.code))
    }

    pub(super) async fn request(&mut self, request: Request) -> RequestResult {
        self.next_ticket += 1;
        let results = self.results.0.clone();
        let reply = RequestReply::new(move |result| results.send(result).unwrap());
        self.bridge
            .messages
            .send(SchedulerMsg::Request { request, reply })
            .await
            .unwrap();
        self.settle().await;
        self.results.1.recv().await.unwrap()
    }

    /// The bridge ends and starts again, later; only the state file is left of it.
    pub(super) async fn restart(&mut self, down: Duration) {
        self.stop().await;
        self.pass_until(Instant::now() + down, false).await;
        self.start().await;
    }

    /// Kills the bridge. Devices live on.
    pub(super) async fn stop(&mut self) {
        self.bridge.stop.cancel();
        (&mut self.bridge.task).await.unwrap();
        self.waiting.clear();
        self.inspect(Instant::now(), false);
    }

    /// Starts it again with what the state file has.
    pub(super) async fn start(&mut self) {
        let saved = serde_json::to_string(&self.bridge.persisted.get()).unwrap();
        let kept = serde_json::from_str(&saved).unwrap();
        self.bridge = start(&self.rules, &self.devices, kept, &self.clock, &self.tasks);
        for relay in self.relays.values_mut() {
            relay.last_report = LastReport::Nothing;
            relay.off_by = None;
            relay.changed_by = ChangedBy::Unknown;
        }
        self.outlets.clear();
        self.groups.clear();
        self.next_poll = Instant::now();
        self.still = false;
        self.settle().await;
    }

    pub(super) async fn pass(&mut self, length: &str) {
        let length: SignedDuration = length.parse().unwrap();
        self.pass_for(length.unsigned_abs()).await;
    }

    pub(super) async fn pass_for(&mut self, length: Duration) {
        self.pass_until(Instant::now() + length, true).await;
        self.settle().await;
    }

    /// Runs to a time of day in the zone of the rules, the next there is.
    pub(super) async fn until(&mut self, wall: &str) {
        let zone = self.rules.location.zone.clone();
        let wall: jiff::civil::DateTime = wall.parse().unwrap();
        let then = wall.to_zoned_datetime(zone).unwrap().timestamp();
        let ahead = then.duration_since(self.clock.now());
        assert!(!ahead.is_negative(), "{wall} is over");
        self.pass_for(ahead.unsigned_abs()).await;
    }

    pub(super) async fn pass_until(&mut self, until: Instant, listening: bool) {
        self.stir();
        loop {
            self.live(listening).await;
            let now = Instant::now();
            if now >= until {
                self.stir();
                return;
            }
            let ends = self.relays.values().filter_map(|relay| match relay.countdown {
                DeviceCountdown::Until(end) => Some(end),
                DeviceCountdown::Unsupported | DeviceCountdown::Idle => None,
            });
            let waiting = self
                .waiting
                .iter()
                .flat_map(|waiting| [waiting.ready, waiting.intent.deadline]);
            let gauges = self.relays.values().filter_map(|relay| relay.gauge.as_ref());
            let next = ends
                .chain(waiting)
                .chain(gauges.map(|gauge| gauge.due))
                .chain(self.room.as_ref().map(|room| room.due))
                .chain((!self.still).then_some(self.next_poll))
                .filter(|at| *at > now)
                .min()
                .unwrap_or(until)
                .min(until);
            tokio::select! {
                biased;
                Some(message) = self.bridge.device_messages.recv(), if listening => self.take(message),
                Some(update) = self.bridge.updates.recv(), if listening => self.on_update(update),
                Some((id, result)) = self.answered.recv() => self.on_answer(id, result),
                () = sleep_until(next) => {}
            }
        }
    }

    /// Something may have changed: there are polls again, at the times when they are due anyway.
    fn stir(&mut self) {
        let missed = Instant::now().saturating_duration_since(self.next_poll);
        let polls = u32::try_from(missed.as_nanos().div_ceil(POLL.as_nanos())).unwrap();
        self.next_poll += POLL * polls;
        self.still = false;
    }

    /// Lets everything that is due now happen.
    pub(super) async fn settle(&mut self) {
        for _ in 0..12 {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            self.live(true).await;
            while let Ok(message) = self.bridge.device_messages.try_recv() {
                self.take(message);
            }
            while let Ok(update) = self.bridge.updates.try_recv() {
                self.on_update(update);
            }
            self.take_answers();
        }
    }

    pub(super) fn take_answers(&mut self) {
        while let Ok((id, result)) = self.answered.try_recv() {
            self.on_answer(id, result);
        }
    }

    fn on_answer(&mut self, id: u64, outcome: CommandOutcome) {
        self.answer_times.push((id, Instant::now()));
        self.notes.extend(outcome.note.map(|note| (id, note)));
        self.outcomes.insert(id, outcome.result);
    }

    fn take(&mut self, message: DeviceMsg) {
        self.stir();
        let mut intent = match message {
            DeviceMsg::Command(intent) => intent,
            DeviceMsg::OffRules(path, rules) => return self.write_off_rules(&path, &rules),
            DeviceMsg::OffBy(path, end) => {
                self.ends_sent += 1;
                let clock = self.clock.clone();
                let reached = self.relays.get_mut(&path).filter(|relay| relay.online);
                if let Some(relay) = reached.filter(|_| !self.without_countdowns) {
                    relay.off_by = end;
                    relay.arm(&clock);
                }
                return;
            }
            DeviceMsg::Withdraw(path) => {
                let (withdrawn, rest) = std::mem::take(&mut self.waiting)
                    .into_iter()
                    .partition::<Vec<_>, _>(|waiting| {
                        waiting.intent.path == path && waiting.intent.action.may_switch_on()
                    });
                self.waiting = rest;
                for waiting in withdrawn {
                    waiting.intent.reply.send(Err(CommandError::superseded()));
                }
                return;
            }
            DeviceMsg::BridgeOnline | DeviceMsg::Rescan | DeviceMsg::Reload(_) => return,
        };
        self.last_turn += 1;
        let turn = *intent.turn.get_or_insert(self.last_turn);
        if let DeviceAction::Switch(Switch::To(_)) = intent.action {
            let newer =
                |waiting: &Waiting| waiting.intent.path == intent.path && waiting.intent.turn > Some(turn);
            if self.waiting.iter().any(newer) {
                return intent.reply.send(Err(CommandError::superseded()));
            }
            let (replaced, rest) = std::mem::take(&mut self.waiting)
                .into_iter()
                .partition::<Vec<_>, _>(|waiting| {
                    waiting.intent.path == intent.path
                        && matches!(waiting.intent.action, DeviceAction::Switch(_))
                });
            self.waiting = rest;
            for waiting in replaced {
                waiting.intent.reply.send(Err(CommandError::superseded()));
            }
        }
        let relay = self.relays.get(&intent.path);
        let latency = relay.map_or(Duration::ZERO, |relay| relay.latency);
        let scheduled = intent.source == Source::Schedule && intent.action.may_switch_on();
        let late = if scheduled {
            self.late_schedules
        } else {
            Duration::ZERO
        };
        self.waiting.push(Waiting {
            ready: Instant::now() + latency + late,
            intent,
            waited: false,
        });
    }

    /// A worker makes the rules on its plug what is asked for.
    fn write_off_rules(&mut self, path: &OutletPath, rules: &WantedOffRules) {
        self.off_rules.push(rules.clone());
        if self.rules_are_stuck {
            return;
        }
        let relay = self.relays.get_mut(path).unwrap();
        let ids = (1..).map(|number| format!("S{number}"));
        relay.rules.off_rules = Some(Arc::new(OffRulesStatus {
            wanted: Some(rules.wanted.clone()),
            ours: ids.zip(rules.wanted.iter().copied()).collect(),
            error: None,
        }));
    }

    fn on_update(&mut self, update: SchedulerUpdate) {
        match update {
            SchedulerUpdate::Rules(rules) => self.rules_sent.push(rules),
            SchedulerUpdate::Outlet(path, standing) => {
                self.outlets.insert(path, standing);
            }
            SchedulerUpdate::Group(id, standing) => {
                self.group_updates += 1;
                self.groups.insert(id.to_string(), standing);
            }
            SchedulerUpdate::Missing(missing) => self.missing = missing,
            SchedulerUpdate::Weather(weather) => self.weather = Some(weather),
            SchedulerUpdate::Sensors(_) | SchedulerUpdate::Vacation(_) => {}
            SchedulerUpdate::Event(event) => {
                if event.message.contains("over its ceiling") {
                    let outlet = event
                        .outlet
                        .map_or_else(String::new, |outlet| format!("/{outlet}"));
                    let device = event.device.unwrap();
                    self.shed.push((event.at, format!("{device}{outlet}")));
                }
                self.events.push((event.kind, event.message));
            }
        }
    }

    /// Devices and their workers do what is due.
    async fn live(&mut self, listening: bool) {
        let now = Instant::now();
        self.heat(now);
        let mut rang = false;
        for relay in self.relays.values_mut() {
            if let DeviceCountdown::Until(end) = relay.countdown
                && end <= now
            {
                self.flips.extend(relay.end_countdown(self.clock.steady()));
                rang = true;
            }
        }
        if rang || !self.waiting.is_empty() {
            self.stir();
        }
        for waiting in std::mem::take(&mut self.waiting) {
            self.serve(waiting, now).await;
        }
        self.inspect(now, listening);
        self.read_thermometer(now, listening).await;
        self.read_meters(listening).await;
        self.watch_energy(now, listening);
        if now >= self.next_poll && !self.still {
            self.next_poll = now + POLL;
            let clock = self.clock.clone();
            // A countdown of a day is armed again while the end is further away.
            let mut is_far = false;
            for relay in self.relays.values_mut() {
                let far = |end| clock.steady().until(end) > Duration::from_hours(23);
                if relay.off_by.is_some_and(far) {
                    relay.arm(&clock);
                    is_far = true;
                }
            }
            if listening {
                self.report_all().await;
            }
            // What is watched is looked at with each poll.
            let watched = is_far || self.max_on.is_some() || self.ceiling.is_some() || self.budget.is_some();
            self.still = !watched && self.relays.values().all(Relay::is_reported);
        }
    }

    /// The room becomes warmer or colder. Relays change only where time stands.
    fn heat(&mut self, now: Instant) {
        let on = self.relays.values().filter(|relay| relay.power().is_on()).count();
        if let Some(room) = &mut self.room {
            room.count(u8::try_from(on).unwrap(), now);
        }
    }

    /// The thermometer reports, and what heats without a value of it is noted.
    async fn read_thermometer(&mut self, now: Instant, listening: bool) {
        let steady = self.clock.steady();
        let Some(room) = &mut self.room else { return };
        let heats = self.relays.values().any(|relay| relay.power().is_on());
        // Devices count whole seconds.
        let slack = SignedDuration::from_secs(5);
        if let Some(lease) = self.lease.filter(|_| heats) {
            let lease = SignedDuration::try_from(lease).unwrap();
            let over = room
                .heard
                .is_none_or(|heard| heard.after(lease).after(slack) < steady);
            if over {
                let message = format!(
                    "heats without a value since {:?} at {}",
                    room.heard,
                    self.clock.now()
                );
                self.violations.push(message);
            }
        }
        let reached = listening && self.relays.values().all(|relay| relay.online);
        let Some(value) = room.report(now, steady, listening, reached) else {
            return;
        };
        let message = SchedulerMsg::Sensor {
            topic: "home/room".to_owned(),
            payload: value.into(),
            retained: false,
        };
        self.bridge.messages.send(message).await.unwrap();
    }

    /// Notes who runs past the limit.
    fn inspect(&mut self, now: Instant, listening: bool) {
        for (path, relay) in &mut self.relays {
            relay.reach(listening && relay.online, now);
            if let Some(max_on) = self.max_on
                && let Some(latest) = relay.latest(max_on)
                && now > latest
            {
                self.violations.push(format!(
                    "{path} on for {:?} of {max_on:?} at {}",
                    relay.on_since.map(|since| since.elapsed()),
                    self.clock.now()
                ));
            }
        }
    }

    /// Notes an outlet that is turned on while another is known to be on.
    fn inspect_interlock(&mut self, path: &OutletPath) {
        let now = Instant::now();
        let others = self.relays.iter().filter(|(other, _)| *other != path);
        let on = others.filter(|(_, relay)| relay.known_on(now));
        let violations = on.map(|(other, _)| format!("{path} is turned on while {other} is on"));
        self.violations.extend(violations.collect::<Vec<_>>());
    }

    async fn serve(&mut self, waiting: Waiting, now: Instant) {
        let Waiting {
            ready,
            intent,
            waited,
        } = waiting;
        let of_device = |path: &&OutletPath| path.device == intent.path.device;
        let online = self
            .relays
            .keys()
            .find(of_device)
            .is_some_and(|path| self.relays[path].online);
        if intent.deadline <= now {
            let expired = CommandError::expired(Duration::from_secs(10), "out of reach");
            intent.reply.send(Err(expired));
        } else if !online || ready > now {
            let waited = waited || !online;
            self.waiting.push(Waiting {
                ready,
                intent,
                waited,
            });
        } else if waited && intent.action.may_switch_on() && !self.without_recheck {
            // The first reading goes before it, and it is decided again.
            self.report(&intent.path.device.clone()).await;
            self.bridge
                .events
                .send(DeviceEvent::Recheck(intent))
                .await
                .unwrap();
        } else {
            self.carry_out(intent).await;
        }
    }

    async fn carry_out(&mut self, intent: DeviceCommand) {
        let clock = self.clock.clone();
        let mut outlets = Vec::new();
        if self.one_on && intent.action == DeviceAction::Switch(Switch::To(Power::On)) {
            self.inspect_interlock(&intent.path);
        }
        if let Some(relay) = self.relays.get_mut(&intent.path) {
            if relay.stubborn {
                let failure = CommandError {
                    attempts: 2,
                    ..CommandError::bridge(ErrorCode::NotConfirmed, "it reads back the other state")
                };
                intent.reply.send(Err(failure));
                return;
            }
            if intent.action == DeviceAction::CountDown && relay.power() == Power::On {
                relay.off_by = intent.run.end(clock.steady());
                relay.arm(&clock);
            }
            if intent.action == DeviceAction::CancelCountdown
                && relay.countdown != DeviceCountdown::Unsupported
            {
                relay.countdown = DeviceCountdown::Idle;
                relay.armed_countdown = None;
            }
            if let DeviceAction::Switch(switch) = intent.action {
                let power = match switch {
                    Switch::To(power) => power,
                    Switch::Toggle => relay.power().toggled(),
                };
                if let Some(gauge) = &mut relay.gauge {
                    gauge.count(relay.on_since.is_some().into(), &clock);
                }
                if relay.power() != power {
                    self.flips.push(Flip {
                        at: clock.steady(),
                        place: relay.place.clone(),
                        power,
                        by: SwitchedBy::Bridge,
                    });
                    self.over_since = None;
                    self.switched.push((clock.now(), intent.path.clone(), power));
                }
                relay.flip(power, ChangedBy::Command);
                relay.off_by = match power {
                    Power::On if !self.without_countdowns => intent.run.end(clock.steady()),
                    Power::On | Power::Off => None,
                };
                relay.arm(&clock);
                relay.switched_on_by_bridge = power == Power::On;
            }
            outlets.push((intent.path.clone(), Some(relay.power())));
        }
        self.report(&intent.path.device).await;
        intent.reply.send(Ok(Applied { outlets, attempts: 1 }));
    }

    async fn report_all(&mut self) {
        let mut devices: Vec<DeviceId> = self.relays.keys().map(|path| path.device.clone()).collect();
        devices.dedup();
        devices.retain(|device| !device.as_str().starts_with(UNCONFIGURED));
        for device in devices {
            self.report(&device).await;
        }
    }

    /// A worker reads its device, and reports if that is news.
    async fn report(&mut self, device: &DeviceId) {
        let clock = self.clock.clone();
        let mut outlets = Vec::new();
        let mut online = true;
        let mut news = false;
        let listed = |(path, _): &(&OutletPath, &mut Relay)| {
            path.device == *device && self.left_out.as_ref() != Some(path)
        };
        let of_device = self.relays.iter_mut().filter(listed);
        let mut hardware_id = String::new();
        for (path, relay) in of_device {
            online &= relay.online;
            hardware_id.clone_from(&relay.place.0);
            let outlet = read(path, relay, &clock);
            news |= relay.reported() != Some(&outlet);
            let changed = relay
                .reported()
                .is_none_or(|reported| reported.power != outlet.power);
            if let Some(gauge) = relay.gauge.as_mut().filter(|_| changed) {
                gauge.due = gauge.due.min(Instant::now() + SETTLE);
            }
            relay.last_report = LastReport::State(Box::new(outlet.clone()));
            outlets.push(outlet);
        }
        for (_, relay) in self.relays.iter_mut().filter(|(path, _)| path.device == *device) {
            match (online, news) {
                (true, _) => {}
                (false, true) => relay.last_report = LastReport::Away,
                (false, false) => relay.last_report = LastReport::Nothing,
            }
        }
        if !news {
            return;
        }
        outlets.sort_by_key(|outlet: &Outlet| outlet.position);
        let report = DeviceReport {
            id: device.clone(),
            target: self
                .devices
                .get(device)
                .map(|device| device.target.clone())
                .unwrap_or_default(),
            name: None,
            address: "127.0.0.1".to_owned(),
            phase: if online { Phase::Ready } else { Phase::Unreachable },
            availability: if online {
                Availability::Online
            } else {
                Availability::Offline
            },
            error: None,
            identity: Some(Arc::new(Identity {
                device_id: hardware_id,
                model: "P304M".to_owned(),
                firmware: None,
                hardware: None,
                mac: None,
                nickname: None,
                kind: if outlets.iter().any(|outlet: &Outlet| outlet.key.is_some()) {
                    Kind::Strip
                } else {
                    Kind::Plug
                },
                meters_energy: true,
                role: crate::domain::report::DeviceRole::Outlet,
            })),
            is_complete: true,
            rssi: None,
            serving: None,
            led: None,
            latest_firmware: None,
            outlets,
            children: Vec::new(),
        };
        self.send_report(report).await;
    }

    /// The worker of a device sends that some hardware, which had its id at the time, cannot be reached.
    pub(super) async fn send_offline(&mut self, device: &str, hardware: &str) {
        let report = DeviceReport {
            id: device.parse().unwrap(),
            target: target(hardware),
            name: None,
            address: "127.0.0.1".to_owned(),
            phase: Phase::Unreachable,
            availability: Availability::Offline,
            error: None,
            identity: Some(Arc::new(Identity {
                device_id: hardware.to_owned(),
                model: "P304M".to_owned(),
                firmware: None,
                hardware: None,
                mac: None,
                nickname: None,
                kind: Kind::Strip,
                meters_energy: true,
                role: crate::domain::report::DeviceRole::Outlet,
            })),
            rssi: None,
            serving: None,
            led: None,
            latest_firmware: None,
            is_complete: false,
            outlets: Vec::new(),
            children: Vec::new(),
        };
        self.send_report(report).await;
    }

    async fn send_report(&mut self, report: DeviceReport) {
        let report = DeviceEvent::Report(Arc::new(report));
        self.bridge.events.send(report).await.unwrap();
    }
}

fn counted(ours: bool) -> SwitchedBy {
    if ours {
        SwitchedBy::OurCountdown
    } else {
        SwitchedBy::OtherCountdown
    }
}

/// What a worker makes of a reading: whole seconds, and the earlier answer while it agrees.
fn read(path: &OutletPath, relay: &Relay, clock: &Clock) -> Outlet {
    let position = relay.place.1;
    let reported = relay.reported();
    let steady = |before: Option<Timestamp>, new: Timestamp| match before {
        Some(before) if before.duration_since(new).abs() <= SignedDuration::from_secs(2) => before,
        _ => new,
    };
    let on_since = relay.on_since.map(|since| {
        let on_time = SignedDuration::from_secs(relay.on_time(since));
        let since = clock.now().checked_sub(on_time).unwrap();
        let since = Timestamp::from_second(since.as_second()).unwrap();
        steady(reported.and_then(|reported| reported.on_since), since)
    });
    let countdown = match relay.countdown {
        DeviceCountdown::Unsupported => Countdown::Unsupported,
        DeviceCountdown::Idle => Countdown::Idle,
        DeviceCountdown::Until(end) => {
            let left = SignedDuration::try_from(end.saturating_duration_since(Instant::now())).unwrap();
            let ends = after(clock.now(), left);
            let before = match reported.map(|reported| reported.countdown) {
                Some(Countdown::Armed { ends } | Countdown::External { ends, .. }) => Some(ends),
                _ => None,
            };
            let ends = steady(before, ends);
            if relay.armed_countdown == Some(relay.countdown) {
                Countdown::Armed { ends }
            } else {
                Countdown::External { to: Power::Off, ends }
            }
        }
    };
    Outlet {
        settings: crate::domain::device_settings::OutletSettings::default(),
        key: path.outlet.clone(),
        position,
        name: None,
        power: Some(relay.power()),
        on_since,
        on_at: relay.on_since.map(|since| {
            let on_time = SignedDuration::from_secs(relay.on_time(since));
            let new = clock.steady().before(on_time);
            let old = reported.and_then(|reported| reported.on_at);
            old.filter(|old| old.since(new).abs() <= SignedDuration::from_secs(2))
                .unwrap_or(new)
        }),
        off_seen_at: None,
        changed_by: relay.changed_by,
        condition: Condition::default(),
        energy: Energy::default(),
        features: BTreeSet::new(),
        countdown,
        rules: relay.rules.clone(),
    }
}
