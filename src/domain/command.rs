//! What is asked of an outlet, and the one answer it gets.

mod failure;

use jiff::Timestamp;
use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};

pub use failure::{CommandError, ErrorCode, Origin};

use planner::{OutletPath, Power};

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
    /// Do no more than what [`DeviceCommand::guard`] says.
    Guard,
    /// Read through the device, now.
    Read,
    /// Restart the device's own computer. Its relays keep their state on most models.
    Reboot,
}

/// What to do about the device's own countdown to OFF, which switches a plug off even if the bridge or the
/// network is gone. A device that has none goes without; its [`Countdown`](crate::domain::report::Countdown) says so.
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
pub struct DeviceCommand {
    /// Which outlet.
    pub path: OutletPath,
    /// What to do with it.
    pub action: Action,
    /// What to do about the device's own countdown along with it.
    pub guard: Guard,
    /// Who asks.
    pub source: Source,
    /// Not carried out after this instant; answered [`ErrorCode::Expired`] instead.
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
    pub outcome: CommandResult,
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
pub type Member = (OutletPath, CommandResult);

/// The right to one answer. A ticket that is dropped unanswered answers [`ErrorCode::ShuttingDown`]:
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
    pub fn answer(mut self, outcome: CommandResult) {
        self.send(outcome);
    }

    /// Answers before the work is at its end, because the time to live is. What comes of it later is nobody's
    /// answer any more.
    pub fn answer_early(&mut self, outcome: CommandResult) {
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

    fn send(&mut self, outcome: CommandResult) {
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
        let stopping = CommandError::bridge(ErrorCode::ShuttingDown, "the bridge is shutting down");
        self.send(Err(stopping));
    }
}

/// The outcomes of several outlets as one. A failure has the code of the first that failed, and its words.
fn together(members: &[Member]) -> CommandResult {
    let mut done = Applied {
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
    Err(CommandError {
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
pub type CommandResult = Result<Applied, CommandError>;

/// An intent that was carried out: what the device says afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The confirmed state of each outlet that was asked for.
    pub outlets: Vec<(OutletPath, Option<Power>)>,
    /// How many times the device was asked; 0 where nothing had to be asked of it.
    pub attempts: u32,
}

impl Applied {
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

#[cfg(test)]
mod tests;
