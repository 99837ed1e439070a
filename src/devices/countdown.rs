//! The countdown to OFF that an outlet holds itself: armed before the relay closes, kept at the wanted end while the
//! outlet is on, and cleared soon after the OFF. It switches the outlet off even if the bridge or the network fails.
//!
//! An outlet has one countdown, and the app uses it too: an external one is not changed. Our client changes it in place
//! and reads it back; the `tapo` crate clears and adds it, which can fail in between. What is lost is armed again at once,
//! or the relay opens.
//!
//! A command asks for no more than it needs: what was read a moment ago is not read again, a countdown that an outlet
//! had before a short OFF is used again, and after the first ON of a connection has shown that the plug keeps its
//! countdown, those that follow are read back when no command waits.

mod device;
mod memory;
mod registry;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use planner::{Power, Steady};
use serde_json::Value;
use tokio::time::Instant;
use tracing::warn;

pub(super) use device::Countdowns;
pub use registry::ArmedCountdowns;
pub(super) use registry::CountdownRegistry;

use memory::{CountdownMemory, CountdownStep, DeviceTimer, length_until, to_second};

use super::{
    client::{
        components::Component,
        connection::ExchangeError,
        fault::{Fault, Remedy},
        login_budget::LoginPurpose,
        session::{DeviceRequest, READ_BACK},
    },
    context::Context,
    state::OutletAddress,
};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    report::Countdown,
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

/// The countdown of one outlet, kept at the wanted end.
///
/// ```text
///                       the outlet does not know the request, or the first one to arm it
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
#[derive(Debug)]
struct OwnCountdown {
    /// The key in the registry: of which relay it is.
    relay: String,
    address: OutletAddress,
    memory: CountdownMemory,
    support: Support,
    /// The id of the one that was read last, from our own client.
    rule: Option<String>,
    /// It ran.
    ran: bool,
    /// The device was read since it was changed, and it runs.
    confirmed: bool,
    /// It may have changed without a reading: after a new connection, or after an unknown outcome.
    stale: bool,
    /// When it was last read for a command, or the device confirmed a change of it.
    known_at: Option<Steady>,
    after_on: AfterOn,
    /// No change without a command before then.
    not_before: Option<Instant>,
    registry: CountdownRegistry,
}

/// Whether an outlet has a countdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    /// It did not say.
    Unknown,
    /// It answered the request.
    Answered,
    /// It can be read but not armed. It is asked again after the next login.
    Refused,
    /// It has none. It is not asked again.
    None,
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
    /// With what the run before armed.
    fn new(
        relay: String,
        address: OutletAddress,
        armed: Vec<Timestamp>,
        registry: CountdownRegistry,
    ) -> Self {
        Self {
            relay,
            address,
            memory: CountdownMemory::after_restart(armed),
            support: Support::Unknown,
            rule: None,
            ran: false,
            confirmed: false,
            stale: true,
            known_at: None,
            after_on: AfterOn::default(),
            not_before: None,
            registry,
        }
    }

    /// A command switched the outlet. The countdown of one that is on follows without a pause; that of one that is off
    /// does no harm until the next ON looks at it.
    fn on_switched(&mut self, power: Power) {
        self.not_before = match power {
            Power::On => None,
            Power::Off => Some(Instant::now() + AFTER_SWITCH),
        };
        self.after_on.unconfirmed &= power == Power::On;
    }

    /// A new connection: the countdown is read before it is changed. A plug is asked whatever it lists.
    fn on_connected(&mut self, context: &mut Context) {
        let child = self.address.child.as_deref();
        let listed = child.is_none() || context.state.components.may_have(child, Component::Countdown);
        self.stale = true;
        self.not_before = None;
        self.after_on.runs_on = false;
        self.support = match self.support {
            _ if !listed => Support::None,
            Support::Refused => Support::Unknown,
            support => support,
        };
        let known = self.known(context);
        let shown = if !self.is_reached(context) {
            self.out_of_reach(context)
        } else if !self.is_supported(context) {
            Countdown::Unsupported
        } else if known == Countdown::Unsupported {
            Countdown::Unknown
        } else {
            return;
        };
        self.show(context, shown);
    }

    /// What is reported of an outlet whose client reaches no countdown. One that the bridge armed with another client may
    /// still run: like one of the app, it is not changed.
    fn out_of_reach(&self, context: &mut Context) -> Countdown {
        let now = context.clock.read();
        let Some(end) = self.memory.may_run_until(now) else {
            return Countdown::Unsupported;
        };
        let ends = to_second(now.wall, now.steady.until(end));
        let path = context.path_of(&self.address);
        if self.is_external(context) {
            // It was reported.
            return self.known(context);
        }
        warn!(
            outlet = %path,
            %ends,
            "its client reaches no countdown, and one that was armed before still runs: the outlet goes OFF then"
        );
        let key = self.address.key.clone();
        context.attribution.set_countdown(key, Some(end));
        Countdown::External { to: Power::Off, ends }
    }

    /// Whether it runs and was armed for this end.
    fn is_armed_for(&self, context: &Context, end: Steady) -> bool {
        let known = self.known(context);
        known.is_ours() && self.memory.is_armed_for(end, context.clock.steady())
    }

    /// When it should be read before its turn, `now` or later.
    fn read_at(&self, context: &Context, now: Instant) -> Option<Instant> {
        let overdue = match self.known(context) {
            Countdown::Armed { ends } | Countdown::External { ends, .. } => {
                context.clock.now().duration_since(ends) >= OVERDUE
            }
            _ => false,
        };
        if !self.is_supported(context) {
            // One that nothing reads is over by its time.
            let running = !self.is_reached(context) && self.is_external(context);
            let until = self.memory.may_run_until(context.clock.read());
            let left = until
                .map(|end| context.clock.steady().until(end))
                .unwrap_or_default();
            running.then(|| now + left)
        } else if self.stale || overdue {
            Some(now)
        } else {
            self.after_on.read_at.map(|at| at.max(now))
        }
    }

    /// Reads it. A device that cannot answer keeps all its other functions.
    async fn poll(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        // Asked once, whatever the answer. After a failure the device is connected again, and it is read then.
        self.stale = false;
        self.after_on.read_at = None;
        if !self.is_reached(context) {
            let (key, now) = (self.address.key.clone(), context.clock.steady());
            context.attribution.on_no_countdown(key, now);
            self.set_unsupported(context, self.support).await;
            return Ok(());
        }
        if !self.is_supported(context) {
            return Ok(());
        }
        let failed = self.known(context) == Countdown::Failed;
        let read = match self.read(context, LoginPurpose::Poll).await {
            Ok(read) => read,
            Err(error) => {
                self.show(context, Countdown::Unknown);
                error.own_answer()?;
                return Ok(());
            }
        };
        // Idle is the result of the failure; the next attempt to arm ends it.
        if failed && read == Countdown::Idle {
            self.show(context, Countdown::Failed);
        }
        context.send_report().await;
        Ok(())
    }

    /// When it is to be changed, `now` or later; `None` while it is right.
    fn change_at(&self, context: &Context, now: Instant) -> Option<Instant> {
        self.step(context)?;
        Some(self.not_before.map_or(now, |at| at.max(now)))
    }

    fn step(&self, context: &Context) -> Option<CountdownStep> {
        if !self.is_supported(context) || self.stale {
            return None;
        }
        let wanted = context.wanted.of(self.address.key.as_ref());
        let known = self.known(context);
        let power = context.state.power_at(&self.address);
        self.memory.step(wanted, known, power, context.clock.steady())
    }

    /// Makes it follow the wanted end.
    async fn keep(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        let Some(step) = self.step(context) else {
            return Ok(());
        };
        // A request in flight is finished at the stop: arming must not end half way.
        let power = context.state.power_at(&self.address).unwrap_or(Power::On);
        context.mailbox.view.in_flight = Some((self.address.key.clone(), power));
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
            ArmResult::Armed(risk) if !self.confirmed => {
                let read = self.read(context, LoginPurpose::Command).await?;
                match self.hold(context, read, end, risk).await? {
                    // The device accepted the end, and counts to the one before.
                    ArmResult::Armed(risk) if !self.memory.runs_towards(end, context.clock.steady()) => {
                        self.give_up(context, None, risk).await
                    }
                    held => Ok(held),
                }
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
            let clear = DeviceRequest::ClearTimer(self.address.child.as_deref());
            context.exchange(clear, LoginPurpose::Command).await?;
            self.rule = None;
            self.memory.on_cleared();
            self.persist(context);
            self.show(context, Countdown::Idle);
            self.known_at = Some(context.clock.steady());
        }
        context.send_report().await;
        Ok(())
    }

    /// Arms the countdown unless an external one runs. It is read before, unless that was a moment ago.
    async fn arm(&mut self, context: &mut Context, end: Steady) -> Result<ArmResult, ExchangeError> {
        if !self.is_supported(context) {
            return Ok(ArmResult::Without);
        }
        let now = context.clock.steady();
        let fresh = self.known_at.is_some_and(|at| now.since(at) < FRESH) && !self.stale;
        match self.known(context) {
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
    async fn hold_after_on(
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

    /// Arms it. A failure is followed by a read, because it may have been armed all the same.
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
            self.confirmed = false;
            let child = self.address.child.as_deref();
            let request = DeviceRequest::SetTimer(child, length, self.rule.as_deref());
            let fault = match context.exchange(request, LoginPurpose::Command).await {
                Ok(answer) => {
                    self.known_at = Some(context.clock.steady());
                    let Some(timer) = answer.get(READ_BACK) else {
                        let ends = to_second(now.wall, length);
                        self.show(context, Countdown::Armed { ends });
                        return Ok(ArmResult::Armed(risk));
                    };
                    self.take_reading(context, timer).await;
                    None
                }
                Err(ExchangeError::Fault(fault)) => match self.read(context, LoginPurpose::Command).await {
                    Ok(_) => Some(fault),
                    Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
                    Err(ExchangeError::Fault(fault)) => return self.on_lost(context, fault, risk).await,
                },
                Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
            };
            match self.known(context) {
                Countdown::Armed { .. } if self.is_armed_for(context, end) => {
                    return Ok(ArmResult::Armed(risk));
                }
                // The app set one in between.
                Countdown::External { .. } => return Ok(ArmResult::Without),
                _ => {}
            }
            if round >= ROUNDS {
                return self.on_refused(context, fault, risk).await;
            }
            round += 1;
        }
    }

    /// The outlet was read, and does not arm it. Whether the outlets of a strip can is not known before one did.
    async fn on_refused(
        &mut self,
        context: &mut Context,
        fault: Option<Fault>,
        risk: CountdownRisk,
    ) -> Result<ArmResult, ExchangeError> {
        let refused = matches!(fault, Some(Fault::UnknownRequest(_) | Fault::Device { .. }));
        if !refused || self.ran || self.address.child.is_none() {
            return self.give_up(context, fault, risk).await;
        }
        let reason = fault.as_ref().map(ToString::to_string).unwrap_or_default();
        let path = context.path_of(&self.address);
        warn!(outlet = %path, %reason, "it refuses a countdown; only the bridge ends its limit");
        self.set_unsupported(context, Support::Refused).await;
        Ok(ArmResult::Without)
    }

    /// The device answers but does not arm it. The relay does not stay closed without its countdown.
    async fn give_up(
        &mut self,
        context: &mut Context,
        fault: Option<Fault>,
        risk: CountdownRisk,
    ) -> Result<ArmResult, ExchangeError> {
        self.after_on.unconfirmed = false;
        let runs = self.known(context).runs();
        let reason = match &fault {
            Some(fault) => fault.to_string(),
            None if runs => "it was accepted, but the end before stays".to_owned(),
            None => "it was accepted, but it does not run".to_owned(),
        };
        let mut message = format!("the outlet's own countdown to OFF could not be armed: {reason}");
        if risk == CountdownRisk::Ours && !runs && self.is_on(context) {
            self.open_relay(context).await?;
            message.push_str("; it was switched off");
        }
        let path = context.path_of(&self.address);
        warn!(outlet = %path, %reason, "countdown not armed");
        if !runs {
            self.show(context, Countdown::Failed);
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
        self.stale = true;
        self.show(context, Countdown::Unknown);
        if risk == CountdownRisk::Ours && self.is_on(context) {
            self.open_relay(context).await?;
        }
        Err(fault.into())
    }

    /// Reads the countdown and reports it.
    async fn read(
        &mut self,
        context: &mut Context,
        purpose: LoginPurpose,
    ) -> Result<Countdown, ExchangeError> {
        let request = DeviceRequest::GetTimer(self.address.child.as_deref());
        match context.exchange(request, purpose).await {
            Ok(timer) => {
                if purpose == LoginPurpose::Command {
                    self.known_at = Some(context.clock.steady());
                }
                Ok(self.take_reading(context, &timer).await)
            }
            // One that answered before refuses this once, whatever code it has for that.
            Err(ExchangeError::Fault(Fault::UnknownRequest(_))) if self.support == Support::Unknown => {
                self.set_unsupported(context, Support::None).await;
                Ok(Countdown::Unsupported)
            }
            Err(error) => Err(error),
        }
    }

    async fn take_reading(&mut self, context: &mut Context, timer: &Value) -> Countdown {
        self.support = Support::Answered;
        self.rule = timer.get("id").and_then(Value::as_str).map(str::to_owned);
        self.stale = false;
        self.after_on.read_at = None;
        let (timer, now) = (DeviceTimer::of(timer), context.clock.read());
        if timer.is_none() {
            let key = self.address.key.clone();
            context.attribution.on_no_countdown(key, now.steady);
        }
        let read = self.memory.on_reading(timer, now);
        if self.after_on.unconfirmed && read == Countdown::Idle {
            self.after_on.runs_on = false;
        } else {
            self.after_on.unconfirmed = false;
        }
        self.confirmed = read.is_ours();
        self.ran |= self.confirmed;
        self.persist(context);
        self.show(context, read);
        // A failure stays reported until the caller knows whether it is over.
        if read != Countdown::Idle {
            context.send_report().await;
        }
        self.known(context)
    }

    async fn set_unsupported(&mut self, context: &mut Context, support: Support) {
        self.support = support;
        self.memory.on_cleared();
        self.persist(context);
        self.show(context, Countdown::Unsupported);
        context.send_report().await;
    }

    fn persist(&self, context: &mut Context) {
        let key = self.address.key.clone();
        context.attribution.set_countdown(key, self.memory.armed_until());
        let ends = self.memory.to_persist(context.clock.read());
        self.registry.set(&self.relay, ends);
    }

    /// Whether the outlet may have one, and the client of the session reaches it.
    fn is_supported(&self, context: &Context) -> bool {
        self.is_reached(context) && !matches!(self.support, Support::Refused | Support::None)
    }

    /// Whether the client of the session knows the countdown of the outlet.
    fn is_reached(&self, context: &Context) -> bool {
        self.address.child.is_none() || context.connection.is_own()
    }

    fn is_external(&self, context: &Context) -> bool {
        matches!(self.known(context), Countdown::External { .. })
    }

    /// What is reported of it.
    fn known(&self, context: &Context) -> Countdown {
        context.state.countdown_of(self.address.position)
    }

    fn show(&self, context: &mut Context, countdown: Countdown) {
        context.state.set_countdown(self.address.position, countdown);
    }

    fn is_on(&self, context: &Context) -> bool {
        context.state.reads(&self.address, Power::On)
    }

    async fn open_relay(&self, context: &mut Context) -> Result<(), ExchangeError> {
        let (key, now) = (self.address.key.clone(), context.clock.steady());
        context.attribution.on_sent(key, Power::Off, now);
        let off = DeviceRequest::Switch(self.address.child.as_deref(), Power::Off);
        match context.exchange(off, LoginPurpose::Command).await {
            Err(ExchangeError::Fault(fault)) if fault.remedy() != Remedy::ReadBack => {
                return Err(fault.into());
            }
            Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
            Ok(_) | Err(ExchangeError::Fault(_)) => {}
        }
        context.read_back(std::slice::from_ref(&self.address)).await
    }
}
