//! A schedule in the form of a `[[group.schedule]]`, complete, so that it can be sent back with `schedule/set`.

use serde_json::{Map, Value, json};

use planner::{
    condition::{BlackIce, Bound, Condition, Test, WhenUnknown},
    edge::Edge,
    rules::{CatchUp, LimitChanges, Priority, Schedule},
    setpoint::Setpoint,
};

/// The counterpart of [`parse_schedule`](super::parse_schedule). Keys that are not set are left out.
pub fn schedule_definition(schedule: &Schedule) -> Value {
    let mut definition = json!({
        "id": schedule.id,
        "enabled": schedule.enabled,
        "priority": match schedule.priority {
            Priority::Critical => "critical",
            Priority::Normal => "normal",
            Priority::Low => "low",
        },
        "days": schedule.days.names(),
        "when": schedule.conditions.iter().map(condition).collect::<Vec<_>>(),
        "safety": limits(&schedule.limits),
        "catch_up": match schedule.catch_up {
            CatchUp::Apply => "apply",
            CatchUp::Skip => "skip",
        },
    });
    if let Value::Object(keys) = &mut definition {
        window(schedule, keys);
        put(keys, "editable", schedule.editable.then_some(true));
        put(keys, "target", schedule.target.map(Setpoint::degrees));
    }
    definition
}

fn window(schedule: &Schedule, keys: &mut Map<String, Value>) {
    let window = schedule.window;
    match window.start() {
        None => put(keys, "all_day", Some(true)),
        Some(start) => edge(&start, "start", keys),
    }
    if let Some(end) = window.end() {
        edge(&end, "end", keys);
    }
    put(keys, "for", window.length().map(|length| length.to_string()));
}

fn edge(edge: &Edge, key: &str, keys: &mut Map<String, Value>) {
    let clamps = edge.clamps();
    let text = |time: Option<_>| time.map(|time: planner::edge::ClockTime| time.to_string());
    put(keys, key, Some(edge.time().to_string()));
    put(keys, &format!("{key}_not_before"), text(clamps.not_before));
    put(keys, &format!("{key}_not_after"), text(clamps.not_after));
    put(keys, &format!("fallback_{key}"), text(edge.fallback()));
}

fn condition(condition: &Condition) -> Value {
    let mut keys = Map::new();
    match &condition.test {
        Test::Number {
            sensor,
            bound,
            limit,
            hysteresis,
        } => {
            let bound = match bound {
                Bound::AtMost => "at_most",
                Bound::AtLeast => "at_least",
            };
            put(&mut keys, "sensor", Some(sensor.as_str()));
            put(&mut keys, bound, Some(*limit));
            put(&mut keys, "hysteresis", Some(*hysteresis));
        }
        Test::Is { sensor, value } => {
            put(&mut keys, "sensor", Some(sensor.as_str()));
            put(&mut keys, "is", Some(*value));
        }
        Test::BlackIce(ice) => put(&mut keys, "black_ice", Some(black_ice(ice))),
    }
    put(&mut keys, "dwell", condition.dwell.map(|dwell| dwell.to_string()));
    let when_unknown = match condition.when_unknown {
        WhenUnknown::Off => "off",
        WhenUnknown::On => "on",
        WhenUnknown::Hold => "hold",
    };
    put(&mut keys, "when_unknown", Some(when_unknown));
    Value::Object(keys)
}

fn black_ice(ice: &BlackIce) -> Value {
    let thresholds = &ice.thresholds;
    json!({
        "temperature": ice.temperature,
        "dew_point": ice.dew_point,
        "humidity": ice.humidity,
        "temperature_at_most": thresholds.temperature_at_most,
        "spread_at_most": thresholds.spread_at_most,
        "humidity_at_least": thresholds.humidity_at_least,
        "hysteresis": thresholds.hysteresis,
        "humidity_hysteresis": thresholds.humidity_hysteresis,
    })
}

fn limits(limits: &LimitChanges) -> Value {
    let mut keys = Map::new();
    for (key, limit) in [
        ("max_on", limits.max_on),
        ("cooldown", limits.cooldown),
        ("min_off", limits.min_off),
        ("max_on_per_day", limits.max_on_per_day),
    ] {
        put(&mut keys, key, limit.map(|limit| limit.to_string()));
    }
    Value::Object(keys)
}

fn put(keys: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        keys.insert(key.to_owned(), value.into());
    }
}
