//! The program at secured brokers: certificates, passwords, access lists, the usual mistakes, hostile publishers.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use futures_util::future::join_all;
use rumqttc::{AsyncClient, MqttOptions};
use serde_json::json;
use tapo_simulator::{Fault, Profile, RunningDevice, Simulator};
use tapo2mqtt::{
    config::{self, Sources},
    mqtt::link_options,
    system::tasks::Tasks,
};

use crate::{
    mosquitto::{ClientCertificates, Mosquitto, TLS_PORT},
    packaging::repository,
    probe::{PATIENCE, Probe},
    process::{Home, Process, SETTINGS_FILE, account, device, mqtt, search, settings},
};

const ONLINE: &str = r#"{"state":"online"}"#;
const STATE: &str = "tapo2mqtt/bridge/state";
/// A file that most programs and we look for the system's authorities in.
const SYSTEM_AUTHORITIES: &str = "SSL_CERT_FILE";

/// `[mqtt]` for the TLS listener of a broker.
fn tls(broker: &Mosquitto, tls: &str) -> String {
    let ip = broker.address().ip();
    search(&[Ipv4Addr::LOCALHOST.into()])
        + &format!("[mqtt]\nhost = \"{ip}\"\nport = {TLS_PORT}\ntls = {tls}\n")
}

/// `[mqtt]` for a user.
fn login(broker: SocketAddr, username: &str, password: &str) -> String {
    mqtt(broker) + &format!("username = \"{username}\"\npassword = \"{password}\"\n")
}

/// What `check` prints about something, and whether that is well.
async fn check(settings: &str, environment: &[(&str, &Path)], what: &str) -> (bool, String) {
    let home = Home::new(settings);
    let mut command = home.program(&["--config", SETTINGS_FILE, "check"]);
    command.envs(environment.iter().copied());
    let output = command.output().await.unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let row = table.lines().find_map(|line| line.strip_prefix(what));
    let row =
        row.unwrap_or_else(|| panic!("no {what} in {table}{}", String::from_utf8_lossy(&output.stderr)));
    (row.trim_start().starts_with("ok"), row.to_owned())
}

/// `check` fails at the broker and prints a hint.
async fn hint(settings: &str, environment: &[(&str, &Path)], text: &str) {
    let (well, row) = check(settings, environment, "broker").await;
    assert!(!well && row.contains(text), "{row}");
}

async fn connects(settings: &str, environment: &[(&str, &Path)]) {
    let (well, row) = check(settings, environment, "broker").await;
    assert!(well, "{row}");
}

#[tokio::test]
async fn tls_takes_the_given_authority_or_those_of_the_system() {
    let broker = Mosquitto::builder()
        .tls(ClientCertificates::Ignored)
        .start()
        .await;
    let unknown_broker = Mosquitto::builder()
        .tls(ClientCertificates::Ignored)
        .start()
        .await;
    let (known, unknown) = (broker.authority(), unknown_broker.authority());
    let file = |path: &Path| format!("{{ ca_file = \"{}\" }}", path.display());
    connects(&tls(&broker, &file(&known)), &[]).await;
    connects(&tls(&broker, "true"), &[(SYSTEM_AUTHORITIES, &known)]).await;
    let unknown_authority = "signed by an unknown authority; name its CA file";
    hint(&tls(&broker, &file(&unknown)), &[], unknown_authority).await;
    hint(
        &tls(&broker, "true"),
        &[(SYSTEM_AUTHORITIES, &unknown)],
        unknown_authority,
    )
    .await;
}

#[tokio::test]
async fn the_bridge_runs_on_mutual_tls() {
    let broker = Mosquitto::builder()
        .tls(ClientCertificates::Required)
        .start()
        .await;
    let probe = broker.probe().await;
    probe.subscribe(STATE).await;
    let (certificate, key) = broker.client_certificate();
    let authority = broker.authority();
    let own = format!(
        "{{ ca_file = \"{}\", client_cert_file = \"{}\", client_key_file = \"{}\" }}",
        authority.display(),
        certificate.display(),
        key.display()
    );
    let home = Home::new(&tls(&broker, &own));
    let process = home.start();
    probe.expect(STATE, |payload| payload == ONLINE).await;
    process.stop().await.in_order();
    let without = format!("{{ ca_file = \"{}\" }}", authority.display());
    hint(
        &tls(&broker, &without),
        &[],
        "check the client certificate and key",
    )
    .await;
}

#[tokio::test]
async fn plain_text_to_a_tls_port_and_the_reverse_are_hinted_at() {
    let broker = Mosquitto::builder()
        .tls(ClientCertificates::Ignored)
        .start()
        .await;
    let plain_to_tls = tls(&broker, "false");
    hint(
        &plain_to_tls,
        &[],
        "if this port expects TLS (often 8883), enable TLS",
    )
    .await;
    let tls_to_plain = mqtt(broker.address()) + "tls = true\n";
    hint(&tls_to_plain, &[], "no TLS on this port; check mqtt.port").await;
}

#[tokio::test]
async fn a_wrong_password_is_hinted_at() {
    let broker = Mosquitto::builder().login("tapo2mqtt", "right").start().await;
    connects(&login(broker.address(), "tapo2mqtt", "right"), &[]).await;
    for wrong in [
        login(broker.address(), "tapo2mqtt", "wrong"),
        login(broker.address(), "nobody", "right"),
        mqtt(broker.address()),
    ] {
        hint(&wrong, &[], "check mqtt.username").await;
    }
}

/// Mosquitto acknowledges what its access list drops, so only a round trip shows it.
#[tokio::test]
async fn a_denied_topic_is_hinted_at() {
    let denied = "allow this user to write and read there";
    let discovery = "topic readwrite homeassistant/#\n";
    for (access, well) in [
        ("topic readwrite tapo2mqtt/#\n", true),
        ("topic read tapo2mqtt/#\n", false),
        ("topic write tapo2mqtt/#\n", false),
        ("topic readwrite tapo2mqtt/heater/#\n", false),
    ] {
        let broker = Mosquitto::builder()
            .acl(&(access.to_owned() + discovery))
            .start()
            .await;
        let settings = mqtt(broker.address()) + &device("heater", "127.0.0.1:9".parse().unwrap());
        // What the topic holds already does not come through.
        broker
            .probe()
            .await
            .publish_retained("tapo2mqtt/heater/set", "ON")
            .await;
        let (passes, row) = check(&settings, &[], "permissions").await;
        assert_eq!(passes, well, "{access}: {row}");
        assert_eq!(row.contains(denied), !well, "{access}: {row}");
    }
}

#[tokio::test]
async fn what_keeps_discovery_from_the_broker_is_hinted_at() {
    join_all(
        [
            (
                Mosquitto::builder().acl("topic readwrite tapo2mqtt/#\n"),
                "published to homeassistant/device/tapo2mqtt-check/config is not received; allow this user",
            ),
            (
                Mosquitto::builder().option("message_size_limit 16000"),
                "published to tapo2mqtt/bridge/state is not received; raise the size limits",
            ),
            (
                Mosquitto::builder().option("max_packet_size 16000"),
                "the broker closed the connection; raise the size limits",
            ),
        ]
        .map(async |(broker, hint)| {
            let broker = broker.start().await;
            let (passes, row) = check(&mqtt(broker.address()), &[], "permissions").await;
            assert!(!passes && row.contains(hint), "{hint}: {row}");
        }),
    )
    .await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_hinted_at() {
    let broker = Mosquitto::builder().self_signed().start().await;
    let ca_file = format!("{{ ca_file = \"{}\" }}", broker.authority().display());
    let settings = tls(&broker, &ca_file);
    hint(&settings, &[], "self-signed, or that of an authority").await;
}

/// A broker that refuses the subscription itself is believed.
#[tokio::test]
async fn a_refused_subscription_is_logged_by_name() {
    let broker = Mosquitto::builder()
        .deny_subscription("tapo2mqtt/+/set")
        .start()
        .await;
    let home = Home::new(&mqtt(broker.address()));
    let process = home.start();
    process.wrote("tapo2mqtt/+/set").await;
    process.stop().await.in_order();
}

#[tokio::test]
async fn a_taken_client_id_is_hinted_at() {
    let broker = Mosquitto::start().await;
    let home = Home::new(&mqtt(broker.address()));
    let process = home.start();
    process.wrote("connected to the MQTT broker").await;
    let host = broker.address().ip().to_string();
    let (_client, mut other) =
        AsyncClient::builder(MqttOptions::new("tapo2mqtt-tapo2mqtt", (host, 1883))).build();
    // As most clients do, it comes back at once.
    let rival = Tasks::default().spawn("rival", async move {
        loop {
            let _ = other.poll().await;
        }
    });
    process
        .wrote("another client probably uses the same client id")
        .await;
    rival.abort();
    process.stop().await.in_order();
}

/// The access list that is shipped, for a bridge and a probe that may do everything.
const USER: &str = "user tapo2mqtt";

/// The lines of the bridge, with that for a sensor.
fn bridge_lines() -> Vec<String> {
    let list = repository("config/mosquitto/acl");
    let lines = list.lines().skip_while(|line| *line != USER).skip(1);
    let own = lines.take_while(|line| !line.starts_with("user "));
    own.map(|line| line.strip_prefix('#').unwrap_or(line))
        .filter(|line| line.starts_with("topic "))
        .map(str::to_owned)
        .collect()
}

/// A bridge with a plug and a strip at a broker with an access list.
struct Scene {
    broker: Mosquitto,
    probe: Probe,
    process: Process,
    home: Home,
    plug: RunningDevice,
    _strip: RunningDevice,
}

impl Scene {
    async fn start(access: &str) -> Self {
        let broker = Mosquitto::builder()
            .logged()
            .login("home", "secret")
            .user("tapo2mqtt", "secret")
            .acl(access)
            .start()
            .await;
        let probe = broker.probe().await;
        // What an earlier run left.
        let former = r#"[{"id":"former","outlets":[]}]"#;
        probe.publish_retained("tapo2mqtt/bridge/devices", former).await;
        probe.publish_retained("tapo2mqtt/bridge/groups", "[]").await;
        probe.publish_retained("tapo2mqtt/former", "{}").await;
        let plug = Simulator::plug(Profile::P110).start().await.unwrap();
        let strip = Simulator::strip(Profile::P300).start().await.unwrap();
        let home = Home::new(
            &(login(broker.address(), "tapo2mqtt", "secret")
                + &account(tapo_simulator::DEFAULT_USERNAME, tapo_simulator::DEFAULT_PASSWORD)
                + &device("plug", plug.address())
                + &device("strip", strip.address())
                + "[[sensor]]\nid = \"outdoor\"\ntopic = \"weather/outdoor\"\n"),
        );
        let process = home.start();
        let scene = Self {
            broker,
            probe,
            process,
            home,
            plug,
            _strip: strip,
        };
        scene.log("from tapo2mqtt-tapo2mqtt", &format!("'{STATE}'")).await;
        scene
    }

    /// Waits until a line of the broker's log has both texts; returns it.
    async fn log(&self, one: &str, other: &str) -> String {
        let find = async {
            loop {
                let log = self.broker.log();
                if let Some(line) = log
                    .lines()
                    .find(|line| line.contains(one) && line.contains(other))
                {
                    return line.to_owned();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, find).await;
        found.unwrap_or_else(|_| panic!("no {one} {other} in\n{}", self.broker.log()))
    }

    /// Whether the broker delivers to the bridge what is published there.
    async fn delivers(&self, topic: &str, payload: &str) -> bool {
        // Delivered before this publish is acknowledged, or never.
        self.probe.publish(topic, payload).await;
        self.has_delivered(topic)
    }

    fn has_delivered(&self, topic: &str) -> bool {
        let log = self.broker.log();
        let mut lines = log.lines();
        lines.any(|line| {
            line.contains("Sending PUBLISH to tapo2mqtt-tapo2mqtt ") && line.contains(&format!("'{topic}'"))
        })
    }

    /// Whether a publish of the bridge passes.
    async fn takes(&self, topic: &str) -> bool {
        let line = self
            .log("PUBLISH from tapo2mqtt-tapo2mqtt ", &format!("'{topic}'"))
            .await;
        !line.contains("Denied")
    }
}

/// What a line of the access list is for.
#[derive(Debug, Clone, Copy)]
enum Need {
    Speak,
    Announce,
    Receive(&'static str),
    HearEarlierRun(&'static str),
    Healthcheck,
}

const PLUG_CONFIG: &str = "homeassistant/device/tapo2mqtt_plug/config";

/// The line, what stays of it, and what that breaks.
const NEEDS: [(&str, Option<&str>, Need); 14] = [
    ("topic write tapo2mqtt/#", None, Need::Speak),
    (
        "topic read tapo2mqtt/+/set/#",
        None,
        Need::Receive("tapo2mqtt/plug/set"),
    ),
    (
        "topic read tapo2mqtt/+/get",
        None,
        Need::Receive("tapo2mqtt/plug/get"),
    ),
    (
        "topic read tapo2mqtt/+/+/set/#",
        None,
        Need::Receive("tapo2mqtt/strip/1/set"),
    ),
    (
        "topic read tapo2mqtt/+/+/get",
        None,
        Need::Receive("tapo2mqtt/strip/1/get"),
    ),
    (
        "topic read tapo2mqtt/bridge/request/#",
        None,
        Need::Receive("tapo2mqtt/bridge/request/rescan"),
    ),
    (
        "topic read tapo2mqtt/bridge/devices",
        None,
        Need::HearEarlierRun("tapo2mqtt/bridge/devices"),
    ),
    (
        "topic read tapo2mqtt/bridge/groups",
        None,
        Need::HearEarlierRun("tapo2mqtt/bridge/groups"),
    ),
    ("topic read tapo2mqtt/bridge/state", None, Need::Healthcheck),
    (
        "topic read tapo2mqtt/bridge/health",
        None,
        Need::Receive("tapo2mqtt/bridge/health"),
    ),
    (
        "topic readwrite homeassistant/device/+/config",
        Some("topic read homeassistant/device/+/config"),
        Need::Announce,
    ),
    (
        "topic readwrite homeassistant/device/+/config",
        Some("topic write homeassistant/device/+/config"),
        Need::Receive(PLUG_CONFIG),
    ),
    (
        "topic read homeassistant/status",
        None,
        Need::Receive("homeassistant/status"),
    ),
    (
        "topic read weather/outdoor",
        None,
        Need::Receive("weather/outdoor"),
    ),
];

impl Need {
    async fn is_met(self, scene: &Scene) -> bool {
        match self {
            Self::Speak => scene.takes(STATE).await,
            Self::Announce => scene.takes(PLUG_CONFIG).await,
            Self::Receive(topic) => scene.delivers(topic, "").await,
            Self::HearEarlierRun(topic) => {
                // Asked for together with the rest, so the answer is there when a later message is.
                assert!(scene.delivers("tapo2mqtt/plug/set", "").await);
                scene.has_delivered(topic)
            }
            Self::Healthcheck => {
                scene.takes(STATE).await;
                scene.home.run(&["healthcheck"]).await.status.success()
            }
        }
    }
}

fn access(lines: &[String]) -> String {
    let others = "user home\ntopic readwrite #\n";
    format!("{USER}\n{}\n{others}", lines.join("\n"))
}

#[tokio::test]
async fn every_line_of_the_shipped_access_list_is_needed() {
    let lines = bridge_lines();
    for line in &lines {
        assert!(
            NEEDS.iter().any(|(needed, ..)| needed == line),
            "why is {line} there?"
        );
    }
    let complete = Scene::start(&access(&lines)).await;
    let tasks = Tasks::default();
    let mut without = Vec::new();
    for (line, rest, need) in NEEDS {
        assert!(need.is_met(&complete).await, "with {line}: {need:?}");
        let mut fewer = lines.clone();
        fewer.retain(|other| other != line);
        assert_eq!(fewer.len() + 1, lines.len(), "{line}");
        fewer.extend(rest.map(str::to_owned));
        let met = tasks.spawn("scene", async move {
            need.is_met(&Scene::start(&access(&fewer)).await).await
        });
        without.push((line, need, met));
    }
    for (line, need, met) in without {
        assert!(!met.await.unwrap(), "without {line} there still is {need:?}");
    }
}

#[tokio::test]
async fn the_shipped_access_list_is_enough() {
    let scene = Scene::start(&access(&bridge_lines())).await;
    let probe = &scene.probe;
    probe.subscribe("tapo2mqtt/#").await;
    probe.subscribe("homeassistant/#").await;
    for device in ["plug", "strip"] {
        let topic = format!("tapo2mqtt/{device}/availability");
        probe.expect(&topic, |payload| payload == ONLINE).await;
        let topic = format!("homeassistant/device/tapo2mqtt_{device}/config");
        probe
            .expect(&topic, |payload| payload.contains("availability"))
            .await;
    }
    probe
        .expect("homeassistant/device/tapo2mqtt-bridge/config", |_| true)
        .await;
    // The earlier run is cleared away.
    assert!(scene.takes("tapo2mqtt/former").await);

    for (path, verb) in [
        ("plug", "set"),
        ("plug", "set/state"),
        ("plug", "get"),
        ("strip", "set"),
        ("strip/1", "set"),
        ("strip/1", "set/state"),
        ("strip/1", "get"),
    ] {
        let transaction = format!("{path}-{verb}");
        let state = if verb == "get" { "" } else { "\"state\":\"ON\"," };
        probe
            .publish(
                &format!("tapo2mqtt/{path}/{verb}"),
                format!("{{{state}\"transaction\":\"{transaction}\"}}"),
            )
            .await;
        let answer = probe
            .expect(&format!("tapo2mqtt/{path}/response"), |answer| {
                answer.contains(&transaction)
            })
            .await;
        assert!(answer.contains(r#""status":"ok""#), "{path}/{verb}: {answer}");
    }
    assert!(scene.plug.relay(1));
    for request in ["health", "rescan", "log_level"] {
        let payload = if request == "log_level" {
            r#"{"level":"info"}"#
        } else {
            ""
        };
        probe
            .publish(&format!("tapo2mqtt/bridge/request/{request}"), payload)
            .await;
        let answer = probe
            .expect(&format!("tapo2mqtt/bridge/response/{request}"), |_| true)
            .await;
        assert!(answer.contains(r#""status":"ok""#), "{answer}");
    }
    for command in ["healthcheck", "check"] {
        let output = scene.home.run(&[command]).await;
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    probe.catch_up().await;
    probe.forget();
    probe.publish("homeassistant/status", "online").await;
    probe
        .expect(PLUG_CONFIG, |payload| payload.contains("availability"))
        .await;
    probe.publish_retained(PLUG_CONFIG, "").await;
    probe
        .expect("tapo2mqtt/bridge/event", |event| {
            event.contains("discovery_removed")
        })
        .await;

    scene.process.stop().await.in_order();
    let offline = |payload: &str| payload == r#"{"state":"offline"}"#;
    probe.expect(STATE, offline).await;
    let log = scene.broker.log();
    let denied: Vec<_> = log.lines().filter(|line| line.contains("Denied")).collect();
    assert_eq!(denied, Vec::<&str>::new());
}

/// Whether a filter allows all topics that another one stands for.
fn covers(allowed: &str, filter: &str) -> bool {
    let (mut allowed, mut filter) = (allowed.split('/'), filter.split('/'));
    loop {
        match (allowed.next(), filter.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(one), Some(other)) if one == other => {}
            // A filter ending in /# also stands for its parent.
            _ => return false,
        }
    }
}

#[test]
fn the_shipped_access_list_covers_every_subscription() {
    let settings = config::load(&Sources::default()).unwrap();
    let topics = settings.topics();
    let options = link_options(&settings, &topics).unwrap();
    let lines = bridge_lines();
    let reads: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            line.strip_prefix("topic read ")
                .or(line.strip_prefix("topic readwrite "))
        })
        .collect();
    for filter in options
        .subscriptions
        .iter()
        .chain(&options.optional_subscriptions)
    {
        assert!(
            reads.iter().any(|read| covers(read, filter.as_str())),
            "{filter} is not in {reads:?}"
        );
    }
}

/// The memory of a process in bytes: now (`VmRSS`), or the most it ever had (`VmHWM`).
fn memory(process: &Process, what: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    let kilobytes: usize = line
        .trim_matches([':', '\t', ' '])
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .unwrap();
    kilobytes << 10
}

#[tokio::test]
async fn a_flood_costs_neither_memory_nor_disk_and_the_bridge_goes_on() {
    const MEGABYTE: usize = 1 << 20;
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/bridge/#").await;
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let home = Home::new(&settings(broker.address(), &[("plug", plug.address())]));
    let process = home.start();
    probe.expect(STATE, |payload| payload == ONLINE).await;
    let before = memory(&process, "VmRSS");

    // 100 MB that are too large, strange topics, and transactions to remember.
    let large = vec![b'x'; 900_000];
    for _ in 0..110 {
        probe.publish("tapo2mqtt/plug/set", large.clone()).await;
    }
    let long = "t".repeat(100);
    for n in 0..3_000 {
        probe.send(&format!("tapo2mqtt/nobody-{n}/set"), "ON").await;
        probe
            .send(
                "tapo2mqtt/nobody/set",
                format!(r#"{{"state":"ON","transaction":"{long}{n}"}}"#),
            )
            .await;
    }
    probe.catch_up().await;
    probe.forget();
    // Not the answer: those to the flood may displace it.
    probe.publish("tapo2mqtt/bridge/request/health", "").await;
    probe.expect("tapo2mqtt/bridge/health", |_| true).await;
    let (now, most) = (memory(&process, "VmRSS"), memory(&process, "VmHWM"));
    println!("before {before}, after {now}, at most {most}");
    assert!(now < before + 32 * MEGABYTE, "{before} became {now}");
    assert!(most < before + 64 * MEGABYTE, "{before} became {most} at most");

    let logged = process.output().len();
    assert!(logged < MEGABYTE / 10, "{logged} bytes of log");
    probe.publish("tapo2mqtt/plug/set", "ON").await;
    plug.wait_relay(1, true, PATIENCE).await.unwrap();
    process.stop().await.in_order();
    // Settings, state, and the history of the meter.
    let files = home.files();
    assert!(files.len() <= 3, "{files:?}");
}

/// Held by the broker, it comes again with every connection. The hint contains what ends that.
#[tokio::test]
async fn a_giant_retained_command_is_hinted_at_and_clearing_it_heals() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/bridge/response/#").await;
    probe
        .publish_retained("tapo2mqtt/plug/set", vec![b'x'; 2 << 20])
        .await;
    let home = Home::new(&mqtt(broker.address()));
    let process = home.start();
    process.wrote("Mosquitto: max_packet_size").await;
    probe.publish_retained("tapo2mqtt/plug/set", "").await;
    process.wrote("reconnected to the MQTT broker").await;
    process.stop().await.in_order();
}

#[tokio::test]
async fn no_text_of_a_device_forges_a_log_line() {
    let forged = "P110\u{1b}[2K\n2026-11-21T10:00:00.000+00:00  WARN forged";
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let plug = Simulator::plug(Profile::P110)
        .nickname(forged)
        .start()
        .await
        .unwrap();
    let values = ["model", "fw_ver", "hw_ver"].map(|field| (field.to_owned(), json!(forged)));
    plug.faults().set(Fault::FieldValues {
        values: values.into(),
    });
    let home = Home::new(&settings(broker.address(), &[("plug", plug.address())]));
    let process = home.start();
    let online = |payload: &str| payload == ONLINE;
    probe.expect("tapo2mqtt/plug/availability", online).await;
    probe
        .publish("tapo2mqtt/plug/set", format!("{{\"state\":\"{forged}\"}}"))
        .await;
    probe.expect("tapo2mqtt/plug/response", |_| true).await;
    let log = process.stop().await.output;
    assert!(log.contains("forged"), "{log}");
    for line in log.lines() {
        assert!(!line.starts_with("2026-11-21T10"), "{log}");
        assert!(!line.contains(char::is_control), "{log}");
    }
}

/// Nothing listens, and neither arguments nor environment of the process hold what the files do.
#[tokio::test]
async fn nothing_listens_and_ps_shows_no_secret() {
    let broker = Mosquitto::builder()
        .login("tapo2mqtt", "s3cret-Mqtt-pw")
        .start()
        .await;
    let home = Home::new(
        &(mqtt(broker.address())
            + "username = \"tapo2mqtt\"\npassword_file = \"mqtt-password\"\n"
            + &account("me@example.org", "s3cret-Tapo-pw")),
    );
    fs::write(home.file().with_file_name("mqtt-password"), "s3cret-Mqtt-pw\n").unwrap();
    let process = home.start();
    process.wrote("connected to the MQTT broker").await;
    let of = |name: &str| fs::read(format!("/proc/{}/{name}", process.pid)).unwrap();
    for name in ["cmdline", "environ", "comm"] {
        assert!(!String::from_utf8_lossy(&of(name)).contains("s3cret"), "{name}");
    }
    assert_eq!(listening(process.pid), Vec::<String>::new());
    process.stop().await.in_order();
}

/// The TCP sockets of a process that listen, as the kernel lists them.
fn listening(pid: u32) -> Vec<String> {
    const LISTEN: &str = "0A";
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let own: Vec<_> = links
        .filter_map(|link| fs::read_link(link.path()).ok())
        .filter_map(|target| {
            Some(
                target
                    .to_str()?
                    .strip_prefix("socket:[")?
                    .trim_end_matches(']')
                    .to_owned(),
            )
        })
        .collect();
    assert!(!own.is_empty(), "the connection to the broker is a socket");
    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap());
    let sockets = tables.iter().flat_map(|table| table.lines().skip(1));
    let of_process = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[3] == LISTEN && own.iter().any(|inode| inode == fields[9])
    };
    sockets.filter(of_process).map(str::to_owned).collect()
}
