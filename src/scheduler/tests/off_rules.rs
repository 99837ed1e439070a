//! OFF edges that plugs hold themselves.

use std::time::Duration;

use super::{
    rules::{OFF, ON, rules, simulation},
    simulation::Simulation,
};
use crate::domain::{
    command::Action,
    device_command::Switch,
    report::{DeviceClock, EventKind},
};
use planner::{
    overrides::Lifetime,
    plan::Source,
    rules::{Group, SyncOffToDevice},
    testing::{group, schedule},
};

fn heater() -> Group {
    let mut group = group(vec![schedule("morning", "06:00", "08:00")]);
    group.outlets = vec!["heater".parse().unwrap()];
    group.sync_off_to_device = SyncOffToDevice::Yes;
    group
}

/// A plug that can hold rules and whose clock is right, at 05:00.
async fn with_off_rules() -> Simulation {
    let mut simulation = simulation(heater(), "2024-06-21T05:00:00").await;
    set_clock(&mut simulation, in_step()).await;
    simulation
}

fn in_step() -> DeviceClock {
    DeviceClock::InStep {
        zone: "UTC".to_owned(),
    }
}

async fn set_clock(simulation: &mut Simulation, clock: DeviceClock) {
    let relay = simulation.relay("heater");
    relay.rules.list = Some([].into());
    relay.rules.clock = clock;
    simulation.pass("12s").await;
}

/// The rules that are asked for: when, and on how many days.
fn asked(simulation: &Simulation) -> Vec<(u16, u32)> {
    let wanted = &simulation.off_rules.last().unwrap().wanted;
    wanted
        .iter()
        .map(|rule| (rule.minute, rule.days.bits().count_ones()))
        .collect()
}

async fn hold(simulation: &mut Simulation) {
    let hold = Some(Lifetime::Hold);
    simulation
        .command("heater", Action::Switch(Switch::To(ON)), hold)
        .await;
    simulation.pass("12s").await;
}

#[tokio::test(start_paused = true)]
async fn rule_18_off_edges_are_sent_once_and_known_after_a_restart() {
    let mut simulation = with_off_rules().await;
    assert_eq!(asked(&simulation), [(481, 7)]);
    assert_eq!(simulation.standing("heater").off_rules.len(), 1);
    simulation.pass("26h").await;
    assert_eq!(simulation.off_rules.len(), 1, "nothing changed");
    simulation.restart(Duration::from_mins(5)).await;
    simulation.pass("1m").await;
    assert_eq!(simulation.off_rules.len(), 1, "what is there is what is wanted");
    assert_eq!(simulation.kept().off_rules.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_18_an_override_takes_the_rules_away_that_it_outlasts() {
    let mut simulation = with_off_rules().await;
    hold(&mut simulation).await;
    assert_eq!(asked(&simulation), []);
    simulation.command("heater", Action::Auto, None).await;
    simulation.pass("12s").await;
    assert_eq!(asked(&simulation), [(481, 7)]);
    let until = Some(Lifetime::Until("2024-06-21T12:00:00Z".parse().unwrap()));
    simulation
        .command("heater", Action::Switch(Switch::To(ON)), until)
        .await;
    simulation.pass("12s").await;
    assert_eq!(asked(&simulation), [(481, 6)], "all but today's");
    simulation.until("2024-06-21T12:00:10").await;
    simulation.pass("12s").await;
    assert_eq!(asked(&simulation), [(481, 7)]);
}

#[tokio::test(start_paused = true)]
async fn rule_18_a_rule_that_fires_is_no_override() {
    let mut simulation = with_off_rules().await;
    // The plug cannot be written to in time, and its rule fires.
    simulation.rules_are_stuck = true;
    hold(&mut simulation).await;
    assert_eq!(asked(&simulation), []);
    simulation.until("2024-06-21T08:01:02").await;
    simulation.press("heater");
    simulation.pass("10s").await;
    assert_eq!(simulation.power("heater"), ON, "the override lasts");
    assert_eq!(simulation.standing("heater").source, Source::Override);
    simulation.until("2024-06-21T08:10:00").await;
    simulation.press("heater");
    simulation.pass("10s").await;
    assert_eq!(simulation.power("heater"), OFF, "that was the button");
}

#[tokio::test(start_paused = true)]
async fn rule_18_without_the_option_ours_are_taken_out() {
    let mut simulation = with_off_rules().await;
    let mut other = heater();
    other.sync_off_to_device = SyncOffToDevice::No;
    simulation.reload(rules(other), &["heater"]).await;
    simulation.pass("12s").await;
    let last = simulation.off_rules.last().unwrap();
    assert!(last.wanted.is_empty());
    assert!(last.ours.contains_key("S1"));
    assert!(simulation.kept().off_rules.is_empty());
    let asked = simulation.off_rules.len();
    simulation.pass("1h").await;
    assert_eq!(simulation.off_rules.len(), asked);
}

#[tokio::test(start_paused = true)]
async fn rule_18_a_clock_that_is_wrong_or_unknown_holds_no_rule() {
    for (clock, words) in [
        (DeviceClock::Wrong, "not in step"),
        (DeviceClock::Unreported, "cannot be read"),
    ] {
        let mut simulation = simulation(heater(), "2024-06-21T05:00:00").await;
        set_clock(&mut simulation, clock.clone()).await;
        assert!(
            simulation.off_rules.is_empty(),
            "nothing is there, and nothing is wanted"
        );
        assert_eq!(simulation.count(EventKind::DeviceScheduleFailed), 1);
        assert!(simulation.events.last().unwrap().1.contains(words));
        simulation.pass("5m").await;
        assert_eq!(
            simulation.count(EventKind::DeviceScheduleFailed),
            1,
            "reported once"
        );
        set_clock(&mut simulation, in_step()).await;
        assert_eq!(asked(&simulation), [(481, 7)]);
        set_clock(&mut simulation, clock).await;
        assert_eq!(asked(&simulation), [], "taken out again");
    }
}
