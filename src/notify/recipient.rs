//! One entry of the settings: what waits for it, and when the next message may be sent.

use std::{collections::VecDeque, future::Future, pin::Pin, time::Duration};

use jiff::{SignedDuration, tz::TimeZone};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    conditions::Conditions,
    ledger::NotifyLedger,
    sender::{Sender, SentAnswer},
};
use crate::{config::NotifyTarget, domain::notify_metrics::NotifyMetrics};
use planner::{Now, Steady};

/// Messages within [`RATE_WINDOW`]. What is notified meanwhile is in the next one.
const RATE: usize = 5;
const RATE_WINDOW: Duration = Duration::from_mins(5);
/// The first wait after a failure. Each further one doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_mins(10);
/// What could not be sent for so long is left out.
const OLDEST: SignedDuration = SignedDuration::from_hours(24);

/// An attempt that is under way; returns itself as the number of the entry with the result.
pub(super) type Attempt = Pin<Box<dyn Future<Output = (usize, Attempted)> + Send>>;

/// The result of an attempt, and what was sent with it.
#[derive(Debug)]
pub(super) struct Attempted {
    result: Result<SentAnswer, String>,
    notices: usize,
    left_out: u64,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Recipient {
    settings: NotifyTarget,
    sender: Result<Sender, String>,
    pub(super) ledger: NotifyLedger,
    metrics: NotifyMetrics,
    is_sending: bool,
    failures: u32,
    retry_at: Option<Instant>,
    /// When the last messages were sent.
    sent: VecDeque<Instant>,
}

impl Recipient {
    pub(super) fn new(
        settings: &NotifyTarget,
        bridge: &str,
        ledger: NotifyLedger,
        metrics: NotifyMetrics,
    ) -> Self {
        let sender = Sender::new(bridge, settings);
        if let Err(why) = &sender {
            warn!(notify = settings.id, why, "notifications cannot be sent");
        }
        let target = Self {
            settings: settings.clone(),
            sender,
            ledger,
            metrics,
            is_sending: false,
            failures: 0,
            retry_at: None,
            sent: VecDeque::new(),
        };
        target.show();
        target
    }

    pub(super) fn id(&self) -> &str {
        &self.settings.id
    }

    /// Notifies what changed. Returns when to look again.
    pub(super) fn look(&mut self, conditions: &Conditions, now: Now, zone: &TimeZone) -> Option<Steady> {
        let (left_out, next) = self.ledger.look(&self.settings, conditions, now, zone);
        self.count_left_out(left_out);
        self.show();
        next
    }

    /// Begins to send what waits, if it may.
    pub(super) fn attempt(&mut self, number: usize, now: Now) -> Option<Attempt> {
        if self.is_sending || self.next_attempt()? > Instant::now() {
            return None;
        }
        let dropped = self.ledger.drop_older(now.steady.before(OLDEST));
        self.count_left_out(dropped);
        let (notices, left_out) = self.ledger.next()?;
        let sender = self.sender.clone();
        self.is_sending = true;
        Some(Box::pin(async move {
            let count = notices.len();
            let result = match sender {
                Ok(sender) => sender.send(notices, left_out).await,
                Err(why) => Err(why),
            };
            let attempted = Attempted {
                result,
                notices: count,
                left_out,
            };
            (number, attempted)
        }))
    }

    /// When the next attempt may begin; `None`: nothing waits, or one is under way.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        if self.is_sending || self.ledger.waiting() == 0 {
            return None;
        }
        let limited = (self.sent.len() >= RATE)
            .then(|| self.sent.front().copied())
            .flatten();
        let limited = limited.map(|oldest| oldest + RATE_WINDOW);
        Some(limited.max(self.retry_at).unwrap_or_else(Instant::now))
    }

    pub(super) fn on_attempted(&mut self, attempted: Attempted, now: Now) {
        self.is_sending = false;
        let id = self.id();
        match attempted.result {
            Ok(SentAnswer { text, refused }) => {
                let count = attempted.notices;
                info!(notify = id, notifications = count, answer = text, "notified");
                self.metrics.update(id, |health| {
                    health.sent += count as u64;
                    // Once, and in health after that.
                    if let Some(why) = &refused
                        && health.error != refused
                    {
                        warn!(notify = id, why, "not every recipient was notified");
                    }
                    health.failing_since = refused
                        .is_some()
                        .then(|| health.failing_since.unwrap_or(now.wall));
                    health.error = refused;
                });
                self.ledger.on_sent(attempted.notices, attempted.left_out);
                (self.failures, self.retry_at) = (0, None);
                if self.sent.len() >= RATE {
                    self.sent.pop_front();
                }
                self.sent.push_back(Instant::now());
            }
            Err(why) => {
                // Once, and in health after that.
                if self.failures == 0 {
                    warn!(
                        notify = id,
                        why, "a notification could not be sent; it is tried again"
                    );
                }
                self.metrics.update(id, |health| {
                    health.failed += 1;
                    health.failing_since.get_or_insert(now.wall);
                    health.error = Some(why);
                });
                self.failures = self.failures.saturating_add(1);
                self.retry_at = Some(Instant::now() + retry_wait(self.failures));
            }
        }
        self.show();
    }

    fn count_left_out(&self, count: u64) {
        if count > 0 {
            warn!(
                notify = self.id(),
                count, "notifications are left out: too many wait, or for too long"
            );
            self.metrics.update(self.id(), |health| health.left_out += count);
        }
    }

    fn show(&self) {
        let waiting = self.ledger.waiting();
        self.metrics.update(self.id(), |health| health.waiting = waiting);
    }
}

fn retry_wait(failures: u32) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_double_up_to_ten_minutes() {
        let waits: Vec<u64> = (1..=10).map(|failures| retry_wait(failures).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert_eq!(retry_wait(u32::MAX), LONGEST_RETRY);
    }
}
