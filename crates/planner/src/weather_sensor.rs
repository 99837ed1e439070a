//! A value of the forecast as a sensor: which one, of which hours, and what becomes of several.

use std::fmt;

use super::{period::Period, weather_value::WeatherValue};

/// What a sensor reads from the forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeatherSensor {
    /// Which value.
    pub value: WeatherValue,
    /// Of which hours; `None`: of the hour that now is.
    pub span: Option<WeatherSpan>,
}

/// The hour that now is and those that start within a time, and what becomes of their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeatherSpan {
    /// The time, of whole hours.
    pub within: Period,
    /// How the values become one.
    pub aggregate: Aggregate,
}

/// How the values of several hours become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// Their sum, of amounts.
    Sum,
    /// The highest.
    Max,
    /// The lowest.
    Min,
    /// Their mean.
    Mean,
}

impl Aggregate {
    /// As in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
            Self::Mean => "mean",
        }
    }

    /// Makes one of them; `None` of none.
    pub(crate) fn of(self, values: &[f64]) -> Option<f64> {
        let sum = || values.iter().sum::<f64>();
        match self {
            _ if values.is_empty() => None,
            Self::Sum => Some(sum()),
            Self::Max => values.iter().copied().reduce(f64::max),
            Self::Min => values.iter().copied().reduce(f64::min),
            Self::Mean => Some(sum() / f64::from(u32::try_from(values.len()).ok()?)),
        }
    }
}

impl fmt::Display for WeatherSensor {
    /// As in `forecast snowfall (sum within 6h)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "forecast {}", self.value)?;
        match self.span {
            None => Ok(()),
            Some(WeatherSpan { within, aggregate }) => {
                write!(f, " ({} within {within})", aggregate.as_str())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_become_one_value() {
        let hours = [1.0, 4.0, -2.0];
        assert_eq!(Aggregate::Sum.of(&hours), Some(3.0));
        assert_eq!(Aggregate::Max.of(&hours), Some(4.0));
        assert_eq!(Aggregate::Min.of(&hours), Some(-2.0));
        assert_eq!(Aggregate::Mean.of(&hours), Some(1.0));
        assert_eq!(Aggregate::Mean.of(&[]), None);
    }

    #[test]
    fn a_sensor_says_which_hours_it_reads() {
        let now = WeatherSensor {
            value: WeatherValue::DewPoint,
            span: None,
        };
        assert_eq!(now.to_string(), "forecast dew_point");
        let span = WeatherSpan {
            within: Period::hours(6),
            aggregate: Aggregate::Sum,
        };
        let ahead = WeatherSensor {
            value: WeatherValue::Snowfall,
            span: Some(span),
        };
        assert_eq!(ahead.to_string(), "forecast snowfall (sum within 6h)");
    }
}
