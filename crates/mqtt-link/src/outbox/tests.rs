use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use proptest::prelude::*;
use rumqttc::QoS;

use super::*;
use crate::queue::{MAX_BYTES, MAX_MESSAGES};

const GRANTED: SubscribeReasonCode = SubscribeReasonCode::Success(QoS::AtLeastOnce);
const REFUSED: SubscribeReasonCode = SubscribeReasonCode::Failure;

fn topic(name: &str) -> Topic {
    name.parse().unwrap()
}

fn filter(name: &str) -> Filter {
    name.parse().unwrap()
}

fn later(now: Instant) -> Instant {
    now + Duration::from_mins(1)
}

/// The published messages, as `topic=payload`.
fn published(requests: &[Request]) -> Vec<String> {
    let text = |request: &Request| match request {
        Request::Publish { topic, payload, .. } => format!("{topic}={}", String::from_utf8_lossy(payload)),
        other => format!("{other:?}"),
    };
    requests.iter().map(text).collect()
}

fn kind(request: &Request) -> RequestKind {
    match request {
        Request::Publish { .. } => RequestKind::Publish,
        Request::Subscribe(_) | Request::Unsubscribe(_) => RequestKind::Subscription,
    }
}

/// All requests that the outbox has now.
fn next_requests(outbox: &mut Outbox) -> Vec<Request> {
    let now = Instant::now();
    std::iter::from_fn(|| outbox.next_request(now)).collect()
}

/// Sends and acknowledges until the outbox is empty; returns the published messages.
fn deliver_all(outbox: &mut Outbox) -> Vec<String> {
    let mut all = Vec::new();
    let mut id = 0;
    loop {
        let requests = next_requests(outbox);
        if requests.is_empty() {
            return all;
        }
        for request in &requests {
            id += 1;
            outbox.on_sent(kind(request), id).unwrap();
            match request {
                Request::Subscribe(filters) => {
                    assert!(refused(outbox.on_suback(id, &vec![GRANTED; filters.len()])).is_empty());
                }
                Request::Unsubscribe(_) | Request::Publish { .. } => outbox.on_acknowledged(id),
            }
        }
        all.extend(published(&requests));
    }
}

fn connected_outbox() -> Outbox {
    let mut outbox = Outbox::new(Vec::new());
    outbox.on_connected();
    outbox
}

/// The filters that were not granted.
fn refused(answered: Vec<(Filter, bool)>) -> Vec<Filter> {
    let refused = answered.into_iter().filter(|(_, is_granted)| !is_granted);
    refused.map(|(filter, _)| filter).collect()
}

#[test]
fn the_replay_waits_for_subscriptions_and_follows_priorities() {
    let mut outbox = Outbox::new(vec![filter("a/+/set"), filter("b/#")]);
    outbox.publish(topic("response"), "1".into(), later(Instant::now()));
    outbox.publish_retained(PublishPriority::BridgeState, topic("a/state"), "online".into());
    outbox.publish_retained(PublishPriority::Availability, topic("b"), "up".into());
    outbox.publish_retained(PublishPriority::State, topic("c"), "on".into());
    outbox.publish_retained(PublishPriority::Discovery, topic("d"), "{}".into());
    outbox.publish_retained(PublishPriority::BridgeDiscovery, topic("e"), "{}".into());
    assert!(next_requests(&mut outbox).is_empty(), "no connection");
    for connection in 0..2 {
        outbox.on_connected();
        let subscribe = [Request::Subscribe(vec![filter("a/+/set"), filter("b/#")])];
        assert_eq!(next_requests(&mut outbox), subscribe, "{connection}");
        outbox.on_sent(RequestKind::Subscription, 1).unwrap();
        assert!(next_requests(&mut outbox).is_empty(), "no SUBACK yet");
        assert_eq!(refused(outbox.on_suback(1, &[GRANTED, REFUSED])), [filter("b/#")]);
        let replay = ["e={}", "d={}", "c=on", "b=up", "a/state=online", "response=1"];
        assert_eq!(published(&next_requests(&mut outbox)), replay, "{connection}");
    }
}

#[test]
fn subscriptions_are_split_and_a_missing_code_is_a_refusal() {
    let filters: Vec<_> = (0..10).map(|n| filter(&format!("f/{n}"))).collect();
    let mut outbox = Outbox::new(filters.clone());
    outbox.on_connected();
    assert_eq!(next_requests(&mut outbox).len(), 2);
    outbox.on_sent(RequestKind::Subscription, 1).unwrap();
    outbox.on_sent(RequestKind::Subscription, 2).unwrap();
    assert!(refused(outbox.on_suback(1, &[GRANTED; 8])).is_empty());
    assert_eq!(refused(outbox.on_suback(2, &[GRANTED])), filters[9..]);
}

#[test]
fn filters_change_while_connected_and_disconnected() {
    let mut outbox = Outbox::new(vec![filter("a")]);
    outbox.subscribe(filter("b"));
    outbox.unsubscribe(&filter("a"));
    outbox.on_connected();
    assert_eq!(
        next_requests(&mut outbox),
        [Request::Subscribe(vec![filter("b")])]
    );
    outbox.on_sent(RequestKind::Subscription, 1).unwrap();
    outbox.on_suback(1, &[GRANTED]);
    outbox.subscribe(filter("b"));
    outbox.unsubscribe(&filter("unknown"));
    assert!(outbox.is_empty());
    outbox.subscribe(filter("c"));
    outbox.unsubscribe(&filter("b"));
    let changes = [
        Request::Subscribe(vec![filter("c")]),
        Request::Unsubscribe(filter("b")),
    ];
    assert_eq!(next_requests(&mut outbox), changes);
    deliver_all(&mut outbox);
    outbox.on_connected();
    assert_eq!(
        next_requests(&mut outbox),
        [Request::Subscribe(vec![filter("c")])]
    );
}

#[test]
fn an_equal_payload_is_not_published_again() {
    let mut outbox = connected_outbox();
    for _ in 0..3 {
        outbox.publish_retained(PublishPriority::State, topic("a"), "1".into());
    }
    assert_eq!(deliver_all(&mut outbox), ["a=1"]);
    outbox.publish_retained(PublishPriority::State, topic("a"), "1".into());
    assert!(outbox.is_empty());
}

#[test]
fn large_payloads_wait_for_those_in_flight() {
    let mut outbox = connected_outbox();
    let large = "x".repeat(MAX_INFLIGHT_BYTES / 2);
    for name in ["a", "b", "c"] {
        outbox.publish_retained(PublishPriority::State, topic(name), large.clone().into());
    }
    assert_eq!(next_requests(&mut outbox).len(), 2);
    outbox.on_sent(RequestKind::Publish, 1).unwrap();
    outbox.on_sent(RequestKind::Publish, 2).unwrap();
    assert!(next_requests(&mut outbox).is_empty());
    outbox.on_acknowledged(1);
    assert_eq!(published(&next_requests(&mut outbox)), [format!("c={large}")]);
    outbox.on_disconnected(ConnectionLoss::Other);
    outbox.on_connected();
    assert_eq!(deliver_all(&mut outbox).len(), 3);
}

#[test]
fn only_the_latest_payload_follows_the_one_in_flight() {
    let mut outbox = connected_outbox();
    outbox.publish_retained(PublishPriority::State, topic("a"), "1".into());
    assert_eq!(published(&next_requests(&mut outbox)), ["a=1"]);
    outbox.on_sent(RequestKind::Publish, 1).unwrap();
    outbox.publish_retained(PublishPriority::State, topic("a"), "2".into());
    outbox.publish_retained(PublishPriority::State, topic("a"), "3".into());
    assert!(next_requests(&mut outbox).is_empty());
    outbox.on_acknowledged(1);
    assert_eq!(published(&next_requests(&mut outbox)), ["a=3"]);
    outbox.on_sent(RequestKind::Publish, 2).unwrap();
    // Changed and changed back while in flight: nothing is left to publish.
    outbox.publish_retained(PublishPriority::State, topic("a"), "4".into());
    outbox.publish_retained(PublishPriority::State, topic("a"), "3".into());
    outbox.on_acknowledged(2);
    assert!(outbox.is_empty());
}

#[test]
fn a_cleared_topic_is_removed_once_acknowledged() {
    let mut outbox = connected_outbox();
    outbox.publish_retained(PublishPriority::Discovery, topic("a"), "1".into());
    deliver_all(&mut outbox);
    outbox.clear_retained(topic("a"));
    outbox.clear_retained(topic("never/set"));
    assert_eq!(next_requests(&mut outbox).len(), 2);
    outbox.on_connected();
    assert_eq!(
        deliver_all(&mut outbox),
        ["a=", "never/set="],
        "the broker may not have received them"
    );
    outbox.on_connected();
    assert!(outbox.is_empty());
}

#[test]
fn a_cleared_topic_is_cleared_again_only_after_one_in_flight() {
    let mut outbox = connected_outbox();
    outbox.publish_retained(PublishPriority::Discovery, topic("a"), "1".into());
    deliver_all(&mut outbox);
    outbox.mark_cleared(topic("a"));
    assert!(outbox.is_empty());

    outbox.publish_retained(PublishPriority::Discovery, topic("a"), "2".into());
    assert_eq!(next_requests(&mut outbox).len(), 1);
    outbox.on_sent(RequestKind::Publish, 1).unwrap();
    outbox.mark_cleared(topic("a"));
    outbox.on_acknowledged(1);
    assert_eq!(deliver_all(&mut outbox), ["a="]);
}

#[test]
fn a_payload_set_while_the_clear_is_in_flight_wins() {
    let mut outbox = connected_outbox();
    outbox.clear_retained(topic("a"));
    assert_eq!(next_requests(&mut outbox).len(), 1);
    outbox.on_sent(RequestKind::Publish, 1).unwrap();
    outbox.publish_retained(PublishPriority::State, topic("a"), "1".into());
    outbox.on_acknowledged(1);
    assert_eq!(deliver_all(&mut outbox), ["a=1"]);
}

#[test]
fn one_shots_in_flight_are_sent_again_in_order() {
    let (mut outbox, now) = (connected_outbox(), Instant::now());
    for n in 1..=5 {
        outbox.publish(topic("e"), n.to_string().into(), later(now));
    }
    assert_eq!(next_requests(&mut outbox).len(), 5);
    for id in [9, 3, 7] {
        outbox.on_sent(RequestKind::Publish, id).unwrap(); // Packet ids that are not in the order of the messages.
    }
    outbox.on_acknowledged(3);
    outbox.publish(topic("e"), "6".into(), later(now));
    outbox.on_connected();
    assert_eq!(deliver_all(&mut outbox), ["e=1", "e=3", "e=4", "e=5", "e=6"]);
    assert_eq!(outbox.counts().acknowledged, 6);
}

#[test]
fn publishes_and_subscriptions_may_overtake_each_other() {
    let mut outbox = connected_outbox();
    outbox.publish_retained(PublishPriority::State, topic("a"), "1".into());
    assert_eq!(published(&next_requests(&mut outbox)), ["a=1"]);
    outbox.subscribe(filter("b"));
    assert_eq!(
        next_requests(&mut outbox),
        [Request::Subscribe(vec![filter("b")])]
    );
    outbox.on_sent(RequestKind::Subscription, 1).unwrap();
    outbox.on_sent(RequestKind::Publish, 2).unwrap();
    outbox.on_acknowledged(2);
    assert_eq!(outbox.on_suback(1, &[GRANTED]), [(filter("b"), true)]);
    assert!(outbox.is_empty());
    assert_eq!(outbox.counts().acknowledged, 1);
}

#[test]
fn an_expired_message_is_dropped_and_counted() {
    let (mut outbox, now) = (Outbox::new(Vec::new()), Instant::now());
    outbox.publish(topic("e"), "old".into(), now + Duration::from_secs(1));
    outbox.publish(topic("e"), "new".into(), now + Duration::from_secs(9));
    outbox.on_connected();
    let at_two = now + Duration::from_secs(2);
    let requests: Vec<_> = std::iter::from_fn(|| outbox.next_request(at_two)).collect();
    assert_eq!(published(&requests), ["e=new"]);
    outbox.on_disconnected(ConnectionLoss::Other);
    outbox.on_connected();
    assert_eq!(outbox.next_request(now + Duration::from_secs(9)), None);
    assert_eq!(outbox.counts().expired, 2);
    assert!(outbox.is_empty());
}

#[test]
fn a_full_queue_drops_its_oldest_by_number_and_by_size() {
    let (mut outbox, now) = (Outbox::new(Vec::new()), Instant::now());
    for n in 0..MAX_MESSAGES + 10 {
        outbox.publish(topic("e"), n.to_string().into(), later(now));
    }
    assert_eq!((outbox.queued(), outbox.counts().dropped), (MAX_MESSAGES, 10));
    outbox.publish(topic("e"), vec![b'x'; MAX_BYTES].into(), later(now));
    assert_eq!(outbox.queued(), 1);
    outbox.on_connected();
    assert_eq!(deliver_all(&mut outbox).len(), 1);
    outbox.publish(topic("e"), "fits again".into(), later(now));
    assert_eq!(deliver_all(&mut outbox), ["e=fits again"]);
}

#[test]
fn impossible_client_events_are_protocol_errors() {
    let mut outbox = connected_outbox();
    assert_eq!(outbox.on_sent(RequestKind::Publish, 1), Err(ProtocolError));
    outbox.on_acknowledged(1);
    outbox.publish_retained(PublishPriority::State, topic("a"), "1".into());
    outbox.publish_retained(PublishPriority::State, topic("b"), "1".into());
    next_requests(&mut outbox);
    outbox.on_sent(RequestKind::Publish, 1).unwrap();
    assert_eq!(outbox.on_sent(RequestKind::Publish, 1), Err(ProtocolError));
    outbox.on_connected();
    assert_eq!(deliver_all(&mut outbox), ["a=1", "b=1"]);
}

#[test]
fn what_waits_for_its_acknowledgement_too_long_is_noticed() {
    let (mut outbox, start) = (connected_outbox(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    assert!(!outbox.is_waiting_since(after(99)), "nothing is in flight");
    for id in 1..=3 {
        outbox.publish_retained(PublishPriority::State, topic(&format!("t/{id}")), "1".into());
        assert!(outbox.next_request(after(10 * u64::from(id))).is_some());
        outbox.on_sent(RequestKind::Publish, id).unwrap();
    }
    outbox.on_acknowledged(1);
    assert!(!outbox.is_waiting_since(after(20)));
    assert!(outbox.is_waiting_since(after(21)), "the second one");
    outbox.on_acknowledged(2);
    assert!(!outbox.is_waiting_since(after(30)));
    outbox.on_disconnected(ConnectionLoss::Other);
    assert!(!outbox.is_waiting_since(after(99)), "they wait for a connection");
}

#[test]
fn what_changes_later_does_not_delay_the_bridge_state() {
    let mut outbox = Outbox::new(vec![filter("a/+/set")]);
    outbox.publish_retained(PublishPriority::BridgeState, topic("bridge"), "online".into());
    for device in ["a", "b"] {
        outbox.publish_retained(PublishPriority::State, topic(device), "1".into());
    }
    outbox.on_connected();
    let now = Instant::now();
    assert!(matches!(outbox.next_request(now), Some(Request::Subscribe(_))));
    outbox.on_sent(RequestKind::Subscription, 1).unwrap();
    outbox.on_suback(1, &[GRANTED]);
    // Both are of a higher priority than what waits.
    outbox.publish_retained(PublishPriority::Discovery, topic("discovery"), "{}".into());
    outbox.publish_retained(PublishPriority::State, topic("c"), "1".into());
    // One that waits is published as it is then.
    outbox.publish_retained(PublishPriority::State, topic("b"), "2".into());
    assert_eq!(
        deliver_all(&mut outbox),
        ["a=1", "b=2", "bridge=online", "discovery={}", "c=1"]
    );
}

#[test]
fn during_shutdown_the_queue_goes_before_the_bridge_state() {
    let mut outbox = Outbox::new(Vec::new());
    outbox.publish_retained(PublishPriority::BridgeState, topic("bridge"), "online".into());
    outbox.publish_retained(PublishPriority::State, topic("a"), "1".into());
    outbox.publish(topic("response"), "stopping".into(), later(Instant::now()));
    outbox.close(topic("bridge"), "offline".into());
    outbox.on_connected();
    assert_eq!(
        deliver_all(&mut outbox),
        ["a=1", "response=stopping", "bridge=offline"]
    );
}

/// One event of an outbox.
#[derive(Debug, Clone)]
enum Step {
    PublishRetained(usize, u8),
    Clear(usize),
    Publish,
    Request,
    ClientSends,
    BrokerAcks,
    Connect,
    Disconnect,
}

const PRIORITIES: [PublishPriority; 3] = [
    PublishPriority::Discovery,
    PublishPriority::State,
    PublishPriority::BridgeState,
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..90_usize, 1..4_u8).prop_map(|(topic, value)| Step::PublishRetained(topic, value)),
        1 => (0..90_usize).prop_map(Step::Clear),
        3 => Just(Step::Publish),
        6 => Just(Step::Request),
        8 => Just(Step::ClientSends),
        6 => Just(Step::BrokerAcks),
        1 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
    ]
}

/// A client, a network and a broker that lose everything in flight with the connection.
#[derive(Default)]
struct Simulation {
    connected: bool,
    unsent: VecDeque<Request>,
    sent: VecDeque<(u16, Request)>,
    next_id: u16,
    retained: BTreeMap<Topic, Bytes>,
    received: Vec<u32>,
    expected: BTreeMap<Topic, Bytes>,
    messages: u32,
    /// Upper bound of duplicate messages.
    duplicates: usize,
}

impl Simulation {
    fn apply(&mut self, outbox: &mut Outbox, step: &Step, now: Instant) {
        match step {
            Step::PublishRetained(number, value) => {
                let (topic, payload) = (topic(&format!("t/{number}")), Bytes::from(vec![*value]));
                self.expected.insert(topic.clone(), payload.clone());
                outbox.publish_retained(PRIORITIES[number % 3], topic, payload);
            }
            Step::Clear(number) => {
                let topic = topic(&format!("t/{number}"));
                self.expected.remove(&topic);
                outbox.clear_retained(topic);
            }
            Step::Publish => {
                self.messages += 1;
                outbox.publish(topic("event"), self.messages.to_string().into(), later(now));
            }
            Step::Request => self
                .unsent
                .extend(std::iter::from_fn(|| outbox.next_request(now))),
            Step::ClientSends => self.client_sends(outbox),
            Step::BrokerAcks => self.broker_acks(outbox),
            Step::Connect => {
                self.lose_connection();
                self.connected = true;
                outbox.on_connected();
            }
            Step::Disconnect => {
                self.lose_connection();
                outbox.on_disconnected(ConnectionLoss::Other);
            }
        }
    }

    fn client_sends(&mut self, outbox: &mut Outbox) {
        if let Some(request) = self.unsent.pop_front() {
            self.next_id = self.next_id % 66 + 1;
            outbox.on_sent(kind(&request), self.next_id).unwrap();
            self.sent.push_back((self.next_id, request));
        }
    }

    fn broker_acks(&mut self, outbox: &mut Outbox) {
        let Some((id, request)) = self.sent.pop_front() else {
            return;
        };
        self.receive(&request);
        match request {
            Request::Subscribe(filters) => drop(outbox.on_suback(id, &vec![GRANTED; filters.len()])),
            Request::Unsubscribe(_) | Request::Publish { .. } => outbox.on_acknowledged(id),
        }
    }

    fn receive(&mut self, request: &Request) {
        match request {
            Request::Publish {
                topic,
                payload,
                retain: true,
            } if payload.is_empty() => {
                self.retained.remove(topic);
            }
            Request::Publish {
                topic,
                payload,
                retain: true,
            } => {
                self.retained.insert(topic.clone(), payload.clone());
            }
            Request::Publish { payload, .. } => {
                self.received
                    .push(String::from_utf8_lossy(payload).parse().unwrap());
            }
            Request::Subscribe(_) | Request::Unsubscribe(_) => {}
        }
    }

    /// The broker received half of the sent packets, and the client none of the acknowledgements.
    fn lose_connection(&mut self) {
        self.connected = false;
        let arrived = self.sent.len() / 2;
        for (_, request) in self.sent.drain(..).take(arrived).collect::<Vec<_>>() {
            self.duplicates += 1;
            self.receive(&request);
        }
        self.sent.clear();
        self.unsent.clear();
    }
}

/// This many cases, unless `PROPTEST_CASES` sets the number.
fn cases(default: u32) -> ProptestConfig {
    if std::env::var_os("PROPTEST_CASES").is_some() {
        ProptestConfig::default()
    } else {
        ProptestConfig::with_cases(default)
    }
}

proptest! {
    #![proptest_config(cases(100))]
    #[test]
    fn the_broker_receives_everything_in_any_sequence_of_events(steps in prop::collection::vec(step(), 0..400)) {
        let now = Instant::now();
        let mut outbox = Outbox::new(vec![filter("command/#")]);
        let mut simulation = Simulation::default();
        for step in &steps {
            simulation.apply(&mut outbox, step, now);
            prop_assert!(outbox.inflight() <= MAX_INFLIGHT);
            prop_assert_eq!(outbox.inflight(), simulation.unsent.len() + simulation.sent.len());
        }
        if !simulation.connected {
            simulation.apply(&mut outbox, &Step::Connect, now);
        }
        while !outbox.is_empty() {
            let before = (outbox.queued(), outbox.inflight());
            for step in [Step::Request, Step::ClientSends, Step::BrokerAcks] {
                simulation.apply(&mut outbox, &step, now);
            }
            prop_assert!(before != (outbox.queued(), outbox.inflight()) || !simulation.sent.is_empty() || !simulation.unsent.is_empty());
        }
        prop_assert_eq!(&simulation.retained, &simulation.expected);
        let mut first_time: Vec<u32> = Vec::new();
        for message in &simulation.received {
            if !first_time.contains(message) {
                first_time.push(*message);
            }
        }
        prop_assert_eq!(&first_time, &(1..=simulation.messages).collect::<Vec<_>>());
        prop_assert!(simulation.received.len() - first_time.len() <= simulation.duplicates);
    }
}

/// Sends what can be sent; nothing is acknowledged yet.
fn send(outbox: &mut Outbox, id: &mut u16) -> Vec<String> {
    let requests = next_requests(outbox);
    for request in &requests {
        *id += 1;
        outbox.on_sent(kind(request), *id).unwrap();
    }
    published(&requests)
}

fn reconnect(outbox: &mut Outbox, loss: ConnectionLoss) -> Option<LeftOut> {
    let left_out = outbox.on_disconnected(loss);
    outbox.on_connected();
    left_out
}

#[test]
fn what_ends_the_connection_twice_is_left_out() {
    let mut outbox = Outbox::new(Vec::new());
    outbox.on_connected();
    for (name, payload) in [("a", "1"), ("b", "large"), ("c", "3")] {
        outbox.publish_retained(PublishPriority::State, topic(name), Bytes::from(payload));
    }
    let mut id = 0;
    assert_eq!(send(&mut outbox, &mut id), ["a=1", "b=large", "c=3"]);
    outbox.on_acknowledged(1);

    assert_eq!(reconnect(&mut outbox, ConnectionLoss::ClosedByBroker), None);
    assert_eq!(
        send(&mut outbox, &mut id),
        ["a=1"],
        "what was acknowledged is no suspect, and goes first"
    );
    outbox.on_acknowledged(id);
    assert_eq!(send(&mut outbox, &mut id), ["b=large"], "alone");
    let large = LeftOut {
        topic: topic("b"),
        bytes: 5,
    };
    assert_eq!(
        reconnect(&mut outbox, ConnectionLoss::ClosedByBroker),
        Some(large)
    );
    assert_eq!(deliver_all(&mut outbox), ["a=1", "c=3"]);
    assert_eq!(outbox.left_out().count(), 1);

    outbox.republish_all();
    outbox.republish(&topic("b"));
    outbox.publish_retained(PublishPriority::State, topic("b"), Bytes::from("LARGE"));
    assert_eq!(deliver_all(&mut outbox), ["a=1", "c=3"]);
    outbox.publish_retained(PublishPriority::State, topic("b"), Bytes::from("s"));
    assert_eq!(deliver_all(&mut outbox), ["b=s"], "a smaller payload is tried");
    assert_eq!(outbox.left_out().count(), 0);
}

#[test]
fn what_a_busy_broker_does_not_acknowledge_is_not_left_out() {
    let mut outbox = Outbox::new(Vec::new());
    outbox.on_connected();
    outbox.publish_retained(PublishPriority::State, topic("a"), Bytes::from("1"));
    let mut id = 0;
    for _ in 0..3 {
        assert_eq!(send(&mut outbox, &mut id), ["a=1"]);
        assert_eq!(reconnect(&mut outbox, ConnectionLoss::ClosedLate), None);
    }
    assert_eq!(deliver_all(&mut outbox), ["a=1"]);
}

#[test]
fn what_was_left_out_is_tried_after_another_fault() {
    let mut outbox = Outbox::new(Vec::new());
    outbox.on_connected();
    outbox.publish_retained(PublishPriority::State, topic("a"), Bytes::from("1"));
    let mut id = 0;
    for _ in 0..2 {
        send(&mut outbox, &mut id);
        reconnect(&mut outbox, ConnectionLoss::ClosedByBroker);
    }
    assert_eq!(send(&mut outbox, &mut id), Vec::<String>::new());
    reconnect(&mut outbox, ConnectionLoss::Other);
    assert_eq!(deliver_all(&mut outbox), ["a=1"]);
}

#[test]
fn a_message_that_ends_the_connection_twice_is_dropped() {
    let (mut outbox, now) = (Outbox::new(Vec::new()), Instant::now());
    outbox.on_connected();
    for payload in ["good", "bad", "late"] {
        outbox.publish(topic("response"), Bytes::from(payload), later(now));
    }
    let mut id = 0;
    assert_eq!(send(&mut outbox, &mut id).len(), 3);
    outbox.on_acknowledged(1);
    assert_eq!(reconnect(&mut outbox, ConnectionLoss::ClosedByBroker), None);
    assert_eq!(send(&mut outbox, &mut id), ["response=bad"]);
    let left_out = reconnect(&mut outbox, ConnectionLoss::ClosedByBroker).unwrap();
    assert_eq!((left_out.topic, left_out.bytes), (topic("response"), 3));
    assert_eq!(deliver_all(&mut outbox), ["response=late"]);
    assert_eq!(outbox.counts().dropped, 1);
}

#[test]
fn a_connection_lost_otherwise_makes_no_suspects() {
    let mut outbox = Outbox::new(Vec::new());
    outbox.on_connected();
    for name in ["a", "b"] {
        outbox.publish_retained(PublishPriority::State, topic(name), Bytes::from("1"));
    }
    let mut id = 0;
    send(&mut outbox, &mut id);
    reconnect(&mut outbox, ConnectionLoss::Other);
    assert_eq!(send(&mut outbox, &mut id), ["a=1", "b=1"]);
}
