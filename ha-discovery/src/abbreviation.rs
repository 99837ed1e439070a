//! The short forms of keys that Home Assistant documents, and what its entities inherit from their device payload.
//!
//! Payloads are built with their keys written out, which is what tests compare, and sent in the short form.

use serde_json::{Map, Value};

type Object = Map<String, Value>;
/// Keys and their short forms.
type Abbreviations = &'static [(&'static str, &'static str)];

/// <https://www.home-assistant.io/integrations/mqtt/#discovery-payload>, as far as this crate writes the keys.
const KEYS: Abbreviations = &[
    ("action_template", "act_tpl"),
    ("action_topic", "act_t"),
    ("availability", "avty"),
    ("availability_mode", "avty_mode"),
    ("brightness_scale", "bri_scl"),
    ("command_template", "cmd_tpl"),
    ("command_topic", "cmd_t"),
    ("components", "cmps"),
    ("current_temperature_template", "curr_temp_tpl"),
    ("current_temperature_topic", "curr_temp_t"),
    ("device", "dev"),
    ("device_class", "dev_cla"),
    ("enabled_by_default", "en"),
    ("entity_category", "ent_cat"),
    ("event_types", "evt_typ"),
    ("icon", "ic"),
    ("mode_command_topic", "mode_cmd_t"),
    ("mode_state_template", "mode_stat_tpl"),
    ("mode_state_topic", "mode_stat_t"),
    ("options", "ops"),
    ("origin", "o"),
    ("payload_off", "pl_off"),
    ("payload_on", "pl_on"),
    ("payload_press", "pl_prs"),
    ("platform", "p"),
    ("state_class", "stat_cla"),
    ("state_off", "stat_off"),
    ("state_on", "stat_on"),
    ("state_topic", "stat_t"),
    ("suggested_display_precision", "sug_dsp_prc"),
    ("temperature_command_topic", "temp_cmd_t"),
    ("temperature_state_template", "temp_stat_tpl"),
    ("temperature_state_topic", "temp_stat_t"),
    ("temperature_unit", "temp_unit"),
    ("topic", "t"),
    ("unique_id", "uniq_id"),
    ("unit_of_measurement", "unit_of_meas"),
    ("value_template", "val_tpl"),
];
const DEVICE_KEYS: Abbreviations = &[
    ("configuration_url", "cu"),
    ("hw_version", "hw"),
    ("identifiers", "ids"),
    ("manufacturer", "mf"),
    ("model", "mdl"),
    ("model_id", "mdl_id"),
    ("serial_number", "sn"),
    ("suggested_area", "sa"),
    ("sw_version", "sw"),
];
const ORIGIN_KEYS: Abbreviations = &[("support_url", "url"), ("sw_version", "sw")];

/// Written below the root, it is that of every component without one.
const SHARED: &str = "state_topic";

/// A payload as it is sent: short keys, and the state topic of most components once.
pub(crate) fn abbreviated(payload: Value) -> Value {
    let Value::Object(mut payload) = payload else {
        return payload;
    };
    share_state_topic(&mut payload);
    each_part(&mut payload, &|object, keys| {
        rename(object, keys.iter().copied());
    });
    Value::Object(payload)
}

/// A payload with its keys written out, whichever form it has. What is no payload stays as it is.
pub fn written_out(payload: Value) -> Value {
    let Value::Object(mut payload) = payload else {
        return payload;
    };
    let long = |keys: Abbreviations| keys.iter().map(|(long, short)| (*short, *long));
    // First the keys under which the parts stand.
    rename(&mut payload, long(KEYS));
    for child in children(&mut payload) {
        rename(child, long(KEYS));
    }
    each_part(&mut payload, &|object, keys| rename(object, long(keys)));
    if let Some(topic) = payload.remove(SHARED) {
        for component in components(&mut payload) {
            // With nothing but its platform it is removed.
            if component.len() > 1 && component.contains_key("value_template") {
                component.entry(SHARED).or_insert_with(|| topic.clone());
            }
        }
    }
    Value::Object(payload)
}

/// Moves the state topic that most components have to the root. Those without a template read no state.
fn share_state_topic(payload: &mut Object) {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for component in components(payload) {
        if let Some(Value::String(topic)) = component.get(SHARED) {
            match counts.iter_mut().find(|(known, _)| known == topic) {
                Some((_, count)) => *count += 1,
                None => counts.push((topic.clone(), 1)),
            }
        }
    }
    let Some((topic, 2..)) = counts.into_iter().max_by_key(|(_, count)| *count) else {
        return;
    };
    for component in components(payload) {
        if component.contains_key("value_template") && component.get(SHARED).is_some_and(|own| *own == topic)
        {
            component.remove(SHARED);
        }
    }
    payload.insert(SHARED.to_owned(), topic.into());
}

/// Calls `change` for each object with abbreviations: components and availabilities first, then what holds them.
fn each_part(payload: &mut Object, change: &impl Fn(&mut Object, Abbreviations)) {
    for component in components(payload) {
        each_availability(component, change);
        change(component, KEYS);
    }
    each_availability(payload, change);
    if let Some(device) = payload.get_mut("device").and_then(Value::as_object_mut) {
        change(device, DEVICE_KEYS);
    }
    if let Some(origin) = payload.get_mut("origin").and_then(Value::as_object_mut) {
        change(origin, ORIGIN_KEYS);
    }
    for child in children(payload) {
        change(child, DEVICE_KEYS);
        change(child, KEYS);
    }
    change(payload, KEYS);
}

fn each_availability(of: &mut Object, change: &impl Fn(&mut Object, Abbreviations)) {
    let list = ["availability", "avty"]
        .into_iter()
        .find(|key| of.contains_key(*key));
    let list = list.and_then(|key| of.get_mut(key)).and_then(Value::as_array_mut);
    for availability in list.into_iter().flatten().filter_map(Value::as_object_mut) {
        change(availability, KEYS);
    }
}

/// The components of the device and of its children.
fn components(payload: &mut Object) -> Vec<&mut Object> {
    let mut found = Vec::new();
    for (key, value) in payload.iter_mut() {
        match (key.as_str(), value) {
            ("components", Value::Object(components)) => found.extend(components.values_mut()),
            ("child_devices", Value::Array(children)) => {
                let below = children
                    .iter_mut()
                    .filter_map(|child| child.get_mut("components"));
                found.extend(below.filter_map(Value::as_object_mut).flat_map(Map::values_mut));
            }
            _ => {}
        }
    }
    found.into_iter().filter_map(Value::as_object_mut).collect()
}

fn children(payload: &mut Object) -> impl Iterator<Item = &mut Object> {
    let children = payload.get_mut("child_devices").and_then(Value::as_array_mut);
    children.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn rename(object: &mut Object, keys: impl Iterator<Item = (&'static str, &'static str)>) {
    for (before, after) in keys {
        if let Some(value) = object.remove(before) {
            object.insert(after.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn payload() -> Value {
        json!({
            "device": {"identifiers": ["node"], "sw_version": "1"},
            "origin": {"name": "us", "support_url": "https://example.com"},
            "availability": [{"topic": "a", "value_template": "{{value_json.state}}"}],
            "qos": 1,
            "components": {
                "node_a": {"platform": "sensor", "state_topic": "t", "value_template": "x", "device_class": "power"},
                "node_b": {"platform": "sensor", "state_topic": "t", "value_template": "y",
                           "availability": [{"topic": "b", "value_template": "z"}]},
                "node_c": {"platform": "button", "command_topic": "c"},
                "node_d": {"platform": "light", "state_topic": "t", "command_topic": "d"},
                "gone": {"platform": "sensor"},
            },
            "child_devices": [{"identifiers": ["node_o1"], "name": "left", "components": {
                "node_o1_a": {"platform": "sensor", "state_topic": "t/1", "value_template": "x"},
            }}],
        })
    }

    #[test]
    fn what_is_sent_is_short_and_means_the_same() {
        let short = abbreviated(payload());
        assert_eq!(
            short,
            json!({
                "dev": {"ids": ["node"], "sw": "1"},
                "o": {"name": "us", "url": "https://example.com"},
                "avty": [{"t": "a", "val_tpl": "{{value_json.state}}"}],
                "qos": 1,
                "stat_t": "t",
                "cmps": {
                    "node_a": {"p": "sensor", "val_tpl": "x", "dev_cla": "power"},
                    "node_b": {"p": "sensor", "val_tpl": "y", "avty": [{"t": "b", "val_tpl": "z"}]},
                    "node_c": {"p": "button", "cmd_t": "c"},
                    "node_d": {"p": "light", "stat_t": "t", "cmd_t": "d"},
                    "gone": {"p": "sensor"},
                },
                "child_devices": [{"ids": ["node_o1"], "name": "left", "cmps": {
                    "node_o1_a": {"p": "sensor", "stat_t": "t/1", "val_tpl": "x"},
                }}],
            })
        );
        assert_eq!(written_out(short), payload());
    }

    #[test]
    fn written_out_keys_stay_as_they_are() {
        assert_eq!(written_out(payload()), payload());
        assert_eq!(written_out(json!([1])), json!([1]));
        assert_eq!(
            written_out(json!({"cmps": [], "dev": null})),
            json!({"components": [], "device": null})
        );
    }

    #[test]
    fn no_short_form_stands_for_two_keys() {
        for keys in [KEYS, DEVICE_KEYS, ORIGIN_KEYS] {
            let mut short: Vec<_> = keys.iter().map(|(_, short)| short).collect();
            short.sort_unstable();
            short.dedup();
            assert_eq!(short.len(), keys.len());
        }
    }
}
