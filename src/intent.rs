//! What is asked of an outlet, and the one answer it gets.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};

use crate::model::{OutletPath, Power};

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
    /// Do no more than what [`Intent::guard`] says.
    Guard,
    /// Read through the device, now.
    Read,
    /// Restart the device's own computer. Its relays keep their state on most models.
    Reboot,
}

/// What to do about the device's own countdown to OFF, which switches a plug off even if the bridge or the
/// network is gone. A device that has none goes without; its [`Countdown`](crate::report::Countdown) says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Guard {
    /// Leave it as it is.
    #[default]
    Leave,
    /// Arm it, before the relay closes.
    Arm {
        /// When the device shall switch off. It counts whole seconds, from 1 s to 24 h; a later instant is
        /// armed as 24 h.
        off_at: Instant,
        /// When the countdown that we armed earlier ends. One that ends then is replaced; any other is
        /// somebody else's, and left alone.
        ours: Option<Timestamp>,
    },
    /// Clear it, if it is ours.
    Disarm {
        /// When the countdown that we armed ends.
        ours: Timestamp,
    },
    /// Clear one that somebody else started, because a person asked for that.
    Cancel {
        /// What it switches to.
        to: Power,
        /// When it ends. One that ends at another time is yet another's, and left alone.
        ends: Timestamp,
    },
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
    /// What to do about the device's own countdown along with it.
    pub guard: Guard,
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
    /// What became of each outlet, where several were asked one by one: the members of a group.
    pub members: Vec<Member>,
}

impl Answer {
    /// The answer for several outlets that were asked one by one. It failed if one of them did.
    pub fn together(id: TicketId, members: Vec<Member>) -> Self {
        Self {
            id,
            outcome: together(&members),
            members,
        }
    }
}

/// What became of one outlet of several.
pub type Member = (OutletPath, Outcome);

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

    /// Answers before the work is at its end, because the time to live is. What comes of it later is nobody's
    /// answer any more.
    pub fn answer_early(&mut self, outcome: Outcome) {
        self.send(outcome);
    }

    /// Whether it was answered early.
    pub fn is_answered(&self) -> bool {
        self.answers.is_none()
    }

    /// Answers, for good, for several outlets; see [`Answer::together`].
    pub fn answer_members(mut self, members: Vec<Member>) {
        if let Some(answers) = self.answers.take() {
            let _gone = answers.send(Answer::together(self.id, members));
        }
    }

    fn send(&mut self, outcome: Outcome) {
        if let Some(answers) = self.answers.take() {
            let _gone = answers.send(Answer {
                id: self.id,
                outcome: outcome.map_err(|failure| failure.after(self.unsure)),
                members: Vec::new(),
            });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let stopping = Failure::bridge(Code::ShuttingDown, "the bridge is shutting down");
        self.send(Err(stopping));
    }
}

/// The outcomes of several outlets as one. A failure has the code of the first that failed, and its words.
fn together(members: &[Member]) -> Outcome {
    let mut done = Done {
        outlets: Vec::new(),
        attempts: 1,
    };
    let mut failed = Vec::new();
    for (path, outcome) in members {
        match outcome {
            Ok(one) => {
                done.outlets.extend(one.outlets.iter().cloned());
                done.attempts = done.attempts.max(one.attempts);
            }
            Err(failure) => failed.push((path, failure)),
        }
    }
    let Some((path, first)) = failed.first() else {
        return Ok(done);
    };
    let message = match failed.len() {
        1 => format!("{path}: {}", first.message),
        several => format!(
            "{several} of {} outlets failed; {path}: {}",
            members.len(),
            first.message
        ),
    };
    Err(Failure {
        code: first.code,
        message,
        attempts: failed
            .iter()
            .map(|(_, failure)| failure.attempts)
            .max()
            .unwrap_or(0),
    })
}

/// What became of an intent.
pub type Outcome = Result<Done, Failure>;

/// An intent that was carried out: what the device says afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The confirmed state of each outlet that was asked for.
    pub outlets: Vec<(OutletPath, Option<Power>)>,
    /// How many times the device was asked; 0 where nothing had to be asked of it.
    pub attempts: u32,
}

impl Done {
    /// Done without asking the device: an outlet as it is known to be.
    pub fn unasked(path: &OutletPath, power: Option<Power>) -> Self {
        Self {
            outlets: vec![(path.clone(), power)],
            attempts: 0,
        }
    }

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
            "a newer command for this outlet replaced this one before it was carried out",
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
    /// No such group is configured.
    UnknownGroup,
    /// What was asked for makes no sense for this outlet or group, such as a lifetime without a schedule.
    BadCommand,
    /// The device refuses local control; a switch in the Tapo app changes that.
    Forbidden,
    /// The device asks for a login that the bridge does not speak.
    UnsupportedProtocol,
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
    /// Another device answers at the address.
    WrongDevice,
    /// The device did not answer, and what it did is not known.
    NoAnswer,
    /// A safety limit forbids it now.
    RefusedBySafety,
    /// The settings were read again and have problems.
    InvalidSettings,
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
            | Self::UnsupportedProtocol
            | Self::WrongCredentials
            | Self::LockedOut
            | Self::Unsupported
            | Self::DeviceError
            | Self::NotConfirmed
            | Self::WrongDevice
            | Self::NoAnswer => Origin::Device,
            Self::ShuttingDown
            | Self::Superseded
            | Self::SetupMode
            | Self::Busy
            | Self::InvalidSettings
            | Self::UnknownDevice
            | Self::UnknownOutlet
            | Self::UnknownGroup
            | Self::BadCommand => Origin::Bridge,
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
    fn several_outlets_fail_together_and_each_says_what_became_of_it() {
        let path = |text: &str| text.parse::<OutletPath>().unwrap();
        let on = |text: &str| {
            let outlets = vec![(path(text), Some(Power::On))];
            (path(text), Ok(Done { outlets, attempts: 2 }))
        };
        let (answers, mut inbox) = mpsc::unbounded_channel();
        Ticket::new(TicketId(1), answers.clone()).answer_members(vec![on("mats/1"), on("lamp")]);
        let done = inbox.try_recv().unwrap().outcome.unwrap();
        assert_eq!((done.outlets.len(), done.attempts), (2, 2));

        let failure = Failure {
            attempts: 3,
            ..Failure::bridge(Code::NoAnswer, "no answer")
        };
        let members = vec![on("mats/1"), (path("lamp"), Err(failure))];
        Ticket::new(TicketId(2), answers).answer_members(members.clone());
        let answer = inbox.try_recv().unwrap();
        assert_eq!(answer.members, members);
        let failure = answer.outcome.unwrap_err();
        assert_eq!((failure.code, failure.attempts), (Code::NoAnswer, 3));
        assert_eq!(failure.message, "lamp: no answer");
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
