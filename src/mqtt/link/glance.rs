//! One short connection, to see whether the broker lets us in and what a topic holds.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::{AsyncClient, Event, Incoming, QoS};
use tokio::time::timeout;

use super::{LinkError, LinkFault, LinkOptions, Topic, fault::Stage, options};

/// How long after its answer to the subscription a broker may take to send what it holds. Brokers send both
/// together.
const SILENCE: Duration = Duration::from_millis(500);

/// What a look at the broker showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Glance {
    /// The topic holds this.
    Holds(Bytes),
    /// We were let in, and the topic holds nothing.
    Nothing,
    /// We were not let in, for this reason.
    Refused(LinkFault),
}

/// Connects under a client id of its own, without a last will, looks at a retained topic and leaves.
/// Waits at most `budget` for the broker, and as long again for the topic.
///
/// # Errors
/// If the options cannot work with any broker; see [`LinkError`].
pub async fn glance(mut options: LinkOptions, topic: &Topic, budget: Duration) -> Result<Glance, LinkError> {
    // The same id would throw the running bridge out.
    options.client_id = format!("{}-{}", options.client_id, std::process::id());
    let client = options.to_client(None)?;
    Ok(look(client, topic, budget).await.unwrap_or_else(Glance::Refused))
}

async fn look(client: rumqttc::MqttOptions, topic: &Topic, budget: Duration) -> Result<Glance, LinkFault> {
    let (client, mut events) = AsyncClient::new(client, 4);
    events.set_network_options(options::network());
    timeout(budget, connected(&mut events))
        .await
        .map_err(|_| LinkFault::Timeout)??;
    // The channel is empty, so there is room.
    let _room = client.try_subscribe(topic.as_str(), QoS::AtLeastOnce);
    let held = timeout(budget, held(&mut events)).await.unwrap_or(Ok(None))?;
    Ok(held.map_or(Glance::Nothing, Glance::Holds))
}

async fn connected(events: &mut rumqttc::EventLoop) -> Result<(), LinkFault> {
    loop {
        if let Event::Incoming(Incoming::ConnAck(_)) = poll(events, Stage::Connecting).await? {
            return Ok(());
        }
    }
}

/// What the topic holds, if it comes before the answer to the subscription or soon after it.
async fn held(events: &mut rumqttc::EventLoop) -> Result<Option<Bytes>, LinkFault> {
    loop {
        match poll(events, Stage::Connected).await? {
            Event::Incoming(Incoming::Publish(message)) => return Ok(Some(message.payload)),
            Event::Incoming(Incoming::SubAck(_)) => break,
            _ => {}
        }
    }
    timeout(SILENCE, first_message(events))
        .await
        .map_or(Ok(None), |message| message.map(Some))
}

async fn first_message(events: &mut rumqttc::EventLoop) -> Result<Bytes, LinkFault> {
    loop {
        if let Event::Incoming(Incoming::Publish(message)) = poll(events, Stage::Connected).await? {
            return Ok(message.payload);
        }
    }
}

async fn poll(events: &mut rumqttc::EventLoop, stage: Stage) -> Result<Event, LinkFault> {
    events.poll().await.map_err(|error| LinkFault::of(&error, stage))
}
