//! The HTTP side of a device: one connection at a time, its requests in order.

mod body;

use std::{
    future::pending,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, SET_COOKIE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, select, sync::Notify};
use tracing::debug;

use self::body::ReplyBody;
use crate::{
    Fault, FaultKind,
    core::Core,
    exchange::{Interruption, Reply, Route, exchange},
};

/// More than any client sends; a `multipleRequest` has about 1 kB.
const MAX_BODY: usize = 64 * 1024;

const NO_REPLY: u64 = u64::MAX;

/// One connection.
struct Link {
    core: Arc<Core>,
    /// When the latest reply was made, in milliseconds of uptime; [`NO_REPLY`] before the first.
    last_reply: AtomicU64,
    /// Notified when a reply after which the connection closes has been written.
    close: Arc<Notify>,
}

/// The connection closes without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped on purpose")]
struct Dropped;

/// Serves a connection until either side ends it.
pub(crate) async fn serve(core: Arc<Core>, stream: TcpStream) {
    let _open = core.tally.connection();
    let link = Link {
        core: core.clone(),
        last_reply: AtomicU64::new(NO_REPLY),
        close: Arc::default(),
    };
    let service = service_fn(|request| respond(&link, request));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let ended = select! {
        ended = connection.as_mut() => ended,
        () = link.close.notified() => {
            // The head of the reply is out by now, so this adds no `Connection: close` to it.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended");
    }
}

async fn respond(link: &Link, request: Request<Incoming>) -> Result<Response<ReplyBody>, Dropped> {
    let work = link.core.tally.http_request();
    match receive(link, request).await {
        Ok(reply) => {
            link.last_reply
                .store(link.core.clock.uptime_ms(), Ordering::Relaxed);
            Ok(link.response(reply))
        }
        Err(Interruption::Status(status)) => Ok(link.response(Reply::status(status))),
        Err(Interruption::Drop) => Err(Dropped),
        Err(Interruption::Hang) => {
            // The device has given the request up: it is not in work any more.
            drop(work);
            pending().await
        }
    }
}

async fn receive(link: &Link, request: Request<Incoming>) -> Result<Reply, Interruption> {
    if link.is_dead() {
        return Err(Interruption::Drop);
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return Err(Interruption::Status(StatusCode::PAYLOAD_TOO_LARGE));
    };
    let route = Route::of(&head.method, &head.uri, session_cookie(&head.headers));
    exchange(&link.core, route, &body.to_bytes()).await
}

fn session_cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix("TP_SESSIONID=").map(str::to_owned))
}

impl Link {
    /// Whether it was idle for so long that the device has forgotten it.
    fn is_dead(&self) -> bool {
        let Some(Fault::CloseIdle { after }) = self.core.faults.get(FaultKind::CloseIdle) else {
            return false;
        };
        let last = self.last_reply.load(Ordering::Relaxed);
        let idle = self.core.clock.uptime_ms().saturating_sub(last);
        last != NO_REPLY && u128::from(idle) >= after.as_millis()
    }

    fn response(&self, reply: Reply) -> Response<ReplyBody> {
        let done = self
            .core
            .faults
            .is_set(FaultKind::CloseAfterReply)
            .then(|| self.close.clone());
        let body = ReplyBody::new(Bytes::from(reply.body), reply.withheld, done);
        let mut response = Response::new(body);
        *response.status_mut() = reply.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
        if let Some(cookie) = reply
            .cookie
            .and_then(|cookie| HeaderValue::from_str(&cookie).ok())
        {
            headers.insert(SET_COOKIE, cookie);
        }
        response
    }
}
