//! What is in force for a relay goes on through other settings, restarts, clocks and lost links.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::Instant;

use super::{
    rules::{OFF, ON, rules},
    simulation::{Device, DeviceCountdown, OnTime, Simulation},
};
use crate::{
    domain::{
        command::Action,
        command_error::ErrorCode,
        device_command::Switch,
        scheduling::{ConfiguredDevice, Request},
    },
    scheduler::{persisted::PersistedScheduler, relays::Relays},
};
use planner::{
    OutletPath, Power,
    overrides::Lifetime,
    rules::{CatchUp, Group, Interlock, Limits, OnReconnect, Rules, Schedule},
    testing::{group, schedule},
};

const HEATER: &str = "8022HEATER";
const MATS: &str = "8022MATS";
/// A plug, and an outlet of a strip.
const TIMED: [(&str, u8); 2] = [(HEATER, 1), (MATS, 1)];
const NOON: &str = "2024-06-21T12:00:07Z";

fn night() -> Schedule {
    schedule("night", "22:00", "23:00")
}

/// A group of these, with a limit of 6 h and one schedule that is far away.
fn grouped(outlets: &[&str]) -> Group {
    let mut group = group(vec![night()]);
    group.outlets = outlets.iter().map(|path| path.parse().unwrap()).collect();
    group.limits = Limits {
        max_on: "6h".parse().unwrap(),
        ..Limits::NONE
    };
    group
}

fn no_groups() -> Rules {
    Rules {
        groups: Vec::new(),
        ..rules(grouped(&[]))
    }
}

/// The devices as they are called at first.
fn devices() -> Vec<Device> {
    vec![Device::new("heater", HEATER, &[]), Device::new("mats", MATS, &[])]
}

fn named(names: &[(&str, u8)]) -> Vec<Device> {
    vec![
        Device::new("heater", HEATER, &[]),
        Device::new("mats", MATS, names),
    ]
}

/// A plug and a strip with two outlets, known to the bridge.
async fn site(rules: Rules) -> Simulation {
    let paths = ["heater", "mats/1", "mats/2"].map(|path| path.parse().unwrap());
    let mut simulation = Simulation::of(rules, NOON.parse().unwrap(), &paths);
    simulation.pass("6s").await;
    simulation
}

fn power_at(simulation: &Simulation, (hardware, position): (&str, u8)) -> Power {
    let path = simulation.name_of(hardware, position);
    simulation.relays[&path].power()
}

/// What happens while a timer runs.
#[derive(Debug, Clone)]
enum Change {
    RemoveSchedule,
    ResetSchedules,
    AddSchedule,
    Settings(Rules, Vec<Device>),
    /// The same, and workers report under the names before after the scheduler has them.
    LateWorkers(Rules, Vec<Device>),
    /// The bridge restarts, with other settings or the same.
    Restart(Option<(Rules, Vec<Device>)>),
    Clock(SignedDuration),
}

impl Simulation {
    async fn undergo(&mut self, change: &Change) {
        match change {
            Change::RemoveSchedule => {
                let request = Request::RemoveSchedule {
                    group: "driveway".parse().unwrap(),
                    schedule: "night".parse().unwrap(),
                };
                self.request(request).await.unwrap();
            }
            Change::AddSchedule => {
                let request = Request::SetSchedule {
                    group: "driveway".parse().unwrap(),
                    schedule: json!({"id": "night", "start": "22:00", "end": "23:00"}),
                };
                self.request(request).await.unwrap();
            }
            Change::ResetSchedules => {
                self.request(Request::ResetSchedules(None)).await.unwrap();
            }
            Change::Settings(rules, devices) => self.reload_as(rules.clone(), devices).await,
            Change::LateWorkers(rules, devices) => self.reload_before_workers(rules.clone(), devices).await,
            Change::Restart(settings) => {
                self.stop().await;
                if let Some((rules, devices)) = settings {
                    self.configure(rules.clone(), devices);
                }
                self.pass_until(Instant::now() + Duration::from_secs(1), false)
                    .await;
                self.start().await;
            }
            Change::Clock(by) => self.clock.jump(*by),
        }
    }
}

/// A timed ON of 15 s, and what happens after 4 s of it. It ends at 15 s.
async fn a_timer_ends_in_time(rules: &Rules, changes: &[Change]) {
    for place in TIMED {
        let mut simulation = site(rules.clone()).await;
        timer_ends_in(&mut simulation, place, changes).await;
    }
}

async fn timer_ends_in(simulation: &mut Simulation, place: (&str, u8), changes: &[Change]) {
    let target = simulation.name_of(place.0, place.1).to_string();
    let begun = Instant::now();
    let command = simulation
        .command(&target, Action::OnFor(Duration::from_secs(15)), None)
        .await;
    simulation.pass("4s").await;
    assert_eq!(
        (simulation.code(command), power_at(simulation, place)),
        (Some(Ok(())), ON)
    );
    for change in changes {
        simulation.undergo(change).await;
    }
    let until = |seconds: f64| (begun + Duration::from_secs_f64(seconds)).duration_since(Instant::now());
    simulation.pass_for(until(14.5)).await;
    assert_eq!(
        power_at(simulation, place),
        ON,
        "{place:?} before its end after {changes:?}"
    );
    simulation.pass_for(until(16.0)).await;
    assert_eq!(
        power_at(simulation, place),
        OFF,
        "{place:?} after its end after {changes:?}"
    );
    simulation.pass("2m").await;
    assert_eq!(
        power_at(simulation, place),
        OFF,
        "{place:?} stays off after {changes:?}"
    );
    let others = TIMED.iter().filter(|other| **other != place);
    for other in others.chain(&[(MATS, 2)]) {
        assert_eq!(power_at(simulation, *other), OFF, "{other:?} was not switched on");
    }
    let commanded = simulation.switched.iter().map(|(_, _, power)| *power);
    assert!(
        commanded.filter(|power| power.is_on()).count() <= 1,
        "{:?}",
        simulation.switched
    );
}

fn timed() -> Rules {
    rules(grouped(&["heater", "mats/1"]))
}

#[tokio::test(start_paused = true)]
async fn a_timer_outlives_the_removal_of_its_schedule() {
    a_timer_ends_in_time(&timed(), &[Change::RemoveSchedule]).await;
    a_timer_ends_in_time(&timed(), &[Change::RemoveSchedule, Change::Restart(None)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_outlives_the_reset_of_schedules() {
    for then in [vec![], vec![Change::Restart(None)]] {
        for place in TIMED {
            let mut without = grouped(&["heater", "mats/1"]);
            without.schedules.clear();
            let mut simulation = site(rules(without)).await;
            simulation.undergo(&Change::AddSchedule).await;
            let mut changes = vec![Change::ResetSchedules];
            changes.extend(then.clone());
            timer_ends_in(&mut simulation, place, &changes).await;
        }
    }
}

fn without_schedules() -> Rules {
    let mut group = grouped(&["heater", "mats/1"]);
    group.schedules.clear();
    rules(group)
}

/// By a reload, by a restart, and by a reload that a restart follows.
async fn a_timer_outlives_settings(after: Rules, devices: Vec<Device>) {
    let settings = (after.clone(), devices.clone());
    let reload = Change::Settings(after, devices);
    a_timer_ends_in_time(&timed(), std::slice::from_ref(&reload)).await;
    a_timer_ends_in_time(&timed(), &[reload, Change::Restart(None)]).await;
    a_timer_ends_in_time(&timed(), &[Change::Restart(Some(settings))]).await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_outlives_schedules_that_a_reload_removes() {
    a_timer_outlives_settings(without_schedules(), devices()).await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_outlives_the_first_schedule_of_its_group() {
    let request = Change::AddSchedule;
    a_timer_ends_in_time(&without_schedules(), std::slice::from_ref(&request)).await;
    a_timer_ends_in_time(&without_schedules(), &[request, Change::Restart(None)]).await;
    a_timer_ends_in_time(&without_schedules(), &[Change::Settings(timed(), devices())]).await;
    a_timer_ends_in_time(&no_groups(), &[Change::Settings(timed(), devices())]).await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_outlives_its_group() {
    a_timer_outlives_settings(no_groups(), devices()).await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_outlives_an_id_for_its_outlet() {
    let after = rules(grouped(&["heater", "mats/left"]));
    a_timer_outlives_settings(after, named(&[("left", 1)])).await;
    a_timer_outlives_settings(no_groups(), named(&[("left", 1)])).await;
}

#[tokio::test(start_paused = true)]
async fn an_override_stays_with_its_relay_when_ids_are_exchanged() {
    ids_are_exchanged(|outlets| rules(grouped(outlets))).await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_stays_with_its_relay_when_ids_are_exchanged() {
    ids_are_exchanged(|outlets| limited(outlets, grouped(&[]).limits)).await;
}

async fn ids_are_exchanged(rules: impl Fn(&[&str]) -> Rules) {
    let before = rules(&["heater", "mats/left"]);
    let exchanged = || named(&[("left", 2), ("right", 1)]);
    for outlets in [&["heater", "mats/right"], &["heater", "mats/left"]] {
        let after = rules(outlets);
        for change in [
            Change::Settings(after.clone(), exchanged()),
            Change::Restart(Some((after.clone(), exchanged()))),
        ] {
            let mut simulation = site(before.clone()).await;
            simulation
                .reload_as(before.clone(), &named(&[("left", 1), ("right", 2)]))
                .await;
            simulation.pass("6s").await;
            timer_ends_in(&mut simulation, (MATS, 1), &[change]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_under_names_before_a_reload_ends_no_timer() {
    let limits = Limits {
        max_on: "6h".parse().unwrap(),
        ..Limits::NONE
    };
    let before = limited(&["heater", "mats/left"], limits);
    for outlets in [&["heater", "mats/right"], &["heater", "mats/left"]] {
        let after = limited(outlets, limits);
        let mut simulation = site(before.clone()).await;
        simulation
            .reload_as(before.clone(), &named(&[("left", 1), ("right", 2)]))
            .await;
        simulation.pass("6s").await;
        let change = Change::LateWorkers(after, named(&[("left", 2), ("right", 1)]));
        timer_ends_in(&mut simulation, (MATS, 1), &[change]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_outlives_another_id_of_its_device() {
    let renamed = vec![Device::new("stove", HEATER, &[]), Device::new("ramp", MATS, &[])];
    a_timer_outlives_settings(rules(grouped(&["stove", "ramp/1"])), renamed.clone()).await;
    a_timer_outlives_settings(no_groups(), renamed).await;
}

#[tokio::test(start_paused = true)]
async fn an_override_follows_hardware_when_devices_are_exchanged() {
    devices_are_exchanged(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_follows_hardware_when_devices_are_exchanged() {
    devices_are_exchanged(false).await;
}

async fn devices_are_exchanged(scheduled: bool) {
    let grouped = |outlets: &[&str]| {
        let mut group = grouped(outlets);
        if !scheduled {
            group.schedules.clear();
        }
        group
    };
    let after = || {
        vec![
            Device::new("lamp", HEATER, &[]),
            Device::new("heater", "8022LAMP", &[]),
        ]
    };
    for outlet in ["heater", "lamp"] {
        for restart in [false, true] {
            let paths = ["heater", "lamp"].map(|path| path.parse().unwrap());
            let mut simulation = Simulation::of(rules(grouped(&["heater"])), NOON.parse().unwrap(), &paths);
            simulation.pass("6s").await;
            let begun = Instant::now();
            simulation
                .command("heater", Action::OnFor(Duration::from_secs(15)), None)
                .await;
            simulation.pass("4s").await;
            let settings = (rules(grouped(&[outlet])), after());
            let change = if restart {
                Change::Restart(Some(settings))
            } else {
                Change::Settings(settings.0, settings.1)
            };
            simulation.undergo(&change).await;
            simulation
                .pass_for((begun + Duration::from_millis(14_500)).duration_since(Instant::now()))
                .await;
            assert_eq!(power_at(&simulation, (HEATER, 1)), ON, "{outlet} {restart}");
            simulation.pass("1500ms").await;
            let powers = (
                power_at(&simulation, (HEATER, 1)),
                power_at(&simulation, ("8022LAMP", 1)),
            );
            assert_eq!(powers, (OFF, OFF), "{outlet} {restart}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_outlives_a_regrouping() {
    let strip = || rules(grouped(&["heater", "mats"]));
    a_timer_outlives_settings(strip(), devices()).await;
    let back = Change::Settings(timed(), devices());
    a_timer_ends_in_time(&strip(), std::slice::from_ref(&back)).await;
    a_timer_ends_in_time(&strip(), &[Change::Restart(Some((timed(), devices())))]).await;
    let mut other = timed();
    other.groups[0].id = "ramp".parse().unwrap();
    a_timer_outlives_settings(other, devices()).await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_outlives_a_restart_and_any_wall_clock() {
    let noon: Timestamp = NOON.parse().unwrap();
    a_timer_ends_in_time(&timed(), &[Change::Restart(None)]).await;
    for by in [
        SignedDuration::from_hours(-1),
        SignedDuration::from_hours(1),
        Timestamp::UNIX_EPOCH.duration_since(noon),
    ] {
        let clock = Change::Clock(by);
        a_timer_ends_in_time(&timed(), std::slice::from_ref(&clock)).await;
        a_timer_ends_in_time(&timed(), &[clock.clone(), Change::Restart(None)]).await;
        a_timer_ends_in_time(&timed(), &[Change::RemoveSchedule, clock]).await;
        a_timer_ends_in_time(&without_schedules(), &[Change::Clock(by)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_ended_in_a_suspend_ends_at_once_after() {
    for place in TIMED {
        for rules in [timed(), without_schedules(), no_groups()] {
            let mut simulation = site(rules).await;
            // Its own countdown stands still as well in this simulation.
            simulation.relay("heater").countdown = DeviceCountdown::Unsupported;
            simulation.pass("6s").await;
            let target = simulation.name_of(place.0, place.1).to_string();
            simulation
                .command(&target, Action::OnFor(Duration::from_mins(10)), None)
                .await;
            simulation.pass("4s").await;
            simulation.clock.suspend(SignedDuration::from_mins(20));
            simulation.pass("1100ms").await;
            assert_eq!(power_at(&simulation, place), OFF, "{place:?}");
        }
    }
}

// ---- cooldown, min_off and the day's total

/// What keeps a relay off: how long it is kept, and the limits for that.
fn keeps_off() -> Vec<(&'static str, Limits)> {
    let limit = |text: &str| text.parse().unwrap();
    vec![
        (
            "cooldown",
            Limits {
                max_on: limit("1m"),
                cooldown: limit("30m"),
                ..Limits::NONE
            },
        ),
        (
            "min_off",
            Limits {
                min_off: limit("30m"),
                ..Limits::NONE
            },
        ),
        (
            "max_on_per_day",
            Limits {
                max_on_per_day: limit("1m"),
                ..Limits::NONE
            },
        ),
    ]
}

fn limited(outlets: &[&str], limits: Limits) -> Rules {
    let mut group = grouped(outlets);
    group.schedules.clear();
    group.limits = limits;
    rules(group)
}

/// A relay that was on for 70 s, and is off now, or went off as its limit was reached.
async fn spent(limits: Limits, place: (&str, u8)) -> Simulation {
    let mut simulation = site(limited(&["heater", "mats/1"], limits)).await;
    simulation.pass("31m").await;
    let target = simulation.name_of(place.0, place.1).to_string();
    let command = simulation.set(&target, ON).await;
    simulation.pass("1s").await;
    assert_eq!(
        (simulation.code(command), power_at(&simulation, place)),
        (Some(Ok(())), ON)
    );
    simulation.pass("59s 100ms").await;
    simulation.set(&target, OFF).await;
    simulation.pass("1s").await;
    assert_eq!(power_at(&simulation, place), OFF);
    simulation.pass("10m").await;
    simulation
}

/// ON is refused 29 min after the OFF, and allowed at 30 min and 10 s; a day's total refuses it until midnight.
async fn keeps_off_exactly(
    mut simulation: Simulation,
    what: &str,
    place: (&str, u8),
    since: Instant,
    case: &str,
) {
    let ahead = (since + Duration::from_mins(29)).duration_since(Instant::now());
    simulation.pass_for(ahead).await;
    let target = simulation.name_of(place.0, place.1).to_string();
    let early = simulation.set(&target, ON).await;
    simulation.pass("1s").await;
    assert_eq!(
        (simulation.code(early), power_at(&simulation, place)),
        (Some(Err(ErrorCode::RefusedBySafety)), OFF),
        "{what} of {place:?} at 29 min, {case}"
    );
    simulation.pass("1m 5s").await;
    let late = simulation.set(&target, ON).await;
    simulation.pass("1s").await;
    let expected = if what == "max_on_per_day" { OFF } else { ON };
    assert_eq!(
        power_at(&simulation, place),
        expected,
        "{what} of {place:?} at 30 min, {case}"
    );
    assert_eq!(simulation.code(late).unwrap().is_ok(), expected.is_on());
}

/// Whatever keeps a relay off, the change neither shortens nor lengthens it.
async fn what_keeps_off_survives(case: &str, changes: impl Fn(Limits) -> Vec<Change>, clock_set: bool) {
    for (what, limits) in keeps_off() {
        if clock_set && what == "max_on_per_day" {
            // A day is one of the wall clock.
            continue;
        }
        for place in TIMED {
            let mut simulation = spent(limits, place).await;
            let since = Instant::now() - Duration::from_secs(601);
            for change in changes(limits) {
                simulation.undergo(&change).await;
                simulation.pass("20s").await;
            }
            keeps_off_exactly(simulation, what, place, since, case).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_keeps_off_survives_an_id_for_the_outlet() {
    let changes = |limits| {
        let after = limited(&["heater", "mats/left"], limits);
        vec![Change::Settings(after, named(&[("left", 1)]))]
    };
    what_keeps_off_survives("an id", changes, false).await;
}

#[tokio::test(start_paused = true)]
async fn what_keeps_off_survives_a_regrouping() {
    let changes = |limits| vec![Change::Settings(limited(&["heater", "mats"], limits), devices())];
    what_keeps_off_survives("the strip", changes, false).await;
    let changes = |limits| {
        let mut other = limited(&["heater", "mats/1"], limits);
        other.groups[0].id = "ramp".parse().unwrap();
        vec![Change::Settings(other, devices())]
    };
    what_keeps_off_survives("another group", changes, false).await;
}

#[tokio::test(start_paused = true)]
async fn what_keeps_off_survives_a_group_that_comes_back() {
    let back = |limits| Change::Settings(limited(&["heater", "mats/1"], limits), devices());
    let changes = |limits| vec![Change::Settings(no_groups(), devices()), back(limits)];
    what_keeps_off_survives("gone and back", changes, false).await;
    let changes = |limits| {
        vec![
            Change::Settings(no_groups(), devices()),
            Change::Restart(None),
            back(limits),
        ]
    };
    what_keeps_off_survives("gone, a restart, and back", changes, false).await;
    let changes = |limits| {
        vec![
            Change::Restart(Some((no_groups(), devices()))),
            Change::Restart(Some((limited(&["heater", "mats/1"], limits), devices()))),
        ]
    };
    what_keeps_off_survives("gone and back by restarts", changes, false).await;
}

#[tokio::test(start_paused = true)]
async fn what_keeps_off_survives_a_restart() {
    what_keeps_off_survives("a restart", |_| vec![Change::Restart(None)], false).await;
}

#[tokio::test(start_paused = true)]
async fn what_keeps_off_survives_a_device_that_is_gone_and_back() {
    let changes = |limits: Limits| {
        let without = vec![Device::new("spare", "8022SPARE", &[])];
        vec![
            Change::Settings(no_groups(), without),
            Change::Settings(limited(&["heater", "mats/1"], limits), devices()),
        ]
    };
    what_keeps_off_survives("a device gone and back", changes, false).await;
}

#[tokio::test(start_paused = true)]
async fn what_keeps_off_survives_a_wrong_clock_at_the_start() {
    let noon: Timestamp = NOON.parse().unwrap();
    for by in [
        SignedDuration::from_hours(-1),
        Timestamp::UNIX_EPOCH.duration_since(noon),
    ] {
        let changes = |_| {
            vec![
                Change::Clock(by),
                Change::Restart(None),
                Change::Clock(SignedDuration::ZERO.saturating_sub(by)),
            ]
        };
        what_keeps_off_survives("a wrong clock at the start", changes, true).await;
    }
}

// ---- policies that leave things as they are

fn skipping(start: &str) -> Group {
    let mut group = grouped(&["heater", "mats/1"]);
    group.schedules = vec![schedule("day", start, "20:00")];
    group.schedules[0].catch_up = CatchUp::Skip;
    group
}

#[tokio::test(start_paused = true)]
async fn a_timer_ends_off_in_a_window_that_is_skipped() {
    a_timer_ends_in_time(&rules(skipping("06:00")), &[]).await;
    a_timer_ends_in_time(&rules(skipping("06:00")), &[Change::Restart(None)]).await;
}

#[tokio::test(start_paused = true)]
async fn auto_after_a_timed_on_in_a_skipped_window_is_off() {
    for place in TIMED {
        let mut simulation = site(rules(skipping("06:00"))).await;
        let target = simulation.name_of(place.0, place.1).to_string();
        simulation
            .command(&target, Action::OnFor(Duration::from_mins(10)), None)
            .await;
        simulation.pass("1m").await;
        assert_eq!(power_at(&simulation, place), ON);
        simulation.command(&target, Action::Auto, None).await;
        simulation.pass("2s").await;
        assert_eq!(power_at(&simulation, place), OFF, "{place:?}");
        simulation.pass("1h").await;
        assert_eq!(power_at(&simulation, place), OFF, "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_outside_a_window_skips_nothing() {
    let mut simulation = site(rules(skipping("12:10"))).await;
    simulation.until("2024-06-21T12:10:02").await;
    assert_eq!((simulation.power("heater"), simulation.power("mats/1")), (ON, ON));
    simulation.until("2024-06-21T20:00:02").await;
    assert_eq!(
        (simulation.power("heater"), simulation.power("mats/1")),
        (OFF, OFF)
    );
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_ends_while_away_is_off_on_return_with_keep() {
    for place in TIMED {
        for scheduled in [true, false] {
            let mut group = grouped(&["heater", "mats/1"]);
            group.on_reconnect = OnReconnect::Keep;
            if !scheduled {
                group.schedules.clear();
            }
            let mut simulation = site(rules(group)).await;
            simulation.relay("heater").countdown = DeviceCountdown::Unsupported;
            simulation.pass("6s").await;
            let path = simulation.name_of(place.0, place.1);
            simulation
                .command(&path.to_string(), Action::OnFor(Duration::from_mins(1)), None)
                .await;
            simulation.pass("10s").await;
            set_link(&mut simulation, place.0, false);
            simulation.pass("5m").await;
            assert_eq!(power_at(&simulation, place), ON);
            set_link(&mut simulation, place.0, true);
            simulation.pass("6s").await;
            assert_eq!(
                power_at(&simulation, place),
                OFF,
                "{place:?}, schedules: {scheduled}"
            );
        }
    }
}

fn set_link(simulation: &mut Simulation, hardware: &str, online: bool) {
    for relay in simulation.relays.values_mut() {
        if relay.place.0 == hardware {
            relay.online = online;
        }
    }
}

// ---- limits that come into force

#[tokio::test(start_paused = true)]
async fn a_new_min_off_opens_no_closed_relay() {
    for by_schedule in [false, true] {
        let mut group = grouped(&["heater", "mats/1"]);
        group.limits = Limits::NONE;
        group.schedules = vec![schedule("day", "06:00", "20:00")];
        let mut simulation = site(rules(group.clone())).await;
        simulation.set("group/driveway", OFF).await;
        simulation.pass("20s").await;
        simulation.command("group/driveway", Action::Auto, None).await;
        simulation.pass("5s").await;
        assert_eq!((simulation.power("heater"), simulation.power("mats/1")), (ON, ON));
        if by_schedule {
            let request = Request::SetSchedule {
                group: "driveway".parse().unwrap(),
                schedule: json!({"id": "day", "start": "06:00", "end": "20:00", "safety": {"min_off": "10m"}}),
            };
            simulation.request(request).await.unwrap();
        } else {
            group.limits.min_off = "10m".parse().unwrap();
            simulation.reload_as(rules(group), &devices()).await;
        }
        let before = simulation.switched.len();
        simulation.pass("20m").await;
        assert_eq!(
            simulation.switched.len(),
            before,
            "by schedule/set: {by_schedule}"
        );
        assert_eq!((simulation.power("heater"), simulation.power("mats/1")), (ON, ON));
    }
}

#[tokio::test(start_paused = true)]
async fn an_edge_with_an_override_is_on_time() {
    let mut group = grouped(&["heater", "mats/1", "mats/2"]);
    group.schedules = vec![schedule("day", "12:01", "12:02")];
    group.limits = Limits::NONE;
    let mut simulation = site(rules(group)).await;
    simulation
        .command("heater", Action::OffFor(Duration::from_secs(8)), None)
        .await;
    simulation.pass("12s 950ms").await;
    on(&mut simulation, "heater").await;
    simulation.until("2024-06-21T12:02:01").await;
    assert_eq!(
        (simulation.power("heater"), simulation.power("mats/1")),
        (OFF, OFF)
    );
}

#[tokio::test(start_paused = true)]
async fn an_outlet_left_out_of_the_list_of_its_strip_keeps_its_limit() {
    let limits = Limits {
        max_on: "10m".parse().unwrap(),
        cooldown: "2h".parse().unwrap(),
        ..Limits::NONE
    };
    let mut simulation = site(limited(&["mats"], limits)).await;
    simulation.set("mats/2", ON).await;
    simulation.pass("9m 30s").await;
    simulation.stop().await;
    simulation.left_out = Some("mats/2".parse().unwrap());
    simulation.start().await;
    simulation.pass("10s").await;
    let members = simulation.rules_sent.last().unwrap().groups[0].outlets.clone();
    assert_eq!(members.len(), 2, "{members:?}");
    assert!(simulation.missing.is_empty(), "{:?}", simulation.missing);
    simulation.left_out = None;
    simulation.pass("27s").await;
    assert_eq!(simulation.power("mats/2"), OFF, "its limit is over");
    let refused = simulation.set("mats/2", ON).await;
    assert_eq!(simulation.code(refused), Some(Err(ErrorCode::RefusedBySafety)));
}

#[tokio::test(start_paused = true)]
async fn both_of_two_exchanged_devices_are_known_again() {
    let after = || {
        vec![
            Device::new("lamp", HEATER, &[]),
            Device::new("heater", "8022LAMP", &[]),
        ]
    };
    for workers in ["meanwhile", "later", "before"] {
        let paths = ["heater", "lamp"].map(|path| path.parse().unwrap());
        let mut group = grouped(&["heater", "lamp"]);
        group.schedules = vec![schedule("day", "12:01", "12:02")];
        let mut simulation = Simulation::of(rules(group.clone()), NOON.parse().unwrap(), &paths);
        simulation.pass("6s").await;
        match workers {
            "later" => simulation.reload_before_workers(rules(group), &after()).await,
            "before" => simulation.reload_after_workers(rules(group), &after()).await,
            _ => simulation.reload_as(rules(group), &after()).await,
        }
        simulation.until("2024-06-21T12:01:02").await;
        assert_eq!(
            (simulation.power("heater"), simulation.power("lamp")),
            (ON, ON),
            "workers report {workers}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn limits_of_one_of_two_exchanged_devices_never_bind_the_other() {
    let paths = ["heater", "lamp"].map(|path| path.parse().unwrap());
    let limits = Limits {
        max_on: "10m".parse().unwrap(),
        cooldown: "2h".parse().unwrap(),
        ..Limits::NONE
    };
    let rules = || limited(&["heater", "lamp"], limits);
    let mut simulation = Simulation::of(rules(), NOON.parse().unwrap(), &paths);
    simulation.pass("6s").await;
    simulation.set("heater", ON).await;
    simulation.pass("11m").await;
    let refused = simulation.set("heater", ON).await;
    assert_eq!(simulation.code(refused), Some(Err(ErrorCode::RefusedBySafety)));
    // They exchange their ids, and it takes a while until they report under them.
    for path in ["heater", "lamp"] {
        simulation.relay(path).online = false;
    }
    let after = [
        Device::new("lamp", HEATER, &[]),
        Device::new("heater", "8022LAMP", &[]),
    ];
    simulation.reload_as(rules(), &after).await;
    let command = simulation.set("heater", ON).await;
    assert_eq!(
        simulation.code(command),
        None,
        "it waits for the device with this id"
    );
    for path in ["heater", "lamp"] {
        simulation.relay(path).online = true;
    }
    simulation.pass("8s").await;
    assert_eq!(
        (simulation.code(command), simulation.power("heater")),
        (Some(Ok(())), ON)
    );
    let refused = simulation.set("lamp", ON).await;
    assert_eq!(simulation.code(refused), Some(Err(ErrorCode::RefusedBySafety)));
}

#[tokio::test(start_paused = true)]
async fn a_command_under_way_brings_no_limit_that_is_gone() {
    // The limit goes while the command that has to arm the countdown is on its way to the device.
    for by_restart in [false, true] {
        let limits = Limits {
            max_on: "20s".parse().unwrap(),
            ..Limits::NONE
        };
        let mut simulation = site(rules(pair(limits))).await;
        let command = simulation.set("heater", ON).await;
        simulation.reload_as(no_groups(), &devices()).await;
        simulation.pass("1s").await;
        assert_eq!(
            (simulation.code(command), simulation.power("heater")),
            (Some(Ok(())), ON)
        );
        if by_restart {
            simulation.restart(Duration::from_secs(1)).await;
        }
        simulation.pass("1m").await;
        assert_eq!(
            simulation.power("heater"),
            ON,
            "no limit is left, by restart: {by_restart}"
        );
    }
}

// ---- members that wait

fn staggered(scheduled: bool) -> Group {
    let mut group = grouped(&["heater", "mats/1", "mats/2"]);
    group.stagger = Some("20s".parse().unwrap());
    if !scheduled {
        group.schedules.clear();
    }
    group
}

/// Starts a command for a staggered group; `mats/2` waits 40 s for its turn. Returns its state after a minute, and how
/// often it was switched on.
async fn withdrawn(scheduled: bool, by: impl AsyncFn(&mut Simulation)) -> (Power, usize) {
    let mut simulation = site(rules(staggered(scheduled))).await;
    let command = simulation.set("group/driveway", ON).await;
    simulation.pass("22s").await;
    assert_eq!(
        (simulation.power("mats/1"), simulation.power("mats/2")),
        (ON, OFF)
    );
    by(&mut simulation).await;
    simulation.pass("6s").await;
    assert!(
        simulation.code(command).is_some(),
        "the waiting member is answered"
    );
    simulation.pass("1m").await;
    let path: OutletPath = "mats/2".parse().unwrap();
    let ons = simulation
        .switched
        .iter()
        .filter(|(_, found, power)| *found == path && power.is_on());
    (simulation.power("mats/2"), ons.count())
}

#[tokio::test(start_paused = true)]
async fn a_member_that_waits_for_its_turn_is_withdrawn_by_auto() {
    let auto = async |simulation: &mut Simulation| {
        simulation.command("mats/2", Action::Auto, None).await;
    };
    assert_eq!(withdrawn(true, auto).await, (OFF, 0));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_waits_for_its_turn_is_withdrawn_by_clear() {
    let clear = async |simulation: &mut Simulation| {
        simulation.request(Request::ClearOverrides(None)).await.unwrap();
    };
    assert_eq!(withdrawn(true, clear).await, (OFF, 0));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_waits_for_its_turn_is_withdrawn_by_a_command() {
    for scheduled in [true, false] {
        let off = async |simulation: &mut Simulation| {
            simulation.set("mats/2", OFF).await;
        };
        assert_eq!(withdrawn(scheduled, off).await, (OFF, 0), "{scheduled}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_waits_for_its_turn_is_withdrawn_by_its_button() {
    for scheduled in [true, false] {
        let buttons = async |simulation: &mut Simulation| {
            simulation.press("mats/2");
            simulation.pass("5s").await;
            simulation.press("mats/2");
        };
        assert_eq!(withdrawn(scheduled, buttons).await, (OFF, 0), "{scheduled}");
    }
}

// ---- an ON that waits for its device

/// A group of a plug and an outlet of a strip, without schedules.
fn pair(limits: Limits) -> Group {
    let mut group = grouped(&["heater", "mats/1"]);
    group.schedules.clear();
    group.limits = limits;
    group
}

async fn on(simulation: &mut Simulation, target: &str) {
    let command = simulation.set(target, ON).await;
    simulation.pass("1s").await;
    assert_eq!(simulation.code(command), Some(Ok(())), "{target}");
}

#[tokio::test(start_paused = true)]
async fn min_off_counts_when_an_outlet_returns_off() {
    for place in TIMED {
        let limits = Limits {
            min_off: "10m".parse().unwrap(),
            ..Limits::NONE
        };
        let mut simulation = site(rules(pair(limits))).await;
        simulation.pass("11m").await;
        let path = simulation.name_of(place.0, place.1).to_string();
        on(&mut simulation, &path).await;
        simulation.pass("1m").await;
        set_link(&mut simulation, place.0, false);
        simulation.press(&path);
        simulation.pass("6s").await;
        let command = simulation.set(&path, ON).await;
        simulation.pass("3s").await;
        set_link(&mut simulation, place.0, true);
        simulation.pass("6s").await;
        assert_eq!(
            (simulation.code(command), power_at(&simulation, place)),
            (Some(Err(ErrorCode::RefusedBySafety)), OFF),
            "{place:?}"
        );
        simulation.pass("9m 40s").await;
        let early = simulation.set(&path, ON).await;
        simulation.pass("30s").await;
        let late = simulation.set(&path, ON).await;
        simulation.pass("1s").await;
        assert!(simulation.code(early).unwrap().is_err());
        assert_eq!(simulation.code(late), Some(Ok(())));
    }
}

#[tokio::test(start_paused = true)]
async fn min_off_counts_from_an_off_that_a_lost_link_hid() {
    // OFF and ON again by the button within the outage: nothing was seen, so nothing is refused.
    for place in TIMED {
        let limits = Limits {
            min_off: "10m".parse().unwrap(),
            ..Limits::NONE
        };
        let mut simulation = site(rules(pair(limits))).await;
        simulation.pass("11m").await;
        let path = simulation.name_of(place.0, place.1).to_string();
        on(&mut simulation, &path).await;
        set_link(&mut simulation, place.0, false);
        simulation.pass("6s").await;
        simulation.press(&path);
        simulation.pass("6s").await;
        simulation.press(&path);
        simulation.pass("6s").await;
        set_link(&mut simulation, place.0, true);
        simulation.pass("1m").await;
        assert_eq!(power_at(&simulation, place), ON, "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_on_gives_way_to_a_rival_that_went_on_meanwhile() {
    for (first, second) in [(TIMED[0], TIMED[1]), (TIMED[1], TIMED[0])] {
        let mut group = pair(Limits::NONE);
        group.interlock = Interlock::OneOn;
        let mut simulation = site(rules(group)).await;
        let path = simulation.name_of(first.0, first.1).to_string();
        let rival = simulation.name_of(second.0, second.1).to_string();
        set_link(&mut simulation, first.0, false);
        simulation.pass("6s").await;
        let command = simulation.set(&path, ON).await;
        simulation.pass("2s").await;
        simulation.press(&rival);
        simulation.pass("1s").await;
        set_link(&mut simulation, first.0, true);
        simulation.pass("6s").await;
        assert_eq!(
            (power_at(&simulation, first), power_at(&simulation, second)),
            (OFF, ON)
        );
        let code = simulation.code(command);
        let refused = [ErrorCode::RefusedBySafety, ErrorCode::Superseded].map(|code| Some(Err(code)));
        assert!(refused.contains(&code), "{code:?}");
        let path = simulation.name_of(first.0, first.1);
        assert!(simulation.switched.iter().all(|(_, found, _)| *found != path));
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_on_is_superseded_by_auto_and_by_clear() {
    for place in TIMED {
        for clear in [false, true] {
            let mut simulation = site(timed()).await;
            let path = simulation.name_of(place.0, place.1).to_string();
            set_link(&mut simulation, place.0, false);
            simulation.pass("6s").await;
            let command = simulation.set(&path, ON).await;
            simulation.pass("2s").await;
            if clear {
                simulation.request(Request::ClearOverrides(None)).await.unwrap();
            } else {
                simulation.command(&path, Action::Auto, None).await;
            }
            simulation.pass("1s").await;
            assert_eq!(
                simulation.code(command),
                Some(Err(ErrorCode::Superseded)),
                "{place:?}, clear: {clear}"
            );
            set_link(&mut simulation, place.0, true);
            simulation.pass("1m").await;
            assert_eq!(power_at(&simulation, place), OFF);
            assert!(simulation.switched.is_empty(), "{:?}", simulation.switched);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_on_is_armed_for_the_whole_limit() {
    let limits = Limits {
        max_on: "8s".parse().unwrap(),
        ..Limits::NONE
    };
    let mut simulation = site(rules(pair(limits))).await;
    set_link(&mut simulation, HEATER, false);
    simulation.pass("6s").await;
    let command = simulation.set("heater", ON).await;
    simulation.pass("9s").await;
    set_link(&mut simulation, HEATER, true);
    simulation.pass("500ms").await;
    assert_eq!(
        (simulation.code(command), simulation.power("heater")),
        (Some(Ok(())), ON)
    );
    match simulation.relay("heater").countdown {
        DeviceCountdown::Until(end) => {
            let left = end.duration_since(Instant::now());
            assert!(left > Duration::from_secs(7), "{left:?}");
        }
        other => panic!("{other:?}"),
    }
    simulation.pass("6s 500ms").await;
    assert_eq!(simulation.power("heater"), ON);
    simulation.pass("3s").await;
    assert_eq!(simulation.power("heater"), OFF);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_on_that_no_schedule_wants_any_more_is_not_sent() {
    // A window closes while the device is away and its ON waits.
    for place in TIMED {
        let mut group = grouped(&["heater", "mats/1"]);
        group.schedules = vec![schedule("day", "12:01", "12:02")];
        let mut simulation = site(rules(group)).await;
        set_link(&mut simulation, place.0, false);
        simulation.until("2024-06-21T12:01:55").await;
        simulation.pass("4s").await;
        set_link(&mut simulation, place.0, false);
        simulation.until("2024-06-21T12:02:02").await;
        set_link(&mut simulation, place.0, true);
        simulation.pass("1m").await;
        let path = simulation.name_of(place.0, place.1);
        assert!(
            simulation.switched.iter().all(|(_, found, _)| *found != path),
            "{:?}",
            simulation.switched
        );
    }
}

#[tokio::test(start_paused = true)]
async fn min_off_starts_with_an_off_inside_one_poll() {
    for place in TIMED {
        let limits = Limits {
            min_off: "10m".parse().unwrap(),
            ..Limits::NONE
        };
        let mut simulation = site(rules(pair(limits))).await;
        simulation.pass("11m").await;
        let path = simulation.name_of(place.0, place.1).to_string();
        on(&mut simulation, &path).await;
        simulation.pass("1m").await;
        let off = simulation.set(&path, OFF).await;
        simulation.pass("100ms").await;
        let on = simulation.set(&path, ON).await;
        simulation.pass("1s").await;
        assert_eq!(simulation.code(off), Some(Ok(())));
        assert_eq!(
            simulation.code(on),
            Some(Err(ErrorCode::RefusedBySafety)),
            "{place:?}"
        );
        // Both at once: the newer one wins, and the relay did not open.
        let mut simulation = site(rules(pair(limits))).await;
        simulation.pass("11m").await;
        let command = simulation.set(&path, ON).await;
        simulation.pass("1m").await;
        simulation.set(&path, OFF).await;
        let again = simulation.set(&path, ON).await;
        simulation.pass("1s").await;
        assert_eq!(simulation.code(command), Some(Ok(())));
        let opened = simulation.switched.iter().any(|(_, _, power)| *power == OFF);
        assert!(
            !(opened && power_at(&simulation, place) == ON),
            "{:?} {:?}",
            simulation.code(again),
            simulation.switched
        );
    }
}

// ---- interlock, device counts, strips

#[tokio::test(start_paused = true)]
async fn of_two_that_are_switched_at_once_exactly_one_stays_on() {
    for latencies in [[50, 50], [50, 900], [900, 50]] {
        for by_button in [false, true] {
            let mut group = pair(Limits::NONE);
            group.interlock = Interlock::OneOn;
            let mut simulation = site(rules(group)).await;
            for (path, latency) in ["heater", "mats/1"].into_iter().zip(latencies) {
                simulation.relay(path).latency = Duration::from_millis(latency);
            }
            if by_button {
                simulation.press("heater");
                simulation.press("mats/1");
            } else {
                simulation.set("heater", ON).await;
                simulation.press("mats/1");
            }
            simulation.pass("30s").await;
            let on = [simulation.power("heater"), simulation.power("mats/1")];
            let count = on.into_iter().filter(|power| power.is_on()).count();
            assert_eq!(count, 1, "{latencies:?}, by buttons alone: {by_button}");
            let before = simulation.switched.len();
            simulation.pass("10m").await;
            assert_eq!(simulation.switched.len(), before, "they take no turns");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_on_time_that_lies_does_not_extend_max_on() {
    let limits = Limits {
        max_on: "10m".parse().unwrap(),
        ..Limits::NONE
    };
    for place in TIMED {
        for lie in ["stuck", "restarts", "wraps"] {
            for restart in [false, true] {
                let mut simulation = site(rules(pair(limits))).await;
                simulation.relay("heater").countdown = DeviceCountdown::Unsupported;
                simulation.pass("6s").await;
                let path = simulation.name_of(place.0, place.1).to_string();
                simulation.relay(&path).shown = match lie {
                    "stuck" => Some(OnTime::Stuck),
                    "wraps" => Some(OnTime::Wraps(200)),
                    _ => None,
                };
                on(&mut simulation, &path).await;
                simulation.pass("4m").await;
                if lie == "restarts" {
                    simulation.relay(&path).shown = Some(OnTime::Since(Instant::now()));
                }
                simulation.pass("1m").await;
                if restart {
                    simulation.restart(Duration::from_secs(2)).await;
                }
                simulation.pass("4m 50s").await;
                assert_eq!(power_at(&simulation, place), ON, "{place:?} {lie} {restart}");
                simulation.pass("10s").await;
                assert_eq!(power_at(&simulation, place), OFF, "{place:?} {lie} {restart}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_relay_of_a_whole_strip_has_its_own_max_on() {
    let limits = Limits {
        max_on: "10m".parse().unwrap(),
        cooldown: "5m".parse().unwrap(),
        ..Limits::NONE
    };
    let mut simulation = site(limited(&["mats"], limits)).await;
    on(&mut simulation, "mats/1").await;
    simulation.pass("5m").await;
    on(&mut simulation, "mats/2").await;
    simulation.pass("5m 2s").await;
    assert_eq!(
        (simulation.power("mats/1"), simulation.power("mats/2")),
        (OFF, ON)
    );
    simulation.pass("4m 52s").await;
    assert_eq!(simulation.power("mats/2"), ON);
    simulation.pass("7s").await;
    assert_eq!(simulation.power("mats/2"), OFF);
    on(&mut simulation, "mats/1").await;
}

#[tokio::test(start_paused = true)]
async fn commands_to_devices_that_do_not_exist_leave_nothing() {
    let mut simulation = site(timed()).await;
    let before = simulation.kept();
    let begun = Instant::now();
    let mut commands = Vec::new();
    for number in 0..5000 {
        let (target, action, lifetime) = match number % 4 {
            0 => (format!("none-{number}"), Action::Switch(Switch::To(ON)), None),
            1 => (
                format!("none-{number}/2"),
                Action::OnFor(Duration::from_mins(1)),
                None,
            ),
            2 => (
                format!("none-{number}"),
                Action::CountDown(Duration::from_mins(1)),
                None,
            ),
            _ => (
                format!("none-{number}"),
                Action::Switch(Switch::To(ON)),
                Some(Lifetime::Hold),
            ),
        };
        commands.push(simulation.command(&target, action, lifetime).await);
    }
    assert_eq!(Instant::now(), begun, "nothing is waited for");
    for command in commands {
        assert_eq!(simulation.code(command), Some(Err(ErrorCode::UnknownDevice)));
    }
    assert_eq!(simulation.kept(), before);
    assert_eq!(simulation.waiting(), 0);
    simulation.pass("1m").await;
    assert_eq!(simulation.kept(), before);
    assert!(
        simulation
            .outlets
            .keys()
            .all(|path| !path.device.as_str().starts_with("none"))
    );
}

/// The state file of 0.1.0 names outlets. One of a strip in no group has no name before its strip is reached.
#[tokio::test(start_paused = true)]
async fn a_timer_of_0_1_0_goes_on_outside_groups() {
    let mut simulation = site(no_groups()).await;
    for target in ["heater", "mats/2"] {
        simulation.set(target, ON).await;
    }
    simulation.pass("6s").await;
    simulation.stop().await;
    let timer = json!({"set_at": "2024-06-21T12:00:20Z", "at": "2024-06-21T12:01:00Z"});
    let old: PersistedScheduler =
        serde_json::from_value(json!({"timers": {"heater": timer, "mats/2": timer}})).unwrap();
    let configured = ["heater", "mats"].map(|id| (id.parse().unwrap(), ConfiguredDevice::default()));
    let relays = Relays::new(configured.into(), BTreeMap::new());
    simulation.keep(old.upgraded(&no_groups(), &relays));
    simulation.start().await;
    simulation.pass("1m").await;
    assert_eq!(
        (simulation.power("heater"), simulation.power("mats/2")),
        (OFF, OFF)
    );
}
