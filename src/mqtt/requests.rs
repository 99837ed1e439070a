//! Requests to the bridge: `bridge/request/<name>`, answered on `bridge/response/<name>`. Pure.

mod device;
mod history;
mod identify;
mod schedule;

use crate::{
    config::Account,
    domain::scheduling::Request,
    homeassistant::EntityOwner,
    system::{Secret, telemetry::Level},
};

use super::decode::{Decoded, Fields, PayloadError, Shown, decode_request, transaction_of};
pub(super) use device::InventoryRequest;
pub(super) use history::HistoryRequest;
pub(super) use identify::identify;
use schedule::whole_number;

/// A request to the bridge.
#[derive(Debug, PartialEq)]
pub(super) enum BridgeRequest {
    /// End in an orderly way and start again.
    Restart,
    /// Read the settings again.
    Reload,
    /// Try every device now.
    Rescan,
    /// Publish `bridge/health`.
    Health,
    /// What outlets used when.
    History(HistoryRequest),
    /// The topics of a name, or of all.
    Identify(Option<String>),
    /// The last events, newest first, in pages from 1.
    Events(u16),
    /// The last lines of the log, so many.
    Log(u16),
    /// Change the level of the log.
    LogLevel(Level),
    /// Announce again what was deleted in Home Assistant: one, or all.
    Rediscover(Option<EntityOwner>),
    /// The state that survives a restart.
    Backup,
    /// What happened, without what is private.
    Diagnostics,
    /// Use an account, and keep it.
    Account(Account),
    /// A request about the devices that were found.
    Inventory(InventoryRequest),
    /// A request to the scheduler.
    Scheduler(Request),
}

/// Lines of the log that are returned by default.
const LOG_LINES: u16 = 200;

/// The requests that do not go to the scheduler.
const REQUESTS: [&str; 13] = [
    "account",
    "backup",
    "diagnostics",
    "restart",
    "reload",
    "rescan",
    "events",
    "health",
    "history",
    "identify",
    "log",
    "log_level",
    "homeassistant/rediscover",
];

/// Reads the payload of a request. The result is never [`Decoded::Ignored`]: requests need no payload, so an empty one
/// is a request too.
pub(super) fn decode(name: &str, payload: &[u8]) -> Decoded<BridgeRequest> {
    let plain = |request| decode_request(payload, |_| Ok(request));
    match name {
        "account" => decode_request(payload, read_account).without_values(),
        "backup" => plain(BridgeRequest::Backup),
        "diagnostics" => plain(BridgeRequest::Diagnostics),
        "restart" => plain(BridgeRequest::Restart),
        "reload" => plain(BridgeRequest::Reload),
        "rescan" => plain(BridgeRequest::Rescan),
        "health" => plain(BridgeRequest::Health),
        "events" => decode_request(payload, |fields| {
            let page = whole_number(fields, "page", 1..=1000, "a whole number from 1 to 1000")?;
            Ok(BridgeRequest::Events(page.unwrap_or(1)))
        }),
        "log" => decode_request(payload, |fields| {
            let lines = whole_number(fields, "lines", 1..=1000, "a whole number from 1 to 1000")?;
            Ok(BridgeRequest::Log(lines.unwrap_or(LOG_LINES)))
        }),
        "history" => decode_request(payload, |fields| {
            history::read(fields).map(BridgeRequest::History)
        }),
        "identify" => decode_request(payload, |fields| {
            identify::read_name(fields).map(BridgeRequest::Identify)
        }),
        "log_level" => decode_request(payload, |fields| read_level(fields).map(BridgeRequest::LogLevel)),
        "homeassistant/rediscover" => decode_request(payload, |fields| {
            read_owner(fields).map(BridgeRequest::Rediscover)
        }),
        _ => {
            let scheduler =
                schedule::decode(name, payload).map(|decoded| decoded.map(BridgeRequest::Scheduler));
            let inventory =
                || device::decode(name, payload).map(|decoded| decoded.map(BridgeRequest::Inventory));
            scheduler.or_else(inventory).unwrap_or_else(|| Decoded::Refused {
                error: unknown(),
                transaction: transaction_of(payload),
            })
        }
    }
}

/// The error for a request that does not exist.
pub(super) fn unknown() -> PayloadError {
    PayloadError::UnknownRequest {
        known: [&REQUESTS[..], &device::REQUESTS, &schedule::REQUESTS]
            .concat()
            .join(", "),
    }
}

fn read_account(fields: &mut Fields) -> Result<BridgeRequest, PayloadError> {
    let mut text = |key, expected| {
        let text = fields.take_text(key, expected)?.filter(|text| !text.is_empty());
        text.ok_or(PayloadError::MissingKey { key, expected })
    };
    Ok(BridgeRequest::Account(Account {
        username: text("username", "the e-mail of the Tapo account")?,
        password: Secret::new(text("password", "the password of the Tapo account")?),
    }))
}

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

fn read_owner(fields: &mut Fields) -> Result<Option<EntityOwner>, PayloadError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_shows_an_account() {
        for payload in [
            r#"{"username": "me@example.org", "password": "hunter2""#,
            r#"{"username": "me@example.org", "password": 7777777}"#,
            r#"{"username": "me@example.org", "pass": "hunter2"}"#,
            r#"{"username": "me@example.org", "password": "x", "hunter2": 1}"#,
            r#"{"username": "me@example.org", "password": "x", "transaction": ["hunter2"]}"#,
            "hunter2",
            "\"hunter2\"",
        ] {
            let Decoded::Refused { error, .. } = decode("account", payload.as_bytes()) else {
                panic!("{payload}");
            };
            let text = error.to_string();
            assert!(
                !["hunter2", "7777777", "me@"]
                    .iter()
                    .any(|secret| text.contains(secret)),
                "{text}"
            );
        }
        let Decoded::Accepted { command, .. } = decode(
            "account",
            br#"{"username": "me@example.org", "password": "hunter2"}"#,
        ) else {
            panic!("an account");
        };
        assert!(!format!("{command:?}").contains("hunter2"));
    }

    #[test]
    fn each_request_is_known_by_its_name() {
        let all = REQUESTS
            .iter()
            .chain(&device::REQUESTS)
            .chain(&schedule::REQUESTS);
        let documented = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/topics.md");
        let documented = std::fs::read_to_string(documented).unwrap();
        let known = unknown().to_string();
        assert!(
            documented.contains(&format!("\"{known}\"")),
            "docs/topics.md has another example than: {known}"
        );
        let (_, table) = documented.split_once("| request | payload |").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        for name in all {
            assert!(
                table.contains(&format!("`{name}`")),
                "docs/topics.md: no row for {name}"
            );
            let decoded = decode(name, b"{");
            assert!(
                matches!(
                    decoded,
                    Decoded::Refused {
                        error: PayloadError::InvalidJson { .. },
                        ..
                    }
                ),
                "{name}"
            );
        }
        let Decoded::Refused { error, .. } = decode("dance", b"") else {
            panic!("no such request");
        };
        assert_eq!(error.code(), "unknown_request");
        assert!(error.to_string().contains("restart") && error.to_string().contains("plan"));
    }
}
