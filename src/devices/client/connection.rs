//! The connection to one device: each request gets the remedy that its fault asks for.

use serde_json::Value;
use tokio::time::Instant;
use tracing::info;

use super::{
    choice::{Needs, ServingClient},
    components::Component,
    fault::{Fault, Remedy},
    identity::KnownIdentity,
    identity_registry::IdentityRegistry,
    login_budget::{LoginBudget, LoginPurpose},
    opening::{OpenFailure, Opened, Opening},
    own_client::OwnClient,
    own_failures::OwnFailures,
    readings::DeviceReading,
    search::NetworkSearch,
    session::{DeviceRequest, Session},
};
use crate::{
    devices::mailbox::{Mailbox, Stopped},
    domain::{
        device_metrics::DeviceMetrics,
        devices::{ClientChoice, WorkerSettings},
        report::{Kind, Serving},
    },
    system::clock::Clock,
};

/// Why an exchange with a device ended without a result.
#[derive(Debug)]
pub(in crate::devices) enum ExchangeError {
    /// The worker ends.
    Stopped,
    /// The device failed, and no remedy helped.
    Fault(Fault),
}

impl From<Stopped> for ExchangeError {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<Fault> for ExchangeError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl ExchangeError {
    /// The fault, if the device itself sent it as an answer. Such a fault needs no reconnect.
    pub(in crate::devices) fn own_answer(self) -> Result<Fault, Self> {
        match self {
            Self::Fault(fault) if fault.is_own_answer() => Ok(fault),
            error => Err(error),
        }
    }
}

/// The session with one device, and what is needed to renew it.
pub(in crate::devices) struct Connection {
    /// At most one request is in flight: the protocol numbers them. `None` while the device is not connected.
    session: Option<Session>,
    /// Our own client, which outlives its sessions.
    own: OwnClient,
    settings: WorkerSettings,
    needs: Needs,
    /// The needs grew since the login.
    is_client_due: bool,
    /// How sessions of our own client failed.
    own_failures: OwnFailures,
    /// When our own client is tried again, after it failed and the crate did not.
    retry_own_at: Option<Instant>,
    /// What the device ran at the last login.
    firmware: Option<String>,
    /// The configured address, or the one at which the device was found.
    address: String,
    /// Which device it is.
    identity: KnownIdentity,
    identities: IdentityRegistry,
    logins: LoginBudget,
    network: NetworkSearch,
    metrics: DeviceMetrics,
    clock: Clock,
    /// The device may have carried out a switch of the command in flight, in whole or in part.
    may_be_done: bool,
}

impl Connection {
    pub(in crate::devices) fn new(
        settings: WorkerSettings,
        network: NetworkSearch,
        identities: IdentityRegistry,
        metrics: DeviceMetrics,
        clock: Clock,
    ) -> Self {
        Self {
            session: None,
            own: OwnClient::default(),
            needs: Needs::of(&settings.config),
            is_client_due: false,
            own_failures: OwnFailures::default(),
            retry_own_at: None,
            firmware: None,
            address: settings.config.address.clone(),
            identity: identities.of(&settings.config),
            identities,
            settings,
            logins: LoginBudget::new(Instant::now()),
            network,
            metrics,
            clock,
            may_be_done: false,
        }
    }

    /// Plug or strip, as far as it is known.
    pub(in crate::devices) fn kind(&self) -> Kind {
        self.needs.kind
    }

    /// Where the device is reached.
    pub(in crate::devices) fn address(&self) -> &str {
        &self.address
    }

    pub(in crate::devices) fn identity(&self) -> &KnownIdentity {
        &self.identity
    }

    pub(in crate::devices) fn logins(&mut self) -> &mut LoginBudget {
        &mut self.logins
    }

    /// Takes changed settings. If they mean another device, nothing is known of it.
    pub(in crate::devices) fn configure(&mut self, settings: WorkerSettings) {
        if settings.config.means_another(&self.settings.config) {
            self.address.clone_from(&settings.config.address);
            self.needs = Needs::of(&settings.config);
            self.identity = self.identities.of(&settings.config);
            self.own = OwnClient::default();
            self.own_failures = OwnFailures::default();
            self.firmware = None;
        } else if settings.config.address != self.settings.config.address {
            self.address.clone_from(&settings.config.address);
        }
        self.needs.changes_settings = settings.config.device_settings;
        self.settings = settings;
    }

    /// Logs in and reads what the device is and the state of its outlets.
    ///
    /// # Errors
    /// The fault, also if another device answers, or one that has another id. The session of a device that cannot
    /// be read stays open.
    pub(in crate::devices) async fn open(
        &mut self,
        mailbox: &mut Mailbox,
    ) -> Result<Result<Opened, Fault>, Stopped> {
        if self.is_own_due() {
            self.own.forget_failure().await;
        }
        self.metrics.logged_in();
        let opening = Opening {
            address: self.address.clone(),
            config: self.settings.config.clone(),
            needs: self.needs,
            is_known: self.identity.has_answered(),
            was_read: self.firmware.is_some(),
            limit: self.settings.polling.request,
            own: self.own.clone(),
        };
        // On the heap, as each login and search: a worker would keep the room for it.
        let opening = Box::pin(opening.run(self.network.clone()));
        let opened = match mailbox.serve_inbox_during(opening).await? {
            Ok(opened) => opened,
            Err(OpenFailure { fault, unread }) => {
                self.session = unread;
                if self.is_own() {
                    self.on_own_failure(&fault).await;
                } else if self.own_failures.take_given_up() {
                    // The crate does no better.
                    self.own.forget_failure().await;
                }
                return Ok(Err(fault));
            }
        };
        if opened.session.client() == ServingClient::Own {
            self.own.on_served().await;
        } else if self.own_failures.take_given_up() {
            let device = &self.settings.config.id;
            info!(%device, "sessions of our own client failed again and again; the tapo crate serves the device");
        }
        self.logins.spend(Instant::now());
        self.retry_own_at = self.own.retry_at().await;
        let reading = DeviceReading::of(&opened.info);
        if let Some(other) = self.identity.mismatch(&reading) {
            return Ok(Err(Fault::OtherDevice(other)));
        }
        if reading.firmware.is_some() && self.firmware != reading.firmware {
            let before = std::mem::replace(&mut self.firmware, reading.firmware.clone());
            if before.is_some() {
                self.own.forget_failure().await;
            }
        }
        let mut identity = self.identity.clone();
        identity.learn(&reading);
        if let Err(other) = self.identities.learn(&self.settings.config, &identity) {
            return Ok(Err(Fault::SameDevice(other)));
        }
        self.identity = identity;
        self.needs.kind = opened.kind;
        self.needs.reads_odd_answers |= opened.reads_odd_answers;
        self.needs.changes_settings |= opened.components.has(Component::Brightness);
        Ok(Ok(opened))
    }

    /// Takes the session of an opened device.
    pub(in crate::devices) fn start(&mut self, session: Session) {
        self.session = Some(session);
        self.is_client_due = false;
    }

    /// A relay has an end to arm, or is to hold OFF rules.
    pub(in crate::devices) fn set_arms(&mut self) {
        self.is_client_due |= !self.needs.arms;
        self.needs.arms = true;
    }

    /// Whether another client may serve the device better than that of the session.
    pub(in crate::devices) fn is_client_due(&self) -> bool {
        self.is_client_due && self.is_open()
    }

    /// Logs in with the client that the device needs, if it is not that of the session.
    pub(in crate::devices) async fn follow_needs(
        &mut self,
        mailbox: &mut Mailbox,
    ) -> Result<(), ExchangeError> {
        if !self.is_client_due() {
            return Ok(());
        }
        self.is_client_due = false;
        let chosen = self.own.client_for(self.settings.config.client, self.needs).await;
        let is_right = |session: &Session| session.client() == chosen || chosen == ServingClient::Crate;
        if self.session.as_ref().is_some_and(is_right) {
            return Ok(());
        }
        self.close();
        self.logins.spend(Instant::now());
        self.log_in_again(mailbox).await
    }

    /// Whether there is a session.
    pub(in crate::devices) fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// Whether the other client is to be tried: ours has failed, or did so long ago.
    pub(in crate::devices) fn is_other_due(&self) -> bool {
        self.is_own() && self.own_failures.is_given_up() || self.is_own_due()
    }

    fn is_own_due(&self) -> bool {
        self.retry_own_at.is_some_and(|at| Instant::now() >= at)
    }

    /// What reaches the device, while there is a session.
    pub(in crate::devices) fn serving(&self) -> Option<Serving> {
        self.session.as_ref().map(Session::serving)
    }

    /// A session of our own client failed in a way that another client may not.
    async fn on_own_failure(&mut self, fault: &Fault) {
        if self.settings.config.client == ClientChoice::Auto
            && self.own_failures.on_failure(fault)
            && self.own.give_up().await
        {
            self.own_failures.give_up();
        }
    }

    /// Whether our own client has the session.
    pub(in crate::devices) fn is_own(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.client() == ServingClient::Own)
    }

    /// Drops the session.
    pub(in crate::devices) fn close(&mut self) {
        self.session = None;
        self.own.close();
    }

    /// Whether the device was seen at another address.
    pub(in crate::devices) fn is_elsewhere(&self) -> bool {
        let mac = self.identity.mac();
        mac.is_some_and(|mac| self.network.is_elsewhere(mac, &self.address))
    }

    /// Asks the network for the address of the device, by its MAC. Returns the old address if it changed.
    pub(in crate::devices) async fn search(
        &mut self,
        mailbox: &mut Mailbox,
    ) -> Result<Option<String>, Stopped> {
        let Some(mac) = self.identity.mac() else {
            return Ok(None);
        };
        let search = self.network.clone().find(mac.to_owned(), self.address.clone());
        let found = mailbox.serve_inbox_during(Box::pin(search)).await?;
        let Some(address) = found.map(|found| found.address()) else {
            // An address that discovery found earlier is not better than the configured one.
            self.address.clone_from(&self.settings.config.address);
            return Ok(None);
        };
        if address == self.address {
            return Ok(None);
        }
        Ok(Some(std::mem::replace(&mut self.address, address)))
    }

    /// A command begins: nothing of it was sent yet.
    pub(in crate::devices) fn begin_command(&mut self) {
        self.may_be_done = false;
    }

    /// Whether the device may have carried out a switch since the command began.
    pub(in crate::devices) fn may_be_done(&self) -> bool {
        self.may_be_done
    }

    /// Sends one request, with at most one remedy of each kind. The inbox is served meanwhile.
    pub(in crate::devices) async fn exchange(
        &mut self,
        mailbox: &mut Mailbox,
        request: DeviceRequest<'_>,
        purpose: LoginPurpose,
    ) -> Result<Value, ExchangeError> {
        let result = self.exchange_with_remedies(mailbox, request, purpose).await;
        match &result {
            _ if !request.is_essential() || !self.is_own() => {}
            Ok(_) => self.own_failures.on_success(),
            Err(ExchangeError::Fault(fault)) => self.on_own_failure(fault).await,
            Err(ExchangeError::Stopped) => {}
        }
        result
    }

    async fn exchange_with_remedies(
        &mut self,
        mailbox: &mut Mailbox,
        request: DeviceRequest<'_>,
        purpose: LoginPurpose,
    ) -> Result<Value, ExchangeError> {
        let (mut asked_again, mut logged_in) = (false, false);
        let switches = matches!(
            request,
            DeviceRequest::Switch(..) | DeviceRequest::SetThermostat(..)
        );
        loop {
            let sent = Instant::now();
            let answer = mailbox.serve_inbox_during(self.perform(request)).await;
            // The device may have carried it out also when the stop cut the exchange short.
            self.may_be_done |= switches && answer.as_ref().map_or(true, was_done_perhaps);
            let fault = match answer? {
                Ok(value) => {
                    self.metrics.answered(sent.elapsed(), self.clock.now());
                    return Ok(value);
                }
                Err(fault) => fault,
            };
            self.metrics.failed(fault.kind());
            mailbox.on_fault(&fault);
            if matches!(fault, Fault::Unreadable(_))
                && !logged_in
                && self.hand_to_own_client(request, purpose).await
            {
                logged_in = true;
                self.log_in_again(mailbox).await?;
                continue;
            }
            match fault.remedy() {
                Remedy::RetryNow if !asked_again && !matches!(request, DeviceRequest::Reboot) => {
                    asked_again = true;
                }
                // A request that is lost with its connection uses a sequence number, so the device refuses the next
                // one. No other client took the session, so this login does not count against the budget.
                Remedy::LogInAgain
                    if !logged_in && (asked_again || self.logins.take(purpose, Instant::now())) =>
                {
                    logged_in = true;
                    self.log_in_again(mailbox).await?;
                }
                // The new session was lost too. Without a login in the budget, the session is only lost.
                Remedy::LogInAgain if logged_in => return Err(Fault::SessionUnstable.into()),
                _ => return Err(fault.into()),
            }
        }
    }

    /// One request after the stop, without the inbox. A session that is missing or lost is made first.
    ///
    /// # Errors
    /// The fault. The caller bounds the time.
    pub(in crate::devices) async fn exchange_after_stop(
        &mut self,
        request: DeviceRequest<'_>,
    ) -> Result<Value, Fault> {
        if self.session.is_some() {
            match self.perform(request).await {
                // The stop cut off a request, which used a sequence number of the session.
                Err(Fault::SessionLost | Fault::Closed) => {}
                answer => return answer,
            }
        }
        self.session = Some(Box::pin(self.new_session()).await?);
        let info = self.perform(DeviceRequest::Info).await?;
        if let Some(other) = self.identity.mismatch(&DeviceReading::of(&info)) {
            self.session = None;
            return Err(Fault::OtherDevice(other));
        }
        self.perform(request).await
    }

    /// The `tapo` crate could not read the answer to a request that our own client reads leniently. Returns whether that
    /// serves the device from the next login on.
    async fn hand_to_own_client(&mut self, request: DeviceRequest<'_>, purpose: LoginPurpose) -> bool {
        let strict = self
            .session
            .as_ref()
            .is_some_and(|session| session.reads_strictly(request));
        let needs = Needs {
            reads_odd_answers: true,
            ..self.needs
        };
        let hands = strict
            && self.own.client_for(self.settings.config.client, needs).await == ServingClient::Own
            && self.logins.grants(purpose, Instant::now());
        if hands {
            self.needs = needs;
            self.logins.spend(Instant::now());
            self.close();
            let device = &self.settings.config.id;
            info!(%device, "its meter sends values that the tapo crate cannot read; our own client reads it from now on");
        }
        hands
    }

    async fn perform(&self, request: DeviceRequest<'_>) -> Result<Value, Fault> {
        match &self.session {
            Some(session) => session.perform(request).await,
            None => Err(Fault::SessionLost),
        }
    }

    /// A new session with the same device.
    async fn log_in_again(&mut self, mailbox: &mut Mailbox) -> Result<(), ExchangeError> {
        self.renew(mailbox).await?;
        let info = mailbox
            .serve_inbox_during(self.perform(DeviceRequest::Info))
            .await?;
        let fault = match info {
            Ok(info) => match self.identity.mismatch(&DeviceReading::of(&info)) {
                None => return Ok(()),
                // An address can move to another device, which must not get the commands of this one.
                Some(other) => Fault::OtherDevice(other),
            },
            Err(Fault::SessionLost) => Fault::SessionUnstable,
            Err(fault) => fault,
        };
        self.metrics.failed(fault.kind());
        Err(fault.into())
    }

    /// A new session on the same handler; a new handler if the device changed its protocol.
    async fn renew(&mut self, mailbox: &mut Mailbox) -> Result<(), ExchangeError> {
        if let Some(session) = &mut self.session {
            self.metrics.logged_in();
            let Err(fault) = mailbox.serve_inbox_during(Box::pin(session.refresh())).await? else {
                return Ok(());
            };
            self.metrics.failed(fault.kind());
            if matches!(
                fault.remedy(),
                Remedy::BackOff | Remedy::ReadBack | Remedy::KeepAway
            ) {
                return Err(fault.into());
            }
        }
        let was_own = self.is_own();
        let session = mailbox.serve_inbox_during(Box::pin(self.new_session())).await??;
        self.session = Some(session);
        self.retry_own_at = if was_own && !self.is_own() {
            // The crate does less for the device than what was read of it says: it is opened again.
            Some(Instant::now())
        } else {
            self.own.retry_at().await
        };
        Ok(())
    }

    async fn new_session(&self) -> Result<Session, Fault> {
        self.metrics.logged_in();
        let (config, limit) = (&self.settings.config, self.settings.polling.request);
        Session::open(&self.address, config, self.needs, limit, &self.own).await
    }
}

/// Whether the device carried out a request, or may have.
fn was_done_perhaps(answer: &Result<Value, Fault>) -> bool {
    answer.as_ref().map_or_else(Fault::may_be_done, |_| true)
}
