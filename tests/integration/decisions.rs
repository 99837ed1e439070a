//! What the bridge makes of buttons, sensors, restarts and devices that do not obey, over the wire.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tapo_simulator::{Fault, Profile, Scope, Simulator, Stage};
use tapo2mqtt::system::clock::Clock;
use tokio::time;

use crate::{
    bridge::{Setup, fast_clocks, fast_forward},
    groups::{NOON, Site, noon},
    health::{health, issues},
    log::Log,
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::dead_address,
};

/// One group, on while it freezes.
const FROST: &str = r#"
    [location]
    timezone = "UTC"
    [[sensor]]
    id = "outdoor"
    topic = "weather/outdoor"
    pointer = "/temperature"
    stale_after = "1m"
    [[group]]
    id = "driveway"
    outlets = ["mats/1", "lamp"]
    [[group.schedule]]
    id = "frost"
    all_day = true
    when = [{ sensor = "outdoor", at_most = 0.0 }]
"#;

/// One group whose window is skipped if the bridge starts in it.
const SKIPPED: &str = r#"
    [location]
    timezone = "UTC"
    [[group]]
    id = "driveway"
    outlets = ["mats/1", "lamp"]
    [[group.schedule]]
    id = "morning"
    start = "06:00"
    end = "08:00"
    catch_up = "skip"
"#;

/// One group that is switched by hand.
const MANUAL: &str = r#"
    [[group]]
    id = "driveway"
    outlets = ["mats/1", "lamp"]
"#;

async fn event(site: &Site, kind: &str) -> Value {
    let of_kind = |event: &Value| event["type"] == kind;
    site.bridge.expect("bridge/event", of_kind).await
}

/// Moves the wall clock of the bridge, and sends a request, so that it looks.
async fn jump(site: &Site, clock: &Clock, to: &str) {
    let to: Timestamp = to.parse().unwrap();
    clock.jump(to.duration_since(clock.now()));
    site.bridge.publish("bridge/request/override/list", "").await;
}

#[tokio::test]
async fn a_button_is_undone_where_schedules_are_enforced() {
    let _fast = fast_clocks();
    let site = Site::at(NOON, "on_external_change = \"enforce\"").await;
    site.lamp.press(1).unwrap();
    event(&site, "external_change").await;
    site.lamp.wait_relay(1, false, PATIENCE).await.unwrap();
    let group = site
        .group(|group| group["state"] == "OFF" && group["mode"] == "auto")
        .await;
    assert_eq!(group["override_until"], Value::Null);
}

#[tokio::test]
async fn an_ignored_button_holds_until_the_next_edge() {
    let _fast = fast_clocks();
    let clock = noon();
    let site = Site::with(&clock, "on_external_change = \"ignore\"").await;
    site.lamp.press(1).unwrap();
    let set = event(&site, "override_set").await;
    assert!(
        set["message"].as_str().unwrap().starts_with("lamp stays ON"),
        "{set}"
    );
    let lamp = site
        .bridge
        .expect("lamp", |lamp| lamp["state"] == "ON" && lamp["expected"].is_null())
        .await;
    assert_eq!(lamp["override_until"], "2026-11-22T06:00:00Z");
    jump(&site, &clock, "2026-11-22T07:00:00Z").await;
    site.both(true).await;
    jump(&site, &clock, "2026-11-22T09:00:00Z").await;
    site.both(false).await;
}

/// Cuts the power of the lamp until the bridge knows; then it is back, as it was.
async fn cut_power(site: &Site) {
    let scope = Scope::all();
    let stage = Stage::BeforeApplying;
    site.lamp.faults().set(Fault::Drop { stage, scope });
    event(site, "device_offline").await;
    site.bridge.probe.forget();
    site.lamp.faults().clear_all();
}

#[tokio::test]
async fn an_outlet_whose_power_was_cut_comes_back_as_the_settings_say() {
    let _fast = fast_clocks();
    let site = Site::at("2026-11-21T06:30:00Z", "on_reconnect = \"off\"").await;
    site.both(true).await;
    cut_power(&site).await;
    let set = event(&site, "override_set").await;
    let message = "lamp is reachable again, and ON: it is OFF until 2026-11-22T06:00:00+00:00";
    assert_eq!(set["message"], message);
    site.lamp.wait_relay(1, false, PATIENCE).await.unwrap();
    // The state comes from the device, and the override from the scheduler: either may be first.
    let lamp = site
        .bridge
        .expect("lamp", |lamp| {
            lamp["state"] == "OFF" && lamp["override_until"].is_string()
        })
        .await;
    assert_eq!(lamp["override_until"], "2026-11-22T06:00:00Z");
    assert!(site.mats.relay(1), "one that was never away goes on");
}

#[tokio::test]
async fn an_outlet_that_does_not_obey_is_a_problem_after_a_minute() {
    let _fast = fast_clocks();
    let site = Site::at(NOON, "").await;
    let scope = Scope::method("set_device_info");
    site.lamp.faults().set(Fault::Refuse { code: -1001, scope });
    let answer = site
        .bridge
        .set("group/driveway", "on", json!({"state": "ON"}))
        .await;
    assert_eq!(answer["members"]["lamp"]["status"], "error", "{answer}");
    let lamp = site.bridge.expect("lamp", |lamp| lamp["expected"] == "ON").await;
    assert_eq!(
        (&lamp["state"], &lamp["mismatch"]),
        (&json!("OFF"), &json!(false))
    );
    fast_forward(Duration::from_secs(50)).await;
    site.bridge.barrier().await;
    assert_eq!(site.bridge.retained("lamp").await["mismatch"], false, "not yet");
    fast_forward(Duration::from_secs(15)).await;
    site.bridge.expect("lamp", |lamp| lamp["mismatch"] == true).await;
    let reported = event(&site, "state_mismatch").await;
    assert_eq!(reported["message"], "lamp is OFF and should be ON");
    site.bridge.probe.forget();
    site.lamp.faults().clear_all();
    fast_forward(Duration::from_mins(1)).await;
    site.both(true).await;
    site.bridge
        .expect("lamp", |lamp| lamp["mismatch"] == false && lamp["state"] == "ON")
        .await;
}

#[tokio::test]
async fn a_strip_with_one_outlet_in_a_group_is_switched_as_a_whole() {
    let site = Site::at(NOON, "").await;
    for position in 1..=4 {
        if site.mats.relay(position) {
            site.mats.press(position).unwrap();
        }
    }
    let answer = site.bridge.set("mats", "all", json!({"state": "ON"})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert!((1..=4).all(|position| site.mats.relay(position)));
    assert!(!site.lamp.relay(1));
    let source = |source: &'static str| move |mat: &Value| mat["state"] == "ON" && mat["source"] == source;
    site.bridge.expect("mats/1", source("override")).await;
    site.bridge.expect("mats/2", source("manual")).await;

    let answer = site.bridge.set("mats", "auto", json!({"state": "AUTO"})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    site.mats.wait_relay(1, false, PATIENCE).await.unwrap();
    site.bridge.expect("mats/1", |mat| mat["state"] == "OFF").await;
    assert!(
        (2..=4).all(|position| site.mats.relay(position)),
        "they have no schedules"
    );
}

#[tokio::test]
async fn an_override_ends_by_itself() {
    let _fast = fast_clocks();
    let site = Site::at(NOON, "").await;
    let command = json!({"state": "ON", "for": "1s"});
    let answer = site.bridge.set("lamp", "short", command).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    event(&site, "override_ended").await;
    site.lamp.wait_relay(1, false, PATIENCE).await.unwrap();

    site.bridge.probe.forget();
    let until = "2026-11-21T23:00:00Z";
    let command = json!({"state": "ON", "until": until});
    let answer = site.bridge.set("lamp", "long", command).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let is_on = |lamp: &Value| lamp["state"] == "ON" && lamp["override_until"] == until;
    site.bridge.expect("lamp", is_on).await;
}

#[tokio::test]
async fn a_sensor_value_from_before_the_start_counts_until_stale() {
    let _fast = fast_clocks();
    let broker = Mosquitto::start().await;
    let station = broker.probe().await;
    station
        .publish_retained("weather/outdoor", r#"{"temperature":-3}"#)
        .await;
    let site = Site::ruled(&noon(), broker, FROST).await;
    site.both(true).await;
    let shown = |value: i32, stale: bool| {
        move |sensors: &Value| sensors[0]["value"] == f64::from(value) && sensors[0]["stale"] == stale
    };
    let sensors = site.bridge.expect("bridge/sensors", shown(-3, false)).await;
    let fixed = |key: &str| sensors[0][key].clone();
    assert_eq!(
        [fixed("id"), fixed("source"), fixed("unit")],
        ["outdoor", "weather/outdoor", ""]
    );
    station.publish("weather/outdoor", r#"{"temperature":4}"#).await;
    site.both(false).await;
    site.bridge.expect("bridge/sensors", shown(4, false)).await;
    event(&site, "schedule_off").await;

    station.publish("weather/outdoor", r#"{"temperature":-3}"#).await;
    site.both(true).await;
    fast_forward(Duration::from_secs(62)).await;
    event(&site, "sensor_stale").await;
    site.bridge.expect("bridge/sensors", shown(-3, true)).await;
    site.both(false).await;
    station.publish("weather/outdoor", r#"{"temperature":-3}"#).await;
    event(&site, "sensor_back").await;
    site.both(true).await;
}

#[tokio::test]
async fn a_start_in_a_skipped_window_switches_nothing_until_an_edge() {
    let _fast = fast_clocks();
    let clock = Clock::steered("2026-11-21T07:00:00Z".parse().unwrap());
    let site = Site::ruled(&clock, Mosquitto::start().await, SKIPPED).await;
    let lamp = site
        .bridge
        .expect("lamp", |lamp| {
            lamp["state"] == "OFF" && lamp["reason"].is_string()
        })
        .await;
    assert_eq!(lamp["expected"], Value::Null, "{lamp}");
    site.bridge.barrier().await;
    assert_eq!(site.relays(), (false, false));
    jump(&site, &clock, "2026-11-22T05:59:58Z").await;
    site.both(true).await;
}

#[tokio::test]
async fn an_outlet_of_a_group_that_does_not_exist_is_reported() {
    let _fast = fast_clocks();
    let mats = Simulator::strip(Profile::P304M).start().await.unwrap();
    let heater = Simulator::plug(Profile::P110).start().await.unwrap();
    let log = Log::capture();
    let rules = r#"
        [[group]]
        id = "driveway"
        outlets = ["mats/7", "heater/1", "mats/2"]
        [[group.schedule]]
        id = "always"
        all_day = true
    "#;
    let setup = Setup::new().device("mats", mats.address());
    let bridge = setup
        .device("heater", heater.address())
        .rules(rules)
        .start()
        .await;
    let wrong = [
        (
            "mats",
            "group driveway: mats/7 does not exist; mats has the outlets 1, 2, 3, 4",
        ),
        (
            "heater",
            "group driveway: heater/1 does not exist: heater is a plug; leave the outlet out",
        ),
    ];
    for (device, message) in wrong {
        let error = json!({"code": "unknown_outlet", "message": message});
        bridge.expect(device, |state| state["error"] == error).await;
        assert_eq!(
            log.lines().iter().filter(|line| line.contains(message)).count(),
            1
        );
        assert_eq!(issues(&health(&bridge).await, message), [message]);
    }
    // What exists of the group is switched, and nothing is shown of the rest.
    mats.wait_relay(2, true, PATIENCE).await.unwrap();
    bridge.expect("mats/2", |outlet| outlet["expected"] == "ON").await;
    assert!(!heater.relay(1));
    for ghost in ["mats/7", "heater/1"] {
        let gone = async {
            while bridge.retained(ghost).await != Value::Null {
                time::sleep(Duration::from_millis(50)).await;
            }
        };
        time::timeout(PATIENCE, gone).await.expect(ghost);
    }
}

#[tokio::test]
async fn outlets_that_are_away_together_are_one_line() {
    let mut setup = Setup::new();
    let ids: Vec<String> = (1..=8).map(|number| format!("\"lamp-{number}\"")).collect();
    for id in &ids {
        setup = setup.device(id.trim_matches('"'), dead_address());
    }
    let rules = format!(
        "[[group]]\nid = \"garden\"\noutlets = [{}]\n[[group.schedule]]\nid = \"always\"\nall_day = true\n",
        ids.join(", ")
    );
    let log = Log::capture();
    let bridge = setup.clock(&noon()).rules(&rules).start().await;
    bridge
        .expect("group/garden", |group| group["expected"] == "ON")
        .await;
    fast_forward(Duration::from_secs(62)).await;
    for id in &ids {
        let id = id.trim_matches('"');
        bridge.expect(id, |lamp| lamp["mismatch"] == true).await;
    }
    let lines: Vec<String> = log.lines();
    let lines: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("state_mismatch"))
        .collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("and 5 more") && lines[0].contains("count=8"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn the_end_of_a_timed_on_is_the_next_change_of_its_group() {
    let site = Site::ruled(&noon(), Mosquitto::start().await, MANUAL).await;
    let command = json!({"state": "ON", "on_time": 300});
    let answer = site.bridge.set("lamp", "on", command).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let lamp = site
        .bridge
        .expect("lamp", |lamp| lamp["timer_until"].is_string())
        .await;
    let why = json!([{
        "source": "manual", "state": "ON", "rule": null, "reason": lamp["reason"], "decides": true,
    }]);
    assert_eq!((&lamp["why"], &lamp["next_state"]), (&why, &json!("OFF")));
    let ends = |group: &Value| group["next_change"] == lamp["timer_until"] && group["next_state"] == "OFF";
    site.group(ends).await;
}
