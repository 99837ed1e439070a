//! The commands beside `run`: what they print, where, and how they end.

use std::{
    ffi::OsStr,
    fs,
    io::pipe,
    net::Ipv4Addr,
    os::unix::ffi::OsStrExt as _,
    process::{Output, Stdio},
};

use serde_json::{Value, json};
use tapo_simulator::{ChildModel, Profile, Protocol, Simulator};
use tapo2mqtt::system::tasks::Tasks;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    process::Command,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    faulty_broker::FaultyBroker,
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::{Home, PROGRAM, SETTINGS_FILE, STATE_FILE, dead_address, mqtt_only, own_address, settings},
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
async fn check_shows_the_sensors_of_a_hub() {
    let hub =
        Simulator::hub(Profile::H100).children([(ChildModel::T315, "Hall"), (ChildModel::T110, "Door")]);
    let hub = hub.start().await.unwrap();
    let sensor = |id: &str, device: &str, value: &str| {
        format!("[[sensor]]\nid = \"{id}\"\ndevice = \"{device}\"\nvalue = \"{value}\"\n")
    };
    let sensors = sensor("hall", "hub/hall", "temperature")
        + &sensor("attic", "hub/attic", "temperature")
        + &sensor("door", "hub/door", "humidity");
    let home = Home::new(&(settings(dead_address(), &[("hub", hub.address())]) + &sensors));
    let table = printed(&home.run(&["check"]).await);
    for (row, text) in [
        ("device hub", "2 sensors and thermostats: door T110, hall T315"),
        ("sensor hall", "hub/hall temperature: 19.8 °C"),
        (
            "sensor attic",
            "hub has no sensor of that name; it has: door, hall",
        ),
        ("sensor door", "hub/door does not measure humidity"),
    ] {
        let line = table.lines().find(|line| line.starts_with(row));
        assert!(line.is_some_and(|line| line.contains(text)), "{row}: {table}");
    }
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

/// The line of the table about something: its result and its text.
fn row<'a>(table: &'a str, what: &str) -> (&'a str, &'a str) {
    let line = table.lines().find(|line| line.starts_with(&format!("{what}  ")));
    let line = line.unwrap_or_else(|| panic!("no {what} in {table}"));
    let rest = line.strip_prefix(what).unwrap().trim_start();
    let (result, text) = rest.split_once(' ').unwrap();
    (result, text.trim())
}

#[tokio::test]
async fn check_finds_outlets_that_a_device_does_not_have() {
    let broker = Mosquitto::start().await;
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let mats = Simulator::strip(Profile::P304M).start().await.unwrap();
    let whole = Simulator::strip(Profile::P300).start().await.unwrap();
    let devices = [
        ("heater", plug.address()),
        ("whole", whole.address()),
        ("mats", mats.address()),
    ];
    let rest = r#"
        [[device.outlet]]
        position = 9
        id = "left"
        [[group]]
        id = "driveway"
        outlets = ["heater/1", "mats/7", "mats/4", "whole"]
    "#;
    let output = Home::new(&(settings(broker.address(), &devices) + rest))
        .run(&["check"])
        .await;
    let table = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert_eq!(
        row(&table, "device heater"),
        (
            "failed",
            "group driveway: heater/1 does not exist: heater is a plug; leave the outlet out"
        )
    );
    assert_eq!(
        row(&table, "device mats"),
        (
            "failed",
            "group driveway: mats/7 does not exist; mats has the outlets 1, 2, 3, 4; [[device.outlet]]: mats/left does not \
             exist; mats has the outlets 1, 2, 3, 4"
        )
    );
    // A strip stands for all its outlets.
    assert_eq!(row(&table, "device whole").0, "ok", "{table}");
}

#[tokio::test]
async fn check_tries_permissions_on_each_broker_that_works() {
    let denying = Mosquitto::builder().deny_subscription("tapo2mqtt/bridge/state");
    let dropping = Mosquitto::builder().acl("topic read tapo2mqtt/#\n");
    let (closing, broker) = (FaultyBroker::that_hangs_up(), Mosquitto::start().await);
    let (denying, dropping) = (denying.start().await, dropping.start().await);
    let hosts = json!([
        closing.address,
        denying.address(),
        dropping.address(),
        broker.address()
    ]);
    let only_hosts = format!("[mqtt]\nhosts = {hosts}\n");
    let settings = settings(broker.address(), &[]).replace(&mqtt_only(broker.address()), &only_hosts);
    let output = Home::new(&settings).run(&["check"]).await;
    let table = printed(&output);
    assert!(row(&table, "broker").1.contains("closed"), "{table}");
    let denied = format!(
        "failed  {}: the broker denies the subscription to",
        denying.address()
    );
    assert!(table.contains(&denied), "{table}");
    assert_eq!(table.matches("no other bridge uses").count(), 2, "{table}");
    let (status, text) = row(&table, "permissions");
    let dropped = format!("{}: a message of", dropping.address());
    assert!(status == "failed" && text.starts_with(&dropped), "{table}");
    let allowed = format!("ok      {}: publish and subscribe allowed", broker.address());
    assert!(table.contains(&allowed), "{table}");
    assert_eq!(table.matches("permissions").count(), 2, "{table}");
}

#[tokio::test]
async fn check_looks_at_all_that_settings_name() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.publish_retained("weather/outdoor", "{\"t\": -3.5}").await;
    probe.publish_retained("weather/broken", "soon").await;
    let rest = r#"
        [state]
        file = "/proc/tapo2mqtt-state.json"
        [location]
        timezone = "Europe/Berlin"
        [[sensor]]
        id = "outdoor"
        topic = "weather/outdoor"
        pointer = "/t"
        unit = "°C"
        [[sensor]]
        id = "broken"
        topic = "weather/broken"
        [[sensor]]
        id = "silent"
        topic = "weather/silent"
    "#;
    let home = Home::new(&(settings(broker.address(), &[]) + rest));
    let output = home.run(&["check"]).await;
    let table = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{table}");
    // Wherever it was started.
    let file = home.file().display().to_string();
    assert!(
        file.ends_with(row(&table, "settings").1) && row(&table, "settings").1.starts_with('/'),
        "{table}"
    );
    assert!(
        row(&table, "time zone")
            .1
            .starts_with("Europe/Berlin, where it is 20"),
        "{table}"
    );
    let (result, why) = row(&table, "state file");
    assert!(
        result == "failed" && why.contains("/proc/tapo2mqtt-state.json"),
        "{table}"
    );
    assert_eq!(row(&table, "sensor outdoor"), ("ok", "weather/outdoor: -3.5 °C"));
    assert_eq!(
        row(&table, "sensor broken"),
        (
            "failed",
            "weather/broken: value is neither a number nor a boolean"
        )
    );
    assert_eq!(row(&table, "sensor silent").0, "note", "{table}");
    let (result, hint) = row(&table, "devices");
    assert!(
        result == "note" && hint.contains("`tapo2mqtt discover`"),
        "{table}"
    );
}

#[tokio::test]
async fn check_has_colors_on_a_terminal_only() {
    let home = Home::new(&settings(dead_address(), &[]));
    let in_terminal = async |variables: &str| {
        let program = env!("CARGO_BIN_EXE_tapo2mqtt");
        let command = format!("env -i {variables} {program} --config {SETTINGS_FILE} check");
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::null());
        script.current_dir(home.file().parent().unwrap());
        printed(&finish(script, Stdio::piped()).await)
    };
    let red = "\u{1b}[31mfailed";
    assert!(in_terminal("TERM=xterm").await.contains(red));
    for plain in ["TERM=xterm NO_COLOR=1", "TERM=dumb"] {
        let table = in_terminal(plain).await;
        assert!(
            table.contains("failed") && !table.contains('\u{1b}'),
            "{plain}: {table}"
        );
    }
    assert!(!printed(&home.run(&["check"]).await).contains('\u{1b}'));
}

/// Something that answers discovery, and nothing else.
async fn announce(address: Ipv4Addr, result: Value) -> JoinHandle<()> {
    let socket = UdpSocket::bind((address, 20002)).await.unwrap();
    let answer = [&[0; 16][..], json!({ "result": result }).to_string().as_bytes()].concat();
    Tasks::default().spawn("announce", async move {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
            socket.send_to(&answer, from).await.unwrap();
        }
    })
}

/// The `tapo` crate cannot log in to them, our own client can.
#[tokio::test]
async fn what_only_our_client_speaks_is_found_and_passes_the_check() {
    for (profile, protocol, shown) in [
        (Profile::P110Old, Protocol::Aes, "AES"),
        (Profile::HS110, Protocol::Xor, "XOR"),
        (Profile::HS300, Protocol::Klap, "KLAP"),
    ] {
        let plug = Simulator::device(profile).protocol(protocol);
        let address = own_address();
        let plug = plug.address((address, 0).into()).discovery(true);
        let plug = plug.start().await.unwrap();
        let home = Home::new(&settings(dead_address(), &[("heater", plug.address())]));
        let target = address.to_string();
        let list = printed(&home.run(&["discover", "--target", &target, "--wait", "1"]).await);
        let found = list.lines().find(|line| line.starts_with(&target)).unwrap();
        assert!(found.contains(&format!("{shown:<9} own  ")), "{list}");
        assert!(list.contains("\n[[device]]"), "{list}");
        let table = printed(&home.run(&["check"]).await);
        assert_eq!(row(&table, "device heater").0, "ok", "{table}");
    }
}

#[tokio::test]
async fn discover_check_and_the_manual_say_the_same() {
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/troubleshooting.md")).unwrap();
    let smart = |protocol: &str, factory: bool| {
        json!({"device_type": "SMART.TAPOPLUG", "device_model": "P100(EU)", "mac": "AA-BB-CC-DD-EE-FF",
            "factory_default": factory, "mgt_encrypt_schm": {"encrypt_type": protocol, "http_port": 80}})
    };
    let kind = |kind: &str| json!({"device_type": kind, "mgt_encrypt_schm": {"encrypt_type": "KLAP"}});
    for (answer, message) in [
        (smart("KLAP", true), "not set up yet"),
        (
            kind("IOT.SMARTBULB"),
            "not a plug, a power strip, a switch, a newer light or a hub",
        ),
        (
            kind("SMART.TAPOCAMERA"),
            "not a plug, a power strip, a switch, a newer light or a hub",
        ),
        (
            json!({"device_type": "SMART.TAPOHUB", "device_model": "H200(EU)",
                "mgt_encrypt_schm": {"is_support_https": true}}),
            "a hub that speaks the protocol of cameras",
        ),
    ] {
        assert!(manual.contains(&format!("| `{message}`")), "{message}");
        let address = own_address();
        let device = announce(address, answer).await;
        let home = Home::new(&settings(dead_address(), &[("heater", (address, 80).into())]));
        let target = address.to_string();
        let list = printed(&home.run(&["discover", "--target", &target, "--wait", "1"]).await);
        assert!(list.contains(&format!("# {message}")), "{list}");
        // What cannot be used is not ready to paste.
        assert!(!list.contains("\n[[device]]"), "{list}");
        let table = printed(&home.run(&["check"]).await);
        let (result, why) = row(&table, "device heater");
        assert!(result == "failed" && why.contains(message), "{table}");
        device.abort();
    }
}

#[tokio::test]
async fn check_sees_a_disk_that_takes_no_state() {
    let home = Home::new(&mqtt_only(dead_address()));
    let file = home.file().with_file_name(STATE_FILE).display().to_string();
    for (limit, expected, shown) in [("unlimited", "ok", file.as_str()), ("0", "failed", STATE_FILE)] {
        // As on a full disk, an empty file can be made.
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"");
        let mut shell = home.program_at("/bin/sh".as_ref(), &["-c", &script, PROGRAM]);
        let command = shell.args(["--config", SETTINGS_FILE, "check"]);
        let table = printed(&timeout(PATIENCE, command.output()).await.unwrap().unwrap());
        let row = table.lines().find(|line| line.starts_with("state file")).unwrap();
        assert!(row.contains(expected) && row.contains(shown), "{limit}: {row}");
        assert_eq!(home.files(), [SETTINGS_FILE]);
    }
}
