//! Logging: one line per change, with fields, on standard error. A thread writes the lines; nothing else waits for whoever
//! reads them.
//!
//! Only our own events are written. The `tapo` and `rumqttc` crates log through the `log` crate, which
//! is not bridged: their debug lines carry whole decrypted messages.

use std::{
    fmt::Display,
    io::{self, IsTerminal},
    panic,
    str::FromStr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tracing::{error, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use super::{
    log_buffer::LogBuffer,
    log_line::{LocalTime, LogFields},
    tasks,
};

/// The lines of this process.
static LINES: LogBuffer = LogBuffer::new();
/// Changes the level of this process, once it logs.
static FILTER: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();
/// How long the end of the process waits for whoever reads the log.
const FLUSH_BUDGET: Duration = Duration::from_millis(500);

/// The crates whose events are written.
const LOGGED_CRATES: [&str; 3] = ["tapo2mqtt", "mqtt_link", "tapo_simulator"];

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What needs a person.
    Error,
    /// What a person may want to look at.
    Warn,
    /// Changes.
    Info,
    /// Every command and its way.
    Debug,
    /// Every message.
    Trace,
}

impl Level {
    /// All of them, the quietest first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word in settings and topics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Not a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a log level; use error, warn, info, debug or trace")]
pub struct NotALevel;

impl FromStr for Level {
    type Err = NotALevel;

    fn from_str(text: &str) -> Result<Self, NotALevel> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(text))
            .ok_or(NotALevel)
    }
}

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// Changes the level of a running process. Without a subscriber it only remembers it.
#[derive(Debug, Clone)]
pub struct LogLevel {
    level: Level,
    handle: Option<reload::Handle<LevelFilter, Registry>>,
}

impl LogLevel {
    /// A level without listeners, for a process that logs elsewhere.
    pub fn detached(level: Level) -> Self {
        Self { level, handle: None }
    }

    /// The level in force.
    pub fn get(&self) -> Level {
        self.level
    }

    /// Changes it until the process ends.
    pub fn set(&mut self, level: Level) {
        self.level = level;
        if let Some(handle) = &self.handle {
            // Fails only if the subscriber is gone, and with it everything that could be logged.
            let _gone = handle.reload(level.filter());
        }
    }
}

/// Whether what is written there may have colors: a terminal, unless NO_COLOR is set (no-color.org) or it is a dumb one.
pub fn has_color(stream: &impl IsTerminal) -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stream.is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// Starts logging to standard error, with the time in a zone. A second call in one process keeps the first one's format.
///
/// # Errors
/// There is no thread to be had.
pub fn start(level: Level, format: Format, zone: &TimeZone) -> io::Result<LogLevel> {
    let (filter, handle) = reload::Layer::new(level.filter());
    let ours = tracing_subscriber::filter::filter_fn(|metadata| {
        LOGGED_CRATES
            .iter()
            .any(|name| metadata.target().starts_with(name))
    });
    let lines = fmt::layer()
        .with_writer(|| &LINES)
        .with_timer(LocalTime::new(zone.clone()))
        .with_ansi(has_color(&io::stderr()));
    let lines = match format {
        Format::Text => lines.with_target(false).fmt_fields(LogFields).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(lines.with_filter(ours))
        .try_init();
    if started.is_ok() {
        start_writer()?;
        // The default one waits for whoever reads standard error.
        panic::set_hook(Box::new(|panic| error!("{panic}")));
    }
    let mut log_level = LogLevel {
        level,
        handle: started
            .is_ok()
            .then(|| FILTER.get_or_init(|| handle))
            .or(FILTER.get())
            .cloned(),
    };
    log_level.set(level);
    Ok(log_level)
}

/// Writes why the process ends. A reader that does not read holds up no end.
pub fn print_error(error: &dyn Display) {
    if start_writer().is_ok() {
        LINES.push(format!("tapo2mqtt: {error}\n").as_bytes());
        flush();
    }
}

/// The last lines of the log, at most so many, the newest last.
pub fn last_lines(most: usize) -> Vec<String> {
    LINES.last(most)
}

/// Waits for the lines that are not written yet, but not for a reader that does not read. For the end of the process.
pub fn flush() {
    LINES.flush(FLUSH_BUDGET);
}

/// Starts the thread that writes the lines, once.
fn start_writer() -> io::Result<()> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    if STARTED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    tasks::thread("log", || {
        loop {
            LINES.write_next(&mut io::stderr());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_as_they_print() {
        for level in Level::ALL {
            assert_eq!(level.as_str().to_uppercase().parse(), Ok(level));
        }
        assert_eq!("loud".parse::<Level>(), Err(NotALevel));
    }
}
