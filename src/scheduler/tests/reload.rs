//! Settings that change while the scheduler runs.

use std::time::Duration;

use super::{
    rules::{OFF, ON, morning, rules, simulation},
    simulation::{DeviceCountdown, Simulation, hardware},
};
use crate::domain::{command::Action, report::EventKind, scheduling::Request};
use planner::{
    condition::WhenUnknown,
    rules::{Limit, OnReconnect, Rules},
    testing::{freezing, group, schedule},
};

const NOON: &str = "2024-06-21T12:00:00";

#[tokio::test(start_paused = true)]
async fn a_timer_stays_with_a_relay_whose_device_is_gone() {
    let mut simulation = simulation(morning(), NOON).await;
    simulation.add("lamp", DeviceCountdown::Unsupported);
    simulation.pass("6s").await;
    let command = simulation
        .command("lamp", Action::OnFor(Duration::from_mins(10)), None)
        .await;
    simulation.pass("1s").await;
    assert_eq!(
        (simulation.code(command), simulation.power("lamp")),
        (Some(Ok(())), ON)
    );
    assert_eq!(simulation.kept().timers.len(), 1);

    simulation.reload(rules(morning()), &["mats"]).await;
    assert_eq!(simulation.kept().timers.len(), 1);
    assert_eq!(simulation.standing("lamp").timer_until, None, "its name is gone");
    // Its worker reports until it ends.
    simulation.pass("20m").await;
    assert_eq!(simulation.power("lamp"), ON, "nothing can switch it");

    simulation.reload(rules(morning()), &["mats", "lamp"]).await;
    simulation.press("lamp");
    simulation.press("lamp");
    simulation.pass("6s").await;
    assert_eq!(simulation.power("lamp"), OFF, "its timer is over");
    assert!(simulation.kept().timers.is_empty());
    let command = simulation
        .command("lamp", Action::OnFor(Duration::from_mins(10)), None)
        .await;
    simulation.pass("11m").await;
    assert_eq!(
        (simulation.code(command), simulation.power("lamp")),
        (Some(Ok(())), OFF)
    );
}

/// Whether `mats/1` goes off because it seems to have come back, after a report that `hardware` cannot be reached.
async fn comes_back_after_offline_of(hardware: &str) -> bool {
    let mut group = group(vec![schedule("always", "00:00", "23:59")]);
    group.on_reconnect = OnReconnect::Off;
    let mut simulation = simulation(group, NOON).await;
    simulation.pass("10s").await;
    assert_eq!(simulation.power("mats/1"), ON);
    simulation.send_offline("mats", hardware).await;
    simulation.pass("1s").await;
    // Its strip reports again.
    simulation.press("mats/2");
    simulation.pass("10s").await;
    simulation.power("mats/1") == OFF
}

#[tokio::test(start_paused = true)]
async fn a_late_report_of_other_hardware_takes_none_offline() {
    assert!(comes_back_after_offline_of(&hardware("mats")).await);
    assert!(!comes_back_after_offline_of("8022OTHER").await);
}

#[tokio::test(start_paused = true)]
async fn a_new_sensor_has_five_minutes_to_speak() {
    let always = || group(vec![schedule("always", "00:00", "23:59")]);
    let without = Rules {
        sensors: Vec::new(),
        ..rules(always())
    };
    let mut simulation = simulation(always(), NOON).await;
    simulation.reload(without, &["mats"]).await;
    simulation.pass("1h").await;
    assert_eq!(simulation.power("mats/1"), ON);

    let mut asking = always();
    asking.schedules[0].conditions = vec![freezing(WhenUnknown::Off)];
    simulation.reload(rules(asking), &["mats"]).await;
    simulation.pass("4m").await;
    assert_eq!(simulation.power("mats/1"), ON);
    assert_eq!(simulation.count(EventKind::SensorStale), 0);
    simulation.pass("2m").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    assert_eq!(simulation.count(EventKind::SensorStale), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_outlet_has_run_counts_on() {
    let limited = |name: &str, max_on: &str| {
        let mut group = group(vec![schedule("always", "00:00", "23:59")]);
        group.name = name.to_owned();
        group.limits.max_on = Limit::Of(max_on.parse().unwrap());
        group.limits.cooldown = Limit::Of("30m".parse().unwrap());
        rules(group)
    };
    let mut simulation = simulation(limited("Mats", "6h").groups.remove(0), NOON).await;
    simulation.pass("2h").await;
    assert_eq!(simulation.power("mats/1"), ON);
    simulation.reload(limited("More mats", "3h"), &["mats"]).await;
    assert_eq!(simulation.power("mats/1"), ON);
    assert_eq!(simulation.rules_sent.last().unwrap().groups[0].name, "More mats");
    simulation.pass("59m").await;
    assert_eq!(simulation.power("mats/1"), ON);
    simulation.pass("2m").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    assert!(simulation.count(EventKind::SafetyTrip) >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_exist_is_named_and_left_out() {
    let mut always = group(vec![schedule("always", "00:00", "23:59")]);
    always.outlets = ["heater/1", "mats/1", "mats/7"]
        .map(|path| path.parse().unwrap())
        .into();
    let paths = ["heater", "mats/1", "mats/2"].map(|path| path.parse().unwrap());
    let mut simulation = Simulation::of(rules(always.clone()), format!("{NOON}Z").parse().unwrap(), &paths);
    simulation.pass("6s").await;
    let missing = |simulation: &Simulation| simulation.missing.values().cloned().collect::<Vec<_>>();
    let wrong = [
        "group driveway: heater/1 does not exist: heater is a plug; leave the outlet out",
        "group driveway: mats/7 does not exist; mats has the outlets 1, 2",
    ];
    assert_eq!(missing(&simulation), wrong);
    for ghost in ["heater/1", "mats/7"] {
        let ghost = simulation.outlets.get(&ghost.parse().unwrap());
        assert!(ghost.is_none_or(|ghost| ghost.expected.is_none()), "{ghost:?}");
    }
    assert_eq!(
        (simulation.power("heater"), simulation.power("mats/1")),
        (OFF, ON)
    );
    let group = (simulation.group().state, simulation.group().expected);
    assert_eq!(group, (Some(ON), Some(ON)), "the others are a group");

    // The state file has what the devices are: it is known before they are reached again.
    simulation.restart(Duration::from_secs(1)).await;
    assert_eq!(missing(&simulation), wrong);
    always.outlets = ["heater", "mats/1"].map(|path| path.parse().unwrap()).into();
    simulation.reload(rules(always), &["heater", "mats"]).await;
    simulation.pass("6s").await;
    assert_eq!(missing(&simulation), [""; 0]);
    assert_eq!(simulation.power("heater"), ON);
}

#[tokio::test(start_paused = true)]
async fn an_override_ends_with_its_group_and_outlives_a_change() {
    let mut simulation = simulation(morning(), NOON).await;
    simulation.set("mats/1", ON).await;
    simulation.pass("1s").await;
    assert_eq!(simulation.kept().overrides.len(), 1);

    let mut renamed = morning();
    renamed.name = "Ramp".to_owned();
    simulation.reload(rules(renamed), &["mats"]).await;
    assert_eq!(simulation.kept().overrides.len(), 1);
    assert_eq!(simulation.power("mats/1"), ON);

    let none = Rules {
        groups: Vec::new(),
        ..rules(morning())
    };
    simulation.reload(none, &["mats"]).await;
    assert_eq!(simulation.kept().overrides.len(), 0);
    assert_eq!(simulation.kept().runs.len(), 2, "a limit may come back");
    simulation.reload(rules(morning()), &["mats"]).await;
    simulation.pass("6s").await;
    assert_eq!(simulation.power("mats/1"), OFF, "the schedules decide again");
}

#[tokio::test(start_paused = true)]
async fn a_schedule_changed_by_request_stays_while_its_group_does() {
    let mut simulation = simulation(morning(), NOON).await;
    let disable = Request::EnableSchedule {
        group: "driveway".parse().unwrap(),
        schedule: "morning".parse().unwrap(),
        enabled: false,
    };
    simulation.request(disable).await.unwrap();
    let mut longer = morning();
    longer.schedules[0] = schedule("morning", "06:00", "09:00");
    longer.schedules.push(schedule("evening", "18:00", "20:00"));
    simulation.reload(rules(longer), &["mats"]).await;
    let schedules = &simulation.rules_sent.last().unwrap().groups[0].schedules;
    let enabled: Vec<bool> = schedules.iter().map(|schedule| schedule.enabled).collect();
    assert_eq!(enabled, [false, true]);

    // One that the settings have no longer is not changed any more.
    let other = group(vec![schedule("other", "06:00", "08:00")]);
    simulation.reload(rules(other), &["mats"]).await;
    simulation.reload(rules(morning()), &["mats"]).await;
    assert!(simulation.rules_sent.last().unwrap().groups[0].schedules[0].enabled);
}
