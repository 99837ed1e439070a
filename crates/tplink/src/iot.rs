//! The frame of IOT requests: `{module: {method: params}}`, with `err_code` beside the values of the answer.
//!
//! Sources: python-kasa, `kasa/iot/iotdevice.py`, and its fixtures.

use serde_json::{Value, json};

use crate::{Error, ErrorCode};

/// A request to the device, or to one child of a strip by its whole id.
pub(crate) fn request(module: &str, method: &str, params: &Value, child_id: Option<&str>) -> Value {
    // Some firmware gives no answer to `null`.
    let params = if params.is_null() { &json!({}) } else { params };
    let mut request = json!({ module: { method: params } });
    if let (Some(child_id), Some(request)) = (child_id, request.as_object_mut()) {
        request.insert("context".to_owned(), json!({ "child_ids": [child_id] }));
    }
    request
}

/// The values of an answer. A module or a method that does not exist is answered on its own level.
pub(crate) fn result(mut answer: Value, module: &str, method: &str) -> Result<Value, Error> {
    let mut of_module = take(&mut answer, module)?;
    check(&of_module)?;
    let of_method = take(&mut of_module, method)?;
    check(&of_method)?;
    Ok(of_method)
}

/// No module, no method: it does not come with other firmware settings, so it is not asked again.
fn check(level: &Value) -> Result<(), Error> {
    match level
        .get("err_code")
        .map_or(Some(0), Value::as_i64)
        .map(ErrorCode)
    {
        Some(ErrorCode::SUCCESS) => Ok(()),
        Some(code @ ErrorCode(-1 | -2)) => Err(Error::UnknownRequest(code)),
        Some(code) => Err(Error::Device(code)),
        None => Err(Error::Unreadable("its error code is no number")),
    }
}

fn take(object: &mut Value, member: &str) -> Result<Value, Error> {
    object
        .get_mut(member)
        .map(Value::take)
        .ok_or(Error::Unreadable("it has no answer to the request"))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::testing::{damage, fuzz_count};

    #[test]
    fn requests_have_the_shape_of_the_app() {
        let get = request("system", "get_sysinfo", &Value::Null, None);
        assert_eq!(get.to_string(), r#"{"system":{"get_sysinfo":{}}}"#);
        let set = request(
            "system",
            "set_relay_state",
            &json!({ "state": 1 }),
            Some("8006A1"),
        );
        let context = json!({ "child_ids": ["8006A1"] });
        assert_eq!(
            set,
            json!({ "context": context, "system": { "set_relay_state": { "state": 1 } } })
        );
    }

    #[test]
    fn an_error_is_found_on_each_level() {
        let read = |answer: Value| result(answer, "emeter", "get_realtime");
        let good = json!({ "err_code": 0, "power_mw": 5 });
        assert_eq!(read(json!({ "emeter": { "get_realtime": good } })), Ok(good));
        let error = |code: i64| json!({ "err_code": code, "err_msg": "no" });
        for (code, expected) in [
            (-1, Error::UnknownRequest(ErrorCode(-1))),
            (-2, Error::UnknownRequest(ErrorCode(-2))),
            (-10, Error::Device(ErrorCode(-10))),
        ] {
            assert_eq!(read(json!({ "emeter": error(code) })), Err(expected.clone()));
            assert_eq!(
                read(json!({ "emeter": { "get_realtime": error(code) } })),
                Err(expected)
            );
        }
        for answer in [json!({}), json!({ "emeter": {} }), json!([]), Value::Null] {
            assert!(matches!(read(answer), Err(Error::Unreadable(_))));
        }
    }

    #[test]
    fn damaged_answers_are_no_harm() {
        let mut rng = StdRng::seed_from_u64(8);
        let whole = br#"{"emeter":{"get_realtime":{"err_code":0,"power_mw":5}}}"#;
        for _ in 0..fuzz_count() {
            let mut damaged = whole.to_vec();
            damage(&mut damaged, &mut rng);
            let answer = serde_json::from_slice(&damaged).unwrap_or_default();
            let _ = result(answer, "emeter", "get_realtime");
        }
    }
}
