//! Simulated Tapo devices.
