//! XOR: old Kasa devices take JSON in a frame on TCP port 9999, behind a cipher without a key. There is no login.
//!
//! Source: python-kasa, `kasa/transports/xortransport.py`.

mod frame;
mod link;

use serde_json::Value;

pub(crate) use self::link::XorLink;
use crate::iot;

/// The datagram to UDP port 9999 that old Kasa devices answer with what they are.
pub fn sysinfo_query() -> Vec<u8> {
    let request = iot::request("system", "get_sysinfo", &Value::Null, None).to_string();
    let frame = frame::seal(request.as_bytes()).unwrap_or_default();
    frame.get(frame::HEADER..).unwrap_or_default().to_vec()
}

/// The system information in an answer to [`sysinfo_query`]; none if it is no such answer.
pub fn sysinfo_answer(datagram: &[u8]) -> Option<Value> {
    let mut body = datagram.to_vec();
    frame::open(&mut body);
    let answer = serde_json::from_slice(&body).ok()?;
    iot::result(answer, "system", "get_sysinfo").ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_datagram_has_no_length() {
        let mut query = sysinfo_query();
        frame::open(&mut query);
        assert_eq!(query, br#"{"system":{"get_sysinfo":{}}}"#);
        let answer = json!({ "system": { "get_sysinfo": { "err_code": 0, "model": "HS110(EU)" } } });
        let answer = frame::seal(answer.to_string().as_bytes()).unwrap();
        let sysinfo = sysinfo_answer(&answer[frame::HEADER..]).unwrap();
        assert_eq!(sysinfo["model"], "HS110(EU)");
        assert_eq!(sysinfo_answer(b"no cipher"), None);
    }
}
