//! One of several brokers, and how its connections ended. No I/O.

use std::time::Duration;

use rumqttc::MqttOptions;
use tokio::time::Instant;

use crate::{
    Broker,
    connection_state::{ConnectionState, LASTING},
};

/// For how long a broker is tried last whose connection did not. It doubles each time, up to [`LAST_MAX`].
const LAST_MIN: Duration = Duration::from_mins(1);
const LAST_MAX: Duration = Duration::from_hours(1);

/// A broker with the options of its client.
#[derive(Debug)]
pub(crate) struct Candidate {
    client: (Broker, MqttOptions),
    /// Whether it failed since the last stable connection, or since all of them failed.
    is_tried: bool,
    /// It is tried after the others until then.
    last_until: Option<Instant>,
    last_for: Duration,
}

impl Candidate {
    /// A broker that was not tried yet.
    pub(crate) fn new(client: (Broker, MqttOptions)) -> Self {
        Self {
            client,
            is_tried: false,
            last_until: None,
            last_for: LAST_MIN,
        }
    }

    /// The broker and the options of its client.
    pub(crate) fn client(&self) -> &(Broker, MqttOptions) {
        &self.client
    }

    /// Whether it failed in this round.
    pub(crate) fn is_tried(&self) -> bool {
        self.is_tried
    }

    /// Until when it is tried after the others.
    pub(crate) fn last_until(&self, now: Instant) -> Option<Instant> {
        self.last_until.filter(|until| *until > now)
    }

    /// All brokers are tried again.
    pub(crate) fn start_round(&mut self) {
        self.is_tried = false;
    }

    /// Its connection, or an attempt, ended in this state, this long after it was accepted.
    pub(crate) fn on_ended(&mut self, state: ConnectionState, lasted: Duration, now: Instant) {
        self.is_tried = true;
        match state {
            ConnectionState::Stable if lasted >= LASTING => self.last_for = LAST_MIN,
            ConnectionState::Stable => {
                self.last_until = Some(now + self.last_for);
                self.last_for = (self.last_for * 2).min(LAST_MAX);
            }
            ConnectionState::Unstable | ConnectionState::Failed => {}
        }
    }
}
