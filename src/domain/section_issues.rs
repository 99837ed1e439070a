//! What does not work of a section of the settings, from the tasks that know it to `bridge/health`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Each by its section: a listener that cannot listen, a calendar that cannot be read. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct SectionIssues(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl SectionIssues {
    /// What does not work of a section; `None` if all of it does.
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
