//! Settings of other programs, written as ours.

mod heattrax;
mod source;

use std::path::Path;

use serde_json::json;

use crate::config::{self, Problems};
use planner::SLUG_MAX;

/// Ids that topics have another use for.
const RESERVED: [&str; 2] = ["bridge", "group"];

/// Reads a `config.yaml` of HeatTrax and writes it as our settings: TOML, with every change of behaviour as a
/// comment in front.
///
/// # Errors
/// If there is no such file, or it is not YAML.
pub fn heattrax(file: &Path) -> Result<String, Problems> {
    Ok(heattrax::migrate(&config::foreign(file)?))
}

/// Our settings as they are being written, and what a person must know about them.
#[derive(Debug, Default)]
struct Draft {
    lines: Vec<String>,
    changes: Vec<String>,
}

impl Draft {
    /// `[section]` or `[[section]]`, after an empty line.
    fn section(&mut self, header: &str) {
        self.lines.push(format!("\n{header}"));
    }

    /// A key with a value that TOML writes as JSON does: text, number, boolean, list of those.
    fn key(&mut self, key: &str, value: impl Into<serde_json::Value>) {
        self.lines.push(format!("{key} = {}", json!(value.into())));
    }

    /// A line as it is.
    fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    /// A change of behaviour; the same one again is listed once.
    fn change(&mut self, change: impl Into<String>) {
        // Names come from the file, and a comment is one line.
        let change = change.into().replace(char::is_control, " ");
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    fn finish(self, title: &str) -> String {
        let changes = self.changes.iter().map(|change| format!("# - {change}\n"));
        format!(
            "# {title}\n#\n# What is different now:\n{}{}\n",
            changes.collect::<String>(),
            self.lines.join("\n")
        )
    }
}

/// An id made from a name that none of `taken` has.
fn free_slug(name: &str, taken: &[String]) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let lower = name.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c| !allowed(c))
        .filter(|word| !word.is_empty())
        .collect();
    // Room for a number.
    let mut base: String = words.join("-").chars().take(SLUG_MAX - 4).collect();
    if base.is_empty() {
        "unnamed".clone_into(&mut base);
    }
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let free = |slug: &String| !taken.contains(slug) && !RESERVED.contains(&slug.as_str());
    std::iter::once(base.clone())
        .chain(numbered)
        .find(free)
        .unwrap_or(base)
}

#[cfg(test)]
mod tests;
