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
pub struct RunTime {
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

impl RunTime {
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
            crate::Power::On => self.seen_on(report, zone),
            crate::Power::Off => self.seen_off(report.at, zone),
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
        self.each_instant(|instant| instant.min(now));
    }

    pub(super) fn shift(&mut self, by: SignedDuration) {
        self.each_instant(|instant| after(instant, by));
    }

    fn each_instant(&mut self, change: impl Fn(Timestamp) -> Timestamp) {
        let change = |instant: &mut Timestamp| *instant = change(*instant);
        self.on_since.iter_mut().for_each(change);
        self.off_since.iter_mut().for_each(change);
        if let Some(tripped) = &mut self.tripped {
            change(&mut tripped.trip.at);
            tripped.off_at.iter_mut().for_each(change);
        }
        if let Some(day) = &mut self.day {
            change(&mut day.counted_until);
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
pub(crate) fn midnight(instant: Timestamp, zone: &TimeZone) -> Timestamp {
    start_of(zone.to_datetime(instant).date(), zone).unwrap_or(instant)
}

/// The start of the next civil day.
pub(crate) fn next_midnight(instant: Timestamp, zone: &TimeZone) -> Timestamp {
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
mod tests;
