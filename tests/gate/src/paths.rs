//! The hot paths.

use std::{collections::BTreeSet, hint::black_box, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};
use planner::{
    Power,
    plan::plan,
    units::{MilliAmps, MilliVolts, MilliWattHours, NetMilliWatts},
};
use tapo2mqtt::{
    domain::{
        command::Target,
        devices::DeviceTarget,
        report::{
            Availability, Condition, Countdown, DeviceReport, DeviceRules, Energy, Identity, Kind, Outlet,
            Phase,
        },
        topics::{ParsedTopic, Topics},
    },
    mqtt::{
        StatusCache,
        decode::{DecodeContext, decode},
        states,
    },
};
use tapo2mqtt_gate::{CommandError, planning::Planning};

/// Something whose instructions are counted.
pub struct Path {
    pub name: &'static str,
    /// Runs it so often.
    pub run: fn(u64) -> Result<(), CommandError>,
}

pub const PATHS: &[Path] = &[
    Path {
        name: "a command's topic and payload decoded",
        run: decode_command,
    },
    Path {
        name: "the state of a strip of four outlets as payloads",
        run: tell_state,
    },
    Path {
        name: "a group of ten schedules planned",
        run: plan_group,
    },
];

fn decode_command(times: u64) -> Result<(), CommandError> {
    let topics = Topics::new(
        "tapo2mqtt".parse()?,
        "homeassistant".parse()?,
        "homeassistant/status".parse()?,
    );
    let payload = br#"{"state":"ON","on_time":"1h30m","ttl":5,"transaction":"a-17"}"#;
    for _ in 0..times {
        let ParsedTopic::Outlet { path, verb } = topics.parse(black_box("tapo2mqtt/heater/left/set"))? else {
            return Err("the topic of an outlet is read as another".into());
        };
        let context = DecodeContext {
            zone: &TimeZone::UTC,
            now: Timestamp::UNIX_EPOCH,
        };
        black_box(decode(&Target::Outlet(path), &verb, black_box(payload), context));
    }
    Ok(())
}

fn tell_state(times: u64) -> Result<(), CommandError> {
    let (report, statuses) = (
        strip()?,
        StatusCache::new(Arc::new(Planning::of(1)?.settings().rules.clone())),
    );
    for _ in 0..times {
        black_box(states(black_box(&report), &statuses, &BTreeSet::new()));
    }
    Ok(())
}

fn plan_group(times: u64) -> Result<(), CommandError> {
    let planning = Planning::of(1)?;
    for _ in 0..times {
        black_box(plan(black_box(&planning.inputs())));
    }
    Ok(())
}

fn strip() -> Result<DeviceReport, CommandError> {
    let since: Timestamp = "2026-03-28T20:00:00Z".parse()?;
    let mut outlets = Vec::new();
    for position in 1..=4_u8 {
        outlets.push(Outlet {
            key: Some(position.to_string().parse()?),
            position,
            name: Some(format!("Mat {position}")),
            power: Some(Power::On),
            on_since: Some(since),
            on_at: None,
            off_seen_at: None,
            changed_by: tapo2mqtt::domain::report::ChangedBy::Unknown,
            condition: Condition::default(),
            energy: Energy {
                power: Some(NetMilliWatts::new(61_250)),
                voltage: Some(MilliVolts::new(230_400)),
                current: Some(MilliAmps::new(266)),
                today: Some(MilliWattHours::new(214_000)),
                month: Some(MilliWattHours::new(5_214_000)),
                total: Some(MilliWattHours::new(75_214_000)),
            },
            features: [].into(),
            countdown: Countdown::Unsupported,
            settings: tapo2mqtt::domain::device_settings::OutletSettings::default(),
            rules: DeviceRules::default(),
        });
    }
    Ok(DeviceReport {
        id: "heater".parse()?,
        target: DeviceTarget::default(),
        name: Some("Heater".to_owned()),
        address: "192.168.1.50".to_owned(),
        phase: Phase::Ready,
        availability: Availability::Online,
        error: None,
        identity: Some(Arc::new(Identity {
            device_id: "802200000000000000000000000000000000".to_owned(),
            model: "P304M".to_owned(),
            firmware: Some("1.0.10 Build 240622 Rel.120000".to_owned()),
            hardware: Some("1.0".to_owned()),
            mac: Some("aa:bb:cc:dd:ee:ff".to_owned()),
            nickname: Some("Heater".to_owned()),
            kind: Kind::Strip,
            meters_energy: true,
            role: tapo2mqtt::domain::report::DeviceRole::Outlet,
        })),
        is_complete: true,
        rssi: Some(-51),
        serving: None,
        led: None,
        latest_firmware: None,
        outlets,
        children: Vec::new(),
    })
}
