//! Automation on energy: a budget, a power limit, loads that finish or idle; from the meters to the relays and back.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tapo_simulator::{Profile, RunningDevice, Simulator};
use tapo2mqtt::system::clock::Clock;
use tokio::{
    pin, select,
    time::{MissedTickBehavior, interval},
};

use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    groups::noon,
    probe::PATIENCE,
};

/// A plug and a strip, both with meters, all off.
struct Home {
    washer: RunningDevice,
    strip: RunningDevice,
}

impl Home {
    async fn new() -> Self {
        let washer = Simulator::plug(Profile::P110).start().await.unwrap();
        let strip = Simulator::strip(Profile::P304M).start().await.unwrap();
        for (device, position) in [(&washer, 1), (&strip, 1), (&strip, 2)] {
            if device.relay(position) {
                device.press(position).unwrap();
            }
        }
        Self { washer, strip }
    }

    fn setup(&self, clock: &Clock, energy: &str) -> Setup {
        Setup::new()
            .device("washer", self.washer.address())
            .device("strip", self.strip.address())
            .clock(clock)
            .rules(&format!(
                r#"
                [location]
                timezone = "UTC"
                [[group]]
                id = "laundry"
                outlets = ["washer", "strip/1", "strip/2"]
                min_cycle = "1s"
                energy = {{ {energy} }}
                "#
            ))
    }

    async fn bridge(&self, clock: &Clock, energy: &str) -> Running {
        let bridge = self.setup(clock, energy).start().await;
        for device in ["washer", "strip"] {
            bridge.available(device).await;
        }
        bridge
    }
}

/// Waits for a message, and requests readings until it comes.
async fn reading(bridge: &Running, paths: &[&str], topic: &str, predicate: impl Fn(&Value) -> bool) -> Value {
    let expected = bridge.expect(topic, predicate);
    pin!(expected);
    let mut again = interval(Duration::from_millis(500));
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            biased;
            message = &mut expected => return message,
            _ = again.tick() => {
                for path in paths {
                    bridge.publish(&format!("{path}/get"), "").await;
                }
            }
        }
    }
}

async fn switch_on(bridge: &Running, path: &str) {
    let transaction = format!("{:016x}", rand::random::<u64>());
    let answer = bridge.set(path, &transaction, json!({"state": "ON"})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
}

/// On the device and for the bridge, which takes no more than can have been drawn in the time that passed.
fn an_hour_passes(device: &RunningDevice, clock: &Clock) {
    clock.jump(SignedDuration::from_hours(1));
    device.advance(Duration::from_hours(1));
}

fn events(bridge: &Running, kind: &str) -> usize {
    let events = bridge.probe.payloads("tapo2mqtt/bridge/event");
    events
        .iter()
        .filter(|event| parsed(event)["type"] == kind)
        .count()
}

#[tokio::test]
async fn a_used_budget_is_off_until_midnight_also_after_a_restart() {
    let _fast = fast_clocks();
    let home = Home::new().await;
    let clock = noon();
    let mut bridge = home.bridge(&clock, "daily_budget = '2 kWh'").await;
    home.washer.set_watts(1, 1000.0).unwrap();
    for path in ["washer", "strip/1"] {
        switch_on(&bridge, path).await;
    }
    let draws = |group: &Value| {
        group["energy"]["power"]
            .as_f64()
            .is_some_and(|power| power >= 1000.0)
    };
    reading(&bridge, &["washer", "strip/1"], "group/laundry", draws).await;
    an_hour_passes(&home.washer, &clock);
    let one = |group: &Value| group["energy"]["today"] == 1.0;
    let group = reading(&bridge, &["washer"], "group/laundry", one).await;
    assert_eq!(
        (&group["energy"]["daily_budget_remaining"], &group["safety"]),
        (&json!(1.0), &json!("clear"))
    );

    an_hour_passes(&home.washer, &clock);
    let tripped = |group: &Value| group["safety"] == "tripped" && group["state"] == "OFF";
    let group = reading(&bridge, &["washer"], "group/laundry", tripped).await;
    assert_eq!(group["cooldown_until"], "2026-11-22T00:00:00Z");
    assert!(!home.washer.relay(1) && !home.strip.relay(1));
    let refused = bridge.set("strip/2", "no", json!({"state": "ON"})).await;
    assert_eq!(refused["error"]["code"], "refused_by_safety", "{refused}");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("possible again at 2026-11-22T00:00:00+00:00"),
        "{message}"
    );
    assert_eq!(events(&bridge, "safety_trip"), 1);

    bridge.stop().await;
    let setup = home.setup(&clock, "daily_budget = '2 kWh'").after(&bridge);
    let bridge = setup.start_on(bridge.broker.clone()).await;
    bridge.available("washer").await;
    let refused = bridge.set("washer", "still", json!({"state": "ON"})).await;
    assert_eq!(refused["error"]["code"], "refused_by_safety", "{refused}");
    clock.jump(SignedDuration::from_hours(12));
    switch_on(&bridge, "washer").await;
}

#[tokio::test]
async fn the_last_of_a_group_over_its_limit_is_shed_and_comes_back() {
    let _fast = fast_clocks();
    let home = Home::new().await;
    let energy = "power_limit = { max = '3.5 kW', resume_below = '3 kW', min_off = '2s' }";
    let bridge = home.bridge(&noon(), energy).await;
    home.washer.set_watts(1, 500.0).unwrap();
    home.strip.set_watts(1, 1000.0).unwrap();
    home.strip.set_watts(2, 1500.0).unwrap();
    let all = ["washer", "strip/1", "strip/2"];
    for path in all {
        switch_on(&bridge, path).await;
    }
    let draw = |watts: f64| move |group: &Value| group["energy"]["power"] == watts;
    reading(&bridge, &all, "group/laundry", draw(3000.0)).await;
    assert_eq!(events(&bridge, "safety_trip"), 0);

    home.washer.set_watts(1, 1200.0).unwrap();
    let shed = |group: &Value| group["energy"]["shed"] == json!(["strip/2"]);
    let group = reading(&bridge, &["washer"], "group/laundry", shed).await;
    assert_eq!(group["safety"], "tripped");
    home.strip.wait_relay(2, false, PATIENCE).await.unwrap();
    let held = |outlet: &Value| outlet["rule"] == "power_limit" && outlet["state"] == "OFF";
    let outlet = bridge.expect("strip/2", held).await;
    let reason = "3700 W exceeds power limit 3500 W, off until the others draw less";
    assert_eq!(
        (&outlet["source"], &outlet["reason"]),
        (&json!("safety"), &json!(reason))
    );
    let refused = bridge.set("strip/2", "no", json!({"state": "ON"})).await;
    assert_eq!(refused["error"]["code"], "refused_by_safety", "{refused}");
    assert!(home.washer.relay(1) && home.strip.relay(1));

    home.washer.set_watts(1, 400.0).unwrap();
    let back = |group: &Value| group["energy"]["shed"] == json!([]) && group["safety"] == "clear";
    reading(&bridge, &["washer"], "group/laundry", back).await;
    home.strip.wait_relay(2, true, PATIENCE).await.unwrap();
    assert_eq!(events(&bridge, "safety_trip"), 1);
}

#[tokio::test]
async fn a_finished_load_is_reported_once_and_switched_off() {
    let _fast = fast_clocks();
    let home = Home::new().await;
    let bridge = home
        .bridge(&noon(), "finished = { below = '5 W', for = '2s', off = true }")
        .await;
    home.washer.set_watts(1, 500.0).unwrap();
    switch_on(&bridge, "washer").await;
    reading(&bridge, &["washer"], "washer", |washer| washer["power"] == 500.0).await;
    home.washer.set_watts(1, 1.5).unwrap();
    let finished = |event: &Value| event["type"] == "load_finished";
    let event = reading(&bridge, &["washer"], "bridge/event", finished).await;
    assert_eq!(
        (&event["device"], &event["group"]),
        (&json!("washer"), &json!("laundry"))
    );
    assert_eq!(event["message"], "the load of washer has finished");
    home.washer.wait_relay(1, false, PATIENCE).await.unwrap();
    bridge.probe.forget();
    switch_on(&bridge, "washer").await;
    reading(&bridge, &["washer"], "washer", |washer| washer["power"] == 1.5).await;
    bridge.probe.forget();
    let later = home.washer.counters().requests_of("get_energy_usage") + 3;
    let read = home.washer.wait_requests("get_energy_usage", later, PATIENCE);
    let never = reading(&bridge, &["washer"], "bridge/event", finished);
    select! {
        read = read => read.unwrap(),
        event = never => panic!("it did not run again: {event}"),
    }
    assert!(home.washer.relay(1));
}

#[tokio::test]
async fn an_outlet_on_standby_is_switched_off() {
    let _fast = fast_clocks();
    let home = Home::new().await;
    let bridge = home
        .bridge(&noon(), "standby = { below = '3 W', for = '2s' }")
        .await;
    home.strip.set_watts(1, 2.0).unwrap();
    home.strip.set_watts(2, 20.0).unwrap();
    for path in ["strip/1", "strip/2"] {
        switch_on(&bridge, path).await;
    }
    let standby = |event: &Value| event["type"] == "standby_off";
    let event = reading(&bridge, &["strip/1", "strip/2"], "bridge/event", standby).await;
    assert_eq!(
        (&event["device"], &event["outlet"]),
        (&json!("strip"), &json!("1"))
    );
    home.strip.wait_relay(1, false, PATIENCE).await.unwrap();
    assert!(home.strip.relay(2));
}
