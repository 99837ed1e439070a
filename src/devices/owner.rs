//! The device owner: routes intents to workers and never waits for any of them.

use crate::domain::devices::{DeviceMsg, DeviceSet};
use std::{
    collections::{HashMap, HashSet, VecDeque},
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
    client::discovery::DiscoveryCache,
    context::Context,
    countdown::CountdownRegistry,
    mailbox::{Mailbox, WorkerMsg},
    worker::Worker,
};
use crate::domain::{
    device_metrics::MetricsRegistry,
    devices::{EventSenders, WorkerSettings},
};
use crate::{
    devices::energy::EnergyTotals,
    domain::{
        command_error::{CommandError, ErrorCode},
        device_command::DeviceCommand,
        off_rules::Mirror,
    },
    store::Store,
    system::{clock::Clock, tasks::Tasks},
};
use planner::DeviceId;

/// Messages that may lie in a worker's inbox. The worker takes them while it talks to its device, so
/// this fills only if the process is starved.
const INBOX: usize = 64;

/// How long workers may take to end after the stop, before they are dropped. Shorter than the event loop waits
/// for their last words.
const STOP_BUDGET: Duration = Duration::from_millis(500);

/// From the first look at one device to that at the next. Looked at all at once, a thousand would keep the event loop
/// from its broker, and a burst of logins is what Wi-Fi takes worst.
const BETWEEN_FIRST_LOOKS: Duration = Duration::from_millis(1);

/// From one device to the next when all are connected again.
const BETWEEN_RESCANS: Duration = Duration::from_millis(50);

/// Between two times that the energy totals are handed to the state file. What an interruption loses of them is
/// found again in the devices' own counters, unless those started over meanwhile.
const KEEP_ENERGY: Duration = Duration::from_mins(1);

/// After this a message that did not fit into a worker's inbox is sent again.
const AGAIN: Duration = Duration::from_millis(100);

/// The task that owns all devices.
pub struct DeviceOwner {
    settings: mpsc::Receiver<DeviceMsg>,
    events: EventSenders,
    board: MetricsRegistry,
    clock: Clock,
    tasks: Tasks,
    book: EnergyTotals,
    countdowns: CountdownRegistry,
    keeper: Store,
    directory: DiscoveryCache,
    workers: HashMap<DeviceId, WorkerHandle>,
    /// Workers of devices that were taken out, while they end.
    draining: HashMap<DeviceId, JoinHandle<()>>,
}

struct WorkerHandle {
    inbox: mpsc::Sender<WorkerMsg>,
    /// Messages that must not be lost and did not fit.
    unsent: VecDeque<WorkerMsg>,
    settings: watch::Sender<WorkerSettings>,
    stop: CancellationToken,
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
        while let Some(message) = self.unsent.pop_front() {
            if let Err(TrySendError::Full(message)) = self.inbox.try_send(message) {
                self.unsent.push_front(message);
                return;
            }
        }
    }

    /// At most one message of each kind for an outlet: a newer one replaces it.
    fn keep_unsent(&mut self, message: WorkerMsg) {
        self.unsent.retain(|other| match (other, &message) {
            (WorkerMsg::OffBy(outlet, _), WorkerMsg::OffBy(newer, _)) => outlet != newer,
            (WorkerMsg::Withdraw(path), WorkerMsg::Withdraw(newer)) => path != newer,
            _ => true,
        });
        self.unsent.push_back(message);
    }
}

impl DeviceOwner {
    /// Starts a worker per device. Nothing waits for a device here.
    pub fn start(
        roster: DeviceSet,
        settings: mpsc::Receiver<DeviceMsg>,
        events: EventSenders,
        board: MetricsRegistry,
        clock: Clock,
        tasks: Tasks,
        keeper: Store,
    ) -> Self {
        let mut owner = Self {
            settings,
            events,
            board,
            clock,
            tasks,
            book: EnergyTotals::new(keeper.saved().energy),
            countdowns: CountdownRegistry::new(keeper.saved().countdowns),
            keeper,
            directory: DiscoveryCache::default(),
            workers: HashMap::new(),
            draining: HashMap::new(),
        };
        owner.apply_devices(roster);
        owner
    }

    /// Serves until the stop, then lets each worker finish the request in flight.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut keep_energy = interval(KEEP_ENERGY);
        keep_energy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                order = self.settings.recv() => match order {
                    Some(DeviceMsg::Command(intent)) => self.route(intent),
                    Some(DeviceMsg::Rescan) => self.rescan(),
                    Some(DeviceMsg::OffBy(path, end)) => {
                        let message = WorkerMsg::OffBy(path.outlet, end);
                        self.deliver(&path.device, message);
                    }
                    Some(DeviceMsg::Withdraw(path)) => {
                        let device = path.device.clone();
                        self.deliver(&device, WorkerMsg::Withdraw(path));
                    }
                    Some(DeviceMsg::Mirror(device, mirror)) => self.mirror(&device, mirror),
                    Some(DeviceMsg::Reload(roster)) => self.reload(roster),
                    None => break,
                },
                _ = keep_energy.tick() => self.keep_energy(),
                () = self.countdowns.changed() => self.keep_countdowns(),
                () = sleep(AGAIN), if self.has_unsent() => self.deliver_unsent(),
            }
        }
        self.stop_all().await;
        self.keep_energy();
        self.keep_countdowns();
    }

    fn keep_energy(&self) {
        let accounts = self.book.accounts();
        self.keeper.replace(|saved| &mut saved.energy, accounts);
    }

    fn keep_countdowns(&self) {
        let armed = self.countdowns.all();
        self.keeper.replace(|saved| &mut saved.countdowns, armed);
    }

    fn apply_devices(&mut self, roster: DeviceSet) {
        let tempo = Arc::new(roster.tempo);
        let mut first_look = Instant::now();
        for device in roster.devices {
            let settings = WorkerSettings {
                config: Arc::new(device),
                tempo: tempo.clone(),
            };
            if let Some(worker) = self.workers.get(&settings.config.id) {
                worker.settings.send_if_modified(|current| {
                    let changed = *current != settings;
                    *current = settings;
                    changed
                });
            } else {
                self.spawn_worker(settings, first_look);
                first_look += BETWEEN_FIRST_LOOKS;
            }
        }
    }

    fn reload(&mut self, roster: DeviceSet) {
        let wanted: HashSet<&DeviceId> = roster.devices.iter().map(|device| &device.id).collect();
        let leaving: Vec<DeviceId> = self
            .workers
            .keys()
            .filter(|id| !wanted.contains(id))
            .cloned()
            .collect();
        for id in leaving {
            if let Some(worker) = self.workers.remove(&id) {
                // By this it knows that the bridge goes on without it.
                drop(worker.settings);
                worker.stop.cancel();
                self.board.forget(&id);
                self.draining.insert(id, worker.task);
            }
        }
        self.draining.retain(|_, task| !task.is_finished());
        self.apply_devices(roster);
    }

    fn spawn_worker(&mut self, settings: WorkerSettings, first_look: Instant) {
        let id = settings.config.id.clone();
        let (inbox, messages) = mpsc::channel(INBOX);
        let (settings, orders_in) = watch::channel(settings);
        let stop = CancellationToken::new();
        let context = Context::new(
            Mailbox::new(messages, orders_in, stop.clone()),
            self.clock.clone(),
            self.events.clone(),
            self.board.recorder(&id),
            self.directory.clone(),
        );
        let worker = Worker::new(context, self.countdowns.clone(), self.book.clone());
        let predecessor = self.draining.remove(&id);
        let task = self.tasks.spawn(format!("device {id}"), async move {
            // A device is asked by one worker at a time.
            if let Some(predecessor) = predecessor {
                let _panicked = predecessor.await;
            }
            // On the heap: its states are large, and every move of the task would copy them.
            Box::pin(worker.run(first_look)).await;
        });
        let handle = WorkerHandle {
            inbox,
            unsent: VecDeque::new(),
            settings,
            stop,
            task,
        };
        self.workers.insert(id, handle);
    }

    fn route(&mut self, intent: DeviceCommand) {
        let Some(worker) = self.workers.get_mut(&intent.path.device) else {
            let message = format!("no device {} is configured", intent.path.device);
            intent
                .reply
                .send(Err(CommandError::bridge(ErrorCode::UnknownDevice, message)));
            return;
        };
        // A worker that ended drops the message, and the reply in it answers.
        if let Err(TrySendError::Full(WorkerMsg::DeviceCommand(intent))) =
            worker.try_send(WorkerMsg::DeviceCommand(Box::new(intent)))
        {
            let message = format!("too many commands wait for {}", intent.path.device);
            intent
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

    /// Who asks sees in the reports whether it arrived, and asks again if not.
    fn mirror(&self, device: &DeviceId, mirror: Arc<Mirror>) {
        if let Some(worker) = self.workers.get(device) {
            let _full = worker.inbox.try_send(WorkerMsg::Mirror(mirror));
        }
    }

    fn rescan(&self) {
        let now = Instant::now();
        for (turn, worker) in (0..).zip(self.workers.values()) {
            let at = now + BETWEEN_RESCANS * turn;
            // A worker whose inbox is full is starved; more work is no help.
            let _full = worker.inbox.try_send(WorkerMsg::Rescan(at));
        }
    }

    async fn stop_all(&mut self) {
        self.settings.close();
        // Dropped intents answer `shutting_down`.
        while self.settings.try_recv().is_ok() {}
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
