//! The schedule rules that outlets execute by themselves: read slowly and reported. The OFF rules of the bridge are kept as
//! the scheduler wants them.

mod outlet;
mod plan;

use std::{sync::Arc, time::Duration};

use planner::OutletKey;
use tokio::time::Instant;
use tracing::warn;

use outlet::OutletOffRules;

use super::{
    backoff::jittered,
    client::{connection::ExchangeError, fault::Fault},
    context::Context,
    state::OutletAddress,
};
use crate::domain::off_rules::WantedOffRules;

/// Between two readings. Users change rules seldom, and a reading needs one request for each five rules.
const EVERY: Duration = Duration::from_mins(10);

/// The schedule rules on a device.
#[derive(Debug)]
pub(super) struct OffRules {
    outlets: Vec<OutletOffRules>,
    /// When those of an outlet that is new are read.
    due: Instant,
}

impl OffRules {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            outlets: Vec::new(),
            due: now,
        }
    }

    /// A login: the rules may have changed meanwhile. Other requests go first.
    pub(super) fn on_connected(&mut self, context: &Context, due: Instant) {
        self.due = due;
        self.follow_outlets(context);
        for rules in &mut self.outlets {
            rules.on_connected(context, due);
        }
    }

    /// Takes the outlets that were read.
    pub(super) fn follow_outlets(&mut self, context: &Context) {
        let (due, known) = (self.due, self.outlets.len());
        OutletAddress::follow(
            &mut self.outlets,
            &context.state,
            |known| &mut known.address,
            |address| OutletOffRules::new(address, due),
        );
        for new in self.outlets.iter_mut().skip(known) {
            new.on_connected(context, due);
        }
    }

    /// The scheduler wants these rules on an outlet.
    pub(super) fn set_wanted(
        &mut self,
        context: &mut Context,
        outlet: Option<&OutletKey>,
        wanted: Arc<WantedOffRules>,
    ) {
        let mut outlets = self.outlets.iter_mut();
        if let Some(rules) = outlets.find(|rules| rules.address.key.as_ref() == outlet) {
            rules.set_wanted(context, wanted);
        }
    }

    /// Whether the rules of an outlet should be read now.
    pub(super) fn are_due(&self) -> bool {
        let now = Instant::now();
        let due = |rules: &OutletOffRules| rules.supported && now >= rules.due;
        self.outlets.iter().any(due)
    }

    /// Whether rules are to be written.
    pub(super) fn are_pending(&self) -> bool {
        self.outlets.iter().any(OutletOffRules::are_pending)
    }

    /// Reads the rules of an outlet. A device that cannot answer keeps all its other functions.
    pub(super) async fn poll(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        let now = Instant::now();
        let due = |rules: &&mut OutletOffRules| rules.supported && now >= rules.due;
        match self.outlets.iter_mut().find(due) {
            Some(rules) => rules.poll(context, now + jittered(EVERY)).await,
            None => Ok(()),
        }
    }

    /// Sends one request towards the wanted rules, so that commands go between.
    pub(super) async fn write_next(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        match self.outlets.iter_mut().find(|rules| rules.are_pending()) {
            Some(rules) => rules.write_next(context, Instant::now() + jittered(EVERY)).await,
            None => Ok(()),
        }
    }

    /// Removes the rules of the bridge from a device that left the settings. The caller bounds the time.
    ///
    /// # Errors
    /// The fault that ended it. The rules that remain stay known, for [`Self::warn_of_remaining`].
    pub(super) async fn remove_all(&mut self, context: &mut Context) -> Result<(), Fault> {
        for rules in &mut self.outlets {
            rules.remove_all(context).await?;
        }
        Ok(())
    }

    /// The next client reaches no rules of these outlets: what remains is reported, and nothing is wanted.
    pub(super) fn on_out_of_reach(&mut self, context: &mut Context) {
        for rules in &self.outlets {
            rules.on_out_of_reach(context);
        }
    }

    /// Logs how many rules of the bridge a removed device keeps.
    pub(super) fn warn_of_remaining(&self, context: &Context) {
        let rules: usize = self.outlets.iter().map(OutletOffRules::remaining).sum();
        if rules > 0 {
            warn!(
                device = %context.config.id,
                rules,
                "the device was removed from the settings, but its OFF rules of this bridge could not be removed from \
                 it; delete them in the Tapo app"
            );
        }
    }
}
