//! What is asked of an outlet, and the one answer it gets.

use std::time::Duration;

use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};

use crate::model::{OutletKey, OutletPath, Power};

/// How a relay shall change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Close or open the relay.
    To(Power),
    /// The opposite of what it is; resolved once, by the device owner.
    Toggle,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Switch, read back, answer with what the device says.
    Switch(Switch),
    /// Read through the device, now.
    Read,
    /// Restart the device's own computer. Its relays keep their state on most models.
    Reboot,
}

/// Who asks. Safety goes before everybody else in a device's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A message on a command topic.
    Mqtt,
    /// The planner, by clock, sun or sensor.
    Schedule,
    /// A limit was reached.
    Safety,
}

/// One thing asked of one outlet (or of every outlet of a strip). It ends in exactly one answer.
#[derive(Debug)]
pub struct Intent {
    /// Which outlet.
    pub path: OutletPath,
    /// What to do with it.
    pub action: Action,
    /// Who asks.
    pub source: Source,
    /// Not carried out after this instant; answered [`Code::Expired`] instead.
    pub deadline: Instant,
    /// Where the answer goes.
    pub ticket: Ticket,
}

/// Tells the answers of one asker apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub u64);

/// The answer to one intent.
#[derive(Debug)]
pub struct Answer {
    /// Which intent.
    pub id: TicketId,
    /// What became of it.
    pub outcome: Outcome,
}

/// The right to one answer. A ticket that is dropped unanswered answers [`Code::ShuttingDown`]:
/// no code path can lose a command silently.
#[derive(Debug)]
pub struct Ticket {
    id: TicketId,
    /// How often the device was asked without saying what came of it.
    unsure: u32,
    /// Unbounded, because the number of answers is bounded by the number of intents that were taken.
    answers: Option<mpsc::UnboundedSender<Answer>>,
}

impl Ticket {
    /// A ticket whose answer goes to `answers`.
    pub fn new(id: TicketId, answers: mpsc::UnboundedSender<Answer>) -> Self {
        Self {
            id,
            unsure: 0,
            answers: Some(answers),
        }
    }

    /// The device was asked so often, and may have done it. From now on no failure says that it was not.
    pub fn may_be_done(&mut self, attempts: u32) {
        self.unsure += attempts;
    }

    /// Answers, for good. An asker that is gone no longer wants to know.
    pub fn answer(mut self, outcome: Outcome) {
        self.send(outcome);
    }

    fn send(&mut self, outcome: Outcome) {
        if let Some(answers) = self.answers.take() {
            let outcome = outcome.map_err(|failure| failure.after(self.unsure));
            let _gone = answers.send(Answer { id: self.id, outcome });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.send(Err(Failure::bridge(
            Code::ShuttingDown,
            "the bridge is shutting down",
        )));
    }
}

/// What became of an intent.
pub type Outcome = Result<Done, Failure>;

/// An intent that was carried out: what the device says afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The confirmed state of each outlet that was asked for; the key is `None` on a plug.
    pub outlets: Vec<(Option<OutletKey>, Option<Power>)>,
    /// How many times the device was asked, at least 1.
    pub attempts: u32,
}

impl Done {
    /// ON if any outlet is on, as a strip's own state is told; `None` if nothing is known.
    pub fn power(&self) -> Option<Power> {
        self.outlets.iter().filter_map(|(_, power)| *power).max()
    }
}

/// Why an intent was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The stable word for it.
    pub code: Code,
    /// In words for a person.
    pub message: String,
    /// How many times the device was asked.
    pub attempts: u32,
}

impl Failure {
    /// A failure that the device was not asked about.
    pub fn bridge(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            attempts: 0,
        }
    }

    /// A command that a newer one for the same outlet replaced.
    pub fn superseded() -> Self {
        Self::bridge(
            Code::Superseded,
            "a newer command for this outlet replaced this one before it was sent",
        )
    }

    /// The same failure after attempts whose outcome is not known. That a command was not carried out in time can
    /// then not be said any more.
    fn after(self, attempts: u32) -> Self {
        match self.code {
            _ if attempts == 0 => self,
            Code::Expired | Code::NotReady => Self {
                code: Code::NoAnswer,
                message: "the device did not confirm in time; its state is read again as soon as it answers"
                    .to_owned(),
                attempts: self.attempts.max(attempts),
            },
            _ => Self {
                attempts: self.attempts.max(attempts),
                ..self
            },
        }
    }

    /// A command whose time to live ran out.
    pub fn expired(waited: Duration, why: &str) -> Self {
        let message = format!("not carried out within {:.1} s: {why}", waited.as_secs_f64());
        Self::bridge(Code::Expired, message)
    }
}

/// Stable words for failures, as they stand in a response's `error.code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The device has not been reached since the bridge started.
    NotReady,
    /// The bridge is stopping.
    ShuttingDown,
    /// The time to live ran out before the device could be reached.
    Expired,
    /// A newer command for the same outlet came first.
    Superseded,
    /// No Tapo credentials are configured.
    SetupMode,
    /// Too many commands wait already.
    Busy,
    /// No such device is configured.
    UnknownDevice,
    /// The strip has no such outlet.
    UnknownOutlet,
    /// The device refuses local control; a switch in the Tapo app changes that.
    Forbidden,
    /// The device does not accept the e-mail and password.
    WrongCredentials,
    /// The device locked itself after too many wrong passwords.
    LockedOut,
    /// The device does not know this request.
    Unsupported,
    /// The device answered with an error of its own.
    DeviceError,
    /// The device took the command but reads back the other state.
    NotConfirmed,
    /// The device did not answer, and what it did is not known.
    NoAnswer,
    /// A safety limit forbids it now.
    RefusedBySafety,
}

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The device, or the way to it.
    Device,
    /// The bridge, or the command itself.
    Bridge,
    /// A safety limit.
    Safety,
}

impl Code {
    /// Whose failure it is.
    pub fn origin(self) -> Origin {
        match self {
            Self::NotReady
            | Self::Expired
            | Self::Forbidden
            | Self::WrongCredentials
            | Self::LockedOut
            | Self::Unsupported
            | Self::DeviceError
            | Self::NotConfirmed
            | Self::NoAnswer => Origin::Device,
            Self::ShuttingDown
            | Self::Superseded
            | Self::SetupMode
            | Self::Busy
            | Self::UnknownDevice
            | Self::UnknownOutlet => Origin::Bridge,
            Self::RefusedBySafety => Origin::Safety,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_answers_exactly_once() {
        let (answers, mut inbox) = mpsc::unbounded_channel();
        Ticket::new(TicketId(1), answers.clone()).answer(Err(Failure::superseded()));
        drop(Ticket::new(TicketId(2), answers));

        let first = inbox.try_recv().unwrap();
        assert_eq!(
            (first.id, first.outcome.unwrap_err().code),
            (TicketId(1), Code::Superseded)
        );
        let second = inbox.try_recv().unwrap();
        assert_eq!(
            (second.id, second.outcome.unwrap_err().code),
            (TicketId(2), Code::ShuttingDown)
        );
        assert!(inbox.try_recv().is_err());
    }

    #[test]
    fn what_may_have_been_done_is_never_called_undone() {
        let (answers, mut inbox) = mpsc::unbounded_channel();
        let mut answered = |answer: fn(Ticket)| {
            let mut ticket = Ticket::new(TicketId(1), answers.clone());
            ticket.may_be_done(2);
            answer(ticket);
            let failure = inbox.try_recv().unwrap().outcome.unwrap_err();
            (failure.code, failure.attempts)
        };
        let expired = |ticket: Ticket| ticket.answer(Err(Failure::expired(Duration::from_secs(1), "test")));
        assert_eq!(answered(expired), (Code::NoAnswer, 2));
        assert_eq!(
            answered(|ticket| ticket.answer(Err(Failure::superseded()))),
            (Code::Superseded, 2)
        );
        assert_eq!(answered(drop), (Code::ShuttingDown, 2));
    }
}
