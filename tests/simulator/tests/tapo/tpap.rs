//! TPAP, against the crate's own prover.

use tapo::ApiClient;
use tapo_simulator::{DEFAULT_USERNAME, Fault, FaultKind, Profile, Protocol, RunningDevice, Simulator};

use crate::support::{SOON, kind, plug, strip};

async fn start(profile: Profile) -> RunningDevice {
    Simulator::device(profile)
        .protocol(Protocol::Tpap)
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_plug_is_read_and_switched() {
    let device = start(Profile::P110).await;
    let handler = plug(&device).await.unwrap();
    let info = handler.get_device_info_json().await.unwrap();
    assert_eq!(info["device_id"], device.device_id());
    handler.on().await.unwrap();
    assert!(device.relay(1));
    assert_eq!(handler.get_device_info_json().await.unwrap()["device_on"], true);
    let counters = device.counters();
    assert_eq!(
        (
            counters.logins,
            counters.failed_logins,
            counters.sequence_violations
        ),
        (1, 0, 0)
    );
    assert_eq!(counters.requests_of("handshake1"), 0);
}

#[tokio::test]
async fn each_outlet_of_a_strip_is_switched_alone() {
    let device = start(Profile::P304M).await;
    let handler = strip(&device).await.unwrap();
    let list = handler.get_child_device_list_json().await.unwrap();
    assert_eq!(list["child_device_list"].as_array().unwrap().len(), 4);
    for (position, id) in (1..).zip(device.child_ids()) {
        let outlet = handler.plug_unchecked(id);
        outlet.on().await.unwrap();
        let on: Vec<u8> = (1..=4).filter(|position| device.relay(*position)).collect();
        assert_eq!(on, [position]);
        assert_eq!(outlet.get_device_info_json().await.unwrap()["device_on"], true);
        outlet.off().await.unwrap();
    }
}

#[tokio::test]
async fn a_session_that_ended_is_refreshed() {
    let device = Simulator::plug(Profile::P110)
        .protocol(Protocol::Tpap)
        .single_session()
        .start()
        .await
        .unwrap();
    let mut first = plug(&device).await.unwrap();
    let _second = plug(&device).await.unwrap();
    assert_eq!(kind(&first.on().await.unwrap_err()), "TPAP_SESSION_INVALID");
    first.refresh_session().await.unwrap();
    first.on().await.unwrap();
    assert!(device.relay(1));
}

#[tokio::test]
async fn the_device_locks_itself_after_wrong_passwords() {
    let device = start(Profile::P110).await;
    device.faults().set(Fault::TpapLock { after: 2 });
    for expected in ["TPAP_CREDENTIALS", "TPAP_CREDENTIALS", "TPAP_AUTH_ATTEMPTS_LIMIT"] {
        let client = ApiClient::new(DEFAULT_USERNAME, "wrong").with_timeout(SOON);
        let error = client.p110(device.address().to_string()).await.unwrap_err();
        assert_eq!(kind(&error), expected);
    }
    assert_eq!(
        kind(&plug(&device).await.unwrap_err()),
        "TPAP_AUTH_ATTEMPTS_LIMIT"
    );
    assert_eq!(device.counters().failed_logins, 2);
    device.faults().clear(FaultKind::TpapLock);
    plug(&device).await.unwrap();
}

#[tokio::test]
async fn a_device_that_changes_protocol_needs_a_new_handler() {
    for native in [Protocol::Klap, Protocol::Tpap] {
        let device = Simulator::plug(Profile::P110)
            .protocol(native)
            .start()
            .await
            .unwrap();
        let mut handler = plug(&device).await.unwrap();
        device.faults().set(Fault::ProtocolFlip);
        assert_eq!(
            kind(&handler.on().await.unwrap_err()),
            "SESSION_TIMEOUT",
            "{native}"
        );
        let refresh = kind(&handler.refresh_session().await.unwrap_err());
        assert_eq!(
            refresh,
            if native == Protocol::Klap {
                "FORBIDDEN"
            } else {
                "1003"
            }
        );
        plug(&device).await.unwrap().on().await.unwrap();
        assert!(device.relay(1), "{native}");
    }
}
