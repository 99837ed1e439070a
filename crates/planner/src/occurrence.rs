//! Windows as occurrences: for each start date one interval of absolute instants.

use jiff::{
    SignedDuration, Span, Timestamp,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};

use super::{
    days::Days,
    edge::{ClockTime, Edge, Kind, SunEdge, SunEvent},
    jitter::{JitterSeed, Side},
    location::Location,
    period::after,
    sun,
    sun_range::SunRange,
    window::{Shape, Window},
};

/// How many dates before today may still have an occurrence that matters: one that crosses midnight, and one
/// more for a zone that skipped a whole date.
const LOOK_BACK: i32 = 2;
/// How far the next edge is looked for. Any set of weekdays recurs within a week, and holidays within a year.
const LOOK_AHEAD: i32 = 366;
/// A later date has only later starts, but an end of it may come before an edge found already.
const OVERLAP: i32 = 2;

const DAY_MINUTES: i64 = 24 * 60;
/// How far the sun may miss the other edge all year round and still be meant to be on the same day. In doubt a window
/// is empty, and not a day long.
const SAME_DAY_SLACK: i64 = 60;

/// One run of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// The date that it belongs to.
    pub date: Date,
    /// The first instant inside.
    pub start: Timestamp,
    /// The first instant outside; after the start.
    pub end: Timestamp,
}

impl Occurrence {
    /// Whether the instant is inside: start inclusive, end exclusive.
    pub fn contains(&self, instant: Timestamp) -> bool {
        self.start <= instant && instant < self.end
    }
}

/// A window on its days at a place: the calendar of one schedule.
#[derive(Debug, Clone, Copy)]
pub struct Calendar<'a> {
    /// The days on which occurrences start.
    pub days: Days,
    /// What part of such a day.
    pub window: &'a Window,
    /// Where.
    pub location: &'a Location,
    /// How its edges stray; `None`: they do not.
    pub seed: Option<JitterSeed>,
}

impl Calendar<'_> {
    /// The occurrence that is open at an instant; of several the one that ends last.
    pub fn open_at(&self, instant: Timestamp) -> Option<Occurrence> {
        // A jitter may put a start before its date, and the date before that may be one that the zone skipped.
        let ahead = if self.window.has_jitter() { 2 } else { 1 };
        self.around(instant, ahead)
            .filter(|occurrence| occurrence.contains(instant))
            .max_by_key(|occurrence| occurrence.end)
    }

    /// The first start or end after an instant, not at it.
    pub fn next_edge(&self, instant: Timestamp) -> Option<Timestamp> {
        let mut found: Option<(Timestamp, i32)> = None;
        for (distance, date) in dates(instant, &self.location.zone, LOOK_AHEAD) {
            if found.is_some_and(|(_, since)| distance > since + OVERLAP) {
                break;
            }
            let edges = self.on(date).into_iter().flat_map(|it| [it.start, it.end]);
            for edge in edges.filter(|edge| *edge > instant) {
                if found.is_none_or(|(best, _)| edge < best) {
                    found = Some((edge, distance));
                }
            }
        }
        found.map(|(edge, _)| edge)
    }

    /// Every occurrence that touches `from..until`, by start date.
    pub fn between(&self, from: Timestamp, until: Timestamp) -> Vec<Occurrence> {
        let days = until.duration_since(from).as_hours() / 24 + 2;
        let days = i32::try_from(days).unwrap_or(LOOK_AHEAD).clamp(1, LOOK_AHEAD);
        self.around(from, days)
            .filter(|it| it.end > from && it.start < until)
            .collect()
    }

    fn around(&self, instant: Timestamp, ahead: i32) -> impl Iterator<Item = Occurrence> {
        dates(instant, &self.location.zone, ahead).filter_map(|(_, date)| self.on(date))
    }

    /// The occurrence that starts on a date; `None` when it is not listed.
    pub fn on(&self, date: Date) -> Option<Occurrence> {
        self.days.matched(date, &self.location.holidays)?;
        match self.window.shape() {
            Shape::AllDay => self.clocked(ClockTime::MIDNIGHT, ClockTime::END_OF_DAY, date),
            Shape::Lasting { start, length } => {
                let start = self.edge(start, date, self.strays(start, Side::Start, date))?;
                let end = after(start, length.length());
                Some(Occurrence { date, start, end })
            }
            Shape::Between { start, end } => self.strayed(start, end, date),
        }
    }

    /// Between two edges. A jitter neither makes nor empties a window: where it puts the end before the start, the window
    /// has its exact times on that date.
    fn strayed(&self, start: Edge, end: Edge, date: Date) -> Option<Occurrence> {
        let none = SignedDuration::ZERO;
        let (early, late) = (
            self.strays(start, Side::Start, date),
            self.strays(end, Side::End, date),
        );
        let (exact, strayed) = match (start.kind(), end.kind()) {
            (Kind::Clock(start), Kind::Clock(end)) => {
                let exact = self.clocked(start, end, date)?;
                let strayed = Occurrence {
                    date,
                    start: after(exact.start, early),
                    end: after(exact.end, late),
                };
                (exact, Some(strayed))
            }
            _ => (
                self.with_sun((start, none), (end, none), date)?,
                self.with_sun((start, early), (end, late), date),
            ),
        };
        strayed.filter(|it| it.start < it.end).or(Some(exact))
    }

    /// How much later an edge is on a date than its time.
    fn strays(&self, edge: Edge, side: Side, date: Date) -> SignedDuration {
        self.seed
            .map_or(SignedDuration::ZERO, |seed| edge.jitter().on(date, side, seed))
    }

    /// Between two clock times. The clock times decide whether it crosses midnight: 02:30 to 03:00
    /// must not become a day long on the night when 02:30 is 03:30.
    fn clocked(&self, start: ClockTime, end: ClockTime, date: Date) -> Option<Occurrence> {
        let zone = &self.location.zone;
        let crosses = end <= start;
        let end_date = if crosses { date.tomorrow().ok()? } else { date };
        let from = clock(start, date, zone)?;
        let until = clock(end, end_date, zone)?;
        if from < until {
            return Some(Occurrence {
                date,
                start: from,
                end: until,
            });
        }
        // A gap moved the start past the end. It still runs once, and as long as on any other day.
        let minutes = i64::from(end.minutes()) - i64::from(start.minutes());
        let minutes = if crosses { minutes + DAY_MINUTES } else { minutes };
        Some(Occurrence {
            date,
            start: from,
            end: after(from, SignedDuration::from_mins(minutes)),
        })
    }

    /// With a sun edge, each edge so much later. Where the sun puts the end before the start, the window is empty on that
    /// date.
    fn with_sun(
        &self,
        (start, early): (Edge, SignedDuration),
        (end, late): (Edge, SignedDuration),
        date: Date,
    ) -> Option<Occurrence> {
        let crosses = self.ends_on_the_next_day(start, end);
        let end_date = if crosses { date.tomorrow().ok()? } else { date };
        let start = self.edge(start, date, early)?;
        let end = self.edge(end, end_date, late)?;
        (start < end).then_some(Occurrence { date, start, end })
    }

    /// The same all year round. A clock time and the sun: whether the end is ever after the start on one day.
    fn ends_on_the_next_day(&self, start: Edge, end: Edge) -> bool {
        match (start.kind(), end.kind()) {
            (Kind::Sun(start), Kind::Sun(end)) if start.event == end.event => end.offset <= start.offset,
            (Kind::Sun(start), Kind::Sun(_)) => start.event == SunEvent::Sunset,
            _ => self.range(end).1 + SAME_DAY_SLACK <= self.range(start).0,
        }
    }

    /// The earliest and the latest that an edge is in the course of a year, in minutes since midnight.
    fn range(&self, edge: Edge) -> (i64, i64) {
        let minutes = |time: ClockTime| i64::from(time.minutes());
        let edge = match edge.kind() {
            Kind::Clock(time) => return (minutes(time), minutes(time)),
            Kind::Sun(edge) => edge,
        };
        let fallback = minutes(edge.fallback);
        let sun = self
            .location
            .coordinates
            .map(|place| SunRange::of(edge.event, place, &self.location.zone));
        let Some((sun, (earliest, latest))) = sun.and_then(|sun| Some((sun, sun.minutes?))) else {
            return (fallback, fallback);
        };
        let clamped = |minute: i64| {
            let minute = minute + edge.offset.as_mins();
            let minute = edge.not_before.map_or(minute, |time| minute.max(minutes(time)));
            edge.not_after.map_or(minute, |time| minute.min(minutes(time)))
        };
        let (earliest, latest) = (clamped(earliest), clamped(latest));
        if sun.always {
            (earliest, latest)
        } else {
            (earliest.min(fallback), latest.max(fallback))
        }
    }

    /// An edge on a date, so much later. Clamps hold it back too.
    fn edge(&self, edge: Edge, date: Date, later: SignedDuration) -> Option<Timestamp> {
        let zone = &self.location.zone;
        let fixed = |time| Some(after(clock(time, date, zone)?, later));
        match edge.kind() {
            Kind::Clock(time) => fixed(time),
            Kind::Sun(edge) => {
                let risen = self
                    .location
                    .coordinates
                    .and_then(|place| sun::event(edge.event, date, place, zone));
                match risen {
                    Some(event) => Some(clamped(after(event, edge.offset + later), &edge, date, zone)),
                    None => fixed(edge.fallback),
                }
            }
        }
    }
}

fn clamped(instant: Timestamp, edge: &SunEdge, date: Date, zone: &TimeZone) -> Timestamp {
    let bound = |time: Option<ClockTime>| time.and_then(|time| clock(time, date, zone));
    let instant = bound(edge.not_before).map_or(instant, |earliest| instant.max(earliest));
    bound(edge.not_after).map_or(instant, |latest| instant.min(latest))
}

/// A clock time on a date as one instant: moved forward over a gap, the first of two in a fold ("compatible"
/// in the terms of RFC 5545 and Temporal).
fn clock(time: ClockTime, date: Date, zone: &TimeZone) -> Option<Timestamp> {
    let minutes = i8::try_from(time.minutes() % 60).ok()?;
    let hours = i8::try_from(time.minutes() / 60).ok()?;
    let wall = if time == ClockTime::END_OF_DAY {
        DateTime::from_parts(date.tomorrow().ok()?, Time::midnight())
    } else {
        DateTime::from_parts(date, Time::new(hours, minutes, 0, 0).ok()?)
    };
    zone.to_ambiguous_timestamp(wall).compatible().ok()
}

/// The dates around an instant, each with its distance from the first one.
fn dates(instant: Timestamp, zone: &TimeZone, ahead: i32) -> impl Iterator<Item = (i32, Date)> {
    let today = zone.to_datetime(instant).date();
    (-LOOK_BACK..=ahead).filter_map(move |distance| {
        let date = today.checked_add(Span::new().days(distance)).ok()?;
        Some((distance, date))
    })
}

#[cfg(test)]
mod tests;
