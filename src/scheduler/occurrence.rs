//! Windows as occurrences: for each start date one interval of absolute instants.

use jiff::{
    SignedDuration, Span, Timestamp,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};

use super::{
    days::Days,
    edge::{ClockTime, Edge, Kind, SunEdge},
    location::Location,
    period::after,
    sun,
    window::{Shape, Window},
};

/// How many dates before today may still have an occurrence that matters: one that crosses midnight, and one
/// more for a zone that skipped a whole date.
const LOOK_BACK: i32 = 2;
/// How far the next edge is looked for. Any set of days recurs within a week; the rest is for zones that skip
/// dates.
const LOOK_AHEAD: i32 = 366;
/// A later date has only later starts, but an end of it may come before an edge found already.
const OVERLAP: i32 = 2;

const DAY_MINUTES: i64 = 24 * 60;

/// One run of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
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
    /// The weekdays on which occurrences start.
    pub days: Days,
    /// What part of such a day.
    pub window: &'a Window,
    /// Where.
    pub location: &'a Location,
}

impl Calendar<'_> {
    /// The occurrence that is open at an instant; of several the one that ends last.
    pub fn open_at(&self, instant: Timestamp) -> Option<Occurrence> {
        self.around(instant, 1)
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

    /// The occurrence that starts on a date; `None` when its weekday is not listed.
    pub fn on(&self, date: Date) -> Option<Occurrence> {
        if !self.days.contains(date.weekday()) {
            return None;
        }
        match self.window.shape() {
            Shape::AllDay => self.clocked(ClockTime::MIDNIGHT, ClockTime::END_OF_DAY, date),
            Shape::Lasting { start, length } => {
                let start = self.edge(start, date)?;
                let end = after(start, length.length());
                Some(Occurrence { start, end })
            }
            Shape::Between { start, end } => match (start.kind(), end.kind()) {
                (Kind::Clock(start), Kind::Clock(end)) => self.clocked(start, end, date),
                _ => self.with_sun(start, end, date),
            },
        }
    }

    /// Between two clock times. What the clocks say decides whether it crosses midnight: 02:30 to 03:00
    /// must not become a day long on the night when 02:30 is 03:30.
    fn clocked(&self, start: ClockTime, end: ClockTime, date: Date) -> Option<Occurrence> {
        let zone = &self.location.zone;
        let crosses = end <= start;
        let end_date = if crosses { date.tomorrow().ok()? } else { date };
        let from = clock(start, date, zone)?;
        let until = clock(end, end_date, zone)?;
        if from < until {
            return Some(Occurrence {
                start: from,
                end: until,
            });
        }
        // A gap moved the start past the end. It still runs once, and as long as on any other day.
        let minutes = i64::from(end.minutes()) - i64::from(start.minutes());
        let minutes = if crosses { minutes + DAY_MINUTES } else { minutes };
        Some(Occurrence {
            start: from,
            end: after(from, SignedDuration::from_mins(minutes)),
        })
    }

    /// With a sun edge only the instants tell whether the end is on the next day.
    fn with_sun(&self, start: Edge, end: Edge, date: Date) -> Option<Occurrence> {
        let start = self.edge(start, date)?;
        let today = self.edge(end, date)?;
        let end = if today > start {
            today
        } else {
            self.edge(end, date.tomorrow().ok()?)?
        };
        (start < end).then_some(Occurrence { start, end })
    }

    fn edge(&self, edge: Edge, date: Date) -> Option<Timestamp> {
        let zone = &self.location.zone;
        match edge.kind() {
            Kind::Clock(time) => clock(time, date, zone),
            Kind::Sun(edge) => {
                let risen = self
                    .location
                    .coordinates
                    .and_then(|place| sun::event(edge.event, date, place, zone));
                match risen {
                    Some(event) => Some(clamped(after(event, edge.offset), &edge, date, zone)),
                    None => clock(edge.fallback, date, zone),
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
/// in RFC 5545's and Temporal's words).
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
mod tests {
    use super::*;
    use crate::scheduler::{
        edge::{Clamps, EdgeTime},
        location::Coordinates,
    };

    struct Fixture {
        days: Days,
        window: Window,
        location: Location,
    }

    impl Fixture {
        fn calendar(&self) -> Calendar<'_> {
            Calendar {
                days: self.days,
                window: &self.window,
                location: &self.location,
            }
        }

        #[track_caller]
        fn open(&self, wall: &str) -> bool {
            self.calendar().open_at(self.instant(wall)).is_some()
        }

        fn instant(&self, wall: &str) -> Timestamp {
            let wall: DateTime = wall.parse().unwrap();
            wall.to_zoned(self.location.zone.clone()).unwrap().timestamp()
        }

        /// The one occurrence of a date, in UTC.
        fn on(&self, date: &str) -> (String, String) {
            let occurrence = self.calendar().on(date.parse().unwrap()).unwrap();
            (occurrence.start.to_string(), occurrence.end.to_string())
        }
    }

    fn edge(text: &str) -> Edge {
        let time: EdgeTime = text.parse().unwrap();
        let fallback = matches!(time, EdgeTime::Sun { .. }).then(|| "12:00".parse().unwrap());
        Edge::new(time, Clamps::default(), fallback).unwrap()
    }

    fn fixture(days: &str, window: Window, zone: &str) -> Fixture {
        Fixture {
            days: days.parse().unwrap_or(Days::ALL),
            window,
            location: Location {
                coordinates: None,
                zone: TimeZone::get(zone).unwrap(),
            },
        }
    }

    fn between(days: &str, start: &str, end: &str, zone: &str) -> Fixture {
        fixture(days, Window::between(edge(start), edge(end)).unwrap(), zone)
    }

    fn lasting(days: &str, start: &str, length: &str, zone: &str) -> Fixture {
        let window = Window::lasting(edge(start), length.parse().unwrap()).unwrap();
        fixture(days, window, zone)
    }

    fn utc(start: &str, end: &str) -> (String, String) {
        (start.to_owned(), end.to_owned())
    }

    #[test]
    fn rule_01_a_window_over_midnight_belongs_to_the_day_it_starts_on() {
        let friday = between("fri", "23:00", "02:00", "Europe/London");
        // 2024-06-21 is a Friday.
        assert!(!friday.open("2024-06-21T00:30"));
        assert!(friday.open("2024-06-21T23:30"));
        assert!(friday.open("2024-06-22T00:30"));
        assert!(!friday.open("2024-06-22T02:00"));
        assert!(!friday.open("2024-06-22T23:30"));
    }

    #[test]
    fn rule_01_start_is_inclusive_and_end_exclusive() {
        let morning = lasting("", "06:00", "1h", "Europe/London");
        assert!(!morning.open("2024-06-21T05:59:59"));
        assert!(morning.open("2024-06-21T06:00:00"));
        assert!(morning.open("2024-06-21T06:59:59"));
        assert!(!morning.open("2024-06-21T07:00:00"));

        let night = lasting("", "23:30", "1h", "Europe/London");
        assert!(night.open("2024-06-22T00:29:59"));
        assert!(!night.open("2024-06-22T00:30:00"));
    }

    #[test]
    fn rule_01_all_day_ends_at_midnight() {
        let monday = fixture("mon", Window::ALL_DAY, "America/New_York");
        assert!(!monday.open("2024-06-23T23:59:59"));
        assert!(monday.open("2024-06-24T00:00:00"));
        assert!(monday.open("2024-06-24T23:59:59"));
        assert!(!monday.open("2024-06-25T00:00:00"));
    }

    #[test]
    fn rule_01_a_day_can_end_at_24_00() {
        let evening = between("mon", "22:00", "24:00", "America/New_York");
        assert!(evening.open("2024-06-24T23:59:59"));
        assert!(!evening.open("2024-06-25T00:00:00"));
    }

    #[test]
    fn rule_02_a_window_in_the_gap_runs_once_and_later() {
        let gap = between("", "02:15", "02:45", "America/New_York");
        let expected = utc("2024-03-10T07:15:00Z", "2024-03-10T07:45:00Z");
        assert_eq!(gap.on("2024-03-10"), expected);
    }

    #[test]
    fn rule_02_a_window_in_the_fold_runs_once_and_first() {
        let fold = between("", "01:15", "01:45", "America/New_York");
        let expected = utc("2024-11-03T05:15:00Z", "2024-11-03T05:45:00Z");
        assert_eq!(fold.on("2024-11-03"), expected);
        let second: Timestamp = "2024-11-03T06:30:00Z".parse().unwrap();
        assert_eq!(fold.calendar().open_at(second), None);
    }

    #[test]
    fn rule_02_a_gap_does_not_turn_half_an_hour_into_a_day() {
        let swallowed = between("", "02:30", "03:00", "America/New_York");
        let expected = utc("2024-03-10T07:30:00Z", "2024-03-10T08:00:00Z");
        assert_eq!(swallowed.on("2024-03-10"), expected);
        let over_midnight = between("", "23:00", "02:30", "America/New_York");
        let expected = utc("2024-03-10T04:00:00Z", "2024-03-10T07:30:00Z");
        assert_eq!(over_midnight.on("2024-03-09"), expected);
    }

    #[test]
    fn rule_02_a_length_is_real_time() {
        let expected = utc("2024-03-10T06:00:00Z", "2024-03-10T09:00:00Z");
        let spring = lasting("", "01:00", "3h", "America/New_York");
        assert_eq!(spring.on("2024-03-10"), expected);
        let autumn = lasting("", "00:00", "24h", "America/New_York");
        let expected = utc("2024-11-03T04:00:00Z", "2024-11-04T04:00:00Z");
        assert_eq!(autumn.on("2024-11-03"), expected);
    }

    #[test]
    fn of_two_open_occurrences_the_last_to_end_is_told() {
        // The clocks go forward in the first one, so it lasts into the second.
        let daily = lasting("", "06:00", "24h", "America/New_York");
        let open = daily
            .calendar()
            .open_at(daily.instant("2024-03-10T06:30"))
            .unwrap();
        assert_eq!(open.end, daily.instant("2024-03-11T06:00"));
    }

    #[test]
    fn rule_02_a_date_that_a_zone_skipped_runs_on_the_next_one() {
        // Samoa had no Friday 2011-12-30.
        let friday = between("fri", "23:00", "02:00", "Pacific/Apia");
        assert!(friday.open("2011-12-31T23:30"));
        assert!(friday.open("2012-01-01T01:59:59"));
        assert!(!friday.open("2012-01-01T02:00"));
        let edge = friday.calendar().next_edge(friday.instant("2011-12-31T12:00"));
        assert_eq!(edge, Some(friday.instant("2011-12-31T23:00")));
    }

    #[test]
    fn the_next_edge_is_found_across_a_week_and_a_gap() {
        let weekly = between("mon", "02:30", "03:30", "America/New_York");
        let calendar = weekly.calendar();
        let start = weekly.instant("2024-06-24T02:30");
        let end = weekly.instant("2024-06-24T03:30");
        let after_the_last = weekly.instant("2024-06-17T03:30");
        assert_eq!(calendar.next_edge(after_the_last), Some(start));
        assert_eq!(calendar.next_edge(start), Some(end));

        let sunday = between("sun", "02:30", "02:40", "America/New_York");
        let before = sunday.instant("2024-03-03T02:40");
        let shifted = Some("2024-03-10T07:30:00Z".parse().unwrap());
        assert_eq!(sunday.calendar().next_edge(before), shifted);
    }

    fn sunny(start: Edge, end: Edge, place: (f64, f64), zone: &str) -> Fixture {
        let mut fixture = fixture("", Window::between(start, end).unwrap(), zone);
        fixture.location.coordinates = Some(Coordinates::new(place.0, place.1).unwrap());
        fixture
    }

    #[test]
    fn a_northern_day_is_one_window_across_midnight() {
        let alaska = (64.2008, -149.4937);
        let day = sunny(edge("sunrise"), edge("sunset"), alaska, "America/Anchorage");
        assert!(!day.open("2024-06-21T03:20"));
        assert!(day.open("2024-06-21T03:30"));
        assert!(day.open("2024-06-21T23:59"));
        assert!(day.open("2024-06-22T00:30"));
        assert!(!day.open("2024-06-22T00:40"));
    }

    #[test]
    fn a_night_is_one_window_from_sunset_to_the_next_sunrise() {
        let london = (51.5074, -0.1278);
        let night = sunny(edge("sunset"), edge("sunrise"), london, "Europe/London");
        assert!(!night.open("2024-06-21T21:15"));
        assert!(night.open("2024-06-21T21:30"));
        assert!(night.open("2024-06-22T04:40"));
        assert!(!night.open("2024-06-22T04:50"));
    }

    #[test]
    fn a_polar_day_takes_the_fallback() {
        let svalbard = (78.22, 15.63);
        let fallback: ClockTime = "18:00".parse().unwrap();
        let sunset = Edge::new("sunset-01:00".parse().unwrap(), Clamps::default(), Some(fallback));
        for day in ["2024-06-21", "2024-12-21"] {
            let lights = sunny(
                sunset.clone().unwrap(),
                edge("22:00"),
                svalbard,
                "Arctic/Longyearbyen",
            );
            assert!(!lights.open(&format!("{day}T17:59")));
            assert!(lights.open(&format!("{day}T18:00")));
            assert!(!lights.open(&format!("{day}T22:00")));
        }
    }

    #[test]
    fn rule_01_a_sun_edge_clamped_to_the_start_is_on_the_next_day() {
        let clamps = Clamps {
            not_before: None,
            not_after: Some("06:00".parse().unwrap()),
        };
        let fallback = Some("06:00".parse().unwrap());
        let sunrise = Edge::new("sunrise".parse().unwrap(), clamps, fallback).unwrap();
        let winter = sunny(edge("06:00"), sunrise, (51.5074, -0.1278), "Europe/London");
        let expected = utc("2024-12-21T06:00:00Z", "2024-12-22T06:00:00Z");
        assert_eq!(winter.on("2024-12-21"), expected);
    }

    #[test]
    fn clamps_hold_the_sun_back() {
        let clamps = Clamps {
            not_before: Some("17:00".parse().unwrap()),
            not_after: Some("20:00".parse().unwrap()),
        };
        let fallback = Some("18:00".parse().unwrap());
        let sunset = Edge::new("sunset".parse().unwrap(), clamps, fallback).unwrap();
        let lights = sunny(sunset, edge("22:00"), (51.5074, -0.1278), "Europe/London");
        let summer = utc("2024-06-21T19:00:00Z", "2024-06-21T21:00:00Z");
        assert_eq!(lights.on("2024-06-21"), summer);
        let winter = utc("2024-12-21T17:00:00Z", "2024-12-21T22:00:00Z");
        assert_eq!(lights.on("2024-12-21"), winter);
    }
}
