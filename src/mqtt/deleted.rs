//! What was deleted in Home Assistant.

use std::collections::BTreeSet;

use planner::{DeviceId, GroupId};

use crate::store::Section;

/// What was deleted in Home Assistant: not announced again until that is requested.
#[derive(Debug, Clone, Default)]
pub struct DeletedEntities {
    /// Devices.
    pub devices: Section<BTreeSet<DeviceId>>,
    /// Groups.
    pub groups: Section<BTreeSet<GroupId>>,
    /// What is connected to hubs, by its own id.
    pub children: Section<BTreeSet<(DeviceId, String)>>,
}
