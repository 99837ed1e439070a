//! The sending half of one connection.

use rumqttc::{AsyncClient, ClientError, PublishOptions, QoS, SubscribeFilter};

use crate::{Filter, LinkFault, abort::Abort, request::Request};

/// Sends requests on one connection.
#[derive(Debug)]
pub(crate) struct Session {
    client: AsyncClient,
    broker: String,
    /// The QoS of subscriptions.
    qos: QoS,
    abort: Abort,
}

impl Session {
    /// The sending half of `client`, whose connection to this broker ends with `abort`. It subscribes with `qos`.
    pub(crate) fn new(client: AsyncClient, broker: String, qos: QoS, abort: Abort) -> Self {
        Self {
            client,
            broker,
            qos,
            abort,
        }
    }

    /// The broker, as `host:port`.
    pub(crate) fn broker(&self) -> &str {
        &self.broker
    }

    /// Passes a request to the client without waiting. Fails only if the connection is closed, or if more requests
    /// are in flight than the window allows.
    pub(crate) fn send(&self, request: Request) -> Result<(), ClientError> {
        match request {
            Request::Subscribe(filters) => {
                let filter = |filter: Filter| SubscribeFilter::new(filter.as_str().to_owned(), self.qos);
                self.client.try_subscribe_many(filters.into_iter().map(filter))
            }
            Request::Unsubscribe(filter) => self.client.try_unsubscribe(filter.as_str()),
            Request::Publish {
                topic,
                payload,
                retain,
            } => {
                let options = PublishOptions::at_least_once().retain(retain);
                self.client.try_publish(topic.as_str(), payload, options)
            }
        }
    }

    /// Sends DISCONNECT, so that the broker discards the last will. The driver ends.
    pub(crate) fn disconnect(&self) -> Result<(), ClientError> {
        self.client.try_disconnect_now()
    }

    /// Drops the connection without DISCONNECT, because of this. The driver reconnects.
    pub(crate) fn abort(&self, fault: LinkFault) {
        self.abort.abort(fault);
    }
}
