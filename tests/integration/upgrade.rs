//! Settings and state of each earlier version in this one, and a state that moves.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tapo_simulator::{Profile, Simulator};

use crate::{
    mosquitto::Mosquitto,
    packaging::repository,
    probe::Probe,
    process::{Home, STATE_FILE, dead_address, mqtt, online, request, settings},
};

/// Settings and state of each version. Those of a release stay as they are.
const VERSIONS: [&str; 2] = ["0.1.0", "0.2.0"];

fn golden(name: &str) -> String {
    repository(&format!("tests/integration/upgrade/{name}"))
}

async fn start(broker: &Mosquitto) -> (Probe, Home) {
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/bridge/#").await;
    let version = VERSIONS.last().unwrap();
    (
        probe,
        Home::new(&(mqtt(broker.address()) + &golden(&format!("{version}.toml")))),
    )
}

fn state_file(home: &Home) -> std::path::PathBuf {
    home.file().with_file_name(STATE_FILE)
}

async fn vacation(probe: &Probe, is_on: bool) {
    let expected = format!("\"vacation\":{is_on}");
    probe
        .expect("tapo2mqtt/bridge/info", |info| info.contains(&expected))
        .await;
}

#[tokio::test]
async fn settings_and_state_of_each_version_go_on() {
    assert!(
        VERSIONS.contains(&env!("CARGO_PKG_VERSION")),
        "add what this version writes"
    );
    for version in VERSIONS {
        let broker = Mosquitto::start().await;
        let (probe, _) = start(&broker).await;
        let home = Home::new(&(mqtt(broker.address()) + &golden(&format!("{version}.toml"))));
        fs::write(state_file(&home), golden(&format!("{version}-state.json"))).unwrap();
        let process = home.start();
        online(&probe).await;
        vacation(&probe, true).await;
        let schedules = request(&probe, "schedule/list", r#"{"group":"driveway"}"#)
            .await
            .to_string();
        assert!(
            schedules.contains("late") && schedules.contains("22:00"),
            "{version}: {schedules}"
        );
        let info = probe.last("tapo2mqtt/bridge/info").unwrap();
        assert!(info.contains(r#""start_checks":[]"#), "{version}: {info}");
        process.stop().await.in_order();
        assert_eq!(home.files(), ["bridge.toml", STATE_FILE], "{version}");
    }
}

#[tokio::test]
async fn a_newer_state_file_is_refused_in_words_and_kept() {
    let broker = Mosquitto::start().await;
    let (probe, home) = start(&broker).await;
    let newer = r#"{"version": 99, "base_topic": "tapo2mqtt", "novel": {"of": "tomorrow"}}"#;
    fs::write(state_file(&home), newer).unwrap();
    let process = home.start();
    online(&probe).await;
    let info = probe
        .expect("tapo2mqtt/bridge/info", |info| info.contains("version 99"))
        .await;
    assert!(info.contains("this program reads version 1"), "{info}");
    process.stop().await.in_order();
    let kept = home.file().with_file_name(format!("{STATE_FILE}.broken"));
    assert_eq!(fs::read_to_string(kept).unwrap(), newer);
}

async fn restore(home: &Home, file: &Path) -> (Option<i32>, String) {
    let output = home.run(&["restore", file.to_str().unwrap()]).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn a_backup_is_taken_over_at_the_next_start() {
    let broker = Mosquitto::start().await;
    let (probe, home) = start(&broker).await;
    let process = home.start();
    online(&probe).await;
    let done = request(&probe, "vacation", r#"{"enabled":true}"#).await;
    assert_eq!(done["status"], "ok", "{done}");
    // A disk that is busy with other tests may take longer than the response waits.
    let backup = loop {
        let backup = request(&probe, "backup", "").await;
        if backup["data"]["scheduler"]["vacation"]["since"].is_string() {
            break backup;
        }
        probe.forget();
    };
    assert_eq!(backup["status"], "ok", "{backup}");
    assert!(!backup.to_string().contains("a-password"), "{backup}");
    let off = request(&probe, "vacation", r#"{"enabled":false}"#).await;
    assert_eq!(off["status"], "ok", "{off}");

    // As it was received, while the bridge runs.
    let file = home.file().with_file_name("backup.json");
    fs::write(&file, backup.to_string()).unwrap();
    let (code, text) = restore(&home, &file).await;
    assert_eq!(code, Some(0), "{text}");
    process.stop().await.in_order();
    probe.forget();
    let process = home.start();
    process.wrote("state restored").await;
    vacation(&probe, true).await;
    process.stop().await.in_order();
    let before = home.file().with_file_name(format!("{STATE_FILE}.before-restore"));
    let before: Value = serde_json::from_str(&fs::read_to_string(before).unwrap()).unwrap();
    assert_eq!(before["scheduler"]["vacation"], json!("off"), "{before}");

    // Once.
    probe.forget();
    let process = home.start();
    online(&probe).await;
    process.stop().await.in_order();
    assert!(
        !home.files().iter().any(|name| name.ends_with(".restore")),
        "{:?}",
        home.files()
    );

    for (content, why) in [
        (r#"{"version": 99}"#, "version 99"),
        (
            r#"{"version": 1, "base_topic": "garden"}"#,
            "base topic \"garden\"",
        ),
        ("[1]", "no state of a bridge"),
        ("{}", "no state of a bridge: version or clock is missing"),
        (
            r#"{"version": 1, "clock": 7}"#,
            "no state of a bridge: version or clock",
        ),
        ("version: 1", "is not restored: it is no JSON"),
        (r#"{"version": 1}"#, "nothing in it"),
    ] {
        fs::write(&file, content).unwrap();
        let (code, text) = restore(&home, &file).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(why) && !text.contains("AsOf"), "{text}");
    }
}

#[tokio::test]
async fn a_backup_may_have_a_topic_or_a_mark_before_it() {
    let home = Home::new(&settings(dead_address(), &[]));
    let file = home.file().with_file_name("backup.json");
    let state = r#"{"version": 1, "scheduler": {}}"#;
    for before in ["\u{feff}", "tapo2mqtt/bridge/response/backup "] {
        fs::write(&file, format!("{before}{{\"data\": {state}}}\n")).unwrap();
        let (code, text) = restore(&home, &file).await;
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains("is kept as"), "there is none yet: {text}");
    }
}

#[tokio::test]
async fn a_backup_of_a_run_that_ended_reports_no_limit() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let group = "[[group]]\nid = \"all\"\noutlets = [\"heater\"]\nsafety = { max_on = \"1s\", cooldown = \"none\" }\n";
    let home = Home::new(&(settings(broker.address(), &[("heater", plug.address())]) + group));
    let process = home.start();
    online(&probe).await;
    let is_online = |state: &str| state.contains("online");
    probe.expect("tapo2mqtt/heater/availability", is_online).await;
    let backup = loop {
        probe.forget();
        probe.publish("tapo2mqtt/heater/set", "ON").await;
        let backup = request(&probe, "backup", "").await.to_string();
        // While it is on: the limit may be faster than a busy machine.
        if backup.contains("on_since") {
            break backup;
        }
    };
    // The run is over, and so is the limit of it.
    let is_trip = |event: &str| event.contains("safety_trip");
    probe.expect("tapo2mqtt/bridge/event", is_trip).await;
    let off = r#"{"state":"OFF","transaction":"off"}"#;
    probe.publish("tapo2mqtt/heater/set", off).await;
    let is_done = |response: &str| response.contains("\"transaction\":\"off\"");
    probe.expect("tapo2mqtt/heater/response", is_done).await;
    process.stop().await.in_order();

    let file = home.file().with_file_name("backup.json");
    fs::write(&file, backup).unwrap();
    let (code, text) = restore(&home, &file).await;
    assert_eq!(code, Some(0), "{text}");
    probe.forget();
    let process = home.start();
    process.wrote("state restored").await;
    probe
        .expect("tapo2mqtt/heater", |state| state.contains("\"state\":\"OFF\""))
        .await;
    request(&probe, "health", "").await;
    for seen in probe.history() {
        let text = seen.text();
        let is_limited = is_trip(&text) || text.contains("\"source\":\"safety\"");
        assert!(!is_limited, "{}: {text}", seen.topic);
    }
    process.stop().await.in_order();
}
