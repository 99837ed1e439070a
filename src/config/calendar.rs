//! `[calendar]`: which days are holidays, and which are the weekend.

use std::sync::Arc;

use jiff::civil::Weekday;

use super::{
    credentials::Files,
    reader::{Expected, Leaf, Read, Table},
    register::IdIndex,
    sensor::{Need, sensor_id},
};
use crate::calendar::CalendarFile;
use planner::{
    days::Days,
    holidays::{Holidays, WorkdaysHeard},
    sensor::SensorSpec,
};

/// What `[calendar]` says.
#[derive(Debug)]
pub(super) struct Calendar {
    pub(super) holidays: Holidays,
    pub(super) file: Option<CalendarFile>,
}

/// Reads the root's `[calendar]`, and the file that it names.
pub(super) fn read(root: &mut Table<'_>, files: Files<'_>, sensors: &IdIndex<SensorSpec>) -> Read<Calendar> {
    root.section("calendar", |table| {
        let file = table.optional("file", |leaf| files.existing(leaf));
        let sensor = table.optional("sensor", sensor_id(sensors, Need::Any));
        let weekend = table.values("weekend", weekday);
        let file = file?.map(CalendarFile);
        let mut holidays = Holidays::default();
        if let Some(file) = &file {
            let read = file.read().map_err(|error| {
                table.problem("file", format!("an iCalendar file with all-day events ({error})"))
            })?;
            if !read.left_out.is_empty() {
                let left_out: Vec<String> = read.left_out.iter().map(ToString::to_string).collect();
                return Err(table.invalid("file", left_out.join("; ")));
            }
            holidays = holidays.with_dates(Arc::new(read.dates));
        }
        if let Some(sensor) = sensor? {
            holidays = holidays.with_sensor(sensor, WorkdaysHeard::new());
        }
        if let Some(weekend) = weekend? {
            holidays = holidays.with_weekend(weekend);
        }
        Ok(Calendar { holidays, file })
    })
}

fn weekday(leaf: &Leaf<'_>) -> Result<Weekday, Expected> {
    let day = leaf.text().and_then(Days::weekday);
    day.ok_or_else(|| "one of mon, tue, wed, thu, fri, sat, sun".to_owned())
}
