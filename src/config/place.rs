//! Where in the settings something is: its line, and the id of an item of a list instead of its index.

use std::collections::BTreeMap;

use config::{Value, ValueKind};
use toml::de::{DeTable, DeValue};

/// The line of each key and of each item of a list in a settings file, by its path, such as `device[1]`.
pub(super) type Lines = BTreeMap<String, usize>;

/// No path of a known key is longer, in bytes. A file could make the paths of its keys far longer than itself.
const PATH_MAX: usize = 256;

/// The lines of a TOML file that was parsed before.
pub(super) fn toml_lines(text: &str) -> Lines {
    let mut lines = Lines::new();
    if let Ok(root) = DeTable::parse(text) {
        // Looked up for each of perhaps a hundred thousand values.
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        table_lines(root.get_ref(), "", &ends, &mut lines);
    }
    lines
}

/// `ends` are the offsets of all line ends.
fn table_lines(table: &DeTable<'_>, path: &str, ends: &[usize], lines: &mut Lines) {
    for (key, value) in table {
        let Some(path) = join(path, key.get_ref()) else {
            continue;
        };
        lines.insert(path.clone(), line_at(ends, key.span().start));
        match value.get_ref() {
            DeValue::Table(table) => table_lines(table, &path, ends, lines),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    if let DeValue::Table(table) = item.get_ref() {
                        table_lines(table, &path, ends, lines);
                    }
                    lines.insert(path, line_at(ends, item.span().start));
                }
            }
            _ => {}
        }
    }
}

fn line_at(ends: &[usize], offset: usize) -> usize {
    1 + ends.partition_point(|end| *end < offset)
}

/// Where everything is.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The name of each table in a list, by its path: `device[1]` is `device "lamp"`.
    names: BTreeMap<String, String>,
    lines: Lines,
}

impl Places {
    pub(super) fn new(root: &Value, lines: Lines) -> Self {
        let mut places = Self {
            names: BTreeMap::new(),
            lines,
        };
        places.add(root, "");
        places
    }

    fn add(&mut self, value: &Value, path: &str) {
        let ValueKind::Table(table) = &value.kind else {
            return;
        };
        for (key, value) in table {
            let Some(path) = join(path, key) else {
                continue;
            };
            let ValueKind::Array(items) = &value.kind else {
                self.add(value, &path);
                continue;
            };
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                if let ValueKind::Table(fields) = &item.kind {
                    let id = fields.get("id").and_then(id_of);
                    let number = || fields.get("position").and_then(position_of).unwrap_or(index + 1);
                    let name = id.map_or_else(|| number().to_string(), |id| format!("\"{id}\""));
                    self.names.insert(path.clone(), format!("{key} {name}"));
                    self.add(item, &path);
                }
            }
        }
    }

    /// The name of an item of a list, without the item that it is in: `device "lamp" (line 13)`.
    pub(super) fn item(&self, path: &str) -> String {
        let name = self.names.get(path).map_or(path, String::as_str);
        format!("{name}{}", self.line_of(path))
    }

    /// The line of a path, or of what it is in: ` (line 13)`.
    pub(super) fn line_of(&self, path: &str) -> String {
        let mut path = Some(path);
        while let Some(here) = path {
            if let Some(line) = self.lines.get(here) {
                return format!(" (line {line})");
            }
            path = here.rsplit_once(['.', '[']).map(|(outer, _)| outer);
        }
        String::new()
    }

    /// A path as text: `device "lamp": address`.
    pub(super) fn as_text(&self, path: &str) -> String {
        let (mut walked, mut text) = (String::new(), String::new());
        let mut separator = "";
        for step in path.split('.') {
            if !walked.is_empty() {
                walked.push('.');
            }
            walked.push_str(step);
            text.push_str(separator);
            if let Some(name) = self.names.get(&walked) {
                text.push_str(name);
                separator = ": ";
            } else {
                text.push_str(&plain_item(step));
                separator = ".";
            }
        }
        text
    }
}

/// `outlets[1]`, an item that is no table, as `outlets item 2`.
fn plain_item(step: &str) -> String {
    let item = step.strip_suffix(']').and_then(|step| step.split_once('['));
    match item.and_then(|(list, index)| Some((list, index.parse::<usize>().ok()?))) {
        Some((list, index)) => format!("{list} item {}", index.saturating_add(1)),
        None => step.to_owned(),
    }
}

/// An id that can be shown. Anything else may be a secret in the wrong place.
fn id_of(value: &Value) -> Option<&str> {
    let ValueKind::String(id) = &value.kind else {
        return None;
    };
    let is_slug = |id: &str| {
        (1..=planner::SLUG_MAX).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
    };
    Some(id.as_str()).filter(|id| is_slug(id))
}

fn position_of(value: &Value) -> Option<usize> {
    match value.kind {
        ValueKind::I64(position) => usize::try_from(position).ok(),
        _ => None,
    }
}

/// `None` where that becomes too long to matter.
pub(super) fn join(path: &str, key: &str) -> Option<String> {
    if path.len() + key.len() >= PATH_MAX {
        None
    } else if path.is_empty() {
        Some(key.to_owned())
    } else {
        Some(format!("{path}.{key}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_items_of_toml_have_lines() {
        let text = "# x\n[[device]]\nid = 'a'\n\n[[device]]\noutlet = [\n  { position = 1 },\n  { position = 2 },\n]\n\
                    [[group]]\noutlets = ['a', 'b']\n[[group.schedule]]\ntext = '''\n[[device]]\n'''\n[[group.schedule]]\n";
        let lines = toml_lines(text);
        for (path, line) in [
            ("device[0]", 2),
            ("device[0].id", 3),
            ("device[1]", 5),
            ("device[1].outlet[0]", 7),
            ("device[1].outlet[1]", 8),
            ("device[1].outlet[1].position", 8),
            ("group[0]", 10),
            ("group[0].outlets", 11),
            ("group[0].outlets[1]", 11),
            ("group[0].schedule[0]", 12),
            ("group[0].schedule[0].text", 13),
            ("group[0].schedule[1]", 16),
        ] {
            assert_eq!(lines.get(path), Some(&line), "{path} in {lines:?}");
        }
        assert!(toml_lines("a = [").is_empty());
    }

    #[test]
    fn long_keys_do_not_multiply() {
        let key = "k".repeat(PATH_MAX);
        let items = "{a = 1},".repeat(1000);
        assert!(toml_lines(&format!("{key} = [{items}]")).is_empty());
        let item = Value::new(None, config::Map::<String, Value>::new());
        let table = config::Map::from_iter([(key, Value::new(None, vec![item]))]);
        assert!(
            Places::new(&Value::new(None, table), Lines::new())
                .names
                .is_empty()
        );
    }

    #[test]
    fn paths_are_ids_and_lines() {
        let json = serde_json::json!({
            "device": [{"id": "heater"}, {"id": "Not a slug"}],
            "group": [{"id": "warm", "outlets": ["a"], "schedule": [{"when": [{"sensor": "x"}]}]}],
        });
        let root: Value = serde_json::from_value(json).unwrap();
        let lines = [("device[0]", 3), ("device[0].address", 5), ("group[0]", 9)];
        let lines = lines.map(|(path, line)| (path.to_owned(), line)).into();
        let places = Places::new(&root, lines);
        for (path, text) in [
            ("mqtt.port", "mqtt.port"),
            ("device[0].address", "device \"heater\": address (line 5)"),
            ("device[0].name", "device \"heater\": name (line 3)"),
            ("device[1].id", "device 2: id"),
            ("group[0].outlets[0]", "group \"warm\": outlets item 1 (line 9)"),
            (
                "group[0].schedule[0].when[0].sensor",
                "group \"warm\": schedule 1: when 1: sensor (line 9)",
            ),
            (
                "group[0].energy.standby.below",
                "group \"warm\": energy.standby.below (line 9)",
            ),
        ] {
            assert_eq!(places.as_text(path) + &places.line_of(path), text);
        }
        assert_eq!(places.item("device[0]"), "device \"heater\" (line 3)");
        assert_eq!(places.as_text("device[0].address"), "device \"heater\": address");
    }
}
