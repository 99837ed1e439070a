//! The only task that polls the MQTT client. It does nothing else.
//!
//! Each connection gets a new client. The link receives its sending half with the event that reports the connection.
//! So nothing of a lost connection (queued requests, packet ids, a collision, partly read events) reaches the next
//! one.

use std::time::Duration;

use rumqttc::{AsyncClient, ConnectionError, Event, Incoming, MqttOptions, Outgoing};
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    Broker, LinkFault,
    abort::Abort,
    backoff::{Backoff, JITTER},
    broker_list::{BrokerList, NextAttempt},
    connection_state::ConnectionState,
    driver_event::DriverEvent,
    fault::Stage,
    options,
    outbox::MAX_INFLIGHT,
    reconnect::{Connected, Notice, Reconnect, Recovery},
    session::Session,
};

/// Capacity of the channel to the link. When it is full, the driver stops reading, and TCP flow control slows the
/// broker down. Each event may hold a packet of the largest size (1 MiB), so only
/// a few of them wait here.
const CHANNEL_CAPACITY: usize = 16;

/// The task behind a link. The link has no connection unless it runs.
#[derive(Debug)]
#[must_use = "the link has no connection unless its driver runs"]
pub struct Driver {
    brokers: BrokerList,
    events: mpsc::Sender<DriverEvent>,
    stop: CancellationToken,
    backoff: Backoff,
    reconnect: Reconnect,
}

/// How a connection or an attempt ended.
enum ConnectionEnd {
    /// After DISCONNECT, or because the link was dropped. There is no next connection.
    Final,
    /// The driver reconnects.
    Fault {
        fault: LinkFault,
        accepted: Option<Instant>,
        /// When the broker last answered, if it ended because it does not any more.
        answered: Option<Instant>,
    },
}

/// The progress of a connection.
#[derive(Clone, Copy)]
enum DriverState {
    Connecting,
    Connected { accepted: Instant },
}

impl Driver {
    /// A driver that runs until `stop`, and the events it reports.
    pub(crate) fn new(brokers: BrokerList, stop: CancellationToken) -> (Self, mpsc::Receiver<DriverEvent>) {
        let (sender, events) = mpsc::channel(CHANNEL_CAPACITY);
        let driver = Self {
            backoff: Backoff::of(brokers.len()),
            brokers,
            events: sender,
            stop,
            reconnect: Reconnect::default(),
        };
        (driver, events)
    }

    /// Connects, polls and reconnects until the link is closed or dropped.
    pub async fn run(mut self) {
        while let Some((broker, options)) = self.brokers.current().cloned() {
            let end = self.run_connection(&broker, options).await;
            let ConnectionEnd::Fault {
                fault,
                accepted,
                answered,
            } = end
            else {
                return;
            };
            let now = Instant::now();
            let state = ConnectionState::at(now, accepted);
            let fault = self.reconnect.classify(fault, now);
            let since = answered.unwrap_or(now);
            let lasted = accepted.map(|accepted| now.duration_since(accepted));
            let position = self.brokers.position();
            let notice = self.reconnect.on_failed(position, &fault, lasted, since);
            let next = self
                .brokers
                .on_ended(state.ended_with(&fault), lasted.unwrap_or_default(), now);
            let jitter = rand::random_range(JITTER);
            let delay = self.backoff.next_delay(&fault, state, next, jitter);
            let longest = self.backoff.longest(&fault);
            log_fault(&broker, &fault, next, notice, (delay, longest));
            if state != ConnectionState::Failed || notice != Notice::Repeated {
                self.emit(DriverEvent::Disconnected(fault)).await;
            }
            select! {
                () = sleep(delay) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Runs one connection, from the attempt to its end.
    async fn run_connection(&mut self, broker: &Broker, options: MqttOptions) -> ConnectionEnd {
        let keep_alive = options.keep_alive();
        let abort = Abort::new(&self.stop);
        let (client, mut client_events) = AsyncClient::builder(options).capacity(MAX_INFLIGHT).build();
        client_events.set_network_options(options::network());
        let qos = self.brokers.subscription_qos();
        let mut session = Some(Session::new(client, broker.to_string(), qos, abort.clone()));
        let mut state = DriverState::Connecting;
        let started = Instant::now();
        let mut answer_by = started + self.brokers.connect_timeout();
        let mut answered = started;
        let fault = loop {
            // Cancelling a poll that connects restarts the connect. So only drop a poll together with its connection.
            let polled = select! {
                polled = timeout_at(answer_by, client_events.poll()) => polled,
                fault = abort.aborted() => break fault,
            };
            let event = match polled {
                Ok(Ok(event)) => event,
                // It sent DISCONNECT.
                Ok(Err(ConnectionError::RequestsDone)) => return ConnectionEnd::Final,
                Ok(Err(error)) => break LinkFault::from_client(&error, state.stage()),
                Err(_) => break state.silence(),
            };
            let is_answer = matches!(event, Event::Incoming(_));
            if matches!(event, Event::Incoming(Incoming::ConnAck(_))) {
                self.brokers.on_accepted(started.elapsed());
            }
            let is_ping = event == Event::Outgoing(Outgoing::PingReq);
            state = self.next_state(broker, state, &event);
            if let Some(event) = DriverEvent::from_client(event, &mut session) {
                self.emit(event).await;
            }
            // The client pings only while it sends nothing else, and everything that it sends is answered. So a broker that
            // sends nothing for longer than that is gone.
            if is_answer {
                answered = Instant::now();
                answer_by = answered + 2 * keep_alive;
            } else if is_ping {
                answer_by = answer_by.max(Instant::now() + keep_alive);
            }
        };
        // The client read these before the failure.
        for event in std::mem::take(&mut client_events.state.events) {
            if let Some(event) = DriverEvent::from_client(event, &mut session) {
                self.emit(event).await;
            }
        }
        match state {
            _ if self.stop.is_cancelled() => ConnectionEnd::Final,
            DriverState::Connecting => ConnectionEnd::Fault {
                fault,
                accepted: None,
                answered: None,
            },
            DriverState::Connected { accepted } => ConnectionEnd::Fault {
                answered: (fault == LinkFault::Silent).then_some(answered),
                fault,
                accepted: Some(accepted),
            },
        }
    }

    fn next_state(&mut self, broker: &Broker, state: DriverState, event: &Event) -> DriverState {
        let now = Instant::now();
        match (state, event) {
            (_, Event::Incoming(Incoming::ConnAck(_))) => {
                let connected = self.reconnect.on_connected(now);
                log_connected(broker, connected);
                DriverState::Connected { accepted: now }
            }
            (DriverState::Connected { accepted }, _) => {
                if let Some(recovery) = self.reconnect.on_lasting(now.duration_since(accepted)) {
                    log_connected(broker, Connected::Again(recovery));
                }
                state
            }
            (DriverState::Connecting, _) => state,
        }
    }

    /// Sends an event to the link and waits for room. The link never waits for the driver.
    async fn emit(&self, event: DriverEvent) {
        select! {
            // Fails if the link is dropped; the driver then stops too.
            _ = self.events.send(event) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

fn log_connected(broker: &Broker, connected: Connected) {
    match connected {
        Connected::First(None) => info!(%broker, "connected to the MQTT broker"),
        Connected::First(Some(Recovery { attempts, duration })) => {
            let after = seconds(duration);
            info!(%broker, attempts, after, "connected to the MQTT broker");
        }
        Connected::Again(Recovery { attempts, duration }) => {
            let after = seconds(duration);
            info!(%broker, attempts, after, "reconnected to the MQTT broker");
        }
        Connected::Flapping => debug!(%broker, "connected to the MQTT broker; not stable yet"),
    }
}

fn log_fault(
    broker: &Broker,
    fault: &LinkFault,
    next: NextAttempt,
    notice: Notice,
    (delay, longest): (Duration, Duration),
) {
    let longest = longest.as_secs();
    let then = match next {
        NextAttempt::Untried => "trying the next one".to_owned(),
        NextAttempt::First => format!("retrying every {longest} s or sooner"),
    };
    match notice {
        Notice::Repeated => {
            let retry_in = seconds(delay);
            debug!(
                %broker,
                retry_in, "still no stable connection to the MQTT broker: {fault}"
            );
        }
        Notice::Failed => warn!(%broker, "cannot connect to the MQTT broker: {fault}; {then}"),
        Notice::NotLasting => {
            warn!(%broker, "the MQTT broker accepted a connection, which did not last: {fault}; {then}");
        }
        Notice::Lost => {
            warn!(%broker, "lost the connection to the MQTT broker: {fault}; reconnecting");
        }
    }
}

/// A length of time in the log.
fn seconds(length: Duration) -> String {
    format!("{:.1} s", length.as_secs_f64())
}

impl DriverState {
    /// What it means that nothing came.
    fn silence(self) -> LinkFault {
        match self {
            Self::Connecting => LinkFault::Timeout,
            Self::Connected { .. } => LinkFault::Silent,
        }
    }

    fn stage(self) -> Stage {
        match self {
            Self::Connecting => Stage::Connecting,
            Self::Connected { .. } => Stage::Connected,
        }
    }
}
