use std::{fs, path::PathBuf};

use super::*;
use crate::config::{Settings, Sources, load};
use planner::rules::Group;

/// What a file becomes, and what that means to our loader.
fn migrated(yaml: &str) -> (String, Settings) {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let toml = heattrax(&file("config.yaml", yaml)).unwrap();
    let sources = Sources {
        file: Some(file("tapo2mqtt.toml", &toml)),
        environment: Vec::new(),
    };
    let settings = load(&sources).unwrap_or_else(|problems| panic!("{problems}\n{toml}"));
    (toml, settings)
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
        "end_not_before = \"06:01\"",
        "start = \"sunset-01:30\"",
        "for = 9000.0",
        "at_most = 32.0",
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
        "driveway-mat/2 was in two groups",
        "The group lights was disabled",
        "HeatTrax then went on for a day",
        "ends after it, also past midnight",
        "\"Night\" goes past midnight",
        "weather/outdoor",
        "weather_api.* is not taken over",
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
thresholds: { temperature_f: 34, lead_time_minutes: 60 }
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
        "at_most = 34.0",
        "at_most = 32.0",
        "thresholds.* is not taken over",
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
fn nonsense_becomes_settings_that_load_all_the_same() {
    for yaml in [
        "a: 1\n",
        "devices: { groups: { bridge: { items: [{ ip_address: 192.168.1.5, name: Группа }], schedules: [{ on: {} }] } } }\n",
        "devices: { groups: { x: [] } }\n",
        "device: { ip_address: 5 }\n",
        "devices: { groups: { \"a\\nb = 1\": {} } }\n",
    ] {
        let (toml, _) = migrated(yaml);
        assert!(toml.contains("What is different now"), "{toml}");
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
    assert!(free_slug(&"x".repeat(100), &[]).len() <= SLUG_MAX);
}
