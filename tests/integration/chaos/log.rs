//! Reads the program's log for lines that say again what was said.

use std::collections::BTreeMap;

use crate::bridge::parsed;

/// Warnings and errors that say the same as the line before about the same thing.
pub fn repeated(log: &str) -> Vec<String> {
    let mut last = BTreeMap::new();
    let mut repeated = Vec::new();
    for line in log.lines() {
        let entry = parsed(line);
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let subject = (text("device"), text("broker"));
        let said = (text("level"), text("message"), text("code"), text("reason"));
        let warns = said.0 != "INFO";
        if last.insert(subject, said.clone()) == Some(said) && warns {
            repeated.push(line.to_owned());
        }
    }
    repeated
}
