//! The faults that are on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::rngs::StdRng;
use tokio::sync::watch;

use super::{Fault, FaultKind};

/// The faults of one device. Clones share them.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Table {
    active: BTreeMap<FaultKind, Fault>,
    /// How often the fault that closes the port was set.
    port_closings: u64,
    /// How often the fault that flips the protocol came or went.
    protocol_flips: u64,
    rng: StdRng,
}

impl Table {
    fn count_flip(&mut self, kind: FaultKind) {
        self.protocol_flips += u64::from(kind == FaultKind::ProtocolFlip);
    }
}

impl Faults {
    pub(crate) fn new(faults: impl IntoIterator<Item = Fault>, rng: StdRng) -> Self {
        let table = Table {
            active: BTreeMap::new(),
            port_closings: 0,
            protocol_flips: 0,
            rng,
        };
        let new = Self(Arc::new(Shared {
            table: Mutex::new(table),
            changes: watch::Sender::new(0),
        }));
        faults.into_iter().for_each(|fault| new.set(fault));
        new
    }

    /// Switches a fault on, in place of an earlier one of its kind.
    pub fn set(&self, fault: Fault) {
        {
            let mut table = self.table();
            table.port_closings += u64::from(fault == Fault::PortClosedUntilProbed);
            let kind = fault.kind();
            if table.active.insert(kind, fault).is_none() {
                table.count_flip(kind);
            }
        }
        self.changed();
    }

    /// Switches a fault off.
    pub fn clear(&self, kind: FaultKind) {
        {
            let mut table = self.table();
            if table.active.remove(&kind).is_some() {
                table.count_flip(kind);
            }
        }
        self.changed();
    }

    /// Switches all faults off.
    pub fn clear_all(&self) {
        for fault in self.active() {
            self.clear(fault.kind());
        }
    }

    /// The faults that are on, with what is left of their `times`.
    pub fn active(&self) -> Vec<Fault> {
        self.table().active.values().cloned().collect()
    }

    /// Whether a fault of this kind is on.
    pub fn is_set(&self, kind: FaultKind) -> bool {
        self.table().active.contains_key(&kind)
    }

    pub(crate) fn get(&self, kind: FaultKind) -> Option<Fault> {
        self.table().active.get(&kind).cloned()
    }

    /// The fault of this kind if it hits a request with these methods and passes `applies`. One of
    /// its `times` is then used up.
    pub(crate) fn hit(
        &self,
        kind: FaultKind,
        methods: &[String],
        applies: impl FnOnce(&Fault) -> bool,
    ) -> Option<Fault> {
        let mut table = self.table();
        let fault = table.active.get_mut(&kind)?;
        if !applies(fault) {
            return None;
        }
        let scope = fault.scope_mut()?;
        if !scope.covers(methods) {
            return None;
        }
        let last = match &mut scope.times {
            Some(0) => return None,
            Some(times) => {
                *times -= 1;
                *times == 0
            }
            None => false,
        };
        let hit = fault.clone();
        if last {
            table.active.remove(&kind);
        }
        Some(hit)
    }

    /// How long the next request takes.
    pub(crate) fn latency(&self) -> Duration {
        let mut table = self.table();
        match table.active.get(&FaultKind::Latency) {
            Some(Fault::Latency { latency }) => latency.sample(&mut table.rng),
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn protocol_flips(&self) -> u64 {
        self.table().protocol_flips
    }

    pub(crate) fn port_closings(&self) -> u64 {
        self.table().port_closings
    }

    /// Changes whenever a fault is set or cleared.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn changed(&self) {
        self.0.changes.send_modify(|version| *version += 1);
    }

    /// No panic is possible while the lock is held, so a poisoned table is still whole.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;
    use crate::{Latency, Scope};

    fn faults() -> Faults {
        Faults::new([], StdRng::seed_from_u64(1))
    }

    #[test]
    fn a_fault_hits_its_methods_as_often_as_it_says() {
        let faults = faults();
        let scope = Scope::method("set_device_info").times(1);
        faults.set(Fault::HttpStatus { status: 429, scope });
        let hit = |method: &str| faults.hit(FaultKind::HttpStatus, &[method.to_owned()], |_| true);
        assert_eq!(hit("get_device_info"), None);
        assert!(hit("set_device_info").is_some());
        assert_eq!(hit("set_device_info"), None);
        assert!(!faults.is_set(FaultKind::HttpStatus));
    }

    #[test]
    fn latencies_follow_the_seed_and_stay_in_their_bounds() {
        let sample = || {
            let faults = faults();
            let (min, max) = (Duration::from_millis(5), Duration::from_millis(9));
            let latency = Latency::Uniform { min, max };
            faults.set(Fault::Latency { latency });
            (0..50).map(|_| faults.latency()).collect::<Vec<_>>()
        };
        let times = sample();
        assert_eq!(times, sample());
        assert!(times.iter().all(|time| (5..=9).contains(&time.as_millis())));
        assert!(times.iter().any(|time| *time != times[0]));
    }
}
