//! What is published, for readers other than the broker: the newest payload of each retained topic, and the last events.
//!
//! A reader has a position, and asks for what is newer. Of a topic that changed often meanwhile it gets the last payload
//! only, so a slow reader costs no memory and delays nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

/// Events that are kept for readers that connect later.
pub const EVENTS_MAX: usize = 500;
/// Cleared topics that are remembered. A reader from before the oldest of them starts again.
const CLEARED_MAX: usize = 1000;
/// The topic of events.
pub const EVENT_TOPIC: &str = "bridge/event";

/// A new feed: the end to write to, and the one to read from.
pub fn feed() -> (FeedWriter, Feed) {
    let (newest, watched) = watch::channel(0);
    let shared = Arc::new(Mutex::new(Contents::default()));
    let run = rand::random();
    let writer = FeedWriter {
        shared: shared.clone(),
        newest,
    };
    let reader = Feed {
        shared,
        newest: watched,
        run,
    };
    (writer, reader)
}

/// The end of a feed to write to. It never waits. The feed ends with it.
#[derive(Debug)]
pub struct FeedWriter {
    shared: Arc<Mutex<Contents>>,
    newest: watch::Sender<u64>,
}

impl FeedWriter {
    /// Sets the payload of a topic. An equal payload is no change.
    pub fn publish(&self, topic: &str, payload: &Bytes) {
        self.write(|contents| contents.set(topic, Some(payload)));
    }

    /// Clears a topic.
    pub fn clear(&self, topic: &str) {
        self.write(|contents| contents.set(topic, None));
    }

    /// Adds an event.
    pub fn event(&self, payload: Bytes) {
        self.write(|contents| contents.add_event(payload));
    }

    fn write(&self, change: impl FnOnce(&mut Contents)) {
        let last = {
            let mut contents = lock(&self.shared);
            change(&mut contents);
            contents.last
        };
        self.newest.send_if_modified(|newest| {
            let changed = *newest != last;
            *newest = last;
            changed
        });
    }
}

/// The end of a feed to read from. Clones read on their own.
#[derive(Debug, Clone)]
pub struct Feed {
    shared: Arc<Mutex<Contents>>,
    newest: watch::Receiver<u64>,
    /// Of each start, another one.
    run: u32,
}

impl Feed {
    /// What is newer than `after`, at most about `max_bytes` of it. Everything, without a position or with one that is too
    /// old or of another run.
    pub fn changes(&self, after: Option<FeedPosition>, max_bytes: usize) -> Changes {
        let contents = lock(&self.shared);
        let known = after.filter(|after| {
            after.run == self.run && (contents.forgotten..=contents.last).contains(&after.number)
        });
        let from = known.map_or(0, |after| after.number);
        let mut changes = Changes {
            messages: Vec::new(),
            position: FeedPosition {
                run: self.run,
                number: from,
            },
            restarts: known.is_none(),
            more: false,
        };
        let mut bytes = 0;
        for (number, item) in contents.items.range(from + 1..) {
            if bytes >= max_bytes {
                changes.more = true;
                return changes;
            }
            let position = FeedPosition {
                run: self.run,
                number: *number,
            };
            changes.position = position;
            let (topic, payload) = match item {
                Item::Event(payload) => (Arc::from(EVENT_TOPIC), Some(payload.clone())),
                Item::Topic(topic) => {
                    let entry = contents.topics.get(topic);
                    (topic.clone(), entry.and_then(|(_, payload)| payload.clone()))
                }
            };
            bytes += topic.len() + payload.as_ref().map_or(0, Bytes::len);
            changes.messages.push(FeedMessage {
                topic,
                payload,
                position,
            });
        }
        changes.position.number = contents.last;
        changes
    }

    /// Waits until there may be something newer than what was read last; `false` once the feed has ended.
    pub async fn changed(&mut self) -> bool {
        self.newest.changed().await.is_ok()
    }
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// In the order of their positions.
    pub messages: Vec<FeedMessage>,
    /// Where to go on.
    pub position: FeedPosition,
    /// Whether the reader starts again, and has to forget what it has.
    pub restarts: bool,
    /// Whether there is more.
    pub more: bool,
}

/// The payload of a topic, or an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedMessage {
    /// Below the base topic.
    pub topic: Arc<str>,
    /// JSON; `None` where the topic was cleared.
    pub payload: Option<Bytes>,
    /// Where a reader that has it goes on.
    pub position: FeedPosition,
}

/// How far a reader has read. As text, `<run>-<number>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedPosition {
    run: u32,
    number: u64,
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.run, self.number)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the id of an earlier message")]
pub struct NotAPosition;

impl FromStr for FeedPosition {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (run, number) = text.split_once('-').ok_or(NotAPosition)?;
        Ok(Self {
            run: u32::from_str_radix(run, 16).map_err(|_| NotAPosition)?,
            number: number.parse().map_err(|_| NotAPosition)?,
        })
    }
}

#[derive(Debug, Default)]
struct Contents {
    /// The number of the last change.
    last: u64,
    /// The number of the last change of each topic, and its payload; `None` is cleared.
    topics: BTreeMap<Arc<str>, (u64, Option<Bytes>)>,
    /// The last change of each topic, and the events, by number.
    items: BTreeMap<u64, Item>,
    events: VecDeque<u64>,
    cleared: VecDeque<u64>,
    /// The number of the last change that is not known any more.
    forgotten: u64,
}

#[derive(Debug)]
enum Item {
    Topic(Arc<str>),
    Event(Bytes),
}

impl Contents {
    fn set(&mut self, topic: &str, payload: Option<&Bytes>) {
        let topic: Arc<str> = match self.topics.get_key_value(topic) {
            Some((_, (_, known))) if known.as_ref() == payload => return,
            Some((topic, (number, _))) => {
                self.items.remove(number);
                topic.clone()
            }
            None if payload.is_none() => return,
            None => topic.into(),
        };
        self.last += 1;
        self.items.insert(self.last, Item::Topic(topic.clone()));
        self.topics.insert(topic, (self.last, payload.cloned()));
        if payload.is_none() {
            self.cleared.push_back(self.last);
            self.forget_cleared();
        }
    }

    fn forget_cleared(&mut self) {
        while self.cleared.len() > CLEARED_MAX
            && let Some(number) = self.cleared.pop_front()
        {
            // It may have been published again since, under another number.
            if let Some(Item::Topic(topic)) = self.items.remove(&number) {
                self.topics.remove(&topic);
                self.forgotten = number;
            }
        }
    }

    fn add_event(&mut self, payload: Bytes) {
        self.last += 1;
        self.items.insert(self.last, Item::Event(payload));
        self.events.push_back(self.last);
        if self.events.len() > EVENTS_MAX
            && let Some(oldest) = self.events.pop_front()
        {
            self.items.remove(&oldest);
        }
    }
}

fn lock(shared: &Mutex<Contents>) -> MutexGuard<'_, Contents> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = usize::MAX;

    fn topics(changes: &Changes) -> Vec<(&str, Option<&str>)> {
        let text = |payload: &Bytes| std::str::from_utf8(&payload.clone()).unwrap().to_owned();
        let texts = changes
            .messages
            .iter()
            .map(|message| message.payload.as_ref().map(text));
        let texts: Vec<_> = texts.map(|text| text.map(|text| &*text.leak())).collect();
        let topics = changes.messages.iter().map(|message| &*message.topic);
        topics.zip(texts).collect()
    }

    fn set(writer: &FeedWriter, topic: &str, payload: &str) {
        writer.publish(topic, &Bytes::from(payload.to_owned()));
    }

    #[test]
    fn a_slow_reader_gets_the_last_payload_of_each_topic() {
        let (writer, feed) = feed();
        set(&writer, "heater", "1");
        set(&writer, "lamp", "1");
        let first = feed.changes(None, ALL);
        assert!(first.restarts && !first.more);
        assert_eq!(topics(&first), [("heater", Some("1")), ("lamp", Some("1"))]);
        for payload in ["2", "3", "3"] {
            set(&writer, "heater", payload);
        }
        writer.event(Bytes::from_static(b"{}"));
        writer.clear("lamp");
        writer.clear("never");
        let second = feed.changes(Some(first.position), ALL);
        assert!(!second.restarts);
        assert_eq!(
            topics(&second),
            [("heater", Some("3")), (EVENT_TOPIC, Some("{}")), ("lamp", None)]
        );
        assert_eq!(feed.changes(Some(second.position), ALL).messages, []);
        let again = feed.changes(Some(second.messages[0].position), ALL);
        assert_eq!(again.messages, second.messages[1..]);
    }

    #[test]
    fn much_is_read_in_pieces() {
        let (writer, feed) = feed();
        for number in 0..10 {
            set(&writer, &format!("plug{number}"), "0123456789");
        }
        let (mut position, mut read, mut pieces) = (None, 0, 0);
        loop {
            let changes = feed.changes(position, 30);
            read += changes.messages.len();
            pieces += 1;
            position = Some(changes.position);
            if !changes.more {
                break;
            }
        }
        assert_eq!((read, pieces), (10, 5));
    }

    #[test]
    fn a_position_of_another_run_or_too_old_starts_again() {
        let (writer, reader) = feed();
        set(&writer, "heater", "1");
        let here = reader.changes(None, ALL).position;
        let text = here.to_string();
        assert_eq!(text.parse(), Ok(here));
        for wrong in ["", "1", "x-1", "1-x", "-"] {
            assert_eq!(wrong.parse::<FeedPosition>(), Err(NotAPosition), "{wrong}");
        }
        let other = FeedPosition {
            run: here.run.wrapping_add(1),
            ..here
        };
        assert!(reader.changes(Some(other), ALL).restarts);
        let ahead = FeedPosition { number: 99, ..here };
        assert!(reader.changes(Some(ahead), ALL).restarts);
        assert!(!reader.changes(Some(here), ALL).restarts);
        for number in 0..=CLEARED_MAX {
            let topic = format!("plug{number}");
            set(&writer, &topic, "1");
            writer.clear(&topic);
        }
        assert!(reader.changes(Some(here), ALL).restarts);
    }

    #[test]
    fn it_is_bounded_however_much_is_written() {
        let (writer, reader) = feed();
        for number in 0..3 * EVENTS_MAX {
            writer.event(Bytes::from_static(b"{}"));
            let topic = format!("plug{number}");
            set(&writer, &topic, "1");
            writer.clear(&topic);
        }
        let contents = lock(&reader.shared);
        assert_eq!(contents.items.len(), EVENTS_MAX + CLEARED_MAX);
        assert_eq!(contents.topics.len(), CLEARED_MAX);
    }

    #[tokio::test]
    async fn it_ends_with_its_writer() {
        let (writer, mut reader) = feed();
        set(&writer, "heater", "1");
        assert!(reader.changed().await);
        drop(writer);
        assert!(!reader.changed().await);
    }
}
