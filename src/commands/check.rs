//! `check`: the settings, the broker and every device, tried once and shown in a table.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{ExitError, load, output, sources};
use crate::{
    app::bridge::StartError,
    cli::SettingsArgs,
    config::{self, Settings},
    devices::{Seen, look},
    domain::topics::{ParsedTopic, Verb},
    mqtt::{
        link::{LinkError, LoopbackCheck, RetainedProbe, Topic, check_loopback, probe_retained},
        link_options,
    },
    system::{clock::Clock, tasks::Tasks},
};
use planner::{DeviceId, OutletPath, rules::Rules, sun_days::SunDays};

/// How long the broker may take to let us in.
const BROKER_BUDGET: Duration = Duration::from_secs(5);

/// How far ahead the windows of schedules are looked at.
const YEAR: usize = 366;

/// One line of the table.
struct Row {
    what: String,
    result: Result<String, String>,
    /// Nothing is wrong, but somebody should know it.
    is_note: bool,
}

impl Row {
    fn new(what: impl Into<String>, result: Result<String, String>) -> Self {
        Self {
            what: what.into(),
            result,
            is_note: false,
        }
    }

    fn note(what: impl Into<String>, text: String) -> Self {
        Self {
            is_note: true,
            ..Self::new(what, Ok(text))
        }
    }
}

pub(super) async fn check(args: &SettingsArgs) -> Result<(), ExitError> {
    let settings = load(args)?;
    let file = args
        .config
        .as_ref()
        .map_or("built-in defaults and environment".into(), |file| {
            file.display().to_string()
        });
    let mut rows = vec![Row::new("settings", Ok(file))];
    let ignored = config::ignored_variables(&sources(args));
    rows.extend(ignored.into_iter().map(|text| Row::note("environment", text)));
    let broker = broker(&settings).await?;
    let connected = broker.is_ok();
    rows.push(Row::new("broker", broker));
    if let (true, Some(device)) = (connected, settings.devices.first()) {
        rows.push(Row::new("permissions", permissions(&settings, &device.id).await?));
    }
    rows.extend(devices(&settings).await);
    rows.extend(schedules(&settings.rules));
    if settings.needs_setup() {
        let why =
            "no Tapo account: set tapo.username and tapo.password; until then the bridge runs in setup mode";
        rows.push(Row::new("account", Err(why.to_owned())));
    }
    output::print(&table(&rows))?;
    match rows.iter().filter(|row| row.result.is_err()).count() {
        0 => Ok(()),
        failed => Err(ExitError::Unwell(format!(
            "{failed} of {} checks failed",
            rows.len()
        ))),
    }
}

async fn broker(settings: &Settings) -> Result<Result<String, String>, ExitError> {
    let options = link_options(settings, &settings.topics()).map_err(StartError::from)?;
    let address = format!("{}:{}", options.host, options.port);
    let state = options.will.topic.clone();
    Ok(
        match probe_retained(options, &state, BROKER_BUDGET)
            .await
            .map_err(StartError::from)?
        {
            RetainedProbe::Failed(fault) => Err(format!("{address}: {fault}")),
            RetainedProbe::Payload(payload) => Ok(format!(
                "{address}; another bridge {}",
                match serde_json::from_slice::<Value>(&payload) {
                    Ok(state) if state.get("state").is_some_and(|state| state == "online") =>
                        "is running on this base topic",
                    _ => "was here before, now offline",
                }
            )),
            RetainedProbe::Empty => Ok(format!(
                "{address}; no other bridge uses base topic {}",
                settings.mqtt.base_topic
            )),
        },
    )
}

/// Sends an empty command, which is nothing to a bridge that runs, and sees whether it comes through. Brokers
/// deny a topic silently.
async fn permissions(settings: &Settings, device: &DeviceId) -> Result<Result<String, String>, ExitError> {
    let topics = settings.topics();
    let options = link_options(settings, &topics).map_err(StartError::from)?;
    let topic = topics.topic_of(&ParsedTopic::Outlet {
        path: OutletPath::device(device.clone()),
        verb: Verb::Set,
    });
    let to =
        Topic::try_from(topic.clone()).map_err(|_| StartError::from(LinkError::Text { what: "topic" }))?;
    Ok(
        match check_loopback(options, &to, BROKER_BUDGET)
            .await
            .map_err(StartError::from)?
        {
            LoopbackCheck::Received => Ok("publish and subscribe allowed".to_owned()),
            LoopbackCheck::NotReceived => Err(format!(
                "a message published to {topic} is not received; allow this user to publish and subscribe there in the \
                 broker's access rules"
            )),
            LoopbackCheck::Failed(fault) => Err(fault.to_string()),
        },
    )
}

/// Tries all devices at the same time: one that hangs does not hold up the table.
async fn devices(settings: &Settings) -> Vec<Row> {
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
    let mut rows = Vec::new();
    for (device, looking) in looks {
        let result = match looking.await {
            Ok(Ok(seen)) => match settings.rules.strip_as_outlet(&device.id, seen.outlets.len()) {
                Some(wrong) => Err(wrong),
                None => Ok(described(&device.address, &seen)),
            },
            Ok(Err(why)) => Err(format!("{}: {why}", device.address)),
            Err(error) => Err(error.to_string()),
        };
        rows.push(Row::new(format!("device {}", device.id), result));
    }
    rows
}

/// With its names in the app: they identify the plug.
fn described(address: &str, seen: &Seen) -> String {
    let name = seen.nickname.as_ref();
    let name = name.map_or_else(String::new, |name| format!("{name}, "));
    let outlets = match seen.outlets.as_slice() {
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
        let days = SunDays::of(&schedule.calendar(&rules.location), today, YEAR);
        let what = format!("schedule {}/{}", group.id, schedule.id);
        (!days.is_none()).then(|| Row::note(what, days.to_string()))
    });
    rows.flatten().collect()
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
    let line = |row: &Row| {
        let (word, text) = match &row.result {
            Ok(text) if row.is_note => ("note", text),
            Ok(text) => ("ok", text),
            Err(text) => ("failed", text),
        };
        format!("{:<width$}  {word:<6}  {text}\n", row.what)
    };
    rows.iter().map(line).collect()
}
