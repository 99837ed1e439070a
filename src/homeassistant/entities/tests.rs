use std::collections::BTreeMap;

use ha_discovery::StateKey;
use serde_json::Value;

use super::*;
use crate::{
    domain::{
        command_error::ErrorCode,
        report::{
            self, Availability as Reachable, Condition, Countdown, DeviceError, Energy, EventKind, Feature,
            Phase,
        },
        scheduling::GroupStatus,
    },
    mqtt::publisher::{
        bridge_info::{BridgeInfo, EventBody, InfoPayload, LastError},
        state::{
            availability, json, states,
            tests::{no_statuses, report},
        },
        status_cache::StatusCache,
    },
};
use planner::{
    Power,
    plan::{Mode, Reason, SafetyState, Source},
    setpoint::Setpoint,
    testing,
    thermostat::WhenSilent,
};

fn topics(base: &str) -> Topics {
    Topics::new(
        base.parse().unwrap(),
        "homeassistant".parse().unwrap(),
        "homeassistant/status".parse().unwrap(),
    )
}

fn discovery(base: &str) -> EntityBuilder {
    EntityBuilder::new(topics(base), Layout::Flat)
}

fn announced(report: &DeviceReport, statuses: &StatusCache) -> DevicePayload {
    discovery("tapo2mqtt").device(report, statuses.rules()).unwrap()
}

/// A group of `mats/1` and `mats/2` with a schedule that its standing does not know yet.
fn driveway() -> StatusCache {
    let schedules = ["morning", "week-end"].map(|id| testing::schedule(id, "06:00", "08:00"));
    let mut rules = testing::Site::new(testing::group(schedules.into()), "UTC").rules;
    rules.groups[0].outlets.push("mats".parse().unwrap());
    let mut statuses = StatusCache::new(rules.clone().into());
    statuses.replace_rules(rules.into());
    let status = GroupStatus {
        state: None,
        mode: Mode::Auto,
        expected: None,
        source: Source::Schedule,
        rule: None,
        reason: Reason::new("nothing is due"),
        why: Vec::new(),
        next_change: None,
        next_state: None,
        override_until: None,
        cooldown_until: None,
        safety: SafetyState::Clear,
        energy: None,
        schedules: BTreeMap::from([("morning".parse().unwrap(), true)]),
        thermostat: None,
    };
    statuses.set_group("driveway".parse().unwrap(), status.into());
    statuses
}

/// What the bridge publishes for a report, by topic.
fn published(report: &DeviceReport, statuses: &StatusCache) -> BTreeMap<String, Value> {
    let topics = topics("tapo2mqtt");
    let about = BridgeInfo {
        started_at: jiff::Timestamp::UNIX_EPOCH,
        setup_mode: false,
        start_checks: Vec::new(),
        settings_error: None,
        settings: Value::Null,
    };
    let online = availability(Reachable::Online);
    let mut published: Vec<(String, String)> = vec![
        (topics.bridge(BridgeTopic::State), online.clone()),
        (
            topics.bridge(BridgeTopic::Info),
            json(&InfoPayload::of(&about, &BTreeMap::new(), 1, None, Level::Info)),
        ),
        (
            topics.bridge(BridgeTopic::LastError),
            json(&LastError::of(None, jiff::Timestamp::UNIX_EPOCH)),
        ),
        (topics.availability(&report.id), online),
        (
            topics.bridge(BridgeTopic::Event),
            json(&EventBody::of(&pressed(report))),
        ),
    ];
    published.extend(
        states(report, statuses, &std::collections::BTreeSet::new())
            .into_iter()
            .map(|(path, state)| (topics.state(&path), state)),
    );
    let groups = statuses.rules().groups.iter();
    published.extend(groups.filter_map(|group| {
        let state = statuses.group_state(&group.id)?;
        Some((topics.group(&group.id), state))
    }));
    published
        .into_iter()
        .map(|(topic, text)| (topic, serde_json::from_str(&text).unwrap()))
        .collect()
}

fn pressed(report: &DeviceReport) -> report::Event {
    report::Event {
        kind: EventKind::ExternalChange,
        device: Some(report.id.clone()),
        outlet: None,
        group: None,
        state: Some(Power::On),
        action: None,
        message: "the button".to_owned(),
        at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn assert_every_key_is_there(payload: &DevicePayload, report: &DeviceReport, statuses: &StatusCache) {
    let published = published(report, statuses);
    let reads = payload.reads();
    assert!(!reads.is_empty());
    for StateKey { topic, pointer } in reads {
        let state = published
            .get(&topic)
            .unwrap_or_else(|| panic!("nothing is published on {topic}"));
        assert!(state.pointer(&pointer).is_some(), "{topic} lacks {pointer}");
    }
}

#[test]
fn every_key_that_home_assistant_reads_is_always_there() {
    let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
    let strip = report(Kind::Strip, &[(Some("1"), Some(Power::Off)), (Some("2"), None)]);
    for statuses in [no_statuses(), driveway()] {
        for report in [&plug, &strip] {
            assert_every_key_is_there(&announced(report, &statuses), report, &statuses);
        }
        let bridge = discovery("tapo2mqtt").bridge(&[]).unwrap();
        assert_every_key_is_there(&bridge, &plug, &statuses);
        for group in statuses.announceable() {
            let group = discovery("tapo2mqtt").group(&group).unwrap();
            assert_every_key_is_there(&group, &plug, &statuses);
        }

        // Home Assistant remembers a plug from an earlier run; in this one it was not reached yet.
        let mut unknown = plug.clone();
        unknown.identity = None;
        unknown.outlets.clear();
        assert_every_key_is_there(&announced(&plug, &statuses), &unknown, &statuses);
    }
}

#[test]
fn a_group_is_a_device_with_a_switch_for_each_schedule() {
    let statuses = driveway();
    let [group] = statuses.announceable().try_into().unwrap();
    let payload = discovery("tapo2mqtt").group(&group).unwrap();
    let ids: Vec<String> = payload.announces().into_keys().collect();
    let expected = [
        "command_failed",
        "mode",
        "next_change",
        "override_until",
        "reason",
        "safety",
        "schedule_morning",
        "schedule_week-end",
        "switch",
    ];
    assert_eq!(ids, expected.map(|key| format!("tapo2mqtt-group-driveway_{key}")));
    let json: Value = serde_json::to_value(&payload).unwrap();
    assert_eq!(json["device"]["via_device"], "tapo2mqtt-bridge");
}

/// What is typed takes the place of one time in the whole definition.
#[test]
fn the_times_of_an_editable_schedule_can_be_set() {
    let mut rules = driveway().rules().as_ref().clone();
    rules.groups[0].schedules[0].editable = true;
    let mut statuses = driveway();
    statuses.replace_rules(rules.into());
    let [group] = statuses.announceable().try_into().unwrap();
    let payload = discovery("tapo2mqtt").group(&group).unwrap();
    let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
    assert_every_key_is_there(&payload, &plug, &statuses);
    let texts: BTreeMap<_, _> = entities(&payload)
        .into_iter()
        .filter(|(_, entity)| entity["platform"] == "text")
        .collect();
    let ids: Vec<_> = texts.keys().map(String::as_str).collect();
    let node = "tapo2mqtt-group-driveway";
    assert_eq!(
        ids,
        [
            format!("{node}_end_of_morning"),
            format!("{node}_start_of_morning")
        ]
    );
    let start = &texts[&format!("{node}_start_of_morning")];
    assert_eq!(start["command_topic"], "tapo2mqtt/bridge/request/schedule/set");
    let template = start["command_template"].as_str().unwrap();
    assert!(
        template.contains(r#""start":value"#) && template.contains(r#""end":"08:00""#),
        "{template}"
    );
    assert!(
        !template.contains("null"),
        "it is no literal of Jinja: {template}"
    );
}

#[test]
fn a_group_with_a_thermostat_has_a_climate_from_the_start() {
    let mut rules = driveway().rules().as_ref().clone();
    for (scale, target, unit) in [(Scale::Celsius, 20.0, "C"), (Scale::Fahrenheit, 68.0, "F")] {
        let setpoint = |degrees| Setpoint::new(degrees, scale);
        rules.groups[0].thermostat = Some(Thermostat {
            sensor: "outdoor".parse().unwrap(),
            target: setpoint(target),
            hysteresis: Thermostat::HYSTERESIS,
            min_on: Thermostat::PAUSE,
            min_off: Thermostat::PAUSE,
            setback: None,
            frost: setpoint(target - 15.0),
            when_unknown: WhenSilent::Off,
        });
        let mut statuses = driveway();
        statuses.replace_rules(rules.clone().into());
        let [group] = statuses.announceable().try_into().unwrap();
        let payload = discovery("tapo2mqtt").group(&group).unwrap();
        let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
        assert_every_key_is_there(&payload, &plug, &statuses);
        let entities: BTreeMap<_, _> = entities(&payload).into_iter().collect();
        let climate = &entities["tapo2mqtt-group-driveway_climate"];
        assert_eq!(climate["temperature_unit"], unit);
        assert_eq!(climate["preset_modes"], json!(["away", "boost"]));
    }
}

#[test]
fn a_group_with_energy_rules_always_has_energy_entities() {
    let mut rules = driveway().rules().as_ref().clone();
    let energy = |statuses: &StatusCache| {
        let [group] = statuses.announceable().try_into().unwrap();
        let payload = discovery("tapo2mqtt").group(&group).unwrap();
        let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
        assert_every_key_is_there(&payload, &plug, statuses);
        let ids = payload.announces().into_keys();
        ids.filter(|id| id.contains("energy") || id.ends_with("power"))
            .count()
    };
    let mut statuses = driveway();
    assert_eq!(energy(&statuses), 0);
    rules.groups[0].energy.daily_budget = Some(planner::units::MilliWattHours::new(4_000_000));
    statuses.replace_rules(rules.clone().into());
    assert_eq!(energy(&statuses), 3);
    rules.groups[0].energy = planner::energy_limits::EnergyRules {
        daily_budget: None,
        finished: Some(planner::energy_limits::Finished {
            below: planner::units::MilliWatts::from_watts(5),
            length: "3m".parse().unwrap(),
            then: planner::energy_limits::IfFinished::Report,
        }),
        ..rules.groups[0].energy
    };
    let ids = |statuses: &StatusCache| {
        let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
        announced(&plug, statuses).announces()
    };
    let finished = "tapo2mqtt_mats_load_finished";
    assert!(!ids(&statuses).contains_key(finished));
    statuses.replace_rules(rules.into());
    assert_eq!(energy(&statuses), 2);
    assert!(ids(&statuses).contains_key(finished));
}

#[test]
fn only_members_of_a_group_report_a_mismatch() {
    let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
    let has_problem = |statuses| {
        let ids = announced(&plug, &statuses).announces();
        ids.contains_key("tapo2mqtt_mats_mismatch")
    };
    assert!(has_problem(driveway()));
    assert!(!has_problem(no_statuses()));
}

#[test]
fn a_device_never_reached_shows_what_the_bridge_knows() {
    let mut report = report(Kind::Plug, &[(None, None)]);
    report.identity = None;
    report.outlets.clear();
    assert_eq!(
        discovery("tapo2mqtt").device(&report, no_statuses().rules()),
        None
    );
    let payload = discovery("tapo2mqtt").unread_device(&report).unwrap();
    let ids: Vec<String> = payload.announces().into_keys().collect();
    let own = ["command_failed", "error", "status"].map(|key| format!("tapo2mqtt_mats_{key}"));
    assert_eq!(ids, own);
    assert_every_key_is_there(&payload, &report, &no_statuses());
    let json: Value = serde_json::to_value(&payload).unwrap();
    for id in &own {
        let availability = &json["components"][id]["availability"];
        assert_eq!(availability.as_array().unwrap().len(), 1, "{id}");
        assert_eq!(availability[0]["topic"], "tapo2mqtt/bridge/state", "{id}");
    }
}

/// Every entity of a payload, with its id.
fn entities(payload: &DevicePayload) -> Vec<(String, Value)> {
    let json: Value = serde_json::to_value(payload).unwrap();
    let components = json["components"].as_object().unwrap();
    components
        .iter()
        .map(|(id, it)| (id.clone(), it.clone()))
        .collect()
}

/// A plug with everything, a group with everything, and the bridge.
fn everything() -> [DevicePayload; 3] {
    let mut rules = driveway().rules().as_ref().clone();
    rules.groups[0].energy = planner::energy_limits::EnergyRules {
        daily_budget: Some(planner::units::MilliWattHours::new(4_000_000)),
        finished: Some(planner::energy_limits::Finished {
            below: planner::units::MilliWatts::from_watts(5),
            length: "3m".parse().unwrap(),
            then: planner::energy_limits::IfFinished::Report,
        }),
        ..rules.groups[0].energy
    };
    let mut statuses = driveway();
    statuses.replace_rules(rules.into());
    let [group] = statuses.announceable().try_into().unwrap();
    let mut plug = report(Kind::Plug, &[(None, Some(Power::On))]);
    plug.outlets[0].features = [
        Feature::Overheat,
        Feature::Overload,
        Feature::Overcurrent,
        Feature::Charging,
        Feature::AutoOff,
        Feature::Voltage,
        Feature::Countdown,
        Feature::Rules,
    ]
    .into();
    let builder = discovery("tapo2mqtt").forecasting(Some(WeatherProvider::OpenMeteo));
    [
        announced(&plug, &statuses),
        builder.group(&group).unwrap(),
        builder.bridge(&[]).unwrap(),
    ]
}

#[test]
fn each_value_of_the_forecast_has_its_attribution() {
    let [.., bridge] = everything();
    let forecasts = entities(&bridge).into_iter();
    let forecasts: Vec<_> = forecasts.filter(|(id, _)| id.contains("_forecast_")).collect();
    assert_eq!(forecasts.len(), WeatherValue::ALL.len());
    for (id, entity) in forecasts {
        assert_eq!(entity["json_attributes_topic"], entity["state_topic"], "{id}");
        let template = entity["json_attributes_template"].as_str().unwrap();
        assert!(template.contains("value_json.attribution"), "{id}: {template}");
        assert!(
            template.starts_with("{% if value %}"),
            "{id}: the topic is cleared without [weather]"
        );
    }
}

/// Without either, Home Assistant shows an eye.
#[test]
fn every_entity_has_a_device_class_or_an_icon() {
    for payload in everything() {
        for (id, entity) in entities(&payload) {
            let class = entity["device_class"].as_str().filter(|class| *class != "enum");
            let is_switch = entity["platform"] == "switch";
            assert!(class.is_some() || entity["icon"].is_string() || is_switch, "{id}");
        }
    }
}

/// They fill the pages of areas, which show all others as tiles.
#[test]
fn few_entities_have_no_category() {
    let plain = everything().map(|payload| {
        let node = format!("{}_", payload.node);
        let entities = entities(&payload).into_iter();
        let plain = entities.filter(|(_, entity)| entity["entity_category"].is_null());
        plain
            .filter(|(_, entity)| entity["enabled_by_default"] != false)
            .map(|(id, _)| id.replace(&node, ""))
            .collect::<Vec<_>>()
    });
    assert_eq!(
        plain,
        [
            vec!["energy_today", "energy_total", "power", "switch"],
            vec!["energy_today", "mode", "power", "switch"],
            vec![
                "forecast_dew_point",
                "forecast_humidity",
                "forecast_precipitation",
                "forecast_snowfall",
                "forecast_temperature",
                "forecast_wind_speed",
            ],
        ]
    );
}

#[test]
fn devices_are_described_once_and_bridges_apart() {
    let [plug, group, bridge] = everything();
    let json = |payload: &DevicePayload| serde_json::to_value(payload).unwrap();
    let device = json(&plug)["device"].clone();
    assert_eq!(
        (&device["model"], &device["model_id"]),
        (&"Smart plug".into(), &"P304M".into())
    );
    assert!(
        json(&group)["device"].get("sw_version").is_none(),
        "it has no firmware"
    );
    assert_eq!(json(&bridge)["device"]["name"], "Tapo bridge");
    assert!(json(&bridge)["origin"]["support_url"].is_string());
    let other = discovery("garden").bridge(&[]).unwrap();
    assert_eq!(json(&other)["device"]["name"], "Tapo bridge garden");
}

/// Sent to the bridge in seconds, as its state has it.
#[test]
fn a_countdown_is_set_and_shown_in_minutes() {
    let [plug, ..] = everything();
    let (_, countdown) = entities(&plug)
        .into_iter()
        .find(|(id, _)| id.ends_with("_countdown"))
        .unwrap();
    assert_eq!(countdown["unit_of_measurement"], "min");
    assert_eq!(countdown["max"], 1440.0);
    assert_eq!(
        countdown["value_template"],
        "{{ (value_json.countdown / 60) | round(2) }}"
    );
    assert_eq!(countdown["command_template"], "{{ (value * 60) | round | int }}");
}

#[test]
fn identities_follow_the_configured_id_and_the_position() {
    let strip = report(Kind::Strip, &[(Some("left"), None), (Some("2"), None)]);
    let ids: Vec<String> = announced(&strip, &no_statuses())
        .announces()
        .into_keys()
        .collect();
    assert!(
        ids.contains(&"tapo2mqtt_mats_o1_switch".to_owned()),
        "a renamed outlet keeps its identity: {ids:?}"
    );
    assert!(ids.contains(&"tapo2mqtt_mats_rssi".to_owned()), "{ids:?}");
}

fn keys(report: &DeviceReport) -> Vec<String> {
    let payload = discovery("tapo2mqtt")
        .device(report, no_statuses().rules())
        .unwrap();
    let ids = payload.announces().into_keys();
    ids.map(|id| id.replace("tapo2mqtt_mats_", "")).collect()
}

#[test]
fn only_values_that_an_outlet_reports_have_entities() {
    let mut plug = report(Kind::Plug, &[(None, Some(Power::On))]);
    let has = |plug: &DeviceReport, key: &str| keys(plug).contains(&key.to_owned());
    for key in [
        "power",
        "energy_total",
        "voltage",
        "overheated",
        "auto_off_at",
        "reboot",
    ] {
        assert!(has(&plug, key), "{key}");
    }
    assert!(!has(&plug, "overcurrent") && !has(&plug, "charging"));

    plug.outlets[0].features = [Feature::Charging].into();
    for key in ["voltage", "current", "overheated", "overloaded", "auto_off_at"] {
        assert!(!has(&plug, key), "{key}");
    }
    assert!(has(&plug, "charging") && has(&plug, "protection_event"));

    plug.outlets[0].features.clear();
    let mut identity = plug.identity.as_deref().cloned().unwrap();
    identity.meters_energy = false;
    plug.identity = Some(std::sync::Arc::new(identity));
    assert_eq!(
        keys(&plug),
        [
            "command_failed",
            "countdown",
            "error",
            "on_since",
            "reboot",
            "rssi",
            "status",
            "switch",
            "switched",
            "timer_until"
        ]
    );
    plug.outlets[0].features = [Feature::Countdown, Feature::Rules].into();
    for key in ["device_timer_until", "device_timer_to", "device_schedules"] {
        assert!(has(&plug, key), "{key}");
    }
}

#[test]
fn values_change_no_announcement_and_all_else_is_in_the_shape() {
    let strip = report(Kind::Strip, &[(Some("left"), Some(Power::On)), (Some("2"), None)]);
    let mut other_values = DeviceReport {
        address: "192.0.2.8".to_owned(),
        phase: Phase::Degraded,
        availability: Reachable::Offline,
        error: Some(DeviceError {
            code: ErrorCode::NoAnswer,
            message: "silent".to_owned(),
        }),
        rssi: None,
        serving: None,
        led: None,
        latest_firmware: None,
        ..strip.clone()
    };
    for outlet in &mut other_values.outlets {
        outlet.power = outlet.power.map(Power::toggled).or(Some(Power::On));
        outlet.on_since = Some(jiff::Timestamp::UNIX_EPOCH);
        outlet.condition = Condition::default();
        outlet.energy = Energy::default();
        outlet.countdown = Countdown::Unsupported;
    }
    let statuses = no_statuses();
    assert_eq!(announced(&strip, &statuses), announced(&other_values, &statuses));
    assert_eq!(Shape::from(&strip), Shape::from(&other_values));

    let changes: [fn(&mut DeviceReport); 8] = [
        |report| report.id = "rugs".parse().unwrap(),
        |report| report.name = None,
        |report| report.identity = None,
        |report| report.is_complete = false,
        |report| report.outlets[1].key = Some("right".parse().unwrap()),
        |report| report.outlets[1].position = 3,
        |report| report.outlets[1].name = None,
        |report| report.outlets[1].features.clear(),
    ];
    for change in changes {
        let mut other = strip.clone();
        change(&mut other);
        assert_ne!(Shape::from(&strip), Shape::from(&other), "{other:?}");
    }
}

#[test]
fn events_are_those_of_one_outlet() {
    let strip = report(Kind::Strip, &[(Some("left"), None), (Some("2"), None)]);
    let payload = discovery("tapo2mqtt").device(&strip, no_statuses().rules());
    let payload = serde_json::to_value(payload.unwrap()).unwrap();
    let event = &payload["components"]["tapo2mqtt_mats_o1_switched"];
    assert_eq!(event["event_types"], serde_json::json!(["ON", "OFF"]));
    let template = event["value_template"].as_str().unwrap();
    for condition in [
        r#"value_json.type == "external_change""#,
        r#"value_json.device == "mats""#,
        r#"value_json.outlet == "left""#,
    ] {
        assert!(template.contains(condition), "{template}");
    }
}

#[test]
fn the_identities_of_two_bridges_differ_by_base_topic_and_site() {
    let (device, group) = ("mats".parse().unwrap(), "driveway".parse().unwrap());
    let nodes = |base| {
        let builder = discovery(base);
        [
            builder.bridge_node().unwrap().to_string(),
            builder.device_node(&device).unwrap().to_string(),
            builder.group_node(&group).unwrap().to_string(),
        ]
    };
    assert_eq!(
        nodes("tapo2mqtt"),
        ["tapo2mqtt-bridge", "tapo2mqtt_mats", "tapo2mqtt-group-driveway"]
    );
    assert_eq!(
        nodes("garden/tapo2mqtt"),
        [
            "tapo2mqtt-bridge-garden_tapo2mqtt",
            "tapo2mqtt-device-garden_tapo2mqtt-mats",
            "tapo2mqtt-groups-garden_tapo2mqtt-driveway"
        ]
    );
    let at_site = |base, site: &str| {
        let builder = discovery(base).at_site(Some(site.parse().unwrap()));
        builder.device_node(&device).unwrap().to_string()
    };
    assert_eq!(
        at_site("tapo2mqtt-north", "north"),
        "tapo2mqtt-device-tapo2mqtt_north-mats"
    );
    assert_eq!(at_site("garden", "north"), "tapo2mqtt-device-garden_north-mats");
    // Whatever the ids are, a node belongs to one base topic.
    let node = |base, device: &str| discovery(base).device_node(&device.parse().unwrap());
    assert_ne!(node("a", "b-c"), node("a-b", "c"));
    assert_ne!(node("a", "b_c"), node("a_b", "c"));
    assert_ne!(node("tapo2mqtt", "a-b"), node("a", "b"));
}
