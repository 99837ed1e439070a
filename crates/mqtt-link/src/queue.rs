//! One-shot messages that wait for credit or a connection.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::Instant;

use super::Topic;

/// Messages that wait at most; a longer queue loses its oldest. Above what a flood of commands is answered with at
/// once: each of them is owed an answer. What bounds memory is the number of bytes.
pub(super) const LENGTH_MAX: usize = 16_000;
/// Bytes of payload that wait at most; a larger queue loses its oldest.
pub(super) const BYTES_MAX: usize = 4 << 20;

/// A message that is told once, and only while somebody cares.
#[derive(Debug)]
pub(super) struct OneShot {
    pub(super) topic: Topic,
    pub(super) payload: Bytes,
    pub(super) deadline: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<OneShot>,
    bytes: usize,
    dropped: u64,
    expired: u64,
}

impl Queue {
    /// Adds a message behind the others.
    pub(super) fn push(&mut self, message: OneShot) {
        self.bytes += message.payload.len();
        self.messages.push_back(message);
        self.bound();
    }

    /// Puts messages that were under way back before the others, in their order.
    pub(super) fn put_back(&mut self, messages: Vec<OneShot>) {
        for message in messages.into_iter().rev() {
            self.bytes += message.payload.len();
            self.messages.push_front(message);
        }
        self.bound();
    }

    /// The oldest message that is not past its deadline.
    pub(super) fn pop(&mut self, now: Instant) -> Option<OneShot> {
        while let Some(message) = self.pop_any() {
            if now < message.deadline {
                return Some(message);
            }
            self.expired += 1;
        }
        None
    }

    /// How many wait, expired ones included.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// How many were given up because too many waited.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many were given up because their time ran out.
    pub(super) fn expired(&self) -> u64 {
        self.expired
    }

    fn pop_any(&mut self) -> Option<OneShot> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.payload.len();
        Some(message)
    }

    fn bound(&mut self) {
        while self.messages.len() > LENGTH_MAX || self.bytes > BYTES_MAX {
            self.pop_any();
            self.dropped += 1;
        }
    }
}
