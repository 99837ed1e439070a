//! The presses of the buttons at a hub, each reported once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use planner::OutletKey;
use tokio::time::Instant;
use tracing::debug;

use super::{
    client::{
        connection::ExchangeError, fault::Remedy, login_budget::LoginPurpose, session::DeviceRequest,
        trigger_logs::TriggerLogs,
    },
    context::Context,
};
use crate::domain::{hub_child::HubChild, report::Availability};

/// After a longer time without a reading, a press is too old to act on.
const TOO_OLD: Duration = Duration::from_mins(1);

/// What was read of the log of each button, by its id. A press that happened before the first reading of a session is not
/// reported: it may be of yesterday, and the clock of a hub may be wrong.
#[derive(Debug, Default)]
pub(super) struct Buttons {
    read: BTreeMap<String, ReadLog>,
    /// Those whose log the hub refused; they are not asked again in this session.
    refused: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy)]
struct ReadLog {
    at: Instant,
    /// The number of the newest entry.
    newest: u64,
}

impl Buttons {
    /// A session began.
    pub(super) fn on_connected(&mut self) {
        *self = Self::default();
    }

    /// Reads the log of each button that the hub reaches, and reports its new presses.
    pub(super) async fn read(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        let children = context.state.children.as_slice().iter();
        let is_read = |child: &&HubChild| {
            child.is_button && child.availability == Availability::Online && !self.refused.contains(&child.id)
        };
        let buttons = children
            .filter(is_read)
            .map(|child| (child.id.clone(), child.key.clone()));
        let buttons: Vec<(String, OutletKey)> = buttons.collect();
        for (id, key) in buttons {
            let request = DeviceRequest::TriggerLogs(&id);
            let page = match context.exchange(request, LoginPurpose::Poll).await {
                Ok(page) => page,
                Err(error) => {
                    let fault = error.own_answer()?;
                    debug!(device = %context.config.id, button = %key, %fault, "cannot read the log of a button");
                    if fault.remedy() == Remedy::DoWithout {
                        self.refused.insert(id);
                    }
                    continue;
                }
            };
            let Some(logs) = TriggerLogs::of(&page) else {
                continue;
            };
            let (now, before) = (Instant::now(), self.read.get(&id).copied());
            // A log that is shorter for once must not repeat what was reported.
            let newest = before.map_or(logs.newest, |before| before.newest.max(logs.newest));
            self.read.insert(id, ReadLog { at: now, newest });
            if let Some(before) = before.filter(|before| now - before.at < TOO_OLD) {
                for action in logs.after(before.newest) {
                    context.reporter.pressed(&key, action).await;
                }
            }
        }
        Ok(())
    }
}
