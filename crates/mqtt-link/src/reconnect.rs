//! What to log and report while there is no stable connection. No I/O.

use std::{
    collections::{HashSet, VecDeque},
    mem::{Discriminant, discriminant},
    time::Duration,
};

use tokio::time::Instant;

use crate::{LinkFault, connection_state::ConnectionState};

/// If the broker closes this many connections within [`CLOSE_WINDOW`], a second client probably uses the same id.
const MAX_CLOSES: usize = 5;
const CLOSE_WINDOW: Duration = Duration::from_mins(1);

/// Whether to log a fault and report it to the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The first fault of its kind at this broker since the last stable connection.
    New,
    /// Logged already.
    Repeated,
}

/// Statistics of a reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// Failed attempts and unstable connections.
    pub(crate) attempts: u32,
    /// Time since the first fault, or since the last answer of a broker that did not answer any more.
    pub(crate) duration: Duration,
}

/// How to log an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connected {
    /// The first connection since the start, and what failed before it.
    First(Option<Recovery>),
    /// The first connection after a fault.
    Again(Recovery),
    /// A reconnect was logged before and did not last. Wait for [`Reconnect::on_stable`].
    Flapping,
}

/// The time without a stable connection: from the first fault to a connection that lasts.
#[derive(Debug, Default)]
pub(crate) struct Reconnect {
    was_connected: bool,
    downtime: Option<Downtime>,
    closes: VecDeque<Instant>,
}

#[derive(Debug)]
struct Downtime {
    since: Instant,
    /// When the broker last accepted a connection.
    accepted: Instant,
    attempts: u32,
    /// By broker.
    seen: HashSet<(usize, Discriminant<LinkFault>)>,
    logged: LastLogged,
}

/// The log entry for the end of a downtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastLogged {
    Nothing,
    Reconnected,
    /// The connection failed again after the reconnect was logged.
    Flapping,
}

impl Reconnect {
    /// Returns the fault of an ended connection, or [`LinkFault::ClientIdTaken`] if the broker closes connections too
    /// often.
    pub(crate) fn classify(&mut self, fault: LinkFault, now: Instant) -> LinkFault {
        match fault {
            LinkFault::ClosedByBroker => {}
            LinkFault::ConnectionRefused => {
                // The broker itself was down, so no other client took the id.
                self.closes.clear();
                return fault;
            }
            _ => return fault,
        }
        self.closes.push_back(now);
        self.closes
            .retain(|close| now.duration_since(*close) < CLOSE_WINDOW);
        if self.closes.len() < MAX_CLOSES {
            fault
        } else {
            LinkFault::ClientIdTaken
        }
    }

    /// A connection or an attempt ended, which was of no use since then. `broker` is the position of its broker.
    pub(crate) fn on_failed(
        &mut self,
        broker: usize,
        fault: &LinkFault,
        state: ConnectionState,
        since: Instant,
    ) -> Notice {
        if state == ConnectionState::Stable {
            self.downtime = None;
        }
        let downtime = self.downtime.get_or_insert_with(|| Downtime {
            since,
            accepted: since,
            attempts: 0,
            seen: HashSet::new(),
            logged: LastLogged::Nothing,
        });
        downtime.attempts += 1;
        if downtime.logged == LastLogged::Reconnected {
            downtime.logged = LastLogged::Flapping;
        }
        if downtime.seen.insert((broker, discriminant(fault))) {
            Notice::New
        } else {
            Notice::Repeated
        }
    }

    /// The broker accepted a connection.
    pub(crate) fn on_connected(&mut self, now: Instant) -> Connected {
        let is_first = !std::mem::replace(&mut self.was_connected, true);
        let Some(downtime) = &mut self.downtime else {
            return Connected::First(None);
        };
        downtime.accepted = now;
        if downtime.logged == LastLogged::Flapping {
            return Connected::Flapping;
        }
        downtime.logged = LastLogged::Reconnected;
        let recovery = downtime.recovery();
        if is_first {
            Connected::First(Some(recovery))
        } else {
            Connected::Again(recovery)
        }
    }

    /// The connection is stable. `Some` if the reconnect is not logged yet.
    pub(crate) fn on_stable(&mut self) -> Option<Recovery> {
        self.downtime
            .take()
            .filter(|downtime| downtime.logged == LastLogged::Flapping)
            .map(|downtime| downtime.recovery())
    }
}

impl Downtime {
    /// Until the broker accepted the connection: that it lasts is known later.
    fn recovery(&self) -> Recovery {
        Recovery {
            attempts: self.attempts,
            duration: self.accepted.duration_since(self.since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_fault_is_new_once_per_downtime() {
        let (mut reconnect, now) = (Reconnect::default(), Instant::now());
        let mut failed = |fault, state| reconnect.on_failed(0, &fault, state, now);
        assert_eq!(
            failed(LinkFault::ClosedByBroker, ConnectionState::Stable),
            Notice::New
        );
        assert_eq!(
            failed(LinkFault::ConnectionRefused, ConnectionState::Failed),
            Notice::New
        );
        for _ in 0..3 {
            assert_eq!(
                failed(LinkFault::ConnectionRefused, ConnectionState::Failed),
                Notice::Repeated
            );
        }
        assert_eq!(
            failed(LinkFault::BadCredentials, ConnectionState::Failed),
            Notice::New
        );
        assert_eq!(
            failed(LinkFault::ConnectionRefused, ConnectionState::Stable),
            Notice::New,
            "a new downtime"
        );
    }

    #[test]
    fn later_reconnects_are_logged_only_when_stable() {
        let (mut reconnect, start) = (Reconnect::default(), Instant::now());
        assert_eq!(reconnect.on_connected(start), Connected::First(None));
        reconnect.on_failed(0, &LinkFault::ClosedByBroker, ConnectionState::Stable, start);
        reconnect.on_failed(0, &LinkFault::ConnectionRefused, ConnectionState::Failed, start);
        let later = start + Duration::from_secs(1);
        let recovery = Recovery {
            attempts: 2,
            duration: Duration::from_secs(1),
        };
        assert_eq!(reconnect.on_connected(later), Connected::Again(recovery));
        for second in 2..=4 {
            let at = start + Duration::from_secs(second);
            reconnect.on_failed(0, &LinkFault::ClosedByBroker, ConnectionState::Unstable, at);
            assert_eq!(reconnect.on_connected(at), Connected::Flapping);
        }
        let recovery = Recovery {
            attempts: 5,
            duration: Duration::from_secs(4),
        };
        assert_eq!(reconnect.on_stable(), Some(recovery), "until it was accepted");
        assert_eq!(reconnect.on_stable(), None);

        reconnect.on_failed(0, &LinkFault::ClosedByBroker, ConnectionState::Unstable, start);
        assert!(
            matches!(reconnect.on_connected(later), Connected::Again(_)),
            "a new downtime"
        );
        assert_eq!(reconnect.on_stable(), None, "logged already");
    }

    #[test]
    fn a_first_connection_after_faults_is_no_reconnect() {
        let (mut reconnect, start) = (Reconnect::default(), Instant::now());
        reconnect.on_failed(0, &LinkFault::ConnectionRefused, ConnectionState::Failed, start);
        let recovery = Recovery {
            attempts: 1,
            duration: Duration::from_secs(2),
        };
        let connected = reconnect.on_connected(start + Duration::from_secs(2));
        assert_eq!(connected, Connected::First(Some(recovery)));
        reconnect.on_failed(0, &LinkFault::ClosedByBroker, ConnectionState::Stable, start);
        assert!(matches!(reconnect.on_connected(start), Connected::Again(_)));
    }

    #[test]
    fn five_closes_within_a_minute_mean_a_taken_client_id() {
        let (mut reconnect, start) = (Reconnect::default(), Instant::now());
        let mut closed =
            |second| reconnect.classify(LinkFault::ClosedByBroker, start + Duration::from_secs(second));
        for second in [0, 10, 20, 30] {
            assert_eq!(closed(second), LinkFault::ClosedByBroker);
        }
        assert_eq!(closed(40), LinkFault::ClientIdTaken);
        assert_eq!(closed(200), LinkFault::ClosedByBroker);
        assert_eq!(reconnect.classify(LinkFault::Silent, start), LinkFault::Silent);
    }

    #[test]
    fn a_broker_that_restarts_often_is_not_a_taken_client_id() {
        let (mut reconnect, now) = (Reconnect::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(
                reconnect.classify(LinkFault::ClosedByBroker, now),
                LinkFault::ClosedByBroker
            );
            reconnect.classify(LinkFault::ConnectionRefused, now);
        }
    }
}
