//! The plug's own countdown to OFF: armed before the relay closes, kept at the wanted end while the outlet is on, and
//! cleared soon after the OFF. It switches a plug off even if the bridge or the network fails.
//!
//! A plug has one countdown, and the app uses it too: an external one is not changed. Arming clears and adds on the
//! wire, so it can fail in between; then it is armed again at once, or the relay opens.
//!
//! A command asks for no more than it needs: what was read a moment ago is not read again, a countdown that an outlet
//! had before a short OFF is used again, and after the first ON of a connection has shown that the plug keeps its
//! countdown, those that follow are read back when no command waits.

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
/// A reading that is no older than this holds: the app sets no countdown at the same moment.
const FRESH: SignedDuration = SignedDuration::from_secs(2);
/// From a switch to what can wait for it: the clearing after an OFF, the reading after an ON.
const AFTER_SWITCH: Duration = Duration::from_secs(2);
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
    /// The device has answered the request.
    answered: bool,
    /// It may have changed without a reading: after a new connection, or after an unknown outcome.
    stale: bool,
    /// When it was last read for a command, or the device confirmed a change of it.
    known_at: Option<Steady>,
    after_on: AfterOn,
    /// No change without a command before then.
    not_before: Option<Instant>,
    registry: CountdownRegistry,
}

/// What is known of the countdown of a relay that the bridge closed.
#[derive(Debug, Default)]
struct AfterOn {
    /// Whether it ran on when the relay closed, on this connection.
    runs_on: bool,
    /// It was not read since the relay closed: one that is lost has to be armed, or the relay opens.
    unconfirmed: bool,
    /// When it is read.
    read_at: Option<Instant>,
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

    /// A command switched the outlet. The countdown of one that is on follows without a pause; that of one that is off
    /// does no harm until the next ON looks at it.
    pub(super) fn on_switched(&mut self, power: Power) {
        self.not_before = match power {
            Power::On => None,
            Power::Off => Some(Instant::now() + AFTER_SWITCH),
        };
        self.after_on.unconfirmed &= power == Power::On;
    }

    /// A new connection: the countdown is read before it is changed.
    pub(super) fn on_connected(&mut self, context: &mut Context) {
        self.mark_stale();
        self.not_before = None;
        self.after_on.runs_on = false;
        let Some(identity) = &context.state.identity else {
            return;
        };
        if self.hardware_id.as_deref() != Some(&identity.device_id) {
            self.memory = CountdownMemory::after_restart(self.registry.of(&identity.device_id));
            self.hardware_id = Some(identity.device_id.clone());
            self.unsupported = false;
            self.answered = false;
            self.after_on.unconfirmed = false;
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

    /// When it should be read before its turn, `now` or later.
    pub(super) fn read_at(&self, context: &Context, now: Instant) -> Option<Instant> {
        let overdue = match context.state.countdown {
            Countdown::Armed { ends } | Countdown::External { ends, .. } => {
                context.clock.now().duration_since(ends) >= OVERDUE
            }
            _ => false,
        };
        if !self.is_supported(context) {
            None
        } else if self.stale || overdue {
            Some(now)
        } else {
            self.after_on.read_at.map(|at| at.max(now))
        }
    }

    /// Reads it. A device that cannot answer keeps all its other functions.
    pub(super) async fn poll(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        // Asked once, whatever the answer. After a failure the device is connected again, and it is read then.
        self.stale = false;
        self.after_on.read_at = None;
        if !self.is_supported(context) {
            return Ok(());
        }
        let failed = context.state.countdown == Countdown::Failed;
        let read = match self.read(context, LoginPurpose::Poll).await {
            Ok(read) => read,
            Err(error) => {
                context.state.set_countdown(Countdown::Unknown);
                error.own_answer()?;
                return Ok(());
            }
        };
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
        match self.read_and_arm(context, end).await? {
            ArmResult::Armed(risk) => {
                let read = self.read(context, LoginPurpose::Command).await?;
                self.hold(context, read, end, risk).await
            }
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
            self.known_at = Some(context.clock.steady());
        }
        context.send_report().await;
        Ok(())
    }

    /// Arms the countdown unless an external one runs. It is read before, unless that was a moment ago.
    pub(super) async fn arm(
        &mut self,
        context: &mut Context,
        end: Steady,
    ) -> Result<ArmResult, ExchangeError> {
        if !self.is_supported(context) {
            return Ok(ArmResult::Without);
        }
        let now = context.clock.steady();
        let fresh = self.known_at.is_some_and(|at| now.since(at) < FRESH) && !self.stale;
        match context.state.countdown {
            known @ (Countdown::Armed { .. } | Countdown::Idle) if fresh => {
                self.arm_after(context, known, end).await
            }
            _ => self.read_and_arm(context, end).await,
        }
    }

    async fn read_and_arm(&mut self, context: &mut Context, end: Steady) -> Result<ArmResult, ExchangeError> {
        match self.read(context, LoginPurpose::Command).await {
            Ok(read) => self.arm_after(context, read, end).await,
            Err(error) => {
                let fault = error.own_answer()?;
                self.give_up(context, Some(fault), CountdownRisk::Theirs).await
            }
        }
    }

    async fn arm_after(
        &mut self,
        context: &mut Context,
        read: Countdown,
        end: Steady,
    ) -> Result<ArmResult, ExchangeError> {
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
            Countdown::Unknown | Countdown::Idle | Countdown::Failed if self.after_on.unconfirmed => {
                CountdownRisk::Ours
            }
            Countdown::Unknown | Countdown::Idle | Countdown::Failed => CountdownRisk::Theirs,
        };
        self.set(context, end, risk).await
    }

    /// After the relay closed: the countdown has to run on. Once this device showed that it does, that is read when no
    /// command waits.
    pub(super) async fn hold_after_on(
        &mut self,
        context: &mut Context,
        end: Steady,
        risk: CountdownRisk,
        was_on: bool,
    ) -> Result<ArmResult, ExchangeError> {
        let risk = if was_on { risk } else { CountdownRisk::Ours };
        if self.after_on.runs_on {
            self.after_on.read_at = Some(Instant::now() + AFTER_SWITCH);
            self.after_on.unconfirmed = risk == CountdownRisk::Ours;
            return Ok(ArmResult::Armed(risk));
        }
        let read = self.read(context, LoginPurpose::Command).await?;
        self.after_on.runs_on = !was_on && matches!(read, Countdown::Armed { .. });
        self.hold(context, read, end, risk).await
    }

    /// By what was read after arming, or after the ON: the countdown has to run. Some firmware may drop it when the relay
    /// is switched; then it is armed once more.
    async fn hold(
        &mut self,
        context: &mut Context,
        read: Countdown,
        end: Steady,
        risk: CountdownRisk,
    ) -> Result<ArmResult, ExchangeError> {
        match read {
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
                    self.known_at = Some(context.clock.steady());
                    context.state.set_countdown(Countdown::Armed {
                        ends: to_second(now.wall, length),
                    });
                    return Ok(ArmResult::Armed(risk));
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
        self.after_on.unconfirmed = false;
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
                self.answered = true;
                self.stale = false;
                self.after_on.read_at = None;
                if purpose == LoginPurpose::Command {
                    self.known_at = Some(context.clock.steady());
                }
                let (timer, now) = (DeviceTimer::of(&value), context.clock.read());
                if timer.is_none() {
                    context.attribution.on_no_countdown(now.steady);
                }
                let read = self.memory.on_reading(timer, now);
                if self.after_on.unconfirmed && read == Countdown::Idle {
                    self.after_on.runs_on = false;
                } else {
                    self.after_on.unconfirmed = false;
                }
                self.persist(context);
                context.state.set_countdown(read);
                // A failure stays reported until the caller knows whether it is over.
                if read != Countdown::Idle {
                    context.send_report().await;
                }
                Ok(context.state.countdown)
            }
            // One that answered before refuses this once, whatever code it has for that.
            Err(ExchangeError::Fault(Fault::UnknownRequest(_))) if !self.answered => {
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
