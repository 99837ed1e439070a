//! What outlets used in the quarter hours and days that were.

use jiff::{Timestamp, ToSpan as _, civil::Date};
use planner::{OutletPath, units::MilliWattHours};
use serde_json::json;

use super::schedule::{optional, whole_number};
use crate::{
    domain::{
        energy_history::{DAYS_MAX, EnergyHistory, QUARTER_DAYS_MAX, QUARTER_S},
        report::DeviceReport,
        request_reply::RequestResult,
        scheduling::RequestError,
    },
    mqtt::decode::{Fields, PayloadError, Shown},
};

/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// Days that are returned by default.
const DAYS: u16 = 30;

/// Which energy is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mqtt) struct HistoryRequest {
    /// An outlet, or a strip with all of its outlets; `None`: all.
    outlet: Option<OutletPath>,
    /// Whether by quarter hours; else by days.
    is_fine: bool,
    /// How many days.
    days: u16,
    /// The last of them; `None`: today.
    until: Option<Date>,
}

pub(super) fn read(fields: &mut Fields) -> Result<HistoryRequest, PayloadError> {
    let outlet = optional(fields, "outlet", "the path of an outlet")?;
    let (key, expected) = ("step", "quarter or day");
    let is_fine = match fields.take_text(key, expected)?.as_deref() {
        None | Some("quarter") => true,
        Some("day") => false,
        Some(other) => {
            let shown = Shown::text(other);
            return Err(PayloadError::InvalidValue { key, expected, shown });
        }
    };
    let (most, expected) = if is_fine {
        (QUARTER_DAYS_MAX, "a whole number from 1 to 35")
    } else {
        (DAYS_MAX, "a whole number from 1 to 1098")
    };
    let days = whole_number(fields, "days", 1..=u64::from(most), expected)?;
    Ok(HistoryRequest {
        outlet,
        is_fine,
        days: days.unwrap_or(if is_fine { 1 } else { DAYS }),
        until: optional(fields, "until", "a date such as 2026-11-21")?,
    })
}

impl HistoryRequest {
    /// The answer, in kWh; `null` is not known.
    ///
    /// # Errors
    /// No device has this outlet, or the days are to come.
    pub(in crate::mqtt) fn answer<'a>(
        &self,
        history: &EnergyHistory,
        reports: impl Iterator<Item = &'a DeviceReport>,
        now: Timestamp,
    ) -> RequestResult {
        let relays: Vec<(&str, u8)> = reports.flat_map(|report| self.relays(report)).collect();
        if let Some(outlet) = self.outlet.as_ref().filter(|_| relays.is_empty()) {
            return Err(RequestError::UnknownName(outlet.to_string()));
        }
        let today = history.date(now);
        let until = self.until.unwrap_or(today);
        if until > today {
            let message = format!("until: {until} is in the future; expected a date up to {today}");
            return Err(RequestError::Invalid(message));
        }
        let first = until.saturating_sub((i64::from(self.days) - 1).days());
        let shown = |values: Vec<Option<MilliWattHours>>| -> Vec<Option<f64>> {
            let values = values.into_iter();
            values
                .map(|value| value.map(MilliWattHours::fine_kilowatt_hours))
                .collect()
        };
        Ok(if self.is_fine {
            let (from, values) = history.quarters(&relays, first, self.days);
            let step = QUARTER_S;
            json!({ "outlet": self.outlet, "step_s": step, "from": from, "energy": shown(values) })
        } else {
            let values = history.days(&relays, first, self.days);
            json!({ "outlet": self.outlet, "step_s": DAY_S, "from": first, "energy": shown(values) })
        })
    }

    /// The relays of a device that are asked for.
    fn relays<'a>(&self, report: &'a DeviceReport) -> Vec<(&'a str, u8)> {
        let Some(identity) = report.identity.as_deref() else {
            return Vec::new();
        };
        let is_asked = |path: &OutletPath| self.outlet.as_ref().is_none_or(|asked| asked == path);
        let all = is_asked(&OutletPath::device(report.id.clone()));
        let outlets = report.outlets.iter().filter(|outlet| {
            let path = outlet
                .key
                .clone()
                .map(|key| OutletPath::outlet(report.id.clone(), key));
            all || path.is_some_and(|path| is_asked(&path))
        });
        let relay = |position| (identity.device_id.as_str(), position);
        outlets.map(|outlet| relay(outlet.position)).collect()
    }
}
