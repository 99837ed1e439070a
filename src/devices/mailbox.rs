//! The inbox of a worker, which is served also while a request is in flight.

use std::{collections::BTreeMap, future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::fault::Fault,
    command_queue::{CommandQueue, View},
    reboot::PendingReboot,
};
use crate::domain::devices::{DeviceConfig, WorkerSettings};
use crate::{
    domain::{
        command_error::{CommandError, ErrorCode},
        device_command::DeviceCommand,
        off_rules::WantedOffRules,
        report::DeviceError,
    },
    system::clock::sleep_until_some,
};
use planner::{DeviceId, OutletKey, OutletPath, Steady};

/// The inbox of a worker.
#[derive(Debug)]
pub(super) enum WorkerMsg {
    /// A command. Boxed, because each inbox has room for 64 messages from the start.
    DeviceCommand(Box<DeviceCommand>),
    /// Connect again, not before this: log in, list, read.
    Rescan(Instant),
    /// The OFF rules that the scheduler wants on an outlet.
    OffRules(Option<OutletKey>, Arc<WantedOffRules>),
    /// The outlet must be off by then.
    OffBy(Option<OutletKey>, Option<Steady>),
    /// Pending commands that would switch the outlet on are superseded.
    Withdraw(OutletPath),
}

/// The worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// How long the command in flight may go on after the stop, in all.
const STOP_GRACE: Duration = Duration::from_millis(400);

/// Whether the device was ever reached, for the reply to commands whose time to live ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reached {
    /// Not since the start: `not_ready`.
    #[default]
    NeverReached,
    /// It was: `expired`.
    Reached,
}

/// The inbox, the queue behind it, and what is needed to reply from it.
#[derive(Debug)]
pub(super) struct Mailbox {
    inbox: mpsc::Receiver<WorkerMsg>,
    settings: watch::Receiver<WorkerSettings>,
    stop: CancellationToken,
    /// When the grace after the stop ends; `None` before the stop.
    grace: Option<Instant>,
    pub(super) queue: CommandQueue,
    pub(super) view: View,
    pub(super) reached: Reached,
    /// The last failure of the device, if it did not answer since.
    pub(super) error: Option<DeviceError>,
    /// When to connect again, if that was requested.
    pub(super) rescan_at: Option<Instant>,
    pub(super) reboot: Option<PendingReboot>,
    /// The wanted OFF rules, not applied yet.
    pub(super) off_rules: BTreeMap<Option<OutletKey>, Arc<WantedOffRules>>,
    /// When outlets must be off, not applied yet, in the order in which they arrived.
    pub(super) wanted_ends: Vec<(Option<OutletKey>, Option<Steady>)>,
    /// The settings changed and are not applied yet.
    pub(super) settings_changed: bool,
}

impl Mailbox {
    pub(super) fn new(
        inbox: mpsc::Receiver<WorkerMsg>,
        settings: watch::Receiver<WorkerSettings>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            inbox,
            settings,
            stop,
            grace: None,
            queue: CommandQueue::default(),
            view: View::default(),
            reached: Reached::default(),
            error: None,
            rescan_at: None,
            reboot: None,
            off_rules: BTreeMap::new(),
            wanted_ends: Vec::new(),
            settings_changed: false,
        }
    }

    /// The settings of the device as they are now, before they are taken.
    pub(super) fn coming_config(&self) -> Arc<DeviceConfig> {
        self.settings.borrow().config.clone()
    }

    /// The current settings.
    pub(super) fn settings(&mut self) -> WorkerSettings {
        self.settings_changed = false;
        self.settings.borrow_and_update().clone()
    }

    /// Runs an exchange with the device to its end. Meanwhile messages are accepted, and commands are superseded and
    /// expire. After the stop a switch has a short grace to be confirmed; a poll or a login is dropped at once.
    pub(super) async fn serve_inbox_during<T>(
        &mut self,
        exchange: impl Future<Output = T>,
    ) -> Result<T, Stopped> {
        let mut exchange = pin!(exchange);
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                output = &mut exchange => return Ok(output),
                () = self.stop.cancelled() => {
                    if self.view.in_flight.is_none() {
                        return Err(Stopped);
                    }
                    let grace = *self.grace.get_or_insert_with(|| Instant::now() + STOP_GRACE);
                    return timeout_at(grace, exchange).await.map_err(|_| Stopped);
                }
                message = self.inbox.recv() => self.take(message)?,
                Ok(()) = self.settings.changed() => self.settings_changed = true,
                () = sleep_until_some(deadline) => self.expire(),
            }
        }
    }

    /// Waits for a message, the instant given or the stop. Returns at every message.
    pub(super) async fn wait_until(&mut self, instant: Instant) -> Result<(), Stopped> {
        let deadline = self.next_deadline();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Stopped),
            message = self.inbox.recv() => self.take(message),
            Ok(()) = self.settings.changed() => { self.settings_changed = true; Ok(()) }
            () = sleep_until_some(deadline) => { self.expire(); Ok(()) }
            () = sleep_until(instant) => Ok(()),
        }
    }

    /// Whether the device was removed from the settings while the bridge continues.
    pub(super) fn is_removed(&self) -> bool {
        self.settings.has_changed().is_err()
    }

    /// Replies to the pending commands of a device that was removed from the settings. When the bridge stops, the dropped
    /// commands reply by themselves.
    pub(super) fn refuse_removed(&mut self, device: &DeviceId) {
        self.accept_all();
        let message = format!("{device} was removed from the settings");
        let error = CommandError::bridge(ErrorCode::UnknownDevice, message);
        if let Some(reboot) = self.reboot.take() {
            reboot.refuse(error.clone());
        }
        self.queue.refuse_all(&error);
    }

    /// Takes the pending commands that would switch on, or toggle.
    pub(super) fn take_switch_ons(&mut self) -> Vec<DeviceCommand> {
        self.accept_all();
        self.queue.take_switch_ons()
    }

    fn accept_all(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.accept(message);
        }
    }

    /// The device failed in some way.
    pub(super) fn on_fault(&mut self, fault: &Fault) {
        if let Some(reboot) = &mut self.reboot {
            reboot.on_fault(fault);
        }
    }

    /// The device answered.
    pub(super) fn on_answer(&mut self) {
        self.reboot = self.reboot.take().and_then(PendingReboot::on_answer);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let reboot = self.reboot.as_ref().map(PendingReboot::deadline);
        self.queue.next_deadline().into_iter().chain(reboot).min()
    }

    fn expire(&mut self) {
        let over = |reboot: &mut PendingReboot| reboot.deadline() <= Instant::now();
        if let Some(reboot) = self.reboot.take_if(over) {
            reboot.expire();
        }
        let reason = self
            .error
            .as_ref()
            .map_or("the device is busy", |error| error.message.as_str());
        let code = self.late_code();
        self.queue.expire(Instant::now(), |waited| CommandError {
            code,
            ..CommandError::expired(waited, reason)
        });
    }

    /// The code for a command that could not be sent in time.
    pub(super) fn late_code(&self) -> ErrorCode {
        match self.reached {
            Reached::NeverReached => ErrorCode::NotReady,
            Reached::Reached => ErrorCode::Expired,
        }
    }

    fn take(&mut self, message: Option<WorkerMsg>) -> Result<(), Stopped> {
        // The owner ended: no more commands can arrive.
        message.map(|message| self.accept(message)).ok_or(Stopped)
    }

    fn accept(&mut self, message: WorkerMsg) {
        match message {
            WorkerMsg::DeviceCommand(command) => self.queue.push(*command, &self.view, Instant::now()),
            WorkerMsg::Rescan(at) => self.rescan_at = self.rescan_at.or(Some(at)),
            WorkerMsg::OffRules(outlet, rules) => drop(self.off_rules.insert(outlet, rules)),
            WorkerMsg::OffBy(outlet, end) => {
                // An end of a whole strip replaces those of its outlets.
                self.wanted_ends
                    .retain(|(other, _)| outlet.is_some() && *other != outlet);
                self.wanted_ends.push((outlet, end));
            }
            WorkerMsg::Withdraw(path) => self.queue.withdraw(&path),
        }
    }
}
