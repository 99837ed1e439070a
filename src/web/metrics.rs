//! What is published, as figures for Prometheus. Pure.
//!
//! Names and units follow <https://prometheus.io/docs/practices/naming/>, the two text formats
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>. A label has the id of a device, an outlet, a group or a
//! task, or one of a few words; so there are as many series as the settings make.

use std::{collections::BTreeMap, fmt::Write as _};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::domain::feed::FeedMessage;
use planner::sensor::Scale;

/// How the figures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Text,
}

impl Exposition {
    /// The format that a reader accepts.
    pub(super) fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    /// The value of `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Everything that is published, as text of that format.
pub(super) fn exposition(published: &[FeedMessage], format: Exposition) -> String {
    let retained = published.iter().filter_map(|message| {
        let payload: &Bytes = message.payload.as_ref()?;
        let value: Value = serde_json::from_slice(payload).ok()?;
        Some((&*message.topic, value))
    });
    let topics: BTreeMap<&str, Value> = retained.collect();
    let topic = |name: &str| topics.get(name).unwrap_or(&Value::Null);
    let site = topic("bridge/info").pointer("/settings/mqtt/site");
    let mut families = Families {
        site: site.and_then(Value::as_str),
        ..Families::default()
    };
    of_bridge(&mut families, topic("bridge/info"), topic("bridge/health"));
    of_weather(
        &mut families,
        topic("bridge/weather"),
        &topic("bridge/health")["weather"],
    );
    for device in topic("bridge/devices").as_array().into_iter().flatten() {
        let health = &topic("bridge/health")["devices"];
        of_device(&mut families, device, health, &topics);
    }
    for group in topic("bridge/groups").as_array().into_iter().flatten() {
        if let Some(id) = group["id"].as_str() {
            of_group(&mut families, id, topic(&format!("group/{id}")));
        }
    }
    families.text(format)
}

/// Why the bridge does not do all of its work; `None` if it does.
pub(super) fn obstacle(published: &[FeedMessage]) -> Option<&'static str> {
    let is = |topic: &str, pointer: &str, wanted: &Value| {
        let message = published.iter().find(|message| &*message.topic == topic)?;
        let value: Value = serde_json::from_slice(message.payload.as_ref()?).ok()?;
        Some(value.pointer(pointer)? == wanted)
    };
    if is("bridge/state", "/state", &"online".into()) != Some(true) {
        Some("the bridge starts or stops")
    } else if is("bridge/info", "/setup_mode", &false.into()) != Some(true) {
        Some("setup mode: the TP-Link account is missing")
    } else if is("bridge/health", "/mqtt", &Value::Null) != Some(true)
        && is("bridge/health", "/mqtt/connected", &true.into()) != Some(true)
    {
        Some("the MQTT broker is not connected")
    } else if is("bridge/health", "/mqtt/refused_subscriptions", &0.into()) == Some(false) {
        Some("the MQTT broker denies subscriptions, so that commands do not arrive")
    } else {
        None
    }
}

fn of_bridge(families: &mut Families<'_>, info: &Value, health: &Value) {
    if let Some(version) = info["version"].as_str() {
        families.add(&INFO, &[("version", version)], 1.0);
    }
    families.add_time(&START, &[], &info["started_at"]);
    families.add_value(&MEMORY, &[], &health["rss_bytes"]);
    families.add_scaled(&LAG, &[], &health["loop_lag_ms"], MILLI);
    if let Some(issues) = health["issues"].as_array() {
        families.add(&ISSUES, &[], count(issues.len()));
    }
    let mqtt = &health["mqtt"];
    families.add_value(&MQTT_CONNECTED, &[], &mqtt["connected"]);
    if let Some(broker) = mqtt["broker"].as_str() {
        families.add(&MQTT_BROKER, &[("broker", broker)], 1.0);
    }
    for (family, key) in [
        (&MQTT_CONNECTS, "connects"),
        (&MQTT_LOSSES, "losses"),
        (&MQTT_PUBLISHED, "published"),
        (&MQTT_ACKNOWLEDGED, "acknowledged"),
        (&MQTT_RECEIVED, "received"),
        (&MQTT_DROPPED, "dropped"),
        (&MQTT_EXPIRED, "expired"),
    ] {
        families.add_value(family, &[], &mqtt[key]);
    }
    let queues = &health["queues"];
    for (queue, length) in [
        ("mqtt", &mqtt["queued"]),
        ("commands", &queues["commands"]),
        ("device_messages", &queues["device_messages"]),
    ] {
        families.add_value(&QUEUE, &[("queue", queue)], length);
    }
    for (entry, counts) in health["notify"].as_object().into_iter().flatten() {
        families.add_value(&NOTIFY_SENT, &[("notify", entry)], &counts["sent"]);
        families.add_value(&NOTIFY_FAILED, &[("notify", entry)], &counts["failed"]);
        families.add_value(&NOTIFY_WAITING, &[("notify", entry)], &counts["waiting"]);
    }
    for (task, counts) in health["tasks"].as_object().into_iter().flatten() {
        families.add_value(&TASK_RUNNING, &[("task", task)], &counts["running"]);
        families.add_value(&TASK_FAILURES, &[("task", task)], &counts["failed"]);
        families.add_value(&TASK_RESTARTS, &[("task", task)], &counts["restarts"]);
    }
}

fn of_weather(families: &mut Families<'_>, forecast: &Value, health: &Value) {
    let Some(provider) = forecast["provider"].as_str() else {
        return;
    };
    let labels = [("provider", provider)];
    families.add_time(&WEATHER_ISSUED, &labels, &forecast["issued"]);
    families.add_value(&WEATHER_REQUESTS, &labels, &health["requests"]);
    for (kind, failures) in health["failures"].as_object().into_iter().flatten() {
        let labels = [("provider", provider), ("kind", kind)];
        families.add_value(&WEATHER_FAILURES, &labels, failures);
    }
}

fn of_device(families: &mut Families<'_>, entry: &Value, health: &Value, topics: &BTreeMap<&str, Value>) {
    let Some(id) = entry["id"].as_str() else { return };
    let device = [("device", id)];
    families.add(&DEVICE_UP, &device, flag(entry["availability"] == "online"));
    let words = ["model", "kind", "firmware", "client", "transport"].map(|key| (key, &entry[key]));
    let words = words.map(|(key, value)| (key, value.as_str().unwrap_or_default()));
    let labels: Vec<_> = device.into_iter().chain(words).collect();
    families.add(&DEVICE_INFO, &labels, 1.0);
    let health = &health[id];
    families.add_value(&DEVICE_LOGINS, &device, &health["logins"]);
    families.add_value(&DEVICE_REQUESTS, &device, &health["exchanges"]);
    families.add_value(&DEVICE_QUEUE, &device, &health["queued"]);
    families.add_time(&DEVICE_SEEN, &device, &health["last_seen"]);
    for (of, key) in [
        ("median", "rtt_p50_ms"),
        ("p95", "rtt_p95_ms"),
        ("longest", "rtt_max_ms"),
    ] {
        let labels = [("device", id), ("of", of)];
        families.add_scaled(&DEVICE_ROUND_TRIP, &labels, &health[key], MILLI);
    }
    for (kind, failures) in health["failures"].as_object().into_iter().flatten() {
        families.add_value(&DEVICE_FAILURES, &[("device", id), ("kind", kind)], failures);
    }
    let own = topics.get(id).unwrap_or(&Value::Null);
    families.add_value(&DEVICE_RSSI, &device, &own["rssi"]);
    let outlets = entry["outlets"].as_array().into_iter().flatten();
    let keys: Vec<&str> = outlets.filter_map(|outlet| outlet["key"].as_str()).collect();
    if keys.is_empty() {
        of_outlet(families, id, "", own);
    }
    for key in keys {
        let topic = format!("{id}/{key}");
        of_outlet(
            families,
            id,
            key,
            topics.get(topic.as_str()).unwrap_or(&Value::Null),
        );
    }
}

fn of_outlet(families: &mut Families<'_>, device: &str, outlet: &str, state: &Value) {
    let labels = [("device", device), ("outlet", outlet)];
    families.add_power(&OUTLET_ON, &labels, &state["state"]);
    families.add_power(&OUTLET_EXPECTED, &labels, &state["expected"]);
    families.add_value(&OUTLET_MISMATCH, &labels, &state["mismatch"]);
    families.add_value(&OUTLET_POWER, &labels, &state["power"]);
    families.add_value(&OUTLET_VOLTAGE, &labels, &state["voltage"]);
    families.add_value(&OUTLET_CURRENT, &labels, &state["current"]);
    families.add_scaled(&OUTLET_ENERGY, &labels, &state["energy_total"], JOULES_PER_KWH);
    if let Some(failsafe) = state["failsafe"].as_str() {
        let labels = [("device", device), ("outlet", outlet), ("state", failsafe)];
        families.add(&OUTLET_FAILSAFE, &labels, 1.0);
    }
}

fn of_group(families: &mut Families<'_>, id: &str, state: &Value) {
    let labels = [("group", id)];
    families.add_power(&GROUP_ON, &labels, &state["state"]);
    families.add_power(&GROUP_EXPECTED, &labels, &state["expected"]);
    if let Some(source) = state["source"].as_str() {
        families.add(&GROUP_SOURCE, &[("group", id), ("source", source)], 1.0);
    }
    if let Some(safety) = state["safety"].as_str() {
        families.add(&GROUP_LIMITED, &labels, flag(safety != "clear"));
    }
    let scale = if state["temperature_unit"] == "°F" {
        Scale::Fahrenheit
    } else {
        Scale::Celsius
    };
    for (family, key) in [(&GROUP_TARGET, "target"), (&GROUP_TEMPERATURE, "temperature")] {
        if let Some(degrees) = state[key].as_f64() {
            let celsius = scale.temperature(degrees).celsius();
            families.add(family, &labels, (celsius * 100.0).round() / 100.0);
        }
    }
    if let Some(action) = state["action"].as_str() {
        families.add(&GROUP_HEATING, &labels, flag(action == "heating"));
    }
}

const MILLI: f64 = 0.001;
const JOULES_PER_KWH: f64 = 3_600_000.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FamilyKind {
    Counter,
    Gauge,
}

/// A name with its series.
#[derive(Debug)]
struct Family {
    /// Below `tapo2mqtt_`, without `_total`.
    name: &'static str,
    kind: FamilyKind,
    help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    let kind = FamilyKind::Gauge;
    Family { name, kind, help }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    let kind = FamilyKind::Counter;
    Family { name, kind, help }
}

static INFO: Family = gauge("build_info", "The version of the bridge.");
static START: Family = gauge("start_time_seconds", "When the bridge started.");
static MEMORY: Family = gauge("resident_memory_bytes", "Memory of the bridge.");
static LAG: Family = gauge(
    "loop_lag_seconds",
    "How late the event loop was at most in the last minute.",
);
static ISSUES: Family = gauge("issues", "What needs attention, as bridge/health lists it.");
static MQTT_CONNECTED: Family = gauge("mqtt_connected", "Whether the broker is connected.");
static MQTT_BROKER: Family = gauge("mqtt_broker_info", "The broker that is connected.");
static MQTT_CONNECTS: Family = counter("mqtt_connects", "Connections to the broker.");
static MQTT_LOSSES: Family = counter("mqtt_losses", "Lost connections to the broker.");
static MQTT_PUBLISHED: Family = counter("mqtt_published", "Messages sent to the broker.");
static MQTT_ACKNOWLEDGED: Family = counter("mqtt_acknowledged", "Messages that the broker acknowledged.");
static MQTT_RECEIVED: Family = counter("mqtt_received", "Messages from the broker.");
static MQTT_DROPPED: Family = counter("mqtt_dropped", "Messages left out because too many waited.");
static MQTT_EXPIRED: Family = counter("mqtt_expired", "Messages left out because they were too old.");
static QUEUE: Family = gauge("queue_length", "What waits in a queue.");
static TASK_RUNNING: Family = gauge("task_running", "How many of these tasks run.");
static TASK_FAILURES: Family = counter("task_failures", "How often a task failed.");
static TASK_RESTARTS: Family = counter("task_restarts", "How often a task was started again.");
static NOTIFY_SENT: Family = counter("notifications_sent", "Notifications that were sent.");
static NOTIFY_FAILED: Family = counter(
    "notifications_failed",
    "Attempts to send notifications that failed.",
);
static NOTIFY_WAITING: Family = gauge("notifications_waiting", "Notifications that wait.");
static DEVICE_UP: Family = gauge("device_up", "Whether the device is online.");
static DEVICE_INFO: Family = gauge("device_info", "What the device is, and what reaches it.");
static DEVICE_LOGINS: Family = counter("device_logins", "Logins to the device.");
static DEVICE_REQUESTS: Family = counter("device_requests", "Requests that the device answered.");
static DEVICE_FAILURES: Family = counter("device_failures", "Requests that failed, by kind.");
static DEVICE_QUEUE: Family = gauge("device_queue_length", "Commands that wait for the device.");
static DEVICE_SEEN: Family = gauge("device_last_seen_time_seconds", "When the device answered last.");
static DEVICE_ROUND_TRIP: Family = gauge(
    "device_round_trip_seconds",
    "How long the device takes to answer.",
);
static DEVICE_RSSI: Family = gauge("device_signal_dbm", "Strength of the Wi-Fi signal.");
static OUTLET_ON: Family = gauge("outlet_on", "Whether the outlet is on.");
static OUTLET_EXPECTED: Family = gauge("outlet_expected_on", "Whether the outlet should be on.");
static OUTLET_MISMATCH: Family = gauge("outlet_mismatch", "Whether the outlet is not as it should be.");
static OUTLET_POWER: Family = gauge("outlet_power_watts", "Power of the outlet.");
static OUTLET_VOLTAGE: Family = gauge("outlet_voltage_volts", "Voltage at the outlet.");
static OUTLET_CURRENT: Family = gauge("outlet_current_amperes", "Current through the outlet.");
static OUTLET_ENERGY: Family = counter("outlet_energy_joules", "Energy through the outlet.");
static OUTLET_FAILSAFE: Family = gauge("outlet_failsafe", "The state of the countdown on the device.");
static GROUP_ON: Family = gauge("group_on", "Whether any outlet of the group is on.");
static GROUP_EXPECTED: Family = gauge("group_expected_on", "Whether the group should be on.");
static GROUP_SOURCE: Family = gauge("group_source", "What decides over the group.");
static GROUP_LIMITED: Family = gauge("group_limited", "Whether a limit keeps the group off.");

static GROUP_TARGET: Family = gauge("group_target_celsius", "What the thermostat of the group holds.");
static GROUP_TEMPERATURE: Family = gauge(
    "group_temperature_celsius",
    "What the thermometer of the group shows.",
);
static GROUP_HEATING: Family = gauge("group_heating", "Whether the thermostat of the group heats.");
static WEATHER_ISSUED: Family = gauge(
    "weather_issued_time_seconds",
    "When the provider made the forecast that counts.",
);
static WEATHER_REQUESTS: Family = counter("weather_requests", "Requests to the provider of forecasts.");
static WEATHER_FAILURES: Family = counter("weather_failures", "Forecasts that did not come, by kind.");

/// The series by family, in the order in which the families came first: those of a family stand together.
#[derive(Debug, Default)]
struct Families<'a> {
    /// A label of every series.
    site: Option<&'a str>,
    order: Vec<&'static Family>,
    series: BTreeMap<&'static str, String>,
}

impl Families<'_> {
    fn add(&mut self, family: &'static Family, labels: &[(&str, &str)], value: f64) {
        let order = &mut self.order;
        let series = self.series.entry(family.name).or_insert_with(|| {
            order.push(family);
            String::new()
        });
        let total = match family.kind {
            FamilyKind::Counter => "_total",
            FamilyKind::Gauge => "",
        };
        let _ = write!(series, "tapo2mqtt_{}{total}", family.name);
        let site = self.site.map(|site| ("site", site));
        let mut before = '{';
        for (name, text) in site.iter().chain(labels) {
            let _ = write!(series, "{before}{name}=\"{}\"", escaped(text));
            before = ',';
        }
        let after = if before == ',' { "}" } else { "" };
        let _ = writeln!(series, "{after} {value}");
    }

    /// A number, or a truth value. Nothing where there is none.
    fn add_value(&mut self, family: &'static Family, labels: &[(&str, &str)], value: &Value) {
        self.add_scaled(family, labels, value, 1.0);
    }

    fn add_scaled(&mut self, family: &'static Family, labels: &[(&str, &str)], value: &Value, factor: f64) {
        if let Some(value) = value.as_f64().or_else(|| value.as_bool().map(flag)) {
            self.add(family, labels, value * factor);
        }
    }

    fn add_power(&mut self, family: &'static Family, labels: &[(&str, &str)], value: &Value) {
        if let Some(power) = value.as_str() {
            self.add(family, labels, flag(power == "ON"));
        }
    }

    fn add_time(&mut self, family: &'static Family, labels: &[(&str, &str)], value: &Value) {
        if let Some(time) = value.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
            self.add(family, labels, time.as_duration().as_secs_f64());
        }
    }

    fn text(&self, format: Exposition) -> String {
        let mut text = String::new();
        for family in &self.order {
            let (kind, total) = match (family.kind, format) {
                (FamilyKind::Counter, Exposition::Text) => ("counter", "_total"),
                (FamilyKind::Counter, Exposition::OpenMetrics) => ("counter", ""),
                (FamilyKind::Gauge, _) => ("gauge", ""),
            };
            let (name, help) = (family.name, family.help);
            let _ = writeln!(text, "# HELP tapo2mqtt_{name}{total} {help}");
            let _ = writeln!(text, "# TYPE tapo2mqtt_{name}{total} {kind}");
            text.extend(self.series.get(name).map(String::as_str));
        }
        if format == Exposition::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn count(length: usize) -> f64 {
    f64::from(u32::try_from(length).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::domain::feed::feed;

    fn published(topics: &[(&str, Value)]) -> Vec<FeedMessage> {
        let (writer, feed) = feed();
        for (topic, payload) in topics {
            writer.publish(topic, &payload.to_string().into());
        }
        writer.event(json!({"type": "override_set"}).to_string().into());
        feed.changes(None, usize::MAX).messages
    }

    fn devices() -> Value {
        let outlets = json!([{"key": "left"}, {"key": "2"}]);
        json!([
            {"id": "heater", "model": "P110", "kind": "plug", "firmware": "1.4 \"b\"", "client": "tapo",
             "transport": "klap", "outlets": [], "availability": "online"},
            {"id": "mats", "model": null, "outlets": outlets, "availability": "offline"},
        ])
    }

    fn text(topics: &[(&str, Value)], format: Exposition) -> String {
        exposition(&published(topics), format)
    }

    #[test]
    fn an_outlet_has_its_state_in_base_units() {
        let heater = json!({"state": "ON", "expected": "OFF", "mismatch": true, "power": 612.5, "voltage": null,
                            "energy_total": 1.5, "failsafe": "armed", "rssi": -51});
        let topics = [("bridge/devices", devices()), ("heater", heater)];
        let text = text(&topics, Exposition::Text);
        for line in [
            r#"tapo2mqtt_device_up{device="heater"} 1"#,
            r#"tapo2mqtt_device_up{device="mats"} 0"#,
            r#"tapo2mqtt_device_info{device="heater",model="P110",kind="plug",firmware="1.4 \"b\"",client="tapo",transport="klap"} 1"#,
            r#"tapo2mqtt_device_signal_dbm{device="heater"} -51"#,
            r#"tapo2mqtt_outlet_on{device="heater",outlet=""} 1"#,
            r#"tapo2mqtt_outlet_expected_on{device="heater",outlet=""} 0"#,
            r#"tapo2mqtt_outlet_mismatch{device="heater",outlet=""} 1"#,
            r#"tapo2mqtt_outlet_power_watts{device="heater",outlet=""} 612.5"#,
            "# TYPE tapo2mqtt_outlet_energy_joules_total counter",
            r#"tapo2mqtt_outlet_energy_joules_total{device="heater",outlet=""} 5400000"#,
            r#"tapo2mqtt_outlet_failsafe{device="heater",outlet="",state="armed"} 1"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        // What is not known has no figure.
        assert!(!text.contains("volts") && !text.contains("left"), "{text}");
    }

    #[test]
    fn a_strip_has_a_series_for_each_outlet() {
        let state = |on: &str| json!({"state": on, "power": 1});
        let topics = [
            ("bridge/devices", devices()),
            ("mats/left", state("ON")),
            ("mats/2", state("OFF")),
        ];
        let text = text(&topics, Exposition::Text);
        let wanted = "# HELP tapo2mqtt_outlet_on Whether the outlet is on.\n\
                      # TYPE tapo2mqtt_outlet_on gauge\n\
                      tapo2mqtt_outlet_on{device=\"mats\",outlet=\"left\"} 1\n\
                      tapo2mqtt_outlet_on{device=\"mats\",outlet=\"2\"} 0\n";
        assert!(text.contains(wanted), "{text}");
    }

    #[test]
    fn the_bridge_its_groups_and_tasks_are_there() {
        let health = json!({
            "rss_bytes": 41_553_920, "loop_lag_ms": 15, "issues": ["a"],
            "mqtt": {"connected": true, "broker": "b:1884", "losses": 2, "queued": 3},
            "queues": {"commands": 1},
            "tasks": {"scheduler": {"running": 1, "failed": 0, "restarts": 0}},
            "devices": {"heater": {"logins": 2, "rtt_p95_ms": 14.5, "failures": {"no_answer": 4}}},
        });
        let topics = [
            (
                "bridge/info",
                json!({"version": "1.2.3", "started_at": "1970-01-01T00:01:00.5Z"}),
            ),
            ("bridge/health", health),
            ("bridge/devices", devices()),
            ("bridge/groups", json!([{"id": "driveway"}])),
            (
                "group/driveway",
                json!({"state": "OFF", "source": "safety", "safety": "tripped"}),
            ),
        ];
        let text = text(&topics, Exposition::OpenMetrics);
        for line in [
            r#"tapo2mqtt_build_info{version="1.2.3"} 1"#,
            "tapo2mqtt_start_time_seconds 60.5",
            "tapo2mqtt_resident_memory_bytes 41553920",
            "tapo2mqtt_loop_lag_seconds 0.015",
            "tapo2mqtt_issues 1",
            "tapo2mqtt_mqtt_connected 1",
            r#"tapo2mqtt_mqtt_broker_info{broker="b:1884"} 1"#,
            "# TYPE tapo2mqtt_mqtt_losses counter",
            "tapo2mqtt_mqtt_losses_total 2",
            r#"tapo2mqtt_queue_length{queue="mqtt"} 3"#,
            r#"tapo2mqtt_task_running{task="scheduler"} 1"#,
            r#"tapo2mqtt_device_logins_total{device="heater"} 2"#,
            r#"tapo2mqtt_device_round_trip_seconds{device="heater",of="p95"} 0.0145"#,
            r#"tapo2mqtt_device_failures_total{device="heater",kind="no_answer"} 4"#,
            r#"tapo2mqtt_group_limited{group="driveway"} 1"#,
            r#"tapo2mqtt_group_source{group="driveway",source="safety"} 1"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"), "{text}");
    }

    #[test]
    fn thermostats_and_the_forecast_are_there() {
        let topics = [
            ("bridge/groups", json!([{"id": "room"}, {"id": "attic"}])),
            (
                "group/room",
                json!({"state": "ON", "target": 21.5, "temperature": 19.9, "temperature_unit": "°C", "action": "heating"}),
            ),
            (
                "group/attic",
                json!({"state": "OFF", "target": null, "temperature": 50, "temperature_unit": "°F", "action": "idle"}),
            ),
            (
                "bridge/weather",
                json!({"provider": "nws", "issued": "1970-01-01T01:00:00Z"}),
            ),
            (
                "bridge/health",
                json!({"weather": {"provider": "nws", "requests": 7, "failures": {"status": 2}}}),
            ),
        ];
        let text = text(&topics, Exposition::Text);
        for line in [
            r#"tapo2mqtt_group_target_celsius{group="room"} 21.5"#,
            r#"tapo2mqtt_group_temperature_celsius{group="room"} 19.9"#,
            r#"tapo2mqtt_group_temperature_celsius{group="attic"} 10"#,
            r#"tapo2mqtt_group_heating{group="room"} 1"#,
            r#"tapo2mqtt_group_heating{group="attic"} 0"#,
            r#"tapo2mqtt_weather_issued_time_seconds{provider="nws"} 3600"#,
            r#"tapo2mqtt_weather_requests_total{provider="nws"} 7"#,
            r#"tapo2mqtt_weather_failures_total{provider="nws",kind="status"} 2"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(!text.contains(r#"target_celsius{group="attic"}"#), "{text}");
    }

    #[test]
    fn a_thousand_outlets_are_less_than_two_megabytes() {
        let ids: Vec<String> = (0..1000)
            .map(|number| format!("heater-in-room-{number}"))
            .collect();
        let device = |id: &String| {
            json!({"id": id, "model": "P110", "kind": "plug", "firmware": "1.4.8 Build 260804 Rel.045837",
                   "client": "tapo", "transport": "klap", "outlets": [], "availability": "online"})
        };
        let health = json!({"logins": 1, "exchanges": 1234, "queued": 0, "last_seen": "2026-11-21T10:35:55.59Z",
                            "rtt_p50_ms": 1.7, "rtt_p95_ms": 14.4, "rtt_max_ms": 28.8, "failures": {"no_answer": 3}});
        let devices: Value = ids.iter().map(device).collect();
        let health: Map<String, Value> = ids.iter().map(|id| (id.clone(), health.clone())).collect();
        let state = json!({"state": "ON", "expected": "ON", "mismatch": false, "power": 612.5, "voltage": 230.1,
                           "current": 2.66, "energy_total": 1234.567, "failsafe": "armed", "rssi": -51});
        let mut topics: Vec<(&str, Value)> = ids.iter().map(|id| (id.as_str(), state.clone())).collect();
        topics.push(("bridge/devices", devices));
        topics.push(("bridge/health", json!({ "devices": health })));
        let published = published(&topics);
        let before = std::time::Instant::now();
        let text = exposition(&published, Exposition::Text);
        println!("{} bytes in {:?}", text.len(), before.elapsed());
        assert!(text.len() < 2_000_000, "{}", text.len());
    }

    #[test]
    fn a_site_is_a_label_of_every_series() {
        let topics = [
            (
                "bridge/info",
                json!({"version": "1", "settings": {"mqtt": {"site": "north"}}}),
            ),
            ("bridge/devices", devices()),
            ("bridge/health", json!({"mqtt": {"connected": true}})),
            ("heater", json!({"state": "ON"})),
        ];
        let text = text(&topics, Exposition::Text);
        let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(
            series.iter().all(|line| line.contains("{site=\"north\"")),
            "{text}"
        );
        assert!(
            series.contains(&r#"tapo2mqtt_mqtt_connected{site="north"} 1"#),
            "{text}"
        );
        assert!(
            series.contains(&r#"tapo2mqtt_outlet_on{site="north",device="heater",outlet=""} 1"#),
            "{text}"
        );
    }

    #[test]
    fn each_family_stands_once() {
        let topics = [("bridge/devices", devices()), ("heater", json!({"state": "ON"}))];
        let text = text(&topics, Exposition::Text);
        let mut types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), all);
        assert!(!text.contains("EOF"));
    }

    #[test]
    fn a_reader_gets_the_format_that_it_accepts() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        assert_eq!(Exposition::accepted(Some(prometheus)), Exposition::OpenMetrics);
        assert_eq!(Exposition::accepted(Some("*/*")), Exposition::Text);
        assert_eq!(Exposition::accepted(None), Exposition::Text);
    }

    #[test]
    fn it_is_ready_once_it_can_do_its_work() {
        let topics = |state: &str, setup: bool, mqtt: Value| {
            obstacle(&published(&[
                ("bridge/state", json!({"state": state})),
                ("bridge/info", json!({"setup_mode": setup})),
                ("bridge/health", json!({"mqtt": mqtt})),
            ]))
        };
        let connected = || json!({"connected": true});
        assert_eq!(topics("online", false, connected()), None);
        assert_eq!(topics("online", false, Value::Null), None, "no broker is used");
        assert!(topics("offline", false, connected()).unwrap().contains("stops"));
        assert!(topics("online", true, connected()).unwrap().contains("account"));
        let away = topics("online", false, json!({"connected": false}));
        assert!(away.unwrap().contains("broker"));
        assert!(obstacle(&[]).is_some());
    }
}
