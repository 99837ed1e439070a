//! Switches that were sent and that the device did not confirm yet. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::devices::state::RelayChange;
use planner::{OutletKey, Power};

/// A device that was busy may carry out a switch this long after it was sent.
const LATE: Duration = Duration::from_secs(30);

/// What was asked of the relays, so that a switch carried out late is not taken for somebody else's.
#[derive(Debug, Default)]
pub(super) struct UnconfirmedSwitches(Vec<SentSwitch>);

#[derive(Debug)]
struct SentSwitch {
    outlet: Option<OutletKey>,
    power: Power,
    until: Instant,
}

impl UnconfirmedSwitches {
    /// A switch leaves. An earlier one of the same outlet may still be carried out before it.
    pub(super) fn sent(&mut self, outlet: Option<OutletKey>, power: Power, now: Instant) {
        self.0
            .retain(|sent| sent.until > now && (sent.outlet != outlet || sent.power != power));
        let until = now + LATE;
        self.0.push(SentSwitch { outlet, power, until });
    }

    /// The device confirmed a state: nothing that was asked of this outlet is open any more.
    pub(super) fn confirmed(&mut self, outlet: Option<&OutletKey>) {
        self.0.retain(|sent| sent.outlet.as_ref() != outlet);
    }

    /// Whether a change may be what we asked for; if so, that is settled.
    pub(super) fn explains(&mut self, change: &RelayChange, now: Instant) -> bool {
        self.0.retain(|sent| sent.until > now);
        let ours = |sent: &SentSwitch| sent.outlet == change.outlet && sent.power == change.power;
        let found = self.0.iter().any(ours);
        self.0.retain(|sent| !ours(sent));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(outlet: &str, power: Power) -> RelayChange {
        RelayChange {
            outlet: Some(outlet.parse().unwrap()),
            power,
        }
    }

    #[test]
    fn a_switch_explains_its_own_change_once_and_for_a_while() {
        let (mut unsettled, start) = (UnconfirmedSwitches::default(), Instant::now());
        let key = || Some("1".parse().unwrap());
        unsettled.sent(key(), Power::On, start);
        assert!(!unsettled.explains(&change("1", Power::Off), start));
        assert!(!unsettled.explains(&change("2", Power::On), start));
        assert!(unsettled.explains(&change("1", Power::On), start));
        assert!(!unsettled.explains(&change("1", Power::On), start));

        unsettled.sent(key(), Power::On, start);
        assert!(!unsettled.explains(&change("1", Power::On), start + LATE));

        unsettled.sent(key(), Power::On, start);
        unsettled.confirmed(key().as_ref());
        assert!(!unsettled.explains(&change("1", Power::On), start));
    }
}
