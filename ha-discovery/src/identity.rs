//! What names a device or an entity for ever.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::Serialize;

/// Why a text is not an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityError {
    /// Not `[a-zA-Z0-9_-]+`: Home Assistant ignores such a discovery topic.
    Node,
    /// Not `[a-z0-9_-]+`, or of the form `o1_..`, which is how the outlets of a strip are distinguished.
    Key,
    /// Not `http://host..` or `https://host..`: Home Assistant rejects the whole payload.
    Link,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "a discovery node is 1 or more of a-z, A-Z, 0-9, _ and -",
            Self::Key => "a component key is 1 or more of a-z, 0-9, _ and -, and does not begin like o1_",
            Self::Link => "a link begins with http:// or https:// and a host, and has no spaces",
        })
    }
}

impl std::error::Error for IdentityError {}

/// The device's level in its discovery topic, its identifier in Home Assistant's device registry, and
/// the beginning of each of its unique ids: `tapo2mqtt_heater`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct NodeId(String);

impl NodeId {
    /// The node as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic of the device's payload: `<prefix>/device/<node>/config`.
    pub fn config_topic(&self, prefix: &str) -> String {
        format!("{prefix}/device/{}/config", self.0)
    }

    /// The identifier of one outlet of a strip: `tapo2mqtt_strip_o1`.
    pub(crate) fn outlet(&self, position: u8) -> String {
        format!("{}_o{position}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(IdentityError::Node);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an entity is within its device: `switch`, `power`, `schedule_morning`. It ends the unique id, so
/// it never changes once published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Cow<'static, str>);

impl Key {
    /// A key that is written in the source; use it in a `const`, so that a bad one fails the build.
    ///
    /// # Panics
    /// On a text that [`Key::from_str`] would refuse.
    pub const fn literal(text: &'static str) -> Self {
        assert!(
            is_key(text.as_bytes()),
            "not a component key; see IdentityError::Key"
        );
        Self(Cow::Borrowed(text))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if is_key(text.as_bytes()) {
            Ok(Self(Cow::Owned(text.to_owned())))
        } else {
            Err(IdentityError::Key)
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn is_key(text: &[u8]) -> bool {
    if text.is_empty() {
        return false;
    }
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        if !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-') {
            return false;
        }
        rest = tail;
    }
    !reads_as_outlet(text)
}

/// `o<digits>_`: the beginning of a key that belongs to one outlet of a strip.
const fn reads_as_outlet(text: &[u8]) -> bool {
    let [b'o', b'0'..=b'9', tail @ ..] = text else {
        return false;
    };
    let mut rest = tail;
    while let [b'0'..=b'9', tail @ ..] = rest {
        rest = tail;
    }
    matches!(rest, [b'_', ..])
}

/// A web address that Home Assistant shows as a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Link(String);

impl FromStr for Link {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#', ':']).next());
        let printable = text.chars().all(|c| c.is_ascii_graphic());
        match host {
            Some(host) if !host.is_empty() && printable => Ok(Self(text.to_owned())),
            _ => Err(IdentityError::Link),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_fit_the_discovery_topic() {
        let node: NodeId = "tapo2mqtt_heater-1".parse().unwrap();
        assert_eq!(
            node.config_topic("homeassistant"),
            "homeassistant/device/tapo2mqtt_heater-1/config"
        );
        for bad in ["", "a b", "a/b", "ü", "a+", "a.b"] {
            assert_eq!(bad.parse::<NodeId>(), Err(IdentityError::Node), "{bad:?}");
        }
    }

    #[test]
    fn keys_cannot_pose_as_an_outlet_of_a_strip() {
        const SWITCH: Key = Key::literal("switch");
        assert_eq!(SWITCH.as_str(), "switch");
        for good in [
            "on_since",
            "o_1",
            "o1",
            "o1x_",
            "schedule_o1_x",
            "schedule_a-b",
            "overheated",
        ] {
            assert!(good.parse::<Key>().is_ok(), "{good:?}");
        }
        for bad in ["", "Power", "a b", "o1_switch", "o12_x", "a/b", "ä"] {
            assert_eq!(bad.parse::<Key>(), Err(IdentityError::Key), "{bad:?}");
        }
    }

    #[test]
    fn links_are_what_home_assistant_accepts() {
        for good in [
            "http://192.168.1.2",
            "https://github.com/tapo2mqtt/tapo2mqtt",
            "http://host:80/x?y#z",
        ] {
            assert!(good.parse::<Link>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "host",
            "ftp://host",
            "http://",
            "http:///x",
            "https://:80",
            "http://a b",
        ] {
            assert_eq!(bad.parse::<Link>(), Err(IdentityError::Link), "{bad:?}");
        }
    }
}
