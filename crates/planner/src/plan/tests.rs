//! The rules of the planner, one by one.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::{
    condition::WhenUnknown,
    overrides::{Lifetime, Origin, Override, OverrideError, OverrideState},
    period::after,
    rules::{CatchUp, InVacation, Limit, LimitChanges, Priority},
    testing::{Site, freezing, group, moment, outlet, schedule},
    window::Window,
};

const ON: Option<Power> = Some(Power::On);
const OFF: Option<Power> = Some(Power::Off);
const ZONE: &str = "Europe/London";

fn morning() -> Site {
    Site::new(group(vec![schedule("morning", "06:00", "08:00")]), ZONE)
}

fn limited(max_on: &str, cooldown: &str) -> Limits {
    Limits {
        max_on: max_on.parse().unwrap(),
        cooldown: cooldown.parse().unwrap(),
        ..Limits::NONE
    }
}

/// Advances the accounts as the task does, after a plan.
fn advance(site: &mut Site) -> Option<Cause> {
    let plan = site.plan();
    let zone = site.rules.location.zone.clone();
    let limits = plan.groups[0].limits;
    let trip = site.safety.advance(&outlet(1), &limits, moment(site.now), &zone);
    trip.map(|trip| trip.cause)
}

#[test]
fn rule_03_the_level_counts_and_the_edge_is_named() {
    let mut site = morning();
    let open = site.wall("2024-06-21T06:00");
    let close = site.wall("2024-06-21T08:00");
    let before = site.at("2024-06-21T05:59:59").first();
    assert_eq!((before.desired, before.wake), (OFF, Some(open)));
    // It does not depend on a look at the edge.
    let inside = site.at("2024-06-21T07:13").first();
    assert_eq!((inside.desired, inside.wake), (ON, Some(close)));
    assert_eq!(inside.since, Some(open));
    assert_eq!(site.at("2024-06-21T08:00").desired(), OFF);
}

#[test]
fn rule_03_whatever_changes_next_is_named() {
    let mut site = morning();
    site.rules.groups[0].limits = limited("30m", "10m");
    site.rules.groups[0].schedules[0].conditions = vec![freezing(WhenUnknown::Off)];
    site.at("2024-06-21T06:00").measures(-1.0);

    let stale = site.wall("2024-06-21T06:30");
    assert_eq!(site.plan().wake, Some(stale), "a sensor goes stale");

    site.at("2024-06-21T06:10").reports(&outlet(1), Power::On);
    site.measures(-1.0);
    let limit = site.wall("2024-06-21T06:40");
    assert_eq!(site.plan().wake, Some(limit), "a limit is reached");

    site.at("2024-06-21T06:40").measures(-1.0);
    assert_eq!(advance(&mut site), Some(Cause::MaxOn));
    site.reports(&outlet(1), Power::Off);
    let cooled = site.wall("2024-06-21T06:50");
    assert_eq!(site.plan().wake, Some(cooled), "a cooldown ends");

    site.wants(OverrideState::Off, Lifetime::For("5m".parse().unwrap()));
    let ended = site.wall("2024-06-21T06:45");
    assert_eq!(site.plan().wake, Some(ended), "an override ends");
}

#[test]
fn rule_03_outside_its_window_a_sensor_is_not_waited_for() {
    let mut site = conditional(WhenUnknown::Off);
    site.at("2024-06-21T12:00").boot().measures(-1.0);
    let next = site.plan().wake;
    assert_eq!(next, Some(site.wall("2024-06-22T06:00")));
}

#[test]
fn rule_03_a_restart_catches_up_or_waits_for_the_next_edge() {
    let mut site = morning();
    assert_eq!(site.at("2024-06-21T07:00").boot().desired(), ON);

    site.rules.groups[0].schedules[0].catch_up = CatchUp::Skip;
    let skipped = site.first();
    assert_eq!((skipped.desired, skipped.source), (None, Source::Device));
    assert_eq!(site.at("2024-06-21T07:59:59").desired(), None);
    assert_eq!(site.at("2024-06-21T08:00").desired(), OFF);
    assert_eq!(site.at("2024-06-22T06:00").desired(), ON);

    // Outside of windows nothing was missed that could be skipped.
    assert_eq!(site.at("2024-06-22T12:00").boot().desired(), OFF);
    assert_eq!(site.at("2024-06-23T06:00").desired(), ON);
}

#[test]
fn rule_03_skip_is_asked_of_the_winner() {
    let mut other = schedule("other", "06:30", "09:00");
    other.priority = Priority::Low;
    let mut site = Site::new(group(vec![schedule("morning", "06:00", "08:00"), other]), ZONE);
    site.rules.groups[0].schedules[1].catch_up = CatchUp::Skip;
    assert_eq!(site.at("2024-06-21T07:00").boot().desired(), ON);
    assert_eq!(site.at("2024-06-21T08:30").boot().desired(), None);
    // None is active, and not all have it set.
    assert_eq!(site.at("2024-06-21T10:00").boot().desired(), OFF);
}

#[test]
fn rule_04_any_active_schedule_turns_the_group_on() {
    let schedules = vec![
        schedule("early", "06:00", "08:00"),
        schedule("late", "07:00", "09:00"),
    ];
    let mut site = Site::new(group(schedules), ZONE);
    for (wall, desired) in [
        ("05:00", OFF),
        ("06:30", ON),
        ("07:30", ON),
        ("08:30", ON),
        ("09:00", OFF),
    ] {
        assert_eq!(
            site.at(&format!("2024-06-21T{wall}")).desired(),
            desired,
            "{wall}"
        );
    }
}

#[test]
fn rule_04_the_highest_priority_wins_then_the_first() {
    let mut schedules = vec![
        schedule("first", "06:00", "08:00"),
        schedule("second", "06:00", "08:00"),
        schedule("third", "06:00", "08:00"),
    ];
    let winner = |schedules: &[_]| {
        let mut site = Site::new(group(schedules.to_vec()), ZONE);
        let plan = site.at("2024-06-21T07:00").plan();
        let rule = plan.outlets[&outlet(1)].rule.as_ref().map(ToString::to_string);
        assert_eq!(rule, plan.groups[0].winner.as_ref().map(ToString::to_string));
        rule.unwrap()
    };
    assert_eq!(winner(&schedules), "first");
    schedules[2].priority = Priority::Critical;
    assert_eq!(winner(&schedules), "third");
    schedules[1].priority = Priority::Critical;
    assert_eq!(winner(&schedules), "second");
    schedules[1].enabled = false;
    assert_eq!(winner(&schedules), "third");
}

#[test]
fn rule_04_the_winner_brings_its_limits() {
    let mut night = schedule("night", "20:00", "06:00");
    night.limits = LimitChanges {
        max_on: Some("2h".parse().unwrap()),
        ..LimitChanges::default()
    };
    let mut site = Site::new(group(vec![night]), ZONE);
    site.rules.groups[0].limits = limited("6h", "30m");
    let hours = |text: &str| -> Limit { text.parse().unwrap() };
    assert_eq!(site.at("2024-06-21T12:00").first().limits.max_on, hours("6h"));
    let active = site.at("2024-06-21T21:00").first().limits;
    assert_eq!(active, limited("2h", "30m"));
}

#[test]
fn rule_04_a_group_without_schedules_is_manual() {
    let mut site = Site::new(group(Vec::new()), ZONE);
    for power in [Power::On, Power::Off] {
        site.at("2024-06-21T12:00").reports(&outlet(1), power);
        let plan = site.first();
        assert_eq!((plan.desired, plan.source), (None, Source::Manual));
        assert_eq!(plan.wake, None);
    }
    // An override of another time means nothing here.
    site.wants(OverrideState::On, Lifetime::Hold);
    assert_eq!(site.desired(), None);
}

#[test]
fn rule_04_a_disabled_schedule_leaves_nothing_on() {
    let mut site = morning();
    site.rules.groups[0].schedules[0].enabled = false;
    let plan = site.at("2024-06-21T07:00").first();
    assert_eq!(
        (plan.desired, plan.source, plan.wake),
        (OFF, Source::Schedule, None)
    );
    assert_eq!(plan.reason.as_str(), "no schedule enabled");
}

#[test]
fn rule_05_each_outlet_is_planned_for_itself() {
    let mut site = morning();
    site.at("2024-06-21T07:00").reports(&outlet(1), Power::On);
    site.reports(&outlet(2), Power::Off);
    let plan = site.plan();
    assert_eq!(
        plan.outlets[&outlet(2)].desired,
        ON,
        "the other one does not count for it"
    );
    assert_eq!(plan.groups[0].state, ON);
    assert_eq!(plan.groups[0].expected, ON);

    site.observed.remove(&outlet(2));
    assert_eq!(site.plan().outlets[&outlet(2)].desired, ON, "out of reach");
}

#[test]
fn rule_05_an_unknown_member_is_not_off() {
    let mut site = morning();
    site.at("2024-06-21T12:00").reports(&outlet(1), Power::Off);
    assert_eq!(site.plan().groups[0].state, None);
    site.reports(&outlet(2), Power::Off);
    assert_eq!(site.plan().groups[0].state, OFF);
}

#[test]
fn rule_06_safety_then_override_then_vacation_then_schedule() {
    let mut site = morning();
    site.rules.groups[0].limits = limited("30m", "1h");
    let decided = |site: &mut Site| {
        let plan = site.first();
        (plan.desired, plan.source)
    };
    site.at("2024-06-21T07:00");
    assert_eq!(decided(&mut site), (ON, Source::Schedule));
    site.vacation = Vacation::Since(site.now);
    assert_eq!(decided(&mut site), (OFF, Source::Vacation));
    site.wants(OverrideState::On, Lifetime::Hold);
    assert_eq!(decided(&mut site), (ON, Source::Override));
    site.reports(&outlet(1), Power::On);
    site.at("2024-06-21T07:30");
    assert_eq!(decided(&mut site), (OFF, Source::Safety));
    let all = [
        (Source::Safety, OFF, true),
        (Source::Override, ON, false),
        (Source::Vacation, OFF, false),
        (Source::Schedule, ON, false),
    ];
    assert_eq!(layers(&site.first()), all);
    assert_eq!(layers_of(&site.plan().groups[0].why), all);
}

fn layers(plan: &OutletPlan) -> Vec<(Source, Option<Power>, bool)> {
    layers_of(&plan.why)
}

fn layers_of(why: &[Layer]) -> Vec<(Source, Option<Power>, bool)> {
    let all = why.iter().map(|layer| (layer.source, layer.state, layer.decides));
    all.collect()
}

/// In every situation one layer decides what the plan says, or none where it is switched by hand.
#[test]
fn rule_06_the_layer_that_decides_is_the_decision() {
    let mut site = morning();
    site.rules.groups[0].limits = limited("1h", "3h");
    site.at("2024-06-21T05:00");
    assert_eq!(layers(&site.first()), [(Source::Schedule, OFF, true)]);
    site.at("2024-06-21T06:00").reports(&outlet(1), Power::On);
    site.at("2024-06-21T07:00");
    assert_eq!(advance(&mut site), Some(Cause::MaxOn));
    site.reports(&outlet(1), Power::Off);
    for (time, expected) in [
        (
            "07:30",
            [(Source::Safety, OFF, true), (Source::Schedule, ON, false)],
        ),
        // Off for its own reason; the limit is still there.
        (
            "08:00",
            [(Source::Safety, OFF, false), (Source::Schedule, OFF, true)],
        ),
    ] {
        let plan = site.at(&format!("2024-06-21T{time}")).first();
        assert_eq!(layers(&plan), expected, "{time}");
        let decides = plan.why.iter().find(|layer| layer.decides).unwrap();
        let decision = (plan.source, plan.desired, &plan.rule, &plan.reason);
        assert_eq!(
            (decides.source, decides.state, &decides.rule, &decides.reason),
            decision
        );
    }
    let manual = Site::new(group(Vec::new()), ZONE).at("2024-06-21T07:00").first();
    assert_eq!((manual.source, manual.why), (Source::Manual, Vec::new()));
}

#[test]
fn rule_06_a_limit_that_changes_nothing_is_not_the_reason() {
    let mut site = morning();
    site.rules.groups[0].limits = limited("1h", "3h");
    site.at("2024-06-21T06:00").reports(&outlet(1), Power::On);
    site.at("2024-06-21T07:00");
    assert_eq!(advance(&mut site), Some(Cause::MaxOn));
    site.reports(&outlet(1), Power::Off);
    assert_eq!(site.first().source, Source::Safety);
    let after_the_window = site.at("2024-06-21T08:00").first();
    assert_eq!(
        (after_the_window.desired, after_the_window.source),
        (OFF, Source::Schedule)
    );
    assert_eq!(
        after_the_window.cooldown_until,
        Some(site.wall("2024-06-21T10:00"))
    );
    assert_eq!(site.plan().groups[0].safety, SafetyState::Tripped);
}

#[test]
fn rule_07_a_pause_is_safety_but_no_trip() {
    let mut site = morning();
    site.rules.groups[0].limits = Limits {
        min_off: "10m".parse().unwrap(),
        ..Limits::NONE
    };
    site.at("2024-06-21T06:58").reports(&outlet(1), Power::On);
    site.at("2024-06-21T06:59").reports(&outlet(1), Power::Off);
    site.reports(&outlet(2), Power::On);
    let plan = site.plan();
    let first = &plan.outlets[&outlet(1)];
    assert_eq!((first.desired, first.source), (OFF, Source::Safety));
    assert_eq!(first.wake, Some(site.wall("2024-06-21T07:09")));
    assert_eq!(plan.groups[0].safety, SafetyState::Clear);
}

#[test]
fn rule_07_a_plug_switched_on_by_button_goes_off_at_its_limit() {
    for schedules in [vec![schedule("morning", "06:00", "08:00")], Vec::new()] {
        let mut site = Site::new(group(schedules), ZONE);
        site.rules.groups[0].limits = Limits::default();
        site.at("2024-06-21T12:00").reports(&outlet(1), Power::On);
        let pressed = Override::new(
            OverrideState::On,
            Lifetime::UntilNextSchedule,
            Origin::Device,
            moment(site.now),
        )
        .unwrap();
        site.overrides.set(outlet(1), pressed);
        let limit = site.wall("2024-06-21T18:00");
        assert_eq!(site.first().wake, Some(limit));
        assert_ne!(site.at("2024-06-21T17:59:59").first().desired, OFF);

        let tripped = site.at("2024-06-21T18:00").first();
        assert_eq!((tripped.desired, tripped.source), (OFF, Source::Safety));
        assert_eq!(tripped.rule, Some(Rule::Limit(Cause::MaxOn)));
        assert_eq!(advance(&mut site), Some(Cause::MaxOn));
        site.reports(&outlet(1), Power::Off);
        let cooled = site.wall("2024-06-21T18:30");
        assert_eq!(site.first().cooldown_until, Some(cooled));
    }
}

#[test]
fn rule_07_a_restart_two_hours_into_six_leaves_four() {
    let mut site = Site::new(group(vec![schedule("day", "06:00", "22:00")]), ZONE);
    site.rules.groups[0].limits = Limits::default();
    site.at("2024-06-21T08:00").boot();
    let report = crate::safety::Report {
        power: Power::On,
        on_time: Some(SignedDuration::from_hours(2)),
        at: moment(site.now),
    };
    let zone = site.rules.location.zone.clone();
    site.safety.observe(&outlet(1), report, &zone);
    site.observed.insert(outlet(1), Power::On);
    let plan = site.first();
    assert_eq!(
        (plan.desired, plan.wake),
        (ON, Some(site.wall("2024-06-21T12:00")))
    );
    assert_eq!(site.at("2024-06-21T12:00").desired(), OFF);
}

#[test]
fn rule_08_an_override_after_an_edge_waits_for_the_next_one() {
    let mut site = morning();
    site.at("2024-06-21T08:04")
        .wants(OverrideState::On, Lifetime::UntilNextSchedule);
    let plan = site.first();
    assert_eq!((plan.desired, plan.source), (ON, Source::Override));
    let end = site.wall("2024-06-22T08:00");
    assert_eq!(plan.override_until, Some(end));
    assert_eq!(site.plan().groups[0].mode, Mode::On);
    // The window of the next day agrees with it.
    assert_eq!(site.at("2024-06-22T06:00").first().source, Source::Override);
    let over = site.at("2024-06-22T08:00").first();
    assert_eq!((over.desired, over.source), (OFF, Source::Schedule));
}

#[test]
fn rule_08_an_override_at_an_edge_is_not_ended_by_it() {
    let mut site = morning();
    site.at("2024-06-21T08:00")
        .wants(OverrideState::On, Lifetime::UntilNextSchedule);
    assert_eq!(site.first().override_until, Some(site.wall("2024-06-22T08:00")));
    site.at("2024-06-21T06:00")
        .wants(OverrideState::Off, Lifetime::UntilNextSchedule);
    assert_eq!(site.first().override_until, Some(site.wall("2024-06-22T06:00")));
    assert_eq!(site.at("2024-06-22T06:00").desired(), ON);
}

#[test]
fn rule_08_only_the_group_as_a_whole_contradicts() {
    let schedules = vec![schedule("a", "06:00", "12:00"), schedule("b", "10:00", "14:00")];
    let mut site = Site::new(group(schedules), ZONE);
    site.at("2024-06-21T09:00")
        .wants(OverrideState::On, Lifetime::UntilNextSchedule);
    assert_eq!(site.first().override_until, Some(site.wall("2024-06-21T14:00")));
    site.wants(OverrideState::Off, Lifetime::UntilNextSchedule);
    assert_eq!(site.first().override_until, Some(site.wall("2024-06-22T06:00")));
}

#[test]
fn rule_08_an_override_without_an_edge_ahead_lasts_its_default() {
    let mut site = morning();
    site.rules.groups[0].schedules[0].window = Window::ALL_DAY;
    site.at("2024-06-21T09:00")
        .wants(OverrideState::Off, Lifetime::UntilNextSchedule);
    assert_eq!(site.first().override_until, Some(site.wall("2024-06-21T12:00")));
    assert_eq!(site.at("2024-06-21T12:00").desired(), ON);
}

#[test]
fn rule_08_lifetimes_count_real_time() {
    let mut site = Site::new(
        group(vec![schedule("morning", "06:00", "08:00")]),
        "America/New_York",
    );
    // Two hours over the night when the clocks go forward.
    site.at("2024-03-10T01:30")
        .wants(OverrideState::On, Lifetime::For("2h".parse().unwrap()));
    assert_eq!(site.first().override_until, Some(site.wall("2024-03-10T04:30")));

    let until = site.wall("2024-03-11T12:00");
    site.wants(OverrideState::On, Lifetime::Until(until));
    assert_eq!(site.at("2024-03-11T11:59:59").desired(), ON);
    assert_eq!(site.at("2024-03-11T12:00").desired(), OFF);

    site.wants(OverrideState::On, Lifetime::Hold);
    let held = site.at("2025-03-11T12:00").first();
    assert_eq!((held.desired, held.override_until), (ON, None));
}

#[test]
fn rule_08_a_lifetime_that_cannot_be_is_refused() {
    let now: Timestamp = "2024-06-21T12:00:00Z".parse().unwrap();
    let new = |lifetime| Override::new(OverrideState::On, lifetime, Origin::Command, moment(now)).err();
    assert_eq!(new(Lifetime::For("24h".parse().unwrap())), None);
    let too_long = Lifetime::For("24h 1s".parse().unwrap());
    assert_eq!(new(too_long), Some(OverrideError::TooLong));
    assert_eq!(new(Lifetime::Until(now)), Some(OverrideError::Past(now)));
}

#[test]
fn rule_08_a_newer_one_replaces_and_auto_ends() {
    let mut site = morning();
    site.at("2024-06-21T12:00")
        .wants(OverrideState::On, Lifetime::Hold);
    site.wants(OverrideState::Off, Lifetime::Hold);
    assert_eq!(site.plan().groups[0].mode, Mode::Off);
    let cleared = site.overrides.clear(&outlet(1)).unwrap();
    assert_eq!(cleared.state(), OverrideState::Off);
    assert_eq!(site.first().source, Source::Schedule);
    let plan = site.plan();
    assert_eq!(plan.groups[0].mode, Mode::Auto, "one member is not the group");
    assert_eq!(plan.groups[0].source, Source::Override, "the strongest speaks");
}

#[test]
fn rule_08_what_has_ended_is_taken_out_once() {
    let mut site = morning();
    site.at("2024-06-21T07:00")
        .wants(OverrideState::Off, Lifetime::For("10m".parse().unwrap()));
    let other: OutletPath = "gone".parse().unwrap();
    let hold = Override::new(
        OverrideState::On,
        Lifetime::Hold,
        Origin::Command,
        moment(site.now),
    )
    .unwrap();
    site.overrides.set(other.clone(), hold);
    site.at("2024-06-21T07:10");
    let ended = site.overrides.expire(&site.rules, moment(site.now));
    let outlets: Vec<_> = ended.into_iter().map(|(outlet, _)| outlet).collect();
    assert_eq!(outlets, [other, outlet(1), outlet(2)]);
    assert!(site.overrides.expire(&site.rules, moment(site.now)).is_empty());
}

#[test]
fn rule_08_an_ignored_change_is_left_until_the_next_edge() {
    let mut site = morning();
    site.at("2024-06-21T07:00")
        .wants(OverrideState::Leave, Lifetime::UntilNextSchedule);
    let left = site.first();
    assert_eq!((left.desired, left.source), (None, Source::Device));
    assert_eq!(left.override_until, Some(site.wall("2024-06-21T08:00")));
    assert_eq!(site.at("2024-06-21T08:00").desired(), OFF);
}

#[test]
fn rule_15_overrides_survive_a_restart() {
    let mut site = morning();
    site.at("2024-06-21T07:00");
    let until = after(site.now, SignedDuration::from_hours(1));
    for lifetime in [
        Lifetime::UntilNextSchedule,
        Lifetime::Until(until),
        Lifetime::Hold,
    ] {
        site.wants(OverrideState::Off, lifetime);
        let text = serde_json::to_string(&site.overrides).unwrap();
        let restored: Overrides = serde_json::from_str(&text).unwrap();
        assert_eq!(restored, site.overrides, "{text}");
    }
    let vacation = Vacation::Since(site.now);
    let text = serde_json::to_string(&vacation).unwrap();
    assert_eq!(serde_json::from_str::<Vacation>(&text).unwrap(), vacation);
}

#[test]
fn rule_09_vacation_suspends_all_groups_but_those_that_run() {
    let mut site = morning();
    site.vacation = Vacation::Since(site.wall("2024-06-20T00:00"));
    let resting = site.at("2024-06-21T07:00").first();
    assert_eq!((resting.desired, resting.source), (OFF, Source::Vacation));
    assert_eq!(resting.reason.as_str(), "morning suspended (vacation)");
    // Off is off without it.
    assert_eq!(site.at("2024-06-21T12:00").first().source, Source::Schedule);

    site.rules.groups[0].in_vacation = InVacation::Run;
    assert_eq!(site.at("2024-06-21T07:00").desired(), ON);
}

#[test]
fn rule_09_overrides_and_safety_apply_in_vacation() {
    let mut site = morning();
    site.rules.groups[0].limits = limited("1h", "30m");
    site.vacation = Vacation::Since(site.wall("2024-06-20T00:00"));
    site.at("2024-06-21T07:00")
        .wants(OverrideState::On, Lifetime::Hold);
    assert_eq!(site.desired(), ON);
    site.reports(&outlet(1), Power::On);
    assert_eq!(site.at("2024-06-21T08:00").first().source, Source::Safety);
}

fn conditional(when_unknown: WhenUnknown) -> Site {
    let mut site = morning();
    site.rules.groups[0].schedules[0].conditions = vec![freezing(when_unknown)];
    site
}

#[test]
fn rule_10_a_running_outlet_stays_on_until_the_grace_ends() {
    let mut site = conditional(WhenUnknown::Off);
    site.at("2024-06-21T07:00").boot().reports(&outlet(1), Power::On);
    site.reports(&outlet(2), Power::Off);
    let plan = site.plan();
    assert_eq!(plan.outlets[&outlet(1)].desired, ON);
    assert_eq!(
        plan.outlets[&outlet(2)].desired,
        OFF,
        "nothing is switched on either"
    );
    assert_eq!(plan.wake, Some(site.wall("2024-06-21T07:05")));
    assert_eq!(site.at("2024-06-21T07:04:59").desired(), ON);
    assert_eq!(site.at("2024-06-21T07:05").desired(), OFF);
}

#[test]
fn rule_10_the_first_value_ends_the_grace() {
    for (value, desired) in [(-1.0, ON), (1.0, OFF)] {
        let mut site = conditional(WhenUnknown::Off);
        site.at("2024-06-21T07:00").boot().reports(&outlet(1), Power::On);
        assert_eq!(site.desired(), ON);
        assert_eq!(site.at("2024-06-21T07:01").measures(value).desired(), desired);
    }
}

#[test]
fn rule_10_the_grace_does_not_outlive_the_window() {
    let mut site = conditional(WhenUnknown::Off);
    site.at("2024-06-21T07:58").boot().reports(&outlet(1), Power::On);
    assert_eq!(site.desired(), ON);
    assert_eq!(site.at("2024-06-21T08:00").desired(), OFF);
}

#[test]
fn rule_10_when_unknown_decides_after_the_grace() {
    let cases = [
        (WhenUnknown::Off, OFF, OFF),
        (WhenUnknown::On, ON, ON),
        (WhenUnknown::Hold, ON, OFF),
    ];
    for (when_unknown, running, resting) in cases {
        let mut site = conditional(when_unknown);
        site.at("2024-06-21T07:00").boot().reports(&outlet(1), Power::On);
        site.reports(&outlet(2), Power::Off);
        site.plan();
        let plan = site.at("2024-06-21T07:30").plan();
        assert_eq!(plan.outlets[&outlet(1)].desired, running, "{when_unknown:?}");
        assert_eq!(plan.outlets[&outlet(2)].desired, resting, "{when_unknown:?}");
    }
}

#[test]
fn rule_10_hold_keeps_what_the_schedule_was_doing() {
    for (value, desired) in [(-1.0, ON), (1.0, OFF)] {
        let mut site = conditional(WhenUnknown::Hold);
        assert_eq!(site.at("2024-06-21T06:30").measures(value).desired(), desired);
        let stale = site.at("2024-06-21T07:00").first();
        assert_eq!(stale.desired, desired, "{value}");
        assert_eq!(site.at("2024-06-21T07:59").desired(), desired, "{value}");
        // Before the next window it did nothing; it keeps that.
        assert_eq!(site.at("2024-06-21T08:00").desired(), OFF);
        assert_eq!(site.at("2024-06-22T06:00").desired(), OFF);
    }
}

#[test]
fn rule_10_a_sensor_that_falls_silent_follows_when_unknown() {
    for (when_unknown, desired) in [(WhenUnknown::Off, OFF), (WhenUnknown::On, ON)] {
        let mut site = conditional(when_unknown);
        site.at("2024-06-21T06:30").measures(-1.0);
        assert_eq!(site.desired(), ON);
        assert_eq!(site.at("2024-06-21T06:59:59").desired(), ON);
        assert_eq!(site.at("2024-06-21T07:00").desired(), desired);
    }
}

#[test]
fn hysteresis_at_a_window_start_ignores_what_is_running() {
    let mut site = conditional(WhenUnknown::Off);
    let condition = &mut site.rules.groups[0].schedules[0].conditions[0];
    if let crate::condition::Test::Number { hysteresis, .. } = &mut condition.test {
        *hysteresis = 1.0;
    }
    // It was switched on by hand before the window.
    site.at("2024-06-21T05:59")
        .measures(0.5)
        .reports(&outlet(1), Power::On);
    site.plan();
    assert_eq!(site.at("2024-06-21T06:00").desired(), OFF);
}

#[test]
fn rule_10_what_fails_is_not_excused_by_what_is_unknown() {
    let mut site = conditional(WhenUnknown::On);
    let mut failing = freezing(WhenUnknown::Off);
    failing.test = crate::condition::Test::Is {
        sensor: "outdoor".parse().unwrap(),
        value: true,
    };
    let mut unheard = freezing(WhenUnknown::Hold);
    unheard.test = crate::condition::Test::Is {
        sensor: "nobody".parse().unwrap(),
        value: true,
    };
    site.rules.groups[0].schedules[0].conditions = vec![unheard, failing];
    site.at("2024-06-21T07:00").boot().reports(&outlet(1), Power::On);
    assert_eq!(site.measures(0.0).desired(), OFF);
}

#[test]
fn rule_13_every_decision_is_explained() {
    let mut site = conditional(WhenUnknown::Hold);
    site.rules.groups[0].limits = limited("1h", "30m");
    let reason = |site: &mut Site| site.first().reason.as_str().to_owned();
    site.at("2024-06-21T05:00");
    assert_eq!(reason(&mut site), "next: morning, 06:00");
    site.at("2024-06-21T06:00").measures(3.25);
    assert_eq!(
        reason(&mut site),
        "morning: condition not met: outdoor 3.25 °C <= 0 °C"
    );
    site.at("2024-06-21T06:10").measures(-1.5);
    assert_eq!(
        reason(&mut site),
        "schedule morning until 08:00: outdoor -1.5 °C <= 0 °C"
    );
    site.at("2024-06-21T06:50");
    assert_eq!(
        reason(&mut site),
        "schedule morning until 08:00: outdoor (stale since 06:40) <= 0 °C"
    );
    site.wants(OverrideState::On, Lifetime::For("24h".parse().unwrap()));
    assert_eq!(reason(&mut site), "manual ON (command at 06:50), until Sat 06:50");
    site.reports(&outlet(1), Power::On);
    site.at("2024-06-21T07:50");
    assert_eq!(reason(&mut site), "maximum on-time 1h reached, then cooldown 30m");
    advance(&mut site);
    site.reports(&outlet(1), Power::Off);
    assert_eq!(reason(&mut site), "cooldown, off until 08:20");

    let mut booted = conditional(WhenUnknown::Off);
    booted.at("2024-06-21T07:00").boot();
    assert_eq!(
        reason(&mut booted),
        "morning waits for sensor outdoor; state unchanged"
    );
}

#[test]
fn rule_14_asking_changes_nothing() {
    let mut site = conditional(WhenUnknown::Hold);
    site.rules.groups[0].limits = limited("1h", "30m");
    site.at("2024-06-21T06:00")
        .measures(-1.0)
        .reports(&outlet(1), Power::On);
    site.wants(OverrideState::On, Lifetime::UntilNextSchedule);
    site.at("2024-06-21T07:00");
    let before = (site.safety.clone(), site.overrides.clone());
    let first = site.plan();
    assert_eq!(site.plan(), first);
    assert_eq!((site.safety, site.overrides), before);
}

mod forecasts {
    use super::*;
    use crate::{
        activity::Conditions,
        holidays::Holidays,
        location::{Coordinates, Location},
        testing::edge,
    };

    fn times(list: &[(&str, Power)]) -> Vec<(String, Power)> {
        list.iter()
            .map(|(at, power)| ((*at).to_owned(), *power))
            .collect()
    }

    #[test]
    fn rule_13_the_coming_times_are_those_of_the_wall() {
        let night = schedule("night", "22:30", "02:30");
        let mut site = Site::new(group(vec![night]), "America/New_York");
        site.at("2024-03-08T12:00");
        let expected = times(&[
            ("03-08 22:30-05:00", Power::On),
            ("03-09 02:30-05:00", Power::Off),
            ("03-09 22:30-05:00", Power::On),
            // 02:30 does not exist in the night of the change.
            ("03-10 03:30-04:00", Power::Off),
            ("03-10 22:30-04:00", Power::On),
            ("03-11 02:30-04:00", Power::Off),
        ]);
        assert_eq!(site.switch_times("2024-03-11T12:00"), expected);
    }

    #[test]
    fn rule_13_the_sun_is_followed_over_the_change_of_the_clocks() {
        let mut site = conditional(WhenUnknown::Off);
        site.rules.location = Location {
            coordinates: Some(Coordinates::new(40.7128, -74.006).unwrap()),
            zone: jiff::tz::TimeZone::get("America/New_York").unwrap(),
            holidays: Holidays::default(),
        };
        let heating = &mut site.rules.groups[0].schedules[0];
        heating.window = Window::between(edge("06:00"), edge("sunrise+00:30")).unwrap();
        heating.days = "mon, tue, wed, thu, fri".parse().unwrap();
        site.conditions = Conditions::TakenToHold;
        site.at("2024-03-07T00:00");
        // The almanac: the sun rises at 06:20 and 06:18, then, an hour later by the clock, at 07:13 and
        // 07:12.
        let expected = [
            ("2024-03-07T06:00", "2024-03-07T06:50"),
            ("2024-03-08T06:00", "2024-03-08T06:48"),
            ("2024-03-11T06:00", "2024-03-11T07:43"),
            ("2024-03-12T06:00", "2024-03-12T07:42"),
        ];
        let changes = site.forecast("2024-03-13T00:00");
        assert_eq!(changes.len(), 8);
        for (pair, (on, off)) in changes.chunks(2).zip(expected) {
            assert_eq!((pair[0].at, pair[0].power), (site.wall(on), Power::On));
            let late = pair[1].at.duration_since(site.wall(off)).abs();
            assert!(
                late <= SignedDuration::from_mins(2),
                "{} is not {off}",
                pair[1].at
            );
            assert_eq!(pair[1].power, Power::Off);
        }
    }

    #[test]
    fn rule_13_holidays_are_foreseen_and_named() {
        let mut early = schedule("early", "06:00", "07:00");
        early.days = "workday".parse().unwrap();
        let mut late = schedule("late", "09:00", "10:00");
        late.days = "weekend, holiday".parse().unwrap();
        let mut site = Site::new(group(vec![early, late]), ZONE);
        // Thursday the 24th, a workday, to Monday the 28th, which the calendar does not reach.
        let christmas = (jiff::civil::date(2026, 12, 25), "Christmas Day".into());
        site.rules.location.holidays =
            Holidays::default().with_dates(std::sync::Arc::new([christmas].into()));
        site.at("2026-12-24T00:00");
        let mut shown = Vec::new();
        for change in site.forecast("2026-12-29T00:00") {
            let at = change.at.to_zoned_datetime(site.rules.location.zone.clone());
            shown.push(format!("{} {}", at.strftime("%a %H:%M"), change.reason));
        }
        assert_eq!(
            shown,
            [
                "Thu 06:00 schedule early until 07:00 (workday)",
                "Thu 07:00 next: late, Fri 09:00",
                "Fri 09:00 schedule late until 10:00 (holiday: Christmas Day)",
                "Fri 10:00 holiday: Christmas Day; next: late, Sat 09:00",
                "Sat 09:00 schedule late until 10:00 (weekend)",
                "Sat 10:00 next: late, Sun 09:00",
                "Sun 09:00 schedule late until 10:00 (weekend)",
                "Sun 10:00 next: early, Mon 06:00",
                "Mon 06:00 schedule early until 07:00 (workday by its weekday)",
                "Mon 07:00 next: early, Tue 06:00",
            ]
        );
    }

    #[test]
    fn rule_13_an_edge_that_strays_has_its_exact_time() {
        let porch = schedule("porch", "18:00±20m", "22:30±10m");
        let mut site = Site::new(group(vec![porch]), ZONE);
        site.at("2026-11-30T00:00");
        let first = site.switch_times("2026-12-03T00:00");
        let expected = times(&[
            ("11-30 18:12+00:00", Power::On),
            ("11-30 22:36+00:00", Power::Off),
            ("12-01 17:43+00:00", Power::On),
            ("12-01 22:32+00:00", Power::Off),
            ("12-02 17:47+00:00", Power::On),
            ("12-02 22:26+00:00", Power::Off),
        ]);
        assert_eq!(first, expected);
        // After a restart too.
        site.at("2026-12-01T12:00").boot();
        assert_eq!(site.switch_times("2026-12-03T00:00"), first[2..]);
    }

    #[test]
    fn rule_13_limits_are_foreseen() {
        let mut site = Site::new(group(vec![schedule("day", "06:00", "12:00")]), ZONE);
        site.rules.groups[0].limits = limited("2h", "30m");
        site.at("2024-06-21T00:00");
        let expected = times(&[
            ("06-21 06:00+01:00", Power::On),
            ("06-21 08:00+01:00", Power::Off),
            ("06-21 08:30+01:00", Power::On),
            ("06-21 10:30+01:00", Power::Off),
            ("06-21 11:00+01:00", Power::On),
            ("06-21 12:00+01:00", Power::Off),
        ]);
        assert_eq!(site.switch_times("2024-06-22T00:00"), expected);
        let changes = site.forecast("2024-06-22T00:00");
        assert_eq!(changes[0].outlets, [outlet(1), outlet(2)]);
        assert_eq!(changes[1].rule, Some(Rule::Limit(Cause::MaxOn)));
        assert_eq!(changes[5].source, Source::Schedule);
    }

    #[test]
    fn rule_13_an_override_is_foreseen_for_its_outlet() {
        let mut site = morning();
        site.at("2024-06-21T07:00").reports(&outlet(1), Power::On);
        site.reports(&outlet(2), Power::On);
        let off = Override::new(
            OverrideState::Off,
            Lifetime::UntilNextSchedule,
            Origin::Command,
            moment(site.now),
        )
        .unwrap();
        site.overrides.set(outlet(2), off);
        let changes = site.forecast("2024-06-22T07:00");
        let found: Vec<_> = changes
            .iter()
            .map(|change| (change.at, change.outlets.clone(), change.power))
            .collect();
        let expected = [
            (site.now, vec![outlet(2)], Power::Off),
            (site.wall("2024-06-21T08:00"), vec![outlet(1)], Power::Off),
            (
                site.wall("2024-06-22T06:00"),
                vec![outlet(1), outlet(2)],
                Power::On,
            ),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn rule_13_conditions_keep_their_last_answer_or_count_as_met() {
        let mut site = conditional(WhenUnknown::Off);
        site.at("2024-06-21T05:00");
        assert!(site.switch_times("2024-06-24T00:00").is_empty(), "unknown is off");
        site.measures(-1.0);
        assert_eq!(site.switch_times("2024-06-24T00:00").len(), 6);
        site.measures(1.0);
        assert!(site.switch_times("2024-06-24T00:00").is_empty());
        site.conditions = Conditions::TakenToHold;
        let changes = site.forecast("2024-06-24T00:00");
        assert_eq!(changes.len(), 6);
        assert_eq!(
            changes[0].reason.as_str(),
            "schedule morning until 08:00, if outdoor <= 0 °C"
        );
    }

    #[test]
    fn without_a_cooldown_the_outlet_goes_on_again_at_once() {
        let mut site = Site::new(group(vec![schedule("day", "06:00", "10:00")]), ZONE);
        site.rules.groups[0].limits = limited("2h", "none");
        site.at("2024-06-21T00:00");
        let expected = times(&[
            ("06-21 06:00+01:00", Power::On),
            ("06-21 08:00+01:00", Power::Off),
            ("06-21 08:00+01:00", Power::On),
            ("06-21 10:00+01:00", Power::Off),
        ]);
        assert_eq!(site.switch_times("2024-06-22T00:00"), expected);
    }

    /// The next change of each outlet is the first one that the plan has for it.
    fn next_change(site: &Site) -> Option<(Timestamp, Option<Power>)> {
        let outlook = site.outlook();
        let week = site.now + SignedDuration::from_hours(8 * 24);
        let changes = site.forecast_until(week);
        let coming = |outlet: &OutletPath| {
            let mut changes = changes.iter().filter(|change| change.at > site.now);
            let change = changes.find(|change| change.outlets.contains(outlet))?;
            Some((change.at, Some(change.power)))
        };
        for outlet in &site.group().outlets {
            assert_eq!(outlook.members.get(outlet).copied(), coming(outlet), "{outlet}");
        }
        outlook.first
    }

    #[test]
    fn rule_13_the_next_change_is_the_first_of_the_plan() {
        let mut site = conditional(WhenUnknown::Off);
        site.at("2024-06-21T07:00").measures(-1.0);
        site.reports(&outlet(1), Power::On);
        site.reports(&outlet(2), Power::On);
        let eight = site.wall("2024-06-21T08:00");
        assert_eq!(
            next_change(&site),
            Some((eight, Some(Power::Off))),
            "not when the value becomes stale"
        );
        // It is warm: it stays off, and that the window closes and opens again changes nothing.
        site.measures(1.0);
        assert_eq!(next_change(&site), None);
        site.measures(-1.0);
        site.vacation = Vacation::Since(site.now);
        assert_eq!(next_change(&site), None);
        site.vacation = Vacation::Off;

        // ON by hand goes on to the end of the next window: at its start nothing changes.
        site.at("2024-06-21T09:00").measures(-1.0);
        site.wants(OverrideState::On, Lifetime::UntilNextSchedule);
        let end = site.wall("2024-06-22T08:00");
        assert_eq!(next_change(&site), Some((end, Some(Power::Off))));
        // OFF by hand ends at the start of the next window, and then it is on.
        site.wants(OverrideState::Off, Lifetime::UntilNextSchedule);
        let start = site.wall("2024-06-22T06:00");
        assert_eq!(next_change(&site), Some((start, Some(Power::On))));
        // One that ends while the schedules want the same changes nothing then.
        site.wants(OverrideState::Off, Lifetime::Until(site.wall("2024-06-21T12:00")));
        assert_eq!(next_change(&site), Some((start, Some(Power::On))));
    }

    #[test]
    fn rule_13_members_that_change_one_by_one_differ_in_between() {
        let mut site = Site::new(group(vec![schedule("day", "06:00", "12:00")]), ZONE);
        site.rules.groups[0].limits = limited("2h", "6h");
        for (at, outlet) in [
            ("2024-06-21T07:00:00", outlet(1)),
            ("2024-06-21T07:00:30", outlet(2)),
        ] {
            site.at(at).reports(&outlet, Power::On);
        }
        let nine = site.wall("2024-06-21T09:00");
        assert_eq!(
            next_change(&site),
            Some((nine, Some(Power::Off))),
            "half a minute is one change"
        );
        site.at("2024-06-21T07:10").reports(&outlet(2), Power::Off);
        site.at("2024-06-21T07:20").reports(&outlet(2), Power::On);
        assert_eq!(next_change(&site), Some((nine, None)));
    }

    #[test]
    fn a_group_that_is_not_there_has_no_forecast() {
        let site = morning();
        let nobody = "nobody".parse().unwrap();
        let changes = crate::forecast::forecast(&site.inputs(), &nobody, &BTreeMap::new(), Timestamp::MAX);
        assert!(changes.is_empty());
    }
}
