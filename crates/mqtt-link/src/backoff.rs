//! The delays between connection attempts.

use std::{ops::RangeInclusive, time::Duration};

use crate::{LinkFault, broker_list::NextAttempt, connection_state::ConnectionState};

const MIN_DELAY: Duration = Duration::from_millis(200);
/// The first delay after a fault that only a user can fix.
const MIN_DELAY_USER_ACTION: Duration = Duration::from_secs(5);
/// The longest delay between rounds where there are several brokers: a cluster that lost a node is soon there again.
const MAX_DELAY_OF_SEVERAL: Duration = Duration::from_secs(5);
/// The longest delay.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(30);
/// Delays are multiplied by a random factor of this range, so that many clients do not reconnect at the same time.
pub(crate) const JITTER: RangeInclusive<f64> = 0.75..=1.25;

/// By what a delay grows each time.
const GROWTH: f64 = 2.0;
/// The same where there are several brokers: half of the time that a cluster needs to elect a leader must not pass in a
/// delay.
const GROWTH_OF_SEVERAL: f64 = 1.25;

/// Exponential back-off from 0.2 s to 30 s.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
    growth: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::of(1)
    }
}

impl Backoff {
    /// For this many brokers.
    pub(crate) fn of(brokers: usize) -> Self {
        let (longest, growth) = match brokers {
            0 | 1 => (MAX_DELAY, GROWTH),
            _ => (MAX_DELAY_OF_SEVERAL, GROWTH_OF_SEVERAL),
        };
        Self {
            next: MIN_DELAY,
            longest,
            growth,
        }
    }

    /// The longest delay after a fault.
    pub(crate) fn longest(&self, fault: &LinkFault) -> Duration {
        if fault.needs_user_action() {
            MAX_DELAY
        } else {
            self.longest
        }
    }

    /// The delay after a connection or an attempt that ended with `fault`. `jitter` is a factor from [`JITTER`]. A
    /// stable connection resets the back-off. A broker that was not tried yet does not wait for those that failed.
    pub(crate) fn next_delay(
        &mut self,
        fault: &LinkFault,
        state: ConnectionState,
        next: NextAttempt,
        jitter: f64,
    ) -> Duration {
        if state == ConnectionState::Stable {
            self.next = MIN_DELAY;
        }
        if fault.needs_user_action() {
            self.next = self.next.max(MIN_DELAY_USER_ACTION);
        }
        if next == NextAttempt::Untried {
            return MIN_DELAY.mul_f64(jitter);
        }
        let delay = self.next.mul_f64(jitter).min(self.longest(fault));
        self.next = self.next.mul_f64(self.growth).min(MAX_DELAY);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_30_s_and_reset_after_a_stable_connection() {
        let mut backoff = Backoff::default();
        let mut delay = |state| {
            backoff
                .next_delay(&LinkFault::ConnectionRefused, state, NextAttempt::First, 1.0)
                .as_millis()
        };
        let delays: Vec<_> = (0..9).map(|_| delay(ConnectionState::Failed)).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
        assert_eq!(delay(ConnectionState::Unstable), 30_000, "still flapping");
        assert_eq!(delay(ConnectionState::Stable), 200);
    }

    #[test]
    fn no_delay_is_longer_than_30_s_whatever_the_jitter() {
        let mut backoff = Backoff::default();
        let (fault, state, next) = (
            LinkFault::ClosedByBroker,
            ConnectionState::Failed,
            NextAttempt::First,
        );
        let delays = (0..20).map(|_| backoff.next_delay(&fault, state, next, *JITTER.end()));
        assert_eq!(delays.max(), Some(MAX_DELAY));
    }

    #[test]
    fn a_refused_login_starts_at_five_seconds() {
        let mut backoff = Backoff::default();
        let (state, next) = (ConnectionState::Failed, NextAttempt::First);
        let mut delay = |fault| backoff.next_delay(&fault, state, next, 1.0).as_secs();
        let delays: Vec<_> = (0..4).map(|_| delay(LinkFault::BadCredentials)).collect();
        assert_eq!(delays, [5, 10, 20, 30]);
    }

    #[test]
    fn several_brokers_are_tried_often_and_then_every_five_seconds() {
        let mut backoff = Backoff::of(2);
        let mut delay = |fault| {
            let (state, next) = (ConnectionState::Failed, NextAttempt::First);
            backoff.next_delay(&fault, state, next, 1.0)
        };
        let delays: Vec<_> = (0..20).map(|_| delay(LinkFault::ConnectionRefused)).collect();
        assert!(delays[7] < Duration::from_secs(1), "{delays:?}");
        assert_eq!(delays[19], Duration::from_secs(5), "{delays:?}");
        assert!(delay(LinkFault::BadCredentials) > Duration::from_secs(10));
    }

    #[test]
    fn an_untried_broker_is_tried_soon_and_a_refused_login_later() {
        let mut backoff = Backoff::default();
        let mut delay = |fault, next| {
            backoff
                .next_delay(&fault, ConnectionState::Failed, next, 1.0)
                .as_millis()
        };
        for _ in 0..2 {
            assert_eq!(delay(LinkFault::BadCredentials, NextAttempt::Untried), 200);
        }
        assert_eq!(delay(LinkFault::ConnectionRefused, NextAttempt::First), 5_000);
    }
}
