//! What comes in: commands become intents, requests are done or passed on, and what is wrong with
//! either is answered.

use ha_discovery::{BIRTH_PAYLOAD, NodeId};
use tokio::{sync::mpsc::error::TrySendError, time::Instant};
use tracing::{debug, info, warn};

use super::{
    command::{Change, Command, DEFAULT_TTL, Decoded, SetCommand, Target, Transaction, decode},
    desk::{Admission, rejection},
    home::{Finding, Home},
    task::MqttTask,
    topics::{Address, BridgeTopic, Verb},
};
use crate::{
    device::Order,
    intent::{Action, Code, Failure, Intent, Source, Switch, Ticket},
    model::{DeviceId, OutletPath, Power},
    report::{Event, EventKind},
};

/// Retained commands that are answered; later ones on the same topic come back with every reconnect.
const RETAINED_REMEMBERED: usize = 1000;

impl MqttTask {
    /// A message came in.
    pub(super) fn receive(&mut self, topic: &str, payload: &[u8], retain: bool) {
        if topic == self.tree.topics.bridge(BridgeTopic::Devices) {
            if retain {
                self.tree.sweep(payload);
            }
            return;
        }
        match self.tree.topics.parse(topic) {
            Ok(Address::DiscoveryConfig(node)) => self.found_discovery(node, payload, retain),
            Ok(Address::HomeAssistantStatus) => self.home_assistant_said(payload, retain),
            Ok(address) if retain => self.refuse_retained(topic, &address, payload),
            Ok(Address::Outlet { path, verb }) => self.command(path, &verb, payload),
            Ok(address @ Address::Group { .. }) => self.refuse_group(&address, payload),
            Ok(Address::Request(name)) => self.request(&name, payload),
            // Nobody has a device of such a name, and the answer could not be addressed either.
            Err(error) => debug!(topic = %topic.escape_debug(), %error, "ignored a message"),
        }
    }

    fn command(&mut self, path: OutletPath, verb: &Verb, payload: &[u8]) {
        match decode(verb, Target::Outlet, payload) {
            Decoded::Ignored => {}
            Decoded::Refused { error, transaction } => {
                self.refuse(&path, transaction.as_ref(), error.code(), &error.to_string());
            }
            Decoded::Accepted {
                command: Command::Get,
                transaction,
            } => {
                self.carry(path, Action::Read, DEFAULT_TTL, transaction);
            }
            Decoded::Accepted {
                command: Command::Set(set),
                transaction,
            } => self.set(path, &set, transaction),
        }
    }

    fn set(&mut self, path: OutletPath, set: &SetCommand, transaction: Option<Transaction>) {
        let switch = match set.change {
            Change::On { .. } => Switch::To(Power::On),
            Change::Off => Switch::To(Power::Off),
            // An outlet has no schedule of its own to go back to; the codec refuses AUTO for it.
            Change::Toggle | Change::Auto => Switch::Toggle,
        };
        if set.lifetime.is_some() || matches!(set.change, Change::On { on_time: Some(_) }) {
            self.refuse(
                &path,
                transaction.as_ref(),
                "unsupported",
                "this outlet has no timer and no schedule: send the state alone",
            );
            return;
        }
        self.carry(path, Action::Switch(switch), set.ttl, transaction);
    }

    /// Hands a command to the device owner, under a ticket that will answer it.
    fn carry(
        &mut self,
        path: OutletPath,
        action: Action,
        ttl: std::time::Duration,
        transaction: Option<Transaction>,
    ) {
        let now = Instant::now();
        let id = match self.desk.admit(path.clone(), action, transaction, now) {
            Admission::Carry(id) => id,
            Admission::UnderWay => return,
            Admission::Repeat(response) => {
                self.tree.send(self.tree.topics.response(&path), response);
                return;
            }
        };
        debug!(outlet = %path, ?action, "command");
        let ticket = Ticket::new(id, self.answers.clone());
        if self.closing.is_some() {
            // Dropped unanswered, a ticket says that the bridge is shutting down.
            return;
        }
        let intent = Intent {
            path,
            action,
            source: Source::Mqtt,
            deadline: now + ttl,
            ticket,
        };
        if let Err(TrySendError::Full(Order::Intent(intent))) = self.orders.try_send(Order::Intent(intent)) {
            intent
                .ticket
                .answer(Err(Failure::bridge(Code::Busy, "too many commands at once")));
        }
    }

    /// Answers a command that is none. What the outlet is known to be is published again, for whoever
    /// showed the wished state already.
    fn refuse(
        &mut self,
        path: &OutletPath,
        transaction: Option<&Transaction>,
        code: &'static str,
        message: &str,
    ) {
        debug!(outlet = %path, code, reason = message, "refused a command");
        let response = rejection(transaction, code, message);
        self.tree.send(self.tree.topics.response(path), response);
        self.tree.repeat(path);
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
        let at = self.tree.now();
        self.tree.tell_event(&Event {
            kind: EventKind::RetainedCommand,
            device,
            outlet,
            message,
            at,
        });
    }

    fn refuse_group(&mut self, address: &Address, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        if let Some(response) = self.tree.topics.response_to(address) {
            self.tree.send(
                response,
                rejection(None, "unknown_group", "no such group is configured"),
            );
        }
    }

    fn home_assistant_said(&mut self, payload: &[u8], retain: bool) {
        // A retained birth is an old one; what it asks for was done when we connected.
        if let (false, Some(home)) = (retain, &mut self.tree.home)
            && payload == BIRTH_PAYLOAD.as_bytes()
        {
            home.born(Instant::now());
        }
    }

    fn found_discovery(&mut self, node: NodeId, payload: &[u8], retain: bool) {
        let Some(home) = &mut self.tree.home else { return };
        match home.found(&node, payload, retain) {
            Finding::Nothing => {}
            Finding::Stale => {
                info!(%node, "announced by an earlier run and not configured any more; removed from Home Assistant");
                self.tree.withdraw(&Address::DiscoveryConfig(node));
            }
            Finding::Outdated(device) => self.tree.announce_again(&device),
            Finding::Swept => self.tree.swept(),
            Finding::Deleted(device) => self.deleted_in_home_assistant(node, device),
        }
    }

    fn deleted_in_home_assistant(&mut self, node: NodeId, device: DeviceId) {
        info!(%device, "deleted in Home Assistant; not announced again until bridge/request/homeassistant/rediscover");
        self.tree.leave_empty(&Address::DiscoveryConfig(node));
        self.remember_deleted();
        let message = format!("{device} was deleted in Home Assistant");
        let at = self.tree.now();
        self.tree.tell_event(&Event {
            kind: EventKind::DiscoveryRemoved,
            device: Some(device),
            outlet: None,
            message,
            at,
        });
    }

    pub(super) fn remember_deleted(&mut self) {
        let deleted = self
            .tree
            .home
            .as_ref()
            .map(Home::deleted)
            .cloned()
            .unwrap_or_default();
        self.keeper
            .change(|saved| saved.deleted_in_home_assistant = deleted);
    }
}
