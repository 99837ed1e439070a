//! The signals to a process that runs a bridge.

use std::{
    io::{self, IsTerminal as _},
    pin::pin,
    process::ExitCode,
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::ExitAction;
use crate::{
    app::bridge::{Bridge, ShutdownReason},
    system::service_manager::Supervisor,
};

/// The signals that are listened to. From [`Signals::listen`] on none is lost, and none ends the process without a
/// farewell.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    started_from: StartedFrom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StartedFrom {
    Terminal,
    Elsewhere,
}

impl StartedFrom {
    fn look() -> Self {
        if io::stdin().is_terminal() {
            Self::Terminal
        } else {
            Self::Elsewhere
        }
    }
}

impl Signals {
    /// Listens from now on. To be called before anything starts.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            started_from: StartedFrom::look(),
        })
    }

    /// SIGHUP also means that the terminal was closed; then the process stops.
    fn lost_its_terminal(&self) -> bool {
        self.started_from == StartedFrom::Terminal && StartedFrom::look() == StartedFrom::Elsewhere
    }

    /// Runs a bridge until SIGTERM or SIGINT; at SIGHUP it reads its settings again. A second signal to stop ends it
    /// at once: the user is in a hurry, and the broker publishes the last will.
    pub(crate) async fn run(mut self, bridge: Bridge) -> ExitAction {
        let mut supervisor = Supervisor::from_environment();
        let (heartbeat, reload) = (bridge.heartbeat(), bridge.reload());
        let stop = CancellationToken::new();
        let mut running = pin!(bridge.run(stop.cancelled()));
        loop {
            tokio::select! {
                ended = &mut running => {
                    if ended == ShutdownReason::Restart {
                        supervisor.restarting();
                    }
                    return after(ended);
                }
                () = heartbeat.notified() => {
                    supervisor.came_round();
                    continue;
                }
                _ = self.hangup.recv() => {
                    if !self.lost_its_terminal() {
                        reload.notify_one();
                        continue;
                    }
                }
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                warn!("a second signal; ending at once");
                return ExitAction::Exit(ExitCode::FAILURE);
            }
            supervisor.stopping();
            stop.cancel();
        }
    }
}

/// What a bridge's end means for the process.
fn after(ended: ShutdownReason) -> ExitAction {
    match ended {
        ShutdownReason::Stopped => ExitAction::Exit(ExitCode::SUCCESS),
        ShutdownReason::Restart => ExitAction::Restart,
        ShutdownReason::Failed => ExitAction::Exit(ExitCode::FAILURE),
    }
}
