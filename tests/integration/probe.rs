//! A client for tests that watches topics and publishes. It shares no code with the bridge.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, PublishOptions, QoS};
use tapo2mqtt::system::tasks::Tasks;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

/// How long a probe waits before it fails its test.
pub const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(20);
const PACKET_MAX: usize = 4 << 20;

/// A message as a subscriber sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    pub topic: String,
    pub payload: Bytes,
    /// Whether the broker had kept it.
    pub retain: bool,
}

impl Seen {
    /// The payload, with everything that is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, retained) = (self.text(), if self.retain { " (retained)" } else { "" });
        write!(f, "{}{retained} {:.200}", self.topic, text)
    }
}

/// A connection of its own. It remembers all it sees, and subscribes again when the broker comes back.
/// Every wait fails the test after [`PATIENCE`], and prints what the probe has seen.
pub struct Probe {
    client: AsyncClient,
    name: String,
    state: Arc<watch::Sender<State>>,
    published: AtomicU64,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    connected: bool,
    filters: Vec<String>,
    /// Subscriptions without an answer, in their order.
    asked: VecDeque<String>,
    granted: Vec<String>,
    acknowledged: u64,
    /// How many messages came before the first of the history.
    forgotten: usize,
    history: Vec<Seen>,
}

impl Probe {
    /// Connects to a broker; see [`crate::mosquitto::Mosquitto::probe`].
    pub async fn connect(address: SocketAddr, login: Option<&(String, String)>) -> Self {
        let name = format!("probe-{:016x}", rand::random::<u64>());
        let mut options = MqttOptions::new(&name, (address.ip().to_string(), address.port()));
        options
            .set_max_packet_size(PACKET_MAX, PACKET_MAX)
            .set_inflight(1000);
        if let Some((username, password)) = login {
            options.set_credentials(username, password.clone());
        }
        let (client, mut events) = AsyncClient::builder(options).capacity(1000).build();
        let mut network = events.network_options();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let state = Arc::new(watch::Sender::new(State::default()));
        let task = Tasks::default().spawn("probe", poll(events, client.clone(), state.clone()));
        let probe = Self {
            client,
            name,
            state,
            published: AtomicU64::new(0),
            task,
        };
        probe
            .wait("a connection", |state| state.connected.then_some(()))
            .await;
        probe
    }

    /// Subscribes at QoS 1 and waits for the broker's answer.
    pub async fn subscribe(&self, filter: &str) {
        self.state.send_modify(|state| {
            state.filters.push(filter.to_owned());
            state.asked.push_back(filter.to_owned());
        });
        self.client.try_subscribe(filter, QoS::AtLeastOnce).unwrap();
        let granted = |state: &State| {
            state
                .granted
                .iter()
                .any(|granted| granted == filter)
                .then_some(())
        };
        self.wait(&format!("the subscription to {filter}"), granted).await;
    }

    /// Publishes at QoS 1, not retained, and waits for the broker's answer.
    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.publish_with(topic, payload, false).await;
    }

    /// Publishes a retained message at QoS 1 and waits for the broker's answer. An empty one erases.
    pub async fn publish_retained(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.publish_with(topic, payload, true).await;
    }

    /// Publishes at QoS 0, which has no answer to wait for.
    pub async fn send(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        let publish = self
            .client
            .publish(topic, payload.into(), PublishOptions::at_most_once());
        publish.await.unwrap();
    }

    async fn publish_with(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) {
        let number = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        let publish = self.client.publish(
            topic,
            payload.into(),
            PublishOptions::at_least_once().retain(retain),
        );
        publish.await.unwrap();
        let acknowledged = |state: &State| (state.acknowledged >= number).then_some(());
        self.wait(
            &format!("the acknowledgement of a publish to {topic}"),
            acknowledged,
        )
        .await;
    }

    /// Waits for a message on `topic` that fulfils `predicate`, seen already or yet to come; returns its payload.
    /// Use [`Probe::forget`] to expect new messages only.
    pub async fn expect(&self, topic: &str, predicate: impl Fn(&str) -> bool) -> String {
        self.expect_within(PATIENCE, topic, predicate).await
    }

    /// As [`Probe::expect`], with a limit of its own.
    pub async fn expect_within(
        &self,
        limit: Duration,
        topic: &str,
        predicate: impl Fn(&str) -> bool,
    ) -> String {
        let fulfils = |seen: &Seen| seen.topic == topic && predicate(&seen.text());
        self.wait_within(limit, &format!("a message on {topic}"), first(fulfils))
            .await
    }

    /// As [`Probe::expect`], on any topic that begins so.
    pub async fn expect_below(&self, prefix: &str, predicate: impl Fn(&str) -> bool) -> String {
        let fulfils = |seen: &Seen| seen.topic.starts_with(prefix) && predicate(&seen.text());
        self.wait(&format!("a message below {prefix}"), first(fulfils))
            .await
    }

    /// Waits until the message that came last on `topic` fulfils `predicate`.
    pub async fn expect_last(&self, topic: &str, predicate: impl Fn(&str) -> bool) {
        let find = |state: &State| {
            let last = state.history.iter().rfind(|seen| seen.topic == topic)?;
            predicate(&last.text()).then_some(())
        };
        self.wait(&format!("a last message on {topic}"), find).await;
    }

    /// Everything seen so far, in its order.
    pub fn history(&self) -> Vec<Seen> {
        self.state.borrow().history.clone()
    }

    /// The payloads seen on one topic so far, in their order.
    pub fn payloads(&self, topic: &str) -> Vec<String> {
        let state = self.state.borrow();
        let matching = state.history.iter().filter(|seen| seen.topic == topic);
        matching.map(Seen::text).collect()
    }

    /// The last payload seen on a topic.
    pub fn last(&self, topic: &str) -> Option<String> {
        self.payloads(topic).pop()
    }

    /// Forgets what was seen so far.
    pub fn forget(&self) {
        self.state.send_modify(|state| {
            state.forgotten += state.history.len();
            state.history.clear();
        });
    }

    /// Waits until everything that was published before is seen: a message to ourselves comes after it.
    pub async fn catch_up(&self) {
        let echo = format!("probe/{}", self.name);
        if !self.state.borrow().filters.contains(&echo) {
            self.subscribe(&echo).await;
        }
        let mark = format!("{:016x}", rand::random::<u64>());
        self.publish(&echo, mark.clone()).await;
        self.expect(&echo, |payload| payload == mark).await;
    }

    /// The retained messages under a filter that this probe has not subscribed to yet, by topic.
    pub async fn retained(&self, filter: &str) -> BTreeMap<String, String> {
        self.subscribe(filter).await;
        self.catch_up().await;
        let kept = self.history().into_iter().filter(|seen| seen.retain);
        kept.map(|seen| (seen.topic.clone(), seen.text())).collect()
    }

    async fn wait<T>(&self, what: &str, find: impl FnMut(&State) -> Option<T>) -> T {
        self.wait_within(PATIENCE, what, find).await
    }

    async fn wait_within<T>(
        &self,
        limit: Duration,
        what: &str,
        mut find: impl FnMut(&State) -> Option<T>,
    ) -> T {
        let mut states = self.state.subscribe();
        let found = in_real_time(limit, async {
            loop {
                if let Some(found) = find(&states.borrow_and_update()) {
                    return found;
                }
                states.changed().await.expect("the probe lives");
            }
        });
        found.await.unwrap_or_else(|| {
            let history = self.history();
            let last = &history[history.len().saturating_sub(20)..];
            panic!(
                "no {what} within {limit:?}; of {} messages the last were {last:#?}",
                history.len()
            )
        })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Finds the text of the first message that fulfils a predicate, and looks at each message once.
fn first(fulfils: impl Fn(&Seen) -> bool) -> impl FnMut(&State) -> Option<String> {
    let mut looked_at = 0;
    move |state| {
        let new = state
            .history
            .iter()
            .skip(looked_at.max(state.forgotten) - state.forgotten);
        looked_at = state.forgotten + state.history.len();
        new.into_iter().find(|seen| fulfils(seen)).map(Seen::text)
    }
}

/// What comes within a limit of real time, also where the clocks of a test run fast.
async fn in_real_time<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let started = Instant::now();
    let mut future = pin!(future);
    while let Some(left) = limit.checked_sub(started.elapsed()) {
        if let Ok(found) = timeout(left, &mut future).await {
            return Some(found);
        }
    }
    None
}

async fn poll(mut events: EventLoop, client: AsyncClient, state: Arc<watch::Sender<State>>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => state.send_modify(|state| {
                state.connected = true;
                state.granted.clear();
                state.asked = state.filters.clone().into();
                for filter in &state.filters {
                    client.try_subscribe(filter, QoS::AtLeastOnce).unwrap();
                }
            }),
            Ok(Event::Incoming(Incoming::SubAck(_))) => {
                state.send_modify(|state| state.granted.extend(state.asked.pop_front()));
            }
            Ok(Event::Incoming(Incoming::PubAck(_))) => state.send_modify(|state| state.acknowledged += 1),
            Ok(Event::Incoming(Incoming::Publish(message))) => state.send_modify(|state| {
                state.history.push(Seen {
                    topic: String::from_utf8_lossy(&message.topic).into_owned(),
                    payload: message.payload,
                    retain: message.retain,
                });
            }),
            Ok(_) => {}
            Err(_) => {
                state.send_modify(|state| state.connected = false);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
