//! One connection to the broker that outlives its breaks.
//!
//! The owner of a [`Link`] says what shall hold ([`Link::retain`]) and what shall be told once
//! ([`Link::send`]); the link sees to it whatever happens to the connection, and never makes its owner
//! wait. `Driver` is the task that polls the client, `Outbox` keeps the books.
//!
//! MQTT 3.1.1 with clean sessions: after each connect the link subscribes, then publishes all retained
//! values in the order of their [`Rank`], then the one-shot messages that are not acknowledged yet.

mod driver;
mod fault;
mod glance;
mod options;
mod outage;
mod outbox;
mod queue;
mod tls;
mod topic;
mod transit;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use rumqttc::Publish;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, warn};

use driver::{Report, Session};
use options::PACKET_MAX;
use outbox::Outbox;
use transit::Progress;

pub use driver::Driver;
pub use fault::LinkFault;
pub use glance::{Echo, Glance, echo, glance};
pub use options::{Authorities, ClientCertificate, LinkError, LinkOptions, Login, Tls, Transport, Will};
pub use outbox::Rank;
pub use topic::{Filter, Topic, TopicError};

/// Room that a PUBLISH packet needs beside topic and payload: header, lengths, packet id.
const PUBLISH_OVERHEAD: usize = 16;

/// A connection to the broker; see the module. Dropped without [`Link::close`], it breaks the connection
/// off, and the broker publishes the last will.
#[derive(Debug)]
pub struct Link {
    outbox: Outbox,
    session: Option<Session>,
    reports: mpsc::Receiver<Report>,
    events: VecDeque<LinkEvent>,
    will_topic: Topic,
    fault: Option<LinkFault>,
    connects: u64,
    losses: u64,
    received: u64,
    oversized: u64,
    refused: Vec<Filter>,
    _stop: DropGuard,
}

/// What happened on the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// The broker accepted a connection; everything is being replayed.
    Up,
    /// There is no connection, for this reason. Comes when a connection is lost, and again when attempts
    /// fail for a reason not told since.
    Down {
        /// The reason.
        fault: LinkFault,
    },
    /// A message on a subscribed topic.
    Message {
        /// Where.
        topic: String,
        /// What.
        payload: Bytes,
        /// Whether the broker had kept it: it was published before this subscription.
        retain: bool,
    },
    /// The broker denied a subscription. It is tried again on the next connection.
    SubscriptionRefused {
        /// The denied one.
        filter: Filter,
    },
}

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// The broker acknowledged everything including the farewell.
    Acknowledged,
    /// There was no connection, or it broke: the broker published the last will, or will.
    NotConnected,
    /// The budget ran out: the connection is broken off, so that the broker publishes the last will.
    TimedOut,
}

/// Figures about a link, since it was opened where they count something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkStats {
    /// Whether there is a connection.
    pub connected: bool,
    /// Why not.
    pub fault: Option<String>,
    /// Connections that the broker accepted.
    pub connects: u64,
    /// Accepted connections that ended.
    pub losses: u64,
    /// Messages handed to the client, repetitions included.
    pub published: u64,
    /// Messages that the broker acknowledged.
    pub acknowledged: u64,
    /// Messages that came in.
    pub received: u64,
    /// Packets that wait for a connection or for credit now.
    pub queued: usize,
    /// Packets that wait for their acknowledgement now.
    pub unacked: usize,
    /// Messages given up because the queue was full or they were larger than a packet.
    pub dropped: u64,
    /// One-shot messages given up because their time ran out.
    pub expired: u64,
    /// Subscriptions that the broker denies on this connection.
    pub refused_subscriptions: usize,
}

impl Link {
    /// A link and the driver that connects and reconnects it. Spawn [`Driver::run`].
    ///
    /// # Errors
    /// If the options cannot work with any broker; see [`LinkError`].
    pub fn open(options: LinkOptions) -> Result<(Self, Driver), LinkError> {
        let stop = CancellationToken::new();
        let (driver, reports) = Driver::new(
            options.to_client(Some(&options.will))?,
            options.address(),
            stop.clone(),
        );
        let link = Self {
            outbox: Outbox::new(options.subscriptions),
            session: None,
            reports,
            events: VecDeque::new(),
            will_topic: options.will.topic,
            fault: None,
            connects: 0,
            losses: 0,
            received: 0,
            oversized: 0,
            refused: Vec::new(),
            _stop: stop.drop_guard(),
        };
        Ok((link, driver))
    }

    /// The next event. Also what keeps the link going: poll it whenever there is nothing else to do. May be
    /// dropped at any time without losing anything.
    pub async fn event(&mut self) -> LinkEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            match self.reports.recv().await {
                Some(report) => self.take(report),
                None if self.fault == Some(LinkFault::DriverEnded) => std::future::pending().await,
                None => self.lost(LinkFault::DriverEnded),
            }
        }
    }

    /// `topic` shall hold `payload`, retained, now and after every reconnect. The same payload again costs
    /// nothing; of several while the link is down or busy only the last one is published. An empty payload
    /// is [`Link::erase`].
    pub fn retain(&mut self, rank: Rank, topic: impl Into<Topic>, payload: impl Into<Bytes>) {
        let (topic, payload) = (topic.into(), payload.into());
        if self.fits(&topic, &payload) {
            self.outbox.retain(rank, topic, payload);
            self.pump();
        }
    }

    /// `topic` shall hold nothing. Once the broker acknowledged that, the link forgets the topic.
    pub fn erase(&mut self, topic: impl Into<Topic>) {
        self.outbox.erase(topic.into());
        self.pump();
    }

    /// Somebody else emptied `topic`, and so it shall stay. Nothing is published unless a value is on its way.
    pub fn forget(&mut self, topic: impl Into<Topic>) {
        self.outbox.forget(topic.into());
        self.pump();
    }

    /// Publishes once more what a topic holds, for someone who may have overwritten it on his side.
    pub fn repeat(&mut self, topic: &Topic) {
        self.outbox.repeat(topic);
        self.pump();
    }

    /// Publishes once more what all topics hold, in the order of their ranks.
    pub fn repeat_all(&mut self) {
        self.outbox.repeat_all();
        self.pump();
    }

    /// Publishes a message that is not retained, at least once, unless it cannot be acknowledged within
    /// `ttl` or more than 16,000 of them (or 4 MiB) wait: then the oldest is given up.
    pub fn send(&mut self, topic: impl Into<Topic>, payload: impl Into<Bytes>, ttl: Duration) {
        let (topic, payload) = (topic.into(), payload.into());
        if self.fits(&topic, &payload) {
            self.outbox.send(topic, payload, Instant::now() + ttl);
            self.pump();
        }
    }

    /// Subscribes, now and after every reconnect.
    pub fn subscribe(&mut self, filter: impl Into<Filter>) {
        self.outbox.subscribe(filter.into());
        self.pump();
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, filter: &Filter) {
        self.outbox.unsubscribe(filter);
        self.refused.retain(|refused| refused != filter);
        self.pump();
    }

    /// Publishes what still waits, then `farewell` on the topic of the last will, waits for all
    /// acknowledgements and disconnects; all of it within `budget`. Messages that come in meanwhile are
    /// dropped.
    pub async fn close(mut self, farewell: impl Into<Bytes>, budget: Duration) -> Farewell {
        let deadline = Instant::now() + budget;
        // A connection may stand that we were not told of yet.
        while self.session.is_none()
            && let Ok(report) = self.reports.try_recv()
        {
            self.take(report);
        }
        self.outbox.close(self.will_topic.clone(), farewell.into());
        self.pump();
        match timeout_at(deadline, self.drain()).await {
            Ok(Farewell::Acknowledged) => {}
            Ok(other) => return other,
            Err(_) => return Farewell::TimedOut,
        }
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.disconnect().is_ok())
        {
            // The driver ends when the broker has hung up. All is acknowledged: if that takes too long, it
            // does not matter.
            let _ = timeout_at(deadline, async { while self.reports.recv().await.is_some() {} }).await;
        }
        Farewell::Acknowledged
    }

    /// Figures for health and tests.
    pub fn stats(&self) -> LinkStats {
        let counts = self.outbox.counts();
        LinkStats {
            connected: self.session.is_some(),
            fault: self.fault.as_ref().map(ToString::to_string),
            connects: self.connects,
            losses: self.losses,
            published: counts.published,
            acknowledged: counts.acknowledged,
            received: self.received,
            queued: self.outbox.queued(),
            unacked: self.outbox.under_way(),
            dropped: counts.dropped + self.oversized,
            expired: counts.expired,
            refused_subscriptions: self.refused.len(),
        }
    }

    async fn drain(&mut self) -> Farewell {
        while self.session.is_some() {
            if self.outbox.is_empty() {
                return Farewell::Acknowledged;
            }
            match self.reports.recv().await {
                Some(report) => self.take(report),
                None => return Farewell::NotConnected,
            }
            self.events.clear();
        }
        Farewell::NotConnected
    }

    /// Books a report, and hands over what it made room for.
    fn take(&mut self, report: Report) {
        match report {
            Report::Up(session) => self.connected(session),
            Report::Down(fault) => self.lost(fault),
            Report::Sent(id) => {
                let booked = self.outbox.sent(id);
                self.hang_up_unless(booked.is_ok());
            }
            Report::Collided => {
                let booked = self.outbox.collided();
                self.hang_up_unless(booked.is_ok());
            }
            Report::Acknowledged(id) => self.outbox.acknowledged(id),
            Report::Subscribed(id, codes) => {
                let refused = self.outbox.subscribed(id, &codes);
                self.refused(refused);
            }
            Report::Pinged => {
                let progress = self.outbox.pinged();
                self.hang_up_unless(progress == Progress::Moving);
            }
            Report::Message(message) => self.received(message),
        }
        self.pump();
    }

    fn connected(&mut self, session: Session) {
        self.session = Some(session);
        self.fault = None;
        self.connects += 1;
        self.refused.clear();
        self.outbox.up();
        self.events.push_back(LinkEvent::Up);
    }

    fn lost(&mut self, fault: LinkFault) {
        if self.session.take().is_some() {
            self.losses += 1;
        }
        self.outbox.down();
        self.fault = Some(fault.clone());
        self.events.push_back(LinkEvent::Down { fault });
    }

    fn refused(&mut self, filters: Vec<Filter>) {
        for filter in filters {
            warn!(%filter, "the MQTT broker denies a subscription; check its access rules");
            self.refused.push(filter.clone());
            self.events.push_back(LinkEvent::SubscriptionRefused { filter });
        }
    }

    fn received(&mut self, message: Publish) {
        self.received += 1;
        self.events.push_back(LinkEvent::Message {
            topic: message.topic,
            payload: message.payload,
            retain: message.retain,
        });
    }

    /// Hands over as much as the credit allows.
    fn pump(&mut self) {
        let Some(session) = &self.session else {
            return;
        };
        while let Some(request) = self.outbox.next(Instant::now()) {
            if session.hand(request).is_err() {
                // The connection is over and the report of that is on its way, or the books are wrong. In
                // both cases all that is under way will be handed over again.
                session.hang_up();
                return;
            }
        }
    }

    /// A connection whose books do not match or that does not move is given up: on the next one all that
    /// was under way is handed over again.
    fn hang_up_unless(&self, sound: bool) {
        if let Some(session) = self.session.as_ref().filter(|_| !sound) {
            session.hang_up();
        }
    }

    fn fits(&mut self, topic: &Topic, payload: &Bytes) -> bool {
        let fits = topic.as_str().len() + payload.len() + PUBLISH_OVERHEAD <= PACKET_MAX;
        if !fits {
            self.oversized += 1;
            error!(%topic, bytes = payload.len(), limit = PACKET_MAX, "a message is too large for MQTT and is dropped");
        }
        fits
    }
}
