//! What was armed on all devices, shared by the workers and the device owner, who writes it to the state file.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

/// When the countdowns end that were armed, by the hardware id of the device.
pub type ArmedCountdowns = BTreeMap<String, Vec<Timestamp>>;

/// The device's clock and ours drift apart; a difference up to this is not written again.
const DRIFT: SignedDuration = SignedDuration::from_secs(1);

/// The countdowns. Clones share them.
#[derive(Debug, Clone, Default)]
pub(in crate::devices) struct CountdownRegistry(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    armed: Mutex<ArmedCountdowns>,
    changed: Notify,
}

impl CountdownRegistry {
    /// With what the run before armed.
    pub(in crate::devices) fn new(armed: ArmedCountdowns) -> Self {
        Self(Arc::new(Shared {
            armed: Mutex::new(armed),
            changed: Notify::new(),
        }))
    }

    /// What was armed on a device.
    pub(super) fn of(&self, hardware_id: &str) -> Vec<Timestamp> {
        self.lock().get(hardware_id).cloned().unwrap_or_default()
    }

    /// Takes what is armed on a device now.
    pub(super) fn set(&self, hardware_id: &str, ends: Vec<Timestamp>) {
        let mut armed = self.lock();
        let before = armed.get(hardware_id).map_or(&[][..], Vec::as_slice);
        let near = |(a, b): (&Timestamp, &Timestamp)| a.duration_since(*b).abs() <= DRIFT;
        if before.len() == ends.len() && before.iter().zip(&ends).all(near) {
            return;
        }
        if ends.is_empty() {
            armed.remove(hardware_id);
        } else {
            armed.insert(hardware_id.to_owned(), ends);
        }
        self.0.changed.notify_one();
    }

    /// All of them, for the state file.
    pub(in crate::devices) fn all(&self) -> ArmedCountdowns {
        self.lock().clone()
    }

    /// Returns after a change. A change while nothing waits is kept.
    pub(in crate::devices) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Held for a few instructions at a time, never over an await.
    fn lock(&self) -> MutexGuard<'_, ArmedCountdowns> {
        self.0.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drift_is_no_change() {
        let registry = CountdownRegistry::default();
        let at = |second| vec![Timestamp::from_second(second).unwrap()];
        registry.set("8022", at(100));
        registry.changed().await;
        registry.set("8022", at(101));
        assert_eq!(registry.of("8022"), at(100));
        registry.set("8022", at(102));
        registry.changed().await;
        registry.set("8022", Vec::new());
        registry.changed().await;
        assert!(registry.all().is_empty());
    }
}
