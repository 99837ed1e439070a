//! What somebody deleted in Home Assistant.

use std::collections::BTreeSet;

use planner::{DeviceId, GroupId};

use crate::store::Section;

/// Devices and groups that somebody deleted in Home Assistant: not announced again until somebody asks for it.
#[derive(Debug, Clone, Default)]
pub struct DeletedEntities {
    /// Devices.
    pub devices: Section<BTreeSet<DeviceId>>,
    /// Groups.
    pub groups: Section<BTreeSet<GroupId>>,
}
