//! Ends a connection from the side of its owner.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::LinkFault;

/// Ends a connection without DISCONNECT, and says why. Clones end the same connection.
#[derive(Debug, Clone)]
pub(crate) struct Abort {
    token: CancellationToken,
    fault: Arc<OnceLock<LinkFault>>,
}

impl Abort {
    /// For one connection, which also ends with `stop`.
    pub(crate) fn new(stop: &CancellationToken) -> Self {
        Self {
            token: stop.child_token(),
            fault: Arc::default(),
        }
    }

    /// Ends the connection with this fault, unless it ended before.
    pub(crate) fn abort(&self, fault: LinkFault) {
        self.fault.get_or_init(|| fault);
        self.token.cancel();
    }

    /// Waits until the connection has to end, and returns why. Cancel safe.
    pub(crate) async fn aborted(&self) -> LinkFault {
        self.token.cancelled().await;
        self.fault.get().cloned().unwrap_or(LinkFault::Unacknowledged)
    }
}
