//! The session cookie: `TP_SESSIONID=<id>;TIMEOUT=<seconds>`.

use std::{fmt, time::Duration};

/// The id of a session and how long it is promised to live. `Debug` shows no id.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Cookie {
    id: String,
    lifetime: Duration,
}

/// The promise of all devices seen, for one that makes none.
const USUAL_LIFETIME: Duration = Duration::from_hours(24);
/// Real ids have 32 characters.
const LONGEST_ID: usize = 256;

impl Cookie {
    /// Reads one `Set-Cookie` header. Some firmware names the id `SESSIONID` (python-kasa, `aestransport.py`).
    pub(crate) fn parse(header: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?;
        let mut parts = text.split(';').filter_map(|part| part.trim().split_once('='));
        let value = |wanted: &str| {
            parts
                .clone()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value)
        };
        let id = value("TP_SESSIONID").or_else(|| value("SESSIONID"))?;
        if id.is_empty() || id.len() > LONGEST_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let lifetime = parts
            .find(|(name, _)| *name == "TIMEOUT")
            .and_then(|(_, value)| value.parse().ok());
        Some(Self {
            id: id.to_owned(),
            lifetime: lifetime.map_or(USUAL_LIFETIME, |seconds: u32| Duration::from_secs(seconds.into())),
        })
    }

    /// The value of the header that names the session. Devices refuse their own `TIMEOUT` in it.
    pub(crate) fn header(&self) -> String {
        format!("TP_SESSIONID={}", self.id)
    }

    /// How long the device keeps the session.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookie")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_and_its_lifetime_are_read() {
        for (header, id, seconds) in [
            ("TP_SESSIONID=AB12;TIMEOUT=1440", "AB12", 1440),
            ("TP_SESSIONID=AB12; TIMEOUT=1440; Path=/", "AB12", 1440),
            ("SESSIONID=CD34", "CD34", 86_400),
            ("TIMEOUT=-1;TP_SESSIONID=x", "x", 86_400),
        ] {
            let cookie = Cookie::parse(header.as_bytes()).unwrap();
            assert_eq!(cookie.header(), format!("TP_SESSIONID={id}"), "{header}");
            assert_eq!(cookie.lifetime(), Duration::from_secs(seconds), "{header}");
        }
    }

    #[test]
    fn what_could_not_be_sent_back_is_no_cookie() {
        let long = format!("TP_SESSIONID={}", "A".repeat(257));
        for header in [
            "",
            "TP_SESSIONID=",
            "TP_SESSIONID=a b",
            "OTHER=1",
            "TP_SESSIONID",
            &long,
        ] {
            assert_eq!(Cookie::parse(header.as_bytes()), None, "{header}");
        }
        assert_eq!(Cookie::parse(b"TP_SESSIONID=\xff"), None);
    }
}
