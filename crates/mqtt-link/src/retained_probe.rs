//! Reads one retained topic over a short connection.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::{Event, Incoming};
use tokio::time::timeout;

use crate::{
    LinkError, LinkFault, LinkOptions, Topic,
    probe_connection::{MESSAGE_TIMEOUT, ProbeConnection, ProbeOptions},
};

/// The result of reading a retained topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetainedProbe {
    /// The topic has this retained payload.
    Payload(Bytes),
    /// The connection works, and the topic has no retained payload.
    Empty,
    /// The connection failed.
    Failed(LinkFault),
}

/// Connects with a temporary client id and without a last will, reads a retained topic and disconnects. Waits at
/// most `limit` for the connection, and at most `limit` for the topic.
///
/// # Errors
/// If the options cannot work with any broker; see [`LinkError`].
pub async fn probe_retained(
    options: LinkOptions,
    topic: &Topic,
    limit: Duration,
) -> Result<RetainedProbe, LinkError> {
    let options = ProbeConnection::options(options)?;
    Ok(probe(&options, topic, limit)
        .await
        .unwrap_or_else(RetainedProbe::Failed))
}

async fn probe(options: &ProbeOptions, topic: &Topic, limit: Duration) -> Result<RetainedProbe, LinkFault> {
    let mut connection = ProbeConnection::open(options, topic.as_str(), limit).await?;
    let payload = timeout(limit, retained_payload(&mut connection))
        .await
        .unwrap_or(Ok(None))?;
    Ok(payload.map_or(RetainedProbe::Empty, RetainedProbe::Payload))
}

/// The retained payload, if it arrives before SUBACK or soon after it.
async fn retained_payload(connection: &mut ProbeConnection) -> Result<Option<Bytes>, LinkFault> {
    loop {
        match connection.next_event().await? {
            Event::Incoming(Incoming::Publish(message)) => return Ok(Some(message.payload)),
            Event::Incoming(Incoming::SubAck(_)) => break,
            _ => {}
        }
    }
    timeout(MESSAGE_TIMEOUT, connection.next_message())
        .await
        .map_or(Ok(None), |message| message.map(Some))
}
