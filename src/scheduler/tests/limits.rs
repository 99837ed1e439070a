//! Limits and countdowns.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    rules::{OFF, ON, morning, rules, simulation},
    simulation::{DeviceCountdown, Simulation},
};
use crate::domain::{
    command::Action, command_error::ErrorCode, device_command::Switch, report::EventKind,
    scheduling::FailSafeState,
};
use planner::{
    overrides::Lifetime,
    plan::{SafetyState, Source},
    rules::{Group, Limits},
    testing::{group, schedule},
};

fn limits(max_on: &str, cooldown: &str) -> Limits {
    Limits {
        max_on: max_on.parse().unwrap(),
        cooldown: cooldown.parse().unwrap(),
        ..Limits::NONE
    }
}

/// A plug with a countdown, without schedules.
fn heater() -> Group {
    let mut group = group(Vec::new());
    group.outlets = vec!["heater".parse().unwrap()];
    group.limits = limits("6h", "30m");
    group
}

fn counts_for(simulation: &mut Simulation, path: &str) -> Duration {
    match simulation.relay(path).countdown {
        DeviceCountdown::Until(end) => end.duration_since(Instant::now()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_costs_one_look_at_its_group_and_no_message() {
    let mut group = morning();
    group.outlets = vec!["heater".parse().unwrap()];
    group.limits = limits("6h", "30m");
    let mut simulation = simulation(group, "2024-06-21T06:30:00").await;
    simulation.pass("1m").await;
    for power in [OFF, ON, OFF, ON] {
        let before = (simulation.group_updates, simulation.ends_sent);
        let command = simulation.set("heater", power).await;
        simulation.pass("5s").await;
        assert_eq!(simulation.code(command), Some(Ok(())));
        let after = (simulation.group_updates, simulation.ends_sent);
        assert_eq!(after, (before.0 + 1, before.1), "{power}");
    }
    // The override ends with the window, before the limit.
    let left = counts_for(&mut simulation, "heater").as_secs();
    assert!((5300..=5400).contains(&left), "{left}");
}

#[tokio::test(start_paused = true)]
async fn rule_07_a_plug_switched_on_by_its_button_trips_at_max_on() {
    let mut simulation = simulation(heater(), "2024-06-21T09:00:00").await;
    simulation.relay("heater").countdown = DeviceCountdown::Unsupported;
    simulation.press("heater");
    simulation.until("2024-06-21T14:59:58").await;
    assert_eq!(simulation.power("heater"), ON);
    let limit_at = simulation.standing("heater").limit_at.unwrap();
    let due: Timestamp = "2024-06-21T15:00:00Z".parse().unwrap();
    assert!(
        limit_at.duration_since(due).abs() <= SignedDuration::from_secs(2),
        "{limit_at}"
    );
    simulation.until("2024-06-21T15:00:02").await;
    assert_eq!(simulation.power("heater"), OFF);
    assert_eq!(simulation.standing("heater").limit_at, None);
    assert_eq!(simulation.count(EventKind::SafetyTrip), 1);
    assert_eq!(simulation.group().safety, SafetyState::Tripped);
    assert_eq!(simulation.standing("heater").source, Source::Manual, "off anyway");
}

#[tokio::test(start_paused = true)]
async fn rule_07_a_cooldown_ends_also_where_the_day_is_used_up() {
    let mut group = heater();
    group.outlets = vec!["heater".parse().unwrap(), "mats/1".parse().unwrap()];
    group.limits.cooldown = "6s".parse().unwrap();
    group.limits.max_on_per_day = "15s".parse().unwrap();
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.set("heater", ON).await;
    simulation.pass("17s").await;
    assert_eq!(simulation.power("heater"), OFF);
    assert!(simulation.standing("heater").cooldown_until.is_some());
    assert_eq!(simulation.group().safety, SafetyState::Tripped);
    simulation.pass("8s").await;
    assert_eq!(simulation.standing("heater").cooldown_until, None);
    assert_eq!(simulation.group().cooldown_until, None);
}

#[tokio::test(start_paused = true)]
async fn rule_07_a_restart_two_hours_into_six_leaves_four() {
    let mut simulation = simulation(heater(), "2024-06-21T09:00:00").await;
    simulation.relay("heater").countdown = DeviceCountdown::Unsupported;
    simulation.set("heater", ON).await;
    simulation.until("2024-06-21T11:00:00").await;
    simulation.restart(Duration::from_mins(1)).await;
    simulation.until("2024-06-21T14:59:59").await;
    assert_eq!(simulation.power("heater"), ON);
    simulation.until("2024-06-21T15:00:03").await;
    assert_eq!(simulation.power("heater"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_07_a_forbidden_on_is_refused_with_its_time_and_not_sent() {
    let mut simulation = simulation(heater(), "2024-06-21T09:00:00").await;
    simulation.set("heater", ON).await;
    simulation.until("2024-06-21T15:00:05").await;
    assert_eq!(simulation.power("heater"), OFF);
    let switched = simulation.switched.len();
    for change in [ON, ON] {
        let command = simulation.set("heater", change).await;
        assert_eq!(simulation.code(command), Some(Err(ErrorCode::RefusedBySafety)));
        let failure = simulation.outcomes[&command].clone().unwrap_err();
        assert!(failure.message.contains("2024-06-21T15:30:0"), "{failure}");
    }
    assert_eq!(simulation.count(EventKind::RefusedBySafety), 2);
    assert_eq!(simulation.switched.len(), switched);
    simulation.until("2024-06-21T15:30:05").await;
    let command = simulation.set("heater", ON).await;
    simulation.pass("1s").await;
    assert_eq!(
        (simulation.code(command), simulation.power("heater")),
        (Some(Ok(())), ON)
    );
}

#[tokio::test(start_paused = true)]
async fn rule_07_a_button_pressed_in_a_cooldown_is_undone() {
    let mut group = heater();
    group.schedules = vec![schedule("day", "08:00", "20:00")];
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.until("2024-06-21T15:00:10").await;
    assert_eq!(simulation.power("heater"), OFF);
    simulation.press("heater");
    simulation.pass("7s").await;
    assert_eq!(simulation.power("heater"), OFF);
    assert_eq!(simulation.kept().overrides.len(), 0);
    assert_eq!(simulation.count(EventKind::RefusedBySafety), 1);
    simulation.until("2024-06-21T15:31:00").await;
    assert_eq!(
        simulation.power("heater"),
        ON,
        "the schedule goes on after the cooldown"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_07_the_winners_limits_hold_for_overrides_too() {
    let mut group = morning();
    group.limits = limits("10m", "5m");
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.set("group/driveway", ON).await;
    simulation.pass("9m 58s").await;
    assert_eq!(simulation.power("mats/1"), ON);
    simulation.pass("3s").await;
    assert_eq!(
        (simulation.power("mats/1"), simulation.power("mats/2")),
        (OFF, OFF)
    );
    assert_eq!(simulation.standing("mats/1").source, Source::Safety);
    simulation.pass("5m").await;
    assert_eq!(simulation.power("mats/1"), ON, "the override still stands");
}

#[tokio::test(start_paused = true)]
async fn rule_11_a_countdown_is_armed_with_the_limit_cleared_with_off() {
    let mut simulation = simulation(heater(), "2024-06-21T09:00:00").await;
    simulation.pass("6s").await;
    simulation.set("heater", ON).await;
    simulation.pass("1s").await;
    let left = counts_for(&mut simulation, "heater");
    assert!(left.as_secs().abs_diff(6 * 3600) <= 2, "{left:?}");
    assert_eq!(simulation.standing("heater").failsafe, Some(FailSafeState::Armed));
    simulation.set("heater", OFF).await;
    simulation.pass("1s").await;
    assert_eq!(simulation.relay("heater").countdown, DeviceCountdown::Idle);
    assert_eq!(simulation.standing("heater").failsafe, Some(FailSafeState::Idle));
}

#[tokio::test(start_paused = true)]
async fn rule_11_a_plug_that_went_on_by_its_button_is_armed() {
    let mut simulation = simulation(heater(), "2024-06-21T09:00:00").await;
    simulation.press("heater");
    simulation.pass("6s").await;
    let left = counts_for(&mut simulation, "heater");
    assert!(left.as_secs().abs_diff(6 * 3600 - 6) <= 3, "{left:?}");
    // Off by its button: nothing may switch it off at some other time.
    simulation.press("heater");
    simulation.pass("6s").await;
    assert_eq!(simulation.relay("heater").countdown, DeviceCountdown::Idle);
}

#[tokio::test(start_paused = true)]
async fn rule_11_without_the_bridge_the_plug_switches_itself_off() {
    let mut group = heater();
    group.schedules = vec![schedule("day", "08:00", "20:00")];
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.pass("1h").await;
    assert_eq!(simulation.power("heater"), ON);
    simulation
        .restart(Duration::from_hours(5) + Duration::from_mins(10))
        .await;
    simulation.pass("10s").await;
    assert_eq!(simulation.power("heater"), OFF, "it ran as long as it may");
    simulation.pass("31m").await;
    assert_eq!(simulation.power("heater"), ON);
}

#[tokio::test(start_paused = true)]
async fn rule_11_a_countdown_of_an_earlier_run_of_the_bridge_is_ours() {
    let mut simulation = simulation(heater(), "2024-06-21T09:00:00").await;
    simulation.set("heater", ON).await;
    simulation.pass("1m").await;
    simulation.restart(Duration::from_mins(1)).await;
    simulation.pass("10s").await;
    assert_eq!(simulation.standing("heater").failsafe, Some(FailSafeState::Armed));
}

#[tokio::test(start_paused = true)]
async fn rule_11_an_external_countdown_is_kept_and_reported() {
    let mut simulation = simulation(heater(), "2024-06-21T09:00:00").await;
    let foreign = DeviceCountdown::Until(Instant::now() + Duration::from_hours(1));
    simulation.relay("heater").countdown = foreign;
    simulation.set("heater", ON).await;
    simulation.pass("1m").await;
    assert_eq!(simulation.relay("heater").countdown, foreign);
    assert_eq!(
        simulation.standing("heater").failsafe,
        Some(FailSafeState::External)
    );
}

#[tokio::test(start_paused = true)]
async fn rule_11_an_outlet_without_a_countdown_says_so() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation.pass("6s").await;
    assert_eq!(
        simulation.standing("mats/1").failsafe,
        Some(FailSafeState::Unsupported)
    );
}

#[tokio::test(start_paused = true)]
async fn rule_11_a_run_longer_than_a_countdown_is_renewed() {
    let mut group = heater();
    group.limits = limits("27h", "30m");
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.set("heater", ON).await;
    simulation.pass("26h").await;
    assert_eq!(simulation.power("heater"), ON);
    let left = counts_for(&mut simulation, "heater");
    assert!(left.as_secs().abs_diff(3600) <= 3, "{left:?}");
    simulation.pass("1h 2s").await;
    assert_eq!(simulation.power("heater"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_11_a_countdown_stays_ours_when_the_clock_is_set() {
    for hours in [-5, 2] {
        let mut simulation = simulation(heater(), "2024-06-21T09:00:00").await;
        simulation.set("heater", ON).await;
        simulation.pass("1h").await;
        simulation.clock.jump(SignedDuration::from_hours(hours));
        simulation.pass("2m").await;
        assert_eq!(
            simulation.standing("heater").failsafe,
            Some(FailSafeState::Armed),
            "{hours}"
        );
        assert_eq!(simulation.power("heater"), ON, "{hours}");
        let left = counts_for(&mut simulation, "heater");
        assert!(left.as_secs().abs_diff(5 * 3600 - 120) <= 5, "{hours} {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_02_run_time_is_real_time_when_the_clock_is_set() {
    for hours in [-5, 3] {
        for report_first in [false, true] {
            let mut two = heater();
            two.outlets.push("mats/1".parse().unwrap());
            let mut simulation = simulation(two, "2024-06-21T09:00:00").await;
            simulation.relay("heater").countdown = DeviceCountdown::Unsupported;
            simulation.set("heater", ON).await;
            simulation.pass("2h 13s 370ms").await;
            if report_first {
                // A poll that shows a change arrives before time alone makes the scheduler look.
                simulation.press("mats/1");
                simulation.clock.jump(SignedDuration::from_hours(hours));
                simulation.pass("5s").await;
                simulation.press("mats/1");
                simulation.pass("3h 59m 36s").await;
            } else {
                simulation.clock.jump(SignedDuration::from_hours(hours));
                simulation.pass("3h 59m 41s").await;
            }
            assert_eq!(simulation.power("heater"), ON, "{hours} {report_first}");
            simulation.pass("8s").await;
            assert_eq!(simulation.power("heater"), OFF, "{hours} {report_first}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rule_06_a_limit_goes_before_a_command_that_is_in_flight() {
    let mut group = heater();
    group.limits = limits("10m", "5m");
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.relay("heater").countdown = DeviceCountdown::Unsupported;
    simulation.set("heater", ON).await;
    simulation.pass("9m 55s").await;
    simulation.relay("heater").online = false;
    let command = simulation
        .command("heater", Action::OnFor(Duration::from_hours(1)), None)
        .await;
    simulation.pass("8s").await;
    simulation.relay("heater").online = true;
    simulation.pass("2s").await;
    assert_eq!(simulation.power("heater"), OFF);
    assert!(simulation.code(command).unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn rule_12_the_plug_counts_an_override_that_ends_off() {
    let mut group = heater();
    group.schedules = vec![schedule("morning", "06:00", "08:00")];
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.pass("6s").await;
    simulation
        .command("heater", Action::OnFor(Duration::from_mins(10)), None)
        .await;
    simulation.pass("1s").await;
    let left = counts_for(&mut simulation, "heater");
    assert!(left.as_secs().abs_diff(600) <= 2, "{left:?}");
    // Without the bridge it goes off all the same.
    simulation.restart(Duration::from_mins(11)).await;
    simulation.pass("10s").await;
    assert_eq!(simulation.power("heater"), OFF);
    assert_eq!(
        simulation.count(EventKind::OverrideSet),
        1,
        "the countdown is no override"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_12_an_override_that_ends_in_a_window_has_no_countdown() {
    let mut group = heater();
    group.schedules = vec![schedule("morning", "09:05", "12:00")];
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.pass("6s").await;
    simulation
        .command("heater", Action::OnFor(Duration::from_mins(10)), None)
        .await;
    simulation.pass("12m").await;
    assert_eq!(simulation.power("heater"), ON);
    let flips = simulation.switched.len();
    assert_eq!(flips, 1, "never off in between");
}

#[tokio::test(start_paused = true)]
async fn rule_11_a_countdown_that_runs_out_is_no_override() {
    let mut group = heater();
    group.schedules = vec![schedule("day", "08:00", "20:00")];
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.pass("1m").await;
    // The plug's clock runs fast: it is off two seconds before its time.
    let left = counts_for(&mut simulation, "heater");
    simulation
        .relay("heater")
        .runs_fast(Instant::now() + left - Duration::from_secs(2));
    simulation.until("2024-06-21T15:00:30").await;
    assert_eq!(simulation.count(EventKind::OverrideSet), 0);
    assert_eq!(simulation.count(EventKind::SafetyTrip), 1);
    assert_eq!(simulation.power("heater"), OFF, "it cools");
}

#[tokio::test(start_paused = true)]
async fn rule_07_in_a_group_only_the_member_that_cools_is_refused() {
    let mut group = morning();
    group.limits = limits("10m", "30m");
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.set("mats/1", ON).await;
    simulation.pass("10m 5s").await;
    let command = simulation.set("group/driveway", ON).await;
    simulation.pass("1s").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::RefusedBySafety)));
    assert_eq!(
        (simulation.power("mats/1"), simulation.power("mats/2")),
        (OFF, ON)
    );
    let overridden: Vec<_> = simulation
        .kept()
        .overrides
        .iter()
        .map(|(path, _)| path.to_string())
        .collect();
    assert!(overridden.contains(&"mats/2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn rule_07_a_staggered_member_in_its_cooldown_is_not_switched() {
    let mut group = morning();
    group.stagger = Some("15s".parse().unwrap());
    let mut simulation = simulation(group.clone(), "2024-06-21T09:00:00").await;
    for power in [ON, OFF] {
        simulation.set("mats/2", power).await;
        simulation.pass("5s").await;
    }
    let command = simulation.set("group/driveway", ON).await;
    simulation.pass("1s").await;
    group.limits.min_off = "30m".parse().unwrap();
    simulation.reload(rules(group), &["mats"]).await;
    simulation.pass("25s").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::RefusedBySafety)));
    assert_eq!(
        (simulation.power("mats/1"), simulation.power("mats/2")),
        (OFF, OFF)
    );
}

#[tokio::test(start_paused = true)]
async fn rule_02_what_ran_while_the_machine_slept_counts() {
    let mut group = heater();
    group.limits = limits("10m", "5m");
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.relay("heater").countdown = DeviceCountdown::Unsupported;
    simulation.set("heater", ON).await;
    simulation.pass("5m").await;
    // The wall clock went on, and so did the plug. It went on when it did: there is nothing new to report.
    let slept = Duration::from_mins(10);
    let relay = simulation.relay("heater");
    relay.on_since = relay.on_since.and_then(|since| since.checked_sub(slept));
    simulation.clock.suspend(SignedDuration::try_from(slept).unwrap());
    simulation.pass("62s").await;
    assert_eq!(simulation.power("heater"), OFF);
    assert_eq!(simulation.count(EventKind::SafetyTrip), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_13_a_limit_that_ends_an_override_is_off_for_all_members() {
    let mut group = morning();
    group.limits = limits("6h", "30m");
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.relay("mats/2").latency = Duration::from_secs(3);
    let hold = Some(Lifetime::Hold);
    simulation
        .command("group/driveway", Action::Switch(Switch::To(ON)), hold)
        .await;
    simulation.pass("20s").await;
    let group = simulation.group();
    assert_eq!(group.source, Source::Override);
    let due = group.next_change.unwrap();
    assert_eq!(due.strftime("%H:%M").to_string(), "15:00");
    assert_eq!(group.next_state, Some(OFF), "its members go off within seconds");
}
