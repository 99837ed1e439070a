//! What a page gets: everything that is retained, then each change.

use std::{
    convert::Infallible,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{sync::OwnedSemaphorePermit, time::sleep, time::timeout};

use super::connections::ConnectionUse;
use crate::{
    domain::feed::{Changes, Feed, FeedMessage, FeedPosition},
    system::clock::Clock,
};

/// What is read of the feed at once.
const PIECE: usize = 64 * 1024;
/// Between two reads. Of what changes several times meanwhile, a page gets the last value.
const PACE: Duration = Duration::from_millis(50);
/// Shows a page that the connection stands.
const BEAT: Duration = Duration::from_secs(15);
/// How long a browser waits before it connects again.
const RETRY: &str = "retry: 2000\n\n";

/// One of the streams that there may be, and its connection.
pub(super) type StreamCounts = (OwnedSemaphorePermit, Option<ConnectionUse>);

/// What was written last for a page that has everything: others are at the same position, and get the same.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedPiece(Arc<Mutex<Option<Piece>>>);

#[derive(Debug, Clone)]
struct Piece {
    after: FeedPosition,
    until: FeedPosition,
    text: Bytes,
}

/// Server-sent events.
#[derive(Debug)]
struct EventStream {
    feed: Feed,
    clock: Clock,
    last: SharedPiece,
    position: Option<FeedPosition>,
    phase: StreamPhase,
    /// Counts the stream as long as it lives.
    _counts: StreamCounts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamPhase {
    /// Nothing was sent.
    Greeting,
    /// Not everything was sent yet.
    CatchingUp,
    /// Each change is sent.
    Live,
}

/// A stream of events for a page that has read up to `position`.
pub(super) fn body(
    feed: Feed,
    clock: Clock,
    last: SharedPiece,
    position: Option<FeedPosition>,
    counts: StreamCounts,
) -> Body {
    let events = EventStream {
        feed,
        clock,
        last,
        position,
        phase: StreamPhase::Greeting,
        _counts: counts,
    };
    Body::from_stream(stream::unfold(events, |mut events| async {
        let piece = events.next().await?;
        Some((Ok::<_, Infallible>(piece), events))
    }))
}

impl EventStream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let text = self.read();
            if !text.is_empty() {
                return Some(text);
            }
            match timeout(BEAT, self.feed.changed()).await {
                Err(_) => {
                    let now = self.clock.now().as_millisecond();
                    return Some(format!("event: beat\ndata: {now}\n\n").into());
                }
                Ok(true) => sleep(PACE).await,
                Ok(false) => return None,
            }
        }
    }

    fn read(&mut self) -> Bytes {
        match (self.phase, self.position) {
            (StreamPhase::Live, Some(position)) => self.read_shared(position),
            _ => self.read_own(),
        }
    }

    /// What all pages at this position get.
    fn read_shared(&mut self, position: FeedPosition) -> Bytes {
        let shared = self.last.clone();
        let mut last = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = last.as_ref().filter(|piece| piece.after == position) {
            self.position = Some(piece.until);
            return piece.text.clone();
        }
        let text = self.read_own();
        if let (StreamPhase::Live, Some(until), false) = (self.phase, self.position, text.is_empty()) {
            *last = Some(Piece {
                after: position,
                until,
                text: text.clone(),
            });
        }
        text
    }

    fn read_own(&mut self) -> Bytes {
        let changes = self.feed.changes(self.position, PIECE);
        let text = self.write(&changes);
        self.position = Some(changes.position);
        text.into()
    }

    fn write(&mut self, changes: &Changes) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        if self.phase == StreamPhase::Greeting || changes.restarts {
            let hello = hello(&self.clock, changes.restarts);
            let _ = write!(text, "event: hello\ndata: {hello}\n{RETRY}");
            self.phase = StreamPhase::CatchingUp;
        }
        for message in &changes.messages {
            let _ = write!(text, "id: {}\ndata: {}\n\n", message.position, encoded(message));
        }
        if self.phase == StreamPhase::CatchingUp && !changes.more {
            text.push_str("data: {\"topic\":null}\n\n");
            self.phase = StreamPhase::Live;
        }
        text
    }
}

/// What is newer than a position, for a page that cannot have a stream.
pub(super) fn changes(feed: &Feed, clock: &Clock, position: Option<FeedPosition>) -> String {
    let changes = feed.changes(position, 4 * PIECE);
    let messages: Vec<_> = changes.messages.iter().map(encoded).collect();
    let Changes {
        position,
        more,
        restarts,
        ..
    } = changes;
    let hello = hello(clock, restarts);
    let messages = messages.join(",");
    format!("{{\"hello\":{hello},\"id\":\"{position}\",\"more\":{more},\"changes\":[{messages}]}}")
}

/// What a page has to know first.
fn hello(clock: &Clock, restarts: bool) -> Value {
    json!({
        "now": clock.now().as_millisecond(),
        "version": env!("CARGO_PKG_VERSION"),
        "restarts": restarts,
    })
}

/// A message as JSON. Payloads of retained topics are JSON already, on one line.
fn encoded(message: &FeedMessage) -> String {
    let payload = message
        .payload
        .as_deref()
        .map_or("null".into(), String::from_utf8_lossy);
    format!(
        "{{\"topic\":{},\"payload\":{payload}}}",
        json!(message.topic.as_ref())
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::domain::feed::feed;

    fn stream(feed: &Feed, position: Option<FeedPosition>) -> EventStream {
        let permits = Arc::new(Semaphore::new(1));
        EventStream {
            feed: feed.clone(),
            clock: Clock::system(),
            last: SharedPiece::default(),
            position,
            phase: StreamPhase::Greeting,
            _counts: (permits.try_acquire_owned().unwrap(), None),
        }
    }

    fn data(text: &[u8]) -> Vec<&str> {
        let text = std::str::from_utf8(text).unwrap();
        text.lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_gets_everything_then_each_change() {
        let (writer, feed) = feed();
        writer.publish("heater", &Bytes::from_static(br#"{"state":"ON"}"#));
        let mut page = stream(&feed, None);
        let first = page.next().await.unwrap();
        assert!(first.starts_with(b"event: hello\n"), "{first:?}");
        assert_eq!(
            data(&first)[1..],
            [
                r#"{"topic":"heater","payload":{"state":"ON"}}"#,
                r#"{"topic":null}"#
            ]
        );
        let beat = page.next().await.unwrap();
        assert!(beat.starts_with(b"event: beat\n"), "{beat:?}");
        let seen = page.position;
        writer.clear("heater");
        let cleared = r#"{"topic":"heater","payload":null}"#;
        assert_eq!(data(&page.next().await.unwrap()), [cleared]);

        let resumed = stream(&feed, seen).next().await.unwrap();
        assert!(data(&resumed)[0].contains(r#""restarts":false"#), "{resumed:?}");
        assert_eq!(data(&resumed)[1..], [cleared, r#"{"topic":null}"#]);
        drop(writer);
        assert_eq!(page.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn pages_at_one_position_share_what_is_written() {
        let (writer, feed) = feed();
        let mut pages = [stream(&feed, None), stream(&feed, None)];
        let [one, other] = &mut pages;
        other.last = one.last.clone();
        for page in [&mut *one, &mut *other] {
            page.next().await.unwrap();
        }
        for number in 0..3 {
            writer.publish("heater", &Bytes::from(format!("{{\"power\":{number}}}")));
            let first = one.next().await.unwrap();
            writer.publish("lamp", &Bytes::from(format!("{{\"power\":{number}}}")));
            let second = other.next().await.unwrap();
            assert_eq!(first.as_ptr(), second.as_ptr(), "written once");
            // What came meanwhile is next.
            for page in [&mut *one, &mut *other] {
                let next = page.next().await.unwrap();
                assert_eq!(
                    data(&next),
                    [format!(r#"{{"topic":"lamp","payload":{{"power":{number}}}}}"#)]
                );
            }
        }
    }

    #[test]
    fn what_cannot_have_a_stream_asks_for_changes() {
        let (writer, feed) = feed();
        writer.publish("heater", &Bytes::from_static(br#"{"state":"ON"}"#));
        let read = |position| -> Value {
            serde_json::from_str(&changes(&feed, &Clock::system(), position)).unwrap()
        };
        let first = read(None);
        assert_eq!(
            first["changes"],
            json!([{"topic": "heater", "payload": {"state": "ON"}}])
        );
        assert_eq!(
            (&first["hello"]["restarts"], &first["more"]),
            (&json!(true), &json!(false))
        );
        let position = first["id"].as_str().unwrap().parse().ok();
        let second = read(position);
        assert_eq!(
            (&second["changes"], &second["hello"]["restarts"]),
            (&json!([]), &json!(false))
        );
    }
}
