//! The plug's own countdown to OFF: armed before the relay closes, kept at the wanted end while the outlet is on, and
//! cleared with the OFF. It switches a plug off even if the bridge or the network is gone.
//!
//! A plug has one, and people use it from the app: an external one is not changed. Arming clears and adds on the wire,
//! so it can fail in between; then it is armed again at once, or the relay opens.

mod memory;
mod registry;

use std::{pin::pin, time::Duration};

use jiff::SignedDuration;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

pub(super) use memory::WantedEnd;
pub use registry::ArmedCountdowns;
pub(super) use registry::CountdownRegistry;

use memory::{CountdownMemory, CountdownStep, DeviceTimer, length_until, to_second};

use super::{
    backoff::LoginPurpose,
    client::fault::{Fault, Remedy},
    client::session::{DeviceRequest, Session},
    exchange::ExchangeError,
    worker::Worker,
};
use crate::devices::switch_target::{SwitchProgress, SwitchTarget, too_late};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceCommand, RunLimit},
    reply::{Applied, Reply},
    report::{Countdown, Kind},
};
use planner::{Power, Steady};

/// How often arming is tried before the relay opens.
const ROUNDS: u32 = 2;
/// After this a countdown that should have ended is read again.
const OVERDUE: SignedDuration = SignedDuration::from_secs(2);
/// Between two changes of the countdown without a command.
const AFTER_SUCCESS: Duration = Duration::from_secs(5);
/// After a change that failed.
const AFTER_FAILURE: Duration = Duration::from_mins(1);

/// What a worker keeps of its plug's countdown.
#[derive(Debug, Default)]
pub(super) struct OwnCountdown {
    memory: CountdownMemory,
    /// The hardware id of the device that it is about.
    hardware_id: Option<String>,
    /// The device does not know the request. Never asked again.
    refused: bool,
    /// It may have changed without a reading: a new connection, or an outcome that is not known.
    stale: bool,
    /// No change without a command before then.
    not_before: Option<Instant>,
    registry: CountdownRegistry,
}

/// The result of an attempt to arm.
#[derive(Debug)]
enum CountdownResult {
    /// Our countdown runs.
    Armed(CountdownRisk),
    /// No end is wanted, the device has no countdown, or an external one runs.
    Without,
    /// The device does not arm it.
    Refused(CommandError),
}

/// Whether the relay may stay closed without our countdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CountdownRisk {
    /// It was closed externally and relied on nothing of ours.
    Theirs,
    /// It is closed because of us, or counted on a countdown that we replaced.
    Ours,
}

/// How switching ended.
#[derive(Debug)]
pub(super) enum SwitchEnd {
    /// The device was asked until it confirmed, or the rounds were over.
    Applied,
    /// The time to live ran out in the middle.
    Late,
    /// It was not switched on, or not left on.
    Refused(CommandError),
}

impl OwnCountdown {
    pub(super) fn new(registry: CountdownRegistry) -> Self {
        Self {
            registry,
            ..Self::default()
        }
    }

    /// The outlet must be off by then.
    pub(super) fn set_wanted(&mut self, wanted: WantedEnd, known: Countdown) {
        self.memory.wanted = wanted;
        // By the wanted end it may turn out to be what the run before armed.
        self.stale |= matches!(known, Countdown::External { to: Power::Off, .. });
    }

    /// A command switched the outlet: the countdown is changed without a pause.
    pub(super) fn on_switched(&mut self) {
        self.not_before = None;
    }

    /// A new connection: the countdown is read before anything is done about it.
    pub(super) fn on_connected(&mut self, hardware_id: &str) {
        self.doubt();
        self.not_before = None;
        if self.hardware_id.as_deref() != Some(hardware_id) {
            let previous = self.registry.of(hardware_id);
            self.memory = CountdownMemory::after_restart(self.memory.wanted, previous);
            self.hardware_id = Some(hardware_id.to_owned());
            self.refused = false;
        }
    }

    /// The device left the settings: what it counts is not ours any more.
    pub(super) fn on_removed(&mut self) {
        if let Some(hardware_id) = &self.hardware_id {
            self.registry.set(hardware_id, Vec::new());
        }
    }

    /// The relay was read.
    pub(super) fn on_relay_read(&mut self) {
        self.memory.on_relay_read();
    }

    /// Whether our countdown made the relay open just now.
    pub(super) fn ran_out(&self, now: Steady) -> bool {
        self.memory.ran_out(now)
    }

    fn doubt(&mut self) {
        self.stale = true;
    }
}

impl Worker {
    /// Clears the countdown that runs on the device, whoever started it.
    pub(super) async fn carry_out_cancel(
        &mut self,
        session: &mut Session,
        command: DeviceCommand,
    ) -> Result<(), ExchangeError> {
        let targets = self.targets(&command.path);
        if targets.is_empty() {
            command.reply.send(Err(self.unknown_outlet(&command.path)));
            return Ok(());
        }
        match self.clear_countdown(session, Countdown::runs).await {
            Ok(()) => {
                let outlets = self.states(&targets);
                command.reply.send(Ok(Applied { outlets, attempts: 1 }));
                Ok(())
            }
            Err(error) => self.on_exchange_error(error, command, 1),
        }
    }

    /// Switches with the countdown that belongs to it: armed before an ON and read after it. Arming is not
    /// cut off by the time to live, each of its requests has a bound of its own.
    pub(super) async fn settle_guarded(
        &mut self,
        session: &mut Session,
        targets: &[SwitchTarget],
        power: Power,
        (run, deadline): (RunLimit, Instant),
        attempts: &SwitchProgress,
        reply: &mut Reply,
    ) -> Result<SwitchEnd, ExchangeError> {
        if power == Power::Off {
            return self
                .settle_in_time(session, targets, power, deadline, attempts, reply)
                .await;
        }
        if run.off_by.is_some_and(|end| end <= self.clock.steady()) {
            let message = "the time until which the outlet may be on is over; it is not switched on";
            return Ok(SwitchEnd::Refused(CommandError::bridge(
                ErrorCode::Expired,
                message,
            )));
        }
        let before = self.own_countdown.memory.wanted;
        let result = self
            .switch_on(session, targets, (run, deadline), attempts, reply)
            .await;
        // The end of a run that did not begin says nothing about the next one.
        if !matches!(result, Ok(SwitchEnd::Applied)) && self.relay_is(Power::Off) {
            self.own_countdown.memory.wanted = before;
        }
        result
    }

    async fn switch_on(
        &mut self,
        session: &mut Session,
        targets: &[SwitchTarget],
        (run, deadline): (RunLimit, Instant),
        attempts: &SwitchProgress,
        reply: &mut Reply,
    ) -> Result<SwitchEnd, ExchangeError> {
        let was_on = self.confirmed(targets) == Some(Power::On);
        let closed_at = if was_on { self.on_at() } else { None };
        let end = run.end(closed_at.unwrap_or_else(|| self.clock.steady()));
        self.own_countdown.memory.wanted = end.into();
        let countdown_result = match end {
            Some(end) => self.arm(session, end).await?,
            None => CountdownResult::Without,
        };
        if let CountdownResult::Refused(failure) = countdown_result {
            return Ok(SwitchEnd::Refused(failure));
        }
        if end.is_some() && Instant::now() >= deadline {
            let late = too_late(attempts.so_far(), self.mailbox.late_code());
            return Ok(SwitchEnd::Refused(late));
        }
        let settled = self
            .settle_in_time(session, targets, Power::On, deadline, attempts, reply)
            .await?;
        if !self.all_confirmed(targets, Power::On) {
            return Ok(settled);
        }
        if !was_on && run.max_on.is_some() {
            // It counts from the moment the relay closed, which may be some attempts later than it was armed.
            self.own_countdown.memory.wanted = run.end(self.clock.steady()).into();
        }
        if let (SwitchEnd::Applied, CountdownResult::Armed(risk), Some(end)) =
            (&settled, countdown_result, end)
        {
            let risk = if was_on { risk } else { CountdownRisk::Ours };
            if let CountdownResult::Refused(failure) = self.hold(session, end, risk).await? {
                return Ok(SwitchEnd::Refused(failure));
            }
        }
        Ok(settled)
    }

    /// Switches, and replies when the time to live is over.
    async fn settle_in_time(
        &mut self,
        session: &mut Session,
        targets: &[SwitchTarget],
        power: Power,
        deadline: Instant,
        attempts: &SwitchProgress,
        reply: &mut Reply,
    ) -> Result<SwitchEnd, ExchangeError> {
        let unasked = self.mailbox.late_code();
        // A request that is given up half way would meet the next one at the device: only the reply is early.
        {
            let mut settling = pin!(self.settle(session, targets, power, attempts, deadline));
            tokio::select! {
                settled = &mut settling => settled?,
                () = sleep_until(deadline) => {
                    reply.send_early(Err(too_late(attempts.so_far(), unasked)));
                    settling.await?;
                }
            }
        }
        if reply.is_sent() {
            self.own_countdown.doubt();
            return Ok(SwitchEnd::Late);
        }
        Ok(SwitchEnd::Applied)
    }

    /// Whether the countdown should be read before its turn.
    pub(super) fn countdown_is_due(&self) -> bool {
        let overdue = match self.known.countdown {
            Countdown::Armed { ends } | Countdown::External { ends, .. } => {
                self.clock.now().duration_since(ends) >= OVERDUE
            }
            _ => false,
        };
        self.has_countdown() && (self.own_countdown.stale || overdue)
    }

    /// Reads the countdown. A device that cannot answer loses nothing else.
    pub(super) async fn poll_countdown(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        // Asked once, whatever the answer; after a failure the device is connected again, and it is read then.
        self.own_countdown.stale = false;
        if !self.has_countdown() {
            return Ok(());
        }
        let failed = self.known.countdown == Countdown::Failed;
        let read = match self.read_countdown(session, LoginPurpose::Poll).await {
            Err(ExchangeError::Fault(fault)) if is_own_answer(&fault) => {
                self.known.set_countdown(Countdown::Unknown);
                return Ok(());
            }
            Err(error) => {
                self.known.set_countdown(Countdown::Unknown);
                return Err(error);
            }
            Ok(read) => read,
        };
        // That none runs is what the failure was; the next attempt to arm ends it.
        if failed && read == Countdown::Idle {
            self.known.set_countdown(Countdown::Failed);
        }
        self.send_report().await;
        Ok(())
    }

    /// When the countdown is to be changed, `now` or later; `None` while it is right.
    pub(super) fn countdown_change_at(&self, now: Instant) -> Option<Instant> {
        self.countdown_step()?;
        Some(self.own_countdown.not_before.map_or(now, |at| at.max(now)))
    }

    fn countdown_step(&self) -> Option<CountdownStep> {
        if !self.has_countdown() || self.own_countdown.stale {
            return None;
        }
        let power = self.known.outlets.first()?.outlet.power;
        let memory = &self.own_countdown.memory;
        memory.step(self.known.countdown, power, self.clock.steady())
    }

    /// Makes the countdown follow the wanted end.
    pub(super) async fn keep_countdown(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        let Some(step) = self.countdown_step() else {
            return Ok(());
        };
        // What is in flight is finished at the stop: arming must not end half way.
        let power = if self.relay_is(Power::Off) {
            Power::Off
        } else {
            Power::On
        };
        self.mailbox.view.in_flight = Some((None, power));
        let result = match step {
            CountdownStep::Arm(end) => self.arm_and_hold(session, end).await,
            CountdownStep::Clear => self
                .clear_countdown(session, Countdown::is_ours)
                .await
                .map(|()| CountdownResult::Without),
        };
        self.mailbox.view.in_flight = None;
        let pause = match &result {
            Ok(CountdownResult::Armed(_) | CountdownResult::Without) => AFTER_SUCCESS,
            Ok(CountdownResult::Refused(_)) | Err(_) => AFTER_FAILURE,
        };
        self.own_countdown.not_before = Some(Instant::now() + pause);
        match result {
            Err(ExchangeError::Fault(fault)) if is_own_answer(&fault) => Ok(()),
            result => result.map(drop),
        }
    }

    async fn arm_and_hold(
        &mut self,
        session: &mut Session,
        end: Steady,
    ) -> Result<CountdownResult, ExchangeError> {
        match self.arm(session, end).await? {
            CountdownResult::Armed(risk) => self.hold(session, end, risk).await,
            other => Ok(other),
        }
    }

    /// Reads what runs, and clears it if `whose` holds.
    async fn clear_countdown(
        &mut self,
        session: &mut Session,
        whose: fn(&Countdown) -> bool,
    ) -> Result<(), ExchangeError> {
        if !self.has_countdown() {
            return Ok(());
        }
        let read = self.read_countdown(session, LoginPurpose::Command).await?;
        if whose(&read) {
            self.exchange(session, DeviceRequest::ClearTimer, LoginPurpose::Command)
                .await?;
            self.own_countdown.memory.on_cleared();
            self.persist_countdown();
            self.known.set_countdown(Countdown::Idle);
        }
        self.send_report().await;
        Ok(())
    }

    /// Reads what runs, and arms ours unless an external one runs.
    async fn arm(&mut self, session: &mut Session, end: Steady) -> Result<CountdownResult, ExchangeError> {
        if !self.has_countdown() {
            return Ok(CountdownResult::Without);
        }
        let read = match self.read_countdown(session, LoginPurpose::Command).await {
            Err(ExchangeError::Fault(fault)) if is_own_answer(&fault) => {
                return self.give_up(session, Some(fault), CountdownRisk::Theirs).await;
            }
            read => read?,
        };
        let risk = match read {
            Countdown::Unsupported => return Ok(CountdownResult::Without),
            Countdown::External { .. } => {
                self.send_report().await;
                return Ok(CountdownResult::Without);
            }
            Countdown::Armed { .. } if self.is_armed_for(end) => {
                return Ok(CountdownResult::Armed(CountdownRisk::Ours));
            }
            Countdown::Armed { .. } => CountdownRisk::Ours,
            Countdown::Unknown | Countdown::Idle | Countdown::Failed => CountdownRisk::Theirs,
        };
        self.set(session, end, risk).await
    }

    /// After arming, or after the ON: the countdown has to run. Some firmware may drop it when the relay is
    /// switched by hand or by us; then it is armed once more.
    async fn hold(
        &mut self,
        session: &mut Session,
        end: Steady,
        risk: CountdownRisk,
    ) -> Result<CountdownResult, ExchangeError> {
        match self.read_countdown(session, LoginPurpose::Command).await? {
            Countdown::Armed { .. } => return Ok(CountdownResult::Armed(risk)),
            // The app set one in between.
            Countdown::External { .. } => return Ok(CountdownResult::Without),
            _ => {}
        }
        match self.set(session, end, risk).await? {
            CountdownResult::Armed(_) => {}
            other => return Ok(other),
        }
        let read = self.read_countdown(session, LoginPurpose::Command).await?;
        if read.runs() {
            return Ok(CountdownResult::Armed(risk));
        }
        self.give_up(session, None, risk).await
    }

    /// Arms: clears and adds. A failure is followed by a read, because either may have been done.
    async fn set(
        &mut self,
        session: &mut Session,
        end: Steady,
        risk: CountdownRisk,
    ) -> Result<CountdownResult, ExchangeError> {
        let mut round = 1;
        loop {
            let now = self.clock.read();
            let length = length_until(end, now.steady);
            self.own_countdown.memory.on_arming(length, now);
            self.persist_countdown();
            let fault = match self
                .exchange(session, DeviceRequest::SetTimer(length), LoginPurpose::Command)
                .await
            {
                Ok(_) => {
                    self.known.set_countdown(Countdown::Armed {
                        ends: to_second(now.wall, length),
                    });
                    return Ok(CountdownResult::Armed(risk));
                }
                Err(ExchangeError::Fault(Fault::UnknownRequest(_))) if risk == CountdownRisk::Theirs => {
                    self.do_without().await;
                    return Ok(CountdownResult::Without);
                }
                Err(ExchangeError::Fault(fault)) => fault,
                Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
            };
            match self.read_countdown(session, LoginPurpose::Command).await {
                Ok(Countdown::Armed { .. }) if self.is_armed_for(end) => {
                    return Ok(CountdownResult::Armed(risk));
                }
                Ok(_) if round < ROUNDS => round += 1,
                Ok(_) => return self.give_up(session, Some(fault), risk).await,
                Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
                Err(ExchangeError::Fault(gone)) => return self.lose(session, gone, risk).await,
            }
        }
    }

    /// The device answers but does not arm it. The relay does not stay closed on a countdown that is gone.
    async fn give_up(
        &mut self,
        session: &mut Session,
        fault: Option<Fault>,
        risk: CountdownRisk,
    ) -> Result<CountdownResult, ExchangeError> {
        let runs = self.known.countdown.runs();
        let why = fault.as_ref().map_or_else(
            || "the plug accepted it, but it does not run".to_owned(),
            Fault::to_string,
        );
        let mut message = format!("the plug's own countdown to OFF could not be armed: {why}");
        if risk == CountdownRisk::Ours && !runs && self.relay_is(Power::On) {
            self.open_relay(session).await?;
            message.push_str("; it was switched off");
        }
        warn!(device = %self.config.id, reason = %why, "countdown not armed");
        if !runs {
            self.known.set_countdown(Countdown::Failed);
        }
        self.send_report().await;
        Ok(CountdownResult::Refused(CommandError {
            code: fault.as_ref().map_or(ErrorCode::NotConfirmed, Fault::code),
            message,
            attempts: 1,
        }))
    }

    /// The device stopped answering while it was armed. A relay that closed because of us is opened if that still
    /// arrives.
    async fn lose(
        &mut self,
        session: &mut Session,
        gone: Fault,
        risk: CountdownRisk,
    ) -> Result<CountdownResult, ExchangeError> {
        self.own_countdown.doubt();
        self.known.set_countdown(Countdown::Unknown);
        if risk == CountdownRisk::Ours && self.relay_is(Power::On) {
            self.open_relay(session).await?;
        }
        Err(gone.into())
    }

    async fn open_relay(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        let off = DeviceRequest::Switch(None, Power::Off);
        self.unconfirmed.sent(None, Power::Off, self.clock.steady());
        match self.exchange(session, off, LoginPurpose::Command).await {
            Err(ExchangeError::Fault(fault)) if fault.remedy() != Remedy::ReadBack => {
                return Err(fault.into());
            }
            Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
            Ok(_) | Err(ExchangeError::Fault(_)) => {}
        }
        self.read_back(session, &[]).await
    }

    /// Reads the countdown and reports it.
    async fn read_countdown(
        &mut self,
        session: &mut Session,
        purpose: LoginPurpose,
    ) -> Result<Countdown, ExchangeError> {
        match self.exchange(session, DeviceRequest::GetTimer, purpose).await {
            Ok(value) => {
                let timer = DeviceTimer::of(&value);
                let read = self.own_countdown.memory.on_reading(timer, self.clock.read());
                self.persist_countdown();
                self.known.set_countdown(read);
                // A failure stays reported until the caller knows whether it is over.
                if read != Countdown::Idle {
                    self.send_report().await;
                }
                Ok(self.known.countdown)
            }
            Err(ExchangeError::Fault(Fault::UnknownRequest(_))) => {
                self.do_without().await;
                Ok(Countdown::Unsupported)
            }
            Err(error) => Err(error),
        }
    }

    async fn do_without(&mut self) {
        self.own_countdown.refused = true;
        self.own_countdown.memory.on_cleared();
        self.persist_countdown();
        self.known.set_countdown(Countdown::Unsupported);
        self.send_report().await;
    }

    fn persist_countdown(&self) {
        let own = &self.own_countdown;
        if let Some(hardware_id) = &own.hardware_id {
            let ends = own.memory.to_persist(self.clock.read());
            own.registry.set(hardware_id, ends);
        }
    }

    fn has_countdown(&self) -> bool {
        self.kind == Kind::Plug && !self.own_countdown.refused
    }

    fn is_armed_for(&self, end: Steady) -> bool {
        self.own_countdown.memory.is_armed_for(end, self.clock.steady())
    }

    fn relay_is(&self, power: Power) -> bool {
        self.known
            .outlets
            .iter()
            .any(|known| known.outlet.power == Some(power))
    }

    /// When a plug's relay closed.
    fn on_at(&self) -> Option<Steady> {
        self.known.outlets.first()?.outlet.on_at
    }
}

/// An answer of the device, not a failure of the link: it is not worth a reconnect.
fn is_own_answer(fault: &Fault) -> bool {
    fault.remedy() == Remedy::DoWithout || matches!(fault, Fault::Unreadable(_))
}
