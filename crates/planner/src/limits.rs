//! How long an outlet may run, and how long it stays off: the settings of a group and of a schedule.

use std::{fmt, str::FromStr};

use crate::period::{Period, PeriodError};

/// A limit of time, or none. Reads a [`Period`] or `none`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Limit {
    /// Not limited.
    #[default]
    None,
    /// Limited to this.
    Of(Period),
}

impl FromStr for Limit {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        if text.trim().eq_ignore_ascii_case("none") {
            Ok(Self::None)
        } else {
            text.parse().map(Self::Of)
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Of(period) => fmt::Display::fmt(period, f),
        }
    }
}

/// What keeps an outlet from running too long, whatever switched it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest it runs without a pause.
    pub max_on: Limit,
    /// How long it stays off after it ran into a limit.
    pub cooldown: Limit,
    /// How long it stays off after each OFF, as compressors need.
    pub min_off: Limit,
    /// The longest it runs in one civil day (midnight to midnight in [`Location::zone`](crate::location::Location::zone)).
    pub max_on_per_day: Limit,
}

impl Default for Limits {
    /// 6 h, then 30 min off.
    fn default() -> Self {
        Self {
            max_on: Limit::Of(Period::hours(6)),
            cooldown: Limit::Of(Period::minutes(30)),
            min_off: Limit::None,
            max_on_per_day: Limit::None,
        }
    }
}

impl Limits {
    /// No limit at all.
    pub const NONE: Self = Self {
        max_on: Limit::None,
        cooldown: Limit::None,
        min_off: Limit::None,
        max_on_per_day: Limit::None,
    };

    /// These limits where a schedule sets nothing else.
    #[must_use]
    pub fn changed(self, changes: &LimitChanges) -> Self {
        Self {
            max_on: changes.max_on.unwrap_or(self.max_on),
            cooldown: changes.cooldown.unwrap_or(self.cooldown),
            min_off: changes.min_off.unwrap_or(self.min_off),
            max_on_per_day: changes.max_on_per_day.unwrap_or(self.max_on_per_day),
        }
    }
}

/// The limits a schedule sets itself; `None` keeps the group's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitChanges {
    /// See [`Limits::max_on`].
    pub max_on: Option<Limit>,
    /// See [`Limits::cooldown`].
    pub cooldown: Option<Limit>,
    /// See [`Limits::min_off`].
    pub min_off: Option<Limit>,
    /// See [`Limits::max_on_per_day`].
    pub max_on_per_day: Option<Limit>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_as_they_print() {
        for text in ["none", "6h", "30m"] {
            assert_eq!(text.parse::<Limit>().unwrap().to_string(), text);
        }
        assert_eq!("0s".parse::<Limit>(), Err(PeriodError::NotPositive));
    }

    #[test]
    fn a_schedule_changes_only_the_limits_it_names() {
        let changes = LimitChanges {
            max_on: Some(Limit::None),
            ..LimitChanges::default()
        };
        let limits = Limits::default().changed(&changes);
        assert_eq!(limits.max_on, Limit::None);
        assert_eq!(limits.cooldown, Limits::default().cooldown);
    }
}
