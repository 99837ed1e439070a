//! Whatever people, schedules, sensors and devices do: an outlet that follows the plan stays within the
//! limits in force, when the plan is asked for only at the instants it names.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::{
    condition::WhenUnknown,
    overrides::{Lifetime, Origin, Override, OverrideState},
    period::{Period, after, elapsed},
    rules::{Limit, LimitChanges, Priority},
    safety::Report,
    testing::{self, Site, freezing, group, moment, outlet, schedule},
};

#[derive(Debug, Clone)]
enum Event {
    Command(OverrideState, Lifetime),
    Auto,
    Press,
    Value(i8),
    Vacation(bool),
    Pass(i64),
    Restart(i64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let state = prop::sample::select(vec![OverrideState::On, OverrideState::Off]);
    let lifetime = prop_oneof![
        Just(Lifetime::UntilNextSchedule),
        Just(Lifetime::Hold),
        (1_i64..80_000).prop_map(|seconds| Lifetime::For(period(seconds))),
    ];
    let event = prop_oneof![
        2 => (state, lifetime).prop_map(|(state, lifetime)| Event::Command(state, lifetime)),
        1 => Just(Event::Auto),
        2 => Just(Event::Press),
        1 => (-1_i8..=1).prop_map(Event::Value),
        1 => any::<bool>().prop_map(Event::Vacation),
        6 => (1_i64..40_000).prop_map(Event::Pass),
        1 => (1_i64..10_000).prop_map(Event::Restart),
    ];
    prop::collection::vec(event, 1..25)
}

fn period(seconds: i64) -> Period {
    Period::new(SignedDuration::from_secs(seconds)).unwrap()
}

fn limit(most: i64) -> impl Strategy<Value = Limit> {
    prop_oneof![1 => Just(Limit::None), 4 => (60..most).prop_map(|seconds| Limit::Of(period(seconds)))]
}

struct World {
    site: Site,
    relay: Power,
    flipped_at: Timestamp,
    /// When it was last switched off because of a trip, and for how long it must stay off.
    tripped: Option<(Timestamp, SignedDuration)>,
}

impl World {
    fn new(base: Limits, own: Limit) -> Self {
        let mut cold = schedule("cold", "05:00", "11:00");
        cold.conditions = vec![freezing(WhenUnknown::Hold)];
        cold.priority = Priority::Critical;
        cold.limits = LimitChanges {
            max_on: Some(own),
            ..LimitChanges::default()
        };
        let mut site = Site::new(
            group(vec![cold, schedule("day", "08:00", "20:00")]),
            "America/New_York",
        );
        site.rules.groups[0].limits = base;
        site.at("2024-03-09T12:00").boot();
        let flipped_at = site.now;
        Self {
            site,
            relay: Power::Off,
            flipped_at,
            tripped: None,
        }
    }

    fn flip(&mut self, power: Power) {
        if self.relay != power {
            self.relay = power;
            self.flipped_at = self.site.now;
        }
    }

    fn report(&mut self) {
        let now = self.site.now;
        let report = Report {
            power: self.relay,
            on_time: self.relay.is_on().then(|| elapsed(self.flipped_at, now)),
            at: moment(now),
        };
        let zone = self.site.rules.location.zone.clone();
        self.site.safety.observe(&outlet(1), report, &zone);
        self.site.observed.insert(outlet(1), self.relay);
    }

    /// Looks, plans, acts, until nothing changes; returns when to plan again.
    fn tend(&mut self) -> Result<Option<Timestamp>, TestCaseError> {
        for _ in 0..4 {
            self.report();
            let plan = self.site.plan();
            let (now, zone) = (self.site.now, self.site.rules.location.zone.clone());
            let first = &plan.outlets[&outlet(1)];
            if let Some(trip) = self
                .site
                .safety
                .advance(&outlet(1), &first.limits, moment(now), &zone)
            {
                let cooldown = trip.cooldown.map_or(SignedDuration::ZERO, Period::length);
                self.tripped = Some((now, cooldown));
            }
            match first.desired {
                Some(power) if power != self.relay => self.flip(power),
                _ => {
                    self.check(&first.limits)?;
                    return Ok(plan.wake);
                }
            }
        }
        Err(TestCaseError::fail(format!(
            "the plan never settles at {}",
            self.site.now
        )))
    }

    fn check(&self, limits: &Limits) -> Result<(), TestCaseError> {
        if !self.relay.is_on() {
            return Ok(());
        }
        let since = self.flipped_at;
        if let Limit::Of(limit) = limits.max_on {
            let ran = elapsed(since, self.site.now);
            prop_assert!(ran < limit.length(), "on since {since} at {}", self.site.now);
        }
        if let Some((off, cooldown)) = self.tripped {
            prop_assert!(elapsed(off, since) >= cooldown, "on at {since}, tripped at {off}");
        }
        Ok(())
    }

    fn pass(&mut self, seconds: i64) -> Result<(), TestCaseError> {
        let until = after(self.site.now, SignedDuration::from_secs(seconds));
        let mut next = self.tend()?;
        while self.site.now < until {
            self.site.now = next.unwrap_or(until).min(until);
            next = self.tend()?;
        }
        Ok(())
    }

    fn set(&mut self, state: OverrideState, lifetime: Lifetime, origin: Origin) {
        let new = Override::new(state, lifetime, origin, moment(self.site.now)).unwrap();
        self.site.overrides.set(outlet(1), new);
    }

    fn live(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match *event {
            Event::Command(state, lifetime) => self.set(state, lifetime, Origin::Command),
            Event::Auto => {
                self.site.overrides.clear(&outlet(1));
            }
            Event::Press => {
                self.flip(self.relay.toggled());
                self.set(self.relay.into(), Lifetime::UntilNextSchedule, Origin::Device);
            }
            Event::Value(value) => {
                self.site.measures(f64::from(value));
            }
            Event::Vacation(true) => self.site.vacation = Vacation::Since(self.site.now),
            Event::Vacation(false) => self.site.vacation = Vacation::Off,
            Event::Pass(seconds) => return self.pass(seconds),
            Event::Restart(seconds) => {
                let kept = serde_json::to_string(&self.site.safety).unwrap();
                self.site.safety = serde_json::from_str(&kept).unwrap();
                self.site.now = after(self.site.now, SignedDuration::from_secs(seconds));
                self.site.boot();
            }
        }
        self.tend().map(drop)
    }
}

#[test]
fn rule_07_what_follows_the_plan_stays_within_the_limits() {
    let limits = (limit(20_000), limit(5_000), limit(50_000));
    let base = limits.prop_map(|(max_on, cooldown, max_on_per_day)| Limits {
        max_on,
        cooldown,
        max_on_per_day,
        ..Limits::NONE
    });
    testing::check(64, &(base, limit(10_000), events()), |(base, own, events)| {
        let mut world = World::new(base, own);
        world.tend()?;
        events.iter().try_for_each(|event| world.live(event))
    });
}
