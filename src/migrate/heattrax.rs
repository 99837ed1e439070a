//! HeatTrax's `config.yaml` (agster27/HeatTrax_Tapo_M400_Scheduler), in its three shapes: one `device`, groups
//! with `automation`, and groups with `schedules`.

mod edge;

use serde_json::{Value, json};

use self::edge::{Edge, clock, minutes_of};
use super::{
    Draft, free_slug,
    source::{Node, ReadPaths},
};

/// What its example file shows in the place of an account.
const PLACEHOLDERS: [&str; 2] = ["your_tapo_username", "your_tapo_password"];
/// HeatTrax's own defaults.
const THRESHOLD_F: f64 = 34.0;
const MORNING_HOURS: (f64, f64) = (6.0, 8.0);
const MAX_RUNTIME_HOURS: f64 = 6.0;
const COOLDOWN_MINUTES: f64 = 30.0;
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
        "use Home Assistant or Node-RED; events are published on tapo2mqtt/bridge/event",
    ),
    ("health_check", "devices are watched all the time"),
    ("health_server", "removed; use `tapo2mqtt healthcheck`"),
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

/// A migration under way.
struct Migration<'a> {
    root: Node<'a>,
    /// Everything that stands before the groups, and all changes.
    draft: Draft,
    groups: Draft,
    group_ids: Vec<String>,
    /// Addresses of devices, and their ids.
    devices: Vec<(String, String)>,
    /// Outlets that a group has.
    taken: Vec<String>,
    needs_temperature: bool,
    needs_precipitation: bool,
}

pub(super) fn migrate(value: &Value) -> String {
    let taken = ReadPaths::default();
    let mut migration = Migration {
        root: Node::root(value, &taken),
        draft: Draft::default(),
        groups: Draft::default(),
        group_ids: Vec::new(),
        devices: Vec::new(),
        taken: Vec::new(),
        needs_temperature: false,
        needs_precipitation: false,
    };
    migration.run();
    let Migration {
        mut draft,
        mut groups,
        ..
    } = migration;
    draft.lines.append(&mut groups.lines);
    draft.finish(
        "Made from a configuration of HeatTrax by `tapo2mqtt migrate heattrax`. Test it with `check`.",
    )
}

impl Migration<'_> {
    fn run(&mut self) {
        self.general();
        let (single, devices) = (self.root.get("device"), self.root.get("devices"));
        if single.exists() {
            self.account(&single);
            self.group("heattrax", &single);
        } else {
            self.account(&devices.get("credentials"));
        }
        for (name, node) in devices.get("groups").entries() {
            self.group(&name, &node);
        }
        self.sensors();
        self.left_over();
    }

    fn general(&mut self) {
        self.draft.change(
            "A broker is needed: set mqtt.host, and mqtt.username and mqtt.password if it requires them.",
        );
        self.draft.change(
            "HEATTRAX_... variables of the environment are not read: what they set must be in this file.",
        );
        self.draft.change(
            "A manual ON or OFF lasts until the next edge of a schedule, or three hours (override_default).",
        );
        self.draft.section("[mqtt]");
        self.draft.key("host", "127.0.0.1");
        let location = self.root.get("location");
        self.draft.section("[location]");
        for key in ["latitude", "longitude"] {
            if let Some(degrees) = location.number(key) {
                self.draft.key(key, degrees);
            }
        }
        if let Some(zone) = location.text("timezone") {
            self.draft.key("timezone", zone);
        }
        if let Some(level) = self.root.get("logging").text("level") {
            let level = match level.to_lowercase().as_str() {
                "debug" => "debug",
                "warning" => "warn",
                "error" | "critical" => "error",
                _ => "info",
            };
            self.draft.section("[log]");
            self.draft.key("level", level);
        }
        if self.root.flag("vacation_mode") == Some(true) {
            self.draft.change(
                "Vacation mode was on. It is no setting any more: switch it on again when this runs.",
            );
        }
    }

    fn account(&mut self, node: &Node<'_>) {
        let real = |text: &String| !text.is_empty() && !PLACEHOLDERS.contains(&text.as_str());
        let username = node.text("username").filter(real);
        let password = node.text("password").filter(real);
        self.draft.section("[tapo]");
        if let (Some(username), Some(password)) = (username, password) {
            self.draft.key("username", username);
            self.draft.key("password", password);
        } else {
            self.draft.key("username", "you@example.com");
            self.draft.key("password", "...");
            self.draft
                .change("The account was not in the file: set tapo.username and tapo.password.");
        }
    }

    fn group(&mut self, name: &str, node: &Node<'_>) {
        let enabled = node.flag("enabled").unwrap_or(true);
        let mut items = node.list("items");
        if node.get("ip_address").exists() {
            items.push(node.clone());
        }
        let outlets: Vec<String> = items.iter().flat_map(|item| self.outlets(item)).collect();
        if outlets.is_empty() {
            self.draft.change(format!(
                "The group {name} has no outlets of its own and is left out."
            ));
            return;
        }
        let id = free_slug(name, &self.group_ids);
        self.group_ids.push(id.clone());
        self.groups.section("[[group]]");
        self.groups.key("id", id);
        self.groups.key("name", name.replace('_', " "));
        self.groups.key("outlets", outlets);
        self.groups.section("[group.safety]");
        let safety = self.root.get("safety");
        let max_on = safety.number("max_runtime_hours").unwrap_or(MAX_RUNTIME_HOURS);
        let cooldown = safety.number("cooldown_minutes").unwrap_or(COOLDOWN_MINUTES);
        self.limits(Some(max_on), Some(cooldown));
        if !enabled {
            self.draft.change(format!(
                "The group {name} was disabled: all its schedules are disabled."
            ));
        }
        self.schedules(name, node, enabled);
    }

    /// The outlets of an item as ids of ours, without those that another group has. A device with one address
    /// is written once.
    fn outlets(&mut self, item: &Node<'_>) -> Vec<String> {
        let name = item.text("name");
        let Some(address) = item.text("ip_address") else {
            return Vec::new();
        };
        let id = self.device(address, name);
        let positions = item.integers("outlets").unwrap_or_default();
        let wanted = if positions.is_empty() {
            vec![id.clone()]
        } else {
            self.draft.change("Outlets count from 1, not from 0.");
            let outlet = |position: &i64| format!("{id}/{}", position.saturating_add(1));
            positions.iter().map(outlet).collect()
        };
        let mut free = Vec::new();
        for outlet in wanted {
            let is_device = outlet == id;
            let within = format!("{id}/");
            let overlaps = |other: &String| {
                *other == outlet || *other == id || (is_device && other.starts_with(&within))
            };
            if self.taken.iter().any(overlaps) {
                self.draft.change(format!(
                    "{outlet} was in two groups; it stays in the first of them, in the order below."
                ));
            } else {
                self.taken.push(outlet.clone());
                free.push(outlet);
            }
        }
        free
    }

    fn device(&mut self, address: String, name: Option<String>) -> String {
        if let Some((_, id)) = self.devices.iter().find(|(other, _)| *other == address) {
            return id.clone();
        }
        let ids: Vec<String> = self.devices.iter().map(|(_, id)| id.clone()).collect();
        let id = free_slug(name.as_deref().unwrap_or("heattrax"), &ids);
        self.draft.section("[[device]]");
        self.draft.key("id", id.clone());
        self.draft.key("address", address.clone());
        if let Some(name) = name {
            self.draft.key("name", name);
        }
        self.devices.push((address, id.clone()));
        id
    }

    fn sensors(&mut self) {
        let sensors = [
            (self.needs_temperature, TEMPERATURE, "/temperature_f", Some("°F")),
            (self.needs_precipitation, PRECIPITATION, "/precipitation", None),
        ];
        for (needed, id, pointer, unit) in sensors {
            if !needed {
                continue;
            }
            self.draft.section("[[sensor]]");
            self.draft.key("id", id);
            self.draft.key("topic", "weather/outdoor");
            self.draft.key("pointer", pointer);
            if let Some(unit) = unit {
                self.draft.key("unit", unit);
            }
            self.draft.change(
                "The weather is not fetched from the internet. Let Home Assistant or Node-RED publish it to \
                 weather/outdoor, as {\"temperature_f\": 30.2, \"precipitation\": true}. Until then, and when it is \
                 older than 30 minutes, schedules with conditions are off, as HeatTrax had it while its weather \
                 service was offline.",
            );
        }
    }

    /// Everything that is ignored is named.
    fn left_over(&mut self) {
        for path in self.root.left_over() {
            let section = path.split(['.', '[']).next().unwrap_or_default();
            let reason = REASONS.iter().find(|(name, _)| *name == section);
            self.draft.change(match reason {
                Some((_, reason)) => format!("{section}.* is not taken over: {reason}."),
                None => format!("{path} is not taken over."),
            });
        }
    }
}

impl Migration<'_> {
    /// The schedules of a group.
    fn schedules(&mut self, name: &str, node: &Node<'_>, enabled: bool) {
        let mut ids = Vec::new();
        for schedule in node.list("schedules") {
            self.unified(&schedule, enabled, &mut ids);
        }
        self.by_weather(node, enabled);
        self.by_clock(name, node, enabled);
    }

    /// `max_on` and `cooldown`, where they are set.
    fn limits(&mut self, hours: Option<f64>, minutes: Option<f64>) {
        let keys = [
            ("max_on", hours.map(|hours| hours * 3600.0)),
            ("cooldown", minutes.map(|minutes| minutes * 60.0)),
        ];
        for (key, seconds) in keys {
            match seconds {
                Some(seconds) if seconds >= 1.0 => self.groups.key(key, seconds),
                Some(_) => self.groups.key(key, "none"),
                None => {}
            }
        }
    }

    /// A schedule of the newest shape.
    fn unified(&mut self, node: &Node<'_>, enabled: bool, ids: &mut Vec<String>) {
        let name = node.text("name").unwrap_or_else(|| "schedule".to_owned());
        let id = free_slug(&name, ids);
        ids.push(id.clone());
        self.schedule(&id, node.flag("enabled").unwrap_or(true) && enabled);
        if let Some(priority) = node.text("priority") {
            self.groups.key("priority", priority.to_lowercase());
        }
        let days = node.integers("days");
        if let Some(days) = &days {
            self.groups.key("days", days.clone());
        }
        // YAML 1.1 reads a bare `on` as true.
        let one_of = |keys: [&str; 2]| keys.map(|key| node.get(key)).into_iter().find(Node::exists);
        let edge = |keys| one_of(keys).and_then(|node| Edge::of(&node));
        let edges = (edge(["on", "true"]), edge(["off", "false"]));
        self.window(&name, edges, days.is_some_and(|days| days.len() < 7));
        let wanted = node.get("conditions");
        self.conditions(
            wanted.number("temperature_max"),
            wanted.flag("precipitation_active"),
        );
        let safety = node.get("safety");
        let (hours, minutes) = (
            safety.number("max_runtime_hours"),
            safety.number("cooldown_minutes"),
        );
        if hours.is_some() || minutes.is_some() {
            self.groups.section("[group.schedule.safety]");
            self.limits(hours, minutes);
        }
    }

    fn schedule(&mut self, id: &str, enabled: bool) {
        self.groups.section("[[group.schedule]]");
        self.groups.key("id", id);
        self.groups.key("enabled", enabled);
    }

    fn window(&mut self, name: &str, edges: (Option<Edge>, Option<Edge>), some_days: bool) {
        let (Some(start), Some(end)) = edges else {
            self.groups.key("all_day", true);
            self.draft.change(format!(
                "The times of {name:?} could not be read; it lasts all day. Correct that."
            ));
            return;
        };
        start.write("start", &mut self.groups);
        end.write("end", &mut self.groups);
        let next_day = end.usual() <= start.usual();
        match (&start, &end) {
            (_, Edge::After { .. }) => {
                self.draft
                    .change("A schedule with a duration ends after it, also past midnight.");
            }
            (Edge::Clock(at), Edge::Sun { .. }) if !next_day => {
                self.groups.key("end_not_before", clock(at + 1));
                self.draft.change(format!(
                    "{name:?} ends at once where the sun is earlier than its start; HeatTrax then went on for a day."
                ));
            }
            (Edge::Sun { .. }, Edge::Clock(at)) if !next_day => {
                self.groups.key("start_not_after", clock(at.saturating_sub(1)));
                self.draft.change(format!(
                    "{name:?} starts just before its end where the sun is later than that; HeatTrax then went on \
                     for a day."
                ));
            }
            _ => {}
        }
        if some_days && (next_day || matches!(end, Edge::After { .. })) {
            self.draft.change(format!(
                "{name:?} goes past midnight: its days are those it starts on, and it then lasts to its end. \
                 HeatTrax looked at the day on both sides of midnight."
            ));
        }
    }

    fn conditions(&mut self, at_most: Option<f64>, precipitation: Option<bool>) {
        let mut when = Vec::new();
        if let Some(limit) = at_most {
            self.needs_temperature = true;
            when.push(format!(
                "{{ sensor = \"{TEMPERATURE}\", at_most = {} }}",
                json!(limit)
            ));
        }
        if let Some(wanted) = precipitation {
            self.needs_precipitation = true;
            when.push(format!("{{ sensor = \"{PRECIPITATION}\", is = {wanted} }}"));
        }
        if !when.is_empty() {
            self.groups.line(format!("when = [{}]", when.join(", ")));
        }
    }

    /// The rules about weather of the older shapes. The single device had none to choose from.
    fn by_weather(&mut self, node: &Node<'_>, enabled: bool) {
        let (rules, morning) = (node.get("automation"), self.root.get("morning_mode"));
        let alone = node.get("ip_address").exists();
        let weather = rules.flag("weather_control").unwrap_or(alone);
        let precipitation = rules.flag("precipitation_control").unwrap_or(alone);
        let in_the_morning = rules.flag("morning_mode").unwrap_or(alone);
        let thresholds = self.root.get("thresholds");
        let threshold = thresholds.number("temperature_f").unwrap_or(THRESHOLD_F);
        let edges = [
            ("start", morning.number("start_hour").unwrap_or(MORNING_HOURS.0)),
            ("end", morning.number("end_hour").unwrap_or(MORNING_HOURS.1)),
        ];
        let limit = morning.number("temperature_f").unwrap_or(threshold);
        if weather && precipitation {
            self.schedule("precipitation", enabled);
            self.groups.key("priority", "critical");
            self.groups.key("all_day", true);
            self.conditions(Some(threshold), Some(true));
        }
        if morning.flag("enabled").unwrap_or(false) && weather && in_the_morning {
            self.schedule("morning", enabled);
            for (key, hour) in edges {
                self.groups.key(key, format!("{hour:02}:00"));
            }
            self.conditions(Some(limit), None);
        }
    }

    /// The schedule of the older shapes.
    fn by_clock(&mut self, name: &str, node: &Node<'_>, enabled: bool) {
        if !node.get("automation").flag("schedule_control").unwrap_or(false) {
            return;
        }
        let times = node.get("schedule");
        let days = times.integers("days");
        self.schedule("schedule", enabled);
        if let Some(days) = &days {
            self.draft.change("Days count from 1 (Monday) to 7, not from 0.");
            let ours: Vec<i64> = days.iter().map(|day| day.saturating_add(1)).collect();
            self.groups.key("days", ours);
        }
        let time = |key| {
            times
                .text(key)
                .and_then(|text| minutes_of(&text))
                .map(Edge::Clock)
        };
        let edges = (time("on_time"), time("off_time"));
        self.window(name, edges, days.is_some_and(|days| days.len() < 7));
    }
}
