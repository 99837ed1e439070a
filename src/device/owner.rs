//! The device owner: routes intents to workers and never waits for any of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    DeviceConfig, HealthBoard, News, Tempo,
    mailbox::{Mailbox, Message},
    search::Directory,
    worker::Worker,
};
use crate::{
    clock::Clock,
    intent::{Code, Failure, Intent},
    model::DeviceId,
    tasks::Tasks,
};

/// Messages that may lie in a worker's inbox. The worker takes them while it talks to its device, so
/// this fills only if the process is starved.
const INBOX: usize = 64;

/// How long workers may take to end after the stop, before they are dropped. Shorter than the event loop waits
/// for their last words.
const STOP_BUDGET: Duration = Duration::from_millis(500);

/// What the device owner is told.
#[derive(Debug)]
pub enum Order {
    /// Do something with an outlet.
    Intent(Intent),
    /// Look at all devices anew.
    Rescan,
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
    tempo: Arc<Tempo>,
    directory: Directory,
    workers: HashMap<DeviceId, WorkerHandle>,
}

struct WorkerHandle {
    inbox: mpsc::Sender<Message>,
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
    ) -> Self {
        let tempo = Arc::new(roster.tempo);
        let mut owner = Self {
            orders,
            news,
            board,
            clock,
            tasks,
            tempo,
            directory: Directory::default(),
            workers: HashMap::new(),
        };
        for device in roster.devices {
            owner.hire(device);
        }
        owner
    }

    /// Serves until the stop, then lets each worker finish the request in flight.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                order = self.orders.recv() => match order {
                    Some(Order::Intent(intent)) => self.route(intent),
                    Some(Order::Rescan) => self.rescan(),
                    None => break,
                },
            }
        }
        self.dismiss_all().await;
    }

    fn hire(&mut self, device: DeviceConfig) {
        let id = device.id.clone();
        let (inbox, messages) = mpsc::channel(INBOX);
        let stop = CancellationToken::new();
        let worker = Worker::new(
            Arc::new(device),
            self.tempo.clone(),
            self.clock.clone(),
            Mailbox::new(messages, stop.clone()),
            self.news.clone(),
            self.board.recorder(&id),
            self.directory.clone(),
        );
        let task = self.tasks.spawn(format!("device {id}"), worker.run());
        self.workers.insert(id, WorkerHandle { inbox, stop, task });
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
            worker.inbox.try_send(Message::Intent(intent))
        {
            let message = format!("too many commands wait for {}", intent.path.device);
            intent.ticket.answer(Err(Failure::bridge(Code::Busy, message)));
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
