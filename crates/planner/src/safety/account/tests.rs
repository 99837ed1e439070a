use super::*;
use crate::{Power, period::Period};

struct Outlet {
    account: RunTime,
    limits: Limits,
    now: Timestamp,
    zone: TimeZone,
}

impl Outlet {
    fn new(limits: Limits) -> Self {
        Self {
            account: RunTime::default(),
            limits,
            now: "2024-06-21T10:00:00Z".parse().unwrap(),
            zone: TimeZone::UTC,
        }
    }

    fn pass(&mut self, time: &str) {
        let period: Period = time.parse().unwrap();
        self.now = after(self.now, period.length());
    }

    fn says(&mut self, power: Power, on_time: Option<&str>) {
        let report = Report {
            power,
            on_time: on_time.map(|text| text.parse().unwrap()),
            at: self.now,
        };
        self.account.observe(report, &self.zone);
    }

    fn on(&mut self) {
        self.says(Power::On, None);
    }

    fn off(&mut self) {
        self.says(Power::Off, None);
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
        at: at("2024-06-21T16:00:00Z"),
        cause: Cause::MaxOn,
    };
    assert_eq!(outlet.verdict(), Verdict::Free(Some(due)));
    outlet.pass("5h 59m 59s");
    assert_eq!(outlet.advance(), None);
    outlet.pass("1s");
    // A limit that is reached blocks before anybody recorded it.
    assert!(matches!(outlet.verdict(), Verdict::Blocked(block) if block.cause == Cause::MaxOn));
    assert_eq!(outlet.advance(), Some(Cause::MaxOn));
    assert_eq!(outlet.advance(), None, "a trip is told once");
    assert_eq!(outlet.refused(), Some((Cause::MaxOn, None)));

    outlet.off();
    let until = at("2024-06-21T16:30:00Z");
    assert_eq!(outlet.refused(), Some((Cause::Cooldown, Some(until))));
    assert_eq!(outlet.account.cooldown_until(outlet.now), Some(until));
    outlet.pass("29m 59s");
    assert!(outlet.account.is_tripped(outlet.now));
    outlet.pass("1s");
    assert_eq!(outlet.refused(), None);
    assert!(!outlet.account.is_tripped(outlet.now));
}

#[test]
fn rule_07_an_ordinary_off_starts_no_cooldown() {
    let mut outlet = Outlet::new(Limits::default());
    outlet.on();
    outlet.pass("5h 59m 59s");
    outlet.off();
    assert_eq!(outlet.advance(), None);
    assert_eq!(outlet.refused(), None);
    assert_eq!(outlet.account.cooldown_until(outlet.now), None);
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
    outlet.says(Power::On, Some("2h"));
    let due = Due {
        at: at("2024-06-21T14:00:00Z"),
        cause: Cause::MaxOn,
    };
    assert_eq!(outlet.verdict(), Verdict::Free(Some(due)));
    outlet.pass("3h");
    outlet.says(Power::On, Some("4h 59m 58s"));
    assert_eq!(
        outlet.verdict(),
        Verdict::Free(Some(due)),
        "the count does not wander"
    );
    // Its button was pressed twice.
    outlet.says(Power::On, Some("1m"));
    assert_eq!(outlet.account.on_since, Some(at("2024-06-21T12:59:00Z")));
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
    // Somebody presses the button while it cools.
    outlet.on();
    assert!(matches!(outlet.verdict(), Verdict::Blocked(block) if block.until.is_none()));
    outlet.pass("5s");
    outlet.off();
    let until = after(outlet.now, SignedDuration::from_mins(30));
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
    let until = after(outlet.now, SignedDuration::from_mins(30));
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
    let until = after(outlet.now, SignedDuration::from_mins(5));
    assert_eq!(outlet.refused(), Some((Cause::MinOff, Some(until))));
}

#[test]
fn rule_07_a_day_counts_each_second_once_and_what_was_not_seen_to_end() {
    let mut outlet = Outlet::new(Limits::NONE);
    let spent = |outlet: &Outlet| outlet.account.spent_today(outlet.now, &outlet.zone).as_mins();
    outlet.on();
    outlet.pass("2h");
    // Pressed off and on somewhere in these two hours.
    outlet.says(Power::On, Some("30m"));
    assert_eq!(spent(&outlet), 120);
    outlet.off();
    outlet.pass("10m");
    // It claims to have been on while it was seen off.
    outlet.says(Power::On, Some("1h"));
    outlet.pass("10m");
    outlet.off();
    assert_eq!(spent(&outlet), 140);
}

#[test]
fn a_clock_that_was_set_back_over_midnight_gives_no_new_day() {
    let mut outlet = Outlet::new(Limits {
        max_on_per_day: limit("2h"),
        ..Limits::NONE
    });
    outlet.now = at("2024-06-22T01:00:00Z");
    outlet.on();
    outlet.pass("90m");
    outlet.off();
    outlet.now = at("2024-06-21T23:00:00Z");
    outlet.advance();
    outlet.on();
    outlet.pass("30m");
    assert_eq!(outlet.advance(), Some(Cause::MaxOnPerDay));
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
    let until = after(outlet.now, SignedDuration::from_mins(5));
    assert_eq!(outlet.refused(), Some((Cause::MinOff, Some(until))));
    outlet.pass("1m");
    outlet.on();
    assert!(matches!(outlet.verdict(), Verdict::Blocked(block) if block.cause == Cause::MinOff));
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
        at: at("2024-06-21T13:00:00Z"),
        cause: Cause::MaxOnPerDay,
    };
    assert_eq!(outlet.verdict(), Verdict::Free(Some(due)));
    outlet.pass("30m");
    assert_eq!(outlet.advance(), Some(Cause::MaxOnPerDay));
    outlet.off();
    let midnight = at("2024-06-22T00:00:00Z");
    assert_eq!(outlet.refused(), Some((Cause::MaxOnPerDay, Some(midnight))));
    outlet.now = midnight;
    assert_eq!(outlet.refused(), None);
}

#[test]
fn rule_07_a_run_over_midnight_is_split() {
    let mut outlet = Outlet::new(Limits {
        max_on_per_day: limit("2h"),
        ..Limits::NONE
    });
    outlet.now = at("2024-06-21T23:00:00Z");
    outlet.on();
    let due = Due {
        at: at("2024-06-22T02:00:00Z"),
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
    outlet.now = at("2024-03-10T05:00:00Z");
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
    assert_eq!(restored, outlet.account);
    assert!(text.contains("2024-06-21T16:00:00Z"), "{text}");
    assert_eq!(serde_json::from_str::<RunTime>("{}").unwrap(), RunTime::default());
}

#[test]
fn a_clock_that_was_set_back_holds_nothing_off_for_longer() {
    let mut outlet = Outlet::new(Limits {
        min_off: limit("5m"),
        ..Limits::default()
    });
    outlet.on();
    outlet.pass("6h");
    outlet.advance();
    outlet.off();
    outlet.now = at("2023-01-01T00:00:00Z");
    outlet.advance();
    let until = at("2023-01-01T00:30:00Z");
    assert_eq!(outlet.refused(), Some((Cause::Cooldown, Some(until))));
}

#[test]
fn a_clock_jump_does_not_lengthen_a_run() {
    let mut outlet = Outlet::new(Limits::default());
    outlet.on();
    outlet.pass("1h");
    outlet.pass("5h");
    // The wall says six hours, the device one: the clock jumped five.
    outlet.says(Power::On, Some("1h"));
    assert_eq!(outlet.advance(), None);
    let left = outlet
        .account
        .runs_until(&outlet.limits, outlet.now, &outlet.zone)
        .unwrap();
    assert_eq!(elapsed(outlet.now, left.at), SignedDuration::from_hours(5));
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
    assert_eq!(elapsed(outlet.now, due.at), SignedDuration::from_mins(30));
}
