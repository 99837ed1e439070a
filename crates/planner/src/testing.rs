//! What the tests here share: rules in a few words, a site to plan for, and how many cases a property gets.

#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseResult, TestRunner},
};

use super::{
    activity::Conditions,
    condition::{Bound, Condition, Test, WhenUnknown},
    days::Days,
    edge::{Clamps, Edge, EdgeTime},
    forecast::{MemberOutlook, Outlook, PlannedChange, Timers, forecast},
    holidays::Holidays,
    interlock::InterlockOwners,
    known_edges::KnownEdges,
    location::Location,
    overrides::{Lifetime, Origin, Override, OverrideState, Overrides},
    readings::Readings,
    rules::{
        CatchUp, Group, InVacation, Interlock, LimitChanges, Limits, OnExternalChange, OnReconnect, Priority,
        Rules, Schedule, SyncOffToDevice,
    },
    safety::{Report, Safety},
    sensor::{Scale, SensorSource, SensorSpec, SensorTopic, SensorValue},
    setpoint::Setpoint,
    thermostat::{Thermostat, WhenSilent},
    window::Window,
};
use crate::{Now, OutletPath, Power, Steady};
use crate::{
    energy_limits::{EnergyLimits, EnergyRules},
    plan::{Inputs, Memory, OutletPlan, Plan, Reasons, Vacation, plan},
};

/// Runs a property and prints how often. `PROPTEST_CASES` asks for more than the quick default.
pub fn check<S: Strategy>(quick: u32, strategy: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    let cases = match std::env::var("PROPTEST_CASES") {
        Ok(text) => text.parse().expect("PROPTEST_CASES is a number"),
        Err(_) => quick,
    };
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    if let Err(error) = runner.run(strategy, property) {
        panic!("{error}");
    }
    println!("{cases} cases");
}

pub fn edge(text: &str) -> Edge {
    let time: EdgeTime = text.parse().unwrap();
    let fallback = time.needs_sun().then(|| "12:00".parse().unwrap());
    Edge::new(time, Clamps::default(), fallback).unwrap()
}

/// Every day from one edge to the other.
pub fn schedule(id: &str, start: &str, end: &str) -> Schedule {
    Schedule {
        id: id.parse().unwrap(),
        enabled: true,
        priority: Priority::Normal,
        days: Days::ALL,
        window: Window::between(edge(start), edge(end)).unwrap(),
        conditions: Vec::new(),
        limits: LimitChanges::default(),
        catch_up: CatchUp::Apply,
        editable: false,
        target: None,
    }
}

/// Two outlets, `mats/1` and `mats/2`, without limits.
pub fn group(schedules: Vec<Schedule>) -> Group {
    Group {
        id: "driveway".parse().unwrap(),
        name: "Driveway".to_owned(),
        outlets: vec!["mats/1".parse().unwrap(), "mats/2".parse().unwrap()],
        schedules,
        limits: Limits::NONE,
        energy: EnergyRules::default(),
        override_default: Group::OVERRIDE_DEFAULT,
        stagger: None,
        min_cycle: Group::MIN_CYCLE,
        in_vacation: InVacation::Rest,
        on_external_change: OnExternalChange::Override,
        on_reconnect: OnReconnect::Reconcile,
        sync_off_to_device: SyncOffToDevice::No,
        interlock: Interlock::Free,
        thermostat: None,
        edges: KnownEdges::default(),
    }
}

pub fn celsius(degrees: f64) -> Setpoint {
    Setpoint::new(degrees, Scale::Celsius)
}

/// A thermostat with the sensor `room`, as it is where the settings have no more than its target.
pub fn thermostat(target: f64) -> Thermostat {
    Thermostat {
        sensor: "room".parse().unwrap(),
        target: celsius(target),
        hysteresis: Thermostat::HYSTERESIS,
        min_on: Thermostat::PAUSE,
        min_off: Thermostat::PAUSE,
        setback: None,
        frost: celsius(Thermostat::FROST),
        when_unknown: WhenSilent::Off,
    }
}

/// The sensor `outdoor` is at most zero degrees Celsius.
pub fn freezing(when_unknown: WhenUnknown) -> Condition {
    Condition {
        test: Test::Number {
            sensor: "outdoor".parse().unwrap(),
            bound: Bound::AtMost,
            limit: 0.0,
            hysteresis: 0.0,
        },
        dwell: None,
        when_unknown,
    }
}

/// The moment at which both clocks read `at`.
pub fn moment(at: Timestamp) -> Now {
    Now {
        wall: at,
        steady: Steady::at(at),
    }
}

/// A bridge without tasks: what it knows, and a clock that is moved by hand.
pub struct Site {
    pub rules: Rules,
    pub overrides: Overrides,
    pub vacation: Vacation,
    pub safety: Safety,
    pub energy_limits: EnergyLimits,
    pub readings: Readings,
    pub memory: Memory,
    pub observed: BTreeMap<OutletPath, Power>,
    pub holders: InterlockOwners,
    pub conditions: Conditions,
    pub booted_at: Timestamp,
    pub now: Timestamp,
}

impl Site {
    /// One group in a zone; the bridge started long ago.
    pub fn new(group: Group, zone: &str) -> Self {
        Self {
            rules: Rules {
                location: Location {
                    coordinates: None,
                    zone: TimeZone::get(zone).unwrap(),
                    holidays: Holidays::default(),
                },
                sensors: vec![SensorSpec {
                    id: "outdoor".parse().unwrap(),
                    source: SensorSource::Topic(SensorTopic {
                        topic: "weather/outdoor".to_owned(),
                        pointer: None,
                    }),
                    unit: "°C".into(),
                    stale_after: SensorSpec::DEFAULT_STALE_AFTER,
                }],
                groups: vec![group],
            },
            overrides: Overrides::default(),
            vacation: Vacation::Off,
            safety: Safety::default(),
            energy_limits: EnergyLimits::default(),
            readings: Readings::default(),
            memory: Memory::default(),
            observed: BTreeMap::new(),
            holders: InterlockOwners::default(),
            conditions: Conditions::Asked,
            booted_at: Timestamp::UNIX_EPOCH,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    pub fn group(&self) -> &Group {
        &self.rules.groups[0]
    }

    pub fn wall(&self, wall: &str) -> Timestamp {
        let wall: DateTime = wall.parse().unwrap();
        wall.to_zoned_datetime(self.rules.location.zone.clone())
            .unwrap()
            .timestamp()
    }

    pub fn at(&mut self, wall: &str) -> &mut Self {
        self.now = self.wall(wall);
        self
    }

    /// Starts the bridge now: what is not persisted is gone.
    pub fn boot(&mut self) -> &mut Self {
        self.booted_at = self.now;
        self.memory = Memory::default();
        self.readings = Readings::default();
        self
    }

    pub fn inputs(&self) -> Inputs<'_> {
        Inputs {
            rules: &self.rules,
            overrides: &self.overrides,
            vacation: self.vacation,
            safety: &self.safety,
            energy_limits: &self.energy_limits,
            readings: &self.readings,
            memory: &self.memory,
            observed: &self.observed,
            holders: &self.holders,
            conditions: self.conditions,
            reasons: Reasons::Included,
            booted_at: Steady::at(self.booted_at),
            listening_since: Steady::at(self.booted_at),
            now: moment(self.now),
        }
    }

    pub fn plan(&mut self) -> Plan {
        let plan = plan(&self.inputs());
        self.memory = plan.memory.clone();
        plan
    }

    /// The plan of `mats/1`.
    pub fn first(&mut self) -> OutletPlan {
        self.plan().outlets[&outlet(1)].clone()
    }

    /// What `mats/1` should be.
    pub fn desired(&mut self) -> Option<Power> {
        self.first().desired
    }

    /// The device of an outlet answers.
    pub fn reports(&mut self, outlet: &OutletPath, power: Power) {
        let report = Report {
            power,
            on_time: None,
            at: moment(self.now),
        };
        let zone = &self.rules.location.zone;
        self.safety.observe(outlet, report, zone);
        self.observed.insert(outlet.clone(), power);
    }

    pub fn measures(&mut self, value: f64) -> &mut Self {
        let value = SensorValue::Number(value);
        let outdoor = &self.rules.sensors[0];
        self.readings.record(
            outdoor,
            value,
            Steady::at(self.now),
            crate::readings::Arrival::Live,
        );
        self
    }

    /// Overrides both outlets now.
    pub fn wants(&mut self, state: OverrideState, lifetime: Lifetime) {
        let new = Override::new(state, lifetime, Origin::Command, moment(self.now)).unwrap();
        for outlet in self.group().outlets.clone() {
            self.overrides.set(outlet, new);
        }
    }

    pub fn outlook(&self) -> Outlook {
        let group = self.group();
        let found = MemberOutlook::of(&self.inputs(), group, &group.outlets);
        Outlook::of(&group.outlets, &found)
    }

    pub fn forecast(&self, until: &str) -> Vec<PlannedChange> {
        self.forecast_until(self.wall(until))
    }

    pub fn forecast_until(&self, until: Timestamp) -> Vec<PlannedChange> {
        forecast(&self.inputs(), &self.group().id, &Timers::new(), until)
    }

    /// Coming changes as a clock on the wall shows them.
    pub fn switch_times(&self, until: &str) -> Vec<(String, Power)> {
        let zone = &self.rules.location.zone;
        let show = |change: PlannedChange| {
            let at = change.at.to_zoned_datetime(zone.clone());
            (at.strftime("%m-%d %H:%M%:z").to_string(), change.power)
        };
        self.forecast(until).into_iter().map(show).collect()
    }
}

/// `mats/1`, `mats/2`.
pub fn outlet(number: u8) -> OutletPath {
    format!("mats/{number}").parse().unwrap()
}
