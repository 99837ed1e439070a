//! Settings of another program, and which of them were looked at.

use std::{cell::RefCell, collections::BTreeSet};

use serde_json::Value;

/// The paths of all values that were read.
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

    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self.take(key) {
            Value::String(text) => Some(text.clone()),
            _ => None,
        }
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.take(key).as_f64()
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.take(key).as_bool()
    }

    /// The whole numbers of a list.
    pub(super) fn integers(&self, key: &str) -> Option<Vec<i64>> {
        let list = self.take(key).as_array()?;
        Some(list.iter().filter_map(Value::as_i64).collect())
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

    /// The paths of all values below this one that were not read.
    pub(super) fn left_over(&self) -> Vec<String> {
        match self.value {
            Value::Object(_) => self
                .entries()
                .iter()
                .flat_map(|(_, node)| node.left_over())
                .collect(),
            Value::Array(items) if items.iter().any(Value::is_object) => {
                self.items().iter().flat_map(Self::left_over).collect()
            }
            _ if self.taken.borrow().contains(&self.path) => Vec::new(),
            _ => vec![self.path.clone()],
        }
    }

    fn take(&self, key: &str) -> &'a Value {
        let node = self.get(key);
        self.taken.borrow_mut().insert(node.path);
        node.value
    }
}
