//! How long a device gets.

use std::time::Duration;

/// The longest waits for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For its name to resolve and a connection to open. Default: 2 s.
    pub connect: Duration,
    /// For each request and each step of a login, connecting included. Default: 5 s.
    pub request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            request: Duration::from_secs(5),
        }
    }
}

/// The longest answer that is read, in bytes. The longest of a real device, the schedule rules of a strip, has 20 kB.
pub(crate) const LONGEST_REPLY: usize = 1024 * 1024;
