//! Retained commands that got a response. Pure.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

/// Topics that are remembered. More than that is a flood, of which not every message needs a response.
const TOPICS_MAX: usize = 1000;

/// The topics whose retained command got a response. The broker sends it again after each reconnect.
#[derive(Debug, Default)]
pub(super) struct RetainedCommands {
    hasher: RandomState,
    /// Hashes, because a topic can have 65,535 bytes.
    seen: HashSet<u64>,
}

impl RetainedCommands {
    /// Whether this is the first retained command on the topic.
    pub(super) fn is_new(&mut self, topic: &str) -> bool {
        self.seen.len() < TOPICS_MAX && self.seen.insert(self.hasher.hash_one(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_is_new_once_and_a_flood_is_bounded() {
        let mut retained = RetainedCommands::default();
        assert!(retained.is_new("tapo2mqtt/heater/set"));
        assert!(!retained.is_new("tapo2mqtt/heater/set"));
        let new = (0..100_000).filter(|number| retained.is_new(&format!("tapo2mqtt/no{number}/set")));
        assert_eq!(new.count(), TOPICS_MAX - 1);
        assert!(retained.seen.capacity() < 2 * TOPICS_MAX);
    }
}
