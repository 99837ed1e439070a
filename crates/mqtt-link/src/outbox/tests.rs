use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use proptest::prelude::*;
use rumqttc::QoS;

use super::{
    super::queue::{BYTES_MAX, LENGTH_MAX},
    *,
};

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

/// What the requests publish, as `topic=payload`.
fn published(requests: &[Request]) -> Vec<String> {
    let text = |request: &Request| match request {
        Request::Publish { topic, payload, .. } => format!("{topic}={}", String::from_utf8_lossy(payload)),
        other => format!("{other:?}"),
    };
    requests.iter().map(text).collect()
}

/// Everything the outbox hands over now.
fn handed(outbox: &mut Outbox) -> Vec<Request> {
    let now = Instant::now();
    std::iter::from_fn(|| outbox.next(now)).collect()
}

/// Hands over, sends and acknowledges until there is nothing left; returns what was published.
fn settle(outbox: &mut Outbox) -> Vec<String> {
    let mut all = Vec::new();
    let mut id = 0;
    loop {
        let requests = handed(outbox);
        if requests.is_empty() {
            return all;
        }
        for request in &requests {
            id += 1;
            outbox.sent(id).unwrap();
            match request {
                Request::Subscribe(filters) => {
                    assert!(outbox.subscribed(id, &vec![GRANTED; filters.len()]).is_empty());
                }
                Request::Unsubscribe(_) | Request::Publish { .. } => outbox.acknowledged(id),
            }
        }
        all.extend(published(&requests));
    }
}

fn open_outbox() -> Outbox {
    let mut outbox = Outbox::new(Vec::new());
    outbox.up();
    outbox
}

#[test]
fn the_replay_waits_for_the_subscriptions_and_goes_by_rank() {
    let mut outbox = Outbox::new(vec![filter("a/+/set"), filter("b/#")]);
    outbox.send(topic("response"), "1".into(), later(Instant::now()));
    outbox.retain(Rank::BridgeState, topic("a/state"), "online".into());
    outbox.retain(Rank::Availability, topic("b"), "up".into());
    outbox.retain(Rank::State, topic("c"), "on".into());
    outbox.retain(Rank::Discovery, topic("d"), "{}".into());
    outbox.retain(Rank::BridgeDiscovery, topic("e"), "{}".into());
    assert!(handed(&mut outbox).is_empty(), "no connection");
    for connection in 0..2 {
        outbox.up();
        let subscribe = [Request::Subscribe(vec![filter("a/+/set"), filter("b/#")])];
        assert_eq!(handed(&mut outbox), subscribe, "{connection}");
        outbox.sent(1).unwrap();
        assert!(handed(&mut outbox).is_empty(), "the broker did not answer yet");
        assert_eq!(outbox.subscribed(1, &[GRANTED, REFUSED]), [filter("b/#")]);
        let replay = ["e={}", "d={}", "c=on", "b=up", "a/state=online", "response=1"];
        assert_eq!(published(&handed(&mut outbox)), replay, "{connection}");
    }
}

#[test]
fn subscriptions_go_in_small_packets_and_missing_answers_are_refusals() {
    let filters: Vec<_> = (0..10).map(|n| filter(&format!("f/{n}"))).collect();
    let mut outbox = Outbox::new(filters.clone());
    outbox.up();
    assert_eq!(handed(&mut outbox).len(), 2);
    outbox.sent(1).unwrap();
    outbox.sent(2).unwrap();
    assert!(outbox.subscribed(1, &[GRANTED; 8]).is_empty());
    assert_eq!(outbox.subscribed(2, &[GRANTED]), filters[9..]);
}

#[test]
fn filters_come_and_go_while_the_link_is_up_and_while_it_is_down() {
    let mut outbox = Outbox::new(vec![filter("a")]);
    outbox.subscribe(filter("b"));
    outbox.unsubscribe(&filter("a"));
    outbox.up();
    assert_eq!(handed(&mut outbox), [Request::Subscribe(vec![filter("b")])]);
    outbox.sent(1).unwrap();
    outbox.subscribed(1, &[GRANTED]);
    outbox.subscribe(filter("b"));
    outbox.unsubscribe(&filter("unknown"));
    assert!(outbox.is_empty());
    outbox.subscribe(filter("c"));
    outbox.unsubscribe(&filter("b"));
    let changes = [
        Request::Subscribe(vec![filter("c")]),
        Request::Unsubscribe(filter("b")),
    ];
    assert_eq!(handed(&mut outbox), changes);
    settle(&mut outbox);
    outbox.up();
    assert_eq!(handed(&mut outbox), [Request::Subscribe(vec![filter("c")])]);
}

#[test]
fn an_equal_value_is_not_published_again() {
    let mut outbox = open_outbox();
    for _ in 0..3 {
        outbox.retain(Rank::State, topic("a"), "1".into());
    }
    assert_eq!(settle(&mut outbox), ["a=1"]);
    outbox.retain(Rank::State, topic("a"), "1".into());
    assert!(outbox.is_empty());
}

#[test]
fn a_newer_value_waits_for_the_one_under_way_and_only_the_last_one_follows() {
    let mut outbox = open_outbox();
    outbox.retain(Rank::State, topic("a"), "1".into());
    assert_eq!(published(&handed(&mut outbox)), ["a=1"]);
    outbox.sent(1).unwrap();
    outbox.retain(Rank::State, topic("a"), "2".into());
    outbox.retain(Rank::State, topic("a"), "3".into());
    assert!(handed(&mut outbox).is_empty());
    outbox.acknowledged(1);
    assert_eq!(published(&handed(&mut outbox)), ["a=3"]);
    outbox.sent(2).unwrap();
    // There and back again while under way: nothing is left to publish.
    outbox.retain(Rank::State, topic("a"), "4".into());
    outbox.retain(Rank::State, topic("a"), "3".into());
    outbox.acknowledged(2);
    assert!(outbox.is_empty());
}

#[test]
fn an_erased_topic_is_forgotten_once_the_broker_knows() {
    let mut outbox = open_outbox();
    outbox.retain(Rank::Discovery, topic("a"), "1".into());
    settle(&mut outbox);
    outbox.erase(topic("a"));
    outbox.erase(topic("never/ours"));
    assert_eq!(handed(&mut outbox).len(), 2);
    outbox.up();
    assert_eq!(
        settle(&mut outbox),
        ["a=", "never/ours="],
        "the broker may not have got them"
    );
    outbox.up();
    assert!(outbox.is_empty());
}

#[test]
fn what_somebody_else_emptied_is_emptied_again_only_behind_a_value_under_way() {
    let mut outbox = open_outbox();
    outbox.retain(Rank::Discovery, topic("a"), "1".into());
    settle(&mut outbox);
    outbox.forget(topic("a"));
    assert!(outbox.is_empty());

    outbox.retain(Rank::Discovery, topic("a"), "2".into());
    assert_eq!(handed(&mut outbox).len(), 1);
    outbox.sent(1).unwrap();
    outbox.forget(topic("a"));
    outbox.acknowledged(1);
    assert_eq!(settle(&mut outbox), ["a="]);
}

#[test]
fn a_value_set_while_its_erasure_is_under_way_wins() {
    let mut outbox = open_outbox();
    outbox.erase(topic("a"));
    assert_eq!(handed(&mut outbox).len(), 1);
    outbox.sent(1).unwrap();
    outbox.retain(Rank::State, topic("a"), "1".into());
    outbox.acknowledged(1);
    assert_eq!(settle(&mut outbox), ["a=1"]);
}

#[test]
fn one_shots_that_were_under_way_come_again_in_order() {
    let (mut outbox, now) = (open_outbox(), Instant::now());
    for n in 1..=5 {
        outbox.send(topic("e"), n.to_string().into(), later(now));
    }
    assert_eq!(handed(&mut outbox).len(), 5);
    for id in [9, 3, 7] {
        outbox.sent(id).unwrap(); // Packet ids that are not in the order of the messages.
    }
    outbox.collided().unwrap();
    outbox.acknowledged(3);
    outbox.send(topic("e"), "6".into(), later(now));
    outbox.up();
    assert_eq!(settle(&mut outbox), ["e=1", "e=3", "e=4", "e=5", "e=6"]);
    assert_eq!(outbox.counts().acknowledged, 6);
}

#[test]
fn a_collided_packet_is_booked_under_its_id_when_it_leaves() {
    let (mut outbox, now) = (open_outbox(), Instant::now());
    for n in 1..=3 {
        outbox.send(topic("e"), n.to_string().into(), later(now));
    }
    handed(&mut outbox);
    outbox.sent(1).unwrap();
    outbox.collided().unwrap();
    assert_eq!(outbox.under_way(), 3);
    outbox.acknowledged(1);
    outbox.sent(1).unwrap();
    outbox.sent(2).unwrap();
    outbox.acknowledged(1);
    outbox.acknowledged(2);
    assert!(outbox.is_empty());
}

#[test]
fn a_message_past_its_time_is_given_up_and_counted() {
    let (mut outbox, now) = (Outbox::new(Vec::new()), Instant::now());
    outbox.send(topic("e"), "old".into(), now + Duration::from_secs(1));
    outbox.send(topic("e"), "new".into(), now + Duration::from_secs(9));
    outbox.up();
    let at_two = now + Duration::from_secs(2);
    let requests: Vec<_> = std::iter::from_fn(|| outbox.next(at_two)).collect();
    assert_eq!(published(&requests), ["e=new"]);
    outbox.down();
    outbox.up();
    assert_eq!(outbox.next(now + Duration::from_secs(9)), None);
    assert_eq!(outbox.counts().expired, 2);
    assert!(outbox.is_empty());
}

#[test]
fn a_full_queue_loses_its_oldest_by_number_and_by_size() {
    let (mut outbox, now) = (Outbox::new(Vec::new()), Instant::now());
    for n in 0..LENGTH_MAX + 10 {
        outbox.send(topic("e"), n.to_string().into(), later(now));
    }
    assert_eq!((outbox.queued(), outbox.counts().dropped), (LENGTH_MAX, 10));
    outbox.send(topic("e"), vec![b'x'; BYTES_MAX].into(), later(now));
    assert_eq!(outbox.queued(), 1);
    outbox.up();
    assert_eq!(settle(&mut outbox).len(), 1);
    outbox.send(topic("e"), "room again".into(), later(now));
    assert_eq!(settle(&mut outbox), ["e=room again"]);
}

#[test]
fn books_that_do_not_match_are_noticed() {
    let mut outbox = open_outbox();
    assert_eq!(outbox.sent(1), Err(OutOfStep));
    assert_eq!(outbox.collided(), Err(OutOfStep));
    outbox.acknowledged(1);
    outbox.retain(Rank::State, topic("a"), "1".into());
    outbox.retain(Rank::State, topic("b"), "1".into());
    handed(&mut outbox);
    outbox.sent(1).unwrap();
    assert_eq!(outbox.sent(1), Err(OutOfStep));
    outbox.up();
    assert_eq!(settle(&mut outbox), ["a=1", "b=1"]);
}

#[test]
fn two_answered_pings_without_an_acknowledgement_are_a_stall() {
    let mut outbox = open_outbox();
    assert_eq!(outbox.pinged(), Progress::Moving);
    assert_eq!(outbox.pinged(), Progress::Moving, "nothing is under way");
    for id in 1..=3 {
        outbox.retain(Rank::State, topic(&format!("t/{id}")), "1".into());
        handed(&mut outbox);
        outbox.sent(id).unwrap();
        assert_eq!(outbox.pinged(), Progress::Moving);
        if id < 3 {
            outbox.acknowledged(id);
        }
    }
    assert_eq!(outbox.pinged(), Progress::Stalled);
}

#[test]
fn at_the_end_the_queue_goes_before_the_farewell() {
    let mut outbox = Outbox::new(Vec::new());
    outbox.retain(Rank::BridgeState, topic("bridge"), "online".into());
    outbox.retain(Rank::State, topic("a"), "1".into());
    outbox.send(topic("response"), "stopping".into(), later(Instant::now()));
    outbox.close(topic("bridge"), "offline".into());
    outbox.up();
    assert_eq!(
        settle(&mut outbox),
        ["a=1", "response=stopping", "bridge=offline"]
    );
}

/// One thing that can happen to an outbox.
#[derive(Debug, Clone)]
enum Step {
    Retain(usize, u8),
    Erase(usize),
    Send,
    HandOver,
    ClientSends,
    BrokerAnswers,
    Up,
    Down,
}

const RANKS: [Rank; 3] = [Rank::Discovery, Rank::State, Rank::BridgeState];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..90_usize, 1..4_u8).prop_map(|(topic, value)| Step::Retain(topic, value)),
        1 => (0..90_usize).prop_map(Step::Erase),
        3 => Just(Step::Send),
        6 => Just(Step::HandOver),
        8 => Just(Step::ClientSends),
        6 => Just(Step::BrokerAnswers),
        1 => Just(Step::Up),
        1 => Just(Step::Down),
    ]
}

/// The rest of the world: a client, a network and a broker that lose what is under way with the connection.
#[derive(Default)]
struct World {
    connected: bool,
    handed: VecDeque<Request>,
    sent: VecDeque<(u16, Request)>,
    next_id: u16,
    retained: BTreeMap<Topic, Bytes>,
    received: Vec<u32>,
    wanted: BTreeMap<Topic, Bytes>,
    messages: u32,
    /// Times that a message may come twice.
    repetitions: usize,
}

impl World {
    fn apply(&mut self, outbox: &mut Outbox, step: &Step, now: Instant) {
        match step {
            Step::Retain(number, value) => {
                let (topic, payload) = (topic(&format!("t/{number}")), Bytes::from(vec![*value]));
                self.wanted.insert(topic.clone(), payload.clone());
                outbox.retain(RANKS[number % 3], topic, payload);
            }
            Step::Erase(number) => {
                let topic = topic(&format!("t/{number}"));
                self.wanted.remove(&topic);
                outbox.erase(topic);
            }
            Step::Send => {
                self.messages += 1;
                outbox.send(topic("event"), self.messages.to_string().into(), later(now));
            }
            Step::HandOver => self.handed.extend(std::iter::from_fn(|| outbox.next(now))),
            Step::ClientSends => self.client_sends(outbox),
            Step::BrokerAnswers => self.broker_answers(outbox),
            Step::Up => {
                self.lose();
                self.connected = true;
                outbox.up();
            }
            Step::Down => {
                self.lose();
                outbox.down();
            }
        }
    }

    fn client_sends(&mut self, outbox: &mut Outbox) {
        if let Some(request) = self.handed.pop_front() {
            self.next_id = self.next_id % 66 + 1;
            outbox.sent(self.next_id).unwrap();
            self.sent.push_back((self.next_id, request));
        }
    }

    fn broker_answers(&mut self, outbox: &mut Outbox) {
        let Some((id, request)) = self.sent.pop_front() else {
            return;
        };
        self.receive(&request);
        match request {
            Request::Subscribe(filters) => drop(outbox.subscribed(id, &vec![GRANTED; filters.len()])),
            Request::Unsubscribe(_) | Request::Publish { .. } => outbox.acknowledged(id),
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

    /// The broker got half of what was sent, and the acknowledgements of none of it came back.
    fn lose(&mut self) {
        self.connected = false;
        let arrived = self.sent.len() / 2;
        for (_, request) in self.sent.drain(..).take(arrived).collect::<Vec<_>>() {
            self.repetitions += 1;
            self.receive(&request);
        }
        self.sent.clear();
        self.handed.clear();
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
    fn whatever_happens_the_broker_ends_up_with_everything(steps in prop::collection::vec(step(), 0..400)) {
        let now = Instant::now();
        let mut outbox = Outbox::new(vec![filter("command/#")]);
        let mut world = World::default();
        for step in &steps {
            world.apply(&mut outbox, step, now);
            prop_assert!(outbox.under_way() <= CREDIT);
            prop_assert_eq!(outbox.under_way(), world.handed.len() + world.sent.len());
        }
        if !world.connected {
            world.apply(&mut outbox, &Step::Up, now);
        }
        while !outbox.is_empty() {
            let before = (outbox.queued(), outbox.under_way());
            for step in [Step::HandOver, Step::ClientSends, Step::BrokerAnswers] {
                world.apply(&mut outbox, &step, now);
            }
            prop_assert!(before != (outbox.queued(), outbox.under_way()) || !world.sent.is_empty() || !world.handed.is_empty());
        }
        prop_assert_eq!(&world.retained, &world.wanted);
        let mut first_time: Vec<u32> = Vec::new();
        for message in &world.received {
            if !first_time.contains(message) {
                first_time.push(*message);
            }
        }
        prop_assert_eq!(&first_time, &(1..=world.messages).collect::<Vec<_>>());
        prop_assert!(world.received.len() - first_time.len() <= world.repetitions);
    }
}
