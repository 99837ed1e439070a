//! Packets that are handed to the client and not acknowledged yet.
//!
//! The client gives each packet its id only when it sends it, and says so in the order of the hand-over. So
//! a packet waits here in a row until its id is known, and under its id until it is acknowledged.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{Filter, Topic, queue::OneShot};

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

/// What a packet is for.
#[derive(Debug)]
pub(super) enum Parcel {
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

/// The client reported what cannot be: the books no longer match, and the connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfStep;

/// Whether acknowledgements come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Moving,
    /// The broker answered two pings in a row, yet not the oldest packet sent before the first of them.
    Stalled,
}

/// A parcel, numbered in the order of its hand-over.
#[derive(Debug)]
struct Shipment {
    serial: u64,
    parcel: Parcel,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Transit {
    next_serial: u64,
    /// Packet id not yet known.
    handed: VecDeque<Shipment>,
    /// Its packet id is still in use: the client sends it when the earlier packet is acknowledged.
    collided: Option<Shipment>,
    unacked: BTreeMap<u16, Shipment>,
    /// Took an id that was in use. Nobody can tell their acknowledgements apart.
    overtaken: Vec<Shipment>,
    /// The oldest packet with an id when the broker last answered a ping.
    oldest_at_ping: Option<u64>,
}

impl Transit {
    /// Books a parcel that is about to be handed to the client.
    pub(super) fn hand(&mut self, parcel: Parcel) -> Request {
        let request = parcel.request();
        let serial = self.next_serial;
        self.next_serial += 1;
        self.handed.push_back(Shipment { serial, parcel });
        request
    }

    /// The client sent the oldest packet handed to it, under this id.
    pub(super) fn sent(&mut self, id: u16) -> Result<(), OutOfStep> {
        let shipment = self.collided.take().or_else(|| self.handed.pop_front());
        if let Some(overtaken) = self.unacked.insert(id, shipment.ok_or(OutOfStep)?) {
            self.overtaken.push(overtaken);
            return Err(OutOfStep);
        }
        Ok(())
    }

    /// The client holds the oldest packet handed to it back, because its id is in use.
    pub(super) fn collided(&mut self) -> Result<(), OutOfStep> {
        self.collided = Some(self.handed.pop_front().ok_or(OutOfStep)?);
        Ok(())
    }

    /// The broker answered the packet with this id.
    pub(super) fn answered(&mut self, id: u16) -> Option<Parcel> {
        self.unacked.remove(&id).map(|shipment| shipment.parcel)
    }

    /// The broker answered a ping.
    pub(super) fn pinged(&mut self) -> Progress {
        let sent = self.unacked.values().chain(&self.collided);
        let oldest = sent.map(|shipment| shipment.serial).min();
        let stalled = oldest.is_some() && oldest == self.oldest_at_ping;
        self.oldest_at_ping = oldest;
        if stalled {
            Progress::Stalled
        } else {
            Progress::Moving
        }
    }

    /// The connection is gone: nothing is under way any more. Returns what was, in the order of its
    /// hand-over.
    pub(super) fn lose(&mut self) -> Vec<Parcel> {
        let next_serial = self.next_serial;
        let lost = std::mem::take(self);
        self.next_serial = next_serial;
        let mut shipments: Vec<Shipment> = lost.unacked.into_values().collect();
        shipments.extend(lost.overtaken);
        shipments.extend(lost.collided);
        shipments.extend(lost.handed);
        shipments.sort_unstable_by_key(|shipment| shipment.serial);
        shipments.into_iter().map(|shipment| shipment.parcel).collect()
    }

    /// Whether a subscription waits for its answer.
    pub(super) fn is_subscribing(&self) -> bool {
        let mut all = self.handed.iter().chain(self.unacked.values());
        all.any(|shipment| matches!(shipment.parcel, Parcel::Subscribe(_)))
    }

    /// How many packets are under way.
    pub(super) fn len(&self) -> usize {
        self.handed.len() + usize::from(self.collided.is_some()) + self.unacked.len() + self.overtaken.len()
    }
}
