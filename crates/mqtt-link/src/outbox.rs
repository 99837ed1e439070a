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

use super::{
    Filter, Topic,
    queue::{OneShot, Queue},
    transit::{OutOfStep, Parcel, Progress, Request, Transit},
};

#[cfg(test)]
mod tests;

/// Packets that may wait for their acknowledgement at once.
pub(super) const CREDIT: usize = 64;
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

/// Which publishes go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Retained values by rank, then the queue.
    RetainedFirst,
    /// At the end: the queue before the state of the bridge.
    FarewellLast,
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
    order: Order,
    filters: Vec<Filter>,
    subscriptions: VecDeque<Parcel>,
    desired: BTreeMap<Topic, Desired>,
    /// Topics whose desired value is not yet on its way.
    dirty: BTreeSet<(Rank, Topic)>,
    queue: Queue,
    transit: Transit,
    published: u64,
    acknowledged: u64,
}

impl Outbox {
    /// Nothing is owed but these subscriptions.
    pub(super) fn new(filters: Vec<Filter>) -> Self {
        let mut outbox = Self {
            phase: Phase::Down,
            order: Order::RetainedFirst,
            filters: Vec::new(),
            subscriptions: VecDeque::new(),
            desired: BTreeMap::new(),
            dirty: BTreeSet::new(),
            queue: Queue::default(),
            transit: Transit::default(),
            published: 0,
            acknowledged: 0,
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
            // Cut to size: a writer of JSON leaves up to as much room again behind it, and this is kept for long.
            payload: Bytes::from(Vec::from(payload).into_boxed_slice()),
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

    /// Somebody else emptied `topic`, and so it shall stay: what is on its way there is erased, else it is only
    /// forgotten.
    pub(super) fn forget(&mut self, topic: Topic) {
        let Some(desired) = self.desired.get(&topic) else {
            return;
        };
        let at_rest =
            desired.flight == Flight::Landed && !self.dirty.contains(&(desired.rank, topic.clone()));
        if at_rest {
            self.desired.remove(&topic);
        } else {
            self.erase(topic);
        }
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
        self.queue.push(OneShot {
            topic,
            payload,
            deadline,
        });
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
        self.order = Order::FarewellLast;
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
        // What was retained is all owed again anyhow, and subscriptions are made anew.
        let one_shot = |parcel| match parcel {
            Parcel::OneShot(message) => Some(message),
            Parcel::Subscribe(_) | Parcel::Unsubscribe(_) | Parcel::Retained { .. } => None,
        };
        let lost = self.transit.lose().into_iter().filter_map(one_shot);
        self.queue.put_back(lost.collect());
        for (topic, desired) in &mut self.desired {
            desired.flight = Flight::Landed;
            self.dirty.insert((desired.rank, topic.clone()));
        }
    }

    /// The next packet for the client, which from now on counts as under way. `None`: nothing to send,
    /// no connection, or no credit.
    pub(super) fn next(&mut self, now: Instant) -> Option<Request> {
        if self.phase == Phase::Down || self.transit.len() >= CREDIT {
            return None;
        }
        let parcel = match self.subscriptions.pop_front() {
            Some(parcel) => parcel,
            None if self.phase == Phase::Subscribing => return None,
            None => {
                let parcel = self.next_publish(now)?;
                self.published += 1;
                parcel
            }
        };
        Some(self.transit.hand(parcel))
    }

    /// See [`Transit::sent`].
    pub(super) fn sent(&mut self, id: u16) -> Result<(), OutOfStep> {
        self.transit.sent(id)
    }

    /// See [`Transit::collided`].
    pub(super) fn collided(&mut self) -> Result<(), OutOfStep> {
        self.transit.collided()
    }

    /// See [`Transit::pinged`].
    pub(super) fn pinged(&mut self) -> Progress {
        self.transit.pinged()
    }

    /// The broker acknowledged a publish or an unsubscribe.
    pub(super) fn acknowledged(&mut self, id: u16) {
        match self.transit.answered(id) {
            Some(Parcel::Retained { topic, payload }) => {
                self.acknowledged += 1;
                self.landed(topic, &payload);
            }
            Some(Parcel::OneShot(_)) => self.acknowledged += 1,
            Some(Parcel::Subscribe(_) | Parcel::Unsubscribe(_)) | None => {}
        }
        self.open_if_subscribed();
    }

    /// The broker answered a subscription; returns the filters it refused.
    pub(super) fn subscribed(&mut self, id: u16, codes: &[SubscribeReasonCode]) -> Vec<Filter> {
        let Some(Parcel::Subscribe(filters)) = self.transit.answered(id) else {
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
        self.transit.len()
    }

    /// The counters.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            published: self.published,
            acknowledged: self.acknowledged,
            dropped: self.queue.dropped(),
            expired: self.queue.expired(),
        }
    }

    fn next_publish(&mut self, now: Instant) -> Option<Parcel> {
        let next_rank = self.dirty.first().map(|(rank, _)| *rank);
        let queue_first = self.order == Order::FarewellLast && next_rank == Some(Rank::BridgeState);
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
        self.queue.pop(now).map(Parcel::OneShot)
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

    fn open_if_subscribed(&mut self) {
        let waiting = !self.subscriptions.is_empty() || self.transit.is_subscribing();
        if self.phase == Phase::Subscribing && !waiting {
            self.phase = Phase::Open;
        }
    }
}
