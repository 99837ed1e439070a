//! Looks names up. The system's resolver may hang for half a minute, and each look-up occupies a thread meanwhile.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout},
};

/// Look-ups at the same time.
const LOOKUPS_MAX: usize = 8;
/// How long an address counts without a new look-up.
const FRESH: Duration = Duration::from_mins(1);
/// How long a caller waits for one. It goes on, for the next caller.
const BUDGET: Duration = Duration::from_secs(5);

/// Of this process.
static RESOLVER: LazyLock<Resolver> = LazyLock::new(|| Resolver::new(by_system));

/// A host and perhaps a port, with the address of the host in its place. Brackets have an address in them.
///
/// # Errors
/// If the host has no address.
pub(crate) async fn resolved(host_and_port: &str) -> io::Result<String> {
    if host_and_port.starts_with('[') {
        return Ok(host_and_port.to_owned());
    }
    let (host, port) = match host_and_port.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (host_and_port, None),
    };
    let address = match RESOLVER.resolve(host).await? {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    Ok(port.map_or_else(|| address.clone(), |port| format!("{address}:{port}")))
}

/// Names and the addresses that they had last. Clones share them.
#[derive(Debug, Clone)]
struct Resolver {
    look_up: fn(&str) -> io::Result<IpAddr>,
    names: Arc<Mutex<BTreeMap<String, LastLookup>>>,
    permits: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct LastLookup {
    address: Option<(IpAddr, Instant)>,
    is_running: bool,
}

impl Resolver {
    fn new(look_up: fn(&str) -> io::Result<IpAddr>) -> Self {
        Self {
            look_up,
            names: Arc::default(),
            permits: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }

    /// The address of a name; an IP address is its own. Where the look-up fails or hangs, the one that the name had last.
    ///
    /// # Errors
    /// If the name has had none.
    async fn resolve(&self, name: &str) -> io::Result<IpAddr> {
        if let Ok(address) = name.parse() {
            return Ok(address);
        }
        let last = self.names().get(name).and_then(|last| last.address);
        if let Some((address, at)) = last
            && at.elapsed() < FRESH
        {
            return Ok(address);
        }
        let looked_up = timeout(BUDGET, self.look_up(name)).await;
        let late = |_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the name look-up takes too long",
            ))
        };
        let found = looked_up.unwrap_or_else(late);
        found.or_else(|error| last.map(|(address, _)| address).ok_or(error))
    }

    /// One look-up per name at a time: those that hang do not add up.
    async fn look_up(&self, name: &str) -> io::Result<IpAddr> {
        let closed = |_| io::Error::other("stopped");
        let permit = self.permits.clone().acquire_owned().await.map_err(closed)?;
        if std::mem::replace(
            &mut self.names().entry(name.to_owned()).or_default().is_running,
            true,
        ) {
            return Err(io::Error::other("an earlier look-up of the name still runs"));
        }
        let (this, owned) = (self.clone(), name.to_owned());
        let running = spawn_blocking(move || {
            let found = (this.look_up)(&owned);
            let mut names = this.names();
            let last = names.entry(owned).or_default();
            last.is_running = false;
            if let Ok(address) = found {
                last.address = Some((address, Instant::now()));
            }
            drop(permit);
            found
        });
        running.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// A panic while the lock is held can only come from an allocation failure; the map stays usable.
    fn names(&self) -> MutexGuard<'_, BTreeMap<String, LastLookup>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// IPv4 before IPv6: most devices have no other.
fn by_system(name: &str) -> io::Result<IpAddr> {
    let mut addresses: Vec<IpAddr> = (name, 0).to_socket_addrs()?.map(|address| address.ip()).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    let none = || io::Error::other("the name has no address");
    addresses.first().copied().ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicUsize, Ordering},
        thread::park,
    };

    use super::*;
    use crate::system::tasks::Tasks;

    const FOUND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    #[tokio::test]
    async fn names_of_this_machine_are_found() {
        for (given, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:8080", "192.0.2.7:8080"),
            ("[fd00::5]:80", "[fd00::5]:80"),
            ("localhost:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(resolved(given).await.unwrap(), expected);
        }
        assert!(resolved("no-such-name.invalid").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_keeps_its_address_when_the_name_server_fails() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::new(|_| match ASKED.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(FOUND),
            _ => Err(io::ErrorKind::NotFound.into()),
        });
        assert!(resolver.resolve("plug").await.is_ok());
        assert!(resolver.resolve("plug").await.is_ok());
        assert_eq!(ASKED.load(Ordering::SeqCst), 1, "it is remembered for a minute");
        tokio::time::advance(FRESH).await;
        assert_eq!(resolver.resolve("plug").await.unwrap(), FOUND);
        assert_eq!(ASKED.load(Ordering::SeqCst), 2);
        assert!(resolver.resolve("other").await.is_err());
    }

    #[test]
    fn look_ups_that_hang_are_bounded() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::new(|_| {
            RUNNING.fetch_add(1, Ordering::SeqCst);
            loop {
                park();
            }
        });
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let tasks = Tasks::default();
            let looked_up: Vec<_> = (0..100)
                .map(|number| {
                    let resolver = resolver.clone();
                    tasks.spawn("test", async move {
                        resolver.resolve(&format!("plug-{number}")).await
                    })
                })
                .collect();
            while RUNNING.load(Ordering::SeqCst) < LOOKUPS_MAX {
                tokio::task::yield_now().await;
            }
            tokio::time::advance(BUDGET).await;
            for result in looked_up {
                assert_eq!(result.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
            }
        });
        assert_eq!(RUNNING.load(Ordering::SeqCst), LOOKUPS_MAX);
        // They never end.
        runtime.shutdown_background();
    }
}
