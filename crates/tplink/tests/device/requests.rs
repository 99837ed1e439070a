//! What a session is for.

use serde_json::{Value, json};
use tapo_simulator::{Profile, Protocol};
use tplink::{Error, ErrorCode};

use crate::support::{SMART, assert_one_connection, logged_in, start};

#[tokio::test]
async fn a_plug_is_read_and_switched_over_one_connection() {
    for (protocol, _) in SMART {
        let device = start(Profile::P110, protocol).await;
        let mut client = logged_in(&device).await;
        let info = client.call("get_device_info", Value::Null).await.unwrap();
        assert_eq!(
            (&info["device_id"], &info["device_on"]),
            (&json!(device.device_id()), &json!(false))
        );
        let components = client.call("component_nego", json!({})).await.unwrap();
        let components = components["component_list"].as_array().unwrap();
        assert!(
            components
                .iter()
                .any(|component| component["id"] == "energy_monitoring"),
            "{protocol}"
        );
        for on in [true, false, true] {
            let answer = client.call("set_device_info", json!({ "device_on": on })).await;
            assert_eq!((answer, device.relay(1)), (Ok(Value::Null), on), "{protocol}");
        }
        let counters = device.counters();
        assert_eq!((counters.logins, counters.failed_logins), (1, 0), "{protocol}");
        assert_one_connection(&device);
    }
}

#[tokio::test]
async fn a_child_is_switched_and_read_back_in_one_request() {
    for (protocol, _) in SMART {
        let device = start(Profile::P304M, protocol).await;
        let mut client = logged_in(&device).await;
        let list = client
            .call("get_child_device_list", json!({ "start_index": 0 }))
            .await
            .unwrap();
        assert_eq!(list["child_device_list"].as_array().unwrap().len(), 4);
        for (position, id) in (1..).zip(device.child_ids()) {
            let requests = [
                ("set_device_info", json!({ "device_on": true })),
                ("get_device_info", Value::Null),
            ];
            let results = client.batch_child(&id, &requests).await.unwrap();
            assert_eq!(results.len(), 2);
            assert_eq!(results[1].as_ref().unwrap()["device_on"], true);
            let on: Vec<u8> = (1..=4).filter(|position| device.relay(*position)).collect();
            assert_eq!(on, [position], "{protocol}");
            let off = client
                .call_child(&id, "set_device_info", json!({ "device_on": false }))
                .await;
            assert_eq!(off, Ok(Value::Null));
        }
        assert_eq!(device.counters().sequence_violations, 0);
    }
}

#[tokio::test]
async fn a_batch_ends_at_the_first_refusal() {
    let device = start(Profile::P110, Protocol::Klap).await;
    let mut client = logged_in(&device).await;
    let arm = || {
        (
            "add_countdown_rule",
            json!({ "enable": true, "delay": 60, "desired_states": { "on": false } }),
        )
    };
    let requests = [arm(), arm(), ("get_device_info", Value::Null)];
    let results = client.batch(&requests).await.unwrap();
    assert!(results[0].is_ok());
    assert_eq!(results[1..], [Err(Error::Device(ErrorCode::COUNTDOWN_CONFLICT))]);
}

#[tokio::test]
async fn a_refused_request_is_told_apart() {
    for (protocol, transport) in SMART {
        let device = start(Profile::P304M, protocol).await;
        let mut client = logged_in(&device).await;
        let unknown = Err(Error::UnknownRequest(ErrorCode::UNKNOWN_METHOD));
        assert_eq!(client.call("get_nothing", Value::Null).await, unknown);
        let child = device.child_ids().remove(0);
        assert_eq!(
            client.call_child(&child, "get_nothing", Value::Null).await,
            unknown
        );
        let no_child = client
            .call_child("no such child", "get_device_info", Value::Null)
            .await;
        assert_eq!(no_child, Err(Error::UnknownRequest(ErrorCode::PARAMS)));
        // The session is good after each of them.
        assert_eq!(client.transport(), Some(transport));
        client.call("get_device_info", Value::Null).await.unwrap();
        assert_eq!(device.counters().logins, 1);
    }
}
