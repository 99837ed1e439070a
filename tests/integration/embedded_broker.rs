//! The broker of `demo`, seen by clients of other projects: rumqttc (MQTT 3.1.1) and Mosquitto's
//! command line (3.1.1 and 5, Debian package mosquitto-clients).

use std::{
    collections::BTreeSet,
    future::Future,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Stdio,
    time::{Duration, Instant},
};

use rumqttc::{
    AsyncClient, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Packet, Publish, PublishOptions,
    QoS,
};
use tapo2mqtt::{
    demo::broker::{BrokerError, EmbeddedBroker},
    system::tasks::Tasks,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

const MEBIBYTE: usize = 1024 * 1024;
const CONNECT_311: &[u8] = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab";
const CONNECT_5: &[u8] = b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02ab";
const PATIENCE: Duration = Duration::from_secs(10);
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Fails the test that waits for what never comes.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

async fn start() -> EmbeddedBroker {
    EmbeddedBroker::start(ANY_PORT, &Tasks::default()).await.unwrap()
}

/// A rumqttc client that is polled in the background. Dropped, it vanishes without a DISCONNECT.
struct Client {
    mqtt: AsyncClient,
    packets: mpsc::UnboundedReceiver<Packet>,
    driver: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    async fn connect(broker: SocketAddr, id: &str) -> Self {
        Self::connect_with(broker, id, |_| ()).await
    }

    async fn connect_with(broker: SocketAddr, id: &str, change: impl FnOnce(&mut MqttOptions)) -> Self {
        let mut options = MqttOptions::new(id, (broker.ip().to_string(), broker.port()));
        options.set_max_packet_size(2 * MEBIBYTE, 2 * MEBIBYTE);
        change(&mut options);
        let (mqtt, mut events) = AsyncClient::builder(options).capacity(1000).build();
        // An acknowledgement after a message would wait 40 ms for the peer's delayed ACK.
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let (sender, packets) = mpsc::unbounded_channel();
        let driver = Tasks::default().spawn(id, drive(events, sender));
        let mut client = Self {
            mqtt,
            packets,
            driver,
        };
        client
            .expect("the CONNACK", |packet| {
                matches!(packet, Packet::ConnAck(_)).then_some(())
            })
            .await;
        client
    }

    /// The next packet of a kind; others are skipped.
    async fn expect<T>(&mut self, what: &str, pick: impl Fn(Packet) -> Option<T>) -> T {
        soon(what, async {
            loop {
                let packet = self
                    .packets
                    .recv()
                    .await
                    .unwrap_or_else(|| panic!("connection lost before {what}"));
                if let Some(found) = pick(packet) {
                    return found;
                }
            }
        })
        .await
    }

    async fn message(&mut self) -> Publish {
        self.expect("a message", |packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        })
        .await
    }

    async fn subscribe(&mut self, filter: &str) {
        self.mqtt.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        self.expect("the SUBACK", |packet| {
            matches!(packet, Packet::SubAck(_)).then_some(())
        })
        .await;
    }

    async fn acknowledged(&mut self) {
        self.expect("a PUBACK", |packet| {
            matches!(packet, Packet::PubAck(_)).then_some(())
        })
        .await;
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    async fn publish(&mut self, topic: &str, retain: bool, payload: impl Into<Vec<u8>>) {
        self.mqtt
            .publish(
                topic,
                payload.into(),
                PublishOptions::at_least_once().retain(retain),
            )
            .await
            .unwrap();
        self.acknowledged().await;
    }

    /// The broker closed the connection.
    async fn closed(&mut self) {
        soon("the end of the connection", async {
            while self.packets.recv().await.is_some() {}
        })
        .await;
    }
}

/// Ends with the connection: polling on would open a new one.
async fn drive(mut events: EventLoop, packets: mpsc::UnboundedSender<Packet>) {
    while let Ok(event) = events.poll().await {
        if let Event::Incoming(packet) = event
            && packets.send(packet).is_err()
        {
            return;
        }
    }
}

/// `mosquitto_sub` or `mosquitto_pub`, as the broker's address and the protocol version want it.
fn mosquitto(program: &str, broker: SocketAddr, version: &str, arguments: &[&str]) -> Command {
    let (host, port) = (broker.ip().to_string(), broker.port().to_string());
    let mut command = Command::new(program);
    command
        .args(["-h", &host, "-p", &port, "-V", version, "-q", "1"])
        .args(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a `mosquitto_*` that ends by itself printed.
async fn output(mut command: Command) -> String {
    let output = soon("the end of a mosquitto client", command.output())
        .await
        .unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A `mosquitto_sub` whose subscription stands.
struct Listener {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Listener {
    async fn start(broker: SocketAddr, version: &str, topic: &str, format: &str) -> Self {
        // Retained on a topic of its own and subscribed last, it is the first line, and shows that both
        // subscriptions stand.
        let marker = format!("marker/{version}/{topic}");
        Client::connect(broker, "marker")
            .await
            .publish(&marker, true, "here")
            .await;
        let arguments = ["-t", topic, "-t", &marker, "-F", format];
        let mut child = mosquitto("mosquitto_sub", broker, version, &arguments)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut this = Self { lines, _child: child };
        assert!(this.line().await.contains("here"));
        this
    }

    async fn line(&mut self) -> String {
        let line = soon("a line of mosquitto_sub", self.lines.next_line())
            .await
            .unwrap();
        line.expect("mosquitto_sub ended")
    }
}

#[tokio::test]
async fn a_wildcard_subscriber_gets_300_retained_messages() {
    let broker = start().await;
    let mut publisher = Client::connect(broker.address(), "publisher").await;
    let topics: BTreeSet<String> = (0..300).map(|n| format!("base/device-{n}/state")).collect();
    for topic in &topics {
        publisher
            .mqtt
            .publish(topic, "x".repeat(500), PublishOptions::at_least_once().retained())
            .await
            .unwrap();
    }
    for _ in &topics {
        publisher.acknowledged().await;
    }

    let mut subscriber = Client::connect(broker.address(), "subscriber").await;
    subscriber
        .mqtt
        .subscribe("base/#", QoS::AtLeastOnce)
        .await
        .unwrap();
    let mut received = BTreeSet::new();
    for _ in &topics {
        let message = subscriber.message().await;
        assert!(message.retain);
        received.insert(String::from_utf8_lossy(&message.topic).into_owned());
    }
    assert_eq!(received, topics);

    for version in ["mqttv5", "mqttv311"] {
        let arguments = ["-t", "base/#", "-C", "300", "-F", "%t %r"];
        let printed = output(mosquitto("mosquitto_sub", broker.address(), version, &arguments)).await;
        let printed: BTreeSet<&str> = printed
            .lines()
            .filter_map(|line| line.strip_suffix(" 1"))
            .collect();
        assert!(printed.iter().eq(&topics), "{version}: {} topics", printed.len());
    }
}

#[tokio::test]
async fn the_last_will_is_published_and_kept_when_a_client_vanishes() {
    let broker = start().await;
    let will = |options: &mut MqttOptions| {
        options.set_last_will(LastWill::new("bridge/state", "offline", QoS::AtLeastOnce, true));
    };
    let mut watcher = Client::connect(broker.address(), "watcher").await;
    watcher.subscribe("bridge/state").await;
    let mut bridge = Client::connect_with(broker.address(), "bridge", will).await;
    bridge.publish("bridge/state", true, "online").await;
    assert_eq!(watcher.message().await.payload, "online");
    drop(bridge);
    assert_eq!(watcher.message().await.payload, "offline");

    let mut late = Client::connect(broker.address(), "late").await;
    late.subscribe("bridge/state").await;
    let kept = late.message().await;
    assert_eq!(
        (kept.payload.as_ref(), kept.retain),
        (b"offline".as_slice(), true)
    );
}

#[tokio::test]
async fn a_client_that_disconnects_leaves_no_last_will() {
    let broker = start().await;
    let will = |options: &mut MqttOptions| {
        options.set_last_will(LastWill::new("will", "offline", QoS::AtLeastOnce, true));
    };
    let mut watcher = Client::connect(broker.address(), "watcher").await;
    watcher.subscribe("will").await;
    let mut polite = Client::connect_with(broker.address(), "polite", will).await;
    polite.mqtt.disconnect().await.unwrap();
    polite.closed().await;
    // Same id: the broker is through with the old session before it greets the new one.
    Client::connect(broker.address(), "polite")
        .await
        .publish("will", false, "none")
        .await;
    assert_eq!(watcher.message().await.payload, "none");
}

#[tokio::test]
async fn qos_1_is_kept_both_ways() {
    let broker = start().await;
    let mut subscriber = Client::connect(broker.address(), "subscriber").await;
    subscriber.subscribe("order/+").await;
    let mut publisher = Client::connect(broker.address(), "publisher").await;
    for n in 0..200 {
        publisher
            .mqtt
            .publish("order/n", n.to_string(), PublishOptions::at_least_once())
            .await
            .unwrap();
    }
    for _ in 0..200 {
        publisher.acknowledged().await;
    }
    for n in 0..200 {
        let message = subscriber.message().await;
        assert_eq!(
            (message.qos, message.payload),
            (QoS::AtLeastOnce, n.to_string().into())
        );
    }
}

#[tokio::test]
async fn a_session_that_was_away_gets_what_it_missed() {
    let broker = start().await;
    let keep = |options: &mut MqttOptions| {
        options.set_clean_session(false);
    };
    let mut subscriber = Client::connect_with(broker.address(), "sleeper", keep).await;
    subscriber.subscribe("missed").await;
    subscriber.mqtt.disconnect().await.unwrap();
    subscriber.closed().await;
    Client::connect(broker.address(), "publisher")
        .await
        .publish("missed", false, "this")
        .await;
    let mut subscriber = Client::connect_with(broker.address(), "sleeper", keep).await;
    assert_eq!(subscriber.message().await.payload, "this");
}

#[tokio::test]
async fn versions_3_and_5_talk_to_each_other_on_one_port() {
    let broker = start().await;
    let address = broker.address();
    let mut client = Client::connect(address, "rumqttc").await;
    client.subscribe("to/rumqttc").await;
    for version in ["mqttv5", "mqttv311"] {
        let arguments = ["-t", "to/rumqttc", "-m", version];
        output(mosquitto("mosquitto_pub", address, version, &arguments)).await;
        assert_eq!(client.message().await.payload, version);

        let topic = format!("from/rumqttc/{version}");
        let mut listener = Listener::start(address, version, &topic, "%q %r %p").await;
        client.publish(&topic, false, "hello").await;
        assert_eq!(listener.line().await, "1 0 hello");
    }
}

#[tokio::test]
async fn properties_of_version_5_pass_through() {
    let broker = start().await;
    let mut listener = Listener::start(broker.address(), "mqttv5", "v5", "%R %D %C %P %p").await;
    let properties = [
        "response-topic answer",
        "correlation-data 42",
        "content-type text",
        "user-property k v",
    ];
    let mut arguments = vec!["-t", "v5", "-m", "hello"];
    for property in &properties {
        arguments.extend(["-D", "publish"]);
        arguments.extend(property.split(' '));
    }
    output(mosquitto("mosquitto_pub", broker.address(), "mqttv5", &arguments)).await;
    let line = listener.line().await;
    assert!(
        line.starts_with("answer 42 text k:v") && line.ends_with(" hello"),
        "{line}"
    );
}

#[tokio::test]
async fn a_retained_payload_of_200_kilobytes_arrives_whole() {
    let broker = start().await;
    let payload = "0123456789".repeat(20_000);
    let mut publisher = Client::connect(broker.address(), "publisher").await;
    publisher.publish("large", true, payload.clone()).await;
    let mut subscriber = Client::connect(broker.address(), "subscriber").await;
    subscriber.subscribe("large").await;
    assert_eq!(subscriber.message().await.payload, payload);
    for version in ["mqttv5", "mqttv311"] {
        let arguments = ["-t", "large", "-C", "1", "-N"];
        assert_eq!(
            output(mosquitto("mosquitto_sub", broker.address(), version, &arguments)).await,
            payload
        );
    }
}

#[tokio::test]
async fn an_empty_retained_payload_clears_the_topic() {
    let broker = start().await;
    let mut client = Client::connect(broker.address(), "client").await;
    client.publish("cleared/a", true, "old").await;
    client.publish("cleared/a", true, "").await;
    client.publish("cleared/b", true, "kept").await;
    client.subscribe("cleared/#").await;
    assert_eq!(client.message().await.topic, "cleared/b");
}

#[tokio::test]
async fn a_packet_over_one_mebibyte_disconnects_its_sender_only() {
    let broker = start().await;
    let mut other = Client::connect(broker.address(), "other").await;
    let mut sender = Client::connect(broker.address(), "sender").await;
    sender
        .mqtt
        .publish(
            "huge",
            vec![0; MEBIBYTE + 1],
            PublishOptions::at_least_once().retained(),
        )
        .await
        .unwrap();
    sender.closed().await;
    other.publish("small", false, "x").await;
}

/// paho-mqtt, and with it Home Assistant, gives up on a CONNACK that announces more than MQTT allows.
#[tokio::test]
async fn the_maximum_packet_size_of_version_5_is_one_mebibyte() {
    const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    let broker = start().await;
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    stream.write_all(CONNECT_5).await.unwrap();
    let mut head = [0; 2];
    soon("the CONNACK", stream.read_exact(&mut head)).await.unwrap();
    let mut connack = vec![0; head[1].into()];
    soon("the rest of it", stream.read_exact(&mut connack))
        .await
        .unwrap();
    let property = [&[MAXIMUM_PACKET_SIZE], 1_048_576_u32.to_be_bytes().as_slice()].concat();
    assert_eq!(head[0], 0x20);
    assert!(
        connack.windows(5).any(|bytes| bytes == property),
        "{connack:02x?}"
    );
}

#[tokio::test]
async fn malformed_packets_harm_no_other_client() {
    let broker = start().await;
    let mut other = Client::connect(broker.address(), "other").await;
    other.subscribe("alive").await;
    for (number, bytes) in malformed().into_iter().enumerate() {
        let mut stream = TcpStream::connect(broker.address()).await.unwrap();
        // The broker may have closed already; that is what it should do.
        stream.write_all(&bytes).await.ok();
        stream.shutdown().await.ok();
        soon("the broker to hang up", drain(&mut stream)).await;
        other.publish("alive", false, number.to_string()).await;
        assert_eq!(other.message().await.payload, number.to_string());
    }
}

async fn drain(stream: &mut TcpStream) {
    let mut buffer = [0; 256];
    while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
}

/// Broken bytes alone, and after a good CONNECT of each version.
fn malformed() -> Vec<Vec<u8>> {
    let broken: [&[u8]; 18] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00",
        b"\xf0\x00",
        b"\xff\xff\xff\xff\xff\xff",
        // A length that never ends, and one that promises 256 MiB.
        b"\x30\x80\x80\x80\x80\x01",
        b"\x30\xff\xff\xff\x7f\x00\x01a",
        // CONNECT: no protocol, an unknown version, a will flag without a will, a cut client id.
        b"\x10\x00",
        b"\x10\x0e\x00\x04MQTT\x63\x02\x00\x3c\x00\x02ab",
        b"\x10\x0e\x00\x04MQTT\x04\x06\x00\x3c\x00\x02ab",
        b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\xff\xffab",
        // PUBLISH: empty, a topic longer than the packet, not UTF-8, a wildcard, QoS 3, packet id 0.
        b"\x30\x00",
        b"\x30\x03\x00\xffa",
        b"\x30\x04\x00\x02\xc3\x28",
        b"\x30\x05\x00\x03a/#",
        b"\x36\x05\x00\x01a\x00\x01",
        b"\x32\x05\x00\x01a\x00\x00",
        // SUBSCRIBE: no filter, a wildcard in the wrong place.
        b"\x82\x02\x00\x01",
        b"\x82\x08\x00\x01\x00\x03a#b\x01",
    ];
    let after = |greeting: &[u8]| broken.map(|bytes| [greeting, bytes].concat());
    [after(b""), after(CONNECT_311), after(CONNECT_5)].concat()
}

#[tokio::test]
async fn a_stop_ends_connections_and_frees_the_port() {
    let tasks = Tasks::default();
    let first = EmbeddedBroker::start(ANY_PORT, &tasks).await.unwrap();
    let address = first.address();
    let mut client = Client::connect(address, "client").await;
    client.publish("before", true, "x").await;
    let _silent = TcpStream::connect(address).await.unwrap();

    let began = Instant::now();
    first.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    client.closed().await;
    assert_eq!(
        TcpStream::connect(address).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );

    let second = EmbeddedBroker::start(address, &tasks).await.unwrap();
    assert_eq!(second.address(), address);
    let mut client = Client::connect(address, "client").await;
    client.subscribe("before").await;
    client.publish("after", false, "y").await;
    second.stop().await;
    assert!(tasks.wait(PATIENCE).await.is_empty());
}

#[tokio::test]
async fn a_dropped_broker_stops() {
    let tasks = Tasks::default();
    let broker = EmbeddedBroker::start(ANY_PORT, &tasks).await.unwrap();
    let mut client = Client::connect(broker.address(), "client").await;
    drop(broker);
    client.closed().await;
    assert!(tasks.wait(PATIENCE).await.is_empty());
}

#[tokio::test]
async fn two_brokers_in_one_process_share_nothing() {
    let (one, other) = (start().await, start().await);
    Client::connect(one.address(), "client")
        .await
        .publish("shared", true, "one")
        .await;
    let mut client = Client::connect(other.address(), "client").await;
    client.subscribe("shared").await;
    client.publish("shared", false, "other").await;
    assert_eq!(client.message().await.payload, "other");
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_ways_out() {
    let broker = start().await;
    let error = EmbeddedBroker::start(broker.address(), &Tasks::default())
        .await
        .unwrap_err();
    assert!(matches!(error, BrokerError::PortInUse { address } if address == broker.address()));
    let text = error.to_string();
    let port = format!("port {} on 127.0.0.1", broker.address().port());
    assert!(
        [port.as_str(), "--port N", "--no-broker"]
            .iter()
            .all(|part| text.contains(part)),
        "{text}"
    );
}

#[tokio::test]
async fn an_address_of_another_machine_is_refused() {
    // 192.0.2.0/24 is for documentation (RFC 5737): no machine has it.
    let address = SocketAddr::from(([192, 0, 2, 1], 0));
    let error = EmbeddedBroker::start(address, &Tasks::default())
        .await
        .unwrap_err();
    assert!(matches!(error, BrokerError::Listen { .. }), "{error}");
}
