//! The real program between simulated devices and a broker behind a wire that can be cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tapo_simulator::{Profile, Protocol, RunningDevice, Simulator};
use tokio::time::Instant;

use super::recording_client::RecordingClient;
use crate::{
    bridge::parsed,
    cut::Cut,
    mosquitto::Mosquitto,
    process::{Home, Process, own_address, settings},
};

/// How long everything may take to be well again.
const HEALING: Duration = Duration::from_secs(45);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How hard the devices are polled.
#[derive(Debug, Clone, Copy)]
pub enum Polling {
    Usual,
    /// As hard as the settings allow.
    Hardest,
}

/// Whether the faults of a device may lose requests unread; see [`super::fault_injector::Requests`].
pub fn loses_requests(id: &str) -> bool {
    id != "plug"
}

/// See the module.
pub struct Simulation {
    pub devices: Vec<(&'static str, RunningDevice)>,
    pub client: Arc<RecordingClient>,
    process: Process,
    _home: Home,
}

impl Simulation {
    /// Starts everything, and waits until all devices are ready.
    pub async fn start(polling: Polling, client: &str) -> (Self, Mosquitto, Cut) {
        let broker = Mosquitto::start().await;
        let wire = Cut::in_front_of(broker.address());
        let recording = Arc::new(RecordingClient::open(broker.address()).await);
        let mut devices = Vec::new();
        for (id, profile, protocol) in [
            ("plug", Profile::P110, Protocol::Klap),
            ("plug-tpap", Profile::P110, Protocol::Tpap),
            ("strip", Profile::P304M, Protocol::Klap),
            ("strip-tpap", Profile::P300, Protocol::Tpap),
        ] {
            // Discovery, which opens a closed port, needs an address that no other device has.
            let device = Simulator::device(profile)
                .protocol(protocol)
                .address(SocketAddr::from((own_address(), 0)))
                .discovery(true);
            devices.push((id, device.start().await.unwrap()));
        }
        let addresses: Vec<_> = devices
            .iter()
            .map(|(id, device)| (*id, device.address()))
            .collect();
        let polling = match polling {
            Polling::Usual => "state = \"1s\"\nrequest_timeout = \"1s\"",
            Polling::Hardest => "state = \"1s\"\nenergy = \"10s\"",
        };
        let served = format!("[[device]]\nclient = \"{client}\"\n");
        let home = Home::new(&format!(
            "{}[polling]\n{polling}\n[log]\nformat = \"json\"\n",
            settings(wire.address(), &addresses).replace("[[device]]\n", &served)
        ));
        let process = home.start();
        let simulation = Self {
            devices,
            client: recording,
            process,
            _home: home,
        };
        simulation.ready().await.unwrap_or_else(|why| panic!("{why}"));
        (simulation, broker, wire)
    }

    /// Waits until every device is published as ready; else returns which are not.
    async fn ready(&self) -> Result<(), String> {
        let waiting = |received: &super::recording_client::Received| -> Vec<String> {
            let status = |id: &str| received.last(id)["status"].clone();
            self.devices
                .iter()
                .filter(|(id, _)| status(id) != "ready")
                .map(|(id, _)| format!("{id}: {}", received.last(id)))
                .collect()
        };
        let all_ready = self
            .client
            .until(HEALING, |received| waiting(received).is_empty())
            .await;
        if all_ready {
            return Ok(());
        }
        Err(format!(
            "not ready: {:?}",
            waiting(&self.client.received.borrow())
        ))
    }

    /// Does what a person would do after an outage that waits for him, and waits until all devices are ready.
    pub async fn heal(&self) -> Result<(), String> {
        let started = Instant::now();
        while !self.answers().await {
            if started.elapsed() > HEALING {
                return Err("the bridge does not answer".to_owned());
            }
        }
        self.client.send("bridge/request/rescan", "");
        self.ready().await
    }

    /// Whether a request is answered within a second.
    async fn answers(&self) -> bool {
        let topic = "bridge/response/health";
        self.client
            .received
            .send_modify(|received| drop(received.last.remove(&format!("tapo2mqtt/{topic}"))));
        self.client.send("bridge/request/health", "");
        let second = Duration::from_secs(1);
        self.client
            .until(second, |received| !received.last(topic).is_null())
            .await
    }

    /// The bridge's own figures.
    pub async fn health(&self) -> Value {
        while !self.answers().await {}
        self.client.received.borrow().last("bridge/response/health")["data"].clone()
    }

    /// Outlets whose retained state is not what the relay is, once the polls had their time.
    pub async fn compare_with(&self, broker: &Mosquitto) -> Vec<String> {
        let started = Instant::now();
        loop {
            let retained = broker.retained_under("#").await;
            let wrong = self.published_wrong(&retained);
            if wrong.is_empty() || started.elapsed() > Duration::from_secs(5) {
                return wrong;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn published_wrong(&self, retained: &BTreeMap<String, String>) -> Vec<String> {
        let published = |topic: &str| {
            let payload = retained.get(&format!("tapo2mqtt/{topic}"));
            payload.map_or(Value::Null, |payload| parsed(payload))
        };
        let mut wrong = Vec::new();
        let mut expect = |topic: String, expected: &str| {
            let published = published(&topic);
            if published["state"] != expected {
                wrong.push(format!("{topic} holds {published}, must be {expected}"));
            }
        };
        expect("bridge/state".to_owned(), "online");
        for (id, device) in &self.devices {
            expect(format!("{id}/availability"), "online");
            let outlets = device.child_ids().len();
            let power = |on| if on { "ON" } else { "OFF" };
            if outlets == 0 {
                expect((*id).to_owned(), power(device.relay(1)));
            }
            for position in 1..=u8::try_from(outlets).unwrap() {
                expect(format!("{id}/{position}"), power(device.relay(position)));
            }
        }
        wrong.extend(self.missing(retained));
        wrong
    }

    /// What the broker should hold, and does not: the bridge, the state, availability and discovery of each device.
    pub fn missing(&self, retained: &BTreeMap<String, String>) -> Vec<String> {
        let mut topics = vec!["tapo2mqtt/bridge/state".to_owned()];
        for (id, device) in &self.devices {
            topics.push(format!("tapo2mqtt/{id}"));
            topics.push(format!("tapo2mqtt/{id}/availability"));
            topics.push(format!("homeassistant/device/tapo2mqtt_{id}/config"));
            let outlets = device.child_ids().len();
            topics.extend((1..=outlets).map(|position| format!("tapo2mqtt/{id}/{position}")));
        }
        topics.retain(|topic| !retained.contains_key(topic));
        topics
    }

    /// Devices that were asked two things at once, or out of sequence, of those that lose no requests. Not counted is
    /// what a device had still in work when the bridge had given it up: `gave_up` is true for those for which it ever did.
    pub fn violations(&self, gave_up: impl Fn(&str) -> bool) -> Vec<String> {
        let mut violations = Vec::new();
        let sound = self.devices.iter().filter(|(id, _)| !loses_requests(id));
        for (id, device) in sound {
            let counters = device.counters();
            let at_once = counters.max_in_flight > 1 && !gave_up(id);
            if at_once || counters.sequence_violations > 0 {
                violations.push(format!(
                    "{id}: {} at once, {} out of sequence",
                    counters.max_in_flight, counters.sequence_violations
                ));
            }
        }
        violations
    }

    /// How many answers came more often than they may, and the commands that were given two different ones.
    ///
    /// An OFF that is sent again after a failure is carried out again, and may succeed.
    /// A command that is sent again is answered again. A lost connection may cost one repetition more: its
    /// acknowledgement was lost with it, and that is what "at least once" means.
    pub fn repeated_answers(&self, sent: &BTreeMap<String, u32>, losses: usize) -> (usize, Vec<String>) {
        let received = self.client.received.borrow();
        let mut duplicates = 0;
        let mut contradictions = Vec::new();
        for (transaction, answers) in &received.answers {
            let is_ok = |answer: &&String| parsed(answer)["status"] == "ok";
            let retried = answers.iter().skip_while(|answer| !is_ok(answer));
            let failed = answers.iter().take_while(|answer| !is_ok(answer));
            let (retried, failed): (BTreeSet<_>, BTreeSet<_>) = (retried.collect(), failed.collect());
            let changes = !retried.is_empty() && !failed.is_empty() && !transaction.contains("-OFF-");
            if retried.len() > 1 || failed.len() > 1 || changes {
                contradictions.push(format!("{transaction}: {answers:?}"));
            }
            let reasons = sent.get(transaction).copied().unwrap_or(0) as usize + losses.min(1);
            duplicates += answers.len().saturating_sub(reasons);
        }
        (duplicates, contradictions)
    }

    /// What the program holds in memory now, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let number = line.split_whitespace().nth(1).unwrap();
        number.parse().unwrap()
    }

    /// Ends the program in order; returns its log.
    pub async fn stop(self) -> String {
        let end = self.process.stop().await;
        end.in_order();
        end.output
    }
}
