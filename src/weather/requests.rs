//! When the provider may be asked: as seldom as it wants it, never more often than [`PER_DAY`] times a day. Pure.

use std::collections::VecDeque;

use jiff::SignedDuration;
use planner::Steady;
use serde::{Deserialize, Serialize};

/// Requests in 24 hours at most, also those that fail.
pub(super) const PER_DAY: usize = 60;
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Between two forecasts where the provider does not say when there is another one, and the longest time.
const USUAL: SignedDuration = SignedDuration::from_hours(1);
const LONGEST: SignedDuration = SignedDuration::from_hours(3);
/// Between two forecasts at least.
const SHORTEST: SignedDuration = SignedDuration::from_mins(30);
/// Added to that, at random, so that not all bridges ask in the same minute.
const JITTER: SignedDuration = SignedDuration::from_mins(10);
/// After the first failure; then twice as long each time.
const FIRST_RETRY: SignedDuration = SignedDuration::from_mins(1);
/// After a server that does not want to be asked, and did not say until when.
const REFUSED_RETRY: SignedDuration = SignedDuration::from_mins(30);
/// Longer than any server may be believed to mean.
const LONGEST_RETRY: SignedDuration = DAY;

/// The requests of the last day, and when the next one is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Requests {
    made: VecDeque<Steady>,
    failures: u32,
    next: Option<Steady>,
}

impl Requests {
    /// When the next one may be made; at once before the first.
    pub(super) fn next(&self, now: Steady) -> Steady {
        // A time further away than any wait is of a clock that was wrong.
        self.next.filter(|next| next.since(now) <= DAY).unwrap_or(now)
    }

    /// Whether there is room for one more today.
    pub(super) fn has_room(&self, now: Steady) -> bool {
        self.room_from(now) <= now
    }

    /// One is made.
    pub(super) fn note(&mut self, now: Steady) {
        self.made.push_back(now);
        while self.made.len() > PER_DAY {
            self.made.pop_front();
        }
    }

    /// There is a forecast, the newest for this long. `random` is from 0 to 1.
    pub(super) fn succeeded(&mut self, fresh_for: Option<SignedDuration>, random: f64, now: Steady) {
        self.failures = 0;
        let wait = fresh_for.unwrap_or(USUAL).clamp(SHORTEST, LONGEST);
        self.wait(wait.saturating_add(JITTER.mul_f64(random)), now);
    }

    /// There is none. `retry_after` is how long the server does not want to be asked.
    pub(super) fn failed(
        &mut self,
        refused: bool,
        retry_after: Option<SignedDuration>,
        random: f64,
        now: Steady,
    ) {
        let first = if refused { REFUSED_RETRY } else { FIRST_RETRY };
        let doubled = first.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.min(USUAL.max(first));
        // Up to half as long again.
        let wait = wait.saturating_add(wait.mul_f64(random / 2.0));
        let wanted = retry_after.unwrap_or_default().min(LONGEST_RETRY);
        self.wait(wait.max(wanted), now);
    }

    fn wait(&mut self, wait: SignedDuration, now: Steady) {
        self.next = Some(now.after(wait).max(self.room_from(now)));
    }

    /// When the first of the last requests is a day ago, if there is no room for one more.
    fn room_from(&self, now: Steady) -> Steady {
        match self.made.front() {
            Some(first) if self.made.len() >= PER_DAY && *first <= now => first.after(DAY),
            _ => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use test_inputs::cases;

    use super::*;

    fn start() -> Steady {
        Steady::at(Timestamp::UNIX_EPOCH)
    }

    /// How often a server is asked in the first 24 hours, and at least how much later each time.
    fn day(answer: impl Fn(&mut Requests, Steady)) -> (usize, SignedDuration) {
        let (mut requests, mut now) = (Requests::default(), start());
        let (mut count, mut shortest) = (0, DAY);
        while now < start().after(DAY) {
            assert!(requests.has_room(now));
            requests.note(now);
            count += 1;
            answer(&mut requests, now);
            let next = requests.next(now);
            shortest = shortest.min(next.since(now));
            now = next;
        }
        (count, shortest)
    }

    #[test]
    fn a_day_has_few_requests() {
        let minutes = SignedDuration::from_mins;
        for (expires, expected) in [
            (None, 24),
            (Some(minutes(30)), 48),
            (Some(minutes(1)), 48),
            (Some(minutes(-5)), 48),
            (Some(minutes(90)), 16),
            (Some(minutes(9999)), 8),
        ] {
            let (count, _) = day(|requests, now| requests.succeeded(expires, 0.0, now));
            assert_eq!(count, expected, "{expires:?}");
        }
        let (count, _) = day(|requests, now| requests.failed(false, None, 0.0, now));
        assert!((20..40).contains(&count), "{count}");
        let (count, shortest) = day(|requests, now| requests.failed(true, None, 0.0, now));
        assert!(count <= 25 && shortest >= minutes(30), "{count} {shortest}");
        let six_hours = Some(SignedDuration::from_hours(6));
        let (count, _) = day(|requests, now| requests.failed(true, six_hours, 0.0, now));
        assert_eq!(count, 4);
        let years = Some(SignedDuration::from_hours(99_999));
        let (count, shortest) = day(|requests, now| requests.failed(true, years, 0.0, now));
        assert_eq!((count, shortest), (1, DAY));
    }

    #[test]
    fn bridges_do_not_ask_together() {
        let next = |random| {
            let mut requests = Requests::default();
            requests.succeeded(None, random, start());
            requests.next(start()).since(start())
        };
        assert_eq!(next(0.0), USUAL);
        assert_eq!(next(1.0), USUAL + JITTER);
    }

    #[test]
    fn a_success_ends_the_back_off() {
        let mut requests = Requests::default();
        for _ in 0..8 {
            requests.failed(false, None, 0.0, start());
        }
        assert_eq!(requests.next(start()).since(start()), USUAL);
        requests.succeeded(None, 0.0, start());
        requests.failed(false, None, 0.0, start());
        assert_eq!(requests.next(start()).since(start()), FIRST_RETRY);
    }

    proptest! {
        #![proptest_config(cases(32))]
        #[test]
        fn no_24_hours_have_more_requests_than_allowed(
            answers in prop::collection::vec((0..3_u8, any::<i16>(), 0.0..1.0_f64, 1..3_usize), 100)
        ) {
            let (mut requests, mut now) = (Requests::default(), start());
            let mut made: Vec<Steady> = Vec::new();
            for (kind, minutes, random, parts) in answers {
                for _ in 0..parts {
                    if requests.has_room(now) {
                        requests.note(now);
                        made.push(now);
                    }
                }
                let minutes = Some(SignedDuration::from_mins(minutes.into()));
                match kind {
                    0 => requests.succeeded(minutes, random, now),
                    1 => requests.failed(false, minutes, random, now),
                    _ => requests.failed(true, None, random, now),
                }
                let text = serde_json::to_string(&requests).unwrap();
                requests = serde_json::from_str(&text).unwrap();
                prop_assert!(requests.next(now) > now);
                now = requests.next(now);
            }
            for (index, at) in made.iter().enumerate() {
                let within = made[index..].iter().take_while(|later| later.since(*at) < DAY);
                prop_assert!(within.count() <= PER_DAY);
            }
        }
    }
}
