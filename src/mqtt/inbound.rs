//! What comes in: commands become intents, requests are done or passed on, and what is wrong with
//! either is answered.

use std::time::Duration;

use std::collections::BTreeSet;

use ha_discovery::{BIRTH_PAYLOAD, NodeId};
use tokio::{sync::mpsc::error::TrySendError, time::Instant};
use tracing::{debug, info, warn};

use super::{
    command::{Command, DEFAULT_TTL, Decoded, Transaction, decode},
    home::{EntityOwner, Finding},
    task::MqttTask,
    topics::{Address, BridgeTopic, Verb},
};
use crate::domain::{
    command::Target,
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceAction, DeviceCommand, RunLimit, Source},
    devices::DeviceMsg,
    report::{Event, EventKind},
};
use crate::mqtt::pending::{Admitted, Answered, CommandKind, PendingId, rejection};
use planner::OutletPath;

/// Retained commands that are answered; later ones on the same topic come back with every reconnect.
const RETAINED_REMEMBERED: usize = 1000;

impl MqttTask {
    /// A message came in.
    pub(super) fn receive(&mut self, topic: &str, payload: &[u8], retain: bool) {
        if self.sensors.contains(topic) {
            self.forward_sensor(topic, payload, retain);
            return;
        }
        if topic == self.tree.topics.bridge(BridgeTopic::Devices) {
            if retain {
                self.tree.sweep(payload);
            }
            return;
        }
        if topic == self.tree.topics.bridge(BridgeTopic::Groups) {
            if retain {
                self.tree.clear_stale_groups(payload);
            }
            return;
        }
        match self.tree.topics.parse(topic) {
            Ok(Address::DiscoveryConfig(node)) => self.on_discovery_config(node, payload, retain),
            Ok(Address::HomeAssistantStatus) => self.on_home_assistant_status(payload, retain),
            Ok(address) if retain => self.refuse_retained(topic, &address, payload),
            Ok(Address::Outlet { path, verb }) => self.command(Target::Outlet(path), &verb, payload),
            Ok(Address::Group { group, verb }) => self.command(Target::Group(group), &verb, payload),
            Ok(Address::Schedule { group, schedule }) => self.enable_schedule(group, schedule, payload),
            Ok(Address::Request(name)) => self.request(&name, payload),
            // Nobody has a device of such a name, and the answer could not be addressed either.
            Err(error) => debug!(topic = %topic.escape_debug(), %error, "ignored a message"),
        }
    }

    fn command(&mut self, target: Target, verb: &Verb, payload: &[u8]) {
        let (command, transaction) = match decode(verb, payload) {
            Decoded::Ignored => return,
            Decoded::Refused { error, transaction } => {
                self.refuse(&target, transaction.as_ref(), error.code(), &error.to_string());
                return;
            }
            Decoded::Accepted { command, transaction } => (command, transaction),
        };
        if let Target::Group(group) = &target
            && self.tree.rules().group(group).is_none()
        {
            let message = format!("no group {group} is configured");
            self.refuse(&target, transaction.as_ref(), "unknown_group", &message);
            return;
        }
        match command {
            Command::Get => self.read(target, transaction),
            Command::Set(set) => self.send_set(target, &set, transaction),
            Command::Reboot { ttl } => self.reboot(target, ttl, transaction),
        }
    }

    /// Restarts a device. Outlets of a strip have no computer of their own, and a group has several.
    fn reboot(&mut self, target: Target, ttl: Duration, transaction: Option<Transaction>) {
        let message = match &target {
            Target::Outlet(OutletPath { outlet: None, .. }) => None,
            Target::Outlet(path) => Some(format!(
                "an outlet cannot be restarted alone: send this to {}/set/reboot",
                path.device
            )),
            Target::Group(_) => Some("a group cannot be restarted: send this to a device".to_owned()),
        };
        if let Some(message) = message {
            self.refuse(&target, transaction.as_ref(), "unsupported", &message);
            return;
        }
        if let (Some(id), Target::Outlet(path)) =
            (self.admit(&target, CommandKind::Reboot, transaction), target)
        {
            self.order(path, DeviceAction::Reboot, ttl, id);
        }
    }

    /// Gives a command the reply under which it will be answered; `None` if its transaction is known.
    pub(super) fn admit(
        &mut self,
        target: &Target,
        errand: CommandKind,
        transaction: Option<Transaction>,
    ) -> Option<PendingId> {
        match self
            .desk
            .admit(target.clone(), errand, transaction, Instant::now())
        {
            Admitted::Carry(id) => {
                debug!(?target, ?errand, "command");
                Some(id)
            }
            Admitted::UnderWay => None,
            Admitted::Repeat(response) => {
                self.tree.send(self.tree.response_of(target), response);
                None
            }
        }
    }

    /// Reads an outlet, or every member of a group. The scheduler has no part in it.
    fn read(&mut self, target: Target, transaction: Option<Transaction>) {
        let Some(id) = self.admit(&target, CommandKind::Read, transaction) else {
            return;
        };
        match target {
            Target::Outlet(path) => self.order(path, DeviceAction::Read, DEFAULT_TTL, id),
            Target::Group(group) => {
                for (path, part) in self.desk.split(id, self.tree.members(&group)) {
                    self.order(path, DeviceAction::Read, DEFAULT_TTL, part);
                }
            }
        }
    }

    /// Hands the device owner what the scheduler has no part in.
    fn order(&mut self, path: OutletPath, action: DeviceAction, ttl: Duration, id: PendingId) {
        let reply = Answered::reply(id, self.answers.clone());
        if self.closing.is_some() {
            // Dropped unanswered, a reply says that the bridge is shutting down.
            return;
        }
        let intent = DeviceCommand {
            path,
            action,
            run: RunLimit::default(),
            source: Source::Mqtt,
            deadline: Instant::now() + ttl,
            reply,
            turn: None,
        };
        if let Err(TrySendError::Full(DeviceMsg::Command(intent))) =
            self.orders.try_send(DeviceMsg::Command(intent))
        {
            let failure = CommandError::bridge(ErrorCode::Busy, "too many commands at once");
            intent.reply.send(Err(failure));
        }
    }

    /// Answers a command that is none. What its target is known to be is published again, for whoever
    /// showed the wished state already.
    fn refuse(
        &mut self,
        target: &Target,
        transaction: Option<&Transaction>,
        code: &'static str,
        message: &str,
    ) {
        debug!(?target, code, reason = message, "refused a command");
        let response = rejection(transaction, code, message);
        self.tree.send(self.tree.response_of(target), response);
        self.tree.republish_target(target);
    }

    /// A retained command would switch again at every start, long after its sender forgot it.
    fn refuse_retained(&mut self, topic: &str, address: &Address, payload: &[u8]) {
        let new = self.refused_retained.len() < RETAINED_REMEMBERED
            && self.refused_retained.insert(topic.to_owned());
        if payload.is_empty() || !new {
            return;
        }
        let message = format!(
            "{topic} holds a retained command, which is refused; publish commands without retain, and an empty retained message to clear it"
        );
        warn!(%topic, "refused a retained command; clear it with an empty retained message");
        if let Some(response) = self.tree.topics.response_to(address) {
            self.tree
                .send(response, rejection(None, "retained_command", &message));
        }
        let (device, outlet) = match address {
            Address::Outlet { path, .. } => (Some(path.device.clone()), path.outlet.clone()),
            _ => (None, None),
        };
        let group = match address {
            Address::Group { group, .. } | Address::Schedule { group, .. } => Some(group.clone()),
            _ => None,
        };
        let at = self.tree.now();
        self.tree.publish_event(&Event {
            kind: EventKind::RetainedCommand,
            device,
            outlet,
            group,
            message,
            at,
        });
    }

    fn on_home_assistant_status(&mut self, payload: &[u8], retain: bool) {
        // A retained birth is an old one; what it asks for was done when we connected.
        if let (false, Some(home)) = (retain, &mut self.tree.home)
            && payload == BIRTH_PAYLOAD.as_bytes()
        {
            home.on_birth(Instant::now());
        }
    }

    fn on_discovery_config(&mut self, node: NodeId, payload: &[u8], retain: bool) {
        let Some(home) = &mut self.tree.home else { return };
        match home.found(&node, payload, retain) {
            Finding::Nothing => {}
            Finding::Stale => {
                info!(%node, "removed stale Home Assistant discovery");
                self.tree.remove_discovery(&Address::DiscoveryConfig(node));
            }
            Finding::Outdated(EntityOwner::Device(device)) => self.tree.announce_device(&device),
            Finding::Outdated(EntityOwner::Group(_)) => self.tree.announce_groups(),
            Finding::Swept => self.tree.stale_cleared(),
            Finding::Deleted(subject) => self.deleted_in_home_assistant(node, subject),
        }
    }

    fn deleted_in_home_assistant(&mut self, node: NodeId, subject: EntityOwner) {
        info!(%node, "deleted in Home Assistant; not announced again until bridge/request/homeassistant/rediscover");
        self.tree.keep_empty(&Address::DiscoveryConfig(node));
        self.remember_deleted();
        let (device, group) = match subject {
            EntityOwner::Device(device) => (Some(device), None),
            EntityOwner::Group(group) => (None, Some(group)),
        };
        let named = device.as_ref().map(ToString::to_string);
        let named = named.or(group.as_ref().map(|group| format!("group {group}")));
        let at = self.tree.now();
        self.tree.publish_event(&Event {
            kind: EventKind::DiscoveryRemoved,
            device,
            outlet: None,
            group,
            message: format!("{} was deleted in Home Assistant", named.unwrap_or_default()),
            at,
        });
    }

    pub(super) fn remember_deleted(&mut self) {
        let Some(home) = &self.tree.home else { return };
        let (mut devices, mut groups) = (BTreeSet::new(), BTreeSet::new());
        for subject in home.deleted() {
            match subject {
                EntityOwner::Device(device) => devices.insert(device.clone()),
                EntityOwner::Group(group) => groups.insert(group.clone()),
            };
        }
        let keeper = &self.keeper;
        keeper.replace(|saved| &mut saved.deleted_in_home_assistant, devices);
        keeper.replace(|saved| &mut saved.groups_deleted_in_home_assistant, groups);
    }
}
