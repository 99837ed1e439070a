//! Settings that are read again while the bridge runs: on a signal, and on `bridge/request/reload`.
//!
//! The files are read by a task of its own, one reading at a time: they may be on a disk that hangs. What was asked
//! for while one goes on is answered by the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::{
    sync::{Notify, mpsc},
    task::spawn_blocking,
    try_join,
};
use tracing::{error, info, warn};

use super::{
    command::{Decoded, Transaction, decode_request},
    home::EntityOwner,
    requests::{RELOAD, Reply},
    task::MqttTask,
    topics::{Address, RequestName},
};
use crate::mqtt::publisher::Publisher;
use crate::{
    app::{
        bridge::{outlet_names, roster},
        reload::{Loader, SettingsDiff, compare},
    },
    config::{Problems, Settings},
    domain::{
        devices::DeviceMsg,
        scheduling::{ReloadedRules, SchedulerMsg},
    },
    system::{tasks::Tasks, telemetry::Level},
};
use planner::{DeviceId, OutletPath, rules::Rules, sensor::SensorSpec};

/// Requests that may wait for the next reading.
const ASKERS: usize = 256;

/// Who asked for a reload.
#[derive(Debug)]
enum Asker {
    /// A signal, which takes no answer.
    Signal,
    /// A request on MQTT.
    Request(Option<Transaction>),
}

/// Readings of the settings: the one that goes on, and the next.
#[derive(Debug)]
pub(super) struct Reloads {
    loader: Option<Loader>,
    /// What holds now.
    running: Settings,
    tasks: Tasks,
    signal: Arc<Notify>,
    readings: mpsc::Sender<Reading>,
    read: mpsc::Receiver<Reading>,
    /// Who waits for the reading that goes on; `None` if none does.
    reading: Option<Vec<Asker>>,
    /// Who waits for the next.
    next: Vec<Asker>,
}

/// What a reading found.
#[derive(Debug)]
pub(super) enum Reading {
    /// Good settings, and room for them on the way to those who obey them.
    Good(
        Box<Settings>,
        mpsc::OwnedPermit<DeviceMsg>,
        mpsc::OwnedPermit<SchedulerMsg>,
    ),
    /// Why they cannot be taken: every reason.
    Bad(Vec<String>),
}

/// What is to be done about reloads.
#[derive(Debug)]
pub(super) enum Turn {
    /// A signal asks for one.
    Asked,
    /// A reading is done.
    Read(Reading),
}

impl Reloads {
    pub(super) fn new(loader: Option<Loader>, running: Settings, tasks: Tasks) -> Self {
        // One reading at a time, so there is always room.
        let (readings, read) = mpsc::channel(1);
        Self {
            loader,
            running,
            tasks,
            signal: Arc::default(),
            readings,
            read,
            reading: None,
            next: Vec::new(),
        }
    }

    /// What comes next. May be dropped at any time without losing anything.
    pub(super) async fn turn(&mut self) -> Turn {
        tokio::select! {
            () = self.signal.notified() => Turn::Asked,
            Some(reading) = self.read.recv() => Turn::Read(reading),
        }
    }
}

/// Reads the settings and waits for room. `None`: the bridge is stopping.
async fn read(
    loader: Loader,
    orders: mpsc::Sender<DeviceMsg>,
    asks: mpsc::Sender<SchedulerMsg>,
) -> Option<Reading> {
    let settings = match spawn_blocking(move || loader.load()).await {
        Ok(Ok(settings)) => settings,
        Ok(Err(problems)) => return Some(Reading::Bad(each(&problems))),
        Err(error) => return Some(Reading::Bad(vec![error.to_string()])),
    };
    let (order, ask) = try_join!(async { orders.reserve_owned().await.ok().ok_or(()) }, async {
        asks.reserve_owned().await.ok().ok_or(())
    },)
    .ok()?;
    Some(Reading::Good(Box::new(settings), order, ask))
}

fn each(problems: &Problems) -> Vec<String> {
    problems.0.iter().map(ToString::to_string).collect()
}

impl MqttTask {
    /// Notified when the settings shall be read again.
    pub fn reload_signal(&self) -> Arc<Notify> {
        self.reloads.signal.clone()
    }

    /// Reads the request; it is answered when the settings were read.
    pub(super) fn request_reload(&mut self, payload: &[u8]) {
        let refused = match decode_request(payload, |_| Ok(())) {
            // Requests need no payload, so an empty one is no less a request.
            Decoded::Ignored => Reply::error(None, "invalid_payload", "expected a JSON object or nothing"),
            Decoded::Refused { error, transaction } => {
                Reply::error(transaction, error.code(), &error.to_string())
            }
            Decoded::Accepted { transaction, .. } if self.closing.is_some() => shutting_down(transaction),
            Decoded::Accepted { transaction, .. } if self.reloads.loader.is_none() => Reply::error(
                transaction,
                "disabled",
                "this bridge has no settings to read again",
            ),
            Decoded::Accepted { transaction, .. } if self.reloads.next.len() >= ASKERS => {
                Reply::error(transaction, "busy", "too many requests at once")
            }
            Decoded::Accepted { transaction, .. } => {
                info!("reload requested over MQTT");
                return self.reload_for(Asker::Request(transaction));
            }
        };
        self.answer_reload(&refused);
    }

    pub(super) fn on_reload_step(&mut self, turn: Turn) {
        match turn {
            Turn::Asked => {
                info!("reload requested by a signal");
                self.reload_for(Asker::Signal);
            }
            Turn::Read(reading) => self.take_reading(reading),
        }
    }

    /// Reloads that nobody will carry out any more.
    pub(super) fn refuse_reloads(&mut self) {
        let reading = self.reloads.reading.take().unwrap_or_default();
        let next = std::mem::take(&mut self.reloads.next);
        for asker in reading.into_iter().chain(next) {
            if let Asker::Request(transaction) = asker {
                self.answer_reload(&shutting_down(transaction));
            }
        }
    }

    fn reload_for(&mut self, asker: Asker) {
        if self.reloads.reading.is_some() {
            self.reloads.next.push(asker);
        } else {
            self.begin_reading(vec![asker]);
        }
    }

    fn begin_reading(&mut self, askers: Vec<Asker>) {
        let Some(loader) = self.reloads.loader.clone() else {
            warn!("this bridge has no settings to read again");
            return;
        };
        self.reloads.reading = Some(askers);
        let reading = read(loader, self.orders.clone(), self.questions.sender());
        let done = self.reloads.readings.clone();
        self.reloads.tasks.spawn("reload", async move {
            if let Some(reading) = reading.await {
                // The event loop is gone: nobody waits.
                let _gone = done.send(reading).await;
            }
        });
    }

    fn take_reading(&mut self, reading: Reading) {
        let outcome = match reading {
            Reading::Bad(reasons) => Err(reasons),
            Reading::Good(settings, order, ask) => self.reload(*settings, order, ask),
        };
        self.tree.refused_settings = outcome.as_ref().err().map(|reasons| reasons.join("; "));
        match &outcome {
            Ok(difference) => log_reloaded(difference),
            Err(reasons) => {
                for reason in reasons {
                    error!(%reason, "the settings have a problem; nothing is changed");
                }
            }
        }
        self.tree.publish_last_error(None);
        for asker in self.reloads.reading.take().unwrap_or_default() {
            if let Asker::Request(transaction) = asker {
                self.answer_reload(&reply(transaction, &outcome));
            }
        }
        let next = std::mem::take(&mut self.reloads.next);
        if !next.is_empty() {
            self.begin_reading(next);
        }
    }

    /// Takes good settings over.
    fn reload(
        &mut self,
        read: Settings,
        order: mpsc::OwnedPermit<DeviceMsg>,
        ask: mpsc::OwnedPermit<SchedulerMsg>,
    ) -> Result<SettingsDiff, Vec<String>> {
        let (settings, difference) = compare(&self.reloads.running, read);
        self.check_devices(&settings)?;
        self.check_sensors(&settings.rules)?;
        let devices: BTreeSet<DeviceId> = settings.devices.iter().map(|device| device.id.clone()).collect();
        order.send(DeviceMsg::Reload(roster(&settings)));
        ask.send(SchedulerMsg::Reload(ReloadedRules {
            rules: Arc::new(settings.rules.clone()),
            devices: outlet_names(&settings),
        }));
        self.listen_to(&settings.rules.sensors);
        if self.reloads.running.log.level != settings.log.level {
            self.log_level.set(settings.log.level);
        }
        self.tree.about.settings = settings.digest();
        self.tree.about.setup_mode = settings.needs_setup();
        self.tree.reconfigure(devices, self.log_level.get());
        self.reloads.running = settings;
        Ok(difference)
    }

    /// An editor that empties a file before it writes it must not take every device out.
    fn check_devices(&self, read: &Settings) -> Result<(), Vec<String>> {
        if read.devices.is_empty() && !self.reloads.running.devices.is_empty() {
            let reason =
                "no [[device]] is left: was the file read while it was written? If that is meant, restart";
            return Err(vec![reason.to_owned()]);
        }
        Ok(())
    }

    /// They were checked against the base topic they came with, which is not in force before a restart.
    fn check_sensors(&self, rules: &Rules) -> Result<(), Vec<String>> {
        let ours = |spec: &&SensorSpec| {
            let topic = spec.topic.parse();
            topic.is_ok_and(|topic| self.tree.topics.claims(&topic))
        };
        let reason = |spec: &SensorSpec| {
            format!(
                "sensor {}: {} is a topic of this bridge until it is restarted",
                spec.id, spec.topic
            )
        };
        let reasons: Vec<String> = rules.sensors.iter().filter(ours).map(reason).collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// Follows the sensors to other topics. A topic that is read in another way is subscribed to anew, so that the
    /// broker tells what it keeps there.
    fn listen_to(&mut self, sensors: &[SensorSpec]) {
        let before = by_topic(&self.reloads.running.rules.sensors);
        let now = by_topic(sensors);
        for topic in before
            .keys()
            .filter(|topic| before.get(*topic) != now.get(*topic))
        {
            if let Some(filter) = self.tree.faulty.filter((*topic).to_owned()) {
                self.tree.link.unsubscribe(&filter);
            }
        }
        for topic in now.keys().filter(|topic| before.get(*topic) != now.get(*topic)) {
            if let Some(filter) = self.tree.faulty.filter((*topic).to_owned()) {
                self.tree.link.subscribe(filter);
            }
        }
        self.sensors = now.into_keys().map(str::to_owned).collect();
    }

    fn answer_reload(&mut self, answer: &Value) {
        if let Ok(name) = RELOAD.parse::<RequestName>() {
            self.tree
                .send(self.tree.topics.request_response(&name), answer.to_string());
        }
    }
}

fn by_topic(sensors: &[SensorSpec]) -> BTreeMap<&str, Vec<&SensorSpec>> {
    let mut topics: BTreeMap<&str, Vec<&SensorSpec>> = BTreeMap::new();
    for spec in sensors {
        topics.entry(&spec.topic).or_default().push(spec);
    }
    topics
}

fn shutting_down(transaction: Option<Transaction>) -> Value {
    Reply::error(transaction, "shutting_down", "the bridge is shutting down")
}

fn reply(transaction: Option<Transaction>, outcome: &Result<SettingsDiff, Vec<String>>) -> Value {
    match outcome {
        Ok(difference) => Reply::ok(transaction, &json!(difference)),
        Err(reasons) => Reply::error(transaction, "invalid_settings", &reasons.join("; ")),
    }
}

fn log_reloaded(difference: &SettingsDiff) {
    let SettingsDiff {
        added,
        changed,
        removed,
        needs_restart,
    } = difference;
    info!(
        added = %added.join(", "),
        changed = %changed.join(", "),
        removed = %removed.join(", "),
        "settings reloaded"
    );
    if !needs_restart.is_empty() {
        warn!(sections = %needs_restart.join(", "), "these settings changed and need a restart");
    }
}

impl Publisher {
    /// Other devices are configured. The topics of those that are gone are emptied; one that is new is told of when
    /// its worker reports.
    fn reconfigure(&mut self, devices: BTreeSet<DeviceId>, level: Level) {
        let before = std::mem::replace(&mut self.configured, devices);
        let new: Vec<DeviceId> = self.configured.difference(&before).cloned().collect();
        for device in before.difference(&self.configured.clone()) {
            info!(%device, "cleared retained topics of a removed device");
            self.clear_device(device);
        }
        if let Some(home) = &mut self.home {
            for device in new {
                home.expect(device);
            }
        }
        self.publish_devices();
        self.publish_info(level);
    }

    fn clear_device(&mut self, device: &DeviceId) {
        let report = self.reports.remove(device);
        let outlets = report.iter().flat_map(|report| &report.outlets);
        for key in outlets.filter_map(|outlet| outlet.key.clone()) {
            let path = OutletPath::outlet(device.clone(), key);
            self.erase(self.topics.state(&path));
        }
        self.erase(self.topics.state(&OutletPath::device(device.clone())));
        self.erase(self.topics.availability(device));
        let home = self.home.as_mut();
        if let Some(node) = home.and_then(|home| home.forget(&EntityOwner::Device(device.clone()))) {
            self.remove_discovery(&Address::DiscoveryConfig(node));
        }
    }
}
