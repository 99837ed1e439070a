use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::domain::{
    devices::DeviceTarget,
    report::{ChangedBy, Countdown, DeviceRule, DeviceRules, Feature, Identity, RuleTime, Weekdays},
};
use planner::{
    holidays::Holidays,
    location::Location,
    plan::{Reason, Source},
    rules::Rules,
    units::WattHours,
};

fn protected(word: &str, tripped: Option<bool>) -> Protection {
    Protection {
        word: word.to_owned(),
        tripped,
    }
}

fn energy() -> Energy {
    Energy {
        power: Some(NetMilliWatts::new(234_838)),
        voltage: Some(MilliVolts::new(240_695)),
        current: None,
        today: Some(WattHours::new(46).into()),
        month: Some(MilliWattHours::ZERO),
        total: Some(MilliWattHours::new(8_725_929)),
    }
}

/// No groups, and nothing from the scheduler.
pub(crate) fn no_statuses() -> StatusCache {
    let location = Location {
        coordinates: None,
        zone: jiff::tz::TimeZone::UTC,
        holidays: Holidays::default(),
    };
    StatusCache::new(Arc::new(Rules {
        location,
        sensors: Vec::new(),
        groups: Vec::new(),
    }))
}

/// An outlet that should be on.
pub(crate) fn expected_on() -> Arc<OutletStatus> {
    Arc::new(OutletStatus {
        expected: Some(Power::On),
        source: Source::Schedule,
        rule: Some("morning".to_owned()),
        reason: Some(Reason::new("morning runs until 08:00")),
        since: Some(Timestamp::UNIX_EPOCH),
        ..OutletStatus::MANUAL
    })
}

/// The keys of an outlet without schedules beside its own values.
fn manual(mut own: Value) -> Value {
    for key in [
        "expected",
        "rule",
        "reason",
        "since",
        "next_change",
        "next_state",
        "limit_at",
        "override_until",
        "cooldown_until",
        "timer_until",
        "timer_to",
        "device_timer_until",
        "device_timer_to",
        "device_schedules",
        "device_schedules_enabled",
        "mismatch",
        "failsafe",
    ] {
        own[key] = Value::Null;
    }
    own["source"] = json!("manual");
    own["countdown"] = json!(0);
    own["why"] = json!([]);
    own
}

pub(crate) fn report(kind: Kind, outlets: &[(Option<&str>, Option<Power>)]) -> DeviceReport {
    let outlet = |(index, (key, power)): (usize, &(Option<&str>, Option<Power>))| Outlet {
        key: key.map(|key| key.parse().unwrap()),
        position: u8::try_from(index + 1).unwrap(),
        name: Some(format!("Mat {}", index + 1)),
        power: *power,
        on_since: None,
        on_at: None,
        off_seen_at: None,
        changed_by: ChangedBy::Unknown,
        condition: Condition {
            overheat: Some(protected("normal", Some(false))),
            overload: Some(protected("novel", None)),
            ..Condition::default()
        },
        energy: energy(),
        features: [
            Feature::Overheat,
            Feature::Overload,
            Feature::AutoOff,
            Feature::Voltage,
        ]
        .into(),
        countdown: Countdown::Unknown,
        settings: crate::domain::device_settings::OutletSettings::default(),
        rules: DeviceRules::default(),
    };
    DeviceReport {
        id: "mats".parse().unwrap(),
        target: DeviceTarget::default(),
        name: Some("Mats".to_owned()),
        address: "192.0.2.7".to_owned(),
        phase: Phase::Ready,
        availability: Availability::Online,
        error: None,
        identity: Some(Arc::new(Identity {
            device_id: "8022".to_owned(),
            model: "P304M".to_owned(),
            firmware: Some("1.4.2 Build 260513".to_owned()),
            hardware: Some("1.0".to_owned()),
            mac: Some("aa:bb:cc:00:11:22".to_owned()),
            nickname: None,
            kind,
            meters_energy: true,
            role: crate::domain::report::DeviceRole::Outlet,
        })),
        is_complete: true,
        rssi: Some(-51),
        serving: None,
        led: None,
        latest_firmware: None,
        outlets: outlets.iter().enumerate().map(outlet).collect(),
        children: Vec::new(),
    }
}

fn parsed(report: &DeviceReport) -> Vec<(String, Value)> {
    parsed_with(report, &no_statuses())
}

fn parsed_with(report: &DeviceReport, statuses: &StatusCache) -> Vec<(String, Value)> {
    parsed_retained(report, statuses, &[])
}

fn parsed_retained(report: &DeviceReport, statuses: &StatusCache, retained: &[&str]) -> Vec<(String, Value)> {
    let parse = |(path, text): (OutletPath, String)| (path.to_string(), serde_json::from_str(&text).unwrap());
    let retained = retained.iter().map(|key| key.parse().unwrap()).collect();
    states(report, statuses, &retained)
        .into_iter()
        .map(parse)
        .collect()
}

/// Those of a plug, none of which was read.
fn settings() -> Value {
    json!({
        "led": null, "auto_off": null, "auto_off_delay": null, "power_protection": null,
        "power_protection_threshold": null, "power_on_behavior": null
    })
}

#[test]
fn a_plug_has_one_topic_with_everything() {
    let states = parsed(&report(Kind::Plug, &[(None, Some(Power::On))]));
    let expected = json!({
        "state": "ON", "brightness": null, "on_since": null,
        "overheated": false, "overloaded": null, "overcurrent": null, "protection": "novel",
        "charging": null, "auto_off": null, "auto_off_at": null, "settings": settings(),
        "power": 234.8, "voltage": 240.7, "current": null,
        "energy_today": 0.046, "energy_month": 0.0, "energy_total": 8.726,
        "rssi": -51, "firmware": "1.4.2 Build 260513", "update": null,
        "status": "ready", "error": null
    });
    assert_eq!(states, [("mats".to_owned(), manual(expected))]);
}

#[test]
fn a_strip_has_a_topic_per_outlet_and_is_on_if_any_is() {
    let states = parsed(&report(
        Kind::Strip,
        &[(Some("left"), Some(Power::Off)), (Some("2"), None)],
    ));
    let paths: Vec<_> = states.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["mats/left", "mats/2", "mats"]);
    assert_eq!(
        (&states[1].1["state"], &states[2].1["state"]),
        (&Value::Null, &json!("OFF"))
    );
}

#[test]
fn a_device_that_was_never_reached_has_every_key_too() {
    let mut report = report(Kind::Plug, &[]);
    report.identity = None;
    report.phase = Phase::Connecting;
    let states = parsed(&report);
    let expected = json!({
        "state": null, "brightness": null, "on_since": null,
        "overheated": null, "overloaded": null, "overcurrent": null, "protection": null,
        "charging": null, "auto_off": null, "auto_off_at": null, "settings": settings(),
        "power": null, "voltage": null, "current": null,
        "energy_today": null, "energy_month": null, "energy_total": null,
        "rssi": -51, "firmware": null, "update": null, "status": "connecting", "error": null
    });
    assert_eq!(states, [("mats".to_owned(), manual(expected))]);
}

#[test]
fn the_expected_state_is_published_before_the_first_contact() {
    let mut statuses = no_statuses();
    statuses.set_outlet("mats/left".parse().unwrap(), expected_on());
    let mut strip = report(
        Kind::Strip,
        &[(Some("left"), Some(Power::Off)), (Some("2"), None)],
    );
    let reached = parsed_with(&strip, &statuses);
    let decision = |state: &Value| {
        (
            state["expected"].clone(),
            state["source"].clone(),
            state["rule"].clone(),
        )
    };
    let on = (json!("ON"), json!("schedule"), json!("morning"));
    assert_eq!(decision(&reached[0].1), on);
    assert_eq!(reached[0].1["state"], "OFF");
    assert_eq!(
        decision(&reached[1].1),
        (Value::Null, json!("manual"), Value::Null)
    );

    strip.identity = None;
    strip.outlets.clear();
    let none = parsed_with(&strip, &statuses);
    assert_eq!(none.len(), 1, "whether it has that outlet is not known");
    let unknown = parsed_retained(&strip, &statuses, &["left"]);
    let paths: Vec<_> = unknown.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["mats/left", "mats"]);
    assert_eq!(
        (decision(&unknown[0].1), &unknown[0].1["state"]),
        (on, &Value::Null)
    );
}

#[test]
fn the_rules_of_a_plug_show_which_are_ours() {
    let mut plug = report(Kind::Plug, &[(None, Some(Power::On))]);
    let rule = |id: &str, enabled, days: Option<u8>| DeviceRule {
        id: id.to_owned(),
        enabled,
        time: RuleTime::Clock { minute: 485 },
        days: days.map(Weekdays::from_bits),
        to: Power::Off,
    };
    plug.outlets[0].rules.list = Some([rule("S1", true, Some(0b010)), rule("S2", false, None)].into());
    let mut statuses = no_statuses();
    let status = OutletStatus {
        off_rules: ["S1".to_owned()].into(),
        ..OutletStatus::MANUAL
    };
    statuses.set_outlet("mats".parse().unwrap(), status.into());
    let [(_, state)] = parsed_with(&plug, &statuses).try_into().unwrap();
    assert_eq!(
        state["device_schedules"],
        json!([
            {"id": "S1", "enabled": true, "time": "08:05", "days": ["mon"], "state": "OFF", "ours": true},
            {"id": "S2", "enabled": false, "time": "08:05", "days": null, "state": "OFF", "ours": false},
        ])
    );
    assert_eq!(state["device_schedules_enabled"], 1);
    assert!(state.get("off_rules").is_none());
}
