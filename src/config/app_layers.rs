//! The layers that only an app of Home Assistant has: the page, which Home Assistant shows, the broker of Home Assistant,
//! and the options that its user set.

use std::path::Path;

use config::{Map, Value, ValueKind};
use serde_json::Value as Json;

use super::{
    layers::{Sources, read_text},
    problem::{Problem, Problems},
};
use crate::system::{AppSupervisor, MqttService};

/// How a problem calls the options.
pub(super) const OPTIONS_NAME: &str = "options of the app";
/// How a problem calls the broker.
pub(super) const SERVICE_NAME: &str = "MQTT service of Home Assistant";
/// What is different by default. The Supervisor reaches an app that uses the network of the host at this address, and at the
/// port that the app's `config.yaml` names.
pub(super) const DEFAULTS: &str = "[web]\nenabled = true\ningress = true\nlisten = \"172.30.32.1:18099\"\n";
/// Written by the Supervisor at each start.
const OPTIONS_FILE: &str = "options.json";
/// Far more than the options have, in bytes.
const OPTIONS_MAX: u64 = 1 << 20;

/// The Supervisor, if the bridge is an app of Home Assistant.
pub(super) fn supervisor(sources: &Sources) -> Option<AppSupervisor> {
    AppSupervisor::of(|name| sources.variable(name))
}

/// The options as a layer: they have the sections and keys of the settings. An empty text is not set.
///
/// # Errors
/// If they cannot be read.
pub(super) fn options(sources: &Sources) -> Result<Map<String, Value>, Problems> {
    let Some(directory) = sources
        .variable("STATE_DIRECTORY")
        .filter(|_| supervisor(sources).is_some())
    else {
        return Ok(Map::new());
    };
    let file = Path::new(directory).join(OPTIONS_FILE);
    let problem = |message: String| {
        Problems(vec![Problem {
            source: file.display().to_string(),
            path: String::new(),
            place: String::new(),
            value: None,
            message,
        }])
    };
    let text = read_text(&file, OPTIONS_MAX).map_err(|expected| problem(format!("expected {expected}")))?;
    match serde_json::from_str(&text) {
        Ok(Json::Object(options)) => Ok(table(options)),
        _ => Err(problem("expected a JSON object".to_owned())),
    }
}

fn table(entries: serde_json::Map<String, Json>) -> Map<String, Value> {
    let set = |(key, value): (String, Json)| Some((key, value_of(value)?));
    entries.into_iter().filter_map(set).collect()
}

fn value_of(json: Json) -> Option<Value> {
    let kind = match json {
        Json::Null => return None,
        Json::String(text) if text.is_empty() => return None,
        Json::Bool(value) => ValueKind::Boolean(value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => ValueKind::I64(integer),
            None => ValueKind::Float(number.as_f64()?),
        },
        Json::String(text) => ValueKind::String(text),
        Json::Array(items) => ValueKind::Array(items.into_iter().filter_map(value_of).collect()),
        // A table has no origin of its own, so that its keys merge.
        Json::Object(entries) => return Some(Value::new(None, table(entries))),
    };
    Some(Value::new(Some(&OPTIONS_NAME.to_owned()), kind))
}

/// The broker of Home Assistant as a layer.
pub(super) fn service(service: &MqttService) -> Map<String, Value> {
    let value = |kind: ValueKind| Value::new(Some(&SERVICE_NAME.to_owned()), kind);
    let mut mqtt = Map::new();
    mqtt.insert("host".to_owned(), value(service.host.clone().into()));
    mqtt.insert("port".to_owned(), value(i64::from(service.port).into()));
    if service.tls {
        mqtt.insert("tls".to_owned(), value(true.into()));
    }
    if let Some((username, password)) = &service.login {
        mqtt.insert("username".to_owned(), value(username.clone().into()));
        mqtt.insert("password".to_owned(), value(password.expose().into()));
    }
    Map::from_iter([("mqtt".to_owned(), Value::new(None, mqtt))])
}

/// Whether a layer says which broker is used, or that none is.
pub(super) fn names_broker(layer: &Map<String, Value>) -> bool {
    let Some(ValueKind::Table(mqtt)) = layer.get("mqtt").map(|mqtt| &mqtt.kind) else {
        return false;
    };
    let enabled = mqtt.get("enabled").cloned().map(Value::into_bool);
    let named = ["host", "hosts"].iter().any(|key| mqtt.contains_key(*key));
    named || matches!(enabled, Some(Ok(false)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        config::{Settings, load_with, supervised_broker},
        system::{Secret, telemetry::Level},
    };

    /// An app with a token, in a directory with these options.
    struct App {
        directory: tempfile::TempDir,
        sources: Sources,
    }

    impl App {
        fn new(options: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(OPTIONS_FILE), options).unwrap();
            let state = directory.path().display().to_string();
            let environment = [("SUPERVISOR_TOKEN", "token"), ("STATE_DIRECTORY", &state)];
            let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let sources = Sources {
                file: None,
                environment: environment.into(),
            };
            Self { directory, sources }
        }

        fn with_file(mut self, toml: &str) -> Self {
            let file = self.directory.path().join("tapo2mqtt.toml");
            fs::write(&file, toml).unwrap();
            self.sources.file = Some(file);
            self
        }

        fn load(&self) -> Result<Settings, Problems> {
            let service = MqttService {
                host: "core-mosquitto".to_owned(),
                port: 1884,
                tls: false,
                login: Some(("addons".to_owned(), Secret::new("of the service"))),
            };
            load_with(&self.sources, "", Some(&service))
        }
    }

    #[test]
    fn options_are_settings_and_the_broker_is_home_assistants() {
        let app = App::new(
            r#"{"tapo": {"username": "me@example.org", "password": "secret"}, "mqtt": {"host": "", "password": null},
                "log": {"level": "debug"}}"#,
        );
        let settings = app.load().unwrap();
        assert_eq!(settings.tapo.credentials.unwrap().password.expose(), "secret");
        assert_eq!(settings.mqtt.shown_brokers(), "core-mosquitto:1884");
        assert_eq!(
            settings.mqtt.login.unwrap().password.unwrap().expose(),
            "of the service"
        );
        assert_eq!(settings.log.level, Level::Debug);
        assert!(settings.state_file.unwrap().starts_with(app.directory.path()));
        assert!(supervised_broker(&app.sources).is_some());
    }

    #[test]
    fn the_file_goes_before_options_and_these_before_the_service() {
        let options =
            r#"{"tapo": {"username": "me@example.org", "password": "secret"}, "mqtt": {"host": "mine"}}"#;
        let settings = App::new(options).load().unwrap();
        // The login at one broker is not for another one.
        assert_eq!(
            (settings.mqtt.shown_brokers().as_str(), settings.mqtt.login),
            ("mine:1883", None)
        );
        let file = "[mqtt]\nhost = \"experts\"\n[tapo]\npassword = \"of the file\"\n";
        let mut app = App::new(options).with_file(file);
        let settings = app.load().unwrap();
        assert_eq!(settings.mqtt.shown_brokers(), "experts:1883");
        assert_eq!(
            settings.tapo.credentials.unwrap().password.expose(),
            "of the file"
        );
        assert!(
            supervised_broker(&app.sources).is_none(),
            "the Supervisor is not asked for what is set"
        );
        app.sources
            .environment
            .push(("TAPO2MQTT__MQTT__HOST".to_owned(), "of-all".to_owned()));
        assert_eq!(app.load().unwrap().mqtt.shown_brokers(), "of-all:1883");
    }

    #[test]
    fn home_assistant_shows_the_page_unless_the_file_says_otherwise() {
        let web = App::new("{}").load().unwrap().web;
        assert_eq!(
            (web.enabled, web.ingress, web.listen.to_string().as_str()),
            (true, true, "172.30.32.1:18099")
        );
        assert!(web.password.is_none());
        let file = "[web]\nlisten = \"0.0.0.0:18099\"\npassword = \"correct horse\"\n";
        let web = App::new("{}").with_file(file).load().unwrap().web;
        assert!(web.ingress && web.password.is_some() && web.listen.ip().is_unspecified());
        assert!(!load_with(&Sources::default(), "", None).unwrap().web.enabled);
    }

    #[test]
    fn problems_name_the_options_and_show_no_secret() {
        let options = r#"{"log": {"level": "loud"}, "tapo": {"password": "hunter2"}}"#;
        let text = App::new(options).load().unwrap_err().to_string();
        assert!(
            text.contains("options of the app: log.level = \"loud\""),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
        let text = App::new("[]").load().unwrap_err().to_string();
        assert!(text.contains("options.json: expected a JSON object"), "{text}");
    }
}
