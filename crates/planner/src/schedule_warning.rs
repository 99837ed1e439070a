//! What may surprise about a schedule: it is valid, and does something else than it looks like.

use std::fmt;

use jiff::{SignedDuration, civil::Date};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    SensorId,
    activity::met,
    condition::{Condition, WhenUnknown},
    limits::Limit,
    period::{Period, after},
    plan::{Inputs, Memory},
    readings::Known,
    rules::{Group, Schedule},
    sun_days::{DateRange, SunDays},
};

/// As far as windows are looked at: the sun comes back to where it is.
const YEAR: usize = 365;
/// Any set of days recurs within.
const WEEK: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Something that may surprise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleWarning {
    /// The sun leaves no window on these dates.
    NoWindow(Vec<DateRange>),
    /// The sun makes the window longer than 12 h on these dates.
    LongWindow(Vec<DateRange>),
    /// A limit ends before a window of the coming week does.
    Limit {
        /// The setting.
        limit: &'static str,
        /// Its value.
        length: Period,
        /// The longest window.
        window: SignedDuration,
    },
    /// A condition cannot be evaluated now.
    NoValue {
        /// The sensor without a value that counts.
        sensor: SensorId,
        /// What follows.
        when_unknown: WhenUnknown,
    },
}

impl ScheduleWarning {
    /// Everything that may surprise about a schedule of a group.
    pub fn find(inputs: &Inputs<'_>, group: &Group, schedule: &Schedule) -> Vec<Self> {
        let location = &inputs.rules.location;
        let today: Date = location.zone.to_datetime(inputs.now.wall).date();
        let SunDays { empty, long } = SunDays::of(&schedule.calendar(&group.id, location), today, YEAR);
        let mut found = Vec::new();
        if !empty.is_empty() {
            found.push(Self::NoWindow(empty));
        }
        if !long.is_empty() {
            found.push(Self::LongWindow(long));
        }
        found.extend(limits(inputs, group, schedule));
        let conditions = schedule.conditions.iter();
        let unknown = conditions
            .zip(met(
                schedule,
                &Memory::default().of(&group.id, &schedule.id),
                inputs.view(group),
            ))
            .filter(|(_, met)| met.is_none());
        found.extend(unknown.filter_map(|(condition, _)| no_value(inputs, condition)));
        found
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoWindow(_) => "no_window",
            Self::LongWindow(_) => "long_window",
            Self::Limit { .. } => "limit",
            Self::NoValue { .. } => "no_value",
        }
    }
}

fn limits(inputs: &Inputs<'_>, group: &Group, schedule: &Schedule) -> Vec<ScheduleWarning> {
    let calendar = schedule.calendar(&group.id, &inputs.rules.location);
    let windows = calendar.between(inputs.now.wall, after(inputs.now.wall, WEEK));
    let lengths = windows.iter().map(|it| it.end.duration_since(it.start));
    let Some(window) = lengths.max() else {
        return Vec::new();
    };
    let limits = group.limits.changed(&schedule.limits);
    let all = [
        ("max_on", limits.max_on),
        ("max_on_per_day", limits.max_on_per_day),
    ];
    let shorter = all.into_iter().filter_map(|(limit, value)| match value {
        Limit::Of(length) if length.length() < window => Some(ScheduleWarning::Limit {
            limit,
            length,
            window,
        }),
        Limit::Of(_) | Limit::None => None,
    });
    shorter.collect()
}

fn no_value(inputs: &Inputs<'_>, condition: &Condition) -> Option<ScheduleWarning> {
    let sensors = condition.test.sensors();
    let has_value = |id: &SensorId| {
        let spec = inputs.rules.sensors.iter().find(|spec| spec.id == *id);
        spec.is_some_and(|spec| matches!(inputs.readings.of(spec, inputs.now), Known::Value(..)))
    };
    let silent = sensors.iter().find(|id| !has_value(id)).or(sensors.first())?;
    Some(ScheduleWarning::NoValue {
        sensor: (*silent).clone(),
        when_unknown: condition.when_unknown,
    })
}

impl fmt::Display for ScheduleWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_sun = |empty: &[DateRange], long: &[DateRange]| SunDays {
            empty: empty.to_vec(),
            long: long.to_vec(),
        };
        match self {
            Self::NoWindow(dates) => fmt::Display::fmt(&of_sun(dates, &[]), f),
            Self::LongWindow(dates) => fmt::Display::fmt(&of_sun(&[], dates), f),
            Self::Limit {
                limit,
                length,
                window,
            } => write!(f, "{limit} = {length} ends before a window of {window:#} does"),
            Self::NoValue { sensor, when_unknown } => {
                let follows = match when_unknown {
                    WhenUnknown::Off => "its condition is not met",
                    WhenUnknown::On => "its condition is met",
                    WhenUnknown::Hold => "the schedule continues what it did",
                };
                write!(
                    f,
                    "sensor {sensor} has no value that counts now: until it has one, {follows}"
                )
            }
        }
    }
}

/// As `code` and `message`, with the parts that a program needs to say it in its own words.
impl Serialize for ScheduleWarning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.code())?;
        map.serialize_entry("message", &self.to_string())?;
        match self {
            Self::NoWindow(dates) | Self::LongWindow(dates) => map.serialize_entry("dates", dates)?,
            Self::Limit { limit, length, .. } => {
                map.serialize_entry("limit", limit)?;
                map.serialize_entry("length", length)?;
            }
            Self::NoValue { sensor, .. } => map.serialize_entry("sensor", sensor)?,
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        location::Coordinates,
        testing::{Site, freezing, group, schedule},
    };

    fn warnings(change: impl FnOnce(&mut Schedule), site: impl FnOnce(&mut Site)) -> Vec<String> {
        let mut evening = schedule("evening", "17:00", "20:00");
        change(&mut evening);
        let mut of = Site::new(group(vec![evening]), "Europe/Berlin");
        of.rules.location.coordinates = Coordinates::new(52.52, 13.405).ok();
        site(of.at("2024-06-21T12:00"));
        let group = of.group();
        let found = ScheduleWarning::find(&of.inputs(), group, &group.schedules[0]);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_ordinary_schedule_has_none() {
        assert_eq!(warnings(|_| {}, |_| {}), Vec::<String>::new());
    }

    #[test]
    fn a_window_that_the_sun_closes_is_one() {
        let found = warnings(|it| it.window = schedule("x", "05:30", "sunrise").window, |_| {});
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("no window on 2024-06-21 to 2024-"),
            "{found:?}"
        );
        let found = warnings(|it| it.window = schedule("x", "sunset", "sunrise").window, |_| {});
        assert!(found[0].starts_with("longer than 12 h on 2024-"), "{found:?}");
    }

    #[test]
    fn a_limit_within_a_window_is_one() {
        let change = |it: &mut Schedule| {
            it.limits.max_on = Some("2h".parse().unwrap());
            it.limits.max_on_per_day = Some("3h".parse().unwrap());
        };
        assert_eq!(
            warnings(change, |_| {}),
            ["max_on = 2h ends before a window of 3h does"]
        );
    }

    #[test]
    fn a_sensor_without_a_value_is_one() {
        let change = |it: &mut Schedule| it.conditions = vec![freezing(WhenUnknown::Off)];
        assert_eq!(
            warnings(change, |_| {}),
            ["sensor outdoor has no value that counts now: until it has one, its condition is not met"]
        );
        let measured = |site: &mut Site| {
            site.measures(5.0);
        };
        assert_eq!(warnings(change, measured), Vec::<String>::new());
    }
}
