//! At most one outlet of a group is on.

use std::time::Duration;

use super::{
    rules::{OFF, ON, simulation},
    simulation::Simulation,
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

fn switched(simulation: &Simulation) -> Vec<(String, Power)> {
    let each = simulation.switched.iter();
    each.map(|(_, path, power)| (path.to_string(), *power)).collect()
}

#[tokio::test(start_paused = true)]
async fn rule_17_a_newer_on_switches_the_others_off_first() {
    let mut simulation = simulation(pair(), "2024-06-21T09:00:00").await;
    simulation.set("heater", ON).await;
    simulation.pass("1m").await;
    simulation.relay("heater").latency = Duration::from_secs(2);
    let command = simulation.set("cooler", ON).await;
    simulation.pass("1500ms").await;
    assert_eq!(
        (simulation.power("heater"), simulation.power("cooler")),
        (ON, OFF)
    );
    assert_eq!(simulation.code(command), None, "it waits");
    let standing = simulation.standing("heater");
    assert_eq!(
        (standing.source, standing.rule.as_deref()),
        (Source::Safety, Some("interlock"))
    );
    assert_eq!(simulation.group().safety, SafetyState::Clear);
    simulation.pass("1s").await;
    assert_eq!(simulation.code(command), Some(Ok(())));
    let order = [("heater", ON), ("heater", OFF), ("cooler", ON)];
    assert_eq!(
        switched(&simulation),
        order.map(|(path, power)| (path.to_owned(), power))
    );
    assert_eq!(simulation.count(EventKind::Interlock), 1);
    simulation.set("cooler", OFF).await;
    simulation.pass("1m").await;
    assert_eq!(simulation.power("heater"), OFF, "what went off stays off");
    let reason = simulation
        .standing("heater")
        .reason
        .as_ref()
        .map(ToString::to_string);
    assert!(reason.is_some_and(|reason| reason.starts_with("OFF (interlock)")));
}

#[tokio::test(start_paused = true)]
async fn rule_17_an_on_waits_until_the_other_is_confirmed_off() {
    let mut simulation = simulation(pair(), "2024-06-21T09:00:00").await;
    simulation.set("heater", ON).await;
    simulation.pass("1s").await;
    simulation.relay("heater").stubborn = true;
    let command = simulation.set("fan", ON).await;
    simulation.pass("9900ms").await;
    assert_eq!(simulation.code(command), None);
    simulation.pass("200ms").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::RefusedBySafety)));
    let failure = simulation.outcomes[&command].clone().unwrap_err();
    assert!(
        failure.message.contains("heater is not confirmed off"),
        "{failure}"
    );
    assert_eq!((simulation.power("heater"), simulation.power("fan")), (ON, OFF));
    simulation.relay("heater").stubborn = false;
    simulation.pass("5m").await;
    assert_eq!(simulation.power("heater"), ON, "no other is wanted on any more");
}

#[tokio::test(start_paused = true)]
async fn rule_17_one_out_of_reach_counts_as_what_it_was_last() {
    let mut simulation = simulation(pair(), "2024-06-21T09:00:00").await;
    simulation.set("heater", ON).await;
    simulation.pass("1s").await;
    for path in ["heater", "fan"] {
        simulation.relay(path).online = false;
    }
    simulation.pass("10s").await;
    let command = simulation.set("cooler", ON).await;
    simulation.pass("11s").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::RefusedBySafety)));
    simulation.relay("heater").online = true;
    simulation.pass("10s").await;
    let command = simulation.set("cooler", ON).await;
    simulation.pass("5s").await;
    assert_eq!(
        simulation.code(command),
        Some(Ok(())),
        "the fan was off when it was seen last"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_17_of_two_commands_the_newer_wins() {
    let mut simulation = simulation(pair(), "2024-06-21T09:00:00").await;
    simulation.set("heater", ON).await;
    simulation.pass("1s").await;
    simulation.relay("heater").latency = Duration::from_secs(1);
    let older = simulation.set("cooler", ON).await;
    let newer = simulation.set("fan", ON).await;
    simulation.pass("3s").await;
    assert_eq!(simulation.code(older), Some(Err(ErrorCode::Superseded)));
    assert_eq!(simulation.code(newer), Some(Ok(())));
    let on = ["heater", "cooler", "fan"].map(|path| simulation.power(path));
    assert_eq!(on, [OFF, OFF, ON]);
}

#[tokio::test(start_paused = true)]
async fn rule_17_a_button_wins_too() {
    let mut simulation = simulation(pair(), "2024-06-21T09:00:00").await;
    simulation.set("heater", ON).await;
    simulation.pass("10s").await;
    simulation.press("fan");
    simulation.pass("6s").await;
    assert_eq!((simulation.power("heater"), simulation.power("fan")), (OFF, ON));
    assert_eq!(simulation.count(EventKind::Interlock), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_17_a_command_that_would_turn_on_two_is_refused() {
    let mut simulation = simulation(pair(), "2024-06-21T09:00:00").await;
    let command = simulation.set("group/driveway", ON).await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::BadCommand)));
    simulation.set("fan", ON).await;
    simulation.pass("1s").await;
    let toggle = Action::Switch(Switch::Toggle);
    let command = simulation.command("group/driveway", toggle, None).await;
    simulation.pass("1s").await;
    assert_eq!(
        (simulation.code(command), simulation.power("fan")),
        (Some(Ok(())), OFF)
    );
}

#[tokio::test(start_paused = true)]
async fn rule_17_a_start_waits_until_the_others_have_reported() {
    let mut simulation = simulation(pair(), "2024-06-21T09:00:00").await;
    simulation.press("heater");
    simulation.pass("1m").await;
    simulation.relay("heater").online = false;
    simulation.restart(Duration::from_secs(5)).await;
    let command = simulation.set("cooler", ON).await;
    simulation.pass("11s").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::RefusedBySafety)));
    assert_eq!(simulation.power("cooler"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_17_an_interlocked_group_takes_no_schedules() {
    let mut simulation = simulation(pair(), "2024-06-21T09:00:00").await;
    let request = Request::SetSchedule {
        group: "driveway".parse().unwrap(),
        schedule: serde_json::json!({"id": "late", "start": "22:00", "for": "2h"}),
    };
    let refused = simulation.request(request).await;
    assert!(matches!(refused, Err(RequestError::Invalid(_))), "{refused:?}");
    let schedules = simulation.request(Request::Schedules(None)).await.unwrap();
    assert_eq!(schedules["groups"][0]["schedules"], serde_json::json!([]));
}

#[tokio::test(start_paused = true)]
async fn rule_17_an_on_that_is_decided_again_replaces_no_newer_one() {
    let mut group = group(Vec::new());
    group.outlets = ["heater", "mats/1"].map(|path| path.parse().unwrap()).into();
    group.interlock = Interlock::OneOn;
    let mut simulation = simulation(group, "2024-06-21T05:40:00").await;
    simulation.one_on = true;
    simulation.relay("heater").online = false;
    let first = simulation.set("heater", ON).await;
    simulation.pass("3s").await;
    simulation.press("mats/1");
    simulation.relay("heater").online = true;
    let second = simulation.set("heater", ON).await;
    let third = simulation.set("mats/1", ON).await;
    simulation.pass("20s").await;
    assert_eq!(simulation.code(first), Some(Err(ErrorCode::Superseded)));
    assert!(simulation.code(second).is_some() && simulation.code(third) == Some(Ok(())));
    assert_eq!(
        (simulation.power("heater"), simulation.power("mats/1")),
        (OFF, ON)
    );
    assert!(simulation.violations.is_empty(), "{:?}", simulation.violations);
}
