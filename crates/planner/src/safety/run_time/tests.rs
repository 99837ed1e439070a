use super::*;
use crate::{
    Power,
    period::{Period, after},
    testing::moment,
};

struct Outlet {
    account: RunTime,
    limits: Limits,
    now: Now,
    zone: TimeZone,
}

impl Outlet {
    fn new(limits: Limits) -> Self {
        Self {
            account: RunTime::default(),
            limits,
            now: moment(at("2024-06-21T10:00:00Z")),
            zone: TimeZone::UTC,
        }
    }

    fn pass(&mut self, time: &str) {
        let period: Period = time.parse().unwrap();
        self.now.wall = after(self.now.wall, period.length());
        self.now.steady = self.now.steady.after(period.length());
    }

    /// The wall clock is set.
    fn set_clock(&mut self, wall: &str) {
        self.now.wall = at(wall);
    }

    fn reports(&mut self, power: Power, on_time: Option<&str>) {
        let report = Report {
            power,
            on_time: on_time.map(|text| text.parse().unwrap()),
            at: self.now,
        };
        self.account.observe(report, &self.zone);
    }

    fn on(&mut self) {
        self.reports(Power::On, None);
    }

    fn off(&mut self) {
        self.reports(Power::Off, None);
    }

    fn advance(&mut self) -> Option<Cause> {
        let trip = self.account.advance(&self.limits, self.now, &self.zone);
        trip.map(|trip| trip.cause)
    }

    fn verdict(&self) -> Verdict {
        self.account.verdict(&self.limits, self.now, &self.zone)
    }

    fn refused(&self) -> Option<(Cause, Option<Timestamp>)> {
        let refusal = self.account.allow_on(&self.limits, self.now, &self.zone).err()?;
        Some((refusal.cause, refusal.possible_at))
    }
}

fn limit(text: &str) -> Limit {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn rule_07_a_run_trips_at_its_limit_and_cools_down() {
    let mut outlet = Outlet::new(Limits::default());
    outlet.on();
    let due = Due {
        at: Steady::at(at("2024-06-21T16:00:00Z")),
        cause: Cause::MaxOn,
    };
    assert_eq!(outlet.verdict(), Verdict::Free(Some(due)));
    outlet.pass("5h 59m 59s");
    assert_eq!(outlet.advance(), None);
    outlet.pass("1s");
    // A limit that is reached blocks before it was recorded.
    assert!(matches!(outlet.verdict(), Verdict::Blocked(block) if block.cause == Cause::MaxOn));
    assert_eq!(outlet.advance(), Some(Cause::MaxOn));
    assert_eq!(outlet.advance(), None, "a trip is reported once");
    assert_eq!(outlet.refused(), Some((Cause::MaxOn, None)));

    outlet.off();
    let until = at("2024-06-21T16:30:00Z");
    assert_eq!(outlet.refused(), Some((Cause::Cooldown, Some(until))));
    assert_eq!(
        outlet.account.cooldown_until(outlet.now.steady),
        Some(Steady::at(until))
    );
    outlet.pass("29m 59s");
    assert!(outlet.account.is_tripped(outlet.now.steady));
    outlet.pass("1s");
    assert_eq!(outlet.refused(), None);
    assert!(!outlet.account.is_tripped(outlet.now.steady));
}

#[test]
fn rule_07_an_ordinary_off_starts_no_cooldown() {
    let mut outlet = Outlet::new(Limits::default());
    outlet.on();
    outlet.pass("5h 59m 59s");
    outlet.off();
    assert_eq!(outlet.advance(), None);
    assert_eq!(outlet.refused(), None);
    assert_eq!(outlet.account.cooldown_until(outlet.now.steady), None);
}

#[test]
fn rule_07_a_pause_starts_the_count_anew() {
    let mut outlet = Outlet::new(Limits::default());
    outlet.on();
    outlet.pass("5h");
    outlet.off();
    outlet.pass("1s");
    outlet.on();
    outlet.pass("5h");
    assert_eq!(outlet.advance(), None);
}

#[test]
fn rule_07_the_device_counts_what_the_bridge_did_not_see() {
    let mut outlet = Outlet::new(Limits::default());
    // A restart two hours into the limit.
    outlet.reports(Power::On, Some("2h"));
    let due = Due {
        at: Steady::at(at("2024-06-21T14:00:00Z")),
        cause: Cause::MaxOn,
    };
    assert_eq!(outlet.verdict(), Verdict::Free(Some(due)));
    outlet.pass("3h");
    outlet.reports(Power::On, Some("4h 59m 58s"));
    assert_eq!(
        outlet.verdict(),
        Verdict::Free(Some(due)),
        "the count does not wander"
    );
    // Its computer restarted, or its count started over: each reading was ON.
    for count in ["1m", "0s", "2s"] {
        outlet.reports(Power::On, Some(count));
        assert_eq!(outlet.verdict(), Verdict::Free(Some(due)), "{count}");
    }
}

#[test]
fn rule_07_a_cooldown_counts_time_that_is_off() {
    let mut outlet = Outlet::new(Limits::default());
    outlet.on();
    outlet.pass("6h");
    assert_eq!(outlet.advance(), Some(Cause::MaxOn));
    // Unreachable for an hour: still on.
    outlet.pass("1h");
    assert_eq!(outlet.refused(), Some((Cause::MaxOn, None)));
    outlet.off();
    outlet.pass("20m");
    // The button is pressed while it cools.
    outlet.on();
    assert!(matches!(outlet.verdict(), Verdict::Blocked(block) if block.until.is_none()));
    outlet.pass("5s");
    outlet.off();
    let until = after(outlet.now.wall, SignedDuration::from_mins(30));
    assert_eq!(outlet.refused(), Some((Cause::Cooldown, Some(until))));
}

#[test]
fn rule_07_looking_at_an_outlet_does_not_lengthen_its_cooldown() {
    let mut outlet = Outlet::new(Limits {
        min_off: limit("20m"),
        ..Limits::default()
    });
    outlet.on();
    outlet.pass("6h");
    outlet.advance();
    outlet.off();
    let until = after(outlet.now.wall, SignedDuration::from_mins(30));
    outlet.pass("10m");
    outlet.off();
    assert_eq!(outlet.refused(), Some((Cause::Cooldown, Some(until))));
    outlet.pass("20m");
    assert_eq!(outlet.refused(), None);
}

#[test]
fn rule_07_an_outlet_first_seen_off_may_have_gone_off_just_now() {
    let mut outlet = Outlet::new(Limits {
        min_off: limit("5m"),
        ..Limits::NONE
    });
    outlet.off();
    let until = after(outlet.now.wall, SignedDuration::from_mins(5));
    assert_eq!(outlet.refused(), Some((Cause::MinOff, Some(until))));
}

#[test]
fn rule_07_a_day_counts_each_second_once_even_with_unseen_ends() {
    let mut outlet = Outlet::new(Limits::NONE);
    let spent = |outlet: &Outlet| outlet.account.spent_today(outlet.now, &outlet.zone).as_mins();
    outlet.on();
    outlet.pass("2h");
    // Pressed off and on somewhere in these two hours.
    outlet.reports(Power::On, Some("30m"));
    assert_eq!(spent(&outlet), 120);
    outlet.off();
    outlet.pass("10m");
    // It claims to have been on while it was seen off.
    outlet.reports(Power::On, Some("1h"));
    outlet.pass("10m");
    outlet.off();
    assert_eq!(spent(&outlet), 140);
}

#[test]
fn no_wall_clock_shortens_the_account_of_a_day() {
    let limits = Limits {
        max_on_per_day: limit("2h"),
        ..Limits::NONE
    };
    for wrong in [
        "2024-06-21T23:00:00Z",
        "2024-06-20T01:00:00Z",
        "1970-01-01T00:00:00Z",
    ] {
        let mut outlet = Outlet::new(limits);
        outlet.now = moment(at("2024-06-22T01:00:00Z"));
        outlet.on();
        outlet.pass("90m");
        outlet.off();
        // The clock is behind for ten minutes.
        outlet.set_clock(wrong);
        outlet.advance();
        outlet.on();
        outlet.pass("10m");
        outlet.set_clock("2024-06-22T02:40:00Z");
        outlet.pass("20m");
        assert_eq!(outlet.advance(), Some(Cause::MaxOnPerDay), "{wrong}");
    }
}

#[test]
fn a_clock_that_was_far_ahead_blocks_one_day_only() {
    let mut outlet = Outlet::new(Limits {
        max_on_per_day: limit("2h"),
        ..Limits::NONE
    });
    outlet.set_clock("2030-01-01T10:00:00Z");
    outlet.on();
    outlet.pass("2h");
    outlet.off();
    outlet.set_clock("2024-06-21T12:00:00Z");
    outlet.advance();
    assert!(outlet.refused().is_some());
    outlet.pass("13h");
    assert_eq!(outlet.refused(), None);
}

#[test]
fn rule_07_a_trip_without_cooldown_ends_with_the_off() {
    let mut outlet = Outlet::new(Limits {
        cooldown: Limit::None,
        ..Limits::default()
    });
    outlet.on();
    outlet.pass("6h");
    assert_eq!(outlet.advance(), Some(Cause::MaxOn));
    assert!(outlet.refused().is_some());
    outlet.off();
    assert_eq!(outlet.refused(), None);
}

#[test]
fn rule_07_min_off_follows_each_off() {
    let mut outlet = Outlet::new(Limits {
        min_off: limit("5m"),
        ..Limits::NONE
    });
    outlet.on();
    outlet.pass("10s");
    outlet.off();
    let until = after(outlet.now.wall, SignedDuration::from_mins(5));
    assert_eq!(outlet.refused(), Some((Cause::MinOff, Some(until))));
    outlet.pass("1m");
    // Its button: a limit on closing never opens.
    outlet.on();
    assert_eq!(outlet.verdict(), Verdict::Free(None));
    outlet.off();
    outlet.pass("5m");
    assert_eq!(outlet.refused(), None);
}

#[test]
fn rule_07_a_day_has_its_own_limit() {
    let mut outlet = Outlet::new(Limits {
        max_on_per_day: limit("2h"),
        cooldown: limit("30m"),
        ..Limits::NONE
    });
    outlet.on();
    outlet.pass("90m");
    outlet.off();
    outlet.pass("1h");
    outlet.on();
    let due = Due {
        at: Steady::at(at("2024-06-21T13:00:00Z")),
        cause: Cause::MaxOnPerDay,
    };
    assert_eq!(outlet.verdict(), Verdict::Free(Some(due)));
    outlet.pass("30m");
    assert_eq!(outlet.advance(), Some(Cause::MaxOnPerDay));
    outlet.off();
    let midnight = at("2024-06-22T00:00:00Z");
    assert_eq!(outlet.refused(), Some((Cause::MaxOnPerDay, Some(midnight))));
    outlet.now = moment(midnight);
    assert_eq!(outlet.refused(), None);
}

#[test]
fn rule_07_a_run_over_midnight_is_split() {
    let mut outlet = Outlet::new(Limits {
        max_on_per_day: limit("2h"),
        ..Limits::NONE
    });
    outlet.now = moment(at("2024-06-21T23:00:00Z"));
    outlet.on();
    let due = Due {
        at: Steady::at(at("2024-06-22T02:00:00Z")),
        cause: Cause::MaxOnPerDay,
    };
    assert_eq!(outlet.verdict(), Verdict::Free(Some(due)));
    outlet.pass("2h");
    outlet.off();
    let spent = outlet.account.spent_today(outlet.now, &outlet.zone);
    assert_eq!(spent, SignedDuration::from_hours(1));
}

#[test]
fn rule_02_a_day_with_a_gap_is_a_day() {
    let mut outlet = Outlet::new(Limits {
        max_on_per_day: limit("2h"),
        ..Limits::NONE
    });
    outlet.zone = TimeZone::get("America/New_York").unwrap();
    outlet.now = moment(at("2024-03-10T05:00:00Z"));
    outlet.on();
    outlet.pass("2h");
    assert_eq!(outlet.advance(), Some(Cause::MaxOnPerDay));
    outlet.off();
    let midnight = at("2024-03-11T04:00:00Z");
    assert_eq!(outlet.refused(), Some((Cause::MaxOnPerDay, Some(midnight))));
}

#[test]
fn rule_15_accounts_survive_a_restart() {
    let mut outlet = Outlet::new(Limits::default());
    outlet.on();
    outlet.pass("6h");
    outlet.advance();
    outlet.off();
    let text = serde_json::to_string(&outlet.account).unwrap();
    let restored: RunTime = serde_json::from_str(&text).unwrap();
    // The run that is over is needed until the next decision only.
    outlet.account.last_run = None;
    assert_eq!(restored, outlet.account);
    assert!(text.contains("2024-06-21T16:00:00Z"), "{text}");
    assert_eq!(serde_json::from_str::<RunTime>("{}").unwrap(), RunTime::default());
}

#[test]
fn lengths_are_real_time_whatever_the_wall_clock_shows() {
    for wall in [
        "2023-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "2030-01-01T00:00:00Z",
    ] {
        let mut outlet = Outlet::new(Limits {
            min_off: limit("5m"),
            ..Limits::default()
        });
        outlet.on();
        outlet.pass("5h");
        outlet.set_clock(wall);
        outlet.on();
        outlet.pass("59m 59s");
        assert_eq!(outlet.advance(), None, "{wall}");
        outlet.pass("1s");
        assert_eq!(outlet.advance(), Some(Cause::MaxOn), "{wall}");
        outlet.off();
        outlet.set_clock("2024-01-01T00:00:00Z");
        let until = at("2024-01-01T00:30:00Z");
        assert_eq!(outlet.refused(), Some((Cause::Cooldown, Some(until))), "{wall}");
        outlet.pass("30m");
        assert_eq!(outlet.refused(), None, "{wall}");
    }
}

#[test]
fn an_on_knows_beforehand_how_long_it_may_last() {
    let mut outlet = Outlet::new(Limits {
        max_on_per_day: limit("2h"),
        ..Limits::default()
    });
    outlet.on();
    outlet.pass("90m");
    outlet.off();
    let due = outlet
        .account
        .runs_until(&outlet.limits, outlet.now, &outlet.zone)
        .unwrap();
    assert_eq!(due.cause, Cause::MaxOnPerDay);
    assert_eq!(due.at.since(outlet.now.steady), SignedDuration::from_mins(30));
}

#[test]
fn a_run_of_a_backup_counts_once_it_is_seen() {
    for power in [Power::Off, Power::On] {
        let mut outlet = Outlet::new(Limits {
            max_on: limit("6h"),
            max_on_per_day: limit("8h"),
            ..Limits::default()
        });
        outlet.on();
        outlet.account.mark_from_backup();
        outlet.pass("10h");
        assert_eq!((outlet.advance(), outlet.refused()), (None, None));
        // Also after another restart.
        let kept = serde_json::to_string(&outlet.account).unwrap();
        outlet.account = serde_json::from_str(&kept).unwrap();
        outlet.reports(power, None);
        let tripped = (power == Power::On).then_some(Cause::MaxOn);
        assert_eq!(outlet.advance(), tripped, "{power:?}");
        assert_eq!(outlet.refused().is_some(), power == Power::On, "{power:?}");
        let kept = serde_json::to_string(&outlet.account).unwrap();
        assert!(!kept.contains("backup"), "{kept}");
    }
}

#[test]
fn less_than_a_second_of_a_day_is_no_run() {
    for (milliseconds, allowed) in [(38_900, true), (39_100, false), (40_000, false)] {
        let mut outlet = Outlet::new(Limits {
            max_on_per_day: limit("40s"),
            ..Limits::NONE
        });
        outlet.on();
        let run = SignedDuration::from_millis(milliseconds);
        outlet.now.wall = after(outlet.now.wall, run);
        outlet.now.steady = outlet.now.steady.after(run);
        outlet.off();
        assert_eq!(outlet.refused().is_none(), allowed, "{milliseconds} ms");
    }
}
