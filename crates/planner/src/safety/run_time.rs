//! How long one outlet has run, and what follows from it under its limits.

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{Block, Cause, Due, Limit, Limits, Refusal, Report, Trip, Verdict};
use crate::{Now, Power, Steady};

/// A day total whose day starts this much later than today is kept: the wall clock was behind, or was set back. One
/// that starts later still is a clock that was far ahead.
const CLOCK_BEHIND: SignedDuration = SignedDuration::from_hours(48);
/// A wall clock that shows an earlier time was never set: a machine without a battery for its clock starts in 1970.
const FIRST_PLAUSIBLE: Timestamp = Timestamp::constant(1_704_067_200, 0);
/// What is less of a day is not worth a run: a relay would close and open.
const SHORTEST_RUN: SignedDuration = SignedDuration::from_secs(1);

/// What one outlet has run. Lengths are on the steady clock, so no wall clock shortens them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunTime {
    /// The start of the run that no seen OFF has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_since: Option<Steady>,
    /// When it was last seen to go off. Also while it is on again: `min_off` counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    off_since: Option<Steady>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tripped: Option<Tripped>,
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<DayTotal>,
    /// Until when a thermostat lets it run without another reading of its thermometer.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<Steady>,
    /// Whether the run is that of a backup, and the relay was not seen since.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    from_backup: bool,
    /// The start of the run that the last seen OFF ended.
    #[serde(skip)]
    last_run: Option<Steady>,
}

/// A trip that still has an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Tripped {
    #[serde(flatten)]
    trip: Trip,
    /// When the device confirmed OFF. The cooldown counts from here: time out of reach cooled nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    off_at: Option<Steady>,
}

/// Ended runs of one civil day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct DayTotal {
    /// The start of the day on the wall clock.
    start: Timestamp,
    /// Up to here runs are in the total.
    counted_until: Steady,
    spent: SignedDuration,
}

impl DayTotal {
    /// Whether the wall clock was far ahead when the total began. One that was never set shows nothing about that.
    fn is_far_ahead(&self, today: Timestamp) -> bool {
        today >= FIRST_PLAUSIBLE && self.start.duration_since(today) > CLOCK_BEHIND
    }
}

impl Tripped {
    fn ends(&self) -> Option<Steady> {
        let off = self.off_at?;
        let cooldown = self.trip.cooldown;
        Some(cooldown.map_or(off, |cooldown| off.after(cooldown.length())))
    }

    fn is_over(&self, now: Steady) -> bool {
        self.ends().is_some_and(|end| end <= now)
    }
}

impl RunTime {
    /// Whether nothing of it can matter any more: no run, no trip, and no OFF or day total of the last two days.
    pub fn is_forgettable(&self, now: Now) -> bool {
        let old = |at: Steady| now.steady.since(at) > CLOCK_BEHIND;
        self.on_since.is_none()
            && !self.is_tripped(now.steady)
            && self.off_since.is_none_or(old)
            && self.day.is_none_or(|day| old(day.counted_until))
    }

    /// Until when a trip keeps it off; `None` without one, and while the OFF is not confirmed.
    pub fn cooldown_until(&self, now: Steady) -> Option<Steady> {
        let end = self.tripped?.ends()?;
        (end > now).then_some(end)
    }

    /// Whether a trip has an effect: the outlet still has to go off, or cools down.
    pub fn is_tripped(&self, now: Steady) -> bool {
        self.tripped.is_some_and(|tripped| !tripped.is_over(now))
    }

    /// Since when the present run lasts.
    pub fn on_since(&self) -> Option<Steady> {
        self.on_since
    }

    /// When it was last seen to go off, or first seen off; also while it is on again.
    pub fn off_since(&self) -> Option<Steady> {
        self.off_since
    }

    /// Until when a thermostat lets it run without another reading of its thermometer.
    pub fn lease(&self) -> Option<Steady> {
        self.lease
    }

    /// The same, and no thermostat lets it run any more.
    pub fn take_lease(&mut self) -> Option<Steady> {
        self.lease.take()
    }

    /// A thermostat lets it run until then.
    pub fn lend(&mut self, until: Steady) {
        self.lease = Some(until);
    }

    /// As a backup has it. Whether its run went on is not known before the relay is seen: until then no limit is reached. One
    /// that is on then has run all the time, one that is off has ended its run at a time that nobody knows.
    pub fn mark_from_backup(&mut self) {
        self.from_backup = self.on_since.is_some();
    }

    /// Without a run that nobody saw.
    fn seen(&self) -> Self {
        Self {
            on_since: self.on_since.filter(|_| !self.from_backup),
            ..*self
        }
    }

    /// Takes a reading of the relay.
    pub fn observe(&mut self, report: Report, zone: &TimeZone) {
        if report.power == Power::Off {
            *self = self.seen();
        }
        self.from_backup = false;
        match report.power {
            Power::On => self.seen_on(report),
            Power::Off => self.seen_off(report.at, zone),
        }
    }

    /// Time ON is what was seen, from the first ON to a seen OFF. The device's own count can only lengthen it: it
    /// starts over when the device restarts, and some devices count in a loop.
    fn seen_on(&mut self, report: Report) {
        let now = report.at.steady;
        let counted = report.on_time.unwrap_or_default().max(SignedDuration::ZERO);
        let reported = now.before(counted);
        // A run that started before the last seen OFF was miscounted by the device.
        let reported = self.off_since.map_or(reported, |off| reported.max(off.min(now)));
        let since = self.on_since.map_or(reported, |known| known.min(reported));
        self.on_since = Some(since);
        if let Some(tripped) = &mut self.tripped {
            if tripped.is_over(since) {
                self.tripped = None;
            } else {
                // Switched on while it cools: the cooldown starts again with the next OFF.
                tripped.off_at = None;
            }
        }
    }

    fn seen_off(&mut self, at: Now, zone: &TimeZone) {
        self.lease = None;
        if let Some(since) = self.on_since.take() {
            self.last_run = Some(since);
            self.add(since, at, zone);
            self.off_since = Some(at.steady);
        }
        // First seen off: for how long is not known, so min_off counts from now.
        self.off_since.get_or_insert(at.steady);
        if let Some(tripped) = &mut self.tripped {
            tripped.off_at.get_or_insert(at.steady);
        }
    }

    /// Lets time pass: ends a cooldown that is over, and records the trip when a limit is reached. A trip is returned
    /// once.
    pub fn advance(&mut self, limits: &Limits, now: Now, zone: &TimeZone) -> Option<Trip> {
        if self.tripped.is_some_and(|tripped| tripped.is_over(now.steady)) {
            self.tripped = None;
        }
        let start = midnight(now.wall, zone);
        if let Some(day) = self.day.as_mut().filter(|day| day.is_far_ahead(start)) {
            day.start = start;
        }
        let due = self
            .seen()
            .due(limits, now, zone)
            .filter(|due| due.at <= now.steady)?;
        if self.tripped.is_some() {
            return None;
        }
        let trip = trip(due, limits, now);
        self.tripped = Some(Tripped { trip, off_at: None });
        Some(trip)
    }

    /// A countdown on the device ended the run. If the limit was as close as that, it counts as reached.
    pub fn trip_just_before(
        &mut self,
        limits: &Limits,
        close: SignedDuration,
        now: Now,
        zone: &TimeZone,
    ) -> Option<Trip> {
        // The OFF was counted already.
        let since = self.last_run?;
        let running = Self {
            on_since: Some(since),
            ..*self
        };
        let due = running.due(limits, now, zone)?;
        if self.tripped.is_some() || due.at.since(now.steady) > close {
            return None;
        }
        let trip = trip(due, limits, now);
        self.tripped = Some(Tripped {
            trip,
            off_at: self.off_since,
        });
        Some(trip)
    }

    /// What the limits decide now. [`RunTime::advance`] need not have been called: a limit that is reached blocks either
    /// way.
    pub fn verdict(&self, limits: &Limits, now: Now, zone: &TimeZone) -> Verdict {
        let seen = self.seen();
        let due = seen.due(limits, now, zone);
        let blocks = [
            self.trip_block(now),
            due.filter(|due| due.at <= now.steady).map(|due| Block {
                cause: due.cause,
                since: now.wall_at(due.at),
                until: None,
            }),
            seen.day_block(limits, now, zone),
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
    pub fn allow_on(&self, limits: &Limits, now: Now, zone: &TimeZone) -> Result<(), Refusal> {
        match self.verdict(limits, now, zone) {
            Verdict::Free(_) => Ok(()),
            Verdict::Blocked(block) => Err(Refusal {
                cause: block.cause,
                possible_at: block.until,
            }),
        }
    }

    /// When an outlet that is on now, or is switched on now, reaches its first limit. `None`: never.
    pub fn runs_until(&self, limits: &Limits, now: Now, zone: &TimeZone) -> Option<Due> {
        let running = Self {
            on_since: self.on_since.or(Some(now.steady)),
            ..*self
        };
        running.due(limits, now, zone)
    }

    /// How long it ran on the civil day of `now`.
    pub fn spent_today(&self, now: Now, zone: &TimeZone) -> SignedDuration {
        let mut total = *self;
        total.add(total.on_since.unwrap_or(now.steady), now, zone);
        total.day.map_or(SignedDuration::ZERO, |day| day.spent)
    }

    fn trip_block(&self, now: Now) -> Option<Block> {
        let tripped = self.tripped.filter(|tripped| !tripped.is_over(now.steady))?;
        Some(Block {
            cause: tripped.off_at.map_or(tripped.trip.cause, |_| Cause::Cooldown),
            since: now.wall_at(tripped.trip.at),
            until: tripped.ends().map(|end| now.wall_at(end)),
        })
    }

    /// A run is known from the seconds of its device, so that it may seem to have left a part of one.
    fn day_block(&self, limits: &Limits, now: Now, zone: &TimeZone) -> Option<Block> {
        let Limit::Of(limit) = limits.max_on_per_day else {
            return None;
        };
        let left = limit.length().saturating_sub(self.spent_today(now, zone));
        let is_used_up = match self.on_since {
            Some(_) => left <= SignedDuration::ZERO,
            None => left < SHORTEST_RUN,
        };
        is_used_up.then(|| Block {
            cause: Cause::MaxOnPerDay,
            since: now.wall,
            until: Some(next_midnight(now.wall, zone)),
        })
    }

    /// A pause is a limit on closing: it never opens a relay that is closed.
    fn pause_block(&self, limits: &Limits, now: Now) -> Option<Block> {
        let (Limit::Of(pause), Some(since), None) = (limits.min_off, self.off_since, self.on_since) else {
            return None;
        };
        let until = since.after(pause.length());
        (now.steady < until).then(|| Block {
            cause: Cause::MinOff,
            since: now.wall_at(since),
            until: Some(now.wall_at(until)),
        })
    }

    /// The first limit the present run reaches.
    fn due(&self, limits: &Limits, now: Now, zone: &TimeZone) -> Option<Due> {
        let since = self.on_since?;
        let continuous = match limits.max_on {
            Limit::None => None,
            Limit::Of(limit) => Some(Due {
                at: since.after(limit.length()),
                cause: Cause::MaxOn,
            }),
        };
        let daily = match limits.max_on_per_day {
            Limit::None => None,
            Limit::Of(limit) => self.day_due(limit.length(), now, zone).map(|at| Due {
                at: now.steady_at(at),
                cause: Cause::MaxOnPerDay,
            }),
        };
        continuous.into_iter().chain(daily).min_by_key(|due| due.at)
    }

    /// When a run that goes on uses up a day: this one, or the next, which starts from nothing.
    fn day_due(&self, limit: SignedDuration, now: Now, zone: &TimeZone) -> Option<Timestamp> {
        let left = limit.saturating_sub(self.spent_today(now, zone));
        let today = now.wall_at(now.steady.after(left));
        let midnight = next_midnight(now.wall, zone);
        if today < midnight {
            return Some(today);
        }
        let tomorrow = now.wall_at(now.steady_at(midnight).after(limit));
        (tomorrow < next_midnight(midnight, zone)).then_some(tomorrow)
    }

    /// Adds a run that lasts until now to the total of the day.
    fn add(&mut self, from: Steady, now: Now, zone: &TimeZone) {
        let start = midnight(now.wall, zone);
        let today = DayTotal {
            start,
            counted_until: now.steady_at(start),
            spent: SignedDuration::ZERO,
        };
        let mut day = match self.day {
            // A later day: the wall clock is behind, or was set back. The total counts on.
            Some(day) if day.start >= start => day,
            Some(_) | None => today,
        };
        let from = from.max(day.counted_until);
        day.spent = day
            .spent
            .saturating_add(now.steady.since(from).max(SignedDuration::ZERO));
        day.counted_until = day.counted_until.max(now.steady);
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
    date.to_zoned_datetime(zone.clone())
        .ok()
        .map(|start| start.timestamp())
}

fn trip(due: Due, limits: &Limits, now: Now) -> Trip {
    Trip {
        at: now.steady,
        cause: due.cause,
        cooldown: match limits.cooldown {
            Limit::None => None,
            Limit::Of(cooldown) => Some(cooldown),
        },
    }
}

#[cfg(test)]
mod tests;
