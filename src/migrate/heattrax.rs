//! HeatTrax's `config.yaml` (agster27/HeatTrax_Tapo_M400_Scheduler), in its three shapes: one `device`, groups
//! with `automation`, and groups with `schedules`.

use serde_json::{Value, json};

use super::{
    Draft, free_slug,
    source::{Node, Taken},
};

/// What its example file shows in the place of an account.
const PLACEHOLDERS: [&str; 2] = ["your_tapo_username", "your_tapo_password"];
/// HeatTrax's own defaults.
const MAX_RUNTIME_HOURS: f64 = 6.0;
const COOLDOWN_MINUTES: f64 = 30.0;
const THRESHOLD_F: f64 = 34.0;
const MORNING_HOURS: (f64, f64) = (6.0, 8.0);
/// Names and topics of the two sensors that stand for HeatTrax's weather service.
const TEMPERATURE: &str = "outdoor";
const PRECIPITATION: &str = "precipitation";

/// Why a part of the file has no place here.
const REASONS: [(&str, &str); 9] = [
    (
        "weather_api",
        "no weather service is asked; see the sensors below",
    ),
    ("scheduler", "conditions are looked at whenever a value comes in"),
    (
        "thresholds",
        "there is no forecast: heating neither begins before precipitation nor goes on after it",
    ),
    (
        "notifications",
        "let Home Assistant or Node-RED tell you; tapo2mqtt/bridge/event says what happens",
    ),
    ("health_check", "devices are watched all the time"),
    ("health_server", "nothing listens; `tapo2mqtt healthcheck` tells"),
    (
        "web",
        "there is no web page; use Home Assistant, or any other MQTT client",
    ),
    ("reboot", "a device that fails does not end the program"),
    (
        "logging",
        "the log goes to standard error; systemd or the container engine keeps it",
    ),
];

/// What is written once and referred to by groups.
#[derive(Default)]
struct Devices {
    /// Address and id.
    known: Vec<(String, String)>,
    /// Outlets that a group has.
    taken: Vec<String>,
    needs_temperature: bool,
    needs_precipitation: bool,
}

pub(super) fn migrate(value: &Value) -> String {
    let taken = Taken::default();
    let root = Node::root(value, &taken);
    let (mut draft, mut groups, mut devices) = (Draft::default(), Draft::default(), Devices::default());
    general(&root, &mut draft);
    let single = root.get("device");
    if single.exists() {
        account(&single, &mut draft);
        group("heattrax", &single, &root, &mut groups, &mut devices, &mut draft);
    } else {
        account(&root.get("devices").get("credentials"), &mut draft);
    }
    for (name, node) in root.get("devices").get("groups").entries() {
        group(&name, &node, &root, &mut groups, &mut devices, &mut draft);
    }
    sensors(&devices, &mut draft);
    draft.lines.append(&mut groups.lines);
    left_over(&root, &mut draft);
    draft.finish(
        "Made from a configuration of HeatTrax by `tapo2mqtt migrate heattrax`. Test it with `check`.",
    )
}

fn general(root: &Node<'_>, draft: &mut Draft) {
    draft.change(
        "A broker is needed: set mqtt.host, and mqtt.username and mqtt.password if it asks for them.",
    );
    draft.change(
        "HEATTRAX_... variables of the environment are not read: what they set must be in this file.",
    );
    draft.change(
        "A manual ON or OFF lasts until the next edge of a schedule, or three hours (override_default).",
    );
    draft.section("[mqtt]");
    draft.key("host", "127.0.0.1");
    let location = root.get("location");
    draft.section("[location]");
    for key in ["latitude", "longitude"] {
        if let Some(degrees) = location.number(key) {
            draft.key(key, degrees);
        }
    }
    if let Some(zone) = location.text("timezone") {
        draft.key("timezone", zone);
    }
    if let Some(level) = root.get("logging").text("level") {
        let level = match level.to_lowercase().as_str() {
            "debug" => "debug",
            "warning" => "warn",
            "error" | "critical" => "error",
            _ => "info",
        };
        draft.section("[log]");
        draft.key("level", level);
    }
    if root.flag("vacation_mode") == Some(true) {
        draft.change("Vacation mode was on. It is no setting any more: switch it on again when this runs.");
    }
}

fn account(node: &Node<'_>, draft: &mut Draft) {
    let real = |text: &String| !text.is_empty() && !PLACEHOLDERS.contains(&text.as_str());
    let (username, password) = (
        node.text("username").filter(real),
        node.text("password").filter(real),
    );
    draft.section("[tapo]");
    if let (Some(username), Some(password)) = (username, password) {
        draft.key("username", username);
        draft.key("password", password);
    } else {
        draft.key("username", "you@example.com");
        draft.key("password", "...");
        draft.change("The account was not in the file: set tapo.username and tapo.password.");
    }
}

/// One group: its devices go to `draft`, the group itself to `groups`.
fn group(
    name: &str,
    node: &Node<'_>,
    root: &Node<'_>,
    groups: &mut Draft,
    devices: &mut Devices,
    draft: &mut Draft,
) {
    let enabled = node.flag("enabled").unwrap_or(true);
    let mut items = node.list("items");
    if node.get("ip_address").exists() {
        items.push(node.clone());
    }
    let outlets: Vec<String> = items
        .iter()
        .flat_map(|item| item_outlets(item, devices, draft))
        .collect();
    if outlets.is_empty() {
        draft.change(format!(
            "The group {name} has no outlets of its own and is left out."
        ));
        return;
    }
    groups.section("[[group]]");
    groups.key("id", free_slug(name, &[]));
    groups.key("name", name.replace('_', " "));
    groups.key("outlets", outlets);
    let safety = root.get("safety");
    groups.section("[group.safety]");
    let max_on = safety.number("max_runtime_hours").unwrap_or(MAX_RUNTIME_HOURS);
    let cooldown = safety.number("cooldown_minutes").unwrap_or(COOLDOWN_MINUTES);
    limits(Some(max_on), Some(cooldown), groups);
    if !enabled {
        draft.change(format!(
            "The group {name} was disabled: all its schedules are disabled."
        ));
    }
    let mut ids = Vec::new();
    for schedule in node.list("schedules") {
        unified(&schedule, enabled, &mut ids, groups, devices, draft);
    }
    automation(name, node, root, enabled, groups, devices, draft);
}

/// The outlets of an item in our words. A device with one address is written once.
fn item_outlets(item: &Node<'_>, devices: &mut Devices, draft: &mut Draft) -> Vec<String> {
    let name = item.text("name");
    let Some(address) = item.text("ip_address") else {
        return Vec::new();
    };
    let known = devices.known.iter().find(|(other, _)| *other == address);
    let id = if let Some((_, id)) = known {
        id.clone()
    } else {
        let ids: Vec<String> = devices.known.iter().map(|(_, id)| id.clone()).collect();
        let id = free_slug(name.as_deref().unwrap_or("heattrax"), &ids);
        draft.section("[[device]]");
        draft.key("id", id.clone());
        draft.key("address", address.clone());
        if let Some(name) = name {
            draft.key("name", name);
        }
        devices.known.push((address, id.clone()));
        id
    };
    let positions = item.integers("outlets").unwrap_or_default();
    let wanted = if positions.is_empty() {
        vec![id]
    } else {
        draft.change("Outlets count from 1, not from 0.");
        positions
            .iter()
            .map(|position| format!("{id}/{}", position + 1))
            .collect()
    };
    let mut free = Vec::new();
    for outlet in wanted {
        let device = outlet.split('/').next().unwrap_or_default();
        let overlaps = |other: &String| {
            *other == outlet
                || other == device
                || (device == outlet && other.starts_with(&format!("{device}/")))
        };
        if devices.taken.iter().any(overlaps) {
            draft.change(format!(
                "{outlet} was in two groups; it stays in the first of them, in the order below."
            ));
        } else {
            devices.taken.push(outlet.clone());
            free.push(outlet);
        }
    }
    free
}

fn limits(hours: Option<f64>, minutes: Option<f64>, groups: &mut Draft) {
    let keys = [
        ("max_on", hours.map(|hours| hours * 3600.0)),
        ("cooldown", minutes.map(|minutes| minutes * 60.0)),
    ];
    for (key, seconds) in keys {
        match seconds {
            Some(seconds) if seconds >= 1.0 => groups.key(key, seconds),
            Some(_) => groups.key(key, "none"),
            None => {}
        }
    }
}

/// A schedule of the newest shape.
fn unified(
    node: &Node<'_>,
    enabled: bool,
    ids: &mut Vec<String>,
    groups: &mut Draft,
    devices: &mut Devices,
    draft: &mut Draft,
) {
    let name = node.text("name").unwrap_or_else(|| "schedule".to_owned());
    let id = free_slug(&name, ids);
    ids.push(id.clone());
    groups.section("[[group.schedule]]");
    groups.key("id", id);
    groups.key("enabled", node.flag("enabled").unwrap_or(true) && enabled);
    if let Some(priority) = node.text("priority") {
        groups.key("priority", priority.to_lowercase());
    }
    let days = node.integers("days");
    if let Some(days) = &days {
        groups.key("days", days.clone());
    }
    // YAML 1.1 reads a bare `on` as true.
    let on = ["on", "true"]
        .map(|key| node.get(key))
        .into_iter()
        .find(Node::exists);
    let off = ["off", "false"]
        .map(|key| node.get(key))
        .into_iter()
        .find(Node::exists);
    let (start, end) = (
        on.and_then(|on| Edge::of(&on)),
        off.and_then(|off| Edge::of(&off)),
    );
    window(
        &name,
        start,
        end,
        days.is_some_and(|days| days.len() < 7),
        groups,
        draft,
    );
    let wanted = node.get("conditions");
    conditions(
        wanted.number("temperature_max"),
        wanted.flag("precipitation_active"),
        groups,
        devices,
    );
    let safety = node.get("safety");
    let (hours, minutes) = (
        safety.number("max_runtime_hours"),
        safety.number("cooldown_minutes"),
    );
    if hours.is_some() || minutes.is_some() {
        groups.section("[group.schedule.safety]");
        limits(hours, minutes, groups);
    }
}

/// When a window starts or ends.
enum Edge {
    Clock(u32),
    Sun { text: String, fallback: u32 },
    After { seconds: f64 },
}

impl Edge {
    fn of(node: &Node<'_>) -> Option<Self> {
        let kind = node.text("type")?.to_lowercase();
        match kind.as_str() {
            "time" => minutes_of(&node.text("value")?).map(Self::Clock),
            "duration" => Some(Self::After {
                seconds: node.number("value")? * 3600.0,
            }),
            "sunrise" | "sunset" => {
                let offset = node.number("offset").unwrap_or(0.0).round();
                let sign = if offset < 0.0 { '-' } else { '+' };
                // At most 180, so nothing is cut.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let minutes = offset.abs().min(180.0) as u32;
                let text = if minutes == 0 {
                    kind
                } else {
                    format!("{kind}{sign}{}", clock(minutes))
                };
                let fallback = minutes_of(&node.text("fallback")?)?;
                Some(Self::Sun { text, fallback })
            }
            _ => None,
        }
    }

    fn usual(&self) -> u32 {
        match self {
            Self::Clock(minutes)
            | Self::Sun {
                fallback: minutes, ..
            } => *minutes,
            Self::After { .. } => 0,
        }
    }
}

/// `6:00` or `06:00` as minutes after midnight.
fn minutes_of(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    Some(hour.parse::<u32>().ok()? * 60 + minute.parse::<u32>().ok()?)
}

fn clock(minutes: u32) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn window(
    name: &str,
    start: Option<Edge>,
    end: Option<Edge>,
    some_days: bool,
    groups: &mut Draft,
    draft: &mut Draft,
) {
    let (Some(start), Some(end)) = (start, end) else {
        groups.key("all_day", true);
        draft.change(format!(
            "The times of {name:?} could not be read; it lasts all day. Correct that."
        ));
        return;
    };
    edge("start", &start, groups);
    edge("end", &end, groups);
    let (from, to) = (start.usual(), end.usual());
    let next_day = to <= from;
    match (&start, &end) {
        (_, Edge::After { .. }) => {
            draft.change("A schedule with a duration ends after it, also past midnight.");
        }
        (Edge::Clock(at), Edge::Sun { .. }) if !next_day => {
            groups.key("end_not_before", clock(at + 1));
            draft.change(format!(
                "{name:?} ends at once where the sun is earlier than its start; HeatTrax then went on for a day."
            ));
        }
        (Edge::Sun { .. }, Edge::Clock(at)) if !next_day && *at > 0 => {
            groups.key("start_not_after", clock(at - 1));
            draft.change(format!(
                "{name:?} starts just before its end where the sun is later than that; HeatTrax then went on for a day."
            ));
        }
        _ => {}
    }
    if some_days && (next_day || matches!(end, Edge::After { .. })) {
        draft.change(format!(
            "{name:?} goes past midnight: its days are those it starts on, and it then lasts to its end. HeatTrax looked \
             at the day on both sides of midnight."
        ));
    }
}

fn edge(key: &str, edge: &Edge, groups: &mut Draft) {
    match edge {
        Edge::Clock(minutes) => groups.key(key, clock(*minutes)),
        Edge::Sun { text, fallback } => {
            groups.key(key, text.clone());
            groups.key(&format!("fallback_{key}"), clock(*fallback));
        }
        Edge::After { seconds } => groups.key("for", *seconds),
    }
}

fn conditions(at_most: Option<f64>, precipitation: Option<bool>, groups: &mut Draft, devices: &mut Devices) {
    let mut when = Vec::new();
    if let Some(limit) = at_most {
        devices.needs_temperature = true;
        when.push(format!(
            "{{ sensor = \"{TEMPERATURE}\", at_most = {} }}",
            json!(limit)
        ));
    }
    if let Some(wanted) = precipitation {
        devices.needs_precipitation = true;
        when.push(format!("{{ sensor = \"{PRECIPITATION}\", is = {wanted} }}"));
    }
    if !when.is_empty() {
        groups.line(format!("when = [{}]", when.join(", ")));
    }
}

/// The rules of the older shapes as schedules.
fn automation(
    name: &str,
    node: &Node<'_>,
    root: &Node<'_>,
    enabled: bool,
    groups: &mut Draft,
    devices: &mut Devices,
    draft: &mut Draft,
) {
    let (rules, morning) = (node.get("automation"), root.get("morning_mode"));
    // The single device had no rules to choose from.
    let alone = node.get("ip_address").exists();
    let weather = rules.flag("weather_control").unwrap_or(alone);
    let threshold = root
        .get("thresholds")
        .number("temperature_f")
        .unwrap_or(THRESHOLD_F);
    if weather && rules.flag("precipitation_control").unwrap_or(alone) {
        schedule("precipitation", enabled, groups);
        groups.key("priority", "critical");
        groups.key("all_day", true);
        conditions(Some(threshold), Some(true), groups, devices);
    }
    let in_the_morning =
        morning.flag("enabled").unwrap_or(false) && rules.flag("morning_mode").unwrap_or(alone);
    let hours = (
        morning.number("start_hour").unwrap_or(MORNING_HOURS.0),
        morning.number("end_hour").unwrap_or(MORNING_HOURS.1),
    );
    let limit = morning.number("temperature_f").unwrap_or(threshold);
    if weather && in_the_morning {
        schedule("morning", enabled, groups);
        for (key, hour) in [("start", hours.0), ("end", hours.1)] {
            groups.key(key, format!("{hour:02}:00"));
        }
        conditions(Some(limit), None, groups, devices);
    }
    let times = node.get("schedule");
    let (on, off, days) = (
        times.text("on_time"),
        times.text("off_time"),
        times.integers("days"),
    );
    if rules.flag("schedule_control").unwrap_or(false) {
        schedule("schedule", enabled, groups);
        if let Some(days) = &days {
            draft.change("Days count from 1 (Monday) to 7, not from 0.");
            groups.key("days", days.iter().map(|day| day + 1).collect::<Vec<_>>());
        }
        let time = |text: Option<String>| text.and_then(|text| minutes_of(&text)).map(Edge::Clock);
        window(
            name,
            time(on),
            time(off),
            days.is_some_and(|days| days.len() < 7),
            groups,
            draft,
        );
    }
}

fn schedule(id: &str, enabled: bool, groups: &mut Draft) {
    groups.section("[[group.schedule]]");
    groups.key("id", id);
    groups.key("enabled", enabled);
}

fn sensors(devices: &Devices, draft: &mut Draft) {
    let sensors = [
        (
            devices.needs_temperature,
            TEMPERATURE,
            "/temperature_f",
            Some("°F"),
        ),
        (devices.needs_precipitation, PRECIPITATION, "/precipitation", None),
    ];
    for (needed, id, pointer, unit) in sensors {
        if !needed {
            continue;
        }
        draft.section("[[sensor]]");
        draft.key("id", id);
        draft.key("topic", "weather/outdoor");
        draft.key("pointer", pointer);
        if let Some(unit) = unit {
            draft.key("unit", unit);
        }
        draft.change(
            "The weather is not fetched from the internet. Let Home Assistant or Node-RED publish it to weather/outdoor, \
             as {\"temperature_f\": 30.2, \"precipitation\": true}. Until then, and when it is older than 30 minutes, \
             schedules with conditions are off, as HeatTrax had it while its weather service was offline.",
        );
    }
}

/// Everything that nobody asked for is named.
fn left_over(root: &Node<'_>, draft: &mut Draft) {
    for path in root.left_over() {
        let section = path.split(['.', '[']).next().unwrap_or_default();
        let reason = REASONS.iter().find(|(name, _)| *name == section);
        match reason {
            Some((_, reason)) => draft.change(format!("{section}.* is not taken over: {reason}.")),
            None => draft.change(format!("{path} is not taken over.")),
        }
    }
}
