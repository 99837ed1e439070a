//! The responses to commands and requests, as JSON. Pure.

use std::collections::BTreeMap;

use planner::{OutletKey, OutletPath, Power};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    decode::Transaction,
    inbox::{CommandContext, ResponseTopic},
    publisher::state::json,
};
use crate::domain::{
    command::Target,
    command_error::{CommandError, ErrorCode, Origin},
    reply::{Applied, CommandOutcome, MemberResult},
    request_reply::RequestResult,
};

/// Largest response that is published, in bytes. Brokers drop the connection of a client that sends more than they
/// accept; common limits are 256 KiB and more.
pub(super) const RESPONSE_MAX: usize = 256 * 1024;

/// The response to a command. `confirmed` is the state that a target is known to have, for the response to a failure.
pub(super) fn of_command(
    context: &CommandContext,
    outcome: &CommandOutcome,
    confirmed: impl Fn(&Target) -> Option<Power>,
    now: Instant,
) -> String {
    let body = match &outcome.result {
        Ok(applied) => ResponseBody {
            outlets: outlets(&context.target, applied),
            attempts: applied.attempts,
            ..ResponseBody::new(Status::Ok, applied.power())
        },
        Err(error) => ResponseBody {
            error: Some(ErrorBody::of(error)),
            attempts: error.attempts,
            ..ResponseBody::new(Status::Error, confirmed(&context.target))
        },
    };
    json(&ResponseBody {
        members: members(&outcome.members, confirmed),
        note: outcome.note.as_deref(),
        transaction: context.transaction.as_ref(),
        latency_ms: context.latency_ms(now),
        ..body
    })
}

/// The response to a command that could not be decoded.
pub(super) fn of_refused_command(
    transaction: Option<&Transaction>,
    code: &'static str,
    message: &str,
) -> String {
    let error = ErrorBody {
        code: ResponseCode::Payload(code),
        message,
        origin: Origin::Bridge,
    };
    json(&ResponseBody {
        transaction,
        error: Some(error),
        ..ResponseBody::new(Status::Error, None)
    })
}

/// The response to a request. One that is too large to be published is replaced by the error `too_large`.
pub(super) fn of_request(
    responds_on: &ResponseTopic,
    transaction: Option<&Transaction>,
    result: &RequestResult,
) -> String {
    match (responds_on, result) {
        (ResponseTopic::Group(_), Ok(_)) => json(&ResponseBody {
            transaction,
            ..ResponseBody::new(Status::Ok, None)
        }),
        (ResponseTopic::Group(_), Err(error)) => {
            of_refused_command(transaction, error.code(), &error.to_string())
        }
        (ResponseTopic::Request(_), Err(error)) => {
            of_refused_request(transaction, error.code(), &error.to_string())
        }
        (ResponseTopic::Request(name), Ok(data)) => {
            let body = RequestBody {
                status: Status::Ok,
                data,
                error: None,
                transaction,
            };
            let response = json(&body);
            if response.len() <= RESPONSE_MAX {
                return response;
            }
            let message = format!(
                "the response has {} bytes, more than the {RESPONSE_MAX} that are published; {}",
                response.len(),
                how_to_ask_for_less(name.as_str())
            );
            of_refused_request(transaction, "too_large", &message)
        }
    }
}

/// The response to a request that could not be decoded.
pub(super) fn of_refused_request(transaction: Option<&Transaction>, code: &str, message: &str) -> String {
    json(&RequestBody {
        status: Status::Error,
        data: &Value::Null,
        error: Some(RequestErrorBody { code, message }),
        transaction,
    })
}

fn how_to_ask_for_less(request: &str) -> &'static str {
    match request {
        "plan" => "ask for one group, for fewer days, or page by page with \"page\"",
        "schedule/list" | "schedule/reset" => "ask for one group",
        "identify" => "ask for one name",
        _ => "see the retained topics instead",
    }
}

/// The states of the outlets that a command for a strip switched: not of one that a newer command replaced. That of a
/// single outlet is in `state`, those of a group are in `members`.
fn outlets<'a>(target: &Target, done: &'a Applied) -> Option<BTreeMap<&'a OutletKey, Option<Power>>> {
    let is_device = matches!(target, Target::Outlet(path) if path.outlet.is_none());
    let outlet = |(path, power): &'a (OutletPath, Option<Power>)| Some((path.outlet.as_ref()?, *power));
    let outlets: BTreeMap<_, _> = done.outlets.iter().filter_map(outlet).collect();
    (is_device && !outlets.is_empty()).then_some(outlets)
}

/// The result of each member of a group.
fn members(
    members: &[MemberResult],
    confirmed: impl Fn(&Target) -> Option<Power>,
) -> Option<BTreeMap<&OutletPath, MemberBody<'_>>> {
    let body = |(path, outcome): &'_ MemberResult| match outcome {
        Ok(applied) => (Status::Ok, applied.power()),
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
    note: Option<&'a str>,
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
            note: None,
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
    code: ResponseCode,
    message: &'a str,
    origin: Origin,
}

impl<'a> ErrorBody<'a> {
    fn of(error: &'a CommandError) -> Self {
        Self {
            code: ResponseCode::Command(error.code),
            message: &error.message,
            origin: error.code.origin(),
        }
    }
}

/// The stable code of a failed command, or of an invalid payload.
#[derive(Serialize)]
#[serde(untagged)]
enum ResponseCode {
    Command(ErrorCode),
    Payload(&'static str),
}

#[derive(Serialize)]
struct RequestBody<'a> {
    data: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RequestErrorBody<'a>>,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<&'a Transaction>,
}

#[derive(Serialize)]
struct RequestErrorBody<'a> {
    code: &'a str,
    message: &'a str,
}

#[cfg(test)]
mod tests;
