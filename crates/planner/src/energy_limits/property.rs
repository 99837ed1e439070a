//! Whatever is drawn, switched and read: the outlets that may be on draw together no more than the ceiling, a budget is
//! exceeded by no more than what is drawn between two looks, and each run finishes once.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::{
    period::{Period, after, elapsed},
    safety::midnight,
    testing::{self, moment},
    units::{MilliWattHours, MilliWatts},
};

const OUTLETS: usize = 4;
const LARGEST: u64 = 2500;

#[derive(Debug, Clone)]
enum Event {
    /// The load of an outlet changes.
    Draw(usize, u64),
    /// An outlet is switched; ON only when it is allowed.
    Switch(usize, bool),
    /// A meter is read.
    Read(usize),
    /// A meter does not return its values.
    Silent(usize),
    Pass(i64),
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let outlet = || 0..OUTLETS;
    let event = prop_oneof![
        3 => (outlet(), prop_oneof![1 => Just(0), 4 => 0..LARGEST]).prop_map(|(who, watts)| Event::Draw(who, watts)),
        3 => (outlet(), any::<bool>()).prop_map(|(who, on)| Event::Switch(who, on)),
        6 => outlet().prop_map(Event::Read),
        1 => outlet().prop_map(Event::Silent),
        4 => (1_i64..400).prop_map(Event::Pass),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec(event, 1..120)
}

fn seconds(seconds: i64) -> Period {
    Period::new(SignedDuration::from_secs(seconds)).unwrap()
}

struct World {
    limits: EnergyLimits,
    group: Group,
    zone: TimeZone,
    now: Timestamp,
    members: Vec<(OutletPath, Member)>,
    watts: [u64; OUTLETS],
    /// The last readings of the meters while it was on.
    read: [u64; OUTLETS],
    /// mWh.
    totals: [u64; OUTLETS],
    /// In mWh, since midnight.
    today: u64,
    shed_at: [Option<Timestamp>; OUTLETS],
}

impl World {
    fn new(rules: EnergyRules) -> Self {
        let mut group = testing::group(Vec::new());
        group.energy = rules;
        group.outlets = (0..OUTLETS)
            .map(|who| format!("plug-{who}").parse().unwrap())
            .collect();
        let member = Member {
            relay: Relay::Off,
            reach: MeterVisibility::Metered,
            wanted: None,
            timer: None,
        };
        Self {
            limits: EnergyLimits::default(),
            members: group
                .outlets
                .iter()
                .map(|outlet| (outlet.clone(), member))
                .collect(),
            group,
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            now: "2026-11-21T22:30:00Z".parse().unwrap(),
            watts: [0; OUTLETS],
            read: [0; OUTLETS],
            totals: [0; OUTLETS],
            today: 0,
            shed_at: [None; OUTLETS],
        }
    }

    fn is_on(&self, who: usize) -> bool {
        self.members[who].1.relay == Relay::On
    }

    /// Looks and obeys until nothing changes.
    fn act(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..20 {
            self.limits.begin();
            let happened = self
                .limits
                .look(&self.group, &self.members, moment(self.now), &self.zone);
            self.note(&happened)?;
            if !self.obey() {
                return self.check();
            }
        }
        Err(TestCaseError::fail("it never settles"))
    }

    fn note(&mut self, happened: &[EnergyEvent]) -> Result<(), TestCaseError> {
        for happening in happened {
            let EnergyEvent::Shed { outlet, .. } = happening else {
                continue;
            };
            let who = self
                .members
                .iter()
                .position(|(known, _)| known == outlet)
                .unwrap();
            let pause = self.group.energy.power_limit.unwrap().min_off.length();
            if let Some(before) = self.shed_at[who].replace(self.now) {
                prop_assert!(elapsed(before, self.now) >= pause, "{outlet} flaps");
            }
        }
        Ok(())
    }

    fn obey(&mut self) -> bool {
        let mut changed = false;
        for (outlet, member) in &mut self.members {
            let held = self.limits.hold(outlet, self.now).is_some();
            let wanted = match member.relay {
                Relay::On if held => Relay::Off,
                Relay::Off if !held && self.limits.resumes(outlet) => Relay::On,
                as_is => as_is,
            };
            changed |= wanted != member.relay;
            member.relay = wanted;
        }
        changed
    }

    fn check(&self) -> Result<(), TestCaseError> {
        if let Some(ceiling) = self.group.energy.power_limit {
            let known: u64 = (0..OUTLETS)
                .filter(|who| self.is_on(*who))
                .map(|who| self.read[who])
                .sum();
            prop_assert!(MilliWatts::from_watts(known) <= ceiling.max, "{known} W");
        }
        Ok(())
    }

    /// Devices draw; the bridge looks when its deadline is due, and reads every meter every half minute.
    fn pass(&mut self, seconds: i64) -> Result<(), TestCaseError> {
        let until = after(self.now, SignedDuration::from_secs(seconds));
        while self.now < until {
            let next = after(self.now, SignedDuration::from_secs(30)).min(until);
            let wake = self
                .limits
                .wake()
                .map(Steady::reading)
                .filter(|wake| *wake > self.now);
            let next = wake.map_or(next, |wake| wake.min(next));
            self.draw_until(next);
            for who in 0..OUTLETS {
                self.read(who);
            }
            self.act()?;
            self.check_budget()?;
        }
        Ok(())
    }

    fn draw_until(&mut self, next: Timestamp) {
        let start = midnight(next, &self.zone);
        if start > self.now {
            self.today = 0;
        }
        for who in 0..OUTLETS {
            if self.is_on(who) {
                let drawn =
                    |from| u64::try_from(elapsed(from, next).as_millis()).unwrap() * self.watts[who] / 3600;
                self.today += drawn(self.now.max(start));
                self.totals[who] += drawn(self.now);
            }
        }
        self.now = next;
    }

    fn read(&mut self, who: usize) {
        let power = if self.is_on(who) { self.watts[who] } else { 0 };
        if self.is_on(who) {
            self.read[who] = power;
        }
        let reading = Reading {
            power: Some(MilliWatts::from_watts(power)),
            total: Some(MilliWattHours::new(self.totals[who])),
        };
        let outlet = self.members[who].0.clone();
        self.limits
            .read(&self.group, &outlet, reading, moment(self.now), &self.zone);
    }

    /// One reading's worth more at most.
    fn check_budget(&self) -> Result<(), TestCaseError> {
        let Some(budget) = self.group.energy.daily_budget else {
            return Ok(());
        };
        let all = MilliWatts::from_watts(LARGEST * OUTLETS as u64);
        let worth = MilliWattHours::drawn(all, 31);
        let used = MilliWattHours::new(self.today);
        prop_assert!(used <= budget.plus(worth), "{used} of {budget} at {}", self.now);
        Ok(())
    }

    fn restart(&mut self) {
        let kept = serde_json::to_string(&self.limits.kept()).unwrap();
        let mut rules = testing::Site::new(self.group.clone(), "UTC").rules;
        rules.location.zone = self.zone.clone();
        self.limits = EnergyLimits::recall(serde_json::from_str(&kept).unwrap(), &rules);
    }

    fn live(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match *event {
            Event::Draw(who, watts) => self.watts[who] = watts,
            Event::Switch(who, on) => {
                let outlet = self.members[who].0.clone();
                let allowed = self
                    .limits
                    .allow_on(&self.group, &self.members, &outlet, moment(self.now));
                if !on {
                    self.limits.dismiss(&outlet);
                    self.members[who].1.relay = Relay::Off;
                } else if allowed.is_ok() {
                    self.members[who].1.relay = Relay::On;
                }
            }
            Event::Read(who) => self.read(who),
            Event::Silent(who) => {
                let outlet = self.members[who].0.clone();
                let silent = Reading::default();
                self.limits
                    .read(&self.group, &outlet, silent, moment(self.now), &self.zone);
            }
            Event::Pass(seconds) => return self.pass(seconds),
            Event::Restart => {
                self.restart();
                // Only of what was shed it is known what it drew.
                for who in 0..OUTLETS {
                    if !self.limits.is_shed(&self.members[who].0) {
                        self.read[who] = 0;
                    }
                }
                self.act()?;
                for who in 0..OUTLETS {
                    self.read(who);
                }
            }
        }
        self.act()
    }
}

#[test]
fn rule_19_allowed_members_stay_below_the_limit_and_do_not_flap() {
    let rules = (500..6000_u64, 10..100_u64, 10_i64..600);
    testing::check(48, &(rules, events()), |((power, part, pause), events)| {
        let power = MilliWatts::from_watts(power);
        let mut world = World::new(EnergyRules {
            power_limit: Some(PowerLimit {
                max: power,
                resume_below: power.percent(part),
                min_off: seconds(pause),
            }),
            ..EnergyRules::default()
        });
        world.act()?;
        events.iter().try_for_each(|event| world.live(event))
    });
}

#[test]
fn rule_19_a_budget_is_exceeded_by_no_more_than_one_reading() {
    testing::check(48, &(50..4000_u64, events()), |(budget, events)| {
        let mut world = World::new(EnergyRules {
            daily_budget: Some(MilliWattHours::new(budget * 1000)),
            ..EnergyRules::default()
        });
        world.act()?;
        events.iter().try_for_each(|event| world.live(event))?;
        world.pass(2 * 3600)
    });
}

/// A run as people see it: readings above, then quiet ones for long enough. Counted the other way round.
fn runs(powers: &[u64], below: u64, needed: usize) -> usize {
    let mut runs = 0;
    for end in 0..powers.len() {
        // The first reading by which it has been quiet for long enough, after one that was not.
        let quiet = powers[..=end]
            .iter()
            .rev()
            .take_while(|power| **power < below)
            .count();
        let ran = quiet <= end && powers[end - quiet] >= below;
        runs += usize::from(quiet == needed + 1 && ran);
    }
    runs
}

#[test]
fn rule_19_each_run_finishes_exactly_once() {
    let powers = prop::collection::vec(prop_oneof![3 => 0..5_u64, 2 => 5..2000_u64], 0..120);
    testing::check(
        96,
        &(powers, 1..6_usize, any::<bool>()),
        |(powers, needed, restarts)| {
            let mut world = World::new(EnergyRules {
                finished: Some(Finished {
                    below: MilliWatts::from_watts(5),
                    length: seconds(30 * i64::try_from(needed).unwrap()),
                    then: IfFinished::Report,
                }),
                ..EnergyRules::default()
            });
            world.members[0].1.relay = Relay::On;
            world.act()?;
            let mut reported = 0;
            for power in &powers {
                world.now = after(world.now, SignedDuration::from_secs(30));
                let reading = Reading {
                    power: Some(MilliWatts::from_watts(*power)),
                    total: None,
                };
                let outlet = world.members[0].0.clone();
                reported += world
                    .limits
                    .read(&world.group, &outlet, reading, moment(world.now), &world.zone)
                    .len();
                // A restart between two loud readings, or after a run was reported, is not noticed.
                if restarts && *power >= 5 {
                    world.restart();
                }
                world.act()?;
            }
            prop_assert_eq!(reported, runs(&powers, 5, needed));
            Ok(())
        },
    );
}
