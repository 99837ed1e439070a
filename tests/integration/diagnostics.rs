//! One file that says what happened, and nothing that is private.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tapo_simulator::{Profile, Simulator};
use test_inputs::unpacked;
use tokio::task::spawn_blocking;

use crate::{
    mosquitto::Mosquitto,
    probe::{PATIENCE, Probe},
    process::{Home, SETTINGS_FILE, dead_address, device, mqtt_only, online, request, search},
    setup::{Dialog, run_end},
};

const NICKNAME: &str = "Büro von Anna Quastenflosser";

/// What nobody else may know, by what it is.
const PRIVATE: [(&str, &str); 27] = [
    ("user at the broker", "quastel-broker"),
    ("password at the broker", "pw-broker-1x7"),
    ("account", "anna.quastel@example.org"),
    ("password of the account", "pw-account-1x7"),
    ("account of one device", "bert.quastel@example.org"),
    ("password of one device", "pw-device-1x7"),
    ("user in the address of a notification", "quastel-ntfy"),
    ("password there", "pw-ntfy-1x7"),
    ("its topic", "topic-ntfy-1x7"),
    ("token of a notification", "tk-gotify-1x7"),
    ("user of a mail server", "carla.quastel@example.org"),
    ("password there", "pw-mail-1x7"),
    ("recipient of e-mails", "dora.quastel@example.org"),
    ("sender of e-mails", "emil.quastel@example.org"),
    ("password of the page", "pw-page-1x7"),
    ("name of the page", "page.quastel.example"),
    ("password of the metrics", "pw-metrics-1x7"),
    ("token of the calendar", "calendar-token-1x7"),
    ("latitude", "47.366112"),
    ("longitude", "8.541234"),
    ("name of a device", "Schlafzimmer Quastel"),
    ("name of an outlet", "Nachttisch Quastel"),
    ("name of a group", "Familie Quastel"),
    ("id of a device", "quastels-heizung"),
    ("variable of the environment", "environment-1x7"),
    ("password in the environment", "pw-environment-1x7"),
    ("folder", "/home/quastel"),
];

/// The settings, with everything in them that is private.
fn private_settings(broker: &Mosquitto, plug: std::net::SocketAddr, strip: std::net::SocketAddr) -> String {
    let dead = dead_address();
    search(&[])
        + &mqtt_only(broker.address())
        + "username = \"quastel-broker\"\n"
        + "[log]\nlevel = \"trace\"\n"
        + "[tapo]\nusername = \"anna.quastel@example.org\"\npassword = \"pw-account-1x7\"\n"
        + &device("quastels-heizung", plug)
        + "name = \"Schlafzimmer Quastel\"\n"
        + &device("strip", strip)
        + "username = \"bert.quastel@example.org\"\npassword = \"pw-device-1x7\"\n"
        + "[[device.outlet]]\nposition = 1\nid = \"left\"\nname = \"Nachttisch Quastel\"\n"
        + "[[group]]\nid = \"family\"\nname = \"Familie Quastel\"\noutlets = [\"quastels-heizung\"]\n"
        + &format!(
            "[[notify]]\nurl = \"http://quastel-ntfy:pw-ntfy-1x7@{dead}/topic-ntfy-1x7\"\nformat = \"ntfy\"\n"
        )
        + &format!("[[notify]]\nurl = \"http://{dead}\"\nformat = \"gotify\"\ntoken = \"tk-gotify-1x7\"\n")
        + &format!(
            "[[notify]]\nurl = \"smtp://carla.quastel@example.org@{dead}\"\npassword = \"pw-mail-1x7\"\n"
        )
        + "to = [\"dora.quastel@example.org\"]\nfrom = \"emil.quastel@example.org\"\n"
        + "[web]\nenabled = false\npassword = \"pw-page-1x7\"\nhosts = [\"page.quastel.example\"]\n"
        + "[metrics]\nenabled = false\npassword = \"pw-metrics-1x7\"\n"
        + &format!("[calendar]\nurl = \"http://{dead}/calendar-token-1x7/basic.ics\"\n")
        + "[location]\nlatitude = 47.366112\nlongitude = 8.541234\n"
        + "[state]\nfile = \"state.json\"\n"
}

fn parsed(files: &BTreeMap<String, String>, name: &str) -> Value {
    serde_json::from_str(&files[name]).unwrap()
}

/// Nothing private is in any file, in any capitals, in the bytes that devices send it in or as the digits of an id.
fn assert_nothing_private(files: &BTreeMap<String, String>, more: &[(&str, String)]) {
    let private = PRIVATE.map(|(what, text)| (what, text.to_owned()));
    let bare = |text: &str| text.to_lowercase().replace([':', '-'], "");
    for (what, private) in private.iter().chain(more) {
        for (name, text) in files {
            let found = [
                text.to_lowercase().contains(&private.to_lowercase()),
                text.contains(&STANDARD.encode(private)),
                bare(text).contains(&bare(private)),
            ];
            assert_eq!(found, [false; 3], "the {what} ({private}) is in {name}: {text}");
        }
    }
}

async fn offline(probe: &Probe) {
    probe
        .expect("tapo2mqtt/strip/availability", |state| state.contains("offline"))
        .await;
}

#[tokio::test]
async fn diagnostics_say_what_happened_and_nothing_private() {
    let broker = Mosquitto::builder()
        .login("quastel-broker", "pw-broker-1x7")
        .start()
        .await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let plug = Simulator::plug(Profile::P110)
        .credentials("anna.quastel@example.org", "pw-account-1x7")
        .nickname(NICKNAME)
        .start()
        .await
        .unwrap();
    // It refuses its account, so there are errors about it.
    let strip = Simulator::strip(Profile::P304M).start().await.unwrap();
    let settings = private_settings(&broker, plug.address(), strip.address());
    let home = Home::new(&settings);
    let mut command = home.program(&["--config", SETTINGS_FILE, "run"]);
    let environment = [
        ("TAPO2MQTT__MQTT__PASSWORD", "pw-broker-1x7"),
        ("TAPO2MQTT__WEB__PASSWORD", "pw-environment-1x7"),
        ("SOMETHING_ELSE", "environment-1x7"),
        ("HOME", "/home/quastel"),
    ];
    command.envs(environment);
    let process = Home::spawn(command);
    online(&probe).await;
    let available = "tapo2mqtt/quastels-heizung/availability";
    probe.expect(available, |state| state.contains("online")).await;
    offline(&probe).await;
    let heater = "tapo2mqtt/quastels-heizung";
    probe
        .publish(&format!("{heater}/set"), r#"{"state":"ON","transaction":"anna"}"#)
        .await;
    probe.expect(&format!("{heater}/response"), |_| true).await;
    plug.wait_relay(1, true, PATIENCE).await.unwrap();
    probe
        .expect(heater, |state| state.contains(r#""state":"ON""#))
        .await;
    request(&probe, "vacation", &json!({ "enabled": true }).to_string()).await;

    let mut command = home.program(&["--config", SETTINGS_FILE, "diagnostics"]);
    command.envs(environment);
    let output = command.output().await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let files = unpacked(output.stdout).unwrap();
    let of_devices = [
        ("MAC", plug.mac()),
        ("id of the device", plug.device_id().to_owned()),
        ("MAC of the strip", strip.mac()),
        ("nickname", NICKNAME.to_owned()),
        ("network", "Simulated Wi-Fi".to_owned()),
    ];
    assert_nothing_private(&files, &of_devices);

    // What a maintainer needs is there.
    assert_eq!(parsed(&files, "about.json")["source"], "the bridge that runs");
    let devices = parsed(&files, "devices.json");
    assert_eq!(
        (&devices[0]["model"], &devices[0]["availability"]),
        (&json!("P110"), &json!("online"))
    );
    let id = devices[0]["id"].as_str().unwrap();
    assert_eq!(parsed(&files, "states.json")[id]["state"], "ON");
    let events = parsed(&files, "events.json");
    assert!(
        events
            .as_array()
            .unwrap()
            .iter()
            .any(|event| event["type"] == "vacation"),
        "{events}"
    );
    assert_eq!(parsed(&files, "health.json")["mqtt"]["connected"], true);
    assert!(files["log.txt"].contains("tapo2mqtt starts") && files["log.txt"].contains("WARN"));
    assert_eq!(parsed(&files, "settings.json")["log"]["level"], "trace");

    process.stop().await.in_order();
    let mut command = home.program(&["--config", SETTINGS_FILE, "diagnostics"]);
    command.envs(environment);
    let files = unpacked(command.output().await.unwrap().stdout).unwrap();
    assert_nothing_private(&files, &of_devices);
    let source = parsed(&files, "about.json")["source"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        source.starts_with("settings and state file (the bridge is offline"),
        "{source}"
    );
    assert!(
        parsed(&files, "state.json")["scheduler"].is_object(),
        "{}",
        files["state.json"]
    );
}

#[tokio::test]
async fn a_terminal_gets_no_zip_file() {
    let dialog = spawn_blocking(|| {
        let mut dialog = Dialog::start(&["diagnostics"], tempfile::tempdir().unwrap());
        dialog.expect("which a terminal cannot show: tapo2mqtt diagnostics > tapo2mqtt.zip");
        dialog
    });
    let (_, status, _) = run_end(dialog.await.unwrap()).await;
    assert_eq!(status.code(), Some(1));
}
