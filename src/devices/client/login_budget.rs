//! How many logins a device gets. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Limits the logins of one device, so that two clients that take each other's session log in a few times a minute only.
#[derive(Debug)]
pub(in crate::devices) struct LoginBudget {
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
pub(in crate::devices) enum LoginPurpose {
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
    pub(in crate::devices) fn new(now: Instant) -> Self {
        Self {
            left: LOGIN_BURST,
            refilled: now,
        }
    }

    /// Takes one login if there is one for this purpose.
    pub(in crate::devices) fn take(&mut self, purpose: LoginPurpose, now: Instant) -> bool {
        let granted = self.grants(purpose, now);
        if granted {
            self.left -= 1;
        }
        granted
    }

    /// A login that happened without regard to the budget.
    pub(in crate::devices) fn spend(&mut self, now: Instant) {
        self.grants(LoginPurpose::Command, now);
        self.left = self.left.saturating_sub(1);
    }

    /// When there is a login left for this purpose: `now` or later.
    pub(in crate::devices) fn grants_at(&mut self, purpose: LoginPurpose, now: Instant) -> Instant {
        if self.grants(purpose, now) {
            return now;
        }
        let missing = purpose.kept() + 1 - self.left;
        self.refilled + LOGIN_REFILL * missing
    }

    /// When a requested rescan whose turn is at an instant may log in. Its user waits for it, as for a command.
    pub(in crate::devices) fn rescan_at(&mut self, turn: Instant, now: Instant) -> Instant {
        turn.max(self.grants_at(LoginPurpose::Command, now))
    }

    /// Whether there is a login left for this purpose.
    pub(in crate::devices) fn grants(&mut self, purpose: LoginPurpose, now: Instant) -> bool {
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
    fn a_requested_rescan_waits_for_one_login_at_most() {
        let start = Instant::now();
        let mut budget = LoginBudget::new(start);
        let later = start + Duration::from_secs(1);
        assert_eq!(budget.rescan_at(later, start), later);
        while budget.take(LoginPurpose::Command, start) {}
        assert_eq!(budget.rescan_at(start, start), start + LOGIN_REFILL);
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
