//! Sends a request and waits for its response, over a short connection.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    LinkError, LinkFault, LinkOptions, Topic,
    probe_connection::{ProbeConnection, ProbeOptions},
};

/// What a request got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// The first response that was accepted.
    Response(Bytes),
    /// None within the time.
    NoResponse,
    /// The connection failed.
    Failed(LinkFault),
}

/// Connects as [`probe_retained`](crate::probe_retained) does, publishes a request that is not retained, and waits for a
/// response that `accepts` takes. Waits at most `limit` for the connection, and at most `limit` for the response.
///
/// # Errors
/// If the options cannot work with any broker; see [`LinkError`].
pub async fn exchange(
    options: LinkOptions,
    request: (&Topic, Bytes),
    responses: &Topic,
    accepts: impl Fn(&[u8]) -> bool,
    limit: Duration,
) -> Result<Exchange, LinkError> {
    let options = ProbeConnection::options(options)?;
    let response = exchanged(&options, request, responses, accepts, limit).await;
    Ok(response.unwrap_or_else(Exchange::Failed))
}

async fn exchanged(
    options: &ProbeOptions,
    (topic, payload): (&Topic, Bytes),
    responses: &Topic,
    accepts: impl Fn(&[u8]) -> bool,
    limit: Duration,
) -> Result<Exchange, LinkFault> {
    let mut connection = ProbeConnection::open(options, responses.as_str(), limit).await?;
    // The broker handles SUBSCRIBE first, so the subscription is active by then.
    connection.publish(topic, payload, false);
    let accepted = async {
        loop {
            let response = connection.next_message().await?;
            if accepts(&response) {
                return Ok(Exchange::Response(response));
            }
        }
    };
    timeout(limit, accepted).await.unwrap_or(Ok(Exchange::NoResponse))
}
