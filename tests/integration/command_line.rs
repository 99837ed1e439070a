//! The commands beside `run`: what they print, where, and how they end.

use std::{
    ffi::OsStr,
    fs,
    io::pipe,
    os::unix::ffi::OsStrExt as _,
    process::{Output, Stdio},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use crate::{
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::{Home, SETTINGS_FILE, dead_address, own_address, settings},
};

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

async fn finish(mut command: Command, stdout: impl Into<Stdio>) -> Output {
    // `Command::output` would take standard output for itself.
    let child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn output_that_cannot_be_written_is_no_panic() {
    let broker = Mosquitto::start().await;
    let home = Home::new(&settings(broker.address(), &[]));
    let heattrax = home.file().with_file_name("config.yaml");
    fs::write(heattrax, "vacation_mode: false\n").unwrap();
    let commands: [&[&str]; 7] = [
        &["check"],
        &["discover", "--target", "127.0.0.1", "--wait", "1"],
        &["plan"],
        &["plan", "--json"],
        &["man"],
        &["completions", "bash"],
        &["migrate", "heattrax", "config.yaml"],
    ];
    for command in commands {
        let arguments = [&["--config", SETTINGS_FILE], command].concat();
        // As before `| head`, which has ended.
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = finish(home.program(&arguments), writer).await;
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", errors(&output));
        assert_eq!(errors(&output), "", "{command:?}");

        let full = fs::File::create("/dev/full").unwrap();
        let output = finish(home.program(&arguments), full).await;
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let message = errors(&output);
        assert!(
            message.starts_with("tapo2mqtt: cannot write the output: ") && message.lines().count() == 1,
            "{command:?}: {message}"
        );
    }
}

#[tokio::test]
async fn a_migration_that_loses_something_fails() {
    let home = Home::new("");
    let heattrax = home.file().with_file_name("config.yaml");
    let yaml = |off: &str| {
        format!(
            "devices:\n  groups:\n    mats:\n      items: [{{ name: Mat, ip_address: 192.168.1.100 }}]\n      schedules:\n        \
             - {{ name: Night, on: {{ type: time, value: \"22:00\" }}, off: {{ type: time, value: \"{off}\" }} }}\n"
        )
    };
    for (off, code) in [("06:00", 0), ("24:00", 1)] {
        fs::write(&heattrax, yaml(off)).unwrap();
        let output = home.run_bare(&["migrate", "heattrax", "config.yaml"]).await;
        assert_eq!(output.status.code(), Some(code), "{}", errors(&output));
        // What could be converted is there all the same.
        assert!(
            String::from_utf8(output.stdout.clone())
                .unwrap()
                .contains("[[group.schedule]]")
        );
        let named = errors(&output).contains("\"Night\" of the group mats is disabled");
        assert_eq!(named, code == 1, "{}", errors(&output));
    }
}

#[tokio::test]
async fn check_and_plan_name_what_the_sun_does() {
    let group = r#"
        [location]
        latitude = 52.52
        longitude = 13.405
        timezone = "Europe/Berlin"
        [[group]]
        id = "driveway"
        outlets = ["heater"]
        [[group.schedule]]
        id = "morning"
        start = "05:30"
        end = "sunrise"
        fallback_end = "08:00"
        [[group.schedule]]
        id = "night"
        start = "sunset"
        fallback_start = "17:00"
        end = "sunrise"
        fallback_end = "08:00"
        [[group.schedule]]
        id = "evening"
        start = "sunset"
        fallback_start = "17:00"
        end = "23:00"
    "#;
    let home = Home::new(&(settings(dead_address(), &[("heater", dead_address())]) + group));
    let table = printed(&home.run(&["check"]).await);
    let note = |schedule: &str| {
        let line = table.lines().find(|line| line.starts_with(schedule));
        line.map(|line| line.split_once(" note ").expect(line).1.trim().to_owned())
    };
    let morning = note("schedule driveway/morning").expect(&table);
    assert!(
        morning.starts_with("no window on 20") && morning.contains("-05-0"),
        "{table}"
    );
    let night = note("schedule driveway/night").expect(&table);
    assert!(night.starts_with("longer than 12 h on 20"), "{table}");
    assert_eq!(note("schedule driveway/evening"), None, "{table}");

    let plan = ["plan", "--at", "2027-05-01T00:00:00+02:00", "--days", "7"];
    let text = printed(&home.run(&plan).await);
    let line = text.lines().find(|line| line.contains("morning: no window on"));
    assert!(
        line.is_some_and(|line| line.contains("2027-05-04 to 2027-05-07, when the sun")),
        "{text}"
    );
    let json = printed(&home.run(&[&plan[..], &["--json"]].concat()).await);
    let outlook: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        outlook["groups"][0]["sun"],
        json!({"morning": {"empty": [["2027-05-04", "2027-05-07"]], "long": []}})
    );
}

#[tokio::test]
async fn variables_that_do_not_count_are_named() {
    let home = Home::new(&settings(dead_address(), &[]));
    let mut command = home.program(&["--config", SETTINGS_FILE, "check"]);
    command.env("TAPO2MQTT_MQTT_PORT", "1884");
    let output = finish(command, Stdio::piped()).await;
    let table = printed(&output);
    assert!(
        table.contains(
            "TAPO2MQTT_MQTT_PORT is ignored; two underscores make it a setting: TAPO2MQTT__MQTT__PORT"
        ),
        "{table}"
    );
    // As a terminal in Latin-1 sends it.
    let mut command = home.program(&["--config", SETTINGS_FILE, "check"]);
    command.env("TAPO2MQTT__TAPO__PASSWORD", OsStr::from_bytes(b"k\xfcche"));
    let output = finish(command, Stdio::piped()).await;
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(
        errors(&output).lines().last().unwrap().trim(),
        "environment variable TAPO2MQTT__TAPO__PASSWORD: expected a value in UTF-8"
    );
}

#[tokio::test]
async fn wrong_arguments_are_not_tried_again() {
    let home = Home::new("");
    for arguments in [&["run", "--verbose"][..], &["dance"], &["plan", "--days", "0"]] {
        let output = home.run_bare(arguments).await;
        // As bad settings, so that systemd does not start it again.
        assert_eq!(
            output.status.code(),
            Some(64),
            "{arguments:?}: {}",
            errors(&output)
        );
        assert!(!errors(&output).is_empty());
    }
    for arguments in [&["--help"][..], &["--version"], &["plan", "--help"]] {
        assert_eq!(
            home.run_bare(arguments).await.status.code(),
            Some(0),
            "{arguments:?}"
        );
    }
    let help = printed(&home.run_bare(&["--help"]).await);
    assert!(help.contains("64 invalid settings or arguments"), "{help}");
}

#[cfg(feature = "demo")]
#[tokio::test]
async fn each_simulated_device_is_another_one() {
    let shown = async |arguments: &[&str]| {
        let address = own_address();
        let (device, control) = (format!("{address}:8081"), format!("{address}:8091"));
        let own = [
            "simulate",
            "--profile",
            "P110",
            "--address",
            &device,
            "--control",
            &control,
        ];
        let process = Home::new("").start_with(&[&own[..], arguments].concat());
        process.wrote("faults and counters").await;
        let mut stream = TcpStream::connect(&control).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        process.terminate();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap()
    };
    let (one, other) = (shown(&[]).await, shown(&["--name", "Boiler"]).await);
    assert_ne!(one["devices"][0]["mac"], other["devices"][0]["mac"]);
    let (seven, again) = (shown(&["--seed", "7"]).await, shown(&["--seed", "7"]).await);
    assert_eq!(seven["devices"][0]["device_id"], again["devices"][0]["device_id"]);
    // What it can do is listed, and documented.
    let paths = one["paths"].as_object().unwrap();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/simulate.md")).unwrap();
    assert!(paths.contains_key("POST /press/{position}"), "{paths:?}");
    for path in paths.keys() {
        assert!(
            page.contains(&format!("| `{path}` |")),
            "{path} is not in docs/simulate.md"
        );
    }
}
