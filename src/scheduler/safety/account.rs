//! The account of one outlet.

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{Block, Cause, Due, Limit, Limits, Refusal, Report, Trip, Verdict, after, elapsed};

/// Two starts of a run that are this close are the same run: a device counts whole seconds, and an answer may
/// take some.
const SAME_RUN: SignedDuration = SignedDuration::from_secs(10);

/// What one outlet has run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// The start of the run that has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_since: Option<Timestamp>,
    /// When it was last confirmed to have gone off. Also while it is on again: `min_off` counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    off_since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tripped: Option<Tripped>,
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<DayTotal>,
}

/// A trip that still has an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Tripped {
    #[serde(flatten)]
    trip: Trip,
    /// When the device confirmed that it is off. The cooldown counts from here: time it spent on unreachable
    /// cooled nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    off_at: Option<Timestamp>,
}

/// Ended runs of one civil day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct DayTotal {
    start: Timestamp,
    /// Up to here runs are in the total.
    counted_until: Timestamp,
    spent: SignedDuration,
}

impl Tripped {
    fn ends(&self) -> Option<Timestamp> {
        let off = self.off_at?;
        Some(
            self.trip
                .cooldown
                .map_or(off, |cooldown| after(off, cooldown.length())),
        )
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.ends().is_some_and(|end| end <= now)
    }
}

impl Account {
    /// Since when it runs.
    pub fn on_since(&self) -> Option<Timestamp> {
        self.on_since
    }

    /// Until when a trip keeps it off; `None` without one, and while the OFF is not confirmed.
    pub fn cooldown_until(&self, now: Timestamp) -> Option<Timestamp> {
        let end = self.tripped?.ends()?;
        (end > now).then_some(end)
    }

    /// Whether a trip has an effect: the outlet still has to go off, or cools down.
    pub fn is_tripped(&self, now: Timestamp) -> bool {
        self.tripped.is_some_and(|tripped| !tripped.is_over(now))
    }

    pub(super) fn observe(&mut self, report: Report, zone: &TimeZone) {
        self.forget_the_future(report.at);
        match report.power {
            crate::model::Power::On => self.seen_on(report, zone),
            crate::model::Power::Off => self.seen_off(report.at, zone),
        }
    }

    fn seen_on(&mut self, report: Report, zone: &TimeZone) {
        let reported = report.on_time.map(|on_time| {
            report
                .at
                .checked_sub(on_time.max(SignedDuration::ZERO))
                .unwrap_or(Timestamp::MIN)
        });
        let since = match (self.on_since, reported) {
            (None, reported) => reported.unwrap_or(report.at),
            (Some(known), None) => known,
            (Some(known), Some(reported)) if known.duration_since(reported).abs() <= SAME_RUN => {
                known.min(reported)
            }
            (Some(known), Some(reported)) => {
                // Off and on again between two looks, or the clock jumped: the device knows.
                self.book(known, reported, zone);
                reported
            }
        };
        self.on_since = Some(since);
        if let Some(tripped) = &mut self.tripped {
            if tripped.is_over(since) {
                self.tripped = None;
            } else {
                // Switched on while it cools: it cools anew once it is off.
                tripped.off_at = None;
            }
        }
    }

    fn seen_off(&mut self, at: Timestamp, zone: &TimeZone) {
        if let Some(since) = self.on_since.take() {
            self.book(since, at, zone);
            self.off_since = Some(at);
        }
        // First seen off: for how long nobody knows, so min_off counts from now.
        self.off_since.get_or_insert(at);
        if let Some(tripped) = &mut self.tripped {
            tripped.off_at.get_or_insert(at);
        }
    }

    pub(super) fn advance(&mut self, limits: &Limits, now: Timestamp, zone: &TimeZone) -> Option<Trip> {
        self.forget_the_future(now);
        if self.tripped.is_some_and(|tripped| tripped.is_over(now)) {
            self.tripped = None;
        }
        let due = self.due(limits, now, zone).filter(|due| due.at <= now)?;
        if self.tripped.is_some() {
            return None;
        }
        let trip = Trip {
            at: now,
            cause: due.cause,
            cooldown: match limits.cooldown {
                Limit::None => None,
                Limit::Of(cooldown) => Some(cooldown),
            },
        };
        self.tripped = Some(Tripped { trip, off_at: None });
        Some(trip)
    }

    /// Instants after now are left from before the clock was set back. Nothing may wait for them.
    fn forget_the_future(&mut self, now: Timestamp) {
        let pull = |instant: &mut Timestamp| *instant = (*instant).min(now);
        self.on_since.iter_mut().for_each(pull);
        self.off_since.iter_mut().for_each(pull);
        if let Some(tripped) = &mut self.tripped {
            pull(&mut tripped.trip.at);
            tripped.off_at.iter_mut().for_each(pull);
        }
        if let Some(day) = &mut self.day {
            pull(&mut day.counted_until);
        }
    }

    pub(super) fn shift(&mut self, by: SignedDuration) {
        let shift = |instant: &mut Timestamp| *instant = after(*instant, by);
        self.on_since.iter_mut().for_each(shift);
        self.off_since.iter_mut().for_each(shift);
        if let Some(tripped) = &mut self.tripped {
            shift(&mut tripped.trip.at);
            tripped.off_at.iter_mut().for_each(shift);
        }
        if let Some(day) = &mut self.day {
            shift(&mut day.counted_until);
        }
    }

    /// What the limits say now. [`Safety::advance`](super::Safety::advance) need not have been called: a limit that is
    /// reached blocks either way.
    pub fn verdict(&self, limits: &Limits, now: Timestamp, zone: &TimeZone) -> Verdict {
        let due = self.due(limits, now, zone);
        let blocks = [
            self.trip_block(now),
            due.filter(|due| due.at <= now).map(|due| Block {
                cause: due.cause,
                since: due.at,
                until: None,
            }),
            self.day_block(limits, now, zone),
            self.pause_block(limits, now),
        ];
        let longest = blocks
            .into_iter()
            .flatten()
            .max_by_key(|block| block.until.unwrap_or(Timestamp::MAX));
        longest.map_or(Verdict::Free(due), Verdict::Blocked)
    }

    /// Whether an ON is allowed now.
    ///
    /// # Errors
    /// What refuses it, and when it becomes possible.
    pub fn allow_on(&self, limits: &Limits, now: Timestamp, zone: &TimeZone) -> Result<(), Refusal> {
        match self.verdict(limits, now, zone) {
            Verdict::Free(_) => Ok(()),
            Verdict::Blocked(block) => Err(Refusal {
                cause: block.cause,
                possible_at: block.until,
            }),
        }
    }

    /// When an outlet that is on now, or is switched on now, reaches its first limit. `None`: never.
    pub fn runs_until(&self, limits: &Limits, now: Timestamp, zone: &TimeZone) -> Option<Due> {
        let running = Self {
            on_since: self.on_since.or(Some(now)),
            ..*self
        };
        running.due(limits, now, zone)
    }

    /// How long it ran on the civil day of `now`.
    pub fn spent_today(&self, now: Timestamp, zone: &TimeZone) -> SignedDuration {
        let mut account = *self;
        account.forget_the_future(now);
        account.book(account.on_since.unwrap_or(now), now, zone);
        account.day.map_or(SignedDuration::ZERO, |day| day.spent)
    }

    fn trip_block(&self, now: Timestamp) -> Option<Block> {
        let tripped = self.tripped.filter(|tripped| !tripped.is_over(now))?;
        Some(Block {
            cause: tripped.off_at.map_or(tripped.trip.cause, |_| Cause::Cooldown),
            since: tripped.trip.at,
            until: tripped.ends(),
        })
    }

    fn day_block(&self, limits: &Limits, now: Timestamp, zone: &TimeZone) -> Option<Block> {
        let Limit::Of(limit) = limits.max_on_per_day else {
            return None;
        };
        (self.spent_today(now, zone) >= limit.length()).then(|| Block {
            cause: Cause::MaxOnPerDay,
            since: now,
            until: Some(next_midnight(now, zone)),
        })
    }

    fn pause_block(&self, limits: &Limits, now: Timestamp) -> Option<Block> {
        let (Limit::Of(pause), Some(since)) = (limits.min_off, self.off_since) else {
            return None;
        };
        let until = after(since.min(now), pause.length());
        (now < until).then_some(Block {
            cause: Cause::MinOff,
            since,
            until: Some(until),
        })
    }

    /// The first limit the present run reaches.
    fn due(&self, limits: &Limits, now: Timestamp, zone: &TimeZone) -> Option<Due> {
        let since = self.on_since?.min(now);
        let continuous = match limits.max_on {
            Limit::None => None,
            Limit::Of(limit) => Some(Due {
                at: after(since, limit.length()),
                cause: Cause::MaxOn,
            }),
        };
        let daily = match limits.max_on_per_day {
            Limit::None => None,
            Limit::Of(limit) => self.day_due(limit.length(), now, zone).map(|at| Due {
                at,
                cause: Cause::MaxOnPerDay,
            }),
        };
        continuous.into_iter().chain(daily).min_by_key(|due| due.at)
    }

    /// When a run that goes on uses up a day: this one, or the next, which starts from nothing.
    fn day_due(&self, limit: SignedDuration, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let left = limit.saturating_sub(self.spent_today(now, zone));
        let today = after(now, left);
        let midnight = next_midnight(now, zone);
        if today < midnight {
            return Some(today);
        }
        let tomorrow = after(midnight, limit);
        (tomorrow < next_midnight(midnight, zone)).then_some(tomorrow)
    }

    /// Adds a run to the total of the day it ended on.
    fn book(&mut self, from: Timestamp, until: Timestamp, zone: &TimeZone) {
        let start = midnight(until, zone);
        let fresh = DayTotal {
            start,
            counted_until: start,
            spent: SignedDuration::ZERO,
        };
        // A total of a later day is left from before the clock was set back; it counts on.
        let mut day = self.day.filter(|day| day.start >= start).unwrap_or(fresh);
        day.start = start;
        let from = from.max(day.counted_until).max(start);
        day.spent = day.spent.saturating_add(elapsed(from, until));
        day.counted_until = day.counted_until.max(until);
        self.day = Some(day);
    }
}

/// The start of the civil day an instant is in.
fn midnight(instant: Timestamp, zone: &TimeZone) -> Timestamp {
    start_of(zone.to_datetime(instant).date(), zone).unwrap_or(instant)
}

/// The start of the next civil day.
fn next_midnight(instant: Timestamp, zone: &TimeZone) -> Timestamp {
    let tomorrow = zone.to_datetime(instant).date().tomorrow();
    tomorrow
        .ok()
        .and_then(|date| start_of(date, zone))
        .unwrap_or(Timestamp::MAX)
}

fn start_of(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    date.to_zoned(zone.clone()).ok().map(|start| start.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Power, scheduler::period::Period};

    struct Outlet {
        account: Account,
        limits: Limits,
        now: Timestamp,
        zone: TimeZone,
    }

    impl Outlet {
        fn new(limits: Limits) -> Self {
            Self {
                account: Account::default(),
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
        assert_eq!(outlet.account.on_since(), Some(at("2024-06-21T12:59:00Z")));
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
        let restored: Account = serde_json::from_str(&text).unwrap();
        assert_eq!(restored, outlet.account);
        assert!(text.contains("2024-06-21T16:00:00Z"), "{text}");
        assert_eq!(serde_json::from_str::<Account>("{}").unwrap(), Account::default());
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
}
