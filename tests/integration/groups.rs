//! Groups and schedules, from the clock or a topic to the relays and back.

use std::time::Duration;

use serde_json::{Value, json};
use tapo_simulator::{DeviceHandle, Fault, Profile, RunningDevice, Scope, Simulator, Stage};
use tapo2mqtt::{app::bridge::ShutdownReason, system::clock::Clock};
use tokio::time::{Instant, sleep_until};

use crate::{
    bridge::{Running, Setup, fast_clocks},
    log::Log,
    mosquitto::Mosquitto,
    probe::PATIENCE,
};

/// Most tests live at noon, long after the morning.
pub const NOON: &str = "2026-11-21T12:00:00Z";

pub fn noon() -> Clock {
    Clock::steered(NOON.parse().unwrap())
}

/// A group of an outlet of a strip and a plug. `more` goes into the group.
fn rules(more: &str) -> String {
    format!(
        r#"
        [location]
        timezone = "UTC"
        [[group]]
        id = "driveway"
        name = "Driveway heating"
        outlets = ["mats/1", "lamp"]
        min_cycle = "1s"
        {more}
        [[group.schedule]]
        id = "morning"
        start = "06:00"
        end = "08:00"
        "#
    )
}

/// The devices of the group, off at the start, and a bridge that knows them.
pub struct Site {
    pub mats: RunningDevice,
    pub lamp: RunningDevice,
    pub bridge: Running,
}

impl Site {
    pub async fn at(now: &str, more: &str) -> Self {
        Self::with(&Clock::steered(now.parse().unwrap()), more).await
    }

    pub async fn with(clock: &Clock, more: &str) -> Self {
        Self::ruled(clock, Mosquitto::start().await, &rules(more)).await
    }

    /// With rules of its own, on a broker that may hold something already.
    pub async fn ruled(clock: &Clock, broker: Mosquitto, rules: &str) -> Self {
        let mats = Simulator::strip(Profile::P304M).start().await.unwrap();
        let lamp = Simulator::plug(Profile::P110).start().await.unwrap();
        for (device, position) in [(&mats, 1), (&lamp, 1)] {
            if device.relay(position) {
                device.press(position).unwrap();
            }
        }
        let setup = Self::setup(&mats, &lamp, clock, rules);
        let bridge = setup.start_on(broker).await;
        bridge.available("mats").await;
        bridge.available("lamp").await;
        bridge
            .expect("group/driveway", |group| group["state"].is_string())
            .await;
        Self { mats, lamp, bridge }
    }

    fn setup(mats: &DeviceHandle, lamp: &DeviceHandle, clock: &Clock, rules: &str) -> Setup {
        let setup = Setup::new().device("mats", mats.address());
        setup.device("lamp", lamp.address()).clock(clock).rules(rules)
    }

    /// Starts a bridge that goes on where the one before, which was stopped, left its state.
    pub async fn start_again(&mut self, clock: &Clock, rules: &str) {
        let setup = Self::setup(&self.mats, &self.lamp, clock, rules).after(&self.bridge);
        self.bridge = setup.start_on(self.bridge.broker.clone()).await;
    }

    pub fn relays(&self) -> (bool, bool) {
        (self.mats.relay(1), self.lamp.relay(1))
    }

    pub async fn both(&self, on: bool) {
        for device in [&self.mats, &self.lamp] {
            device.wait_relay(1, on, PATIENCE).await.unwrap();
        }
    }

    /// The next state of the group.
    pub async fn group(&self, predicate: impl Fn(&Value) -> bool) -> Value {
        self.bridge.expect("group/driveway", predicate).await
    }

    /// Sends a request and waits for its answer.
    async fn request(&self, name: &str, payload: Value) -> Value {
        request(&self.bridge, name, payload).await
    }
}

async fn request(bridge: &Running, name: &str, mut payload: Value) -> Value {
    let mark = format!("{:016x}", rand::random::<u64>());
    payload["transaction"] = json!(mark);
    bridge
        .publish(&format!("bridge/request/{name}"), payload.to_string())
        .await;
    let ours = |answer: &Value| answer["transaction"] == mark.as_str();
    let answer = bridge.expect(&format!("bridge/response/{name}"), ours).await;
    assert_eq!(answer["status"], "ok", "{name}: {answer}");
    answer["data"].clone()
}

/// A device that hangs up on everybody.
fn unplug(device: &DeviceHandle) {
    device.faults().set(Fault::Drop {
        stage: Stage::BeforeApplying,
        scope: Scope::all(),
    });
}

#[tokio::test]
async fn a_window_edge_is_acted_on_within_a_second() {
    let fast = fast_clocks();
    let clock = Clock::steered("2026-11-21T05:59:30Z".parse().unwrap());
    let edge = Instant::now() + Duration::from_secs(30);
    let site = Site::with(&clock, "").await;
    sleep_until(edge - Duration::from_secs(1)).await;
    drop(fast);
    site.both(true).await;
    for device in [&site.mats, &site.lamp] {
        let changes = device.counters().relay_changes;
        let change = changes.last().unwrap();
        assert!(change.on && change.at >= edge, "{change:?}");
        let late = change.at - edge;
        assert!(late < Duration::from_secs(1), "{late:?} after the edge");
    }
    let group = site.group(|group| group["state"] == "ON").await;
    assert_eq!(
        (&group["expected"], &group["source"], &group["rule"]),
        (&json!("ON"), &json!("schedule"), &json!("morning"))
    );
    assert_eq!(group["next_change"], "2026-11-21T08:00:00Z");
    site.bridge
        .expect("bridge/event", |event| event["type"] == "schedule_on")
        .await;
    let lamp = site.bridge.expect("lamp", |lamp| lamp["state"] == "ON").await;
    assert_eq!(
        (&lamp["expected"], &lamp["rule"]),
        (&json!("ON"), &json!("morning"))
    );
}

#[tokio::test]
async fn a_member_that_missed_its_edge_is_switched_on_return() {
    let _fast = fast_clocks();
    let clock = Clock::steered("2026-11-21T05:59:54Z".parse().unwrap());
    let site = Site::with(&clock, "").await;
    unplug(&site.lamp);
    site.mats.wait_relay(1, true, PATIENCE).await.unwrap();
    assert!(!site.lamp.relay(1));
    site.lamp.faults().clear_all();
    site.both(true).await;
    site.bridge.expect("lamp", |lamp| lamp["state"] == "ON").await;
}

#[tokio::test]
async fn a_group_is_switched_as_one_and_answers_for_each() {
    let site = Site::at(NOON, "").await;
    let ok = |state: &str| json!({"status": "ok", "state": state});
    for (state, expected, mode) in [
        ("ON", "ON", "on"),
        ("TOGGLE", "OFF", "off"),
        ("TOGGLE", "ON", "on"),
    ] {
        site.bridge.probe.forget();
        let mark = format!("{:016x}", rand::random::<u64>());
        let answer = site
            .bridge
            .set("group/driveway", &mark, json!({"state": state}))
            .await;
        assert_eq!(
            (&answer["status"], &answer["state"]),
            (&json!("ok"), &json!(expected))
        );
        let members = json!({"mats/1": ok(expected), "lamp": ok(expected)});
        assert_eq!(answer["members"], members);
        let on = expected == "ON";
        assert_eq!(site.relays(), (on, on));
        site.group(|group| group["state"] == expected && group["mode"] == mode)
            .await;
    }
    site.bridge.probe.forget();
    let answer = site
        .bridge
        .set("group/driveway", "auto", json!({"state": "AUTO"}))
        .await;
    assert_eq!(answer["status"], "ok", "{answer}");
    site.both(false).await;
    site.group(|group| group["mode"] == "auto" && group["state"] == "OFF")
        .await;
}

#[tokio::test]
async fn the_select_of_home_assistant_overrides_until_auto() {
    let site = Site::at(NOON, "").await;
    let config = "homeassistant/device/tapo2mqtt-group-driveway/config";
    let discovery = site
        .bridge
        .probe
        .expect(config, |payload| !payload.is_empty())
        .await;
    let discovery = crate::bridge::parsed(&discovery);
    let select = &discovery["components"]["tapo2mqtt-group-driveway_mode"];
    assert_eq!(select["options"], json!(["auto", "on", "off"]));
    let topic = select["command_topic"].as_str().unwrap();

    site.bridge.probe.publish(topic, "on").await;
    site.both(true).await;
    let group = site.group(|group| group["mode"] == "on").await;
    assert_eq!(group["source"], "override");
    assert!(group["override_until"].is_string(), "it ends by itself: {group}");
    site.bridge
        .expect("bridge/event", |event| event["type"] == "override_set")
        .await;
    site.bridge.probe.forget();
    site.bridge.probe.publish(topic, "auto").await;
    site.both(false).await;
    let group = site.group(|group| group["mode"] == "auto").await;
    assert_eq!(group["override_until"], Value::Null);
    site.bridge
        .expect("bridge/event", |event| event["type"] == "override_ended")
        .await;
}

#[tokio::test]
async fn a_member_that_missed_its_command_is_repaired() {
    let _fast = fast_clocks();
    let site = Site::at(NOON, "").await;
    unplug(&site.lamp);
    let answer = site
        .bridge
        .set("group/driveway", "t", json!({"state": "ON", "ttl": 1}))
        .await;
    assert_eq!(answer["status"], "error");
    assert_eq!(
        answer["members"]["mats/1"],
        json!({"status": "ok", "state": "ON"})
    );
    assert_eq!(answer["members"]["lamp"]["status"], "error", "{answer}");
    assert_eq!(site.relays(), (true, false));
    site.lamp.faults().clear_all();
    site.both(true).await;
}

#[tokio::test]
async fn a_plug_that_its_button_switched_on_trips_at_its_limit() {
    let _fast = fast_clocks();
    let site = Site::at(NOON, "safety = { max_on = \"3s\", cooldown = \"30m\" }").await;
    let pressed = Instant::now();
    site.lamp.press(1).unwrap();
    let bridge = &site.bridge;
    bridge
        .expect("bridge/event", |event| event["type"] == "external_change")
        .await;
    site.lamp.wait_relay(1, false, PATIENCE).await.unwrap();
    assert!(pressed.elapsed() >= Duration::from_secs(2));
    let trip = bridge
        .expect("bridge/event", |event| event["type"] == "safety_trip")
        .await;
    assert_eq!(
        (&trip["device"], &trip["group"]),
        (&json!("lamp"), &json!("driveway"))
    );
    let cools_down = |group: &Value| group["safety"] == "tripped" && group["cooldown_until"].is_string();
    site.group(cools_down).await;
    let answer = bridge.set("lamp", "again", json!({"state": "ON"})).await;
    let error = &answer["error"];
    assert_eq!(
        (&error["code"], &error["origin"]),
        (&json!("refused_by_safety"), &json!("safety"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("possible again at 2026-11-21T12:30:"),
        "{message}"
    );
    bridge
        .expect("bridge/event", |event| event["type"] == "refused_by_safety")
        .await;
    assert!(!site.lamp.relay(1));
}

#[tokio::test]
async fn in_vacation_the_schedules_rest() {
    let _fast = fast_clocks();
    let site = Site::at(NOON, "").await;
    let bridge = &site.bridge;
    let all_day = json!({"group": "driveway", "schedule": {"id": "always", "all_day": true}});
    site.request("schedule/set", all_day).await;
    site.both(true).await;
    site.request("vacation", json!({"enabled": true})).await;
    bridge
        .expect("bridge/info", |info| info["vacation"] == true)
        .await;
    site.both(false).await;
    site.group(|group| group["source"] == "vacation").await;
    site.request("vacation", json!({"enabled": false})).await;
    site.both(true).await;
}

#[tokio::test]
async fn a_draft_is_planned_and_changes_nothing() {
    let site = Site::at("2026-11-21T07:00:00Z", "").await;
    site.both(true).await;
    let listed = site.request("schedule/list", json!({"group": "driveway"})).await;
    let morning = &listed["groups"][0]["schedules"][0];
    assert_eq!(
        (&morning["active"], &morning["met"], &morning["in_settings"]),
        (&json!(true), &json!([]), &json!(true))
    );
    assert_eq!(listed["groups"][0]["limits"]["max_on"], "6h");

    let mut draft = morning["definition"].clone();
    draft["start"] = json!("09:00");
    draft["end"] = json!("17:00");
    let payload = json!({"group": "driveway", "days": 2, "draft": draft});
    let plan = site.request("plan", payload).await;
    let effect = plan["effect"].as_array().unwrap();
    assert_eq!(effect.len(), 1, "{plan}");
    assert_eq!(effect[0]["state"], "OFF");
    assert_eq!(effect[0]["outlets"], json!(["mats/1", "lamp"]));
    assert_eq!(plan["warnings"][0]["code"], "limit", "{plan}");
    let windows = plan["groups"][0]["windows"].as_array().unwrap();
    assert_eq!(windows[0]["from"], "2026-11-21T09:00:00+00:00");
    let again = site.request("schedule/list", json!({"group": "driveway"})).await;
    assert_eq!(again, listed);
    assert_eq!(site.relays(), (true, true));
    let mut disabled = draft.clone();
    disabled["enabled"] = json!(false);
    let plan = site
        .request("plan", json!({"group": "driveway", "draft": disabled}))
        .await;
    assert_eq!(plan["warnings"], json!([]), "it has no windows");
    let beyond = site.request("plan", json!({"page": 1_000_000})).await;
    assert_eq!(
        (&beyond["page"], &beyond["pages"]),
        (&json!(1_000_000), &json!(1))
    );
    let empty = json!({"group": "driveway", "changes": [], "windows": []});
    assert!(beyond["groups"].as_array().unwrap().contains(&empty), "{beyond}");

    // What it said is what saving it does, and undoing it leaves nothing behind.
    let set = |schedule: &Value| json!({"group": "driveway", "schedule": schedule});
    site.request("schedule/set", set(&draft)).await;
    site.both(false).await;
    site.request("schedule/set", set(&morning["definition"])).await;
    site.both(true).await;
    let again = site.request("schedule/list", json!({"group": "driveway"})).await;
    assert_eq!(again, listed);

    let payload = json!({"group": "driveway", "without": "morning"});
    let plan = site.request("plan", payload).await;
    assert_eq!((&plan["effect"], &plan["warnings"]), (&json!([]), &json!([])));
    assert_eq!(plan["groups"][0]["windows"], json!([]));
}

#[tokio::test]
async fn a_schedule_that_was_set_survives_a_restart() {
    let clock = noon();
    let mut site = Site::with(&clock, "").await;
    let lunch = json!({"id": "lunch", "start": "11:30", "for": "2h"});
    let log = Log::capture();
    site.request("schedule/set", json!({"group": "driveway", "schedule": lunch}))
        .await;
    let set = "schedule set, by a request group=driveway schedule=lunch";
    assert!(
        log.lines().iter().any(|line| line.contains(set)),
        "{:?}",
        log.lines()
    );
    site.both(true).await;
    assert_eq!(site.bridge.stop().await, ShutdownReason::Stopped);

    let setup = Setup::new()
        .device("mats", site.mats.address())
        .device("lamp", site.lamp.address())
        .clock(&clock)
        .rules(&rules(""))
        .after(&site.bridge);
    let bridge = setup.start_on(site.bridge.broker.clone()).await;
    let group = bridge
        .expect("group/driveway", |group| group["rule"] == "lunch")
        .await;
    assert_eq!(group["schedules"], json!({"lunch": true, "morning": true}));
    bridge.available("lamp").await;
    assert_eq!(site.relays(), (true, true), "a restart switches nothing");
    let listed = request(&bridge, "schedule/list", json!({"group": "driveway"})).await;
    assert!(listed.to_string().contains("lunch"), "{listed}");

    // Its switch in Home Assistant goes with the schedule.
    let config = "homeassistant/device/tapo2mqtt-group-driveway/config";
    let component = |payload: &str| {
        let id = "tapo2mqtt-group-driveway_schedule_lunch";
        crate::bridge::parsed(payload)["components"][id].clone()
    };
    bridge
        .probe
        .expect(config, |payload| component(payload).get("state_topic").is_some())
        .await;
    request(&bridge, "schedule/reset", json!({})).await;
    site.both(false).await;
    bridge
        .probe
        .expect(config, |payload| {
            component(payload) == json!({"platform": "switch"})
        })
        .await;
}

#[tokio::test]
async fn a_schedule_is_disabled_by_its_switch() {
    let _fast = fast_clocks();
    let site = Site::at("2026-11-21T07:00:00Z", "").await;
    site.both(true).await;
    let topic = "group/driveway/set/schedule/morning";
    site.bridge.publish(topic, "OFF").await;
    site.both(false).await;
    site.group(|group| group["schedules"]["morning"] == false).await;
    site.bridge.publish(topic, "ON").await;
    site.both(true).await;
}

#[tokio::test]
async fn the_plan_lists_the_coming_switch_times() {
    let site = Site::at(NOON, "").await;
    let plan = site
        .request("plan", json!({"group": "driveway", "days": 2}))
        .await;
    let plan = plan.to_string();
    for time in [
        "2026-11-22T06:00:00",
        "2026-11-22T08:00:00",
        "2026-11-23T06:00:00",
    ] {
        assert!(plan.contains(time), "{time} is not in {plan}");
    }
    assert!(!plan.contains("2026-11-24T06:00:00"), "{plan}");
}
