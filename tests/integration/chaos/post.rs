//! A client that loses nothing it can help: it survives any break of the broker, and remembers every answer by
//! its transaction.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};
use serde_json::Value;
use tapo2mqtt::system::tasks::Tasks;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::bridge::parsed;

const RETRY: Duration = Duration::from_millis(20);
const PACKET_MAX: usize = 4 << 20;
const FILTER: &str = "tapo2mqtt/#";

/// What came in so far.
#[derive(Default)]
pub struct Book {
    pub connected: bool,
    /// The answers to each transaction, as they came.
    pub answers: HashMap<String, Vec<String>>,
    /// Answers without a transaction.
    pub anonymous: u64,
    /// The last payload on each topic.
    pub last: BTreeMap<String, String>,
}

impl Book {
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
pub struct Post {
    client: AsyncClient,
    pub book: Arc<watch::Sender<Book>>,
    task: JoinHandle<()>,
}

impl Post {
    /// Connects, also again when the broker comes back.
    pub async fn open(broker: SocketAddr) -> Self {
        let name = format!("post-{:016x}", rand::random::<u64>());
        let mut options = MqttOptions::new(name, broker.ip().to_string(), broker.port());
        options.set_max_packet_size(PACKET_MAX, PACKET_MAX);
        let (client, mut events) = AsyncClient::new(options, 10_000);
        let mut network = events.network_options();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let book = Arc::new(watch::Sender::new(Book::default()));
        let task = Tasks::default().spawn("post", poll(events, client.clone(), book.clone()));
        let post = Self { client, book, task };
        assert!(post.until(Duration::from_secs(10), |book| book.connected).await);
        post
    }

    /// Sends once, now or when the broker is back.
    pub fn send(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        let topic = format!("tapo2mqtt/{topic}");
        let sent = self.client.try_publish(topic, QoS::AtMostOnce, false, payload);
        sent.expect("room for what waits for the broker");
    }

    /// Waits until the book fulfils a condition; `false` if it does not within the limit.
    pub async fn until(&self, limit: Duration, condition: impl FnMut(&Book) -> bool) -> bool {
        let mut book = self.book.subscribe();
        timeout(limit, book.wait_for(condition)).await.is_ok()
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn poll(mut events: EventLoop, client: AsyncClient, book: Arc<watch::Sender<Book>>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                client.try_subscribe(FILTER, QoS::AtLeastOnce).unwrap();
            }
            Ok(Event::Incoming(Incoming::SubAck(_))) => book.send_modify(|book| book.connected = true),
            Ok(Event::Incoming(Incoming::Publish(message))) => {
                let payload = String::from_utf8_lossy(&message.payload).into_owned();
                book.send_modify(|book| enter(book, message.topic, payload));
            }
            Ok(_) => {}
            Err(_) => {
                book.send_modify(|book| book.connected = false);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn enter(book: &mut Book, topic: String, payload: String) {
    if topic.ends_with("/response") {
        match parsed(&payload)["transaction"].as_str() {
            Some(transaction) => book
                .answers
                .entry(transaction.to_owned())
                .or_default()
                .push(payload),
            None => book.anonymous += 1,
        }
    } else {
        book.last.insert(topic, payload);
    }
}
