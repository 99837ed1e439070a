//! Counters and gauges of a link.

use serde::Serialize;

/// Statistics of a link. Counters start when the link opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkStats {
    /// Whether there is a connection.
    pub connected: bool,
    /// The broker of that connection, as `host:port`.
    pub broker: Option<String>,
    /// The reason, if there is no connection.
    pub fault: Option<String>,
    /// Connections that the broker accepted.
    pub connects: u64,
    /// Accepted connections that ended.
    pub losses: u64,
    /// Messages passed to the client, repeated ones included.
    pub published: u64,
    /// Messages that the broker acknowledged.
    pub acknowledged: u64,
    /// Messages received.
    pub received: u64,
    /// Packets that wait for a connection or for room in the in-flight window.
    pub queued: usize,
    /// Packets that wait for their acknowledgement.
    pub unacked: usize,
    /// Messages dropped because the queue was full or they exceeded the packet size.
    pub dropped: u64,
    /// One-shot messages that expired.
    pub expired: u64,
    /// Subscriptions that the broker denies on this connection.
    pub refused_subscriptions: usize,
    /// Retained topics that are not published, because the broker closed the connection at them twice.
    pub left_out: usize,
}
