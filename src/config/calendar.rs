//! `[calendar]`: which days are holidays, and which are the weekend.

use std::{path::Path, sync::Arc};

use jiff::civil::Weekday;
use reqwest::Url;

use super::{
    credentials::Files,
    parse,
    reader::{Expected, Leaf, Read, Table},
    register::IdIndex,
    sensor::{Need, sensor_id},
};
use crate::{
    calendar::{CalendarFile, CalendarSources, CalendarUrl},
    domain::one_line::one_line,
};
use planner::{
    days::Days,
    holidays::{Holidays, WorkdaysHeard},
    sensor::SensorSpec,
};

/// What `[calendar]` says.
#[derive(Debug)]
pub(super) struct Calendar {
    pub(super) holidays: Holidays,
    pub(super) sources: CalendarSources,
}

/// Where files are.
#[derive(Debug, Clone, Copy)]
pub(super) struct CalendarPlaces<'a> {
    pub(super) files: Files<'a>,
    /// The state file and the base topic, where they could be read: a copy is kept there.
    pub(super) state: Option<(&'a Path, &'a str)>,
}

/// Reads the root's `[calendar]`, the file that it names, and the copy of what its address names.
pub(super) fn read(
    root: &mut Table<'_>,
    places: CalendarPlaces<'_>,
    sensors: &IdIndex<SensorSpec>,
) -> Read<Calendar> {
    root.section("calendar", |table| {
        let file = table.optional("file", |leaf| places.files.existing(leaf));
        let url = table.optional_secret("url", url);
        let sensor = table.optional("sensor", sensor_id(sensors, Need::Any));
        let weekend = table.values("weekend", weekday);
        let url = url?.zip(places.state);
        let sources = CalendarSources {
            file: file?.map(CalendarFile),
            url: url.map(|(url, (state_file, topic))| CalendarUrl::new(url, state_file, topic)),
        };
        let mut holidays = Holidays::default();
        let read = sources.read().map_err(|error| {
            table.problem("file", format!("an iCalendar file with all-day events ({error})"))
        })?;
        if let Some(read) = read {
            if !read.left_out.is_empty() && sources.file.is_some() {
                let left_out: Vec<String> = read.left_out.iter().map(ToString::to_string).collect();
                return Err(table.invalid("file", one_line(&left_out)));
            }
            holidays = holidays.with_dates(Arc::new(read.dates));
        }
        if let Some(sensor) = sensor? {
            holidays = holidays.with_sensor(sensor, WorkdaysHeard::new());
        }
        if let Some(weekend) = weekend? {
            holidays = holidays.with_weekend(weekend);
        }
        Ok(Calendar { holidays, sources })
    })
}

fn url(leaf: &Leaf<'_>) -> Result<Url, Expected> {
    // Calendar programs show addresses in this form; it is the same with https.
    let text = leaf.text().map(|text| match text.strip_prefix("webcal://") {
        Some(rest) => format!("https://{rest}"),
        None => text.to_owned(),
    });
    text.and_then(|text| parse::web_address(&text)).ok_or_else(|| {
        "the address of an iCalendar file, such as \"https://example.org/holidays.ics\"".to_owned()
    })
}

fn weekday(leaf: &Leaf<'_>) -> Result<Weekday, Expected> {
    let day = leaf.text().and_then(Days::weekday);
    day.ok_or_else(|| "one of mon, tue, wed, thu, fri, sat, sun".to_owned())
}
