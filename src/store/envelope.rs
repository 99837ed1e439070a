//! The form of the file.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, error::Category};

use crate::system::clock::AsOf;

/// A file of a newer form is set aside, because it cannot be understood.
const VERSION: u32 = 1;

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    version: u32,
    /// The bridge that wrote it; not in files of 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_topic: Option<String>,
    /// The clocks when it was written; not in files of 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) clock: Option<AsOf>,
    #[serde(flatten)]
    pub(super) sections: Map<String, Value>,
}

impl Envelope {
    pub(super) fn new(base_topic: &str, clock: AsOf, sections: Map<String, Value>) -> Self {
        Self {
            version: VERSION,
            base_topic: Some(base_topic.to_owned()),
            clock: Some(clock),
            sections,
        }
    }

    /// The file with these parts, each encoded already: as values they would cost several times as much.
    pub(super) fn encode(
        base_topic: &str,
        clock: AsOf,
        sections: &[(&str, &str)],
    ) -> serde_json::Result<String> {
        let mut text = serde_json::to_string(&Self::new(base_topic, clock, Map::new()))?;
        // The parts go before its last brace.
        text.pop();
        for (name, section) in sections {
            text.push_str(",\n");
            text.push_str(&serde_json::to_string(name)?);
            text.push(':');
            text.push_str(section);
        }
        text.push('}');
        Ok(text)
    }

    /// Reads it; the error says what is wrong with it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let envelope: Self = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
            Category::Data => {
                "it is no state of a bridge: version or clock is missing, or not in its form".to_owned()
            }
            _ => format!("it is no JSON: {error}"),
        })?;
        if envelope.version != VERSION {
            return Err(format!(
                "it has version {}, this program reads version {VERSION}",
                envelope.version
            ));
        }
        Ok(envelope)
    }

    /// The base topic of the bridge that wrote it, if that is another one.
    pub(super) fn other_bridge(&self, base_topic: &str) -> Option<&str> {
        self.base_topic.as_deref().filter(|theirs| *theirs != base_topic)
    }
}
