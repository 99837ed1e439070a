//! A wire between a client and a server that a test can cut, block and restore.

use std::{io, net::SocketAddr, sync::Arc};

use tapo2mqtt::system::tasks::Tasks;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    select,
    sync::watch,
    task::JoinHandle,
};

/// Small, so that a peer that is not read from notices soon that it cannot write.
const BUFFER: u32 = 16 * 1024;

/// A TCP proxy. Dropped, it takes its connections with it.
pub struct Cut {
    address: SocketAddr,
    wire: Arc<watch::Sender<Wire>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wire {
    condition: Condition,
    /// Connections of an earlier generation are dead.
    generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Bytes pass.
    Sound,
    /// Connections are accepted and closed at once.
    Severed,
    /// Connections are accepted and stay open, but are not read.
    BlackHole,
}

impl Cut {
    /// A sound wire to `server`.
    pub fn in_front_of(server: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(BUFFER).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let wire = Arc::new(watch::Sender::new(Wire {
            condition: Condition::Sound,
            generation: 0,
        }));
        let task = Tasks::default().spawn("cut", accept(listener, server, wire.clone()));
        Self { address, wire, task }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections; new ones pass.
    pub fn cut(&self) {
        self.wire.send_modify(|wire| wire.generation += 1);
    }

    /// Breaks all connections, and new ones too, until [`Cut::restore`].
    pub fn sever(&self) {
        self.wire.send_modify(|wire| {
            wire.generation += 1;
            wire.condition = Condition::Severed;
        });
    }

    /// Connections stay open and new ones are accepted, but nothing is read until [`Cut::restore`].
    pub fn black_hole(&self) {
        self.wire
            .send_modify(|wire| wire.condition = Condition::BlackHole);
    }

    /// Bytes pass again, also those that piled up in a black hole.
    pub fn restore(&self) {
        self.wire.send_modify(|wire| wire.condition = Condition::Sound);
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, wire: Arc<watch::Sender<Wire>>) {
    let tasks = Tasks::default();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        if wire.borrow().condition != Condition::Severed {
            tasks.spawn("wire", connect(client, server, wire.subscribe()));
        }
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mut wire: watch::Receiver<Wire>) {
    let generation = wire.borrow().generation;
    let passing = wire.clone();
    let both = async {
        let server = TcpStream::connect(server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        select! {
            ended = forward(from_client, to_server, passing.clone()) => ended,
            ended = forward(from_server, to_client, passing.clone()) => ended,
        }
    };
    select! {
        _ = both => {}
        _ = wire.wait_for(|wire| wire.generation != generation) => {}
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER as usize];
    let open = |wire: &Wire| wire.condition != Condition::BlackHole;
    while wire.wait_for(open).await.is_ok() {
        select! {
            _ = wire.changed() => {}
            read = from.read(&mut buffer) => match read? {
                0 => break,
                count => to.write_all(&buffer[..count]).await?,
            },
        }
    }
    to.shutdown().await
}
