//! Settings that change under a running bridge: what is new appears, what is gone leaves nothing, and what stays does
//! not notice.

use std::{fs, net::SocketAddr, sync::atomic::Ordering, time::Duration};

use serde_json::{Value, json};
use tapo_simulator::{DEFAULT_PASSWORD, Fault, Profile, Protocol, RunningDevice, Scope, Simulator, Stage};
use tokio::time::Instant;

use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    groups::noon,
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::{self, Home},
};

/// Wrong logins are tried again after 15 s at the earliest.
const BEFORE_A_RETRY: Duration = Duration::from_secs(10);

async fn plug() -> RunningDevice {
    Simulator::plug(Profile::P110).start().await.unwrap()
}

async fn strip() -> RunningDevice {
    Simulator::strip(Profile::P304M).start().await.unwrap()
}

/// What a device that must not notice has seen.
struct Bystander<'a> {
    device: &'a RunningDevice,
    logins: [u64; 4],
}

impl<'a> Bystander<'a> {
    fn watch(device: &'a RunningDevice) -> Self {
        Self {
            device,
            logins: Self::logins(device),
        }
    }

    fn logins(device: &RunningDevice) -> [u64; 4] {
        let counters = device.counters();
        [
            counters.logins,
            counters.failed_logins,
            counters.requests_of("handshake1"),
            counters.sequence_violations,
        ]
    }

    /// It is still asked, in the same session and never by two at once.
    async fn noticed_nothing(&self) {
        let asked = self.device.counters().requests_of("get_device_info");
        self.device
            .wait_requests("get_device_info", asked + 1, PATIENCE)
            .await
            .unwrap();
        assert_eq!(Self::logins(self.device), self.logins);
        assert_eq!(self.device.counters().max_in_flight, 1);
    }
}

/// That a reload was taken over; returns what it changed.
fn taken(answer: &Value) -> &Value {
    assert_eq!(answer["status"], "ok", "{answer}");
    &answer["data"]
}

fn only(list: &str, names: Value) -> Value {
    let mut data = json!({"added": [], "changed": [], "removed": [], "needs_restart": []});
    data[list] = names;
    data
}

/// What the broker keeps of a device or group, discovery included.
async fn left(bridge: &Running, name: &str) -> Vec<String> {
    bridge.probe.catch_up().await;
    let mut topics = Vec::new();
    for filter in ["tapo2mqtt/#", "homeassistant/#"] {
        let all = bridge.broker.retained_under(filter).await;
        let ours = |topic: &String| topic.split(['/', '_']).any(|level| level == name);
        topics.extend(all.into_keys().filter(ours));
    }
    topics
}

/// Waits until the broker keeps nothing of a device or group.
async fn gone(bridge: &Running, name: &str) {
    let wait = async {
        while !left(bridge, name).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, wait).await;
    assert!(done.is_ok(), "left of {name}: {:?}", left(bridge, name).await);
}

/// Waits until so many devices are in the list of all.
async fn listed(bridge: &Running, count: usize) {
    let all = |devices: &Value| devices.as_array().is_some_and(|devices| devices.len() == count);
    bridge.expect("bridge/devices", all).await;
}

#[tokio::test]
async fn adding_and_removing_a_device_does_not_affect_others() {
    let _fast = fast_clocks();
    let (lamp, mats) = (plug().await, strip().await);
    let alone = Setup::new().device("lamp", lamp.address());
    let both = alone.clone().device("mats", mats.address());
    let bridge = alone.clone().start().await;
    bridge.available("lamp").await;
    let bystander = Bystander::watch(&lamp);

    assert_eq!(
        *taken(&bridge.reload(&both).await),
        only("added", json!(["device.mats"]))
    );
    bridge.available("mats").await;
    let answer = bridge.set("mats/1", "on", json!({"state": "ON"})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let config = "homeassistant/device/tapo2mqtt_mats/config";
    bridge
        .probe
        .expect(config, |payload| payload.contains("tapo2mqtt_mats"))
        .await;
    bridge.expect("bridge/info", |info| info["devices"] == 2).await;
    listed(&bridge, 2).await;

    bridge.probe.forget();
    assert_eq!(
        *taken(&bridge.reload(&alone).await),
        only("removed", json!(["device.mats"]))
    );
    gone(&bridge, "mats").await;
    let answer = bridge.set("mats/1", "off", json!({"state": "OFF"})).await;
    assert_eq!(answer["error"]["code"], "unknown_device", "{answer}");
    assert!(mats.relay(1));
    listed(&bridge, 1).await;
    bystander.noticed_nothing().await;
    assert_eq!(left(&bridge, "mats").await, Vec::<String>::new());

    // Once more, at once after each other: the second worker waits for the first.
    taken(&bridge.reload(&both).await);
    taken(&bridge.reload(&alone).await);
    bridge.probe.forget();
    taken(&bridge.reload(&both).await);
    bridge.available("mats").await;
    bridge
        .probe
        .expect(config, |payload| payload.contains("tapo2mqtt_mats"))
        .await;
    assert_eq!(mats.counters().max_in_flight, 1);
    bystander.noticed_nothing().await;
}

#[tokio::test]
async fn a_name_that_changes_reaches_home_assistant() {
    let _fast = fast_clocks();
    let (lamp, heater) = (plug().await, plug().await);
    let named = |name: &str| {
        let (address, lamp) = (heater.address(), lamp.address());
        Setup::new().device("lamp", lamp).section(&format!(
            "[[device]]\nid = \"heater\"\naddress = \"{address}\"\nname = \"{name}\""
        ))
    };
    let bridge = named("Old heater").start().await;
    for device in ["lamp", "heater"] {
        bridge.available(device).await;
    }
    let bystander = Bystander::watch(&lamp);
    assert_eq!(
        *taken(&bridge.reload(&named("New heater")).await),
        only("changed", json!(["device.heater"]))
    );
    bridge
        .probe
        .expect("homeassistant/device/tapo2mqtt_heater/config", |payload| {
            parsed(payload)["device"]["name"] == "New heater"
        })
        .await;
    bystander.noticed_nothing().await;
}

#[tokio::test]
async fn a_device_is_reached_at_its_new_address() {
    let _fast = fast_clocks();
    let (lamp, old, new) = (plug().await, plug().await, plug().await);
    let at = |address: SocketAddr| {
        Setup::new()
            .device("lamp", lamp.address())
            .device("heater", address)
    };
    let bridge = at(old.address()).start().await;
    for device in ["lamp", "heater"] {
        bridge.available(device).await;
    }
    let bystander = Bystander::watch(&lamp);
    taken(&bridge.reload(&at(new.address())).await);
    bridge
        .expect("bridge/devices", |devices| {
            let heater = devices
                .as_array()
                .and_then(|all| all.iter().find(|device| device["id"] == "heater"));
            heater.is_some_and(|heater| {
                heater["address"] == new.address().to_string() && heater["availability"] == "online"
            })
        })
        .await;
    let was = old.relay(1);
    let answer = bridge.set("heater", "1", json!({"state": "TOGGLE"})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert_eq!(old.relay(1), was);
    bystander.noticed_nothing().await;
}

#[tokio::test]
async fn another_device_of_an_id_is_asked_for_all_its_values() {
    let old = Simulator::plug(Profile::P110Old).start().await.unwrap();
    let new = plug().await;
    let at = |device: &RunningDevice| Setup::new().device("heater", device.address());
    let bridge = at(&old).start().await;
    bridge
        .expect("heater", |heater| heater["power"].is_number())
        .await;
    taken(&bridge.reload(&at(&new)).await);
    bridge
        .expect("heater", |heater| heater["voltage"].is_number())
        .await;
}

/// Only the bridge would switch it off: it has a limit and no countdown.
#[tokio::test]
async fn a_device_whose_id_another_one_gets_is_not_left_on() {
    let (old, new) = (plug().await, plug().await);
    let scope = Scope::method("get_countdown_rules");
    old.faults().set(Fault::Refuse { code: -1002, scope });
    let limited = "[[group]]\nid = \"all\"\noutlets = [\"heater\"]\nsafety = { max_on = \"1h\" }\n";
    let at = |device: &RunningDevice| Setup::new().device("heater", device.address()).rules(limited);
    let bridge = at(&old).start().await;
    bridge.available("heater").await;
    let answer = bridge.set("heater", "on", json!({"state": "ON"})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    bridge
        .expect("heater", |heater| heater["failsafe"] == "unsupported")
        .await;
    let mac = new.mac().to_lowercase().replace('-', ":");
    let address = format!("address = \"{}\"\n", new.address());
    let settings = at(&new).toml(bridge.broker.address());
    let named = settings.replace(&address, &format!("{address}mac = \"{mac}\"\n"));
    assert_ne!(named, settings);
    taken(&bridge.reload_text(&named).await);
    old.wait_relay(1, false, PATIENCE).await.unwrap();
    let answer = bridge.set("heater", "new", json!({"state": "ON"})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert!(new.relay(1) && !old.relay(1));
}

/// Corrects the password while `heater` waits with this status; returns how long it took to be online.
async fn corrected(heater: &RunningDevice, status: &str) -> Duration {
    let setup = Setup::new().device("heater", heater.address());
    let bridge = setup.clone().password("wrong").start().await;
    bridge
        .expect("bridge/devices", |devices| devices[0]["status"] == status)
        .await;
    heater.faults().clear_all();
    let start = Instant::now();
    taken(&bridge.reload(&setup.password(DEFAULT_PASSWORD)).await);
    bridge.available("heater").await;
    start.elapsed()
}

#[tokio::test]
async fn a_corrected_password_is_tried_at_once() {
    let took = corrected(&plug().await, "forbidden").await;
    println!("from the right password to online: {took:?}");
    assert!(took < BEFORE_A_RETRY, "{took:?}");
}

#[tokio::test]
async fn a_corrected_password_is_tried_at_once_on_a_locked_device() {
    let heater = Simulator::plug(Profile::P110)
        .protocol(Protocol::Tpap)
        .fault(Fault::TpapLock { after: 0 })
        .start()
        .await
        .unwrap();
    let took = corrected(&heater, "locked_out").await;
    println!("from the right password to online, when locked out: {took:?}");
    assert!(took < BEFORE_A_RETRY, "{took:?}");
}

#[tokio::test]
async fn setup_mode_ends_and_begins_with_the_account() {
    let heater = plug().await;
    let setup = Setup::new().device("heater", heater.address());
    let bridge = setup.clone().without_credentials().start().await;
    bridge
        .expect("bridge/info", |info| info["setup_mode"] == true)
        .await;
    taken(&bridge.reload(&setup).await);
    bridge.available("heater").await;
    bridge
        .expect("bridge/info", |info| info["setup_mode"] == false)
        .await;

    bridge.probe.forget();
    taken(&bridge.reload(&setup.without_credentials()).await);
    bridge
        .expect("bridge/info", |info| info["setup_mode"] == true)
        .await;
    bridge
        .expect("heater/availability", |state| state["state"] == "offline")
        .await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_reported() {
    let _fast = fast_clocks();
    let lamp = plug().await;
    let setup = Setup::new().device("lamp", lamp.address());
    let bridge = setup.clone().start().await;
    bridge.available("lamp").await;
    let bystander = Bystander::watch(&lamp);
    bridge
        .expect("bridge/info", |info| info["devices_online"] == 1)
        .await;
    let before = bridge.retained("bridge/info").await;

    for (bad, named) in [
        (
            "[polling]\nstate = \"1ms\"\n[log]\nlevel = \"loud\"",
            ["polling.state", "log.level"],
        ),
        ("this is no TOML", ["settings.toml", "TOML"]),
        ("", ["no [[device]] is left", "restart"]),
    ] {
        let answer = bridge.reload_text(bad).await;
        assert_eq!(answer["status"], "error", "{answer}");
        assert_eq!(answer["error"]["code"], "invalid_settings");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(named.iter().all(|named| message.contains(named)), "{message}");
        bridge
            .expect("bridge/last_error", |error| {
                let message = error["message"].as_str().unwrap_or_default();
                error["code"] == "invalid_settings" && message.contains(named[0])
            })
            .await;
    }
    let mut info = bridge.retained("bridge/info").await;
    let why = info["settings_error"].take();
    assert!(why.as_str().unwrap().contains("no [[device]] is left"), "{why}");
    assert_eq!(info, before);

    assert_eq!(*taken(&bridge.reload(&setup).await), only("added", json!([])));
    bridge
        .expect("bridge/info", |info| info["settings_error"].is_null())
        .await;
    bridge.probe.catch_up().await;
    assert_eq!(bridge.retained("bridge/last_error").await["message"], Value::Null);
    bystander.noticed_nothing().await;
}

#[tokio::test]
async fn what_a_running_bridge_cannot_change_is_named_and_left() {
    let lamp = plug().await;
    let setup = Setup::new().device("lamp", lamp.address());
    let bridge = setup.clone().start().await;
    bridge.available("lamp").await;
    let text = setup.toml(bridge.broker.address());
    let moved = text.replace("[mqtt]", "[mqtt]\nbase_topic = \"attic\"")
        + "\n[log]\nlevel = \"debug\"\n[homeassistant]\nchild_devices = true\n[state]\nfile = \"other.json\"\n";
    let answer = bridge.reload_text(&moved).await;
    let data = taken(&answer);
    assert_eq!(data["needs_restart"], json!(["mqtt", "homeassistant", "state"]));
    assert_eq!(data["changed"], json!(["log.level"]));
    let info = bridge
        .expect("bridge/info", |info| info["log_level"] == "debug")
        .await;
    assert_eq!(info["settings"]["mqtt"]["base_topic"], "tapo2mqtt");

    // A sensor on a topic that is free only after the restart.
    let sensor = moved + "[[sensor]]\nid = \"odd\"\ntopic = \"tapo2mqtt/lamp/set\"\n";
    let answer = bridge.reload_text(&sensor).await;
    assert_eq!(answer["error"]["code"], "invalid_settings", "{answer}");
    let answer = bridge.set("lamp", "1", json!({"state": "ON"})).await;
    assert_eq!(answer["status"], "ok", "{answer}");
}

#[tokio::test]
async fn a_command_in_flight_to_another_device_survives() {
    let (lamp, mats) = (plug().await, strip().await);
    let alone = Setup::new().device("lamp", lamp.address());
    let bridge = alone.clone().start().await;
    bridge.available("lamp").await;
    let bystander = Bystander::watch(&lamp);
    let asked = lamp.counters().requests_of("set_device_info");
    lamp.faults().set(Fault::Latency {
        latency: Duration::from_secs(1).into(),
    });
    bridge
        .publish(
            "lamp/set",
            json!({"state": "ON", "transaction": "slow"}).to_string(),
        )
        .await;
    lamp.wait_requests("set_device_info", asked + 1, PATIENCE)
        .await
        .unwrap();
    taken(&bridge.reload(&alone.device("mats", mats.address())).await);
    assert!(bridge.answers("lamp").is_empty(), "the reload came first");
    lamp.faults().clear_all();
    let answer = bridge.answer("lamp", "slow").await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert_eq!(bridge.answers("lamp").len(), 1);
    assert!(lamp.relay(1));
    bystander.noticed_nothing().await;
}

#[tokio::test]
async fn a_device_that_is_taken_out_while_it_is_asked_leaves_nothing() {
    let _fast = fast_clocks();
    let (lamp, heater) = (plug().await, plug().await);
    let alone = Setup::new().device("lamp", lamp.address());
    let both = alone.clone().device("heater", heater.address());
    let bridge = both.start().await;
    bridge.available("heater").await;
    let asked = heater.counters().requests_of("set_device_info");
    heater.faults().set(Fault::Hang {
        stage: Stage::AfterApplying,
        scope: Scope::method("set_device_info"),
    });
    let command = json!({"state": "TOGGLE", "transaction": "last"});
    bridge.publish("heater/set", command.to_string()).await;
    heater
        .wait_requests("set_device_info", asked + 1, PATIENCE)
        .await
        .unwrap();
    let waiting = json!({"state": "ON", "transaction": "waiting"});
    bridge.publish("heater/set", waiting.to_string()).await;
    bridge.barrier().await;
    taken(&bridge.reload(&alone).await);
    let answer = bridge.answer("heater", "last").await;
    assert_eq!(answer["status"], "error", "{answer}");
    let answer = bridge.answer("heater", "waiting").await;
    assert_eq!(answer["error"]["code"], "unknown_device", "{answer}");
    gone(&bridge, "heater").await;
    bridge.barrier().await;
    assert_eq!(left(&bridge, "heater").await, Vec::<String>::new());
}

/// A sensor, and a group that is on while it is cold.
fn rules(topic: &str, more: &str) -> String {
    format!(
        r#"
        [location]
        timezone = "UTC"
        [[sensor]]
        id = "outdoor"
        topic = "{topic}"
        unit = "°C"
        [[group]]
        id = "warm"
        name = "Warm"
        outlets = ["heater"]
        min_cycle = "1s"
        [[group.schedule]]
        id = "cold"
        all_day = true
        when = [{{ sensor = "outdoor", at_most = 3.0, when_unknown = "off" }}]
        {more}
        "#
    )
}

/// Both plugs at noon.
fn lamp_and_heater(lamp: &RunningDevice, heater: &RunningDevice, rules: &str) -> Setup {
    Setup::new()
        .device("lamp", lamp.address())
        .device("heater", heater.address())
        .clock(&noon())
        .rules(rules)
}

const BARE: &str = "[location]\ntimezone = \"UTC\"\n";

#[tokio::test]
async fn groups_schedules_and_sensors_come_and_go() {
    let _fast = fast_clocks();
    let (lamp, heater) = (plug().await, plug().await);
    let setup = |rules: &str| lamp_and_heater(&lamp, &heater, rules);
    let bridge = setup(BARE).start().await;
    for device in ["lamp", "heater"] {
        bridge.available(device).await;
    }
    let lamp_is = Bystander::watch(&lamp);
    // What the broker keeps there already counts.
    bridge.probe.publish_retained("weather/a", "1.5").await;
    let answer = bridge.reload(&setup(&rules("weather/a", ""))).await;
    assert_eq!(
        *taken(&answer),
        only("added", json!(["group.warm", "sensor.outdoor"]))
    );
    heater.wait_relay(1, true, PATIENCE).await.unwrap();
    bridge
        .expect("group/warm", |group| {
            group["state"] == "ON" && group["rule"] == "cold"
        })
        .await;
    // It was logged in to once more, by the client that holds its limit.
    let bystanders = [lamp_is, Bystander::watch(&heater)];
    bridge
        .probe
        .expect("homeassistant/device/tapo2mqtt-group-warm/config", |payload| {
            payload.contains("schedule_cold")
        })
        .await;
    bridge.expect("heater", |heater| heater["expected"] == "ON").await;

    // The sensor has another topic: its earlier value does not count any more.
    bridge.probe.publish_retained("weather/b", "9").await;
    let answer = bridge.reload(&setup(&rules("weather/b", ""))).await;
    assert_eq!(*taken(&answer), only("changed", json!(["sensor.outdoor"])));
    heater.wait_relay(1, false, PATIENCE).await.unwrap();
    bridge.probe.publish("weather/a", "-5").await;
    bridge.barrier().await;
    assert_eq!(
        bridge.retained("group/warm").await["expected"],
        "OFF",
        "the old topic is not subscribed"
    );
    bridge.probe.publish("weather/b", "-5").await;
    heater.wait_relay(1, true, PATIENCE).await.unwrap();

    bridge.probe.forget();
    let answer = bridge.reload(&setup(BARE)).await;
    assert_eq!(
        *taken(&answer),
        only("removed", json!(["group.warm", "sensor.outdoor"]))
    );
    gone(&bridge, "warm").await;
    gone(&bridge, "tapo2mqtt-group-warm").await;
    bridge
        .expect("heater", |heater| heater["expected"].is_null())
        .await;
    let answer = bridge.set("group/warm", "1", json!({"state": "ON"})).await;
    assert_eq!(answer["error"]["code"], "unknown_group", "{answer}");
    for bystander in &bystanders {
        bystander.noticed_nothing().await;
    }
}

#[tokio::test]
async fn overrides_and_changed_schedules_stay_on_top() {
    let _fast = fast_clocks();
    let (lamp, heater) = (plug().await, plug().await);
    let setup = |rules: &str| lamp_and_heater(&lamp, &heater, rules);
    let bridge = setup(&rules("weather/a", "")).start().await;
    for device in ["lamp", "heater"] {
        bridge.available(device).await;
    }
    let held = json!({"state": "ON", "override": "hold"});
    let answer = bridge.set("heater", "hold", held).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let lunch = json!({"id": "lunch", "start": "11:30", "for": "2h"});
    let request = json!({"group": "warm", "schedule": lunch, "transaction": "lunch"});
    bridge
        .publish("bridge/request/schedule/set", request.to_string())
        .await;
    bridge
        .expect("group/warm", |group| group["schedules"]["lunch"] == true)
        .await;

    // Another group appears before it, and another schedule in it.
    let more = "[[group.schedule]]\nid = \"evening\"\nstart = \"18:00\"\nend = \"20:00\"\n";
    let first = "[[group]]\nid = \"light\"\nname = \"Light\"\noutlets = [\"lamp\"]\n[[group]]\nid = \"warm\"";
    let changed = rules("weather/a", more).replace("[[group]]\n        id = \"warm\"", first);
    assert!(changed.contains("light"));
    let answer = bridge.reload(&setup(&changed)).await;
    assert_eq!(taken(&answer)["added"], json!(["group.light"]));
    assert_eq!(taken(&answer)["changed"], json!(["group.warm"]));
    let group = bridge
        .expect("group/warm", |group| group["schedules"]["evening"] == true)
        .await;
    assert_eq!(
        group["schedules"],
        json!({"cold": true, "evening": true, "lunch": true})
    );
    assert_eq!(group["source"], "override", "{group}");
    assert!(heater.relay(1));
    bridge
        .expect("group/light", |group| group["state"].is_string())
        .await;

    // An override ends with its group.
    taken(&bridge.reload(&setup(BARE)).await);
    gone(&bridge, "warm").await;
    bridge.probe.forget();
    taken(&bridge.reload(&setup(&rules("weather/a", ""))).await);
    let group = bridge
        .expect("group/warm", |group| group["state"].is_string())
        .await;
    assert_eq!(group["mode"], "auto", "{group}");
    assert_eq!(group["schedules"], json!({"cold": true}));
}

#[tokio::test]
async fn a_new_limit_counts_for_an_outlet_that_is_on() {
    let _fast = fast_clocks();
    let heater = plug().await;
    heater.press(1).unwrap();
    let setup = Setup::new().device("heater", heater.address());
    let bridge = setup.clone().start().await;
    bridge.expect("heater", |heater| heater["state"] == "ON").await;
    let limited = setup.rules(
        "[[group]]\nid = \"warm\"\nname = \"Warm\"\noutlets = [\"heater\"]\nsafety = { max_on = \"2s\" }\n",
    );
    taken(&bridge.reload(&limited).await);
    heater.wait_relay(1, false, PATIENCE).await.unwrap();
    bridge
        .expect("bridge/event", |event| event["type"] == "safety_trip")
        .await;
}

#[tokio::test]
async fn a_sensor_added_by_reload_is_subscribed_after_a_reconnect() {
    let heater = plug().await;
    let broker = Mosquitto::start().await;
    let cut = crate::cut::Cut::in_front_of(broker.address());
    let home = Home::new(&process::settings(cut.address(), &[("heater", heater.address())]));
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let process = home.start();
    let online = |payload: &str| payload.contains("online");
    probe.expect("tapo2mqtt/heater/availability", online).await;
    let text = process::settings(cut.address(), &[("heater", heater.address())]);
    fs::write(home.file(), text + &rules("weather/a", "")).unwrap();
    hang_up(&process);
    probe
        .expect("tapo2mqtt/bridge/groups", |groups| groups.contains("warm"))
        .await;
    probe.forget();
    cut.cut();
    // The broker sends its retained messages to the new connection.
    probe.publish_retained("weather/a", "1").await;
    heater.wait_relay(1, true, PATIENCE).await.unwrap();
    process.stop().await.in_order();
}

#[tokio::test]
async fn many_requests_are_read_one_after_another_and_all_answered() {
    const REQUESTS: usize = 100;
    let _fast = fast_clocks();
    let lamp = plug().await;
    let setup = Setup::new().device("lamp", lamp.address());
    let bridge = setup.start().await;
    bridge.available("lamp").await;
    let bystander = Bystander::watch(&lamp);
    for number in 0..REQUESTS {
        let request = json!({"transaction": number.to_string()}).to_string();
        bridge
            .probe
            .send("tapo2mqtt/bridge/request/reload", request)
            .await;
    }
    for number in 0..REQUESTS {
        let number = number.to_string();
        let answer = bridge
            .expect("bridge/response/reload", |answer| answer["transaction"] == number)
            .await;
        taken(&answer);
    }
    let readings = &bridge.readings;
    assert_eq!(readings.most_at_once.load(Ordering::SeqCst), 1);
    assert!(readings.all.load(Ordering::SeqCst) <= REQUESTS);
    bystander.noticed_nothing().await;
}

fn hang_up(process: &process::Process) {
    process.signal("HUP");
}

/// All at once: it may be read meanwhile, and an empty file has no devices.
fn rewrite(home: &Home, settings: &str) {
    let new = home.file().with_extension("new");
    fs::write(&new, settings).unwrap();
    fs::rename(new, home.file()).unwrap();
}

#[tokio::test]
async fn the_program_reads_its_file_again_at_sighup() {
    let (lamp, heater) = (plug().await, plug().await);
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let one = "[polling]\nstate = \"1s\"\n".to_owned()
        + &process::settings(broker.address(), &[("lamp", lamp.address())]);
    let both = format!("{one}{}", process::device("heater", heater.address()));
    let home = Home::new(&one);
    let process = home.start();
    let online = |payload: &str| payload.contains("online");
    probe.expect("tapo2mqtt/lamp/availability", online).await;
    let bystander = Bystander::watch(&lamp);

    rewrite(&home, &both);
    for _ in 0..20 {
        hang_up(&process);
    }
    probe.expect("tapo2mqtt/heater/availability", online).await;
    rewrite(&home, &one.replace("[polling]", "[polling]\nsurprise = 1"));
    hang_up(&process);
    process.wrote("polling.surprise").await;
    probe
        .expect("tapo2mqtt/bridge/last_error", |error| {
            error.contains("polling.surprise")
        })
        .await;
    rewrite(&home, &one);
    hang_up(&process);
    probe.expect("tapo2mqtt/heater/availability", str::is_empty).await;
    bystander.noticed_nothing().await;
    process.stop().await.in_order();
}
