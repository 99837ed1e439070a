//! Why a message was not sent.

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SendError {
    /// It may be taken later.
    #[error("{0}")]
    Temporary(String),
    /// The server refuses this message, and would do so each time.
    #[error("{0}")]
    Permanent(String),
}

impl From<String> for SendError {
    fn from(why: String) -> Self {
        Self::Temporary(why)
    }
}
