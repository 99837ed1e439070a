//! How notifications go out, for health.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;

/// One entry of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NotifyHealth {
    /// Notifications that were sent.
    pub sent: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Notifications that wait.
    pub waiting: usize,
    /// Notifications that were left out: too many waited, or for too long.
    pub left_out: u64,
    /// Since when every attempt failed, or missed a recipient; `null` if the last one reached all.
    pub failing_since: Option<Timestamp>,
    /// Why the last one failed.
    #[serde(skip)]
    pub error: Option<String>,
}

/// All entries by their ids. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct NotifyMetrics(Arc<Mutex<BTreeMap<String, NotifyHealth>>>);

impl NotifyMetrics {
    /// Changes an entry, which is made if there is none.
    pub fn update(&self, id: &str, change: impl FnOnce(&mut NotifyHealth)) {
        let mut entries = self.lock();
        match entries.get_mut(id) {
            Some(entry) => change(entry),
            None => change(entries.entry(id.to_owned()).or_default()),
        }
    }

    /// All of them.
    pub fn entries(&self) -> BTreeMap<String, NotifyHealth> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, NotifyHealth>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
