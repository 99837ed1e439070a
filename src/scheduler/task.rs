//! The scheduler task: channels and timers become events, effects become messages.
//!
//! It never waits for a device, a listener or the disk. Replies do: see [`HeldReplies`].

use std::{collections::VecDeque, sync::Arc};

use planner::{Power, rules::Rules};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

use super::{
    Arrival, Effect, PersistedScheduler, PlanRequest, Scheduler, SchedulerEvent, SwitchId,
    held_replies::HeldReplies,
};
use crate::{
    domain::{
        command_error::{CommandError, ErrorCode},
        device_command::{DeviceAction, DeviceCommand, Switch},
        devices::{DeviceEvent, DeviceMsg},
        reply::{CommandResult, Reply},
        request_reply::RequestReply,
        scheduling::{ConfiguredDevice, RequestError, SchedulerInbox, SchedulerMsg, SchedulerUpdate},
        sent_reply::SentReply,
    },
    store::Section,
    system::{clock::Clock, clock_sleep::ClockSleep, overflow::Overflow, tasks::Tasks},
};

/// What the task is made of.
#[derive(Debug)]
pub struct Parts {
    /// As the settings have them.
    pub rules: Arc<Rules>,
    /// Every configured device.
    pub devices: std::collections::BTreeMap<planner::DeviceId, ConfiguredDevice>,
    /// What survives a restart.
    pub persisted: Section<PersistedScheduler>,
    /// The channels to and from the event loop.
    pub inbox: SchedulerInbox,
    /// From workers.
    pub events: mpsc::Receiver<DeviceEvent>,
    /// To the device owner.
    pub device_owner: mpsc::Sender<DeviceMsg>,
    /// The clocks.
    pub clock: Clock,
    /// For computations beside the task.
    pub tasks: Tasks,
}

/// The scheduler task.
#[derive(Debug)]
pub struct SchedulerTask {
    scheduler: Scheduler,
    persisted: Section<PersistedScheduler>,
    /// Events whose changes something waits for, with the number of the last change.
    unwritten: VecDeque<(u64, u64)>,
    clock: Clock,
    tasks: Tasks,
    messages: mpsc::Receiver<SchedulerMsg>,
    events: mpsc::Receiver<DeviceEvent>,
    device_owner: mpsc::Sender<DeviceMsg>,
    updates: mpsc::Sender<SchedulerUpdate>,
    /// Updates that there was no room for.
    unpublished: Overflow<SchedulerUpdate>,
    /// Messages to the device owner that there was no room for.
    unsent: Overflow<DeviceMsg>,
    results: mpsc::UnboundedSender<(SwitchId, CommandResult)>,
    switched: mpsc::UnboundedReceiver<(SwitchId, CommandResult)>,
    sent: mpsc::UnboundedSender<SentReply>,
    replies: mpsc::UnboundedReceiver<SentReply>,
    held: HeldReplies,
    /// One plan is computed at a time.
    planning: Arc<tokio::sync::Semaphore>,
}

impl SchedulerTask {
    /// Nothing is sent before [`SchedulerTask::run`].
    pub fn new(parts: Parts) -> Self {
        let (results, switched) = mpsc::unbounded_channel();
        let (sent, replies) = mpsc::unbounded_channel();
        let persisted = parts.persisted.get();
        Self {
            scheduler: Scheduler::new(parts.rules, parts.devices, persisted, parts.clock.read()),
            persisted: parts.persisted,
            unwritten: VecDeque::new(),
            clock: parts.clock,
            tasks: parts.tasks,
            messages: parts.inbox.messages,
            events: parts.events,
            device_owner: parts.device_owner,
            updates: parts.inbox.updates,
            unpublished: Overflow::new(is_update_replaced),
            unsent: Overflow::new(is_message_replaced),
            results,
            switched,
            sent,
            replies,
            held: HeldReplies::default(),
            planning: Arc::new(tokio::sync::Semaphore::new(1)),
        }
    }

    /// Runs until the stop, or until no device reports any more. Commands that wait are answered `shutting_down`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.handle(SchedulerEvent::Tick);
        let (updates, device_owner) = (self.updates.clone(), self.device_owner.clone());
        let mut sleep = ClockSleep::new(self.clock.clone());
        loop {
            let wake = self.scheduler.next_deadline();
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(reply) = self.replies.recv() => {
                    self.held.take(reply, &self.persisted);
                    None
                }
                () = self.held.ready(&self.persisted) => {
                    self.held.deliver_first();
                    None
                }
                event = self.events.recv() => match event {
                    Some(event) => {
                        self.on_device_event(event);
                        None
                    }
                    None => break,
                },
                Some((id, result)) = self.switched.recv() => {
                    // What the device reported before goes first: its state is in the report.
                    self.take_reports();
                    Some(SchedulerEvent::Switched(id, result))
                }
                Some(message) = self.messages.recv() => Some(self.event_of(message)),
                () = written(&self.persisted, self.unwritten.front()) => self.take_written(),
                Ok(permit) = updates.reserve(), if !self.unpublished.is_empty() => {
                    if let Some(update) = self.unpublished.pop() {
                        permit.send(update);
                    }
                    None
                }
                Ok(permit) = device_owner.reserve(), if !self.unsent.is_empty() => {
                    if let Some(message) = self.unsent.pop() {
                        permit.send(message);
                    }
                    None
                }
                () = sleep.until(wake) => Some(SchedulerEvent::Tick),
            };
            if let Some(event) = event {
                self.handle(event);
            }
            self.take_one_of_each();
        }
    }

    /// Devices that report without a pause hold up no command and no result.
    fn take_one_of_each(&mut self) {
        if let Ok((id, result)) = self.switched.try_recv() {
            self.take_reports();
            self.handle(SchedulerEvent::Switched(id, result));
        }
        if let Ok(message) = self.messages.try_recv() {
            let event = self.event_of(message);
            self.handle(event);
        }
    }

    fn event_of(&self, message: SchedulerMsg) -> SchedulerEvent {
        match message {
            SchedulerMsg::Command(mut command) => {
                command.reply = command.reply.through(&self.sent);
                let deadline = self.clock.steady_of(command.deadline);
                SchedulerEvent::Command(command, deadline)
            }
            SchedulerMsg::Sensor {
                topic,
                payload,
                retained,
            } => SchedulerEvent::Sensor {
                topic,
                payload,
                arrival: if retained {
                    Arrival::Retained
                } else {
                    Arrival::Live
                },
            },
            SchedulerMsg::Holidays(dates) => SchedulerEvent::Holidays(dates),
            SchedulerMsg::Weather(weather) => SchedulerEvent::Weather(weather),
            SchedulerMsg::Reload(reloaded) => SchedulerEvent::Reload {
                rules: reloaded.rules,
                devices: reloaded.devices,
            },
            SchedulerMsg::Request { request, reply } => {
                SchedulerEvent::Request(request, reply.through(&self.sent))
            }
        }
    }

    fn take_reports(&mut self) {
        for _ in 0..self.events.len() {
            if let Ok(event) = self.events.try_recv() {
                self.on_device_event(event);
            }
        }
    }

    /// A device that a reload added or changed may report while the reload, which was sent before, still waits here.
    fn on_device_event(&mut self, event: DeviceEvent) {
        if let DeviceEvent::Report(report) = &event
            && !self.scheduler.is_meant(report)
        {
            self.take_messages();
        }
        if let Some(event) = from_device(event) {
            self.handle(event);
        }
    }

    fn take_messages(&mut self) {
        for _ in 0..self.messages.len() {
            if let Ok(message) = self.messages.try_recv() {
                let event = self.event_of(message);
                self.handle(event);
            }
        }
    }

    fn handle(&mut self, event: SchedulerEvent) {
        let now = self.clock.read();
        let mut changes = Vec::new();
        for effect in self.scheduler.handle(event, now) {
            match effect {
                Effect::Switch {
                    id,
                    path,
                    action,
                    run,
                    source,
                    deadline,
                } => self.command(DeviceCommand {
                    path,
                    action,
                    run,
                    source,
                    deadline: self.clock.instant_of(deadline),
                    reply: self.reply(id),
                    turn: None,
                }),
                Effect::Forward(command) => self.command(command),
                Effect::Device(message) => self.send(message),
                Effect::Update(update) => {
                    self.unpublished.push(update);
                }
                Effect::Persist(change) => changes.push(change),
                Effect::Plan(plan, reply) => self.plan(plan, reply),
            }
        }
        if !changes.is_empty() {
            self.persisted.update(|saved| {
                let mut any = false;
                for change in changes.drain(..) {
                    any |= saved.apply(change);
                }
                any
            });
        }
        self.unpublished.send_to(&self.updates);
        self.unsent.send_to(&self.device_owner);
        if let Some(batch) = self.scheduler.waits_for_disk() {
            let change = self.persisted.change_count();
            match self.unwritten.back_mut() {
                Some((last, known)) if *last == change => *known = batch,
                _ => self.unwritten.push_back((change, batch)),
            }
            if let Some(written) = self.take_written() {
                self.handle(written);
            }
        }
    }

    /// The last event whose changes are in the state file now.
    fn take_written(&mut self) -> Option<SchedulerEvent> {
        let mut last = None;
        let persisted = &self.persisted;
        while let Some((_, batch)) = self
            .unwritten
            .pop_front_if(|(change, _)| persisted.is_written(*change))
        {
            last = Some(SchedulerEvent::Written(batch));
        }
        last
    }

    fn reply(&self, id: SwitchId) -> Reply {
        let results = self.results.clone();
        Reply::new(move |outcome| {
            let _stopped = results.send((id, outcome.result));
        })
    }

    /// A device owner that is gone drops the command, and its reply answers.
    fn command(&mut self, command: DeviceCommand) {
        // An OFF is never refused while an older ON may still be carried out.
        if command.action == DeviceAction::Switch(Switch::To(Power::Off)) {
            return self.send(DeviceMsg::Command(command));
        }
        let busy = |command: DeviceCommand| {
            let busy = CommandError::bridge(ErrorCode::Busy, "too many commands at once");
            command.reply.send(Err(busy));
        };
        // A command goes before no message that was sent before it.
        if !self.unsent.is_empty() {
            return busy(command);
        }
        let sent = self.device_owner.try_send(DeviceMsg::Command(command));
        if let Err(TrySendError::Full(DeviceMsg::Command(command))) = sent {
            busy(command);
        }
    }

    /// What a device should do by itself, and an OFF, wait for room, in order.
    fn send(&mut self, message: DeviceMsg) {
        if let Some(DeviceMsg::Command(command)) = self.unsent.push(message) {
            command.reply.send(Err(CommandError::superseded()));
        }
        self.unsent.send_to(&self.device_owner);
    }

    fn plan(&self, plan: Box<PlanRequest>, reply: RequestReply) {
        let Ok(permit) = self.planning.clone().try_acquire_owned() else {
            return reply.send(Err(RequestError::Busy));
        };
        self.tasks.spawn("plan", async move {
            let computed = tokio::task::spawn_blocking(move || plan.compute()).await;
            drop(permit);
            if let Ok(answer) = computed {
                reply.send(Ok(answer));
            }
        });
    }
}

/// Waits until the changes of the first of the unwritten events are written.
async fn written(persisted: &Section<PersistedScheduler>, first: Option<&(u64, u64)>) {
    match first {
        Some((change, _)) => persisted.written(*change).await,
        None => std::future::pending().await,
    }
}

fn from_device(event: DeviceEvent) -> Option<SchedulerEvent> {
    match event {
        DeviceEvent::Report(report) => Some(SchedulerEvent::Report(report)),
        DeviceEvent::Metered(metered) => Some(SchedulerEvent::Metered(metered)),
        DeviceEvent::HubRead(reading) => Some(SchedulerEvent::HubRead(reading)),
        DeviceEvent::Recheck(command) => Some(SchedulerEvent::Recheck(command)),
        // The report that comes with it has the same content.
        DeviceEvent::Event(_) | DeviceEvent::Found(_) => None,
    }
}

/// A newer status takes the place of one that still waits.
fn is_update_replaced(older: &SchedulerUpdate, newer: &SchedulerUpdate) -> bool {
    match (older, newer) {
        (SchedulerUpdate::Outlet(older, _), SchedulerUpdate::Outlet(newer, _)) => older == newer,
        (SchedulerUpdate::Group(older, _), SchedulerUpdate::Group(newer, _)) => older == newer,
        (SchedulerUpdate::Sensors(_), SchedulerUpdate::Sensors(_))
        | (SchedulerUpdate::Weather(_), SchedulerUpdate::Weather(_)) => true,
        _ => false,
    }
}

fn is_message_replaced(older: &DeviceMsg, newer: &DeviceMsg) -> bool {
    match (older, newer) {
        (DeviceMsg::OffBy(older, _), DeviceMsg::OffBy(newer, _))
        | (DeviceMsg::Withdraw(older), DeviceMsg::Withdraw(newer))
        | (DeviceMsg::OffRules(older, _), DeviceMsg::OffRules(newer, _)) => older == newer,
        (DeviceMsg::Command(older), DeviceMsg::Command(newer)) => older.path == newer.path,
        _ => false,
    }
}
