//! What is wrong, as far as it is published. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::cause::Cause;
use crate::domain::{
    feed::{EVENT_TOPIC, FeedMessage},
    notify_kind::NotifyKind,
};
use planner::Now;

/// What a limit that keeps an outlet off is called in `rule`. The pause between two runs is no limit that was reached.
const LIMITS: [&str; 5] = [
    "max_on",
    "max_on_per_day",
    "cooldown",
    "daily_budget",
    "power_limit",
];

/// Everything that is wrong, and what is over since.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    causes: BTreeMap<Cause, CauseState>,
    is_changed: bool,
}

/// How it is with a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CauseState {
    /// Since when it is so.
    pub(super) since: Now,
    /// Since when it is over.
    pub(super) ended: Option<Now>,
    /// What happened.
    pub(super) text: String,
    /// Whether it is known from this run, and not only from the one before.
    is_confirmed: bool,
}

#[derive(Deserialize)]
struct EventTopic {
    #[serde(rename = "type")]
    kind: String,
    device: Option<String>,
    outlet: Option<String>,
    group: Option<String>,
    message: String,
}

#[derive(Deserialize)]
struct AvailabilityTopic {
    state: String,
}

/// What matters of an outlet or a group.
#[derive(Deserialize)]
struct StateTopic {
    state: Option<String>,
    expected: Option<String>,
    source: Option<String>,
    rule: Option<String>,
    cooldown_until: Option<Timestamp>,
    mismatch: Option<bool>,
    failsafe: Option<String>,
}

#[derive(Deserialize)]
struct InfoTopic {
    settings_error: Option<String>,
}

#[derive(Deserialize)]
struct HealthTopic {
    mqtt: Option<BrokerTopic>,
}

#[derive(Deserialize)]
struct BrokerTopic {
    connected: bool,
}

#[derive(Deserialize)]
struct SensorTopic {
    id: String,
    stale: bool,
}

impl Conditions {
    /// What was notified by an earlier run is so until this one knows better.
    pub(super) fn restore(&mut self, cause: Cause, text: &str, since: Now) {
        let condition = CauseState {
            since,
            ended: None,
            text: text.to_owned(),
            is_confirmed: false,
        };
        self.causes.insert(cause, condition);
    }

    /// Whether something began or ended since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// What a reader that was too slow did not see may be over.
    pub(super) fn unconfirm(&mut self) {
        for condition in self.causes.values_mut() {
            condition.is_confirmed = false;
        }
    }

    pub(super) fn get(&self, cause: &Cause) -> Option<&CauseState> {
        self.causes.get(cause)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Cause, &CauseState)> {
        self.causes.iter()
    }

    /// What no topic of this run is about does not exist any more.
    pub(super) fn end_unconfirmed(&mut self, now: Now) {
        for condition in self
            .causes
            .values_mut()
            .filter(|condition| !condition.is_confirmed)
        {
            condition.is_confirmed = true;
            condition.ended.get_or_insert(now);
            self.is_changed = true;
        }
    }

    /// Forgets what is over and not used any more.
    pub(super) fn retain(&mut self, is_used: impl Fn(&Cause, &CauseState) -> bool) {
        self.causes
            .retain(|cause, condition| condition.ended.is_none() || is_used(cause, condition));
    }

    /// Whether something is so; `None` does not say.
    pub(super) fn set(
        &mut self,
        cause: Cause,
        is_so: Option<bool>,
        now: Now,
        text: impl FnOnce(&Cause) -> String,
    ) {
        let known = self.causes.get_mut(&cause);
        match (known, is_so) {
            (None, Some(true)) => {
                let condition = CauseState {
                    since: now,
                    ended: None,
                    text: text(&cause),
                    is_confirmed: true,
                };
                self.causes.insert(cause, condition);
                self.is_changed = true;
            }
            (Some(condition), Some(true)) => {
                if condition.ended.take().is_some() {
                    (condition.since, condition.text) = (now, text(&cause));
                    self.is_changed = true;
                }
                condition.is_confirmed = true;
            }
            (Some(condition), Some(false)) => {
                condition.is_confirmed = true;
                self.is_changed |= condition.ended.is_none();
                condition.ended.get_or_insert(now);
            }
            (None, Some(false)) | (_, None) => {}
        }
    }

    /// Takes in what was published. What is no JSON that the bridge publishes says nothing.
    pub(super) fn apply(&mut self, message: &FeedMessage, now: Now) {
        let topic = &*message.topic;
        let Some(payload) = &message.payload else {
            return self.clear(topic, now);
        };
        match topic {
            EVENT_TOPIC => drop(serde_json::from_slice(payload).map(|event| self.on_event(event, now))),
            "bridge/info" => drop(serde_json::from_slice(payload).map(|info: InfoTopic| {
                let cause = Cause::of_bridge(NotifyKind::SettingsRefused);
                let error = info.settings_error;
                self.set(cause, Some(error.is_some()), now, |_| error.unwrap_or_default());
            })),
            "bridge/health" => drop(serde_json::from_slice(payload).map(|health: HealthTopic| {
                let is_offline = health.mqtt.map(|mqtt| !mqtt.connected);
                let cause = Cause::of_bridge(NotifyKind::BrokerOffline);
                self.set(cause, is_offline, now, Cause::text);
            })),
            "bridge/sensors" => {
                drop(
                    serde_json::from_slice(payload)
                        .map(|sensors: Vec<SensorTopic>| self.on_sensors(&sensors, now)),
                );
            }
            _ if topic.starts_with("bridge/") => {}
            _ => match topic.strip_suffix("/availability") {
                Some(subject) => drop(serde_json::from_slice(payload).map(|state: AvailabilityTopic| {
                    let cause = Cause::new(NotifyKind::DeviceOffline, subject);
                    self.set(cause, Some(state.state == "offline"), now, Cause::text);
                })),
                None => drop(
                    serde_json::from_slice(payload).map(|state| self.on_state(&subject(topic), &state, now)),
                ),
            },
        }
    }

    /// A topic was cleared: there is no such device or outlet any more.
    fn clear(&mut self, topic: &str, now: Now) {
        let kinds: &[NotifyKind] = match topic.strip_suffix("/availability") {
            Some(_) => &[NotifyKind::DeviceOffline],
            None => &[
                NotifyKind::LimitReached,
                NotifyKind::StateMismatch,
                NotifyKind::FailsafeRefused,
            ],
        };
        let subject = subject(topic.strip_suffix("/availability").unwrap_or(topic));
        for kind in kinds {
            self.set(Cause::new(*kind, subject.clone()), Some(false), now, Cause::text);
        }
    }

    fn on_event(&mut self, event: EventTopic, now: Now) {
        if event.kind != "safety_trip" {
            return;
        }
        let subject = match (event.device, event.outlet, event.group) {
            (Some(device), Some(outlet), _) => format!("{device}/{outlet}"),
            (Some(device), None, _) => device,
            (None, _, Some(group)) => format!("group {group}"),
            (None, _, None) => return,
        };
        let cause = Cause::new(NotifyKind::LimitReached, subject);
        if let Some(condition) = self.causes.get_mut(&cause) {
            // Better than what the state alone says.
            condition.text.clone_from(&event.message);
        }
        self.set(cause, Some(true), now, |_| event.message);
    }

    fn on_state(&mut self, subject: &str, state: &StateTopic, now: Now) {
        let rule = state.rule.as_deref().unwrap_or_default();
        let is_limited = state.source.as_deref() == Some("safety") && LIMITS.contains(&rule);
        let is_group = subject.starts_with("group ");
        // A group has the limits of its members, which are notified by themselves, and one of its own.
        let is_limited = if is_group {
            is_limited && rule == "daily_budget"
        } else {
            is_limited || state.cooldown_until.is_some()
        };
        let is_known = state.source.is_some();
        let set_limit = |conditions: &mut Self| {
            let cause = Cause::new(NotifyKind::LimitReached, subject);
            conditions.set(cause, is_known.then_some(is_limited), now, Cause::text);
        };
        // The members of a group say it first.
        if !is_group
            || self
                .causes
                .contains_key(&Cause::new(NotifyKind::LimitReached, subject))
        {
            set_limit(self);
        }
        if is_group {
            return;
        }
        self.set(
            Cause::new(NotifyKind::StateMismatch, subject),
            state.mismatch,
            now,
            |_| {
                let word = |power: &Option<String>| power.as_deref().unwrap_or("unknown").to_owned();
                format!(
                    "{subject} is {} and should be {}",
                    word(&state.state),
                    word(&state.expected)
                )
            },
        );
        let is_refused = state.failsafe.as_deref().map(|failsafe| failsafe == "failed");
        self.set(
            Cause::new(NotifyKind::FailsafeRefused, subject),
            is_refused,
            now,
            Cause::text,
        );
    }

    fn on_sensors(&mut self, sensors: &[SensorTopic], now: Now) {
        for sensor in sensors {
            let cause = Cause::new(NotifyKind::SensorStale, &sensor.id);
            self.set(cause, Some(sensor.stale), now, Cause::text);
        }
        for (cause, condition) in &mut self.causes {
            let is_listed = sensors.iter().any(|sensor| sensor.id == cause.subject);
            if cause.kind == NotifyKind::SensorStale && !is_listed {
                condition.is_confirmed = true;
                self.is_changed |= condition.ended.is_none();
                condition.ended.get_or_insert(now);
            }
        }
    }
}

/// What a topic below the base is about.
fn subject(topic: &str) -> String {
    match topic.strip_prefix("group/") {
        Some(group) => format!("group {group}"),
        None => topic.to_owned(),
    }
}
