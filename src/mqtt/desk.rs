//! Commands that wait for their answer, and answers that may be asked for again. Pure.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use super::{command::Transaction, state::json};
use crate::{
    intent::{Action, Answer, Code, Failure, Origin, Outcome, TicketId},
    model::{OutletKey, OutletPath, Power},
};

/// A repeated transaction within this time is not carried out again; it gets the same answer.
const TRANSACTION_MEMORY: Duration = Duration::from_mins(1);
/// Answers that are remembered at most, whatever somebody publishes.
const REMEMBERED: usize = 1000;

/// The commands in flight and the answers given lately.
#[derive(Debug, Default)]
pub(super) struct Desk {
    next: u64,
    open: HashMap<TicketId, Open>,
    given: VecDeque<Given>,
}

/// A command that waits for its answer.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) path: OutletPath,
    pub(super) action: Action,
    pub(super) transaction: Option<Transaction>,
    received: Instant,
}

#[derive(Debug)]
struct Given {
    path: OutletPath,
    transaction: Transaction,
    response: String,
    at: Instant,
}

/// What to do with a command that just came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// New: carry it out under this ticket.
    Carry(TicketId),
    /// The same command is being carried out; its answer will do for both.
    UnderWay,
    /// It was carried out: the answer again.
    Repeat(String),
}

/// A command's answer as it is published.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) path: OutletPath,
    pub(super) action: Action,
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
        path: OutletPath,
        action: Action,
        transaction: Option<Transaction>,
        now: Instant,
    ) -> Admission {
        self.forget(now);
        if let Some(transaction) = &transaction {
            let same = |open: &Open| open.path == path && open.transaction.as_ref() == Some(transaction);
            if self.open.values().any(same) {
                return Admission::UnderWay;
            }
            let given = self
                .given
                .iter()
                .find(|given| given.path == path && given.transaction == *transaction);
            if let Some(given) = given {
                return Admission::Repeat(given.response.clone());
            }
        }
        self.next += 1;
        let ticket = TicketId(self.next);
        self.open.insert(
            ticket,
            Open {
                path,
                action,
                transaction,
                received: now,
            },
        );
        Admission::Carry(ticket)
    }

    /// Turns an answer into its response; `None` if nobody waits for it.
    ///
    /// `confirmed` tells what an outlet is known to be, for the answer of a failure.
    pub(super) fn answer(
        &mut self,
        answer: &Answer,
        confirmed: impl FnOnce(&OutletPath) -> Option<Power>,
        now: Instant,
    ) -> Option<Response> {
        let open = self.open.remove(&answer.id)?;
        let failed = answer.outcome.is_err();
        let json = response(&open, &answer.outcome, confirmed, now);
        let wanted = failed || open.transaction.is_some();
        if let Some(transaction) = open.transaction {
            self.given.push_back(Given {
                path: open.path.clone(),
                transaction,
                response: json.clone(),
                at: now,
            });
            if self.given.len() > REMEMBERED {
                self.given.pop_front();
            }
        }
        Some(Response {
            path: open.path,
            action: open.action,
            json,
            wanted,
            failed,
        })
    }

    /// What the commands that still wait are answered when nobody is left to carry them out.
    pub(super) fn abandon(&self) -> Vec<Answer> {
        let stopping = || Err(Failure::bridge(Code::ShuttingDown, "the bridge is shutting down"));
        self.open
            .keys()
            .map(|id| Answer {
                id: *id,
                outcome: stopping(),
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
    let body = ResponseBody {
        status: Status::Error,
        state: None,
        outlets: None,
        transaction,
        error: Some(ErrorBody {
            code: ErrorCode::Command(code),
            message,
            origin: Origin::Bridge,
        }),
        latency_ms: 0,
        attempts: 0,
    };
    json(&body)
}

fn response(
    open: &Open,
    outcome: &Outcome,
    confirmed: impl FnOnce(&OutletPath) -> Option<Power>,
    now: Instant,
) -> String {
    let latency_ms = u64::try_from(now.duration_since(open.received).as_millis()).unwrap_or(u64::MAX);
    let transaction = open.transaction.as_ref();
    let body = match outcome {
        Ok(done) => ResponseBody {
            status: Status::Ok,
            state: done.power(),
            outlets: members(&done.outlets),
            transaction,
            error: None,
            latency_ms,
            attempts: done.attempts,
        },
        Err(failure) => ResponseBody {
            status: Status::Error,
            state: confirmed(&open.path),
            outlets: None,
            transaction,
            error: Some(ErrorBody {
                code: ErrorCode::Outcome(failure.code),
                message: &failure.message,
                origin: failure.code.origin(),
            }),
            latency_ms,
            attempts: failure.attempts,
        },
    };
    json(&body)
}

/// The answers of a strip's outlets; a single outlet's is in `state` already.
fn members(outlets: &[(Option<OutletKey>, Option<Power>)]) -> Option<HashMap<&OutletKey, Option<Power>>> {
    (outlets.len() > 1).then(|| {
        outlets
            .iter()
            .filter_map(|(key, power)| Some((key.as_ref()?, *power)))
            .collect()
    })
}

#[derive(Serialize)]
struct ResponseBody<'a> {
    status: Status,
    state: Option<Power>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlets: Option<HashMap<&'a OutletKey, Option<Power>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<&'a Transaction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody<'a>>,
    latency_ms: u64,
    attempts: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Error,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: ErrorCode,
    message: &'a str,
    origin: Origin,
}

/// The stable word: of what became of a command, or of what was wrong with its payload.
#[derive(Serialize)]
#[serde(untagged)]
enum ErrorCode {
    Outcome(Code),
    Command(&'static str),
}
