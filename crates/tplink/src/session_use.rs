//! How a device treats its sessions over KLAP 1. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::Scheme;

/// Some HS110 end each session with its first request (python-kasa, pull request 1715). What one such session looks like is
/// also what another client leaves that took the place, so two in a row and their haste are the proof.
#[derive(Debug, Default)]
pub(crate) struct SessionUse {
    /// It is a session over KLAP 1.
    is_watched: bool,
    /// How many requests it answered.
    answered: u32,
    last_answer: Option<Instant>,
    /// Sessions in a row that ended with their first request.
    short: u32,
}

/// A session that is lost within this time of its last answer was ended by the device itself.
const AT_ONCE: Duration = Duration::from_secs(2);
/// So many short sessions in a row are the rule of the device.
const PROOF: u32 = 2;

impl SessionUse {
    /// After a login that was asked for. Nothing is known of the device.
    pub(crate) fn of(scheme: Scheme) -> Self {
        Self {
            is_watched: scheme != Scheme::V2,
            ..Self::default()
        }
    }

    /// The session was replaced by a new one.
    pub(crate) fn on_renewed(&mut self) {
        (self.answered, self.last_answer) = (0, None);
    }

    pub(crate) fn on_answer(&mut self, now: Instant) {
        self.answered = self.answered.saturating_add(1);
        self.last_answer = Some(now);
        if self.answered > 1 {
            self.short = 0;
        }
    }

    /// The session was lost. Returns whether its place is taken by a new one at once: one for each request at most.
    pub(crate) fn on_lost(&mut self, now: Instant) -> bool {
        let is_recent = |last: Instant| now.saturating_duration_since(last) < AT_ONCE;
        let is_short = self.is_watched && self.answered == 1 && self.last_answer.is_some_and(is_recent);
        self.short = if is_short { self.short + 1 } else { 0 };
        is_short
    }

    /// Whether the session has had the one request that the device takes.
    pub(crate) fn is_over(&self) -> bool {
        self.short >= PROOF && self.answered > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn two_short_sessions_in_a_row_are_the_rule() {
        let (mut session, start) = (SessionUse::of(Scheme::V1), Instant::now());
        for _ in 0..PROOF {
            session.on_answer(start);
            assert!(!session.is_over() && session.on_lost(at(start, 100)));
            session.on_renewed();
        }
        assert!(!session.is_over(), "the new one has had none");
        session.on_answer(start);
        assert!(session.is_over());
    }

    #[test]
    fn a_session_that_another_client_takes_proves_nothing() {
        let start = Instant::now();
        let mut late = SessionUse::of(Scheme::V1);
        for _ in 0..5 {
            late.on_answer(start);
            assert!(!late.on_lost(at(start, 2000)));
            late.on_renewed();
        }
        let mut long = SessionUse::of(Scheme::V1);
        for _ in 0..5 {
            long.on_answer(start);
            long.on_answer(start);
            assert!(!long.on_lost(start) && !long.is_over());
            long.on_renewed();
        }
        // One that answers nothing is not renewed again: no loop.
        assert!(!long.on_lost(start));
        let mut newer = SessionUse::of(Scheme::V2);
        newer.on_answer(start);
        assert!(!newer.on_lost(start));
    }
}
