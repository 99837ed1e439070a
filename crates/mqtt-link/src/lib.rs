//! An MQTT 3.1.1 connection that reconnects, on top of `rumqttc`.
//!
//! The owner of a [`Link`] sets the retained topics ([`Link::publish_retained`]) and publishes one-shot messages
//! ([`Link::publish`]). Neither call waits. [`Driver::run`] is the task that polls the client and reconnects.
//!
//! Sessions are clean. After each connect the link subscribes, then publishes all retained topics in the order of
//! their [`PublishPriority`], then the one-shot messages that are not acknowledged yet.

mod abort;
mod backoff;
mod broker;
mod broker_list;
mod candidate;
mod connection_state;
mod driver;
mod driver_event;
mod error;
mod event;
mod exchange;
mod fault;
mod inflight;
mod kept_payload;
mod link;
mod login;
mod loopback_check;
mod options;
mod outbox;
mod probe_connection;
mod prompt_stream;
mod publish_priority;
mod queue;
mod reconnect;
mod refused_filters;
mod request;
mod retained_cleanup;
mod retained_probe;
mod session;
mod shutdown_outcome;
mod stats;
mod tls;
mod topic;

pub use broker::Broker;
pub use driver::Driver;
pub use error::LinkError;
pub use event::LinkEvent;
pub use exchange::{Exchange, exchange};
pub use fault::LinkFault;
pub use link::Link;
pub use login::Login;
pub use loopback_check::{LoopbackCheck, check_loopback};
pub use options::{LinkOptions, Transport, Will};
pub use publish_priority::PublishPriority;
pub use retained_cleanup::clear_retained;
pub use retained_probe::{RetainedProbe, probe_retained};
pub use shutdown_outcome::ShutdownOutcome;
pub use stats::LinkStats;
pub use tls::{Authorities, ClientCertificate, Tls};
pub use topic::{Filter, Topic, TopicError};
