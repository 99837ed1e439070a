//! Whether the broker delivers what the bridge publishes and what is sent to it. Brokers drop a message without an error.

use std::time::Duration;

use ha_discovery::NodeId;
use planner::OutletPath;

use super::ExitError;
use crate::{
    app::bridge::StartError,
    config::Settings,
    domain::topics::{BridgeTopic, ParsedTopic, Topics, Verb},
    mqtt::link::{LinkError, LinkOptions, LoopbackCheck, Topic, check_loopback},
};

/// More than the discovery message of the largest strip.
const LARGE: usize = 32 * 1024;

/// A message that has to come back, and what to do if it does not.
struct Loopback {
    topic: String,
    payload: Vec<u8>,
    hint: &'static str,
}

const ACCESS: &str = "allow this user to write and read there in the broker's access rules";
const SIZE: &str = "raise the size limits of the broker (Mosquitto: message_size_limit, max_packet_size)";

/// Publishes messages that mean nothing to a bridge that runs and to Home Assistant, and reads them back. `state` is what
/// `bridge/state` holds.
pub(super) async fn permissions(
    settings: &Settings,
    options: &LinkOptions,
    state: &[u8],
    limit: Duration,
) -> Result<Result<String, String>, ExitError> {
    let topics = settings.topics();
    for Loopback { topic, payload, hint } in loopbacks(settings, &topics, state) {
        let bytes = payload.len();
        let to = Topic::try_from(topic.as_str())
            .map_err(|_| StartError::from(LinkError::Text { what: "topic" }))?;
        let checked = check_loopback(options.clone(), &to, payload, limit).await;
        match checked.map_err(StartError::from)? {
            LoopbackCheck::Received => {}
            LoopbackCheck::NotReceived => {
                return Ok(Err(format!(
                    "a message of {bytes} bytes published to {topic} is not received; {hint}"
                )));
            }
            LoopbackCheck::Failed(fault) => {
                return Ok(Err(format!(
                    "a message of {bytes} bytes published to {topic}: {fault}; {hint}"
                )));
            }
        }
    }
    Ok(Ok("publish and subscribe allowed".to_owned()))
}

fn loopbacks(settings: &Settings, topics: &Topics, state: &[u8]) -> Vec<Loopback> {
    let access = |topic, payload| Loopback {
        topic,
        payload,
        hint: ACCESS,
    };
    let command = settings.devices.first().map(|device| ParsedTopic::Outlet {
        path: OutletPath::device(device.id.clone()),
        verb: Verb::Set,
    });
    // Nothing is discovered there, and an empty message removes nothing.
    let node = "tapo2mqtt-check".parse::<NodeId>().ok();
    let discovery = node
        .filter(|_| settings.homeassistant.enabled)
        .map(ParsedTopic::DiscoveryConfig);
    let empty = command.into_iter().chain(discovery);
    let mut all: Vec<_> = empty
        .map(|topic| access(topics.topic_of(&topic), Vec::new()))
        .collect();
    let bridge_state = topics.bridge(BridgeTopic::State);
    all.push(access(bridge_state.clone(), state.to_vec()));
    all.push(Loopback {
        topic: bridge_state,
        payload: padded(state),
        hint: SIZE,
    });
    all
}

/// The same JSON with white space before its end.
fn padded(state: &[u8]) -> Vec<u8> {
    let mut payload = state.to_vec();
    let end = payload.pop();
    payload.resize(LARGE, b' ');
    payload.extend(end);
    payload
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_padded_state_is_the_same_state() {
        let state = br#"{"state":"online"}"#;
        let padded = padded(state);
        assert!(padded.len() > LARGE);
        let parsed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(parsed(&padded), parsed(state));
    }
}
