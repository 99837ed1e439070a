//! `config/default.toml` is the documentation: complete, and true.

use std::collections::BTreeSet;

use ::config::{FileFormat, Format, Value, ValueKind};

use super::*;

/// Keys that stand for each other: the documentation is read once without the first ones, once without the others.
pub(super) const ALTERNATIVES: [&[&str]; 2] = [&["password", "hosts"], &["password_file", "host", "port"]];

/// The defaults with every commented key in effect. A key that is also set stays once, as the comment has it.
pub(super) fn uncommented(skip: &[&str]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in DEFAULTS.lines() {
        let example = line
            .strip_prefix('#')
            .filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        let Some(example) = example else {
            lines.push(line.to_owned());
            continue;
        };
        let key = example.split_once(" = ").map(|(key, _)| key);
        if key.is_some_and(|key| skip.contains(&key)) {
            continue;
        }
        let section = lines.iter().rposition(|line| line.starts_with('[')).unwrap_or(0);
        let set = |line: &String| key.is_some_and(|key| line.starts_with(&format!("{key} = ")));
        if let Some(earlier) = lines.iter().skip(section).position(set) {
            lines.remove(section + earlier);
        }
        lines.push(example.to_owned());
    }
    lines.retain(|line| !skip.iter().any(|skip| line.starts_with(&format!("{skip} = "))));
    lines.join("\n")
}

/// A certificate that signed itself, and its key.
pub(super) const CERTIFICATE: &str = include_str!("tls.pem");

/// The smallest calendar.
pub(super) const HOLIDAYS: &str =
    "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20260101\nEND:VEVENT\nEND:VCALENDAR\n";

/// A home with the files that the documentation names.
pub(super) fn documented(content: &str) -> Home {
    [
        "mqtt-password",
        "tapo-password",
        "heater-password",
        "web-password",
        "metrics-password",
        "notify-token",
        "mail-password",
    ]
    .into_iter()
    .fold(Home::toml(content), |home, file| home.with_file(file, "content"))
    .with_file("ca.pem", CERTIFICATE)
    .with_file("client.pem", CERTIFICATE)
    .with_file("client.key", CERTIFICATE)
    .with_file("holidays.ics", HOLIDAYS)
    .with_file("notify-url", "https://example.com/hook")
}

#[test]
fn every_documented_key_loads() {
    for skip in ALTERNATIVES {
        let home = documented(
            &uncommented(skip)
                .replace("you@example.com", "me@mail.org")
                .replace("\"...\"", "\"pw\""),
        );
        let settings = home
            .load()
            .unwrap_or_else(|problems| panic!("without {skip:?}: {problems}"));
        assert_eq!(settings.devices[0].outlets[0].key.as_str(), "left");
        assert!(settings.tapo.credentials.is_some() && settings.mqtt.tls.is_some());
    }
}

/// Adds an unknown key to every table: the problem it causes lists the keys that are known there.
pub(super) fn add_unknown(value: &mut Value) {
    match &mut value.kind {
        ValueKind::Table(table) => {
            table.values_mut().for_each(add_unknown);
            table.insert("zzz".to_owned(), Value::new(None, 1));
        }
        ValueKind::Array(list) => list.iter_mut().for_each(add_unknown),
        _ => {}
    }
}

/// All keys below a value, with every list as `[]`: each item may show another choice.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match &value.kind {
        ValueKind::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                keys(value, &path, found);
                found.insert(path);
            }
        }
        ValueKind::Array(list) => {
            for value in list {
                keys(value, &format!("{path}[]"), found);
            }
        }
        _ => {}
    }
}

/// `device[0].id` as `device[].id`.
pub(super) fn without_indexes(path: &str) -> String {
    let mut within = false;
    let keep = |c: &char| {
        within = *c == '[' || (within && *c != ']');
        !within || *c == '['
    };
    path.chars().filter(keep).collect()
}

#[test]
fn every_known_key_is_documented() {
    let documented: Vec<Value> = ALTERNATIVES
        .map(|skip| Value::new(None, FileFormat::Toml.parse(None, &uncommented(skip)).unwrap()))
        .to_vec();
    let mut written = BTreeSet::new();
    for value in &documented {
        keys(value, "", &mut written);
    }

    let mut probed = documented[0].clone();
    add_unknown(&mut probed);
    let report = Report::new(String::new(), Vec::new(), Places::default(), Language::Toml);
    drop(report.read(&probed, |root| read(root, &Sources::default())));
    let mut known = BTreeSet::new();
    for problem in report.into_problems() {
        let (Some(table), Some(list)) = (
            problem.path.strip_suffix("zzz"),
            problem.message.strip_prefix("unknown key, expected one of "),
        ) else {
            continue;
        };
        known.extend(list.split(", ").map(|key| format!("{table}{key}")));
    }
    let known: BTreeSet<String> = known.iter().map(|path| without_indexes(path)).collect();
    assert!(known.len() > 30, "{known:?}");
    assert_eq!(known, written);
}

#[test]
fn every_example_loads() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let mut seen = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "ics") {
            continue;
        }
        let sources = Sources {
            file: Some(file),
            environment: Vec::new(),
        };
        let settings = load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(!settings.devices.is_empty() && settings.needs_setup());
        seen += 1;
    }
    assert!(seen >= 3);
}
