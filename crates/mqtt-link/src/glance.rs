//! One short connection, to see whether the broker lets us in, what a topic holds, and whether messages get through.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};
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
pub async fn glance(options: LinkOptions, topic: &Topic, budget: Duration) -> Result<Glance, LinkError> {
    let client = visitor(options)?;
    Ok(look(client, topic, budget).await.unwrap_or_else(Glance::Refused))
}

/// Whether a message comes through the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Echo {
    /// It came back.
    Heard,
    /// It was taken and did not come back: the access rules deny writing or reading there. Brokers need not say
    /// so, and Mosquitto does not.
    Silent,
    /// We were not let in, for this reason.
    Refused(LinkFault),
}

/// Connects as [`glance`] does and publishes an empty message to a topic that it subscribed to. Waits at most
/// `budget` for the broker, and as long again for the message.
///
/// # Errors
/// If the options cannot work with any broker; see [`LinkError`].
pub async fn echo(options: LinkOptions, topic: &Topic, budget: Duration) -> Result<Echo, LinkError> {
    let client = visitor(options)?;
    Ok(call(client, topic, budget).await.unwrap_or_else(Echo::Refused))
}

fn visitor(mut options: LinkOptions) -> Result<MqttOptions, LinkError> {
    // The same id would throw the running bridge out.
    options.client_id = format!("{}-{}", options.client_id, std::process::id());
    options.to_client(None)
}

/// A connection on which the subscription is asked for.
async fn visit(
    client: MqttOptions,
    topic: &Topic,
    budget: Duration,
) -> Result<(AsyncClient, EventLoop), LinkFault> {
    let (client, mut events) = AsyncClient::new(client, 4);
    events.set_network_options(options::network());
    timeout(budget, connected(&mut events))
        .await
        .map_err(|_| LinkFault::Timeout)??;
    // The channel is empty, so there is room.
    let _room = client.try_subscribe(topic.as_str(), QoS::AtLeastOnce);
    Ok((client, events))
}

async fn look(client: MqttOptions, topic: &Topic, budget: Duration) -> Result<Glance, LinkFault> {
    let (_client, mut events) = visit(client, topic, budget).await?;
    let held = timeout(budget, held(&mut events)).await.unwrap_or(Ok(None))?;
    Ok(held.map_or(Glance::Nothing, Glance::Holds))
}

async fn call(client: MqttOptions, topic: &Topic, budget: Duration) -> Result<Echo, LinkFault> {
    let (client, mut events) = visit(client, topic, budget).await?;
    // Behind the subscription, so it is in force by then.
    let _room = client.try_publish(topic.as_str(), QoS::AtLeastOnce, false, Vec::new());
    let acknowledged_first = timeout(budget, acknowledged_first(&mut events));
    if !acknowledged_first.await.unwrap_or(Ok(true))? {
        return Ok(Echo::Heard);
    }
    match timeout(SILENCE, first_message(&mut events)).await {
        Ok(message) => message.map(|_| Echo::Heard),
        Err(_) => Ok(Echo::Silent),
    }
}

/// Whether the acknowledgement of a publish comes before the message itself. What the topic held before is no
/// echo.
async fn acknowledged_first(events: &mut EventLoop) -> Result<bool, LinkFault> {
    loop {
        match poll(events, Stage::Connected).await? {
            Event::Incoming(Incoming::Publish(message)) if !message.retain => return Ok(false),
            Event::Incoming(Incoming::PubAck(_)) => return Ok(true),
            _ => {}
        }
    }
}

async fn connected(events: &mut EventLoop) -> Result<(), LinkFault> {
    loop {
        if let Event::Incoming(Incoming::ConnAck(_)) = poll(events, Stage::Connecting).await? {
            return Ok(());
        }
    }
}

/// What the topic holds, if it comes before the answer to the subscription or soon after it.
async fn held(events: &mut EventLoop) -> Result<Option<Bytes>, LinkFault> {
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

async fn first_message(events: &mut EventLoop) -> Result<Bytes, LinkFault> {
    loop {
        if let Event::Incoming(Incoming::Publish(message)) = poll(events, Stage::Connected).await? {
            return Ok(message.payload);
        }
    }
}

async fn poll(events: &mut EventLoop, stage: Stage) -> Result<Event, LinkFault> {
    events.poll().await.map_err(|error| LinkFault::of(&error, stage))
}
