//! Hands commands and requests to the scheduler, each with its reply. Never waits.

use std::collections::BTreeSet;

use planner::{OutletPath, Power};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

use super::{
    decode::{CommandPayload, Transaction},
    inbox::{CommandContext, MqttMsg, OpenCount, RequestContext, ResponseTopic},
    repeats::{RepeatedCommands, Repetition},
    reply_to::ReplyTo,
};
use crate::{
    domain::{
        command::Target,
        command_error::{CommandError, ErrorCode},
        request_reply::RequestReply,
        scheduling::{Request, RequestError, SchedulerMsg},
    },
    system::{clock::Clock, overflow::Overflow},
};

/// The way of commands and requests to the scheduler.
#[derive(Debug)]
pub(super) struct Commands {
    scheduler: mpsc::Sender<SchedulerMsg>,
    inbox: mpsc::UnboundedSender<MqttMsg>,
    clock: Clock,
    repeats: RepeatedCommands,
    /// How many commands were received.
    received: u64,
    open: OpenCount,
    open_requests: OpenCount,
    /// Values for sensors that there was no room for.
    sensors: Overflow<SchedulerMsg>,
    /// Set when the bridge stops: new commands get `shutting_down`.
    closing: bool,
}

impl Commands {
    /// Sends to the `scheduler`; replies arrive in `inbox`.
    pub(super) fn new(
        scheduler: mpsc::Sender<SchedulerMsg>,
        inbox: mpsc::UnboundedSender<MqttMsg>,
        clock: Clock,
    ) -> Self {
        Self {
            scheduler,
            inbox,
            clock,
            repeats: RepeatedCommands::default(),
            received: 0,
            open: OpenCount::default(),
            open_requests: OpenCount::default(),
            sensors: Overflow::new(is_older_value),
            closing: false,
        }
    }

    /// How many commands have no outcome yet.
    pub(super) fn open(&self) -> usize {
        self.open.count()
    }

    /// Whether every command and every request has its outcome.
    pub(super) fn is_idle(&self) -> bool {
        self.open.count() + self.open_requests.count() == 0
    }

    /// From now on commands and requests get `shutting_down`.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Carries a command out, unless it is a repetition. `outlets` are what it is for, `state` is what its target is known
    /// to have.
    pub(super) fn send(
        &mut self,
        target: Target,
        payload: CommandPayload,
        transaction: Option<Transaction>,
        reply_to: ReplyTo,
        outlets: BTreeSet<OutletPath>,
        state: Option<Power>,
    ) -> Repetition {
        let received = Instant::now();
        self.received += 1;
        // A page gets its response with its request, so it never sends a command a second time to get one.
        let transaction = transaction.filter(|_| matches!(reply_to, ReplyTo::Broker));
        let context = CommandContext {
            number: self.received,
            target: target.clone(),
            payload: payload.clone(),
            transaction,
            reply_to,
            received,
            _open: self.open.open(),
        };
        let repetition = self.repeats.check(&context, outlets, state);
        if repetition != Repetition::New {
            return repetition;
        }
        let reply = context.into_reply(self.inbox.clone());
        if self.closing {
            // The dropped reply reports that the bridge is shutting down.
            return Repetition::New;
        }
        let deadline = match payload.validity.deadline(received, self.clock.now()) {
            Ok(deadline) => deadline,
            Err(expires) => {
                reply.send(Err(CommandError::late(expires)));
                return Repetition::New;
            }
        };
        let command = payload.into_command(target, deadline, reply);
        // A closed channel drops the command and with it the reply: shutting down.
        if let Err(TrySendError::Full(SchedulerMsg::Command(command))) =
            self.scheduler.try_send(SchedulerMsg::Command(command))
        {
            let error = CommandError::bridge(ErrorCode::Busy, "too many commands at once");
            command.reply.send(Err(error));
        }
        Repetition::New
    }

    /// Remembers the response to a command, for its repetition. Returns what is sent.
    pub(super) fn done(&mut self, context: &CommandContext, response: String, is_ok: bool) -> String {
        self.repeats.done(context, response, is_ok, Instant::now())
    }

    /// The context of a request.
    pub(super) fn request_context(
        &self,
        responds_on: ResponseTopic,
        transaction: Option<Transaction>,
        reply_to: ReplyTo,
    ) -> RequestContext {
        RequestContext {
            responds_on,
            transaction,
            reply_to,
            _open: self.open_requests.open(),
        }
    }

    /// The reply to a request.
    pub(super) fn reply_to(&self, context: RequestContext) -> RequestReply {
        context.into_reply(self.inbox.clone())
    }

    /// Sends a request to the scheduler.
    pub(super) fn request(&self, request: Request, reply: RequestReply) {
        if self.closing {
            return;
        }
        let message = SchedulerMsg::Request { request, reply };
        if let Err(TrySendError::Full(SchedulerMsg::Request { reply, .. })) = self.scheduler.try_send(message)
        {
            reply.send(Err(RequestError::Busy));
        }
    }

    /// Passes a value for sensors on.
    pub(super) fn sensor(&mut self, topic: &str, payload: &[u8], retained: bool) {
        self.sensors.push(SchedulerMsg::Sensor {
            topic: topic.to_owned(),
            payload: payload.to_vec().into(),
            retained,
        });
        self.send_sensors();
    }

    /// Passes on values that had no room. Sensors that publish without a pause leave half of the queue to commands.
    pub(super) fn send_sensors(&mut self) {
        while self.scheduler.capacity() > self.scheduler.max_capacity() / 2
            && let Some(message) = self.sensors.pop()
        {
            let _stopped = self.scheduler.try_send(message);
        }
    }
}

/// The newest value of a topic counts.
fn is_older_value(older: &SchedulerMsg, newer: &SchedulerMsg) -> bool {
    match (older, newer) {
        (SchedulerMsg::Sensor { topic: older, .. }, SchedulerMsg::Sensor { topic: newer, .. }) => {
            older == newer
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{command::Action, reply::CommandOutcome},
        mqtt::decode::Validity,
    };

    fn commands(
        room: usize,
    ) -> (
        Commands,
        mpsc::Receiver<SchedulerMsg>,
        mpsc::UnboundedReceiver<MqttMsg>,
    ) {
        let (scheduler, sent) = mpsc::channel(room);
        let (inbox, outcomes) = mpsc::unbounded_channel();
        let clock = Clock::steered("2026-11-30T22:00:00Z".parse().unwrap());
        (Commands::new(scheduler, inbox, clock), sent, outcomes)
    }

    fn read(commands: &mut Commands, path: &str) {
        read_before(commands, path, None);
    }

    fn read_before(commands: &mut Commands, path: &str, expires: Option<&str>) {
        let payload = CommandPayload {
            action: Action::Read,
            lifetime: None,
            brightness: None,
            validity: Validity {
                expires: expires.map(|time| time.parse().unwrap()),
                ..Validity::default()
            },
        };
        let path: OutletPath = path.parse().unwrap();
        let target = Target::Outlet(path.clone());
        let sent = commands.send(target, payload, None, ReplyTo::Broker, [path].into(), None);
        assert_eq!(sent, Repetition::New);
    }

    fn code(message: MqttMsg) -> (String, ErrorCode) {
        match message {
            MqttMsg::CommandDone(context, CommandOutcome { result, .. }) => {
                (context.target.to_string(), result.unwrap_err().code)
            }
            other @ MqttMsg::RequestDone(..) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_command_has_one_outcome_whatever_happens_to_it() {
        let (mut commands, mut sent, mut outcomes) = commands(1);
        read(&mut commands, "heater");
        read(&mut commands, "lamp");
        assert_eq!(commands.open(), 2);
        assert_eq!(
            code(outcomes.try_recv().unwrap()),
            ("lamp".to_owned(), ErrorCode::Busy)
        );
        drop(sent.try_recv().unwrap());
        let shutting_down = |path: &str| (path.to_owned(), ErrorCode::ShuttingDown);
        assert_eq!(code(outcomes.try_recv().unwrap()), shutting_down("heater"));
        drop(sent);
        read(&mut commands, "mats/1");
        assert_eq!(code(outcomes.try_recv().unwrap()), shutting_down("mats/1"));
        assert_eq!(commands.open(), 0);
    }

    #[tokio::test]
    async fn a_command_that_comes_too_late_is_not_carried_out() {
        let (mut commands, mut sent, mut outcomes) = commands(2);
        read_before(&mut commands, "heater", Some("2026-11-30T22:59:59+01:00"));
        assert!(sent.try_recv().is_err());
        assert_eq!(code(outcomes.try_recv().unwrap()).1, ErrorCode::Late);
        read_before(&mut commands, "lamp", Some("2026-11-30T23:00:05+01:00"));
        assert!(sent.try_recv().is_ok());
    }

    #[test]
    fn a_bridge_that_stops_takes_no_commands() {
        let (mut commands, mut sent, mut outcomes) = commands(1);
        commands.close();
        read(&mut commands, "heater");
        assert!(sent.try_recv().is_err());
        assert_eq!(code(outcomes.try_recv().unwrap()).1, ErrorCode::ShuttingDown);
    }

    #[test]
    fn sensors_leave_room_for_commands_and_the_newest_value_counts() {
        let (mut commands, mut sent, mut outcomes) = commands(4);
        for value in 0..10 {
            for topic in ["inside", "outdoor"] {
                commands.sensor(topic, value.to_string().as_bytes(), false);
            }
        }
        read(&mut commands, "heater");
        assert!(outcomes.try_recv().is_err(), "there was room");
        let mut values = Vec::new();
        for _ in 0..2 {
            while let Ok(message) = sent.try_recv() {
                if let SchedulerMsg::Sensor { topic, payload, .. } = message {
                    values.push((topic, String::from_utf8(payload.to_vec()).unwrap()));
                }
            }
            commands.send_sensors();
        }
        let values: Vec<_> = values
            .iter()
            .map(|(topic, value)| (topic.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            values,
            [
                ("inside", "0"),
                ("outdoor", "0"),
                ("inside", "9"),
                ("outdoor", "9")
            ]
        );
    }
}
