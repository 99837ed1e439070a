//! The last events, for `bridge/request/events`.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Value, json};

/// Events that are kept.
const EVENTS_MAX: usize = 1000;
/// Events in a page of the answer.
const PAGE: usize = 200;

/// Events as they were published, the newest last.
#[derive(Debug, Default)]
pub(super) struct RecentEvents(VecDeque<Bytes>);

impl RecentEvents {
    /// Keeps an event.
    pub(super) fn push(&mut self, event: Bytes) {
        if self.0.len() == EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    /// All of them, the newest first.
    pub(super) fn all(&self) -> impl Iterator<Item = Value> {
        self.0
            .iter()
            .rev()
            .filter_map(|event| serde_json::from_slice(event).ok())
    }

    /// A page of the answer, from 1, the newest first.
    pub(super) fn page(&self, page: u16) -> Value {
        let before = usize::from(page).saturating_sub(1) * PAGE;
        let events: Vec<Value> = self.all().skip(before).take(PAGE).collect();
        json!({ "page": page, "pages": self.0.len().div_ceil(PAGE).max(1), "events": events })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_and_the_oldest_are_forgotten() {
        let mut events = RecentEvents::default();
        assert_eq!(events.page(1), json!({ "page": 1, "pages": 1, "events": [] }));
        for number in 1..=EVENTS_MAX + 5 {
            events.push(number.to_string().into());
        }
        let first = events.page(1);
        assert_eq!((&first["pages"], &first["events"][0]), (&json!(5), &json!(1005)));
        let last = events.page(5);
        assert_eq!(last["events"].as_array().unwrap().last(), Some(&json!(6)));
        assert_eq!(events.page(u16::MAX)["events"], json!([]));
    }
}
