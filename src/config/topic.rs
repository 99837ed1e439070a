//! A topic one may publish to.

use std::fmt;

use serde::Serialize;

use super::reader::{Expected, Leaf};

/// A topic without wildcards: the base of ours, Home Assistant's prefix, a sensor's topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Topic(String);

impl Topic {
    /// Longest topic in settings, in bytes: leaves room for the levels below.
    pub const MAX: usize = 200;

    /// The topic, if it is one: no `+`, `#`, empty level, leading `$`, control character or surrounding
    /// space, 1 to [`Topic::MAX`] bytes.
    pub fn new(text: &str) -> Option<Self> {
        let characters = text.chars().all(|c| c != '+' && c != '#' && !c.is_control());
        let levels = text.split('/').all(|level| !level.is_empty());
        let edges = !text.starts_with('$') && text.trim() == text;
        let valid = text.len() <= Self::MAX && characters && levels && edges;
        valid.then(|| Self(text.to_owned()))
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses a topic.
pub(super) fn topic(leaf: &Leaf<'_>) -> Result<Topic, Expected> {
    let topic = leaf.text().and_then(Topic::new);
    topic.ok_or_else(|| {
        let max = Topic::MAX;
        format!("a topic of 1 to {max} bytes without +, #, a leading $, empty levels and control characters")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_no_wildcards_and_no_empty_levels() {
        for good in [
            "tapo2mqtt",
            "home/tapo",
            "Büro/Steckdosen",
            "a.b c",
            &"x".repeat(200),
        ] {
            assert!(Topic::new(good).is_some(), "{good}");
        }
        let bad = [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a/+",
            "#",
            "a+b",
            "$SYS/x",
            "a\u{0}",
            " a",
            "a ",
            &"x".repeat(201),
        ];
        for bad in bad {
            assert!(Topic::new(bad).is_none(), "{bad:?}");
        }
    }
}
