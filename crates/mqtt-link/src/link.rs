//! The connection as its owner sees it.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use rumqttc::Publish;
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

use crate::{
    Driver, Filter, LinkError, LinkEvent, LinkFault, LinkOptions, LinkStats, PublishPriority,
    ShutdownOutcome, Topic,
    broker_list::BrokerList,
    connection_state::ConnectionState,
    driver_event::DriverEvent,
    options::MAX_PACKET_SIZE,
    outbox::{ConnectionLoss, LeftOut, Outbox},
    refused_filters::RefusedFilters,
    session::Session,
};

/// Room that a PUBLISH packet needs besides topic and payload: header, lengths, packet id.
const PUBLISH_OVERHEAD: usize = 16;
/// A broker that closes the connection because of a message does so sooner. A cluster of NATS without a leader closes it
/// after 4 s.
const CLOSED_LATE: Duration = Duration::from_secs(3);
/// How long a broker that grants no subscription is asked again before the next broker is tried. It doubles each time, up
/// to the longest, so that the link stays connected where all brokers deny them.
const DENIED_PATIENCE_MIN: Duration = Duration::from_secs(3);
const DENIED_PATIENCE_MAX: Duration = Duration::from_hours(1);
/// After so many connections in a row that a message that is too large ended, the optional subscriptions are given up.
const OVERSIZED_ENDS_MAX: u32 = 2;

/// A connection to the broker. Dropped without [`Link::close`], it drops the connection without DISCONNECT, and the
/// broker publishes the last will.
#[derive(Debug)]
pub struct Link {
    outbox: Outbox,
    session: Option<Session>,
    driver_events: mpsc::Receiver<DriverEvent>,
    events: VecDeque<LinkEvent>,
    will_topic: Topic,
    fault: Option<LinkFault>,
    connects: u64,
    losses: u64,
    received: u64,
    oversized: u64,
    refused: RefusedFilters,
    /// The denials in force that were logged: broker and filter.
    logged_denials: HashSet<(String, Filter)>,
    /// The subscriptions without which a broker is of no use. Empty if there is no other broker.
    needed: Vec<Filter>,
    /// For how long a broker is asked for them that grants none.
    denied_patience: Duration,
    optional: Vec<Filter>,
    connected_at: Instant,
    acknowledged_within: Duration,
    /// Connections in a row that a message that is too large ended at once.
    oversized_ends: u32,
    _stop_driver: DropGuard,
}

impl Link {
    /// Creates a link and the driver that connects and reconnects it. Spawn [`Driver::run`]; it ends when the link
    /// is closed or dropped.
    ///
    /// # Errors
    /// If the options cannot work with any broker; see [`LinkError`].
    pub fn open(options: LinkOptions) -> Result<(Self, Driver), LinkError> {
        let stop = CancellationToken::new();
        let brokers = BrokerList::new(options.to_clients(Some(&options.will))?);
        let (driver, driver_events) = Driver::new(brokers, stop.clone());
        let needed = match options.brokers.len() {
            0 | 1 => Vec::new(),
            _ => options.subscriptions.clone(),
        };
        let link = Self {
            outbox: Outbox::new([options.subscriptions, options.optional_subscriptions.clone()].concat()),
            session: None,
            driver_events,
            events: VecDeque::new(),
            will_topic: options.will.topic,
            fault: None,
            connects: 0,
            losses: 0,
            received: 0,
            oversized: 0,
            refused: RefusedFilters::default(),
            logged_denials: HashSet::new(),
            needed,
            denied_patience: DENIED_PATIENCE_MIN,
            optional: options.optional_subscriptions,
            connected_at: Instant::now(),
            acknowledged_within: 2 * options.keep_alive,
            oversized_ends: 0,
            _stop_driver: stop.drop_guard(),
        };
        Ok((link, driver))
    }

    /// Returns the next event, and drives the link: poll it whenever there is nothing else to do. Cancel safe.
    pub async fn next_event(&mut self) -> LinkEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let event = select! {
                biased;
                event = self.driver_events.recv() => event,
                () = sleep_until(self.refused.retry_at()) => {
                    self.outbox.resubscribe(self.refused.on_retry(Instant::now()));
                    self.flush();
                    continue;
                }
            };
            match event {
                Some(event) => self.handle(event),
                None if self.fault == Some(LinkFault::DriverEnded) => std::future::pending().await,
                None => self.on_disconnected(LinkFault::DriverEnded),
            }
        }
    }

    /// Sets the retained payload of `topic`, now and after every reconnect. An equal payload is not published again.
    /// While the link is down or busy, only the latest payload is kept. An empty payload clears the topic, see
    /// [`Link::clear_retained`]. Returns whether the payload is new and is published.
    pub fn publish_retained(
        &mut self,
        priority: PublishPriority,
        topic: impl Into<Topic>,
        payload: impl Into<Bytes>,
    ) -> bool {
        let (topic, payload) = (topic.into(), payload.into());
        let published = self.fits(&topic, &payload) && self.outbox.publish_retained(priority, topic, payload);
        self.flush();
        published
    }

    /// Clears the retained payload of `topic`. The link drops the topic once the broker acknowledges that.
    pub fn clear_retained(&mut self, topic: impl Into<Topic>) {
        self.outbox.clear_retained(topic.into());
        self.flush();
    }

    /// Records that another client cleared `topic`, and leaves it empty. Publishes nothing unless a payload is in
    /// flight or waits.
    pub fn mark_cleared(&mut self, topic: impl Into<Topic>) {
        self.outbox.mark_cleared(topic.into());
        self.flush();
    }

    /// Publishes the retained payload of a topic again.
    pub fn republish(&mut self, topic: &Topic) {
        self.outbox.republish(topic);
        self.flush();
    }

    /// Publishes the retained payloads of all topics again, in the order of their priorities.
    pub fn republish_all(&mut self) {
        self.outbox.republish_all();
        self.flush();
    }

    /// Publishes a message that is not retained, at QoS 1. The link drops it if the broker does not acknowledge it
    /// within `ttl`, and drops the oldest message if more than 16,000 of them (or 4 MiB) wait.
    pub fn publish(&mut self, topic: impl Into<Topic>, payload: impl Into<Bytes>, ttl: Duration) {
        let (topic, payload) = (topic.into(), payload.into());
        if self.fits(&topic, &payload) {
            self.outbox.publish(topic, payload, Instant::now() + ttl);
            self.flush();
        }
    }

    /// Subscribes, now and after every reconnect.
    pub fn subscribe(&mut self, filter: impl Into<Filter>) {
        self.outbox.subscribe(filter.into());
        self.flush();
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, filter: &Filter) {
        self.outbox.unsubscribe(filter);
        self.needed.retain(|needed| needed != filter);
        self.optional.retain(|optional| optional != filter);
        self.refused.remove(filter);
        self.logged_denials.retain(|(_, denied)| denied != filter);
        self.flush();
    }

    /// Publishes everything that waits, then `last_payload` on the topic of the last will, waits for all
    /// acknowledgements and disconnects, all within `timeout`. Drops messages received meanwhile.
    pub async fn close(mut self, last_payload: impl Into<Bytes>, timeout: Duration) -> ShutdownOutcome {
        let deadline = Instant::now() + timeout;
        // The driver may have connected already, with the event still in the channel.
        while self.session.is_none()
            && let Ok(event) = self.driver_events.try_recv()
        {
            self.handle(event);
        }
        self.outbox.close(self.will_topic.clone(), last_payload.into());
        self.flush();
        match timeout_at(deadline, self.drain()).await {
            Ok(ShutdownOutcome::Acknowledged) => {}
            Ok(other) => return other,
            Err(_) => return ShutdownOutcome::TimedOut,
        }
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.disconnect().is_ok())
        {
            // The driver ends when the broker closes the connection. Everything is acknowledged, so a timeout here
            // does not matter.
            let _ = timeout_at(deadline, async {
                while self.driver_events.recv().await.is_some() {}
            })
            .await;
        }
        ShutdownOutcome::Acknowledged
    }

    /// The retained topics that are not published, because the broker closed the connection at them twice, and the sizes
    /// of their payloads.
    pub fn left_out(&self) -> impl Iterator<Item = (&Topic, usize)> {
        self.outbox.left_out()
    }

    /// Statistics for health reports and tests.
    pub fn stats(&self) -> LinkStats {
        let counts = self.outbox.counts();
        LinkStats {
            connected: self.session.is_some(),
            broker: self.session.as_ref().map(|session| session.broker().to_owned()),
            fault: self.fault.as_ref().map(ToString::to_string),
            connects: self.connects,
            losses: self.losses,
            published: counts.published,
            acknowledged: counts.acknowledged,
            received: self.received,
            queued: self.outbox.queued(),
            unacked: self.outbox.inflight(),
            dropped: counts.dropped + self.oversized,
            expired: counts.expired,
            refused_subscriptions: self.refused.len(),
            left_out: self.outbox.left_out().count(),
        }
    }

    async fn drain(&mut self) -> ShutdownOutcome {
        while self.session.is_some() {
            if self.outbox.is_empty() {
                return ShutdownOutcome::Acknowledged;
            }
            match self.driver_events.recv().await {
                Some(event) => self.handle(event),
                None => return ShutdownOutcome::NotConnected,
            }
            self.events.clear();
        }
        ShutdownOutcome::NotConnected
    }

    fn handle(&mut self, event: DriverEvent) {
        let is_answer = event.is_from_broker();
        match event {
            DriverEvent::Connected(session) => self.on_connected(session),
            DriverEvent::Disconnected(fault) => self.on_disconnected(fault),
            DriverEvent::Sent(kind, id) => {
                let result = self.outbox.on_sent(kind, id);
                self.abort_unless(result.is_ok());
            }
            DriverEvent::Acknowledged(id) => self.outbox.on_acknowledged(id),
            DriverEvent::SubAck(id, codes) => {
                for (filter, is_granted) in self.outbox.on_suback(id, &codes) {
                    self.on_subscribed(filter, is_granted);
                }
                self.abort_if_denied();
            }
            DriverEvent::PingResp => {}
            DriverEvent::Message(message) => self.on_message(message),
        }
        if is_answer {
            self.abort_if_stalled();
        }
        self.flush();
    }

    fn on_connected(&mut self, session: Session) {
        self.session = Some(session);
        self.connected_at = Instant::now();
        self.fault = None;
        self.connects += 1;
        self.refused = RefusedFilters::default();
        self.outbox.on_connected();
        self.events.push_back(LinkEvent::Up);
    }

    fn on_disconnected(&mut self, fault: LinkFault) {
        if self.session.take().is_some() {
            self.losses += 1;
        }
        let is_late = self.is_waiting_for(CLOSED_LATE);
        let loss = match fault {
            LinkFault::ClosedByBroker | LinkFault::ClientIdTaken if is_late => ConnectionLoss::ClosedLate,
            LinkFault::ClosedByBroker | LinkFault::ClientIdTaken => ConnectionLoss::ClosedByBroker,
            _ => ConnectionLoss::Other,
        };
        if let Some(LeftOut { topic, bytes }) = self.outbox.on_disconnected(loss) {
            error!(
                %topic,
                bytes,
                "the broker closed the connection twice at this message, so it is left out; raise the broker's size \
                 limits (Mosquitto: max_packet_size), or check its access rules"
            );
        }
        let given_up = self.count_oversized(&fault);
        self.fault = Some(fault.clone());
        self.events.push_back(LinkEvent::Down { fault });
        self.events.extend(given_up);
    }

    /// A retained message that is too large ends every connection when the link subscribes. The packet is not read, so
    /// its topic is not known.
    fn count_oversized(&mut self, fault: &LinkFault) -> Option<LinkEvent> {
        let LinkFault::MessageTooLarge(bytes) = fault else {
            self.oversized_ends = 0;
            return None;
        };
        let lasted = ConnectionState::at(Instant::now(), Some(self.connected_at));
        self.oversized_ends = match lasted {
            ConnectionState::Stable => 0,
            _ => self.oversized_ends + 1,
        };
        if self.oversized_ends == OVERSIZED_ENDS_MAX + 1 {
            error!(
                bytes,
                filters = names(self.outbox.filters()),
                "a message that is too large ends every connection, so nothing is received. It is probably retained, on a \
                 topic of one of these filters. Find it with: mosquitto_sub -t FILTER --retained-only -F '%l %t', and \
                 clear it with: mosquitto_pub -r -n -t TOPIC"
            );
        }
        if self.oversized_ends < OVERSIZED_ENDS_MAX || self.optional.is_empty() {
            return None;
        }
        let filters = std::mem::take(&mut self.optional);
        for filter in &filters {
            self.outbox.unsubscribe(filter);
        }
        warn!(
            bytes,
            filters = names(&filters),
            "a message that is too large ended the connection twice. It may be on a topic of one of these filters, which \
             are not needed, so they are not subscribed to until the next start"
        );
        Some(LinkEvent::SubscriptionsGivenUp { filters })
    }

    fn on_subscribed(&mut self, filter: Filter, is_granted: bool) {
        let broker = self.session.as_ref().map_or("", Session::broker).to_owned();
        let denial = (broker, filter);
        let (broker, filter) = &denial;
        if is_granted {
            if self.needed.contains(filter) {
                self.denied_patience = DENIED_PATIENCE_MIN;
            }
            self.refused.remove(filter);
            if self.logged_denials.remove(&denial) {
                let (broker, filter) = &denial;
                info!(%broker, %filter, "the MQTT broker grants the subscription now");
            }
        } else if self.refused.add(filter, Instant::now()) {
            let event = LinkEvent::SubscriptionRefused {
                filter: filter.clone(),
            };
            self.events.push_back(event);
            if !self.logged_denials.contains(&denial) {
                warn!(%broker, %filter, "the MQTT broker denies a subscription; check its access rules");
                self.logged_denials.insert(denial);
            }
        }
    }

    fn on_message(&mut self, message: Publish) {
        self.received += 1;
        self.events.push_back(LinkEvent::Message {
            topic: String::from_utf8_lossy(&message.topic).into_owned(),
            payload: message.payload,
            retain: message.retain,
        });
    }

    /// Passes requests to the client until the in-flight window is full.
    fn flush(&mut self) {
        let Some(session) = &self.session else {
            return;
        };
        while let Some(request) = self.outbox.next_request(Instant::now()) {
            if session.send(request).is_err() {
                // Either the connection is closed and the event waits in the channel, or the in-flight records are
                // wrong. In both cases the next connection sends all in-flight requests again.
                session.abort(LinkFault::Unacknowledged);
                return;
            }
        }
    }

    /// The broker accepts the connection and denies everything that the link is for, while another broker may not.
    fn abort_if_denied(&mut self) {
        if self.needed.is_empty() || !self.refused.has_all(&self.needed) {
            return;
        }
        if let Some(session) = &self.session
            && self.connected_at.elapsed() >= self.denied_patience
        {
            self.denied_patience = (self.denied_patience * 2).min(DENIED_PATIENCE_MAX);
            session.abort(LinkFault::SubscriptionsDenied);
        }
    }

    /// Drops a connection whose in-flight records do not match or that makes no progress. The next connection sends
    /// all in-flight requests again.
    fn abort_unless(&self, ok: bool) {
        if let Some(session) = self.session.as_ref().filter(|_| !ok) {
            session.abort(LinkFault::Unacknowledged);
        }
    }

    /// The broker sends something, but has not acknowledged a packet for so long that it never will.
    fn abort_if_stalled(&self) {
        self.abort_unless(!self.is_waiting_for(self.acknowledged_within));
    }

    /// Whether the broker has not acknowledged a packet for so long.
    fn is_waiting_for(&self, length: Duration) -> bool {
        let then = Instant::now().checked_sub(length);
        then.is_some_and(|then| self.outbox.is_waiting_since(then))
    }

    fn fits(&mut self, topic: &Topic, payload: &Bytes) -> bool {
        let fits = topic.as_str().len() + payload.len() + PUBLISH_OVERHEAD <= MAX_PACKET_SIZE;
        if !fits {
            self.oversized += 1;
            error!(%topic, bytes = payload.len(), limit = MAX_PACKET_SIZE, "message too large for MQTT; dropped");
        }
        fits
    }
}

/// Filters in the log.
fn names(filters: &[Filter]) -> String {
    let names: Vec<_> = filters.iter().map(Filter::as_str).collect();
    names.join(", ")
}
