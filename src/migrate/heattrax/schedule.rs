//! HeatTrax's schedules, of the newest and the older shapes, as ours.

use serde_json::json;

use super::{
    Migration, PRECIPITATION, TEMPERATURE,
    edge::{Edge, clock, minutes_of},
};
use crate::migrate::{free_slug, source::Node};

/// HeatTrax's own defaults.
const THRESHOLD_F: f64 = 34.0;
const MORNING_HOURS: (f64, f64) = (6.0, 8.0);

impl Migration<'_> {
    /// The schedules of a group.
    pub(super) fn schedules(&mut self, name: &str, node: &Node<'_>, enabled: bool) {
        let mut ids = Vec::new();
        for schedule in node.list("schedules") {
            self.unified(&schedule, enabled, &mut ids);
        }
        self.by_weather(node, enabled);
        self.by_clock(name, node, enabled);
    }

    /// `max_on` and `cooldown`, where they are set.
    pub(super) fn limits(&mut self, hours: Option<f64>, minutes: Option<f64>) {
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
