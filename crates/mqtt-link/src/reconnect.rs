//! What to log and report while there is no stable connection. No I/O.

use std::{
    collections::{HashSet, VecDeque},
    mem::{Discriminant, discriminant},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    LinkFault,
    connection_state::{LASTING, STABLE_AFTER},
};

/// If the broker closes this many connections within [`CLOSE_WINDOW`], a second client probably uses the same id.
const MAX_CLOSES: usize = 5;
const CLOSE_WINDOW: Duration = Duration::from_mins(1);
/// A connection ends a downtime once it lasted so long: [`STABLE_AFTER`], and twice as long each time that was not enough, so
/// that connections that always end fill no log. The longest is longer than the link stays where all subscriptions are
/// denied.
const SETTLED_MAX: Duration = Duration::from_hours(2);

/// How to log the end of a connection or of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The end of a connection whose beginning was logged.
    Lost,
    /// The end of a connection whose beginning was not logged: the first fault of its kind at this broker in this downtime.
    NotLasting,
    /// The broker did not accept the connection: the first fault of its kind at this broker in this downtime.
    Failed,
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
    /// A reconnect was logged before and did not last. Wait for [`Reconnect::on_lasting`].
    Flapping,
}

/// The time without a connection that lasts: from the first fault to one that does.
#[derive(Debug)]
pub(crate) struct Reconnect {
    was_connected: bool,
    /// Whether the beginning of the connection was logged.
    is_logged: bool,
    /// How long a connection has to last.
    settled_after: Duration,
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

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            was_connected: false,
            is_logged: false,
            settled_after: STABLE_AFTER,
            downtime: None,
            closes: VecDeque::new(),
        }
    }
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

    /// A connection, which lasted so long, or an attempt ended, which was of no use since then. `broker` is the position of
    /// its broker.
    pub(crate) fn on_failed(
        &mut self,
        broker: usize,
        fault: &LinkFault,
        lasted: Option<Duration>,
        since: Instant,
    ) -> Notice {
        if let Some(lasted) = lasted.filter(|lasted| *lasted >= self.settled_after) {
            self.downtime = None;
            self.settled_after = match fault {
                // However long it was asked.
                LinkFault::SubscriptionsDenied => self.settled_longer(),
                _ if lasted >= LASTING => STABLE_AFTER,
                _ => self.settled_longer(),
            };
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
        let is_new = downtime.seen.insert((broker, discriminant(fault)));
        match (std::mem::take(&mut self.is_logged), is_new, lasted) {
            (true, ..) => Notice::Lost,
            (false, true, Some(_)) => Notice::NotLasting,
            (false, true, None) => Notice::Failed,
            (false, false, _) => Notice::Repeated,
        }
    }

    fn settled_longer(&self) -> Duration {
        (self.settled_after * 2).min(SETTLED_MAX)
    }

    /// The broker accepted a connection.
    pub(crate) fn on_connected(&mut self, now: Instant) -> Connected {
        let is_first = !std::mem::replace(&mut self.was_connected, true);
        self.is_logged = true;
        let Some(downtime) = &mut self.downtime else {
            return Connected::First(None);
        };
        downtime.accepted = now;
        if downtime.logged == LastLogged::Flapping {
            self.is_logged = false;
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

    /// The connection has lasted so long. `Some` if that ends the downtime and the reconnect is not logged yet.
    pub(crate) fn on_lasting(&mut self, length: Duration) -> Option<Recovery> {
        if length < self.settled_after {
            return None;
        }
        let downtime = self.downtime.take();
        let recovery = downtime
            .filter(|downtime| downtime.logged == LastLogged::Flapping)
            .map(|downtime| downtime.recovery());
        self.is_logged |= recovery.is_some();
        recovery
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

    const HOUR: Option<Duration> = Some(Duration::from_hours(1));
    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    #[test]
    fn each_kind_of_fault_is_new_once_per_downtime() {
        let (mut reconnect, now) = (Reconnect::default(), Instant::now());
        reconnect.on_connected(now);
        let mut failed = |fault, lasted| reconnect.on_failed(0, &fault, lasted, now);
        assert_eq!(failed(LinkFault::ClosedByBroker, HOUR), Notice::Lost);
        assert_eq!(failed(LinkFault::ConnectionRefused, None), Notice::Failed);
        for _ in 0..3 {
            assert_eq!(failed(LinkFault::ConnectionRefused, None), Notice::Repeated);
        }
        assert_eq!(failed(LinkFault::BadCredentials, None), Notice::Failed);
        reconnect.on_connected(now);
        let mut failed = |fault, lasted| reconnect.on_failed(0, &fault, lasted, now);
        assert_eq!(failed(LinkFault::ClosedByBroker, HOUR), Notice::Lost);
        assert_eq!(
            failed(LinkFault::ConnectionRefused, None),
            Notice::Failed,
            "a new downtime"
        );
    }

    #[test]
    fn later_reconnects_are_logged_only_when_stable() {
        let (mut reconnect, start) = (Reconnect::default(), Instant::now());
        assert_eq!(reconnect.on_connected(start), Connected::First(None));
        reconnect.on_failed(0, &LinkFault::ClosedByBroker, HOUR, start);
        reconnect.on_failed(0, &LinkFault::ConnectionRefused, None, start);
        let later = start + Duration::from_secs(1);
        let recovery = Recovery {
            attempts: 2,
            duration: Duration::from_secs(1),
        };
        assert_eq!(reconnect.on_connected(later), Connected::Again(recovery));
        for second in 2..=4 {
            let at = start + Duration::from_secs(second);
            reconnect.on_failed(0, &LinkFault::ClosedByBroker, SECOND, at);
            assert_eq!(reconnect.on_connected(at), Connected::Flapping);
        }
        let recovery = Recovery {
            attempts: 5,
            duration: Duration::from_secs(4),
        };
        assert_eq!(reconnect.on_lasting(Duration::from_millis(4_999)), None);
        assert_eq!(
            reconnect.on_lasting(STABLE_AFTER),
            Some(recovery),
            "until it was accepted"
        );
        assert_eq!(reconnect.on_lasting(STABLE_AFTER), None);

        reconnect.on_failed(0, &LinkFault::ClosedByBroker, SECOND, start);
        assert!(
            matches!(reconnect.on_connected(later), Connected::Again(_)),
            "a new downtime"
        );
        assert_eq!(reconnect.on_lasting(STABLE_AFTER), None, "logged already");
    }

    #[test]
    fn each_end_that_is_logged_as_one_had_a_beginning() {
        let (mut reconnect, now) = (Reconnect::default(), Instant::now());
        let mut flap = |broker, fault: LinkFault| {
            let connected = reconnect.on_connected(now);
            let ended = reconnect.on_failed(broker, &fault, SECOND, now);
            (connected != Connected::Flapping, ended)
        };
        assert_eq!(flap(0, LinkFault::ClosedByBroker), (true, Notice::Lost));
        assert_eq!(flap(0, LinkFault::ClosedByBroker), (true, Notice::Lost));
        assert_eq!(flap(0, LinkFault::ClosedByBroker), (false, Notice::Repeated));
        assert_eq!(flap(1, LinkFault::Silent), (false, Notice::NotLasting));
        assert_eq!(flap(1, LinkFault::Silent), (false, Notice::Repeated));
    }

    /// For a day. One closes what it accepts after six seconds, one denies everything for longer and longer, two are away.
    #[test]
    fn brokers_that_never_work_are_logged_less_and_less() {
        let (mut reconnect, start) = (Reconnect::default(), Instant::now());
        let (mut passed, mut patience) = (Duration::ZERO, Duration::from_secs(3));
        let mut lines = Vec::new();
        while passed < Duration::from_hours(24) {
            for (broker, fault, lasted) in [
                (0, LinkFault::ClosedByBroker, Some(Duration::from_secs(6))),
                (1, LinkFault::BadCredentials, None),
                (2, LinkFault::SubscriptionsDenied, Some(patience)),
                (3, LinkFault::Timeout, None),
            ] {
                if let Some(lasted) = lasted {
                    let connected = reconnect.on_connected(start + passed);
                    passed += lasted;
                    let settled = reconnect.on_lasting(lasted).is_some();
                    lines.extend((connected != Connected::Flapping || settled).then_some(passed));
                }
                let notice = reconnect.on_failed(broker, &fault, lasted, start + passed);
                lines.extend((notice != Notice::Repeated).then_some(passed));
                passed += Duration::from_secs(1);
            }
            patience = (patience * 2).min(Duration::from_hours(1));
        }
        let after = |hours| {
            lines
                .iter()
                .filter(|at| **at > Duration::from_hours(hours))
                .count()
        };
        assert!(lines.len() < 80, "{}", lines.len());
        assert_eq!(after(3), 0, "all is said");
    }

    #[test]
    fn a_first_connection_after_faults_is_no_reconnect() {
        let (mut reconnect, start) = (Reconnect::default(), Instant::now());
        reconnect.on_failed(0, &LinkFault::ConnectionRefused, None, start);
        let recovery = Recovery {
            attempts: 1,
            duration: Duration::from_secs(2),
        };
        let connected = reconnect.on_connected(start + Duration::from_secs(2));
        assert_eq!(connected, Connected::First(Some(recovery)));
        reconnect.on_failed(0, &LinkFault::ClosedByBroker, HOUR, start);
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
