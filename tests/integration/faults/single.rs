//! One device with one fault: its effect, and what is published about it.

use std::time::Duration;

use serde_json::{Value, json};
use tapo_simulator::{Fault, Profile, RunningDevice, Scope, Simulator};
use tokio::time::Instant;

use super::{code, log_in_elsewhere, ms, word};
use crate::{
    bridge::{Running, Setup, fast_clocks, fast_forward},
    log::Log,
    probe::PATIENCE,
};

const PLUGS: usize = 4;
/// Fewer than the login budget of a device.
const THEFTS: usize = 4;

async fn plugs_with_one_session() -> (Vec<RunningDevice>, Running) {
    let (mut setup, mut plugs) = (Setup::new(), Vec::new());
    for number in 0..PLUGS {
        let plug = Simulator::plug(Profile::P110)
            .single_session()
            .start()
            .await
            .unwrap();
        setup = setup.device(&format!("plug-{number}"), plug.address());
        plugs.push(plug);
    }
    let bridge = setup.start().await;
    for number in 0..PLUGS {
        bridge.available(&format!("plug-{number}")).await;
    }
    (plugs, bridge)
}

/// Toggles a plug; how long until the answer.
async fn toggle(bridge: &Running, id: &str, plug: &RunningDevice, transaction: &str) -> Duration {
    let wanted = !plug.relay(1);
    let sent = Instant::now();
    let answer = bridge
        .set(id, transaction, json!({ "state": word(wanted) }))
        .await;
    let took = sent.elapsed();
    assert_eq!((code(&answer), plug.relay(1)), ("ok", wanted), "{answer}");
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn a_stolen_session_costs_the_next_command_a_login() {
    let (plugs, bridge) = plugs_with_one_session().await;
    let (mut alone, mut stolen) = (Vec::new(), Vec::new());
    for (number, plug) in plugs.iter().enumerate() {
        let id = format!("plug-{number}");
        for round in 0..THEFTS {
            alone.push(toggle(&bridge, &id, plug, &format!("alone-{round}")).await);
            log_in_elsewhere(plug).await;
            stolen.push(toggle(&bridge, &id, plug, &format!("stolen-{round}")).await);
        }
        assert_eq!(plug.counters().sequence_violations, 0);
    }
    let (alone, stolen) = (median(alone), median(stolen));
    println!("p50 of a command: {alone:.1?}, right after a theft: {stolen:.1?}");
    println!("a stolen session adds {:.1?}", stolen.saturating_sub(alone));
    // About 5 ms on an idle machine.
    assert!(stolen < alone + Duration::from_millis(250));
}

/// The health of a device.
async fn health(bridge: &Running, id: &str) -> Value {
    bridge.probe.forget();
    bridge.publish("bridge/request/health", "").await;
    let answer = bridge.expect("bridge/response/health", |_| true).await;
    answer["data"]["devices"][id].clone()
}

#[tokio::test]
async fn a_war_over_the_session_is_not_fought() {
    const WAR: Duration = Duration::from_secs(3);
    /// Fewer are no war; a busy machine takes longer for them.
    const THEFTS_MIN: u32 = 21;
    let _fast = fast_clocks();
    let plug = Simulator::plug(Profile::P110)
        .single_session()
        .start()
        .await
        .unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    let before = health(&bridge, "plug").await["logins"].as_f64().unwrap();
    let (start, mut thefts, mut commands) = (Instant::now(), 0, 0);
    while start.elapsed() < WAR || thefts < THEFTS_MIN {
        log_in_elsewhere(&plug).await;
        thefts += 1;
        if thefts % 5 == 0 {
            let payload = json!({ "state": "TOGGLE", "ttl": 0.5, "transaction": format!("t{thefts}") });
            bridge.publish("plug/set", payload.to_string()).await;
            commands += 1;
        }
    }
    let lasted = start.elapsed().as_secs_f64();
    let logins = health(&bridge, "plug").await["logins"].as_f64().unwrap() - before;
    println!("{thefts} thefts and {commands} commands in {lasted:.1} s: {logins} logins of ours");
    // Six in a row and one every ten seconds; a login may need a new handler, which counts twice.
    let budget = 6.0 + lasted / 10.0 + 1.0;
    assert!(logins <= 2.0 * budget, "{logins} logins, {budget} granted");

    // Peace: the device is well again, and was never away.
    let availability = bridge.retained("plug/availability").await;
    assert_eq!(availability["state"], "online");
    let answer = bridge
        .set("plug", "peace", json!({ "state": "TOGGLE", "ttl": 20 }))
        .await;
    assert_eq!(code(&answer), "ok", "{answer}");
}

#[tokio::test]
async fn the_right_password_heals_at_the_next_start() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = || Setup::new().device("plug", plug.address());
    let mut wrong = setup().password("not the password").start().await;
    wrong.expect("plug", |state| state["status"] == "forbidden").await;
    let answer = wrong.set("plug", "t", json!({ "state": "ON" })).await;
    assert_eq!(code(&answer), "wrong_credentials");
    wrong.stop().await;
    let started = Instant::now();
    let right = setup().start_on(wrong.broker.clone()).await;
    right.available("plug").await;
    println!(
        "online {} after the start with the right password",
        ms(started.elapsed())
    );
    let answer = right.set("plug", "t", json!({ "state": "TOGGLE" })).await;
    assert_eq!(code(&answer), "ok");
}

#[tokio::test]
async fn ten_equal_failures_are_one_line_and_one_event() {
    let _fast = fast_clocks();
    let log = Log::capture();
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    let scope = Scope::all();
    plug.faults().set(Fault::HttpStatus { status: 503, scope });
    bridge
        .expect("plug/availability", |state| state["state"] == "offline")
        .await;
    plug.reset_counters();
    for failed in 1..=10 {
        // A command brings the next attempt forward.
        bridge.publish("plug/get", "").await;
        bridge.barrier().await;
        fast_forward(Duration::from_secs(1)).await;
        plug.wait_requests("handshake1", failed, PATIENCE).await.unwrap();
    }
    bridge.barrier().await;
    let lines = log.lines();
    let offline: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("WARN") && !line.contains("command failed"))
        .collect();
    assert_eq!(offline.len(), 1, "{lines:#?}");
    assert!(
        offline[0].contains("device offline") && offline[0].contains("503"),
        "{offline:?}"
    );
    let mut events = bridge.probe.payloads("tapo2mqtt/bridge/event");
    events.retain(|event| event.contains("device_offline"));
    assert_eq!(events.len(), 1, "{events:?}");
    let failures = health(&bridge, "plug").await["failures"]["overloaded"].as_u64();
    assert!(failures >= Some(10), "{failures:?}");
}

/// A switch that the device carries out after it was given up is ours, and not the button's.
#[tokio::test]
async fn a_switch_carried_out_late_is_no_external_change() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new()
        .device("plug", plug.address())
        .request_timeout("500ms")
        .start()
        .await;
    bridge.available("plug").await;
    let (stage, scope) = (
        tapo_simulator::Stage::AfterApplying,
        Scope::method("set_device_info"),
    );
    plug.faults().set(Fault::Hang { stage, scope });
    let wanted = !plug.relay(1);
    let payload = json!({ "state": word(wanted), "ttl": 0.3 });
    let answer = bridge.set("plug", "t", payload).await;
    assert_eq!(code(&answer), "no_answer", "{answer}");
    bridge
        .expect("plug", |state| state["state"] == word(wanted))
        .await;
    bridge.barrier().await;
    let external = |event: &String| event.contains("external_change");
    let events = bridge.probe.payloads("tapo2mqtt/bridge/event");
    assert!(!events.iter().any(external), "{events:?}");

    plug.faults().clear_all();
    plug.press(1).unwrap();
    bridge
        .expect("bridge/event", |event| event["type"] == "external_change")
        .await;
}
