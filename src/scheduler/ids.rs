//! The names of schedules and sensors.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::model::{Slug, SlugError, slug_newtype};

slug_newtype! {
    /// A schedule, unique within its group.
    ScheduleId, reserved: &[]
}
slug_newtype! {
    /// A sensor that conditions refer to.
    SensorId, reserved: &[]
}
