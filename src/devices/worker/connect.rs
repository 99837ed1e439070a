//! How a device is reached: logged in to, waited for, searched for.

use tokio::time::Instant;
use tracing::info;

use super::{ConfigChange, PROBE_FOR_COMMAND, Worker, WorkerState};
use crate::{
    devices::{
        client::fault::{Fault, Remedy},
        client::opening::{Opened, open},
        client::readings::DeviceReading,
        mailbox::{Reached, Stopped},
    },
    domain::{
        command_error::CommandError,
        devices::DeviceEvent,
        report::{DeviceClock, EventKind, Phase},
    },
};

/// Failed connects before the device is looked for under another address: the active retry.
const CONNECTS_TO_SEARCH: u32 = 1;
/// Failed connects from one search to the next.
const CONNECTS_BETWEEN_SEARCHES: u32 = 3;

impl Worker {
    pub(super) async fn connect(&mut self) -> WorkerState {
        self.mailbox.rescan_at = None;
        self.apply_config();
        let searching = self.connects % CONNECTS_BETWEEN_SEARCHES == CONNECTS_TO_SEARCH;
        if (self.displaced || searching) && self.search().await.is_err() {
            return WorkerState::Stop;
        }
        self.recorder.logged_in();
        let opening = open(
            self.address.clone(),
            self.config.clone(),
            self.kind,
            self.tempo.request,
            self.directory.clone(),
        );
        match self.mailbox.serve_inbox_during(opening).await {
            Err(_stopped) => WorkerState::Stop,
            Ok(Ok(opened)) => self.on_connected(opened).await,
            Ok(Err(fault)) => self.on_connect_failed(&fault).await,
        }
    }

    /// The device let us in and told everything.
    async fn on_connected(&mut self, opened: Opened) -> WorkerState {
        self.logins.spend(Instant::now());
        let reading = DeviceReading::of(&opened.info);
        if let Some(identity_mismatch) = self.known.identity_mismatch(&reading) {
            return self
                .on_connect_failed(&Fault::OtherDevice(identity_mismatch))
                .await;
        }
        self.kind = opened.kind;
        self.displaced = false;
        self.known
            .identify(&self.config, opened.kind, &opened.components, &reading);
        let changes = self
            .known
            .apply_reading(&self.config, opened.kind, &opened.outlets, self.clock.read());
        self.meters.renew();
        self.recall_meters();
        if let Some(identity) = &self.known.identity {
            self.own_countdown.on_connected(&identity.device_id);
        }
        if !self.has_meters() {
            self.known.rules.clock = DeviceClock::Untold;
        }
        let soon = Instant::now() + self.tempo.poll;
        self.rules.renew(opened.kind, &opened.components, soon);
        self.mailbox.standing = Reached::Reached;
        self.refusals.on_success();
        self.on_success();
        self.phase = Phase::Ready;
        self.report_changes(changes).await;
        self.recheck_waiting().await;
        WorkerState::Serve(opened.session)
    }

    /// What was permitted when a command came in may not be permitted any more: the scheduler decides again, with the
    /// reading that was just reported.
    async fn recheck_waiting(&mut self) {
        for command in self.mailbox.take_switch_ons() {
            // If the scheduler is gone, the reply in the command answers.
            let _gone = self.events.scheduler.send(DeviceEvent::Recheck(command)).await;
        }
    }

    /// The device could not be reached or did not let us in.
    pub(super) async fn on_connect_failed(&mut self, fault: &Fault) -> WorkerState {
        self.recorder.failed(fault.kind());
        self.mailbox.on_fault(fault);
        self.connects += 1;
        self.mailbox.trouble = Some(fault.trouble());
        let phase = fault.phase();
        let lost_now = fault.remedy() == Remedy::Search && !self.displaced;
        self.displaced |= lost_now;
        let wait = match phase {
            Phase::LockedOut => self.tempo.locked,
            Phase::SetupMode | Phase::Forbidden => self.refusals.wait(),
            _ => self.probes.wait(),
        };
        self.enter(phase).await;
        if lost_now {
            return WorkerState::Connect;
        }
        WorkerState::Wait(Instant::now() + wait)
    }

    pub(super) async fn wait(&mut self, until: Instant) -> WorkerState {
        let waiting_since = Instant::now();
        loop {
            if matches!(self.phase, Phase::SetupMode | Phase::Forbidden | Phase::LockedOut) {
                self.refuse_waiting();
            }
            let urgent = if self.mailbox.queue.is_empty() {
                until
            } else {
                waiting_since + PROBE_FOR_COMMAND
            };
            let wake = urgent.min(until);
            if self.mailbox.settings_changed && self.apply_config() == ConfigChange::Anew {
                return WorkerState::Connect;
            }
            let now = Instant::now();
            let rescan_at = self.rescan_at(now).filter(|_| self.phase != Phase::LockedOut);
            if rescan_at.is_some_and(|at| now >= at) {
                // An attempt counts whatever comes of it, so that requests cannot make more of them.
                self.logins.spend(now);
                return WorkerState::Connect;
            }
            if now >= wake {
                return WorkerState::Connect;
            }
            let wake = rescan_at.map_or(wake, |at| at.min(wake));
            self.recorder.now(self.phase, self.mailbox.queue.len());
            if self.mailbox.wait_until(wake).await.is_err() {
                return WorkerState::Stop;
            }
        }
    }

    /// Commands that waiting would not help.
    fn refuse_waiting(&mut self) {
        if let Some(trouble) = self.mailbox.trouble.clone() {
            self.mailbox
                .queue
                .refuse_all(&CommandError::bridge(trouble.code, trouble.message));
        }
    }

    /// The address stays dead: asks the network where the device went, by its MAC.
    async fn search(&mut self) -> Result<(), Stopped> {
        let Some(mac) = self
            .known
            .identity
            .as_ref()
            .and_then(|identity| identity.mac.clone())
        else {
            return Ok(());
        };
        let search = self.directory.clone().find(mac, self.tempo.search.clone());
        if let Some(found) = self.mailbox.serve_inbox_during(search).await? {
            let address = found.address();
            if address != self.address {
                let message = format!(
                    "{} answers at {address} instead of {}",
                    self.config.id, self.address
                );
                info!(device = %self.config.id, old = %self.address, new = %address, "address changed");
                self.address = address;
                self.event(EventKind::AddressChanged, None, message).await;
            }
            return Ok(());
        }
        // Nobody knows it elsewhere: back to where it was configured.
        self.address.clone_from(&self.config.address);
        Ok(())
    }
}
