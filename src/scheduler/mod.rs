//! Groups of outlets by clock, sun and sensor conditions, under limits that hold whatever switched them on.
//!
//! The scheduler is a value: [`Scheduler::handle`] takes an event and the present moment and returns effects. It has no
//! channel, no file and no clock. [`task`] turns channels and timers into events, and effects into messages.
//!
//! An event marks the members of groups (and outlets without a group) that it concerns. Only they are looked at: planned,
//! reconciled and published ([`cycle`]), and with them all of a group whose members depend on each other. What happens
//! later waits in one queue of [`deadlines`].
//!
//! | file | what |
//! |---|---|
//! | [`command_handler`], [`completion`] | a command: decided, sent or refused; its end |
//! | [`report_handler`] | reports of devices and meters, commands that waited for their device |
//! | [`request_handler`], [`reload`] | lists, changed schedules, other settings |
//! | [`cycle`] | one look at a group: what should be, what to do, what to publish |
//! | [`state`] | everything that is known |
//! | [`outlets`], [`relays`], [`groups`] | one relay; which relay a name stands for; one group |
//! | [`ahead`] | what comes next for a group |

mod ahead;
mod command_handler;
mod commands;
mod completion;
mod cycle;
mod deadlines;
mod dirty;
mod effective_rules;
mod fail_safe;
mod groups;
mod heating;
mod held_replies;
mod last_change;
mod name_map;
mod off_edges;
mod off_rules;
mod outlets;
mod persisted;
mod plan_request;
mod relays;
mod reload;
mod report_handler;
mod request_handler;
mod retry;
mod schedule_edits;
mod sensors;
mod silence;
mod state;
mod status;
pub mod task;
#[cfg(test)]
mod tests;
mod timers;
mod tracked;
mod turns;

use std::{collections::BTreeMap, sync::Arc};

use jiff::SignedDuration;
use planner::{DeviceId, Now, OutletPath, Steady, holidays::HolidayDates, rules::Rules, weather::Weather};
use tracing::info;

pub use commands::SwitchId;
pub use persisted::{PersistedChange, PersistedScheduler};
pub use plan_request::PlanRequest;
pub use planner::readings::Arrival;

use crate::domain::{
    command::Command,
    device_command::{DeviceAction, DeviceCommand, RunLimit, Source},
    devices::DeviceMsg,
    hub_child::HubReading,
    reply::CommandResult,
    report::{DeviceReport, Metered},
    request_reply::RequestReply,
    scheduling::{ConfiguredDevice, Request, SchedulerUpdate},
};
use command_handler::CommandHandler;
use completion::Completion;
use cycle::Cycle;
use reload::Reload;
use report_handler::ReportHandler;
use request_handler::RequestHandler;
use state::State;

/// A difference of the two clocks up to this is no change of the wall clock: it is slewed, and they are not read at
/// once.
const SET: SignedDuration = SignedDuration::from_secs(2);

/// Something that the scheduler acts on.
#[derive(Debug)]
pub enum SchedulerEvent {
    /// A command, and its deadline on the steady clock.
    Command(Command, Steady),
    /// A request, and where its result goes.
    Request(Request, RequestReply),
    /// A sensor published.
    Sensor {
        /// The topic.
        topic: String,
        /// The payload.
        payload: bytes::Bytes,
        /// Whether the broker kept it.
        arrival: Arrival,
    },
    /// The calendar was read again.
    Holidays(Arc<HolidayDates>),
    /// A forecast arrived.
    Weather(Arc<Weather>),
    /// The settings were reloaded.
    Reload {
        /// The rules, without what was changed over MQTT.
        rules: Arc<Rules>,
        /// Every configured device.
        devices: BTreeMap<DeviceId, ConfiguredDevice>,
    },
    /// A device changed.
    Report(Arc<DeviceReport>),
    /// A meter was read.
    Metered(Metered),
    /// A hub was read.
    HubRead(HubReading),
    /// A command waited for its device, which can be reached now.
    Recheck(DeviceCommand),
    /// A switch of the scheduler ended.
    Switched(SwitchId, CommandResult),
    /// The state file has what was decided with the event of this number, and before.
    Written(u64),
    /// Time passed.
    Tick,
}

/// Something to do.
#[derive(Debug)]
pub enum Effect {
    /// Send a command of the scheduler to a device. Its result comes back as [`SchedulerEvent::Switched`].
    Switch {
        /// Which switch.
        id: SwitchId,
        /// Which outlet.
        path: OutletPath,
        /// What to do.
        action: DeviceAction,
        /// How long it may stay on.
        run: RunLimit,
        /// Who sent it.
        source: Source,
        /// Not carried out after this.
        deadline: Steady,
    },
    /// Send a command of a user to a device, with its own reply.
    Forward(DeviceCommand),
    /// Send a device what it should do by itself.
    Device(DeviceMsg),
    /// Publish.
    Update(SchedulerUpdate),
    /// Write to the state file.
    Persist(PersistedChange),
    /// Compute a plan beside the scheduler.
    Plan(Box<PlanRequest>, RequestReply),
}

/// Decides what every outlet should be, and carries out commands.
#[derive(Debug)]
pub struct Scheduler {
    state: State,
    /// How far the wall clock was ahead of the steady clock at the last event.
    offset: SignedDuration,
}

impl Scheduler {
    /// Goes on where the state file left off. The effects of the first [`SchedulerEvent::Tick`] publish everything.
    pub fn new(
        settings: Arc<Rules>,
        devices: BTreeMap<DeviceId, ConfiguredDevice>,
        persisted: PersistedScheduler,
        now: Now,
    ) -> Self {
        let mut state = State::new(settings, devices, persisted, now);
        let (rules, vacation) = (state.rules.in_force().clone(), state.vacation);
        state.update(SchedulerUpdate::Rules(rules));
        state.update(SchedulerUpdate::Vacation(vacation));
        state.report_missing();
        state.persist(PersistedChange::Upgraded);
        let edits = state.rules.edits().clone();
        state.persist(PersistedChange::Edits(edits));
        state.mark_nameless();
        state.mark_all();
        Self {
            state,
            offset: now.offset(),
        }
    }

    /// Acts on an event, at a moment.
    pub fn handle(&mut self, event: SchedulerEvent, now: Now) -> Vec<Effect> {
        self.notice_clock(now);
        let state = &mut self.state;
        state.batch += 1;
        match event {
            SchedulerEvent::Command(command, deadline) => {
                CommandHandler::new(state, now).handle(command, deadline);
            }
            SchedulerEvent::Request(request, reply) => RequestHandler::new(state, now).handle(request, reply),
            SchedulerEvent::Sensor {
                topic,
                payload,
                arrival,
            } => state.on_sensor(&topic, &payload, arrival, now),
            SchedulerEvent::Holidays(dates) => state.on_holidays(dates),
            SchedulerEvent::Weather(weather) => state.on_weather(weather, now),
            SchedulerEvent::Reload { rules, devices } => Reload::new(state, now).reload(rules, devices),
            SchedulerEvent::Report(report) => ReportHandler::new(state, now).on_report(&report),
            SchedulerEvent::Metered(metered) => ReportHandler::new(state, now).on_meter(&metered),
            SchedulerEvent::HubRead(reading) => state.on_hub_reading(&reading, now),
            SchedulerEvent::Recheck(command) => ReportHandler::new(state, now).recheck(command),
            SchedulerEvent::Switched(id, result) => Completion::new(state, now).on_switch_result(id, result),
            SchedulerEvent::Written(batch) => state.on_written(batch),
            SchedulerEvent::Tick => {}
        }
        while let Some(subject) = self.state.deadlines.take_due(now.steady) {
            self.state.mark_subject(subject);
        }
        while let Some((subject, scope)) = self.state.take_dirty() {
            Cycle::new(&mut self.state, now).run(subject, scope);
        }
        self.state.log_mismatches();
        self.state.take_effects()
    }

    /// Whether a report is about the device that the settings in force mean.
    pub fn is_meant(&self, report: &DeviceReport) -> bool {
        self.state.relays.is_meant(report)
    }

    /// The number of the last event, if something waits until its changes are in the state file.
    pub fn waits_for_disk(&self) -> Option<u64> {
        let mut waiting = self.state.commands.waiting_for_disk();
        let waits = waiting.any(|(_, disk)| disk.batch > self.state.written);
        waits.then_some(self.state.batch)
    }

    /// When the next deadline is.
    pub fn next_deadline(&self) -> Option<Steady> {
        self.state.deadlines.next()
    }

    /// A wall clock that was set moves windows and times of day, and no length.
    fn notice_clock(&mut self, now: Now) {
        let by = now.offset().saturating_sub(self.offset);
        if by.abs() < SET {
            return;
        }
        self.offset = now.offset();
        info!(
            by_seconds = by.as_secs(),
            "system clock changed by {} s",
            by.as_secs()
        );
        for group in self.state.groups.values_mut() {
            group.forget_outlook();
        }
        self.state.mark_all();
    }
}
