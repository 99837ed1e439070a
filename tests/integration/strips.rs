//! What each outlet of a strip holds by itself: its countdown and its OFF rules.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tapo_simulator::{
    Cause, DeviceHandle, Fault, FaultKind, Profile, Protocol, RunningDevice, Scope, Simulator, Stage,
};
use tapo2mqtt::{
    domain::{
        device_command::{DeviceAction, RunLimit},
        report::Countdown,
    },
    system::clock::Clock,
};
use tokio::task::JoinSet;

use crate::{
    bridge::{self, Setup, fast_clocks, parsed},
    countdown::rule,
    device_owner::{OFF, Owner},
    mosquitto::Mosquitto,
    probe::{PATIENCE, Probe},
    process::{self, Home},
    timers::{ours, window},
};

const HOUR: Duration = Duration::from_hours(1);
/// Long enough to arm all outlets of the largest strip on a busy machine.
const LIMIT: Duration = Duration::from_mins(10);

fn refuse(device: &DeviceHandle, method: &str, code: i64, outlet: u8) {
    let scope = Scope::method(method).outlet(outlet);
    device.faults().set(Fault::Refuse { code, scope });
}

async fn strip(profile: Profile, protocol: Protocol) -> RunningDevice {
    Simulator::strip(profile)
        .protocol(protocol)
        .start()
        .await
        .unwrap()
}

async fn switch_on(probe: &Probe, path: &str) {
    let on = json!({ "state": "ON", "transaction": "on" }).to_string();
    probe.publish(&format!("tapo2mqtt/{path}/set"), on).await;
    let answer = probe
        .expect(&format!("tapo2mqtt/{path}/response"), |_| true)
        .await;
    assert_eq!(parsed(&answer)["status"], "ok", "{answer}");
}

/// Kills the bridge while all outlets are on under a limit.
async fn opens_without_the_bridge(profile: Profile, protocol: Protocol) {
    let device = strip(profile, protocol).await;
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let limited = format!(
        "[[group]]\nid = \"mats\"\noutlets = [\"strip\"]\nsafety = {{ max_on = \"{}s\" }}\n",
        LIMIT.as_secs()
    );
    let settings = process::settings(broker.address(), &[("strip", device.address())]);
    let home = Home::new(&(settings + &limited));
    let bridge = home.start();
    let online = |payload: &str| parsed(payload)["state"] == "online";
    probe.expect("tapo2mqtt/strip/availability", online).await;
    for outlet in 1..=profile.outlets() {
        let path = format!("strip/{outlet}");
        switch_on(&probe, &path).await;
        let armed = |payload: &str| parsed(payload)["failsafe"] == "armed";
        probe.expect(&format!("tapo2mqtt/{path}"), armed).await;
    }
    bridge.kill().await;
    // The one that was switched on first has a second left.
    let first = device.counters().relay_changes[0].at;
    let skipped = LIMIT.saturating_sub(first.elapsed() + Duration::from_secs(1));
    device.advance(skipped);
    for outlet in 1..=profile.outlets() {
        device.wait_relay(outlet, false, PATIENCE).await.unwrap();
    }
    let changes = device.counters().relay_changes;
    for outlet in 1..=profile.outlets() {
        let mut of = changes.iter().filter(|change| change.position == outlet);
        let (on, off) = (of.next().unwrap(), of.next().unwrap());
        assert_eq!(
            (on.cause, off.cause),
            (Cause::Request, Cause::Countdown),
            "{profile}"
        );
        let ran = off.at - on.at + skipped;
        // A device counts in whole seconds, and a busy machine is late.
        let in_time = ran + Duration::from_secs(1) >= LIMIT && ran <= LIMIT + Duration::from_secs(3);
        assert!(in_time, "{profile} {outlet}: on for {ran:?}");
        assert!(of.next().is_none());
    }
}

/// It would switch off another outlet.
#[tokio::test]
async fn a_countdown_that_went_to_another_outlet_is_cleared() {
    let _fast = fast_clocks();
    let device = strip(Profile::HS300, Protocol::Xor).await;
    device.faults().set(Fault::OutletIgnored);
    let limit = "[[group]]\nid = \"mats\"\noutlets = [\"strip/2\"]\nsafety = { max_on = \"1h\" }\n";
    let bridge = Setup::new().device("strip", device.address()).rules(limit);
    let bridge = bridge.start().await;
    bridge.available("strip").await;
    switch_on(&bridge.probe, "strip/2").await;
    bridge
        .expect("strip/2", |state| {
            state["state"] == "ON" && state["failsafe"] == "unsupported"
        })
        .await;
    let counters = device.counters();
    let [added, deleted] =
        ["add_rule", "delete_rule"].map(|name| counters.requests_of(&format!("count_down.{name}")));
    assert!(added > 0 && added == deleted, "{added} added, {deleted} deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_outlet_of_a_strip_opens_at_its_limit_after_a_kill() {
    let mut strips = JoinSet::new();
    for (profile, protocol) in [
        (Profile::EP40M, Protocol::Klap),
        (Profile::P300, Protocol::Klap),
        (Profile::P304M, Protocol::Klap),
        (Profile::P306, Protocol::Klap),
        (Profile::P316M, Protocol::Klap),
        (Profile::P210M, Protocol::Klap),
        (Profile::TP25, Protocol::Aes),
        (Profile::HS300, Protocol::Xor),
        (Profile::KP303, Protocol::KlapV1),
    ] {
        strips.spawn(opens_without_the_bridge(profile, protocol));
    }
    strips.join_all().await;
}

#[tokio::test]
async fn an_outlet_that_refuses_its_countdown_says_so() {
    let _fast = fast_clocks();
    join_all(
        [
            ("get_countdown_rules", -1002),
            ("get_countdown_rules", -1008),
            ("add_countdown_rule", -1002),
            ("add_countdown_rule", -1008),
            ("add_countdown_rule", -1901),
        ]
        .map(async |(method, code)| {
            let device = strip(Profile::P300, Protocol::Klap).await;
            refuse(&device, method, code, 2);
            let limited = "[[group]]\nid = \"mats\"\noutlets = [\"strip\"]\nsafety = { max_on = \"3s\" }\n";
            let setup = Setup::new().device("strip", device.address()).rules(limited);
            let mut bridge = setup.start().await;
            bridge.available("strip").await;
            for (path, failsafe) in [("strip/1", "armed"), ("strip/2", "unsupported")] {
                let answer = bridge.set(path, "on", json!({ "state": "ON" })).await;
                assert_eq!(answer["status"], "ok", "{answer}");
                bridge.expect(path, |outlet| outlet["failsafe"] == failsafe).await;
            }
            device.wait_relay(2, false, PATIENCE).await.unwrap();
            let changes = device.counters().relay_changes;
            let last = changes.iter().rfind(|change| change.position == 2);
            assert_eq!(last.unwrap().cause, Cause::Request, "{method} {code}");
            bridge.stop().await;
        }),
    )
    .await;
}

#[tokio::test]
async fn an_outlet_that_armed_before_does_not_go_on_without() {
    let _fast = fast_clocks();
    let device = strip(Profile::P300, Protocol::Klap).await;
    let mut owner = Owner::start_outlet(&device, 2).await;
    owner.switch_on_for(HOUR).await.unwrap();
    owner.ask(OFF, RunLimit::default()).await.unwrap();
    owner.until(|countdown| countdown == Countdown::Idle).await;
    refuse(&device, "add_countdown_rule", -1901, 2);
    owner.switch_on_for(HOUR).await.unwrap_err();
    assert_eq!(owner.countdown(), Countdown::Failed);
    assert!(!device.relay(2));
}

#[tokio::test]
async fn an_external_countdown_of_an_outlet_is_unchanged() {
    let device = strip(Profile::EP40M, Protocol::Klap).await;
    let app = json!({ "enable": true, "delay": 7200, "desired_states": { "on": false } });
    device.ask_app(2, "add_countdown_rule", &app).unwrap();
    let before = rule(&device, 2);
    let mut owner = Owner::start_outlet(&device, 2).await;
    owner
        .until(|countdown| matches!(countdown, Countdown::External { .. }))
        .await;
    owner.switch_on_for(HOUR).await.unwrap();
    owner.off_by(Some(owner.after(HOUR * 3))).await;
    owner.read().await;
    owner.ask(OFF, RunLimit::default()).await.unwrap();
    owner.read().await;
    let after = rule(&device, 2);
    assert_eq!(
        [&after["id"], &after["delay"], &after["enable"]],
        [&before["id"], &before["delay"], &json!(true)]
    );
}

/// The reading before is a moment old, so it is not repeated.
#[tokio::test]
async fn a_countdown_that_the_app_starts_meanwhile_is_not_changed() {
    let device = strip(Profile::P300, Protocol::Klap).await;
    let mut owner = Owner::start_outlet(&device, 2).await;
    owner
        .ask(DeviceAction::CancelCountdown, RunLimit::default())
        .await
        .unwrap();
    let app = json!({ "enable": true, "delay": 7200, "desired_states": { "on": false } });
    device.ask_app(2, "add_countdown_rule", &app).unwrap();
    owner.switch_on_for(HOUR).await.unwrap();
    assert!(device.relay(2));
    assert!(matches!(owner.countdown(), Countdown::External { .. }));
    assert_eq!(rule(&device, 2)["delay"], 7200);
    let counters = device.counters();
    let changes = ["edit_countdown_rule", "remove_countdown_rules"];
    assert_eq!(changes.map(|method| counters.requests_of(method)), [0, 0]);
}

#[tokio::test]
async fn a_command_for_a_whole_strip_arms_each_outlet() {
    let _fast = fast_clocks();
    let device = strip(Profile::P316M, Protocol::Klap).await;
    let mut owner = Owner::start(device.address()).await;
    owner.switch_on_for(HOUR).await.unwrap();
    assert!(owner.countdowns().iter().all(Countdown::is_ours));
    let is_armed = |outlet: u8| device.relay(outlet) && !device.runs_without_countdown(outlet);
    assert!((1..=6).all(is_armed));
    owner.off_by(Some(owner.after(HOUR * 2))).await;
    let is_renewed = |outlet| rule(&device, outlet)["delay"].as_u64() > Some(7000);
    while !(1..=6).all(is_renewed) {
        owner.read().await;
    }
    owner.ask(OFF, RunLimit::default()).await.unwrap();
    while !(1..=6).all(|outlet| rule(&device, outlet).is_null()) {
        owner.read().await;
    }
}

#[tokio::test]
async fn one_outlet_that_fails_leaves_the_strip_off() {
    let _fast = fast_clocks();
    let device = strip(Profile::P300, Protocol::Klap).await;
    let mut owner = Owner::start(device.address()).await;
    owner.switch_on_for(HOUR).await.unwrap();
    owner.ask(OFF, RunLimit::default()).await.unwrap();
    while !(1..=3).all(|outlet| rule(&device, outlet).is_null()) {
        owner.read().await;
    }
    refuse(&device, "add_countdown_rule", -1901, 3);
    owner.switch_on_for(HOUR).await.unwrap_err();
    assert!((1..=3).all(|outlet| !device.relay(outlet)));
}

#[tokio::test]
async fn countdowns_of_outlets_are_known_after_a_restart() {
    let device = strip(Profile::P304M, Protocol::Klap).await;
    let mut owner = Owner::start(device.address()).await;
    owner.switch_on_for(HOUR).await.unwrap();
    let mut changes = owner.sections.countdowns.changes();
    let kept = changes.wait_for(|kept| kept.len() == 4).await.unwrap().clone();
    let outlet = format!("{}/3", device.device_id());
    assert!(kept.contains_key(&outlet), "{kept:?}");
    let sections = owner.kill();
    let mut owner = Owner::start_outlet_with(&device, 3, sections).await;
    owner.until(|countdown| countdown.is_ours()).await;
    owner.off_by(Some(owner.after(HOUR * 2))).await;
    owner.until_left(7100..7202).await;
    let ids: Vec<Value> = (1..=4)
        .map(|outlet| rule(&device, outlet)["id"].clone())
        .collect();
    assert_eq!(ids, ["C1", "C1", "C1", "C1"], "changed in place");
    let counters = device.counters();
    assert_eq!(counters.requests_of("edit_countdown_rule"), 1);
    assert_eq!(counters.requests_of("remove_countdown_rules"), 0);
}

/// Some firmware takes no batches, and some answers none.
#[tokio::test]
async fn a_firmware_without_batches_is_asked_once() {
    let _fast = fast_clocks();
    let batch = || Scope::method("multipleRequest");
    let hang = |stage| Fault::Hang {
        stage,
        scope: batch().times(1),
    };
    for fault in [
        Fault::Refuse {
            code: -1003,
            scope: batch(),
        },
        hang(Stage::BeforeApplying),
        hang(Stage::AfterApplying),
    ] {
        let device = strip(Profile::P300, Protocol::Klap).await;
        let mut owner = Owner::start_outlet(&device, 2).await;
        device.faults().set(fault);
        owner.switch_on_for(HOUR).await.unwrap();
        assert!(device.relay(2) && !device.runs_without_countdown(2));
        device.faults().clear(FaultKind::Hang);
        owner.off_by(Some(owner.after(HOUR * 2))).await;
        owner.until_left(7100..7202).await;
        let counters = device.counters();
        // On a busy machine it may log in again in between, and forget; or wait too long for the answer, and send again.
        assert!(counters.requests_of("multipleRequest") <= 2);
        assert!((1..=2).contains(&counters.requests_of("edit_countdown_rule")));
    }
}

#[tokio::test]
async fn another_client_leaves_the_countdown_of_an_outlet() {
    let _fast = fast_clocks();
    let device = strip(Profile::P304M, Protocol::Klap).await;
    let limited = "[[group]]\nid = \"mats\"\noutlets = [\"strip/2\"]\nsafety = { max_on = \"1h\" }\n";
    let setup = Setup::new().device("strip", device.address()).rules(limited);
    let bridge = setup.clone().start().await;
    let answer = bridge.set("strip/2", "on", json!({ "state": "ON" })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    for (client, failsafe) in [("auto", "armed"), ("tapo", "external"), ("own", "armed")] {
        bridge.reload(&setup.clone().client(client)).await;
        bridge
            .expect("strip/2", |outlet| outlet["failsafe"] == failsafe)
            .await;
        assert!(device.relay(2) && !device.runs_without_countdown(2), "{client}");
    }
    // Renamed and in another group.
    let renamed = "[[device.outlet]]\nposition = 2\nid = \"left\"\n".to_owned()
        + &limited
            .replace("strip/2", "strip/left")
            .replace("\"mats\"", "\"others\"");
    let answer = bridge.reload(&setup.rules(&renamed)).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    bridge
        .expect("strip/left", |outlet| outlet["failsafe"] == "armed")
        .await;
    assert!(device.relay(2) && !device.runs_without_countdown(2));
    assert_eq!(device.counters().requests_of("remove_countdown_rules"), 0);
    let answer = bridge.set("strip/left", "off", json!({ "state": "OFF" })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    bridge
        .expect("strip/left", |outlet| outlet["failsafe"] == "idle")
        .await;
    assert!(rule(&device, 2).is_null());
}

/// The schedule rules that an outlet lists.
fn rules_of(device: &DeviceHandle, outlet: u8) -> Vec<Value> {
    let page = device.ask_app(outlet, "get_schedule_rules", &json!({ "start_index": 0 }));
    page.unwrap()["rule_list"].as_array().unwrap().clone()
}

/// Half a day from now, so that it does not fire.
fn rule_of_the_app(to: bool) -> Value {
    let later = Clock::system().now() + SignedDuration::from_hours(12);
    let hour: i64 = later.strftime("%H").to_string().parse().unwrap();
    json!({ "enable": true, "mode": "repeat", "week_day": 127, "s_type": "normal", "s_min": hour * 60 + 17,
        "time_offset": 0, "desired_states": { "on": to }, "e_type": "normal", "e_min": 0, "e_action": "none",
        "year": 2026, "month": 1, "day": 1 })
}

/// The clock comes from the meter of one of them, and from the device's own time of the other.
#[tokio::test]
async fn an_outlet_holds_its_off_rules_and_others_are_unchanged() {
    let _fast = fast_clocks();
    join_all([Profile::P304M, Profile::EP40M].map(async |profile| {
        let device = strip(profile, Protocol::Klap).await;
        device.press(2).unwrap();
        for (outlet, to) in [(1, true), (2, false)] {
            let rule = rule_of_the_app(to);
            device.ask_app(outlet, "add_schedule_rule", &rule).unwrap();
        }
        let foreign = [1, 2].map(|outlet| rules_of(&device, outlet));
        let rules = |holds| window(holds).replace("[\"heater\"]", "[\"strip/2\"]");
        let setup = Setup::new().device("strip", device.address());
        let bridge = setup.clone().rules(&rules(true)).start().await;
        let held = |outlet: &Value| ours(outlet) == 1 && outlet["device_schedules_enabled"] == 2;
        bridge.expect("strip/2", held).await;
        let written = rules_of(&device, 2);
        assert_eq!((written.len(), &written[0]), (2, &foreign[1][0]), "{profile}");
        assert_eq!(written[1]["desired_states"]["on"], false);
        assert_eq!(rules_of(&device, 1), foreign[0]);
        let other = bridge.expect("strip/1", |outlet| outlet["device_schedules_enabled"] == 1);
        assert_eq!(ours(&other.await), 0);

        bridge.probe.forget();
        let answer = bridge.reload(&setup.rules(&rules(false))).await;
        assert_eq!(answer["status"], "ok", "{answer}");
        bridge.expect("strip/2", |outlet| ours(outlet) == 0).await;
        assert_eq!([1, 2].map(|outlet| rules_of(&device, outlet)), foreign);
        assert!(device.relay(2));
    }))
    .await;
}

/// Under a limit, with an OFF rule, and served by our client.
async fn bound_strip() -> (RunningDevice, Setup, bridge::Running) {
    let device = strip(Profile::P304M, Protocol::Klap).await;
    device.press(2).unwrap();
    let rules = window(true).replace("[\"heater\"]", "[\"strip/2\"]") + "[group.safety]\nmax_on = \"6h\"\n";
    let setup = Setup::new().device("strip", device.address()).rules(&rules);
    let bridge = setup.clone().start().await;
    let bound = |outlet: &Value| ours(outlet) == 1 && outlet["failsafe"] == "armed";
    bridge.expect("strip/2", bound).await;
    (device, setup, bridge)
}

/// The countdown holds the limit on, and its end is shown.
#[tokio::test]
async fn another_client_takes_over_a_strip_without_our_rules() {
    let _fast = fast_clocks();
    let (device, setup, bridge) = bound_strip().await;
    let answer = bridge.reload(&setup.client("tapo")).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let released = |outlet: &Value| outlet["device_timer_to"] == "OFF" && ours(outlet) == 0;
    bridge.expect("strip/2", released).await;
    assert_eq!(rules_of(&device, 2), Vec::<Value>::new());
    assert!(device.relay(2) && !device.runs_without_countdown(2));
    device.advance(HOUR * 7);
    device.wait_relay(2, false, PATIENCE).await.unwrap();
    assert_eq!(
        device.counters().relay_changes.last().unwrap().cause,
        Cause::Countdown
    );
}

#[tokio::test]
async fn a_countdown_that_no_client_reaches_is_shown_until_its_end() {
    let _fast = fast_clocks();
    let (device, setup, mut bridge) = bound_strip().await;
    bridge.stop().await;
    let again = setup
        .client("tapo")
        .after(&bridge)
        .start_on(bridge.broker.clone())
        .await;
    let shown = |outlet: &Value| outlet["device_timer_to"] == "OFF" && outlet["failsafe"] == "external";
    again.expect("strip/2", shown).await;
    let refused = again.set("strip/2", "cancel", json!({ "countdown": 0 })).await;
    assert_eq!(refused["error"]["code"], "unsupported", "{refused}");
    assert!(device.relay(2));
    device.advance(HOUR * 7);
    device.wait_relay(2, false, PATIENCE).await.unwrap();
    again.expect("strip/2", |outlet| outlet["state"] == "OFF").await;
}

#[tokio::test]
async fn a_countdown_of_a_group_that_is_gone_is_shown() {
    let _fast = fast_clocks();
    let (device, setup, mut bridge) = bound_strip().await;
    bridge.stop().await;
    let again = setup
        .rules("")
        .after(&bridge)
        .start_on(bridge.broker.clone())
        .await;
    again
        .expect("strip/2", |outlet| outlet["device_timer_to"] == "OFF")
        .await;
    let answer = again.set("strip/2", "cancel", json!({ "countdown": 0 })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    again
        .expect("strip/2", |outlet| outlet["device_timer_until"].is_null())
        .await;
    assert_eq!(rule(&device, 2), Value::Null);
    assert!(device.relay(2));
}

#[tokio::test]
async fn after_a_kill_an_outlet_switches_off_by_its_rule() {
    let device = strip(Profile::P304M, Protocol::Klap).await;
    device.press(2).unwrap();
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let settings = process::settings(broker.address(), &[("strip", device.address())]);
    let rules = window(true).replace("[\"heater\"]", "[\"strip/2\"]");
    let home = Home::new(&(settings + "[polling]\nstate = \"1s\"\n" + &rules));
    let bridge = home.start();
    let held = |payload: &str| ours(&parsed(payload)) == 1;
    probe.expect("tapo2mqtt/strip/2", held).await;
    bridge.kill().await;
    device.advance(Duration::from_mins(118));
    assert!(device.relay(2), "not before its edge");
    device.advance(Duration::from_mins(5));
    device.wait_relay(2, false, PATIENCE).await.unwrap();
    assert_eq!(
        device.counters().relay_changes.last().unwrap().cause,
        Cause::Schedule
    );
}
