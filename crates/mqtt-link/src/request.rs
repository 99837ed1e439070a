//! Packets to send.

use bytes::Bytes;

use crate::{Filter, Topic};

/// One packet for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Subscribe(Vec<Filter>),
    Unsubscribe(Filter),
    Publish {
        topic: Topic,
        payload: Bytes,
        retain: bool,
    },
}
