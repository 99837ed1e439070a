//! Energy meters and protections: what the workers read, and what of it arrives on the broker.

use std::{fs, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use planner::units::{MilliWattHours, MilliWatts};
use serde_json::{Value, json};
use tapo_simulator::{Damage, DeviceHandle, Fault, FaultKind, Profile, Scope, Simulator};
use tapo2mqtt::{
    devices::{DeviceOwner, DeviceSections},
    domain::{
        device_metrics::MetricsRegistry,
        devices::{
            ClientChoice, DeviceConfig, DeviceEvent, DeviceMsg, DeviceSet, EventSenders, PeriodicSearch,
            PollingConfig,
        },
        report::{DeviceReport, EventKind, Outlet},
        report_thresholds::ReportThresholds,
        search_area::SearchArea,
    },
    system::{clock::Clock, tasks::Tasks},
};
use tempfile::tempdir;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bridge::{Running, Setup, device_config, fast_clocks, parsed, polling},
    log::Log,
    probe::PATIENCE,
};

/// The device owner with one device, without a broker.
struct Watched {
    events: mpsc::Receiver<DeviceEvent>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    metrics: MetricsRegistry,
    _messages: mpsc::Sender<DeviceMsg>,
}

impl Watched {
    fn start(
        device: &DeviceHandle,
        polling: &PollingConfig,
        sections: &DeviceSections,
        clock: &Clock,
    ) -> Self {
        Self::start_as(
            device_config("device", device.address()),
            polling,
            sections,
            clock,
        )
    }

    fn start_as(
        config: DeviceConfig,
        polling: &PollingConfig,
        sections: &DeviceSections,
        clock: &Clock,
    ) -> Self {
        let metrics = MetricsRegistry::default();
        let roster = DeviceSet {
            devices: vec![config],
            polling: polling.clone(),
            area: SearchArea::default(),
            search: PeriodicSearch::default(),
        };
        let (messages, inbox) = mpsc::channel(16);
        let (sender, events) = mpsc::channel(10_000);
        let tasks = Tasks::default();
        let owner = DeviceOwner::start(
            roster,
            inbox,
            EventSenders {
                mqtt: sender.clone(),
                scheduler: sender,
            },
            metrics.clone(),
            clock.clone(),
            tasks.clone(),
            sections.clone(),
        );
        let stop = CancellationToken::new();
        let task = tasks.spawn("owner", owner.run(stop.clone()));
        Self {
            events,
            stop,
            task,
            metrics,
            _messages: messages,
        }
    }

    /// What needs attention although the device works.
    fn issues(&self) -> Vec<String> {
        let health = self.metrics.devices();
        health.values().flat_map(|device| device.issues.clone()).collect()
    }

    /// Waits for a report.
    async fn report(&mut self, wanted: impl Fn(&DeviceReport) -> bool) -> Arc<DeviceReport> {
        let find = async {
            loop {
                match self.events.recv().await.unwrap() {
                    DeviceEvent::Report(report) if wanted(&report) => return report,
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, find).await.expect("a report")
    }

    /// Everything reported since the last time.
    fn reports(&mut self) -> Vec<Arc<DeviceReport>> {
        let mut reports = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if let DeviceEvent::Report(report) = event {
                reports.push(report);
            }
        }
        reports
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

/// Reads meters all the time, and reports everything.
fn eager() -> PollingConfig {
    PollingConfig {
        poll: Duration::from_millis(200),
        slow_poll: Duration::from_millis(2),
        telling: ReportThresholds {
            power_change: MilliWatts::default(),
            energy_change: MilliWattHours::ZERO,
            max_interval: Duration::ZERO,
        },
        ..polling()
    }
}

/// Waits until a meter was read from the first request to the last.
async fn metered(device: &DeviceHandle) {
    let asked = device.counters().requests_of("get_energy_usage");
    device
        .wait_requests("get_energy_usage", asked + 3, PATIENCE)
        .await
        .unwrap();
}

/// What a device's total is held against.
struct Ledger {
    device: DeviceHandle,
    clock: Clock,
    total: f64,
}

impl Ledger {
    /// Moves both clocks.
    fn pass(&self, time: Duration) {
        self.device.advance(time);
        self.clock.jump(SignedDuration::try_from(time).unwrap());
    }

    /// No total falls, and none is more than what was drawn. In Wh.
    fn check(&mut self, reports: &[Arc<DeviceReport>]) {
        let drawn = self.device.drawn(1);
        for report in reports {
            let Some(total) = report.outlets.first().and_then(|outlet| outlet.energy.total) else {
                continue;
            };
            let total = total.kilowatt_hours() * 1000.0;
            assert!(total >= self.total, "{total} after {}", self.total);
            assert!(total <= drawn + 2.0, "{total} of {drawn}");
            self.total = total;
        }
    }
}

/// Until five seconds before the next midnight of the device, which lives in UTC.
fn until_late(clock: &Clock) -> Duration {
    let now = clock.now().to_zoned_datetime(TimeZone::UTC);
    let midnight = now.tomorrow().unwrap().start_of_day().unwrap();
    let late = midnight.timestamp() - SignedDuration::from_secs(5);
    Duration::try_from(late.duration_since(now.timestamp())).unwrap_or_default()
}

#[allow(clippy::disallowed_methods)] // The simulated device starts at the time of day.
async fn a_month(profile: Profile) {
    let device = Simulator::plug(profile).start().await.unwrap();
    let (sections, clock) = (DeviceSections::default(), Clock::steered(Timestamp::now()));
    let mut ledger = Ledger {
        device: device.handle(),
        clock: clock.clone(),
        total: 0.0,
    };
    let mut watched = Watched::start(&device, &eager(), &sections, &clock);
    watched
        .report(|report| report.outlets.iter().any(|outlet| outlet.energy.total.is_some()))
        .await;
    device.press(1).unwrap();
    for day in 0..31_u32 {
        for part in 0..2 {
            let watts = f64::from(5 + (day * 2 + part) * 29 % 1800);
            device.set_watts(1, watts).unwrap();
            ledger.pass(until_late(&clock) / (2 - part));
            metered(&device).await;
        }
        ledger.pass(Duration::from_secs(10));
        metered(&device).await;
        ledger.check(&watched.reports());
        match day {
            // The device forgets all it counted. No hours pass between the two requests of a reading.
            4 => {
                device.reset_meter(1).unwrap();
                metered(&device).await;
            }
            // The bridge is away for two hours.
            7 => {
                assert!(
                    sections.energy.get().is_empty(),
                    "written once a minute, not at each reading"
                );
                watched.stop().await;
                assert_eq!(sections.energy.get().len(), 1);
                ledger.pass(Duration::from_hours(2));
                watched = Watched::start(&device, &eager(), &sections, &clock);
            }
            // The device is away for an hour, and restarts.
            20 => {
                device.reboot(Duration::from_millis(50)).await.unwrap();
                ledger.pass(Duration::from_hours(1));
                metered(&device).await;
            }
            _ => {}
        }
    }
    metered(&device).await;
    ledger.check(&watched.reports());
    let drawn = device.drawn(1);
    eprintln!("{profile}: {} Wh of {drawn} Wh", ledger.total);
    // In whole Wh, once per time that a counter started over.
    assert!((ledger.total - drawn).abs() <= 8.0, "{} of {drawn}", ledger.total);
    assert!(drawn > 400_000.0, "{drawn}");
    watched.stop().await;
}

#[tokio::test]
async fn a_month_with_a_counter_since_the_restart_is_added_up() {
    a_month(Profile::P110).await;
}

#[tokio::test]
async fn a_month_with_nothing_but_the_months_counter_is_added_up() {
    a_month(Profile::P110Old).await;
}

/// The values of a report that are known, by name.
fn known(outlet: &Outlet, report: &DeviceReport) -> Vec<&'static str> {
    let identity = report.identity.as_ref().unwrap();
    let values = [
        ("rssi", report.rssi.is_some()),
        ("firmware", identity.firmware.is_some()),
        ("mac", identity.mac.is_some()),
        ("nickname", identity.nickname.is_some()),
        ("state", outlet.power.is_some()),
        ("on_since", outlet.on_since.is_some()),
        ("overload", outlet.condition.overload.is_some()),
        ("overcurrent", outlet.condition.overcurrent.is_some()),
        ("charging", outlet.condition.charging.is_some()),
        ("auto_off", outlet.condition.auto_off.is_some()),
        ("power", outlet.energy.power.is_some()),
        ("voltage", outlet.energy.voltage.is_some()),
        ("current", outlet.energy.current.is_some()),
        ("today", outlet.energy.today.is_some()),
        ("month", outlet.energy.month.is_some()),
        ("total", outlet.energy.total.is_some()),
    ];
    let known = values.into_iter().filter(|(_, known)| *known);
    known.map(|(name, _)| name).collect()
}

/// Fields of a P110, and what is lost without them. The power and the energy of the day also come with other requests.
const FIELDS: [(&str, &[&str]); 17] = [
    ("rssi", &["rssi"]),
    ("fw_ver", &["firmware"]),
    // Known since an earlier login.
    ("mac", &[]),
    ("nickname", &["nickname"]),
    ("device_on", &["state", "on_since"]),
    ("on_time", &["on_since"]),
    ("power_protection_status", &["overload"]),
    ("overcurrent_status", &["overcurrent"]),
    ("charging_status", &["charging"]),
    ("auto_off_status", &["auto_off"]),
    ("power_mw", &[]),
    ("voltage_mv", &["voltage"]),
    ("energy_mwh", &[]),
    ("current_power", &[]),
    ("today_energy", &[]),
    ("month_energy", &["month"]),
    ("local_time", &[]),
];

#[tokio::test]
async fn each_missing_field_leaves_every_other_value() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    device.press(1).unwrap();
    let (sections, clock) = (DeviceSections::default(), Clock::system());
    let polling = PollingConfig {
        poll: Duration::from_millis(5),
        ..eager()
    };
    let mut whole = Vec::new();
    for (field, lost) in std::iter::once(("none", &[][..])).chain(FIELDS) {
        let fields = vec![field.to_owned()];
        device.faults().set(Fault::MissingFields { fields });
        let mut watched = Watched::start(&device, &polling, &sections, &clock);
        let settled = |report: &DeviceReport| {
            report.outlets.first().is_some_and(|outlet| {
                let energy = &outlet.energy;
                energy.power.is_some() && energy.today.is_some() && energy.total.is_some()
            })
        };
        let report = watched.report(settled).await;
        let outlet = &report.outlets[0];
        if whole.is_empty() {
            whole = known(outlet, &report);
            assert_eq!(whole.len(), 16, "{whole:?}");
        }
        let expected: Vec<_> = whole
            .iter()
            .copied()
            .filter(|name| !lost.contains(name))
            .collect();
        assert_eq!(known(outlet, &report), expected, "without {field}");
        watched.stop().await;
    }
}

#[tokio::test]
async fn unknown_status_values_pass_through() {
    let device = Simulator::strip(Profile::P304M).start().await.unwrap();
    let words = [
        "overheat_status",
        "power_protection_status",
        "overcurrent_status",
        "charging_status",
        "auto_off_status",
    ];
    let values = words.map(|word| (word.to_owned(), json!("novel"))).into();
    device.faults().set(Fault::FieldValues { values });
    let bridge = Setup::new().device("strip", device.address()).start().await;
    let state = bridge.expect("strip/1", |state| state["power"].is_number()).await;
    for key in ["overheated", "overloaded", "overcurrent"] {
        assert_eq!(state[key], Value::Null, "{key}");
    }
    assert_eq!(state["protection"], "novel, novel, novel");
    assert_eq!(
        (&state["charging"], &state["auto_off"]),
        (&json!("novel"), &json!("novel"))
    );
    assert_eq!(state["state"], "OFF");
}

/// What a plug behind a balcony solar plant sent. The `tapo` crate reads no part of it.
#[tokio::test]
async fn power_that_is_fed_in_is_negative() {
    let usage = json!({
        "today_runtime": 137, "month_runtime": 137, "today_energy": 6, "month_energy": 6,
        "local_time": "2026-06-17 11:12:11", "electricity_charge": [0, 0, 0], "current_power": -19_231,
    });
    let values = serde_json::from_value(usage).unwrap();
    let device = Simulator::plug(Profile::P110)
        .fault(Fault::FieldValues { values })
        .fault(Fault::Refuse {
            code: -1002,
            scope: Scope::method("get_emeter_data"),
        })
        .start()
        .await
        .unwrap();
    let mut bridge = Setup::new().device("plug", device.address()).start().await;
    let state = bridge.expect("plug", |state| state["power"].is_number()).await;
    assert_eq!(
        (&state["power"], &state["energy_today"]),
        (&json!(-19.2), &json!(0.006))
    );
    let answer = bridge.set("plug", "t", json!({ "state": "ON" })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    bridge.stop().await;
    let counters = device.counters();
    assert_eq!((counters.logins, counters.failed_logins), (2, 0));
    assert_eq!((counters.max_in_flight, counters.sequence_violations), (1, 0));
}

/// A plug whose usage cannot be read for a while.
fn garbled(scope: Scope) -> Fault {
    Fault::Malformed {
        damage: Damage::NotJson,
        scope,
    }
}

#[tokio::test]
async fn a_meter_that_could_not_be_read_is_back_in_ten_readings() {
    for client in [ClientChoice::Auto, ClientChoice::Tapo, ClientChoice::Own] {
        let log = Log::capture();
        let usage = Scope::method("get_energy_usage");
        let device = Simulator::plug(Profile::P110).fault(garbled(usage.clone().times(4)));
        let device = device.start().await.unwrap();
        let config = DeviceConfig {
            client,
            ..device_config("device", device.address())
        };
        let mut watched = Watched::start_as(config, &eager(), &DeviceSections::default(), &Clock::system());
        let with_month = |report: &DeviceReport| {
            let mut outlets = report.outlets.iter();
            outlets.any(|outlet| outlet.energy.month.is_some())
        };
        watched.report(with_month).await;
        let readings = device.counters().requests_of("get_emeter_data");
        assert!(readings <= 10, "{client:?}: {readings}");
        let warning = |line: &&String| line.contains("meter answers cannot be read");
        assert_eq!(log.lines().iter().filter(warning).count(), 1, "{client:?}");

        device.faults().set(garbled(usage));
        let issue = "answers of the meter cannot be read (get_energy_usage); it is asked again later";
        while watched.issues() != [issue] {
            watched.report(|_| true).await;
        }
        device.faults().clear(FaultKind::Malformed);
        while !watched.issues().is_empty() {
            watched.report(|_| true).await;
        }
        watched.stop().await;
        assert_eq!(device.counters().sequence_violations, 0);
    }
}

#[tokio::test]
async fn a_device_without_a_clock_is_switched_with_unknown_energy() {
    let _fast = fast_clocks();
    let device = Simulator::plug(Profile::P110Old)
        .fault(Fault::ClockUnset)
        .start()
        .await
        .unwrap();
    let bridge = Setup::new().device("plug", device.address()).start().await;
    bridge.available("plug").await;
    device
        .wait_requests("get_energy_usage", 1, PATIENCE)
        .await
        .unwrap();
    let answer = bridge.set("plug", "t", json!({ "state": "ON" })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    let state = bridge.retained("plug").await;
    for key in ["energy_today", "energy_month", "energy_total"] {
        assert_eq!(state.get(key), Some(&Value::Null), "{key}");
    }
    device.faults().clear(FaultKind::ClockUnset);
    bridge.publish("plug/get", "").await;
    bridge
        .expect("plug", |state| state["energy_total"].is_number())
        .await;
    assert_eq!(
        device.counters().requests_of("get_emeter_data"),
        1,
        "-1002 is remembered"
    );
}

/// Counts what a device is asked in a minute of the default settings, twenty times as fast.
async fn asked_in_a_minute(profile: Profile) -> (u64, u64, u64) {
    const FASTER: u32 = 20;
    let device = Simulator::device(profile).start().await.unwrap();
    let defaults = polling();
    let polling = PollingConfig {
        poll: defaults.poll / FASTER,
        slow_poll: defaults.slow_poll / FASTER,
        ..defaults
    };
    let mut watched = Watched::start(&device, &polling, &DeviceSections::default(), &Clock::system());
    watched
        .report(|report| report.outlets.iter().any(|outlet| outlet.energy.power.is_some()))
        .await;
    device.reset_counters();
    let minute = Instant::now() + Duration::from_mins(1) / FASTER;
    tokio::time::sleep_until(minute).await;
    let counters = device.counters();
    watched.stop().await;
    eprintln!("{profile}: {:?} in a minute", counters.requests);
    assert_eq!(counters.max_in_flight, 1, "{profile}");
    let meters = ["get_emeter_data", "get_energy_usage", "get_current_power"];
    let states = ["get_device_info", "get_child_device_list"];
    let count = |methods: &[&str]| methods.iter().map(|method| counters.requests_of(method)).sum();
    (count(&states), count(&meters), counters.http_requests)
}

#[tokio::test]
async fn devices_are_asked_no_more_than_they_bear() {
    let _fast = fast_clocks();
    let (plug, strip, blind) = tokio::join!(
        asked_in_a_minute(Profile::P110),
        asked_in_a_minute(Profile::P304M),
        asked_in_a_minute(Profile::P316M),
    );
    // State every 5 s, jittered; a strip's own values every 30 s.
    // The rules of each outlet are read once.
    for (profile, (states, meters, all), states_at_most, at_most) in [
        ("plug", plug, 15, 26),
        ("strip of 4", strip, 18, 28),
        ("strip of 6", blind, 18, 30),
    ] {
        assert!((1..=states_at_most).contains(&states), "{profile}: {states}");
        // One outlet every 30 s, in at most three requests.
        assert!((1..=9).contains(&meters), "{profile}: {meters}");
        assert!(all <= at_most, "{profile}: {all}");
    }
}

/// The totals that were published for a plug, in their order.
fn totals(bridge: &Running) -> Vec<f64> {
    let payloads = bridge.probe.payloads("tapo2mqtt/plug");
    let totals = payloads
        .iter()
        .map(|payload| parsed(payload)["energy_total"].clone());
    totals.filter_map(|total| total.as_f64()).collect()
}

#[tokio::test]
async fn energy_arrives_and_goes_on_after_a_restart_of_the_bridge() {
    let _fast = fast_clocks();
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    device.press(1).unwrap();
    let directory = Arc::new(tempdir().unwrap());
    let setup = || {
        Setup::new()
            .directory(directory.clone())
            .device("plug", device.address())
    };
    let mut first = setup().start().await;
    let state = first.expect("plug", |state| state["power"].is_number()).await;
    assert_eq!(
        (&state["power"], &state["voltage"], &state["current"]),
        (&json!(60.0), &json!(230.0), &json!(0.26))
    );
    device.advance(Duration::from_hours(1));
    first.publish("plug/get", "").await;
    let used =
        |least: f64| move |state: &Value| state["energy_total"].as_f64().is_some_and(|total| total >= least);
    first.expect("plug", used(0.06)).await;
    first.stop().await;
    let mut totals_seen = totals(&first);

    device.advance(Duration::from_hours(2));
    let second = setup().start_on(first.broker.clone()).await;
    second.expect("plug", used(0.18)).await;
    totals_seen.extend(totals(&second));
    assert!(totals_seen.is_sorted(), "{totals_seen:?}");
    assert!(totals_seen.iter().all(|total| *total < 0.182), "{totals_seen:?}");
    let config = "homeassistant/device/tapo2mqtt_plug/config";
    for payload in second.probe.payloads(config) {
        let voltage = &parsed(&payload)["components"]["tapo2mqtt_plug_voltage"];
        assert!(
            voltage["state_topic"].is_string(),
            "not withdrawn meanwhile: {payload}"
        );
    }
}

/// What the history says that was used yesterday and today, in kWh, or why it says nothing.
async fn history(bridge: &Running, request: Value) -> Result<f64, Value> {
    let mut request = request;
    let transaction = format!("{request}");
    request["transaction"] = json!(&transaction[..transaction.len().min(32)]);
    bridge
        .publish("bridge/request/history", request.to_string())
        .await;
    let is_mine = |response: &Value| response["transaction"] == request["transaction"];
    let response = bridge.expect("bridge/response/history", is_mine).await;
    bridge.probe.forget();
    match response["data"]["energy"].as_array() {
        Some(values) => Ok(values.iter().filter_map(Value::as_f64).sum()),
        None => Err(response["error"]["code"].clone()),
    }
}

#[tokio::test]
async fn the_history_adds_up_and_survives_a_restart() {
    let _fast = fast_clocks();
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    device.press(1).unwrap();
    let directory = Arc::new(tempdir().unwrap());
    let setup = || {
        Setup::new()
            .directory(directory.clone())
            .device("plug", device.address())
    };
    let used =
        |least: f64| move |state: &Value| state["energy_total"].as_f64().is_some_and(|total| total >= least);
    let mut first = setup().start().await;
    first.expect("plug", |state| state["power"].is_number()).await;
    device.advance(Duration::from_hours(1));
    first.publish("plug/get", "").await;
    first.expect("plug", used(0.06)).await;
    for request in [
        json!({ "outlet": "plug", "days": 2 }),
        json!({ "days": 2 }),
        json!({ "outlet": "plug", "step": "day", "days": 2 }),
    ] {
        let energy = history(&first, request.clone()).await.unwrap();
        assert!((0.06..0.062).contains(&energy), "{request}: {energy}");
    }
    for (request, code) in [
        (json!({ "outlet": "lamp" }), "unknown_name"),
        (json!({ "days": 36 }), "out_of_range"),
        (json!({ "step": "hour" }), "invalid_value"),
        (json!({ "until": "soon" }), "invalid_value"),
        (json!({ "until": "9999-12-31" }), "invalid_value"),
    ] {
        assert_eq!(
            history(&first, request.clone()).await,
            Err(json!(code)),
            "{request}"
        );
    }
    first.stop().await;

    device.advance(Duration::from_hours(2));
    let mut second = setup().start_on(first.broker.clone()).await;
    second.expect("plug", used(0.18)).await;
    let energy = history(&second, json!({ "days": 2 })).await.unwrap();
    assert!((0.18..0.182).contains(&energy), "{energy}");
    second.stop().await;

    // A damaged file is kept beside a new one, and said to be.
    let file = second.state_file().with_file_name("tapo2mqtt-history.json");
    let damaged = fs::read(&file).unwrap()[..40].to_vec();
    fs::write(&file, &damaged).unwrap();
    let third = setup().start_on(second.broker.clone()).await;
    let is_said = |info: &Value| info["start_checks"].to_string().contains("energy history");
    third.expect("bridge/info", is_said).await;
    assert_eq!(
        fs::read(file.with_file_name("tapo2mqtt-history.json.broken")).unwrap(),
        damaged
    );
    third.expect("plug", used(0.18)).await;
}

#[tokio::test]
async fn a_protection_trip_is_reported_as_one_and_stays_off() {
    let _fast = fast_clocks();
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let group = "[[group]]\nid = \"g\"\noutlets = [\"plug\"]\non_external_change = \"enforce\"\n\
        [[group.schedule]]\nid = \"s\"\nall_day = true\n";
    let setup = Setup::new().device("plug", device.address()).rules(group);
    let bridge = setup.start().await;
    bridge.expect("plug", |state| state["state"] == "ON").await;
    device.overload(1).unwrap();
    let event = bridge
        .expect("bridge/event", |event| {
            event["type"] == json!(EventKind::OverrideSet)
        })
        .await;
    let message = event["message"].as_str().unwrap();
    assert!(
        message.contains("switched off by a protection of the device"),
        "{message}"
    );
    let tripped = |state: &Value| {
        let reason = state["reason"].as_str().unwrap_or_default();
        reason.contains("OFF (protection of the device at ")
    };
    bridge.expect("plug", tripped).await;
    let polls = device.counters().requests_of("get_device_info");
    let later = device.wait_requests("get_device_info", polls + 3, PATIENCE);
    later.await.unwrap();
    assert!(!device.relay(1), "it would trip again");
    let events = bridge.probe.payloads("tapo2mqtt/bridge/event");
    assert!(
        events.iter().all(|event| !event.contains("external_change")),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_trip_while_the_bridge_was_down_stays_off() {
    let _fast = fast_clocks();
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let group =
        "[[group]]\nid = \"g\"\noutlets = [\"plug\"]\n[[group.schedule]]\nid = \"s\"\nall_day = true\n";
    let setup = || Setup::new().device("plug", device.address()).rules(group);
    let mut bridge = setup().start().await;
    bridge.expect("plug", |state| state["state"] == "ON").await;
    bridge.stop().await;
    device.overload(1).unwrap();
    let bridge = setup().after(&bridge).start_on(bridge.broker.clone()).await;
    let tripped = |state: &Value| {
        let reason = state["reason"].as_str().unwrap_or_default();
        state["state"] == "OFF" && reason.contains("protection of the device")
    };
    bridge.expect("plug", tripped).await;
    let polls = device.counters().requests_of("get_device_info");
    let later = device.wait_requests("get_device_info", polls + 3, PATIENCE);
    later.await.unwrap();
    assert!(!device.relay(1), "it would trip again");
}

#[tokio::test]
async fn a_protection_trip_is_reported_and_a_device_is_restarted() {
    let _fast = fast_clocks();
    let device = Simulator::plug(Profile::P110)
        .reboot_time(Duration::from_millis(100))
        .start()
        .await
        .unwrap();
    let bridge = Setup::new().device("plug", device.address()).start().await;
    bridge.available("plug").await;
    bridge.set("plug", "on", json!({ "state": "ON" })).await;
    device.overload(1).unwrap();
    let event = bridge
        .expect("bridge/event", |event| {
            event["type"] == json!(EventKind::Protection)
        })
        .await;
    assert_eq!(
        event["message"],
        "Simulated P110: overload protection reports overloaded (was normal)"
    );
    let state = bridge.retained("plug").await;
    assert_eq!(
        (&state["overloaded"], &state["protection"], &state["state"]),
        (&json!(true), &json!("overloaded"), &json!("OFF"))
    );

    bridge
        .publish("plug/set/reboot", json!({ "transaction": "r" }).to_string())
        .await;
    let answer = bridge.answer("plug", "r").await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert_eq!(device.counters().requests_of("device_reboot"), 1);
    bridge.publish("plug/1/set/reboot", "{}").await;
    let refused = bridge.expect("plug/1/response", |_| true).await;
    assert_eq!(refused["error"]["code"], "unsupported");
}
