//! What the driver reports to the link.

use rumqttc::{Event, Incoming, Outgoing, Publish, SubscribeReasonCode};

use crate::{LinkFault, request::RequestKind, session::Session};

/// An event of the driver, in the order in which it happens.
#[derive(Debug)]
pub(crate) enum DriverEvent {
    /// The broker accepted a connection.
    Connected(Session),
    /// The connection ended, or reconnects fail for a new reason.
    Disconnected(LinkFault),
    /// The client sent its oldest unsent request of this kind under this packet id.
    Sent(RequestKind, u16),
    /// The broker acknowledged a PUBLISH or an UNSUBSCRIBE.
    Acknowledged(u16),
    /// The broker answered a SUBSCRIBE.
    SubAck(u16, Vec<SubscribeReasonCode>),
    /// The broker answered a ping.
    PingResp,
    /// A message arrived.
    Message(Publish),
}

impl DriverEvent {
    /// Whether the broker sent something.
    pub(crate) fn is_from_broker(&self) -> bool {
        match self {
            Self::Acknowledged(_) | Self::SubAck(..) | Self::PingResp | Self::Message(_) => true,
            Self::Connected(_) | Self::Disconnected(_) | Self::Sent(..) => false,
        }
    }

    /// Translates an event of the client. CONNACK takes the session.
    pub(crate) fn from_client(event: Event, session: &mut Option<Session>) -> Option<Self> {
        match event {
            Event::Incoming(Incoming::ConnAck(_)) => session.take().map(Self::Connected),
            Event::Incoming(Incoming::Publish(message)) => Some(Self::Message(message)),
            Event::Incoming(Incoming::PubAck(ack)) => Some(Self::Acknowledged(ack.pkid)),
            Event::Incoming(Incoming::UnsubAck(ack)) => Some(Self::Acknowledged(ack.pkid)),
            Event::Incoming(Incoming::SubAck(ack)) => Some(Self::SubAck(ack.pkid, ack.return_codes)),
            Event::Incoming(Incoming::PingResp) => Some(Self::PingResp),
            Event::Outgoing(Outgoing::Publish(id)) => Some(Self::Sent(RequestKind::Publish, id)),
            Event::Outgoing(Outgoing::Subscribe(id) | Outgoing::Unsubscribe(id)) => {
                Some(Self::Sent(RequestKind::Subscription, id))
            }
            Event::Incoming(_) | Event::Outgoing(_) => None,
        }
    }
}
