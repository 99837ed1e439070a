//! Limits and countdowns.
