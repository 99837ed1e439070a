//! Limits how often something is published. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// At most one publication each pause. Several requests during a pause make one at its end.
#[derive(Debug)]
pub(super) struct Throttle {
    pause: Duration,
    due: Option<Instant>,
    last: Option<Instant>,
}

impl Throttle {
    /// Nothing was published or requested.
    pub(super) fn new(pause: Duration) -> Self {
        Self {
            pause,
            due: None,
            last: None,
        }
    }

    /// Something is to be published.
    pub(super) fn request(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| now.max(last + self.pause));
        self.due.get_or_insert(earliest);
    }

    /// When it is to be published; `None` if nothing is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It is published.
    pub(super) fn done(&mut self, now: Instant) {
        self.due = None;
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(2);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_is_published_at_once_and_the_rest_after_the_pause() {
        let (mut throttle, start) = (Throttle::new(PAUSE), Instant::now());
        assert_eq!(throttle.due(), None);
        throttle.request(start);
        assert_eq!(throttle.due(), Some(start));
        throttle.done(start);
        assert_eq!(throttle.due(), None);
        throttle.request(start + SECOND / 2);
        throttle.request(start + SECOND);
        assert_eq!(throttle.due(), Some(start + PAUSE));
    }

    #[test]
    fn after_a_longer_silence_it_is_published_at_once() {
        let (mut throttle, start) = (Throttle::new(PAUSE), Instant::now());
        throttle.done(start);
        throttle.request(start + PAUSE + SECOND);
        assert_eq!(throttle.due(), Some(start + PAUSE + SECOND));
    }
}
