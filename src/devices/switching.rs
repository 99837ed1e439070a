//! Switches outlets and reads back until the device confirms.

use std::{
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
};

use planner::{Power, Steady};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::{
    client::{connection::ExchangeError, fault::Remedy, login_budget::LoginPurpose, session::DeviceRequest},
    context::Context,
    countdown::{ArmResult, CountdownRisk, Countdowns},
    mailbox::Stopped,
    state::OutletAddress,
    wanted_ends::WantedEnd,
};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceAction, DeviceCommand, RunLimit, Switch},
    reply::{Applied, Reply},
};

/// How often a switch is sent that reads back the other state.
const SWITCH_ROUNDS: u32 = 2;

/// One switch command in flight.
pub(super) struct Switching<'a> {
    context: &'a mut Context,
    countdowns: &'a mut Countdowns,
    targets: Vec<OutletAddress>,
    power: Power,
    /// The place of the command among those of its device.
    turn: u64,
    /// The end of its time to live.
    deadline: Instant,
}

/// How often the device was asked for one command. It can be read while a request is in flight.
#[derive(Debug, Default)]
struct Attempts(AtomicU32);

impl Attempts {
    fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a switch ended.
#[derive(Debug)]
enum SwitchEnd {
    /// The device was asked until it confirmed, or the rounds were over.
    Asked,
    /// The time to live ended meanwhile, and the reply was sent.
    Late,
    /// It was not switched on, or switched off again.
    Refused(CommandError),
}

/// The error of a command whose time to live ended; `unasked` is its code if the device was not asked.
pub(super) fn not_confirmed_in_time(attempts: u32, unasked: ErrorCode) -> CommandError {
    CommandError {
        code: if attempts == 0 {
            unasked
        } else {
            ErrorCode::NoAnswer
        },
        message: "the device did not confirm in time; its state is read again as soon as it answers"
            .to_owned(),
        attempts,
    }
}

/// Sends each pending OFF to a device that accepts the login but cannot be read: in doubt an outlet is off. The commands
/// stay pending until a reading confirms them, or until their time is over.
pub(super) async fn switch_off_unread(context: &mut Context) -> Result<(), Stopped> {
    if !context.connection.is_open() {
        return Ok(());
    }
    for path in context.mailbox.queue.send_offs_unread() {
        for target in context.state.addresses(&path) {
            let now = context.clock.steady();
            context.attribution.on_sent(target.key, Power::Off, now);
            let off = DeviceRequest::Switch(target.child.as_deref(), Power::Off);
            let Context {
                connection, mailbox, ..
            } = &mut *context;
            match connection.exchange(mailbox, off, LoginPurpose::Command).await {
                Ok(_) => info!(outlet = %path, "switched off; the device cannot be read"),
                Err(ExchangeError::Stopped) => return Err(Stopped),
                Err(ExchangeError::Fault(fault)) => debug!(outlet = %path, %fault, "not switched off"),
            }
        }
    }
    Ok(())
}

impl<'a> Switching<'a> {
    pub(super) fn new(context: &'a mut Context, countdowns: &'a mut Countdowns) -> Self {
        Self {
            context,
            countdowns,
            targets: Vec::new(),
            power: Power::Off,
            turn: 0,
            deadline: Instant::now(),
        }
    }

    /// Carries out a switch command and replies. After a fault that time may remove, the command is put back.
    pub(super) async fn carry_out(
        mut self,
        mut command: DeviceCommand,
        switch: Switch,
    ) -> Result<(), ExchangeError> {
        self.targets = self.context.state.addresses(&command.path);
        if self.targets.is_empty() {
            let unknown = self.context.state.unknown_outlet(&command.path);
            command.reply.send(Err(unknown));
            return Ok(());
        }
        self.power = match switch {
            Switch::To(power) => power,
            Switch::Toggle => {
                let confirmed = self.context.state.power_of(&self.targets);
                confirmed.unwrap_or(Power::Off).toggled()
            }
        };
        // A retry must not toggle back what the first attempt switched.
        command.action = DeviceAction::Switch(Switch::To(self.power));
        self.turn = command.turn.unwrap_or_default();
        self.deadline = command.deadline;
        self.context.mailbox.view.in_flight = Some((command.path.outlet.clone(), self.power));
        let attempts = Attempts::default();
        let end = match self.power {
            Power::On => self.switch_on(command.run, &attempts, &mut command.reply).await,
            Power::Off => self.switch_off(&attempts, &mut command.reply).await,
        };
        self.context.mailbox.view.in_flight = None;
        self.countdowns.on_switched(&self.targets, self.power);
        match end {
            Ok(SwitchEnd::Asked) => {
                command.reply.send(self.result(attempts.count()));
                Ok(())
            }
            Ok(SwitchEnd::Refused(error)) => {
                command.reply.send(Err(error));
                Ok(())
            }
            Ok(SwitchEnd::Late) => Ok(()),
            Err(error) => self.context.on_command_failed(error, command, attempts.count()),
        }
    }

    /// Switches off. The end of the run that is over does not apply to the next one.
    async fn switch_off(
        &mut self,
        attempts: &Attempts,
        reply: &mut Reply,
    ) -> Result<SwitchEnd, ExchangeError> {
        let end = self.settle_in_time(attempts, reply).await;
        for target in &self.targets {
            if self.context.state.reads(target, Power::Off) {
                self.context.wanted.set(target.key.clone(), WantedEnd::Never);
            }
        }
        end
    }

    /// Switches on. The wanted end of the run is kept for the time that the outlets are on.
    async fn switch_on(
        &mut self,
        run: RunLimit,
        attempts: &Attempts,
        reply: &mut Reply,
    ) -> Result<SwitchEnd, ExchangeError> {
        if run.off_by.is_some_and(|end| end <= self.context.clock.steady()) {
            let message = "the time until which the outlet may be on is over; it is not switched on";
            return Ok(SwitchEnd::Refused(CommandError::bridge(
                ErrorCode::Expired,
                message,
            )));
        }
        if run != RunLimit::default() {
            self.context.connection.set_arms();
            self.context.follow_needs().await?;
        }
        let before = self.context.wanted.clone();
        let end = self.switch_on_with_countdown(run, attempts, reply).await;
        // The end of a run that did not begin does not apply to the next one.
        if !matches!(end, Ok(SwitchEnd::Asked)) {
            for target in &self.targets {
                if self.context.state.reads(target, Power::Off) {
                    let previous = before.of(target.key.as_ref());
                    self.context.wanted.set(target.key.clone(), previous);
                }
            }
        }
        end
    }

    /// Arms the countdown before the relay closes, and reads it after. The time to live does not cut arming off: each of
    /// its requests has its own limit.
    async fn switch_on_with_countdown(
        &mut self,
        run: RunLimit,
        attempts: &Attempts,
        reply: &mut Reply,
    ) -> Result<SwitchEnd, ExchangeError> {
        let was_on: Vec<bool> = self
            .targets
            .iter()
            .map(|target| self.context.state.reads(target, Power::On))
            .collect();
        self.want_ends(run, |context, target| context.state.on_at(target));
        let armed = match self.arm(run).await? {
            Ok(armed) => armed,
            Err(error) => return Ok(SwitchEnd::Refused(error)),
        };
        if run != RunLimit::default() && Instant::now() >= self.deadline {
            let late = not_confirmed_in_time(attempts.count(), self.context.mailbox.late_code());
            return Ok(SwitchEnd::Refused(late));
        }
        let settled = self.settle_in_time(attempts, reply).await?;
        if !self.context.state.all_read(&self.targets, Power::On) {
            return Ok(settled);
        }
        if run.max_on.is_some() {
            // It counts from the moment that the relay closed, which may be some attempts after it was armed.
            let mut was_on = was_on.iter();
            self.want_ends(run, |context, target| match was_on.next() {
                Some(true) => context.state.on_at(target),
                _ => None,
            });
        }
        if !matches!(settled, SwitchEnd::Asked) {
            return Ok(settled);
        }
        for ((target, armed), was_on) in self.targets.iter().zip(armed).zip(was_on) {
            if let Some((end, risk)) = armed
                && let ArmResult::Refused(error) = self
                    .countdowns
                    .hold_after_on(self.context, target, end, risk, was_on)
                    .await?
            {
                return Ok(SwitchEnd::Refused(error));
            }
        }
        Ok(settled)
    }

    /// Arms the countdown of each target: one that refuses it is not switched on, nor are those with it. Returns the end and
    /// the risk of each that was armed.
    async fn arm(
        &mut self,
        run: RunLimit,
    ) -> Result<Result<Vec<Option<(Steady, CountdownRisk)>>, CommandError>, ExchangeError> {
        let mut armed = Vec::new();
        for target in &self.targets {
            let closed_at = self.context.state.on_at(target);
            let closed_at = closed_at.unwrap_or_else(|| self.context.clock.steady());
            let result = match run.end(closed_at) {
                Some(end) => (end, self.countdowns.arm(self.context, target, end).await?),
                None => (closed_at, ArmResult::Without),
            };
            armed.push(match result {
                (end, ArmResult::Armed(risk)) => Some((end, risk)),
                (_, ArmResult::Without) => None,
                (_, ArmResult::Refused(error)) => return Ok(Err(error)),
            });
        }
        Ok(Ok(armed))
    }

    /// Sets the wanted end of each target, by the moment at which its relay closed; without one, it closes now.
    fn want_ends(
        &mut self,
        run: RunLimit,
        mut closed_at: impl FnMut(&Context, &OutletAddress) -> Option<Steady>,
    ) {
        let now = self.context.clock.steady();
        for target in &self.targets {
            let closed_at = closed_at(&*self.context, target).unwrap_or(now);
            let end = run.end(closed_at).into();
            self.context.wanted.set(target.key.clone(), end);
        }
    }

    /// Switches, and replies when the time to live is over.
    async fn settle_in_time(
        &mut self,
        attempts: &Attempts,
        reply: &mut Reply,
    ) -> Result<SwitchEnd, ExchangeError> {
        let unasked = self.context.mailbox.late_code();
        let deadline = self.deadline;
        // A request that is dropped half way would collide with the next one at the device: only the reply is early.
        {
            let mut settling = pin!(self.settle(attempts));
            tokio::select! {
                settled = &mut settling => settled?,
                () = sleep_until(deadline) => {
                    reply.send_early(Err(not_confirmed_in_time(attempts.count(), unasked)));
                    settling.await?;
                }
            }
        }
        if reply.is_sent() {
            self.countdowns.mark_stale(&self.targets);
            return Ok(SwitchEnd::Late);
        }
        Ok(SwitchEnd::Asked)
    }

    /// Switches the targets and reads back until the device confirms, or the rounds or the time are over. A request in
    /// flight at the deadline is finished and read back.
    async fn settle(&mut self, attempts: &Attempts) -> Result<(), ExchangeError> {
        for round in 0..SWITCH_ROUNDS {
            if round > 0 && Instant::now() >= self.deadline {
                break;
            }
            attempts.add_one();
            for target in self.targets.clone() {
                if Instant::now() >= self.deadline {
                    break;
                }
                let confirmed = round > 0 && self.context.state.reads(&target, self.power);
                if confirmed || self.is_overtaken(&target) {
                    continue;
                }
                self.send(&target).await?;
            }
            self.context.read_back(&self.targets).await?;
            for target in &self.targets {
                if self.context.state.reads(target, self.power) {
                    self.context.attribution.on_confirmed(target.key.as_ref());
                }
            }
            let settled = |target| self.context.state.reads(target, self.power) || self.is_overtaken(target);
            if self.targets.iter().all(settled) {
                break;
            }
        }
        Ok(())
    }

    async fn send(&mut self, target: &OutletAddress) -> Result<(), ExchangeError> {
        let now = self.context.clock.steady();
        self.context
            .attribution
            .on_sent(target.key.clone(), self.power, now);
        let request = DeviceRequest::Switch(target.child.as_deref(), self.power);
        match self.context.exchange(request, LoginPurpose::Command).await {
            Ok(_) => Ok(()),
            // Whether it was applied is not known: the device is read next.
            Err(ExchangeError::Fault(fault)) if fault.remedy() == Remedy::ReadBack => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether a newer command decides over an outlet.
    fn is_overtaken(&self, target: &OutletAddress) -> bool {
        let queue = &self.context.mailbox.queue;
        queue.overtakes(target.key.as_ref(), self.turn)
    }

    /// The result, about the outlets that no newer command took over.
    fn result(&mut self, attempts: u32) -> Result<Applied, CommandError> {
        let mut targets = std::mem::take(&mut self.targets);
        let state = &self.context.state;
        targets.retain(|target| state.reads(target, self.power) || !self.is_overtaken(target));
        if targets.is_empty() {
            return Err(CommandError {
                attempts,
                ..CommandError::superseded()
            });
        }
        if state.all_read(&targets, self.power) {
            let outlets = state.powers(&self.context.config.id, &targets);
            return Ok(Applied { outlets, attempts });
        }
        Err(CommandError {
            code: ErrorCode::NotConfirmed,
            message: format!(
                "the device accepted the command but does not read back {}",
                self.power
            ),
            attempts,
        })
    }
}
