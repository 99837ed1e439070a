use super::*;
use crate::{
    Steady,
    safety::Report,
    testing::{celsius, moment, thermostat},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

fn fresh(room: f64) -> RoomReading {
    RoomReading::Fresh {
        room: Temperature::from_celsius(room),
        scale: Scale::Celsius,
        stale_at: Steady::MAX,
        stale_after: Period::minutes(10),
    }
}

/// A relay that has been in a state for so long, and the moment.
fn since(power: Power, seconds: i64) -> (RunTime, Steady) {
    let start = Timestamp::from_second(1_000_000).unwrap();
    let mut run_time = RunTime::default();
    let mut report = |power: Power, at: Timestamp| {
        let report = Report {
            power,
            on_time: None,
            at: moment(at),
        };
        run_time.observe(report, &TimeZone::UTC);
    };
    report(power.toggled(), start - SignedDuration::from_hours(1));
    report(power, start);
    let now = Steady::at(start).after(SignedDuration::from_secs(seconds));
    (run_time, now)
}

fn wants(goal: Goal, room: f64, power: Power, seconds: i64) -> Power {
    let (run_time, now) = since(power, seconds);
    let relay = HeaterRelay {
        power: Some(power),
        run_time: &run_time,
    };
    thermostat(20.0).demand(goal, fresh(room), relay, now).power
}

#[test]
fn a_relay_stays_as_it_is_between_the_thresholds() {
    use Power::{Off, On};
    let goal = Goal::Target(celsius(21.0));
    for (room, power, expected) in [
        (20.7, Off, On),
        (20.75, Off, On),
        (20.8, Off, Off),
        (20.8, On, On),
        (21.2, On, On),
        (21.25, On, Off),
        (21.2, Off, Off),
    ] {
        assert_eq!(wants(goal, room, power, 600), expected, "{room} {power}");
    }
}

#[test]
fn frost_protection_heats_whatever_the_goal_is() {
    use Power::{Off, On};
    for goal in [Goal::Frost, Goal::Off, Goal::Target(celsius(5.0))] {
        assert_eq!(wants(goal, 4.9, Off, 600), On, "{goal:?}");
        assert_eq!(wants(goal, 5.4, On, 600), On, "{goal:?}");
        assert_eq!(wants(goal, 5.6, On, 600), Off, "{goal:?}");
    }
    assert_eq!(wants(Goal::Off, 5.0, Off, 600), Off);
}

#[test]
fn a_relay_is_left_alone_for_the_shortest_times() {
    use Power::{Off, On};
    let goal = Goal::Target(celsius(21.0));
    assert_eq!(wants(goal, 19.0, Off, 119), Off);
    assert_eq!(wants(goal, 19.0, Off, 120), On);
    assert_eq!(wants(goal, 23.0, On, 119), On);
    assert_eq!(wants(goal, 23.0, On, 120), Off);
    // What is not to be heated any more goes off at once.
    assert_eq!(wants(Goal::Frost, 19.0, On, 1), Off);
    assert_eq!(wants(Goal::Off, 19.0, On, 1), Off);
}

#[test]
fn a_lease_of_before_the_start_holds_until_it_ends() {
    let thermostat = thermostat(20.0);
    let (mut run_time, now) = since(Power::On, 60);
    let after = |seconds| now.after(SignedDuration::from_secs(seconds));
    let awaited = RoomReading::Awaited(after(300));
    assert_eq!(thermostat.permit(awaited, &run_time, now), Permit::Refused(None));
    run_time.lend(after(100));
    let leased = Permit::Leased(Lease::until(after(100)));
    assert_eq!(thermostat.permit(awaited, &run_time, now), leased);
    assert_eq!(
        thermostat.permit(awaited, &run_time, after(100)),
        Permit::Refused(None)
    );
    let silent = RoomReading::Silent(now);
    assert_eq!(thermostat.permit(silent, &run_time, now), Permit::Refused(None));
}
