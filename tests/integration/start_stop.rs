//! Starts, restarts and ends of the program: nothing that is in its way for a moment ends it, and nothing holds it up.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    bridge::parsed,
    mosquitto::Mosquitto,
    probe::Probe,
    process::{self, Home, ONLINE, SETTINGS_FILE, STATE, STATE_FILE, online, request},
};

/// How long any start or stop may take.
const BUDGET: Duration = Duration::from_secs(5);
/// As signal(7) numbers it.
const SIGTERM: i32 = 15;

/// How often a random moment is tried; `TAPO2MQTT_KILLS` makes the run longer.
fn rounds() -> u32 {
    let set = std::env::var("TAPO2MQTT_KILLS").ok();
    set.map_or(10, |rounds| rounds.parse().unwrap())
}

fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

async fn broker_and_probe() -> (Mosquitto, Probe) {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/#").await;
    (broker, probe)
}

/// Runs the program until it ends by itself.
async fn ends_with(home: &Home, arguments: &[&str], code: i32, text: &str) {
    let started = Instant::now();
    let output = home.run(arguments).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    let all = String::from_utf8(output.stdout).unwrap() + &errors;
    assert!(all.contains(text), "{arguments:?}: {all}");
    assert_eq!(output.status.code(), Some(code), "{all}");
    assert!(started.elapsed() < BUDGET, "{:?}", started.elapsed());
}

#[tokio::test]
async fn trouble_with_the_state_file_is_no_fault_of_the_settings() {
    let home = Home::new(&process::settings(process::dead_address(), &[]));
    let file = home.file().with_file_name(STATE_FILE);
    fs::create_dir(&file).unwrap();
    ends_with(
        &home,
        &["run"],
        1,
        "(state.file) cannot be read: not a regular file",
    )
    .await;
    fs::remove_dir(&file).unwrap();
    fifo(&file);
    ends_with(
        &home,
        &["run"],
        1,
        "(state.file) cannot be read: not a regular file",
    )
    .await;
    fs::remove_file(&file).unwrap();
    // Other settings are needed where it belongs to another bridge.
    fs::write(&file, r#"{"version": 1, "base_topic": "garden"}"#).unwrap();
    ends_with(
        &home,
        &["run"],
        64,
        "belongs to the bridge with base topic \"garden\"",
    )
    .await;
}

#[tokio::test]
async fn a_pipe_in_place_of_a_file_holds_nothing_up() {
    let (broker, probe) = broker_and_probe().await;
    let login = "[tapo]\nusername = \"me@home.org\"\npassword_file = \"pw\"\n";
    let home = Home::new(&(process::mqtt(broker.address()) + login));
    let password = home.file().with_file_name("pw");
    fs::write(&password, "secret").unwrap();
    let process = home.start();
    online(&probe).await;
    fs::remove_file(&password).unwrap();
    fifo(&password);
    let answer = request(&probe, "reload", "").await;
    assert_eq!(answer["error"]["code"], "invalid_settings", "{answer}");
    assert!(answer.to_string().contains("not a regular file"), "{answer}");
    for command in ["run", "check"] {
        ends_with(&home, &[command], 64, "not a regular file").await;
    }
    process.stop().await.in_order();
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_reported_at_start() {
    let (broker, probe) = broker_and_probe().await;
    let state = "[state]\nfile = \"missing/state.json\"\n";
    let home = Home::new(&(process::mqtt(broker.address()) + state));
    let process = home.start();
    let info = probe.expect("tapo2mqtt/bridge/info", |_| true).await;
    let found = |report: &Value| {
        report
            .to_string()
            .contains("missing/state.json (state.file) cannot be written")
    };
    assert!(found(&parsed(&info)["start_checks"]), "{info}");
    let health = request(&probe, "health", "").await;
    assert!(found(&health["data"]["issues"]), "{health}");
    process.stop().await.in_order();
}

#[tokio::test]
async fn two_bridges_in_one_folder_keep_their_states() {
    let (broker, probe) = broker_and_probe().await;
    let home = Home::new(&process::mqtt(broker.address()));
    let garden = process::mqtt(broker.address()) + "base_topic = \"garden\"\n";
    fs::write(home.file().with_file_name("garden.toml"), garden).unwrap();
    let state = home.file().with_file_name(STATE_FILE);

    let process = home.start();
    online(&probe).await;
    let answer = request(&probe, "vacation", r#"{"enabled":true}"#).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    process.stop().await.in_order();
    let before = fs::read(&state).unwrap();

    probe.subscribe("garden/bridge/state").await;
    let process = home.start_with(&["--config", "garden.toml", "run"]);
    probe
        .expect("garden/bridge/state", |payload| payload == ONLINE)
        .await;
    process.stop().await.in_order();
    assert_eq!(fs::read(&state).unwrap(), before);
    let kept = parsed(&String::from_utf8(before).unwrap());
    assert!(kept["scheduler"]["vacation"].is_object(), "{kept}");
}

#[tokio::test]
async fn a_restart_that_would_fail_is_refused() {
    let (broker, probe) = broker_and_probe().await;
    let good = process::mqtt(broker.address());
    let home = Home::new(&good);
    let program = home.file().with_file_name("tapo2mqtt");
    process::install(&program);
    let process = Home::spawn(home.program_at(&program, &["--config", SETTINGS_FILE, "run"]));
    online(&probe).await;
    probe.forget();
    let refused = async |text: &str| {
        probe.forget();
        let answer = request(&probe, "restart", "").await;
        assert_eq!(answer["error"]["code"], "invalid_settings", "{answer}");
        assert!(answer.to_string().contains(text), "{answer}");
        assert_eq!(probe.payloads(STATE), [""; 0], "it was never interrupted");
    };
    fs::write(home.file(), good.replace("[mqtt]", "[mqtt")).unwrap();
    refused("bridge.toml").await;
    fs::write(home.file(), &good).unwrap();
    replace(&program, "#!/bin/sh\necho it is too new >&2\nexit 1\n");
    refused("it is too new").await;
    fs::remove_file(&program).unwrap();
    refused("cannot be started: No such file").await;
    process.stop().await.in_order();
}

/// Puts a script at a path, in one step.
fn replace(path: &Path, script: &str) {
    let new = path.with_extension("new");
    fs::write(&new, script).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn a_process_that_cannot_be_replaced_goes_on() {
    let (broker, probe) = broker_and_probe().await;
    let home = Home::new(&process::mqtt(broker.address()));
    let program = home.file().with_file_name("tapo2mqtt");
    process::install(&program);
    let process = Home::spawn(home.program_at(&program, &["--config", SETTINGS_FILE, "run"]));
    online(&probe).await;
    // It passes its trial, and is gone when it is started.
    replace(&program, "#!/bin/sh\nrm \"$0\"\n");
    for _ in 0..2 {
        probe.forget();
        let answer = request(&probe, "restart", "").await;
        if !program.exists() && answer["status"] != "ok" {
            break;
        }
        assert_eq!(answer["status"], "ok", "{answer}");
        online(&probe).await;
    }
    assert!(
        process.output().contains("this process goes on"),
        "{}",
        process.output()
    );
    let answer = request(&probe, "log_level", r#"{"level":"debug"}"#).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    probe.publish("tapo2mqtt/bridge/set", "ON").await;
    process.wrote("DEBUG").await;
    process.signal("HUP");
    process.wrote("reload requested by a signal").await;
    process.stop().await.in_order();
}

#[tokio::test]
async fn a_restart_follows_the_link_that_it_was_started_by() {
    let (broker, probe) = broker_and_probe().await;
    let home = Home::new(&process::mqtt(broker.address()));
    let folder = home.file().parent().unwrap().canonicalize().unwrap();
    let version = |name: &str| -> PathBuf {
        fs::create_dir(folder.join(name)).unwrap();
        let program = folder.join(name).join("tapo2mqtt");
        process::install(&program);
        program
    };
    let (link, first) = (folder.join("tapo2mqtt"), version("1.0"));
    symlink(&first, &link).unwrap();
    let process = Home::spawn(home.program_at(&link, &["--config", SETTINGS_FILE, "run"]));
    online(&probe).await;
    let second = version("2.0");
    fs::remove_file(&link).unwrap();
    symlink(&second, &link).unwrap();
    fs::remove_dir_all(folder.join("1.0")).unwrap();
    probe.forget();
    let answer = request(&probe, "restart", "").await;
    assert_eq!(answer["status"], "ok", "{answer}");
    online(&probe).await;
    let running = fs::read_link(format!("/proc/{}/exe", process.pid)).unwrap();
    assert_eq!(running, second);
    process.stop().await.in_order();
}

#[tokio::test]
async fn a_sigterm_in_any_phase_of_the_start_ends_it_in_time() {
    let (broker, _) = broker_and_probe().await;
    let home = Home::new(&process::settings(
        broker.address(),
        &[("heater", process::dead_address())],
    ));
    for _ in 0..rounds() {
        let process = home.start();
        sleep(Duration::from_micros(rand::rng().random_range(0..300_000))).await;
        let end = process.stop().await;
        // Before its first instruction the system ends it.
        let by_signal = std::os::unix::process::ExitStatusExt::signal(&end.status) == Some(SIGTERM);
        assert!(
            by_signal || end.status.code() == Some(0),
            "{:?} {}",
            end.status,
            end.output
        );
        assert!(end.took < BUDGET, "{:?} {}", end.took, end.output);
    }
}

#[tokio::test]
async fn a_sighup_at_the_very_start_does_not_end_it() {
    let (broker, probe) = broker_and_probe().await;
    let home = Home::new(&process::mqtt(broker.address()));
    for _ in 0..10 {
        probe.catch_up().await;
        probe.forget();
        let process = home.start();
        process.catches(process::SIGHUP).await;
        process.signal("HUP");
        online(&probe).await;
        process.stop().await.in_order();
    }
}

/// A schedule that says which request set it: request 61 starts it at 01:01.
fn numbered(number: u32) -> Value {
    let start = format!("{:02}:{:02}", number / 60 % 24, number % 60);
    let schedule = json!({"id": "late", "start": start, "for": "1m"});
    json!({"group": "warm", "schedule": schedule, "transaction": number.to_string()})
}

/// The number of the request that set the schedule, 0 before the first.
async fn kept_number(probe: &Probe) -> u32 {
    probe.forget();
    let listed = request(probe, "schedule/list", r#"{"group":"warm"}"#).await;
    let start = listed["data"].to_string();
    let Some((_, start)) = start.split_once("\"start\":\"") else {
        return 0;
    };
    let (hour, minute) = (&start[..2], &start[3..5]);
    hour.parse::<u32>().unwrap() * 60 + minute.parse::<u32>().unwrap()
}

#[tokio::test]
async fn a_kill_at_any_moment_loses_nothing_that_was_answered() {
    let (broker, probe) = broker_and_probe().await;
    let group = "[[group]]\nid = \"warm\"\noutlets = [\"heater\"]\n";
    let dead = [("heater", process::dead_address())];
    let home = Home::new(&(process::settings(broker.address(), &dead) + group));
    let (mut sent, mut answered) = (0, 0);
    for round in 0..rounds() {
        probe.catch_up().await;
        probe.forget();
        let process = home.start();
        online(&probe).await;
        let kept = kept_number(&probe).await;
        assert!(
            (answered..=sent).contains(&kept),
            "round {round}: {kept}, not {answered} to {sent}"
        );
        // The kill comes with a request, with its write or with its answer, whichever is on its way then.
        for _ in 0..rand::rng().random_range(1..12) {
            sent += 1;
            let payload = numbered(sent).to_string();
            probe
                .publish("tapo2mqtt/bridge/request/schedule/set", payload)
                .await;
            sleep(Duration::from_micros(rand::rng().random_range(0..10_000))).await;
        }
        process.kill().await;
        probe.catch_up().await;
        for answer in probe.payloads("tapo2mqtt/bridge/response/schedule/set") {
            let answer = parsed(&answer);
            assert_eq!(answer["status"], "ok", "{answer}");
            let number: u32 = answer["transaction"].as_str().unwrap().parse().unwrap();
            answered = answered.max(number);
        }
    }
    println!("{sent} requests, the last answered one is {answered}");
    assert!(answered > 0);
}
