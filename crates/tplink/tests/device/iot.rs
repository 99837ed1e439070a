//! Old Kasa devices.

use std::time::Duration;

use serde_json::{Value, json};
use tapo_simulator::{Damage, Fault, Profile, Protocol, Scope, Stage};
use tplink::{Account, Error, ErrorCode, Scheme};

use crate::support::{IOT, LIMITS, SHORT, assert_one_connection, client, client_of, logged_in, start};

fn switching() -> Scope {
    Scope::method("system.set_relay_state").times(1)
}

#[tokio::test]
async fn a_plug_is_found_read_and_switched() {
    for (protocol, transport) in IOT {
        let device = start(Profile::P110, protocol).await;
        let mut client = client(&device);
        // Port 9999 is not what a device with HTTP is asked on.
        let known = Some(transport).filter(|_| protocol == Protocol::Xor);
        let login = client.login(known).await.unwrap();
        let klap = protocol == Protocol::KlapV1;
        let expected = (
            transport,
            klap.then_some(Account::User),
            klap.then_some(Scheme::V1),
        );
        assert_eq!(
            (login.transport, login.account, login.scheme),
            expected,
            "{protocol}"
        );
        let info = client
            .call_iot("system", "get_sysinfo", Value::Null, None)
            .await
            .unwrap();
        assert_eq!(
            (&info["deviceId"], &info["relay_state"]),
            (&json!(device.device_id()), &json!(0))
        );
        for state in [1, 0, 1] {
            client
                .call_iot("system", "set_relay_state", json!({ "state": state }), None)
                .await
                .unwrap();
            assert_eq!(device.relay(1), state == 1, "{protocol}");
        }
        let meter = client
            .call_iot("emeter", "get_realtime", Value::Null, None)
            .await
            .unwrap();
        assert_eq!(
            (&meter["power_mw"], &meter["voltage_mv"]),
            (&json!(60_000), &json!(230_000))
        );
        assert_one_connection(&device);
    }
}

#[tokio::test]
async fn a_device_without_http_is_found_on_its_other_port() {
    let device = start(Profile::P100, Protocol::Xor).await;
    let endpoint = tplink::Endpoint::new("127.0.0.1")
        .with_http_port(1)
        .with_xor_port(device.address().port());
    let mut client = tplink::Client::new(endpoint, None, LIMITS);
    assert_eq!(
        client.login(None).await.unwrap().transport,
        tplink::Transport::Xor
    );
    assert_eq!(device.counters().requests_of("system.get_sysinfo"), 1);
}

#[tokio::test]
async fn an_outlet_of_a_strip_is_switched_and_holds_its_countdown() {
    for (protocol, transport) in IOT {
        let device = start(Profile::P300, protocol).await;
        let mut client = client(&device);
        client.login(Some(transport)).await.unwrap();
        let info = client
            .call_iot("system", "get_sysinfo", Value::Null, None)
            .await
            .unwrap();
        let children = info["children"].as_array().unwrap();
        assert_eq!(children.len(), 3);
        let second = children[1]["id"].as_str().unwrap();
        client
            .call_iot("system", "set_relay_state", json!({ "state": 1 }), Some(second))
            .await
            .unwrap();
        let on: Vec<u8> = (1..=3).filter(|position| device.relay(*position)).collect();
        assert_eq!(on, [2], "{protocol}");
        let rule = json!({ "enable": 1, "delay": 60, "act": 0, "name": "off" });
        let added = client
            .call_iot("count_down", "add_rule", rule.clone(), Some(second))
            .await
            .unwrap();
        assert!(added["id"].is_string());
        let full = client
            .call_iot("count_down", "add_rule", rule, Some(second))
            .await;
        assert_eq!(full, Err(Error::Device(ErrorCode(-10))));
        let rules = client
            .call_iot("count_down", "get_rules", Value::Null, Some(second))
            .await
            .unwrap();
        assert_eq!(
            (&rules["rule_list"][0]["act"], &rules["rule_list"][0]["delay"]),
            (&json!(0), &json!(60))
        );
        device.advance(Duration::from_secs(61));
        assert!(!device.relay(2));
    }
}

#[tokio::test]
async fn what_a_device_does_not_have_is_told_apart() {
    for (protocol, transport) in IOT {
        let device = start(Profile::P100, protocol).await;
        let mut client = client(&device);
        client.login(Some(transport)).await.unwrap();
        for (module, method, code) in [
            ("emeter", "get_realtime", -1),
            ("smartlife", "get_light_state", -1),
            ("system", "get_nothing", -2),
        ] {
            let refused = client.call_iot(module, method, Value::Null, None).await;
            assert_eq!(
                refused,
                Err(Error::UnknownRequest(ErrorCode(code))),
                "{protocol} {module}"
            );
        }
        let refused = client
            .call_iot("system", "set_relay_state", json!({ "state": 2 }), None)
            .await;
        assert_eq!(refused, Err(Error::Device(ErrorCode(-3))), "{protocol}");
    }
}

#[tokio::test]
async fn connections_that_are_closed_or_hang_are_told_apart() {
    let on = || json!({ "state": 1 });
    for (protocol, transport) in IOT {
        let device = start(Profile::P110, protocol).await;
        let mut client = client(&device);
        client.login(Some(transport)).await.unwrap();
        device.faults().set(Fault::Drop {
            stage: Stage::AfterApplying,
            scope: switching(),
        });
        let lost = client.call_iot("system", "set_relay_state", on(), None).await;
        assert_eq!((lost, device.relay(1)), (Err(Error::Closed), true), "{protocol}");
        device.faults().set(Fault::Hang {
            stage: Stage::BeforeApplying,
            scope: switching(),
        });
        client.set_limits(SHORT);
        let hung = client
            .call_iot("system", "set_relay_state", json!({ "state": 0 }), None)
            .await;
        client.set_limits(LIMITS);
        assert_eq!(
            (hung, device.relay(1)),
            (Err(Error::NoAnswer), true),
            "{protocol}"
        );
        device.faults().set(Fault::Malformed {
            damage: Damage::NotJson,
            scope: switching(),
        });
        let garbled = client.call_iot("system", "set_relay_state", on(), None).await;
        assert_eq!(garbled, Err(Error::Unreadable("it is not JSON")), "{protocol}");
        device.faults().set(Fault::Malformed {
            damage: Damage::CutOff,
            scope: switching(),
        });
        let cut = client.call_iot("system", "set_relay_state", on(), None).await;
        assert_eq!(cut, Err(Error::Closed), "{protocol}");
        device.faults().set(Fault::CloseAfterReply);
        for _ in 0..3 {
            client
                .call_iot("system", "get_sysinfo", Value::Null, None)
                .await
                .unwrap();
            while device.counters().open_connections > 0 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(device.counters().max_in_flight, 1);
    }
}

#[tokio::test]
async fn an_expired_klap_v1_session_is_one_new_login() {
    let device = start(Profile::P110, Protocol::KlapV1).await;
    let mut client = logged_in(&device).await;
    device.faults().set(Fault::SessionLifetime {
        lifetime: Duration::ZERO,
    });
    let lost = client.call_iot("system", "get_sysinfo", Value::Null, None).await;
    assert_eq!(lost, Err(Error::SessionLost));
    device.faults().clear_all();
    client.login(None).await.unwrap();
    client
        .call_iot("system", "get_sysinfo", Value::Null, None)
        .await
        .unwrap();
    assert_eq!(device.counters().logins, 2);
}

#[tokio::test]
async fn a_device_with_one_request_a_session_is_logged_in_to_for_each() {
    let device = start(Profile::HS110, Protocol::KlapV1).await;
    device.faults().set(Fault::SingleRequest);
    let mut client = logged_in(&device).await;
    for round in 1..=6 {
        let state = json!({ "state": round % 2 });
        let switched = client.call_iot("system", "set_relay_state", state, None).await;
        assert!(switched.is_ok(), "{round}: {switched:?}");
        assert_eq!(
            (device.relay(1), device.counters().logins),
            (round % 2 == 1, round)
        );
    }
    // With another firmware a session lasts again after the next login.
    device.faults().clear_all();
    client.login(None).await.unwrap();
    for _ in 0..3 {
        client
            .call_iot("system", "get_sysinfo", Value::Null, None)
            .await
            .unwrap();
    }
    assert_eq!(device.counters().logins, 7);
}

#[tokio::test]
async fn a_wrong_password_over_klap_v1_is_one_attempt() {
    let device = start(Profile::P110, Protocol::KlapV1).await;
    let wrong = tplink::Credentials::new("demo@example.com", "wrong");
    let refused = client_of(&device, Some(wrong), LIMITS).login(None).await;
    assert_eq!(refused, Err(Error::WrongCredentials));
    assert_eq!(
        (
            device.counters().requests_of("handshake1"),
            device.counters().failed_logins
        ),
        (1, 0)
    );
}
