//! A topic one may publish to.

use super::reader::{Expected, Leaf};
use crate::domain::topics::{BASE_MAX, BaseTopic};

/// Parses a topic.
pub(super) fn topic(leaf: &Leaf<'_>) -> Result<BaseTopic, Expected> {
    let topic = leaf.text().and_then(|text| text.parse().ok());
    topic.ok_or_else(|| {
        format!(
            "a topic of 1 to {BASE_MAX} bytes without +, #, a leading $, empty levels and control characters"
        )
    })
}
