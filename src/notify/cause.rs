//! What a notification is about, in words.

use serde::{Deserialize, Serialize};

use crate::domain::notify_kind::NotifyKind;

/// What is wrong, and with what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Cause {
    pub(super) kind: NotifyKind,
    /// A device, an outlet, a group or a sensor; empty: the bridge.
    pub(super) subject: String,
}

impl Cause {
    pub(super) fn new(kind: NotifyKind, subject: impl Into<String>) -> Self {
        Self {
            kind,
            subject: subject.into(),
        }
    }

    /// Of the bridge.
    pub(super) fn of_bridge(kind: NotifyKind) -> Self {
        Self::new(kind, "")
    }

    /// As one text.
    pub(super) fn key(&self) -> String {
        format!("{} {}", self.kind.name(), self.subject)
    }

    /// One line while it lasts.
    pub(super) fn title(&self) -> String {
        let subject = &self.subject;
        match self.kind {
            NotifyKind::LimitReached => format!("{subject} reached a limit"),
            NotifyKind::FailsafeRefused => format!("{subject} has no fail-safe"),
            NotifyKind::DeviceOffline => format!("{subject} is offline"),
            NotifyKind::StateMismatch => format!("{subject} is not in the expected state"),
            NotifyKind::SensorStale => format!("sensor {subject} is stale"),
            NotifyKind::SettingsRefused => "new settings are refused".to_owned(),
            NotifyKind::StateFileError => "the state file cannot be written".to_owned(),
            NotifyKind::BrokerOffline => "the MQTT broker is not connected".to_owned(),
        }
    }

    /// What happened, where nothing says it better.
    pub(super) fn text(&self) -> String {
        let subject = &self.subject;
        match self.kind {
            NotifyKind::LimitReached => format!("a limit keeps {subject} off"),
            NotifyKind::FailsafeRefused => {
                format!("{subject} refused the countdown that switches it off if the bridge fails")
            }
            NotifyKind::DeviceOffline => format!("{subject} cannot be reached"),
            NotifyKind::SensorStale => format!("sensor {subject} has no value that counts"),
            NotifyKind::StateMismatch
            | NotifyKind::SettingsRefused
            | NotifyKind::StateFileError
            | NotifyKind::BrokerOffline => self.title(),
        }
    }

    /// What to do.
    pub(super) fn advice(&self) -> &'static str {
        match self.kind {
            NotifyKind::LimitReached => {
                "Check why it was on that long; if it should run longer, raise the limit of its group."
            }
            NotifyKind::FailsafeRefused => {
                "Switch it off, or stay near it while it is on; then restart the plug. Its log line has the reason."
            }
            NotifyKind::DeviceOffline => {
                "Check its power and its Wi-Fi. A limit that is armed on the device still switches it off."
            }
            NotifyKind::StateMismatch => {
                "Check the device, and what else switches it: its button, the app, schedules on the device."
            }
            NotifyKind::SensorStale => {
                "Conditions that use it are unknown. Check what publishes it, and its battery."
            }
            NotifyKind::SettingsRefused => {
                "Those from before stay in force. Correct the file (tapo2mqtt check names each mistake), then reload."
            }
            NotifyKind::StateFileError => {
                "Until it can be written, a restart forgets overrides, timers and run times."
            }
            NotifyKind::BrokerOffline => {
                "Check the broker and the network. Schedules and limits go on without it."
            }
        }
    }

    /// One line once it is over.
    pub(super) fn over(&self) -> String {
        let subject = &self.subject;
        match self.kind {
            NotifyKind::LimitReached => format!("no limit keeps {subject} off any more"),
            NotifyKind::FailsafeRefused => format!("the fail-safe of {subject} works again"),
            NotifyKind::DeviceOffline => format!("{subject} is online again"),
            NotifyKind::StateMismatch => format!("{subject} is in the expected state again"),
            NotifyKind::SensorStale => format!("sensor {subject} has a value again"),
            NotifyKind::SettingsRefused => "the settings are accepted again".to_owned(),
            NotifyKind::StateFileError => "the state file can be written again".to_owned(),
            NotifyKind::BrokerOffline => "the MQTT broker is connected again".to_owned(),
        }
    }
}
