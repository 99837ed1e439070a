//! Notifications: to real web servers, which answer, fail, hang or redirect.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tapo_simulator::{Profile, RunningDevice, Simulator};
use tapo2mqtt::system::tasks::Tasks;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    bridge::{Running, Setup, fast_clocks, fast_forward},
    groups::noon,
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::{Home, dead_address, own_address, settings},
};

/// What must be nowhere.
const SECRET: &str = "hunter2-hunter2";

/// A request that arrived.
#[derive(Debug, Clone)]
struct Posted {
    head: String,
    body: Value,
}

/// A web server that notifications are sent to.
struct Receiver {
    address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
    arrived: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// With an answer to each request; without one, it hangs.
    async fn start(answer: Option<String>) -> Self {
        let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (posted, arrived) = (Arc::<Mutex<Vec<Posted>>>::default(), Arc::<Notify>::default());
        let (requests, signal) = (posted.clone(), arrived.clone());
        let task = Tasks::default().spawn("receiver", async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // A client that goes away in between is its own affair.
                let Ok(request) = read_request(&mut stream).await else {
                    continue;
                };
                requests.lock().unwrap().push(request);
                signal.notify_one();
                match &answer {
                    Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                    None => open.push(stream),
                }
            }
        });
        Self {
            address,
            posted,
            arrived,
            task,
        }
    }

    async fn ok() -> Self {
        Self::start(Some(response("200 OK", ""))).await
    }

    fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }

    /// Waits until so many requests arrived.
    async fn count(&self, count: usize) -> Vec<Posted> {
        let arrived = async {
            while self.posted().len() < count {
                self.arrived.notified().await;
            }
        };
        let waited = timeout(PATIENCE, arrived).await;
        waited.unwrap_or_else(|_| panic!("{count} requests, not {:?}", self.posted()));
        self.posted()
    }

    /// An entry of the settings.
    fn entry(&self, format: &str, more: &str) -> String {
        entry(self.address, format, more)
    }
}

fn entry(address: SocketAddr, format: &str, more: &str) -> String {
    // A server gets one login. That of Gotify has a header of its own.
    let login = if more.contains("token") && format != "gotify" {
        String::new()
    } else {
        format!("me:{SECRET}@")
    };
    format!("[[notify]]\nurl = \"http://{login}{address}/{SECRET}\"\nformat = \"{format}\"\n{more}")
}

fn response(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n")
}

async fn read_request(stream: &mut TcpStream) -> io::Result<Posted> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let lower = head.to_lowercase();
    let length = lower.split_once("content-length: ").map_or("0", |(_, rest)| rest);
    let length = length
        .lines()
        .next()
        .unwrap_or_default()
        .parse()
        .unwrap_or_default();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    let body = serde_json::from_slice(&body)?;
    Ok(Posted { head, body })
}

/// What a webhook was sent, one by one.
fn notifications(posted: &[Posted]) -> Vec<(String, String)> {
    let all = posted
        .iter()
        .flat_map(|posted| posted.body["notifications"].as_array().unwrap());
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|one| (word(&one["event"]), word(&one["state"])))
        .collect()
}

fn pair(event: &str, state: &str) -> (String, String) {
    (event.to_owned(), state.to_owned())
}

async fn plug() -> RunningDevice {
    Simulator::plug(Profile::P110).start().await.unwrap()
}

#[tokio::test]
async fn a_reached_limit_is_notified_within_5_s_and_once() {
    let (webhook, ntfy) = (Receiver::ok().await, Receiver::ok().await);
    let plug = plug().await;
    let events = "events = [\"limit_reached\"]\ntoken = \"tk-1\"\n";
    let group =
        "[[group]]\nid = \"all\"\noutlets = [\"heater\"]\nsafety = { max_on = \"1s\", cooldown = \"1s\" }\n";
    let setup = Setup::new().device("heater", plug.address()).rules(group);
    let setup = setup
        .clock(&noon())
        .section(&webhook.entry("json", events))
        .section(&ntfy.entry("ntfy", events));
    let mut bridge = setup.start().await;
    bridge.available("heater").await;
    bridge.set("heater", "on", json!({ "state": "ON" })).await;
    let posted = webhook.count(1).await;
    let trip = &bridge
        .expect("bridge/event", |event| event["type"] == "safety_trip")
        .await;
    let sent = &posted[0].body;
    assert_eq!(sent["title"], "tapo2mqtt: heater reached a limit");
    let notification = &sent["notifications"][0];
    assert_eq!(
        (&notification["event"], &notification["subject"]),
        (&json!("limit_reached"), &json!("heater"))
    );
    let message = notification["message"].as_str().unwrap();
    assert!(
        message.starts_with(trip["message"].as_str().unwrap()),
        "{message}"
    );
    let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let took = time(&notification["at"]).duration_since(time(&trip["at"]));
    assert!(took.as_secs() < 5, "{took}");
    assert!(
        posted[0].head.contains("authorization: Bearer tk-1"),
        "{}",
        posted[0].head
    );
    // ntfy takes JSON at its root, with the topic in it.
    let at_ntfy = ntfy.count(1).await;
    assert!(at_ntfy[0].head.starts_with("POST / "), "{}", at_ntfy[0].head);
    assert_eq!(at_ntfy[0].body["topic"], SECRET);
    assert_eq!(at_ntfy[0].body["title"], "tapo2mqtt: heater reached a limit");

    // It is over, has to stay so for 10 s, and is not notified again within the hour.
    fast_forward(Duration::from_secs(12)).await;
    let over = webhook.count(2).await;
    assert_eq!(notifications(&over)[1], pair("limit_reached", "over"));
    bridge
        .set_until_ok("heater", "again", json!({ "state": "ON" }))
        .await;
    bridge
        .expect("bridge/event", |event| event["type"] == "safety_trip")
        .await;
    bridge.stop().await;
    assert_eq!(webhook.posted().len(), 2, "{:?}", webhook.posted());
}

#[tokio::test]
async fn servers_that_fail_cost_no_command_and_show_no_secret() {
    let _fast = fast_clocks();
    let elsewhere = Receiver::ok().await;
    let redirect = format!("Location: http://{}/\r\n", elsewhere.address);
    let failing = [
        Receiver::start(None).await,
        Receiver::start(Some(response("500 Internal Server Error", ""))).await,
        Receiver::start(Some(response("302 Found", &redirect))).await,
    ];
    let plug = plug().await;
    let group = "[[group]]\nid = \"all\"\noutlets = [\"heater\"]\nsafety = { max_on = \"1s\", cooldown = \"none\" }\n";
    let mut setup = Setup::new().device("heater", plug.address()).rules(group);
    let token = format!("token = \"{SECRET}\"\n");
    for receiver in &failing {
        setup = setup.section(&receiver.entry("gotify", &token));
    }
    setup = setup.section(&entry(dead_address(), "slack", &token));
    let mut bridge = setup.start().await;
    bridge.available("heater").await;
    bridge.set("heater", "on", json!({ "state": "ON" })).await;
    for receiver in &failing {
        receiver.count(1).await;
    }
    // One of them hangs now, and is not waited for.
    let mut fastest = u64::MAX;
    for number in 0..10 {
        let state = if number % 2 == 0 { "OFF" } else { "ON" };
        let answer = bridge
            .set("heater", &number.to_string(), json!({ "state": state }))
            .await;
        assert_eq!(answer["status"], "ok", "{answer}");
        fastest = fastest.min(answer["latency_ms"].as_u64().unwrap());
    }
    assert!(fastest < 5000, "{fastest} ms");
    bridge.stop().await;
    assert_eq!(elsewhere.posted().len(), 0);
    for seen in bridge.probe.history() {
        assert!(!seen.text().contains(SECRET), "{}: {}", seen.topic, seen.text());
    }
    let state_file = std::fs::read_to_string(bridge.state_file()).unwrap();
    assert!(
        state_file.contains("\"notify-1\"") && !state_file.contains(SECRET),
        "{state_file}"
    );
}

/// Starts a bridge whose heater, with these settings, was notified as offline.
async fn with_offline_heater(setup: &Setup, plug: RunningDevice, receiver: &Receiver) -> Running {
    let bridge = setup.clone().start().await;
    bridge.available("heater").await;
    plug.stop().await;
    assert_eq!(
        notifications(&receiver.count(1).await),
        [pair("device_offline", "began")]
    );
    bridge
}

#[tokio::test]
async fn a_restart_repeats_no_notification_and_loses_no_end() {
    let _fast = fast_clocks();
    let receiver = Receiver::ok().await;
    let plug = Simulator::plug(Profile::P110).seed(7).start().await.unwrap();
    let address = plug.address();
    let setup = Setup::new().request_timeout("500ms").device("heater", address);
    let events = "events = [\"device_offline\"]\nafter = \"1s\"\n";
    let setup = setup.clock(&noon()).section(&receiver.entry("json", events));
    let mut bridge = with_offline_heater(&setup, plug, &receiver).await;
    bridge.stop().await;
    let again = setup.after(&bridge).start_on(bridge.broker.clone()).await;
    again
        .expect("heater/availability", |state| state["state"] == "offline")
        .await;
    let plug = Simulator::plug(Profile::P110).seed(7).address(address);
    let _plug = plug.start().await.unwrap();
    again.available("heater").await;
    // What is over has to stay so for 10 s.
    fast_forward(Duration::from_secs(12)).await;
    let expected = [pair("device_offline", "began"), pair("device_offline", "over")];
    assert_eq!(notifications(&receiver.count(2).await), expected);
}

#[tokio::test]
async fn refused_settings_are_notified_until_they_are_accepted() {
    let receiver = Receiver::ok().await;
    let plug = plug().await;
    let setup = Setup::new().device("heater", plug.address());
    let setup = setup.clock(&noon());
    let setup = setup.section(&receiver.entry("json", "events = [\"settings_refused\"]\n"));
    let broker = Arc::new(Mosquitto::start().await);
    let good = setup.toml(broker.address());
    let bridge = setup.start_on(broker).await;
    bridge
        .reload_text(&format!("{good}\n[polling]\nstate = \"never\"\n").replacen(
            "[polling]\nstate = \"1s\"",
            "[report]",
            1,
        ))
        .await;
    let posted = receiver.count(1).await;
    let message = posted[0].body["message"].as_str().unwrap();
    assert!(message.contains("polling.state"), "{message}");
    let info = bridge
        .expect("bridge/info", |info| info["settings_error"].is_string())
        .await;
    assert!(
        info["settings_error"].as_str().unwrap().contains("polling.state"),
        "{info}"
    );
    bridge.reload_text(&good).await;
    bridge
        .expect("bridge/info", |info| info["settings_error"].is_null())
        .await;
    // What is over has to stay so for 10 s.
    fast_forward(Duration::from_secs(12)).await;
    let expected = [
        pair("settings_refused", "began"),
        pair("settings_refused", "over"),
    ];
    assert_eq!(notifications(&receiver.count(2).await), expected);
}

#[tokio::test]
async fn notify_test_says_what_each_server_answers() {
    let good = Receiver::ok().await;
    let bad = Receiver::start(Some(response("404 Not Found", ""))).await;
    let entries = good.entry("json", "id = \"pager\"\n") + &bad.entry("discord", "");
    let home = Home::new(&(settings(dead_address(), &[]) + &entries));
    let output = home.run(&["notify", "test"]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let (ip, other) = (good.address.ip(), bad.address.ip());
    assert!(text.contains(&format!("json to {ip}: HTTP 200")), "{text}");
    assert!(
        text.contains(&format!(
            "discord to {other}: it answers 404 Not Found; check the address"
        )),
        "{text}"
    );
    assert!(
        text.starts_with("pager     ok") && text.contains("notify-2  failed"),
        "{text}"
    );
    assert_eq!(good.posted()[0].body["notifications"][0]["event"], "test");
    let checked = home.run(&["check"]).await;
    let table = String::from_utf8(checked.stdout).unwrap();
    assert!(
        table.contains(&format!("json to {ip}: limit_reached, ")),
        "{table}"
    );
    assert!(!text.contains(SECRET) && !table.contains(SECRET), "{text}{table}");
    assert_eq!(good.posted().len(), 1, "check sends nothing");

    let none = Home::new(&settings(dead_address(), &[]))
        .run(&["notify", "test"])
        .await;
    assert_eq!(none.status.code(), Some(1));
}
