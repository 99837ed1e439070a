//! A temperature that was set, on the scale on which it was set.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sensor::{Scale, Temperature};

/// A temperature that was set. It keeps its scale, so that it reads as it was written, and means the same if the
/// thermometer has another scale later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setpoint {
    /// In hundredths of a degree.
    hundredths: i32,
    scale: Scale,
}

impl Setpoint {
    /// From a number on a scale, to a hundredth of a degree.
    pub fn new(degrees: f64, scale: Scale) -> Self {
        // A cast saturates, and no temperature that is allowed is near that.
        #[allow(clippy::cast_possible_truncation)]
        let hundredths = (degrees * 100.0).round() as i32;
        Self { hundredths, scale }
    }

    /// The scale on which it was set.
    pub fn scale(self) -> Scale {
        self.scale
    }

    /// The number that was set.
    pub fn degrees(self) -> f64 {
        f64::from(self.hundredths) / 100.0
    }

    /// What it means.
    pub fn temperature(self) -> Temperature {
        self.scale.temperature(self.degrees())
    }

    /// This temperature on a scale, to a tenth of a degree.
    pub fn on(self, scale: Scale) -> f64 {
        if scale == self.scale {
            return self.degrees();
        }
        scale.degrees(self.temperature())
    }

    /// This many kelvin higher.
    #[must_use]
    pub fn raised(self, kelvin: f64) -> Self {
        let raised = Temperature::from_celsius(self.temperature().celsius() + kelvin);
        Self::new(self.scale.degrees(raised), self.scale)
    }

    /// Whether it is warmer than another.
    pub fn is_above(self, other: Self) -> bool {
        self.temperature() > other.temperature()
    }
}

/// As in `target 21 °C`.
impl fmt::Display for Setpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.degrees(), self.scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setpoint_reads_as_it_was_set_on_either_scale() {
        let fahrenheit = Setpoint::new(70.0, Scale::Fahrenheit);
        assert_eq!(fahrenheit.to_string(), "70 °F");
        assert!((fahrenheit.on(Scale::Celsius) - 21.1).abs() < 1e-9);
        assert!((fahrenheit.on(Scale::Fahrenheit) - 70.0).abs() < 1e-9);
        let celsius = Setpoint::new(21.5, Scale::Celsius);
        assert_eq!(celsius.to_string(), "21.5 °C");
        assert_eq!(celsius.raised(2.0).to_string(), "23.5 °C");
        assert_eq!(fahrenheit.raised(2.0).to_string(), "73.6 °F");
        assert!(celsius.is_above(fahrenheit) && !fahrenheit.is_above(celsius));
        let kept = serde_json::to_string(&fahrenheit).unwrap();
        assert_eq!(serde_json::from_str::<Setpoint>(&kept).unwrap(), fahrenheit);
    }
}
