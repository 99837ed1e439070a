//! The windows of a group taken together: when one of its enabled schedules opens, and when the last closes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    GroupId, days::Days, location::Location, occurrence::Occurrence, period::after, rules::Group,
    window::Window,
};

/// How far an edge is looked for: first where it mostly is, then as far as any set of days recurs.
const HORIZONS: [SignedDuration; 2] = [SignedDuration::from_hours(24), SignedDuration::from_hours(8 * 24)];

/// So many groups are remembered, then all are forgotten.
const REMEMBERED: usize = 4096;
/// Answers remembered of one group: one a member of most groups.
const ANSWERS: usize = 16;

/// The answers so far. Every look at a group asks for each override of each member, several times, and mostly the same.
static KNOWN: Mutex<BTreeMap<GroupId, KnownEdges>> = Mutex::new(BTreeMap::new());

/// What the edges of a group follow from, and some of them.
struct KnownEdges {
    windows: Vec<(Days, Window)>,
    location: Location,
    closings: Vec<Answer>,
    openings: Vec<Answer>,
}

/// The first edge after an instant.
#[derive(Clone, Copy)]
struct Answer {
    after: Timestamp,
    edge: Option<Timestamp>,
}

impl Answer {
    /// The first edge after an instant is also the first after all instants between them.
    fn fits(&self, now: Timestamp) -> bool {
        self.after == now || (self.after < now && self.edge.is_some_and(|edge| now < edge))
    }
}

impl KnownEdges {
    fn new(group: &Group, location: &Location) -> Self {
        Self {
            windows: windows(group).collect(),
            location: location.clone(),
            closings: Vec::new(),
            openings: Vec::new(),
        }
    }

    fn is_of(&self, group: &Group, location: &Location) -> bool {
        self.windows.iter().copied().eq(windows(group)) && self.location == *location
    }
}

/// All of a group that its edges follow from.
fn windows(group: &Group) -> impl Iterator<Item = (Days, Window)> {
    let enabled = group.schedules.iter().filter(|schedule| schedule.enabled);
    enabled.map(|schedule| (schedule.days, schedule.window))
}

/// An edge that was found before, or else is found now.
fn remembered(
    group: &Group,
    location: &Location,
    now: Timestamp,
    answers: fn(&mut KnownEdges) -> &mut Vec<Answer>,
    find: fn(&Group, &Location, Timestamp) -> Option<Timestamp>,
) -> Option<Timestamp> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= REMEMBERED && !known.contains_key(&group.id) {
        known.clear();
    }
    let known = known
        .entry(group.id.clone())
        .or_insert_with(|| KnownEdges::new(group, location));
    if !known.is_of(group, location) {
        *known = KnownEdges::new(group, location);
    }
    let answers = answers(known);
    if let Some(answer) = answers.iter().find(|answer| answer.fits(now)) {
        return answer.edge;
    }
    if answers.len() >= ANSWERS {
        answers.clear();
    }
    let edge = find(group, location, now);
    answers.push(Answer { after: now, edge });
    edge
}

/// The first instant after `now` at which the last open window closes.
pub fn next_closing(group: &Group, location: &Location, now: Timestamp) -> Option<Timestamp> {
    remembered(group, location, now, |known| &mut known.closings, find_closing)
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
    remembered(group, location, now, |known| &mut known.openings, find_opening)
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

/// Windows that touch `from..until`, those that overlap or follow without a pause as one.
pub fn open_spans(group: &Group, location: &Location, from: Timestamp, until: Timestamp) -> Vec<Occurrence> {
    let enabled = group.schedules.iter().filter(|schedule| schedule.enabled);
    let mut windows: Vec<Occurrence> = enabled
        .flat_map(|schedule| schedule.calendar(location).between(from, until))
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
