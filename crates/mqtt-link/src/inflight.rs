//! Packets passed to the client and not acknowledged yet.
//!
//! The client assigns the packet id when it sends a packet, and reports ids in the order in which it received the
//! packets. So a packet waits here in a queue until its id is known, and under its id until it is acknowledged.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::{Filter, Topic, queue::OneShot, request::Request};

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

/// Whether acknowledgements arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckProgress {
    Moving,
    /// The broker answered two pings in a row, but did not acknowledge the oldest packet sent before the first one.
    Stalled,
}

/// A packet with its number in the order in which the client received it.
#[derive(Debug)]
struct Delivery {
    sequence: u64,
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
    /// The client holds this one back until the earlier packet with the same id is acknowledged.
    collided: Option<Delivery>,
    unacked: BTreeMap<u16, Delivery>,
    /// A later packet got the same id. Their acknowledgements cannot be distinguished.
    replaced: Vec<Delivery>,
    /// The oldest sent packet when the broker last answered a ping.
    oldest_at_ping: Option<u64>,
}

impl InflightPublish {
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Retained { payload, .. } | Self::OneShot(OneShot { payload, .. }) => payload.len(),
            Self::Subscribe(_) | Self::Unsubscribe(_) => 0,
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
    pub(crate) fn push(&mut self, packet: InflightPublish) -> Request {
        let request = packet.request();
        self.bytes += packet.payload_bytes();
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.unsent.push_back(Delivery { sequence, packet });
        request
    }

    /// The client sent its oldest unsent packet under this id.
    pub(crate) fn on_sent(&mut self, id: u16) -> Result<(), ProtocolError> {
        let delivery = self.collided.take().or_else(|| self.unsent.pop_front());
        if let Some(replaced) = self.unacked.insert(id, delivery.ok_or(ProtocolError)?) {
            self.replaced.push(replaced);
            return Err(ProtocolError);
        }
        Ok(())
    }

    /// The client holds its oldest unsent packet back, because the packet id is in use.
    pub(crate) fn on_collided(&mut self) -> Result<(), ProtocolError> {
        self.collided = Some(self.unsent.pop_front().ok_or(ProtocolError)?);
        Ok(())
    }

    /// Removes the packet that the broker acknowledged.
    pub(crate) fn remove(&mut self, id: u16) -> Option<InflightPublish> {
        let packet = self.unacked.remove(&id)?.packet;
        self.bytes -= packet.payload_bytes();
        Some(packet)
    }

    /// The broker answered a ping.
    pub(crate) fn on_ping_response(&mut self) -> AckProgress {
        let sent = self.unacked.values().chain(&self.collided);
        let oldest = sent.map(|delivery| delivery.sequence).min();
        let stalled = oldest.is_some() && oldest == self.oldest_at_ping;
        self.oldest_at_ping = oldest;
        if stalled {
            AckProgress::Stalled
        } else {
            AckProgress::Moving
        }
    }

    /// Removes all packets of a lost connection, in the order in which the client received them.
    pub(crate) fn take_all(&mut self) -> Vec<InflightPublish> {
        let next_sequence = self.next_sequence;
        let lost = std::mem::take(self);
        self.next_sequence = next_sequence;
        let mut deliveries: Vec<Delivery> = lost.unacked.into_values().collect();
        deliveries.extend(lost.replaced);
        deliveries.extend(lost.collided);
        deliveries.extend(lost.unsent);
        deliveries.sort_unstable_by_key(|delivery| delivery.sequence);
        deliveries.into_iter().map(|delivery| delivery.packet).collect()
    }

    /// Whether a SUBSCRIBE waits for its SUBACK.
    pub(crate) fn is_subscribing(&self) -> bool {
        let mut all = self.unsent.iter().chain(self.unacked.values());
        all.any(|delivery| matches!(delivery.packet, InflightPublish::Subscribe(_)))
    }

    /// Size of the payloads in flight.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of packets in flight.
    pub(crate) fn len(&self) -> usize {
        self.unsent.len() + usize::from(self.collided.is_some()) + self.unacked.len() + self.replaced.len()
    }
}
