//! The `tapo2mqtt` command.
fn main() {}
