//! Commands that wait for their answer, and answers that may be asked for again. Pure.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use serde::Serialize;
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{command::Transaction, state::json};
use crate::domain::{
    command::Target,
    command_error::{CommandError, ErrorCode, Origin},
    reply::{Applied, CommandOutcome, CommandResult, MemberResult, Reply},
};
use planner::{OutletKey, OutletPath, Power};

/// A repeated transaction within this time is not carried out again; it gets the same answer.
const TRANSACTION_MEMORY: Duration = Duration::from_mins(1);
/// Answers that are remembered at most, whatever somebody publishes.
const REMEMBERED: usize = 1000;

/// Tells pending commands apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PendingId(pub(super) u64);

/// The reply to a pending command.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) id: PendingId,
    pub(super) outcome: CommandResult,
    pub(super) members: Vec<MemberResult>,
}

impl Answered {
    fn together(id: PendingId, members: Vec<MemberResult>) -> Self {
        let CommandOutcome { result, members } = CommandOutcome::of_members(members);
        Self {
            id,
            outcome: result,
            members,
        }
    }

    /// A reply that arrives at `answers` under `id`.
    pub(super) fn reply(id: PendingId, answers: UnboundedSender<Answered>) -> Reply {
        Reply::new(move |CommandOutcome { result, members }| {
            let _stopped = answers.send(Self {
                id,
                outcome: result,
                members,
            });
        })
    }
}

/// The commands in flight and the answers given lately.
#[derive(Debug, Default)]
pub(super) struct Desk {
    next: u64,
    open: HashMap<PendingId, Open>,
    /// Members of a group that are read one by one, with the reply of the whole.
    parts: HashMap<PendingId, (PendingId, OutletPath)>,
    /// What those said that answered already, by the reply of the whole.
    heard: HashMap<PendingId, Vec<MemberResult>>,
    given: VecDeque<Given>,
}

/// What a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandKind {
    /// To switch.
    Switch,
    /// To read.
    Read,
    /// To restart the device.
    Reboot,
}

/// A command that waits for its answer.
#[derive(Debug, Clone)]
struct Open {
    target: Target,
    errand: CommandKind,
    transaction: Option<Transaction>,
    received: Instant,
}

#[derive(Debug)]
struct Given {
    target: Target,
    transaction: Transaction,
    response: String,
    at: Instant,
}

/// What to do with a command that just came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// New: carry it out under this reply.
    Carry(PendingId),
    /// The same command is being carried out; its answer will do for both.
    UnderWay,
    /// It was carried out: the answer again.
    Repeat(String),
}

/// A command's answer as it is published.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) target: Target,
    pub(super) errand: CommandKind,
    pub(super) json: String,
    /// Whether it must be published: always after a failure, on success if a transaction was given.
    pub(super) wanted: bool,
    pub(super) failed: bool,
}

impl Desk {
    /// How many commands wait.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes in a command, unless its transaction is known.
    pub(super) fn admit(
        &mut self,
        target: Target,
        errand: CommandKind,
        transaction: Option<Transaction>,
        now: Instant,
    ) -> Admitted {
        self.forget(now);
        if let Some(transaction) = &transaction {
            let same = |open: &Open| open.target == target && open.transaction.as_ref() == Some(transaction);
            if self.open.values().any(same) {
                return Admitted::UnderWay;
            }
            let given = self
                .given
                .iter()
                .find(|given| given.target == target && given.transaction == *transaction);
            if let Some(given) = given {
                return Admitted::Repeat(given.response.clone());
            }
        }
        let reply = self.next_ticket();
        self.open.insert(
            reply,
            Open {
                target,
                errand,
                transaction,
                received: now,
            },
        );
        Admitted::Carry(reply)
    }

    /// A reply for each outlet, whose answers together are the answer of `whole`.
    pub(super) fn split(
        &mut self,
        whole: PendingId,
        outlets: impl IntoIterator<Item = OutletPath>,
    ) -> Vec<(OutletPath, PendingId)> {
        let mut parts = Vec::new();
        for outlet in outlets {
            let part = self.next_ticket();
            self.parts.insert(part, (whole, outlet.clone()));
            parts.push((outlet, part));
        }
        parts
    }

    fn next_ticket(&mut self) -> PendingId {
        self.next += 1;
        PendingId(self.next)
    }

    /// Turns an answer into its response; `None` if nobody waits for it.
    ///
    /// `confirmed` tells what an outlet is known to be, for the answer of a failure.
    pub(super) fn answer(
        &mut self,
        answer: Answered,
        confirmed: impl Fn(&Target) -> Option<Power>,
        now: Instant,
    ) -> Option<Response> {
        let answer = self.complete(answer)?;
        let open = self.open.remove(&answer.id)?;
        let failed = answer.outcome.is_err();
        let json = response(&open, &answer, confirmed, now);
        let wanted = failed || open.transaction.is_some();
        if let Some(transaction) = open.transaction {
            self.given.push_back(Given {
                target: open.target.clone(),
                transaction,
                response: json.clone(),
                at: now,
            });
            if self.given.len() > REMEMBERED {
                self.given.pop_front();
            }
        }
        Some(Response {
            target: open.target,
            errand: open.errand,
            json,
            wanted,
            failed,
        })
    }

    /// The answer itself, or that of the whole once its last part answered.
    fn complete(&mut self, answer: Answered) -> Option<Answered> {
        let Some((whole, outlet)) = self.parts.remove(&answer.id) else {
            return Some(answer);
        };
        let heard = self.heard.entry(whole).or_default();
        heard.push((outlet, answer.outcome));
        if self.parts.values().any(|(other, _)| *other == whole) {
            return None;
        }
        let members = self.heard.remove(&whole)?;
        Some(Answered::together(whole, members))
    }

    /// What the commands that still wait are answered when nobody is left to carry them out.
    pub(super) fn abandon(&self) -> Vec<Answered> {
        let stopping = || {
            Err(CommandError::bridge(
                ErrorCode::ShuttingDown,
                "the bridge is shutting down",
            ))
        };
        self.open
            .keys()
            .map(|id| Answered {
                id: *id,
                outcome: stopping(),
                members: Vec::new(),
            })
            .collect()
    }

    fn forget(&mut self, now: Instant) {
        while self
            .given
            .front()
            .is_some_and(|given| now.duration_since(given.at) >= TRANSACTION_MEMORY)
        {
            self.given.pop_front();
        }
    }
}

/// A response to a command that was never admitted.
pub(super) fn rejection(transaction: Option<&Transaction>, code: &'static str, message: &str) -> String {
    let error = ErrorBody {
        code: WireCode::Payload(code),
        message,
        origin: Origin::Bridge,
    };
    json(&ResponseBody {
        transaction,
        error: Some(error),
        ..ResponseBody::new(Status::Error, None)
    })
}

/// A response to a command that asked nothing of an outlet, and was done.
pub(super) fn acceptance(transaction: Option<&Transaction>) -> String {
    json(&ResponseBody {
        transaction,
        ..ResponseBody::new(Status::Ok, None)
    })
}

fn response(
    open: &Open,
    answer: &Answered,
    confirmed: impl Fn(&Target) -> Option<Power>,
    now: Instant,
) -> String {
    let body = match &answer.outcome {
        Ok(done) => ResponseBody {
            outlets: outlets(&open.target, done),
            attempts: done.attempts,
            ..ResponseBody::new(Status::Ok, done.power())
        },
        Err(failure) => ResponseBody {
            error: Some(ErrorBody::of(failure)),
            attempts: failure.attempts,
            ..ResponseBody::new(Status::Error, confirmed(&open.target))
        },
    };
    json(&ResponseBody {
        members: members(&answer.members, confirmed),
        transaction: open.transaction.as_ref(),
        latency_ms: u64::try_from(now.duration_since(open.received).as_millis()).unwrap_or(u64::MAX),
        ..body
    })
}

/// The answers of a strip's outlets; a single outlet's is in `state` already, a group's are in `members`.
fn outlets<'a>(target: &Target, done: &'a Applied) -> Option<BTreeMap<&'a OutletKey, Option<Power>>> {
    let several = matches!(target, Target::Outlet(_)) && done.outlets.len() > 1;
    several.then(|| {
        let outlet = |(path, power): &'a (OutletPath, Option<Power>)| Some((path.outlet.as_ref()?, *power));
        done.outlets.iter().filter_map(outlet).collect()
    })
}

/// What became of each member of a group.
fn members(
    members: &[MemberResult],
    confirmed: impl Fn(&Target) -> Option<Power>,
) -> Option<BTreeMap<&OutletPath, MemberBody<'_>>> {
    let body = |(path, outcome): &'_ MemberResult| match outcome {
        Ok(done) => (Status::Ok, done.power()),
        Err(_) => (Status::Error, confirmed(&Target::Outlet(path.clone()))),
    };
    let all = members.iter().map(|member| {
        let (status, state) = body(member);
        let error = member.1.as_ref().err().map(ErrorBody::of);
        (&member.0, MemberBody { status, state, error })
    });
    (!members.is_empty()).then(|| all.collect())
}

#[derive(Serialize)]
struct ResponseBody<'a> {
    status: Status,
    state: Option<Power>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlets: Option<BTreeMap<&'a OutletKey, Option<Power>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<BTreeMap<&'a OutletPath, MemberBody<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<&'a Transaction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody<'a>>,
    latency_ms: u64,
    attempts: u32,
}

impl ResponseBody<'_> {
    fn new(status: Status, state: Option<Power>) -> Self {
        Self {
            status,
            state,
            outlets: None,
            members: None,
            transaction: None,
            error: None,
            latency_ms: 0,
            attempts: 0,
        }
    }
}

#[derive(Serialize)]
struct MemberBody<'a> {
    status: Status,
    state: Option<Power>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Error,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: WireCode,
    message: &'a str,
    origin: Origin,
}

impl<'a> ErrorBody<'a> {
    fn of(failure: &'a CommandError) -> Self {
        Self {
            code: WireCode::Command(failure.code),
            message: &failure.message,
            origin: failure.code.origin(),
        }
    }
}

/// The stable word: of what became of a command, or of what was wrong with its payload.
#[derive(Serialize)]
#[serde(untagged)]
enum WireCode {
    Command(ErrorCode),
    Payload(&'static str),
}

#[cfg(test)]
mod tests;
