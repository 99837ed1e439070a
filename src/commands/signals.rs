//! The signals to a process that runs a bridge.

use std::{
    io::{self, IsTerminal as _},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinError, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{ExitAction, ExitError};
use crate::{
    app::bridge::{Bridge, ShutdownReason},
    system::service_manager::Supervisor,
};

/// How long a start may take to its end once the process is to stop.
const START_BUDGET: Duration = Duration::from_secs(1);

/// The signals that are listened to. From [`Signals::listen`] on none is lost, and none ends the process without a
/// farewell.
pub(crate) struct Signals<'a> {
    terminate: Signal,
    interrupt: Signal,
    hangup: &'a mut Signal,
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

impl<'a> Signals<'a> {
    /// Listens from now on. To be called before anything starts.
    pub(crate) fn listen(hangup: &'a mut Signal) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
            started_from: StartedFrom::look(),
        })
    }

    /// SIGHUP also means that the terminal was closed; then the process stops.
    fn lost_its_terminal(&self) -> bool {
        self.started_from == StartedFrom::Terminal && StartedFrom::look() == StartedFrom::Elsewhere
    }

    /// Starts a bridge and runs it until SIGTERM or SIGINT; at SIGHUP it reads its settings again. A second signal to
    /// stop ends it at once: the user is in a hurry, and the broker publishes the last will. `start` may block, on a disk
    /// that hangs; a signal to stop does not wait for that.
    pub(crate) async fn run(
        mut self,
        start: impl FnOnce() -> Result<Bridge, ExitError> + Send + 'static,
    ) -> Result<ExitAction, ExitError> {
        let mut starting = spawn_blocking(start);
        let stop = CancellationToken::new();
        let started = tokio::select! {
            biased;
            started = &mut starting => started,
            () = self.stop_requested() => {
                stop.cancel();
                let Ok(started) = timeout(START_BUDGET, starting).await else {
                    warn!("stopped during the start");
                    return Ok(ExitAction::Exit(ExitCode::SUCCESS));
                };
                started
            }
        };
        let bridge = started.unwrap_or_else(|error| Err(panicked(&error)))?;
        Ok(self.run_started(bridge, stop).await)
    }

    /// SIGTERM, SIGINT, or the end of the terminal. What was read before the start needs no reload.
    async fn stop_requested(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => if self.lost_its_terminal() {
                    return;
                }
            }
        }
    }

    async fn run_started(mut self, bridge: Bridge, stop: CancellationToken) -> ExitAction {
        let mut supervisor = Supervisor::from_environment();
        let (heartbeat, reload) = (bridge.heartbeat(), bridge.reload());
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

fn panicked(error: &JoinError) -> ExitError {
    ExitError::Io(io::Error::other(error.to_string()))
}

/// What a bridge's end means for the process.
fn after(ended: ShutdownReason) -> ExitAction {
    match ended {
        ShutdownReason::Stopped => ExitAction::Exit(ExitCode::SUCCESS),
        ShutdownReason::Restart => ExitAction::Restart,
        ShutdownReason::Failed => ExitAction::Exit(ExitCode::FAILURE),
    }
}
