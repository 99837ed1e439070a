//! What is wrong with a payload.

use std::fmt;

use super::PAYLOAD_MAX;

/// Longest part of an offending value that is shown, in characters.
const SHOWN_MAX: usize = 60;

/// Why a payload is no command. Its text has what was expected and what came instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// More than [`PAYLOAD_MAX`] bytes.
    #[error("the payload has {bytes} bytes; at most {PAYLOAD_MAX} are accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not a text.
    #[error("expected UTF-8 text, got {shown}")]
    NotUtf8 {
        /// What came.
        shown: Shown,
    },
    /// It begins like a JSON object and is none.
    #[error("expected a JSON object, got {shown}: {reason}")]
    InvalidJson {
        /// What came.
        shown: Shown,
        /// The error of the JSON reader.
        reason: String,
    },
    /// A text or a JSON value that is none of those that are accepted.
    #[error("expected {expected}, got {shown}")]
    InvalidPayload {
        /// What is accepted.
        expected: &'static str,
        /// What came.
        shown: Shown,
    },
    /// A key that means nothing here.
    #[error("unknown key {shown}; known are {known}")]
    UnknownKey {
        /// The key.
        shown: Shown,
        /// The keys that are accepted.
        known: String,
    },
    /// A key that is there twice.
    #[error("the key {shown} is there more than once")]
    DuplicateKey {
        /// The key.
        shown: Shown,
    },
    /// A key that has to be there.
    #[error("the key {key} is missing; expected {expected}")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// What its value would be.
        expected: &'static str,
    },
    /// Keys that contradict each other.
    #[error("{key} does not go together with {other}")]
    ConflictingKeys {
        /// One of them.
        key: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A value of the wrong type or spelling.
    #[error("{key}: expected {expected}, got {shown}")]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// What is accepted.
        expected: &'static str,
        /// What came.
        shown: Shown,
    },
    /// A value of the right type, but too small or too large.
    #[error("{key}: expected {expected}, got {shown}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// What is accepted.
        expected: &'static str,
        /// What came.
        shown: Shown,
    },
    /// The topic names an attribute that cannot be set.
    #[error("unknown attribute {shown}; known are {known}")]
    UnknownAttribute {
        /// The attribute.
        shown: Shown,
        /// The attributes that can be set.
        known: String,
    },
    /// The target does not have this attribute.
    #[error("{message}")]
    Unsupported {
        /// Why, and what to do instead.
        message: String,
    },
    /// No such request.
    #[error("known requests are {known}")]
    UnknownRequest {
        /// The requests.
        known: String,
    },
}

impl PayloadError {
    /// The same, without what came.
    #[must_use]
    pub fn without_values(mut self) -> Self {
        match &mut self {
            Self::InvalidJson { shown, reason } => {
                *shown = Shown::hidden();
                "not valid JSON".clone_into(reason);
            }
            Self::NotUtf8 { shown }
            | Self::InvalidPayload { shown, .. }
            | Self::UnknownKey { shown, .. }
            | Self::DuplicateKey { shown }
            | Self::InvalidValue { shown, .. }
            | Self::OutOfRange { shown, .. }
            | Self::UnknownAttribute { shown, .. } => *shown = Shown::hidden(),
            Self::TooLarge { .. }
            | Self::MissingKey { .. }
            | Self::ConflictingKeys { .. }
            | Self::Unsupported { .. }
            | Self::UnknownRequest { .. } => {}
        }
        self
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::NotUtf8 { .. } => "not_utf8",
            Self::InvalidJson { .. } => "invalid_json",
            Self::InvalidPayload { .. } => "invalid_payload",
            Self::UnknownKey { .. } => "unknown_key",
            Self::DuplicateKey { .. } => "duplicate_key",
            Self::MissingKey { .. } => "missing_key",
            Self::ConflictingKeys { .. } => "conflicting_keys",
            Self::InvalidValue { .. } => "invalid_value",
            Self::OutOfRange { .. } => "out_of_range",
            Self::UnknownAttribute { .. } => "unknown_attribute",
            Self::Unsupported { .. } => "unsupported",
            Self::UnknownRequest { .. } => "unknown_request",
        }
    }
}

/// An offending value: control characters are escaped, and it is cut to 60 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// What may be a secret.
    fn hidden() -> Self {
        Self("***".to_owned())
    }

    /// A text.
    pub fn text(text: &str) -> Self {
        // Quotes stay: where the message is put into JSON, they are escaped there.
        Self(cut(text.chars().flat_map(|char| {
            let quote = matches!(char, '"' | '\'').then_some(char);
            let escaped = quote.is_none().then(|| char.escape_debug());
            quote.into_iter().chain(escaped.into_iter().flatten())
        })))
    }

    /// Bytes that need not be text.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self(cut(bytes
            .iter()
            .flat_map(|byte| byte.escape_ascii())
            .map(char::from)))
    }
}

fn cut(mut escaped: impl Iterator<Item = char>) -> String {
    let mut shown: String = escaped.by_ref().take(SHOWN_MAX).collect();
    if escaped.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
