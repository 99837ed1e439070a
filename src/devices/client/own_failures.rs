//! How sessions of our own client fail. Pure.

use super::fault::Fault;

/// Failures in a row before the `tapo` crate is tried.
const TO_GIVE_UP: u32 = 3;

/// Failures of sessions with one device, in a row.
#[derive(Debug, Default)]
pub(super) struct OwnFailures {
    in_a_row: u32,
    given_up: bool,
}

impl OwnFailures {
    pub(super) fn on_success(&mut self) {
        self.in_a_row = 0;
    }

    /// Returns whether the crate is to be tried: the device answers, but not so that our client can use it.
    pub(super) fn on_failure(&mut self, fault: &Fault) -> bool {
        if matches!(fault, Fault::Unreadable(_)) {
            self.in_a_row += 1;
        }
        self.in_a_row >= TO_GIVE_UP
    }

    /// The next session is one of the crate.
    pub(super) fn give_up(&mut self) {
        self.in_a_row = 0;
        self.given_up = true;
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Whether the crate is on trial, once.
    pub(super) fn take_given_up(&mut self) -> bool {
        std::mem::take(&mut self.given_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_another_client_may_do_better_counts() {
        let mut failures = OwnFailures::default();
        let odd = || Fault::Unreadable(String::new());
        assert!(!failures.on_failure(&odd()) && !failures.on_failure(&odd()));
        failures.on_success();
        // A device that restarts, or whose session another program takes, does that with each client.
        let of_all = [
            Fault::NoAnswer,
            Fault::Refused,
            Fault::Closed,
            Fault::SessionUnstable,
            Fault::WrongCredentials,
            Fault::Overloaded(503),
        ];
        for fault in of_all {
            assert!((0..5).all(|_| !failures.on_failure(&fault)));
        }
        assert!(!failures.on_failure(&odd()) && !failures.on_failure(&odd()));
        assert!(failures.on_failure(&odd()));
        failures.give_up();
        assert!(failures.take_given_up() && !failures.take_given_up());
        assert!(!failures.on_failure(&odd()));
    }
}
