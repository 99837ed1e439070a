//! How to reach the broker, from the settings.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;

use super::{
    link::{Filter, LinkError, LinkOptions, Login, Topic, Transport, Will},
    publisher::state::availability,
};
use crate::{
    config::Settings,
    domain::{
        report::Availability,
        topics::{BridgeTopic, Topics},
    },
};

/// How to reach the broker of the settings.
///
/// # Errors
/// If the base topic leaves no room for a topic below it.
pub fn link_options(settings: &Settings, topics: &Topics) -> Result<LinkOptions, LinkError> {
    let mqtt = &settings.mqtt;
    let will_topic = topics.bridge(BridgeTopic::State);
    let sensors: BTreeSet<&str> = settings
        .rules
        .sensors
        .iter()
        .filter_map(|sensor| Some(sensor.topic()?.topic.as_str()))
        .collect();
    let filters = topics
        .subscriptions()
        .into_iter()
        .chain(sensors.into_iter().map(str::to_owned))
        .map(Filter::try_from)
        .collect::<Result<_, _>>();
    // What the bridge publishes itself, to see what earlier runs left there, whether it comes back, and other bridges.
    let own = [
        BridgeTopic::Devices,
        BridgeTopic::Groups,
        BridgeTopic::State,
        BridgeTopic::Health,
    ];
    let discovery = settings.homeassistant.enabled;
    let optional = own
        .into_iter()
        .map(|topic| topics.bridge(topic))
        .chain(discovery.then(|| topics.discovery_subscription()))
        .map(Filter::try_from)
        .collect::<Result<_, _>>();
    let faulty = |_| LinkError::Text {
        what: "base topic or discovery prefix",
    };
    Ok(LinkOptions {
        brokers: mqtt.brokers.clone(),
        client_id: mqtt.client_id.clone(),
        login: mqtt.login.as_ref().map(|login| Login {
            username: login.username.clone(),
            password: login
                .password
                .as_ref()
                .map_or_else(String::new, |password| password.expose().to_owned()),
        }),
        keep_alive: whole_seconds(mqtt.keep_alive),
        will: Will {
            topic: Topic::try_from(will_topic).map_err(|_| LinkError::Text { what: "base topic" })?,
            payload: Bytes::from(availability(Availability::Offline)),
        },
        subscriptions: filters.map_err(faulty)?,
        optional_subscriptions: optional.map_err(faulty)?,
        transport: mqtt.tls.clone().map_or(Transport::Tcp, Transport::Tls),
    })
}

/// MQTT counts whole seconds.
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs().max(1))
}
