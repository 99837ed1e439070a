//! The figures of a run as a document, and where they come from.

use std::{fs, path::Path, process::Command};

use serde::Serialize;

use crate::figures::Book;

/// Below it a document is written again by each run.
const MARKER: &str = "<!-- scripts/bench --markdown writes everything below this line. -->";

/// The machine and the programs that were measured.
#[derive(Serialize)]
pub struct Origin {
    date: String,
    machine: String,
    bridge: &'static str,
    rustc: String,
    mosquitto: String,
    rounds: usize,
    /// The load average of a minute before the run and after it, which itself makes for 2 to 3.
    load_before: String,
    load_after: String,
}

impl Origin {
    pub fn new(rounds: usize) -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let threads = cpus.lines().filter(|line| line.starts_with("processor")).count();
        Self {
            date: said("date", &["+%Y-%m-%d"]),
            machine: format!("{threads} × {}", model.map_or("unknown", |(_, model)| model)),
            bridge: env!("CARGO_PKG_VERSION"),
            rustc: said("rustc", &["--version"]),
            mosquitto: said("mosquitto", &["-h"]),
            rounds,
            load_before: load(),
            load_after: String::new(),
        }
    }

    /// A round ended.
    pub fn renew_load(&mut self) {
        self.load_after = load();
    }
}

/// The first line of what a program says.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

#[derive(Serialize)]
struct Record<'a> {
    origin: &'a Origin,
    #[serde(flatten)]
    book: &'a Book,
}

pub fn write_json(file: &Path, origin: &Origin, book: &Book) {
    let text = serde_json::to_string_pretty(&Record { origin, book }).expect("figures are plain");
    fs::write(file, text + "\n").expect("the figures are written");
}

/// Replaces what is below the marker.
pub fn write_markdown(file: &Path, origin: &Origin, book: &Book) {
    let old = fs::read_to_string(file).expect("the document is there");
    fs::write(file, renewed(&old, &markdown(origin, book))).expect("the document is written");
}

pub fn markdown(origin: &Origin, book: &Book) -> String {
    let Origin {
        date,
        machine,
        bridge,
        rustc,
        mosquitto,
        rounds,
        load_before,
        load_after,
    } = origin;
    format!(
        "{date}, {rounds} rounds, tapo2mqtt {bridge}, {rustc}, {mosquitto}, {machine}; load average {load_before} before \
         the run, {load_after} at its end.\n\n{}",
        book.tables().trim_end()
    )
}

fn renewed(document: &str, below: &str) -> String {
    let above = document.split(MARKER).next().unwrap_or_default();
    format!("{}\n\n{MARKER}\n\n{below}\n", above.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_marker_is_replaced() {
        let first = renewed("# Title\n\nText.\n", "one");
        assert_eq!(first, format!("# Title\n\nText.\n\n{MARKER}\n\none\n"));
        assert_eq!(renewed(&first, "two"), first.replace("one", "two"));
    }
}
