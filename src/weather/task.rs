//! The task that asks.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use planner::{Now, location::Coordinates, weather::Weather};
use reqwest::Url;
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    forecast::{BadForecast, Forecast},
    kept::{KeptForecast, KeptWeather},
    met_norway, nws, open_meteo,
    place::Place,
    requests::{PER_DAY, Requests},
};
use crate::{
    config::WeatherSettings,
    domain::{scheduling::SchedulerMsg, weather_metrics::WeatherMetrics, weather_provider::WeatherProvider},
    store::Section,
    system::{
        clock::Clock,
        http::reader::{HttpAnswer, HttpReadError, HttpReader},
    },
};

/// The clock is read at least this often: tokio's timers stand still while the machine is suspended.
const CLOCK_CHECK: Duration = Duration::from_mins(1);

/// What the task is made of.
#[derive(Debug)]
pub struct WeatherParts {
    /// Who is asked, and for which place.
    pub settings: WeatherSettings,
    /// To the scheduler.
    pub scheduler: mpsc::Sender<SchedulerMsg>,
    /// What survives a restart.
    pub kept: Section<KeptWeather>,
    /// What it counts.
    pub metrics: WeatherMetrics,
    /// The clocks.
    pub clock: Clock,
}

/// Asks for the forecast, and hands it to the scheduler.
#[derive(Debug)]
pub struct WeatherTask {
    provider: WeatherProvider,
    server: Url,
    place: Coordinates,
    scheduler: mpsc::Sender<SchedulerMsg>,
    kept: Section<KeptWeather>,
    metrics: WeatherMetrics,
    clock: Clock,
    /// The forecast that the scheduler has.
    weather: Option<Arc<Weather>>,
    /// Why the last request failed, as it was logged.
    failure: Option<String>,
}

/// Why there is no forecast.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{0}")]
    Http(#[from] HttpReadError),
    #[error("it answers {status}{}", hint(*status))]
    Status {
        status: u16,
        retry_after: Option<SignedDuration>,
    },
    #[error("its answer is no forecast: {0}")]
    Bad(#[from] BadForecast),
    #[error("{PER_DAY} requests were made in 24 hours")]
    NoRoom,
}

fn hint(status: u16) -> &'static str {
    match status {
        304 => "; it has nothing newer, but no forecast of it is known here",
        300..400 => "; it redirects to another server, which is not followed",
        403 => "; it refuses this program",
        404 => "; it has no forecast for this place",
        429 => "; it was asked too often",
        _ => "",
    }
}

impl AskError {
    /// Whether the server answers that it does not want to be asked.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { status, .. } if (300..500).contains(status))
    }

    /// One of a few words.
    fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "no_answer",
            Self::Status { .. } => "status",
            Self::Bad(_) => "content",
            Self::NoRoom => "too_many",
        }
    }

    fn retry_after(&self) -> Option<SignedDuration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Http(_) | Self::Bad(_) | Self::NoRoom => None,
        }
    }
}

impl WeatherTask {
    /// Nothing is asked before [`WeatherTask::run`].
    pub fn new(parts: WeatherParts) -> Self {
        let WeatherSettings {
            provider,
            server,
            place,
        } = parts.settings;
        let Place { latitude, longitude } = place.into();
        let of = format!("{provider} {server} {latitude},{longitude}");
        parts.kept.set(parts.kept.get().only_of(&of));
        Self {
            provider,
            server,
            place,
            scheduler: parts.scheduler,
            kept: parts.kept,
            metrics: parts.metrics,
            clock: parts.clock,
            weather: None,
            failure: None,
        }
    }

    /// Asks until the stop.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.ask_for_ever() => {}
        }
    }

    async fn ask_for_ever(&mut self) {
        let kept = self.kept.read(|kept| kept.forecast.clone());
        if let Some(weather) = kept.and_then(|kept| kept.weather(&self.clock)) {
            self.hand_over(weather).await;
        }
        loop {
            self.wait().await;
            let asked = self.ask().await;
            let now = self.clock.steady();
            let random = rand::random();
            match asked {
                Ok(fresh_for) => {
                    self.change_requests(|requests| requests.succeeded(fresh_for, random, now));
                    self.failure = None;
                }
                Err(error) => {
                    self.metrics.failed(error.kind());
                    self.change_requests(|requests| {
                        requests.failed(error.is_refusal(), error.retry_after(), random, now);
                    });
                    self.report(error.to_string());
                }
            }
        }
    }

    fn report(&mut self, why: String) {
        let provider = self.provider;
        if self.failure.as_ref() == Some(&why) {
            debug!(%provider, %why, "no forecast again");
        } else {
            warn!(%provider, %why, "no forecast; the last one counts until it is stale");
            self.failure = Some(why);
        }
    }

    async fn wait(&self) {
        loop {
            let now = self.clock.steady();
            let next = self.kept.read(|kept| kept.requests.next(now));
            if next <= now {
                return;
            }
            sleep_until(self.clock.instant_of(next).min(Instant::now() + CLOCK_CHECK)).await;
        }
    }

    /// Asks for the forecast. Returns how long it is the newest.
    async fn ask(&mut self) -> Result<Option<SignedDuration>, AskError> {
        let url = match self.provider {
            WeatherProvider::OpenMeteo => self.url(&open_meteo::path(self.place))?,
            WeatherProvider::MetNorway => self.url(&met_norway::path(self.place))?,
            WeatherProvider::Nws => self.square().await?,
        };
        let last_modified = self.kept.read(|kept| kept.last_modified.clone());
        let last_modified = last_modified.filter(|_| self.weather.is_some());
        let answer = self.get(url, last_modified).await?;
        let now = self.clock.read();
        let theirs = Now {
            wall: answer.date.unwrap_or(now.wall),
            ..now
        };
        let fresh_for = answer.fresh_for;
        match (answer.status, &self.weather) {
            (200 | 203, _) => {
                if answer.status == 203 {
                    warn!(provider = %self.provider, "the provider will end this service; update this program");
                }
                let last_modified = answer.last_modified.clone();
                let weather = self.read(answer, theirs).await?;
                self.kept.update(|kept| {
                    kept.last_modified = last_modified;
                    true
                });
                self.take(weather, now).await;
                Ok(fresh_for)
            }
            (304, Some(weather)) => {
                let weather = weather.confirmed(theirs);
                self.take(weather, now).await;
                Ok(fresh_for)
            }
            (status, _) => {
                // The squares of a grid can be others one day.
                self.kept
                    .update(|kept| status == 404 && kept.forecast_url.take().is_some());
                Err(AskError::Status {
                    status,
                    retry_after: answer.retry_after,
                })
            }
        }
    }

    /// Where the forecast of the square of the place is.
    async fn square(&mut self) -> Result<Url, AskError> {
        let known = self.kept.read(|kept| kept.forecast_url.clone());
        if let Some(url) = known.and_then(|known| nws::on_server(&known, &self.server)) {
            return Ok(url);
        }
        let answer = self.get(self.url(&nws::points_path(self.place))?, None).await?;
        if answer.status != 200 {
            return Err(AskError::Status {
                status: answer.status,
                retry_after: answer.retry_after,
            });
        }
        let url = nws::read_points(&answer.body, &self.server)?;
        self.kept.update(|kept| {
            kept.forecast_url = Some(url.to_string());
            true
        });
        Ok(url)
    }

    fn url(&self, path: &str) -> Result<Url, HttpReadError> {
        let server = self.server.as_str().trim_end_matches('/');
        let url = format!("{server}{path}").parse();
        url.map_err(|_| HttpReadError::Failed("its address is invalid".to_owned()))
    }

    async fn get(&self, url: Url, last_modified: Option<String>) -> Result<HttpAnswer, AskError> {
        let now = self.clock.steady();
        if !self.kept.read(|kept| kept.requests.has_room(now)) {
            return Err(AskError::NoRoom);
        }
        self.change_requests(|requests| requests.note(now));
        self.metrics.asked();
        // A new one each time: an hour apart, it is not worth its memory. It reads the certificates of the system.
        let reader = spawn_blocking(HttpReader::new).await;
        let reader = reader.map_err(|error| HttpReadError::Failed(error.to_string()))??;
        Ok(reader.get(url, last_modified.as_deref()).await?)
    }

    /// Reads the answer beside everything else: it may be as large as it likes, up to the bound.
    async fn read(&self, answer: HttpAnswer, theirs: Now) -> Result<Weather, AskError> {
        let provider = self.provider;
        let read = spawn_blocking(move || Forecast::read(provider, &answer.body, theirs.wall)).await;
        let forecast = read.map_err(|error| HttpReadError::Failed(error.to_string()))??;
        let issued = forecast.issued.unwrap_or(theirs.wall);
        Ok(Weather::new(issued, theirs, forecast.hours))
    }

    /// A forecast came.
    async fn take(&mut self, weather: Weather, now: Now) {
        if !weather.agrees_with(now) {
            let provider = self.provider;
            let ahead = now.wall.duration_since(weather.answered().wall).as_mins();
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            warn!(
                %provider,
                "the clock of this machine is {} min {side} that of the provider; the forecast counts when they agree",
                ahead.abs()
            );
        }
        let is_first = self.weather.is_none() || self.failure.is_some();
        let (provider, hours) = (self.provider, weather.hours().count());
        if is_first {
            info!(%provider, hours, issued = %weather.issued(), "forecast received");
        } else {
            debug!(%provider, hours, issued = %weather.issued(), "forecast received");
        }
        let kept = KeptForecast::new(&weather, &self.clock);
        self.kept.update(|known| {
            known.forecast = Some(kept);
            true
        });
        self.hand_over(weather).await;
    }

    /// Waits for room, which delays nothing but this task. A scheduler that is gone needs nothing.
    async fn hand_over(&mut self, weather: Weather) {
        let weather = Arc::new(weather);
        self.weather = Some(weather.clone());
        let _gone = self.scheduler.send(SchedulerMsg::Weather(weather)).await;
    }

    fn change_requests(&self, change: impl FnOnce(&mut Requests)) {
        self.kept.update(|kept| {
            change(&mut kept.requests);
            true
        });
    }
}
