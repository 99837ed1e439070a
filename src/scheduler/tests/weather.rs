//! The forecast, as conditions of schedules use it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{
    rules::{OFF, ON},
    simulation::Simulation,
};
use crate::domain::{report::EventKind, scheduling::Request};
use planner::{
    Aggregate, WeatherSensor, WeatherSpan, WeatherValue,
    condition::{Bound, Condition, Test, WhenUnknown},
    plan::Source,
    rules::Rules,
    sensor::{SensorSource, SensorSpec},
    testing::{Site, group, schedule},
    weather::WeatherHour,
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// On while snow is forecast within 4 h, in UTC.
fn mats(when_unknown: WhenUnknown) -> Rules {
    let mut snow = schedule("snow", "00:00", "24:00");
    snow.conditions = vec![Condition {
        test: Test::Number {
            sensor: "snow".parse().unwrap(),
            bound: Bound::AtLeast,
            limit: 0.5,
            hysteresis: 0.0,
        },
        dwell: None,
        when_unknown,
    }];
    let mut rules = Site::new(group(vec![snow]), "UTC").rules;
    rules.location.zone = TimeZone::UTC;
    let span = WeatherSpan {
        within: "4h".parse().unwrap(),
        aggregate: Aggregate::Sum,
    };
    rules.sensors = vec![SensorSpec {
        id: "snow".parse().unwrap(),
        source: SensorSource::Weather(WeatherSensor {
            value: WeatherValue::Snowfall,
            span: Some(span),
        }),
        unit: WeatherValue::Snowfall.into(),
        stale_after: SensorSpec::DEFAULT_STALE_FORECAST,
    }];
    rules
}

fn at(text: &str) -> Timestamp {
    format!("{text}:00Z").parse().unwrap()
}

/// 48 hours, with 1 cm of snow in each of some.
fn snow_at(first: &str, hours: &[&str]) -> BTreeMap<Timestamp, WeatherHour> {
    let snows: Vec<Timestamp> = hours.iter().map(|hour| at(hour)).collect();
    let start = at(first);
    let hours = (0..48).map(|index| start + HOUR * index);
    let hours = hours.map(|hour| {
        let depth = if snows.contains(&hour) { 1.0 } else { 0.0 };
        (hour, [(WeatherValue::Snowfall, depth)].into())
    });
    hours.collect()
}

async fn simulation(when_unknown: WhenUnknown, start: &str) -> Simulation {
    let mut simulation = Simulation::new(mats(when_unknown), at(start));
    simulation.pass("1s").await;
    simulation
}

/// When `mats/1` was switched, to the minute.
fn switched(simulation: &Simulation) -> Vec<(String, planner::Power)> {
    let switched = simulation.switched.iter();
    let first = switched.filter(|(_, path, _)| path.to_string() == "mats/1");
    first
        .map(|(at, _, power)| (at.strftime("%d %H:%M").to_string(), *power))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn snow_in_five_hours_turns_mats_on_four_hours_before() {
    let mut simulation = simulation(WhenUnknown::Off, "2026-11-30T06:00").await;
    let hours = snow_at("2026-11-30T06:00", &["2026-11-30T11:00", "2026-11-30T12:00"]);
    simulation.forecast(SignedDuration::ZERO, hours).await;
    simulation.until("2026-11-30T06:59:50").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    let standing = simulation.standing("mats/1");
    assert_eq!(standing.next_change, Some(at("2026-11-30T07:00")));
    simulation.until("2026-11-30T07:00:02").await;
    assert_eq!(simulation.power("mats/1"), ON);
    let standing = simulation.standing("mats/1");
    assert_eq!(standing.source, Source::Schedule);
    assert_eq!(
        standing.reason.as_ref().unwrap().as_str(),
        "schedule snow until Tue 00:00: snow 1 cm >= 0.5 cm"
    );
    simulation.until("2026-11-30T20:00:00").await;
    let expected = [("30 07:00".to_owned(), ON), ("30 13:00".to_owned(), OFF)];
    assert_eq!(
        switched(&simulation),
        expected,
        "it goes off when the snow is over"
    );
}

#[tokio::test(start_paused = true)]
async fn without_the_network_the_first_hours_decide_as_with_it() {
    let snow = ["2026-11-30T15:00", "2026-12-01T08:00"];
    let day = |cut: bool| async move {
        let mut simulation = simulation(WhenUnknown::Off, "2026-11-30T06:00").await;
        for hour in 0..48 {
            if hour == 0 || !cut {
                // Made three hours before it was read.
                let first = simulation.clock.now().strftime("%Y-%m-%dT%H:00").to_string();
                simulation.forecast(HOUR * 3, snow_at(&first, &snow)).await;
            }
            simulation.pass("1h").await;
        }
        (switched(&simulation), simulation.count(EventKind::SensorStale))
    };
    let (with, _) = day(false).await;
    let (without, stale) = day(true).await;
    let first = [("30 11:00".to_owned(), ON), ("30 16:00".to_owned(), OFF)];
    assert_eq!(with[..2], first);
    assert_eq!(without[..2], first);
    assert_eq!(with[2].0, "01 04:00");
    // 21 hours after it was read, at 03:00, it is 24 hours old: unknown is off.
    assert_eq!((stale, without.len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_plan_foresees_the_weather_and_says_which_value_decides() {
    let mut simulation = simulation(WhenUnknown::Off, "2026-11-30T06:00").await;
    let hours = snow_at("2026-11-30T06:00", &["2026-12-01T05:00"]);
    simulation.forecast(SignedDuration::ZERO, hours).await;
    let request = Request::Plan {
        group: None,
        days: 7,
        page: 1,
        draft: None,
    };
    let plan = simulation.request(request).await.unwrap();
    let changes = plan["groups"][0]["changes"].as_array().unwrap().clone();
    assert_eq!(changes.len(), 2, "{plan}");
    assert_eq!(changes[0]["at"], "2026-12-01T01:00:00+00:00");
    assert_eq!(
        changes[0]["reason"],
        "schedule snow until Wed 00:00: snow 1 cm >= 0.5 cm"
    );
    assert_eq!(changes[1]["at"], "2026-12-01T06:00:00+00:00");
    assert_eq!(
        changes[1]["reason"],
        "snow: condition not met: snow 0 cm >= 0.5 cm"
    );
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_wrong_makes_the_forecast_unknown() {
    let mut simulation = simulation(WhenUnknown::Off, "2026-11-30T06:00").await;
    let hours = snow_at("2026-11-30T06:00", &["2026-11-30T09:00"]);
    simulation.forecast(SignedDuration::ZERO, hours).await;
    simulation.pass("1m").await;
    assert_eq!(simulation.power("mats/1"), ON);
    simulation.clock.jump(HOUR * -3);
    simulation.pass("10m").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    assert_eq!(simulation.weather.as_ref().unwrap().issued, None);
    simulation.clock.jump(HOUR * 3);
    simulation.pass("1m").await;
    assert_eq!(simulation.power("mats/1"), ON);
    assert_eq!(simulation.weather.as_ref().unwrap().hours.len(), 12);
}
