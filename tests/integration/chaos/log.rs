//! Finds repeated lines in the program's log.

use std::collections::BTreeMap;

use crate::bridge::parsed;

/// Warnings and errors that repeat the line before about the same subject.
pub fn repeated(log: &str) -> Vec<String> {
    let mut last = BTreeMap::new();
    let mut repeated = Vec::new();
    for line in log.lines() {
        let entry = parsed(line);
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let subject = (text("device"), text("broker"));
        let content = (text("level"), text("message"), text("code"), text("reason"));
        // Each command that fails has its line.
        let warns = content.0 != "INFO" && !content.1.starts_with("command failed");
        if last.insert(subject, content.clone()) == Some(content) && warns {
            repeated.push(line.to_owned());
        }
    }
    repeated
}
