//! A logged-in device. The only file that names the `tapo` crate.
//!
//! State is read as JSON into lenient structs of our own: the crate's typed results fail on most
//! firmwares in the field (missing or renamed fields, closed enums).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use tapo::{ApiClient, PlugEnergyMonitoringHandler, PowerStripEnergyMonitoringHandler, TapoResponseError};
use tokio::{task::spawn_blocking, time::timeout};
use tokio_stream::StreamExt as _;

use super::{fault::Fault, readings::mac};
use crate::{Secret, model::Power, report::Kind};

/// The account a device is registered to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The account's e-mail address, case-sensitive.
    pub username: String,
    /// The account's password.
    pub password: Secret,
}

/// One request on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    /// The device's own values; on a plug the outlet's too.
    Info,
    /// All children of a strip, in one request.
    Children,
    /// One child of a strip.
    Child(&'a str),
    /// A relay: of a child, or the plug's own.
    Switch(Option<&'a str>, Power),
    /// Restart in one second, so that the answer still arrives.
    Reboot,
}

/// A session with one device. Requests must not overlap: the protocol numbers them.
pub(super) struct Session {
    handler: Handler,
    /// Bounds every request: the crate's own timeout does not cover reading the body in all cases.
    limit: Duration,
}

enum Handler {
    Plug(PlugEnergyMonitoringHandler),
    Strip(PowerStripEnergyMonitoringHandler),
}

impl Session {
    /// Logs in: 3 requests. A plug's handler drives every single plug and a strip's every strip,
    /// whatever the model is called; `kind` says which to make.
    pub(super) async fn open(
        address: &str,
        credentials: Option<&Credentials>,
        kind: Kind,
        limit: Duration,
    ) -> Result<Self, Fault> {
        let credentials = credentials.ok_or(Fault::NoAccount)?;
        let client =
            ApiClient::new(credentials.username.as_str(), credentials.password.expose()).with_timeout(limit);
        let login = async {
            Ok(match kind {
                Kind::Plug => Handler::Plug(client.p110(address).await?),
                Kind::Strip => Handler::Strip(client.p304(address).await?),
            })
        };
        let handler = within(limit * LOGIN_REQUESTS, login).await?;
        Ok(Self { handler, limit })
    }

    /// Logs in again on the same handler: 2 requests. Fails if the device changed its protocol.
    pub(super) async fn refresh(&mut self) -> Result<(), Fault> {
        let limit = self.limit * LOGIN_REQUESTS;
        match &mut self.handler {
            Handler::Plug(plug) => within(limit, plug.refresh_session()).await.map(drop),
            Handler::Strip(strip) => within(limit, strip.refresh_session()).await.map(drop),
        }
    }

    /// The names of what the device can do (`energy_monitoring`, `control_child`...).
    pub(super) async fn components(&self) -> Result<Vec<String>, Fault> {
        let list = match &self.handler {
            Handler::Plug(plug) => within(self.limit, plug.get_component_list()).await?,
            Handler::Strip(strip) => within(self.limit, strip.get_component_list()).await?,
        };
        Ok(list.into_iter().map(|component| component.id).collect())
    }

    /// Sends one request and returns its result; `Null` where a request has none.
    pub(super) async fn perform(&self, request: Request<'_>) -> Result<Value, Fault> {
        within(self.limit, self.send(request)).await
    }

    async fn send(&self, request: Request<'_>) -> Result<Value, tapo::Error> {
        match (&self.handler, request) {
            (Handler::Plug(plug), Request::Info) => plug.get_device_info_json().await,
            (Handler::Plug(plug), Request::Switch(_, Power::On)) => plug.on().await.map(|()| Value::Null),
            (Handler::Plug(plug), Request::Switch(_, Power::Off)) => plug.off().await.map(|()| Value::Null),
            (Handler::Plug(plug), Request::Reboot) => {
                plug.device_reboot(REBOOT_DELAY_S).await.map(|()| Value::Null)
            }
            (Handler::Strip(strip), Request::Info) => strip.get_device_info_json().await,
            (Handler::Strip(strip), Request::Children) => strip.get_child_device_list_json().await,
            (Handler::Strip(strip), Request::Child(id)) => {
                strip.plug_unchecked(id).get_device_info_json().await
            }
            (Handler::Strip(strip), Request::Switch(Some(id), power)) => {
                let child = strip.plug_unchecked(id);
                match power {
                    Power::On => child.on().await,
                    Power::Off => child.off().await,
                }
                .map(|()| Value::Null)
            }
            (Handler::Strip(strip), Request::Reboot) => {
                strip.device_reboot(REBOOT_DELAY_S).await.map(|()| Value::Null)
            }
            // A plug has no children, and a strip has no relay of its own: what such a device would say.
            (Handler::Plug(_), Request::Children | Request::Child(_))
            | (Handler::Strip(_), Request::Switch(None, _)) => Err(tapo::Error::DeviceNotFound),
        }
    }
}

/// A device that answered on UDP 20002.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// Where it answered from.
    pub ip: IpAddr,
    /// The announced model, with its region: `P110(UK)`.
    pub model: Option<String>,
    /// Lower case with colons.
    pub mac: Option<String>,
    /// The announced login protocol: `KLAP`, `TPAP`, `AES`.
    pub protocol: Option<String>,
    /// The port of its web server, if it says.
    pub http_port: Option<u16>,
    /// The announced type: `SMART.TAPOPLUG`, `SMART.KASAPLUG`...
    pub device_type: Option<String>,
}

impl Discovered {
    /// `ip`, with the port unless it is 80.
    pub fn address(&self) -> String {
        match self.http_port {
            Some(port) if port != 80 => SocketAddr::new(self.ip, port).to_string(),
            _ => self.ip.to_string(),
        }
    }

    pub(super) fn of(ip: IpAddr, message: &Value) -> Self {
        let text = |pointer| {
            message
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let port = message
            .pointer("/result/mgt_encrypt_schm/http_port")
            .and_then(Value::as_u64);
        Self {
            ip,
            model: text("/result/device_model"),
            mac: text("/result/mac").as_deref().and_then(mac),
            protocol: text("/result/mgt_encrypt_schm/encrypt_type"),
            http_port: port.and_then(|port| u16::try_from(port).ok()),
            device_type: text("/result/device_type"),
        }
    }
}

/// Asks on UDP 20002 who is there, at a broadcast or a single address, for `wait` (whole seconds).
/// A single address ends the wait when it answers. Some plugs open their web server only when they
/// are asked (seen on P110 1.4.6), so this also wakes a device that refuses connections.
pub async fn discover(target: IpAddr, wait: Duration) -> Vec<Discovered> {
    // The crate makes an RSA key pair for each query: up to a second of pure arithmetic. On the threads of the
    // runtime that holds up everything else, with many unreachable devices for seconds.
    spawn_blocking(move || discover_here(target, wait))
        .await
        .unwrap_or_default()
}

/// Discovers with this thread alone, also for the tasks that the crate spawns.
fn discover_here(target: IpAddr, wait: Duration) -> Vec<Discovered> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    runtime.block_on(async {
        let asked = ApiClient::discover_devices_raw(target.to_string(), wait.as_secs().max(1)).await;
        let Ok(mut answers) = asked else {
            return Vec::new();
        };
        let mut found = Vec::new();
        while let Some(answer) = answers.next().await {
            found.extend(
                answer
                    .ok()
                    .map(|answer| Discovered::of(answer.ip, &answer.message)),
            );
        }
        found
    })
}

/// A login is at most four requests (discover, two handshakes, and TPAP's share).
const LOGIN_REQUESTS: u32 = 4;
const REBOOT_DELAY_S: u16 = 1;

/// Bounds an operation and classifies its error.
async fn within<T>(
    limit: Duration,
    operation: impl Future<Output = Result<T, tapo::Error>>,
) -> Result<T, Fault> {
    match timeout(limit, operation).await {
        Ok(result) => result.map_err(|error| classify(&error)),
        Err(_) => Err(Fault::NoAnswer),
    }
}

fn classify(error: &tapo::Error) -> Fault {
    match error {
        tapo::Error::Tapo(response) => classify_response(response),
        tapo::Error::Http(http) if http.is_connect() => classify_connect(http),
        tapo::Error::Http(http) if http.is_timeout() => Fault::NoAnswer,
        tapo::Error::Http(http) if http.is_decode() || http.is_body() => Fault::Unreadable(root_cause(http)),
        tapo::Error::Http(_) => Fault::Closed,
        // `on()` answered `"result":{}` lands here too: it was applied.
        tapo::Error::Serde(error) => Fault::Unreadable(error.to_string()),
        tapo::Error::UnsupportedProtocol { description, .. } => {
            Fault::UnsupportedProtocol(description.clone())
        }
        tapo::Error::DeviceNotFound | tapo::Error::Validation { .. } => Fault::UnknownRequest(UNKNOWN_METHOD),
        // A reply that does not decrypt belongs to a session that the device no longer has.
        _ => Fault::SessionLost,
    }
}

/// -1002 unknown method, -1008 wrong parameters: the firmware does not have this call.
const UNKNOWN_METHOD: i64 = -1002;
const PARAMS: i64 = -1008;

fn classify_response(error: &TapoResponseError) -> Fault {
    match error {
        TapoResponseError::Unauthorized { kind, .. } => match *kind {
            "FORBIDDEN" => Fault::Forbidden,
            "HASH_MISMATCH" | "LOGIN" | "TPAP_HASH_MISMATCH" => Fault::WrongCredentials,
            "TPAP_CREDENTIALS" | "TPAP_AUTH_ATTEMPTS_LIMIT" => Fault::LockedOut,
            _ => Fault::SessionLost,
        },
        TapoResponseError::DeviceError {
            code: code @ (UNKNOWN_METHOD | PARAMS),
            ..
        } => Fault::UnknownRequest(*code),
        TapoResponseError::DeviceError {
            kind: "TPAP_SESSION_INVALID",
            ..
        } => Fault::SessionLost,
        TapoResponseError::DeviceError { code, kind } => Fault::Device { code: *code, kind },
        TapoResponseError::HttpError {
            status_code: code @ (429 | 500..=599),
            ..
        } => Fault::Overloaded(*code),
        // Another status in a handshake: the device changed its protocol or is half way through a reboot.
        TapoResponseError::HttpError { .. } => Fault::SessionLost,
        TapoResponseError::EmptyResult => Fault::Unreadable("the result is missing".to_owned()),
        TapoResponseError::ResponseError { description } => Fault::Unreadable(description.clone()),
        _ => Fault::Unreadable(error.to_string()),
    }
}

/// A request that never left: no route, no name, or nobody listening.
fn classify_connect(error: &(dyn std::error::Error + 'static)) -> Fault {
    let refused = causes(error)
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::ConnectionRefused);
    if refused {
        Fault::Refused
    } else {
        Fault::Unreachable(root_cause(error))
    }
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}
