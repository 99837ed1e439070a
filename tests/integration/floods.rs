//! Floods of messages, and many devices that start at once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::json;
use tapo_simulator::{Fault, Profile, Scope, Simulator, Stage};

use crate::{
    bridge::{Setup, fast_clocks},
    chaos::recording_client::RecordingClient,
    mosquitto::Mosquitto,
    process::{Home, dead_address, online, settings},
};

/// More than all queues on the way hold together.
const FLOOD: usize = 3000;
const BIRTHS: usize = 50;
const COMING_UP: usize = 20;
/// Between two lists of all devices.
const OVERVIEW_PAUSE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn every_command_of_a_flood_is_answered_once() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let hanging = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = Setup::new().device("plug", plug.address());
    let bridge = setup.device("hanging", hanging.address()).start().await;
    bridge.available("plug").await;
    bridge.available("hanging").await;
    let (stage, scope) = (Stage::BeforeApplying, Scope::method("set_device_info"));
    hanging.faults().set(Fault::Hang { stage, scope });
    let client = RecordingClient::open(bridge.broker.address()).await;
    // Reads do not replace each other, so that queues fill.
    for number in 0..FLOOD {
        let (path, topic) = match number % 3 {
            0 => ("plug", "plug/set"),
            1 => ("hanging", "hanging/set"),
            _ => ("hanging", "hanging/get"),
        };
        let transaction = format!("{path}-{number}");
        let payload = match number % 3 {
            2 => json!({ "transaction": transaction }),
            _ => json!({ "state": "TOGGLE", "transaction": transaction, "ttl": 2 }),
        };
        client.send(topic, payload.to_string());
    }
    let all = |received: &crate::chaos::recording_client::Received| received.answers.len() >= FLOOD;
    let answered = client.until(4 * crate::probe::PATIENCE, all).await;
    bridge.publish("bridge/request/health", "").await;
    let health = bridge.expect("bridge/response/health", |_| true).await;
    assert!(
        answered,
        "{} answers, {:#}",
        client.received.borrow().answers.len(),
        health["data"]["mqtt"]
    );
    let mut codes = BTreeMap::new();
    for (transaction, answers) in &client.received.borrow().answers {
        assert_eq!(answers.len(), 1, "{transaction}: {answers:?}");
        let answer = crate::bridge::parsed(&answers[0]);
        let code = answer["error"]["code"].as_str().unwrap_or("ok").to_owned();
        *codes.entry(code).or_insert(0) += 1;
    }
    println!("{FLOOD} commands at once: {codes:?}");
    let answer = bridge.set("plug", "after", json!({ "state": "ON" })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert!(plug.relay(1));
}

#[tokio::test]
async fn home_assistant_may_be_born_many_times() {
    let _fast = fast_clocks();
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    // The meter and the rules are read last; what they report is announced.
    let complete =
        |state: &serde_json::Value| !state["voltage"].is_null() && state["device_schedules"].is_array();
    bridge.expect("plug", complete).await;
    bridge.barrier().await;
    bridge.probe.forget();
    for _ in 0..BIRTHS {
        bridge.probe.publish("homeassistant/status", "online").await;
    }
    bridge
        .expect("bridge/state", |state| state["state"] == "online")
        .await;
    bridge.barrier().await;
    let mut published = BTreeMap::new();
    for seen in bridge.probe.history() {
        let again = seen.topic.ends_with("/config") || seen.topic.ends_with("/availability");
        if again {
            *published.entry(seen.topic).or_insert(0) += 1;
        }
    }
    assert_eq!(published.len(), 3, "{published:?}");
    assert!(published.values().all(|times| *times == 1), "{published:?}");
}

#[tokio::test]
async fn device_counts_are_published_together_with_a_limited_rate() {
    let (mut plugs, mut setup) = (Vec::new(), Setup::new());
    for number in 0..COMING_UP {
        let plug = Simulator::plug(Profile::P110).start().await.unwrap();
        setup = setup.device(&format!("plug{number}"), plug.address());
        plugs.push(plug);
    }
    let since = Instant::now();
    let mut bridge = setup.start().await;
    for number in 0..COMING_UP {
        bridge.available(&format!("plug{number}")).await;
    }
    // The last one came up within the pause: what was held back then is published before the disconnect.
    bridge.stop().await;
    let longest = since.elapsed().as_millis() / OVERVIEW_PAUSE.as_millis();
    let lists = bridge.probe.payloads("tapo2mqtt/bridge/devices");
    // One more at the start, before the first device, and one more at the stop.
    assert!(
        lists.len() as u128 <= longest + 3,
        "{} lists in {longest} pauses",
        lists.len()
    );
    for topic in ["bridge/devices", "bridge/info"] {
        let published = crate::bridge::parsed(&bridge.probe.last(&format!("tapo2mqtt/{topic}")).unwrap());
        let online = match published.as_array() {
            Some(devices) => devices.iter().filter(|it| it["availability"] == "online").count() as u64,
            None => published["devices_online"].as_u64().unwrap(),
        };
        assert_eq!(online, COMING_UP as u64, "{topic}: {published}");
    }
}

#[tokio::test]
async fn how_much_of_a_flood_was_not_logged_is_logged_after_it() {
    const COMMANDS: u64 = 600;
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let home = Home::new(&settings(broker.address(), &[("plug", dead_address())]));
    let bridge = home.start();
    online(&probe).await;
    let client = RecordingClient::open(broker.address()).await;
    for _ in 0..COMMANDS {
        client.send("plug/set", "x".to_owned());
    }
    // No other command comes.
    bridge.wrote("lines about some of them were not written").await;
    let counts = || -> u64 {
        let output = bridge.output();
        let counts = output.split("suppressed=").skip(1).map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u64>().unwrap()
        });
        counts.sum::<u64>() + u64::try_from(output.matches("command failed").count()).unwrap()
    };
    let end = Instant::now() + crate::probe::PATIENCE;
    while counts() < COMMANDS {
        assert!(
            Instant::now() < end,
            "{} of {COMMANDS} lines\n{}",
            counts(),
            bridge.output()
        );
        probe.catch_up().await;
    }
    bridge.stop().await.in_order();
}
