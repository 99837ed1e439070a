//! The device owner: routes intents to workers and never waits for any of them.

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
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    DeviceConfig, HealthBoard, News, Orders, Tempo,
    mailbox::{Mailbox, Message},
    search::Directory,
    worker::Worker,
};
use crate::{
    devices::energy::EnergyBook,
    domain::{
        command::{Code, Failure, Intent},
        off_rules::Mirror,
    },
    store::Keeper,
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

/// Between two times that the energy totals are handed to the state file. What an interruption loses of them is
/// found again in the devices' own counters, unless those started over meanwhile.
const KEEP_ENERGY: Duration = Duration::from_mins(1);

/// What the device owner is told.
#[derive(Debug)]
pub enum Order {
    /// Do something with an outlet.
    Intent(Intent),
    /// Look at all devices anew.
    Rescan,
    /// Make our rules on a plug what is said here. It is done when there is time; reports say what became of it.
    Mirror(DeviceId, Arc<Mirror>),
    /// The settings changed: devices come, go and change. One that is the same does not notice.
    Reload(Roster),
}

/// The devices and how to treat them.
#[derive(Debug, Clone)]
pub struct Roster {
    /// Every configured device.
    pub devices: Vec<DeviceConfig>,
    /// How often they are asked.
    pub tempo: Tempo,
}

/// The task that owns all devices.
pub struct Owner {
    orders: mpsc::Receiver<Order>,
    news: Vec<mpsc::Sender<News>>,
    board: HealthBoard,
    clock: Clock,
    tasks: Tasks,
    book: EnergyBook,
    keeper: Keeper,
    directory: Directory,
    workers: HashMap<DeviceId, WorkerHandle>,
    /// Workers of devices that were taken out, while they end.
    retired: HashMap<DeviceId, JoinHandle<()>>,
}

struct WorkerHandle {
    inbox: mpsc::Sender<Message>,
    orders: watch::Sender<Orders>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Owner {
    /// Starts a worker per device. Nothing waits for a device here.
    pub fn start(
        roster: Roster,
        orders: mpsc::Receiver<Order>,
        news: Vec<mpsc::Sender<News>>,
        board: HealthBoard,
        clock: Clock,
        tasks: Tasks,
        keeper: Keeper,
    ) -> Self {
        let mut owner = Self {
            orders,
            news,
            board,
            clock,
            tasks,
            book: EnergyBook::new(keeper.saved().energy),
            keeper,
            directory: Directory::default(),
            workers: HashMap::new(),
            retired: HashMap::new(),
        };
        owner.employ(roster);
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
                order = self.orders.recv() => match order {
                    Some(Order::Intent(intent)) => self.route(intent),
                    Some(Order::Rescan) => self.rescan(),
                    Some(Order::Mirror(device, mirror)) => self.mirror(&device, mirror),
                    Some(Order::Reload(roster)) => self.reload(roster),
                    None => break,
                },
                _ = keep_energy.tick() => self.keep_energy(),
            }
        }
        self.dismiss_all().await;
        self.keep_energy();
    }

    fn keep_energy(&self) {
        let accounts = self.book.accounts();
        self.keeper.replace(|saved| &mut saved.energy, accounts);
    }

    fn employ(&mut self, roster: Roster) {
        let tempo = Arc::new(roster.tempo);
        let mut first_look = Instant::now();
        for device in roster.devices {
            let orders = Orders {
                config: Arc::new(device),
                tempo: tempo.clone(),
            };
            if let Some(worker) = self.workers.get(&orders.config.id) {
                worker.orders.send_if_modified(|current| {
                    let changed = *current != orders;
                    *current = orders;
                    changed
                });
            } else {
                self.hire(orders, first_look);
                first_look += BETWEEN_FIRST_LOOKS;
            }
        }
    }

    fn reload(&mut self, roster: Roster) {
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
                drop(worker.orders);
                worker.stop.cancel();
                self.board.forget(&id);
                self.retired.insert(id, worker.task);
            }
        }
        self.retired.retain(|_, task| !task.is_finished());
        self.employ(roster);
    }

    fn hire(&mut self, orders: Orders, first_look: Instant) {
        let id = orders.config.id.clone();
        let (inbox, messages) = mpsc::channel(INBOX);
        let (orders, orders_in) = watch::channel(orders);
        let stop = CancellationToken::new();
        let worker = Worker::new(
            Mailbox::new(messages, orders_in, stop.clone()),
            self.clock.clone(),
            self.news.clone(),
            self.board.recorder(&id),
            self.book.clone(),
            self.directory.clone(),
        );
        let predecessor = self.retired.remove(&id);
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
            orders,
            stop,
            task,
        };
        self.workers.insert(id, handle);
    }

    fn route(&self, intent: Intent) {
        let Some(worker) = self.workers.get(&intent.path.device) else {
            let message = format!("no device {} is configured", intent.path.device);
            intent
                .ticket
                .answer(Err(Failure::bridge(Code::UnknownDevice, message)));
            return;
        };
        // A worker that ended drops the message, and the ticket in it answers.
        if let Err(TrySendError::Full(Message::Intent(intent))) =
            worker.inbox.try_send(Message::Intent(Box::new(intent)))
        {
            let message = format!("too many commands wait for {}", intent.path.device);
            intent.ticket.answer(Err(Failure::bridge(Code::Busy, message)));
        }
    }

    /// Who asks sees in the reports whether it arrived, and asks again if not.
    fn mirror(&self, device: &DeviceId, mirror: Arc<Mirror>) {
        if let Some(worker) = self.workers.get(device) {
            let _full = worker.inbox.try_send(Message::Mirror(mirror));
        }
    }

    fn rescan(&self) {
        for worker in self.workers.values() {
            // A worker whose inbox is full is looking at its device already.
            let _full = worker.inbox.try_send(Message::Rescan);
        }
    }

    async fn dismiss_all(&mut self) {
        self.orders.close();
        // Dropped intents answer `shutting_down`.
        while self.orders.try_recv().is_ok() {}
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
