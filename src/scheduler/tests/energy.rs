//! Budgets, ceilings, and loads that finish or idle: what the task makes of them.

use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::{
    rules::{OFF, ON, rules, simulation},
    simulation::{POLL, READING, Simulation},
};
use crate::domain::{
    command::Action,
    command_error::ErrorCode,
    device_command::Switch,
    report::EventKind,
    scheduling::{EnergyStatus, Request},
};
use planner::{
    Power,
    energy_limits::{EnergyRules, Finished, IfFinished, PowerLimit, Standby},
    plan::{SafetyState, Source},
    rules::{Group, OnExternalChange},
    testing::{check, group, schedule},
    units::{MilliWattHours, MilliWatts},
};

const OUTLETS: [&str; 3] = ["washer", "dryer", "boiler"];

fn laundry(energy: EnergyRules, scheduled: bool) -> Group {
    let mut group = group(if scheduled {
        vec![schedule("day", "06:00", "22:00")]
    } else {
        Vec::new()
    });
    group.outlets = OUTLETS.iter().map(|path| path.parse().unwrap()).collect();
    group.energy = energy;
    group
}

fn budget(watt_hours: u64) -> EnergyRules {
    EnergyRules {
        daily_budget: Some(MilliWattHours::new(watt_hours * 1000)),
        ..EnergyRules::default()
    }
}

fn ceiling(power: u64, resume: u64, pause: &str) -> EnergyRules {
    EnergyRules {
        power_limit: Some(PowerLimit {
            max: MilliWatts::from_watts(power),
            resume_below: MilliWatts::from_watts(resume),
            min_off: pause.parse().unwrap(),
        }),
        ..EnergyRules::default()
    }
}

fn finished(then: IfFinished) -> EnergyRules {
    EnergyRules {
        finished: Some(Finished {
            below: MilliWatts::from_watts(5),
            length: "3m".parse().unwrap(),
            then,
        }),
        ..EnergyRules::default()
    }
}

fn standby() -> EnergyRules {
    EnergyRules {
        standby: Some(Standby {
            below: MilliWatts::from_watts(3),
            length: "10m".parse().unwrap(),
        }),
        ..EnergyRules::default()
    }
}

/// Meters everywhere, and what the loads draw.
async fn metered(group: Group, wall: &str, watts: [u64; 3]) -> Simulation {
    let mut simulation = simulation(group, wall).await;
    for (path, watts) in OUTLETS.into_iter().zip(watts) {
        simulation.draw(path, watts);
    }
    simulation.pass("1s").await;
    simulation
}

fn relays(simulation: &Simulation) -> [Power; 3] {
    OUTLETS.map(|path| simulation.power(path))
}

fn energy(simulation: &Simulation) -> &EnergyStatus {
    simulation.group().energy.as_ref().unwrap()
}

async fn switch_on(simulation: &mut Simulation, paths: &[&str]) {
    for path in paths {
        let command = simulation.set(path, ON).await;
        simulation.pass("1s").await;
        assert_eq!(simulation.code(command), Some(Ok(())), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_used_budget_is_off_and_refuses_until_midnight() {
    let mut simulation = metered(
        laundry(budget(1000), false),
        "2024-06-21T09:00:00",
        [1000, 0, 1000],
    )
    .await;
    switch_on(&mut simulation, &["washer", "boiler"]).await;
    simulation.pass("20m").await;
    assert_eq!(relays(&simulation), [ON, OFF, ON]);
    assert!(
        (320..=340).contains(&(simulation.used_today() / 2)),
        "{}",
        simulation.used_today()
    );
    simulation.pass("11m").await;
    assert_eq!(relays(&simulation), [OFF, OFF, OFF]);
    assert!(
        (990..=1005).contains(&simulation.used_today()),
        "{}",
        simulation.used_today()
    );
    assert_eq!(
        simulation.count(EventKind::SafetyTrip),
        1,
        "{:?}",
        simulation.events
    );
    assert_eq!(simulation.group().safety, SafetyState::Tripped);
    let refused = simulation.set("dryer", ON).await;
    assert_eq!(simulation.code(refused), Some(Err(ErrorCode::RefusedBySafety)));
    let message = &simulation.outcomes[&refused].as_ref().unwrap_err().message;
    assert!(
        message.contains("refused by daily_budget; possible again at 2024-06-22T00:00:00"),
        "{message}"
    );

    simulation.press("boiler");
    simulation.pass("10s").await;
    assert_eq!(relays(&simulation), [OFF, OFF, OFF], "switched back");
    simulation.until("2024-06-22T00:00:01").await;
    assert_eq!(simulation.group().safety, SafetyState::Clear);
    switch_on(&mut simulation, &["dryer"]).await;
    simulation.pass("1m").await;
    assert_eq!(energy(&simulation).today, Some(MilliWattHours::ZERO));
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_budget_suspends_schedules_and_overrides() {
    let mut group = laundry(budget(500), true);
    group.schedules = vec![schedule("day", "06:00", "05:00")];
    let mut simulation = metered(group, "2024-06-21T06:00:00", [0, 0, 1000]).await;
    assert_eq!(relays(&simulation), [ON; 3]);
    simulation.pass("31m").await;
    assert_eq!(relays(&simulation), [OFF; 3]);
    let standing = simulation.standing("boiler");
    let decided = (standing.source, standing.rule.as_deref(), standing.expected);
    assert_eq!(decided, (Source::Safety, Some("daily_budget"), Some(OFF)));
    let reason = standing.reason.as_ref().unwrap().as_str();
    assert_eq!(reason, "daily budget 0.5 kWh used, off until Sat 00:00");
    let midnight = "2024-06-22T00:00:00Z".parse().unwrap();
    assert_eq!(
        (standing.cooldown_until, standing.next_change),
        (Some(midnight), Some(midnight))
    );
    simulation.until("2024-06-22T00:00:02").await;
    assert_eq!(relays(&simulation), [ON; 3]);
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_used_budget_survives_a_restart() {
    let mut simulation = metered(laundry(budget(500), false), "2024-06-21T06:00:00", [0, 0, 1000]).await;
    switch_on(&mut simulation, &["boiler"]).await;
    simulation.pass("20m").await;
    simulation.restart(Duration::from_mins(5)).await;
    simulation.pass("1m").await;
    assert_eq!(relays(&simulation), [OFF, OFF, ON]);
    let counted = energy(&simulation).today.unwrap();
    assert!(
        counted >= MilliWattHours::new(420_000),
        "also what was used meanwhile: {counted}"
    );
    simulation.pass("5m").await;
    assert_eq!(relays(&simulation), [OFF; 3]);
    simulation.restart(Duration::from_secs(10)).await;
    simulation.pass("10s").await;
    let refused = simulation.set("washer", ON).await;
    assert_eq!(simulation.code(refused), Some(Err(ErrorCode::RefusedBySafety)));
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_shed_outlet_comes_back_without_schedules() {
    let mut simulation = metered(
        laundry(ceiling(3500, 3000, "1m"), false),
        "2024-06-21T09:00:00",
        [100, 1500, 1400],
    )
    .await;
    switch_on(&mut simulation, &OUTLETS).await;
    simulation.pass("40s").await;
    assert_eq!(relays(&simulation), [ON; 3]);
    simulation.draw("washer", 2000);
    simulation.pass("40s").await;
    assert_eq!(relays(&simulation), [ON, ON, OFF]);
    let standing = simulation.standing("boiler");
    assert_eq!(
        (standing.source, standing.rule.as_deref()),
        (Source::Safety, Some("power_limit"))
    );
    let reason = standing.reason.as_ref().unwrap().as_str();
    assert_eq!(
        reason,
        "4900 W exceeds power limit 3500 W, off until the others draw less"
    );
    assert_eq!(energy(&simulation).shed, ["boiler".parse().unwrap()]);
    let refused = simulation.set("boiler", ON).await;
    assert_eq!(simulation.code(refused), Some(Err(ErrorCode::RefusedBySafety)));
    let message = &simulation.outcomes[&refused].as_ref().unwrap_err().message;
    assert!(
        message.ends_with("refused by power_limit; possible when the others draw less"),
        "{message}"
    );

    simulation.press("boiler");
    simulation.pass("10s").await;
    assert_eq!(relays(&simulation), [ON, ON, OFF], "switched back");
    simulation.draw("washer", 100);
    simulation.pass("2m").await;
    assert_eq!(relays(&simulation), [ON; 3]);
    assert!(energy(&simulation).shed.is_empty());
    assert_eq!(simulation.standing("boiler").source, Source::Manual);
    assert_eq!(simulation.count(EventKind::SafetyTrip), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_19_an_off_command_keeps_a_shed_outlet_off() {
    let mut simulation = metered(
        laundry(ceiling(3500, 3000, "1m"), false),
        "2024-06-21T09:00:00",
        [2000, 0, 2000],
    )
    .await;
    switch_on(&mut simulation, &["washer", "boiler"]).await;
    simulation.pass("10s").await;
    assert_eq!(relays(&simulation), [ON, OFF, OFF]);
    simulation.set("boiler", OFF).await;
    simulation.draw("washer", 10);
    simulation.pass("5m").await;
    assert_eq!(relays(&simulation), [ON, OFF, OFF]);
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_shed_timed_on_still_ends_at_its_time() {
    let mut simulation = metered(
        laundry(ceiling(3500, 3000, "1m"), false),
        "2024-06-21T09:00:00",
        [2000, 0, 2000],
    )
    .await;
    simulation
        .command("boiler", Action::OnFor(Duration::from_mins(10)), None)
        .await;
    switch_on(&mut simulation, &["washer"]).await;
    simulation.pass("10s").await;
    assert_eq!(relays(&simulation), [ON, OFF, OFF]);
    simulation.draw("washer", 10);
    simulation.pass("2m").await;
    assert_eq!(relays(&simulation), [ON, OFF, ON]);
    simulation.until("2024-06-21T09:10:05").await;
    assert_eq!(relays(&simulation), [ON, OFF, OFF]);
    simulation.pass("10m").await;
    assert_eq!(relays(&simulation), [ON, OFF, OFF]);
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_scheduled_group_sheds_and_returns_by_priority() {
    let mut simulation = metered(
        laundry(ceiling(3500, 3000, "1m"), true),
        "2024-06-21T05:59:00",
        [1500, 1000, 1800],
    )
    .await;
    simulation.until("2024-06-21T06:00:40").await;
    assert_eq!(relays(&simulation), [ON, ON, OFF]);
    simulation.draw("washer", 2900);
    simulation.pass("40s").await;
    assert_eq!(relays(&simulation), [ON, OFF, OFF]);
    simulation.pass("2m").await;
    simulation.draw("washer", 200);
    simulation.pass("3m").await;
    assert_eq!(relays(&simulation), [ON; 3]);
    let dryer = "dryer".parse().unwrap();
    let order: Vec<_> = simulation
        .switched
        .iter()
        .rev()
        .take(2)
        .map(|(_, path, _)| path)
        .collect();
    assert_eq!(order[1], &dryer, "the more important first");
    simulation.draw("washer", 2900);
    simulation.until("2024-06-21T22:00:02").await;
    simulation.draw("washer", 10);
    simulation.pass("5m").await;
    assert_eq!(relays(&simulation), [OFF; 3], "it is not wanted any more");
}

#[tokio::test(start_paused = true)]
async fn rule_19_what_waits_for_room_announces_no_change() {
    let mut group = laundry(ceiling(3500, 3000, "1m"), true);
    group.limits.max_on = "2h".parse().unwrap();
    let mut simulation = metered(group, "2024-06-21T05:59:00", [1500, 1000, 1800]).await;
    simulation.until("2024-06-21T06:00:40").await;
    assert_eq!(relays(&simulation), [ON, ON, OFF]);
    let next = |simulation: &Simulation| {
        let standing = simulation.standing("boiler");
        (standing.expected, standing.next_change, standing.next_state)
    };
    assert_eq!(next(&simulation), (Some(OFF), None, None), "it may come back");
    simulation.pass("10m").await;
    assert_eq!(next(&simulation), (Some(OFF), None, None), "its pause is over");
    // There is room: now it runs, and has an end.
    simulation.draw("washer", 100);
    simulation.pass("2m").await;
    assert_eq!(relays(&simulation), [ON; 3]);
    let (expected, at, state) = next(&simulation);
    assert_eq!((expected, at.is_some(), state), (Some(ON), true, Some(OFF)));
    // What is forgotten with its window has the next window again.
    simulation.draw("washer", 2900);
    simulation.until("2024-06-21T07:59:00").await;
    assert_eq!(relays(&simulation), [ON, OFF, OFF]);
    simulation.until("2024-06-21T22:05:00").await;
    let tomorrow = "2024-06-22T06:00:00Z".parse().unwrap();
    assert_eq!(next(&simulation), (Some(OFF), Some(tomorrow), Some(ON)));
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_command_for_a_group_switches_on_what_fits() {
    let mut simulation = metered(
        laundry(ceiling(3500, 3000, "1m"), false),
        "2024-06-21T09:00:00",
        [2000, 2000, 1000],
    )
    .await;
    for path in OUTLETS {
        switch_on(&mut simulation, &[path]).await;
        simulation.pass("5s").await;
        simulation.set(path, OFF).await;
        simulation.pass("5s").await;
    }
    let command = simulation.set("group/driveway", ON).await;
    simulation.pass("5s").await;
    assert_eq!(relays(&simulation), [ON, OFF, ON]);
    assert!(simulation.outcomes.contains_key(&command));
    assert_eq!(simulation.count(EventKind::RefusedBySafety), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_finished_load_is_reported_once_and_stays_off() {
    let mut simulation = metered(
        laundry(finished(IfFinished::Off), true),
        "2024-06-21T05:59:00",
        [500, 0, 0],
    )
    .await;
    simulation.until("2024-06-21T07:00:00").await;
    assert_eq!(simulation.count(EventKind::LoadFinished), 0);
    simulation.draw("washer", 2);
    simulation.pass("5m").await;
    assert_eq!(relays(&simulation), [OFF, ON, ON]);
    let reported: Vec<_> = simulation
        .events
        .iter()
        .filter(|(kind, _)| *kind == EventKind::LoadFinished)
        .collect();
    assert_eq!(
        reported,
        [&(
            EventKind::LoadFinished,
            "the load of washer has finished".to_owned()
        )]
    );
    let standing = simulation.standing("washer");
    assert_eq!(standing.source, Source::Override);
    assert!(
        standing
            .reason
            .as_ref()
            .unwrap()
            .as_str()
            .contains("(load finished at")
    );
    simulation.until("2024-06-21T21:59:00").await;
    assert_eq!(simulation.power("washer"), OFF);
    simulation.until("2024-06-22T06:00:02").await;
    assert_eq!(simulation.power("washer"), ON);
    simulation.pass("1h").await;
    assert_eq!(simulation.count(EventKind::LoadFinished), 1, "it did not run");
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_finished_load_is_switched_off_until_confirmed() {
    let mut simulation = metered(
        laundry(finished(IfFinished::Off), false),
        "2024-06-21T09:00:00",
        [500, 0, 0],
    )
    .await;
    switch_on(&mut simulation, &["washer"]).await;
    simulation.pass("5m").await;
    simulation.relay("washer").stubborn = true;
    simulation.draw("washer", 2);
    simulation.pass("10m").await;
    assert_eq!(
        (
            simulation.power("washer"),
            simulation.count(EventKind::LoadFinished)
        ),
        (ON, 1)
    );
    simulation.relay("washer").stubborn = false;
    simulation.pass("2m").await;
    assert_eq!(simulation.power("washer"), OFF);
    switch_on(&mut simulation, &["washer"]).await;
    simulation.pass("30m").await;
    assert_eq!(
        (
            simulation.power("washer"),
            simulation.count(EventKind::LoadFinished)
        ),
        (ON, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn rule_19_standby_is_switched_off() {
    let mut simulation = metered(laundry(standby(), false), "2024-06-21T09:00:00", [2, 3, 0]).await;
    switch_on(&mut simulation, &["washer", "dryer"]).await;
    simulation.pass("9m").await;
    assert_eq!(relays(&simulation), [ON, ON, OFF]);
    simulation.pass("2m").await;
    assert_eq!(relays(&simulation), [OFF, ON, OFF]);
    assert_eq!(simulation.count(EventKind::StandbyOff), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_silent_meter_is_not_idle_and_is_reported_once() {
    let mut simulation = metered(
        laundry(finished(IfFinished::Report), false),
        "2024-06-21T09:00:00",
        [500, 0, 0],
    )
    .await;
    switch_on(&mut simulation, &["washer"]).await;
    simulation.pass("2m").await;
    simulation.relay("washer").gauge.as_mut().unwrap().silent = true;
    simulation.draw("washer", 2);
    simulation.pass("30m").await;
    assert_eq!(
        (
            simulation.count(EventKind::MeterSilent),
            simulation.count(EventKind::LoadFinished)
        ),
        (1, 0)
    );
    simulation.relay("washer").gauge.as_mut().unwrap().silent = false;
    simulation.pass("5m").await;
    assert_eq!(
        (
            simulation.count(EventKind::MeterBack),
            simulation.count(EventKind::LoadFinished)
        ),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn rule_19_changed_and_removed_rules_apply_at_once() {
    let mut simulation = metered(
        laundry(ceiling(3500, 3000, "1m"), false),
        "2024-06-21T09:00:00",
        [2000, 0, 2000],
    )
    .await;
    switch_on(&mut simulation, &["washer", "boiler"]).await;
    simulation.pass("40s").await;
    assert_eq!(relays(&simulation), [ON, OFF, OFF]);
    simulation
        .reload(rules(laundry(ceiling(5000, 4500, "1m"), false)), &OUTLETS)
        .await;
    simulation.pass("2m").await;
    assert_eq!(relays(&simulation), [ON, OFF, ON]);
    simulation
        .reload(rules(laundry(EnergyRules::default(), false)), &OUTLETS)
        .await;
    simulation.draw("washer", 9000);
    simulation.pass("2m").await;
    assert_eq!(relays(&simulation), [ON, OFF, ON]);
    assert_eq!(simulation.group().energy, None);
    assert_eq!(
        simulation.kept().saved.groups[&"driveway".parse().unwrap()].energy,
        planner::energy_limits::PersistedEnergy::default()
    );
}

#[derive(Debug, Clone)]
enum Step {
    Set(usize, Power),
    Press(usize),
    Draw(usize, u64),
    Pass(u64),
    /// Out of reach for so long.
    Outage(usize, u64),
    Restart(u64),
    Jump(i64),
    Vacation(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outlet = || 0..OUTLETS.len();
    let step = prop_oneof![
        4 => (0..=OUTLETS.len(), prop_oneof![2 => Just(ON), 1 => Just(OFF)]).prop_map(|(target, power)| Step::Set(target, power)),
        2 => outlet().prop_map(Step::Press),
        4 => (outlet(), prop_oneof![1 => Just(0), 6 => 700_u64..2000]).prop_map(|(outlet, watts)| Step::Draw(outlet, watts)),
        6 => (1_u64..900).prop_map(Step::Pass),
        1 => (outlet(), 1_u64..300).prop_map(|(outlet, seconds)| Step::Outage(outlet, seconds)),
        1 => (1_u64..600).prop_map(Step::Restart),
        1 => prop_oneof![-9000_i64..-5, 5_i64..9000].prop_map(Step::Jump),
        1 => any::<bool>().prop_map(Step::Vacation),
    ];
    prop::collection::vec(step, 1..25)
}

impl Simulation {
    async fn live_through(&mut self, step: &Step) {
        match step {
            Step::Set(target, power) => {
                let target = OUTLETS.get(*target).unwrap_or(&"group/driveway");
                self.command(target, Action::Switch(Switch::To(*power)), None)
                    .await;
            }
            Step::Press(outlet) => self.press(OUTLETS[*outlet]),
            Step::Draw(outlet, watts) => self.draw(OUTLETS[*outlet], *watts),
            Step::Pass(seconds) => self.pass_for(Duration::from_secs(*seconds)).await,
            Step::Outage(outlet, seconds) => {
                self.relay(OUTLETS[*outlet]).online = false;
                self.pass_for(Duration::from_secs(*seconds)).await;
                self.relay(OUTLETS[*outlet]).online = true;
            }
            Step::Restart(down) => self.restart(Duration::from_secs(*down)).await,
            Step::Jump(jump) => self.clock.jump(SignedDuration::from_secs(*jump)),
            Step::Vacation(away) => {
                self.request(Request::Vacation(Some(*away))).await.unwrap();
            }
        }
    }
}

fn site(energy: EnergyRules) -> impl Strategy<Value = Group> {
    let reactions = prop::sample::select(vec![
        OnExternalChange::Override,
        OnExternalChange::Enforce,
        OnExternalChange::Ignore,
    ]);
    (any::<bool>(), any::<bool>(), reactions).prop_map(move |(scheduled, staggered, reaction)| {
        let mut group = laundry(energy, scheduled);
        group.stagger = staggered.then(|| "2s".parse().unwrap());
        group.on_external_change = reaction;
        group
    })
}

fn run(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test)
}

#[test]
fn rule_19_no_sequence_exceeds_the_limit_longer_than_a_reading() {
    const PAUSE: i64 = 60;
    check(
        16,
        &(site(ceiling(3500, 3000, "1m")), steps()),
        |(group, steps)| {
            run(async {
                let mut simulation = metered(group, "2024-06-21T05:50:00", [1000, 1500, 2000]).await;
                simulation.ceiling = Some(3500);
                simulation.set("group/driveway", ON).await;
                for step in &steps {
                    simulation.live_through(step).await;
                }
                simulation.pass("5m").await;
                prop_assert!(
                    simulation.violations.is_empty(),
                    "{:?}",
                    simulation.violations.first()
                );
                let jumps = steps.iter().any(|step| matches!(step, Step::Jump(_)));
                for path in OUTLETS {
                    let times: Vec<_> = simulation.shed.iter().filter(|(_, shed)| shed == path).collect();
                    let close = times
                        .windows(2)
                        .any(|pair| pair[1].0.duration_since(pair[0].0).as_secs() < PAUSE);
                    prop_assert!(jumps || !close, "{path} flaps: {times:?}");
                }
                Ok(())
            })
        },
    );
}

#[test]
fn rule_19_no_sequence_exceeds_the_budget_by_over_a_reading() {
    let steps = steps().prop_map(|steps| {
        // What is used out of reach and while the clock is set is another matter.
        let counts = |step: &Step| !matches!(step, Step::Outage(..) | Step::Jump(_) | Step::Restart(_));
        steps.into_iter().filter(counts).collect::<Vec<_>>()
    });
    check(8, &(site(budget(600)), steps), |(group, steps)| {
        run(async {
            let mut simulation = metered(group, "2024-06-21T05:50:00", [1000, 1500, 2000]).await;
            simulation.budget = Some(600);
            for step in &steps {
                simulation.live_through(step).await;
            }
            simulation.pass_for(READING + POLL).await;
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
