//! The only task that polls the MQTT client. It polls, and does nothing else.
//!
//! Each connection gets a client of its own, and the owner of the link gets the sending end of it together
//! with the news that it stands. So nothing of a lost connection (queued requests, packet ids, a collision,
//! half-read events) can reach the next one: it is dropped as a whole.

use std::time::Duration;

use rumqttc::{
    AsyncClient, ClientError, Event, Incoming, MqttOptions, Outgoing, Publish, QoS, SubscribeFilter,
    SubscribeReasonCode,
};
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    LinkFault,
    fault::Stage,
    options,
    outage::{Backoff, Connected, JITTER, Life, News, Outage, Recovery},
    outbox::CREDIT,
    transit::Request,
};

/// Reports that may wait for the owner of the link. When it falls behind, the driver stops reading, and TCP
/// holds the broker back.
const REPORTS: usize = 128;

/// What the driver tells the owner of the link, in the order of the events.
#[derive(Debug)]
pub(super) enum Report {
    /// The broker accepted a connection.
    Up(Session),
    /// The connection ended, or attempts fail for a reason not told before.
    Down(LinkFault),
    /// The oldest request handed over left under this packet id.
    Sent(u16),
    /// The oldest request handed over waits for an acknowledgement of its packet id.
    Collided,
    /// The broker acknowledged a publish or an unsubscribe.
    Acknowledged(u16),
    /// The broker answered a subscription.
    Subscribed(u16, Vec<SubscribeReasonCode>),
    /// The broker answered a ping.
    Pinged,
    /// A message came in.
    Message(Publish),
}

/// The sending end of one connection.
#[derive(Debug)]
pub(super) struct Session {
    client: AsyncClient,
    hang_up: CancellationToken,
}

impl Session {
    /// Hands a request over, without waiting. Fails only when the connection is over, or when more than the
    /// credit is under way.
    pub(super) fn hand(&self, request: Request) -> Result<(), ClientError> {
        match request {
            Request::Subscribe(filters) => {
                let filter = |filter: super::Filter| {
                    SubscribeFilter::new(filter.as_str().to_owned(), QoS::AtLeastOnce)
                };
                self.client.try_subscribe_many(filters.into_iter().map(filter))
            }
            Request::Unsubscribe(filter) => self.client.try_unsubscribe(filter.as_str()),
            Request::Publish {
                topic,
                payload,
                retain,
            } => self
                .client
                .try_publish(topic.as_str(), QoS::AtLeastOnce, retain, Vec::from(payload)),
        }
    }

    /// Says goodbye to the broker, which then forgets the last will. The driver ends.
    pub(super) fn disconnect(&self) -> Result<(), ClientError> {
        self.client.try_disconnect()
    }

    /// Drops the connection, without a goodbye. The driver makes a new one.
    pub(super) fn hang_up(&self) {
        self.hang_up.cancel();
    }
}

/// The task behind a link. Nothing is sent or received unless it runs.
#[must_use = "the link has no connection unless its driver runs"]
#[derive(Debug)]
pub struct Driver {
    options: MqttOptions,
    address: String,
    reports: mpsc::Sender<Report>,
    stop: CancellationToken,
    backoff: Backoff,
    outage: Outage,
}

/// How a connection or an attempt ended.
enum End {
    /// After our DISCONNECT, or because the link is gone: there is no next connection.
    Final,
    Fault {
        fault: LinkFault,
        accepted: Option<Instant>,
    },
}

/// How far a connection is.
#[derive(Clone, Copy)]
enum State {
    Connecting,
    Connected {
        accepted: Instant,
    },
    /// DISCONNECT is sent. To poll on until the broker hangs up gets everything out; to poll once more after
    /// that would connect again.
    Leaving,
}

impl Driver {
    /// A driver that runs until `stop`, and the reports it makes.
    pub(super) fn new(
        options: MqttOptions,
        address: String,
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<Report>) {
        let (sender, reports) = mpsc::channel(REPORTS);
        let driver = Self {
            options,
            address,
            reports: sender,
            stop,
            backoff: Backoff::default(),
            outage: Outage::default(),
        };
        (driver, reports)
    }

    /// Connects, polls, and connects again.
    pub async fn run(mut self) {
        while let End::Fault { fault, accepted } = self.connection().await {
            let now = Instant::now();
            let life = Life::until(now, accepted);
            let fault = self.outage.suspect(fault, now);
            let news = self.outage.failed(&fault, life, now);
            let pause = self.backoff.pause(&fault, life, rand::random_range(JITTER));
            self.log_fault(&fault, life, news, pause);
            if life != Life::Unborn || news == News::Fresh {
                self.report(Report::Down(fault)).await;
            }
            select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// One connection, from the attempt to its end.
    async fn connection(&mut self) -> End {
        let hang_up = self.stop.child_token();
        // One more than the credit: the goodbye.
        let (client, mut events) = AsyncClient::new(self.options.clone(), CREDIT + 1);
        events.set_network_options(options::network());
        let mut session = Some(Session {
            client,
            hang_up: hang_up.clone(),
        });
        let mut state = State::Connecting;
        let fault = loop {
            // To cancel a poll in its connect starts the connect over, so it is only ever cancelled to give
            // the connection up.
            let polled = select! {
                polled = timeout(self.patience(state), events.poll()) => polled,
                () = hang_up.cancelled() => break LinkFault::Unacknowledged,
            };
            match polled {
                Ok(Ok(event)) => {
                    state = self.advance(state, &event);
                    if let Some(report) = report(event, &mut session) {
                        self.report(report).await;
                    }
                }
                Ok(Err(error)) => break LinkFault::of(&error, state.stage()),
                Err(_) => break LinkFault::Silent,
            }
        };
        // Read before the failure, but not yet told.
        for event in std::mem::take(&mut events.state.events) {
            if let Some(report) = report(event, &mut session) {
                self.report(report).await;
            }
        }
        match state {
            _ if self.stop.is_cancelled() => End::Final,
            State::Leaving => End::Final,
            State::Connecting => End::Fault {
                fault,
                accepted: None,
            },
            State::Connected { accepted } => End::Fault {
                fault,
                accepted: Some(accepted),
            },
        }
    }

    /// An open connection pings, so it cannot be silent for longer than that unless it hangs in a write.
    fn patience(&self, state: State) -> Duration {
        match state {
            State::Connecting => 2 * Duration::from_secs(options::CONNECT_TIMEOUT),
            State::Connected { .. } | State::Leaving => 2 * self.options.keep_alive(),
        }
    }

    fn advance(&mut self, state: State, event: &Event) -> State {
        let now = Instant::now();
        match (state, event) {
            (_, Event::Incoming(Incoming::ConnAck(_))) => {
                let connected = self.outage.connected(now);
                self.log_connected(connected);
                State::Connected { accepted: now }
            }
            (_, Event::Outgoing(Outgoing::Disconnect)) => State::Leaving,
            (State::Connected { accepted }, _) if Life::until(now, Some(accepted)) == Life::Sound => {
                if let Some(recovery) = self.outage.stable(now) {
                    self.log_connected(Connected::Again(recovery));
                }
                state
            }
            _ => state,
        }
    }

    /// Waits for room; nobody else fills it, and the owner of the link never waits for the driver.
    async fn report(&self, report: Report) {
        select! {
            // The owner is gone: so is the driver, in a moment.
            _ = self.reports.send(report) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn log_connected(&self, connected: Connected) {
        let broker = &self.address;
        match connected {
            Connected::First => info!(broker, "connected to the MQTT broker"),
            Connected::Again(Recovery { attempts, duration }) => {
                info!(broker, attempts, ?duration, "connected to the MQTT broker again");
            }
            Connected::Flapping => debug!(broker, "connected to the MQTT broker, for now"),
        }
    }

    fn log_fault(&self, fault: &LinkFault, life: Life, news: News, pause: Duration) {
        let broker = &self.address;
        match (news, life) {
            (News::Repeated, _) => debug!(
                broker,
                ?pause,
                "still no lasting connection to the MQTT broker: {fault}"
            ),
            (News::Fresh, Life::Unborn) => warn!(broker, "cannot connect to the MQTT broker: {fault}"),
            (News::Fresh, Life::Brief | Life::Sound) => {
                warn!(broker, "lost the connection to the MQTT broker: {fault}");
            }
        }
    }
}

impl State {
    fn stage(self) -> Stage {
        match self {
            Self::Connecting => Stage::Connecting,
            Self::Connected { .. } | Self::Leaving => Stage::Connected,
        }
    }
}

/// What an event of the client means to the owner of the link.
fn report(event: Event, session: &mut Option<Session>) -> Option<Report> {
    match event {
        Event::Incoming(Incoming::ConnAck(_)) => session.take().map(Report::Up),
        Event::Incoming(Incoming::Publish(message)) => Some(Report::Message(message)),
        Event::Incoming(Incoming::PubAck(ack)) => Some(Report::Acknowledged(ack.pkid)),
        Event::Incoming(Incoming::UnsubAck(ack)) => Some(Report::Acknowledged(ack.pkid)),
        Event::Incoming(Incoming::SubAck(ack)) => Some(Report::Subscribed(ack.pkid, ack.return_codes)),
        Event::Incoming(Incoming::PingResp) => Some(Report::Pinged),
        Event::Outgoing(Outgoing::Publish(id) | Outgoing::Subscribe(id) | Outgoing::Unsubscribe(id)) => {
            Some(Report::Sent(id))
        }
        Event::Outgoing(Outgoing::AwaitAck(_)) => Some(Report::Collided),
        Event::Incoming(_) | Event::Outgoing(_) => None,
    }
}
