//! What is notified.

use serde::{Deserialize, Serialize};

/// Something that is wrong until it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyKind {
    /// A limit switched an outlet off.
    LimitReached,
    /// A plug refused the countdown that switches it off without the bridge.
    FailsafeRefused,
    /// A device cannot be reached.
    DeviceOffline,
    /// An outlet is not as it should be.
    StateMismatch,
    /// A sensor of a condition has no value that counts.
    SensorStale,
    /// Settings that were read again are not used.
    SettingsRefused,
    /// The state file cannot be written.
    StateFileError,
    /// There is no connection to the broker.
    BrokerOffline,
}

impl NotifyKind {
    /// All, by their names in the settings.
    pub const NAMES: [(&str, Self); 8] = [
        ("limit_reached", Self::LimitReached),
        ("failsafe_refused", Self::FailsafeRefused),
        ("device_offline", Self::DeviceOffline),
        ("state_mismatch", Self::StateMismatch),
        ("sensor_stale", Self::SensorStale),
        ("settings_refused", Self::SettingsRefused),
        ("state_file_error", Self::StateFileError),
        ("broker_offline", Self::BrokerOffline),
    ];

    /// Its name in the settings and in notifications.
    pub fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, kind)| *kind == self);
        named.map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_called_the_same_everywhere() {
        for (name, kind) in NotifyKind::NAMES {
            assert_eq!(kind.name(), name);
            assert_eq!(serde_json::json!(kind), name);
        }
    }
}
