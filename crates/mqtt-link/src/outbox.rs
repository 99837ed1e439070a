//! What to publish, and what is in flight. No I/O, no clock.
//!
//! Retained payloads are a map, so that a burst costs one publish per topic. All of them are published again on every
//! new connection. One-shot messages wait in a bounded queue until they are acknowledged or expire. At most
//! [`MAX_INFLIGHT`] packets, of [`MAX_INFLIGHT_BYTES`], are in flight at once. The others wait here, where a newer payload can still replace them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rumqttc::SubscribeReasonCode;
use tokio::time::Instant;

use crate::{
    Filter, PublishPriority, Topic,
    inflight::{Inflight, InflightPublish, ProtocolError},
    kept_payload::KeptPayload,
    queue::{OneShot, Queue},
    request::{Request, RequestKind},
};

#[cfg(test)]
mod tests;

/// The in-flight window: packets that may wait for their acknowledgement at once.
pub(crate) const MAX_INFLIGHT: usize = 64;
/// No packet is sent while as many bytes of payloads wait: the client's buffer grows to what it is given at once and
/// stays so.
const MAX_INFLIGHT_BYTES: usize = 128 << 10;
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
    payload: KeptPayload,
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

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionLoss {
    /// The broker closed it, perhaps because of what it received.
    ClosedByBroker,
    /// The broker closed it long after it received what it did not acknowledge: it is busy, as a cluster without a leader.
    ClosedLate,
    /// Anything else.
    Other,
}

/// A message that is not sent any more, because the broker closed the connection at it twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) topic: Topic,
    pub(crate) bytes: usize,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    pub(crate) dropped: u64,
    pub(crate) expired: u64,
}

impl LeftOut {
    fn of(packet: InflightPublish) -> Option<Self> {
        match packet {
            InflightPublish::Retained { topic, payload }
            | InflightPublish::OneShot(OneShot { topic, payload, .. }) => Some(Self {
                bytes: payload.len(),
                topic,
            }),
            InflightPublish::Subscribe(_) | InflightPublish::Unsubscribe(_) => None,
        }
    }
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
    /// Those of them that waited when the connection was ready. They go before what changes later: otherwise the state of
    /// the bridge, which comes last, waits as long as anything changes.
    replay: BTreeSet<(PublishPriority, Topic)>,
    queue: Queue,
    inflight: Inflight,
    /// Retained topics that were in flight when the broker closed the connection. A suspect is sent alone, so that the
    /// message at which the broker closes the connection again is known.
    suspects: BTreeSet<Topic>,
    /// Whether what is in flight is a suspect.
    is_suspect_inflight: bool,
    /// Retained topics that are not published, with the size of the payload. A smaller payload is published.
    left_out: BTreeMap<Topic, usize>,
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
            replay: BTreeSet::new(),
            queue: Queue::default(),
            inflight: Inflight::default(),
            suspects: BTreeSet::new(),
            is_suspect_inflight: false,
            left_out: BTreeMap::new(),
            published: 0,
            acknowledged: 0,
        };
        for filter in filters {
            outbox.subscribe(filter);
        }
        outbox
    }

    /// Sets the retained payload of `topic`. Ignores an equal payload; an empty payload clears the topic. Returns whether
    /// the payload is new and is published.
    pub(crate) fn publish_retained(
        &mut self,
        priority: PublishPriority,
        topic: Topic,
        payload: Bytes,
    ) -> bool {
        let state = match self.desired.get(&topic) {
            Some(old) if old.payload == payload => return false,
            Some(old) => {
                self.dirty.remove(&(old.priority, topic.clone()));
                old.state
            }
            None => PublishState::Idle,
        };
        let is_left_out = self
            .left_out
            .get(&topic)
            .is_some_and(|bytes| payload.len() >= *bytes);
        if !is_left_out && self.left_out.remove(&topic).is_some() {
            self.suspects.insert(topic.clone());
        }
        if state == PublishState::Idle && !is_left_out {
            self.dirty.insert((priority, topic.clone()));
        }
        let desired = Desired {
            priority,
            payload: KeptPayload::new(payload),
            state,
        };
        self.desired.insert(topic, desired);
        !is_left_out
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
            self.left_out.remove(&topic);
        } else {
            self.clear_retained(topic);
        }
    }

    /// Publishes the retained payload of `topic` again, unless a publish of it is in flight.
    pub(crate) fn republish(&mut self, topic: &Topic) {
        if let Some(desired) = self.desired.get(topic)
            && desired.state == PublishState::Idle
            && !self.left_out.contains_key(topic)
        {
            self.dirty.insert((desired.priority, topic.clone()));
        }
    }

    /// Publishes all retained payloads again.
    pub(crate) fn republish_all(&mut self) {
        let idle = self.desired.iter().filter(|(topic, desired)| {
            desired.state == PublishState::Idle && !self.left_out.contains_key(*topic)
        });
        self.dirty
            .extend(idle.map(|(topic, desired)| (desired.priority, topic.clone())));
    }

    /// Queues a message. It is published once, and again on the next connection if it was not acknowledged.
    pub(crate) fn publish(&mut self, topic: Topic, payload: Bytes, deadline: Instant) {
        self.queue.push(OneShot {
            topic,
            payload,
            deadline,
            suspect: false,
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

    /// The filters of all subscriptions.
    pub(crate) fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// Subscribes to filters again that the broker refused.
    pub(crate) fn resubscribe(&mut self, refused: &[Filter]) {
        let chunks = refused.chunks(FILTERS_PER_SUBSCRIBE);
        self.subscriptions
            .extend(chunks.map(|chunk| InflightPublish::Subscribe(chunk.to_vec())));
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
        self.replay.clear();
        self.publish_retained(PublishPriority::BridgeState, topic, payload);
    }

    /// There is a new connection with a clean session.
    pub(crate) fn on_connected(&mut self) {
        if self.phase != Phase::Disconnected {
            self.on_disconnected(ConnectionLoss::Other);
        }
        self.phase = Phase::Subscribing;
        let chunks = self.filters.chunks(FILTERS_PER_SUBSCRIBE);
        self.subscriptions = chunks
            .map(|chunk| InflightPublish::Subscribe(chunk.to_vec()))
            .collect();
        self.ready_if_subscribed();
    }

    /// The connection is lost, with everything that was in flight. Returns a message that is left out from now on.
    pub(crate) fn on_disconnected(&mut self, loss: ConnectionLoss) -> Option<LeftOut> {
        self.phase = Phase::Disconnected;
        self.subscriptions.clear();
        self.replay.clear();
        let mut unfinished = self.inflight.take_all();
        let is_suspect = std::mem::take(&mut self.is_suspect_inflight);
        let mut left_out = None;
        match loss {
            ConnectionLoss::ClosedByBroker if is_suspect => left_out = unfinished.pop().and_then(LeftOut::of),
            ConnectionLoss::ClosedByBroker | ConnectionLoss::ClosedLate => self.suspect(&mut unfinished),
            // The broker may have other limits now.
            ConnectionLoss::Other => self.left_out.clear(),
        }
        // Retained topics and subscriptions are all sent again on the next connection.
        let one_shot = |packet| match packet {
            InflightPublish::OneShot(message) => Some(message),
            InflightPublish::Subscribe(_)
            | InflightPublish::Unsubscribe(_)
            | InflightPublish::Retained { .. } => None,
        };
        self.queue
            .requeue(unfinished.into_iter().filter_map(one_shot).collect());
        if let Some(LeftOut { topic, bytes }) = &left_out {
            if self.suspects.remove(topic) {
                self.left_out.insert(topic.clone(), *bytes);
            } else {
                self.queue.count_dropped();
            }
        }
        for (topic, desired) in &mut self.desired {
            desired.state = PublishState::Idle;
            if !self.left_out.contains_key(topic) {
                self.dirty.insert((desired.priority, topic.clone()));
            }
        }
        left_out
    }

    /// The broker closed the connection while these were in flight.
    fn suspect(&mut self, lost: &mut [InflightPublish]) {
        for packet in lost {
            match packet {
                InflightPublish::Retained { topic, .. } => {
                    self.suspects.insert(topic.clone());
                }
                InflightPublish::OneShot(message) => message.suspect = true,
                InflightPublish::Subscribe(_) | InflightPublish::Unsubscribe(_) => {}
            }
        }
    }

    /// The topics that are not published, because the broker closed the connection at them.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (&Topic, usize)> {
        self.left_out.iter().map(|(topic, bytes)| (topic, *bytes))
    }

    /// The next packet for the client, which is then in flight. `None` if there is nothing to send, no connection, or
    /// no room in the in-flight window.
    pub(crate) fn next_request(&mut self, now: Instant) -> Option<Request> {
        let is_full = self.inflight.len() >= MAX_INFLIGHT
            || self.inflight.bytes() >= MAX_INFLIGHT_BYTES
            || self.is_suspect_inflight;
        if self.phase == Phase::Disconnected || is_full {
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
        Some(self.inflight.push(packet, now))
    }

    /// See [`Inflight::on_sent`].
    pub(crate) fn on_sent(&mut self, kind: RequestKind, id: u16) -> Result<(), ProtocolError> {
        self.inflight.on_sent(kind, id)
    }

    /// See [`Inflight::is_waiting_since`].
    pub(crate) fn is_waiting_since(&self, then: Instant) -> bool {
        self.inflight.is_waiting_since(then)
    }

    /// The broker acknowledged a PUBLISH or an UNSUBSCRIBE.
    pub(crate) fn on_acknowledged(&mut self, id: u16) {
        let acknowledged = self.inflight.remove(id);
        self.is_suspect_inflight &= self.inflight.len() > 0;
        match acknowledged {
            Some(InflightPublish::Retained { topic, payload }) => {
                self.acknowledged += 1;
                self.suspects.remove(&topic);
                self.on_retained_acknowledged(topic, &payload);
            }
            Some(InflightPublish::OneShot(_)) => self.acknowledged += 1,
            Some(InflightPublish::Subscribe(_) | InflightPublish::Unsubscribe(_)) | None => {}
        }
        self.ready_if_subscribed();
    }

    /// The broker answered a SUBSCRIBE. Returns its filters, and whether the broker granted them.
    pub(crate) fn on_suback(&mut self, id: u16, codes: &[SubscribeReasonCode]) -> Vec<(Filter, bool)> {
        let Some(InflightPublish::Subscribe(filters)) = self.inflight.remove(id) else {
            return Vec::new();
        };
        self.ready_if_subscribed();
        let granted =
            |code: Option<&SubscribeReasonCode>| matches!(code, Some(SubscribeReasonCode::Success(_)));
        filters
            .into_iter()
            .enumerate()
            .map(|(position, filter)| (filter, granted(codes.get(position))))
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
        let next = self.next_dirty();
        let next = next.as_ref();
        let queue_first = self.order == PublishOrder::BridgeStateLast
            && next.is_some_and(|(priority, _)| *priority == PublishPriority::BridgeState);
        let is_queue_next = next.is_none() || queue_first && self.queue.len() > 0;
        let is_suspect = if is_queue_next {
            self.queue.is_suspect_next(now)
        } else {
            next.is_some_and(|(_, topic)| self.suspects.contains(topic))
        };
        if is_suspect && self.inflight.len() > 0 {
            return None;
        }
        if queue_first && let Some(packet) = self.next_one_shot(now) {
            return Some(packet);
        }
        self.next_retained().or_else(|| self.next_one_shot(now))
    }

    /// The next retained topic to publish.
    fn next_dirty(&mut self) -> Option<(PublishPriority, Topic)> {
        // A topic may have got another priority, or may be left out now.
        while let Some(first) = self.replay.first()
            && !self.dirty.contains(first)
        {
            self.replay.pop_first();
        }
        self.replay.first().or_else(|| self.dirty.first()).cloned()
    }

    fn next_retained(&mut self) -> Option<InflightPublish> {
        let next = self.next_dirty()?;
        self.replay.remove(&next);
        self.dirty.remove(&next);
        let (_, topic) = next;
        self.is_suspect_inflight = self.suspects.contains(&topic);
        let desired = self.desired.get_mut(&topic)?;
        desired.state = PublishState::InFlight;
        let payload = desired.payload.to_bytes();
        Some(InflightPublish::Retained { topic, payload })
    }

    fn next_one_shot(&mut self, now: Instant) -> Option<InflightPublish> {
        let message = self.queue.pop(now)?;
        self.is_suspect_inflight = message.suspect;
        Some(InflightPublish::OneShot(message))
    }

    fn on_retained_acknowledged(&mut self, topic: Topic, payload: &Bytes) {
        let Some(desired) = self.desired.get_mut(&topic) else {
            return;
        };
        desired.state = PublishState::Idle;
        if desired.payload != *payload {
            self.dirty.insert((desired.priority, topic));
        } else if payload.is_empty() {
            self.desired.remove(&topic);
        }
    }

    fn ready_if_subscribed(&mut self) {
        let waiting = !self.subscriptions.is_empty() || self.inflight.is_subscribing();
        if self.phase == Phase::Subscribing && !waiting {
            self.phase = Phase::Ready;
            if self.order == PublishOrder::RetainedFirst {
                self.replay = self.dirty.clone();
            }
        }
    }
}
