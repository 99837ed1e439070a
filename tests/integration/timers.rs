//! Countdowns, timed OFFs and the rules that plugs hold, through `kill -9` and restarts.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tapo::{
    requests::{DaysOfWeek, ScheduleRule},
    responses::PowerState,
};
use tapo_simulator::{Cause, DeviceHandle, Fault, Profile, RunningDevice, Scope, Simulator, Stage};
use tapo2mqtt::{app::bridge::ShutdownReason, system::clock::Clock};

use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    countdown::app,
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::{self, Home},
};

const MINUTE: Duration = Duration::from_mins(1);

/// A plug that is on.
async fn lamp() -> RunningDevice {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    if !device.relay(1) {
        device.press(1).unwrap();
    }
    device
}

/// A strip of which the second outlet alone is on.
async fn mats() -> RunningDevice {
    let mats = Simulator::strip(Profile::P304M).start().await.unwrap();
    for position in 1..=4 {
        if mats.relay(position) != (position == 2) {
            mats.press(position).unwrap();
        }
    }
    mats
}

fn last_cause(device: &DeviceHandle) -> Cause {
    device.counters().relay_changes.last().unwrap().cause
}

/// Sets the countdown on its own topic, as Home Assistant does.
async fn count_down(bridge: &Running, path: &str, seconds: u32) {
    bridge
        .publish(&format!("{path}/set/countdown"), seconds.to_string())
        .await;
    bridge.expect(path, |state| state["countdown"] == seconds).await;
}

/// Lets the scheduler look at a clock that was set; by itself it does once a minute.
async fn look(bridge: &Running) {
    bridge.publish("bridge/request/override/list", "{}").await;
    bridge.expect("bridge/response/override/list", |_| true).await;
}

#[tokio::test]
async fn a_countdown_runs_on_the_plug_while_the_bridge_is_killed() {
    let device = lamp().await;
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let home = Home::new(&process::settings(
        broker.address(),
        &[("lamp", device.address())],
    ));
    let bridge = home.start();
    let is_on = |payload: &str| parsed(payload)["state"] == "ON";
    probe.expect("tapo2mqtt/lamp", is_on).await;
    let command = r#"{"countdown":600,"transaction":"c"}"#;
    probe.publish("tapo2mqtt/lamp/set", command).await;
    let answer = parsed(&probe.expect("tapo2mqtt/lamp/response", |_| true).await);
    assert_eq!(
        (&answer["status"], &answer["state"]),
        (&json!("ok"), &json!("ON"))
    );
    let armed = |payload: &str| parsed(payload)["failsafe"] == "armed";
    probe.expect("tapo2mqtt/lamp", armed).await;
    bridge.kill().await;

    device.advance(MINUTE * 9);
    assert!(device.relay(1));
    device.advance(MINUTE + Duration::from_secs(2));
    device.wait_relay(1, false, PATIENCE).await.unwrap();
    assert_eq!(last_cause(&device), Cause::Countdown);
}

#[tokio::test]
async fn a_countdown_of_a_strip_survives_a_restart_of_the_bridge() {
    let _fast = fast_clocks();
    let clock = Clock::steered("2026-11-21T12:00:00Z".parse().unwrap());
    let mats = mats().await;
    let setup = Setup::new().device("mats", mats.address()).clock(&clock);
    let mut bridge = setup.clone().start().await;
    bridge.expect("mats/2", |mat| mat["state"] == "ON").await;
    count_down(&bridge, "mats/2", 600).await;
    let refused = bridge.set("mats/1", "off", json!({"countdown": 600})).await;
    assert_eq!(refused["error"]["code"], "bad_command", "{refused}");
    let hint = refused["error"]["message"].as_str().unwrap();
    assert!(hint.contains("on_time"), "{hint}");

    let state = bridge
        .expect("mats/2", |mat| mat["timer_until"].is_string())
        .await;
    let ends: Timestamp = state["timer_until"].as_str().unwrap().parse().unwrap();
    assert_eq!(bridge.stop().await, ShutdownReason::Stopped);
    clock.suspend(ends.duration_since(clock.now()) - SignedDuration::from_secs(3));
    let bridge = setup.after(&bridge).start_on(bridge.broker.clone()).await;
    mats.wait_relay(2, false, PATIENCE).await.unwrap();
    assert!(
        ends.duration_since(clock.now()) <= SignedDuration::from_secs(1),
        "too early"
    );
    bridge
        .expect("mats/2", |mat| mat["state"] == "OFF" && mat["countdown"] == 0)
        .await;
    assert!(!mats.relay(1));
}

#[tokio::test]
async fn a_countdown_is_cancelled_by_zero_on_the_plug_too() {
    let device = lamp().await;
    let bridge = Setup::new().device("lamp", device.address()).start().await;
    bridge.expect("lamp", |lamp| lamp["state"] == "ON").await;
    count_down(&bridge, "lamp", 600).await;
    bridge.expect("lamp", |lamp| lamp["failsafe"] == "armed").await;
    let timer = app(&device).await.get_timer().await.unwrap().unwrap();
    assert!((590..=601).contains(&timer.remaining_s), "{timer:?}");

    let answer = bridge.set("lamp", "cancel", json!({"countdown": 0})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert!(app(&device).await.get_timer().await.unwrap().is_none());
    bridge
        .expect("lamp", |lamp| {
            lamp["countdown"] == 0 && lamp["timer_until"].is_null()
        })
        .await;
    device.advance(MINUTE * 20);
    assert!(device.relay(1));
}

#[tokio::test]
async fn a_countdown_that_the_plug_refuses_is_an_error() {
    let device = lamp().await;
    let bridge = Setup::new().device("lamp", device.address()).start().await;
    bridge.expect("lamp", |lamp| lamp["state"] == "ON").await;
    let answer = bridge.set("lamp", "first", json!({"countdown": 600})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let scope = Scope::method("edit_countdown_rule");
    device.faults().set(Fault::Refuse { code: -1901, scope });

    let answer = bridge.set("lamp", "longer", json!({"countdown": 3600})).await;
    assert_eq!(answer["error"]["code"], "device_error", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("could not be armed"), "{message}");
    bridge
        .expect("lamp", |lamp| {
            lamp["countdown"] == 600 && lamp["failsafe"] == "armed" && lamp["state"] == "ON"
        })
        .await;
    device.faults().clear_all();
    let timer = app(&device).await.get_timer().await.unwrap().unwrap();
    assert!((560..=601).contains(&timer.remaining_s), "{timer:?}");
}

/// Nothing counts down on a device that cannot be reached, so nothing is promised.
#[tokio::test]
async fn a_countdown_waits_for_its_plug_and_expires() {
    let _fast = fast_clocks();
    let device = lamp().await;
    let bridge = Setup::new().device("lamp", device.address()).start().await;
    bridge.expect("lamp", |lamp| lamp["state"] == "ON").await;
    let hang = |scope| Fault::Hang {
        stage: Stage::BeforeApplying,
        scope,
    };
    device.faults().set(hang(Scope::all()));
    bridge
        .expect("lamp/availability", |lamp| lamp["state"] == "offline")
        .await;
    let command = json!({"countdown": 600, "ttl": 1});
    let answer = bridge.set("lamp", "lost", command).await;
    assert_eq!(answer["error"]["code"], "expired", "{answer}");
    bridge.expect("lamp", |lamp| lamp["timer_until"].is_null()).await;

    let waiting = bridge.set("lamp", "waits", json!({"countdown": 600, "ttl": 60}));
    let returned = async {
        device.faults().clear_all();
        std::future::pending::<()>().await;
    };
    let answer = tokio::select! {
        answer = waiting => answer,
        () = returned => unreachable!(),
    };
    assert_eq!(answer["status"], "ok", "{answer}");
    let timer = app(&device).await.get_timer().await.unwrap().unwrap();
    assert!((560..=601).contains(&timer.remaining_s), "{timer:?}");
}

#[tokio::test]
async fn a_countdown_of_the_app_is_shown_and_ends_by_command() {
    let device = lamp().await;
    let handler = app(&device).await;
    handler.set_timer(MINUTE * 30, PowerState::Off).await.unwrap();
    let bridge = Setup::new().device("lamp", device.address()).start().await;
    let state = bridge
        .expect("lamp", |lamp| lamp["device_timer_until"].is_string())
        .await;
    assert_eq!(
        (&state["device_timer_to"], &state["countdown"]),
        (&json!("OFF"), &json!(0))
    );
    // The entities follow the state.
    bridge.barrier().await;
    let config = bridge
        .broker
        .retained("homeassistant/device/tapo2mqtt_lamp/config")
        .await;
    let components = parsed(&config.unwrap())["components"].clone();
    assert_eq!(components["tapo2mqtt_lamp_countdown"]["platform"], "number");
    assert!(components["tapo2mqtt_lamp_device_timer_until"].is_object());

    let answer = bridge.set("lamp", "cancel", json!({"countdown": 0})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert!(app(&device).await.get_timer().await.unwrap().is_none());
    bridge
        .expect("lamp", |lamp| lamp["device_timer_until"].is_null())
        .await;
}

#[tokio::test]
async fn a_timed_off_ends_after_a_restart_of_the_bridge() {
    let _fast = fast_clocks();
    let clock = Clock::steered("2026-11-21T12:00:00Z".parse().unwrap());
    let mats = mats().await;
    let setup = Setup::new().device("mats", mats.address()).clock(&clock);
    let mut bridge = setup.clone().start().await;
    bridge.expect("mats/2", |mat| mat["state"] == "ON").await;
    let answer = bridge
        .set("mats/2", "off", json!({"state": "OFF", "off_time": 600}))
        .await;
    assert_eq!(
        (&answer["status"], mats.relay(2)),
        (&json!("ok"), false),
        "{answer}"
    );
    let state = bridge.expect("mats/2", |mat| mat["timer_to"] == "ON").await;
    assert_eq!(
        (&state["expected"], &state["countdown"]),
        (&json!("OFF"), &json!(0))
    );
    let ends: Timestamp = state["timer_until"].as_str().unwrap().parse().unwrap();
    assert_eq!(bridge.stop().await, ShutdownReason::Stopped);

    clock.suspend(ends.duration_since(clock.now()) - SignedDuration::from_secs(3));
    let bridge = setup.after(&bridge).start_on(bridge.broker.clone()).await;
    mats.wait_relay(2, true, PATIENCE).await.unwrap();
    assert!(
        ends.duration_since(clock.now()) <= SignedDuration::from_secs(1),
        "too early"
    );
    bridge
        .expect("mats/2", |mat| mat["state"] == "ON" && mat["timer_to"].is_null())
        .await;
}

#[tokio::test]
async fn a_timed_off_waits_for_a_limit_and_a_newer_command_ends_it() {
    const RULES: &str = r#"
        [[group]]
        id = "cooler"
        outlets = ["cooler"]
        safety = { min_off = "30m" }
    "#;
    let _fast = fast_clocks();
    let clock = Clock::steered("2026-11-21T12:00:00Z".parse().unwrap());
    let device = lamp().await;
    let setup = Setup::new().device("cooler", device.address()).rules(RULES);
    let bridge = setup.clock(&clock).start().await;
    bridge.expect("cooler", |cooler| cooler["state"] == "ON").await;
    let off = || json!({"state": "OFF", "off_time": 1});
    let answer = bridge.set("cooler", "off", off()).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let waits = |event: &Value| {
        let message = event["message"].as_str().unwrap_or_default();
        event["type"] == "refused_by_safety" && message.contains("it waits")
    };
    bridge.expect("bridge/event", waits).await;
    assert!(!device.relay(1));
    clock.suspend(SignedDuration::from_mins(31));
    look(&bridge).await;
    device.wait_relay(1, true, PATIENCE).await.unwrap();
    bridge
        .expect("cooler", |cooler| {
            cooler["timer_to"].is_null() && cooler["state"] == "ON"
        })
        .await;

    let answer = bridge.set("cooler", "again", off()).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let answer = bridge.set("cooler", "stay", json!({"state": "OFF"})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    clock.suspend(SignedDuration::from_hours(2));
    look(&bridge).await;
    bridge.barrier().await;
    let answer = bridge.set("cooler", "still", json!({"state": "OFF"})).await;
    assert_eq!((&answer["status"], device.relay(1)), (&json!("ok"), false));
}

#[tokio::test]
async fn the_rules_of_the_app_are_shown() {
    let _fast = fast_clocks();
    let device = lamp().await;
    let handler = app(&device).await;
    let weekdays = ScheduleRule::clock_weekly(22, 30, DaysOfWeek::WEEKDAYS, PowerState::Off).unwrap();
    handler.add_schedule_rule(weekdays).await.unwrap();
    let sunset = ScheduleRule::sunset_once(-30, PowerState::On).unwrap();
    let sunset = handler.add_schedule_rule(sunset).await.unwrap();
    let disabled = sunset.to_editable().unwrap().with_enabled(false);
    handler.edit_schedule_rule(disabled).await.unwrap();

    let bridge = Setup::new().device("lamp", device.address()).start().await;
    let state = bridge
        .expect("lamp", |lamp| lamp["device_schedules"].is_array())
        .await;
    assert_eq!(
        state["device_schedules"],
        json!([
            {"id": "S1", "enabled": true, "time": "22:30", "days": ["mon", "tue", "wed", "thu", "fri"],
             "state": "OFF", "ours": false},
            {"id": "S2", "enabled": false, "time": "sunset-00:30", "days": null, "state": "ON", "ours": false},
        ])
    );
    assert_eq!(state["device_schedules_enabled"], 1);
    assert_eq!(device.counters().requests_of("get_schedule_rules"), 1, "seldom");
}

/// A window that began an hour ago and ends in two, in UTC as the simulated plugs are.
pub fn window(sync_off_to_device: bool) -> String {
    let now = Clock::system().now();
    let wall = |hours: i64| {
        let at = now + SignedDuration::from_hours(hours);
        at.strftime("%H:%M").to_string()
    };
    format!(
        r#"
        [location]
        timezone = "UTC"

        [[group]]
        id = "heater"
        outlets = ["heater"]
        sync_off_to_device = {sync_off_to_device}

        [[group.schedule]]
        id = "window"
        start = "{}"
        end = "{}"
        "#,
        wall(-1),
        wall(2)
    )
}

/// Two external rules, one of them at a minute without an edge.
async fn add_rules_of_the_app(device: &DeviceHandle) -> Value {
    let handler = app(device).await;
    for (hour, state) in [(3, PowerState::On), (4, PowerState::Off)] {
        let hour = (Clock::system().now() + SignedDuration::from_hours(12 + hour))
            .strftime("%H")
            .to_string();
        let rule = ScheduleRule::clock_weekly(hour.parse().unwrap(), 17, DaysOfWeek::EVERY_DAY, state);
        handler.add_schedule_rule(rule.unwrap()).await.unwrap();
    }
    on_the_plug(device).await
}

/// Every rule on a plug, as it reports them.
async fn on_the_plug(device: &DeviceHandle) -> Value {
    let rules = app(device).await.get_schedule_rules().await.unwrap();
    serde_json::to_value(rules).unwrap()
}

/// The rules of a state that are ours.
pub fn ours(state: &Value) -> usize {
    let rules = state["device_schedules"].as_array();
    rules.map_or(0, |rules| {
        rules.iter().filter(|rule| rule["ours"] == true).count()
    })
}

#[tokio::test]
async fn after_a_kill_the_plug_switches_off_by_its_rule() {
    let device = lamp().await;
    let foreign = add_rules_of_the_app(&device).await;
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let settings = process::settings(broker.address(), &[("heater", device.address())]);
    let home = Home::new(&(settings + "[polling]\nstate = \"1s\"\n" + &window(true)));
    let bridge = home.start();
    let held = |payload: &str| ours(&parsed(payload)) == 1 && parsed(payload)["state"] == "ON";
    let state = parsed(&probe.expect("tapo2mqtt/heater", held).await);
    assert_eq!(state["device_schedules_enabled"], 3);
    bridge.kill().await;
    let rules = on_the_plug(&device).await;
    assert_eq!(rules[0], foreign[0]);
    assert_eq!(rules[1], foreign[1]);
    assert_eq!(rules[2]["desired_state"], "off");

    device.advance(MINUTE * 118);
    assert!(device.relay(1), "not before its edge");
    device.advance(MINUTE * 5);
    device.wait_relay(1, false, PATIENCE).await.unwrap();
    assert_eq!(last_cause(&device), Cause::Schedule);
}

#[tokio::test]
async fn off_rules_follow_overrides_and_the_option() {
    let _fast = fast_clocks();
    join_all(["tapo", "own"].map(async |client| {
        off_rules_follow(client).await;
    }))
    .await;
}

async fn off_rules_follow(client: &'static str) {
    let device = lamp().await;
    let foreign = add_rules_of_the_app(&device).await;
    let setup = Setup::new()
        .device("heater", device.address())
        .client(client)
        .rules(&window(true));
    let mut bridge = setup.clone().start().await;
    bridge.expect("heater", |heater| ours(heater) == 1).await;

    let hold = json!({"state": "ON", "override": "hold"});
    let answer = bridge.set("heater", "hold", hold).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    bridge
        .expect("heater", |heater| {
            heater["source"] == "override" && ours(heater) == 0
        })
        .await;
    assert_eq!(on_the_plug(&device).await, foreign, "it is wanted on");
    bridge.probe.forget();
    bridge.set("heater", "auto", json!({"state": "AUTO"})).await;
    bridge.expect("heater", |heater| ours(heater) == 1).await;

    // What is there is known to be ours after a restart.
    assert_eq!(bridge.stop().await, ShutdownReason::Stopped);
    let setup = setup.after(&bridge);
    bridge.probe.forget();
    let bridge = setup.clone().start_on(bridge.broker.clone()).await;
    bridge.expect("heater", |heater| ours(heater) == 1).await;
    assert_eq!(device.counters().requests_of("add_schedule_rule"), 4);

    bridge.probe.forget();
    let answer = bridge.reload(&setup.rules(&window(false))).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    bridge
        .expect("heater", |heater| {
            ours(heater) == 0 && heater["device_schedules_enabled"] == 2
        })
        .await;
    assert_eq!(on_the_plug(&device).await, foreign);
    assert!(device.relay(1));
}

#[tokio::test]
async fn a_device_removed_from_the_settings_loses_only_our_rules() {
    let _fast = fast_clocks();
    let (device, other) = (lamp().await, lamp().await);
    let foreign = add_rules_of_the_app(&device).await;
    let setup = Setup::new()
        .device("heater", device.address())
        .rules(&window(true));
    let bridge = setup.start().await;
    bridge.expect("heater", |heater| ours(heater) == 1).await;
    let without = Setup::new().device("other", other.address()).after(&bridge);
    let answer = bridge.reload(&without).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    device
        .wait_requests("remove_schedule_rules", 1, PATIENCE)
        .await
        .unwrap();
    assert_eq!(on_the_plug(&device).await, foreign);
    assert!(device.relay(1));
}

#[tokio::test]
async fn off_rules_need_a_correct_clock_and_free_space() {
    let _fast = fast_clocks();
    let wrong = lamp().await;
    wrong.advance(MINUTE * 3);
    let full = lamp().await;
    let handler = app(&full).await;
    for minute in 0..32 {
        let hour = (Clock::system().now() + SignedDuration::from_hours(12)).strftime("%H");
        let hour = hour.to_string().parse().unwrap();
        let rule = ScheduleRule::clock_weekly(hour, minute, DaysOfWeek::EVERY_DAY, PowerState::Off);
        handler.add_schedule_rule(rule.unwrap()).await.unwrap();
    }
    let rules = window(true).replace(r#"["heater"]"#, r#"["wrong", "full"]"#);
    let setup = Setup::new()
        .device("wrong", wrong.address())
        .device("full", full.address())
        .rules(&rules);
    let bridge = setup.start().await;
    for (device, words) in [("wrong", "clock"), ("full", "32 places")] {
        let failed = |event: &Value| {
            let message = event["message"].as_str().unwrap_or_default();
            event["type"] == "device_schedule_failed" && event["device"] == device && message.contains(words)
        };
        bridge.expect("bridge/event", failed).await;
    }
    assert_eq!(on_the_plug(&wrong).await, json!([]));
    assert_eq!(on_the_plug(&full).await.as_array().unwrap().len(), 32);
}
