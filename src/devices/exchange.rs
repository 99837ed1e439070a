//! One worker's requests: each with the remedy its fault asks for, and switching that ends in what
//! the device says.

use serde_json::Value;
use tokio::time::Instant;

use super::{
    backoff::LoginPurpose,
    client::fault::{Fault, Remedy},
    client::readings::{DeviceReading, OutletReading},
    client::session::{DeviceRequest, Session},
    mailbox::Stopped,
    reboot::{PendingReboot, rebooted},
    worker::Worker,
};
use crate::devices::{
    countdown::SwitchEnd,
    switch_target::{SwitchProgress, SwitchTarget},
};
use crate::domain::{
    command_error::CommandError,
    device_command::{DeviceAction, DeviceCommand, Switch},
    reply::Applied,
    report::Kind,
};
use planner::Power;

/// Why a worker left what it was doing.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The worker shall end.
    Stopped,
    /// The device failed in a way that the exchange could not heal.
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

/// How often a switch is sent that reads back the other state.
const SWITCH_ROUNDS: u32 = 2;

/// Whether the device did what was asked, or may have.
fn done_perhaps(answer: &Result<Value, Fault>) -> bool {
    answer.as_ref().map_or_else(Fault::may_be_done, |_| true)
}

impl Worker {
    /// Carries out one intent and answers it. A device fault that time may heal puts it back.
    pub(super) async fn carry_out(
        &mut self,
        session: &mut Session,
        intent: DeviceCommand,
    ) -> Result<(), ExchangeError> {
        match intent.action {
            DeviceAction::Switch(switch) => self.carry_out_switch(session, intent, switch).await,
            DeviceAction::CancelCountdown => self.carry_out_cancel(session, intent).await,
            DeviceAction::Read => self.carry_out_read(session, intent).await,
            DeviceAction::Reboot => self.carry_out_reboot(session, intent).await,
        }
    }

    async fn carry_out_switch(
        &mut self,
        session: &mut Session,
        mut intent: DeviceCommand,
        switch: Switch,
    ) -> Result<(), ExchangeError> {
        let targets = self.targets(&intent.path);
        if targets.is_empty() {
            intent.reply.send(Err(self.unknown_outlet(&intent.path)));
            return Ok(());
        }
        let power = match switch {
            Switch::To(power) => power,
            Switch::Toggle => self.confirmed(&targets).unwrap_or(Power::Off).toggled(),
        };
        // A retry must not toggle back what the first attempt did.
        intent.action = DeviceAction::Switch(Switch::To(power));
        self.mailbox.view.in_flight = Some((intent.path.outlet.clone(), power));
        self.may_be_done = false;
        self.turn = intent.turn.unwrap_or_default();
        let attempts = SwitchProgress::default();
        let run = intent.run;
        let settled = self
            .settle_guarded(
                session,
                &targets,
                power,
                (run, intent.deadline),
                &attempts,
                &mut intent.reply,
            )
            .await;
        self.mailbox.view.in_flight = None;
        self.own_countdown.on_switched();
        match settled {
            Ok(SwitchEnd::Applied) => {
                let outcome = self.switched(targets, power, attempts.so_far());
                intent.reply.send(outcome);
                Ok(())
            }
            Ok(SwitchEnd::Refused(failure)) => {
                intent.reply.send(Err(failure));
                Ok(())
            }
            Err(on_exchange_error) => self.on_exchange_error(on_exchange_error, intent, attempts.so_far()),
            // It was answered when its time was over.
            Ok(SwitchEnd::Late) => Ok(()),
        }
    }

    async fn carry_out_read(
        &mut self,
        session: &mut Session,
        intent: DeviceCommand,
    ) -> Result<(), ExchangeError> {
        // One read answers all who asked before it started.
        let mut readers = self.mailbox.queue.take_reads();
        readers.insert(0, intent);
        match self.read(session, LoginPurpose::Command).await {
            Ok(()) => {
                for reader in readers {
                    self.meter_for(&reader.path);
                    let targets = self.targets(&reader.path);
                    let outcome = if targets.is_empty() {
                        Err(self.unknown_outlet(&reader.path))
                    } else {
                        Ok(Applied {
                            outlets: self.states(&targets),
                            attempts: 1,
                        })
                    };
                    reader.reply.send(outcome);
                }
                Ok(())
            }
            Err(ExchangeError::Stopped) => Err(ExchangeError::Stopped),
            Err(ExchangeError::Fault(fault)) => {
                for reader in readers {
                    self.mailbox.queue.put_back(reader, 1, Instant::now());
                }
                Err(fault.into())
            }
        }
    }

    async fn carry_out_reboot(
        &mut self,
        session: &mut Session,
        intent: DeviceCommand,
    ) -> Result<(), ExchangeError> {
        let mut result = self
            .exchange(session, DeviceRequest::Reboot, LoginPurpose::Command)
            .await;
        let closed = matches!(result, Err(ExchangeError::Fault(Fault::Closed)));
        if closed {
            // A device that reboots at once closes the connection. So does one that closes idle connections, which did
            // not read the request.
            result = self
                .exchange(session, DeviceRequest::Reboot, LoginPurpose::Command)
                .await;
        }
        match result {
            Ok(_) | Err(ExchangeError::Fault(Fault::Closed)) => {
                intent.reply.send(Ok(rebooted()));
                Ok(())
            }
            Err(ExchangeError::Fault(fault)) if closed || fault == Fault::NoAnswer => {
                let mut reboot = PendingReboot::new(intent);
                reboot.on_fault(&fault);
                self.mailbox.reboot = Some(reboot);
                Err(fault.into())
            }
            Err(error) => self.on_exchange_error(error, intent, 1),
        }
    }

    /// What to do with an intent whose exchange ended early.
    pub(super) fn on_exchange_error(
        &mut self,
        on_exchange_error: ExchangeError,
        mut intent: DeviceCommand,
        attempts: u32,
    ) -> Result<(), ExchangeError> {
        if self.may_be_done {
            intent.reply.may_be_done(attempts);
        }
        match on_exchange_error {
            ExchangeError::Fault(fault) if fault.remedy() == Remedy::DoWithout => {
                let failure = CommandError {
                    code: fault.code(),
                    message: fault.to_string(),
                    attempts,
                };
                intent.reply.send(Err(failure));
                Ok(())
            }
            ExchangeError::Fault(fault) if intent.reply.is_sent() => Err(fault.into()),
            ExchangeError::Fault(fault) => {
                self.mailbox.queue.put_back(intent, attempts, Instant::now());
                Err(fault.into())
            }
            // The reply answers `shutting_down` by being dropped.
            ExchangeError::Stopped => Err(ExchangeError::Stopped),
        }
    }

    /// Switches the targets and reads back until the device says so, or the rounds or the time are over. What is
    /// under way at the deadline is finished, and read back.
    pub(super) async fn settle(
        &mut self,
        session: &mut Session,
        targets: &[SwitchTarget],
        power: Power,
        attempts: &SwitchProgress,
        deadline: Instant,
    ) -> Result<(), ExchangeError> {
        for round in 0..SWITCH_ROUNDS {
            if round > 0 && Instant::now() >= deadline {
                break;
            }
            attempts.one_more();
            for target in targets {
                if Instant::now() >= deadline {
                    break;
                }
                let read_back = attempts.so_far() > 1 && self.reads(target, power);
                if read_back || self.is_overtaken(target) {
                    continue;
                }
                self.unconfirmed
                    .sent(target.key.clone(), power, self.clock.steady());
                let request = DeviceRequest::Switch(target.child.as_deref(), power);
                match self.exchange(session, request, LoginPurpose::Command).await {
                    Ok(_) => {}
                    // Whether it was applied is not known: the device is asked below.
                    Err(ExchangeError::Fault(fault)) if fault.remedy() == Remedy::ReadBack => {}
                    Err(on_exchange_error) => return Err(on_exchange_error),
                }
            }
            self.read_back(session, targets).await?;
            for target in targets {
                if self.reads(target, power) {
                    self.unconfirmed.confirmed(target.key.as_ref());
                }
            }
            let settled = |target| self.reads(target, power) || self.is_overtaken(target);
            if targets.iter().all(settled) {
                break;
            }
        }
        Ok(())
    }

    /// Reads what was switched: one child alone, or everything in one request.
    pub(super) async fn read_back(
        &mut self,
        session: &mut Session,
        targets: &[SwitchTarget],
    ) -> Result<(), ExchangeError> {
        if let [
            SwitchTarget {
                child: Some(child), ..
            },
        ] = targets
        {
            let info = self
                .exchange(session, DeviceRequest::Child(child), LoginPurpose::Command)
                .await?;
            let reading = OutletReading::of(&info);
            let change = self
                .known
                .apply_child_reading(&self.config, child, &reading, self.clock.read());
            self.report_changes(change.into_iter().collect()).await;
            return Ok(());
        }
        self.read(session, LoginPurpose::Command).await
    }

    /// Reads all outlets, and reports which relays changed.
    pub(super) async fn read(
        &mut self,
        session: &mut Session,
        purpose: LoginPurpose,
    ) -> Result<(), ExchangeError> {
        let readings = self.read_outlets(session, purpose).await?;
        let changes = self
            .known
            .apply_reading(&self.config, self.kind, &readings, self.clock.read());
        self.report_changes(changes).await;
        Ok(())
    }

    /// Reads the strip's own values, which its list of children does not carry.
    pub(super) async fn read_device(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        let info = self
            .exchange(session, DeviceRequest::Info, LoginPurpose::Poll)
            .await?;
        self.known.apply(&DeviceReading::of(&info));
        self.send_report().await;
        Ok(())
    }

    async fn read_outlets(
        &mut self,
        session: &mut Session,
        purpose: LoginPurpose,
    ) -> Result<Vec<OutletReading>, ExchangeError> {
        match self.kind {
            Kind::Plug => {
                let info = self.essential(session, DeviceRequest::Info, purpose).await?;
                self.known.apply(&DeviceReading::of(&info));
                Ok(vec![OutletReading::of(&info)])
            }
            Kind::Strip => {
                let list = self.essential(session, DeviceRequest::Children, purpose).await?;
                Ok(OutletReading::children(&list))
            }
        }
    }

    /// A read that every device answers while it is well. One that refuses it is not.
    async fn essential(
        &mut self,
        session: &mut Session,
        request: DeviceRequest<'_>,
        purpose: LoginPurpose,
    ) -> Result<Value, ExchangeError> {
        match self.exchange(session, request, purpose).await {
            Err(ExchangeError::Fault(fault)) if fault.remedy() == Remedy::DoWithout => {
                Err(Fault::Unreadable(fault.to_string()).into())
            }
            outcome => outcome,
        }
    }

    /// One request, with at most one remedy of each kind.
    pub(super) async fn exchange(
        &mut self,
        session: &mut Session,
        request: DeviceRequest<'_>,
        purpose: LoginPurpose,
    ) -> Result<Value, ExchangeError> {
        let (mut asked_again, mut logged_in) = (false, false);
        let switches = matches!(request, DeviceRequest::Switch(..));
        loop {
            let sent = Instant::now();
            let answer = self.mailbox.serve_inbox_during(session.perform(request)).await;
            // Also when the stop cut the exchange short.
            self.may_be_done |= switches && answer.as_ref().map_or(true, done_perhaps);
            let fault = match answer? {
                Ok(value) => {
                    self.recorder.answered(sent.elapsed(), self.clock.now());
                    self.on_success();
                    return Ok(value);
                }
                Err(fault) => fault,
            };
            self.recorder.failed(fault.kind());
            self.mailbox.on_fault(&fault);
            match fault.remedy() {
                Remedy::RetryNow if !asked_again && !matches!(request, DeviceRequest::Reboot) => {
                    asked_again = true
                }
                // A request that was lost with its connection used up a sequence number, so the device refuses the
                // next one. Nobody took the session: that is not what the budget is for.
                Remedy::LogInAgain
                    if !logged_in && (asked_again || self.logins.take(purpose, Instant::now())) =>
                {
                    logged_in = true;
                    self.log_in_again(session).await?;
                }
                // It did not help. Without a login left the session is only lost.
                Remedy::LogInAgain if logged_in => return Err(Fault::SessionUnstable.into()),
                _ => return Err(fault.into()),
            }
        }
    }

    /// A new session with the same device.
    async fn log_in_again(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        self.renew(session).await?;
        let fault = match self
            .mailbox
            .serve_inbox_during(session.perform(DeviceRequest::Info))
            .await?
        {
            Ok(info) => match self.known.identity_mismatch(&DeviceReading::of(&info)) {
                None => return Ok(()),
                // Addresses change hands: what was meant for ours must not reach this one.
                Some(identity_mismatch) => Fault::OtherDevice(identity_mismatch),
            },
            Err(Fault::SessionLost) => Fault::SessionUnstable,
            Err(fault) => fault,
        };
        self.recorder.failed(fault.kind());
        Err(fault.into())
    }

    /// A new session on the same handler; a new handler if the device changed its protocol.
    async fn renew(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        self.recorder.logged_in();
        let Err(fault) = self.mailbox.serve_inbox_during(session.refresh()).await? else {
            return Ok(());
        };
        self.recorder.failed(fault.kind());
        if matches!(
            fault.remedy(),
            Remedy::BackOff | Remedy::ReadBack | Remedy::KeepAway
        ) {
            return Err(fault.into());
        }
        self.recorder.logged_in();
        let opening = Session::open(
            &self.address,
            self.config.credentials.as_ref(),
            self.kind,
            self.tempo.request,
        );
        *session = self.mailbox.serve_inbox_during(opening).await??;
        Ok(())
    }
}
