//! Topics that MQTT does not allow. Everything they are built from is validated when it is read, so there should be
//! none.

use std::collections::BTreeSet;

use tracing::warn;

use super::link::{Filter, Topic, TopicError};

/// The ones that were logged.
#[derive(Debug, Default)]
pub(super) struct FaultyTopics(BTreeSet<String>);

impl FaultyTopics {
    /// The text as a topic. One that is not allowed is logged once.
    pub(super) fn topic(&mut self, text: String) -> Option<Topic> {
        let parsed = text.parse();
        self.sound(text, parsed)
    }

    /// The same for what is subscribed to.
    pub(super) fn filter(&mut self, text: String) -> Option<Filter> {
        let parsed = text.parse();
        self.sound(text, parsed)
    }

    fn sound<T>(&mut self, text: String, parsed: Result<T, TopicError>) -> Option<T> {
        let why = match parsed {
            Ok(topic) => return Some(topic),
            Err(why) => why,
        };
        let shown = text.escape_debug().to_string();
        if self.0.insert(text) {
            warn!(topic = %shown, %why, "MQTT does not allow this topic, so it is not used; please report this");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::log_text::logged;

    #[test]
    fn a_faulty_topic_is_logged_once_with_the_reason() {
        let text = logged(|| {
            let mut faulty = FaultyTopics::default();
            for _ in 0..2 {
                assert!(faulty.topic("tapo2mqtt/plug".to_owned()).is_some());
                assert!(faulty.topic("tapo2mqtt/+/set".to_owned()).is_none());
                assert!(faulty.filter("tapo2mqtt/+/set".to_owned()).is_some());
                assert!(faulty.filter("tapo2mqtt/a\0".to_owned()).is_none());
            }
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for (line, topic, why) in [
            (lines[0], "topic=tapo2mqtt/+/set", "contains a wildcard"),
            (lines[1], "topic=tapo2mqtt/a\\0", "contains a NUL character"),
        ] {
            assert!(
                line.contains("WARN") && line.contains(topic) && line.contains(why),
                "{text}"
            );
        }
    }
}
