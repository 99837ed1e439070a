//! Lists whose items other sections name.

use super::names::one_of;

/// The items of a list by their ids. An item with a mistake elsewhere still has its id, so that those who name it
/// are not blamed.
#[derive(Debug)]
pub(super) struct IdIndex<T>(Vec<(String, Option<T>)>);

/// What there is under an id.
pub(super) enum Found<'a, T> {
    /// An item.
    Sound(&'a T),
    /// An item whose own mistakes are reported already.
    Broken,
    /// No item.
    Nothing,
}

impl<T> IdIndex<T> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an item; `None` where it could not be read.
    pub(super) fn add(&mut self, id: &str, item: Option<T>) {
        self.0.push((id.to_owned(), item));
    }

    pub(super) fn find(&self, id: &str) -> Found<'_, T> {
        match self.0.iter().find(|(known, _)| known == id) {
            Some((_, Some(item))) => Found::Sound(item),
            Some((_, None)) => Found::Broken,
            None => Found::Nothing,
        }
    }

    /// The items that could be read.
    pub(super) fn sound(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|(_, item)| item.as_ref())
    }

    /// The ids there are, for an error about an unknown one.
    pub(super) fn one_of(&self, found: &str) -> String {
        if self.0.is_empty() {
            return "of which there is none".to_owned();
        }
        let known: Vec<&str> = self.0.iter().map(|(id, _)| id.as_str()).collect();
        one_of(&known, found)
    }
}
