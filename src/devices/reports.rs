//! What a worker says: a report when something changed, one event and one log line per change.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::worker::Worker;
use crate::devices::state::RelayChange;
use crate::domain::devices::DeviceEvent;
use crate::domain::report::{
    Availability, Condition, DeviceReport, Event, EventKind, Outlet, Phase, Protection,
};
use planner::{OutletKey, OutletPath};

impl Worker {
    pub(super) async fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.send_report().await;
    }

    /// Sends a report if it says something new; logs and tells the event if availability changed.
    pub(super) async fn send_report(&mut self) {
        self.mailbox.view.confirmed = self
            .known
            .outlets
            .iter()
            .map(|known| (known.outlet.key.clone(), known.outlet.power))
            .collect();
        self.recorder.now(self.phase, self.mailbox.queue.len());
        let report = self.report();
        if self.last_report.as_deref() == Some(&report) {
            return;
        }
        let report = Arc::new(report);
        let before = self.last_report.replace(report.clone());
        self.send(DeviceEvent::Report(report.clone())).await;
        self.report_availability(before.as_deref(), &report).await;
        if let Some(before) = before {
            self.compare_outlets(&before, &report).await;
        }
    }

    /// What follows from an outlet that is not as it was: its meter is read anew, a protection that changed is told.
    async fn compare_outlets(&mut self, before: &DeviceReport, now: &DeviceReport) {
        for outlet in &now.outlets {
            let same = |old: &&Outlet| old.position == outlet.position;
            let Some(old) = before.outlets.iter().find(same) else {
                continue;
            };
            if old.power != outlet.power {
                self.meter_soon(outlet.position);
            }
            for change in condition_changes(&old.condition, &outlet.condition) {
                let path = self.path_of(outlet.key.as_ref());
                let message = format!("{path}: {change}");
                info!(outlet = %path, %change, "protection");
                self.event(EventKind::Protection, outlet.key.clone(), message)
                    .await;
            }
        }
    }

    fn path_of(&self, outlet: Option<&OutletKey>) -> OutletPath {
        OutletPath {
            device: self.config.id.clone(),
            outlet: outlet.cloned(),
        }
    }

    fn report(&self) -> DeviceReport {
        let online = matches!(self.phase, Phase::Ready | Phase::Degraded);
        DeviceReport {
            id: self.config.id.clone(),
            name: self
                .config
                .name
                .clone()
                .or_else(|| self.known.identity.as_ref()?.nickname.clone()),
            address: self.address.clone(),
            phase: self.phase,
            availability: if online {
                Availability::Online
            } else {
                Availability::Offline
            },
            trouble: self.mailbox.trouble.clone(),
            identity: self.known.identity.clone(),
            rssi: self.known.rssi,
            outlets: self
                .known
                .outlets
                .iter()
                .map(|known| known.outlet.clone())
                .collect::<Vec<Outlet>>(),
        }
    }

    /// One log line and one event per change of availability or of the reason, however often the device fails in between.
    async fn report_availability(&mut self, before: Option<&DeviceReport>, now: &DeviceReport) {
        let code = |report: &DeviceReport| report.trouble.as_ref().map(|trouble| trouble.code);
        let same_reason = now.availability == Availability::Online || before.and_then(code) == code(now);
        let first_failure = before.is_some_and(|before| before.phase == Phase::Connecting);
        if before.map(|before| before.availability) == Some(now.availability)
            && same_reason
            && !(first_failure && now.trouble.is_some())
        {
            return;
        }
        let id = &self.config.id;
        match (now.availability, &now.trouble) {
            (Availability::Online, _) => {
                let model = now
                    .identity
                    .as_ref()
                    .map_or("unknown", |identity| identity.model.as_str());
                info!(device = %id, model, address = %self.address, "device online");
                self.event(EventKind::DeviceOnline, None, format!("{id} is reachable"))
                    .await;
            }
            (Availability::Offline, Some(trouble)) => {
                warn!(device = %id, code = %trouble.code, reason = %trouble.message, address = %self.address, "device offline");
                self.event(
                    EventKind::DeviceOffline,
                    None,
                    format!("{id} is offline: {}", trouble.message),
                )
                .await;
            }
            // Not tried yet.
            (Availability::Offline, None) => {}
        }
    }

    /// Tells the relays that changed without us.
    pub(super) async fn report_changes(&mut self, changes: Vec<RelayChange>) {
        let now = Instant::now();
        for change in changes {
            if !self.unsettled.explains(&change, now) {
                self.report_external_change(change).await;
            }
        }
    }

    /// A relay changed and it was not us.
    async fn report_external_change(&mut self, change: RelayChange) {
        let path = self.path_of(change.outlet.as_ref());
        info!(outlet = %path, state = %change.power, "changed externally (button, app or device schedule)");
        let message = format!("{path} was switched {} by something else", change.power);
        self.event(EventKind::ExternalChange, change.outlet, message)
            .await;
    }

    pub(super) async fn event(&mut self, kind: EventKind, outlet: Option<OutletKey>, message: String) {
        let event = Event {
            kind,
            device: Some(self.config.id.clone()),
            outlet,
            group: None,
            message,
            at: self.clock.now(),
        };
        self.send(DeviceEvent::Event(event)).await;
    }

    pub(super) async fn send(&self, event_senders: DeviceEvent) {
        for receiver in &self.event_senders {
            // A receiver that is gone is stopping.
            let _gone = receiver.send(event_senders.clone()).await;
        }
    }
}

/// The protections that say something else than before. One that appears or goes says nothing new.
fn condition_changes(old: &Condition, new: &Condition) -> Vec<String> {
    fn word(protection: Option<&Protection>) -> Option<&str> {
        protection.map(|protection| protection.word.as_str())
    }
    let protections = [
        (
            "overheat protection",
            word(old.overheat.as_ref()),
            word(new.overheat.as_ref()),
        ),
        (
            "overload protection",
            word(old.overload.as_ref()),
            word(new.overload.as_ref()),
        ),
        (
            "overcurrent protection",
            word(old.overcurrent.as_ref()),
            word(new.overcurrent.as_ref()),
        ),
        ("charging", old.charging.as_deref(), new.charging.as_deref()),
    ];
    let changed = protections
        .into_iter()
        .filter_map(|(name, old, new)| Some((name, old?, new?)));
    changed
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| format!("{name} says {new} (was {old})"))
        .collect()
}
