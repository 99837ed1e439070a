use std::{fs, path::PathBuf};

use super::*;
use crate::config::{Settings, Sources, load};
use planner::{condition::Test, rules::Group, window::Window};

/// What a file becomes, and what that means to our loader. Nothing of it is lost.
fn migrated(yaml: &str) -> (String, Settings) {
    let (migrated, settings) = converted(yaml);
    assert_eq!(migrated.losses, [] as [&str; 0]);
    (migrated.settings, settings)
}

fn converted(yaml: &str) -> (Migrated, Settings) {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let migrated = heattrax(&file("config.yaml", yaml)).unwrap();
    let toml = &migrated.settings;
    let sources = Sources {
        file: Some(file("tapo2mqtt.toml", toml)),
        environment: Vec::new(),
    };
    let settings = load(&sources).unwrap_or_else(|problems| panic!("{problems}\n{toml}"));
    (migrated, settings)
}

/// A group of one plug with one schedule.
fn one_schedule(schedule: &str, rest: &str) -> String {
    format!(
        "location: {{ latitude: 40.7, longitude: -74.0, timezone: America/New_York }}\n\
         devices:\n  groups:\n    mats:\n      items: [{{ name: Mat, ip_address: 192.168.1.100 }}]\n      \
         schedules: [{schedule}]\n{rest}"
    )
}

fn group<'a>(settings: &'a Settings, id: &str) -> &'a Group {
    let groups = &settings.rules.groups;
    groups.iter().find(|group| group.id.as_str() == id).unwrap()
}

const UNIFIED: &str = r#"
vacation_mode: true
location: { latitude: 40.7128, longitude: -74.006, timezone: America/New_York }
weather_api: { provider: open-meteo }
devices:
  credentials: { username: me@example.org, password: "p\"w" }
  groups:
    driveway_heating:
      enabled: true
      items:
        - { name: Driveway Mat, ip_address: 192.168.1.100, outlets: [0, 1], discovery_timeout_seconds: 30 }
        - { name: Steps, ip_address: 192.168.1.101 }
      schedules:
        - name: Morning Black Ice Protection
          priority: critical
          days: [1, 2, 3, 4, 5]
          on: { type: time, value: "6:00" }
          off: { type: sunrise, offset: 30, fallback: "08:00" }
          conditions: { temperature_max: 32, precipitation_active: true }
          safety: { max_runtime_hours: 3, cooldown_minutes: 0 }
        - name: Night
          enabled: false
          days: [5, 6]
          on: { type: sunset, offset: -90, fallback: "17:00" }
          off: { type: duration, value: 2.5 }
    lights:
      enabled: false
      items:
        - { name: Same strip, ip_address: 192.168.1.100, outlets: [1, 2] }
      schedules:
        - name: Evening
          on: { type: time, value: "17:00" }
          off: { type: time, value: "01:00" }
safety: { max_runtime_hours: 5, cooldown_minutes: 20 }
scheduler: { check_interval_minutes: 10, forecast_hours: 12 }
logging: { level: WARNING, backup_count: 5 }
web: { port: 8080 }
"#;

#[test]
fn groups_with_schedules_become_ours() {
    let (toml, settings) = migrated(UNIFIED);
    let ids: Vec<_> = settings.devices.iter().map(|device| device.id.as_str()).collect();
    assert_eq!(
        ids,
        ["driveway-mat", "steps"],
        "the second item of one address is no second device"
    );
    assert_eq!(
        settings.tapo.credentials.as_ref().unwrap().password.expose(),
        "p\"w"
    );
    assert_eq!(settings.log.level.as_str(), "warn");
    let driveway = group(&settings, "driveway-heating");
    let outlets: Vec<_> = driveway.outlets.iter().map(ToString::to_string).collect();
    assert_eq!(outlets, ["driveway-mat/1", "driveway-mat/2", "steps"]);
    let ids: Vec<_> = driveway
        .schedules
        .iter()
        .map(|schedule| schedule.id.as_str())
        .collect();
    assert_eq!(ids, ["morning-black-ice-protection", "night"]);
    assert_eq!(
        driveway.schedules.iter().map(|s| s.enabled).collect::<Vec<_>>(),
        [true, false]
    );
    assert_eq!(driveway.schedules[0].conditions.len(), 2);
    let lights = group(&settings, "lights");
    assert_eq!(lights.outlets.len(), 1);
    assert!(!lights.schedules[0].enabled);
    for line in [
        "start = \"06:00\"",
        "end = \"sunrise+00:30\"",
        "fallback_end = \"08:00\"",
        "start = \"sunset-01:30\"",
        "for = 9000.0",
        "at_most = 0.0",
        "at_least = 0.1",
        "provider = \"open-meteo\"",
        "weather = \"precipitation\"",
        "within = \"1h\"",
        "max_on = 10800.0",
        "cooldown = \"none\"",
        "max_on = 18000.0",
    ] {
        assert!(toml.contains(line), "no {line} in\n{toml}");
    }
}

#[test]
fn every_change_is_listed_at_the_top() {
    let (toml, _) = migrated(UNIFIED);
    let head: Vec<_> = toml.lines().take_while(|line| line.starts_with('#')).collect();
    for change in [
        "mqtt.host",
        "HEATTRAX_",
        "override_default",
        "Vacation mode was on",
        "Outlets count from 1",
        "\"Morning Black Ice Protection\" does not run on a day",
        "driveway-mat/2 was in two groups",
        "The group lights was disabled",
        "ends after it, also past midnight",
        "If \"Night\" goes past midnight",
        "The weather is a forecast in whole hours",
        "scheduler.* is not taken over",
        "logging.* is not taken over",
        "web.* is not taken over",
        "devices.groups.driveway_heating.items[0].discovery_timeout_seconds is not taken over",
    ] {
        let listed = head.iter().filter(|line| line.contains(change)).count();
        assert_eq!(listed, 1, "{change} in\n{}", head.join("\n"));
    }
    assert!(!head.iter().any(|line| line.contains("p\"w")));
}

#[test]
fn groups_with_automation_become_schedules() {
    let (toml, settings) = migrated(
        r#"
location: { latitude: 40.7, longitude: -74.0, timezone: America/New_York }
devices:
  credentials: { username: your_tapo_username, password: your_tapo_password }
  groups:
    heated_mats:
      automation: { weather_control: true, precipitation_control: true, morning_mode: true }
      items: [{ name: Mat, ip_address: 192.168.1.100 }]
    christmas_lights:
      automation: { weather_control: false, schedule_control: true }
      schedule: { on_time: "17:00", off_time: "23:00", days: [5, 6] }
      items: [{ name: Tree, ip_address: 192.168.1.110 }]
thresholds: { temperature_f: 34, lead_time_minutes: 90, trailing_time_minutes: 60 }
morning_mode: { enabled: true, start_hour: 6, end_hour: 8, temperature_f: 32 }
"#,
    );
    assert!(settings.needs_setup());
    let ids = |id: &str| -> Vec<String> {
        let schedules = &group(&settings, id).schedules;
        schedules
            .iter()
            .map(|schedule| schedule.id.as_str().to_owned())
            .collect()
    };
    assert_eq!(ids("heated-mats"), ["precipitation", "morning"]);
    assert_eq!(ids("christmas-lights"), ["schedule"]);
    for text in [
        "days = [6,7]",
        "start = \"06:00\"",
        "within = \"2h\"",
        "at_most = 1.112",
        "at_most = 0.0",
        "thresholds.* is not taken over: heating does not go on",
    ] {
        assert!(toml.contains(text), "no {text} in\n{toml}");
    }
}

#[test]
fn the_first_shape_had_one_device() {
    let (_, settings) = migrated(
        "location: { latitude: 40.7, longitude: -74.0 }\n\
         device: { ip_address: 192.168.1.100, username: me@example.org, password: pw }\n\
         morning_mode: { enabled: true }\n",
    );
    assert_eq!(settings.devices[0].id.as_str(), "heattrax");
    assert_eq!(group(&settings, "heattrax").schedules.len(), 2);
    assert!(!settings.needs_setup());
}

#[test]
fn black_ice_and_a_whole_day_are_converted() {
    // HeatTrax's own documented example.
    let schedule =
        "{ name: Black Ice, priority: critical, all_day: true, conditions: { black_ice_risk: true } }";
    let thresholds = "thresholds:\n  black_ice_detection: { enabled: true, temperature_max_f: 36, \
                      dew_point_spread_f: 5.4, humidity_min_percent: 85 }\n";
    let (toml, settings) = migrated(&one_schedule(schedule, thresholds));
    let [schedule] = group(&settings, "mats").schedules.as_slice() else {
        panic!("{toml}")
    };
    assert!(schedule.enabled);
    assert_eq!(schedule.window, Window::ALL_DAY);
    let [condition] = schedule.conditions.as_slice() else {
        panic!("{toml}")
    };
    let Test::BlackIce(ice) = &condition.test else {
        panic!("{toml}")
    };
    let thresholds = &ice.thresholds;
    assert_eq!(
        (
            thresholds.temperature_at_most,
            thresholds.spread_at_most,
            thresholds.humidity_at_least
        ),
        (2.223, 3.0, 85.0),
        "HeatTrax's limits are in °F and are met at the limit itself"
    );
    let units: Vec<_> = settings
        .rules
        .sensors
        .iter()
        .map(|sensor| sensor.id.as_str())
        .collect();
    assert_eq!(units, ["outdoor", "dew-point", "humidity"]);
}

#[test]
fn the_weather_service_becomes_the_forecast() {
    let schedule =
        "{ name: Rain, all_day: true, conditions: { precipitation_active: true, temperature_max: 34 } }";
    let (toml, settings) = migrated(&one_schedule(
        schedule,
        "weather_api: { provider: OpenWeatherMap, openweathermap: { api_key: \"s3cret\" } }\n\
         thresholds: { lead_time_minutes: 0 }\n",
    ));
    assert!(settings.weather.is_some(), "{toml}");
    assert!(
        toml.contains("came from \"OpenWeatherMap\"") && !toml.contains("s3cret"),
        "{toml}"
    );
    assert!(!toml.contains("within = "), "no lead time: {toml}");
    let sources = settings
        .rules
        .sensors
        .iter()
        .map(|sensor| sensor.source.to_string());
    assert_eq!(
        sources.collect::<Vec<_>>(),
        ["forecast temperature", "forecast precipitation"]
    );
    // Without a place there is no forecast, and the topics are in HeatTrax's own units.
    let without_place = one_schedule(schedule, "")
        .replace("latitude", "x")
        .replace("longitude", "y");
    let (toml, settings) = migrated(&without_place);
    assert!(settings.weather.is_none(), "{toml}");
    assert!(
        toml.contains("at_most = 34.0") && toml.contains("is = true"),
        "{toml}"
    );
    // Where the weather was off, what asked for it never ran.
    let off = one_schedule(schedule, "weather_api: { enabled: false }\n");
    let (Migrated { losses, .. }, settings) = converted(&off);
    assert!(losses[0].contains("the weather was off"), "{losses:?}");
    assert!(!group(&settings, "mats").schedules[0].enabled);
}

#[test]
fn how_long_a_manual_switch_lasts_is_kept() {
    let night = "{ on: { type: time, value: \"22:00\" }, off: { type: time, value: \"06:00\" } }";
    let with = |rest: &str, own: &str| {
        let yaml = one_schedule(night, rest).replace("      items:", &format!("{own}      items:"));
        let (toml, settings) = migrated(&yaml);
        (group(&settings, "mats").override_default.to_string(), toml)
    };
    let all = "web: { manual_override_timeout_hours: 4 }\n";
    assert_eq!(with("", "").0, "3h");
    assert_eq!(with(all, "").0, "4h");
    assert_eq!(with(all, "      manual_override_hours: 1.5\n").0, "1h 30m");
    let (length, toml) = with("", "      manual_override_hours: 48\n");
    assert_eq!(length, "24h");
    assert!(toml.contains("lasted 48 h"), "{toml}");
}

#[test]
fn what_loses_a_condition_or_its_times_is_disabled() {
    let cold = "conditions: { temperature_max: 32 }";
    let night = "on: { type: time, value: \"22:00\" }, off: { type: time, value: \"06:00\" }";
    for (schedule, rest) in [
        // Conditions.
        (format!("{night}, conditions: {{ black_ice_risk: false }}"), ""),
        (format!("{night}, conditions: {{ wind_max: 5 }}"), ""),
        (format!("{night}, conditions: {{ temperature_max: cold }}"), ""),
        (format!("{night}, conditions: [temperature_max]"), ""),
        (
            format!("{night}, conditions: {{ black_ice_risk: true }}"),
            "thresholds: { black_ice_detection: { temperature_max_f: cold } }\n",
        ),
        (
            format!("{night}, conditions: {{ black_ice_risk: true }}"),
            "thresholds: { black_ice_detection: { enabled: false } }\n",
        ),
        // Times.
        (
            format!(
                "{cold}, on: {{ type: time, value: \"06:00\" }}, off: {{ type: time, value: \"24:00\" }}"
            ),
            "",
        ),
        (
            format!(
                "{cold}, on: {{ type: time, value: \"06:00:00\" }}, off: {{ type: time, value: \"08:00\" }}"
            ),
            "",
        ),
        (
            format!(
                "{cold}, on: {{ type: time, value: \"o6:00\" }}, off: {{ type: time, value: \"08:00\" }}"
            ),
            "",
        ),
        (
            format!("{cold}, on: {{ type: duration, value: 2 }}, off: {{ type: time, value: \"08:00\" }}"),
            "",
        ),
        (
            format!("{cold}, on: {{ type: time, value: \"06:00\" }}, off: {{ type: duration, value: 30 }}"),
            "",
        ),
        (
            format!(
                "{cold}, on: {{ type: time, value: \"06:00\" }}, off: {{ type: sunrise, offset: 200, fallback: \"08:00\" }}"
            ),
            "",
        ),
        (format!("{cold}, on: {{ type: time, value: \"06:00\" }}"), ""),
        (
            format!(
                "{cold}, on: {{ type: time, value: \"06:00\" }}, off: {{ type: time, value: \"06:00\" }}"
            ),
            "",
        ),
        (format!("{cold}, all_day: maybe"), ""),
        (cold.to_owned(), ""),
        // Days, limits, whether it runs at all.
        (format!("{night}, days: [mon, tue]"), ""),
        (format!("{night}, days: [0, 1]"), ""),
        (format!("{night}, days: []"), ""),
        (format!("{night}, months: [12, 1, 2]"), ""),
        (format!("{night}, enabled: maybe"), ""),
        (format!("{night}, safety: {{ max_runtime_hours: 0 }}"), ""),
        (night.to_owned(), "safety: { max_runtime_hours: \"3\" }\n"),
    ] {
        let (
            Migrated {
                settings: toml,
                losses,
            },
            settings,
        ) = converted(&one_schedule(&format!("{{ name: Night, {schedule} }}"), rest));
        assert!(
            !group(&settings, "mats").schedules[0].enabled,
            "{schedule}\n{toml}"
        );
        assert_eq!(losses.len(), 1, "{schedule}: {losses:?}");
        assert!(
            losses[0].contains("\"Night\" of the group mats is disabled"),
            "{losses:?}"
        );
        let at = toml.find("[[group.schedule]]").unwrap();
        assert!(toml[at..].contains("# Not converted: "), "{toml}");
    }
}

#[test]
fn words_of_yaml_1_1_are_booleans() {
    let night = "on: { type: time, value: \"22:00\" }, off: { type: time, value: \"06:00\" }";
    let (_, settings) = migrated(&one_schedule(&format!("{{ enabled: no, {night} }}"), ""));
    assert!(!group(&settings, "mats").schedules[0].enabled);
}

#[test]
fn the_older_shapes_lose_nothing_silently() {
    let older = |rules: &str, rest: &str| {
        let yaml = format!(
            "devices:\n  groups:\n    mats:\n      items: [{{ name: Mat, ip_address: 192.168.1.100 }}]\n      \
             automation: {{ {rules} }}\n{rest}"
        );
        let (Migrated { losses, .. }, settings) = converted(&yaml);
        let schedules = group(&settings, "mats").schedules.clone();
        (
            losses.len(),
            schedules.iter().filter(|schedule| schedule.enabled).count(),
        )
    };
    let weather = "weather_control: true, precipitation_control: true, morning_mode: false";
    assert_eq!(older(weather, ""), (0, 1));
    assert_eq!(
        older("weather_control: maybe, precipitation_control: true", ""),
        (1, 0)
    );
    assert_eq!(older(weather, "thresholds: { temperature_f: cold }\n"), (1, 0));
    let morning = "weather_control: true, morning_mode: true";
    let hour = |hour: &str| format!("morning_mode: {{ enabled: true, start_hour: {hour} }}\n");
    assert_eq!(older(morning, &hour("5")), (0, 1));
    for bad in ["6.5", "24", "early", "8"] {
        assert_eq!(older(morning, &hour(bad)), (1, 0), "{bad}");
    }
    let clock = "weather_control: false, schedule_control: true";
    assert_eq!(older(clock, ""), (1, 0));
}

#[test]
fn outlets_of_a_strip_are_to_be_checked() {
    let yaml = |outlets: &str| {
        format!(
            "devices:\n  groups:\n    mats:\n      items:\n        - {{ name: Mat, ip_address: 192.168.1.100, \
             outlets: {outlets} }}\n        - {{ name: Plug, ip_address: 192.168.1.101 }}\n"
        )
    };
    let (toml, _) = migrated(&yaml("[2, 0]"));
    let comment = toml
        .lines()
        .find(|line| line.starts_with("# CHECK Mat: HeatTrax's outlets [2, 0] are taken for mat/3, mat/1."));
    assert!(comment.is_some_and(|line| line.contains("`identify`")), "{toml}");
    // An outlet that cannot be read is not the whole strip.
    for bad in ["[\"0\"]", "0", "[-1]", "[99]"] {
        let (Migrated { losses, .. }, settings) = converted(&yaml(bad));
        let outlets = &group(&settings, "mats").outlets;
        assert_eq!(
            outlets.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["plug"],
            "{bad}"
        );
        assert_eq!(losses.len(), 1, "{bad}");
    }
}

#[test]
fn nonsense_becomes_settings_that_load_all_the_same() {
    for yaml in [
        "a: 1\n",
        "devices: { groups: { bridge: { items: [{ ip_address: 192.168.1.5, name: Группа }], schedules: [{ on: {} }] } } }\n",
        "devices: { groups: { x: [] } }\n",
        "device: { ip_address: 5 }\n",
        "devices: { groups: { \"a\\nb = 1\": {} } }\n",
    ] {
        let (Migrated { settings, .. }, _) = converted(yaml);
        assert!(settings.contains("What is different now"), "{settings}");
    }
    let missing = heattrax(Path::new("/nowhere/config.yaml")).unwrap_err();
    assert!(missing.to_string().contains("/nowhere/config.yaml"));
}

#[test]
fn ids_are_free_and_sound() {
    let taken = ["mat".to_owned(), "mat-2".to_owned()];
    assert_eq!(free_slug("Mat!", &taken), "mat-3");
    assert_eq!(free_slug("Front Walkway (left)", &[]), "front-walkway-left");
    assert_eq!(free_slug("bridge", &[]), "bridge-2");
    assert_eq!(free_slug("冬", &[]), "unnamed");
    assert!(free_slug(&"x".repeat(100), &[]).len() <= planner::SLUG_MAX);
}

#[test]
fn a_number_that_is_infinite_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    fs::write(&file, "location:\n  latitude: 40.7\n  longitude: .inf\n").unwrap();
    let problems = heattrax(&file).unwrap_err().to_string();
    let expected = "config.yaml: expected numbers that are finite (line 3), not .inf";
    assert!(problems.contains(expected), "{problems}");
}
