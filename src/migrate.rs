//! Settings of other programs, written as ours.

mod heattrax;
mod source;

use std::path::Path;

use serde_json::json;

use crate::config::{self, Problems};
use crate::domain::id_from_name::id_from_name;

/// Ids that topics have another use for.
const RESERVED: [&str; 2] = ["bridge", "group"];

/// Settings of another program as ours.
#[derive(Debug)]
pub struct Migrated {
    /// TOML, with every change of behavior as a comment in front.
    pub settings: String,
    /// What the file says and these settings do not. Nothing of it is switched: what depends on it is disabled or
    /// left out, with a comment there.
    pub losses: Vec<String>,
}

/// Reads a `config.yaml` of HeatTrax and writes it as our settings.
///
/// # Errors
/// If there is no such file, or it is not YAML.
pub fn heattrax(file: &Path) -> Result<Migrated, Problems> {
    Ok(heattrax::migrate(&config::foreign(file)?))
}

/// Our settings as they are being written, and what a person must know about them.
#[derive(Debug, Default)]
struct Draft {
    lines: Vec<String>,
    changes: Vec<String>,
    losses: Vec<String>,
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

    /// A comment at this place.
    fn comment(&mut self, text: &str) {
        self.lines.push(format!("# {}", one_line(text)));
    }

    /// A change of behavior; the same one again is listed once.
    fn change(&mut self, change: impl AsRef<str>) {
        let change = one_line(change.as_ref());
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    /// Something that could not be converted, and what was done instead.
    fn loss(&mut self, loss: impl AsRef<str>) {
        self.losses.push(one_line(loss.as_ref()));
    }

    /// Puts another one behind this one.
    fn append(&mut self, other: Self) {
        self.lines.extend(other.lines);
        other.changes.into_iter().for_each(|change| self.change(change));
        self.losses.extend(other.losses);
    }

    fn finish(self, title: &str) -> Migrated {
        let mut lines = vec![format!("# {title}"), "#".to_owned()];
        let item = |text: &String| format!("# - {text}");
        if !self.losses.is_empty() {
            lines.push("# Not converted, so disabled or left out. Correct each by hand:".to_owned());
            lines.extend(self.losses.iter().map(item));
            lines.push("#".to_owned());
        }
        lines.push("# What is different now:".to_owned());
        lines.extend(self.changes.iter().map(item));
        lines.extend(self.lines);
        Migrated {
            settings: lines.join("\n") + "\n",
            losses: self.losses,
        }
    }
}

/// Names come from the file, and a comment is one line.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// An id made from a name that none of `taken` has.
pub(crate) fn free_slug(name: &str, taken: &[String]) -> String {
    let mut base = id_from_name(name);
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
