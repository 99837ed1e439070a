//! A client of the broker that takes the time of what it sees.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use rumqttc::{AsyncClient, ClientError, Event, Incoming, MqttOptions, PublishOptions, QoS};
use tapo2mqtt::system::tasks::Tasks;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// What a measurement may wait for before it is given up.
const PATIENCE: Duration = Duration::from_mins(2);

pub struct Message {
    pub topic: String,
    pub payload: Bytes,
    pub at: Instant,
}

impl Message {
    pub fn says(&self, text: &str) -> bool {
        self.payload
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    }
}

pub struct Client {
    requests: AsyncClient,
    inbox: UnboundedReceiver<Message>,
    granted: UnboundedReceiver<()>,
    task: JoinHandle<()>,
}

impl Client {
    pub fn connect(broker: SocketAddr) -> Self {
        let name = format!("bench-{:016x}", rand::random::<u64>());
        let mut options = MqttOptions::new(name, (broker.ip().to_string(), broker.port()));
        options.set_max_packet_size(16 << 20, 16 << 20).set_inflight(1000);
        let (client, mut events) = AsyncClient::builder(options).capacity(10_000).build();
        let mut network = events.network_options();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let (messages, inbox) = unbounded_channel();
        let (grants, granted) = unbounded_channel();
        let task = Tasks::default().spawn("client", async move {
            while let Ok(event) = events.poll().await {
                take(event, &messages, &grants);
            }
        });
        Self {
            requests: client,
            inbox,
            granted,
            task,
        }
    }

    pub async fn subscribe(&mut self, filter: &str) {
        self.requests
            .subscribe(filter, QoS::AtLeastOnce)
            .await
            .expect("the client runs");
        let granted = timeout(PATIENCE, self.granted.recv()).await;
        granted.expect("the broker answers").expect("the client runs");
    }

    /// The sending end alone.
    pub fn publisher(&self) -> Publisher {
        Publisher(self.requests.clone())
    }

    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        let sent = self.publisher().publish(topic, payload).await;
        sent.expect("the client runs");
    }

    pub async fn next(&mut self) -> Message {
        let message = timeout(PATIENCE, self.inbox.recv()).await;
        message.expect("a message in time").expect("the client runs")
    }

    /// The first message that `wanted` accepts.
    pub async fn wait(&mut self, wanted: impl Fn(&Message) -> bool) -> Message {
        loop {
            let message = self.next().await;
            if wanted(&message) {
                return message;
            }
        }
    }

    /// All messages that came so far.
    pub fn take_all(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Ok(message) = self.inbox.try_recv() {
            messages.push(message);
        }
        messages
    }

    /// All messages until none has come for so long.
    pub async fn until_quiet(&mut self, quiet: Duration) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Ok(Some(message)) = timeout(quiet, self.inbox.recv()).await {
            messages.push(message);
        }
        messages
    }
}

/// Sends messages, as long as its client runs.
pub struct Publisher(AsyncClient);

impl Publisher {
    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) -> Result<(), ClientError> {
        self.0
            .publish(topic, payload.into(), PublishOptions::at_least_once())
            .await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn take(event: Event, messages: &UnboundedSender<Message>, grants: &UnboundedSender<()>) {
    match event {
        Event::Incoming(Incoming::Publish(publish)) => {
            let message = Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload,
                at: Instant::now(),
            };
            let _ = messages.send(message);
        }
        Event::Incoming(Incoming::SubAck(_)) => {
            let _ = grants.send(());
        }
        _ => {}
    }
}
