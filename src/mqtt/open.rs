//! Sets up the event loop: the link, the tree, what Home Assistant was told.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use ha_discovery::Layout;

use super::{
    discovery::Discovery,
    health::HealthCollector,
    home::{DiscoveryTracker, EntityOwner},
    link::{
        Authorities, ClientCertificate, Filter, Link, LinkError, LinkOptions, Login, Tls, Topic, Transport,
        Will,
    },
    reload::Reloads,
    state::availability,
    task::{Channels, MqttTask},
    topics::{BridgeTopic, Topics},
};
use crate::mqtt::{bridge_info::BridgeInfo, publisher::Publisher, status_cache::StatusCache};
use crate::{
    app::reload::Loader,
    config::{self, Settings, TlsRoots},
    domain::{device_metrics::MetricsRegistry, report::Availability},
    store::Store,
    system::{clock::Clock, tasks::Tasks, telemetry::LogLevel},
};
use planner::DeviceId;

/// What the event loop is made of.
#[derive(Debug)]
pub struct Parts {
    /// The channels to the other tasks.
    pub wires: Channels,
    /// What the bridge says of itself.
    pub about: BridgeInfo,
    /// The level of the log, which a request can change.
    pub log_level: LogLevel,
    /// What survives a restart.
    pub keeper: Store,
    /// Reads the settings again; without it there is no reload.
    pub loader: Option<Loader>,
    /// How the devices' links are doing.
    pub board: MetricsRegistry,
    /// The wall clock.
    pub clock: Clock,
}

impl MqttTask {
    /// Opens the link and returns at once; the connection is made in the background.
    ///
    /// # Errors
    /// If the settings cannot work with any broker; see [`LinkError`].
    pub fn open(settings: &Settings, parts: Parts, tasks: &Tasks) -> Result<Self, LinkError> {
        let topics = settings.topics();
        let configured: BTreeSet<DeviceId> =
            settings.devices.iter().map(|device| device.id.clone()).collect();
        let mut options = link_options(settings, &topics)?;
        let home = if settings.homeassistant.enabled {
            let filter = Filter::try_from(topics.discovery_subscription());
            let faulty = |_| LinkError::Text {
                what: "discovery prefix",
            };
            options.subscriptions.push(filter.map_err(faulty)?);
            Some(home(settings, &topics, &parts.keeper))
        } else {
            None
        };
        let (link, driver) = Link::open(options)?;
        tasks.spawn("mqtt driver", driver.run());
        let reloads = Reloads::new(parts.loader, settings.clone(), tasks.clone());
        let vitals = HealthCollector::new(
            parts.board,
            tasks.clone(),
            parts.clock.clone(),
            parts.keeper.clone(),
        );
        let statuses = StatusCache::new(Arc::new(settings.rules.clone()));
        let tree = Publisher::new(link, topics, home, parts.about, configured, statuses, parts.clock);
        Ok(Self::assemble(
            tree,
            parts.wires,
            parts.log_level,
            parts.keeper,
            vitals,
            reloads,
        ))
    }
}

fn home(settings: &Settings, topics: &Topics, keeper: &Store) -> DiscoveryTracker {
    let layout = if settings.homeassistant.child_devices {
        Layout::ChildDevices
    } else {
        Layout::Flat
    };
    let discovery = Discovery::new(topics.clone(), layout);
    let bridge_state = topics.bridge(BridgeTopic::State);
    let devices = settings
        .devices
        .iter()
        .map(|device| EntityOwner::Device(device.id.clone()));
    let groups = settings.rules.groups.iter();
    let configured = devices.chain(groups.map(|group| EntityOwner::Group(group.id.clone())));
    let saved = keeper.saved();
    let devices = saved
        .deleted_in_home_assistant
        .into_iter()
        .map(EntityOwner::Device);
    let groups = saved
        .groups_deleted_in_home_assistant
        .into_iter()
        .map(EntityOwner::Group);
    DiscoveryTracker::new(
        discovery,
        bridge_state,
        configured,
        devices.chain(groups).collect(),
    )
}

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
        .map(|sensor| sensor.topic.as_str())
        .collect();
    let filters = topics
        .subscriptions()
        .into_iter()
        .chain(sensors.into_iter().map(str::to_owned))
        .map(Filter::try_from)
        .collect::<Result<_, _>>();
    Ok(LinkOptions {
        host: mqtt.host.clone(),
        port: mqtt.port,
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
        subscriptions: filters.map_err(|_| LinkError::Text { what: "base topic" })?,
        transport: mqtt.tls.as_ref().map_or(Transport::Tcp, transport),
    })
}

fn transport(tls: &config::Tls) -> Transport {
    Transport::Tls(Tls {
        authorities: match &tls.roots {
            TlsRoots::System => Authorities::System,
            TlsRoots::File(file) => Authorities::File(file.clone()),
        },
        client: tls.client.as_ref().map(|client| ClientCertificate {
            certificate: client.cert_file.clone(),
            key: client.key_file.clone(),
        }),
    })
}

/// MQTT counts whole seconds.
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs().max(1))
}
