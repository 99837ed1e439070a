//! What an earlier run left on a discovery topic.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{abbreviation::written_out, component::Platform};

/// A payload found on the broker, as far as it shows whose it is and what it announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The name of the program that announced the device.
    pub origin: String,
    /// The topics that show whether the device is available.
    pub availability: Vec<String>,
    /// The components that were announced, also below child devices, by their key in the payload.
    /// Platforms that this crate does not write are left out.
    pub components: BTreeMap<String, Platform>,
}

impl Published {
    /// Reads a payload with short keys, or with its keys written out, as earlier versions have it. `None` when it is none of
    /// ours: not JSON, no origin.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let payload = written_out(serde_json::from_slice(payload).ok()?);
        let raw: Raw = serde_json::from_value(payload).ok()?;
        let below = raw.child_devices.into_iter().flat_map(|child| child.components);
        let known = |(key, component): (String, RawComponent)| match component.platform {
            RawPlatform::Ours(platform) => Some((key, platform)),
            RawPlatform::Other(_) => None,
        };
        Some(Self {
            origin: raw.origin.name,
            availability: raw.availability.into_iter().map(|it| it.topic).collect(),
            components: raw
                .components
                .into_iter()
                .chain(below)
                .filter_map(known)
                .collect(),
        })
    }
}

#[derive(Deserialize)]
struct Raw {
    origin: RawOrigin,
    #[serde(default)]
    availability: Vec<RawAvailability>,
    #[serde(default)]
    components: BTreeMap<String, RawComponent>,
    #[serde(default)]
    child_devices: Vec<RawChild>,
}

#[derive(Deserialize)]
struct RawOrigin {
    name: String,
}

#[derive(Deserialize)]
struct RawAvailability {
    topic: String,
}

#[derive(Deserialize)]
struct RawChild {
    #[serde(default)]
    components: BTreeMap<String, RawComponent>,
}

#[derive(Deserialize)]
struct RawComponent {
    platform: RawPlatform,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawPlatform {
    Ours(Platform),
    Other(serde::de::IgnoredAny),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_and_broken_payloads_are_not_ours() {
        for payload in ["", "null", "{}", "[1]", r#"{"o":{}}"#, r#"{"origin":{}}"#, "{"] {
            assert_eq!(Published::parse(payload.as_bytes()), None, "{payload}");
        }
    }

    #[test]
    fn platforms_that_we_never_write_are_left_out() {
        let payload = r#"{"origin":{"name":"x"},"components":{
            "a":{"platform":"vacuum"},"b":{"platform":"switch","name":null}}}"#;
        let published = Published::parse(payload.as_bytes()).unwrap();
        assert_eq!(
            published.components,
            BTreeMap::from([("b".to_owned(), Platform::Switch)])
        );
    }
}
