//! The result of closing a link.

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownOutcome {
    /// The broker acknowledged everything, including the last value of the will topic.
    Acknowledged,
    /// There was no connection, or it was lost. The broker publishes the last will.
    NotConnected,
    /// The timeout expired. The link drops the connection, so that the broker publishes the last will.
    TimedOut,
}
