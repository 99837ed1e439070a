//! Each fault does what it says.

use std::time::{Duration, Instant};

use tapo_simulator::{Fault, FaultKind, Profile, RunningDevice, Scope, Simulator, Stage};

use crate::support::{SOON, client, kind, plug};

async fn start() -> RunningDevice {
    Simulator::plug(Profile::P110).start().await.unwrap()
}

fn switching(times: u32) -> Scope {
    Scope::method("set_device_info").times(times)
}

#[tokio::test]
async fn latency_delays_each_request() {
    let device = Simulator::plug(Profile::P110)
        .latency(Duration::from_millis(40))
        .start()
        .await
        .unwrap();
    let start = Instant::now();
    let handler = plug(&device).await.unwrap();
    handler.on().await.unwrap();
    assert!(
        start.elapsed() >= Duration::from_millis(160),
        "4 requests took {:?}",
        start.elapsed()
    );
    device.faults().clear(FaultKind::Latency);
    let start = Instant::now();
    handler.off().await.unwrap();
    assert!(
        start.elapsed() < Duration::from_millis(40),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_hanging_request_is_never_answered_and_not_in_work() {
    let device = start().await;
    let handler = client()
        .with_timeout(Duration::from_millis(200))
        .p110(device.address().to_string())
        .await
        .unwrap();
    let (stage, scope) = (Stage::BeforeApplying, switching(1));
    device.faults().set(Fault::Hang { stage, scope });
    let error = handler.on().await.unwrap_err();
    assert!(format!("{error:?}").contains("TimedOut"), "{error:?}");
    assert!(!device.relay(1));
    assert_eq!(device.counters().in_flight, 0);
    handler.on().await.unwrap();
    assert!(device.relay(1));

    let (stage, scope) = (Stage::AfterApplying, switching(1));
    device.faults().set(Fault::Hang { stage, scope });
    handler.off().await.unwrap_err();
    assert!(!device.relay(1));
    assert_eq!(device.counters().max_in_flight, 1);
}

#[tokio::test]
async fn a_dropped_request_is_applied_or_not() {
    let device = start().await;
    let handler = plug(&device).await.unwrap();
    let (stage, scope) = (Stage::BeforeApplying, switching(1));
    device.faults().set(Fault::Drop { stage, scope });
    let error = handler.on().await.unwrap_err();
    assert!(format!("{error:?}").contains("IncompleteMessage"), "{error:?}");
    assert!(!device.relay(1));

    let (stage, scope) = (Stage::AfterApplying, switching(1));
    device.faults().set(Fault::Drop { stage, scope });
    handler.on().await.unwrap_err();
    assert!(device.relay(1));
    // The device has seen these requests, so the sequence goes on.
    handler.off().await.unwrap();
    assert_eq!(device.counters().sequence_violations, 0);
}

#[tokio::test]
async fn a_second_client_kicks_the_first_out_of_a_table_of_one() {
    let device = Simulator::plug(Profile::P110)
        .single_session()
        .start()
        .await
        .unwrap();
    let mut first = plug(&device).await.unwrap();
    first.on().await.unwrap();
    let second = plug(&device).await.unwrap();
    assert_eq!(kind(&first.off().await.unwrap_err()), "SESSION_TIMEOUT");
    second.off().await.unwrap();
    first.refresh_session().await.unwrap();
    first.on().await.unwrap();
    assert_eq!(device.counters().logins, 3);
}

#[tokio::test]
async fn requests_are_waited_for() {
    let device = start().await;
    let handler = plug(&device).await.unwrap();
    device.reset_counters();
    let (switched, waited) = tokio::join!(handler.on(), device.wait_requests("set_device_info", 1, SOON));
    switched.unwrap();
    waited.unwrap();
    let error = device
        .wait_requests("set_device_info", 2, Duration::from_millis(1))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "waited 1ms for 2 requests of set_device_info");
    device
        .wait_relay(1, false, Duration::from_millis(1))
        .await
        .unwrap_err();
}
