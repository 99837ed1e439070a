//! Packets to send.

use bytes::Bytes;

use crate::{Filter, Topic};

/// The client passes publishes on in their order, and subscriptions in theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Publish,
    /// SUBSCRIBE or UNSUBSCRIBE.
    Subscription,
}

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
