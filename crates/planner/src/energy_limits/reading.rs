//! What a meter measured.

use crate::units::{MilliWattHours, MilliWatts};

/// One reading of a meter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// The power drawn now, in mW; `None` where the meter did not report it.
    pub power: Option<MilliWatts>,
    /// The energy used since the bridge first read the meter, in mWh; it only grows.
    pub total: Option<MilliWattHours>,
}
