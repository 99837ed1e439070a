//! The planner alone: a thousand groups of ten schedules each.

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use jiff::{Timestamp, ToSpan as _};
use tapo2mqtt::{
    config::{Settings, Sources, load},
    scheduler::{
        activity::Conditions,
        energy::Rations,
        forecast::forecast,
        interlock::Holders,
        overrides::Overrides,
        planner::{Inputs, Memory, Vacation, plan},
        readings::Readings,
        safety::Safety,
    },
};

use crate::figures::{Book, millis};

const SECTION: &str = "6 Planner";
const GROUPS: usize = 1000;
const SCHEDULES: usize = 10;

pub fn measure(book: &mut Book) {
    let settings = settings();
    let now: Timestamp = "2026-03-28T23:30:00Z".parse().expect("an instant");
    let (overrides, safety, rations) = (Overrides::default(), Safety::default(), Rations::default());
    let (readings, memory, observed) = (Readings::default(), Memory::default(), BTreeMap::new());
    let holders = Holders::default();
    let inputs = Inputs {
        rules: &settings.rules,
        overrides: &overrides,
        vacation: Vacation::Off,
        safety: &safety,
        rations: &rations,
        readings: &readings,
        memory: &memory,
        observed: &observed,
        holders: &holders,
        conditions: Conditions::Asked,
        booted_at: now,
        listening_since: now,
        now,
    };
    let started = Instant::now();
    let planned = plan(&inputs);
    let all = millis(started.elapsed());
    assert_eq!(planned.groups.len(), GROUPS);
    book.note(SECTION, "1000 groups × 10 schedules planned anew", "ms", all);
    book.note(SECTION, "one group", "µs", all * 1e3 / GROUPS as f64);
    let group = &settings.rules.groups.first().expect("a group").id;
    let started = Instant::now();
    let changes = forecast(
        &inputs,
        group,
        now.saturating_add((7 * 24).hours()).expect("in range"),
    );
    book.note(
        SECTION,
        "one group: a week ahead",
        "ms",
        millis(started.elapsed()),
    );
    book.note(
        SECTION,
        "one group: changes in that week",
        "",
        changes.len() as f64,
    );
}

fn settings() -> Settings {
    let mut text = String::from(
        "[mqtt]\nhost = \"127.0.0.1\"\n[tapo]\nusername = \"a@example.com\"\npassword = \"b\"\n[location]\nlatitude = 51.5\nlongitude = 0.0\ntimezone = \"Europe/London\"\n",
    );
    for group in 0..GROUPS {
        let port = 1000 + group;
        let _ = write!(
            text,
            "[[device]]\nid = \"d{group}\"\naddress = \"127.0.0.1:{port}\"\n"
        );
    }
    for group in 0..GROUPS {
        let _ = write!(
            text,
            "[[group]]\nid = \"g{group}\"\nname = \"G\"\noutlets = [\"d{group}\"]\n"
        );
        for schedule in 0..SCHEDULES {
            let start = match schedule % 3 {
                0 => "start = \"sunset-00:30\"\nfallback_start = \"17:00\"".to_owned(),
                _ => format!("start = \"{:02}:{:02}\"", schedule * 2, group % 60),
            };
            let _ = write!(
                text,
                "[[group.schedule]]\nid = \"s{schedule}\"\n{start}\nfor = \"1h\"\n"
            );
        }
    }
    let file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .expect("a file");
    std::fs::write(file.path(), text).expect("the settings are written");
    match load(&Sources::from_process(Some(file.path().to_owned()))) {
        Ok(settings) => settings,
        Err(problems) => panic!("{problems}"),
    }
}
