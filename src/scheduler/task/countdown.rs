//! Countdowns by command: an outlet that is on goes off after a while. The plug counts where it can.

use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use super::{
    Look, Scheduler,
    errand::{Errand, ErrandId, Item, Purpose, Standing},
    outlet::Live,
    timer::Timer,
    wishes::Effect,
};
use crate::domain::{
    command::Command,
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceAction, RunLimit, Source},
    reply::Applied,
};
use planner::{GroupId, OutletPath, Power, overrides::Lifetime, period::Period};

impl Scheduler {
    /// Starts a countdown on those that are on. What is off is not switched on by a number that somebody typed.
    pub(super) fn count_down(
        &mut self,
        paths: &[OutletPath],
        group: Option<GroupId>,
        length: Duration,
        wish: Command,
        look: Look,
    ) {
        let power = |path: &OutletPath| self.live.get(path).and_then(Live::coming);
        if paths.iter().all(|path| power(path) != Some(Power::On)) {
            let known = paths.iter().any(|path| power(path).is_some());
            wish.reply.send(Err(nothing_is_on(paths, known)));
            return;
        }
        let timer = SignedDuration::try_from(length)
            .map_err(|error| error.to_string())
            .and_then(|length| Period::new(length).map_err(|error| error.to_string()))
            .and_then(|length| {
                let first = paths.first().ok_or_else(String::new)?;
                Timer::of(first, Power::On, Lifetime::For(length), look.now)
            });
        let timer = match timer {
            Ok(timer) => timer,
            Err(message) => {
                wish.reply
                    .send(Err(CommandError::bridge(ErrorCode::BadCommand, message)));
                return;
            }
        };
        let (on, off): (Vec<_>, Vec<_>) = paths
            .iter()
            .cloned()
            .partition(|path| power(path) == Some(Power::On));
        let id = self.open_errand(paths, group, wish);
        for path in &on {
            self.begin(id, path, Some(timer), look);
        }
        self.leave_alone(id, &on, look);
        self.leave_alone(id, &off, look);
    }

    /// Ends countdowns: ours, and one that somebody started on the plug. A limit that holds goes on holding.
    pub(super) fn cancel_countdown(
        &mut self,
        paths: &[OutletPath],
        group: Option<GroupId>,
        wish: Command,
        look: Look,
    ) {
        let deadline = wish.deadline;
        let id = self.open_errand(paths, group, wish);
        let mut untouched = Vec::new();
        for path in paths {
            let timer = self.book.timers.get(path);
            let runs = timer.is_some_and(|timer| timer.to == Power::Off);
            let foreign = self.live.get(path).and_then(Live::foreign);
            if runs {
                self.begin(id, path, None, look);
            }
            let counts = self.live.get(path).is_some_and(|live| live.countdown.runs());
            if foreign.is_some() || (runs && counts) {
                self.send_end(path, look);
                self.cancel_on_device(id, path, deadline);
            } else {
                // Nothing counts but here.
                untouched.push(path.clone());
            }
        }
        self.leave_alone(id, &untouched, look);
    }

    fn open_errand(&mut self, paths: &[OutletPath], group: Option<GroupId>, wish: Command) -> ErrandId {
        let id = self.desk.errand_id();
        let item = |path: &OutletPath| Item {
            path: path.clone(),
            outcome: None,
        };
        let errand = Errand {
            items: paths.iter().map(item).collect(),
            overriding: None,
            reply: wish.reply,
            group,
            standing: Standing::Provisional,
        };
        self.desk.errands.insert(id, errand);
        id
    }

    /// Changes the timer provisionally.
    fn begin(&mut self, id: ErrandId, path: &OutletPath, timer: Option<Timer>, look: Look) {
        self.supersede_deferred(path, look);
        self.take_effect(id, path, timer.map_or(Effect::Plain, Effect::Timer));
    }

    fn cancel_on_device(&mut self, id: ErrandId, path: &OutletPath, deadline: Instant) {
        self.live.entry(path.clone()).or_default().errand = Some(id);
        let (action, purpose) = (DeviceAction::CancelCountdown, Purpose::Errand(id));
        self.send(path, action, RunLimit::default(), Source::Mqtt, deadline, purpose);
    }

    /// Outlets of an errand of which no device has to be asked.
    fn leave_alone(&mut self, id: ErrandId, paths: &[OutletPath], look: Look) {
        for path in paths {
            let power = self.live.get(path).and_then(Live::observed);
            self.complete(id, path, Ok(Applied::unasked(path, power)), look);
        }
    }
}

fn nothing_is_on(paths: &[OutletPath], known: bool) -> CommandError {
    let names: Vec<String> = paths.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    if known {
        let hint = r#"send {"state":"ON","on_time":600} to switch it on for a while"#;
        CommandError::bridge(
            ErrorCode::BadCommand,
            format!("{names} is off, so nothing counts down; {hint}"),
        )
    } else {
        CommandError::bridge(
            ErrorCode::NotReady,
            format!("{names} was not read yet, so whether it is on is not known"),
        )
    }
}
