//! Each fault has its effect.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tapo_simulator::{
    Cause, Damage, Fault, FaultKind, Latency, Profile, RunningDevice, Scope, Simulator, Stage,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::timeout,
};

use crate::support::{SOON, client, kind, plug, strip};

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

#[tokio::test]
async fn sessions_end_early() {
    let lifetime = Duration::from_millis(100);
    let device = Simulator::plug(Profile::P110)
        .fault(Fault::SessionLifetime { lifetime })
        .start()
        .await
        .unwrap();
    let mut handler = plug(&device).await.unwrap();
    tokio::time::sleep(lifetime).await;
    assert_eq!(kind(&handler.on().await.unwrap_err()), "SESSION_TIMEOUT");
    handler.refresh_session().await.unwrap().on().await.unwrap();
}

#[tokio::test]
async fn parallel_requests_break_the_sequence() {
    let device = start().await;
    device.faults().set(Fault::Latency {
        latency: Latency::Uniform {
            min: Duration::ZERO,
            max: Duration::from_millis(20),
        },
    });
    let handler = Arc::new(plug(&device).await.unwrap());
    let mut requests = JoinSet::new();
    for _ in 0..24 {
        let handler = handler.clone();
        requests.spawn(async move { handler.get_device_info_json().await.is_ok() });
    }
    let served = requests.join_all().await;
    let counters = device.counters();
    assert!(counters.max_in_flight > 1, "{counters:?}");
    let refused = served.iter().filter(|served| !**served).count() as u64;
    assert_eq!(counters.sequence_violations, refused);
}

#[tokio::test]
async fn a_request_out_of_sequence_is_refused_and_counted() {
    let device = start().await;
    let handler = plug(&device).await.unwrap();
    // The client counts on when a request of its own was never answered for lack of a connection.
    device.faults().set(Fault::CloseIdle {
        after: Duration::ZERO,
    });
    let error = handler.on().await.unwrap_err();
    assert!(format!("{error:?}").contains("IncompleteMessage"), "{error:?}");
    device.faults().clear_all();
    assert_eq!(kind(&handler.on().await.unwrap_err()), "SESSION_TIMEOUT");
    assert_eq!(device.counters().sequence_violations, 1);
    assert!(!device.relay(1));
}

#[tokio::test]
async fn a_dead_idle_connection_is_replaced_after_a_refresh() {
    let device = start().await;
    let mut handler = plug(&device).await.unwrap();
    handler.on().await.unwrap();
    let after = Duration::from_millis(50);
    device.faults().set(Fault::CloseIdle { after });
    handler.off().await.unwrap();
    tokio::time::sleep(after).await;
    handler.on().await.unwrap_err();
    handler.refresh_session().await.unwrap().on().await.unwrap();
    assert!(device.relay(1));
}

#[tokio::test]
async fn connections_close_after_each_reply() {
    let device = start().await;
    device.faults().set(Fault::CloseAfterReply);
    let stream = tokio::net::TcpStream::connect(device.address()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let body = r#"{"method":"login","params":{"sub_method":"discover"}}"#;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: plug\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    writer.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    timeout(SOON, reader.read_to_string(&mut reply))
        .await
        .unwrap()
        .unwrap();
    assert!(
        reply.starts_with("HTTP/1.1 200 OK") && reply.ends_with('}'),
        "{reply}"
    );
    assert!(!reply.contains("connection: close"), "{reply}");
}

#[tokio::test]
async fn log_ins_are_refused() {
    let device = start().await;
    device.faults().set(Fault::ForbidHandshake);
    assert_eq!(kind(&plug(&device).await.unwrap_err()), "FORBIDDEN");
    device.faults().clear_all();
    for fault in [Fault::WrongPassword, Fault::BlankCredentials] {
        let kind_of_fault = fault.kind();
        device.faults().set(fault);
        assert_eq!(kind(&plug(&device).await.unwrap_err()), "HASH_MISMATCH");
        device.faults().clear(kind_of_fault);
    }
    plug(&device).await.unwrap().on().await.unwrap();
}

#[tokio::test]
async fn http_errors_have_no_effect_and_keep_the_session() {
    let device = start().await;
    let handler = plug(&device).await.unwrap();
    for status in [429, 503] {
        device.faults().set(Fault::HttpStatus {
            status,
            scope: switching(1),
        });
        assert_eq!(kind(&handler.on().await.unwrap_err()), format!("HTTP {status}"));
        assert!(!device.relay(1));
    }
    handler.on().await.unwrap();
}

#[tokio::test]
async fn replies_are_damaged_in_each_way() {
    let device = start().await;
    let handler = plug(&device).await.unwrap();
    let cases = [
        (Damage::NotJson, "Serde"),
        (Damage::Undecryptable, "Decryption"),
        (Damage::Truncated, "Decryption"),
        (Damage::CutOff, "IncompleteMessage"),
        (Damage::EmptyResult, "Serde"),
    ];
    for (damage, expected) in cases {
        device.faults().set(Fault::Malformed {
            damage,
            scope: switching(1),
        });
        let outcome = format!("{:?}", handler.on().await);
        assert!(outcome.contains(expected), "{damage:?}: {outcome}");
        assert!(device.relay(1), "{damage:?}");
        device.press(1).unwrap();
        handler.get_device_info_json().await.unwrap();
    }
}

#[tokio::test]
async fn fields_go_missing_and_take_unknown_values() {
    let device = Simulator::strip(Profile::P304M).start().await.unwrap();
    let handler = strip(&device).await.unwrap();
    device.faults().set(Fault::MissingFields {
        fields: vec!["on_time".to_owned(), "rssi".to_owned()],
    });
    let values = [("charging_status".to_owned(), json!("levitating"))].into();
    device.faults().set(Fault::FieldValues { values });
    assert_eq!(handler.get_device_info_json().await.unwrap().get("rssi"), None);
    let list = handler.get_child_device_list_json().await.unwrap();
    let child = &list["child_device_list"][0];
    assert_eq!(
        (child.get("on_time"), &child["charging_status"]),
        (None, &json!("levitating"))
    );
    handler.get_child_device_list().await.unwrap_err();
}

#[tokio::test]
async fn children_are_reordered_or_missing() {
    let device = Simulator::strip(Profile::P304M).start().await.unwrap();
    let handler = strip(&device).await.unwrap();
    device.faults().set(Fault::Children {
        positions: vec![4, 2],
    });
    let list = handler.get_child_device_list().await.unwrap();
    assert_eq!(
        list.iter().map(|child| child.position).collect::<Vec<_>>(),
        [4, 2]
    );
    // What is not listed is still there.
    handler
        .plug_unchecked(device.child_ids()[0].clone())
        .on()
        .await
        .unwrap();
    assert!(device.relay(1));
}

#[tokio::test]
async fn without_a_clock_energy_is_unknown_and_switching_works() {
    let device = start().await;
    let handler = plug(&device).await.unwrap();
    device.faults().set(Fault::ClockUnset);
    assert_eq!(kind(&handler.get_energy_usage().await.unwrap_err()), "-1601");
    handler.on().await.unwrap();
    handler.get_energy_meter_data().await.unwrap();
    device.faults().clear(FaultKind::ClockUnset);
    handler.get_energy_usage().await.unwrap();
}

#[tokio::test]
async fn too_high_a_load_drops_the_relay() {
    let device = start().await;
    let handler = plug(&device).await.unwrap();
    handler.on().await.unwrap();
    device.set_watts(1, 4000.0).unwrap();
    assert!(!device.relay(1));
    let info = handler.get_device_info_json().await.unwrap();
    assert_eq!(
        (&info["device_on"], &info["power_protection_status"]),
        (&json!(false), &json!("overloaded"))
    );

    device.set_watts(1, 40.0).unwrap();
    handler.on().await.unwrap();
    assert_eq!(
        handler.get_device_info_json().await.unwrap()["power_protection_status"],
        "normal"
    );
    device.overload(1).unwrap();
    let causes: Vec<_> = device
        .counters()
        .relay_changes
        .iter()
        .map(|change| change.cause)
        .collect();
    assert_eq!(
        causes,
        [Cause::Request, Cause::Overload, Cause::Request, Cause::Overload]
    );
}

/// No byte that a client can send ends a connection task in a panic, and none is answered with a
/// closed connection.
#[tokio::test]
async fn nonsense_is_answered() {
    let device = start().await;
    let stream = tokio::net::TcpStream::connect(device.address()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let paths = [
        "/",
        "/app/handshake1",
        "/app/handshake2",
        "/app/request?seq=x",
        "/stok=/ds",
        "/stok=a/ds",
        "/%",
    ];
    for path in paths {
        for body in [
            "",
            "{",
            "null",
            "[]",
            "{\"params\":7}",
            "0123456789abcdef",
            "\u{0}\u{1}",
        ] {
            let head = format!("POST {path} HTTP/1.1\r\nhost: plug\r\ncookie: TP_SESSIONID=a\r\n");
            let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
            writer.write_all(request.as_bytes()).await.unwrap();
            let mut reply = [0; 4096];
            let length = timeout(SOON, reader.read(&mut reply)).await.unwrap().unwrap();
            assert!(reply[..length].starts_with(b"HTTP/1.1 "), "{path} {body:?}");
        }
    }
    plug(&device).await.unwrap().on().await.unwrap();
}
