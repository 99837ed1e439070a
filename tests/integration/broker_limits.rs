//! Messages that a broker does not take, and messages on the broker that the bridge does not take.

use std::time::Duration;

use serde_json::{Value, json};
use tapo_simulator::{Profile, RunningDevice, Simulator};
use tokio::time::timeout;

use crate::{
    bridge::{Running, Setup, fast_clocks},
    log::Log,
    mosquitto::{Builder, Mosquitto},
    probe::PATIENCE,
};

const STRIP_DISCOVERY: &str = "homeassistant/device/tapo2mqtt_mats/config";
const PLUG_DISCOVERY: &str = "homeassistant/device/tapo2mqtt_plug/config";
/// Less than the discovery message of a strip, and more than that of a plug.
const LIMIT: &str = "16000";

const RETRY: Duration = Duration::from_millis(50);

struct Devices {
    plug: RunningDevice,
    mats: RunningDevice,
}

impl Devices {
    async fn start() -> Self {
        Self {
            plug: Simulator::plug(Profile::P110).start().await.unwrap(),
            mats: Simulator::strip(Profile::P304M).start().await.unwrap(),
        }
    }

    fn setup(&self) -> Setup {
        Setup::new()
            .device("plug", self.plug.address())
            .device("mats", self.mats.address())
    }
}

/// Waits for an issue in `bridge/health` with this text.
async fn issue(bridge: &Running, text: &str) -> String {
    loop {
        bridge.probe.forget();
        bridge.publish("bridge/request/health", "").await;
        let health = bridge.expect("bridge/health", |_| true).await;
        let issues = health["issues"].as_array().unwrap().iter().map(Value::to_string);
        if let Some(found) = issues.into_iter().find(|issue| issue.contains(text)) {
            return found;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The lines from `warn` up with this text.
fn warnings(log: &Log, text: &str) -> Vec<String> {
    let lines = log.lines().into_iter().filter(|line| !line.contains(" INFO "));
    lines.filter(|line| line.contains(text)).collect()
}

#[tokio::test]
async fn a_message_that_ends_the_connection_twice_is_left_out() {
    let log = Log::capture();
    let broker = Mosquitto::builder().option(&format!("max_packet_size {LIMIT}"));
    let devices = Devices::start().await;
    let bridge = devices.setup().start_on(broker.start().await).await;
    let found = issue(&bridge, STRIP_DISCOVERY).await;
    assert!(found.contains("bytes) twice"), "{found}");
    let said = warnings(&log, "it is left out");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains(STRIP_DISCOVERY) && said[0].contains("bytes="),
        "{said:?}"
    );
    assert_eq!(warnings(&log, "client id"), Vec::<String>::new());

    for (path, device) in [("plug", &devices.plug), ("mats/1", &devices.mats)] {
        let wanted = if device.relay(1) { "OFF" } else { "ON" };
        let answer = bridge.set(path, path, json!({ "state": wanted })).await;
        assert_eq!(answer["state"], wanted, "{path}");
    }
    assert!(bridge.broker.retained(PLUG_DISCOVERY).await.is_some());
    // At most what was announced before the strip was reached.
    let held = bridge.broker.retained(STRIP_DISCOVERY).await.unwrap_or_default();
    assert!(!held.contains("outlet"), "{held}");
}

/// Starts the bridge on a broker that drops a message without a word, and waits until it says so.
async fn notices(broker: Builder, missing: &str) {
    let log = Log::capture();
    let devices = Devices::start().await;
    let bridge = devices.setup().start_on(broker.start().await).await;
    bridge.available("mats").await;
    let noticed = async {
        loop {
            match warnings(&log, "did not deliver them").first() {
                Some(line) => break line.clone(),
                None => tokio::time::sleep(RETRY).await,
            }
        }
    };
    let noticed = timeout(PATIENCE, noticed).await;
    let line = noticed.unwrap_or_else(|_| panic!("nothing about {missing}: {:?}", log.lines()));
    assert!(line.contains(missing), "{line}");
}

/// With the topics of the bridge, and these lines.
fn access(lines: &str) -> Builder {
    let lines = format!("topic readwrite tapo2mqtt/#\ntopic readwrite probe/#\n{lines}\n");
    Mosquitto::builder().acl(&lines)
}

#[tokio::test]
async fn a_message_that_is_too_large_for_the_broker_is_noticed() {
    let _fast = fast_clocks();
    let broker = Mosquitto::builder().option(&format!("message_size_limit {LIMIT}"));
    notices(broker, STRIP_DISCOVERY).await;
}

#[tokio::test]
async fn discovery_that_the_broker_drops_is_noticed() {
    let _fast = fast_clocks();
    notices(access("topic read homeassistant/#"), PLUG_DISCOVERY).await;
}

#[tokio::test]
async fn a_topic_that_the_broker_drops_is_noticed() {
    let _fast = fast_clocks();
    let broker = access("topic readwrite homeassistant/#\ntopic deny tapo2mqtt/bridge/health");
    notices(broker, "tapo2mqtt/bridge/health").await;
}

#[tokio::test]
async fn a_giant_message_on_an_own_topic_is_replaced() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    for topic in ["tapo2mqtt/bridge/devices", PLUG_DISCOVERY] {
        let log = Log::capture();
        let broker = Mosquitto::start().await;
        let probe = broker.probe().await;
        probe.publish_retained(topic, vec![b'x'; 2 << 20]).await;
        let bridge = Setup::new().device("plug", plug.address()).start_on(broker).await;
        bridge.available("plug").await;
        bridge
            .probe
            .expect(topic, |payload| payload.contains("plug"))
            .await;
        let said = warnings(&log, "not subscribed to until the next start");
        assert_eq!(said.len(), 1, "{topic}: {:?}", log.lines());
        let held = bridge.broker.retained(topic).await.unwrap_or_default();
        assert!(held.len() < 1 << 20, "{topic}");
    }
}

#[tokio::test]
async fn junk_in_the_list_of_an_earlier_run_costs_one_line() {
    const JUNK: usize = 3000;
    let log = Log::capture();
    let broker = Mosquitto::start().await;
    let junk: Vec<_> = (0..JUNK)
        .map(|number| json!({ "id": format!("junk-{number}"), "outlets": [] }))
        .collect();
    let probe = broker.probe().await;
    let list = json!(junk).to_string();
    probe.publish_retained("tapo2mqtt/bridge/devices", list).await;
    let bridge = Setup::new().start_on(broker).await;
    bridge.expect("bridge/devices", |list| list == &json!([])).await;
    let lines = log.lines().into_iter().filter(|line| line.contains("junk-1"));
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(&format!("count={JUNK}")), "{lines:?}");
}
