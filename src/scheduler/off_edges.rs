//! The OFF edges of a group as weekly rules that a plug can hold. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::domain::{
    off_rules::{WeeklyOff, minute_and_day},
    report::Weekdays,
};
use planner::{level::open_spans, location::Location, period::after, rules::Group};

/// Rules cover the coming week: each minute of it comes once.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);
const MINUTE: i64 = 60;
/// A rule fires by a clock that may be off by half a minute, and is noticed with the next poll.
const AROUND: SignedDuration = SignedDuration::from_secs(90);

/// What overrides want on an outlet instead of the schedules' OFF edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing.
    Not,
    /// Edges before this instant do not count.
    Until(Timestamp),
    /// No edge counts.
    Always,
}

/// The rules for the coming week, and when they have to be thought over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Week {
    pub rules: BTreeSet<WeeklyOff>,
    pub until: Option<Timestamp>,
}

/// The OFF edges of a group, as the plug's own clock shows them. Conditions are taken to hold: a rule comes when the
/// last window closes, so it never switches off what a schedule wants on.
///
/// A rule fires one to two minutes after its edge. By then the bridge has switched, so it changes nothing; and a plug
/// whose clock is a little fast does not go off before its time.
pub(super) fn week(group: &Group, location: &Location, zone: &TimeZone, held: Held, now: Timestamp) -> Week {
    let spans = open_spans(group, location, after(now, -AROUND), after(now, WEEK));
    let mut minutes: BTreeMap<u16, u8> = BTreeMap::new();
    let mut until: Option<Timestamp> = None;
    for (at, span) in spans.iter().enumerate() {
        let fires = fires(span.end);
        let next = spans.get(at + 1).map(|next| next.start);
        let counts = match held {
            Held::Not => true,
            Held::Until(end) => span.end >= end,
            Held::Always => false,
        };
        let opens_again = next.is_some_and(|next| next <= fires);
        let coming = fires > now && fires <= after(now, WEEK);
        if !coming {
            continue;
        }
        until = Some(until.map_or(fires, |until| until.min(fires)));
        if counts && !opens_again {
            let (minute, day) = minute_and_day(fires, zone);
            *minutes.entry(minute).or_default() |= day;
        }
    }
    let rule = |(minute, days)| WeeklyOff {
        minute,
        days: Weekdays::from_bits(days),
    };
    Week {
        rules: minutes.into_iter().map(rule).collect(),
        until,
    }
}

/// The next full minute, and one more.
fn fires(edge: Timestamp) -> Timestamp {
    let second = edge.as_second() + i64::from(edge.subsec_nanosecond() > 0);
    let minute = second.div_euclid(MINUTE) + i64::from(second.rem_euclid(MINUTE) > 0);
    Timestamp::from_second((minute + 1) * MINUTE).unwrap_or(edge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::{
        holidays::Holidays,
        location::Coordinates,
        testing::{group, schedule},
    };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn place(zone: &str) -> Location {
        Location {
            coordinates: None,
            zone: TimeZone::get(zone).unwrap(),
            holidays: Holidays::default(),
        }
    }

    fn rules(week: &Week) -> Vec<(String, u8)> {
        let each = week.rules.iter();
        each.map(|rule| {
            (
                format!("{:02}:{:02}", rule.minute / 60, rule.minute % 60),
                rule.days.bits(),
            )
        })
        .collect()
    }

    fn expected(all: &[(&str, u8)]) -> Vec<(String, u8)> {
        all.iter()
            .map(|(time, days)| ((*time).to_owned(), *days))
            .collect()
    }

    #[test]
    fn rule_18_each_off_edge_of_the_week_is_a_rule_a_minute_later() {
        let group = group(vec![
            schedule("morning", "06:00", "08:00"),
            schedule("late", "07:00", "09:30"),
            schedule("night", "23:00", "01:00"),
        ]);
        let place = place("Europe/Berlin");
        let week_at =
            |zone: &str, now: &str| week(&group, &place, &TimeZone::get(zone).unwrap(), Held::Not, at(now));
        // The window of 08:00 closes within another.
        let all = expected(&[("01:01", 0x7f), ("09:31", 0x7f)]);
        for now in [
            "2026-11-21T05:00:00Z",
            "2026-11-21T08:30:30Z",
            "2026-11-22T23:59:59Z",
        ] {
            assert_eq!(rules(&week_at("Europe/Berlin", now)), all, "{now}");
        }
        // A plug that is set to another zone fires at the same instants.
        let elsewhere = week_at("UTC", "2026-11-21T05:00:00Z");
        assert_eq!(rules(&elsewhere), expected(&[("00:01", 0x7f), ("08:31", 0x7f)]));
    }

    #[test]
    fn rule_18_edges_of_the_sun_are_those_of_each_coming_day() {
        let group = group(vec![schedule("evening", "12:00", "sunset")]);
        let place = Location {
            coordinates: Some(Coordinates::new(52.52, 13.405).unwrap()),
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            holidays: Holidays::default(),
        };
        let at_noon = |date: &str| {
            let now = at(&format!("{date}T11:00:00Z"));
            rules(&week(&group, &place, &place.zone, Held::Not, now))
        };
        let week = at_noon("2026-11-21");
        let days = week.iter().fold(0, |days, (_, bits)| {
            assert_eq!(days & bits, 0, "{week:?}");
            days | bits
        });
        assert_eq!(days, 0x7f, "each day has one: {week:?}");
        assert!(week.len() > 3, "the sun sets earlier each day: {week:?}");
        let saturdays = |week: &[(String, u8)]| week.iter().find(|(_, bits)| bits & 0b100_0000 != 0).cloned();
        let next = at_noon("2026-11-22");
        assert!(saturdays(&next) < saturdays(&week), "renewed: {next:?}");
    }

    #[test]
    fn rule_18_a_rule_stands_until_it_has_fired() {
        let group = group(vec![schedule("morning", "06:00", "08:00")]);
        let (place, zone) = (place("UTC"), TimeZone::UTC);
        let until = |now: &str| week(&group, &place, &zone, Held::Not, at(now)).until.unwrap();
        assert_eq!(until("2026-11-21T08:00:30Z"), at("2026-11-21T08:01:00Z"));
        assert_eq!(until("2026-11-21T08:01:00Z"), at("2026-11-22T08:01:00Z"));
    }

    #[test]
    fn rule_18_an_override_takes_out_the_edges_that_it_outlasts() {
        let group = group(vec![schedule("morning", "06:00", "08:00")]);
        let (place, zone) = (place("UTC"), TimeZone::UTC);
        let now = at("2026-11-21T07:00:00Z");
        let held = |held| rules(&week(&group, &place, &zone, held, now));
        assert_eq!(held(Held::Always), []);
        // Saturday the 21st is bit 6.
        let noon = Held::Until(at("2026-11-21T12:00:00Z"));
        assert_eq!(held(noon), expected(&[("08:01", 0b011_1111)]));
        // It ends with the edge: that is when it goes off.
        let edge = Held::Until(at("2026-11-21T08:00:00Z"));
        assert_eq!(held(edge), expected(&[("08:01", 0x7f)]));
    }

    #[test]
    fn rule_18_a_window_that_opens_at_once_again_is_not_cut_short() {
        let group = group(vec![
            schedule("first", "06:00", "08:00"),
            schedule("second", "08:01", "09:00"),
        ]);
        let week = week(
            &group,
            &place("UTC"),
            &TimeZone::UTC,
            Held::Not,
            at("2026-11-21T05:00:00Z"),
        );
        assert_eq!(rules(&week), expected(&[("09:01", 0x7f)]));
    }
}
