//! The settings as a user meets them: texts in, settings or problems out.

use std::{fs, path::Path, path::PathBuf, time::Duration};

use super::*;
use planner::units::{MilliWatts, WattHours};

mod documentation;
mod outline;
mod reference;
mod rules;
mod scheduling;
mod schema;
mod secrets;

/// A settings file in a directory of its own.
struct Home {
    directory: tempfile::TempDir,
    sources: Sources,
}

impl Home {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        fs::write(&file, content).unwrap();
        let sources = Sources {
            file: Some(file),
            environment: Vec::new(),
        };
        Self { directory, sources }
    }

    fn toml(content: &str) -> Self {
        Self::new("bridge.toml", content)
    }

    fn with_file(self, name: &str, content: &str) -> Self {
        fs::write(self.directory.path().join(name), content).unwrap();
        self
    }

    fn with_env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn load(&self) -> Result<Settings, Problems> {
        load(&self.sources)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The problems as `path = value: expected`, without the name of the file.
    fn complaints(&self) -> Vec<String> {
        let prefix = format!("{}: ", self.path("").display());
        let Err(problems) = self.load() else {
            return Vec::new();
        };
        let lines = problems.0.iter().map(ToString::to_string);
        lines
            .map(|line| {
                line.replace(prefix.trim_end_matches(": "), "")
                    .replace("bridge.toml: ", "")
            })
            .collect()
    }
}

fn load_toml(content: &str) -> Settings {
    Home::toml(content).load().unwrap()
}

/// The paths of the problems of a TOML file.
fn paths(content: &str) -> Vec<String> {
    match Home::toml(content).load() {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.into_iter().map(|problem| problem.path).collect(),
    }
}

#[test]
fn nothing_but_defaults_is_a_bridge_in_setup_mode() {
    let settings = load(&Sources::default()).unwrap();
    assert_eq!(settings.mqtt.shown_brokers(), "127.0.0.1:1883");
    assert_eq!(settings.mqtt.client_id, "tapo2mqtt-tapo2mqtt");
    assert_eq!(settings.mqtt.keep_alive, Duration::from_secs(15));
    assert_eq!((settings.mqtt.login, settings.mqtt.tls), (None, None));
    assert_eq!(settings.tapo.credentials, None);
    assert_eq!(settings.devices, []);
    assert_eq!(
        settings.homeassistant.status_topic.as_str(),
        "homeassistant/status"
    );
    assert_eq!(settings.polling.state, Duration::from_secs(5));
    assert_eq!(settings.report.power_change, MilliWatts::from_watts(1));
    assert_eq!(settings.report.energy_change, WattHours::new(10).into());
    assert_eq!(settings.report.max_interval, Duration::from_mins(5));
    assert_eq!(
        settings.state_file.as_deref(),
        Some(Path::new("tapo2mqtt-state.json"))
    );
}

#[test]
fn a_file_wins_over_defaults_and_the_environment_over_the_file() {
    let home = Home::toml("[mqtt]\nhost = 'file.lan'\nport = 1\n[log]\nlevel = 'warn'")
        .with_env("TAPO2MQTT__MQTT__PORT", "8884")
        .with_env("TAPO2MQTT__MQTT__TLS", "true")
        .with_env("TAPO2MQTT__POLLING__STATE", "7")
        .with_env("TAPO2MQTT__POLLING__ENERGY", "2m")
        .with_env("TAPO2MQTT__HOMEASSISTANT__CHILD_DEVICES", "True")
        .with_env("TAPO2MQTT__LOG__LEVEL", "")
        .with_env("TAPO2MQTT_PORT", "tcp://10.0.0.1:1883")
        .with_env("PATH", "/bin");
    let settings = home.load().unwrap();
    assert_eq!(settings.mqtt.shown_brokers(), "file.lan:8884");
    assert_eq!(settings.mqtt.base_topic.as_str(), "tapo2mqtt");
    assert_eq!(settings.mqtt.tls, Some(mqtt_link::Tls::default()));
    assert_eq!(settings.polling.state, Duration::from_secs(7));
    assert_eq!(settings.polling.energy, Duration::from_mins(2));
    assert!(settings.homeassistant.child_devices);
    assert_eq!(
        settings.log.level,
        crate::system::telemetry::Level::Warn,
        "an empty variable is unset"
    );
}

#[test]
fn eight_mistakes_are_eight_problems() {
    let home = Home::toml(
        r#"
        [mqtt]
        hsot = "broker.lan"
        port = 0
        base_topic = "tapo/#"
        [tapo]
        username = "someone@mail.org"
        [[device]]
        id = "Heater"
        address = "192.168.1.50"
        [[device]]
        id = "lamp"
        address = "192.168.1.50:80"
        [[device]]
        id = "strip"
        [polling]
        state = "soon"
        "#,
    );
    let topic = "a topic of 1 to 200 bytes without +, #, a leading $, empty levels and control characters";
    let expected = [
        format!("mqtt.base_topic (line 5) = \"tapo/#\": expected {topic}"),
        "mqtt.port (line 4) = 0: expected a whole number from 1 to 65535".to_owned(),
        "mqtt.hsot (line 3): unknown key, expected one of enabled, host, port, hosts, username, password, password_file, site, \
         base_topic, client_id, keep_alive, tls; did you mean host?"
            .to_owned(),
        "tapo.password (line 6): expected the password that goes with the username".to_owned(),
        "device 1: id (line 9) = \"Heater\": expected 1 to 64 of a-z, 0-9, _ and -; this contains 'H'; only a-z, 0-9, _ and - \
         are allowed"
            .to_owned(),
        "device \"lamp\": address (line 13) = \"192.168.1.50:80\": duplicate address, already used by device 1 (line 8)"
            .to_owned(),
        "device \"strip\": address (line 14): missing; expected a host, host:port or [v6]:port, such as 192.168.1.50 or \
         plug.lan:80"
            .to_owned(),
        "polling.state (line 17) = \"soon\": expected a duration from 1s to 1h, such as \"1h30m\", \"45s\" or a number of seconds"
            .to_owned(),
    ];
    let mut complaints = home.complaints();
    let mut expected = expected.to_vec();
    complaints.sort();
    expected.sort();
    assert_eq!(complaints, expected);
    let shown = home.load().unwrap_err().to_string();
    assert!(shown.starts_with("the settings have 8 problems:\n"), "{shown}");
}

#[test]
fn the_environment_is_held_to_the_same_rules() {
    let cases = [
        (
            "TAPO2MQTT__MQTT__HSOT",
            "x",
            "mqtt.hsot: unknown key, expected one of enabled, host,",
        ),
        (
            "TAPO2MQTT__MQTT__PORT",
            "x",
            "mqtt.port = \"x\": expected a whole number",
        ),
        (
            "TAPO2MQTT__MQTT__HOST__NAME",
            "x",
            "mqtt.host = a table: expected a host name",
        ),
        ("TAPO2MQTT__MQTT", "x", "expected TAPO2MQTT__SECTION__KEY"),
        ("TAPO2MQTT__MQTT__", "x", "expected TAPO2MQTT__SECTION__KEY"),
        (
            "TAPO2MQTT__A__B__C__D__E",
            "x",
            "expected TAPO2MQTT__SECTION__KEY",
        ),
        ("TAPO2MQTT__", "x", "expected TAPO2MQTT__SECTION__KEY"),
        ("TAPO2MQTT__MQQT__HOST", "x", "mqqt: unknown key, expected one of"),
        (
            "TAPO2MQTT__mqtt__host",
            "x",
            "expected the name in capitals: TAPO2MQTT__MQTT__HOST",
        ),
        (
            "TAPO2MQTT__DEVICE__0__ID",
            "x",
            "expected device in the settings file: a list cannot come",
        ),
        (
            "TAPO2MQTT__DISCOVERY__TARGETS",
            "10.0.0.1, x",
            "discovery.targets item 2 = \"x\": expected the IP address",
        ),
        (
            "TAPO2MQTT__MQTT__PASSWORD",
            "\u{fffd}",
            "expected a value in UTF-8",
        ),
    ];
    for (name, value, expected) in cases {
        let sources = Sources {
            file: None,
            environment: vec![(name.to_owned(), value.to_owned())],
        };
        let problems = load(&sources).unwrap_err();
        let expected = format!("environment variable {name}: {expected}");
        assert_eq!(problems.0.len(), 1, "{problems}");
        assert!(
            problems.0[0].to_string().starts_with(&expected),
            "{problems}\nshould be\n{expected}"
        );
    }
}

#[test]
fn the_environment_is_reported_beside_the_file() {
    let home = Home::toml("[mqtt]\nport = 'x'")
        .with_env("TAPO2MQTT__DEVICE__0", "x")
        .with_env("TAPO2MQTT__LOG__LEVEL", "all");
    assert_eq!(home.complaints().len(), 3, "{:?}", home.complaints());
    let broken = Home::toml("[mqtt").with_env("TAPO2MQTT__DEVICE__0", "x");
    assert_eq!(broken.complaints().len(), 2, "{:?}", broken.complaints());
}

#[test]
fn a_plain_list_may_come_from_the_environment() {
    let home = Home::toml("").with_env("TAPO2MQTT__DISCOVERY__TARGETS", "10.0.0.255, 10.0.1.255");
    let targets = home.load().unwrap().discovery.area.targets;
    assert_eq!(
        targets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.255", "10.0.1.255"]
    );
}

#[test]
fn a_variable_with_one_underscore_is_named() {
    let names = [
        "TAPO2MQTT_MQTT_PORT",
        "TAPO2MQTT_TAPO__PASSWORD",
        // Of an orchestrator, of ours, of another program.
        "TAPO2MQTT_PORT",
        "TAPO2MQTT_SERVICE_HOST",
        "TAPO2MQTT_CONFIG",
        "TAPO2MQTT__MQTT__PORT",
        "TAPO2MQTT_MQTT_",
        "MQTT_PORT",
    ];
    let sources = Sources {
        file: None,
        environment: names.map(|name| (name.to_owned(), "1".to_owned())).into(),
    };
    assert_eq!(
        ignored_variables(&sources),
        [
            "TAPO2MQTT_MQTT_PORT is ignored; two underscores make it a setting: TAPO2MQTT__MQTT__PORT",
            "TAPO2MQTT_TAPO__PASSWORD is ignored; two underscores make it a setting: TAPO2MQTT__TAPO__PASSWORD",
        ]
    );
}

#[test]
fn what_a_person_means_is_accepted_or_explained() {
    let settings = load_toml(
        "[log]\nlevel = 'INFO'\n[[device]]\nid = 'a'\naddress = 'a.lan'\n[[group]]\nid = 'g'\noutlets = ['a']\n\
         [[group.schedule]]\nid = 's'\nstart = '6:00'\nend = '8:30'\n",
    );
    assert_eq!(settings.log.level.as_str(), "info");
    assert_eq!(
        settings.rules.groups[0].schedules[0].window.to_string(),
        "06:00 to 08:30"
    );
    let complaints = Home::toml("[[device]]\nid = 12\nname = 5\naddress = 'a.lan'").complaints();
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(
        complaints[0].contains("_ and -; quote it: \"12\""),
        "{complaints:?}"
    );
    assert!(
        complaints[1].contains("on one line; quote it: \"5\""),
        "{complaints:?}"
    );
}

#[test]
fn advice_has_the_header_and_the_language_of_the_file() {
    let schedule =
        "outlets: [a]\n    schedule:\n      - id: s\n        start: '06:00'\n        when: {sensor: x}\n";
    let yaml = |rest: &str| Home::new("bridge.yaml", rest).complaints();
    let complaints = yaml(&format!(
        "device:\n  - {{id: a, address: a.lan}}\ngroup:\n  - id: g\n    {schedule}"
    ));
    let complaints: Vec<_> = complaints
        .iter()
        .map(|line| line.trim_start_matches("bridge.yaml: "))
        .collect();
    assert_eq!(
        complaints,
        [
            "group \"g\": schedule \"s\": end (line 7): expected an end such as \"08:00\", or for: \"2h\" instead",
            "group \"g\": schedule \"s\": when (line 9): expected a list below `when:`, each item with a - in front",
        ]
    );
    let toml = Home::toml(
        "[[device]]\nid = 'a'\naddress = 'a.lan'\n[[group]]\nid = 'g'\noutlets = ['a']\n[[group.schedule]]\n\
         id = 's'\nall_day = true\n[group.schedule.when]\nsensor = 'x'",
    );
    assert_eq!(
        toml.complaints(),
        [
            "group \"g\": schedule \"s\": when (line 10): expected a list of tables: write [[group.schedule.when]] in double \
          brackets"
        ]
    );
    let json: serde_json::Value = serde_json::json!({"id": "s", "all_day": true, "when": {"sensor": "x"}});
    let location = planner::location::Location {
        coordinates: None,
        zone: jiff::tz::TimeZone::UTC,
        holidays: planner::holidays::Holidays::default(),
    };
    let problems = parse_schedule(&json, &[], &location, None).unwrap_err();
    assert!(
        problems
            .to_string()
            .contains("when: expected an array of objects"),
        "{problems}"
    );
}

#[test]
fn no_file_takes_more_memory_than_a_bridge_has() {
    let bomb: Vec<String> = (1..40)
        .map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1))
        .collect();
    let bomb = bomb.concat();
    let long = "k".repeat(500_000);
    let items = "{a = 1},".repeat(30_000);
    for (name, content, expected) in [
        (
            "bridge.yaml",
            format!("a0: &a0 lol\n{bomb}"),
            "at most 100000 values",
        ),
        (
            "bridge.yaml",
            format!("a: &a [{}]\n", "1,".repeat(400_000)),
            "at most 100000 values",
        ),
        (
            "bridge.toml",
            format!("a = [{}]", "1,".repeat(400_000)),
            "at most 100000 values",
        ),
        // Not a step through the file for each value.
        (
            "bridge.toml",
            format!("a = [{}]", "1,".repeat(99_000)),
            "unknown key",
        ),
        ("bridge.toml", format!("{long} = [{items}]"), "unknown key"),
        (
            "bridge.yaml",
            format!("? {long}\n:\n{}", "  - {a: 1}\n".repeat(30_000)),
            "unknown key",
        ),
    ] {
        let problems = Home::new(name, content).load().unwrap_err().to_string();
        assert!(problems.contains(expected), "{problems}");
        assert!(problems.len() < 1000, "{problems}");
    }
}

#[test]
fn a_file_that_is_given_must_be_readable() {
    let missing = Sources {
        file: Some("/nonexistent/bridge.toml".into()),
        environment: Vec::new(),
    };
    let problems = load(&missing).unwrap_err().to_string();
    assert!(
        problems.contains("/nonexistent/bridge.toml: expected a file that exists"),
        "{problems}"
    );

    let large = vec![b'#'; (1 << 20) + 1];
    let cases: [(&str, &[u8], &str); 6] = [
        (
            "bridge.json",
            b"{}",
            "a settings file that ends in .toml, .yaml or .yml",
        ),
        (
            "bridge.toml",
            b"# x\nname = 'K\xfcche'\n",
            "a file in UTF-8; line 2 is in another encoding",
        ),
        ("bridge.toml", &large, "a file of at most 1024 KiB"),
        ("bridge.toml", b"[mqtt]\nhost = ", "valid TOML (line 2, column 8:"),
        ("bridge.yaml", b"mqtt:\n  host: [", "valid YAML (line 3"),
        ("bridge.yaml", b"just words", "one YAML document"),
    ];
    for (name, content, expected) in cases {
        let home = Home::new(name, content);
        let problems = home.load().unwrap_err();
        assert_eq!(problems.0.len(), 1);
        assert!(
            problems.0[0].message.starts_with(&format!("expected {expected}")),
            "{problems}"
        );
    }
    let directory = Home::toml("");
    fs::create_dir(directory.path("d.toml")).unwrap();
    let sources = Sources {
        file: Some(directory.path("d.toml")),
        environment: Vec::new(),
    };
    assert!(
        load(&sources).unwrap_err().0[0]
            .message
            .starts_with("expected a file that can be read")
    );
}

#[test]
fn yaml_is_as_good_as_toml_and_nothing_means_not_set() {
    let yaml = Home::new(
        "bridge.yml",
        "mqtt: { host: broker.lan, port: , keep_alive: 20 }\ntapo:\ndevice:\n  - {id: a, address: 10.0.0.1, name: ~}\n",
    );
    let settings = yaml.load().unwrap();
    assert_eq!(settings.mqtt.shown_brokers(), "broker.lan:1883");
    assert_eq!(settings.mqtt.keep_alive, Duration::from_secs(20));
    assert_eq!(settings.devices[0].name, None);
    for empty in ["", "\n", "# nothing\n", "---\n"] {
        let home = Home::new("bridge.yaml", empty);
        assert!(home.load().is_ok(), "{empty:?}: {:?}", home.complaints());
    }
    assert!(
        Home::toml("\u{feff}[mqtt]\nport = 1").load().is_ok(),
        "a byte order mark is no mistake"
    );
}

#[test]
fn the_state_file_is_kept_apart_from_the_settings() {
    let home = Home::toml("");
    assert_eq!(
        home.load().unwrap().state_file,
        Some(home.path("tapo2mqtt-state.json"))
    );
    let systemd = Home::toml("").with_env("STATE_DIRECTORY", "/var/lib/tapo2mqtt:/var/lib/other");
    assert_eq!(
        systemd.load().unwrap().state_file,
        Some(PathBuf::from("/var/lib/tapo2mqtt/tapo2mqtt-state.json"))
    );
    // Of two bridges in one directory, each has its own.
    let garden = Home::toml("[mqtt]\nbase_topic = 'home/garden'");
    let settings = garden.load().unwrap();
    assert_eq!(settings.state_file, Some(garden.path("home-garden-state.json")));
    assert_eq!(
        settings.earlier_state_file,
        Some(garden.path("tapo2mqtt-state.json"))
    );
    let own = Home::toml("[state]\nfile = 'state/s.json'\n[mqtt]\nbase_topic = 'garden'");
    assert_eq!(own.load().unwrap().earlier_state_file, None);
    assert_eq!(own.load().unwrap().state_file, Some(own.path("state/s.json")));
    assert_eq!(paths("[state]\nfile = 'bridge.toml'"), ["state.file"]);
}

#[test]
fn the_users_file_is_never_written() {
    let content = "[mqtt]\nport = 1883 # mine\n";
    let home = Home::toml(content);
    home.load().unwrap();
    assert_eq!(fs::read_to_string(home.path("bridge.toml")).unwrap(), content);
    assert_eq!(fs::read_dir(home.directory.path()).unwrap().count(), 1);
}
