//! What goes wrong on the way.

use std::time::Duration;

use serde_json::{Value, json};
use tapo_simulator::{Damage, Fault, FaultKind, Profile, Scope, Simulator, Stage};
use tplink::Error;

use crate::support::{LIMITS, SHORT, SMART, client, logged_in, start};

fn on() -> Value {
    json!({ "device_on": true })
}

fn switching() -> Scope {
    Scope::method("set_device_info").times(1)
}

#[tokio::test]
async fn an_expired_session_is_one_new_login() {
    for (protocol, transport) in SMART {
        let device = start(Profile::P110, protocol).await;
        let mut client = logged_in(&device).await;
        let lifetime = Duration::ZERO;
        device.faults().set(Fault::SessionLifetime { lifetime });
        assert_eq!(
            client.call("get_device_info", Value::Null).await,
            Err(Error::SessionLost),
            "{protocol}"
        );
        device.faults().clear(FaultKind::SessionLifetime);
        // Nothing is sent on a session that is known to be lost.
        let before = device.counters().http_requests;
        assert_eq!(
            client.call("get_device_info", Value::Null).await,
            Err(Error::SessionLost)
        );
        assert_eq!(device.counters().http_requests, before);
        client.login(Some(transport)).await.unwrap();
        client.call("set_device_info", on()).await.unwrap();
        assert_eq!(
            (device.counters().logins, device.relay(1)),
            (2, true),
            "{protocol}"
        );
    }
}

#[tokio::test]
async fn a_second_client_takes_the_only_session() {
    for (protocol, _) in SMART {
        let device = Simulator::plug(Profile::P110)
            .protocol(protocol)
            .single_session()
            .start()
            .await
            .unwrap();
        let mut first = logged_in(&device).await;
        let mut second = logged_in(&device).await;
        assert_eq!(
            first.call("set_device_info", on()).await,
            Err(Error::SessionLost),
            "{protocol}"
        );
        second.call("set_device_info", on()).await.unwrap();
        assert_eq!(device.counters().logins, 2);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_noticed() {
    for (protocol, _) in SMART {
        let device = start(Profile::P110, protocol).await;
        device.faults().set(Fault::CloseAfterReply);
        let mut client = logged_in(&device).await;
        for _ in 0..3 {
            // The end of the connection arrives a moment after the answer.
            while device.counters().open_connections > 0 {
                tokio::task::yield_now().await;
            }
            client.call("get_device_info", Value::Null).await.unwrap();
        }
        let counters = device.counters();
        assert_eq!(
            (counters.logins, counters.sequence_violations),
            (1, 0),
            "{protocol}"
        );
        assert_eq!(counters.connections, counters.http_requests, "{protocol}");
    }
}

#[tokio::test]
async fn a_dropped_request_says_so_and_the_session_goes_on() {
    for (protocol, _) in SMART {
        let device = start(Profile::P110, protocol).await;
        let mut client = logged_in(&device).await;
        for (stage, applied) in [(Stage::BeforeApplying, false), (Stage::AfterApplying, true)] {
            device.faults().set(Fault::Drop {
                stage,
                scope: switching(),
            });
            let lost = client.call("set_device_info", on()).await.unwrap_err();
            assert_eq!(
                (&lost, lost.may_be_done(), device.relay(1)),
                (&Error::Closed, true, applied)
            );
        }
        client
            .call("set_device_info", json!({ "device_on": false }))
            .await
            .unwrap();
        let counters = device.counters();
        assert_eq!(
            (counters.logins, counters.sequence_violations),
            (1, 0),
            "{protocol}"
        );
    }
}

#[tokio::test]
async fn a_device_that_hangs_is_waited_for_as_long_as_the_limit_says() {
    for (protocol, _) in SMART {
        let device = start(Profile::P110, protocol).await;
        let mut client = logged_in(&device).await;
        device.faults().set(Fault::Hang {
            stage: Stage::AfterApplying,
            scope: switching(),
        });
        client.set_limits(SHORT);
        assert_eq!(
            client.call("set_device_info", on()).await,
            Err(Error::NoAnswer),
            "{protocol}"
        );
        device.wait_relay(1, true, LIMITS.request).await.unwrap();
        // A late answer is not taken for that of the next request.
        client.set_limits(LIMITS);
        let info = client.call("get_device_info", Value::Null).await.unwrap();
        assert_eq!(info["device_on"], true);
        assert_eq!(device.counters().max_in_flight, 1);
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_a_client_that_works() {
    for (protocol, _) in SMART {
        let device = start(Profile::P110, protocol).await;
        let mut client = logged_in(&device).await;
        device.faults().set(Fault::Hang {
            stage: Stage::AfterApplying,
            scope: switching(),
        });
        {
            let switch = client.call("set_device_info", on());
            tokio::select! {
                answer = switch => panic!("{answer:?}"),
                () = async { device.wait_relay(1, true, LIMITS.request).await.unwrap() } => {}
            }
        }
        let info = client.call("get_device_info", Value::Null).await.unwrap();
        assert_eq!(info["device_on"], true);
        assert_eq!(device.counters().logins, 1, "{protocol}");
    }
}

#[tokio::test]
async fn damaged_answers_are_classified() {
    for (protocol, _) in SMART {
        let device = start(Profile::P110, protocol).await;
        for (damage, expected) in [
            (Damage::Undecryptable, Error::SessionLost),
            (Damage::Truncated, Error::SessionLost),
            (Damage::NotJson, Error::Unreadable("it is not JSON")),
            (Damage::CutOff, Error::Closed),
        ] {
            let mut client = logged_in(&device).await;
            device.faults().set(Fault::Malformed {
                damage,
                scope: switching(),
            });
            let error = client.call("set_device_info", on()).await.unwrap_err();
            assert_eq!(
                (&error, error.may_be_done()),
                (&expected, true),
                "{protocol} {damage:?}"
            );
        }
        let mut client = logged_in(&device).await;
        device.faults().set(Fault::Malformed {
            damage: Damage::EmptyResult,
            scope: switching(),
        });
        assert_eq!(client.call("set_device_info", on()).await, Ok(json!({})));
    }
}

#[tokio::test]
async fn an_overloaded_device_is_told_apart() {
    for (protocol, _) in SMART {
        let device = start(Profile::P110, protocol).await;
        let mut client = logged_in(&device).await;
        for (status, maybe) in [(429, false), (503, true)] {
            device.faults().set(Fault::HttpStatus {
                status,
                scope: switching(),
            });
            let error = client.call("set_device_info", on()).await.unwrap_err();
            assert_eq!(
                (&error, error.may_be_done()),
                (&Error::Overloaded(status), maybe),
                "{protocol}"
            );
        }
    }
}

#[tokio::test]
async fn a_device_that_is_away_is_told_apart() {
    let device = start(Profile::P110, tapo_simulator::Protocol::Klap).await;
    let mut client = logged_in(&device).await;
    device.reboot(Duration::from_mins(10)).await.unwrap();
    assert_eq!(
        client.call("get_device_info", Value::Null).await,
        Err(Error::Refused)
    );
    let mut new = self::client(&device);
    assert_eq!(new.login(None).await, Err(Error::Refused));
}
