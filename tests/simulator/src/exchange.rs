//! One HTTP request, from its route to its reply, with what goes wrong on purpose in between.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{Method, StatusCode, Uri};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    Damage, Fault, FaultKind, Protocol, Stage,
    core::Core,
    iot, klap,
    methods::{answer, methods_of},
    reply::{Answer, Refusal, reply},
    session::Rejection,
    tpap::{self, Tpap},
};

/// The life that KLAP sessions are promised, in seconds.
const COOKIE_LIFETIME: u32 = 86_400;

/// What a request asks for, by its path.
#[derive(Debug)]
pub(crate) enum Route {
    /// `POST /`: the discover method, and the TPAP log-in.
    Login,
    Handshake1,
    Handshake2 {
        cookie: String,
    },
    Klap {
        cookie: String,
        seq: i32,
    },
    /// `POST /app`: the AES log-in and its session, by cookie and token.
    Passthrough {
        cookie: Option<String>,
        token: Option<String>,
    },
    /// A TPAP session, by its token.
    Tpap {
        token: String,
    },
    /// 403: a KLAP path without its session.
    Forbidden,
    Unknown,
}

impl Route {
    pub(crate) fn of(method: &Method, uri: &Uri, cookie: Option<String>) -> Self {
        if method != Method::POST {
            return Self::Unknown;
        }
        match (uri.path(), cookie) {
            ("/", _) => Self::Login,
            ("/app", cookie) => Self::Passthrough {
                cookie,
                token: parameter(uri, "token=").map(str::to_owned),
            },
            ("/app/handshake1", _) => Self::Handshake1,
            ("/app/handshake2", Some(cookie)) => Self::Handshake2 { cookie },
            ("/app/request", Some(cookie)) => match parameter(uri, "seq=").and_then(|seq| seq.parse().ok()) {
                Some(seq) => Self::Klap { cookie, seq },
                None => Self::Forbidden,
            },
            ("/app/handshake2" | "/app/request", None) => Self::Forbidden,
            (path, _) => match token(path) {
                Some(token) => Self::Tpap {
                    token: token.to_owned(),
                },
                None => Self::Unknown,
            },
        }
    }
}

fn token(path: &str) -> Option<&str> {
    path.strip_prefix("/stok=")?.strip_suffix("/ds")
}

fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let mut parameters = uri.query()?.split('&');
    parameters.find_map(|parameter| parameter.strip_prefix(name))
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) cookie: Option<String>,
    pub(crate) body: Vec<u8>,
    /// Bytes that the head announces and the body lacks.
    pub(crate) withheld: u64,
}

impl Reply {
    pub(crate) fn status(status: StatusCode) -> Self {
        Self {
            status,
            content_type: "text/html",
            cookie: None,
            body: Vec::new(),
            withheld: 0,
        }
    }

    pub(crate) fn octets(body: Vec<u8>) -> Self {
        Self {
            content_type: "application/octet-stream",
            body,
            ..Self::status(StatusCode::OK)
        }
    }

    fn json(answer: Answer) -> Self {
        Self {
            content_type: "application/json",
            body: Value::Object(reply(answer)).to_string().into_bytes(),
            ..Self::status(StatusCode::OK)
        }
    }

    pub(crate) fn damaged(mut self, damage: Option<Damage>) -> Self {
        let half = self.body.len() / 2;
        match damage {
            Some(Damage::Undecryptable) => self.body.iter_mut().for_each(|byte| *byte ^= 0x5a),
            Some(Damage::Truncated) => self.body.truncate(half),
            Some(Damage::CutOff) => {
                self.withheld = (self.body.len() - half) as u64;
                self.body.truncate(half);
            }
            Some(Damage::NotJson | Damage::EmptyResult) | None => {}
        }
        self
    }
}

/// Why a request has no ordinary reply.
#[derive(Debug)]
pub(crate) enum Interruption {
    /// The connection closes.
    Drop,
    /// Nothing ever comes.
    Hang,
    /// A status and no body.
    Status(StatusCode),
}

const FORBIDDEN: Interruption = Interruption::Status(StatusCode::FORBIDDEN);

pub(crate) async fn exchange(core: &Core, route: Route, body: &[u8]) -> Result<Reply, Interruption> {
    match route {
        Route::Login => login(core, body).await,
        Route::Handshake1 => handshake1(core, body).await,
        Route::Handshake2 { cookie } => handshake2(core, &cookie, body).await,
        Route::Klap { cookie, seq } => klap_request(core, &cookie, seq, body).await,
        Route::Passthrough { cookie, token } => {
            passthrough(core, cookie.as_deref(), token.as_deref(), body).await
        }
        Route::Tpap { token } => tpap_request(core, &token, body).await,
        Route::Forbidden => Err(FORBIDDEN),
        Route::Unknown => Err(Interruption::Status(StatusCode::NOT_FOUND)),
    }
}

/// The discover method, and the TPAP log-in.
async fn login(core: &Core, body: &[u8]) -> Result<Reply, Interruption> {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let params = request.get("params").cloned().unwrap_or_default();
    let step = params
        .get("sub_method")
        .and_then(Value::as_str)
        .unwrap_or("login");
    let steps = [step.to_owned()];
    begin(core, &steps).await?;
    let answer = match (core.protocol(), step) {
        (Protocol::Tpap, _) if core.tpap.is_locked(core.tpap_limit()) => Err(Refusal::TPAP_LOCKED),
        (Protocol::Tpap, "discover") => Ok(Some(discover_tpap(core))),
        (Protocol::Tpap, "pake_register") => {
            let account = core.checked_account();
            let work = move |tpap: &Tpap| tpap.register(&account, &params);
            off_thread(core, work).await
        }
        (Protocol::Tpap, "pake_share") => {
            let limits = core.limits();
            let answer = off_thread(core, move |tpap: &Tpap| tpap.share(&params, limits)).await;
            core.tally.login(answer.is_ok());
            core.notify();
            answer
        }
        (Protocol::Klap, "discover") if core.spec.knows_tpap => {
            Ok(Some(json!({ "sub_method": "discover", "tpap_preferred": false })))
        }
        _ => Err(Refusal::TRANSPORT_UNKNOWN),
    };
    finish(core, &steps)?;
    Ok(Reply::json(answer))
}

fn discover_tpap(core: &Core) -> Value {
    json!({
        "sub_method": "discover",
        "tpap_preferred": true,
        "mac": core.identity.bare_mac(),
        "tpap": tpap::announcement(core.address().port()),
    })
}

/// Does work that would keep a thread of the runtime busy for too long.
async fn off_thread(core: &Core, work: impl FnOnce(&Tpap) -> Answer + Send + 'static) -> Answer {
    let tpap = core.tpap.clone();
    let worked = spawn_blocking(move || work(&tpap)).await;
    worked.unwrap_or(Err(Refusal::TPAP_CREDENTIALS))
}

async fn handshake1(core: &Core, local_seed: &[u8]) -> Result<Reply, Interruption> {
    let step = ["handshake1".to_owned()];
    begin(core, &step).await?;
    let version = match core.protocol() {
        _ if core.faults.is_set(FaultKind::ForbidHandshake) => return Err(FORBIDDEN),
        Protocol::Klap => klap::Version::V2,
        Protocol::KlapV1 => klap::Version::V1,
        // Firmware before KLAP does not have the path.
        Protocol::Aes | Protocol::AesV1 => return Err(Interruption::Status(StatusCode::NOT_FOUND)),
        Protocol::Tpap | Protocol::Xor => return Err(FORBIDDEN),
    };
    let offer = core
        .klap
        .offer(local_seed, (&core.checked_account(), version), || {
            rand::rng().random()
        });
    let (cookie, body) = offer.ok_or(Interruption::Status(StatusCode::BAD_REQUEST))?;
    finish(core, &step)?;
    let mut reply = Reply::octets(body);
    reply.cookie = Some(format!("TP_SESSIONID={cookie};TIMEOUT={COOKIE_LIFETIME}"));
    Ok(reply)
}

async fn handshake2(core: &Core, cookie: &str, proof: &[u8]) -> Result<Reply, Interruption> {
    let step = ["handshake2".to_owned()];
    begin(core, &step).await?;
    if !core.protocol().is_klap() {
        return Err(FORBIDDEN);
    }
    let confirmed = core.klap.confirm(cookie, proof, core.limits());
    core.tally.login(confirmed);
    core.notify();
    finish(core, &step)?;
    if confirmed {
        Ok(Reply::octets(Vec::new()))
    } else {
        Err(FORBIDDEN)
    }
}

async fn klap_request(core: &Core, cookie: &str, seq: i32, body: &[u8]) -> Result<Reply, Interruption> {
    if !core.protocol().is_klap() {
        return Err(FORBIDDEN);
    }
    let opened = match core.klap.open(cookie, seq, body, core.limits()) {
        Ok(opened) => opened,
        Err(Rejection::NoSession) if core.faults.is_set(FaultKind::SingleRequest) => {
            return Ok(Reply::octets(vec![0; 64]));
        }
        Err(rejection) => {
            count(core, rejection);
            return Err(FORBIDDEN);
        }
    };
    let (text, damage) = perform(core, &opened.plaintext).await?;
    let sealed = opened.cipher.seal(opened.seq, text.as_bytes());
    Ok(Reply::octets(sealed).damaged(damage))
}

/// The AES log-in, and requests in its envelope.
async fn passthrough(
    core: &Core,
    cookie: Option<&str>,
    token: Option<&str>,
    body: &[u8],
) -> Result<Reply, Interruption> {
    if !core.protocol().is_aes() {
        return Ok(Reply::json(Err(Refusal::TRANSPORT_UNKNOWN)));
    }
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let params = request.get("params").cloned().unwrap_or_default();
    match request.get("method").and_then(Value::as_str) {
        Some("handshake") => aes_handshake(core, &params).await,
        Some("securePassthrough") => aes_request(core, cookie, token, &params).await,
        _ => Ok(Reply::json(Err(Refusal::PARAMS))),
    }
}

async fn aes_handshake(core: &Core, params: &Value) -> Result<Reply, Interruption> {
    let step = ["handshake".to_owned()];
    begin(core, &step).await?;
    let offer = core.passthrough.handshake(params);
    finish(core, &step)?;
    Ok(match offer {
        Ok((cookie, result)) => Reply {
            cookie: Some(format!("TP_SESSIONID={cookie};TIMEOUT={COOKIE_LIFETIME}")),
            ..Reply::json(Ok(Some(result)))
        },
        Err(refusal) => Reply::json(Err(refusal)),
    })
}

async fn aes_request(
    core: &Core,
    cookie: Option<&str>,
    token: Option<&str>,
    params: &Value,
) -> Result<Reply, Interruption> {
    let opened = match core.passthrough.open(cookie, token, params, core.limits()) {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Reply::json(Err(refusal))),
    };
    let (text, damage) = if opened.logged_in {
        perform(core, &opened.plaintext).await?
    } else {
        (
            aes_login(core, cookie.unwrap_or_default(), &opened.plaintext).await?,
            None,
        )
    };
    let mut sealed = Reply::octets(opened.envelope.seal(&text));
    if damage != Some(Damage::CutOff) {
        sealed = sealed.damaged(damage);
    }
    let reply = Reply::json(Ok(Some(json!({ "response": STANDARD.encode(sealed.body) }))));
    Ok(if damage == Some(Damage::CutOff) {
        reply.damaged(damage)
    } else {
        reply
    })
}

/// The only request that is taken before the log-in is the log-in.
async fn aes_login(core: &Core, cookie: &str, plaintext: &[u8]) -> Result<String, Interruption> {
    let request: Value = serde_json::from_slice(plaintext).unwrap_or_default();
    let methods = methods_of(&request);
    begin(core, &methods).await?;
    let answer = if request
        .get("method")
        .is_some_and(|method| method == "login_device")
    {
        let params = request.get("params").cloned().unwrap_or_default();
        let plain_password = core.protocol() == Protocol::AesV1;
        let account = core.checked_account();
        let answer = core
            .passthrough
            .login(cookie, &params, &account, plain_password, core.limits());
        core.tally.login(answer.is_ok());
        core.notify();
        answer
    } else {
        Err(Refusal::SESSION_TIMEOUT)
    };
    finish(core, &methods)?;
    Ok(Value::Object(reply(answer)).to_string())
}

async fn tpap_request(core: &Core, token: &str, body: &[u8]) -> Result<Reply, Interruption> {
    if core.protocol() != Protocol::Tpap {
        return Err(FORBIDDEN);
    }
    let opened = match core.tpap.open(token, body, core.limits()) {
        Ok(opened) => opened,
        Err(rejection) => {
            count(core, rejection);
            // In plain JSON: there is no key that both sides have.
            return Ok(Reply::json(Err(Refusal::TPAP_SESSION)));
        }
    };
    let (text, damage) = perform(core, &opened.plaintext).await?;
    let sealed = opened.cipher.seal(opened.seq, text.as_bytes());
    Ok(Reply::octets(sealed).damaged(damage))
}

fn count(core: &Core, rejection: Rejection) {
    if rejection == Rejection::Sequence {
        core.tally.sequence_violation();
    }
}

/// Executes a decrypted request. The reply is not yet encrypted, and may have to be damaged
/// once it is.
pub(crate) async fn perform(core: &Core, plaintext: &[u8]) -> Result<(String, Option<Damage>), Interruption> {
    let request: Option<Value> = serde_json::from_slice(plaintext).ok();
    let is_iot = core.is_iot();
    let methods_of = if is_iot { iot::methods_of } else { methods_of };
    let methods = request.as_ref().map(methods_of).unwrap_or_default();
    begin(core, &methods).await?;
    // Those in others are refused where they stand.
    let outer = if is_iot { methods.len() } else { 1 };
    let refused = core.faults.hit(
        FaultKind::Refuse,
        methods.get(..outer).unwrap_or_default(),
        |fault| fault.refuses(None),
    );
    let mut reply = match (&request, refused) {
        (_, Some(Fault::Refuse { code, .. })) => reply(Err(Refusal(code))),
        (Some(request), _) if is_iot => iot::answer(core, request),
        (Some(request), _) => answer(core, request),
        (None, _) => reply(Err(Refusal::JSON_DECODE)),
    };
    finish(core, &methods)?;
    let damage = match core.faults.hit(FaultKind::Malformed, &methods, |_| true) {
        Some(Fault::Malformed { damage, .. }) => Some(damage),
        _ => None,
    };
    if damage == Some(Damage::EmptyResult) {
        reply.entry("result").or_insert_with(|| json!({}));
    }
    if damage == Some(Damage::NotJson) {
        return Ok(("<html>busy</html>".to_owned(), damage));
    }
    Ok((Value::Object(reply).to_string(), damage))
}

/// What happens before a request has its effect.
async fn begin(core: &Core, methods: &[String]) -> Result<(), Interruption> {
    core.tally.methods(methods);
    core.notify();
    let latency = core.faults.latency();
    if !latency.is_zero() {
        sleep(latency).await;
    }
    if let Some(Fault::HttpStatus { status, .. }) = core.faults.hit(FaultKind::HttpStatus, methods, |_| true)
    {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return Err(Interruption::Status(status));
    }
    interrupt(core, methods, Stage::BeforeApplying)
}

/// What happens after a request has had its effect.
fn finish(core: &Core, methods: &[String]) -> Result<(), Interruption> {
    interrupt(core, methods, Stage::AfterApplying)
}

fn interrupt(core: &Core, methods: &[String], now: Stage) -> Result<(), Interruption> {
    let at_this_stage = |fault: &Fault| match fault {
        Fault::Drop { stage, .. } | Fault::Hang { stage, .. } => *stage == now,
        _ => false,
    };
    if core.faults.hit(FaultKind::Drop, methods, at_this_stage).is_some() {
        return Err(Interruption::Drop);
    }
    if core.faults.hit(FaultKind::Hang, methods, at_this_stage).is_some() {
        return Err(Interruption::Hang);
    }
    Ok(())
}
