//! Fires the rules of a device when their time comes.

use std::{future::pending, sync::Arc};

use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::core::Core;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut changes = core.changes();
    loop {
        // Marked as seen first: a change during what follows ends the wait at once.
        changes.borrow_and_update();
        let next = core.read(|state, _| state.next_due());
        let due = async {
            match next {
                Some(next) => sleep(core.clock.until(next)).await,
                None => pending().await,
            }
        };
        select! {
            () = stop.cancelled() => return,
            () = due => {}
            Ok(()) = changes.changed() => {}
        }
    }
}
