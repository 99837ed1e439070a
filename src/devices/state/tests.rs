use super::*;
use crate::domain::devices::OutletConfig;

fn config() -> DeviceConfig {
    DeviceConfig {
        id: "strip".parse().unwrap(),
        address: "127.0.0.1".to_owned(),
        name: None,
        credentials: None,
        outlets: vec![OutletConfig {
            position: 2,
            key: "left".parse().unwrap(),
            name: Some("Left mat".to_owned()),
        }],
    }
}

fn child(id: &str, position: u8, power: Power) -> OutletReading {
    OutletReading {
        child_id: Some(id.to_owned()),
        position: Some(position),
        power: Some(power),
        ..Default::default()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn steady(second: i64) -> Steady {
    Steady::at(jiff::Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second))
}

fn now(second: i64) -> Now {
    Now {
        wall: at(second),
        steady: steady(second),
    }
}

#[test]
fn outlets_go_by_configured_name_or_position() {
    let mut known = DeviceState::default();
    let changes = known.apply_reading(
        &config(),
        Kind::Strip,
        &[child("a", 1, Power::On), child("b", 2, Power::Off)],
        now(0),
    );
    assert!(changes.is_empty(), "the first reading is no change");
    let keys: Vec<_> = known
        .outlets
        .iter()
        .map(|o| o.outlet.key.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(keys, ["1", "left"]);
    assert_eq!(known.outlets[1].outlet.name.as_deref(), Some("Left mat"));
}

#[test]
fn only_relays_that_changed_are_changes() {
    let mut known = DeviceState::default();
    known.apply_reading(
        &config(),
        Kind::Strip,
        &[child("a", 1, Power::On), child("b", 2, Power::Off)],
        now(0),
    );
    let changes = known.apply_reading(
        &config(),
        Kind::Strip,
        &[child("b", 2, Power::On), child("a", 1, Power::On)],
        now(1),
    );
    assert_eq!(
        changes,
        [RelayChange {
            outlet: Some("left".parse().unwrap()),
            power: Power::On,
            sign: ChangeSign::Read,
        }]
    );
    let change = known.apply_child_reading(
        &config(),
        "a",
        &OutletReading {
            power: Some(Power::Off),
            ..Default::default()
        },
        now(2),
    );
    assert_eq!(
        change,
        Some(RelayChange {
            outlet: Some("1".parse().unwrap()),
            power: Power::Off,
            sign: ChangeSign::Read,
        })
    );
}

#[test]
fn an_outlet_that_is_left_out_is_unknown_and_stays() {
    let mut known = DeviceState::default();
    let both = [child("a", 1, Power::On), child("b", 2, Power::Off)];
    known.apply_reading(&config(), Kind::Strip, &both, now(0));
    let changes = known.apply_reading(&config(), Kind::Strip, &both[1..], now(1));
    assert_eq!(changes, []);
    let powers: Vec<_> = known.outlets.iter().map(|known| known.outlet.power).collect();
    assert_eq!(powers, [None, Some(Power::Off)]);
    let changes = known.apply_reading(&config(), Kind::Strip, &both, now(2));
    assert_eq!(changes, [], "from unknown to known is no change");
}

#[test]
fn a_steady_outlet_keeps_the_instant_it_went_on() {
    let mut known = DeviceState::default();
    let on = |on_time| OutletReading {
        on_time: Some(on_time),
        ..child("a", 1, Power::On)
    };
    let mut since = |reading: OutletReading, second| {
        known.apply_reading(&config(), Kind::Strip, &[reading], now(second));
        known.outlets[0].outlet.on_since
    };
    assert_eq!(since(on(100), 1000), Some(at(900)));
    assert_eq!(since(on(103), 1005), Some(at(900)), "two seconds of jitter");
    assert_eq!(since(child("a", 1, Power::Off), 1010), None);
    assert_eq!(since(on(1), 1020), Some(at(1019)));
    assert_eq!(since(on(u64::MAX), 1021), None);
}

fn read(known: &mut DeviceState, power: Power, on_time: Option<u64>, second: i64) -> Vec<RelayChange> {
    let reading = OutletReading {
        on_time,
        ..child("a", 1, power)
    };
    known.apply_reading(&config(), Kind::Strip, &[reading], now(second))
}

#[test]
fn a_set_wall_clock_does_not_move_a_run() {
    let mut known = DeviceState::default();
    read(&mut known, Power::On, Some(100), 1000);
    let mut later = now(1010);
    later.wall = at(90_000);
    let reading = OutletReading {
        on_time: Some(110),
        ..child("a", 1, Power::On)
    };
    known.apply_reading(&config(), Kind::Strip, &[reading], later);
    let outlet = &known.outlets[0].outlet;
    assert_eq!(outlet.on_at, Some(steady(900)));
    assert_eq!(outlet.on_since, Some(at(90_000 - 110)));
}

#[test]
fn an_off_is_seen_when_it_is_first_read() {
    let mut known = DeviceState::default();
    let mut seen = |power, second| {
        read(&mut known, power, None, second);
        known.outlets[0].outlet.off_seen_at
    };
    assert_eq!(seen(Power::On, 0), None);
    assert_eq!(seen(Power::Off, 10), Some(steady(10)));
    assert_eq!(
        seen(Power::Off, 20),
        Some(steady(10)),
        "each poll would be a report"
    );
    assert_eq!(seen(Power::On, 30), Some(steady(10)));
    assert_eq!(seen(Power::Off, 40), Some(steady(40)));
}

#[test]
fn a_count_that_starts_over_differs_from_one_that_stands() {
    let mut known = DeviceState::default();
    let restart = |changes: Vec<RelayChange>| changes.first().map(|change| change.sign);
    read(&mut known, Power::On, Some(100), 1000);
    assert_eq!(
        restart(read(&mut known, Power::On, Some(1), 1010)),
        Some(ChangeSign::CountRestarted(steady(1009)))
    );
    assert_eq!(
        restart(read(&mut known, Power::On, Some(0), 1020)),
        Some(ChangeSign::CountRestarted(steady(1020)))
    );
    // It stays at 0: the run is as long as it was.
    assert_eq!(restart(read(&mut known, Power::On, Some(0), 1030)), None);
    assert_eq!(known.outlets[0].outlet.on_at, Some(steady(1009)));
    assert_eq!(restart(read(&mut known, Power::On, None, 1040)), None);
}

#[test]
fn a_reported_feature_stays_and_auto_off_is_an_instant() {
    let mut known = DeviceState::default();
    let reported = OutletReading {
        charging: Some("finished".to_owned()),
        auto_off: Some("on".to_owned()),
        auto_off_in: Some(60),
        ..child("a", 1, Power::On)
    };
    let mut apply_reading = |reading: &OutletReading, second| {
        known.apply_reading(&config(), Kind::Strip, std::slice::from_ref(reading), now(second));
        known.outlets[0].outlet.clone()
    };
    let outlet = apply_reading(&reported, 1000);
    assert_eq!(outlet.condition.auto_off_at, Some(at(1060)));
    let later = OutletReading {
        auto_off_in: Some(52),
        ..reported.clone()
    };
    assert_eq!(apply_reading(&later, 1006).condition.auto_off_at, Some(at(1060)));

    let silent = apply_reading(&child("a", 1, Power::On), 1010);
    assert_eq!(
        (&silent.condition.charging, silent.condition.auto_off_at),
        (&None, None)
    );
    assert_eq!(silent.features, [Feature::Charging, Feature::AutoOff].into());
    let idle = OutletReading {
        auto_off: Some("off".to_owned()),
        ..reported
    };
    assert_eq!(apply_reading(&idle, 1020).condition.auto_off_at, None);
}

#[test]
fn a_countdown_keeps_its_end_while_the_device_counts_on() {
    let mut known = DeviceState::default();
    let plug = [OutletReading {
        power: Some(Power::On),
        ..Default::default()
    }];
    known.apply_reading(&config(), Kind::Plug, &plug, now(0));
    let mut reported = |countdown| {
        known.set_countdown(countdown);
        known.apply_reading(&config(), Kind::Plug, &plug, now(0));
        known.outlets[0].outlet.countdown
    };
    let ours = |ends| Countdown::Armed { ends: at(ends) };
    let external = |to, ends| Countdown::External { to, ends: at(ends) };
    assert_eq!(reported(ours(100)), ours(100));
    assert_eq!(reported(ours(102)), ours(100));
    assert_eq!(reported(ours(98)), ours(100));
    assert_eq!(reported(external(Power::Off, 99)), external(Power::Off, 99));
    assert_eq!(reported(external(Power::Off, 101)), external(Power::Off, 99));
    assert_eq!(reported(external(Power::On, 99)), external(Power::On, 99));
}

#[test]
fn a_strip_has_no_countdown() {
    let mut known = DeviceState::default();
    known.apply_reading(&config(), Kind::Strip, &[child("a", 1, Power::On)], now(0));
    assert_eq!(known.outlets[0].outlet.countdown, Countdown::Unsupported);
}

#[test]
fn a_varying_signal_is_not_reported() {
    let mut known = DeviceState::default();
    let mut rssi = |value| {
        known.apply(&DeviceReading {
            rssi: value,
            ..Default::default()
        });
        known.rssi
    };
    assert_eq!(
        [rssi(Some(-50)), rssi(Some(-53)), rssi(Some(-54)), rssi(None)],
        [Some(-50), Some(-50), Some(-54), None]
    );
}
