//! The forecast of a place, hour by hour.
//!
//! Hours are those of the wall clock, and so a forecast says nothing to a wall clock that may be wrong: it counts only
//! while this clock agrees with that of the provider, which came with the answer and goes on with the steady clock.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{
    Now, Steady,
    known::Known,
    period::{Period, after},
    sensor::{SensorSpec, SensorValue},
    weather_sensor::{WeatherSensor, WeatherSpan},
    weather_value::WeatherValue,
};

/// The length of what a forecast speaks of.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What is known of one hour. A value that is missing is not known.
pub type WeatherHour = BTreeMap<WeatherValue, f64>;

/// A forecast.
#[derive(Debug, Clone, PartialEq)]
pub struct Weather {
    /// When the provider made it, by its clock.
    issued: Timestamp,
    /// When the provider answered last that this is its forecast, by its clock.
    answered: Timestamp,
    /// That moment on the steady clock.
    at: Steady,
    /// By the start of each hour.
    hours: BTreeMap<Timestamp, WeatherHour>,
}

impl Weather {
    /// How far the wall clock may be from that of the provider.
    pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(10);
    /// How far ahead hours are kept.
    pub const AHEAD: SignedDuration = SignedDuration::from_hours(72);

    /// A forecast that came at a moment: `now.wall` is the clock of the provider. Hours that are over, and those far
    /// away, are left out.
    pub fn new(issued: Timestamp, now: Now, mut hours: BTreeMap<Timestamp, WeatherHour>) -> Self {
        let (first, last) = (hour_of(now.wall), after(now.wall, Self::AHEAD));
        hours.retain(|start, hour| *start >= first && *start <= last && !hour.is_empty());
        Self {
            // A provider that says that it made it in the future means now. Clocks have fractions of a second; forecasts
            // do not.
            issued: whole_second(issued.min(now.wall)),
            answered: now.wall,
            at: now.steady,
            hours,
        }
    }

    /// The provider answered that this is still its forecast. `now.wall` is its clock.
    #[must_use]
    pub fn confirmed(&self, now: Now) -> Self {
        Self::new(self.issued, now, self.hours.clone())
    }

    /// When the provider made it.
    pub fn issued(&self) -> Timestamp {
        self.issued
    }

    /// When it came, or was confirmed last: on the clock of the provider, and on the steady clock.
    pub fn answered(&self) -> Now {
        Now {
            wall: self.answered,
            steady: self.at,
        }
    }

    /// Each hour, by its start, in order.
    pub fn hours(&self) -> impl Iterator<Item = (Timestamp, &WeatherHour)> {
        self.hours.iter().map(|(start, hour)| (*start, hour))
    }

    /// The hour that now is, if it is known, and those after it; none while the forecast is too old to be shown or the
    /// wall clock disagrees.
    pub fn ahead(&self, now: Now) -> impl Iterator<Item = (Timestamp, &WeatherHour)> {
        let counts =
            self.agrees_with(now) && now.steady < self.stale_from(SensorSpec::DEFAULT_STALE_FORECAST);
        let first = if counts { hour_of(now.wall) } else { Timestamp::MAX };
        self.hours.range(first..).map(|(start, hour)| (*start, hour))
    }

    /// When another hour is the one that now is, or none.
    pub fn next_hour(&self, now: Now) -> Option<Steady> {
        let is_shown = self.ahead(now).next().is_some();
        is_shown.then(|| now.steady_at(after(hour_of(now.wall), HOUR)))
    }

    /// Whether the wall clock agrees with that of the provider.
    pub fn agrees_with(&self, now: Now) -> bool {
        let theirs = after(self.answered, now.steady.elapsed_since(self.at));
        now.wall.duration_since(theirs).abs() <= Self::CLOCK_TOLERANCE
    }

    /// When it is too old. Its age at the answer is known from one clock, and goes on with the other.
    fn stale_from(&self, stale_after: Period) -> Steady {
        let age = self.answered.duration_since(self.issued);
        self.at.after(stale_after.length() - age)
    }

    /// The value of a sensor at a moment; with `fresh_at` as old as it is then.
    pub(crate) fn value(
        &self,
        sensor: &WeatherSensor,
        stale_after: Period,
        now: Now,
        fresh_at: Option<Steady>,
    ) -> Known {
        let stale = self.stale_from(stale_after);
        if fresh_at.unwrap_or(now.steady) >= stale {
            return Known::Stale(stale);
        }
        match self.of_hours(sensor, now) {
            Some(value) => {
                let until = self.next_change(sensor, now).map(|at| now.steady_at(at));
                let stale = fresh_at.map_or(stale, |_| Steady::MAX);
                Known::Value(SensorValue::Number(value), until.unwrap_or(stale).min(stale))
            }
            None => Known::Never,
        }
    }

    /// When the value of a sensor is another one, or none, or one again.
    pub(crate) fn next_change(&self, sensor: &WeatherSensor, now: Now) -> Option<Timestamp> {
        if !self.agrees_with(now) {
            // Not before the clock is set, which is an event of its own.
            return None;
        }
        let value = self.of_hours(sensor, now);
        let last = *self.hours.last_key_value()?.0;
        let mut at = after(hour_of(now.wall), HOUR);
        // Once more after the last hour: there its values end.
        while at <= after(last, HOUR) {
            if self.of_hours(sensor, now.moved_to(at)) != value {
                return Some(at);
            }
            at = after(at, HOUR);
        }
        None
    }

    /// The value of all its hours; `None` if one of them is not known, or it is not known which hour it is.
    fn of_hours(&self, sensor: &WeatherSensor, now: Now) -> Option<f64> {
        if !self.agrees_with(now) {
            return None;
        }
        let first = hour_of(now.wall);
        let value = |start: Timestamp| self.hours.get(&start)?.get(&sensor.value).copied();
        let Some(WeatherSpan { within, aggregate }) = sensor.span else {
            return value(first);
        };
        let last = after(now.wall, within.length());
        let starts = std::iter::successors(Some(first), |start| Some(after(*start, HOUR)));
        let values: Option<Vec<f64>> = starts.take_while(|start| *start <= last).map(value).collect();
        aggregate.of(&values?)
    }
}

fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The start of the hour that an instant is in. Hours are those of UTC: zones that are half an hour off see them start
/// at half past.
pub fn hour_of(at: Timestamp) -> Timestamp {
    let second = at.as_second();
    Timestamp::from_second(second - second.rem_euclid(HOUR.as_secs())).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weather_sensor::Aggregate;

    const START: &str = "2026-11-30T06:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now(text: &str) -> Now {
        Now {
            wall: at(text),
            steady: Steady::at(at(text)),
        }
    }

    fn snow(within: Option<u16>) -> WeatherSensor {
        WeatherSensor {
            value: WeatherValue::Snowfall,
            span: within.map(|hours| WeatherSpan {
                within: Period::hours(hours),
                aggregate: Aggregate::Sum,
            }),
        }
    }

    /// Snow in these hours after 06:00, of 24.
    fn snow_in(hours: &[i64]) -> Weather {
        let hour = |index: i64| {
            let start = after(at(START), HOUR * i32::try_from(index).unwrap());
            let depth = if hours.contains(&index) { 1.0 } else { 0.0 };
            (start, WeatherHour::from([(WeatherValue::Snowfall, depth)]))
        };
        Weather::new(
            at("2026-11-30T05:00:00Z"),
            now(START),
            (0..24).map(hour).collect(),
        )
    }

    fn known(weather: &Weather, sensor: &WeatherSensor, now: Now) -> Known {
        weather.value(sensor, Period::hours(12), now, None)
    }

    fn value(number: f64, until: &str) -> Known {
        Known::Value(SensorValue::Number(number), Steady::at(at(until)))
    }

    #[test]
    fn an_hour_counts_from_its_start_to_its_end() {
        let weather = snow_in(&[5, 6]);
        let sensor = snow(None);
        for (moment, expected) in [
            ("2026-11-30T06:00:00Z", value(0.0, "2026-11-30T11:00:00Z")),
            ("2026-11-30T10:59:59Z", value(0.0, "2026-11-30T11:00:00Z")),
            ("2026-11-30T11:00:00Z", value(1.0, "2026-11-30T13:00:00Z")),
            ("2026-11-30T13:00:00Z", value(0.0, "2026-11-30T17:00:00Z")),
        ] {
            assert_eq!(known(&weather, &sensor, now(moment)), expected, "{moment}");
        }
    }

    #[test]
    fn within_is_exactly_that_long_before_the_hour_starts() {
        let weather = snow_in(&[5]);
        let sensor = snow(Some(4));
        for (moment, expected) in [
            ("2026-11-30T06:59:59Z", value(0.0, "2026-11-30T07:00:00Z")),
            ("2026-11-30T07:00:00Z", value(1.0, "2026-11-30T12:00:00Z")),
            ("2026-11-30T11:59:59Z", value(1.0, "2026-11-30T12:00:00Z")),
            ("2026-11-30T12:00:00Z", value(0.0, "2026-11-30T17:00:00Z")),
        ] {
            assert_eq!(known(&weather, &sensor, now(moment)), expected, "{moment}");
        }
    }

    #[test]
    fn a_missing_hour_makes_the_value_unknown_until_it_is_over() {
        let mut weather = snow_in(&[]);
        weather.hours.remove(&at("2026-11-30T09:00:00Z"));
        let sensor = snow(Some(2));
        let moment = now("2026-11-30T07:00:00Z");
        assert_eq!(known(&weather, &sensor, moment), Known::Never);
        let change = weather.next_change(&sensor, moment);
        assert_eq!(change, Some(at("2026-11-30T10:00:00Z")));
        // Behind the last hour nothing is known.
        let last = now("2026-12-01T03:00:00Z");
        let fresh = |now| weather.value(&sensor, Period::hours(48), now, None);
        assert_eq!(fresh(last), value(0.0, "2026-12-01T04:00:00Z"));
        assert_eq!(fresh(now("2026-12-01T04:00:00Z")), Known::Never);
    }

    #[test]
    fn a_forecast_is_issued_at_a_whole_second() {
        let moment = now("2026-11-30T06:00:00.123456789Z");
        let weather = Weather::new(moment.wall, moment, BTreeMap::new());
        assert_eq!(weather.issued(), at("2026-11-30T06:00:00Z"));
    }

    #[test]
    fn age_counts_from_the_issue() {
        let weather = snow_in(&[]);
        let sensor = snow(None);
        let stale = Steady::at(at("2026-11-30T17:00:00Z"));
        assert!(
            matches!(known(&weather, &sensor, now("2026-11-30T16:59:59Z")), Known::Value(_, until) if until == stale)
        );
        let later = now("2026-11-30T17:00:00Z");
        assert_eq!(known(&weather, &sensor, later), Known::Stale(stale));
        // A confirmation does not make it younger.
        let confirmed = weather.confirmed(now("2026-11-30T12:00:00Z"));
        assert_eq!(known(&confirmed, &sensor, later), Known::Stale(stale));
        // What is fresh now stays so where it is assumed.
        let assumed = weather.value(&sensor, Period::hours(12), later, Some(weather.at));
        assert_eq!(assumed, value(0.0, "2026-12-01T06:00:00Z"));
    }

    #[test]
    fn a_wall_clock_that_disagrees_makes_nothing_known() {
        let weather = snow_in(&[]);
        let sensor = snow(None);
        let moment = now("2026-11-30T08:00:00Z");
        for (set, is_known) in [
            (0, true),
            (9, true),
            (-9, true),
            (11, false),
            (-11, false),
            (-100_000, false),
        ] {
            let wall = after(moment.wall, SignedDuration::from_mins(set));
            let set_clock = Now { wall, ..moment };
            let found = known(&weather, &sensor, set_clock);
            assert_eq!(found != Known::Never, is_known, "{set} min");
        }
        // A machine that stood still, with a clock that did too: old by the steady clock alone.
        let slept = Now {
            wall: moment.wall,
            steady: moment.steady.after(SignedDuration::from_hours(12)),
        };
        assert!(matches!(known(&weather, &sensor, slept), Known::Stale(_)));
    }

    #[test]
    fn what_is_shown_starts_with_the_hour_that_now_is() {
        let weather = snow_in(&[]);
        let count = |now: Now| weather.ahead(now).count();
        let moment = now("2026-11-30T08:20:00Z");
        assert_eq!(
            weather.ahead(moment).next().unwrap().0,
            at("2026-11-30T08:00:00Z")
        );
        assert_eq!(count(moment), 22);
        assert_eq!(
            weather.next_hour(moment),
            Some(Steady::at(at("2026-11-30T09:00:00Z")))
        );
        let set_clock = Now {
            wall: at("2026-11-30T10:20:00Z"),
            ..moment
        };
        assert_eq!((count(set_clock), weather.next_hour(set_clock)), (0, None));
        // 24 hours after its issue.
        assert_eq!(count(now("2026-12-01T04:59:59Z")), 2);
        assert_eq!(count(now("2026-12-01T05:00:00Z")), 0);
    }

    #[test]
    fn hours_far_away_are_left_out() {
        let hour = || WeatherHour::from([(WeatherValue::Temperature, 1.0)]);
        let hours = [
            "1970-01-01T00:00:00Z",
            "2026-11-30T05:00:00Z",
            "2026-11-30T06:00:00Z",
            "2066-11-30T06:00:00Z",
        ];
        let mut hours: BTreeMap<_, _> = hours.map(|start| (at(start), hour())).into();
        hours.insert(at("2026-11-30T07:00:00Z"), WeatherHour::new());
        let weather = Weather::new(at("2066-01-01T00:00:00Z"), now(START), hours);
        let starts: Vec<Timestamp> = weather.ahead(now(START)).map(|(start, _)| start).collect();
        assert_eq!(starts, [at(START)]);
        assert_eq!(weather.issued(), at(START));
    }
}
