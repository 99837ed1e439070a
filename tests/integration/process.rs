//! The program itself: what a person or a supervisor starts, signals and reads.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tapo_simulator::{
    DEFAULT_PASSWORD, DEFAULT_USERNAME, Fault, Profile, RunningDevice, Scope, Simulator, Stage,
};
use tapo2mqtt::{
    config::{Settings, Sources, load},
    domain::search_area::SearchArea,
    system::tasks::Tasks,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};

use crate::{
    cut::Cut,
    mosquitto::Mosquitto,
    probe::{PATIENCE, Probe},
};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tapo2mqtt");
pub const ONLINE: &str = r#"{"state":"online"}"#;
const OFFLINE: &str = r#"{"state":"offline"}"#;
pub const STATE: &str = "tapo2mqtt/bridge/state";
/// The file of a process with its standard error.
const LOG: &str = "stderr";
pub const SETTINGS_FILE: &str = "bridge.toml";
pub const STATE_FILE: &str = "tapo2mqtt-state.json";
/// Bad settings, as sysexits has it.
const BAD_SETTINGS: i32 = 64;
/// Most a debug build may take from its start to a retained `online`, and from SIGTERM to its end.
const START_BUDGET: Duration = Duration::from_secs(2);
const STOP_BUDGET: Duration = Duration::from_secs(1);
/// The same for each single stop, on a machine whose disk and processors are busy with other tests: the state file may
/// take three seconds. A device or broker that hangs would hold it up for longer.
const BUSY_STOP_BUDGET: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 4;
/// As signal(7) numbers them.
const SIGTERM: u32 = 15;
pub const SIGHUP: u32 = 1;
const DEAD_DEVICES: u8 = 20;
const ROUNDS: usize = 10;

/// A loopback address that no other test has.
pub fn own_address() -> Ipv4Addr {
    Ipv4Addr::new(
        127,
        rand::random_range(10..=60),
        rand::random(),
        rand::random_range(1..=254),
    )
}

/// Where nothing listens.
pub fn dead_address() -> SocketAddr {
    (own_address(), 9).into()
}

/// Where a bridge looks for lost devices. By default it searches the whole network.
pub fn search(targets: &[IpAddr]) -> String {
    format!("[discovery]\nnetworks = []\ntargets = {}\n", json!(targets))
}

/// A broker, and a search that stays on this machine.
pub fn mqtt(broker: SocketAddr) -> String {
    search(&[Ipv4Addr::LOCALHOST.into()]) + &mqtt_only(broker)
}

pub fn mqtt_only(broker: SocketAddr) -> String {
    format!("[mqtt]\nhost = \"{}\"\nport = {}\n", broker.ip(), broker.port())
}

/// A test must not ask the devices of whoever runs it.
pub fn assert_stays_here(settings: &Settings) {
    let SearchArea { networks, targets } = &settings.discovery.area;
    let networks = networks.as_ref().expect("no network of this machine");
    assert!(
        networks.iter().all(|network| network.is_loopback()),
        "{networks:?}"
    );
    assert!(targets.iter().all(IpAddr::is_loopback), "{targets:?}");
    let weather = settings.weather.as_ref().map(|weather| &weather.server);
    assert!(weather.is_none_or(|server| server.as_str().starts_with("http://127.0.0.1:")));
}

pub fn account(username: &str, password: &str) -> String {
    format!("[tapo]\nusername = \"{username}\"\npassword = \"{password}\"\n")
}

pub fn device(id: &str, address: SocketAddr) -> String {
    format!("[[device]]\nid = \"{id}\"\naddress = \"{address}\"\n")
}

/// A broker, an account and devices.
pub fn settings(broker: SocketAddr, devices: &[(&str, SocketAddr)]) -> String {
    let blocks: String = devices.iter().map(|(id, address)| device(id, *address)).collect();
    mqtt(broker) + &account(DEFAULT_USERNAME, DEFAULT_PASSWORD) + &blocks
}

/// A settings file in a directory of its own, where the program is started.
pub struct Home(TempDir);

impl Home {
    pub fn new(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(SETTINGS_FILE), settings).unwrap();
        Self(directory)
    }

    pub fn file(&self) -> PathBuf {
        self.0.path().join(SETTINGS_FILE)
    }

    /// The names of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The program with these arguments, and nothing of the environment of this test.
    pub fn program(&self, arguments: &[&str]) -> Command {
        self.program_at(Path::new(PROGRAM), arguments)
    }

    /// The same, of a copy of the program.
    pub fn program_at(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .current_dir(self.0.path())
            .args(arguments)
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Starts the bridge with the settings.
    pub fn start(&self) -> Process {
        self.start_with(&["--config", SETTINGS_FILE, "run"])
    }

    /// Starts the program; its output goes to files elsewhere.
    pub fn start_with(&self, arguments: &[&str]) -> Process {
        if arguments.contains(&"run") {
            let sources = Sources {
                file: Some(self.file()),
                environment: Vec::new(),
            };
            assert_stays_here(&load(&sources).unwrap());
        }
        Self::spawn(self.program(arguments))
    }

    /// Starts a program made by [`Home::program`].
    pub fn spawn(command: Command) -> Process {
        let logs = tempfile::tempdir().unwrap();
        let log = fs::File::create(logs.path().join(LOG)).unwrap();
        Self::spawn_logging_to(command, log.into(), logs)
    }

    /// The same, with its log elsewhere than among the `logs`.
    pub fn spawn_logging_to(mut command: Command, log: Stdio, logs: TempDir) -> Process {
        let stdout = fs::File::create(logs.path().join("stdout")).unwrap();
        let child = command.stdout(stdout).stderr(log).spawn().unwrap();
        let pid = child.id().unwrap();
        Process { child, pid, logs }
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let all = [&["--config", SETTINGS_FILE], arguments].concat();
        self.run_bare(&all).await
    }

    pub async fn run_bare(&self, arguments: &[&str]) -> Output {
        let running = self.program(arguments).output();
        timeout(PATIENCE, running)
            .await
            .unwrap_or_else(|_| panic!("{arguments:?} does not end"))
            .unwrap()
    }
}

/// A running program. Dropped, it is killed.
pub struct Process {
    child: Child,
    pub pid: u32,
    logs: TempDir,
}

/// How a program ended, and how long that took.
pub struct End {
    pub status: ExitStatus,
    pub took: Duration,
    pub output: String,
}

impl End {
    /// Asserts an end as a supervisor wants it.
    pub fn in_order(&self) {
        assert_eq!(self.status.code(), Some(0), "{}", self.output);
        assert!(self.took < BUSY_STOP_BUDGET, "{:?}\n{}", self.took, self.output);
    }
}

impl Process {
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill")
            .args(["-s", name, &self.pid.to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// SIGKILL: nothing is finished, nothing is published.
    pub async fn kill(mut self) {
        timeout(PATIENCE, self.child.kill()).await.unwrap().unwrap();
    }

    /// SIGTERM, and its end.
    pub async fn stop(self) -> End {
        let start = Instant::now();
        self.terminate();
        self.end(start).await
    }

    pub async fn end(mut self, since: Instant) -> End {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let took = since.elapsed();
        let output = self.output();
        let status = ended
            .unwrap_or_else(|_| panic!("it does not end:\n{output}"))
            .unwrap();
        assert!(!output.contains("panicked"), "{output}");
        End { status, took, output }
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        let read = |name| fs::read_to_string(self.logs.path().join(name)).unwrap_or_default();
        read("stdout") + &read(LOG)
    }

    /// Waits until it wrote a text.
    pub async fn wrote(&self, text: &str) {
        let wait = async {
            while !self.output().contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let done = timeout(PATIENCE, wait).await;
        done.unwrap_or_else(|_| panic!("it does not write {text:?}:\n{}", self.output()));
    }

    /// Waits until it has a handler for SIGTERM: the first moment at which it can disconnect.
    pub async fn listens(&self) {
        self.catches(SIGTERM).await;
    }

    /// Waits until it has a handler for a signal.
    pub async fn catches(&self, signal: u32) {
        let file = format!("/proc/{}/status", self.pid);
        let caught = || {
            let status = fs::read_to_string(&file).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            u64::from_str_radix(mask.unwrap().trim(), 16).unwrap()
        };
        let wait = async {
            while caught() & (1 << (signal - 1)) == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.expect("it never listens");
    }

    /// Whether any process of its group is left.
    fn has_left_processes(pid: u32) -> bool {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // After the name in parentheses: state, parent, process group.
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            fields.split_whitespace().nth(2) == Some(&pid.to_string())
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn plug() -> RunningDevice {
    Simulator::plug(Profile::P110).start().await.unwrap()
}

pub async fn online(probe: &Probe) {
    probe.expect(STATE, |payload| payload == ONLINE).await;
}

async fn device_online(probe: &Probe, id: &str) {
    let topic = format!("tapo2mqtt/{id}/availability");
    probe.expect(&topic, |payload| payload == ONLINE).await;
}

pub async fn request(probe: &Probe, name: &str, payload: &str) -> Value {
    let topic = format!("tapo2mqtt/bridge/request/{name}");
    probe.publish(&topic, payload).await;
    let topic = format!("tapo2mqtt/bridge/response/{name}");
    serde_json::from_str(&probe.expect(&topic, |_| true).await).unwrap()
}

#[tokio::test]
async fn it_is_online_at_once_with_20_dead_devices() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe(STATE).await;
    let blocks: String = (1..=DEAD_DEVICES)
        .map(|n| {
            let address = SocketAddr::from((Ipv4Addr::new(127, 9, rand::random(), n), 9));
            device(&format!("dead-{n}"), address)
        })
        .collect();
    let home = Home::new(&(settings(broker.address(), &[]) + &blocks));

    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..ATTEMPTS {
        probe.forget();
        let start = Instant::now();
        let process = home.start();
        online(&probe).await;
        let took = start.elapsed();
        assert_eq!(broker.retained(STATE).await.as_deref(), Some(ONLINE));
        let end = process.stop().await;
        end.in_order();
        probe.expect(STATE, |payload| payload == OFFLINE).await;
        assert_eq!(broker.retained(STATE).await.as_deref(), Some(OFFLINE));
        best = (best.0.min(took), best.1.min(end.took));
    }
    println!("with {DEAD_DEVICES} dead devices, start to a retained online and SIGTERM to exit: {best:?}");
    assert!(best.0 < START_BUDGET && best.1 < STOP_BUDGET, "{best:?}");
}

#[tokio::test]
async fn its_log_says_what_runs_in_local_time() {
    let broker = Mosquitto::start().await;
    let zone = "[location]\ntimezone = \"Asia/Kolkata\"\n";
    let home = Home::new(&(settings(broker.address(), &[]) + zone));
    let process = home.start();
    process.wrote("connected to the MQTT broker").await;
    let log = process.stop().await.output;
    let first = log.lines().next().unwrap();
    for part in [
        "+05:30  INFO tapo2mqtt starts version=",
        "settings=\"bridge.toml\"",
        &format!("broker=\"{}\"", broker.address()),
        "base_topic=tapo2mqtt devices=0 groups=0 time_zone=\"Asia/Kolkata\"",
    ] {
        assert!(first.contains(part), "{part}: {log}");
    }
    assert!(log.lines().all(|line| line.contains("+05:30 ")), "{log}");
}

#[tokio::test]
async fn it_says_that_it_tries_to_connect_again() {
    let home = Home::new(&settings(dead_address(), &[]));
    let process = home.start();
    process.wrote("cannot connect to the MQTT broker").await;
    process.wrote("retrying every 30 s or sooner").await;
    process.stop().await.in_order();
}

#[tokio::test]
async fn it_stops_in_time_while_a_device_hangs() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let plug = plug().await;
    let home = Home::new(&settings(broker.address(), &[("heater", plug.address())]));
    let process = home.start();
    device_online(&probe, "heater").await;
    online(&probe).await;

    let asked = plug.counters().requests_of("set_device_info");
    plug.faults().set(Fault::Hang {
        stage: Stage::BeforeApplying,
        scope: Scope::method("set_device_info"),
    });
    let command = r#"{"state":"ON","transaction":"late"}"#;
    probe.publish("tapo2mqtt/heater/set", command).await;
    plug.wait_requests("set_device_info", asked + 1, PATIENCE)
        .await
        .unwrap();
    let end = process.stop().await;
    println!("SIGTERM to exit with a hanging device: {:?}", end.took);
    end.in_order();
    probe.expect(STATE, |payload| payload == OFFLINE).await;
    assert_eq!(broker.retained(STATE).await.as_deref(), Some(OFFLINE));
    let answers = probe.payloads("tapo2mqtt/heater/response");
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers[0].contains("late"), "{answers:?}");
    assert!(!plug.relay(1));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let wire = Cut::in_front_of(broker.address());
    let plug = plug().await;
    let home = Home::new(&settings(wire.address(), &[("heater", plug.address())]));
    let process = home.start();
    device_online(&probe, "heater").await;
    // A command hangs and the broker acknowledges nothing more, so the stop takes as long as it may.
    let asked = plug.counters().requests_of("set_device_info");
    plug.faults().set(Fault::Hang {
        stage: Stage::BeforeApplying,
        scope: Scope::method("set_device_info"),
    });
    probe.publish("tapo2mqtt/heater/set", "ON").await;
    plug.wait_requests("set_device_info", asked + 1, PATIENCE)
        .await
        .unwrap();
    wire.black_hole();
    // Both are there before the process can act on either, however slow this test is.
    process.signal("STOP");
    process.signal("TERM");
    process.signal("INT");
    let start = Instant::now();
    process.signal("CONT");
    let end = process.end(start).await;
    assert_eq!(end.status.code(), Some(1), "{}", end.output);
    assert!(end.output.contains("a second signal"), "{}", end.output);
}

#[tokio::test]
async fn a_signal_at_the_very_start_is_not_lost() {
    let broker = Mosquitto::start().await;
    let home = Home::new(&settings(broker.address(), &[]));
    for _ in 0..ROUNDS {
        let process = home.start();
        process.listens().await;
        let end = process.stop().await;
        assert_eq!(end.status.code(), Some(0), "{}", end.output);
        assert!(end.output.contains("stopped"), "{}", end.output);
    }
}

#[tokio::test]
async fn it_ends_with_its_terminal() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe(STATE).await;
    let home = Home::new(&settings(broker.address(), &[]));
    let mut terminal = Command::new("script");
    let program = format!("{PROGRAM} --config {SETTINGS_FILE} run");
    terminal
        .args(["--quiet", "--command", &program, "/dev/null"])
        .current_dir(home.0.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let terminal = Home::spawn(terminal);
    online(&probe).await;
    terminal.signal("KILL");
    probe.expect(STATE, |payload| payload == OFFLINE).await;
}

#[tokio::test]
async fn it_stops_in_time_while_the_broker_is_dead() {
    let plug = plug().await;
    let home = Home::new(&settings(dead_address(), &[("heater", plug.address())]));
    let process = home.start();
    // Then the bridge is up, without its broker.
    plug.wait_requests("get_device_info", 1, PATIENCE).await.unwrap();
    let end = process.stop().await;
    println!("SIGTERM to exit with a dead broker: {:?}", end.took);
    end.in_order();
}

#[tokio::test]
async fn starts_and_stops_leave_nothing_behind() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe(STATE).await;
    let plug = plug().await;
    let home = Home::new(&settings(broker.address(), &[("heater", plug.address())]));
    let mut files = Vec::new();
    let mut fastest = Duration::MAX;
    for round in 0..ROUNDS {
        probe.forget();
        let process = home.start();
        let pid = process.pid;
        online(&probe).await;
        let end = process.stop().await;
        end.in_order();
        fastest = fastest.min(end.took);
        probe.expect(STATE, |payload| payload == OFFLINE).await;
        assert!(!Process::has_left_processes(pid));
        let mut now = home.files();
        // It comes with the first reading of the meter.
        now.retain(|name| !name.ends_with("-history.json"));
        if round == 0 {
            files.clone_from(&now);
        }
        assert_eq!(now, files, "round {round}");
    }
    assert!(
        files
            .iter()
            .all(|name| [SETTINGS_FILE, STATE_FILE].contains(&name.as_str())),
        "{files:?}"
    );
    // No task is waited for that ends only after the others.
    assert!(fastest < STOP_BUDGET / 2, "{fastest:?}");
    assert_eq!(broker.retained(STATE).await.as_deref(), Some(OFFLINE));
}

#[tokio::test]
async fn every_mistake_in_the_settings_is_reported() {
    let home = Home::new(
        r#"
        surprise = 1
        [mqtt]
        host = "mqtt://broker"
        port = 70000
        [homeassistant]
        child_devices = "perhaps"
        [polling]
        state = "1ms"
        [log]
        level = "loud"
        [[device]]
        id = "Not A Slug"
        address = "127.0.0.1"
        [[device]]
        id = "heater"
        address = "no address"
        "#,
    );
    let before = fs::read(home.file()).unwrap();
    for command in ["check", "run"] {
        let output = home.run(&[command]).await;
        let output_text = text(&output.stderr);
        assert_eq!(output.status.code(), Some(BAD_SETTINGS), "{output_text}");
        for path in [
            "surprise",
            "mqtt.host",
            "mqtt.port",
            "homeassistant.child_devices",
            "polling.state",
            "log.level",
            "device 1: id (line 13)",
            "device \"heater\": address (line 17)",
        ] {
            assert!(
                output_text.contains(&format!(": {path}")),
                "{command}: no {path} in {output_text}"
            );
        }
        assert!(output_text.contains("8 problems"), "{output_text}");
    }
    assert_eq!(fs::read(home.file()).unwrap(), before);
    assert_eq!(home.files(), [SETTINGS_FILE]);
}

#[tokio::test]
async fn a_missing_settings_file_is_a_bad_setting() {
    let home = Home::new("");
    for command in ["check", "run", "healthcheck"] {
        let output = home.run_bare(&["--config", "nowhere.toml", command]).await;
        let output_text = text(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(BAD_SETTINGS),
            "{command}: {output_text}"
        );
        assert!(output_text.contains("nowhere.toml"), "{output_text}");
    }
}

/// The line of the table about something.
fn row<'a>(table: &'a str, what: &str) -> &'a str {
    let found = table.lines().find(|line| line.starts_with(what));
    found.unwrap_or_else(|| panic!("no {what} in {table}"))
}

fn has_result(table: &str, what: &str, word: &str) -> bool {
    let rest = row(table, what).strip_prefix(what).unwrap();
    rest.split_whitespace().next() == Some(word)
}

#[tokio::test]
async fn check_reports_what_works() {
    let broker = Mosquitto::start().await;
    let plug = plug().await;
    let well = Home::new(&settings(broker.address(), &[("heater", plug.address())]));
    let output = well.run(&["check"]).await;
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}{}", text(&output.stderr));
    assert!(has_result(&table, "broker", "ok"), "{table}");
    assert!(has_result(&table, "device heater", "ok"), "{table}");
    assert!(row(&table, "device heater").contains("P110"), "{table}");

    let devices = [("heater", plug.address()), ("gone", dead_address())];
    let output = Home::new(&settings(broker.address(), &devices))
        .run(&["check"])
        .await;
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(has_result(&table, "device heater", "ok"), "{table}");
    assert!(has_result(&table, "device gone", "failed"), "{table}");

    let output = Home::new(&settings(dead_address(), &[("heater", plug.address())]))
        .run(&["check"])
        .await;
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(has_result(&table, "broker", "failed"), "{table}");
}

/// A printer, a router: their pages are on port 80 too.
#[tokio::test]
async fn check_doubts_the_address_of_something_else() {
    let broker = Mosquitto::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Tasks::default().spawn("web server", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _read = stream.read(&mut [0; 1024]).await;
            let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    let output = Home::new(&settings(broker.address(), &[("heater", address)]))
        .run(&["check"])
        .await;
    server.abort();
    let table = text(&output.stdout);
    assert!(
        row(&table, "device heater").ends_with("is the address right?"),
        "{table}"
    );
}

/// Whoever has pasted what `discover` printed does not know yet which plug is which.
#[tokio::test]
async fn check_shows_the_names_in_the_app() {
    let broker = Mosquitto::start().await;
    let plug = Simulator::plug(Profile::P110).nickname("Boiler");
    let plug = plug.start().await.unwrap();
    let strip = Simulator::strip(Profile::EP40M).nickname("Garden");
    let strip = strip.outlet_nicknames(["Pump", "Lamp"]).start().await.unwrap();
    let devices = [("p110-1", plug.address()), ("ep40m-1", strip.address())];
    let output = Home::new(&settings(broker.address(), &devices))
        .run(&["check"])
        .await;
    let table = text(&output.stdout);
    assert!(
        row(&table, "device p110-1").contains(": Boiler, P110, "),
        "{table}"
    );
    let strip = row(&table, "device ep40m-1");
    assert!(strip.contains(": Garden, EP40M, "), "{table}");
    assert!(strip.ends_with(", 2 outlets: 1 Pump, 2 Lamp"), "{table}");
}

#[tokio::test]
async fn without_an_account_it_waits_in_setup_mode() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let plug = plug().await;
    let home = Home::new(&(mqtt(broker.address()) + &device("heater", plug.address())));
    let process = home.start();
    online(&probe).await;
    let info = probe.expect("tapo2mqtt/bridge/info", |_| true).await;
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["setup_mode"], true);
    probe.publish("tapo2mqtt/heater/set", "ON").await;
    let answer = probe.expect("tapo2mqtt/heater/response", |_| true).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["error"]["code"], "setup_mode", "{answer}");
    assert!(!plug.relay(1));
    process.stop().await.in_order();
}

#[tokio::test]
async fn no_password_is_published_logged_or_printed() {
    const TAPO: &str = "s3cret-Tapo-pw";
    const OTHER: &str = "s3cret-other-pw";
    const MQTT: &str = "s3cret-Mqtt-pw";
    let broker = Mosquitto::builder().login("bridge", MQTT).start().await;
    let probe = broker.probe().await;
    probe.subscribe("#").await;
    let plug = Simulator::plug(Profile::P110)
        .credentials("me@example.com", TAPO)
        .start()
        .await
        .unwrap();
    // The one account is right, the other is refused.
    let outsider = self::plug().await;
    let login = format!("username = \"bridge\"\npassword = \"{MQTT}\"\n");
    let other = format!("username = \"me@example.com\"\npassword = \"{OTHER}\"\n");
    let home = Home::new(
        &(mqtt(broker.address())
            + &login
            + "[log]\nlevel = \"trace\"\n"
            + &account("me@example.com", TAPO)
            + &device("heater", plug.address())
            + &device("outsider", outsider.address())
            + &other),
    );
    let process = home.start();
    device_online(&probe, "heater").await;
    probe
        .publish("tapo2mqtt/heater/set", r#"{"state":"ON","transaction":"1"}"#)
        .await;
    probe.expect("tapo2mqtt/heater/response", |_| true).await;
    plug.wait_relay(1, true, PATIENCE).await.unwrap();
    probe.publish("tapo2mqtt/heater/set", r#"{"state":5}"#).await;
    // No command: a line of level debug.
    probe.publish("tapo2mqtt/bridge/set", "ON").await;
    probe.publish("tapo2mqtt/outsider/set", "ON").await;
    probe.expect("tapo2mqtt/outsider/response", |_| true).await;
    request(&probe, "health", "").await;
    let end = process.stop().await;
    end.in_order();
    probe.catch_up().await;

    let settings = load(&Sources {
        file: Some(home.file()),
        environment: Vec::new(),
    });
    let shown = format!("{:?}", settings.unwrap());
    let retained = broker.retained_under("#").await;
    let seen = probe.history();
    assert!(
        end.output.contains("TRACE") || end.output.contains("DEBUG"),
        "{}",
        end.output
    );
    assert!(shown.contains("me@example.com"), "{shown}");
    for secret in [TAPO, OTHER, MQTT, "me@example.com"] {
        assert!(!end.output.contains(secret), "{}", end.output);
        assert!(secret.contains('@') || !shown.contains(secret), "{shown}");
        let in_topic = seen.iter().find(|seen| seen.text().contains(secret));
        assert!(in_topic.is_none(), "{in_topic:?}");
        assert!(!retained.values().any(|payload| payload.contains(secret)));
    }
}

#[tokio::test]
async fn healthcheck_reports_whether_the_bridge_runs() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe(STATE).await;
    let home = Home::new(&settings(broker.address(), &[]));
    assert_eq!(home.run(&["healthcheck"]).await.status.code(), Some(1));
    let process = home.start();
    online(&probe).await;
    let output = home.run(&["healthcheck"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    process.stop().await.in_order();
    let output = home.run(&["healthcheck"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("offline"));
    let lonely = Home::new(&settings(dead_address(), &[]));
    assert_eq!(lonely.run(&["healthcheck"]).await.status.code(), Some(1));
}

#[tokio::test]
async fn discover_finds_a_device() {
    let address = own_address();
    let plug = Simulator::plug(Profile::P110)
        .address((address, 0).into())
        .discovery(true)
        .start()
        .await
        .unwrap();
    let home = Home::new("");
    let target = address.to_string();
    let output = home
        .run_bare(&["discover", "--target", &target, "--wait", "1"])
        .await;
    let output_text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output_text}");
    assert!(output_text.contains("P110"), "{output_text}");
    // What is ready to paste has to be good settings.
    let (_, paste) = output_text.split_once("[[device]]").unwrap();
    let pasted = Home::new(&format!(
        "{}[[device]]{paste}",
        account(DEFAULT_USERNAME, DEFAULT_PASSWORD)
    ));
    let settings = load(&Sources {
        file: Some(pasted.file()),
        environment: Vec::new(),
    });
    let devices = settings.unwrap().devices;
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].address.to_string(), plug.address().to_string());
}

#[tokio::test]
async fn requests_are_answered_and_a_restart_keeps_the_process() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/bridge/#").await;
    let home = Home::new(&settings(broker.address(), &[]));
    let mut process = home.start();
    online(&probe).await;
    for (name, payload) in [
        ("log_level", r#"{"level":"debug"}"#),
        ("rescan", ""),
        ("health", ""),
    ] {
        let answer = request(&probe, name, payload).await;
        assert_eq!(answer["status"], "ok", "{name}: {answer}");
    }
    probe
        .expect("tapo2mqtt/bridge/info", |info| info.contains("debug"))
        .await;

    probe.forget();
    let answer = request(&probe, "restart", "").await;
    assert_eq!(answer["status"], "ok", "{answer}");
    online(&probe).await;
    assert_eq!(probe.payloads(STATE), [OFFLINE, ONLINE]);
    assert!(process.child.try_wait().unwrap().is_none());
    assert_eq!(process.child.id(), Some(process.pid));
    process.stop().await.in_order();
}

/// Puts a copy of the program at a path, as a package manager does: whole, in one step. By a process of its own: a
/// child of another test could hold the file open for writing, and then it cannot be started.
pub fn install(program: &Path) {
    let new = program.with_extension("new");
    let copied = std::process::Command::new("cp").arg(PROGRAM).arg(&new).status();
    assert!(copied.unwrap().success());
    fs::rename(new, program).unwrap();
}

#[tokio::test]
async fn a_restart_after_an_update_starts_the_new_program() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/bridge/#").await;
    let home = Home::new(&settings(broker.address(), &[]));
    let program = home.0.path().canonicalize().unwrap().join("tapo2mqtt");
    install(&program);
    let process = Home::spawn(home.program_at(&program, &["--config", SETTINGS_FILE, "run"]));
    online(&probe).await;
    install(&program);
    let running = || fs::read_link(format!("/proc/{}/exe", process.pid)).unwrap();
    assert_ne!(running(), program);

    probe.forget();
    let answer = request(&probe, "restart", "").await;
    assert_eq!(answer["status"], "ok", "{answer}");
    online(&probe).await;
    assert_eq!(probe.payloads(STATE), [OFFLINE, ONLINE]);
    assert_eq!(running(), program);
    process.stop().await.in_order();
}

#[cfg(feature = "demo")]
#[tokio::test]
async fn the_demo_does_not_disturb_a_bridge_and_cleans_up() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("#").await;
    let plug = plug().await;
    let home = Home::new(&settings(broker.address(), &[("heater", plug.address())]));
    let bridge = home.start();
    device_online(&probe, "heater").await;
    probe
        .expect("homeassistant/device/tapo2mqtt_heater/config", |_| true)
        .await;
    online(&probe).await;
    let held = || async { broker.retained_under("#").await.into_keys().collect::<Vec<_>>() };
    let before = held().await;
    probe.forget();

    let arguments = ["--config", SETTINGS_FILE, "demo", "--no-broker"];
    let demo = home.start_with(&arguments);
    for topic in [
        "tapo2mqtt-demo/demo-strip/4",
        "homeassistant/device/tapo2mqtt-device-tapo2mqtt_demo-demo-strip/config",
    ] {
        probe.expect(topic, |payload| !payload.is_empty()).await;
    }
    // A second one would clear the topics of the first.
    let second = home.start_with(&arguments).end(Instant::now()).await;
    assert_eq!(second.status.code(), Some(1), "{}", second.output);
    assert!(second.output.contains("another demo runs"), "{}", second.output);

    let end = demo.stop().await;
    assert_eq!(end.status.code(), Some(0), "{}", end.output);
    assert_eq!(held().await, before);
    assert_eq!(
        probe.payloads(STATE),
        Vec::<String>::new(),
        "the bridge stayed online"
    );
    bridge.stop().await.in_order();
}

#[cfg(feature = "demo")]
#[tokio::test]
async fn the_demo_names_the_broker_that_it_uses() {
    let broker = Mosquitto::start().await;
    let hosts = serde_json::json!([dead_address(), broker.address()]);
    let home = Home::new(&format!("[mqtt]\nhosts = {hosts}\n"));
    let demo = home.start_with(&["--config", SETTINGS_FILE, "demo", "--no-broker"]);
    demo.wrote("Stop with Ctrl-C").await;
    let address = broker.address();
    let (host, port) = (address.ip(), address.port());
    for shown in [
        format!("on the broker at {address}."),
        format!("mosquitto_pub -h {host} -p {port} -t"),
    ] {
        assert!(demo.output().contains(&shown), "{}", demo.output());
    }
    demo.stop().await.in_order();
}

#[cfg(feature = "demo")]
#[tokio::test]
async fn the_demo_takes_a_free_port_if_the_usual_one_is_in_use() {
    let listen = Ipv4Addr::new(127, rand::random(), rand::random(), 3);
    let _taken = tokio::net::TcpListener::bind((listen, 1883)).await.unwrap();
    let home = Home::new("");
    let process = home.start_with(&["demo", "--listen", &listen.to_string()]);
    process.wrote("Stop with Ctrl-C").await;
    let shown = format!("on the broker at {listen}:");
    let output = process.output();
    assert!(
        output.contains(&shown) && !output.contains(&format!("{shown}1883")),
        "{output}"
    );
    process.stop().await.in_order();
}

#[cfg(feature = "demo")]
#[tokio::test]
async fn the_demo_switches_over_mqtt() {
    let address = own_address();
    let home = Home::new("");
    let listen = address.to_string();
    let process = home.start_with(&["demo", "--listen", &listen, "--port", "1883"]);
    process.wrote("mosquitto_pub").await;
    let probe = Probe::connect((address, 1883).into(), None).await;
    probe.subscribe("tapo2mqtt/#").await;
    device_online(&probe, "demo-plug").await;
    device_online(&probe, "demo-strip").await;
    let publish = Command::new("mosquitto_pub")
        .args([
            "-h",
            &listen,
            "-p",
            "1883",
            "-t",
            "tapo2mqtt/demo-plug/set",
            "-m",
            "ON",
        ])
        .status()
        .await;
    assert!(publish.unwrap().success());
    let on = |payload: &str| payload.contains(r#""state":"ON""#);
    let off = |payload: &str| payload.contains(r#""state":"OFF""#);
    probe.expect("tapo2mqtt/demo-plug", on).await;

    probe.publish("tapo2mqtt/demo-strip/1/set", "TOGGLE").await;
    probe.expect("tapo2mqtt/demo-strip/1", on).await;
    assert!(off(&probe.last("tapo2mqtt/demo-strip/2").unwrap()));
    let command = r#"{"state":"ON","transaction":"t1"}"#;
    probe.publish("tapo2mqtt/demo-strip/set", command).await;
    let answer = probe.expect("tapo2mqtt/demo-strip/response", |_| true).await;
    assert!(
        answer.contains("t1") && answer.contains(r#""status":"ok""#),
        "{answer}"
    );
    for outlet in 1..=4 {
        probe.expect(&format!("tapo2mqtt/demo-strip/{outlet}"), on).await;
    }
    let command = r#"{"state":"ON","for":"2h","transaction":"t2"}"#;
    probe.publish("tapo2mqtt/group/driveway/set", command).await;
    let answered = |payload: &str| payload.contains(r#""status":"ok""#) && payload.contains("demo-strip/4");
    probe.expect("tapo2mqtt/group/driveway/response", answered).await;

    let end = process.stop().await;
    assert_eq!(end.status.code(), Some(0), "{}", end.output);
    println!("SIGTERM to exit of the demo: {:?}", end.took);
    assert_eq!(home.files(), [SETTINGS_FILE]);
}
