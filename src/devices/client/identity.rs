//! Which device answers. Pure.

use super::readings::DeviceReading;

/// What distinguishes the device from others, as far as it reported it.
#[derive(Debug, Default)]
pub(in crate::devices) struct KnownIdentity {
    mac: Option<String>,
    device_id: Option<String>,
}

impl KnownIdentity {
    /// The MAC, in lower case with colons.
    pub(in crate::devices) fn mac(&self) -> Option<&str> {
        self.mac.as_deref()
    }

    /// Describes the device that sent a reading, if it is not the known one.
    pub(in crate::devices) fn mismatch(&self, device: &DeviceReading) -> Option<String> {
        let ids = [(&self.mac, &device.mac), (&self.device_id, &device.device_id)];
        // The MAC decides where both have one.
        let (known, now) = ids
            .into_iter()
            .find_map(|(known, now)| Some((known.as_ref()?, now.as_ref()?)))?;
        (known != now).then(|| {
            let model = device.model.as_deref().unwrap_or("unknown model");
            format!("{model}, {now}")
        })
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
        assert_eq!(known.mismatch(&device(None, None)), None);
        assert!(known.mismatch(&device(Some("m2"), Some("i1"))).is_some());
    }
}
