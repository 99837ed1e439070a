//! The small sections: `[homeassistant]`, `[polling]`, `[retry]`, `[log]`, `[state]`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ha_discovery::STATUS_LEVEL;
use serde_json::{Value, json};

use super::{
    credentials::Files,
    layers::Sources,
    mqtt::Mqtt,
    parse,
    reader::{Read, Table},
    topic::topic,
};
use crate::{
    domain::topics::BaseTopic,
    system::telemetry::{Format, Level},
};

/// Name of the state file where none is configured, behind the base topic.
const STATE_FILE: &str = "-state.json";
/// The same in earlier versions, whatever the base topic was.
const EARLIER_STATE_FILE: &str = "tapo2mqtt-state.json";

/// What is published for Home Assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeAssistant {
    /// Whether anything is announced at all.
    pub enabled: bool,
    /// Where Home Assistant looks for announcements.
    pub discovery_prefix: BaseTopic,
    /// One child device per outlet of a strip. Recommended from Home Assistant 2026.11 on; older ones refuse the strip.
    pub child_devices: bool,
    /// Where Home Assistant publishes its birth message. Default: `status` under the prefix.
    pub status_topic: BaseTopic,
}

/// How often devices are asked, and how long they may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polling {
    /// Between two reads of a device's state, 1 s to 1 h. Devices reboot when polled harder than every 5 s.
    pub state: Duration,
    /// Between two reads of an energy meter, 10 s to 24 h. The outlets of a strip take turns.
    pub energy: Duration,
    /// How long one request may take, 500 ms to 30 s.
    pub request_timeout: Duration,
}

/// How long the bridge waits at most before it tries a device again that it could not log in to. Waits double
/// from a second (15 s for refused logins) up to these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryWaits {
    /// One that does not answer, 1 s to 1 h. A command for it is tried every second.
    pub unreachable: Duration,
    /// One that refuses the login, 1 s to 24 h.
    pub refused: Duration,
    /// One that counts wrong passwords and has locked itself, 1 min to 24 h.
    pub locked: Duration,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is logged.
    pub level: Level,
    /// For people or for machines.
    pub format: Format,
}

impl HomeAssistant {
    pub(super) fn digest(&self) -> Value {
        json!({
            "enabled": self.enabled,
            "discovery_prefix": self.discovery_prefix,
            "child_devices": self.child_devices,
            "status_topic": self.status_topic,
        })
    }
}

impl Polling {
    pub(super) fn digest(&self) -> Value {
        json!({
            "state_s": self.state.as_secs_f64(),
            "energy_s": self.energy.as_secs_f64(),
            "request_timeout_s": self.request_timeout.as_secs_f64(),
        })
    }
}

impl RetryWaits {
    pub(super) fn digest(self) -> Value {
        json!({
            "unreachable_s": self.unreachable.as_secs_f64(),
            "refused_s": self.refused.as_secs_f64(),
            "locked_s": self.locked.as_secs_f64(),
        })
    }
}

impl Log {
    pub(super) fn digest(self) -> Value {
        json!({"level": self.level, "format": self.format})
    }
}

pub(super) fn homeassistant(table: &mut Table<'_>) -> Read<HomeAssistant> {
    let enabled = table.required("enabled", parse::boolean);
    let discovery_prefix = table.required("discovery_prefix", topic);
    let child_devices = table.required("child_devices", parse::boolean);
    let status_topic = table.optional("status_topic", topic)?;
    let discovery_prefix = discovery_prefix?;
    let derived = || format!("{discovery_prefix}/{STATUS_LEVEL}").parse().ok();
    let Some(status_topic) = status_topic.or_else(derived) else {
        return Err(table.problem("discovery_prefix", "a shorter topic: /status is put behind it"));
    };
    Ok(HomeAssistant {
        enabled: enabled?,
        discovery_prefix,
        child_devices: child_devices?,
        status_topic,
    })
}

pub(super) fn polling(table: &mut Table<'_>) -> Read<Polling> {
    let seconds = Duration::from_secs;
    let state = table.required("state", parse::duration(seconds(1)..=Duration::from_hours(1)));
    let energy = table.required("energy", parse::duration(seconds(10)..=Duration::from_hours(24)));
    let limit = Duration::from_millis(500)..=seconds(30);
    let request_timeout = table.required("request_timeout", parse::duration(limit));
    Ok(Polling {
        state: state?,
        energy: energy?,
        request_timeout: request_timeout?,
    })
}

pub(super) fn retry(table: &mut Table<'_>) -> Read<RetryWaits> {
    let (second, hour) = (Duration::from_secs(1), Duration::from_hours(1));
    let unreachable = table.required("unreachable", parse::duration(second..=hour));
    let refused = table.required("refused", parse::duration(second..=hour * 24));
    let locked = table.required("locked", parse::duration(second * 60..=hour * 24));
    Ok(RetryWaits {
        unreachable: unreachable?,
        refused: refused?,
        locked: locked?,
    })
}

pub(super) fn log(table: &mut Table<'_>) -> Read<Log> {
    let levels = Level::ALL.map(|level| (level.as_str(), level));
    let level = table.required("level", parse::word(&levels));
    let formats = [("text", Format::Text), ("json", Format::Json)];
    let format = table.required("format", parse::word(&formats));
    Ok(Log {
        level: level?,
        format: format?,
    })
}

/// The state file: as configured, else in the directory that systemd provides, else beside the settings. Two bridges in
/// one directory have different base topics, and so different files. With it comes the name that it had in earlier
/// versions, if that was another.
pub(super) fn state_file(
    table: &mut Table<'_>,
    files: Files<'_>,
    sources: &Sources,
    mqtt: Option<&Mqtt>,
) -> Read<(PathBuf, Option<PathBuf>)> {
    let configured = table.optional("file", |leaf| files.path(leaf))?;
    let (file, earlier) = match (configured, mqtt) {
        (Some(file), _) => (file, None),
        (None, mqtt) => {
            let in_default = |name: &str| default_directory(sources, Path::is_dir).join(name);
            let earlier = in_default(EARLIER_STATE_FILE);
            let topic = mqtt.map(|mqtt| mqtt.base_topic.as_str().replace('/', "-"));
            let file = topic.map_or_else(|| earlier.clone(), |topic| in_default(&(topic + STATE_FILE)));
            let is_other = file != earlier;
            (file, is_other.then_some(earlier))
        }
    };
    if sources.file.as_ref() == Some(&file) {
        return Err(table.problem(
            "file",
            "a file other than the settings file, which is never written",
        ));
    }
    Ok((file, earlier))
}

/// Where the package has the settings, and where its service keeps the state.
const SERVICE_DIRECTORIES: [&str; 2] = ["/etc/tapo2mqtt", "/var/lib/tapo2mqtt"];

/// A command that is started by hand works with the state of the service, although only the service has what systemd provides.
fn default_directory(sources: &Sources, is_directory: impl Fn(&Path) -> bool) -> &Path {
    // systemd separates several state directories with colons; the first is ours.
    let provided = sources
        .variable("STATE_DIRECTORY")
        .and_then(|list| list.split(':').next());
    let [of_settings, of_state] = SERVICE_DIRECTORIES.map(Path::new);
    let settings = sources.directory();
    let of_service = || (settings == of_settings && is_directory(of_state)).then_some(of_state);
    provided.map(Path::new).or_else(of_service).unwrap_or(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand_the_state_is_where_the_service_has_it() {
        let directory = |file: &str, provided: Option<&str>, exists: bool| {
            let sources = Sources {
                file: Some(file.into()),
                environment: provided
                    .map(|directory| ("STATE_DIRECTORY".to_owned(), directory.to_owned()))
                    .into_iter()
                    .collect(),
            };
            let is_directory = |path: &Path| exists && path == Path::new("/var/lib/tapo2mqtt");
            default_directory(&sources, is_directory).to_owned()
        };
        let file = "/etc/tapo2mqtt/tapo2mqtt.toml";
        for (file, provided, exists, expected) in [
            (
                file,
                Some("/var/lib/attic:/var/lib/other"),
                true,
                "/var/lib/attic",
            ),
            (file, None, true, "/var/lib/tapo2mqtt"),
            (file, None, false, "/etc/tapo2mqtt"),
            ("/srv/tapo2mqtt.toml", None, true, "/srv"),
        ] {
            assert_eq!(
                directory(file, provided, exists),
                Path::new(expected),
                "{file} {provided:?}"
            );
        }
    }
}
