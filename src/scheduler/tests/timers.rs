//! Countdowns and timed OFFs.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    rules::{OFF, ON, morning, simulation},
    simulation::{DeviceCountdown, Simulation},
};
use crate::domain::{
    command::Action,
    command_error::ErrorCode,
    device_command::Switch,
    report::EventKind,
    scheduling::{FailSafeState, Request},
};
use planner::{
    Power,
    overrides::Lifetime,
    plan::Source,
    rules::{Group, Interlock, Limits},
    testing::{group, schedule},
};

fn manual() -> Group {
    group(Vec::new())
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

fn off_for(length: &str) -> (Action, Option<Lifetime>) {
    let lifetime = Lifetime::For(length.parse().unwrap());
    (Action::Switch(Switch::To(OFF)), Some(lifetime))
}

/// The seconds that a plug still counts.
fn counts(simulation: &mut Simulation, path: &str) -> u64 {
    match simulation.relay(path).countdown {
        DeviceCountdown::Until(end) => end.duration_since(Instant::now()).as_secs(),
        other => panic!("{other:?}"),
    }
}

async fn done(simulation: &mut Simulation, target: &str, change: Action) {
    let command = simulation.command(target, change, None).await;
    simulation.pass("1s").await;
    assert_eq!(simulation.code(command), Some(Ok(())), "{target} {change:?}");
}

/// A lamp in no group, on, and known to be.
async fn lamp() -> Simulation {
    let mut simulation = simulation(manual(), "2024-06-21T09:00:00").await;
    simulation.add("lamp", DeviceCountdown::Idle);
    simulation.pass("6s").await;
    simulation.set("lamp", ON).await;
    simulation.pass("1s").await;
    simulation
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_countdown_runs_on_the_plug_or_else_in_the_bridge() {
    let mut simulation = lamp().await;
    simulation.set("mats/1", ON).await;
    simulation.pass("1s").await;
    for target in ["lamp", "mats/1"] {
        done(&mut simulation, target, Action::CountDown(minutes(10))).await;
        let standing = simulation.standing(target);
        assert_eq!((standing.countdown, standing.timer_to), (600, Some(OFF)));
    }
    assert!(counts(&mut simulation, "lamp").abs_diff(600) <= 3);
    assert_eq!(
        simulation.standing("mats/1").failsafe,
        Some(FailSafeState::Unsupported)
    );
    let flips = simulation.switched.len();
    simulation.pass("9m 50s").await;
    assert_eq!((simulation.power("lamp"), simulation.power("mats/1")), (ON, ON));
    assert_eq!(
        simulation.switched.len(),
        flips,
        "nothing is switched by its start"
    );
    simulation.pass("15s").await;
    assert_eq!((simulation.power("lamp"), simulation.power("mats/1")), (OFF, OFF));
    assert_eq!(simulation.standing("lamp").countdown, 0);
    assert!(simulation.kept().timers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_countdown_outlives_the_bridge() {
    let mut simulation = lamp().await;
    simulation.set("mats/1", ON).await;
    simulation.pass("1s").await;
    for target in ["lamp", "mats/1"] {
        done(&mut simulation, target, Action::CountDown(minutes(10))).await;
    }
    simulation.restart(minutes(5)).await;
    simulation.pass("6s").await;
    assert_eq!(simulation.standing("lamp").countdown, 600, "as it was set");
    simulation.stop().await;
    simulation.pass_until(Instant::now() + minutes(10), false).await;
    assert_eq!((simulation.power("lamp"), simulation.power("mats/1")), (OFF, ON));
    simulation.start().await;
    simulation.pass("7s").await;
    assert_eq!(simulation.power("mats/1"), OFF, "late, but not never");
}

#[tokio::test(start_paused = true)]
async fn rule_12_zero_cancels_a_countdown_and_a_command_replaces_it() {
    let mut simulation = lamp().await;
    done(&mut simulation, "lamp", Action::CountDown(minutes(10))).await;
    done(&mut simulation, "lamp", Action::CountDown(minutes(20))).await;
    assert!(counts(&mut simulation, "lamp").abs_diff(1200) <= 3);
    done(&mut simulation, "lamp", Action::CancelCountdown).await;
    assert_eq!(simulation.relay("lamp").countdown, DeviceCountdown::Idle);
    assert!(simulation.kept().timers.is_empty());
    simulation.pass("30m").await;
    assert_eq!(simulation.power("lamp"), ON);
    done(&mut simulation, "lamp", Action::CancelCountdown).await;

    done(&mut simulation, "lamp", Action::CountDown(minutes(10))).await;
    done(&mut simulation, "lamp", Action::Switch(Switch::To(ON))).await;
    assert_eq!(
        simulation.relay("lamp").countdown,
        DeviceCountdown::Idle,
        "plain ON is without an end"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_12_what_is_off_is_not_switched_on_by_a_countdown() {
    let mut simulation = lamp().await;
    simulation.set("lamp", OFF).await;
    simulation.pass("1s").await;
    for target in ["lamp", "mats/1", "group/driveway"] {
        let command = simulation
            .command(target, Action::CountDown(minutes(10)), None)
            .await;
        assert_eq!(
            simulation.code(command),
            Some(Err(ErrorCode::BadCommand)),
            "{target}"
        );
    }
    // Of several, those that are on.
    simulation.set("mats/2", ON).await;
    simulation.pass("1s").await;
    done(&mut simulation, "group/driveway", Action::CountDown(minutes(10))).await;
    simulation.pass("1s").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    simulation.pass("10m").await;
    assert_eq!(simulation.power("mats/2"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_countdown_waits_for_its_device_and_expires() {
    let mut simulation = lamp().await;
    done(&mut simulation, "lamp", Action::CountDown(minutes(10))).await;
    simulation.relay("lamp").online = false;
    simulation.pass("6s").await;
    let command = simulation
        .command("lamp", Action::CountDown(minutes(5)), None)
        .await;
    assert_eq!(simulation.code(command), None, "nothing counts down yet");
    simulation.pass("1m").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::Expired)));
    simulation.pass("6m").await;
    assert_eq!(simulation.power("lamp"), ON, "it goes on as before");
    simulation.pass("4m").await;
    simulation.relay("lamp").online = true;
    simulation.pass("6s").await;
    assert_eq!(simulation.power("lamp"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_countdown_that_its_device_refuses_changes_nothing() {
    let mut simulation = lamp().await;
    done(&mut simulation, "lamp", Action::CountDown(minutes(10))).await;
    simulation.relay("lamp").stubborn = true;
    let command = simulation
        .command("lamp", Action::CountDown(minutes(60)), None)
        .await;
    simulation.pass("1s").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::NotConfirmed)));
    assert_eq!(simulation.standing("lamp").countdown, 600, "as it was before");
    assert!(counts(&mut simulation, "lamp").abs_diff(600) <= 4);
    simulation.relay("lamp").stubborn = false;
    simulation.pass("10m").await;
    assert_eq!(simulation.power("lamp"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_timed_on_that_failed_expects_nothing() {
    let mut simulation = lamp().await;
    simulation.set("lamp", OFF).await;
    simulation.pass("1s").await;
    simulation.relay("lamp").stubborn = true;
    let command = simulation.command("lamp", Action::OnFor(minutes(10)), None).await;
    simulation.pass("5m").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::NotConfirmed)));
    let standing = simulation.standing("lamp");
    assert_eq!((standing.expected, standing.mismatch), (None, Some(false)));
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_countdown_does_not_prolong_a_limit() {
    let mut limited = manual();
    limited.outlets = vec!["heater".parse().unwrap()];
    limited.limits = Limits {
        max_on: "30m".parse().unwrap(),
        ..Limits::NONE
    };
    let mut simulation = simulation(limited, "2024-06-21T09:00:00").await;
    simulation.pass("6s").await;
    simulation.set("heater", ON).await;
    simulation.pass("1s").await;
    done(&mut simulation, "heater", Action::CountDown(minutes(60))).await;
    assert!(counts(&mut simulation, "heater").abs_diff(1800) <= 4);
    done(&mut simulation, "heater", Action::CountDown(minutes(10))).await;
    assert!(counts(&mut simulation, "heater").abs_diff(600) <= 4);
    done(&mut simulation, "heater", Action::CancelCountdown).await;
    assert!(
        counts(&mut simulation, "heater").abs_diff(1800) <= 6,
        "the limit holds on"
    );
}

/// A heater that is on by day, and again for an hour of the night.
async fn by_day_and_night() -> Simulation {
    let mut group = group(vec![
        schedule("day", "08:00", "20:00"),
        schedule("night", "22:00", "23:00"),
    ]);
    group.outlets = vec!["heater".parse().unwrap()];
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.pass("6s").await;
    simulation
}

#[tokio::test(start_paused = true)]
async fn rule_12_after_a_countdown_schedules_wait_for_their_next_edge() {
    let mut simulation = by_day_and_night().await;
    assert_eq!(simulation.power("heater"), ON);
    done(&mut simulation, "heater", Action::CountDown(minutes(10))).await;
    let standing = simulation.standing("heater");
    assert_eq!((standing.expected, standing.source), (Some(ON), Source::Schedule));
    assert!(
        standing
            .reason
            .as_ref()
            .unwrap()
            .to_string()
            .contains("countdown")
    );
    assert!(counts(&mut simulation, "heater").abs_diff(600) <= 3);
    simulation.pass("10m 10s").await;
    assert_eq!(simulation.power("heater"), OFF);
    assert_eq!(simulation.count(EventKind::OverrideSet), 1);
    let flips = simulation.switched.len();
    simulation.until("2024-06-21T21:59:00").await;
    assert_eq!(
        (simulation.power("heater"), simulation.switched.len()),
        (OFF, flips)
    );
    simulation.until("2024-06-21T22:00:02").await;
    assert_eq!(simulation.power("heater"), ON);
    // The end of the window comes first: nothing is left of the countdown.
    done(&mut simulation, "heater", Action::CountDown(minutes(120))).await;
    simulation.until("2024-06-21T23:00:05").await;
    assert_eq!(
        (simulation.power("heater"), simulation.kept().timers.len()),
        (OFF, 0)
    );
}

/// Time of day, outlets, state and reason of each change that `plan` has for the first group.
async fn planned(simulation: &mut Simulation) -> Vec<String> {
    let request = Request::Plan {
        group: None,
        days: 1,
        page: 1,
        draft: None,
    };
    let plan = simulation.request(request).await.unwrap();
    let changes = plan["groups"][0]["changes"].as_array().unwrap().iter();
    changes
        .map(|change| {
            let at = &change["at"].as_str().unwrap()[11..16];
            format!(
                "{at} {} {} {}",
                change["outlets"], change["state"], change["reason"]
            )
            .replace('"', "")
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn rule_13_a_plan_knows_the_countdown_of_an_outlet() {
    let mut simulation = by_day_and_night().await;
    done(&mut simulation, "heater", Action::CountDown(minutes(10))).await;
    let expected = [
        "09:10 [heater] OFF manual OFF (command at 09:10), until 22:00",
        "22:00 [heater] ON schedule night until 23:00",
        "23:00 [heater] OFF next: day, Sat 08:00",
        "08:00 [heater] ON schedule day until 20:00",
    ];
    assert_eq!(planned(&mut simulation).await, expected);
    simulation.until("2024-06-21T09:10:10").await;
    assert_eq!(simulation.power("heater"), OFF);
    assert_eq!(planned(&mut simulation).await, expected[1..]);
    // The end of the window comes first: nothing is left of the countdown.
    simulation.until("2024-06-21T22:30:00").await;
    done(&mut simulation, "heater", Action::CountDown(minutes(120))).await;
    assert_eq!(planned(&mut simulation).await[..2], expected[2..]);
}

#[tokio::test(start_paused = true)]
async fn rule_13_a_plan_knows_timers_where_there_are_no_schedules() {
    let mut group = group(Vec::new());
    group.limits.min_off = "30m".parse().unwrap();
    let mut simulation = simulation(group, "2024-06-21T08:00:00").await;
    simulation.until("2024-06-21T09:00:00").await;
    done(&mut simulation, "mats/1", Action::OnFor(minutes(10))).await;
    assert_eq!(
        planned(&mut simulation).await,
        ["09:10 [mats/1] OFF timed ON ended"]
    );
    simulation.until("2024-06-21T09:20:00").await;
    // It may go on again at 09:40 only.
    done(&mut simulation, "mats/1", Action::OffFor(minutes(5))).await;
    assert_eq!(
        planned(&mut simulation).await,
        ["09:40 [mats/1] ON timed OFF ended"]
    );
    simulation.until("2024-06-21T09:41:00").await;
    assert_eq!(simulation.power("mats/1"), ON);
    assert!(planned(&mut simulation).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_countdown_that_ended_unseen_is_an_override() {
    let mut group = group(vec![schedule("day", "08:00", "20:00")]);
    group.outlets = vec!["heater".parse().unwrap()];
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.pass("6s").await;
    done(&mut simulation, "heater", Action::CountDown(minutes(10))).await;
    simulation.restart(minutes(30)).await;
    simulation.pass("1m").await;
    assert_eq!(simulation.power("heater"), OFF);
    simulation.pass("60m").await;
    assert_eq!(simulation.power("heater"), OFF, "until the next edge");
    simulation.set("heater", ON).await;
    simulation.pass("1s").await;
    assert_eq!(simulation.power("heater"), ON);
}

#[tokio::test(start_paused = true)]
async fn rule_11_a_countdown_of_the_app_is_shown_and_ends_by_command() {
    let mut simulation = lamp().await;
    simulation.relay("lamp").countdown = DeviceCountdown::Until(Instant::now() + minutes(30));
    simulation.pass("6s").await;
    let standing = simulation.standing("lamp");
    assert_eq!((standing.device_timer_to, standing.countdown), (Some(OFF), 0));
    assert!(standing.device_timer_until.is_some());
    // Another command of ours leaves it alone, and the bridge counts beside it.
    done(&mut simulation, "lamp", Action::CountDown(minutes(10))).await;
    assert!(counts(&mut simulation, "lamp").abs_diff(1800) <= 10);
    done(&mut simulation, "lamp", Action::CancelCountdown).await;
    assert_eq!(simulation.relay("lamp").countdown, DeviceCountdown::Idle);
    simulation.pass("6s").await;
    assert_eq!(simulation.standing("lamp").device_timer_until, None);
    assert!(simulation.kept().timers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn rule_12_timed_off_ends_for_outlets_in_groups_and_in_none() {
    for (change, lifetime) in [(Action::OffFor(minutes(10)), None), off_for("10m")] {
        let mut simulation = lamp().await;
        for target in ["lamp", "mats/1"] {
            let command = simulation.command(target, change, lifetime).await;
            simulation.pass("1s").await;
            assert_eq!(
                (simulation.code(command), simulation.power(target)),
                (Some(Ok(())), OFF)
            );
            let standing = simulation.standing(target);
            assert_eq!((standing.timer_to, standing.expected), (Some(ON), Some(OFF)));
            assert_eq!(standing.countdown, 0, "that is a timer to OFF");
        }
        simulation.pass("9m 50s").await;
        assert_eq!((simulation.power("lamp"), simulation.power("mats/1")), (OFF, OFF));
        simulation.pass("15s").await;
        assert_eq!((simulation.power("lamp"), simulation.power("mats/1")), (ON, ON));
        assert!(simulation.kept().timers.is_empty());
        simulation.set("lamp", OFF).await;
        simulation.pass("1m").await;
        assert_eq!(simulation.power("lamp"), OFF, "once");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_12_timed_off_survives_a_restart_and_ends_by_a_command() {
    let mut simulation = lamp().await;
    done(&mut simulation, "lamp", Action::OffFor(minutes(10))).await;
    simulation.restart(minutes(5)).await;
    simulation.pass("5m 10s").await;
    assert_eq!(simulation.power("lamp"), ON);

    done(&mut simulation, "lamp", Action::OffFor(minutes(10))).await;
    done(&mut simulation, "lamp", Action::Switch(Switch::To(OFF))).await;
    simulation.pass("20m").await;
    assert_eq!(simulation.power("lamp"), OFF, "a plain OFF has no end");

    done(&mut simulation, "lamp", Action::OffFor(minutes(10))).await;
    simulation.press("lamp");
    simulation.pass("6s").await;
    assert!(simulation.kept().timers.is_empty(), "it was switched on");
}

#[tokio::test(start_paused = true)]
async fn rule_12_timed_off_that_failed_switches_nothing_on() {
    let mut simulation = lamp().await;
    simulation.relay("lamp").online = false;
    let command = simulation.command("lamp", Action::OffFor(minutes(1)), None).await;
    simulation.pass("5s").await;
    assert!(
        simulation.kept().timers.is_empty(),
        "not before the device confirmed it"
    );
    simulation.pass("6s").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::Expired)));
    simulation.relay("lamp").on_since = None;
    simulation.relay("lamp").online = true;
    simulation.pass("10m").await;
    assert_eq!(simulation.power("lamp"), OFF);
}

/// A command that its device answers with an error.
async fn refused(simulation: &mut Simulation, action: Action) {
    simulation.relay("lamp").stubborn = true;
    let command = simulation.command("lamp", action, None).await;
    simulation.pass("2s").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::NotConfirmed)));
    simulation.relay("lamp").stubborn = false;
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_timed_off_that_failed_leaves_the_timed_on() {
    let mut simulation = lamp().await;
    done(&mut simulation, "lamp", Action::OnFor(minutes(5))).await;
    refused(&mut simulation, Action::OffFor(minutes(20))).await;
    assert_eq!(simulation.power("lamp"), ON);
    simulation.pass("5m").await;
    assert_eq!(simulation.power("lamp"), OFF, "the timed ON is over");
    simulation.pass("1h").await;
    assert_eq!(simulation.power("lamp"), OFF);
    assert!(simulation.kept().timers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_refused_timed_off_switches_nothing_on() {
    let mut simulation = lamp().await;
    done(&mut simulation, "lamp", Action::Switch(Switch::To(ON))).await;
    refused(&mut simulation, Action::OffFor(minutes(1))).await;
    simulation.relay("lamp").on_since = None;
    simulation.pass("10m").await;
    assert_eq!(simulation.power("lamp"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_timed_on_that_failed_prolongs_no_other() {
    let mut simulation = lamp().await;
    done(&mut simulation, "lamp", Action::OnFor(minutes(5))).await;
    refused(&mut simulation, Action::OnFor(minutes(60))).await;
    simulation.pass("5m").await;
    assert_eq!(simulation.power("lamp"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_12_timed_off_asks_the_limits_when_it_ends_and_waits() {
    let mut limited = manual();
    limited.limits = Limits {
        min_off: "30m".parse().unwrap(),
        ..Limits::NONE
    };
    let mut simulation = simulation(limited, "2024-06-21T09:00:00").await;
    simulation.pass("31m").await;
    done(&mut simulation, "mats/1", Action::Switch(Switch::To(ON))).await;
    done(&mut simulation, "mats/1", Action::OffFor(minutes(5))).await;
    simulation.pass("29m").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    assert_eq!(simulation.count(EventKind::RefusedBySafety), 1, "reported once");
    let standing = simulation.standing("mats/1");
    assert_eq!((standing.expected, standing.mismatch), (Some(OFF), Some(false)));
    let reason = standing.reason.as_ref().unwrap().to_string();
    assert!(reason.contains("min_off"), "{reason}");
    simulation.pass("1m 10s").await;
    assert_eq!(simulation.power("mats/1"), ON);
    assert!(simulation.kept().timers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn rule_12_timed_off_of_an_outlet_away_for_a_day_is_dropped() {
    let mut simulation = lamp().await;
    done(&mut simulation, "lamp", Action::OffFor(minutes(5))).await;
    simulation.relay("lamp").online = false;
    simulation.pass("25h").await;
    simulation.relay("lamp").online = true;
    simulation.pass("5m").await;
    assert_eq!(simulation.power("lamp"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_12_in_a_scheduled_group_timed_off_is_an_override() {
    let mut simulation = simulation(morning(), "2024-06-21T06:30:00").await;
    simulation.pass("6s").await;
    assert_eq!(simulation.power("mats/1"), ON);
    done(&mut simulation, "mats/1", Action::OffFor(minutes(10))).await;
    assert_eq!(simulation.power("mats/1"), OFF);
    assert!(simulation.standing("mats/1").override_until.is_some());
    simulation.pass("10m").await;
    assert_eq!(simulation.power("mats/1"), ON, "the window is open");
    simulation.until("2024-06-21T07:55:00").await;
    done(&mut simulation, "mats/1", Action::OffFor(minutes(10))).await;
    simulation.pass("15m").await;
    assert_eq!(
        simulation.power("mats/1"),
        Power::Off,
        "the window closed meanwhile"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_12_timed_off_does_not_replace_an_interlocked_outlet() {
    let mut locked = manual();
    locked.interlock = Interlock::OneOn;
    let mut simulation = simulation(locked, "2024-06-21T09:00:00").await;
    done(&mut simulation, "mats/1", Action::Switch(Switch::To(ON))).await;
    done(&mut simulation, "mats/1", Action::OffFor(minutes(5))).await;
    done(&mut simulation, "mats/2", Action::Switch(Switch::To(ON))).await;
    simulation.pass("10m").await;
    assert_eq!(
        (simulation.power("mats/1"), simulation.power("mats/2")),
        (OFF, ON)
    );
    assert!(simulation.kept().timers.is_empty());
    done(&mut simulation, "mats/2", Action::OffFor(minutes(5))).await;
    simulation.pass("6m").await;
    assert_eq!(
        (simulation.power("mats/1"), simulation.power("mats/2")),
        (OFF, ON)
    );
}

#[tokio::test(start_paused = true)]
async fn rule_13_each_outlet_shows_its_last_change_and_the_cause() {
    let mut limited = manual();
    limited.limits.max_on = "30m".parse().unwrap();
    let mut simulation = simulation(limited, "2024-06-21T09:00:00").await;
    simulation.add("lamp", DeviceCountdown::Idle);
    simulation.pass("6s").await;
    let shown = |simulation: &Simulation, path: &str| {
        let standing = simulation.standing(path);
        let reason = standing.reason.as_ref().map(ToString::to_string);
        (
            reason.unwrap_or_default(),
            standing.since.map(|since| since.to_string()),
        )
    };
    let at = |time: &str| Some(format!("2024-06-21T{time}Z"));
    assert!(
        !simulation.outlets.contains_key(&"lamp".parse().unwrap()),
        "nothing was seen yet"
    );
    simulation.until("2024-06-21T09:10:00").await;
    simulation.set("lamp", ON).await;
    simulation.set("mats/1", ON).await;
    simulation.pass("1s").await;
    assert_eq!(
        shown(&simulation, "lamp"),
        ("ON (command)".to_owned(), at("09:10:00"))
    );
    let manual = "ON (command); no schedules, manual control".to_owned();
    assert_eq!(shown(&simulation, "mats/1"), (manual, at("09:10:00")));
    simulation.until("2024-06-21T09:20:00").await;
    simulation.press("lamp");
    simulation.pass("6s").await;
    assert_eq!(
        shown(&simulation, "lamp"),
        ("OFF (button or app)".to_owned(), at("09:20:05"))
    );

    // A limit, the countdown of a plug, a timer.
    done(&mut simulation, "lamp", Action::OnFor(minutes(10))).await;
    done(&mut simulation, "mats/2", Action::OnFor(minutes(10))).await;
    simulation.until("2024-06-21T11:00:00").await;
    for (path, expected) in [
        ("mats/1", "OFF (limit); no schedules, manual control"),
        ("mats/2", "OFF (timer); no schedules, manual control"),
        ("lamp", "OFF (countdown of the device)"),
    ] {
        assert_eq!(shown(&simulation, path).0, expected, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_timed_on_is_on_disk_before_the_relay_closes() {
    let mut simulation = lamp().await;
    simulation.set("lamp", OFF).await;
    simulation.pass("1s").await;
    simulation.disk_writes(false);
    // A plug ends its run without the bridge.
    simulation.command("lamp", Action::OnFor(minutes(10)), None).await;
    let strip = simulation
        .command("mats/1", Action::OnFor(minutes(10)), None)
        .await;
    simulation.pass_for(Duration::from_millis(100)).await;
    assert_eq!((simulation.power("lamp"), simulation.power("mats/1")), (ON, OFF));
    simulation.disk_writes(true);
    simulation.pass_for(Duration::from_millis(60)).await;
    assert_eq!(
        (simulation.code(strip), simulation.power("mats/1")),
        (Some(Ok(())), ON)
    );
    assert_eq!(simulation.notes.get(&strip), None);

    // A disk that does not answer is not waited for longer, and that is said.
    simulation.disk_writes(false);
    let slow = simulation
        .command("mats/2", Action::OnFor(minutes(10)), None)
        .await;
    simulation.pass_for(Duration::from_millis(240)).await;
    assert_eq!(simulation.power("mats/2"), OFF);
    simulation.pass("1s").await;
    assert_eq!(
        (simulation.code(slow), simulation.power("mats/2")),
        (Some(Ok(())), ON)
    );
    let note = "mats/2: its end is not in the state file yet; a crash now would lose it";
    assert_eq!(simulation.notes[&slow], note);

    // OFF does not wait for the disk, and what waits gives way to it.
    simulation.set("mats/2", OFF).await;
    simulation.pass("1s").await;
    let on = simulation
        .command("mats/2", Action::OnFor(minutes(10)), None)
        .await;
    simulation.set("mats/2", OFF).await;
    simulation.pass("1s").await;
    assert_eq!(simulation.code(on), Some(Err(ErrorCode::Superseded)));
    assert_eq!(simulation.power("mats/2"), OFF);
}
