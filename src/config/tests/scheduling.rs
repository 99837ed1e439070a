//! Sensors, groups and schedules: what they become, and each rule broken once.

use std::time::Duration;

use jiff::SignedDuration;

use super::*;
use planner::{
    condition::{BlackIce, Bound, Condition, IceThresholds, Test, WhenUnknown},
    days::Days,
    edge::{Clamps, Edge},
    period::Period,
    rules::{
        CatchUp, Group, InVacation, Interlock, Limit, LimitChanges, Limits, OnExternalChange, OnReconnect,
        Priority, SyncOffToDevice,
    },
    sensor::{Pointer, Scale, SensorSpec, Unit},
    window::Window,
};
use planner::{
    energy_limits::{EnergyRules, Finished, IfFinished, PowerLimit, Standby},
    units::{MilliWattHours, MilliWatts},
};

const PLACE: &str = "[location]\nlatitude = 40.7128\nlongitude = -74.0060\ntimezone = 'America/New_York'\n";

const DEVICES: &str = "
[[device]]
id = 'plug'
address = '10.0.0.1'
[[device]]
id = 'mats'
address = '10.0.0.2'
outlet = [{ position = 1, id = 'left' }, { position = 2 }]
[[device]]
id = 'strip'
address = '10.0.0.3'
";

const SENSORS: &str = "
[[sensor]]
id = 'outdoor'
topic = 'weather/outdoor'
pointer = '/temperature'
unit = '°C'
[[sensor]]
id = 'dew'
topic = 'weather/dew'
unit = '°F'
stale_after = '10m'
[[sensor]]
id = 'rh'
topic = 'weather/rh'
unit = '%'
";

fn home(rest: &str) -> Home {
    Home::toml(&format!("{PLACE}{DEVICES}{SENSORS}{rest}"))
}

fn rules(rest: &str) -> Rules {
    home(rest)
        .load()
        .unwrap_or_else(|problems| panic!("{rest}: {problems}"))
        .rules
}

fn group(rest: &str) -> Group {
    rules(&format!("[[group]]\nid = 'g'\noutlets = ['plug']\n{rest}"))
        .groups
        .remove(0)
}

fn schedule(rest: &str) -> String {
    format!("[[group]]\nid = 'g'\noutlets = ['plug']\n[[group.schedule]]\nid = 's'\n{rest}")
}

fn window(rest: &str) -> Window {
    rules(&schedule(rest)).groups[0].schedules[0].window
}

fn condition(when: &str) -> Condition {
    let rules = rules(&schedule(&format!("all_day = true\nwhen = [{when}]")));
    rules.groups[0].schedules[0].conditions[0].clone()
}

fn period(text: &str) -> Period {
    text.parse().unwrap()
}

fn broken(cases: &[(&str, &str)]) {
    for (content, path) in cases {
        let paths: Vec<String> = match home(content).load() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.into_iter().map(|problem| problem.path).collect(),
        };
        assert_eq!(paths, [*path], "{content}");
    }
}

/// Breaks rules of one schedule.
fn broken_schedule(cases: &[(&str, &str)]) {
    for (content, key) in cases {
        broken(&[(&schedule(content), &format!("group[0].schedule[0].{key}"))]);
    }
}

#[test]
fn places_and_zones() {
    let rules = load_toml(PLACE).rules;
    let coordinates = rules.location.coordinates.unwrap();
    assert_eq!(
        (coordinates.latitude(), coordinates.longitude()),
        (40.7128, -74.0060)
    );
    assert_eq!(rules.location.zone.iana_name(), Some("America/New_York"));
    let from_environment = Home::toml("")
        .with_env("TAPO2MQTT__LOCATION__LATITUDE", "-33.9")
        .with_env("TAPO2MQTT__LOCATION__LONGITUDE", "151")
        .with_env("TAPO2MQTT__LOCATION__TIMEZONE", "Australia/Sydney");
    let coordinates = from_environment
        .load()
        .unwrap()
        .rules
        .location
        .coordinates
        .unwrap();
    assert_eq!((coordinates.latitude(), coordinates.longitude()), (-33.9, 151.0));
    for (content, path) in [
        ("latitude = 91\nlongitude = 0", "latitude"),
        ("latitude = 0\nlongitude = -180.1", "longitude"),
        ("latitude = nan\nlongitude = 0", "latitude"),
        ("latitude = 1", "longitude"),
        ("longitude = 1", "latitude"),
        ("timezone = 'Mars/Olympus'", "timezone"),
        ("timezone = ''", "timezone"),
        ("timezone = 1", "timezone"),
        ("time_zone = 'UTC'", "time_zone"),
    ] {
        assert_eq!(
            paths(&format!("[location]\n{content}")),
            [format!("location.{path}")]
        );
    }
}

#[test]
fn sensors() {
    let sensors = rules("").sensors;
    assert_eq!(
        sensors[0].topic().unwrap().pointer.as_ref().map(Pointer::as_str),
        Some("/temperature")
    );
    assert_eq!(sensors[0].stale_after, SensorSpec::DEFAULT_STALE_AFTER);
    assert_eq!(
        (sensors[1].unit.clone(), sensors[1].stale_after),
        (Unit::Temperature(Scale::Fahrenheit), period("10m"))
    );
    let sensor = |rest: &str| format!("[[sensor]]\nid = 'x'\n{rest}");
    for (content, key) in [
        ("", "topic"),
        ("topic = 'a/#'", "topic"),
        ("topic = 'a'\npointer = 'temperature'", "pointer"),
        ("topic = 'a'\npointer = '/~2'", "pointer"),
        ("topic = 'a'\nunit = 5", "unit"),
        ("topic = 'a'\nstale_after = '0s'", "stale_after"),
        ("topic = 'a'\nstale = '5s'", "stale"),
    ] {
        broken(&[(&sensor(content), &format!("sensor[3].{key}"))]);
    }
    broken(&[
        ("[[sensor]]\nid = 'rh'\ntopic = 'a'", "sensor[3].id"),
        ("[[sensor]]\nid = 'R H'\ntopic = 'a'", "sensor[3].id"),
    ]);
}

#[test]
fn a_sensor_can_be_a_value_of_a_hub() {
    const HUBS: &str = "
[[device]]
id = 'attic'
address = '10.0.1.1'
child = [{ id = 'hall' }, { id = 'roof' }]
[[device]]
id = 'cellar'
address = '10.0.1.2'
child = [{ id = 'hall' }]
";
    let sensor = |rest: &str| format!("{HUBS}[[sensor]]\nid = 'x'\n{rest}");
    let read = |rest: &str| {
        let spec = rules(&sensor(rest)).sensors.pop().unwrap();
        (spec.source.to_string(), spec.unit)
    };
    let celsius = Unit::Temperature(Scale::Celsius);
    assert_eq!(
        read("device = 'cellar/hall'\nvalue = 'temperature'"),
        ("cellar/hall temperature".to_owned(), celsius.clone())
    );
    // The name in the app need not be in the settings.
    assert_eq!(
        read("device = 'cellar/living-room'\nvalue = 'humidity'"),
        ("cellar/living-room humidity".to_owned(), Unit::Percent)
    );
    assert_eq!(
        read("device = 'roof'\nvalue = 'temperature'"),
        ("attic/roof temperature".to_owned(), celsius)
    );
    for (content, key, message) in [
        (
            "device = 'hall'\nvalue = 'motion'",
            "device",
            "hall can be attic/hall or cellar/hall",
        ),
        (
            "device = 'bath'\nvalue = 'motion'",
            "device",
            "the id of a [[device.child]]",
        ),
        (
            "device = 'atic/hall'\nvalue = 'motion'",
            "device",
            "did you mean attic?",
        ),
        (
            "device = 'mats/hall'\nvalue = 'motion'",
            "device",
            "mats has outlets, so it is no hub",
        ),
        (
            "device = 'attic/hall'\nvalue = 'warmth'",
            "value",
            "temperature, humidity",
        ),
        ("device = 'attic/hall'", "value", "temperature, humidity"),
        ("value = 'motion'", "device", "\"hub/hall\""),
        (
            "device = 'roof'\nvalue = 'motion'\nunit = '%'",
            "unit",
            "either a topic or a device",
        ),
    ] {
        let problems = home(&sensor(content)).load().unwrap_err().0;
        let found = problems
            .iter()
            .find(|problem| problem.path == format!("sensor[3].{key}"));
        let found = found.unwrap_or_else(|| panic!("{content}: {problems:?}"));
        assert!(found.message.contains(message), "{content}: {}", found.message);
    }
}

#[test]
fn a_sensor_can_be_a_value_of_the_forecast() {
    const WEATHER: &str = "[weather]\nprovider = 'met-norway'\n";
    let sensor = |rest: &str| format!("{WEATHER}[[sensor]]\nid = 'x'\n{rest}");
    let read = |rest: &str| {
        let spec = rules(&sensor(rest)).sensors.pop().unwrap();
        (spec.source.to_string(), spec.unit, spec.stale_after)
    };
    assert_eq!(
        read("weather = 'dew_point'"),
        (
            "forecast dew_point".to_owned(),
            Unit::Temperature(Scale::Celsius),
            SensorSpec::DEFAULT_STALE_FORECAST
        )
    );
    assert_eq!(
        read("weather = 'snowfall'\nwithin = '4h'\nas = 'sum'\nstale_after = '12h'"),
        (
            "forecast snowfall (sum within 4h)".to_owned(),
            Unit::Other("cm".to_owned()),
            period("12h")
        )
    );
    for (content, key) in [
        ("weather = 'hail'", "weather"),
        ("weather = 'snowfall'\nwithin = '6h'", "as"),
        ("weather = 'snowfall'\nas = 'max'", "within"),
        ("weather = 'humidity'\nwithin = '6h'\nas = 'sum'", "as"),
        ("weather = 'snowfall'\nwithin = '90m'\nas = 'max'", "within"),
        ("weather = 'snowfall'\nwithin = '25h'\nas = 'max'", "within"),
        ("weather = 'snowfall'\nwithin = '6h'\nas = 'median'", "as"),
        ("weather = 'snowfall'\nstale_after = '49h'", "stale_after"),
        ("weather = 'snowfall'\ntopic = 'snow'", "topic"),
        ("weather = 'temperature'\nunit = '°F'", "unit"),
        ("topic = 'snow'\nwithin = '6h'", "within"),
    ] {
        broken(&[(&sensor(content), &format!("sensor[3].{key}"))]);
    }
    broken(&[("[[sensor]]\nid = 'x'\nweather = 'snowfall'", "sensor[3].weather")]);
    let room = "[[group]]\nid = 'g'\noutlets = ['plug']\n[group.thermostat]\nsensor = 'x'\ntarget = 20";
    let heated = sensor(&format!("weather = 'temperature'\nstale_after = '1h'\n{room}"));
    broken(&[(&heated, "group[0].thermostat.sensor")]);
}

#[test]
fn a_forecast_needs_a_provider_and_a_place() {
    let load = |text: &str| Home::toml(text).load();
    let place = "[location]\nlatitude = 52.5\nlongitude = 13.4\n";
    let found = load(&format!("{place}[weather]\nprovider = 'nws'")).unwrap();
    let weather = found.weather.unwrap();
    assert_eq!(weather.server.as_str(), "https://api.weather.gov/");
    assert_eq!(load(place).unwrap().weather, None);
    let own = "[weather]\nprovider = 'open-meteo'\nurl = 'http://10.0.0.5:8080/meteo/'\n";
    let found = load(&format!("{place}{own}")).unwrap();
    assert_eq!(
        found.digest()["weather"],
        serde_json::json!({"provider": "open-meteo"})
    );
    assert!(!format!("{:?}", found.weather).contains("52.5"));

    let missing = load("\n[weather]\nprovider = 'nws'").unwrap_err();
    let text = missing.to_string();
    assert!(
        text.contains("weather.provider (line 3)") && text.contains("[location]"),
        "{text}"
    );
    for (weather, key) in [
        ("provider = 'accuweather'", "provider"),
        ("url = 'http://10.0.0.5:8080'", "provider"),
        ("provider = 'nws'\nurl = '10.0.0.5:8080'", "url"),
        ("provider = 'nws'\nurl = 'file:///etc/passwd'", "url"),
        ("provider = 'nws'\nurl = 'http://me:secret@10.0.0.5'", "url"),
    ] {
        let problems = load(&format!("{place}[weather]\n{weather}")).unwrap_err().0;
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, [format!("weather.{key}")], "{weather}");
    }
}

#[test]
fn a_group_has_sound_defaults() {
    let group = group("");
    assert_eq!(group.name, "g");
    assert_eq!(group.override_default, Group::OVERRIDE_DEFAULT);
    assert_eq!(group.min_cycle, Group::MIN_CYCLE);
    assert_eq!(
        (group.stagger, group.limits, group.schedules),
        (None, Limits::default(), Vec::new())
    );
    assert_eq!(group.in_vacation, InVacation::Rest);
    assert_eq!(group.on_external_change, OnExternalChange::Override);
    assert_eq!(group.on_reconnect, OnReconnect::Reconcile);
    assert_eq!(group.interlock, Interlock::Free);
    assert_eq!(group.sync_off_to_device, SyncOffToDevice::No);
}

#[test]
fn an_interlocked_group_has_several_outlets_and_no_schedules() {
    let interlocked = |outlets: &str, more: &str| {
        format!("[[group]]\nid = 'g'\noutlets = [{outlets}]\ninterlock = true\n{more}")
    };
    let rules = rules(&interlocked("'plug', 'strip/1'", ""));
    assert_eq!(rules.groups[0].interlock, Interlock::OneOn);
    let schedule = "[[group.schedule]]\nid = 's'\nall_day = true";
    for settings in [
        interlocked("'plug'", ""),
        interlocked("'plug', 'strip/1'", schedule),
    ] {
        broken(&[(&settings, "group[0].interlock")]);
    }
}

#[test]
fn every_key_of_a_group_counts() {
    let group = group(
        "name = 'G'\noverride_default = '90m'\nstagger = 2\nmin_cycle = '10s'\nrun_in_vacation = true\non_external_change = 'ignore'\n\
         on_reconnect = 'keep'\nsync_off_to_device = true\n[group.safety]\nmax_on = '2h'\ncooldown = 'none'\nmin_off = '5m'\nmax_on_per_day = '12h'",
    );
    assert_eq!(group.name, "G");
    assert_eq!(
        (group.override_default, group.stagger),
        (period("90m"), Some(period("2s")))
    );
    assert_eq!(group.min_cycle, period("10s"));
    assert_eq!(
        (group.in_vacation, group.on_external_change),
        (InVacation::Run, OnExternalChange::Ignore)
    );
    assert_eq!(group.on_reconnect, OnReconnect::Keep);
    assert_eq!(group.sync_off_to_device, SyncOffToDevice::Yes);
    let limits = Limits {
        max_on: Limit::Of(period("2h")),
        cooldown: Limit::None,
        min_off: Limit::Of(period("5m")),
        max_on_per_day: Limit::Of(period("12h")),
    };
    assert_eq!(group.limits, limits);
}

#[test]
fn outlets_of_groups_exist_and_have_one_owner() {
    let outlets = |list: &str| {
        let rules = rules(&format!("[[group]]\nid = 'g'\noutlets = [{list}]"));
        let outlets = rules.groups[0].outlets.iter().map(ToString::to_string);
        outlets.collect::<Vec<_>>()
    };
    assert_eq!(
        outlets("'plug', 'mats/left', 'mats/2', 'strip/7'"),
        ["plug", "mats/left", "mats/2", "strip/7"]
    );
    assert_eq!(
        outlets("'plug', 'mats'"),
        ["plug", "mats"],
        "a whole strip with names"
    );
    assert_eq!(
        outlets("'mats/1'"),
        ["mats/left"],
        "a position that has a name is known by it"
    );

    let group = |list: &str| format!("[[group]]\nid = 'g'\noutlets = [{list}]");
    for (list, path) in [
        ("'lamp'", "outlets[0]"),
        ("5", "outlets[0]"),
        ("'a/b/c'", "outlets[0]"),
        ("'mats', 'mats/left'", "outlets[1]"),
        ("'mats/right'", "outlets[0]"),
        ("'strip/0'", "outlets[0]"),
        ("'strip/01'", "outlets[0]"),
        ("'strip/33'", "outlets[0]"),
        ("'plug', 'plug'", "outlets[1]"),
        ("'mats/1', 'mats/left'", "outlets[1]"),
        ("'strip', 'strip/1'", "outlets[1]"),
        ("", "outlets"),
    ] {
        broken(&[(&group(list), &format!("group[0].{path}"))]);
    }
    let twice = format!(
        "{}\n[[group]]\nid = 'h'\noutlets = ['plug', 'mats/left', 'mats/2']",
        group("'plug', 'mats/1'")
    );
    let complaints = home(&twice).complaints();
    assert_eq!(
        complaints,
        [
            "group \"h\": outlets item 1 (line 36) = \"plug\": expected an outlet in one group only; it is in group \"g\" (line 31) already",
            "group \"h\": outlets item 2 (line 36) = \"mats/left\": expected an outlet in one group only; it is in group \"g\" (line 31) already",
        ]
    );
    let mistyped = home(&group("'plgu'")).complaints();
    assert!(
        mistyped[0].ends_with("one of plug, mats, strip; did you mean plug?"),
        "{mistyped:?}"
    );
}

#[test]
fn groups() {
    for (content, key) in [
        ("override_default = '25h'", "override_default"),
        ("override_default = 0", "override_default"),
        ("min_cycle = '2m'", "min_cycle"),
        ("stagger = '11m'", "stagger"),
        ("run_in_vacation = 'no'", "run_in_vacation"),
        ("on_external_change = 'fight'", "on_external_change"),
        ("on_reconnect = 'stay'", "on_reconnect"),
        ("sync_off_to_device = 'yes'", "sync_off_to_device"),
        ("interlock = 1", "interlock"),
        ("safety = 5", "safety"),
        ("[group.safety]\nmax_on = '0s'", "safety.max_on"),
        ("[group.safety]\nmax_on = '9000h'", "safety.max_on"),
        ("[group.safety]\ncooldown = 'never'", "safety.cooldown"),
        ("[group.safety]\nmax_on_per_day = '25h'", "safety.max_on_per_day"),
        ("[group.safety]\nmax = '5h'", "safety.max"),
        ("schedules = []", "schedules"),
        ("[group.schedule]\nid = 's'", "schedule"),
    ] {
        let content = format!("[[group]]\nid = 'g'\noutlets = ['plug']\n{content}");
        broken(&[(&content, &format!("group[0].{key}"))]);
    }
    let two = |second: &str| format!("[[group]]\nid = 'g'\noutlets = ['plug']\n[[group]]\n{second}");
    broken(&[
        (&two("id = 'g'\noutlets = ['strip/1']"), "group[1].id"),
        (&two("outlets = ['strip/1']"), "group[1].id"),
        (&two("id = 'h'"), "group[1].outlets"),
    ]);
}

#[test]
fn windows() {
    let clock = |text: &str| Edge::new(text.parse().unwrap(), Clamps::default(), None).unwrap();
    assert_eq!(window("all_day = true"), Window::ALL_DAY);
    assert_eq!(
        window("start = '06:00'\nend = '24:00'"),
        Window::between(clock("06:00"), clock("24:00")).unwrap()
    );
    assert_eq!(
        window("start = 06:00:00\nend = '08:00'"),
        Window::between(clock("06:00"), clock("08:00")).unwrap()
    );
    assert_eq!(
        window("start = '23:00'\nfor = '2h'"),
        Window::lasting(clock("23:00"), period("2h")).unwrap()
    );
    let start = Edge::new(
        "sunset-00:30".parse().unwrap(),
        Clamps {
            not_before: Some("16:00".parse().unwrap()),
            not_after: Some("21:00".parse().unwrap()),
        },
        Some("17:00".parse().unwrap()),
    );
    let end = Edge::new(
        "sunrise".parse().unwrap(),
        Clamps::default(),
        Some("07:00".parse().unwrap()),
    );
    assert_eq!(
        window(
            "start = 'sunset-00:30'\nstart_not_before = '16:00'\nstart_not_after = '21:00'\nfallback_start = '17:00'\n\
             end = 'sunrise'\nfallback_end = '07:00'"
        ),
        Window::between(start.unwrap(), end.unwrap()).unwrap()
    );
    broken_schedule(&[
        ("", "start"),
        ("all_day = false", "start"),
        ("all_day = true\nstart = '06:00'", "all_day"),
        ("end = '06:00'", "start"),
        ("start = '06:00'", "end"),
        ("start = '06:00'\nend = '07:00'\nfor = '1h'", "for"),
        ("start = '06:00'\nfor = '25h'", "for"),
        ("start = '06:00'\nend = '06:00'", "start"),
        ("start = '24:00'\nend = '06:00'", "start"),
        ("start = '6:0'\nend = '08:00'", "start"),
        ("start = '06:00'\nend = '25:00'", "end"),
        ("start = 06:00:30\nend = '07:00'", "start"),
        ("start = 6\nend = '07:00'", "start"),
        (
            "start = 'sunrise+03:01'\nfallback_start = '06:00'\nend = '09:00'",
            "start",
        ),
        ("start = 'noon'\nend = '09:00'", "start"),
        ("start = '06:00'\nend = 'sunrise'", "fallback_end"),
        (
            "start = '06:00'\nend = 'sunrise'\nfallback_end = 'x'",
            "fallback_end",
        ),
        (
            "start = '06:00'\nfallback_start = '07:00'\nend = '08:00'",
            "start",
        ),
        ("start = '06:00'\nend = '08:00'\nend_not_after = '07:00'", "end"),
        (
            "start = '06:00'\nend_not_after = '07:00'\nfor = '1h'",
            "end_not_after",
        ),
        (
            "start = '06:00'\nend = 'sunset'\nfallback_end = '18:00'\nend_not_before = '20:00'\nend_not_after = '19:00'",
            "end_not_before",
        ),
    ]);
}

#[test]
fn the_sun_needs_a_place() {
    let content = format!(
        "[location]\ntimezone = 'UTC'\n{DEVICES}{}",
        schedule("start = '06:00'\nend = 'sunrise'\nfallback_end = '08:00'")
    );
    assert_eq!(paths(&content), ["group[0].schedule[0].end"]);
}

#[test]
fn schedules() {
    let rules = rules(&schedule(
        "enabled = false\npriority = 'low'\ndays = ['Fri', 'saturday', 7]\nall_day = true\ncatch_up = 'skip'\n\
         safety = { max_on = '1h', cooldown = 'none' }",
    ));
    let tuned = &rules.groups[0].schedules[0];
    assert!(!tuned.enabled);
    assert_eq!((tuned.priority, tuned.catch_up), (Priority::Low, CatchUp::Skip));
    assert_eq!(tuned.days, "fri,sat,sun".parse::<Days>().unwrap());
    let changes = LimitChanges {
        max_on: Some(Limit::Of(period("1h"))),
        cooldown: Some(Limit::None),
        ..LimitChanges::default()
    };
    assert_eq!(tuned.limits, changes);

    let plain = &group("[[group.schedule]]\nid = 's'\nall_day = true").schedules[0];
    assert!(plain.enabled);
    assert_eq!(
        (plain.priority, plain.catch_up, plain.days),
        (Priority::Normal, CatchUp::Apply, Days::ALL)
    );
    assert_eq!(
        (plain.limits, plain.conditions.len()),
        (LimitChanges::default(), 0)
    );

    broken_schedule(&[
        ("all_day = true\ndays = []", "days"),
        ("all_day = true\ndays = 'mon'", "days"),
        ("all_day = true\ndays = ['mon', 'someday']", "days[1]"),
        ("all_day = true\ndays = [0]", "days[0]"),
        ("all_day = true\ndays = [true]", "days[0]"),
        ("all_day = true\npriority = 'high'", "priority"),
        ("all_day = true\nenabled = 'yes'", "enabled"),
        ("all_day = true\ncatch_up = 'maybe'", "catch_up"),
        ("all_day = true\nsafety = { max_on = 'x' }", "safety.max_on"),
        ("all_day = true\nfrom = 'x'", "from"),
        ("all_day = true\nwhen = 5", "when"),
    ]);
    let twice = schedule("all_day = true\n[[group.schedule]]\nid = 's'\nall_day = true");
    broken(&[(&twice, "group[0].schedule[1].id")]);
}

#[test]
fn conditions() {
    let number = condition(
        "{ sensor = 'outdoor', at_most = 0, hysteresis = 0.5, dwell = '5m', when_unknown = 'hold' }",
    );
    let expected = Condition {
        test: Test::Number {
            sensor: "outdoor".parse().unwrap(),
            bound: Bound::AtMost,
            limit: 0.0,
            hysteresis: 0.5,
        },
        dwell: Some(Period::new(SignedDuration::try_from(Duration::from_mins(5)).unwrap()).unwrap()),
        when_unknown: WhenUnknown::Hold,
    };
    assert_eq!(number, expected);
    let is = condition("{ sensor = 'rh', is = false }");
    let expected = Condition {
        test: Test::Is {
            sensor: "rh".parse().unwrap(),
            value: false,
        },
        dwell: None,
        when_unknown: WhenUnknown::Off,
    };
    assert_eq!(is, expected);
    let ice = "temperature = 'outdoor', dew_point = 'dew', humidity = 'rh'";
    let condition = condition(&format!("{{ black_ice = {{ {ice}, humidity_at_least = 85 }} }}"));
    let expected = BlackIce {
        temperature: "outdoor".parse().unwrap(),
        dew_point: "dew".parse().unwrap(),
        humidity: "rh".parse().unwrap(),
        thresholds: IceThresholds {
            humidity_at_least: 85.0,
            ..IceThresholds::default()
        },
    };
    assert_eq!(condition.test, Test::BlackIce(expected));

    for (when, key) in [
        ("{ at_most = 0 }", "sensor"),
        ("{ sensor = 'indoor', at_most = 0 }", "sensor"),
        ("{ sensor = 'outdoor' }", "at_most"),
        ("{ sensor = 'outdoor', at_most = '0' }", "at_most"),
        ("{ sensor = 'outdoor', at_most = inf }", "at_most"),
        ("{ sensor = 'outdoor', at_most = 0, at_least = 5 }", "at_least"),
        ("{ sensor = 'outdoor', at_most = 0, is = true }", "is"),
        ("{ sensor = 'outdoor', is = true, hysteresis = 1 }", "hysteresis"),
        (
            "{ sensor = 'outdoor', at_most = 0, hysteresis = -1 }",
            "hysteresis",
        ),
        ("{ sensor = 'outdoor', at_most = 0, dwell = '0s' }", "dwell"),
        (
            "{ sensor = 'outdoor', at_most = 0, when_unknown = 'maybe' }",
            "when_unknown",
        ),
        ("{ sensor = 'outdoor', below = 0, at_most = 0 }", "below"),
        (
            &format!("{{ sensor = 'outdoor', black_ice = {{ {ice} }} }}"),
            "sensor",
        ),
        (
            &format!("{{ black_ice = {{ {ice}, hysteresis = -1 }} }}"),
            "black_ice.hysteresis",
        ),
        (
            "{ black_ice = { temperature = 'outdoor', dew_point = 'dew' } }",
            "black_ice.humidity",
        ),
        (
            "{ black_ice = { temperature = 'outdoor', dew_point = 'dew', humidity = 'dew' } }",
            "black_ice.humidity",
        ),
        (
            "{ black_ice = { temperature = 'rh', dew_point = 'dew', humidity = 'rh' } }",
            "black_ice.temperature",
        ),
    ] {
        broken_schedule(&[(
            &format!("all_day = true\nwhen = [{when}]"),
            &format!("when[0].{key}"),
        )]);
    }
}

#[test]
fn a_mistake_neither_causes_nor_hides_another() {
    let content = format!(
        "{PLACE}[[device]]\nid = 'plug'\naddress = ''\n[[sensor]]\nid = 'rh'\n{}",
        schedule(
            "all_day = true\nwhen = [{ sensor = 'rh', at_least = 60 }, { sensor = 'hr', at_least = 60 }]\n\
             [[group]]\nid = 'h'\noutlets = ['plug2']"
        )
    );
    assert_eq!(
        paths(&content),
        [
            "device[0].address",
            "sensor[0].topic",
            "group[0].schedule[0].when[1].sensor",
            "group[1].outlets[0]",
        ]
    );
    let nothing = Home::toml("[[group]]\nid = 'g'\noutlets = ['plug']").complaints();
    assert_eq!(
        nothing,
        [
            "group \"g\": outlets item 1 (line 3) = \"plug\": expected the id of a device added by bridge/request/device/add, or of a [[device]], of which there is none"
        ]
    );
}

#[test]
fn the_digest_names_groups_but_no_place() {
    let digest = home(&schedule("all_day = true")).load().unwrap().digest();
    assert_eq!(digest["groups"][0]["schedules"][0], "s");
    assert_eq!(digest["groups"][0]["outlets"][0], "plug");
    assert_eq!(digest["timezone"], "America/New_York");
    assert!(!digest.to_string().contains("40.7"), "{digest}");
}

#[test]
fn a_sensor_topic_is_outside_the_topics_of_the_bridge() {
    let problems = |mqtt: &str, topic: &str| {
        paths(&format!(
            "{mqtt}\n[[sensor]]\nid = 'outdoor'\ntopic = '{topic}'\n"
        ))
    };
    let base = "[mqtt]\nbase_topic = 'home/tapo'";
    for ours in [
        "home/tapo",
        "home/tapo/heater",
        "home/tapo/group/mats/set",
        "homeassistant/status",
        "homeassistant/device/tapo2mqtt_heater/config",
    ] {
        assert_eq!(problems(base, ours), ["sensor[0].topic"], "{ours}");
    }
    for others in [
        "home/tapobridge",
        "tapo2mqtt/heater",
        "homeassistant/sensor/outdoor/state",
    ] {
        assert_eq!(problems(base, others), Vec::<String>::new(), "{others}");
    }
}

#[test]
fn without_a_broker_there_is_no_topic_to_read() {
    let problems = |mqtt: &str| {
        paths(&format!(
            "{mqtt}\n[[sensor]]\nid = 'outdoor'\ntopic = 'garden/t'\n"
        ))
    };
    assert_eq!(problems("[mqtt]\nenabled = false"), ["sensor[0].topic"]);
    assert_eq!(problems("[mqtt]\nenabled = true"), Vec::<String>::new());
    // A mistake of the section is the only one that is reported.
    assert_eq!(problems("[mqtt]\nenabled = 3"), ["mqtt.enabled"]);
}

#[test]
fn energy_rules_of_a_group() {
    assert!(group("").energy.is_empty());
    let all = "energy = { daily_budget = '4 kWh', power_limit = { max = '3.5 kW', resume_below = '3 kW', min_off = '2m' }, \
               finished = { below = '5 W', for = '3m', off = true }, standby = { below = '3 W', for = '10m' } }";
    let watts = MilliWatts::from_watts;
    let expected = EnergyRules {
        daily_budget: Some(MilliWattHours::from_kilowatt_hours(4.0)),
        power_limit: Some(PowerLimit {
            max: watts(3500),
            resume_below: watts(3000),
            min_off: period("2m"),
        }),
        finished: Some(Finished {
            below: watts(5),
            length: period("3m"),
            then: IfFinished::Off,
        }),
        standby: Some(Standby {
            below: watts(3),
            length: period("10m"),
        }),
    };
    assert_eq!(group(all).energy, expected);
    let power_limit = group("energy = { power_limit = { max = '2 kW' } }")
        .energy
        .power_limit;
    let default = PowerLimit {
        max: watts(2000),
        resume_below: watts(1800),
        min_off: period("1m"),
    };
    assert_eq!(power_limit, Some(default));
    let finished = group("energy = { finished = { below = '5 W', for = '3m' } }")
        .energy
        .finished;
    assert_eq!(finished.map(|finished| finished.then), Some(IfFinished::Report));
}

#[test]
fn energy_rules_that_cannot_be() {
    for (rule, path) in [
        ("daily_budget = 4", "daily_budget"),
        ("daily_budget = '4 kW'", "daily_budget"),
        ("daily_budget = '0.5 Wh'", "daily_budget"),
        ("daily_budget = '2001 kWh'", "daily_budget"),
        ("budgte = '4 kWh'", "budgte"),
        ("power_limit = '3 kW'", "power_limit"),
        ("power_limit = {}", "power_limit.max"),
        ("power_limit = { max = '101 kW' }", "power_limit.max"),
        (
            "power_limit = { max = '2 kW', resume_below = '2001 W' }",
            "power_limit.resume_below",
        ),
        (
            "power_limit = { max = '2 kW', min_off = '0s' }",
            "power_limit.min_off",
        ),
        (
            "power_limit = { max = '2 kW', min_off = '25h' }",
            "power_limit.min_off",
        ),
        (
            "power_limit = { max = '2 kW', break = '1m' }",
            "power_limit.break",
        ),
        ("finished = { for = '3m' }", "finished.below"),
        ("finished = { below = '5 W' }", "finished.for"),
        ("finished = { below = '4001 W', for = '3m' }", "finished.below"),
        (
            "finished = { below = '5 W', for = '3m', off = 'yes' }",
            "finished.off",
        ),
        ("standby = { below = '0 W', for = '3m' }", "standby.below"),
        ("standby = { below = '3 W', for = '0s' }", "standby.for"),
        (
            "standby = { below = '3 W', for = '3m', off = true }",
            "standby.off",
        ),
    ] {
        let content = format!("[[group]]\nid = 'g'\noutlets = ['plug']\nenergy = {{ {rule} }}");
        broken(&[(&content, &format!("group[0].energy.{path}"))]);
    }
    let several = "[[group]]\nid = 'g'\noutlets = ['plug']\nenergy = { daily_budget = 1, standby = { below = 1, for = 'x' } }";
    let Err(problems) = home(several).load() else {
        panic!("it loads")
    };
    assert_eq!(problems.0.len(), 3, "all at once: {problems}");
}

#[test]
fn a_definition_is_the_schedule() {
    let mut texts = vec![super::documentation::uncommented(&["password_file", "hosts"])];
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
    let mut seen = 0;
    for text in texts {
        let home = super::documentation::documented(&text);
        let rules = home.load().unwrap_or_else(|problems| panic!("{problems}")).rules;
        let of_groups = rules.groups.iter();
        let schedules = of_groups.flat_map(|group| group.schedules.iter().map(move |found| (group, found)));
        for (group, schedule) in schedules {
            let definition = schedule_definition(schedule);
            let read = parse_schedule(
                &definition,
                &rules.sensors,
                &rules.location,
                group.thermostat.as_ref(),
            );
            assert_eq!(read.as_ref(), Ok(schedule), "{definition:#}");
            seen += 1;
        }
    }
    assert!(seen > 5);
}

#[test]
fn workdays_and_holidays_need_a_calendar_that_can_be_read() {
    let with = |calendar: &str, days: &str| {
        let group = format!(
            "[[group]]\nid = 'g'\noutlets = ['plug']\n[[group.schedule]]\nid = 's'\ndays = [{days}]\nall_day = true"
        );
        let sensors = "[[sensor]]\nid = 'workday'\ntopic = 'home/workday'";
        home(&format!("[calendar]\n{calendar}\n{sensors}\n{group}"))
            .with_file("holidays.ics", super::documentation::HOLIDAYS)
    };
    for (calendar, days) in [
        ("", "'workday'"),
        ("", "'weekend', 'mon'"),
        ("file = 'holidays.ics'", "'holiday'"),
        ("sensor = 'workday'", "'sat', 'holiday'"),
        (
            "weekend = ['fri', 'sat']\nsensor = 'workday'\nfile = 'holidays.ics'",
            "'holiday'",
        ),
    ] {
        let loaded = with(calendar, days).load();
        let rules = loaded
            .unwrap_or_else(|problems| panic!("{calendar}: {problems}"))
            .rules;
        let new_year = jiff::civil::date(2026, 1, 1);
        assert_eq!(
            rules.location.holidays.on(new_year).is_some(),
            calendar.contains("file")
        );
    }
    let complaint = |calendar: &str, days: &str| with(calendar, days).complaints().join("; ");
    assert!(complaint("", "'holiday'").contains("a file, url or sensor in [calendar]"));
    assert!(complaint("sensor = 'nothing'", "'holiday'").contains("calendar.sensor"));
    assert!(complaint("file = 'none.ics'", "'holiday'").contains("a file that exists"));
    assert!(complaint("weekend = ['holiday']", "'mon'").contains("calendar.weekend"));
    let broken =
        |content: &str| with("file = 'holidays.ics'", "'holiday'").with_file("holidays.ics", content);
    // Before the first answer of a server nothing is known, which is no mistake.
    for url in [
        "https://example.org/h.ics",
        "webcal://example.org/h.ics?key=secret",
    ] {
        let loaded = with(&format!("url = '{url}'"), "'holiday'").load().unwrap();
        assert!(!format!("{:?}", loaded.calendar).contains("h.ics"));
        assert!(
            !loaded
                .rules
                .location
                .holidays
                .covers(jiff::civil::date(2026, 1, 1))
        );
    }
    for url in ["h.ics", "ftp://example.org/h.ics", "https://", "https:///h.ics"] {
        let complaint = complaint(&format!("url = '{url}'"), "'holiday'");
        assert!(complaint.contains("calendar.url"), "{url}: {complaint}");
        assert!(!complaint.contains("h.ics\""), "it may be a secret: {complaint}");
    }
    let directory = complaint("file = '.'", "'holiday'");
    assert!(directory.contains("is a directory"), "{directory}");
    let missing = complaint("sensor = 1", "'holiday'");
    assert!(
        missing.contains("the id of a [[sensor]], one of outdoor, dew, rh, workday"),
        "{missing}"
    );
    let html = broken("<html>").complaints().join("; ");
    assert!(
        html.contains("calendar.file") && html.contains("not an iCalendar file"),
        "{html}"
    );
    let weekly = super::documentation::HOLIDAYS.replace("END:VEVENT", "RRULE:FREQ=WEEKLY\nEND:VEVENT");
    let weekly = broken(&weekly).complaints().join("; ");
    assert!(
        weekly.contains("RRULE \"FREQ=WEEKLY\" is not supported"),
        "{weekly}"
    );
}

#[test]
fn an_edge_may_stray_and_a_definition_keeps_it() {
    let text =
        "start = 'sunset-00:30+-20m'\nfallback_start = '17:00'\nend = '22:30±10m'\ndays = ['sat', 'workday']";
    let content = format!("[[group]]\nid = 'g'\noutlets = ['plug']\n[[group.schedule]]\nid = 's'\n{text}");
    let rules = home(&content)
        .load()
        .unwrap_or_else(|problems| panic!("{problems}"))
        .rules;
    let schedule = &rules.groups[0].schedules[0];
    let definition = schedule_definition(schedule);
    assert_eq!(
        (&definition["start"], &definition["end"], &definition["days"]),
        (
            &json!("sunset-00:30±20m"),
            &json!("22:30±10m"),
            &json!(["sat", "workday"])
        )
    );
    assert_eq!(
        parse_schedule(&definition, &[], &rules.location, None).as_ref(),
        Ok(schedule)
    );
    for bad in ["22:30±4h", "22:30±30s", "22:30±"] {
        let content = content.replace("22:30±10m", bad);
        let complaint = home(&content).complaints().join("; ");
        assert!(complaint.contains("stray"), "{bad}: {complaint}");
    }
}

const ROOM: &str = "[[sensor]]\nid = 'room'\ntopic = 'home/room'\nunit = '°C'\nstale_after = '10m'\n\
                    [[sensor]]\nid = 'hall'\ntopic = 'home/hall'\nunit = '°F'\nstale_after = '10m'\n\
                    [[sensor]]\nid = 'slow'\ntopic = 'home/slow'\nunit = '°C'\n\
                    [[sensor]]\nid = 'damp'\ntopic = 'home/damp'\nunit = '%'\nstale_after = '10m'\n";

fn heated(group: &str, thermostat: &str, rest: &str) -> String {
    let group = format!("[[group]]\nid = 'g'\noutlets = ['plug']\n{group}\n");
    format!("{ROOM}{group}[group.thermostat]\n{thermostat}\n{rest}")
}

#[test]
fn a_thermostat_of_a_group() {
    let of = |text: &str| rules(text).groups.remove(0);
    let group = of(&heated("", "sensor = 'room'\ntarget = 20", ""));
    let thermostat = group.thermostat.clone().unwrap();
    assert!(group.is_scheduled());
    assert_eq!(thermostat.target.to_string(), "20 °C");
    assert_eq!(thermostat.frost.to_string(), "5 °C");
    assert_eq!(
        (thermostat.min_on, thermostat.min_off),
        (period("2m"), period("2m"))
    );
    assert!((thermostat.hysteresis - 0.5).abs() < 1e-9 && thermostat.setback.is_none());
    let all = "sensor = 'hall'\ntarget = 70\nhysteresis = 1.8\nmin_on = '5m'\nmin_off = '3m'\nsetback = 60.5\n\
               frost = 45\nwhen_unknown = 'duty 20%'";
    let schedules = "[[group.schedule]]\nid = 's'\nall_day = true\ntarget = 72";
    let group = of(&heated("", all, schedules));
    let thermostat = group.thermostat.clone().unwrap();
    assert_eq!(thermostat.setback.unwrap().to_string(), "60.5 °F");
    assert_eq!(thermostat.frost.to_string(), "45 °F");
    assert!((thermostat.hysteresis - 1.0).abs() < 1e-9);
    assert_eq!(group.schedules[0].target.unwrap().to_string(), "72 °F");
    let definition = schedule_definition(&group.schedules[0]);
    assert_eq!(definition["target"], 72.0);
}

#[test]
fn a_thermostat_that_cannot_be() {
    let sound = "sensor = 'room'\ntarget = 20\nsetback = 16";
    let with = |rest: &str| heated("", &format!("{sound}\n{rest}"), "");
    let schedule = |rest: &str| {
        let schedule = format!("[[group.schedule]]\nid = 's'\nall_day = true\n{rest}");
        heated("", sound, &schedule)
    };
    let cases = [
        (heated("", "target = 20", ""), "group[0].thermostat.sensor"),
        (heated("", "sensor = 'room'", ""), "group[0].thermostat.target"),
        (
            heated("", "sensor = 'damp'\ntarget = 20", ""),
            "group[0].thermostat.sensor",
        ),
        (
            heated("", "sensor = 'slow'\ntarget = 20", ""),
            "group[0].thermostat.sensor",
        ),
        (
            heated("", "sensor = 'nothing'\ntarget = 20", ""),
            "group[0].thermostat.sensor",
        ),
        (
            heated("", "sensor = 'room'\ntarget = 36", ""),
            "group[0].thermostat.target",
        ),
        (
            heated("", "sensor = 'hall'\ntarget = 21", ""),
            "group[0].thermostat.target",
        ),
        (
            heated("", "sensor = 'room'\ntarget = 20\nsetback = 21", ""),
            "group[0].thermostat.setback",
        ),
        (
            heated("", "sensor = 'room'\ntarget = 8\nfrost = 9", ""),
            "group[0].thermostat.frost",
        ),
        (with("frost = 20"), "group[0].thermostat.frost"),
        (with("hysteresis = 0"), "group[0].thermostat.hysteresis"),
        (with("min_on = '16m'"), "group[0].thermostat.min_on"),
        (
            with("when_unknown = 'duty 60%'"),
            "group[0].thermostat.when_unknown",
        ),
        (with("when_unknown = 'hold'"), "group[0].thermostat.when_unknown"),
        (heated("interlock = true", sound, ""), "group[0].interlock"),
        (
            heated("sync_off_to_device = true", sound, ""),
            "group[0].sync_off_to_device",
        ),
        (
            heated("on_external_change = 'ignore'", sound, ""),
            "group[0].on_external_change",
        ),
        (
            heated("on_reconnect = 'keep'", sound, ""),
            "group[0].on_reconnect",
        ),
        (schedule("target = 40"), "group[0].schedule[0].target"),
        (schedule("target = 15"), "group[0].schedule[0].target"),
        (schedule("catch_up = 'skip'"), "group[0].schedule[0].catch_up"),
        (
            format!("{}target = 20", self::schedule("all_day = true\n")),
            "group[0].schedule[0].target",
        ),
    ];
    for (text, path) in &cases {
        broken(&[(text.as_str(), path)]);
    }
    let complaint = |text: &str| home(text).complaints().join("; ");
    let without_sensor = complaint(&heated("", "target = 20", ""));
    let expected =
        "missing; expected the id of a [[sensor]], one of outdoor, dew, rh, room, hall, slow, damp";
    assert!(without_sensor.contains(expected), "{without_sensor}");
    // Whatever else is wrong with it.
    let schedule = "[[group.schedule]]\nid = 's'\nall_day = true";
    for (thermostat, rest) in [(sound, ""), (sound, schedule), ("target = 20", schedule)] {
        let interlocked = complaint(&heated("interlock = true", thermostat, rest));
        let expected = "no interlock beside [group.thermostat]";
        assert!(interlocked.contains(expected), "{interlocked}");
    }
}
