//! `check`: the settings and all that they name, tried once and shown in a table.

pub(super) mod row;

use std::{
    io,
    path::{self, Path},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use self::row::{Row, table};
use super::{ExitError, load, output, permissions::permissions, sources};
use crate::{
    app::bridge::StartError,
    cli::SettingsArgs,
    config::{self, NotifyTarget, Settings, Sources},
    devices::{Seen, look},
    domain::{command_error::CommandError, devices::DeviceConfig},
    mqtt::{
        link::{Broker, LinkError, LinkOptions, RetainedProbe, Topic, probe_retained},
        link_options,
    },
    system::{clock::Clock, tasks::Tasks, telemetry},
};
use planner::{
    DeviceId, OutletKey, OutletPath,
    rules::Rules,
    sensor::{SensorSource, SensorSpec, SensorTopic},
    sun_days::SunDays,
};

/// How long the broker may take to let us in.
const BROKER_BUDGET: Duration = Duration::from_secs(5);

/// How far ahead the windows of schedules are looked at.
const YEAR: usize = 366;

pub(super) async fn check(args: &SettingsArgs) -> Result<(), ExitError> {
    let sources = sources(args);
    let settings = load(args)?;
    let mut rows = vec![Row::new("settings", Ok(file(&sources)))];
    let variables = [
        config::overriding_variables(&sources),
        config::ignored_variables(&sources),
    ];
    rows.extend(
        variables
            .into_iter()
            .flatten()
            .map(|text| Row::note("environment", text)),
    );
    rows.push(zone(&settings.rules));
    rows.extend(state_file(&settings));
    rows.extend(settings.notify.iter().map(notify_row));
    if settings.mqtt.enabled {
        rows.extend(broker_rows(&settings).await?);
    } else {
        rows.extend(rows_without_broker(&settings));
    }
    let seen = look_at_devices(&settings).await;
    rows.extend(device_rows(&settings, &seen));
    rows.extend(hub_sensor_rows(&settings.rules, &seen));
    rows.extend(schedules(&settings.rules));
    if settings.needs_setup() {
        let why = "no Tapo account: set tapo.username and tapo.password, or send bridge/request/account; until then the bridge runs \
             in setup mode";
        rows.push(Row::new("account", Err(why.to_owned())));
    }
    output::print(&table(&rows, telemetry::has_color(&io::stdout())))?;
    match rows.iter().filter(|row| row.failed()).count() {
        0 => Ok(()),
        failed => Err(ExitError::Unwell(format!(
            "{failed} of {} checks failed",
            rows.len()
        ))),
    }
}

/// Which file, wherever the command was started.
fn file(sources: &Sources) -> String {
    sources.file.as_ref().map_or(
        "built-in defaults and environment; `tapo2mqtt setup` writes a file".into(),
        |file| absolute(file),
    )
}

fn absolute(file: &Path) -> String {
    let absolute = path::absolute(file);
    absolute.as_deref().unwrap_or(file).display().to_string()
}

/// The time zone of all schedules. A machine or container without a setting has UTC.
fn zone(rules: &Rules) -> Row {
    let zone = &rules.location.zone;
    let name = zone.iana_name().unwrap_or("that of the system");
    let now = Clock::system().now().to_zoned_datetime(zone.clone());
    let text = format!("{name}, where it is {}", now.strftime("%F %R"));
    let has_schedules = rules.groups.iter().any(|group| !group.schedules.is_empty());
    if has_schedules && matches!(name, "UTC" | "Etc/UTC") {
        let hint = "set location.timezone or TZ if the times of your schedules are local";
        return Row::note("time zone", format!("{text}; {hint}"));
    }
    Row::new("time zone", Ok(text))
}

/// What must survive a restart needs a file that can be written.
fn state_file(settings: &Settings) -> Option<Row> {
    let location = settings.state_location()?;
    let shown = absolute(&location.file);
    let result = location.check().map(|()| shown);
    Some(Row::new("state file", result))
}

/// What the bridge needs of each broker, and the sensors on the first one that works.
async fn broker_rows(settings: &Settings) -> Result<Vec<Row>, ExitError> {
    let (mut rows, mut working) = (Vec::new(), None);
    for address in &settings.mqtt.brokers {
        let options = broker_options(settings, address)?;
        let (row, state) = broker(settings, address, options.clone()).await?;
        rows.push(Row::new("broker", row));
        if let Some(state) = state {
            let permissions = permissions(settings, &options, &state, BROKER_BUDGET).await?;
            let named = |text: String| format!("{address}: {text}");
            let row = Row::new("permissions", permissions.map(named).map_err(named));
            working = working.or((!row.failed()).then_some(options));
            rows.push(row);
        }
    }
    if let Some(options) = working {
        for sensor in &settings.rules.sensors {
            if let Some(source) = sensor.topic() {
                rows.push(sensor_row(&options, sensor, source).await?);
            }
        }
    }
    Ok(rows)
}

/// What a bridge without a broker does not do.
fn rows_without_broker(settings: &Settings) -> Vec<Row> {
    let commands = if settings.web.enabled {
        "commands come from the page only"
    } else {
        "and [web] is off, so nothing is shown and only schedules and limits switch"
    };
    let mut rows = vec![Row::note(
        "broker",
        format!("none (mqtt.enabled is false); {commands}"),
    )];
    if settings.homeassistant.enabled {
        let text = "nothing is announced without a broker; homeassistant.enabled has no effect";
        rows.push(Row::note("homeassistant", text.to_owned()));
    }
    rows
}

/// What would be sent where. `tapo2mqtt notify test` sends something.
fn notify_row(target: &NotifyTarget) -> Row {
    let (format, host, events) = (target.format(), target.host(), target.event_names().join(", "));
    Row::new(
        format!("notify {}", target.id),
        Ok(format!("{format} to {host}: {events}")),
    )
}

/// How to connect to this broker and no other.
/// What the bridge connects with, to one of its brokers.
pub(super) fn broker_options(settings: &Settings, address: &Broker) -> Result<LinkOptions, ExitError> {
    let options = link_options(settings, &settings.topics()).map_err(StartError::from)?;
    Ok(LinkOptions {
        brokers: vec![address.clone()],
        ..options
    })
}

/// Whether the broker accepts the connection, and then what `bridge/state` holds.
async fn broker(
    settings: &Settings,
    address: &Broker,
    options: LinkOptions,
) -> Result<(Result<String, String>, Option<Vec<u8>>), ExitError> {
    let will = options.will.clone();
    let probe = probe_retained(options, &will.topic, BROKER_BUDGET).await;
    Ok(match probe.map_err(StartError::from)? {
        RetainedProbe::Failed(fault) => (Err(format!("{address}: {fault}")), None),
        RetainedProbe::Payload(payload) => {
            let other = match serde_json::from_slice::<Value>(&payload) {
                Ok(state) if state.get("state").is_some_and(|state| state == "online") => {
                    "is running on this base topic"
                }
                _ => "was here before, now offline",
            };
            (
                Ok(format!("{address}; another bridge {other}")),
                Some(payload.to_vec()),
            )
        }
        RetainedProbe::Empty => {
            let base = &settings.mqtt.base_topic;
            let text = format!("{address}; no other bridge uses base topic {base}");
            (Ok(text), Some(will.payload.to_vec()))
        }
    })
}

/// The retained value of a sensor. Without one its conditions are unknown until it is published.
async fn sensor_row(
    options: &LinkOptions,
    sensor: &SensorSpec,
    source: &SensorTopic,
) -> Result<Row, ExitError> {
    let what = format!("sensor {}", sensor.id);
    let topic = Topic::try_from(source.topic.clone())
        .map_err(|_| StartError::from(LinkError::Text { what: "topic" }))?;
    let found = probe_retained(options.clone(), &topic, BROKER_BUDGET)
        .await
        .map_err(StartError::from)?;
    let topic = &source.topic;
    Ok(match found {
        RetainedProbe::Payload(payload) => match source.decode(&payload) {
            Ok(value) if !sensor.is_plausible(value) => Row::new(
                what,
                Err(format!("{topic}: {value} {} is not plausible", sensor.unit)),
            ),
            Ok(value) => Row::new(
                what,
                Ok(format!("{topic}: {value} {}", sensor.unit).trim_end().to_owned()),
            ),
            Err(error) => Row::new(what, Err(format!("{topic}: {error}"))),
        },
        RetainedProbe::Empty => Row::note(
            what,
            format!("{topic}: no retained value; unknown until it is published"),
        ),
        RetainedProbe::Failed(fault) => Row::new(what, Err(format!("{topic}: {fault}"))),
    })
}

/// What a device said of itself, or why it did not.
type Looked = (Arc<DeviceConfig>, Result<Seen, String>);

/// Tries all devices at the same time: one that hangs does not hold up the table.
async fn look_at_devices(settings: &Settings) -> Vec<Looked> {
    let tasks = Tasks::default();
    let device_set = settings.device_set();
    let request = device_set.polling.request;
    let looks: Vec<_> = device_set
        .devices
        .into_iter()
        .map(|device| {
            let device = Arc::new(device);
            let looked_at = device.clone();
            (
                device,
                tasks.spawn("check", async move { look(&looked_at, request).await }),
            )
        })
        .collect();
    let mut seen = Vec::new();
    for (device, looking) in looks {
        let result = match looking.await {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(why)) => Err(format!("{}: {why}", device.address)),
            Err(error) => Err(error.to_string()),
        };
        seen.push((device, result));
    }
    seen
}

fn device_rows(settings: &Settings, seen: &[Looked]) -> Vec<Row> {
    let row = |(device, result): &Looked| {
        let result = match result {
            Ok(seen) => match missing_outlets(settings, &device.id, seen) {
                Some(wrong) => Err(wrong),
                None => Ok(described(&device.address, seen)),
            },
            Err(why) => Err(why.clone()),
        };
        Row::new(format!("device {}", device.id), result)
    };
    let mut rows: Vec<Row> = seen.iter().map(row).collect();
    if rows.is_empty() {
        let hint = "none is configured; `tapo2mqtt discover` lists those on the network, ready to paste";
        rows.push(Row::note("devices", hint.to_owned()));
    }
    rows
}

/// The values of sensors that are connected to hubs.
fn hub_sensor_rows(rules: &Rules, seen: &[Looked]) -> Vec<Row> {
    let row = |sensor: &SensorSpec| {
        let SensorSource::Device(path, value) = &sensor.source else {
            return None;
        };
        let what = format!("sensor {}", sensor.id);
        let (_, Ok(seen)) = seen.iter().find(|(device, _)| device.id == path.device)? else {
            return Some(Row::note(what, format!("{path} {value}: its hub cannot be read")));
        };
        let child = seen
            .children
            .iter()
            .find(|child| Some(&child.key) == path.outlet.as_ref());
        let result = match child.map(|child| child.values.get(value)) {
            Some(Some(Some(read))) => Ok(format!("{path} {value}: {read} {}", sensor.unit)
                .trim_end()
                .to_owned()),
            Some(Some(None)) => {
                return Some(Row::note(
                    what,
                    format!("{path} {value}: unknown, the sensor is offline"),
                ));
            }
            Some(None) => Err(format!("{path} does not measure {value}")),
            None => {
                let keys: Vec<&str> = seen.children.iter().map(|child| child.key.as_str()).collect();
                Err(format!(
                    "{} has no sensor of that name; it has: {}",
                    path.device,
                    keys.join(", ")
                ))
            }
        };
        Some(Row::new(what, result))
    };
    rules.sensors.iter().filter_map(row).collect()
}

/// The outlets that settings name and the device does not have.
fn missing_outlets(settings: &Settings, id: &DeviceId, seen: &Seen) -> Option<String> {
    let devices = settings.scheduler_devices();
    let named = &devices.get(id)?.outlets;
    let positions: Vec<u8> = match seen.outlets.as_slice() {
        [_] => Vec::new(),
        several => several.iter().filter_map(|(position, _)| *position).collect(),
    };
    let key_at = |position: u8| -> Option<OutletKey> {
        let own = named.iter().find(|(_, other)| **other == position);
        own.map_or_else(|| position.to_string().parse().ok(), |(key, _)| Some(key.clone()))
    };
    let keys: Vec<OutletKey> = positions.iter().copied().filter_map(key_at).collect();
    let members = settings.rules.groups.iter().flat_map(|group| {
        let own = group.outlets.iter().filter(|path| path.device == *id);
        own.map(move |path| (format!("group {}", group.id), path.clone()))
    });
    let blocks = named.keys().map(|key| {
        let path = OutletPath::outlet(id.clone(), key.clone());
        ("[[device.outlet]]".to_owned(), path)
    });
    let missing = members.chain(blocks).filter_map(|(place, path)| {
        let key = path.outlet.as_ref()?;
        (!keys.contains(key))
            .then(|| format!("{place}: {}", CommandError::unknown_outlet(&path, &keys).message))
    });
    let missing: Vec<String> = missing.collect();
    (!missing.is_empty()).then(|| missing.join("; "))
}

/// With its names in the app: they identify the plug.
fn described(address: &str, seen: &Seen) -> String {
    let name = seen.nickname.as_ref();
    let name = name.map_or_else(String::new, |name| format!("{name}, "));
    let outlets = match seen.outlets.as_slice() {
        [] => {
            let children = seen.children.iter();
            let children = children.map(|child| match &child.model {
                Some(model) => format!("{} {model}", child.key),
                None => child.key.to_string(),
            });
            let children: Vec<String> = children.collect();
            format!(
                "{} sensors and thermostats: {}",
                children.len(),
                children.join(", ")
            )
        }
        [_] => "1 outlet".to_owned(),
        several => {
            let names = several.iter().filter_map(|(position, name)| {
                let (position, name) = ((*position)?, name.as_ref()?);
                Some(format!("{position} {name}"))
            });
            let names: Vec<_> = names.collect();
            let listed = if names.is_empty() { "" } else { ": " };
            format!("{} outlets{listed}{}", several.len(), names.join(", "))
        }
    };
    format!("{address}: {name}{}, {}, {outlets}", seen.model, seen.firmware)
}

/// Windows that the sun makes empty or long in the year to come.
fn schedules(rules: &Rules) -> Vec<Row> {
    let zone = &rules.location.zone;
    let today = zone.to_datetime(Clock::system().now()).date();
    let schedules = rules
        .groups
        .iter()
        .flat_map(|group| group.schedules.iter().map(move |schedule| (group, schedule)));
    let enabled = schedules.filter(|(_, schedule)| schedule.enabled);
    let rows = enabled.map(|(group, schedule)| {
        let days = SunDays::of(&schedule.calendar(&group.id, &rules.location), today, YEAR);
        let what = format!("schedule {}/{}", group.id, schedule.id);
        (!days.is_none()).then(|| Row::note(what, days.to_string()))
    });
    rows.flatten().collect()
}
