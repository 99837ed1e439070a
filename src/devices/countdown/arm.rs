//! Arming: the countdown is cleared and added on the wire, which can fail in between.

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::warn;

use super::{
    CountdownResult, CountdownRisk, ROUNDS, is_own_answer,
    reading::{ending, whole_seconds},
};
use crate::{
    devices::{
        backoff::Purpose,
        exchange::ExchangeError,
        fault::{Fault, Remedy},
        session::{Request, Session},
        worker::Worker,
    },
    domain::{
        command_error::{CommandError, ErrorCode},
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
    ) -> Result<CountdownResult, ExchangeError> {
        self.own_countdown.leftover = None;
        if !self.has_countdown() {
            return Ok(CountdownResult::Without);
        }
        let read = match self.read_countdown(session, Purpose::Command).await {
            Err(ExchangeError::Fault(fault)) if is_own_answer(&fault) => {
                return self.give_up(session, Some(fault), CountdownRisk::Theirs).await;
            }
            read => read?,
        };
        let stake = match read {
            Countdown::Unsupported => return Ok(CountdownResult::Without),
            Countdown::Running { to, ends } if !self.is_ours(to, ends, ours) => {
                self.send_report().await;
                return Ok(CountdownResult::Without);
            }
            Countdown::Running { ends, .. } if self.is_as_wanted(ends, off_at) => {
                return Ok(CountdownResult::Armed(CountdownRisk::Ours));
            }
            Countdown::Running { .. } => CountdownRisk::Ours,
            _ => CountdownRisk::Theirs,
        };
        self.set(session, off_at, stake).await
    }

    /// After arming, or after the ON: the countdown has to run. Some firmware may drop it when the relay is
    /// switched by hand or by us; then it is armed once more.
    pub(super) async fn hold(
        &mut self,
        session: &mut Session,
        off_at: Instant,
        stake: CountdownRisk,
    ) -> Result<CountdownResult, ExchangeError> {
        match self.read_countdown(session, Purpose::Command).await? {
            Countdown::Running { to, ends } if self.is_ours(to, ends, None) => {
                return Ok(CountdownResult::Armed(stake));
            }
            // Somebody set theirs in between.
            Countdown::Running { .. } => return Ok(CountdownResult::Without),
            _ => {}
        }
        match self.set(session, off_at, stake).await? {
            CountdownResult::Armed(_) => {}
            other => return Ok(other),
        }
        match self.read_countdown(session, Purpose::Command).await? {
            Countdown::Running { .. } => Ok(CountdownResult::Armed(stake)),
            _ => self.give_up(session, None, stake).await,
        }
    }

    /// Arms: clears and adds. A failure is followed by a read, because either may have been done.
    async fn set(
        &mut self,
        session: &mut Session,
        off_at: Instant,
        stake: CountdownRisk,
    ) -> Result<CountdownResult, ExchangeError> {
        let mut round = 1;
        loop {
            let delay = whole_seconds(off_at.duration_since(Instant::now()));
            self.own_countdown.armed = Some(Instant::now() + delay);
            let fault = match self
                .exchange(session, Request::SetTimer(delay), Purpose::Command)
                .await
            {
                Ok(_) => {
                    self.known.set_countdown(Countdown::Running {
                        to: Power::Off,
                        ends: ending(self.clock.now(), delay),
                    });
                    return Ok(CountdownResult::Armed(stake));
                }
                Err(ExchangeError::Fault(Fault::UnknownRequest(_))) if stake == CountdownRisk::Theirs => {
                    self.do_without().await;
                    return Ok(CountdownResult::Without);
                }
                Err(ExchangeError::Fault(fault)) => fault,
                Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
            };
            match self.read_countdown(session, Purpose::Command).await {
                Ok(Countdown::Running { to, ends })
                    if to == Power::Off && self.is_as_wanted(ends, off_at) && self.counts_to_armed(ends) =>
                {
                    return Ok(CountdownResult::Armed(stake));
                }
                Ok(_) if round < ROUNDS => round += 1,
                Ok(_) => return self.give_up(session, Some(fault), stake).await,
                Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
                Err(ExchangeError::Fault(gone)) => return self.lose(session, gone, stake).await,
            }
        }
    }

    /// The device answers but does not arm it. The relay does not stay closed on a countdown that is gone.
    async fn give_up(
        &mut self,
        session: &mut Session,
        fault: Option<Fault>,
        stake: CountdownRisk,
    ) -> Result<CountdownResult, ExchangeError> {
        let runs = matches!(self.known.countdown, Countdown::Running { .. });
        let why = fault.as_ref().map_or_else(
            || "the plug took it, but it does not run".to_owned(),
            Fault::to_string,
        );
        let mut message = format!("the plug's own countdown to OFF could not be armed: {why}");
        if stake == CountdownRisk::Ours && !runs && self.relay_is(Power::On) {
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

    /// The device went silent while it was armed. One that closed because of us is opened if that still arrives.
    async fn lose(
        &mut self,
        session: &mut Session,
        gone: Fault,
        stake: CountdownRisk,
    ) -> Result<CountdownResult, ExchangeError> {
        self.own_countdown.doubt();
        self.known.set_countdown(Countdown::Unknown);
        if stake == CountdownRisk::Ours && self.relay_is(Power::On) {
            self.open_relay(session).await?;
        }
        Err(gone.into())
    }

    async fn open_relay(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        let off = Request::Switch(None, Power::Off);
        match self.exchange(session, off, Purpose::Command).await {
            Err(ExchangeError::Fault(fault)) if fault.remedy() != Remedy::ReadBack => {
                return Err(fault.into());
            }
            Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
            Ok(_) | Err(ExchangeError::Fault(_)) => {}
        }
        self.read_back(session, &[]).await
    }
}
