//! The control endpoint.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tapo_simulator::{FaultKind, Profile, RunningDevice, Simulator, serve_control};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::plug;

struct Control {
    address: SocketAddr,
    devices: Vec<RunningDevice>,
    _serving: JoinSet<std::convert::Infallible>,
}

async fn start(profiles: &[Profile]) -> Control {
    let mut devices = Vec::new();
    for profile in profiles {
        devices.push(Simulator::device(*profile).start().await.unwrap());
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(serve_control(
        listener,
        devices.iter().map(RunningDevice::handle).collect(),
    ));
    Control {
        address,
        devices,
        _serving: serving,
    }
}

impl Control {
    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: control\r\nconnection: close\r\n");
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
    }
}

#[tokio::test]
async fn devices_are_shown_with_their_counters() {
    let control = start(&[Profile::P110, Profile::EP40M]).await;
    plug(&control.devices[0]).await.unwrap().on().await.unwrap();
    let (status, shown) = control.call("GET", "/", Value::Null).await;
    assert_eq!(status, 200);
    let (plug, strip) = (&shown["devices"][0], &shown["devices"][1]);
    assert_eq!(
        (&plug["profile"], &plug["protocol"]),
        (&json!("P110"), &json!("klap"))
    );
    assert_eq!(
        plug["outlets"],
        json!([{"position": 1, "child_id": null, "on": true, "watts": 60.0}])
    );
    assert_eq!(plug["counters"]["requests"]["set_device_info"], 1);
    assert_eq!(plug["counters"]["relay_changes"][0]["cause"], "request");
    assert_eq!(strip["outlets"][1]["child_id"], control.devices[1].child_ids()[1]);
}

#[tokio::test]
async fn devices_are_disturbed() {
    let control = start(&[Profile::P110, Profile::P304M]).await;
    let [plug, strip] = &control.devices[..] else {
        panic!()
    };

    let fault = json!({"fault": "hang", "stage": "before_applying", "times": 2});
    let (_, shown) = control.call("POST", "/faults", fault.clone()).await;
    assert_eq!(shown["faults"], json!([fault]));
    control
        .call("POST", "/faults", json!({"fault": "close_after_reply"}))
        .await;
    let (_, shown) = control.call("DELETE", "/faults/hang", Value::Null).await;
    assert_eq!(shown["faults"], json!([{"fault": "close_after_reply"}]));
    assert!(plug.faults().is_set(FaultKind::CloseAfterReply));
    control.call("DELETE", "/faults", Value::Null).await;
    assert!(plug.faults().active().is_empty());

    let (_, shown) = control.call("POST", "/press/3?device=1", Value::Null).await;
    assert_eq!((&shown["outlets"][2]["on"], strip.relay(3)), (&json!(true), true));
    control
        .call("POST", "/watts/3?device=1", json!({"watts": 7.5}))
        .await;
    assert!((strip.watts(3) - 7.5).abs() < f64::EPSILON);
    control.call("POST", "/overload/3?device=1", Value::Null).await;
    assert!(!strip.relay(3));
    control.call("DELETE", "/counters?device=1", Value::Null).await;
    assert!(strip.counters().relay_changes.is_empty());

    let before = plug.address();
    let (_, shown) = control
        .call("POST", "/move", json!({"address": "127.0.0.1:0"}))
        .await;
    assert_ne!(shown["address"], before.to_string());
    control.call("POST", "/reboot", json!({"seconds": 60})).await;
    TcpStream::connect(plug.address()).await.unwrap_err();
    let (status, _) = control.call("POST", "/advance", json!({"seconds": 60})).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn what_cannot_be_done_is_reported() {
    let control = start(&[Profile::P110]).await;
    for (method, path, body, expected) in [
        ("GET", "/nowhere", Value::Null, 404),
        ("POST", "/press/2", Value::Null, 404),
        ("POST", "/press/first", Value::Null, 404),
        ("POST", "/press/1?device=1", Value::Null, 404),
        ("DELETE", "/faults/gremlin", Value::Null, 404),
        ("POST", "/faults", json!({"fault": "gremlin"}), 400),
        ("POST", "/faults", Value::Null, 400),
        ("POST", "/advance", json!({"seconds": -1}), 400),
        ("POST", "/advance", json!({"seconds": 1e300}), 400),
        ("POST", "/reboot", json!({"seconds": 1e12}), 400),
        ("POST", "/watts/1", json!({"watts": "many"}), 400),
        ("POST", "/move", json!({"address": "192.0.2.1:80"}), 400),
        ("POST", "/faults", json!("x".repeat(70_000)), 413),
    ] {
        let (status, reply) = control.call(method, path, body).await;
        assert_eq!(status, expected, "{method} {path}: {reply}");
        assert!(reply["error"].is_string(), "{reply}");
    }
}
