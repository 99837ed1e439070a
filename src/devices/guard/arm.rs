//! Arming: the countdown is cleared and added on the wire, which can fail in between.

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::warn;

use super::{
    Guarded, ROUNDS, Stake, is_own_answer,
    reading::{ending, whole_seconds},
};
use crate::{
    devices::{
        backoff::Purpose,
        exchange::Trip,
        fault::{Fault, Remedy},
        session::{Request, Session},
        worker::Worker,
    },
    domain::{
        command::{Code, Failure},
        report::Countdown,
    },
};
use planner::Power;

impl Worker {
    /// Reads what runs, and arms ours unless somebody else's runs.
    pub(super) async fn arm(
        &mut self,
        session: &mut Session,
        off_at: Instant,
        ours: Option<Timestamp>,
    ) -> Result<Guarded, Trip> {
        self.own_countdown.leftover = None;
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
    pub(super) async fn hold(
        &mut self,
        session: &mut Session,
        off_at: Instant,
        stake: Stake,
    ) -> Result<Guarded, Trip> {
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
            self.own_countdown.armed = Some(Instant::now() + delay);
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
        self.own_countdown.doubt();
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
}
