//! The one reply to a command.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use planner::{OutletPath, Power};
use tokio::sync::mpsc;

use super::{
    command_error::{CommandError, ErrorCode},
    sent_reply::SentReply,
};

/// The right to reply to a command, exactly once. It travels inside the command, from decode to the worker. A reply
/// that is dropped sends [`ErrorCode::ShuttingDown`], so no code path can lose a command silently.
pub struct Reply {
    /// How often the device was asked without a known result.
    uncertain: u32,
    /// What a success does not show, for people.
    note: Option<String>,
    send: Option<Box<dyn FnOnce(CommandOutcome) + Send + Sync>>,
}

impl Reply {
    /// A reply that calls `send`, once.
    pub fn new(send: impl FnOnce(CommandOutcome) + Send + Sync + 'static) -> Self {
        Self {
            uncertain: 0,
            note: None,
            send: Some(Box::new(send)),
        }
    }

    /// The same reply, which goes through `sent` once it is sent.
    #[must_use]
    pub fn through(mut self, sent: &mpsc::UnboundedSender<SentReply>) -> Self {
        let (uncertain, note, sent) = (self.uncertain, self.note.take(), sent.clone());
        let through = |send: Box<dyn FnOnce(CommandOutcome) + Send + Sync>| {
            Self::new(move |outcome| {
                // One without a receiver is delivered by its drop.
                let _delivered = sent.send(SentReply::new(outcome.result.is_ok(), move || send(outcome)));
            })
        };
        let mut reply = self.send.take().map_or(
            Self {
                uncertain,
                note: None,
                send: None,
            },
            through,
        );
        reply.uncertain = uncertain;
        reply.note = note;
        reply
    }

    /// The device was asked `attempts` times and may have carried the command out. From now on no error means that it
    /// did not.
    pub fn may_be_done(&mut self, attempts: u32) {
        self.uncertain += attempts;
    }

    /// Adds what a success does not show, such as what follows.
    pub fn note(&mut self, text: impl Into<String>) {
        let before = self.note.take().map_or_else(String::new, |before| before + "; ");
        self.note = Some(before + &text.into());
    }

    /// Sends the result.
    pub fn send(mut self, result: CommandResult) {
        self.send_once(result);
    }

    /// Sends the result before the work ends, because the time to live is over. What comes of it later is not sent.
    pub fn send_early(&mut self, result: CommandResult) {
        self.send_once(result);
    }

    /// Whether it was sent early.
    pub fn is_sent(&self) -> bool {
        self.send.is_none()
    }

    /// Sends one result for several outlets; see [`CommandOutcome::of_members`].
    pub fn send_members(mut self, members: Vec<MemberResult>) {
        if let Some(send) = self.send.take() {
            send(CommandOutcome {
                note: self.note.take(),
                ..CommandOutcome::of_members(members)
            });
        }
    }

    /// A reply for each member of a group. When the last of them is sent, this one is, with all results in the order of
    /// `members`.
    pub fn split(self, members: Vec<OutletPath>) -> Vec<(OutletPath, Self)> {
        if members.is_empty() {
            self.send_members(Vec::new());
            return Vec::new();
        }
        let waiting = members.len();
        // Never held over an await: the members' replies are sent by different tasks.
        let group = Arc::new(Mutex::new(GroupReply {
            whole: Some(self),
            results: members.iter().map(|path| (path.clone(), None)).collect(),
            waiting,
        }));
        let member = |(index, path): (usize, OutletPath)| {
            let group = group.clone();
            let reply = Self::new(move |outcome| {
                let mut group = group.lock().unwrap_or_else(PoisonError::into_inner);
                group.take(index, outcome.result);
            });
            (path, reply)
        };
        members.into_iter().enumerate().map(member).collect()
    }

    /// Replies for two commands that are carried out one after the other in place of one. This one is sent when both are:
    /// with the error of the first, else as the second.
    pub fn in_turn(self) -> (Self, Self) {
        // Never held over an await: the device's worker sends both.
        let pair = Arc::new(Mutex::new(ReplyPair {
            whole: Some(self),
            first: None,
            second: None,
        }));
        let lock = |pair: &Mutex<ReplyPair>, set: fn(&mut ReplyPair, CommandOutcome), outcome| {
            let mut pair = pair.lock().unwrap_or_else(PoisonError::into_inner);
            set(&mut pair, outcome);
            pair.deliver();
        };
        let other = pair.clone();
        let first =
            Self::new(move |outcome| lock(&pair, |pair, outcome| pair.first = Some(outcome), outcome));
        let second =
            Self::new(move |outcome| lock(&other, |pair, outcome| pair.second = Some(outcome), outcome));
        (first, second)
    }

    fn send_once(&mut self, result: CommandResult) {
        if let Some(send) = self.send.take() {
            send(CommandOutcome {
                result: result.map_err(|error| error.after(self.uncertain)),
                members: Vec::new(),
                note: self.note.take(),
            });
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.send_once(Err(CommandError::bridge(
            ErrorCode::ShuttingDown,
            "the bridge is shutting down",
        )));
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("uncertain", &self.uncertain)
            .field("is_sent", &self.is_sent())
            .finish_non_exhaustive()
    }
}

/// The reply of a group, and the results of its members so far.
struct GroupReply {
    whole: Option<Reply>,
    results: Vec<(OutletPath, Option<CommandResult>)>,
    waiting: usize,
}

impl GroupReply {
    fn take(&mut self, index: usize, result: CommandResult) {
        if let Some((_, slot)) = self.results.get_mut(index) {
            *slot = Some(result);
        }
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0
            && let Some(whole) = self.whole.take()
        {
            let results = std::mem::take(&mut self.results);
            let all = results
                .into_iter()
                .filter_map(|(path, result)| Some((path, result?)));
            whole.send_members(all.collect());
        }
    }
}

/// A reply in two parts.
struct ReplyPair {
    whole: Option<Reply>,
    first: Option<CommandOutcome>,
    second: Option<CommandOutcome>,
}

impl ReplyPair {
    fn deliver(&mut self) {
        if self.first.is_none() || self.second.is_none() {
            return;
        }
        let failed = self.first.take().filter(|first| first.result.is_err());
        let outcome = failed.or(self.second.take());
        if let (Some(outcome), Some(send)) =
            (outcome, self.whole.as_mut().and_then(|whole| whole.send.take()))
        {
            send(outcome);
        }
    }
}

/// What a reply carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutcome {
    /// The result of the whole command.
    pub result: CommandResult,
    /// The result of each outlet, for a command to a group or to a strip whose outlets are in groups.
    pub members: Vec<MemberResult>,
    /// What the result does not show, for people.
    pub note: Option<String>,
}

/// Applied, or why not.
pub type CommandResult = Result<Applied, CommandError>;

/// The result of one outlet of several.
pub type MemberResult = (OutletPath, CommandResult);

impl CommandOutcome {
    /// One result for several outlets. It is an error if one of them failed: the code and the message of the first.
    pub fn of_members(members: Vec<MemberResult>) -> Self {
        Self {
            result: combined(&members),
            members,
            note: None,
        }
    }
}

fn combined(members: &[MemberResult]) -> CommandResult {
    let mut applied = Applied {
        outlets: Vec::new(),
        attempts: 1,
    };
    let mut failed = Vec::new();
    for (path, result) in members {
        match result {
            Ok(one) => {
                applied.outlets.extend(one.outlets.iter().cloned());
                applied.attempts = applied.attempts.max(one.attempts);
            }
            Err(error) => failed.push((path, error)),
        }
    }
    let Some((path, first)) = failed.first() else {
        return Ok(applied);
    };
    let message = match failed.len() {
        1 => format!("{path}: {}", first.message),
        several => format!(
            "{several} of {} outlets failed; {path}: {}",
            members.len(),
            first.message
        ),
    };
    let attempts = failed.iter().map(|(_, error)| error.attempts).max();
    Err(CommandError {
        code: first.code,
        message,
        attempts: attempts.unwrap_or(0),
    })
}

/// A command that was carried out: what the device reports afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The confirmed state of each outlet of the command.
    pub outlets: Vec<(OutletPath, Option<Power>)>,
    /// How many times the device was asked; 0 where no request was needed.
    pub attempts: u32,
}

impl Applied {
    /// Applied without a request to the device: an outlet in its known state.
    pub fn unasked(path: &OutletPath, power: Option<Power>) -> Self {
        Self {
            outlets: vec![(path.clone(), power)],
            attempts: 0,
        }
    }

    /// ON if any outlet is on, as the state of a strip; `None` if no state is known.
    pub fn power(&self) -> Option<Power> {
        self.outlets.iter().filter_map(|(_, power)| *power).max()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn reply() -> (Reply, mpsc::Receiver<CommandOutcome>) {
        let (outcomes, inbox) = mpsc::channel();
        (Reply::new(move |outcome| outcomes.send(outcome).unwrap()), inbox)
    }

    #[test]
    fn a_reply_is_sent_exactly_once() {
        let (first, inbox) = reply();
        first.send(Err(CommandError::superseded()));
        let code = |outcome: CommandOutcome| outcome.result.unwrap_err().code;
        assert_eq!(code(inbox.recv().unwrap()), ErrorCode::Superseded);
        assert!(inbox.recv().is_err());

        let (dropped, inbox) = reply();
        drop(dropped);
        assert_eq!(code(inbox.recv().unwrap()), ErrorCode::ShuttingDown);
        assert!(inbox.recv().is_err());
    }

    #[test]
    fn members_fail_together_and_each_has_its_result() {
        let path = |text: &str| text.parse::<OutletPath>().unwrap();
        let on = |text: &str| {
            let outlets = vec![(path(text), Some(Power::On))];
            (path(text), Ok(Applied { outlets, attempts: 2 }))
        };
        let (whole, inbox) = reply();
        whole.send_members(vec![on("mats/1"), on("lamp")]);
        let applied = inbox.recv().unwrap().result.unwrap();
        assert_eq!((applied.outlets.len(), applied.attempts), (2, 2));

        let failed = CommandError {
            attempts: 3,
            ..CommandError::bridge(ErrorCode::NoAnswer, "no answer")
        };
        let members = vec![on("mats/1"), (path("lamp"), Err(failed))];
        let (whole, inbox) = reply();
        whole.send_members(members.clone());
        let outcome = inbox.recv().unwrap();
        assert_eq!(outcome.members, members);
        let error = outcome.result.unwrap_err();
        assert_eq!((error.code, error.attempts), (ErrorCode::NoAnswer, 3));
        assert_eq!(error.message, "lamp: no answer");
    }

    #[test]
    fn a_split_reply_is_sent_with_the_last_of_its_members() {
        let path = |text: &str| text.parse::<OutletPath>().unwrap();
        let (whole, inbox) = reply();
        let mut parts = whole.split(vec![path("mats/1"), path("mats/2")]);
        let (second, second_reply) = parts.pop().unwrap();
        second_reply.send(Ok(Applied::unasked(&second, Some(Power::On))));
        assert!(inbox.try_recv().is_err());
        drop(parts);
        let outcome = inbox.recv().unwrap();
        let order: Vec<_> = outcome.members.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(order, ["mats/1", "mats/2"]);
        assert_eq!(outcome.result.unwrap_err().code, ErrorCode::ShuttingDown);
    }

    #[test]
    fn a_reply_in_turn_is_sent_once_both_parts_are() {
        let path = || "lamp".parse::<OutletPath>().unwrap();
        let on = || Ok(Applied::unasked(&path(), Some(Power::On)));
        let (whole, inbox) = reply();
        let (first, second) = whole.in_turn();
        second.send(on());
        assert!(inbox.try_recv().is_err());
        first.send(Ok(Applied::unasked(&path(), None)));
        assert_eq!(inbox.recv().unwrap().result, on());

        let (whole, inbox) = reply();
        let (first, second) = whole.in_turn();
        first.send(Err(CommandError::superseded()));
        second.send(on());
        assert_eq!(
            inbox.recv().unwrap().result.unwrap_err().code,
            ErrorCode::Superseded
        );

        let (whole, inbox) = reply();
        drop(whole.in_turn());
        assert_eq!(
            inbox.recv().unwrap().result.unwrap_err().code,
            ErrorCode::ShuttingDown
        );
    }

    #[test]
    fn what_may_be_done_is_never_reported_as_not_done() {
        for (code, expected) in [
            (ErrorCode::Expired, ErrorCode::NoAnswer),
            (ErrorCode::NotReady, ErrorCode::NoAnswer),
            (ErrorCode::Superseded, ErrorCode::Superseded),
        ] {
            let (mut asked, inbox) = reply();
            asked.may_be_done(2);
            asked.send(Err(CommandError::bridge(code, "late")));
            let error = inbox.recv().unwrap().result.unwrap_err();
            assert_eq!((error.code, error.attempts), (expected, 2));
        }
    }
}
