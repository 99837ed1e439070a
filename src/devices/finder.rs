//! The search for new devices: at the start, from time to time, and when a device is lost.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use super::client::{
    discovery::Discovered, fault::Remedy, identity_registry::IdentityRegistry, opening::open_once,
    readings::DeviceReading, search::NetworkSearch,
};
use crate::{
    domain::{
        devices::{Credentials, DeviceConfig, DeviceEvent, DeviceSet, EventSenders},
        network_device::{LoginTrial, NetworkDevice},
    },
    system::resolver::resolved,
};

/// Between two complete searches that lost devices cause.
const BETWEEN_SEARCHES: Duration = Duration::from_secs(10);
/// Logins to devices that are not used, in one search: whatever answers must not hold up the next one.
const TRIALS_MAX: usize = 8;
/// After this, a device that refused the account is tried again. Devices lock themselves after a few wrong passwords.
const TRY_AGAIN: Duration = Duration::from_hours(6);

/// Searches for devices and tries those that no worker has.
pub(super) struct Finder {
    network: NetworkSearch,
    identities: IdentityRegistry,
    events: EventSenders,
    devices: watch::Receiver<Arc<DeviceSet>>,
    /// What the devices answered to a login, by their MAC.
    tried: HashMap<String, Tried>,
    /// When those without a result were tried last, by their MAC.
    attempted: HashMap<String, Instant>,
}

/// The result of a login.
struct Tried {
    at: Instant,
    account: Credentials,
    result: LoginTrial,
}

impl Tried {
    /// Whether another login can have another result.
    fn is_outdated(&self, account: &Credentials) -> bool {
        let refused = matches!(self.result, LoginTrial::Refused(_));
        self.account != *account || (refused && self.at.elapsed() >= TRY_AGAIN)
    }

    /// Whether it is still needed. One that answers no search may be back at once, and has still refused the account.
    fn is_kept(&self, is_there: bool) -> bool {
        is_there || self.at.elapsed() < TRY_AGAIN
    }
}

impl Finder {
    pub(super) fn new(
        network: NetworkSearch,
        identities: IdentityRegistry,
        events: EventSenders,
        devices: watch::Receiver<Arc<DeviceSet>>,
    ) -> Self {
        Self {
            network,
            identities,
            events,
            devices,
            tried: HashMap::new(),
            attempted: HashMap::new(),
        }
    }

    /// Searches for ever.
    pub(super) async fn run(mut self) {
        // Those that are searched only when they are lost are known.
        let mut is_due = self.interval().is_some();
        loop {
            if is_due {
                self.search().await;
            }
            let earliest = Instant::now() + BETWEEN_SEARCHES;
            is_due = tokio::select! {
                () = sleep(self.interval().unwrap_or_default()), if self.interval().is_some() => true,
                () = async {
                    self.network.lost().await;
                    sleep_until(earliest).await;
                } => true,
                changed = self.devices.changed() => match changed {
                    Ok(()) => self.interval().is_some(),
                    Err(_) => return,
                },
            };
        }
    }

    fn interval(&self) -> Option<Duration> {
        self.devices.borrow().search.interval
    }

    async fn search(&mut self) {
        let answers = self.network.complete().await;
        debug!(devices = answers.len(), "searched the network");
        let devices = self.devices.borrow_and_update().clone();
        if devices.search.interval.is_none() {
            return;
        }
        let mut untried = Vec::new();
        let mut found = Vec::new();
        for answer in answers {
            let Some(mac) = answer.mac.clone() else { continue };
            let tried = self.trial(&answer, &mac, &devices).await;
            if tried.is_none() {
                untried.push((self.attempted.get(&mac).copied(), answer.clone()));
            }
            found.push(network_device(&answer, mac, tried.unwrap_or(LoginTrial::Untried)));
        }
        let is_there = |mac: &str| found.iter().any(|device| device.mac == mac);
        self.attempted.retain(|mac, _| is_there(mac));
        self.tried.retain(|mac, tried| tried.is_kept(is_there(mac)));
        self.send(found).await;
        untried.sort_by_key(|(last, _)| *last);
        for (_, answer) in untried.into_iter().take(TRIALS_MAX) {
            if let Some(mac) = &answer.mac {
                self.attempted.insert(mac.clone(), Instant::now());
            }
            self.try_device(&answer, &devices).await;
        }
    }

    /// What is known about the use of a device; `None` if a login shows it.
    async fn trial(&self, answer: &Discovered, mac: &str, devices: &DeviceSet) -> Option<LoginTrial> {
        if let Some(obstacle) = answer.obstacle() {
            return Some(LoginTrial::Refused(obstacle.to_owned()));
        }
        let Some(account) = &devices.search.account else {
            return Some(LoginTrial::Untried);
        };
        if self.has_worker(answer, mac, devices).await {
            return Some(LoginTrial::Untried);
        }
        let tried = self.tried.get(mac).filter(|tried| !tried.is_outdated(account));
        tried.map(|tried| tried.result.clone())
    }

    /// Whether a worker has the device, or will have it: at most one program of ours sends requests to a device.
    async fn has_worker(&self, answer: &Discovered, mac: &str, devices: &DeviceSet) -> bool {
        if self.identities.has(mac) {
            return true;
        }
        for device in &devices.devices {
            let is_there = async {
                let address = resolved(&device.address).await;
                address.is_ok_and(|address| same_address(&address, &answer.address()))
            };
            let is_it = match &device.mac {
                Some(configured) => configured == mac,
                None => is_there.await,
            };
            if is_it {
                return true;
            }
        }
        false
    }

    /// Logs in to a device once, to read its name.
    async fn try_device(&mut self, answer: &Discovered, devices: &DeviceSet) {
        let (Some(account), Some(mac)) = (&devices.search.account, answer.mac.clone()) else {
            return;
        };
        let Some(config) = answer.with_account(account) else {
            return;
        };
        let config = DeviceConfig {
            mac: Some(mac.clone()),
            ..config
        };
        let opened = open_once(&config, devices.polling.request, &self.network).await;
        let (result, is_final) = match opened {
            Ok(opened) => (
                LoginTrial::Accepted(DeviceReading::of(&opened.info).nickname),
                true,
            ),
            Err(fault) => {
                let is_final = matches!(fault.remedy(), Remedy::WaitForUser | Remedy::KeepAway);
                (LoginTrial::Refused(fault.to_string()), is_final)
            }
        };
        if is_final {
            let tried = Tried {
                at: Instant::now(),
                account: account.clone(),
                result: result.clone(),
            };
            self.tried.insert(mac.clone(), tried);
        }
        self.send(vec![network_device(answer, mac, result)]).await;
    }

    async fn send(&self, found: Vec<NetworkDevice>) {
        // Fails only when the bridge stops.
        let _ended = self.events.mqtt.send(DeviceEvent::Found(found)).await;
    }
}

fn network_device(answer: &Discovered, mac: String, trial: LoginTrial) -> NetworkDevice {
    // With the region behind it: P110(UK).
    let model = answer.model.as_deref().and_then(|model| model.split('(').next());
    NetworkDevice {
        mac,
        address: answer.address(),
        model: model.map(str::to_owned),
        trial,
    }
}

/// Port 80 need not be named.
fn same_address(one: &str, other: &str) -> bool {
    let without_port = |address: &str| address.strip_suffix(":80").unwrap_or(address).to_owned();
    without_port(one) == without_port(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Secret;

    #[tokio::test(start_paused = true)]
    async fn a_device_that_is_gone_is_forgotten_after_hours() {
        let tried = Tried {
            at: Instant::now(),
            account: Credentials {
                username: "you@example.com".to_owned(),
                password: Secret::new("secret"),
            },
            result: LoginTrial::Refused("wrong".to_owned()),
        };
        tokio::time::advance(TRY_AGAIN / 2).await;
        assert!(tried.is_kept(false), "it would lock itself");
        tokio::time::advance(TRY_AGAIN / 2).await;
        assert_eq!((tried.is_kept(false), tried.is_kept(true)), (false, true));
    }
}
