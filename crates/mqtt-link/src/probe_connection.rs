//! One short connection, for checks that do not need a link.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, MqttOptions, PublishOptions, QoS, SubscribeReasonCode,
};
use tokio::time::timeout;

use crate::{
    LinkError, LinkFault, LinkOptions, Topic, broker_list::LONGEST_OF_SEVERAL, fault::Stage, options,
};

/// How long after SUBACK or PUBACK a message may arrive. Brokers send both together.
pub(crate) const MESSAGE_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection that subscribes to one topic.
pub(crate) struct ProbeConnection {
    client: AsyncClient,
    events: EventLoop,
    filter: String,
}

/// How a probe connects.
pub(crate) struct ProbeOptions {
    brokers: Vec<MqttOptions>,
}

impl ProbeConnection {
    /// The client options of a probe: no last will, and another client id, because the broker would disconnect the
    /// running client with the same id.
    pub(crate) fn options(mut options: LinkOptions) -> Result<ProbeOptions, LinkError> {
        options.client_id = format!("{}-{}", options.client_id, std::process::id());
        let clients = options.to_clients(None)?;
        Ok(ProbeOptions {
            brokers: clients.into_iter().map(|(_, client)| client).collect(),
        })
    }

    /// Connects to the first broker that accepts the connection within `limit`, and sends SUBSCRIBE. The fault is that
    /// of the last one.
    pub(crate) async fn open(
        options: &ProbeOptions,
        filter: &str,
        limit: Duration,
    ) -> Result<Self, LinkFault> {
        let mut fault = LinkFault::UnknownHost;
        let limit = match options.brokers.len() {
            0 | 1 => limit,
            _ => limit.min(LONGEST_OF_SEVERAL),
        };
        for broker in &options.brokers {
            match Self::open_at(broker.clone(), filter, limit).await {
                Ok(connection) => return Ok(connection),
                Err(why) => fault = why,
            }
        }
        Err(fault)
    }

    async fn open_at(broker: MqttOptions, filter: &str, limit: Duration) -> Result<Self, LinkFault> {
        let (client, mut events) = AsyncClient::builder(broker).capacity(4).build();
        events.set_network_options(options::network());
        let filter = filter.to_owned();
        let mut connection = Self {
            client,
            events,
            filter,
        };
        timeout(limit, connection.connected())
            .await
            .map_err(|_| LinkFault::Timeout)??;
        // Its channel is empty, so there is room.
        let _room = connection
            .client
            .try_subscribe(connection.filter.as_str(), QoS::AtLeastOnce);
        Ok(connection)
    }

    /// Publishes a message.
    pub(crate) fn publish(&self, topic: &Topic, payload: impl Into<Bytes>, retain: bool) {
        // One at a time, so there is room.
        let options = PublishOptions::at_least_once().retain(retain);
        let _room = self.client.try_publish(topic.as_str(), payload.into(), options);
    }

    /// Waits for the next event of the established connection. A subscription that is denied is a fault.
    pub(crate) async fn next_event(&mut self) -> Result<Event, LinkFault> {
        let event = self.poll(Stage::Connected).await?;
        match &event {
            Event::Incoming(Incoming::SubAck(ack))
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) =>
            {
                Err(LinkFault::SubscriptionDenied(self.filter.clone()))
            }
            _ => Ok(event),
        }
    }

    /// Waits for the next message.
    pub(crate) async fn next_message(&mut self) -> Result<Bytes, LinkFault> {
        loop {
            if let Event::Incoming(Incoming::Publish(message)) = self.next_event().await? {
                return Ok(message.payload);
            }
        }
    }

    /// Waits for SUBACK. Drops messages that come before it.
    pub(crate) async fn subscribed(&mut self) -> Result<(), LinkFault> {
        loop {
            if let Event::Incoming(Incoming::SubAck(_)) = self.next_event().await? {
                return Ok(());
            }
        }
    }

    async fn connected(&mut self) -> Result<(), LinkFault> {
        loop {
            if let Event::Incoming(Incoming::ConnAck(_)) = self.poll(Stage::Connecting).await? {
                return Ok(());
            }
        }
    }

    async fn poll(&mut self, stage: Stage) -> Result<Event, LinkFault> {
        self.events
            .poll()
            .await
            .map_err(|error| LinkFault::from_client(&error, stage))
    }
}
