//! Reads the program's log for lines that say again what was said.

use std::collections::BTreeSet;

use crate::bridge::parsed;

/// Warnings and errors that repeat an earlier one about the same thing although nothing was told to have changed
/// in between.
pub fn repeated(log: &str) -> Vec<String> {
    let mut told = BTreeSet::new();
    let mut repeated = Vec::new();
    for line in log.lines() {
        let entry = parsed(line);
        let message = entry["message"].as_str().unwrap_or(line).to_owned();
        let subject = entry["device"]
            .as_str()
            .or(entry["broker"].as_str())
            .unwrap_or_default()
            .to_owned();
        if entry["level"] == "INFO" {
            told.retain(|(about, _)| *about != subject);
        } else if !told.insert((subject, message)) {
            repeated.push(line.to_owned());
        }
    }
    repeated
}
