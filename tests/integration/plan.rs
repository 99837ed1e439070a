//! `plan` over a change of the clocks, against times that were computed without the program: NOAA's equations
//! for the sun, the zone's own rules, and intervals in real time. They stand in `plan/*.txt`.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Two computations of the sun agree within this.
const SUN: SignedDuration = SignedDuration::from_mins(2);

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("config/examples")
        .join(name)
}

fn run(config: &PathBuf, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapo2mqtt"));
    command.env_clear().arg("plan").arg("--config").arg(config);
    command.args(arguments).output().unwrap()
}

fn fortnight(config: &PathBuf, from: &str) -> Value {
    let output = run(config, &["--days", "14", "--at", from, "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every change of a group, in order, is the one of the list.
#[track_caller]
fn compare(plan: &Value, group: &str, by_hand: &str) {
    let groups = plan["groups"].as_array().unwrap();
    let found = groups.iter().find(|found| found["group"] == group).unwrap();
    let changes = found["changes"].as_array().unwrap();
    let expected: Vec<&str> = by_hand.lines().filter(|line| !line.starts_with('#')).collect();
    for (change, line) in changes.iter().zip(&expected) {
        let words: Vec<&str> = line.split(' ').collect();
        let at = change["at"].as_str().unwrap();
        let (planned, wanted): (Timestamp, Timestamp) = (at.parse().unwrap(), words[0].parse().unwrap());
        let slack = if words.contains(&"about") {
            SUN
        } else {
            SignedDuration::ZERO
        };
        assert!(planned.duration_since(wanted).abs() <= slack, "{line}: {change}");
        assert_eq!(at[19..], words[0][19..], "the offset of the place: {line}");
        assert_eq!(change["state"], words[1], "{line}: {change}");
        let by_limit = words[2] == "limit";
        assert_eq!(change["source"] == "safety", by_limit, "{line}: {change}");
        if words[1] == "ON" {
            assert_eq!(change["rule"], words[2], "{line}: {change}");
        }
        assert!(!change["reason"].as_str().unwrap().is_empty(), "{change}");
    }
    assert_eq!(changes.len(), expected.len(), "{group}");
}

#[test]
fn plan_is_what_is_computed_by_hand_in_berlin() {
    let plan = fortnight(&example("christmas-lights.toml"), "2026-10-19T00:00:00+02:00");
    assert_eq!(plan["until"], "2026-11-02T00:00:00+01:00", "calendar days");
    compare(&plan, "lights", include_str!("plan/christmas-lights.txt"));
}

#[test]
fn plan_is_what_is_computed_by_hand_in_sydney() {
    let plan = fortnight(&example("dehumidifier.yaml"), "2027-03-28T13:00:00Z");
    assert_eq!(plan["from"], "2027-03-29T00:00:00+11:00");
    compare(&plan, "cellar", include_str!("plan/dehumidifier.txt"));
}

#[test]
fn plan_is_what_is_computed_by_hand_in_london() {
    let plan = fortnight(&example("aquarium.toml"), "2027-03-22T00:00:00+00:00");
    compare(&plan, "light", include_str!("plan/aquarium-light.txt"));
    compare(&plan, "heater", include_str!("plan/aquarium-heater.txt"));
}

#[test]
fn plan_is_what_is_computed_by_hand_in_new_york() {
    let from = "2027-03-08T00:00:00-05:00";
    let mats = example("heated-mats.toml");
    compare(
        &fortnight(&mats, from),
        "driveway",
        include_str!("plan/heated-mats.txt"),
    );
    let settings = std::fs::read_to_string(mats).unwrap();
    let without_ice = settings.replace("id = \"black-ice\"", "id = \"black-ice\"\nenabled = false");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mats.toml");
    std::fs::write(&file, without_ice).unwrap();
    compare(
        &fortnight(&file, from),
        "driveway",
        include_str!("plan/heated-mats-morning.txt"),
    );
}

#[test]
fn plan_foresees_holidays_as_computed_by_hand() {
    let plan = fortnight(&example("bathroom.toml"), "2026-12-21T00:00:00+01:00");
    compare(&plan, "bathroom", include_str!("plan/bathroom.txt"));
    let changes = plan["groups"][0]["changes"].as_array().unwrap();
    let christmas = changes
        .iter()
        .find(|change| change["at"] == "2026-12-25T08:00:00+01:00");
    let reason = christmas.unwrap()["reason"].as_str().unwrap();
    assert_eq!(reason, "schedule days-off until 10:00 (holiday: Christmas Day)");
}

#[test]
fn plan_shows_where_each_evening_strays_to() {
    let plan = fortnight(&example("presence.toml"), "2026-11-30T00:00:00+01:00");
    compare(&plan, "bedroom", include_str!("plan/presence-bedroom.txt"));
    let living_room = plan["groups"][0]["changes"].as_array().unwrap();
    let starts = living_room.iter().filter(|change| change["state"] == "ON");
    let starts: std::collections::BTreeSet<&str> =
        starts.map(|on| &on["at"].as_str().unwrap()[11..16]).collect();
    // The sun sets between 15:52 and 15:56 in that fortnight, by NOAA's equations.
    let (first, last) = (starts.first().unwrap(), starts.last().unwrap());
    assert!(*first >= "15:30" && *last <= "16:18", "{starts:?}");
    assert!(starts.len() > 8, "{starts:?}");
}

/// The first lines that `plan` prints for a group of an example.
fn printed(name: &str, group: &str) -> Vec<String> {
    let at = ["--days", "1", "--at", "2026-12-01T00:00:00+01:00"];
    let text = String::from_utf8(run(&example(name), &at).stdout).unwrap();
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with(&format!("{group} (")));
    let lines = lines.skip(1).take_while(|line| !line.is_empty()).take(3);
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn plan_says_what_a_recipe_does_and_by_which_rule() {
    for (name, group, expected) in [
        (
            "frost-guard.toml",
            "shed",
            "now                        5°     target 5 °C",
        ),
        (
            "incubator.toml",
            "incubator",
            "now                        ON   schedule hold until Wed 00:00, if eggs <= 37.3 °C\n\
             2026-12-01T00:15:00+01:00  OFF  maximum on-time 15m reached, then cooldown 1m\n\
             2026-12-01T00:16:00+01:00  ON   schedule hold until Wed 00:00, if eggs <= 37.3 °C",
        ),
        (
            "driveway.toml",
            "driveway",
            "now                        ON   schedule snow until Wed 00:00, if snow >= 0.5 cm, air <= 2 °C\n\
             2026-12-01T12:00:00+01:00  OFF  maximum on-time 12h reached, then cooldown 1h\n\
             2026-12-01T13:00:00+01:00  ON   schedule snow until Wed 00:00, if snow >= 0.5 cm, air <= 2 °C",
        ),
        (
            "coffee.toml",
            "coffee",
            "now                        OFF  next: workdays, 06:15\n\
             2026-12-01T06:15:00+01:00  ON   schedule workdays until 07:00 (workday by its weekday)\n\
             2026-12-01T07:00:00+01:00  OFF  next: workdays, Wed 06:15",
        ),
    ] {
        assert_eq!(printed(name, group).join("\n"), expected, "{name}");
    }
}

#[test]
fn plan_is_readable() {
    let at = ["--days", "1", "--at", "2026-10-23T00:00:00+02:00"];
    let output = run(&example("christmas-lights.toml"), &at);
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |start: &str| text.lines().any(|line| line.starts_with(start));
    assert!(
        line("2026-10-23T00:00:00+02:00 to 2026-10-24T00:00:00+02:00 (Europe/Berlin)"),
        "{text}"
    );
    assert!(line("lights (Christmas lights)"), "{text}");
    assert!(line("  now                        OFF  "), "{text}");
    assert!(line("  2026-10-23T06:30:00+02:00  ON   "), "{text}");

    let output = run(&example("plug.toml"), &[]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("No group"));
    for wrong in [["--at", "tomorrow"], ["--days", "0"]] {
        assert!(!run(&example("plug.toml"), &wrong).status.success());
    }
}
