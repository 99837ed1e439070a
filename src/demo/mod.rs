//! What `tapo2mqtt demo` needs besides the bridge itself, so that it runs on a machine with nothing
//! installed.

pub mod broker;
