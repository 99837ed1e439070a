//! No sequence of commands, presses, reports, outages and restarts lets an outlet exceed a limit.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use proptest::prelude::*;

use super::{Limit, Limits, Report, Safety, Verdict};
use crate::{
    period::{Period, after, elapsed},
    testing,
    testing::moment,
    {OutletPath, Power},
};

#[derive(Debug, Clone)]
enum Event {
    /// A user wants it on or off; ON only when the limits allow.
    Command(Power),
    /// Its button; the limits are not asked.
    Press,
    /// Time passes with the bridge and the device talking.
    Pass(i64),
    /// Time passes with the device out of reach; the button may be pressed half way.
    Outage(i64, bool),
    /// The bridge is down for so long, then starts from what it persisted.
    Restart(i64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let time = 1_i64..30_000;
    let event = prop_oneof![
        3 => prop_oneof![Just(Power::On), Just(Power::Off)].prop_map(Event::Command),
        2 => Just(Event::Press),
        4 => time.clone().prop_map(Event::Pass),
        1 => (time.clone(), any::<bool>()).prop_map(|(time, press)| Event::Outage(time, press)),
        1 => time.prop_map(Event::Restart),
    ];
    prop::collection::vec(event, 1..40)
}

fn limits() -> impl Strategy<Value = Limits> {
    let limit = |most: i64| {
        prop_oneof![
            1 => Just(Limit::None),
            3 => (1..most).prop_map(|seconds| {
                Limit::Of(Period::new(SignedDuration::from_secs(seconds)).unwrap())
            }),
        ]
    };
    (limit(40_000), limit(10_000), limit(2_000), limit(60_000)).prop_map(
        |(max_on, cooldown, min_off, max_on_per_day)| Limits {
            max_on,
            cooldown,
            min_off,
            max_on_per_day,
        },
    )
}

/// The physical outlet, and the bridge's book about it.
struct World {
    now: Timestamp,
    zone: TimeZone,
    limits: Limits,
    safety: Safety,
    outlet: OutletPath,
    relay_on_since: Option<Timestamp>,
    relay_off_since: Option<Timestamp>,
    /// Ended runs.
    runs: Vec<(Timestamp, Timestamp)>,
    tripped_off_at: Option<Timestamp>,
}

impl World {
    fn flip(&mut self, power: Power) {
        match (self.relay_on_since, power) {
            (None, Power::On) => self.relay_on_since = Some(self.now),
            (Some(since), Power::Off) => {
                self.runs.push((since, self.now));
                self.relay_on_since = None;
                self.relay_off_since = Some(self.now);
            }
            _ => {}
        }
    }

    fn is_on(&self) -> bool {
        self.relay_on_since.is_some()
    }

    fn report(&mut self) {
        let report = Report {
            power: Power::from(self.is_on()),
            on_time: self.relay_on_since.map(|since| elapsed(since, self.now)),
            at: moment(self.now),
        };
        self.safety.observe(&self.outlet, report, &self.zone);
    }

    fn verdict(&self) -> Verdict {
        let account = self.safety.run_time(&self.outlet);
        account.verdict(&self.limits, moment(self.now), &self.zone)
    }

    /// What the task does whenever it wakes: look, decide, act, look again.
    fn tend(&mut self) -> Result<(), TestCaseError> {
        self.report();
        let tripped = self
            .safety
            .advance(&self.outlet, &self.limits, moment(self.now), &self.zone);
        if let Verdict::Blocked(_) = self.verdict()
            && self.is_on()
        {
            self.flip(Power::Off);
            self.report();
            if tripped.is_some() {
                self.tripped_off_at = Some(self.now);
            }
        }
        self.check()
    }

    /// Passes time, waking at its deadlines.
    fn pass(&mut self, seconds: i64) -> Result<(), TestCaseError> {
        let until = after(self.now, SignedDuration::from_secs(seconds));
        while self.now < until {
            let wake = match self.verdict() {
                Verdict::Free(due) => due.map(|due| due.at.reading()),
                Verdict::Blocked(block) => block.until,
            };
            self.now = wake.filter(|wake| *wake > self.now).unwrap_or(until).min(until);
            // Never longer than allowed, not even for a second.
            self.tend()?;
        }
        Ok(())
    }

    fn spent_today(&self) -> SignedDuration {
        let day = self.zone.to_datetime(self.now).date();
        let midnight = day.to_zoned_datetime(self.zone.clone()).unwrap().timestamp();
        let open = self.relay_on_since.map(|since| (since, self.now));
        let runs = self.runs.iter().copied().chain(open);
        runs.map(|(from, until)| elapsed(from.max(midnight), until)).sum()
    }

    /// A relay that is on after the bridge looked is within every limit.
    fn check(&self) -> Result<(), TestCaseError> {
        let Some(since) = self.relay_on_since else {
            return Ok(());
        };
        if let Limit::Of(limit) = self.limits.max_on {
            prop_assert!(
                elapsed(since, self.now) < limit.length(),
                "on since {since} at {}",
                self.now
            );
        }
        if let Limit::Of(limit) = self.limits.max_on_per_day {
            prop_assert!(
                self.spent_today() < limit.length(),
                "{} today",
                self.spent_today()
            );
        }
        if let (Limit::Of(cooldown), Some(off)) = (self.limits.cooldown, self.tripped_off_at) {
            prop_assert!(
                elapsed(off, since) >= cooldown.length(),
                "on {since}, tripped {off}"
            );
        }
        Ok(())
    }

    /// The bridge closes the relay: never during the pause. A button may.
    fn close(&mut self) -> Result<(), TestCaseError> {
        if let (Limit::Of(pause), Some(off), false) =
            (self.limits.min_off, self.relay_off_since, self.is_on())
        {
            prop_assert!(
                elapsed(off, self.now) >= pause.length(),
                "on at {}, off {off}",
                self.now
            );
        }
        self.flip(Power::On);
        Ok(())
    }

    fn live(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match event {
            Event::Command(Power::Off) => {
                self.flip(Power::Off);
                self.tend()
            }
            Event::Command(Power::On) => {
                let account = self.safety.run_time(&self.outlet);
                match account.allow_on(&self.limits, moment(self.now), &self.zone) {
                    Ok(()) => self.close()?,
                    Err(refusal) => prop_assert!(
                        refusal.possible_at.is_some_and(|at| at > self.now),
                        "a refusal contains the time: {refusal:?}"
                    ),
                }
                self.tend()
            }
            Event::Press => {
                self.flip(Power::from(!self.is_on()));
                self.tend()
            }
            Event::Pass(seconds) => self.pass(*seconds),
            Event::Outage(seconds, press) => {
                let half = SignedDuration::from_secs(seconds / 2);
                self.now = after(self.now, half);
                if *press {
                    self.flip(Power::from(!self.is_on()));
                }
                self.now = after(self.now, SignedDuration::from_secs(seconds - seconds / 2));
                self.tend()
            }
            Event::Restart(seconds) => {
                let kept = serde_json::to_string(&self.safety).unwrap();
                self.safety = serde_json::from_str(&kept).unwrap();
                self.now = after(self.now, SignedDuration::from_secs(*seconds));
                self.tend()
            }
        }
    }
}

#[test]
fn rule_07_nothing_exceeds_a_limit() {
    let zones = prop::sample::select(vec!["UTC", "America/New_York", "Australia/Lord_Howe"]);
    // Around the night when the clocks change in each of them.
    let starts = prop::sample::select(vec!["2024-03-09T00:00:00Z", "2024-10-05T00:00:00Z"]);
    testing::check(
        96,
        &(zones, starts, limits(), events()),
        |(zone, start, limits, events)| {
            let mut world = World {
                now: start.parse().unwrap(),
                zone: TimeZone::get(zone).unwrap(),
                limits,
                safety: Safety::default(),
                outlet: "heater".parse().unwrap(),
                relay_on_since: None,
                relay_off_since: None,
                runs: Vec::new(),
                tripped_off_at: None,
            };
            world.tend()?;
            for event in &events {
                world.live(event)?;
            }
            Ok(())
        },
    );
}
