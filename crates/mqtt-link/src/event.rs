//! What happens on a link.

use bytes::Bytes;

use crate::{Filter, LinkFault};

/// An event on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// The broker accepted a connection. The link republishes everything.
    Up,
    /// There is no connection. Follows the loss of a connection, and each new reason for which reconnects fail.
    Down {
        /// The reason.
        fault: LinkFault,
    },
    /// A message on a subscribed topic.
    Message {
        /// The topic of the message.
        topic: String,
        /// The payload of the message.
        payload: Bytes,
        /// The retain flag: the broker stored the message before this subscription.
        retain: bool,
    },
    /// The broker denied a subscription. The link subscribes again later, and on the next connection.
    SubscriptionRefused {
        /// The denied filter.
        filter: Filter,
    },
    /// The link does not subscribe to these optional filters any more: a message that is too large ended the connection
    /// twice.
    SubscriptionsGivenUp {
        /// The filters.
        filters: Vec<Filter>,
    },
}
