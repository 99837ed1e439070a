//! Sets up the event loop: the link, the tree, what Home Assistant was told.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use ha_discovery::Layout;

use super::{
    bridge::About,
    discovery::Discovery,
    health::Vitals,
    home::{Home, Subject},
    link::{
        Authorities, ClientCertificate, Filter, Link, LinkError, LinkOptions, Login, Tls, Topic, Transport,
        Will,
    },
    reload::Reloads,
    standings::Standings,
    state::availability,
    task::{MqttTask, Wires},
    topics::{BridgeTopic, Topics},
    tree::Tree,
};
use crate::{
    clock::Clock,
    config::{self, Settings, TlsRoots},
    device::HealthBoard,
    model::DeviceId,
    reload::Loader,
    report::Availability,
    store::Keeper,
    tasks::Tasks,
    telemetry::LogLevel,
};

/// What the event loop is made of.
#[derive(Debug)]
pub struct Parts {
    /// The channels to the other tasks.
    pub wires: Wires,
    /// What the bridge says of itself.
    pub about: About,
    /// The level of the log, which a request can change.
    pub log_level: LogLevel,
    /// What survives a restart.
    pub keeper: Keeper,
    /// Reads the settings again; without it there is no reload.
    pub loader: Option<Loader>,
    /// How the devices' links are doing.
    pub board: HealthBoard,
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
        let home = settings.homeassistant.enabled.then(|| {
            options
                .subscriptions
                .extend(Filter::try_from(topics.discovery_subscription()));
            home(settings, &topics, &parts.keeper)
        });
        let (link, driver) = Link::open(options)?;
        tasks.spawn("mqtt driver", driver.run());
        let reloads = Reloads::new(parts.loader, settings.clone(), tasks.clone());
        let vitals = Vitals::new(parts.board, tasks.clone(), parts.clock.clone());
        let standings = Standings::new(Arc::new(settings.rules.clone()));
        let tree = Tree::new(
            link,
            topics,
            home,
            parts.about,
            configured,
            standings,
            parts.clock,
        );
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

fn home(settings: &Settings, topics: &Topics, keeper: &Keeper) -> Home {
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
        .map(|device| Subject::Device(device.id.clone()));
    let groups = settings.rules.groups.iter();
    let configured = devices.chain(groups.map(|group| Subject::Group(group.id.clone())));
    let saved = keeper.saved();
    let devices = saved.deleted_in_home_assistant.into_iter().map(Subject::Device);
    let groups = saved
        .groups_deleted_in_home_assistant
        .into_iter()
        .map(Subject::Group);
    Home::new(
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
