//! Overrides, timers, toggles, requests.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;

use super::{
    rules::{OFF, ON, morning, simulation},
    simulation::{DeviceCountdown, Simulation},
};
use crate::domain::{
    command::{Action, Target},
    command_error::ErrorCode,
    device_command::Switch,
    report::EventKind,
    scheduling::{Request, RequestError},
};
use planner::{
    Power,
    condition::WhenUnknown,
    overrides::Lifetime,
    plan::{Mode, Source},
    rules::{Group, OnExternalChange},
    testing::{freezing, group},
};

const TOGGLE: Action = Action::Switch(Switch::Toggle);

fn lasting(text: &str) -> Lifetime {
    Lifetime::For(text.parse().unwrap())
}

fn both(simulation: &Simulation) -> (Power, Power) {
    (simulation.power("mats/1"), simulation.power("mats/2"))
}

fn manual() -> Group {
    group(Vec::new())
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_command_overrides_until_a_contradicting_edge() {
    let mut simulation = simulation(morning(), "2024-06-21T05:00:00").await;
    let command = simulation.set("group/driveway", ON).await;
    simulation.pass("1s").await;
    assert_eq!(
        (simulation.code(command), both(&simulation)),
        (Some(Ok(())), (ON, ON))
    );
    assert_eq!(simulation.group().mode, Mode::On);
    simulation.until("2024-06-21T07:59:59").await;
    assert_eq!(both(&simulation), (ON, ON));
    simulation.until("2024-06-21T08:00:01").await;
    assert_eq!(both(&simulation), (OFF, OFF));
    assert_eq!(
        (
            simulation.count(EventKind::OverrideSet),
            simulation.count(EventKind::OverrideEnded)
        ),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn rule_08_an_override_just_after_an_edge_is_not_ended_by_it() {
    let mut simulation = simulation(morning(), "2024-06-21T07:59:00").await;
    simulation.until("2024-06-21T08:00:00").await;
    simulation.set("mats/1", ON).await;
    simulation.until("2024-06-22T05:59:00").await;
    assert_eq!(simulation.power("mats/1"), ON);
}

#[tokio::test(start_paused = true)]
async fn rule_08_an_override_ends_at_its_time_or_at_auto() {
    let mut simulation = simulation(morning(), "2024-06-21T05:30:00").await;
    simulation
        .command("mats/1", Action::Switch(Switch::To(ON)), Some(lasting("10m")))
        .await;
    simulation
        .command("mats/2", Action::Switch(Switch::To(ON)), Some(Lifetime::Hold))
        .await;
    simulation.pass("9m 59s").await;
    assert_eq!(both(&simulation), (ON, ON));
    simulation.pass("2s").await;
    assert_eq!(both(&simulation), (OFF, ON));
    simulation.until("2024-06-21T08:00:01").await;
    assert_eq!(both(&simulation), (OFF, ON), "hold outlives every edge");
    let auto = simulation.command("mats/2", Action::Auto, None).await;
    simulation.pass("1s").await;
    assert_eq!(
        (simulation.code(auto), both(&simulation)),
        (Some(Ok(())), (OFF, OFF))
    );
}

#[tokio::test(start_paused = true)]
async fn rule_08_an_override_survives_a_restart() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation
        .command("mats/1", Action::Switch(Switch::To(ON)), Some(lasting("1h")))
        .await;
    simulation.pass("1m").await;
    simulation.restart(Duration::from_mins(10)).await;
    simulation.pass("10s").await;
    assert_eq!(simulation.power("mats/1"), ON);
    simulation.until("2024-06-21T10:00:02").await;
    assert_eq!(simulation.power("mats/1"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_command_that_failed_is_not_carried_out_later() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation.relay("mats/1").online = false;
    simulation.relay("mats/2").online = false;
    let command = simulation.set("group/driveway", ON).await;
    simulation.pass("11s").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::Expired)));
    assert_eq!(simulation.kept().overrides.len(), 0);
    simulation.relay("mats/1").online = true;
    simulation.relay("mats/2").online = true;
    simulation.pass("1h").await;
    assert_eq!(both(&simulation), (OFF, OFF));
    assert_eq!(simulation.count(EventKind::OverrideSet), 0);
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_command_that_failed_leaves_the_override_before_it() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation.set("mats/1", ON).await;
    simulation.pass("1s").await;
    simulation.relay("mats/1").stubborn = true;
    let command = simulation.set("mats/1", OFF).await;
    assert!(
        simulation
            .kept()
            .overrides
            .iter()
            .all(|(_, found)| found.state() == ON.into()),
        "what is not confirmed is not kept"
    );
    simulation.pass("1s").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::NotConfirmed)));
    simulation.relay("mats/1").stubborn = false;
    simulation.pass("1m").await;
    assert_eq!(simulation.power("mats/1"), ON);
}

#[tokio::test(start_paused = true)]
async fn rule_08_one_member_is_enough_and_the_others_are_repaired() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation.relay("mats/2").stubborn = true;
    let command = simulation.set("group/driveway", ON).await;
    simulation.pass("1s").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::NotConfirmed)));
    assert_eq!(both(&simulation), (ON, OFF));
    simulation.relay("mats/2").stubborn = false;
    simulation.pass("20s").await;
    assert_eq!(both(&simulation), (ON, ON));
    assert_eq!(simulation.count(EventKind::OverrideSet), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_newer_command_replaces_one_under_way() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation.relay("mats/1").latency = Duration::from_secs(2);
    let first = simulation.set("mats/1", ON).await;
    let second = simulation.set("mats/1", OFF).await;
    simulation.pass("3s").await;
    assert_eq!(simulation.code(first), Some(Err(ErrorCode::Superseded)));
    assert_eq!(simulation.code(second), Some(Ok(())));
    simulation.pass("1m").await;
    assert_eq!(simulation.power("mats/1"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_toggle_of_a_group_is_decided_once() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation.command("group/driveway", TOGGLE, None).await;
    simulation.pass("1s").await;
    assert_eq!(both(&simulation), (ON, ON));
    simulation.set("mats/1", OFF).await;
    simulation.pass("1s").await;
    simulation.command("group/driveway", TOGGLE, None).await;
    simulation.pass("1s").await;
    assert_eq!(both(&simulation), (OFF, OFF), "off when any is on");
    simulation.relay("mats/1").latency = Duration::from_millis(500);
    simulation.command("mats/1", TOGGLE, None).await;
    simulation.command("mats/1", TOGGLE, None).await;
    simulation.pass("2s").await;
    assert_eq!(simulation.power("mats/1"), OFF, "two toggles are no change");
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_group_is_commanded_one_member_after_the_other() {
    let mut staggered = morning();
    staggered.stagger = Some("4s".parse().unwrap());
    let mut simulation = simulation(staggered, "2024-06-21T09:00:00").await;
    let command = simulation.set("group/driveway", ON).await;
    simulation.pass("3s").await;
    assert_eq!((both(&simulation), simulation.code(command)), ((ON, OFF), None));
    simulation.pass("2s").await;
    assert_eq!(
        (both(&simulation), simulation.code(command)),
        ((ON, ON), Some(Ok(())))
    );
}

#[tokio::test(start_paused = true)]
async fn rule_08_commands_that_were_replaced_leave_no_pause_behind() {
    let mut staggered = morning();
    staggered.stagger = Some("4s".parse().unwrap());
    let mut simulation = simulation(staggered, "2024-06-21T09:00:00").await;
    for _ in 0..10 {
        simulation.set("group/driveway", ON).await;
        simulation.pass("100ms").await;
    }
    simulation.pass("4s").await;
    assert_eq!(both(&simulation), (ON, ON));
}

#[tokio::test(start_paused = true)]
async fn rule_08_off_waits_for_no_pause() {
    let mut staggered = morning();
    staggered.stagger = Some("4s".parse().unwrap());
    let mut simulation = simulation(staggered, "2024-06-21T09:00:00").await;
    simulation.set("group/driveway", ON).await;
    simulation.pass("5s").await;
    assert_eq!(both(&simulation), (ON, ON));
    let command = simulation.set("group/driveway", OFF).await;
    simulation.pass("1s").await;
    assert_eq!(
        (both(&simulation), simulation.code(command)),
        ((OFF, OFF), Some(Ok(())))
    );
}

#[tokio::test(start_paused = true)]
async fn rule_08_what_makes_no_sense_is_a_bad_command() {
    let mut simulation = simulation(manual(), "2024-06-21T09:00:00").await;
    let to = |power| Action::Switch(Switch::To(power));
    for (change, lifetime) in [
        (Action::Auto, None),
        (to(OFF), Some(Lifetime::Hold)),
        (to(OFF), Some(lasting("25h"))),
        (Action::OffFor(Duration::from_mins(1)), Some(lasting("1h"))),
        (Action::CountDown(Duration::from_mins(1)), None),
        (to(ON), Some(Lifetime::Hold)),
        (to(ON), Some(lasting("25h"))),
        (Action::OnFor(Duration::from_mins(1)), Some(lasting("1h"))),
    ] {
        let command = simulation.command("group/driveway", change, lifetime).await;
        assert_eq!(
            simulation.code(command),
            Some(Err(ErrorCode::BadCommand)),
            "{change:?} {lifetime:?}"
        );
    }
    let unknown = simulation.set("group/nobody", ON).await;
    assert_eq!(simulation.code(unknown), Some(Err(ErrorCode::UnknownGroup)));
    assert_eq!(simulation.switched.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_button_overrides_or_is_undone_or_ignored() {
    for (reaction, soon, at_the_edge) in [
        (OnExternalChange::Override, ON, OFF),
        (OnExternalChange::Enforce, OFF, OFF),
        (OnExternalChange::Ignore, ON, OFF),
    ] {
        let mut group = morning();
        group.on_external_change = reaction;
        let mut simulation = simulation(group, "2024-06-21T05:00:00").await;
        simulation.press("mats/1");
        simulation.pass("7s").await;
        assert_eq!(simulation.power("mats/1"), soon, "{reaction:?}");
        simulation.until("2024-06-21T08:00:01").await;
        assert_eq!(simulation.power("mats/1"), at_the_edge, "{reaction:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_08_an_ignored_button_is_left_until_the_next_edge() {
    let mut group = morning();
    group.on_external_change = OnExternalChange::Ignore;
    let mut simulation = simulation(group, "2024-06-21T05:00:00").await;
    simulation.press("mats/1");
    simulation.pass("7s").await;
    let standing = simulation.standing("mats/1");
    assert_eq!((standing.expected, standing.source), (None, Source::Device));
    simulation.press("mats/1");
    simulation.until("2024-06-21T06:00:01").await;
    assert_eq!(simulation.power("mats/1"), ON);
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_half_failed_switch_is_not_taken_for_a_button() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation.relay("mats/1").stubborn = true;
    simulation.set("mats/1", ON).await;
    simulation.pass("1s").await;
    // It did switch after all.
    simulation.relay("mats/1").stubborn = false;
    simulation.press("mats/1");
    simulation.pass("7s").await;
    assert_eq!(simulation.count(EventKind::OverrideSet), 0);
    assert_eq!(simulation.power("mats/1"), OFF, "answered as failed, so undone");
}

#[tokio::test(start_paused = true)]
async fn rule_12_timed_on_ends_for_outlets_in_groups_and_in_none() {
    let mut simulation = simulation(manual(), "2024-06-21T09:00:00").await;
    simulation.add("lamp", DeviceCountdown::Idle);
    simulation.pass("6s").await;
    let on = Action::OnFor(Duration::from_mins(5));
    for target in ["lamp", "mats/1"] {
        let command = simulation.command(target, on, None).await;
        simulation.pass("1s").await;
        assert_eq!(
            (simulation.code(command), simulation.power(target)),
            (Some(Ok(())), ON)
        );
        assert!(simulation.standing(target).timer_until.is_some());
    }
    assert!(
        matches!(simulation.relay("lamp").countdown, DeviceCountdown::Until(_)),
        "the plug counts too"
    );
    simulation.pass("4m 50s").await;
    assert_eq!((simulation.power("lamp"), simulation.power("mats/1")), (ON, ON));
    simulation.pass("10s").await;
    assert_eq!((simulation.power("lamp"), simulation.power("mats/1")), (OFF, OFF));
    assert_eq!(simulation.standing("lamp").timer_until, None);
    assert_eq!(simulation.kept().timers.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn rule_12_timed_on_survives_a_restart_and_an_outage() {
    let mut simulation = simulation(manual(), "2024-06-21T09:00:00").await;
    simulation
        .command("mats/1", Action::OnFor(Duration::from_mins(5)), None)
        .await;
    simulation.pass("1m").await;
    simulation.restart(Duration::from_mins(1)).await;
    simulation.relay("mats/1").online = false;
    simulation.pass("10m").await;
    assert_eq!(simulation.power("mats/1"), ON, "it has no countdown");
    simulation.relay("mats/1").online = true;
    simulation.pass("6s").await;
    assert_eq!(simulation.power("mats/1"), OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_later_command_or_the_button_replaces_a_timer() {
    let mut simulation = simulation(manual(), "2024-06-21T09:00:00").await;
    simulation.add("lamp", DeviceCountdown::Idle);
    simulation.pass("6s").await;
    let on = Action::OnFor(Duration::from_mins(5));
    simulation.command("lamp", on, None).await;
    simulation.pass("1m").await;
    simulation.set("lamp", ON).await;
    simulation.pass("1s").await;
    assert_eq!(
        simulation.relay("lamp").countdown,
        DeviceCountdown::Idle,
        "nothing counts any more"
    );
    simulation.pass("10m").await;
    assert_eq!(simulation.power("lamp"), ON);
    simulation.command("lamp", on, None).await;
    simulation.pass("1m").await;
    simulation.press("lamp");
    simulation.pass("6s").await;
    assert_eq!(simulation.kept().timers.len(), 0);
    simulation.press("lamp");
    simulation.pass("10m").await;
    assert_eq!(simulation.power("lamp"), ON);
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_timed_on_that_failed_leaves_no_timer() {
    let mut simulation = simulation(manual(), "2024-06-21T09:00:00").await;
    simulation.relay("mats/1").online = false;
    let command = simulation
        .command("mats/1", Action::OnFor(Duration::from_mins(5)), None)
        .await;
    simulation.pass("11s").await;
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::Expired)));
    assert_eq!(simulation.kept().timers.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn rule_12_in_a_scheduled_group_timed_on_is_an_override() {
    let mut simulation = simulation(morning(), "2024-06-21T05:50:00").await;
    simulation
        .command("mats/1", Action::OnFor(Duration::from_mins(5)), None)
        .await;
    simulation.pass("4m").await;
    assert_eq!(simulation.power("mats/1"), ON);
    simulation.pass("2m").await;
    assert_eq!(
        simulation.power("mats/1"),
        OFF,
        "no schedule is active at its end"
    );
    simulation.until("2024-06-21T06:00:01").await;
    assert_eq!(simulation.power("mats/1"), ON);
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_whole_strip_is_commanded_outlet_by_outlet() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation.add("mats/3", DeviceCountdown::Unsupported);
    simulation.pass("6s").await;
    let command = simulation.set("mats", ON).await;
    simulation.pass("1s").await;
    assert_eq!(
        (simulation.code(command), both(&simulation)),
        (Some(Ok(())), (ON, ON))
    );
    assert_eq!(simulation.power("mats/3"), ON);
    assert_eq!(simulation.kept().overrides.len(), 2, "the third is in no group");
}

#[tokio::test(start_paused = true)]
async fn rule_15_changed_schedules_are_kept_and_can_be_reset() {
    let mut simulation = simulation(morning(), "2024-06-21T05:00:00").await;
    let group = || "driveway".parse().unwrap();
    let noon = json!({"id": "noon", "start": "12:00", "for": "1h"});
    simulation
        .request(Request::SetSchedule {
            group: group(),
            schedule: noon,
        })
        .await
        .unwrap();
    simulation
        .request(Request::EnableSchedule {
            group: group(),
            schedule: "morning".parse().unwrap(),
            enabled: false,
        })
        .await
        .unwrap();
    simulation.restart(Duration::from_secs(10)).await;
    let schedules = simulation.rules_sent.last().unwrap().groups[0].schedules.clone();
    assert_eq!(schedules.len(), 2);
    assert!(!schedules[0].enabled);
    simulation.until("2024-06-21T06:30:00").await;
    assert_eq!(simulation.power("mats/1"), OFF, "disabled");
    simulation.until("2024-06-21T12:30:00").await;
    assert_eq!(simulation.power("mats/1"), ON, "added");
    let list = simulation.request(Request::Schedules(None)).await.unwrap();
    assert_eq!(list["groups"][0]["schedules"][0]["origin"], "switched");
    assert_eq!(list["groups"][0]["schedules"][1]["origin"], "request");
    simulation.request(Request::ResetSchedules(None)).await.unwrap();
    simulation.pass("1s").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    assert!(simulation.kept().saved.schedule_changes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn rule_15_a_schedule_is_taken_out_and_comes_back() {
    let mut simulation = simulation(morning(), "2024-06-21T05:00:00").await;
    let (group, schedule) = (|| "driveway".parse().unwrap(), || "morning".parse().unwrap());
    let remove = || Request::RemoveSchedule {
        group: group(),
        schedule: schedule(),
    };
    simulation.request(remove()).await.unwrap();
    assert_eq!(
        simulation.request(remove()).await,
        Err(RequestError::UnknownSchedule {
            group: group(),
            schedule: schedule()
        })
    );
    simulation.until("2024-06-21T06:30:00").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    let list = simulation
        .request(Request::Schedules(Some(group())))
        .await
        .unwrap();
    assert_eq!(list["groups"][0]["removed"], json!(["morning"]));
    simulation
        .request(Request::ResetSchedules(Some(group())))
        .await
        .unwrap();
    simulation.pass("1s").await;
    assert_eq!(simulation.power("mats/1"), ON);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_is_none_is_refused_with_every_problem() {
    let mut simulation = simulation(morning(), "2024-06-21T05:00:00").await;
    let bad = json!({"id": "noon", "start": "25:00", "for": "1h", "day": ["mon"]});
    let refused = simulation
        .request(Request::SetSchedule {
            group: "driveway".parse().unwrap(),
            schedule: bad,
        })
        .await;
    let Err(RequestError::Invalid(why)) = refused else {
        panic!("{refused:?}")
    };
    assert!(why.contains("start") && why.contains("day"), "{why}");
    let not_a_table = simulation
        .request(Request::SetSchedule {
            group: "driveway".parse().unwrap(),
            schedule: json!(["noon"]),
        })
        .await;
    assert!(matches!(not_a_table, Err(RequestError::Invalid(_))));
}

#[tokio::test(start_paused = true)]
async fn rule_08_overrides_are_listed_and_cleared() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation.set("group/driveway", ON).await;
    simulation.pass("1s").await;
    let list = simulation.request(Request::Overrides).await.unwrap();
    assert_eq!(list["overrides"][0]["outlet"], "mats/1");
    assert_eq!(list["overrides"][0]["state"], "ON");
    assert_eq!(list["overrides"][0]["until"], "2024-06-22T08:00:00+00:00");
    let one = Target::Outlet("mats/1".parse().unwrap());
    let cleared = simulation.request(Request::ClearOverrides(Some(one))).await;
    assert_eq!(cleared.unwrap(), json!({"cleared": 1}));
    simulation.pass("1s").await;
    assert_eq!(both(&simulation), (OFF, ON));
    let unknown = Some(Target::Outlet("nowhere/1".parse().unwrap()));
    let refused = simulation.request(Request::ClearOverrides(unknown)).await;
    assert_eq!(refused.unwrap_err().code(), "unknown_device");
    simulation.request(Request::ClearOverrides(None)).await.unwrap();
    simulation.pass("1s").await;
    assert_eq!(both(&simulation), (OFF, OFF));
}

#[tokio::test(start_paused = true)]
async fn rule_13_the_plan_comes_from_the_same_planner() {
    let mut simulation = simulation(morning(), "2024-06-21T05:00:00").await;
    let plan = simulation
        .request(Request::Plan {
            group: None,
            days: 1,
            page: 1,
            draft: None,
        })
        .await
        .unwrap();
    let changes = &plan["groups"][0]["changes"];
    assert_eq!(changes[0]["at"], "2024-06-21T06:00:00+00:00");
    assert_eq!(
        (&changes[0]["state"], &changes[1]["state"]),
        (&json!("ON"), &json!("OFF"))
    );
    assert_eq!(changes.as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn rule_02_a_timed_override_counts_real_time() {
    for hours in [-2, 3] {
        let mut simulation = simulation(morning(), "2024-06-21T11:00:00").await;
        simulation
            .command("mats/1", Action::OnFor(Duration::from_mins(10)), None)
            .await;
        simulation.pass("5m 3s").await;
        assert_eq!(simulation.kept().overrides.len(), 1, "it is an override");
        simulation.clock.jump(SignedDuration::from_hours(hours));
        simulation.pass("4m 50s").await;
        assert_eq!(simulation.power("mats/1"), ON, "{hours}");
        simulation.pass("8s").await;
        assert_eq!(simulation.power("mats/1"), OFF, "{hours}");
    }
}

#[tokio::test(start_paused = true)]
async fn commands_that_wait_at_the_stop_are_answered() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation.relay("mats/1").online = false;
    let command = simulation.set("group/driveway", ON).await;
    simulation.stop().await;
    simulation.take_answers();
    assert_eq!(simulation.code(command), Some(Err(ErrorCode::ShuttingDown)));
}

#[tokio::test(start_paused = true)]
async fn an_outlet_that_a_device_may_have_is_left_to_the_device() {
    let mut group = manual();
    group.outlets = vec!["heater".parse().unwrap()];
    let mut simulation = simulation(group, "2024-06-21T09:00:00").await;
    // The device knows what outlets it has.
    simulation.set("heater/1", ON).await;
    simulation.pass("1s").await;
    assert_eq!(simulation.power("heater"), OFF);
}

#[tokio::test(start_paused = true)]
async fn an_outlet_in_no_group_is_switched_by_the_device_owner_alone() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    simulation.add("lamp", DeviceCountdown::Idle);
    let command = simulation.command("lamp", TOGGLE, None).await;
    simulation.pass("1s").await;
    assert_eq!(
        (simulation.code(command), simulation.power("lamp")),
        (Some(Ok(())), ON)
    );
    simulation.pass("1h").await;
    assert_eq!(simulation.power("lamp"), ON);
    assert!(
        !simulation.outlets.contains_key(&"lamp".parse().unwrap()),
        "nothing to report"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_08_auto_is_answered_with_what_it_leads_to() {
    let mut simulation = simulation(morning(), "2024-06-21T07:00:00").await;
    simulation.pass("6s").await;
    simulation.set("mats/1", OFF).await;
    simulation.pass("1s").await;
    assert_eq!(both(&simulation), (OFF, ON));
    simulation.relay("mats/1").latency = Duration::from_secs(3);
    let auto = simulation.command("group/driveway", Action::Auto, None).await;
    simulation.pass("2s").await;
    assert_eq!(simulation.code(auto), None, "the schedule's ON is under way");
    simulation.pass("2s").await;
    assert_eq!(
        (simulation.code(auto), both(&simulation)),
        (Some(Ok(())), (ON, ON))
    );
    let states = |simulation: &Simulation, id| simulation.outcomes[&id].as_ref().unwrap().power();
    assert_eq!(
        (states(&simulation, auto), simulation.notes.get(&auto)),
        (Some(ON), None)
    );
    let again = simulation.command("group/driveway", Action::Auto, None).await;
    assert_eq!(simulation.code(again), Some(Ok(())), "nothing follows");

    // What is out of reach is not waited for.
    simulation.set("mats/1", OFF).await;
    simulation.pass("4s").await;
    for path in ["mats/1", "mats/2"] {
        simulation.relay(path).online = false;
    }
    simulation.pass("12s").await;
    let auto = simulation.command("mats/1", Action::Auto, None).await;
    assert_eq!(simulation.code(auto), Some(Ok(())));
    assert_eq!(
        simulation.notes[&auto],
        "mats/1: ON follows when it can be reached"
    );

    // A switch that fails is the answer.
    for path in ["mats/1", "mats/2"] {
        simulation.relay(path).online = true;
    }
    simulation.pass("16s").await;
    simulation.set("mats/1", OFF).await;
    simulation.pass("4s").await;
    simulation.relay("mats/1").stubborn = true;
    let auto = simulation.command("mats/1", Action::Auto, None).await;
    simulation.pass("4s").await;
    assert_eq!(simulation.code(auto), Some(Err(ErrorCode::NotConfirmed)));
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_of_a_schedule_can_be_set() {
    let mut asking = morning();
    asking.schedules[0].conditions = vec![freezing(WhenUnknown::Hold)];
    asking.schedules[0].limits.max_on = Some("2h".parse().unwrap());
    let mut simulation = simulation(asking, "2024-06-21T05:00:00").await;
    let listed = simulation.request(Request::Schedules(None)).await.unwrap();
    let schedule = listed["groups"][0]["schedules"][0].clone();
    assert_eq!(
        (&schedule["origin"], &schedule["definition"]["id"]),
        (&json!("settings"), &json!("morning"))
    );
    let set = Request::SetSchedule {
        group: "driveway".parse().unwrap(),
        schedule: schedule["definition"].clone(),
    };
    simulation.request(set).await.unwrap();
    // It is what the settings have, so nothing is on top of them.
    assert_eq!(simulation.rules_sent.len(), 1);
    assert!(simulation.kept().saved.schedule_changes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_schedule_goes_back_to_that_of_the_settings() {
    let mut simulation = simulation(morning(), "2024-06-21T05:00:00").await;
    let (group, morning) = (|| "driveway".parse().unwrap(), || "morning".parse().unwrap());
    for definition in [
        json!({"id": "morning", "start": "07:00", "for": "1h"}),
        json!({"id": "late", "start": "22:00", "for": "1h"}),
    ] {
        let set = Request::SetSchedule {
            group: group(),
            schedule: definition,
        };
        simulation.request(set).await.unwrap();
    }
    let listed = |answer: &serde_json::Value| {
        let schedules = answer["groups"][0]["schedules"].as_array().unwrap().clone();
        let shown = schedules.iter().map(|one| {
            let window = one["window"].as_str().unwrap();
            format!("{} {window} {} {}", one["id"], one["origin"], one["in_settings"]).replace('"', "")
        });
        shown.collect::<Vec<_>>()
    };
    let list = simulation.request(Request::Schedules(None)).await.unwrap();
    assert_eq!(
        listed(&list),
        [
            "morning 1h from 07:00 request true",
            "late 1h from 22:00 request false"
        ]
    );
    let reset = |schedule: &str| Request::ResetSchedule {
        group: group(),
        schedule: schedule.parse().unwrap(),
    };
    let list = simulation.request(reset("morning")).await.unwrap();
    assert_eq!(
        listed(&list),
        [
            "morning 06:00 to 08:00 settings true",
            "late 1h from 22:00 request false"
        ]
    );
    let remove = Request::RemoveSchedule {
        group: group(),
        schedule: morning(),
    };
    simulation.request(remove).await.unwrap();
    let list = simulation.request(reset("morning")).await.unwrap();
    assert_eq!(listed(&list).len(), 2, "a removed one comes back");
    let error = simulation.request(reset("none")).await.unwrap_err();
    assert_eq!(error.code(), "unknown_schedule");
}
