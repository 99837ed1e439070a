//! Reads the merged settings leaf by leaf, so that one mistake does not hide the next.

use std::{cell::RefCell, collections::BTreeMap};

use config::{Value, ValueKind};

use super::{
    language::Language,
    layers::Layer,
    names::{nearest, one_of},
    place::Places,
    problem::{Problem, cut_key, shown, shown_key},
};

/// How the message begins of a problem whose key is the mistake.
pub const UNKNOWN_KEY: &str = "unknown key";

/// Collects the problems of one load.
#[derive(Debug)]
pub(super) struct Report {
    /// The user's own settings, blamed for what is missing.
    source: String,
    problems: RefCell<Vec<Problem>>,
    places: Places,
    language: Language,
}

/// Proof that a problem was reported: the only way to leave a reader without a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reported(());

/// What reading gives.
pub(super) type Read<T> = Result<T, Reported>;

/// A parser's complaint: what it expected.
pub(super) type Expected = String;

impl Report {
    pub(super) fn new(source: String, problems: Vec<Problem>, places: Places, language: Language) -> Self {
        Self {
            source,
            problems: RefCell::new(problems),
            places,
            language,
        }
    }

    /// Reads the merged settings from their root.
    pub(super) fn read<T>(&self, root: &Value, read: impl FnOnce(&mut Table<'_>) -> Read<T>) -> Read<T> {
        self.table(root, String::new(), read)
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    fn table<'a, T>(
        &'a self,
        value: &'a Value,
        path: String,
        read: impl FnOnce(&mut Table<'a>) -> Read<T>,
    ) -> Read<T> {
        let ValueKind::Table(entries) = &value.kind else {
            let expected = match value.kind {
                ValueKind::Array(_) => format!("expected {}", self.language.one_table(&path)),
                _ => "expected a table of keys".to_owned(),
            };
            // A scalar in the place of a section may be a password in the wrong place.
            return Err(self.report(self.origin(value), path, None, expected));
        };
        let mut table = Table {
            report: self,
            path,
            source: self.origin(value),
            entries: entries.iter().map(|(key, value)| (key.as_str(), value)).collect(),
            known: Vec::new(),
            has_secrets: false,
            in_files: Vec::new(),
        };
        let result = read(&mut table);
        table.report_unknown();
        result
    }

    /// Merged tables have no origin of their own; what is inside has.
    fn origin(&self, value: &Value) -> String {
        match (&value.kind, value.origin()) {
            (ValueKind::Table(inner), None) => {
                let first = inner.iter().min_by_key(|(key, _)| key.as_str());
                first.map_or_else(|| self.source.clone(), |(_, value)| self.origin(value))
            }
            (_, origin) => origin.unwrap_or(&self.source).to_owned(),
        }
    }

    fn report(&self, source: String, path: String, value: Option<String>, message: String) -> Reported {
        let line_of = path.clone();
        self.report_at(source, path, &line_of, value, message)
    }

    /// With the line of another path.
    fn report_at(
        &self,
        source: String,
        path: String,
        line_of: &str,
        value: Option<String>,
        message: String,
    ) -> Reported {
        let mut place = self.places.as_text(&path);
        // The environment and the defaults have no lines.
        if source == self.source {
            place.push_str(&self.places.line_of(line_of));
        }
        self.problems.borrow_mut().push(Problem {
            source,
            place,
            path,
            value,
            message: self.language.advice(message),
        });
        Reported(())
    }
}

/// One table of the settings. Every key that is asked for is known; the others are reported when its
/// reader is done.
#[derive(Debug)]
pub(super) struct Table<'a> {
    report: &'a Report,
    path: String,
    source: String,
    entries: BTreeMap<&'a str, &'a Value>,
    known: Vec<&'static str>,
    /// Whether a key of it holds a secret.
    has_secrets: bool,
    /// Keys of secrets that were read from a file, each with the key that names the file.
    in_files: Vec<(&'static str, &'static str)>,
}

impl<'a> Table<'a> {
    /// A key that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Leaf<'_>) -> Result<T, Expected>,
    ) -> Read<T> {
        match self.find(key) {
            Some(value) => self.parse(key, value, |value| shown(&value.kind), parse),
            None => Err(self.missing(key, parse)),
        }
    }

    /// A key that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Leaf<'_>) -> Result<T, Expected>,
    ) -> Read<Option<T>> {
        match self.find(key) {
            Some(value) => self
                .parse(key, value, |value| shown(&value.kind), parse)
                .map(Some),
            None => Ok(None),
        }
    }

    /// A key that may be left out, and whose value no problem shows: the secret itself may stand where the name
    /// of its file belongs.
    pub(super) fn optional_secret<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Leaf<'_>) -> Result<T, Expected>,
    ) -> Read<Option<T>> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        parse(&Leaf(value))
            .map(Some)
            .map_err(|expected| self.secret_problem(key, expected))
    }

    /// A text that no problem may show, and the layer it comes from.
    pub(super) fn secret(&mut self, key: &'static str) -> Read<Option<(Layer, &'a str)>> {
        self.has_secrets = true;
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        if let ValueKind::String(text) = &value.kind {
            return Ok(Some((Layer::of(value), text)));
        }
        let shown = Some("***".to_owned());
        let expected = "expected a string; quote it".to_owned();
        Err(self
            .report
            .report(self.report.origin(value), self.path_of(key), shown, expected))
    }

    /// The layer a key comes from, if it is set.
    pub(super) fn layer(&mut self, key: &'static str) -> Option<Layer> {
        self.find(key).map(Layer::of)
    }

    /// A table inside this one. One that is absent is read as empty, so that its reader names what is missing.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Table<'_>) -> Read<T>,
    ) -> Read<T> {
        let empty = Value::new(Some(&self.source), config::Map::<String, Value>::new());
        let value = self.find(key).unwrap_or(&empty);
        self.report.table(value, self.path_of(key), read)
    }

    /// A list of tables. One that is absent is empty.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Table<'a>) -> Read<T>,
    ) -> Read<Vec<T>> {
        let Some(value) = self.find(key) else {
            return Ok(Vec::new());
        };
        let path = self.path_of(key);
        let ValueKind::Array(items) = &value.kind else {
            let expected = format!("expected {}", self.report.language.list_of_tables(&path));
            return Err(self
                .report
                .report(self.report.origin(value), path, None, expected));
        };
        let each = items
            .iter()
            .enumerate()
            .map(|(index, item)| self.report.table(item, format!("{path}[{index}]"), &mut read));
        // Every item is read before the first failure counts.
        let read: Vec<Read<T>> = each.collect();
        read.into_iter().collect()
    }

    /// A list of plain values, each with a problem of its own. `None` where the key is left out.
    pub(super) fn values<T>(
        &mut self,
        key: &'static str,
        parse: impl FnMut(&Leaf<'_>) -> Result<T, Expected>,
    ) -> Read<Option<Vec<T>>> {
        self.values_shown(key, |value| shown(&value.kind), parse)
    }

    /// The same of values that no problem shows.
    pub(super) fn secret_values<T>(
        &mut self,
        key: &'static str,
        parse: impl FnMut(&Leaf<'_>) -> Result<T, Expected>,
    ) -> Read<Option<Vec<T>>> {
        self.values_shown(key, |_| "***".to_owned(), parse)
    }

    fn values_shown<T>(
        &mut self,
        key: &'static str,
        show: impl Fn(&Value) -> String,
        mut parse: impl FnMut(&Leaf<'_>) -> Result<T, Expected>,
    ) -> Read<Option<Vec<T>>> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        // The environment has no lists.
        let parts = match (&value.kind, Layer::of(value)) {
            (ValueKind::String(text), Layer::Environment) => {
                let origin = value.origin().map(str::to_owned);
                let part = |part: &str| Value::new(origin.as_ref(), part.trim());
                text.split(',').map(part).collect()
            }
            _ => Vec::new(),
        };
        let items = match &value.kind {
            ValueKind::Array(items) => items,
            _ if !parts.is_empty() => &parts,
            _ => {
                let expected = "expected a list, such as [\"a\", \"b\"]";
                return Err(self.complain(key, show, expected.to_owned()));
            }
        };
        let each = items.iter().enumerate();
        let read: Vec<Read<T>> = each
            .map(|(index, item)| self.parse(&format!("{key}[{index}]"), item, &show, &mut parse))
            .collect();
        read.into_iter().collect::<Read<Vec<T>>>().map(Some)
    }

    /// Whether a key is set at all, whatever its value.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    /// Whether the value of a key is itself a table.
    pub(super) fn is_table(&mut self, key: &'static str) -> bool {
        self.find(key)
            .is_some_and(|value| matches!(value.kind, ValueKind::Table(_)))
    }

    /// Where it comes from, such as the path of a file.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// What this item of a list is called, such as `device "lamp" (line 13)`.
    pub(super) fn place(&self) -> String {
        self.report.places.item(&self.path)
    }

    /// Reports a rule that this key breaks together with others.
    pub(super) fn problem(&mut self, key: &'static str, expected: impl Into<String>) -> Reported {
        let message = format!("expected {}", expected.into());
        self.complain(key, |value| shown(&value.kind), message)
    }

    /// Reports what is wrong with the value of a key.
    pub(super) fn invalid(&mut self, key: &'static str, message: impl Into<String>) -> Reported {
        self.complain(key, |value| shown(&value.kind), message.into())
    }

    /// Reports a value that another item has already.
    pub(super) fn duplicate(&mut self, key: &'static str, owner: &str) -> Reported {
        self.invalid(key, format!("duplicate {key}, already used by {owner}"))
    }

    /// The secret of a key was read from the file that another key names.
    pub(super) fn read_from(&mut self, key: &'static str, file_key: &'static str) {
        self.in_files.push((key, file_key));
    }

    /// Like [`Table::problem`] for a key whose value is a secret. The name of a file that was read is none.
    pub(super) fn secret_problem(&mut self, key: &'static str, expected: impl Into<String>) -> Reported {
        let of_key = |(secret, file)| (secret == key).then_some(file);
        if let Some(file_key) = self.in_files.iter().copied().find_map(of_key) {
            return self.invalid(file_key, format!("expected in this file: {}", expected.into()));
        }
        self.complain(key, |_| "***".to_owned(), format!("expected {}", expected.into()))
    }

    /// A default that lacks its other half is as good as nothing: the user's own settings are to blame.
    fn complain(&mut self, key: &'static str, show: impl Fn(&Value) -> String, message: String) -> Reported {
        let found = self.find(key).filter(|value| Layer::of(value) != Layer::Defaults);
        let source = found.map_or_else(|| self.report.source.clone(), |value| self.report.origin(value));
        self.report
            .report(source, self.path_of(key), found.map(show), message)
    }

    fn find(&mut self, key: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.get(key).copied()
    }

    fn parse<T>(
        &self,
        key: &str,
        value: &Value,
        show: impl Fn(&Value) -> String,
        parse: impl FnOnce(&Leaf<'_>) -> Result<T, Expected>,
    ) -> Read<T> {
        parse(&Leaf(value)).map_err(|expected| {
            let (shown, message) = (Some(show(value)), format!("expected {expected}"));
            self.report
                .report(self.report.origin(value), self.path_of(key), shown, message)
        })
    }

    /// The parser returns what it expects for an empty value.
    fn missing<T>(&self, key: &str, parse: impl FnOnce(&Leaf<'_>) -> Result<T, Expected>) -> Reported {
        let expected = parse(&Leaf(&Value::default())).err().unwrap_or_default();
        let expected = format!("missing; expected {expected}");
        self.report
            .report(self.source.clone(), self.path_of(key), None, expected)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value of an unknown key is not shown: it may be a password whose key is mistyped.
    fn report_unknown(&self) {
        let unknown = self.entries.iter().filter(|(key, _)| !self.known.contains(key));
        for (key, value) in unknown {
            let source = self.report.origin(value);
            let expected = format!("{UNKNOWN_KEY}, expected {}", one_of(&self.known, key));
            // In a section with secrets a key may be a password that lost its key.
            let is_meant = !self.has_secrets || nearest(&self.known, key).is_some();
            let shown = if is_meant { shown_key(key) } else { cut_key(key) };
            self.report
                .report_at(source, self.path_of(&shown), &self.path_of(key), None, expected);
        }
    }
}

/// One value with a key of its own. The environment has texts only: there, typed keys parse them.
#[derive(Debug)]
pub(super) struct Leaf<'a>(pub(super) &'a Value);

impl<'a> Leaf<'a> {
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.0.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn integer(&self) -> Option<i64> {
        match &self.0.kind {
            ValueKind::I64(number) => Some(*number),
            _ => self.environment_text()?.parse().ok(),
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        let number = match &self.0.kind {
            ValueKind::Float(number) => *number,
            // Settings are far below 2^53, where this would round.
            #[allow(clippy::cast_precision_loss)]
            ValueKind::I64(number) => *number as f64,
            _ => self.environment_text()?.parse().ok()?,
        };
        number.is_finite().then_some(number)
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.0.kind {
            ValueKind::Boolean(boolean) => Some(*boolean),
            _ => self.environment_text()?.to_lowercase().parse().ok(),
        }
    }

    fn environment_text(&self) -> Option<&'a str> {
        match Layer::of(self.0) {
            Layer::Environment => self.text(),
            Layer::Defaults | Layer::Service | Layer::Options | Layer::File => None,
        }
    }
}
