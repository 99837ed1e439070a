//! HeatTrax's `config.yaml` (agster27/HeatTrax_Tapo_M400_Scheduler), in its three shapes: one `device`, groups
//! with `automation`, and groups with `schedules`.

mod edge;
mod schedule;
mod sensor;

use std::collections::BTreeSet;

use serde_json::Value;

use self::{
    edge::Edge,
    schedule::ScheduleDraft,
    sensor::{Sensor, WeatherSource},
};
use super::{
    Draft, Migrated, free_slug,
    source::{Node, ReadPaths},
};

/// What its example file shows in the place of an account.
const PLACEHOLDERS: [&str; 2] = ["your_tapo_username", "your_tapo_password"];
/// HeatTrax's own defaults.
const THRESHOLD_F: f64 = 34.0;
const MORNING_HOURS: (u32, u32) = (6, 8);
const MAX_RUNTIME_HOURS: f64 = 6.0;
const COOLDOWN_MINUTES: f64 = 30.0;
/// Our shortest and longest `override_default`, in hours.
const OVERRIDE_SHORTEST: f64 = 1.0 / 3600.0;
const OVERRIDE_LONGEST: f64 = 24.0;
/// Our longest limit, in hours.
const LONGEST_LIMIT: f64 = 366.0 * 24.0;
/// The last outlet of the longest strip, counted from 0.
const OUTLET_MAX: i64 = 31;

/// Why a part of the file has no place here.
const REASONS: [(&str, &str); 9] = [
    ("weather_api", "[weather] asks and keeps the forecast by itself"),
    ("scheduler", "conditions are looked at whenever a value comes in"),
    (
        "thresholds",
        "heating does not go on for a time after the precipitation",
    ),
    (
        "notifications",
        "use Home Assistant or Node-RED; events are published on tapo2mqtt/bridge/event",
    ),
    ("health_check", "devices are watched all the time"),
    ("health_server", "removed; use `tapo2mqtt healthcheck`"),
    ("web", "set enabled = true in [web]; see docs/web.md"),
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
    sensors: BTreeSet<Sensor>,
    weather: WeatherSource,
}

pub(super) fn migrate(value: &Value) -> Migrated {
    let taken = ReadPaths::default();
    let mut migration = Migration {
        root: Node::root(value, &taken),
        draft: Draft::default(),
        groups: Draft::default(),
        group_ids: Vec::new(),
        devices: Vec::new(),
        taken: Vec::new(),
        sensors: BTreeSet::new(),
        weather: WeatherSource::Off,
    };
    migration.run();
    let Migration {
        mut draft, groups, ..
    } = migration;
    draft.append(groups);
    draft.finish(
        "Made from a configuration of HeatTrax by `tapo2mqtt migrate heattrax`. Test it with `check`.",
    )
}

impl Migration<'_> {
    fn run(&mut self) {
        self.general();
        self.weather = WeatherSource::of(&self.root, &mut self.draft);
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
        sensor::write_all(self.sensors.iter().copied(), self.weather, &mut self.draft);
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
            "A manual ON or OFF lasts until the next edge of a schedule that contradicts it, and as long as override_default \
             says where none of the coming week does; HeatTrax ended it after that time in any case.",
        );
        self.draft.section("[mqtt]");
        self.draft.key("host", "127.0.0.1");
        let location = self.root.get("location");
        self.draft.section("[location]");
        for (key, most) in [("latitude", 90.0), ("longitude", 180.0)] {
            if let Some(degrees) = location.number(key, -most..=most) {
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
        let mut checks = Vec::new();
        let outlets: Vec<String> = items
            .iter()
            .flat_map(|item| self.outlets(name, item, &mut checks))
            .collect();
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
        for check in checks {
            self.groups.comment(&check);
        }
        self.groups.key("outlets", outlets);
        self.override_default(name, node);
        self.groups.section("[group.safety]");
        let defaults = (Some(MAX_RUNTIME_HOURS), Some(COOLDOWN_MINUTES));
        limits(&self.root.get("safety"), defaults, &mut self.groups);
        if !enabled {
            self.draft.change(format!(
                "The group {name} was disabled: all its schedules are disabled."
            ));
        }
        self.schedules(name, node, enabled);
    }

    /// How long what is switched by hand stays, where no schedule ends it.
    fn override_default(&mut self, name: &str, node: &Node<'_>) {
        let of_all = self
            .root
            .get("web")
            .number("manual_override_timeout_hours", 0.0..);
        let of_group = node.number("manual_override_hours", 0.0..);
        let Some(hours) = of_group.or(of_all) else {
            return;
        };
        let ours = hours.clamp(OVERRIDE_SHORTEST, OVERRIDE_LONGEST);
        #[allow(clippy::float_cmp)] // Nothing is computed with a value within the bounds.
        if ours != hours {
            self.draft.change(format!(
                "What is switched by hand in the group {name} lasted {hours} h; our override_default has one second to 24 \
                 hours."
            ));
        }
        self.groups.key("override_default", ours * 3600.0);
    }

    /// The outlets of an item as ids of ours, without those that another group has. A device with one address
    /// is written once. What a person must check about them goes to `checks`.
    fn outlets(&mut self, group: &str, item: &Node<'_>, checks: &mut Vec<String>) -> Vec<String> {
        let name = item.text("name");
        let shown = name.clone().unwrap_or_else(|| "an item".to_owned());
        let address = item.text("ip_address");
        let positions = item.integers("outlets", 0..=OUTLET_MAX);
        let (Some(address), Some(positions)) = (
            address,
            positions.or((!item.get("outlets").exists()).then(Vec::new)),
        ) else {
            self.draft.loss(format!(
                "{shown} of the group {group} is left out: its address or its outlets could not be read."
            ));
            return Vec::new();
        };
        let id = self.device(address, name);
        let wanted = if positions.is_empty() {
            vec![id.clone()]
        } else {
            self.draft.change(
                "Outlets count from 1, not from 0, and their order may be another one: check those with a comment \
                 \"CHECK\".",
            );
            let outlet = |position: &i64| format!("{id}/{}", position.saturating_add(1));
            let wanted: Vec<String> = positions.iter().map(outlet).collect();
            checks.push(format!(
                "CHECK {shown}: HeatTrax's outlets {positions:?} are taken for {}. HeatTrax counted them in the order in \
                 which the device lists them, and some models list the last one first. Compare with the names and \
                 positions that `tapo2mqtt check` and the request `identify` show.",
                wanted.join(", ")
            ));
            wanted
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

    /// The schedules of a group.
    fn schedules(&mut self, group: &str, node: &Node<'_>, enabled: bool) {
        let mut ids = Vec::new();
        for schedule in node.list("schedules") {
            let draft = self.unified(&schedule, enabled, &mut ids);
            self.finish(draft, group, node);
        }
        for draft in self.by_weather(node, enabled) {
            self.finish(draft, group, node);
        }
        if let Some(draft) = self.by_clock(group, node, enabled) {
            self.finish(draft, group, node);
        }
    }

    /// Writes a schedule. The limits of all groups are its limits too.
    fn finish(&mut self, mut draft: ScheduleDraft, group: &str, node: &Node<'_>) {
        let safety = self.root.get("safety");
        for value in [
            node.get("enabled"),
            safety.get("max_runtime_hours"),
            safety.get("cooldown_minutes"),
        ] {
            draft.lose(value.left_over());
        }
        self.sensors.extend(draft.finish(group, &mut self.groups));
    }

    /// A schedule of the newest shape.
    fn unified(&self, node: &Node<'_>, enabled: bool, ids: &mut Vec<String>) -> ScheduleDraft {
        let name = node.text("name").unwrap_or_else(|| "schedule".to_owned());
        let id = free_slug(&name, ids);
        ids.push(id.clone());
        let enabled = node.flag("enabled").unwrap_or(true) && enabled;
        let mut draft = ScheduleDraft::new(id, name, enabled, self.weather);
        if let Some(priority) = node.text("priority") {
            draft.priority(&priority);
        }
        let days = node.integers("days", 1..=7);
        if let Some(days) = &days {
            draft.days(days);
        }
        // YAML 1.1 reads a bare `on` as true.
        let edges = [["on", "true"], ["off", "false"]];
        if node.flag("all_day") == Some(true) {
            edges.as_flattened().iter().for_each(|key| node.skip(key));
            draft.all_day();
        } else {
            let [start, end] = edges.map(|keys| {
                let found = keys.map(|key| node.get(key)).into_iter().find(Node::exists);
                found.and_then(|node| Edge::of(&node))
            });
            draft.window(start, end, days.is_some_and(|days| days.len() < 7));
        }
        let wanted = node.get("conditions");
        // There is no opposite of our condition; a schedule that wants it is not understood.
        let ice = wanted.parsed("black_ice_risk", |value| value.as_bool().filter(|wanted| *wanted));
        draft.conditions(
            wanted.number("temperature_max", ..),
            wanted.flag("precipitation_active"),
            ice.map(|_| self.root.get("thresholds").get("black_ice_detection"))
                .as_ref(),
        );
        draft.limits(&node.get("safety"));
        draft.lose(node.left_over());
        draft
    }

    /// The rules about weather of the older shapes. The single device had none to choose from.
    fn by_weather(&self, node: &Node<'_>, enabled: bool) -> Vec<ScheduleDraft> {
        let (rules, morning) = (node.get("automation"), self.root.get("morning_mode"));
        let alone = node.get("ip_address").exists();
        let keys = ["weather_control", "precipitation_control", "morning_mode"];
        // One that cannot be read is not off: its schedule is written, and disabled.
        let [weather, precipitation, in_the_morning] =
            keys.map(|key| rules.flag(key).unwrap_or(alone || rules.get(key).exists()));
        let thresholds = self.root.get("thresholds");
        let threshold = thresholds.number("temperature_f", ..);
        let mut common: Vec<Node<'_>> = keys.map(|key| rules.get(key)).into();
        common.push(thresholds.get("temperature_f"));
        let mut drafts = Vec::new();
        if weather && precipitation {
            let mut draft = ScheduleDraft::new(
                "precipitation".to_owned(),
                "precipitation".to_owned(),
                enabled,
                self.weather,
            );
            draft.priority("critical");
            draft.all_day();
            draft.conditions(Some(threshold.unwrap_or(THRESHOLD_F)), Some(true), None);
            draft.lose(common.iter().flat_map(Node::left_over).collect());
            drafts.push(draft);
        }
        let wanted = morning.flag("enabled").unwrap_or(morning.get("enabled").exists());
        if wanted && weather && in_the_morning {
            let mut draft =
                ScheduleDraft::new("morning".to_owned(), "morning".to_owned(), enabled, self.weather);
            let edge = |key, default| {
                let hour = if morning.get(key).exists() {
                    morning.parsed(key, |value| u32::try_from(value.as_u64()?).ok())?
                } else {
                    default
                };
                (hour < 24).then_some(Edge::Clock(hour * 60))
            };
            draft.window(
                edge("start_hour", MORNING_HOURS.0),
                edge("end_hour", MORNING_HOURS.1),
                false,
            );
            let limit = morning.number("temperature_f", ..).or(threshold);
            draft.conditions(Some(limit.unwrap_or(THRESHOLD_F)), None, None);
            let sources = common.iter().chain([&morning]);
            draft.lose(sources.flat_map(Node::left_over).collect());
            drafts.push(draft);
        }
        drafts
    }

    /// The schedule of the older shapes.
    fn by_clock(&mut self, group: &str, node: &Node<'_>, enabled: bool) -> Option<ScheduleDraft> {
        let rules = node.get("automation");
        if !rules
            .flag("schedule_control")
            .unwrap_or(rules.get("schedule_control").exists())
        {
            return None;
        }
        let times = node.get("schedule");
        let mut draft = ScheduleDraft::new("schedule".to_owned(), group.to_owned(), enabled, self.weather);
        let days = times.integers("days", 0..=6);
        if let Some(days) = &days {
            self.draft.change("Days count from 1 (Monday) to 7, not from 0.");
            let ours: Vec<i64> = days.iter().map(|day| day.saturating_add(1)).collect();
            draft.days(&ours);
        }
        let time = |key| Edge::clock(&times, key);
        let some_days = days.is_some_and(|days| days.len() < 7);
        draft.window(time("on_time"), time("off_time"), some_days);
        draft.lose(times.left_over());
        draft.lose(rules.get("schedule_control").left_over());
        Some(draft)
    }
}

/// `max_on` and `cooldown`, where they or a default are set.
fn limits(safety: &Node<'_>, defaults: (Option<f64>, Option<f64>), draft: &mut Draft) {
    // A limit of nothing is no reason to have no limit.
    let hours = safety.number("max_runtime_hours", 1.0 / 3600.0..=LONGEST_LIMIT);
    let minutes = safety.number("cooldown_minutes", 0.0..=LONGEST_LIMIT * 60.0);
    if let Some(hours) = hours.or(defaults.0) {
        draft.key("max_on", hours * 3600.0);
    }
    match minutes.or(defaults.1).map(|minutes| minutes * 60.0) {
        Some(seconds) if seconds >= 1.0 => draft.key("cooldown", seconds),
        Some(_) => draft.key("cooldown", "none"),
        None => {}
    }
}
