//! Settings: raw layers in, validated types out, every mistake reported at once.
//!
//! Three layers, the higher wins key by key: the built-in `config/default.toml`, the user's file (TOML or
//! YAML), and environment variables such as `TAPO2MQTT__MQTT__HOST`. An app of Home Assistant has two more, between the
//! first two: its broker and its options. Lists (`[[device]]`) are replaced as a
//! whole. The user's file is never written.
//!
//! Each section has a module with its validated type and its reader. A reader takes the keys of a table
//! one by one; a mistake is collected with its path and reading goes on.

mod added;
mod address;
mod app_layers;
mod automation;
mod bridge;
mod calendar;
mod condition;
mod credentials;
mod definition;
mod device;
mod diff;
mod discovery;
mod environment;
mod group;
mod kept_account;
mod language;
mod layers;
mod limits;
mod loader;
mod location;
mod mail;
mod mqtt;
mod names;
mod notify;
mod parse;
mod place;
mod problem;
mod reader;
mod register;
mod report;
mod schedule;
mod sensor;
#[cfg(test)]
mod tests;
mod thermostat;
mod topic;
mod weather;
mod web;
mod yaml;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::{Value, json};

pub(crate) use added::INVENTORY;
pub use added::configured_as;
pub use address::{Address, NotAnAddress};
pub use bridge::{HomeAssistant, Log, Polling, RetryWaits};
pub use credentials::Account;
pub use definition::schedule_definition;
pub use device::{Device, NamedChild, NamedOutlet};
pub use diff::SettingsDiff;
pub use discovery::{AddDevices, Discovery};
pub use environment::ENVIRONMENT_PREFIX;
pub use kept_account::AccountFile;
pub use layers::{DEFAULTS, Sources};
pub use loader::Loader;
pub use mail::{MailEncryption, MailLogin, MailServer};
pub use mqtt::{Mqtt, MqttLogin};
pub(crate) use names::nearest;
pub use notify::{Delivery, HttpFormat, NotifyTarget};
pub use problem::{Problem, Problems};
pub use reader::UNKNOWN_KEY;
pub use report::Reporting;
pub use weather::WeatherSettings;
pub use web::Web;

use added::AddedIds;
use calendar::CalendarPlaces;
use credentials::Files;
use group::ValidationContext;
use language::Language;
use place::{Lines, Places};
use reader::{Read, Report, Table};
use register::IdIndex;
use sensor::SensorOrigins;

use planner::{
    DeviceId,
    location::Location,
    rules::{Rules, Schedule},
    sensor::SensorSpec,
    thermostat::Thermostat,
};

use crate::calendar::CalendarSources;
use crate::domain::{
    devices::{
        ChildConfig, Credentials, DeviceConfig, DeviceSet, OutletConfig, PeriodicSearch, PollingConfig,
    },
    inventory::Inventory,
    report_thresholds::ReportThresholds,
    scheduling::ConfiguredDevice,
    topics::Topics,
};
use crate::{
    store::StateLocation,
    system::{AppSupervisor, MqttService},
};

/// Everything that can be configured, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The broker and our place on it.
    pub mqtt: Mqtt,
    /// The account that devices require; `None` where only placeholders are set.
    pub tapo: Tapo,
    /// The plugs and strips, in the order of the file. May be empty.
    pub devices: Vec<Device>,
    /// Where each `[[device]]` is, such as `device "heater" (line 13) of /etc/tapo2mqtt/tapo2mqtt.toml`.
    pub device_places: BTreeMap<DeviceId, String>,
    /// What is published for Home Assistant.
    pub homeassistant: HomeAssistant,
    /// How often devices are asked.
    pub polling: Polling,
    /// Which changes of energy values are published.
    pub report: Reporting,
    /// How long to wait for devices that could not be logged in to.
    pub retry: RetryWaits,
    /// Where devices are searched, and what becomes of those that are found.
    pub discovery: Discovery,
    /// What is logged.
    pub log: Log,
    /// The page.
    pub web: Web,
    /// Figures for monitors, on a listener of their own.
    pub metrics: Web,
    /// The calendars of holidays, which are read again from time to time.
    pub calendar: CalendarSources,
    /// Who is notified of what.
    pub notify: Vec<NotifyTarget>,
    /// Where the forecast comes from; `None` without `[weather]`.
    pub weather: Option<WeatherSettings>,
    /// Groups and their schedules, and what those refer to: sensors, the place, the time zone.
    pub rules: Rules,
    /// Where the bridge keeps what must survive a restart; `None` keeps nothing, as the demo does.
    pub state_file: Option<PathBuf>,
    /// Where an account is kept that came by a request; `None` keeps none, as the demo does.
    pub account_file: Option<AccountFile>,
    /// Read if that file does not exist: where an earlier version kept the state.
    pub earlier_state_file: Option<PathBuf>,
}

/// The TP-Link account of the devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tapo {
    /// `None` where nothing or a placeholder is set, and none is kept.
    pub credentials: Option<Account>,
    /// Whether it came by a request, because the settings have none.
    pub is_kept: bool,
}

impl Settings {
    /// What a device is logged in to with: its own account, else that of `[tapo]`.
    pub fn credentials_of<'a>(&'a self, device: &'a Device) -> Option<&'a Account> {
        device.credentials.as_ref().or(self.tapo.credentials.as_ref())
    }

    /// Whether an account is missing, so that devices cannot be reached.
    pub fn needs_setup(&self) -> bool {
        let own_accounts = self.devices.iter().all(|device| device.credentials.is_some());
        self.tapo.credentials.is_none() && (self.devices.is_empty() || !own_accounts)
    }

    /// Where the bridge keeps its state, and which bridge it is.
    pub fn state_location(&self) -> Option<StateLocation> {
        Some(StateLocation {
            file: self.state_file.clone()?,
            earlier: self.earlier_state_file.clone(),
            base_topic: self.mqtt.base_topic.to_string(),
        })
    }

    /// Every topic of the bridge.
    pub fn topics(&self) -> Topics {
        topics(&self.mqtt, &self.homeassistant)
    }

    /// With the devices that were added while the bridge ran.
    #[must_use]
    pub fn with_inventory(&self, inventory: &Inventory) -> Self {
        let devices = added::all_devices(&self.devices, inventory);
        Self {
            rules: added::with_present_ids(&self.rules, &devices, inventory),
            devices,
            ..self.clone()
        }
    }

    /// The devices, and how to poll them.
    pub fn device_set(&self) -> DeviceSet {
        let polling = PollingConfig {
            poll: self.polling.state,
            slow_poll: self.polling.energy,
            telling: ReportThresholds {
                power_change: self.report.power_change,
                energy_change: self.report.energy_change,
                max_interval: self.report.max_interval,
            },
            request: self.polling.request_timeout,
            probe_longest: self.retry.unreachable,
            refused_longest: self.retry.refused,
            locked: self.retry.locked,
        };
        let search = PeriodicSearch {
            interval: (self.discovery.add != AddDevices::None).then_some(self.discovery.interval),
            account: self.tapo.credentials.as_ref().map(Credentials::from),
        };
        let devices = self.devices.iter().map(|device| self.device_config(device));
        DeviceSet {
            devices: devices.collect(),
            polling,
            area: self.discovery.area.clone(),
            search,
        }
    }

    /// Every device, as the scheduler needs it.
    pub fn scheduler_devices(&self) -> BTreeMap<DeviceId, ConfiguredDevice> {
        let configured = |device: &Device| {
            let outlets = device.outlets.iter();
            ConfiguredDevice {
                target: self.device_config(device).target(),
                outlets: outlets
                    .map(|outlet| (outlet.key.clone(), outlet.position))
                    .collect(),
            }
        };
        let devices = self.devices.iter();
        devices
            .map(|device| (device.id.clone(), configured(device)))
            .collect()
    }

    fn device_config(&self, device: &Device) -> DeviceConfig {
        let outlet = |outlet: &NamedOutlet| OutletConfig {
            position: outlet.position,
            key: outlet.key.clone(),
            name: outlet.name.clone(),
        };
        let child = |child: &NamedChild| ChildConfig {
            key: child.key.clone(),
            device_id: child.device_id.clone(),
            name: child.name.clone(),
        };
        DeviceConfig {
            id: device.id.clone(),
            address: device.address.to_string(),
            mac: device.mac.clone(),
            name: device.name.clone(),
            client: device.client,
            device_settings: device.device_settings,
            credentials: self.credentials_of(device).map(Credentials::from),
            outlets: device.outlets.iter().map(outlet).collect(),
            children: device.children.iter().map(child).collect(),
        }
    }

    /// The settings for everybody to see: no secret, no user name.
    pub fn digest(&self) -> Value {
        json!({
            "mqtt": self.mqtt.digest(),
            "devices": self.devices.iter().map(Device::digest).collect::<Vec<_>>(),
            "homeassistant": self.homeassistant.digest(),
            "polling": self.polling.digest(),
            "report": self.report.digest(),
            "retry": self.retry.digest(),
            "discovery": self.discovery.digest(),
            "log": self.log.digest(),
            "web": self.web.digest(),
            "metrics": self.metrics.digest(),
            "notify": self.notify.iter().map(NotifyTarget::digest).collect::<Vec<_>>(),
            "weather": WeatherSettings::digest(self.weather.as_ref()),
            "timezone": self.rules.location.zone.iana_name(),
            "sensors": self.rules.sensors.iter().map(|sensor| &sensor.id).collect::<Vec<_>>(),
            "groups": self.rules.groups.iter().map(group::digest).collect::<Vec<_>>(),
        })
    }
}

/// Reads, merges and validates the settings.
///
/// # Errors
/// Every problem of every layer. Where the file is missing, or is not TOML or YAML at all, its content counts as
/// that one problem.
pub fn load(sources: &Sources) -> Result<Settings, Problems> {
    load_or(sources, "")
}

/// As [`load`]; where the user has no file, `instead` (TOML) stands for it.
///
/// # Errors
/// As [`load`].
pub fn load_or(sources: &Sources, instead: &str) -> Result<Settings, Problems> {
    load_with(sources, instead, None)
}

/// As [`load_or`], with the broker of Home Assistant where no other layer names one.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    sources: &Sources,
    instead: &str,
    broker: Option<&MqttService>,
) -> Result<Settings, Problems> {
    let merged = layers::merge(sources, instead, broker)?;
    let report = Report::new(
        sources.name(),
        merged.problems,
        Places::new(&merged.root, merged.lines),
        Language::of(sources.file.as_deref()),
    );
    let settings = report.read(&merged.root, |root| read(root, sources));
    let problems = report.into_problems();
    match settings {
        Ok(settings) if problems.is_empty() => Ok(settings),
        _ => Err(Problems(problems)),
    }
}

/// Reads one schedule in the form of a `[[group.schedule]]`, as a request brings it. `sensors` are those that its
/// conditions may name; `location` says whether the sun can be used; `thermostat` is that of its group.
///
/// # Errors
/// Every problem of it, each with its path.
pub fn parse_schedule(
    schedule: &Value,
    sensors: &[SensorSpec],
    location: &Location,
    thermostat: Option<&Thermostat>,
) -> Result<Schedule, Problems> {
    let raw: config::Value = match serde_json::from_value(schedule.clone()) {
        Ok(raw) => raw,
        Err(error) => {
            let problem = Problem {
                source: "schedule".to_owned(),
                path: String::new(),
                place: String::new(),
                value: None,
                message: format!("expected a JSON object ({error})"),
            };
            return Err(Problems(vec![problem]));
        }
    };
    let (devices, mut known, added) = (IdIndex::new(), IdIndex::new(), AddedIds::default());
    for sensor in sensors {
        known.add(sensor.id.as_str(), Some(sensor.clone()));
    }
    let surroundings = ValidationContext {
        devices: &devices,
        added: &added,
        sensors: &known,
        timed: &BTreeSet::new(),
        location: Some(location),
    };
    let report = Report::new(
        "schedule".to_owned(),
        Vec::new(),
        Places::new(&raw, Lines::new()),
        Language::Json,
    );
    let read = report.read(&raw, |table| {
        schedule::read(table, surroundings, Ok(thermostat), &mut Vec::new())
    });
    let problems = report.into_problems();
    match read {
        Ok(schedule) if problems.is_empty() => Ok(schedule),
        _ => Err(Problems(problems)),
    }
}

/// Whom to ask for the broker: the Supervisor, if the bridge is an app of Home Assistant and its settings name no broker.
pub fn supervised_broker(sources: &Sources) -> Option<AppSupervisor> {
    app_layers::supervisor(sources).filter(|_| !layers::names_broker(sources))
}

/// The variables of the environment that are used instead of a key of the settings file, each with that key.
pub fn overriding_variables(sources: &Sources) -> Vec<String> {
    layers::overrides(sources)
}

/// Each text that the user set, in whatever key, as far as it can be read.
pub fn texts(sources: &Sources) -> Vec<String> {
    layers::texts(sources)
}

/// Variables of the environment that look like settings and are ignored, each with what to do about it.
pub fn ignored_variables(sources: &Sources) -> Vec<String> {
    environment::ignored(&sources.environment)
}

/// The content of another program's file, within the bounds that settings files have.
///
/// # Errors
/// If the file cannot be read, or is neither TOML nor YAML, as its name indicates.
pub(crate) fn foreign(file: &std::path::Path) -> Result<Value, Problems> {
    layers::foreign(file)
}

fn read(root: &mut Table<'_>, sources: &Sources) -> Read<Settings> {
    let files = Files {
        directory: sources.directory(),
    };
    let homeassistant = root.section("homeassistant", bridge::homeassistant);
    let prefix = homeassistant
        .as_ref()
        .ok()
        .map(|settings| &settings.discovery_prefix);
    let mqtt = root.section("mqtt", |table| mqtt::read(table, files, prefix));
    let configured = root.section("tapo", |table| credentials::credentials(table, files));
    let (devices, known_devices, device_places) = device::read_all(root, files);
    let polling = root.section("polling", bridge::polling);
    let reporting = root.section("report", report::report);
    let retry = root.section("retry", bridge::retry);
    let discovery = root.section("discovery", discovery::discovery);
    let log = root.section("log", bridge::log);
    let web = root.section("web", |table| web::web(table, files));
    let metrics = root.section("metrics", |table| web::metrics(table, files, web.as_ref().ok()));
    let notify = notify::read_all(root, files);
    let topics = match (&mqtt, &homeassistant) {
        (Ok(mqtt), Ok(homeassistant)) => Some(topics(mqtt, homeassistant)),
        _ => None,
    };
    let state_file = root.section("state", |table| {
        bridge::state_file(table, files, sources, mqtt.as_ref().ok())
    });
    let location = match (&state_file, &mqtt) {
        (Ok((file, earlier)), Ok(mqtt)) => Some(StateLocation {
            file: file.clone(),
            earlier: earlier.clone(),
            base_topic: mqtt.base_topic.to_string(),
        }),
        _ => None,
    };
    let is_open = discovery
        .as_ref()
        .is_ok_and(|discovery| discovery.add == AddDevices::All);
    let added = AddedIds::new(location, is_open);
    // Mistakes of the section are reported there.
    let has_broker = mqtt.as_ref().is_ok_and(|mqtt| mqtt.enabled) || mqtt.is_err();
    let place = location::read(root);
    let weather = weather::read(root, place.as_ref().ok());
    let origins = SensorOrigins {
        devices: &known_devices,
        added: &added,
        ours: topics.as_ref(),
        has_broker,
        weather: !matches!(weather, Ok(None)),
    };
    let places = CalendarPlaces {
        files,
        state: match (&state_file, &mqtt) {
            (Ok((file, _)), Ok(mqtt)) => Some((file.as_path(), mqtt.base_topic.as_str())),
            _ => None,
        },
    };
    let calendar_and_rules = rules(root, place, origins, places);
    let (state_file, earlier_state_file) = state_file?;
    let mqtt = mqtt?;
    let account_file = AccountFile::beside(&state_file, mqtt.base_topic.as_str());
    let tapo = tapo(root, configured?, &account_file)?;
    let (calendar, rules) = calendar_and_rules?;
    Ok(Settings {
        mqtt,
        tapo,
        devices: devices?,
        device_places,
        homeassistant: homeassistant?,
        polling: polling?,
        report: reporting?,
        retry: retry?,
        discovery: discovery?,
        log: log?,
        web: web?,
        metrics: metrics?,
        calendar,
        notify: notify?,
        weather: weather?,
        rules,
        state_file: Some(state_file),
        account_file: Some(account_file),
        earlier_state_file,
    })
}

/// The account of the settings, or else the one that was entered on the page.
fn tapo(root: &mut Table<'_>, configured: Option<Account>, file: &AccountFile) -> Read<Tapo> {
    let is_kept = configured.is_none();
    let kept = || file.read();
    let credentials = configured.map_or_else(kept, |account| Ok(Some(account)));
    let credentials = credentials.map_err(|expected| {
        root.problem(
            "tapo",
            format!("the account of {}: {expected}", file.path().display()),
        )
    })?;
    Ok(Tapo { credentials, is_kept })
}

fn topics(mqtt: &Mqtt, homeassistant: &HomeAssistant) -> Topics {
    Topics::new(
        mqtt.base_topic.clone(),
        homeassistant.discovery_prefix.clone(),
        homeassistant.status_topic.clone(),
    )
}

fn rules(
    root: &mut Table<'_>,
    location: Read<Location>,
    origins: SensorOrigins<'_>,
    places: CalendarPlaces<'_>,
) -> Read<(CalendarSources, Rules)> {
    let (sensors, known_sensors, timed) = sensor::read_all(root, origins);
    let (calendar, location) = match (calendar::read(root, places, &known_sensors), location) {
        (Ok(calendar), Ok(mut location)) => {
            location.holidays = calendar.holidays;
            (Ok(calendar.sources), Ok(location))
        }
        (Err(reported), _) | (_, Err(reported)) => (Err(reported), Err(reported)),
    };
    let surroundings = ValidationContext {
        devices: origins.devices,
        added: origins.added,
        sensors: &known_sensors,
        timed: &timed,
        location: location.as_ref().ok(),
    };
    let groups = group::read_all(root, surroundings);
    let rules = Rules {
        location: location?,
        sensors: sensors?,
        groups: groups?,
    };
    Ok((calendar?, rules))
}
