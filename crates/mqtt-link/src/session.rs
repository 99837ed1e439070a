//! The sending half of one connection.

use rumqttc::{AsyncClient, ClientError, PublishOptions, QoS, SubscribeFilter};
use tokio_util::sync::CancellationToken;

use crate::{Filter, request::Request};

/// Sends requests on one connection.
#[derive(Debug)]
pub(crate) struct Session {
    client: AsyncClient,
    broker: String,
    abort: CancellationToken,
}

impl Session {
    /// The sending half of `client`, whose connection to this broker ends with `abort`.
    pub(crate) fn new(client: AsyncClient, broker: String, abort: CancellationToken) -> Self {
        Self {
            client,
            broker,
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
                let filter =
                    |filter: Filter| SubscribeFilter::new(filter.as_str().to_owned(), QoS::AtLeastOnce);
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

    /// Drops the connection without DISCONNECT. The driver reconnects.
    pub(crate) fn abort(&self) {
        self.abort.cancel();
    }
}
