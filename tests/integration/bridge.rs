//! The whole bridge in this process, between a real broker and simulated devices.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME};
use tapo2mqtt::{
    app::bridge::{Bridge, ShutdownReason},
    config::{self, Loader, Sources},
    domain::{
        devices::{Credentials, DeviceConfig, PollingConfig},
        report_thresholds::ReportThresholds,
    },
    system::{
        Secret,
        clock::Clock,
        tasks::Tasks,
        telemetry::{Level, LogLevel},
    },
};
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking, yield_now},
    time::{self, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    mosquitto::Mosquitto,
    probe::{PATIENCE, Probe},
    process::{account, assert_stays_here, device, mqtt_only, search},
};

const DEFAULT_BASE: &str = "tapo2mqtt";

/// Settings of a bridge to be.
#[derive(Clone)]
pub struct Setup {
    devices: Vec<(String, SocketAddr)>,
    credentials: bool,
    request_timeout: &'static str,
    rules: String,
    clock: Clock,
    directory: Arc<TempDir>,
    password: &'static str,
    discovery: String,
    sections: Vec<String>,
    base_topic: &'static str,
    client_id: Option<&'static str>,
    site: Option<&'static str>,
    /// Brokers behind the first one.
    others: Vec<SocketAddr>,
    /// What devices are reached with.
    client: Option<&'static str>,
    device_settings: bool,
}

/// How often devices are asked by the default settings; lost ones are not searched.
pub fn polling() -> PollingConfig {
    PollingConfig {
        poll: Duration::from_secs(5),
        slow_poll: Duration::from_secs(30),
        telling: ReportThresholds::default(),
        request: Duration::from_secs(3),
        probe_longest: Duration::from_secs(30),
        refused_longest: Duration::from_mins(5),
        locked: Duration::from_mins(30),
    }
}

/// A simulated device as its worker needs it.
pub fn device_config(id: &str, address: SocketAddr) -> DeviceConfig {
    DeviceConfig {
        credentials: Some(Credentials {
            username: DEFAULT_USERNAME.to_owned(),
            password: Secret::new(DEFAULT_PASSWORD),
        }),
        ..DeviceConfig::new(id.parse().unwrap(), address.to_string())
    }
}

impl Setup {
    pub fn new() -> Self {
        Self {
            devices: Vec::new(),
            credentials: true,
            request_timeout: "3s",
            rules: String::new(),
            clock: FAST.with_borrow(|fast| fast.clone().unwrap_or_else(Clock::system)),
            directory: Arc::new(tempfile::tempdir().unwrap()),
            password: DEFAULT_PASSWORD,
            discovery: search(&[Ipv4Addr::LOCALHOST.into()]),
            sections: Vec::new(),
            base_topic: DEFAULT_BASE,
            client_id: None,
            site: None,
            others: Vec::new(),
            client: None,
            device_settings: false,
        }
    }

    /// The settings that devices keep themselves are managed.
    pub fn device_settings(self) -> Self {
        Self {
            device_settings: true,
            ..self
        }
    }

    /// What devices are reached with, by the name of the setting.
    pub fn client(self, client: &'static str) -> Self {
        Self {
            client: Some(client),
            ..self
        }
    }

    /// Another client id than that of the base topic.
    pub fn client_id(self, client_id: &'static str) -> Self {
        Self {
            client_id: Some(client_id),
            ..self
        }
    }

    /// Groups and what they refer to, as the settings have them.
    pub fn rules(self, rules: &str) -> Self {
        Self {
            rules: rules.to_owned(),
            ..self
        }
    }

    pub fn clock(self, clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            ..self
        }
    }

    /// Where an earlier bridge left its state.
    pub fn after(self, earlier: &Running) -> Self {
        Self {
            directory: earlier.directory.clone(),
            ..self
        }
    }

    pub fn device(mut self, id: &str, address: SocketAddr) -> Self {
        self.devices.push((id.to_owned(), address));
        self
    }

    pub fn without_credentials(self) -> Self {
        Self {
            credentials: false,
            ..self
        }
    }

    /// Where settings and state are kept, for a bridge that starts again.
    pub fn directory(self, directory: Arc<TempDir>) -> Self {
        Self { directory, ..self }
    }

    pub fn request_timeout(self, request_timeout: &'static str) -> Self {
        Self {
            request_timeout,
            ..self
        }
    }

    /// The password of the account.
    pub fn password(self, password: &'static str) -> Self {
        Self { password, ..self }
    }

    /// Another base topic than `tapo2mqtt`.
    pub fn base_topic(self, base_topic: &'static str) -> Self {
        Self { base_topic, ..self }
    }

    /// Where lost devices are looked for.
    pub fn search(self, targets: &[IpAddr]) -> Self {
        Self {
            discovery: search(targets),
            ..self
        }
    }

    /// Where and how devices are searched, as the settings have it.
    pub fn discovery(self, section: String) -> Self {
        Self {
            discovery: section,
            ..self
        }
    }

    /// At a site, whose base topic this is.
    pub fn site(mut self, site: &'static str, base_topic: &'static str) -> Self {
        self.site = Some(site);
        self.base_topic(base_topic)
    }

    /// One more broker, to be used when the others fail.
    pub fn other_broker(mut self, broker: SocketAddr) -> Self {
        self.others.push(broker);
        self
    }

    /// A further section of the settings file.
    pub fn section(mut self, section: &str) -> Self {
        self.sections.push(section.to_owned());
        self
    }

    pub fn toml(&self, broker: SocketAddr) -> String {
        let limit = self.request_timeout;
        let base_topic = match (self.site, self.base_topic) {
            (Some(site), _) => format!("site = \"{site}\"\n"),
            (None, DEFAULT_BASE) => String::new(),
            (None, other) => format!("base_topic = \"{other}\"\n"),
        };
        let mqtt = match self.others.as_slice() {
            [] => mqtt_only(broker),
            others => format!("[mqtt]\nhosts = {}\n", json!([&[broker], others].concat())),
        };
        let client_id = self.client_id.map(|id| format!("client_id = \"{id}\"\n"));
        let mut sections = vec![
            mqtt + &base_topic + &client_id.unwrap_or_default(),
            self.discovery.clone(),
            format!("[polling]\nstate = \"1s\"\nenergy = \"10s\"\nrequest_timeout = \"{limit}\""),
        ];
        if self.credentials {
            sections.push(account(DEFAULT_USERNAME, self.password));
        }
        sections.extend(self.sections.iter().cloned());
        let client = self.client.map(|client| format!("client = \"{client}\"\n"));
        let client = client.unwrap_or_default() + &format!("device_settings = {}\n", self.device_settings);
        let devices = self.devices.iter();
        sections.extend(devices.map(|(id, address)| device(id, *address) + &client));
        sections.push(self.rules.clone());
        sections.join("\n")
    }

    /// Starts a broker and the bridge.
    pub async fn start(self) -> Running {
        self.start_on(Mosquitto::start().await).await
    }

    /// Starts the bridge on a broker that may hold something already.
    pub async fn start_on(self, broker: impl Into<Arc<Mosquitto>>) -> Running {
        let broker = broker.into();
        // As the program does first thing; a second call changes nothing.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let probe = broker.probe().await;
        for filter in [&format!("{}/#", self.base_topic), "homeassistant/#"] {
            probe.subscribe(filter).await;
        }
        probe.catch_up().await;
        probe.forget();
        let file = self.directory.path().join("settings.toml");
        std::fs::write(&file, self.toml(broker.address())).unwrap();
        let sources = Sources {
            file: Some(file),
            environment: Vec::new(),
        };
        let settings = config::load(&sources).unwrap();
        assert_stays_here(&settings);
        let readings = Arc::new(Readings::default());
        let loader = readings.clone().count(sources);
        let bridge = Bridge::start(
            &settings,
            Some(loader),
            LogLevel::detached(Level::Info),
            self.clock.clone(),
        )
        .unwrap();
        let stop = CancellationToken::new();
        let task = Tasks::default().spawn("bridge", bridge.run(stop.clone().cancelled_owned()));
        let running = Running {
            probe,
            broker,
            stop,
            task,
            directory: self.directory,
            readings,
            base_topic: self.base_topic,
        };
        running
            .expect("bridge/state", |state| state["state"] == "online")
            .await;
        running
    }
}

/// A bridge that runs. Its probe sees everything on the broker.
pub struct Running {
    pub probe: Probe,
    pub broker: Arc<Mosquitto>,
    pub readings: Arc<Readings>,
    stop: CancellationToken,
    task: JoinHandle<ShutdownReason>,
    directory: Arc<TempDir>,
    base_topic: &'static str,
}

/// How often the settings were read again.
#[derive(Default)]
pub struct Readings {
    pub all: AtomicUsize,
    now: AtomicUsize,
    pub most_at_once: AtomicUsize,
}

impl Readings {
    fn count(self: Arc<Self>, sources: Sources) -> Loader {
        Loader::new(move || {
            self.all.fetch_add(1, Ordering::SeqCst);
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(now, Ordering::SeqCst);
            let settings = config::load(&sources);
            self.now.fetch_sub(1, Ordering::SeqCst);
            settings
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Lets the clocks of bridge, broker link and devices run fast. They live on between the steps.
pub async fn fast_forward(length: Duration) {
    let step = Duration::from_secs(1);
    let mut passed = Duration::ZERO;
    while passed < length {
        if clocks_are_fast() {
            time::advance(step).await;
        } else {
            time::pause();
            time::advance(step).await;
            time::resume();
        }
        time::sleep(Duration::from_millis(10)).await;
        passed += step;
    }
}

thread_local! {
    /// What bridges of the test on this thread start with while its clocks run fast.
    static FAST: RefCell<Option<Clock>> = const { RefCell::new(None) };
}

/// See [`fast_clocks`].
pub struct FastClocks(JoinHandle<()>);

/// Lets the clocks of bridges, broker links and devices run ten times as fast until it is dropped: of bridges that start
/// from now on with the default clock. All of them are in this thread, and between two steps of their clock each does what
/// it has to do. So on a busy machine the clock is slower, and nothing is late by it.
pub fn fast_clocks() -> FastClocks {
    const REAL: Duration = Duration::from_millis(10);
    const HOPS: usize = 16;
    FAST.set(Some(Clock::steered(Clock::system().now())));
    time::pause();
    let (sender, mut steps) = mpsc::channel(1);
    // While it runs, tokio does not advance a paused clock by itself.
    drop(spawn_blocking(move || {
        while !sender.is_closed() {
            std::thread::sleep(REAL);
            let _full = sender.try_send(());
        }
    }));
    FastClocks(Tasks::default().spawn("fast clocks", async move {
        while steps.recv().await.is_some() {
            // A request goes back and forth between its ends.
            for _ in 0..HOPS {
                yield_now().await;
            }
            time::advance(10 * REAL).await;
        }
    }))
}

/// Whether they do in the test on this thread.
pub fn clocks_are_fast() -> bool {
    FAST.with_borrow(Option::is_some)
}

impl Drop for FastClocks {
    fn drop(&mut self) {
        FAST.set(None);
        self.0.abort();
        time::resume();
    }
}

/// The payload as JSON; null if it is none. The keys of a discovery payload are written out.
pub fn parsed(payload: &str) -> Value {
    let value: Value = serde_json::from_str(payload).unwrap_or_default();
    match value.get("cmps") {
        Some(_) => ha_discovery::written_out(value),
        None => value,
    }
}

impl Running {
    /// Waits for a message below the base topic, seen already or yet to come.
    pub async fn expect(&self, topic: &str, predicate: impl Fn(&Value) -> bool) -> Value {
        let fulfils = |payload: &str| predicate(&parsed(payload));
        let topic = format!("{}/{topic}", self.base_topic);
        parsed(&self.probe.expect(&topic, fulfils).await)
    }

    /// Waits until a device is available.
    pub async fn available(&self, device: &str) {
        self.expect(&format!("{device}/availability"), |state| {
            state["state"] == "online"
        })
        .await;
    }

    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        let topic = format!("{}/{topic}", self.base_topic);
        self.probe.publish(&topic, payload).await;
    }

    /// Sends a `set` with a transaction and waits for its answer.
    pub async fn set(&self, path: &str, transaction: &str, mut fields: Value) -> Value {
        fields["transaction"] = json!(transaction);
        self.publish(&format!("{path}/set"), fields.to_string()).await;
        self.answer(path, transaction).await
    }

    /// Repeats a `set` that limits refuse until they do not. What was published before is forgotten.
    pub async fn set_until_ok(&mut self, path: &str, transaction: &str, fields: Value) {
        loop {
            self.probe.forget();
            if self.set(path, transaction, fields.clone()).await["status"] == "ok" {
                return;
            }
        }
    }

    /// The answer to a transaction.
    pub async fn answer(&self, path: &str, transaction: &str) -> Value {
        self.expect(&format!("{path}/response"), |answer| {
            answer["transaction"] == transaction
        })
        .await
    }

    /// All answers on the outlet's topic that the probe remembers.
    pub fn answers(&self, path: &str) -> Vec<Value> {
        let payloads = self.probe.payloads(&format!("tapo2mqtt/{path}/response"));
        payloads.iter().map(|payload| parsed(payload)).collect()
    }

    /// All events of a type that the probe remembers.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let mut events = self.events_of("bridge/event");
        events.retain(|event| event["type"] == kind);
        events
    }

    /// All payloads of a topic that the probe remembers.
    pub fn events_of(&self, topic: &str) -> Vec<Value> {
        let payloads = self.probe.payloads(&format!("tapo2mqtt/{topic}"));
        payloads.iter().map(|payload| parsed(payload)).collect()
    }

    /// What a topic of the bridge holds for a new subscriber.
    pub async fn retained(&self, topic: &str) -> Value {
        let payload = self.broker.retained(&format!("tapo2mqtt/{topic}")).await;
        parsed(&payload.unwrap_or_default())
    }

    /// Waits until the bridge took in all that was published before. What it refused at once is answered
    /// and seen by then; a command that waits for its device may still be open.
    pub async fn barrier(&self) {
        let mark = format!("{:016x}", rand::random::<u64>());
        let payload = json!({ "transaction": mark }).to_string();
        self.publish("bridge/request/override/list", payload).await;
        self.expect("bridge/response/override/list", |answer| {
            answer["transaction"] == mark.as_str()
        })
        .await;
        self.probe.catch_up().await;
    }

    /// Writes other settings and requests a reload.
    pub async fn reload(&self, setup: &Setup) -> Value {
        self.reload_text(&setup.toml(self.broker.address())).await
    }

    /// Writes any settings and requests a reload.
    pub async fn reload_text(&self, settings: &str) -> Value {
        std::fs::write(self.directory.path().join("settings.toml"), settings).unwrap();
        let mark = format!("{:016x}", rand::random::<u64>());
        self.publish(
            "bridge/request/reload",
            json!({ "transaction": mark }).to_string(),
        )
        .await;
        self.expect("bridge/response/reload", |answer| answer["transaction"] == mark)
            .await
    }

    /// Where the bridge keeps its state.
    pub fn state_file(&self) -> PathBuf {
        self.directory.path().join("tapo2mqtt-state.json")
    }

    /// Stops the bridge and waits for its end. Its messages until then are seen.
    pub async fn stop(&mut self) -> ShutdownReason {
        self.stop.cancel();
        let ended = timeout(PATIENCE, &mut self.task).await.unwrap().unwrap();
        self.probe.catch_up().await;
        ended
    }
}
