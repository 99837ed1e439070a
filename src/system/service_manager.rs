//! What the service manager is told, as sd_notify(3) has it. Where none listens, nothing happens.

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
    /// is alive. Never call this from a timer of its own: it would tell that a hanging bridge is well.
    pub(crate) fn came_round(&mut self) {
        if !self.ready {
            self.ready = true;
            self.tell(&NotifyState::Ready);
        }
        if self.watchdog {
            self.tell(&NotifyState::Watchdog);
        }
    }

    /// The service is going down.
    pub(crate) fn stopping(&mut self) {
        self.tell(&NotifyState::Stopping);
    }

    /// The process replaces itself; the next one says that it is ready. To a service that said `STOPPING`, the
    /// manager would send its kill signal.
    pub(crate) fn restarting(&mut self) {
        self.tell(&NotifyState::Reloading);
    }

    /// A manager that does not listen is complained about once.
    fn tell(&mut self, state: &NotifyState<'_>) {
        let told = sd_notify::notify(std::slice::from_ref(state));
        if let (Err(error), false) = (told, self.silent) {
            warn!(%state, %error, "the service manager cannot be told");
            self.silent = true;
        }
    }
}
