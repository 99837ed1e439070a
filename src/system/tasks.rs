//! Every task and thread of the process: named; tasks are tracked and counted.
//!
//! Nothing is spawned outside this module (`clippy.toml` sees to it), so shutdown can wait for all of
//! it and health can name each task.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use serde::Serialize;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::task::TaskTracker;

/// What became of the tasks of one name since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TaskCounts {
    /// Spawned.
    pub started: u64,
    /// Ran to their end.
    pub finished: u64,
    /// Panicked.
    pub failed: u64,
    /// Dropped before their end.
    pub cancelled: u64,
}

impl TaskCounts {
    /// How many run now.
    pub fn running(self) -> u64 {
        self.started - self.finished - self.failed - self.cancelled
    }
}

type Ledger = Mutex<BTreeMap<Arc<str>, TaskCounts>>;

/// The tracker that every task is spawned on. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    ledger: Arc<Ledger>,
}

impl Tasks {
    /// Spawns a task under a name. Names are shared by tasks of one kind (`worker heater`), so that
    /// their count stays bounded.
    pub fn spawn<F>(&self, name: impl Into<Arc<str>>, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let mut entry = Entry {
            ledger: self.ledger.clone(),
            name: name.into(),
            ended: Ended::Cancelled,
        };
        entry.count(|counts| counts.started += 1);
        self.tracker.spawn(async move {
            let output = future.await;
            entry.ended = Ended::Finished;
            drop(entry);
            output
        })
    }

    /// The counts by name.
    pub fn counts(&self) -> BTreeMap<Arc<str>, TaskCounts> {
        lock(&self.ledger).clone()
    }

    /// Waits until every task ended, at most `budget`; returns the names of those that did not.
    pub async fn wait(&self, budget: Duration) -> Vec<Arc<str>> {
        self.tracker.close();
        if timeout(budget, self.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let running = |(name, counts): (Arc<str>, TaskCounts)| (counts.running() > 0).then_some(name);
        self.counts().into_iter().filter_map(running).collect()
    }
}

/// Starts a thread for work that blocks for as long as something outside the process takes. The end of the process does
/// not wait for it.
///
/// # Errors
/// The system has no thread left.
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map(drop)
}

enum Ended {
    Finished,
    Cancelled,
}

/// Lives as long as its task and books how the task ended.
struct Entry {
    ledger: Arc<Ledger>,
    name: Arc<str>,
    ended: Ended,
}

impl Entry {
    fn count(&self, change: impl FnOnce(&mut TaskCounts)) {
        change(lock(&self.ledger).entry(self.name.clone()).or_default());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.count(|counts| match self.ended {
            Ended::Finished => counts.finished += 1,
            Ended::Cancelled if std::thread::panicking() => counts.failed += 1,
            Ended::Cancelled => counts.cancelled += 1,
        });
    }
}

/// A panic while the lock is held can only come from an allocation failure; the counts stay usable.
fn lock(ledger: &Ledger) -> MutexGuard<'_, BTreeMap<Arc<str>, TaskCounts>> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_end_is_counted_by_name() {
        let tasks = Tasks::default();
        tasks.spawn("ends", async {}).await.unwrap();
        tasks
            .spawn("panics", async { panic!("on purpose") })
            .await
            .unwrap_err();
        let aborted = tasks.spawn("aborted", std::future::pending::<()>());
        aborted.abort();
        aborted.await.unwrap_err();

        let counts = tasks.counts();
        assert_eq!((counts["ends"].finished, counts["ends"].running()), (1, 0));
        assert_eq!((counts["panics"].failed, counts["panics"].running()), (1, 0));
        assert_eq!((counts["aborted"].cancelled, counts["aborted"].running()), (1, 0));
        assert!(tasks.wait(Duration::from_secs(1)).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_named() {
        let tasks = Tasks::default();
        let _stuck = tasks.spawn("stuck", std::future::pending::<()>());
        assert_eq!(tasks.wait(Duration::from_secs(1)).await, ["stuck".into()]);
    }
}
