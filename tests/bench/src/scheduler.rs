//! The scheduler alone, without channels, devices and a broker: processor time of its thread for what it decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use planner::{DeviceId, Now, OutletPath, Power, Steady};
use tapo2mqtt::{
    domain::{
        command::{Action, Command, Target},
        device_command::{DeviceAction, Switch},
        reply::{Applied, Reply},
        report::{
            Availability, ChangedBy, Condition, Countdown, DeviceReport, DeviceRules, Energy, Identity, Kind,
            Outlet, Phase,
        },
        scheduling::ConfiguredDevice,
    },
    scheduler::{Arrival, Effect, PersistedScheduler, Scheduler, SchedulerEvent},
};
use tokio::time::Instant;

use crate::{
    figures::{Book, Goal},
    groups::{self, Asks, MEMBERS, TOPIC},
};

const SECTION: &str = "Scheduler alone";
const FEW: usize = 100;
const MANY: usize = 1000;
/// Few and many in turn, so that both see the same machine.
const TURNS: usize = 10;
const COMMANDS_A_TURN: usize = 1000;
const SENSOR_VALUES: usize = 300;
/// No schedule has an edge in the hours after it.
const START: &str = "2026-01-15T08:00:00Z";

pub fn measure(book: &mut Book) {
    commands(book);
    sensor(book);
}

fn commands(book: &mut Book) {
    let (mut few, mut many) = (
        House::new(FEW, MEMBERS, Asks::Nothing),
        House::new(MANY, MEMBERS, Asks::Nothing),
    );
    let (mut of_few, mut of_many) = (0.0, 0.0);
    for _ in 0..TURNS {
        of_few += cpu_of(|| few.switch(COMMANDS_A_TURN));
        of_many += cpu_of(|| many.switch(COMMANDS_A_TURN));
    }
    let each = |seconds: f64| seconds * 1e6 / (TURNS * COMMANDS_A_TURN) as f64;
    for (count, seconds) in [(FEW, of_few), (MANY, of_many)] {
        let name = format!("{count} outlets in groups of {MEMBERS}: a command, its report and its result");
        book.note(SECTION, name, "µs", each(seconds));
    }
    let name = format!("a command with {MANY} outlets to one with {FEW}");
    book.with_goal(SECTION, name, "×", Goal::AtMost(1.3), of_many / of_few);
}

fn sensor(book: &mut Book) {
    let mut house = House::new(FEW, 1, Asks::Sensor);
    house.publish(0, 1);
    for (what, steps) in [("the same value", 0), ("another value each time", 1)] {
        let mut updates = 0;
        let seconds = cpu_of(|| updates = house.publish(steps, SENSOR_VALUES));
        let name = format!("a sensor of {FEW} groups, 10 a second, {what}");
        let load = seconds / (SENSOR_VALUES as f64 / 10.0) * 100.0;
        book.with_goal(
            SECTION,
            format!("{name}: processor"),
            "% of a core",
            Goal::AtMost(3.0),
            load,
        );
        let goal = (steps == 0).then_some(Goal::AtMost(0.0));
        let updates = updates as f64 / SENSOR_VALUES as f64;
        book.with_goal(SECTION, format!("{name}: updates for each"), "", goal, updates);
    }
}

/// Processor time of this thread, in seconds.
fn cpu_of(work: impl FnOnce()) -> f64 {
    let spent = || {
        let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        let nanoseconds = text
            .split(' ')
            .next()
            .and_then(|number| number.parse::<f64>().ok());
        nanoseconds.expect("a number") / 1e9
    };
    let before = spent();
    work();
    spent() - before
}

/// A scheduler, and plugs that do at once what it asks.
struct House {
    scheduler: Scheduler,
    devices: BTreeMap<DeviceId, ConfiguredDevice>,
    now: Timestamp,
    plugs: usize,
    commands: usize,
    values: u32,
}

impl House {
    fn new(plugs: usize, members: usize, asks: Asks) -> Self {
        let settings = groups::settings(plugs, members, asks);
        let now: Timestamp = START.parse().expect("an instant");
        let (devices, rules) = (settings.scheduler_devices(), Arc::new(settings.rules));
        let mut house = Self {
            scheduler: Scheduler::new(rules, devices.clone(), PersistedScheduler::default(), at(now)),
            devices,
            now,
            plugs,
            commands: 0,
            values: 0,
        };
        house.handle(SchedulerEvent::Tick);
        for plug in 0..plugs {
            let report = house.report(&path(plug), Power::On);
            house.handle(report);
        }
        // What waited for all to be known.
        house.pass(Duration::from_mins(20));
        house
    }

    fn report(&self, path: &OutletPath, power: Power) -> SchedulerEvent {
        SchedulerEvent::Report(Arc::new(DeviceReport {
            id: path.device.clone(),
            target: self.devices[&path.device].target.clone(),
            name: None,
            address: "127.0.0.1".to_owned(),
            phase: Phase::Ready,
            availability: Availability::Online,
            error: None,
            identity: Some(Arc::new(Identity {
                device_id: path.device.as_str().to_uppercase(),
                model: "P110".to_owned(),
                firmware: None,
                hardware: None,
                mac: None,
                nickname: None,
                kind: Kind::Plug,
                meters_energy: true,
                role: tapo2mqtt::domain::report::DeviceRole::Outlet,
            })),
            is_complete: true,
            rssi: None,
            serving: None,
            led: None,
            latest_firmware: None,
            children: Vec::new(),
            outlets: vec![Outlet {
                key: None,
                position: 1,
                name: None,
                power: Some(power),
                on_since: None,
                on_at: None,
                off_seen_at: None,
                changed_by: ChangedBy::Command,
                condition: Condition::default(),
                energy: Energy::default(),
                features: BTreeSet::new(),
                countdown: Countdown::Idle,
                settings: tapo2mqtt::domain::device_settings::OutletSettings::default(),
                rules: DeviceRules::default(),
            }],
        }))
    }

    /// Handles an event, and what the plugs answer to what it asked. Returns how many updates came of it.
    fn handle(&mut self, event: SchedulerEvent) -> usize {
        let mut updates = 0;
        for effect in self.scheduler.handle(event, at(self.now)) {
            match effect {
                Effect::Switch {
                    id,
                    path,
                    action: DeviceAction::Switch(Switch::To(power)),
                    ..
                } => {
                    updates += self.handle(self.report(&path, power));
                    let outlets = vec![(path, Some(power))];
                    updates +=
                        self.handle(SchedulerEvent::Switched(id, Ok(Applied { outlets, attempts: 1 })));
                }
                Effect::Update(_) => updates += 1,
                _ => {}
            }
        }
        updates
    }

    /// Lets time pass, with a tick for each deadline.
    fn pass(&mut self, time: Duration) -> usize {
        let until = self.now + SignedDuration::try_from(time).expect("a short time");
        let mut updates = 0;
        while let Some(due) = self
            .scheduler
            .next_deadline()
            .filter(|due| *due <= Steady::at(until))
        {
            self.now = self.now.max(at(self.now).wall_at(due));
            updates += self.handle(SchedulerEvent::Tick);
        }
        self.now = until;
        updates
    }

    /// Switches one plug of each group after the other, OFF and then ON.
    fn switch(&mut self, commands: usize) {
        for _ in 0..commands {
            let plug = self.commands * (MEMBERS + 1) % self.plugs;
            let power = Power::from((self.commands / self.plugs) % 2 == 1);
            let command = Command {
                target: Target::Outlet(path(plug)),
                action: Action::Switch(Switch::To(power)),
                lifetime: None,
                brightness: None,
                deadline: Instant::now(),
                reply: Reply::new(|outcome| assert!(outcome.result.is_ok(), "{:?}", outcome.result)),
            };
            let deadline = Steady::at(self.now).after(SignedDuration::from_secs(10));
            self.handle(SchedulerEvent::Command(command, deadline));
            self.pass(Duration::from_millis(1));
            self.commands += 1;
        }
    }

    /// Publishes ten values a second, each `steps` tenths of a degree from the one before, and none over the limit.
    fn publish(&mut self, steps: u32, values: usize) -> usize {
        let mut updates = 0;
        for _ in 0..values {
            self.values = (self.values + steps) % 100;
            let payload = format!("{}", f64::from(self.values) / 10.0);
            updates += self.handle(SchedulerEvent::Sensor {
                topic: TOPIC.to_owned(),
                payload: payload.into(),
                arrival: Arrival::Live,
            });
            updates += self.pass(Duration::from_millis(100));
        }
        updates
    }
}

fn at(now: Timestamp) -> Now {
    Now {
        wall: now,
        steady: Steady::at(now),
    }
}

fn path(plug: usize) -> OutletPath {
    format!("d{plug}").parse().expect("a path")
}
