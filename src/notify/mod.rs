//! Notifications: a message to people when something is wrong, and one when it is over.
//!
//! Everything is read from what is published, so nothing waits for a notification.

mod bounded_stream;
mod cause;
mod conditions;
mod ledger;
mod mailer;
mod notice;
mod recipient;
mod request;
mod send_backoff;
mod send_error;
mod sender;
mod task;

pub use ledger::KeptNotifications;
pub use sender::{Sender, send_test};
pub use task::{NotifyParts, NotifyTask};
