//! What is in the file.

use std::{
    collections::BTreeMap,
    io::{Cursor, Write as _},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{private_texts::learn_from, redactor::Redactor};
use crate::config::{Problem, Problems, Settings, UNKNOWN_KEY};

/// Largest file, in bytes: one that a response to a request can carry, and an issue can take.
const ZIP_MAX: usize = 180 * 1024;
/// Longest list or table in it.
const ENTRIES_MAX: usize = 2000;
/// The file inside that is a text. The others are JSON.
const LOG: &str = "log.txt";
/// The file inside of settings that cannot be used.
const PROBLEMS: &str = "problems.json";

/// What is collected, and what of it is private.
#[derive(Debug)]
pub struct Diagnostics {
    redactor: Redactor,
    files: BTreeMap<&'static str, Value>,
}

impl Diagnostics {
    /// Begins with the settings, without secrets. `source` says where the rest comes from.
    pub fn new(settings: &Settings, source: &str, now: Timestamp) -> Self {
        let mut redactor = Redactor::default();
        learn_from(settings, &mut redactor);
        Self {
            redactor,
            files: [about(source, now)].into(),
        }
        .with("settings.json", settings.digest())
    }

    /// Of settings that cannot be used: what is wrong with them. `texts` are those that the user set. Without valid settings
    /// nothing says which of them are private, so all are.
    pub fn of_problems(problems: &Problems, texts: &[String], now: Timestamp) -> Self {
        let mut redactor = Redactor::default();
        redactor.learn_words("text", texts.iter().map(String::as_str));
        let problem = |problem: &Problem| {
            let path = problem.path.as_str();
            // A password may stand where a key belongs.
            let is_unknown = problem.message.starts_with(UNKNOWN_KEY);
            let key = if is_unknown {
                path.rsplit_once('.').map_or("", |(table, _)| table)
            } else {
                path
            };
            let (message, hint) = without_hint(&problem.message);
            // What is expected is ours, also where the user wrote the same somewhere.
            let message = redactor.text(&without_names(message)) + hint;
            json!({ "key": redactor.text(key), "message": message })
        };
        let shown = problems.0.iter().map(problem).collect();
        Self {
            redactor,
            files: [about("settings that cannot be used", now)].into(),
        }
        .with(PROBLEMS, shown)
    }

    /// Adds a file.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.files.insert(name, value);
        self
    }

    /// Adds the lines of the log, the newest last.
    #[must_use]
    pub fn with_log(self, mut lines: Vec<String>) -> Self {
        // The oldest give way.
        lines.reverse();
        self.with(LOG, Value::from(lines))
    }

    /// The file. What is private in one part of it is in none.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn into_zip(mut self) -> Result<Vec<u8>, String> {
        for value in self.files.values() {
            self.redactor.learn_values(value);
        }
        let mut files: BTreeMap<&str, Value> = BTreeMap::new();
        let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, value) in &mut self.files {
            let dropped = keep_first(value, ENTRIES_MAX);
            if dropped > 0 {
                left_out.insert(name, dropped);
            }
            let shown = match *name {
                // Without anything private from the start.
                PROBLEMS => value.clone(),
                _ => self.redactor.json(name, value),
            };
            files.insert(name, shown);
        }
        loop {
            if let Some(Value::Object(about)) = files.get_mut("about.json") {
                about.insert("left_out".to_owned(), json!(left_out));
            }
            let zip = packed(&files).map_err(|error| error.to_string())?;
            if zip.len() <= ZIP_MAX {
                return Ok(zip);
            }
            // What is longest gives way, and says so.
            let longest = files.iter_mut().max_by_key(|(_, value)| length_of(value));
            let Some((name, value)) = longest.filter(|(_, value)| length_of(value) > 1) else {
                return Err(format!("the file has more than {ZIP_MAX} bytes"));
            };
            let dropped = keep_first(value, length_of(value) / 2);
            *left_out.entry(name).or_default() += dropped;
        }
    }
}

fn about(source: &str, now: Timestamp) -> (&'static str, Value) {
    let about = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "system": std::env::consts::OS,
        "machine": std::env::consts::ARCH,
        "made_at": now,
        "source": source,
    });
    ("about.json", about)
}

/// A message up to its examples or its list of words, which nothing of the user is in, and those.
fn without_hint(message: &str) -> (&str, &str) {
    let starts = ["expected one of ", "such as \"", "such as [\""];
    let found = starts.iter().filter_map(|start| message.find(start)).min();
    // Behind an open quote it is a text of the user.
    let is_ours = |at: &usize| message.bytes().take(*at).filter(|byte| *byte == b'"').count() % 2 == 0;
    message.split_at(found.filter(is_ours).unwrap_or(message.len()))
}

/// A problem quotes what the user wrote, and may cut it. It may list ids, also of devices that the settings do not have.
fn without_names(message: &str) -> String {
    let message = message.split(", one of ").next().unwrap_or_default();
    let parts = message.split('"').enumerate();
    let kept = parts.map(|(index, part)| if index % 2 == 0 { part } else { "\"…\"" });
    kept.collect()
}

fn length_of(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    }
}

/// Returns how many entries are left out.
fn keep_first(value: &mut Value, most: usize) -> usize {
    let before = length_of(value);
    match value {
        Value::Array(items) => items.truncate(most),
        Value::Object(fields) => {
            let keys: Vec<String> = fields.keys().skip(most).cloned().collect();
            for key in keys {
                fields.remove(&key);
            }
        }
        _ => {}
    }
    before - length_of(value)
}

fn packed(files: &BTreeMap<&str, Value>) -> zip::result::ZipResult<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, value) in files {
        let text = match value {
            Value::Array(lines) if *name == LOG => {
                let lines = lines.iter().filter_map(Value::as_str);
                lines.rev().flat_map(|line| [line, "\n"]).collect()
            }
            value => serde_json::to_string_pretty(value).unwrap_or_default(),
        };
        writer.start_file(*name, options)?;
        writer.write_all(text.as_bytes())?;
    }
    Ok(writer.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use test_inputs::unpacked;

    use super::*;
    use crate::config::{Sources, load_or};

    fn empty() -> Diagnostics {
        let settings = load_or(&Sources::default(), "").unwrap();
        Diagnostics::new(&settings, "a test", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn each_part_is_a_file() {
        let diagnostics = empty()
            .with("health.json", json!({ "state": "online" }))
            .with_log(vec!["first".to_owned(), "second".to_owned()]);
        let files = unpacked(diagnostics.into_zip().unwrap()).unwrap();
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["about.json", "health.json", "log.txt", "settings.json"]);
        assert_eq!(files["log.txt"], "first\nsecond\n");
        let about: Value = serde_json::from_str(&files["about.json"]).unwrap();
        assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(about["left_out"], json!({}));
    }

    #[test]
    fn settings_with_mistakes_are_told_without_what_they_say() {
        let text = "[tapo]\nhunter2 = 'x'\nusername = 'anna@example.org'\n[mqtt]\nhost = 'anna.lan!'\n\
                    [[group]]\nid = 'anna'\noutlets = ['annas-heater']\n";
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bridge.toml");
        std::fs::write(&file, text).unwrap();
        let sources = Sources {
            file: Some(file),
            environment: vec![("TAPO2MQTT__TAPO__PASSWORD".to_owned(), "hunter2".to_owned())],
        };
        let problems = load_or(&sources, "").unwrap_err();
        let texts = crate::config::texts(&sources);
        let diagnostics = Diagnostics::of_problems(&problems, &texts, Timestamp::UNIX_EPOCH);
        let files = unpacked(diagnostics.into_zip().unwrap()).unwrap();
        let all: String = files.values().map(String::as_str).collect();
        assert!(!all.contains("anna") && !all.contains("hunter2"), "{all}");
        let found: Value = serde_json::from_str(&files["problems.json"]).unwrap();
        let keys: Vec<&Value> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|problem| &problem["key"])
            .collect();
        assert_eq!(keys, ["mqtt.host", "tapo", "group[0].outlets[0]"], "{found}");
    }

    #[test]
    fn what_is_expected_is_told_whatever_the_settings_say() {
        let text = "[tapo]\nusername = 'such'\npassword = 'json'\n[[notify]]\nurl = 'http://duration.lan'\n\
                    format = 'jsonn'\nafter = 'heater'\n[[device]]\nid = 'heater'\naddress = '192.168.1.5'\n\
                    [[group]]\nid = 'g'\noutlets = []\n";
        let problems = load_or(&Sources::default(), text).unwrap_err();
        let texts = ["such", "json", "jsonn", "heater", "192.168.1.5", "g"].map(str::to_owned);
        let diagnostics = Diagnostics::of_problems(&problems, &texts, Timestamp::UNIX_EPOCH);
        let files = unpacked(diagnostics.into_zip().unwrap()).unwrap();
        let found: Value = serde_json::from_str(&files["problems.json"]).unwrap();
        let messages = found
            .as_array()
            .unwrap()
            .iter()
            .map(|problem| &problem["message"]);
        let messages: Vec<&str> = messages.filter_map(Value::as_str).collect();
        let expected = [
            "expected one of json, ntfy, gotify, slack, discord",
            "expected a duration from 1s to 168h, such as \"1h30m\", \"45s\" or a number of seconds",
            "expected at least one outlet, such as [\"heater\", \"strip/1\"]",
        ];
        for expected in expected {
            assert!(messages.contains(&expected), "{expected}: {messages:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_says_what_is_left_out() {
        // Nothing that could be compressed.
        let message =
            |_| json!({ "message": (0..250).map(|_| rand::random_range('a'..='z')).collect::<String>() });
        let events: Vec<Value> = (0..3000).map(message).collect();
        let zip = empty().with("events.json", json!(events)).into_zip().unwrap();
        assert!(zip.len() <= ZIP_MAX, "{}", zip.len());
        let files = unpacked(zip).unwrap();
        let about: Value = serde_json::from_str(&files["about.json"]).unwrap();
        let kept: Vec<Value> = serde_json::from_str(&files["events.json"]).unwrap();
        assert_eq!(kept, events[..kept.len()]);
        assert_eq!(about["left_out"]["events.json"], 3000 - kept.len());
        assert!(kept.len() > 100);
    }
}
