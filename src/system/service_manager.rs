//! Notifies the service manager, see sd_notify(3). Without one nothing happens.

use sd_notify::NotifyState;
use tracing::warn;

/// The service manager that started this process, if one did.
#[derive(Debug)]
pub(crate) struct Supervisor {
    watchdog: bool,
    ready: bool,
    silent: bool,
}

impl Supervisor {
    /// Reads `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub(crate) fn from_environment() -> Self {
        Self {
            watchdog: sd_notify::watchdog_enabled().is_some(),
            ready: false,
            silent: false,
        }
    }

    /// The bridge's event loop came round. The first time that means that the service is up; each time, that it
    /// is alive. Never call this from a timer of its own: it would report a hanging bridge as alive.
    pub(crate) fn came_round(&mut self) {
        if !self.ready {
            self.ready = true;
            self.notify(&NotifyState::Ready);
        }
        if self.watchdog {
            self.notify(&NotifyState::Watchdog);
        }
    }

    /// The service is going down.
    pub(crate) fn stopping(&mut self) {
        self.notify(&NotifyState::Stopping);
    }

    /// The process replaces itself; the next one reports that it is ready. For a service that reported `STOPPING`, the
    /// manager would send its kill signal.
    pub(crate) fn restarting(&mut self) {
        self.notify(&NotifyState::Reloading);
    }

    /// A manager that does not listen is complained about once.
    fn notify(&mut self, state: &NotifyState<'_>) {
        let sent = sd_notify::notify(std::slice::from_ref(state));
        if let (Err(error), false) = (sent, self.silent) {
            warn!(%state, %error, "cannot notify the service manager");
            self.silent = true;
        }
    }
}
