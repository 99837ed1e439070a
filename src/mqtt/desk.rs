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
fn members(outlets: &[(OutletPath, Option<Power>)]) -> Option<HashMap<&OutletKey, Option<Power>>> {
    (outlets.len() > 1).then(|| {
        outlets
            .iter()
            .filter_map(|(path, power)| Some((path.outlet.as_ref()?, *power)))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::intent::{Done, Switch};

    const ON: Action = Action::Switch(Switch::To(Power::On));

    fn named(name: &str) -> Transaction {
        Transaction::Text(name.to_owned())
    }

    fn done(outlets: &[(Option<&str>, Power)]) -> Done {
        let outlet = |(key, power): &(Option<&str>, Power)| {
            let path = OutletPath {
                device: "mats".parse().unwrap(),
                outlet: key.map(|key| key.parse().unwrap()),
            };
            (path, Some(*power))
        };
        Done {
            outlets: outlets.iter().map(outlet).collect(),
            attempts: 1,
        }
    }

    fn carried(desk: &mut Desk, path: &str, transaction: Option<Transaction>, now: Instant) -> TicketId {
        match desk.admit(path.parse().unwrap(), ON, transaction, now) {
            Admission::Carry(id) => id,
            other => panic!("{other:?}"),
        }
    }

    fn parsed(response: &Response) -> Value {
        serde_json::from_str(&response.json).unwrap()
    }

    #[test]
    fn a_success_is_answered_only_if_a_transaction_asks_for_it() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let id = carried(&mut desk, "heater", None, now);
        let response = desk
            .answer(
                &Answer {
                    id,
                    outcome: Ok(done(&[(None, Power::On)])),
                    members: Vec::new(),
                },
                |_| None,
                now,
            )
            .unwrap();
        assert!(!response.wanted);
        let id = carried(&mut desk, "heater", Some(named("t1")), now);
        let later = now + Duration::from_millis(42);
        let response = desk
            .answer(
                &Answer {
                    id,
                    outcome: Ok(done(&[(None, Power::On)])),
                    members: Vec::new(),
                },
                |_| None,
                later,
            )
            .unwrap();
        assert!(response.wanted);
        let expected =
            json!({"status": "ok", "state": "ON", "transaction": "t1", "latency_ms": 42, "attempts": 1});
        assert_eq!(parsed(&response), expected);
    }

    #[test]
    fn a_failure_is_always_answered_with_what_is_known() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let id = carried(&mut desk, "heater", None, now);
        let outcome = Err(Failure::superseded());
        let response = desk
            .answer(
                &Answer {
                    id,
                    outcome,
                    members: Vec::new(),
                },
                |_| Some(Power::Off),
                now,
            )
            .unwrap();
        assert!(response.wanted && response.failed);
        let answer = parsed(&response);
        assert_eq!(
            (&answer["status"], &answer["state"]),
            (&json!("error"), &json!("OFF"))
        );
        assert_eq!(
            (&answer["error"]["code"], &answer["error"]["origin"]),
            (&json!("superseded"), &json!("bridge"))
        );
    }

    #[test]
    fn a_strip_answers_for_each_outlet() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let id = carried(&mut desk, "mats", Some(named("t")), now);
        let outcome = Ok(done(&[(Some("left"), Power::On), (Some("2"), Power::Off)]));
        let response = desk
            .answer(
                &Answer {
                    id,
                    outcome,
                    members: Vec::new(),
                },
                |_| None,
                now,
            )
            .unwrap();
        assert_eq!(parsed(&response)["outlets"], json!({"left": "ON", "2": "OFF"}));
    }

    #[test]
    fn a_repeated_transaction_is_not_carried_out_twice() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let path = || "heater".parse().unwrap();
        let id = carried(&mut desk, "heater", Some(named("t")), now);
        assert_eq!(desk.admit(path(), ON, Some(named("t")), now), Admission::UnderWay);
        let response = desk
            .answer(
                &Answer {
                    id,
                    outcome: Ok(done(&[(None, Power::On)])),
                    members: Vec::new(),
                },
                |_| None,
                now,
            )
            .unwrap();
        assert_eq!(
            desk.admit(path(), ON, Some(named("t")), now),
            Admission::Repeat(response.json)
        );
        let other = desk.admit("lamp".parse().unwrap(), ON, Some(named("t")), now);
        assert!(
            matches!(other, Admission::Carry(_)),
            "another outlet is another command"
        );
        let after = now + TRANSACTION_MEMORY;
        assert!(matches!(
            desk.admit(path(), ON, Some(named("t")), after),
            Admission::Carry(_)
        ));
    }

    #[test]
    fn nobody_is_answered_twice_and_everybody_once() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let id = carried(&mut desk, "heater", None, now);
        let answers = desk.abandon();
        assert_eq!(answers.len(), 1);
        assert!(desk.answer(&answers[0], |_| None, now).is_some());
        assert!(
            desk.answer(
                &Answer {
                    id,
                    outcome: Ok(done(&[])),
                    members: Vec::new(),
                },
                |_| None,
                now
            )
            .is_none()
        );
        assert_eq!(desk.len(), 0);
    }
}
