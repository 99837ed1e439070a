//! The device owner: routes commands to workers and never waits for any of them.

use crate::domain::devices::{DeviceConfig, DeviceMsg, DeviceSet};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{
        identity_registry::{IdentifiedDevices, IdentityRegistry},
        search::NetworkSearch,
    },
    context::Context,
    countdown::{ArmedCountdowns, CountdownRegistry},
    finder::Finder,
    first_connects::FirstConnects,
    mailbox::{Mailbox, WorkerMsg},
    worker::Worker,
};
use crate::domain::{
    device_metrics::MetricsRegistry,
    devices::{EventSenders, WorkerSettings},
};
use crate::{
    devices::energy::{EnergyCounters, EnergyTotals},
    domain::energy_history::EnergyHistory,
    domain::{
        command_error::{CommandError, ErrorCode},
        device_command::{DeviceAction, DeviceCommand, Switch},
        off_rules::WantedOffRules,
    },
    store::Section,
    system::{clock::Clock, overflow::Overflow, tasks::Tasks},
};
use planner::{DeviceId, OutletPath, Power};

/// Messages in the inbox of a worker. The worker takes them also while a request is in flight, so the inbox fills only
/// if the process gets no CPU time.
const INBOX: usize = 64;

/// How long workers may take to end after the stop, before they are dropped. Shorter than the event loop waits
/// for their last replies.
const STOP_BUDGET: Duration = Duration::from_millis(500);

/// From one device to the next when all are connected again.
const BETWEEN_RESCANS: Duration = Duration::from_millis(50);

/// Between two writes of the energy totals to the state file. After an interruption the counters of the devices restore
/// the rest, unless they started over meanwhile.
const SAVE_ENERGY: Duration = Duration::from_mins(1);

/// After this a message that did not fit into a worker's inbox is sent again.
const AGAIN: Duration = Duration::from_millis(100);

/// The task that owns all devices.
pub struct DeviceOwner {
    inbox: mpsc::Receiver<DeviceMsg>,
    events: EventSenders,
    metrics: MetricsRegistry,
    clock: Clock,
    tasks: Tasks,
    totals: EnergyTotals,
    countdowns: CountdownRegistry,
    sections: DeviceSections,
    network: NetworkSearch,
    /// For the finder.
    configured: watch::Sender<Arc<DeviceSet>>,
    identities: IdentityRegistry,
    first_connects: FirstConnects,
    workers: HashMap<DeviceId, WorkerHandle>,
    /// Workers of removed devices, while they end, by the id of the worker that waits for them.
    draining: HashMap<DeviceId, JoinHandle<()>>,
}

/// What must survive a restart.
#[derive(Debug, Clone, Default)]
pub struct DeviceSections {
    /// What each outlet used in all.
    pub energy: Section<EnergyCounters>,
    /// What each outlet used when.
    pub history: EnergyHistory,
    /// When the countdowns end that were armed on devices.
    pub countdowns: Section<ArmedCountdowns>,
    /// Which device each configured id stands for.
    pub identities: Section<IdentifiedDevices>,
}

struct WorkerHandle {
    inbox: mpsc::Sender<WorkerMsg>,
    /// Messages that must not be lost and did not fit.
    unsent: Overflow<WorkerMsg>,
    settings: watch::Sender<WorkerSettings>,
    stop: CancellationToken,
    /// Shows a worker that ends that another one takes its device over.
    handed_over: CancellationToken,
    task: JoinHandle<()>,
}

impl WorkerHandle {
    /// Sends a message behind those that did not fit before.
    fn try_send(&mut self, message: WorkerMsg) -> Result<(), TrySendError<WorkerMsg>> {
        self.send_unsent();
        if self.unsent.is_empty() {
            self.inbox.try_send(message)
        } else {
            Err(TrySendError::Full(message))
        }
    }

    fn send_unsent(&mut self) {
        self.unsent.send_to(&self.inbox);
    }

    fn keep_unsent(&mut self, message: WorkerMsg) {
        if let Some(WorkerMsg::DeviceCommand(command)) = self.unsent.push(message) {
            command.reply.send(Err(CommandError::superseded()));
        }
    }
}

/// At most one message of each kind for an outlet waits.
fn is_message_replaced(older: &WorkerMsg, newer: &WorkerMsg) -> bool {
    match (older, newer) {
        (WorkerMsg::OffBy(older, _), WorkerMsg::OffBy(newer, _)) => older == newer,
        (WorkerMsg::Withdraw(older), WorkerMsg::Withdraw(newer)) => older == newer,
        (WorkerMsg::DeviceCommand(older), WorkerMsg::DeviceCommand(newer)) => older.path == newer.path,
        _ => false,
    }
}

impl DeviceOwner {
    /// Starts a worker per device. It waits for no device.
    pub fn start(
        devices: DeviceSet,
        inbox: mpsc::Receiver<DeviceMsg>,
        events: EventSenders,
        metrics: MetricsRegistry,
        clock: Clock,
        tasks: Tasks,
        sections: DeviceSections,
    ) -> Self {
        let mut owner = Self {
            inbox,
            events,
            metrics,
            clock,
            tasks,
            totals: EnergyTotals::new(sections.energy.get(), sections.history.clone()),
            countdowns: CountdownRegistry::new(sections.countdowns.get()),
            identities: IdentityRegistry::new(sections.identities.clone()),
            sections,
            network: NetworkSearch::new(devices.area.clone()),
            configured: watch::Sender::new(Arc::new(devices.clone())),
            first_connects: FirstConnects::new(),
            workers: HashMap::new(),
            draining: HashMap::new(),
        };
        owner.apply_devices(devices);
        owner
    }

    /// Serves until the stop, then lets each worker finish the request in flight.
    pub async fn run(mut self, stop: CancellationToken) {
        let finder = Finder::new(
            self.network.clone(),
            self.identities.clone(),
            self.events.clone(),
            self.configured.subscribe(),
        );
        let stopped = stop.clone();
        self.tasks.spawn("finder", async move {
            stopped.run_until_cancelled_owned(finder.run()).await;
        });
        let mut save_energy = interval(SAVE_ENERGY);
        save_energy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                message = self.inbox.recv() => match message {
                    Some(DeviceMsg::Command(command)) => self.route(command),
                    Some(DeviceMsg::BridgeOnline) => self.first_connects.on_online(),
                    Some(DeviceMsg::Rescan) => self.rescan(),
                    Some(DeviceMsg::OffBy(path, end)) => {
                        let message = WorkerMsg::OffBy(path.outlet, end);
                        self.deliver(&path.device, message);
                    }
                    Some(DeviceMsg::Withdraw(path)) => {
                        let device = path.device.clone();
                        self.deliver(&device, WorkerMsg::Withdraw(path));
                    }
                    Some(DeviceMsg::OffRules(path, rules)) => self.send_off_rules(path, rules),
                    Some(DeviceMsg::Reload(devices)) => self.reload(devices),
                    None => break,
                },
                () = self.first_connects.give_turn() => {}
                back = self.network.back() => self.rescan_those(&back),
                _ = save_energy.tick() => self.save_energy(),
                () = self.countdowns.changed() => self.save_countdowns(),
                () = sleep(AGAIN), if self.has_unsent() => self.deliver_unsent(),
            }
        }
        self.stop_all().await;
        self.save_energy();
        self.save_countdowns();
    }

    fn save_energy(&self) {
        let counters = self.totals.counters();
        self.sections.energy.set(counters);
    }

    fn save_countdowns(&self) {
        let armed = self.countdowns.all();
        self.sections.countdowns.set(armed);
    }

    fn apply_devices(&mut self, devices: DeviceSet) {
        self.network.set_area(devices.area.clone());
        self.configured.send_replace(Arc::new(devices.clone()));
        self.identities.configure(&devices.devices);
        let polling = Arc::new(devices.polling);
        for device in devices.devices {
            let settings = WorkerSettings {
                config: Arc::new(device),
                polling: polling.clone(),
            };
            if let Some(worker) = self.workers.get(&settings.config.id) {
                worker.settings.send_if_modified(|current| {
                    let changed = *current != settings;
                    *current = settings;
                    changed
                });
            } else {
                self.spawn_worker(settings);
            }
        }
    }

    fn reload(&mut self, devices: DeviceSet) {
        let wanted: HashSet<&DeviceId> = devices.devices.iter().map(|device| &device.id).collect();
        let leaving: Vec<DeviceId> = self
            .workers
            .keys()
            .filter(|id| !wanted.contains(id))
            .cloned()
            .collect();
        for id in leaving {
            if let Some(worker) = self.workers.remove(&id) {
                let leaving = worker.settings.borrow().config.clone();
                let is_same = |device: &&DeviceConfig| {
                    device.address == leaving.address || !device.means_another(&leaving)
                };
                let successor = devices.devices.iter().find(is_same);
                // The device has a new id: its timers, limits and rules are those of the successor.
                if let Some(successor) = successor {
                    worker.handed_over.cancel();
                    self.totals.rename(&id, &successor.id);
                }
                // A closed channel shows the worker that its device was removed while the bridge continues.
                drop(worker.settings);
                worker.stop.cancel();
                self.metrics.forget(&id);
                let waiting = successor.map_or(id, |device| device.id.clone());
                self.draining.insert(waiting, worker.task);
            }
        }
        self.draining.retain(|_, task| !task.is_finished());
        self.apply_devices(devices);
    }

    fn spawn_worker(&mut self, settings: WorkerSettings) {
        let id = settings.config.id.clone();
        let (inbox, messages) = mpsc::channel(INBOX);
        let (settings, settings_changes) = watch::channel(settings);
        let stop = CancellationToken::new();
        let context = Context::new(
            Mailbox::new(messages, settings_changes, stop.clone()),
            self.clock.clone(),
            self.events.clone(),
            self.metrics.recorder(&id),
            self.network.clone(),
            self.identities.clone(),
        );
        let handed_over = CancellationToken::new();
        let (countdowns, totals) = (self.countdowns.clone(), self.totals.clone());
        let worker = Box::new(Worker::new(context, countdowns, totals, handed_over.clone()));
        // On the heap, and there from the start: its states are large, and every move of the task would copy them.
        let run = Box::pin(worker.run(self.first_connects.add()));
        let predecessor = self.draining.remove(&id);
        let task = self.tasks.spawn(format!("device {id}"), async move {
            // One worker at a time sends requests to a device.
            if let Some(predecessor) = predecessor {
                let _panicked = predecessor.await;
            }
            run.await;
        });
        let handle = WorkerHandle {
            inbox,
            unsent: Overflow::new(is_message_replaced),
            settings,
            stop,
            handed_over,
            task,
        };
        self.workers.insert(id, handle);
    }

    fn route(&mut self, command: DeviceCommand) {
        let Some(worker) = self.workers.get_mut(&command.path.device) else {
            let message = format!("no device {} is configured", command.path.device);
            command
                .reply
                .send(Err(CommandError::bridge(ErrorCode::UnknownDevice, message)));
            return;
        };
        // A worker that ended drops the message, and the dropped reply sends `shutting_down`.
        if let Err(TrySendError::Full(WorkerMsg::DeviceCommand(command))) =
            worker.try_send(WorkerMsg::DeviceCommand(Box::new(command)))
        {
            // An OFF is never refused while an older ON may still be carried out.
            if command.action == DeviceAction::Switch(Switch::To(Power::Off)) {
                return worker.keep_unsent(WorkerMsg::DeviceCommand(command));
            }
            let message = format!("too many commands are pending for {}", command.path.device);
            command
                .reply
                .send(Err(CommandError::bridge(ErrorCode::Busy, message)));
        }
    }

    /// A message that must not be lost: what does not fit now is sent before anything else.
    fn deliver(&mut self, device: &DeviceId, message: WorkerMsg) {
        if let Some(worker) = self.workers.get_mut(device)
            && let Err(TrySendError::Full(message)) = worker.try_send(message)
        {
            worker.keep_unsent(message);
        }
    }

    fn deliver_unsent(&mut self) {
        for worker in self.workers.values_mut() {
            worker.send_unsent();
        }
    }

    fn has_unsent(&self) -> bool {
        self.workers.values().any(|worker| !worker.unsent.is_empty())
    }

    /// The scheduler sees in the reports whether it arrived, and sends it again if not.
    fn send_off_rules(&self, path: OutletPath, rules: Arc<WantedOffRules>) {
        if let Some(worker) = self.workers.get(&path.device) {
            let _full = worker.inbox.try_send(WorkerMsg::OffRules(path.outlet, rules));
        }
    }

    fn rescan(&self) {
        let now = Instant::now();
        for (turn, worker) in (0..).zip(self.workers.values()) {
            let at = now + BETWEEN_RESCANS * turn;
            // A worker with a full inbox gets no CPU time; a rescan would not help.
            let _full = worker.inbox.try_send(WorkerMsg::Rescan(at));
        }
    }

    /// Lost devices were found.
    fn rescan_those(&self, macs: &HashSet<String>) {
        for worker in self.workers.values() {
            let config = worker.settings.borrow().config.clone();
            let identity = self.identities.of(&config);
            if identity.mac().is_some_and(|mac| macs.contains(mac)) {
                let _full = worker.inbox.try_send(WorkerMsg::Rescan(Instant::now()));
            }
        }
    }

    async fn stop_all(&mut self) {
        self.inbox.close();
        // Dropped commands reply `shutting_down`.
        while self.inbox.try_recv().is_ok() {}
        let workers: Vec<WorkerHandle> = self.workers.drain().map(|(_, worker)| worker).collect();
        for worker in &workers {
            worker.stop.cancel();
        }
        let all_ended = async {
            for worker in workers {
                let _panicked = worker.task.await;
            }
        };
        // A worker past its budget stays on the tracker, which names it.
        let _late = tokio::time::timeout(STOP_BUDGET, all_ended).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        device_command::{RunLimit, Source},
        devices::{PeriodicSearch, PollingConfig},
        reply::Reply,
        report_thresholds::ReportThresholds,
        search_area::SearchArea,
    };

    const ON: Switch = Switch::To(Power::On);
    const OFF: Switch = Switch::To(Power::Off);

    fn setup() -> DeviceSet {
        let hour = Duration::from_hours(1);
        DeviceSet {
            devices: vec![DeviceConfig::new(
                "heater".parse().unwrap(),
                "127.0.0.1:1".to_owned(),
            )],
            area: SearchArea::default(),
            search: PeriodicSearch::default(),
            polling: PollingConfig {
                poll: hour,
                slow_poll: hour,
                telling: ReportThresholds::default(),
                request: hour,
                probe_longest: hour,
                refused_longest: hour,
                locked: hour,
            },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_inbox_refuses_no_off() {
        let (_messages, inbox) = mpsc::channel(1);
        let (mqtt, _reports) = mpsc::channel(64);
        let events = EventSenders {
            mqtt: mqtt.clone(),
            scheduler: mqtt,
        };
        let (clock, tasks, metrics) = (Clock::system(), Tasks::default(), MetricsRegistry::default());
        let sections = DeviceSections::default();
        let mut owner = DeviceOwner::start(setup(), inbox, events, metrics, clock, tasks, sections);
        let (replies, mut results) = mpsc::unbounded_channel();
        let mut send = |number: usize, switch| {
            let replies = replies.clone();
            owner.route(DeviceCommand {
                path: "heater".parse().unwrap(),
                action: DeviceAction::Switch(switch),
                run: RunLimit::default(),
                source: Source::Mqtt,
                deadline: Instant::now() + Duration::from_secs(10),
                reply: Reply::new(move |outcome| {
                    let _test_is_over = replies.send((number, outcome.result));
                }),
                turn: None,
            });
        };
        // Nothing is awaited, so the worker takes none of them.
        for number in 0..INBOX {
            send(number, ON);
        }
        assert!(results.try_recv().is_err());
        for (number, switch, expected) in [
            (100, ON, Some((100, ErrorCode::Busy))),
            (101, OFF, None),
            (102, ON, Some((102, ErrorCode::Busy))),
            (103, OFF, Some((101, ErrorCode::Superseded))),
        ] {
            send(number, switch);
            let reply = results.try_recv().ok();
            let code = reply.map(|(number, result)| (number, result.unwrap_err().code));
            assert_eq!(code, expected, "{number}");
        }
        assert!(owner.has_unsent(), "the newest OFF waits for room");
    }
}
