//! `check`: the settings, the broker and every device, tried once and shown in a table.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{ExitError, load, output, permissions::permissions, sources};
use crate::{
    app::bridge::StartError,
    cli::SettingsArgs,
    config::{self, Settings},
    devices::{Seen, look},
    mqtt::{
        link::{RetainedProbe, probe_retained},
        link_options,
    },
    system::{clock::Clock, tasks::Tasks},
};
use planner::{rules::Rules, sun_days::SunDays};

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
    let (broker, state) = broker(&settings).await?;
    rows.push(Row::new("broker", broker));
    if let Some(state) = state {
        let permissions = permissions(&settings, &state, BROKER_BUDGET).await?;
        rows.push(Row::new("permissions", permissions));
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

/// Whether the broker accepts the connection, and then what `bridge/state` holds.
async fn broker(settings: &Settings) -> Result<(Result<String, String>, Option<Vec<u8>>), ExitError> {
    let options = link_options(settings, &settings.topics()).map_err(StartError::from)?;
    let address = format!("{}:{}", options.host, options.port);
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
