//! The planner alone: a thousand groups of ten schedules each.

use std::time::Instant;

use jiff::ToSpan as _;
use planner::{
    forecast::{Timers, forecast},
    plan::plan,
};
use tapo2mqtt_gate::planning::Planning;

use crate::figures::{Book, millis};

const SECTION: &str = "Planner";
const GROUPS: usize = 1000;

pub fn measure(book: &mut Book) {
    let planning = Planning::of(GROUPS).expect("the settings are good");
    let inputs = planning.inputs();
    let started = Instant::now();
    let planned = plan(&inputs);
    let all = millis(started.elapsed());
    assert_eq!(planned.groups.len(), GROUPS);
    book.note(SECTION, "1000 groups × 10 schedules planned anew", "ms", all);
    book.note(SECTION, "one group", "µs", all * 1e3 / GROUPS as f64);
    let group = &inputs.rules.groups.first().expect("a group").id;
    let horizon = inputs
        .now
        .wall
        .saturating_add((7 * 24).hours())
        .expect("in range");
    let started = Instant::now();
    let changes = forecast(&inputs, group, &Timers::new(), horizon);
    let ahead = millis(started.elapsed());
    book.note(SECTION, "one group: a week ahead", "ms", ahead);
    let changes = changes.len() as f64;
    book.note(SECTION, "one group: changes in that week", "", changes);
}
