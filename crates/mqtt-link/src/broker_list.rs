//! Which broker is tried next. No I/O.

use std::time::Duration;

use rumqttc::{MqttOptions, QoS};
use tokio::time::Instant;

use crate::{Broker, candidate::Candidate, connection_state::ConnectionState, options::CONNECT_TIMEOUT};

/// The longest attempt where another broker waits that may be better: as long as not all of them failed twice.
pub(crate) const LONGEST_OF_SEVERAL: Duration = Duration::from_secs(3);
/// The shortest one. A cluster that elects a leader answers no attempt that began before, and the next one at once.
const SHORTEST_OF_SEVERAL: Duration = Duration::from_millis(1500);
/// So many times longer than the one that was accepted last.
const TIMES_LONGER: u32 = 20;

/// The brokers in the order in which they are tried. Never empty.
#[derive(Debug)]
pub(crate) struct BrokerList {
    brokers: Vec<Candidate>,
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
    /// The brokers in this order, each with the options of its client.
    pub(crate) fn new(brokers: Vec<(Broker, MqttOptions)>) -> Self {
        Self {
            brokers: brokers.into_iter().map(Candidate::new).collect(),
            current: 0,
            accepted_in: None,
            failed_rounds: 0,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.brokers.len()
    }

    /// The QoS of subscriptions. The sessions are clean, so QoS 1 saves no message when a connection is lost. A cluster of
    /// NATS keeps a replicated queue for each subscription with QoS 1: one takes it half a second, and several seconds
    /// while it elects leaders, in which it handles nothing else of the connection.
    pub(crate) fn subscription_qos(&self) -> QoS {
        if self.brokers.len() > 1 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        }
    }

    /// The broker that is tried or connected.
    pub(crate) fn current(&self) -> Option<&(Broker, MqttOptions)> {
        self.brokers.get(self.current).map(Candidate::client)
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

    /// Its connection ended in this state, this long after it was accepted. One that accepts connections and closes them
    /// counts as one that does not work. After a stable connection all are tried again from the first one, but those last
    /// whose connections do not last.
    pub(crate) fn on_ended(&mut self, state: ConnectionState, lasted: Duration, now: Instant) -> NextAttempt {
        if let Some(current) = self.brokers.get_mut(self.current) {
            current.on_ended(state, lasted, now);
        }
        let is_stable = state == ConnectionState::Stable;
        let is_new_round = is_stable || self.brokers.iter().all(Candidate::is_tried);
        if is_new_round {
            self.brokers.iter_mut().for_each(Candidate::start_round);
            self.failed_rounds = if is_stable {
                0
            } else {
                self.failed_rounds.saturating_add(1)
            };
        }
        let untried = (0..).zip(&self.brokers).filter(|(_, broker)| !broker.is_tried());
        let next = untried.min_by_key(|(_, broker)| broker.last_until(now));
        self.current = next.map_or(0, |(position, _)| position);
        if is_new_round {
            NextAttempt::First
        } else {
            NextAttempt::Untried
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
            let next = brokers.on_ended(ConnectionState::Failed, Duration::ZERO, Instant::now());
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
        let now = Instant::now();
        brokers.on_ended(ConnectionState::Unstable, Duration::from_secs(1), now);
        assert_eq!(brokers.position(), 1, "it closes what it accepted");
        let next = brokers.on_ended(ConnectionState::Stable, Duration::from_hours(1), now);
        assert_eq!((next, brokers.position()), (NextAttempt::First, 0));
    }

    #[test]
    fn one_that_never_lasts_is_tried_last_for_longer_and_longer() {
        let (mut brokers, start) = (list(2), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let mut ended = |lasted, second| {
            brokers.on_ended(ConnectionState::Stable, Duration::from_secs(lasted), at(second));
            brokers.position()
        };
        assert_eq!(ended(6, 6), 1, "it closes each connection after six seconds");
        assert_eq!(ended(3_600, 3_606), 0, "another hour, another try");
        assert_eq!(ended(6, 3_612), 1);
        assert_eq!(
            ended(100, 3_712),
            0,
            "neither lasts: the one that is better soonest"
        );
        assert_eq!(ended(3_600, 7_312), 0, "it lasts now");
        assert_eq!(ended(6, 7_318), 1, "and does not");
        assert_eq!(ended(3_600, 7_320), 1, "the first one is tried last");
        brokers.on_ended(ConnectionState::Failed, Duration::ZERO, at(7_321));
        assert_eq!(brokers.position(), 0, "but it is tried");
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
            brokers.on_ended(ConnectionState::Failed, Duration::ZERO, Instant::now());
            brokers.connect_timeout().as_millis()
        };
        let longer = [failed(), failed(), failed(), failed()];
        assert_eq!(longer, [1_500, 3_000, 3_000, 5_000], "all may have become slow");
        brokers.on_ended(ConnectionState::Stable, Duration::from_hours(1), Instant::now());
        assert_eq!(brokers.connect_timeout(), SHORTEST_OF_SEVERAL);
        assert_eq!(list(2).connect_timeout(), LONGEST_OF_SEVERAL, "nothing is known");
        let mut one = list(1);
        one.on_accepted(Duration::from_millis(3));
        assert_eq!(one.connect_timeout(), Duration::from_secs(CONNECT_TIMEOUT));
    }

    #[test]
    fn subscriptions_on_several_brokers_need_no_queues() {
        let qos = [1, 2, 3].map(|count| list(count).subscription_qos());
        assert_eq!(qos, [QoS::AtLeastOnce, QoS::AtMostOnce, QoS::AtMostOnce]);
    }

    #[test]
    fn one_broker_is_always_the_first() {
        let mut brokers = list(1);
        for state in [
            ConnectionState::Failed,
            ConnectionState::Unstable,
            ConnectionState::Stable,
        ] {
            let next = brokers.on_ended(state, Duration::from_secs(6), Instant::now());
            assert_eq!((next, brokers.position()), (NextAttempt::First, 0));
        }
    }
}
