//! What a worker sends about its device: a report when something changed, one event and one log line per change.

use std::sync::Arc;

use tracing::{info, warn};

use super::state::{ChangeSign, RelayChange};
use crate::{
    domain::{
        button_action::ButtonAction,
        devices::{DeviceEvent, EventSenders},
        report::{Availability, Condition, DeviceReport, Event, EventKind, Outlet, Phase, Protection},
    },
    system::clock::Clock,
};
use planner::{DeviceId, OutletKey, OutletPath};

/// Sends reports and events, each change once.
pub(super) struct Reporter {
    device: DeviceId,
    events: EventSenders,
    clock: Clock,
    last: Option<Arc<DeviceReport>>,
}

impl Reporter {
    pub(super) fn new(device: DeviceId, events: EventSenders, clock: Clock) -> Self {
        Self {
            device,
            events,
            clock,
            last: None,
        }
    }

    /// Sends a report if it differs from the last one. Logs changes of availability and of protections.
    pub(super) async fn publish(&mut self, report: DeviceReport) {
        if self.last.as_deref() == Some(&report) {
            return;
        }
        let report = Arc::new(report);
        let before = self.last.replace(report.clone());
        for receiver in [&self.events.mqtt, &self.events.scheduler] {
            // A receiver that is gone is stopping.
            let _gone = receiver.send(DeviceEvent::Report(report.clone())).await;
        }
        self.publish_availability(before.as_deref(), &report).await;
        if let Some(before) = before {
            self.publish_conditions(&before, &report).await;
        }
    }

    /// One log line and one event per change of availability or of its reason, however often the device fails between.
    async fn publish_availability(&self, before: Option<&DeviceReport>, now: &DeviceReport) {
        if !is_availability_news(before, now) {
            return;
        }
        let id = &self.device;
        match (now.availability, &now.error) {
            (Availability::Online, _) => {
                let identity = now.identity.as_ref();
                let model = identity.map_or("unknown", |identity| identity.model.as_str());
                info!(device = %id, model, address = %now.address, "device online");
                let message = format!("{} is reachable", self.name_of(None));
                self.event(EventKind::DeviceOnline, None, message).await;
            }
            (Availability::Offline, Some(error)) => {
                warn!(
                    device = %id,
                    code = %error.code,
                    reason = %error.message,
                    address = %now.address,
                    "device offline"
                );
                let message = format!("{} is offline: {}", self.name_of(None), error.message);
                self.event(EventKind::DeviceOffline, None, message).await;
            }
            // The first connect did not end yet.
            (Availability::Offline, None) => {}
        }
    }

    async fn publish_conditions(&self, before: &DeviceReport, now: &DeviceReport) {
        for outlet in &now.outlets {
            let same = |old: &&Outlet| old.position == outlet.position;
            let Some(old) = before.outlets.iter().find(same) else {
                continue;
            };
            for change in condition_changes(&old.condition, &outlet.condition) {
                let path = self.path_of(outlet.key.as_ref());
                info!(outlet = %path, %change, "protection");
                let message = format!("{}: {change}", self.name_of(outlet.key.as_ref()));
                self.event(EventKind::Protection, outlet.key.clone(), message)
                    .await;
            }
        }
    }

    /// A relay changed without the bridge.
    pub(super) async fn external_change(&self, change: RelayChange) {
        let by = match change.sign {
            ChangeSign::AutoOff => "auto-off of the device",
            _ => "button, app or device schedule",
        };
        let path = self.path_of(change.outlet.as_ref());
        info!(outlet = %path, state = %change.power, "changed externally ({by})");
        let name = self.name_of(change.outlet.as_ref());
        let power = change.power;
        let message = format!("{name} changed externally to {power} ({by})");
        self.send(Event {
            state: Some(power),
            ..self.event_about(EventKind::ExternalChange, change.outlet, message)
        })
        .await;
    }

    /// A button of a hub was used.
    pub(super) async fn pressed(&self, button: &OutletKey, action: ButtonAction) {
        let path = self.path_of(Some(button));
        let action_name = action.as_str();
        info!(button = %path, action = action_name, "button used");
        let mut children = self.last.iter().flat_map(|report| &report.children);
        let name = children
            .find(|child| child.key == *button)
            .and_then(|child| child.name.clone());
        let name = name.unwrap_or_else(|| path.to_string());
        let message = format!("{name}: {action_name}");
        self.send(Event {
            action: Some(action),
            ..self.event_about(EventKind::Button, Some(button.clone()), message)
        })
        .await;
    }

    /// Sends an event about the device or one of its outlets.
    pub(super) async fn event(&self, kind: EventKind, outlet: Option<OutletKey>, text: String) {
        self.send(self.event_about(kind, outlet, text)).await;
    }

    fn event_about(&self, kind: EventKind, outlet: Option<OutletKey>, message: String) -> Event {
        Event {
            kind,
            device: Some(self.device.clone()),
            outlet,
            group: None,
            state: None,
            action: None,
            message,
            at: self.clock.now(),
        }
    }

    async fn send(&self, event: Event) {
        // The scheduler gets the same from the report.
        let _gone = self.events.mqtt.send(DeviceEvent::Event(event)).await;
    }

    /// Sends an event to the scheduler only.
    pub(super) async fn send_to_scheduler(&self, event: DeviceEvent) {
        // A receiver that is gone is stopping.
        let _gone = self.events.scheduler.send(event).await;
    }

    /// The name for people, from the last report.
    fn name_of(&self, outlet: Option<&OutletKey>) -> String {
        let name = self.last.as_ref().and_then(|report| {
            let mut outlets = report.outlets.iter();
            match outlet {
                None => report.name.clone(),
                outlet => outlets.find(|known| known.key.as_ref() == outlet)?.name.clone(),
            }
        });
        name.unwrap_or_else(|| self.path_of(outlet).to_string())
    }

    fn path_of(&self, outlet: Option<&OutletKey>) -> OutletPath {
        OutletPath {
            device: self.device.clone(),
            outlet: outlet.cloned(),
        }
    }
}

fn is_availability_news(before: Option<&DeviceReport>, now: &DeviceReport) -> bool {
    let code = |report: &DeviceReport| report.error.as_ref().map(|error| error.code);
    let same_reason = now.availability == Availability::Online || before.and_then(code) == code(now);
    let first_failure = now.error.is_some() && before.is_some_and(|before| before.phase == Phase::Connecting);
    before.map(|before| before.availability) != Some(now.availability) || !same_reason || first_failure
}

/// The protections whose word changed. One that appears or disappears is no change.
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
        .map(|(name, old, new)| format!("{name} reports {new} (was {old})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::domain::{command_error::ErrorCode, devices::DeviceTarget, report::DeviceError};

    fn report(phase: Phase, code: Option<ErrorCode>) -> DeviceReport {
        DeviceReport {
            id: "lamp".parse().unwrap(),
            target: DeviceTarget::default(),
            name: None,
            address: "192.0.2.1".to_owned(),
            phase,
            availability: phase.availability(),
            error: code.map(|code| DeviceError {
                code,
                message: "failed".to_owned(),
            }),
            identity: None,
            is_complete: false,
            rssi: None,
            serving: None,
            led: None,
            latest_firmware: None,
            outlets: Vec::new(),
            children: Vec::new(),
        }
    }

    #[tokio::test]
    async fn each_change_is_sent_once() {
        let (mqtt, mut inbox) = mpsc::channel(16);
        let (scheduler, mut to_scheduler) = mpsc::channel(16);
        let senders = EventSenders { mqtt, scheduler };
        let mut reporter = Reporter::new("lamp".parse().unwrap(), senders, Clock::system());
        let no_answer = Some(ErrorCode::NoAnswer);
        for (phase, code) in [
            (Phase::Connecting, None),
            (Phase::Unreachable, no_answer),
            (Phase::Unreachable, no_answer),
            (Phase::Unreachable, Some(ErrorCode::WrongDevice)),
            (Phase::Ready, None),
            (Phase::Degraded, no_answer),
        ] {
            reporter.publish(report(phase, code)).await;
        }
        let mut kinds = Vec::new();
        while let Ok(event) = inbox.try_recv() {
            if let DeviceEvent::Event(event) = event {
                kinds.push(event.kind);
            }
        }
        assert_eq!(
            kinds,
            [
                EventKind::DeviceOffline,
                EventKind::DeviceOffline,
                EventKind::DeviceOnline
            ]
        );
        let reports = std::iter::from_fn(|| to_scheduler.try_recv().ok()).count();
        assert_eq!(reports, 5);
    }

    #[test]
    fn a_protection_that_appears_is_no_change() {
        let with = |word: &str| Condition {
            charging: Some(word.to_owned()),
            ..Condition::default()
        };
        assert!(condition_changes(&Condition::default(), &with("normal")).is_empty());
        assert_eq!(
            condition_changes(&with("normal"), &with("finished")),
            ["charging reports finished (was normal)"]
        );
    }
}
