//! One part of the state file, in memory.

use serde::Serialize;
use tokio::sync::watch;

use super::progress::Progress;

/// One part of what must survive a restart. Clones share it; every change is written.
#[derive(Debug, Clone)]
pub struct Section<T> {
    value: watch::Sender<T>,
    progress: Progress,
}

/// A part without a file.
impl<T: Default> Default for Section<T> {
    fn default() -> Self {
        Self::new(T::default(), Progress::default())
    }
}

impl<T> Section<T> {
    pub(super) fn new(value: T, progress: Progress) -> Self {
        Self {
            value: watch::Sender::new(value),
            progress,
        }
    }

    /// Changes it in place. `change` returns whether it changed anything.
    pub fn update(&self, change: impl FnOnce(&mut T) -> bool) {
        if self.value.send_if_modified(change) {
            self.progress.on_change();
        }
    }

    /// Looks at it without a copy.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.borrow())
    }

    /// How many changes there were, of all parts.
    pub fn change_count(&self) -> u64 {
        self.progress.changes()
    }

    /// Whether the first `changes` changes are in the file. Without a file, or with one that cannot be written, nothing is
    /// to wait for.
    pub fn is_written(&self, changes: u64) -> bool {
        self.progress.is_written(changes)
    }

    /// Waits for that.
    pub async fn written(&self, changes: u64) {
        self.progress.written(changes).await;
    }
}

#[cfg(test)]
impl<T> Section<T> {
    /// A disk has written everything, also what changes later, or only what changed so far.
    pub fn set_written(&self, all: bool) {
        let changes = if all { u64::MAX } else { self.change_count() };
        self.progress.on_write(changes, false);
    }
}

impl<T: Clone> Section<T> {
    /// What is kept now.
    pub fn get(&self) -> T {
        self.value.borrow().clone()
    }
}

impl<T> Section<T> {
    /// Reports each change from now on.
    pub fn changes(&self) -> watch::Receiver<T> {
        self.value.subscribe()
    }
}

impl<T: PartialEq> Section<T> {
    /// Replaces it; an equal value is not written again.
    pub fn set(&self, new: T) {
        self.update(|value| {
            let changed = *value != new;
            *value = new;
            changed
        });
    }
}

/// What the writer needs of a part, whatever its type is.
pub(super) trait Encode: std::fmt::Debug + Send {
    /// As it is in the file.
    ///
    /// # Errors
    /// It has no form in JSON, such as a map whose keys are no text.
    fn encoded(&mut self) -> serde_json::Result<&str>;
}

/// A part with its form in the file, which is made again only after a change.
#[derive(Debug)]
pub(super) struct EncodedSection<T> {
    value: watch::Receiver<T>,
    text: String,
}

impl<T> EncodedSection<T> {
    pub(super) fn new(section: &Section<T>) -> Self {
        let mut value = section.value.subscribe();
        value.mark_changed();
        Self {
            value,
            text: String::new(),
        }
    }
}

impl<T: Clone + Serialize + std::fmt::Debug + Send + Sync> Encode for EncodedSection<T> {
    fn encoded(&mut self) -> serde_json::Result<&str> {
        // A part that nothing can change any more is an error here, and may have changed before.
        if self.value.has_changed().unwrap_or(true) {
            // Encoding takes longer than a copy, and whoever changes it waits meanwhile.
            let value = self.value.borrow_and_update().clone();
            let text = serde_json::to_string_pretty(&value).inspect_err(|_| self.value.mark_changed());
            self.text = text?;
        }
        Ok(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_no_change() {
        let section: Section<Vec<u8>> = Section::default();
        section.clone().set(vec![1]);
        assert_eq!(section.change_count(), 1);
        section.set(vec![1]);
        section.update(|_| false);
        assert_eq!(section.change_count(), 1);
        assert_eq!(section.get(), [1]);
    }

    #[test]
    fn only_what_changed_is_encoded_again() {
        let section: Section<Vec<u8>> = Section::default();
        let mut encoded = EncodedSection::new(&section);
        let first = encoded.encoded().unwrap().as_ptr();
        assert_eq!(encoded.encoded().unwrap().as_ptr(), first);
        section.set(vec![1]);
        assert_eq!(encoded.encoded().unwrap(), "[\n  1\n]");
        section.set(vec![]);
        drop(section);
        assert_eq!(encoded.encoded().unwrap(), "[]");
    }
}
