//! Replies that wait until what they say is in the state file.

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::PersistedScheduler;
use crate::{domain::sent_reply::SentReply, store::Section};

/// How long a reply waits for a slow disk.
const DISK_BUDGET: Duration = Duration::from_millis(250);

/// Replies in the order in which they were sent. What was answered `ok` outlives the process, whenever that ends.
#[derive(Debug, Default)]
pub(super) struct HeldReplies(VecDeque<HeldReply>);

#[derive(Debug)]
struct HeldReply {
    /// As many changes were made when it was sent.
    changes: u64,
    until: Instant,
    _reply: SentReply,
}

impl HeldReplies {
    /// Delivers a reply, or holds it back until what changed before it is written. One that reports a failure is not
    /// held back: nothing was done.
    pub(super) fn take(&mut self, reply: SentReply, persisted: &Section<PersistedScheduler>) {
        let changes = persisted.change_count();
        if reply.is_ok && !persisted.is_written(changes) {
            self.0.push_back(HeldReply {
                changes,
                until: Instant::now() + DISK_BUDGET,
                _reply: reply,
            });
        }
    }

    /// Waits until the first of them may go. May be dropped at any time without losing anything.
    pub(super) async fn ready(&self, persisted: &Section<PersistedScheduler>) {
        match self.0.front() {
            Some(first) => tokio::select! {
                () = persisted.written(first.changes) => {}
                () = sleep_until(first.until) => {}
            },
            None => std::future::pending().await,
        }
    }

    /// Delivers the first of them.
    pub(super) fn deliver_first(&mut self) {
        drop(self.0.pop_front());
    }
}
