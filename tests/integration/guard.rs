//! The countdown that a plug holds itself, through the device owner and over the wire.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use planner::Power;
use tapo::{ApiClient, PlugEnergyMonitoringHandler, responses::PowerState};
use tapo_simulator::{
    Cause, DEFAULT_PASSWORD, DEFAULT_USERNAME, DeviceHandle, Fault, FaultKind, Profile, RunningDevice, Scope,
    Simulator, Stage,
};
use tapo2mqtt::{
    devices::DeviceOwner,
    domain::{
        command_error::ErrorCode,
        device_command::{DeviceAction, DeviceCommand, Guard, Source, Switch},
        device_metrics::MetricsRegistry,
        devices::{DeviceEvent, DeviceMsg, DeviceSet, PollingConfig},
        reply::{CommandOutcome, CommandResult, Reply},
        report::{Countdown, DeviceReport},
    },
    store,
    system::{clock::Clock, tasks::Tasks},
};
use tokio::{
    runtime::Runtime,
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bridge::{device_config, tempo},
    probe::PATIENCE,
};

const ON: DeviceAction = DeviceAction::Switch(Switch::To(Power::On));
const OFF: DeviceAction = DeviceAction::Switch(Switch::To(Power::Off));
const HOUR: Duration = Duration::from_hours(1);
/// So that no poll comes between: requests are counted.
const NEVER: Duration = Duration::from_hours(1000);

/// A device owner with one device, in a runtime of its own that can be killed.
struct Desk {
    runtime: Option<Runtime>,
    orders: mpsc::Sender<DeviceMsg>,
    news: mpsc::Receiver<DeviceEvent>,
    answers: (
        mpsc::UnboundedSender<CommandOutcome>,
        mpsc::UnboundedReceiver<CommandOutcome>,
    ),
    clock: Clock,
    last: Option<Arc<DeviceReport>>,
}

impl Desk {
    /// Starts a worker and waits until it knows the device and its countdown.
    async fn start(address: SocketAddr) -> Self {
        let start: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let runtime = Runtime::new().unwrap();
        let (orders, inbox) = mpsc::channel(16);
        let (sender, news) = mpsc::channel(1024);
        let clock = {
            let _inside = runtime.enter();
            let clock = Clock::steered(start);
            let owner = owner(address, inbox, sender, clock.clone());
            runtime.spawn(owner.run(CancellationToken::new()));
            clock
        };
        let mut desk = Self {
            runtime: Some(runtime),
            orders,
            news,
            answers: mpsc::unbounded_channel(),
            clock,
            last: None,
        };
        desk.until(|countdown| countdown != Countdown::Unknown).await;
        desk
    }

    /// As `kill -9`: nothing is finished, nothing is said.
    fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    async fn ask(&mut self, action: DeviceAction, guard: Guard) -> CommandResult {
        let intent = DeviceCommand {
            path: "device".parse().unwrap(),
            action,
            guard,
            source: Source::Schedule,
            deadline: Instant::now() + PATIENCE,
            reply: {
                let answers = self.answers.0.clone();
                Reply::new(move |outcome| answers.send(outcome).unwrap())
            },
        };
        self.orders.send(DeviceMsg::Command(intent)).await.unwrap();
        let answer = timeout(PATIENCE, self.answers.1.recv()).await.unwrap();
        self.listen();
        answer.unwrap().result
    }

    /// The code of a failure.
    async fn refused(&mut self, action: DeviceAction, guard: Guard) -> ErrorCode {
        self.ask(action, guard).await.unwrap_err().code
    }

    fn hear(&mut self, news: DeviceEvent) {
        if let DeviceEvent::Report(report) = news {
            self.last = Some(report);
        }
    }

    /// Takes in what was said. A worker says it before it answers.
    fn listen(&mut self) {
        while let Ok(news) = self.news.try_recv() {
            self.hear(news);
        }
    }

    fn countdown(&self) -> Countdown {
        let outlets = self.last.iter().flat_map(|report| &report.outlets);
        outlets.map(|outlet| outlet.countdown).next().unwrap_or_default()
    }

    async fn until(&mut self, holds: impl Fn(Countdown) -> bool) {
        while !holds(self.countdown()) {
            let news = timeout(PATIENCE, self.news.recv()).await;
            self.hear(news.expect("a report in time").unwrap());
        }
    }

    /// When the countdown to OFF ends that is reported.
    fn ends(&self) -> Timestamp {
        match self.countdown() {
            Countdown::Running { to: Power::Off, ends } => ends,
            other => panic!("{other:?}"),
        }
    }

    fn left(&self) -> SignedDuration {
        self.ends().duration_since(self.clock.now())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn owner(
    address: SocketAddr,
    orders: mpsc::Receiver<DeviceMsg>,
    news: mpsc::Sender<DeviceEvent>,
    clock: Clock,
) -> DeviceOwner {
    let tempo = PollingConfig {
        poll: NEVER,
        slow_poll: NEVER,
        ..tempo()
    };
    let roster = DeviceSet {
        devices: vec![device_config("device", address)],
        tempo,
    };
    let board = MetricsRegistry::default();
    let (keeper, _writer, _loaded) = store::open(None).unwrap();
    DeviceOwner::start(roster, orders, vec![news], board, clock, Tasks::default(), keeper)
}

fn arm(after: Duration, ours: Option<Timestamp>) -> Guard {
    Guard::Arm {
        off_at: Instant::now() + after,
        ours,
    }
}

async fn plug() -> RunningDevice {
    Simulator::plug(Profile::P110).start().await.unwrap()
}

/// The app, on a session of its own.
pub async fn app(device: &DeviceHandle) -> PlugEnergyMonitoringHandler {
    let client = ApiClient::new(DEFAULT_USERNAME, DEFAULT_PASSWORD).with_timeout(PATIENCE);
    client.p110(device.address().to_string()).await.unwrap()
}

fn refuse(device: &DeviceHandle, method: &str, code: i64) {
    let scope = Scope::method(method);
    device.faults().set(Fault::Refuse { code, scope });
}

/// How often the countdown was read, cleared and set, and how many requests there were in all.
fn requests(device: &DeviceHandle) -> [u64; 4] {
    let counters = device.counters();
    let of = |method| counters.requests_of(method);
    // The meter is read when it is its turn.
    let metered = of("get_energy_usage") + of("get_emeter_data") + of("get_current_power");
    [
        of("get_countdown_rules"),
        of("remove_countdown_rules"),
        of("add_countdown_rule"),
        counters.http_requests - metered,
    ]
}

fn adds(device: &DeviceHandle) -> u64 {
    device.counters().requests_of("add_countdown_rule")
}

async fn runs_renewed_and_cleared(profile: Profile) {
    let device = Simulator::plug(profile).start().await.unwrap();
    let mut desk = Desk::start(device.address()).await;
    assert_eq!(desk.countdown(), Countdown::Idle);

    device.reset_counters();
    let off_at = Instant::now() + HOUR;
    desk.ask(ON, Guard::Arm { off_at, ours: None }).await.unwrap();
    assert!(device.relay(1));
    let left = desk.left().as_secs();
    assert!((3590..=3601).contains(&left), "{left}");
    assert_eq!(
        requests(&device),
        [2, 1, 1, 6],
        "read, arm, switch, read back, read"
    );

    device.reset_counters();
    let ours = Some(desk.ends());
    desk.ask(DeviceAction::Guard, Guard::Arm { off_at, ours })
        .await
        .unwrap();
    assert_eq!(requests(&device), [1, 0, 0, 1], "it is as it should be");

    device.reset_counters();
    desk.ask(DeviceAction::Guard, arm(HOUR * 2, ours)).await.unwrap();
    assert_eq!(requests(&device), [2, 1, 1, 4]);
    assert!(desk.left().as_secs() > 7100);

    device.reset_counters();
    let ours = desk.ends();
    desk.ask(OFF, Guard::Disarm { ours }).await.unwrap();
    desk.until(|countdown| countdown == Countdown::Idle).await;
    assert!(!device.relay(1));
    assert_eq!(requests(&device), [1, 1, 0, 4]);
    assert!(app(&device).await.get_timer().await.unwrap().is_none());
}

#[tokio::test]
async fn a_plug_counts_down_while_it_is_on() {
    runs_renewed_and_cleared(Profile::P110).await;
    runs_renewed_and_cleared(Profile::P100).await;
}

#[tokio::test]
async fn it_is_armed_before_the_relay_closes() {
    let device = plug().await;
    let mut desk = Desk::start(device.address()).await;
    device.reset_counters();
    let stage = Stage::BeforeApplying;
    let scope = Scope::method("set_device_info");
    device.faults().set(Fault::Drop { stage, scope });
    let seen = async {
        device
            .wait_requests("set_device_info", 1, PATIENCE)
            .await
            .unwrap();
        let armed = (device.relay(1), adds(&device));
        device.faults().clear(FaultKind::Drop);
        armed
    };
    let (outcome, armed) = tokio::join!(desk.ask(ON, arm(HOUR, None)), seen);
    assert_eq!(armed, (false, 1));
    outcome.unwrap();
    assert!(device.relay(1));
    assert_eq!(adds(&device), 1, "the retry finds it armed");
}

#[tokio::test]
async fn a_dead_bridge_leaves_the_plug_to_switch_itself_off() {
    let device = plug().await;
    let mut desk = Desk::start(device.address()).await;
    desk.ask(ON, arm(HOUR, None)).await.unwrap();
    desk.kill();
    device.advance(Duration::from_mins(59));
    assert!(device.relay(1));
    device.advance(Duration::from_secs(61));
    assert!(!device.relay(1));
    let last = device.counters().relay_changes.pop().unwrap();
    assert_eq!(last.cause, Cause::Countdown);
}

#[tokio::test]
async fn after_a_restart_ours_is_known_by_its_end() {
    let device = plug().await;
    let mut desk = Desk::start(device.address()).await;
    desk.ask(ON, arm(HOUR, None)).await.unwrap();
    desk.kill();
    let mut desk = Desk::start(device.address()).await;
    let ours = Some(desk.ends());
    desk.ask(DeviceAction::Guard, arm(HOUR * 2, None)).await.unwrap();
    assert_eq!(adds(&device), 1, "nobody says that it is ours");
    desk.ask(DeviceAction::Guard, arm(HOUR * 2, ours)).await.unwrap();
    assert_eq!(adds(&device), 2);
    assert!(desk.left().as_secs() > 7100);
}

#[tokio::test]
async fn ours_is_known_after_a_jump_of_the_wall_clock() {
    let device = plug().await;
    let mut desk = Desk::start(device.address()).await;
    desk.ask(ON, arm(HOUR, None)).await.unwrap();
    let ours = Some(desk.ends());
    desk.clock.jump(SignedDuration::from_mins(20));
    desk.ask(DeviceAction::Guard, arm(HOUR * 2, ours)).await.unwrap();
    assert_eq!(adds(&device), 2);
    desk.clock.jump(SignedDuration::from_hours(-5));
    let ours = desk.ends();
    desk.ask(DeviceAction::Guard, Guard::Disarm { ours })
        .await
        .unwrap();
    assert_eq!(desk.countdown(), Countdown::Idle);
    assert!(device.relay(1), "no more than the countdown was asked for");
}

#[tokio::test]
async fn one_of_somebody_else_is_left_alone() {
    let device = plug().await;
    let mut desk = Desk::start(device.address()).await;
    let app = app(&device).await;
    for (foreign, to) in [(PowerState::Off, Power::Off), (PowerState::On, Power::On)] {
        app.set_timer(HOUR * 3, foreign).await.unwrap();
        device.reset_counters();
        desk.ask(ON, arm(HOUR, None)).await.unwrap();
        assert!(device.relay(1), "the ON goes on without ours");
        let Countdown::Running { to: told, ends } = desk.countdown() else {
            panic!("{:?}", desk.countdown());
        };
        assert_eq!(told, to);
        desk.ask(
            DeviceAction::Guard,
            arm(HOUR, Some(ends - SignedDuration::from_secs(10))),
        )
        .await
        .unwrap();
        desk.ask(OFF, Guard::Disarm { ours: ends - HOUR }).await.unwrap();
        // The next answer comes after the OFF has dealt with the countdown.
        desk.ask(DeviceAction::Read, Guard::Leave).await.unwrap();
        assert_eq!(requests(&device)[1..3], [0, 0], "neither cleared nor set");
        assert!(app.get_timer().await.unwrap().unwrap().remaining_s > 10_700);
    }
}

#[tokio::test]
async fn a_failure_between_clear_and_add_is_armed_again_at_once() {
    let device = plug().await;
    let mut desk = Desk::start(device.address()).await;
    let scope = Scope::method("add_countdown_rule").times(1);
    device.faults().set(Fault::Refuse { code: -1901, scope });
    desk.ask(ON, arm(HOUR, None)).await.unwrap();
    assert_eq!((device.relay(1), adds(&device)), (true, 2));
    let (status, scope) = (503, Scope::method("add_countdown_rule").times(1));
    device.faults().set(Fault::HttpStatus { status, scope });
    let ours = Some(desk.ends());
    desk.ask(DeviceAction::Guard, arm(HOUR * 2, ours)).await.unwrap();
    assert_eq!((device.relay(1), adds(&device)), (true, 4));
    assert!(desk.left().as_secs() > 7100);
}

#[tokio::test]
async fn an_add_whose_answer_is_lost_is_read_and_not_sent_again() {
    let device = plug().await;
    let mut desk = Desk::start(device.address()).await;
    let (stage, scope) = (Stage::AfterApplying, Scope::method("add_countdown_rule").times(1));
    device.faults().set(Fault::Hang { stage, scope });
    desk.ask(ON, arm(HOUR, None)).await.unwrap();
    assert_eq!((device.relay(1), adds(&device)), (true, 1));
    assert!(desk.left().as_secs() > 3500);
}

#[tokio::test]
async fn a_plug_that_cannot_be_guarded_is_not_switched_on() {
    let device = plug().await;
    let mut desk = Desk::start(device.address()).await;
    refuse(&device, "add_countdown_rule", -1901);
    assert_eq!(desk.refused(ON, arm(HOUR, None)).await, ErrorCode::DeviceError);
    assert!(device.counters().relay_changes.is_empty());
    assert_eq!(desk.countdown(), Countdown::Failed);

    // Switched on by hand: it is not ours to switch off for that.
    device.press(1).unwrap();
    assert_eq!(
        desk.refused(DeviceAction::Guard, arm(HOUR, None)).await,
        ErrorCode::DeviceError
    );
    assert!(device.relay(1));

    device.faults().clear_all();
    desk.ask(DeviceAction::Guard, arm(HOUR, None)).await.unwrap();
    assert!(desk.left().as_secs() > 3500);
}

#[tokio::test]
async fn a_countdown_that_is_lost_while_it_is_renewed_opens_the_relay() {
    let device = plug().await;
    let mut desk = Desk::start(device.address()).await;
    desk.ask(ON, arm(HOUR, None)).await.unwrap();
    refuse(&device, "add_countdown_rule", -1002);
    let ours = Some(desk.ends());
    let failure = desk
        .ask(DeviceAction::Guard, arm(HOUR * 2, ours))
        .await
        .unwrap_err();
    assert!(failure.message.contains("switched off"), "{}", failure.message);
    assert!(!device.relay(1));
    assert_eq!(desk.countdown(), Countdown::Failed);
}

#[tokio::test]
async fn a_countdown_that_does_not_run_after_the_on_opens_the_relay() {
    let device = plug().await;
    let mut desk = Desk::start(device.address()).await;
    let fields = vec!["rule_list".to_owned()];
    device.faults().set(Fault::MissingFields { fields });
    assert_eq!(desk.refused(ON, arm(HOUR, None)).await, ErrorCode::NotConfirmed);
    let changes = device.counters().relay_changes;
    let states: Vec<bool> = changes.iter().map(|change| change.on).collect();
    assert_eq!(states, [true, false]);
    assert_eq!(adds(&device), 2, "armed once more before it is given up");
    assert_eq!(desk.countdown(), Countdown::Failed);
}

#[tokio::test]
async fn a_device_without_a_countdown_goes_without_and_is_asked_once() {
    for code in [-1002, -1008] {
        let device = plug().await;
        refuse(&device, "get_countdown_rules", code);
        let mut desk = Desk::start(device.address()).await;
        assert_eq!(desk.countdown(), Countdown::Unsupported);
        desk.ask(ON, arm(HOUR, None)).await.unwrap();
        desk.ask(DeviceAction::Guard, arm(HOUR * 2, None)).await.unwrap();
        let ours = desk.clock.now();
        desk.ask(OFF, Guard::Disarm { ours }).await.unwrap();
        desk.ask(DeviceAction::Read, Guard::Leave).await.unwrap();
        assert_eq!(requests(&device)[..3], [1, 0, 0]);
    }
    let strip = Simulator::strip(Profile::P304M).start().await.unwrap();
    let mut desk = Desk::start(strip.address()).await;
    assert_eq!(desk.countdown(), Countdown::Unsupported);
    desk.ask(ON, arm(HOUR, None)).await.unwrap();
    assert!(strip.relay(1) && strip.relay(4));
    assert_eq!(requests(&strip)[..3], [0, 0, 0]);
}

#[tokio::test]
async fn one_that_has_fired_is_read_as_none() {
    let device = plug().await;
    let mut desk = Desk::start(device.address()).await;
    desk.ask(ON, arm(HOUR, None)).await.unwrap();
    device.advance(HOUR + Duration::from_secs(2));
    desk.clock.jump(SignedDuration::from_secs(3605));
    desk.ask(DeviceAction::Read, Guard::Leave).await.unwrap();
    desk.until(|countdown| countdown == Countdown::Idle).await;
    assert!(!device.relay(1));
    let left = app(&device).await.get_timer().await.unwrap().unwrap();
    assert_eq!(left.remaining_s, 0, "the rule that fired is listed");
}
