//! Which connections are open, and which of them makes room for another.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// Connections at once. Pages have 32 streams at most, which leaves twice as many for requests.
const CONNECTIONS: usize = 96;

/// The open connections of a listener. When there are too many, one that has shown no login makes room.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<SharedTable>);

#[derive(Debug, Default)]
struct SharedTable {
    table: Mutex<ConnectionTable>,
    /// One may have room now that had none.
    changed: Notify,
}

/// An open connection; dropped, it is closed.
#[derive(Debug)]
pub(super) struct WebConnection {
    number: u64,
    shared: Arc<SharedTable>,
    cut: CancellationToken,
}

impl Connections {
    /// Room for a connection from this address. Closes another one for it if it must, and waits only while all that are
    /// open belong to who has logged in and are in use.
    pub(super) async fn open(&self, peer: IpAddr) -> WebConnection {
        let cut = CancellationToken::new();
        let open = OpenConnection {
            network: network(peer),
            active: Instant::now(),
            known: false,
            uses: 0,
            cut: cut.clone(),
        };
        let number = loop {
            if let Some(number) = self.0.table().insert(&open) {
                break number;
            }
            self.0.changed.notified().await;
        };
        WebConnection {
            number,
            shared: self.0.clone(),
            cut,
        }
    }
}

impl WebConnection {
    /// Resolves when another connection needs the room of this one.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// A request is served as long as the result lives.
    pub(super) fn begin(&self) -> ConnectionUse {
        self.shared.with(self.number, |open| {
            open.active = Instant::now();
            open.uses += 1;
        });
        ConnectionUse(Arc::new(Use {
            number: self.number,
            shared: self.shared.clone(),
        }))
    }
}

impl Drop for WebConnection {
    fn drop(&mut self) {
        self.shared.table().open.remove(&self.number);
        self.shared.changed.notify_one();
    }
}

/// A connection while a request of it is served. The use ends with the last clone.
#[derive(Debug, Clone)]
pub(super) struct ConnectionUse(Arc<Use>);

#[derive(Debug)]
struct Use {
    number: u64,
    shared: Arc<SharedTable>,
}

impl ConnectionUse {
    /// Who sends these requests may: a login was shown, or none is needed.
    pub(super) fn set_known(&self) {
        self.0.shared.with(self.0.number, |open| open.known = true);
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.shared
            .with(self.number, |open| open.uses = open.uses.saturating_sub(1));
        self.shared.changed.notify_one();
    }
}

impl SharedTable {
    fn table(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, number: u64, change: impl FnOnce(&mut OpenConnection)) {
        if let Some(open) = self.table().open.get_mut(&number) {
            change(open);
        }
    }
}

#[derive(Debug, Default)]
struct ConnectionTable {
    open: BTreeMap<u64, OpenConnection>,
    last: u64,
}

#[derive(Debug, Clone)]
struct OpenConnection {
    network: IpAddr,
    /// When it was opened, or its last request began.
    active: Instant,
    known: bool,
    /// Requests and streams that are served.
    uses: usize,
    cut: CancellationToken,
}

impl ConnectionTable {
    /// Returns `None` if there is no room.
    fn insert(&mut self, open: &OpenConnection) -> Option<u64> {
        if self.open.len() >= CONNECTIONS {
            let closed = self.open.remove(&self.dispensable()?)?;
            closed.cut.cancel();
        }
        self.last += 1;
        self.open.insert(self.last, open.clone());
        Some(self.last)
    }

    /// Of those without a login, one of whoever has most of them; else one that waits for its next request. The one of them
    /// that did nothing for the longest time.
    fn dispensable(&self) -> Option<u64> {
        let unknown = || self.open.iter().filter(|(_, open)| !open.known);
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (_, open) in unknown() {
            *counts.entry(open.network).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let of_most = unknown().filter(|(_, open)| counts.get(&open.network).copied() == most);
        let idle = || self.open.iter().filter(|(_, open)| open.uses == 0);
        let found = of_most.min_by_key(|(_, open)| open.active);
        let found = found.or_else(|| idle().min_by_key(|(_, open)| open.active));
        found.map(|(number, _)| *number)
    }
}

/// A home has a whole IPv6 network.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;

    async fn open(connections: &Connections, peer: &str) -> WebConnection {
        // Else all of them would be as old.
        advance(Duration::from_millis(1)).await;
        connections.open(peer.parse().unwrap()).await
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_most_without_a_login_makes_room() {
        let connections = Connections::default();
        let own = open(&connections, "192.0.2.1").await;
        let known = open(&connections, "192.0.2.2").await;
        known.begin().set_known();
        let mut crowd = Vec::new();
        for number in 0..2 * CONNECTIONS {
            crowd.push(open(&connections, &format!("2001:db8::{number:x}")).await);
        }
        let last_cut = crowd.iter().rposition(|one| one.cut.is_cancelled());
        assert_eq!(last_cut, Some(CONNECTIONS + 1), "the oldest of them");
        assert!(!own.cut.is_cancelled() && !known.cut.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_use_by_a_login_stays() {
        let connections = Connections::default();
        let (mut all, mut requests) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            let one = open(&connections, "192.0.2.1").await;
            let used = one.begin();
            used.set_known();
            requests.push(used);
            all.push(one);
        }
        let waits = timeout(Duration::from_hours(1), open(&connections, "192.0.2.2")).await;
        assert!(waits.is_err());
        // The first waits for its next request.
        drop(requests.remove(0));
        let _next = open(&connections, "192.0.2.2").await;
        assert!(all[0].cut.is_cancelled());
        assert!(all.iter().skip(1).all(|one| !one.cut.is_cancelled()));
        all.truncate(1);
        let _more = open(&connections, "192.0.2.2").await;
    }
}
