//! Which broker is tried next. No I/O.

use std::time::Duration;

use rumqttc::MqttOptions;

use crate::{Broker, connection_state::ConnectionState, options::CONNECT_TIMEOUT};

/// The longest attempt where another broker waits that may be better: as long as not all of them failed twice.
pub(crate) const LONGEST_OF_SEVERAL: Duration = Duration::from_secs(3);
/// The shortest one. A cluster that elects a leader answers no attempt that began before, and the next one at once.
const SHORTEST_OF_SEVERAL: Duration = Duration::from_millis(1500);
/// So many times longer than the one that was accepted last.
const TIMES_LONGER: u32 = 20;

/// The brokers in the order in which they are tried, each with the options of its client. Never empty.
#[derive(Debug)]
pub(crate) struct BrokerList {
    brokers: Vec<(Broker, MqttOptions)>,
    current: usize,
    /// How long the attempt took that a broker accepted last.
    accepted_in: Option<Duration>,
    /// How often all of them failed since the last stable connection.
    failed_rounds: u32,
}

/// What follows the end of a connection or an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextAttempt {
    /// A broker that was not tried since the last stable connection, or since all of them failed.
    Untried,
    /// The first one, because all of them failed, or because a stable connection was lost.
    First,
}

impl BrokerList {
    /// The brokers in this order.
    pub(crate) fn new(brokers: Vec<(Broker, MqttOptions)>) -> Self {
        Self {
            brokers,
            current: 0,
            accepted_in: None,
            failed_rounds: 0,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.brokers.len()
    }

    /// The broker that is tried or connected.
    pub(crate) fn current(&self) -> Option<&(Broker, MqttOptions)> {
        self.brokers.get(self.current)
    }

    /// The position of that broker.
    pub(crate) fn position(&self) -> usize {
        self.current
    }

    /// How long an attempt may take: little at first, and longer where they may all have become slow.
    pub(crate) fn connect_timeout(&self) -> Duration {
        match (self.failed_rounds, self.accepted_in) {
            _ if self.brokers.len() < 2 => Duration::from_secs(CONNECT_TIMEOUT),
            (0, Some(accepted_in)) => {
                (accepted_in * TIMES_LONGER).clamp(SHORTEST_OF_SEVERAL, LONGEST_OF_SEVERAL)
            }
            (0 | 1, _) => LONGEST_OF_SEVERAL,
            _ => Duration::from_secs(CONNECT_TIMEOUT),
        }
    }

    /// A broker accepted the connection, this long after the attempt began.
    pub(crate) fn on_accepted(&mut self, after: Duration) {
        self.accepted_in = Some(after);
    }

    /// Its connection ended in this state. After a stable one all are tried again from the first one. One that accepts
    /// connections and closes them counts as one that does not work.
    pub(crate) fn on_ended(&mut self, state: ConnectionState) -> NextAttempt {
        self.current = match state {
            ConnectionState::Stable => 0,
            ConnectionState::Unstable | ConnectionState::Failed => {
                (self.current + 1) % self.brokers.len().max(1)
            }
        };
        match (self.current, state) {
            (0, ConnectionState::Stable) => self.failed_rounds = 0,
            (0, _) => self.failed_rounds = self.failed_rounds.saturating_add(1),
            _ => {}
        }
        match self.current {
            0 => NextAttempt::First,
            _ => NextAttempt::Untried,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(count: u16) -> BrokerList {
        let broker = |port| {
            let host = "localhost".to_owned();
            (Broker { host, port }, MqttOptions::new("id", "localhost"))
        };
        BrokerList::new((1..=count).map(broker).collect())
    }

    #[test]
    fn brokers_are_tried_in_order_and_again_from_the_first() {
        let mut brokers = list(3);
        let mut failed = || {
            let next = brokers.on_ended(ConnectionState::Failed);
            (brokers.position(), next)
        };
        assert_eq!(failed(), (1, NextAttempt::Untried));
        assert_eq!(failed(), (2, NextAttempt::Untried));
        assert_eq!(failed(), (0, NextAttempt::First));
        assert_eq!(failed(), (1, NextAttempt::Untried));
    }

    #[test]
    fn the_first_one_comes_after_a_stable_connection_only() {
        let mut brokers = list(2);
        brokers.on_ended(ConnectionState::Unstable);
        assert_eq!(brokers.position(), 1, "it closes what it accepted");
        assert_eq!(brokers.on_ended(ConnectionState::Stable), NextAttempt::First);
        assert_eq!(brokers.position(), 0);
    }

    #[test]
    fn an_attempt_takes_little_longer_than_those_before_may() {
        let mut brokers = list(2);
        let mut after = |milliseconds| {
            brokers.on_accepted(Duration::from_millis(milliseconds));
            brokers.connect_timeout().as_millis()
        };
        assert_eq!([after(3), after(100), after(2_000)], [1_500, 2_000, 3_000]);
        after(3);
        let mut failed = || {
            brokers.on_ended(ConnectionState::Failed);
            brokers.connect_timeout().as_millis()
        };
        let longer = [failed(), failed(), failed(), failed()];
        assert_eq!(longer, [1_500, 3_000, 3_000, 5_000], "all may have become slow");
        brokers.on_ended(ConnectionState::Stable);
        assert_eq!(brokers.connect_timeout(), SHORTEST_OF_SEVERAL);
        assert_eq!(list(2).connect_timeout(), LONGEST_OF_SEVERAL, "nothing is known");
        let mut one = list(1);
        one.on_accepted(Duration::from_millis(3));
        assert_eq!(one.connect_timeout(), Duration::from_secs(CONNECT_TIMEOUT));
    }

    #[test]
    fn one_broker_is_always_the_first() {
        let mut brokers = list(1);
        for state in [
            ConnectionState::Failed,
            ConnectionState::Unstable,
            ConnectionState::Stable,
        ] {
            assert_eq!(brokers.on_ended(state), NextAttempt::First);
        }
    }
}
