//! Jinja templates, built from parts, so that what they read is known.

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::STATE_TEXT_MAX;

/// What fits beside the name of an entity.
const SHORT_TEXT_MAX: usize = 60;

/// How Home Assistant takes a value out of a JSON message. It remembers what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pointers: Vec<String>,
}

impl Template {
    /// `{{ value_json.power }}`: one key of a JSON object.
    pub fn json_key(key: &str) -> Self {
        Self::json_path(&[key])
    }

    /// `{{ value_json.schedules.morning }}`: one key of an object inside a JSON object.
    pub fn json_path(path: &[&str]) -> Self {
        Self {
            text: format!("{{{{ {} }}}}", read(path)),
            pointers: vec![pointer(path)],
        }
    }

    /// The text under a key, cut so that its name has room beside it; `otherwise` where it is null.
    pub fn short_text(key: &str, otherwise: &str) -> Self {
        Self {
            text: format!(
                "{{{{ ({} or {}) | truncate({SHORT_TEXT_MAX}) }}}}",
                read(&[key]),
                literal(otherwise)
            ),
            pointers: vec![pointer(&[key])],
        }
    }

    /// The text under a key of an object that may be null, cut to what Home Assistant stores; `otherwise` without it.
    pub fn text_in(object: &str, key: &str, otherwise: &str) -> Self {
        let (object_read, path) = (read(&[object]), [object, key]);
        Self {
            text: format!(
                "{{{{ ({} if {object_read} else {}) | truncate({STATE_TEXT_MAX}) }}}}",
                read(&path),
                literal(otherwise)
            ),
            pointers: vec![pointer(&[object])],
        }
    }

    /// The JSON object under a key; messages in which it is null are ignored. A null in it is refused by update entities.
    pub fn json_object(key: &str) -> Self {
        let object = read(&[key]);
        Self {
            text: format!("{{{{ ({object} | tojson) if {object} else \"\" }}}}"),
            pointers: vec![pointer(&[key])],
        }
    }

    /// A number of seconds, shown in minutes.
    pub fn minutes(key: &str) -> Self {
        Self {
            text: format!("{{{{ ({} / 60) | round(2) }}}}", read(&[key])),
            pointers: vec![pointer(&[key])],
        }
    }

    /// A JSON object of `(name, key)`: what event entities want. Keys whose value is null are
    /// left out of it, because Home Assistant refuses null there.
    pub fn object<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut parts = Vec::new();
        let mut pointers = Vec::new();
        for (name, key) in fields {
            parts.push(format!("{}: {}", literal(name), read(&[key])));
            pointers.push(pointer(&[key]));
        }
        let known = r#"items() | rejectattr(1, "none")"#;
        Self {
            text: format!("{{{{ dict({{{}}}.{known}) | tojson }}}}", parts.join(", ")),
            pointers,
        }
    }

    /// This template, but only for messages in which `key` is the text `value`; others are ignored.
    #[must_use]
    pub fn only_when(mut self, key: &str, value: &str) -> Self {
        self.text = format!(
            "{{% if {} == {} %}}{}{{% endif %}}",
            read(&[key]),
            literal(value),
            self.text
        );
        self.pointers.push(pointer(&[key]));
        self
    }

    /// This template, and an object without keys for a topic that was cleared: attributes have to be JSON.
    #[must_use]
    pub fn or_no_keys(mut self) -> Self {
        self.text = format!("{{% if value %}}{}{{% else %}}{{}}{{% endif %}}", self.text);
        self
    }

    /// The template as Home Assistant reads it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parts of the JSON message that it reads, as JSON pointers (RFC 6901).
    pub fn pointers(&self) -> &[String] {
        &self.pointers
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// How Home Assistant wraps a value that it sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CommandTemplate(String);

impl CommandTemplate {
    /// `{"level": "debug"}`: the value under a key.
    pub fn json_value(key: &str) -> Self {
        Self(format!("{{{{ {{{}: value}} | tojson }}}}", literal(key)))
    }

    /// A number of minutes, sent in whole seconds.
    pub fn seconds_of_minutes() -> Self {
        Self("{{ (value * 60) | round | int }}".to_owned())
    }

    /// A JSON object in which the value takes the place of one text: what stands under `key` of the object under `below`.
    /// It must have no null, which is no literal of Jinja.
    pub fn json_with(object: &Value, below: &str, key: &str) -> Self {
        /// No text has it: it is no character.
        const PLACE: &str = "\u{fdd0}";
        let mut object = object.clone();
        if let Some(slot) = object.get_mut(below).and_then(|below| below.get_mut(key)) {
            *slot = PLACE.into();
        }
        let text = object.to_string().replace(&literal(PLACE), "value");
        Self(format!("{{{{ {text} | tojson }}}}"))
    }

    /// `{"enabled": true}`: whether a switch was turned on, under a key.
    pub fn json_is_on(key: &str) -> Self {
        Self(format!(
            r#"{{{{ {{{}: value == "ON"}} | tojson }}}}"#,
            literal(key)
        ))
    }
}

/// Names that Jinja would take for a method of the Python dict instead of a key of it.
const DICT_METHODS: [&str; 11] = [
    "clear",
    "copy",
    "fromkeys",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
];

/// The expression that reads a key of the message, or a key of an object below it.
fn read(path: &[&str]) -> String {
    let word = |b: u8| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit();
    let mut expression = "value_json".to_owned();
    for key in path {
        let begins_well = key.starts_with(|c: char| c.is_ascii_lowercase());
        if begins_well && key.bytes().all(word) && !DICT_METHODS.contains(key) {
            expression.push('.');
            expression.push_str(key);
        } else {
            expression.push('[');
            expression.push_str(&literal(key));
            expression.push(']');
        }
    }
    expression
}

/// RFC 6901.
fn pointer(path: &[&str]) -> String {
    let escaped = path.iter().map(|key| key.replace('~', "~0").replace('/', "~1"));
    std::iter::once(String::new())
        .chain(escaped)
        .collect::<Vec<_>>()
        .join("/")
}

/// A text as a Jinja literal, which knows the escapes of JSON.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_keys_are_read_as_attributes() {
        let template = Template::json_key("power_w");
        assert_eq!(template.as_str(), "{{ value_json.power_w }}");
        assert_eq!(template.pointers(), ["/power_w"]);
    }

    #[test]
    fn objects_inside_are_read_by_their_path() {
        for (id, text) in [
            ("morning", "{{ value_json.schedules.morning }}"),
            ("week-end", r#"{{ value_json.schedules["week-end"] }}"#),
            ("pop", r#"{{ value_json.schedules["pop"] }}"#),
        ] {
            let template = Template::json_path(&["schedules", id]);
            assert_eq!(template.as_str(), text);
            assert_eq!(template.pointers(), [format!("/schedules/{id}")]);
        }
        assert_eq!(Template::json_key("a/b~").pointers(), ["/a~1b~0"]);
    }

    #[test]
    fn keys_that_jinja_would_misread_are_quoted() {
        for (key, text) in [
            ("update", r#"{{ value_json["update"] }}"#),
            ("1h", r#"{{ value_json["1h"] }}"#),
            ("a b", r#"{{ value_json["a b"] }}"#),
            (r#"a"}}b"#, r#"{{ value_json["a\"}}b"] }}"#),
        ] {
            assert_eq!(Template::json_key(key).as_str(), text);
        }
    }

    #[test]
    fn an_object_leaves_out_what_is_null() {
        let template = Template::object([("event_type", "type"), ("message", "message")]);
        assert_eq!(
            template.as_str(),
            r#"{{ dict({"event_type": value_json.type, "message": value_json.message}.items() | rejectattr(1, "none")) | tojson }}"#
        );
        assert_eq!(template.pointers(), ["/type", "/message"]);
    }

    #[test]
    fn a_condition_is_read_as_well() {
        let template = Template::json_key("type").only_when("device", "heater");
        assert_eq!(
            template.as_str(),
            r#"{% if value_json.device == "heater" %}{{ value_json.type }}{% endif %}"#
        );
        assert_eq!(template.pointers(), ["/type", "/device"]);
    }

    #[test]
    fn a_text_in_an_object_that_may_be_null_is_read() {
        let template = Template::text_in("error", "message", "No error");
        assert_eq!(
            template.as_str(),
            r#"{{ (value_json.error.message if value_json.error else "No error") | truncate(250) }}"#
        );
        assert_eq!(template.pointers(), ["/error"]);
    }

    #[test]
    fn seconds_are_shown_in_minutes() {
        let template = Template::minutes("countdown");
        assert_eq!(template.as_str(), "{{ (value_json.countdown / 60) | round(2) }}");
        assert_eq!(template.pointers(), ["/countdown"]);
    }

    #[test]
    fn commands_are_wrapped_in_json() {
        let text = |template: CommandTemplate| serde_json::to_value(template).unwrap();
        assert_eq!(
            text(CommandTemplate::json_value("level")),
            r#"{{ {"level": value} | tojson }}"#
        );
        let object = serde_json::json!({"group": "mats", "schedule": {"id": "late", "start": "22:00"}});
        assert_eq!(
            text(CommandTemplate::json_with(&object, "schedule", "start")),
            r#"{{ {"group":"mats","schedule":{"id":"late","start":value}} | tojson }}"#
        );
        assert_eq!(
            text(CommandTemplate::json_is_on("enabled")),
            r#"{{ {"enabled": value == "ON"} | tojson }}"#
        );
    }
}
