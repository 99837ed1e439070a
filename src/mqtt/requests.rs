//! Requests to the bridge itself: `bridge/request/<name>`, answered on `bridge/response/<name>`.

mod identify;
mod schedule;

use std::sync::Arc;

use serde_json::{Value, json};
use tracing::{debug, info};

use super::{
    command::{Decoded, Fields, PayloadError, Shown, Transaction, decode_request},
    home::EntityOwner,
    task::{Control, MqttTask},
    topics::RequestName,
};
use crate::{domain::devices::DeviceMsg, system::telemetry::Level};

impl MqttTask {
    /// Does what is asked of the bridge, and answers.
    pub(super) fn request(&mut self, name: &RequestName, payload: &[u8]) {
        debug!(request = name.as_str(), "request");
        if let Some(decoded) = schedule::read(name.as_str(), payload) {
            return self.request_of_scheduler(name, decoded);
        }
        if name.as_str() == RELOAD {
            return self.request_reload(payload);
        }
        let answer = match name.as_str() {
            "restart" => self.perform(payload, |_| Ok(()), |task, ()| task.restart()),
            "rescan" => self.perform(payload, |_| Ok(()), |task, ()| task.rescan()),
            "health" => self.perform(payload, |_| Ok(()), |task, ()| Ok(task.publish_health())),
            "identify" => self.perform(payload, identify::read_name, |task, name| {
                task.identify(name.as_deref())
            }),
            "log_level" => self.perform(payload, read_level, |task, level| Ok(task.set_log_level(level))),
            "homeassistant/rediscover" => self.perform(payload, read_subject, |task, subject| {
                task.rediscover(subject.as_ref())
            }),
            _ => {
                let known = [&REQUESTS[..], &schedule::REQUESTS].concat().join(", ");
                Reply::error(None, "unknown_request", &format!("known requests are {known}"))
            }
        };
        self.tree
            .send(self.tree.topics.request_response(name), answer.to_string());
    }

    /// Reads a request's payload, does it, and says what came of it.
    fn perform<T>(
        &mut self,
        payload: &[u8],
        read: impl FnOnce(&mut Fields) -> Result<T, PayloadError>,
        act: impl FnOnce(&mut Self, T) -> Result<Value, Refusal>,
    ) -> Value {
        match decode_request(payload, read) {
            // Requests need no payload, so an empty one is no less a request.
            Decoded::Ignored => Reply::error(None, "invalid_payload", "expected a JSON object or nothing"),
            Decoded::Refused { error, transaction } => {
                Reply::error(transaction, error.code(), &error.to_string())
            }
            Decoded::Accepted { command, transaction } => match act(self, command) {
                Ok(data) => Reply::ok(transaction, &data),
                Err(refusal) => Reply::error(transaction, refusal.code, &refusal.message),
            },
        }
    }

    fn restart(&mut self) -> Result<Value, Refusal> {
        info!("restart requested over MQTT");
        let sent = self.controls.try_send(Control::Restart);
        sent.map(|()| Value::Null)
            .map_err(|_| Refusal::new("shutting_down", "the bridge is stopping already"))
    }

    fn rescan(&mut self) -> Result<Value, Refusal> {
        let sent = self.orders.try_send(DeviceMsg::Rescan);
        sent.map(|()| Value::Null)
            .map_err(|_| Refusal::new("busy", "too many commands at once"))
    }

    fn identify(&self, name: Option<&str>) -> Result<Value, Refusal> {
        let reports = self.tree.reports.values().map(Arc::as_ref);
        identify::identify(reports, name).map(|found| json!(found))
    }

    fn set_log_level(&mut self, level: Level) -> Value {
        self.log_level.set(level);
        self.tree.publish_info(level);
        json!({ "level": level })
    }

    fn rediscover(&mut self, subject: Option<&EntityOwner>) -> Result<Value, Refusal> {
        match subject {
            Some(EntityOwner::Device(device)) if !self.tree.is_configured(device) => {
                let message = format!("no device {device} is configured");
                return Err(Refusal::new("unknown_device", &message));
            }
            Some(EntityOwner::Group(group)) if self.tree.rules().group(group).is_none() => {
                let message = format!("no group {group} is configured");
                return Err(Refusal::new("unknown_group", &message));
            }
            _ => {}
        }
        let Some(home) = &mut self.tree.home else {
            return Err(Refusal::new("disabled", "homeassistant.enabled is false"));
        };
        home.unmark_deleted(subject);
        self.remember_deleted();
        self.tree.announce_all();
        self.tree.link.republish_all();
        Ok(Value::Null)
    }
}

/// Answered once the settings were read.
pub(super) const RELOAD: &str = "reload";

const REQUESTS: [&str; 7] = [
    "restart",
    RELOAD,
    "rescan",
    "health",
    "identify",
    "log_level",
    "homeassistant/rediscover",
];

fn read_level(fields: &mut Fields) -> Result<Level, PayloadError> {
    let (key, expected) = ("level", "error, warn, info, debug or trace");
    let text = fields
        .take_text(key, expected)?
        .ok_or(PayloadError::MissingKey { key, expected })?;
    text.parse().map_err(|_| PayloadError::InvalidValue {
        key,
        expected,
        shown: Shown::text(&text),
    })
}

fn read_subject(fields: &mut Fields) -> Result<Option<EntityOwner>, PayloadError> {
    let device = schedule::optional(fields, "device", "the id of a device")?;
    let group = schedule::optional(fields, "group", "the id of a group")?;
    match (device, group) {
        (Some(_), Some(_)) => Err(PayloadError::ConflictingKeys {
            key: "device",
            other: "group",
        }),
        (device, group) => Ok(device.map(EntityOwner::Device).or(group.map(EntityOwner::Group))),
    }
}

/// Why a request was not done.
struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: &'static str, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
        }
    }
}

/// The answer to a request.
pub(super) struct Reply;

impl Reply {
    pub(super) fn ok(transaction: Option<Transaction>, data: &Value) -> Value {
        Self::with(transaction, json!({ "status": "ok", "data": data }))
    }

    pub(super) fn error(transaction: Option<Transaction>, code: &str, message: &str) -> Value {
        let error = json!({ "code": code, "message": message });
        Self::with(
            transaction,
            json!({ "status": "error", "data": null, "error": error }),
        )
    }

    fn with(transaction: Option<Transaction>, mut answer: Value) -> Value {
        if let (Some(transaction), Value::Object(fields)) = (transaction, &mut answer) {
            fields.insert("transaction".to_owned(), json!(transaction));
        }
        answer
    }
}
