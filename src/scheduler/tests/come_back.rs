//! Outlets whose power or link was gone.

use super::{
    rules::{OFF, ON, morning, simulation},
    simulation::Simulation,
};
use crate::domain::report::EventKind;
use planner::{
    Power,
    overrides::OverrideState,
    plan::Source,
    rules::{Group, Limit, Limits, OnReconnect},
};

const BOTH: [&str; 2] = ["mats/1", "mats/2"];

fn with(on_reconnect: OnReconnect) -> Group {
    Group {
        on_reconnect,
        ..morning()
    }
}

fn reach(simulation: &mut Simulation, online: bool) {
    for path in BOTH {
        simulation.relay(path).online = online;
    }
}

/// Their power is cut; they come back as `found`.
async fn cut(simulation: &mut Simulation, until: &str, found: Power) {
    reach(simulation, false);
    simulation.until(until).await;
    for path in BOTH {
        if simulation.power(path) != found {
            simulation.press(path);
        }
    }
    reach(simulation, true);
    simulation.pass("7s").await;
}

fn powers(simulation: &Simulation) -> [Power; 2] {
    BOTH.map(|path| simulation.power(path))
}

#[tokio::test(start_paused = true)]
async fn rule_16_an_outlet_that_comes_back_is_what_its_policy_says() {
    for (policy, found, at_once) in [
        (OnReconnect::Reconcile, OFF, ON),
        (OnReconnect::Reconcile, ON, ON),
        (OnReconnect::Keep, OFF, OFF),
        (OnReconnect::Keep, ON, ON),
        (OnReconnect::Off, OFF, OFF),
        (OnReconnect::Off, ON, OFF),
    ] {
        let case = format!("{policy:?}, found {found}");
        let mut simulation = simulation(with(policy), "2024-06-21T06:10:00").await;
        simulation.pass("5s").await;
        assert_eq!(powers(&simulation), [ON; 2], "{case}");
        cut(&mut simulation, "2024-06-21T06:20:00", found).await;
        assert_eq!(powers(&simulation), [at_once; 2], "{case}");
        simulation.until("2024-06-21T07:59:00").await;
        assert_eq!(powers(&simulation), [at_once; 2], "{case} until the edge");
        simulation.until("2024-06-21T08:00:01").await;
        assert_eq!(powers(&simulation), [OFF; 2], "{case} after the window");
        simulation.until("2024-06-22T06:00:01").await;
        assert_eq!(powers(&simulation), [ON; 2], "{case} the next day");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_16_a_missed_edge_is_made_up_for_only_if_configured() {
    for (policy, after_on, after_off) in [
        (OnReconnect::Reconcile, ON, OFF),
        (OnReconnect::Keep, OFF, ON),
        (OnReconnect::Off, OFF, OFF),
    ] {
        let mut simulation = simulation(with(policy), "2024-06-21T05:50:00").await;
        cut(&mut simulation, "2024-06-21T06:10:00", OFF).await;
        assert_eq!(powers(&simulation), [after_on; 2], "{policy:?}");
        simulation.until("2024-06-22T06:10:00").await;
        assert_eq!(powers(&simulation), [ON; 2], "{policy:?}");
        cut(&mut simulation, "2024-06-22T08:10:00", ON).await;
        assert_eq!(powers(&simulation), [after_off; 2], "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_16_the_override_of_a_return_is_reported_with_its_reason() {
    for (policy, expected, source, message) in [
        (
            OnReconnect::Keep,
            None,
            Source::Device,
            "mats/1 is reachable again, and OFF: its state OFF is kept until 2024-06-21T08:00:00+00:00",
        ),
        (
            OnReconnect::Off,
            Some(OFF),
            Source::Override,
            "mats/1 is reachable again, and OFF: it is OFF until 2024-06-22T06:00:00+00:00",
        ),
    ] {
        let mut simulation = simulation(with(policy), "2024-06-21T06:10:00").await;
        simulation.pass("5s").await;
        cut(&mut simulation, "2024-06-21T06:20:00", OFF).await;
        let standing = simulation.standing("mats/1");
        assert_eq!((standing.expected, standing.source), (expected, source));
        let reason = standing.reason.as_ref().unwrap().to_string();
        assert!(reason.contains("(reconnect at 06:20)"), "{reason}");
        let set = (EventKind::OverrideSet, message.to_owned());
        assert!(simulation.events.contains(&set), "{:?}", simulation.events);
    }
}

#[tokio::test(start_paused = true)]
async fn rule_16_nothing_is_set_where_the_plan_agrees() {
    for (policy, wall, until, found) in [
        (
            OnReconnect::Keep,
            "2024-06-21T06:10:00",
            "2024-06-21T06:20:00",
            ON,
        ),
        (OnReconnect::Off, "2024-06-21T05:10:00", "2024-06-21T05:20:00", ON),
    ] {
        let mut simulation = simulation(with(policy), wall).await;
        simulation.pass("5s").await;
        cut(&mut simulation, until, found).await;
        assert_eq!(simulation.count(EventKind::OverrideSet), 0, "{policy:?}");
        simulation.until("2024-06-21T06:30:00").await;
        assert_eq!(powers(&simulation), [ON; 2], "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_16_outlets_that_return_together_go_on_one_by_one() {
    let mut group = with(OnReconnect::Reconcile);
    group.stagger = Some("3s".parse().unwrap());
    let mut simulation = simulation(group, "2024-06-21T06:10:00").await;
    simulation.pass("10s").await;
    simulation.switched.clear();
    cut(&mut simulation, "2024-06-21T06:20:00", OFF).await;
    simulation.pass("3s").await;
    let at: Vec<_> = simulation.switched.iter().map(|(at, _, _)| *at).collect();
    assert_eq!(at.len(), 2);
    let apart = at[1].duration_since(at[0]).as_secs_f64();
    assert!((3.0..3.1).contains(&apart), "{apart}");
}

#[tokio::test(start_paused = true)]
async fn rule_16_a_limit_goes_before_what_a_return_left() {
    let mut group = with(OnReconnect::Keep);
    group.limits = Limits {
        max_on: Limit::Of("30m".parse().unwrap()),
        ..Limits::NONE
    };
    let mut simulation = simulation(group, "2024-06-21T05:10:00").await;
    cut(&mut simulation, "2024-06-21T05:20:00", ON).await;
    assert_eq!(powers(&simulation), [ON; 2]);
    simulation.until("2024-06-21T05:52:00").await;
    assert_eq!(powers(&simulation), [OFF; 2]);
    assert_eq!(simulation.count(EventKind::SafetyTrip), 2);
}

#[tokio::test(start_paused = true)]
async fn rule_16_without_schedules_off_holds_until_the_next_command() {
    for (policy, at_once) in [
        (OnReconnect::Reconcile, ON),
        (OnReconnect::Keep, ON),
        (OnReconnect::Off, OFF),
    ] {
        let mut group = with(policy);
        group.schedules.clear();
        let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
        cut(&mut simulation, "2024-06-21T09:10:00", ON).await;
        assert_eq!(powers(&simulation), [at_once; 2], "{policy:?}");
        assert!(simulation.kept().timers.is_empty());
        simulation.set("group/driveway", ON).await;
        simulation.pass("1m").await;
        assert_eq!(powers(&simulation), [ON; 2], "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_16_a_command_given_while_it_was_away_is_what_counts() {
    let mut simulation = simulation(with(OnReconnect::Off), "2024-06-21T05:10:00").await;
    simulation.pass("5s").await;
    reach(&mut simulation, false);
    simulation.pass("1m").await;
    let command = simulation.set("mats/1", ON).await;
    reach(&mut simulation, true);
    simulation.pass("8s").await;
    assert_eq!(simulation.code(command), Some(Ok(())));
    assert_eq!(powers(&simulation), [ON, OFF]);
}

#[tokio::test(start_paused = true)]
async fn rule_16_a_later_failed_command_keeps_the_return_override() {
    let mut group = with(OnReconnect::Keep);
    group.outlets = vec!["heater".parse().unwrap(), "mats/1".parse().unwrap()];
    group.stagger = Some("30s".parse().unwrap());
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    simulation.pass("5s").await;
    simulation.relay("mats/1").online = false;
    simulation.relay("heater").stubborn = true;
    let command = simulation.set("group/driveway", ON).await;
    simulation.pass("1s").await;
    simulation.relay("heater").online = false;
    simulation.pass("14s").await;
    simulation.relay("heater").online = true;
    simulation.pass("26s").await;
    assert_eq!(simulation.count(EventKind::OverrideSet), 1);
    assert_eq!(
        simulation.code(command),
        Some(Err(crate::domain::command_error::ErrorCode::NotConfirmed))
    );
    let kept = simulation.kept().overrides;
    let states: Vec<_> = kept
        .iter()
        .map(|(path, set)| (path.to_string(), set.state()))
        .collect();
    assert_eq!(states, [("heater".to_owned(), OverrideState::Leave)]);
}

#[tokio::test(start_paused = true)]
async fn rule_16_a_start_is_no_return() {
    let mut simulation = simulation(with(OnReconnect::Off), "2024-06-21T06:10:00").await;
    simulation.pass("5s").await;
    simulation.restart(std::time::Duration::from_secs(30)).await;
    simulation.pass("10s").await;
    assert_eq!(powers(&simulation), [ON; 2]);
    assert_eq!(simulation.count(EventKind::OverrideSet), 0);
}
