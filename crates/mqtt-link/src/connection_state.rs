//! Whether a connection was accepted and lasted.

use std::time::Duration;

use tokio::time::Instant;

use crate::LinkFault;

/// A connection that lasts this long is stable.
pub(crate) const STABLE_AFTER: Duration = Duration::from_secs(5);
/// A broker whose connection lasted this long works.
pub(crate) const LASTING: Duration = Duration::from_mins(10);

/// The state that a connection had reached when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    /// The broker did not accept it.
    Failed,
    /// Accepted, for less than [`STABLE_AFTER`].
    Unstable,
    /// Accepted, for at least [`STABLE_AFTER`].
    Stable,
}

impl ConnectionState {
    /// The state at `now` of a connection that the broker accepted at `accepted`.
    pub(crate) fn at(now: Instant, accepted: Option<Instant>) -> Self {
        match accepted.map(|accepted| now.duration_since(accepted)) {
            None => Self::Failed,
            Some(age) if age < STABLE_AFTER => Self::Unstable,
            Some(_) => Self::Stable,
        }
    }

    /// What a connection that ended with a fault says of its broker. One that accepts connections and does not answer, or
    /// grants no subscription, is no better than one that closes them, however long it takes to notice that.
    pub(crate) fn ended_with(self, fault: &LinkFault) -> Self {
        match (self, fault) {
            (
                Self::Stable,
                LinkFault::Silent | LinkFault::Unacknowledged | LinkFault::SubscriptionsDenied,
            ) => Self::Unstable,
            (state, _) => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_of_no_use_is_not_stable() {
        let stable = ConnectionState::Stable;
        let useless = [
            LinkFault::Silent,
            LinkFault::Unacknowledged,
            LinkFault::SubscriptionsDenied,
        ];
        for fault in useless {
            assert_eq!(stable.ended_with(&fault), ConnectionState::Unstable);
        }
        assert_eq!(stable.ended_with(&LinkFault::ClosedByBroker), stable);
    }

    #[test]
    fn a_connection_is_stable_after_five_seconds() {
        let accepted = Instant::now();
        let at = |age| ConnectionState::at(accepted + age, Some(accepted));
        assert_eq!(ConnectionState::at(accepted, None), ConnectionState::Failed);
        assert_eq!(at(Duration::from_millis(4_999)), ConnectionState::Unstable);
        assert_eq!(at(Duration::from_secs(5)), ConnectionState::Stable);
    }
}
