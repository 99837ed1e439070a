//! A reply on its way to whoever asked.

use std::fmt;

/// A reply that was sent and can be held back: it arrives when this value is dropped.
pub struct SentReply {
    /// Whether it says that something was done.
    pub is_ok: bool,
    deliver: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl SentReply {
    pub(super) fn new(is_ok: bool, deliver: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self {
            is_ok,
            deliver: Some(Box::new(deliver)),
        }
    }
}

impl Drop for SentReply {
    fn drop(&mut self) {
        if let Some(deliver) = self.deliver.take() {
            deliver();
        }
    }
}

impl fmt::Debug for SentReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentReply")
            .field("is_ok", &self.is_ok)
            .finish_non_exhaustive()
    }
}
