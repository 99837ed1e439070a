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
    sync::mpsc,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::{
    api::{Api, Peer, monitor_router, router},
    connections::{Connections, WebConnection},
    page_connection::PageConnection,
    sessions::Sessions,
};
use crate::{
    config::Web,
    domain::{feed::Feed, page_msg::PageMsg, section_issues::SectionIssues},
    store::Section,
    system::{clock::Clock, tasks::Tasks},
};

/// Pages that are served at once: each has a stream of changes.
const PAGES: usize = 32;
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
    /// Where it says that it cannot listen.
    pub issues: SectionIssues,
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
    issues: SectionIssues,
    router: Router,
    tasks: Tasks,
    connections: Connections,
}

impl WebServer {
    /// A server that does not listen yet.
    pub fn new(served: Served, parts: WebParts) -> Self {
        let (listen, issues, tasks) = (parts.settings.listen, parts.issues.clone(), parts.tasks.clone());
        let api = Arc::new(Api::new(parts, PAGES));
        Self {
            served,
            listen,
            issues,
            router: match served {
                Served::Page => router(api),
                Served::Metrics => monitor_router(api),
            },
            tasks,
            connections: Connections::default(),
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
        let section = self.served.section();
        let mut shown = None;
        loop {
            let source = match TcpListener::bind(self.listen).await {
                Ok(listener) => {
                    self.issues.set(section, None);
                    return listener;
                }
                Err(source) => source,
            };
            let issue = format!(
                "[{section}] cannot listen at {} ({source}); set listen to another address or port",
                self.listen
            );
            if shown.as_ref() != Some(&issue) {
                error!("{issue}. Trying again every {} s", PAUSE.as_secs());
                self.issues.set(section, Some(issue.clone()));
                shown = Some(issue);
            }
            sleep(PAUSE).await;
        }
    }

    async fn accept(&self, listener: &TcpListener, stop: &CancellationToken) {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connection = self.connections.open(peer.ip()).await;
                let serving = serve(stream, peer, self.router.clone(), stop.clone(), connection);
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
    connection: WebConnection,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        let used = connection.begin();
        request.extensions_mut().insert(Peer(peer.ip()));
        request.extensions_mut().insert(used.clone());
        let response = router.call(request);
        async {
            let response = response.await;
            drop(used);
            response
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(PageConnection::new(stream)), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = connection.cut() => {
            debug!(%peer, "too many connections to the page; one without a login or request is closed");
            return;
        }
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection to the page ended");
    }
}
