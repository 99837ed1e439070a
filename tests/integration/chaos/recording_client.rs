//! A client that loses nothing it can help: it survives any break of the broker, and remembers every answer by
//! its transaction.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, PublishOptions, QoS};
use serde_json::Value;
use tapo2mqtt::system::tasks::Tasks;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::bridge::parsed;

const RETRY: Duration = Duration::from_millis(20);
const PACKET_MAX: usize = 4 << 20;
const FILTER: &str = "tapo2mqtt/#";

/// What came in so far.
#[derive(Default)]
pub struct Received {
    pub connected: bool,
    /// The answers to each transaction, as they came.
    pub answers: HashMap<String, Vec<String>>,
    /// Answers without a transaction.
    pub anonymous: u64,
    /// The last payload on each topic.
    pub last: BTreeMap<String, String>,
}

impl Received {
    /// The first answer to a transaction.
    pub fn answer(&self, transaction: &str) -> Option<Value> {
        let answer = self.answers.get(transaction)?.first()?;
        Some(parsed(answer))
    }

    /// The last message on a topic below the base topic.
    pub fn last(&self, topic: &str) -> Value {
        self.last
            .get(&format!("tapo2mqtt/{topic}"))
            .map_or(Value::Null, |payload| parsed(payload))
    }
}

/// See the module. Publishes at QoS 0: what is lost on the way is sent again by whoever misses an answer.
pub struct RecordingClient {
    client: AsyncClient,
    pub received: Arc<watch::Sender<Received>>,
    task: JoinHandle<()>,
}

impl RecordingClient {
    /// Connects, also again when the broker comes back.
    pub async fn open(broker: SocketAddr) -> Self {
        let name = format!("recorder-{:016x}", rand::random::<u64>());
        let mut options = MqttOptions::new(name, (broker.ip().to_string(), broker.port()));
        options.set_max_packet_size(PACKET_MAX, PACKET_MAX);
        let (client, mut events) = AsyncClient::builder(options).capacity(10_000).build();
        let mut network = events.network_options();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let received = Arc::new(watch::Sender::new(Received::default()));
        let task = Tasks::default().spawn("recording client", poll(events, client.clone(), received.clone()));
        let recorder = Self {
            client,
            received,
            task,
        };
        assert!(
            recorder
                .until(Duration::from_secs(10), |received| received.connected)
                .await
        );
        recorder
    }

    /// Sends once, now or when the broker is back.
    pub fn send(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        let topic = format!("tapo2mqtt/{topic}");
        let sent = self
            .client
            .try_publish(topic, payload.into(), PublishOptions::at_most_once());
        sent.expect("room for what waits for the broker");
    }

    /// Waits until the received fulfils a condition; `false` if it does not within the limit.
    pub async fn until(&self, limit: Duration, condition: impl FnMut(&Received) -> bool) -> bool {
        let mut received = self.received.subscribe();
        timeout(limit, received.wait_for(condition)).await.is_ok()
    }
}

impl Drop for RecordingClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn poll(mut events: EventLoop, client: AsyncClient, received: Arc<watch::Sender<Received>>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                client.try_subscribe(FILTER, QoS::AtLeastOnce).unwrap();
            }
            Ok(Event::Incoming(Incoming::SubAck(_))) => {
                received.send_modify(|received| received.connected = true);
            }
            Ok(Event::Incoming(Incoming::Publish(message))) => {
                let payload = String::from_utf8_lossy(&message.payload).into_owned();
                let topic = String::from_utf8_lossy(&message.topic).into_owned();
                received.send_modify(|received| enter(received, topic, payload));
            }
            Ok(_) => {}
            Err(_) => {
                received.send_modify(|received| received.connected = false);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn enter(received: &mut Received, topic: String, payload: String) {
    if topic.ends_with("/response") {
        match parsed(&payload)["transaction"].as_str() {
            Some(transaction) => received
                .answers
                .entry(transaction.to_owned())
                .or_default()
                .push(payload),
            None => received.anonymous += 1,
        }
    } else {
        received.last.insert(topic, payload);
    }
}
