//! One entry of the settings: what waits for it, and when the next message may be sent.

use std::{collections::VecDeque, future::Future, pin::Pin, time::Duration};

use jiff::{SignedDuration, tz::TimeZone};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    conditions::Conditions,
    ledger::NotifyLedger,
    notice::Notice,
    send_backoff::SendBackoff,
    send_error::SendError,
    sender::{Sender, SentAnswer},
};
use crate::{
    config::{Delivery, NotifyTarget},
    domain::notify_metrics::NotifyMetrics,
};
use planner::{Now, Steady};

/// Messages within [`RATE_WINDOW`]. What is notified meanwhile is in the next one.
const RATE: usize = 5;
const RATE_WINDOW: Duration = Duration::from_mins(5);
/// What could not be sent for so long is left out.
const OLDEST: SignedDuration = SignedDuration::from_hours(24);

/// An attempt that is under way; returns itself as the number of the entry with the result.
pub(super) type Attempt = Pin<Box<dyn Future<Output = (usize, Attempted)> + Send>>;

/// The result of an attempt, and what was sent with it.
#[derive(Debug)]
pub(super) struct Attempted {
    result: Result<SentAnswer, SendError>,
    notices: usize,
    left_out: u64,
    /// To one address alone, which did not take them before.
    only: Option<String>,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Recipient {
    settings: NotifyTarget,
    sender: Result<Sender, String>,
    pub(super) ledger: NotifyLedger,
    metrics: NotifyMetrics,
    is_sending: bool,
    /// The addresses that refused the last message.
    refused: Option<String>,
    backoff: SendBackoff,
    /// Of the addresses that are late.
    late_backoff: SendBackoff,
    /// The one that was tried last.
    last_late: String,
    /// When the last messages were sent.
    sent: VecDeque<Instant>,
}

impl Recipient {
    pub(super) fn new(
        settings: &NotifyTarget,
        bridge: &str,
        mut ledger: NotifyLedger,
        metrics: NotifyMetrics,
    ) -> Self {
        let addresses = match &settings.delivery {
            Delivery::Mail(server) => server.to.as_slice(),
            Delivery::Http { .. } => &[],
        };
        ledger.retain_late(|address| {
            addresses
                .iter()
                .map(AsRef::<str>::as_ref)
                .any(|known| known == address)
        });
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
            refused: None,
            backoff: SendBackoff::default(),
            late_backoff: SendBackoff::default(),
            last_late: String::new(),
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
        let (only, notices, left_out) = self.next()?;
        if let Some(address) = &only {
            self.last_late.clone_from(address);
        }
        let sender = self.sender.clone();
        self.is_sending = true;
        Some(Box::pin(async move {
            let count = notices.len();
            let result = match sender {
                Ok(sender) => sender.send(notices, left_out, only.as_deref()).await,
                Err(why) => Err(SendError::Temporary(why)),
            };
            let attempted = Attempted {
                result,
                notices: count,
                left_out,
                only,
            };
            (number, attempted)
        }))
    }

    /// What is sent next, and to which address alone: what waits for all goes first, unless that has to wait.
    fn next(&self) -> Option<(Option<String>, Vec<Notice>, u64)> {
        let may = |backoff: &SendBackoff| backoff.retry_at().is_none_or(|at| at <= Instant::now());
        if may(&self.backoff)
            && let Some((notices, left_out)) = self.ledger.next()
        {
            return Some((None, notices, left_out));
        }
        if !may(&self.late_backoff) {
            return None;
        }
        let (address, notices) = self.ledger.next_late(&self.last_late)?;
        Some((Some(address), notices, 0))
    }

    /// When the next attempt may begin; `None`: nothing waits, or one is under way.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        if self.is_sending {
            return None;
        }
        let now = Instant::now();
        let waiting = self.ledger.waits_for_all().then_some(&self.backoff);
        let late = self.ledger.has_late().then_some(&self.late_backoff);
        let first = waiting.into_iter().chain(late);
        let first = first.map(|backoff| backoff.retry_at().unwrap_or(now)).min()?;
        let limited = (self.sent.len() >= RATE)
            .then(|| self.sent.front().copied())
            .flatten();
        let limited = limited.map(|oldest| oldest + RATE_WINDOW);
        Some(limited.map_or(first, |limited| limited.max(first)))
    }

    pub(super) fn on_attempted(&mut self, attempted: Attempted, now: Now) {
        self.is_sending = false;
        match &attempted.result {
            Ok(_) | Err(SendError::Permanent(_)) => {
                if self.sent.len() >= RATE {
                    self.sent.pop_front();
                }
                self.sent.push_back(Instant::now());
            }
            Err(SendError::Temporary(_)) => {}
        }
        let (only, count) = (attempted.only.as_deref(), attempted.notices);
        match attempted.result {
            Ok(answer) => self.on_sent(only, count, attempted.left_out, answer, now),
            Err(SendError::Permanent(why)) => self.on_refused(only, count, why, now),
            Err(SendError::Temporary(why)) => self.on_failed(only, why, now),
        }
        self.show();
    }

    fn on_sent(&mut self, only: Option<&str>, count: usize, left_out: u64, answer: SentAnswer, now: Now) {
        let SentAnswer { text, refused, late } = answer;
        info!(
            notify = self.id(),
            notifications = count,
            answer = text,
            "notified"
        );
        self.metrics
            .update(self.id(), |health| health.sent += count as u64);
        let (addresses, late) = late.unzip();
        if let Some(address) = only {
            self.ledger.end_late(address);
            self.late_backoff = SendBackoff::default();
            if !self.ledger.has_late() {
                self.show_error(self.refused.clone(), "not every recipient was notified", now);
            }
            return;
        }
        let dropped = self
            .ledger
            .on_sent(count, left_out, addresses.unwrap_or_default());
        self.count_left_out(dropped);
        self.backoff = SendBackoff::default();
        if late.is_some() {
            self.late_backoff.fail();
        }
        self.refused = refused;
        let missed: Vec<String> = self.refused.iter().cloned().chain(late).collect();
        let missed = (!missed.is_empty()).then(|| missed.join("; "));
        self.show_error(missed, "not every recipient was notified", now);
    }

    fn on_refused(&mut self, only: Option<&str>, count: usize, why: String, now: Now) {
        let refused = match only {
            Some(address) => self.ledger.end_late(address),
            None => self.ledger.on_refused(count),
        };
        self.metrics.update(self.id(), |health| {
            health.failed += 1;
            health.left_out += refused;
        });
        self.show_error(Some(why), "a notification is refused, and not sent again", now);
    }

    fn on_failed(&mut self, only: Option<&str>, why: String, now: Now) {
        let backoff = match only {
            Some(_) => &mut self.late_backoff,
            None => &mut self.backoff,
        };
        // Once, and in health after that.
        if backoff.fail() {
            warn!(
                notify = self.id(),
                why, "a notification could not be sent; it is tried again"
            );
        }
        self.metrics.update(self.id(), |health| {
            health.failed += 1;
            health.failing_since.get_or_insert(now.wall);
            health.error = Some(why);
        });
    }

    /// In health, and once in the log.
    fn show_error(&self, error: Option<String>, message: &str, now: Now) {
        self.metrics.update(self.id(), |health| {
            if let Some(why) = &error
                && health.error != error
            {
                warn!(notify = self.id(), why, "{message}");
            }
            health.failing_since = error.is_some().then(|| health.failing_since.unwrap_or(now.wall));
            health.error = error;
        });
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
