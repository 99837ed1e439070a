//! Switches that were sent and that the device did not confirm yet. Pure.

use jiff::SignedDuration;
use planner::{OutletKey, Power, Steady};

use crate::devices::state::RelayChange;

/// A device that was busy may carry out a switch this long after it was sent.
const LATE: SignedDuration = SignedDuration::from_secs(30);

/// Which switches were sent to the relays, so that one that is carried out late does not look like an external change.
#[derive(Debug, Default)]
pub(super) struct UnconfirmedSwitches(Vec<SentSwitch>);

#[derive(Debug)]
struct SentSwitch {
    outlet: Option<OutletKey>,
    power: Power,
    at: Steady,
}

impl UnconfirmedSwitches {
    /// A switch is sent. An earlier one of the same outlet may still be carried out before it.
    pub(super) fn sent(&mut self, outlet: Option<OutletKey>, power: Power, now: Steady) {
        self.forget_old(now);
        self.0.retain(|sent| sent.outlet != outlet || sent.power != power);
        self.0.push(SentSwitch {
            outlet,
            power,
            at: now,
        });
    }

    /// The device confirmed a state: no switch of this outlet is open any more.
    pub(super) fn confirmed(&mut self, outlet: Option<&OutletKey>) {
        self.0.retain(|sent| sent.outlet.as_ref() != outlet);
    }

    /// Whether a switch that was sent made this change; if so, it is not open any more.
    pub(super) fn explains(&mut self, change: &RelayChange, now: Steady) -> bool {
        self.forget_old(now);
        let ours = |sent: &SentSwitch| sent.outlet == change.outlet && sent.power == change.power;
        let found = self.0.iter().any(ours);
        self.0.retain(|sent| !ours(sent));
        found
    }

    /// When an ON was sent to an outlet that is not confirmed yet.
    pub(super) fn on_sent_at(&self, outlet: Option<&OutletKey>) -> Option<Steady> {
        let mut sent = self.0.iter();
        sent.find(|sent| sent.outlet.as_ref() == outlet && sent.power == Power::On)
            .map(|sent| sent.at)
    }

    fn forget_old(&mut self, now: Steady) {
        self.0.retain(|sent| now.since(sent.at) < LATE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::state::ChangeSign;

    fn change(outlet: &str, power: Power) -> RelayChange {
        RelayChange {
            outlet: Some(outlet.parse().unwrap()),
            power,
            sign: ChangeSign::Read,
        }
    }

    #[test]
    fn a_switch_explains_its_own_change_once_and_for_a_while() {
        let (mut unconfirmed, start) = (
            UnconfirmedSwitches::default(),
            Steady::at(jiff::Timestamp::UNIX_EPOCH),
        );
        let key = || Some("1".parse().unwrap());
        unconfirmed.sent(key(), Power::On, start);
        assert_eq!(unconfirmed.on_sent_at(key().as_ref()), Some(start));
        assert!(!unconfirmed.explains(&change("1", Power::Off), start));
        assert!(!unconfirmed.explains(&change("2", Power::On), start));
        assert!(unconfirmed.explains(&change("1", Power::On), start));
        assert!(!unconfirmed.explains(&change("1", Power::On), start));

        unconfirmed.sent(key(), Power::On, start);
        assert!(!unconfirmed.explains(&change("1", Power::On), start.after(LATE)));

        unconfirmed.sent(key(), Power::On, start);
        unconfirmed.confirmed(key().as_ref());
        assert!(!unconfirmed.explains(&change("1", Power::On), start));
    }
}
