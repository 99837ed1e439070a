//! Topics that are cleared a while after their discovery. Pure.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

/// Home Assistant stops reading a state some time after it read that its entity is gone.
const PAUSE: Duration = Duration::from_secs(2);

/// The retained topics that are to be cleared. Home Assistant must not read them empty: it writes an error for each
/// entity whose template finds no JSON.
#[derive(Debug, Default)]
pub(super) struct Erasures {
    topics: BTreeSet<String>,
    due: Option<Instant>,
}

impl Erasures {
    /// A topic is to be cleared.
    pub(super) fn add(&mut self, topic: String, now: Instant) {
        self.topics.insert(topic);
        self.due = Some(now + PAUSE);
    }

    /// A topic is published again.
    pub(super) fn withdraw(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// When they are to be cleared; `None` if there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The topics that are to be cleared now.
    pub(super) fn take(&mut self) -> BTreeSet<String> {
        self.due = None;
        std::mem::take(&mut self.topics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_published_again_is_not_cleared() {
        let (mut erasures, now) = (Erasures::default(), Instant::now());
        assert_eq!(erasures.due(), None);
        for topic in ["lamp", "lamp/availability"] {
            erasures.add(topic.to_owned(), now);
        }
        assert_eq!(erasures.due(), Some(now + PAUSE));
        erasures.withdraw("lamp");
        assert_eq!(erasures.take(), ["lamp/availability".to_owned()].into());
        assert_eq!((erasures.due(), erasures.take()), (None, BTreeSet::new()));
    }
}
