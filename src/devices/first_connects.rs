//! When devices are connected for the first time.

use std::{collections::VecDeque, future::pending, time::Duration};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// From the first connect of one device to that of the next. A thousand connects at once would delay the event loop, and
/// a burst of logins overloads Wi-Fi.
const BETWEEN: Duration = Duration::from_millis(1);
/// The same while the bridge is not online at the broker. Logins take more of the processor than everything that the
/// bridge publishes before it is online, so a thousand of them would delay it. A few devices, which most homes have, are
/// all connected within the time that the broker takes.
const BETWEEN_BEFORE_ONLINE: Duration = Duration::from_millis(10);

/// The devices that were not connected yet, in their order.
#[derive(Debug)]
pub(super) struct FirstConnects {
    waiting: VecDeque<CancellationToken>,
    /// When the next one is due.
    next: Instant,
    between: Duration,
}

impl FirstConnects {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            next: Instant::now(),
            between: BETWEEN_BEFORE_ONLINE,
        }
    }

    /// Adds a device. The token is cancelled when it is its turn.
    pub(super) fn add(&mut self) -> CancellationToken {
        let now = Instant::now();
        if self.waiting.is_empty() {
            self.next = self.next.max(now);
        }
        let turn = CancellationToken::new();
        self.waiting.push_back(turn.clone());
        turn
    }

    /// The bridge is online, or nothing is to be waited for.
    pub(super) fn on_online(&mut self) {
        self.between = BETWEEN;
        self.next = self.next.min(Instant::now());
    }

    /// Waits for the next turn, and gives it. Cancel safe.
    pub(super) async fn give_turn(&mut self) {
        if self.waiting.is_empty() {
            return pending().await;
        }
        sleep_until(self.next).await;
        if let Some(turn) = self.waiting.pop_front() {
            self.next += self.between;
            turn.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many ms each of so many turns took.
    async fn turns(connects: &mut FirstConnects, count: usize) -> Vec<u128> {
        let mut taken = Vec::new();
        for _ in 0..count {
            let before = Instant::now();
            connects.give_turn().await;
            taken.push(before.elapsed().as_millis());
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_waits_for_nothing_and_the_others_follow() {
        let mut connects = FirstConnects::new();
        let devices: Vec<_> = (0..8).map(|_| connects.add()).collect();
        assert_eq!(turns(&mut connects, 3).await, [0, 10, 10]);
        let is_due = devices.iter().map(CancellationToken::is_cancelled);
        assert_eq!(is_due.filter(|due| *due).count(), 3);
        assert!(devices[2].is_cancelled(), "in their order");
        connects.on_online();
        assert_eq!(turns(&mut connects, 5).await, [0, 1, 1, 1, 1]);
        assert!(devices.iter().all(CancellationToken::is_cancelled));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_reload_adds_comes_at_once_and_not_in_a_burst() {
        let mut connects = FirstConnects::new();
        connects.on_online();
        tokio::time::sleep(Duration::from_mins(1)).await;
        let _devices: Vec<_> = (0..3).map(|_| connects.add()).collect();
        assert_eq!(turns(&mut connects, 3).await, [0, 1, 1]);
    }
}
