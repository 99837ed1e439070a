//! The levels in front of other topics.

use std::{fmt, str::FromStr, sync::Arc};

use planner::Slug;
use serde::Serialize;

/// Longest base topic or discovery prefix, in bytes. Keeps every topic far below MQTT's 65,535 bytes.
pub const BASE_MAX: usize = 200;

/// Levels without wildcards: those in front of all topics of one bridge (`tapo2mqtt`, `home/tapo2mqtt`), or of Home
/// Assistant's discovery.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct BaseTopic(Arc<str>);

/// Why a text is not a base topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BaseTopicError {
    /// No text, two slashes in a row, or a slash at either end.
    #[error("has an empty level; use names separated by single slashes, like home/tapo2mqtt")]
    EmptyLevel,
    /// More than [`BASE_MAX`] bytes.
    #[error("is longer than {BASE_MAX} bytes")]
    TooLong,
    /// A wildcard of subscriptions, or a control character.
    #[error("contains {0:?}; wildcards and control characters are not allowed")]
    Character(char),
    /// White space at either end, which is easily overlooked.
    #[error("begins or ends with a space")]
    Space,
    /// The broker's own topics.
    #[error("begins with $, which is reserved for the broker")]
    Dollar,
}

impl BaseTopic {
    /// The one that a bridge has without settings.
    pub const DEFAULT: &str = "tapo2mqtt";

    /// The one that a bridge at this site has, unless its settings name another one.
    pub fn of_site(site: &Slug) -> Self {
        Self(format!("{}-{site}", Self::DEFAULT).into())
    }

    /// Base topic and site as one name, which no other bridge on the broker has.
    pub fn at_site(&self, site: Option<&Slug>) -> String {
        match site {
            Some(site) if *self != Self::of_site(site) => format!("{self}-{site}"),
            _ => self.to_string(),
        }
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the two are the same, or one lies inside the other: a device could then be taken for a
    /// discovery message.
    pub fn overlaps(&self, other: &Self) -> bool {
        self == other || self.strip(other.as_str()).is_some() || other.strip(self.as_str()).is_some()
    }

    /// What follows this base and a slash.
    pub fn strip<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(self.as_str())?.strip_prefix('/')
    }
}

impl FromStr for BaseTopic {
    type Err = BaseTopicError;

    fn from_str(text: &str) -> Result<Self, BaseTopicError> {
        if text.split('/').any(str::is_empty) {
            return Err(BaseTopicError::EmptyLevel);
        }
        if text.len() > BASE_MAX {
            return Err(BaseTopicError::TooLong);
        }
        if text.starts_with('$') {
            return Err(BaseTopicError::Dollar);
        }
        match text.chars().find(|c| matches!(c, '+' | '#') || c.is_control()) {
            Some(c) => Err(BaseTopicError::Character(c)),
            None if text.trim() != text => Err(BaseTopicError::Space),
            None => Ok(Self(text.into())),
        }
    }
}

impl From<BaseTopic> for String {
    fn from(topic: BaseTopic) -> Self {
        topic.0.as_ref().to_owned()
    }
}

impl fmt::Display for BaseTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BaseTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
