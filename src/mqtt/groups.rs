//! The part of the topic tree that the scheduler speaks of: groups, what outlets should be, vacation.

use std::sync::Arc;

use serde::Deserialize;
use tracing::info;

use super::{
    home::EntityOwner,
    link::PublishPriority,
    topics::{Address, BridgeTopic},
};
use crate::mqtt::publisher::Publisher;
use crate::{
    domain::{
        command::Target,
        scheduling::{GroupStatus, OutletStatus},
    },
    system::telemetry::Level,
};
use planner::{GroupId, OutletPath, Power, plan::Vacation, rules::Rules};

/// An entry of `bridge/groups` as an earlier run left it.
#[derive(Deserialize)]
struct FormerGroup {
    id: GroupId,
}

impl Publisher {
    /// The rules in force.
    pub(super) fn rules(&self) -> &Rules {
        self.statuses.rules()
    }

    /// The rules changed.
    pub(super) fn on_rules(&mut self, rules: Arc<Rules>) {
        for group in self.statuses.replace_rules(rules) {
            self.clear_group(&group);
        }
        self.publish_groups();
        let groups: Vec<GroupId> = self.rules().groups.iter().map(|group| group.id.clone()).collect();
        for group in &groups {
            self.publish_group(group);
        }
        // What a device is announced with depends on its groups.
        self.announce_all();
    }

    /// An outlet stands differently.
    pub(super) fn on_outlet_status(&mut self, path: OutletPath, status: Arc<OutletStatus>) {
        let device = path.device.clone();
        self.statuses.set_outlet(path, status);
        self.publish_states(&device);
    }

    /// A group stands differently.
    pub(super) fn on_group_status(&mut self, group: &GroupId, status: Arc<GroupStatus>) {
        self.statuses.set_group(group.clone(), status);
        self.publish_group(group);
    }

    /// Vacation began or ended.
    pub(super) fn on_vacation(&mut self, vacation: Vacation, level: Level) {
        self.statuses.vacation = Some(vacation);
        self.publish_info(level);
    }

    /// Announces every group.
    pub(super) fn announce_groups(&mut self) {
        for group in self.statuses.announceable() {
            let announcement = self.home.as_mut().and_then(|home| home.group(&group));
            if let Some(announcement) = announcement {
                self.announce(PublishPriority::Discovery, announcement);
            }
        }
    }

    /// All groups, for whoever wants a list of them.
    pub(super) fn publish_groups(&mut self) {
        let groups = self.statuses.list();
        self.retain(
            PublishPriority::State,
            self.topics.bridge(BridgeTopic::Groups),
            groups,
        );
    }

    /// Looks at the groups that an earlier run left: the topics of those that are not configured any more
    /// are emptied. Once: after that the topic is ours.
    pub(super) fn clear_stale_groups(&mut self, payload: &[u8]) {
        if std::mem::replace(&mut self.stale_groups_cleared, true) {
            return;
        }
        let former: Vec<FormerGroup> = serde_json::from_slice(payload).unwrap_or_default();
        for FormerGroup { id } in former {
            if self.rules().group(&id).is_none() {
                info!(group = %id, "cleared retained topics of a removed group");
                self.clear_group(&id);
            }
        }
    }

    /// Publishes the state of a target again, and that of a group's members.
    pub(super) fn republish_target(&mut self, target: &Target) {
        match target {
            Target::Outlet(path) => self.repeat(self.topics.state(path)),
            Target::Group(group) => {
                for path in self.members(group) {
                    self.repeat(self.topics.state(&path));
                }
                self.repeat(self.topics.group(group));
            }
        }
    }

    /// Where commands to a target are answered.
    pub(super) fn response_of(&self, target: &Target) -> String {
        match target {
            Target::Outlet(path) => self.topics.response(path),
            Target::Group(group) => self.topics.group_response(group),
        }
    }

    /// What an outlet is known to be; ON for a group when a member is.
    pub(super) fn confirmed(&self, target: &Target) -> Option<Power> {
        match target {
            Target::Outlet(path) => self.confirmed_outlet(path),
            Target::Group(group) => {
                let members = self.members(group);
                members
                    .iter()
                    .filter_map(|path| self.confirmed_outlet(path))
                    .max()
            }
        }
    }

    /// The outlets of a group; none if it is not configured.
    pub(super) fn members(&self, group: &GroupId) -> Vec<OutletPath> {
        let group = self.rules().group(group);
        group.map(|group| group.outlets.clone()).unwrap_or_default()
    }

    fn publish_group(&mut self, group: &GroupId) {
        if let Some(state) = self.statuses.group_state(group) {
            self.retain(PublishPriority::State, self.topics.group(group), state);
        }
    }

    fn clear_group(&mut self, group: &GroupId) {
        self.erase(self.topics.group(group));
        let node = self
            .home
            .as_mut()
            .and_then(|home| home.forget(&EntityOwner::Group(group.clone())));
        if let Some(node) = node {
            self.remove_discovery(&Address::DiscoveryConfig(node));
        }
    }
}
