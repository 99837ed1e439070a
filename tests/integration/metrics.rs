//! What monitors read: figures, and whether the bridge works.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tapo_simulator::{Profile, RunningDevice, Simulator};

use crate::{
    bridge::{Running, Setup},
    mosquitto::Mosquitto,
    page::Page,
    process::{Home, settings},
};

const GROUP: &str = "[[group]]\nid = \"all\"\noutlets = [\"heater\"]\n";

async fn start(section: &str) -> (Running, RunningDevice) {
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let setup = Setup::new().device("heater", plug.address()).section(section);
    let bridge = setup.rules(GROUP).start().await;
    bridge.available("heater").await;
    (bridge, plug)
}

/// The section of a listener without the page.
fn only_metrics(section: &str) -> String {
    section.replace("[web]", "[metrics]")
}

/// Reads the figures until a line is there.
async fn until(page: &Page, line: &str) -> String {
    loop {
        let text = page.get("/metrics").await.text();
        if text.lines().any(|known| known == line) {
            return text;
        }
    }
}

#[tokio::test]
async fn a_monitor_reads_outlets_and_bridge() {
    let (page, section) = Page::new("");
    let (bridge, _plug) = start(&only_metrics(&section)).await;
    until(&page, r#"tapo2mqtt_device_up{device="heater"} 1"#).await;
    bridge.set("heater", "on", json!({ "state": "ON" })).await;
    let text = until(&page, r#"tapo2mqtt_outlet_on{device="heater",outlet=""} 1"#).await;
    assert!(
        text.contains("# TYPE tapo2mqtt_outlet_power_watts gauge\n"),
        "{text}"
    );
    assert!(text.contains("tapo2mqtt_mqtt_connected 1\n"), "{text}");
    until(&page, r#"tapo2mqtt_group_on{group="all"} 1"#).await;
    let open = page.with("Accept", "application/openmetrics-text");
    let response = open.get("/metrics").await;
    let kind = response.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(response.text().ends_with("# EOF\n"));
    assert_eq!(page.with("Host", "").get("/health").await.text(), "ok\n");
    // Nothing else is there.
    assert_eq!(page.get("/").await.status, 404);
    assert_eq!(page.get("/api/changes").await.status, 404);
}

#[tokio::test]
async fn the_figures_need_the_password_of_their_listener() {
    let (page, section) = Page::new("password = \"correct horse\"");
    let _bridge = start(&section).await;
    let refused = page.get("/metrics").await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").unwrap().starts_with("Basic "));
    let with = |password: &str| {
        let login = STANDARD.encode(format!("prometheus:{password}"));
        page.with("Authorization", &format!("Basic {login}"))
    };
    for _ in 0..5 {
        assert_eq!(with("wrong").get("/metrics").await.status, 401);
    }
    let text = with("correct horse").get("/metrics").await.text();
    assert!(text.contains("tapo2mqtt_build_info"), "{text}");
    // The header opens nothing else, and another name is refused as on the page.
    assert_eq!(with("correct horse").get("/api/changes").await.status, 401);
    let other = with("correct horse").with("Host", "evil.example");
    assert_eq!(other.get("/metrics").await.status, 421);
    // A right one between them does not start the count again.
    assert_eq!(with("wrong").get("/metrics").await.status, 401);
    assert_eq!(with("correct horse").get("/metrics").await.status, 429);
}

#[tokio::test]
async fn probes_say_whether_the_bridge_works() {
    let mut broker = Mosquitto::start().await;
    let (page, section) = Page::new("password = \"correct horse\"");
    let home = Home::new(&(settings(broker.address(), &[]) + &section));
    let process = home.start();
    let ready = async |status: u16| {
        loop {
            let response = page.get("/readyz").await;
            if response.status == status {
                return response.text();
            }
        }
    };
    assert_eq!(ready(200).await, "ready\n");
    for path in ["/health", "/healthz"] {
        let named = page.with("Host", "other.example");
        assert_eq!(named.get(path).await.text(), "ok\n", "{path}");
    }
    assert_eq!(
        page.with("Host", "other.example").get("/readyz").await.status,
        421
    );
    broker.kill();
    assert_eq!(ready(503).await, "the MQTT broker is not connected\n");
    assert_eq!(page.get("/healthz").await.status, 200);
    broker.restart().await;
    ready(200).await;
    process.stop().await.in_order();
}
