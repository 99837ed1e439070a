//! The task that sends notifications.

use std::time::Duration;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use jiff::tz::TimeZone;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    cause::Cause,
    conditions::Conditions,
    ledger::{KeptNotifications, counts_as_over},
    recipient::{Attempt, Attempted, Recipient},
};
use crate::{
    config::NotifyTarget,
    domain::{
        feed::{Feed, FeedPosition},
        notify_kind::NotifyKind,
        notify_metrics::NotifyMetrics,
    },
    store::{Section, StateFileStatus},
    system::clock::{Clock, sleep_until_some},
};
use planner::Steady;

/// Between two looks at what was published: of a value that changes often, only the last one is read.
const READ_INTERVAL: Duration = Duration::from_millis(250);
/// How long a message that is on its way may take after the stop.
const FINISH_TIME: Duration = Duration::from_millis(400);
/// How much is read at once, in bytes.
const READ_MAX: usize = 1 << 20;
/// What was notified by an earlier run and is not heard of for so long after the start does not exist any more.
const CONFIRMED_WITHIN: Duration = Duration::from_mins(10);

/// What the task is made of.
#[derive(Debug)]
pub struct NotifyParts {
    /// The entries of the settings.
    pub targets: Vec<NotifyTarget>,
    /// The name of the bridge.
    pub bridge: String,
    /// The time zone of the settings.
    pub zone: TimeZone,
    /// What is published.
    pub feed: Feed,
    /// Whether the state file can be written.
    pub state_file: StateFileStatus,
    /// What was sent before.
    pub kept: Section<KeptNotifications>,
    /// For health.
    pub metrics: NotifyMetrics,
    /// The clocks.
    pub clock: Clock,
}

/// Reads what is published, and sends notifications of it. Nothing waits for it.
#[derive(Debug)]
pub struct NotifyTask {
    targets: Vec<Recipient>,
    zone: TimeZone,
    feed: Feed,
    position: Option<FeedPosition>,
    state_file: StateFileStatus,
    kept: Section<KeptNotifications>,
    clock: Clock,
    conditions: Conditions,
    attempts: FuturesUnordered<Attempt>,
    /// When to look at the conditions again although none changed.
    next_look: Option<Steady>,
    /// When what is not confirmed by then is over.
    confirm_until: Option<Instant>,
}

impl NotifyTask {
    /// Goes on with what was sent before.
    pub fn new(parts: NotifyParts) -> Self {
        let mut kept = parts.kept.get();
        let mut conditions = Conditions::default();
        let target = |settings: &NotifyTarget| {
            let ledger = kept.remove(&settings.id).unwrap_or_default();
            for (cause, text, since) in ledger.open() {
                conditions.restore(cause.clone(), text, since);
            }
            Recipient::new(settings, &parts.bridge, ledger, parts.metrics.clone())
        };
        Self {
            targets: parts.targets.iter().map(target).collect(),
            zone: parts.zone,
            feed: parts.feed,
            position: None,
            state_file: parts.state_file,
            kept: parts.kept,
            clock: parts.clock,
            conditions,
            attempts: FuturesUnordered::new(),
            next_look: None,
            confirm_until: Some(Instant::now() + CONFIRMED_WITHIN),
        }
    }

    /// Runs until the stop. What was not sent by then is sent after the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut read_at = None;
        self.on_state_file();
        self.look();
        loop {
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.finish().await,
                Some((number, attempted)) = self.attempts.next() => {
                    self.on_attempted(number, attempted);
                    self.attempt();
                }
                is_open = self.feed.changed(), if read_at.is_none() => {
                    if !is_open {
                        // Nothing is published any more.
                        return stop.cancelled().await;
                    }
                    self.read();
                    read_at = Some(Instant::now() + READ_INTERVAL);
                }
                () = sleep_until_some(read_at) => read_at = None,
                () = self.state_file.changed() => self.on_state_file(),
                () = sleep_until_some(wake) => {
                    self.on_wake();
                }
            }
            if self.conditions.take_changed() {
                self.look();
            }
        }
    }

    /// What is on its way may still arrive, and is not sent again then.
    async fn finish(mut self) {
        let last = async {
            while let Some((number, attempted)) = self.attempts.next().await {
                self.on_attempted(number, attempted);
            }
        };
        // What did not is sent after the next start.
        let _late = timeout(FINISH_TIME, last).await;
    }

    fn on_attempted(&mut self, number: usize, attempted: Attempted) {
        let now = self.clock.read();
        if let Some(target) = self.targets.get_mut(number) {
            target.on_attempted(attempted, now);
        }
        self.keep();
    }

    /// When something is to be done although nothing changes.
    fn next_wake(&self) -> Option<Instant> {
        let look = self.next_look.map(|at| self.clock.instant_of(at));
        let attempts = self.targets.iter().filter_map(Recipient::next_attempt);
        attempts.chain(look).chain(self.confirm_until).min()
    }

    fn on_wake(&mut self) {
        if self.confirm_until.is_some_and(|until| until <= Instant::now()) {
            self.confirm_until = None;
            self.conditions.end_unconfirmed(self.clock.read());
        }
        self.look();
    }

    fn read(&mut self) {
        loop {
            let changes = self.feed.changes(self.position, READ_MAX);
            let now = self.clock.read();
            if changes.restarts && self.position.is_some() {
                self.conditions.unconfirm();
                self.confirm_until = Some(Instant::now() + CONFIRMED_WITHIN);
            }
            for message in &changes.messages {
                self.conditions.apply(message, now);
            }
            self.position = Some(changes.position);
            if !changes.more {
                return;
            }
        }
    }

    fn on_state_file(&mut self) {
        let error = self.state_file.error();
        let cause = Cause::of_bridge(NotifyKind::StateFileError);
        self.conditions
            .set(cause, Some(error.is_some()), self.clock.read(), |_| {
                error.unwrap_or_default()
            });
    }

    fn look(&mut self) {
        let now = self.clock.read();
        let mut next = Vec::new();
        for target in &mut self.targets {
            next.extend(target.look(&self.conditions, now, &self.zone));
        }
        self.next_look = next.into_iter().min();
        let targets = &self.targets;
        self.conditions.retain(|cause, condition| {
            targets.iter().any(|target| target.ledger.is_open(cause))
                || counts_as_over(cause, condition).is_some_and(|at| at > now.steady)
        });
        self.keep();
        self.attempt();
    }

    fn attempt(&mut self) {
        let now = self.clock.read();
        for (number, target) in self.targets.iter_mut().enumerate() {
            self.attempts.extend(target.attempt(number, now));
        }
    }

    fn keep(&self) {
        let kept = self
            .targets
            .iter()
            .map(|target| (target.id().to_owned(), target.ledger.clone()));
        self.kept.set(kept.collect());
    }
}
