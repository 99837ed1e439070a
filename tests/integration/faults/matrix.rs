//! Every fault x plug and strip x idle, mid-command, mid-poll and at login.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::json;
use tapo_simulator::{Fault, FaultKind, Latency, Profile, RunningDevice, Simulator};
use tapo2mqtt::system::tasks::Tasks;
use tokio::{sync::Semaphore, task::JoinHandle, time::Instant};

use super::{
    answers_to, code, ms,
    rows::{self, Expected, InjectedFault, Moment, Row, rows},
    send, word,
};
use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    probe::PATIENCE,
};

/// How long the device takes over the request that the fault shall hit.
const WINDOW: Duration = Duration::from_millis(100);
/// All at once keep two cores so busy that devices seem to hang.
const ROWS_AT_ONCE: usize = 12;

/// One cell of the matrix.
struct Cell {
    row: Row,
    moment: Moment,
    id: String,
    device: RunningDevice,
    /// Whether our own client serves the device.
    is_own: bool,
}

impl Cell {
    /// The topic of the outlet that is switched.
    fn path(&self) -> String {
        if self.device.profile().is_strip() {
            format!("{}/1", self.id)
        } else {
            self.id.clone()
        }
    }

    /// A request that the device sees at the moment.
    fn request(&self) -> &'static str {
        match (self.moment, self.device.profile().is_strip()) {
            (Moment::Command, _) => "set_device_info",
            (Moment::Login, _) if self.row.protocol == tapo_simulator::Protocol::Tpap => "pake_register",
            (Moment::Login, _) => "handshake1",
            (_, true) => "get_child_device_list",
            (_, false) => "get_device_info",
        }
    }

    /// Lets the fault strike at its moment, while the first command is on its way.
    async fn meet(&self, bridge: &Running, wanted: bool, ttl: f64) {
        let path = self.path();
        if self.moment == Moment::Idle {
            self.row.strike(&self.device).await;
            return send(bridge, &path, "first", wanted, ttl).await;
        }
        let faults = self.device.faults();
        let latency = Latency::fixed(WINDOW);
        faults.set(Fault::Latency { latency });
        // Before the reboot: the bridge may be back before this test goes on.
        self.device.reset_counters();
        if self.moment == Moment::Login {
            self.device.reboot(Duration::ZERO).await.unwrap();
        }
        if self.moment != Moment::Poll {
            send(bridge, &path, "first", wanted, ttl).await;
        }
        self.device
            .wait_requests(self.request(), 1, PATIENCE)
            .await
            .unwrap_or_else(|error| {
                panic!(
                    "{} {}: {error}; {:?}",
                    self.row.name,
                    self.id,
                    self.device.counters()
                )
            });
        faults.clear(FaultKind::Latency);
        self.row.strike(&self.device).await;
        if self.moment == Moment::Poll {
            send(bridge, &path, "first", wanted, ttl).await;
        }
    }

    /// The whole story. Returns how long it took to heal.
    async fn run(&self, bridge: &Running) -> Duration {
        let (path, wanted) = (self.path(), !self.device.relay(1));
        let expected = self.row.expected(self.moment, self.is_own);
        // A device that is silent is waited for; all else ends by itself.
        let ttl = if matches!(expected, Expected::Blocked("unreachable", _)) {
            // Long enough to reach the device on a busy machine, where the fault strikes on the way.
            if self.moment == Moment::Idle { 1.0 } else { 4.0 }
        } else {
            25.0
        };
        let struck = Instant::now();
        self.meet(bridge, wanted, ttl).await;
        let answer = bridge.answer(&path, "first").await;
        let answer_code = code(&answer);
        match expected {
            Expected::Applied => assert_eq!(answer_code, "ok", "{} {answer}", self.id),
            Expected::Answer(code) => assert_eq!(answer_code, code, "{} {answer}", self.id),
            Expected::Blocked(status, codes) | Expected::Locked(status, codes) => {
                assert!(codes.contains(&answer_code), "{answer}");
                let is_shown = |state: &serde_json::Value| state["status"] == status;
                bridge.expect(&self.id, is_shown).await;
                let offline = |state: &serde_json::Value| state["state"] == "offline";
                bridge.expect(&format!("{}/availability", self.id), offline).await;
            }
        }
        let took = match expected {
            Expected::Locked(..) => struck.elapsed(),
            Expected::Applied => {
                let took = struck.elapsed();
                self.end(bridge, wanted).await;
                took
            }
            Expected::Answer(_) | Expected::Blocked(..) => {
                let cleared = Instant::now();
                self.end(bridge, wanted).await;
                cleared.elapsed()
            }
        };
        self.audit(bridge);
        took
    }

    /// The fault goes, and everything is as if it had not been.
    async fn end(&self, bridge: &Running, wanted: bool) {
        let path = self.path();
        self.device.faults().clear_all();
        self.until_online(bridge).await;
        for (transaction, on) in [("second", !wanted), ("third", wanted)] {
            let answer = bridge
                .set(&path, transaction, json!({ "state": word(on), "ttl": 25 }))
                .await;
            assert_eq!(code(&answer), "ok", "{transaction}: {answer}");
            assert_eq!(self.device.relay(1), on, "{transaction}");
        }
        bridge.expect(&path, |state| state["state"] == word(wanted)).await;
    }

    /// Until availability, as published last, is online.
    async fn until_online(&self, bridge: &Running) {
        let topic = format!("tapo2mqtt/{}/availability", self.id);
        let online = |payload: &str| parsed(payload)["state"] == "online";
        bridge.probe.expect_last(&topic, online).await;
    }

    /// What no fault may cause.
    fn audit(&self, bridge: &Running) {
        let path = self.path();
        for transaction in ["first", "second", "third"] {
            assert!(answers_to(bridge, &path, transaction) <= 1, "{transaction}");
        }
        let counters = self.device.counters();
        // A request that is lost on its way takes its number along, and the device refuses the next one.
        let loses = ["close", "hang", "port closed", "reboot", "address change"]
            .iter()
            .any(|fault| self.row.name.starts_with(fault));
        assert!(loses || counters.sequence_violations == 0, "{counters:?}");
        // A thief's own requests count too.
        if !matches!(self.row.injected, InjectedFault::Thief) {
            assert!(
                counters.max_in_flight <= 1,
                "{} in flight",
                counters.max_in_flight
            );
        }
        if matches!(self.row.at_login, Expected::Locked(..)) {
            assert!(counters.failed_logins <= 1, "{} wrong", counters.failed_logins);
        }
        let external = bridge.probe.payloads("tapo2mqtt/bridge/event");
        let external = external
            .iter()
            .map(|event| parsed(event))
            .filter(|event| event["type"] == "external_change" && event["device"] == self.id.as_str());
        assert_eq!(external.count(), 0, "our own switch is reported as external");
    }
}

/// The devices of one row, and one beside them that nothing happens to.
async fn row(row: Row, client: &'static str, profiles: &[Profile]) -> Vec<(Moment, Profile, Duration)> {
    let mut setup = Setup::new()
        .client(client)
        .request_timeout(row.request_timeout())
        .section("[retry]\nrefused = \"1s\"");
    let beside = Simulator::plug(Profile::P100).start().await.unwrap();
    setup = setup.device("beside", beside.address());
    let (mut cells, mut targets) = (Vec::new(), Vec::new());
    for &profile in profiles {
        for moment in Moment::ALL {
            let device = Simulator::device(profile)
                .protocol(row.protocol)
                .address(rows::address(&row))
                .discovery(row.needs_discovery())
                .start()
                .await
                .unwrap();
            let id = format!("{profile}-{moment:?}").to_lowercase();
            targets.push(rows::next_address(device.address().ip()));
            setup = setup.device(&id, device.address());
            cells.push(Cell {
                row,
                moment,
                id,
                device,
                is_own: client == "own" || profile.is_strip(),
            });
        }
    }
    if row.needs_discovery() {
        setup = setup.search(&targets);
    }
    let bridge = Arc::new(setup.start().await);
    for id in cells.iter().map(|cell| cell.id.as_str()).chain(["beside"]) {
        bridge.available(id).await;
    }
    beside.reset_counters();
    let tasks = Tasks::default();
    let runs: Vec<JoinHandle<_>> = cells
        .into_iter()
        .map(|cell| {
            let bridge = bridge.clone();
            tasks.spawn("cell", async move {
                (cell.moment, cell.device.profile(), cell.run(&bridge).await)
            })
        })
        .collect();
    let mut took = Vec::new();
    for run in runs {
        took.push(
            run.await
                .unwrap_or_else(|error| panic!("{:.200}", error.to_string())),
        );
    }
    untouched(&bridge, &beside).await;
    took
}

/// Nothing of all that was felt next door.
async fn untouched(bridge: &Running, beside: &RunningDevice) {
    let wanted = !beside.relay(1);
    let answer = bridge
        .set("beside", "beside", json!({ "state": word(wanted) }))
        .await;
    assert_eq!((code(&answer), beside.relay(1)), ("ok", wanted));
    let availability = bridge.probe.payloads("tapo2mqtt/beside/availability");
    let last_online = availability.iter().rposition(|state| state.contains("online"));
    let offline_after = availability.iter().skip(last_online.unwrap_or(0) + 1).count();
    assert_eq!(offline_after, 0, "{availability:?}");
    let counters = beside.counters();
    assert_eq!((counters.sequence_violations, counters.logins), (0, 0));
    assert!(counters.max_in_flight <= 1);
}

/// The crate serves the plug, and our own client the strip.
#[tokio::test]
async fn every_fault_heals_or_is_reported() {
    all_rows("auto", &[Profile::P110, Profile::P300]).await;
}

#[tokio::test]
async fn every_fault_of_a_plug_heals_with_our_client() {
    all_rows("own", &[Profile::P110]).await;
}

async fn all_rows(client: &'static str, profiles: &'static [Profile]) {
    let _fast = fast_clocks();
    let started = Instant::now();
    let tasks = Tasks::default();
    // FAULT=hang runs the rows whose names contain it.
    let only = std::env::var("FAULT").unwrap_or_default();
    let at_once = Arc::new(Semaphore::new(ROWS_AT_ONCE));
    let runs: Vec<_> = rows()
        .into_iter()
        .filter(|row| row.name.contains(&only))
        .map(|each| {
            let at_once = at_once.clone();
            let run = async move {
                let _turn = at_once.acquire().await.unwrap();
                row(each, client, profiles).await
            };
            (each.name, tasks.spawn("row", run))
        })
        .collect();
    let mut table = BTreeMap::new();
    let mut failed = Vec::new();
    for (name, run) in runs {
        match run.await {
            Ok(took) => drop(table.insert(name, took)),
            Err(error) => failed.push(format!("{name}: {:.300}", error.to_string())),
        }
    }
    let moments = "   idle    command       poll      login";
    println!("{:<40} {}", "fault, time to heal", moments.repeat(profiles.len()));
    for (name, took) in &table {
        let column = |profile: Profile| {
            let cells = took.iter().filter(|(_, of, _)| *of == profile);
            {
                let cells: Vec<String> = cells.map(|(_, _, took)| format!("{:>10}", ms(*took))).collect();
                cells.concat()
            }
        };
        let columns: Vec<String> = profiles.iter().map(|profile| column(*profile)).collect();
        println!("{name:<40} {}", columns.join("  "));
    }
    let cells: usize = table.values().map(Vec::len).sum();
    println!("{cells} cells in {}", ms(started.elapsed()));
    assert_eq!(failed, Vec::<String>::new());
}
