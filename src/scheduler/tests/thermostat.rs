//! Thermostats: a room with a dumb heater, and everything that can die.

use std::time::Duration;

use jiff::SignedDuration;
use proptest::{prelude::*, test_runner::TestCaseResult};

use super::{
    room::Room,
    rules::{OFF, ON, rules},
    simulation::{Device, DeviceCountdown, Simulation, hardware},
};
use crate::domain::{
    command::Action,
    command_error::ErrorCode,
    device_command::Switch,
    heating::{HeatingChange, Tenths},
    report::EventKind,
    scheduling::{FailSafeState, Request},
};
use crate::system::log_text::logging;
use planner::{
    Power,
    overrides::Lifetime,
    period::Period,
    plan::{SafetyState, Source},
    rules::{Group, Limits, Rules, Schedule},
    sensor::{SensorSource, SensorSpec, SensorTopic},
    testing::{celsius, check, group, schedule, thermostat},
    thermostat::{Preset, Thermostat, ThermostatMode},
};

/// How long a value of the thermometer counts, and so a lease.
const LEASE: Duration = Duration::from_mins(10);
const START: &str = "2024-01-10T06:00:00Z";

/// A schedule with a target.
fn warm(id: &str, start: &str, end: &str, target: f64) -> Schedule {
    Schedule {
        target: Some(celsius(target)),
        ..schedule(id, start, end)
    }
}

/// A group `driveway` of one plug `heater`, which heats to 21 °C.
fn heated(schedules: Vec<Schedule>) -> Rules {
    heated_by(thermostat(21.0), schedules)
}

fn heated_by(thermostat: Thermostat, schedules: Vec<Schedule>) -> Rules {
    let mut rules = rules(Group {
        outlets: vec!["heater".parse().unwrap()],
        limits: Limits::NONE,
        thermostat: Some(thermostat),
        ..group(schedules)
    });
    rules.sensors.push(SensorSpec {
        id: "room".parse().unwrap(),
        source: SensorSource::Topic(SensorTopic {
            topic: "home/room".to_owned(),
            pointer: None,
        }),
        unit: "°C".into(),
        stale_after: Period::new(SignedDuration::try_from(LEASE).unwrap()).unwrap(),
    });
    rules
}

async fn simulation(rules: Rules, room: f64) -> Simulation {
    let mut simulation = Simulation::new(rules, START.parse().unwrap());
    simulation.lease = Some(LEASE);
    simulation.room = Some(Room::at(room));
    simulation.pass("5s").await;
    simulation
}

fn room(simulation: &mut Simulation) -> &mut Room {
    simulation.room.as_mut().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_room_stays_at_its_target_for_a_day() {
    let mut simulation = simulation(heated(Vec::new()), 15.0).await;
    simulation.pass("6h").await;
    let reached = room(&mut simulation);
    (reached.coldest, reached.hottest) = (reached.celsius, reached.celsius);
    simulation.flips.clear();
    simulation.pass("24h").await;
    let (coldest, hottest) = (room(&mut simulation).coldest, room(&mut simulation).hottest);
    assert!(coldest >= 20.5 && hottest <= 21.5, "{coldest} to {hottest}");
    let hour = SignedDuration::from_hours(1);
    let flips = &simulation.flips;
    let most = flips.iter().map(|first| {
        let within = |other: &&_| {
            let other: &super::simulation::Flip = other;
            (SignedDuration::ZERO..hour).contains(&other.at.since(first.at))
        };
        flips.iter().filter(within).count()
    });
    assert!((2..=6).contains(&most.max().unwrap()), "{} in a day", flips.len());
    assert_eq!(simulation.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn whatever_dies_alone_the_heater_is_off_within_the_lease() {
    for fault in ["bridge", "broker", "plug", "thermometer"] {
        let mut simulation = simulation(heated(Vec::new()), 15.0).await;
        simulation.pass("20m 30s").await;
        assert_eq!(simulation.power("heater"), ON, "{fault}");
        let mut listens = true;
        match fault {
            "bridge" => {
                simulation.stop().await;
                listens = false;
            }
            "broker" => room(&mut simulation).broker = false,
            "plug" => simulation.relay("heater").online = false,
            _ => room(&mut simulation).silent = true,
        }
        let until = tokio::time::Instant::now() + LEASE + Duration::from_secs(5);
        simulation.pass_until(until, listens).await;
        assert_eq!(simulation.power("heater"), OFF, "{fault}");
        assert_eq!(simulation.violations, [""; 0], "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_heater_that_its_countdown_switched_off_is_logged() {
    let (log, _guard) = logging();
    let mut simulation = simulation(heated(Vec::new()), 15.0).await;
    simulation.pass("20m 30s").await;
    simulation.relay("heater").online = false;
    simulation.pass("11m").await;
    simulation.relay("heater").online = true;
    simulation.pass("10s").await;
    let text = log.text();
    let lines = text
        .lines()
        .filter(|line| line.contains("its countdown switched it off"));
    assert_eq!(
        lines.filter(|line| line.contains("outlet=heater")).count(),
        1,
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_thermometer_is_off_with_a_reason_and_an_event() {
    let mut simulation = simulation(heated(Vec::new()), 15.0).await;
    simulation.pass("5m").await;
    room(&mut simulation).silent = true;
    simulation.pass("11m").await;
    assert_eq!(simulation.power("heater"), OFF);
    let group = simulation.group();
    assert_eq!((group.source, group.expected), (Source::Safety, Some(OFF)));
    assert_eq!(group.rule.as_deref(), Some("thermometer"));
    let reason = group.reason.to_string();
    assert!(
        reason.starts_with("thermometer room silent since 06:1"),
        "{reason}"
    );
    assert_eq!(simulation.count(EventKind::SafetyTrip), 1);
    assert_eq!(simulation.count(EventKind::SensorStale), 1);
    let refused = simulation.set("heater", ON).await;
    assert_eq!(simulation.code(refused), Some(Err(ErrorCode::RefusedBySafety)));
    room(&mut simulation).silent = false;
    simulation.pass("2m").await;
    assert_eq!(simulation.power("heater"), ON);
    assert_eq!(simulation.count(EventKind::SensorBack), 1);
}

#[tokio::test(start_paused = true)]
async fn an_on_by_hand_runs_only_while_the_thermometer_reports() {
    let mut simulation = simulation(heated(vec![warm("day", "06:00", "22:00", 16.0)]), 19.0).await;
    let command = simulation.set("heater", ON).await;
    simulation.pass("30m").await;
    assert_eq!(simulation.code(command), Some(Ok(())));
    assert_eq!(simulation.power("heater"), ON, "whatever the temperature is");
    room(&mut simulation).silent = true;
    simulation.pass("10m 5s").await;
    assert_eq!(simulation.power("heater"), OFF);
    room(&mut simulation).silent = false;
    simulation.pass("2m").await;
    assert_eq!(simulation.power("heater"), ON, "until its override ends");
    simulation.set("heater", OFF).await;
    simulation.pass("1m").await;
    room(&mut simulation).celsius = 3.0;
    simulation.pass("10m").await;
    assert_eq!(simulation.power("heater"), OFF, "also below the frost protection");
    assert_eq!(simulation.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn schedules_have_targets_and_frost_protection_is_below_all() {
    let schedules = vec![
        warm("morning", "06:30", "08:00", 23.0),
        schedule("day", "08:00", "10:00"),
    ];
    let mut simulation = simulation(heated(schedules), 20.0).await;
    simulation.pass("5m").await;
    assert_eq!(simulation.power("heater"), OFF);
    let reason = simulation.group().reason.to_string();
    assert!(
        reason.starts_with("next: morning, 06:30; frost protection only; room 19."),
        "{reason}"
    );
    simulation.until("2024-01-10T06:30:01").await;
    let reason = simulation.group().reason.to_string();
    assert_eq!(simulation.power("heater"), ON, "{reason}");
    assert!(
        reason.starts_with("schedule morning until 08:00; target 23 °C; room 18."),
        "{reason}"
    );
    simulation.until("2024-01-10T10:00:01").await;
    let reached = room(&mut simulation).celsius;
    assert!(
        (20.5..=21.8).contains(&reached),
        "the target of the thermostat: {reached}"
    );
    assert_eq!(simulation.power("heater"), OFF);
    room(&mut simulation).celsius = 4.5;
    simulation.pass("2m 30s").await;
    assert_eq!(simulation.power("heater"), ON);
    assert_eq!(simulation.group().rule.as_deref(), Some("frost"));
    simulation.request(Request::Vacation(Some(true))).await.unwrap();
    simulation.pass("30m").await;
    assert_eq!(simulation.power("heater"), OFF);
    assert!(room(&mut simulation).celsius < 6.0);
}

#[tokio::test(start_paused = true)]
async fn the_setback_is_held_outside_of_windows_and_in_vacation() {
    let thermostat = Thermostat {
        setback: Some(celsius(16.0)),
        ..thermostat(21.0)
    };
    let rules = heated_by(thermostat, vec![schedule("day", "08:00", "22:00")]);
    let mut simulation = simulation(rules, 15.0).await;
    simulation.pass("3m").await;
    assert_eq!(simulation.power("heater"), ON);
    simulation.until("2024-01-10T07:59:00").await;
    let held = room(&mut simulation).celsius;
    assert!((15.5..=16.5).contains(&held), "{held}");
    simulation.request(Request::Vacation(Some(true))).await.unwrap();
    simulation.until("2024-01-10T12:00:00").await;
    let held = room(&mut simulation).celsius;
    assert!((15.5..=16.5).contains(&held), "{held}");
    let group = simulation.group();
    assert_eq!(group.source, Source::Vacation);
    assert!(
        group.reason.to_string().contains("setback 16 °C"),
        "{}",
        group.reason
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_now_and_then_and_not_with_each_value() {
    let mut simulation = simulation(heated(Vec::new()), 10.0).await;
    simulation.pass("2h").await;
    assert_eq!(simulation.power("heater"), ON);
    assert_eq!(simulation.flips.len(), 1);
    // A third of 10 min, less up to the time between two values.
    assert!(
        (25..=41).contains(&simulation.ends_sent),
        "{}",
        simulation.ends_sent
    );
    assert_eq!(simulation.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_under_the_lease_of_before() {
    let mut simulation = simulation(heated(Vec::new()), 10.0).await;
    simulation.pass("20m").await;
    simulation.restart(Duration::from_secs(20)).await;
    simulation.pass("2m").await;
    assert_eq!((simulation.power("heater"), simulation.flips.len()), (ON, 1));
    // No value comes after this one: the lease ends within the five minutes that others wait.
    room(&mut simulation).silent = true;
    simulation.pass("8m 10s").await;
    simulation.restart(Duration::from_secs(20)).await;
    assert_eq!(simulation.power("heater"), ON);
    simulation.pass("2m").await;
    assert_eq!(simulation.power("heater"), OFF);
    assert_eq!(simulation.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_kept_of_a_dead_thermometer_heats_nothing() {
    let mut simulation = simulation(heated(Vec::new()), 10.0).await;
    simulation.pass("20m").await;
    room(&mut simulation).silent = true;
    for _ in 0..4 {
        simulation.restart(Duration::from_secs(20)).await;
        simulation.retain("home/room", "10.0").await;
        simulation.pass("4m").await;
    }
    assert_eq!((simulation.power("heater"), simulation.flips.len()), (OFF, 2));
    assert_eq!(simulation.violations, [""; 0]);
    // The same value, published now, counts.
    simulation.publish("home/room", "10.0").await;
    simulation.pass("5s").await;
    assert_eq!(simulation.power("heater"), ON);
}

fn without_thermostat(mut rules: Rules) -> Rules {
    rules.groups[0].thermostat = None;
    rules
}

fn without_group(mut rules: Rules) -> Rules {
    rules.groups.clear();
    rules
}

/// The settings without what heats: without the thermostat of the group, or without the group.
const GONE: [fn(Rules) -> Rules; 2] = [without_thermostat, without_group];

#[tokio::test(start_paused = true)]
async fn a_heater_whose_thermostat_is_gone_goes_off_with_its_lease() {
    for gone in GONE {
        let mut simulation = simulation(heated(Vec::new()), 10.0).await;
        simulation.pass("20m").await;
        simulation.reload(gone(heated(Vec::new())), &["heater"]).await;
        simulation.lease = None;
        simulation.pass("1m").await;
        assert_eq!(simulation.power("heater"), ON);
        simulation.pass("10m").await;
        assert_eq!((simulation.power("heater"), simulation.flips.len()), (OFF, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_outlives_a_new_name_and_settings_of_another_start() {
    for gone in GONE {
        for (name, over_a_start) in [("heater", true), ("stove", true), ("stove", false)] {
            let mut simulation = simulation(heated(Vec::new()), 10.0).await;
            simulation.pass("20m").await;
            simulation.lease = None;
            let mut rules = heated(Vec::new());
            rules.groups[0].outlets = vec![name.parse().unwrap()];
            let devices = [Device::new(name, &hardware("heater"), &[])];
            if over_a_start {
                simulation.stop().await;
                simulation.configure(gone(rules), &devices);
                simulation.start().await;
            } else {
                simulation.reload_as(gone(rules), &devices).await;
            }
            simulation.pass("1m").await;
            assert_eq!(simulation.power(name), ON, "{name} {over_a_start}");
            simulation.pass("10m").await;
            assert_eq!(simulation.power(name), OFF, "{name} {over_a_start}");
            // Whatever a person does after that is theirs.
            simulation.press(name);
            simulation.pass("20m").await;
            assert_eq!(simulation.power(name), ON, "{name} {over_a_start}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_duty_protects_against_frost_without_a_thermometer() {
    let thermostat = Thermostat {
        when_unknown: "duty 20%".parse().unwrap(),
        ..thermostat(21.0)
    };
    let mut simulation = simulation(heated_by(thermostat, Vec::new()), 15.0).await;
    simulation.lease = None;
    simulation.pass("5m").await;
    room(&mut simulation).silent = true;
    simulation.pass("12m").await;
    simulation.flips.clear();
    simulation.pass("4h").await;
    let on: Vec<_> = simulation.flips.iter().filter(|flip| flip.power == ON).collect();
    let off: Vec<_> = simulation.flips.iter().filter(|flip| flip.power == OFF).collect();
    assert_eq!((on.len(), off.len()), (8, 8));
    for (on, off) in on.iter().zip(&off) {
        let ran = off.at.since(on.at).as_secs();
        assert!((355..=362).contains(&ran), "{ran} s of 6 min");
    }
    // Without the bridge it ends all the same.
    simulation.pass("12m").await;
    assert_eq!(simulation.power("heater"), OFF);
}

#[tokio::test(start_paused = true)]
async fn without_a_countdown_the_bridge_alone_ends_a_lease() {
    let mut simulation = simulation(heated(Vec::new()), 15.0).await;
    simulation.relay("heater").countdown = DeviceCountdown::Unsupported;
    simulation.pass("5m").await;
    assert_eq!(simulation.power("heater"), ON);
    assert_eq!(
        simulation.standing("heater").failsafe,
        Some(FailSafeState::Unsupported)
    );
    room(&mut simulation).silent = true;
    simulation.pass("10m 5s").await;
    assert_eq!(simulation.power("heater"), OFF);
    assert_eq!(simulation.violations, [""; 0]);
}

/// What a DS18B20 without its wire shows.
const BROKEN: &str = "-127";

#[tokio::test(start_paused = true)]
async fn a_broken_thermometer_counts_as_silent() {
    // The other one is what a DS18B20 shows before it measures.
    for shown in [BROKEN, "85"] {
        shows_only(shown).await;
    }
}

async fn shows_only(shown: &str) {
    let mut simulation = simulation(heated(Vec::new()), 15.0).await;
    simulation.pass("5m").await;
    assert_eq!(simulation.power("heater"), ON);
    room(&mut simulation).silent = true;
    for _ in 0..11 {
        simulation.publish("home/room", shown).await;
        simulation.pass("1m").await;
    }
    assert_eq!(simulation.power("heater"), OFF);
    assert_eq!(simulation.count(EventKind::SensorStale), 1, "{shown}");
    let group = simulation.group();
    assert_eq!(
        (group.source, group.safety),
        (Source::Safety, SafetyState::Tripped)
    );
    let reason = group.reason.to_string();
    let expected = format!("thermometer room {shown} °C is not plausible since 06:1");
    assert!(reason.starts_with(&expected), "{reason}");
    assert_eq!(simulation.violations, [""; 0]);
}

fn of_duty(simulation: &Simulation) -> usize {
    simulation.flips.iter().filter(|flip| flip.power == ON).count()
}

#[tokio::test(start_paused = true)]
async fn a_thermometer_that_flaps_heats_as_one_that_is_sound() {
    for when_unknown in ["off", "duty 20%"] {
        let thermostat = Thermostat {
            when_unknown: when_unknown.parse().unwrap(),
            ..thermostat(21.0)
        };
        let mut simulation = simulation(heated_by(thermostat, Vec::new()), 21.0).await;
        let reached = room(&mut simulation);
        (reached.coldest, reached.hottest) = (reached.celsius, reached.celsius);
        for _ in 0..180 {
            simulation.pass("30s").await;
            simulation.publish("home/room", BROKEN).await;
            simulation.pass("30s").await;
        }
        let (coldest, hottest) = (room(&mut simulation).coldest, room(&mut simulation).hottest);
        assert!(coldest >= 20.5 && hottest <= 21.5, "{coldest} to {hottest}");
        assert_eq!(simulation.count(EventKind::SafetyTrip), 0, "{when_unknown}");
        assert_eq!(simulation.violations, [""; 0], "{when_unknown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_duty_goes_on_whatever_a_broken_thermometer_shows() {
    let thermostat = Thermostat {
        when_unknown: "duty 20%".parse().unwrap(),
        ..thermostat(21.0)
    };
    let mut simulation = simulation(heated_by(thermostat, Vec::new()), 15.0).await;
    simulation.lease = None;
    simulation.pass("5m").await;
    room(&mut simulation).silent = true;
    simulation.pass("11m").await;
    assert_eq!(simulation.power("heater"), OFF);
    let group = simulation.group();
    assert_eq!((group.next_state, group.next_change.is_some()), (Some(ON), true));
    simulation.flips.clear();
    for minute in 0..240 {
        // A broken one that comes and goes, and words that are no values.
        let shown = if minute % 2 == 0 { BROKEN } else { "85" };
        simulation.publish("home/room", shown).await;
        simulation.publish("home/room", "unavailable").await;
        simulation.pass("1m").await;
    }
    assert_eq!(of_duty(&simulation), 8, "each half hour");
    assert_eq!(simulation.count(EventKind::SafetyTrip), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thermometer_that_comes_and_goes_trips_once() {
    let mut simulation = simulation(heated(Vec::new()), 15.0).await;
    for _ in 0..6 {
        room(&mut simulation).silent = false;
        simulation.pass("5m").await;
        assert_eq!(simulation.power("heater"), ON);
        room(&mut simulation).silent = true;
        simulation.pass("12m").await;
        assert_eq!(simulation.power("heater"), OFF);
    }
    assert_eq!(simulation.count(EventKind::SafetyTrip), 1);
    room(&mut simulation).silent = false;
    simulation.pass("61m").await;
    room(&mut simulation).silent = true;
    simulation.pass("12m").await;
    assert_eq!(simulation.count(EventKind::SafetyTrip), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_missing_value_keeps_off_is_tripped_after_a_start() {
    let mut simulation = simulation(heated(Vec::new()), 15.0).await;
    room(&mut simulation).silent = true;
    simulation.pass("15m").await;
    simulation.restart(Duration::from_secs(20)).await;
    simulation.pass("10s").await;
    let group = simulation.group();
    assert_eq!(
        (group.source, group.safety),
        (Source::Safety, SafetyState::Tripped),
        "{}",
        group.reason
    );
    room(&mut simulation).silent = false;
    simulation.pass("70s").await;
    assert_eq!(simulation.group().safety, SafetyState::Clear);
}

fn tenths(degrees: f64) -> Tenths {
    Tenths::of(degrees).unwrap()
}

async fn heat(simulation: &mut Simulation, change: HeatingChange, lifetime: Option<Lifetime>) {
    let action = Action::Heat(change);
    let command = simulation.command("group/driveway", action, lifetime).await;
    simulation.pass("1s").await;
    assert_eq!(simulation.code(command), Some(Ok(())), "{change}");
}

fn shown(simulation: &Simulation) -> (Option<f64>, ThermostatMode, Preset) {
    let status = simulation.group().thermostat.unwrap();
    (
        status.target.map(Tenths::degrees),
        status.system_mode,
        status.preset,
    )
}

#[tokio::test(start_paused = true)]
async fn a_target_by_hand_lasts_until_the_next_edge_of_any_window() {
    let schedules = vec![
        warm("early", "06:30", "08:00", 19.0),
        warm("day", "08:00", "22:00", 20.0),
    ];
    let mut simulation = simulation(heated(schedules), 19.0).await;
    simulation.until("2024-01-10T07:00:00").await;
    heat(&mut simulation, HeatingChange::Target(tenths(23.0)), None).await;
    assert_eq!(
        shown(&simulation),
        (Some(23.0), ThermostatMode::Auto, Preset::None)
    );
    let reason = simulation.group().reason.to_string();
    assert!(
        reason.starts_with("manual target 23 °C (command at 07:00), until 08:00; room "),
        "{reason}"
    );
    simulation.restart(Duration::from_secs(10)).await;
    simulation.pass("2m").await;
    assert_eq!(shown(&simulation).0, Some(23.0), "it is in the state file");
    simulation.until("2024-01-10T08:00:01").await;
    assert_eq!(shown(&simulation).0, Some(20.0));
    assert_eq!(simulation.count(EventKind::OverrideEnded), 1);
    // A target for a length, and another in its place, which ends when that would.
    let length = Some(Lifetime::For("2h".parse().unwrap()));
    heat(&mut simulation, HeatingChange::Target(tenths(17.0)), length).await;
    simulation.pass("1h").await;
    heat(&mut simulation, HeatingChange::Target(tenths(16.0)), None).await;
    simulation.pass("59m 50s").await;
    assert_eq!(shown(&simulation).0, Some(16.0));
    simulation.pass("20s").await;
    assert_eq!(shown(&simulation).0, Some(20.0));
    assert_eq!(simulation.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn modes_and_presets_hold_until_they_are_taken_back() {
    let thermostat = Thermostat {
        setback: Some(celsius(16.0)),
        ..thermostat(21.0)
    };
    let rules = heated_by(thermostat, vec![schedule("day", "06:00", "22:00")]);
    let mut simulation = simulation(rules, 19.0).await;
    simulation.pass("5m").await;
    assert_eq!(simulation.power("heater"), ON);
    heat(
        &mut simulation,
        HeatingChange::Mode(ThermostatMode::Off, None),
        None,
    )
    .await;
    assert_eq!(shown(&simulation), (None, ThermostatMode::Off, Preset::None));
    assert_eq!(simulation.power("heater"), OFF, "at once, whatever min_on is");
    heat(
        &mut simulation,
        HeatingChange::Mode(ThermostatMode::Heat, Some(tenths(18.0))),
        None,
    )
    .await;
    assert_eq!(
        shown(&simulation),
        (Some(18.0), ThermostatMode::Heat, Preset::None)
    );
    heat(&mut simulation, HeatingChange::Target(tenths(19.0)), None).await;
    simulation.until("2024-01-11T03:00:00").await;
    assert_eq!(
        shown(&simulation),
        (Some(19.0), ThermostatMode::Heat, Preset::None)
    );
    heat(&mut simulation, HeatingChange::Preset(Preset::None), None).await;
    assert_eq!(shown(&simulation).1, ThermostatMode::Heat, "it is no preset");
    heat(&mut simulation, HeatingChange::Preset(Preset::Away), None).await;
    assert_eq!(
        shown(&simulation),
        (Some(16.0), ThermostatMode::Auto, Preset::Away)
    );
    heat(&mut simulation, HeatingChange::Preset(Preset::None), None).await;
    assert_eq!(
        shown(&simulation),
        (Some(16.0), ThermostatMode::Auto, Preset::None)
    );
    simulation.until("2024-01-11T06:00:01").await;
    heat(&mut simulation, HeatingChange::Preset(Preset::Boost), None).await;
    heat(&mut simulation, HeatingChange::Preset(Preset::Boost), None).await;
    assert_eq!(
        shown(&simulation),
        (Some(23.0), ThermostatMode::Auto, Preset::Boost)
    );
    simulation.pass("61m").await;
    assert_eq!(
        shown(&simulation),
        (Some(21.0), ThermostatMode::Auto, Preset::None)
    );
    assert_eq!(simulation.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_target_by_hand_belongs_to_its_relay() {
    let mut simulation = simulation(heated(vec![schedule("day", "06:00", "22:00")]), 19.0).await;
    let change = HeatingChange::Mode(ThermostatMode::Heat, Some(tenths(18.0)));
    heat(&mut simulation, change, None).await;
    let mut renamed = heated(vec![schedule("day", "06:00", "22:00")]);
    renamed.groups[0].id = "bath".parse().unwrap();
    simulation.reload(renamed, &["heater", "lamp", "spare"]).await;
    simulation.pass("1s").await;
    let status = simulation.groups["bath"].thermostat.unwrap();
    assert_eq!(status.target.map(Tenths::degrees), Some(18.0));
    let outside = simulation
        .command(
            "group/bath",
            Action::Heat(HeatingChange::Target(tenths(36.0))),
            None,
        )
        .await;
    assert_eq!(simulation.code(outside), Some(Err(ErrorCode::BadCommand)));
    let other = Action::Heat(HeatingChange::Preset(Preset::Away));
    let plug = simulation.command("heater", other, None).await;
    assert_eq!(simulation.code(plug), Some(Err(ErrorCode::BadCommand)));
}

#[tokio::test(start_paused = true)]
async fn without_its_thermostat_a_target_by_hand_means_nothing() {
    let mut simulation = simulation(heated(vec![schedule("day", "08:00", "22:00")]), 15.0).await;
    simulation.pass("3m").await;
    let change = HeatingChange::Mode(ThermostatMode::Heat, Some(tenths(21.0)));
    heat(&mut simulation, change, None).await;
    simulation.pass("5s").await;
    assert_eq!(simulation.power("heater"), ON);
    let mut plain = heated(vec![schedule("day", "08:00", "22:00")]);
    plain.groups[0].thermostat = None;
    simulation.reload(plain, &["heater", "lamp", "spare"]).await;
    simulation.pass("5s").await;
    assert_eq!(simulation.power("heater"), OFF, "outside of its window");
    assert!(simulation.kept().overrides.is_empty());
    assert_eq!(simulation.count(EventKind::OverrideEnded), 1);
}

#[tokio::test(start_paused = true)]
async fn plan_foresees_targets_and_what_decides_them() {
    let schedules = vec![
        warm("early", "06:30", "08:00", 22.0),
        warm("day", "08:00", "22:00", 20.0),
    ];
    let mut simulation = simulation(heated(schedules), 19.0).await;
    let plan = Request::Plan {
        group: None,
        days: 1,
        page: 1,
        draft: None,
    };
    let plan = simulation.request(plan).await.unwrap();
    let changes = plan["groups"][0]["changes"].as_array().unwrap();
    let short = |change: &serde_json::Value| {
        let at = change["at"].as_str().unwrap()[11..16].to_owned();
        (
            at,
            change["target"].as_f64(),
            change["rule"].as_str().map(str::to_owned),
        )
    };
    let day = |at: &str, target, rule: Option<&str>| (at.to_owned(), target, rule.map(str::to_owned));
    let expected = [
        day("06:30", Some(22.0), Some("early")),
        day("08:00", Some(20.0), Some("day")),
        day("22:00", None, None),
    ];
    let found: Vec<_> = changes.iter().map(short).collect();
    assert_eq!(found, expected, "{plan:#}");
    assert_eq!(changes[0]["state"], "ON", "at the temperature of now");
}

/// Something that dies or comes back, or that a person does.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The bridge is killed, and starts again after so many seconds.
    Restart(u64),
    /// From now on, or back.
    Broker,
    Plug,
    Thermometer,
    /// The wall clock is set.
    Jump(i64),
    /// ON or OFF for as long as [`BY_HAND`], and the same as a timer.
    Power(bool),
    Timed(bool),
    Heat(HeatingChange),
    Auto,
    /// Other targets, or those of before.
    Reload(bool),
}

/// How long an ON by hand lasts.
const BY_HAND: Duration = Duration::from_mins(20);

fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let target =
        (50_i32..=240).prop_map(|tenths| HeatingChange::Target(self::tenths(f64::from(tenths) / 10.0)));
    let mode = prop::sample::select(ThermostatMode::ALL.to_vec());
    let preset = prop::sample::select(Preset::ALL.to_vec());
    let heat = prop_oneof![
        2 => target,
        1 => mode.prop_map(|mode| HeatingChange::Mode(mode, None)),
        1 => preset.prop_map(HeatingChange::Preset),
    ];
    let step = prop_oneof![
        2 => (1_u64..1500).prop_map(Step::Restart),
        2 => Just(Step::Broker),
        2 => Just(Step::Plug),
        2 => Just(Step::Thermometer),
        2 => (-7200_i64..7200).prop_map(Step::Jump),
        2 => any::<bool>().prop_map(Step::Power),
        1 => any::<bool>().prop_map(Step::Timed),
        4 => heat.prop_map(Step::Heat),
        1 => Just(Step::Auto),
        1 => any::<bool>().prop_map(Step::Reload),
    ];
    prop::collection::vec((step, 1_u64..2400), 1..16)
}

/// How warm the room may be, °C: by the highest target so far, and by what an ON by hand heats.
struct Bound {
    target: f64,
    boost: f64,
    by_hand: f64,
}

impl Bound {
    /// Before a step.
    fn raise(&mut self, step: Step, room: &Room) {
        match step {
            Step::Heat(HeatingChange::Target(target)) => self.target = self.target.max(target.degrees()),
            Step::Heat(HeatingChange::Preset(Preset::Boost)) => self.boost = Thermostat::BOOST,
            Step::Power(true) | Step::Timed(true) => {
                self.by_hand = self.by_hand.max(room.celsius + room.heated_in(BY_HAND + LEASE));
            }
            _ => {}
        }
    }

    fn most(&self, room: &Room) -> f64 {
        let by_target = self.target + self.boost + Thermostat::HYSTERESIS + room.heated_in(LEASE);
        by_target.max(self.by_hand)
    }
}

async fn take(simulation: &mut Simulation, step: Step) {
    let by_hand = Some(Lifetime::For(
        Period::new(SignedDuration::try_from(BY_HAND).unwrap()).unwrap(),
    ));
    let (action, lifetime) = match step {
        Step::Restart(down) => return simulation.restart(Duration::from_secs(down)).await,
        Step::Broker => return room(simulation).broker ^= true,
        Step::Plug => return simulation.relay("heater").online ^= true,
        Step::Thermometer => return room(simulation).silent ^= true,
        Step::Jump(by) => return simulation.clock.jump(SignedDuration::from_secs(by)),
        Step::Reload(other) => {
            let rules = if other { other_targets() } else { two_targets() };
            return simulation.reload(rules, &["heater", "lamp", "spare"]).await;
        }
        Step::Power(on) => (Action::Switch(Switch::To(Power::from(on))), by_hand),
        Step::Timed(true) => (Action::OnFor(BY_HAND), None),
        Step::Timed(false) => (Action::OffFor(BY_HAND), None),
        Step::Heat(change) => (Action::Heat(change), None),
        Step::Auto => (Action::Auto, None),
    };
    simulation.command("group/driveway", action, lifetime).await;
}

fn two_targets() -> Rules {
    heated(vec![
        warm("early", "06:10", "07:00", 22.0),
        warm("day", "07:30", "22:00", 19.0),
    ])
}

fn other_targets() -> Rules {
    heated_by(thermostat(18.0), vec![warm("day", "06:00", "20:00", 20.5)])
}

/// What was broken of it: no value is needed for longer than a lease, and the room is never too hot.
async fn broken_by(steps: &[(Step, u64)], planted: bool) -> Vec<String> {
    let mut simulation = simulation(two_targets(), 18.0).await;
    simulation.without_countdowns = planted;
    let mut bound = Bound {
        target: 22.0,
        boost: 0.0,
        by_hand: f64::MIN,
    };
    let mut broken = Vec::new();
    for (step, seconds) in steps {
        bound.raise(*step, room(&mut simulation));
        take(&mut simulation, *step).await;
        simulation.pass_for(Duration::from_secs(*seconds)).await;
        let room = room(&mut simulation);
        let most = bound.most(room);
        if room.hottest > most {
            broken.push(format!("{} °C of {most} °C after {step:?}", room.hottest));
        }
        // An ON by hand counts from what the room has then.
        room.hottest = room.celsius;
    }
    broken.append(&mut simulation.violations);
    broken
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

#[test]
fn no_faults_nor_commands_overheat_the_room() {
    check(60, &steps(), |steps| -> TestCaseResult {
        let broken = runtime().block_on(broken_by(&steps, false));
        prop_assert!(broken.is_empty(), "{broken:?}");
        Ok(())
    });
}

#[test]
fn a_device_that_does_not_count_down_is_seen() {
    let warms_up = (Step::Jump(0), 1200);
    let by_hand = (Step::Power(true), 60);
    let dies = [warms_up, (Step::Plug, 2400)];
    let broken = runtime().block_on(broken_by(&dies, true));
    assert!(
        broken
            .iter()
            .any(|what| what.starts_with("heats without a value")),
        "{broken:?}"
    );
    for before in [warms_up, by_hand] {
        let killed = [before, (Step::Restart(20_000), 1)];
        let overheated = runtime().block_on(broken_by(&killed, true));
        assert!(
            overheated.iter().any(|what| what.contains("°C of")),
            "{overheated:?}"
        );
    }
}
