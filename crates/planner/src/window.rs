//! The part of a day, or over midnight, that a schedule is about.

use std::fmt;

use jiff::SignedDuration;

use super::{
    edge::{ClockTime, Edge, EdgeBase},
    period::Period,
};

/// When a schedule is active on each of its days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window(Shape);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    AllDay,
    Between {
        start: Edge,
        end: Edge,
    },
    /// A real length from the start on.
    Lasting {
        start: Edge,
        length: Period,
    },
}

/// Why edges make no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Such a window is neither empty nor a whole day.
    #[error("start and end are the same; use all_day for a whole day")]
    Empty,
    /// `24:00` only ends a day.
    #[error("24:00 can end a window, not start one; use 00:00")]
    StartAtEndOfDay,
    /// Longer than a day.
    #[error("a window lasts at most 24h")]
    TooLong,
}

impl Window {
    /// From midnight to midnight.
    pub const ALL_DAY: Self = Self(Shape::AllDay);
    /// The longest `for`.
    pub const LONGEST: SignedDuration = SignedDuration::from_hours(24);

    /// From one edge to the other. An end at a clock time that is not after the start is on the next day. With a sun
    /// edge it is if it never is after the start on the same day; where the sun comes to lie on the wrong side of the
    /// other edge in the course of a year (06:00 to sunrise, in June), the window is empty on those dates.
    ///
    /// # Errors
    /// The same edge twice, or a start at `24:00`.
    pub fn between(start: Edge, end: Edge) -> Result<Self, WindowError> {
        check_start(start)?;
        if start.exact() == end.exact() {
            return Err(WindowError::Empty);
        }
        Ok(Self(Shape::Between { start, end }))
    }

    /// A length of real time (at most 24 h) from an edge on.
    ///
    /// # Errors
    /// Longer than [`Window::LONGEST`], or a start at `24:00`.
    pub fn lasting(start: Edge, length: Period) -> Result<Self, WindowError> {
        check_start(start)?;
        if length.length() > Self::LONGEST {
            return Err(WindowError::TooLong);
        }
        Ok(Self(Shape::Lasting { start, length }))
    }

    /// When it starts; `None` is midnight of a whole day.
    pub fn start(&self) -> Option<Edge> {
        match self.0 {
            Shape::AllDay => None,
            Shape::Between { start, .. } | Shape::Lasting { start, .. } => Some(start),
        }
    }

    /// When it ends, if it ends at an edge.
    pub fn end(&self) -> Option<Edge> {
        match self.0 {
            Shape::AllDay | Shape::Lasting { .. } => None,
            Shape::Between { end, .. } => Some(end),
        }
    }

    /// How long it lasts, if that is fixed.
    pub fn length(&self) -> Option<Period> {
        match self.0 {
            Shape::AllDay | Shape::Between { .. } => None,
            Shape::Lasting { length, .. } => Some(length),
        }
    }

    /// Whether an edge strays from its time.
    pub fn has_jitter(&self) -> bool {
        let edges = self.start().into_iter().chain(self.end());
        edges.into_iter().any(|edge| !edge.jitter().is_none())
    }

    pub(super) fn shape(&self) -> Shape {
        self.0
    }
}

fn check_start(start: Edge) -> Result<(), WindowError> {
    if start.time().base == EdgeBase::Clock(ClockTime::END_OF_DAY) {
        Err(WindowError::StartAtEndOfDay)
    } else {
        Ok(())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Shape::AllDay => f.write_str("all day"),
            Shape::Between { start, end } => write!(f, "{start} to {end}"),
            Shape::Lasting { start, length } => write!(f, "{length} from {start}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::{Clamps, EdgeTime};

    fn edge(text: &str) -> Edge {
        let time: EdgeTime = text.parse().unwrap();
        let fallback = time.needs_sun().then_some(ClockTime::MIDNIGHT);
        Edge::new(time, Clamps::default(), fallback).unwrap()
    }

    #[test]
    fn a_window_starts_and_ends_at_different_edges() {
        for (start, end) in [("06:00", "06:00"), ("sunset", "sunset"), ("06:00±20m", "06:00")] {
            assert_eq!(Window::between(edge(start), edge(end)), Err(WindowError::Empty));
        }
        assert!(Window::between(edge("sunset"), edge("sunset+00:01")).is_ok());
        assert!(Window::between(edge("00:00"), edge("24:00")).is_ok());
        assert_eq!(
            Window::between(edge("24:00"), edge("06:00")),
            Err(WindowError::StartAtEndOfDay)
        );
    }

    #[test]
    fn a_window_lasts_a_day_at_most() {
        assert!(Window::lasting(edge("06:00"), Period::hours(24)).is_ok());
        assert_eq!(
            Window::lasting(edge("06:00"), Period::hours(25)),
            Err(WindowError::TooLong)
        );
    }
}
