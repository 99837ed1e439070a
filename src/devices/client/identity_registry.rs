//! Which device each configured id stands for, shared by the workers and kept in the state file.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

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

/// The devices as they were identified, and which worker serves each. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::devices) struct IdentityRegistry {
    kept: Section<IdentifiedDevices>,
    served: Arc<Mutex<BTreeMap<DeviceId, Served>>>,
}

#[derive(Debug)]
struct Served {
    identity: KnownIdentity,
    /// The settings under which it is served.
    config: DeviceConfig,
}

impl IdentityRegistry {
    /// With what an earlier run learned.
    pub(in crate::devices) fn new(kept: Section<IdentifiedDevices>) -> Self {
        Self {
            kept,
            served: Arc::default(),
        }
    }

    /// Takes the configured devices, before their workers do. One that is removed, or that has another address or MAC, is
    /// not served any more. One with a new id at the same address is the same device.
    pub(in crate::devices) fn configure(&self, devices: &[DeviceConfig]) {
        let find = |id: &DeviceId| devices.iter().find(|device| device.id == *id);
        self.lock()
            .retain(|id, served| find(id).is_some_and(|device| !device.means_another(&served.config)));
        self.kept.update(|kept| {
            let removed: BTreeSet<DeviceId> = kept.keys().filter(|id| find(id).is_none()).cloned().collect();
            for id in &removed {
                let Some(known) = kept.remove(id) else {
                    continue;
                };
                let renamed = devices.iter().find(|device| device.address == known.address);
                if let Some(renamed) = renamed {
                    kept.entry(renamed.id.clone()).or_insert(known);
                }
            }
            !removed.is_empty()
        });
    }

    /// Which device is meant, as far as the settings and earlier logins show.
    pub(in crate::devices) fn of(&self, config: &DeviceConfig) -> KnownIdentity {
        let mut identity = KnownIdentity::default();
        self.kept.update(|kept| {
            let known = kept
                .get(&config.id)
                .filter(|known| known.address == config.address);
            identity = known.map(|known| known.identity.clone()).unwrap_or_default();
            false
        });
        match &config.mac {
            Some(mac) if identity.mac() != Some(mac) => KnownIdentity::of_mac(mac),
            _ => identity,
        }
    }

    /// The worker of a device logged in to it.
    ///
    /// # Errors
    /// The id whose worker serves this device already.
    pub(in crate::devices) fn serve(
        &self,
        config: &DeviceConfig,
        identity: &KnownIdentity,
    ) -> Result<(), DeviceId> {
        let mut served = self.lock();
        let same = |(id, other): &(&DeviceId, &Served)| {
            **id != config.id && other.identity.is_same(identity) == Some(true)
        };
        if let Some((other, _)) = served.iter().find(same) {
            return Err(other.clone());
        }
        served.insert(
            config.id.clone(),
            Served {
                identity: identity.clone(),
                config: config.clone(),
            },
        );
        drop(served);
        let known = IdentifiedDevice {
            address: config.address.clone(),
            identity: identity.clone(),
        };
        self.kept.update(|kept| {
            let changed = kept.get(&config.id) != Some(&known);
            kept.insert(config.id.clone(), known);
            changed
        });
        Ok(())
    }

    /// Held for a few instructions at a time, never over an await.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, address: &str) -> DeviceConfig {
        DeviceConfig {
            id: id.parse().unwrap(),
            address: address.to_owned(),
            mac: None,
            name: None,
            credentials: None,
            outlets: Vec::new(),
        }
    }

    fn registry() -> IdentityRegistry {
        IdentityRegistry::new(Section::default())
    }

    #[test]
    fn a_device_is_known_until_its_address_changes() {
        let (registry, plug) = (registry(), device("heater", "192.0.2.1"));
        let identity = KnownIdentity::of_mac("aa");
        registry.serve(&plug, &identity).unwrap();
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
        registry.serve(&device("heater", "192.0.2.1"), &identity).unwrap();
        let renamed = device("oven", "192.0.2.1");
        registry.configure(std::slice::from_ref(&renamed));
        assert_eq!(registry.of(&renamed), identity);
        registry.configure(&[]);
        assert!(registry.kept.get().is_empty());
    }

    #[test]
    fn one_device_is_served_under_one_id() {
        let registry = registry();
        let (a, b) = (device("a", "192.0.2.1"), device("b", "plug.lan"));
        let identity = KnownIdentity::of_mac("aa");
        registry.serve(&a, &identity).unwrap();
        registry.serve(&a, &identity).unwrap();
        assert_eq!(registry.serve(&b, &identity), Err(a.id.clone()));
        assert_eq!(registry.of(&b), KnownIdentity::default());
        // Two devices that exchange their addresses in the settings.
        let moved = device("a", "192.0.2.9");
        registry.configure(&[moved, b.clone()]);
        registry.serve(&b, &identity).unwrap();
    }
}
