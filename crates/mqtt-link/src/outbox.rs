//! What to publish, and what is in flight. No I/O, no clock.
//!
//! Retained payloads are a map, so that a burst costs one publish per topic. All of them are published again on every
//! new connection. One-shot messages wait in a bounded queue until they are acknowledged or expire. At most
//! [`MAX_INFLIGHT`] packets are in flight at once. The others wait here, where a newer payload can still replace them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rumqttc::SubscribeReasonCode;
use tokio::time::Instant;

use crate::{
    Filter, PublishPriority, Topic,
    inflight::{AckProgress, Inflight, InflightPublish, ProtocolError},
    queue::{OneShot, Queue},
    request::Request,
};

#[cfg(test)]
mod tests;

/// The in-flight window: packets that may wait for their acknowledgement at once.
pub(crate) const MAX_INFLIGHT: usize = 64;
/// Filters in one SUBSCRIBE packet. Hosted brokers refuse more than eight (AWS IoT Core quotas).
const FILTERS_PER_SUBSCRIBE: usize = 8;

/// What the connection allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Disconnected,
    /// Publishing waits for all SUBACKs: a client that sees `online` can send commands at once.
    Subscribing,
    Ready,
}

/// The retained payload that a topic has to have. An empty payload clears the topic, as in MQTT.
#[derive(Debug)]
struct Desired {
    priority: PublishPriority,
    payload: Bytes,
    state: PublishState,
}

/// Whether a publish of a topic is in flight. There is at most one per topic, so that a topic that changes often
/// cannot fill the in-flight window, and a newer payload waits for one packet only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishState {
    Idle,
    InFlight,
}

/// Which publishes go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishOrder {
    /// Retained payloads by priority, then the queue.
    RetainedFirst,
    /// During shutdown: the queue before the state of the bridge.
    BridgeStateLast,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    pub(crate) dropped: u64,
    pub(crate) expired: u64,
}

/// Retained topics, subscriptions and messages of a link, and their delivery.
#[derive(Debug)]
pub(crate) struct Outbox {
    phase: Phase,
    order: PublishOrder,
    filters: Vec<Filter>,
    subscriptions: VecDeque<InflightPublish>,
    desired: BTreeMap<Topic, Desired>,
    /// Topics whose desired payload is not in flight yet.
    dirty: BTreeSet<(PublishPriority, Topic)>,
    queue: Queue,
    inflight: Inflight,
    published: u64,
    acknowledged: u64,
}

impl Outbox {
    /// An outbox with these subscriptions and nothing to publish.
    pub(crate) fn new(filters: Vec<Filter>) -> Self {
        let mut outbox = Self {
            phase: Phase::Disconnected,
            order: PublishOrder::RetainedFirst,
            filters: Vec::new(),
            subscriptions: VecDeque::new(),
            desired: BTreeMap::new(),
            dirty: BTreeSet::new(),
            queue: Queue::default(),
            inflight: Inflight::default(),
            published: 0,
            acknowledged: 0,
        };
        for filter in filters {
            outbox.subscribe(filter);
        }
        outbox
    }

    /// Sets the retained payload of `topic`. Ignores an equal payload; an empty payload clears the topic.
    pub(crate) fn publish_retained(&mut self, priority: PublishPriority, topic: Topic, payload: Bytes) {
        let state = match self.desired.get(&topic) {
            Some(old) if old.payload == payload => return,
            Some(old) => {
                self.dirty.remove(&(old.priority, topic.clone()));
                old.state
            }
            None => PublishState::Idle,
        };
        if state == PublishState::Idle {
            self.dirty.insert((priority, topic.clone()));
        }
        let desired = Desired {
            priority,
            // Shrink the buffer: a JSON writer leaves up to as much spare capacity, and the payload is kept.
            payload: Bytes::from(Vec::from(payload).into_boxed_slice()),
            state,
        };
        self.desired.insert(topic, desired);
    }

    /// Clears `topic`, and removes it once the broker acknowledges that.
    pub(crate) fn clear_retained(&mut self, topic: Topic) {
        let priority = self
            .desired
            .get(&topic)
            .map_or(PublishPriority::State, |desired| desired.priority);
        self.publish_retained(priority, topic, Bytes::new());
    }

    /// Another client cleared `topic`. Clears it again if a payload is in flight or waits, otherwise only removes it.
    pub(crate) fn mark_cleared(&mut self, topic: Topic) {
        let Some(desired) = self.desired.get(&topic) else {
            return;
        };
        let up_to_date =
            desired.state == PublishState::Idle && !self.dirty.contains(&(desired.priority, topic.clone()));
        if up_to_date {
            self.desired.remove(&topic);
        } else {
            self.clear_retained(topic);
        }
    }

    /// Publishes the retained payload of `topic` again, unless a publish of it is in flight.
    pub(crate) fn republish(&mut self, topic: &Topic) {
        let idle = self
            .desired
            .get(topic)
            .filter(|desired| desired.state == PublishState::Idle);
        if let Some(desired) = idle {
            self.dirty.insert((desired.priority, topic.clone()));
        }
    }

    /// Publishes all retained payloads again.
    pub(crate) fn republish_all(&mut self) {
        let idle = self
            .desired
            .iter()
            .filter(|(_, desired)| desired.state == PublishState::Idle);
        self.dirty
            .extend(idle.map(|(topic, desired)| (desired.priority, topic.clone())));
    }

    /// Queues a message. It is published once, and again on the next connection if it was not acknowledged.
    pub(crate) fn publish(&mut self, topic: Topic, payload: Bytes, deadline: Instant) {
        self.queue.push(OneShot {
            topic,
            payload,
            deadline,
        });
    }

    /// Adds a filter, now and on every new connection.
    pub(crate) fn subscribe(&mut self, filter: Filter) {
        if self.filters.contains(&filter) {
            return;
        }
        self.filters.push(filter.clone());
        if self.phase != Phase::Disconnected {
            self.subscriptions
                .push_back(InflightPublish::Subscribe(vec![filter]));
        }
    }

    /// Removes a filter.
    pub(crate) fn unsubscribe(&mut self, filter: &Filter) {
        let before = self.filters.len();
        self.filters.retain(|known| known != filter);
        if self.phase != Phase::Disconnected && self.filters.len() < before {
            self.subscriptions
                .push_back(InflightPublish::Unsubscribe(filter.clone()));
        }
    }

    /// Starts the shutdown: the queue goes before the state of the bridge, whose last payload this is.
    pub(crate) fn close(&mut self, topic: Topic, payload: Bytes) {
        self.order = PublishOrder::BridgeStateLast;
        self.publish_retained(PublishPriority::BridgeState, topic, payload);
    }

    /// There is a new connection with a clean session.
    pub(crate) fn on_connected(&mut self) {
        self.on_disconnected();
        self.phase = Phase::Subscribing;
        let chunks = self.filters.chunks(FILTERS_PER_SUBSCRIBE);
        self.subscriptions = chunks
            .map(|chunk| InflightPublish::Subscribe(chunk.to_vec()))
            .collect();
        self.ready_if_subscribed();
    }

    /// The connection is lost, with everything that was in flight.
    pub(crate) fn on_disconnected(&mut self) {
        self.phase = Phase::Disconnected;
        self.subscriptions.clear();
        // Retained topics and subscriptions are all sent again on the next connection.
        let one_shot = |packet| match packet {
            InflightPublish::OneShot(message) => Some(message),
            InflightPublish::Subscribe(_)
            | InflightPublish::Unsubscribe(_)
            | InflightPublish::Retained { .. } => None,
        };
        let lost = self.inflight.take_all().into_iter().filter_map(one_shot);
        self.queue.requeue(lost.collect());
        for (topic, desired) in &mut self.desired {
            desired.state = PublishState::Idle;
            self.dirty.insert((desired.priority, topic.clone()));
        }
    }

    /// The next packet for the client, which is then in flight. `None` if there is nothing to send, no connection, or
    /// no room in the in-flight window.
    pub(crate) fn next_request(&mut self, now: Instant) -> Option<Request> {
        if self.phase == Phase::Disconnected || self.inflight.len() >= MAX_INFLIGHT {
            return None;
        }
        let packet = match self.subscriptions.pop_front() {
            Some(packet) => packet,
            None if self.phase == Phase::Subscribing => return None,
            None => {
                let packet = self.next_publish(now)?;
                self.published += 1;
                packet
            }
        };
        Some(self.inflight.push(packet))
    }

    /// See [`Inflight::on_sent`].
    pub(crate) fn on_sent(&mut self, id: u16) -> Result<(), ProtocolError> {
        self.inflight.on_sent(id)
    }

    /// See [`Inflight::on_collided`].
    pub(crate) fn on_collided(&mut self) -> Result<(), ProtocolError> {
        self.inflight.on_collided()
    }

    /// See [`Inflight::on_ping_response`].
    pub(crate) fn on_ping_response(&mut self) -> AckProgress {
        self.inflight.on_ping_response()
    }

    /// The broker acknowledged a PUBLISH or an UNSUBSCRIBE.
    pub(crate) fn on_acknowledged(&mut self, id: u16) {
        match self.inflight.remove(id) {
            Some(InflightPublish::Retained { topic, payload }) => {
                self.acknowledged += 1;
                self.on_retained_acknowledged(topic, &payload);
            }
            Some(InflightPublish::OneShot(_)) => self.acknowledged += 1,
            Some(InflightPublish::Subscribe(_) | InflightPublish::Unsubscribe(_)) | None => {}
        }
        self.ready_if_subscribed();
    }

    /// The broker answered a SUBSCRIBE. Returns the filters that it refused.
    pub(crate) fn on_suback(&mut self, id: u16, codes: &[SubscribeReasonCode]) -> Vec<Filter> {
        let Some(InflightPublish::Subscribe(filters)) = self.inflight.remove(id) else {
            return Vec::new();
        };
        self.ready_if_subscribed();
        let granted =
            |code: Option<&SubscribeReasonCode>| matches!(code, Some(SubscribeReasonCode::Success(_)));
        filters
            .into_iter()
            .enumerate()
            .filter(|(position, _)| !granted(codes.get(*position)))
            .map(|(_, filter)| filter)
            .collect()
    }

    /// Whether the broker has acknowledged everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued() == 0 && self.inflight() == 0
    }

    /// Number of packets that wait for a connection or for room in the in-flight window.
    pub(crate) fn queued(&self) -> usize {
        self.subscriptions.len() + self.dirty.len() + self.queue.len()
    }

    /// Number of packets that wait for an acknowledgement.
    pub(crate) fn inflight(&self) -> usize {
        self.inflight.len()
    }

    /// The counters.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            published: self.published,
            acknowledged: self.acknowledged,
            dropped: self.queue.dropped(),
            expired: self.queue.expired(),
        }
    }

    fn next_publish(&mut self, now: Instant) -> Option<InflightPublish> {
        let next_priority = self.dirty.first().map(|(priority, _)| *priority);
        let queue_first = self.order == PublishOrder::BridgeStateLast
            && next_priority == Some(PublishPriority::BridgeState);
        if queue_first && let Some(packet) = self.next_one_shot(now) {
            return Some(packet);
        }
        self.next_retained().or_else(|| self.next_one_shot(now))
    }

    fn next_retained(&mut self) -> Option<InflightPublish> {
        let (_, topic) = self.dirty.pop_first()?;
        let desired = self.desired.get_mut(&topic)?;
        desired.state = PublishState::InFlight;
        let payload = desired.payload.clone();
        Some(InflightPublish::Retained { topic, payload })
    }

    fn next_one_shot(&mut self, now: Instant) -> Option<InflightPublish> {
        self.queue.pop(now).map(InflightPublish::OneShot)
    }

    fn on_retained_acknowledged(&mut self, topic: Topic, payload: &Bytes) {
        let Some(desired) = self.desired.get_mut(&topic) else {
            return;
        };
        desired.state = PublishState::Idle;
        if desired.payload != payload {
            self.dirty.insert((desired.priority, topic));
        } else if payload.is_empty() {
            self.desired.remove(&topic);
        }
    }

    fn ready_if_subscribed(&mut self) {
        let waiting = !self.subscriptions.is_empty() || self.inflight.is_subscribing();
        if self.phase == Phase::Subscribing && !waiting {
            self.phase = Phase::Ready;
        }
    }
}
