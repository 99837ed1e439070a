//! How much of what changed is in the file.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

/// Counts the changes of all parts, and those that are in the file. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    changes: watch::Sender<u64>,
    written: watch::Sender<Written>,
    /// Something waits for a write.
    is_awaited: Arc<Notify>,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    changes: u64,
    /// The last write failed, or there is no file: waiting does not help.
    is_failing: bool,
}

/// Without a writer, nothing waits for one.
impl Default for Progress {
    fn default() -> Self {
        Self {
            changes: watch::Sender::new(0),
            written: watch::Sender::new(Written {
                changes: 0,
                is_failing: true,
            }),
            is_awaited: Arc::default(),
        }
    }
}

impl Progress {
    pub(super) fn on_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Notified of each change.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The first `changes` changes were written, or could not be.
    pub(super) fn on_write(&self, changes: u64, is_failing: bool) {
        self.written.send_modify(|written| {
            written.is_failing = is_failing;
            if !is_failing {
                written.changes = changes;
            }
        });
    }

    /// Resolves when something waits for a write.
    pub(super) async fn awaited(&self) {
        self.is_awaited.notified().await;
    }

    /// How many changes there were.
    pub(super) fn changes(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Whether the first `changes` changes are in the file, as far as there is one that can be written.
    pub(super) fn is_written(&self, changes: u64) -> bool {
        self.written.borrow().has(changes)
    }

    /// Waits for that.
    pub(super) async fn written(&self, changes: u64) {
        if !self.is_written(changes) {
            self.is_awaited.notify_one();
        }
        let mut progress = self.written.subscribe();
        // The sender is in this value.
        let _closed = progress.wait_for(|written| written.has(changes)).await;
    }
}

impl Written {
    fn has(&self, changes: u64) -> bool {
        self.is_failing || self.changes >= changes
    }
}
