//! What both the gate and the measurements run.

use std::error::Error;

pub mod planning;

pub type CommandError = Box<dyn Error>;
