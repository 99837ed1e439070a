//! How a session starts, and how not.

use serde_json::Value;
use tapo_simulator::{Fault, FaultKind, Profile, Protocol, Simulator};
use tplink::{Account, Credentials, Error, Login, Scheme, Transport};

use crate::support::{LIMITS, SMART, account, client, client_of, logged_in, start};

#[tokio::test]
async fn what_a_device_speaks_is_found_out() {
    for (protocol, transport) in SMART {
        let device = start(Profile::P110, protocol).await;
        let found = client(&device).login(None).await.unwrap();
        assert_eq!((found.transport, found.account), (transport, Some(Account::User)));
        // The same, when it is known.
        assert_eq!(client(&device).login(Some(transport)).await, Ok(found));
    }
}

#[tokio::test]
async fn the_wrong_protocol_is_told_apart_from_a_refusal() {
    let klap = start(Profile::P110, Protocol::Klap).await;
    for transport in [Transport::Tpap, Transport::Aes, Transport::Xor] {
        let refused = client(&klap).login(Some(transport)).await.unwrap_err();
        assert!(
            matches!(refused, Error::OtherProtocol | Error::Closed),
            "{transport}: {refused}"
        );
    }
    let tpap = start(Profile::P110, Protocol::Tpap).await;
    assert_eq!(
        client(&tpap).login(Some(Transport::Klap)).await,
        Err(Error::Forbidden)
    );
    klap.faults().set(Fault::ForbidHandshake);
    assert_eq!(client(&klap).login(None).await, Err(Error::Forbidden));
}

#[tokio::test]
async fn a_wrong_password_is_one_attempt() {
    let wrong = || Some(Credentials::new("demo@example.com", "wrong"));
    let klap = start(Profile::P110, Protocol::Klap).await;
    assert_eq!(
        client_of(&klap, wrong(), LIMITS).login(None).await,
        Err(Error::WrongCredentials)
    );
    let counters = klap.counters();
    // The device does not even learn of it.
    assert_eq!(
        (
            counters.requests_of("handshake1"),
            counters.requests_of("handshake2")
        ),
        (1, 0)
    );
    assert_eq!(counters.failed_logins, 0);

    let tpap = start(Profile::P110, Protocol::Tpap).await;
    let mut client = client_of(&tpap, wrong(), LIMITS);
    assert_eq!(client.login(None).await, Err(Error::CountedCredentials));
    for transport in [None, Some(Transport::Tpap)] {
        let refused = client.login(transport).await.unwrap_err();
        assert!(
            matches!(refused, Error::Locked { left } if left.as_secs() > 1700),
            "{refused}"
        );
    }
    assert_eq!(
        (
            tpap.counters().failed_logins,
            tpap.counters().requests_of("pake_share")
        ),
        (1, 1)
    );
}

/// Which form of the password the device takes is not known before.
#[tokio::test]
async fn a_login_over_aes_is_one_attempt() {
    for (protocol, refusals) in [(Protocol::Aes, 0), (Protocol::AesV1, 1)] {
        let device = start(Profile::P110, protocol).await;
        let wrong = Credentials::new("demo@example.com", "wrong");
        let refused = client_of(&device, Some(wrong), LIMITS).login(None).await;
        assert_eq!(refused, Err(Error::WrongCredentials), "{protocol}");
        assert_eq!(device.counters().requests_of("login_device"), 1, "{protocol}");
        device.reset_counters();
        let mut client = client_of(&device, Some(account()), LIMITS);
        for _ in 0..refusals {
            assert_eq!(
                client.login(None).await,
                Err(Error::WrongCredentials),
                "{protocol}"
            );
        }
        for logins in 1..=2 {
            client.login(Some(Transport::Aes)).await.unwrap();
            let counters = device.counters();
            assert_eq!(
                (counters.logins, counters.failed_logins),
                (logins, refusals),
                "{protocol}"
            );
        }
        // What is announced is right at once.
        logged_in(&device).await;
        assert_eq!(device.counters().failed_logins, refusals, "{protocol}");
    }
}

#[tokio::test]
async fn a_locked_device_is_not_asked_again() {
    let device = start(Profile::P110, Protocol::Tpap).await;
    device.faults().set(Fault::TpapLock { after: 1 });
    let wrong = Some(Credentials::new("demo@example.com", "wrong"));
    let refused = client_of(&device, wrong, LIMITS).login(None).await;
    assert_eq!(refused, Err(Error::CountedCredentials));
    let mut client = client(&device);
    for _ in 0..3 {
        let refused = client.login(None).await.unwrap_err();
        assert!(
            matches!(refused, Error::Locked { left } if left.as_secs() > 3500),
            "{refused}"
        );
    }
    let counters = device.counters();
    // One request found it out, with the right password; the others were not sent.
    assert_eq!(
        (
            counters.requests_of("discover"),
            counters.requests_of("pake_share")
        ),
        (2, 1)
    );
}

#[tokio::test]
async fn a_device_without_account_is_recognized() {
    let blank = start(Profile::P110, Protocol::Klap).await;
    blank.faults().set(Fault::BlankCredentials);
    let mut defaults = Vec::new();
    for (username, password) in [("kasa@tp-link.net", "kasaSetup"), ("test@tp-link.net", "test")] {
        let device = Simulator::plug(Profile::P100)
            .credentials(username, password)
            .start()
            .await
            .unwrap();
        defaults.push(device);
    }
    let [kasa, tapo] = &defaults[..] else { panic!() };
    for (device, expected) in [
        (&blank, Account::Blank),
        (kasa, Account::KasaDefault),
        (tapo, Account::TapoDefault),
    ] {
        for credentials in [None, Some(account())] {
            let mut client = client_of(device, credentials, LIMITS);
            let login = Login {
                transport: Transport::Klap,
                account: Some(expected),
                scheme: Some(Scheme::V2),
            };
            assert_eq!(client.login(None).await, Ok(login));
            client.call("get_device_info", Value::Null).await.unwrap();
        }
    }
    for (protocol, _) in SMART {
        let owned = start(Profile::P110, protocol).await;
        let refused = client_of(&owned, None, LIMITS).login(None).await;
        assert_eq!(refused, Err(Error::NoCredentials), "{protocol}");
    }
}

#[tokio::test]
async fn a_device_that_changes_its_protocol_is_followed() {
    for (native, _) in SMART {
        let device = start(Profile::P110, native).await;
        let mut client = logged_in(&device).await;
        device.faults().set(Fault::ProtocolFlip);
        assert_eq!(
            client.call("get_device_info", Value::Null).await,
            Err(Error::SessionLost),
            "{native}"
        );
        client.login(None).await.unwrap();
        client.call("get_device_info", Value::Null).await.unwrap();
        device.faults().clear(FaultKind::ProtocolFlip);
        assert_eq!(
            client.call("get_device_info", Value::Null).await,
            Err(Error::SessionLost),
            "{native}"
        );
    }
}
