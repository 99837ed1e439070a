//! The scheduler task: makes the outlets what the planner says they should be.
//!
//! It never waits for a device: orders go out with `try_send`, and what became of them comes in. Whenever something
//! comes in, and at each instant that the planner names, it looks at everything anew: what should be, what is, what is
//! on its way. So nothing depends on having seen an edge.

mod act;
mod book;
mod come_back;
mod countdown;
mod energy;
mod errand;
mod guard;
mod hear;
mod interlock;
mod jump;
mod kept;
mod layers;
mod mirror;
mod outlet;
mod reload;
mod requests;
mod sensors;
mod tell;
#[cfg(test)]
mod tests;
mod timer;
mod wishes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use kept::{PersistedScheduler, Remembered};
pub use layers::{Changes, ScheduleChange};
pub use outlet::Armed;
pub use timer::Timer;

use book::Book;
use errand::{Desk, SwitchDone};
use outlet::Live;
use sensors::Watch;
use tell::Telling;

use crate::domain::scheduling::{SchedulerInbox, SchedulerMsg, SchedulerUpdate};
use crate::{
    domain::{
        devices::{DeviceEvent, DeviceMsg},
        report::DeviceReport,
    },
    store::Store,
    system::clock::Clock,
};
use planner::rules::Rules;
use planner::{DeviceId, OutletPath, Power};

/// The wall clock is looked at this often, whatever happens: it may have been set, or the machine slept.
const LOOK_AT_LEAST: Duration = Duration::from_mins(1);

/// What the scheduler is made of.
#[derive(Debug)]
pub struct Parts {
    /// As the settings have them.
    pub rules: Arc<Rules>,
    /// What survives a restart.
    pub keeper: Store,
    /// The channels to and from the event loop.
    pub ends: SchedulerInbox,
    /// From workers.
    pub news: mpsc::Receiver<DeviceEvent>,
    /// To the device owner.
    pub orders: mpsc::Sender<DeviceMsg>,
    /// The wall clock.
    pub clock: Clock,
}

/// The scheduler task.
#[derive(Debug)]
pub struct Scheduler {
    book: Book,
    /// Every outlet that a group has or that was ever reported.
    live: BTreeMap<OutletPath, Live>,
    /// The outlets of each device, as it said.
    devices: BTreeMap<DeviceId, Vec<OutletPath>>,
    /// What each device that is reachable said last.
    reports: BTreeMap<DeviceId, Arc<DeviceReport>>,
    /// Devices that a reload took out. Their workers may still report while they end.
    removed: BTreeSet<DeviceId>,
    desk: Desk,
    telling: Telling,
    watch: Watch,
    keeper: Store,
    clock: Clock,
    /// When it looked last, by both clocks.
    looked: Look,
    asks: mpsc::Receiver<SchedulerMsg>,
    news: mpsc::Receiver<DeviceEvent>,
    orders: mpsc::Sender<DeviceMsg>,
    words: mpsc::Sender<SchedulerUpdate>,
    answers: mpsc::UnboundedSender<SwitchDone>,
    answered: mpsc::UnboundedReceiver<SwitchDone>,
}

/// One moment, by the clock on the wall and by the one that is never set.
#[derive(Debug, Clone, Copy)]
struct Look {
    now: Timestamp,
    instant: Instant,
}

impl Look {
    fn at(clock: &Clock) -> Self {
        Self {
            now: clock.now(),
            instant: Instant::now(),
        }
    }

    /// When the wall clock will show `at`, if nobody sets it.
    fn instant_of(&self, at: Timestamp) -> Instant {
        let ahead = Duration::try_from(at.duration_since(self.now)).unwrap_or(Duration::ZERO);
        // A century is as good as for ever.
        self.instant + ahead.min(Duration::from_hours(876_000))
    }
}

/// Whether what came in has to do with anything that is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concern {
    Some,
    None,
}

impl Concern {
    fn or(self, other: Self) -> Self {
        match self {
            Self::Some => self,
            Self::None => other,
        }
    }
}

/// When to look again.
#[derive(Debug, Clone, Copy)]
struct Wake(Instant);

impl Wake {
    fn by(&mut self, instant: Instant) {
        self.0 = self.0.min(instant);
    }
}

impl Scheduler {
    /// Takes up where the state file left off. Nothing is sent before [`Scheduler::run`].
    pub fn new(parts: Parts) -> Self {
        let look = Look::at(&parts.clock);
        let kept = parts.keeper.saved().scheduler;
        let armed = kept.armed.clone();
        let book = Book::open(parts.rules, kept, look.now);
        let members = book.rules.groups.iter().flat_map(|group| &group.outlets);
        let mut live: BTreeMap<OutletPath, Live> =
            members.map(|path| (path.clone(), Live::default())).collect();
        for (path, armed) in armed {
            live.entry(path).or_default().armed = armed;
        }
        for path in book.timers.keys() {
            live.entry(path.clone()).or_default();
        }
        let (answers, answered) = mpsc::unbounded_channel();
        Self {
            telling: Telling::new(&book),
            book,
            live,
            devices: BTreeMap::new(),
            reports: BTreeMap::new(),
            removed: BTreeSet::new(),
            desk: Desk::default(),
            watch: Watch::default(),
            keeper: parts.keeper,
            clock: parts.clock,
            looked: look,
            asks: parts.ends.asks,
            news: parts.news,
            orders: parts.orders,
            words: parts.ends.words,
            answers,
            answered,
        }
    }

    /// Runs until the stop, or until nobody reports any more. Commands that wait are answered `shutting_down`.
    pub async fn run(mut self, stop: CancellationToken) {
        let words = self.words.clone();
        let mut wake = self.tend();
        loop {
            self.speak();
            let concern = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                news = self.news.recv() => match news {
                    Some(news) => self.take_one(&news),
                    None => break,
                },
                Some(answer) = self.answered.recv() => self.take_answered(answer),
                Some(ask) = self.asks.recv() => self.take_ask(ask),
                // There was no room for all of them.
                Ok(permit) = words.reserve(), if self.telling.has_words() => {
                    if let Some(word) = self.telling.next_word() {
                        permit.send(word);
                    }
                    Concern::None
                }
                () = sleep_until(wake) => Concern::Some,
            };
            if concern.or(self.take_waiting()) == Concern::Some {
                wake = self.tend();
            }
        }
    }

    /// Says what there is room for. Nothing is kept for a listener that is gone.
    fn speak(&mut self) {
        while self.telling.has_words() {
            let permit = match self.words.try_reserve() {
                Err(TrySendError::Full(())) => return,
                permit => permit.ok(),
            };
            if let (Some(word), Some(permit)) = (self.telling.next_word(), permit) {
                permit.send(word);
            }
        }
    }

    /// Takes all that devices said meanwhile: a look goes over all outlets, so a thousand devices that come up at once
    /// must not cost a thousand looks. Each command has a look of its own: the next one may depend on what it shows.
    fn take_waiting(&mut self) -> Concern {
        let mut concern = self.take_news();
        for _ in 0..self.answered.len() {
            if let Ok(answer) = self.answered.try_recv() {
                concern = concern.or(self.take_answered(answer));
            }
        }
        concern
    }

    fn take_news(&mut self) -> Concern {
        let mut concern = Concern::None;
        for _ in 0..self.news.len() {
            if let Ok(news) = self.news.try_recv() {
                concern = concern.or(self.take_one(&news));
            }
        }
        concern
    }

    fn take_one(&mut self, news: &DeviceEvent) -> Concern {
        match news {
            DeviceEvent::Report(report) => self.hear(report),
            // The report that comes with it says the same.
            DeviceEvent::Event(_) => Concern::None,
            DeviceEvent::Metered(metered) => self.take_reading(metered),
        }
    }

    /// A device reports what it did before it answers: the news goes first.
    fn take_answered(&mut self, answer: SwitchDone) -> Concern {
        self.take_news();
        self.take_answer(answer);
        Concern::Some
    }

    fn take_ask(&mut self, ask: SchedulerMsg) -> Concern {
        let look = Look::at(&self.clock);
        match ask {
            SchedulerMsg::Command(wish) => return self.wish(wish, look),
            SchedulerMsg::Sensor { topic, payload, .. } => self.sense(&topic, &payload, look),
            SchedulerMsg::Reload(rewritten) => self.reload(rewritten, look),
            SchedulerMsg::Request { request, reply } => self.answer_request(request, reply, look),
        }
        Concern::Some
    }

    /// Looks at everything: what should be, what is, what to do, what to say. Returns when to look again.
    fn tend(&mut self) -> Instant {
        let look = Look::at(&self.clock);
        self.notice_jump(look);
        self.looked = look;
        let mut wake = Wake(look.instant + LOOK_AT_LEAST);
        self.end_overrides(look);
        self.end_timers(look);
        self.decide(look);
        self.send_deferred(look, &mut wake);
        self.reconcile(look, &mut wake);
        self.tend_guards(look, &mut wake);
        self.tend_mirrors(look, &mut wake);
        self.watch_timers(look, &mut wake);
        self.watch_sensors(look, &mut wake);
        self.tell_standings(look);
        self.keep();
        let changes = self
            .book
            .plan
            .next_change
            .into_iter()
            .chain(self.book.rations.wake());
        for at in changes.filter(|at| *at > look.now) {
            wake.by(look.instant_of(at));
        }
        wake.0
    }

    /// Asks the planner, and again when a limit was reached.
    fn decide(&mut self, look: Look) {
        let observed = self.observed();
        self.find_holders();
        self.book.replan(&observed, look.now);
        if self.trip(look) {
            self.book.replan(&observed, look.now);
        }
        if self.ration(look) == Concern::Some {
            self.book.replan(&observed, look.now);
        }
    }

    fn observed(&self) -> BTreeMap<OutletPath, Power> {
        let each = self.live.iter();
        each.filter_map(|(path, live)| Some((path.clone(), live.observed()?)))
            .collect()
    }

    fn keep(&self) {
        let settled = self
            .desk
            .settled(self.book.overrides.clone(), self.book.timers.clone());
        let kept = PersistedScheduler::of(&self.book, &self.live, settled);
        self.keeper.replace(|saved| &mut saved.scheduler, kept);
    }
}
