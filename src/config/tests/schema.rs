//! `config/schema.json`: the settings for editors, made from what the readers expect.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use ::config::{FileFormat, Format, Value as Setting, ValueKind};
use serde_json::{Map, Value as Json, json};

use super::{
    documentation::{ALTERNATIVES, add_unknown, uncommented, without_indexes},
    outline::{is_up_to_date, outline},
    *,
};

/// A place in the settings: keys and indexes.
type Place = Vec<Step>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// All values that are no tables or lists, and all lists of plain values.
fn leaves(value: &Setting, place: &Place, found: &mut Vec<Place>) {
    let below = |step: Step| place.iter().cloned().chain([step]).collect::<Place>();
    match &value.kind {
        ValueKind::Table(table) => {
            for (key, value) in table {
                leaves(value, &below(Step::Key(key.clone())), found);
            }
        }
        ValueKind::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                leaves(value, &below(Step::Index(index)), found);
            }
        }
        _ => found.push(place.clone()),
    }
}

fn at<'a>(value: &'a mut Setting, place: &[Step]) -> &'a mut Setting {
    place
        .iter()
        .fold(value, |value, step| match (&mut value.kind, step) {
            (ValueKind::Table(table), Step::Key(key)) => table.get_mut(key).unwrap(),
            (ValueKind::Array(list), Step::Index(index)) => &mut list[*index],
            _ => unreachable!("{step:?}"),
        })
}

fn written(place: &[Step]) -> String {
    let part = |(depth, step): (usize, &Step)| match step {
        Step::Key(key) if depth == 0 => key.clone(),
        Step::Key(key) => format!(".{key}"),
        Step::Index(index) => format!("[{index}]"),
    };
    place.iter().enumerate().map(part).collect()
}

fn problems(settings: &Setting) -> Vec<Problem> {
    let report = Report::new(String::new(), Vec::new(), Places::default(), Language::Toml);
    drop(report.read(settings, |root| read(root, &Sources::default())));
    report.into_problems()
}

/// The error of the reader of a place for an invalid value.
fn expectation(settings: &Setting, place: &Place) -> Option<String> {
    let mut broken = settings.clone();
    at(&mut broken, place).kind = ValueKind::Nil;
    let path = written(place);
    let mut problems = problems(&broken).into_iter();
    problems
        .find(|problem| problem.path == path)
        .and_then(|problem| Some(problem.message.strip_prefix("expected ")?.to_owned()))
}

/// Whether a place in a list must be there.
fn is_required(settings: &Setting, place: &Place) -> bool {
    let mut fewer = settings.clone();
    let (Some(Step::Key(key)), Some(table)) = (place.last(), place.get(..place.len() - 1)) else {
        return false;
    };
    let ValueKind::Table(entries) = &mut at(&mut fewer, table).kind else {
        return false;
    };
    entries.remove(key);
    let path = written(place);
    let mut problems = problems(&fewer).into_iter();
    problems.any(|problem| problem.path == path && problem.message.starts_with("missing; "))
}

/// A range as the readers write it: `... from A to B`.
fn range(expected: &str) -> Option<(f64, f64)> {
    let (from, to) = expected.split_once(" from ")?.1.split_once(" to ")?;
    Some((from.parse().ok()?, to.split(' ').next()?.parse().ok()?))
}

/// The error texts of the readers as a schema.
fn type_of(expected: &str) -> Json {
    if expected.contains("a duration") {
        return json!({ "type": ["string", "number"] });
    }
    if let Some(words) = expected.strip_prefix("one of ") {
        return match words.split_once(" or 1 (Monday)") {
            Some((names, _)) => {
                let days: Vec<Json> = names
                    .split(", ")
                    .map(Json::from)
                    .chain((1..=7).map(Json::from))
                    .collect();
                json!({ "enum": days })
            }
            None => json!({ "enum": words.split(", ").collect::<Vec<_>>() }),
        };
    }
    let mut schema = if expected.starts_with("true") {
        json!({ "type": "boolean" })
    } else if expected.starts_with("a whole number") {
        json!({ "type": "integer" })
    } else if expected.starts_with("a number") {
        json!({ "type": "number" })
    } else {
        json!({ "type": "string" })
    };
    if let (Some((from, to)), true) = (range(expected), schema["type"] != "string") {
        schema["minimum"] = number(from);
        schema["maximum"] = number(to);
    }
    schema
}

/// Whole where it can be.
fn number(value: f64) -> Json {
    serde_json::from_str(&value.to_string()).unwrap()
}

/// Everything known about the settings, by path with every index as `[]`.
struct Facts {
    types: BTreeMap<String, Json>,
    required: BTreeSet<String>,
    descriptions: BTreeMap<String, String>,
    defaults: BTreeMap<String, Json>,
}

impl Facts {
    fn gather() -> Self {
        let mut facts = Self {
            types: BTreeMap::new(),
            required: BTreeSet::new(),
            descriptions: BTreeMap::new(),
            defaults: BTreeMap::new(),
        };
        for settings in documented() {
            let mut places = Vec::new();
            leaves(&settings, &Place::new(), &mut places);
            for place in places {
                let path = without_indexes(&written(&place));
                // Where the broken value changes what the table means, another block is used.
                if let Some(expected) = expectation(&settings, &place) {
                    facts
                        .types
                        .entry(path.clone())
                        .or_insert_with(|| type_of(&expected));
                }
                if path.contains("[].") && is_required(&settings, &place) {
                    facts.required.insert(path);
                }
            }
        }
        for section in outline() {
            let section_path = section.path();
            for key in &section.keys {
                let path = format!("{section_path}.{}", key.name);
                if key.in_effect {
                    let parsed = FileFormat::Toml
                        .parse(None, &format!("value = {}", key.value))
                        .unwrap();
                    let value: Json = parsed["value"].clone().try_deserialize().unwrap();
                    facts.defaults.insert(path.clone(), value);
                }
                facts.descriptions.insert(path, key.comment.clone());
            }
            facts.descriptions.insert(section_path, section.comment);
        }
        facts
    }

    /// The schema of the table at a path.
    fn table(&self, path: &str) -> Json {
        let inside = if path.is_empty() {
            String::new()
        } else {
            format!("{path}.")
        };
        let names: BTreeSet<String> = self
            .types
            .keys()
            .filter_map(|known| known.strip_prefix(&inside))
            .map(|rest| rest.split('.').next().unwrap_or(rest).to_owned())
            .collect();
        let mut properties = Map::new();
        for name in &names {
            let path = format!("{inside}{name}");
            properties.insert(name.trim_end_matches("[]").to_owned(), self.value(&path));
        }
        let required: Vec<&str> = names
            .iter()
            .filter(|name| self.required.contains(&format!("{inside}{name}")))
            .map(String::as_str)
            .collect();
        let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }

    fn value(&self, path: &str) -> Json {
        let is_table = self
            .types
            .keys()
            .any(|known| known.starts_with(&format!("{path}.")));
        let mut schema = match (self.types.get(path), is_table) {
            (Some(plain), true) => json!({ "anyOf": [plain, self.table(path)] }),
            (Some(plain), false) => plain.clone(),
            (None, _) => self.table(path),
        };
        if path.ends_with("[]") {
            schema = json!({ "type": "array", "items": schema });
        }
        let key = path.trim_end_matches("[]");
        let description = self.descriptions.get(path).or(self.descriptions.get(key));
        if let Some(description) = description.filter(|text| !text.is_empty()) {
            schema["description"] = json!(description);
        }
        if let Some(default) = self.defaults.get(path) {
            schema["default"] = default.clone();
        }
        schema
    }
}

/// The documented settings in all their variants, without files.
fn documented() -> Vec<Setting> {
    let parse = |content: &str| Setting::new(None, FileFormat::Toml.parse(None, content).unwrap());
    let variants = ALTERNATIVES.map(|skip| parse(&uncommented(skip)));
    variants.into_iter().chain([parse(DEFAULTS)]).collect()
}

static SCHEMA: LazyLock<Json> = LazyLock::new(|| {
    let mut schema = Facts::gather().table("");
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("Settings of tapo2mqtt");
    schema
});

/// Why a value does not match the schema, for the few keywords that this schema uses.
fn fault(value: &Json, schema: &Json, path: &str) -> Option<String> {
    if let Some(choices) = schema["anyOf"].as_array() {
        let none = choices.iter().all(|choice| fault(value, choice, path).is_some());
        return none.then(|| format!("{path} is none of {}", schema["anyOf"]));
    }
    if let Some(words) = schema["enum"].as_array() {
        return (!words.contains(value)).then(|| format!("{path} = {value} is not one of {words:?}"));
    }
    let is = |kind: &Json| match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        other => unreachable!("{other}"),
    };
    let kinds = schema["type"]
        .as_array()
        .map_or(vec![&schema["type"]], |kinds| kinds.iter().collect());
    if !kinds.into_iter().any(is) {
        return Some(format!("{path} = {value} is not {}", schema["type"]));
    }
    if let (Some(number), Some(least), Some(most)) = (
        value.as_f64(),
        schema["minimum"].as_f64(),
        schema["maximum"].as_f64(),
    ) && !(least..=most).contains(&number)
    {
        return Some(format!("{path} = {number} is not from {least} to {most}"));
    }
    if let Some(list) = value.as_array() {
        return list
            .iter()
            .find_map(|item| fault(item, &schema["items"], &format!("{path}[]")));
    }
    let table = value.as_object()?;
    let missing = schema["required"].as_array().into_iter().flatten();
    if let Some(key) = missing
        .filter_map(Json::as_str)
        .find(|key| !table.contains_key(*key))
    {
        return Some(format!("{path}.{key} is missing"));
    }
    table
        .iter()
        .find_map(|(key, value)| match schema["properties"].get(key) {
            Some(schema) => fault(value, schema, &format!("{path}.{key}")),
            None => Some(format!("{path}.{key} is unknown")),
        })
}

fn as_json(settings: &Setting) -> Json {
    settings.clone().try_deserialize().unwrap()
}

#[test]
fn the_schema_is_made_from_the_readers() {
    let text = serde_json::to_string_pretty(&*SCHEMA).unwrap() + "\n";
    is_up_to_date("config/schema.json", &text);
}

#[test]
fn the_schema_knows_kinds_ranges_words_and_what_is_needed() {
    let schema = &*SCHEMA;
    let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    assert_eq!(*at("/properties/mqtt/properties/port/maximum"), 65535);
    assert_eq!(*at("/properties/mqtt/properties/keep_alive/default"), "15s");
    assert_eq!(*at("/properties/mqtt/properties/tls/anyOf/0/type"), "boolean");
    assert_eq!(
        at("/properties/log/properties/level/enum")
            .as_array()
            .unwrap()
            .len(),
        5
    );
    assert_eq!(*at("/properties/device/items/required"), json!(["address", "id"]));
    let when = at("/properties/group/items/properties/schedule/items/properties/when/items/properties");
    assert_eq!(when["is"]["type"], "boolean");
    assert_eq!(when["black_ice"]["properties"]["temperature"]["type"], "string");
}

#[test]
fn defaults_and_examples_are_valid_and_an_unknown_key_is_not() {
    let schema = &*SCHEMA;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let files = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let examples = files.filter(|path| path.extension().unwrap() != "ics");
    let examples = examples.map(|path| {
        let format = if path.extension().unwrap() == "toml" {
            FileFormat::Toml
        } else {
            FileFormat::Yaml
        };
        Setting::new(
            None,
            format.parse(None, &fs::read_to_string(path).unwrap()).unwrap(),
        )
    });
    let mut tables = 0;
    for settings in documented().into_iter().chain(examples) {
        assert_eq!(fault(&as_json(&settings), schema, ""), None);
        // One table after the other gets an unknown key.
        let mut places = Vec::new();
        leaves(&settings, &Place::new(), &mut places);
        places.retain(|place| matches!(place.last(), Some(Step::Key(_))));
        for place in places {
            let mut misspelt = settings.clone();
            let table = at(&mut misspelt, &place[..place.len() - 1]);
            let ValueKind::Table(entries) = &mut table.kind else {
                unreachable!()
            };
            entries.insert("zzzzzzzz".to_owned(), Setting::new(None, 1));
            let fault = fault(&as_json(&misspelt), schema, "");
            assert!(fault.is_some(), "{place:?}");
            tables += 1;
        }
    }
    assert!(tables > 50);
    let mut everywhere = documented().remove(0);
    add_unknown(&mut everywhere);
    assert!(fault(&as_json(&everywhere), schema, "").is_some());
    let wrong = json!({ "mqtt": { "port": 70000 } });
    assert!(fault(&wrong, schema, "").unwrap().contains("65535"));
    assert!(fault(&json!({ "log": { "level": "loud" } }), schema, "").is_some());
    assert!(
        fault(&json!({ "device": [{ "id": "x" }] }), schema, "")
            .unwrap()
            .contains("address")
    );
}
