//! The planner against a brute-force oracle.
//!
//! The oracle walks through real minutes and knows of a zone only its offset in each of them. Dates,
//! weekdays, gaps, folds and edges are integer arithmetic on "wall minutes" (civil minutes since 1970); no
//! line is shared with the planner.

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use proptest::prelude::*;

use super::*;
use crate::{
    days::Days,
    edge::Edge,
    holidays::Holidays,
    overrides::{Lifetime, Origin, Override, OverrideState},
    period::Period,
    rules::{InVacation, Priority, Schedule},
    testing::{self, Site, group, outlet, schedule},
    window::Window,
};

const DAY: i64 = 24 * 60;
/// How long each case is walked through, and the minutes around it the oracle has to know.
const WALK: i64 = 4 * DAY;
const BEFORE: i64 = 4 * DAY;
const AFTER: i64 = 10 * DAY;

/// Nights in which something happens to the clocks.
const NIGHTS: &[(&str, &str)] = &[
    ("UTC", "2024-02-28"),
    ("America/New_York", "2024-03-10"),
    ("America/New_York", "2024-11-03"),
    ("Europe/London", "2024-03-31"),
    ("Europe/London", "2024-10-27"),
    // Half an hour, both ways.
    ("Australia/Lord_Howe", "2024-04-07"),
    ("Australia/Lord_Howe", "2024-10-06"),
    // 12:45 ahead.
    ("Pacific/Chatham", "2024-04-07"),
    ("Pacific/Chatham", "2024-09-29"),
    // Two hours.
    ("Antarctica/Troll", "2024-03-31"),
    ("Antarctica/Troll", "2024-10-27"),
    // A date that does not exist.
    ("Pacific/Apia", "2011-12-30"),
    // No midnight; two midnights.
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Sao_Paulo", "2019-02-17"),
    ("America/Havana", "2024-03-10"),
    ("America/Havana", "2024-11-03"),
];

#[derive(Debug, Clone)]
enum Span {
    AllDay,
    Between(i64, i64),
    Lasting(i64, i64),
}

#[derive(Debug, Clone)]
struct Row {
    /// Bit 0 is Monday; then come workdays, holidays and the weekend.
    days: u16,
    span: Span,
    /// How far the start and the end stray, in minutes.
    jitter: (i64, i64),
    priority: Priority,
    enabled: bool,
}

#[derive(Debug, Clone, Copy)]
enum Ends {
    AtEdge,
    After(i64),
    Never,
}

#[derive(Debug, Clone)]
struct Case {
    night: (&'static str, &'static str),
    /// The walk starts that many minutes before the night.
    lead: i64,
    /// So many days before the night, or after it.
    holidays: Vec<i64>,
    rows: Vec<Row>,
    /// Set so many minutes before the walk.
    set: Option<(OverrideState, i64, Ends)>,
    vacation: bool,
    in_vacation: InVacation,
    samples: Vec<i64>,
}

fn span() -> impl Strategy<Value = Span> {
    // Half of all edges near where clocks change.
    let minute = || prop_oneof![0_i64..240, 0_i64..DAY];
    let between = (minute(), prop_oneof![minute(), Just(DAY)]);
    prop_oneof![
        1 => Just(Span::AllDay),
        5 => between
            .prop_filter("an edge twice is no window", |(start, end)| start != end)
            .prop_map(|(start, end)| Span::Between(start, end)),
        3 => (minute(), 1..=DAY).prop_map(|(start, length)| Span::Lasting(start, length)),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let priority = prop::sample::select(vec![Priority::Low, Priority::Normal, Priority::Critical]);
    let days = prop_oneof![Just(127_u16), 1_u16..128, 1_u16..1024];
    let minutes = || prop_oneof![2 => Just(0_i64), 1 => 1..=180_i64];
    let jitter = (minutes(), minutes());
    let enabled = prop::bool::weighted(0.9);
    (days, span(), jitter, priority, enabled).prop_map(|(days, span, jitter, priority, enabled)| Row {
        days,
        span,
        jitter,
        priority,
        enabled,
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let state = prop::sample::select(vec![OverrideState::On, OverrideState::Off, OverrideState::Leave]);
    let ends = prop_oneof![
        3 => Just(Ends::AtEdge),
        1 => (1..=DAY).prop_map(Ends::After),
        1 => Just(Ends::Never),
    ];
    let set = prop::option::of((state, 0..DAY, ends));
    let in_vacation = prop::sample::select(vec![InVacation::Rest, InVacation::Run]);
    (
        prop::sample::select(NIGHTS),
        0..2 * DAY,
        prop::collection::vec(-9..9_i64, 0..6),
        prop::collection::vec(row(), 0..4),
        set,
        prop::bool::weighted(0.2),
        in_vacation,
        prop::collection::vec(0..WALK, 6),
    )
        .prop_map(
            |(night, lead, holidays, rows, set, vacation, in_vacation, samples)| Case {
                night,
                lead,
                holidays,
                rows,
                set,
                vacation,
                in_vacation,
                samples,
            },
        )
}

/// Real minutes, counted from some time before the walk.
struct Minutes {
    /// The UTC minute of index 0.
    first: i64,
    /// What the wall shows in each.
    walls: Vec<i64>,
    /// The first index at which the wall shows `least_wall + position`.
    shown: Vec<Option<usize>>,
    least_wall: i64,
}

impl Minutes {
    fn new(zone: &TimeZone, first: i64, count: i64) -> Self {
        let offset = |minute: i64| {
            let instant = Timestamp::from_second(minute * 60).unwrap();
            i64::from(zone.to_offset(instant).seconds()) / 60
        };
        let mut walls = Vec::new();
        // Offsets are asked for by the hour, and by the minute only in an hour in which they differ.
        for hour in (first..first + count).step_by(60) {
            let (early, late) = (offset(hour), offset(hour + 59));
            let at = |minute| if early == late { early } else { offset(minute) };
            walls.extend((hour..hour + 60).map(|minute| minute + at(minute)));
        }
        let least_wall = *walls.iter().min().unwrap();
        let most_wall = *walls.iter().max().unwrap();
        let mut shown = vec![None; usize::try_from(most_wall - least_wall + 1).unwrap()];
        for (index, wall) in walls.iter().enumerate() {
            shown[usize::try_from(wall - least_wall).unwrap()].get_or_insert(index);
        }
        Self {
            first,
            walls,
            shown,
            least_wall,
        }
    }

    fn instant(&self, index: i64) -> Timestamp {
        Timestamp::from_second((self.first + index) * 60).unwrap()
    }

    fn index(&self, instant: Timestamp) -> i64 {
        assert_eq!(instant.as_second() % 60, 0, "{instant} is between two minutes");
        instant.as_second() / 60 - self.first
    }

    /// The index at which the wall first shows a time; in a gap, as much later as the gap is long.
    fn resolve(&self, wall: i64) -> Option<i64> {
        let position = usize::try_from(wall - self.least_wall).ok()?;
        if let Some(index) = *self.shown.get(position)? {
            return Some(i64::try_from(index).unwrap());
        }
        let behind = self.shown[position..].iter().find_map(|index| *index)?;
        let gap = self.walls[behind] - self.walls[behind - 1] - 1;
        let moved = usize::try_from(wall + gap - self.least_wall).unwrap();
        (*self.shown.get(moved)?).map(|index| i64::try_from(index).unwrap())
    }
}

impl Case {
    /// The holidays, in days since 1970.
    fn holidays(&self) -> Vec<i64> {
        let night = self.night.1.parse::<Date>().unwrap();
        let night = night.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24;
        self.holidays.iter().map(|distance| night + distance).collect()
    }
}

struct Oracle {
    /// For each schedule, for each minute.
    open: Vec<Vec<bool>>,
    /// When the override ends.
    end: usize,
}

impl Oracle {
    fn new(case: &Case, minutes: &Minutes) -> Self {
        let rows = case.rows.iter().enumerate();
        let open: Vec<Vec<bool>> = rows
            .map(|(row, it)| openings(row, it, &case.holidays(), minutes))
            .collect();
        let end = case.set.map_or(0, |(state, before, ends)| {
            let set = usize::try_from(BEFORE - before).unwrap();
            override_end(&open, state, set, ends)
        });
        Self { open, end }
    }

    /// The highest priority, then the first.
    fn winner(&self, case: &Case, index: usize) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (position, row) in case.rows.iter().enumerate() {
            let beats = best.is_none_or(|best| row.priority > case.rows[best].priority);
            if self.open[position][index] && beats {
                best = Some(position);
            }
        }
        best
    }

    fn expected(&self, case: &Case, index: usize) -> (Option<Power>, Source, Option<usize>) {
        let winner = self.winner(case, index);
        if case.rows.is_empty() {
            return (None, Source::Manual, None);
        }
        if let Some((state, ..)) = case.set
            && index < self.end
        {
            return match state {
                OverrideState::On => (Some(Power::On), Source::Override, winner),
                OverrideState::Off => (Some(Power::Off), Source::Override, winner),
                OverrideState::Leave | OverrideState::Thermostat(_) => (None, Source::Device, winner),
            };
        }
        if winner.is_some() && case.vacation && case.in_vacation == InVacation::Rest {
            return (Some(Power::Off), Source::Vacation, winner);
        }
        (Some(Power::from(winner.is_some())), Source::Schedule, winner)
    }
}

/// The first minute after `set` in which all windows together do the opposite.
fn override_end(open: &[Vec<bool>], state: OverrideState, set: usize, ends: Ends) -> usize {
    let level = |index: usize| open.iter().any(|row| row[index]);
    let contradicts = |index: &usize| match (level(index - 1), level(*index)) {
        (true, false) => state != OverrideState::Off,
        (false, true) => state != OverrideState::On,
        _ => false,
    };
    let week = set + 8 * usize::try_from(DAY).unwrap();
    match ends {
        Ends::Never => usize::MAX,
        Ends::After(minutes) => set + usize::try_from(minutes).unwrap(),
        Ends::AtEdge => (set + 1..week).find(contradicts).unwrap_or(set + 180),
    }
}

/// Marks the minutes of every occurrence of a schedule.
fn openings(position: usize, row: &Row, holidays: &[i64], minutes: &Minutes) -> Vec<bool> {
    let mut open = vec![false; minutes.walls.len()];
    if !row.enabled {
        return open;
    }
    let first_date = minutes.least_wall.div_euclid(DAY);
    let last_date = minutes.walls.iter().max().unwrap().div_euclid(DAY);
    for date in first_date..=last_date {
        // 1970-01-01 was a Thursday.
        let weekday = (date + 3).rem_euclid(7);
        let (weekend, holiday) = (weekday > 4, holidays.contains(&date));
        let is_listed = [
            (weekday, true),
            (7, !weekend && !holiday),
            (8, holiday),
            (9, weekend),
        ]
        .into_iter()
        .any(|(bit, is_so)| is_so && row.days & (1 << bit) != 0);
        if !is_listed {
            continue;
        }
        let Some(exact) = occurrence(&row.span, date * DAY, minutes) else {
            continue;
        };
        let (start, end) = strayed(position, row, date, exact);
        let bound = |index: i64| usize::try_from(index.max(0)).unwrap().min(open.len());
        let (start, end) = (bound(start), bound(end));
        open[start..end].fill(true);
    }
    open
}

fn occurrence(span: &Span, midnight: i64, minutes: &Minutes) -> Option<(i64, i64)> {
    let (start, end) = match *span {
        Span::AllDay => (0, DAY),
        Span::Between(start, end) if start < end => (start, end),
        Span::Between(start, end) => (start, end + DAY),
        Span::Lasting(start, length) => {
            let start = minutes.resolve(midnight + start)?;
            return Some((start, start + length));
        }
    };
    let from = minutes.resolve(midnight + start)?;
    let until = minutes.resolve(midnight + end)?;
    // A gap that swallows the window does not swallow its length.
    Some((from, if from < until { until } else { from + end - start }))
}

/// Both edges moved, a length kept; the exact times where nothing would be left between them.
fn strayed(position: usize, row: &Row, date: i64, (start, end): (i64, i64)) -> (i64, i64) {
    let (early, late) = (
        strays(position, b'\0', row.jitter.0, date),
        strays(position, b'\x01', row.jitter.1, date),
    );
    match row.span {
        Span::Lasting(..) => (start + early, end + early),
        Span::Between(..) if start + early < end + late => (start + early, end + late),
        Span::AllDay | Span::Between(..) => (start, end),
    }
}

/// How many minutes later an edge of a schedule is on a date, counted from 1970: a hash of what it depends on.
fn strays(position: usize, side: u8, most: i64, date: i64) -> i64 {
    let date = Date::constant(1970, 1, 1) + jiff::Span::new().days(date);
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in [
        format!("driveway/s{position}").as_bytes(),
        &[side],
        date.to_string().as_bytes(),
    ] {
        for byte in part {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211);
        }
    }
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb_u64)] {
        hash = (hash ^ (hash >> shift)).wrapping_mul(factor);
    }
    hash ^= hash >> 31;
    let share = u128::from(hash) * u128::try_from(2 * most + 1).unwrap() / (1 << 64);
    i64::try_from(share).unwrap() - most
}

fn clock(minute: i64, jitter: i64) -> Edge {
    let jitter = if jitter == 0 {
        String::new()
    } else {
        format!("±{jitter}m")
    };
    testing::edge(&format!("{:02}:{:02}{jitter}", minute / 60, minute % 60))
}

fn rule(position: usize, row: &Row) -> Schedule {
    let length = |minutes: i64| Period::new(SignedDuration::from_mins(minutes)).unwrap();
    let names = [
        "mon", "tue", "wed", "thu", "fri", "sat", "sun", "workday", "holiday", "weekend",
    ];
    let listed = names.into_iter().enumerate();
    let listed = listed.filter(|(bit, _)| row.days & (1 << bit) != 0);
    Schedule {
        enabled: row.enabled,
        priority: row.priority,
        days: Days::from_names(listed.map(|(_, day)| day)).unwrap(),
        window: match row.span {
            Span::AllDay => Window::ALL_DAY,
            Span::Between(start, end) => {
                Window::between(clock(start, row.jitter.0), clock(end, row.jitter.1)).unwrap()
            }
            Span::Lasting(start, minutes) => {
                Window::lasting(clock(start, row.jitter.0), length(minutes)).unwrap()
            }
        },
        ..schedule(&format!("s{position}"), "00:00", "24:00")
    }
}

fn site(case: &Case) -> Site {
    let schedules = case
        .rows
        .iter()
        .enumerate()
        .map(|(position, row)| rule(position, row));
    let mut site = Site::new(group(schedules.collect()), case.night.0);
    site.rules.groups[0].in_vacation = case.in_vacation;
    let date = |day: i64| Date::constant(1970, 1, 1) + jiff::Span::new().days(day);
    let holidays = case.holidays().into_iter().map(|day| (date(day), "".into()));
    site.rules.location.holidays = Holidays::default().with_dates(std::sync::Arc::new(holidays.collect()));
    if case.vacation {
        site.vacation = Vacation::Since(Timestamp::UNIX_EPOCH);
    }
    site
}

fn compare(case: &Case) -> Result<(), TestCaseError> {
    let mut site = site(case);
    let night = site
        .wall(&format!("{}T00:00", case.night.1))
        .as_second()
        .div_euclid(60);
    let start = night - case.lead;
    let minutes = Minutes::new(&site.rules.location.zone, start - BEFORE, BEFORE + WALK + AFTER);
    let oracle = Oracle::new(case, &minutes);
    if let Some((state, before, ends)) = case.set {
        let lifetime = match ends {
            Ends::AtEdge => Lifetime::UntilNextSchedule,
            Ends::After(length) => Lifetime::For(Period::new(SignedDuration::from_mins(length)).unwrap()),
            Ends::Never => Lifetime::Hold,
        };
        let at = minutes.instant(BEFORE - before);
        let new = Override::new(state, lifetime, Origin::Command, crate::testing::moment(at)).unwrap();
        site.overrides.set(outlet(1), new);
    }
    let decided = |plan: &Plan| {
        let winner = plan.groups[0]
            .winner
            .as_ref()
            .map(|id| id.as_str()[1..].parse::<usize>().unwrap());
        let first = &plan.outlets[&outlet(1)];
        (first.desired, first.source, winner)
    };
    let expected = |index: i64| oracle.expected(case, usize::try_from(index).unwrap());

    // From one named change to the next: in between nothing may change.
    let end = BEFORE + WALK;
    let mut index = BEFORE;
    while index < end {
        site.now = minutes.instant(index);
        let plan = site.plan();
        let next = plan.wake.map_or(end, |next| minutes.index(next).min(end));
        prop_assert!(next > index, "{} names itself", site.now);
        for minute in index..next {
            let expected = expected(minute);
            prop_assert_eq!(
                decided(&plan),
                expected,
                "planned at {} for {}",
                site.now,
                minutes.instant(minute)
            );
        }
        index = next;
    }
    // And asked in any order.
    for sample in &case.samples {
        let index = BEFORE + sample;
        site.now = minutes.instant(index);
        let plan = site.plan();
        prop_assert_eq!(decided(&plan), expected(index), "at {}", site.now);
    }
    Ok(())
}

#[test]
fn rule_02_the_planner_is_the_oracle() {
    testing::check(64, &cases(), |case| compare(&case));
}
