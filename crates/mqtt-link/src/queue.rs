//! One-shot messages that wait for a connection or for room in the in-flight window.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::Instant;

use crate::Topic;

/// Maximum number of messages. More than the replies to the largest accepted burst of commands; the limit in bytes
/// bounds memory.
pub(crate) const MAX_MESSAGES: usize = 16_000;
/// Maximum size of all payloads, in bytes.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// A message that is published once and expires.
#[derive(Debug)]
pub(crate) struct OneShot {
    pub(crate) topic: Topic,
    pub(crate) payload: Bytes,
    pub(crate) deadline: Instant,
    /// It was in flight when the broker closed the connection.
    pub(crate) suspect: bool,
}

/// A bounded queue that drops its oldest message when it is full.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    messages: VecDeque<OneShot>,
    bytes: usize,
    dropped: u64,
    expired: u64,
}

impl Queue {
    /// Appends a message.
    pub(crate) fn push(&mut self, message: OneShot) {
        self.bytes += message.payload.len();
        self.messages.push_back(message);
        self.enforce_limits();
    }

    /// Puts messages that were in flight back in front of the others, in their order.
    pub(crate) fn requeue(&mut self, messages: Vec<OneShot>) {
        for message in messages.into_iter().rev() {
            self.bytes += message.payload.len();
            self.messages.push_front(message);
        }
        self.enforce_limits();
    }

    /// Removes the oldest message that is not expired.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<OneShot> {
        while let Some(message) = self.pop_front() {
            if now < message.deadline {
                return Some(message);
            }
            self.expired += 1;
        }
        None
    }

    /// Whether the oldest message that is not expired is a suspect.
    pub(crate) fn is_suspect_next(&self, now: Instant) -> bool {
        let mut messages = self.messages.iter();
        messages
            .find(|message| now < message.deadline)
            .is_some_and(|message| message.suspect)
    }

    /// Counts a message that is not sent again.
    pub(crate) fn count_dropped(&mut self) {
        self.dropped += 1;
    }

    /// Number of messages, expired ones included.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Number of messages dropped because the queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Number of messages that expired.
    pub(crate) fn expired(&self) -> u64 {
        self.expired
    }

    fn pop_front(&mut self) -> Option<OneShot> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.payload.len();
        Some(message)
    }

    fn enforce_limits(&mut self) {
        while self.messages.len() > MAX_MESSAGES || self.bytes > MAX_BYTES {
            self.pop_front();
            self.dropped += 1;
        }
    }
}
