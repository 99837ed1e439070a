//! Which device each configured id stands for, shared by the workers and kept in the state file.

use std::collections::BTreeMap;

use planner::DeviceId;
use serde::{Deserialize, Serialize};

use super::identity::KnownIdentity;
use crate::{domain::devices::DeviceConfig, store::Section};

/// The devices that answered, by configured id.
pub type IdentifiedDevices = BTreeMap<DeviceId, IdentifiedDevice>;

/// The device that answered at a configured address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentifiedDevice {
    /// The address in the settings. With another one, another device is meant.
    address: String,
    #[serde(flatten)]
    identity: KnownIdentity,
}

impl IdentifiedDevice {
    /// Whether the settings of its id still mean it.
    fn is_meant_by(&self, config: &DeviceConfig) -> bool {
        match config.mac.as_deref() {
            Some(mac) => self.identity.mac() == Some(mac),
            None => config.address == self.address,
        }
    }

    /// Whether the settings of another id name it.
    fn is_named_by(&self, config: &DeviceConfig) -> bool {
        config.mac.is_some() && config.mac.as_deref() == self.identity.mac()
    }
}

/// The devices as they were identified. A device that has an id gets no other one. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::devices) struct IdentityRegistry(Section<IdentifiedDevices>);

impl IdentityRegistry {
    /// With what an earlier run learned.
    pub(in crate::devices) fn new(kept: Section<IdentifiedDevices>) -> Self {
        Self(kept)
    }

    /// Takes the configured devices, before their workers do. What the settings do not mean any more is forgotten. One with
    /// a new id at the same address is the same device.
    pub(in crate::devices) fn configure(&self, devices: &[DeviceConfig]) {
        let find = |id: &DeviceId| devices.iter().find(|device| device.id == *id);
        self.0.update(|kept| {
            let before = kept.clone();
            for (_, known) in before.iter().filter(|(id, _)| find(id).is_none()) {
                let renamed = devices.iter().find(|device| known.is_meant_by(device));
                if let Some(renamed) = renamed {
                    kept.entry(renamed.id.clone()).or_insert_with(|| known.clone());
                }
            }
            kept.retain(|id, known| {
                let mut others = devices.iter().filter(|device| device.id != *id);
                find(id).is_some_and(|device| known.is_meant_by(device))
                    && !others.any(|other| known.is_named_by(other))
            });
            before != *kept
        });
    }

    /// Which device is meant, as far as the settings and earlier logins show.
    pub(in crate::devices) fn of(&self, config: &DeviceConfig) -> KnownIdentity {
        let mut identity = None;
        self.0.update(|kept| {
            let known = kept.get(&config.id).filter(|known| known.is_meant_by(config));
            identity = known.map(|known| known.identity.clone());
            false
        });
        let named = || config.mac.as_deref().map(KnownIdentity::of_mac);
        identity.or_else(named).unwrap_or_default()
    }

    /// Whether a configured id stands for the device with this MAC.
    pub(in crate::devices) fn has(&self, mac: &str) -> bool {
        self.0
            .get()
            .values()
            .any(|known| known.identity.mac() == Some(mac))
    }

    /// The worker of a device logged in to it.
    ///
    /// # Errors
    /// The id that this device has already.
    pub(in crate::devices) fn learn(
        &self,
        config: &DeviceConfig,
        identity: &KnownIdentity,
    ) -> Result<(), DeviceId> {
        let known = IdentifiedDevice {
            address: config.address.clone(),
            identity: identity.clone(),
        };
        let mut result = Ok(());
        self.0.update(|kept| {
            let same = |(id, other): &(&DeviceId, &IdentifiedDevice)| {
                **id != config.id && other.identity.is_same(identity) == Some(true)
            };
            if let Some((other, _)) = kept.iter().find(same) {
                result = Err(other.clone());
                return false;
            }
            let changed = kept.get(&config.id) != Some(&known);
            kept.insert(config.id.clone(), known);
            changed
        });
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, address: &str) -> DeviceConfig {
        DeviceConfig::new(id.parse().unwrap(), address.to_owned())
    }

    fn registry() -> IdentityRegistry {
        IdentityRegistry::new(Section::default())
    }

    #[test]
    fn a_device_is_known_until_its_address_changes() {
        let (registry, plug) = (registry(), device("heater", "192.0.2.1"));
        let identity = KnownIdentity::of_mac("aa");
        registry.learn(&plug, &identity).unwrap();
        assert_eq!(registry.of(&plug), identity);
        assert_eq!(
            registry.of(&device("heater", "192.0.2.2")),
            KnownIdentity::default()
        );
        assert_eq!(
            registry.of(&device("lamp", "192.0.2.1")),
            KnownIdentity::default()
        );
        let replaced = DeviceConfig {
            mac: Some("bb".to_owned()),
            ..plug
        };
        assert_eq!(registry.of(&replaced).mac(), Some("bb"));
    }

    #[test]
    fn a_device_with_a_new_id_is_the_same_device() {
        let registry = registry();
        let identity = KnownIdentity::of_mac("aa");
        registry.learn(&device("heater", "192.0.2.1"), &identity).unwrap();
        let renamed = device("oven", "192.0.2.1");
        registry.configure(std::slice::from_ref(&renamed));
        assert_eq!(registry.of(&renamed), identity);
        registry.configure(&[]);
        assert!(registry.0.get().is_empty());
    }

    #[test]
    fn one_device_has_one_id() {
        let registry = registry();
        let (a, b) = (device("a", "192.0.2.1"), device("b", "plug.lan"));
        let identity = KnownIdentity::of_mac("aa");
        registry.learn(&a, &identity).unwrap();
        registry.learn(&a, &identity).unwrap();
        assert_eq!(registry.learn(&b, &identity), Err(a.id.clone()));
        assert_eq!(registry.of(&b), KnownIdentity::default());
        // Two devices that exchange their addresses in the settings.
        let moved = device("a", "192.0.2.9");
        registry.configure(&[moved, b.clone()]);
        registry.learn(&b, &identity).unwrap();
        // The MAC in the settings decides over what was learned.
        let named = DeviceConfig {
            mac: Some("aa".to_owned()),
            ..a
        };
        registry.configure(&[named.clone(), b]);
        registry.learn(&named, &identity).unwrap();
    }

    #[test]
    fn a_device_of_an_earlier_run_is_not_taken_for_another() {
        let earlier = registry();
        let [a, b] = [device("a", "192.0.2.1"), device("b", "192.0.2.2")];
        let identity = KnownIdentity::of_mac("aa");
        earlier.learn(&a, &identity).unwrap();
        let registry = IdentityRegistry::new(Section::default());
        registry.0.set(earlier.0.get());
        registry.configure(&[a.clone(), b.clone()]);
        // It answers at the address of b, which was never reached.
        assert_eq!(registry.learn(&b, &identity), Err(a.id.clone()));
        registry.learn(&a, &identity).unwrap();
    }
}
