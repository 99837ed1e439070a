//! Who a device is: invented, and the same for the same profile and seed.

use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::{Profile, profile::Spec};

/// Tells apart the devices of a process that were not given a seed.
static NEXT_SEED: AtomicU64 = AtomicU64::new(1);

/// A seed that no other device of this process has, unless it was given the same one.
pub(crate) fn next_seed() -> u64 {
    NEXT_SEED.fetch_add(1, Ordering::Relaxed)
}

#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// 40 upper-case hex digits, as `get_device_info` has it.
    pub(crate) device_id: String,
    /// 32 lower-case hex digits: discovery has another id than `get_device_info`.
    pub(crate) discovery_id: String,
    pub(crate) hw_id: String,
    pub(crate) oem_id: String,
    mac: [u8; 6],
    /// Random hex digits that the ids of a hub's children begin with.
    hub_child: String,
}

impl Identity {
    pub(crate) fn new(profile: Profile, seed: u64) -> Self {
        let digest = |purpose: &str| Sha256::digest(format!("{profile}/{seed}/{purpose}"));
        let hex = |purpose: &str, bytes: usize| {
            let digest = digest(purpose);
            base16ct::upper::encode_string(digest.get(..bytes).unwrap_or_default())
        };
        // The second bit marks a made-up address.
        let mut mac = [0x02, 0x54, 0x50, 0, 0, 0];
        for (byte, random) in mac.iter_mut().skip(3).zip(digest("mac")) {
            *byte = random;
        }
        Self {
            device_id: format!("80{}", hex("device", 19)),
            discovery_id: hex("discovery", 16).to_lowercase(),
            hw_id: hex("hardware", 16),
            oem_id: hex("maker", 16),
            mac,
            hub_child: hex("hub child", 17),
        }
    }

    /// `02-54-50-00-00-00`, as the device writes it.
    pub(crate) fn mac(&self) -> String {
        self.mac_with("-")
    }

    /// `025450000000`, as children and TPAP write it.
    pub(crate) fn bare_mac(&self) -> String {
        self.mac_with("")
    }

    /// The id of the outlet at a position of a strip; a plug's outlet has none of its own.
    pub(crate) fn child_id(&self, spec: &Spec, position: u8) -> Option<String> {
        spec.is_strip()
            .then(|| format!("{}{:02X}", self.device_id, position.saturating_sub(1)))
    }

    /// The id of a child of a hub, by its number: 40 hex digits that share nothing with the id of the hub.
    pub(crate) fn hub_child_id(&self, number: usize) -> String {
        format!("80{}{number:04X}", self.hub_child)
    }

    fn mac_with(&self, separator: &str) -> String {
        self.mac.map(|byte| format!("{byte:02X}")).join(separator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_follows_profile_and_seed() {
        let plug = Identity::new(Profile::P110, 7);
        assert_eq!(plug.device_id, Identity::new(Profile::P110, 7).device_id);
        assert_ne!(plug.device_id, Identity::new(Profile::P110, 8).device_id);
        assert_ne!(plug.mac(), Identity::new(Profile::P100, 7).mac());
        assert_eq!(
            (plug.device_id.len(), plug.discovery_id.len(), plug.mac().len()),
            (40, 32, 17)
        );
        let spec = Profile::P304M.spec();
        assert_eq!(plug.child_id(spec, 4), Some(format!("{}03", plug.device_id)));
    }
}
