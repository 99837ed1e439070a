//! The payloads of requests about the devices that were found.

use crate::mqtt::decode::{Decoded, Fields, PayloadError, Shown, decode_request};
use planner::DeviceId;

use super::schedule::{optional, required};

/// The requests about found devices.
pub(super) const REQUESTS: [&str; 6] = [
    "device/list",
    "device/add",
    "device/rename",
    "device/ignore",
    "device/remove",
    "device/replace",
];

/// Longest name for people, in characters.
const NAME_MAX: usize = 64;

const DEVICE: &str = "the id or the MAC of a device";
const ID: &str = "an id: a-z, 0-9, _ and -, but not bridge or group";
const NAME: &str = "a name of at most 64 characters on one line";

/// A request about found devices.
#[derive(Debug, PartialEq)]
pub(in crate::mqtt) enum InventoryRequest {
    /// All of them, with what they are used for.
    List,
    /// Use one.
    Add {
        device: String,
        id: Option<DeviceId>,
        name: Option<String>,
    },
    /// Give an added one another id, or another name. An empty name is that in the app.
    Rename {
        device: String,
        id: Option<DeviceId>,
        name: Option<String>,
    },
    /// Do not list one as found, or list it again.
    Ignore { device: String, ignored: bool },
    /// Do not use an added one any more.
    Remove { device: String },
    /// Another one takes the place of an added one.
    Replace { device: String, by: String },
}

/// Reads a request about found devices; `None` if it is none of those.
pub(super) fn decode(name: &str, payload: &[u8]) -> Option<Decoded<InventoryRequest>> {
    Some(match name {
        "device/list" => decode_request(payload, |_| Ok(InventoryRequest::List)),
        "device/add" => decode_request(payload, |fields| {
            Ok(InventoryRequest::Add {
                device: device(fields)?,
                id: optional(fields, "id", ID)?,
                name: read_name(fields)?.filter(|name| !name.is_empty()),
            })
        }),
        "device/rename" => decode_request(payload, rename),
        "device/ignore" => decode_request(payload, |fields| {
            Ok(InventoryRequest::Ignore {
                device: device(fields)?,
                ignored: fields.take_bool("ignored")?.unwrap_or(true),
            })
        }),
        "device/remove" => decode_request(payload, |fields| {
            Ok(InventoryRequest::Remove {
                device: device(fields)?,
            })
        }),
        "device/replace" => decode_request(payload, |fields| {
            Ok(InventoryRequest::Replace {
                device: device(fields)?,
                by: which(fields, "by")?,
            })
        }),
        _ => return None,
    })
}

fn rename(fields: &mut Fields) -> Result<InventoryRequest, PayloadError> {
    let device = device(fields)?;
    let id = optional(fields, "id", ID)?;
    let name = read_name(fields)?;
    if id.is_none() && name.is_none() {
        return Err(PayloadError::MissingKey {
            key: "id",
            expected: "an id, or a name",
        });
    }
    Ok(InventoryRequest::Rename { device, id, name })
}

fn device(fields: &mut Fields) -> Result<String, PayloadError> {
    which(fields, "device")
}

/// An id or a MAC, which errors show whole.
fn which(fields: &mut Fields, key: &'static str) -> Result<String, PayloadError> {
    let device: String = required(fields, key, DEVICE)?;
    if device.len() > NAME_MAX || device.chars().any(char::is_control) {
        return Err(PayloadError::InvalidValue {
            key,
            expected: DEVICE,
            shown: Shown::text(&device),
        });
    }
    Ok(device)
}

fn read_name(fields: &mut Fields) -> Result<Option<String>, PayloadError> {
    let Some(name) = fields.take_text("name", NAME)? else {
        return Ok(None);
    };
    let name = name.trim();
    if name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(PayloadError::InvalidValue {
            key: "name",
            expected: NAME,
            shown: Shown::text(name),
        });
    }
    Ok(Some(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, payload: &str) -> Result<InventoryRequest, String> {
        match decode(name, payload.as_bytes()).expect("a request about devices") {
            Decoded::Accepted { command, .. } => Ok(command),
            Decoded::Refused { error, .. } => Err(error.to_string()),
            Decoded::Ignored => Err("ignored".to_owned()),
        }
    }

    #[test]
    fn every_request_is_read() {
        let device = || "heater".to_owned();
        assert_eq!(request("device/list", ""), Ok(InventoryRequest::List));
        assert_eq!(
            request(
                "device/add",
                r#"{"device":"heater","id":"oven","name":" Oven ","transaction":"t"}"#
            ),
            Ok(InventoryRequest::Add {
                device: device(),
                id: "oven".parse().ok(),
                name: Some("Oven".to_owned()),
            })
        );
        assert_eq!(
            request("device/rename", r#"{"device":"heater","name":""}"#),
            Ok(InventoryRequest::Rename {
                device: device(),
                id: None,
                name: Some(String::new()),
            })
        );
        assert_eq!(
            request("device/ignore", r#"{"device":"heater"}"#),
            Ok(InventoryRequest::Ignore {
                device: device(),
                ignored: true,
            })
        );
        assert_eq!(
            request(
                "device/replace",
                r#"{"device":"heater","by":"aa:bb:cc:00:00:01"}"#
            ),
            Ok(InventoryRequest::Replace {
                device: device(),
                by: "aa:bb:cc:00:00:01".to_owned(),
            })
        );
        assert_eq!(decode("device/dance", b""), None);
    }

    #[test]
    fn what_is_missing_or_invalid_is_named() {
        let error = |name, payload| request(name, payload).unwrap_err();
        assert!(error("device/add", "").contains("device is missing"));
        assert!(error("device/rename", r#"{"device":"heater"}"#).contains("id is missing"));
        assert!(error("device/add", r#"{"device":"heater","id":"bridge"}"#).contains("id: expected an id"));
        let long = format!(r#"{{"device":"heater","name":"{}"}}"#, "x".repeat(65));
        assert!(error("device/rename", &long).contains("name: expected"));
        let name = "x".repeat(60_000);
        let device = format!(r#"{{"device":"{name}","by":"b"}}"#);
        let by = format!(r#"{{"device":"a","by":"{name}"}}"#);
        for (key, long) in [("device", &device), ("by", &by)] {
            let shown = error("device/replace", long);
            assert!(
                shown.starts_with(&format!("{key}: expected")) && shown.len() < 300,
                "{shown}"
            );
        }
    }
}
