use proptest::prelude::*;

use super::*;

fn topics(base: &str) -> Topics {
    let (prefix, status) = (
        "homeassistant".parse().unwrap(),
        "homeassistant/status".parse().unwrap(),
    );
    Topics::new(base.parse().unwrap(), prefix, status)
}

fn outlet(path: &str, verb: Verb) -> ParsedTopic {
    let path = path.parse().unwrap();
    ParsedTopic::Outlet { path, verb }
}

fn group(group: &str, verb: Verb) -> ParsedTopic {
    let group = group.parse().unwrap();
    ParsedTopic::Group { group, verb }
}

fn attribute(name: &str) -> Verb {
    Verb::SetAttribute(name.to_owned())
}

/// MQTT 3.1.1, 4.7: `+` is one level, `#` is the rest and the level before it.
fn matches(pattern: &str, topic: &str) -> bool {
    let mut topic = topic.split('/');
    for level in pattern.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(found)) if level == found => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

#[test]
fn commands_are_found_below_any_base() {
    for base in ["tapo2mqtt", "home/tapo2mqtt", "ä b/set"] {
        let topics = topics(base);
        let cases = [
            ("heater/set", outlet("heater", Verb::Set)),
            ("heater/get", outlet("heater", Verb::Get)),
            ("heater/set/state", outlet("heater", attribute("state"))),
            ("strip/1/set", outlet("strip/1", Verb::Set)),
            ("strip/left-mat/get", outlet("strip/left-mat", Verb::Get)),
            ("strip/1/set/Ü", outlet("strip/1", attribute("Ü"))),
            ("group/mats/set", group("mats", Verb::Set)),
            ("group/mats/set/mode", group("mats", attribute("mode"))),
            ("group/mats/get", group("mats", Verb::Get)),
            (
                "group/mats/set/schedule/weekday-morning",
                ParsedTopic::Schedule {
                    group: "mats".parse().unwrap(),
                    schedule: "weekday-morning".parse().unwrap(),
                },
            ),
            (
                "bridge/request/restart",
                ParsedTopic::Request("restart".parse().unwrap()),
            ),
            (
                "bridge/request/homeassistant/rediscover",
                ParsedTopic::Request("homeassistant/rediscover".parse().unwrap()),
            ),
            // Words that are also verbs.
            ("a/set/set", outlet("a", attribute("set"))),
            ("a/set/get", outlet("a", attribute("get"))),
            ("set/set", outlet("set", Verb::Set)),
            ("set/set/set", outlet("set", attribute("set"))),
            ("group/set/set", group("set", Verb::Set)),
            ("group/get/set/state", group("get", attribute("state"))),
            ("group/bridge/get", group("bridge", Verb::Get)),
        ];
        for (tail, address) in cases {
            let topic = format!("{base}/{tail}");
            assert_eq!(topics.parse(&topic).as_ref(), Ok(&address), "{topic}");
            assert_eq!(topics.topic_of(&address), topic);
        }
    }
}

#[test]
fn home_assistant_is_found_below_its_prefix() {
    let topics = topics("tapo2mqtt");
    assert_eq!(
        topics.parse("homeassistant/status"),
        Ok(ParsedTopic::HomeAssistantStatus)
    );
    let node = ParsedTopic::DiscoveryConfig("tapo2mqtt_heater".parse().unwrap());
    assert_eq!(
        topics.parse("homeassistant/device/tapo2mqtt_heater/config"),
        Ok(node)
    );
    for foreign in [
        "homeassistant",
        "homeassistant/",
        "homeassistant/statuss",
        "homeassistant/switch/x/config",
        "homeassistant/device/a/b/config",
        "homeassistant/device//config",
        "homeassistant/device/config",
        "homeassistant/device/a b/config",
    ] {
        assert_eq!(topics.parse(foreign), Err(TopicError::Foreign), "{foreign}");
    }
}

#[test]
fn what_is_no_command_is_refused() {
    let topics = topics("tapo2mqtt");
    let cases = [
        ("", TopicError::Foreign),
        ("tapo2mqtt", TopicError::Foreign),
        ("tapo2mqttx/heater/set", TopicError::Foreign),
        ("/tapo2mqtt/heater/set", TopicError::Foreign),
        ("other/heater/set", TopicError::Foreign),
        ("tapo2mqtt/", TopicError::NotACommand),
        ("tapo2mqtt/heater", TopicError::NotACommand),
        ("tapo2mqtt/heater/", TopicError::NotACommand),
        ("tapo2mqtt/heater/availability", TopicError::NotACommand),
        ("tapo2mqtt/heater/response", TopicError::NotACommand),
        ("tapo2mqtt/heater/set/a/b", TopicError::NotACommand),
        ("tapo2mqtt/heater/get/a", TopicError::NotACommand),
        ("tapo2mqtt/strip/1/2/set", TopicError::NotACommand),
        ("tapo2mqtt/strip/1/set/a/b", TopicError::NotACommand),
        ("tapo2mqtt/strip/1/get/a", TopicError::NotACommand),
        ("tapo2mqtt/bridge/state", TopicError::NotACommand),
        ("tapo2mqtt/bridge/set", TopicError::NotACommand),
        ("tapo2mqtt/bridge/1/set", TopicError::NotACommand),
        ("tapo2mqtt/bridge/request", TopicError::NotACommand),
        ("tapo2mqtt/bridge/request/", TopicError::Request),
        ("tapo2mqtt/bridge/request//restart", TopicError::Request),
        ("tapo2mqtt/bridge/request/Restart", TopicError::Request),
        ("tapo2mqtt/group/set", TopicError::NotACommand),
        ("tapo2mqtt/group/mats", TopicError::NotACommand),
        ("tapo2mqtt/group/mats/response", TopicError::NotACommand),
        (
            "tapo2mqtt/group/mats/set/schedule/a/b",
            TopicError::Schedule(SlugError::Character('/')),
        ),
        ("tapo2mqtt/strip/1/set/schedule/a", TopicError::NotACommand),
        (
            "tapo2mqtt/group/Mats/set",
            TopicError::Group(SlugError::Character('M')),
        ),
        ("tapo2mqtt//set", TopicError::Device(SlugError::Empty)),
        ("tapo2mqtt/+/set", TopicError::Device(SlugError::Character('+'))),
        (
            "tapo2mqtt/#/set/state",
            TopicError::Device(SlugError::Character('#')),
        ),
        (
            "tapo2mqtt/Heater/set",
            TopicError::Device(SlugError::Character('H')),
        ),
        (
            "tapo2mqtt/a\0/get",
            TopicError::Device(SlugError::Character('\0')),
        ),
        ("tapo2mqtt/strip//set", TopicError::Outlet(SlugError::Empty)),
        (
            "tapo2mqtt/strip/response/set",
            TopicError::Outlet(SlugError::Reserved),
        ),
        (
            "tapo2mqtt/strip/a b/get",
            TopicError::Outlet(SlugError::Character(' ')),
        ),
    ];
    for (topic, error) in cases {
        assert_eq!(topics.parse(topic), Err(error), "{topic:?}");
    }
    let long = format!("tapo2mqtt/bridge/request/{}", "x".repeat(REQUEST_MAX + 1));
    assert_eq!(topics.parse(&long), Err(TopicError::Request));
    let long = format!("tapo2mqtt/{}/set", "x".repeat(60_000));
    assert_eq!(topics.parse(&long), Err(TopicError::Device(SlugError::TooLong)));
}

#[test]
fn outbound_topics_are_those_of_the_contract() {
    let topics = topics("home/tapo2mqtt");
    let strip: DeviceId = "strip".parse().unwrap();
    let left: OutletPath = "strip/left".parse().unwrap();
    let mats: GroupId = "mats".parse().unwrap();
    let cases = [
        (topics.bridge(BridgeTopic::State), "bridge/state"),
        (topics.bridge(BridgeTopic::Info), "bridge/info"),
        (topics.bridge(BridgeTopic::Devices), "bridge/devices"),
        (topics.bridge(BridgeTopic::Groups), "bridge/groups"),
        (topics.bridge(BridgeTopic::Health), "bridge/health"),
        (topics.bridge(BridgeTopic::Event), "bridge/event"),
        (topics.bridge(BridgeTopic::LastError), "bridge/last_error"),
        (
            topics.request_response(&"homeassistant/rediscover".parse().unwrap()),
            "bridge/response/homeassistant/rediscover",
        ),
        (topics.state(&OutletPath::device(strip.clone())), "strip"),
        (topics.state(&left), "strip/left"),
        (topics.availability(&strip), "strip/availability"),
        (topics.response(&left), "strip/left/response"),
        (topics.group(&mats), "group/mats"),
        (topics.group_response(&mats), "group/mats/response"),
    ];
    let subscriptions = topics.subscriptions();
    for (topic, tail) in cases {
        assert_eq!(topic, format!("home/tapo2mqtt/{tail}"));
        let echo = subscriptions.iter().find(|pattern| matches(pattern, &topic));
        assert_eq!(echo, None, "{topic} would come back to the bridge");
    }
}

#[test]
fn subscriptions_are_exact_patterns() {
    let expected = [
        "tapo2mqtt/+/set",
        "tapo2mqtt/+/set/+",
        "tapo2mqtt/+/get",
        "tapo2mqtt/+/+/set",
        "tapo2mqtt/+/+/set/+",
        "tapo2mqtt/+/+/get",
        "tapo2mqtt/group/+/set/schedule/+",
        "tapo2mqtt/bridge/request/#",
        "homeassistant/status",
    ];
    assert_eq!(topics("tapo2mqtt").subscriptions(), expected);
}

#[test]
fn topics_of_others_are_distinguished_from_ours() {
    let claims = |topic: &str| topics("home/tapo2mqtt").claims(&topic.parse().unwrap());
    for ours in [
        "home/tapo2mqtt",
        "home/tapo2mqtt/heater",
        "home/tapo2mqtt/group/mats/set",
        "homeassistant/status",
        "homeassistant/device/x/config",
    ] {
        assert!(claims(ours), "{ours}");
    }
    for others in [
        "weather/outdoor",
        "home",
        "home/tapo2mqttx",
        "homeassistant/sensor/outdoor/state",
    ] {
        assert!(!claims(others), "{others}");
    }
}

#[test]
fn base_topics_are_validated() {
    for good in ["tapo2mqtt", "home/tapo2mqtt", "a/$b", &"x".repeat(BASE_MAX)] {
        assert_eq!(good.parse::<BaseTopic>().unwrap().as_str(), good);
    }
    let cases = [
        ("", BaseTopicError::EmptyLevel),
        ("/", BaseTopicError::EmptyLevel),
        ("/a", BaseTopicError::EmptyLevel),
        ("a/", BaseTopicError::EmptyLevel),
        ("a//b", BaseTopicError::EmptyLevel),
        ("a/+/b", BaseTopicError::Character('+')),
        ("a#", BaseTopicError::Character('#')),
        ("a\0", BaseTopicError::Character('\0')),
        ("a\n", BaseTopicError::Character('\n')),
        ("$SYS", BaseTopicError::Dollar),
        (" a", BaseTopicError::Space),
        ("a ", BaseTopicError::Space),
        (&"x".repeat(BASE_MAX + 1), BaseTopicError::TooLong),
    ];
    for (bad, error) in cases {
        assert_eq!(bad.parse::<BaseTopic>(), Err(error), "{bad:?}");
    }
}

#[test]
fn the_base_and_the_prefix_are_apart() {
    let overlap = |a: &str, b: &str| a.parse::<BaseTopic>().unwrap().overlaps(&b.parse().unwrap());
    assert!(overlap("a", "a") && overlap("a/b", "a") && overlap("a", "a/b"));
    assert!(!overlap("ab", "a") && !overlap("x/a", "x/b"));
}

fn verbs() -> impl Strategy<Value = Verb> {
    prop_oneof![
        Just(Verb::Set),
        Just(Verb::Get),
        "[^/+#\0]{1,20}".prop_map(Verb::SetAttribute),
    ]
}

fn addresses() -> impl Strategy<Value = ParsedTopic> {
    let slug = "[a-z0-9_-]{1,20}";
    let outlets = (slug, proptest::option::of(slug), verbs());
    let outlets = outlets.prop_filter_map("reserved", |(device, outlet, verb)| {
        let path = match outlet {
            None => OutletPath::device(device.parse().ok()?),
            Some(outlet) => OutletPath::outlet(device.parse().ok()?, outlet.parse().ok()?),
        };
        Some(ParsedTopic::Outlet { path, verb })
    });
    let groups = (slug, verbs()).prop_map(|(name, verb)| group(&name, verb));
    let schedules = (slug, slug).prop_map(|(group, schedule)| ParsedTopic::Schedule {
        group: group.parse().unwrap(),
        schedule: schedule.parse().unwrap(),
    });
    let requests = "[a-z0-9_-]{1,20}(/[a-z0-9_-]{1,20}){0,2}";
    prop_oneof![
        outlets,
        groups,
        schedules,
        requests.prop_map(|name| ParsedTopic::Request(name.parse().unwrap())),
        Just(ParsedTopic::HomeAssistantStatus),
        "[a-zA-Z0-9_-]{1,20}".prop_map(|node| ParsedTopic::DiscoveryConfig(node.parse().unwrap())),
    ]
}

proptest! {
    #[test]
    fn every_address_comes_back(address in addresses(), base in "[a-z]{1,8}(/[a-zü][a-z ü]{0,6}[a-zü]){0,2}") {
        let topics = topics(&base);
        let topic = topics.topic_of(&address);
        prop_assert_eq!(topics.parse(&topic), Ok(address.clone()));
        let discovery = matches!(address, ParsedTopic::DiscoveryConfig(_));
        let patterns = if discovery { vec![topics.discovery_subscription()] } else { topics.subscriptions() };
        prop_assert!(patterns.iter().any(|pattern| matches(pattern, &topic)));
    }

    #[test]
    fn any_topic_is_read_without_a_panic(topic in ".{0,80}") {
        let _ = topics("tapo2mqtt").parse(&topic);
    }

    /// Also below the base, where most of the code is. What is accepted leads back to the same topic.
    #[test]
    fn any_levels_are_read_or_refused(
        levels in proptest::collection::vec(
            prop_oneof![Just("set".to_owned()), Just("get".to_owned()), Just("group".to_owned()),
                Just("bridge".to_owned()), Just("request".to_owned()), "[a-zA-Z0-9+#/$ ]{0,4}"],
            0..6,
        ),
    ) {
        let topics = topics("tapo2mqtt");
        let topic = format!("tapo2mqtt/{}", levels.join("/"));
        if let Ok(address) = topics.parse(&topic) {
            prop_assert_eq!(topics.topic_of(&address), topic);
        }
    }
}
