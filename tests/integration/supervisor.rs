//! The notifications to a service manager: sd_notify(3) over a socket of this test.

use std::{
    path::PathBuf,
    pin::pin,
    time::{Duration, Instant},
};

use tapo2mqtt::{
    app::bridge::{Bridge, ShutdownReason},
    config::{Sources, load},
    system::{
        clock::Clock,
        telemetry::{Level, LogLevel},
    },
};
use tempfile::TempDir;
use tokio::{net::UnixDatagram, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::{Home, Process, SETTINGS_FILE, dead_address, settings},
};

/// In microseconds; far longer than the pause between two pings.
const WATCHDOG: &str = "30000000";

/// Listens as systemd does.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { socket, directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    fn start(&self, home: &Home, watchdog: Option<&str>) -> Process {
        let mut command = home.program(&["--config", SETTINGS_FILE, "run"]);
        command.env("NOTIFY_SOCKET", self.path());
        command.envs(watchdog.map(|limit| ("WATCHDOG_USEC", limit)));
        Home::spawn(command)
    }

    async fn receive(&self) -> String {
        let mut buffer = [0; 256];
        let received = timeout(PATIENCE, self.socket.recv(&mut buffer)).await;
        let length = received.expect("a message to the service manager").unwrap();
        String::from_utf8(buffer[..length].to_vec())
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// The next message that is no ping.
    async fn hears_news(&self) -> String {
        loop {
            let message = self.receive().await;
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn it_is_ready_without_a_broker_and_reports_its_stop() {
    let manager = Manager::new();
    let home = Home::new(&settings(dead_address(), &[]));
    let process = manager.start(&home, Some(WATCHDOG));
    assert_eq!(manager.receive().await, "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.receive().await, "WATCHDOG=1");
    }
    let stopped = Instant::now();
    process.terminate();
    assert_eq!(manager.hears_news().await, "STOPPING=1");
    process.end(stopped).await.in_order();
}

#[tokio::test]
async fn without_a_watchdog_no_ping_is_sent() {
    let (quiet, other) = (Manager::new(), Manager::new());
    let homes = [(); 2].map(|()| Home::new(&settings(dead_address(), &[])));
    let process = quiet.start(&homes[0], None);
    assert_eq!(quiet.receive().await, "READY=1");
    // Started later: when this one has pinged, the first one could have.
    let pinged = other.start(&homes[1], Some(WATCHDOG));
    assert_eq!(other.receive().await, "READY=1");
    for _ in 0..3 {
        assert_eq!(other.receive().await, "WATCHDOG=1");
    }
    let stopped = Instant::now();
    process.terminate();
    assert_eq!(quiet.receive().await, "STOPPING=1");
    process.end(stopped).await.in_order();
    pinged.stop().await.in_order();
}

/// For a service that reports STOPPING the manager sends its kill signal in the end.
#[tokio::test]
async fn a_restart_is_a_reload_and_no_stop() {
    let manager = Manager::new();
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    probe.subscribe("tapo2mqtt/bridge/state").await;
    let home = Home::new(&settings(broker.address(), &[]));
    let process = manager.start(&home, Some(WATCHDOG));
    assert_eq!(manager.receive().await, "READY=1");
    probe
        .expect("tapo2mqtt/bridge/state", |state| state.contains("online"))
        .await;
    probe.publish("tapo2mqtt/bridge/request/restart", "").await;
    assert_eq!(manager.hears_news().await, "RELOADING=1");
    assert_eq!(manager.hears_news().await, "READY=1");
    process.stop().await.in_order();
}

#[tokio::test]
async fn a_manager_that_does_not_listen_is_complained_about_once() {
    let broker = Mosquitto::start().await;
    let home = Home::new(&settings(broker.address(), &[]));
    let mut command = home.program(&["--config", SETTINGS_FILE, "run"]);
    command.env("NOTIFY_SOCKET", "/nonexistent/notify");
    let process = Home::spawn(command);
    process.wrote("connected to the MQTT broker").await;
    process.wrote("cannot notify the service manager").await;
    let end = process.stop().await;
    end.in_order();
    assert_eq!(end.output.matches("cannot notify").count(), 1, "{}", end.output);
}

/// What the pings are made of comes from the event loop and ends with it; no timer goes on by itself.
#[tokio::test]
async fn the_watchdog_is_notified_by_the_event_loop() {
    let home = Home::new(&settings(dead_address(), &[]));
    let sources = Sources {
        file: Some(home.file()),
        environment: Vec::new(),
    };
    let level = LogLevel::detached(Level::Info);
    let bridge = Bridge::start(&load(&sources).unwrap(), None, level, Clock::system()).unwrap();
    let heartbeat = bridge.heartbeat();
    let stop = CancellationToken::new();
    let mut running = pin!(bridge.run(stop.cancelled()));
    for _ in 0..2 {
        tokio::select! {
            _ = &mut running => panic!("it ended by itself"),
            beat = timeout(PATIENCE, heartbeat.notified()) => beat.unwrap(),
        }
    }
    stop.cancel();
    assert_eq!(
        timeout(PATIENCE, &mut running).await.unwrap(),
        ShutdownReason::Stopped
    );
    // The last beat may not have been taken yet.
    let _last = timeout(Duration::ZERO, heartbeat.notified()).await;
    tokio::time::pause();
    let another = timeout(Duration::from_hours(1), heartbeat.notified()).await;
    assert!(another.is_err(), "a beat after the end of the loop");
}
