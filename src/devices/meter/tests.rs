use serde_json::json;

use super::*;

fn live() -> Value {
    json!({"current_ma": 1099, "voltage_mv": 240_695, "power_mw": 234_838, "energy_wh": 8725, "energy_mwh": 8_725_929})
}

fn usage() -> Value {
    json!({"current_power": 234_000, "local_time": "2026-11-21T08:00:00", "today_energy": 46, "month_energy": 430})
}

fn reading(live: MeterAnswer, usage: MeterAnswer, power: MeterAnswer) -> MeterReading {
    MeterReading { live, usage, power }
}

fn full() -> Energy {
    Energy {
        power: Some(MilliWatts::new(234_838)),
        voltage: Some(MilliVolts::new(240_695)),
        current: Some(MilliAmps::new(1099)),
        today: Some(WattHours::new(46).into()),
        month: Some(WattHours::new(430).into()),
        total: None,
    }
}

#[test]
fn every_unit_is_taken_for_what_it_is() {
    let whole = reading(
        MeterAnswer::Values(live()),
        MeterAnswer::Values(usage()),
        MeterAnswer::Missed,
    );
    assert_eq!(whole.over(&Energy::default()), full());
    assert_eq!(
        whole.counters().since_restart,
        Some(MilliWattHours::new(8_725_929))
    );
    // Usage tells mW, the power alone W.
    let old = reading(
        MeterAnswer::Nothing,
        MeterAnswer::Values(usage()),
        MeterAnswer::Missed,
    );
    assert_eq!(
        old.over(&Energy::default()).power,
        Some(MilliWatts::from_watts(234))
    );
    let alone = MeterAnswer::Values(json!({"current_power": 234}));
    let strip = reading(MeterAnswer::Nothing, MeterAnswer::Nothing, alone);
    assert_eq!(
        strip.over(&Energy::default()).power,
        Some(MilliWatts::from_watts(234))
    );
}

#[test]
fn a_missing_or_mistyped_field_leaves_every_other_value() {
    for (index, whole) in [live(), usage()].into_iter().enumerate() {
        for key in whole.as_object().unwrap().keys() {
            for broken in [None, Some(json!(null)), Some(json!("x")), Some(json!(-1))] {
                let mut values = whole.clone();
                match broken {
                    None => drop(values.as_object_mut().unwrap().remove(key)),
                    Some(value) => values[key] = value,
                }
                let reading = if index == 0 {
                    reading(
                        MeterAnswer::Values(values),
                        MeterAnswer::Values(usage()),
                        MeterAnswer::Missed,
                    )
                } else {
                    reading(
                        MeterAnswer::Values(live()),
                        MeterAnswer::Values(values),
                        MeterAnswer::Missed,
                    )
                };
                let energy = reading.over(&Energy::default());
                let displaced = [
                    energy.voltage.is_none(),
                    energy.current.is_none(),
                    energy.today.is_none(),
                    energy.month.is_none(),
                    reading.counters().since_restart.is_none(),
                ];
                assert!(
                    displaced.iter().filter(|displaced| **displaced).count() <= 1,
                    "{key}: {energy:?}"
                );
                assert!(energy.power.is_some(), "{key}");
            }
        }
    }
}

#[test]
fn missed_values_stay_and_missing_ones_are_unknown() {
    let missed = reading(MeterAnswer::Missed, MeterAnswer::Missed, MeterAnswer::Missed);
    assert_eq!(missed.over(&full()), full());
    let gone = reading(
        MeterAnswer::Values(live()),
        MeterAnswer::Nothing,
        MeterAnswer::Missed,
    );
    let energy = gone.over(&full());
    assert_eq!((energy.today, energy.month), (None, None), "the clock is unset");
    assert_eq!(energy.power, full().power);
}

#[test]
fn outlets_take_turns_and_one_that_was_switched_goes_first_once() {
    let (now, usual) = (Instant::now(), Duration::from_secs(30));
    let mut meters = Meters::new(EnergyTotals::default(), now);
    let turn = |meters: &mut Meters| meters.take_turn(&[1, 2, 3], now, usual).unwrap();
    let turns: Vec<_> = (0..4).map(|_| turn(&mut meters)).collect();
    assert_eq!(turns, [1, 2, 3, 1]);
    for position in [1, 3, 1, 9] {
        meters.hurry(Some(position), now, usual);
    }
    let turns: Vec<_> = (0..4).map(|_| turn(&mut meters)).collect();
    assert_eq!(turns, [1, 3, 2, 3], "there is no 9");
    assert_eq!(meters.take_turn(&[], now, usual), None);
}

#[test]
fn a_request_that_fails_is_not_sent_until_the_next_login_and_an_unknown_one_never() {
    let mut meters = Meters::new(EnergyTotals::default(), Instant::now());
    *meters.ability(MeterRequest::Live) = Ability::Asked(FAILURES_TO_GIVE_UP);
    *meters.ability(MeterRequest::Power) = Ability::Unknown;
    let asked = |meters: &mut Meters| {
        [MeterRequest::Live, MeterRequest::Usage, MeterRequest::Power]
            .map(|reading| meters.ability(reading).is_asked())
    };
    assert_eq!(asked(&mut meters), [false, true, false]);
    meters.retry_failed();
    assert_eq!(asked(&mut meters), [true, true, false]);
}

#[test]
fn frequent_requests_do_not_flood_the_device() {
    let (start, usual) = (Instant::now(), Duration::from_secs(30));
    let mut meters = Meters::new(EnergyTotals::default(), start);
    let mut read = 0;
    for second in 0..600 {
        let now = start + Duration::from_secs(second);
        meters.hurry(Some(1 + u8::try_from(second % 6).unwrap()), now, usual);
        if now >= meters.due {
            meters.take_turn(&[1, 2, 3, 4, 5, 6], now, usual);
            read += 1;
        }
    }
    assert_eq!(read, 120, "one in five seconds");
}

#[test]
fn a_clock_is_in_step_within_half_a_minute_in_its_own_zone() {
    let berlin = |shown: &str, now: &str| {
        let shown: civil::DateTime = shown.parse().unwrap();
        let clock = in_step(shown, "Europe/Berlin", now.parse().unwrap());
        matches!(clock, DeviceClock::InStep { zone } if zone == "Europe/Berlin")
    };
    assert!(berlin("2026-11-21T12:00:20", "2026-11-21T11:00:00Z"));
    assert!(!berlin("2026-11-21T12:00:31", "2026-11-21T11:00:00Z"));
    assert!(
        !berlin("2026-11-21T11:00:00", "2026-11-21T11:00:00Z"),
        "another zone"
    );
    for hour in ["00", "01"] {
        let now = format!("2026-10-25T{hour}:30:00Z");
        assert!(berlin("2026-10-25T02:30:00", &now), "an hour that comes twice");
    }
    let shown = "2026-11-21T12:00:00".parse().unwrap();
    let nowhere = in_step(shown, "Nowhere/Land", "2026-11-21T11:00:00Z".parse().unwrap());
    assert_eq!(nowhere, DeviceClock::Untold);
}
