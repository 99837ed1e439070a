//! One worker's requests: each with the remedy its fault asks for, and switching that ends in what
//! the device says.

use serde_json::Value;
use tokio::time::Instant;

use super::{
    answers::{Attempts, Target},
    backoff::Purpose,
    fault::{Fault, Remedy},
    guard::Settled,
    mailbox::Stopped,
    readings::{DeviceReading, OutletReading},
    session::{Request, Session},
    worker::Worker,
};
use crate::domain::{
    command::{Action, Done, Failure, Intent, Switch},
    report::Kind,
};
use planner::Power;

/// Why a worker left what it was doing.
#[derive(Debug)]
pub(super) enum Trip {
    /// The worker shall end.
    Stopped,
    /// The device failed in a way that the exchange could not heal.
    Fault(Fault),
}

impl From<Stopped> for Trip {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<Fault> for Trip {
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
    pub(super) async fn carry_out(&mut self, session: &mut Session, intent: Intent) -> Result<(), Trip> {
        match intent.action {
            Action::Switch(switch) => self.carry_out_switch(session, intent, switch).await,
            Action::Guard => self.carry_out_guard(session, intent).await,
            Action::Read => self.carry_out_read(session, intent).await,
            Action::Reboot => self.carry_out_reboot(session, intent).await,
        }
    }

    async fn carry_out_switch(
        &mut self,
        session: &mut Session,
        mut intent: Intent,
        switch: Switch,
    ) -> Result<(), Trip> {
        let targets = self.targets(&intent.path);
        if targets.is_empty() {
            intent.ticket.answer(Err(self.unknown_outlet(&intent.path)));
            return Ok(());
        }
        let power = match switch {
            Switch::To(power) => power,
            Switch::Toggle => self.confirmed(&targets).unwrap_or(Power::Off).toggled(),
        };
        // A retry must not toggle back what the first attempt did.
        intent.action = Action::Switch(Switch::To(power));
        self.mailbox.view.in_flight = Some((intent.path.outlet.clone(), power));
        self.may_be_done = false;
        let attempts = Attempts::default();
        let guard = intent.guard;
        let settled = self
            .settle_guarded(
                session,
                &targets,
                power,
                (guard, intent.deadline),
                &attempts,
                &mut intent.ticket,
            )
            .await;
        self.mailbox.view.in_flight = None;
        match settled {
            Ok(Settled::Done) => {
                let outcome = self.switched(targets, power, attempts.so_far());
                let confirmed = outcome.is_ok();
                intent.ticket.answer(outcome);
                if confirmed {
                    self.disarm_after_off(session, guard, power).await?;
                }
                Ok(())
            }
            Ok(Settled::Refused(failure)) => {
                intent.ticket.answer(Err(failure));
                Ok(())
            }
            Err(trip) => self.trip(trip, intent, attempts.so_far()),
            // It was answered when its time was over.
            Ok(Settled::Late) => Ok(()),
        }
    }

    async fn carry_out_read(&mut self, session: &mut Session, intent: Intent) -> Result<(), Trip> {
        // One read answers all who asked before it started.
        let mut readers = self.mailbox.queue.take_reads();
        readers.insert(0, intent);
        match self.read(session, Purpose::Command).await {
            Ok(()) => {
                for reader in readers {
                    self.meter_for(&reader.path);
                    let targets = self.targets(&reader.path);
                    let outcome = if targets.is_empty() {
                        Err(self.unknown_outlet(&reader.path))
                    } else {
                        Ok(Done {
                            outlets: self.states(&targets),
                            attempts: 1,
                        })
                    };
                    reader.ticket.answer(outcome);
                }
                Ok(())
            }
            Err(Trip::Stopped) => Err(Trip::Stopped),
            Err(Trip::Fault(fault)) => {
                for reader in readers {
                    self.mailbox.queue.put_back(reader, 1, Instant::now());
                }
                Err(fault.into())
            }
        }
    }

    async fn carry_out_reboot(&mut self, session: &mut Session, intent: Intent) -> Result<(), Trip> {
        match self.exchange(session, Request::Reboot, Purpose::Command).await {
            // A device that reboots at once does not answer any more.
            Ok(_) | Err(Trip::Fault(Fault::Closed | Fault::NoAnswer)) => {
                intent.ticket.answer(Ok(Done {
                    outlets: Vec::new(),
                    attempts: 1,
                }));
                Ok(())
            }
            Err(trip) => self.trip(trip, intent, 1),
        }
    }

    /// What to do with an intent whose exchange ended early.
    pub(super) fn trip(&mut self, trip: Trip, mut intent: Intent, attempts: u32) -> Result<(), Trip> {
        if self.may_be_done {
            intent.ticket.may_be_done(attempts);
        }
        match trip {
            Trip::Fault(fault) if fault.remedy() == Remedy::DoWithout => {
                let failure = Failure {
                    code: fault.code(),
                    message: fault.to_string(),
                    attempts,
                };
                intent.ticket.answer(Err(failure));
                Ok(())
            }
            Trip::Fault(fault) if intent.ticket.is_answered() => Err(fault.into()),
            Trip::Fault(fault) => {
                self.mailbox.queue.put_back(intent, attempts, Instant::now());
                Err(fault.into())
            }
            // The ticket answers `shutting_down` by being dropped.
            Trip::Stopped => Err(Trip::Stopped),
        }
    }

    /// Switches the targets and reads back until the device says so, or the rounds or the time are over. What is
    /// under way at the deadline is finished, and read back.
    pub(super) async fn settle(
        &mut self,
        session: &mut Session,
        targets: &[Target],
        power: Power,
        attempts: &Attempts,
        deadline: Instant,
    ) -> Result<(), Trip> {
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
                self.unsettled.sent(target.key.clone(), power, Instant::now());
                let request = Request::Switch(target.child.as_deref(), power);
                match self.exchange(session, request, Purpose::Command).await {
                    Ok(_) => {}
                    // Whether it was applied is not known: the device is asked below.
                    Err(Trip::Fault(fault)) if fault.remedy() == Remedy::ReadBack => {}
                    Err(trip) => return Err(trip),
                }
            }
            self.read_back(session, targets).await?;
            for target in targets {
                if self.reads(target, power) {
                    self.unsettled.confirmed(target.key.as_ref());
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
    pub(super) async fn read_back(&mut self, session: &mut Session, targets: &[Target]) -> Result<(), Trip> {
        if let [
            Target {
                child: Some(child), ..
            },
        ] = targets
        {
            let info = self
                .exchange(session, Request::Child(child), Purpose::Command)
                .await?;
            let now = self.clock.now();
            self.known
                .learn_child(&self.config, child, &OutletReading::of(&info), now);
            self.tell().await;
            return Ok(());
        }
        let readings = self.read_outlets(session, Purpose::Command).await?;
        let mut changes = self
            .known
            .learn(&self.config, self.kind, &readings, self.clock.now());
        changes.retain(|change| targets.iter().all(|target| target.key != change.outlet));
        self.tell().await;
        self.tell_changes(changes).await;
        Ok(())
    }

    /// Reads all outlets and says which relays changed without us.
    pub(super) async fn read(&mut self, session: &mut Session, purpose: Purpose) -> Result<(), Trip> {
        let readings = self.read_outlets(session, purpose).await?;
        let changes = self
            .known
            .learn(&self.config, self.kind, &readings, self.clock.now());
        self.tell().await;
        self.tell_changes(changes).await;
        Ok(())
    }

    /// Reads the strip's own values, which its list of children does not carry.
    pub(super) async fn read_device(&mut self, session: &mut Session) -> Result<(), Trip> {
        let info = self.exchange(session, Request::Info, Purpose::Poll).await?;
        self.known.hear(&DeviceReading::of(&info));
        self.tell().await;
        Ok(())
    }

    async fn read_outlets(
        &mut self,
        session: &mut Session,
        purpose: Purpose,
    ) -> Result<Vec<OutletReading>, Trip> {
        match self.kind {
            Kind::Plug => {
                let info = self.essential(session, Request::Info, purpose).await?;
                self.known.hear(&DeviceReading::of(&info));
                Ok(vec![OutletReading::of(&info)])
            }
            Kind::Strip => {
                let list = self.essential(session, Request::Children, purpose).await?;
                Ok(OutletReading::children(&list))
            }
        }
    }

    /// A read that every device answers while it is well. One that refuses it is not.
    async fn essential(
        &mut self,
        session: &mut Session,
        request: Request<'_>,
        purpose: Purpose,
    ) -> Result<Value, Trip> {
        match self.exchange(session, request, purpose).await {
            Err(Trip::Fault(fault)) if fault.remedy() == Remedy::DoWithout => {
                Err(Fault::Unreadable(fault.to_string()).into())
            }
            outcome => outcome,
        }
    }

    /// One request, with at most one remedy of each kind.
    pub(super) async fn exchange(
        &mut self,
        session: &mut Session,
        request: Request<'_>,
        purpose: Purpose,
    ) -> Result<Value, Trip> {
        let (mut asked_again, mut logged_in) = (false, false);
        let switches = matches!(request, Request::Switch(..));
        loop {
            let sent = Instant::now();
            let answer = self.mailbox.attend(session.perform(request)).await;
            // Also when the stop cut the exchange short.
            self.may_be_done |= switches && answer.as_ref().map_or(true, done_perhaps);
            let fault = match answer? {
                Ok(value) => {
                    self.recorder.answered(sent.elapsed(), self.clock.now());
                    self.proved();
                    return Ok(value);
                }
                Err(fault) => fault,
            };
            self.recorder.failed(fault.kind());
            match fault.remedy() {
                Remedy::RetryNow if !asked_again => asked_again = true,
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
    async fn log_in_again(&mut self, session: &mut Session) -> Result<(), Trip> {
        self.renew(session).await?;
        let fault = match self.mailbox.attend(session.perform(Request::Info)).await? {
            Ok(info) => match self.known.stranger(&DeviceReading::of(&info)) {
                None => return Ok(()),
                // Addresses change hands: what was meant for ours must not reach this one.
                Some(stranger) => Fault::OtherDevice(stranger),
            },
            Err(Fault::SessionLost) => Fault::SessionUnstable,
            Err(fault) => fault,
        };
        self.recorder.failed(fault.kind());
        Err(fault.into())
    }

    /// A new session on the same handler; a new handler if the device changed its protocol.
    async fn renew(&mut self, session: &mut Session) -> Result<(), Trip> {
        self.recorder.logged_in();
        let Err(fault) = self.mailbox.attend(session.refresh()).await? else {
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
        *session = self.mailbox.attend(opening).await??;
        Ok(())
    }
}
