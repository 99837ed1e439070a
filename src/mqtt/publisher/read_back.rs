//! What the bridge publishes on topics that it also reads. Pure.
//!
//! Brokers acknowledge a message and drop it if their access rules or size limits deny it.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// How long after the last message a message may take to come back.
const PATIENCE: Duration = Duration::from_secs(5);
/// Topics that are named at most.
const NAMED_MAX: usize = 3;

/// Messages that have to come back, and those that did not.
#[derive(Debug, Default)]
pub(super) struct ReadBack {
    /// The last message of each topic.
    pending: BTreeMap<String, Sent>,
    missing: BTreeMap<String, Sent>,
    hasher: RandomState,
    deadline: Option<Instant>,
    /// What topics start with that cannot be read.
    denied: BTreeSet<String>,
}

/// A message that was published. The one before it on its topic may come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    bytes: usize,
    hash: u64,
}

impl ReadBack {
    /// A message was published.
    pub(super) fn published(&mut self, topic: String, payload: &[u8], now: Instant) {
        let is_denied = |prefix: &String| topic.starts_with(prefix.as_str());
        if !self.denied.iter().any(is_denied) {
            let sent = self.sent(payload);
            self.pending.insert(topic, sent);
            self.deadline = Some(now + PATIENCE);
        }
    }

    /// A message came back.
    pub(super) fn received(&mut self, topic: &str, payload: &[u8], now: Instant) {
        let last = self.pending.get(topic).or_else(|| self.missing.get(topic));
        if last == Some(&self.sent(payload)) {
            self.forget(topic);
        }
        self.deadline = self.deadline.map(|_| now + PATIENCE);
        self.end();
    }

    /// Nothing comes back on a topic.
    pub(super) fn forget(&mut self, topic: &str) {
        self.pending.remove(topic);
        self.missing.remove(topic);
        self.end();
    }

    /// Nothing comes back on any topic that starts so, because there is no subscription.
    pub(super) fn deny(&mut self, prefix: &str) {
        let keep = |topic: &String, _: &mut Sent| !topic.starts_with(prefix);
        self.pending.retain(keep);
        self.missing.retain(keep);
        self.denied.insert(prefix.to_owned());
        self.end();
    }

    /// A connection stands, and everything is published again.
    pub(super) fn connected(&mut self, now: Instant) {
        if !self.pending.is_empty() {
            self.deadline = Some(now + PATIENCE);
        }
    }

    /// There is no connection.
    pub(super) fn disconnected(&mut self) {
        self.deadline = None;
    }

    /// When what has not come back is missing.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The deadline is over. `busy` says that messages still wait for the broker. Returns what is missing now and was not
    /// before.
    pub(super) fn on_deadline(&mut self, busy: bool, now: Instant) -> Option<String> {
        if busy {
            self.deadline = Some(now + PATIENCE);
            return None;
        }
        self.deadline = None;
        let new = std::mem::take(&mut self.pending);
        let (known, new): (BTreeMap<_, _>, BTreeMap<_, _>) = new
            .into_iter()
            .partition(|(topic, _)| self.missing.contains_key(topic));
        let text = described(&new);
        self.missing.extend(known);
        self.missing.extend(new);
        text
    }

    /// What is missing.
    pub(super) fn issue(&self) -> Option<String> {
        described(&self.missing)
    }

    fn sent(&self, payload: &[u8]) -> Sent {
        Sent {
            bytes: payload.len(),
            hash: self.hasher.hash_one(payload),
        }
    }

    fn end(&mut self) {
        if self.pending.is_empty() {
            self.deadline = None;
        }
    }
}

fn described(missing: &BTreeMap<String, Sent>) -> Option<String> {
    let named = missing
        .iter()
        .take(NAMED_MAX)
        .map(|(topic, sent)| format!("{topic} ({} bytes)", sent.bytes));
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match missing.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!missing.is_empty()).then(|| {
        format!(
            "the broker acknowledged messages and did not deliver them: {named}{more}; check its access rules (write and \
             read) and its size limits (Mosquitto: message_size_limit)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(1);

    #[test]
    fn what_does_not_come_back_is_reported_once() {
        let (mut read_back, now) = (ReadBack::default(), Instant::now());
        assert_eq!(read_back.deadline(), None);
        let large = vec![b'x'; 20_000];
        for (topic, payload) in [("a", &b"1"[..]), ("b", b"small"), ("b", &large)] {
            read_back.published(topic.to_owned(), payload, now);
        }
        read_back.received("a", b"1", now + STEP);
        assert_eq!(read_back.deadline(), Some(now + STEP + PATIENCE), "progress");
        read_back.received("b", b"small", now + STEP);
        let late = now + STEP + PATIENCE;
        assert_eq!(read_back.on_deadline(true, late), None, "it still waits");
        assert_eq!(read_back.deadline(), Some(late + PATIENCE));
        let missing = read_back.on_deadline(false, late).unwrap();
        assert!(
            missing.contains("b (20000 bytes)") && !missing.contains("a ("),
            "{missing}"
        );
        assert_eq!(read_back.issue(), Some(missing));
        assert_eq!(read_back.deadline(), None);

        read_back.published("b".to_owned(), b"other", late);
        assert_eq!(read_back.on_deadline(false, late + PATIENCE), None, "said once");
        read_back.received("b", &large, late);
        assert!(read_back.issue().is_some());
        read_back.received("b", b"other", late);
        assert_eq!(read_back.issue(), None);
    }

    #[test]
    fn nothing_is_missing_without_a_connection_or_subscription() {
        let (mut read_back, now) = (ReadBack::default(), Instant::now());
        read_back.published("homeassistant/device/a/config".to_owned(), b"{}", now);
        read_back.disconnected();
        assert_eq!(read_back.deadline(), None);
        read_back.connected(now + STEP);
        assert_eq!(read_back.deadline(), Some(now + STEP + PATIENCE));
        read_back.deny("homeassistant/device/");
        read_back.published("homeassistant/device/b/config".to_owned(), b"{}", now);
        assert_eq!((read_back.deadline(), read_back.issue()), (None, None));
    }
}
