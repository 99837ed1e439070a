//! The outlets whose state topics hold a retained message. Pure.

use std::collections::BTreeMap;

use planner::{DeviceId, OutletKey, OutletPath};
use serde::{Deserialize, Serialize};

use crate::domain::{hub_child::HubChild, report::Outlet};

/// The outlets of strips, or what is connected to hubs, whose state topics hold a retained message: of this run, and of earlier runs as `bridge/devices`
/// lists them. They are listed there until their topics are cleared, also while their device cannot be reached.
#[derive(Debug, Default)]
pub(super) struct RetainedOutlets(BTreeMap<DeviceId, BTreeMap<OutletKey, OutletEntry>>);

/// An outlet in `bridge/devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutletEntry {
    pub(super) key: OutletKey,
    /// `None`: an outlet that was never reported.
    #[serde(default)]
    pub(super) position: Option<u8>,
    #[serde(default)]
    pub(super) name: Option<String>,
    /// The own id of what is connected to a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) device_id: Option<String>,
    /// Its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
}

/// A device in `bridge/devices`, as an earlier run left it.
#[derive(Debug, Deserialize)]
pub(super) struct EarlierDevice {
    pub(super) id: DeviceId,
    #[serde(default)]
    pub(super) outlets: Vec<OutletEntry>,
    /// What is connected to a hub.
    #[serde(default)]
    pub(super) children: Vec<OutletEntry>,
}

impl OutletEntry {
    /// An outlet of a strip; a plug's has no topic of its own.
    pub(super) fn of(outlet: &Outlet) -> Option<Self> {
        Some(Self {
            key: outlet.key.clone()?,
            position: Some(outlet.position),
            name: outlet.name.clone(),
            device_id: None,
            model: None,
        })
    }

    /// A sensor or thermostat of a hub.
    pub(super) fn of_child(child: &HubChild) -> Self {
        Self {
            key: child.key.clone(),
            position: None,
            name: child.name.clone(),
            device_id: Some(child.id.clone()),
            model: child.model.clone(),
        }
    }
}

impl RetainedOutlets {
    /// The outlets of a device, by their keys.
    pub(super) fn of(&self, device: &DeviceId) -> impl Iterator<Item = &OutletEntry> {
        self.0.get(device).into_iter().flat_map(BTreeMap::values)
    }

    /// The topic of an outlet holds a message now.
    pub(super) fn add(&mut self, path: &OutletPath) {
        let Some(key) = &path.outlet else { return };
        let outlets = self.0.entry(path.device.clone()).or_default();
        outlets.entry(key.clone()).or_insert_with(|| OutletEntry {
            key: key.clone(),
            position: None,
            name: None,
            device_id: None,
            model: None,
        });
    }

    /// What an earlier run published of a device.
    pub(super) fn add_earlier(&mut self, device: DeviceId, earlier: Vec<OutletEntry>) {
        let outlets = self.0.entry(device).or_default();
        for outlet in earlier {
            outlets.entry(outlet.key.clone()).or_insert(outlet);
        }
    }

    /// The device reports these outlets. Returns those that it does not have: their topics are to be cleared. A list that is
    /// not known to be complete may leave some out: they stay.
    pub(super) fn replace(
        &mut self,
        device: &DeviceId,
        outlets: impl IntoIterator<Item = OutletEntry>,
        is_complete: bool,
    ) -> Vec<OutletPath> {
        let outlets = outlets.into_iter();
        let mut now: BTreeMap<_, _> = outlets.map(|entry| (entry.key.clone(), entry)).collect();
        let mut before = self.0.remove(device).unwrap_or_default();
        before.retain(|key, _| !now.contains_key(key));
        if !is_complete {
            now.append(&mut before);
        }
        if !now.is_empty() {
            self.0.insert(device.clone(), now);
        }
        paths(device, before)
    }

    /// The device is not configured any more. Returns its outlets: their topics are to be cleared.
    pub(super) fn remove(&mut self, device: &DeviceId) -> Vec<OutletPath> {
        paths(device, self.0.remove(device).unwrap_or_default())
    }
}

fn paths(device: &DeviceId, outlets: BTreeMap<OutletKey, OutletEntry>) -> Vec<OutletPath> {
    let path = |key| OutletPath::outlet(device.clone(), key);
    outlets.into_keys().map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::report::Kind, mqtt::publisher::state::tests::report};

    fn earlier(list: &str) -> EarlierDevice {
        serde_json::from_str(list).unwrap()
    }

    fn shown(paths: &[OutletPath]) -> Vec<String> {
        paths.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn topics_of_missing_outlets_of_an_earlier_run_are_cleared() {
        let mut retained = RetainedOutlets::default();
        let list = earlier(
            r#"{"id":"mats","outlets":[{"key":"1","position":1,"name":"Left"},{"key":"3","position":3,"name":null}]}"#,
        );
        retained.add_earlier(list.id, list.outlets);
        let mats = "mats".parse().unwrap();
        let names: Vec<_> = retained.of(&mats).map(|outlet| outlet.name.clone()).collect();
        assert_eq!(names, [Some("Left".to_owned()), None]);
        let strip = report(Kind::Strip, &[(Some("1"), None), (Some("2"), None)]);
        let outlets = || strip.outlets.iter().filter_map(OutletEntry::of);
        assert_eq!(shown(&retained.replace(&mats, outlets(), false)), [""; 0]);
        assert_eq!(retained.of(&mats).count(), 3, "the list may lack one");
        assert_eq!(shown(&retained.replace(&mats, outlets(), true)), ["mats/3"]);
        assert_eq!(shown(&retained.replace(&mats, outlets(), true)), [""; 0]);
        assert_eq!(shown(&retained.remove(&mats)), ["mats/1", "mats/2"]);
        assert_eq!(shown(&retained.remove(&mats)), [""; 0]);
    }

    #[test]
    fn an_outlet_that_was_published_before_it_was_reported_is_known() {
        let mut retained = RetainedOutlets::default();
        let path = "mats/left".parse().unwrap();
        retained.add(&path);
        retained.add(&"lamp".parse().unwrap());
        assert_eq!(retained.of(&path.device).count(), 1);
        assert_eq!(retained.of(&"lamp".parse().unwrap()).count(), 0);
        let strip = report(Kind::Strip, &[(Some("1"), None)]);
        assert_eq!(
            shown(&retained.replace(
                &path.device,
                strip.outlets.iter().filter_map(OutletEntry::of),
                true
            )),
            ["mats/left"]
        );
    }
}
