//! Something that is told again and again, but not too often. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// At most one telling each pause. What is asked for meanwhile is told once, at its end.
#[derive(Debug)]
pub(super) struct Throttle {
    pause: Duration,
    due: Option<Instant>,
    told: Option<Instant>,
}

impl Throttle {
    /// Nothing was told or asked for.
    pub(super) fn new(pause: Duration) -> Self {
        Self {
            pause,
            due: None,
            told: None,
        }
    }

    /// There is something to tell.
    pub(super) fn ask(&mut self, now: Instant) {
        let earliest = self.told.map_or(now, |told| now.max(told + self.pause));
        self.due.get_or_insert(earliest);
    }

    /// When it is to be told; `None` if there is nothing to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It was told.
    pub(super) fn told(&mut self, now: Instant) {
        self.due = None;
        self.told = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(2);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_is_told_at_once_and_the_rest_together_after_the_pause() {
        let (mut pace, start) = (Throttle::new(PAUSE), Instant::now());
        assert_eq!(pace.due(), None);
        pace.ask(start);
        assert_eq!(pace.due(), Some(start));
        pace.told(start);
        assert_eq!(pace.due(), None);
        pace.ask(start + SECOND / 2);
        pace.ask(start + SECOND);
        assert_eq!(pace.due(), Some(start + PAUSE));
    }

    #[test]
    fn after_a_longer_silence_it_is_told_at_once() {
        let (mut pace, start) = (Throttle::new(PAUSE), Instant::now());
        pace.told(start);
        pace.ask(start + PAUSE + SECOND);
        assert_eq!(pace.due(), Some(start + PAUSE + SECOND));
    }
}
