//! Ids of devices, outlets, groups, schedules and sensors, and the path of an outlet.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Longest slug that is accepted, in bytes. Keeps every topic far below MQTT's 65,535 bytes.
pub const SLUG_MAX: usize = 64;

/// A name that is safe as one MQTT topic level and stable as an identity: `[a-z0-9_-]`, 1 to 64 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(Arc<str>);

/// Why a text is not a slug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlugError {
    /// Nothing between two slashes, or an empty setting.
    #[error("is empty; use 1 to {SLUG_MAX} of a-z, 0-9, _ and -")]
    Empty,
    /// More than [`SLUG_MAX`] bytes.
    #[error("is longer than {SLUG_MAX} characters")]
    TooLong,
    /// A character outside `[a-z0-9_-]`.
    #[error("contains {0:?}; only a-z, 0-9, _ and - are allowed")]
    Character(char),
    /// A word that is part of a topic.
    #[error("is reserved; choose a name other than bridge and group")]
    Reserved,
}

impl Slug {
    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Slug {
    type Err = SlugError;

    fn from_str(text: &str) -> Result<Self, SlugError> {
        if text.is_empty() {
            return Err(SlugError::Empty);
        }
        if text.len() > SLUG_MAX {
            return Err(SlugError::TooLong);
        }
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
        match text.chars().find(|c| !allowed(*c)) {
            Some(c) => Err(SlugError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }
}

impl TryFrom<String> for Slug {
    type Error = SlugError;

    fn try_from(text: String) -> Result<Self, SlugError> {
        text.parse()
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0.as_ref().to_owned()
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

macro_rules! slug_newtype {
    ($(#[$doc:meta])* $name:ident, reserved: $reserved:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Slug);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $name {
            type Err = SlugError;

            fn from_str(text: &str) -> Result<Self, SlugError> {
                let reserved: &[&str] = $reserved;
                if reserved.contains(&text) {
                    return Err(SlugError::Reserved);
                }
                text.parse().map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = SlugError;

            fn try_from(text: String) -> Result<Self, SlugError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

slug_newtype! {
    /// A configured physical device: its topic and the key of everything about it.
    DeviceId, reserved: &["bridge", "group"]
}

impl DeviceId {
    /// Whether Home Assistant knows an outlet of a strip by it: outlet 1 of `strip` is `strip_o1`, and for ever.
    pub fn is_outlet_of(&self, strip: &Self) -> bool {
        let rest = self.as_str().strip_prefix(strip.as_str());
        let digits = rest.and_then(|rest| rest.strip_prefix("_o"));
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

slug_newtype! {
    /// One outlet of a strip: the configured slug, else its position `1..n`.
    ///
    /// The words that end a command topic are reserved: `strip/set` must mean the strip.
    OutletKey, reserved: &["set", "get", "response", "availability"]
}
slug_newtype! {
    /// A group of outlets that is switched and scheduled together.
    GroupId, reserved: &[]
}

slug_newtype! {
    /// A schedule, unique within its group.
    ScheduleId, reserved: &[]
}
slug_newtype! {
    /// A sensor that conditions refer to.
    SensorId, reserved: &[]
}

/// A device, or one outlet of a strip: `heater` or `strip/1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutletPath {
    /// The physical device.
    pub device: DeviceId,
    /// The outlet on a strip; `None` is the plug itself, or every outlet of a strip.
    pub outlet: Option<OutletKey>,
}

impl OutletPath {
    /// The path of a whole device.
    pub fn device(device: DeviceId) -> Self {
        Self { device, outlet: None }
    }

    /// The path of one outlet of a strip.
    pub fn outlet(device: DeviceId, outlet: OutletKey) -> Self {
        Self {
            device,
            outlet: Some(outlet),
        }
    }
}

impl FromStr for OutletPath {
    type Err = SlugError;

    fn from_str(text: &str) -> Result<Self, SlugError> {
        match text.split_once('/') {
            None => Ok(Self::device(text.parse()?)),
            Some((device, outlet)) => Ok(Self::outlet(device.parse()?, outlet.parse()?)),
        }
    }
}

impl TryFrom<String> for OutletPath {
    type Error = SlugError;

    fn try_from(text: String) -> Result<Self, SlugError> {
        text.parse()
    }
}

impl From<OutletPath> for String {
    fn from(path: OutletPath) -> Self {
        path.to_string()
    }
}

impl fmt::Display for OutletPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outlet {
            None => fmt::Display::fmt(&self.device, f),
            Some(outlet) => write!(f, "{}/{outlet}", self.device),
        }
    }
}

impl fmt::Debug for OutletPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_one_topic_level() {
        for good in ["a", "mat-1", "0_9", &"x".repeat(SLUG_MAX)] {
            assert!(good.parse::<Slug>().is_ok(), "{good}");
        }
        let cases = [
            ("", SlugError::Empty),
            ("A", SlugError::Character('A')),
            ("a/b", SlugError::Character('/')),
            ("a+", SlugError::Character('+')),
            ("#", SlugError::Character('#')),
            ("ü", SlugError::Character('ü')),
        ];
        for (bad, why) in cases {
            assert_eq!(bad.parse::<Slug>(), Err(why), "{bad:?}");
        }
        assert_eq!("x".repeat(SLUG_MAX + 1).parse::<Slug>(), Err(SlugError::TooLong));
    }

    #[test]
    fn reserved_words_are_not_device_ids() {
        assert_eq!("bridge".parse::<DeviceId>(), Err(SlugError::Reserved));
        assert_eq!("group".parse::<DeviceId>(), Err(SlugError::Reserved));
        assert_eq!("set".parse::<OutletKey>(), Err(SlugError::Reserved));
        assert!("bridge".parse::<OutletKey>().is_ok());
    }

    #[test]
    fn outlet_paths_read_as_they_print() {
        for text in ["heater", "strip/1", "strip/left-mat"] {
            assert_eq!(text.parse::<OutletPath>().unwrap().to_string(), text);
        }
        assert!("strip/1/2".parse::<OutletPath>().is_err());
        assert!("strip/".parse::<OutletPath>().is_err());
    }
}
