//! What is owed to the broker, and what of it is on its way. Pure: no broker, no clock.
//!
//! Retained values are a map, so that any burst costs one publish per topic, and are all owed again on
//! every new connection. One-shot messages wait in a bounded queue until they are acknowledged or too
//! old. At most [`CREDIT`] packets are under way at once; the rest waits here, where it can still be
//! coalesced.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rumqttc::SubscribeReasonCode;
use tokio::time::Instant;

use super::{Filter, Topic};

#[cfg(test)]
mod tests;

/// Packets that may wait for their acknowledgement at once.
pub(super) const CREDIT: usize = 64;
/// One-shot messages that wait at most; a longer queue loses its oldest.
pub(super) const QUEUE_LENGTH: usize = 1000;
/// Bytes of payload in the queue of one-shot messages at most; a larger one loses its oldest.
pub(super) const QUEUE_BYTES: usize = 4 << 20;
/// Filters in one SUBSCRIBE packet. Hosted brokers refuse more than eight (AWS IoT Core quotas).
const FILTERS_PER_SUBSCRIBE: usize = 8;

/// When a retained topic is published in the replay after a connect, and before which other waiting topics.
///
/// Home Assistant needs the bridge before the devices that name it in `via_device`, and a device before
/// its first state; `online` comes last, when all it promises is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// The Home Assistant discovery of the bridge itself.
    BridgeDiscovery,
    /// The Home Assistant discovery of devices and groups.
    Discovery,
    /// State and information.
    State,
    /// Whether a device can be reached.
    Availability,
    /// Whether the bridge can be reached: the topic of the last will.
    BridgeState,
}

/// One packet for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Subscribe(Vec<Filter>),
    Unsubscribe(Filter),
    Publish {
        topic: Topic,
        payload: Bytes,
        retain: bool,
    },
}

/// What the connection allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down,
    /// Publishing waits until the broker answered the subscriptions: whoever sees `online` may command.
    Subscribing,
    Open,
}

/// The value that a retained topic shall have. An empty payload erases the topic, as it does on the wire.
#[derive(Debug)]
struct Desired {
    rank: Rank,
    payload: Bytes,
    flight: Flight,
}

/// Whether a publish of a topic is under way. There is one at a time, so that a hot topic cannot use up
/// the credit and a newer value overtakes everything but the packet that has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight {
    Landed,
    UnderWay,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct OneShot {
    topic: Topic,
    payload: Bytes,
    deadline: Instant,
}

/// What a packet under way was for.
#[derive(Debug)]
enum Parcel {
    Subscribe(Vec<Filter>),
    Unsubscribe(Filter),
    Retained { topic: Topic, payload: Bytes },
    OneShot(OneShot),
}

impl Parcel {
    fn request(&self) -> Request {
        match self {
            Self::Subscribe(filters) => Request::Subscribe(filters.clone()),
            Self::Unsubscribe(filter) => Request::Unsubscribe(filter.clone()),
            Self::Retained { topic, payload } => publish(topic, payload, true),
            Self::OneShot(message) => publish(&message.topic, &message.payload, false),
        }
    }
}

fn publish(topic: &Topic, payload: &Bytes, retain: bool) -> Request {
    Request::Publish {
        topic: topic.clone(),
        payload: payload.clone(),
        retain,
    }
}

/// A parcel in the order of its hand-over.
#[derive(Debug)]
struct UnderWay {
    serial: u64,
    parcel: Parcel,
}

/// The client reported a packet that was never handed to it: the books no longer match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfStep;

/// Whether acknowledgements come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Moving,
    /// The broker answered two pings in a row, yet not the oldest packet sent before the first of them.
    Stalled,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) published: u64,
    pub(super) acknowledged: u64,
    pub(super) dropped: u64,
    pub(super) expired: u64,
}

/// The books of the link. See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    phase: Phase,
    closing: bool,
    filters: Vec<Filter>,
    subscriptions: VecDeque<Parcel>,
    desired: BTreeMap<Topic, Desired>,
    /// Topics whose desired value is not yet on its way.
    dirty: BTreeSet<(Rank, Topic)>,
    queue: VecDeque<OneShot>,
    queue_bytes: usize,
    next_serial: u64,
    /// Handed over, packet id not yet known.
    handed: VecDeque<UnderWay>,
    /// Handed over, but its packet id is still in use: the client sends it when that one is acknowledged.
    collided: Option<UnderWay>,
    unacked: BTreeMap<u16, UnderWay>,
    /// The oldest packet under way when the broker last answered a ping.
    oldest_at_ping: Option<u64>,
    counts: Counts,
}

impl Outbox {
    /// Nothing is owed but these subscriptions.
    pub(super) fn new(filters: Vec<Filter>) -> Self {
        let mut outbox = Self {
            phase: Phase::Down,
            closing: false,
            filters: Vec::new(),
            subscriptions: VecDeque::new(),
            desired: BTreeMap::new(),
            dirty: BTreeSet::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            next_serial: 0,
            handed: VecDeque::new(),
            collided: None,
            unacked: BTreeMap::new(),
            oldest_at_ping: None,
            counts: Counts::default(),
        };
        for filter in filters {
            outbox.subscribe(filter);
        }
        outbox
    }

    /// `topic` shall hold `payload`. Nothing happens if it does already; an empty payload erases.
    pub(super) fn retain(&mut self, rank: Rank, topic: Topic, payload: Bytes) {
        let flight = match self.desired.get(&topic) {
            Some(old) if old.payload == payload => return,
            Some(old) => {
                self.dirty.remove(&(old.rank, topic.clone()));
                old.flight
            }
            None => Flight::Landed,
        };
        if flight == Flight::Landed {
            self.dirty.insert((rank, topic.clone()));
        }
        let desired = Desired {
            rank,
            payload,
            flight,
        };
        self.desired.insert(topic, desired);
    }

    /// `topic` shall hold nothing; it is forgotten once the broker knows.
    pub(super) fn erase(&mut self, topic: Topic) {
        let rank = self
            .desired
            .get(&topic)
            .map_or(Rank::State, |desired| desired.rank);
        self.retain(rank, topic, Bytes::new());
    }

    /// `topic` shall be published again although it holds what it shall; one under way will do.
    pub(super) fn repeat(&mut self, topic: &Topic) {
        let landed = self
            .desired
            .get(topic)
            .filter(|desired| desired.flight == Flight::Landed);
        if let Some(desired) = landed {
            self.dirty.insert((desired.rank, topic.clone()));
        }
    }

    /// Everything retained shall be published again.
    pub(super) fn repeat_all(&mut self) {
        let landed = self
            .desired
            .iter()
            .filter(|(_, desired)| desired.flight == Flight::Landed);
        self.dirty
            .extend(landed.map(|(topic, desired)| (desired.rank, topic.clone())));
    }

    /// Queues a message that is sent once, and again after a lost connection if it was not acknowledged.
    pub(super) fn send(&mut self, topic: Topic, payload: Bytes, deadline: Instant) {
        self.queue_bytes += payload.len();
        self.queue.push_back(OneShot {
            topic,
            payload,
            deadline,
        });
        self.bound_queue();
    }

    /// Adds a filter, now and on every new connection.
    pub(super) fn subscribe(&mut self, filter: Filter) {
        if self.filters.contains(&filter) {
            return;
        }
        self.filters.push(filter.clone());
        if self.phase != Phase::Down {
            self.subscriptions.push_back(Parcel::Subscribe(vec![filter]));
        }
    }

    /// Removes a filter.
    pub(super) fn unsubscribe(&mut self, filter: &Filter) {
        let before = self.filters.len();
        self.filters.retain(|known| known != filter);
        if self.phase != Phase::Down && self.filters.len() < before {
            self.subscriptions.push_back(Parcel::Unsubscribe(filter.clone()));
        }
    }

    /// From now on the queue goes before the bridge's state, whose last value this is.
    pub(super) fn close(&mut self, topic: Topic, farewell: Bytes) {
        self.closing = true;
        self.retain(Rank::BridgeState, topic, farewell);
    }

    /// A connection stands, and the broker knows nothing of us.
    pub(super) fn up(&mut self) {
        self.down();
        self.phase = Phase::Subscribing;
        let chunks = self.filters.chunks(FILTERS_PER_SUBSCRIBE);
        self.subscriptions = chunks.map(|chunk| Parcel::Subscribe(chunk.to_vec())).collect();
        self.open_if_subscribed();
    }

    /// The connection is gone, and with it all that was under way.
    pub(super) fn down(&mut self) {
        self.phase = Phase::Down;
        self.subscriptions.clear();
        self.oldest_at_ping = None;
        let mut lost: Vec<UnderWay> = std::mem::take(&mut self.unacked).into_values().collect();
        lost.extend(self.collided.take());
        lost.extend(self.handed.drain(..));
        lost.sort_unstable_by_key(|under_way| under_way.serial);
        for under_way in lost.into_iter().rev() {
            self.requeue(under_way.parcel);
        }
        self.bound_queue();
        for (topic, desired) in &mut self.desired {
            desired.flight = Flight::Landed;
            self.dirty.insert((desired.rank, topic.clone()));
        }
    }

    /// The next packet for the client, which from now on counts as under way. `None`: nothing to send,
    /// no connection, or no credit.
    pub(super) fn next(&mut self, now: Instant) -> Option<Request> {
        if self.phase == Phase::Down || self.under_way() >= CREDIT {
            return None;
        }
        let parcel = match self.subscriptions.pop_front() {
            Some(parcel) => parcel,
            None if self.phase == Phase::Subscribing => return None,
            None => {
                let parcel = self.next_publish(now)?;
                self.counts.published += 1;
                parcel
            }
        };
        let request = parcel.request();
        let serial = self.next_serial;
        self.next_serial += 1;
        self.handed.push_back(UnderWay { serial, parcel });
        Some(request)
    }

    /// The client sent the oldest packet handed to it, under this packet id.
    pub(super) fn sent(&mut self, id: u16) -> Result<(), OutOfStep> {
        let under_way = self.collided.take().or_else(|| self.handed.pop_front());
        if let Some(overtaken) = self.unacked.insert(id, under_way.ok_or(OutOfStep)?) {
            // A SUBSCRIBE took the id of a publish whose acknowledgement is long overdue. Nobody will
            // be able to tell their answers apart.
            self.requeue(overtaken.parcel);
            return Err(OutOfStep);
        }
        Ok(())
    }

    /// The client holds the oldest packet handed to it back until the broker acknowledges an earlier one.
    pub(super) fn collided(&mut self) -> Result<(), OutOfStep> {
        self.collided = Some(self.handed.pop_front().ok_or(OutOfStep)?);
        Ok(())
    }

    /// The broker acknowledged a publish or an unsubscribe.
    pub(super) fn acknowledged(&mut self, id: u16) {
        match self.unacked.remove(&id).map(|under_way| under_way.parcel) {
            Some(Parcel::Retained { topic, payload }) => {
                self.counts.acknowledged += 1;
                self.landed(topic, &payload);
            }
            Some(Parcel::OneShot(_)) => self.counts.acknowledged += 1,
            Some(Parcel::Subscribe(_) | Parcel::Unsubscribe(_)) | None => {}
        }
        self.open_if_subscribed();
    }

    /// The broker answered a subscription; returns the filters it refused.
    pub(super) fn subscribed(&mut self, id: u16, codes: &[SubscribeReasonCode]) -> Vec<Filter> {
        let Some(Parcel::Subscribe(filters)) = self.unacked.remove(&id).map(|under_way| under_way.parcel)
        else {
            return Vec::new();
        };
        self.open_if_subscribed();
        let granted =
            |code: Option<&SubscribeReasonCode>| matches!(code, Some(SubscribeReasonCode::Success(_)));
        let answered = filters.into_iter().enumerate();
        answered
            .filter(|(position, _)| !granted(codes.get(*position)))
            .map(|(_, filter)| filter)
            .collect()
    }

    /// The broker answered a ping.
    pub(super) fn pinged(&mut self) -> Progress {
        let serials = |under_way: &UnderWay| under_way.serial;
        let unacked = self.unacked.values().map(serials);
        let oldest = unacked.chain(self.collided.iter().map(serials)).min();
        let stalled = oldest.is_some() && oldest == self.oldest_at_ping;
        self.oldest_at_ping = oldest;
        if stalled {
            Progress::Stalled
        } else {
            Progress::Moving
        }
    }

    /// Whether the broker has acknowledged everything.
    pub(super) fn is_empty(&self) -> bool {
        self.queued() == 0 && self.under_way() == 0
    }

    /// Packets that wait for credit or a connection.
    pub(super) fn queued(&self) -> usize {
        self.subscriptions.len() + self.dirty.len() + self.queue.len()
    }

    /// Packets that wait for an acknowledgement.
    pub(super) fn under_way(&self) -> usize {
        self.handed.len() + usize::from(self.collided.is_some()) + self.unacked.len()
    }

    /// The counters.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    fn next_publish(&mut self, now: Instant) -> Option<Parcel> {
        let queue_first = self.closing
            && self
                .dirty
                .first()
                .is_some_and(|(rank, _)| *rank == Rank::BridgeState);
        if queue_first && let Some(parcel) = self.next_one_shot(now) {
            return Some(parcel);
        }
        self.next_retained().or_else(|| self.next_one_shot(now))
    }

    fn next_retained(&mut self) -> Option<Parcel> {
        let (_, topic) = self.dirty.pop_first()?;
        let desired = self.desired.get_mut(&topic)?;
        desired.flight = Flight::UnderWay;
        let payload = desired.payload.clone();
        Some(Parcel::Retained { topic, payload })
    }

    fn next_one_shot(&mut self, now: Instant) -> Option<Parcel> {
        while let Some(message) = self.pop_queue() {
            if now < message.deadline {
                return Some(Parcel::OneShot(message));
            }
            self.counts.expired += 1;
        }
        None
    }

    fn landed(&mut self, topic: Topic, payload: &Bytes) {
        let Some(desired) = self.desired.get_mut(&topic) else {
            return;
        };
        desired.flight = Flight::Landed;
        if desired.payload != payload {
            self.dirty.insert((desired.rank, topic));
        } else if payload.is_empty() {
            self.desired.remove(&topic);
        }
    }

    /// Puts a one-shot message back to the head of the queue. The rest is owed again by other means:
    /// retained values are all dirty, and subscriptions are made anew on the next connection.
    fn requeue(&mut self, parcel: Parcel) {
        if let Parcel::OneShot(message) = parcel {
            self.queue_bytes += message.payload.len();
            self.queue.push_front(message);
        }
    }

    fn pop_queue(&mut self) -> Option<OneShot> {
        let message = self.queue.pop_front()?;
        self.queue_bytes -= message.payload.len();
        Some(message)
    }

    fn bound_queue(&mut self) {
        while self.queue.len() > QUEUE_LENGTH || self.queue_bytes > QUEUE_BYTES {
            self.pop_queue();
            self.counts.dropped += 1;
        }
    }

    fn open_if_subscribed(&mut self) {
        let is_subscribe = |under_way: &UnderWay| matches!(under_way.parcel, Parcel::Subscribe(_));
        let waiting = !self.subscriptions.is_empty()
            || self.handed.iter().any(is_subscribe)
            || self.unacked.values().any(is_subscribe);
        if self.phase == Phase::Subscribing && !waiting {
            self.phase = Phase::Open;
        }
    }
}
