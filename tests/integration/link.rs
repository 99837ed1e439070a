//! The link against a broker with every known kind of fault.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use rumqttc::{AsyncClient, MqttOptions};
use tapo2mqtt::{
    mqtt::link::{
        Authorities, Broker, ClientCertificate, Filter, Link, LinkEvent, LinkFault, LinkOptions, LinkStats,
        Login, PublishPriority, ShutdownOutcome, Tls, Topic, Transport, Will,
    },
    system::tasks::Tasks,
};
use tokio::{
    net::TcpListener,
    select,
    time::{Instant, interval, timeout},
};

use crate::{
    bridge::fast_clocks,
    cut::Cut,
    faulty_broker::FaultyBroker,
    log::Log,
    mosquitto::{ClientCertificates, Mosquitto, TLS_PORT},
    probe::{PATIENCE, Probe},
};

const ONLINE: &str = r#"{"state":"online"}"#;
const OFFLINE: &str = r#"{"state":"offline"}"#;
/// Differs from OFFLINE, so that a test can distinguish them.
const WILL: &str = r#"{"state":"offline","will":true}"#;
const STATE: &str = "base/bridge/state";
const BUDGET: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_mins(1);
/// How often a condition on the link is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);
const MAX_INFLIGHT: usize = 64;

fn topic(text: &str) -> Topic {
    text.parse().unwrap()
}

fn filter(text: &str) -> Filter {
    text.parse().unwrap()
}

fn broker_at(address: SocketAddr) -> Broker {
    Broker {
        host: address.ip().to_string(),
        port: address.port(),
    }
}

fn options(address: SocketAddr) -> LinkOptions {
    LinkOptions {
        brokers: vec![broker_at(address)],
        client_id: format!("link-{:016x}", rand::random::<u64>()),
        login: None,
        keep_alive: Duration::from_secs(15),
        will: Will {
            topic: topic(STATE),
            payload: Bytes::from_static(WILL.as_bytes()),
        },
        subscriptions: vec![filter("base/+/set"), filter("base/bridge/request/#")],
        optional_subscriptions: Vec::new(),
        transport: Transport::Tcp,
    }
}

fn open(options: LinkOptions) -> Link {
    open_on(&Tasks::default(), options)
}

fn open_on(tasks: &Tasks, options: LinkOptions) -> Link {
    let (link, driver) = Link::open(options).unwrap();
    tasks.spawn("mqtt driver", driver.run());
    link
}

/// Keeps the link running while another future runs, and drops its events.
async fn while_driving<T>(link: &mut Link, other: impl Future<Output = T>) -> T {
    let drive = async {
        loop {
            link.next_event().await;
        }
    };
    select! {
        biased;
        result = other => result,
        () = drive => unreachable!(),
    }
}

/// Drives the link until its statistics fulfil a condition; returns the events until then.
async fn drive_until(link: &mut Link, what: &str, condition: impl Fn(&LinkStats) -> bool) -> Vec<LinkEvent> {
    let give_up = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    while !condition(&link.stats()) {
        assert!(Instant::now() < give_up, "not {what}: {:?}", link.stats());
        events.extend(timeout(CHECK_INTERVAL, link.next_event()).await);
    }
    events
}

async fn settled(link: &mut Link) {
    drive_until(link, "settled", |stats| {
        stats.connected && stats.queued + stats.unacked == 0
    })
    .await;
}

async fn connected(link: &mut Link) {
    drive_until(link, "connected", |stats| stats.connected).await;
}

async fn lost(link: &mut Link, losses: u64) {
    drive_until(link, "lost", |stats| stats.losses == losses).await;
}

async fn fault(link: &mut Link) -> LinkFault {
    let wait = timeout(PATIENCE, async {
        loop {
            if let LinkEvent::Down { fault } = link.next_event().await {
                return fault;
            }
        }
    });
    wait.await.expect("a fault")
}

async fn message(link: &mut Link) -> (String, Bytes) {
    let wait = timeout(PATIENCE, async {
        loop {
            if let LinkEvent::Message { topic, payload, .. } = link.next_event().await {
                return (topic, payload);
            }
        }
    });
    wait.await.expect("a message")
}

/// A bridge of two devices that sets its topics in the wrong order.
fn retain_everything(link: &mut Link) {
    link.publish_retained(PublishPriority::BridgeState, topic(STATE), ONLINE);
    link.publish_retained(PublishPriority::Availability, topic("base/b/availability"), "up");
    link.publish_retained(PublishPriority::State, topic("base/b"), "1");
    link.publish_retained(PublishPriority::Availability, topic("base/a/availability"), "up");
    link.publish_retained(PublishPriority::Discovery, topic("ha/a/config"), "{}");
    link.publish_retained(PublishPriority::State, topic("base/a"), "1");
    link.publish_retained(PublishPriority::BridgeDiscovery, topic("ha/z/config"), "{}");
    link.publish(topic("base/a/response"), "ok", MINUTE);
}

const REPLAY: [&str; 8] = [
    "ha/z/config",
    "ha/a/config",
    "base/a",
    "base/b",
    "base/a/availability",
    "base/b/availability",
    STATE,
    "base/a/response",
];

fn topics(probe: &Probe) -> Vec<String> {
    probe.history().into_iter().map(|seen| seen.topic).collect()
}

async fn watched(broker: &Mosquitto) -> Probe {
    let probe = broker.probe().await;
    probe.subscribe("base/#").await;
    probe.subscribe("ha/#").await;
    probe
}

#[tokio::test]
async fn everything_is_replayed_in_order_on_every_connect() {
    let broker = Mosquitto::start().await;
    let cut = Cut::in_front_of(broker.address());
    let probe = watched(&broker).await;
    let mut link = open(options(cut.address()));
    retain_everything(&mut link);
    assert!(!link.stats().connected);
    while_driving(&mut link, probe.expect("base/a/response", |_| true)).await;
    assert_eq!(topics(&probe), REPLAY);
    settled(&mut link).await;

    cut.cut();
    lost(&mut link, 1).await;
    while_driving(&mut link, probe.expect(STATE, |payload| payload == WILL)).await;
    probe.forget();
    settled(&mut link).await;
    probe.catch_up().await;
    assert_eq!(
        topics(&probe)[..7],
        REPLAY[..7],
        "the response was acknowledged the first time"
    );
    assert_eq!(link.stats().connects, 2);
}

#[tokio::test]
async fn commands_work_once_online_is_published() {
    let broker = Mosquitto::start().await;
    let probe = watched(&broker).await;
    let mut link = open(options(broker.address()));
    retain_everything(&mut link);
    while_driving(&mut link, probe.expect(STATE, |payload| payload == ONLINE)).await;
    probe.publish("base/a/set", "ON").await;
    assert_eq!(message(&mut link).await.0, "base/a/set");
}

#[tokio::test]
async fn a_retained_command_is_marked_as_retained() {
    let broker = Mosquitto::start().await;
    broker.probe().await.publish_retained("base/a/set", "OFF").await;
    let mut link = open(options(broker.address()));
    let ghost = LinkEvent::Message {
        topic: "base/a/set".into(),
        payload: Bytes::from_static(b"OFF"),
        retain: true,
    };
    assert_eq!(timeout(PATIENCE, link.next_event()).await, Ok(LinkEvent::Up));
    assert_eq!(timeout(PATIENCE, link.next_event()).await, Ok(ghost));
}

#[tokio::test]
async fn a_broker_that_lost_its_retained_messages_gets_them_again() {
    let mut broker = Mosquitto::start().await;
    let mut link = open(options(broker.address()));
    retain_everything(&mut link);
    settled(&mut link).await;
    broker.kill();
    assert_eq!(fault(&mut link).await, LinkFault::ClosedByBroker);
    assert_eq!(fault(&mut link).await, LinkFault::ConnectionRefused);
    link.publish_retained(PublishPriority::State, topic("base/a"), "2");
    link.clear_retained(topic("ha/a/config"));
    broker.restart().await;
    settled(&mut link).await;
    let retained = broker.retained_under("#").await;
    let expected = [
        ("base/a", "2"),
        ("base/a/availability", "up"),
        ("base/b", "1"),
        ("base/b/availability", "up"),
        (STATE, ONLINE),
        ("ha/z/config", "{}"),
    ];
    let expected: BTreeMap<_, _> = expected
        .map(|(topic, payload)| (topic.into(), payload.into()))
        .into();
    assert_eq!(retained, expected);
}

#[tokio::test]
async fn the_link_reconnects_after_a_broker_restart() {
    let mut broker = Mosquitto::start().await;
    let probe = watched(&broker).await;
    let mut link = open(options(broker.address()));
    retain_everything(&mut link);
    settled(&mut link).await;
    broker.stop();
    assert_eq!(fault(&mut link).await, LinkFault::ClosedByBroker);
    broker.restart().await;
    probe.forget();
    while_driving(&mut link, probe.expect(STATE, |payload| payload == ONLINE)).await;
    probe.publish("base/a/set", "ON").await;
    assert_eq!(message(&mut link).await.0, "base/a/set");
}

#[tokio::test]
async fn a_lost_broker_is_replaced_by_the_next_one() {
    let log = Log::capture();
    let (mut first, mut second) = (Mosquitto::start().await, Mosquitto::start().await);
    let shown = |broker: &Mosquitto| Some(broker.address().to_string());
    let mut link = open(LinkOptions {
        brokers: vec![broker_at(first.address()), broker_at(second.address())],
        ..options(first.address())
    });
    retain_everything(&mut link);
    settled(&mut link).await;
    assert_eq!(link.stats().broker, shown(&first));
    let probe = watched(&second).await;
    first.kill();
    assert_eq!(fault(&mut link).await, LinkFault::ClosedByBroker);
    assert_eq!(link.stats().broker, None);
    while_driving(&mut link, probe.expect(STATE, |payload| payload == ONLINE)).await;
    assert_eq!(link.stats().broker, shown(&second));

    // The first one is there again, and the link stays where it is.
    first.restart().await;
    probe.publish("base/a/set", "ON").await;
    assert_eq!(message(&mut link).await.0, "base/a/set");
    settled(&mut link).await;
    assert_eq!((link.stats().broker, link.stats().connects), (shown(&second), 2));

    let probe = watched(&first).await;
    second.kill();
    while_driving(&mut link, probe.expect(STATE, |payload| payload == ONLINE)).await;
    assert_eq!(link.stats().broker, shown(&first));
    let lines = log.lines();
    let connected: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("connected to"))
        .collect();
    // A later one is not logged before it lasts.
    for (position, broker) in [first, second].iter().enumerate() {
        let named = format!("broker={}", broker.address());
        assert!(connected[position].contains(&named), "{lines:#?}");
    }
}

#[tokio::test]
async fn a_broker_that_denies_everything_is_left_for_the_next() {
    let _fast = fast_clocks();
    let denying = options(SocketAddr::from(([127, 0, 0, 1], 1)))
        .subscriptions
        .iter()
        .fold(Mosquitto::builder(), |builder, filter| {
            builder.deny_subscription(filter.as_str())
        })
        .start()
        .await;
    let granting = Mosquitto::start().await;
    let mut link = open(LinkOptions {
        brokers: vec![broker_at(denying.address()), broker_at(granting.address())],
        ..options(denying.address())
    });
    assert_eq!(fault(&mut link).await, LinkFault::SubscriptionsDenied);
    settled(&mut link).await;
    assert_eq!(link.stats().broker, Some(granting.address().to_string()));
    granting.probe().await.publish("base/a/set", "ON").await;
    assert_eq!(message(&mut link).await.0, "base/a/set");
}

#[tokio::test]
async fn an_offline_burst_costs_one_publish_per_topic() {
    let broker = Mosquitto::start().await;
    let cut = Cut::in_front_of(broker.address());
    let mut link = open(options(cut.address()));
    settled(&mut link).await;
    cut.sever();
    lost(&mut link, 1).await;
    for n in 0..10_000 {
        link.publish_retained(
            PublishPriority::State,
            topic(&format!("base/d{}", n % 40)),
            n.to_string(),
        );
    }
    assert_eq!((link.stats().queued, link.stats().unacked), (40, 0));
    cut.restore();
    settled(&mut link).await;
    assert_eq!(link.stats().published, 40);
    let retained = broker.retained_under("base/+").await;
    let last = (9_960..10_000).map(|n| (format!("base/d{}", n % 40), n.to_string()));
    assert_eq!(retained, last.collect());
}

#[tokio::test]
async fn a_burst_stays_within_the_credit_and_ends_correctly() {
    let broker = Mosquitto::start().await;
    let mut link = open(options(broker.address()));
    connected(&mut link).await;
    for n in 0..20_000 {
        link.publish_retained(
            PublishPriority::State,
            topic(&format!("base/d{}", n % 200)),
            n.to_string(),
        );
        let stats = link.stats();
        assert!(stats.unacked <= MAX_INFLIGHT && stats.queued <= 200, "{stats:?}");
        if n % 500 == 0 {
            let _ = timeout(CHECK_INTERVAL, link.next_event()).await;
        }
    }
    settled(&mut link).await;
    let retained = broker.retained_under("base/#").await;
    let last = (19_800..20_000).map(|n| (format!("base/d{}", n % 200), n.to_string()));
    assert_eq!(retained, last.collect());
}

#[tokio::test]
async fn one_shots_survive_cuts_or_expire() {
    const MESSAGES: usize = 600;
    let _fast = fast_clocks();
    let broker = Mosquitto::start().await;
    let cut = Cut::in_front_of(broker.address());
    let probe = watched(&broker).await;
    let mut link = open(options(cut.address()));
    settled(&mut link).await;
    for n in 0..MESSAGES {
        link.publish(topic("base/event"), n.to_string(), MINUTE);
        if n % 300 == 200 {
            // With a full in-flight window, with acknowledgements on their way back.
            connected(&mut link).await;
            cut.cut();
            lost(&mut link, n as u64 / 300 + 1).await;
        }
    }
    settled(&mut link).await;
    probe.catch_up().await;
    let numbers: Vec<usize> = probe
        .payloads("base/event")
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let unique: BTreeSet<_> = numbers.iter().copied().collect();
    assert_eq!(unique, (0..MESSAGES).collect());
    assert!(
        numbers.len() - MESSAGES <= 2 * MAX_INFLIGHT,
        "{} came twice",
        numbers.len() - MESSAGES
    );
    assert_eq!((link.stats().expired, link.stats().dropped), (0, 0));

    cut.sever();
    lost(&mut link, 3).await;
    link.publish(topic("base/event"), "too late", Duration::ZERO);
    link.publish(topic("base/event"), "in time", MINUTE);
    cut.restore();
    while_driving(
        &mut link,
        probe.expect("base/event", |payload| payload == "in time"),
    )
    .await;
    probe.catch_up().await;
    assert!(!probe.payloads("base/event").contains(&"too late".to_owned()));
    assert_eq!(link.stats().expired, 1);
}

#[tokio::test]
async fn payloads_that_are_too_large_do_not_break_the_link() {
    let broker = Mosquitto::start().await;
    let probe = watched(&broker).await;
    let mut link = open(options(broker.address()));
    for size in [22_000, 100_000, 1_000_000] {
        link.publish_retained(
            PublishPriority::Discovery,
            topic(&format!("ha/{size}")),
            vec![b'x'; size],
        );
        link.publish(topic(&format!("base/{size}")), vec![b'y'; size], MINUTE);
    }
    link.publish_retained(
        PublishPriority::State,
        topic("base/too-large"),
        vec![b'x'; 2 << 20],
    );
    settled(&mut link).await;
    for size in [22_000, 100_000, 1_000_000] {
        probe
            .expect(&format!("ha/{size}"), |payload| payload.len() == size)
            .await;
        probe
            .expect(&format!("base/{size}"), |payload| payload.len() == size)
            .await;
        probe.publish("base/a/set", vec![b'z'; size]).await;
        assert_eq!(message(&mut link).await.1.len(), size);
    }
    assert_eq!((link.stats().dropped, link.stats().connects), (1, 1));
}

#[tokio::test]
async fn a_retained_command_that_is_too_large_is_explained_once() {
    let _fast = fast_clocks();
    let log = Log::capture();
    let broker = Mosquitto::start().await;
    broker
        .probe()
        .await
        .publish_retained("base/a/set", vec![b'x'; 2 << 20])
        .await;
    let mut link = open(LinkOptions {
        optional_subscriptions: vec![filter("base/bridge/state")],
        ..options(broker.address())
    });
    drive_until(&mut link, "often lost", |stats| stats.losses == 5).await;
    let lines = log.lines();
    let about = |text: &str| {
        lines
            .iter()
            .filter(|line| line.contains(text))
            .collect::<Vec<_>>()
    };
    // The end of each connection whose beginning is logged; later ones are not.
    assert_eq!(about("connected to the MQTT broker").len(), 2, "{lines:#?}");
    assert_eq!(about("lost the connection").len(), 2, "{lines:#?}");
    assert_eq!(
        about("not subscribed to until the next start").len(),
        1,
        "{lines:#?}"
    );
    let explained = about("ends every connection");
    assert_eq!(explained.len(), 1, "{lines:#?}");
    assert!(
        explained[0].contains("base/+/set") && explained[0].contains("20971"),
        "{explained:?}"
    );
}

#[tokio::test]
async fn a_broker_that_stops_reading_is_dropped_and_caught_up_later() {
    let broker = Mosquitto::start().await;
    let cut = Cut::in_front_of(broker.address());
    let mut link = open(impatient(cut.address()));
    link.publish_retained(PublishPriority::BridgeState, topic(STATE), ONLINE);
    settled(&mut link).await;
    cut.black_hole();
    // More than the buffers on the way hold, so that the client hangs in a write.
    for n in 0..200 {
        link.publish_retained(
            PublishPriority::State,
            topic(&format!("base/d{n}")),
            vec![b'x'; 100_000],
        );
    }
    assert_eq!(fault(&mut link).await, LinkFault::Silent);
    assert_eq!((link.stats().unacked, link.stats().queued), (0, 201));
    cut.cut();
    cut.restore();
    settled(&mut link).await;
    assert_eq!(broker.retained_under("base/+").await.len(), 200);
    assert_eq!(broker.retained(STATE).await.as_deref(), Some(ONLINE));
}

#[tokio::test]
async fn a_silent_broker_is_noticed_by_pings() {
    let _fast = fast_clocks();
    let log = Log::capture();
    let broker = Mosquitto::start().await;
    let cut = Cut::in_front_of(broker.address());
    let mut link = open(impatient(cut.address()));
    settled(&mut link).await;
    cut.black_hole();
    assert_eq!(fault(&mut link).await, LinkFault::Silent);
    cut.cut();
    cut.restore();
    connected(&mut link).await;
    // The time that it was silent counts.
    let lines = log.lines();
    let after = lines
        .iter()
        .find_map(|line| line.split("after=\"").nth(1))
        .unwrap();
    let seconds: f32 = after.split(' ').next().unwrap().parse().unwrap();
    assert!(seconds >= 2.0, "{lines:#?}");
}

/// Notices a silent broker after two seconds.
fn impatient(broker: SocketAddr) -> LinkOptions {
    LinkOptions {
        keep_alive: Duration::from_secs(1),
        ..options(broker)
    }
}

/// Publishes more often than the link would ping, until there is a fault. Returns it, and how often that was.
async fn fault_while_publishing(link: &mut Link) -> (LinkFault, usize) {
    let mut pace = interval(Duration::from_millis(300));
    for number in 0.. {
        link.publish(topic("base/event"), number.to_string(), MINUTE);
        select! {
            biased;
            fault = fault(link) => return (fault, number),
            _ = pace.tick() => {}
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_silent_broker_is_noticed_while_much_is_published() {
    let _fast = fast_clocks();
    let broker = Mosquitto::start().await;
    let cut = Cut::in_front_of(broker.address());
    let mut link = open(impatient(cut.address()));
    settled(&mut link).await;
    cut.black_hole();
    let (fault, published) = fault_while_publishing(&mut link).await;
    assert_eq!(fault, LinkFault::Silent);
    assert!(
        published < MAX_INFLIGHT / 2,
        "not before the window is full: {published}"
    );
}

#[tokio::test]
async fn a_missing_acknowledgement_among_others_is_noticed() {
    let _fast = fast_clocks();
    let broker = FaultyBroker::start();
    let mut link = open(LinkOptions {
        keep_alive: Duration::from_secs(1),
        ..options(broker.address)
    });
    connected(&mut link).await;
    let (fault, published) = fault_while_publishing(&mut link).await;
    assert_eq!(fault, LinkFault::Unacknowledged);
    assert!(
        published < MAX_INFLIGHT / 2,
        "the packet id is not used again: {published}"
    );
    settled(&mut link).await;
    assert_eq!(link.stats().dropped, 0);
}

/// How long commands take to the link at the median, while each is answered. They come before the kernel would acknowledge
/// the broker's acknowledgement of the answer.
async fn median_delay(broker: &Mosquitto) -> Duration {
    let mut link = open(options(broker.address()));
    settled(&mut link).await;
    let probe = broker.probe().await;
    let mut pace = interval(Duration::from_millis(20));
    let mut delays = Vec::new();
    for number in 0..49 {
        while_driving(&mut link, pace.tick()).await;
        let sent = Instant::now();
        probe.send("base/a/set", number.to_string()).await;
        message(&mut link).await;
        delays.push(sent.elapsed());
        link.publish(topic("base/a/response"), number.to_string(), MINUTE);
    }
    delays.sort_unstable();
    delays[delays.len() / 2]
}

#[tokio::test]
async fn a_broker_with_nagle_delays_no_command() {
    let (as_shipped, at_once) = (
        Mosquitto::builder().nagle().start().await,
        Mosquitto::start().await,
    );
    let (delay, without) = (median_delay(&as_shipped).await, median_delay(&at_once).await);
    assert!(
        // It would be 40 ms; a busy machine takes some.
        delay < 3 * without + Duration::from_millis(25),
        "{delay:?}, with set_tcp_nodelay {without:?}"
    );
}

#[tokio::test]
async fn a_missing_acknowledgement_reconnects_and_loses_nothing() {
    // More than there are packet ids: the client runs into the one that stays in use.
    const MESSAGES: usize = 1200;
    let _fast = fast_clocks();
    let broker = FaultyBroker::start();
    let mut link = open(LinkOptions {
        keep_alive: Duration::from_secs(1),
        ..options(broker.address)
    });
    connected(&mut link).await;
    let mut events = Vec::new();
    for n in 0..MESSAGES {
        // A burst would fill the queue.
        events.extend(drive_until(&mut link, "room", |stats| stats.queued < MAX_INFLIGHT).await);
        link.publish(topic("base/event"), n.to_string(), MINUTE);
    }
    events.extend(
        drive_until(&mut link, "settled", |stats| {
            stats.connected && stats.queued + stats.unacked == 0
        })
        .await,
    );
    let fault = LinkFault::Unacknowledged;
    assert_eq!(events, [LinkEvent::Down { fault }, LinkEvent::Up]);
    let received = broker
        .received
        .borrow()
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    assert_eq!((0..MESSAGES).collect::<BTreeSet<_>>(), received);
    assert_eq!((link.stats().losses, link.stats().dropped), (1, 0));
}

#[tokio::test]
async fn a_reconnect_logs_one_line_for_each_change() {
    let log = Log::capture();
    let broker = Mosquitto::start().await;
    let cut = Cut::in_front_of(broker.address());
    cut.sever();
    let mut link = open(options(cut.address()));
    assert_eq!(fault(&mut link).await, LinkFault::ClosedBeforeAnswer);
    let quiet = timeout(Duration::from_millis(500), link.next_event()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    cut.restore();
    connected(&mut link).await;
    cut.cut();
    lost(&mut link, 1).await;
    connected(&mut link).await;
    drop(link);
    let lines = log.lines();
    let expected = [
        ("WARN", "cannot connect"),
        ("INFO", "connected to the MQTT broker"),
        ("WARN", "lost the connection"),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (level, text)) in lines.iter().zip(expected) {
        assert!(line.contains(level) && line.contains(text), "{line}");
    }
}

#[tokio::test]
async fn a_refused_login_hides_the_password_and_is_retried_slowly() {
    let broker = Mosquitto::builder()
        .logged()
        .login("bridge", "right")
        .start()
        .await;
    let login = |password: &str| {
        Some(Login {
            username: "bridge".into(),
            password: password.into(),
        })
    };
    let wrong = LinkOptions {
        login: login("wrong-hunter2"),
        ..options(broker.address())
    };
    let mut link = open(wrong);
    let refused = fault(&mut link).await;
    assert!(
        matches!(refused, LinkFault::NotAuthorized | LinkFault::BadCredentials),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("mqtt.password"));
    assert!(!format!("{refused} {:?} {link:?}", link.stats()).contains("hunter2"));
    let repeated = timeout(Duration::from_millis(600), link.next_event()).await;
    assert!(repeated.is_err(), "{repeated:?}");
    let attempts = broker.log().matches("not authorised").count();
    assert_eq!(attempts, 1, "{}", broker.log());

    let right = LinkOptions {
        login: login("right"),
        ..options(broker.address())
    };
    connected(&mut open(right)).await;
}

#[tokio::test]
async fn a_denied_subscription_is_reported_and_the_others_work() {
    let broker = Mosquitto::builder().deny_subscription("base/+/set").start().await;
    let mut link = open(options(broker.address()));
    retain_everything(&mut link);
    let events = drive_until(&mut link, "refused", |stats| stats.refused_subscriptions == 1).await;
    let filter = filter("base/+/set");
    assert_eq!(events.last(), Some(&LinkEvent::SubscriptionRefused { filter }));
    settled(&mut link).await;
    assert_eq!(broker.retained(STATE).await.as_deref(), Some(ONLINE));
    broker.probe().await.publish("base/bridge/request/info", "").await;
    assert_eq!(message(&mut link).await.0, "base/bridge/request/info");
}

#[tokio::test]
async fn a_denied_subscription_is_logged_once() {
    let log = Log::capture();
    let broker = Mosquitto::builder().deny_subscription("base/+/set").start().await;
    let cut = Cut::in_front_of(broker.address());
    let mut link = open(options(cut.address()));
    for connects in 1..=3 {
        drive_until(&mut link, "refused", |stats| {
            (stats.connects, stats.refused_subscriptions) == (connects, 1)
        })
        .await;
        cut.cut();
        lost(&mut link, connects).await;
    }
    let lines = log.lines();
    let denials = lines.iter().filter(|line| line.contains("denies a subscription"));
    assert_eq!(denials.count(), 1, "{lines:#?}");
}

#[tokio::test]
async fn a_denied_subscription_is_tried_again() {
    let broker = FaultyBroker::that_denies_once();
    let mut link = open(options(broker.address));
    drive_until(&mut link, "refused", |stats| stats.refused_subscriptions == 2).await;
    drive_until(&mut link, "granted", |stats| stats.refused_subscriptions == 0).await;
    assert_eq!(link.stats().connects, 1);
}

#[tokio::test]
async fn a_denied_publish_does_not_affect_other_topics() {
    let broker = Mosquitto::builder()
        .acl("topic readwrite #\ntopic deny base/a\n")
        .start()
        .await;
    let mut link = open(options(broker.address()));
    retain_everything(&mut link);
    settled(&mut link).await;
    let retained = broker.retained_under("base/#").await;
    assert!(
        !retained.contains_key("base/a") && retained[STATE] == ONLINE,
        "{retained:?}"
    );
}

#[tokio::test]
async fn filters_change_while_connected() {
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    let mut link = open(options(broker.address()));
    settled(&mut link).await;
    link.subscribe(filter("home/presence"));
    link.unsubscribe(&filter("base/+/set"));
    settled(&mut link).await;
    probe.publish("base/a/set", "ON").await;
    probe.publish("home/presence", "away").await;
    assert_eq!(message(&mut link).await.0, "home/presence");
}

#[tokio::test]
async fn close_publishes_everything_and_then_offline() {
    let broker = Mosquitto::start().await;
    let probe = watched(&broker).await;
    let tasks = Tasks::default();
    let mut link = open_on(&tasks, options(broker.address()));
    retain_everything(&mut link);
    settled(&mut link).await;
    for n in 0..500 {
        link.publish(topic("base/event"), n.to_string(), MINUTE);
    }
    link.publish_retained(PublishPriority::State, topic("base/a"), "last");
    assert_eq!(link.close(OFFLINE, BUDGET).await, ShutdownOutcome::Acknowledged);
    assert!(tasks.wait(BUDGET).await.is_empty());
    probe.catch_up().await;
    assert_eq!(probe.payloads("base/event").len(), 500);
    assert_eq!(probe.last("base/a").as_deref(), Some("last"));
    assert_eq!(probe.payloads(STATE), [ONLINE, OFFLINE], "and no last will");
    assert_eq!(
        topics(&probe)
            .iter()
            .rev()
            .find(|topic| !topic.starts_with("probe/"))
            .unwrap(),
        STATE
    );
    assert_eq!(broker.retained(STATE).await.as_deref(), Some(OFFLINE));
}

#[tokio::test]
async fn a_dropped_link_leaves_its_last_will() {
    let broker = Mosquitto::start().await;
    let probe = watched(&broker).await;
    let tasks = Tasks::default();
    let mut link = open_on(&tasks, options(broker.address()));
    retain_everything(&mut link);
    settled(&mut link).await;
    drop(link);
    probe.expect(STATE, |payload| payload == WILL).await;
    assert!(tasks.wait(BUDGET).await.is_empty());
}

/// A link without a connection does not wait.
async fn closes_at_once(link: Link, tasks: &Tasks) {
    let start = Instant::now();
    assert_eq!(link.close(OFFLINE, BUDGET).await, ShutdownOutcome::NotConnected);
    assert!(tasks.wait(BUDGET).await.is_empty());
    let took = start.elapsed();
    assert!(took < BUDGET / 2, "{took:?}");
}

#[tokio::test]
async fn a_close_without_a_broker_takes_no_time() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let tasks = Tasks::default();
    let mut link = open_on(&tasks, options(unused));
    retain_everything(&mut link);
    assert_eq!(fault(&mut link).await, LinkFault::ConnectionRefused);
    closes_at_once(link, &tasks).await;
}

#[tokio::test]
async fn a_close_in_the_middle_of_a_connect_takes_no_time() {
    // Accepts, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tasks = Tasks::default();
    let link = open_on(&tasks, options(silent.local_addr().unwrap()));
    let _connection = silent.accept().await.unwrap();
    closes_at_once(link, &tasks).await;
}

#[tokio::test]
async fn close_on_a_hanging_broker_times_out_with_the_last_will() {
    let broker = Mosquitto::start().await;
    let cut = Cut::in_front_of(broker.address());
    let probe = watched(&broker).await;
    let tasks = Tasks::default();
    let mut link = open_on(&tasks, options(cut.address()));
    retain_everything(&mut link);
    settled(&mut link).await;
    cut.black_hole();
    let (start, budget) = (Instant::now(), Duration::from_secs(1));
    assert_eq!(link.close(OFFLINE, budget).await, ShutdownOutcome::TimedOut);
    assert!(tasks.wait(BUDGET).await.is_empty());
    assert!(start.elapsed() < 2 * budget, "{:?}", start.elapsed());
    cut.cut();
    probe.expect(STATE, |payload| payload == WILL).await;
}

#[tokio::test]
async fn fifty_short_sessions_all_end_offline() {
    let broker = Mosquitto::start().await;
    let tasks = Tasks::default();
    for session in 0..50 {
        let state = topic(&format!("base/n{session}/state"));
        let mut session_options = options(broker.address());
        session_options.will.topic = state.clone();
        let mut link = open_on(&tasks, session_options);
        link.publish_retained(PublishPriority::BridgeState, state, ONLINE);
        for device in 0..50 {
            link.publish_retained(
                PublishPriority::State,
                topic(&format!("base/n{session}/d{device}")),
                "x",
            );
        }
        // Some sessions end as soon as they are connected, some when everything is published.
        connected(&mut link).await;
        if session % 2 == 0 {
            settled(&mut link).await;
        }
        assert_eq!(
            link.close(OFFLINE, BUDGET).await,
            ShutdownOutcome::Acknowledged,
            "{session}"
        );
    }
    assert!(tasks.wait(BUDGET).await.is_empty());
    let retained = broker.retained_under("base/+/state").await;
    assert_eq!(retained.len(), 50);
    assert!(
        retained.values().all(|payload| payload == OFFLINE),
        "{retained:?}"
    );
    assert_eq!(broker.retained_under("base/+/+").await.len(), 50 * 51);
}

#[tokio::test]
async fn a_slow_owner_applies_backpressure_and_loses_nothing() {
    const MESSAGES: usize = 3000;
    let broker = Mosquitto::start().await;
    let probe = broker.probe().await;
    let mut link = open(options(broker.address()));
    settled(&mut link).await;
    for n in 0..MESSAGES {
        probe.publish("base/a/set", n.to_string()).await;
    }
    for n in 0..MESSAGES {
        assert_eq!(message(&mut link).await.1, n.to_string());
    }
    assert_eq!(link.stats().connects, 1);
}

#[tokio::test]
async fn a_taken_client_id_is_suspected() {
    let _fast = fast_clocks();
    let broker = Mosquitto::start().await;
    let mine = options(broker.address());
    let mut link = open(mine.clone());
    connected(&mut link).await;
    // As most clients do, it comes back at once.
    let Broker { host, port } = mine.brokers[0].clone();
    let (_client, mut other) = AsyncClient::builder(MqttOptions::new(mine.client_id, (host, port))).build();
    let rival = async {
        loop {
            let _ = other.poll().await;
        }
    };
    let suspect = async { while fault(&mut link).await != LinkFault::ClientIdTaken {} };
    select! {
        () = suspect => {}
        () = rival => unreachable!(),
    }
    assert!(LinkFault::ClientIdTaken.to_string().contains("mqtt.client_id"));
}

fn tls(address: SocketAddr, authorities: Authorities, client: Option<(PathBuf, PathBuf)>) -> LinkOptions {
    let client = client.map(|(certificate, key)| ClientCertificate { certificate, key });
    LinkOptions {
        transport: Transport::Tls(Tls { authorities, client }),
        ..options(SocketAddr::new(address.ip(), TLS_PORT))
    }
}

#[tokio::test]
async fn tls_trusts_the_given_authority_and_no_other() {
    let broker = Mosquitto::builder()
        .tls(ClientCertificates::Ignored)
        .start()
        .await;
    let authority = || Authorities::File(broker.authority());
    let mut link = open(tls(broker.address(), authority(), None));
    retain_everything(&mut link);
    settled(&mut link).await;
    assert_eq!(broker.retained(STATE).await.as_deref(), Some(ONLINE));
    assert_eq!(link.close(OFFLINE, BUDGET).await, ShutdownOutcome::Acknowledged);
    assert_eq!(broker.retained(STATE).await.as_deref(), Some(OFFLINE));

    let other = Mosquitto::builder()
        .tls(ClientCertificates::Ignored)
        .start()
        .await;
    let mut link = open(tls(other.address(), authority(), None));
    assert_eq!(fault(&mut link).await, LinkFault::UnknownAuthority);
    let wire = Cut::in_front_of(SocketAddr::new(broker.address().ip(), TLS_PORT));
    let unlisted = Broker {
        host: "localhost".into(),
        port: wire.address().port(),
    };
    let mut options = tls(broker.address(), authority(), None);
    // Each broker has to show a certificate for its own name.
    options.brokers.insert(0, unlisted);
    let mut link = open(options);
    assert_eq!(fault(&mut link).await, LinkFault::CertificateName);
    connected(&mut link).await;
}

#[tokio::test]
async fn a_client_certificate_is_presented_when_required() {
    let broker = Mosquitto::builder()
        .tls(ClientCertificates::Required)
        .start()
        .await;
    let authority = || Authorities::File(broker.authority());
    connected(&mut open(tls(
        broker.address(),
        authority(),
        Some(broker.client_certificate()),
    )))
    .await;
    let mut link = open(tls(broker.address(), authority(), None));
    let refused = fault(&mut link).await;
    assert!(matches!(refused, LinkFault::TlsRefused(_)), "{refused:?}");
}

#[tokio::test]
async fn tls_and_plain_tcp_are_distinguished() {
    let broker = Mosquitto::builder()
        .tls(ClientCertificates::Ignored)
        .start()
        .await;
    let plain_to_tls = options(SocketAddr::new(broker.address().ip(), TLS_PORT));
    let refused = fault(&mut open(plain_to_tls)).await;
    assert!(refused.to_string().contains("TLS"), "{refused:?}");
    let tls_to_plain = LinkOptions {
        brokers: vec![broker_at(broker.address())],
        ..tls(broker.address(), Authorities::File(broker.authority()), None)
    };
    assert_eq!(fault(&mut open(tls_to_plain)).await, LinkFault::NotTls);
}

#[tokio::test]
async fn an_unknown_host_and_bad_files_are_named() {
    let nowhere = LinkOptions {
        brokers: vec![Broker {
            host: "no such host".into(),
            port: 1,
        }],
        ..options("127.0.0.1:1".parse().unwrap())
    };
    assert_eq!(fault(&mut open(nowhere)).await, LinkFault::UnknownHost);
    let missing = Authorities::File("/nonexistent/ca.crt".into());
    let bad = tls("127.0.0.1:1".parse().unwrap(), missing, None);
    let why = Link::open(bad).unwrap_err().to_string();
    assert!(
        why.contains("/nonexistent/ca.crt") && why.contains("No such file"),
        "{why}"
    );
}
