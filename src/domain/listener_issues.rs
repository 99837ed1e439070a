//! Why a listener does not listen, from the web servers to `bridge/health`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The listeners that cannot listen, by their section of the settings. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ListenerIssues(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl ListenerIssues {
    /// Why the listener of a section cannot listen; `None` if it does.
    pub fn set(&self, section: &'static str, issue: Option<String>) {
        let mut issues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match issue {
            Some(issue) => issues.insert(section, issue),
            None => issues.remove(section),
        };
    }

    /// All of them.
    pub fn list(&self) -> Vec<String> {
        let issues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        issues.values().cloned().collect()
    }
}
