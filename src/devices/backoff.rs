//! How long to wait before the next attempt.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

/// Doubling, jittered waits. They start over only after a complete exchange: a connection that opens
/// and fails at once must not reset them.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            first,
            longest,
        }
    }

    /// The next wait, 75 to 125 % of its nominal length so that attempts of many devices are spread.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = jittered(self.next);
        self.next = (self.next * 2).min(self.longest);
        wait
    }

    /// The device answered: the next wait is the shortest.
    pub(super) fn on_success(&mut self) {
        self.next = self.first;
    }
}

/// 75 to 125 % of a duration.
pub(super) fn jittered(nominal: Duration) -> Duration {
    nominal.mul_f64(rand::rng().random_range(0.75..=1.25))
}

/// Limits the logins of one device, so that two clients that take each other's session log in a few times a minute only.
#[derive(Debug)]
pub(super) struct LoginBudget {
    left: u32,
    refilled: Instant,
}

/// Logins that may happen in a row.
const LOGIN_BURST: u32 = 6;
/// One login comes back after this long.
const LOGIN_REFILL: Duration = Duration::from_secs(10);
/// Logins that polls leave for commands.
const KEPT_FOR_COMMANDS: u32 = 3;

/// What a login is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginPurpose {
    /// For a command.
    Command,
    /// For a poll.
    Poll,
}

impl LoginPurpose {
    /// How many logins it leaves in the budget.
    fn kept(self) -> u32 {
        match self {
            Self::Command => 0,
            Self::Poll => KEPT_FOR_COMMANDS,
        }
    }
}

impl LoginBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: LOGIN_BURST,
            refilled: now,
        }
    }

    /// Takes one login if there is one for this purpose.
    pub(super) fn take(&mut self, purpose: LoginPurpose, now: Instant) -> bool {
        let granted = self.grants(purpose, now);
        if granted {
            self.left -= 1;
        }
        granted
    }

    /// A login that happened without regard to the budget.
    pub(super) fn spend(&mut self, now: Instant) {
        self.grants(LoginPurpose::Command, now);
        self.left = self.left.saturating_sub(1);
    }

    /// When there is a login left for this purpose: `now` or later.
    pub(super) fn grants_at(&mut self, purpose: LoginPurpose, now: Instant) -> Instant {
        if self.grants(purpose, now) {
            return now;
        }
        let missing = purpose.kept() + 1 - self.left;
        self.refilled + LOGIN_REFILL * missing
    }

    /// Whether there is a login left for this purpose.
    pub(super) fn grants(&mut self, purpose: LoginPurpose, now: Instant) -> bool {
        while self.left < LOGIN_BURST && now.duration_since(self.refilled) >= LOGIN_REFILL {
            self.left += 1;
            self.refilled += LOGIN_REFILL;
        }
        if self.left == LOGIN_BURST {
            self.refilled = now;
        }
        self.left > purpose.kept()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for nominal in [1.0, 2.0, 4.0, 5.0, 5.0] {
            let wait = backoff.wait().as_secs_f64();
            assert!(
                (nominal * 0.75..=nominal * 1.25).contains(&wait),
                "{nominal}: {wait}"
            );
        }
        backoff.on_success();
        assert!(backoff.wait() <= Duration::from_millis(1250));
    }

    #[test]
    fn polls_leave_logins_for_commands() {
        let start = Instant::now();
        let mut budget = LoginBudget::new(start);
        let polls = (0..10).filter(|_| budget.take(LoginPurpose::Poll, start)).count();
        let commands = (0..10)
            .filter(|_| budget.take(LoginPurpose::Command, start))
            .count();
        assert_eq!((polls, commands), (3, 3));
    }

    #[test]
    fn the_next_login_is_known() {
        let start = Instant::now();
        let mut budget = LoginBudget::new(start);
        assert_eq!(budget.grants_at(LoginPurpose::Poll, start), start);
        while budget.take(LoginPurpose::Command, start) {}
        let soon = start + Duration::from_secs(3);
        for (purpose, refills) in [(LoginPurpose::Command, 1), (LoginPurpose::Poll, 4)] {
            let at = budget.grants_at(purpose, soon);
            assert_eq!(at, start + LOGIN_REFILL * refills);
            let mut then = LoginBudget { ..budget };
            assert!(!then.grants(purpose, at - Duration::from_millis(1)));
            assert!(then.grants(purpose, at));
        }
    }

    #[test]
    fn logins_a_minute_are_bounded() {
        let start = Instant::now();
        let mut budget = LoginBudget::new(start);
        let mut in_minute = [0; 3];
        for second in 0..180_u32 {
            let now = start + Duration::from_secs(second.into());
            if budget.take(LoginPurpose::Command, now) {
                in_minute[(second / 60) as usize] += 1;
            }
        }
        assert_eq!(in_minute, [11, 6, 6]);
    }
}
