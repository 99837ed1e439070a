//! One integration binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the switches in clippy.toml reach test functions only, not their helpers"
)]

#[cfg(feature = "demo")]
mod embedded_broker;
