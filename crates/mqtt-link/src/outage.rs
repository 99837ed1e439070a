//! How long to wait before the next attempt, and what of an outage is worth a line in the log. Pure.

use std::{
    collections::{HashSet, VecDeque},
    mem::{Discriminant, discriminant},
    time::Duration,
};

use tokio::time::Instant;

use super::LinkFault;

/// How long the broker had accepted a connection when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Not at all: the attempt failed.
    Unborn,
    /// Less than [`STABLE`].
    Brief,
    /// Long enough to call it sound.
    Sound,
}

impl Life {
    /// The life of a connection that ends at `now`.
    pub(super) fn until(now: Instant, accepted: Option<Instant>) -> Self {
        match accepted.map(|accepted| now.duration_since(accepted)) {
            None => Self::Unborn,
            Some(age) if age < STABLE => Self::Brief,
            Some(_) => Self::Sound,
        }
    }
}

/// A connection that lives this long is sound: the back-off starts over and the outage before it is over.
pub(super) const STABLE: Duration = Duration::from_secs(5);
const SHORTEST: Duration = Duration::from_millis(200);
/// Where the back-off starts when only a person can help.
const SHORTEST_REFUSED: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(30);
/// This many connections closed by the broker within [`KICK_WINDOW`] look like a second client with our id.
const KICKS: usize = 5;
const KICK_WINDOW: Duration = Duration::from_mins(1);
/// Pauses are multiplied by something from this range, so that a fleet does not return in one instant.
pub(super) const JITTER: std::ops::RangeInclusive<f64> = 0.75..=1.25;

/// The pauses between attempts: 0.2 s doubling to 30 s.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: SHORTEST }
    }
}

impl Backoff {
    /// The pause after a connection or an attempt that ended with `fault`; `jitter` is drawn from [`JITTER`].
    pub(super) fn pause(&mut self, fault: &LinkFault, life: Life, jitter: f64) -> Duration {
        if life == Life::Sound {
            self.next = SHORTEST;
        }
        if fault.needs_a_person() {
            self.next = self.next.max(SHORTEST_REFUSED);
        }
        let pause = self.next.mul_f64(jitter);
        self.next = (self.next * 2).min(LONGEST);
        pause
    }
}

/// Whether a fault belongs in the log and to the owner of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The first of its kind in this outage.
    Fresh,
    /// Known already.
    Repeated,
}

/// What an outage took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recovery {
    /// Failed attempts and connections that did not last.
    pub(super) attempts: u32,
    /// Since the first fault.
    pub(super) duration: Duration,
}

/// What an accepted connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connected {
    /// Nothing had failed before.
    First,
    /// The outage looks over.
    Again(Recovery),
    /// The outage looked over before. This time it has to prove it, see [`Outage::stable`].
    Flapping,
}

/// The time without a sound connection, from its first fault to a connection that lasts.
#[derive(Debug, Default)]
pub(super) struct Outage {
    current: Option<Current>,
    kicks: VecDeque<Instant>,
}

#[derive(Debug)]
struct Current {
    since: Instant,
    attempts: u32,
    seen: HashSet<Discriminant<LinkFault>>,
    told: Told,
}

/// What was told of the end of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Over,
    /// It came back after we told that it is over.
    TooSoon,
}

impl Outage {
    /// An established connection ended. Returns the fault, or the suspicion that it backs.
    pub(super) fn suspect(&mut self, fault: LinkFault, now: Instant) -> LinkFault {
        match fault {
            LinkFault::ClosedByBroker => {}
            LinkFault::ConnectionRefused => {
                // The broker itself was gone: nobody else took our place there.
                self.kicks.clear();
                return fault;
            }
            _ => return fault,
        }
        self.kicks.push_back(now);
        self.kicks.retain(|kick| now.duration_since(*kick) < KICK_WINDOW);
        if self.kicks.len() < KICKS {
            fault
        } else {
            LinkFault::ClientIdTaken
        }
    }

    /// A connection or an attempt ended.
    pub(super) fn failed(&mut self, fault: &LinkFault, life: Life, now: Instant) -> News {
        if life == Life::Sound {
            self.current = None;
        }
        let current = self.current.get_or_insert_with(|| Current {
            since: now,
            attempts: 0,
            seen: HashSet::new(),
            told: Told::Nothing,
        });
        current.attempts += 1;
        if current.told == Told::Over {
            current.told = Told::TooSoon;
        }
        if current.seen.insert(discriminant(fault)) {
            News::Fresh
        } else {
            News::Repeated
        }
    }

    /// The broker accepted a connection.
    pub(super) fn connected(&mut self, now: Instant) -> Connected {
        match &mut self.current {
            None => Connected::First,
            Some(current) if current.told == Told::TooSoon => Connected::Flapping,
            Some(current) => {
                current.told = Told::Over;
                Connected::Again(current.recovery(now))
            }
        }
    }

    /// The connection lasted. `Some` if that is worth a line.
    pub(super) fn stable(&mut self, now: Instant) -> Option<Recovery> {
        self.current
            .take()
            .filter(|current| current.told == Told::TooSoon)
            .map(|current| current.recovery(now))
    }
}

impl Current {
    fn recovery(&self, now: Instant) -> Recovery {
        Recovery {
            attempts: self.attempts,
            duration: now.duration_since(self.since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_thirty_seconds_and_start_over_after_a_sound_connection() {
        let mut backoff = Backoff::default();
        let mut pause = |life| {
            backoff
                .pause(&LinkFault::ConnectionRefused, life, 1.0)
                .as_millis()
        };
        let pauses: Vec<_> = (0..9).map(|_| pause(Life::Unborn)).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
        assert_eq!(pause(Life::Brief), 30_000, "a link that flaps is not sound");
        assert_eq!(pause(Life::Sound), 200);
    }

    #[test]
    fn a_refused_login_is_not_hammered() {
        let mut backoff = Backoff::default();
        let mut pause = |fault| backoff.pause(&fault, Life::Unborn, 1.0).as_secs();
        let pauses: Vec<_> = (0..4).map(|_| pause(LinkFault::BadCredentials)).collect();
        assert_eq!(pauses, [5, 10, 20, 30]);
    }

    #[test]
    fn each_kind_of_fault_is_news_once_per_outage() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert_eq!(
            outage.failed(&LinkFault::ClosedByBroker, Life::Sound, now),
            News::Fresh
        );
        assert_eq!(
            outage.failed(&LinkFault::ConnectionRefused, Life::Unborn, now),
            News::Fresh
        );
        for _ in 0..3 {
            assert_eq!(
                outage.failed(&LinkFault::ConnectionRefused, Life::Unborn, now),
                News::Repeated
            );
        }
        assert_eq!(
            outage.failed(&LinkFault::BadCredentials, Life::Unborn, now),
            News::Fresh
        );
        assert_eq!(
            outage.failed(&LinkFault::ConnectionRefused, Life::Sound, now),
            News::Fresh,
            "a new outage"
        );
    }

    #[test]
    fn a_recovery_is_told_at_once_and_then_only_of_a_link_that_lasts() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        assert_eq!(outage.connected(start), Connected::First);
        outage.failed(&LinkFault::ClosedByBroker, Life::Sound, start);
        outage.failed(&LinkFault::ConnectionRefused, Life::Unborn, start);
        let later = start + Duration::from_secs(1);
        let recovery = Recovery {
            attempts: 2,
            duration: Duration::from_secs(1),
        };
        assert_eq!(outage.connected(later), Connected::Again(recovery));
        for _ in 0..3 {
            outage.failed(&LinkFault::ClosedByBroker, Life::Brief, later);
            assert_eq!(outage.connected(later), Connected::Flapping);
        }
        assert_eq!(outage.stable(later).map(|recovery| recovery.attempts), Some(5));
        assert_eq!(outage.stable(later), None);

        outage.failed(&LinkFault::ClosedByBroker, Life::Brief, start);
        assert!(
            matches!(outage.connected(later), Connected::Again(_)),
            "a new outage"
        );
        assert_eq!(outage.stable(later), None, "told already");
    }

    #[test]
    fn five_kicks_within_a_minute_are_a_taken_client_id() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let mut kick =
            |second| outage.suspect(LinkFault::ClosedByBroker, start + Duration::from_secs(second));
        for second in [0, 10, 20, 30] {
            assert_eq!(kick(second), LinkFault::ClosedByBroker);
        }
        assert_eq!(kick(40), LinkFault::ClientIdTaken);
        assert_eq!(kick(200), LinkFault::ClosedByBroker);
        assert_eq!(outage.suspect(LinkFault::Silent, start), LinkFault::Silent);
    }

    #[test]
    fn a_broker_that_keeps_dying_is_not_a_taken_client_id() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(
                outage.suspect(LinkFault::ClosedByBroker, now),
                LinkFault::ClosedByBroker
            );
            outage.suspect(LinkFault::ConnectionRefused, now);
        }
    }
}
