//! `demo`: a broker, a simulated plug, a simulated strip and the bridge between them, in one process.

use std::net::{Ipv4Addr, SocketAddr};

use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, Profile, Simulator};

use tokio::signal::unix::Signal;

use super::{ExitAction, ExitError, output, signals::Signals, sources};
use crate::{
    app::bridge::Bridge,
    cli::{DemoArgs, SettingsArgs},
    config::{self, Account, Device, Problems, Settings, Sources},
    demo::broker::EmbeddedBroker,
    system::{Secret, clock::Clock, tasks::Tasks, telemetry},
};

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
        Some(EmbeddedBroker::start(SocketAddr::new(args.listen, args.port), &tasks).await?)
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
    };
    let sources = sources(settings);
    let after = signals.run(move || stage.start(sources)).await;
    if let Some(broker) = broker {
        broker.stop().await;
    }
    after
}

/// Where the demo's own things are.
#[derive(Debug, Clone, Copy)]
struct Stage {
    broker: Option<SocketAddr>,
    plug: SocketAddr,
    strip: SocketAddr,
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
    fn start(self, sources: Sources) -> Result<Bridge, ExitError> {
        let settings = self.settings(&sources)?;
        let log_level = telemetry::start(settings.log.level, settings.log.format)?;
        let loader = config::Loader::new(move || self.settings(&sources));
        let bridge = Bridge::start(&settings, Some(loader), log_level, Clock::system())?;
        output::print(&welcome(&settings))?;
        Ok(bridge)
    }

    /// The settings of the user, or those of the demo, with the demo's addresses.
    fn settings(self, sources: &Sources) -> Result<Settings, Problems> {
        Ok(self.lay_over(config::load_or(sources, SETTINGS)?))
    }

    /// The user's settings with the demo's devices, account and broker laid over them.
    fn lay_over(self, mut settings: Settings) -> Settings {
        settings.tapo.credentials = Some(Account {
            username: DEFAULT_USERNAME.to_owned(),
            password: Secret::new(DEFAULT_PASSWORD),
        });
        if let Some(broker) = self.broker {
            settings.mqtt.host = loopback_of(broker).ip().to_string();
            settings.mqtt.port = broker.port();
            settings.mqtt.login = None;
            settings.mqtt.tls = None;
        }
        settings.devices = [("demo-plug", self.plug), ("demo-strip", self.strip)]
            .into_iter()
            .filter_map(|(id, address)| demo_device(id, address))
            .collect();
        // Its devices never move, and those of the user must not be asked.
        settings.discovery.targets = vec![Ipv4Addr::LOCALHOST.into()];
        // Nothing of the demo outlives it.
        settings.state_file = None;
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
        credentials: None,
        outlets: Vec::new(),
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

fn welcome(settings: &Settings) -> String {
    let (host, port) = (&settings.mqtt.host, settings.mqtt.port);
    let base = &settings.mqtt.base_topic;
    format!(
        "
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
        };
        let settings = stage.settings(&Sources::default()).unwrap();
        assert_eq!(settings.discovery.targets, [Ipv4Addr::LOCALHOST]);
    }
}
