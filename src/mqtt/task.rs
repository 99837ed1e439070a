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
    health::HealthCollector,
    link::{LinkEvent, ShutdownOutcome},
    reload::Reloads,
    scheduling::Questions,
    state::availability,
};
use crate::mqtt::{
    pending::{Answered, CommandKind, Desk},
    publisher::Publisher,
};
use crate::{
    domain::{
        devices::{DeviceEvent, DeviceMsg},
        report::Availability,
        request_reply::RequestResult,
        scheduling::{SchedulerMsg, SchedulerUpdate},
    },
    store::Store,
    system::{clock::sleep_until_some, telemetry::LogLevel},
};

/// Between two publications of `bridge/health`.
const HEALTH_INTERVAL: Duration = Duration::from_mins(1);
/// How often the loop checks that it comes round in time.
const PULSE: Duration = Duration::from_secs(1);
/// How long the loop waits after the stop for what the other tasks still have to say.
const DRAIN_TIME: Duration = Duration::from_millis(550);
/// For the farewell to the broker.
const SHUTDOWN_TIME: Duration = Duration::from_millis(300);

/// What a request on MQTT asks of the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// End in an orderly way and start anew.
    Restart,
}

/// The channels of the MQTT task.
#[derive(Debug)]
pub struct Channels {
    /// To the device owner.
    pub orders: mpsc::Sender<DeviceMsg>,
    /// To the scheduler.
    pub asks: mpsc::Sender<SchedulerMsg>,
    /// From the scheduler.
    pub words: mpsc::Receiver<SchedulerUpdate>,
    /// From workers. Closed when the last of them ended.
    pub news: mpsc::Receiver<DeviceEvent>,
    /// To the process.
    pub controls: mpsc::Sender<Control>,
    /// Notified each second that the loop comes round in.
    pub pulse: Arc<Notify>,
}

/// The MQTT event loop task.
#[derive(Debug)]
pub struct MqttTask {
    pub(super) tree: Publisher,
    pub(super) desk: Desk,
    pub(super) orders: mpsc::Sender<DeviceMsg>,
    pub(super) questions: Questions,
    /// Topics on which sensors speak.
    pub(super) sensors: BTreeSet<String>,
    pub(super) controls: mpsc::Sender<Control>,
    pub(super) answers: mpsc::UnboundedSender<Answered>,
    pub(super) log_level: LogLevel,
    pub(super) keeper: Store,
    pub(super) vitals: HealthCollector,
    pub(super) reloads: Reloads,
    /// Set once the process is stopping: new commands are refused.
    pub(super) closing: Option<Instant>,
    /// Topics whose retained command was answered.
    pub(super) refused_retained: BTreeSet<String>,
    answered: mpsc::UnboundedReceiver<Answered>,
    pub(super) results: mpsc::UnboundedSender<(u64, RequestResult)>,
    request_results: mpsc::UnboundedReceiver<(u64, RequestResult)>,
    news: mpsc::Receiver<DeviceEvent>,
    words: mpsc::Receiver<SchedulerUpdate>,
    pulse: Arc<Notify>,
}

impl MqttTask {
    pub(super) fn assemble(
        tree: Publisher,
        wires: Channels,
        log_level: LogLevel,
        keeper: Store,
        vitals: HealthCollector,
        reloads: Reloads,
    ) -> Self {
        let (answers, answered) = mpsc::unbounded_channel();
        let (results, request_results) = mpsc::unbounded_channel();
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
            results,
            request_results,
            news: wires.news,
            words: wires.words,
            pulse: wires.pulse,
        }
    }

    /// Runs until the stop; then goes on until all workers ended, and disconnects from the broker.
    pub async fn run(mut self, stop: CancellationToken) -> ShutdownOutcome {
        self.tree.publish_initial(self.log_level.get());
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_health = Instant::now();
        loop {
            let announce_at = self
                .tree
                .home
                .as_ref()
                .and_then(super::home::DiscoveryTracker::due);
            let stale_cleanup_ends = self
                .tree
                .home
                .as_ref()
                .and_then(super::home::DiscoveryTracker::stale_cleanup_ends);
            let overview_at = self.tree.overview_due();
            let drain_until = self.closing.map(|since| since + DRAIN_TIME);
            tokio::select! {
                () = stop.cancelled(), if self.closing.is_none() => self.closing = Some(Instant::now()),
                event = self.tree.link.next_event() => self.on_link(event),
                news = self.news.recv() => match news {
                    Some(DeviceEvent::Report(report)) => self.tree.hear(&report),
                    Some(DeviceEvent::Event(event)) => self.tree.publish_event(&event),
                    // Of interest to the scheduler only; what is worth telling is in the report.
                    Some(DeviceEvent::Metered(_) | DeviceEvent::Recheck(_)) => {}
                    None => break,
                },
                Some(word) = self.words.recv() => self.on_scheduler_update(word),
                turn = self.reloads.turn(), if self.closing.is_none() => self.on_reload_step(turn),
                Some((id, result)) = self.request_results.recv() => self.reply(id, result),
                Some(answer) = self.answered.recv() => self.publish_reply(answer),
                () = sleep_until_some(overview_at) => self.tree.publish_overview(self.log_level.get()),
                () = sleep_until_some(announce_at) => self.republish_for_home_assistant(),
                () = sleep_until_some(stale_cleanup_ends) => self.tree.stale_cleared(),
                () = sleep_until_some(drain_until) => break,
                expected = pulse.tick() => {
                    self.pulse.notify_one();
                    let now = Instant::now();
                    self.vitals.lagged(now.duration_since(expected));
                    if now >= next_health {
                        next_health = now + HEALTH_INTERVAL;
                        self.publish_health();
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
    pub(super) fn publish_reply(&mut self, answer: Answered) {
        let confirmed = |target: &_| self.tree.confirmed(target);
        let Some(response) = self.desk.answer(answer, confirmed, Instant::now()) else {
            return;
        };
        if response.failed || response.errand == CommandKind::Read {
            self.tree.republish_target(&response.target);
        }
        if response.wanted {
            self.tree
                .send(self.tree.response_of(&response.target), response.json);
        }
    }

    fn republish_for_home_assistant(&mut self) {
        info!("Home Assistant started; everything is published again");
        if let Some(home) = &mut self.tree.home {
            home.told(Instant::now());
        }
        self.tree.link.republish_all();
    }

    /// Publishes the bridge's figures, and returns them.
    pub(super) fn publish_health(&mut self) -> Value {
        let health = json!(
            self.vitals
                .health(self.tree.link.stats(), self.desk.len(), &self.orders)
        );
        self.tree.publish_health(&health);
        health
    }

    /// All that still waits is answered, then the broker is told.
    async fn close(mut self) -> ShutdownOutcome {
        while let Ok(word) = self.words.try_recv() {
            self.on_scheduler_update(word);
        }
        while let Ok(answer) = self.answered.try_recv() {
            self.publish_reply(answer);
        }
        for answer in self.desk.abandon() {
            self.publish_reply(answer);
        }
        while let Ok((id, result)) = self.request_results.try_recv() {
            self.reply(id, result);
        }
        self.refuse_open_requests();
        self.refuse_reloads();
        if self.tree.overview_due().is_some() {
            self.tree.publish_overview(self.log_level.get());
        }
        let offline = Bytes::from(availability(Availability::Offline));
        let shutdown = self.tree.link.close(offline, SHUTDOWN_TIME).await;
        match shutdown {
            ShutdownOutcome::Acknowledged => info!("disconnected from the broker"),
            ShutdownOutcome::NotConnected => {
                info!("the broker was not connected; it publishes the last will");
            }
            ShutdownOutcome::TimedOut => {
                warn!("the broker did not acknowledge in time; it publishes the last will");
            }
        }
        shutdown
    }
}
