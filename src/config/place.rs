//! Where in the settings an item of a list is: its id and its line instead of its index.

use std::collections::BTreeMap;

use config::{Value, ValueKind};
use toml::de::{DeTable, DeValue};
use yaml_rust2::{
    Event,
    parser::{MarkedEventReceiver, Parser},
    scanner::Marker,
};

/// The line of each item of each list in a settings file, by its path, such as `device[1]`.
pub(super) type Lines = BTreeMap<String, usize>;

/// The lines of a TOML file that was parsed before.
pub(super) fn toml_lines(text: &str) -> Lines {
    let mut lines = Lines::new();
    if let Ok(root) = DeTable::parse(text) {
        table_lines(root.get_ref(), "", text, &mut lines);
    }
    lines
}

fn table_lines(table: &DeTable<'_>, path: &str, text: &str, lines: &mut Lines) {
    for (key, value) in table {
        let path = join(path, key.get_ref());
        match value.get_ref() {
            DeValue::Table(table) => table_lines(table, &path, text, lines),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    if let DeValue::Table(table) = item.get_ref() {
                        table_lines(table, &path, text, lines);
                    }
                    lines.insert(path, line_at(text, item.span().start));
                }
            }
            _ => {}
        }
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The lines of a YAML file that was parsed before.
pub(super) fn yaml_lines(text: &str) -> Lines {
    let mut reader = YamlReader::default();
    match Parser::new_from_str(text).load(&mut reader, false) {
        Ok(()) => reader.lines,
        Err(_) => Lines::new(),
    }
}

/// An open block of YAML.
#[derive(Debug)]
enum YamlBlock {
    /// The path of a mapping, and the key whose value comes next.
    Mapping(String, Option<String>),
    /// The path of a sequence, and the index of its next item.
    Sequence(String, usize),
}

#[derive(Debug, Default)]
struct YamlReader {
    open: Vec<YamlBlock>,
    lines: Lines,
}

impl YamlReader {
    /// The path of the node that begins here; `None` for a key of a mapping.
    fn node(&mut self, scalar: Option<&str>, line: usize) -> Option<String> {
        match self.open.last_mut() {
            None => Some(String::new()),
            Some(YamlBlock::Mapping(path, key)) => {
                if let Some(key) = key.take() {
                    return Some(join(path, &key));
                }
                *key = Some(scalar.unwrap_or_default().to_owned());
                None
            }
            Some(YamlBlock::Sequence(path, index)) => {
                let path = format!("{path}[{index}]");
                *index += 1;
                self.lines.insert(path.clone(), line);
                Some(path)
            }
        }
    }
}

impl MarkedEventReceiver for YamlReader {
    fn on_event(&mut self, event: Event, mark: Marker) {
        match event {
            Event::Scalar(text, ..) => drop(self.node(Some(&text), mark.line())),
            Event::Alias(_) => drop(self.node(None, mark.line())),
            Event::MappingStart(..) => {
                let path = self.node(None, mark.line()).unwrap_or_default();
                self.open.push(YamlBlock::Mapping(path, None));
            }
            Event::SequenceStart(..) => {
                let path = self.node(None, mark.line()).unwrap_or_default();
                self.open.push(YamlBlock::Sequence(path, 0));
            }
            Event::MappingEnd | Event::SequenceEnd => drop(self.open.pop()),
            _ => {}
        }
    }
}

/// The name of each table in a list, by its path: `device[1]` is `device "lamp" (line 13)`.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, String>);

impl Places {
    pub(super) fn new(root: &Value, lines: &Lines) -> Self {
        let mut places = Self::default();
        places.add(root, "", lines);
        places
    }

    fn add(&mut self, value: &Value, path: &str, lines: &Lines) {
        let ValueKind::Table(table) = &value.kind else {
            return;
        };
        for (key, value) in table {
            let path = join(path, key);
            let ValueKind::Array(items) = &value.kind else {
                self.add(value, &path, lines);
                continue;
            };
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                if let ValueKind::Table(fields) = &item.kind {
                    let id = fields.get("id").and_then(id_of);
                    let number = || fields.get("position").and_then(position_of).unwrap_or(index + 1);
                    let name = id.map_or_else(|| number().to_string(), |id| format!("\"{id}\""));
                    let line = lines.get(&path).map(|line| format!(" (line {line})"));
                    self.0
                        .insert(path.clone(), format!("{key} {name}{}", line.unwrap_or_default()));
                    self.add(item, &path, lines);
                }
            }
        }
    }

    /// The name of an item of a list, without the item that it is in.
    pub(super) fn item(&self, path: &str) -> String {
        self.0.get(path).cloned().unwrap_or_else(|| path.to_owned())
    }

    /// A path as text: `device "lamp" (line 13): address`.
    pub(super) fn as_text(&self, path: &str) -> String {
        let (mut walked, mut text) = (String::new(), String::new());
        let mut separator = "";
        for step in path.split('.') {
            walked = join(&walked, step);
            text.push_str(separator);
            if let Some(name) = self.0.get(&walked) {
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

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &Lines) -> Vec<(&str, usize)> {
        lines.iter().map(|(path, line)| (path.as_str(), *line)).collect()
    }

    #[test]
    fn items_of_toml_have_lines() {
        let text = "# x\n[[device]]\nid = 'a'\n\n[[device]]\noutlet = [\n  { position = 1 },\n  { position = 2 },\n]\n\
                    [[group]]\noutlets = ['a', 'b']\n[[group.schedule]]\ntext = '''\n[[device]]\n'''\n[[group.schedule]]\n";
        assert_eq!(
            lines(&toml_lines(text)),
            [
                ("device[0]", 2),
                ("device[1]", 5),
                ("device[1].outlet[0]", 7),
                ("device[1].outlet[1]", 8),
                ("group[0]", 10),
                ("group[0].outlets[0]", 11),
                ("group[0].outlets[1]", 11),
                ("group[0].schedule[0]", 12),
                ("group[0].schedule[1]", 16),
            ]
        );
        assert!(toml_lines("a = [").is_empty());
    }

    #[test]
    fn items_of_yaml_have_lines() {
        let text = "mqtt:\n  host: a\ndevice:\n- id: a\n- id: b\n  outlet:\n    - position: 1\n    -\n      position: 2\n\
                    group: [{id: c, outlets: [a]}]\n";
        assert_eq!(
            lines(&yaml_lines(text)),
            [
                ("device[0]", 4),
                ("device[1]", 5),
                ("device[1].outlet[0]", 7),
                ("device[1].outlet[1]", 9),
                ("group[0]", 10),
                ("group[0].outlets[0]", 10),
            ]
        );
        let aliased = "device: &x\n  - {id: a}\nother: *x\nlast:\n  - b\n";
        assert_eq!(lines(&yaml_lines(aliased)), [("device[0]", 2), ("last[0]", 5)]);
        assert!(yaml_lines("a: [").is_empty());
    }

    #[test]
    fn paths_are_ids_and_lines() {
        let json = serde_json::json!({
            "device": [{"id": "heater"}, {"id": "Not a slug"}],
            "group": [{"id": "warm", "outlets": ["a"], "schedule": [{"when": [{"sensor": "x"}]}]}],
        });
        let root: Value = serde_json::from_value(json).unwrap();
        let lines = [("device[0]".to_owned(), 3), ("group[0]".to_owned(), 9)].into();
        let places = Places::new(&root, &lines);
        for (path, text) in [
            ("mqtt.port", "mqtt.port"),
            ("device[0].address", "device \"heater\" (line 3): address"),
            ("device[1].id", "device 2: id"),
            ("group[0].outlets[0]", "group \"warm\" (line 9): outlets item 1"),
            (
                "group[0].schedule[0].when[0].sensor",
                "group \"warm\" (line 9): schedule 1: when 1: sensor",
            ),
            (
                "group[0].energy.standby.below",
                "group \"warm\" (line 9): energy.standby.below",
            ),
        ] {
            assert_eq!(places.as_text(path), text);
        }
        assert_eq!(places.item("device[0]"), "device \"heater\" (line 3)");
    }
}
