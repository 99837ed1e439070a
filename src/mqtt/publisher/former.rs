//! What an earlier run left on the broker of devices, and is not true any more.

use serde::Deserialize;
use tracing::info;

use super::Publisher;
use crate::domain::report::DeviceReport;
use planner::{DeviceId, OutletKey, OutletPath};

/// An entry of `bridge/devices` as an earlier run left it.
#[derive(Deserialize)]
struct RemovedDevice {
    id: DeviceId,
    #[serde(default)]
    outlets: Vec<FormerOutlet>,
}

#[derive(Deserialize)]
struct FormerOutlet {
    key: OutletKey,
}

impl Publisher {
    /// Looks at the devices that an earlier run left: the topics of those that are not configured any
    /// more are emptied. Once: after that the topic is ours.
    pub(in crate::mqtt) fn sweep(&mut self, payload: &[u8]) {
        if std::mem::replace(&mut self.stale_cleared, true) {
            return;
        }
        let Ok(former) = serde_json::from_slice::<Vec<RemovedDevice>>(payload) else {
            return;
        };
        for device in former {
            let keys = device.outlets.into_iter().map(|outlet| outlet.key).collect();
            if self.configured.contains(&device.id) {
                self.stale_outlets.insert(device.id.clone(), keys);
                if let Some(report) = self.reports.get(&device.id).cloned() {
                    self.clear_stale_outlets(&report);
                }
            } else {
                info!(device = %device.id, "cleared retained topics of a removed device");
                self.clear_outlets(&device.id, keys);
                self.erase(self.topics.availability(&device.id));
                self.erase(self.topics.state(&OutletPath::device(device.id)));
            }
        }
    }

    /// Outlets that an earlier run told of and that the device, now that it tells, has no more. One that got
    /// an id of its own is among them.
    pub(super) fn clear_stale_outlets(&mut self, report: &DeviceReport) {
        if report.identity.is_none() {
            return;
        }
        let mut former = self.stale_outlets.remove(&report.id).unwrap_or_default();
        former.retain(|key| {
            !report
                .outlets
                .iter()
                .any(|outlet| outlet.key.as_ref() == Some(key))
        });
        self.clear_outlets(&report.id, former);
    }

    fn clear_outlets(&mut self, device: &DeviceId, keys: Vec<OutletKey>) {
        for key in keys {
            let path = OutletPath::outlet(device.clone(), key);
            self.erase(self.topics.state(&path));
        }
    }
}
