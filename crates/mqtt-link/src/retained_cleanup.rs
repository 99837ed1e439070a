//! Clears retained topics over a short connection.

use std::time::Duration;

use rumqttc::{Event, Incoming, Publish};
use tokio::time::{error::Elapsed, timeout};

use crate::{
    Filter, LinkError, LinkFault, LinkOptions, Topic,
    probe_connection::{MESSAGE_TIMEOUT, ProbeConnection, ProbeOptions},
};

/// Connects with a temporary client id and without a last will, reads the retained messages of each filter in turn, and
/// clears the topics of those that `is_ours`. Waits at most `limit` for each step. Returns how many were cleared.
///
/// # Errors
/// If the options cannot work with any broker; see [`LinkError`]. The inner error is that of the connection.
pub async fn clear_retained(
    options: LinkOptions,
    filters: &[Filter],
    is_ours: impl Fn(&str, &[u8]) -> bool,
    limit: Duration,
) -> Result<Result<usize, LinkFault>, LinkError> {
    let options = ProbeConnection::options(options)?;
    let mut cleared = 0;
    for filter in filters {
        match clear(&options, filter, &is_ours, limit).await {
            Ok(count) => cleared += count,
            Err(fault) => return Ok(Err(fault)),
        }
    }
    Ok(Ok(cleared))
}

async fn clear(
    options: &ProbeOptions,
    filter: &Filter,
    is_ours: &impl Fn(&str, &[u8]) -> bool,
    limit: Duration,
) -> Result<usize, LinkFault> {
    let mut connection = ProbeConnection::open(options, filter.as_str(), limit).await?;
    let mut ours = Vec::new();
    // The first one may take as long as the subscription, the others come at once.
    let mut patience = limit;
    while let Ok(message) = next_retained(&mut connection, patience).await {
        let message = message?;
        patience = MESSAGE_TIMEOUT;
        let topic = String::from_utf8_lossy(&message.topic);
        if is_ours(&topic, &message.payload) {
            ours.extend(Topic::try_from(topic.into_owned()));
        }
    }
    for topic in &ours {
        connection.publish(topic, Vec::new(), true);
        timeout(limit, acknowledged(&mut connection))
            .await
            .map_err(|_| LinkFault::Unacknowledged)??;
    }
    Ok(ours.len())
}

/// The next retained message, or that of the subscription: without retained messages there is nothing to wait for.
async fn next_retained(
    connection: &mut ProbeConnection,
    mut patience: Duration,
) -> Result<Result<Publish, LinkFault>, Elapsed> {
    loop {
        match timeout(patience, connection.next_event()).await? {
            Ok(Event::Incoming(Incoming::Publish(message))) if message.retain => return Ok(Ok(message)),
            Ok(Event::Incoming(Incoming::SubAck(_))) => patience = MESSAGE_TIMEOUT,
            Ok(_) => {}
            Err(fault) => return Ok(Err(fault)),
        }
    }
}

async fn acknowledged(connection: &mut ProbeConnection) -> Result<(), LinkFault> {
    loop {
        if let Event::Incoming(Incoming::PubAck(_)) = connection.next_event().await? {
            return Ok(());
        }
    }
}
