//! Workdays and holidays: a sensor that says what today is, and another calendar.

use std::sync::Arc;

use planner::{
    Power,
    holidays::{Holidays, WorkdaysHeard},
    rules::{Group, Rules},
    sensor::{SensorSource, SensorSpec, SensorTopic},
    testing::{group, schedule},
};

use super::{
    rules::{OFF, ON, rules},
    simulation::Simulation,
};

/// From 06:00 to 08:00 on workdays.
fn workdays() -> Group {
    let mut morning = schedule("morning", "06:00", "08:00");
    morning.days = "workday".parse().unwrap();
    group(vec![morning])
}

/// With a sensor that counts for a day and an hour.
fn asking(group: Group) -> Rules {
    let mut rules = rules(group);
    rules.sensors.push(SensorSpec {
        id: "workday".parse().unwrap(),
        source: SensorSource::Topic(SensorTopic {
            topic: "home/workday".to_owned(),
            pointer: None,
        }),
        unit: "".into(),
        stale_after: "25h".parse().unwrap(),
    });
    let holidays = Holidays::default();
    rules.location.holidays = holidays.with_sensor("workday".parse().unwrap(), WorkdaysHeard::new());
    rules
}

/// From midnight on.
async fn simulation(rules: Rules, date: &str) -> Simulation {
    let mut simulation = Simulation::new(rules, format!("{date}T00:00:00Z").parse().unwrap());
    simulation.pass("1s").await;
    simulation
}

async fn at(simulation: &mut Simulation, wall: &str) -> Power {
    simulation.until(wall).await;
    simulation.power("mats/1")
}

/// 2024-06-21 is a Friday.
#[tokio::test(start_paused = true)]
async fn rule_13_a_sensor_says_what_today_is_and_the_reason_says_so() {
    let mut simulation = simulation(asking(workdays()), "2024-06-20").await;
    simulation.publish("home/workday", "on").await;
    assert_eq!(at(&mut simulation, "2024-06-20T07:00:00").await, ON);
    let reason = |simulation: &Simulation| simulation.standing("mats/1").reason.clone().unwrap().to_string();
    assert_eq!(reason(&simulation), "schedule morning until 08:00 (workday)");
    // On Friday it says after midnight that it is a holiday.
    simulation.until("2024-06-21T00:00:03").await;
    simulation.publish("home/workday", "off").await;
    assert_eq!(at(&mut simulation, "2024-06-21T07:00:00").await, OFF);
    assert_eq!(reason(&simulation), "holiday; next: morning, Mon 06:00");
    // It says nothing any more: Monday counts by its weekday.
    assert_eq!(at(&mut simulation, "2024-06-24T07:00:00").await, ON);
    assert_eq!(
        reason(&simulation),
        "schedule morning until 08:00 (workday by its weekday)"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_sensor_said_before_midnight_counts_five_minutes_later() {
    let mut night = schedule("night", "00:00", "02:00");
    night.days = "holiday".parse().unwrap();
    let mut simulation = simulation(asking(group(vec![night])), "2024-06-20").await;
    simulation.publish("home/workday", "off").await;
    assert_eq!(at(&mut simulation, "2024-06-20T01:00:00").await, ON);
    // Another program may be about to say that Friday is a workday.
    assert_eq!(at(&mut simulation, "2024-06-21T00:04:59").await, OFF);
    assert_eq!(at(&mut simulation, "2024-06-21T00:05:01").await, ON);
    simulation.publish("home/workday", "on").await;
    assert_eq!(at(&mut simulation, "2024-06-21T00:05:05").await, OFF);
}

#[tokio::test(start_paused = true)]
async fn a_sensor_may_say_workday_with_one_and_zero() {
    let mut simulation = simulation(asking(workdays()), "2024-06-20").await;
    simulation.publish("home/workday", "1").await;
    assert_eq!(at(&mut simulation, "2024-06-20T07:00:00").await, ON);
    simulation.publish("home/workday", "0").await;
    assert_eq!(at(&mut simulation, "2024-06-20T07:00:05").await, OFF);
}

#[tokio::test(start_paused = true)]
async fn rule_15_what_a_sensor_said_of_today_survives_a_restart() {
    let mut late = schedule("late", "22:00", "02:00");
    late.days = "workday".parse().unwrap();
    let mut simulation = simulation(asking(group(vec![late])), "2024-06-20").await;
    simulation.publish("home/workday", "off").await;
    simulation.until("2024-06-20T23:00:00").await;
    simulation.restart(std::time::Duration::from_secs(30)).await;
    assert_eq!(at(&mut simulation, "2024-06-21T01:00:00").await, OFF);
}

#[tokio::test(start_paused = true)]
async fn another_calendar_counts_at_once() {
    let named = |date: &&str| (date.parse().unwrap(), "Solstice".into());
    let with = |dates: &[&str]| {
        let mut rules = rules(workdays());
        let dates = Arc::new(dates.iter().map(named).collect());
        rules.location.holidays = Holidays::default().with_dates(dates);
        rules
    };
    let mut simulation = simulation(with(&["2024-06-30"]), "2024-06-21").await;
    assert_eq!(at(&mut simulation, "2024-06-21T07:00:00").await, ON);
    simulation
        .reload(with(&["2024-06-21", "2024-06-24"]), &["mats"])
        .await;
    simulation.pass("6s").await;
    assert_eq!(simulation.power("mats/1"), OFF);
    let status = simulation.standing("mats/1");
    assert_eq!(
        status.reason.as_ref().unwrap().to_string(),
        "holiday: Solstice; next: morning, Tue 06:00"
    );
    let only_monday = ["2024-06-24"].iter().map(named).collect();
    simulation.read_calendar(only_monday).await;
    simulation.pass("6s").await;
    assert_eq!(simulation.power("mats/1"), ON);
    // Sent before a reload that takes the calendar out: there are no holidays any more.
    simulation.reload(rules(workdays()), &["mats"]).await;
    let friday = ["2024-06-21"].iter().map(named).collect();
    simulation.read_calendar(friday).await;
    simulation.pass("6s").await;
    assert_eq!(simulation.power("mats/1"), ON);
}
