//! One of the things that say what an outlet should be.

use serde::{Serialize, Serializer};

use super::{Reason, Rule, Source};
use crate::Power;

/// A limit, an override, vacation or the schedules, and what it wants: part of the state JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// Which of them.
    pub source: Source,
    /// What the outlet should be by it; `None`: as it is.
    pub state: Option<Power>,
    /// The schedule or the limit.
    #[serde(serialize_with = "as_text")]
    pub rule: Option<Rule>,
    /// For people.
    pub reason: Reason,
    /// Whether it decides.
    pub decides: bool,
}

#[allow(clippy::ref_option)] // As serde calls it.
fn as_text<S: Serializer>(rule: &Option<Rule>, serializer: S) -> Result<S::Ok, S::Error> {
    match rule {
        Some(rule) => serializer.collect_str(rule),
        None => serializer.serialize_none(),
    }
}
