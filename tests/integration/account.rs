//! An account that comes by a request.

use std::{fs, os::unix::fs::MetadataExt as _};

use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, Profile, Simulator};

use crate::{
    mosquitto::Mosquitto,
    process::{Home, ONLINE, device, mqtt, mqtt_only, online, own_address, request, search},
};

const ACCOUNT_FILE: &str = "tapo2mqtt-account.json";

fn account(password: &str) -> String {
    format!(r#"{{"username":"{DEFAULT_USERNAME}","password":"{password}"}}"#)
}

#[tokio::test]
async fn an_account_is_tested_kept_and_used_at_once() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let home = Home::new(&(mqtt(broker.address()) + &device("heater", plug.address())));
    let process = home.start();
    online(&probe).await;

    let refused = request(&probe, "account", &account("wrong")).await;
    assert_eq!(refused["error"]["code"], "account_refused", "{refused}");
    assert!(!home.files().contains(&ACCOUNT_FILE.to_owned()));

    probe.forget();
    let kept = request(&probe, "account", &account(DEFAULT_PASSWORD)).await;
    assert_eq!(kept["status"], "ok", "{kept}");
    probe
        .expect("tapo2mqtt/heater/availability", |payload| payload == ONLINE)
        .await;
    probe
        .expect("tapo2mqtt/bridge/info", |info| {
            info.contains(r#""setup_mode":false"#)
        })
        .await;
    let file = home.file().with_file_name(ACCOUNT_FILE);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let end = process.stop().await;
    for seen in probe
        .history()
        .iter()
        .filter(|seen| !seen.topic.ends_with("/request/account"))
    {
        assert!(
            !seen.text().contains(DEFAULT_PASSWORD),
            "{}: {}",
            seen.topic,
            seen.text()
        );
    }
    assert!(
        !end.output.contains(DEFAULT_PASSWORD) && !end.output.contains(DEFAULT_USERNAME),
        "{}",
        end.output
    );

    // It is there after a restart, until the settings have one.
    probe.forget();
    let process = home.start();
    probe
        .expect("tapo2mqtt/heater/availability", |payload| payload == ONLINE)
        .await;
    process.stop().await.in_order();
    let settings = fs::read_to_string(home.file()).unwrap();
    fs::write(
        home.file(),
        settings + "[tapo]\nusername = \"me@example.org\"\npassword = \"of the file\"\n",
    )
    .unwrap();
    probe.forget();
    let process = home.start();
    online(&probe).await;
    let refused = request(&probe, "account", &account(DEFAULT_PASSWORD)).await;
    assert_eq!(refused["error"]["code"], "disabled", "{refused}");
    process.stop().await.in_order();
}

#[tokio::test]
async fn an_account_is_tested_with_a_found_device() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/bridge/#").await;
    let address = own_address();
    let home = Home::new(&(search(&[address.into()]) + &mqtt_only(broker.address())));
    let process = home.start();
    online(&probe).await;
    let refused = request(&probe, "account", &account(DEFAULT_PASSWORD)).await;
    let text = refused["error"]["message"].as_str().unwrap();
    assert!(text.contains("no device was found"), "{text}");

    let _plug = Simulator::plug(Profile::P110)
        .address((address, 0).into())
        .discovery(true)
        .start()
        .await
        .unwrap();
    probe.forget();
    let kept = request(&probe, "account", &account(DEFAULT_PASSWORD)).await;
    assert_eq!(kept["status"], "ok", "{kept}");
    assert!(home.files().contains(&ACCOUNT_FILE.to_owned()));
    process.stop().await.in_order();
}
