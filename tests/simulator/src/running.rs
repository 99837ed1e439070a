//! A device that runs.

use std::{net::SocketAddr, ops::Deref, sync::Arc, time::Duration};

use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Cause, Counters, Faults, Profile, Protocol, SimulatorError,
    core::Core,
    discovery,
    network::{Command, listen},
    outlet::{AutoOff, Moment},
    state::State,
};

/// A guard around a [`DeviceHandle`]: dropped, the device stops and all its connections die.
#[derive(Debug)]
pub struct RunningDevice {
    handle: DeviceHandle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl RunningDevice {
    pub(crate) fn new(core: Arc<Core>, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            handle: DeviceHandle { core },
            tasks,
            stop,
        }
    }

    /// A handle that others may keep. It does not keep the device running.
    pub fn handle(&self) -> DeviceHandle {
        self.handle.clone()
    }

    /// Stops the device and waits until its port and its connections are closed.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for RunningDevice {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Deref for RunningDevice {
    type Target = DeviceHandle;

    fn deref(&self) -> &DeviceHandle {
        &self.handle
    }
}

/// What can be seen of a device and done to it from outside the protocol.
#[derive(Debug, Clone)]
pub struct DeviceHandle {
    core: Arc<Core>,
}

impl DeviceHandle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.core.address()
    }

    /// Its profile.
    pub fn profile(&self) -> Profile {
        self.core.profile
    }

    /// What it speaks now.
    pub fn protocol(&self) -> Protocol {
        self.core.protocol()
    }

    /// Its id, as `get_device_info` has it.
    pub fn device_id(&self) -> &str {
        &self.core.identity.device_id
    }

    /// Its MAC address, as `get_device_info` and discovery have it.
    pub fn mac(&self) -> String {
        self.core.identity.mac()
    }

    /// The ids of a strip's outlets, in the order of their positions. Empty for a plug.
    pub fn child_ids(&self) -> Vec<String> {
        self.read(|state| {
            let ids = state.outlets.iter().filter_map(|outlet| outlet.child_id.clone());
            ids.collect()
        })
    }

    /// Whether the relay of an outlet is closed. Positions count from 1, which is also the outlet of a
    /// plug; an outlet that is not there is off.
    pub fn relay(&self, position: u8) -> bool {
        self.read(|state| state.outlet(position).is_some_and(|outlet| outlet.is_on()))
    }

    /// Whether the relay of an outlet is closed and no countdown of the device will open it.
    pub fn runs_without_countdown(&self, position: u8) -> bool {
        self.read(|state| {
            let outlet = state.outlet(position);
            outlet.is_some_and(|outlet| outlet.is_on() && outlet.rules.countdown_to() != Some(false))
        })
    }

    /// What the app would get for a request about the rules of an outlet; none if it is refused.
    pub fn ask_app(&self, position: u8, method: &str, params: &Value) -> Option<Value> {
        self.core.with_state(|state, now| {
            let outlet = state.outlet(position)?;
            let answer = outlet.rules.answer(method, params, now.device)?;
            Some(answer.ok()?.unwrap_or_default())
        })
    }

    /// What an outlet draws now, in watts.
    pub fn watts(&self, position: u8) -> f64 {
        self.read(|state| state.outlet(position).map_or(0.0, |outlet| outlet.power()))
    }

    /// Presses the button of an outlet, which toggles its relay.
    ///
    /// # Errors
    ///
    /// There is no such outlet.
    pub fn press(&self, position: u8) -> Result<(), SimulatorError> {
        self.change(position, |state, now| {
            let on = state.outlet(position)?.is_on();
            state.switch(position, !on, Cause::Button, now).then_some(())
        })
    }

    /// Plugs in a load that draws so many watts while the outlet is on. One above the outlet's limit
    /// drops the relay.
    ///
    /// # Errors
    ///
    /// There is no such outlet.
    pub fn set_watts(&self, position: u8, watts: f64) -> Result<(), SimulatorError> {
        self.change(position, |state, now| {
            let change = state.outlet(position)?.set_watts(watts, now);
            state.relay_changes.extend(change);
            Some(())
        })
    }

    /// Lets the meter of an outlet show energy from before the simulation, in watt-hours, as counted
    /// in the present hour.
    ///
    /// # Errors
    ///
    /// There is no such outlet.
    pub fn add_energy(&self, position: u8, watt_hours: f64) -> Result<(), SimulatorError> {
        self.change(position, |state, now| {
            state.outlet(position)?.add_energy(now.device, watt_hours);
            Some(())
        })
    }

    /// All that an outlet drew since the simulation started, in watt-hours, whatever its meter forgot.
    pub fn drawn(&self, position: u8) -> f64 {
        self.read(|state| state.outlet(position).map_or(0.0, |outlet| outlet.drawn / 1000.0))
    }

    /// The meter of an outlet forgets all it counted, as after a reset of the device.
    ///
    /// # Errors
    ///
    /// There is no such outlet.
    pub fn reset_meter(&self, position: u8) -> Result<(), SimulatorError> {
        self.change(position, |state, _| {
            state.outlet(position)?.reset_meter();
            Some(())
        })
    }

    /// Drops the relay of an outlet, as a load above its limit would, and reports the overload until
    /// the outlet is switched on again.
    ///
    /// # Errors
    ///
    /// There is no such outlet.
    pub fn overload(&self, position: u8) -> Result<(), SimulatorError> {
        self.change(position, |state, now| {
            let change = state.outlet(position)?.overload(now);
            state.relay_changes.extend(change);
            Some(())
        })
    }

    /// Sets auto-off as the app does: off so long after each ON.
    ///
    /// # Errors
    ///
    /// There is no such outlet.
    pub fn set_auto_off(&self, position: u8, delay_min: u32) -> Result<(), SimulatorError> {
        self.change(position, |state, _| {
            state.outlet(position)?.auto_off = AutoOff {
                enabled: true,
                delay_min,
            };
            Some(())
        })
    }

    /// Changes what a child of a hub shows, by its name: `{"current_temp": 18.5}`, `{"status": "offline"}`.
    ///
    /// # Errors
    ///
    /// There is no such child.
    pub fn set_child(&self, name: &str, fields: Map<String, Value>) -> Result<(), SimulatorError> {
        self.core.with_state(|state, _| {
            let mut children = state.children.iter_mut();
            let child = children.find(|child| child.name == name);
            let child = child.ok_or_else(|| SimulatorError::NoSuchChild(name.to_owned()))?;
            child.change(fields);
            Ok(())
        })
    }

    /// Adds an entry to the log of a child of a hub: `singleClick`, `doubleClick` or `rotation` of a button.
    ///
    /// # Errors
    ///
    /// There is no such child.
    pub fn happens_at_child(&self, name: &str, event: &str) -> Result<(), SimulatorError> {
        let time = self.core.clock.now().as_second();
        self.core.with_state(|state, _| {
            // The hub numbers the entries of all its devices in one row.
            let entries: usize = state.children.iter().map(|child| child.log().len()).sum();
            let mut children = state.children.iter_mut();
            let child = children.find(|child| child.name == name);
            let child = child.ok_or_else(|| SimulatorError::NoSuchChild(name.to_owned()))?;
            child.happened(entries as u64 + 1, time, event);
            Ok(())
        })
    }

    /// Removes a child from a hub, as its user does in the app.
    ///
    /// # Errors
    ///
    /// There is no such child.
    pub fn remove_child(&self, name: &str) -> Result<(), SimulatorError> {
        self.core.with_state(|state, _| {
            let before = state.children.len();
            state.children.retain(|child| child.name != name);
            let removed = state.children.len() < before;
            removed
                .then_some(())
                .ok_or_else(|| SimulatorError::NoSuchChild(name.to_owned()))
        })
    }

    /// What the children of a hub show, as it lists them.
    pub fn children(&self) -> Vec<Value> {
        self.read(|state| {
            let children = state.children.iter();
            children.map(|child| Value::Object(child.info())).collect()
        })
    }

    /// Moves the clock inside the device ahead: rules that fall due fire, and energy is
    /// counted, hour by hour of the way.
    pub fn advance(&self, by: Duration) {
        self.core.clock.advance(by);
        self.core.with_state(|_, _| ());
    }

    /// Its faults, to set and clear.
    pub fn faults(&self) -> Faults {
        self.core.faults.clone()
    }

    /// What happened since the start or the last reset.
    pub fn counters(&self) -> Counters {
        self.core.counters()
    }

    /// Counts from zero again.
    pub fn reset_counters(&self) {
        self.core.reset_counters();
    }

    /// Waits until a relay has a state.
    ///
    /// # Errors
    ///
    /// It does not within the budget.
    pub async fn wait_relay(&self, position: u8, on: bool, budget: Duration) -> Result<(), SimulatorError> {
        let what = format!("outlet {position} to be {}", if on { "on" } else { "off" });
        let holds = || self.relay(position) == on;
        self.core.wait_until(what, budget, holds).await
    }

    /// Waits until a method was called at least so often since the last reset.
    ///
    /// # Errors
    ///
    /// It was not within the budget.
    pub async fn wait_requests(
        &self,
        method: &str,
        times: u64,
        budget: Duration,
    ) -> Result<(), SimulatorError> {
        let what = format!("{times} requests of {method}");
        let holds = || self.core.tally.requests_of(method) >= times;
        self.core.wait_until(what, budget, holds).await
    }

    /// Moves to another address; port 0 means any free one. Connections die, and discovery moves along.
    ///
    /// # Errors
    ///
    /// The address is taken, or the device has stopped.
    pub async fn move_to(&self, address: SocketAddr) -> Result<SocketAddr, SimulatorError> {
        let changes_ip = address.ip() != self.core.address().ip();
        let listener = listen(address).await?;
        let address = listener
            .local_addr()
            .map_err(|source| SimulatorError::Bind { address, source })?;
        let discovery = if self.core.has_discovery && changes_ip {
            Some(discovery::bind(address, self.core.native_protocol).await?)
        } else {
            None
        };
        let (moved, done) = oneshot::channel();
        let command = Command::Move {
            listener,
            discovery,
            moved,
        };
        self.core.set_address(address);
        self.core
            .commands
            .send(command)
            .map_err(|_| SimulatorError::Stopped)?;
        done.await.map_err(|_| SimulatorError::Stopped)?;
        Ok(address)
    }

    /// Lets the device know newer firmware.
    pub fn offer_firmware(&self, version: &str, release_note: &str) {
        let newer = (version.to_owned(), release_note.to_owned());
        self.core
            .with_state(|state, _| state.newer_firmware = Some(newer));
    }

    /// Goes away for a while: the port is closed, sessions and countdowns are forgotten, relays keep
    /// their state. Returns once the device is away.
    ///
    /// # Errors
    ///
    /// The device has stopped.
    pub async fn reboot(&self, lasting: Duration) -> Result<(), SimulatorError> {
        self.go_away(lasting, false).await
    }

    /// The same without power: relays come back as `default_states` says.
    ///
    /// # Errors
    ///
    /// The device has stopped.
    pub async fn cut_power(&self, lasting: Duration) -> Result<(), SimulatorError> {
        self.go_away(lasting, true).await
    }

    async fn go_away(&self, lasting: Duration, without_power: bool) -> Result<(), SimulatorError> {
        let (down, away) = oneshot::channel();
        let command = Command::Reboot {
            after: Duration::ZERO,
            lasting,
            without_power,
            down: Some(down),
        };
        self.core
            .commands
            .send(command)
            .map_err(|_| SimulatorError::Stopped)?;
        away.await.map_err(|_| SimulatorError::Stopped)
    }

    fn read<R>(&self, read: impl FnOnce(&mut State) -> R) -> R {
        self.core.read(|state, _| read(state))
    }

    fn change(
        &self,
        position: u8,
        change: impl FnOnce(&mut State, Moment) -> Option<()>,
    ) -> Result<(), SimulatorError> {
        self.core
            .with_state(change)
            .ok_or(SimulatorError::NoSuchOutlet(position))
    }
}
