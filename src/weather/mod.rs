//! The forecast: asked for in a task of its own, which nothing waits for.
//!
//! A provider is another program that may be gone, slow or wrong: what it answers is bounded ([`HttpReader`]), read as
//! what it should be ([`forecast`]), and what is no forecast leaves the last one as it is.
//!
//! [`HttpReader`]: crate::system::http::reader::HttpReader

mod forecast;
mod kept;
mod met_norway;
mod nws;
mod open_meteo;
mod place;
mod requests;
#[cfg(test)]
mod samples;
mod task;

pub use kept::KeptWeather;
pub use task::{WeatherParts, WeatherTask};
