//! What an outlet may not outlast: limits and timed ONs, through `kill -9` and restarts.

use std::{fs, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tapo_simulator::{Cause, DeviceHandle, Fault, Profile, RunningDevice, Scope, Simulator, Stage};
use tapo2mqtt::{app::bridge::ShutdownReason, system::clock::Clock};
use tokio::time::{sleep, timeout};

use crate::{
    bridge::{Setup, fast_clocks, parsed},
    countdown::app,
    mosquitto::Mosquitto,
    probe::{PATIENCE, Probe},
    process::{self, Home, Process, STATE_FILE},
};

const MINUTE: Duration = Duration::from_mins(1);
const ON: &str = r#"{"state":"ON","transaction":"on"}"#;
/// No schedules: a group that is switched by hand, and limited all the same.
const LIMITED: &str = r#"
    [[group]]
    id = "heater"
    outlets = ["heater"]
    safety = { max_on = "1h", cooldown = "30m" }
"#;

async fn plug() -> RunningDevice {
    Simulator::plug(Profile::P110).start().await.unwrap()
}

/// The seconds that the plug still counts.
async fn counts(device: &DeviceHandle) -> u64 {
    let timer = app(device).await.get_timer().await.unwrap();
    timer.expect("a countdown").remaining_s.into()
}

fn is_about(seconds: u64, expected: u64) {
    assert!(seconds.abs_diff(expected) <= 5, "{seconds} s, not {expected} s");
}

/// The seconds until the next change of a state.
fn remaining(state: &Value) -> u64 {
    let change: Timestamp = state["next_change"].as_str().unwrap().parse().unwrap();
    let remaining = change.duration_since(Clock::system().now());
    remaining.as_secs().try_into().unwrap()
}

fn last_cause(device: &DeviceHandle) -> Cause {
    device.counters().relay_changes.last().unwrap().cause
}

/// What a state file has about each relay.
fn relays(saved: &Value) -> impl Iterator<Item = &Value> {
    let relays = saved["scheduler"]["relays"].as_object();
    relays.into_iter().flat_map(serde_json::Map::values)
}

/// Makes a state file look as if the machine had been restarted and that time had gone by.
fn age(saved: &mut Value, by: SignedDuration) {
    let clock = &mut saved["clock"];
    let wall: Timestamp = clock["wall"].as_str().unwrap().parse().unwrap();
    clock["wall"] = json!(wall - by);
    clock["boot"] = json!("another");
}

/// The program as people run it, and its limited plug.
struct Heater {
    device: RunningDevice,
    probe: Probe,
    home: Home,
    _broker: Mosquitto,
}

impl Heater {
    async fn new() -> Self {
        Self::with_client("auto").await
    }

    async fn with_client(client: &str) -> Self {
        let broker = Mosquitto::start().await;
        let probe = broker.probe().await;
        probe.subscribe("tapo2mqtt/#").await;
        let device = plug().await;
        let settings = process::settings(broker.address(), &[("heater", device.address())]);
        let client = format!("client = \"{client}\"\n");
        Self {
            home: Home::new(&(settings + &client + LIMITED)),
            device,
            probe,
            _broker: broker,
        }
    }

    /// Starts the bridge and waits until it knows the plug.
    async fn start(&self) -> Process {
        self.probe.catch_up().await;
        self.probe.forget();
        let bridge = self.home.start();
        let online = |payload: &str| parsed(payload)["state"] == "online";
        self.probe.expect("tapo2mqtt/heater/availability", online).await;
        bridge
    }

    /// Switches it on; the plug counts, and the bridge has it in writing.
    async fn switch_on(&self) {
        self.probe.publish("tapo2mqtt/heater/set", ON).await;
        let answer = self.answer().await;
        assert_eq!(answer["status"], "ok", "{answer}");
        self.state(|state| state["failsafe"] == "armed").await;
        let written = async {
            let is_complete = |saved: &Value| {
                let countdowns = saved["countdowns"].as_object();
                countdowns.is_some_and(|countdowns| !countdowns.is_empty())
                    && relays(saved).any(|relay| relay["run"]["on_since"].is_string())
            };
            while !is_complete(&self.saved()) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, written).await.unwrap();
    }

    async fn answer(&self) -> Value {
        parsed(&self.probe.expect("tapo2mqtt/heater/response", |_| true).await)
    }

    async fn state(&self, predicate: impl Fn(&Value) -> bool) -> Value {
        let fulfils = |payload: &str| predicate(&parsed(payload));
        parsed(&self.probe.expect("tapo2mqtt/heater", fulfils).await)
    }

    fn saved(&self) -> Value {
        let file = self.home.file().with_file_name(STATE_FILE);
        parsed(&fs::read_to_string(file).unwrap_or_default())
    }

    /// Time passes without the bridge: on the plug, and for what the bridge wrote down.
    fn pass(&self, time: Duration) {
        self.device.advance(time);
        let mut saved = self.saved();
        age(&mut saved, time.try_into().unwrap());
        let file = self.home.file().with_file_name(STATE_FILE);
        fs::write(file, saved.to_string()).unwrap();
    }
}

#[tokio::test]
async fn after_a_kill_the_plug_switches_itself_off_and_cools_down() {
    let heater = Heater::new().await;
    let bridge = heater.start().await;
    heater.switch_on().await;
    bridge.kill().await;

    heater.pass(MINUTE * 59);
    assert!(heater.device.relay(1));
    heater.pass(MINUTE + Duration::from_secs(1));
    heater.device.wait_relay(1, false, PATIENCE).await.unwrap();
    assert_eq!(last_cause(&heater.device), Cause::Countdown);

    let _bridge = heater.start().await;
    heater.state(|state| state["cooldown_until"].is_string()).await;
    heater.probe.publish("tapo2mqtt/heater/set", ON).await;
    let answer = heater.answer().await;
    assert_eq!(answer["error"]["code"], "refused_by_safety", "{answer}");
    assert!(!heater.device.relay(1));
}

#[tokio::test]
async fn a_bridge_killed_before_the_limit_knows_what_remains() {
    let heater = Heater::new().await;
    let bridge = heater.start().await;
    heater.switch_on().await;
    bridge.kill().await;

    heater.pass(MINUTE * 20);
    let bridge = heater.start().await;
    let state = heater
        .state(|state| state["failsafe"] == "armed" && state["limit_at"].is_string())
        .await;
    is_about(remaining(&state), 40 * 60);
    assert_eq!(state["next_state"], "OFF");
    is_about(counts(&heater.device).await, 40 * 60);
    let sets = heater.device.counters().requests_of("add_countdown_rule");
    assert_eq!(sets, 1, "the countdown that runs is known to be ours");

    bridge.kill().await;
    heater.pass(MINUTE * 39);
    assert!(heater.device.relay(1));
    heater.pass(MINUTE + Duration::from_secs(5));
    heater.device.wait_relay(1, false, PATIENCE).await.unwrap();
    assert_eq!(last_cause(&heater.device), Cause::Countdown);
}

#[tokio::test]
async fn a_bridge_killed_while_it_renews_the_countdown_arms_it() {
    // The crate takes a countdown off before it adds the new one.
    for (client, renews, leaves_a_gap) in [
        ("auto", "edit_countdown_rule", false),
        ("tapo", "add_countdown_rule", true),
    ] {
        let heater = Heater::with_client(client).await;
        let bridge = heater.start().await;
        heater.switch_on().await;
        let before = heater.device.counters().requests_of(renews);
        let (stage, scope) = (Stage::BeforeApplying, Scope::method(renews));
        heater.device.faults().set(Fault::Hang { stage, scope });
        let shorter = json!({"state": "ON", "on_time": 600}).to_string();
        heater.probe.publish("tapo2mqtt/heater/set", shorter).await;
        let waited = heater.device.wait_requests(renews, before + 1, PATIENCE);
        waited.await.unwrap();
        bridge.kill().await;
        assert_eq!(heater.device.runs_without_countdown(1), leaves_a_gap, "{client}");

        heater.device.faults().clear_all();
        let _bridge = heater.start().await;
        heater.state(|state| state["failsafe"] == "armed").await;
        assert!(counts(&heater.device).await <= 3602);
    }
}

#[tokio::test]
async fn a_bridge_without_its_state_file_renews_the_countdown() {
    let heater = Heater::new().await;
    let bridge = heater.start().await;
    heater.switch_on().await;
    bridge.kill().await;

    fs::remove_file(heater.home.file().with_file_name(STATE_FILE)).unwrap();
    let longer = fs::read_to_string(heater.home.file()).unwrap();
    fs::write(heater.home.file(), longer.replace("1h", "2h")).unwrap();
    let _bridge = heater.start().await;
    let renewed = heater.device.wait_requests("edit_countdown_rule", 1, PATIENCE);
    renewed.await.unwrap();
    heater.state(|state| state["failsafe"] == "armed").await;
    is_about(counts(&heater.device).await, 2 * 3600);
}

#[tokio::test]
async fn a_broken_state_file_is_reported_and_limits_still_apply() {
    let heater = Heater::new().await;
    let bridge = heater.start().await;
    heater.switch_on().await;
    bridge.kill().await;

    heater.device.advance(MINUTE * 20);
    let file = heater.home.file().with_file_name(STATE_FILE);
    let text = fs::read(&file).unwrap();
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    let _bridge = heater.start().await;
    let is_reloaded = |payload: &str| {
        let checks = parsed(payload)["start_checks"].to_string();
        checks.contains("could not be read") && checks.contains("cooldowns")
    };
    heater.probe.expect("tapo2mqtt/bridge/info", is_reloaded).await;
    let kept = file.with_file_name(format!("{STATE_FILE}.broken"));
    assert_eq!(fs::read(kept).unwrap(), text[..text.len() / 2]);
    let state = heater
        .state(|state| state["state"] == "ON" && state["next_change"].is_string())
        .await;
    is_about(remaining(&state), 40 * 60);
}

#[tokio::test]
async fn a_timed_on_runs_on_the_plug_and_survives_a_restart() {
    let _fast = fast_clocks();
    let device = plug().await;
    let mut bridge = Setup::new().device("lamp", device.address()).start().await;
    bridge.available("lamp").await;
    let answer = bridge
        .set("lamp", "on", json!({"state": "ON", "on_time": 600}))
        .await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let is_armed = |lamp: &Value| lamp["failsafe"] == "armed" && lamp["timer_until"].is_string();
    let before = bridge.expect("lamp", is_armed).await;
    assert!(device.relay(1));
    is_about(counts(&device).await, 600);
    let instant = before["timer_until"].as_str().unwrap();
    assert_eq!(instant.len(), "2026-11-21T12:00:00Z".len(), "{instant}");

    assert_eq!(bridge.stop().await, ShutdownReason::Stopped);
    let setup = Setup::new().device("lamp", device.address()).after(&bridge);
    let mut bridge = setup.start_on(bridge.broker.clone()).await;
    let after = bridge.expect("lamp", is_armed).await;
    assert_eq!(after["timer_until"], before["timer_until"]);
    is_about(counts(&device).await, 600);

    assert_eq!(bridge.stop().await, ShutdownReason::Stopped);
    device.advance(MINUTE * 10);
    device.wait_relay(1, false, PATIENCE).await.unwrap();
    assert_eq!(last_cause(&device), Cause::Countdown);
}

#[tokio::test]
async fn a_timed_on_of_a_strip_survives_a_restart_of_the_bridge() {
    let _fast = fast_clocks();
    let clock = Clock::steered("2026-11-21T12:00:00Z".parse().unwrap());
    let mats = Simulator::strip(Profile::P304M).start().await.unwrap();
    if mats.relay(2) {
        mats.press(2).unwrap();
    }
    let setup = Setup::new().device("mats", mats.address()).clock(&clock);
    // Only the bridge counts.
    let setup = setup.client("tapo");
    let mut bridge = setup.start().await;
    bridge.available("mats").await;
    let answer = bridge
        .set("mats/2", "on", json!({"state": "ON", "on_time": 600}))
        .await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let state = bridge
        .expect("mats/2", |mat| mat["timer_until"].is_string())
        .await;
    assert_eq!(state["failsafe"], "unsupported");
    assert_eq!(bridge.stop().await, ShutdownReason::Stopped);

    let off_at: Timestamp = state["timer_until"].as_str().unwrap().parse().unwrap();
    let nearly = off_at.duration_since(clock.now()) - SignedDuration::from_secs(4);
    clock.suspend(nearly);
    let setup = Setup::new().device("mats", mats.address()).clock(&clock);
    let setup = setup.client("tapo");
    let bridge = setup.after(&bridge).start_on(bridge.broker.clone()).await;
    bridge.available("mats").await;
    mats.wait_relay(2, false, PATIENCE).await.unwrap();
    // It is shown to the second, rounded up.
    let early = off_at.duration_since(clock.now());
    assert!(early <= SignedDuration::from_secs(1), "{early} before its time");
    bridge.expect("mats/2", |mat| mat["state"] == "OFF").await;
}

/// Over its limit, an outlet is sent OFF until a reading says OFF, also while its device answers each reading with an
/// error.
async fn off_without_a_reading(device: &RunningDevice, outlet: &str) {
    let clock = Clock::steered("2026-11-21T12:00:00Z".parse().unwrap());
    let rules = format!(
        "[[group]]\nid = \"heat\"\noutlets = [\"{outlet}\"]\nsafety = {{ max_on = \"1h\", cooldown = \"30m\" }}"
    );
    let setup = Setup::new().device("heater", device.address()).clock(&clock);
    let bridge = setup.rules(&rules).start().await;
    bridge.available("heater").await;
    let answer = bridge.set(outlet, "on", json!({"state": "ON"})).await;
    assert_eq!(answer["status"], "ok", "{answer}");

    let reads = [
        "component_nego",
        "get_device_info",
        "get_child_device_list",
        "get_countdown_rules",
    ];
    let scope = Scope {
        methods: reads.map(str::to_owned).to_vec(),
        ..Scope::default()
    };
    device.faults().set(Fault::Refuse { code: -1001, scope });
    clock.suspend(SignedDuration::from_hours(1));
    device.wait_relay(1, false, PATIENCE).await.unwrap();
    // That it is off was not read yet.
    device.press(1).unwrap();
    device.wait_relay(1, false, Duration::from_secs(6)).await.unwrap();
    device.press(1).unwrap();
    device.wait_relay(1, false, Duration::from_secs(6)).await.unwrap();

    device.faults().clear_all();
    bridge.expect(outlet, |state| state["state"] == "OFF").await;
}

#[tokio::test]
async fn a_plug_that_cannot_be_read_goes_off_at_its_limit() {
    let _fast = fast_clocks();
    off_without_a_reading(&plug().await, "heater").await;
}

#[tokio::test]
async fn a_strip_that_cannot_be_read_goes_off_at_its_limit() {
    let _fast = fast_clocks();
    let strip = Simulator::strip(Profile::P304M).start().await.unwrap();
    if strip.relay(1) {
        strip.press(1).unwrap();
    }
    off_without_a_reading(&strip, "heater/1").await;
}
