//! Outlets whose power or link was gone.

use super::{
    rules::{OFF, ON, morning, world},
    world::World,
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

fn reach(world: &mut World, online: bool) {
    for path in BOTH {
        world.relay(path).online = online;
    }
}

/// Their power is cut; they come back as `found`.
async fn cut(world: &mut World, until: &str, found: Power) {
    reach(world, false);
    world.until(until).await;
    for path in BOTH {
        if world.power(path) != found {
            world.press(path);
        }
    }
    reach(world, true);
    world.pass("7s").await;
}

fn powers(world: &World) -> [Power; 2] {
    BOTH.map(|path| world.power(path))
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
        let mut world = world(with(policy), "2024-06-21T06:10:00").await;
        world.pass("5s").await;
        assert_eq!(powers(&world), [ON; 2], "{case}");
        cut(&mut world, "2024-06-21T06:20:00", found).await;
        assert_eq!(powers(&world), [at_once; 2], "{case}");
        world.until("2024-06-21T07:59:00").await;
        assert_eq!(powers(&world), [at_once; 2], "{case} until the edge");
        world.until("2024-06-21T08:00:01").await;
        assert_eq!(powers(&world), [OFF; 2], "{case} after the window");
        world.until("2024-06-22T06:00:01").await;
        assert_eq!(powers(&world), [ON; 2], "{case} the next day");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_16_a_missed_edge_is_made_up_for_only_if_configured() {
    for (policy, after_on, after_off) in [
        (OnReconnect::Reconcile, ON, OFF),
        (OnReconnect::Keep, OFF, ON),
        (OnReconnect::Off, OFF, OFF),
    ] {
        let mut world = world(with(policy), "2024-06-21T05:50:00").await;
        cut(&mut world, "2024-06-21T06:10:00", OFF).await;
        assert_eq!(powers(&world), [after_on; 2], "{policy:?}");
        world.until("2024-06-22T06:10:00").await;
        assert_eq!(powers(&world), [ON; 2], "{policy:?}");
        cut(&mut world, "2024-06-22T08:10:00", ON).await;
        assert_eq!(powers(&world), [after_off; 2], "{policy:?}");
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
        let mut world = world(with(policy), "2024-06-21T06:10:00").await;
        world.pass("5s").await;
        cut(&mut world, "2024-06-21T06:20:00", OFF).await;
        let standing = world.standing("mats/1");
        assert_eq!((standing.expected, standing.source), (expected, source));
        let reason = standing.reason.as_ref().unwrap().to_string();
        assert!(reason.contains("(reconnect at 06:20)"), "{reason}");
        let set = (EventKind::OverrideSet, message.to_owned());
        assert!(world.events.contains(&set), "{:?}", world.events);
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
        let mut world = world(with(policy), wall).await;
        world.pass("5s").await;
        cut(&mut world, until, found).await;
        assert_eq!(world.count(EventKind::OverrideSet), 0, "{policy:?}");
        world.until("2024-06-21T06:30:00").await;
        assert_eq!(powers(&world), [ON; 2], "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_16_outlets_that_return_together_go_on_one_by_one() {
    let mut group = with(OnReconnect::Reconcile);
    group.stagger = Some("3s".parse().unwrap());
    let mut world = world(group, "2024-06-21T06:10:00").await;
    world.pass("10s").await;
    world.switched.clear();
    cut(&mut world, "2024-06-21T06:20:00", OFF).await;
    world.pass("3s").await;
    let at: Vec<_> = world.switched.iter().map(|(at, _, _)| *at).collect();
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
    let mut world = world(group, "2024-06-21T05:10:00").await;
    cut(&mut world, "2024-06-21T05:20:00", ON).await;
    assert_eq!(powers(&world), [ON; 2]);
    world.until("2024-06-21T05:52:00").await;
    assert_eq!(powers(&world), [OFF; 2]);
    assert_eq!(world.count(EventKind::SafetyTrip), 2);
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
        let mut world = world(group, "2024-06-21T09:00:00").await;
        cut(&mut world, "2024-06-21T09:10:00", ON).await;
        assert_eq!(powers(&world), [at_once; 2], "{policy:?}");
        assert!(world.kept().timers.is_empty());
        world.set("group/driveway", ON).await;
        world.pass("1m").await;
        assert_eq!(powers(&world), [ON; 2], "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_16_a_command_given_while_it_was_away_is_what_counts() {
    let mut world = world(with(OnReconnect::Off), "2024-06-21T05:10:00").await;
    world.pass("5s").await;
    reach(&mut world, false);
    world.pass("1m").await;
    let command = world.set("mats/1", ON).await;
    reach(&mut world, true);
    world.pass("8s").await;
    assert_eq!(world.code(command), Some(Ok(())));
    assert_eq!(powers(&world), [ON, OFF]);
}

#[tokio::test(start_paused = true)]
async fn rule_16_a_later_failed_command_keeps_the_return_override() {
    let mut group = with(OnReconnect::Keep);
    group.outlets = vec!["heater".parse().unwrap(), "mats/1".parse().unwrap()];
    group.stagger = Some("30s".parse().unwrap());
    let mut world = world(group, "2024-06-21T09:00:00").await;
    world.pass("5s").await;
    world.relay("mats/1").online = false;
    world.relay("heater").stubborn = true;
    let command = world.set("group/driveway", ON).await;
    world.pass("1s").await;
    world.relay("heater").online = false;
    world.pass("14s").await;
    world.relay("heater").online = true;
    world.pass("26s").await;
    assert_eq!(world.count(EventKind::OverrideSet), 1);
    assert_eq!(
        world.code(command),
        Some(Err(crate::domain::command_error::ErrorCode::NotConfirmed))
    );
    let kept = world.kept().overrides;
    let states: Vec<_> = kept
        .iter()
        .map(|(path, set)| (path.to_string(), set.state()))
        .collect();
    assert_eq!(states, [("heater".to_owned(), OverrideState::Leave)]);
}

#[tokio::test(start_paused = true)]
async fn rule_16_a_start_is_no_return() {
    let mut world = world(with(OnReconnect::Off), "2024-06-21T06:10:00").await;
    world.pass("5s").await;
    world.restart(std::time::Duration::from_secs(30)).await;
    world.pass("10s").await;
    assert_eq!(powers(&world), [ON; 2]);
    assert_eq!(world.count(EventKind::OverrideSet), 0);
}
