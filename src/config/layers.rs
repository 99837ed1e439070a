//! The layers of settings: built-in defaults, the user's file, the environment.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use config::{Config, FileFormat, Format, Map, Source, Value, ValueKind};

use super::{
    app_layers, environment,
    place::{Lines, toml_lines},
    problem::{Problem, Problems},
    yaml::yaml_lines,
};
use crate::system::{MqttService, files};

/// The lowest layer, and the documentation of every key.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// The merge takes a top-level key for a path expression (`a.b[3]`). Under this one, keys are just keys.
const ROOT: &str = "settings";

const DEFAULTS_NAME: &str = "built-in defaults";

/// Largest settings file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The most values in a file, far more than a thousand devices need. Each takes some hundred bytes of memory.
pub(super) const VALUES_MAX: usize = 100_000;

/// Names of the settings file in the directories that are searched.
const NAMES: [&str; 3] = ["tapo2mqtt.toml", "tapo2mqtt.yaml", "tapo2mqtt.yml"];

/// Below the directories of XDG and of the system.
const DIRECTORY: &str = "tapo2mqtt";

/// Where settings come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The user's settings file, TOML or YAML by its extension. It must exist.
    pub file: Option<PathBuf>,
    /// The environment of the process. Only variables with
    /// [`ENVIRONMENT_PREFIX`](super::ENVIRONMENT_PREFIX) and `STATE_DIRECTORY`
    /// matter; an empty one counts as unset.
    pub environment: Vec<(String, String)>,
}

impl Sources {
    /// The settings file beside the environment of this process. Of variables that are not Unicode only those that are
    /// settings are kept, damaged as they are, so that they are reported.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let unicode = |(name, value): (OsString, OsString)| {
            let name = name.to_string_lossy().into_owned();
            let value = match value.into_string() {
                Err(damaged) if name.starts_with(environment::ENVIRONMENT_PREFIX) => {
                    damaged.to_string_lossy().into_owned()
                }
                value => value.ok()?,
            };
            Some((name, value))
        };
        Self {
            file,
            environment: std::env::vars_os().filter_map(unicode).collect(),
        }
    }

    /// With the first of the usual settings files, if none was named. Where there is none, one that cannot be looked at
    /// counts: its problem is reported, instead of a bridge that runs without it.
    #[must_use]
    pub fn or_usual(mut self) -> Self {
        if self.file.is_none() {
            let usual = self.usual_files();
            let found = |is: fn(&io::Result<bool>) -> bool| {
                usual.iter().find(|file| is(&files::exists(file))).cloned()
            };
            self.file = found(|seen| matches!(seen, Ok(true))).or_else(|| found(io::Result::is_err));
        }
        self
    }

    /// Where a settings file is looked for, the first one first.
    pub fn usual_files(&self) -> Vec<PathBuf> {
        let home = || Some(Path::new(self.variable("HOME")?).join(".config"));
        let personal = self.variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
        let personal = personal.map(|directory| directory.join(DIRECTORY));
        let system = Path::new("/etc").join(DIRECTORY);
        let directories = [Some(PathBuf::new()), personal, Some(system)];
        let in_directory = |directory: PathBuf| NAMES.map(|name| directory.join(name));
        directories.into_iter().flatten().flat_map(in_directory).collect()
    }

    /// The directory that relative paths in the settings start from: that of the settings file.
    pub(super) fn directory(&self) -> &Path {
        let parent = self.file.as_deref().and_then(Path::parent);
        parent.unwrap_or(Path::new(""))
    }

    /// A variable of the environment, unless it is empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    /// What to call the user's own settings in a problem that no single value causes.
    pub(super) fn name(&self) -> String {
        match &self.file {
            Some(file) => file.display().to_string(),
            None => "settings".to_owned(),
        }
    }
}

/// Which layer a value came from, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Defaults,
    Service,
    Options,
    File,
    Environment,
}

impl Layer {
    /// Every leaf remembers its origin through the merge.
    pub(super) fn of(value: &Value) -> Self {
        match value.origin() {
            Some(DEFAULTS_NAME) => Self::Defaults,
            Some(app_layers::SERVICE_NAME) => Self::Service,
            Some(app_layers::OPTIONS_NAME) => Self::Options,
            Some(origin) if environment::is_origin(origin) => Self::Environment,
            _ => Self::File,
        }
    }
}

/// All layers merged, and the problems that left the rest still worth validating.
pub(super) struct Merged {
    pub(super) root: Value,
    pub(super) problems: Vec<Problem>,
    /// Of the user's file.
    pub(super) lines: Lines,
}

/// Reads and merges the layers. Where the user has no file, `instead` (TOML) stands for it.
///
/// # Errors
/// The file cannot be read or parsed. Then nothing is known about the rest.
pub(super) fn merge(
    sources: &Sources,
    instead: &str,
    broker: Option<&MqttService>,
) -> Result<Merged, Problems> {
    let mut problems = Vec::new();
    let environment = environment::layer(&sources.environment, &mut problems);
    let file = match &sources.file {
        Some(path) => file(path),
        None => parse("settings", FileFormat::Toml, instead).map(|map| (map, Lines::new())),
    };
    let (file, lines) = match file {
        Ok(file) => file,
        Err(Problems(of_the_file)) => {
            problems.extend(of_the_file);
            return Err(Problems(problems));
        }
    };
    let defaults = parse(DEFAULTS_NAME, FileFormat::Toml, DEFAULTS)?;
    let app = match app_layers::supervisor(sources) {
        Some(_) => parse(DEFAULTS_NAME, FileFormat::Toml, app_layers::DEFAULTS)?,
        None => Map::new(),
    };
    let options = app_layers::options(sources)?;
    // A login at one broker is not for another one.
    let broker = broker.filter(|_| {
        ![&options, &file, &environment]
            .into_iter()
            .any(app_layers::names_broker)
    });
    let merged = Config::builder()
        .add_source(Parsed(defaults))
        .add_source(Parsed(app))
        .add_source(Parsed(broker.map(app_layers::service).unwrap_or_default()))
        .add_source(Parsed(options))
        .add_source(Parsed(file))
        .add_source(Parsed(environment))
        .build();
    let root = merged.ok().and_then(|merged| match merged.cache.kind {
        ValueKind::Table(mut table) => table.remove(ROOT),
        _ => None,
    });
    // The crate's signature does not show that parsed layers always merge.
    let cannot_merge = || Problems(vec![whole(&sources.name(), "settings that can be merged")]);
    Ok(Merged {
        root: root.ok_or_else(cannot_merge)?,
        problems,
        lines,
    })
}

/// A layer that is parsed already.
#[derive(Debug, Clone)]
struct Parsed(Map<String, Value>);

impl Source for Parsed {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        let layer = Value::new(None, self.0.clone());
        Ok(Map::from_iter([(ROOT.to_owned(), layer)]))
    }
}

/// The user's file as a layer, and the lines of its lists.
fn file(path: &Path) -> Result<(Map<String, Value>, Lines), Problems> {
    let name = path.display().to_string();
    let fatal = |expected: &str| Problems(vec![whole(&name, expected)]);
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => return Err(fatal("a settings file that ends in .toml, .yaml or .yml")),
    };
    let text = read_text(path, FILE_MAX).map_err(|expected| fatal(&expected))?;
    let text = text.trim_start_matches('\u{feff}');
    // Before anything is built of it.
    let lines = match format {
        FileFormat::Yaml => yaml_lines(text).map_err(|expected| fatal(&expected))?,
        _ if has_many_values(text) => return Err(fatal(&format!("at most {VALUES_MAX} values"))),
        _ => Lines::new(),
    };
    let mut map = parse(&name, format, text)?;
    drop_nothings(&mut map);
    match format {
        FileFormat::Yaml => Ok((map, lines)),
        _ => Ok((map, toml_lines(text))),
    }
}

/// The layers that the user writes. What cannot be read of them is a problem elsewhere.
fn of_user(sources: &Sources) -> impl Iterator<Item = Map<String, Value>> {
    let file = sources.file.as_deref().and_then(|path| Some(file(path).ok()?.0));
    let environment = environment::layer(&sources.environment, &mut Vec::new());
    [file, app_layers::options(sources).ok(), Some(environment)]
        .into_iter()
        .flatten()
}

/// Whether the settings name a broker.
pub(super) fn names_broker(sources: &Sources) -> bool {
    of_user(sources).any(|layer| app_layers::names_broker(&layer))
}

/// Each text of the user, in whatever key.
pub(super) fn texts(sources: &Sources) -> Vec<String> {
    let mut texts = Vec::new();
    let mut left: Vec<Value> = of_user(sources).flat_map(Map::into_values).collect();
    while let Some(value) = left.pop() {
        match value.kind {
            ValueKind::String(text) => texts.push(text),
            ValueKind::Table(table) => left.extend(table.into_values()),
            ValueKind::Array(items) => left.extend(items),
            _ => {}
        }
    }
    texts
}

/// The variables that are used instead of a key of the user's file, each with that key.
pub(super) fn overrides(sources: &Sources) -> Vec<String> {
    let Some(path) = &sources.file else {
        return Vec::new();
    };
    // A file that cannot be read is a problem elsewhere.
    let file = file(path).map(|(file, _)| file).unwrap_or_default();
    environment::overrides(&sources.environment, &file, &path.display().to_string())
}

/// A file that is not ours, as it is.
pub(super) fn foreign(path: &Path) -> Result<serde_json::Value, Problems> {
    let content = Value::new(None, file(path)?.0);
    let name = path.display().to_string();
    content
        .try_deserialize()
        .map_err(|_| Problems(vec![whole(&name, "tables, lists and plain values")]))
}

/// What is expected of a file that is not there.
pub(super) const FILE_THAT_EXISTS: &str = "a file that exists";

/// Reads a whole text file of at most `limit` bytes. The error contains what was expected of the file.
pub(super) fn read_text(path: &Path, limit: u64) -> Result<String, String> {
    match files::read(path, limit) {
        Ok(bytes) if bytes.len() as u64 > limit => Err(format!("a file of at most {} KiB", limit / 1024)),
        Ok(bytes) => String::from_utf8(bytes).map_err(|error| {
            let good = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            let line = 1 + good.filter(|byte| **byte == b'\n').count();
            format!("a file in UTF-8; line {line} is in another encoding")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FILE_THAT_EXISTS.to_owned()),
        Err(error) => Err(format!("a file that can be read ({error})")),
    }
}

fn parse(name: &str, format: FileFormat, text: &str) -> Result<Map<String, Value>, Problems> {
    // To the YAML parser, a document of comments is no mapping; to a person it is a file with nothing set.
    let nothing = |line: &str| line.is_empty() || line.starts_with('#') || line == "---";
    if format == FileFormat::Yaml && text.lines().map(str::trim).all(nothing) {
        return Ok(Map::new());
    }
    format.parse(Some(&name.to_owned()), text).map_err(|error| {
        let expected = match format {
            FileFormat::Yaml => yaml_error(&error.to_string()),
            _ => toml_error(&error.to_string()),
        };
        Problems(vec![whole(name, &expected)])
    })
}

/// Whether TOML may have more values than settings do: each is behind one of these.
fn has_many_values(text: &str) -> bool {
    let marks = text.bytes().filter(|byte| b",=[".contains(byte));
    marks.count() > VALUES_MAX
}

/// TOML's message has three parts: where, the source line, what. The middle may hold a password.
fn toml_error(message: &str) -> String {
    let (first, rest) = message.split_once('\n').unwrap_or((message, ""));
    let Some(place) = first.strip_prefix("TOML parse error at ") else {
        return format!("valid TOML ({first})");
    };
    let what = rest.lines().last().filter(|line| !line.contains('|'));
    format!("valid TOML ({place}: {})", what.unwrap_or("syntax error"))
}

/// What is left after its events were read: a key that is there twice, which the message quotes, or no sections.
fn yaml_error(message: &str) -> String {
    let located = message
        .split_once(" at byte ")
        .and_then(|(_, place)| Some(place.split_once(" line ")?.1));
    match located {
        Some(place) => format!("valid YAML without a key twice (line {place})"),
        None => "one YAML document: sections with keys that are texts".to_owned(),
    }
}

/// `host:` with nothing behind it means "not set" in YAML; the layer below then counts.
fn drop_nothings(map: &mut Map<String, Value>) {
    map.retain(|_, value| value.kind != ValueKind::Nil);
    for value in map.values_mut() {
        drop_inner_nothings(value);
    }
}

fn drop_inner_nothings(value: &mut Value) {
    match &mut value.kind {
        ValueKind::Table(table) => drop_nothings(table),
        ValueKind::Array(list) => list.iter_mut().for_each(drop_inner_nothings),
        _ => {}
    }
}

fn whole(source: &str, expected: &str) -> Problem {
    Problem {
        source: source.to_owned(),
        path: String::new(),
        place: String::new(),
        value: None,
        message: format!("expected {expected}"),
    }
}
