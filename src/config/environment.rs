//! Settings from environment variables.

use config::{Map, Value, ValueKind};

use super::problem::{Problem, cut};

/// Environment variables that start so are settings. Two underscores, because an orchestrator may set
/// variables such as `TAPO2MQTT_PORT` by itself for a service of that name.
pub const ENVIRONMENT_PREFIX: &str = "TAPO2MQTT__";

/// Sections that are lists of tables: from a file only.
const LISTS: [&str; 3] = ["device", "sensor", "group"];

/// What variables of other programs and of orchestrators start with too.
const SIMPLE_PREFIX: &str = "TAPO2MQTT_";

/// The sections that variables can set.
const SECTIONS: [&str; 10] = [
    "MQTT",
    "TAPO",
    "HOMEASSISTANT",
    "POLLING",
    "REPORT",
    "RETRY",
    "DISCOVERY",
    "LOG",
    "STATE",
    "LOCATION",
];

/// No key is deeper than this.
const DEPTH_MAX: usize = 4;

/// How the origin of a value from here begins.
const VARIABLE: &str = "environment variable ";

/// Whether a value with this origin came from the environment.
pub(super) fn is_origin(origin: &str) -> bool {
    origin.starts_with(VARIABLE)
}

/// The environment as a layer. Every value is a text; typed keys parse it.
pub(super) fn layer(environment: &[(String, String)], problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut root = Map::new();
    let mut variables: Vec<_> = environment.iter().collect();
    variables.sort();
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
            continue;
        };
        if value.is_empty() {
            continue;
        }
        let origin = format!("{VARIABLE}{}", cut(name));
        if value.contains(char::REPLACEMENT_CHARACTER) {
            problems.push(Problem {
                source: origin,
                path: String::new(),
                place: String::new(),
                value: None,
                message: "expected a value in UTF-8".to_owned(),
            });
            continue;
        }
        match variable_path(&origin, key) {
            Ok(path) => insert(&mut root, &path, &origin, value),
            Err(problem) => problems.push(problem),
        }
    }
    root
}

/// Variables that look like settings and are none, each with what to do about it. One underscore is not enough.
pub(super) fn ignored(environment: &[(String, String)]) -> Vec<String> {
    let mut found: Vec<String> = environment
        .iter()
        .filter_map(|(name, _)| {
            let key = name
                .strip_prefix(SIMPLE_PREFIX)
                .filter(|key| !key.starts_with('_'))?;
            let section = SECTIONS.iter().find_map(|section| {
                key.strip_prefix(section)?
                    .strip_prefix('_')
                    .map(|key| (section, key))
            });
            let (section, key) = section.filter(|(_, key)| !key.is_empty())?;
            let key = key.trim_start_matches('_');
            let right = format!("{ENVIRONMENT_PREFIX}{section}__{key}");
            Some(format!(
                "{} is ignored; two underscores make it a setting: {}",
                cut(name),
                cut(&right)
            ))
        })
        .collect();
    found.sort();
    found
}

/// The variables that are used instead of a key of `file`, each with that key. A password and the name of its file are
/// one key.
pub(super) fn overrides(
    environment: &[(String, String)],
    file: &Map<String, Value>,
    file_name: &str,
) -> Vec<String> {
    let set = environment.iter().filter(|(_, value)| !value.is_empty());
    let keys =
        set.filter_map(|(name, _)| Some((name, name.strip_prefix(ENVIRONMENT_PREFIX)?.to_lowercase())));
    let mut found: Vec<String> = keys
        .filter_map(|(name, key)| {
            let path = key.split("__").collect::<Vec<_>>();
            let (last, tables) = path.split_last()?;
            let table = tables
                .iter()
                .try_fold(file, |table, key| match &table.get(*key)?.kind {
                    ValueKind::Table(inner) => Some(inner),
                    _ => None,
                })?;
            let same = match *last {
                "password" => &["password", "password_file"][..],
                "password_file" => &["password_file", "password"],
                _ => std::slice::from_ref(last),
            };
            let key = same.iter().find(|key| table.contains_key(**key))?;
            let section = tables.join(".");
            Some(format!("{} overrides {section}.{key} of {file_name}", cut(name)))
        })
        .collect();
    found.sort();
    found
}

/// `MQTT__TLS__CA_FILE` is `mqtt.tls.ca_file`.
fn variable_path(origin: &str, key: &str) -> Result<Vec<String>, Problem> {
    let complain = |expected: String| Problem {
        source: origin.to_owned(),
        path: String::new(),
        place: String::new(),
        value: None,
        message: format!("expected {expected}"),
    };
    let lower = key.to_lowercase();
    let path: Vec<String> = lower.split("__").map(str::to_owned).collect();
    if let Some(list) = path.first().filter(|section| LISTS.contains(&section.as_str())) {
        return Err(complain(format!(
            "{list} in the settings file: a list cannot come from the environment"
        )));
    }
    if !(2..=DEPTH_MAX).contains(&path.len()) || path.iter().any(String::is_empty) {
        return Err(complain(format!(
            "{ENVIRONMENT_PREFIX}SECTION__KEY, such as {ENVIRONMENT_PREFIX}MQTT__HOST"
        )));
    }
    if key != key.to_uppercase() {
        return Err(complain(format!(
            "the name in capitals: {ENVIRONMENT_PREFIX}{}",
            cut(&key.to_uppercase())
        )));
    }
    Ok(path)
}

/// Puts a text at the end of a path of tables. Where two variables disagree on whether a key is a table,
/// the reader of that key complains.
fn insert(table: &mut Map<String, Value>, path: &[String], origin: &String, text: &str) {
    let Some((key, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.insert(key.clone(), Value::new(Some(origin), text));
        return;
    }
    let mut inner = match table.remove(key).map(|value| value.kind) {
        Some(ValueKind::Table(inner)) => inner,
        _ => Map::new(),
    };
    insert(&mut inner, rest, origin, text);
    table.insert(key.clone(), Value::new(None, inner));
}
