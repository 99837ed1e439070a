//! The bridge as an app of Home Assistant: its options, and the broker that the Supervisor names, here a small one of this
//! test.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use config::{Config, File, FileFormat};
use serde_json::{Value, json};
use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, Profile, Simulator};
use tapo2mqtt::system::tasks::Tasks;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
};

use crate::{
    mosquitto::Mosquitto,
    packaging::repository,
    page::Page,
    process::{Home, ONLINE, Process, STATE_FILE, online, own_address, request},
};

const TOKEN: &str = "0123456789abcdef";
const APP: &str = "packaging/home-assistant/tapo2mqtt";
/// What the Supervisor asks from.
const SUPERVISOR: &str = "172.30.32.2:0";
/// Where it asks an app that uses the network of the host.
const HOST: &str = "172.30.32.1";
/// Where Home Assistant shows the page of the app.
const PREFIX: &str = "/api/hassio_ingress/xyz";

/// Answers as the Supervisor does: JSON to those that show the token, else a text. It closes a connection only where that is
/// asked for.
struct FakeSupervisor {
    address: SocketAddr,
    service: Arc<Mutex<Option<Value>>>,
    _tasks: Tasks,
}

impl FakeSupervisor {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service: Arc<Mutex<Option<Value>>> = Arc::default();
        let (tasks, offered) = (Tasks::default(), service.clone());
        tasks.spawn("supervisor", async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = head(&mut stream).await;
                let answer = answer(&request, offered.lock().unwrap().as_ref());
                let _gone = stream.write_all(answer.as_bytes()).await;
                if !request.contains("\r\nConnection: close\r\n") {
                    open.push(stream);
                }
            }
        });
        Self {
            address,
            service,
            _tasks: tasks,
        }
    }

    fn offer(&self, broker: SocketAddr, password: &str) {
        *self.service.lock().unwrap() = Some(
            json!({"addon": "core_mosquitto", "host": broker.ip(), "port": broker.port(),
            "ssl": false, "protocol": "3.1.1", "username": "addons", "password": password}),
        );
    }
}

/// The head of a request, and not a byte more.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A connection from the address of the Supervisor to the page, once that listens.
async fn from_supervisor(page: SocketAddr) -> TcpStream {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        let bound = socket.bind(SUPERVISOR.parse().unwrap());
        bound.expect("scripts/offline gives this machine the address of the Supervisor");
        match socket.connect(page).await {
            Ok(stream) => return stream,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Passes requests on as the ingress of Home Assistant does: without the prefix, which a header has, and with the user.
async fn ingress(page: SocketAddr, tasks: &Tasks) -> Page {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = tasks.clone();
    tasks.spawn("ingress", async move {
        while let Ok((mut browser, _)) = listener.accept().await {
            connections.spawn("ingress connection", async move {
                let head = head(&mut browser).await.replacen(PREFIX, "", 1);
                let (request, headers) = head.split_once("\r\n").unwrap();
                let added = format!("X-Ingress-Path: {PREFIX}\r\nX-Remote-User-Name: owner");
                let mut app = from_supervisor(page).await;
                let head = format!("{request}\r\n{added}\r\n{headers}");
                app.write_all(head.as_bytes()).await.unwrap();
                let _gone = copy_bidirectional(&mut browser, &mut app).await;
            });
        }
    });
    Page::at(address, PREFIX).with("Host", "homeassistant.local:8123")
}

fn answer(request: &str, service: Option<&Value>) -> String {
    let (status, body) = if !request.contains(&format!("\r\nAuthorization: Bearer {TOKEN}\r\n")) {
        ("401 Unauthorized", "401: Unauthorized".to_owned())
    } else if !request.starts_with("GET /services/mqtt ") {
        ("403 Forbidden", "403: Forbidden".to_owned())
    } else if let Some(service) = service {
        ("200 OK", json!({"result": "ok", "data": service}).to_string())
    } else {
        (
            "400 Bad Request",
            json!({"result": "error", "message": "Service not enabled"}).to_string(),
        )
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// `/data` of the app, with options as the Supervisor writes them.
fn data(options: &Value) -> PathBuf {
    let data = tempfile::tempdir().unwrap().keep();
    let file = data.join("options.json");
    fs::write(&file, options.to_string()).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    data
}

fn app(supervisor: &FakeSupervisor, token: &str, data: &Path) -> Process {
    // Only one can listen where the Supervisor asks.
    let listen = format!("{}:8099", own_address());
    app_with(supervisor, token, data, &[("TAPO2MQTT__WEB__LISTEN", &listen)])
}

fn app_with(supervisor: &FakeSupervisor, token: &str, data: &Path, more: &[(&str, &str)]) -> Process {
    let mut command = Home::new("").program(&[]);
    command
        .env("SUPERVISOR_TOKEN", token)
        .env("TAPO2MQTT_SUPERVISOR", supervisor.address.to_string())
        .env("STATE_DIRECTORY", data)
        .envs(more.iter().copied())
        .current_dir(data);
    Home::spawn(command)
}

#[tokio::test]
async fn an_app_takes_its_options_and_waits_for_the_broker() {
    let supervisor = FakeSupervisor::start().await;
    let broker = Mosquitto::builder()
        .login("addons", "of the service")
        .start()
        .await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/bridge/#").await;
    let data = data(&json!({
        "tapo": {"username": DEFAULT_USERNAME, "password": DEFAULT_PASSWORD},
        "mqtt": {},
        "discovery": {"networks": [], "targets": ["127.0.0.1"]},
        "log": {"level": "info"},
    }));
    let process = app(&supervisor, TOKEN, &data);
    process.wrote("400: Service not enabled").await;
    process.wrote("works without one until then").await;
    supervisor.offer(broker.address(), "of the service");
    online(&probe).await;
    let info = probe.expect("tapo2mqtt/bridge/info", |_| true).await;
    assert!(info.contains(r#""setup_mode":false"#), "{info}");
    let end = process.stop().await;
    end.in_order();
    assert!(end.output.contains("another MQTT broker now"), "{}", end.output);
    for secret in [TOKEN, "of the service", DEFAULT_PASSWORD] {
        assert!(!end.output.contains(secret), "{}", end.output);
    }
    assert!(data.join(STATE_FILE).exists());
    fs::remove_dir_all(data).unwrap();
}

#[tokio::test]
async fn an_app_without_an_account_gets_it_by_request() {
    let supervisor = FakeSupervisor::start().await;
    let broker = Mosquitto::start().await;
    supervisor.offer(broker.address(), "");
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    // As the Supervisor writes options of which none is set.
    let data = data(
        &json!({"tapo": {}, "mqtt": {}, "log": {"level": "info"}, "discovery": {"networks": [], "targets": ["127.0.0.1"]},
        "device": [{"id": "heater", "address": plug.address().to_string()}]}),
    );
    let process = app(&supervisor, TOKEN, &data);
    online(&probe).await;
    let account = json!({"username": DEFAULT_USERNAME, "password": DEFAULT_PASSWORD});
    let kept = request(&probe, "account", &account.to_string()).await;
    assert_eq!(kept["status"], "ok", "{kept}");
    probe
        .expect("tapo2mqtt/heater/availability", |payload| payload == ONLINE)
        .await;
    probe.publish("tapo2mqtt/heater/set", "ON").await;
    probe
        .expect("tapo2mqtt/heater", |state| state.contains(r#""state":"ON""#))
        .await;
    assert!(plug.relay(1));
    process.stop().await.in_order();
    fs::remove_dir_all(data).unwrap();
}

#[tokio::test]
async fn a_wrong_token_is_reported_and_stops_nothing() {
    let supervisor = FakeSupervisor::start().await;
    let data = data(&json!({"discovery": {"networks": [], "targets": ["127.0.0.1"]}}));
    let process = app(&supervisor, "stale", &data);
    process.wrote("the Supervisor offers no MQTT broker (401").await;
    process.wrote("cannot connect to the MQTT broker").await;
    process.stop().await.in_order();
    fs::remove_dir_all(data).unwrap();
}

#[tokio::test]
async fn home_assistant_shows_the_page_of_the_app() {
    let supervisor = FakeSupervisor::start().await;
    let broker = Mosquitto::start().await;
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let data = data(&json!({
        "tapo": {"username": DEFAULT_USERNAME, "password": DEFAULT_PASSWORD},
        "discovery": {"networks": [], "targets": ["127.0.0.1"]},
        "device": [{"id": "heater", "address": plug.address().to_string()}],
    }));
    let process = app_with(&supervisor, TOKEN, &data, &[]);
    let config = yaml(&format!("{APP}/config.yaml"));
    let port = config["ingress_port"].as_u64().unwrap();
    let address: SocketAddr = format!("{HOST}:{port}").parse().unwrap();

    // The watchdog has no headers of a user, and there is no broker yet.
    let watchdog = config["watchdog"].as_str().unwrap();
    assert_eq!(watchdog, format!("http://[HOST]:[PORT:{port}]/health"));
    for (path, status) in [("/health", "200"), ("/", "403")] {
        let mut stream = from_supervisor(address).await;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut stream).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{path}: {answer}");
    }
    // Other machines are no users of Home Assistant, whatever they say.
    let other = Page::at(address, "").with("X-Ingress-Path", PREFIX);
    let denied = other.get("/api/changes").await;
    assert_eq!(denied.json()["error"]["code"], "ingress_only");

    supervisor.offer(broker.address(), "");
    let tasks = Tasks::default();
    let page = ingress(address, &tasks).await;
    let shown = page.get("/").await;
    assert_eq!(shown.status, 200, "{}", shown.head);
    let policy = shown.header("Content-Security-Policy").unwrap();
    assert!(policy.ends_with("frame-ancestors 'self'"), "{policy}");
    // Once it has the broker it starts again, so a stream may end.
    let mut changes = page.stream().await;
    while !changes.topics.contains_key("heater") {
        if !changes.next().await {
            changes = page.stream().await;
        }
    }
    let done = page.send("heater/set", json!({ "state": "ON" })).await;
    assert_eq!(done["status"], "ok", "{done}");
    assert!(plug.relay(1));
    changes.expect("heater", |state| state["state"] == "ON").await;
    process.stop().await.in_order();
    fs::remove_dir_all(data).unwrap();
}

fn yaml(file: &str) -> Value {
    let text = repository(file);
    let read = Config::builder()
        .add_source(File::from_str(&text, FileFormat::Yaml))
        .build();
    read.unwrap().try_deserialize().unwrap()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value
        .as_object()
        .into_iter()
        .flat_map(|entries| entries.keys().cloned())
        .collect()
}

/// The Supervisor drops keys that it does not know without a word.
#[test]
fn the_app_of_home_assistant_is_what_its_supervisor_reads() {
    let app = yaml(&format!("{APP}/config.yaml"));
    let known = "name version slug description url image arch stage homeassistant startup boot init timeout services \
                 host_network map backup backup_exclude ingress ingress_port panel_icon panel_title watchdog options schema";
    let known: BTreeSet<String> = known.split(' ').map(str::to_owned).collect();
    assert!(
        keys(&app).is_subset(&known),
        "{:?}",
        keys(&app).difference(&known)
    );
    assert_eq!(app["version"], env!("CARGO_PKG_VERSION"));
    let changes = repository(&format!("{APP}/CHANGELOG.md"));
    assert!(
        changes.contains(&format!("## {}", env!("CARGO_PKG_VERSION"))),
        "{changes}"
    );
    // A section of the schema is required, unless it has a default.
    assert_eq!(keys(&app["options"]), keys(&app["schema"]));

    let defaults = repository("config/default.toml");
    let translations = yaml(&format!("{APP}/translations/en.yaml"));
    for (section, schema) in app["schema"].as_object().unwrap() {
        let translated = &translations["configuration"][section];
        assert!(translated["name"].is_string(), "{section}");
        assert_eq!(keys(schema), keys(&translated["fields"]), "{section}");
        let (_, text) = defaults.split_once(&format!("\n[{section}]\n")).expect(section);
        let text = text.split("\n[").next().unwrap();
        for (key, kind) in schema.as_object().unwrap() {
            assert!(
                text.contains(&format!("{key} = ")),
                "{section}.{key} is no setting"
            );
            assert!(
                kind.as_str().unwrap().ends_with('?'),
                "{section}.{key} must be optional"
            );
        }
    }
    assert_eq!(keys(&translations["configuration"]), keys(&app["schema"]));
    assert!(yaml("repository.yaml")["name"].is_string());
    for (file, width, height) in [
        ("icon.png", 128..=128, 128..=128),
        ("logo.png", 200..=300, 80..=120),
    ] {
        let png = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(APP).join(file)).unwrap();
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert!(
            width.contains(&number(16)) && height.contains(&number(20)),
            "{file}"
        );
    }
    for file in ["README.md", "DOCS.md"] {
        assert!(!repository(&format!("{APP}/{file}")).is_empty());
    }
}
