//! The simulator driven by the tapo crate, a client that was not written for it.

mod faults;
mod profiles;
mod support;
