//! Where a device can be reached: its port, which opens and closes, and discovery.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    select,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{FaultKind, Protocol, SimulatorError, core::Core, discovery, http, xor};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;
/// The wait after it could not be opened or accepted from.
const RETRY: Duration = Duration::from_millis(50);
/// How long an address may be held by a process that was just forked, on a busy machine.
const FREED_WITHIN: Duration = Duration::from_secs(3);

/// The longest a device stays away; an instant much further ahead cannot be represented.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// The network settings of a device.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve on another address.
    Move {
        listener: TcpListener,
        /// None: stay where discovery is.
        discovery: Option<UdpSocket>,
        moved: oneshot::Sender<()>,
    },
    /// Go away for a while, and forget all sessions.
    Reboot {
        after: Duration,
        lasting: Duration,
        /// Its power was cut.
        without_power: bool,
        /// Notified when the device is away.
        down: Option<oneshot::Sender<()>>,
    },
}

/// Listens on an address. The port of a `0` is chosen by the system.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, SimulatorError> {
    when_free(address, || TcpListener::bind(address)).await
}

/// Binds an address. It may have been that of a device that has just stopped: a process that is forked at that moment
/// holds it until it runs another program.
pub(crate) async fn when_free<T, B>(address: SocketAddr, bind: impl Fn() -> B) -> Result<T, SimulatorError>
where
    B: Future<Output = io::Result<T>>,
{
    let give_up = Instant::now() + FREED_WITHIN;
    loop {
        match bind().await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => {
                sleep(RETRY).await;
            }
            bound => return bound.map_err(|source| SimulatorError::Bind { address, source }),
        }
    }
}

pub(crate) struct Network {
    core: Arc<Core>,
    tasks: TaskTracker,
    stop: CancellationToken,
    door: Door,
    discovery: Option<UdpSocket>,
    /// Ends every connection made since the port was opened.
    connections: CancellationToken,
    /// Those connections.
    served: TaskTracker,
    restart: Option<Restart>,
    /// The port could not be opened: a process that was just forked may hold its old listener for a moment.
    reopen_at: Option<Instant>,
    /// The port waits for a discovery query.
    probe_needed: bool,
    /// The number of times that the fault which closes the port was set, as far as it was heeded.
    closings: u64,
}

enum Door {
    Open(TcpListener),
    /// The address is kept, so that it is not taken; none if it could not be.
    Closed(Option<TcpSocket>),
}

struct Restart {
    phase: Phase,
    at: Instant,
    lasting: Duration,
    without_power: bool,
    down: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Announced,
    Down,
}

enum Event {
    Stop,
    Command(Command),
    FaultsChanged,
    RestartDue,
    ReopenDue,
    Connection(io::Result<TcpStream>),
    Datagram(io::Result<(Vec<u8>, SocketAddr)>),
}

impl Network {
    pub(crate) fn new(
        core: Arc<Core>,
        listener: TcpListener,
        discovery: Option<UdpSocket>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let mut network = Self {
            connections: stop.child_token(),
            core,
            tasks,
            stop,
            door: Door::Open(listener),
            discovery,
            served: TaskTracker::new(),
            restart: None,
            reopen_at: None,
            probe_needed: false,
            closings: 0,
        };
        network.heed_faults();
        network
    }

    /// Serves until the device stops.
    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut faults = self.core.faults.changes();
        loop {
            let event = select! {
                biased;
                () = self.stop.cancelled() => Event::Stop,
                Some(command) = commands.recv() => Event::Command(command),
                Ok(()) = faults.changed() => Event::FaultsChanged,
                () = due(self.restart.as_ref().map(|restart| restart.at)) => Event::RestartDue,
                () = due(self.reopen_at) => Event::ReopenDue,
                datagram = discovery::receive(self.discovery.as_ref()) => Event::Datagram(datagram),
                connection = accept(&self.door) => Event::Connection(connection),
            };
            match event {
                Event::Stop => return,
                Event::Command(command) => self.obey(command),
                Event::FaultsChanged => self.heed_faults(),
                Event::RestartDue => self.restart().await,
                Event::ReopenDue => self.open_if_allowed(),
                Event::Connection(Ok(stream)) => self.welcome(stream),
                Event::Datagram(Ok((datagram, from))) => self.answer_query(&datagram, from).await,
                Event::Connection(Err(error)) | Event::Datagram(Err(error)) => {
                    debug!(%error, "the network failed for a moment");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn welcome(&self, stream: TcpStream) {
        // A simulated device answers in small pieces; without this each waits for the next.
        let _ = stream.set_nodelay(true);
        let (core, connections) = (self.core.clone(), self.connections.clone());
        let serving = async move {
            match core.protocol() {
                Protocol::Xor => xor::serve(core, stream).await,
                _ => http::serve(core, stream).await,
            }
        };
        let serving = async move { connections.run_until_cancelled(serving).await };
        self.tasks.spawn(self.served.track_future(serving));
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Move {
                listener,
                discovery,
                moved,
            } => {
                self.hang_up();
                if discovery.is_some() {
                    self.discovery = discovery;
                }
                self.door = Door::Open(listener);
                if self.is_closed() {
                    self.close();
                }
                let _ = moved.send(());
            }
            Command::Reboot {
                after,
                lasting,
                without_power,
                down,
            } => {
                self.restart = Some(Restart {
                    without_power,
                    phase: Phase::Announced,
                    at: Instant::now() + after.min(LONGEST),
                    lasting,
                    down,
                });
            }
        }
    }

    /// Goes down, or comes back up. What was requested before it went down has ended then.
    async fn restart(&mut self) {
        let Some(mut restart) = self.restart.take() else {
            return;
        };
        match restart.phase {
            Phase::Announced => {
                self.close();
                self.served.close();
                self.served.wait().await;
                self.served.reopen();
                self.core.forget_sessions();
                if let Some(down) = restart.down.take() {
                    let _ = down.send(());
                }
                restart.phase = Phase::Down;
                restart.at = Instant::now() + restart.lasting.min(LONGEST);
                self.restart = Some(restart);
            }
            Phase::Down => {
                let without_power = restart.without_power;
                self.core.with_state(|state, now| {
                    if without_power {
                        state.regain_power(now);
                    } else {
                        state.restart(now.device);
                    }
                });
                self.probe_needed = self.core.faults.is_set(FaultKind::PortClosedUntilProbed);
                self.open_if_allowed();
            }
        }
    }

    fn heed_faults(&mut self) {
        let closings = self.core.faults.port_closings();
        if !self.core.faults.is_set(FaultKind::PortClosedUntilProbed) {
            self.probe_needed = false;
            self.open_if_allowed();
        } else if closings != self.closings {
            self.probe_needed = true;
            self.close();
        }
        self.closings = closings;
    }

    async fn answer_query(&mut self, datagram: &[u8], from: SocketAddr) {
        if self.is_down() {
            return;
        }
        let Some(answer) = discovery::answer(&self.core, datagram) else {
            return;
        };
        self.core.tally.probe();
        self.core.notify();
        self.probe_needed = false;
        self.open_if_allowed();
        if let Some(socket) = &self.discovery
            && let Err(error) = socket.send_to(&answer, from).await
        {
            debug!(%error, "a discovery answer was not sent");
        }
    }

    fn is_down(&self) -> bool {
        self.restart
            .as_ref()
            .is_some_and(|restart| restart.phase == Phase::Down)
    }

    fn is_closed(&self) -> bool {
        self.probe_needed || self.is_down()
    }

    fn open_if_allowed(&mut self) {
        self.reopen_at = None;
        if self.is_closed() {
            return;
        }
        let Door::Closed(socket) = &mut self.door else {
            return;
        };
        let opened = socket
            .take()
            .map_or_else(|| reserve(self.core.address()), Ok)
            .and_then(|socket| socket.listen(BACKLOG));
        match opened {
            Ok(listener) => self.door = Door::Open(listener),
            Err(error) => {
                debug!(address = %self.core.address(), %error, "the port cannot be opened now");
                self.reopen_at = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Closes the port and every connection.
    fn close(&mut self) {
        self.hang_up();
        // The listener must be gone before its address can be reserved.
        self.door = Door::Closed(None);
        match reserve(self.core.address()) {
            Ok(socket) => self.door = Door::Closed(Some(socket)),
            Err(error) => debug!(%error, "the closed port is not reserved"),
        }
    }

    fn hang_up(&mut self) {
        self.connections.cancel();
        self.connections = self.stop.child_token();
    }
}

/// Takes an address without listening on it: connections are refused.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(door: &Door) -> io::Result<TcpStream> {
    match door {
        Door::Open(listener) => listener.accept().await.map(|(stream, _)| stream),
        Door::Closed(_) => pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
