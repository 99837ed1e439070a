//! Another bridge with the same base topic. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Each bridge publishes `bridge/health` once a minute. One that did not for this long is gone.
const GONE_AFTER: Duration = Duration::from_secs(150);

/// When another bridge with the same base topic was last seen. Each command is carried out by both.
#[derive(Debug, Default)]
pub(super) struct OtherBridge {
    seen: Option<Instant>,
}

impl OtherBridge {
    /// Another bridge published its health. Returns whether that is new.
    pub(super) fn seen(&mut self, now: Instant) -> bool {
        let new = !self.is_here(now);
        self.seen = Some(now);
        new
    }

    /// Whether there is one.
    pub(super) fn is_here(&self, now: Instant) -> bool {
        self.seen
            .is_some_and(|seen| now.duration_since(seen) < GONE_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_new_once_until_it_is_gone() {
        let (mut other, now) = (OtherBridge::default(), Instant::now());
        assert!(!other.is_here(now));
        assert!(other.seen(now));
        assert!(!other.seen(now + Duration::from_mins(1)));
        let gone = now + Duration::from_mins(1) + GONE_AFTER;
        assert!(!other.is_here(gone));
        assert!(other.seen(gone));
    }
}
