//! The countdown that an outlet holds itself, through the device owner and over the wire.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::SignedDuration;
use planner::Power;
use serde_json::Value;
use tapo::{ApiClient, PlugEnergyMonitoringHandler, responses::PowerState};
use tapo_simulator::{
    Cause, DEFAULT_PASSWORD, DEFAULT_USERNAME, DeviceHandle, Fault, FaultKind, Latency, Profile, Protocol,
    RunningDevice, Scope, Simulator, Stage,
};
use tapo2mqtt::{
    domain::{
        command_error::ErrorCode,
        device_command::{DeviceAction, RunLimit},
        report::{ChangedBy, Countdown},
    },
    system::tasks::Tasks,
};
use tokio::{
    task::JoinHandle,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bridge::fast_clocks,
    device_owner::{OFF, ON, Owner, plug},
    probe::PATIENCE,
};

const HOUR: Duration = Duration::from_hours(1);

/// The app, on a session of its own.
pub async fn app(device: &DeviceHandle) -> PlugEnergyMonitoringHandler {
    let client = ApiClient::new(DEFAULT_USERNAME, DEFAULT_PASSWORD).with_timeout(PATIENCE);
    client.p110(device.address().to_string()).await.unwrap()
}

/// A plug, and an outlet of a strip.
async fn outlets() -> [(RunningDevice, u8); 2] {
    let strip = Simulator::strip(Profile::P300).start().await.unwrap();
    [(plug().await, 1), (strip, 2)]
}

/// The countdown that an outlet lists.
pub fn rule(device: &DeviceHandle, outlet: u8) -> Value {
    let list = device.ask_app(outlet, "get_countdown_rules", &Value::Null);
    list.unwrap()["rule_list"][0].clone()
}

fn refuse(device: &DeviceHandle, method: &str, code: i64) {
    let scope = Scope::method(method);
    device.faults().set(Fault::Refuse { code, scope });
}

/// How often the countdown was read, cleared and set, and how many requests there were in all.
fn requests(device: &DeviceHandle) -> [u64; 4] {
    let counters = device.counters();
    let of = |method| counters.requests_of(method);
    // The meter, the schedule rules, the firmware and the clock are read when it is their turn.
    let others = [
        "get_energy_usage",
        "get_emeter_data",
        "get_current_power",
        "get_schedule_rules",
        "get_latest_fw",
        "get_device_time",
    ];
    let others: u64 = others.into_iter().map(of).sum();
    [
        of("get_countdown_rules"),
        of("remove_countdown_rules"),
        of("add_countdown_rule"),
        counters.http_requests - others,
    ]
}

fn adds(device: &DeviceHandle) -> u64 {
    device.counters().requests_of("add_countdown_rule")
}

/// How often it was armed, with either client.
fn armings(device: &DeviceHandle) -> u64 {
    adds(device) + device.counters().requests_of("edit_countdown_rule")
}

async fn runs_renewed_and_cleared(profile: Profile) {
    let device = Simulator::plug(profile).start().await.unwrap();
    let mut owner = Owner::start_with_crate(device.address()).await;
    assert_eq!(owner.countdown(), Countdown::Idle);

    device.reset_counters();
    let run = owner.limit(HOUR);
    owner.ask(ON, run).await.unwrap();
    assert!(device.relay(1));
    let left = owner.left().as_secs();
    assert!((3590..=3601).contains(&left), "{left}");
    assert_eq!(
        requests(&device),
        [2, 1, 1, 6],
        "read, arm, switch, read back, read"
    );

    device.reset_counters();
    owner.ask(ON, run).await.unwrap();
    assert_eq!(requests(&device)[1..3], [0, 0], "it is as it should be");
    owner.off_by(run.off_by).await;
    owner.read().await;
    owner.read().await;
    assert_eq!(requests(&device)[1..3], [0, 0], "it is as it should be");

    device.reset_counters();
    owner.off_by(Some(owner.after(HOUR * 2))).await;
    owner.until_left(7100..7202).await;
    // The next command goes after the reading that confirms it.
    owner.read().await;
    assert_eq!(requests(&device), [2, 1, 1, 5]);

    device.reset_counters();
    owner.ask(OFF, RunLimit::default()).await.unwrap();
    owner.until(|countdown| countdown == Countdown::Idle).await;
    assert!(!device.relay(1));
    assert_eq!(requests(&device), [1, 1, 0, 4], "cleared after the OFF");
    assert!(app(&device).await.get_timer().await.unwrap().is_none());
}

#[tokio::test]
async fn a_plug_counts_down_while_it_is_on() {
    let _fast = fast_clocks();
    runs_renewed_and_cleared(Profile::P110).await;
    runs_renewed_and_cleared(Profile::P100).await;
}

/// Our own client reads it back in the request that arms it.
#[tokio::test]
async fn our_client_arms_and_reads_back_in_one_request() {
    let _fast = fast_clocks();
    join_all(outlets().await.into_iter().map(async |(device, outlet)| {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        // The first limit is logged in for.
        owner.switch_on_for(HOUR).await.unwrap();
        owner.ask(OFF, RunLimit::default()).await.unwrap();
        owner.until(|countdown| countdown == Countdown::Idle).await;
        device.reset_counters();
        owner.switch_on_for(HOUR).await.unwrap();
        let counted = |methods: [&str; 3]| methods.map(|method| device.counters().requests_of(method));
        let arming = ["get_countdown_rules", "multipleRequest", "add_countdown_rule"];
        assert_eq!(counted(arming)[1..], [1, 1]);
        device.reset_counters();
        owner.off_by(Some(owner.after(HOUR * 2))).await;
        owner.until_left(7100..7202).await;
        owner.read().await;
        let renewal = ["get_countdown_rules", "multipleRequest", "edit_countdown_rule"];
        assert_eq!(counted(renewal), [2, 1, 1], "read, changed and read back");
    }))
    .await;
}

#[tokio::test]
async fn one_that_a_short_off_left_is_used_again() {
    let _fast = fast_clocks();
    let device = plug().await;
    let mut owner = Owner::start(device.address()).await;
    let run = owner.limit(HOUR);
    owner.ask(ON, run).await.unwrap();
    device.reset_counters();
    owner.ask(OFF, RunLimit::default()).await.unwrap();
    owner.ask(ON, run).await.unwrap();
    assert_eq!(requests(&device), [0, 0, 0, 4], "switch, read back; twice");
    device
        .wait_requests("get_countdown_rules", 1, PATIENCE)
        .await
        .unwrap();

    // The plug lost it after all.
    owner.ask(OFF, RunLimit::default()).await.unwrap();
    owner.ask(ON, run).await.unwrap();
    app(&device).await.clear_timer().await.unwrap();
    device
        .wait_requests("add_countdown_rule", 1, PATIENCE)
        .await
        .unwrap();
    owner
        .until(|countdown| matches!(countdown, Countdown::Armed { .. }))
        .await;
    assert!(!device.runs_without_countdown(1));
}

#[tokio::test]
async fn one_that_is_lost_after_the_on_opens_the_relay() {
    let _fast = fast_clocks();
    let device = plug().await;
    let mut owner = Owner::start(device.address()).await;
    let run = owner.limit(HOUR);
    owner.ask(ON, run).await.unwrap();
    owner.ask(OFF, RunLimit::default()).await.unwrap();
    owner.ask(ON, run).await.unwrap();
    refuse(&device, "add_countdown_rule", -1901);
    app(&device).await.clear_timer().await.unwrap();
    owner.until(|countdown| countdown == Countdown::Failed).await;
    assert!(!device.relay(1));
}

#[tokio::test]
async fn an_off_ends_the_limit_of_its_run() {
    let _fast = fast_clocks();
    join_all(outlets().await.into_iter().map(async |(device, outlet)| {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        owner.switch_on_for(HOUR).await.unwrap();
        owner.ask(OFF, RunLimit::default()).await.unwrap();
        owner.until(|countdown| countdown == Countdown::Idle).await;
        device.press(outlet).unwrap();
        device.reset_counters();
        owner.read().await;
        // A change of the countdown would go before this.
        owner.advance(&device, Duration::from_mins(1));
        owner.read().await;
        owner
            .ask(DeviceAction::CancelCountdown, RunLimit::default())
            .await
            .unwrap();
        assert_eq!(requests(&device)[1..3], [0, 0], "the button began another run");
    }))
    .await;
}

#[tokio::test]
async fn it_is_armed_before_the_relay_closes() {
    for (device, outlet) in outlets().await {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        device.reset_counters();
        let stage = Stage::BeforeApplying;
        let scope = Scope::method("set_device_info");
        device.faults().set(Fault::Drop { stage, scope });
        let seen = async {
            device
                .wait_requests("set_device_info", 1, PATIENCE)
                .await
                .unwrap();
            let armed = (device.relay(outlet), adds(&device));
            device.faults().clear(FaultKind::Drop);
            armed
        };
        let (outcome, armed) = tokio::join!(owner.switch_on_for(HOUR), seen);
        assert_eq!(armed, (false, 1));
        outcome.unwrap();
        assert!(device.relay(outlet));
        assert_eq!(adds(&device), 1, "the retry finds it armed");
    }
}

/// Watches a device until the stop. The result is whether its relay was ever closed without a countdown.
fn watch(device: DeviceHandle, outlet: u8, stop: CancellationToken) -> JoinHandle<bool> {
    Tasks::default().spawn("watch", async move {
        let mut moments = interval(Duration::from_millis(1));
        let mut seen = false;
        while !stop.is_cancelled() {
            seen |= device.runs_without_countdown(outlet);
            moments.tick().await;
        }
        seen
    })
}

#[tokio::test]
async fn at_no_moment_is_a_limited_outlet_on_without_one() {
    let _fast = fast_clocks();
    join_all(outlets().await.into_iter().map(async |(device, outlet)| {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        // Slow enough that a bridge killed between any two requests leaves what is seen here.
        let latency = Latency::fixed(Duration::from_millis(20));
        device.faults().set(Fault::Latency { latency });
        let stop = CancellationToken::new();
        let watched = watch(device.handle(), outlet, stop.clone());
        let run = owner.limit(HOUR);
        owner.ask(ON, run).await.unwrap();
        owner.ask(ON, run).await.unwrap();
        owner.ask(OFF, RunLimit::default()).await.unwrap();
        // The countdown of the run before may still be there, and ends at another time.
        owner.switch_on_for(HOUR * 2).await.unwrap();
        owner.ask(OFF, RunLimit::default()).await.unwrap();
        owner.until(|countdown| countdown == Countdown::Idle).await;
        owner.switch_on_for(HOUR).await.unwrap();
        stop.cancel();
        assert!(!watched.await.unwrap());
    }))
    .await;
}

/// Our own client changes it in place, where the `tapo` crate clears and adds. It serves a plug that has an end to arm.
#[tokio::test]
async fn one_that_is_renewed_by_our_client_leaves_no_gap() {
    let _fast = fast_clocks();
    join_all([Protocol::Aes, Protocol::Klap, Protocol::Tpap].map(renewed_without_a_gap)).await;
}

async fn renewed_without_a_gap(protocol: Protocol) {
    let device = Simulator::plug(Profile::P110).protocol(protocol);
    let device = device.start().await.unwrap();
    let mut owner = Owner::start(device.address()).await;
    owner.switch_on_for(HOUR).await.unwrap();
    let latency = Latency::fixed(Duration::from_millis(20));
    device.faults().set(Fault::Latency { latency });
    device.reset_counters();
    let stop = CancellationToken::new();
    let watched = watch(device.handle(), 1, stop.clone());
    owner.off_by(Some(owner.after(HOUR * 2))).await;
    owner.until_left(7100..7202).await;
    owner.read().await;
    stop.cancel();
    assert!(!watched.await.unwrap());
    let counters = device.counters();
    let changes = [
        "edit_countdown_rule",
        "remove_countdown_rules",
        "add_countdown_rule",
    ];
    assert_eq!(changes.map(|method| counters.requests_of(method)), [1, 0, 0]);

    // Firmware that cannot change it in place.
    refuse(&device, "edit_countdown_rule", -1002);
    owner.off_by(Some(owner.after(HOUR * 3))).await;
    owner.until_left(10_700..10_802).await;
    assert_eq!(adds(&device), 1);
    owner.ask(OFF, RunLimit::default()).await.unwrap();
    owner.until(|countdown| countdown == Countdown::Idle).await;
}

#[tokio::test]
async fn the_earlier_of_the_two_ends_is_armed() {
    let _fast = fast_clocks();
    join_all(outlets().await.into_iter().map(async |(device, outlet)| {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        for (max_on, left) in [(HOUR / 2, 1795..1802), (HOUR * 2, 3595..3602)] {
            let run = RunLimit {
                max_on: Some(max_on),
                ..owner.limit(HOUR)
            };
            owner.ask(ON, run).await.unwrap();
            let armed = owner.left().as_secs();
            assert!(left.contains(&armed), "{armed}");
            owner.ask(OFF, RunLimit::default()).await.unwrap();
            owner.until(|countdown| countdown == Countdown::Idle).await;
        }
    }))
    .await;
}

#[tokio::test]
async fn a_length_counts_from_the_moment_the_relay_closed() {
    for (device, outlet) in outlets().await {
        device.press(outlet).unwrap();
        device.advance(HOUR / 2);
        let mut owner = Owner::start_outlet(&device, outlet).await;
        let run = RunLimit {
            off_by: None,
            max_on: Some(HOUR),
        };
        owner.ask(ON, run).await.unwrap();
        let left = owner.left().as_secs();
        assert!((1780..=1801).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn an_outlet_is_not_switched_on_for_a_time_that_is_over() {
    let device = plug().await;
    let mut owner = Owner::start(device.address()).await;
    device.reset_counters();
    let run = owner.limit(Duration::ZERO);
    assert_eq!(owner.refused(ON, run).await, ErrorCode::Expired);
    assert_eq!(requests(&device), [0; 4]);
}

#[tokio::test]
async fn an_outlet_switched_on_by_button_gets_a_countdown() {
    let _fast = fast_clocks();
    join_all(outlets().await.into_iter().map(async |(device, outlet)| {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        owner.off_by(Some(owner.after(HOUR))).await;
        owner.read().await;
        owner.read().await;
        assert_eq!(adds(&device), 0, "it is off");
        device.press(outlet).unwrap();
        owner.read().await;
        assert_eq!(owner.changed_by(), ChangedBy::External);
        owner.until_left(3590..3602).await;
        device.press(outlet).unwrap();
        owner.read().await;
        // Changes without a command come 5 s apart.
        owner.until(|countdown| countdown == Countdown::Idle).await;
        assert!(rule(&device, outlet).is_null());
    }))
    .await;
}

#[tokio::test]
async fn no_end_clears_ours() {
    for (device, outlet) in outlets().await {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        owner.switch_on_for(HOUR).await.unwrap();
        owner.off_by(None).await;
        owner.until(|countdown| countdown == Countdown::Idle).await;
        assert!(device.relay(outlet), "no more than the countdown changed");
    }
}

#[tokio::test]
async fn a_dead_bridge_leaves_the_plug_to_switch_itself_off() {
    for (device, outlet) in outlets().await {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        owner.switch_on_for(HOUR).await.unwrap();
        owner.kill();
        device.advance(Duration::from_mins(59));
        assert!(device.relay(outlet));
        device.advance(Duration::from_secs(61));
        assert!(!device.relay(outlet));
        let last = device.counters().relay_changes.pop().unwrap();
        assert_eq!(last.cause, Cause::Countdown);
    }
}

#[tokio::test]
async fn after_a_restart_ours_is_known_by_the_state_file() {
    for (device, outlet) in outlets().await {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        owner.switch_on_for(HOUR).await.unwrap();
        let mut changes = owner.sections.countdowns.changes();
        let kept = changes.wait_for(|kept| !kept.is_empty());
        let kept = timeout(PATIENCE, kept).await.unwrap().unwrap().clone();
        assert_eq!(kept.len(), 1, "{kept:?}");
        let sections = owner.kill();
        let mut owner = Owner::start_outlet_with(&device, outlet, sections).await;
        let left = owner.left().as_secs();
        assert!((3580..=3601).contains(&left), "{left}");
        owner.off_by(Some(owner.after(HOUR * 2))).await;
        owner.until_left(7100..7202).await;
    }
}

#[tokio::test]
async fn without_the_state_file_ours_is_known_and_renewed() {
    for (device, outlet) in outlets().await {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        owner.switch_on_for(HOUR).await.unwrap();
        owner.kill();
        let mut owner = Owner::start_outlet(&device, outlet).await;
        let left = owner.left().as_secs();
        assert!((3580..=3602).contains(&left), "{left}");
        owner.read().await;
        assert!(
            owner.left().as_secs() > 3580,
            "what an earlier run promised stays"
        );
        owner.off_by(Some(owner.after(HOUR * 2))).await;
        owner.until_left(7100..7203).await;
        assert_eq!(armings(&device), 2);
    }
}

#[tokio::test]
async fn ours_is_known_after_a_jump_of_the_wall_clock() {
    let _fast = fast_clocks();
    join_all(outlets().await.into_iter().map(async |(device, outlet)| {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        owner.switch_on_for(HOUR).await.unwrap();
        owner.clock.jump(SignedDuration::from_mins(20));
        owner.off_by(Some(owner.after(HOUR * 2))).await;
        owner.until_left(7100..7202).await;
        assert_eq!(armings(&device), 2);
        owner.clock.jump(SignedDuration::from_hours(-5));
        owner.ask(OFF, RunLimit::default()).await.unwrap();
        owner.until(|countdown| countdown == Countdown::Idle).await;
        assert!(rule(&device, outlet).is_null());
    }))
    .await;
}

#[tokio::test]
async fn an_external_one_is_not_changed() {
    let device = plug().await;
    let mut owner = Owner::start(device.address()).await;
    let app = app(&device).await;
    for (external, to) in [(PowerState::Off, Power::Off), (PowerState::On, Power::On)] {
        app.set_timer(HOUR * 3, external).await.unwrap();
        device.reset_counters();
        owner.switch_on_for(HOUR).await.unwrap();
        assert!(device.relay(1), "the ON goes on without ours");
        let Countdown::External { to: reported, .. } = owner.countdown() else {
            panic!("{:?}", owner.countdown());
        };
        assert_eq!(reported, to);
        owner.off_by(Some(owner.after(HOUR * 2))).await;
        owner.read().await;
        owner.ask(OFF, RunLimit::default()).await.unwrap();
        owner.read().await;
        owner.read().await;
        assert_eq!(requests(&device)[1..3], [0, 0], "neither cleared nor set");
        assert!(app.get_timer().await.unwrap().unwrap().remaining_s > 10_700);
    }
}

#[tokio::test]
async fn a_person_cancels_whatever_runs() {
    let device = plug().await;
    let mut owner = Owner::start(device.address()).await;
    let app = app(&device).await;
    let cancel = DeviceAction::CancelCountdown;
    owner.ask(cancel, RunLimit::default()).await.unwrap();
    for external in [PowerState::Off, PowerState::On] {
        app.set_timer(HOUR * 3, external).await.unwrap();
        owner.ask(cancel, RunLimit::default()).await.unwrap();
        assert_eq!(owner.countdown(), Countdown::Idle);
        assert!(app.get_timer().await.unwrap().is_none());
    }
    owner.switch_on_for(HOUR).await.unwrap();
    owner.off_by(None).await;
    owner.ask(cancel, RunLimit::default()).await.unwrap();
    assert!(app.get_timer().await.unwrap().is_none());
    refuse(&device, "get_countdown_rules", -1901);
    assert_eq!(
        owner.refused(cancel, RunLimit::default()).await,
        ErrorCode::DeviceError
    );
}

#[tokio::test]
async fn a_failure_between_clear_and_add_is_armed_again_at_once() {
    let device = plug().await;
    let mut owner = Owner::start_with_crate(device.address()).await;
    let scope = Scope::method("add_countdown_rule").times(1);
    device.faults().set(Fault::Refuse { code: -1901, scope });
    owner.switch_on_for(HOUR).await.unwrap();
    assert_eq!((device.relay(1), adds(&device)), (true, 2));
    let (status, scope) = (503, Scope::method("add_countdown_rule").times(1));
    device.faults().set(Fault::HttpStatus { status, scope });
    owner.off_by(Some(owner.after(HOUR * 2))).await;
    owner.until_left(7100..7202).await;
    assert_eq!((device.relay(1), adds(&device)), (true, 4));
}

#[tokio::test]
async fn an_add_whose_answer_is_lost_is_read_and_not_sent_again() {
    let _fast = fast_clocks();
    join_all(outlets().await.into_iter().map(async |(device, outlet)| {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        let (stage, scope) = (Stage::AfterApplying, Scope::method("add_countdown_rule").times(1));
        device.faults().set(Fault::Hang { stage, scope });
        owner.switch_on_for(HOUR).await.unwrap();
        assert_eq!((device.relay(outlet), adds(&device)), (true, 1));
        assert!(owner.left().as_secs() > 3500);
    }))
    .await;
}

#[tokio::test]
async fn a_plug_that_refuses_its_countdown_is_not_switched_on() {
    let device = plug().await;
    let mut owner = Owner::start(device.address()).await;
    refuse(&device, "add_countdown_rule", -1901);
    let run = owner.limit(HOUR);
    assert_eq!(owner.refused(ON, run).await, ErrorCode::DeviceError);
    assert!(device.counters().relay_changes.is_empty());
    assert_eq!(owner.countdown(), Countdown::Failed);

    // Switched on by hand: that the countdown cannot be armed is no reason to switch it off.
    device.press(1).unwrap();
    device.reset_counters();
    owner.off_by(run.off_by).await;
    owner.read().await;
    device
        .wait_requests("add_countdown_rule", 2, PATIENCE)
        .await
        .unwrap();
    owner.read().await;
    assert!(device.relay(1));
    assert_eq!(owner.countdown(), Countdown::Failed);

    device.faults().clear_all();
    owner.switch_on_for(HOUR).await.unwrap();
    assert!(owner.left().as_secs() > 3500);
}

#[tokio::test]
async fn a_countdown_that_was_read_before_is_not_unsupported() {
    let device = plug().await;
    let mut owner = Owner::start(device.address()).await;
    for method in ["add_countdown_rule", "get_countdown_rules"] {
        refuse(&device, method, -1008);
        let run = owner.limit(HOUR);
        assert_eq!(owner.refused(ON, run).await, ErrorCode::Unsupported, "{method}");
        assert!(device.counters().relay_changes.is_empty());
        assert_eq!(owner.countdown(), Countdown::Failed, "{method}");
        device.faults().clear_all();
    }
    owner.switch_on_for(HOUR).await.unwrap();
    assert!(owner.left().as_secs() > 3500);
}

#[tokio::test]
async fn a_countdown_that_is_lost_while_it_is_renewed_opens_the_relay() {
    let (by_crate, by_us) = (plug().await, plug().await);
    for (device, mut owner) in [
        (&by_crate, Owner::start_with_crate(by_crate.address()).await),
        (&by_us, Owner::start(by_us.address()).await),
    ] {
        owner.switch_on_for(HOUR).await.unwrap();
        let methods = ["edit_countdown_rule", "add_countdown_rule"].map(str::to_owned);
        let scope = Scope {
            methods: methods.into(),
            ..Scope::default()
        };
        device.faults().set(Fault::Refuse { code: -1002, scope });
        owner.off_by(Some(owner.after(HOUR * 2))).await;
        owner.until(|countdown| countdown == Countdown::Failed).await;
        assert!(!device.relay(1));
        assert_eq!(owner.changed_by(), ChangedBy::Command);
    }
}

#[tokio::test]
async fn a_countdown_that_does_not_run_after_the_on_opens_the_relay() {
    let device = plug().await;
    let mut owner = Owner::start_with_crate(device.address()).await;
    let fields = vec!["rule_list".to_owned()];
    device.faults().set(Fault::MissingFields { fields });
    let run = owner.limit(HOUR);
    assert_eq!(owner.refused(ON, run).await, ErrorCode::NotConfirmed);
    let changes = device.counters().relay_changes;
    let states: Vec<bool> = changes.iter().map(|change| change.on).collect();
    assert_eq!(states, [true, false]);
    assert_eq!(adds(&device), 2, "armed once more before it is given up");
    assert_eq!(owner.countdown(), Countdown::Failed);
}

#[tokio::test]
async fn a_device_without_a_countdown_goes_without_and_is_asked_once() {
    for code in [-1002, -1008] {
        let device = plug().await;
        refuse(&device, "get_countdown_rules", code);
        let mut owner = Owner::start(device.address()).await;
        assert_eq!(owner.countdown(), Countdown::Unsupported);
        owner.switch_on_for(HOUR).await.unwrap();
        owner.off_by(Some(owner.after(HOUR * 2))).await;
        owner.ask(OFF, RunLimit::default()).await.unwrap();
        owner
            .ask(DeviceAction::CancelCountdown, RunLimit::default())
            .await
            .unwrap();
        assert_eq!(requests(&device)[..3], [1, 0, 0]);
    }
    let strip = Simulator::strip(Profile::P304M).start().await.unwrap();
    let mut owner = Owner::start_with_crate(strip.address()).await;
    assert_eq!(owner.countdown(), Countdown::Unsupported);
    owner.switch_on_for(HOUR).await.unwrap();
    assert!(strip.relay(1) && strip.relay(4));
    assert_eq!(requests(&strip)[..3], [0, 0, 0]);
}

#[tokio::test]
async fn one_that_has_fired_is_read_as_none_and_made_the_change() {
    for (device, outlet) in outlets().await {
        let mut owner = Owner::start_outlet(&device, outlet).await;
        owner.switch_on_for(HOUR).await.unwrap();
        assert_eq!(owner.changed_by(), ChangedBy::Command);
        owner.advance(&device, HOUR + Duration::from_secs(5));
        owner.read().await;
        owner.until(|countdown| countdown == Countdown::Idle).await;
        assert!(!device.relay(outlet));
        assert_eq!(owner.changed_by(), ChangedBy::Countdown);
        assert_eq!(
            rule(&device, outlet)["remain"],
            0,
            "the rule that fired is listed"
        );
    }
}
