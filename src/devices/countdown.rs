//! The plug's own countdown to OFF: armed before the relay closes, kept at the wanted end while the outlet is on, and
//! cleared with the OFF. It switches a plug off even if the bridge or the network fails.
//!
//! A plug has one countdown, and the app uses it too: an external one is not changed. Arming clears and adds on the
//! wire, so it can fail in between; then it is armed again at once, or the relay opens.

mod memory;
mod registry;

use std::time::Duration;

use jiff::SignedDuration;
use planner::{Power, Steady};
use tokio::time::Instant;
use tracing::warn;

pub use registry::ArmedCountdowns;
pub(super) use registry::CountdownRegistry;

use memory::{CountdownMemory, CountdownStep, DeviceTimer, length_until, to_second};

use super::{
    client::{
        connection::ExchangeError,
        fault::{Fault, Remedy},
        login_budget::LoginPurpose,
        session::DeviceRequest,
    },
    context::Context,
};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::DeviceCommand,
    reply::Applied,
    report::{Countdown, Kind},
};

/// How often arming is tried before the relay opens.
const ROUNDS: u32 = 2;
/// This long after its end, a countdown is read again.
const OVERDUE: SignedDuration = SignedDuration::from_secs(2);
/// Between two changes of the countdown without a command.
const AFTER_SUCCESS: Duration = Duration::from_secs(5);
/// After a change that failed.
const AFTER_FAILURE: Duration = Duration::from_mins(1);

/// The countdown of a plug, kept at the wanted end.
///
/// ```text
///                       the device does not know the request
///   unknown ─────────────────────────────────────────────────► unsupported (not asked again)
///      │ read
///      ▼        on, and an end is wanted              the device accepts
///    idle ───────────────────────────────► arming ──────────────────────► armed
///    ▲  ▲                                  ▲  │ ▲                          │ │
///    │  │                                  │  │ └── the wanted end moves ──┘ │
///    │  └───── cleared: off, or no end is wanted; ended ────────────────────┘
///    │                                     │  │ the device refuses
///    │ ended, or cleared on request        │  ▼
///  external ◄── the app starts one       failed (armed again after a minute; a relay that closed for it opens)
/// ```
#[derive(Debug, Default)]
pub(super) struct OwnCountdown {
    memory: CountdownMemory,
    /// The hardware id of the device that the memory is about.
    hardware_id: Option<String>,
    /// The device does not know the request. It is not asked again.
    unsupported: bool,
    /// The device answered a reading, be it that it cannot.
    answered: bool,
    /// It may have changed without a reading: after a new connection, or after an unknown outcome.
    stale: bool,
    /// No change without a command before then.
    not_before: Option<Instant>,
    registry: CountdownRegistry,
}

/// The result of an attempt to arm.
#[derive(Debug)]
pub(super) enum ArmResult {
    /// The countdown runs.
    Armed(CountdownRisk),
    /// No end is wanted, the device has no countdown, or an external one runs.
    Without,
    /// The device does not arm it.
    Refused(CommandError),
}

/// Whether the relay may stay closed without the countdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CountdownRisk {
    /// It was closed externally, without a countdown of the bridge.
    Theirs,
    /// The bridge closed it, or replaced its own countdown.
    Ours,
}

impl OwnCountdown {
    pub(super) fn new(registry: CountdownRegistry) -> Self {
        Self {
            registry,
            ..Self::default()
        }
    }

    /// A command switched the outlet: the countdown is changed without a pause.
    pub(super) fn on_switched(&mut self) {
        self.not_before = None;
    }

    /// A new connection: the countdown is read before it is changed.
    pub(super) fn on_connected(&mut self, context: &mut Context) {
        self.mark_stale();
        self.not_before = None;
        let Some(identity) = &context.state.identity else {
            return;
        };
        if self.hardware_id.as_deref() != Some(&identity.device_id) {
            self.memory = CountdownMemory::after_restart(self.registry.of(&identity.device_id));
            self.hardware_id = Some(identity.device_id.clone());
            self.unsupported = false;
            self.answered = false;
            context.attribution.set_countdown(None);
        }
    }

    /// The device left the settings: its countdown is not the bridge's any more.
    pub(super) fn on_removed(&mut self) {
        if let Some(hardware_id) = &self.hardware_id {
            self.registry.set(hardware_id, Vec::new());
        }
    }

    /// It may have changed without a reading.
    pub(super) fn mark_stale(&mut self) {
        self.stale = true;
    }

    /// Whether it runs and was armed for this end.
    pub(super) fn is_armed_for(&self, context: &Context, end: Steady) -> bool {
        context.state.countdown.is_ours() && self.memory.is_armed_for(end, context.clock.steady())
    }

    /// Clears the countdown that runs on the device, also an external one, and replies. What must end all the same,
    /// because of a limit, is armed again.
    pub(super) async fn cancel(
        &mut self,
        context: &mut Context,
        command: DeviceCommand,
    ) -> Result<(), ExchangeError> {
        let targets = context.state.addresses(&command.path);
        if targets.is_empty() {
            let unknown = context.state.unknown_outlet(&command.path);
            command.reply.send(Err(unknown));
            return Ok(());
        }
        let end = command.run.end(context.clock.steady());
        context.wanted.set(command.path.outlet.clone(), end.into());
        match self.clear(context, Countdown::runs).await {
            Ok(()) => {
                let outlets = context.state.powers(&context.config.id, &targets);
                command.reply.send(Ok(Applied { outlets, attempts: 1 }));
                Ok(())
            }
            Err(error) => context.on_command_failed(error, command, 1),
        }
    }

    /// Whether it should be read before its turn.
    pub(super) fn is_due(&self, context: &Context) -> bool {
        let overdue = match context.state.countdown {
            Countdown::Armed { ends } | Countdown::External { ends, .. } => {
                context.clock.now().duration_since(ends) >= OVERDUE
            }
            _ => false,
        };
        self.is_supported(context) && (self.stale || overdue)
    }

    /// Whether it was read, or the device cannot answer.
    pub(super) fn is_read(&self, context: &Context) -> bool {
        !self.is_supported(context) || self.answered
    }

    /// Reads it. A device that cannot answer keeps all its other functions.
    pub(super) async fn poll(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        // Asked once, whatever the answer. After a failure the device is connected again, and it is read then.
        self.stale = false;
        if !self.is_supported(context) {
            return Ok(());
        }
        let failed = context.state.countdown == Countdown::Failed;
        let read = match self.read(context, LoginPurpose::Poll).await {
            Ok(read) => read,
            Err(error) => {
                context.state.set_countdown(Countdown::Unknown);
                error.own_answer()?;
                self.answered = true;
                return Ok(());
            }
        };
        self.answered = true;
        // Idle is the result of the failure; the next attempt to arm ends it.
        if failed && read == Countdown::Idle {
            context.state.set_countdown(Countdown::Failed);
        }
        context.send_report().await;
        Ok(())
    }

    /// When it is to be changed, `now` or later; `None` while it is right.
    pub(super) fn change_at(&self, context: &Context, now: Instant) -> Option<Instant> {
        self.step(context)?;
        Some(self.not_before.map_or(now, |at| at.max(now)))
    }

    fn step(&self, context: &Context) -> Option<CountdownStep> {
        if !self.is_supported(context) || self.stale {
            return None;
        }
        let power = context.state.outlets.first()?.outlet.power;
        let (wanted, now) = (context.wanted.of(None), context.clock.steady());
        self.memory.step(wanted, context.state.countdown, power, now)
    }

    /// Makes it follow the wanted end.
    pub(super) async fn keep(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        let Some(step) = self.step(context) else {
            return Ok(());
        };
        // A request in flight is finished at the stop: arming must not end half way.
        let power = if context.state.any_reads(Power::Off) {
            Power::Off
        } else {
            Power::On
        };
        context.mailbox.view.in_flight = Some((None, power));
        let result = match step {
            CountdownStep::Arm(end) => self.arm_and_hold(context, end).await,
            CountdownStep::Clear => self
                .clear(context, Countdown::is_ours)
                .await
                .map(|()| ArmResult::Without),
        };
        context.mailbox.view.in_flight = None;
        let pause = match &result {
            Ok(ArmResult::Armed(_) | ArmResult::Without) => AFTER_SUCCESS,
            Ok(ArmResult::Refused(_)) | Err(_) => AFTER_FAILURE,
        };
        self.not_before = Some(Instant::now() + pause);
        match result {
            Ok(_) => Ok(()),
            Err(error) => error.own_answer().map(drop),
        }
    }

    async fn arm_and_hold(&mut self, context: &mut Context, end: Steady) -> Result<ArmResult, ExchangeError> {
        match self.arm(context, end).await? {
            ArmResult::Armed(risk) => self.hold(context, end, risk).await,
            other => Ok(other),
        }
    }

    /// Reads the countdown, and clears it if `whose` holds.
    async fn clear(
        &mut self,
        context: &mut Context,
        whose: fn(&Countdown) -> bool,
    ) -> Result<(), ExchangeError> {
        if !self.is_supported(context) {
            return Ok(());
        }
        let read = self.read(context, LoginPurpose::Command).await?;
        if whose(&read) {
            context
                .exchange(DeviceRequest::ClearTimer, LoginPurpose::Command)
                .await?;
            self.memory.on_cleared();
            self.persist(context);
            context.state.set_countdown(Countdown::Idle);
        }
        context.send_report().await;
        Ok(())
    }

    /// Reads the countdown, and arms it unless an external one runs.
    pub(super) async fn arm(
        &mut self,
        context: &mut Context,
        end: Steady,
    ) -> Result<ArmResult, ExchangeError> {
        if !self.is_supported(context) {
            return Ok(ArmResult::Without);
        }
        let read = match self.read(context, LoginPurpose::Command).await {
            Ok(read) => read,
            Err(error) => {
                let fault = error.own_answer()?;
                return self.give_up(context, Some(fault), CountdownRisk::Theirs).await;
            }
        };
        let risk = match read {
            Countdown::Unsupported => return Ok(ArmResult::Without),
            Countdown::External { .. } => {
                context.send_report().await;
                return Ok(ArmResult::Without);
            }
            Countdown::Armed { .. } if self.is_armed_for(context, end) => {
                return Ok(ArmResult::Armed(CountdownRisk::Ours));
            }
            Countdown::Armed { .. } => CountdownRisk::Ours,
            Countdown::Unknown | Countdown::Idle | Countdown::Failed => CountdownRisk::Theirs,
        };
        self.set(context, end, risk).await
    }

    /// After arming, or after the ON: the countdown has to run. Some firmware may drop it when the relay is switched;
    /// then it is armed once more.
    pub(super) async fn hold(
        &mut self,
        context: &mut Context,
        end: Steady,
        risk: CountdownRisk,
    ) -> Result<ArmResult, ExchangeError> {
        match self.read(context, LoginPurpose::Command).await? {
            Countdown::Armed { .. } => return Ok(ArmResult::Armed(risk)),
            // The app set one in between.
            Countdown::External { .. } => return Ok(ArmResult::Without),
            _ => {}
        }
        match self.set(context, end, risk).await? {
            ArmResult::Armed(_) => {}
            other => return Ok(other),
        }
        let read = self.read(context, LoginPurpose::Command).await?;
        if read.runs() {
            return Ok(ArmResult::Armed(risk));
        }
        self.give_up(context, None, risk).await
    }

    /// Arms: clears and adds. A failure is followed by a read, because either may have been done.
    async fn set(
        &mut self,
        context: &mut Context,
        end: Steady,
        risk: CountdownRisk,
    ) -> Result<ArmResult, ExchangeError> {
        let mut round = 1;
        loop {
            let now = context.clock.read();
            let length = length_until(end, now.steady);
            self.memory.on_arming(length, now);
            self.persist(context);
            let request = DeviceRequest::SetTimer(length);
            let fault = match context.exchange(request, LoginPurpose::Command).await {
                Ok(_) => {
                    context.state.set_countdown(Countdown::Armed {
                        ends: to_second(now.wall, length),
                    });
                    return Ok(ArmResult::Armed(risk));
                }
                Err(ExchangeError::Fault(Fault::UnknownRequest(_))) if risk == CountdownRisk::Theirs => {
                    self.set_unsupported(context).await;
                    return Ok(ArmResult::Without);
                }
                Err(ExchangeError::Fault(fault)) => fault,
                Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
            };
            match self.read(context, LoginPurpose::Command).await {
                Ok(Countdown::Armed { .. }) if self.is_armed_for(context, end) => {
                    return Ok(ArmResult::Armed(risk));
                }
                Ok(_) if round < ROUNDS => round += 1,
                Ok(_) => return self.give_up(context, Some(fault), risk).await,
                Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
                Err(ExchangeError::Fault(fault)) => return self.on_lost(context, fault, risk).await,
            }
        }
    }

    /// The device answers but does not arm it. The relay does not stay closed without its countdown.
    async fn give_up(
        &mut self,
        context: &mut Context,
        fault: Option<Fault>,
        risk: CountdownRisk,
    ) -> Result<ArmResult, ExchangeError> {
        let runs = context.state.countdown.runs();
        let reason = fault.as_ref().map_or_else(
            || "the plug accepted it, but it does not run".to_owned(),
            Fault::to_string,
        );
        let mut message = format!("the plug's own countdown to OFF could not be armed: {reason}");
        if risk == CountdownRisk::Ours && !runs && context.state.any_reads(Power::On) {
            open_relay(context).await?;
            message.push_str("; it was switched off");
        }
        warn!(device = %context.config.id, %reason, "countdown not armed");
        if !runs {
            context.state.set_countdown(Countdown::Failed);
        }
        context.send_report().await;
        Ok(ArmResult::Refused(CommandError {
            code: fault.as_ref().map_or(ErrorCode::NotConfirmed, Fault::code),
            message,
            attempts: 1,
        }))
    }

    /// The device stopped answering while it was armed. A relay that the bridge closed is opened if the request still
    /// arrives.
    async fn on_lost(
        &mut self,
        context: &mut Context,
        fault: Fault,
        risk: CountdownRisk,
    ) -> Result<ArmResult, ExchangeError> {
        self.mark_stale();
        context.state.set_countdown(Countdown::Unknown);
        if risk == CountdownRisk::Ours && context.state.any_reads(Power::On) {
            open_relay(context).await?;
        }
        Err(fault.into())
    }

    /// Reads the countdown and reports it.
    async fn read(
        &mut self,
        context: &mut Context,
        purpose: LoginPurpose,
    ) -> Result<Countdown, ExchangeError> {
        match context.exchange(DeviceRequest::GetTimer, purpose).await {
            Ok(value) => {
                let (timer, now) = (DeviceTimer::of(&value), context.clock.read());
                if timer.is_none() {
                    context.attribution.on_no_countdown(now.steady);
                }
                let read = self.memory.on_reading(timer, now);
                self.persist(context);
                context.state.set_countdown(read);
                // A failure stays reported until the caller knows whether it is over.
                if read != Countdown::Idle {
                    context.send_report().await;
                }
                Ok(context.state.countdown)
            }
            Err(ExchangeError::Fault(Fault::UnknownRequest(_))) => {
                self.set_unsupported(context).await;
                Ok(Countdown::Unsupported)
            }
            Err(error) => Err(error),
        }
    }

    async fn set_unsupported(&mut self, context: &mut Context) {
        self.unsupported = true;
        self.memory.on_cleared();
        self.persist(context);
        context.state.set_countdown(Countdown::Unsupported);
        context.send_report().await;
    }

    fn persist(&self, context: &mut Context) {
        context.attribution.set_countdown(self.memory.armed_until());
        if let Some(hardware_id) = &self.hardware_id {
            let ends = self.memory.to_persist(context.clock.read());
            self.registry.set(hardware_id, ends);
        }
    }

    fn is_supported(&self, context: &Context) -> bool {
        context.connection.kind() == Kind::Plug && !self.unsupported
    }
}

async fn open_relay(context: &mut Context) -> Result<(), ExchangeError> {
    let now = context.clock.steady();
    context.attribution.on_sent(None, Power::Off, now);
    let off = DeviceRequest::Switch(None, Power::Off);
    match context.exchange(off, LoginPurpose::Command).await {
        Err(ExchangeError::Fault(fault)) if fault.remedy() != Remedy::ReadBack => {
            return Err(fault.into());
        }
        Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
        Ok(_) | Err(ExchangeError::Fault(_)) => {}
    }
    context.read(LoginPurpose::Command).await
}
