//! The lists that an earlier run left on the broker. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How long after a connect the broker is given to send a list.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

/// Which of our own retained lists were read back: `bridge/devices` and `bridge/groups`. The lists are the memory of what
/// an earlier run published, so none is overwritten before it is read.
#[derive(Debug, Default)]
pub(super) struct EarlierRun {
    devices_read: bool,
    groups_read: bool,
    deadline: Option<Instant>,
}

impl EarlierRun {
    /// Without a broker there are none.
    pub(super) fn none() -> Self {
        Self {
            devices_read: true,
            groups_read: true,
            deadline: None,
        }
    }

    /// A connection stands, and the lists are subscribed to.
    pub(super) fn connected(&mut self, now: Instant) {
        if !(self.devices_read && self.groups_read) {
            self.deadline = Some(now + LIST_TIMEOUT);
        }
    }

    /// The connection is lost. What is not read is read on the next one.
    pub(super) fn disconnected(&mut self) {
        self.deadline = None;
    }

    /// When lists that have not arrived do not exist.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn devices_read(&self) -> bool {
        self.devices_read
    }

    pub(super) fn groups_read(&self) -> bool {
        self.groups_read
    }

    /// The list of devices arrived, or there is none. Returns whether that is new.
    pub(super) fn read_devices(&mut self) -> bool {
        let new = !std::mem::replace(&mut self.devices_read, true);
        self.end();
        new
    }

    /// The list of groups arrived, or there is none. Returns whether that is new.
    pub(super) fn read_groups(&mut self) -> bool {
        let new = !std::mem::replace(&mut self.groups_read, true);
        self.end();
        new
    }

    fn end(&mut self) {
        if self.devices_read && self.groups_read {
            self.deadline = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_did_not_arrive_is_read_on_the_next_connection() {
        let (mut earlier, now) = (EarlierRun::default(), Instant::now());
        assert_eq!(earlier.deadline(), None);
        earlier.connected(now);
        assert!(earlier.read_devices());
        assert!(!earlier.read_devices());
        earlier.disconnected();
        assert_eq!(earlier.deadline(), None);
        earlier.connected(now);
        assert_eq!(earlier.deadline(), Some(now + LIST_TIMEOUT));
        assert!(!earlier.groups_read() && earlier.read_groups());
        assert_eq!(earlier.deadline(), None);
        earlier.connected(now);
        assert_eq!(earlier.deadline(), None);
    }
}
