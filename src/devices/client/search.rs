//! The search for devices, shared by the workers that lost theirs and by the finder of new ones.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::discovery::{Discovered, LISTEN, discover};
use crate::{
    domain::search_area::SearchArea,
    system::{
        interfaces::private_networks,
        network::{ADDRESSES_MAX, Network},
    },
};

/// All workers use the same answers for this long: a thousand unreachable devices must not cause a thousand broadcasts.
const FRESH: Duration = Duration::from_secs(2);
/// Addresses that are asked at the same time, one by one, for a second: 256 take four.
const AT_A_TIME: usize = 64;
/// Devices that are woken at the same time. The others wait until their next attempt.
const WAKING: usize = 8;

/// Asks the network, in the area that the settings name and nowhere else. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::devices) struct NetworkSearch(Arc<SearchState>);

#[derive(Debug)]
struct SearchState {
    area: Mutex<SearchArea>,
    searching: Semaphore,
    waking: Semaphore,
    /// To the last broadcast.
    answers: Mutex<Option<Answers>>,
    /// The devices of the last complete search, by their MAC.
    seen: Mutex<HashMap<String, Discovered>>,
    /// The MACs of the devices that are lost and that no broadcast finds.
    lost: Mutex<HashSet<String>>,
    is_lost: Notify,
    /// A complete search found one of them.
    is_back: Notify,
}

type Answers = (Instant, Arc<[Discovered]>);

impl NetworkSearch {
    /// Asks there.
    pub(in crate::devices) fn new(area: SearchArea) -> Self {
        Self(Arc::new(SearchState {
            area: Mutex::new(area),
            searching: Semaphore::new(1),
            waking: Semaphore::new(WAKING),
            answers: Mutex::default(),
            seen: Mutex::default(),
            lost: Mutex::default(),
            is_lost: Notify::new(),
            is_back: Notify::new(),
        }))
    }

    /// Asks somewhere else from now on.
    pub(in crate::devices) fn set_area(&self, area: SearchArea) {
        let mut current = locked(&self.0.area);
        if *current != area {
            *current = area;
            drop(current);
            locked(&self.0.answers).take();
        }
    }

    /// Where the device with this MAC answers now, if it is not where it is looked for already. One broadcast at a time; the
    /// others read its answers. A device that it does not reach is found by the next complete search, which is requested.
    pub(in crate::devices) async fn find(self, mac: String, known: String) -> Option<Discovered> {
        let answers = {
            let _turn = self.0.searching.acquire().await.ok()?;
            self.broadcast().await
        };
        let answer = answers.iter().find(|found| found.mac.as_deref() == Some(&mac));
        if let Some(found) = answer {
            return Some(found.clone());
        }
        let seen = locked(&self.0.seen).get(&mac).cloned();
        let seen = seen.filter(|seen| seen.address() != known);
        if seen.is_none() {
            locked(&self.0.lost).insert(mac);
            self.0.is_lost.notify_one();
        }
        seen
    }

    /// Whether the last complete search saw a device somewhere else.
    pub(in crate::devices) fn is_elsewhere(&self, mac: &str, known: &str) -> bool {
        let seen = locked(&self.0.seen);
        seen.get(mac).is_some_and(|seen| seen.address() != known)
    }

    /// Asks all devices by broadcast, and address by address in each network in which none answered.
    pub(in crate::devices) async fn complete(&self) -> Vec<Discovered> {
        let mut found = {
            let Ok(_turn) = self.0.searching.acquire().await else {
                return Vec::new();
            };
            self.broadcast().await.to_vec()
        };
        let area = locked(&self.0.area).clone();
        found.extend(sweep(silent(&area, &found)).await);
        let by_mac = found
            .iter()
            .filter_map(|found| Some((found.mac.clone()?, found.clone())));
        let seen: HashMap<String, Discovered> = by_mac.collect();
        if locked(&self.0.lost).iter().any(|mac| seen.contains_key(mac)) {
            self.0.is_back.notify_one();
        }
        *locked(&self.0.seen) = seen;
        found
    }

    /// Resolves when a device is lost and no broadcast found it.
    pub(in crate::devices) async fn lost(&self) {
        self.0.is_lost.notified().await;
    }

    /// Resolves with the lost devices that a complete search found.
    pub(in crate::devices) async fn back(&self) -> HashSet<String> {
        self.0.is_back.notified().await;
        let seen = locked(&self.0.seen);
        let mut lost = locked(&self.0.lost);
        lost.extract_if(|mac| seen.contains_key(mac)).collect()
    }

    /// Queries one device, which makes some open their web server. Returns its answer.
    pub(in crate::devices) async fn wake(&self, device: IpAddr) -> Option<Discovered> {
        let _turn = self.0.waking.try_acquire().ok()?;
        discover(&[device], LISTEN).await.into_iter().next()
    }

    async fn broadcast(&self) -> Arc<[Discovered]> {
        if let Some((at, found)) = locked(&self.0.answers).as_ref()
            && at.elapsed() < FRESH
        {
            return found.clone();
        }
        let area = locked(&self.0.area).clone();
        let found: Arc<[Discovered]> = discover(&targets(&area), LISTEN).await.into();
        *locked(&self.0.answers) = Some((Instant::now(), found.clone()));
        found
    }
}

/// Asks all devices of an area once, and takes answers to the broadcast for `wait`.
pub async fn find_devices(area: &SearchArea, wait: Duration) -> Vec<Discovered> {
    let mut found = discover(&targets(area), wait).await;
    found.extend(sweep(silent(area, &found)).await);
    found
}

fn networks(area: &SearchArea) -> Vec<Network> {
    area.networks.clone().unwrap_or_else(private_networks)
}

/// The broadcast addresses of an area, and what is to be asked besides.
fn targets(area: &SearchArea) -> Vec<IpAddr> {
    let broadcasts = networks(area).into_iter().filter_map(Network::broadcast);
    broadcasts
        .map(IpAddr::from)
        .chain(area.targets.iter().copied())
        .collect()
}

/// Asks many addresses, some at a time: for each of them the network has to find out who has it.
async fn sweep(addresses: Vec<IpAddr>) -> Vec<Discovered> {
    let mut found = Vec::new();
    for addresses in addresses.chunks(AT_A_TIME) {
        found.extend(discover(addresses, LISTEN).await);
    }
    found
}

/// The addresses of the networks in which no device answered a broadcast, as many as are asked at once. A target was
/// asked by itself, so its answer does not show that broadcasts arrive.
fn silent(area: &SearchArea, found: &[Discovered]) -> Vec<IpAddr> {
    let mut left = ADDRESSES_MAX;
    let by_broadcast = found.iter().filter(|found| !area.targets.contains(&found.ip));
    let networks = networks(area).into_iter();
    let silent = networks.filter(|network| {
        let mut by_broadcast = by_broadcast.clone();
        let answered = by_broadcast.any(|found| matches!(found.ip, IpAddr::V4(ip) if network.contains(ip)));
        let fits = network.size() <= left;
        if !answered && fits {
            left -= network.size();
        }
        !answered && fits
    });
    silent.flat_map(Network::hosts).map(IpAddr::from).collect()
}

/// Held for a few instructions at a time, never over an await.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::UdpSocket;

    use super::*;

    const MAC: &str = "aa:bb:cc:00:11:22";

    /// Answers queries at an address for a while; returns how many there were.
    async fn device_at(ip: IpAddr) -> impl Future<Output = usize> {
        let device = UdpSocket::bind((ip, 20002)).await.unwrap();
        async move {
            let (mut buffer, mut asked) = (vec![0; 2048], 0);
            while let Ok(Ok((_, from))) =
                tokio::time::timeout(LISTEN * 2, device.recv_from(&mut buffer)).await
            {
                asked += 1;
                let mut answer = vec![0; 16];
                answer.extend(br#"{"result":{"mac":"AA-BB-CC-00-11-22"}}"#);
                device.send_to(&answer, from).await.unwrap();
            }
            asked
        }
    }

    /// One simulated device answers each query; all searches but one read its answer.
    #[tokio::test]
    async fn a_thousand_searches_send_one_query() {
        let target = IpAddr::from([127, 20, rand::random(), 2]);
        let tasks = crate::system::tasks::Tasks::default();
        let asked = tasks.spawn("device", device_at(target).await);
        let search = NetworkSearch::new(SearchArea {
            targets: vec![target],
            ..SearchArea::default()
        });
        let searches: Vec<_> = (0..1000)
            .map(|_| tasks.spawn("search", search.clone().find(MAC.to_owned(), String::new())))
            .collect();
        for search in searches {
            assert_eq!(search.await.unwrap().map(|found| found.ip), Some(target));
        }
        assert_eq!(asked.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_device_that_hears_no_broadcast_is_found_one_by_one() {
        let ip = Ipv4Addr::new(127, 21, rand::random(), 6);
        let tasks = crate::system::tasks::Tasks::default();
        let asked = tasks.spawn("device", device_at(ip.into()).await);
        let search = NetworkSearch::new(SearchArea {
            networks: Some(vec![format!("{ip}/28").parse().unwrap()]),
            targets: Vec::new(),
        });
        let find = |known: &str| search.clone().find(MAC.to_owned(), known.to_owned());
        assert_eq!(find("").await, None);
        search.lost().await;
        assert_eq!(search.complete().await.len(), 1);
        assert_eq!(search.back().await, [MAC.to_owned()].into());
        assert!(search.is_elsewhere(MAC, "") && !search.is_elsewhere(MAC, &ip.to_string()));
        assert_eq!(find("").await.map(|found| found.ip), Some(ip.into()));
        assert_eq!(find(&ip.to_string()).await, None, "nothing new");
        assert_eq!(asked.await.unwrap(), 2, "a query may be lost");
    }

    #[test]
    fn only_networks_without_an_answer_are_asked_one_by_one() {
        let area = |networks: &[&str], targets: &[[u8; 4]]| SearchArea {
            networks: Some(networks.iter().map(|text| text.parse().unwrap()).collect()),
            targets: targets.iter().copied().map(IpAddr::from).collect(),
        };
        let found = Discovered::of([10, 0, 1, 2].into(), &serde_json::Value::Null);
        let three = ["10.0.0.0/30", "10.0.1.0/30", "10.0.4.0/22"];
        let asked = silent(&area(&three, &[]), std::slice::from_ref(&found));
        let hosts = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        assert_eq!(asked, hosts, "not more than are asked at once");
        assert_eq!(silent(&area(&three[2..], &[]), &[]).len(), ADDRESSES_MAX - 2);
        let asked = silent(&area(&three[1..2], &[[10, 0, 1, 2]]), &[found]);
        let hosts = [[10, 0, 1, 1], [10, 0, 1, 2]].map(IpAddr::from);
        assert_eq!(asked, hosts, "a target answers without a broadcast");
    }
}
