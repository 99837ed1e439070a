//! Edges, reconciling, sensors, vacation, restarts.

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::simulation::Simulation;
use crate::domain::{
    command::Action,
    device_command::Switch,
    report::EventKind,
    scheduling::{Request, ScheduleProposal},
};
use planner::{
    Power,
    condition::WhenUnknown,
    overrides::Lifetime,
    plan::{Source, Vacation},
    rules::{Group, Limit, Limits, OnExternalChange, Rules},
    testing::{Site, freezing, group, schedule},
};

pub(super) const ON: Power = Power::On;
pub(super) const OFF: Power = Power::Off;

/// The rules of one group, in UTC.
pub(super) fn rules(group: Group) -> Rules {
    let mut rules = Site::new(group, "UTC").rules;
    rules.location.zone = TimeZone::UTC;
    rules
}

pub(super) fn morning() -> Group {
    group(vec![schedule("morning", "06:00", "08:00")])
}

pub(super) async fn simulation(group: Group, wall: &str) -> Simulation {
    let mut simulation = Simulation::new(rules(group), format!("{wall}Z").parse().unwrap());
    simulation.pass("1s").await;
    simulation
}

#[tokio::test(start_paused = true)]
async fn rule_03_an_edge_is_acted_on_within_a_second() {
    let mut simulation = simulation(morning(), "2024-06-21T05:00:00").await;
    simulation.until("2024-06-21T05:59:59").await;
    assert_eq!(
        (simulation.power("mats/1"), simulation.power("mats/2")),
        (OFF, OFF)
    );
    simulation.until("2024-06-21T06:00:01").await;
    assert_eq!((simulation.power("mats/1"), simulation.power("mats/2")), (ON, ON));
    simulation.until("2024-06-21T08:00:01").await;
    assert_eq!(
        (simulation.power("mats/1"), simulation.power("mats/2")),
        (OFF, OFF)
    );
    assert_eq!(simulation.switched.len(), 4);
    assert_eq!(
        (
            simulation.count(EventKind::ScheduleOn),
            simulation.count(EventKind::ScheduleOff)
        ),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn rule_05_an_outlet_that_missed_its_edge_is_switched_on_return() {
    let mut simulation = simulation(morning(), "2024-06-21T05:59:00").await;
    for path in ["mats/1", "mats/2"] {
        simulation.relay(path).online = false;
    }
    simulation.until("2024-06-21T06:30:00").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    assert_eq!(simulation.standing("mats/1").mismatch, Some(true));
    assert!(simulation.count(EventKind::StateMismatch) >= 1);
    for path in ["mats/1", "mats/2"] {
        simulation.relay(path).online = true;
    }
    simulation.pass("6s").await;
    assert_eq!((simulation.power("mats/1"), simulation.power("mats/2")), (ON, ON));
    assert_eq!(simulation.standing("mats/1").mismatch, Some(false));
}

#[tokio::test(start_paused = true)]
async fn rule_13_one_that_is_changed_back_each_time_is_a_mismatch() {
    let mut enforced = morning();
    enforced.on_external_change = OnExternalChange::Enforce;
    let mut simulation = simulation(enforced, "2024-06-21T06:10:00").await;
    simulation.pass("2m").await;
    for _ in 0..7 {
        assert_eq!(simulation.standing("mats/1").mismatch, Some(false));
        assert_eq!(simulation.power("mats/1"), ON, "switched on again");
        simulation.press("mats/1");
        simulation.pass("10s").await;
    }
    assert_eq!(
        simulation.count(EventKind::StateMismatch),
        1,
        "it differs for a minute"
    );
    simulation.pass("2m").await;
    simulation.press("mats/1");
    simulation.pass("10s").await;
    assert_eq!(
        simulation.count(EventKind::StateMismatch),
        1,
        "it was right for a minute"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_05_a_member_that_missed_its_command_is_repaired() {
    let mut simulation = simulation(morning(), "2024-06-21T05:59:00").await;
    simulation.relay("mats/2").stubborn = true;
    simulation.until("2024-06-21T06:02:00").await;
    assert_eq!(
        (simulation.power("mats/1"), simulation.power("mats/2")),
        (ON, OFF)
    );
    simulation.relay("mats/2").stubborn = false;
    simulation.pass("1m").await;
    assert_eq!(simulation.power("mats/2"), ON);
}

#[tokio::test(start_paused = true)]
async fn rule_05_members_are_switched_one_after_the_other() {
    let mut staggered = morning();
    staggered.stagger = Some("3s".parse().unwrap());
    let mut simulation = simulation(staggered, "2024-06-21T05:59:00").await;
    simulation.until("2024-06-21T06:00:10").await;
    let at: Vec<_> = simulation.switched.iter().map(|(at, _, _)| *at).collect();
    let apart = at[1].duration_since(at[0]).as_secs_f64();
    assert!((3.0..3.1).contains(&apart), "{apart}");
}

#[tokio::test(start_paused = true)]
async fn rule_09_vacation_turns_schedules_off_and_is_kept() {
    let mut simulation = simulation(morning(), "2024-06-21T06:10:00").await;
    simulation.pass("5s").await;
    assert_eq!(simulation.power("mats/1"), ON);
    simulation.request(Request::Vacation(Some(true))).await.unwrap();
    simulation.pass("1s").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    assert_eq!(simulation.standing("mats/1").source, Source::Vacation);
    simulation.restart(Duration::from_secs(5)).await;
    simulation.pass("10s").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    assert!(matches!(simulation.kept().saved.vacation, Vacation::Since(_)));
    simulation.request(Request::Vacation(Some(false))).await.unwrap();
    simulation.pass("1s").await;
    assert_eq!(simulation.power("mats/1"), ON);
    assert_eq!(simulation.count(EventKind::Vacation), 2);
}

fn conditional(when_unknown: WhenUnknown) -> Group {
    let mut group = morning();
    group.schedules[0].conditions = vec![freezing(when_unknown)];
    group
}

#[tokio::test(start_paused = true)]
async fn rule_10_after_a_restart_a_heater_runs_until_the_grace_ends() {
    for (when_unknown, afterwards) in [
        (WhenUnknown::Off, OFF),
        (WhenUnknown::On, ON),
        (WhenUnknown::Hold, ON),
    ] {
        let mut simulation = simulation(conditional(when_unknown), "2024-06-21T05:59:00").await;
        simulation.publish("weather/outdoor", "-3").await;
        simulation.until("2024-06-21T06:01:00").await;
        assert_eq!(simulation.power("mats/1"), ON);
        simulation.restart(Duration::from_secs(20)).await;
        simulation.pass("4m 59s").await;
        assert_eq!(simulation.power("mats/1"), ON, "{when_unknown:?} in the grace");
        simulation.pass("2s").await;
        assert_eq!(
            simulation.power("mats/1"),
            afterwards,
            "{when_unknown:?} after it"
        );
        simulation.until("2024-06-21T08:00:01").await;
        assert_eq!(simulation.power("mats/1"), OFF);
    }
}

#[tokio::test(start_paused = true)]
async fn rule_10_hold_survives_a_restart() {
    let mut simulation = simulation(conditional(WhenUnknown::Hold), "2024-06-21T05:59:00").await;
    simulation.publish("weather/outdoor", "-3").await;
    simulation.until("2024-06-21T06:01:00").await;
    simulation.restart(Duration::from_secs(20)).await;
    // Off by its button while the bridge was down: the schedule was on, so it is switched on again.
    simulation.press("mats/1");
    simulation.restart(Duration::from_secs(20)).await;
    simulation.pass("10s").await;
    assert_eq!(simulation.power("mats/1"), ON);
}

#[tokio::test(start_paused = true)]
async fn rule_10_a_stale_sensor_and_its_return_are_reported_once() {
    let mut simulation = simulation(conditional(WhenUnknown::Off), "2024-06-21T05:00:00").await;
    simulation.publish("weather/outdoor", "-3").await;
    simulation.publish("weather/outdoor", "nonsense").await;
    simulation.until("2024-06-21T05:29:00").await;
    assert_eq!(simulation.count(EventKind::SensorStale), 0);
    simulation.until("2024-06-21T05:45:00").await;
    assert_eq!(simulation.count(EventKind::SensorStale), 1);
    simulation.publish("weather/outdoor", "-2").await;
    assert_eq!(simulation.count(EventKind::SensorBack), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_10_an_implausible_temperature_is_no_value() {
    let mut simulation = simulation(conditional(WhenUnknown::Off), "2024-06-21T05:00:00").await;
    simulation.publish("weather/outdoor", "-3").await;
    while simulation.clock.now() < "2024-06-21T06:10:00Z".parse().unwrap() {
        simulation.publish("weather/outdoor", "-127").await;
        simulation.pass("1m").await;
    }
    assert_eq!(simulation.count(EventKind::SensorStale), 1);
    assert_eq!(simulation.power("mats/1"), OFF);
    simulation.publish("weather/outdoor", "-3").await;
    simulation.pass("5s").await;
    assert_eq!(simulation.count(EventKind::SensorBack), 1);
    assert_eq!(simulation.power("mats/1"), ON);
}

#[tokio::test(start_paused = true)]
async fn rule_03_a_clock_change_is_noticed_and_no_edge_fires_twice() {
    let mut simulation = simulation(morning(), "2024-06-21T05:00:00").await;
    simulation.clock.jump(jiff::SignedDuration::from_hours(2));
    simulation.pass("61s").await;
    assert_eq!(simulation.power("mats/1"), ON, "07:00 on the wall");
    simulation.clock.jump(jiff::SignedDuration::from_hours(-2));
    simulation.pass("61s").await;
    assert_eq!(simulation.power("mats/1"), OFF, "05:02 on the wall");
    assert_eq!(simulation.switched.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn rule_13_every_outlet_has_an_expected_state_and_a_reason() {
    let mut simulation = simulation(morning(), "2024-06-21T06:10:00").await;
    simulation.pass("5s").await;
    let standing = simulation.standing("mats/1");
    assert_eq!((standing.expected, standing.source), (Some(ON), Source::Schedule));
    assert_eq!(standing.rule.as_deref(), Some("morning"));
    assert_eq!(
        (standing.next_change, standing.next_state),
        (Some("2024-06-21T08:00:00Z".parse().unwrap()), Some(OFF))
    );
    let group = simulation.group();
    assert_eq!(group.why, standing.why);
    assert_eq!((group.state, group.next_state), (Some(ON), Some(OFF)));
    assert!(!simulation.rules_sent.is_empty(), "the rules come first");
}

#[tokio::test(start_paused = true)]
async fn rule_13_an_edge_under_an_override_says_what_counts() {
    let mut simulation = simulation(morning(), "2024-06-21T05:59:00").await;
    let hold = Some(Lifetime::Hold);
    let off = Action::Switch(Switch::To(OFF));
    simulation.command("group/driveway", off, hold).await;
    simulation.until("2024-06-21T06:00:05").await;
    let stale = simulation
        .events
        .iter()
        .find(|(kind, _)| *kind == EventKind::ScheduleOn);
    let (_, message) = stale.unwrap();
    assert!(
        message.starts_with("schedules want group driveway on, but: manual OFF"),
        "{message}"
    );
}

fn plan(draft: Option<ScheduleProposal>) -> Request {
    Request::Plan {
        group: draft.is_some().then(|| "driveway".parse().unwrap()),
        days: 7,
        page: 1,
        draft,
    }
}

fn drafted(definition: serde_json::Value) -> Request {
    plan(Some(ScheduleProposal::Set(definition)))
}

#[tokio::test(start_paused = true)]
async fn rule_14_asking_changes_nothing() {
    let mut simulation = simulation(morning(), "2024-06-21T06:10:00").await;
    simulation.pass("5s").await;
    let before = (simulation.kept(), simulation.switched.len());
    for request in [
        Request::Schedules(None),
        Request::Overrides,
        Request::Vacation(None),
        plan(None),
        drafted(json!({"id": "morning", "start": "09:00", "end": "10:00"})),
        drafted(json!({"id": "new", "all_day": true, "safety": {"max_on": "1m"}})),
        plan(Some(ScheduleProposal::Removed("morning".parse().unwrap()))),
    ] {
        simulation.request(request).await.unwrap();
    }
    simulation.pass("5s").await;
    assert_eq!((simulation.kept(), simulation.switched.len()), before);
    assert_eq!(simulation.rules_sent.len(), 1);
}

/// What a draft says is switched now, and then what saving it switches within a second.
async fn foreseen_and_done(
    simulation: &mut Simulation,
    draft: ScheduleProposal,
) -> (Vec<String>, Vec<String>) {
    let answer = simulation.request(plan(Some(draft.clone()))).await.unwrap();
    let mut foreseen = Vec::new();
    for effect in answer["effect"].as_array().unwrap() {
        for outlet in effect["outlets"].as_array().unwrap() {
            foreseen.push(format!("{outlet} {}", effect["state"]).replace('"', ""));
        }
    }
    let before = simulation.switched.len();
    let group = "driveway".parse().unwrap();
    let request = match draft {
        ScheduleProposal::Set(schedule) => Request::SetSchedule { group, schedule },
        ScheduleProposal::Removed(schedule) => Request::RemoveSchedule { group, schedule },
    };
    simulation.request(request).await.unwrap();
    simulation.pass("6s").await;
    let done = simulation.switched[before..].iter();
    let mut done: Vec<String> = done.map(|(_, path, power)| format!("{path} {power}")).collect();
    foreseen.sort();
    done.sort();
    (foreseen, done)
}

#[tokio::test(start_paused = true)]
async fn rule_13_a_draft_says_what_saving_it_switches() {
    let mut simulation = simulation(morning(), "2024-06-21T06:10:00").await;
    simulation.pass("5s").await;
    let set = |definition| ScheduleProposal::Set(definition);
    let both = |power: &str| vec![format!("mats/1 {power}"), format!("mats/2 {power}")];
    let later = json!({"id": "morning", "start": "09:00", "end": "10:00"});
    let now = json!({"id": "extra", "start": "06:00", "for": "2h", "when": [], "days": ["fri"]});
    let disabled = json!({"id": "extra", "enabled": false, "start": "06:00", "for": "2h"});
    for (draft, expected) in [
        (set(later), both("OFF")),
        (set(now.clone()), both("ON")),
        (set(now), vec![]),
        (set(disabled), both("OFF")),
        (ScheduleProposal::Removed("extra".parse().unwrap()), vec![]),
    ] {
        let (foreseen, done) = foreseen_and_done(&mut simulation, draft.clone()).await;
        assert_eq!((&foreseen, &done), (&expected, &expected), "{draft:?}");
    }
    // One of both by hand: the other follows.
    simulation.set("mats/1", ON).await;
    simulation.pass("5s").await;
    let now = json!({"id": "extra", "start": "06:00", "for": "2h"});
    let (foreseen, done) = foreseen_and_done(&mut simulation, set(now)).await;
    assert_eq!((&foreseen, &done), (&vec!["mats/2 ON".to_owned()], &foreseen));
    // Without any schedule nothing is switched.
    for (id, expected) in [("extra", vec!["mats/2 OFF".to_owned()]), ("morning", vec![])] {
        let draft = ScheduleProposal::Removed(id.parse().unwrap());
        let (foreseen, done) = foreseen_and_done(&mut simulation, draft).await;
        assert_eq!((&foreseen, &done), (&expected, &expected), "{id}");
    }
    // The first one switches what is not on for a time.
    simulation.set("mats/2", ON).await;
    let hour = Lifetime::For("1h".parse().unwrap());
    simulation
        .command("mats/1", Action::Switch(Switch::To(ON)), Some(hour))
        .await;
    simulation.pass("5s").await;
    let evening = json!({"id": "evening", "start": "20:00", "for": "2h"});
    let (foreseen, done) = foreseen_and_done(&mut simulation, set(evening)).await;
    assert_eq!((&foreseen, &done), (&vec!["mats/2 OFF".to_owned()], &foreseen));
}

#[tokio::test(start_paused = true)]
async fn a_plan_has_windows_and_a_draft_has_warnings() {
    let mut asking = morning();
    asking.schedules[0].conditions = vec![freezing(WhenUnknown::Off)];
    asking.limits.max_on = "6h".parse().unwrap();
    let mut simulation = simulation(asking, "2024-06-21T07:00:00").await;
    let answer = simulation.request(plan(None)).await.unwrap();
    let windows = answer["groups"][0]["windows"].as_array().unwrap();
    assert_eq!(
        windows.len(),
        8,
        "today's has begun, and the last one does within the week"
    );
    assert_eq!(
        windows[0],
        json!({
            "schedule": "morning",
            "from": "2024-06-21T06:00:00+00:00",
            "to": "2024-06-21T08:00:00+00:00",
            "conditional": true,
            "suspended": false,
        })
    );
    assert_eq!(answer["sun"], json!([]), "no location is set");
    assert_eq!(
        (&answer["warnings"], &answer["effect"]),
        (&json!(null), &json!(null))
    );

    let draft = json!({"id": "new", "all_day": true, "when": [{"sensor": "outdoor", "at_most": 0}]});
    let answer = simulation.request(drafted(draft.clone())).await.unwrap();
    let windows = answer["groups"][0]["windows"].as_array().unwrap();
    assert_eq!(
        windows
            .iter()
            .filter(|window| window["schedule"] == "new")
            .count(),
        8
    );
    let codes = answer["warnings"].as_array().unwrap().iter();
    assert_eq!(
        codes.map(|one| &one["code"]).collect::<Vec<_>>(),
        ["limit", "no_value"]
    );
    assert_eq!(answer["warnings"][1]["sensor"], "outdoor");
    let removed = plan(Some(ScheduleProposal::Removed("morning".parse().unwrap())));
    let answer = simulation.request(removed).await.unwrap();
    assert_eq!(answer["groups"][0]["windows"], json!([]));
    assert_eq!(answer["warnings"], json!([]));

    // What cannot be saved is no draft.
    for (request, code) in [
        (drafted(json!({"id": "new"})), "invalid_value"),
        (
            plan(Some(ScheduleProposal::Removed("none".parse().unwrap()))),
            "unknown_schedule",
        ),
    ] {
        assert_eq!(simulation.request(request).await.unwrap_err().code(), code);
    }
    simulation.request(Request::Vacation(Some(true))).await.unwrap();
    let answer = simulation.request(plan(None)).await.unwrap();
    assert_eq!(answer["groups"][0]["windows"][0]["suspended"], true);
}

#[tokio::test(start_paused = true)]
async fn a_list_says_which_schedule_is_active_and_which_is_met() {
    let mut asking = morning();
    asking.schedules[0].conditions = vec![freezing(WhenUnknown::Off)];
    asking.schedules.push(schedule("late", "22:00", "23:00"));
    asking.limits.max_on = "2h".parse().unwrap();
    let mut simulation = simulation(asking, "2024-06-21T06:10:00").await;
    let status = async |simulation: &mut Simulation| {
        simulation.pass("5s").await;
        let answer = simulation.request(Request::Schedules(None)).await.unwrap();
        let schedules = &answer["groups"][0]["schedules"];
        assert_eq!(
            (&schedules[1]["active"], &schedules[1]["met"]),
            (&json!(false), &json!([]))
        );
        assert_eq!(answer["groups"][0]["limits"]["max_on"], "2h");
        (schedules[0]["active"].clone(), schedules[0]["met"].clone())
    };
    assert_eq!(status(&mut simulation).await, (json!(false), json!([null])));
    simulation.publish("weather/outdoor", "-3").await;
    assert_eq!(status(&mut simulation).await, (json!(true), json!([true])));
    simulation.request(Request::Vacation(Some(true))).await.unwrap();
    assert_eq!(status(&mut simulation).await, (json!(false), json!([true])));
    simulation.publish("weather/outdoor", "12").await;
    assert_eq!(status(&mut simulation).await, (json!(false), json!([false])));
}

#[tokio::test(start_paused = true)]
async fn rule_15_what_is_kept_about_what_is_gone_is_dropped() {
    let mut simulation = simulation(morning(), "2024-06-21T09:00:00").await;
    let unknown = r#"{
        "overrides": {"gone/1": {"stance": "on", "set_at": "2024-06-21T08:00:00Z", "ends": "never", "origin": "command"}},
        "safety": {"gone/1": {"on_since": "2024-06-21T08:00:00Z"}},
        "timers": {"lamp": {"set_at": "2024-06-19T08:00:00Z", "off_at": "2024-06-19T09:00:00Z"}},
        "schedule_changes": {
            "nobody": {"x": "removed"},
            "driveway": {"gone": {"enabled": false}, "bad": {"set": {"id": "bad"}}}
        },
        "memory": [{"group": "nobody", "schedule": "x", "at": "2024-06-21T08:00:00Z", "memory": {}}]
    }"#;
    simulation.keep(serde_json::from_str(unknown).unwrap());
    simulation.restart(Duration::from_secs(1)).await;
    simulation.pass("10s").await;
    let kept = simulation.kept();
    assert_eq!(kept.overrides.len(), 0);
    assert!(kept.runs.keys().all(|outlet| outlet.device.as_str() == "mats"));
    assert!(kept.timers.is_empty() && kept.saved.schedule_changes.is_empty());
    assert_eq!(simulation.rules_sent.last().unwrap().groups[0], morning());
}

#[tokio::test(start_paused = true)]
async fn rule_15_the_state_changes_with_its_meaning_and_not_with_time() {
    let mut simulation = simulation(morning(), "2024-06-21T06:10:00").await;
    simulation.pass("10s").await;
    let before = simulation.kept();
    simulation.pass("30m").await;
    assert_eq!(simulation.kept(), before);
}

#[tokio::test(start_paused = true)]
async fn rule_20_what_switches_by_itself_closes_a_relay_every_5_s() {
    let mut asking = group(vec![schedule("frost", "00:00", "23:59")]);
    asking.schedules[0].conditions = vec![freezing(WhenUnknown::Off)];
    let mut simulation = simulation(asking, "2024-06-21T12:00:00").await;
    simulation.relay("mats/1").latency = Duration::from_millis(5);
    let closed = |simulation: &Simulation| {
        let on = simulation.switched.iter().filter(|(_, path, power)| {
            *power == ON && path.outlet.as_ref().is_some_and(|key| key.as_str() == "1")
        });
        on.map(|(at, ..)| *at).collect::<Vec<_>>()
    };
    // A threshold that the value crosses ten times a second.
    for number in 0..200 {
        let value = if number % 2 == 0 { "-0.1" } else { "0.1" };
        simulation.publish("weather/outdoor", value).await;
        simulation.pass_for(Duration::from_millis(100)).await;
    }
    let times = closed(&simulation);
    assert!((3..=5).contains(&times.len()), "{times:?}");
    for pair in times.windows(2) {
        assert!(pair[1].duration_since(pair[0]).as_millis() >= 5000, "{times:?}");
    }
    assert_eq!(simulation.power("mats/1"), OFF, "the last value decides");
    simulation.publish("weather/outdoor", "-1").await;
    simulation.pass("6s").await;
    assert_eq!(simulation.power("mats/1"), ON);

    // A person is not slowed, and neither is what AUTO leads to.
    for power in [OFF, ON, OFF] {
        simulation.set("mats/1", power).await;
        simulation.pass_for(Duration::from_millis(100)).await;
        assert_eq!(simulation.power("mats/1"), power);
    }
    simulation.command("mats/1", Action::Auto, None).await;
    simulation.pass_for(Duration::from_millis(100)).await;
    assert_eq!(simulation.power("mats/1"), ON);
}

#[tokio::test(start_paused = true)]
async fn rule_13_a_sensor_that_goes_on_publishes_changes_nothing() {
    let mut asking = morning();
    asking.schedules[0].conditions = vec![freezing(WhenUnknown::Off)];
    let mut simulation = simulation(asking, "2024-06-21T06:10:00").await;
    simulation.publish("weather/outdoor", "-1").await;
    simulation.pass("6s").await;
    let eight = Some("2024-06-21T08:00:00Z".parse().unwrap());
    assert_eq!(next(&simulation), (eight, eight));
    assert_eq!(simulation.group().next_state, Some(OFF));
    let shown = (simulation.outlets.clone(), simulation.groups.clone());
    // Longer than a value counts.
    for _ in 0..90 {
        simulation.publish("weather/outdoor", "-1").await;
        simulation.pass("1m").await;
    }
    for (path, standing) in &shown.0 {
        assert!(
            Arc::ptr_eq(standing, &simulation.outlets[path]),
            "{path} was published again"
        );
    }
    assert!(Arc::ptr_eq(&shown.1["driveway"], &simulation.groups["driveway"]));
}

fn next(simulation: &Simulation) -> (Option<Timestamp>, Option<Timestamp>) {
    (
        simulation.standing("mats/1").next_change,
        simulation.group().next_change,
    )
}

#[tokio::test(start_paused = true)]
async fn rule_13_an_off_that_holds_announces_nothing() {
    let mut simulation = simulation(morning(), "2024-06-21T05:00:00").await;
    let six = Some("2024-06-21T06:00:00Z".parse().unwrap());
    simulation.pass("5s").await;
    assert_eq!(next(&simulation), (six, six));
    let (off, hold) = (Action::Switch(Switch::To(OFF)), Some(Lifetime::Hold));
    simulation.command("mats/1", off, hold).await;
    simulation.pass("5s").await;
    assert_eq!(next(&simulation), (None, six), "the other one goes on");
    simulation.command("group/driveway", off, hold).await;
    simulation.pass("5s").await;
    assert_eq!(next(&simulation), (None, None));
    simulation.command("group/driveway", Action::Auto, None).await;
    simulation.pass("5s").await;
    assert_eq!(next(&simulation), (six, six));
}

#[tokio::test(start_paused = true)]
async fn rule_13_a_stale_value_announces_nothing() {
    let mut asking = morning();
    asking.schedules[0].conditions = vec![freezing(WhenUnknown::Off)];
    let mut simulation = simulation(asking, "2024-06-21T03:00:00").await;
    let six = Some("2024-06-21T06:00:00Z".parse().unwrap());
    for _ in 0..2 {
        simulation.publish("weather/outdoor", "-1").await;
        simulation.pass("6s").await;
        assert_eq!(next(&simulation), (six, six));
        simulation.pass("31m").await;
        assert_eq!(next(&simulation), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn rule_13_a_limit_moves_with_the_clock_behind_an_edge() {
    let mut limited = morning();
    limited.limits = Limits {
        max_on: Limit::Of("6h".parse().unwrap()),
        ..Limits::NONE
    };
    let mut simulation = simulation(limited, "2024-06-21T05:00:00").await;
    let on = Action::Switch(Switch::To(ON));
    simulation
        .command("group/driveway", on, Some(Lifetime::Hold))
        .await;
    simulation.pass("5s").await;
    let (first, _) = next(&simulation);
    let by = jiff::SignedDuration::from_mins(10);
    simulation.clock.jump(by);
    simulation.pass("5s").await;
    let moved = first.map(|at| at + by);
    assert_eq!(next(&simulation), (moved, moved));
    assert_eq!(simulation.standing("mats/1").limit_at, moved);
}
