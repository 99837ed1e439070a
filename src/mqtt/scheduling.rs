//! What the event loop asks the scheduler, and what it is told.
//!
//! The loop never waits for the scheduler: questions go out with `try_send`, answers come in on the tickets
//! and as [`SchedulerUpdate`]s.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::{Timestamp, ToSpan as _, civil, tz::TimeZone};
use serde_json::Value;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};
use tracing::{debug, warn};

use super::{
    command::{self, Change, Decoded, SetCommand, Transaction, Until, decode_switch},
    pending::Answered,
    requests::Reply as ResponseBody,
    task::MqttTask,
    topics::RequestName,
};
use crate::domain::{
    command::{self as domain_command, Action, Target},
    command_error::{CommandError, ErrorCode},
    device_command::Switch,
    request_reply::RequestReply,
    scheduling::{Request, RequestError, SchedulerMsg, SchedulerUpdate},
};
use crate::mqtt::pending::{CommandKind, acceptance, rejection};
use planner::{GroupId, Power, ScheduleId, overrides::Lifetime, period::Period};

/// The requests that the scheduler has not answered yet.
#[derive(Debug)]
pub(super) struct Questions {
    asks: mpsc::Sender<SchedulerMsg>,
    next: u64,
    open: BTreeMap<u64, ReplyTo>,
}

/// Where the reply to a request goes.
#[derive(Debug)]
pub(super) struct ReplyTo {
    place: Place,
    transaction: Option<Transaction>,
}

#[derive(Debug)]
enum Place {
    /// The response topic of a request.
    Request(RequestName),
    /// The response topic of a group, as any command to it is answered.
    Group(GroupId),
}

impl Questions {
    pub(super) fn new(asks: mpsc::Sender<SchedulerMsg>) -> Self {
        Self {
            asks,
            next: 0,
            open: BTreeMap::new(),
        }
    }

    /// The way to the scheduler.
    pub(super) fn sender(&self) -> mpsc::Sender<SchedulerMsg> {
        self.asks.clone()
    }
}

impl MqttTask {
    /// Passes a command to switch on. Its reply is answered whatever happens.
    pub(super) fn send_set(&mut self, target: Target, set: &SetCommand, transaction: Option<Transaction>) {
        let Some(id) = self.admit(&target, CommandKind::Switch, transaction) else {
            return;
        };
        let reply = Answered::reply(id, self.answers.clone());
        if self.closing.is_some() {
            // Dropped unanswered, a reply says that the bridge is shutting down.
            return;
        }
        let lifetime = match set.lifetime.map(|lifetime| self.lifetime(lifetime)).transpose() {
            Ok(lifetime) => lifetime,
            Err(failure) => return reply.send(Err(failure)),
        };
        let send_set = domain_command::Command {
            target,
            action: change(set.change),
            lifetime,
            deadline: Instant::now() + set.ttl,
            reply,
        };
        if let Err(TrySendError::Full(SchedulerMsg::Command(send_set))) =
            self.questions.asks.try_send(SchedulerMsg::Command(send_set))
        {
            let failure = CommandError::bridge(ErrorCode::Busy, "too many commands at once");
            send_set.reply.send(Err(failure));
        }
    }

    fn lifetime(&self, asked: command::Lifetime) -> Result<Lifetime, CommandError> {
        let zone = &self.tree.rules().location.zone;
        Ok(match asked {
            command::Lifetime::For(length) => {
                let period = jiff::SignedDuration::try_from(length).ok().map(Period::new);
                match period {
                    Some(Ok(period)) => Lifetime::For(period),
                    Some(Err(error)) => {
                        return Err(CommandError::bridge(
                            ErrorCode::BadCommand,
                            format!("for {error}"),
                        ));
                    }
                    None => return Err(CommandError::bridge(ErrorCode::BadCommand, "for is too long")),
                }
            }
            command::Lifetime::Until(Until::Instant(instant)) => Lifetime::Until(instant),
            command::Lifetime::Until(Until::TimeOfDay(time)) => {
                let next = next_time_of_day(time, zone, self.tree.now());
                let failure =
                    || CommandError::bridge(ErrorCode::BadCommand, "the calendar ends before that time");
                Lifetime::Until(next.ok_or_else(failure)?)
            }
            command::Lifetime::UntilNextSchedule => Lifetime::UntilNextSchedule,
            command::Lifetime::Hold => Lifetime::Hold,
        })
    }

    /// A command that enables or disables a schedule.
    pub(super) fn enable_schedule(&mut self, group: GroupId, schedule: ScheduleId, payload: &[u8]) {
        let (decoded, transaction) = match decode_switch(payload) {
            Decoded::Ignored => return,
            Decoded::Accepted { command, transaction } => (Ok(command), transaction),
            Decoded::Refused { error, transaction } => (Err(error), transaction),
        };
        let reply_to = ReplyTo {
            place: Place::Group(group.clone()),
            transaction,
        };
        match decoded {
            Err(error) => self.refuse_request(reply_to, error.code(), &error.to_string()),
            Ok(enabled) => {
                let request = Request::EnableSchedule {
                    group,
                    schedule,
                    enabled,
                };
                self.ask(reply_to, request);
            }
        }
    }

    /// Passes a request on; it is answered when the scheduler replies.
    pub(super) fn request_of_scheduler(&mut self, name: &RequestName, decoded: Decoded<Request>) {
        let to = |transaction| ReplyTo {
            place: Place::Request(name.clone()),
            transaction,
        };
        match decoded {
            // Requests need no payload, so an empty one is no less a request.
            Decoded::Ignored => {
                self.refuse_request(to(None), "invalid_payload", "expected a JSON object or nothing");
            }
            Decoded::Refused { error, transaction } => {
                self.refuse_request(to(transaction), error.code(), &error.to_string());
            }
            Decoded::Accepted { command, transaction } => self.ask(to(transaction), command),
        }
    }

    fn ask(&mut self, reply_to: ReplyTo, request: Request) {
        self.questions.next += 1;
        let id = self.questions.next;
        let results = self.results.clone();
        let reply = RequestReply::new(move |result| {
            let _stopped = results.send((id, result));
        });
        match self
            .questions
            .asks
            .try_send(SchedulerMsg::Request { request, reply })
        {
            Ok(()) => {
                self.questions.open.insert(id, reply_to);
            }
            Err(TrySendError::Full(_)) => self.refuse_request(reply_to, "busy", "too many requests at once"),
            Err(TrySendError::Closed(_)) => self.refuse_shutting_down(reply_to),
        }
    }

    /// A sensor spoke. Also a value that the broker had kept is one.
    pub(super) fn forward_sensor(&mut self, topic: &str, payload: &[u8], retained: bool) {
        let ask = SchedulerMsg::Sensor {
            topic: topic.to_owned(),
            payload: Bytes::copy_from_slice(payload),
            retained,
        };
        if let Err(TrySendError::Full(_)) = self.questions.asks.try_send(ask) {
            warn!(%topic, "the scheduler is busy; a sensor value is lost");
        }
    }

    /// The scheduler said something.
    pub(super) fn on_scheduler_update(&mut self, word: SchedulerUpdate) {
        match word {
            SchedulerUpdate::Rules(rules) => self.tree.on_rules(rules),
            SchedulerUpdate::Outlet(path, status) => self.tree.on_outlet_status(path, status),
            SchedulerUpdate::Group(group, status) => self.tree.on_group_status(&group, status),
            SchedulerUpdate::Vacation(vacation) => self.tree.on_vacation(vacation, self.log_level.get()),
            SchedulerUpdate::Event(event) => self.tree.publish_event(&event),
        }
    }

    pub(super) fn reply(&mut self, id: u64, result: Result<Value, RequestError>) {
        let Some(reply_to) = self.questions.open.remove(&id) else {
            return;
        };
        match result {
            Err(error) => self.refuse_request(reply_to, code(&error), &error.to_string()),
            Ok(data) => match reply_to.place {
                Place::Request(name) => self.tree.send(
                    self.tree.topics.request_response(&name),
                    ResponseBody::ok(reply_to.transaction, &data).to_string(),
                ),
                Place::Group(group) => {
                    if let Some(transaction) = &reply_to.transaction {
                        let response = acceptance(Some(transaction));
                        self.tree.send(self.tree.topics.group_response(&group), response);
                    }
                }
            },
        }
    }

    /// Requests that the scheduler will not answer any more.
    pub(super) fn refuse_open_requests(&mut self) {
        for (_, reply_to) in std::mem::take(&mut self.questions.open) {
            self.refuse_shutting_down(reply_to);
        }
    }

    fn refuse_shutting_down(&mut self, reply_to: ReplyTo) {
        self.refuse_request(reply_to, "shutting_down", "the bridge is shutting down");
    }

    /// Answers a request that is not done. A group's state is published again, for whoever showed the
    /// wished one already.
    fn refuse_request(&mut self, reply_to: ReplyTo, code: &'static str, message: &str) {
        debug!(place = ?reply_to.place, code, reason = message, "refused a request");
        match reply_to.place {
            Place::Request(name) => {
                let reply = ResponseBody::error(reply_to.transaction, code, message);
                self.tree
                    .send(self.tree.topics.request_response(&name), reply.to_string());
            }
            Place::Group(group) => {
                let response = rejection(reply_to.transaction.as_ref(), code, message);
                self.tree.send(self.tree.topics.group_response(&group), response);
                self.tree.republish_target(&Target::Group(group));
            }
        }
    }
}

fn code(error: &RequestError) -> &'static str {
    match error {
        RequestError::UnknownGroup(_) => "unknown_group",
        RequestError::UnknownSchedule { .. } => "unknown_schedule",
        RequestError::Invalid(_) => "invalid_value",
        RequestError::TooMany { .. } => "too_many",
        RequestError::Busy => "busy",
        RequestError::ShuttingDown => "shutting_down",
    }
}

fn change(asked: Change) -> Action {
    match asked {
        Change::On { on_time: None } => Action::Switch(Switch::To(Power::On)),
        Change::On {
            on_time: Some(length),
        } => Action::OnFor(length),
        Change::Off { off_time: None } => Action::Switch(Switch::To(Power::Off)),
        Change::Off {
            off_time: Some(length),
        } => Action::OffFor(length),
        Change::CountDown(length) if length.is_zero() => Action::CancelCountdown,
        Change::CountDown(length) => Action::CountDown(length),
        Change::Toggle => Action::Switch(Switch::Toggle),
        Change::Auto => Action::Auto,
    }
}

/// The next instant at which the clock on the wall shows a time. One that the clock skips comes when it jumps;
/// one that it shows twice may come a second time today.
fn next_time_of_day(time: civil::Time, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    let today = zone.to_datetime(now).date();
    let days = [Some(today), today.checked_add(1.day()).ok()];
    let instants = days.into_iter().flatten().flat_map(|day| {
        let shown = || zone.to_ambiguous_timestamp(day.to_datetime(time));
        [shown().compatible(), shown().later()]
    });
    instants.filter_map(Result::ok).find(|instant| *instant > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(zone: &str, time: &str, now: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let next = next_time_of_day(time.parse().unwrap(), &zone, now.parse().unwrap());
        next.unwrap().to_string()
    }

    #[test]
    fn a_time_of_day_is_the_next_on_the_wall() {
        for (time, now, expected) in [
            ("18:00", "2026-11-21T16:59:59Z", "2026-11-21T17:00:00Z"),
            ("18:00", "2026-11-21T17:00:00Z", "2026-11-22T17:00:00Z"),
            ("00:00", "2026-11-21T22:59:00Z", "2026-11-21T23:00:00Z"),
            // The clock jumps from 02:00 to 03:00.
            ("02:30", "2026-03-28T23:30:00Z", "2026-03-29T01:30:00Z"),
            // The clock shows 02:30 twice.
            ("02:30", "2026-10-24T23:00:00Z", "2026-10-25T00:30:00Z"),
            ("02:30", "2026-10-25T00:45:00Z", "2026-10-25T01:30:00Z"),
            ("02:30", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"),
        ] {
            assert_eq!(next("Europe/Berlin", time, now), expected, "{time} after {now}");
        }
    }
}
