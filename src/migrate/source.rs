//! Settings of another program, and which of them were looked at.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    ops::{RangeBounds, RangeInclusive},
};

use serde_json::Value;

/// The paths of all values that were read and understood.
pub(super) type ReadPaths = RefCell<BTreeSet<String>>;

/// A value with its path.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    value: &'a Value,
    path: String,
    taken: &'a ReadPaths,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value, taken: &'a ReadPaths) -> Self {
        Self {
            value,
            path: String::new(),
            taken,
        }
    }

    /// A value below this one; null where there is none.
    pub(super) fn get(&self, key: &str) -> Self {
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        Self {
            value: self.value.get(key).unwrap_or(&Value::Null),
            path,
            taken: self.taken,
        }
    }

    pub(super) fn exists(&self) -> bool {
        !self.value.is_null()
    }

    /// A value that is understood. Any other counts as not read.
    pub(super) fn parsed<T>(&self, key: &str, parse: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let node = self.get(key);
        let parsed = parse(node.value)?;
        self.taken.borrow_mut().insert(node.path);
        Some(parsed)
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.parsed(key, |value| value.as_str().map(str::to_owned))
    }

    /// A number within a range.
    pub(super) fn number(&self, key: &str, range: impl RangeBounds<f64>) -> Option<f64> {
        self.parsed(key, |value| {
            value.as_f64().filter(|number| range.contains(number))
        })
    }

    /// A boolean, also in the words that only YAML 1.1 has for it.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.parsed(key, |value| match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(word) => match word.to_lowercase().as_str() {
                "yes" | "on" | "true" => Some(true),
                "no" | "off" | "false" => Some(false),
                _ => None,
            },
            _ => None,
        })
    }

    /// A list of whole numbers within a range.
    pub(super) fn integers(&self, key: &str, range: RangeInclusive<i64>) -> Option<Vec<i64>> {
        let integer = |value: &Value| value.as_i64().filter(|number| range.contains(number));
        self.parsed(key, |value| value.as_array()?.iter().map(integer).collect())
    }

    /// Counts a value and all below it as read: it has no effect.
    pub(super) fn skip(&self, key: &str) {
        self.taken.borrow_mut().insert(self.get(key).path);
    }

    /// The values of a list.
    pub(super) fn list(&self, key: &str) -> Vec<Self> {
        self.get(key).items()
    }

    fn items(&self) -> Vec<Self> {
        let item = |(index, value)| Self {
            value,
            path: format!("{}[{index}]", self.path),
            taken: self.taken,
        };
        let items = self.value.as_array().into_iter().flatten();
        items.enumerate().map(item).collect()
    }

    /// The tables of a table, by name.
    pub(super) fn entries(&self) -> Vec<(String, Self)> {
        let names = self.value.as_object().into_iter().flat_map(|table| table.keys());
        let mut entries: Vec<_> = names.map(|name| (name.clone(), self.get(name))).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries
    }

    /// The paths of all values from this one on that were not read.
    pub(super) fn left_over(&self) -> Vec<String> {
        match self.value {
            _ if self.taken.borrow().contains(&self.path) => Vec::new(),
            Value::Null => Vec::new(),
            Value::Object(_) => self
                .entries()
                .iter()
                .flat_map(|(_, node)| node.left_over())
                .collect(),
            Value::Array(items) if items.iter().any(Value::is_object) => {
                self.items().iter().flat_map(Self::left_over).collect()
            }
            _ => vec![self.path.clone()],
        }
    }
}
