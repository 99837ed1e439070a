//! What a device says about its login, before any.

use serde_json::{Value, json};

use crate::{Error, ErrorCode, http::HttpReply};

/// The answer to `discover`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Announcement {
    /// It wants TPAP, on this port.
    Tpap { port: Option<u16> },
    /// It does not. Firmware that knows TPAP says so; other firmware answers an error, an HTML page or a status.
    Other,
}

/// The account password, in the list of what the device takes.
const USER_PASSWORD: u64 = 2;

impl Announcement {
    pub(crate) fn request() -> Value {
        json!({ "method": "login", "params": { "sub_method": "discover" } })
    }

    /// # Errors
    /// The device is locked, overloaded, or wants a variant that this crate does not have.
    pub(crate) fn read(reply: &HttpReply) -> Result<Self, Error> {
        reply.check_load()?;
        let Some(answer) = reply.json().filter(|_| reply.status == 200) else {
            return Ok(Self::Other);
        };
        match ErrorCode::of(&answer) {
            Some(ErrorCode::SUCCESS) => {}
            Some(ErrorCode::LOCKED) => return Err(super::session::locked()),
            _ => return Ok(Self::Other),
        }
        match answer.pointer("/result/tpap") {
            Some(tpap @ Value::Object(_)) => Self::read_object(tpap),
            _ => Ok(Self::Other),
        }
    }

    fn read_object(tpap: &Value) -> Result<Self, Error> {
        let number = |name: &str| tpap.get(name).and_then(Value::as_u64);
        match number("tls") {
            None | Some(0) => {}
            Some(tls) => return Err(Error::Unsupported(format!("TPAP over TLS (tls {tls})"))),
        }
        let passcodes = tpap.get("pake").and_then(Value::as_array);
        let passcodes: Vec<u64> = passcodes
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .take(8)
            .collect();
        // The app prefers the default passcode (0) where the device takes it. It is made of secrets of the maker.
        if !passcodes.contains(&USER_PASSWORD) || passcodes.contains(&0) {
            return Err(Error::Unsupported(format!(
                "a TPAP login without the password of the account ({passcodes:?})"
            )));
        }
        let port = number("port")
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0);
        Ok(Self::Tpap { port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Result<Announcement, Error> {
        Announcement::read(&HttpReply {
            status,
            cookie: None,
            body: body.into(),
        })
    }

    #[test]
    fn what_a_device_wants_is_read() {
        let tpap = |tpap: &str| read(200, &format!(r#"{{"error_code":0,"result":{{"tpap":{tpap}}}}}"#));
        assert_eq!(
            tpap(r#"{"tls":0,"dac":0,"noc":0,"pake":[2],"port":80}"#),
            Ok(Announcement::Tpap { port: Some(80) })
        );
        assert_eq!(
            tpap(r#"{"pake":[2,3],"port":70000}"#),
            Ok(Announcement::Tpap { port: None })
        );
        assert_eq!(tpap("null"), Ok(Announcement::Other));
        for other in [
            r#"{"tls":2,"pake":[2]}"#,
            r#"{"pake":[0,2]}"#,
            r#"{"pake":[3]}"#,
            "{}",
        ] {
            assert!(matches!(tpap(other), Err(Error::Unsupported(_))), "{other}");
        }
        for (status, body) in [
            (200, r#"{"error_code":0,"result":{"tpap_preferred":false}}"#),
            (200, r#"{"error_code":1003}"#),
            (200, "<html>"),
            (404, ""),
            (403, ""),
        ] {
            assert_eq!(read(status, body), Ok(Announcement::Other), "{status} {body}");
        }
        assert!(matches!(
            read(200, r#"{"error_code":-2101}"#),
            Err(Error::Locked { .. })
        ));
        assert_eq!(read(503, ""), Err(Error::Overloaded(503)));
    }
}
