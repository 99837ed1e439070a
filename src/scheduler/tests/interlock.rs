//! At most one outlet of a group is on.

use std::time::Duration;

use super::{
    rules::{OFF, ON, world},
    world::World,
};
use crate::domain::{
    command::Action,
    command_error::ErrorCode,
    device_command::Switch,
    report::EventKind,
    scheduling::{Request, RequestError},
};
use planner::{
    Power,
    plan::{SafetyState, Source},
    rules::{Group, Interlock},
    testing::group,
};

fn pair() -> Group {
    let mut group = group(Vec::new());
    group.outlets = ["heater", "cooler", "fan"]
        .map(|path| path.parse().unwrap())
        .into();
    group.interlock = Interlock::OneOn;
    group
}

fn switched(world: &World) -> Vec<(String, Power)> {
    let each = world.switched.iter();
    each.map(|(_, path, power)| (path.to_string(), *power)).collect()
}

#[tokio::test(start_paused = true)]
async fn rule_17_a_newer_on_switches_the_others_off_first() {
    let mut world = world(pair(), "2024-06-21T09:00:00").await;
    world.set("heater", ON).await;
    world.pass("1m").await;
    world.relay("heater").latency = Duration::from_secs(2);
    let command = world.set("cooler", ON).await;
    world.pass("1500ms").await;
    assert_eq!((world.power("heater"), world.power("cooler")), (ON, OFF));
    assert_eq!(world.code(command), None, "it waits");
    let standing = world.standing("heater");
    assert_eq!(
        (standing.source, standing.rule.as_deref()),
        (Source::Safety, Some("interlock"))
    );
    assert_eq!(world.group().safety, SafetyState::Clear);
    world.pass("1s").await;
    assert_eq!(world.code(command), Some(Ok(())));
    let order = [("heater", ON), ("heater", OFF), ("cooler", ON)];
    assert_eq!(
        switched(&world),
        order.map(|(path, power)| (path.to_owned(), power))
    );
    assert_eq!(world.count(EventKind::Interlock), 1);
    world.set("cooler", OFF).await;
    world.pass("1m").await;
    assert_eq!(world.power("heater"), OFF, "what went off stays off");
}

#[tokio::test(start_paused = true)]
async fn rule_17_an_on_waits_until_the_other_is_confirmed_off() {
    let mut world = world(pair(), "2024-06-21T09:00:00").await;
    world.set("heater", ON).await;
    world.pass("1s").await;
    world.relay("heater").stubborn = true;
    let command = world.set("fan", ON).await;
    world.pass("9900ms").await;
    assert_eq!(world.code(command), None);
    world.pass("200ms").await;
    assert_eq!(world.code(command), Some(Err(ErrorCode::RefusedBySafety)));
    let failure = world.outcomes[&command].clone().unwrap_err();
    assert!(
        failure.message.contains("heater is not confirmed off"),
        "{failure}"
    );
    assert_eq!((world.power("heater"), world.power("fan")), (ON, OFF));
    world.relay("heater").stubborn = false;
    world.pass("5m").await;
    assert_eq!(world.power("heater"), ON, "no other is wanted on any more");
}

#[tokio::test(start_paused = true)]
async fn rule_17_one_out_of_reach_counts_as_what_it_was_last() {
    let mut world = world(pair(), "2024-06-21T09:00:00").await;
    world.set("heater", ON).await;
    world.pass("1s").await;
    for path in ["heater", "fan"] {
        world.relay(path).online = false;
    }
    world.pass("10s").await;
    let command = world.set("cooler", ON).await;
    world.pass("11s").await;
    assert_eq!(world.code(command), Some(Err(ErrorCode::RefusedBySafety)));
    world.relay("heater").online = true;
    world.pass("10s").await;
    let command = world.set("cooler", ON).await;
    world.pass("5s").await;
    assert_eq!(
        world.code(command),
        Some(Ok(())),
        "the fan was off when it was seen last"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_17_of_two_commands_the_newer_wins() {
    let mut world = world(pair(), "2024-06-21T09:00:00").await;
    world.set("heater", ON).await;
    world.pass("1s").await;
    world.relay("heater").latency = Duration::from_secs(1);
    let older = world.set("cooler", ON).await;
    let newer = world.set("fan", ON).await;
    world.pass("3s").await;
    assert_eq!(world.code(older), Some(Err(ErrorCode::Superseded)));
    assert_eq!(world.code(newer), Some(Ok(())));
    let on = ["heater", "cooler", "fan"].map(|path| world.power(path));
    assert_eq!(on, [OFF, OFF, ON]);
}

#[tokio::test(start_paused = true)]
async fn rule_17_a_button_wins_too() {
    let mut world = world(pair(), "2024-06-21T09:00:00").await;
    world.set("heater", ON).await;
    world.pass("10s").await;
    world.press("fan");
    world.pass("6s").await;
    assert_eq!((world.power("heater"), world.power("fan")), (OFF, ON));
    assert_eq!(world.count(EventKind::Interlock), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_17_a_command_that_would_turn_on_two_is_refused() {
    let mut world = world(pair(), "2024-06-21T09:00:00").await;
    let command = world.set("group/driveway", ON).await;
    assert_eq!(world.code(command), Some(Err(ErrorCode::BadCommand)));
    world.set("fan", ON).await;
    world.pass("1s").await;
    let toggle = Action::Switch(Switch::Toggle);
    let command = world.command("group/driveway", toggle, None).await;
    world.pass("1s").await;
    assert_eq!((world.code(command), world.power("fan")), (Some(Ok(())), OFF));
}

#[tokio::test(start_paused = true)]
async fn rule_17_a_start_waits_until_the_others_have_reported() {
    let mut world = world(pair(), "2024-06-21T09:00:00").await;
    world.press("heater");
    world.pass("1m").await;
    world.relay("heater").online = false;
    world.restart(Duration::from_secs(5)).await;
    let command = world.set("cooler", ON).await;
    world.pass("11s").await;
    assert_eq!(world.code(command), Some(Err(ErrorCode::RefusedBySafety)));
    assert_eq!(world.power("cooler"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_17_an_interlocked_group_takes_no_schedules() {
    let mut world = world(pair(), "2024-06-21T09:00:00").await;
    let request = Request::SetSchedule {
        group: "driveway".parse().unwrap(),
        schedule: serde_json::json!({"id": "late", "start": "22:00", "for": "2h"}),
    };
    let refused = world.request(request).await;
    assert!(matches!(refused, Err(RequestError::Invalid(_))), "{refused:?}");
    let schedules = world.request(Request::Schedules(None)).await.unwrap();
    assert_eq!(schedules["groups"][0]["schedules"], serde_json::json!([]));
}

#[tokio::test(start_paused = true)]
async fn rule_17_an_on_that_is_decided_again_replaces_no_newer_one() {
    let mut group = group(Vec::new());
    group.outlets = ["heater", "mats/1"].map(|path| path.parse().unwrap()).into();
    group.interlock = Interlock::OneOn;
    let mut world = world(group, "2024-06-21T05:40:00").await;
    world.one_on = true;
    world.relay("heater").online = false;
    let first = world.set("heater", ON).await;
    world.pass("3s").await;
    world.press("mats/1");
    world.relay("heater").online = true;
    let second = world.set("heater", ON).await;
    let third = world.set("mats/1", ON).await;
    world.pass("20s").await;
    assert_eq!(world.code(first), Some(Err(ErrorCode::Superseded)));
    assert!(world.code(second).is_some() && world.code(third) == Some(Ok(())));
    assert_eq!((world.power("heater"), world.power("mats/1")), (OFF, ON));
    assert!(world.violations.is_empty(), "{:?}", world.violations);
}
