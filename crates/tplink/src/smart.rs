//! The frame of SMART requests: `{"method","params"}` and `{"error_code","result"}`, alone, for a child, in a batch.
//!
//! Sources: python-kasa, `kasa/protocols/smartprotocol.py`, and its fixtures.

use serde_json::{Value, json};

use crate::{Error, ErrorCode};

/// How many requests are sent in one batch at most. With more, real devices run into timeouts (python-kasa).
pub const BATCH: usize = 5;

/// Parameters are an object: some firmware refuses `null`.
pub(crate) fn request(method: &str, params: &Value) -> Value {
    let params = if params.is_null() { &json!({}) } else { params };
    json!({ "method": method, "params": params })
}

/// A request to one child of a strip or hub.
pub(crate) fn for_child(child_id: &str, request: &Value) -> Value {
    json!({ "method": "control_child", "params": { "device_id": child_id, "requestData": request } })
}

/// Several requests in one.
pub(crate) fn batch(requests: &[(&str, Value)]) -> Value {
    let requests: Vec<_> = requests
        .iter()
        .map(|(method, params)| request(method, params))
        .collect();
    json!({ "method": "multipleRequest", "params": { "requests": requests } })
}

/// The result of an answer; `Null` where it has none.
pub(crate) fn result(mut answer: Value) -> Result<Value, Error> {
    let code = ErrorCode::of(&answer);
    Error::check(code.ok_or(Error::Unreadable("it has no error code"))?)?;
    Ok(take(&mut answer, "result"))
}

/// The result of a child in the result of `control_child`. Some firmware leaves the error code out (P304M 1.4.2).
pub(crate) fn child_result(mut result: Value) -> Result<Value, Error> {
    let mut answer = take(&mut result, "responseData");
    if !answer.is_object() {
        return Err(Error::Unreadable("the child has no response"));
    }
    let code = answer.get("error_code").map_or(Some(0), Value::as_i64);
    Error::check(ErrorCode(code.ok_or(Error::Unreadable("it has no error code"))?))?;
    Ok(take(&mut answer, "result"))
}

/// The results of a batch, in its order. A device stops at the first error, so there can be fewer than requests: those
/// without a result were not carried out.
pub(crate) fn batch_results(
    mut result: Value,
    requests: &[(&str, Value)],
) -> Result<Vec<Result<Value, Error>>, Error> {
    let Value::Array(responses) = take(&mut result, "responses") else {
        return Err(Error::Unreadable("the batch has no responses"));
    };
    if responses.len() > requests.len() {
        return Err(Error::Unreadable("the batch has more responses than requests"));
    }
    let pairs = responses.into_iter().zip(requests);
    pairs
        .map(|(response, (method, _))| {
            if response.get("method").is_some_and(|of| of != method) {
                return Err(Error::Unreadable("the batch has the response of another request"));
            }
            match self::result(response) {
                Err(error @ Error::SessionLost) => Err(error),
                result => Ok(result),
            }
        })
        .collect()
}

fn take(object: &mut Value, member: &str) -> Value {
    object.get_mut(member).map(Value::take).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::testing::{damage, fuzz_count};

    #[test]
    fn requests_have_the_shape_of_the_app() {
        let get = request("get_device_info", &Value::Null);
        assert_eq!(get, json!({ "method": "get_device_info", "params": {} }));
        let child = for_child("80220001", &get);
        assert_eq!(
            child["params"],
            json!({ "device_id": "80220001", "requestData": get })
        );
        let batch = batch(&[("get_device_info", Value::Null)]);
        assert_eq!(
            batch,
            json!({ "method": "multipleRequest", "params": { "requests": [get] } })
        );
    }

    #[test]
    fn an_answer_is_its_result_or_its_error() {
        assert_eq!(result(json!({ "error_code": 0 })), Ok(Value::Null));
        assert_eq!(
            result(json!({ "error_code": 0, "result": { "a": 1 } })),
            Ok(json!({ "a": 1 }))
        );
        for (code, expected) in [
            (-1002, Error::UnknownRequest(ErrorCode(-1002))),
            (-1008, Error::UnknownRequest(ErrorCode(-1008))),
            (9999, Error::SessionLost),
            (-4242, Error::Device(ErrorCode(-4242))),
        ] {
            assert_eq!(result(json!({ "error_code": code })), Err(expected.clone()));
            let child = json!({ "responseData": { "error_code": code } });
            assert_eq!(child_result(child), Err(expected));
        }
        for answer in [Value::Null, json!([]), json!({}), json!({ "error_code": "0" })] {
            assert!(matches!(result(answer), Err(Error::Unreadable(_))));
        }
        let child = json!({ "responseData": { "result": { "a": 1 } } });
        assert_eq!(child_result(child), Ok(json!({ "a": 1 })));
        assert_eq!(
            child_result(json!({})),
            Err(Error::Unreadable("the child has no response"))
        );
    }

    #[test]
    fn a_batch_ends_at_its_first_error() {
        let asked = [("a", Value::Null), ("b", Value::Null), ("c", Value::Null)];
        let read = |responses: Value| batch_results(json!({ "responses": responses }), &asked);
        let responses = json!([{ "method": "a", "error_code": 0 }, { "method": "b", "error_code": -1902 }]);
        assert_eq!(
            read(responses),
            Ok(vec![
                Ok(Value::Null),
                Err(Error::Device(ErrorCode::COUNTDOWN_CONFLICT))
            ])
        );
        // Cameras leave the method out.
        assert_eq!(read(json!([{ "error_code": 0 }])), Ok(vec![Ok(Value::Null)]));
        assert!(read(json!([{ "method": "b", "error_code": 0 }])).is_err());
        assert!(read(json!([{}, {}, {}, {}])).is_err() && read(Value::Null).is_err());
        assert_eq!(
            read(json!([{ "method": "a", "error_code": 9999 }])),
            Err(Error::SessionLost)
        );
    }

    #[test]
    fn damaged_answers_are_no_harm() {
        let mut rng = StdRng::seed_from_u64(7);
        let asked = [("a", Value::Null), ("b", Value::Null)];
        let whole = json!({ "error_code": 0, "result": { "responseData": { "error_code": 0, "result": {
            "responses": [{ "method": "a", "error_code": 0, "result": {} }, { "method": "b", "error_code": -1 }]
        } } } });
        let whole = whole.to_string().into_bytes();
        for _ in 0..fuzz_count() {
            let mut damaged = whole.clone();
            damage(&mut damaged, &mut rng);
            let answer = serde_json::from_slice(&damaged).unwrap_or_default();
            let _ = result(answer)
                .and_then(child_result)
                .and_then(|result| batch_results(result, &asked));
        }
    }
}
