//! Budgets, power limits and quiet loads by hand.

use jiff::SignedDuration;

use super::*;
use crate::{
    Power,
    period::after,
    rules::Interlock,
    safety::next_midnight,
    testing::{self, schedule},
    units::{MilliWattHours, MilliWatts},
};

const WATT_HOUR: u64 = 1000;

fn watts(watts: u64) -> MilliWatts {
    MilliWatts::from_watts(watts)
}

fn watt_hours(watt_hours: u64) -> MilliWattHours {
    MilliWattHours::new(watt_hours * WATT_HOUR)
}

fn budget(kilowatt_hours: f64) -> EnergyRules {
    EnergyRules {
        daily_budget: Some(MilliWattHours::from_kilowatt_hours(kilowatt_hours)),
        ..EnergyRules::default()
    }
}

/// 3500 W, back at 3000 W, one minute.
fn ceiling() -> EnergyRules {
    EnergyRules {
        power_limit: Some(PowerLimit {
            max: watts(3500),
            resume_below: watts(3000),
            min_off: "1m".parse().unwrap(),
        }),
        ..EnergyRules::default()
    }
}

fn quiet(then: IfFinished) -> EnergyRules {
    EnergyRules {
        finished: Some(Finished {
            below: watts(5),
            length: "3m".parse().unwrap(),
            then,
        }),
        standby: Some(Standby {
            below: watts(3),
            length: "10m".parse().unwrap(),
        }),
        ..EnergyRules::default()
    }
}

/// A group of three outlets without schedules, whose holds are obeyed at once.
#[derive(Clone)]
struct Bench {
    limits: EnergyLimits,
    group: Group,
    zone: TimeZone,
    now: Timestamp,
    /// How far the wall clock was set.
    set: SignedDuration,
    members: Vec<(OutletPath, Member)>,
    happened: Vec<EnergyEvent>,
}

const WASHER: usize = 0;
const DRYER: usize = 1;
const BOILER: usize = 2;

impl Bench {
    fn new(rules: EnergyRules, zone: &str, wall: &str) -> Self {
        let zone = TimeZone::get(zone).unwrap();
        let mut group = testing::group(Vec::new());
        group.outlets = ["washer", "dryer", "boiler"]
            .map(|id| id.parse().unwrap())
            .to_vec();
        group.energy = rules;
        let member = Member {
            relay: Relay::Off,
            reach: MeterVisibility::Metered,
            wanted: None,
            timer: None,
        };
        let members = group
            .outlets
            .iter()
            .map(|outlet| (outlet.clone(), member))
            .collect();
        let wall: jiff::civil::DateTime = wall.parse().unwrap();
        let now = wall.to_zoned_datetime(zone.clone()).unwrap().timestamp();
        let mut bench = Self {
            limits: EnergyLimits::default(),
            group,
            zone,
            now,
            set: SignedDuration::ZERO,
            members,
            happened: Vec::new(),
        };
        bench.look();
        bench.read_all();
        bench
    }

    fn look(&mut self) {
        self.limits.begin();
        let happened = self
            .limits
            .look(&self.group, &self.members, self.now(), &self.zone);
        self.happened.extend(happened);
    }

    /// Looks, and switches off whoever must not be on.
    fn act(&mut self) {
        self.look();
        for (outlet, member) in &mut self.members {
            if member.relay == Relay::On && self.limits.hold(outlet, self.now).is_some() {
                member.relay = Relay::Off;
            }
        }
        self.look();
    }

    fn now(&self) -> Now {
        Now {
            wall: self.now,
            steady: Steady::at(after(self.now, -self.set)),
        }
    }

    /// The wall clock is set.
    fn set_clock(&mut self, by: SignedDuration) {
        self.now = after(self.now, by);
        self.set += by;
    }

    fn pass(&mut self, seconds: i64) {
        self.now = after(self.now, SignedDuration::from_secs(seconds));
        self.act();
    }

    fn switch(&mut self, who: usize, relay: Relay) {
        self.members[who].1.relay = relay;
        self.act();
    }

    fn reads(&mut self, who: usize, power: Option<u64>, total: Option<u64>) -> Vec<LoadIdle> {
        let reading = Reading {
            power: power.map(watts),
            total: total.map(watt_hours),
        };
        let outlet = self.members[who].0.clone();
        let quiet = self
            .limits
            .read(&self.group, &outlet, reading, self.now(), &self.zone);
        self.act();
        quiet
    }

    /// On, and its meter read.
    fn draws(&mut self, who: usize, power: u64) {
        self.switch(who, Relay::On);
        self.reads(who, Some(power), None);
    }

    fn hold(&self, who: usize) -> Option<EnergyBlock> {
        self.limits.hold(&self.members[who].0, self.now).copied()
    }

    fn relays(&self) -> Vec<bool> {
        let relays = self.members.iter().map(|(_, member)| member.relay);
        relays.map(|relay| relay == Relay::On).collect()
    }

    /// Meters that do not count.
    fn read_all(&mut self) {
        for who in [WASHER, DRYER, BOILER] {
            self.reads(who, Some(0), None);
        }
    }

    fn today(&self) -> u64 {
        let today = self.limits.usage(&self.group).today;
        serde_json::to_value(today)
            .unwrap()
            .as_u64()
            .expect("every member was read")
            / WATT_HOUR
    }

    /// The bridge is killed, and starts again with what it kept.
    fn restart(&mut self) {
        let kept = serde_json::to_string(&self.limits.kept()).unwrap();
        let mut rules = testing::Site::new(self.group.clone(), "UTC").rules;
        rules.location.zone = self.zone.clone();
        self.limits = EnergyLimits::recall(serde_json::from_str(&kept).unwrap(), &rules);
        self.act();
    }

    fn allows(&self, who: usize) -> Result<(), Refusal> {
        self.limits
            .allow_on(&self.group, &self.members, &self.members[who].0, self.now())
    }

    /// What schedules or overrides want, or is about to come back.
    fn resumes(&self, who: usize) -> bool {
        self.limits.resumes(&self.members[who].0) && self.hold(who).is_none()
    }
}

#[test]
fn a_budget_is_the_growth_of_all_totals_since_midnight() {
    let mut bench = Bench::new(budget(4.0), "Europe/Berlin", "2026-11-21T10:00");
    bench.switch(WASHER, Relay::On);
    bench.switch(BOILER, Relay::On);
    bench.reads(WASHER, Some(1000), Some(70_000));
    bench.reads(BOILER, Some(2000), Some(500));
    assert_eq!(bench.today(), 0, "what was used before it was read is not known");
    bench.pass(1800);
    bench.reads(WASHER, Some(1000), Some(70_600));
    bench.reads(BOILER, Some(2000), Some(1500));
    assert_eq!(bench.today(), 1600);
    assert!(bench.hold(WASHER).is_none());
    bench.pass(1800);
    bench.reads(WASHER, Some(1000), Some(71_500));
    bench.reads(BOILER, Some(2000), Some(3000));
    assert_eq!(bench.today(), 4000);
    let hold = bench.hold(DRYER).expect("all members");
    let midnight = next_midnight(bench.now, &bench.zone);
    assert_eq!(
        (hold.block.cause, hold.block.until),
        (Cause::Budget, Some(midnight))
    );
    assert_eq!(bench.relays(), [false; 3]);
    let refusal = bench.allows(WASHER).unwrap_err();
    assert_eq!(refusal.possible_at, Some(midnight));
    let reported = |happening: &&EnergyEvent| matches!(happening, EnergyEvent::BudgetExhausted { .. });
    assert_eq!(bench.happened.iter().filter(reported).count(), 1);

    bench.now = midnight;
    bench.act();
    assert_eq!((bench.hold(WASHER), bench.allows(WASHER)), (None, Ok(())));
    assert_eq!(bench.today(), 0);
}

#[test]
fn a_budget_ends_between_readings_when_the_last_load_used_it() {
    let mut bench = Bench::new(budget(1.0), "UTC", "2026-11-21T10:00");
    bench.switch(BOILER, Relay::On);
    bench.reads(BOILER, Some(2000), Some(0));
    let wake = bench.limits.wake().unwrap();
    assert_eq!(
        wake.reading().duration_since(bench.now),
        SignedDuration::from_mins(30)
    );
    bench.pass(1799);
    assert!(bench.hold(BOILER).is_none());
    bench.pass(1);
    assert!(bench.hold(BOILER).is_some());
    bench.pass(60);
    bench.reads(BOILER, Some(0), Some(990));
    assert!(
        bench.hold(BOILER).is_some(),
        "once it is cut it is off until midnight"
    );
    assert_eq!(bench.today(), 990, "what was measured is shown");
}

#[test]
fn a_budget_counts_the_last_power_where_no_total_is_known() {
    let mut bench = Bench::new(budget(2.0), "UTC", "2026-11-21T10:00");
    bench.draws(BOILER, 1000);
    bench.pass(1800);
    assert_eq!(bench.today(), 500);
    bench.members[BOILER].1.reach = MeterVisibility::Away;
    bench.pass(1800);
    assert_eq!(bench.today(), 1000);
    bench.reads(BOILER, Some(1000), Some(9000));
    assert_eq!(bench.today(), 1000, "the first total takes the guess over");
    bench.pass(900);
    bench.reads(BOILER, Some(1000), Some(9100));
    assert_eq!(bench.today(), 1100, "and then it is the meter that counts");
    bench.switch(BOILER, Relay::Off);
    bench.pass(7200);
    assert!(bench.hold(BOILER).is_none(), "off, it draws nothing");
}

#[test]
fn a_budget_belongs_to_a_day_also_when_the_clocks_change() {
    // 25 hours.
    let mut bench = Bench::new(budget(1.0), "America/New_York", "2026-11-01T00:30");
    bench.draws(BOILER, 2000);
    bench.pass(1800);
    let until = bench.hold(BOILER).unwrap().block.until.unwrap();
    assert_eq!(until.to_string(), "2026-11-02T05:00:00Z");
    // 23 hours, and a zone whose day begins at 1.
    let mut bench = Bench::new(budget(1.0), "America/Asuncion", "2024-10-05T23:00");
    bench.draws(BOILER, 2000);
    bench.pass(1800);
    let until = bench.hold(BOILER).unwrap().block.until.unwrap();
    assert_eq!(until.to_string(), "2024-10-06T04:00:00Z");
}

#[test]
fn what_was_used_around_midnight_is_split_there() {
    let mut bench = Bench::new(budget(9.0), "UTC", "2026-11-21T23:00");
    bench.switch(BOILER, Relay::On);
    bench.reads(BOILER, Some(600), Some(0));
    bench.members[BOILER].1.reach = MeterVisibility::Away;
    bench.pass(4 * 3600);
    bench.members[BOILER].1.reach = MeterVisibility::Metered;
    bench.reads(BOILER, Some(600), Some(4000));
    assert_eq!(bench.today(), 3000, "three of four hours");
    bench.pass(3600);
    bench.reads(BOILER, Some(600), Some(4500));
    assert_eq!(bench.today(), 3500);
}

#[test]
fn a_restart_keeps_a_budget_and_a_changed_one_starts_unused() {
    let mut bench = Bench::new(budget(4.0), "UTC", "2026-11-21T10:00");
    bench.switch(BOILER, Relay::On);
    bench.reads(BOILER, Some(2000), Some(100));
    let kept = bench.limits.kept();
    bench.pass(30);
    bench.reads(BOILER, Some(2000), Some(109));
    assert_eq!(bench.limits.kept(), kept, "not written at each reading");
    bench.pass(3600);
    bench.reads(BOILER, Some(2000), Some(2100));
    assert_ne!(bench.limits.kept(), kept);
    bench.restart();
    bench.pass(60);
    bench.reads(BOILER, Some(2000), Some(4050));
    assert_eq!(bench.today(), 3950, "also what was used meanwhile");
    bench.pass(90);
    assert!(bench.hold(BOILER).is_some());
    bench.restart();
    assert!(bench.hold(BOILER).is_some(), "it stays used");
    bench.group.energy = budget(5.0);
    bench.act();
    assert!(bench.hold(BOILER).is_none());
}

#[test]
fn what_was_shown_never_falls_over_a_kill() {
    // A total that goes on, one that started over, one that the first reading lacks, and a meter without one.
    for total in [Some(433), Some(5), None] {
        for first in [Some(100), None] {
            let mut bench = Bench::new(budget(100.0), "UTC", "2026-11-21T10:00");
            bench.switch(BOILER, Relay::On);
            bench.reads(BOILER, Some(2000), first);
            for minute in 1..=10 {
                bench.pass(60);
                bench.reads(BOILER, Some(2000), first.map(|first| first + minute * 33));
                let shown = bench.today();
                assert!(shown + 10 >= (minute - 1) * 33, "{shown} Wh in minute {minute}");
                let mut killed = bench.clone();
                killed.restart();
                assert_eq!(killed.today(), shown, "before anything is read");
                killed.reads(BOILER, Some(2000), total);
                assert!(killed.today() >= shown, "{total:?}");
            }
        }
    }
}

#[test]
fn little_that_was_used_is_shown_after_a_while() {
    let mut bench = Bench::new(budget(100.0), "UTC", "2026-11-21T10:00");
    bench.switch(BOILER, Relay::On);
    bench.reads(BOILER, Some(30), Some(100));
    bench.pass(30);
    bench.reads(BOILER, Some(30), Some(103));
    assert_eq!(bench.today(), 0);
    bench.pass(300);
    bench.reads(BOILER, Some(30), Some(106));
    bench.pass(300);
    assert_eq!(bench.today(), 6);
}

#[test]
fn a_total_that_starts_over_takes_nothing_from_a_budget() {
    let mut bench = Bench::new(budget(4.0), "UTC", "2026-11-21T10:00");
    bench.switch(BOILER, Relay::On);
    bench.reads(BOILER, Some(1000), Some(8000));
    bench.pass(3600);
    bench.reads(BOILER, Some(1000), Some(9000));
    bench.pass(3600);
    bench.reads(BOILER, Some(1000), Some(3));
    assert_eq!(bench.today(), 2000, "by the power it drew");
    bench.pass(3600);
    bench.reads(BOILER, Some(1000), Some(1003));
    assert_eq!(bench.today(), 3000);
}

#[test]
fn a_clock_change_neither_uses_nor_returns_energy() {
    let mut bench = Bench::new(budget(4.0), "UTC", "2026-11-21T10:00");
    bench.draws(BOILER, 1000);
    bench.pass(3600);
    bench.set_clock(SignedDuration::from_hours(3));
    bench.act();
    assert_eq!(bench.today(), 1000);
    bench.set_clock(SignedDuration::from_hours(-20));
    bench.pass(3600);
    assert_eq!(bench.today(), 2000, "yesterday, and it counts on");
}

#[test]
fn the_last_one_on_is_shed_until_the_rest_is_below_the_limit() {
    let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
    bench.draws(WASHER, 2000);
    bench.draws(BOILER, 1000);
    assert_eq!(bench.relays(), [true, false, true]);
    bench.draws(DRYER, 1200);
    assert_eq!(bench.relays(), [true, true, false]);
    let hold = bench.hold(BOILER).unwrap();
    let why = BlockReason::Over {
        drew: watts(4200),
        ceiling: watts(3500),
    };
    assert_eq!(
        (hold.block.cause, hold.block.until, hold.why),
        (Cause::PowerLimit, None, why)
    );
    bench.reads(WASHER, Some(3600), None);
    assert_eq!(
        bench.relays(),
        [false; 3],
        "by itself it is too much, and it goes too"
    );
}

#[test]
fn what_draws_nothing_stays_on() {
    let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
    bench.draws(BOILER, 0);
    bench.draws(DRYER, 2000);
    bench.draws(WASHER, 2000);
    assert_eq!(bench.relays(), [true, false, true]);
}

#[test]
fn members_come_back_in_list_order_each_after_a_reading() {
    let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
    bench.draws(DRYER, 1000);
    bench.draws(BOILER, 1000);
    bench.draws(WASHER, 3400);
    assert_eq!(bench.relays(), [true, false, false]);
    bench.pass(10);
    bench.reads(WASHER, Some(100), None);
    assert!(!bench.resumes(DRYER), "not before its pause is over");
    bench.pass(50);
    assert_eq!((bench.resumes(DRYER), bench.resumes(BOILER)), (true, false));
    bench.switch(DRYER, Relay::On);
    assert!(!bench.resumes(BOILER), "its meter was not read");
    bench.reads(DRYER, Some(1900), None);
    assert!(bench.resumes(BOILER), "3000 W in all");
    bench.switch(BOILER, Relay::On);
    bench.reads(BOILER, Some(1001), None);
    assert_eq!(bench.relays(), [true; 3], "3001 W is below the ceiling");
    let shed = |happening: &&EnergyEvent| matches!(happening, EnergyEvent::Shed { .. });
    assert_eq!(bench.happened.iter().filter(shed).count(), 2);
}

#[test]
fn a_later_member_does_not_take_the_room_of_a_shed_one() {
    for (boiler, comes) in [(1900, false), (1800, true)] {
        let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
        bench.draws(WASHER, 2000);
        bench.draws(BOILER, boiler);
        bench.pass(60);
        bench.draws(DRYER, 1000);
        bench.reads(WASHER, Some(2900), None);
        assert_eq!(bench.relays(), [true, false, false]);
        bench.reads(WASHER, Some(200), None);
        assert_eq!((bench.resumes(DRYER), bench.resumes(BOILER)), (false, comes));
    }
}

#[test]
fn there_is_room_for_a_member_by_what_it_drew_and_not_by_more() {
    let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
    bench.draws(WASHER, 2000);
    bench.draws(BOILER, 1400);
    bench.draws(WASHER, 2400);
    assert_eq!(bench.relays(), [true, false, false]);
    bench.pass(3600);
    bench.reads(WASHER, Some(1700), None);
    assert!(!bench.resumes(BOILER), "3100 W");
    bench.reads(WASHER, Some(1600), None);
    assert!(bench.resumes(BOILER), "3000 W");
}

#[test]
fn an_on_that_would_go_over_is_refused_by_what_it_drew_before() {
    let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
    bench.draws(DRYER, 2000);
    bench.switch(DRYER, Relay::Off);
    bench.draws(WASHER, 2000);
    let refusal = Refusal {
        cause: Cause::PowerLimit,
        possible_at: None,
    };
    assert_eq!(bench.allows(DRYER), Err(refusal));
    assert_eq!(bench.allows(BOILER), Ok(()), "what it draws is not known");
    bench.reads(WASHER, Some(1500), None);
    assert_eq!(bench.allows(DRYER), Ok(()));
    bench.members[DRYER].1.relay = Relay::Coming;
    bench.draws(BOILER, 400);
    assert_eq!(bench.relays(), [true, false, false], "one that comes counts");
    bench.members[DRYER].1.relay = Relay::Off;
    bench.reads(WASHER, Some(3400), None);
    bench.pass(25 * 3600);
    assert_eq!(bench.allows(DRYER), Ok(()), "another appliance may be plugged in");
}

#[test]
fn a_schedule_waits_for_room_and_a_button_does_not_make_it() {
    let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
    bench.group.schedules = vec![schedule("day", "08:00", "20:00")];
    for who in [WASHER, DRYER] {
        bench.draws(who, 2000);
        bench.switch(who, Relay::Off);
    }
    for (_, member) in &mut bench.members {
        member.wanted = Some(Power::On);
    }
    bench.act();
    assert_eq!(bench.hold(WASHER), None, "the first in the list has the room");
    let hold = bench.hold(DRYER).unwrap();
    let why = BlockReason::NoRoom {
        needs: watts(2000),
        ceiling: watts(3500),
    };
    assert_eq!(hold.why, why);
    bench.switch(WASHER, Relay::On);
    bench.pass(30);
    assert_eq!(bench.hold(DRYER), Some(hold), "since it waits");
    bench.switch(DRYER, Relay::On);
    assert_eq!(bench.relays(), [true, false, false], "it goes off again");
    bench.pass(60);
    bench.reads(WASHER, Some(900), None);
    assert_eq!(bench.hold(DRYER), None);
}

#[test]
fn an_absent_or_too_large_member_does_not_block_the_others() {
    let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
    bench.draws(DRYER, 1000);
    bench.draws(BOILER, 1000);
    bench.draws(WASHER, 3400);
    bench.members[DRYER].1.reach = MeterVisibility::Away;
    bench.pass(60);
    bench.reads(WASHER, Some(100), None);
    assert_eq!((bench.resumes(DRYER), bench.resumes(BOILER)), (false, true));

    let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
    bench.draws(BOILER, 500);
    bench.draws(WASHER, 3600);
    assert_eq!(bench.relays(), [false; 3]);
    bench.pass(60);
    assert_eq!((bench.resumes(WASHER), bench.resumes(BOILER)), (false, true));
}

#[test]
fn an_off_command_or_an_ended_timer_keeps_it_off() {
    let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
    bench.draws(DRYER, 1000);
    bench.members[BOILER].1.timer = Some(Steady::at(after(bench.now, SignedDuration::from_secs(90))));
    bench.draws(BOILER, 1000);
    bench.draws(WASHER, 3400);
    let outlet = bench.members[DRYER].0.clone();
    bench.limits.dismiss(&outlet);
    bench.pass(60);
    assert!(bench.limits.is_shed(&bench.members[BOILER].0));
    bench.pass(30);
    bench.reads(WASHER, Some(100), None);
    assert_eq!((bench.resumes(DRYER), bench.resumes(BOILER)), (false, false));
    assert_eq!((bench.hold(DRYER), bench.hold(BOILER)), (None, None));
}

#[test]
fn in_an_interlocked_group_a_shed_member_stays_off() {
    let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
    bench.group.interlock = Interlock::OneOn;
    for who in [DRYER, WASHER] {
        bench.draws(who, 2000);
        bench.switch(who, Relay::Off);
    }
    bench.switch(WASHER, Relay::On);
    assert_eq!(bench.allows(DRYER), Ok(()), "the washer goes off first");
    bench.switch(DRYER, Relay::Coming);
    assert_eq!(bench.relays(), [true, false, false]);
    bench.switch(WASHER, Relay::Off);
    bench.draws(DRYER, 3600);
    assert_eq!(bench.relays(), [false; 3]);
    bench.pass(25 * 3600);
    assert!(!bench.resumes(DRYER));
}

#[test]
fn what_was_shed_is_known_after_a_restart() {
    let mut bench = Bench::new(ceiling(), "UTC", "2026-11-21T10:00");
    bench.draws(BOILER, 2000);
    bench.draws(WASHER, 2000);
    bench.restart();
    assert!(bench.hold(BOILER).is_some());
    bench.reads(WASHER, Some(1200), None);
    bench.pass(60);
    assert!(!bench.resumes(BOILER), "3200 W with what it drew");
    bench.reads(WASHER, Some(1000), None);
    assert!(bench.resumes(BOILER));
}

#[test]
fn a_load_finishes_once_per_run() {
    let mut bench = Bench::new(quiet(IfFinished::Report), "UTC", "2026-11-21T10:00");
    bench.switch(WASHER, Relay::On);
    let mut reported = Vec::new();
    let mut minutes = |bench: &mut Bench, powers: &[u64]| {
        for power in powers {
            bench.pass(60);
            reported.extend(bench.reads(WASHER, Some(*power), None));
        }
        std::mem::take(&mut reported)
    };
    assert_eq!(minutes(&mut bench, &[4, 4, 4, 4, 4]), [], "it never ran");
    assert_eq!(
        minutes(&mut bench, &[5, 4, 4, 4]),
        [],
        "two minutes are not three"
    );
    assert_eq!(minutes(&mut bench, &[300, 4, 4, 4]), []);
    assert_eq!(
        minutes(&mut bench, &[4]),
        [LoadIdle::Finished(IfFinished::Report)]
    );
    assert_eq!(minutes(&mut bench, &[4, 4, 4, 4, 4]), []);
    assert_eq!(minutes(&mut bench, &[900, 3, 3, 3, 3]).len(), 1, "another run");
}

#[test]
fn what_is_not_known_is_not_quiet() {
    let mut bench = Bench::new(quiet(IfFinished::Off), "UTC", "2026-11-21T10:00");
    bench.switch(WASHER, Relay::On);
    bench.reads(WASHER, Some(500), None);
    bench.pass(60);
    assert_eq!(bench.reads(WASHER, Some(1), None), []);
    bench.pass(120);
    assert_eq!(bench.reads(WASHER, None, None), [], "the meter returns nothing");
    bench.pass(120);
    assert_eq!(bench.reads(WASHER, Some(1), None), []);
    bench.pass(120);
    bench.members[WASHER].1.reach = MeterVisibility::Away;
    bench.pass(120);
    bench.members[WASHER].1.reach = MeterVisibility::Metered;
    assert_eq!(bench.reads(WASHER, Some(1), None), [], "out of reach");
    bench.pass(179);
    assert_eq!(bench.reads(WASHER, Some(1), None), []);
    bench.pass(1);
    assert_eq!(
        bench.reads(WASHER, Some(1), None),
        [LoadIdle::Finished(IfFinished::Off)]
    );
}

#[test]
fn an_outlet_that_goes_off_ends_the_run_and_a_restart_does_not() {
    let mut bench = Bench::new(quiet(IfFinished::Report), "UTC", "2026-11-21T10:00");
    bench.switch(WASHER, Relay::On);
    bench.reads(WASHER, Some(500), None);
    bench.restart();
    bench.reads(WASHER, Some(1), None);
    bench.pass(180);
    assert_eq!(bench.reads(WASHER, Some(1), None).len(), 1);
    bench.restart();
    bench.pass(180);
    assert_eq!(
        bench.reads(WASHER, Some(1), None),
        [],
        "reported before the restart"
    );
    bench.reads(WASHER, Some(500), None);
    bench.switch(WASHER, Relay::Off);
    bench.switch(WASHER, Relay::On);
    bench.reads(WASHER, Some(1), None);
    bench.pass(180);
    assert_eq!(bench.reads(WASHER, Some(1), None), []);
}

#[test]
fn standby_needs_no_run() {
    let mut bench = Bench::new(quiet(IfFinished::Report), "UTC", "2026-11-21T10:00");
    bench.switch(WASHER, Relay::On);
    bench.reads(WASHER, Some(2), None);
    bench.pass(599);
    assert_eq!(bench.reads(WASHER, Some(3), None), [], "3 W is not below 3 W");
    bench.reads(WASHER, Some(0), None);
    bench.pass(600);
    assert_eq!(bench.reads(WASHER, Some(0), None), [LoadIdle::Standby]);
}

#[test]
fn a_missing_or_silent_meter_is_reported_once_per_change() {
    let mut bench = Bench::new(budget(1.0), "UTC", "2026-11-21T10:00");
    bench.members[DRYER].1.reach = MeterVisibility::Unmetered;
    bench.pass(1);
    bench.pass(1);
    bench.reads(WASHER, Some(1), Some(1));
    bench.reads(WASHER, None, None);
    bench.reads(WASHER, None, None);
    bench.reads(WASHER, Some(1), Some(1));
    let [washer, dryer] = ["washer", "dryer"].map(|id| id.parse().unwrap());
    let reported = [
        EnergyEvent::Blind(dryer),
        EnergyEvent::Blind(OutletPath::clone(&washer)),
        EnergyEvent::Sees(washer),
    ];
    assert_eq!(bench.happened, reported);
}

#[test]
fn an_outlet_that_leaves_its_group_is_no_longer_counted() {
    let mut bench = Bench::new(budget(4.0), "UTC", "2026-11-21T10:00");
    for who in [WASHER, BOILER] {
        bench.switch(who, Relay::On);
        bench.reads(who, Some(1000), Some(50_000));
    }
    bench.pass(3600);
    for who in [WASHER, BOILER] {
        bench.reads(who, Some(1000), Some(51_000));
    }
    assert_eq!(bench.today(), 2000);
    let boiler = bench.group.outlets.pop().unwrap();
    let mut rules = testing::Site::new(bench.group.clone(), "UTC").rules;
    bench.limits.retain(&rules);
    assert_eq!(bench.today(), 1000);
    bench.group.outlets.push(boiler);
    bench.act();
    bench.reads(BOILER, Some(1000), Some(52_000));
    bench.pass(3600);
    bench.reads(BOILER, Some(1000), Some(53_000));
    assert_eq!(bench.today(), 2000);
    rules.groups[0].energy = EnergyRules::default();
    bench.limits.retain(&rules);
    assert_eq!(bench.limits.kept(), PersistedEnergy::default());
}
