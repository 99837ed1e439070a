//! Which device answers. Pure.

use serde::{Deserialize, Serialize};

use super::readings::DeviceReading;

/// What distinguishes a device from others, as far as it reported it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::devices) struct KnownIdentity {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
}

impl KnownIdentity {
    /// A device of which only the MAC is known.
    pub(in crate::devices) fn of_mac(mac: &str) -> Self {
        Self {
            mac: Some(mac.to_owned()),
            device_id: None,
        }
    }

    /// The ids of a reading.
    pub(in crate::devices) fn of(device: &DeviceReading) -> Self {
        Self {
            mac: device.mac.clone(),
            device_id: device.device_id.clone(),
        }
    }

    /// The MAC, in lower case with colons.
    pub(in crate::devices) fn mac(&self) -> Option<&str> {
        self.mac.as_deref()
    }

    /// Whether the device answered before, and not only its MAC is configured.
    pub(in crate::devices) fn has_answered(&self) -> bool {
        self.device_id.is_some()
    }

    /// Whether both are one device; `None` if they have no id in common. The MAC decides where both have one.
    pub(in crate::devices) fn is_same(&self, other: &Self) -> Option<bool> {
        let ids = [(&self.mac, &other.mac), (&self.device_id, &other.device_id)];
        ids.into_iter()
            .find_map(|(mine, its)| Some(mine.as_ref()? == its.as_ref()?))
    }

    /// Describes the device that sent a reading, if it is not the known one. One that reports no id that the known one
    /// has may be any device.
    pub(in crate::devices) fn mismatch(&self, device: &DeviceReading) -> Option<String> {
        let now = Self::of(device);
        let is_known = *self != Self::default();
        let model = device.model.as_deref().unwrap_or("unknown model");
        match self.is_same(&now) {
            Some(true) => None,
            Some(false) => {
                let id = now.mac.or(now.device_id).unwrap_or_default();
                Some(format!("{model}, {id}"))
            }
            None => is_known.then(|| {
                let expected = self.mac.as_deref().or(self.device_id.as_deref());
                format!(
                    "{model}, which does not report its MAC, so that it may not be {}",
                    expected.unwrap_or_default()
                )
            }),
        }
    }

    /// Keeps the ids of a reading. An id that a reading lacks stays known.
    pub(in crate::devices) fn learn(&mut self, device: &DeviceReading) {
        self.mac = device.mac.clone().or(self.mac.take());
        self.device_id = device.device_id.clone().or(self.device_id.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_identifies_a_device_and_else_its_id() {
        let device = |mac: Option<&str>, id: Option<&str>| DeviceReading {
            mac: mac.map(str::to_owned),
            device_id: id.map(str::to_owned),
            ..Default::default()
        };
        let mut known = KnownIdentity::default();
        assert_eq!(known.mismatch(&device(Some("m1"), Some("i1"))), None);
        known.learn(&device(None, Some("i1")));
        assert!(known.mismatch(&device(Some("m1"), Some("i2"))).is_some());
        known.learn(&device(Some("m1"), None));
        assert_eq!(known.mismatch(&device(Some("m1"), Some("i2"))), None);
        assert_eq!(known.mismatch(&device(None, Some("i1"))), None);
        assert!(known.mismatch(&device(Some("m2"), Some("i1"))).is_some());
        let silent = known.mismatch(&device(None, None)).unwrap();
        assert!(
            silent.contains("m1") && silent.contains("does not report its MAC"),
            "{silent}"
        );
        let of_mac = KnownIdentity::of_mac("m1");
        assert!(of_mac.mismatch(&device(None, Some("i1"))).is_some());
        assert_eq!(of_mac.mismatch(&device(Some("m1"), None)), None);
        assert_eq!(KnownIdentity::default().mismatch(&device(None, None)), None);
    }
}
