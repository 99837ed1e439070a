//! A log that is not read: a stalled log driver, a pager, Ctrl-S.

use std::{
    io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Write as _},
    time::Duration,
};

use serde_json::Value;
use tapo_simulator::{Cause, Profile, RunningDevice, Simulator};
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    mosquitto::Mosquitto,
    probe::{PATIENCE, Probe},
    process::{Home, Process, settings},
};

/// As much as a pipe takes, see pipe(7).
const PIPE: usize = 64 * 1024;
/// Lines of level debug that are more than the pipe and the bridge take together.
const FLOOD: usize = 5000;
/// A stop as usual, and the wait for a reader.
const STOP_BUDGET: Duration = Duration::from_millis(3500);
const ON: &str = r#"{"state":"ON","transaction":"on"}"#;
/// Its limit is kept by the bridge alone.
const LIMITED: &str = r#"
    client = "tapo"
    [log]
    level = "debug"
    [[group]]
    id = "warm"
    outlets = ["heater/1"]
    safety = { max_on = "1s" }
"#;

/// A bridge whose log goes into a full pipe.
struct Unread {
    process: Process,
    log: PipeReader,
    device: RunningDevice,
    probe: Probe,
    _home: Home,
    _broker: Mosquitto,
}

/// A pipe without room.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(&vec![b'\n'; PIPE]).unwrap();
    (reader, writer)
}

impl Unread {
    async fn start() -> Self {
        let broker = Mosquitto::start().await;
        let probe = broker.probe().await;
        probe.subscribe("tapo2mqtt/#").await;
        let device = Simulator::strip(Profile::EP40M).start().await.unwrap();
        let home = Home::new(&(settings(broker.address(), &[("heater", device.address())]) + LIMITED));
        let (log, full) = full_pipe();
        let command = home.program(&["--config", crate::process::SETTINGS_FILE, "run"]);
        let process = Home::spawn_logging_to(command, full.into(), tempfile::tempdir().unwrap());
        let online = |payload: &str| payload.contains("online");
        probe.expect("tapo2mqtt/heater/availability", online).await;
        Self {
            process,
            log,
            device,
            probe,
            _home: home,
            _broker: broker,
        }
    }

    async fn switch_on(&self) {
        self.probe.publish("tapo2mqtt/heater/1/set", ON).await;
        let answer = self.probe.expect("tapo2mqtt/heater/1/response", |_| true).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "ok", "{answer}");
    }
}

#[tokio::test]
async fn a_log_that_is_not_read_stops_nothing() {
    let bridge = Unread::start().await;
    bridge.switch_on().await;
    bridge.device.wait_relay(1, false, PATIENCE).await.unwrap();
    let changes = bridge.device.counters().relay_changes;
    assert_eq!(changes.last().unwrap().cause, Cause::Request, "the limit is kept");
    let end = bridge.process.stop().await;
    assert_eq!(end.status.code(), Some(0));
    assert!(end.took < STOP_BUDGET, "{:?}", end.took);
}

#[tokio::test]
async fn lost_log_lines_are_counted_once_it_is_read() {
    let bridge = Unread::start().await;
    for _ in 0..FLOOD {
        bridge.probe.publish("tapo2mqtt/bridge/set", "ON").await;
    }
    bridge.switch_on().await;
    let lines = BufReader::new(bridge.log).lines().map_while(Result::ok);
    let mut lines = lines.filter(|line| !line.is_empty());
    let found = spawn_blocking(move || {
        let first = lines.next().unwrap();
        (first, lines.find(|line| line.contains("log lines lost")))
    });
    let (first, lost) = timeout(PATIENCE, found).await.unwrap().unwrap();
    assert!(
        first.contains("INFO") || first.contains("WARN"),
        "a whole line: {first}"
    );
    let lost = lost.unwrap();
    let count = lost
        .split(" log lines lost")
        .next()
        .unwrap()
        .split(' ')
        .next_back()
        .unwrap();
    let count: usize = count.parse().unwrap();
    assert!((1..=FLOOD + 100).contains(&count), "{lost}");
    bridge.process.stop().await.in_order();
}
