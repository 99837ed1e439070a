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

#[test]
fn outlets_go_by_configured_name_or_position() {
    let mut known = DeviceState::default();
    let changes = known.apply_reading(
        &config(),
        Kind::Strip,
        &[child("a", 1, Power::On), child("b", 2, Power::Off)],
        at(0),
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
        at(0),
    );
    let changes = known.apply_reading(
        &config(),
        Kind::Strip,
        &[child("b", 2, Power::On), child("a", 1, Power::On)],
        at(1),
    );
    assert_eq!(
        changes,
        [RelayChange {
            outlet: Some("left".parse().unwrap()),
            power: Power::On
        }]
    );
    let change = known.apply_child_reading(
        &config(),
        "a",
        &OutletReading {
            power: Some(Power::Off),
            ..Default::default()
        },
        at(2),
    );
    assert_eq!(
        change,
        Some(RelayChange {
            outlet: Some("1".parse().unwrap()),
            power: Power::Off
        })
    );
}

#[test]
fn an_outlet_that_is_left_out_is_unknown_and_stays() {
    let mut known = DeviceState::default();
    let both = [child("a", 1, Power::On), child("b", 2, Power::Off)];
    known.apply_reading(&config(), Kind::Strip, &both, at(0));
    let changes = known.apply_reading(&config(), Kind::Strip, &both[1..], at(1));
    assert_eq!(changes, []);
    let powers: Vec<_> = known.outlets.iter().map(|known| known.outlet.power).collect();
    assert_eq!(powers, [None, Some(Power::Off)]);
    let changes = known.apply_reading(&config(), Kind::Strip, &both, at(2));
    assert_eq!(changes, [], "from unknown to known is no change");
}

#[test]
fn another_device_is_told_by_its_mac_or_else_by_its_id() {
    let device = |mac: Option<&str>, id: Option<&str>| DeviceReading {
        mac: mac.map(str::to_owned),
        device_id: id.map(str::to_owned),
        ..Default::default()
    };
    let mut known = DeviceState::default();
    assert_eq!(known.identity_mismatch(&device(Some("m1"), Some("i1"))), None);
    known.identify(&config(), Kind::Plug, &[], &device(None, Some("i1")));
    assert!(known.identity_mismatch(&device(Some("m1"), Some("i2"))).is_some());
    known.identify(&config(), Kind::Plug, &[], &device(Some("m1"), None));
    assert_eq!(known.identity_mismatch(&device(Some("m1"), Some("i2"))), None);
    assert_eq!(known.identity_mismatch(&device(None, Some("i1"))), None);
    assert_eq!(known.identity_mismatch(&device(None, None)), None);
    assert!(known.identity_mismatch(&device(Some("m2"), Some("i1"))).is_some());
}

#[test]
fn a_steady_outlet_keeps_the_instant_it_went_on() {
    let mut known = DeviceState::default();
    let on = |on_time| OutletReading {
        on_time: Some(on_time),
        ..child("a", 1, Power::On)
    };
    let mut since = |reading: OutletReading, now| {
        known.apply_reading(&config(), Kind::Strip, &[reading], at(now));
        known.outlets[0].outlet.on_since
    };
    assert_eq!(since(on(100), 1000), Some(at(900)));
    assert_eq!(since(on(103), 1005), Some(at(900)), "two seconds of jitter");
    assert_eq!(since(child("a", 1, Power::Off), 1010), None);
    assert_eq!(since(on(1), 1020), Some(at(1019)));
    assert_eq!(since(on(u64::MAX), 1021), None);
}

#[test]
fn what_an_outlet_told_once_stays_its_feature_and_auto_off_is_an_instant() {
    let mut known = DeviceState::default();
    let last_report = OutletReading {
        charging: Some("finished".to_owned()),
        auto_off: Some("on".to_owned()),
        auto_off_in: Some(60),
        ..child("a", 1, Power::On)
    };
    let mut apply_reading = |reading: &OutletReading, now| {
        known.apply_reading(&config(), Kind::Strip, std::slice::from_ref(reading), at(now));
        known.outlets[0].outlet.clone()
    };
    let outlet = apply_reading(&last_report, 1000);
    assert_eq!(outlet.condition.auto_off_at, Some(at(1060)));
    let later = OutletReading {
        auto_off_in: Some(52),
        ..last_report.clone()
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
        ..last_report
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
    known.apply_reading(&config(), Kind::Plug, &plug, at(0));
    let mut last_report = |to, ends| {
        known.set_countdown(Countdown::Running { to, ends: at(ends) });
        known.apply_reading(&config(), Kind::Plug, &plug, at(0));
        match known.outlets[0].outlet.countdown {
            Countdown::Running { to, ends } => (to, ends.as_second()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last_report(Power::Off, 100), (Power::Off, 100));
    assert_eq!(last_report(Power::Off, 102), (Power::Off, 100));
    assert_eq!(last_report(Power::Off, 98), (Power::Off, 100));
    assert_eq!(last_report(Power::On, 99), (Power::On, 99));
    assert_eq!(last_report(Power::On, 102), (Power::On, 102));
}

#[test]
fn a_strip_has_no_countdown() {
    let mut known = DeviceState::default();
    known.apply_reading(&config(), Kind::Strip, &[child("a", 1, Power::On)], at(0));
    assert_eq!(known.outlets[0].outlet.countdown, Countdown::Unsupported);
}

#[test]
fn a_wandering_signal_is_no_news() {
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
