//! Reloading the settings: on a signal, and on `bridge/request/reload`. Reading them before a restart.
//!
//! A task of its own reads the files, one reading at a time: they may be on a disk that hangs. Requests that arrive during
//! a reading get the result of the next one.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, mpsc},
    task::spawn_blocking,
    time::timeout,
    try_join,
};
use tracing::{debug, error, info, warn};

use crate::{
    config::{Account, Device, Loader, Problems, Settings, SettingsDiff},
    diagnostics::Diagnostics,
    domain::{
        devices::DeviceMsg,
        inventory::Inventory,
        one_line::{listed, one_line},
        request_reply::RequestReply,
        scheduling::{ReloadedRules, RequestError, SchedulerMsg},
        topics::Topics,
    },
    system::tasks::Tasks,
};
use planner::{rules::Rules, sensor::SensorSpec};

/// Requests that may wait for the next reading.
const REQUESTS_MAX: usize = 256;
/// How long reading may take, with a disk that hangs.
const BUDGET: Duration = Duration::from_secs(10);

/// Tries an account with devices, and keeps it beside the settings.
pub type KeepAccount = fn(Settings, Account) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Reads the settings again and sends them to the scheduler and the device owner.
#[derive(Debug)]
pub(super) struct Reloader {
    /// `None`: there are no settings to read again.
    loader: Option<Loader>,
    /// The settings in force, with the devices that were added while the bridge ran.
    running: Settings,
    /// The same without those devices.
    as_read: Settings,
    tasks: Tasks,
    devices: mpsc::Sender<DeviceMsg>,
    scheduler: mpsc::Sender<SchedulerMsg>,
    signal: Arc<Notify>,
    results: mpsc::Sender<ReadSettings>,
    read: mpsc::Receiver<ReadSettings>,
    trials: mpsc::Sender<RestartTrial>,
    tried: mpsc::Receiver<RestartTrial>,
    is_trying: bool,
    keep_account: KeepAccount,
    accounts: mpsc::Sender<AccountTrial>,
    tried_accounts: mpsc::Receiver<AccountTrial>,
    is_trying_account: bool,
    /// The requests that the reading in progress is for; `None` if there is none.
    reading: Option<Vec<RequestReply>>,
    /// The requests that the next reading is for.
    next: Vec<RequestReply>,
}

/// The result of a reading.
#[derive(Debug)]
pub(super) enum ReadSettings {
    /// Valid settings, and room for them in both inboxes.
    Valid(
        Box<Settings>,
        mpsc::OwnedPermit<DeviceMsg>,
        mpsc::OwnedPermit<SchedulerMsg>,
    ),
    /// Every problem.
    Invalid(Vec<String>),
}

/// Whether the bridge could start again, for a request.
#[derive(Debug)]
pub(super) struct RestartTrial {
    result: Result<(), Vec<String>>,
    reply: RequestReply,
}

/// Whether an account is kept, for a request.
pub(super) type AccountTrial = (Result<(), String>, RequestReply);

/// What is to be done.
#[derive(Debug)]
pub(super) enum ReloadStep {
    /// A signal requested a reload.
    Signal,
    /// A reading is done.
    Read(ReadSettings),
    /// A restart was tried.
    Tried(RestartTrial),
    /// An account was tried.
    AccountTried(AccountTrial),
}

/// What a reload changes in the event loop.
#[derive(Debug)]
pub(super) struct Reloaded {
    /// The settings before.
    pub(super) before: Settings,
    difference: SettingsDiff,
}

impl Reloader {
    /// `running` are the settings in force, and `as_read` those of them that were read.
    pub(super) fn new(
        loader: Option<Loader>,
        keep_account: KeepAccount,
        running: Settings,
        as_read: Settings,
        tasks: Tasks,
        devices: mpsc::Sender<DeviceMsg>,
        scheduler: mpsc::Sender<SchedulerMsg>,
    ) -> Self {
        // One reading at a time, so there is always room.
        let (results, read) = mpsc::channel(1);
        let (trials, tried) = mpsc::channel(1);
        let (accounts, tried_accounts) = mpsc::channel(1);
        Self {
            loader,
            running,
            as_read,
            tasks,
            devices,
            scheduler,
            signal: Arc::default(),
            results,
            read,
            trials,
            tried,
            is_trying: false,
            keep_account,
            accounts,
            tried_accounts,
            is_trying_account: false,
            reading: None,
            next: Vec::new(),
        }
    }

    /// Notified when the settings are to be read again.
    pub(super) fn signal(&self) -> Arc<Notify> {
        self.signal.clone()
    }

    /// The settings in force.
    pub(super) fn running(&self) -> &Settings {
        &self.running
    }

    /// The settings without what was added to them while the bridge runs.
    pub(super) fn as_read(&self) -> &Settings {
        &self.as_read
    }

    /// The devices of the settings.
    pub(super) fn configured(&self) -> &[Device] {
        &self.as_read.devices
    }

    /// Uses the added devices of an inventory. `None`: they are those in force.
    ///
    /// # Errors
    /// There is no room in an inbox now; nothing is changed.
    pub(super) fn apply_inventory(
        &mut self,
        inventory: &Inventory,
    ) -> Result<Option<Reloaded>, RequestError> {
        let mut settings = self.as_read.with_inventory(inventory);
        // The worker of a device that moved finds it by itself, and reports that.
        for device in settings.devices.iter_mut().filter(|device| device.mac.is_some()) {
            let same = |before: &&Device| before.id == device.id && before.mac == device.mac;
            if let Some(before) = self.running.devices.iter().find(same) {
                device.address.clone_from(&before.address);
            }
        }
        if settings == self.running {
            return Ok(None);
        }
        let room = self.devices.clone().try_reserve_owned().ok();
        let room = room.zip(self.scheduler.clone().try_reserve_owned().ok());
        let (to_devices, to_scheduler) = room.ok_or(RequestError::Busy)?;
        let (settings, difference) = SettingsDiff::compare(&self.running, settings);
        Ok(Some(self.send(settings, difference, to_devices, to_scheduler)))
    }

    /// The next step. May be dropped at any time without losing anything.
    pub(super) async fn step(&mut self) -> ReloadStep {
        tokio::select! {
            () = self.signal.notified() => ReloadStep::Signal,
            Some(read) = self.read.recv() => ReloadStep::Read(read),
            Some(tried) = self.tried.recv() => ReloadStep::Tried(tried),
            Some(tried) = self.tried_accounts.recv() => ReloadStep::AccountTried(tried),
        }
    }

    /// Reads the settings on a signal, which gets no reply.
    pub(super) fn on_signal(&mut self) {
        info!("reload requested by a signal");
        self.add(RequestReply::new(|_| {}));
    }

    /// Reads the settings on a request.
    pub(super) fn on_request(&mut self, reply: RequestReply) {
        if self.loader.is_none() {
            let why = "this bridge has no settings to read again";
            reply.send(Err(RequestError::Disabled(why)));
        } else if self.next.len() >= REQUESTS_MAX {
            reply.send(Err(RequestError::Busy));
        } else {
            debug!("reload requested over MQTT");
            self.add(reply);
        }
    }

    /// Tries on a request whether the bridge could start again: a restart that cannot leaves a heater without it.
    pub(super) fn on_restart_request(&mut self, reply: RequestReply) {
        if self.is_trying {
            return reply.send(Err(RequestError::Busy));
        }
        info!("restart requested over MQTT");
        self.is_trying = true;
        let (loader, trials) = (self.loader.clone(), self.trials.clone());
        self.tasks.spawn("reload", async move {
            let result = match loader {
                None => Ok(()),
                Some(loader) => in_time(move || loader.try_restart()).await,
            };
            // Fails only after the event loop ended.
            let _ended = trials.send(RestartTrial { result, reply }).await;
        });
    }

    /// Replies to a request whose restart was tried, with an error from `restart` if it cannot be carried out.
    pub(super) fn on_restart_tried(
        &mut self,
        trial: RestartTrial,
        restart: impl FnOnce() -> Result<(), RequestError>,
    ) {
        self.is_trying = false;
        let result = trial.result.map_err(|reasons| {
            for reason in logged(&reasons) {
                error!(%reason, "the bridge could not start again; not restarted");
            }
            RequestError::InvalidSettings(one_line(&reasons))
        });
        trial
            .reply
            .send(result.and_then(|()| restart()).map(|()| Value::Null));
    }

    /// Replies with what is in the state file, which may be on a disk that hangs.
    pub(super) fn on_backup_request(&self, reply: RequestReply) {
        let Some(location) = self.running.state_location() else {
            return reply.send(Err(RequestError::Disabled("this bridge keeps no state")));
        };
        self.tasks.spawn("backup", async move {
            let backup = in_time(move || location.backup().map_err(|why| vec![why])).await;
            reply.send(backup.map_err(|why| RequestError::State(why.join("; "))));
        });
    }

    /// Replies with one file, which takes a while to make.
    pub(super) fn on_diagnostics_request(&self, diagnostics: Diagnostics, reply: RequestReply) {
        self.tasks.spawn("diagnostics", async move {
            let zip = in_time(move || diagnostics.into_zip().map_err(|why| vec![why])).await;
            let zip = zip.map(|zip| json!({ "zip": STANDARD.encode(zip) }));
            reply.send(zip.map_err(|why| RequestError::Diagnostics(why.join("; "))));
        });
    }

    /// Tries an account that came by a request.
    pub(super) fn on_account_request(&mut self, account: Account, reply: RequestReply) {
        if self.running.tapo.credentials.is_some() && !self.running.tapo.is_kept {
            let why = "the settings have an account in [tapo], which is used; change it there";
            return reply.send(Err(RequestError::Disabled(why)));
        }
        if self.is_trying_account {
            return reply.send(Err(RequestError::Busy));
        }
        self.is_trying_account = true;
        let trial = (self.keep_account)(self.running.clone(), account);
        let accounts = self.accounts.clone();
        self.tasks.spawn("account", async move {
            // Fails only after the event loop ended.
            let _ended = accounts.send((trial.await, reply)).await;
        });
    }

    /// An account that is kept is read with the settings.
    pub(super) fn on_account_tried(&mut self, (result, reply): AccountTrial) {
        self.is_trying_account = false;
        match result {
            Ok(()) => self.on_request(reply),
            Err(why) => reply.send(Err(RequestError::Account(why))),
        }
    }

    /// No reading is carried out any more. The dropped replies report that the bridge is shutting down.
    pub(super) fn close(&mut self) {
        self.reading = None;
        self.next.clear();
    }

    /// Takes settings over that were read, if they are valid and fit a running bridge with these topics.
    ///
    /// # Errors
    /// Why nothing is changed: every reason.
    pub(super) fn apply(
        &mut self,
        read: ReadSettings,
        inventory: &Inventory,
        topics: &Topics,
    ) -> Result<Reloaded, Vec<String>> {
        let (read, to_devices, to_scheduler) = match read {
            ReadSettings::Invalid(reasons) => return Err(reasons),
            ReadSettings::Valid(read, to_devices, to_scheduler) => (*read, to_devices, to_scheduler),
        };
        self.check_devices(&read)?;
        let (as_read, of_file) = SettingsDiff::compare(&self.as_read, read);
        let all = as_read.with_inventory(inventory);
        let (settings, difference) = SettingsDiff::compare(&self.running, all);
        let difference = SettingsDiff {
            needs_restart: of_file.needs_restart,
            ..difference
        };
        check_sensors(&settings.rules, topics)?;
        self.as_read = as_read;
        Ok(self.send(settings, difference, to_devices, to_scheduler))
    }

    /// Has other settings in force.
    fn send(
        &mut self,
        settings: Settings,
        difference: SettingsDiff,
        to_devices: mpsc::OwnedPermit<DeviceMsg>,
        to_scheduler: mpsc::OwnedPermit<SchedulerMsg>,
    ) -> Reloaded {
        // First: it gets no report of a device that it does not know yet.
        to_scheduler.send(SchedulerMsg::Reload(ReloadedRules {
            rules: Arc::new(settings.rules.clone()),
            devices: settings.scheduler_devices(),
        }));
        to_devices.send(DeviceMsg::Reload(settings.device_set()));
        Reloaded {
            before: std::mem::replace(&mut self.running, settings),
            difference,
        }
    }

    /// Replies to the requests of the reading that is done, and starts the next one if there are requests for it.
    pub(super) fn reply(&mut self, outcome: &Result<Reloaded, Vec<String>>) {
        for reply in self.reading.take().unwrap_or_default() {
            reply.send(match outcome {
                Ok(reloaded) => Ok(json!(reloaded.difference)),
                Err(reasons) => Err(RequestError::InvalidSettings(one_line(reasons))),
            });
        }
        let next = std::mem::take(&mut self.next);
        if !next.is_empty() {
            self.start_reading(next);
        }
    }

    fn add(&mut self, reply: RequestReply) {
        if self.reading.is_some() {
            self.next.push(reply);
        } else {
            self.start_reading(vec![reply]);
        }
    }

    fn start_reading(&mut self, replies: Vec<RequestReply>) {
        let Some(loader) = self.loader.clone() else {
            warn!("reload ignored: this bridge has no settings to read again");
            return;
        };
        self.reading = Some(replies);
        let reading = read(loader, self.devices.clone(), self.scheduler.clone());
        let results = self.results.clone();
        self.tasks.spawn("reload", async move {
            if let Some(read) = reading.await {
                // Fails only after the event loop ended.
                let _ended = results.send(read).await;
            }
        });
    }

    /// An editor that empties a file before it writes it must not remove every device.
    fn check_devices(&self, read: &Settings) -> Result<(), Vec<String>> {
        if read.devices.is_empty() && !self.as_read.devices.is_empty() {
            let reason = "no [[device]] is left; if the file was not read while it was written, restart the \
                          bridge to remove all devices";
            return Err(vec![reason.to_owned()]);
        }
        Ok(())
    }
}

/// What `read` returns, unless it takes too long.
async fn in_time<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Vec<String>> + Send + 'static,
) -> Result<T, Vec<String>> {
    match timeout(BUDGET, spawn_blocking(read)).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(vec![error.to_string()]),
        Err(_) => Err(vec![format!(
            "the settings could not be read within {} s; check the disk that they and the files named in them are on",
            BUDGET.as_secs()
        )]),
    }
}

/// Reads the settings and waits for room in both inboxes. `None`: the bridge is stopping.
async fn read(
    loader: Loader,
    devices: mpsc::Sender<DeviceMsg>,
    scheduler: mpsc::Sender<SchedulerMsg>,
) -> Option<ReadSettings> {
    let settings = in_time(move || loader.load().map_err(Problems::into_reasons)).await;
    let settings = match settings {
        Ok(settings) => settings,
        Err(reasons) => return Some(ReadSettings::Invalid(reasons)),
    };
    // Room for both before either is sent, so that a reload is whole or not at all.
    let (to_devices, to_scheduler) = try_join!(devices.reserve_owned(), scheduler.reserve_owned()).ok()?;
    Some(ReadSettings::Valid(Box::new(settings), to_devices, to_scheduler))
}

/// The topics of sensors were checked against the base topic of the file, which is not in force before a restart.
fn check_sensors(rules: &Rules, topics: &Topics) -> Result<(), Vec<String>> {
    let reason = |spec: &SensorSpec| {
        let topic = &spec.topic()?.topic;
        let ours = topic.parse().is_ok_and(|topic| topics.claims(&topic));
        ours.then(|| {
            format!(
                "sensor {}: {topic} is a topic of this bridge until it is restarted",
                spec.id
            )
        })
    };
    let reasons: Vec<String> = rules.sensors.iter().filter_map(reason).collect();
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

impl Reloaded {
    /// The topics of sensors that are read in another way than before, or not at all. They are subscribed to again, so
    /// that the broker sends what it keeps there.
    pub(super) fn changed_sensor_topics<'a>(&'a self, now: &'a Rules) -> BTreeSet<&'a str> {
        let (before, now) = (by_topic(&self.before.rules.sensors), by_topic(&now.sensors));
        let topics: BTreeSet<&str> = before.keys().chain(now.keys()).copied().collect();
        topics
            .into_iter()
            .filter(|topic| before.get(topic) != now.get(topic))
            .collect()
    }
}

fn by_topic(sensors: &[SensorSpec]) -> BTreeMap<&str, Vec<&SensorSpec>> {
    let mut topics: BTreeMap<&str, Vec<&SensorSpec>> = BTreeMap::new();
    for spec in sensors {
        if let Some(source) = spec.topic() {
            topics.entry(&source.topic).or_default().push(spec);
        }
    }
    topics
}

/// Logs what a request or a search changed in the devices.
pub(super) fn log_devices(reloaded: &Reloaded) {
    let difference = &reloaded.difference;
    info!(
        added = %difference.added.join(", "),
        changed = %difference.changed.join(", "),
        removed = %difference.removed.join(", "),
        "devices changed"
    );
}

/// A line of the log for each reason, and one that counts the rest.
fn logged(reasons: &[String]) -> Vec<String> {
    let (listed, more) = listed(reasons);
    listed.iter().cloned().chain(more).collect()
}

/// Logs the outcome of a reload.
pub(super) fn log(outcome: &Result<Reloaded, Vec<String>>) {
    let difference = match outcome {
        Ok(reloaded) => &reloaded.difference,
        Err(reasons) => {
            for reason in logged(reasons) {
                error!(%reason, "invalid settings; nothing is changed");
            }
            return;
        }
    };
    info!(
        added = %difference.added.join(", "),
        changed = %difference.changed.join(", "),
        removed = %difference.removed.join(", "),
        "settings reloaded"
    );
    if !difference.needs_restart.is_empty() {
        warn!(sections = %difference.needs_restart.join(", "), "these settings changed and need a restart");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_reported_after_ten_seconds() {
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let read = in_time(move || {
            let _released = hold.recv();
            Ok(())
        });
        let waited = async {
            // A blocking task holds the paused clock.
            tokio::task::yield_now().await;
            tokio::time::advance(BUDGET).await;
        };
        let (result, ()) = tokio::join!(read, waited);
        let reasons = result.unwrap_err();
        assert!(
            reasons[0].contains("could not be read within 10 s"),
            "{reasons:?}"
        );
        drop(release);
    }
}
