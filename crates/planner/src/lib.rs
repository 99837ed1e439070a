//! What each outlet should be now, why, and when that changes next.
//!
//! Pure: no I/O, no clock. The time comes in as an argument. `(rules, overrides, run times, sensors, now)` goes in;
//! what each outlet should be, the reason, and the next change come out.

pub mod activity;
pub mod condition;
pub mod days;
pub mod deadline;
mod device_value;
pub mod edge;
pub mod energy_limits;
mod energy_rules;
pub mod evaluate;
pub mod forecast;
pub mod holidays;
mod ids;
pub mod interlock;
pub mod jitter;
mod known;
pub mod known_edges;
pub mod level;
mod limits;
pub mod location;
mod now;
pub mod occurrence;
pub mod overrides;
pub mod period;
pub mod plan;
mod power;
pub mod readings;
pub mod rules;
pub mod safety;
pub mod schedule_warning;
pub mod sensor;
pub mod setpoint;
pub mod sun;
pub mod sun_days;
pub mod sun_range;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
pub mod thermostat;
pub mod units;
pub mod weather;
mod weather_sensor;
mod weather_value;
pub mod window;
pub mod windows;

pub use device_value::DeviceValue;
pub use ids::{DeviceId, GroupId, OutletKey, OutletPath, SLUG_MAX, ScheduleId, SensorId, Slug, SlugError};
pub use now::{Now, Steady};
pub use power::Power;
pub use text::shortened;
pub use weather_sensor::{Aggregate, WeatherSensor, WeatherSpan};
pub use weather_value::WeatherValue;
