//! `healthcheck`: is the running bridge connected? Asks the broker, so nothing has to listen.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, Incoming, QoS};
use tokio::time::timeout;

use super::{CommandError, load};
use crate::{cli::SettingsArgs, mqtt::{client_options, topics::BridgeTopic}};

/// Containers give a check a few seconds.
const BUDGET: Duration = Duration::from_secs(3);

pub(super) async fn healthcheck(args: &SettingsArgs) -> Result<(), CommandError> {
    let settings = load(args)?;
    let topic = settings.topics().bridge(BridgeTopic::State);
    let options = client_options(&settings, "healthcheck").map_err(crate::bridge::StartError::from)?;
    match timeout(BUDGET, retained(options, &topic)).await {
        Ok(Ok(state)) if state.contains("\"online\"") => Ok(()),
        Ok(Ok(_)) => Err(CommandError::Unwell("the bridge is offline".to_owned())),
        Ok(Err(error)) => Err(CommandError::Unwell(format!("the broker cannot be reached: {error}"))),
        Err(_) => Err(CommandError::Unwell(format!("nothing on {topic} within {} s", BUDGET.as_secs()))),
    }
}

/// What a topic holds.
async fn retained(options: rumqttc::MqttOptions, topic: &str) -> Result<String, rumqttc::ConnectionError> {
    let (client, mut events) = AsyncClient::new(options, 4);
    loop {
        match events.poll().await? {
            Event::Incoming(Incoming::ConnAck(_)) => {
                // The channel is empty, so there is room.
                let _room = client.try_subscribe(topic, QoS::AtLeastOnce);
            }
            Event::Incoming(Incoming::Publish(message)) => return Ok(String::from_utf8_lossy(&message.payload).into_owned()),
            _ => {}
        }
    }
}
