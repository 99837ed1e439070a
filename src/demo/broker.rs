//! The MQTT broker inside `tapo2mqtt demo`: the `mqtt5` crate, with its transports other than plain
//! TCP, its files and its `$SYS` topics switched off.
//!
//! It speaks MQTT 3.1.1 and 5 on one port, keeps everything in memory, needs no login and is meant
//! for trying things out; a household belongs on Mosquitto or another broker. `mqtt5` was chosen over
//! `rmqtt` because it can be stopped: on request it ends its sessions and tasks, while those of `rmqtt`
//! go on until the runtime ends.

use std::{fmt::Display, io, net::SocketAddr, pin::pin, time::Duration};

use mqtt5::broker::{
    BrokerConfig, MqttBroker,
    config::{StorageBackend, StorageConfig},
};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

use crate::system::tasks::Tasks;

/// The largest packet taken, in bytes; MQTT 5 clients are informed. Far above any payload of the bridge (a
/// strip's discovery is 22 kB). The default of `mqtt5` is one byte over the limit of MQTT, and
/// paho-mqtt, which Home Assistant uses, fails on it.
const MAX_PACKET_SIZE: usize = 1024 * 1024;

/// How long a stop waits for connections to end. Only one that never finished its CONNECT takes longer
/// than a few milliseconds.
const STOP_BUDGET: Duration = Duration::from_millis(300);

/// Why the embedded broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another program has the port: choose another one, or use that program's broker.
    #[error(
        "port {port} on {ip} is in use, perhaps by a broker that already runs: \
         choose another one with `--port N`, or use the broker of the settings with `--no-broker`",
        port = .address.port(), ip = .address.ip()
    )]
    PortInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// This machine or this user cannot have the address.
    #[error(
        "cannot listen on {address} ({source}): it must be an address of this machine, \
         and a port from 1024 up unless run as root; choose one with `--port N`"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The broker itself gave up.
    #[error(
        "the embedded broker did not start ({reason}): use the broker of the settings with `--no-broker`"
    )]
    Start {
        /// What it said.
        reason: String,
    },
}

impl BrokerError {
    fn listen(address: SocketAddr, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::AddrInUse {
            return Self::PortInUse { address };
        }
        Self::Listen { address, source }
    }

    fn start(reason: &dyn Display) -> Self {
        let reason = reason.to_string();
        Self::Start { reason }
    }
}

/// A running broker. Stops when dropped; [`stop`](Self::stop) also waits until it has.
#[derive(Debug)]
pub struct EmbeddedBroker {
    address: SocketAddr,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl EmbeddedBroker {
    /// Starts a broker on an address; port 0 takes a free one. Clients can connect once it returns.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on, or the broker gave up at its start.
    pub async fn start(address: SocketAddr, tasks: &Tasks) -> Result<Self, BrokerError> {
        // The broker reports a failed bind as text only. Asked first, the system says what it is.
        drop(
            TcpListener::bind(address)
                .await
                .map_err(|e| BrokerError::listen(address, e))?,
        );
        let broker = MqttBroker::with_config(settings(address))
            .await
            .map_err(|error| BrokerError::start(&error))?;
        let address = broker
            .local_addr()
            .ok_or_else(|| BrokerError::start(&"it has no address"))?;
        let mut ready = broker.ready_receiver();
        let stop = CancellationToken::new();
        let task = tasks.spawn("embedded broker", run(broker, stop.clone()));
        let this = Self {
            address,
            stop: stop.drop_guard(),
            task,
        };
        match ready.wait_for(|ready| *ready).await {
            Ok(_) => Ok(this),
            Err(_) => Err(BrokerError::start(&"it ended at once; the log says why")),
        }
    }

    /// Where it listens, with the port it really has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection and waits until the port is free, at most half a second.
    pub async fn stop(self) {
        drop(self.stop);
        // A panic inside the broker is already counted by `Tasks`, and a broker that is gone is stopped.
        self.task.await.ok();
    }
}

fn settings(address: SocketAddr) -> BrokerConfig {
    BrokerConfig::default()
        .with_bind_address(address)
        .with_max_packet_size(MAX_PACKET_SIZE)
        .with_sys_topics_enabled(false)
        // The default backend writes files into the current directory.
        .with_storage(StorageConfig::default().with_backend(StorageBackend::Memory))
}

async fn run(mut broker: MqttBroker, stop: CancellationToken) {
    let shutdown = broker.shutdown_handle();
    let mut running = pin!(broker.run());
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = stop.cancelled() => {
            shutdown.shutdown();
            // Its own wait for connections is 5 s. Dropped, it tells its tasks to end all the same.
            timeout(STOP_BUDGET, running).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        error!(%error, "the embedded broker failed");
    }
}
