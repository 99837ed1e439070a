//! The event loop alone between a real broker and a scripted scheduler: what it passes on to the scheduler, and how
//! it publishes the updates of the scheduler.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use planner::{
    OutletPath, Power,
    overrides::Lifetime,
    plan::{Mode, Reason, SafetyState, Source, Vacation},
    rules::Rules,
};
use serde_json::{Value, json};
use tapo2mqtt::{
    calendar::CalendarSources,
    config::{self, Settings, Sources},
    domain::{
        command::{Action, Command, Target},
        command_error::{CommandError, ErrorCode},
        device_command::Switch,
        device_metrics::MetricsRegistry,
        devices::{DeviceEvent, DeviceMsg, DeviceTarget},
        energy_history::EnergyHistory,
        notify_metrics::NotifyMetrics,
        reply::Applied,
        report::{
            Availability, ChangedBy, Condition, Countdown, DeviceReport, DeviceRules, Energy, Event,
            EventKind, Identity, Kind, Outlet, Phase,
        },
        request_reply::RequestReply,
        scheduling::{GroupStatus, OutletStatus, Request, RequestError, SchedulerMsg, SchedulerUpdate},
        section_issues::SectionIssues,
        weather_metrics::WeatherMetrics,
    },
    mqtt::{BridgeInfo, Channels, DeletedEntities, MqttParts, MqttTask},
    store::{Section, StateFileStatus},
    system::{
        clock::Clock,
        tasks::Tasks,
        telemetry::{Level, LogLevel},
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    bridge::fast_clocks,
    bridge::parsed,
    mosquitto::Mosquitto,
    probe::{PATIENCE, Probe},
    process::mqtt,
};

const SETTINGS: &str = r#"
[tapo]
username = "u"
password = "p"
[location]
timezone = "America/New_York"
[[sensor]]
id = "outdoor"
topic = "weather/outdoor"
pointer = "/temperature"
unit = "°C"
[[sensor]]
id = "dew"
topic = "weather/outdoor"
pointer = "/dew_point"
unit = "°C"
[[device]]
id = "mats"
address = "127.0.0.1:9"
[[device]]
id = "lamp"
address = "127.0.0.1:10"
[[group]]
id = "driveway"
name = "Driveway heating"
outlets = ["mats/1", "lamp"]
[[group.schedule]]
id = "morning"
start = "06:00"
end = "08:00"
[[group.schedule]]
id = "week-end"
days = ["sat", "sun"]
start = "09:00"
end = "10:00"
"#;

/// 12:00 in New York.
const NOON: &str = "2026-11-21T17:00:00Z";

struct LoopHarness {
    broker: Arc<Mosquitto>,
    probe: Probe,
    messages: mpsc::Receiver<SchedulerMsg>,
    updates: mpsc::Sender<SchedulerUpdate>,
    device_messages: mpsc::Receiver<DeviceMsg>,
    /// `None` once the workers ended.
    events: Option<mpsc::Sender<DeviceEvent>>,
    rules: Arc<Rules>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for LoopHarness {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn settings(text: &str, broker: &Mosquitto) -> Settings {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("settings.toml");
    std::fs::write(&file, mqtt(broker.address()) + text).unwrap();
    config::load(&Sources {
        file: Some(file),
        environment: Vec::new(),
    })
    .unwrap()
}

impl LoopHarness {
    async fn start() -> Self {
        Self::start_on(Mosquitto::start().await, SETTINGS, 16).await
    }

    /// `room` is how many messages fit before the scheduler is busy.
    async fn start_on(broker: impl Into<Arc<Mosquitto>>, text: &str, room: usize) -> Self {
        let broker = broker.into();
        let probe = broker.probe().await;
        for filter in ["tapo2mqtt/#", "homeassistant/#"] {
            probe.subscribe(filter).await;
        }
        probe.catch_up().await;
        probe.forget();
        let settings = settings(text, &broker);
        let (devices, device_messages) = mpsc::channel(16);
        let (scheduler, messages) = mpsc::channel(room);
        let (updates, updates_in) = mpsc::channel(16);
        let (events, events_in) = mpsc::channel(16);
        let (controls, _) = mpsc::channel(1);
        let clock = Clock::steered(NOON.parse().unwrap());
        let parts = MqttParts {
            channels: Channels {
                heartbeat: Arc::default(),
                devices,
                scheduler,
                updates: updates_in,
                reports: events_in,
                controls,
                pages: None,
            },
            info: BridgeInfo {
                started_at: clock.now(),
                setup_mode: false,
                start_checks: Vec::new(),
                settings_error: None,
                settings: settings.digest(),
            },
            log_level: LogLevel::detached(Level::Info),
            deleted: DeletedEntities::default(),
            inventory: Section::default(),
            as_read: settings.clone(),
            state_file: StateFileStatus::default(),
            history: EnergyHistory::default(),
            section_issues: SectionIssues::default(),
            calendar: watch::channel(CalendarSources::default()).0,
            keep_account: |_, _| Box::pin(async { Err("not in this test".to_owned()) }),
            loader: None,
            metrics: MetricsRegistry::default(),
            notify_metrics: NotifyMetrics::default(),
            weather_metrics: WeatherMetrics::default(),
            clock,
        };
        let tasks = Tasks::default();
        let event_loop = MqttTask::open(&settings, parts, &tasks).unwrap();
        let stop = CancellationToken::new();
        let running = event_loop.run(stop.clone());
        let task = tasks.spawn("event loop", async move {
            Box::pin(running).await;
        });
        let mut harness = Self {
            broker,
            probe,
            messages,
            updates,
            device_messages,
            events: Some(events),
            rules: Arc::new(settings.rules),
            stop,
            task,
        };
        let online = |state: &Value| state["state"] == "online";
        harness.expect("bridge/state", online).await;
        // Devices wait for it.
        let message = timeout(PATIENCE, harness.device_messages.recv()).await.unwrap();
        assert!(matches!(message, Some(DeviceMsg::BridgeOnline)), "{message:?}");
        harness
    }

    async fn publish(&self, topic: &str, payload: &str) {
        self.probe.publish(&format!("tapo2mqtt/{topic}"), payload).await;
    }

    async fn expect(&self, topic: &str, predicate: impl Fn(&Value) -> bool) -> Value {
        let fulfils = |payload: &str| predicate(&parsed(payload));
        parsed(&self.probe.expect(&format!("tapo2mqtt/{topic}"), fulfils).await)
    }

    /// The next answer on a topic.
    async fn answer(&self, topic: &str) -> Value {
        let answer = self.expect(topic, |_| true).await;
        self.probe.forget();
        answer
    }

    async fn send(&self, update: SchedulerUpdate) {
        self.updates.send(update).await.unwrap();
    }

    /// Sends the rules and the status of the group.
    async fn send_group(&self) {
        self.send(SchedulerUpdate::Rules(self.rules.clone())).await;
        let status = SchedulerUpdate::Group("driveway".parse().unwrap(), Arc::new(group_status()));
        self.send(status).await;
        self.expect("group/driveway", |_| true).await;
    }

    /// The next message to the scheduler.
    async fn next_message(&mut self) -> SchedulerMsg {
        let message = timeout(PATIENCE, self.messages.recv()).await;
        message.expect("a message").expect("an event loop")
    }

    async fn next_command(&mut self) -> Command {
        match self.next_message().await {
            SchedulerMsg::Command(command) => command,
            other => panic!("{other:?} is no command"),
        }
    }

    async fn request(&mut self) -> (RequestReply, Request) {
        match self.next_message().await {
            SchedulerMsg::Request { request, reply } => (reply, request),
            other => panic!("{other:?} is no request"),
        }
    }

    /// Ends the workers and the event loop.
    async fn stop(&mut self) {
        self.stop.cancel();
        self.events = None;
        timeout(PATIENCE, &mut self.task).await.unwrap().unwrap();
    }

    /// Sends a command, and returns what it became.
    async fn command(&mut self, topic: &str, payload: &str) -> Command {
        self.publish(topic, payload).await;
        self.next_command().await
    }

    /// What Home Assistant holds about a group; null if nothing.
    async fn discovery(&self) -> Value {
        let topic = "homeassistant/device/tapo2mqtt-group-driveway/config";
        parsed(&self.broker.retained(topic).await.unwrap_or_default())
    }
}

fn path(path: &str) -> OutletPath {
    path.parse().unwrap()
}

fn driveway() -> Target {
    Target::Group("driveway".parse().unwrap())
}

fn on(outlet: &str) -> tapo2mqtt::domain::reply::MemberResult {
    let outlets = vec![(path(outlet), Some(Power::On))];
    (path(outlet), Ok(Applied { outlets, attempts: 1 }))
}

fn group_status() -> GroupStatus {
    GroupStatus {
        state: Some(Power::Off),
        mode: Mode::Auto,
        expected: Some(Power::Off),
        source: Source::Schedule,
        rule: None,
        reason: Reason::new("nothing is due"),
        why: Vec::new(),
        next_change: Some("2026-11-22T14:00:00Z".parse().unwrap()),
        next_state: Some(Power::On),
        override_until: None,
        cooldown_until: None,
        safety: SafetyState::Clear,
        energy: None,
        schedules: BTreeMap::from([
            ("morning".parse().unwrap(), true),
            ("week-end".parse().unwrap(), true),
        ]),
        thermostat: None,
    }
}

/// The plug `lamp`, off.
fn lamp() -> DeviceReport {
    DeviceReport {
        id: "lamp".parse().unwrap(),
        target: DeviceTarget::default(),
        name: None,
        address: "127.0.0.1:9".to_owned(),
        phase: Phase::Ready,
        availability: Availability::Online,
        error: None,
        identity: Some(Arc::new(Identity {
            device_id: "8022".to_owned(),
            model: "P110".to_owned(),
            firmware: None,
            hardware: None,
            mac: None,
            nickname: None,
            kind: Kind::Plug,
            meters_energy: false,
            role: tapo2mqtt::domain::report::DeviceRole::Outlet,
        })),
        is_complete: true,
        rssi: None,
        serving: None,
        led: None,
        latest_firmware: None,
        children: Vec::new(),
        outlets: vec![Outlet {
            key: None,
            position: 1,
            name: None,
            power: Some(Power::Off),
            on_since: None,
            on_at: None,
            off_seen_at: None,
            changed_by: ChangedBy::Unknown,
            condition: Condition::default(),
            energy: Energy::default(),
            features: BTreeSet::new(),
            countdown: Countdown::Unknown,
            settings: tapo2mqtt::domain::device_settings::OutletSettings::default(),
            rules: DeviceRules::default(),
        }],
    }
}

#[tokio::test]
async fn a_group_is_answered_member_by_member() {
    let mut harness = LoopHarness::start().await;
    let command = harness
        .command("group/driveway/set", r#"{"state":"ON","transaction":"t"}"#)
        .await;
    assert_eq!(command.target, driveway());
    assert_eq!(command.action, Action::Switch(Switch::To(Power::On)));
    assert_eq!(command.lifetime, None);
    let silent = CommandError {
        attempts: 2,
        ..CommandError::bridge(ErrorCode::NoAnswer, "the device did not confirm in time")
    };
    command
        .reply
        .send_members(vec![on("mats/1"), (path("lamp"), Err(silent))]);
    let mut answer = harness.answer("group/driveway/response").await;
    answer["latency_ms"] = json!(0);
    let error = |message: &str| json!({"code": "no_answer", "message": message, "origin": "device"});
    let expected = json!({
        "status": "error",
        "state": null,
        "transaction": "t",
        "members": {
            "mats/1": {"status": "ok", "state": "ON"},
            "lamp": {"status": "error", "state": null, "error": error("the device did not confirm in time")},
        },
        "error": error("lamp: the device did not confirm in time"),
        "latency_ms": 0,
        "attempts": 2,
    });
    assert_eq!(answer, expected);

    // A success is answered because it has a transaction.
    let command = harness
        .command("group/driveway/set", r#"{"state":"ON","transaction":"u"}"#)
        .await;
    command.reply.send_members(vec![on("mats/1"), on("lamp")]);
    let answer = harness.answer("group/driveway/response").await;
    assert_eq!(
        (&answer["status"], &answer["state"]),
        (&json!("ok"), &json!("ON"))
    );
    assert_eq!(answer["members"]["lamp"], json!({"status": "ok", "state": "ON"}));
}

#[tokio::test]
async fn every_word_of_a_command_reaches_the_scheduler() {
    let mut harness = LoopHarness::start().await;
    let at = |text: &str| Lifetime::Until(text.parse::<Timestamp>().unwrap());
    let (to_on, to_off) = (Switch::To(Power::On), Switch::To(Power::Off));
    let cases = [
        ("driveway/set", "AUTO", Action::Auto, None),
        ("driveway/set", "toggle", Action::Switch(Switch::Toggle), None),
        ("driveway/set/state", "0", Action::Switch(to_off), None),
        ("driveway/set/mode", "on", Action::Switch(to_on), None),
        ("driveway/set/mode", "auto", Action::Auto, None),
        (
            "driveway/set/mode",
            r#"{"mode":"off","override":"hold"}"#,
            Action::Switch(to_off),
            Some(Lifetime::Hold),
        ),
        (
            "driveway/set",
            r#"{"state":"ON","for":"2h"}"#,
            Action::Switch(to_on),
            Some(Lifetime::For("2h".parse().unwrap())),
        ),
        (
            "driveway/set",
            r#"{"state":"ON","override":"until_next_schedule"}"#,
            Action::Switch(to_on),
            Some(Lifetime::UntilNextSchedule),
        ),
        (
            "driveway/set",
            r#"{"state":"OFF","until":"2026-11-21T20:00:00-05:00"}"#,
            Action::Switch(to_off),
            Some(at("2026-11-22T01:00:00Z")),
        ),
        // It is noon in New York, so this is today and that is tomorrow.
        (
            "driveway/set",
            r#"{"state":"OFF","until":"12:30"}"#,
            Action::Switch(to_off),
            Some(at("2026-11-21T17:30:00Z")),
        ),
        (
            "driveway/set",
            r#"{"state":"OFF","until":"11:30"}"#,
            Action::Switch(to_off),
            Some(at("2026-11-22T16:30:00Z")),
        ),
        (
            "driveway/set",
            r#"{"state":"ON","on_time":300}"#,
            Action::OnFor(Duration::from_mins(5)),
            None,
        ),
    ];
    for (topic, payload, change, lifetime) in cases {
        let command = harness.command(&format!("group/{topic}"), payload).await;
        let got = (command.target, command.action, command.lifetime);
        assert_eq!(got, (driveway(), change, lifetime), "{payload}");
    }
    // Outlets and strips take the same payloads.
    for (topic, target) in [("lamp", "lamp"), ("mats/1", "mats/1"), ("mats", "mats")] {
        let command = harness
            .command(
                &format!("{topic}/set"),
                r#"{"state":"ON","on_time":5,"override":"hold"}"#,
            )
            .await;
        assert_eq!(command.target, Target::Outlet(path(target)));
        assert_eq!(command.action, Action::OnFor(Duration::from_secs(5)));
        assert_eq!(command.lifetime, Some(Lifetime::Hold));
        let command = harness.command(&format!("{topic}/set"), "AUTO").await;
        assert_eq!(command.action, Action::Auto);
    }
}

#[tokio::test]
async fn what_makes_no_sense_for_a_group_is_answered() {
    let mut harness = LoopHarness::start().await;
    let cases = [
        (
            "group/driveway/set",
            "perhaps",
            "group/driveway/response",
            "invalid_payload",
        ),
        (
            "group/driveway/set/mode",
            "toggle",
            "group/driveway/response",
            "invalid_payload",
        ),
        (
            "group/driveway/set/colour",
            "red",
            "group/driveway/response",
            "unknown_attribute",
        ),
        (
            "group/driveway/set/schedule/morning",
            "perhaps",
            "group/driveway/response",
            "invalid_payload",
        ),
    ];
    for (topic, payload, response, code) in cases {
        harness.publish(topic, payload).await;
        assert_eq!(
            harness.answer(response).await["error"]["code"],
            code,
            "{topic} {payload}"
        );
    }
    // None of it was passed on: this is the first question.
    let command = harness.command("group/driveway/set", "ON").await;
    command
        .reply
        .send(Err(CommandError::bridge(ErrorCode::BadCommand, "not now")));
    let answer = harness.answer("group/driveway/response").await;
    assert_eq!(answer["error"]["message"], "not now");
    assert_eq!(answer.get("members"), None);
}

#[tokio::test]
async fn a_busy_scheduler_is_no_reason_to_wait() {
    let harness = LoopHarness::start_on(Mosquitto::start().await, SETTINGS, 1).await;
    harness.publish("lamp/set", "ON").await;
    harness.publish("lamp/set", "OFF").await;
    assert_eq!(harness.answer("lamp/response").await["error"]["code"], "busy");
    harness
        .publish("bridge/request/plan", r#"{"transaction":7}"#)
        .await;
    let answer = harness.answer("bridge/response/plan").await;
    assert_eq!(
        (&answer["error"]["code"], &answer["transaction"]),
        (&json!("busy"), &json!(7))
    );
}

#[tokio::test]
async fn a_schedule_is_switched_by_its_topic() {
    let mut harness = LoopHarness::start().await;
    harness.send_group().await;
    harness.probe.forget();
    let topic = "group/driveway/set/schedule/morning";
    harness.publish(topic, "OFF").await;
    let (reply, request) = harness.request().await;
    let expected = |enabled| Request::EnableSchedule {
        group: "driveway".parse().unwrap(),
        schedule: "morning".parse().unwrap(),
        enabled,
    };
    assert_eq!(request, expected(false));
    reply.send(Ok(Value::Null));

    harness
        .publish(topic, r#"{"enabled":true,"transaction":"t"}"#)
        .await;
    let (reply, request) = harness.request().await;
    assert_eq!(request, expected(true));
    reply.send(Ok(Value::Null));
    let answer = harness.answer("group/driveway/response").await;
    assert_eq!(
        (&answer["status"], &answer["transaction"]),
        (&json!("ok"), &json!("t")),
        "the first one asked for no answer"
    );

    harness.publish("group/driveway/set/schedule/noon", "ON").await;
    let (reply, _) = harness.request().await;
    let unknown = RequestError::UnknownSchedule {
        group: "driveway".parse().unwrap(),
        schedule: "noon".parse().unwrap(),
    };
    reply.send(Err(unknown));
    let snap_back = harness.expect("group/driveway", |_| true).await;
    assert_eq!(snap_back["schedules"]["morning"], true);
    let answer = harness.answer("group/driveway/response").await;
    assert_eq!(answer["error"]["code"], "unknown_schedule");
}

#[tokio::test]
async fn requests_are_passed_on_and_answered() {
    let mut harness = LoopHarness::start().await;
    harness
        .publish("bridge/request/plan", r#"{"days":2,"transaction":"p"}"#)
        .await;
    let (reply, request) = harness.request().await;
    let expected = Request::Plan {
        group: None,
        days: 2,
        page: 1,
        draft: None,
    };
    assert_eq!(request, expected);
    let plan = json!([{"group": "driveway", "at": "2026-11-22T09:00:00-05:00", "power": "ON"}]);
    let result = Ok(plan.clone());
    reply.send(result);
    let answer = harness.answer("bridge/response/plan").await;
    assert_eq!(answer, json!({"status": "ok", "data": plan, "transaction": "p"}));

    let schedule = json!({"id": "noon", "start": "12:00", "for": "1h", "safety": {"max_on": "30m"}});
    let payload = json!({"group": "driveway", "schedule": schedule}).to_string();
    harness.publish("bridge/request/schedule/set", &payload).await;
    let (reply, request) = harness.request().await;
    let group = "driveway".parse().unwrap();
    assert_eq!(request, Request::SetSchedule { group, schedule });
    let result = Err(RequestError::Invalid(
        "schedule.start: expected a time".to_owned(),
    ));
    reply.send(result);
    let answer = harness.answer("bridge/response/schedule/set").await;
    let expected = json!({"code": "invalid_value", "message": "schedule.start: expected a time"});
    assert_eq!(
        answer,
        json!({"status": "error", "data": null, "error": expected})
    );

    for (name, payload, code) in [
        ("plan", r#"{"days":32}"#, "out_of_range"),
        ("vacation", "ON", "invalid_payload"),
        ("schedule/enable", r#"{"group":"driveway"}"#, "missing_key"),
        ("override/clear", r#"{"who":"all"}"#, "unknown_key"),
    ] {
        harness.publish(&format!("bridge/request/{name}"), payload).await;
        let answer = harness.answer(&format!("bridge/response/{name}")).await;
        assert_eq!(answer["error"]["code"], code, "{name} {payload}");
    }
}

#[tokio::test]
async fn whoever_waits_for_the_scheduler_is_answered_at_the_stop() {
    let mut harness = LoopHarness::start().await;
    harness
        .publish("bridge/request/override/list", r#"{"transaction":1}"#)
        .await;
    let (request, _) = harness.request().await;
    let command = harness.command("group/driveway/set", "ON").await;
    // The scheduler ends with what it has not carried out.
    let (_, closed) = mpsc::channel(1);
    drop((request, command, std::mem::replace(&mut harness.messages, closed)));
    harness.stop().await;
    let answer = harness.expect("bridge/response/override/list", |_| true).await;
    assert_eq!(answer["error"]["code"], "shutting_down");
    let answer = harness.expect("group/driveway/response", |_| true).await;
    assert_eq!(answer["error"]["code"], "shutting_down");
}

#[tokio::test]
async fn a_sensor_gets_what_the_broker_kept_and_what_is_published() {
    let broker = Mosquitto::start().await;
    let cold = r#"{"temperature":-3,"dew_point":-5}"#;
    broker
        .probe()
        .await
        .publish_retained("weather/outdoor", cold)
        .await;
    let mut harness = LoopHarness::start_on(broker, SETTINGS, 16).await;
    for (payload, publish) in [(cold, false), ("broken", true)] {
        if publish {
            harness.probe.publish("weather/outdoor", payload).await;
        }
        match harness.next_message().await {
            SchedulerMsg::Sensor {
                topic,
                payload: received,
                retained,
            } => {
                assert_eq!(
                    (topic.as_str(), &received[..], retained),
                    ("weather/outdoor", payload.as_bytes(), !publish)
                );
            }
            other => panic!("{other:?} is no sensor value"),
        }
    }
}

#[tokio::test]
async fn reads_and_restarts_go_to_the_scheduler_too() {
    let mut harness = LoopHarness::start().await;
    let read = harness
        .command("group/driveway/get", r#"{"transaction":"g"}"#)
        .await;
    assert_eq!((read.target, read.action), (driveway(), Action::Read));
    read.reply.send_members(vec![on("mats/1"), on("lamp")]);
    let answer = harness.answer("group/driveway/response").await;
    assert_eq!(
        (&answer["status"], &answer["transaction"]),
        (&json!("ok"), &json!("g"))
    );
    assert_eq!(
        answer["members"],
        json!({"mats/1": {"status": "ok", "state": "ON"}, "lamp": {"status": "ok", "state": "ON"}})
    );
    let reboot = harness.command("lamp/set/reboot", "PRESS").await;
    let lamp = Target::Outlet(path("lamp"));
    assert_eq!((reboot.target, reboot.action), (lamp, Action::Reboot));
    for (topic, response) in [
        ("group/driveway", "group/driveway/response"),
        ("mats/1", "mats/1/response"),
    ] {
        harness.publish(&format!("{topic}/set/reboot"), "PRESS").await;
        assert_eq!(harness.answer(response).await["error"]["code"], "unsupported");
    }
    assert!(
        harness.device_messages.try_recv().is_err(),
        "the device owner gets commands from the scheduler"
    );
}

#[tokio::test]
async fn a_repeated_command_is_executed_once_per_transaction() {
    let mut harness = LoopHarness::start().await;
    let off = || Applied::unasked(&path("lamp"), Some(Power::Off));
    for (topic, payload, action) in [
        (
            "lamp/set",
            r#"{"state":"ON","transaction":"t1"}"#,
            Action::Switch(Switch::To(Power::On)),
        ),
        (
            "lamp/set",
            r#"{"state":"TOGGLE","transaction":"t1"}"#,
            Action::Switch(Switch::Toggle),
        ),
    ] {
        let command = harness.command(topic, payload).await;
        assert_eq!(command.action, action);
        command.reply.send(Ok(off()));
        let first = harness.answer("lamp/response").await;
        harness.publish(topic, payload).await;
        assert_eq!(
            harness.answer("lamp/response").await,
            first,
            "the repetition gets its response"
        );
    }
    assert!(
        harness.messages.try_recv().is_err(),
        "no repetition was carried out"
    );
}

#[tokio::test]
async fn updates_of_the_scheduler_are_published() {
    let harness = LoopHarness::start().await;
    assert_eq!(
        harness.discovery().await,
        Value::Null,
        "which schedules there are is not known yet"
    );
    let lamp = Arc::new(lamp());
    let events = harness.events.as_ref().unwrap();
    events.send(DeviceEvent::Report(lamp)).await.unwrap();
    let state = harness.expect("lamp", |_| true).await;
    assert_eq!(
        (&state["source"], &state["expected"]),
        (&json!("manual"), &Value::Null)
    );

    harness.send(SchedulerUpdate::Rules(harness.rules.clone())).await;
    harness
        .send(SchedulerUpdate::Vacation(Vacation::Since(NOON.parse().unwrap())))
        .await;
    let status = OutletStatus {
        expected: Some(Power::On),
        source: Source::Override,
        mismatch: Some(true),
        ..OutletStatus::MANUAL
    };
    harness
        .send(SchedulerUpdate::Outlet(path("lamp"), Arc::new(status)))
        .await;
    harness
        .send(SchedulerUpdate::Group(
            "driveway".parse().unwrap(),
            Arc::new(group_status()),
        ))
        .await;
    harness
        .send(SchedulerUpdate::Event(Event {
            kind: EventKind::ScheduleOff,
            device: None,
            outlet: None,
            group: Some("driveway".parse().unwrap()),
            state: None,
            action: None,
            message: "morning ended".to_owned(),
            at: NOON.parse().unwrap(),
        }))
        .await;

    let event = harness
        .expect("bridge/event", |event| event["type"] == "schedule_off")
        .await;
    assert_eq!(event["group"], "driveway");
    let state = harness.expect("lamp", |state| state["expected"] == "ON").await;
    assert_eq!(
        (&state["state"], &state["source"], &state["mismatch"]),
        (&json!("OFF"), &json!("override"), &json!(true))
    );
    let info = harness
        .expect("bridge/info", |info| info["vacation"] == true)
        .await;
    assert_eq!(info["vacation_since"], NOON);
    let group = parsed(&harness.broker.retained("tapo2mqtt/group/driveway").await.unwrap());
    let expected = json!({
        "state": "OFF", "mode": "auto", "expected": "OFF", "source": "schedule", "rule": null,
        "reason": "nothing is due", "why": [], "next_change": "2026-11-22T14:00:00Z", "next_state": "ON",
        "override_until": null, "cooldown_until": null, "safety": "clear",
        "schedules": {"morning": true, "week-end": true},
        "schedule_times": {},
    });
    assert_eq!(group, expected);
    let groups = parsed(&harness.broker.retained("tapo2mqtt/bridge/groups").await.unwrap());
    let expected = json!([{
        "id": "driveway", "name": "Driveway heating", "outlets": ["mats/1", "lamp"],
        "schedules": ["morning", "week-end"],
    }]);
    assert_eq!(groups, expected);
    let discovery = harness.discovery().await;
    assert_eq!(discovery["device"]["name"], "Driveway heating");
    let schedule = &discovery["components"]["tapo2mqtt-group-driveway_schedule_week-end"];
    assert_eq!(
        schedule["value_template"],
        r#"{{ value_json.schedules["week-end"] }}"#
    );
}

#[tokio::test]
async fn a_schedule_that_is_gone_leaves_home_assistant() {
    let harness = LoopHarness::start().await;
    harness.send(SchedulerUpdate::Rules(harness.rules.clone())).await;
    let config = "homeassistant/device/tapo2mqtt-group-driveway/config";
    let week_end = |payload: &str| {
        let id = "tapo2mqtt-group-driveway_schedule_week-end";
        parsed(payload)["components"][id].clone()
    };
    harness
        .probe
        .expect(config, |payload| week_end(payload).get("command_topic").is_some())
        .await;
    let mut rules = Rules::clone(&harness.rules);
    rules.groups[0].schedules.truncate(1);
    harness.send(SchedulerUpdate::Rules(Arc::new(rules))).await;
    harness
        .probe
        .expect(config, |payload| {
            week_end(payload) == json!({"platform": "switch"})
        })
        .await;
}

#[tokio::test]
async fn groups_of_an_earlier_run_are_cleaned_up() {
    let _fast = fast_clocks();
    let broker: Arc<Mosquitto> = Mosquitto::start().await.into();
    let mut harness = LoopHarness::start_on(broker.clone(), SETTINGS, 16).await;
    harness.send_group().await;
    assert_ne!(harness.discovery().await, Value::Null);
    harness.stop().await;

    let garage = SETTINGS.replace("\"driveway\"", "\"garage\"");
    let harness = LoopHarness::start_on(broker, &garage, 16).await;
    let config = "homeassistant/device/tapo2mqtt-group-driveway/config";
    for topic in ["tapo2mqtt/group/driveway", config] {
        harness.probe.expect(topic, str::is_empty).await;
        assert_eq!(harness.broker.retained(topic).await, None, "{topic}");
    }
}

#[tokio::test]
async fn a_plan_is_requested_in_pages_and_a_response_has_a_limit() {
    let mut harness = LoopHarness::start().await;
    harness
        .publish("bridge/request/plan", r#"{"days":31,"page":3}"#)
        .await;
    let (reply, request) = harness.request().await;
    let expected = Request::Plan {
        group: None,
        days: 31,
        page: 3,
        draft: None,
    };
    assert_eq!(request, expected);
    // More than brokers accept: the connection would be lost.
    reply.send(Ok(Value::String("x".repeat(1 << 20))));
    let answer = harness.answer("bridge/response/plan").await;
    assert_eq!(answer["error"]["code"], "too_large");
    assert_eq!(answer["data"], Value::Null);
}

/// The first list of a strip that just started may leave outlets out.
#[tokio::test]
async fn a_first_list_without_an_outlet_clears_no_topic() {
    let _fast = fast_clocks();
    let harness = LoopHarness::start().await;
    let outlet = |key: &str, position| Outlet {
        key: Some(key.parse().unwrap()),
        position,
        ..lamp().outlets.remove(0)
    };
    let identity = Identity {
        kind: Kind::Strip,
        ..Identity::clone(lamp().identity.as_ref().unwrap())
    };
    let strip = |outlets, is_complete| DeviceReport {
        id: "mats".parse().unwrap(),
        identity: Some(Arc::new(identity.clone())),
        is_complete,
        outlets,
        ..lamp()
    };
    let reports = harness.events.as_ref().unwrap();
    let send = async |strip| reports.send(DeviceEvent::Report(Arc::new(strip))).await.unwrap();
    let (both, one) = (vec![outlet("1", 1), outlet("2", 2)], vec![outlet("1", 1)]);
    send(strip(both, true)).await;
    harness.expect("mats/2", |state| state["state"] == "OFF").await;
    let mut on = one.clone();
    on[0].power = Some(Power::On);
    send(strip(on, false)).await;
    harness.expect("mats/1", |state| state["state"] == "ON").await;
    assert!(harness.broker.retained("tapo2mqtt/mats/2").await.is_some());
    send(strip(one, true)).await;
    harness.probe.expect("tapo2mqtt/mats/2", str::is_empty).await;
}

#[tokio::test]
async fn states_are_published_only_of_what_is_configured() {
    let harness = LoopHarness::start().await;
    let mut strip = lamp();
    strip.id = "mats".parse().unwrap();
    strip.identity = None;
    strip.outlets.clear();
    strip.phase = Phase::Connecting;
    strip.availability = Availability::Offline;
    let reports = harness.events.as_ref().unwrap();
    reports.send(DeviceEvent::Report(Arc::new(strip))).await.unwrap();
    harness.expect("mats/availability", |_| true).await;
    // A timer that was kept of a device, and one of an outlet, that are not there any more.
    for gone in ["sold", "mats/old", "mats/1"] {
        let status = Arc::new(OutletStatus::MANUAL);
        harness.send(SchedulerUpdate::Outlet(path(gone), status)).await;
    }
    harness
        .send(SchedulerUpdate::Vacation(Vacation::Since(NOON.parse().unwrap())))
        .await;
    harness
        .expect("bridge/info", |info| info["vacation"] == true)
        .await;
    let states = harness.broker.retained_under("tapo2mqtt/#").await;
    let holds = |topic: &str| states.contains_key(&format!("tapo2mqtt/{topic}"));
    assert!(holds("mats") && holds("mats/1"), "the group has it: {states:?}");
    assert!(!holds("sold") && !holds("mats/old"), "{states:?}");
}
