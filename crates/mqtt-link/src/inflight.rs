//! Packets passed to the client and not acknowledged yet.
//!
//! The client assigns the packet id when it sends a packet, and reports the ids of each [`RequestKind`] in the order in
//! which it received the packets. So a packet waits here in a queue until its id is known, and under its id until it is
//! acknowledged.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    Filter, Topic,
    queue::OneShot,
    request::{Request, RequestKind},
};

/// A packet in flight.
#[derive(Debug)]
pub(crate) enum InflightPublish {
    Subscribe(Vec<Filter>),
    Unsubscribe(Filter),
    Retained { topic: Topic, payload: Bytes },
    OneShot(OneShot),
}

/// The client reported an event that cannot happen. The records do not match any more, and the connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProtocolError;

/// A packet with its number in the order in which the client received it, and when that was.
#[derive(Debug)]
struct Delivery {
    sequence: u64,
    since: Instant,
    packet: InflightPublish,
}

/// All packets in flight on one connection.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    next_sequence: u64,
    /// Of the payloads that wait for their acknowledgement.
    bytes: usize,
    /// The client has not sent these yet, so they have no packet id.
    unsent: VecDeque<Delivery>,
    unacked: BTreeMap<u16, Delivery>,
}

impl InflightPublish {
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Retained { payload, .. } | Self::OneShot(OneShot { payload, .. }) => payload.len(),
            Self::Subscribe(_) | Self::Unsubscribe(_) => 0,
        }
    }

    fn kind(&self) -> RequestKind {
        match self {
            Self::Retained { .. } | Self::OneShot(_) => RequestKind::Publish,
            Self::Subscribe(_) | Self::Unsubscribe(_) => RequestKind::Subscription,
        }
    }

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

impl Inflight {
    /// Records a packet and returns the request to pass to the client.
    pub(crate) fn push(&mut self, packet: InflightPublish, now: Instant) -> Request {
        let request = packet.request();
        self.bytes += packet.payload_bytes();
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.unsent.push_back(Delivery {
            sequence,
            since: now,
            packet,
        });
        request
    }

    /// The client sent its oldest unsent packet of this kind under this id.
    pub(crate) fn on_sent(&mut self, kind: RequestKind, id: u16) -> Result<(), ProtocolError> {
        let mut unsent = self.unsent.iter();
        let position = unsent.position(|delivery| delivery.packet.kind() == kind);
        let (Entry::Vacant(unacked), Some(position)) = (self.unacked.entry(id), position) else {
            return Err(ProtocolError);
        };
        if let Some(delivery) = self.unsent.remove(position) {
            unacked.insert(delivery);
        }
        Ok(())
    }

    /// Removes the packet that the broker acknowledged.
    pub(crate) fn remove(&mut self, id: u16) -> Option<InflightPublish> {
        let packet = self.unacked.remove(&id)?.packet;
        self.bytes -= packet.payload_bytes();
        Some(packet)
    }

    /// Whether the client received a packet before `then` that is not acknowledged.
    pub(crate) fn is_waiting_since(&self, then: Instant) -> bool {
        self.all().any(|delivery| delivery.since < then)
    }

    /// Removes all packets of a lost connection, in the order in which the client received them.
    pub(crate) fn take_all(&mut self) -> Vec<InflightPublish> {
        let next_sequence = self.next_sequence;
        let lost = std::mem::take(self);
        self.next_sequence = next_sequence;
        let mut deliveries: Vec<Delivery> = lost.unacked.into_values().collect();
        deliveries.extend(lost.unsent);
        deliveries.sort_unstable_by_key(|delivery| delivery.sequence);
        deliveries.into_iter().map(|delivery| delivery.packet).collect()
    }

    /// Whether a SUBSCRIBE waits for its SUBACK.
    pub(crate) fn is_subscribing(&self) -> bool {
        self.all()
            .any(|delivery| matches!(delivery.packet, InflightPublish::Subscribe(_)))
    }

    fn all(&self) -> impl Iterator<Item = &Delivery> {
        self.unsent.iter().chain(self.unacked.values())
    }

    /// Size of the payloads in flight.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of packets in flight.
    pub(crate) fn len(&self) -> usize {
        self.unsent.len() + self.unacked.len()
    }
}
