//! The MQTT event loop: sole owner of the link, the topic tree and the commands in flight.
//!
//! It never waits for a device and never for a queue that only it can drain: orders go out with
//! `try_send`, everything else comes in.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    desk::{Desk, Errand},
    health::Vitals,
    link::{LinkEvent, ShutdownOutcome},
    reload::Reloads,
    scheduling::Questions,
    state::availability,
    tree::Tree,
};
use crate::{
    clock::sleep_until_some,
    device::{News, Order},
    intent::Answer,
    report::Availability,
    scheduler::wire::{Ask, Word},
    store::Keeper,
    telemetry::LogLevel,
};

/// Between two publications of `bridge/health`.
const HEALTH_INTERVAL: Duration = Duration::from_mins(1);
/// How often the loop checks that it comes round in time.
const PULSE: Duration = Duration::from_secs(1);
/// How long the loop waits after the stop for what the other tasks still have to say.
const LAST_WORDS: Duration = Duration::from_millis(550);
/// For the last messages to the broker and their acknowledgements.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// What a request on MQTT asks of the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// End in an orderly way and start anew.
    Restart,
}

/// The channels of the MQTT task.
#[derive(Debug)]
pub struct Wires {
    /// To the device owner.
    pub orders: mpsc::Sender<Order>,
    /// To the scheduler.
    pub asks: mpsc::Sender<Ask>,
    /// From the scheduler.
    pub words: mpsc::Receiver<Word>,
    /// From workers. Closed when the last of them ended.
    pub news: mpsc::Receiver<News>,
    /// To the process.
    pub controls: mpsc::Sender<Control>,
    /// Notified each second that the loop comes round in.
    pub pulse: Arc<Notify>,
}

/// The MQTT event loop task.
#[derive(Debug)]
pub struct MqttTask {
    pub(super) tree: Tree,
    pub(super) desk: Desk,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) questions: Questions,
    /// Topics on which sensors speak.
    pub(super) sensors: BTreeSet<String>,
    pub(super) controls: mpsc::Sender<Control>,
    pub(super) answers: mpsc::UnboundedSender<Answer>,
    pub(super) log_level: LogLevel,
    pub(super) keeper: Keeper,
    pub(super) vitals: Vitals,
    pub(super) reloads: Reloads,
    /// Set once the process is stopping: new commands are refused.
    pub(super) closing: Option<Instant>,
    /// Topics whose retained command was answered.
    pub(super) refused_retained: BTreeSet<String>,
    answered: mpsc::UnboundedReceiver<Answer>,
    news: mpsc::Receiver<News>,
    words: mpsc::Receiver<Word>,
    pulse: Arc<Notify>,
}

impl MqttTask {
    pub(super) fn assemble(
        tree: Tree,
        wires: Wires,
        log_level: LogLevel,
        keeper: Keeper,
        vitals: Vitals,
        reloads: Reloads,
    ) -> Self {
        let (answers, answered) = mpsc::unbounded_channel();
        let sensors = tree.rules().sensors.iter();
        Self {
            sensors: sensors.map(|sensor| sensor.topic.clone()).collect(),
            tree,
            desk: Desk::default(),
            orders: wires.orders,
            questions: Questions::new(wires.asks),
            controls: wires.controls,
            answers,
            log_level,
            keeper,
            vitals,
            reloads,
            closing: None,
            refused_retained: BTreeSet::new(),
            answered,
            news: wires.news,
            words: wires.words,
            pulse: wires.pulse,
        }
    }

    /// Runs until the stop, then until all workers ended, and disconnects from the broker.
    pub async fn run(mut self, stop: CancellationToken) -> ShutdownOutcome {
        self.tree.plant(self.log_level.get());
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_health = Instant::now();
        loop {
            let announce_at = self.tree.home.as_ref().and_then(super::home::Home::due);
            let sweep_ends = self.tree.home.as_ref().and_then(super::home::Home::sweep_ends);
            let overview_at = self.tree.overview_due();
            let last_words = self.closing.map(|since| since + LAST_WORDS);
            tokio::select! {
                () = stop.cancelled(), if self.closing.is_none() => self.closing = Some(Instant::now()),
                event = self.tree.link.next_event() => self.on_link(event),
                news = self.news.recv() => match news {
                    Some(News::Report(report)) => self.tree.hear(&report),
                    Some(News::Event(event)) => self.tree.tell_event(&event),
                    // Of interest to the scheduler only; what is worth telling is in the report.
                    Some(News::Metered(_)) => {}
                    None => break,
                },
                Some(word) = self.words.recv() => self.hear_word(word),
                turn = self.reloads.turn(), if self.closing.is_none() => self.take_turn(turn),
                Some(answer) = self.answered.recv() => self.pass_on(answer),
                () = sleep_until_some(overview_at) => self.tree.tell_overview(self.log_level.get()),
                () = sleep_until_some(announce_at) => self.tell_home_assistant_again(),
                () = sleep_until_some(sweep_ends) => self.tree.swept(),
                () = sleep_until_some(last_words) => break,
                expected = pulse.tick() => {
                    self.pulse.notify_one();
                    let now = Instant::now();
                    self.vitals.lagged(now.duration_since(expected));
                    if now >= next_health {
                        next_health = now + HEALTH_INTERVAL;
                        self.tell_health();
                    }
                }
            }
        }
        self.close().await
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up => self.tree.connected(),
            // The link logs why, once.
            LinkEvent::Down { .. } => self.vitals.lost(self.tree.link.stats().losses),
            LinkEvent::Message {
                topic,
                payload,
                retain,
            } => self.receive(&topic, &payload, retain),
            // The link has logged it, and health counts it.
            LinkEvent::SubscriptionRefused { .. } => {}
        }
    }

    /// Publishes an answer. After a failure the old state is published again, so that whoever showed the
    /// wished one snaps back; after a read, because somebody asked to see it.
    pub(super) fn pass_on(&mut self, answer: Answer) {
        let confirmed = |target: &_| self.tree.confirmed(target);
        let Some(response) = self.desk.answer(answer, confirmed, Instant::now()) else {
            return;
        };
        if response.failed || response.errand == Errand::Read {
            self.tree.repeat_target(&response.target);
        }
        if response.wanted {
            self.tree
                .send(self.tree.response_of(&response.target), response.json);
        }
    }

    fn tell_home_assistant_again(&mut self) {
        info!("Home Assistant started; everything is published again");
        if let Some(home) = &mut self.tree.home {
            home.told(Instant::now());
        }
        self.tree.link.republish_all();
    }

    /// Publishes the bridge's figures, and returns them.
    pub(super) fn tell_health(&mut self) -> Value {
        let health = json!(
            self.vitals
                .health(self.tree.link.stats(), self.desk.len(), &self.orders)
        );
        self.tree.tell_health(&health);
        health
    }

    /// All that still waits is answered, then the broker is told.
    async fn close(mut self) -> ShutdownOutcome {
        while let Ok(word) = self.words.try_recv() {
            self.hear_word(word);
        }
        while let Ok(answer) = self.answered.try_recv() {
            self.pass_on(answer);
        }
        for answer in self.desk.abandon() {
            self.pass_on(answer);
        }
        self.refuse_open_requests();
        self.refuse_reloads();
        if self.tree.overview_due().is_some() {
            self.tree.tell_overview(self.log_level.get());
        }
        let offline = Bytes::from(availability(Availability::Offline));
        let outcome = self.tree.link.close(offline, CLOSE_TIMEOUT).await;
        match outcome {
            ShutdownOutcome::Acknowledged => info!("disconnected from the broker"),
            ShutdownOutcome::NotConnected => {
                info!("no connection to the broker; the broker publishes the last will");
            }
            ShutdownOutcome::TimedOut => {
                warn!("the broker did not acknowledge in time and publishes the last will");
            }
        }
        outcome
    }
}
