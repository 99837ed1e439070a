//! `demo`: a broker, a simulated plug, a simulated strip and the bridge between them, in one process.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use ha_discovery::Published;
use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, Profile, Simulator};
use tracing::warn;

use tokio::{net::TcpListener, signal::unix::Signal};

use super::{ExitAction, ExitError, check::broker_options, log_start, output, signals::Signals, sources};
use crate::{
    app::bridge::{Bridge, StartError},
    cli::{DemoArgs, SettingsArgs},
    config::{self, Account, AddDevices, Device, Problems, Settings, Sources, Web},
    demo::broker::{BrokerError, EmbeddedBroker},
    domain::{devices::ClientChoice, report::Availability, search_area::SearchArea, topics::BridgeTopic},
    mqtt::{
        availability,
        link::{Broker, Filter, RetainedProbe, clear_retained, probe_retained},
        link_options,
    },
    system::{Secret, clock::Clock, tasks::Tasks, telemetry},
};

/// Where brokers listen.
const USUAL_PORT: u16 = 1883;
/// Where the page is by default.
const PAGE_PORT: u16 = 8099;
/// How long a broker that is not the demo's own may take.
const BROKER_BUDGET: Duration = Duration::from_secs(5);

pub(super) async fn demo(
    args: &DemoArgs,
    settings: &SettingsArgs,
    hangup: &mut Signal,
) -> Result<ExitAction, ExitError> {
    let signals = Signals::listen(hangup)?;
    let tasks = Tasks::default();
    let broker = if args.no_broker {
        None
    } else {
        Some(start_broker(args, &tasks).await?)
    };
    let plug = Simulator::plug(Profile::P110)
        .nickname("Demo plug")
        .seed(1)
        .start()
        .await?;
    let strip = Simulator::strip(Profile::P304M)
        .nickname("Demo strip")
        .outlet_nicknames(["Left mat", "Right mat", "Steps", "Lamp"])
        .seed(2)
        .start()
        .await?;
    let stage = Stage {
        broker: broker.as_ref().map(EmbeddedBroker::address),
        plug: plug.address(),
        strip: strip.address(),
        page: page_address().await?,
    };
    // The settings of the user count where their broker does.
    let sources = match &broker {
        Some(_) => Sources::from_process(settings.config.clone()),
        None => sources(settings),
    };
    let settings = stage.settings(&sources)?;
    let is_guest = broker.is_none() && settings.mqtt.enabled;
    let used = if is_guest {
        reached_broker(&settings).await?
    } else {
        None
    };
    let used = used.or_else(|| settings.mqtt.brokers.first().cloned());
    let after = signals.run(move || stage.start(sources, used.as_ref())).await;
    if let Some(broker) = broker {
        broker.stop().await;
    }
    if is_guest {
        clean_up(&settings).await?;
    }
    after
}

/// On the port of the arguments; else on the usual one, or on a free one if that is in use.
async fn start_broker(args: &DemoArgs, tasks: &Tasks) -> Result<EmbeddedBroker, BrokerError> {
    let on = |port| EmbeddedBroker::start(SocketAddr::new(args.listen, port), tasks);
    match args.port {
        Some(port) => on(port).await,
        None => match on(USUAL_PORT).await {
            Err(BrokerError::PortInUse { .. }) => on(0).await,
            started => started,
        },
    }
}

/// On the usual port, or on a free one if that is in use. Only this machine reaches it, so it asks for no password.
async fn page_address() -> io::Result<SocketAddr> {
    let on = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let free = match on(PAGE_PORT).await {
        Ok(listener) => listener,
        Err(_) => on(0).await?,
    };
    free.local_addr()
}

/// The broker that the bridge will use: the first one that works. Another demo there would clear the topics of this one.
async fn reached_broker(settings: &Settings) -> Result<Option<Broker>, ExitError> {
    for broker in &settings.mqtt.brokers {
        let options = broker_options(settings, broker)?;
        let state = options.will.topic.clone();
        let probe = probe_retained(options, &state, BROKER_BUDGET).await;
        match probe.map_err(StartError::from)? {
            RetainedProbe::Payload(payload) if payload == availability(Availability::Online) => {
                return Err(ExitError::Unwell(format!(
                    "another demo runs on the broker {broker}, with the base topic {}; stop it, or start `demo` without \
                     --no-broker",
                    settings.mqtt.base_topic
                )));
            }
            RetainedProbe::Payload(_) | RetainedProbe::Empty => return Ok(Some(broker.clone())),
            RetainedProbe::Failed(_) => {}
        }
    }
    // The bridge reports brokers that cannot be reached, and tries again.
    Ok(None)
}

/// Removes everything that the demo left on a broker that is not its own: first from Home Assistant.
async fn clean_up(settings: &Settings) -> Result<(), ExitError> {
    let topics = settings.topics();
    let options = link_options(settings, &topics).map_err(StartError::from)?;
    let state = topics.bridge(BridgeTopic::State);
    let base = format!("{}/", topics.base());
    let is_ours = |topic: &str, payload: &[u8]| {
        let published = || Published::parse(payload);
        topic.starts_with(&base) || published().is_some_and(|found| found.availability.contains(&state))
    };
    let filters = [topics.discovery_subscription(), format!("{base}#")];
    let filters: Vec<_> = filters.into_iter().flat_map(Filter::try_from).collect();
    let cleared = clear_retained(options, &filters, is_ours, BROKER_BUDGET).await;
    if let Err(fault) = cleared.map_err(StartError::from)? {
        warn!("the topics of the demo below {base} are not cleared: {fault}");
    }
    Ok(())
}

/// Where the demo's own things are.
#[derive(Debug, Clone, Copy)]
struct Stage {
    broker: Option<SocketAddr>,
    plug: SocketAddr,
    strip: SocketAddr,
    page: SocketAddr,
}

/// What a user without settings sees. The addresses are laid over.
const SETTINGS: &str = r#"
[[device]]
id = "demo-plug"
address = "127.0.0.1:1"
[[device]]
id = "demo-strip"
address = "127.0.0.1:2"
[[group]]
id = "driveway"
name = "Driveway"
outlets = ["demo-strip/3", "demo-strip/4"]
[group.safety]
max_on = "6h"
[[group.schedule]]
id = "evening"
start = "17:00"
end = "22:30"
"#;

impl Stage {
    fn start(self, sources: Sources, broker: Option<&Broker>) -> Result<Bridge, ExitError> {
        let settings = self.settings(&sources)?;
        let zone = &settings.rules.location.zone;
        let log_level = telemetry::start(settings.log.level, settings.log.format, zone)?;
        log_start(&settings, None);
        let loader = config::Loader::new(move || self.settings(&sources));
        let bridge = Bridge::start(&settings, Some(loader), log_level, Clock::system())?;
        output::print(&welcome(&settings, broker))?;
        Ok(bridge)
    }

    /// The settings of the demo, with the broker, the page, the log and the place of the user, whose devices and groups are
    /// left alone.
    fn settings(self, sources: &Sources) -> Result<Settings, Problems> {
        let user = config::load_or(sources, SETTINGS)?;
        let demo = config::load_or(&Sources::default(), SETTINGS)?;
        Ok(self.lay_over(user, demo))
    }

    fn lay_over(self, user: Settings, mut settings: Settings) -> Settings {
        settings.log = user.log;
        settings.homeassistant = user.homeassistant;
        settings.rules.location = user.rules.location;
        settings.mqtt = user.mqtt;
        settings.tapo.credentials = Some(Account {
            username: DEFAULT_USERNAME.to_owned(),
            password: Secret::new(DEFAULT_PASSWORD),
        });
        if let Some(broker) = self.broker {
            settings.mqtt.enabled = true;
            let broker = loopback_of(broker);
            settings.mqtt.brokers = vec![Broker {
                host: broker.ip().to_string(),
                port: broker.port(),
            }];
            settings.mqtt.login = None;
            settings.mqtt.tls = None;
        } else if let Ok(base) = format!("{}-demo", settings.mqtt.base_topic).parse() {
            // A bridge of the user may run on this broker. Below another base topic nothing of it is touched: topics,
            // discovery and client id differ.
            settings.mqtt.base_topic = base;
            settings.mqtt.client_id = format!("tapo2mqtt-demo-{}", std::process::id());
        }
        settings.devices = [("demo-plug", self.plug), ("demo-strip", self.strip)]
            .into_iter()
            .filter_map(|(id, address)| demo_device(id, address))
            .collect();
        // Its devices never move, and those of the user must not be asked.
        settings.discovery.area = SearchArea::default();
        settings.discovery.add = AddDevices::None;
        settings.web = match user.web {
            web if web.enabled => web,
            _ => Web {
                enabled: true,
                listen: self.page,
                password: None,
                hosts: Vec::new(),
                ingress: false,
            },
        };
        settings.metrics.enabled = false;
        // Nothing of the demo outlives it.
        settings.state_file = None;
        settings.account_file = None;
        settings
    }
}

fn demo_device(id: &str, address: SocketAddr) -> Option<Device> {
    let address = address.to_string().parse().ok()?;
    Some(Device {
        id: id.parse().ok()?,
        address,
        mac: None,
        name: None,
        client: ClientChoice::default(),
        device_settings: false,
        confirm: false,
        credentials: None,
        outlets: Vec::new(),
        known_as: None,
        children: Vec::new(),
    })
}

/// A broker that listens on all addresses is reached on loopback.
fn loopback_of(broker: SocketAddr) -> SocketAddr {
    if broker.ip().is_unspecified() {
        SocketAddr::from(([127, 0, 0, 1], broker.port()))
    } else {
        broker
    }
}

fn welcome(settings: &Settings, broker: Option<&Broker>) -> String {
    let (host, port) = broker.map_or(("localhost", 1883), |broker| (broker.host.as_str(), broker.port));
    let (base, page) = (&settings.mqtt.base_topic, settings.web.listen);
    if !settings.mqtt.enabled {
        return format!(
            "
Open http://{page}/ in a browser.

tapo2mqtt demo: a P110 plug and a P304M strip, simulated, without a broker (mqtt.enabled is false).

Stop with Ctrl-C.
"
        );
    }
    format!(
        "
Open http://{page}/ in a browser.

tapo2mqtt demo: a P110 plug and a P304M strip, simulated, on the broker at {host}:{port}.

See everything:     mosquitto_sub -h {host} -p {port} -v -t '{base}/#'
Switch the plug:    mosquitto_pub -h {host} -p {port} -t {base}/demo-plug/set -m ON
One outlet:         mosquitto_pub -h {host} -p {port} -t {base}/demo-strip/1/set -m TOGGLE
A group of two:     mosquitto_pub -h {host} -p {port} -t {base}/group/driveway/set -m '{{\"state\":\"ON\",\"for\":\"2h\"}}'
The whole strip:    mosquitto_pub -h {host} -p {port} -t {base}/demo-strip/set -m '{{\"state\":\"ON\",\"transaction\":\"t1\"}}'

Home Assistant:     Settings > Devices & services > Add integration > MQTT, broker {host}, port {port}.
                    On another machine? Start with --listen 0.0.0.0 and use this machine's address.
Stop with Ctrl-C.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_looks_for_no_device_outside_this_machine() {
        let stage = Stage {
            broker: None,
            plug: ([127, 0, 0, 1], 1).into(),
            strip: ([127, 0, 0, 1], 2).into(),
            page: ([127, 0, 0, 1], 4).into(),
        };
        let settings = stage.settings(&Sources::default()).unwrap();
        assert_eq!(settings.discovery.area, SearchArea::default());
    }

    #[test]
    fn the_page_of_the_user_is_that_of_the_demo() {
        let stage = Stage {
            broker: Some(([127, 0, 0, 1], 3).into()),
            plug: ([127, 0, 0, 1], 1).into(),
            strip: ([127, 0, 0, 1], 2).into(),
            page: ([127, 0, 0, 1], 4).into(),
        };
        let user = |text: &str| config::load_or(&Sources::default(), text).unwrap();
        let web = |text: &str| stage.lay_over(user(text), user(SETTINGS)).web;
        let other = web("[web]\nenabled = true\nlisten = \"0.0.0.0:9\"\npassword = \"correct horse\"");
        assert!(other.listen.port() == 9 && other.password.is_some());
        assert_eq!(web("[web]\nlisten = \"127.0.0.1:9\"").listen, stage.page);
        // The broker of the demo is used, whatever the user has.
        assert!(
            stage
                .lay_over(user("[mqtt]\nenabled = false"), user(SETTINGS))
                .mqtt
                .enabled
        );
    }

    #[test]
    fn on_a_broker_of_the_user_nothing_has_a_name_of_the_user() {
        let stage = |broker| Stage {
            broker,
            plug: ([127, 0, 0, 1], 1).into(),
            strip: ([127, 0, 0, 1], 2).into(),
            page: ([127, 0, 0, 1], 4).into(),
        };
        let user = Sources::default();
        let own = stage(Some(([127, 0, 0, 1], 3).into())).settings(&user).unwrap();
        let shared = stage(None).settings(&user).unwrap();
        assert_eq!(own.mqtt.base_topic.as_str(), "tapo2mqtt");
        assert_eq!(shared.mqtt.base_topic.as_str(), "tapo2mqtt-demo");
        assert_ne!(own.mqtt.client_id, shared.mqtt.client_id);
    }
}
