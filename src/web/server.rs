//! Listens, and serves each connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, http::Request};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::{
    api::{Api, Peer, monitor_router, router},
    page_connection::PageConnection,
    sessions::Sessions,
};
use crate::{
    config::Web,
    domain::{feed::Feed, page_msg::PageMsg},
    store::Section,
    system::{clock::Clock, tasks::Tasks},
};

/// Pages that are served at once: each has a stream of changes.
const PAGES: usize = 32;
/// Connections at once: those streams, and as many requests beside them.
const CONNECTIONS: usize = 2 * PAGES;
/// How long a browser may take to send the head of a request, and how long a connection stays open without one.
const HEAD: Duration = Duration::from_secs(20);
/// What is kept of a response that is not read.
const BUFFER: usize = 64 * 1024;
/// Between two attempts to listen, or to accept where no descriptor is left.
const PAUSE: Duration = Duration::from_secs(5);

/// What the server is made of.
#[derive(Debug)]
pub struct WebParts {
    /// The settings: `[web]`, or `[metrics]`.
    pub settings: Web,
    /// Everything that is published.
    pub feed: Feed,
    /// To the MQTT task.
    pub messages: mpsc::Sender<PageMsg>,
    /// Who has logged in.
    pub sessions: Section<Sessions>,
    /// The wall clock.
    pub clock: Clock,
    /// Where each connection becomes a task.
    pub tasks: Tasks,
}

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The page, and the figures.
    Page,
    /// The figures only.
    Metrics,
}

impl Served {
    /// Its section in the settings.
    fn section(self) -> &'static str {
        match self {
            Self::Page => "web",
            Self::Metrics => "metrics",
        }
    }
}

/// A web server.
#[derive(Debug)]
pub struct WebServer {
    served: Served,
    listen: SocketAddr,
    router: Router,
    tasks: Tasks,
    connections: Arc<Semaphore>,
}

impl WebServer {
    /// A server that does not listen yet.
    pub fn new(served: Served, parts: WebParts) -> Self {
        let listen = parts.settings.listen;
        let api = Api::new(
            &parts.settings,
            parts.feed,
            parts.messages,
            parts.sessions,
            parts.clock,
            PAGES,
        );
        let api = Arc::new(api);
        Self {
            served,
            listen,
            router: match served {
                Served::Page => router(api),
                Served::Metrics => monitor_router(api),
            },
            tasks: parts.tasks,
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    /// Serves until the stop. A connection ends after the response that it waits for, and streams end with the feed.
    pub async fn run(self, stop: CancellationToken) {
        let accepting = async {
            let listener = self.listen().await;
            match self.served {
                Served::Page => info!("the page is at http://{}/", self.listen),
                Served::Metrics => info!("the figures are at http://{}/metrics", self.listen),
            }
            loop {
                self.accept(&listener, &stop).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = accepting => {}
        }
    }

    /// Outlets are switched without a page, so a port that is in use does not end the bridge.
    async fn listen(&self) -> TcpListener {
        let mut is_logged = false;
        loop {
            match TcpListener::bind(self.listen).await {
                Ok(listener) => return listener,
                Err(source) if !is_logged => {
                    is_logged = true;
                    error!(
                        "cannot listen at {} ({source}); set listen in [{}] to another address or port. Trying again \
                         every {} s",
                        self.listen,
                        self.served.section(),
                        PAUSE.as_secs()
                    );
                }
                Err(_) => {}
            }
            sleep(PAUSE).await;
        }
    }

    async fn accept(&self, listener: &TcpListener, stop: &CancellationToken) {
        // It is never closed.
        let Ok(permit) = self.connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let serving = serve(stream, peer, self.router.clone(), stop.clone(), permit);
                self.tasks.spawn("web connection", serving);
            }
            Err(error) => {
                debug!(%error, "a connection to the page failed");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip()));
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(PageConnection::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection to the page ended");
    }
}
