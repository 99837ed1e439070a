//! When a window opens or closes: a clock time, or a sun event with its clamps and its fallback.

use std::{fmt, str::FromStr};

use jiff::SignedDuration;

use super::jitter::Jitter;

/// A time of day with minutes: `00:00` to `23:59`, and `24:00` as the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClockTime(u16);

/// Why a text is no [`ClockTime`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClockTimeError {
    /// Not of the form `HH:MM` or `H:MM`.
    #[error("{0:?} is not a time of day; write it like 06:30")]
    Syntax(String),
    /// An hour or a minute that no clock shows.
    #[error("{0:?} is not on the clock; times go from 00:00 to 24:00")]
    Range(String),
}

impl ClockTime {
    /// The start of a day.
    pub const MIDNIGHT: Self = Self(0);
    /// `24:00`, the start of the next day.
    pub const END_OF_DAY: Self = Self(24 * 60);

    /// Minutes since midnight, 0..=1440.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl FromStr for ClockTime {
    type Err = ClockTimeError;

    fn from_str(text: &str) -> Result<Self, ClockTimeError> {
        let syntax = || ClockTimeError::Syntax(text.to_owned());
        let (hour, minute) = text.trim().split_once(':').ok_or_else(syntax)?;
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !(1..=2).contains(&hour.len()) || minute.len() != 2 || !digits(hour) || !digits(minute) {
            return Err(syntax());
        }
        let hour: u16 = hour.parse().map_err(|_| syntax())?;
        let minute: u16 = minute.parse().map_err(|_| syntax())?;
        let time = Self(hour * 60 + minute);
        if minute > 59 || time > Self::END_OF_DAY {
            return Err(ClockTimeError::Range(text.to_owned()));
        }
        Ok(time)
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// What the sun does once on most days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SunEvent {
    /// The upper limb appears.
    Sunrise,
    /// The upper limb disappears.
    Sunset,
}

impl fmt::Display for SunEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sunrise => "sunrise",
            Self::Sunset => "sunset",
        })
    }
}

/// An edge as one text: `06:30`, `24:00`, `sunrise`, `sunset-00:30`, each also with a jitter: `sunset±20m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeTime {
    /// The time, without jitter.
    pub base: EdgeBase,
    /// How far it strays from that.
    pub jitter: Jitter,
}

/// The time that an edge strays from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeBase {
    /// A clock time.
    Clock(ClockTime),
    /// A sun event, moved by at most [`EdgeTime::MAX_OFFSET`] either way.
    Sun {
        /// Which event.
        event: SunEvent,
        /// How long after it; negative is before it. Whole minutes.
        offset: SignedDuration,
    },
}

/// Why a text or a combination is no edge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// Neither a clock time nor a sun event.
    #[error("{0:?} is neither a time (06:30) nor a sun event (sunrise, sunset-00:30)")]
    Syntax(String),
    /// A clock time that is none.
    #[error(transparent)]
    Clock(#[from] ClockTimeError),
    /// More than three hours away from the sun event.
    #[error("the offset in {0:?} is more than 03:00")]
    Offset(String),
    /// No jitter.
    #[error("the jitter in {0:?} is not a length of whole minutes from 1m to 3h, such as ±20m")]
    Jitter(String),
    /// A sun edge needs a fallback for a day without that event.
    #[error("needs a fallback time for days without {0}")]
    FallbackMissing(SunEvent),
    /// Only a sun edge is clamped or falls back.
    #[error("not_before, not_after and a fallback only fit sunrise and sunset")]
    ClampOnClock,
    /// The clamps leave no time between them.
    #[error("not_before {not_before} is later than not_after {not_after}")]
    ClampOrder {
        /// The earliest time asked for.
        not_before: ClockTime,
        /// The latest time asked for.
        not_after: ClockTime,
    },
}

impl EdgeTime {
    /// How far an edge may be from its sun event.
    pub const MAX_OFFSET: SignedDuration = SignedDuration::from_hours(3);

    /// Whether it follows the sun.
    pub fn needs_sun(&self) -> bool {
        matches!(self.base, EdgeBase::Sun { .. })
    }
}

impl FromStr for EdgeTime {
    type Err = EdgeError;

    fn from_str(text: &str) -> Result<Self, EdgeError> {
        let (base, jitter) = match text.split_once('±').or_else(|| text.split_once("+-")) {
            Some((base, size)) => (base, jitter(size, text)?),
            None => (text, Jitter::NONE),
        };
        let base = base.trim();
        let (event, rest) = if let Some(rest) = base.strip_prefix("sunrise") {
            (SunEvent::Sunrise, rest)
        } else if let Some(rest) = base.strip_prefix("sunset") {
            (SunEvent::Sunset, rest)
        } else if base.starts_with(|c: char| c.is_ascii_digit()) {
            let base = EdgeBase::Clock(base.parse()?);
            return Ok(Self { base, jitter });
        } else {
            return Err(EdgeError::Syntax(text.to_owned()));
        };
        let offset = sun_offset(rest.trim(), text)?;
        let base = EdgeBase::Sun { event, offset };
        Ok(Self { base, jitter })
    }
}

/// `20m`; `text` is the whole edge, for the error.
fn jitter(size: &str, text: &str) -> Result<Jitter, EdgeError> {
    let size = size.trim().parse().ok().and_then(Jitter::new);
    size.ok_or_else(|| EdgeError::Jitter(text.to_owned()))
}

/// `""`, `+HH:MM` or `-HH:MM`; `text` is the whole edge, for the error.
fn sun_offset(rest: &str, text: &str) -> Result<SignedDuration, EdgeError> {
    if rest.is_empty() {
        return Ok(SignedDuration::ZERO);
    }
    let (sign, size) = if let Some(size) = rest.strip_prefix('+') {
        (1, size)
    } else if let Some(size) = rest.strip_prefix(['-', '\u{2212}']) {
        (-1, size)
    } else {
        return Err(EdgeError::Syntax(text.to_owned()));
    };
    let size: ClockTime = size.parse().map_err(|_| EdgeError::Syntax(text.to_owned()))?;
    let offset = SignedDuration::from_mins(sign * i64::from(size.minutes()));
    if offset.abs() > EdgeTime::MAX_OFFSET {
        return Err(EdgeError::Offset(text.to_owned()));
    }
    Ok(offset)
}

impl fmt::Display for EdgeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            EdgeBase::Clock(time) => fmt::Display::fmt(time, f)?,
            EdgeBase::Sun { event, offset } if offset.is_zero() => fmt::Display::fmt(event, f)?,
            EdgeBase::Sun { event, offset } => {
                let sign = if offset.is_negative() { '-' } else { '+' };
                let minutes = offset.abs().as_mins();
                write!(f, "{event}{sign}{:02}:{:02}", minutes / 60, minutes % 60)?;
            }
        }
        fmt::Display::fmt(&self.jitter, f)
    }
}

/// When a window opens or closes on a day, whatever the sun does there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    kind: Kind,
    jitter: Jitter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Clock(ClockTime),
    Sun(SunEdge),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SunEdge {
    pub(super) event: SunEvent,
    pub(super) offset: SignedDuration,
    pub(super) not_before: Option<ClockTime>,
    pub(super) not_after: Option<ClockTime>,
    pub(super) fallback: ClockTime,
}

/// The earliest and the latest a sun edge may be, on the date it belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clamps {
    /// Not earlier than this.
    pub not_before: Option<ClockTime>,
    /// Not later than this.
    pub not_after: Option<ClockTime>,
}

impl Edge {
    /// Puts an edge together from its settings.
    ///
    /// # Errors
    /// A sun edge without a fallback, clamps in the wrong order, or a clock time with clamps or a fallback.
    pub fn new(time: EdgeTime, clamps: Clamps, fallback: Option<ClockTime>) -> Result<Self, EdgeError> {
        let Clamps {
            not_before,
            not_after,
        } = clamps;
        let kind = match time.base {
            EdgeBase::Clock(_) if fallback.is_some() || clamps != Clamps::default() => {
                return Err(EdgeError::ClampOnClock);
            }
            EdgeBase::Clock(time) => Kind::Clock(time),
            EdgeBase::Sun { event, offset } => {
                if let (Some(not_before), Some(not_after)) = (not_before, not_after)
                    && not_before > not_after
                {
                    return Err(EdgeError::ClampOrder {
                        not_before,
                        not_after,
                    });
                }
                let fallback = fallback.ok_or(EdgeError::FallbackMissing(event))?;
                Kind::Sun(SunEdge {
                    event,
                    offset,
                    not_before,
                    not_after,
                    fallback,
                })
            }
        };
        Ok(Self {
            kind,
            jitter: time.jitter,
        })
    }

    /// The text it was read from, without clamps and fallback.
    pub fn time(&self) -> EdgeTime {
        EdgeTime {
            base: match self.kind {
                Kind::Clock(time) => EdgeBase::Clock(time),
                Kind::Sun(SunEdge { event, offset, .. }) => EdgeBase::Sun { event, offset },
            },
            jitter: self.jitter,
        }
    }

    /// How far it strays from its time.
    pub fn jitter(&self) -> Jitter {
        self.jitter
    }

    /// Without its jitter.
    #[must_use]
    pub(super) fn exact(self) -> Self {
        Self {
            jitter: Jitter::NONE,
            ..self
        }
    }

    /// The earliest and the latest it may be.
    pub fn clamps(&self) -> Clamps {
        match self.kind {
            Kind::Clock(_) => Clamps::default(),
            Kind::Sun(SunEdge {
                not_before,
                not_after,
                ..
            }) => Clamps {
                not_before,
                not_after,
            },
        }
    }

    /// The time on days without the sun event.
    pub fn fallback(&self) -> Option<ClockTime> {
        match self.kind {
            Kind::Clock(_) => None,
            Kind::Sun(SunEdge { fallback, .. }) => Some(fallback),
        }
    }

    /// Whether it needs a place on Earth.
    pub fn needs_sun(&self) -> bool {
        matches!(self.kind, Kind::Sun(_))
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.time(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(text: &str) -> ClockTime {
        text.parse().unwrap()
    }

    #[test]
    fn edges_read_as_they_print() {
        for text in [
            "00:00",
            "06:30",
            "23:59",
            "24:00",
            "sunrise",
            "sunset-00:30",
            "sunrise+03:00",
            "sunset±20m",
            "sunset-00:30±1h30m",
            "22:30±5m",
            "24:00±1h",
        ] {
            assert_eq!(text.parse::<EdgeTime>().unwrap().to_string(), text);
        }
        for text in ["sunset+-20m", "sunset ± 20m", " sunset+-0h20m"] {
            assert_eq!(text.parse::<EdgeTime>().unwrap().to_string(), "sunset±20m");
        }
        assert_eq!(
            "sunset +00:05".parse::<EdgeTime>().unwrap().to_string(),
            "sunset+00:05"
        );
    }

    #[test]
    fn an_invalid_edge_is_refused_with_a_reason() {
        let syntax = |text: &str| EdgeError::Syntax(text.to_owned());
        for text in [
            "",
            "noon",
            "sunrise30",
            "sunset+",
            "sunset+30",
            "sunset+1:0",
            "-01:00",
        ] {
            assert_eq!(text.parse::<EdgeTime>(), Err(syntax(text)), "{text}");
        }
        assert_eq!(clock("6:30"), clock("06:30"));
        for text in ["06:3", "006:30", ":30", "+6:30", "06-30", "06:30:00", "0630"] {
            assert!(text.parse::<ClockTime>().is_err(), "{text}");
        }
        for text in ["24:01", "25:00", "12:60"] {
            assert_eq!(
                text.parse::<ClockTime>(),
                Err(ClockTimeError::Range(text.to_owned()))
            );
        }
        for text in ["sunset±", "sunset±20", "22:30±4h", "22:30+-30s", "sunset±20m±5m"] {
            let error = EdgeError::Jitter(text.to_owned());
            assert_eq!(text.parse::<EdgeTime>(), Err(error), "{text}");
        }
        assert_eq!(
            "sunset-03:01".parse::<EdgeTime>(),
            Err(EdgeError::Offset("sunset-03:01".to_owned()))
        );
    }

    #[test]
    fn a_sun_edge_needs_a_fallback_and_ordered_clamps() {
        let sunset: EdgeTime = "sunset".parse().unwrap();
        let none = Clamps::default();
        assert_eq!(
            Edge::new(sunset, none, None),
            Err(EdgeError::FallbackMissing(SunEvent::Sunset))
        );
        assert!(Edge::new(sunset, none, Some(clock("18:00"))).is_ok());
        let clamps = Clamps {
            not_before: Some(clock("20:00")),
            not_after: Some(clock("16:00")),
        };
        assert_eq!(
            Edge::new(sunset, clamps, Some(clock("18:00"))),
            Err(EdgeError::ClampOrder {
                not_before: clock("20:00"),
                not_after: clock("16:00"),
            })
        );
    }

    #[test]
    fn a_clock_edge_has_neither_clamps_nor_fallback() {
        let noon: EdgeTime = "12:00".parse().unwrap();
        let fallback = Some(clock("13:00"));
        assert_eq!(
            Edge::new(noon, Clamps::default(), fallback),
            Err(EdgeError::ClampOnClock)
        );
    }
}
