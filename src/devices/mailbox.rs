//! A worker's inbox, open also while a request is in flight.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::fault::Fault,
    command_queue::{Queue, View},
    countdown::WantedEnd,
    reboot::PendingReboot,
};
use crate::domain::devices::WorkerSettings;
use crate::{
    domain::{
        command_error::{CommandError, ErrorCode},
        device_command::DeviceCommand,
        off_rules::Mirror,
        report::DeviceError,
    },
    system::clock::sleep_until_some,
};
use planner::{DeviceId, OutletKey, OutletPath, Steady};

/// What a worker is told.
#[derive(Debug)]
pub(super) enum WorkerMsg {
    /// Do something with an outlet. Boxed, because each inbox has room for 32 messages from the start.
    DeviceCommand(Box<DeviceCommand>),
    /// Connect again, not before this: log in, list, read.
    Rescan(Instant),
    /// Make our rules on the plug what is said here.
    Mirror(Arc<Mirror>),
    /// The outlet must be off by then.
    OffBy(Option<OutletKey>, Option<Steady>),
    /// Waiting commands that would switch the outlet on are superseded.
    Withdraw(OutletPath),
}

/// The worker shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// How long the command in flight may go on after the stop, in all.
const STOP_GRACE: Duration = Duration::from_millis(400);

/// Whether the device was ever reached, for the answer of commands whose time runs out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reached {
    /// Not since the start: `not_ready`.
    #[default]
    NeverReached,
    /// It was: `expired`.
    Reached,
}

/// The inbox, the queue behind it and what is needed to answer from it.
#[derive(Debug)]
pub(super) struct Mailbox {
    inbox: mpsc::Receiver<WorkerMsg>,
    settings: watch::Receiver<WorkerSettings>,
    stop: CancellationToken,
    /// When the grace after the stop ends; set once the stop was noticed.
    grace: Option<Instant>,
    pub(super) queue: Queue,
    pub(super) view: View,
    pub(super) standing: Reached,
    pub(super) trouble: Option<DeviceError>,
    /// When to connect again, if that was requested.
    pub(super) rescan_at: Option<Instant>,
    pub(super) reboot: Option<PendingReboot>,
    /// What shall be on the plug, not taken over yet.
    pub(super) mirror: Option<Arc<Mirror>>,
    /// When a plug must be off, not taken over yet.
    pub(super) wanted_end: Option<WantedEnd>,
    /// The settings were changed and not taken over yet.
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
            queue: Queue::default(),
            view: View::default(),
            standing: Reached::default(),
            trouble: None,
            rescan_at: None,
            reboot: None,
            mirror: None,
            wanted_end: None,
            settings_changed: false,
        }
    }

    /// The settings in force now.
    pub(super) fn settings(&mut self) -> WorkerSettings {
        self.settings_changed = false;
        self.settings.borrow_and_update().clone()
    }

    /// Runs an exchange with the device to its end while messages are taken, replaced, and answered
    /// when their time runs out. After the stop a switch has a short grace to be confirmed; a poll or a login is
    /// dropped at once.
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

    /// Whether the device was taken out of the settings, while the bridge goes on.
    pub(super) fn is_removed(&self) -> bool {
        self.settings.has_changed().is_err()
    }

    /// Commands that still wait when the device was taken out of the settings. Those that wait when the bridge stops
    /// say so by themselves.
    pub(super) fn refuse_removed(&mut self, device: &DeviceId) {
        self.accept_all();
        let message = format!("{device} is not configured any more");
        let error = CommandError::bridge(ErrorCode::UnknownDevice, message);
        if let Some(reboot) = self.reboot.take() {
            reboot.refuse(error.clone());
        }
        self.queue.refuse_all(&error);
    }

    /// Takes the waiting commands that would switch on, or toggle.
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
        let why = self
            .trouble
            .as_ref()
            .map_or("the device is busy", |trouble| trouble.message.as_str());
        let code = self.late_code();
        self.queue.expire(Instant::now(), |waited| CommandError {
            code,
            ..CommandError::expired(waited, why)
        });
    }

    /// What a command is answered that could not be sent in time.
    pub(super) fn late_code(&self) -> ErrorCode {
        match self.standing {
            Reached::NeverReached => ErrorCode::NotReady,
            Reached::Reached => ErrorCode::Expired,
        }
    }

    fn take(&mut self, message: Option<WorkerMsg>) -> Result<(), Stopped> {
        // The owner is gone: nobody can ask any more.
        message.map(|message| self.accept(message)).ok_or(Stopped)
    }

    fn accept(&mut self, message: WorkerMsg) {
        match message {
            WorkerMsg::DeviceCommand(intent) => self.queue.push(*intent, &self.view, Instant::now()),
            WorkerMsg::Rescan(at) => self.rescan_at = self.rescan_at.or(Some(at)),
            WorkerMsg::Mirror(mirror) => self.mirror = Some(mirror),
            // Only a plug counts down, so there is one end.
            WorkerMsg::OffBy(None, end) => self.wanted_end = Some(end.into()),
            WorkerMsg::OffBy(Some(_), _) => {}
            WorkerMsg::Withdraw(path) => self.queue.withdraw(&path),
        }
    }
}
