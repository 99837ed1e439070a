//! What pages ask: the files, the stream of changes, commands, the login; and what monitors ask.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout},
};
use tracing::warn;

use super::{
    access::{self, Access, COOKIE, Denial},
    assets,
    connections::ConnectionUse,
    event_stream::{self, SharedPiece},
    login_limit::LoginLimit,
    metrics::{self, Exposition},
    server::WebParts,
    sessions::{LIFETIME, Sessions, is_password},
};
use crate::{
    domain::{
        feed::{Feed, FeedPosition},
        page_msg::PageMsg,
        section_issues::SectionIssues,
    },
    store::Section,
    system::{Secret, clock::Clock},
};

/// Largest request, in bytes: a payload of the largest size, and what is around it.
const BODY_MAX: usize = 80 * 1024;
/// How long a browser may take to send the body of a request.
const BODY_TIME: Duration = Duration::from_secs(20);
/// Scripts of ours only, which make no markup of texts; no page of others may show this one in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'; \
                      frame-ancestors ";

/// The address of the other side of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// What the handlers share.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) feed: Feed,
    pub(super) messages: mpsc::Sender<PageMsg>,
    pub(super) clock: Clock,
    issues: SectionIssues,
    last: SharedPiece,
    /// Of streams of changes.
    pub(super) streams: Arc<Semaphore>,
    access: Access,
    password: Option<Secret>,
    sessions: Section<Sessions>,
    limit: Mutex<LoginLimit>,
}

impl Api {
    pub(super) fn new(parts: WebParts, streams: usize) -> Self {
        Self {
            access: Access::new(&parts.settings),
            feed: parts.feed,
            messages: parts.messages,
            clock: parts.clock,
            issues: parts.issues,
            last: SharedPiece::default(),
            streams: Arc::new(Semaphore::new(streams)),
            password: parts.settings.password,
            sessions: parts.sessions,
            limit: Mutex::default(),
        }
    }

    fn has_login(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        if !self.access.needs_login(peer, headers) {
            return true;
        }
        let (Some(password), Some(token)) = (&self.password, access::token(headers)) else {
            return false;
        };
        self.sessions.get().knows(token, password, self.clock.now())
    }

    /// Why a program that cannot keep a cookie is refused; it sends the password each time, and the user name does not matter.
    /// Only wrong ones count, and a right one forgives none.
    fn basic_refusal(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Response> {
        let (Some(password), Some(tried)) = (&self.password, access::basic_password(headers)) else {
            let message = "send the password";
            return Some(error(StatusCode::UNAUTHORIZED, "login_required", message));
        };
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if !limit.is_open(peer, Instant::now()) {
            return Some(too_many_tries());
        }
        if is_password(&tried, password) {
            return None;
        }
        limit.allows(peer, Instant::now());
        warn!(%peer, "a wrong password for the figures");
        let message = "the password is wrong";
        Some(error(StatusCode::UNAUTHORIZED, "wrong_password", message))
    }

    fn may_try(&self, peer: IpAddr) -> bool {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        limit.allows(peer, Instant::now())
    }

    fn forget_tries(&self, peer: IpAddr) {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        limit.forget(peer);
    }
}

/// The routes, with what is checked before each.
pub(super) fn router(api: Arc<Api>) -> Router {
    let with_login = Router::new()
        .route("/api/events", get(events))
        .route("/api/changes", get(changes))
        .route("/api/send", post(send))
        .route("/api/logout", post(logout))
        .route_layer(middleware::from_fn_with_state(api.clone(), require_login));
    with_login
        .route("/api/login", post(login))
        .merge(monitored())
        .fallback(get(file))
        .layer(middleware::from_fn_with_state(api.clone(), check))
        .merge(liveness())
        .with_state(api)
}

/// What monitors ask, and nothing else: for a listener that has no page.
pub(super) fn monitor_router(api: Arc<Api>) -> Router {
    monitored()
        .layer(middleware::from_fn_with_state(api.clone(), check))
        .merge(liveness())
        .with_state(api)
}

/// The figures, and whether the bridge does its work. The latter needs no login: it says nothing else.
fn monitored() -> Router<Arc<Api>> {
    Router::new()
        .route("/metrics", get(figures))
        .route("/readyz", get(ready))
}

/// Whether the process lives, under the names of Home Assistant's watchdog and of Kubernetes. It says nothing, so whoever
/// asks, by any name and without a login, is answered.
fn liveness() -> Router<Arc<Api>> {
    let lives = || get(async || "ok\n");
    Router::new().route("/health", lives()).route("/healthz", lives())
}

/// Host, origin, and the headers of each response.
async fn check(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let peer = peer(&request);
    let headers = request.headers();
    let is_ingress = api.access.is_ingress(peer, headers);
    let is_api = request.uri().path().starts_with("/api/");
    let mut allowed = api.access.check_reader(peer, headers);
    if is_api && request.method() == axum::http::Method::POST {
        allowed = allowed.and_then(|()| access::check_sender(headers));
    } else if is_api {
        allowed = allowed.and_then(|()| access::check_same_site(headers));
    }
    let mut response = match allowed {
        Ok(()) => next.run(request).await,
        Err(denial) => denied(denial),
    };
    let policy = format!("{POLICY}{}", if is_ingress { "'self'" } else { "'none'" });
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CACHE_CONTROL,
            if is_api { "no-store" } else { "no-cache" },
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn require_login(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if api.has_login(peer(&request), request.headers()) {
        set_known(&request);
        next.run(request).await
    } else {
        error(StatusCode::UNAUTHORIZED, "login_required", "log in first")
    }
}

async fn file(uri: Uri, headers: HeaderMap) -> Response {
    assets::response(uri.path(), &headers)
}

async fn events(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    let Ok(permit) = api.streams.clone().try_acquire_owned() else {
        let message = "as many pages are open as the bridge serves at once; close one";
        return error(StatusCode::SERVICE_UNAVAILABLE, "too_many_pages", message);
    };
    // A browser that connects again by itself says what it has in a header.
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let position = resumed.and_then(|id| id.parse().ok()).or_else(|| after(uri));
    // The connection is in use as long as the stream lives.
    let used = request.extensions().get::<ConnectionUse>().cloned();
    let (feed, clock, last) = (api.feed.clone(), api.clock.clone(), api.last.clone());
    let body = event_stream::body(feed, clock, last, position, (permit, used));
    let mut response = Response::new(body);
    for (name, value) in [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        ("x-accel-buffering", "no"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn changes(State(api): State<Arc<Api>>, uri: Uri) -> Response {
    json_response(
        StatusCode::OK,
        event_stream::changes(&api.feed, &api.clock, after(&uri)),
    )
}

async fn figures(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (peer, headers) = (peer(&request), request.headers());
    if !api.has_login(peer, headers)
        && let Some(mut refused) = api.basic_refusal(peer, headers)
    {
        let basic = HeaderValue::from_static("Basic realm=\"tapo2mqtt\"");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
        return refused;
    }
    set_known(&request);
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let format = Exposition::accepted(accept);
    let text = metrics::exposition(&api.feed.changes(None, usize::MAX).messages, format);
    let kind = HeaderValue::from_static(format.content_type());
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn ready(State(api): State<Arc<Api>>) -> Response {
    let published = api.feed.changes(None, usize::MAX).messages;
    let obstacle = metrics::obstacle(&published).map(str::to_owned);
    match obstacle.or_else(|| api.issues.list().into_iter().next()) {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// Passes a message on, and waits for its response: a command has one within its time to live.
async fn send(State(api): State<Arc<Api>>, body: Body) -> Response {
    let Some(Message { topic, payload }) = read(body).await else {
        let message = "expected a JSON object with topic and payload, of at most 64 KiB";
        return error(StatusCode::BAD_REQUEST, "invalid_message", message);
    };
    let payload = match payload {
        Value::Null => Bytes::new(),
        Value::String(text) => Bytes::from(text),
        other => Bytes::from(other.to_string()),
    };
    let (reply, response) = oneshot::channel();
    let message = PageMsg {
        topic,
        payload,
        reply,
    };
    if let Err(mpsc::error::TrySendError::Full(_)) = api.messages.try_send(message) {
        return error(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "too many commands at once",
        );
    }
    match response.await {
        Ok(response) => json_response(StatusCode::OK, response),
        Err(_) => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting_down",
            "the bridge is shutting down",
        ),
    }
}

async fn login(State(api): State<Arc<Api>>, request: Request) -> Response {
    let peer = peer(&request);
    let Some(password) = &api.password else {
        return error(StatusCode::BAD_REQUEST, "no_password", "no password is set");
    };
    if !api.may_try(peer) {
        return too_many_tries();
    }
    let tried: Option<Login> = read(request.into_body()).await;
    if !tried.is_some_and(|tried| is_password(tried.password.expose(), password)) {
        warn!(%peer, "a wrong password for the page");
        return error(StatusCode::FORBIDDEN, "wrong_password", "the password is wrong");
    }
    api.forget_tries(peer);
    let mut token = String::new();
    api.sessions.update(|sessions| {
        token = sessions.start(password, api.clock.now());
        true
    });
    // Without a path, it is sent to what is below `api/` only, whatever stands before that.
    let cookie = format!(
        "{COOKIE}={token}; HttpOnly; SameSite=Strict; Max-Age={}",
        LIFETIME.as_secs()
    );
    with_cookie(&cookie)
}

async fn logout(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    if let (Some(password), Some(token)) = (&api.password, access::token(&headers)) {
        api.sessions.update(|sessions| sessions.end(token, password));
    }
    with_cookie(&format!("{COOKIE}=; HttpOnly; SameSite=Strict; Max-Age=0"))
}

/// What a page sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    topic: String,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    password: Secret,
}

async fn read<T: for<'de> Deserialize<'de>>(body: Body) -> Option<T> {
    let body = timeout(BODY_TIME, to_bytes(body, BODY_MAX)).await.ok()?.ok()?;
    serde_json::from_slice(&body).ok()
}

/// `after=<position>`
fn after(uri: &Uri) -> Option<FeedPosition> {
    let mut parts = uri.query()?.split('&');
    parts.find_map(|part| part.strip_prefix("after="))?.parse().ok()
}

fn peer(request: &Request) -> IpAddr {
    let peer = request.extensions().get::<Peer>();
    // Each connection sets it. Without it, nothing is trusted.
    peer.map_or(IpAddr::from([0, 0, 0, 0]), |Peer(address)| *address)
}

/// Whoever sent it keeps the connection before those who have shown no login.
fn set_known(request: &Request) {
    if let Some(connection) = request.extensions().get::<ConnectionUse>() {
        connection.set_known();
    }
}

fn too_many_tries() -> Response {
    let message = "too many tries; wait a minute";
    error(StatusCode::TOO_MANY_REQUESTS, "too_many_tries", message)
}

fn denied(denial: Denial) -> Response {
    let status = match denial {
        Denial::Host => StatusCode::MISDIRECTED_REQUEST,
        Denial::IngressOnly | Denial::Origin | Denial::NoHeaders => StatusCode::FORBIDDEN,
    };
    error(status, denial.code(), denial.message())
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let error = json!({"code": code, "message": message, "origin": "bridge"});
    json_response(status, json!({"status": "error", "error": error}).to_string())
}

fn json_response(status: StatusCode, body: String) -> Response {
    let kind = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

fn with_cookie(cookie: &str) -> Response {
    let mut response = json_response(StatusCode::OK, r#"{"status":"ok"}"#.to_owned());
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
