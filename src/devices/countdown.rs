//! The plug's own countdown to OFF: armed before the relay closes, renewed while the bridge lives,
//! cleared with the OFF. It switches a plug off even if the bridge or the network is gone.
//!
//! A plug has one, and people use it from the app: one that is not ours is left alone. Arming clears and adds
//! on the wire, so it can fail in between; then it is armed again at once, or the relay opens.

mod arm;
mod reading;

use std::pin::pin;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep_until};

use reading::{SHORTEST, countdown, until};

use super::{
    backoff::Purpose,
    exchange::ExchangeError,
    fault::{Fault, Remedy},
    session::{Request, Session},
    worker::Worker,
};
use crate::devices::switch_target::{SwitchProgress, SwitchTarget, too_late};
use crate::domain::{
    command_error::CommandError,
    device_command::{DeviceCommand, Guard},
    reply::{Applied, Reply},
    report::{Countdown, Kind},
};
use planner::Power;

/// What a worker remembers of the countdown that it armed.
#[derive(Debug, Default)]
pub(super) struct ArmedCountdown {
    /// The device does not know the request. Never asked again.
    refused: bool,
    /// When the countdown ends that we armed last, also where no answer said that it was taken.
    armed: Option<Instant>,
    /// It may have changed unseen: a new connection, or an outcome that is not known.
    stale: bool,
    /// Ours still runs after an OFF: clearing it failed.
    leftover: Option<Timestamp>,
}

/// What became of the wish to guard.
#[derive(Debug)]
enum CountdownResult {
    /// Our countdown runs.
    Armed(CountdownRisk),
    /// Nothing was asked for, the device has none, or somebody else uses it.
    Without,
    /// The device does not arm it.
    Refused(CommandError),
}

/// Whether the relay may stay closed without our countdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CountdownRisk {
    /// Somebody else closed it and relied on nothing of ours.
    Theirs,
    /// It is closed because of us, or counted on a countdown that we replaced.
    Ours,
}

/// How switching ended.
#[derive(Debug)]
pub(super) enum SwitchEnd {
    /// The device was asked until it said so, or the rounds were over.
    Applied,
    /// The time to live ran out in the middle.
    Late,
    /// It was not switched on, or not left on.
    Refused(CommandError),
}

/// The countdown counts whole seconds and is read some time later: two that end within this are the same.
const SAME_END: SignedDuration = SignedDuration::from_secs(3);
/// How often arming is tried before the relay opens.
const ROUNDS: u32 = 2;
/// After this a countdown that should have ended is read again.
const OVERDUE: SignedDuration = SignedDuration::from_secs(2);

impl ArmedCountdown {
    /// Nothing is known of the countdown any more, but for what we did to it.
    pub(super) fn doubt(&mut self) {
        self.stale = true;
    }
}

impl Worker {
    /// Carries out an intent that does not switch.
    pub(super) async fn carry_out_guard(
        &mut self,
        session: &mut Session,
        intent: DeviceCommand,
    ) -> Result<(), ExchangeError> {
        let targets = self.targets(&intent.path);
        if targets.is_empty() {
            intent.reply.send(Err(self.unknown_outlet(&intent.path)));
            return Ok(());
        }
        // What is in flight is finished at the stop: arming must not end half way.
        let power = self.confirmed(&targets).unwrap_or(Power::On);
        self.mailbox.view.in_flight = Some((intent.path.outlet.clone(), power));
        let countdown_result = match intent.guard {
            Guard::Leave => Ok(CountdownResult::Without),
            Guard::Arm { off_at, ours } => self.arm_and_hold(session, off_at, ours).await,
            Guard::Disarm { ours } => self
                .disarm(session, ours)
                .await
                .map(|()| CountdownResult::Without),
            Guard::Cancel { to, ends } => self
                .cancel(session, to, ends)
                .await
                .map(|()| CountdownResult::Without),
        };
        self.mailbox.view.in_flight = None;
        match countdown_result {
            Ok(CountdownResult::Refused(failure)) => intent.reply.send(Err(failure)),
            Ok(CountdownResult::Armed(_) | CountdownResult::Without) => {
                let outlets = self.states(&targets);
                intent.reply.send(Ok(Applied { outlets, attempts: 1 }));
            }
            Err(on_exchange_error) => return self.on_exchange_error(on_exchange_error, intent, 1),
        }
        Ok(())
    }

    /// Switches with the countdown that belongs to it: armed before an ON and read after it. Arming is not
    /// cut off by the time to live, each of its requests has a bound of its own.
    pub(super) async fn settle_guarded(
        &mut self,
        session: &mut Session,
        targets: &[SwitchTarget],
        power: Power,
        (guard, deadline): (Guard, Instant),
        attempts: &SwitchProgress,
        reply: &mut Reply,
    ) -> Result<SwitchEnd, ExchangeError> {
        let was_on = self.confirmed(targets) == Some(Power::On);
        let (countdown_result, off_at) = match guard {
            Guard::Arm { off_at, ours } if power == Power::On => {
                (self.arm(session, off_at, ours).await?, Some(off_at))
            }
            _ => (CountdownResult::Without, None),
        };
        if let CountdownResult::Refused(failure) = countdown_result {
            return Ok(SwitchEnd::Refused(failure));
        }
        let unasked = self.mailbox.late_code();
        if off_at.is_some() && Instant::now() >= deadline {
            return Ok(SwitchEnd::Refused(too_late(attempts.so_far(), unasked)));
        }
        // A request that is given up half way would meet the next one at the device: only the answer is early.
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
        if let (CountdownResult::Armed(stake), Some(off_at)) = (countdown_result, off_at)
            && self.all_confirmed(targets, power)
        {
            let stake = if was_on { stake } else { CountdownRisk::Ours };
            if let CountdownResult::Refused(failure) = self.hold(session, off_at, stake).await? {
                return Ok(SwitchEnd::Refused(failure));
            }
        }
        Ok(SwitchEnd::Applied)
    }

    /// Clears our countdown after an OFF that the device confirmed and that was answered.
    pub(super) async fn disarm_after_off(
        &mut self,
        session: &mut Session,
        guard: Guard,
        power: Power,
    ) -> Result<(), ExchangeError> {
        let Guard::Disarm { ours } = guard else {
            return Ok(());
        };
        if power == Power::On {
            return Ok(());
        }
        let disarmed = self.disarm(session, ours).await;
        if disarmed.is_err() {
            self.own_countdown.leftover = Some(ours);
            self.own_countdown.doubt();
        }
        disarmed
    }

    /// Whether the countdown should be read before its turn.
    pub(super) fn countdown_is_due(&self) -> bool {
        let overdue = match self.known.countdown {
            Countdown::Running { ends, .. } => self.clock.now().duration_since(ends) >= OVERDUE,
            _ => false,
        };
        self.has_countdown() && (self.own_countdown.stale || overdue)
    }

    /// Reads the countdown. A device that cannot say loses nothing else.
    pub(super) async fn poll_countdown(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        // Asked once, whatever comes of it; a device that fails is connected anew, and read then.
        self.own_countdown.stale = false;
        if !self.has_countdown() {
            return Ok(());
        }
        let failed = self.known.countdown == Countdown::Failed;
        let read = match self.read_countdown(session, Purpose::Poll).await {
            Err(ExchangeError::Fault(fault)) if is_own_answer(&fault) => {
                self.known.set_countdown(Countdown::Unknown);
                return Ok(());
            }
            Err(on_exchange_error) => {
                self.known.set_countdown(Countdown::Unknown);
                return Err(on_exchange_error);
            }
            Ok(read) => read,
        };
        // That nothing runs is what the failure was; the next attempt to arm ends it.
        if failed && read == Countdown::Idle {
            self.known.set_countdown(Countdown::Failed);
        }
        if let Some(ours) = self.own_countdown.leftover
            && self.relay_is(Power::Off)
        {
            self.disarm(session, ours).await?;
        }
        self.own_countdown.leftover = None;
        self.send_report().await;
        Ok(())
    }

    async fn arm_and_hold(
        &mut self,
        session: &mut Session,
        off_at: Instant,
        ours: Option<Timestamp>,
    ) -> Result<CountdownResult, ExchangeError> {
        let before = self.own_countdown.armed;
        match self.arm(session, off_at, ours).await? {
            // What was read a moment ago needs no second look.
            CountdownResult::Armed(stake) if self.own_countdown.armed != before => {
                self.hold(session, off_at, stake).await
            }
            other => Ok(other),
        }
    }

    /// Clears somebody else's countdown, if it is still the one that was meant.
    async fn cancel(
        &mut self,
        session: &mut Session,
        to: Power,
        ends: Timestamp,
    ) -> Result<(), ExchangeError> {
        if !self.has_countdown() {
            return Ok(());
        }
        let read = self.read_countdown(session, Purpose::Command).await?;
        let meant = matches!(read, Countdown::Running { to: found, ends: end }
            if found == to && end.duration_since(ends).abs() <= SAME_END);
        if meant {
            self.exchange(session, Request::ClearTimer, Purpose::Command)
                .await?;
            self.known.set_countdown(Countdown::Idle);
        }
        self.send_report().await;
        Ok(())
    }

    /// Clears the countdown if it is ours.
    async fn disarm(&mut self, session: &mut Session, ours: Timestamp) -> Result<(), ExchangeError> {
        if !self.has_countdown() {
            return Ok(());
        }
        let read = match self.read_countdown(session, Purpose::Command).await {
            Err(ExchangeError::Fault(fault)) if is_own_answer(&fault) => Countdown::Unknown,
            read => read?,
        };
        if let Countdown::Running { to, ends } = read
            && self.is_ours(to, ends, Some(ours))
        {
            match self
                .exchange(session, Request::ClearTimer, Purpose::Command)
                .await
            {
                Ok(_) => {
                    self.own_countdown.armed = None;
                    self.known.set_countdown(Countdown::Idle);
                }
                // It runs on, and that is what the report says.
                Err(ExchangeError::Fault(fault)) if is_own_answer(&fault) => {}
                Err(on_exchange_error) => return Err(on_exchange_error),
            }
        }
        self.send_report().await;
        Ok(())
    }

    /// Reads the countdown and reports it.
    async fn read_countdown(
        &mut self,
        session: &mut Session,
        purpose: Purpose,
    ) -> Result<Countdown, ExchangeError> {
        match self.exchange(session, Request::GetTimer, purpose).await {
            Ok(value) => {
                let read = countdown(&value, self.clock.now());
                self.known.set_countdown(read);
                // A failure stays told until the caller knows whether it is over.
                if !matches!(read, Countdown::Idle) {
                    self.send_report().await;
                }
                Ok(self.known.countdown)
            }
            Err(ExchangeError::Fault(Fault::UnknownRequest(_))) => {
                self.do_without().await;
                Ok(Countdown::Unsupported)
            }
            Err(on_exchange_error) => Err(on_exchange_error),
        }
    }

    async fn do_without(&mut self) {
        self.own_countdown.refused = true;
        self.known.set_countdown(Countdown::Unsupported);
        self.send_report().await;
    }

    fn has_countdown(&self) -> bool {
        self.kind == Kind::Plug && !self.own_countdown.refused
    }

    fn relay_is(&self, power: Power) -> bool {
        self.known
            .outlets
            .iter()
            .any(|known| known.outlet.power == Some(power))
    }

    /// Ours by the wall clock of who asks, or by our own memory, which a jump of the wall clock and an answer
    /// that came too late leave right.
    fn is_ours(&self, to: Power, ends: Timestamp, ours: Option<Timestamp>) -> bool {
        let last_report = ours.is_some_and(|ours| ours.duration_since(ends).abs() <= SAME_END);
        to == Power::Off && (last_report || self.counts_to_armed(ends))
    }

    fn counts_to_armed(&self, ends: Timestamp) -> bool {
        let Some(armed) = self.own_countdown.armed else {
            return false;
        };
        let left = ends.duration_since(self.clock.now());
        (left - until(armed)).abs() <= SAME_END
    }

    /// Whether the one that runs was armed for this instant: nothing needs to be sent.
    fn is_as_wanted(&self, ends: Timestamp, off_at: Instant) -> bool {
        let near = |armed: Instant| armed >= off_at && armed.duration_since(off_at) <= SHORTEST;
        self.counts_to_armed(ends) && self.own_countdown.armed.is_some_and(near)
    }
}

/// An answer of the device, not a failure of the link: what it says or refuses is not worth a reconnect.
fn is_own_answer(fault: &Fault) -> bool {
    fault.remedy() == Remedy::DoWithout || matches!(fault, Fault::Unreadable(_))
}
