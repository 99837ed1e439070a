//! Replaces what is private by tokens: the same text always by the same one, so that relations stay. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;
use serde_json::Value;

/// Shorter texts are in too many words.
const SHORTEST: usize = 3;
/// A word that is a password would be known by its absence, if each occurrence of it were replaced.
const SHORTEST_SECRET: usize = 6;
/// Digits of a MAC without separators. Ids of devices have more.
const MAC_DIGITS: usize = 12;

/// Keys whose texts are kept, but for private parts: words of ours, versions and messages. The text of any other key is
/// replaced as a whole.
const KEPT: &[&str] = &[
    "action",
    "add",
    "at",
    "auto_off_at",
    "availability",
    "base_topic",
    "bridge",
    "cause",
    "circuit",
    "client",
    "code",
    "cooldown_until",
    "device",
    "devices",
    "error",
    "events",
    "expected",
    "failsafe",
    "features",
    "firmware",
    "format",
    "from",
    "group",
    "groups",
    "hardware",
    "id",
    "installed_version",
    "issues",
    "key",
    "kind",
    "last_change",
    "last_error",
    "last_seen",
    "latest_version",
    "left_out",
    "level",
    "limit_at",
    "listen",
    "log.txt",
    "log_level",
    "machine",
    "made_at",
    "members",
    "message",
    "missing",
    "mode",
    "model",
    "next_change",
    "on_since",
    "origin",
    "outlet",
    "outlets",
    "override_until",
    "phase",
    "preset",
    "provider",
    "reason",
    "rule",
    "schedule",
    "sensor",
    "sensors",
    "settings_error",
    "since",
    "source",
    "started_at",
    "state",
    "status",
    "subject",
    "system",
    "text",
    "timezone",
    "title",
    "to",
    "transport",
    "type",
    "unit",
    "until",
    "update",
    "vacation",
    "version",
    "why",
];

/// What the bridge says itself, beside [`KEPT`]. Replaced in its own texts, such a password could be read from what is missing.
const OWN_WORDS: &[&str] = &[
    "auto",
    "broker",
    "false",
    "mqtt",
    "off",
    "offline",
    "on",
    "online",
    "ready",
    "settings",
    "tapo",
    "tapo2mqtt",
    "true",
];

/// What is private, by kind, and what stands for it.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    /// In lower case.
    tokens: BTreeMap<String, String>,
    /// Those that are replaced wherever they are, by their first letters, the longest first.
    known: BTreeMap<char, Vec<KnownText>>,
    counts: BTreeMap<&'static str, usize>,
}

#[derive(Debug)]
struct KnownText {
    letters: Vec<char>,
    token: String,
    /// Whether only whole words are replaced.
    is_word: bool,
}

impl Redactor {
    /// Replaces texts wherever they are.
    pub(super) fn learn<'a>(&mut self, kind: &'static str, texts: impl IntoIterator<Item = &'a str>) {
        let shortest = if kind == "secret" {
            SHORTEST_SECRET
        } else {
            SHORTEST
        };
        for text in texts {
            self.learn_text(kind, text, shortest, false);
        }
    }

    /// Replaces texts where they are whole words.
    pub(super) fn learn_words<'a>(&mut self, kind: &'static str, texts: impl IntoIterator<Item = &'a str>) {
        for text in texts {
            self.learn_text(kind, text, 1, true);
        }
    }

    /// Replaces hosts wherever they are. One that is on each machine says nothing.
    pub(super) fn learn_hosts<'a>(&mut self, hosts: impl IntoIterator<Item = &'a str>) {
        self.learn("address", hosts.into_iter().filter(|host| !is_local(host)));
    }

    /// Replaces the values of keys that name something private, wherever they are.
    pub(super) fn learn_values(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (kind_of(key), value) {
                        (Some("address"), Value::String(text)) => self.learn_hosts([host_and_port(text).0]),
                        (Some(kind), Value::String(text)) => self.learn(kind, [text.as_str()]),
                        _ => self.learn_values(value),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn_values(item)),
            _ => {}
        }
    }

    /// The value of a key, without anything private.
    pub(super) fn json(&mut self, key: &str, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let field = |(key, value): (&String, &Value)| (self.text(key), self.json(key, value));
                Value::Object(fields.iter().map(field).collect())
            }
            Value::Array(items) => items.iter().map(|item| self.json(key, item)).collect(),
            Value::String(text) => Value::from(self.value(key, text)),
            Value::Number(_) if kind_of(key).is_some() => Value::from("***"),
            other => other.clone(),
        }
    }

    fn value(&mut self, key: &str, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        match kind_of(key) {
            Some("address") => {
                let (host, port) = host_and_port(text);
                return self.host(host) + port;
            }
            Some(kind) => return self.token(kind, text),
            None => {}
        }
        if KEPT.contains(&key) || text.parse::<Timestamp>().is_ok() {
            return self.text(text);
        }
        self.token("text", text)
    }

    /// A text without anything private.
    pub(super) fn text(&mut self, text: &str) -> String {
        let text = self.without_known(text);
        let is_end = |c: char| c.is_whitespace() || c.is_control() || "\"'<>`".contains(c);
        let mut shown = String::new();
        for part in text.split_inclusive(is_end) {
            let bare = part.trim_end_matches(is_end);
            let end = part.get(bare.len()..).unwrap_or_default();
            match bare.find("://") {
                Some(at) => {
                    let head = bare.get(..at).unwrap_or_default();
                    let scheme =
                        head.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || "+.-".contains(c));
                    shown.push_str(&self.words(scheme));
                    let url = bare.get(scheme.len()..).unwrap_or_default();
                    shown.push_str(&self.token("url", url));
                }
                None => shown.push_str(&self.words(bare)),
            }
            shown.push_str(end);
        }
        shown
    }

    fn words(&mut self, text: &str) -> String {
        let is_part = |c: char| c.is_alphanumeric() || "._:%@+-".contains(c);
        let mut shown = String::new();
        let mut rest = text;
        let mut folder = "";
        while !rest.is_empty() {
            let (word, after) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
            if !word.is_empty() && matches!(folder, "home" | "Users") {
                shown.push_str(&self.token("user", word));
            } else {
                shown.push_str(&self.word(word));
            }
            let (gap, next) = after.split_at(after.find(is_part).unwrap_or(after.len()));
            shown.push_str(gap);
            folder = if gap == "/" { word } else { "" };
            rest = next;
        }
        shown
    }

    /// One word, with the punctuation after it. What is private of it is known by its form.
    fn word(&mut self, word: &str) -> String {
        let bare = word.trim_end_matches(['.', ':', '-']);
        let end = word.get(bare.len()..).unwrap_or_default();
        let digits = digits_of(bare);
        let ip = bare.split('%').next().unwrap_or_default();
        if bare.contains('@') {
            return self.token("login", bare) + end;
        }
        if let Some(digits) = &digits {
            let kind = if digits.len() == MAC_DIGITS { "mac" } else { "id" };
            return self.token(kind, digits) + end;
        }
        if ip.parse::<IpAddr>().is_ok() {
            return self.host(bare) + end;
        }
        if bare.parse::<SocketAddr>().is_ok() {
            let (host, port) = host_and_port(bare);
            return self.host(host) + port + end;
        }
        // Ids are parts of other ids too, such as those in Home Assistant.
        let parts: Vec<&str> = word.split('_').collect();
        if parts.len() > 1 && parts.iter().any(|part| digits_of(part).is_some()) {
            let parts: Vec<String> = parts.into_iter().map(|part| self.word(part)).collect();
            return parts.join("_");
        }
        word.to_owned()
    }

    /// One that is on each machine says nothing.
    fn host(&mut self, host: &str) -> String {
        if is_local(host) {
            return host.to_owned();
        }
        self.token("address", host)
    }

    fn learn_text(&mut self, kind: &'static str, text: &str, shortest: usize, is_word: bool) {
        let key = key_of(kind, text.trim());
        let is_own = KEPT.contains(&key.as_str()) || OWN_WORDS.contains(&key.as_str());
        if is_own || key.chars().count() < shortest || self.tokens.contains_key(&key) {
            return;
        }
        let token = self.token(kind, text.trim());
        let letters: Vec<char> = key.chars().collect();
        let Some(first) = letters.first().copied() else {
            return;
        };
        let texts = self.known.entry(first).or_default();
        let at = texts.partition_point(|known| known.letters.len() > letters.len());
        texts.insert(
            at,
            KnownText {
                letters,
                token,
                is_word,
            },
        );
    }

    /// What stands for a text.
    fn token(&mut self, kind: &'static str, text: &str) -> String {
        let key = key_of(kind, text);
        if let Some(token) = self.tokens.get(&key) {
            return token.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let token = format!("<{kind}-{count}>");
        self.tokens.insert(key, token.clone());
        token
    }

    /// Without the texts that are known to be private.
    fn without_known(&self, text: &str) -> String {
        let letters: Vec<char> = text.chars().collect();
        let folded: Vec<char> = letters.iter().copied().map(folded).collect();
        let is_alphanumeric = |at: usize| folded.get(at).is_some_and(|c| c.is_alphanumeric());
        let mut shown = String::new();
        let mut at = 0;
        while let (Some(rest), Some(letter)) = (folded.get(at..), letters.get(at)) {
            let first = rest.first().copied().unwrap_or(*letter);
            let mut known = self.known.get(&first).into_iter().flatten();
            let found = known.find(|known| {
                let is_inside =
                    || (at > 0 && is_alphanumeric(at - 1)) || is_alphanumeric(at + known.letters.len());
                rest.starts_with(&known.letters) && !(known.is_word && is_inside())
            });
            if let Some(known) = found {
                shown.push_str(&known.token);
                at += known.letters.len();
            } else {
                shown.push(*letter);
                at += 1;
            }
        }
        shown
    }
}

/// Texts that differ only in this are the same.
fn key_of(kind: &str, text: &str) -> String {
    match digits_of(text) {
        Some(digits) if kind == "mac" || kind == "id" => digits,
        _ => text.chars().map(folded).collect(),
    }
}

/// In lower case, one letter for each.
fn folded(letter: char) -> char {
    letter.to_lowercase().next().unwrap_or(letter)
}

/// The digits of a MAC, or of a longer id, in lower case.
fn digits_of(text: &str) -> Option<String> {
    let is_separator = |c: char| c == ':' || c == '-';
    let digits: String = text.chars().filter(|c| !is_separator(*c)).map(folded).collect();
    let is_id = digits.len() >= MAC_DIGITS && digits.chars().all(|c| c.is_ascii_hexdigit());
    is_id.then_some(digits)
}

/// One that is on each machine.
fn is_local(host: &str) -> bool {
    let is_local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    host == "localhost" || host.parse().is_ok_and(is_local)
}

/// A host without brackets, and its port with the colon, if it has one.
pub(super) fn host_and_port(address: &str) -> (&str, &str) {
    let is_port = |port: &str| {
        let digits = port.strip_prefix(':').filter(|digits| !digits.is_empty());
        digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let (host, port) = match address.rfind(':').and_then(|at| address.split_at_checked(at)) {
        // The colons of a bare IPv6 address are none before a port.
        Some((host, port)) if is_port(port) && address.parse::<IpAddr>().is_err() => (host, port),
        _ => (address, ""),
    };
    (host.trim_matches(['[', ']']), port)
}

/// What a key of JSON is about, if that is private.
fn kind_of(key: &str) -> Option<&'static str> {
    Some(match key.to_ascii_lowercase().as_str() {
        "ssid" => "ssid",
        "name" | "nickname" | "alias" => "name",
        "latitude" | "longitude" | "lat" | "lon" => "place",
        "mac" => "mac",
        "device_id" | "deviceid" | "hw_id" | "hwid" | "oem_id" | "oemid" | "fw_id" | "fwid"
        | "parent_device_id" | "terminal_uuid" => "id",
        "address" | "host" | "ip" | "broker" => "address",
        "username" | "email" | "owner" => "login",
        "password" | "token" | "url" | "hash" | "key_hash" | "cookie" | "session" => "secret",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_text_has_the_same_token_everywhere() {
        let mut redactor = Redactor::default();
        let device = json!({
            "id": "heater", "mac": "02:54:50:72:5C:76", "nickname": "Küche Anna", "address": "192.168.1.50:80",
            "device_id": "801FBF96819B9CDA0F0F7304E77672DDEB870F55", "latitude": 473_661, "model": "P110",
        });
        redactor.learn_values(&device);
        let shown = redactor.json("devices.json", &device);
        assert_eq!(
            (&shown["id"], &shown["model"], &shown["latitude"]),
            (&json!("heater"), &json!("P110"), &json!("***"))
        );
        let token = |key: &str| shown[key].as_str().unwrap().to_owned();
        let line = "KÜCHE ANNA (02-54-50-72-5c-76) of 801fbf96819b9cda0f0f7304e77672ddeb870f55: no answer";
        let expected = format!(
            "{} ({}) of {}: no answer",
            token("nickname"),
            token("mac"),
            token("device_id")
        );
        assert_eq!(redactor.text(line), expected);
    }

    #[test]
    fn a_host_has_one_token_with_and_without_its_port() {
        let mut redactor = Redactor::default();
        redactor.learn_hosts(["broker.lan"]);
        let health = json!({
            "broker": "broker.lan:1883", "address": "192.168.1.50:80", "ip": "192.168.1.50",
            "host": "[fd00::5]:80", "listen": "[fd00::5]:8099", "message": "fd00::5 and 192.168.1.50:9999",
        });
        redactor.learn_values(&health);
        let shown = redactor.json("health.json", &health);
        let expected = json!({
            "broker": "<address-1>:1883", "address": "<address-2>:80", "ip": "<address-2>",
            "host": "<address-3>:80", "listen": "[<address-3>]:8099", "message": "<address-3> and <address-2>:9999",
        });
        assert_eq!(shown, expected);
        for (address, split) in [
            ("::1", ("::1", "")),
            ("localhost:1883", ("localhost", ":1883")),
            ("fd00::5%eth0", ("fd00::5%eth0", "")),
            (":", (":", "")),
            ("ü", ("ü", "")),
        ] {
            assert_eq!(host_and_port(address), split);
        }
        let local = json!({ "broker": "localhost:1883", "address": "127.0.0.1:80" });
        assert_eq!(redactor.json("health.json", &local), local);
    }

    #[test]
    fn words_of_the_bridge_stay_also_if_they_are_a_password() {
        let mut redactor = Redactor::default();
        redactor.learn("secret", ["tapo2mqtt", "offline", "device"]);
        redactor.learn_words("device", ["on", "state"]);
        let line = "tapo2mqtt starts; device on is offline, state unknown";
        assert_eq!(redactor.text(line), line);
    }

    #[test]
    fn what_was_not_known_before_is_found_by_its_form() {
        for (text, expected) in [
            ("025450725C76 you@example.com.", "<mac-1> <login-1>."),
            (
                "[fe80::1%eth0]:80, 10.0.0.7:81.",
                "[<address-1>]:80, <address-2>:81.",
            ),
            ("at https://me:pw@a.lan/x?token=1,2\", then", "at <url-1>\", then"),
            ("(smtp://a.lan)", "(<url-1>"),
            ("file /home/anna/bridge.toml", "file /home/<user-1>/bridge.toml"),
            ("6f9619ff-8b86-d011-b42d-00cf4fc964ff", "<id-1>"),
            ("tapo2mqtt_025450725c76_power", "tapo2mqtt_<mac-1>_power"),
        ] {
            assert_eq!(Redactor::default().text(text), expected, "{text}");
        }
    }

    #[test]
    fn what_says_something_is_kept() {
        for text in [
            "2026-11-21T10:35:43.156+00:00  INFO 1.4.8 Build 240621 P110 0.5 °C 127.0.0.1:8099 0.0.0.0 [::1]:80",
            "heater/1: manual OFF (command at 21:50), until AUTO",
            "max_on 2h reached; fe80 decade facade",
        ] {
            assert_eq!(Redactor::default().text(text), text);
        }
    }

    #[test]
    fn the_text_of_an_unknown_key_is_replaced() {
        let mut redactor = Redactor::default();
        let shown = redactor.json(
            "x",
            &json!({ "state": "ON", "hobby": "sailing", "since": "2026-11-21T10:35:43Z" }),
        );
        assert_eq!(
            shown,
            json!({ "state": "ON", "hobby": "<text-1>", "since": "2026-11-21T10:35:43Z" })
        );
    }

    #[test]
    fn an_id_is_replaced_where_it_is_a_whole_word() {
        let mut redactor = Redactor::default();
        redactor.learn_words("device", ["all"]);
        assert_eq!(
            redactor.text("all: all/1 small allow ALL"),
            "<device-1>: <device-1>/1 small allow <device-1>"
        );
        // A short password is in too many words.
        redactor.learn("secret", ["mqtt"]);
        assert_eq!(redactor.text("mqtt"), "mqtt");
    }
}
