use super::*;
use crate::{
    edge::{Clamps, EdgeTime},
    holidays::Holidays,
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
            seed: Some(JitterSeed::of(
                &"porch".parse().unwrap(),
                &"evening".parse().unwrap(),
            )),
        }
    }

    #[track_caller]
    fn open(&self, wall: &str) -> bool {
        self.calendar().open_at(self.instant(wall)).is_some()
    }

    fn instant(&self, wall: &str) -> Timestamp {
        let wall: DateTime = wall.parse().unwrap();
        wall.to_zoned_datetime(self.location.zone.clone())
            .unwrap()
            .timestamp()
    }

    /// The one occurrence of a date, in UTC.
    fn on(&self, date: &str) -> (String, String) {
        let occurrence = self.calendar().on(date.parse().unwrap()).unwrap();
        (occurrence.start.to_string(), occurrence.end.to_string())
    }
}

fn edge(text: &str) -> Edge {
    let time: EdgeTime = text.parse().unwrap();
    let fallback = time.needs_sun().then(|| "12:00".parse().unwrap());
    Edge::new(time, Clamps::default(), fallback).unwrap()
}

fn fixture(days: &str, window: Window, zone: &str) -> Fixture {
    Fixture {
        days: days.parse().unwrap_or(Days::ALL),
        window,
        location: Location {
            coordinates: None,
            zone: TimeZone::get(zone).unwrap(),
            holidays: Holidays::default(),
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
fn rule_01_a_window_over_midnight_belongs_to_its_first_day() {
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
fn of_two_open_occurrences_the_last_to_end_is_shown() {
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
fn a_start_that_strays_over_a_skipped_date_is_found() {
    let strays_back = |minutes: &i32| {
        let days = "mon, tue, wed, thu, fri, sat, sun";
        let fixture = between(days, &format!("00:00±{minutes}m"), "01:00", "Pacific/Apia");
        let found = fixture.calendar().on(jiff::civil::date(2011, 12, 31)).unwrap();
        assert_eq!(fixture.calendar().open_at(found.start), Some(found), "{minutes}");
        found.start < fixture.instant("2011-12-31 00:00")
    };
    assert!((1..=180).filter(strays_back).count() > 0);
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

const BERLIN: ((f64, f64), &str) = ((52.52, 13.405), "Europe/Berlin");

/// How long the window is on a date, in whole minutes; `None` where it is empty.
fn minutes(fixture: &Fixture, date: &str) -> Option<i64> {
    let occurrence = fixture.calendar().on(date.parse().unwrap())?;
    Some(occurrence.end.duration_since(occurrence.start).as_mins())
}

#[test]
fn rule_01_an_end_that_the_sun_puts_before_the_start() {
    let window = |start, end| sunny(edge(start), edge(end), BERLIN.0, BERLIN.1);
    let (summer, winter) = ("2024-06-21", "2024-12-21");
    for (start, end, in_summer, in_winter) in [
        // Sunrise is at 04:43 in summer and at 08:15 in winter, sunset at 21:33 and at 15:53.
        ("05:30", "sunrise", None, Some(165)),
        ("05:30", "sunrise-00:30", None, Some(135)),
        ("sunrise", "06:00", Some(76), None),
        ("20:00", "sunset", Some(93), None),
        ("sunset", "20:00", None, Some(246)),
        // The sun never changes the day of these.
        ("22:00", "sunrise", Some(6 * 60 + 43), Some(10 * 60 + 15)),
        ("sunset", "00:30", Some(176), Some(516)),
        ("sunrise", "01:00", Some(20 * 60 + 16), Some(16 * 60 + 44)),
        ("06:00", "sunset", Some(15 * 60 + 33), Some(9 * 60 + 53)),
        ("sunset", "sunrise", Some(7 * 60 + 10), Some(16 * 60 + 22)),
        ("sunrise", "sunset", Some(16 * 60 + 49), Some(7 * 60 + 38)),
        ("sunrise+03:00", "sunset-03:00", Some(10 * 60 + 49), Some(98)),
        ("sunrise", "sunrise-01:00", Some(23 * 60), Some(23 * 60)),
        // Nearly the other edge all year round: in doubt empty.
        ("08:30", "sunrise", None, None),
        ("sunset", "15:30", None, None),
    ] {
        let window = window(start, end);
        for (date, expected) in [(summer, in_summer), (winter, in_winter)] {
            let found = minutes(&window, date);
            let near = found.zip(expected).is_some_and(|(a, b)| (a - b).abs() <= 2);
            assert!(
                near || (found, expected) == (None, None),
                "{start} to {end} on {date}: {found:?}"
            );
        }
    }
}

#[test]
fn no_window_lasts_a_day_because_of_the_sun() {
    // Helsinki's sunset is at 22:50 in June.
    let lights = sunny(
        edge("sunset-00:30"),
        edge("22:15"),
        (60.17, 24.94),
        "Europe/Helsinki",
    );
    let june: Timestamp = "2024-06-20T12:00:00Z".parse().unwrap();
    assert_eq!(lights.calendar().open_at(june), None);
    let next = lights.calendar().next_edge(june).unwrap();
    let date = lights.location.zone.to_datetime(next).date();
    assert!(
        date > Date::constant(2024, 6, 25) && date < Date::constant(2024, 8, 1),
        "{date}"
    );
}

#[test]
fn a_place_without_the_sun_takes_the_fallbacks() {
    let fallback = |time: &str| Some(time.parse().unwrap());
    let sunrise =
        |time: &str| Edge::new("sunrise".parse().unwrap(), Clamps::default(), fallback(time)).unwrap();
    let pole = |start, end| sunny(start, end, (90.0, 0.0), "UTC");
    assert_eq!(
        minutes(&pole(edge("22:00"), sunrise("06:00")), "2024-06-21"),
        Some(480)
    );
    assert_eq!(
        minutes(&pole(edge("05:30"), sunrise("08:00")), "2024-06-21"),
        Some(150)
    );
}

#[test]
fn clamps_keep_an_end_after_its_start() {
    let clamps = |not_before: Option<&str>, not_after: Option<&str>| Clamps {
        not_before: not_before.map(|time| time.parse().unwrap()),
        not_after: not_after.map(|time| time.parse().unwrap()),
    };
    let sunrise = |clamps| {
        let fallback = Some("08:00".parse().unwrap());
        Edge::new("sunrise".parse().unwrap(), clamps, fallback).unwrap()
    };
    let clamped = sunny(
        edge("05:30"),
        sunrise(clamps(Some("06:30"), None)),
        BERLIN.0,
        BERLIN.1,
    );
    assert_eq!(minutes(&clamped, "2024-06-21"), Some(60));
    // Nothing is left of a window whose end is clamped to its start.
    let nothing = sunny(
        edge("06:00"),
        sunrise(clamps(None, Some("06:00"))),
        BERLIN.0,
        BERLIN.1,
    );
    for date in ["2024-06-21", "2024-12-21"] {
        assert_eq!(minutes(&nothing, date), None);
    }
}

#[test]
fn an_edge_of_the_sun_strays_within_its_clamps() {
    let exact = sunny(edge("sunset"), edge("23:00"), BERLIN.0, BERLIN.1);
    let strayed = sunny(edge("sunset±20m"), edge("23:00"), BERLIN.0, BERLIN.1);
    let start = |fixture: &Fixture, date| fixture.calendar().on(date).unwrap().start;
    let mut distances = std::collections::BTreeSet::new();
    for date in Date::constant(2026, 9, 1).series(Span::new().days(1)).take(120) {
        let distance = start(&strayed, date).duration_since(start(&exact, date));
        assert!(
            distance.abs() <= SignedDuration::from_mins(20),
            "{date}: {distance}"
        );
        assert_eq!(start(&strayed, date), start(&strayed, date));
        distances.insert(distance);
    }
    assert!(distances.len() > 30, "{distances:?}");
    let clamps = Clamps {
        not_before: Some("17:00".parse().unwrap()),
        not_after: Some("17:05".parse().unwrap()),
    };
    let sunset = Edge::new(
        "sunset±3h".parse().unwrap(),
        clamps,
        Some("17:00".parse().unwrap()),
    );
    let held = sunny(sunset.unwrap(), edge("23:00"), BERLIN.0, BERLIN.1);
    for date in Date::constant(2026, 9, 1).series(Span::new().days(1)).take(120) {
        let time = held.location.zone.to_datetime(start(&held, date)).time();
        let (first, last) = (Time::constant(17, 0, 0, 0), Time::constant(17, 5, 0, 0));
        assert!(first <= time && time <= last, "{date}: {time}");
    }
}

#[test]
fn a_jitter_neither_makes_nor_empties_a_window() {
    let short = between("", "22:00±3h", "22:05±3h", "UTC");
    for date in Date::constant(2026, 9, 1).series(Span::new().days(1)).take(120) {
        let found = short.calendar().on(date).unwrap();
        assert!(found.start < found.end, "{date}");
    }
    // Where the sun leaves no window, the jitter does not make one.
    let none = sunny(edge("sunset±3h"), edge("20:00±3h"), BERLIN.0, BERLIN.1);
    assert_eq!(none.calendar().on(Date::constant(2026, 6, 21)), None);
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
