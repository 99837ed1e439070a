//! What a sensor costs the bridge that publishes ten times a second and that the conditions of many groups ask.

use std::time::Duration;

use tapo_simulator::Profile;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    Bench,
    figures::{Book, Goal},
    fleet,
    groups::{self, Asks, Limits, TOPIC},
    scale::SELDOM,
    site::Site,
};

const SECTION: &str = "Sensor";
const GROUPS: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);
/// Until what follows the start is over.
const SETTLED: Duration = Duration::from_secs(5);

pub async fn measure(bench: &Bench, book: &mut Book) {
    let devices = fleet::devices(Profile::P110, GROUPS).await;
    let more = format!("{SELDOM}\n{}", groups::of(GROUPS, 1, Asks::Sensor, Limits::With));
    let mut site = Site::open(&bench.binary, &fleet::addresses(&devices), &more).await;
    site.client.subscribe("tapo2mqtt/group/+").await;
    publish(&mut site, 1, 0).await;
    sleep(SETTLED).await;
    let values = u32::try_from(bench.watched(GROUPS).as_millis() / PAUSE.as_millis()).unwrap_or(1);
    let idle = site.bridge.load(PAUSE * values).await;
    for (what, steps) in [("the same value", 0), ("another value each time", 1)] {
        site.client.take_all();
        let before = site.bridge.cpu();
        publish(&mut site, values, steps).await;
        let load = (site.bridge.cpu() - before) / (PAUSE * values).as_secs_f64() * 100.0;
        let name = format!("{GROUPS} groups ask a sensor, 10 values a second, {what}");
        let goal = Goal::AtMost(3.0);
        book.with_goal(
            SECTION,
            format!("{name}: processor"),
            "% of a core",
            goal,
            load - idle,
        );
        let sent = site.client.take_all().len() as f64;
        let goal = (steps == 0).then_some(Goal::AtMost(0.0));
        book.with_goal(
            SECTION,
            format!("{name}: messages of groups and outlets"),
            "",
            goal,
            sent,
        );
    }
    site.bridge.stop().await;
}

/// Each value is so many tenths of a degree above the one before; none is over the limit.
async fn publish(site: &mut Site, values: u32, steps: u32) {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for value in 0..values {
        ticks.tick().await;
        let degrees = f64::from(value * steps % 100) / 10.0;
        site.client.publish(TOPIC, degrees.to_string()).await;
    }
}
