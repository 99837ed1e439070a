//! What all components of a worker use: the connection, the inbox that is served during a request, the state that was
//! read, and the reports about it.

use std::sync::Arc;

use planner::OutletPath;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    attribution::{Attribution, ReadScope},
    client::{
        child_reading::ChildReading,
        connection::{Connection, ExchangeError},
        fault::{Fault, Remedy},
        identity_registry::IdentityRegistry,
        login_budget::LoginPurpose,
        readings::{DeviceReading, OutletReading},
        search::NetworkSearch,
        session::DeviceRequest,
    },
    lifecycle::Lifecycle,
    mailbox::Mailbox,
    reports::Reporter,
    state::{DeviceState, OutletAddress, RelayChange},
    wanted_ends::WantedEnds,
};
use crate::{
    domain::{
        command_error::CommandError,
        device_command::DeviceCommand,
        device_metrics::DeviceMetrics,
        devices::{DeviceConfig, DeviceEvent, EventSenders, PollingConfig, WorkerSettings},
        hub_child::HubReading,
        report::{DeviceReport, Kind, Phase},
    },
    system::clock::Clock,
};

/// One device, its connection and its reports.
pub(super) struct Context {
    pub(super) config: Arc<DeviceConfig>,
    pub(super) polling: Arc<PollingConfig>,
    pub(super) clock: Clock,
    pub(super) mailbox: Mailbox,
    pub(super) connection: Connection,
    pub(super) lifecycle: Lifecycle,
    pub(super) state: DeviceState,
    pub(super) wanted: WantedEnds,
    pub(super) attribution: Attribution,
    pub(super) reporter: Reporter,
    metrics: DeviceMetrics,
}

impl Context {
    pub(super) fn new(
        mut mailbox: Mailbox,
        clock: Clock,
        events: EventSenders,
        metrics: DeviceMetrics,
        network: NetworkSearch,
        identities: IdentityRegistry,
    ) -> Self {
        let settings = mailbox.settings();
        let WorkerSettings { config, polling } = settings.clone();
        Self {
            connection: Connection::new(settings, network, identities, metrics.clone(), clock.clone()),
            lifecycle: Lifecycle::new(&polling),
            state: DeviceState::default(),
            wanted: WantedEnds::default(),
            attribution: Attribution::default(),
            reporter: Reporter::new(config.id.clone(), events, clock.clone()),
            config,
            polling,
            clock,
            mailbox,
            metrics,
        }
    }

    /// Sends one request, with the remedies for its faults. The inbox is served meanwhile.
    pub(super) async fn exchange(
        &mut self,
        request: DeviceRequest<'_>,
        purpose: LoginPurpose,
    ) -> Result<Value, ExchangeError> {
        let value = self
            .connection
            .exchange(&mut self.mailbox, request, purpose)
            .await?;
        self.lifecycle.on_success();
        self.on_answer();
        Ok(value)
    }

    /// Has the client serve the device that does what is needed now.
    pub(super) async fn follow_needs(&mut self) -> Result<(), ExchangeError> {
        self.connection.follow_needs(&mut self.mailbox).await
    }

    /// The path of an outlet.
    pub(super) fn path_of(&self, outlet: &OutletAddress) -> OutletPath {
        OutletPath {
            device: self.config.id.clone(),
            outlet: outlet.key.clone(),
        }
    }

    /// The device answered: what failed before is over.
    pub(super) fn on_answer(&mut self) {
        self.mailbox.error = None;
        self.mailbox.on_answer();
    }

    /// A command whose exchange failed: replies, or puts it back into the queue.
    ///
    /// # Errors
    /// The fault, unless the device itself refuses the request.
    pub(super) fn on_command_failed(
        &mut self,
        error: ExchangeError,
        mut command: DeviceCommand,
        attempts: u32,
    ) -> Result<(), ExchangeError> {
        if self.connection.may_be_done() {
            command.reply.may_be_done(attempts);
        }
        match error {
            ExchangeError::Fault(fault) if fault.remedy() == Remedy::DoWithout => {
                command.reply.send(Err(CommandError {
                    code: fault.code(),
                    message: fault.to_string(),
                    attempts,
                }));
                Ok(())
            }
            ExchangeError::Fault(fault) if command.reply.is_sent() => Err(fault.into()),
            ExchangeError::Fault(fault) => {
                self.mailbox.queue.put_back(command, attempts, Instant::now());
                Err(fault.into())
            }
            // The dropped reply sends `shutting_down`.
            ExchangeError::Stopped => Err(ExchangeError::Stopped),
        }
    }

    /// Reads all outlets or what is connected to a hub, and reports which relays changed.
    pub(super) async fn read(&mut self, purpose: LoginPurpose) -> Result<(), ExchangeError> {
        let readings = match self.connection.kind() {
            Kind::Plug => {
                let info = self.essential(DeviceRequest::Info, purpose).await?;
                self.state.apply(&DeviceReading::of(&info));
                vec![OutletReading::of(&info)]
            }
            Kind::Strip => {
                let list = self.essential(DeviceRequest::Children, purpose).await?;
                OutletReading::children(&list)
            }
            Kind::Hub => {
                let list = self.essential(DeviceRequest::Children, purpose).await?;
                self.state.on_list_read();
                self.state
                    .children
                    .apply(&self.config, &ChildReading::list(&list));
                self.send_report().await;
                self.send_hub_reading().await;
                return Ok(());
            }
        };
        self.apply_readings(&readings).await;
        Ok(())
    }

    /// Sends the values of what is connected to a hub to the scheduler, also those that did not change.
    pub(super) async fn send_hub_reading(&mut self) {
        let reading = HubReading {
            device: self.config.id.clone(),
            target: self.config.target(),
            at: self.clock.steady(),
            values: self.state.children.values(),
        };
        self.reporter
            .send_to_scheduler(DeviceEvent::HubRead(reading))
            .await;
    }

    /// Takes a reading of all outlets, and reports which relays changed.
    pub(super) async fn apply_readings(&mut self, readings: &[OutletReading]) {
        let (kind, now) = (self.connection.kind(), self.clock.read());
        let changes = self.state.apply_reading(&self.config, kind, readings, now);
        self.report_changes(changes, ReadScope::All).await;
    }

    /// Reads what was switched: one outlet of a strip alone, or everything in one request.
    pub(super) async fn read_back(&mut self, outlets: &[OutletAddress]) -> Result<(), ExchangeError> {
        let [
            outlet @ OutletAddress {
                child: Some(child), ..
            },
        ] = outlets
        else {
            return self.read(LoginPurpose::Command).await;
        };
        let info = self
            .exchange(DeviceRequest::Child(child), LoginPurpose::Command)
            .await?;
        let (reading, now) = (OutletReading::of(&info), self.clock.read());
        let change = self.state.apply_child_reading(&self.config, child, &reading, now);
        let changes = change.into_iter().collect();
        self.report_changes(changes, ReadScope::Only(outlet)).await;
        Ok(())
    }

    /// Reads the values of a strip or hub itself, which its list of children does not carry.
    pub(super) async fn read_device(&mut self) -> Result<(), ExchangeError> {
        let info = self.exchange(DeviceRequest::Info, LoginPurpose::Poll).await?;
        self.state.apply(&DeviceReading::of(&info));
        self.send_report().await;
        Ok(())
    }

    /// A read that every working device answers. A device that refuses it has a fault.
    async fn essential(
        &mut self,
        request: DeviceRequest<'_>,
        purpose: LoginPurpose,
    ) -> Result<Value, ExchangeError> {
        match self.exchange(request, purpose).await {
            Err(ExchangeError::Fault(fault)) if fault.remedy() == Remedy::DoWithout => {
                Err(Fault::Unreadable(fault.to_string()).into())
            }
            outcome => outcome,
        }
    }

    /// Reports the changes that a reading shows.
    pub(super) async fn report_changes(&mut self, changes: Vec<RelayChange>, read: ReadScope<'_>) {
        let now = self.clock.read();
        let external = self.attribution.attribute(&mut self.state, changes, read, now);
        self.send_report().await;
        for change in external {
            self.reporter.external_change(change).await;
        }
    }

    /// Enters a phase and reports it.
    pub(super) async fn enter(&mut self, phase: Phase) {
        self.lifecycle.phase = phase;
        self.send_report().await;
    }

    /// Sends a report if something changed.
    pub(super) async fn send_report(&mut self) {
        let outlets = self.state.outlets.iter();
        self.mailbox.view.confirmed = outlets
            .map(|known| (known.outlet.key.clone(), known.outlet.power))
            .collect();
        self.update_metrics();
        let report = self.report();
        self.reporter.publish(report).await;
    }

    /// Writes the phase and the length of the queue to the metrics.
    pub(super) fn update_metrics(&self) {
        self.metrics.now(self.lifecycle.phase, self.mailbox.queue.len());
    }

    /// Names what needs attention about a device that works, or takes it back.
    pub(super) fn report_issue(&self, about: &'static str, issue: Option<String>) {
        self.metrics.set_issue(about, issue);
    }

    /// Counts a failure that no request shows.
    pub(super) fn count_failure(&self, fault: &Fault) {
        self.metrics.failed(fault.kind());
    }

    fn report(&self) -> DeviceReport {
        let phase = self.lifecycle.phase;
        let nickname = || self.state.identity.as_ref()?.nickname.clone();
        DeviceReport {
            id: self.config.id.clone(),
            target: self.config.target(),
            name: self.config.name.clone().or_else(nickname),
            address: self.connection.address().to_owned(),
            phase,
            availability: phase.availability(),
            error: self.mailbox.error.clone(),
            identity: self.state.identity.clone(),
            is_complete: self.state.is_complete,
            rssi: self.state.rssi,
            serving: self.connection.serving(),
            led: self.state.led,
            latest_firmware: self.state.latest_firmware.clone(),
            outlets: self
                .state
                .outlets
                .iter()
                .map(|known| known.outlet.clone())
                .collect(),
            children: self.state.children.as_slice().to_vec(),
        }
    }
}
