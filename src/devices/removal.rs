//! The last steps for a device that a reload removed, or whose id it gave to another one: no outlet stays on that only the bridge would switch off.

use std::time::Duration;

use planner::{OutletPath, Power, Steady};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::{
    client::{
        fault::{Fault, Remedy},
        readings::OutletReading,
        session::DeviceRequest,
    },
    context::Context,
    countdown::Countdowns,
    off_rules::OffRules,
    state::OutletAddress,
    wanted_ends::WantedEnd,
};
use crate::domain::report::Kind;

/// For all requests together. A worker for a device with the same id starts after them.
const BUDGET: Duration = Duration::from_secs(3);

/// Ends a removed device: switches off the outlets that must be off at some time and have no countdown for it, then
/// removes the OFF rules of the bridge.
pub(super) struct Removal<'a> {
    context: &'a mut Context,
    countdowns: &'a mut Countdowns,
    off_rules: &'a mut OffRules,
}

/// An outlet that is on, and that only the bridge would switch off.
struct Unguarded {
    address: OutletAddress,
    end: Steady,
}

impl<'a> Removal<'a> {
    pub(super) fn new(
        context: &'a mut Context,
        countdowns: &'a mut Countdowns,
        off_rules: &'a mut OffRules,
    ) -> Self {
        Self {
            context,
            countdowns,
            off_rules,
        }
    }

    pub(super) async fn run(mut self) {
        let deadline = Instant::now() + BUDGET;
        self.switch_off(deadline).await;
        // A login that the device refuses is not tried again, least of all where it counts them.
        if !self.context.lifecycle.refuses_logins() {
            let removal = self.off_rules.remove_all(self.context);
            if let Ok(Err(fault)) = timeout_at(deadline, removal).await {
                debug!(device = %self.context.config.id, %fault, "OFF rules not removed");
            }
        }
        self.off_rules.warn_of_remaining(self.context);
        self.countdowns.on_removed();
    }

    async fn switch_off(&mut self, deadline: Instant) {
        let unguarded = self.unguarded();
        if unguarded.is_empty() {
            return;
        }
        let result = if self.context.lifecycle.refuses_logins() {
            Err("the device refuses the login".to_owned())
        } else {
            match timeout_at(deadline, self.send_off(&unguarded)).await {
                Ok(result) => result.map_err(|fault| fault.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            }
        };
        let confirmed = result.as_deref().unwrap_or_default();
        for outlet in &unguarded {
            let path = OutletPath {
                device: self.context.config.id.clone(),
                outlet: outlet.address.key.clone(),
            };
            let off_by = self.context.clock.read().wall_at(outlet.end);
            if confirmed.contains(&outlet.address.key) {
                warn!(
                    outlet = %path,
                    %off_by,
                    "device removed from the settings; outlet switched off, because only the bridge would have switched it \
                     off in time"
                );
            } else {
                let reason = result
                    .as_ref()
                    .err()
                    .map_or("the OFF is not confirmed", String::as_str);
                warn!(
                    outlet = %path,
                    %off_by,
                    reason,
                    "device removed from the settings; outlet is on and nothing switches it off any more; switch it off in \
                     the Tapo app or add the device again"
                );
            }
        }
    }

    fn unguarded(&self) -> Vec<Unguarded> {
        let outlets = self.context.state.outlets.iter();
        let on = outlets.filter(|known| known.outlet.power == Some(Power::On));
        on.filter_map(|known| {
            let key = &known.outlet.key;
            let WantedEnd::By(end) = self.context.wanted.of(key.as_ref()) else {
                return None;
            };
            let has_countdown = self.countdowns.is_armed_for(self.context, key.as_ref(), end);
            let address = known.address();
            (!has_countdown).then_some(Unguarded { address, end })
        })
        .collect()
    }

    /// Switches the outlets off and reads them. Returns those that are off.
    async fn send_off(&mut self, unguarded: &[Unguarded]) -> Result<Vec<Option<planner::OutletKey>>, Fault> {
        for outlet in unguarded {
            let request = DeviceRequest::Switch(outlet.address.child.as_deref(), Power::Off);
            match self.context.connection.exchange_after_stop(request).await {
                // Whether it was applied is not known: the reading shows it.
                Err(fault) if fault.remedy() != Remedy::ReadBack => return Err(fault),
                _ => {}
            }
        }
        let is_strip = self.context.connection.kind() == Kind::Strip;
        let request = if is_strip {
            DeviceRequest::Children
        } else {
            DeviceRequest::Info
        };
        let answer = self.context.connection.exchange_after_stop(request).await?;
        let readings = if is_strip {
            OutletReading::children(&answer)
        } else {
            vec![OutletReading::of(&answer)]
        };
        let is_off = |outlet: &&Unguarded| {
            let child = outlet.address.child.as_deref();
            let of_outlet =
                |reading: &&OutletReading| child.is_none() || reading.child_id.as_deref() == child;
            readings.iter().find(of_outlet).and_then(|reading| reading.power) == Some(Power::Off)
        };
        let off = unguarded.iter().filter(is_off);
        Ok(off.map(|outlet| outlet.address.key.clone()).collect())
    }
}
