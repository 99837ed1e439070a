//! Whatever happens, nothing runs past its limit.

use std::time::Duration;

use jiff::SignedDuration;
use proptest::{prelude::*, test_runner::TestCaseResult};
use tokio::time::Instant;

use super::{
    rules::{OFF, ON, rules},
    simulation::Simulation,
};
use crate::domain::{command::Action, device_command::Switch, scheduling::Request};
use planner::{
    Power,
    overrides::Lifetime,
    period::Period,
    rules::{Group, Interlock, Limit, Limits, OnExternalChange},
    testing::{check, group, schedule},
};

const OUTLETS: [&str; 3] = ["heater", "mats/1", "mats/2"];
const TARGETS: [&str; 5] = ["heater", "mats/1", "mats/2", "mats", "group/driveway"];

#[derive(Debug, Clone)]
enum Step {
    Command(usize, Wanted),
    Press(usize),
    Pass(u64),
    /// Out of reach from now on, or back.
    Outage(usize),
    /// The bridge is killed, a button may be pressed, the clock may be set, and it starts again.
    Restart {
        down: u64,
        press: Option<usize>,
        jump: i64,
    },
    /// The wall clock is set.
    Jump(i64),
    Vacation(bool),
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    To(Power),
    Toggle,
    OnFor(u64),
    OffFor(u64),
    CountDown(u64),
    CancelCountdown,
    Hold(Power),
    Auto,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let power = || prop_oneof![Just(ON), Just(OFF)];
    let wanted = prop_oneof![
        3 => power().prop_map(Wanted::To),
        1 => Just(Wanted::Toggle),
        1 => (1_u64..900).prop_map(Wanted::OnFor),
        1 => (1_u64..900).prop_map(Wanted::OffFor),
        1 => (1_u64..900).prop_map(Wanted::CountDown),
        1 => Just(Wanted::CancelCountdown),
        1 => power().prop_map(Wanted::Hold),
        1 => Just(Wanted::Auto),
    ];
    // More than what is taken for a jump.
    let jump = || prop_oneof![3 => Just(0), 1 => -9000_i64..-5, 1 => 5_i64..9000];
    let outlet = || 0..OUTLETS.len();
    let step = prop_oneof![
        4 => (0..TARGETS.len(), wanted).prop_map(|(target, wanted)| Step::Command(target, wanted)),
        3 => outlet().prop_map(Step::Press),
        6 => (1_u64..600).prop_map(Step::Pass),
        2 => outlet().prop_map(Step::Outage),
        1 => (1_u64..900, proptest::option::of(outlet()), jump())
            .prop_map(|(down, press, jump)| Step::Restart { down, press, jump }),
        1 => jump().prop_map(Step::Jump),
        1 => any::<bool>().prop_map(Step::Vacation),
    ];
    prop::collection::vec(step, 1..25)
}

fn site() -> impl Strategy<Value = (Group, u64)> {
    let reaction = prop_oneof![
        Just(OnExternalChange::Override),
        Just(OnExternalChange::Enforce),
        Just(OnExternalChange::Ignore),
    ];
    (30_u64..900, 1_i64..600, any::<bool>(), any::<bool>(), reaction).prop_map(
        |(max_on, cooldown, scheduled, staggered, reaction)| {
            let seconds = |seconds: i64| Period::new(SignedDuration::from_secs(seconds)).unwrap();
            let schedules = if scheduled {
                vec![
                    schedule("first", "05:50", "06:10"),
                    schedule("second", "06:20", "07:40"),
                ]
            } else {
                Vec::new()
            };
            let mut group = group(schedules);
            group.outlets = OUTLETS.iter().map(|path| path.parse().unwrap()).collect();
            group.limits = Limits {
                max_on: Limit::Of(seconds(i64::try_from(max_on).unwrap())),
                cooldown: Limit::Of(seconds(cooldown)),
                ..Limits::NONE
            };
            group.stagger = staggered.then(|| seconds(2));
            group.on_external_change = reaction;
            (group, max_on)
        },
    )
}

impl Simulation {
    async fn take_step(&mut self, step: &Step) {
        match step {
            Step::Command(target, wanted) => {
                let to = |power| Action::Switch(Switch::To(power));
                let (change, lifetime) = match *wanted {
                    Wanted::To(power) => (to(power), None),
                    Wanted::Toggle => (Action::Switch(Switch::Toggle), None),
                    Wanted::OnFor(seconds) => (Action::OnFor(Duration::from_secs(seconds)), None),
                    Wanted::OffFor(seconds) => (Action::OffFor(Duration::from_secs(seconds)), None),
                    Wanted::CountDown(seconds) => (Action::CountDown(Duration::from_secs(seconds)), None),
                    Wanted::CancelCountdown => (Action::CancelCountdown, None),
                    Wanted::Hold(power) => (to(power), Some(Lifetime::Hold)),
                    Wanted::Auto => (Action::Auto, None),
                };
                self.command(TARGETS[*target], change, lifetime).await;
            }
            Step::Press(outlet) => self.press(OUTLETS[*outlet]),
            Step::Pass(seconds) => self.pass_for(Duration::from_secs(*seconds)).await,
            Step::Outage(outlet) => {
                let device = OUTLETS[*outlet].split('/').next().unwrap();
                for (path, relay) in &mut self.relays {
                    if path.device.as_str() == device {
                        relay.online = !relay.online;
                    }
                }
            }
            Step::Restart { down, press, jump } => {
                self.stop().await;
                let half = Duration::from_millis(down * 500);
                self.pass_until(Instant::now() + half, false).await;
                if let Some(outlet) = press {
                    self.press(OUTLETS[*outlet]);
                }
                self.clock.jump(SignedDuration::from_secs(*jump));
                self.pass_until(Instant::now() + half, false).await;
                self.start().await;
            }
            Step::Jump(jump) => self.clock.jump(SignedDuration::from_secs(*jump)),
            Step::Vacation(away) => {
                self.request(Request::Vacation(Some(*away))).await.unwrap();
            }
        }
    }
}

/// One ON soon after the other, of outlets that exclude each other.
fn rivalry() -> impl Strategy<Value = Vec<Step>> {
    let outlet = || 0..OUTLETS.len();
    let wanted = prop_oneof![
        4 => Just(Wanted::To(ON)),
        1 => Just(Wanted::To(OFF)),
        1 => Just(Wanted::Toggle),
        1 => (1_u64..60).prop_map(Wanted::OnFor),
    ];
    let step = prop_oneof![
        8 => (outlet(), wanted).prop_map(|(target, wanted)| Step::Command(target, wanted)),
        2 => outlet().prop_map(Step::Press),
        4 => (1_u64..20).prop_map(Step::Pass),
        2 => outlet().prop_map(Step::Outage),
        1 => (1_u64..20, proptest::option::of(outlet()))
            .prop_map(|(down, press)| Step::Restart { down, press, jump: 0 }),
    ];
    prop::collection::vec(step, 1..40)
}

fn in_paused_time(test: impl Future<Output = TestCaseResult>) -> TestCaseResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test)
}

async fn live_through(mut simulation: Simulation, steps: &[Step]) -> Simulation {
    simulation.pass("1s").await;
    for step in steps {
        simulation.take_step(step).await;
    }
    simulation
}

fn summer(group: Group) -> Simulation {
    Simulation::new(rules(group), "2024-06-21T05:40:00Z".parse().unwrap())
}

#[test]
fn rule_07_no_sequence_lets_an_outlet_run_past_its_limit() {
    check(24, &(site(), steps()), |((group, max_on), steps)| {
        in_paused_time(async {
            let mut simulation = summer(group);
            simulation.max_on = Some(Duration::from_secs(max_on));
            let mut simulation = live_through(simulation, &steps).await;
            simulation.pass("10m").await;
            prop_assert!(
                simulation.violations.is_empty(),
                "{:?}",
                simulation.violations.first()
            );
            Ok(())
        })
    });
}

#[test]
fn rule_17_no_sequence_makes_the_bridge_turn_on_a_second_outlet() {
    check(24, &(site(), rivalry()), |((mut group, _), steps)| {
        in_paused_time(async {
            group.schedules.clear();
            group.limits = Limits::NONE;
            group.interlock = Interlock::OneOn;
            let mut simulation = summer(group);
            simulation.one_on = true;
            let mut simulation = live_through(simulation, &steps).await;
            for relay in simulation.relays.values_mut() {
                relay.online = true;
            }
            simulation.pass("10m").await;
            prop_assert!(
                simulation.violations.is_empty(),
                "{:?}",
                simulation.violations.first()
            );
            let on = OUTLETS
                .map(|path| simulation.power(path))
                .into_iter()
                .filter(|power| *power == ON);
            prop_assert!(on.count() <= 1, "two are on in the end");
            Ok(())
        })
    });
}
