//! A small HTTP endpoint to watch and disturb devices.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    task::JoinSet,
    time::sleep,
};
use tracing::debug;

use crate::{Counters, DeviceHandle, Fault, FaultKind, Profile, Protocol, SimulatorError};

/// The longest jump of the clock, hour by hour of which is worked through, and the longest reboot.
const MAX_TIME: Duration = Duration::from_hours(24 * 366);
const MAX_BODY: usize = 64 * 1024;
/// The wait after it could not be accepted from.
const RETRY: Duration = Duration::from_millis(50);

/// Serves a control endpoint for some devices, until it is dropped. Whoever reaches it can disturb
/// them: let it listen on the loopback interface.
///
/// | request | body | does |
/// |---|---|---|
/// | `GET /` | | `{"devices": [..]}`, each as below, and `{"paths": [..]}`, this table |
/// | `POST /faults` | a [`Fault`] | switches it on |
/// | `DELETE /faults` | | switches all faults off |
/// | `DELETE /faults/{kind}` | | switches one off, for example `/faults/latency` |
/// | `DELETE /counters` | | counts from zero again |
/// | `POST /press/{position}` | | presses the button of an outlet |
/// | `POST /overload/{position}` | | drops the relay of an outlet |
/// | `POST /watts/{position}` | `{"watts": 12.5}` | plugs in another load |
/// | `POST /child/{name}` | `{"current_temp": 18.5}` | changes what a child of a hub shows |
/// | `POST /child/{name}/log` | `{"event": "singleClick"}` | adds an entry to the log of a child of a hub: a button is pressed |
/// | `POST /advance` | `{"seconds": 3600}` | moves the device's clock ahead |
/// | `POST /reboot` | `{"seconds": 2.5}` | goes away for a while |
/// | `POST /move` | `{"address": "127.0.0.1:8082"}` | moves to another address |
///
/// `?device=1` names a device by its place in the list, counted from 0, which is what is meant without
/// it. Every request but `GET /` is answered with the device:
///
/// ```json
/// {"profile": "P110", "protocol": "klap", "address": "127.0.0.1:8081", "device_id": "80..", "mac": "02-..",
///  "outlets": [{"position": 1, "child_id": null, "on": true, "watts": 60.0}],
///  "faults": [{"fault": "close_after_reply"}],
///  "counters": {"requests": {"get_device_info": 3}, "max_in_flight": 1, "sequence_violations": 0}}
/// ```
///
/// What cannot be done is answered with 400 or 404 and `{"error": ".."}`.
pub async fn serve_control(listener: TcpListener, devices: Vec<DeviceHandle>) -> Infallible {
    let devices: Arc<[DeviceHandle]> = devices.into();
    // Aborts the connections when it is dropped.
    let mut connections = JoinSet::new();
    loop {
        select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(devices.clone(), stream));
                }
                Err(error) => {
                    debug!(%error, "the control endpoint cannot accept");
                    sleep(RETRY).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(devices: Arc<[DeviceHandle]>, stream: TcpStream) {
    let service = service_fn(|request| respond(&devices, request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "a control connection ended");
    }
}

async fn respond(
    devices: &[DeviceHandle],
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match act(devices, request).await {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (error.status(), json!({ "error": error.to_string() })),
    };
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

/// What there is beside `GET /`, for people.
const PATHS: [(&str, &str); 12] = [
    (
        "POST /faults",
        "switches a fault on: {\"fault\": \"close_after_reply\"}",
    ),
    ("DELETE /faults", "switches all faults off"),
    (
        "DELETE /faults/{kind}",
        "switches one fault off, such as /faults/latency",
    ),
    ("DELETE /counters", "counts from zero again"),
    ("POST /press/{position}", "presses the button of an outlet"),
    ("POST /overload/{position}", "drops the relay of an outlet"),
    (
        "POST /watts/{position}",
        "plugs in another load: {\"watts\": 12.5}",
    ),
    (
        "POST /child/{name}",
        "changes what a child of a hub shows: {\"current_temp\": 18.5}",
    ),
    (
        "POST /child/{name}/log",
        "adds an entry to the log of a child of a hub: {\"event\": \"singleClick\"}",
    ),
    (
        "POST /advance",
        "moves the clock of the device ahead: {\"seconds\": 3600}",
    ),
    ("POST /reboot", "goes away for a while: {\"seconds\": 2.5}"),
    (
        "POST /move",
        "moves to another address: {\"address\": \"127.0.0.1:8082\"}",
    ),
];

/// Why a control request cannot be done.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("there is no such path; see GET /")]
    NoSuchPath,
    #[error("there is no such device")]
    NoSuchDevice,
    #[error("the body is longer than {MAX_BODY} bytes")]
    TooLong,
    #[error("the body is not what is expected: {0}")]
    Body(serde_json::Error),
    #[error("{0} is not a number of seconds from 0 to a year")]
    Seconds(f64),
    #[error(transparent)]
    Device(#[from] SimulatorError),
}

impl ControlError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath
            | Self::NoSuchDevice
            | Self::Device(SimulatorError::NoSuchOutlet(_) | SimulatorError::NoSuchChild(_)) => {
                StatusCode::NOT_FOUND
            }
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(_) | Self::Seconds(_) | Self::Device(_) => StatusCode::BAD_REQUEST,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Watts {
    watts: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Happened {
    event: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seconds {
    seconds: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    address: SocketAddr,
}

#[derive(Serialize)]
struct Shown {
    profile: Profile,
    protocol: Protocol,
    address: SocketAddr,
    device_id: String,
    mac: String,
    outlets: Vec<ShownOutlet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<serde_json::Value>,
    faults: Vec<Fault>,
    counters: Counters,
}

#[derive(Serialize)]
struct ShownOutlet {
    position: u8,
    child_id: Option<String>,
    on: bool,
    watts: f64,
}

async fn act(
    devices: &[DeviceHandle],
    request: Request<Incoming>,
) -> Result<serde_json::Value, ControlError> {
    let (head, body) = request.into_parts();
    let collected = Limited::new(body, MAX_BODY).collect().await;
    let body = collected.map_err(|_| ControlError::TooLong)?.to_bytes();
    let path: Vec<&str> = head
        .uri
        .path()
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    if head.method == Method::GET && path.is_empty() {
        let devices: Vec<Shown> = devices.iter().map(show).collect();
        let paths: BTreeMap<_, _> = PATHS.into_iter().collect();
        return Ok(json!({ "devices": devices, "paths": paths }));
    }
    let device = chosen(devices, head.uri.query())?;
    match (head.method.as_str(), path.as_slice()) {
        ("POST", ["faults"]) => device.faults().set(read(&body)?),
        ("DELETE", ["faults"]) => device.faults().clear_all(),
        ("DELETE", ["faults", kind]) => device.faults().clear(fault_kind(kind)?),
        ("DELETE", ["counters"]) => device.reset_counters(),
        ("POST", ["press", position]) => device.press(outlet(position)?)?,
        ("POST", ["overload", position]) => device.overload(outlet(position)?)?,
        ("POST", ["watts", position]) => {
            let Watts { watts } = read(&body)?;
            device.set_watts(outlet(position)?, watts)?;
        }
        ("POST", ["child", name]) => device.set_child(name, read(&body)?)?,
        ("POST", ["child", name, "log"]) => {
            let Happened { event } = read(&body)?;
            device.happens_at_child(name, &event)?;
        }
        ("POST", ["advance"]) => device.advance(seconds(&body)?),
        ("POST", ["reboot"]) => device.reboot(seconds(&body)?).await?,
        ("POST", ["move"]) => {
            let Address { address } = read(&body)?;
            device.move_to(address).await?;
        }
        _ => return Err(ControlError::NoSuchPath),
    }
    Ok(json!(show(device)))
}

fn chosen<'a>(devices: &'a [DeviceHandle], query: Option<&str>) -> Result<&'a DeviceHandle, ControlError> {
    let index = match query.and_then(|query| query.strip_prefix("device=")) {
        Some(index) => index.parse().map_err(|_| ControlError::NoSuchDevice)?,
        None => 0_usize,
    };
    devices.get(index).ok_or(ControlError::NoSuchDevice)
}

fn outlet(position: &str) -> Result<u8, ControlError> {
    position.parse().map_err(|_| ControlError::NoSuchPath)
}

fn fault_kind(kind: &str) -> Result<FaultKind, ControlError> {
    serde_json::from_value(json!(kind)).map_err(|_| ControlError::NoSuchPath)
}

fn seconds(body: &[u8]) -> Result<Duration, ControlError> {
    let Seconds { seconds } = read(body)?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| *time <= MAX_TIME)
        .ok_or(ControlError::Seconds(seconds))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(body).map_err(ControlError::Body)
}

fn show(device: &DeviceHandle) -> Shown {
    let child_ids = device.child_ids();
    let outlets = (1..=device.profile().outlets()).map(|position| ShownOutlet {
        position,
        child_id: child_ids.get(usize::from(position - 1)).cloned(),
        on: device.relay(position),
        watts: device.watts(position),
    });
    Shown {
        profile: device.profile(),
        protocol: device.protocol(),
        address: device.address(),
        device_id: device.device_id().to_owned(),
        mac: device.mac(),
        outlets: outlets.collect(),
        children: device.children(),
        faults: device.faults().active(),
        counters: device.counters(),
    }
}
