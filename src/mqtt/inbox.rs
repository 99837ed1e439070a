//! What comes back to the event loop from the replies that travel with commands and requests.

use std::sync::Arc;

use planner::GroupId;
use tokio::{sync::mpsc, time::Instant};

use super::{
    decode::{CommandPayload, Transaction},
    reply_to::ReplyTo,
};
use crate::domain::{
    command::{Action, Target},
    reply::{CommandOutcome, Reply},
    request_reply::{RequestReply, RequestResult},
    topics::RequestName,
};

/// The inbox of the event loop.
#[derive(Debug)]
pub(super) enum MqttMsg {
    /// The reply to a command.
    CommandDone(CommandContext, CommandOutcome),
    /// The reply to a request.
    RequestDone(RequestContext, RequestResult),
}

/// What the response to a command needs. It travels in the command's reply.
#[derive(Debug)]
pub(super) struct CommandContext {
    /// Distinguishes it from all others of this run.
    pub(super) number: u64,
    pub(super) target: Target,
    pub(super) payload: CommandPayload,
    pub(super) transaction: Option<Transaction>,
    pub(super) reply_to: ReplyTo,
    pub(super) received: Instant,
    /// Counts the command as open.
    pub(super) _open: OpenGuard,
}

impl CommandContext {
    /// Whether the command reads the state.
    pub(super) fn is_read(&self) -> bool {
        self.payload.action == Action::Read
    }

    /// The time since the command was received.
    pub(super) fn latency_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.received).as_millis()).unwrap_or(u64::MAX)
    }

    /// The reply of the command. It sends this context and the outcome to the event loop.
    pub(super) fn into_reply(self, inbox: mpsc::UnboundedSender<MqttMsg>) -> Reply {
        Reply::new(move |outcome| {
            // Fails only after the event loop ended.
            let _ended = inbox.send(MqttMsg::CommandDone(self, outcome));
        })
    }
}

/// What the response to a request needs. It travels in the request's reply.
#[derive(Debug)]
pub(super) struct RequestContext {
    pub(super) responds_on: ResponseTopic,
    pub(super) transaction: Option<Transaction>,
    pub(super) reply_to: ReplyTo,
    /// Counts the request as open.
    pub(super) _open: OpenGuard,
}

impl RequestContext {
    /// The reply of the request. It sends this context and the result to the event loop.
    pub(super) fn into_reply(self, inbox: mpsc::UnboundedSender<MqttMsg>) -> RequestReply {
        RequestReply::new(move |result| {
            // Fails only after the event loop ended.
            let _ended = inbox.send(MqttMsg::RequestDone(self, result));
        })
    }
}

/// Where a request gets its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ResponseTopic {
    /// The response topic of the request.
    Request(RequestName),
    /// The response topic of a group: its `set/schedule/<schedule>` is a request to the scheduler.
    Group(GroupId),
}

/// Counts the commands or requests that have no outcome yet.
#[derive(Debug, Default)]
pub(super) struct OpenCount(Arc<()>);

/// A command or request that has no outcome yet.
#[derive(Debug)]
pub(super) struct OpenGuard(#[expect(dead_code, reason = "it is counted, not read")] Arc<()>);

impl OpenCount {
    pub(super) fn open(&self) -> OpenGuard {
        OpenGuard(self.0.clone())
    }

    pub(super) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_open_until_its_context_is_gone() {
        let commands = OpenCount::default();
        let (first, second) = (commands.open(), commands.open());
        assert_eq!(commands.count(), 2);
        drop(first);
        assert_eq!(commands.count(), 1);
        drop(second);
        assert_eq!(commands.count(), 0);
    }
}
