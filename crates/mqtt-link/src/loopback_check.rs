//! Publishes a message and checks that it is received, over a short connection.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::{Event, Incoming};
use tokio::time::timeout;

use crate::{
    LinkError, LinkFault, LinkOptions, Topic,
    probe_connection::{MESSAGE_TIMEOUT, ProbeConnection, ProbeOptions},
};

/// Whether the broker delivers a published message to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoopbackCheck {
    /// The message was received.
    Received,
    /// The broker acknowledged the message and did not deliver it: the access rules deny publish or subscribe.
    /// Brokers need not report that, and Mosquitto does not.
    NotReceived,
    /// The connection failed.
    Failed(LinkFault),
}

/// Connects as [`probe_retained`](crate::probe_retained) does and publishes a message that is not retained to a topic that
/// it subscribed to. Waits at most `limit` for the connection, and at most `limit` for the message.
///
/// # Errors
/// If the options cannot work with any broker; see [`LinkError`].
pub async fn check_loopback(
    options: LinkOptions,
    topic: &Topic,
    payload: impl Into<Bytes>,
    limit: Duration,
) -> Result<LoopbackCheck, LinkError> {
    let options = ProbeConnection::options(options)?;
    Ok(check(&options, topic, payload.into(), limit)
        .await
        .unwrap_or_else(LoopbackCheck::Failed))
}

async fn check(
    options: &ProbeOptions,
    topic: &Topic,
    payload: Bytes,
    limit: Duration,
) -> Result<LoopbackCheck, LinkFault> {
    let mut connection = ProbeConnection::open(options, topic.as_str(), limit).await?;
    // The client does not keep publishes behind subscriptions. Without an answer the message does not come either.
    if let Ok(subscribed) = timeout(limit, connection.subscribed()).await {
        subscribed?;
    }
    connection.publish(topic, payload, false);
    let acknowledged_first = timeout(limit, acknowledged_first(&mut connection));
    if !acknowledged_first.await.unwrap_or(Ok(true))? {
        return Ok(LoopbackCheck::Received);
    }
    match timeout(MESSAGE_TIMEOUT, connection.next_message()).await {
        Ok(message) => message.map(|_| LoopbackCheck::Received),
        Err(_) => Ok(LoopbackCheck::NotReceived),
    }
}

/// Whether PUBACK arrives before the message itself. Ignores a retained message of the topic.
async fn acknowledged_first(connection: &mut ProbeConnection) -> Result<bool, LinkFault> {
    loop {
        match connection.next_event().await? {
            Event::Incoming(Incoming::Publish(message)) if !message.retain => return Ok(false),
            Event::Incoming(Incoming::PubAck(_)) => return Ok(true),
            _ => {}
        }
    }
}
