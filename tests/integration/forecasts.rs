//! A server that answers as a provider of forecasts does, and as none should.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use serde_json::json;
use tapo2mqtt::system::{clock::Clock, tasks::Tasks};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the server does with the next requests.
#[derive(Debug, Clone)]
pub enum Behavior {
    /// Answers with this document, and that there is no newer one.
    Document(String),
    /// Answers with this document for a place of a grid, and before that with where it is.
    Grid(String),
    /// Answers with this status and these headers.
    Status(u16, &'static str),
    /// Takes the request, and never answers.
    Hangs,
    /// Answers with a document that does not end.
    Endless,
}

/// A running server on the loopback interface.
pub struct Provider {
    pub address: SocketAddr,
    behavior: Arc<Mutex<Behavior>>,
    /// The head of each request.
    requests: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    /// Its clock is that of the bridge.
    pub async fn steered(clock: &Clock, behavior: Behavior) -> Self {
        let clock = clock.clone();
        Self::start(behavior, move || clock.now()).await
    }

    /// Its clock shows `now`.
    pub async fn start(behavior: Behavior, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let behavior = Arc::new(Mutex::new(behavior));
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (sent, closed) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let now = Arc::new(now);
        let (shared, seen) = (behavior.clone(), requests.clone());
        let counts = (sent.clone(), closed.clone());
        let task = Tasks::default().spawn("forecasts", async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (behavior, seen) = (shared.clone(), seen.clone());
                let ((sent, closed), now) = (counts.clone(), now.clone());
                connections.spawn(async move {
                    let mut stream = stream;
                    let Some(head) = head(&mut stream).await else {
                        return;
                    };
                    seen.lock().unwrap().push(head.clone());
                    let behavior = behavior.lock().unwrap().clone();
                    // A client that closes is one that has enough.
                    let _broken = answer(&mut stream, &head, behavior, now(), &sent).await;
                    closed.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self {
            address,
            behavior,
            requests,
            sent,
            closed,
            task,
        }
    }

    pub fn set(&self, behavior: Behavior) {
        *self.behavior.lock().unwrap() = behavior;
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The bytes of the documents that were sent.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many connections are over.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// The settings that ask it instead of a provider.
    pub fn settings(&self, provider: &str) -> String {
        format!(
            "[weather]\nprovider = \"{provider}\"\nurl = \"http://{}\"\n",
            self.address
        )
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn answer(
    stream: &mut TcpStream,
    request: &str,
    behavior: Behavior,
    now: Timestamp,
    sent: &AtomicUsize,
) -> std::io::Result<()> {
    let date = rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&now)
        .unwrap();
    let head = |status: u16, more: &str| {
        format!("HTTP/1.1 {status} X\r\nDate: {date}\r\n{more}Connection: close\r\n")
    };
    match behavior {
        Behavior::Document(_) if request.contains("if-modified-since") => {
            stream
                .write_all(format!("{}\r\n", head(304, "")).as_bytes())
                .await
        }
        Behavior::Grid(_) if request.starts_with("GET /points/") => {
            let host = request
                .lines()
                .find_map(|line| line.strip_prefix("host: "))
                .unwrap();
            let body =
                json!({"properties": {"forecastGridData": format!("http://{host}/gridpoints/OKX/33,35")}});
            let (head, body) = (head(200, ""), body.to_string());
            stream.write_all(format!("{head}\r\n{body}").as_bytes()).await
        }
        Behavior::Document(body) | Behavior::Grid(body) => {
            let head = head(
                200,
                &format!("Last-Modified: {date}\r\nContent-Length: {}\r\n", body.len()),
            );
            stream.write_all(format!("{head}\r\n{body}").as_bytes()).await
        }
        Behavior::Status(status, more) => {
            let head = head(status, more);
            stream
                .write_all(format!("{head}Content-Length: 4\r\n\r\ngone").as_bytes())
                .await
        }
        Behavior::Hangs => {
            // Ends when the client closes.
            stream.read_u8().await.map(drop)
        }
        Behavior::Endless => {
            stream
                .write_all(format!("{}\r\n", head(200, "")).as_bytes())
                .await?;
            let block = vec![b' '; 64 * 1024];
            loop {
                stream.write_all(&block).await?;
                sent.fetch_add(block.len(), Ordering::Relaxed);
            }
        }
    }
}

/// The answer of Open-Meteo: three days from the hour of `now` on, with snow in some hours after it.
pub fn open_meteo(now: Timestamp, snow_in: &[i64]) -> String {
    let start = now.as_second().div_euclid(3600) * 3600;
    let hours = 0..72_i64;
    let column = |value: f64| hours.clone().map(|_| value).collect::<Vec<f64>>();
    // An amount is of the hour before.
    let snow = |index: i64| if snow_in.contains(&(index - 1)) { 1.0 } else { 0.0 };
    json!({
        "latitude": 52.52, "longitude": 13.42, "utc_offset_seconds": 0, "timezone": "GMT",
        "hourly_units": {
            "time": "unixtime", "temperature_2m": "°C", "precipitation": "mm", "snowfall": "cm",
            "dew_point_2m": "°C", "relative_humidity_2m": "%", "wind_speed_10m": "km/h"
        },
        "hourly": {
            "time": hours.clone().map(|index| start + 3600 * index).collect::<Vec<i64>>(),
            "temperature_2m": column(-2.5), "dew_point_2m": column(-4.0),
            "relative_humidity_2m": column(90.0), "wind_speed_10m": column(12.0),
            "precipitation": hours.clone().map(|index| snow(index) * 1.4).collect::<Vec<f64>>(),
            "snowfall": hours.clone().map(snow).collect::<Vec<f64>>(),
        }
    })
    .to_string()
}

/// The answer of the National Weather Service for a square: 48 hours, all of them cold.
pub fn nws(now: Timestamp) -> String {
    let start = now - SignedDuration::from_hours(1);
    let layer = |uom: &str, value: f64| json!({"uom": uom, "values": [{"validTime": format!("{start}/P2D"), "value": value}]});
    json!({"properties": {
        "updateTime": now.to_string(),
        "temperature": layer("wmoUnit:degC", -7.0),
        "dewpoint": layer("wmoUnit:degC", -9.0),
        "relativeHumidity": layer("wmoUnit:percent", 80.0),
        "windSpeed": layer("wmoUnit:km_h-1", 5.0),
        "quantitativePrecipitation": layer("wmoUnit:mm", 0.0),
        "snowfallAmount": layer("wmoUnit:mm", 0.0)
    }})
    .to_string()
}
