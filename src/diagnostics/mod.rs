//! One file for maintainers that says what happened, without what is private.

mod package;
mod private_texts;
mod redactor;

pub use package::Diagnostics;
