//! Addresses at which something else answers, and devices that the bridge cannot control.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tapo_simulator::{Fault, Profile, Scope, Simulator};
use tapo2mqtt::system::tasks::Tasks;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::code;
use crate::bridge::{Running, Setup, fast_clocks};

/// How a server that is no device answers.
#[derive(Debug, Clone)]
enum Answers {
    /// Each request with this.
    With(String),
    /// Each request of a path with chunks without end, and all others with 404.
    EndlessAt(&'static str),
}

/// A web server; it counts its requests and the bytes that it could send.
struct WebServer {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
}

impl WebServer {
    async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            sent: Arc::default(),
        };
        let (requests, sent) = (server.requests.clone(), server.sent.clone());
        let tasks = Tasks::default();
        tasks.clone().spawn("web server", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answers, requests, sent) = (answers.clone(), requests.clone(), sent.clone());
                tasks.spawn("web client", async move {
                    let _closed = serve(stream, &answers, &requests, &sent).await;
                });
            }
        });
        server
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn serve(
    mut stream: TcpStream,
    answers: &Answers,
    requests: &AtomicUsize,
    sent: &AtomicUsize,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
        if !request.starts_with("POST") {
            continue;
        }
        requests.fetch_add(1, Ordering::Relaxed);
        match answers {
            Answers::With(answer) => stream.write_all(answer.as_bytes()).await?,
            Answers::EndlessAt(path) if request.starts_with(&format!("POST {path} ")) => {
                let cookie = "Set-Cookie: TP_SESSIONID=ABC;TIMEOUT=1440\r\n";
                let head = format!("HTTP/1.1 200 OK\r\n{cookie}Transfer-Encoding: chunked\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
                loop {
                    stream.write_all(chunk.as_bytes()).await?;
                    sent.fetch_add(chunk.len(), Ordering::Relaxed);
                }
            }
            Answers::EndlessAt(_) => {
                stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    .await?;
            }
        }
    }
}

/// The error of the device `plug` at an address, and the bridge.
async fn error_at(address: SocketAddr) -> (Running, Value) {
    let bridge = Setup::new().device("plug", address).start().await;
    let state = bridge
        .expect("plug", |state| state["error"]["code"].is_string())
        .await;
    (bridge, state)
}

fn page(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 6\r\n\r\n<html>")
}

#[tokio::test]
async fn a_web_server_is_not_an_overloaded_device() {
    let _fast = fast_clocks();
    join_all(
        [
            "500 Error",
            "501 Not Implemented",
            "503 Busy",
            "200 OK",
            "404 Not Found",
        ]
        .map(async |status| {
            let server = WebServer::start(Answers::With(page(status))).await;
            let (_bridge, state) = error_at(server.address).await;
            let error = &state["error"];
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("not as a Tapo device"), "{status}: {message}");
            assert_eq!(error["code"], "wrong_device", "{status}");
        }),
    )
    .await;
}

#[tokio::test]
async fn a_known_device_may_be_overloaded() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let mut bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    bridge.stop().await;
    let scope = Scope::all();
    plug.faults().set(Fault::HttpStatus { status: 503, scope });
    let setup = Setup::new().device("plug", plug.address()).after(&bridge);
    let again = setup.start_on(bridge.broker.clone()).await;
    again
        .expect("plug", |state| {
            let message = state["error"]["message"].as_str();
            message.is_some_and(|message| message.contains("overloaded (HTTP 503)"))
        })
        .await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let local = WebServer::start(Answers::With(page("200 OK"))).await;
    for status in ["301", "302", "307", "308"] {
        let head = format!(
            "HTTP/1.1 {status} Moved\r\nLocation: http://{}/\r\n",
            local.address
        );
        let server = WebServer::start(Answers::With(head + "Content-Length: 0\r\n\r\n")).await;
        let (bridge, state) = error_at(server.address).await;
        assert_eq!(state["error"]["code"], "wrong_device", "{status}: {state}");
        let answer = bridge.set("plug", "t", json!({ "state": "ON" })).await;
        assert_eq!(code(&answer), "wrong_device", "refused at once");
        assert_eq!(server.requests(), 1, "not contacted for a while");
    }
    assert_eq!(local.requests(), 0);
}

/// The largest amount that an endless answer may cost before it is given up.
const MOST_READ: usize = 150_000_000;

#[tokio::test]
async fn an_endless_answer_is_given_up_and_not_asked_again() {
    for path in ["/", "/app/handshake1"] {
        let server = WebServer::start(Answers::EndlessAt(path)).await;
        let (bridge, state) = error_at(server.address).await;
        let message = state["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("more data than any Tapo device"),
            "{path}: {message}"
        );
        let (requests, sent) = (server.requests(), server.sent.load(Ordering::Relaxed));
        println!("{path}: {} kB were sent", sent / 1000);
        assert!(sent < MOST_READ, "{path}: {sent} bytes");
        let answer = bridge.set("plug", "t", json!({ "state": "ON" })).await;
        assert_eq!(code(&answer), "wrong_device", "refused at once");
        assert_eq!(server.requests(), requests, "not contacted for a while");
    }
}

#[tokio::test]
async fn a_device_without_outlets_is_named_and_not_polled() {
    let hub = Simulator::plug(Profile::P110).start().await.unwrap();
    let fields = vec!["device_on".to_owned()];
    hub.faults().set(Fault::MissingFields { fields });
    let values = BTreeMap::from([
        ("type".to_owned(), json!("SMART.TAPOCHIME")),
        ("model".to_owned(), json!("D100C")),
    ]);
    hub.faults().set(Fault::FieldValues { values });
    let (bridge, state) = error_at(hub.address()).await;
    let error = &state["error"];
    assert_eq!(
        error["message"],
        "a D100C has no outlet that can be switched; remove it from the settings"
    );
    assert_eq!(error["code"], "unsupported");
    let requests = hub.counters().requests_of("get_device_info");
    let answer = bridge.set("plug", "t", json!({ "state": "ON" })).await;
    assert_eq!(code(&answer), "unsupported", "{answer}");
    assert_eq!(hub.counters().requests_of("get_device_info"), requests);
}

#[tokio::test]
async fn a_component_of_any_version_takes_no_device_out() {
    for (profile, version) in [
        (Profile::P110, json!(-1)),
        (Profile::P110, json!("1")),
        (Profile::P100, json!(300)),
        (Profile::P304M, json!(null)),
        (Profile::P300, json!(-1)),
    ] {
        let simulator = if [Profile::P304M, Profile::P300].contains(&profile) {
            Simulator::strip(profile)
        } else {
            Simulator::plug(profile)
        };
        let device = simulator.start().await.unwrap();
        let values = [("ver_code".to_owned(), version.clone())].into();
        device.faults().set(Fault::FieldValues { values });
        let bridge = Setup::new().device("plug", device.address()).start().await;
        bridge.available("plug").await;
        let outlet = if device.child_ids().is_empty() {
            "plug"
        } else {
            "plug/1"
        };
        let answer = bridge.set(outlet, "t", json!({ "state": "TOGGLE" })).await;
        assert_eq!(code(&answer), "ok", "{profile} {version}: {answer}");
        let metered = profile != Profile::P100 && profile != Profile::P300;
        if metered {
            bridge.expect(outlet, |state| state["power"].is_number()).await;
        } else {
            assert!(bridge.retained(outlet).await["power"].is_null(), "{profile}");
        }
    }
}

/// An error -1501 in a session that worked: it is lost, and the password is right.
#[tokio::test]
async fn a_refused_request_of_a_session_logs_in_again() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new().device("plug", plug.address()).start().await;
    bridge.available("plug").await;
    bridge.probe.forget();
    let scope = Scope::method("set_device_info").times(1);
    plug.faults().set(Fault::Refuse { code: -1501, scope });
    let answer = bridge.set("plug", "t", json!({ "state": "TOGGLE" })).await;
    assert_eq!(code(&answer), "ok", "{answer}");
    let states = bridge.probe.payloads("tapo2mqtt/plug/availability");
    assert!(
        states.iter().all(|state| !state.contains("offline")),
        "{states:?}"
    );
}
