//! Overrides, timers, toggles, requests.
