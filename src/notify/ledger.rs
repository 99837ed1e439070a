//! What was notified to an entry of the settings. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    cause::Cause,
    conditions::{CauseState, Conditions},
    notice::Notice,
};
use crate::{config::NotifyTarget, domain::notify_kind::NotifyKind};
use planner::{Now, Steady};

/// A cause that began, was over and begins again is not notified again before.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// What is over for less may be back at once, such as what the bridge does not know yet after a start.
const OVER_AFTER: SignedDuration = SignedDuration::from_secs(10);
/// The same of an outlet that is watched for a minute before it is a mismatch.
const MISMATCH_OVER_AFTER: SignedDuration = SignedDuration::from_secs(90);
/// Notifications that wait. What does not fit is counted.
const WAITING_MAX: usize = 200;

/// What each entry of the settings was sent, by its id.
pub type KeptNotifications = BTreeMap<String, NotifyLedger>;

/// What one of them was sent, and what waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotifyLedger {
    /// By cause; no more than what the settings name, and what ended within the last hour.
    sent: BTreeMap<String, SentCause>,
    waiting: VecDeque<Notice>,
    /// What waits for one address alone, which did not take it yet; the others have it.
    late: BTreeMap<String, VecDeque<Notice>>,
    /// Notifications that did not fit, or that no address takes, since the last message.
    left_out: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SentCause {
    #[serde(flatten)]
    cause: Cause,
    text: String,
    since: Timestamp,
    /// The same on the steady clock.
    began: Steady,
    /// When it was notified last.
    at: Steady,
    is_over: bool,
}

/// How long a cause must be so.
fn begins_after(kind: NotifyKind, target: &NotifyTarget) -> SignedDuration {
    match kind {
        NotifyKind::DeviceOffline | NotifyKind::SensorStale | NotifyKind::BrokerOffline => {
            SignedDuration::try_from(target.after).unwrap_or(SignedDuration::MAX)
        }
        NotifyKind::LimitReached
        | NotifyKind::FailsafeRefused
        | NotifyKind::StateMismatch
        | NotifyKind::SettingsRefused
        | NotifyKind::StateFileError => SignedDuration::ZERO,
    }
}

fn over_after(kind: NotifyKind) -> SignedDuration {
    match kind {
        NotifyKind::StateMismatch => MISMATCH_OVER_AFTER,
        _ => OVER_AFTER,
    }
}

/// When a condition that is over counts as over.
pub(super) fn counts_as_over(cause: &Cause, condition: &CauseState) -> Option<Steady> {
    Some(condition.ended?.steady.after(over_after(cause.kind)))
}

impl SentCause {
    fn since(&self) -> Now {
        Now {
            wall: self.since,
            steady: self.began,
        }
    }
}

impl NotifyLedger {
    /// What is notified and not over.
    pub(super) fn open(&self) -> impl Iterator<Item = (&Cause, &str, Now)> {
        let open = self.sent.values().filter(|sent| !sent.is_over);
        open.map(|sent| (&sent.cause, sent.text.as_str(), sent.since()))
    }

    pub(super) fn is_open(&self, cause: &Cause) -> bool {
        self.sent.get(&cause.key()).is_some_and(|sent| !sent.is_over)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() + self.late.values().map(VecDeque::len).sum::<usize>()
    }

    pub(super) fn waits_for_all(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// The notifications that wait, and how many more there were.
    pub(super) fn next(&self) -> Option<(Vec<Notice>, u64)> {
        self.waits_for_all()
            .then(|| (self.waiting.iter().cloned().collect(), self.left_out))
    }

    /// The next address that is late, after the one that was tried last, and the notifications that wait for it.
    pub(super) fn next_late(&self, last: &str) -> Option<(String, Vec<Notice>)> {
        let after = (Bound::Excluded(last), Bound::Unbounded);
        let next = self.late.range::<str, _>(after).next();
        let (address, notices) = next.or_else(|| self.late.first_key_value())?;
        Some((address.clone(), notices.iter().cloned().collect()))
    }

    /// The first of those that wait were sent, with the number of those that were left out, but not to these addresses.
    /// Returns how many of theirs did not fit.
    pub(super) fn on_sent(&mut self, count: usize, left_out: u64, late: Vec<String>) -> u64 {
        self.left_out = self.left_out.saturating_sub(left_out);
        let sent: Vec<Notice> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        let mut dropped = 0;
        for address in late {
            let waiting = self.late.entry(address).or_default();
            let fits = (WAITING_MAX - waiting.len()).min(sent.len());
            waiting.extend(sent.iter().take(fits).cloned());
            dropped += sent.len() - fits;
        }
        self.leave_out(dropped)
    }

    /// The first of those that wait are refused, and would be each time. Returns how many.
    pub(super) fn on_refused(&mut self, count: usize) -> u64 {
        let refused = self.waiting.drain(..count.min(self.waiting.len())).count();
        self.leave_out(refused)
    }

    /// An address that was late took what waited for it, or never will.
    pub(super) fn end_late(&mut self, address: &str) -> u64 {
        let ended = self.late.remove(address).map_or(0, |waiting| waiting.len());
        u64::try_from(ended).unwrap_or(u64::MAX)
    }

    /// Forgets the addresses that nothing is sent to any more.
    pub(super) fn retain_late(&mut self, is_known: impl Fn(&str) -> bool) {
        self.late.retain(|address, _| is_known(address));
    }

    /// Leaves out what waits for too long; returns how much that is.
    pub(super) fn drop_older(&mut self, than: Steady) -> u64 {
        let before = self.waiting();
        for waiting in self.late.values_mut().chain([&mut self.waiting]) {
            waiting.retain(|notice| notice.queued >= than);
        }
        self.late.retain(|_, waiting| !waiting.is_empty());
        self.leave_out(before - self.waiting())
    }

    fn leave_out(&mut self, count: usize) -> u64 {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.left_out += count;
        count
    }

    /// Notifies what began and what is over. Returns how many notifications did not fit, and when to look again.
    pub(super) fn look(
        &mut self,
        target: &NotifyTarget,
        conditions: &Conditions,
        now: Now,
        zone: &TimeZone,
    ) -> (u64, Option<Steady>) {
        let mut notices = Vec::new();
        let mut next: Option<Steady> = None;
        let mut look_at = |at: Steady| next = Some(next.map_or(at, |next| next.min(at)));
        for sent in self.sent.values_mut().filter(|sent| !sent.is_over) {
            let condition = conditions.get(&sent.cause);
            let over_at = condition.and_then(|condition| counts_as_over(&sent.cause, condition));
            match over_at {
                // Also without any: it was forgotten because it is over.
                Some(at) if at > now.steady => look_at(at),
                None if condition.is_some() => {}
                _ => {
                    sent.is_over = true;
                    let ended = condition.and_then(|condition| condition.ended).unwrap_or(now);
                    notices.push(Notice::over(&sent.cause, sent.since(), ended, now, zone));
                }
            }
        }
        let of_target = conditions
            .iter()
            .filter(|(cause, _)| target.events.contains(&cause.kind));
        for (cause, condition) in of_target {
            let begins_after = begins_after(cause.kind, target);
            let is_over = match counts_as_over(cause, condition) {
                // What began and ended within one look is notified too, unless it has to last.
                Some(at) => at <= now.steady || begins_after > SignedDuration::ZERO,
                None => false,
            };
            let known = self.sent.get(&cause.key());
            if is_over || known.is_some_and(|sent| !sent.is_over) {
                continue;
            }
            let due = condition.since.steady.after(begins_after);
            if condition.ended.is_some_and(|ended| ended.steady < due) {
                // It did not last. It begins again if it comes back before it counts as over.
                continue;
            }
            let due = known.map_or(due, |sent| due.max(sent.at.after(AGAIN_AFTER)));
            if due > now.steady {
                look_at(due);
                continue;
            }
            notices.push(Notice::began(cause, &condition.text, condition.since, now, zone));
            let sent = SentCause {
                cause: cause.clone(),
                text: condition.text.clone(),
                since: condition.since.wall,
                began: condition.since.steady,
                at: now.steady,
                is_over: false,
            };
            self.sent.insert(cause.key(), sent);
            // What this one ends at is looked for from now on.
            if let Some(at) = counts_as_over(cause, condition) {
                look_at(at);
            }
        }
        self.sent
            .retain(|_, sent| !sent.is_over || sent.at.after(AGAIN_AFTER) > now.steady);
        (self.add(notices), next)
    }

    fn add(&mut self, notices: Vec<Notice>) -> u64 {
        let count = notices.len();
        let fits = WAITING_MAX.saturating_sub(self.waiting.len()).min(count);
        self.waiting.extend(notices.into_iter().take(fits));
        self.leave_out(count - fits)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        config::{Sources, load_or},
        domain::feed,
        system::clock::Clock,
    };

    /// What is published, and a ledger of it.
    struct Bench {
        target: NotifyTarget,
        ledger: NotifyLedger,
        conditions: Conditions,
        clock: Clock,
    }

    impl Bench {
        fn new() -> Self {
            let text = "[[notify]]\nurl = 'http://localhost/'\nafter = '10m'";
            Self {
                target: load_or(&Sources::default(), text).unwrap().notify.remove(0),
                ledger: NotifyLedger::default(),
                conditions: Conditions::default(),
                clock: Clock::steered("2026-11-30T10:00:00Z".parse().unwrap()),
            }
        }

        fn publish(&mut self, topic: &str, payload: &Value) {
            let (writer, feed) = feed::feed();
            let payload = Bytes::from(payload.to_string());
            match topic {
                feed::EVENT_TOPIC => writer.event(payload),
                _ => writer.publish(topic, &payload),
            }
            let changes = feed.changes(None, usize::MAX);
            self.conditions.apply(&changes.messages[0], self.clock.read());
        }

        fn available(&mut self, state: &str) {
            self.publish("heater/availability", &json!({ "state": state }));
        }

        fn outlet(&mut self, source: &str, rule: Option<&str>) {
            self.publish(
                "heater",
                &json!({ "state": "OFF", "source": source, "rule": rule }),
            );
        }

        fn trip(&mut self) {
            let message = "heater reached max_on: it is switched off";
            let event = json!({ "type": "safety_trip", "device": "heater", "message": message });
            self.publish(feed::EVENT_TOPIC, &event);
        }

        async fn pass(&mut self, seconds: u64) {
            tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
        }

        /// The titles of what is notified now.
        fn look(&mut self) -> Vec<String> {
            let now = self.clock.read();
            self.ledger
                .look(&self.target, &self.conditions, now, &TimeZone::UTC);
            let notices: Vec<Notice> = self.ledger.waiting.drain(..).collect();
            notices.into_iter().map(|notice| notice.title).collect()
        }

        /// Goes on in another process.
        fn restart(&mut self) {
            let kept = serde_json::to_string(&self.ledger).unwrap();
            self.ledger = serde_json::from_str(&kept).unwrap();
            self.conditions = Conditions::default();
            for (cause, text, since) in self.ledger.open() {
                self.conditions.restore(cause.clone(), text, since);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_notified_at_once_and_again_after_an_hour() {
        let mut bench = Bench::new();
        bench.outlet("schedule", None);
        bench.trip();
        bench.outlet("safety", Some("cooldown"));
        assert_eq!(bench.look(), ["heater reached a limit"]);
        bench.pass(60).await;
        assert_eq!(bench.look(), [""; 0]);
        bench.outlet("schedule", None);
        assert_eq!(bench.look(), [""; 0], "it may come back at once");
        bench.pass(10).await;
        assert_eq!(bench.look(), ["no limit keeps heater off any more"]);
        // Once within an hour.
        bench.trip();
        bench.pass(1800).await;
        assert_eq!(bench.look(), [""; 0]);
        bench.pass(1800).await;
        assert_eq!(bench.look(), ["heater reached a limit"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_over_within_one_look_is_notified() {
        let mut bench = Bench::new();
        bench.trip();
        bench.outlet("manual", None);
        assert_eq!(bench.look(), ["heater reached a limit"]);
        bench.pass(10).await;
        assert_eq!(bench.look(), ["no limit keeps heater off any more"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_between_two_runs_is_no_limit_that_was_reached() {
        let mut bench = Bench::new();
        bench.outlet("safety", Some("min_off"));
        assert_eq!(bench.look(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_is_notified_after_it_was_offline_for_long() {
        let mut bench = Bench::new();
        bench.available("offline");
        bench.pass(599).await;
        assert_eq!(bench.look(), [""; 0]);
        bench.available("online");
        bench.pass(5).await;
        bench.available("offline");
        bench.pass(599).await;
        assert_eq!(bench.look(), [""; 0], "it begins again");
        bench.pass(1).await;
        assert_eq!(bench.look(), ["heater is offline"]);
        bench.available("online");
        bench.pass(10).await;
        assert_eq!(bench.look(), ["heater is online again"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_before_its_time_is_not_notified() {
        let mut bench = Bench::new();
        let connected = |connected: bool| json!({ "mqtt": { "connected": connected } });
        bench.target.after = std::time::Duration::from_secs(1);
        bench.publish("bridge/health", &connected(false));
        bench.publish("bridge/health", &connected(true));
        for _ in 0..20 {
            bench.pass(1).await;
            assert_eq!(bench.look(), [""; 0], "a start takes a moment");
        }
        bench.publish("bridge/health", &connected(false));
        bench.pass(1).await;
        assert_eq!(bench.look(), ["the MQTT broker is not connected"]);
        bench.publish("bridge/health", &connected(true));
        bench.pass(10).await;
        assert_eq!(bench.look().len(), 1, "over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_repeats_nothing_and_loses_no_end() {
        let mut bench = Bench::new();
        bench.available("offline");
        bench.pass(600).await;
        assert_eq!(bench.look(), ["heater is offline"]);
        bench.restart();
        bench.available("offline");
        bench.pass(3600).await;
        assert_eq!(bench.look(), [""; 0]);
        bench.restart();
        assert_eq!(bench.look(), [""; 0], "it is not known yet");
        bench.available("online");
        bench.pass(10).await;
        assert_eq!(bench.look(), ["heater is online again"]);
        bench.restart();
        assert_eq!(bench.look(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_removed_from_the_settings_is_over() {
        let mut bench = Bench::new();
        bench.available("offline");
        bench.pass(600).await;
        assert_eq!(bench.look(), ["heater is offline"]);
        bench.restart();
        bench.conditions.end_unconfirmed(bench.clock.read());
        bench.pass(10).await;
        assert_eq!(bench.look(), ["heater is online again"]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_condition_is_read_from_its_topic() {
        let mut bench = Bench::new();
        for is_wrong in [true, false] {
            let failsafe = if is_wrong { "failed" } else { "armed" };
            let state = json!({
                "state": "ON", "expected": "OFF", "mismatch": is_wrong, "failsafe": failsafe, "source": "manual",
            });
            bench.publish("strip/1", &state);
            bench.publish("bridge/sensors", &json!([{ "id": "hall", "stale": is_wrong }]));
            let error = is_wrong.then_some("device: duplicate id");
            bench.publish("bridge/info", &json!({ "settings_error": error }));
            bench.publish("bridge/health", &json!({ "mqtt": { "connected": !is_wrong } }));
            bench.pass(600).await;
            let titles = bench.look();
            let expected = if is_wrong {
                [
                    "strip/1 has no fail-safe",
                    "strip/1 is not in the expected state",
                    "sensor hall is stale",
                    "new settings are refused",
                    "the MQTT broker is not connected",
                ]
            } else {
                [
                    "the MQTT broker is connected again",
                    "the fail-safe of strip/1 works again",
                    "sensor hall has a value again",
                    "the settings are accepted again",
                    "strip/1 is in the expected state again",
                ]
            };
            assert_eq!(titles, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_counted() {
        let mut bench = Bench::new();
        for device in 0..WAITING_MAX + 3 {
            bench.publish(
                &format!("plug{device}/availability"),
                &json!({ "state": "offline" }),
            );
        }
        bench.pass(600).await;
        let now = bench.clock.read();
        let (left_out, _) = bench
            .ledger
            .look(&bench.target, &bench.conditions, now, &TimeZone::UTC);
        let (notices, more) = bench.ledger.next().unwrap();
        assert_eq!((left_out, notices.len(), more), (3, WAITING_MAX, 3));
        let message = super::super::notice::NotifyMessage::of("attic", &notices, more);
        assert_eq!(message.title, "attic: 200 notifications");
        assert!(
            message
                .text
                .ends_with("- and 180 more\n3 earlier notifications could not be sent and are left out.")
        );
        bench.ledger.on_sent(WAITING_MAX, 3, Vec::new());
        assert_eq!(bench.ledger.next(), None);
    }
}
