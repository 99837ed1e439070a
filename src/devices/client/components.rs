//! What a device and its outlets can do, by the names in their lists of components. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::readings::{TEXT_MAX, component_ids};

/// Something that a device or an outlet can do, as far as the bridge uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::devices) enum Component {
    AutoOff,
    Brightness,
    Countdown,
    DefaultStates,
    EnergyMonitoring,
    Firmware,
    Led,
    PowerProtection,
    Schedule,
}

impl Component {
    /// By its id in a list of components; `None` for one that is not used.
    fn named(id: &str) -> Option<Self> {
        Some(match id {
            "auto_off" => Self::AutoOff,
            "brightness" => Self::Brightness,
            "countdown" => Self::Countdown,
            "default_states" => Self::DefaultStates,
            "energy_monitoring" => Self::EnergyMonitoring,
            "firmware" => Self::Firmware,
            "led" => Self::Led,
            "power_protection" => Self::PowerProtection,
            "schedule" => Self::Schedule,
            _ => return None,
        })
    }
}

/// The components of a device and of its children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::devices) struct Components {
    device: BTreeSet<Component>,
    /// By the child's id. A child without an entry did not say.
    children: BTreeMap<String, BTreeSet<Component>>,
}

impl Components {
    /// Those of the device itself, by their ids.
    pub(in crate::devices) fn new(device: &[String]) -> Self {
        Self {
            device: used(device),
            children: BTreeMap::new(),
        }
    }

    /// Takes a page of `get_child_device_component_list`. Returns how many entries it has.
    pub(super) fn add_children(&mut self, page: &Value) -> usize {
        let list = page.get("child_component_list").and_then(Value::as_array);
        let list = list.map(Vec::as_slice).unwrap_or_default();
        for child in list {
            let id = child.get("device_id").and_then(Value::as_str);
            let says = child.get("component_list").is_some_and(Value::is_array);
            if let Some(id) = id.filter(|id| says && id.len() <= TEXT_MAX) {
                self.children.insert(id.to_owned(), used(&component_ids(child)));
            }
        }
        list.len()
    }

    /// Whether the list of the device names this.
    pub(in crate::devices) fn has(&self, component: Component) -> bool {
        self.device.contains(&component)
    }

    /// Whether an outlet has this, as far as it says: a plug by its own list.
    pub(in crate::devices) fn lists(&self, child: Option<&str>, component: Component) -> bool {
        match child {
            None => self.has(component),
            Some(child) => self.of(child).is_some_and(|list| list.contains(&component)),
        }
    }

    /// The same, also for an outlet that does not say.
    pub(in crate::devices) fn may_have(&self, child: Option<&str>, component: Component) -> bool {
        child.is_some_and(|child| self.of(child).is_none()) || self.lists(child, component)
    }

    fn of(&self, child: &str) -> Option<&BTreeSet<Component>> {
        self.children.get(child)
    }
}

fn used(ids: &[String]) -> BTreeSet<Component> {
    ids.iter().filter_map(|id| Component::named(id)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_child_has_what_its_own_list_names() {
        let mut components = Components::new(&["countdown".to_owned(), "new_thing".to_owned()]);
        let entry = |id: &str, name: &str| json!({ "device_id": id, "component_list": [{ "id": name, "ver_code": "new" }, { "id": 5 }, null] });
        let page = json!({ "child_component_list": [entry("a", "countdown"), entry("b", "led"), { "device_id": "c" }, 7] });
        assert_eq!(components.add_children(&page), 4);
        let of = |child| {
            let listed = components.lists(child, Component::Countdown);
            (listed, components.may_have(child, Component::Countdown))
        };
        assert_eq!(of(None), (true, true));
        assert_eq!(of(Some("a")), (true, true));
        assert_eq!(of(Some("b")), (false, false));
        assert_eq!(of(Some("c")), (false, true), "it does not say");
        assert!(components.has(Component::Countdown) && !components.has(Component::Led));
    }
}
