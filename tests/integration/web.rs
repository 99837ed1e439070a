//! The page over HTTP: everything that is published, commands with their responses, who may do what.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::{Value, json};
use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, Fault, Profile, Scope, Simulator, Stage};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    bridge::{Running, Setup, fast_clocks},
    health::issues,
    log::Log,
    mosquitto::Mosquitto,
    page::Page,
    probe::PATIENCE,
    process::{Home, account, device, search, settings},
};

const GROUP: &str =
    "[[group]]\nid = \"all\"\nname = \"All\"\noutlets = [\"heater\"]\n[group.safety]\nmax_on = \"6h\"\n";

/// A bridge with one plug, and its page.
async fn start(more: &str) -> (Running, Page, tapo_simulator::RunningDevice) {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let (page, section) = Page::new(more);
    let setup = Setup::new().device("heater", plug.address()).section(&section);
    let bridge = setup.rules(GROUP).start().await;
    bridge.available("heater").await;
    (bridge, page, plug)
}

/// Logs in; the cookie is what later requests send.
async fn cookie_of_login(page: &Page) -> String {
    let response = page
        .post("/api/login", &json!({ "password": "correct horse" }))
        .await;
    let cookie = response.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

fn state(wanted: &'static str) -> impl Fn(&Value) -> bool {
    move |payload| payload["state"] == wanted
}

#[tokio::test]
async fn a_page_gets_what_is_retained_and_each_change() {
    let (bridge, page, _plug) = start("").await;
    let mut changes = page.stream().await;
    changes.until(|changes| changes.is_complete).await;
    assert_eq!(changes.hello["restarts"], true);
    // The last that is read of a device is its meter.
    bridge.expect("heater", |state| state["power"].is_number()).await;
    for topic in [
        "heater",
        "group/all",
        "bridge/devices",
        "bridge/groups",
        "bridge/info",
    ] {
        let retained = bridge.retained(topic).await;
        changes.expect(topic, |payload| *payload == retained).await;
    }
    assert!(!changes.topics.keys().any(|topic| topic.contains("config")));

    bridge.set("heater", "on", json!({ "state": "ON" })).await;
    changes.expect("heater", state("ON")).await;
    // Its limit is armed by our own client.
    changes
        .expect("bridge/devices", |devices| devices[0]["client"] == "own")
        .await;
    let position = changes.position.clone();
    drop(changes);
    let events = bridge.events("command_failed").len();
    bridge.publish("heater/set", r#"{"state":"maybe"}"#).await;
    bridge.set("heater", "off", json!({ "state": "OFF" })).await;

    let mut resumed = page.stream_after(&position).await;
    resumed.expect("heater", state("OFF")).await;
    assert_eq!(resumed.hello["restarts"], false);
    assert!(
        !resumed.topics.contains_key("bridge/devices"),
        "it did not change"
    );
    assert_eq!(resumed.events.len(), events + 1, "{:?}", resumed.events);

    let asked = page.get(&format!("/api/changes?after={position}")).await.json();
    assert_eq!(asked["hello"]["restarts"], false);
    let topics: Vec<_> = asked["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["topic"])
        .collect();
    assert!(topics.contains(&&json!("heater")), "{topics:?}");
    let last = asked["id"].as_str().unwrap();
    let asked = page.get(&format!("/api/changes?after={last}")).await.json();
    assert_eq!(asked["more"], false);
}

#[tokio::test]
async fn a_page_switches_and_gets_the_response() {
    let (bridge, page, plug) = start("").await;
    let done = page.send("heater/set", json!({ "state": "ON" })).await;
    assert_eq!(
        (&done["status"], &done["state"]),
        (&json!("ok"), &json!("ON")),
        "{done}"
    );
    assert!(plug.relay(1));
    let done = page.send("group/all/set", json!("OFF")).await;
    assert_eq!(
        (&done["status"], &done["state"]),
        (&json!("ok"), &json!("OFF")),
        "{done}"
    );
    assert_eq!(done["members"]["heater"]["status"], "ok");
    let done = page.send("bridge/request/plan", Value::Null).await;
    assert_eq!(done["data"]["groups"][0]["group"], "all", "{done}");
    assert_eq!(
        bridge.answers("heater"),
        Vec::<Value>::new(),
        "no response over MQTT"
    );

    plug.faults().set(Fault::Hang {
        stage: Stage::BeforeApplying,
        scope: Scope::all(),
    });
    let failed = page
        .send("heater/set", json!({ "state": "ON", "ttl": 0.5 }))
        .await;
    let code = failed["error"]["code"].as_str().unwrap();
    assert!(["expired", "no_answer"].contains(&code), "{failed}");
    assert!(!plug.relay(1));
    bridge
        .expect("bridge/event", |event| event["type"] == "command_failed")
        .await;
}

#[tokio::test]
async fn a_page_sends_only_commands_and_what_it_sends_is_decoded() {
    let log = Log::capture();
    let (_bridge, page, plug) = start("").await;
    let code = async |topic: &str, payload: Value| page.send(topic, payload).await["error"]["code"].clone();
    for topic in [
        "bridge/state",
        "heater",
        "heater/availability",
        "bridge/devices",
        "a/b/c/d/set",
        "",
        "bridge/health",
    ] {
        assert_eq!(code(topic, json!("ON")).await, "not_a_command", "{topic}");
    }
    assert_eq!(code("nobody/set", json!("ON")).await, "unknown_device");
    assert_eq!(code("Living Room/set", json!("ON")).await, "unknown_device");
    assert_eq!(code("heater/set", json!({ "stat": "ON" })).await, "unknown_key");
    assert_eq!(code("heater/set", json!("")).await, "invalid_payload");
    assert_eq!(
        code("heater/set", json!("{\"state\":\"ON\",\"state\":\"OFF\"}")).await,
        "duplicate_key"
    );
    for request in ["dance", "Dance now"] {
        let topic = format!("bridge/request/{request}");
        assert_eq!(code(&topic, Value::Null).await, "unknown_request");
        let lines = log.lines();
        let about = lines.iter().filter(|line| line.contains(request));
        assert_eq!(about.count(), 1, "{lines:#?}");
    }
    assert_eq!(
        code("group/all/set/schedule/none", json!("ON")).await,
        "unknown_schedule"
    );
    for body in ["", "[]", "{\"topic\":1}", "{\"topic\":\"heater/set\",\"more\":1}"] {
        let response = page
            .post("/api/send", &serde_json::from_str(body).unwrap_or_default())
            .await;
        assert_eq!(response.status, 400, "{body}");
    }
    let large = json!({ "topic": "heater/set", "payload": "x".repeat(100_000) });
    assert_eq!(page.post("/api/send", &large).await.status, 400);
    assert!(!plug.relay(1));
}

#[tokio::test]
async fn a_page_works_while_the_broker_is_away() {
    let mut broker = Mosquitto::start().await;
    let address = broker.address();
    broker.kill();
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let (page, section) = Page::new("");
    let home = Home::new(&(settings(address, &[("heater", plug.address())]) + &section));
    let process = home.start();
    let mut changes = page.stream().await;
    changes.expect("heater/availability", state("online")).await;
    changes
        .expect("bridge/devices", |devices| devices[0]["model"] == "P110")
        .await;
    let done = page.send("heater/set", json!("ON")).await;
    assert_eq!(done["status"], "ok", "{done}");
    changes.expect("heater", state("ON")).await;
    changes
        .expect("bridge/health", |health| health["mqtt"]["connected"] == false)
        .await;
    broker.restart().await;
    let health = changes
        .expect("bridge/health", |health| health["mqtt"]["connected"] == true)
        .await;
    assert!(health["mqtt"]["since"].is_string(), "{health}");
    broker.kill();
    changes
        .expect("bridge/health", |health| health["mqtt"]["connected"] == false)
        .await;
    assert_eq!(page.send("heater/set", json!("OFF")).await["state"], "OFF");

    // A stop is shown, then the stream ends.
    let end = process.stop().await;
    end.in_order();
    while changes.next().await {}
    assert_eq!(changes.topics["bridge/state"]["state"], "offline");
}

#[tokio::test]
async fn without_a_broker_the_page_and_schedules_switch() {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let lamp = Simulator::plug(Profile::P100).start().await.unwrap();
    let (page, section) = Page::new("");
    let without = "[mqtt]\nenabled = false\n";
    let own = search(&[Ipv4Addr::LOCALHOST.into()]) + &account(DEFAULT_USERNAME, DEFAULT_PASSWORD);
    let devices = device("heater", plug.address()) + &device("lamp", lamp.address());
    let always = "[[group.schedule]]\nid = \"always\"\nall_day = true\n";
    let home = Home::new(&(own + without + &section + &devices + GROUP + always));
    let table = String::from_utf8(home.run(&["check"]).await.stdout).unwrap();
    assert!(table.contains("none (mqtt.enabled is false)"), "{table}");
    assert!(
        !table.contains("failed") && table.contains("nothing is announced"),
        "{table}"
    );

    let process = home.start();
    let mut changes = page.stream().await;
    changes.expect("heater", state("ON")).await;
    assert!(plug.relay(1));
    let health = changes.expect("bridge/health", |_| true).await;
    let mut issues = issues(&health, "");
    issues.retain(|issue| !issue.contains("the machine is overloaded"));
    assert_eq!((&health["mqtt"], issues), (&Value::Null, Vec::new()));
    changes
        .expect("bridge/groups", |groups| groups[0]["id"] == "all")
        .await;
    changes
        .expect("lamp/availability", |state| state["state"] == "online")
        .await;
    assert_eq!(page.send("lamp/set", json!("ON")).await["state"], "ON");
    assert!(lamp.relay(1));
    let again = page
        .send("bridge/request/homeassistant/rediscover", Value::Null)
        .await;
    assert_eq!(again["error"]["code"], "disabled", "{again}");
    while page.get("/readyz").await.status != 200 {}
    let figures = page.get("/metrics").await.text();
    assert!(
        !figures.contains("tapo2mqtt_mqtt_") && !figures.contains("queue=\"mqtt\""),
        "{figures}"
    );
    let healthy = home.run(&["healthcheck"]).await;
    assert!(healthy.status.success(), "{healthy:?}");
    let end = process.stop().await;
    end.in_order();
    let about_a_broker =
        |line: &&str| !line.contains(" INFO ") && (line.contains("roker") || line.contains("link"));
    let noise: Vec<_> = end.output.lines().filter(about_a_broker).collect();
    assert_eq!(noise, [""; 0]);
    assert!(end.output.contains("broker=\"none\""), "{}", end.output);
    assert_eq!(home.run(&["healthcheck"]).await.status.code(), Some(1));
}

#[tokio::test]
async fn what_another_site_or_name_sends_switches_nothing() {
    let (_bridge, page, plug) = start("hosts = [\"tapo.lan\"]").await;
    let on = json!({ "topic": "heater/set", "payload": "ON" });
    for (name, value, status) in [
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
        ("Origin", "http://evil.example", 403),
        ("Origin", "null", 403),
        ("X-Tapo2mqtt", "", 403),
        ("Content-Type", "text/plain", 403),
        ("Content-Type", "application/x-www-form-urlencoded", 403),
        ("Host", "evil.example", 421),
        ("Host", "", 421),
    ] {
        let response = page.with(name, value).post("/api/send", &on).await;
        assert_eq!(response.status, status, "{name}: {value}");
    }
    let rebound = page.with("Host", "evil.example:8099");
    for path in ["/", "/api/events", "/api/changes"] {
        assert_eq!(rebound.get(path).await.status, 421, "{path}");
    }
    assert_eq!(
        page.with("Sec-Fetch-Site", "cross-site")
            .get("/api/changes")
            .await
            .status,
        403
    );
    assert!(!plug.relay(1));
    let own = page
        .with("Host", "tapo.lan:8099")
        .with("Sec-Fetch-Site", "same-origin");
    assert_eq!(own.post("/api/send", &on).await.status, 200);
    assert!(plug.relay(1));
}

#[tokio::test]
async fn without_a_login_nothing_is_shown_and_nothing_switches() {
    let (bridge, page, plug) = start("password = \"correct horse\"").await;
    let on = json!({ "topic": "heater/set", "payload": "ON" });
    let try_one = async |password: &str| page.post("/api/login", &json!({ "password": password })).await;
    for path in ["/api/events", "/api/changes"] {
        assert_eq!(page.get(path).await.status, 401, "{path}");
        assert_eq!(
            page.with("Cookie", "tapo2mqtt_session=x").get(path).await.status,
            401,
            "{path}"
        );
    }
    assert_eq!(page.post("/api/send", &on).await.status, 401);
    assert_eq!(page.get("/").await.status, 200, "the login is on it");

    assert_eq!(try_one("wrong").await.status, 403);
    let response = try_one("correct horse").await;
    assert_eq!(response.status, 200);
    let cookie = response.header("set-cookie").unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let known = page.with("Cookie", cookie.split(';').next().unwrap());
    assert_eq!(known.post("/api/send", &on).await.json()["state"], "ON");
    assert!(plug.relay(1));
    let info = bridge.retained("bridge/info").await.to_string();
    assert!(
        info.contains("\"login\":true") && !info.contains("horse"),
        "{info}"
    );

    for _ in 0..6 {
        assert_eq!(try_one("wrong").await.status, 403);
    }
    assert_eq!(try_one("wrong").await.status, 429);
    assert_eq!(try_one("correct horse").await.status, 429);
    assert_eq!(known.get("/api/changes").await.status, 200, "who is in stays in");
    assert_eq!(known.post("/api/logout", &json!({})).await.status, 200);
    assert_eq!(known.get("/api/changes").await.status, 401);
}

#[tokio::test]
async fn a_login_outlives_a_restart_of_the_bridge() {
    let (mut bridge, page, plug) = start("password = \"correct horse\"").await;
    let cookie = cookie_of_login(&page).await;
    bridge.stop().await;
    let (again, section) = Page::new("password = \"correct horse\"");
    let setup = Setup::new().device("heater", plug.address()).section(&section);
    let _again = setup.after(&bridge).start().await;
    assert_eq!(
        again.with("Cookie", &cookie).get("/api/changes").await.status,
        200
    );
}

#[tokio::test]
async fn the_files_of_the_page_are_sent_with_a_strict_policy() {
    let (_bridge, page, _plug) = start("").await;
    let index = page.with("Accept-Encoding", "gzip").get("/").await;
    assert_eq!(
        (index.status, index.header("content-encoding")),
        (200, Some("gzip"))
    );
    assert_eq!(page.get("/").await.header("content-encoding"), None);
    let policy = index.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(index.header("x-content-type-options"), Some("nosniff"));
    let etag = index.header("etag").unwrap();
    assert_eq!(page.with("If-None-Match", etag).get("/").await.status, 304);
    assert_eq!(
        page.get("/app.js").await.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    for path in ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "/none.js", "/api/none"] {
        assert_eq!(page.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn names_of_devices_reach_a_page_as_they_are() {
    let name = "<img src=x onerror=alert(1)>";
    let plug = Simulator::plug(Profile::P110)
        .nickname(name)
        .start()
        .await
        .unwrap();
    let (page, section) = Page::new("");
    let _bridge = Setup::new()
        .device("heater", plug.address())
        .section(&section)
        .start()
        .await;
    let mut changes = page.stream().await;
    let devices = changes
        .expect("bridge/devices", |devices| devices[0]["nickname"].is_string())
        .await;
    assert_eq!(devices[0]["name"], name);
}

#[tokio::test]
async fn as_many_pages_as_there_may_be_delay_no_command() {
    let (_bridge, page, _plug) = start("").await;
    let alone = median_latency(&page).await;
    let mut pages = Vec::new();
    for _ in 0..31 {
        let mut changes = page.stream().await;
        changes.until(|changes| changes.is_complete).await;
        pages.push(changes);
    }
    // One more, which never reads.
    let _stuck = page.open("GET", "/api/events", "").await;
    let refused = loop {
        let mut extra = page.open("GET", "/api/events", "").await;
        let mut head = [0; 12];
        extra.read_exact(&mut head).await.unwrap();
        if &head != b"HTTP/1.0 200" {
            break head;
        }
    };
    assert_eq!(&refused, b"HTTP/1.0 503");
    let together = median_latency(&page).await;
    assert!(
        together < alone * 3 + Duration::from_millis(50),
        "{alone:?} alone, {together:?} with 32 pages"
    );
    for changes in &mut pages {
        changes.expect("heater", state("OFF")).await;
    }
    drop(pages);
    // Their places are free again.
    let mut changes = page.stream().await;
    changes.until(|changes| changes.is_complete).await;
}

/// How long a command takes; the last is an OFF.
async fn median_latency(page: &Page) -> Duration {
    let mut all = Vec::new();
    for number in 0..20 {
        let before = Instant::now();
        let wanted = if number % 2 == 0 { "ON" } else { "OFF" };
        let done = page.send("heater/set", json!(wanted)).await;
        assert_eq!(done["state"], wanted, "{done}");
        all.push(before.elapsed());
    }
    all.sort();
    all[all.len() / 2]
}

#[tokio::test]
async fn silent_connections_do_not_block_another_client() {
    let (_bridge, page, plug) = start("password = \"correct horse\"").await;
    let cookie = cookie_of_login(&page).await;
    let known = page.with("Cookie", &cookie);
    let mut changes = known.stream().await;
    changes.until(|changes| changes.is_complete).await;
    let mut crowd = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(page.address).await.unwrap();
        // Nothing, a part of a head, a body that does not come.
        let sent = match number % 3 {
            0 => "",
            1 => "GET / HTTP/1.1\r\nHo",
            _ => "POST /api/login HTTP/1.1\r\nContent-Length: 9\r\nContent-Type: application/json\r\n\r\n",
        };
        stream.write_all(sent.as_bytes()).await.unwrap();
        crowd.push(stream);
    }
    for path in ["/health", "/healthz", "/"] {
        assert_eq!(page.get(path).await.status, 200, "{path}");
    }
    assert_eq!(known.send("heater/set", json!("ON")).await["state"], "ON");
    assert!(plug.relay(1));
    changes.expect("heater", state("ON")).await;
    let mut all = Vec::new();
    let closed = timeout(PATIENCE, crowd[0].read_to_end(&mut all)).await;
    assert!(closed.is_ok(), "the oldest made room");
}

#[tokio::test]
async fn a_listener_that_cannot_listen_is_an_issue() {
    let _fast = fast_clocks();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let (page, section) = Page::new("");
    let metrics = format!("[metrics]\nenabled = true\nlisten = \"{address}\"\n");
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = Setup::new().device("heater", plug.address());
    let bridge = setup.section(&(section + &metrics)).start().await;
    bridge.available("heater").await;
    let named = |health: &Value| health["issues"].to_string().contains("[metrics] cannot listen");
    bridge.expect("bridge/health", named).await;
    let ready = page.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains(&address.to_string()), "{}", ready.text());
    drop(taken);
    bridge.expect("bridge/health", |health| !named(health)).await;
    while page.get("/readyz").await.status != 200 {}
}

#[tokio::test]
async fn a_port_that_is_in_use_does_not_stop_the_bridge() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let section = format!("[web]\nenabled = true\nlisten = \"{address}\"\n");
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let bridge = Setup::new()
        .device("heater", plug.address())
        .section(&section)
        .start()
        .await;
    bridge.available("heater").await;
    assert_eq!(
        bridge.set("heater", "on", json!({ "state": "ON" })).await["status"],
        "ok"
    );
}
