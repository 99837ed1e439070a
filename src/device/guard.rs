//! The plug's own countdown to OFF: armed before the relay closes, renewed while the bridge lives,
//! cleared with the OFF. It switches a plug off even if the bridge or the network is gone.
//!
//! A plug has one, and people use it from the app: one that is not ours is left alone. Arming clears and adds
//! on the wire, so it can fail in between; then it is armed again at once, or the relay opens.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::{
    answers::Target,
    backoff::Purpose,
    exchange::Trip,
    fault::{Fault, Remedy},
    session::{Request, Session},
    worker::Worker,
};
use crate::{
    intent::{Code, Done, Failure, Guard, Intent},
    model::Power,
    report::{Countdown, Kind},
};

/// What a worker remembers of its device's countdown.
#[derive(Debug, Default)]
pub(super) struct Keeper {
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
enum Guarded {
    /// Our countdown runs.
    Armed(Stake),
    /// Nothing was asked for, the device has none, or somebody else uses it.
    Without,
    /// The device does not arm it.
    Refused(Failure),
}

/// Whether the relay may stay closed without our countdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stake {
    /// Somebody else closed it and relied on nothing of ours.
    Theirs,
    /// It is closed because of us, or counted on a countdown that we replaced.
    Ours,
}

/// How switching ended.
#[derive(Debug)]
pub(super) enum Settled {
    /// The device was asked until it said so, or the rounds were over.
    Done,
    /// The time to live ran out in the middle.
    Late,
    /// It was not switched on, or not left on.
    Refused(Failure),
}

/// The countdown counts whole seconds and is read some time later: two that end within this are the same.
const SAME_END: SignedDuration = SignedDuration::from_secs(3);
/// How often arming is tried before the relay opens.
const ROUNDS: u32 = 2;
/// What the device counts: tapo refuses anything else.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(24);
/// After this a countdown that should have ended is read again.
const OVERDUE: SignedDuration = SignedDuration::from_secs(2);

impl Keeper {
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
        intent: Intent,
    ) -> Result<(), Trip> {
        let targets = self.targets(&intent.path);
        if targets.is_empty() {
            intent.ticket.answer(Err(self.unknown_outlet(&intent.path)));
            return Ok(());
        }
        // What is in flight is finished at the stop: arming must not end half way.
        let power = self.confirmed(&targets).unwrap_or(Power::On);
        self.mailbox.view.in_flight = Some((intent.path.outlet.clone(), power));
        let guarded = match intent.guard {
            Guard::Leave => Ok(Guarded::Without),
            Guard::Arm { off_at, ours } => self.arm_and_hold(session, off_at, ours).await,
            Guard::Disarm { ours } => self.disarm(session, ours).await.map(|()| Guarded::Without),
        };
        self.mailbox.view.in_flight = None;
        match guarded {
            Ok(Guarded::Refused(failure)) => intent.ticket.answer(Err(failure)),
            Ok(Guarded::Armed(_) | Guarded::Without) => {
                let outlets = self.states(&targets);
                intent.ticket.answer(Ok(Done { outlets, attempts: 1 }));
            }
            Err(trip) => return self.trip(trip, intent, 1),
        }
        Ok(())
    }

    /// Switches with the countdown that belongs to it: armed before an ON and read after it. Arming is not
    /// cut off by the time to live, each of its requests has a bound of its own.
    pub(super) async fn settle_guarded(
        &mut self,
        session: &mut Session,
        targets: &[Target],
        power: Power,
        (guard, deadline): (Guard, Instant),
        attempts: &mut u32,
    ) -> Result<Settled, Trip> {
        let was_on = self.confirmed(targets) == Some(Power::On);
        let (guarded, off_at) = match guard {
            Guard::Arm { off_at, ours } if power == Power::On => {
                (self.arm(session, off_at, ours).await?, Some(off_at))
            }
            _ => (Guarded::Without, None),
        };
        if let Guarded::Refused(failure) = guarded {
            return Ok(Settled::Refused(failure));
        }
        if off_at.is_some() && Instant::now() >= deadline {
            return Ok(Settled::Refused(self.too_late(*attempts)));
        }
        let Ok(settled) = timeout_at(deadline, self.settle(session, targets, power, attempts)).await else {
            self.keeper.doubt();
            return Ok(Settled::Late);
        };
        settled?;
        if let (Guarded::Armed(stake), Some(off_at)) = (guarded, off_at)
            && self.all_confirmed(targets, power)
        {
            let stake = if was_on { stake } else { Stake::Ours };
            if let Guarded::Refused(failure) = self.hold(session, off_at, stake).await? {
                return Ok(Settled::Refused(failure));
            }
        }
        Ok(Settled::Done)
    }

    /// Clears our countdown after an OFF that the device confirmed and that was answered.
    pub(super) async fn disarm_after_off(
        &mut self,
        session: &mut Session,
        guard: Guard,
        power: Power,
    ) -> Result<(), Trip> {
        let Guard::Disarm { ours } = guard else {
            return Ok(());
        };
        if power == Power::On {
            return Ok(());
        }
        let disarmed = self.disarm(session, ours).await;
        if disarmed.is_err() {
            self.keeper.leftover = Some(ours);
            self.keeper.doubt();
        }
        disarmed
    }

    /// Whether the countdown should be read before its turn.
    pub(super) fn countdown_is_due(&self) -> bool {
        let overdue = match self.known.countdown {
            Countdown::Running { ends, .. } => self.clock.now().duration_since(ends) >= OVERDUE,
            _ => false,
        };
        self.has_countdown() && (self.keeper.stale || overdue)
    }

    /// Reads the countdown. A device that cannot say loses nothing else.
    pub(super) async fn look_at_countdown(&mut self, session: &mut Session) -> Result<(), Trip> {
        // Asked once, whatever comes of it; a device that fails is connected anew, and read then.
        self.keeper.stale = false;
        if !self.has_countdown() {
            return Ok(());
        }
        let failed = self.known.countdown == Countdown::Failed;
        let read = match self.read_countdown(session, Purpose::Poll).await {
            Err(Trip::Fault(fault)) if is_own_answer(&fault) => {
                self.known.count_down(Countdown::Unknown);
                return Ok(());
            }
            Err(trip) => {
                self.known.count_down(Countdown::Unknown);
                return Err(trip);
            }
            Ok(read) => read,
        };
        // That nothing runs is what the failure was; the next attempt to arm ends it.
        if failed && read == Countdown::Idle {
            self.known.count_down(Countdown::Failed);
        }
        if let Some(ours) = self.keeper.leftover
            && self.relay_is(Power::Off)
        {
            self.disarm(session, ours).await?;
        }
        self.keeper.leftover = None;
        self.tell().await;
        Ok(())
    }

    async fn arm_and_hold(
        &mut self,
        session: &mut Session,
        off_at: Instant,
        ours: Option<Timestamp>,
    ) -> Result<Guarded, Trip> {
        let before = self.keeper.armed;
        match self.arm(session, off_at, ours).await? {
            // What was read a moment ago needs no second look.
            Guarded::Armed(stake) if self.keeper.armed != before => self.hold(session, off_at, stake).await,
            other => Ok(other),
        }
    }

    /// Reads what runs, and arms ours unless somebody else's runs.
    async fn arm(
        &mut self,
        session: &mut Session,
        off_at: Instant,
        ours: Option<Timestamp>,
    ) -> Result<Guarded, Trip> {
        self.keeper.leftover = None;
        if !self.has_countdown() {
            return Ok(Guarded::Without);
        }
        let read = match self.read_countdown(session, Purpose::Command).await {
            Err(Trip::Fault(fault)) if is_own_answer(&fault) => {
                return self.give_up(session, Some(fault), Stake::Theirs).await;
            }
            read => read?,
        };
        let stake = match read {
            Countdown::Unsupported => return Ok(Guarded::Without),
            Countdown::Running { to, ends } if !self.is_ours(to, ends, ours) => {
                self.tell().await;
                return Ok(Guarded::Without);
            }
            Countdown::Running { ends, .. } if self.is_as_wanted(ends, off_at) => {
                return Ok(Guarded::Armed(Stake::Ours));
            }
            Countdown::Running { .. } => Stake::Ours,
            _ => Stake::Theirs,
        };
        self.set(session, off_at, stake).await
    }

    /// After arming, or after the ON: the countdown has to run. Some firmware may drop it when the relay is
    /// switched by hand or by us; then it is armed once more.
    async fn hold(&mut self, session: &mut Session, off_at: Instant, stake: Stake) -> Result<Guarded, Trip> {
        match self.read_countdown(session, Purpose::Command).await? {
            Countdown::Running { to, ends } if self.is_ours(to, ends, None) => {
                return Ok(Guarded::Armed(stake));
            }
            // Somebody set theirs in between.
            Countdown::Running { .. } => return Ok(Guarded::Without),
            _ => {}
        }
        match self.set(session, off_at, stake).await? {
            Guarded::Armed(_) => {}
            other => return Ok(other),
        }
        match self.read_countdown(session, Purpose::Command).await? {
            Countdown::Running { .. } => Ok(Guarded::Armed(stake)),
            _ => self.give_up(session, None, stake).await,
        }
    }

    /// Arms: clears and adds. A failure is followed by a read, because either may have been done.
    async fn set(&mut self, session: &mut Session, off_at: Instant, stake: Stake) -> Result<Guarded, Trip> {
        let mut round = 1;
        loop {
            let delay = whole_seconds(off_at.duration_since(Instant::now()));
            self.keeper.armed = Some(Instant::now() + delay);
            let fault = match self
                .exchange(session, Request::SetTimer(delay), Purpose::Command)
                .await
            {
                Ok(_) => {
                    self.known.count_down(Countdown::Running {
                        to: Power::Off,
                        ends: ending(self.clock.now(), delay),
                    });
                    return Ok(Guarded::Armed(stake));
                }
                Err(Trip::Fault(Fault::UnknownRequest(_))) if stake == Stake::Theirs => {
                    self.do_without().await;
                    return Ok(Guarded::Without);
                }
                Err(Trip::Fault(fault)) => fault,
                Err(Trip::Stopped) => return Err(Trip::Stopped),
            };
            match self.read_countdown(session, Purpose::Command).await {
                Ok(Countdown::Running { to, ends })
                    if to == Power::Off && self.is_as_wanted(ends, off_at) && self.counts_to_armed(ends) =>
                {
                    return Ok(Guarded::Armed(stake));
                }
                Ok(_) if round < ROUNDS => round += 1,
                Ok(_) => return self.give_up(session, Some(fault), stake).await,
                Err(Trip::Stopped) => return Err(Trip::Stopped),
                Err(Trip::Fault(gone)) => return self.lose(session, gone, stake).await,
            }
        }
    }

    /// The device answers but does not arm it. The relay does not stay closed on a countdown that is gone.
    async fn give_up(
        &mut self,
        session: &mut Session,
        fault: Option<Fault>,
        stake: Stake,
    ) -> Result<Guarded, Trip> {
        let runs = matches!(self.known.countdown, Countdown::Running { .. });
        let why = fault.as_ref().map_or_else(
            || "the plug took it, but it does not run".to_owned(),
            Fault::to_string,
        );
        let mut message = format!("the plug's own countdown to OFF could not be armed: {why}");
        if stake == Stake::Ours && !runs && self.relay_is(Power::On) {
            self.open_relay(session).await?;
            message.push_str("; it was switched off");
        }
        warn!(device = %self.config.id, reason = %why, "countdown not armed");
        if !runs {
            self.known.count_down(Countdown::Failed);
        }
        self.tell().await;
        Ok(Guarded::Refused(Failure {
            code: fault.as_ref().map_or(Code::NotConfirmed, Fault::code),
            message,
            attempts: 1,
        }))
    }

    /// The device went silent while it was armed. One that closed because of us is opened if that still arrives.
    async fn lose(&mut self, session: &mut Session, gone: Fault, stake: Stake) -> Result<Guarded, Trip> {
        self.keeper.doubt();
        self.known.count_down(Countdown::Unknown);
        if stake == Stake::Ours && self.relay_is(Power::On) {
            self.open_relay(session).await?;
        }
        Err(gone.into())
    }

    async fn open_relay(&mut self, session: &mut Session) -> Result<(), Trip> {
        let off = Request::Switch(None, Power::Off);
        match self.exchange(session, off, Purpose::Command).await {
            Err(Trip::Fault(fault)) if fault.remedy() != Remedy::ReadBack => return Err(fault.into()),
            Err(Trip::Stopped) => return Err(Trip::Stopped),
            Ok(_) | Err(Trip::Fault(_)) => {}
        }
        self.read_back(session, &[]).await
    }

    /// Clears the countdown if it is ours.
    async fn disarm(&mut self, session: &mut Session, ours: Timestamp) -> Result<(), Trip> {
        if !self.has_countdown() {
            return Ok(());
        }
        let read = match self.read_countdown(session, Purpose::Command).await {
            Err(Trip::Fault(fault)) if is_own_answer(&fault) => Countdown::Unknown,
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
                    self.keeper.armed = None;
                    self.known.count_down(Countdown::Idle);
                }
                // It runs on, and that is what the report says.
                Err(Trip::Fault(fault)) if is_own_answer(&fault) => {}
                Err(trip) => return Err(trip),
            }
        }
        self.tell().await;
        Ok(())
    }

    /// Reads the countdown and reports it.
    async fn read_countdown(&mut self, session: &mut Session, purpose: Purpose) -> Result<Countdown, Trip> {
        match self.exchange(session, Request::GetTimer, purpose).await {
            Ok(value) => {
                let read = countdown(&value, self.clock.now());
                self.known.count_down(read);
                // A failure stays told until the caller knows whether it is over.
                if !matches!(read, Countdown::Idle) {
                    self.tell().await;
                }
                Ok(self.known.countdown)
            }
            Err(Trip::Fault(Fault::UnknownRequest(_))) => {
                self.do_without().await;
                Ok(Countdown::Unsupported)
            }
            Err(trip) => Err(trip),
        }
    }

    async fn do_without(&mut self) {
        self.keeper.refused = true;
        self.known.count_down(Countdown::Unsupported);
        self.tell().await;
    }

    fn has_countdown(&self) -> bool {
        self.kind == Kind::Plug && !self.keeper.refused
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
        let told = ours.is_some_and(|ours| ours.duration_since(ends).abs() <= SAME_END);
        to == Power::Off && (told || self.counts_to_armed(ends))
    }

    fn counts_to_armed(&self, ends: Timestamp) -> bool {
        let Some(armed) = self.keeper.armed else {
            return false;
        };
        let left = ends.duration_since(self.clock.now());
        (left - until(armed)).abs() <= SAME_END
    }

    /// Whether the one that runs was armed for this instant: nothing needs to be sent.
    fn is_as_wanted(&self, ends: Timestamp, off_at: Instant) -> bool {
        let near = |armed: Instant| armed >= off_at && armed.duration_since(off_at) <= SHORTEST;
        self.counts_to_armed(ends) && self.keeper.armed.is_some_and(near)
    }
}

/// An answer of the device, not a failure of the link: what it says or refuses is not worth a reconnect.
fn is_own_answer(fault: &Fault) -> bool {
    fault.remedy() == Remedy::DoWithout || matches!(fault, Fault::Unreadable(_))
}

/// Rounded up, so that the bridge itself is first, and in the bounds of what the device counts.
fn whole_seconds(left: Duration) -> Duration {
    let up = u64::from(left.subsec_nanos() > 0);
    Duration::from_secs(left.as_secs() + up).clamp(SHORTEST, LONGEST)
}

/// From now, negative if it is past.
fn until(instant: Instant) -> SignedDuration {
    let now = Instant::now();
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    match instant.checked_duration_since(now) {
        Some(ahead) => signed(ahead),
        None => -signed(now.duration_since(instant)),
    }
}

/// To the second, as the device counts.
fn ending(now: Timestamp, left: Duration) -> Timestamp {
    let left = SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX);
    let ends = now.saturating_add(left).unwrap_or(Timestamp::MAX);
    Timestamp::from_second(ends.as_second()).unwrap_or(ends)
}

/// What a reading says. A rule with nothing left has fired and is disabled: it only waits to be removed.
fn countdown(value: &Value, now: Timestamp) -> Countdown {
    let left = value.get("remaining_s").and_then(Value::as_u64).unwrap_or(0);
    let to = value.get("on").and_then(Value::as_bool).map(Power::from);
    match to {
        Some(to) if left > 0 => Countdown::Running {
            to,
            ends: ending(now, Duration::from_secs(left)),
        },
        _ => Countdown::Idle,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_device_counts_whole_seconds_and_the_bridge_is_first() {
        let seconds = |ms| whole_seconds(Duration::from_millis(ms)).as_secs();
        assert_eq!(
            [0, 1, 1000, 1001, 59_999].map(seconds),
            [1, 1, 1, 2, 60],
            "at most 1 s later than asked for"
        );
        assert_eq!(seconds(90_000_000), 86_400);
    }

    #[test]
    fn a_rule_that_fired_is_none() {
        let now: Timestamp = "2026-11-21T10:00:00.7Z".parse().unwrap();
        let read = |value| countdown(&value, now);
        assert_eq!(read(json!(null)), Countdown::Idle);
        assert_eq!(read(json!({"on": false, "remaining_s": 0})), Countdown::Idle);
        assert_eq!(read(json!({"on": 1, "remaining_s": "9"})), Countdown::Idle);
        let running = Countdown::Running {
            to: Power::Off,
            ends: "2026-11-21T10:01:00Z".parse().unwrap(),
        };
        assert_eq!(read(json!({"on": false, "remaining_s": 60})), running);
        assert_eq!(
            ending(now, Duration::MAX),
            Timestamp::from_second(Timestamp::MAX.as_second()).unwrap()
        );
    }
}
