//! Edges of a group that were found before.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use crate::{days::Days, jitter::JitterSeed, location::Location, window::Window};

/// Answers remembered of one group: one a member of most groups.
const ANSWERS: usize = 16;

/// Edges of a group that were found before: each look at a group asks for each override of each member, several times,
/// and mostly the same. A part of the group that says nothing about it: all are equal, and a copy begins empty.
#[derive(Default)]
pub struct KnownEdges(Mutex<Option<EdgeAnswers>>);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdgeKind {
    /// The last open window closes.
    Closing,
    /// A window opens while none is open.
    Opening,
    /// Any window opens or closes.
    Any,
}

impl KnownEdges {
    /// An edge that was found before, or else is found now. `windows` are all that the edges follow from.
    pub(crate) fn get<W: Iterator<Item = (Days, Window, Option<JitterSeed>)>>(
        &self,
        kind: EdgeKind,
        windows: impl Fn() -> W,
        location: &Location,
        now: Timestamp,
        find: impl FnOnce() -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |known: &EdgeAnswers| {
            known.windows.iter().copied().eq(windows()) && is_same(&known.location, location)
        };
        let fitting = known.take().filter(fits);
        let known = known.insert(fitting.unwrap_or_else(|| EdgeAnswers {
            windows: windows().collect(),
            location: location.clone(),
            answers: Vec::new(),
        }));
        if let Some(answer) = known.answers.iter().find(|answer| answer.fits(kind, now)) {
            return answer.edge;
        }
        if known.answers.len() >= ANSWERS {
            known.answers.clear();
        }
        let edge = find();
        known.answers.push(Answer {
            kind,
            after: now,
            edge,
        });
        edge
    }
}

/// Whether two places are the same: as `==`, but of two zones of the time zone database only the names are compared.
fn is_same(known: &Location, location: &Location) -> bool {
    let has_same_zone = match (known.zone.iana_name(), location.zone.iana_name()) {
        (Some(known), Some(name)) => known == name,
        _ => known.zone == location.zone,
    };
    has_same_zone && known.coordinates == location.coordinates && known.holidays == location.holidays
}

impl Clone for KnownEdges {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for KnownEdges {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for KnownEdges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownEdges").finish_non_exhaustive()
    }
}

/// What the edges of a group follow from, and some of them.
struct EdgeAnswers {
    windows: Vec<(Days, Window, Option<JitterSeed>)>,
    location: Location,
    answers: Vec<Answer>,
}

/// The first edge after an instant.
#[derive(Clone, Copy)]
struct Answer {
    kind: EdgeKind,
    after: Timestamp,
    edge: Option<Timestamp>,
}

impl Answer {
    /// The first edge after an instant is also the first after all instants between them.
    fn fits(&self, kind: EdgeKind, now: Timestamp) -> bool {
        let between = self.after < now && self.edge.is_some_and(|edge| now < edge);
        self.kind == kind && (self.after == now || between)
    }
}
