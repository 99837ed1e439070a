//! Rules that the device follows by itself.

use std::time::Duration;

use tapo::{
    requests::{DaysOfWeek, EnergyDataInterval, ScheduleRule},
    responses::PowerState,
};
use tapo_simulator::{Cause, Profile, Simulator};

use crate::support::{SOON, kind, plug};

#[tokio::test]
async fn a_countdown_switches_off_without_a_request() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let handler = plug(&device).await.unwrap();
    handler.on().await.unwrap();
    handler
        .set_timer(Duration::from_secs(1), PowerState::Off)
        .await
        .unwrap();
    let timer = handler.get_timer().await.unwrap().unwrap();
    assert_eq!(
        (timer.delay_s, timer.remaining_s, timer.desired_state),
        (1, 1, PowerState::Off)
    );
    device.wait_relay(1, false, SOON).await.unwrap();
    let changes = device.counters().relay_changes;
    assert_eq!(changes.last().unwrap().cause, Cause::Countdown);
    assert!(changes[1].at - changes[0].at >= Duration::from_millis(900));
    // The rule that fired is still listed, with nothing left.
    assert_eq!(handler.get_timer().await.unwrap().unwrap().remaining_s, 0);
    handler.clear_timer().await.unwrap();
    assert!(handler.get_timer().await.unwrap().is_none());
}

#[tokio::test]
async fn the_clock_moves_ahead_through_countdowns_and_energy() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let handler = plug(&device).await.unwrap();
    device.set_watts(1, 1000.0).unwrap();
    handler.on().await.unwrap();
    handler
        .set_timer(Duration::from_hours(2), PowerState::Off)
        .await
        .unwrap();
    device.advance(Duration::from_hours(1));
    assert!(device.relay(1));
    let on_time = handler.get_device_info_json().await.unwrap()["on_time"]
        .as_u64()
        .unwrap();
    assert!((3600..3660).contains(&on_time), "{on_time}");
    device.advance(Duration::from_hours(10));
    assert!(!device.relay(1));
    let meter = handler.get_energy_meter_data().await.unwrap();
    assert!((2000..2010).contains(&meter.energy_wh), "{meter:?}");
}

#[tokio::test]
async fn schedules_are_kept_in_pages_and_fire() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let handler = plug(&device).await.unwrap();
    for hour in 0..12 {
        let state = if hour % 2 == 0 {
            PowerState::On
        } else {
            PowerState::Off
        };
        let rule = ScheduleRule::clock_weekly(2 * hour, 0, DaysOfWeek::EVERY_DAY, state).unwrap();
        handler.add_schedule_rule(rule).await.unwrap();
    }
    assert_eq!(handler.get_schedule_rules().await.unwrap().len(), 12);
    assert_eq!(handler.get_max_schedule_rules().await.unwrap(), 32);
    let rule = ScheduleRule::clock_weekly(2, 0, DaysOfWeek::MON, PowerState::On).unwrap();
    assert_eq!(
        kind(&handler.add_schedule_rule(rule.clone()).await.unwrap_err()),
        "-1803"
    );
    assert_eq!(
        kind(&handler.edit_schedule_rule(rule.with_id("S99")).await.unwrap_err()),
        "-1805"
    );

    device.advance(Duration::from_hours(24));
    let changes = device.counters().relay_changes;
    assert!((11..=12).contains(&changes.len()), "{changes:?}");
    assert!(changes.iter().all(|change| change.cause == Cause::Schedule));

    handler.remove_schedule_rule("S1").await.unwrap();
    assert_eq!(handler.get_schedule_rules().await.unwrap().len(), 11);
    handler.remove_all_schedule_rules().await.unwrap();
    assert!(handler.get_schedule_rules().await.unwrap().is_empty());
}

#[tokio::test]
async fn histories_parse() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let handler = plug(&device).await.unwrap();
    device.add_energy(1, 1500.0).unwrap();
    let usage = handler.get_energy_usage().await.unwrap();
    assert_eq!((usage.today_energy, usage.month_energy), (1500, 1500));
    let today = usage.local_time.date();
    let interval = EnergyDataInterval::Hourly {
        start_date: today,
        end_date: today,
    };
    let hours = handler.get_energy_data(interval, None).await.unwrap();
    assert_eq!(hours.entries.iter().map(|hour| hour.energy).sum::<u64>(), 1500);
}
