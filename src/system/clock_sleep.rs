//! Sleeping until a point of the steady clock.

use std::{future::pending, time::Duration};

use planner::Steady;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::clock::{Clock, ClockShift, sleep_until_some};

/// How soon it is noticed that the wall clock was set or that the machine was suspended. tokio's timers stand still
/// while it is, and what is over then must be done at once.
const CLOCK_CHECK: Duration = Duration::from_secs(1);
/// The same while nothing waits.
const IDLE_CHECK: Duration = Duration::from_mins(1);

/// Sleeps until points of the steady clock.
#[derive(Debug)]
pub(crate) struct ClockSleep {
    clock: Clock,
    /// How a steered clock was shifted. It says when, so nothing has to be asked each second: a test lives through a year
    /// of them. `None` for the clocks of the system.
    shifts: Option<watch::Receiver<ClockShift>>,
    /// When a shift of a steered clock is noticed, not later than one of the system's clocks.
    noticed_at: Option<Instant>,
}

impl ClockSleep {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            shifts: clock.shifts(),
            clock,
            noticed_at: None,
        }
    }

    /// Sleeps until then, or less, also where nothing waits: the clocks have to be read again whenever it returns. Cancel safe.
    pub(crate) async fn until(&mut self, at: Option<Steady>) {
        let Some(at) = at else {
            return sleep(IDLE_CHECK).await;
        };
        let due = self.clock.instant_of(at);
        let Some(shifts) = &mut self.shifts else {
            return sleep_until(due.min(Instant::now() + CLOCK_CHECK)).await;
        };
        loop {
            tokio::select! {
                () = sleep_until(due) => return,
                () = sleep_until_some(self.noticed_at) => {
                    self.noticed_at = None;
                    return;
                }
                changed = shifts.changed(), if self.noticed_at.is_none() => match changed {
                    Ok(()) => self.noticed_at = Some(Instant::now() + CLOCK_CHECK),
                    // The clock of this task is one of those that could shift it.
                    Err(_) => pending().await,
                },
            }
        }
    }
}
