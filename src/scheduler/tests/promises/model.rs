//! What was promised to each relay, and whether it was kept. All times are in ms of real time since the start.
//!
//! Where an exact check would repeat the rules of the scheduler, a weaker one is made, and says so.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{super::simulation::SwitchedBy, ErrorCode, Power, RELAYS, Setting, TTL};
use planner::rules::OnReconnect;

/// A worker reads its device in this time, and the scheduler answers.
const NOTICED: i64 = 7_000;
/// For whole seconds of the device, its latency, and a pause between two commands.
const SLACK: i64 = 2_600;
/// A countdown on a device may end earlier by this.
const EARLY: i64 = 3_200;
/// A command waits for its device in this time.
const WAITS: i64 = 16_000;
const DAY: i64 = 86_400_000;
const LONG_AGO: i64 = -DAY;

/// What a command asks for. Lengths in s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    To(Power),
    Toggle,
    OnFor(i64),
    OffFor(i64),
    CountDown(i64),
    CancelCountdown,
    Hold(Power),
    Auto,
}

impl Kind {
    fn may_switch_on(self) -> bool {
        matches!(
            self,
            Self::To(Power::On) | Self::Hold(Power::On) | Self::Toggle | Self::OnFor(_)
        )
    }

    fn may_switch_off(self) -> bool {
        matches!(
            self,
            Self::To(Power::Off) | Self::Hold(Power::Off) | Self::Toggle | Self::OffFor(_)
        )
    }
}

/// A command as it was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) at: i64,
    pub(super) kind: Kind,
    pub(super) members: Vec<usize>,
    pub(super) stagger: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Note {
    Settings(Setting),
    /// The schedules in force.
    Windows(Vec<(i64, i64)>),
    /// Schedules were changed by a request.
    Edited,
    Command(u64),
    AppCountdown(usize),
    Flip(usize, Power, SwitchedBy),
    Link(&'static str, bool),
    Bridge(bool),
    ClockSet,
    Suspended,
    Resumed,
    End,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: i64,
    pub(super) wall: Timestamp,
    pub(super) note: Note,
}

/// When, and what.
type Answer = (i64, Result<(), ErrorCode>);

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) entries: Vec<Entry>,
    pub(super) sent: BTreeMap<u64, Sent>,
    pub(super) answers: BTreeMap<u64, Vec<Answer>>,
    /// A relay whose device always says that it went on just now.
    pub(super) stuck: Option<usize>,
}

impl Log {
    pub(super) fn add(&mut self, at: i64, wall: Timestamp, note: Note) {
        self.entries.push(Entry { at, wall, note });
    }

    pub(super) fn answered(&mut self, id: u64, at: i64, code: Result<(), ErrorCode>) {
        self.answers.entry(id).or_default().push((at, code));
    }

    fn answer(&self, id: u64) -> Option<(i64, Result<(), ErrorCode>)> {
        self.answers.get(&id)?.first().copied()
    }

    /// The first promise that was broken.
    pub(super) fn broken(&self) -> Option<String> {
        let mut model = Model::new(self);
        let broken = self.entries.iter().find_map(|entry| {
            let at = (entry.at, entry.wall);
            let broken = model.pass(entry.at).or_else(|| model.apply(entry))?;
            Some(format!("{broken} (at {} ms, {})", at.0, at.1))
        });
        let broken = broken.or_else(|| self.unanswered())?;
        let log: Vec<String> = self
            .entries
            .iter()
            .map(|entry| match &entry.note {
                Note::Command(id) => {
                    let (sent, answers) = (&self.sent[id], self.answers.get(id));
                    format!("    {} {:?} {:?} {answers:?}", entry.at, sent.kind, sent.members)
                }
                note => format!("    {} {note:?}", entry.at),
            })
            .collect();
        Some(format!("{broken}\n{}", log.join("\n")))
    }

    /// Each command is answered once, within its time to live and its turn. Suspended time does not count: the workers
    /// stand still in it.
    fn unanswered(&self) -> Option<String> {
        self.sent.iter().find_map(|(id, sent)| {
            let Some([(at, _)]) = self.answers.get(id).map(Vec::as_slice) else {
                return Some(format!("{:?} of {} ms has not one answer", sent.kind, sent.at));
            };
            let (mut suspended, mut from) = (0, None);
            for entry in &self.entries {
                match entry.note {
                    Note::Suspended if (sent.at..=*at).contains(&entry.at) => from = Some(entry.at),
                    Note::Resumed => suspended += from.take().map_or(0, |from| entry.at - from),
                    _ => {}
                }
            }
            let turns = if sent.stagger { 30_000 } else { 0 };
            let took = at - sent.at - suspended;
            (took > TTL + 2_000 + turns)
                .then(|| format!("{:?} of {} ms was answered after {took} ms", sent.kind, sent.at))
        })
    }
}

/// Values that were in force, and since when.
#[derive(Debug)]
struct History<T>(Vec<(i64, T)>);

impl<T> History<T> {
    fn set(&mut self, at: i64, value: T) {
        self.0.push((at, value));
    }

    fn now(&self) -> &T {
        &self.0.last().unwrap().1
    }

    fn since(&self) -> i64 {
        self.0.last().unwrap().0
    }

    /// All that were in force from then on.
    fn from(&self, from: i64) -> impl Iterator<Item = &T> {
        let last = self.0.iter().rposition(|(at, _)| *at < from).unwrap_or(0);
        self.0[last..].iter().map(|(_, value)| value)
    }
}

#[derive(Debug, Clone, Copy)]
struct Timer {
    end: i64,
    /// Since when it is surely in force.
    from: i64,
    /// A timed ON asks for ON until then, a countdown for nothing.
    timed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Off {
    at: i64,
    /// Whether the bridge surely saw the run before.
    known: bool,
    /// Whether only a limit explains it.
    tripped: bool,
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Independent facts.
struct Relay {
    on: bool,
    flipped: i64,
    by_bridge: bool,
    /// The bridge surely saw the present state.
    seen: bool,
    /// Since when the bridge may take it as on: an OFF that it did not see ended no run.
    run_from: i64,
    off: Option<Off>,
    timer: Option<Timer>,
    /// Ends of all timers that may have been set, also those that something newer replaced.
    ends: Vec<i64>,
    timed_off_ends: Vec<i64>,
    online: bool,
    link_since: i64,
    disturbed: i64,
    /// When its worker began.
    worker_since: i64,
    /// Something other than a schedule may keep it off, or on.
    off_said: bool,
    on_said: bool,
    held: bool,
    auto_at: i64,
    commands: Vec<u64>,
}

impl Relay {
    fn new() -> Self {
        Self {
            on: false,
            flipped: LONG_AGO,
            by_bridge: false,
            seen: false,
            run_from: LONG_AGO,
            off: None,
            timer: None,
            ends: Vec::new(),
            timed_off_ends: Vec::new(),
            online: true,
            link_since: 0,
            disturbed: 0,
            worker_since: 0,
            off_said: false,
            on_said: false,
            held: false,
            auto_at: LONG_AGO,
            commands: Vec::new(),
        }
    }
}

struct Model<'a> {
    log: &'a Log,
    now: i64,
    relays: Vec<Relay>,
    settings: History<Setting>,
    windows: History<Vec<(i64, i64)>>,
    /// The wall clock minus the real time, in ms.
    offset: History<i64>,
    up: bool,
    /// When the bridge could do nothing for the last time: it was down, or the machine was suspended.
    back: i64,
    /// How long that was.
    gap: i64,
    edited: i64,
}

fn offset(entry: &Entry) -> i64 {
    entry.wall.as_millisecond() - entry.at
}

fn is_open(windows: &[(i64, i64)], wall: i64) -> bool {
    let of_day = wall.rem_euclid(DAY);
    windows
        .iter()
        .any(|(start, end)| (start * 60_000..end * 60_000).contains(&of_day))
}

impl<'a> Model<'a> {
    fn new(log: &'a Log) -> Self {
        let first = &log.entries[0];
        let Note::Settings(setting) = first.note else {
            panic!("settings come first");
        };
        Self {
            log,
            now: 0,
            relays: RELAYS.iter().map(|_| Relay::new()).collect(),
            settings: History(vec![(0, setting)]),
            windows: History(vec![(0, Vec::new())]),
            offset: History(vec![(0, offset(first))]),
            up: true,
            back: 0,
            gap: 0,
            edited: 0,
        }
    }

    /// Since when the bridge can switch a relay, if it can.
    fn able(&self, relay: usize) -> Option<i64> {
        let able = self.up && self.relays[relay].online && self.settings.now().is_configured(relay);
        let since = self.relays[relay]
            .link_since
            .max(self.back)
            .max(self.settings.since());
        able.then_some(since)
    }

    /// Whether the bridge was not always able to switch it of late.
    fn was_unable(&self, relay: usize) -> bool {
        self.able(relay).is_none_or(|since| since >= self.now - WAITS)
    }

    /// Whether it is in this group, or was of late.
    fn is_member(&self, relay: usize, from: i64, group: impl Fn(&Setting, usize) -> bool) -> bool {
        self.settings.from(from).any(|setting| group(setting, relay))
    }

    fn is_scheduled(&self, relay: usize, from: i64) -> bool {
        let member = self.is_member(relay, from, |setting, relay| setting.group_of(relay) == Some(0));
        member && self.windows.from(from).any(|windows| !windows.is_empty())
    }

    /// What happened since may explain a command that is carried out now; it may have waited for its device, also while
    /// the machine was suspended.
    fn recently(&self) -> i64 {
        let recent = self.now - WAITS;
        if self.back >= recent {
            recent - self.gap
        } else {
            recent
        }
    }

    /// Whether some window was open, by some clock and some schedules of this time, and whether it always was.
    fn open(&self, from: i64, to: i64) -> (bool, bool) {
        let (mut some, mut always) = (false, true);
        for offset in self.offset.from(from) {
            for windows in self.windows.from(from) {
                for at in [from, to] {
                    let open = is_open(windows, at + offset);
                    some |= open;
                    always &= open;
                }
            }
        }
        (some, always)
    }

    /// Whether a command may still be under way that is like this.
    fn pending(&self, relay: usize, like: impl Fn(&Sent) -> bool) -> bool {
        self.relays[relay].commands.iter().any(|id| {
            let sent = &self.log.sent[id];
            let end = self.log.answer(*id).map_or(i64::MAX, |(at, _)| at + 500);
            like(sent) && end >= self.now
        })
    }

    fn rivals(relay: usize, setting: &Setting) -> Vec<usize> {
        let Some(group) = setting
            .group_of(relay)
            .filter(|group| setting.is_interlocked(*group))
        else {
            return Vec::new();
        };
        let rival = |other: &usize| *other != relay && setting.group_of(*other) == Some(group);
        (0..RELAYS.len()).filter(rival).collect()
    }

    // ---- what is late

    /// Time passes, and nothing else happens until then.
    fn pass(&mut self, until: i64) -> Option<String> {
        let late = (0..RELAYS.len()).find_map(|relay| {
            let late = self.limit_is_late(relay, until);
            let late = late.or_else(|| self.timer_is_late(relay, until));
            late.or_else(|| self.window_is_late(relay, until))
        });
        for relay in 0..RELAYS.len() {
            let able = self.able(relay);
            let state = &mut self.relays[relay];
            state.seen |= able.is_some_and(|able| able.max(state.flipped) + NOTICED <= until);
        }
        self.now = until;
        late
    }

    /// The run of a relay whose device counts wrongly begins when it was seen.
    fn limit_is_late(&self, relay: usize, until: i64) -> Option<String> {
        let state = &self.relays[relay];
        let able = self.able(relay)?;
        let setting = self.settings.now();
        setting.group_of(relay)?;
        let max_on = setting.max_on? * 1000;
        let start = if self.log.stuck == Some(relay) {
            state.flipped.max(able) + NOTICED
        } else {
            state.flipped
        };
        let latest = (start + max_on).max(able + NOTICED) + SLACK;
        (state.on && latest < until).then(|| {
            format!(
                "relay {relay} is on since {} with a limit of {max_on}",
                state.flipped
            )
        })
    }

    fn timer_is_late(&self, relay: usize, until: i64) -> Option<String> {
        let state = &self.relays[relay];
        let timer = state.timer.filter(|_| state.on)?;
        let latest = timer.end.max(self.able(relay)? + NOTICED) + SLACK;
        // From its end on a schedule may want it.
        let wanted =
            self.is_scheduled(relay, timer.end - WAITS) && self.open(timer.end.min(self.now), latest).0;
        (latest < until && !wanted).then(|| format!("relay {relay} is on after its timer of {}", timer.end))
    }

    /// Weaker than the plan: only an edge in quiet times, after no command with an end of its own.
    fn window_is_late(&self, relay: usize, until: i64) -> Option<String> {
        let state = &self.relays[relay];
        let setting = self.settings.now();
        if setting.group_of(relay) != Some(0) || state.held {
            return None;
        }
        let slack = if setting.stagger { 12_000 } else { 3_500 };
        let windows = self.windows.now();
        windows
            .iter()
            .flat_map(|(start, end)| [*start, *end])
            .find_map(|minute| {
                // The first such edge whose slack is over after now.
                let wall = self.now - slack + self.offset.now();
                let edge = self.now - slack + (minute * 60_000 - wall).rem_euclid(DAY);
                let quiet = state
                    .disturbed
                    .max(self.able(relay)?)
                    .max(self.edited)
                    .max(self.windows.since())
                    .max(self.offset.since())
                    .max(*state.ends.iter().max().unwrap_or(&0))
                    .max(*state.timed_off_ends.iter().max().unwrap_or(&0));
                let wanted = is_open(windows, edge + self.offset.now());
                let before = is_open(windows, edge - 1 + self.offset.now());
                if edge + slack >= until || quiet > edge - WAITS || wanted == before || state.flipped >= edge
                {
                    return None;
                }
                let longest = |setting: &Setting| setting.cooldown.max(setting.min_off).unwrap_or(0);
                let blocked = self.settings.0.iter().map(|(_, setting)| longest(setting)).max();
                let blocked = blocked.unwrap_or(0) * 1000 + WAITS;
                // What was not limited before counts as off since other settings or a start.
                let off_since = state
                    .off
                    .map_or(0, |off| off.at)
                    .max(self.settings.since())
                    .max(self.back);
                if wanted && edge - off_since < blocked {
                    return None;
                }
                (state.on != wanted).then(|| format!("relay {relay} missed the edge of {edge} to {wanted}"))
            })
    }

    // ---- what happens

    fn apply(&mut self, entry: &Entry) -> Option<String> {
        let now = entry.at;
        match &entry.note {
            Note::Settings(setting) => {
                let before = *self.settings.now();
                self.settings.set(now, *setting);
                for (index, relay) in self.relays.iter_mut().enumerate() {
                    if before.path(index).map(|path| path.device)
                        != setting.path(index).map(|path| path.device)
                    {
                        relay.worker_since = now;
                    }
                }
                for relay in &mut self.relays {
                    relay.disturbed = now;
                }
                for (index, relay) in self.relays.iter_mut().enumerate() {
                    // The promise of a timer ends with the settings of its device.
                    if !setting.is_configured(index) {
                        relay.timer = None;
                    }
                }
            }
            Note::Windows(windows) => self.windows.set(now, windows.clone()),
            Note::Edited => self.edited = now,
            Note::Command(id) => self.command(*id),
            Note::AppCountdown(relay) => self.relays[*relay].disturbed = now,
            Note::Flip(relay, power, by) => return self.flip(*relay, *power, *by),
            Note::Link(hardware, online) => {
                let reconciles = self.settings.now().reconnect == OnReconnect::Reconcile;
                for (index, relay) in self.relays.iter_mut().enumerate() {
                    if RELAYS[index].0 == *hardware && relay.online != *online {
                        relay.online = *online;
                        relay.link_since = now;
                        relay.disturbed = now;
                        relay.off_said |= !reconciles;
                    }
                }
            }
            Note::Bridge(up) => {
                self.up = *up;
                if *up {
                    self.gap = now - self.back;
                }
                self.back = now;
                for relay in &mut self.relays {
                    relay.worker_since = now;
                }
            }
            Note::ClockSet => self.offset.set(now, offset(entry)),
            Note::Suspended => {
                self.up = false;
                self.back = now;
            }
            Note::Resumed => {
                self.up = true;
                self.gap = now - self.back;
                self.back = now;
            }
            Note::End => {}
        }
        None
    }

    fn command(&mut self, id: u64) {
        let sent = &self.log.sent[&id];
        let single = sent.members.len() == 1;
        let answer = self.log.answer(id);
        for relay in sent.members.iter().copied() {
            self.relays[relay].commands.push(id);
            self.relays[relay].disturbed = self.now;
            match answer {
                Some((at, Ok(()))) => self.accepted(relay, sent, at),
                Some((_, Err(code))) if single && changes_nothing(code) => {}
                _ => self.unsure(relay, sent),
            }
        }
    }

    fn accepted(&mut self, relay: usize, sent: &Sent, answered: i64) {
        let known_on = self.able(relay).is_some_and(|able| {
            let state = &self.relays[relay];
            state.on && able + NOTICED <= self.now && (state.by_bridge || state.flipped + NOTICED <= self.now)
        });
        self.unsure(relay, sent);
        let state = &mut self.relays[relay];
        // What a person did just before is seen after the command, and counts.
        let unseen = !state.seen && !state.by_bridge;
        state.held = matches!(sent.kind, Kind::Hold(_));
        let timer = |seconds: i64, timed| Timer {
            end: sent.at + seconds * 1000,
            from: answered + 200,
            timed,
        };
        match sent.kind {
            Kind::To(Power::On) | Kind::Hold(Power::On) => state.off_said &= unseen,
            Kind::To(Power::Off) | Kind::Hold(Power::Off) => state.on_said &= unseen,
            Kind::OnFor(length) => {
                state.timer = Some(timer(length, true));
                state.off_said &= unseen;
            }
            // What the bridge does not know to be on starts none.
            Kind::CountDown(length) if known_on => state.timer = Some(timer(length, false)),
            Kind::Auto => {
                state.off_said &= unseen;
                state.on_said &= unseen;
                state.auto_at = self.now;
            }
            Kind::Toggle | Kind::OffFor(_) | Kind::CountDown(_) | Kind::CancelCountdown => {}
        }
    }

    /// It may have done something: what was promised before is not checked any more.
    fn unsure(&mut self, relay: usize, sent: &Sent) {
        let state = &mut self.relays[relay];
        state.timer = None;
        state.held |= matches!(sent.kind, Kind::Hold(_));
        state.on_said |= sent.kind.may_switch_on();
        state.off_said |= sent.kind.may_switch_off();
        match sent.kind {
            Kind::OnFor(length) | Kind::CountDown(length) => {
                state.ends.push(sent.at + length * 1000);
                state.off_said |= matches!(sent.kind, Kind::CountDown(_));
            }
            Kind::OffFor(length) => {
                state.timed_off_ends.push(sent.at + length * 1000);
                state.on_said = true;
            }
            Kind::Auto => state.auto_at = self.now,
            Kind::To(_) | Kind::Toggle | Kind::CancelCountdown | Kind::Hold(_) => {}
        }
    }

    fn flip(&mut self, relay: usize, power: Power, by: SwitchedBy) -> Option<String> {
        let bridge = matches!(by, SwitchedBy::Bridge | SwitchedBy::OurCountdown);
        let broken = match (bridge, power) {
            (true, Power::On) => self.switched_on(relay),
            (true, Power::Off) => self.switched_off(relay, by),
            (false, _) => None,
        };
        let tripped = power == Power::Off && by == SwitchedBy::Bridge && self.only_a_limit(relay);
        let now = self.now;
        let state = &mut self.relays[relay];
        match power {
            Power::On => {
                if state.seen || state.run_from == LONG_AGO {
                    state.run_from = now;
                }
                state.on_said |= !bridge;
            }
            Power::Off => {
                state.off = Some(Off {
                    at: now,
                    known: state.seen,
                    tripped,
                });
                state.timer = None;
                state.off_said |= by != SwitchedBy::Bridge;
            }
        }
        if !bridge {
            state.disturbed = now;
        }
        state.on = power.is_on();
        state.flipped = now;
        state.by_bridge = by == SwitchedBy::Bridge;
        state.seen = by == SwitchedBy::Bridge;
        broken
    }

    // ---- switched by the bridge

    fn switched_on(&self, relay: usize) -> Option<String> {
        if !self.may_switch_on(relay) {
            return Some(format!(
                "relay {relay} was switched on, and nothing asked for that"
            ));
        }
        self.kept_off(relay).or_else(|| self.beside_a_rival(relay))
    }

    fn may_switch_on(&self, relay: usize) -> bool {
        let (now, state) = (self.now, &self.relays[relay]);
        let scheduled = self.is_scheduled(relay, self.recently());
        // A command may have waited for its device.
        let sent = if self.was_unable(relay) {
            self.recently()
        } else {
            now - 3_000
        };
        self.pending(relay, |sent| sent.kind.may_switch_on())
            || (scheduled && self.open(sent, now).0)
            // An override, or what a person did by the button.
            || (scheduled && state.on_said)
            || state.timed_off_ends.iter().any(|end| *end <= now + 1_000)
    }

    /// An OFF that the bridge knows, of a run that it knew, keeps a relay off for the least that was in force since.
    fn kept_off(&self, relay: usize) -> Option<String> {
        let (now, state) = (self.now, &self.relays[relay]);
        let off = state.off.filter(|off| off.known)?;
        // The first reading goes before an ON that waited for its device.
        let waited =
            |sent: &Sent| sent.kind.may_switch_on() && sent.at < state.link_since && sent.at > off.at;
        if !state.seen && !self.pending(relay, waited) {
            return None;
        }
        let least = |length: fn(&Setting) -> Option<i64>| {
            let of = |setting: &Setting| setting.group_of(relay).and(length(setting)).unwrap_or(0);
            self.settings.from(off.at - 1_000).map(of).min().unwrap_or(0) * 1000
        };
        let min_off = least(|setting| setting.min_off);
        let cooldown = if off.tripped {
            least(|setting| setting.cooldown)
        } else {
            0
        };
        let length = min_off.max(cooldown);
        (now < off.at + length - 1_100).then(|| {
            format!(
                "relay {relay} was switched on {} after its OFF, min_off {min_off}, cooldown {cooldown}",
                now - off.at
            )
        })
    }

    fn beside_a_rival(&self, relay: usize) -> Option<String> {
        let long = self.now - NOTICED;
        if self.settings.since() > long {
            return None;
        }
        let known_on = |rival: &usize| {
            let state = &self.relays[*rival];
            let read = state.flipped <= long && self.able(*rival).is_some_and(|able| able <= long);
            state.on && (state.by_bridge || read)
        };
        let rival = Self::rivals(relay, self.settings.now())
            .into_iter()
            .find(known_on)?;
        Some(format!("relay {relay} was switched on beside {rival}"))
    }

    fn switched_off(&self, relay: usize, by: SwitchedBy) -> Option<String> {
        let (now, state) = (self.now, &self.relays[relay]);
        let setting = self.settings.now();
        let unable = self.was_unable(relay);
        // A countdown that was armed before goes on as it was, also where a new worker takes it over.
        let armed_before = by == SwitchedBy::OurCountdown && (unable || state.worker_since >= state.flipped);
        let forced = armed_before
            || self.pending(relay, |sent| sent.kind.may_switch_off())
            || self.limited(relay)
            || self.interlocked(relay)
            || (unable && setting.reconnect == OnReconnect::Off);
        if forced {
            return None;
        }
        let timed = state
            .timer
            .filter(|timer| timer.timed && timer.from < now && now < timer.end - EARLY);
        if let Some(timer) = timed {
            return Some(format!(
                "relay {relay} is off before the end of its timer, {}",
                timer.end
            ));
        }
        let ended = |end: &i64| *end <= now + EARLY && (unable || *end >= self.recently());
        let auto = now - state.auto_at <= WAITS || (unable && state.auto_at > LONG_AGO);
        if state.ends.iter().any(ended) || auto {
            return None;
        }
        let always = self.open(self.recently(), now).1 && self.edited < self.recently();
        if self.is_scheduled(relay, self.recently()) && (!always || state.off_said) {
            return None;
        }
        Some(format!(
            "relay {relay} was switched off by {by:?}, and nothing asked for that"
        ))
    }

    /// Whether a limit was reached, or keeps off what was switched on by hand.
    fn limited(&self, relay: usize) -> bool {
        let (now, state) = (self.now, &self.relays[relay]);
        self.is_member(relay, self.recently(), |setting, relay| {
            if setting.group_of(relay).is_none() {
                return false;
            }
            let reached = setting
                .max_on
                .is_some_and(|max_on| now - state.run_from >= max_on * 1000 - EARLY);
            let longest = self
                .settings
                .0
                .iter()
                .filter_map(|(_, setting)| setting.cooldown.max(setting.min_off));
            let blocked = longest.max().unwrap_or(0) * 1000 + WAITS;
            reached
                || state
                    .off
                    .is_some_and(|off| now - off.at < blocked && !state.by_bridge)
        })
    }

    /// Whether a rival is on, or was about to be.
    fn interlocked(&self, relay: usize) -> bool {
        let recent = |rival: usize| {
            let state = &self.relays[rival];
            state.on
                || state.flipped >= self.recently()
                || self.pending(rival, |sent| sent.kind.may_switch_on())
        };
        self.settings
            .from(self.recently())
            .any(|setting| Self::rivals(relay, setting).into_iter().any(recent))
    }

    /// Whether an OFF of the bridge can have no cause but `max_on`.
    fn only_a_limit(&self, relay: usize) -> bool {
        let (now, state) = (self.now, &self.relays[relay]);
        let setting = self.settings.now();
        let quiet = self
            .able(relay)
            .is_some_and(|able| able + NOTICED <= state.flipped.max(now - 30_000));
        let Some(max_on) = setting.max_on.filter(|_| setting.group_of(relay).is_some()) else {
            return false;
        };
        let timer = state
            .ends
            .iter()
            .any(|end| (now - WAITS..now + EARLY).contains(end));
        quiet
            && self.log.stuck != Some(relay)
            && now - state.flipped >= max_on * 1000
            && !timer
            && now - state.auto_at > WAITS
            && !self.pending(relay, |_| true)
            && !self.interlocked(relay)
            && (!self.is_scheduled(relay, now - WAITS) || self.open(now - WAITS, now).1)
    }
}

/// Refused before anything was done.
fn changes_nothing(code: ErrorCode) -> bool {
    use ErrorCode::{BadCommand, UnknownDevice, UnknownGroup, UnknownOutlet};
    matches!(code, BadCommand | UnknownDevice | UnknownGroup | UnknownOutlet)
}
