//! The windows of a group taken together: when one of its enabled schedules opens, and when the last closes.

use jiff::{SignedDuration, Timestamp};

use crate::{
    days::Days, jitter::JitterSeed, known_edges::EdgeKind, location::Location, occurrence::Occurrence,
    period::after, rules::Group, window::Window,
};

/// How far an edge is looked for: first where it mostly is, then as far as any set of days recurs.
const HORIZONS: [SignedDuration; 2] = [SignedDuration::from_hours(24), SignedDuration::from_hours(8 * 24)];

/// All of a group that its edges follow from.
fn windows(group: &Group) -> impl Iterator<Item = (Days, Window, Option<JitterSeed>)> {
    let enabled = group.schedules.iter().filter(|schedule| schedule.enabled);
    enabled.map(|schedule| {
        let strays = schedule.window.has_jitter();
        let seed = strays.then(|| JitterSeed::of(&group.id, &schedule.id));
        (schedule.days, schedule.window, seed)
    })
}

/// The first instant after `now` at which the last open window closes.
pub fn next_closing(group: &Group, location: &Location, now: Timestamp) -> Option<Timestamp> {
    let find = || find_closing(group, location, now);
    group
        .edges
        .get(EdgeKind::Closing, || windows(group), location, now, find)
}

fn find_closing(group: &Group, location: &Location, now: Timestamp) -> Option<Timestamp> {
    HORIZONS.into_iter().find_map(|ahead| {
        let horizon = after(now, ahead);
        open_spans(group, location, now, horizon)
            .first()
            .map(|span| span.end)
            // What ends there may go on behind it.
            .filter(|end| *end < horizon)
    })
}

/// The first instant after `now` at which a window opens while none is open.
pub fn next_opening(group: &Group, location: &Location, now: Timestamp) -> Option<Timestamp> {
    let find = || find_opening(group, location, now);
    group
        .edges
        .get(EdgeKind::Opening, || windows(group), location, now, find)
}

fn find_opening(group: &Group, location: &Location, now: Timestamp) -> Option<Timestamp> {
    HORIZONS.into_iter().find_map(|ahead| {
        let spans = open_spans(group, location, now, after(now, ahead));
        spans
            .into_iter()
            .map(|span| span.start)
            .find(|start| *start > now)
    })
}

/// The first of both.
pub fn next_change(group: &Group, location: &Location, now: Timestamp) -> Option<Timestamp> {
    let closing = next_closing(group, location, now);
    let opening = next_opening(group, location, now);
    closing.into_iter().chain(opening).min()
}

/// The first instant after `now` at which any window opens or closes, whatever others do: another window may have another
/// target.
pub fn next_edge(group: &Group, location: &Location, now: Timestamp) -> Option<Timestamp> {
    let enabled = || group.schedules.iter().filter(|schedule| schedule.enabled);
    let horizon = after(now, HORIZONS[1]);
    let find = || {
        let edges = enabled().filter_map(|schedule| schedule.calendar(&group.id, location).next_edge(now));
        edges.min().filter(|edge| *edge < horizon)
    };
    group
        .edges
        .get(EdgeKind::Any, || windows(group), location, now, find)
}

/// Windows that touch `from..until`, those that overlap or follow without a pause as one.
pub fn open_spans(group: &Group, location: &Location, from: Timestamp, until: Timestamp) -> Vec<Occurrence> {
    let enabled = group.schedules.iter().filter(|schedule| schedule.enabled);
    let mut windows: Vec<Occurrence> = enabled
        .flat_map(|schedule| schedule.calendar(&group.id, location).between(from, until))
        .collect();
    windows.sort_by_key(|window| window.start);
    let mut spans: Vec<Occurrence> = Vec::new();
    for window in windows {
        match spans.last_mut() {
            Some(last) if window.start <= last.end => last.end = last.end.max(window.end),
            _ => spans.push(window),
        }
    }
    spans
}
