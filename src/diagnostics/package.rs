//! What is in the file.

use std::{
    collections::BTreeMap,
    io::{Cursor, Write as _},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{private_texts::learn_from, redactor::Redactor};
use crate::config::Settings;

/// Largest file, in bytes: one that a response to a request can carry, and an issue can take.
const ZIP_MAX: usize = 180 * 1024;
/// Longest list or table in it.
const ENTRIES_MAX: usize = 2000;
/// The file inside that is a text. The others are JSON.
const LOG: &str = "log.txt";

/// What is collected, and what of it is private.
#[derive(Debug)]
pub struct Diagnostics {
    redactor: Redactor,
    files: BTreeMap<&'static str, Value>,
}

impl Diagnostics {
    /// Begins with the settings, without secrets. `source` says where the rest comes from.
    pub fn new(settings: &Settings, source: &str, now: Timestamp) -> Self {
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "system": std::env::consts::OS,
            "machine": std::env::consts::ARCH,
            "made_at": now,
            "source": source,
        });
        let mut redactor = Redactor::default();
        learn_from(settings, &mut redactor);
        Self {
            redactor,
            files: [("about.json", about), ("settings.json", settings.digest())].into(),
        }
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
            files.insert(name, self.redactor.json(name, value));
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
    use std::io::Read as _;

    use super::*;
    use crate::config::{Sources, load_or};

    fn unpacked(zip: Vec<u8>) -> BTreeMap<String, String> {
        let mut archive = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
        let files = 0..archive.len();
        let file = |index| {
            let mut file = archive.by_index(index).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            (file.name().unwrap().into_owned(), text)
        };
        files.map(file).collect()
    }

    fn empty() -> Diagnostics {
        let settings = load_or(&Sources::default(), "").unwrap();
        Diagnostics::new(&settings, "a test", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn each_part_is_a_file() {
        let diagnostics = empty()
            .with("health.json", json!({ "state": "online" }))
            .with_log(vec!["first".to_owned(), "second".to_owned()]);
        let files = unpacked(diagnostics.into_zip().unwrap());
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["about.json", "health.json", "log.txt", "settings.json"]);
        assert_eq!(files["log.txt"], "first\nsecond\n");
        let about: Value = serde_json::from_str(&files["about.json"]).unwrap();
        assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(about["left_out"], json!({}));
    }

    #[test]
    fn a_file_that_is_too_large_says_what_is_left_out() {
        // Nothing that could be compressed.
        let message =
            |_| json!({ "message": (0..250).map(|_| rand::random_range('a'..='z')).collect::<String>() });
        let events: Vec<Value> = (0..3000).map(message).collect();
        let zip = empty().with("events.json", json!(events)).into_zip().unwrap();
        assert!(zip.len() <= ZIP_MAX, "{}", zip.len());
        let files = unpacked(zip);
        let about: Value = serde_json::from_str(&files["about.json"]).unwrap();
        let kept: Vec<Value> = serde_json::from_str(&files["events.json"]).unwrap();
        assert_eq!(kept, events[..kept.len()]);
        assert_eq!(about["left_out"]["events.json"], 3000 - kept.len());
        assert!(kept.len() > 100);
    }
}
