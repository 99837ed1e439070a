//! Random sequences of commands, settings, restarts, outages, buttons and clocks, and a model of what was promised to
//! each relay. The model goes by the log of the simulated devices, which is in real time, by what was sent to the
//! scheduler and what was answered; of the scheduler it takes only which schedules are in force.
//!
//! `PROMISE_CASES` is the number of cases, `PROMISE_SEED` chooses others. Faults are planted in the rules and
//! commands that the scheduler gets, and in the simulated devices, so that the scheduler itself has none.

mod model;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use serde_json::json;
use tokio::time::Instant;

use self::model::{Kind, Log, Note, Sent};
use super::{
    rules::{OFF, ON, rules},
    simulation::{Device, DeviceCountdown, OnTime, Place, Simulation},
};
use crate::domain::{command::Action, command_error::ErrorCode, device_command::Switch, scheduling::Request};
use planner::{
    OutletPath, Power, Steady,
    overrides::Lifetime,
    period::Period,
    rules::{Group, Interlock, Limit, Limits, OnExternalChange, OnReconnect, Rules},
    testing::{group, schedule},
};

const START: &str = "2024-06-21T05:59:40Z";
/// Two plugs with a countdown, and a strip of which one outlet has one and the other refuses it.
const RELAYS: [(&str, u8); 4] = [
    ("8022HEATER", 1),
    ("8022MATS", 1),
    ("8022MATS", 2),
    ("8022LAMP", 1),
];
const DEVICES: [&str; 3] = ["8022HEATER", "8022MATS", "8022LAMP"];
const GROUPS: [&str; 2] = ["driveway", "ramp"];
/// Time to live of a command, in ms.
const TTL: i64 = 10_000;

/// A fault that the property has to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlantedFault {
    LateLimit,
    NoCooldown,
    NoMinOff,
    LateTimer,
    ShortTimer,
    NoInterlock,
    LateWindow,
    NoRecheck,
}

const FAULTS: [PlantedFault; 8] = [
    PlantedFault::LateLimit,
    PlantedFault::NoCooldown,
    PlantedFault::NoMinOff,
    PlantedFault::LateTimer,
    PlantedFault::ShortTimer,
    PlantedFault::NoInterlock,
    PlantedFault::LateWindow,
    PlantedFault::NoRecheck,
];

/// Settings: what devices are called, who is in which group, and its limits. Lengths in s.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    naming: u8,
    grouping: u8,
    max_on: Option<i64>,
    cooldown: Option<i64>,
    min_off: Option<i64>,
    /// The group "driveway" has these windows, in minutes of the day.
    windows: [Option<(i64, i64)>; 2],
    interlock: bool,
    stagger: bool,
    external: OnExternalChange,
    reconnect: OnReconnect,
}

impl Setting {
    fn devices(&self) -> Vec<Device> {
        let (heater, mats, lamp) = ("8022HEATER", "8022MATS", "8022LAMP");
        let plug = |id, hardware| Device::new(id, hardware, &[]);
        let strip = |names: &[(&str, u8)]| Device::new("mats", mats, names);
        match self.naming {
            1 => vec![
                plug("heater", heater),
                strip(&[("left", 1), ("right", 2)]),
                plug("lamp", lamp),
            ],
            2 => vec![
                plug("heater", heater),
                strip(&[("left", 2), ("right", 1)]),
                plug("lamp", lamp),
            ],
            3 => vec![plug("stove", heater), strip(&[]), plug("lamp", lamp)],
            4 => vec![plug("lamp", heater), strip(&[("left", 1)]), plug("heater", lamp)],
            5 => vec![plug("heater", heater), strip(&[])],
            _ => vec![plug("heater", heater), strip(&[]), plug("lamp", lamp)],
        }
    }

    /// The group of each relay.
    fn groups(&self) -> [Option<usize>; 4] {
        match self.grouping {
            0 => [Some(0), Some(0), Some(0), None],
            1 => [Some(0), Some(0), Some(1), Some(1)],
            2 => [Some(1), Some(1), Some(1), Some(1)],
            _ => [None; 4],
        }
    }

    fn is_configured(&self, relay: usize) -> bool {
        self.naming != 5 || relay != 3
    }

    /// Of the group of this relay, if it is in one.
    fn group_of(&self, relay: usize) -> Option<usize> {
        self.groups()[relay].filter(|_| self.is_configured(relay))
    }

    /// Schedules turn on all of a group, so one of them has no interlock.
    fn is_interlocked(&self, group: usize) -> bool {
        self.interlock && group == 1
    }

    fn path(&self, relay: usize) -> Option<OutletPath> {
        let (hardware, position) = RELAYS[relay];
        let devices = self.devices();
        let device = devices.iter().find(|device| device.hardware == hardware)?;
        Some(device.path((hardware == "8022MATS").then_some(position)))
    }

    /// What the scheduler gets.
    fn rules(&self, fault: Option<PlantedFault>) -> Rules {
        let late = if fault == Some(PlantedFault::LateLimit) {
            4
        } else {
            0
        };
        let without = |limit: Option<i64>, absent| limit.filter(|_| fault != Some(absent));
        let mut groups = Vec::new();
        for (index, id) in GROUPS.into_iter().enumerate() {
            let members: Vec<OutletPath> = (0..RELAYS.len())
                .filter(|relay| self.group_of(*relay) == Some(index))
                .filter_map(|relay| self.path(relay))
                .collect();
            if members.is_empty() {
                continue;
            }
            let windows = self.windows.into_iter().flatten().filter(|_| index == 0);
            let schedules =
                windows.map(|(start, end)| schedule(&window_id(start, end), &time(start), &time(end)));
            let mut group: Group = group(schedules.collect());
            group.id = id.parse().unwrap();
            group.outlets = members;
            group.limits = Limits {
                max_on: limit(self.max_on.map(|length| length + late)),
                cooldown: limit(without(self.cooldown, PlantedFault::NoCooldown)),
                min_off: limit(without(self.min_off, PlantedFault::NoMinOff)),
                max_on_per_day: Limit::None,
            };
            if self.is_interlocked(index) && fault != Some(PlantedFault::NoInterlock) {
                group.interlock = Interlock::OneOn;
            }
            group.stagger = self.stagger.then(|| seconds(2));
            group.on_external_change = self.external;
            group.on_reconnect = self.reconnect;
            groups.push(group);
        }
        Rules {
            groups,
            ..rules(group(Vec::new()))
        }
    }
}

fn seconds(length: i64) -> Period {
    Period::new(SignedDuration::from_secs(length)).unwrap()
}

fn limit(length: Option<i64>) -> Limit {
    length.map_or(Limit::None, |length| Limit::Of(seconds(length)))
}

fn time(minute: i64) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn window_id(start: i64, end: i64) -> String {
    format!("w{start}-{end}")
}

/// The window of a schedule, by its id.
fn window_of(id: &str) -> Option<(i64, i64)> {
    let (start, end) = id.strip_prefix('w')?.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Relay(usize),
    Group(usize),
}

#[derive(Debug, Clone)]
enum Step {
    Command(Target, Kind),
    Press(usize),
    /// The app starts a countdown on an outlet that is on and has one, in s.
    AppCountdown(usize, u64),
    /// In ms.
    Pass(u64),
    Link(usize, bool),
    Restart(u64, Option<Setting>),
    Reload(Setting, bool),
    /// In s.
    Jump(i64),
    To1970,
    Suspend(u64),
    SetSchedule(i64, i64),
    RemoveSchedule(i64, i64),
    ResetSchedules,
}

fn power() -> impl Strategy<Value = Power> {
    prop_oneof![2 => Just(ON), 1 => Just(OFF)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => power().prop_map(Kind::To),
        1 => Just(Kind::Toggle),
        4 => (8_i64..60).prop_map(Kind::OnFor),
        1 => (8_i64..60).prop_map(Kind::OffFor),
        2 => (8_i64..60).prop_map(Kind::CountDown),
        1 => Just(Kind::CancelCountdown),
        1 => power().prop_map(Kind::Hold),
        1 => Just(Kind::Auto),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![4 => (0..RELAYS.len()).prop_map(Target::Relay), 1 => (0..2_usize).prop_map(Target::Group)]
}

fn window() -> impl Strategy<Value = (i64, i64)> {
    prop_oneof![
        3 => (361_i64..368, 1_i64..4).prop_map(|(start, length)| (start, start + length)),
        1 => Just((300, 420)),
        1 => Just((362, 420)),
    ]
}

fn setting() -> impl Strategy<Value = Setting> {
    let length = || prop_oneof![1 => Just(None), 3 => (15_i64..90).prop_map(Some)];
    let policies = (
        prop_oneof![
            2 => Just(OnExternalChange::Override),
            1 => Just(OnExternalChange::Enforce),
            1 => Just(OnExternalChange::Ignore)
        ],
        prop_oneof![2 => Just(OnReconnect::Reconcile), 1 => Just(OnReconnect::Keep), 1 => Just(OnReconnect::Off)],
    );
    let windows = [proptest::option::of(window()), proptest::option::of(window())];
    let flags = (any::<bool>(), prop::bool::weighted(0.2));
    let who = (0_u8..6, 0_u8..4);
    (who, length(), length(), length(), windows, flags, policies).prop_map(
        |((naming, grouping), max_on, cooldown, min_off, mut windows, (interlock, stagger), policies)| {
            if windows[0] == windows[1] {
                windows[1] = None;
            }
            Setting {
                naming,
                grouping,
                max_on,
                cooldown,
                min_off,
                windows,
                interlock,
                stagger,
                external: policies.0,
                reconnect: policies.1,
            }
        },
    )
}

/// One step, or several that belong together: the device of an ON that waits changes, or its rival does.
fn scene() -> impl Strategy<Value = Vec<Step>> {
    let relay = || 0..RELAYS.len();
    let one = prop_oneof![
        8 => (target(), kind()).prop_map(|(target, kind)| Step::Command(target, kind)),
        3 => relay().prop_map(Step::Press),
        1 => (0_usize..4, 3_u64..60).prop_map(|(relay, end)| Step::AppCountdown(relay, end)),
        6 => (100_u64..40_000).prop_map(Step::Pass),
        4 => (20_000_u64..100_000).prop_map(Step::Pass),
        2 => (0..DEVICES.len(), any::<bool>()).prop_map(|(device, online)| Step::Link(device, online)),
        1 => (1_u64..40, proptest::option::of(setting())).prop_map(|(down, setting)| Step::Restart(down, setting)),
        2 => (setting(), any::<bool>()).prop_map(|(setting, late)| Step::Reload(setting, late)),
        1 => prop_oneof![-1800_i64..1800, -10_000_i64..10_000].prop_map(Step::Jump),
        1 => Just(Step::To1970),
        1 => (1_u64..120).prop_map(Step::Suspend),
        1 => window().prop_map(|(start, end)| Step::SetSchedule(start, end)),
        1 => window().prop_map(|(start, end)| Step::RemoveSchedule(start, end)),
        1 => Just(Step::ResetSchedules),
    ];
    let waiting = (relay(), relay(), any::<bool>(), 500_u64..8000).prop_map(|(relay, other, rival, wait)| {
        let device = DEVICES.iter().position(|id| *id == RELAYS[relay].0).unwrap();
        let on = |relay| Step::Command(Target::Relay(relay), Kind::To(ON));
        let mut steps = vec![Step::Link(device, true), Step::Pass(8000)];
        if rival {
            steps.push(Step::Command(Target::Relay(relay), Kind::To(OFF)));
        } else {
            steps.push(on(relay));
        }
        steps.extend([Step::Pass(8000), Step::Link(device, false), Step::Pass(6000)]);
        steps.push(Step::Press(if rival { other } else { relay }));
        steps.extend([
            on(relay),
            Step::Pass(wait),
            Step::Link(device, true),
            Step::Pass(8000),
        ]);
        steps
    });
    prop_oneof![12 => one.prop_map(|step| vec![step]), 1 => waiting]
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    prop::collection::vec(scene(), 1..24)
}

/// A site: its settings, and which relays count their time wrongly.
#[derive(Debug, Clone)]
struct Site {
    setting: Setting,
    stuck: Option<usize>,
}

fn site() -> impl Strategy<Value = Site> {
    (setting(), proptest::option::weighted(0.2, 0..RELAYS.len())).prop_map(|(mut setting, stuck)| {
        setting.naming = 0;
        Site { setting, stuck }
    })
}

/// The scheduler under test, and the log for the model.
struct Run {
    simulation: Simulation,
    log: Log,
    setting: Setting,
    fault: Option<PlantedFault>,
    begun: Steady,
    /// Which schedules were in force at the last look.
    windows: Option<Vec<(i64, i64)>>,
    answers_seen: usize,
}

fn relay_of(place: &Place) -> usize {
    let of = |(hardware, position): &(&str, u8)| (*hardware, *position) == (place.0.as_str(), place.1);
    RELAYS.iter().position(of).unwrap()
}

impl Run {
    fn new(site: &Site, fault: Option<PlantedFault>) -> Self {
        let paths = ["heater", "mats/1", "mats/2", "lamp"].map(|path| path.parse().unwrap());
        let start: Timestamp = START.parse().unwrap();
        let mut simulation = Simulation::of(site.setting.rules(fault), start, &paths);
        simulation.relay("mats/2").countdown = DeviceCountdown::Idle;
        simulation.without_recheck = fault == Some(PlantedFault::NoRecheck);
        if fault == Some(PlantedFault::LateWindow) {
            simulation.late_schedules = Duration::from_secs(8);
        }
        if let Some(stuck) = site.stuck {
            let path = simulation.name_of(RELAYS[stuck].0, RELAYS[stuck].1);
            simulation.relays.get_mut(&path).unwrap().shown = Some(OnTime::Stuck);
        }
        let begun = simulation.clock.steady();
        let mut log = Log {
            stuck: site.stuck,
            ..Log::default()
        };
        log.add(0, start, Note::Settings(site.setting));
        let windows = site.setting.windows.into_iter().flatten();
        let windows = windows.filter(|_| site.setting.groups().contains(&Some(0)));
        log.add(0, start, Note::Windows(windows.collect()));
        Self {
            simulation,
            log,
            setting: site.setting,
            fault,
            begun,
            windows: None,
            answers_seen: 0,
        }
    }

    fn millis(&self, at: Steady) -> i64 {
        i64::try_from(at.since(self.begun).as_millis()).unwrap()
    }

    fn note(&mut self, note: Note) {
        let at = self.millis(self.simulation.clock.steady());
        self.log.add(at, self.simulation.clock.now(), note);
    }

    /// Takes over what happened since the last look.
    fn look(&mut self) {
        for flip in std::mem::take(&mut self.simulation.flips) {
            let at = self.millis(flip.at);
            let offset = self.simulation.clock.read().offset();
            let wall = flip.at.reading() + offset;
            let note = Note::Flip(relay_of(&flip.place), flip.power, flip.by);
            self.log.add(at, wall, note);
        }
        let sent = self.simulation.rules_sent.last().cloned();
        let windows = sent.map(|rules| {
            let driveway = rules.groups.iter().find(|group| group.id.as_str() == GROUPS[0]);
            let schedules = driveway.into_iter().flat_map(|group| &group.schedules);
            let windows = schedules.filter_map(|schedule| window_of(schedule.id.as_str()));
            windows.collect::<Vec<_>>()
        });
        if windows != self.windows {
            self.windows.clone_from(&windows);
            self.note(Note::Windows(windows.unwrap_or_default()));
        }
        while let Some((id, at)) = self.simulation.answer_times.get(self.answers_seen).copied() {
            self.answers_seen += 1;
            let at = self
                .simulation
                .clock
                .steady()
                .before(SignedDuration::try_from(at.elapsed()).unwrap());
            let code = self.simulation.code(id).unwrap();
            let at = self.millis(at);
            self.log.answered(id, at, code);
        }
    }

    async fn pass(&mut self, length: Duration) {
        self.simulation.pass_for(length).await;
        self.look();
    }

    fn set_link(&mut self, device: usize, online: bool) {
        for relay in self.simulation.relays.values_mut() {
            if relay.place.0 == DEVICES[device] {
                relay.online = online;
            }
        }
        self.note(Note::Link(DEVICES[device], online));
    }

    async fn command(&mut self, target: Target, kind: Kind) {
        let (path, members) = match target {
            Target::Relay(relay) => {
                let Some(path) = self.setting.path(relay) else {
                    return;
                };
                (path.to_string(), vec![relay])
            }
            Target::Group(group) => {
                let of = |relay: &usize| self.setting.group_of(*relay) == Some(group);
                (
                    format!("group/{}", GROUPS[group]),
                    (0..RELAYS.len()).filter(of).collect(),
                )
            }
        };
        let by = match self.fault {
            Some(PlantedFault::LateTimer) => 5,
            Some(PlantedFault::ShortTimer) => -5,
            _ => 0,
        };
        let length = |seconds: i64| Duration::from_secs(u64::try_from(seconds + by).unwrap());
        let (action, lifetime) = match kind {
            Kind::To(power) => (Action::Switch(Switch::To(power)), None),
            Kind::Toggle => (Action::Switch(Switch::Toggle), None),
            Kind::OnFor(seconds) => (Action::OnFor(length(seconds)), None),
            Kind::OffFor(seconds) => (Action::OffFor(length(seconds)), None),
            Kind::CountDown(seconds) => (Action::CountDown(length(seconds)), None),
            Kind::CancelCountdown => (Action::CancelCountdown, None),
            Kind::Hold(power) => (Action::Switch(Switch::To(power)), Some(Lifetime::Hold)),
            Kind::Auto => (Action::Auto, None),
        };
        let at = self.millis(self.simulation.clock.steady());
        let index = self.log.entries.len();
        self.note(Note::Command(0));
        let id = self.simulation.command(&path, action, lifetime).await;
        self.log.entries[index].note = Note::Command(id);
        let sent = Sent {
            at,
            kind,
            members,
            stagger: self.setting.stagger,
        };
        self.log.sent.insert(id, sent);
    }

    async fn reload(&mut self, setting: Setting, late: bool) {
        self.note(Note::Settings(setting));
        self.setting = setting;
        let (rules, devices) = (setting.rules(self.fault), setting.devices());
        if late {
            self.simulation.reload_before_workers(rules, &devices).await;
        } else {
            self.simulation.reload_as(rules, &devices).await;
        }
    }

    async fn restart(&mut self, down: u64, setting: Option<Setting>) {
        self.simulation.stop().await;
        self.simulation.take_answers();
        self.look();
        self.note(Note::Bridge(false));
        if let Some(setting) = setting {
            self.simulation
                .configure(setting.rules(self.fault), &setting.devices());
            self.setting = setting;
            self.note(Note::Settings(setting));
        }
        self.simulation
            .pass_until(Instant::now() + Duration::from_secs(down), false)
            .await;
        self.look();
        self.note(Note::Bridge(true));
        self.simulation.start().await;
    }

    async fn request(&mut self, request: Request) {
        self.note(Note::Edited);
        // It may be refused: the windows in force are read afterwards.
        let _result = self.simulation.request(request).await;
    }

    fn app_countdown(&mut self, relay: usize, seconds: u64) {
        let path = self.simulation.name_of(RELAYS[relay].0, RELAYS[relay].1);
        let relay_mut = self.simulation.relays.get_mut(&path).unwrap();
        if relay_mut.on_since.is_some() && relay_mut.countdown != DeviceCountdown::Unsupported {
            relay_mut.countdown = DeviceCountdown::Until(Instant::now() + Duration::from_secs(seconds));
            self.note(Note::AppCountdown(relay));
        }
    }

    async fn take(&mut self, step: &Step) {
        let driveway = || GROUPS[0].parse().unwrap();
        match *step {
            Step::Command(target, kind) => self.command(target, kind).await,
            Step::Press(relay) => {
                let path = self.simulation.name_of(RELAYS[relay].0, RELAYS[relay].1);
                self.simulation.press(&path.to_string());
            }
            Step::AppCountdown(relay, seconds) => self.app_countdown(relay, seconds),
            Step::Pass(millis) => self.pass(Duration::from_millis(millis)).await,
            Step::Link(device, online) => self.set_link(device, online),
            Step::Restart(down, setting) => self.restart(down, setting).await,
            Step::Reload(setting, late) => self.reload(setting, late).await,
            Step::Jump(by) => {
                self.simulation.clock.jump(SignedDuration::from_secs(by));
                self.note(Note::ClockSet);
            }
            Step::To1970 => {
                let by = Timestamp::UNIX_EPOCH.duration_since(self.simulation.clock.now());
                self.simulation.clock.jump(by);
                self.note(Note::ClockSet);
            }
            Step::Suspend(length) => {
                self.note(Note::Suspended);
                self.simulation.suspend(Duration::from_secs(length));
                self.look();
                self.note(Note::Resumed);
            }
            Step::SetSchedule(start, end) => {
                let schedule = json!({"id": window_id(start, end), "start": time(start), "end": time(end)});
                let group = driveway();
                self.request(Request::SetSchedule { group, schedule }).await;
            }
            Step::RemoveSchedule(start, end) => {
                let schedule = window_id(start, end).parse().unwrap();
                let group = driveway();
                self.request(Request::RemoveSchedule { group, schedule }).await;
            }
            Step::ResetSchedules => self.request(Request::ResetSchedules(None)).await,
        }
        self.look();
    }
}

/// Lives through a sequence; what the model says about it.
fn broken_promise(site: &Site, steps: &[Vec<Step>], fault: Option<PlantedFault>) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut run = Run::new(site, fault);
        run.pass(Duration::from_secs(1)).await;
        for step in steps.iter().flatten() {
            run.take(step).await;
        }
        for device in 0..DEVICES.len() {
            run.set_link(device, true);
        }
        run.pass(Duration::from_secs(100)).await;
        run.note(Note::End);
        let broken = run.log.broken()?;
        let events = run
            .simulation
            .events
            .iter()
            .map(|(_, message)| format!("    {message}"));
        Some(format!("{broken}\n{}", events.collect::<Vec<_>>().join("\n")))
    })
}

/// Runs as many cases from a seed. The fault, if any is found.
fn search(seed: u64, cases: u32, fault: Option<PlantedFault>, shrink: bool) -> Result<(), String> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: if shrink { 2000 } else { 0 },
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(&(site(), steps()), |(site, steps)| {
        match broken_promise(&site, &steps, fault) {
            Some(broken) => Err(TestCaseError::fail(broken)),
            None => Ok(()),
        }
    });
    result.map_err(|error| match error {
        TestError::Fail(reason, (site, steps)) => {
            let steps: Vec<String> = steps
                .iter()
                .flatten()
                .map(|step| format!("    {step:?}"))
                .collect();
            format!("{reason}\n{site:?}\n{}", steps.join("\n"))
        }
        TestError::Abort(reason) => format!("aborted: {reason}"),
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn no_promise_is_broken() {
    let cases = number("PROMISE_CASES").map_or(150, |cases| u32::try_from(cases).unwrap());
    let seed = number("PROMISE_SEED").unwrap_or(1);
    println!("{cases} cases, PROMISE_SEED={seed}");
    if let Err(broken) = search(seed, cases, None, true) {
        panic!("PROMISE_SEED={seed}: {broken}");
    }
    println!("{cases} cases of PROMISE_SEED={seed}: no promise is broken");
}

#[test]
#[ignore = "takes minutes; run it with: cargo test --lib each_planted_fault_is_found -- --ignored --nocapture"]
fn each_planted_fault_is_found() {
    let mut missed = Vec::new();
    for fault in FAULTS {
        let found = (1..=10).filter(|seed| search(*seed, 1500, Some(fault), false).is_err());
        let found = found.count();
        println!("{fault:?}: found by {found} of 10 seeds");
        if found < 10 {
            missed.push(fault);
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
